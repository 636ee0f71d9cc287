// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Device-local memory: the kernel's buddy allocator over what the driver gave.
//!
//! Owns no contents: whoever hands a block to a process clears it first ([`crate::bo`] does for
//! buffer objects). The allocator's own mutex is taken inside each call and while a block is
//! dropped, so both need process context.

use kernel::{
    gpu::buddy::{
        AllocatedBlocks,
        GpuBuddy,
        GpuBuddyAllocFlags,
        GpuBuddyAllocMode,
        GpuBuddyParams, //
    },
    prelude::*,
    ptr::Alignment,
    sizes::SZ_4K, //
};

/// The local memory of a device.
pub struct Memory {
    buddy: GpuBuddy,
    visible: u64,
    granule: Alignment,
}

impl Memory {
    /// `size` bytes at local address 0, of which the CPU can map the first `visible`, to be handed out
    /// in multiples of `granule`, the device's smallest page.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the granule is not a power of two of at least 4 KiB, a size is not a multiple of it,
    /// `size` is 0 or less than `visible`; `ENOMEM`.
    pub fn new(size: u64, visible: u64, granule: u64) -> Result<Self> {
        let granule = usize::try_from(granule)?;
        let granule = Alignment::new_checked(granule).ok_or(EINVAL)?;
        let unit = granule.as_usize() as u64;
        if unit < SZ_4K as u64 || size == 0 || visible > size || (size | visible) & (unit - 1) != 0
        {
            return Err(EINVAL);
        }
        Ok(Self {
            buddy: GpuBuddy::new(GpuBuddyParams {
                base_offset: 0,
                size,
                chunk_size: granule,
            })?,
            visible,
            granule,
        })
    }

    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.buddy.size()
    }

    /// Bytes, from local address 0, that the CPU can map.
    pub fn visible(&self) -> u64 {
        self.visible
    }

    /// Where the memory ends, or its visible part, as a local address.
    pub(crate) fn end(&self, visible: bool) -> u64 {
        if visible {
            self.visible
        } else {
            self.size()
        }
    }

    /// Bytes free at this moment.
    pub fn free(&self) -> u64 {
        self.buddy.avail()
    }

    /// Allocates `size` bytes, a multiple of the granule, in as few runs as there are; in the visible
    /// part if so asked.
    ///
    /// The contents are whatever they were.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there is not that much, `EINVAL` for a bad size, `ENOMEM` for host memory.
    pub fn alloc(&self, size: u64, visible: bool) -> Result<MemoryBlock> {
        if size == 0 || size & (self.granule.as_usize() as u64 - 1) != 0 {
            return Err(EINVAL);
        }
        if size > self.end(visible) {
            return Err(ENOSPC);
        }
        let mode = if visible {
            GpuBuddyAllocMode::Range(0..self.visible)
        } else {
            // Keep the visible part, which is at the bottom, for those who need it.
            GpuBuddyAllocMode::TopDown
        };
        self.alloc_blocks(mode, size, self.granule)
    }

    /// Allocates `size` bytes, a power of two, as one run that is aligned to it; outside of the visible part if
    /// there is room.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc).
    pub fn alloc_chunk(&self, size: u64) -> Result<MemoryBlock> {
        let alignment = Alignment::new_checked(usize::try_from(size)?).ok_or(EINVAL)?;
        if alignment < self.granule {
            return Err(EINVAL);
        }
        if size > self.size() {
            return Err(ENOSPC);
        }
        self.alloc_blocks(GpuBuddyAllocMode::TopDown, size, alignment)
    }

    fn alloc_blocks(
        &self,
        mode: GpuBuddyAllocMode,
        size: u64,
        least: Alignment,
    ) -> Result<MemoryBlock> {
        let blocks = KBox::pin_init(
            self.buddy
                .alloc_blocks(mode, size, least, GpuBuddyAllocFlags::default()),
            GFP_KERNEL,
        )?;
        Ok(MemoryBlock { blocks })
    }
}

/// Device memory that was allocated; dropping it frees it.
pub struct MemoryBlock {
    blocks: Pin<KBox<AllocatedBlocks>>,
}

impl MemoryBlock {
    /// The runs it consists of: local address and bytes.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.blocks.iter().map(|b| (b.offset(), b.size()))
    }
}

#[kunit_tests(gmem_vm_memory)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_freed_comes_back() -> Result {
        let memory = Memory::new(4 * MIB, MIB, 0x1000)?;
        let a = memory.alloc(3 * MIB, false)?;
        assert_eq!(memory.free(), MIB);
        assert_eq!(a.runs().map(|r| r.1).sum::<u64>(), 3 * MIB);
        assert!(memory.alloc(2 * MIB, false).is_err_and(|e| e == ENOSPC));
        drop(a);
        assert_eq!(memory.free(), 4 * MIB);
        Ok(())
    }

    #[test]
    fn the_visible_part_is_kept_for_those_who_need_it() -> Result {
        let memory = Memory::new(4 * MIB, MIB, 0x1000)?;
        let hidden = memory.alloc(2 * MIB, false)?;
        assert!(hidden.runs().all(|(at, _)| at >= MIB));
        let seen = memory.alloc(MIB, true)?;
        assert!(seen.runs().all(|(at, size)| at + size <= MIB));
        assert!(memory.alloc(0x1000, true).is_err_and(|e| e == ENOSPC));
        assert!(memory.alloc(2 * MIB, true).is_err_and(|e| e == ENOSPC));
        Ok(())
    }

    #[test]
    fn bad_sizes_are_refused() -> Result {
        assert!(Memory::new(0, 0, 0x1000).is_err());
        assert!(Memory::new(MIB, 2 * MIB, 0x1000).is_err());
        let memory = Memory::new(MIB, 0, 0x1_0000)?;
        assert!(memory.alloc(0, false).is_err_and(|e| e == EINVAL));
        assert!(memory.alloc(0x1000, false).is_err_and(|e| e == EINVAL));
        assert!(Memory::new(MIB, 0x1000, 0x1_0000).is_err());
        assert!(Memory::new(MIB, 0, 0x3000).is_err());
        assert!(memory
            .alloc(u64::MAX & !0xffff, false)
            .is_err_and(|e| e == ENOSPC));
        Ok(())
    }
}
