// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Advice about a VM's addresses, and reading back what is there: mappings, where their memory is,
//! and what was advised.

use crate::{
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
    object::Location,
    range::VaRange,
    uapi,
    vm::{
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
        let Some(object) = &backing.object else {
            return Mapped {
                range: whole,
                backing: Some(backing),
                offset: 0,
                residency: 0,
            };
        };
        let offset = backing.offset + (whole.start() - entry.range.start());
        let kind = |location| match location {
            Location::Device(_) => uapi::RESIDENT_DEVICE,
            Location::Host(_) => uapi::RESIDENT_HOST,
            Location::Sparse => 0,
        };
        let mut runs = object.object().runs(offset, whole.size()).peekable();
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
                Some(_) => uapi::MAPPING_BO,
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

fn set_advice(values: &mut [u64; uapi::ADVICE], advice: &AttrSet) {
    for kind in AttrKind::ALL {
        values[kind as usize] = advice.get(kind);
    }
}

impl<D: Driver> Vm<D> {
    /// Sets attributes in a range, in order; all of its others to their defaults, if `reset`.
    ///
    /// Process context, may sleep; takes the VM lock.
    ///
    /// # Errors
    ///
    /// `ENOENT` (VM destroyed), `EIO` (VM unusable), `ENOMEM`: nothing has changed.
    pub fn advise(&self, range: VaRange, attrs: &[Attr], reset: bool) -> Result {
        let mut space = self.space.lock();
        self.check_space(&space)?;
        space.attrs.advise(range, attrs, reset)
    }

    /// Appends to `entries`, as far as there is room, an entry for each part of a range that has all
    /// in common; returns what is left of the range.
    ///
    /// Process context, may sleep; takes the VM lock.
    ///
    /// # Errors
    ///
    /// `ENOENT` (VM destroyed), `EIO` (VM unusable).
    pub fn query(
        &self,
        range: VaRange,
        entries: &mut KVVec<uapi::Range>,
    ) -> Result<Option<VaRange>> {
        let space = self.space.lock();
        self.check_space(&space)?;
        let mut rest = Some(range);
        while let Some(left) = rest {
            let entry = space.describe(left);
            let end = entry.va + entry.size;
            if entries.push_within_capacity(entry).is_err() {
                break;
            }
            rest = VaRange::from_bounds(end, range.end());
        }
        Ok(rest)
    }
}
