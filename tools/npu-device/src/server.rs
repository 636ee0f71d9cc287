// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The device on a vfio-user socket.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR2_REGION_INDEX, VFIO_PCI_BAR4_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS,
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
    vfio_region_info, vfio_region_sparse_mmap_area,
};
use vfio_user::{
    DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion, SparseArea,
};

use crate::Device;
use crate::guard;
use crate::pci::{BAR4_SIZE, CONFIG_SIZE, Pci};
use crate::regs::BAR0_SIZE;

/// Serves one client, and returns when it has gone.
pub fn serve(device: Arc<Device>, path: &Path, guarded: bool) -> Result<(), String> {
    clear_path(path)?;
    let listen = |e: io::Error| format!("cannot listen on {}: {e}", path.display());
    let public = UnixListener::bind(path).map_err(listen)?;
    let (mut child, listener) = if guarded {
        let (child, private) =
            guard::spawn(public, path).map_err(|e| format!("cannot start the guard: {e}"))?;
        (Some(child), private)
    } else {
        (None, public)
    };
    log::info!("listening on {}", path.display());
    let server = Server::from_owned_fd(listener.into(), true, irqs(&device), regions(&device));
    let result = server.run(&mut Card::new(device));
    match &mut child {
        // It ends as the client has gone, and has taken the socket's name away.
        Some(child) => drop(child.wait()),
        None => drop(std::fs::remove_file(path)),
    }
    match result {
        Err(error) if !is_disconnect(&error) => Err(format!("the connection failed: {error}")),
        _ => Ok(()),
    }
}

fn is_disconnect(error: &vfio_user::Error) -> bool {
    let kind = match error {
        vfio_user::Error::StreamRead(e) | vfio_user::Error::StreamWrite(e) => e.kind(),
        vfio_user::Error::ReceiveWithFd(e) | vfio_user::Error::SendWithFd(e) => {
            io::Error::from_raw_os_error(e.errno()).kind()
        }
        _ => return false,
    };
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Makes sure that nothing is at `path`, and takes away a socket that a dead process left there.
fn clear_path(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let Ok(metadata) = path.symlink_metadata() else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(format!("{shown} exists and is not a socket"));
    }
    // Not by connecting: who listens there would take us for its client.
    if is_bound(path) {
        return Err(format!("{shown} is in use by another process"));
    }
    log::warn!("{shown} was left by a process that has ended: taking its place");
    std::fs::remove_file(path).map_err(|e| format!("cannot remove {shown}: {e}"))
}

/// Whether a living socket may have this path.
fn is_bound(path: &Path) -> bool {
    let list = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let full = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    // A socket's path is listed as it was spelt by who made it, whose directory is not known.
    list.lines().filter_map(bound_path).any(|theirs| {
        full.ends_with(theirs) || theirs.canonicalize().is_ok_and(|theirs| theirs == full)
    })
}

/// The path in a line of the list of sockets, if it has one. It may have spaces.
fn bound_path(line: &str) -> Option<&Path> {
    const COLUMNS_BEFORE: usize = 7;
    let mut rest = line;
    for _ in 0..COLUMNS_BEFORE {
        rest = rest.trim_start().split_once(' ')?.1;
    }
    Some(Path::new(rest))
}

fn region_size(device: &Device, index: u32) -> u64 {
    match index {
        VFIO_PCI_BAR0_REGION_INDEX => BAR0_SIZE,
        VFIO_PCI_BAR2_REGION_INDEX => device.config.aperture,
        VFIO_PCI_BAR4_REGION_INDEX => BAR4_SIZE,
        VFIO_PCI_CONFIG_REGION_INDEX => CONFIG_SIZE as u64,
        _ => 0,
    }
}

fn regions(device: &Device) -> Vec<ServerRegion> {
    let region = |index| {
        let size = region_size(device, index);
        let mut info = vfio_region_info {
            argsz: size_of::<vfio_region_info>() as u32,
            index,
            size,
            ..Default::default()
        };
        if size != 0 {
            info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
        }
        let mapped = index == VFIO_PCI_BAR2_REGION_INDEX && size != 0;
        if mapped {
            info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
        }
        let area = SparseArea {
            area: vfio_region_sparse_mmap_area { offset: 0, size },
        };
        ServerRegion {
            region_info: info,
            sparse_areas: if mapped { vec![area] } else { Vec::new() },
            mmap_fd: mapped.then(|| device.space.local.fd()),
        }
    };
    (0..VFIO_PCI_NUM_REGIONS).map(region).collect()
}

