// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A device that is nothing but a flat memory and naive loops: it executes command buffers as
//! `Documentation/accel/npu/commands.rst` describes them, read from their bytes.

use std::ops::Range;

/// Memory from a base address on.
pub struct Interpreter {
    base: u64,
    memory: Vec<u8>,
    time: u64,
}

/// Fields of a command, taken in order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&mut self) -> u32 {
        let (field, rest) = self.0.split_at(4);
        self.0 = rest;
        u32::from_le_bytes(field.try_into().unwrap())
    }

    fn size(&mut self) -> usize {
        self.u32() as usize
    }

    fn u64(&mut self) -> u64 {
        let low = u64::from(self.u32());
        low | (u64::from(self.u32()) << 32)
    }

    fn f32(&mut self) -> f32 {
        f32::from_bits(self.u32())
    }

    fn end(mut self) {
        while !self.0.is_empty() {
            assert_eq!(self.u32(), 0, "reserved field");
        }
    }
}

impl Interpreter {
    pub fn new(base: u64, size: usize) -> Self {
        // What was never written is not a number.
        Self {
            base,
            memory: vec![0xff; size],
            time: 0,
        }
    }

    fn range(&self, va: u64, size: usize) -> Range<usize> {
        let start = va.checked_sub(self.base).expect("below the memory") as usize;
        assert!(
            start + size <= self.memory.len(),
            "{va:#x} is above the memory"
        );
        start..start + size
    }

    pub fn write(&mut self, va: u64, bytes: &[u8]) {
        let range = self.range(va, bytes.len());
        self.memory[range].copy_from_slice(bytes);
    }

    pub fn read<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(
        &self,
        va: u64,
        count: usize,
    ) -> Vec<T> {
        assert!(va % size_of::<T>() as u64 == 0, "{va:#x} is misaligned");
        let mut values = vec![T::zeroed(); count];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        bytes.copy_from_slice(&self.memory[self.range(va, count * size_of::<T>())]);
        values
    }

    fn floats(&self, va: u64, count: usize) -> Vec<f64> {
        self.read::<f32>(va, count)
            .into_iter()
            .map(f64::from)
            .collect()
    }

    fn store(&mut self, va: u64, values: impl IntoIterator<Item = f64>) {
        assert!(va % 4 == 0, "{va:#x} is misaligned");
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        self.write(va, bytemuck::cast_slice(&values));
    }

    /// Executes the commands of a job.
    pub fn run(&mut self, mut commands: &[u8]) {
        while !commands.is_empty() {
            let units = u16::from_le_bytes([commands[2], commands[3]]);
            let (command, rest) = commands.split_at(usize::from(units) * 8);
            commands = rest;
            let opcode = u16::from_le_bytes([command[0], command[1]]);
            let flags = u32::from_le_bytes(command[4..8].try_into().unwrap());
            let mut fields = Fields(&command[8..]);
            self.execute(opcode, flags, &mut fields);
            fields.end();
        }
    }

