// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What a submission waits for and what it signals: arrays of `struct drm_gmem_sync`.
//!
//! Reading the array does all that can fail, so that nothing has to be allocated once the fence is
//! published.

use crate::{
    kapi::{
        dma_fence::Fence,
        syncobj::{
            ChainNode,
            SyncObj, //
        },
        user, //
    },
    uapi, //
};
use kernel::{
    drm,
    prelude::*,
    sync::aref::ARef, //
};

/// Most entries of an array.
pub const MAX_SYNCS: u32 = 64;

/// A point that will carry a fence.
enum Signal {
    Binary(ARef<SyncObj>),
    Point(ARef<SyncObj>, ChainNode, u64),
}

/// A parsed array.
pub struct Syncs {
    waits: KVec<ARef<Fence>>,
    signals: KVec<Signal>,
}

impl Syncs {
    /// Waits for nothing and signals nothing.
    pub const fn none() -> Self {
        Self {
            waits: KVec::new(),
            signals: KVec::new(),
        }
    }

    /// Reads an array of `count` entries at a user address.
    ///
    /// # Errors
    ///
    /// `EINVAL` (more than [`MAX_SYNCS`]; an address without entries; an unknown flag; a zero
    /// timeline point, a non-zero binary one; a wait for what nobody submitted), `ENOENT` (handle),
    /// `EFAULT`, `ENOMEM`.
    pub fn read<F: drm::file::DriverFile>(
        file: &drm::File<F>,
        address: u64,
        count: u32,
    ) -> Result<Self> {
        let mut syncs = Self {
            waits: KVec::new(),
            signals: KVec::new(),
        };
        if count > MAX_SYNCS || (count == 0 && address != 0) {
            return Err(EINVAL);
        }
        for entry in user::read_array::<uapi::Sync>(address, count as usize)? {
            let timeline = entry.flags & uapi::SYNC_TIMELINE != 0;
            if entry.flags & !(uapi::SYNC_SIGNAL | uapi::SYNC_TIMELINE) != 0
                || timeline != (entry.point != 0)
            {
                return Err(EINVAL);
            }
            if entry.flags & uapi::SYNC_SIGNAL == 0 {
                let fence = SyncObj::find_fence(file, entry.handle, entry.point)?;
                syncs.waits.push(fence, GFP_KERNEL)?;
                continue;
            }
            let syncobj = SyncObj::find(file, entry.handle)?;
            let signal = if timeline {
                Signal::Point(syncobj, ChainNode::new()?, entry.point)
            } else {
                Signal::Binary(syncobj)
            };
            syncs.signals.push(signal, GFP_KERNEL)?;
        }
        Ok(syncs)
    }

    /// Takes the fences to wait for.
    pub fn take_waits(&mut self) -> KVec<ARef<Fence>> {
        core::mem::take(&mut self.waits)
    }

    /// Publishes a fence in every point that shall be signalled. Cannot fail and does not allocate.
    pub fn publish(&mut self, fence: &Fence) {
        for signal in core::mem::take(&mut self.signals) {
            match signal {
                Signal::Binary(syncobj) => syncobj.replace_fence(Some(fence)),
                Signal::Point(syncobj, node, point) => syncobj.add_point(node, fence, point),
            }
        }
    }
}
