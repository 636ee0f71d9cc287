// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What a driver tells the framework about its hardware.
//!
//! [`Driver`] and [`PageTable`] are all there is to implement. What the hardware can do stands in
//! [`Caps`]; how its page table is written in [`crate::page_table`].

use crate::{
    bo::BoObject,
    device::Device,
    file::File,
    kapi::dma_fence::Fence,
    object::Location,
    page_table::PageTable, //
};
use kernel::{
    drm,
    prelude::*,
    sync::aref::ARef, //
};

/// How the hardware meets an access that its page table does not allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Faults {
    /// It ends the job: all that a job touches must be mapped before it starts.
    Fatal,
    /// It reports the access and can repeat it later.
    Replayable,
}

/// What the hardware can do.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Sizes of the pages it can map: a bit mask, bit n for 2^n bytes. The smallest must be a
    /// multiple of the CPU's page size.
    pub page_sizes: u64,
    /// First device address that may be mapped.
    pub va_start: u64,
    /// End of the device's address space, exclusive.
    pub va_end: u64,
    /// What happens on a fault.
    pub faults: Faults,
}

impl Caps {
    /// The smallest page, in bytes: the unit of binding.
    pub const fn granule(&self) -> u64 {
        1 << self.page_sizes.trailing_zeros()
    }
}

/// What a mapping lets the device do. Reading is always allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// The device may write.
    pub write: bool,
    /// The device may fetch commands.
    pub exec: bool,
}

/// A driver's own attributes of a mapping (caching, compression, ...), carried from the ioctl to
/// the page table entry untouched. Mappings merge only if theirs are equal.
pub trait MapAttrs: Copy + PartialEq + Send + Sync + Unpin + 'static {
    /// From the `attrs` field of `struct drm_gmem_bind_op`. 0 is always valid: sparse memory has it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a bit is unknown or a value reserved.
    fn from_uapi(bits: u64) -> Result<Self>;

    /// What [`from_uapi`](Self::from_uapi) was given.
    fn to_uapi(self) -> u64;
}

impl MapAttrs for () {
    fn from_uapi(bits: u64) -> Result<Self> {
        if bits == 0 {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    fn to_uapi(self) -> u64 {
        0
    }
}

/// An access of the device that its page table does not allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultAccess {
    /// It reads.
    Read,
    /// It writes.
    Write,
    /// It fetches commands.
    Fetch,
}

/// What becomes of an access that faulted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The device tries it again.
    Replay,
    /// It ends the job, and nothing but that, with `EFAULT`.
    Fail,
}

/// Where a copy takes its bytes from.
#[derive(Clone, Copy, Debug)]
pub enum CopySource {
    /// These 64 bits, over and over.
    Fill(u64),
    /// Memory.
    At(Location),
}

/// One contiguous copy of a batch; source and destination do not overlap.
#[derive(Clone, Copy, Debug)]
pub struct CopyOp {
    /// Where from.
    pub source: CopySource,
    /// Where to.
    pub destination: Location,
    /// Bytes, a multiple of the granule ([`Caps::granule`]).
    pub size: u64,
}

/// A DRM driver whose device memory and address spaces gmem_vm manages.
///
/// The type that implements this is the same that implements [`drm::Driver`]; its data, file and
/// object are the framework's, and hold the driver's own state inside:
///
/// ```ignore
/// #[vtable]
/// impl drm::Driver for Npu {
///     type Data = gmem_vm::Device<Self>;
///     type File = gmem_vm::File<Self>;
///     type Object = gmem_vm::BoObject<Self>;
///     // ...
/// }
///
/// impl gmem_vm::Driver for Npu {
///     type Hardware = Hardware;
///     type Client = Client;
///     type PageTable = page_table::PageTable;
///     const CAPS: Caps = Caps { page_sizes: PAGE_SIZES, va_start: 4096, va_end: 1 << 48, faults: Faults::Replayable };
///     // ...
/// }
/// ```
pub trait Driver:
    drm::Driver<Data = Device<Self>, File = File<Self>, Object = BoObject<Self>> + Sized + 'static
{
    /// The driver's state of one device.
    type Hardware: Send + Sync;

    /// The driver's state of one open file. Dropped before the file's VMs: it ends the file's jobs.
    type Client: Send + Sync;

    /// The hardware's page table.
    type PageTable: PageTable;

    /// What the hardware can do.
    const CAPS: Caps;

    /// Makes the driver's state of a newly opened file.
    fn open(device: &drm::Device<Self>) -> impl PinInit<Self::Client, Error>;

    /// Makes an empty page table.
    ///
    /// Process context, may sleep. `ENOSPC` when device memory is full.
    fn new_page_table(device: &drm::Device<Self>) -> Result<Self::PageTable>;

    /// Allocates what a plan says, with all tables empty.
    ///
    /// Process context, may sleep. `ENOMEM` for host memory, `ENOSPC` for device memory, `EINTR` if the
    /// process is being killed.
    fn prepare_tables(
        device: &drm::Device<Self>,
        plan: <Self::PageTable as PageTable>::Plan,
    ) -> Result<<Self::PageTable as PageTable>::Prepared>;

    /// Whether this device reports faults and can repeat the access: one that has the ability may have it
    /// switched off. Never changes.
    fn can_fault(_device: &drm::Device<Self>) -> bool {
        matches!(Self::CAPS.faults, Faults::Replayable)
    }

    /// Answers a fault that was reported ([`crate::fault::Fault`]), by the ticket it was given. The job may
    /// have ended meanwhile, and another be there: then nothing happens.
    ///
    /// Process context.
    fn answer_fault(_device: &drm::Device<Self>, _ticket: u64, _verdict: Verdict) {}

    /// Whether the device is still there; once it is not, every ioctl gives `ENODEV`. Any context,
    /// cheap.
    fn is_present(_device: &drm::Device<Self>) -> bool {
        true
    }

    /// Queues copies on the device's copy engine; the fence signals when all are done, with an
    /// error if one failed.
    ///
    /// Process context, may sleep and allocate; must make progress without any of the framework's
    /// locks.
    fn copy(device: &drm::Device<Self>, batch: &[CopyOp]) -> Result<ARef<Fence>>;
}
