// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the NPU driver keeps for an open file: its queues. And the ioctls that are the NPU's own,
//! documented in `include/uapi/drm/npu_accel.h`.

use crate::{
    driver::{
        Npu,
        NpuDevice, //
    },
    job::Job,
    queue::Queue,
    regs::*,
    uapi, //
};
use gmem_vm::{
    id_map::IdMap,
    ioctl::va_range,
    kapi::user,
    sync::Syncs,
    VaRange,
    Vm, //
};
use kernel::{
    drm,
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

/// Most queues that a file can have at a time.
const MAX_QUEUES_PER_FILE: usize = 256;
/// How often the memory of a job is brought in anew if it was taken out again before the job was there.
const HOLD_TRIES: usize = 64;
/// Most bytes of commands of a job.
const MAX_COMMANDS: u32 = 1 << 20;
/// Most ranges that a job can name.
const MAX_RANGES: u32 = 1024;

type Device = drm::Device<Npu, drm::Registered>;
type File = drm::File<gmem_vm::File<Npu>>;

/// The queues of a file; dropping it closes them.
struct Queues {
    device: ARef<NpuDevice>,
    map: IdMap<Arc<Queue>>,
}

impl Drop for Queues {
    fn drop(&mut self) {
        while let Some(queue) = self.map.pop() {
            queue.close();
        }
        self.device.hardware().forget_drained_queues();
    }
}

/// What the driver keeps for an open file.
#[pin_data]
pub(crate) struct Client {
    /// How long its jobs have been in the hardware, in nanoseconds.
    busy: Arc<Atomic<u64>>,
    #[pin]
    queues: Mutex<Queues>,
}

impl Client {
    pub(crate) fn new(device: &NpuDevice) -> impl PinInit<Self, Error> {
        let device = device.into();
        try_pin_init!(Self {
            busy: Arc::new(Atomic::new(0), GFP_KERNEL)?,
            queues <- new_mutex!(Queues {
                device,
                map: IdMap::new(MAX_QUEUES_PER_FILE),
            }, "npu::Client::queues"),
        })
    }

    /// How long its jobs have been in the hardware, in nanoseconds.
    pub(crate) fn busy(&self) -> u64 {
        self.busy.load(Relaxed)
    }

    fn queue(&self, id: u32) -> Result<Arc<Queue>> {
        self.queues.lock().map.get(id).cloned().ok_or(ENOENT)
    }
}

/// What the driver keeps for a file.
fn client(file: &File) -> &Client {
    file.inner().get_ref().client()
}

/// What every ioctl checks first: the device is there (`ENODEV`), reserved fields are zero
/// (`EINVAL`).
fn check(device: &Device, reserved: &[u32]) -> Result {
    if device.hardware().hw().is_gone() {
        Err(ENODEV)
    } else if reserved.iter().any(|&field| field != 0) {
        Err(EINVAL)
    } else {
        Ok(())
    }
}

pub(crate) fn queue_create(
    device: &Device,
    _data: &(),
    args: &mut uapi::QueueCreate,
    file: &File,
) -> Result<u32> {
    check(device, &[args.flags])?;
    let client = client(file);
    let queue = Queue::new(device.hardware(), client.busy.clone())?;
    // Known to the device before anyone can submit to it.
    device.hardware().add_queue(queue.clone())?;
    let id = client.queues.lock().map.insert(queue.clone());
    if id.is_err() {
        queue.close();
        device.hardware().forget_drained_queues();
    }
    args.queue_id = id?;
    Ok(0)
}

pub(crate) fn queue_destroy(
    device: &Device,
    _data: &(),
    args: &mut uapi::QueueDestroy,
    file: &File,
) -> Result<u32> {
    check(device, &[args.pad])?;
    let queue = client(file).queues.lock().map.remove(args.queue_id);
    let queue = queue.ok_or(ENOENT)?;
    queue.close();
    device.hardware().forget_drained_queues();
    Ok(0)
}

/// Reads what a job says that it touches.
fn read_ranges(address: u64, count: u32) -> Result<KVVec<VaRange>> {
    if count > MAX_RANGES || (count == 0 && address != 0) {
        return Err(EINVAL);
    }
    let raw = user::read_array::<uapi::Range>(address, count as usize)?;
    let mut ranges = KVVec::with_capacity(raw.len(), GFP_KERNEL)?;
    for range in &raw {
        ranges.push(va_range::<Npu>(range.va, range.size)?, GFP_KERNEL)?;
    }
    Ok(ranges)
}

pub(crate) fn submit(
    device: &Device,
    _data: &(),
    args: &mut uapi::Submit,
    file: &File,
) -> Result<u32> {
    check(device, &[args.flags])?;
    if args.commands % 8 != 0 || args.size == 0 || args.size % 8 != 0 || args.size > MAX_COMMANDS {
        return Err(EINVAL);
    }
    let range = VaRange::new(args.commands, args.size.into())?;
    if !Vm::<Npu>::range().contains(&range) {
        return Err(ERANGE);
    }
    let queue = client(file).queue(args.queue_id)?;
    let vm = file.inner().vm(args.vm_id)?;
    vm.check()?;
    let ranges = read_ranges(args.ranges, args.num_ranges)?;
    let mut syncs = Syncs::read(file, args.syncs, args.num_syncs)?;
    let waits = syncs.take_waits();
    let job = Job::new(queue.clone(), vm.clone(), args.commands, args.size, waits)?;
    for _ in 0..HOLD_TRIES {
        match queue.submit(job.clone(), &mut syncs, vm.hold(&ranges)?) {
            Err(e) if e == EAGAIN => (),
            result => return result.map(|()| 0),
        }
    }
    Err(EBUSY)
}

pub(crate) fn job_status(
    device: &Device,
    _data: &(),
    args: &mut uapi::JobStatus,
    file: &File,
) -> Result<u32> {
    check(device, &[args.access])?;
    let (failure, completed) = client(file).queue(args.queue_id)?.status();
    *args = uapi::JobStatus {
        queue_id: args.queue_id,
        error: failure.errno,
        seqno: failure.seqno,
        detail: failure.detail,
        reason: failure.reason,
        access: failure.access,
        completed,
    };
    Ok(0)
}

pub(crate) fn query(
    device: &Device,
    _data: &(),
    args: &mut uapi::Query,
    _file: &File,
) -> Result<u32> {
    check(device, &[args.flags])?;
    let hardware = device.hardware();
    if !hardware.hw().probe_presence() {
        return Err(ENODEV);
    }
    let facts = hardware.hw().facts();
    *args = hardware
        .hw()
        .with(|bar| uapi::Query {
            flags: 0,
            version: facts.version,
            num_queues: facts.compute_queues as u32,
            job_timeout_ms: hardware.job_timeout_ms(),
            timestamp: read_wide!(bar, TIMESTAMP),
            jobs_ok: read_wide!(bar, COUNT_JOBS_OK),
            jobs_failed: read_wide!(bar, COUNT_JOBS_FAILED),
            tlb_hits: read_wide!(bar, COUNT_TLB_HITS),
            tlb_misses: read_wide!(bar, COUNT_TLB_MISSES),
            tlb_invalidations: read_wide!(bar, COUNT_TLB_INVALIDATIONS),
            bytes_read: read_wide!(bar, COUNT_READ),
            bytes_written: read_wide!(bar, COUNT_WRITTEN),
            bytes_to_device: read_wide!(bar, COUNT_TO_DEVICE),
            bytes_to_host: read_wide!(bar, COUNT_TO_HOST),
            bytes_cleared: read_wide!(bar, COUNT_FILLED),
        })
        .ok_or(ENODEV)?;
    Ok(0)
}
