// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A driver over gmem_vm whose device is software, for the benchmark of mirrors: faults that can be
//! repeated, local memory, a copy engine that can be told to copy nothing.
//!
//! memory.c is what would be hardware, [`table`] the page table. `svm.h` says what userspace can ask for. Of the
//! whole device there is one page table at a time that it can walk: that of the newest VM.

use core::{
    ffi::c_int,
    mem::ManuallyDrop, //
};
use gmem_vm::{
    kapi::dma_fence::Fence,
    Caps,
    CopyOp,
    CopySource,
    Fault,
    FaultAccess,
    Faults,
    Location,
    Memory,
    MirrorGuard,
    Verdict, //
};
use kernel::{
    bindings,
    device::{
        self,
        DeviceContext, //
    },
    drm,
    error::to_result,
    faux,
    new_mutex,
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

mod table;

use table::{
    PageTable,
    Words,
    LARGE,
    PAGE,
    SPAN, //
};

/// Bytes of local memory.
const MEMORY: u64 = 160 << 20;

extern "C" {
    fn svm_memory_init(bytes: u64) -> c_int;
    fn svm_memory_exit();
    fn svm_memory_copy(to: u64, to_local: bool, from: u64, from_local: bool, bytes: u64);
    fn svm_memory_fill(to: u64, to_local: bool, pattern: u64, bytes: u64);
    fn svm_memory_cost(what: u32, pages: u64) -> u64;
    fn svm_queue_arm(queue: u32);
    fn svm_queue_wait(queue: u32, verdict: *mut u32) -> c_int;
    fn svm_queue_answer(queue: u32, verdict: u32);
}

/// The driver, as a type.
struct Bench;

type BenchDevice<Ctx = drm::Normal> = drm::Device<Bench, Ctx>;

/// The driver's state of the device.
#[pin_data]
struct Hardware {
    /// What the device walks.
    #[pin]
    words: Mutex<Option<Arc<Words>>>,
    /// Copies are skipped.
    skip: Atomic<bool>,
    /// Copies and bytes of them so far, skipped or not.
    copies: Atomic<u64>,
    bytes: Atomic<u64>,
}

impl Hardware {
    fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                words <- new_mutex!(None, "bench_svm::Hardware::words"),
                skip: Atomic::new(false),
                copies: Atomic::new(0),
                bytes: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    fn copy(&self, op: &CopyOp) {
        self.copies.add(1, Relaxed);
        self.bytes.add(op.size, Relaxed);
        if self.skip.load(Relaxed) {
            return;
        }
        let is_local = |location| matches!(location, Location::Device(_));
        let (to, size) = (op.destination, op.size);
        match op.source {
            // SAFETY: The framework gives addresses of local memory, or those of host memory that it keeps
            // until the copy is done.
            CopySource::At(from) => unsafe {
                svm_memory_copy(
                    to.address(),
                    is_local(to),
                    from.address(),
                    is_local(from),
                    size,
                );
            },
            // SAFETY: As above.
            CopySource::Fill(pattern) => unsafe {
                svm_memory_fill(to.address(), is_local(to), pattern, size);
            },
        }
    }
}

impl gmem_vm::Driver for Bench {
    type Hardware = Pin<KBox<Hardware>>;
    type Client = ();
    type PageTable = PageTable;

    const CAPS: Caps = Caps {
        page_sizes: PAGE | LARGE,
        va_start: 0,
        va_end: SPAN,
        faults: Faults::Replayable,
    };

    fn open(_device: &BenchDevice) -> impl PinInit<(), Error> {
        Ok::<_, Error>(())
    }

    fn new_page_table(device: &BenchDevice) -> Result<PageTable> {
        let table = PageTable::new()?;
        let old = device
            .hardware()
            .words
            .lock()
            .replace(table.words().clone());
        drop(old);
        Ok(table)
    }

    fn prepare_tables(_device: &BenchDevice, _plan: ()) -> Result {
        Ok(())
    }

    fn answer_fault(_device: &BenchDevice, ticket: u64, verdict: Verdict) {
        // SAFETY: Any number is a queue's.
        unsafe { svm_queue_answer(ticket as u32, (verdict == Verdict::Replay).into()) };
    }

    fn copy(device: &BenchDevice, batch: &[CopyOp]) -> Result<ARef<Fence>> {
        for op in batch {
            device.hardware().copy(op);
        }
        Ok(Fence::signaled_stub())
    }
}

/// See `struct svm_touch`.
#[derive(Clone, Copy, FromBytes, IntoBytes)]
#[repr(C)]
struct Touch {
    vm_id: u32,
    queue: u32,
    va: u64,
    size: u64,
    write: u32,
    pad: u32,
    faults: u64,
}

/// See `struct svm_copying`.
#[derive(Clone, Copy, FromBytes, IntoBytes)]
#[repr(C)]
struct Copying {
    skip: u64,
    copies: u64,
    bytes: u64,
}

/// See `struct svm_cost`.
#[derive(Clone, Copy, FromBytes, IntoBytes)]
#[repr(C)]
struct Cost {
    what: u32,
    pad: u32,
    pages: u64,
    ticks: u64,
}

type Registered = BenchDevice<drm::Registered>;
type File = drm::File<gmem_vm::File<Bench>>;

/// A job: accesses each page of a range, in order, and waits where that faults.
fn touch(device: &Registered, _data: &(), args: &mut Touch, file: &File) -> Result<u32> {
    let vm = file.inner().vm(args.vm_id)?;
    let words = device.hardware().words.lock().clone().ok_or(ENOENT)?;
    let access = match args.write {
        0 => FaultAccess::Read,
        _ => FaultAccess::Write,
    };
    let end = args.va.checked_add(args.size).ok_or(EINVAL)?;
    let mut va = args.va;
    while va < end {
        if words.permits(va, access) {
            va += PAGE;
            continue;
        }
        args.faults += 1;
        let fault = Fault {
            vm: vm.clone(),
            va,
            access,
            len: PAGE,
            ticket: args.queue.into(),
        };
        // SAFETY: Any number is a queue's, and nobody else waits for it: userspace sees to that.
        unsafe { svm_queue_arm(args.queue) };
        gmem_vm::Device::<Bench>::report_fault(device, fault);
        let mut replay = 0;
        // SAFETY: As above; the number outlives the call.
        to_result(unsafe { svm_queue_wait(args.queue, &mut replay) })?;
        if replay == 0 {
            return Err(EFAULT);
        }
    }
    Ok(0)
}

/// Switches copying on or off, and says how much was copied.
fn copying(device: &Registered, _data: &(), args: &mut Copying, _file: &File) -> Result<u32> {
    let hardware = device.hardware();
    hardware.skip.store(args.skip != 0, Relaxed);
    args.copies = hardware.copies.load(Relaxed);
    args.bytes = hardware.bytes.load(Relaxed);
    Ok(0)
}

/// Measures what hardware would do.
fn cost(_device: &Registered, _data: &(), args: &mut Cost, _file: &File) -> Result<u32> {
    // SAFETY: Any number is fine; it uses local memory, in which at that time is nothing.
    args.ticks = unsafe { svm_memory_cost(args.what, args.pages) };
    Ok(0)
}

#[vtable]
impl drm::Driver for Bench {
    type Data = gmem_vm::Device<Self>;
    type RegistrationData<'a> = ();
    type File = gmem_vm::File<Self>;
    type Object = gmem_vm::BoObject<Self>;
    type ParentDevice<Ctx: DeviceContext> = faux::Device<Ctx>;

    const INFO: drm::DriverInfo = drm::DriverInfo {
        major: 1,
        minor: 0,
        patchlevel: 0,
        name: c"bench_svm",
        desc: c"gmem_vm over a device in software",
    };
    const FEAT_COMPUTE_ACCEL: bool = true;
    const FEAT_SYNCOBJ: bool = true;

    gmem_vm::declare_ioctls! {
        (0, IOWR, gmem_vm::uapi::VmCreate, gmem_vm::ioctl::vm_create),
        (1, IOW, gmem_vm::uapi::VmDestroy, gmem_vm::ioctl::vm_destroy),
        (2, IOW, gmem_vm::uapi::Bind, gmem_vm::ioctl::bind),
        (3, IOW, gmem_vm::uapi::Unbind, gmem_vm::ioctl::unbind),
        (4, IOW, gmem_vm::uapi::Advise, gmem_vm::ioctl::advise),
        (5, IOWR, gmem_vm::uapi::Prefetch, gmem_vm::ioctl::prefetch),
        (6, IOWR, gmem_vm::uapi::VmStats, gmem_vm::ioctl::vm_stats),
        (7, IOWR, Touch, touch),
        (8, IOWR, Copying, copying),
        (9, IOWR, Cost, cost),
    }
}

/// The local memory; there is one.
struct Local;

impl Local {
    fn new() -> Result<Self> {
        // SAFETY: Called once, as the module is loaded.
        to_result(unsafe { svm_memory_init(MEMORY) })?;
        Ok(Self)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: It was allocated, and the device that used it is gone.
        unsafe { svm_memory_exit() };
    }
}

/// The module. Dropped in this order: no more ioctls, memory of processes comes back, the rest.
struct BenchSvm {
    // Borrows from `bus`, hence dropped by hand.
    registration: ManuallyDrop<drm::Registration<'static, Bench>>,
    mirrors: ManuallyDrop<MirrorGuard<Bench>>,
    _bus: faux::Registration,
    _local: Local,
}

impl kernel::Module for BenchSvm {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let local = Local::new()?;
        let bus = faux::Registration::new(c"bench_svm", None)?;
        let parent: &faux::Device<device::Bound> = bus.as_ref();
        // SAFETY: The device is there until `bus` is dropped, and wherever that is moved: it is but a
        // pointer. It outlives the registration, by `Drop` below.
        let parent: &'static faux::Device<device::Bound> = unsafe { &*core::ptr::from_ref(parent) };
        let dev: &'static device::Device<device::Bound> = parent.as_ref();
        // The faux bus gives its devices no mask of their own. Addresses are physical ones here.
        //
        // SAFETY: The device is valid, and nobody else knows it yet.
        to_result(unsafe {
            let dev = dev.as_raw();
            (*dev).dma_mask = &raw mut (*dev).coherent_dma_mask;
            bindings::dma_set_mask_and_coherent(dev, u64::MAX)
        })?;
        let memory = Memory::new(MEMORY, 0, PAGE)?;
        let data = gmem_vm::Device::new(Hardware::new()?, Some(memory), None);
        let drm = drm::UnregisteredDevice::<Bench>::new(parent, data)?;
        let mirrors = MirrorGuard::new(&drm);
        // SAFETY: Dropped when the module is.
        let registration = unsafe { drm::Registration::new(dev, drm, Ok::<_, Error>(()), 0)? };
        Ok(Self {
            registration: ManuallyDrop::new(registration),
            mirrors: ManuallyDrop::new(mirrors),
            _bus: bus,
            _local: local,
        })
    }
}

impl Drop for BenchSvm {
    fn drop(&mut self) {
        // SAFETY: Each once, and not used afterwards.
        unsafe {
            ManuallyDrop::drop(&mut self.registration);
            ManuallyDrop::drop(&mut self.mirrors);
        }
    }
}

module! {
    type: BenchSvm,
    name: "bench_svm",
    authors: ["gmem_vm developers"],
    description: "gmem_vm over a device in software, for the benchmark of mirrors",
    license: "Dual MIT/GPL",
}
