// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Reading back what is mapped in an address space, where it is, and what was advised.

use std::ops::Range;

use crate::advice::Attr;
use crate::bind::MapOptions;
use crate::error::{Error, Operation, Result};
use crate::vm::Vm;
use crate::{sys, uapi};

/// Entries asked for at a time.
const CHUNK: usize = 64;

/// Where memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// Nowhere.
    Nowhere,
    /// In host memory.
    Host,
    /// In the device's memory.
    Device,
}

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// Nothing.
    Nothing,
    /// A buffer.
    Bo {
        /// Where in the buffer the range begins.
        offset: u64,
        /// Where the buffer's memory is.
        residency: Residency,
        /// How it was mapped.
        options: MapOptions,
    },
    /// Memory of the process that the address space is attached to.
    Mirror {
        /// The CPU's address where the range begins.
        address: u64,
        /// Where the memory is.
        residency: Residency,
        /// How it was mapped.
        options: MapOptions,
    },
    /// No memory: reads give zero, writes vanish.
    Sparse {
        /// The device may not write.
        read_only: bool,
    },
}

/// Why memory has left the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// Memory of a process needed room.
    Memory,
    /// A buffer, or a page table, needed room.
    Object,
    /// By prefetch to the host, or as was advised.
    Advice,
    /// The CPU accessed it.
    Cpu,
}

/// What is known of device addresses that have all in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeInfo {
    /// The addresses.
    pub range: Range<u64>,
    /// What is mapped there.
    pub mapped: Mapped,
    /// What was advised, by kind; attributes that have their defaults are left out.
    pub advice: Vec<Attr>,
    /// Of a mirror, faults of the device that were served. This and what follows is of all blocks
    /// that have some of the range, as far as the kernel remembers them.
    pub faults: u64,
    /// Of a mirror, how often blocks came to the device again after they had been evicted.
    pub refaults: u64,
    /// Of a mirror, why memory has last left the device; none if it has not, or it was forgotten.
    pub evicted: Option<Evicted>,
}

impl RangeInfo {
    fn decode(raw: &uapi::RangeEntry) -> Result<Self> {
        let unknown = |what, value| Error::Unknown { what, value };
        let options = MapOptions::decode(raw.flags, raw.attrs)
            .ok_or(unknown("attribute of a mapping", raw.attrs))?;
        let residency = match raw.residency {
            uapi::RESIDENT_NOWHERE => Residency::Nowhere,
            uapi::RESIDENT_HOST => Residency::Host,
            uapi::RESIDENT_DEVICE => Residency::Device,
            other => return Err(unknown("residency", other.into())),
        };
        let mapped = match raw.mapping {
            uapi::MAPPING_NONE => Mapped::Nothing,
            uapi::MAPPING_BO => Mapped::Bo {
                offset: raw.bo_offset,
                residency,
                options,
            },
            uapi::MAPPING_MIRROR => Mapped::Mirror {
                address: raw.bo_offset,
                residency,
                options,
            },
            uapi::MAPPING_SPARSE => Mapped::Sparse {
                read_only: options.read_only,
            },
            other => return Err(unknown("kind of mapping", other.into())),
        };
        let evicted = match raw.evicted {
            uapi::EVICTED_NEVER => None,
            uapi::EVICTED_MEMORY => Some(Evicted::Memory),
            uapi::EVICTED_OBJECT => Some(Evicted::Object),
            uapi::EVICTED_ADVICE => Some(Evicted::Advice),
            uapi::EVICTED_CPU => Some(Evicted::Cpu),
            other => return Err(unknown("reason of eviction", other.into())),
        };
        let advice = (0..)
            .zip(raw.advice)
            .filter(|(_, value)| *value != 0)
            .map(|(kind, value)| Attr::decode(kind, value).ok_or(unknown("advice", value)))
            .collect::<Result<_>>()?;
        Ok(Self {
            range: raw.va..raw.va + raw.size,
            mapped,
            advice,
            faults: raw.faults,
            refaults: raw.refaults,
            evicted,
        })
    }
}

