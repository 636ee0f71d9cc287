// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Memory of this process in an address space of the device.

use std::ops::Range;

use rustix::io::Errno;

use crate::advice::Location;
use crate::bind::MapOptions;
use crate::error::{Error, Operation, Result};
use crate::vm::Vm;
use crate::{sys, uapi};

/// What a [prefetch](Vm::prefetch) did, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefetched {
    /// Moved, or made where there was no memory yet.
    pub moved: u64,
    /// In the device's page table now.
    pub mapped: u64,
}

/// What [discarding](Vm::discard) did, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// What became discarded and was not; with [`Discard::Replace`] what came to the device
    /// without being copied.
    pub discarded: u64,
    /// What was discarded, has all of its contents, and is not discarded any more.
    pub retained: u64,
}

/// What is to be done about the contents of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Nobody needs them: what is in device memory leaves it first, and isn't copied.
    Drop,
    /// Nobody needs them, and the memory is wanted on the device: it comes there without being
    /// copied.
    Replace,
    /// They are needed, as far as they are still there.
    Keep,
}

/// What mirroring has done in an address space, as `struct drm_gmem_vm_stats` describes it. All
/// but `mirrored`, `extents` and `bytes` only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmStats {
    /// Faults that the device reported.
    pub faults: u64,
    /// Of these, those that another one's service answered.
    pub merged: u64,
    /// Of these, those that ended a job.
    pub bad: u64,
    /// How often a service began anew, because the process's memory changed meanwhile.
    pub retries: u64,
    /// Changes of the process's memory that concerned what the device had mapped.
    pub invalidations: u64,
    /// Bytes copied to device memory.
    pub to_device: u64,
    /// Bytes of device memory made for what was never touched.
    pub made: u64,
    /// Bytes that should have come to the device and could not.
    pub stayed: u64,
    /// Bytes of mirrors that the device's page table has now.
    pub mirrored: u64,
    /// Contiguous extents that these lie in.
    pub extents: u64,
    /// Bytes of host memory for keeping book of them.
    pub bytes: u64,
}

impl Vm {
    /// Lets the device see `cpu`, a range of this process's own addresses in whole pages, at `va`:
    /// at the same address or at another one.
    ///
    /// Nothing need be there yet. Pages come to the device as it touches them, and follow all that
    /// the process does with its memory; the CPU gets them back when it touches them. The first
    /// mirror attaches the address space to the process.
    ///
    /// With this, jobs can change whatever of the process's memory lies in the range and is
    /// writable, as a debugger could. What they write must be memory that the CPU takes to be
    /// shared, such as a [`Heap`](crate::Heap).
    ///
    /// Errors: [`Error::NoMirrors`]; [`RANGE`](Errno::RANGE) (outside what the device can map, or
    /// what the CPU gives to processes), [`XDEV`](Errno::XDEV) (attached to another process),
    /// [`SRCH`](Errno::SRCH) (the process is exiting), those of any [bind](crate::Bind::commit).
    pub fn map_mirror(&self, cpu: Range<u64>, va: u64, options: MapOptions) -> Result<()> {
        let result = self.bind().mirror(cpu, va, options).commit();
        result.map_err(|error| match error.errno() {
            Some(errno @ Errno::OPNOTSUPP) => Error::NoMirrors { errno },
            // To a driver that is older than mirrors they are but an unknown operation; it knows
            // nothing of their statistics either.
            Some(errno @ Errno::INVAL) if self.stats().is_err() => Error::NoMirrors { errno },
            _ => error,
        })
    }

