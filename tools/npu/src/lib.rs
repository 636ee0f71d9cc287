// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The NPU from user space: devices, address spaces, buffers, queues, fences and commands.
//!
//! Memory is either [buffer objects](Bo), or whatever the process has: an address space can
//! [mirror](Vm::mirror_process) it, and then jobs take plain pointers.
//!
//! Handles close themselves when dropped, and keep the device file open until then. Errors say
//! which operation failed and why. There is no unsafe code outside one private module.
//!
//! ```no_run
//! use std::time::Duration;
//! use npu::{Arena, CommandBuffer, Device, MapOptions, Memory, Queue};
//!
//! # fn main() -> npu::Result<()> {
//! let device = Device::find()?;
//! let mut arena = Arena::new(&device)?;
//! let data = arena.buffer(1 << 20, Memory::DeviceVisible)?;
//! let code = arena.buffer_with(4096, Memory::Host, MapOptions::COMMANDS)?;
//!
//! let mut commands = CommandBuffer::new();
//! commands.fill(data.va(), data.size(), 0x0c0ffee0);
//! code.cpu()?.write_at(0, commands.as_bytes())?;
//! Queue::new(&device)?.run(arena.vm(), code.va(), commands.len(), Duration::from_secs(1))?;
//!
//! assert_eq!(data.cpu()?.value_at::<u32>(0)?, 0x0c0ffee0);
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

#[cfg(not(all(target_endian = "little", target_pointer_width = "64")))]
compile_error!("the NPU's user side needs a 64-bit little-endian machine");

mod advice;
mod bind;
mod bo;
mod buffer;
pub mod command;
mod device;
mod error;
mod heap;
mod mirror;
mod queue;
mod range;
mod sync;
mod sys;
pub mod uapi;
mod va;
mod vm;

pub use advice::{Access, Atomics, Attr, EvictionPriority, Location, MigrationPolicy};
pub use bind::{Bind, BindQueue, Cache, MapOptions};
pub use bo::{Bo, Mapping, Memory};
pub use buffer::{Arena, Buffer, page_size};
pub use command::CommandBuffer;
pub use device::{Counters, Device, DeviceInfo, Driver};
pub use error::{Error, FaultAccess, JobError, JobFailure, Operation, Result};
pub use heap::Heap;
pub use mirror::{Discard, Discarded, Prefetched, VmStats};
pub use queue::{Job, Queue, QueueStatus, Submission};
pub use range::{Evicted, Mapped, RangeInfo, Residency};
pub use sync::{Fence, SyncPoint, Timeline, wait_all, wait_any};
pub use va::VaAllocator;
pub use vm::Vm;
