// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`File`]: one open file of the device, with the VMs it made.
//!
//! Locks: the tables of VMs and bind queues are under mutexes of their own, which are not held while one is used. But
//! that of VMs is, while they are asked for their [`usage`](crate::usage): so that each counts once.

use crate::{
    bind_queue::BindQueue,
    driver::Driver,
    id_map::IdMap,
    kapi::lock::new_mutex,
    usage::Usage,
    vm::Vm, //
};
use kernel::{
    drm,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// Most VMs that a file can have at a time.
pub const MAX_VMS: usize = 1024;
/// Most bind queues that a file can have at a time, in all its VMs.
pub const MAX_BIND_QUEUES: usize = 4096;

/// A bind queue and its VM.
type QueueOf<D> = (Arc<Vm<D>>, Arc<BindQueue<D>>);

/// The VMs of a file; dropping it closes them.
struct Vms<D: Driver> {
    map: IdMap<Arc<Vm<D>>>,
    /// What those had done that are destroyed.
    ended: Usage,
}

impl<D: Driver> Drop for Vms<D> {
    fn drop(&mut self) {
        while let Some(vm) = self.map.pop() {
            vm.close();
        }
    }
}

/// One open file.
#[pin_data]
pub struct File<D: Driver> {
    // Declared, and so dropped, before the VMs: the jobs end before their address space does.
    #[pin]
    client: D::Client,
    #[pin]
    bind_queues: Mutex<IdMap<QueueOf<D>>>,
    #[pin]
    vms: Mutex<Vms<D>>,
}

impl<D: Driver> File<D> {
    /// The driver's own state of this file.
    pub fn client(&self) -> &D::Client {
        &self.client
    }

    /// The VM with this id. `ENOENT`.
    pub fn vm(&self, id: u32) -> Result<Arc<Vm<D>>> {
        self.vms.lock().map.get(id).cloned().ok_or(ENOENT)
    }

    /// A VM and one of its bind queues, 0 for its own. `ENOENT`: one of them does not exist, or the
    /// queue is another VM's.
    pub fn bind_queue(&self, vm: u32, queue: u32) -> Result<QueueOf<D>> {
        let vm = self.vm(vm)?;
        let queue = match queue {
            0 => vm.default_queue().clone(),
            id => {
                let queues = self.bind_queues.lock();
                let (of, queue) = queues.get(id).ok_or(ENOENT)?;
                if !Arc::ptr_eq(of, &vm) {
                    return Err(ENOENT);
                }
                queue.clone()
            }
        };
        Ok((vm, queue))
    }

    /// Gives a bind queue to the file. `ENOSPC` if it has [`MAX_BIND_QUEUES`], `ENOMEM`.
    pub(crate) fn add_bind_queue(&self, queue: QueueOf<D>) -> Result<u32> {
        self.bind_queues.lock().insert(queue)
    }

    /// Takes a bind queue from the file. `ENOENT`.
    pub(crate) fn take_bind_queue(&self, id: u32) -> Result<QueueOf<D>> {
        self.bind_queues.lock().remove(id).ok_or(ENOENT)
    }

    /// Gives a VM to the file, which closes it if it can't. `ENOSPC` if it has [`MAX_VMS`], `ENOMEM`.
    pub(crate) fn add_vm(&self, vm: Arc<Vm<D>>) -> Result<u32> {
        let id = self.vms.lock().map.insert(vm.clone());
        id.inspect_err(|_| vm.close())
    }

    /// Takes a VM from the file, and its bind queues. `ENOENT`.
    pub(crate) fn take_vm(&self, id: u32) -> Result<Arc<Vm<D>>> {
        let vm = {
            let mut vms = self.vms.lock();
            let vm = vms.map.remove(id).ok_or(ENOENT)?;
            vms.ended += vm.usage().ended();
            vm
        };
        self.bind_queues
            .lock()
            .retain(|(of, _)| !Arc::ptr_eq(of, &vm));
        Ok(vm)
    }

    /// What its VMs have and have done, also those that it had.
    pub(crate) fn usage(&self) -> Usage {
        let vms = self.vms.lock();
        let mut sum = vms.ended;
        for vm in vms.map.values() {
            sum += vm.usage();
        }
        sum
    }
}

impl<D: Driver> drm::file::DriverFile for File<D> {
    type Driver = D;

    fn open(device: &drm::Device<D>) -> Result<Pin<KBox<Self>>> {
        KBox::try_pin_init(
            try_pin_init!(Self {
                client <- D::open(device),
                bind_queues <- new_mutex!(
                    IdMap::new(MAX_BIND_QUEUES),
                    "gmem_vm::File::bind_queues"
                ),
                vms <- new_mutex!(
                    Vms {
                        map: IdMap::new(MAX_VMS),
                        ended: Usage::default(),
                    },
                    "gmem_vm::File::vms"
                ),
            }),
            GFP_KERNEL,
        )
    }
}
