// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An instance of tracefs: a buffer of events of our own.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::OFlags;

use super::super::Result;

/// Where tracefs is mounted.
pub const TRACEFS: &str = "/sys/kernel/tracing";
/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;

/// An instance, which goes when this is dropped.
pub struct Instance {
    directory: PathBuf,
    /// Open as long as the instance is there.
    pipe: Option<File>,
    piece: Vec<u8>,
}

impl Instance {
    /// Makes one with a buffer of so many KiB for each CPU, in which nothing is recorded yet.
    pub fn new(tracefs: &Path, buffer: u32) -> Result<Self> {
        let instances = tracefs.join("instances");
        match fs::metadata(&instances) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let path = tracefs.display();
                return Err(format!(
                    "no tracefs in {path}: mount it (mount -t tracefs tracefs {path}), if the kernel has it"
                )
                .into());
            }
            Err(error) => return Err(refused("look at", &instances, &error).into()),
            Ok(_) => (),
        }
        let directory = instances.join(format!("npu-{}", process::id()));
        fs::create_dir(&directory).map_err(|error| refused("make", &directory, &error))?;
        let mut instance = Self {
            directory,
            pipe: None,
            piece: vec![0; PIECE],
        };
        if !instance.directory.join("events/gmem_vm").exists() {
            return Err("the kernel has no events of gmem_vm: is the module loaded?".into());
        }
        instance.write("buffer_size_kb", &buffer.to_string())?;
        // The same on all CPUs.
        instance.write("trace_clock", "mono")?;
        let path = instance.directory.join("trace_pipe");
        let mut options = OpenOptions::new();
        options
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32);
        let pipe = options.open(&path);
        instance.pipe = Some(pipe.map_err(|error| refused("open", &path, &error))?);
        Ok(instance)
    }

    fn write(&self, file: &str, value: &str) -> Result {
        let path = self.directory.join(file);
        fs::write(&path, value).map_err(|error| refused("write to", &path, &error).into())
    }

    /// Records the events of gmem_vm from now on, or no more.
    pub fn enable(&self, on: bool) -> Result {
        self.write("events/gmem_vm/enable", if on { "1" } else { "0" })
    }

    /// Writes what there is of events; `None` if there are none at the moment. Returns how many.
    pub fn read_to(&mut self, file: &mut impl Write) -> Result<Option<u64>> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(None);
        };
        let read = match pipe.read(&mut self.piece) {
            Ok(0) => return Ok(None),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Some(0)),
            Err(error) => return Err(format!("cannot read events: {error}").into()),
        };
        let text = &self.piece[..read];
        file.write_all(text)
            .map_err(|error| format!("cannot write events: {error}"))?;
        // But for where some are missing, each line is one.
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let whole = lines.filter(|line| line.ends_with(b"\n") && !line.ends_with(b"EVENTS]\n"));
        Ok(Some(whole.count() as u64))
    }

    /// How many events had no room.
    pub fn lost(&self) -> Result<u64> {
        let mut lost = 0;
        for cpu in fs::read_dir(self.directory.join("per_cpu"))? {
            let path = cpu?.path().join("stats");
            let text = fs::read_to_string(&path).map_err(|e| refused("read", &path, &e))?;
            lost += lost_in(&text);
        }
        Ok(lost)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The directory can't go while it is open.
        self.pipe = None;
        if let Err(error) = fs::remove_dir(&self.directory) {
            eprintln!("npu: {}", refused("remove", &self.directory, &error));
        }
    }
}

fn refused(what: &str, path: &Path, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => " (tracing is for root)",
        _ => "",
    };
    format!("cannot {what} {}: {error}{hint}", path.display())
}

/// How many events a CPU has lost, by its file `stats`.
fn lost_in(stats: &str) -> u64 {
    let lines = stats.lines().filter_map(|line| line.split_once(": "));
    let lost = lines.filter(|(name, _)| ["overrun", "dropped events"].contains(name));
    lost.filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own for a test.
    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("npu-trace-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn error(tracefs: &Path) -> String {
        let result = Instance::new(tracefs, 64);
        result.err().expect("it is no tracefs").to_string()
    }

    #[test]
    fn it_says_what_is_missing() {
        let path = directory("missing");
        assert!(error(&path).starts_with("no tracefs in "));
        fs::create_dir(path.join("instances")).unwrap();
        assert!(error(&path).contains("is the module loaded?"));
        // And has left nothing.
        assert_eq!(fs::read_dir(path.join("instances")).unwrap().count(), 0);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn who_is_not_root_is_told() {
        let error = std::io::Error::from(ErrorKind::PermissionDenied);
        let text = refused("make", Path::new("/x"), &error);
        assert!(text.starts_with("cannot make /x: ") && text.ends_with("(tracing is for root)"));
    }

    #[test]
    fn lost_events_are_counted() {
        let stats = "entries: 7\noverrun: 30\ncommit overrun: 0\nbytes: 123\n\
                     oldest event ts:     1.0\nnow ts:     2.0\ndropped events: 4\nread events: 9\n";
        assert_eq!(lost_in(stats), 34);
        assert_eq!(lost_in(""), 0);
    }
}
