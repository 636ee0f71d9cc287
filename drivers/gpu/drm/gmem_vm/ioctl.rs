// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Handlers of the ioctls that every embedding driver shares.
//!
//! A driver lists them in its own table, under numbers of its own:
//!
//! ```ignore
//! gmem_vm::declare_ioctls! {
//!     (uapi::VM_CREATE, IOWR, gmem_vm::uapi::VmCreate, gmem_vm::ioctl::vm_create),
//!     // ...
//! }
//! ```
//!
//! What they do, and each error, is documented in `include/uapi/drm/gmem_vm.h`.

use crate::{
    attrs::Attr,
    bind::BindOp,
    bo::{
        Bo,
        BoObject,
        Placement, //
    },
    discard::Discard,
    driver::{
        Access,
        Driver,
        MapAttrs, //
    },
    file::File,
    kapi::{
        area::task_size,
        user, //
    },
    mapping::{
        Backing,
        Mapping, //
    },
    object::ObjectHandle,
    prefetch,
    range::VaRange,
    sync::Syncs,
    uapi,
    vm::{
        Attrs,
        Vm, //
    }, //
};
use kernel::{
    alloc::NumaNode,
    device,
    drm::{
        self,
        gem::BaseObject, //
    },
    prelude::*, //
};

/// A DRM device during an ioctl.
type Registered<D> = drm::Device<D, drm::Registered>;
/// The driver's registration data.
type RegData<'a, D> = <D as drm::Driver>::RegistrationData<'a>;

/// Most operations of one bind.
pub const MAX_BIND_OPS: u32 = 4096;
/// Most bytes that all operations of one bind map.
const MAX_BIND_SIZE: u128 = 1 << 40;
/// Most attributes of one advise.
const MAX_ATTRS: u32 = 64;
/// Most entries of one query.
const MAX_RANGES: u32 = 65536;

/// Fails with `EINVAL` unless all of some reserved fields are zero.
fn must_be_zero(fields: &[u64]) -> Result {
    if fields.iter().all(|&f| f == 0) {
        Ok(())
    } else {
        Err(EINVAL)
    }
}

/// What every ioctl checks first: the device is there (`ENODEV`), reserved fields are zero
/// (`EINVAL`).
fn check<D: Driver>(device: &Registered<D>, reserved: &[u64]) -> Result {
    if D::is_present(device) {
        must_be_zero(reserved)
    } else {
        Err(ENODEV)
    }
}

/// `struct drm_gmem_query_device`
pub fn query_device<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::QueryDevice,
    _file: &drm::File<File<D>>,
) -> Result<u32> {
    check::<D>(device, &[args.flags.into(), args.pad.into()])?;
    let memory = device.memory();
    if let Some(pages) = device.process_pages() {
        pages.owner().trim();
    }
    *args = uapi::QueryDevice {
        flags: 0,
        pad: 0,
        page_sizes: D::CAPS.page_sizes,
        va_start: D::CAPS.va_start,
        va_end: D::CAPS.va_end,
        mem_total: memory.map_or(0, |m| m.size()),
        mem_visible: memory.map_or(0, |m| m.visible()),
        mem_free: memory.map_or(0, |m| m.free()),
        caps: if D::can_fault(device) {
            uapi::CAP_FAULTS
        } else {
            0
        },
        mirror_end: kernel::current!().mm().map_or(0, |mm| task_size(mm)) as u64,
    };
    Ok(0)
}

/// `struct drm_gmem_vm_create`
pub fn vm_create<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::VmCreate,
    file: &drm::File<File<D>>,
) -> Result<u32> {
    check::<D>(device, &[args.flags.into()])?;
    args.vm_id = file.inner().add_vm(Vm::new(device)?)?;
    Ok(0)
}

/// `struct drm_gmem_vm_destroy`
pub fn vm_destroy<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::VmDestroy,
    file: &drm::File<File<D>>,
) -> Result<u32> {
    check::<D>(device, &[args.pad.into()])?;
    file.inner().take_vm(args.vm_id)?.close();
    Ok(0)
}

