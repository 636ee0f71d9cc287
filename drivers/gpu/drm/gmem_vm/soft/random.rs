// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Random binds and advice against a naive model, with a seed.
//!
//! After each step the model is compared, page by page, with what the VM says of its mappings and
//! attributes, and with what the device finds when it walks the page table.

use crate::{
    driver::{
        Soft,
        SoftDevice, //
    },
    hardware::{
        PAGE,
        TABLE_SPAN, //
    },
    page_table::{
        leaf,
        Attrs, //
    },
};
use gmem_vm::{
    attrs::{
        Attr,
        AttrKind,
        KINDS, //
    },
    bind::BindOp,
    bind_queue::BindQueue,
    bo::Placement,
    kapi::dma_fence::Fence,
    mapping::{
        Backing,
        Mapping, //
    },
    sync::Syncs,
    uapi,
    Access,
    Bo,
    BoObject,
    Location,
    MapAttrs,
    MapRun,
    ObjectHandle,
    VaRange,
    Vm, //
};
use kernel::{
    drm,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// Pages of the window, which lies over the border of two tables.
const WINDOW: usize = 64;
/// First address of the window.
const START: u64 = TABLE_SPAN - PAGE * WINDOW as u64 / 2;
/// Pages of a buffer object, and how many there are.
const BO_PAGES: usize = 24;
const BOS: usize = 3;
/// Most operations of a batch.
const MOST_OPS: usize = 128;
/// Bind queues, the VM's own included.
const QUEUES: usize = 4;

/// A generator of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What a page is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bound {
    Nothing,
    Sparse {
        write: bool,
    },
    Bo {
        bo: usize,
        page: usize,
        access: Access,
        attrs: u8,
    },
}

/// What is known of a page.
#[derive(Clone, Copy)]
struct Page {
    bound: Bound,
    advice: [u64; uapi::ADVICE],
}

/// One operation, with what it is called by in a report.
#[derive(Clone, Copy, Debug)]
struct Op {
    first: usize,
    pages: usize,
    to: Bound,
}

/// A VM and its model.
pub(crate) struct Run<'a> {
    device: &'a SoftDevice<drm::Registered>,
    vm: Arc<Vm<Soft>>,
    queues: KVec<Arc<BindQueue<Soft>>>,
    bos: KVec<ARef<BoObject<Soft>>>,
    model: KVec<Page>,
    random: Random,
    /// What was seen, for less allocation.
    entries: KVVec<uapi::Range>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.vm.close();
    }
}

fn range(first: usize, pages: usize) -> Result<VaRange> {
    VaRange::new(START + PAGE * first as u64, PAGE * pages as u64)
}

impl<'a> Run<'a> {
    pub(crate) fn new(device: &'a SoftDevice<drm::Registered>, seed: u64) -> Result<Self> {
        let mut queues = KVec::new();
        let mut bos = KVec::new();
        let mut model = KVec::new();
        for _ in 0..BOS {
            let bo = Bo::create(device, PAGE * BO_PAGES as u64, Placement::Host, false)?;
            bos.push(bo, GFP_KERNEL)?;
        }
        for _ in 0..WINDOW {
            let page = Page {
                bound: Bound::Nothing,
                advice: [0; uapi::ADVICE],
            };
            model.push(page, GFP_KERNEL)?;
        }
        let entries = KVVec::with_capacity(WINDOW, GFP_KERNEL)?;
        let vm = Vm::new(device)?;
        let mut run = Self {
            device,
            vm,
            queues: KVec::new(),
            bos,
            model,
            random: Random(seed),
            entries,
        };
        queues.push(run.vm.default_queue().clone(), GFP_KERNEL)?;
        for _ in 1..QUEUES {
            queues.push(run.vm.new_queue()?, GFP_KERNEL)?;
        }
        run.queues = queues;
        Ok(run)
    }

