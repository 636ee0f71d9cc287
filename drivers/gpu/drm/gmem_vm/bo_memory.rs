// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Memory of a buffer object that may leave the device.
//!
//! It is in one of three places: in device memory, where it belongs; in the object's shmem file, from where the kernel
//! may swap it out ([`BoMemory::spill`], which the evictor calls); or pinned in that file and mapped by
//! the device, if it is needed and the device has no room for it. [`BoMemory::object`] says where at each moment:
//! nowhere, as far as the device is concerned, while it is in the file alone. No page table has anything of it then; who
//! needs it calls [`Vm::bring_object`](crate::vm::Vm).
//!
//! A batch of binds writes page tables later than it is planned, so memory that it maps, or takes a mapping from, stays in its
//! place from before the one to after the other ([`BoPins`], [`BoMemory::hold`]).
//!
//! Locks: `state`, a mutex, is held while memory moves, outside of all others of the framework but a file's; whoever has
//! one of those, and the evictor, only tries it. `shown`, a spinlock, is a leaf.

use crate::{
    absent,
    device::{
        Device,
        DeviceRef, //
    },
    driver::{
        CopyOp,
        CopySource,
        Driver, //
    },
    kapi::{
        gem::UserMapping,
        lock::{
            new_mutex,
            new_spinlock, //
        },
        shmem::{
            PinnedPages,
            ShmemFile, //
        },
        trace, //
    },
    memory::MemoryBlock,
    object::{
        Extent,
        Location,
        Object, //
    }, //
};
use kernel::{
    drm::{
        self,
        gem::{
            BaseObject,
            Fault, //
        }, //
    },
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            AtomicFlag,
            Full,
            Relaxed, //
        },
        Arc,
        Mutex,
        SpinLock, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// Part of device memory, one in so many, that one batch leaves to others.
const SPARE: u64 = 8;

/// Where it is.
enum Place<D: Driver> {
    /// In device memory.
    Device(MemoryBlock),
    /// In the file alone.
    File,
    /// In the file, where the device has it mapped, unless that was revoked. In this order they are dropped.
    Host {
        mapped: Option<Mapped<D>>,
        pages: PinnedPages,
    },
}

/// What `state` protects.
pub(crate) struct State<D: Driver> {
    /// What processes have mapped of device memory. Goes before that does.
    user: Option<UserMapping>,
    place: Place<D>,
}

/// Memory of a buffer object.
#[pin_data]
pub(crate) struct BoMemory<D: Driver> {
    size: u64,
    visible: bool,
    file: ShmemFile,
    #[pin]
    state: Mutex<State<D>>,
    #[pin]
    shown: SpinLock<Arc<Object>>,
    /// What is shown while it is nowhere.
    nowhere: Arc<Object>,
    /// Batches that concern it and are not done.
    pins: Atomic<usize>,
    /// It was bound at some time.
    bound: AtomicFlag,
}

/// Keeps memory of buffer objects in its place.
pub(crate) struct BoPins<D: Driver> {
    pins: KVVec<Arc<BoMemory<D>>>,
    /// Device memory that may be kept from others, in bytes.
    room: u64,
}

impl<D: Driver> BoPins<D> {
    /// Of none so far.
    pub(crate) fn new(device: &drm::Device<D>) -> Self {
        let size = device.memory().map_or(0, |memory| memory.size());
        Self {
            pins: KVVec::new(),
            // The rest is for page tables.
            room: size - size / SPARE,
        }
    }

    /// Brings memory to where the device can use it, and keeps it there. What does not fit with what is kept already is used
    /// in the host.
    ///
    /// Process context, sleeps; no locks of a VM may be held. Errors are those of [`BoMemory::bring_back`].
    pub(crate) fn add(&mut self, device: &drm::Device<D>, memory: &Arc<BoMemory<D>>) -> Result {
        // Page by page it is the same one.
        if self
            .pins
            .last()
            .is_some_and(|last| Arc::ptr_eq(last, memory))
        {
            return Ok(());
        }
        self.pins.reserve(1, GFP_KERNEL)?;
        if memory.pin(device, memory.size <= self.room)? {
            self.room = self.room.saturating_sub(memory.size);
        }
        // There is room.
        let _ = self.pins.push_within_capacity(memory.clone());
        Ok(())
    }
}

