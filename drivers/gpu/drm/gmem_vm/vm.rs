// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`Vm`]: a device address space.
//!
//! Owns the mappings and what was advised, under the VM lock; and the page table, under a lock of its
//! own that is never held over an allocation. Both change only in [`crate::bind`]. A job that runs in
//! a VM holds a reference, so that the root table lives; destroying the VM ends its mappings at once
//! and refuses new ones.

use crate::{
    attrs::AttrMap,
    bind_queue::BindQueue,
    bo_memory::BoMemory,
    device::DeviceRef,
    driver::Driver,
    fault::Faults,
    follow::Follow,
    kapi::{
        dma_fence::Fence,
        lock::new_mutex,
        mmu_notifier::Subscription,
        vec::swap_remove, //
    },
    mapping::MappingTree,
    mirror::{
        Mirrors,
        Watcher, //
    },
    object::ObjectHandle,
    page_table::PageTable,
    pin::{
        Allowed,
        Pinned, //
    },
    range::VaRange,
    range_set::RangeSet, //
};
use kernel::{
    drm,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

/// Most bind queues that a VM can have at a time, besides its own.
pub const MAX_BIND_QUEUES: usize = 64;

/// Driver attributes of a mapping of driver `D`.
pub type Attrs<D> = <<D as Driver>::PageTable as PageTable>::Attrs;
/// What a job needs to know of an address space of driver `D`.
pub type Root<D> = <<D as Driver>::PageTable as PageTable>::Root;

/// How many VMs there were so far, of all devices.
static LAST: Atomic<u64> = Atomic::new(0);

/// A number that no other VM has or had.
fn next_number() -> u64 {
    LAST.fetch_add(1, Relaxed) + 1
}

/// What the VM lock protects.
pub(crate) struct Space<D: Driver> {
    pub(crate) mappings: MappingTree<ObjectHandle<D>, Attrs<D>>,
    pub(crate) attrs: AttrMap,
    /// What of them is charged.
    pub(crate) pinned: Pinned,
    /// How they follow the process.
    pub(crate) follow: Follow,
    /// Objects that are mapped, and of which the page table has nothing ([`crate::absent`]).
    pub(crate) absent: KVec<Arc<BoMemory<D>>>,
    /// It was destroyed.
    pub(crate) closed: bool,
    /// The bind queues that userspace made.
    pub(crate) queues: KVec<Arc<BindQueue<D>>>,
    /// What batches that may not be done yet change, in largest pages, and their fences.
    pub(crate) pending: KVVec<(RangeSet, ARef<Fence>)>,
    /// With so many pending batches it is time to look which are done.
    pub(crate) sweep_at: usize,
}

/// What the table lock protects.
pub(crate) struct Tables<D: Driver> {
    pub(crate) page_table: D::PageTable,
    /// Batches that were planned and not applied: they count on tables that are there.
    pub(crate) planned: usize,
    /// Where empty tables may be left from when some batch was planned.
    pub(crate) prune: Option<VaRange>,
    /// What is mirrored, and what of that the page table has.
    pub(crate) mirrors: Mirrors<Attrs<D>>,
    /// Counts changes that may have taken tables away.
    pub(crate) epoch: u64,
}

/// Whose memory a VM mirrors.
pub(crate) enum Attachment<D: Driver> {
    /// Nobody's so far.
    None,
    /// Of the process that is watched.
    Process(Arc<Subscription<Watcher<D>>>),
    /// Nobody's ever more.
    Closed,
}

/// A device address space.
#[pin_data]
pub struct Vm<D: Driver> {
    root: Root<D>,
    /// By which it is known to the evictor, in debugfs and in traces.
    pub(crate) number: u64,
    #[pin]
    pub(crate) space: Mutex<Space<D>>,
    #[pin]
    pub(crate) tables: Mutex<Tables<D>>,
    /// The process whose memory is mirrored.
    #[pin]
    pub(crate) attachment: Mutex<Attachment<D>>,
    /// Faults of the device that have no answer yet.
    #[pin]
    pub(crate) faults: Mutex<Faults<D>>,
    /// How much of the device it may have pinned.
    pub(crate) allowed: Arc<Allowed>,
    /// The device did not confirm a change: what it has cached is unknown.
    pub(crate) failed: Atomic<bool>,
    pub(crate) default_queue: Arc<BindQueue<D>>,
    /// Behind the page table, which needs it.
    pub(crate) device: DeviceRef<D>,
}

impl<D: Driver> Vm<D> {
    /// Creates an empty address space, which must be [closed](Self::close) in the end. `ENOMEM`,
    /// `ENOSPC` (device memory for the root table).
    pub fn new(device: &drm::Device<D>) -> Result<Arc<Self>> {
        let page_table = D::new_page_table(device)?;
        let default_queue = BindQueue::new(device.into())?;
        let vm = Arc::pin_init(
            try_pin_init!(Self {
                root: page_table.root(),
                number: next_number(),
                space <- new_mutex!(Space {
                    mappings: MappingTree::new(),
                    attrs: AttrMap::new(),
                    pinned: Pinned::default(),
                    follow: Follow::default(),
                    absent: KVec::new(),
                    closed: false,
                    queues: KVec::new(),
                    pending: KVVec::new(),
                    sweep_at: 0,
                }, "gmem_vm::Vm::space"),
                tables <- new_mutex!(Tables {
                    page_table,
                    planned: 0,
                    prune: None,
                    mirrors: Mirrors::new(),
                    epoch: 0,
                }, "gmem_vm::Vm::tables"),
                attachment <- new_mutex!(Attachment::None, "gmem_vm::Vm::attachment"),
                faults <- new_mutex!(Faults::new(), "gmem_vm::Vm::faults"),
                allowed: Allowed::new()?,
                failed: Atomic::new(false),
                default_queue,
                device: device.into(),
            }),
            GFP_KERNEL,
        )?;
        device.remember_vm(vm.clone())?;
        Ok(vm)
    }

    /// What a job needs to know to run here.
    pub fn root(&self) -> Root<D> {
        self.root
    }

    /// Fails if no job may be submitted here any more: `EIO` after a bind that the device did not
    /// confirm, `ENOENT` after the VM was destroyed.
    pub fn check(&self) -> Result {
        self.check_space(&self.space.lock())
    }

    pub(crate) fn check_space(&self, space: &Space<D>) -> Result {
        if space.closed {
            Err(ENOENT)
        } else if self.failed.load(Relaxed) {
            Err(EIO)
        } else {
            Ok(())
        }
    }

    /// The queue for batches of which userspace did not say another.
    pub fn default_queue(&self) -> &Arc<BindQueue<D>> {
        &self.default_queue
    }

    /// Makes another bind queue. `ENOENT` if the VM was destroyed, `ENOSPC` if it has
    /// [`MAX_BIND_QUEUES`], `ENOMEM`.
    pub fn new_queue(&self) -> Result<Arc<BindQueue<D>>> {
        self.sweep_queues();
        let queue = BindQueue::new(self.device.clone())?;
        let mut space = self.space.lock();
        self.check_space(&space)?;
        if space.queues.len() >= MAX_BIND_QUEUES {
            return Err(ENOSPC);
        }
        space.queues.push(queue.clone(), GFP_KERNEL)?;
        Ok(queue)
    }

    /// Lets a bind queue take no more batches. Those it has will be done.
    pub fn destroy_queue(&self, queue: &BindQueue<D>) {
        queue.destroy();
        self.sweep_queues();
    }

    /// Forgets queues that were destroyed and have nothing to do any more.
    fn sweep_queues(&self) {
        loop {
            let queue = {
                let mut space = self.space.lock();
                let over = |q: &Arc<BindQueue<D>>| q.is_destroyed() && q.is_idle();
                let Some(at) = space.queues.iter().position(over) else {
                    return;
                };
                swap_remove(&mut space.queues, at)
            };
            if let Some(queue) = queue {
                queue.finish();
            }
        }
    }

    /// The whole range that can be mapped.
    pub fn range() -> VaRange {
        const {
            match VaRange::from_bounds(D::CAPS.va_start, D::CAPS.va_end) {
                Some(range) => range,
                None => panic!("CAPS: the address space is empty"),
            }
        }
    }
}
