// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The device as a whole, and what the driver tells gmem_vm and DRM about it.

use crate::{
    client::{
        self,
        Client, //
    },
    copy::{
        self,
        CopyQueue, //
    },
    fault_ring::Record,
    hw::Hw,
    hw_queue::{
        queue_of,
        Descriptor,
        Entry,
        EntryNode,
        HwQueue, //
    },
    page_table::{
        PageTable,
        Plan,
        Prepared, //
    },
    pool::Pool,
    pte::PAGE_SIZES,
    queue::Queue,
    regs::{
        COPY_QUEUE,
        EVENT, //
    },
    uapi,
    workers::Workers, //
};
use gmem_vm::{
    kapi::dma_fence::Fence,
    Caps,
    CopyOp,
    Faults,
    Verdict, //
};
use kernel::{
    device::{
        self,
        DeviceContext, //
    },
    drm,
    drm_print,
    impl_has_work,
    io::Io,
    new_mutex,
    new_spinlock,
    new_work,
    pci,
    prelude::*,
    sizes::SZ_4K,
    sync::{
        aref::ARef,
        Arc,
        Mutex,
        SpinLock, //
    },
    workqueue::{
        Work,
        WorkItem, //
    }, //
};

/// Longest time a job may run, in milliseconds.
const JOB_TIMEOUT_MS: u32 = 2000;
/// Jobs in a hardware queue's ring at a time: one, so that a kill hits the job it is meant for.
const JOB_DEPTH: u32 = 1;
/// Copies in the copy queue's ring at a time.
const COPY_DEPTH: u32 = 32;
/// Fault records that are taken at a time.
const FAULTS: usize = 8;

/// The driver, as a type.
pub(crate) struct Npu;

/// The DRM device of an NPU.
pub(crate) type NpuDevice<Ctx = drm::Normal> = drm::Device<Npu, Ctx>;

/// The driver's state of one device.
#[pin_data]
pub(crate) struct Hardware {
    hw: Arc<Hw>,
    workers: Arc<Workers>,
    #[pin]
    copy: CopyQueue,
    pool: Arc<Pool>,
    compute: KVec<Arc<HwQueue>>,
    /// Queues that have jobs or can get some.
    #[pin]
    queues: Mutex<KVec<Arc<Queue>>>,
    /// To whom faults are reported, while the device is started.
    #[pin]
    device: SpinLock<Option<ARef<NpuDevice>>>,
    #[pin]
    recovery: Work<Hardware, 0>,
    #[pin]
    events: Work<Hardware, 1>,
}

impl_has_work! {
    impl HasWork<Self, 0> for Hardware { self.recovery }
    impl HasWork<Self, 1> for Hardware { self.events }
}

