// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Local and host memory behind one kind of address.

use std::io;

use vm_memory::VolatileSlice;

use crate::dma::{Direction, Dma, View};
use crate::error::Code;
use crate::memory::LocalMemory;

/// A physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A local address.
    Local(u64),
    /// A bus address.
    Host(u64),
}

impl Place {
    /// The place `n` bytes behind.
    pub fn plus(self, n: u64) -> Place {
        match self {
            Place::Local(a) => Place::Local(a.wrapping_add(n)),
            Place::Host(a) => Place::Host(a.wrapping_add(n)),
        }
    }
}

/// An address that does not exist, with the code of the error it is.
pub type BadPlace = (Code, u64);

/// All memory that the device reaches.
pub struct Space {
    /// The device's own memory.
    pub local: LocalMemory,
    /// Host memory.
    pub dma: Dma,
}

impl Space {
    /// A space with `size` bytes of local memory and no host memory yet.
    pub fn new(size: u64) -> io::Result<Self> {
        Ok(Space {
            local: LocalMemory::new(size)?,
            dma: Dma::default(),
        })
    }

    /// The memory at a place: `len` bytes or fewer, but at least one.
    pub fn slice<'a>(
        &'a self,
        view: &'a View<'_>,
        place: Place,
        len: u64,
        direction: Direction,
    ) -> Result<VolatileSlice<'a>, BadPlace> {
        match place {
            Place::Local(a) => self.local.slice(a, len).ok_or((Code::BadLocalAddress, a)),
            Place::Host(a) => view
                .slice(&self.dma, a, len, direction)
                .map_err(|bad| (Code::BadBusAddress, bad.0)),
        }
    }
}
