// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Events, as tracefs prints them.

/// An event of gmem_vm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Microseconds since some time.
    pub time: u64,
    /// What did it: `name-pid`.
    pub task: &'a str,
    /// Without `gmem_vm_`.
    pub name: &'a str,
    fields: &'a str,
}

impl<'a> Event<'a> {
    /// The event of a line, if it is one of gmem_vm.
    pub fn of_line(line: &'a str) -> Option<Self> {
        // "   task-pid   [cpu] flags  seconds.micros: gmem_vm_name: fields"
        let (before, rest) = line.split_once(": gmem_vm_")?;
        let (name, fields) = rest.split_once(": ")?;
        let (before, time) = before.rsplit_once(char::is_whitespace)?;
        // The name of a task may have anything.
        let (task, _) = before.rsplit_once(" [")?;
        Some(Self {
            time: micros(time)?,
            task: task.trim(),
            name,
            fields,
        })
    }

    /// What stands behind `key=`.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let mut words = self.fields.split_whitespace();
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// A number, which must be there.
    pub fn number(&self, key: &str) -> Result<u64, String> {
        let text = self.text(key);
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| format!("no number {key} in event {}: {}", self.name, self.fields))
    }
}

/// Seconds with six decimals as microseconds.
fn micros(text: &str) -> Option<u64> {
    let (seconds, micros) = text.split_once('.')?;
    if micros.len() != 6 {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    seconds
        .checked_mul(1_000_000)?
        .checked_add(micros.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_time_task_and_fields() {
        let line = "    kworker/u9:3-83      [000] .....    27.373024: gmem_vm_invalidate: vm=1 cpu=0x7f-0x80 taken=4096 cause=change";
        let event = Event::of_line(line).unwrap();
        assert_eq!(event.time, 27_373_024);
        assert_eq!((event.task, event.name), ("kworker/u9:3-83", "invalidate"));
        assert_eq!(event.number("vm"), Ok(1));
        assert_eq!(event.number("taken"), Ok(4096));
        assert_eq!(event.text("cause"), Some("change"));
        assert_eq!(event.text("cpu"), Some("0x7f-0x80"));
        // No key is taken for the end of another.
        assert_eq!(event.text("m"), None);
        assert!(event.number("cpu").is_err() && event.number("none").is_err());
    }

    #[test]
    fn tasks_may_have_odd_names() {
        let line =
            "  a [0] b: c-d-12   [001] d..1.   0.000001: gmem_vm_attach: vm=18446744073709551615";
        let event = Event::of_line(line).unwrap();
        assert_eq!((event.task, event.time), ("a [0] b: c-d-12", 1));
        assert_eq!(event.number("vm"), Ok(u64::MAX));
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "# tracer: nop",
            "CPU:1 [LOST 12 EVENTS]",
            "  x-1  [000] .....  1.000000: sched_switch: prev=1",
            "  x-1  [000] .....  1.0: gmem_vm_attach: vm=1",
            "  x-1  1.000000: gmem_vm_attach: vm=1",
            ": gmem_vm_",
            ": gmem_vm_attach: ",
        ] {
            assert_eq!(Event::of_line(line), None, "{line}");
        }
    }
}
