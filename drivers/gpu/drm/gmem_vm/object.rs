// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The generic vm_object: what can be mapped.
//!
//! An [`Object`] holds the *logical page table*: for every offset, where the data is, as extents of
//! what is contiguous, never as an array of pages. What fills it is its *pager*: the buffer
//! object and the imported dma-buf ([`crate::bo`]). Memory of a process is where the process says at each
//! moment, so its extents are kept with the page table that has them ([`crate::mirror`]). An offset without an extent is nowhere.
//!
//! Takes no locks. Of a buffer object whose memory moves there is another [`Object`] each time; an old one says where it was.

use crate::{
    bo::BoObject,
    bo_memory::BoMemory,
    driver::Driver,
    mapping::ObjectRef,
    range::VaRange, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// Where a run of bytes is, as the device addresses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Location {
    /// In this device's memory, at this local address in bytes.
    Device(u64),
    /// In host memory, at this DMA address.
    Host(u64),
    /// In no memory: reads give zero, writes vanish.
    Sparse,
}

impl Location {
    /// The address, whichever memory it is in; 0 if it is in none.
    pub const fn address(self) -> u64 {
        match self {
            Self::Device(a) | Self::Host(a) => a,
            Self::Sparse => 0,
        }
    }

    /// The place `bytes` further on in the same run.
    pub const fn advance(self, bytes: u64) -> Self {
        match self {
            Self::Device(a) => Self::Device(a + bytes),
            Self::Host(a) => Self::Host(a + bytes),
            Self::Sparse => Self::Sparse,
        }
    }
}

/// What a mapping of driver `D` shows.
pub enum ObjectHandle<D: Driver> {
    /// A buffer object.
    Bo(ARef<BoObject<D>>),
    /// The memory of the process that the VM is attached to, by its addresses. Where it is changes all the time:
    /// [`crate::mirror`] keeps book of it.
    Mirror,
}

impl<D: Driver> ObjectHandle<D> {
    /// The logical page table as it is now. None of a mirror, which has none of its own.
    pub fn object(&self) -> Option<Arc<Object>> {
        match self {
            Self::Bo(bo) => bo.object(),
            Self::Mirror => None,
        }
    }

    /// The memory, if it may leave the device.
    pub(crate) fn memory(&self) -> Option<&Arc<BoMemory<D>>> {
        match self {
            Self::Bo(bo) => bo.memory(),
            Self::Mirror => None,
        }
    }
}

impl<D: Driver> Clone for ObjectHandle<D> {
    fn clone(&self) -> Self {
        match self {
            Self::Bo(bo) => Self::Bo(bo.clone()),
            Self::Mirror => Self::Mirror,
        }
    }
}

impl<D: Driver> ObjectRef for ObjectHandle<D> {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bo(a), Self::Bo(b)) => core::ptr::eq(&**a, &**b),
            (Self::Mirror, Self::Mirror) => true,
            _ => false,
        }
    }
}

/// A run of an object that is contiguous where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Offset into the object, in bytes.
    pub offset: u64,
    /// Where the first byte is.
    pub location: Location,
    /// Bytes, not zero.
    pub size: u64,
}

/// The logical page table of something that can be mapped.
///
/// # Invariants
///
/// Extents are sorted by offset and do not overlap; neighbours that continue each other, in the
/// object and where they lie, are one extent.
#[derive(Default)]
pub struct Object {
    extents: KVVec<Extent>,
}

impl Object {
    /// An object all of which is nowhere.
    pub const fn new() -> Self {
        Self {
            extents: KVVec::new(),
        }
    }

    /// An object of `size` bytes of host memory in runs of a DMA address and a size in bytes, in order,
    /// for a device whose smallest page is `granule`. What is behind `size` is left out.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the runs are less than `size`; `EOPNOTSUPP` if what is contiguous does not begin and
    /// end at multiples of the granule, in the object and where it is: the device can't map it;
    /// `ENOMEM`.
    pub fn of_host_memory(
        size: u64,
        granule: u64,
        runs: impl Iterator<Item = (u64, u64)>,
    ) -> Result<Self> {
        let mut object = Self::new();
        let mut offset = 0;
        for (address, bytes) in runs {
            let bytes = bytes.min(size - offset);
            if bytes != 0 {
                object.push(Extent {
                    offset,
                    location: Location::Host(address),
                    size: bytes,
                })?;
                offset += bytes;
            }
        }
        if offset < size {
            return Err(EINVAL);
        }
        // Only now: runs that are smaller than the granule may continue each other.
        let unaligned =
            |e: &Extent| (e.offset | e.location.address() | e.size) & (granule - 1) != 0;
        if object.extents.iter().any(unaligned) {
            return Err(EOPNOTSUPP);
        }
        Ok(object)
    }

    /// Adds a run behind all others, merging it with the last if it continues that one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if the run is empty or begins before the end of the last one.
    pub fn push(&mut self, extent: Extent) -> Result {
        if extent.size == 0 {
            return Err(EINVAL);
        }
        if let Some(last) = self.extents.last_mut() {
            let end = last.offset + last.size;
            if extent.offset < end {
                return Err(EINVAL);
            }
            if extent.offset == end && last.location.advance(last.size) == extent.location {
                // INVARIANT: The last extent grows by the run that continues it.
                last.size += extent.size;
                return Ok(());
            }
        }
        // INVARIANT: Behind the last extent and not its continuation.
        self.extents.push(extent, GFP_KERNEL)?;
        Ok(())
    }

