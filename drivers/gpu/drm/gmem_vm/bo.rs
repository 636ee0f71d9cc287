// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Buffer objects: the pager of memory that userspace asked for.
//!
//! A [`Bo`] is the framework's part of a GEM object. Its memory was cleared before anyone could see it. That of the device
//! may leave it for other memory, and comes back ([`crate::bo_memory`]), unless the object is pinned, or the device's pages
//! are larger than those of the CPU. Memory of the host is there from creation to the last reference, at a fixed place.
//!
//! That holds as well for a dma-buf of another driver or device: it is attached and mapped when it is
//! imported, once and for all. Who made it has cleared it, or not.

use crate::{
    bo_memory::{
        object_of,
        BoMemory, //
    },
    device::{
        Device,
        DeviceRef, //
    },
    driver::{
        CopyOp,
        CopySource,
        Driver, //
    },
    evict::objects::Entry,
    kapi::{
        gem::{
            check_size,
            HostPages, //
        },
        prime, //
    },
    memory::MemoryBlock,
    object::{
        Location,
        Object, //
    }, //
};
use kernel::{
    device,
    drm::{
        self,
        gem, //
    },
    mm::virt::VmaRef,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        SetOnce, //
    }, //
};

/// A GEM object of a driver that embeds gmem_vm.
pub type BoObject<D> = gem::Object<Bo<D>>;

/// Largest size of a buffer object, in bytes.
pub const MAX_SIZE: u64 = 1 << 40;

/// Where a buffer object shall be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// In device memory, anywhere.
    Device,
    /// In device memory that the CPU can map.
    DeviceVisible,
    /// In host memory.
    Host,
    /// Wherever the dma-buf is that it was imported from: in host memory of another driver or device.
    Imported,
}

/// What a buffer object consists of.
enum Contents<D: Driver> {
    /// Memory that may leave the device.
    Movable(Entry<D>),
    /// Memory that does not.
    Device(MemoryBlock, Arc<Object>),
    Host(HostPages, Arc<Object>),
    /// The GEM object itself holds the dma-buf ([`prime`]).
    Imported(Arc<Object>),
}

/// The framework's part of a GEM object.
#[pin_data]
pub struct Bo<D: Driver> {
    device: DeviceRef<D>,
    placement: Placement,
    /// Set once while the object is created, before anyone else has a reference.
    contents: SetOnce<Contents<D>>,
}

impl<D: Driver> Bo<D> {
    /// Creates a buffer object of `size` bytes, all of them zero. If device memory is full, others may leave it for this one,
    /// or memory of processes. With `pinned`, it never leaves device memory itself.
    ///
    /// Process context; waits for the device to clear its memory.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the size is 0, not a multiple of the CPU's and of the device's smallest page size, or
    /// above [`MAX_SIZE`];
    /// `ENOSPC` if device memory is full or absent; `ENOMEM`; `EIO` or `ENODEV` if the device
    /// failed to clear its memory; `EOPNOTSUPP` if the device can't reach the host memory as it is.
    pub fn create(
        device: &drm::Device<D, drm::Registered>,
        size: u64,
        placement: Placement,
        pinned: bool,
    ) -> Result<ARef<BoObject<D>>>
    where
        D::ParentDevice<device::Bound>: AsRef<device::Device<device::Bound>>,
    {
        let granule = D::CAPS.granule();
        let unit = granule.max(PAGE_SIZE as u64);
        if size == 0 || size > MAX_SIZE || size & (unit - 1) != 0 {
            return Err(EINVAL);
        }
        // Before the GEM object, which would otherwise be made only to be thrown away.
        let block = match placement {
            Placement::Host => {
                check_size(usize::try_from(size)?)?;
                None
            }
            Placement::Imported => return Err(EINVAL),
            Placement::Device | Placement::DeviceVisible => {
                let visible = placement == Placement::DeviceVisible;
                Device::prepare_eviction(device, size);
                let block = Device::alloc_patiently(device, size, visible)?;
                clear(device, &block)?;
                Some(block)
            }
        };
        let bo = BoObject::<D>::new(device, usize::try_from(size)?, placement)?;
        let contents = match block {
            Some(block) if pinned || granule != PAGE_SIZE as u64 => {
                let object = object_of(&block)?;
                Contents::Device(block, Arc::new(object, GFP_KERNEL)?)
            }
            Some(block) => {
                let visible = placement == Placement::DeviceVisible;
                let memory = BoMemory::new(&*bo, block, visible)?;
                Contents::Movable(Entry::new(device, memory)?)
            }
            None => {
                let parent: &D::ParentDevice<device::Bound> = device.as_ref();
                let pages = HostPages::new(&*bo, parent.as_ref(), usize::try_from(granule)?)?;
                let runs = pages.runs().map(|(_, address, bytes)| (address, bytes));
                let object = Object::of_host_memory(size, granule, runs)?;
                Contents::Host(pages, Arc::new(object, GFP_KERNEL)?)
            }
        };
        bo.contents.populate(contents);
        Ok(bo)
    }

    /// The logical page table as it is now. Of memory that may move it holds as long as that was kept from it.
    /// None while it is created.
    pub fn object(&self) -> Option<Arc<Object>> {
        Some(match self.contents.as_ref()? {
            Contents::Movable(entry) => entry.memory().object(),
            Contents::Device(_, object)
            | Contents::Host(_, object)
            | Contents::Imported(object) => object.clone(),
        })
    }

