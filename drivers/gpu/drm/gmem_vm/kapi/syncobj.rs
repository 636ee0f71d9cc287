// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! DRM synchronization objects.
//!
//! A syncobj is a container for a fence that userspace has a handle of: a binary one holds one
//! fence, a timeline a chain of them, each with a point.
//!
//! C header: [`include/drm/drm_syncobj.h`](srctree/include/drm/drm_syncobj.h)

use super::dma_fence::Fence;
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    drm::{
        self,
        file::DriverFile, //
    },
    error::to_result,
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque, //
};

/// A DRM synchronization object.
///
/// # Invariants
///
/// `self.0` is an initialized `struct drm_syncobj` with a non-zero reference count.
#[repr(transparent)]
pub struct SyncObj(Opaque<bindings::drm_syncobj>);

// SAFETY: A `struct drm_syncobj` is reference counted and can be released from any thread.
unsafe impl Send for SyncObj {}

// SAFETY: All methods of a shared `SyncObj` are synchronized by `struct drm_syncobj` itself.
unsafe impl Sync for SyncObj {}

// SAFETY: `drm_syncobj_get()` and `drm_syncobj_put()` maintain the reference count of a
// `struct drm_syncobj`, which lives until it is zero.
unsafe impl AlwaysRefCounted for SyncObj {
    fn inc_ref(&self) {
        // SAFETY: The shared reference guarantees that the reference count is not zero.
        unsafe { bindings::drm_syncobj_get(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The safety requirements guarantee that the reference count is not zero.
        unsafe { bindings::drm_syncobj_put(obj.cast().as_ptr()) };
    }
}

impl SyncObj {
    /// Creates a syncobj that userspace does not know of yet; it has no fence, or one that has been
    /// signalled.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub fn new(signaled: bool) -> Result<ARef<Self>> {
        let flags = if signaled {
            bindings::DRM_SYNCOBJ_CREATE_SIGNALED
        } else {
            0
        };
        let mut ptr = core::ptr::null_mut();

        // SAFETY: `ptr` is valid for writes; a syncobj can be created without a fence.
        to_result(unsafe { bindings::drm_syncobj_create(&mut ptr, flags, core::ptr::null_mut()) })?;

        let ptr = NonNull::new(ptr).ok_or(ENOMEM)?;

        // SAFETY: `drm_syncobj_create()` has succeeded, and gave us the only reference.
        Ok(unsafe { ARef::from_raw(ptr.cast()) })
    }

    /// Looks up a syncobj by its handle.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the file has no such handle.
    pub fn find<F: DriverFile>(file: &drm::File<F>, handle: u32) -> Result<ARef<Self>> {
        Self::assert_feature::<F>();

        // SAFETY: The file is valid by its type invariant; its table of syncobjs is initialized, as
        // its driver has the feature.
        let ptr = unsafe { bindings::drm_syncobj_find(file.as_raw(), handle) };
        let ptr = NonNull::new(ptr).ok_or(ENOENT)?;

        // SAFETY: `drm_syncobj_find()` returns a valid syncobj, and gives us a reference to it.
        Ok(unsafe { ARef::from_raw(ptr.cast()) })
    }

    /// Looks up the fence of a syncobj by its handle.
    ///
    /// For a `point` other than zero, this is a fence that signals no earlier than that point of the
    /// timeline is reached. Does not wait for anybody to submit anything.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the file has no such handle; `EINVAL` if the syncobj has no fence, or none for
    /// this point.
    pub fn find_fence<F: DriverFile>(
        file: &drm::File<F>,
        handle: u32,
        point: u64,
    ) -> Result<ARef<Fence>> {
        Self::assert_feature::<F>();

        let mut ptr = core::ptr::null_mut();

        // SAFETY: The file is valid by its type invariant; its table of syncobjs is initialized, as
        // its driver has the feature. `ptr` is valid for writes.
        to_result(unsafe {
            bindings::drm_syncobj_find_fence(file.as_raw(), handle, point, 0, &mut ptr)
        })?;

        let ptr = NonNull::new(ptr).ok_or(EINVAL)?;

        // SAFETY: `drm_syncobj_find_fence()` has succeeded, and gave us a reference.
        Ok(unsafe { Fence::adopt(ptr) })
    }

    /// Returns a raw pointer to the underlying `struct drm_syncobj`.
    pub fn as_raw(&self) -> *mut bindings::drm_syncobj {
        self.0.get()
    }

    /// Returns the fence, which for a timeline is the one of its last point.
    pub fn fence(&self) -> Option<ARef<Fence>> {
        // SAFETY: The syncobj is valid by the type invariant.
        let ptr = NonNull::new(unsafe { bindings::drm_syncobj_fence_get(self.as_raw()) })?;

        // SAFETY: `drm_syncobj_fence_get()` gave us a reference to a valid fence.
        Some(unsafe { Fence::adopt(ptr) })
    }

    /// Replaces the fence, or the whole timeline.
    ///
    /// Cannot fail and does not allocate. Process context.
    pub fn replace_fence(&self, fence: Option<&Fence>) {
        let fence = fence.map_or(core::ptr::null_mut(), Fence::as_raw);

        // SAFETY: The syncobj is valid by the type invariant, and so is the fence, which gets a
        // reference of its own, or is `NULL`.
        unsafe { bindings::drm_syncobj_replace_fence(self.as_raw(), fence) };
    }

    /// Adds a point to the timeline.
    ///
    /// Points should grow. One that does not is reached together with the last one, as userspace will
    /// notice. `fence` must not be the fence of a timeline itself, which the kernel warns about.
    ///
    /// Cannot fail and does not allocate. Process context.
    pub fn add_point(&self, node: ChainNode, fence: &Fence, point: u64) {
        // SAFETY: The syncobj and the fence are valid by their type invariants; the fence gets a
        // reference of its own. The node is valid and unused, and owned by the syncobj from here on.
        unsafe {
            bindings::drm_syncobj_add_point(
                self.as_raw(),
                node.into_raw().as_ptr(),
                fence.as_raw(),
                point,
            )
        };
    }

    /// A file only has a table of syncobjs if its driver supports them.
    fn assert_feature<F: DriverFile>() {
        const {
            assert!(
                <F::Driver as drm::Driver>::FEAT_SYNCOBJ,
                "the driver lacks `FEAT_SYNCOBJ`"
            )
        }
    }
}

/// The memory of a point of a timeline.
///
/// # Invariants
///
/// `self.0` comes from `dma_fence_chain_alloc()` and has not been used.
pub struct ChainNode(NonNull<bindings::dma_fence_chain>);

// SAFETY: This is memory that nobody else knows of.
unsafe impl Send for ChainNode {}

// SAFETY: A shared `ChainNode` does not allow anything.
unsafe impl Sync for ChainNode {}

impl ChainNode {
    /// Allocates the memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub fn new() -> Result<Self> {
        // SAFETY: `dma_fence_chain_alloc()` has no requirements but that we may sleep.
        let ptr = unsafe { bindings::dma_fence_chain_alloc() };

