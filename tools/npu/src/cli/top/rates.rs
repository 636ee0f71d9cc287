// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What two looks at the device tell: what there is, and what moved in between.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use super::fdinfo::{Client, Counts};

/// One mebibyte.
pub const MIB: f64 = 1048576.0;

/// How many rates are remembered.
const REMEMBERED: usize = 256;

/// What the device has and has done. Memory is in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Its memory.
    pub total: u64,
    /// What of that is in use.
    pub used: u64,
    /// What was copied to it.
    pub to_device: u64,
    /// What was copied back.
    pub to_host: u64,
    /// What was evicted and not copied. `None` without debugfs, as what follows.
    pub dropped: Option<u64>,
    /// Blocks that came back after they had been evicted.
    pub refaults: Option<u64>,
    /// The policy that decides what is evicted.
    pub policy: Option<String>,
}

/// A look at the device and all who have it open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The device.
    pub device: Figures,
    /// Who has it open.
    pub clients: Vec<Client>,
    /// And there may be others.
    pub partial: bool,
}

/// What the device does in a second. Memory is in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Faults.
    pub faults: f64,
    /// Copied to it.
    pub to_device: f64,
    /// Copied back.
    pub to_host: f64,
    /// Evicted and not copied.
    pub dropped: Option<f64>,
    /// Blocks that came back.
    pub refaults: f64,
}

/// What a process has, and what it does in a second. Memory is in MiB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// Memory on the device.
    pub device: f64,
    /// Memory in the host that the device has mapped.
    pub host: f64,
    /// Faults.
    pub faults: f64,
    /// Copied to the device.
    pub to_device: f64,
    /// Evicted.
    pub evicted: f64,
    /// Blocks that came back.
    pub refaults: f64,
}

/// What there is to see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The device.
    pub device: Figures,
    /// What it does.
    pub rates: Rates,
    /// All processes.
    pub processes: Vec<Process>,
    /// And there may be others.
    pub partial: bool,
}

impl View {
    /// What happened between two looks, so many seconds apart. Who was not there before has done all of it since.
    pub fn between(before: &Sample, now: &Sample, seconds: f64) -> Self {
        let seconds = seconds.max(1e-3);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let mut processes = BTreeMap::<u32, Process>::new();
        for client in &now.clients {
            let old = before.clients.iter().find(|old| old.id == client.id);
            let old = old.map_or(Counts::default(), |old| old.counts);
            let new = &client.counts;
            let process = processes.entry(client.pid).or_default();
            process.pid = client.pid;
            process.command.clone_from(&client.command);
            process.device += new.resident as f64 / MIB;
            process.host += new.mirrored.saturating_sub(new.resident) as f64 / MIB;
            process.faults += rate(new.faults, old.faults);
            process.to_device += rate(new.to_device, old.to_device) / MIB;
            process.evicted += rate(new.evicted, old.evicted) / MIB;
            process.refaults += rate(new.refaults, old.refaults);
        }
        let processes: Vec<Process> = processes.into_values().collect();
        let (device, old) = (&now.device, &before.device);
        // (The sum of no numbers is -0.)
        let sum = |value: fn(&Process) -> f64| processes.iter().map(value).fold(0.0, |a, b| a + b);
        let between = |now: Option<u64>, then: Option<u64>| Some(rate(now?, then?));
        let refaults = between(device.refaults, old.refaults);
        let rates = Rates {
            faults: sum(|p| p.faults),
            to_device: rate(device.to_device, old.to_device) / MIB,
            to_host: rate(device.to_host, old.to_host) / MIB,
            dropped: between(device.dropped, old.dropped).map(|bytes| bytes / MIB),
            refaults: refaults.unwrap_or_else(|| sum(|p| p.refaults)),
        };
        Self {
            device: device.clone(),
            rates,
            processes,
            partial: now.partial,
        }
    }

    /// Sorts the processes by a column: the most first, names and numbers from the least.
    pub fn sort(&mut self, by: Column) {
        self.processes.sort_by(|a, b| {
            let order = match by {
                Column::Pid => Ordering::Equal,
                Column::Command => a.command.cmp(&b.command),
                _ => by.value(b).total_cmp(&by.value(a)),
            };
            order.then(a.pid.cmp(&b.pid))
        });
    }
}

/// Columns of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Column {
    /// The process's number.
    Pid,
    /// Its name.
    Command,
    /// Memory on the device.
    #[default]
    Device,
    /// Memory in the host that the device has mapped.
    Host,
    /// Faults a second.
    Faults,
    /// MiB a second to the device.
    ToDevice,
    /// MiB a second evicted.
    Evicted,
    /// Blocks a second that came back.
    Refaults,
}

impl Column {
    /// Those with numbers, in order.
    pub const NUMBERS: [Self; 6] = [
        Self::Device,
        Self::Host,
        Self::Faults,
        Self::ToDevice,
        Self::Evicted,
        Self::Refaults,
    ];

