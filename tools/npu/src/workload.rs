// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Loads for a device whose memory is too small for them, all in plain memory of the process.
//!
//! [`pattern`], [`blocks`], [`gemm`] and [`transformer`] say what is done, as a list of [`op`]s, and
//! check afterwards what came of it; none of them knows a device. [`runner`] makes jobs of the list.
//! [`figures`] are what it cost.

pub mod blocks;
pub mod contents;
pub mod figures;
pub mod gemm;
pub mod memory;
pub mod op;
pub mod pattern;
pub mod random;
pub mod runner;
#[cfg(test)]
mod tests;
pub mod transformer;

use std::ops::Range;

use self::op::Op;

/// What memory is counted in, in bytes.
pub const BLOCK: u64 = 64 << 10;

/// Numbers in a block.
pub const NUMBERS: usize = (BLOCK / 4) as usize;

/// Why a load can't be run, or was run wrongly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is too little of what it is to work on.
    #[error("this needs a --size of at least {} KiB", .0 >> 10)]
    TooSmall(u64),
    /// Nothing would come to the device while it works.
    #[error("this device can't fault")]
    NoFaults,
    /// The device computed something else than the CPU.
    #[error("wrong result: {0}")]
    Wrong(String),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] npu::Error),
}

/// This module's result.
pub type Result<T = ()> = std::result::Result<T, Error>;

/// A load.
pub trait Work {
    /// Addresses of the data, of which more is used than the device has room for.
    fn data(&self) -> Range<u64>;

    /// Whole pages of what is used beside: it stays in the host, so that it is in nobody's way.
    fn beside(&self) -> Range<u64>;

    /// Lets the CPU write what the device reads before it has written it, and nothing else.
    fn prepare(&self) -> Result;

    /// What the device does, in this order.
    fn ops(&self) -> Box<dyn Iterator<Item = Op> + '_>;

    /// Compares what the device has left with what the CPU computes, and says what was compared.
    fn check(&self) -> Result<String>;

    /// The memory of all that.
    #[cfg(test)]
    fn memories(&self) -> [&memory::Memory; 2];
}