    /// All extents, in order.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The extents of `size` bytes from `offset`, cut at both ends, in order.
    pub fn runs(&self, offset: u64, size: u64) -> impl Iterator<Item = Extent> + '_ {
        let wanted = VaRange::from_bounds(offset, offset.saturating_add(size));
        let first = self
            .extents
            .partition_point(|e| e.offset + e.size <= offset);
        self.extents[first..].iter().map_while(move |e| {
            let have = VaRange::from_bounds(e.offset, e.offset + e.size)?;
            let cut = have.intersect(&wanted?)?;
            Some(Extent {
                offset: cut.start(),
                location: e.location.advance(cut.start() - e.offset),
                size: cut.size(),
            })
        })
    }
}

#[kunit_tests(gmem_vm_object)]
mod tests {
    use super::{
        Location::{
            Device,
            Host, //
        },
        *, //
    };

    fn extent(offset: u64, location: Location, size: u64) -> Extent {
        Extent {
            offset,
            location,
            size,
        }
    }

    #[test]
    fn neighbours_merge_only_if_contiguous() -> Result {
        let mut o = Object::new();
        o.push(extent(0, Device(0x10000), 0x1000))?;
        o.push(extent(0x1000, Device(0x11000), 0x1000))?;
        assert_eq!(o.extents().len(), 1);
        // The same address in other memory, a gap in the address, a hole in the object.
        o.push(extent(0x2000, Host(0x12000), 0x1000))?;
        o.push(extent(0x3000, Host(0x14000), 0x1000))?;
        o.push(extent(0x5000, Host(0x15000), 0x1000))?;
        assert_eq!(o.extents().len(), 4);
        Ok(())
    }

    #[test]
    fn disorder_is_refused() -> Result {
        let mut o = Object::new();
        o.push(extent(0x1000, Device(0), 0x2000))?;
        assert!(o.push(extent(0x2000, Device(0), 0x1000)).is_err());
        assert!(o.push(extent(0, Device(0), 0x1000)).is_err());
        assert!(o.push(extent(0x3000, Device(0), 0)).is_err());
        Ok(())
    }

    #[test]
    fn host_memory_merges_before_it_is_checked() -> Result {
        const PAGE: u64 = 0x1000;
        const GRANULE: u64 = 0x10000;
        // Sixteen pages in a row, and sixteen elsewhere.
        let runs = (0..32).map(|i| {
            (
                (if i < 16 { 0x40_0000 } else { 0x20_0000 }) + i * PAGE,
                PAGE,
            )
        });
        let o = Object::of_host_memory(2 * GRANULE, GRANULE, runs)?;
        assert_eq!(
            o.extents(),
            [
                extent(0, Host(0x40_0000), GRANULE),
                extent(GRANULE, Host(0x21_0000), GRANULE),
            ]
        );
        Ok(())
    }

    #[test]
    fn host_memory_must_be_whole_pages_of_the_device() {
        let errno = |size, runs: &[(u64, u64)]| {
            Object::of_host_memory(size, 0x10000, runs.iter().copied())
                .err()
                .map(|e| e.to_errno())
        };
        let unsupported = Some(EOPNOTSUPP.to_errno());
        assert_eq!(
            errno(0x20000, &[(0x10000, 0x10000), (0x50000, 0x10000)]),
            None
        );
        // Scattered within a page, at half a page, of half a page.
        assert_eq!(
            errno(0x10000, &[(0x10000, 0x8000), (0x58000, 0x8000)]),
            unsupported
        );
        assert_eq!(errno(0x10000, &[(0x18000, 0x10000)]), unsupported);
        assert_eq!(errno(0x8000, &[(0x10000, 0x8000)]), unsupported);
    }

    #[test]
    fn host_memory_is_as_large_as_it_should_be() -> Result {
        let runs = [(0x10000, 0x10000), (0x50000, 0), (0x90000, 0x30000)];
        let o = Object::of_host_memory(0x20000, 0x10000, runs.into_iter())?;
        assert_eq!(
            o.extents(),
            [
                extent(0, Host(0x10000), 0x10000),
                extent(0x10000, Host(0x90000), 0x10000),
            ]
        );
        let less = Object::of_host_memory(0x50000, 0x10000, runs.into_iter());
        assert_eq!(less.err().map(|e| e.to_errno()), Some(EINVAL.to_errno()));
        Ok(())
    }

    #[test]
    fn runs_are_cut() -> Result {
        let mut o = Object::new();
        o.push(extent(0, Device(0x10000), 0x4000))?;
        o.push(extent(0x4000, Host(0x80000), 0x4000))?;
        let mut runs = o.runs(0x3000, 0x2000);
        assert_eq!(runs.next(), Some(extent(0x3000, Device(0x13000), 0x1000)));
        assert_eq!(runs.next(), Some(extent(0x4000, Host(0x80000), 0x1000)));
        assert_eq!(runs.next(), None);
        assert_eq!(o.runs(0x8000, 0x1000).count(), 0);
        assert_eq!(o.runs(0, 0).count(), 0);
        Ok(())
    }
}
