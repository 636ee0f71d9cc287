// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Changes to what is mapped in an address space, at once or when fences say so.

use std::ops::Range;
use std::sync::Arc;

use crate::bo::Bo;
use crate::device::Inner;
use crate::error::{Error, Operation, Result};
use crate::sync::SyncPoint;
use crate::vm::Vm;
use crate::{sys, uapi};

/// How the device caches a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Reads and writes are cached.
    #[default]
    WriteBack,
    /// Nothing is cached.
    Uncached,
    /// Reads are cached.
    WriteThrough,
}

/// What the device may do with a mapping, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapOptions {
    /// The device may not write.
    pub read_only: bool,
    /// The device may fetch commands.
    pub exec: bool,
    /// Cache policy.
    pub cache: Cache,
    /// Compression class, 0 to 3.
    pub compression: u8,
}

impl MapOptions {
    /// For commands: the device may fetch them but not change them.
    pub const COMMANDS: Self = Self {
        read_only: true,
        exec: true,
        cache: Cache::WriteBack,
        compression: 0,
    };

    /// As the kernel tells it of a mapping; none if it has bits that have no name here.
    pub(crate) fn decode(flags: u32, attrs: u64) -> Option<Self> {
        let (cache, compression) = decode_attrs(attrs)?;
        (flags & !(uapi::BIND_READONLY | uapi::BIND_EXEC) == 0).then_some(Self {
            read_only: flags & uapi::BIND_READONLY != 0,
            exec: flags & uapi::BIND_EXEC != 0,
            cache,
            compression,
        })
    }

    fn flags(self) -> u32 {
        u32::from(self.read_only) * uapi::BIND_READONLY + u32::from(self.exec) * uapi::BIND_EXEC
    }

    fn attrs(self) -> u64 {
        encode_attrs(self.cache, self.compression)
    }
}

/// The driver's own attributes.
pub(crate) fn encode_attrs(cache: Cache, compression: u8) -> u64 {
    let cache = match cache {
        Cache::WriteBack => uapi::ATTR_CACHE_WRITE_BACK,
        Cache::Uncached => uapi::ATTR_CACHE_UNCACHED,
        Cache::WriteThrough => uapi::ATTR_CACHE_WRITE_THROUGH,
    };
    cache | uapi::attr_compression(compression)
}

/// The driver's own attributes, if they are known here.
pub(crate) fn decode_attrs(attrs: u64) -> Option<(Cache, u8)> {
    let cache = match attrs & 3 {
        uapi::ATTR_CACHE_WRITE_BACK => Cache::WriteBack,
        uapi::ATTR_CACHE_UNCACHED => Cache::Uncached,
        uapi::ATTR_CACHE_WRITE_THROUGH => Cache::WriteThrough,
        _ => return None,
    };
    let compression = u8::try_from(attrs >> 2).ok().filter(|class| *class < 4)?;
    Some((cache, compression))
}

/// A bind queue: what is committed to it is done in order, and apart from what is committed to
/// others.
///
/// Changes of different queues are done in the order of their commits as well where they touch the
/// same range, in largest pages. Dropping it loses nothing: what was committed will be done.
#[derive(Debug)]
pub struct BindQueue {
    device: Arc<Inner>,
    id: u32,
}

impl BindQueue {
    /// Creates a bind queue of an address space.
    pub fn new(vm: &Vm) -> Result<Self> {
        let argument = uapi::BindQueueCreate {
            vm_id: vm.id(),
            ..Default::default()
        };
        let created = vm.device().call(Operation::BindQueueCreate, |fd| {
            sys::bind_queue_create(fd, argument)
        })?;
        Ok(Self {
            device: vm.device().clone(),
            id: created.queue_id,
        })
    }

    /// Its id, unique in its device file.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for BindQueue {
    fn drop(&mut self) {
        // It fails only if the device or the address space is gone, and the queue with it.
        let _ = sys::bind_queue_destroy(
            self.device.fd(),
            uapi::BindQueueDestroy {
                queue_id: self.id,
                pad: 0,
            },
        );
    }
}

/// Changes to an address space, made together by [`Bind::commit`] or [`Bind::commit_async`]: all of
/// them or none.
#[derive(Debug)]
#[must_use = "nothing changes before commit() or commit_async()"]
pub struct Bind<'a> {
    vm: &'a Vm,
    queue: Option<&'a BindQueue>,
    ops: Vec<Op>,
    syncs: Vec<(SyncPoint<'a>, u32)>,
}

/// An operation, and the error that will be reported for it if it can't even be asked for.
type Op = Result<uapi::BindOp, &'static str>;

impl<'a> Bind<'a> {
    pub(crate) fn new(vm: &'a Vm) -> Self {
        Self {
            vm,
            queue: None,
            ops: Vec::new(),
            syncs: Vec::new(),
        }
    }

    /// Maps all of a buffer at `va`.
    pub fn map(self, bo: &Bo, va: u64, options: MapOptions) -> Self {
        self.map_part(bo, 0..bo.size(), va, options)
    }

    /// Maps a part of a buffer at `va`.
    pub fn map_part(mut self, bo: &Bo, part: Range<u64>, va: u64, options: MapOptions) -> Self {
        self.ops
            .push(if Arc::ptr_eq(bo.device(), self.vm.device()) {
                Ok(uapi::BindOp {
                    op: uapi::BIND_OP_MAP_BO,
                    flags: options.flags(),
                    handle: bo.handle(),
                    pad: 0,
                    va,
                    size: part.end.saturating_sub(part.start),
                    bo_offset: part.start,
                    attrs: options.attrs(),
                })
            } else {
                Err("the buffer")
            });
        self
    }