        // INVARIANT: The node has just been allocated.
        Ok(Self(NonNull::new(ptr).ok_or(ENOMEM)?))
    }

    /// Gives the memory away.
    fn into_raw(self) -> NonNull<bindings::dma_fence_chain> {
        ManuallyDrop::new(self).0
    }
}

impl Drop for ChainNode {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, the node has been allocated and not been used.
        unsafe { bindings::dma_fence_chain_free(self.0.as_ptr()) };
    }
}

#[kunit_tests(gmem_vm_kapi_syncobj)]
mod tests {
    use super::super::dma_fence::{
        FenceOps,
        FenceReservation,
        FenceWaiter,
        PendingFence,
        Timeline,
        Wake, //
    };
    use super::*;
    use kernel::sync::{
        atomic::{
            AtomicFlag,
            Relaxed, //
        },
        Arc, //
    };

    struct Ops;

    impl FenceOps for Ops {
        const DRIVER_NAME: &'static CStr = c"kunit";
        const TIMELINE_NAME: &'static CStr = c"kunit-syncobj";
    }

    fn publish(timeline: &Timeline<Ops>) -> Result<PendingFence<Ops>> {
        Ok(FenceReservation::new(GFP_KERNEL)?.publish(timeline))
    }

    struct Flag(AtomicFlag);

