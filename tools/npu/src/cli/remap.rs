// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `npu remap`: what games do to a reservation, and how many TLB invalidations that takes.
//!
//! The trace is `random-remap` of the bind benchmark (`bench/bind/bench_main.c`), but for the objects,
//! of which there are only two here.

use npu::{Bo, Device, MapOptions, Memory, Vm};

use super::{Result, say};

/// What `npu remap` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Operations given to the driver at a time.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    array: u32,

    /// Operations in all.
    #[arg(long, default_value_t = 50_000)]
    ops: u32,
}

/// The reservation: 64 GiB at 64 GiB, at first mapped by pages of 2 MiB.
const START: u64 = 64 << 30;
const SIZE: u64 = 64 << 30;
const LARGE: u64 = 2 << 20;
const PAGE: u64 = 4 << 10;

/// Most operations of an array.
const MOST: usize = 4096;

/// xorshift64
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Remaps single pages at random.
pub fn run(args: &Args, device: &Device) -> Result {
    let vm = Vm::new(device)?;
    let (large, small) = (
        Bo::new(device, LARGE, Memory::Device)?,
        Bo::new(device, LARGE, Memory::Device)?,
    );
    let starts: Vec<u64> = (START..START + SIZE).step_by(LARGE as usize).collect();
    for part in starts.chunks(MOST) {
        part.iter()
            .fold(vm.bind(), |bind, &va| {
                bind.map(&large, va, MapOptions::default())
            })
            .commit()?;
    }

    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let before = device.counters()?.tlb_invalidations;
    let mut left = args.ops;
    while left > 0 {
        let count = left.min(args.array);
        left -= count;
        (0..count)
            .fold(vm.bind(), |bind, _| {
                let page = random.below(SIZE / PAGE);
                let va = START + PAGE * page;
                if random.below(4) == 0 {
                    return bind.unmap(va..va + PAGE);
                }
                // Where the trace draws the object.
                random.below(15);
                let part = 2 * PAGE * page % LARGE;
                bind.map_part(&small, part..part + PAGE, va, MapOptions::default())
            })
            .commit()?;
    }
    let invalidations = device.counters()?.tlb_invalidations - before;
    say(format_args!(
        "{} operations in arrays of {}: {invalidations} TLB invalidations",
        args.ops, args.array
    ))
}
