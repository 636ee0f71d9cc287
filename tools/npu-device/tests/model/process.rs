// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The program: its command line, its socket, and its death.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use vfio_user::Client;

use crate::card::{BUS, HOST, until};

/// vfio's numbers of regions and interrupts.
const BAR0: u32 = 0;
const BAR2: u32 = 2;
const CONFIG: u32 = 7;

fn program(socket: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_npu-device"))
        .arg("--socket")
        .arg(socket)
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn socket(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("npu-device-{name}-{}", std::process::id()))
}

/// Waits for a program that ends, and returns its status and what it wrote.
fn end(mut child: Child) -> (Option<i32>, String) {
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    (child.wait().unwrap().code(), text)
}

fn connect(socket: &Path) -> Client {
    // The path is there a moment before anyone listens.
    let mut client = None;
    until("the program listens", || {
        client = Client::new(socket).ok();
        client.is_some()
    });
    client.unwrap()
}

fn read32(client: &mut Client, region: u32, offset: u64) -> u32 {
    let mut data = [0; 4];
    client.region_read(region, offset, &mut data).unwrap();
    u32::from_le_bytes(data)
}

#[test]
fn bad_arguments_are_explained() {
    let socket = socket("bad");
    for (arguments, expected) in [
        (&["--memory", "3M"][..], "multiple of 2M"),
        (&["--memory", "lots"], "not a number"),
        (&["--memory", "99999999999G"], "too large"),
        (&["--aperture", "3M"], "power of two"),
        (&["--memory", "6M", "--aperture", "8M"], "from 2M to 4M"),
        (&["--queues", "17"], "1 to 16"),
        (&["--trace", "/"], "cannot write the trace"),
    ] {
        let (status, text) = end(program(&socket, arguments));
        assert_ne!(status, Some(0));
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(!socket.exists());
    }
}

#[test]
fn a_client_comes_and_goes() {
    for (name, arguments) in [("guarded", &[][..]), ("bare", &["--no-guard"])] {
        let socket = socket(name);
        let child = program(
            &socket,
            &[&["--memory", "6M", "--queues", "2"], arguments].concat(),
        );
        let mut client = connect(&socket);
        let sizes: Vec<u64> = (0..8).map(|i| client.region(i).unwrap().size).collect();
        assert_eq!(sizes, [0x20000, 0, 4 << 20, 0, 0x1000, 0, 0, 0x1000]);
        assert!(
            client.region(BAR2).unwrap().file_offset.is_some(),
            "the aperture can be mapped"
        );
        assert_eq!(client.get_irq_info(2).unwrap().count, 4);
        assert_eq!(client.get_irq_info(0).unwrap().count, 0);
        assert_eq!(read32(&mut client, CONFIG, 0), 0x4e50_1b36);
        assert_eq!(read32(&mut client, BAR0, 0), 0x3155_504e);
        // Through the window into the aperture's memory.
        client
            .region_write(BAR0, 0x10008, &7u64.to_le_bytes())
            .unwrap();
        assert_eq!(read32(&mut client, BAR2, 8), 7);
        // A mapping and its descriptor arrive.
        let host = std::fs::File::from(
            rustix::fs::memfd_create("host", rustix::fs::MemfdFlags::empty()).unwrap(),
        );
        host.set_len(HOST).unwrap();
        client.dma_map(0, BUS, HOST, host.as_raw_fd()).unwrap();
        client.dma_unmap(BUS, HOST).unwrap();
        client.reset().unwrap();
        drop(client);
        let (status, text) = end(child);
        assert_eq!((status, text.as_str()), (Some(0), ""));
        assert!(!socket.exists());
    }
}

#[test]
fn a_dead_card_reads_as_all_ones() {
    for (name, by_register) in [("killed", false), ("died", true)] {
        let socket = socket(name);
        let mut child = program(&socket, &["--memory", "2M", "--inject"]);
        let mut client = connect(&socket);
        assert_eq!(read32(&mut client, BAR0, 0), 0x3155_504e);
        if by_register {
            client
                .region_write(BAR0, 0x2018, &0xdeadu32.to_le_bytes())
                .unwrap();
        } else {
            child.kill().unwrap();
        }
        until("the process has ended", || {
            child.try_wait().unwrap().is_some()
        });
        assert_eq!(read32(&mut client, BAR0, 0), u32::MAX);
        let mut wide = [0; 8];
        client.region_read(BAR0, 8, &mut wide).unwrap();
        assert_eq!(wide, [0xff; 8]);
        assert_eq!(read32(&mut client, CONFIG, 0), u32::MAX);
        client
            .region_write(BAR0, 0x1c, &1u32.to_le_bytes())
            .unwrap();
        client.dma_unmap(BUS, HOST).unwrap();
        client.reset().unwrap();
        assert!(!socket.exists());
        drop(client);
        let (_, text) = end(child);
        assert!(text.contains("all ones"), "{text}");
    }
}

#[test]
fn a_path_that_is_taken() {
    // By a file.
    let path = socket("file");
    std::fs::write(&path, "").unwrap();
    let (status, text) = end(program(&path, &[]));
    assert_eq!(status, Some(1));
    assert!(text.contains("is not a socket"), "{text}");
    std::fs::remove_file(&path).unwrap();
    // By a process.
    let path = socket("taken");
    let mut first = program(&path, &["--no-guard", "--memory", "2M"]);
    until("the socket is there", || path.exists());
    let (status, text) = end(program(&path, &[]));
    assert_eq!(status, Some(1));
    assert!(text.contains("in use by another process"), "{text}");
    // The same, spelt otherwise.
    let (name, directory) = (path.file_name().unwrap(), path.parent().unwrap());
    let relative = Command::new(env!("CARGO_BIN_EXE_npu-device"))
        .current_dir(directory)
        .args([OsStr::new("--socket"), name])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (status, text) = end(relative);
    assert_eq!(status, Some(1));
    assert!(text.contains("in use by another process"), "{text}");
    // By one that has died.
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(path.exists());
    let second = program(&path, &["--memory", "2M"]);
    until("it takes its place", || Client::new(&path).is_ok());
    let (status, text) = end(second);
    assert_eq!(status, Some(0));
    assert!(text.contains("left by a process that has ended"), "{text}");
}

#[test]
fn a_guard_without_device_ends() {
    let path = socket("early");
    let mut child = program(&path, &["--memory", "2M"]);
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    until("the guard is there", || {
        !std::fs::read_to_string(&children).unwrap().is_empty()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    until("the guard has taken the socket away", || !path.exists());
}
