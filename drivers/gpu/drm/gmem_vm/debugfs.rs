// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What debugfs shows of a device: one directory, `gmem_vm-<name of the device>`, with these files.
//!
//! | file | one line for |
//! |---|---|
//! | `vms` | each VM: how many of everything it has, and what the bookkeeping costs |
//! | `mappings` | each mapping of each VM |
//! | `objects` | each buffer object of each VM, once for each mapping's run of it |
//! | `attrs` | each range of each VM that has attributes other than their defaults |
//! | `page_tables` | each VM: its tables, as the driver counts them |
//! | `memory` | each chunk of device memory that processes have, and each buffer object in it that may leave; before that what the evictor has done |
//! | `latency` | each phase of serving the device: how often, nanoseconds in sum, and how often it took how long ([`crate::latency`]) |
//! | `evict_policy` | the policy that decides what is evicted; write another's name to it ([`crate::evict::policy`]) |
//!
//! Numbers of VMs are only for telling them apart, here and in traces. Reading takes the list of VMs, then the lock
//! of each VM in turn.

use crate::{
    attrs::{
        AttrKind,
        AttrSet, //
    },
    device::DeviceRef,
    driver::{
        Driver,
        MapAttrs, //
    },
    evict::policy::PolicyKind,
    object::ObjectHandle,
    page_table::PageTable,
    range::VaRange,
    vm::Vm, //
};
use kernel::{
    debugfs::Scope,
    device,
    drm,
    fmt,
    prelude::*,
    str::CString,
    sync::atomic::Relaxed,
    uaccess::UserSliceReader, //
};

/// The directory of a device, as long as this lives.
pub struct Directory<D: Driver>(Pin<KBox<Scope<DeviceRef<D>>>>);

impl<D: Driver> Directory<D> {
    /// Makes the directory, which is named after the parent device. `ENOMEM`.
    pub fn new(device: &drm::Device<D>, parent: &device::Device<device::Bound>) -> Result<Self> {
        let name = CString::try_from_fmt(fmt!("gmem_vm-{}", parent.name()))?;
        let device: DeviceRef<D> = device.into();
        let scope = Scope::dir(device, &name, |device, dir| {
            dir.read_callback_file(c"vms", device, &show_vms::<D>);
            dir.read_callback_file(c"mappings", device, &show_mappings::<D>);
            dir.read_callback_file(c"objects", device, &show_objects::<D>);
            dir.read_callback_file(c"attrs", device, &show_attrs::<D>);
            dir.read_callback_file(c"page_tables", device, &show_page_tables::<D>);
            dir.read_callback_file(c"memory", device, &show_memory::<D>);
            dir.read_callback_file(c"latency", device, &show_latency::<D>);
            dir.read_write_callback_file(
                c"evict_policy",
                device,
                &show_policy::<D>,
                &set_policy::<D>,
            );
        });
        Ok(Self(KBox::pin_init(scope, GFP_KERNEL)?))
    }

    /// The device.
    pub fn device(&self) -> &drm::Device<D> {
        &self.0
    }
}

type Formatter<'a, 'b> = &'a mut fmt::Formatter<'b>;

/// Calls a function for each VM, with its number.
fn each<D: Driver>(
    device: &DeviceRef<D>,
    mut show: impl FnMut(u64, &Vm<D>) -> fmt::Result,
) -> fmt::Result {
    for (number, vm) in device.vms().lock().iter() {
        show(*number, vm)?;
    }
    Ok(())
}

fn show_vms<D: Driver>(device: &DeviceRef<D>, f: Formatter<'_, '_>) -> fmt::Result {
    writeln!(f, "vm mappings bytes attrs bytes bind-queues pending")?;
    each(device, |number, vm| {
        let space = vm.space.lock();
        writeln!(
            f,
            "{} {} {} {} {} {} {}",
            number,
            space.mappings.len(),
            space.mappings.bytes(),
            space.attrs.len(),
            space.attrs.bytes(),
            space.queues.len() + 1,
            space
                .pending
                .iter()
                .filter(|(_, fence)| !fence.is_signaled())
                .count(),
        )
    })
}

fn show_mappings<D: Driver>(device: &DeviceRef<D>, f: Formatter<'_, '_>) -> fmt::Result {
    writeln!(f, "vm start end kind offset access attrs")?;
    each(device, |number, vm| {
        let space = vm.space.lock();
        for entry in space.mappings.iter() {
            let backing = entry.value;
            writeln!(
                f,
                "{} {:#x} {:#x} {} {:#x} r{}{} {:#x}",
                number,
                entry.range.start(),
                entry.range.end(),
                match backing.object {
                    Some(ObjectHandle::Bo(_)) => "bo",
                    Some(ObjectHandle::Mirror) => "mirror",
                    None => "sparse",
                },
                backing.offset,
                if backing.access.write { "w" } else { "-" },
                if backing.access.exec { "x" } else { "-" },
                backing.attrs.to_uapi(),
            )?;
        }
        Ok(())
    })
}

