// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Advice about a VM's addresses, and reading back what is there: mappings, where their memory is,
//! and what was advised.

use crate::{
    attach::Process,
    attrs::{
        Attr,
        AttrKind,
        AttrSet, //
    },
    bind::BoBacking,
    driver::{
        Driver,
        MapAttrs, //
    },
    evict::history::Cause,
    kapi::signal::check_killed,
    object::{
        Location,
        ObjectHandle, //
    },
    populate::Order,
    range::VaRange,
    residency::Residency,
    uapi,
    vm::{
        Attrs,
        Space,
        Vm, //
    }, //
};
use kernel::prelude::*;

/// What a part of a range has in common but for its advice.
struct Mapped<'a, D: Driver> {
    range: VaRange,
    /// None where nothing is mapped.
    backing: Option<&'a BoBacking<D>>,
    /// Offset of the range's first address in the object.
    offset: u64,
    residency: u32,
}

impl<D: Driver> Space<D> {
    /// The mapping at the start of a range, as far as its memory is of one kind and it lies in the
    /// range.
    fn mapped(&self, range: VaRange) -> Mapped<'_, D> {
        let nothing = |range| Mapped {
            range,
            backing: None,
            offset: 0,
            residency: 0,
        };
        let Some(entry) = self.mappings.first_overlap(&range) else {
            return nothing(range);
        };
        if let Some(gap) = VaRange::from_bounds(range.start(), entry.range.start()) {
            return nothing(gap);
        }
        let whole = entry.range.intersect(&range).unwrap_or(range);
        let backing = entry.value;
        let all = |offset, residency| Mapped {
            range: whole,
            backing: Some(backing),
            offset,
            residency,
        };
        let Some(handle) = &backing.object else {
            return all(0, 0);
        };
        let offset = backing.offset + (whole.start() - entry.range.start());
        let Some(object) = handle.object() else {
            return all(offset, 0);
        };
        if object.extents().is_empty() {
            // It has left the device.
            return all(offset, uapi::RESIDENT_HOST);
        }
        let kind = |location| match location {
            Location::Device(_) => uapi::RESIDENT_DEVICE,
            Location::Host(_) => uapi::RESIDENT_HOST,
            Location::Sparse => 0,
        };
        let mut runs = object.runs(offset, whole.size()).peekable();
        let first = runs.peek().filter(|run| run.offset == offset);
        let residency = first.map_or(0, |run| kind(run.location));
        let mut end = offset;
        for run in runs {
            if residency == 0 || run.offset != end || kind(run.location) != residency {
                // A hole reaches to the next run.
                end = end.max(if residency == 0 { run.offset } else { end });
                break;
            }
            end = run.offset + run.size;
        }
        if end == offset {
            end = offset + whole.size();
        }
        Mapped {
            range: VaRange::new(whole.start(), end - offset).unwrap_or(whole),
            backing: Some(backing),
            offset,
            residency,
        }
    }

    /// What is to be said of the start of a range, as far as it is the same.
    fn describe(&self, range: VaRange) -> uapi::Range {
        let mapped = self.mapped(range);
        let (advice, part) = self.attrs.get(mapped.range);
        let mut entry = uapi::Range {
            va: part.start(),
            size: part.size(),
            residency: mapped.residency,
            ..Default::default()
        };
        if let Some(backing) = mapped.backing {
            entry.mapping = match backing.object {
                Some(ObjectHandle::Bo(_)) => uapi::MAPPING_BO,
                Some(ObjectHandle::Mirror) => uapi::MAPPING_MIRROR,
                None => uapi::MAPPING_SPARSE,
            };
            if !backing.access.write {
                entry.flags |= uapi::BIND_READONLY;
            }
            if backing.access.exec {
                entry.flags |= uapi::BIND_EXEC;
            }
            entry.bo_offset = mapped.offset;
            entry.attrs = backing.attrs.to_uapi();
        }
        set_advice(&mut entry.advice, &advice);
        entry
    }
}

/// Whether an entry of a mirror is more of the same as the one before it.
fn goes_on(last: &uapi::Range, next: &uapi::Range) -> bool {
    last.mapping == uapi::MAPPING_MIRROR
        && last.mapping == next.mapping
        && last.bo_offset + last.size == next.bo_offset
        && (last.flags, last.residency, last.attrs) == (next.flags, next.residency, next.attrs)
        && last.advice == next.advice
}

