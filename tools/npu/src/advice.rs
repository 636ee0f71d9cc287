// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Advice about ranges of an address space.

use std::ops::Range;

use crate::bind::{Cache, decode_attrs, encode_attrs};
use crate::error::{Operation, Result};
use crate::vm::Vm;
use crate::{sys, uapi};

/// Where pages should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Location {
    /// Wherever they are used.
    #[default]
    Default,
    /// In host memory, on any node.
    Host,
    /// In host memory of a NUMA node.
    HostNode(u32),
    /// In the device's memory.
    Device,
}

impl Location {
    /// As the kernel wants it.
    pub(crate) fn encode(self) -> u64 {
        match self {
            Self::Default => uapi::LOCATION_DEFAULT,
            Self::Host => uapi::LOCATION_HOST,
            Self::HostNode(node) => uapi::location_host_node(node),
            Self::Device => uapi::LOCATION_DEVICE,
        }
    }
}

/// How the device gets at pages that are elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// As the device can.
    #[default]
    Default,
    /// Not at all: an access is an error.
    None,
    /// They come to the device.
    Migrate,
    /// They stay where they are.
    InPlace,
}

/// Which atomic accesses have to work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Atomics {
    /// None have to.
    #[default]
    Undefined,
    /// Among accesses of the device.
    Device,
    /// Among accesses of all devices and the CPU.
    Global,
    /// Among accesses of the CPU.
    Cpu,
}

/// Which pages move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Pages wherever they are.
    #[default]
    All,
    /// Pages in host memory only, not those of another device.
    System,
}

/// How soon pages leave device memory when that is scarce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvictionPriority {
    /// As others.
    #[default]
    Normal,
    /// First.
    First,
    /// Last.
    Last,
}

/// An attribute of a range of addresses, with its value.
///
/// Attributes hold for addresses, whatever is mapped there or is not, until they are set to
/// something else. `enum drm_gmem_attr_kind` in the kernel's header says what each does, and which
/// one comes first where several speak of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attr {
    /// Where pages should be.
    PreferredLocation(Location),
    /// How the device gets at pages that are elsewhere.
    Access(Access),
    /// Each device that reads may have a copy.
    ReadMostly(bool),
    /// The device's mapping is renewed at once when pages move.
    AlwaysMapped(bool),
    /// The device may not write.
    ReadOnly(bool),
    /// The device may fetch commands.
    Exec(bool),
    /// Which atomic accesses have to work.
    Atomics(Atomics),
    /// The logarithm of how many bytes move at a time, 12 to 30; or what the device is best at.
    Granularity(Option<u8>),
    /// Which pages move.
    MigrationPolicy(MigrationPolicy),
    /// Once in device memory, pages stay there.
    Pinned(bool),
    /// How soon pages leave device memory.
    EvictionPriority(EvictionPriority),
    /// When the process unmaps memory, its attributes are reset.
    AutoReset(bool),
    /// When the process's memory grows, so do its attributes.
    Follow(bool),
    /// The NPU's own, as in [`MapOptions`](crate::MapOptions).
    Driver {
        /// Cache policy.
        cache: Cache,
        /// Compression class, 0 to 3.
        compression: u8,
    },
}