    fn execute(&mut self, opcode: u16, flags: u32, f: &mut Fields<'_>) {
        if opcode != 0x10 {
            assert_eq!(flags, 0, "flags of {opcode:#x}");
        }
        match opcode {
            0x02 => {
                let (dst, src, size) = (f.u64(), f.u64(), f.u64());
                let bytes = self.memory[self.range(src, size as usize)].to_vec();
                self.write(dst, &bytes);
            }
            0x05 => {
                self.time += 1000;
                self.write(f.u64(), &self.time.to_le_bytes());
            }
            0x10 => self.gemm(flags, f),
            0x11 => {
                let (y, x, bias, rows, cols) = (f.u64(), f.u64(), f.u64(), f.size(), f.size());
                let (x, bias) = (self.floats(x, rows * cols), self.floats(bias, cols));
                self.store(y, x.iter().enumerate().map(|(i, x)| x + bias[i % cols]));
            }
            0x12 => {
                let (y, x, count) = (f.u64(), f.u64(), f.u64() as usize);
                let x = self.floats(x, count);
                let gelu = |x: &f64| x * 0.5 * (1.0 + libm::erf(x / 2f64.sqrt()));
                self.store(y, x.iter().map(gelu));
            }
            0x14 => self.layer_norm(f),
            0x15 => {
                let (y, table, index) = (f.u64(), f.u64(), f.u64());
                let (count, cols, rows) = (f.size(), f.size(), f.size());
                for (i, index) in self.read::<u32>(index, count).into_iter().enumerate() {
                    assert!((index as usize) < rows, "index {index} of {rows}");
                    let row = self.floats(table + (index as usize * cols * 4) as u64, cols);
                    self.store(y + (i * cols * 4) as u64, row);
                }
            }
            0x16 => self.attention(f),
            0x17 => {
                let (y, a, b, count) = (f.u64(), f.u64(), f.u64(), f.u64() as usize);
                let (a, b) = (self.floats(a, count), self.floats(b, count));
                self.store(y, a.iter().zip(&b).map(|(a, b)| a + b));
            }
            0x18 => self.mean_pool(f),
            0x19 => {
                let (y, x, rows, cols) = (f.u64(), f.u64(), f.size(), f.size());
                let x = self.floats(x, rows * cols);
                let rows = x.chunks_exact(cols);
                let lengths = rows.map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt());
                let lengths: Vec<f64> = lengths.map(|length| length.max(1e-12)).collect();
                self.store(y, x.iter().enumerate().map(|(i, x)| x / lengths[i / cols]));
            }
            other => panic!("opcode {other:#x} is not expected here"),
        }
    }

    fn gemm(&mut self, flags: u32, f: &mut Fields<'_>) {
        let (c, a, b) = (f.u64(), f.u64(), f.u64());
        let (m, n, k) = (f.size(), f.size(), f.size());
        assert_eq!([f.u32(), f.u32(), f.u32(), f.u32()], [0; 4], "ld and type");
        let (alpha, beta) = (f.f32(), f.f32());
        assert_eq!(
            (flags, alpha, beta),
            (2, 1.0, 0.0),
            "only x * transpose(w) is here"
        );
        let (a, b) = (self.floats(a, m * k), self.floats(b, n * k));
        let element = |i: usize| {
            let (row, column) = (i / n, i % n);
            (0..k).map(|l| a[row * k + l] * b[column * k + l]).sum()
        };
        let result: Vec<f64> = (0..m * n).map(element).collect();
        self.store(c, result);
    }

    fn layer_norm(&mut self, f: &mut Fields<'_>) {
        let (y, x, gamma, beta) = (f.u64(), f.u64(), f.u64(), f.u64());
        let (rows, cols, eps) = (f.size(), f.size(), f64::from(f.f32()));
        let (gamma, beta) = (self.floats(gamma, cols), self.floats(beta, cols));
        let mut x = self.floats(x, rows * cols);
        for row in x.chunks_exact_mut(cols) {
            let mean = row.iter().sum::<f64>() / cols as f64;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / cols as f64;
            for (i, x) in row.iter_mut().enumerate() {
                *x = (*x - mean) / (variance + eps).sqrt() * gamma[i] + beta[i];
            }
        }
        self.store(y, x);
    }

    fn attention(&mut self, f: &mut Fields<'_>) {
        let [out, q, k, v, mask] = [(); 5].map(|()| f.u64());
        let [batch, seq, heads, dim, ld] = [(); 5].map(|()| f.size());
        let (scale, cols) = (f64::from(f.f32()), heads * dim);
        assert_eq!(ld, 0);
        let [q, k, v] = [q, k, v].map(|va| self.floats(va, batch * seq * cols));
        let mask = self.floats(mask, batch * seq);
        let mut result = vec![0.0; batch * seq * cols];
        for (row, head) in (0..batch * seq).flat_map(|row| (0..heads).map(move |h| (row, h))) {
            let first = row / seq * seq;
            let at = |row: usize, i: usize| row * cols + head * dim + i;
            let mut weights: Vec<f64> = (first..first + seq)
                .map(|key| {
                    let score: f64 = (0..dim).map(|i| q[at(row, i)] * k[at(key, i)]).sum();
                    if mask[key] == 0.0 {
                        0.0
                    } else {
                        (score * scale).exp()
                    }
                })
                .collect();
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
            for i in 0..dim {
                let parts = weights.iter().enumerate();
                result[at(row, i)] = parts.map(|(key, w)| w * v[at(first + key, i)]).sum();
            }
        }
        self.store(out, result);
    }

    fn mean_pool(&mut self, f: &mut Fields<'_>) {
        let (y, x, mask) = (f.u64(), f.u64(), f.u64());
        let (batch, seq, cols) = (f.size(), f.size(), f.size());
        let (x, mask) = (
            self.floats(x, batch * seq * cols),
            self.floats(mask, batch * seq),
        );
        let mut result = vec![0.0; batch * cols];
        for b in 0..batch {
            let tokens: Vec<usize> = (b * seq..(b + 1) * seq)
                .filter(|row| mask[*row] != 0.0)
                .collect();
            for row in &tokens {
                for i in 0..cols {
                    result[b * cols + i] += x[row * cols + i] / tokens.len() as f64;
                }
            }
        }
        self.store(y, result);
    }
}
