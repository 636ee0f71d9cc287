// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! PCI config space.

/// Bytes of config space, as PCI Express has it.
pub const CONFIG_SIZE: usize = 4096;
/// Bytes of BAR 4.
pub const BAR4_SIZE: u64 = 4096;

const VENDOR: u16 = 0x1b36;
const DEVICE: u16 = 0x4e50;
const REVISION: u8 = 1;
const CLASS: [u8; 3] = [0x00, 0x00, 0x12];

const COMMAND: usize = 0x04;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_BUS_MASTER: u16 = 1 << 2;
const COMMAND_PARITY: u16 = 1 << 6;
const COMMAND_SERR: u16 = 1 << 8;
const COMMAND_INTX_DISABLE: u16 = 1 << 10;
const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const CACHE_LINE: usize = 0x0c;
const LATENCY: usize = 0x0d;
const BARS: usize = 0x10;
const SUBSYSTEM: usize = 0x2c;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;

const BAR_64_BIT: u32 = 2 << 1;
const BAR_PREFETCHABLE: u32 = 1 << 3;

const EXPRESS: usize = 0x40;
const EXPRESS_ID: u8 = 0x10;
const EXPRESS_VERSION: u16 = 2;
/// Role-based error reporting, which PCI Express 1.1 and later demand.
const EXPRESS_DEVICE: u32 = 1 << 15;
/// 2.5 GT/s, one lane.
const EXPRESS_LINK: u16 = 0x11;
/// Error reporting enables, relaxed ordering, payload size, no snoop, read request size.
const EXPRESS_CONTROL: u16 = 0x78ff;

const MSIX: usize = 0x80;
const MSIX_ID: u8 = 0x11;
const MSIX_BAR: u32 = 4;
const MSIX_PENDING: u32 = 0x800;
const MSIX_CONTROL: u16 = 0xc000;

/// Config space: bytes, and which bits of them software may change.
pub struct Pci {
    bytes: Vec<u8>,
    writable: Vec<u8>,
}

impl Pci {
    /// Config space of a device with these BAR sizes and this number of MSI-X vectors.
    pub fn new(bar0: u64, bar2: u64, vectors: usize) -> Self {
        let mut pci = Pci {
            bytes: vec![0; CONFIG_SIZE],
            writable: vec![0; CONFIG_SIZE],
        };
        pci.set(0x00, &VENDOR.to_le_bytes());
        pci.set(0x02, &DEVICE.to_le_bytes());
        pci.set(STATUS, &STATUS_CAPABILITIES.to_le_bytes());
        pci.set(0x08, &[REVISION]);
        pci.set(0x09, &CLASS);
        pci.set(SUBSYSTEM, &VENDOR.to_le_bytes());
        pci.set(SUBSYSTEM + 2, &DEVICE.to_le_bytes());
        let command = COMMAND_MEMORY
            | COMMAND_BUS_MASTER
            | COMMAND_PARITY
            | COMMAND_SERR
            | COMMAND_INTX_DISABLE;
        pci.allow(COMMAND, &command.to_le_bytes());
        pci.allow(CACHE_LINE, &[0xff]);
        pci.allow(LATENCY, &[0xff]);
        pci.allow(INTERRUPT_LINE, &[0xff]);
        pci.bar(0, bar0, 0);
        pci.bar(2, bar2, BAR_64_BIT | BAR_PREFETCHABLE);
        pci.bar(4, BAR4_SIZE, 0);

        pci.set(CAPABILITIES, &[EXPRESS as u8]);
        pci.set(EXPRESS, &[EXPRESS_ID, MSIX as u8]);
        pci.set(EXPRESS + 0x02, &EXPRESS_VERSION.to_le_bytes());
        pci.set(EXPRESS + 0x04, &EXPRESS_DEVICE.to_le_bytes());
        pci.allow(EXPRESS + 0x08, &EXPRESS_CONTROL.to_le_bytes());
        pci.set(EXPRESS + 0x0c, &EXPRESS_LINK.to_le_bytes());
        pci.set(EXPRESS + 0x12, &EXPRESS_LINK.to_le_bytes());
        pci.set(MSIX, &[MSIX_ID, 0]);
        pci.set(MSIX + 2, &(vectors as u16 - 1).to_le_bytes());
        pci.allow(MSIX + 2, &MSIX_CONTROL.to_le_bytes());
        pci.set(MSIX + 4, &MSIX_BAR.to_le_bytes());
        pci.set(MSIX + 8, &(MSIX_PENDING | MSIX_BAR).to_le_bytes());
        pci
    }

    fn set(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn allow(&mut self, offset: usize, bits: &[u8]) {
        self.writable[offset..offset + bits.len()].copy_from_slice(bits);
    }

    /// A BAR whose address bits below its size read as zero: that is how software learns the size.
    fn bar(&mut self, index: usize, size: u64, kind: u32) {
        if size == 0 {
            return;
        }
        let offset = BARS + index * 4;
        let address = (!(size - 1)).to_le_bytes();
        let width = if kind & BAR_64_BIT != 0 { 8 } else { 4 };
        self.set(offset, &kind.to_le_bytes());
        self.allow(offset, &address[..width]);
    }

    /// Reads config space; what lies outside reads as zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = self.bytes.get(offset as usize + i).copied().unwrap_or(0);
        }
    }

    /// Writes config space, as far as it is writable.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        for (i, byte) in data.iter().enumerate() {
            let at = offset as usize + i;
            if let Some(mask) = self.writable.get(at) {
                self.bytes[at] = self.bytes[at] & !mask | byte & mask;
            }
        }
    }

    /// Whether Bus Master Enable is set.
    pub fn bus_master(&self) -> bool {
        self.bytes[COMMAND] & COMMAND_BUS_MASTER as u8 != 0
    }

    /// Puts everything back that software may change.
    pub fn reset(&mut self) {
        for (byte, mask) in self.bytes.iter_mut().zip(&self.writable) {
            *byte &= !mask;
        }
    }
}
