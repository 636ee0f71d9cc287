// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What a trace tells over time.

use super::event::Event;

/// What a VM has on the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vm {
    /// As in the trace.
    pub number: u64,
    /// The task that it belongs to, if it began within the trace.
    pub task: Option<String>,
    /// From which time on it had how many bytes there.
    pub resident: Vec<(u64, u64)>,
}

/// Bytes that moved, each time with the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Copied to the device.
    pub to_device: Vec<(u64, u64)>,
    /// Made on the device.
    pub made: Vec<(u64, u64)>,
    /// Copied to the host.
    pub to_host: Vec<(u64, u64)>,
    /// Back in the host, but not copied.
    pub dropped: Vec<(u64, u64)>,
}

/// All that is drawn. Times are in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The first event and the last one.
    pub time: (u64, u64),
    /// VMs that ever had something on the device, in the order in which they had.
    pub vms: Vec<Vm>,
    /// What moved.
    pub moves: Moves,
    /// When faults were served.
    pub faults: Vec<u64>,
    /// When chunks were evicted.
    pub evictions: Vec<u64>,
    /// Bytes of device memory.
    pub memory: Option<u64>,
    /// The command that was traced.
    pub command: Option<String>,
    /// Events that are missing.
    pub lost: u64,
}

impl History {
    /// Reads a trace.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut history = Self::default();
        let mut vms: Vec<Vm> = Vec::new();
        let (mut lost, mut first) = (0, None::<u64>);
        for (i, line) in text.lines().enumerate() {
            if let Some(comment) = line.strip_prefix('#') {
                history.comment(comment.trim());
                continue;
            }
            lost += lost_before(line);
            let Some(event) = Event::of_line(line) else {
                continue;
            };
            first = Some(first.map_or(event.time, |first| first.min(event.time)));
            history.time.1 = history.time.1.max(event.time);
            history
                .add(&mut vms, &event)
                .map_err(|error| format!("line {}: {error}", i + 1))?;
        }
        history.lost = history.lost.max(lost);
        history.time.0 = first.ok_or("no events of gmem_vm in it")?;
        // Of one CPU they come in order, and of all nearly so.
        for vm in &mut vms {
            vm.resident.sort_by_key(|(time, _)| *time);
        }
        vms.retain(|vm| vm.resident.iter().any(|(_, bytes)| *bytes > 0));
        history.vms = vms;
        Ok(history)
    }

    /// What `npu trace` says besides events.
    fn comment(&mut self, text: &str) {
        if let Some(command) = text.strip_prefix("npu trace: ") {
            self.command = Some(command.to_string());
        } else if let Some(memory) = text.strip_prefix("memory=") {
            self.memory = memory.parse().ok();
        } else if let Some(lost) = text.strip_prefix("lost=") {
            self.lost = lost.parse().unwrap_or(0);
        }
    }

    fn add(&mut self, vms: &mut Vec<Vm>, event: &Event<'_>) -> Result<(), String> {
        let time = event.time;
        let moved = |all: &mut Vec<(u64, u64)>, key| -> Result<(), String> {
            let bytes = event.number(key)?;
            if bytes > 0 {
                all.push((time, bytes));
            }
            Ok(())
        };
        match event.name {
            "attach" => vm_of(vms, event)?.task = Some(event.task.to_string()),
            "resident" | "invalidate" => {
                let bytes = event.number("resident")?;
                vm_of(vms, event)?.resident.push((time, bytes));
            }
            "fault" => self.faults.push(time),
            "evict" if event.number("pages")? > 0 => self.evictions.push(time),
            "to_device" => {
                moved(&mut self.moves.to_device, "copied")?;
                moved(&mut self.moves.made, "made")?;
            }
            "to_host" => {
                moved(&mut self.moves.to_host, "copied")?;
                moved(&mut self.moves.dropped, "dropped")?;
            }
            _ => (),
        }
        Ok(())
    }

    /// What a VM had on the device on average in each of so many parts of the time, in bytes. Before it is told, it is
    /// taken to have had nothing.
    pub fn averages(&self, vm: &Vm, parts: usize) -> Vec<f64> {
        let (start, end) = self.time;
        let width = ((end - start).max(1)) as f64 / parts as f64;
        let mut sums = vec![0.0; parts];
        let ends = vm.resident.iter().skip(1).map(|(time, _)| *time);
        for ((from, bytes), to) in vm.resident.iter().zip(ends.chain([end])) {
            // In parts, from the first one.
            let (from, to) = (
                (from - start) as f64 / width,
                (to.max(*from) - start) as f64 / width,
            );
            let last = (to.ceil() as usize).min(parts);
            for (i, sum) in sums.iter_mut().enumerate().take(last).skip(from as usize) {
                let overlap = to.min((i + 1) as f64) - from.max(i as f64);
                *sum += overlap.max(0.0) * *bytes as f64;
            }
        }
        sums
    }

    /// The sum of what moved in each of so many parts of the time.
    pub fn sums(&self, moves: &[(u64, u64)], parts: usize) -> Vec<u64> {
        let mut sums = vec![0; parts];
        for (time, bytes) in moves {
            sums[self.part(*time, parts)] += bytes;
        }
        sums
    }

    /// How many events there were in each of so many parts of the time.
    pub fn counts(&self, times: &[u64], parts: usize) -> Vec<u64> {
        let mut counts = vec![0; parts];
        for time in times {
            counts[self.part(*time, parts)] += 1;
        }
        counts
    }

    /// The part in which a time lies.
    fn part(&self, time: u64, parts: usize) -> usize {
        let (start, end) = self.time;
        let length = u128::from((end - start).max(1));
        let at = u128::from(time.saturating_sub(start)) * parts as u128 / length;
        (at as usize).min(parts - 1)
    }

    /// Seconds that it takes.
    pub fn seconds(&self) -> f64 {
        (self.time.1 - self.time.0).max(1) as f64 / 1e6
    }
}

