// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Queues, and the jobs submitted to them.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::device::{Device, Inner};
use crate::error::{Error, JobError, JobFailure, Operation, Result};
use crate::sync::{Fence, SyncPoint};
use crate::vm::Vm;
use crate::{sys, uapi};

/// A queue: its jobs run in the order of their submission.
#[derive(Debug)]
pub struct Queue {
    device: Arc<Inner>,
    id: u32,
    /// Jobs submitted. Held through a submission, so that the count has the kernel's order.
    submitted: Mutex<u64>,
}

/// A job that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Job {
    /// Its number, counting its queue's submissions from 1.
    pub seqno: u64,
}

/// How a queue's last failed job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// The last failure, if any job failed.
    pub failed: Option<JobError>,
    /// Jobs that have ended, in whatever way.
    pub completed: u64,
}

impl Queue {
    /// Creates a queue.
    pub fn new(device: &Device) -> Result<Self> {
        let argument = uapi::QueueCreate::default();
        let created = device.call(Operation::QueueCreate, |fd| sys::queue_create(fd, argument))?;
        Ok(Self {
            device: device.inner().clone(),
            id: created.queue_id,
            submitted: Mutex::new(0),
        })
    }

    /// Its id, unique in its device file.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Begins a job: `size` bytes of commands at device address `commands`, mapped in `vm` with
    /// [`exec`](crate::MapOptions::exec).
    pub fn job<'a>(&'a self, vm: &'a Vm, commands: u64, size: usize) -> Submission<'a> {
        Submission {
            queue: self,
            vm,
            commands,
            size,
            syncs: Vec::new(),
            ranges: Vec::new(),
        }
    }

    /// Submits a job, waits for it and tells how it ended.
    pub fn run(&self, vm: &Vm, commands: u64, size: usize, timeout: Duration) -> Result<()> {
        let fence = Fence::of(self.device.clone())?;
        let job = self.job(vm, commands, size).signal(&fence).submit()?;
        fence.wait(timeout)?;
        self.result(job)
    }

    /// How the queue's jobs ended.
    pub fn status(&self) -> Result<QueueStatus> {
        let argument = uapi::JobStatus {
            queue_id: self.id,
            ..Default::default()
        };
        let raw = self
            .device
            .call(Operation::JobStatus, |fd| sys::job_status(fd, argument))?;
        let failed = (raw.error != 0).then(|| JobError {
            seqno: raw.seqno,
            cause: JobFailure::new(&raw),
        });
        Ok(QueueStatus {
            failed,
            completed: raw.completed,
        })
    }

    /// How a job ended whose fence is signalled: an error if it, or a later one, failed. The
    /// kernel keeps only the last failure.
    pub fn result(&self, job: Job) -> Result<()> {
        match self.status()?.failed {
            Some(error) if error.seqno >= job.seqno => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // It fails only if the device is gone, and the queue with it.
        let _ = sys::queue_destroy(
            self.device.fd(),
            uapi::QueueDestroy {
                queue_id: self.id,
                pad: 0,
            },
        );
    }
}

/// A job that is about to be submitted.
#[derive(Debug)]
#[must_use = "nothing runs before submit()"]
pub struct Submission<'a> {
    queue: &'a Queue,
    vm: &'a Vm,
    commands: u64,
    size: usize,
    syncs: Vec<(SyncPoint<'a>, u32)>,
    ranges: Vec<uapi::Range>,
}

impl<'a> Submission<'a> {
    /// The job begins when this is signalled.
    pub fn wait(mut self, point: impl Into<SyncPoint<'a>>) -> Self {
        self.syncs.push((point.into(), 0));
        self
    }

    /// This is signalled when the job has ended.
    pub fn signal(mut self, point: impl Into<SyncPoint<'a>>) -> Self {
        self.syncs.push((point.into(), uapi::SYNC_SIGNAL));
        self
    }

    /// The job touches this range of device addresses, in whole pages, where memory of the process
    /// is [mirrored](crate::Vm::map_mirror): it is mapped before the job starts, and stays so until
    /// the job has ended.
    ///
    /// A device that doesn't [serve faults](crate::DeviceInfo::faults) must be told of all that the
    /// job touches, its commands included, in at most 1024 ranges. Others take it as a hint.
    pub fn touches(mut self, range: Range<u64>) -> Self {
        self.ranges.push(uapi::Range {
            va: range.start,
            size: range.end.saturating_sub(range.start),
        });
        self
    }

    /// Submits it.
    pub fn submit(self) -> Result<Job> {
        let device = &self.queue.device;
        if !Arc::ptr_eq(device, self.vm.device()) {
            return Err(Error::OtherDevice {
                what: "the address space",
            });
        }
        let syncs: Vec<uapi::Sync> = self
            .syncs
            .iter()
            .map(|(point, flags)| point.encode(device, *flags))
            .collect::<Result<_>>()?;
        let job = uapi::Submit {
            queue_id: self.queue.id,
            vm_id: self.vm.id(),
            commands: self.commands,
            // A size that doesn't fit is far too large; so is this one.
            size: u32::try_from(self.size).unwrap_or(!7),
            ..Default::default()
        };
        let mut submitted = self
            .queue
            .submitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        device.call(Operation::Submit, |fd| {
            sys::submit(fd, job, &syncs, &self.ranges)
        })?;
        *submitted += 1;
        Ok(Job { seqno: *submitted })
    }
}