impl<D: Driver> Drop for BoPins<D> {
    fn drop(&mut self) {
        self.pins.iter().for_each(|memory| memory.let_go());
    }
}

/// Pages of the host with addresses for the device, as long as this lives.
struct Mapped<D: Driver> {
    device: DeviceRef<D>,
    /// Offset in the object, address, bytes.
    runs: KVVec<(u64, u64, usize)>,
}

impl<D: Driver> Mapped<D> {
    /// `ENODEV` if the driver is being unbound, `ENOMEM`; `EIO` if the device can't reach them.
    fn new(device: &drm::Device<D>, pages: &PinnedPages) -> Result<Self> {
        let mapper = device.mapper().ok_or(ENODEV)?;
        let count = pages.runs().count();
        let mut this = Self {
            device: device.into(),
            runs: KVVec::with_capacity(count, GFP_KERNEL)?,
        };
        let mapped = {
            let bus = mapper.bus().ok_or(ENODEV)?;
            pages.runs().try_for_each(|(offset, phys, size)| {
                let address = bus.map(phys, size)?;
                // There is room for all.
                let _ = this.runs.push_within_capacity((offset, address, size));
                Ok(())
            })
        };
        mapped.map(|()| this)
    }

    fn object(&self) -> Result<Object> {
        let mut object = Object::new();
        for &(offset, address, size) in &self.runs {
            object.push(Extent {
                offset,
                location: Location::Host(address),
                size: size as u64,
            })?;
        }
        Ok(object)
    }

    /// Copies all of them to where an object is on the device, or from there.
    fn copy(&self, object: &Object, to_device: bool) -> Result {
        let mut batch = KVVec::new();
        for &(offset, address, size) in &self.runs {
            for extent in object.runs(offset, size as u64) {
                let host = Location::Host(address + (extent.offset - offset));
                let (source, destination) = match to_device {
                    true => (host, extent.location),
                    false => (extent.location, host),
                };
                let op = CopyOp {
                    source: CopySource::At(source),
                    destination,
                    size: extent.size,
                };
                batch.push(op, GFP_KERNEL)?;
            }
        }
        Device::copy(&self.device, &batch)
    }
}

impl<D: Driver> Drop for Mapped<D> {
    fn drop(&mut self) {
        let mapper = self.device.mapper().filter(|mapper| mapper.needs_unmap());
        if let Some(bus) = mapper.and_then(|mapper| mapper.bus()) {
            for &(_, address, size) in &self.runs {
                bus.unmap(address, size);
            }
        }
    }
}

/// The logical page table of what lies in a block of device memory.
pub(crate) fn object_of(block: &MemoryBlock) -> Result<Object> {
    let mut object = Object::new();
    let mut offset = 0;
    for (local, size) in block.runs() {
        object.push(Extent {
            offset,
            location: Location::Device(local),
            size,
        })?;
        offset += size;
    }
    Ok(object)
}

impl<D: Driver> BoMemory<D> {
    /// Of an object that lies in a block of device memory, which must be `visible` to the CPU, or need not.
    /// `EINVAL` if the object has no file, `ENOMEM`.
    pub(crate) fn new(
        bo: &impl BaseObject,
        block: MemoryBlock,
        visible: bool,
    ) -> Result<Arc<Self>> {
        let object = Arc::new(object_of(&block)?, GFP_KERNEL)?;
        let nowhere = Arc::new(Object::new(), GFP_KERNEL)?;
        let file = ShmemFile::of(bo)?;
        Arc::pin_init(
            pin_init!(Self {
                size: bo.size() as u64,
                visible,
                file,
                state <- new_mutex!(State {
                    user: None,
                    place: Place::Device(block),
                }, "gmem_vm::BoMemory::state"),
                shown <- new_spinlock!(object, "gmem_vm::BoMemory::shown"),
                nowhere,
                pins: Atomic::new(0),
                bound: AtomicFlag::new(false),
            }),
            GFP_KERNEL,
        )
    }

    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Where it is for the device.
    pub(crate) fn object(&self) -> Arc<Object> {
        self.shown.lock().clone()
    }

