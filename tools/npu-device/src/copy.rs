// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The copy queue: copies and fills by physical address.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::counters::Counter;
use crate::device::{Shared, Waiter};
use crate::dma::Direction;
use crate::error::{Code, ProgrammingError, Source};
use crate::queue::{Abandoned, Descriptor, FLAG_IRQ, Outcome};
use crate::space::{BadPlace, Place};
use crate::state;

const OPCODE_COPY: u32 = 2;
const OPCODE_FILL: u32 = 3;
const FLAG_SRC_HOST: u32 = 1 << 1;
const FLAG_DST_HOST: u32 = 1 << 2;
const LARGEST: u64 = 1 << 32;
/// Bytes between two looks at whether to stop.
const PIECE: u64 = 1 << 20;

#[derive(Clone, Copy)]
enum Operation {
    Copy { src: Place },
    Fill { pattern: u64 },
}

/// A descriptor, decoded.
pub struct Request {
    operation: Operation,
    dst: Place,
    size: u64,
}

impl Request {
    /// Decodes a descriptor, if it is well formed.
    pub fn decode(descriptor: &Descriptor) -> Option<Self> {
        let (opcode, flags) = (descriptor.u32(0), descriptor.u32(4));
        let (src, dst, size) = (
            descriptor.u64(8),
            descriptor.u64(0x10),
            descriptor.u64(0x18),
        );
        let place = |address, host| {
            if host {
                Place::Host(address)
            } else {
                Place::Local(address)
            }
        };
        let (operation, known_flags) = match opcode {
            OPCODE_COPY => {
                let src = place(src, flags & FLAG_SRC_HOST != 0);
                (
                    Operation::Copy { src },
                    FLAG_IRQ | FLAG_SRC_HOST | FLAG_DST_HOST,
                )
            }
            OPCODE_FILL => (Operation::Fill { pattern: src }, FLAG_IRQ | FLAG_DST_HOST),
            _ => return None,
        };
        let dst_host = flags & FLAG_DST_HOST != 0;
        let same_space = dst_host == (flags & FLAG_SRC_HOST != 0);
        let is_copy = opcode == OPCODE_COPY;
        let overlap = is_copy && same_space && src.abs_diff(dst) < size;
        let misaligned = dst % 8 != 0 || size % 8 != 0 || (is_copy && src % 8 != 0);
        let bad_size = size == 0 || size > LARGEST;
        (flags & !known_flags == 0 && !misaligned && !bad_size && !overlap).then_some(Request {
            operation,
            dst: place(dst, dst_host),
            size,
        })
    }

    fn counter(&self) -> Counter {
        match (self.operation, self.dst) {
            (Operation::Fill { .. }, _) => Counter::Filled,
            (
                Operation::Copy {
                    src: Place::Host(_),
                },
                Place::Local(_),
            ) => Counter::CopiedFromHost,
            (
                Operation::Copy {
                    src: Place::Local(_),
                },
                Place::Local(_),
            ) => Counter::CopiedLocal,
            // Host to host is what it costs: a write to host memory.
            (Operation::Copy { .. }, Place::Host(_)) => Counter::CopiedToHost,
        }
    }
}

/// Executes a request.
pub fn execute(
    device: &Shared,
    request: &Request,
    stop: &AtomicBool,
) -> Result<Outcome, Abandoned> {
    inject(device, request)?.map_or_else(|| transfer(device, request, stop), Ok)
}

/// Takes injections: a copy error as an outcome, a hang as a wait.
fn inject(device: &Shared, request: &Request) -> Result<Option<Outcome>, Abandoned> {
    let mut state = device.lock();
    if state::take(&mut state.inject.copy_hang) {
        while !state.queues[0].stop.load(Ordering::Acquire) {
            state = device.wait(state, Waiter::Queue(0));
        }
        return Err(Abandoned::Stopped);
    }
    let (Place::Local(address) | Place::Host(address)) = request.dst;
    Ok(state::take(&mut state.inject.copy_error).then(|| Outcome::copy_error(address)))
}

fn transfer(device: &Shared, request: &Request, stop: &AtomicBool) -> Result<Outcome, Abandoned> {
    let bad_place = |(code, detail): BadPlace| {
        Abandoned::Error(ProgrammingError {
            code,
            source: Source::queue(0),
            detail,
        })
    };
    check_local(device, request).map_err(bad_place)?;
    let pattern: Vec<u8> = match request.operation {
        Operation::Fill { pattern } => pattern.to_le_bytes().repeat(PIECE as usize / 8),
        Operation::Copy { .. } => Vec::new(),
    };
    let mut done = 0;
    while done < request.size {
        if stop.load(Ordering::Acquire) {
            return Err(Abandoned::Stopped);
        }
        let piece = (request.size - done).min(PIECE);
        let moved = step(device, request, done, piece, &pattern).map_err(bad_place)?;
        device.counters.add(request.counter(), moved);
        done += moved;
    }
    Ok(Outcome::OK)
}

/// Local ranges exist as a whole or not at all.
fn check_local(device: &Shared, request: &Request) -> Result<(), BadPlace> {
    let src = match request.operation {
        Operation::Copy { src } => Some(src),
        Operation::Fill { .. } => None,
    };
    for place in src.into_iter().chain([request.dst]) {
        if let Place::Local(address) = place {
            if !device.space.local.contains(address, request.size) {
                return Err((Code::BadLocalAddress, address));
            }
        }
    }
    Ok(())
}

/// Moves some bytes, at most `len`.
fn step(
    device: &Shared,
    request: &Request,
    done: u64,
    len: u64,
    pattern: &[u8],
) -> Result<u64, BadPlace> {
    let space = &device.space;
    let view = space.dma.view();
    let dst = space.slice(&view, request.dst.plus(done), len, Direction::Write)?;
    if let Operation::Copy { src } = request.operation {
        let src = space.slice(&view, src.plus(done), dst.len() as u64, Direction::Read)?;
        src.copy_to_volatile_slice(dst);
        Ok(src.len() as u64)
    } else {
        dst.copy_from(&pattern[..dst.len()]);
        Ok(dst.len() as u64)
    }
}