/// The VM of an event.
fn vm_of<'v>(vms: &'v mut Vec<Vm>, event: &Event<'_>) -> Result<&'v mut Vm, String> {
    let number = event.number("vm")?;
    let at = vms.iter().position(|vm| vm.number == number);
    let at = at.unwrap_or_else(|| {
        vms.push(Vm {
            number,
            ..Default::default()
        });
        vms.len() - 1
    });
    Ok(&mut vms[at])
}

/// How many events are missing before what comes next, as `trace_pipe` says.
fn lost_before(line: &str) -> u64 {
    let count = line.split_once("[LOST ").map(|(_, rest)| rest);
    let count = count.and_then(|rest| rest.strip_suffix(" EVENTS]"));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two VMs: the first one has 1 MiB for a second, then 2 MiB for a second, of which half go; the second one has
    /// half a MiB in the last second, and was there before the trace.
    pub const TRACE: &str = "\
# npu trace: npu workload cyclic
# memory=4194304
             npu-80      [001] .....    10.000000: gmem_vm_attach: vm=7
 kworker/u9:0-24         [000] .....    10.000000: gmem_vm_resident: vm=7 resident=1048576 mirrored=1052672
 kworker/u9:0-24         [000] .....    10.000000: gmem_vm_to_device: vm=7 cpu=0x1000-0x101000 copied=1044480 made=4096 why=fault
 kworker/u9:0-24         [000] .....    10.000001: gmem_vm_fault: vm=7 va=0x1000 read moved=1048576 wait=1 took=2 error=0
             npu-80      [001] .....    10.500000: gmem_vm_map: range=0x0-0x1000 host address=0x0 rw-
CPU:1 [LOST 5 EVENTS]
 kworker/u9:0-24         [000] .....    11.000000: gmem_vm_resident: vm=7 resident=2097152 mirrored=2101248
 kworker/u9:0-24         [000] .....    12.000000: gmem_vm_to_host: vm=0 local=0x0-0x100000 copied=4096 dropped=1044480 why=evict
 kworker/u9:0-24         [000] .....    12.000000: gmem_vm_invalidate: vm=7 cpu=0x1000-0x101000 taken=1048576 cause=change resident=1048576 mirrored=1052672
 kworker/u9:0-24         [000] .....    12.000000: gmem_vm_evict: vm=7 va=0x1000 homes=1 chunk=0 local=0x0-0x100000 pages=256 policy=lirs for=process error=0
 kworker/u9:0-24         [000] .....    12.500000: gmem_vm_evict: vm=7 va=0x1000 homes=1 chunk=1 local=0x0-0x100000 pages=0 policy=lirs for=process error=-16
             two-90      [001] .....    13.000000: gmem_vm_resident: vm=3 resident=524288 mirrored=524288
             two-90      [001] .....    14.000000: gmem_vm_resident: vm=9 resident=0 mirrored=4096
# lost=3
";

    #[test]
    fn a_trace_has_residency() {
        let history = History::read(TRACE).unwrap();
        assert_eq!(history.time, (10_000_000, 14_000_000));
        assert_eq!(history.vms.len(), 2);
        let (a, b) = (&history.vms[0], &history.vms[1]);
        assert_eq!((a.number, a.task.as_deref()), (7, Some("npu-80")));
        assert_eq!((b.number, b.task.as_deref()), (3, None));
        let mib = 1 << 20;
        let expected = [(10_000_000, mib), (11_000_000, 2 * mib), (12_000_000, mib)];
        assert_eq!(a.resident, expected);
        assert_eq!(b.resident, [(13_000_000, mib / 2)]);
        assert_eq!(history.memory, Some(4 << 20));
        assert_eq!(history.command.as_deref(), Some("npu workload cyclic"));
        assert_eq!(history.lost, 5);
    }

    #[test]
    fn a_trace_has_moves_and_marks() {
        let history = History::read(TRACE).unwrap();
        let moves = &history.moves;
        assert_eq!(moves.to_device, [(10_000_000, 1_044_480)]);
        assert_eq!(moves.made, [(10_000_000, 4096)]);
        assert_eq!(moves.to_host, [(12_000_000, 4096)]);
        assert_eq!(moves.dropped, [(12_000_000, 1_044_480)]);
        assert_eq!(history.faults, [10_000_001]);
        // What could not be evicted is none.
        assert_eq!(history.evictions, [12_000_000]);
    }

    #[test]
    fn averages_are_by_time() {
        let history = History::read(TRACE).unwrap();
        let mib = f64::from(1 << 20);
        let averages = |vm: usize, parts| -> Vec<f64> {
            let bytes = history.averages(&history.vms[vm], parts);
            bytes.iter().map(|bytes| bytes / mib).collect()
        };
        assert_eq!(averages(0, 4), [1.0, 2.0, 1.0, 1.0]);
        assert_eq!(averages(1, 4), [0.0, 0.0, 0.0, 0.5]);
        assert_eq!(averages(0, 2), [1.5, 1.0]);
        assert_eq!(averages(0, 1), [1.25]);
        let eight = averages(0, 8);
        assert_eq!(eight, [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn sums_and_counts_lose_nothing() {
        let history = History::read(TRACE).unwrap();
        assert_eq!(
            history.sums(&history.moves.dropped, 4),
            [0, 0, 1_044_480, 0]
        );
        // The end belongs to the last part.
        assert_eq!(
            history.counts(&[10_000_000, 11_999_999, 14_000_000], 2),
            [2, 1]
        );
        assert_eq!(history.seconds(), 4.0);
    }

    #[test]
    fn what_is_no_trace_is_told() {
        assert!(History::read("").is_err());
        assert!(History::read("hello\n").is_err());
        let line = " x-1 [000] ..... 1.000000: gmem_vm_resident: vm=1 resident=many mirrored=0\n";
        let error = History::read(&format!("#\n{line}")).unwrap_err();
        assert!(error.starts_with("line 2: no number resident"), "{error}");
        let one = " x-1 [000] ..... 1.000000: gmem_vm_resident: vm=1 resident=4096 mirrored=0\n";
        let history = History::read(one).unwrap();
        assert_eq!(history.averages(&history.vms[0], 3), [0.0; 3]);
    }
}
