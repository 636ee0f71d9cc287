// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The fault ring: where the device reports accesses that its page table does not allow.
//!
//! Owns the ring in host memory, of a device that can fault. Records are taken out by whoever comes
//! first, the interrupt thread or a worker that the watchdog sent. A record carries the cookie of
//! its job, so one that was left by a job that was killed is recognized, and dropped, however late
//! it is read.
//!
//! Locks: `state`, a spinlock, is a leaf. A reset makes the device forget the ring;
//! [`FaultRing::pause`] comes before, so that no index is written that the device knows nothing of.

use crate::{
    hw::Hw,
    regs::*, //
};
use gmem_vm::FaultAccess;
use kernel::{
    device,
    dma::Coherent,
    io::{
        io_read,
        Io, //
    },
    new_spinlock,
    prelude::*,
    sync::{
        barrier,
        SpinLock, //
    }, //
};

/// log2 of the number of records: more than there are queues, each of which waits on one fault.
const RING_LOG2: u32 = 6;
const RING_LEN: u32 = 1 << RING_LOG2;
/// 64-bit words of a record.
const WORDS: usize = 8;

/// A fault as the device reports it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record {
    /// Address of the page.
    pub(crate) va: u64,
    access: u32,
    /// Which of the compute queues.
    pub(crate) queue: u32,
    /// Of the job's descriptor.
    pub(crate) cookie: u32,
    /// Bytes that will be accessed in order.
    pub(crate) len: u64,
}

impl Record {
    /// Takes a record apart; see Documentation/accel/npu/mmu.rst.
    fn from_words(words: [u64; WORDS]) -> Self {
        let [va, _, access, queue, _, len, ..] = words;
        // CAST: Words 2 and 3 hold two fields of 32 bits each.
        Self {
            va,
            access: access as u32,
            queue: queue as u32,
            cookie: (queue >> 32) as u32,
            len,
        }
    }

    /// What the device tried.
    pub(crate) fn access(&self) -> Option<FaultAccess> {
        [FaultAccess::Read, FaultAccess::Write, FaultAccess::Fetch]
            .into_iter()
            .find(|&access| access_code(access) == self.access)
    }
}

/// The number of an access, for the device and for userspace.
pub(crate) fn access_code(access: FaultAccess) -> u32 {
    match access {
        FaultAccess::Read => 1,
        FaultAccess::Write => 2,
        FaultAccess::Fetch => 4,
    }
}

struct State {
    /// None if the device can't fault; taken away when the driver is unbound.
    words: Option<Coherent<[u64]>>,
    /// Index of the first record that was not taken.
    head: u32,
    /// The device knows the ring.
    live: bool,
}

/// The fault ring.
#[pin_data]
pub(crate) struct FaultRing {
    #[pin]
    state: SpinLock<State>,
}

impl FaultRing {
    /// Allocates the ring, if there shall be one. `ENOMEM`.
    pub(crate) fn new(
        dev: &device::Device<device::Bound>,
        wanted: bool,
    ) -> Result<impl PinInit<Self>> {
        let words = if wanted {
            let count = WORDS * RING_LEN as usize;
            Some(Coherent::zeroed_slice(dev, count, GFP_KERNEL)?)
        } else {
            None
        };
        Ok(pin_init!(Self {
            state <- new_spinlock!(State {
                words,
                head: 0,
                live: false,
            }, "npu::FaultRing::state"),
        }))
    }

    /// Tells the device, which is not enabled, about the ring; returns whether there is one.
    pub(crate) fn program(&self, hw: &Hw) -> bool {
        let mut state = self.state.lock();
        let Some(words) = &state.words else {
            return false;
        };
        let address = words.dma_address();
        hw.with(|bar| {
            bar.write_reg(FAULT_SIZE::from(RING_LOG2));
            write_wide!(bar, FAULT_BASE, address);
        });
        state.head = 0;
        state.live = true;
        true
    }

    /// Takes no more records, until the device is told about the ring again. Those there are come
    /// from jobs that end by the reset.
    pub(crate) fn pause(&self) {
        self.state.lock().live = false;
    }

    /// How many records there are.
    fn count(state: &State, hw: &Hw) -> u32 {
        if !state.live {
            return 0;
        }
        let tail = hw.with(|bar| u32::from(bar.read(FAULT_TAIL)));
        match tail.map_or(0, |tail| tail.wrapping_sub(state.head)) {
            count @ 0..=RING_LEN => count,
            // The device is gone, and answers all ones.
            _ => 0,
        }
    }

    /// Whether there are records.
    pub(crate) fn has_records(&self, hw: &Hw) -> bool {
        Self::count(&self.state.lock(), hw) != 0
    }

    /// Takes records, as many as there are and fit; returns how many.
    pub(crate) fn take(&self, hw: &Hw, records: &mut [Record]) -> usize {
        let mut state = self.state.lock();
        let count = Self::count(&state, hw);
        let mut taken = 0;
        if let Some(words) = &state.words {
            // The records after the tail.
            barrier::dma_mb(barrier::Read);
            for (i, record) in (0..count).zip(records) {
                let Ok(read) = read_record(words, state.head.wrapping_add(i)) else {
                    break;
                };
                *record = Record::from_words(read);
                taken += 1;
            }
        }
        if taken != 0 {
            state.head = state.head.wrapping_add(taken);
            // The device may write the records again once it sees the head.
            barrier::dma_mb(barrier::Full);
            hw.with(|bar| bar.write_reg(FAULT_HEAD::from(state.head)));
        }
        taken as usize
    }

    /// Gives the ring's memory back; the device was stopped.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock();
        state.live = false;
        let words = state.words.take();
        drop(state);
        drop(words);
    }
}

fn read_record(words: &Coherent<[u64]>, at: u32) -> Result<[u64; WORDS]> {
    let first = (at % RING_LEN) as usize * WORDS;
    let mut record = [0; WORDS];
    for (i, word) in record.iter_mut().enumerate() {
        *word = u64::from_le(io_read!(words, [try: first + i]));
    }
    Ok(record)
}

#[kunit_tests(npu_fault_ring)]
mod tests {
    use super::*;

    #[test]
    fn records_are_as_the_manual_says() {
        let words = [
            0x7f12_3456_7000,
            0x9000,
            2 | 1 << 32,
            3 | 0xabcd << 32,
            12345,
            0x800,
            0,
            0,
        ];
        let record = Record::from_words(words);
        assert_eq!(record.va, 0x7f12_3456_7000);
        assert_eq!(record.access(), Some(FaultAccess::Write));
        assert_eq!((record.queue, record.cookie), (3, 0xabcd));
        assert_eq!(record.len, 0x800);
    }

    #[test]
    fn an_access_is_known_or_none() {
        let access = |access| {
            Record {
                access,
                ..Record::default()
            }
            .access()
        };
        assert_eq!(access(1), Some(FaultAccess::Read));
        assert_eq!(access(4), Some(FaultAccess::Fetch));
        assert_eq!(access(0), None);
        assert_eq!(access(3), None);
    }
}
