// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The cache of translations.
//!
//! It is fully associative and replaces in the order of filling, so a translation stays for as long
//! as 512 others have not been cached after it: a missing invalidation shows.

use std::collections::HashMap;

use crate::mmu::Access;
use crate::space::Place;

/// How many translations it holds.
pub const ENTRIES: usize = 512;

/// What a translation covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// 4 KiB.
    Small,
    /// 64 KiB.
    Medium,
    /// 2 MiB.
    Large,
}

impl Page {
    const ALL: [Page; 3] = [Page::Small, Page::Medium, Page::Large];

    /// Bytes.
    pub fn size(self) -> u64 {
        match self {
            Page::Small => 4 << 10,
            Page::Medium => 64 << 10,
            Page::Large => 2 << 20,
        }
    }
}

/// A cached translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Local address of the root table: the tag.
    pub pgd: u64,
    /// First virtual address.
    pub va: u64,
    /// What it covers.
    pub page: Page,
    /// Where the first byte is; `None` is sparse.
    pub target: Option<Place>,
    /// Writing is allowed.
    pub writable: bool,
    /// Commands may be fetched.
    pub executable: bool,
    /// Cache policy.
    pub cache: u8,
    /// Compression class.
    pub compression: u8,
    /// For which of the 4 KiB of a 64 KiB leaf `ACCESSED` is set; of other pages bit 0 counts.
    pub accessed: u16,
    /// For which of them `DIRTY` is set.
    pub dirty: u16,
}

type Tag = (u64, u64, Page);

/// Where an access goes, and for how many bytes that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// `None` is sparse.
    pub target: Option<Place>,
    /// Bytes, at least one.
    pub len: u64,
}

impl Entry {
    fn tag(&self) -> Tag {
        (self.pgd, self.va, self.page)
    }

    /// The bit of `accessed` and `dirty` for `va`.
    pub fn bit(page: Page, va: u64) -> u32 {
        if page == Page::Medium {
            ((va >> 12) & 15) as u32
        } else {
            0
        }
    }

    /// What an access may use of this translation: nothing if the tables have to be walked first,
    /// because it is not permitted or `ACCESSED` or `DIRTY` are not known to be set.
    pub fn run(&self, va: u64, access: Access) -> Option<Run> {
        let (permitted, marked) = match access {
            Access::Read => (true, self.accessed),
            Access::Write => (self.writable, self.dirty),
            Access::Fetch => (self.executable, self.accessed),
        };
        let first = Entry::bit(self.page, va);
        let pages = u64::from((marked >> first).trailing_ones());
        if !permitted || pages == 0 {
            return None;
        }
        let offset = va - self.va;
        let end = match self.page {
            Page::Medium => (u64::from(first) + pages) * 4096,
            page => page.size(),
        };
        Some(Run {
            target: self.target.map(|t| t.plus(offset)),
            len: end - offset,
        })
    }

    /// Whether both say the same but for `accessed` and `dirty`.
    fn agrees(&self, other: &Entry) -> bool {
        Entry {
            accessed: 0,
            dirty: 0,
            ..*self
        } == Entry {
            accessed: 0,
            dirty: 0,
            ..*other
        }
    }
}

/// The cache.
pub struct Tlb {
    slots: Vec<Option<Entry>>,
    index: HashMap<Tag, usize>,
    next: usize,
}

impl Default for Tlb {
    fn default() -> Self {
        Tlb {
            slots: vec![None; ENTRIES],
            index: HashMap::with_capacity(ENTRIES),
            next: 0,
        }
    }
}

impl Tlb {
    /// Looks an access up.
    pub fn lookup(&self, pgd: u64, va: u64, access: Access) -> Option<Run> {
        Page::ALL.into_iter().find_map(|page| {
            let slot = self.index.get(&(pgd, va & !(page.size() - 1), page))?;
            self.slots[*slot].as_ref()?.run(va, access)
        })
    }

    /// Caches a translation, in the place of one with the same tag or else of the oldest.
    pub fn insert(&mut self, mut entry: Entry) {
        if let Some(&slot) = self.index.get(&entry.tag()) {
            if let Some(old) = self.slots[slot].filter(|old| old.agrees(&entry)) {
                entry.accessed |= old.accessed;
                entry.dirty |= old.dirty;
            }
            self.slots[slot] = Some(entry);
            return;
        }
        let slot = self.next;
        self.next = (slot + 1) % ENTRIES;
        if let Some(old) = self.slots[slot].replace(entry) {
            self.index.remove(&old.tag());
        }
        self.index.insert(entry.tag(), slot);
    }

    /// Drops what overlaps a range under `pgd`, or under every root if that is `None`.
    pub fn invalidate(&mut self, pgd: Option<u64>, start: u64, end: u64) {
        for slot in &mut self.slots {
            let dropped = slot.take_if(|e| {
                pgd.is_none_or(|pgd| pgd == e.pgd) && e.va < end && start < e.va + e.page.size()
            });
            if let Some(entry) = dropped {
                self.index.remove(&entry.tag());
            }
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Tlb::default();
    }
}
