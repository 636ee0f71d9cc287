// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Registers of BAR 0; their meaning is in Documentation/accel/npu/registers.rst.

use kernel::io::register;

/// Size of BAR 0.
pub(crate) const BAR0_SIZE: usize = 0x2_0000;
/// What `ID` reads as: "NPU1".
pub(crate) const ID_MAGIC: u32 = 0x3155_504e;
/// Offset in BAR 0 of the window onto local memory.
pub(crate) const WINDOW: usize = 0x1_0000;
/// Size of the window, and alignment of its base.
pub(crate) const WINDOW_SIZE: u64 = 0x1_0000;
/// Most queues there can be: the copy queue and 16 compute queues.
pub(crate) const MAX_QUEUES: usize = 17;
/// Index of the copy queue's register block; compute queue i follows as 1 + i.
pub(crate) const COPY_QUEUE: usize = 0;

register! {
    /// Magic number.
    pub(crate) ID(u32) @ 0x000 {
        31:0 value;
    }
    /// Version of the register interface.
    pub(crate) VERSION(u32) @ 0x004 {
        31:16 major;
        15:0 minor;
    }
    /// Bytes of local memory.
    pub(crate) MEM_SIZE(u64) @ 0x008 {
        63:0 value;
    }
    /// Bytes of BAR 2.
    pub(crate) APERTURE_SIZE(u64) @ 0x010 {
        63:0 value;
    }
    /// What the device can do.
    pub(crate) CAPS(u32) @ 0x018 {
        23:16 va_bits;
        15:8 compute_queues;
        1:1 inject => bool;
        0:0 faults => bool;
    }
    /// Global control.
    pub(crate) CONTROL(u32) @ 0x01c {
        31:31 reset => bool;
        1:1 fault_mode => bool;
        0:0 enable => bool;
    }
    /// Global status.
    pub(crate) STATUS(u32) @ 0x020 {
        2:2 error => bool;
        1:1 busy => bool;
        0:0 ready => bool;
    }
    /// Events of vector 0, write 1 to clear.
    pub(crate) EVENT(u32) @ 0x024 {
        2:2 tlb => bool;
        1:1 error => bool;
        0:0 fault => bool;
    }
    /// Local address of the window.
    pub(crate) WINDOW_BASE(u64) @ 0x028 {
        63:0 value;
    }
    /// Nanoseconds since the device started.
    pub(crate) TIMESTAMP(u64) @ 0x030 {
        63:0 value;
    }
    /// First programming error.
    pub(crate) ERROR_CODE(u32) @ 0x038 {
        31:0 value;
    }
    /// Who reported it.
    pub(crate) ERROR_SOURCE(u32) @ 0x03c {
        31:0 value;
    }
    /// What was wrong.
    pub(crate) ERROR_DETAIL(u64) @ 0x040 {
        63:0 value;
    }
    /// Root table whose translations to invalidate.
    pub(crate) TLB_PGD(u64) @ 0x080 {
        63:0 value;
    }
    /// First address to invalidate.
    pub(crate) TLB_START(u64) @ 0x088 {
        63:0 value;
    }
    /// End of the addresses to invalidate.
    pub(crate) TLB_END(u64) @ 0x090 {
        63:0 value;
    }
    /// Starts an invalidation.
    pub(crate) TLB_COMMAND(u32) @ 0x098 {
        31:31 event => bool;
        30:0 ticket;
    }
    /// Ticket of the last invalidation that completed.
    pub(crate) TLB_DONE(u32) @ 0x09c {
        31:0 ticket;
    }
    /// Bus address of the fault ring.
    pub(crate) FAULT_BASE(u64) @ 0x0c0 {
        63:0 value;
    }
    /// log2 of the fault ring's number of records.
    pub(crate) FAULT_SIZE(u32) @ 0x0c8 {
        31:0 log2;
    }
    /// First record of the fault ring that software has not consumed.
    pub(crate) FAULT_HEAD(u32) @ 0x0cc {
        31:0 value;
    }
    /// Next record that the device will write.
    pub(crate) FAULT_TAIL(u32) @ 0x0d0 {
        31:0 value;
    }
    /// Compute queues that retry the access that faulted, a bit mask.
    pub(crate) FAULT_REPLAY(u32) @ 0x0d4 {
        31:0 queues;
    }
    /// Compute queues that end the job whose access faulted, a bit mask.
    pub(crate) FAULT_CANCEL(u32) @ 0x0d8 {
        31:0 queues;
    }
    /// Bus address of a queue's ring.
    pub(crate) RING_BASE(u64)[17, stride = 0x80] @ 0x1000 {
        63:0 value;
    }
    /// log2 of a ring's number of descriptors.
    pub(crate) RING_SIZE(u32)[17, stride = 0x80] @ 0x1008 {
        31:0 log2;
    }
    /// Enables or kills a queue.
    pub(crate) QUEUE_CONTROL(u32)[17, stride = 0x80] @ 0x100c {
        1:1 kill => bool;
        0:0 enable => bool;
    }
    /// Doorbell of a queue.
    pub(crate) TAIL(u32)[17, stride = 0x80] @ 0x1010 {
        31:0 value;
    }
    /// Next descriptor of a queue to complete.
    pub(crate) HEAD(u32)[17, stride = 0x80] @ 0x1014 {
        31:0 value;
    }
    /// Bus address to which a queue writes its head.
    pub(crate) HEAD_WRITEBACK(u64)[17, stride = 0x80] @ 0x1018 {
        63:0 value;
    }
    /// What a queue is doing.
    pub(crate) QUEUE_STATE(u32)[17, stride = 0x80] @ 0x1020 {
        31:0 value;
    }
    /// Jobs that ended well.
    pub(crate) COUNT_JOBS_OK(u64) @ 0x3000 {
        63:0 value;
    }
    /// Jobs that ended badly.
    pub(crate) COUNT_JOBS_FAILED(u64) @ 0x3008 {
        63:0 value;
    }
    /// TLB hits.
    pub(crate) COUNT_TLB_HITS(u64) @ 0x3018 {
        63:0 value;
    }
    /// TLB misses.
    pub(crate) COUNT_TLB_MISSES(u64) @ 0x3020 {
        63:0 value;
    }
    /// TLB invalidations.
    pub(crate) COUNT_TLB_INVALIDATIONS(u64) @ 0x3030 {
        63:0 value;
    }
    /// Bytes copied to local memory.
    pub(crate) COUNT_TO_DEVICE(u64) @ 0x3038 {
        63:0 value;
    }
    /// Bytes copied to host memory.
    pub(crate) COUNT_TO_HOST(u64) @ 0x3040 {
        63:0 value;
    }
    /// Bytes filled.
    pub(crate) COUNT_FILLED(u64) @ 0x3050 {
        63:0 value;
    }
    /// Bytes read by jobs.
    pub(crate) COUNT_READ(u64) @ 0x3058 {
        63:0 value;
    }
    /// Bytes written by jobs.
    pub(crate) COUNT_WRITTEN(u64) @ 0x3060 {
        63:0 value;
    }
}

/// Reads a 64-bit register. The kernel knows I/O regions to be aligned to 4 bytes only, so that its
/// accessors with a check at build time don't take one of 8.
macro_rules! read_wide {
    ($bar:expr, $register:expr) => {
        ::kernel::io::Io::try_read($bar, $register).map_or(0, u64::from)
    };
}
pub(crate) use read_wide;

/// Writes a 64-bit register; see [`read_wide`].
macro_rules! write_wide {
    ($bar:expr, $register:expr, $value:expr) => {
        if let Err(e) = ::kernel::io::Io::try_write($bar, $register, $value.into()) {
            pr_err!("npu: a register can't be written: {:?}\n", e);
        }
    };
}
pub(crate) use write_wide;
