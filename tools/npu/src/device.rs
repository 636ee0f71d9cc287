// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The device file: opening it and asking it questions.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::error::{Error, Operation, Result};
use crate::{sys, uapi};

/// Where accelerators' device files are.
const ACCEL_DIR: &str = "/dev/accel";

/// What every handle keeps: the open file.
#[derive(Debug)]
pub(crate) struct Inner {
    fd: OwnedFd,
}

impl Inner {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An open NPU.
///
/// Cheap to clone; the file closes when the last clone and the last handle made from it are gone.
#[derive(Clone, Debug)]
pub struct Device {
    inner: Arc<Inner>,
    path: PathBuf,
}

impl Device {
    /// The name of the NPU's driver.
    pub const DRIVER: &'static str = "npu";

    /// Opens a device file, whatever driver it has.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let inner = Arc::new(Inner {
            fd: sys::open(path)?,
        });
        Ok(Self {
            inner,
            path: path.into(),
        })
    }

    /// Opens the first accelerator of the NPU's driver.
    pub fn find() -> Result<Self> {
        Self::find_driver(Self::DRIVER)
    }

    /// Opens the first accelerator of a driver.
    ///
    /// Files that can't be opened are passed over; if nothing is found the error tells of them.
    pub fn find_driver(driver: &str) -> Result<Self> {
        let mut seen = Vec::new();
        for path in device_files(Path::new(ACCEL_DIR)) {
            match Self::open(&path).and_then(|device| Ok((device.driver()?, device))) {
                Ok((found, device)) if found.name == driver => return Ok(device),
                Ok((found, _)) => seen.push(format!("{}: {}", path.display(), found.name)),
                Err(error) => seen.push(error.to_string()),
            }
        }
        if seen.is_empty() {
            seen.push("there is none at all".into());
        }
        Err(Error::NoDevice {
            driver: driver.into(),
            seen: seen.join(", "),
        })
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name and version of the driver.
    pub fn driver(&self) -> Result<Driver> {
        let version = self.call(Operation::Version, sys::version)?;
        Ok(Driver {
            name: version.name,
            description: version.description,
            version: version.version,
        })
    }

    /// What the device can do, and what memory it has.
    pub fn info(&self) -> Result<DeviceInfo> {
        self.inner.info()
    }

    /// The device's version, clock and counters.
    pub fn counters(&self) -> Result<Counters> {
        let raw = self.call(Operation::Query, |fd| {
            sys::query(fd, uapi::Query::default())
        })?;
        Ok(Counters {
            version: raw.version,
            num_queues: raw.num_queues,
            job_timeout_ms: raw.job_timeout_ms,
            timestamp: raw.timestamp,
            jobs_ok: raw.jobs_ok,
            jobs_failed: raw.jobs_failed,
            tlb_hits: raw.tlb_hits,
            tlb_misses: raw.tlb_misses,
            tlb_invalidations: raw.tlb_invalidations,
            bytes_read: raw.bytes_read,
            bytes_written: raw.bytes_written,
            bytes_to_device: raw.bytes_to_device,
            bytes_to_host: raw.bytes_to_host,
            bytes_cleared: raw.bytes_cleared,
        })
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Runs a system call and names it in the error.
    pub(crate) fn call<T>(
        &self,
        operation: Operation,
        call: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T> {
        self.inner.call(operation, call)
    }
}

impl Inner {
    pub(crate) fn call<T>(
        &self,
        operation: Operation,
        call: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T> {
        call(self.fd()).map_err(|errno| Error::System { operation, errno })
    }

    pub(crate) fn info(&self) -> Result<DeviceInfo> {
        let raw = self.call(Operation::QueryDevice, |fd| {
            sys::query_device(fd, uapi::QueryDevice::default())
        })?;
        Ok(DeviceInfo {
            page_sizes: (0..64)
                .map(|n| 1 << n)
                .filter(|n| raw.page_sizes & n != 0)
                .collect(),
            va_start: raw.va_start,
            va_end: raw.va_end,
            mem_total: raw.mem_total,
            mem_visible: raw.mem_visible,
            mem_free: raw.mem_free,
            faults: raw.caps & uapi::CAP_FAULTS != 0,
            mirror_end: raw.mirror_end,
        })
    }
}

/// The files accel0, accel1, ... of a directory, in the order of their numbers.
fn device_files(directory: &Path) -> Vec<PathBuf> {
    let mut numbers: Vec<u32> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix("accel")?
                .parse()
                .ok()
        })
        .collect();
    numbers.sort_unstable();
    numbers
        .iter()
        .map(|number| directory.join(format!("accel{number}")))
        .collect()
}

/// Name and version of a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// Its name, for example `npu`.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Major, minor, patch level.
    pub version: (i32, i32, i32),
}

/// What a device can do, and what memory it has. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Page sizes the device can map, from the smallest.
    pub page_sizes: Vec<u64>,
    /// First device address that can be mapped.
    pub va_start: u64,
    /// End of the device's address space.
    pub va_end: u64,
    /// Device memory, 0 if it has none.
    pub mem_total: u64,
    /// Device memory that the CPU can map.
    pub mem_visible: u64,
    /// Device memory that is free at this moment.
    pub mem_free: u64,
    /// Does the device serve page faults? Without, a job that touches mirrored memory must
    /// [name it](crate::Submission::touches).
    pub faults: bool,
    /// End of this process's addresses that a mirror can show.
    pub mirror_end: u64,
}

/// The device's version, clock and counters, as `struct drm_npu_query` describes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The device's `VERSION` register.
    pub version: u32,
    /// Number of hardware compute queues.
    pub num_queues: u32,
    /// Longest time a job may run, in milliseconds.
    pub job_timeout_ms: u32,
    /// The device's clock, in nanoseconds.
    pub timestamp: u64,
    /// Jobs that ended well since the device was reset.
    pub jobs_ok: u64,
    /// Jobs that didn't.
    pub jobs_failed: u64,
    /// Translations found in the TLB.
    pub tlb_hits: u64,
    /// Translations that took a walk.
    pub tlb_misses: u64,
    /// TLB invalidations done.
    pub tlb_invalidations: u64,
    /// Bytes read by jobs.
    pub bytes_read: u64,
    /// Bytes written by jobs.
    pub bytes_written: u64,
    /// Bytes the copy queue brought to device memory.
    pub bytes_to_device: u64,
    /// Bytes the copy queue brought to host memory.
    pub bytes_to_host: u64,
    /// Bytes the copy queue filled.
    pub bytes_cleared: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_files_are_in_order() {
        let directory = std::env::temp_dir().join(format!("npu-accel-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for name in ["accel10", "accel2", "accelerate", "card0"] {
            fs::write(directory.join(name), "").unwrap();
        }
        let names = device_files(&directory);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(names, [directory.join("accel2"), directory.join("accel10")]);
        assert!(device_files(&directory).is_empty());
    }

    #[test]
    fn a_missing_device_is_named() {
        let error = Device::open("/nonexistent/accel0").unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NOENT));
        assert!(
            error
                .to_string()
                .starts_with("cannot open /nonexistent/accel0: ")
        );
    }
}