impl Attr {
    /// As the kernel wants it.
    pub(crate) fn encode(self) -> uapi::Attr {
        let (kind, value) = match self {
            Self::PreferredLocation(location) => (uapi::ATTR_PREFERRED_LOCATION, location.encode()),
            Self::Access(access) => {
                let value = match access {
                    Access::Default => uapi::ACCESS_DEFAULT,
                    Access::None => uapi::ACCESS_NONE,
                    Access::Migrate => uapi::ACCESS_MIGRATE,
                    Access::InPlace => uapi::ACCESS_IN_PLACE,
                };
                (uapi::ATTR_ACCESS, value)
            }
            Self::ReadMostly(on) => (uapi::ATTR_READ_MOSTLY, on.into()),
            Self::AlwaysMapped(on) => (uapi::ATTR_ALWAYS_MAPPED, on.into()),
            Self::ReadOnly(on) => (uapi::ATTR_READ_ONLY, on.into()),
            Self::Exec(on) => (uapi::ATTR_EXEC, on.into()),
            Self::Atomics(atomics) => {
                let value = match atomics {
                    Atomics::Undefined => uapi::ATOMICS_UNDEFINED,
                    Atomics::Device => uapi::ATOMICS_DEVICE,
                    Atomics::Global => uapi::ATOMICS_GLOBAL,
                    Atomics::Cpu => uapi::ATOMICS_CPU,
                };
                (uapi::ATTR_ATOMICS, value)
            }
            Self::Granularity(log2) => (uapi::ATTR_GRANULARITY, log2.unwrap_or(0).into()),
            Self::MigrationPolicy(policy) => {
                let value = match policy {
                    MigrationPolicy::All => uapi::MIGRATE_ALL,
                    MigrationPolicy::System => uapi::MIGRATE_SYSTEM,
                };
                (uapi::ATTR_MIGRATION_POLICY, value)
            }
            Self::Pinned(on) => (uapi::ATTR_PINNED, on.into()),
            Self::EvictionPriority(priority) => {
                let value = match priority {
                    EvictionPriority::Normal => 0,
                    EvictionPriority::First => 1,
                    EvictionPriority::Last => 2,
                };
                (uapi::ATTR_EVICTION_PRIORITY, value)
            }
            Self::AutoReset(on) => (uapi::ATTR_AUTO_RESET, on.into()),
            Self::Follow(on) => (uapi::ATTR_FOLLOW, on.into()),
            Self::Driver { cache, compression } => {
                (uapi::ATTR_DRIVER, encode_attrs(cache, compression))
            }
        };
        uapi::Attr {
            kind,
            pad: 0,
            value,
        }
    }

