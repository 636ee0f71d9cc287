// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Interrupts: event descriptors that the virtual machine gave us, one a vector.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Inner {
    vectors: Vec<Option<File>>,
    /// Interrupts to raise later; the second part of the key keeps those of one time apart.
    late: BTreeMap<(Instant, u64), usize>,
    serial: u64,
    shutdown: bool,
}

/// The MSI-X vectors of the device.
pub struct Interrupts {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Inner {
    fn fire(&mut self, vector: usize) {
        if let Some(Some(file)) = self.vectors.get_mut(vector) {
            if let Err(error) = file.write_all(&1u64.to_ne_bytes()) {
                log::warn!("interrupt {vector} was not delivered: {error}");
            }
        }
    }
}

impl Interrupts {
    /// `count` vectors without descriptors.
    pub fn new(count: usize) -> Self {
        let vectors = (0..count).map(|_| None).collect();
        Interrupts {
            inner: Mutex::new(Inner {
                vectors,
                ..Inner::default()
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many vectors there are.
    pub fn count(&self) -> usize {
        self.lock().vectors.len()
    }

    /// Connects a vector to an event descriptor, or disconnects it.
    pub fn connect(&self, vector: usize, file: Option<File>) {
        if let Some(slot) = self.lock().vectors.get_mut(vector) {
            *slot = file;
        }
    }

    /// Raises a vector at once.
    pub fn raise(&self, vector: usize) {
        self.lock().fire(vector);
    }

    /// Raises a vector after a while.
    pub fn raise_later(&self, vector: usize, delay: Duration) {
        let mut inner = self.lock();
        inner.serial += 1;
        let serial = inner.serial;
        inner.late.insert((Instant::now() + delay, serial), vector);
        self.changed.notify_one();
    }

    /// Forgets the interrupts that are still to be raised.
    pub fn cancel(&self) {
        self.lock().late.clear();
    }

    /// Lets [`Interrupts::run`] return.
    pub fn shutdown(&self) {
        self.lock().shutdown = true;
        self.changed.notify_one();
    }

    /// Raises late interrupts when their time has come.
    pub fn run(&self) {
        let mut inner = self.lock();
        while !inner.shutdown {
            let now = Instant::now();
            let next = inner
                .late
                .first_key_value()
                .map(|(key, vector)| (*key, *vector));
            inner = match next {
                Some((key, vector)) if key.0 <= now => {
                    inner.late.remove(&key);
                    inner.fire(vector);
                    inner
                }
                Some((key, _)) => {
                    let wait = self.changed.wait_timeout(inner, key.0 - now);
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .changed
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
