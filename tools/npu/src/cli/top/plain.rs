// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! One look as plain text, for scripts.

use std::fmt::Write as _;

use super::rates::{Column, MIB, View};

/// Two lines on the device, and a table of the processes.
pub fn text(title: &str, view: &View) -> String {
    let (device, rates) = (&view.device, &view.rates);
    let policy = device.policy.as_deref().unwrap_or("unknown");
    let dropped = rates.dropped.map_or("-".into(), |mib| format!("{mib:.1}"));
    let mut text = format!(
        "{title}: {:.1} of {:.1} MiB used, policy {policy}\n\
         faults/s {:.0}, MiB/s to device {:.1}, to host {:.1}, dropped {dropped}, refaults/s {:.0}\n",
        device.used as f64 / MIB,
        device.total as f64 / MIB,
        rates.faults,
        rates.to_device,
        rates.to_host,
        rates.refaults,
    );
    write!(text, "{:>7} {:<15}", "PID", "COMMAND").expect("text grows");
    for column in Column::NUMBERS {
        write!(text, " {:>10}", column.title()).expect("text grows");
    }
    for process in &view.processes {
        write!(text, "\n{:>7} {:<15}", process.pid, process.command).expect("text grows");
        for column in Column::NUMBERS {
            write!(text, " {:>10.1}", column.value(process)).expect("text grows");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::rates::{Figures, Process};
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let view = View {
            device: Figures {
                total: 8 << 20,
                used: 6 << 20,
                ..Default::default()
            },
            processes: vec![Process {
                pid: 42,
                command: "npu".into(),
                device: 5.25,
                evicted: 1234.56,
                ..Default::default()
            }],
            ..Default::default()
        };
        let expected = "\
/dev/accel/accel0: 6.0 of 8.0 MiB used, policy unknown
faults/s 0, MiB/s to device 0.0, to host 0.0, dropped -, refaults/s 0
    PID COMMAND         DEVICE MiB   HOST MiB   FAULTS/s   IN MiB/s  EVICTED/s REFAULTS/s
     42 npu                    5.2        0.0        0.0        0.0     1234.6        0.0";
        assert_eq!(text("/dev/accel/accel0", &view), expected);
    }
}
