// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The walk of the page tables.

use std::sync::atomic::Ordering;

use crate::error::{Code, ProgrammingError};
use crate::memory::LocalMemory;
use crate::mmu::{Access, AccessError, Reason};
use crate::pte::{self, Pte};
use crate::space::Place;
use crate::tlb::{Entry, Page};

/// Entries of a 64 KiB leaf.
const GROUP: u64 = 16;

/// How often a walk that finds a broken 64 KiB leaf is repeated before that is an error.
const CONT_TRIES: u32 = 100;

/// A leaf that a walk found.
struct Leaf {
    pte: Pte,
    /// Local address of the entry.
    at: u64,
    level: u32,
}

/// Walks the tables for an access, sets `ACCESSED` and `DIRTY`, and returns what can be cached.
pub fn walk(local: &LocalMemory, pgd: u64, va: u64, access: Access) -> Result<Entry, AccessError> {
    let mut tries = 0;
    loop {
        let leaf = find(local, pgd, va)?;
        let page = match page(local, &leaf, va) {
            // Software may be splitting the leaf: it cleared `CONT` in the entry after we read it, and
            // then changed another.
            Err(_) if tries < CONT_TRIES => {
                tries += 1;
                std::thread::yield_now();
                continue;
            }
            page => page?,
        };
        match access {
            Access::Write if !leaf.pte.writable() => return Err(Reason::NotWritable.into()),
            Access::Fetch if !leaf.pte.executable() => return Err(Reason::NotExecutable.into()),
            _ => {}
        }
        // Software changed the entry meanwhile: what was found may not be used.
        if let Some(pte) = mark(local, &leaf, access) {
            return Ok(entry(pgd, va, page, pte));
        }
    }
}

fn find(local: &LocalMemory, pgd: u64, va: u64) -> Result<Leaf, AccessError> {
    if va >> pte::VA_BITS != 0 {
        return Err(Reason::OutOfRange.into());
    }
    let mut table = pgd;
    for level in (0..4).rev() {
        if !local.contains(table, pte::TABLE_SIZE) {
            return Err(error(Code::BadTableAddress, table));
        }
        let at = pte::slot(table, level, va);
        let pte = Pte(local.load(at));
        if !pte.valid() {
            return Err(Reason::Invalid.into());
        }
        pte.check(level).map_err(|code| error(code, at))?;
        if pte.leaf() {
            let reachable = pte.host() || local.contains(pte.address(), pte::cover(level));
            return if reachable {
                Ok(Leaf { pte, at, level })
            } else {
                Err(error(Code::BadPteAddress, at))
            };
        }
        table = pte.address();
    }
    unreachable!("a table entry of level 0 has reserved bits set")
}

/// How much of the address space the leaf translates alike.
fn page(local: &LocalMemory, leaf: &Leaf, va: u64) -> Result<Page, AccessError> {
    if leaf.level == 1 {
        return Ok(Page::Large);
    }
    if !leaf.pte.cont() {
        return Ok(Page::Small);
    }
    let index = (va >> 12) % GROUP;
    let first = leaf.at - index * 8;
    if leaf.pte.address() & (Page::Medium.size() - 1) != index * 4096 {
        return Err(error(Code::ContMismatch, leaf.at));
    }
    let mut complete = true;
    for i in 0..GROUP {
        let at = first + i * 8;
        let other = Pte(local.load(at));
        if !other.valid() {
            complete = false;
        } else if !leaf.pte.continues(other, i as i64 - index as i64) {
            return Err(error(Code::ContMismatch, at));
        }
    }
    Ok(if complete { Page::Medium } else { Page::Small })
}

/// Sets the bits for an access in the entry, unless it is no longer what the walk has seen.
fn mark(local: &LocalMemory, leaf: &Leaf, access: Access) -> Option<Pte> {
    let mut bits = pte::ACCESSED;
    if access == Access::Write {
        bits |= pte::DIRTY;
    }
    let marks = pte::ACCESSED | pte::DIRTY;
    let word = local.word(leaf.at);
    word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
        (now & !marks == leaf.pte.0 & !marks).then_some(now | bits)
    })
    .ok()
    .map(|old| Pte(old | bits))
}

fn entry(pgd: u64, va: u64, page: Page, pte: Pte) -> Entry {
    let start = va & !(page.size() - 1);
    let inside = if page == Page::Medium {
        va & !0xfff & (page.size() - 1)
    } else {
        0
    };
    let address = pte.address() - inside;
    let bit = 1 << Entry::bit(page, va);
    Entry {
        pgd,
        va: start,
        page,
        target: match (pte.sparse(), pte.host()) {
            (true, _) => None,
            (false, true) => Some(Place::Host(address)),
            (false, false) => Some(Place::Local(address)),
        },
        writable: pte.writable(),
        executable: pte.executable(),
        cache: pte.cache(),
        compression: pte.compression(),
        accessed: bit,
        dirty: if pte.0 & pte::DIRTY != 0 { bit } else { 0 },
    }
}

fn error(code: Code, detail: u64) -> AccessError {
    AccessError::Error(ProgrammingError::mmu(code, detail))
}