/// `struct drm_gmem_bo_create`
pub fn bo_create<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::BoCreate,
    file: &drm::File<File<D>>,
) -> Result<u32>
where
    D::ParentDevice<device::Bound>: AsRef<device::Device<device::Bound>>,
{
    check::<D>(device, &[])?;
    const VISIBLE: u32 = uapi::BO_DEVICE | uapi::BO_CPU_VISIBLE;
    let pinned = args.flags & uapi::BO_PINNED != 0;
    let placement = match args.flags & !uapi::BO_PINNED {
        uapi::BO_DEVICE => Placement::Device,
        VISIBLE => Placement::DeviceVisible,
        uapi::BO_HOST if !pinned => Placement::Host,
        _ => return Err(EINVAL),
    };
    if pinned && !user::may_lock_memory() {
        return Err(EPERM);
    }
    args.handle = Bo::<D>::create(device, args.size, placement, pinned)?.create_handle(file)?;
    Ok(0)
}

/// `struct drm_gmem_bo_mmap`
pub fn bo_mmap<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::BoMmap,
    file: &drm::File<File<D>>,
) -> Result<u32> {
    check::<D>(device, &[args.flags.into()])?;
    let bo = BoObject::<D>::lookup_handle(file, args.handle)?;
    if !bo.is_cpu_visible() {
        return Err(EPERM);
    }
    args.offset = bo.create_mmap_offset()?;
    Ok(0)
}

/// Checks that a range can be bound in a VM of driver `D`. `EINVAL` if it is empty or not made of the
/// smallest pages, `ERANGE` if it is not in the address space.
pub fn va_range<D: Driver>(va: u64, size: u64) -> Result<VaRange> {
    must_be_zero(&[(va | size) & (D::CAPS.granule() - 1)])?;
    let range = VaRange::new(va, size)?;
    if !Vm::<D>::range().contains(&range) {
        return Err(ERANGE);
    }
    Ok(range)
}

/// Checks one operation of a bind.
fn bind_op<D: Driver>(op: &uapi::BindOp, file: &drm::File<File<D>>) -> Result<BindOp<D>> {
    must_be_zero(&[op.pad.into()])?;
    let write = op.flags & uapi::BIND_READONLY == 0;
    match op.op {
        uapi::BIND_OP_MAP_BO => {
            must_be_zero(&[
                (op.flags & !(uapi::BIND_READONLY | uapi::BIND_EXEC)).into(),
                op.bo_offset & (D::CAPS.granule() - 1),
            ])?;
            let attrs = Attrs::<D>::from_uapi(op.attrs)?;
            let range = va_range::<D>(op.va, op.size)?;
            let object = BoObject::<D>::lookup_handle(file, op.handle)?;
            let end = op.bo_offset.checked_add(op.size).ok_or(ERANGE)?;
            if end > object.size() as u64 {
                return Err(ERANGE);
            }
            Ok(BindOp::Map(Mapping {
                range,
                backing: Backing {
                    object: Some(ObjectHandle::Bo(object)),
                    offset: op.bo_offset,
                    access: Access {
                        write,
                        exec: op.flags & uapi::BIND_EXEC != 0,
                    },
                    attrs,
                },
            }))
        }
        uapi::BIND_OP_MAP_MIRROR => {
            must_be_zero(&[
                (op.flags & !(uapi::BIND_READONLY | uapi::BIND_EXEC)).into(),
                op.handle.into(),
                op.bo_offset & (D::CAPS.granule() - 1),
            ])?;
            op.bo_offset.checked_add(op.size).ok_or(ERANGE)?;
            Ok(BindOp::Map(Mapping {
                range: va_range::<D>(op.va, op.size)?,
                backing: Backing {
                    object: Some(ObjectHandle::Mirror),
                    offset: op.bo_offset,
                    access: Access {
                        write,
                        exec: op.flags & uapi::BIND_EXEC != 0,
                    },
                    attrs: Attrs::<D>::from_uapi(op.attrs)?,
                },
            }))
        }
        uapi::BIND_OP_MAP_SPARSE => {
            must_be_zero(&[
                (op.flags & !uapi::BIND_READONLY).into(),
                op.handle.into(),
                op.bo_offset,
                op.attrs,
            ])?;
            Ok(BindOp::Map(Mapping {
                range: va_range::<D>(op.va, op.size)?,
                backing: Backing {
                    object: None,
                    offset: 0,
                    access: Access { write, exec: false },
                    attrs: Attrs::<D>::from_uapi(0)?,
                },
            }))
        }
        uapi::BIND_OP_UNMAP => {
            must_be_zero(&[op.flags.into(), op.handle.into(), op.bo_offset, op.attrs])?;
            Ok(BindOp::Unmap(va_range::<D>(op.va, op.size)?))
        }
        _ => Err(EINVAL),
    }
}