    /// As the kernel tells it; none if the attribute or its value is not known here.
    pub(crate) fn decode(kind: u32, value: u64) -> Option<Self> {
        let flag = match value {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        Some(match kind {
            uapi::ATTR_PREFERRED_LOCATION => {
                let node = value as u32;
                Self::PreferredLocation(match value {
                    uapi::LOCATION_DEFAULT => Location::Default,
                    uapi::LOCATION_HOST => Location::Host,
                    uapi::LOCATION_DEVICE => Location::Device,
                    _ if value == uapi::location_host_node(node) => Location::HostNode(node),
                    _ => return None,
                })
            }
            uapi::ATTR_ACCESS => Self::Access(match value {
                uapi::ACCESS_DEFAULT => Access::Default,
                uapi::ACCESS_NONE => Access::None,
                uapi::ACCESS_MIGRATE => Access::Migrate,
                uapi::ACCESS_IN_PLACE => Access::InPlace,
                _ => return None,
            }),
            uapi::ATTR_READ_MOSTLY => Self::ReadMostly(flag?),
            uapi::ATTR_ALWAYS_MAPPED => Self::AlwaysMapped(flag?),
            uapi::ATTR_READ_ONLY => Self::ReadOnly(flag?),
            uapi::ATTR_EXEC => Self::Exec(flag?),
            uapi::ATTR_ATOMICS => Self::Atomics(match value {
                uapi::ATOMICS_UNDEFINED => Atomics::Undefined,
                uapi::ATOMICS_DEVICE => Atomics::Device,
                uapi::ATOMICS_GLOBAL => Atomics::Global,
                uapi::ATOMICS_CPU => Atomics::Cpu,
                _ => return None,
            }),
            uapi::ATTR_GRANULARITY => {
                let log2 = u8::try_from(value).ok()?;
                Self::Granularity((log2 != 0).then_some(log2))
            }
            uapi::ATTR_MIGRATION_POLICY => Self::MigrationPolicy(match value {
                uapi::MIGRATE_ALL => MigrationPolicy::All,
                uapi::MIGRATE_SYSTEM => MigrationPolicy::System,
                _ => return None,
            }),
            uapi::ATTR_PINNED => Self::Pinned(flag?),
            uapi::ATTR_EVICTION_PRIORITY => Self::EvictionPriority(match value {
                0 => EvictionPriority::Normal,
                1 => EvictionPriority::First,
                2 => EvictionPriority::Last,
                _ => return None,
            }),
            uapi::ATTR_AUTO_RESET => Self::AutoReset(flag?),
            uapi::ATTR_FOLLOW => Self::Follow(flag?),
            uapi::ATTR_DRIVER => {
                let (cache, compression) = decode_attrs(value)?;
                Self::Driver { cache, compression }
            }
            _ => return None,
        })
    }
}

impl Vm {
    /// Sets attributes of a range of device addresses, in order, all or none of them; with `reset`
    /// every other one gets its default, otherwise it stays as it is.
    pub fn advise(&self, range: Range<u64>, attrs: &[Attr], reset: bool) -> Result<()> {
        let attrs: Vec<uapi::Attr> = attrs.iter().map(|attr| attr.encode()).collect();
        let advise = uapi::Advise {
            vm_id: self.id(),
            flags: if reset { uapi::ADVISE_RESET } else { 0 },
            va: range.start,
            size: range.end.saturating_sub(range.start),
            ..Default::default()
        };
        self.device()
            .call(Operation::Advise, |fd| sys::advise(fd, advise, &attrs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every attribute, at least once with a value that isn't its default.
    fn all() -> Vec<Attr> {
        let mut all: Vec<Attr> = vec![
            Attr::PreferredLocation(Location::Host),
            Attr::PreferredLocation(Location::HostNode(0)),
            Attr::PreferredLocation(Location::HostNode(u32::MAX)),
            Attr::PreferredLocation(Location::Device),
            Attr::Access(Access::None),
            Attr::Access(Access::Migrate),
            Attr::Access(Access::InPlace),
            Attr::Atomics(Atomics::Device),
            Attr::Atomics(Atomics::Global),
            Attr::Atomics(Atomics::Cpu),
            Attr::Granularity(Some(12)),
            Attr::Granularity(Some(30)),
            Attr::MigrationPolicy(MigrationPolicy::System),
            Attr::EvictionPriority(EvictionPriority::First),
            Attr::EvictionPriority(EvictionPriority::Last),
            Attr::Driver {
                cache: Cache::WriteThrough,
                compression: 3,
            },
        ];
        let flags: [fn(bool) -> Attr; 7] = [
            Attr::ReadMostly,
            Attr::AlwaysMapped,
            Attr::ReadOnly,
            Attr::Exec,
            Attr::Pinned,
            Attr::AutoReset,
            Attr::Follow,
        ];
        all.extend(flags.iter().map(|flag| flag(true)));
        all
    }

    #[test]
    fn attributes_are_decoded_as_they_were_encoded() {
        let mut seen = 0u32;
        for attr in all() {
            let raw = attr.encode();
            assert_ne!(raw.value, 0, "{attr:?}");
            assert_eq!(Attr::decode(raw.kind, raw.value), Some(attr));
            seen |= 1 << raw.kind;
        }
        assert_eq!(seen, (1 << uapi::ATTR_COUNT) - 1);
    }

    #[test]
    fn defaults_are_zero() {
        for kind in 0..uapi::ATTR_COUNT {
            let attr = Attr::decode(kind, 0).unwrap();
            let raw = attr.encode();
            assert_eq!((raw.kind, raw.value), (kind, 0));
        }
        let attr = Attr::PreferredLocation(Location::default());
        assert_eq!(attr.encode().value, 0);
    }

    #[test]
    fn unknown_values_are_noticed() {
        for kind in 0..uapi::ATTR_COUNT {
            assert_eq!(Attr::decode(kind, u64::MAX), None);
            assert_eq!(Attr::decode(kind, 1 << 40), None);
        }
        assert_eq!(Attr::decode(uapi::ATTR_COUNT, 0), None);
        assert_eq!(Attr::decode(uapi::ATTR_PINNED, 2), None);
        assert_eq!(Attr::decode(uapi::ATTR_PREFERRED_LOCATION, 1), None);
        assert_eq!(
            Attr::decode(uapi::ATTR_PREFERRED_LOCATION, uapi::LOCATION_HOST + 1),
            None
        );
    }
}