    /// Some pages: often one, often many, at any place.
    fn pages(&mut self) -> (usize, usize) {
        let first = self.random.below(WINDOW);
        let most = match self.random.below(4) {
            0 => 1,
            1 => 4,
            2 => 16,
            _ => WINDOW,
        };
        let pages = 1 + self.random.below(most);
        (first, pages.min(WINDOW - first))
    }

    fn op(&mut self) -> Op {
        let (first, mut pages) = self.pages();
        let to = match self.random.below(8) {
            0 | 1 => Bound::Nothing,
            2 => Bound::Sparse {
                write: self.random.one_in(2),
            },
            _ => {
                pages = pages.min(BO_PAGES);
                let bo = self.random.below(BOS);
                // Often what continues the neighbours.
                let page = match self.random.one_in(2) {
                    true => first % BO_PAGES,
                    false => self.random.below(BO_PAGES),
                };
                pages = pages.min(BO_PAGES - page);
                Bound::Bo {
                    bo,
                    page,
                    access: Access {
                        write: !self.random.one_in(8),
                        exec: self.random.one_in(8),
                    },
                    attrs: if self.random.one_in(8) { 5 } else { 0 },
                }
            }
        };
        Op { first, pages, to }
    }

    fn bind_op(&self, op: &Op) -> Result<BindOp<Soft>> {
        let range = range(op.first, op.pages)?;
        let backing = match op.to {
            Bound::Nothing => return Ok(BindOp::Unmap(range)),
            Bound::Sparse { write } => Backing {
                object: None,
                offset: 0,
                access: Access { write, exec: false },
                attrs: Attrs::from_uapi(0)?,
            },
            Bound::Bo {
                bo,
                page,
                access,
                attrs,
            } => Backing {
                object: Some(ObjectHandle::Bo(self.bos.get(bo).ok_or(EINVAL)?.clone())),
                offset: PAGE * page as u64,
                access,
                attrs: Attrs::from_uapi(attrs.into())?,
            },
        };
        Ok(BindOp::Map(Mapping { range, backing }))
    }

    fn apply(&mut self, op: &Op) {
        for i in 0..op.pages {
            let mut to = op.to;
            if let Bound::Bo { page, .. } = &mut to {
                *page += i;
            }
            self.model[op.first + i].bound = to;
        }
    }

