// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tables of DRM ioctls whose argument types are not the kernel's.
//!
//! The kernel's own `declare_drm_ioctls!` takes them from its `uapi` crate by name. The macro
//! [`declare_ioctls!`](crate::declare_ioctls) takes any type that is an [`IoctlArg`], and any
//! function with the right signature, in particular one that is generic over the driver and lives in
//! another crate.
//!
//! C header: [`include/drm/drm_ioctl.h`](srctree/include/drm/drm_ioctl.h)

use core::marker::PhantomData;
use kernel::{
    bindings,
    drm::{
        self,
        ioctl::DrmIoctlDescriptor, //
    },
    prelude::*,
    uapi, //
};

pub use kernel::drm::ioctl::{
    AUTH,
    MASTER,
    RENDER_ALLOW,
    ROOT_ONLY, //
};

/// The argument of an ioctl.
///
/// Implemented for all types that userspace may give any bytes for, and whose bytes it may all see.
pub trait IoctlArg: FromBytes + IntoBytes + Copy {}

impl<T: FromBytes + IntoBytes + Copy> IoctlArg for T {}

/// Declares the ioctls of a driver; to be used inside of its `impl drm::Driver`.
///
/// Each entry has the form `(index, direction, argument, handler)` or `(index, direction, argument,
/// handler, flags)`:
///
/// - `index`, a constant `u32`, counts from `DRM_COMMAND_BASE`. The entries must be listed in the
///   order of their indices, without gaps.
/// - `direction` is `IOR`, `IOW` or `IOWR`, from the view of userspace.
/// - `argument` is an [`IoctlArg`].
/// - `handler` is a function `fn(&drm::Device<D, drm::Registered>, &D::RegistrationData<'_>, &mut
///   Argument, &drm::File<D::File>) -> Result<u32>`, where `D` is the driver, or has a type parameter
///   that can be inferred to be it. It is not called once the device has been unplugged; userspace
///   gets `ENODEV` then.
/// - `flags` are those of [`kernel::drm::ioctl`]; `RENDER_ALLOW` if there are none, which is what a
///   render or accel driver wants.
///
/// # Examples
///
/// ```ignore
/// #[vtable]
/// impl drm::Driver for MyDriver {
///     // ...
///
///     gmem_vm::declare_ioctls! {
///         (uapi::VM_CREATE, IOWR, gmem_vm::uapi::VmCreate, gmem_vm::ioctl::vm_create),
///         (uapi::SUBMIT, IOW, uapi::Submit, queue::submit),
///     }
/// }
/// ```
#[macro_export]
macro_rules! declare_ioctls {
    ($(($index:expr, $direction:ident, $arg:ty, $handler:expr $(, $flags:expr)? $(,)?)),* $(,)?) => {
        const IOCTLS: &'static [::kernel::drm::ioctl::DrmIoctlDescriptor] = {
            const _: () = {
                let _next: u32 = 0;
                $(
                    ::core::assert!($index == _next, "ioctls are out of order");
                    let _next: u32 = _next + 1;
                )*
            };

            &[$(
                // SAFETY: This is the table of `Self`, so the DRM core uses it for devices and files
                // of that driver only.
                unsafe {
                    $crate::kapi::ioctl::descriptor::<Self, $arg, _>(
                        $crate::kapi::ioctl::Direction::$direction,
                        $index,
                        $crate::kapi::ioctl::flags(&[$($flags)?]),
                        ::kernel::c_str!(::core::stringify!($index)),
                        $handler,
                    )
                }
            ),*]
        };
    };
}

/// Which way the argument goes, from the view of userspace.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub enum Direction {
    IOR,
    IOW,
    IOWR,
}

/// The flags of an entry of [`declare_ioctls!`](crate::declare_ioctls).
#[doc(hidden)]
pub const fn flags(given: &[u32]) -> u32 {
    match given {
        [] => RENDER_ALLOW,
        [flags, ..] => *flags,
    }
}