    /// Whether the device can use it at this moment. Any context.
    pub(crate) fn is_somewhere(&self) -> bool {
        !self.shown.lock().extents().is_empty()
    }

    /// The lowest local address that it has in device memory, if it is there.
    pub(crate) fn lowest(&self) -> Option<u64> {
        let object = self.object();
        let local = object.extents().iter().filter_map(|e| match e.location {
            Location::Device(local) => Some(local),
            _ => None,
        });
        local.min()
    }

    fn show(&self, object: Arc<Object>) {
        let was = core::mem::replace(&mut *self.shown.lock(), object);
        // Without the lock.
        drop(was);
    }

    /// Keeps others from moving it.
    pub(crate) fn lock(&self) -> impl core::ops::DerefMut<Target = State<D>> + '_ {
        self.state.lock()
    }

    /// Brings it to where the device can use it, which is device memory only with `fits`, and [holds](Self::hold) it there.
    /// Returns whether it is in device memory.
    fn pin(self: &Arc<Self>, device: &drm::Device<D>, fits: bool) -> Result<bool> {
        let mut state = self.state.lock();
        let is_right = match state.place {
            Place::Device(_) => fits,
            // There may be room by now.
            Place::Host { .. } => !fits,
            Place::File => true,
        };
        if !is_right {
            // If it can't move, nothing is lost.
            let _ = self.vacate(device, &mut state);
        }
        self.bring_back(device, &mut state, fits)?;
        self.bound.store(true, Relaxed);
        self.hold();
        Ok(matches!(state.place, Place::Device(_)))
    }

    /// Keeps it in its place until [`let_go`](Self::let_go), as far as it is mapped in a VM, whose lock is held. Does not sleep.
    pub(crate) fn hold(&self) {
        self.pins.fetch_add(1, Full);
    }

    /// Undoes one [`hold`](Self::hold).
    pub(crate) fn let_go(&self) {
        self.pins.fetch_sub(1, Full);
    }

    /// Whether it may be worth trying to move it: a device that can't fault could be without what it has bound at no time.
    pub(crate) fn can_leave(&self, can_fault: bool) -> bool {
        !self.is_held() && (can_fault || !self.bound.load(Relaxed))
    }

    /// Whether it must stay. What the lock of a VM was held for is seen by who holds that.
    pub(crate) fn is_held(&self) -> bool {
        self.pins.load(Acquire) != 0
    }

    /// Brings it to where the device can use it, if it is not there: with `fits` to device memory if there is room.
    ///
    /// Process context, sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINTR` if the process is being killed; `EIO`, `ENODEV`: the device did not copy.
    pub(crate) fn bring_back(
        self: &Arc<Self>,
        device: &drm::Device<D>,
        state: &mut State<D>,
        fits: bool,
    ) -> Result {
        let Place::File = state.place else {
            return Ok(());
        };
        let result = self.fetch(device, state, fits);
        let to = match state.place {
            Place::Host { .. } => trace::Where::Host,
            _ => trace::Where::Device,
        };
        trace::object(self.size, to, result);
        result
    }

    /// As [`bring_back`](Self::bring_back), of what is in the file alone.
    fn fetch(
        self: &Arc<Self>,
        device: &drm::Device<D>,
        state: &mut State<D>,
        fits: bool,
    ) -> Result {
        // From then on addresses are taken away, and none must come.
        if *device.mirroring_closed.lock() {
            return Err(ENODEV);
        }
        let block = match fits {
            true => Device::alloc_settled(device, self.size, self.visible),
            false => Err(ENOSPC),
        };
        let block = match block {
            Ok(block) => Some(block),
            Err(e) if e == ENOSPC => {
                // What stays for being new must not stay for ever.
                device.tick();
                None
            }
            Err(e) => return Err(e),
        };
        let pages = self.file.pin()?;
        let mapped = Mapped::new(device, &pages)?;
        let Some(block) = block else {
            self.show(Arc::new(mapped.object()?, GFP_KERNEL)?);
            state.place = Place::Host {
                mapped: Some(mapped),
                pages,
            };
            return Ok(());
        };
        let object = Arc::new(object_of(&block)?, GFP_KERNEL)?;
        mapped.copy(&object, true)?;
        drop((mapped, pages));
        self.file.discard();
        self.show(object);
        state.place = Place::Device(block);
        device.object_came(self);
        Ok(())
    }

    /// Takes it out of all page tables, and leaves it in the file alone; if that fails all is as before. `EBUSY` if someone needs it where it is; those of
    /// [`Device::copy`]; `ENOMEM`, `EINTR`.
    fn vacate(self: &Arc<Self>, device: &drm::Device<D>, state: &mut State<D>) -> Result {
        if self.is_held() {
            return Err(EBUSY);
        }
        if let Place::Device(_) = state.place {
            self.copy_out(device, state).inspect_err(|_| {
                // Of no use to anybody.
                self.file.discard();
            })?;
        } else {
            absent::hide(device, self)?;
        }
        self.show(self.nowhere.clone());
        // What it was in is free now.
        state.place = Place::File;
        Ok(())
    }

    /// Takes it out of all page tables, and copies it from device memory to its file.
    fn copy_out(self: &Arc<Self>, device: &drm::Device<D>, state: &mut State<D>) -> Result {
        let pages = self.file.pin()?;
        let mapped = Mapped::new(device, &pages)?;
        absent::hide(device, self)?;
        state.user = None;
        mapped.copy(&self.object(), false)
    }

    /// Moves it from device memory to its file; returns how many bytes are free by that.
    ///
    /// Process context, sleeps; waits for no lock of an object or a VM but table locks.
    ///
    /// # Errors
    ///
    /// `EBUSY`: it is not there, or someone needs it there, or just moves it; `ENOMEM`; `EINTR` if the process is being killed; `EIO`,
    /// `ENODEV`: the device did not copy.
    pub(crate) fn spill(self: &Arc<Self>, device: &drm::Device<D>) -> Result<u64> {
        let mut state = self.state.try_lock().ok_or(EBUSY)?;
        let Place::Device(block) = &state.place else {
            return Err(EBUSY);
        };
        let freed = block.runs().map(|(_, size)| size).sum();
        let result = self.vacate(device, &mut state);
        trace::object(self.size, trace::Where::Sparse, result);
        result.map(|()| freed)
    }

    /// Lets the device have nothing of it in the host any more: its driver is being unbound.
    pub(crate) fn revoke(self: &Arc<Self>, device: &drm::Device<D>) {
        let mut state = self.state.lock();
        if let Place::Host { .. } = state.place {
            if self.vacate(device, &mut state).is_err() {
                dev_warn!(device.as_ref(), "a buffer object in the host is in use\n");
            }
        }
        // The pages stay; what still uses them finds no address.
        if let Place::Host { mapped, .. } = &mut state.place {
            *mapped = None;
        }
    }

    /// Resolves a fault of the CPU on a page of it. `EAGAIN` if it moves at this moment; `EINVAL`, and those of
    /// [`bring_back`](Self::bring_back).
    pub(crate) fn insert_page(
        self: &Arc<Self>,
        device: &drm::Device<D>,
        fault: &Fault<'_>,
    ) -> Result {
        // Whoever moves it may need the lock of this process's memory map.
        let Some(mut state) = self.state.try_lock() else {
            fsleep(Delta::from_millis(1));
            return Err(EAGAIN);
        };
        self.bring_back(device, &mut state, true)?;
        let State { user, place } = &mut *state;
        match place {
            Place::Device(_) => {
                let offset = (fault.page() as u64) << PAGE_SHIFT;
                let object = self.object();
                let run = object.runs(offset, 1).next().ok_or(EINVAL)?;
                let aperture = device.aperture().ok_or(EINVAL)?;
                let user = user.get_or_insert_with(|| UserMapping::new(fault));
                if !user.is_of(fault) {
                    return Err(EINVAL);
                }
                aperture.insert_page(fault, run.location.address())
            }
            Place::Host { pages, .. } => pages.insert_page(fault),
            Place::File => Err(EINVAL),
        }
    }
}
