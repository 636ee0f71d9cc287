// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Fences: DRM syncobjs, binary ones and timelines.

use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::device::{Device, Inner};
use crate::error::{Error, Operation, Result};
use crate::{sys, uapi};

/// An owned syncobj handle.
#[derive(Debug)]
struct Syncobj {
    device: Arc<Inner>,
    handle: u32,
}

impl Syncobj {
    fn new(device: Arc<Inner>, flags: u32) -> Result<Self> {
        let argument = uapi::SyncobjCreate { handle: 0, flags };
        let created = device.call(Operation::SyncobjCreate, |fd| {
            sys::syncobj_create(fd, argument)
        })?;
        Ok(Self {
            device,
            handle: created.handle,
        })
    }
}

impl Drop for Syncobj {
    fn drop(&mut self) {
        let argument = uapi::SyncobjDestroy {
            handle: self.handle,
            pad: 0,
        };
        // It fails only for a handle that doesn't exist, and this one does.
        let _ = sys::syncobj_destroy(self.device.fd(), argument);
    }
}

/// A binary fence: something has happened, or not yet.
#[derive(Debug)]
pub struct Fence(Syncobj);

impl Fence {
    /// A fence that nothing has been submitted for.
    pub fn new(device: &Device) -> Result<Self> {
        Syncobj::new(device.inner().clone(), 0).map(Self)
    }

    /// A fence that is signalled already.
    pub fn signalled(device: &Device) -> Result<Self> {
        Syncobj::new(device.inner().clone(), uapi::SYNCOBJ_CREATE_SIGNALED).map(Self)
    }

    pub(crate) fn of(device: Arc<Inner>) -> Result<Self> {
        Syncobj::new(device, 0).map(Self)
    }

    /// Its syncobj handle.
    pub fn handle(&self) -> u32 {
        self.0.handle
    }

    /// Waits until it is signalled. That it was says nothing of how the job ended:
    /// [`Queue::result`](crate::Queue::result) does.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        wait_all(&[self.into()], timeout)
    }

    /// Signals it from the CPU.
    pub fn signal(&self) -> Result<()> {
        let Syncobj { device, handle } = &self.0;
        device.call(Operation::SyncobjSignal, |fd| {
            sys::syncobj_signal(fd, *handle)
        })
    }

    /// Makes it one that nothing has been submitted for.
    pub fn reset(&self) -> Result<()> {
        let Syncobj { device, handle } = &self.0;
        device.call(Operation::SyncobjReset, |fd| {
            sys::syncobj_reset(fd, *handle)
        })
    }
}

/// A timeline: a count that only grows, with a fence for every value.
#[derive(Debug)]
pub struct Timeline(Syncobj);

impl Timeline {
    /// A timeline at 0.
    pub fn new(device: &Device) -> Result<Self> {
        Syncobj::new(device.inner().clone(), 0).map(Self)
    }

    /// Its syncobj handle.
    pub fn handle(&self) -> u32 {
        self.0.handle
    }

    /// The fence of a value, which is not 0.
    pub fn point(&self, point: u64) -> SyncPoint<'_> {
        SyncPoint {
            syncobj: &self.0,
            point,
        }
    }

    /// The value it has reached.
    pub fn value(&self) -> Result<u64> {
        let Syncobj { device, handle } = &self.0;
        device.call(Operation::SyncobjQuery, |fd| {
            sys::syncobj_query(fd, *handle)
        })
    }

    /// Signals a value from the CPU.
    pub fn signal(&self, point: u64) -> Result<()> {
        let Syncobj { device, handle } = &self.0;
        device.call(Operation::SyncobjSignal, |fd| {
            sys::syncobj_timeline_signal(fd, *handle, point)
        })
    }

    /// Waits until it has reached a value.
    pub fn wait(&self, point: u64, timeout: Duration) -> Result<()> {
        wait_all(&[self.point(point)], timeout)
    }
}

/// What can be waited for or signalled: a [`Fence`], or a value of a [`Timeline`].
#[derive(Clone, Copy, Debug)]
pub struct SyncPoint<'a> {
    syncobj: &'a Syncobj,
    /// 0 for a binary fence.
    point: u64,
}

impl<'a> From<&'a Fence> for SyncPoint<'a> {
    fn from(fence: &'a Fence) -> Self {
        Self {
            syncobj: &fence.0,
            point: 0,
        }
    }
}

impl SyncPoint<'_> {
    /// As submit wants it; `flags` says whether to wait or to signal.
    pub(crate) fn encode(&self, device: &Arc<Inner>, flags: u32) -> Result<uapi::Sync> {
        if !Arc::ptr_eq(device, &self.syncobj.device) {
            return Err(Error::OtherDevice { what: "the fence" });
        }
        let timeline = if self.point != 0 {
            uapi::SYNC_TIMELINE
        } else {
            0
        };
        Ok(uapi::Sync {
            handle: self.syncobj.handle,
            flags: flags | timeline,
            point: self.point,
        })
    }
}

/// Waits until all are signalled, also those that nothing has been submitted for yet.
pub fn wait_all(points: &[SyncPoint<'_>], timeout: Duration) -> Result<()> {
    wait(points, timeout, uapi::SYNCOBJ_WAIT_FLAGS_WAIT_ALL).map(drop)
}

/// Waits until one is signalled, and says which.
pub fn wait_any(points: &[SyncPoint<'_>], timeout: Duration) -> Result<usize> {
    wait(points, timeout, 0).map(|first| first as usize)
}

fn wait(points: &[SyncPoint<'_>], timeout: Duration, flags: u32) -> Result<u32> {
    let Some(first) = points.first() else {
        return Ok(0);
    };
    let device = &first.syncobj.device;
    if !points
        .iter()
        .all(|point| Arc::ptr_eq(device, &point.syncobj.device))
    {
        return Err(Error::OtherDevice { what: "a fence" });
    }
    let handles: Vec<u32> = points.iter().map(|point| point.syncobj.handle).collect();
    let values: Vec<u64> = points.iter().map(|point| point.point).collect();
    let flags = flags | uapi::SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT;
    let deadline = deadline(timeout);
    let result = if values.iter().all(|value| *value == 0) {
        sys::syncobj_wait(device.fd(), &handles, deadline, flags)
    } else {
        sys::syncobj_timeline_wait(device.fd(), &handles, &values, deadline, flags)
    };
    result.map_err(|errno| match errno {
        Errno::TIME => Error::Timeout,
        errno => Error::System {
            operation: Operation::SyncobjWait,
            errno,
        },
    })
}

/// The time, on the monotonic clock, at which `timeout` is over.
fn deadline(timeout: Duration) -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
    i64::try_from(now.saturating_add(timeout).as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_saturate() {
        let now = deadline(Duration::ZERO);
        let later = deadline(Duration::from_secs(1));
        assert!(later - now >= 1_000_000_000 && later - now < 60_000_000_000);
        assert_eq!(deadline(Duration::MAX), i64::MAX);
    }
}
