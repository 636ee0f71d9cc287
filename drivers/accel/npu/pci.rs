// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Probe and remove. The one file of the driver with `unsafe`: promises to the driver core that
//! things are dropped, and in which order.

use crate::{
    driver::{
        Hardware,
        Npu, //
    },
    irq::Handler, //
};
use gmem_vm::{
    kapi::aperture::Aperture,
    Driver as _,
    Memory, //
};
use kernel::{
    device::Core,
    dma::{
        Device as _,
        DmaMask, //
    },
    drm,
    irq::{
        self,
        ThreadedRegistration, //
    },
    pci::{
        self,
        IrqType,
        IrqTypes,
        IrqVectorRegistration, //
    },
    prelude::*,
    sync::Arc, //
};

/// Device id, under the vendor id that QEMU's own devices have.
const DEVICE_ID: u32 = 0x4e50;

/// The BAR through which the CPU sees local memory.
pub(crate) const APERTURE_BAR: u32 = 2;

kernel::pci_device_table!(
    PCI_TABLE,
    <NpuPci as pci::Driver>::IdInfo,
    [(pci::DeviceId::from_id(pci::Vendor::REDHAT, DEVICE_ID), ())]
);

/// Handlers of all vectors, and the vectors themselves.
struct Interrupts<'bound> {
    // INVARIANT: Borrows from `_vectors`, and is dropped before it.
    _handlers: KVec<Pin<KBox<ThreadedRegistration<'bound, Handler>>>>,
    _vectors: KBox<IrqVectorRegistration<'bound>>,
}

impl<'bound> Interrupts<'bound> {
    fn new(
        pdev: &'bound pci::Device<kernel::device::Bound>,
        hardware: &Arc<Hardware>,
    ) -> Result<Self> {
        let count = u32::try_from(2 + hw_queues(hardware))?;
        let msix = IrqTypes::default().with(IrqType::MsiX);
        let vectors = KBox::new(pdev.alloc_irq_vectors(count, count, msix)?, GFP_KERNEL)?;
        // SAFETY: What the box points to does not move with the box, and lives until the box is
        // dropped, which in this struct is after everything that borrows from it; on an early
        // return, `handlers` is dropped before `vectors`, being declared after it.
        let borrowed: &'bound IrqVectorRegistration<'bound> =
            unsafe { &*core::ptr::from_ref(&*vectors) };
        let mut handlers = KVec::new();
        for vector in 0..borrowed.len() {
            // SAFETY: The registration is boxed, stored in the driver's data, and dropped with it.
            let registration = unsafe {
                ThreadedRegistration::new(
                    borrowed.index(vector)?.into(),
                    irq::Flags::TRIGGER_NONE,
                    c"npu",
                    Ok(Handler::new(hardware, vector)?),
                )
            };
            handlers.push(KBox::pin_init(registration, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(Self {
            _handlers: handlers,
            _vectors: vectors,
        })
    }
}

/// Number of compute queues.
fn hw_queues(hardware: &Hardware) -> usize {
    hardware.hw().facts().compute_queues
}

/// Ends everything when dropped.
struct StopOnDrop(Arc<Hardware>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What lives while the driver is bound. Dropped in this order: no new ioctls, memory of processes
/// comes back from the device, no more interrupts, everything ends.
pub(crate) struct Bound<'bound> {
    _debugfs: gmem_vm::debugfs::Directory<Npu>,
    _registration: drm::Registration<'bound, Npu>,
    _mirrors: gmem_vm::MirrorGuard<Npu>,
    _interrupts: Interrupts<'bound>,
    _stop: StopOnDrop,
}

/// The PCI side of the driver.
pub(crate) struct NpuPci;

impl pci::Driver for NpuPci {
    type IdInfo = ();
    type Data<'bound> = Bound<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound ()>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        pdev.enable_device_mem()?;
        // SAFETY: The device is being probed, nobody else can map memory for it.
        unsafe { pdev.dma_set_mask_and_coherent(DmaMask::new::<52>())? };
        // Imported memory may be contiguous over any length.
        // SAFETY: As above.
        unsafe { pdev.dma_set_max_seg_size(u32::MAX) };

        let hardware = Hardware::new(pdev)?;
        // Not before the device was reset: whoever had it last may have given it up as it was.
        let stop = StopOnDrop(hardware.clone());
        pdev.set_master();
        let facts = *hardware.hw().facts();
        let memory = Memory::new(
            facts.mem_size,
            facts.aperture_size.min(facts.mem_size),
            Npu::CAPS.granule(),
        )?;
        let aperture = match facts.aperture_size {
            0 => None,
            _ => Some(Aperture::new(pdev, APERTURE_BAR)?),
        };
        dev_info!(
            pdev,
            "{} MiB of memory, {} MiB visible, {} compute queues\n",
            facts.mem_size >> 20,
            facts.aperture_size >> 20,
            facts.compute_queues
        );
        let drm = drm::UnregisteredDevice::<Npu>::new(
            pdev,
            gmem_vm::Device::new(hardware.clone(), Some(memory), aperture),
        )?;
        let interrupts = Interrupts::new(pdev, &hardware)?;
        hardware.start(&drm);
        let mirrors = gmem_vm::MirrorGuard::new(&drm);
        let debugfs = gmem_vm::debugfs::Directory::new(&drm, pdev.as_ref())?;
        // SAFETY: Stored in the driver's data, and dropped with it.
        let registration =
            unsafe { drm::Registration::new(pdev.as_ref(), drm, Ok::<_, Error>(()), 0)? };
        Ok(Bound {
            _debugfs: debugfs,
            _registration: registration,
            _mirrors: mirrors,
            _interrupts: interrupts,
            _stop: stop,
        })
    }
}