    /// Unmaps a range.
    pub fn unmap(mut self, range: Range<u64>) -> Self {
        self.ops.push(Ok(uapi::BindOp {
            op: uapi::BIND_OP_UNMAP,
            va: range.start,
            size: range.end.saturating_sub(range.start),
            ..Default::default()
        }));
        self
    }

    /// Lets the device read zeros in a range and write what vanishes, without memory behind it.
    pub fn sparse(self, range: Range<u64>) -> Self {
        self.map_sparse(range, 0)
    }

    /// Lets the device read zeros in a range, and not write.
    pub fn sparse_read_only(self, range: Range<u64>) -> Self {
        self.map_sparse(range, uapi::BIND_READONLY)
    }

    fn map_sparse(mut self, range: Range<u64>, flags: u32) -> Self {
        self.ops.push(Ok(uapi::BindOp {
            op: uapi::BIND_OP_MAP_SPARSE,
            flags,
            va: range.start,
            size: range.end.saturating_sub(range.start),
            ..Default::default()
        }));
        self
    }

    /// Lets the device see a range of this process's own addresses at `va`, whatever is or will be
    /// mapped there: [`Vm::map_mirror`](crate::Vm::map_mirror) says more.
    pub fn mirror(mut self, cpu: Range<u64>, va: u64, options: MapOptions) -> Self {
        self.ops.push(Ok(uapi::BindOp {
            op: uapi::BIND_OP_MAP_MIRROR,
            flags: options.flags(),
            handle: 0,
            pad: 0,
            va,
            size: cpu.end.saturating_sub(cpu.start),
            bo_offset: cpu.start,
            attrs: options.attrs(),
        }));
        self
    }

    /// Makes them in a queue; without this, in the one that every address space has.
    pub fn on(mut self, queue: &'a BindQueue) -> Self {
        self.queue = Some(queue);
        self
    }

    /// The changes are not made before this is signalled. Something must have been submitted for
    /// it.
    pub fn wait_for(mut self, point: impl Into<SyncPoint<'a>>) -> Self {
        self.syncs.push((point.into(), 0));
        self
    }

    /// This is signalled when the device uses the new mappings only.
    pub fn signal(mut self, point: impl Into<SyncPoint<'a>>) -> Self {
        self.syncs.push((point.into(), uapi::SYNC_SIGNAL));
        self
    }

    /// Makes the changes. When it returns, the device uses the new mappings only.
    ///
    /// With an error nothing has changed, but for two: if a signal handler ran while it waited for
    /// others ([`Errno::INTR`](rustix::io::Errno::INTR)), the changes are queued and will be made;
    /// and if the device failed to confirm them (`IO`), the address space is unusable.
    pub fn commit(self) -> Result<()> {
        self.submit(0)
    }

    /// Queues the changes. They will be made when all that was committed to the same queue before is
    /// done, and all is signalled that they [wait for](Self::wait_for); what they
    /// [signal](Self::signal) tells when that was.
    ///
    /// With an error nothing has changed and nothing will be signalled.
    pub fn commit_async(self) -> Result<()> {
        self.submit(uapi::BIND_ASYNC)
    }

    fn submit(self, flags: u32) -> Result<()> {
        let device = self.vm.device();
        if self.queue.is_some_and(|q| !Arc::ptr_eq(device, &q.device)) {
            return Err(Error::OtherDevice {
                what: "the bind queue",
            });
        }
        let ops: Vec<uapi::BindOp> = self
            .ops
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|what| Error::OtherDevice { what })?;
        let syncs: Vec<uapi::Sync> = self
            .syncs
            .iter()
            .map(|(point, flags)| point.encode(device, *flags))
            .collect::<Result<_>>()?;
        let bind = uapi::Bind {
            vm_id: self.vm.id(),
            flags,
            queue_id: self.queue.map_or(0, BindQueue::id),
            ..Default::default()
        };
        device.call(Operation::Bind, |fd| sys::bind(fd, bind, &ops, &syncs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_encoded_as_the_header_says() {
        let options = MapOptions::default();
        assert_eq!((options.flags(), options.attrs()), (0, 0));
        let options = MapOptions::COMMANDS;
        assert_eq!((options.flags(), options.attrs()), (3, 0));
        let options = MapOptions {
            exec: true,
            cache: Cache::WriteThrough,
            compression: 3,
            ..Default::default()
        };
        assert_eq!((options.flags(), options.attrs()), (2, 0b1110));
    }

    #[test]
    fn options_are_decoded_as_they_were_encoded() {
        for cache in [Cache::WriteBack, Cache::Uncached, Cache::WriteThrough] {
            for bits in 0..16 {
                let options = MapOptions {
                    read_only: bits & 1 != 0,
                    exec: bits & 2 != 0,
                    cache,
                    compression: bits >> 2,
                };
                let decoded = MapOptions::decode(options.flags(), options.attrs());
                assert_eq!(decoded, Some(options));
            }
        }
        assert_eq!(MapOptions::decode(4, 0), None);
        assert_eq!(MapOptions::decode(0, 3), None);
        assert_eq!(MapOptions::decode(0, 16), None);
        assert_eq!(MapOptions::decode(0, 1 << 63), None);
    }
}
