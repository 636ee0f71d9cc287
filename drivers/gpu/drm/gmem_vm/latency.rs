// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How long it takes to serve the device, phase by phase.
//!
//! A device counts for each [`Phase`] how often it took from 2^n to 2^(n+1) nanoseconds, always, without a lock;
//! debugfs shows that as `latency`. The numbers only grow: who wants to know of some time takes the difference of two
//! looks.

use kernel::{
    fmt,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        Instant,
        Monotonic, //
    }, //
};
use pin_init::init_array_from_fn;

/// Buckets of a histogram; the last one has all that took longer: 2^39 ns are nine minutes.
const BUCKETS: usize = 40;

/// What takes time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// A fault, from the driver's report until its service begins.
    Wait,
    /// Making room: choosing what to evict, and evicting it.
    MakeRoom,
    /// Collecting pages to be moved, but for those that the CPU touches.
    Collect,
    /// Copying pages in either direction.
    Copy,
    /// From the first snapshot of a range until the page table has it.
    Commit,
    /// Until the device has forgotten what it has cached.
    Flush,
    /// A fault, from the beginning of its service to the end.
    Serve,
    /// A change of the process's memory, from the callback until the device has confirmed.
    Invalidate,
}

impl Phase {
    /// All, with their names, in order.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Wait, "wait"),
        (Self::MakeRoom, "make_room"),
        (Self::Collect, "collect"),
        (Self::Copy, "copy"),
        (Self::Commit, "commit"),
        (Self::Flush, "flush"),
        (Self::Serve, "serve"),
        (Self::Invalidate, "invalidate"),
    ];
}

/// How often something took how long.
struct Histogram {
    /// In nanoseconds.
    total: Atomic<u64>,
    buckets: [Atomic<u64>; BUCKETS],
}

/// The bucket for so many nanoseconds: their log2.
fn bucket(ns: u64) -> usize {
    let log = ns.checked_ilog2().unwrap_or(0) as usize;
    log.min(BUCKETS - 1)
}

impl Histogram {
    const fn new() -> Self {
        Self {
            total: Atomic::new(0),
            buckets: [const { Atomic::new(0) }; BUCKETS],
        }
    }

    fn add(&self, ns: u64) {
        self.total.fetch_add(ns, Relaxed);
        self.buckets[bucket(ns)].fetch_add(1, Relaxed);
    }

    /// The buckets that are not empty: the least nanoseconds, and how often.
    fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let all = self.buckets.iter().enumerate();
        all.map(|(i, count)| (if i == 0 { 0 } else { 1 << i }, count.load(Relaxed)))
            .filter(|(_, count)| *count > 0)
    }
}

impl core::fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: u64 = self.counts().map(|(_, count)| count).sum();
        write!(f, "{} {}", count, self.total.load(Relaxed))?;
        for (least, count) in self.counts() {
            write!(f, " {}:{}", least, count)?;
        }
        Ok(())
    }
}

/// Nanoseconds since some time.
pub(crate) fn since(began: Instant<Monotonic>) -> u64 {
    began.elapsed().as_nanos().max(0) as u64
}

/// How long everything takes on a device.
pub struct Latency {
    phases: [Histogram; Phase::ALL.len()],
}

impl Latency {
    /// Nothing was done yet. In place: it is large for a stack.
    pub(crate) fn new() -> impl Init<Self> {
        init!(Self {
            phases <- init_array_from_fn(|_| Histogram::new()),
        })
    }

    /// Takes note that something took so many nanoseconds. Any context.
    pub(crate) fn add(&self, phase: Phase, ns: u64) {
        self.phases[phase as usize].add(ns);
    }

    /// Does something and takes note how long it takes.
    pub(crate) fn time<T>(&self, phase: Phase, f: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = f();
        self.add(phase, since(began));
        result
    }
}

/// A line for each phase.
impl core::fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "phase count ns from:count...")?;
        for ((_, name), histogram) in Phase::ALL.iter().zip(&self.phases) {
            writeln!(f, "{} {}", name, histogram)?;
        }
        Ok(())
    }
}

#[kunit_tests(gmem_vm_latency)]
mod tests {
    use super::*;
    use kernel::str::CString;

    #[test]
    fn a_bucket_ends_below_the_next_power_of_two() {
        let known = [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 1),
            (4, 2),
            (1023, 9),
            (1024, 10),
        ];
        for (ns, expected) in known {
            assert_eq!(bucket(ns), expected);
        }
        assert_eq!(bucket((1 << 39) - 1), 38);
        assert_eq!(bucket(1 << 39), 39);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn phases_are_in_order() {
        for (i, (phase, _)) in Phase::ALL.iter().enumerate() {
            assert_eq!(*phase as usize, i);
        }
    }

    #[test]
    fn a_line_has_what_was_counted() -> Result {
        let histogram = Histogram::new();
        assert_eq!(
            &*CString::try_from_fmt(format_args!("{}", histogram))?,
            c"0 0"
        );
        for ns in [0, 1, 5, 7, 1 << 20] {
            histogram.add(ns);
        }
        let line = CString::try_from_fmt(format_args!("{}", histogram))?;
        assert_eq!(&*line, c"5 1048589 0:2 4:2 1048576:1");
        Ok(())
    }

    #[test]
    fn each_phase_counts_for_itself() -> Result {
        let latency = KBox::init(Latency::new(), GFP_KERNEL)?;
        assert_eq!(latency.time(Phase::Copy, || 7), 7);
        latency.add(Phase::Serve, 3);
        let counts = |phase: Phase| -> u64 {
            let histogram = &latency.phases[phase as usize];
            histogram.counts().map(|(_, count)| count).sum()
        };
        for (phase, _) in Phase::ALL {
            let expected = matches!(phase, Phase::Copy | Phase::Serve);
            assert_eq!(counts(phase), u64::from(expected));
        }
        Ok(())
    }
}