    /// Lets the device see all of this process's memory, what it has and will have, each byte at
    /// the CPU's own address. Returns the addresses, which are all that both CPU and device have.
    ///
    /// What was mapped there before is replaced. Errors: as of [`map_mirror`](Self::map_mirror).
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use npu::{CommandBuffer, Device, Heap, MapOptions, Queue, Vm};
    ///
    /// # fn main() -> npu::Result<()> {
    /// let device = Device::find()?;
    /// let (data, code) = (Heap::new(1 << 20)?, Heap::new(4096)?);
    /// let vm = Vm::new(&device)?;
    /// let options = MapOptions { exec: true, ..Default::default() };
    /// vm.mirror_process(options)?;
    ///
    /// let mut commands = CommandBuffer::new();
    /// commands.fill(data.address(), data.size(), 0x0c0ffee0);
    /// code.cpu().write_at(0, commands.as_bytes())?;
    /// Queue::new(&device)?.run(&vm, code.address(), commands.len(), Duration::from_secs(1))?;
    ///
    /// assert_eq!(data.cpu().value_at::<u32>(0)?, 0x0c0ffee0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn mirror_process(&self, options: MapOptions) -> Result<Range<u64>> {
        let info = self.device().info()?;
        let range = info.va_start..info.va_end.min(info.mirror_end);
        self.map_mirror(range.clone(), range.start, options)?;
        Ok(range)
    }

    /// Brings mirrored memory of a range of device addresses, in whole pages, to where it should be
    /// and into the device's page table, so that jobs don't fault on it. Returns when it is done.
    ///
    /// What can't move stays, which is no error, and nor are parts that have no memory or are not
    /// mirrored. [`Location::Default`] stands for what was [advised](Vm::advise), and else for the
    /// device.
    ///
    /// Errors: [`INVAL`](Errno::INVAL) (misaligned or empty range, [`Location::HostNode`]),
    /// [`RANGE`](Errno::RANGE) (outside the address space), [`NOMEM`](Errno::NOMEM),
    /// [`NOSPC`](Errno::NOSPC) (device memory for page tables), [`SRCH`](Errno::SRCH) (the process has ended), [`IO`](Errno::IO) or
    /// [`NODEV`](Errno::NODEV) (the device failed or went away). After a signal it goes on, and
    /// tells of what it did from then on.
    pub fn prefetch(&self, range: Range<u64>, location: Location) -> Result<Prefetched> {
        let argument = uapi::Prefetch {
            vm_id: self.id(),
            va: range.start,
            size: range.end.saturating_sub(range.start),
            location: location.encode(),
            ..Default::default()
        };
        let done = self
            .device()
            .call(Operation::Prefetch, |fd| sys::prefetch(fd, argument))?;
        Ok(Prefetched {
            moved: done.moved,
            mapped: done.mapped,
        })
    }

    /// Says whether the contents of mirrored memory are needed, in whole pages of device addresses.
    ///
    /// Memory that was discarded reads as zeroes or as what was there, until the first access;
    /// from then on it is as any other. What is in the host is left alone but by
    /// [`Discard::Replace`], and so is what another process has, too.
    ///
    /// Errors: those of [`prefetch`](Self::prefetch), and [`PERM`](Errno::PERM) (the memory is
    /// mirrored to be read only).
    pub fn discard(&self, range: Range<u64>, what: Discard) -> Result<Discarded> {
        let argument = uapi::Discard {
            vm_id: self.id(),
            flags: match what {
                Discard::Drop => 0,
                Discard::Replace => uapi::DISCARD_PREFETCH,
                Discard::Keep => uapi::DISCARD_UNDO,
            },
            va: range.start,
            size: range.end.saturating_sub(range.start),
            ..Default::default()
        };
        let done = self
            .device()
            .call(Operation::Discard, |fd| sys::discard(fd, argument))?;
        Ok(Discarded {
            discarded: done.discarded,
            retained: done.retained,
        })
    }

    /// What mirroring has done here.
    ///
    /// Errors: [`INVAL`](Errno::INVAL) or [`NOTTY`](Errno::NOTTY) if the driver knows of no mirrors.
    pub fn stats(&self) -> Result<VmStats> {
        let argument = uapi::VmStats {
            vm_id: self.id(),
            ..Default::default()
        };
        let raw = self
            .device()
            .call(Operation::VmStats, |fd| sys::vm_stats(fd, argument))?;
        Ok(VmStats {
            faults: raw.faults,
            merged: raw.merged,
            bad: raw.bad,
            retries: raw.retries,
            invalidations: raw.invalidations,
            to_device: raw.to_device,
            made: raw.made,
            stayed: raw.stayed,
            mirrored: raw.mirrored,
            extents: raw.extents,
            bytes: raw.bytes,
        })
    }
}