fn set_advice(values: &mut [u64; uapi::ADVICE], advice: &AttrSet) {
    for kind in AttrKind::ALL {
        values[kind as usize] = advice.get(kind);
    }
}

impl<D: Driver> Vm<D> {
    /// Sets attributes in a range, in order; all of its others to their defaults, if `reset`.
    ///
    /// What is mirrored there and in the page table is taken out if that says how it has to be, so that it comes
    /// back in the new way as the device touches it. What is pinned now and was not, or the other way round, is brought
    /// to the host.
    ///
    /// Process context, may sleep; takes the VM lock.
    ///
    /// # Errors
    ///
    /// `ENOENT` (VM destroyed), `EIO` (VM unusable), `ENOMEM`, `EPERM` (nothing may be pinned): nothing has changed.
    pub fn advise(&self, range: VaRange, attrs: &[Attr], reset: bool) -> Result {
        let mut space = self.space.lock();
        self.check_space(&space)?;
        self.settle(&mut space)?;
        if attrs.iter().any(|attr| *attr == Attr::PINNED) {
            space.pinned.ask();
        }
        let change = self.change_pinned(
            &mut space,
            range,
            |old| Attr::apply(attrs, reset, old),
            |map| map.advise(range, attrs, reset),
        )?;
        let remembered = self.remember(&mut space, range);
        drop(space);
        if reset || attrs.iter().any(Attr::is_seen_in_page_table) {
            self.forget(range);
        }
        if !change.is_none() {
            self.carry_out(&change);
        }
        remembered
    }

    /// Adds to entries what has become of their memory.
    fn tell(&self, entries: &mut [uapi::Range]) -> Result {
        let Some(pages) = self.device.process_pages() else {
            return Ok(());
        };
        let mirrors = |entry: &&mut uapi::Range| entry.mapping == uapi::MAPPING_MIRROR;
        for entry in entries.iter_mut().filter(mirrors) {
            let range = VaRange::new(entry.va, entry.size)?;
            let told = pages.owner().state().evictor.told(self.number(), range);
            entry.faults = told.faults.into();
            entry.refaults = told.refaults.into();
            entry.evicted = told.cause as u32;
        }
        Ok(())
    }

    /// Takes note that a fault was served.
    pub(crate) fn count_fault(&self, process: &Process<D>, order: &Order<Attrs<D>>) {
        if let Some(pages) = self.device.process_pages() {
            let home = self.home(process, order);
            pages.owner().state().evictor.fault(&home);
        }
    }

    /// Takes note that memory of a range has left the device as someone asked for that.
    pub(crate) fn count_left(&self, range: &VaRange) {
        if let Some(pages) = self.device.process_pages() {
            let mut state = pages.owner().state();
            state.evictor.leave(self.number(), range, Cause::Advice);
        }
    }

    /// Appends to `entries`, as far as there is room, an entry for each part of a range that has all
    /// in common; returns what is left of the range.
    ///
    /// Process context, may sleep; takes the VM lock.
    ///
    /// # Errors
    ///
    /// `ENOENT` (VM destroyed), `EIO` (VM unusable), `EBUSY` (the process's memory changes all the time), `EINTR`
    /// (the process is being killed), `ENOMEM`.
    pub fn query(
        &self,
        range: VaRange,
        entries: &mut KVVec<uapi::Range>,
    ) -> Result<Option<VaRange>> {
        let mut space = self.space.lock();
        self.check_space(&space)?;
        self.settle(&mut space)?;
        let mut looked = Residency::default();
        let mut rest = Some(range);
        while let Some(left) = rest {
            // An area that is all alike is one entry, and as large as the process likes.
            check_killed()?;
            let mut entry = space.describe(left);
            if entry.mapping == uapi::MAPPING_MIRROR {
                let (cpu, size) = (entry.bo_offset, entry.size);
                let (residency, end) = looked.at(self, cpu, cpu + size)?;
                entry.residency = residency;
                entry.size = end - cpu;
            }
            let end = entry.va + entry.size;
            match entries.last_mut().filter(|last| goes_on(last, &entry)) {
                Some(last) => last.size += entry.size,
                None => {
                    if entries.push_within_capacity(entry).is_err() {
                        break;
                    }
                }
            }
            rest = VaRange::from_bounds(end, range.end());
        }
        drop(space);
        self.tell(entries)?;
        Ok(rest)
    }
}