    /// A batch of random operations, done or queued. Returns how many there were, and its fence
    /// if it was queued.
    fn batch(&mut self, queued: bool) -> Result<(u64, Option<ARef<Fence>>)> {
        let count = 1 + self.random.below(MOST_OPS);
        let mut ops = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let op = self.op();
            ops.push(self.bind_op(&op)?, GFP_KERNEL)?;
            self.apply(&op);
        }
        let queue = &self.queues[self.random.below(QUEUES)];
        let fence = if queued {
            Some(self.vm.bind(queue, ops, Syncs::none())?)
        } else {
            self.vm.bind_and_wait(queue, ops, Syncs::none())?;
            None
        };
        Ok((count as u64, fence))
    }

    fn advise(&mut self) -> Result {
        let (first, pages) = self.pages();
        let reset = self.random.one_in(4);
        let mut attrs = KVec::new();
        for _ in 0..self.random.below(3) + usize::from(!reset) {
            let kind = AttrKind::ALL[self.random.below(KINDS)];
            // 0 is any attribute's default, and 1 is allowed for most.
            let value = self.random.next() & 1;
            let attr = Attr::new(kind as u32, value, |_| true, |_| Ok(()));
            if let Ok(attr) = attr {
                attrs.push((attr, kind, value), GFP_KERNEL)?;
            }
        }
        let mut list = KVec::new();
        for (attr, _, _) in &attrs {
            list.push(*attr, GFP_KERNEL)?;
        }
        let result = self.vm.advise(range(first, pages)?, &list, reset);
        let pinned = attrs
            .iter()
            .filter(|(_, kind, _)| *kind == AttrKind::Pinned);
        if pinned.last().is_some_and(|(_, _, value)| *value != 0) {
            // There is no memory that could be.
            assert!(result.is_err_and(|e| e == ENOMEM));
            return Ok(());
        }
        result?;
        for page in &mut self.model[first..first + pages] {
            if reset {
                page.advice = [0; uapi::ADVICE];
            }
            for (_, kind, value) in &attrs {
                page.advice[*kind as usize] = *value;
            }
        }
        Ok(())
    }

    /// What the device should find.
    fn expected(&self, bound: Bound) -> Result<u64> {
        let run = |location, access, attrs: u8| -> Result<u64> {
            let run = MapRun {
                range: range(0, 1)?,
                location,
                access,
                attrs: Attrs::from_uapi(attrs.into())?,
            };
            Ok(leaf(&run, location))
        };
        match bound {
            Bound::Nothing => Ok(0),
            Bound::Sparse { write } => run(Location::Sparse, Access { write, exec: false }, 0),
            Bound::Bo {
                bo,
                page,
                access,
                attrs,
            } => {
                let object = self.bos[bo].object().ok_or(EINVAL)?;
                let extent = object.runs(PAGE * page as u64, PAGE).next().ok_or(EINVAL)?;
                run(extent.location, access, attrs)
            }
        }
    }

    /// Whether an entry of a query says what the model does of a page.
    fn agrees(entry: &uapi::Range, at: u64, page: &Page) -> bool {
        let offset = at - entry.va;
        let (mapping, flags, residency, bo_offset, driver) = match page.bound {
            Bound::Nothing => (0, 0, 0, 0, 0),
            Bound::Sparse { write } => (uapi::MAPPING_SPARSE, u32::from(!write), 0, 0, 0),
            Bound::Bo {
                page,
                access,
                attrs,
                ..
            } => (
                uapi::MAPPING_BO,
                u32::from(!access.write) * uapi::BIND_READONLY
                    + u32::from(access.exec) * uapi::BIND_EXEC,
                uapi::RESIDENT_HOST,
                PAGE * page as u64 - offset,
                attrs.into(),
            ),
        };
        entry.mapping == mapping
            && entry.flags == flags
            && entry.residency == residency
            && entry.bo_offset == bo_offset
            && entry.attrs == driver
            && entry.advice == page.advice
    }

    /// Compares all there is with the model. `EBADMSG` if it differs.
    fn compare(&mut self) -> Result {
        self.entries.clear();
        if self
            .vm
            .query(range(0, WINDOW)?, &mut self.entries)?
            .is_some()
        {
            pr_err!("more ranges than pages\n");
            return Err(EBADMSG);
        }
        let mut entries = self.entries.iter().peekable();
        for (i, page) in self.model.iter().enumerate() {
            let at = START + PAGE * i as u64;
            while entries.next_if(|e| e.va + e.size <= at).is_some() {}
            if !entries.peek().is_some_and(|e| Self::agrees(e, at, page)) {
                pr_err!("page {}: {:?}, but {:?}\n", i, page.bound, entries.peek());
                return Err(EBADMSG);
            }
        }
        let (hardware, root) = (self.device.hardware(), self.vm.root());
        hardware.translate_pages(root, START, WINDOW, |i, seen| {
            let expected = self.expected(self.model[i].bound)?;
            if seen != expected {
                pr_err!(
                    "page {}: the device sees {:#x}, not {:#x}\n",
                    i,
                    seen,
                    expected
                );
                return Err(EBADMSG);
            }
            Ok(())
        })
    }

    /// One step, after which all is compared: a batch, or several that are under way at a time. Returns
    /// how many operations it had.
    pub(crate) fn step(&mut self, several: bool) -> Result<u64> {
        let mut ops = 0;
        if self.random.one_in(4) {
            self.advise()?;
            ops += 1;
        }
        if several {
            let mut fences = KVec::new();
            for _ in 0..2 + self.random.below(4) {
                let (count, fence) = self.batch(true)?;
                ops += count;
                fences.push(fence, GFP_KERNEL)?;
            }
            for fence in fences.iter().flatten() {
                fence.wait(false, None)?;
            }
        } else {
            ops += self.batch(false)?.0;
        }
        self.compare()?;
        Ok(ops)
    }
}