    impl Wake for Flag {
        fn wake(this: &Arc<Self>) {
            this.0.store(true, Relaxed);
        }
    }

    #[test]
    fn new_syncobj() -> Result {
        assert!(SyncObj::new(false)?.fence().is_none());
        assert!(SyncObj::new(true)?
            .fence()
            .is_some_and(|fence| fence.is_signaled()));
        Ok(())
    }

    #[test]
    fn binary_fence_is_replaced() -> Result {
        let timeline = Timeline::new();
        let (first, second) = (publish(&timeline)?, publish(&timeline)?);
        let syncobj = SyncObj::new(false)?;

        syncobj.replace_fence(Some(&first.fence()));
        assert!(syncobj.fence().is_some_and(|fence| fence.seqno() == 1));
        syncobj.replace_fence(Some(&second.fence()));
        assert!(syncobj.fence().is_some_and(|fence| fence.seqno() == 2));

        first.signal(Ok(()));
        assert!(syncobj.fence().is_some_and(|fence| !fence.is_signaled()));
        second.signal(Ok(()));
        assert!(syncobj.fence().is_some_and(|fence| fence.is_signaled()));

        syncobj.replace_fence(None);
        assert!(syncobj.fence().is_none());
        Ok(())
    }

    #[test]
    fn unused_node_is_freed() -> Result {
        drop(ChainNode::new()?);
        Ok(())
    }

    #[test]
    fn timeline_reaches_points_in_order() -> Result {
        let timeline = Timeline::new();
        let (first, second) = (publish(&timeline)?, publish(&timeline)?);
        let syncobj = SyncObj::new(false)?;

        syncobj.add_point(ChainNode::new()?, &first.fence(), 10);
        let at_10 = syncobj.fence().ok_or(EINVAL)?;
        syncobj.add_point(ChainNode::new()?, &second.fence(), 20);
        let at_20 = syncobj.fence().ok_or(EINVAL)?;

        assert_eq!(at_10.seqno(), 10);
        assert_eq!(at_20.seqno(), 20);
        assert_eq!(at_10.context(), at_20.context());
        assert!(!at_10.is_signaled());

        // Out of order, so 20 is only reached with 10.
        second.signal(Ok(()));
        assert!(!at_20.is_signaled());
        first.signal(Ok(()));
        assert!(at_10.is_signaled());
        assert!(at_20.is_signaled());
        Ok(())
    }

    #[test]
    fn waiter_on_a_timeline() -> Result {
        let flag = Arc::new(Flag(AtomicFlag::new(false)), GFP_KERNEL)?;
        let timeline = Timeline::new();
        let (first, second) = (publish(&timeline)?, publish(&timeline)?);
        let syncobj = SyncObj::new(false)?;

        syncobj.add_point(ChainNode::new()?, &first.fence(), 1);
        syncobj.add_point(ChainNode::new()?, &second.fence(), 2);
        let fence = syncobj.fence().ok_or(EINVAL)?;
        let mut waiter = FenceWaiter::new(fence.clone(), flag.clone(), GFP_KERNEL)?;

        assert!(waiter.as_mut().arm());
        first.signal(Ok(()));
        second.signal(Err(EIO));

        // The kernel signals the point from an irq_work.
        fence.wait(false, None)?;
        drop(waiter);
        assert!(flag.0.load(Relaxed));
        Ok(())
    }

    #[test]
    fn syncobj_keeps_its_fence() -> Result {
        let syncobj = SyncObj::new(false)?;
        let pending = publish(&Timeline::new())?;

        syncobj.replace_fence(Some(&pending.fence()));
        drop(pending);

        let fence = syncobj.fence().ok_or(EINVAL)?;
        drop(syncobj);
        assert!(fence.status() == Some(Err(ECANCELED)));
        Ok(())
    }
}