impl Hardware {
    /// Brings a device up; [`start`](Self::start) lets it run.
    pub(crate) fn new(pdev: &pci::Device<device::Bound>) -> Result<Arc<Self>> {
        let hw = Arc::pin_init(Hw::new(pdev)?, GFP_KERNEL)?;
        let workers = Workers::new()?;
        let pool = Pool::new()?;
        let queue = |pool, index, depth, timeout| {
            HwQueue::new(
                pdev.as_ref(),
                hw.clone(),
                workers.clone(),
                pool,
                index,
                depth,
                timeout,
            )
        };
        let copy = queue(None, COPY_QUEUE, COPY_DEPTH, copy::TIMEOUT_MS)?;
        let mut compute = KVec::new();
        for i in 0..hw.facts().compute_queues {
            compute.push(
                queue(
                    Some(pool.clone()),
                    COPY_QUEUE + 1 + i,
                    JOB_DEPTH,
                    JOB_TIMEOUT_MS,
                )?,
                GFP_KERNEL,
            )?;
        }
        Arc::pin_init(
            try_pin_init!(Self {
                hw,
                workers,
                copy <- CopyQueue::new(copy),
                compute,
                pool,
                queues <- new_mutex!(KVec::new(), "npu::Hardware::queues"),
                device <- new_spinlock!(None, "npu::Hardware::device"),
                recovery <- new_work!("npu::Hardware::recovery"),
                events <- new_work!("npu::Hardware::events"),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn hw(&self) -> &Hw {
        &self.hw
    }

    pub(crate) fn hw_arc(&self) -> Arc<Hw> {
        self.hw.clone()
    }

    pub(crate) fn workers(&self) -> &Arc<Workers> {
        &self.workers
    }

    pub(crate) fn job_timeout_ms(&self) -> u32 {
        JOB_TIMEOUT_MS
    }

    /// The hardware queue with this index: 0 is the copy queue, compute queues follow.
    pub(crate) fn hw_queue(&self, index: usize) -> Option<&Arc<HwQueue>> {
        match index.checked_sub(1) {
            None => Some(self.copy.hw_queue()),
            Some(i) => self.compute.get(i),
        }
    }

    fn hw_queues(&self) -> impl Iterator<Item = &Arc<HwQueue>> {
        (0..=self.compute.len()).filter_map(|i| self.hw_queue(i))
    }

    /// Runs a job as soon as a compute queue is free.
    pub(crate) fn run_job(&self, node: EntryNode, descriptor: Descriptor, entry: Entry) {
        self.pool.push(node, descriptor, entry);
        for queue in &self.compute {
            queue.pump();
        }
    }

    /// Remembers a queue until it is closed and has no jobs left.
    pub(crate) fn add_queue(&self, queue: Arc<Queue>) -> Result {
        self.queues.lock().push(queue, GFP_KERNEL)?;
        Ok(())
    }

    pub(crate) fn forget_drained_queues(&self) {
        self.queues.lock().retain(|queue| !queue.is_drained());
    }

    /// Starts the queues of a device that was reset.
    pub(crate) fn start(self: &Arc<Self>, device: &NpuDevice) {
        *self.device.lock() = Some(device.into());
        self.hw.enable();
        for queue in self.hw_queues() {
            queue.start(self.clone());
        }
    }

    /// After a programming error: says what it was, and starts the device anew. Jobs that were running
    /// end with `EIO`.
    pub(crate) fn recover(&self) {
        let maintenance = self.hw.maintain();
        if !self.hw.probe_presence() || !self.hw.has_error() {
            return;
        }
        self.hw.report_error();
        for queue in self.hw_queues() {
            queue.pause();
        }
        match self.hw.reset() {
            Ok(()) => self.hw.enable(),
            Err(_) => self.hw.fence_off(),
        }
        for queue in self.hw_queues() {
            queue.restart();
        }
        drop(maintenance);
        for queue in self.hw_queues() {
            queue.pump();
        }
    }

    /// Does what the device asks for by vector 0. May sleep and allocate.
    pub(crate) fn handle_events(&self) {
        // Cleared before the ring is read: a record that comes later raises the vector again.
        let event = self.hw.with(|bar| {
            let event = bar.read(EVENT);
            bar.write_reg(event);
            event
        });
        if event.is_some_and(|event| event.error()) {
            self.recover();
        }
        if self.hw.facts().faults {
            self.report_faults();
        }
    }

    /// Hands over to gmem_vm what is in the fault ring.
    fn report_faults(&self) {
        let Some(device) = self.device.lock().clone() else {
            return;
        };
        let mut records = [Record::default(); FAULTS];
        loop {
            let count = self.hw.faults().take(&self.hw, &mut records);
            for record in &records[..count] {
                let queue = self.compute.get(record.queue as usize);
                // None if its job was killed meanwhile.
                if let Some(fault) = queue.and_then(|queue| queue.fault(record)) {
                    gmem_vm::Device::<Npu>::report_fault(&device, fault);
                }
            }
            if count < records.len() {
                return;
            }
        }
    }

    /// Ends everything; the driver is being unbound. Interrupts are off by now.
    pub(crate) fn stop(&self) {
        let maintenance = self.hw.maintain();
        self.hw.disable();
        self.hw.fence_off();
        drop(maintenance);
        for queue in self.hw_queues() {
            queue.stop();
        }
        self.workers.stop();
        for queue in self.hw_queues() {
            queue.pump();
        }
        let queues = core::mem::take(&mut *self.queues.lock());
        for queue in &queues {
            queue.abort();
        }
        for queue in self.hw_queues() {
            queue.release();
        }
        self.hw.faults().release();
        // Not in the lock, and not before all work has ended: it may be the last one.
        let device = self.device.lock().take();
        drop(device);
    }
}

impl WorkItem<0> for Hardware {
    type Pointer = Arc<Self>;

    /// Recovery from an error whose interrupt was lost.
    fn run(this: Arc<Self>) {
        this.recover();
    }
}

impl WorkItem<1> for Hardware {
    type Pointer = Arc<Self>;

    /// Events whose interrupt was lost. Not between fences and their signals, since it allocates.
    fn run(this: Arc<Self>) {
        this.handle_events();
    }
}

impl gmem_vm::Driver for Npu {
    type Hardware = Arc<Hardware>;
    type Client = Client;
    type PageTable = PageTable;

    const CAPS: Caps = Caps {
        page_sizes: PAGE_SIZES,
        // An address of 0 means "none" in commands, and makes a bad pointer where it is none.
        va_start: SZ_4K as u64,
        va_end: 1 << 48,
        faults: Faults::Replayable,
    };

    fn open(device: &NpuDevice) -> impl PinInit<Client, Error> {
        Client::new(device)
    }

    fn new_page_table(device: &NpuDevice) -> Result<PageTable> {
        PageTable::new(device)
    }

    fn prepare_tables(device: &NpuDevice, plan: Plan) -> Result<Prepared> {
        Prepared::new(device, plan)
    }

    fn can_fault(device: &NpuDevice) -> bool {
        device.hardware().hw.facts().faults
    }

    fn answer_fault(device: &NpuDevice, ticket: u64, verdict: Verdict) {
        if let Some(queue) = device.hardware().hw_queue(queue_of(ticket)) {
            queue.answer(ticket, verdict);
        }
    }

    fn is_present(device: &NpuDevice) -> bool {
        !device.hardware().hw.is_gone()
    }

    fn copy(device: &NpuDevice, batch: &[CopyOp]) -> Result<ARef<Fence>> {
        device.hardware().copy.copy(batch)
    }
}

#[vtable]
impl drm::Driver for Npu {
    type Data = gmem_vm::Device<Self>;
    type RegistrationData<'a> = ();
    type File = gmem_vm::File<Self>;
    type Object = gmem_vm::BoObject<Self>;
    type ParentDevice<Ctx: DeviceContext> = pci::Device<Ctx>;

    const INFO: drm::DriverInfo = drm::DriverInfo {
        major: 1,
        minor: 0,
        patchlevel: 0,
        name: c"npu",
        desc: c"NPU reference accelerator",
    };
    const FEAT_COMPUTE_ACCEL: bool = true;
    const FEAT_SYNCOBJ: bool = true;

    fn show_fdinfo(
        file: &drm::File<Self::File>,
        device: &drm::Device<Self, drm::Registered>,
        printer: &drm::Printer,
    ) {
        let busy = file.inner().client().busy();
        drm_print!(printer, "drm-engine-compute:\t{} ns\n", busy);
        let queues = device.hardware().compute.len();
        drm_print!(printer, "drm-engine-capacity-compute:\t{}\n", queues);
        printer.show_memory_stats(file);
        file.inner().show_usage(printer);
    }

    gmem_vm::declare_ioctls! {
        (uapi::QUERY_DEVICE, IOWR, gmem_vm::uapi::QueryDevice, gmem_vm::ioctl::query_device),
        (uapi::VM_CREATE, IOWR, gmem_vm::uapi::VmCreate, gmem_vm::ioctl::vm_create),
        (uapi::VM_DESTROY, IOW, gmem_vm::uapi::VmDestroy, gmem_vm::ioctl::vm_destroy),
        (uapi::BO_CREATE, IOWR, gmem_vm::uapi::BoCreate, gmem_vm::ioctl::bo_create),
        (uapi::BO_MMAP, IOWR, gmem_vm::uapi::BoMmap, gmem_vm::ioctl::bo_mmap),
        (uapi::BIND, IOW, gmem_vm::uapi::Bind, gmem_vm::ioctl::bind),
        (uapi::UNBIND, IOW, gmem_vm::uapi::Unbind, gmem_vm::ioctl::unbind),
        (uapi::QUEUE_CREATE, IOWR, uapi::QueueCreate, client::queue_create),
        (uapi::QUEUE_DESTROY, IOW, uapi::QueueDestroy, client::queue_destroy),
        (uapi::SUBMIT, IOW, uapi::Submit, client::submit),
        (uapi::JOB_STATUS, IOWR, uapi::JobStatus, client::job_status),
        (uapi::QUERY, IOWR, uapi::Query, client::query),
        (uapi::BIND_QUEUE_CREATE, IOWR, gmem_vm::uapi::BindQueueCreate, gmem_vm::ioctl::bind_queue_create),
        (uapi::BIND_QUEUE_DESTROY, IOW, gmem_vm::uapi::BindQueueDestroy, gmem_vm::ioctl::bind_queue_destroy),
        (uapi::ADVISE, IOW, gmem_vm::uapi::Advise, gmem_vm::ioctl::advise),
        (uapi::QUERY_RANGE, IOWR, gmem_vm::uapi::QueryRange, gmem_vm::ioctl::query_range),
        (uapi::PREFETCH, IOWR, gmem_vm::uapi::Prefetch, gmem_vm::ioctl::prefetch),
        (uapi::VM_STATS, IOWR, gmem_vm::uapi::VmStats, gmem_vm::ioctl::vm_stats),
        (uapi::DISCARD, IOWR, gmem_vm::uapi::Discard, gmem_vm::ioctl::discard),
    }
}
