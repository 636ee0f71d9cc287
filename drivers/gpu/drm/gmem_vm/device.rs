// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`Device`]: one accelerator as the framework sees it.
//!
//! Owns the device's memory. It is the data of the driver's `drm::Device`, so it lives as long as
//! anybody holds that, also after the hardware is gone. Its locks are those of the lists of VMs and of objects.

use crate::{
    attach::Mirroring,
    driver::{
        CopyOp,
        Driver, //
    },
    evict::{
        objects::Objects,
        policy::PolicyKind, //
    },
    kapi::{
        aperture::Aperture,
        lock::new_mutex,
        work::OwnedQueue, //
    },
    latency::Latency,
    memory::Memory,
    vm::Vm, //
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
        Mutex,
        SetOnce, //
    }, //
};

/// A counted reference to a device.
pub type DeviceRef<D> = ARef<drm::Device<D>>;

/// The framework's workqueues of a device. Nobody's work drops the last reference to the device:
/// closing a VM waits for all of it ([`crate::bind_queue`]).
pub(crate) struct Workers {
    /// Between fences and their signals.
    pub(crate) bind: OwnedQueue,
    /// For what frees memory.
    pub(crate) free: OwnedQueue,
}

impl Workers {
    fn new() -> Result<Self> {
        Ok(Self {
            bind: OwnedQueue::new(c"gmem_vm-bind")?,
            free: OwnedQueue::new(c"gmem_vm-free")?,
        })
    }
}

/// VMs that were not closed, each with a number.
pub(crate) type Vms<D> = KVec<(u64, Arc<Vm<D>>)>;

/// One accelerator as the framework sees it.
#[pin_data]
pub struct Device<D: Driver> {
    hardware: D::Hardware,
    memory: Option<Memory>,
    aperture: Option<Aperture>,
    workers: Workers,
    /// For debugfs. A VM's own locks are taken inside.
    #[pin]
    vms: Mutex<Vms<D>>,
    /// Set as the first mirror is bound.
    pub(crate) mirroring: SetOnce<Mirroring<D>>,
    /// Held while that is set; true once none may be.
    #[pin]
    pub(crate) mirroring_closed: Mutex<bool>,
    /// Chunks of memory that VMs have pinned, or may have.
    pub(crate) pinned: Atomic<usize>,
    /// Number of the policy by which memory is evicted.
    evict_policy: Atomic<usize>,
    /// Buffer objects that the evictor may take.
    #[pin]
    objects: Mutex<Objects<D>>,
    /// How long everything takes.
    latency: Latency,
}

impl<D: Driver> Device<D> {
    /// The framework's state for a device with this hardware and memory, to be passed to
    /// `drm::UnregisteredDevice::new`.
    ///
    /// `aperture` is how the CPU reaches the visible part of the memory, from local address 0 on.
    /// `ENOMEM`.
    pub fn new(
        hardware: D::Hardware,
        memory: Option<Memory>,
        aperture: Option<Aperture>,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            hardware,
            memory,
            aperture,
            workers: Workers::new()?,
            vms <- new_mutex!(KVec::new(), "gmem_vm::Device::vms"),
            mirroring: SetOnce::new(),
            mirroring_closed <- new_mutex!(false, "gmem_vm::Device::mirroring"),
            pinned: Atomic::new(0),
            evict_policy: Atomic::new(0),
            objects <- new_mutex!(Objects::new(), "gmem_vm::Device::objects"),
            latency <- Latency::new(),
        })
    }

    pub(crate) fn vms(&self) -> &Mutex<Vms<D>> {
        &self.vms
    }

    pub(crate) fn objects(&self) -> &Mutex<Objects<D>> {
        &self.objects
    }

    /// Remembers a VM until it is closed. `ENOMEM`.
    pub(crate) fn remember_vm(&self, vm: Arc<Vm<D>>) -> Result {
        self.vms.lock().push((vm.number, vm), GFP_KERNEL)?;
        Ok(())
    }

    /// Forgets a VM.
    pub(crate) fn forget_vm(&self, vm: &Vm<D>) {
        let mut vms = self.vms.lock();
        let at = vms.iter().position(|(_, v)| core::ptr::eq(&**v, vm));
        let gone = at.and_then(|at| vms.remove(at).ok());
        drop(vms);
        drop(gone);
    }

    /// Copies, and waits until that is done. The driver bounds it; until it is done the memory can't be given to anyone.
    ///
    /// # Errors
    ///
    /// Those of [`Driver::copy`], and those that the copy ends with.
    pub(crate) fn copy(device: &drm::Device<D>, batch: &[CopyOp]) -> Result {
        let fence = D::copy(device, batch)?;
        fence.wait(false, None)?;
        fence.status().unwrap_or(Err(EIO))
    }

    pub(crate) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// How long everything takes.
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// The policy by which memory is evicted.
    pub fn evict_policy(&self) -> PolicyKind {
        let number = self.evict_policy.load(Relaxed);
        let found = PolicyKind::ALL.get(number);
        found.map_or(PolicyKind::default(), |(kind, _)| *kind)
    }

    /// Evicts by another policy from now on.
    pub fn set_evict_policy(&self, kind: PolicyKind) {
        let found = PolicyKind::ALL.iter().position(|(known, _)| *known == kind);
        self.evict_policy.store(found.unwrap_or(0), Relaxed);
    }

    /// The driver's own state.
    pub fn hardware(&self) -> &D::Hardware {
        &self.hardware
    }

    /// The local memory, if there is any.
    pub fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// How the CPU reaches the visible part of the memory.
    pub fn aperture(&self) -> Option<&Aperture> {
        self.aperture.as_ref()
    }
}
