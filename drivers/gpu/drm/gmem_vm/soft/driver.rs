// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What gmem_vm and DRM are told about the device.

use crate::{
    hardware::{
        Hardware,
        PAGE,
        SPAN, //
    },
    page_table::{
        PageTable,
        Plan,
        Prepared, //
    },
};
use gmem_vm::{
    kapi::dma_fence::Fence,
    Caps,
    CopyOp,
    Faults, //
};
use kernel::{
    device::DeviceContext,
    drm,
    faux,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// The driver, as a type.
pub(crate) struct Soft;

/// The DRM device.
pub(crate) type SoftDevice<Ctx = drm::Normal> = drm::Device<Soft, Ctx>;

impl gmem_vm::Driver for Soft {
    type Hardware = Arc<Hardware>;
    type Client = ();
    type PageTable = PageTable;

    const CAPS: Caps = Caps {
        page_sizes: PAGE,
        va_start: 0,
        va_end: SPAN,
        faults: Faults::Fatal,
    };

    fn open(_device: &SoftDevice) -> impl PinInit<(), Error> {
        Ok::<_, Error>(())
    }

    fn new_page_table(device: &SoftDevice) -> Result<PageTable> {
        PageTable::new(device.hardware())
    }

    fn prepare_tables(device: &SoftDevice, plan: Plan) -> Result<Prepared> {
        Prepared::new(device.hardware(), plan)
    }

    fn copy(_device: &SoftDevice, _batch: &[CopyOp]) -> Result<ARef<Fence>> {
        // There is no memory to copy from or to.
        Err(EOPNOTSUPP)
    }
}

#[vtable]
impl drm::Driver for Soft {
    type Data = gmem_vm::Device<Self>;
    type RegistrationData<'a> = ();
    type File = gmem_vm::File<Self>;
    type Object = gmem_vm::BoObject<Self>;
    type ParentDevice<Ctx: DeviceContext> = faux::Device<Ctx>;

    const INFO: drm::DriverInfo = drm::DriverInfo {
        major: 1,
        minor: 0,
        patchlevel: 0,
        name: c"gmem_soft",
        desc: c"gmem_vm over a device in software",
    };
    const FEAT_COMPUTE_ACCEL: bool = true;
    const IOCTLS: &'static [drm::ioctl::DrmIoctlDescriptor] = &[];
}