/// `struct drm_gmem_bind`
pub fn bind<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::Bind,
    file: &drm::File<File<D>>,
) -> Result<u32>
where
    D::ParentDevice<device::Bound>: AsRef<device::Device<device::Bound>>,
{
    check::<D>(
        device,
        &[(args.flags & !uapi::BIND_ASYNC).into(), args.pad.into()],
    )?;
    if args.num_ops == 0 || args.num_ops > MAX_BIND_OPS {
        return Err(EINVAL);
    }
    let (vm, queue) = file.inner().bind_queue(args.vm_id, args.queue_id)?;
    let raw = user::read_array::<uapi::BindOp>(args.ops, args.num_ops as usize)?;
    let mut ops = KVVec::with_capacity(raw.len(), GFP_KERNEL)?;
    for op in &raw {
        ops.push(bind_op::<D>(op, file)?, GFP_KERNEL)?;
    }
    // Of a mirror nothing is mapped yet, however large it is.
    let maps =
        |op: &&uapi::BindOp| op.op != uapi::BIND_OP_UNMAP && op.op != uapi::BIND_OP_MAP_MIRROR;
    let mapped = raw.iter().filter(maps);
    if mapped.map(|op| u128::from(op.size)).sum::<u128>() > MAX_BIND_SIZE {
        return Err(EINVAL);
    }
    let syncs = Syncs::read(file, args.syncs, args.num_syncs)?;
    vm.attach(device, &ops)?;
    if args.flags & uapi::BIND_ASYNC != 0 {
        vm.bind(&queue, ops, syncs)?;
    } else {
        vm.bind_and_wait(&queue, ops, syncs)?;
    }
    Ok(0)
}

/// `struct drm_gmem_unbind`
pub fn unbind<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::Unbind,
    file: &drm::File<File<D>>,
) -> Result<u32> {
    check::<D>(device, &[args.flags.into()])?;
    let vm = file.inner().vm(args.vm_id)?;
    let mut ops = KVVec::with_capacity(1, GFP_KERNEL)?;
    ops.push(
        BindOp::Unmap(va_range::<D>(args.va, args.size)?),
        GFP_KERNEL,
    )?;
    vm.bind_and_wait(vm.default_queue(), ops, Syncs::none())?;
    Ok(0)
}

/// `struct drm_gmem_bind_queue_create`
pub fn bind_queue_create<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::BindQueueCreate,
    file: &drm::File<File<D>>,
) -> Result<u32> {
    check::<D>(device, &[args.flags.into(), args.pad.into()])?;
    let vm = file.inner().vm(args.vm_id)?;
    let queue = vm.new_queue()?;
    args.queue_id = file
        .inner()
        .add_bind_queue((vm.clone(), queue.clone()))
        .inspect_err(|_| vm.destroy_queue(&queue))?;
    Ok(0)
}

