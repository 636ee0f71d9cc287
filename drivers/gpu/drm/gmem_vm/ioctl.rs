// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Handlers of the ioctls that every embedding driver shares.
//!
//! A driver lists them in its own table, under numbers of its own:
//!
//! ```ignore
//! gmem_vm::declare_ioctls! {
//!     (uapi::DRM_NPU_VM_CREATE, IOWR, gmem_vm::uapi::VmCreate, gmem_vm::ioctl::vm_create),
//!     // ...
//! }
//! ```
//!
//! What they do, and each error, is documented in `include/uapi/drm/gmem_vm.h`.

use crate::{
    bind::BindOp,
    bo::{
        Bo,
        BoObject,
        Placement, //
    },
    driver::{
        Access,
        Driver,
        Faults,
        MapAttrs, //
    },
    file::File,
    kapi::user,
    mapping::Mapping,
    range::VaRange,
    uapi,
    vm::{
        Attrs,
        Vm, //
    }, //
};
use kernel::{
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
    *args = uapi::QueryDevice {
        flags: 0,
        pad: 0,
        page_sizes: D::CAPS.page_sizes,
        va_start: D::CAPS.va_start,
        va_end: D::CAPS.va_end,
        mem_total: memory.map_or(0, |m| m.size()),
        mem_visible: memory.map_or(0, |m| m.visible()),
        mem_free: memory.map_or(0, |m| m.free()),
        caps: match D::CAPS.faults {
            Faults::Replayable => uapi::CAP_FAULTS,
            Faults::Fatal => 0,
        },
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
    let placement = match args.flags {
        uapi::BO_DEVICE => Placement::Device,
        VISIBLE => Placement::DeviceVisible,
        uapi::BO_HOST => Placement::Host,
        _ => return Err(EINVAL),
    };
    args.handle = Bo::<D>::create(device, args.size, placement)?.create_handle(file)?;
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

/// Checks that a range can be bound in a VM of driver `D`.
fn va_range<D: Driver>(va: u64, size: u64) -> Result<VaRange> {
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
                object,
                offset: op.bo_offset,
                access: Access {
                    write: op.flags & uapi::BIND_READONLY == 0,
                    exec: op.flags & uapi::BIND_EXEC != 0,
                },
                attrs,
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
) -> Result<u32> {
    check::<D>(device, &[args.flags.into(), args.pad.into()])?;
    if args.num_ops == 0 || args.num_ops > MAX_BIND_OPS {
        return Err(EINVAL);
    }
    let vm = file.inner().vm(args.vm_id)?;
    let raw = user::read_array::<uapi::BindOp>(args.ops, args.num_ops as usize)?;
    let mut ops = KVVec::with_capacity(raw.len(), GFP_KERNEL)?;
    for op in &raw {
        ops.push(bind_op::<D>(op, file)?, GFP_KERNEL)?;
    }
    vm.bind(ops)?;
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
    vm.bind(ops)?;
    Ok(0)
}