fn irqs(device: &Device) -> Vec<IrqInfo> {
    let irq = |index| match index {
        VFIO_PCI_MSIX_IRQ_INDEX => IrqInfo {
            index,
            flags: VFIO_IRQ_INFO_EVENTFD,
            count: device.interrupts.count() as u32,
        },
        _ => IrqInfo {
            index,
            flags: 0,
            count: 0,
        },
    };
    (0..VFIO_PCI_NUM_IRQS).map(irq).collect()
}

/// The device as the client sees it.
struct Card {
    device: Arc<Device>,
    pci: Pci,
    /// The MSI-X table. Whoever emulates the bus keeps its own; this one is only remembered.
    table: Vec<u8>,
}

impl Card {
    fn new(device: Arc<Device>) -> Self {
        let pci = Pci::new(BAR0_SIZE, device.config.aperture, device.interrupts.count());
        Card {
            device,
            pci,
            table: vec![0; BAR4_SIZE as usize],
        }
    }

    /// The part of the MSI-X BAR that an access means.
    fn table(&mut self, offset: u64, len: usize) -> Option<&mut [u8]> {
        let start = usize::try_from(offset).ok()?;
        self.table.get_mut(start..start.checked_add(len)?)
    }
}

impl ServerBackend for Card {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        data.fill(0);
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.pci.read(offset, data),
            VFIO_PCI_BAR0_REGION_INDEX => self.device.read(offset, data),
            VFIO_PCI_BAR2_REGION_INDEX => {
                if let Some(slice) = self.device.space.local.slice(offset, data.len() as u64) {
                    slice.copy_to(data);
                }
            }
            VFIO_PCI_BAR4_REGION_INDEX => {
                if let Some(bytes) = self.table(offset, data.len()) {
                    data.copy_from_slice(bytes);
                }
            }
            _ => {}
        }
        log::trace!("read region {region} offset {offset:#x}: {data:x?}");
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        log::trace!("write region {region} offset {offset:#x}: {data:x?}");
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => {
                self.pci.write(offset, data);
                self.device.space.dma.set_bus_master(self.pci.bus_master());
            }
            VFIO_PCI_BAR0_REGION_INDEX => self.device.write(offset, data),
            VFIO_PCI_BAR2_REGION_INDEX => {
                if let Some(slice) = self.device.space.local.slice(offset, data.len() as u64) {
                    slice.copy_from(data);
                }
            }
            VFIO_PCI_BAR4_REGION_INDEX => {
                if let Some(bytes) = self.table(offset, data.len()) {
                    bytes.copy_from_slice(data);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        let Some(file) = fd else {
            log::debug!(
                "{size:#x} bytes at bus address {address:#x} cannot be mapped: not reachable"
            );
            return Ok(());
        };
        log::debug!("{size:#x} bytes at bus address {address:#x} mapped, {flags:?}");
        let writable = flags.contains(DmaMapFlags::WRITE);
        self.device
            .space
            .dma
            .map(file, offset, address, size, writable)
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        log::debug!("{size:#x} bytes at bus address {address:#x} unmapped");
        if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
            self.device.space.dma.unmap_all();
        } else {
            self.device.space.dma.unmap(address, size);
        }
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.device.reset();
        self.pci.reset();
        self.device.space.dma.set_bus_master(false);
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> io::Result<()> {
        if index != VFIO_PCI_MSIX_IRQ_INDEX || flags & VFIO_IRQ_SET_ACTION_TRIGGER == 0 {
            return Ok(());
        }
        let interrupts = &self.device.interrupts;
        let all = 0..interrupts.count();
        if flags & VFIO_IRQ_SET_DATA_EVENTFD != 0 {
            let mut fds = fds.into_iter();
            for vector in all.skip(start as usize).take(count as usize) {
                interrupts.connect(vector, fds.next());
            }
        } else if count == 0 {
            all.for_each(|vector| interrupts.connect(vector, None));
        } else {
            all.skip(start as usize)
                .take(count as usize)
                .for_each(|v| interrupts.raise(v));
        }
        Ok(())
    }
}
