// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`Device`]: one accelerator as the framework sees it.
//!
//! Owns the device's memory. It is the data of the driver's `drm::Device`, so it lives as long as
//! anybody holds that, also after the hardware is gone. Takes no locks.

use crate::{
    driver::Driver,
    kapi::aperture::Aperture,
    memory::Memory, //
};
use kernel::{
    drm,
    prelude::*,
    sync::aref::ARef, //
};

/// A counted reference to a device.
pub type DeviceRef<D> = ARef<drm::Device<D>>;

/// One accelerator as the framework sees it.
pub struct Device<D: Driver> {
    hardware: D::Hardware,
    memory: Option<Memory>,
    aperture: Option<Aperture>,
}

impl<D: Driver> Device<D> {
    /// The framework's state for a device with this hardware and memory, to be passed to
    /// `drm::UnregisteredDevice::new`.
    ///
    /// `aperture` is how the CPU reaches the visible part of the memory, from local address 0 on.
    pub fn new(
        hardware: D::Hardware,
        memory: Option<Memory>,
        aperture: Option<Aperture>,
    ) -> impl PinInit<Self, Error> {
        Ok(Self {
            hardware,
            memory,
            aperture,
        })
    }

    /// The driver's own state.
    pub fn hardware(&self) -> &D::Hardware {
        &self.hardware
    }

    /// The local memory, if there is any.
    pub fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// How the CPU reaches the visible part of the memory.
    pub fn aperture(&self) -> Option<&Aperture> {
        self.aperture.as_ref()
    }
}