/// `struct drm_gmem_bind_queue_destroy`
pub fn bind_queue_destroy<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::BindQueueDestroy,
    file: &drm::File<File<D>>,
) -> Result<u32> {
    check::<D>(device, &[args.pad.into()])?;
    let (vm, queue) = file.inner().take_bind_queue(args.queue_id)?;
    vm.destroy_queue(&queue);
    Ok(0)
}

/// `struct drm_gmem_advise`
pub fn advise<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::Advise,
    file: &drm::File<File<D>>,
) -> Result<u32> {
    check::<D>(
        device,
        &[(args.flags & !uapi::ADVISE_RESET).into(), args.pad.into()],
    )?;
    let reset = args.flags & uapi::ADVISE_RESET != 0;
    if args.num_attrs > MAX_ATTRS || (args.num_attrs == 0 && (!reset || args.attrs != 0)) {
        return Err(EINVAL);
    }
    let vm = file.inner().vm(args.vm_id)?;
    let range = va_range::<D>(args.va, args.size)?;
    let raw = user::read_array::<uapi::Attr>(args.attrs, args.num_attrs as usize)?;
    let mut attrs = KVec::with_capacity(raw.len(), GFP_KERNEL)?;
    for attr in &raw {
        must_be_zero(&[attr.pad.into()])?;
        let driver = |value| Attrs::<D>::from_uapi(value).map(drop);
        let node = |id| i32::try_from(id).is_ok_and(|id| NumaNode::new(id).is_ok());
        attrs.push(Attr::new(attr.kind, attr.value, node, driver)?, GFP_KERNEL)?;
    }
    vm.advise(range, &attrs, reset)?;
    Ok(0)
}

/// `struct drm_gmem_query_range`
pub fn query_range<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::QueryRange,
    file: &drm::File<File<D>>,
) -> Result<u32> {
    check::<D>(device, &[args.flags.into(), args.pad.into()])?;
    if args.num_ranges == 0 || args.num_ranges > MAX_RANGES {
        return Err(EINVAL);
    }
    let vm = file.inner().vm(args.vm_id)?;
    let range = va_range::<D>(args.va, args.size)?;
    let mut ranges =
        KVVec::with_capacity(args.num_ranges as usize, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
    let rest = vm.query(range, &mut ranges)?;
    user::write_array(args.ranges, &ranges)?;
    args.va = rest.map_or(range.end(), |rest| rest.start());
    args.size = rest.map_or(0, |rest| rest.size());
    args.num_ranges = ranges.len() as u32;
    Ok(0)
}

/// `struct drm_gmem_prefetch`
pub fn prefetch<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::Prefetch,
    file: &drm::File<File<D>>,
) -> Result<u32> {
    check::<D>(device, &[args.flags.into()])?;
    let vm = file.inner().vm(args.vm_id)?;
    let range = va_range::<D>(args.va, args.size)?;
    let done = vm.prefetch(range, prefetch::goal(args.location)?)?;
    args.moved = done.moved;
    args.mapped = done.mapped;
    Ok(0)
}

/// `struct drm_gmem_discard`
pub fn discard<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::Discard,
    file: &drm::File<File<D>>,
) -> Result<u32> {
    check::<D>(device, &[])?;
    let what = match args.flags {
        0 => Discard::Drop,
        uapi::DISCARD_PREFETCH => Discard::Replace,
        uapi::DISCARD_UNDO => Discard::Keep,
        _ => return Err(EINVAL),
    };
    let vm = file.inner().vm(args.vm_id)?;
    let done = vm.discard(va_range::<D>(args.va, args.size)?, what)?;
    args.discarded = done.discarded;
    args.retained = done.retained;
    Ok(0)
}

/// `struct drm_gmem_vm_stats`
pub fn vm_stats<D: Driver>(
    device: &Registered<D>,
    _data: &RegData<'_, D>,
    args: &mut uapi::VmStats,
    file: &drm::File<File<D>>,
) -> Result<u32> {
    check::<D>(device, &[args.flags.into()])?;
    *args = file.inner().vm(args.vm_id)?.stats(args.vm_id);
    Ok(0)
}