fn show_objects<D: Driver>(device: &DeviceRef<D>, f: Formatter<'_, '_>) -> fmt::Result {
    writeln!(f, "vm start end size placement extents now")?;
    each(device, |number, vm| {
        let space = vm.space.lock();
        for entry in space.mappings.iter() {
            let Some(ObjectHandle::Bo(object)) = &entry.value.object else {
                continue;
            };
            writeln!(
                f,
                "{} {:#x} {:#x} {:#x} {:?} {} {}",
                number,
                entry.range.start(),
                entry.range.end(),
                kernel::drm::gem::BaseObject::size(&**object),
                object.placement(),
                object.object().map_or(0, |object| object.extents().len()),
                object.residency(),
            )?;
        }
        Ok(())
    })
}

fn show_attrs<D: Driver>(device: &DeviceRef<D>, f: Formatter<'_, '_>) -> fmt::Result {
    writeln!(f, "vm start end attribute=value...")?;
    each(device, |number, vm| {
        let space = vm.space.lock();
        let mut rest = Some(Vm::<D>::range());
        while let Some(range) = rest {
            let (set, part) = space.attrs.get(range);
            if set != AttrSet::DEFAULT {
                write!(f, "{} {:#x} {:#x}", number, part.start(), part.end())?;
                for kind in AttrKind::ALL {
                    if set.get(kind) != 0 {
                        write!(f, " {:?}={:#x}", kind, set.get(kind))?;
                    }
                }
                writeln!(f)?;
            }
            rest = VaRange::from_bounds(part.end(), range.end());
        }
        Ok(())
    })
}

fn show_memory<D: Driver>(device: &DeviceRef<D>, f: Formatter<'_, '_>) -> fmt::Result {
    let Some(pages) = device.process_pages() else {
        return Ok(());
    };
    let pool = pages.owner();
    let (to_host, dropped) = pool.back();
    let state = pool.state();
    let (counts, clock) = (state.evictor.counts, state.evictor.clock);
    writeln!(
        f,
        "blocks={} evictions={} failed={} to_host={} dropped={} refaults={} spared={} spilled={} restored={} copies={} history={} pinned={} discarded={}",
        clock.now,
        counts.evictions,
        counts.failed,
        to_host,
        dropped,
        counts.refaults,
        counts.spared,
        counts.spilled,
        counts.restored,
        pool.copies().count(),
        state.evictor.bytes(),
        device.pinned.load(Relaxed),
        pool.dead().spared(),
    )?;
    writeln!(f, "chunk pages taken filled needed hot priority pinned")?;
    for (i, chunk) in state.chunks.iter().enumerate() {
        let Some(chunk) = chunk else {
            continue;
        };
        let facts = &chunk.facts;
        writeln!(
            f,
            "{} {} {} {} {} {} {:?} {}",
            i,
            pool.used_of(i),
            facts.taken,
            facts.filled,
            facts.needed,
            u8::from(facts.hot),
            facts.priority,
            u8::from(chunk.pin.is_some()),
        )?;
    }
    drop(state);
    writeln!(f, "object bytes taken filled needed hot priority")?;
    let objects = device.objects().lock();
    for (i, (facts, size)) in objects.resident().enumerate() {
        writeln!(
            f,
            "{} {} {} {} {} {} {:?}",
            i,
            size,
            facts.taken,
            facts.filled,
            facts.needed,
            u8::from(facts.hot),
            facts.priority
        )?;
    }
    Ok(())
}

fn show_latency<D: Driver>(device: &DeviceRef<D>, f: Formatter<'_, '_>) -> fmt::Result {
    write!(f, "{}", device.latency())
}

fn show_policy<D: Driver>(device: &DeviceRef<D>, f: Formatter<'_, '_>) -> fmt::Result {
    writeln!(f, "{}", device.evict_policy().name())
}

/// `EINVAL` if there is none of that name.
fn set_policy<D: Driver>(device: &DeviceRef<D>, reader: &mut UserSliceReader) -> Result {
    let mut name = [0u8; 16];
    let len = reader.len().min(name.len());
    reader.read_slice(&mut name[..len])?;
    let name = core::str::from_utf8(&name[..len]).map_err(|_| EINVAL)?;
    let kind = PolicyKind::of_name(name.trim()).ok_or(EINVAL)?;
    device.set_evict_policy(kind);
    Ok(())
}

fn show_page_tables<D: Driver>(device: &DeviceRef<D>, f: Formatter<'_, '_>) -> fmt::Result {
    writeln!(f, "vm tables bytes planned")?;
    each(device, |number, vm| {
        let tables = vm.tables.lock();
        let stats = tables.page_table.stats();
        writeln!(
            f,
            "{} {} {} {}",
            number, stats.tables, stats.bytes, tables.planned
        )
    })
}
