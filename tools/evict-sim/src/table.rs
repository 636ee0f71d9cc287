// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! All workloads and policies, compared by the bytes that they move.

use std::fmt;

use vm_logic::evict::policy::PolicyKind;

use crate::policy::Setup;
use crate::workload::Workload;
use crate::{Access, Cost, belady, simulate};

/// The data, in units of the memory.
pub const RATIOS: [f64; 6] = [0.5, 1.25, 1.5, 2.0, 4.0, 16.0];
/// From here on memory is scarce.
const SCARCE: f64 = 2.0;
/// What the others are compared to.
const PEER: &str = "uvm";

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The last blocks that came, which stay.
    pub kept: Option<u64>,
    /// What was not written is copied back, too, whatever the policy is.
    pub copy_clean: bool,
    /// For what is random.
    pub seed: u64,
}

/// A workload with so much data.
struct Row {
    name: String,
    ratio: f64,
    best: Cost,
    /// In the order of [`PolicyKind::ALL`].
    costs: Vec<Cost>,
}

/// All that was compared.
pub struct Table {
    rows: Vec<Row>,
    block: u64,
}

impl Table {
    /// For a memory of so many blocks of some bytes.
    pub fn new(capacity: u64, block: u64, options: Options) -> Self {
        let mut table = Self {
            rows: Vec::new(),
            block,
        };
        for (workload, name) in Workload::ALL {
            for ratio in RATIOS {
                let blocks = (capacity as f64 * ratio).round() as u64;
                let run = workload.accesses(blocks, options.seed);
                table.add((name, ratio), &run, capacity, options);
            }
        }
        table
    }

    fn add(&mut self, (name, ratio): (&str, f64), run: &[Access], capacity: u64, options: Options) {
        let costs = PolicyKind::ALL.iter().map(|(kind, _)| {
            let setup = Setup::new(*kind, capacity, self.block);
            let setup = setup.but(options.kept, options.copy_clean);
            simulate(run, kind.policy(), setup)
        });
        self.rows.push(Row {
            name: name.to_owned(),
            ratio,
            best: belady(run, capacity),
            costs: costs.collect(),
        });
    }

    /// A policy's bytes in units of the peer's, for each row where the peer moves some.
    fn relative(&self, policy: usize) -> impl Iterator<Item = (&Row, f64)> {
        let peer = PolicyKind::ALL.iter().position(|(_, name)| *name == PEER);
        self.rows.iter().filter_map(move |row| {
            let moved = |policy: usize| row.costs[policy].moved() as f64;
            let of_peer = moved(peer?);
            (of_peer > 0.0).then(|| (row, moved(policy) / of_peer))
        })
    }
}

/// The geometric mean of some, of which there must be one.
fn mean(all: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = all.fold((0.0, 0), |(sum, n), x| (sum + x.ln(), n + 1));
    (sum / f64::from(count)).exp()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12} {:>5} {:>11}", "workload", "ratio", "belady MiB")?;
        for (_, name) in PolicyKind::ALL {
            write!(f, " {name:>8}")?;
        }
        writeln!(f)?;
        for row in &self.rows {
            let best = row.best.moved() as f64;
            let mib = best * self.block as f64 / f64::from(1 << 20);
            write!(f, "{:<12} {:>5} {mib:>11.1}", row.name, row.ratio)?;
            for cost in &row.costs {
                match cost.moved() as f64 / best {
                    ratio if ratio.is_nan() => write!(f, " {:>8}", "-")?,
                    ratio => write!(f, " {ratio:>8.3}")?,
                }
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        write!(f, "{:<30}", "to belady, mean from 2 on")?;
        for policy in 0..PolicyKind::ALL.len() {
            let scarce = self.rows.iter().filter(|row| row.ratio >= SCARCE);
            let ratios = scarce
                .filter(|row| row.best.moved() > 0)
                .map(|row| row.costs[policy].moved() as f64 / row.best.moved() as f64);
            write!(f, " {:>8.3}", mean(ratios))?;
        }
        writeln!(f)?;
        write!(f, "{:<30}", format!("to {PEER}, mean from 2 on"))?;
        for policy in 0..PolicyKind::ALL.len() {
            let ratios = self.relative(policy);
            let scarce = ratios.filter(|(row, _)| row.ratio >= SCARCE);
            write!(f, " {:>8.3}", mean(scarce.map(|(_, ratio)| ratio)))?;
        }
        writeln!(f)?;
        write!(f, "{:<30}", format!("to {PEER}, worst"))?;
        let worst = |policy| {
            let ratios = self.relative(policy);
            ratios.max_by(|(_, a), (_, b)| a.total_cmp(b))
        };
        for policy in 0..PolicyKind::ALL.len() {
            write!(f, " {:>8.3}", worst(policy).map_or(0.0, |(_, ratio)| ratio))?;
        }
        for (policy, (_, name)) in PolicyKind::ALL.iter().enumerate() {
            if let Some((row, ratio)) = worst(policy) {
                let at = (&row.name, row.ratio);
                write!(f, "\nworst of {name}: {ratio:.3} in {} {}", at.0, at.1)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_geometric() {
        assert!((mean([1.0, 4.0].into_iter()) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_table_has_all() {
        let options = Options {
            kept: None,
            copy_clean: false,
            seed: 1,
        };
        let text = Table::new(64, 64 << 10, options).to_string();
        for (_, name) in Workload::ALL {
            let lines = text.lines().filter(|line| line.starts_with(name));
            assert_eq!(lines.count(), RATIOS.len());
        }
        assert!(text.contains("\nto uvm, worst"));
        assert!(!text.contains("inf") && !text.contains("NaN"));
    }
}
