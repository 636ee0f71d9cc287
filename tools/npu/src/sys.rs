// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! System calls. All of the crate's unsafe code is here.
//!
//! Each ioctl is a safe function: it takes slices where the structure has pointers, so no caller
//! can hand the kernel an address that isn't valid.

#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater};
use rustix::mm::{MapFlags, ProtFlags};

use crate::error::{Error, Operation, Result};
use crate::uapi;

/// Opens a device file.
pub(crate) fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        Error::Open {
            path: path.into(),
            errno,
        }
    })
}

/// Calls ioctl `N` until it is not interrupted.
///
/// # Safety
///
/// `T` is the structure of ioctl `N`, and every pointer in it is valid for what the ioctl does
/// with it.
unsafe fn ioctl<const N: Opcode, T>(fd: BorrowedFd<'_>, argument: &mut T) -> Result<(), Errno> {
    loop {
        // SAFETY: the caller's promise.
        match unsafe { ioctl_once::<N, T>(fd, argument) } {
            Err(Errno::INTR | Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Calls ioctl `N`, which may be interrupted.
///
/// # Safety
///
/// As for [`ioctl`].
unsafe fn ioctl_once<const N: Opcode, T>(
    fd: BorrowedFd<'_>,
    argument: &mut T,
) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { rustix::ioctl::ioctl(fd, Updater::<N, T>::new(argument)) }
}

/// Safe functions for ioctls whose structures have no pointers.
macro_rules! plain {
    ($($(#[$meta:meta])* $name:ident($type:ident) = $number:ident;)*) => {$(
        $(#[$meta])*
        pub(crate) fn $name(fd: BorrowedFd<'_>, mut argument: uapi::$type) -> Result<uapi::$type, Errno> {
            // SAFETY: the number is made from this very type, which holds integers only.
            unsafe { ioctl::<{ uapi::$number }, _>(fd, &mut argument) }.map(|()| argument)
        }
    )*};
}

plain! {
    gem_close(GemClose) = IOCTL_GEM_CLOSE;
    syncobj_create(SyncobjCreate) = IOCTL_SYNCOBJ_CREATE;
    syncobj_destroy(SyncobjDestroy) = IOCTL_SYNCOBJ_DESTROY;
    query_device(QueryDevice) = IOCTL_NPU_QUERY_DEVICE;
    vm_create(VmCreate) = IOCTL_NPU_VM_CREATE;
    vm_destroy(VmDestroy) = IOCTL_NPU_VM_DESTROY;
    bo_create(BoCreate) = IOCTL_NPU_BO_CREATE;
    bo_mmap(BoMmap) = IOCTL_NPU_BO_MMAP;
    unbind(Unbind) = IOCTL_NPU_UNBIND;
    bind_queue_create(BindQueueCreate) = IOCTL_NPU_BIND_QUEUE_CREATE;
    bind_queue_destroy(BindQueueDestroy) = IOCTL_NPU_BIND_QUEUE_DESTROY;
    queue_create(QueueCreate) = IOCTL_NPU_QUEUE_CREATE;
    queue_destroy(QueueDestroy) = IOCTL_NPU_QUEUE_DESTROY;
    job_status(JobStatus) = IOCTL_NPU_JOB_STATUS;
    query(Query) = IOCTL_NPU_QUERY;
    prefetch(Prefetch) = IOCTL_NPU_PREFETCH;
    vm_stats(VmStats) = IOCTL_NPU_VM_STATS;
    discard(Discard) = IOCTL_NPU_DISCARD;
}

/// What `DRM_IOCTL_VERSION` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DriverVersion {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) version: (i32, i32, i32),
}

/// Asks for the driver's name, description and version.
pub(crate) fn version(fd: BorrowedFd<'_>) -> Result<DriverVersion, Errno> {
    let (mut name, mut desc) = ([0u8; 64], [0u8; 256]);
    let mut argument = uapi::Version {
        name_len: name.len(),
        name: name.as_mut_ptr() as usize,
        desc_len: desc.len(),
        desc: desc.as_mut_ptr() as usize,
        ..Default::default()
    };
    // SAFETY: both buffers live through the call and are as long as the lengths say; the kernel
    // writes no more than that. The date has length 0.
    unsafe { ioctl::<{ uapi::IOCTL_VERSION }, _>(fd, &mut argument) }?;
    // The kernel returns the full lengths, whatever it could write.
    let text = |bytes: &[u8], len: usize| {
        String::from_utf8_lossy(&bytes[..len.min(bytes.len())]).into_owned()
    };
    Ok(DriverVersion {
        name: text(&name, argument.name_len),
        description: text(&desc, argument.desc_len),
        version: (
            argument.version_major,
            argument.version_minor,
            argument.version_patchlevel,
        ),
    })
}

/// The address of an array's first element, 0 if it has none.
fn address<T>(array: &[T]) -> u64 {
    if array.is_empty() {
        0
    } else {
        array.as_ptr() as u64
    }
}

/// The number of an array's elements.
fn count<T>(array: &[T]) -> Result<u32, Errno> {
    u32::try_from(array.len()).map_err(|_| Errno::INVAL)
}

/// Changes the mappings of a VM; the arrays of `bind` are filled in.
///
/// If it is interrupted the changes are queued: it must not be repeated.
pub(crate) fn bind(
    fd: BorrowedFd<'_>,
    bind: uapi::Bind,
    ops: &[uapi::BindOp],
    syncs: &[uapi::Sync],
) -> Result<(), Errno> {
    let mut argument = uapi::Bind {
        num_ops: count(ops)?,
        ops: address(ops),
        num_syncs: count(syncs)?,
        syncs: address(syncs),
        ..bind
    };
    // SAFETY: the kernel reads num_ops operations and num_syncs syncs from the slices.
    unsafe { ioctl_once::<{ uapi::IOCTL_NPU_BIND }, _>(fd, &mut argument) }
}

/// Sets attributes of a range; the array of `advise` is filled in.
pub(crate) fn advise(
    fd: BorrowedFd<'_>,
    advise: uapi::Advise,
    attrs: &[uapi::Attr],
) -> Result<(), Errno> {
    let mut argument = uapi::Advise {
        num_attrs: count(attrs)?,
        attrs: address(attrs),
        ..advise
    };
    // SAFETY: the kernel reads num_attrs attributes from the slice.
    unsafe { ioctl::<{ uapi::IOCTL_NPU_ADVISE }, _>(fd, &mut argument) }
}

/// Reads back a range, as far as there is room for entries; the array of `query` is filled in.
pub(crate) fn query_range(
    fd: BorrowedFd<'_>,
    query: uapi::QueryRange,
    ranges: &mut [uapi::RangeEntry],
) -> Result<uapi::QueryRange, Errno> {
    let mut argument = uapi::QueryRange {
        num_ranges: count(ranges)?,
        ranges: ranges.as_mut_ptr() as u64,
        ..query
    };
    // SAFETY: the kernel writes at most num_ranges entries, for which the slice has room.
    unsafe { ioctl::<{ uapi::IOCTL_NPU_QUERY_RANGE }, _>(fd, &mut argument) }.map(|()| argument)
}

/// Submits a job; the arrays of `job` are filled in.
pub(crate) fn submit(
    fd: BorrowedFd<'_>,
    job: uapi::Submit,
    syncs: &[uapi::Sync],
    ranges: &[uapi::Range],
) -> Result<(), Errno> {
    let mut argument = uapi::Submit {
        num_syncs: count(syncs)?,
        syncs: address(syncs),
        num_ranges: count(ranges)?,
        ranges: address(ranges),
        ..job
    };
    // SAFETY: the kernel reads num_syncs syncs and num_ranges ranges from the slices.
    unsafe { ioctl::<{ uapi::IOCTL_NPU_SUBMIT }, _>(fd, &mut argument) }
}

/// Waits for binary syncobjs; returns the first that is signalled if not all are waited for.
pub(crate) fn syncobj_wait(
    fd: BorrowedFd<'_>,
    handles: &[u32],
    deadline: i64,
    flags: u32,
) -> Result<u32, Errno> {
    let mut argument = uapi::SyncobjWait {
        handles: handles.as_ptr() as u64,
        timeout_nsec: deadline,
        count_handles: count(handles)?,
        flags,
        ..Default::default()
    };
    // SAFETY: the kernel reads count_handles handles from the slice.
    unsafe { ioctl::<{ uapi::IOCTL_SYNCOBJ_WAIT }, _>(fd, &mut argument) }
        .map(|()| argument.first_signaled)
}

/// Waits for points of timelines; point 0 is a binary syncobj.
pub(crate) fn syncobj_timeline_wait(
    fd: BorrowedFd<'_>,
    handles: &[u32],
    points: &[u64],
    deadline: i64,
    flags: u32,
) -> Result<u32, Errno> {
    assert_eq!(handles.len(), points.len());
    let mut argument = uapi::SyncobjTimelineWait {
        handles: handles.as_ptr() as u64,
        points: points.as_ptr() as u64,
        timeout_nsec: deadline,
        count_handles: count(handles)?,
        flags,
        ..Default::default()
    };
    // SAFETY: the kernel reads count_handles handles and as many points; both slices have that
    // length.
    unsafe { ioctl::<{ uapi::IOCTL_SYNCOBJ_TIMELINE_WAIT }, _>(fd, &mut argument) }
        .map(|()| argument.first_signaled)
}

/// Gives a binary syncobj a signalled fence.
pub(crate) fn syncobj_signal(fd: BorrowedFd<'_>, handle: u32) -> Result<(), Errno> {
    let mut argument = one(&handle);
    // SAFETY: the kernel reads one handle, which lives through the call.
    unsafe { ioctl::<{ uapi::IOCTL_SYNCOBJ_SIGNAL }, _>(fd, &mut argument) }
}

/// Takes a binary syncobj's fence away.
pub(crate) fn syncobj_reset(fd: BorrowedFd<'_>, handle: u32) -> Result<(), Errno> {
    let mut argument = one(&handle);
    // SAFETY: the kernel reads one handle, which lives through the call.
    unsafe { ioctl::<{ uapi::IOCTL_SYNCOBJ_RESET }, _>(fd, &mut argument) }
}

fn one(handle: &u32) -> uapi::SyncobjArray {
    uapi::SyncobjArray {
        handles: std::ptr::from_ref(handle) as u64,
        count_handles: 1,
        pad: 0,
    }
}

/// Signals a point of a timeline.
pub(crate) fn syncobj_timeline_signal(
    fd: BorrowedFd<'_>,
    handle: u32,
    point: u64,
) -> Result<(), Errno> {
    let mut argument = uapi::SyncobjTimelineArray {
        handles: std::ptr::from_ref(&handle) as u64,
        points: std::ptr::from_ref(&point) as u64,
        count_handles: 1,
        flags: 0,
    };
    // SAFETY: the kernel reads one handle and one point, which live through the call.
    unsafe { ioctl::<{ uapi::IOCTL_SYNCOBJ_TIMELINE_SIGNAL }, _>(fd, &mut argument) }
}

/// Asks for the last signalled point of a timeline.
pub(crate) fn syncobj_query(fd: BorrowedFd<'_>, handle: u32) -> Result<u64, Errno> {
    let mut point = 0u64;
    let mut argument = uapi::SyncobjTimelineArray {
        handles: std::ptr::from_ref(&handle) as u64,
        points: std::ptr::from_mut(&mut point) as u64,
        count_handles: 1,
        flags: 0,
    };
    // SAFETY: the kernel reads one handle and writes one point, which live through the call.
    unsafe { ioctl::<{ uapi::IOCTL_SYNCOBJ_QUERY }, _>(fd, &mut argument) }.map(|()| point)
}

/// Shared memory that the device may change at any time.
///
/// No reference to it is ever made; it is read and written by relaxed atomic accesses, which may
/// race with the device and with other mappings.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    pointer: NonNull<u8>,
    length: usize,
    origin: Origin,
}

/// Where shared memory is from, and goes back to.
#[derive(Debug)]
enum Origin {
    Mapped,
    Allocated(Layout),
}

// SAFETY: the memory belongs to the process, not to a thread.
unsafe impl Send for SharedMemory {}
// SAFETY: all accesses are atomic.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Maps `length` bytes of a device file.
    pub(crate) fn map(fd: impl AsFd, offset: u64, length: usize) -> Result<Self> {
        // SAFETY: the kernel chooses a free address, so no other memory is touched.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                fd,
                offset,
            )
        };
        match address.map(|address| NonNull::new(address.cast::<u8>())) {
            Ok(Some(pointer)) => Ok(Self {
                pointer,
                length,
                origin: Origin::Mapped,
            }),
            Ok(None) => Err(Error::System {
                operation: Operation::Mmap,
                errno: Errno::FAULT,
            }),
            Err(errno) => Err(Error::System {
                operation: Operation::Mmap,
                errno,
            }),
        }
    }

    /// Takes `length` bytes, at least one, of zeros from the global allocator.
    pub(crate) fn allocate(length: usize) -> Result<Self> {
        // What malloc() aligns to by itself: this is calloc(), and what is large was never touched.
        let layout = Layout::from_size_align(length.max(1), 16).ok();
        // SAFETY: the size is not zero.
        let pointer =
            layout.and_then(|layout| NonNull::new(unsafe { alloc::alloc_zeroed(layout) }));
        match (layout, pointer) {
            (Some(layout), Some(pointer)) => Ok(Self {
                pointer,
                length: layout.size(),
                origin: Origin::Allocated(layout),
            }),
            _ => Err(Error::System {
                operation: Operation::Allocate,
                errno: Errno::NOMEM,
            }),
        }
    }

    /// Its address.
    pub(crate) fn address(&self) -> u64 {
        self.pointer.as_ptr().expose_provenance() as u64
    }

    /// Its size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    fn check(&self, offset: usize, length: usize) -> Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(Error::OutOfRange {
                offset,
                length,
                size: self.length,
            }),
        }
    }

    /// Splits a range that was checked into bytes before, words at, and bytes behind the addresses
    /// that are multiples of 8.
    fn split(&self, offset: usize, length: usize) -> (&[AtomicU8], &[AtomicU64], &[AtomicU8]) {
        assert!(self.check(offset, length).is_ok());
        // SAFETY: the range lies inside the memory, which lives as long as self. Atomics may be
        // shared with whoever else writes.
        let bytes = unsafe {
            slice::from_raw_parts(self.pointer.as_ptr().add(offset).cast::<AtomicU8>(), length)
        };
        // SAFETY: eight atomic bytes at a multiple of 8 are valid as one atomic word.
        unsafe { bytes.align_to() }
    }

    /// Copies bytes in.
    pub(crate) fn write(&self, offset: usize, source: &[u8]) -> Result<()> {
        self.check(offset, source.len())?;
        let (head, words, tail) = self.split(offset, source.len());
        let (first, rest) = source.split_at(head.len());
        let (middle, last) = rest.split_at(words.len() * 8);
        for (to, from) in head.iter().chain(tail).zip(first.iter().chain(last)) {
            to.store(*from, Ordering::Relaxed);
        }
        for (to, from) in words.iter().zip(middle.chunks_exact(8)) {
            let word = u64::from_ne_bytes(from.try_into().expect("a chunk of 8"));
            to.store(word, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Copies bytes out.
    pub(crate) fn read(&self, offset: usize, target: &mut [u8]) -> Result<()> {
        self.check(offset, target.len())?;
        let (head, words, tail) = self.split(offset, target.len());
        let (first, rest) = target.split_at_mut(head.len());
        let (middle, last) = rest.split_at_mut(words.len() * 8);
        for (from, to) in head.iter().chain(tail).zip(first.iter_mut().chain(last)) {
            *to = from.load(Ordering::Relaxed);
        }
        for (from, to) in words.iter().zip(middle.chunks_exact_mut(8)) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_ne_bytes());
        }
        Ok(())
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        match self.origin {
            Origin::Mapped => {
                let pointer = self.pointer.as_ptr().cast::<c_void>();
                // SAFETY: what map() mapped; no reference outlives self. An error could only mean
                // that the range is not what map() returned, which it is.
                let _ = unsafe { rustix::mm::munmap(pointer, self.length) };
            }
            // SAFETY: what allocate() allocated, with this layout; no reference outlives self.
            Origin::Allocated(layout) => unsafe {
                alloc::dealloc(self.pointer.as_ptr(), layout);
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_at_every_alignment() {
        let file = rustix::fs::memfd_create("npu-test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        copies(&SharedMemory::map(&file, 0, 4096).unwrap());
        copies(&SharedMemory::allocate(4096).unwrap());
    }

    fn copies(memory: &SharedMemory) {
        for offset in 0..10 {
            for length in 0..30 {
                memory.write(0, &[0xee; 64]).unwrap();
                let source: Vec<u8> = (1..=length).collect();
                memory.write(offset, &source).unwrap();
                let mut all = [0; 64];
                memory.read(0, &mut all).unwrap();
                let end = offset + source.len();
                assert_eq!(all[offset..end], source);
                assert!(all[..offset].iter().chain(&all[end..]).all(|b| *b == 0xee));
                let mut back = vec![0; source.len()];
                memory.read(offset, &mut back).unwrap();
                assert_eq!(back, source);
            }
        }
        assert!(matches!(
            memory.write(4090, &[0; 7]),
            Err(Error::OutOfRange { .. })
        ));
        assert!(matches!(
            memory.read(usize::MAX, &mut [0; 7]),
            Err(Error::OutOfRange { .. })
        ));
    }
}