    /// Its memory, if that may leave the device.
    pub(crate) fn memory(&self) -> Option<&Arc<BoMemory<D>>> {
        match self.contents.as_ref()? {
            Contents::Movable(entry) => Some(entry.memory()),
            _ => None,
        }
    }

    /// Where it is now, in a word.
    pub(crate) fn residency(&self) -> &'static str {
        let object = self.object();
        match object.and_then(|o| Some(o.extents().first()?.location)) {
            Some(Location::Device(_)) => "device",
            Some(Location::Host(_)) => "host",
            _ => "file",
        }
    }

    /// Where the object is.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// Whether the CPU can map it. Of what is imported it maps the dma-buf, whose exporter knows how.
    pub fn is_cpu_visible(&self) -> bool {
        matches!(self.placement, Placement::DeviceVisible | Placement::Host)
    }

    /// What a dma-buf consists of that is imported.
    fn imported(
        device: &drm::Device<D, drm::Registered>,
        import: &gem::Import<'_>,
    ) -> Result<Contents<D>> {
        if !D::is_present(device) {
            return Err(ENODEV);
        }
        let size = import.size() as u64;
        let granule = D::CAPS.granule();
        if size > MAX_SIZE || size & (granule - 1) != 0 {
            return Err(EINVAL);
        }
        let object = Object::of_host_memory(size, granule, prime::runs(device, import)?)?;
        Ok(Contents::Imported(Arc::new(object, GFP_KERNEL)?))
    }

    /// Its pages in host memory.
    fn host_pages(&self) -> Option<&HostPages> {
        match self.contents.as_ref()? {
            Contents::Host(pages, _) => Some(pages),
            _ => None,
        }
    }

    /// Gives the CPU the page it faulted on.
    fn insert_page(&self, fault: &gem::Fault<'_>) -> Result {
        match self.contents.as_ref().ok_or(EINVAL)? {
            Contents::Movable(entry) => entry.memory().insert_page(&self.device, fault),
            Contents::Host(pages, _) => pages.insert_page(fault),
            Contents::Imported(_) => Err(EINVAL),
            Contents::Device(_block, object) => {
                let offset = (fault.page() as u64) << PAGE_SHIFT;
                let run = object.runs(offset, 1).next().ok_or(EINVAL)?;
                let aperture = self.device.aperture().ok_or(EINVAL)?;
                aperture.insert_page(fault, run.location.address())
            }
        }
    }
}

/// Clears device memory before a process can see it.
fn clear<D: Driver>(device: &drm::Device<D>, block: &MemoryBlock) -> Result {
    let mut batch = KVVec::new();
    for (local, size) in block.runs() {
        batch.push(
            CopyOp {
                source: CopySource::Fill(0),
                destination: Location::Device(local),
                size,
            },
            GFP_KERNEL,
        )?;
    }
    Device::copy(device, &batch)
}

impl<D: Driver> gem::DriverObject for Bo<D> {
    type Driver = D;
    type Args = Placement;

    const MMAP: bool = true;
    const IMPORT: bool = true;
    const EXPORT: bool = true;

    fn new(
        device: &drm::Device<D>,
        _size: usize,
        placement: Placement,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            device: device.into(),
            placement,
            contents: SetOnce::new(),
        })
    }

    fn status(object: &BoObject<D>) -> gem::Status {
        // With a spinlock held.
        match object.memory().is_none_or(|memory| memory.is_somewhere()) {
            true => gem::StatusFlag::Resident.into(),
            false => gem::Status::default(),
        }
    }

    fn mmap(object: &BoObject<D>, _vma: &VmaRef) -> Result {
        if object.is_cpu_visible() {
            Ok(())
        } else {
            Err(EPERM)
        }
    }

    fn fault(
        object: &BoObject<D>,
        _device: &drm::Device<D, drm::Registered>,
        fault: &gem::Fault<'_>,
    ) -> Result {
        object.insert_page(fault)
    }

    /// # Errors
    ///
    /// `ENODEV` if the device is gone; `EINVAL` if the size is above [`MAX_SIZE`] or not a multiple of
    /// the device's smallest page, or if the exporter maps less than it; `EOPNOTSUPP` if the device
    /// can't reach the memory as it is: scattered in less than its pages, or behind bounce buffers;
    /// `ENOMEM`.
    fn import(
        device: &drm::Device<D, drm::Registered>,
        import: &gem::Import<'_>,
    ) -> impl PinInit<Self, Error> {
        let found = Self::imported(device, import);
        let device: &drm::Device<D> = device;
        try_pin_init!(Self {
            device: device.into(),
            placement: Placement::Imported,
            contents: {
                let contents = SetOnce::new();
                contents.populate(found?);
                contents
            },
        })
    }

    /// # Errors
    ///
    /// `EOPNOTSUPP` unless it is in host memory: that of the device is for nobody else.
    fn pin(object: &BoObject<D>) -> Result {
        // Nothing to do: it stays where it is anyway.
        object.host_pages().map(drop).ok_or(EOPNOTSUPP)
    }

    fn pages(object: &BoObject<D>) -> Result<gem::ExportedPages> {
        prime::exported_pages(object, Self::host_pages)
    }
}
