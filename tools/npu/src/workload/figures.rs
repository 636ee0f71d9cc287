// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What a load cost: what mirroring has done, and what the evictor has, if debugfs can be read.

use std::fs;
use std::path::PathBuf;

use npu::{Device, Vm, VmStats};

use super::Result;

/// Where devices have their directories.
const DEBUGFS: &str = "/sys/kernel/debug";

/// Counts, by name.
pub type Counts = Vec<(String, u64)>;

/// Counts at a moment.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    mirror: VmStats,
    evictor: Counts,
}

impl Figures {
    /// The counts of an address space and of its device.
    pub fn read(device: &Device, vm: &Vm) -> Result<Self> {
        Ok(Self {
            mirror: vm.stats()?,
            evictor: evictor(device),
        })
    }

    /// What was counted since.
    pub fn since(&self, before: &Self) -> Counts {
        let of = |stats: &VmStats| {
            [
                ("faults", stats.faults),
                ("merged", stats.merged),
                ("to_device", stats.to_device),
                ("made", stats.made),
                ("stayed", stats.stayed),
            ]
        };
        let mirror = of(&self.mirror).into_iter().zip(of(&before.mirror));
        let mirror = mirror.map(|((name, now), (_, then))| (name.to_string(), now - then));
        let evictor = self.evictor.iter().filter_map(|(name, now)| {
            let (_, then) = before.evictor.iter().find(|(other, _)| other == name)?;
            Some((name.clone(), now.saturating_sub(*then)))
        });
        mirror.chain(evictor).collect()
    }
}

/// What a device's evictor has done, by name; nothing if that can't be read.
pub fn evictor(device: &Device) -> Counts {
    let text = directory(device).and_then(|d| fs::read_to_string(d.join("memory")).ok());
    text.map_or_else(Counts::new, |text| parse(&text))
}

/// The device's directory in debugfs, which has the name of what the device hangs on.
pub fn directory(device: &Device) -> Option<PathBuf> {
    let file = device.path().file_name()?;
    let parent = PathBuf::from("/sys/class/accel").join(file).join("device");
    let parent = fs::canonicalize(parent).ok()?;
    let name = format!("gmem_vm-{}", parent.file_name()?.to_str()?);
    Some(PathBuf::from(DEBUGFS).join(name))
}

/// The counts on the first line of the file `memory` there. `blocks` is a time, `copies` and
/// `history` are the size of what is kept now.
pub fn parse(text: &str) -> Counts {
    let words = text.lines().next().unwrap_or("").split_whitespace();
    words
        .filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name, value.parse().ok()?))
        })
        .filter(|(name, _)| !["blocks", "copies", "history"].contains(name))
        .map(|(name, value)| (name.to_string(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_names() {
        let text =
            "blocks=1 evictions=2 failed=3 to_host=4 refaults=5 new=x newer=6 history=7\na=1\n";
        let expected = [
            ("evictions", 2),
            ("failed", 3),
            ("to_host", 4),
            ("refaults", 5),
            ("newer", 6),
        ];
        assert_eq!(
            parse(text),
            expected.map(|(name, value)| (name.into(), value))
        );
        assert!(parse("").is_empty());
    }

    #[test]
    fn counts_are_since() {
        let figures = |faults, evictor: &str| Figures {
            mirror: VmStats {
                faults,
                ..Default::default()
            },
            evictor: parse(evictor),
        };
        let since = figures(7, "a=10 b=3").since(&figures(5, "a=4"));
        assert_eq!(since[0], ("faults".to_string(), 2));
        assert_eq!(since[4..], [("stayed".into(), 0), ("a".into(), 6)]);
    }
}
