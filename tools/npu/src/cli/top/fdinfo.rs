// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Who has the device open, and what `fdinfo` says of each.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use npu::Device;

/// What a client has, and what it has done since it opened the device. Memory is in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Memory of the process in device memory that the device has mapped.
    pub resident: u64,
    /// Memory of the process that the device has mapped, wherever it is.
    pub mirrored: u64,
    /// Faults of the device.
    pub faults: u64,
    /// What was copied to the device.
    pub to_device: u64,
    /// What the evictor brought back to the host.
    pub evicted: u64,
    /// Blocks that came back after that.
    pub refaults: u64,
}

/// An open file of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// By which DRM knows it.
    pub id: u64,
    /// A process that has it open.
    pub pid: u32,
    /// The process's name.
    pub command: String,
    /// What it has and has done.
    pub counts: Counts,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Each client once, by id.
    pub clients: Vec<Client>,
    /// Processes could not be looked at.
    pub partial: bool,
}

/// The id and the counts in an `fdinfo`; `None` if that is not the NPU's.
pub fn parse(text: &str) -> Option<(u64, Counts)> {
    let (mut driver, mut id, mut counts) = (None, None, Counts::default());
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let mut words = value.split_whitespace();
        let Some(first) = words.next() else {
            continue;
        };
        if key == "drm-driver" {
            driver = Some(first);
            continue;
        }
        let Ok(number) = first.parse::<u64>() else {
            continue;
        };
        let shift = match words.next() {
            Some("KiB") => 10,
            Some("MiB") => 20,
            _ => 0,
        };
        let number = number << shift;
        match key {
            "drm-client-id" => id = Some(number),
            "gmem-resident-device" => counts.resident = number,
            "gmem-mirrored" => counts.mirrored = number,
            "gmem-faults" => counts.faults = number,
            "gmem-to-device" => counts.to_device = number,
            "gmem-evicted" => counts.evicted = number,
            "gmem-refaults" => counts.refaults = number,
            _ => (),
        }
    }
    (driver == Some(Device::DRIVER)).then_some((id?, counts))
}

/// Looks through all processes in a directory like `/proc` for files that are the device's.
///
/// A client that several have, as after fork(), is the oldest one's.
pub fn scan(proc: &Path, is_device: impl Fn(&Path) -> bool) -> Found {
    let mut found = Found::default();
    let mut pids: Vec<u32> = numbers(proc).unwrap_or_default();
    pids.sort_unstable();
    let mut clients = BTreeMap::new();
    for pid in pids {
        let directory = proc.join(pid.to_string());
        let fds = match numbers(&directory.join("fd")) {
            Ok(fds) => fds,
            Err(kind) => {
                // Others have ended meanwhile.
                found.partial |= kind == ErrorKind::PermissionDenied;
                continue;
            }
        };
        for fd in fds {
            if !is_device(&directory.join("fd").join(fd.to_string())) {
                continue;
            }
            let info = fs::read_to_string(directory.join("fdinfo").join(fd.to_string()));
            let Some((id, counts)) = info.ok().and_then(|text| parse(&text)) else {
                continue;
            };
            clients.entry(id).or_insert_with(|| Client {
                id,
                pid,
                command: command(&directory),
                counts,
            });
        }
    }
    found.clients = clients.into_values().collect();
    found
}

/// The entries of a directory that are numbers.
fn numbers(directory: &Path) -> Result<Vec<u32>, ErrorKind> {
    let entries = fs::read_dir(directory).map_err(|error| error.kind())?;
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect())
}

/// The name of a process, without what would upset a terminal.
fn command(process: &Path) -> String {
    let name = fs::read(process.join("comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    let clean = |c: char| if c.is_control() { '?' } else { c };
    name.trim_end_matches('\n').chars().map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "pos:\t0\nflags:\t02100002\ndrm-driver:\tnpu\ndrm-client-id:\t7\n\
        drm-engine-compute:\t12 ns\ngmem-resident-device:\t64 KiB\ngmem-mirrored:\t1 MiB\n\
        gmem-faults:\t5\ngmem-to-device:\t3 KiB\ngmem-made:\t9 KiB\ngmem-evicted:\t2 KiB\n\
        gmem-refaults:\t4\ngmem-newer:\tx\n";

    #[test]
    fn lines_have_units() {
        let counts = Counts {
            resident: 64 << 10,
            mirrored: 1 << 20,
            faults: 5,
            to_device: 3 << 10,
            evicted: 2 << 10,
            refaults: 4,
        };
        assert_eq!(parse(TEXT), Some((7, counts)));
        assert_eq!(parse(&TEXT.replace("npu", "xe")), None);
        assert_eq!(parse(&TEXT.replace("-id", "-name")), None);
        assert_eq!(parse("pos:\t0\n\n:\n"), None);
    }

    #[test]
    fn clients_count_once() {
        let proc = std::env::temp_dir().join(format!("npu-top-{}", std::process::id()));
        for (pid, fd, text) in [
            (20, 3, TEXT),
            (100, 3, TEXT),
            (100, 4, &TEXT.replace("\t7", "\t9")),
            (100, 5, &TEXT.replace("\t7", "\t10")),
            (101, 3, &TEXT.replace("npu", "xe")),
        ] {
            let process = proc.join(pid.to_string());
            fs::create_dir_all(process.join("fd")).unwrap();
            fs::create_dir_all(process.join("fdinfo")).unwrap();
            fs::write(process.join("comm"), format!("job\x1b{pid}\n")).unwrap();
            fs::write(process.join("fd").join(fd.to_string()), "").unwrap();
            fs::write(process.join("fdinfo").join(fd.to_string()), text).unwrap();
        }
        fs::create_dir_all(proc.join("self")).unwrap();
        let found = scan(&proc, |fd| !fd.ends_with("5"));
        fs::remove_dir_all(&proc).unwrap();
        let found: Vec<_> = found.clients.into_iter().collect();
        let short: Vec<_> = found.iter().map(|c| (c.id, c.pid, &*c.command)).collect();
        assert_eq!(short, [(7, 20, "job?20"), (9, 100, "job?100")]);
        assert_eq!(scan(&proc, |_| true), Found::default());
    }
}