impl Vm {
    /// Tells what is mapped in a range of device addresses, where it is, and what was advised: an
    /// entry for each part that has all in common, by address, also for what is not mapped.
    /// What was [committed](crate::Bind::commit_async) counts as done.
    ///
    /// Changes made meanwhile by others show in some entries or in none.
    pub fn query_range(&self, range: Range<u64>) -> Result<Vec<RangeInfo>> {
        let mut infos = Vec::new();
        let mut query = uapi::QueryRange {
            vm_id: self.id(),
            va: range.start,
            size: range.end.saturating_sub(range.start),
            ..Default::default()
        };
        let mut entries = [uapi::RangeEntry::default(); CHUNK];
        loop {
            query = self.device().call(Operation::QueryRange, |fd| {
                sys::query_range(fd, query, &mut entries)
            })?;
            for entry in entries.iter().take(query.num_ranges as usize) {
                infos.push(RangeInfo::decode(entry)?);
            }
            if query.size == 0 {
                return Ok(infos);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::Cache;

    #[test]
    fn entries_are_decoded() {
        let mut raw = uapi::RangeEntry {
            va: 0x1000,
            size: 0x3000,
            mapping: uapi::MAPPING_BO,
            flags: uapi::BIND_READONLY,
            residency: uapi::RESIDENT_DEVICE,
            bo_offset: 0x7000,
            attrs: uapi::ATTR_CACHE_UNCACHED,
            ..Default::default()
        };
        raw.advice[uapi::ATTR_PINNED as usize] = 1;
        raw.advice[uapi::ATTR_GRANULARITY as usize] = 21;
        let info = RangeInfo::decode(&raw).unwrap();
        assert_eq!(info.range, 0x1000..0x4000);
        assert_eq!(
            info.mapped,
            Mapped::Bo {
                offset: 0x7000,
                residency: Residency::Device,
                options: MapOptions {
                    read_only: true,
                    cache: Cache::Uncached,
                    ..Default::default()
                },
            }
        );
        assert_eq!(
            info.advice,
            [Attr::Granularity(Some(21)), Attr::Pinned(true)]
        );

        raw.mapping = uapi::MAPPING_MIRROR;
        (raw.faults, raw.refaults, raw.evicted) = (3, 2, uapi::EVICTED_CPU);
        let told = RangeInfo::decode(&raw).unwrap();
        assert_eq!((told.faults, told.refaults), (3, 2));
        assert_eq!(told.evicted, Some(Evicted::Cpu));
        raw.residency = uapi::RESIDENT_NOWHERE;
        assert_eq!(
            RangeInfo::decode(&raw).unwrap().mapped,
            Mapped::Mirror {
                address: 0x7000,
                residency: Residency::Nowhere,
                options: MapOptions {
                    read_only: true,
                    cache: Cache::Uncached,
                    ..Default::default()
                },
            }
        );

        let raw = uapi::RangeEntry {
            size: 0x1000,
            mapping: uapi::MAPPING_SPARSE,
            flags: uapi::BIND_READONLY,
            ..Default::default()
        };
        let info = RangeInfo::decode(&raw).unwrap();
        assert_eq!(info.mapped, Mapped::Sparse { read_only: true });
        assert!(info.advice.is_empty());
    }

    #[test]
    fn what_is_unknown_is_an_error() {
        let raw = uapi::RangeEntry::default();
        assert_eq!(RangeInfo::decode(&raw).unwrap().mapped, Mapped::Nothing);
        let mut bad = [raw; 6];
        bad[0].mapping = 4;
        bad[1].residency = 3;
        bad[2].flags = 4;
        bad[3].attrs = 3;
        bad[4].advice[15] = 1;
        bad[5].evicted = 5;
        for raw in &bad {
            assert!(matches!(RangeInfo::decode(raw), Err(Error::Unknown { .. })));
        }
    }
}