/// Makes an entry of a table; used by [`declare_ioctls!`](crate::declare_ioctls) only.
///
/// # Safety
///
/// The DRM core must call the entry for devices and files of the driver `D` only.
#[doc(hidden)]
pub const unsafe fn descriptor<D, A, F>(
    direction: Direction,
    index: u32,
    flags: u32,
    name: &'static CStr,
    _handler: F,
) -> DrmIoctlDescriptor
where
    D: drm::Driver<File: 'static> + 'static,
    A: IoctlArg + 'static,
    F: Handler<D, A>,
{
    let nr = uapi::DRM_COMMAND_BASE + index;
    assert!(nr < uapi::DRM_COMMAND_END);

    DrmIoctlDescriptor {
        cmd: match direction {
            Direction::IOR => drm::ioctl::IOR::<A>(nr),
            Direction::IOW => drm::ioctl::IOW::<A>(nr),
            Direction::IOWR => drm::ioctl::IOWR::<A>(nr),
        },
        flags,
        // INVARIANT: `_handler` is a value of type `F`.
        func: Some(Trampoline::<D, A, F>::call),
        name: kernel::str::as_char_ptr_in_const_context(name),
    }
}

/// A function that can handle an ioctl with an argument of type `A`.
#[doc(hidden)]
pub trait Handler<D: drm::Driver, A>:
    for<'a, 'b, 'c, 'd> Fn(
        &'a drm::Device<D, drm::Registered>,
        &'b D::RegistrationData<'b>,
        &'c mut A,
        &'d drm::File<D::File>,
    ) -> Result<u32>
    + Copy
    + 'static
{
}

impl<D: drm::Driver, A, F> Handler<D, A> for F where
    F: for<'a, 'b, 'c, 'd> Fn(
            &'a drm::Device<D, drm::Registered>,
            &'b D::RegistrationData<'b>,
            &'c mut A,
            &'d drm::File<D::File>,
        ) -> Result<u32>
        + Copy
        + 'static
{
}

/// The function that the DRM core calls.
///
/// # Invariants
///
/// `call` is only instantiated for types `F` that there is a value of.
struct Trampoline<D, A, F>(PhantomData<(D, A, F)>);

impl<D, A, F> Trampoline<D, A, F>
where
    D: drm::Driver<File: 'static> + 'static,
    A: IoctlArg + 'static,
    F: Handler<D, A>,
{
    /// # Safety
    ///
    /// `raw_dev` and `raw_file` must be a device and an open file of the driver `D`, and `raw_arg`
    /// must point at the bytes of an `A`, which nobody else uses.
    unsafe extern "C" fn call(
        raw_dev: *mut bindings::drm_device,
        raw_arg: *mut c_void,
        raw_file: *mut bindings::drm_file,
    ) -> c_int {
        const {
            assert!(
                size_of::<F>() == 0,
                "handlers must be functions, or closures that capture nothing"
            )
        };

        // SAFETY: The device is one of `D`, and has been registered, as it has open files.
        let dev = unsafe { drm::Device::<D, drm::Ioctl>::from_raw(raw_dev) };

        let Some(guard) = dev.registration_guard() else {
            return ENODEV.to_errno();
        };

        // SAFETY: The file is one of `D`.
        let file = unsafe { drm::File::<D::File>::from_raw(raw_file) };

        // SAFETY: By the type invariant there is a value of type `F`, and one of size zero that is
        // `Copy` can be made from nothing.
        let handler: F = unsafe { core::mem::zeroed() };

        // The DRM core keeps the argument in an array of `char` at times, hence the copy.
        //
        // SAFETY: `drm_ioctl()` gives us at least as many initialized bytes as the size that is part
        // of the ioctl's number, which is that of `A`. Any bytes are a valid `A`.
        let mut arg = unsafe { raw_arg.cast::<A>().read_unaligned() };

        let result =
            guard.registration_data_with(|reg_data| handler(&guard, reg_data, &mut arg, file));

        // SAFETY: As above; all bytes of `A` are initialized, as it has no padding.
        unsafe { raw_arg.cast::<A>().write_unaligned(arg) };

        match result {
            Ok(value) => value.try_into().unwrap_or(ERANGE.to_errno()),
            Err(e) => e.to_errno(),
        }
    }
}
