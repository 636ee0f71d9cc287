// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! gmem_vm's side of the bind benchmark: what `gmem_vm::bind` does with the mappings of a VM, each
//! operation a batch of one, under a mutex; no page table. bench.h says what each function is.
//!
//! An object is counted as a buffer object is: each mapping has a reference, which it gets from the
//! one that the lookup of a handle gives.

use core::ffi::{
    c_int,
    c_void, //
};
use gmem_vm::{
    driver::Access,
    mapping::{
        Backing,
        Mapping,
        MappingTree,
        Needs,
        ObjectRef,
        Removed, //
    },
    range::VaRange, //
};
use kernel::{
    new_mutex,
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    types::ForeignOwnable, //
};

/// As in bench.h.
const BOS: usize = 16;

extern "C" {
    fn bind_digest(page: u64, pages: u64, bo: u32, bo_page: u64) -> u64;
}

struct Bo {
    index: u32,
}

#[derive(Clone)]
struct BoRef(Arc<Bo>);

impl ObjectRef for BoRef {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[pin_data]
struct Vm {
    bos: KVec<BoRef>,
    #[pin]
    mappings: Mutex<MappingTree<BoRef, ()>>,
}

impl Vm {
    fn new() -> Result<Pin<KBox<Self>>> {
        let mut bos = KVec::with_capacity(BOS, GFP_KERNEL)?;
        for index in 0..BOS as u32 {
            bos.push(BoRef(Arc::new(Bo { index }, GFP_KERNEL)?), GFP_KERNEL)?;
        }
        KBox::pin_init(
            pin_init!(Self {
                bos,
                mappings <- new_mutex!(MappingTree::new()),
            }),
            GFP_KERNEL,
        )
    }

    fn map(&self, range: VaRange, bo: u32, bo_page: u64) -> Result {
        let object = self.bos.get(bo as usize).ok_or(EINVAL)?.clone();
        let (mut needs, mut removed) = (Needs::default(), Removed::default());
        let mut mappings = self.mappings.lock();
        mappings.count(&mut needs, range);
        mappings.reserve(&needs, &mut removed)?;
        mappings.insert(
            &mut removed,
            Mapping {
                range,
                backing: Backing {
                    object: Some(object),
                    offset: bo_page << PAGE_SHIFT,
                    access: Access {
                        write: true,
                        exec: false,
                    },
                    attrs: (),
                },
            },
        );
        mappings.trim();
        drop(mappings);
        // And then what was removed.
        Ok(())
    }

    fn unmap(&self, range: VaRange) -> Result {
        let (mut needs, mut removed) = (Needs::default(), Removed::default());
        let mut mappings = self.mappings.lock();
        mappings.count(&mut needs, range);
        mappings.reserve(&needs, &mut removed)?;
        mappings.remove(&mut removed, range);
        mappings.trim();
        drop(mappings);
        // And then what was removed.
        Ok(())
    }

    /// What drm_gpuva_find_first() gives for the page: no mapping begins or ends inside of one.
    fn lookup(&self, address: u64) -> Option<u64> {
        let mappings = self.mappings.lock();
        let entry = mappings.get(address)?;
        let object = entry.value.object.as_ref()?;
        let offset = entry.value.offset + (address - entry.range.start());
        Some((u64::from(object.0.index) << 32) + (offset >> PAGE_SHIFT) + 1)
    }

    fn digest(&self) -> u64 {
        let mut sum: u64 = 0;
        for entry in self.mappings.lock().iter() {
            let Some(object) = &entry.value.object else {
                continue;
            };
            // SAFETY: A pure function of its arguments.
            sum = sum.wrapping_add(unsafe {
                bind_digest(
                    entry.range.start() >> PAGE_SHIFT,
                    entry.range.size() >> PAGE_SHIFT,
                    object.0.index,
                    entry.value.offset >> PAGE_SHIFT,
                )
            });
        }
        sum
    }
}

fn pages(page: u64, pages: u64) -> Result<VaRange> {
    VaRange::new(page << PAGE_SHIFT, pages << PAGE_SHIFT)
}

fn errno(result: Result) -> c_int {
    result.map_or_else(|e| e.to_errno(), |()| 0)
}

/// # Safety
///
/// `vm` must come from [`gmem_create`] and not have gone into [`gmem_destroy`].
unsafe fn borrow<'a>(vm: *mut c_void) -> Pin<&'a Vm> {
    // SAFETY: The caller's promise.
    unsafe { <Pin<KBox<Vm>> as ForeignOwnable>::borrow(vm) }
}

#[no_mangle]
extern "C" fn gmem_create() -> *mut c_void {
    Vm::new().map_or(core::ptr::null_mut(), ForeignOwnable::into_foreign)
}

/// # Safety
///
/// As for [`borrow`], in this and all that follow.
#[no_mangle]
unsafe extern "C" fn gmem_destroy(vm: *mut c_void) {
    // SAFETY: The caller's promise.
    drop(unsafe { <Pin<KBox<Vm>> as ForeignOwnable>::from_foreign(vm) });
}

#[no_mangle]
unsafe extern "C" fn gmem_map(vm: *mut c_void, page: u64, n: u64, bo: u32, bo_page: u64) -> c_int {
    // SAFETY: The caller's promise.
    let vm = unsafe { borrow(vm) };
    errno(pages(page, n).and_then(|range| vm.map(range, bo, bo_page)))
}

#[no_mangle]
unsafe extern "C" fn gmem_unmap(vm: *mut c_void, page: u64, n: u64) -> c_int {
    // SAFETY: The caller's promise.
    let vm = unsafe { borrow(vm) };
    errno(pages(page, n).and_then(|range| vm.unmap(range)))
}

#[no_mangle]
unsafe extern "C" fn gmem_lookup(vm: *mut c_void, page: u64) -> u64 {
    // SAFETY: The caller's promise.
    let vm = unsafe { borrow(vm) };
    vm.lookup(page << PAGE_SHIFT).unwrap_or(0)
}

#[no_mangle]
unsafe extern "C" fn gmem_digest(vm: *mut c_void) -> u64 {
    // SAFETY: The caller's promise.
    unsafe { borrow(vm) }.digest()
}

#[no_mangle]
unsafe extern "C" fn gmem_len(vm: *mut c_void) -> u64 {
    // SAFETY: The caller's promise.
    unsafe { borrow(vm) }.mappings.lock().len() as u64
}

#[no_mangle]
unsafe extern "C" fn gmem_bytes(vm: *mut c_void) -> u64 {
    // SAFETY: The caller's promise.
    unsafe { borrow(vm) }.mappings.lock().bytes() as u64
}