    /// What stands above it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Pid => "PID",
            Self::Command => "COMMAND",
            Self::Device => "DEVICE MiB",
            Self::Host => "HOST MiB",
            Self::Faults => "FAULTS/s",
            Self::ToDevice => "IN MiB/s",
            Self::Evicted => "EVICTED/s",
            Self::Refaults => "REFAULTS/s",
        }
    }

    /// The same in six letters.
    pub fn short_title(self) -> &'static str {
        match self {
            Self::Pid | Self::Command => self.title(),
            Self::Device => "DEVICE",
            Self::Host => "HOST",
            Self::Faults => "FAULTS",
            Self::ToDevice => "IN",
            Self::Evicted => "EVICT",
            Self::Refaults => "REFLT",
        }
    }

    /// The next one.
    pub fn next(self) -> Self {
        match self {
            Self::Pid => Self::Command,
            Self::Command => Self::Device,
            Self::Device => Self::Host,
            Self::Host => Self::Faults,
            Self::Faults => Self::ToDevice,
            Self::ToDevice => Self::Evicted,
            Self::Evicted => Self::Refaults,
            Self::Refaults => Self::Pid,
        }
    }

    /// What a process has there; nothing for its name.
    pub fn value(self, process: &Process) -> f64 {
        match self {
            Self::Pid => f64::from(process.pid),
            Self::Command => 0.0,
            Self::Device => process.device,
            Self::Host => process.host,
            Self::Faults => process.faults,
            Self::ToDevice => process.to_device,
            Self::Evicted => process.evicted,
            Self::Refaults => process.refaults,
        }
    }
}

/// The last rates.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<Rates>);

impl History {
    /// Adds the newest.
    pub fn push(&mut self, rates: Rates) {
        self.0.truncate(REMEMBERED - 1);
        self.0.push_front(rates);
    }

    /// One of them over time, the newest first.
    pub fn of(&self, value: impl Fn(&Rates) -> f64) -> Vec<f64> {
        self.0.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u64, pid: u32, n: u64) -> Client {
        Client {
            id,
            pid,
            command: format!("job{pid}"),
            counts: Counts {
                resident: n << 20,
                mirrored: (3 * n) << 20,
                faults: 10 * n,
                to_device: n << 20,
                evicted: n << 19,
                refaults: n,
            },
        }
    }

    fn figures(n: u64, debugfs: Option<u64>) -> Figures {
        Figures {
            to_device: n << 20,
            to_host: n << 19,
            dropped: debugfs.map(|n| n << 20),
            refaults: debugfs,
            ..Default::default()
        }
    }

    #[test]
    fn rates_come_from_two_looks() {
        let before = Sample {
            device: figures(10, Some(5)),
            clients: vec![client(1, 50, 4), client(2, 50, 1), client(4, 60, 9)],
            partial: false,
        };
        let now = Sample {
            device: figures(14, Some(6)),
            clients: vec![client(1, 50, 6), client(2, 50, 3), client(3, 40, 2)],
            partial: true,
        };
        let view = View::between(&before, &now, 2.0);
        assert!(view.partial);
        // What a process has open counts in sum; who came since, all of it.
        let [young, old] = &view.processes[..] else {
            panic!("{view:?}");
        };
        assert_eq!((old.pid, old.device, old.host), (50, 9.0, 18.0));
        assert_eq!((old.faults, old.to_device), (20.0, 2.0));
        assert_eq!((old.evicted, old.refaults), (1.0, 2.0));
        assert_eq!((young.pid, young.faults, young.to_device), (40, 10.0, 1.0));
        let rates = Rates {
            faults: 30.0,
            to_device: 2.0,
            to_host: 1.0,
            dropped: Some(0.5),
            refaults: 0.5,
        };
        assert_eq!(view.rates, rates);
    }

    #[test]
    fn what_is_unknown_is_not_made_up() {
        let before = Sample {
            device: figures(10, None),
            clients: vec![client(1, 50, 4)],
            partial: false,
        };
        let mut now = before.clone();
        now.clients[0].counts.refaults += 3;
        // Of a device that was reset.
        now.device.to_device = 0;
        let view = View::between(&before, &now, 1.0);
        assert_eq!((view.rates.dropped, view.rates.refaults), (None, 3.0));
        assert_eq!(view.rates.to_device, 0.0);
        let nobody = Sample::default();
        let rates = View::between(&nobody, &nobody, 1.0).rates;
        assert!(rates.faults.is_sign_positive() && rates.refaults.is_sign_positive());
    }

    #[test]
    fn each_column_sorts() {
        let now = Sample {
            clients: vec![client(1, 50, 4), client(2, 70, 6), client(3, 60, 4)],
            ..Default::default()
        };
        let mut view = View::between(&Sample::default(), &now, 1.0);
        let mut column = Column::default();
        for _ in 0..8 {
            view.sort(column);
            let pids: Vec<u32> = view.processes.iter().map(|p| p.pid).collect();
            let expected = match column {
                Column::Pid | Column::Command => [50, 60, 70],
                _ => [70, 50, 60],
            };
            assert_eq!(pids, expected, "{column:?}");
            column = column.next();
        }
        assert_eq!(column, Column::default());
    }

    #[test]
    fn not_too_much_is_remembered() {
        let mut history = History::default();
        for i in 0..1000 {
            history.push(Rates {
                faults: f64::from(i),
                ..Default::default()
            });
        }
        let faults = history.of(|rates| rates.faults);
        assert_eq!(
            (faults.len(), faults[0], faults[1]),
            (REMEMBERED, 999.0, 998.0)
        );
    }
}
