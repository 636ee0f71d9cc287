// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Buffer objects as the evictor sees them: all that lie in device memory and may leave it.
//!
//! What is known of one are [`Facts`], as of a chunk, so that a [`Policy`] compares both. Memory of an object leaves as a
//! whole ([`BoMemory::spill`]). An object that is new is as one that came long ago; advice says nothing of any.
//!
//! Locks: the device's list of objects, a mutex, which is a leaf.

use super::policy::{
    Clock,
    Facts,
    Policy,
    Priority, //
};
use crate::{
    absent,
    bo_memory::BoMemory,
    device::{
        Device,
        DeviceRef, //
    },
    driver::Driver, //
};
use kernel::{
    drm,
    prelude::*,
    sync::Arc, //
};

/// What memory is worth, by which it is compared.
pub(crate) type Worth = (Priority, u64);

/// An object of the list.
struct Listed<D: Driver> {
    memory: Arc<BoMemory<D>>,
    facts: Facts,
    /// What is accessed now is not what it came for.
    ready: bool,
    /// Who has tried to evict it last, by number.
    tried: u64,
}

/// The objects of a device.
pub(crate) struct Objects<D: Driver>(KVVec<Listed<D>>);

impl<D: Driver> Objects<D> {
    pub(crate) const fn new() -> Self {
        Self(KVVec::new())
    }

    fn find(&mut self, memory: &Arc<BoMemory<D>>) -> Option<&mut Listed<D>> {
        self.0
            .iter_mut()
            .find(|listed| Arc::ptr_eq(&listed.memory, memory))
    }

    /// Facts and bytes of those that are in device memory.
    pub(crate) fn resident(&self) -> impl Iterator<Item = (&Facts, u64)> {
        let there = self
            .0
            .iter()
            .filter(|listed| listed.memory.lowest().is_some());
        there.map(|listed| (&listed.facts, listed.memory.size()))
    }
}

/// Keeps memory of an object in the list of its device.
pub(crate) struct Entry<D: Driver> {
    device: DeviceRef<D>,
    memory: Arc<BoMemory<D>>,
}

impl<D: Driver> Entry<D> {
    /// Adds it to the list. `ENOMEM`.
    pub(crate) fn new(device: &drm::Device<D>, memory: Arc<BoMemory<D>>) -> Result<Self> {
        // Nobody waits for it yet.
        let now = device.clock().now;
        let facts = Facts {
            taken: now,
            filled: 0,
            needed: now,
            ..Facts::default()
        };
        let listed = Listed {
            memory: memory.clone(),
            facts,
            ready: true,
            tried: 0,
        };
        device.objects().lock().0.push(listed, GFP_KERNEL)?;
        Ok(Self {
            device: device.into(),
            memory,
        })
    }

    /// The memory.
    pub(crate) fn memory(&self) -> &Arc<BoMemory<D>> {
        &self.memory
    }
}

impl<D: Driver> Drop for Entry<D> {
    fn drop(&mut self) {
        let gone = {
            let all = &mut self.device.objects().lock().0;
            let at = all
                .iter()
                .position(|listed| Arc::ptr_eq(&listed.memory, &self.memory));
            at.and_then(|at| all.remove(at).ok())
        };
        drop(gone);
    }
}

impl<D: Driver> Device<D> {
    /// The time of its evictor, which begins as something is mirrored, or memory is full.
    fn clock(&self) -> Clock {
        let pages = self.process_pages();
        pages.map_or(Clock::default(), |p| p.owner().state().evictor.clock)
    }

    /// Lets its time go on; returns what it is then.
    pub(crate) fn tick(&self) -> u64 {
        let Some(pages) = self.process_pages() else {
            return 0;
        };
        let clock = &mut pages.owner().state().evictor.clock;
        clock.now += 1;
        clock.now
    }

    /// Takes note that memory of an object came to the device.
    pub(crate) fn object_came(&self, memory: &Arc<BoMemory<D>>) {
        let Some(pages) = self.process_pages() else {
            return;
        };
        let now = {
            let evictor = &mut pages.owner().state().evictor;
            evictor.counts.restored += 1;
            // A block's worth each.
            evictor.came += memory.size();
            let blocks = evictor.came / pages.owner().chunk_bytes();
            evictor.came %= pages.owner().chunk_bytes();
            evictor.clock.now += blocks;
            evictor.clock.now
        };
        if let Some(listed) = self.objects().lock().find(memory) {
            listed.ready = false;
            listed.facts = Facts {
                taken: now,
                filled: now,
                needed: now,
                ..listed.facts
            };
        }
    }

    /// The object that is worth least, was not tried in this round, came before some time, and has memory below a local
    /// address.
    pub(super) fn choose_object(
        device: &drm::Device<D>,
        policy: &dyn Policy,
        round: u64,
        before: u64,
        end: u64,
    ) -> Option<(Worth, Arc<BoMemory<D>>)> {
        let clock = device.clock();
        let all = device.objects().lock();
        let can_fault = D::can_fault(device);
        let there = all.0.iter().filter(|listed| {
            listed.tried < round
                && listed.memory.can_leave(can_fault)
                && listed.facts.filled <= before
                && listed.memory.lowest().is_some_and(|lowest| lowest < end)
        });
        let worth = |facts: &Facts| (facts.priority, policy.worth(facts, &clock));
        let least = there.min_by_key(|listed| worth(&listed.facts))?;
        Some((worth(&least.facts), least.memory.clone()))
    }

    /// Whether an object that is about to be evicted stays for having been accessed since that was last asked.
    pub(super) fn spares_object(
        device: &drm::Device<D>,
        policy: &dyn Policy,
        memory: &Arc<BoMemory<D>>,
    ) -> bool {
        if !absent::was_accessed(device, memory) {
            return false;
        }
        let clock = device.clock();
        let mut all = device.objects().lock();
        let Some(listed) = all.find(memory) else {
            return false;
        };
        let known = listed.facts;
        match core::mem::replace(&mut listed.ready, true) {
            true => policy.accessed(&mut listed.facts, &clock),
            false => listed.facts.needed = clock.now,
        }
        // Else it would be chosen again.
        listed.facts != known
    }

    /// Takes note that someone could not evict an object.
    pub(super) fn object_stayed(&self, memory: &Arc<BoMemory<D>>, round: u64) {
        if let Some(listed) = self.objects().lock().find(memory) {
            listed.tried = round;
        }
    }

    /// Makes an object cold that is the hottest no more: it was not accessed for longer than any chunk was, since a time.
    pub(super) fn age_object(device: &drm::Device<D>, since: u64) {
        let oldest = {
            let all = device.objects().lock();
            let hot = all
                .0
                .iter()
                .filter(|l| l.facts.hot && l.facts.needed < since);
            let oldest = hot.min_by_key(|l| l.facts.needed);
            oldest.map(|l| l.memory.clone())
        };
        let Some(oldest) = oldest else {
            return;
        };
        let accessed = absent::was_accessed(device, &oldest);
        let now = device.clock().now;
        if let Some(listed) = device.objects().lock().find(&oldest) {
            match accessed {
                true => listed.facts.needed = now,
                false => listed.facts.hot = false,
            }
        }
    }

    /// Lets the device have nothing of objects in the host any more: its driver is being unbound.
    pub(crate) fn revoke_objects(device: &drm::Device<D>) {
        let mut all = KVVec::new();
        for listed in &device.objects().lock().0 {
            // What is left out can't be had from the device's driver any more, but in an IOMMU it stays.
            let _ = all.push(listed.memory.clone(), GFP_KERNEL);
        }
        for memory in &all {
            memory.revoke(device);
        }
    }
}
