// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `npu top`: who has memory on the device, and what moves.
//!
//! [`fdinfo`] finds who has the device open, [`rates`] compares two looks, [`screen`] and [`plain`] show that.

mod fdinfo;
mod plain;
mod rates;
mod screen;

use std::fs;
use std::io::{IsTerminal as _, stdout};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use npu::Device;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use self::rates::{Column, Figures, Sample, View};
use self::screen::Screen;
use super::{Result, say};
use crate::workload::figures;

/// The policies there are, in the order in which they are tried.
const POLICIES: [&str; 4] = ["lirs", "lru", "uvm", "gmem"];

/// What `npu top` takes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Keys: q quits, s sorts by another column, p changes the eviction policy (as root).

What a process has and does is from the fdinfo of its open files, and so are all faults; other users' are \
for root. What is copied is counted by the hardware; what was dropped (evicted without a copy, since the host \
still had it) and the policy are from debugfs. IN is what was copied to the device for a process, EVICTED \
what the evictor took from it, in MiB a second; REFAULTS are blocks that came back after that.")]
pub struct Args {
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,

    /// Print a table after one interval, and end; so it is if the output is no terminal.
    #[arg(long)]
    once: bool,
}

/// Shows the device and its users.
pub fn run(args: &Args, device: &Device) -> Result {
    let source = Source::new(device)?;
    let title = device.path().display().to_string();
    if args.once || !stdout().is_terminal() {
        let before = source.look()?;
        let start = Instant::now();
        thread::sleep(args.interval);
        let now = source.look()?;
        let mut view = View::between(&before, &now, start.elapsed().as_secs_f64());
        view.sort(Column::default());
        return say(plain::text(&title, &view));
    }
    let screen = Screen {
        title,
        ..Default::default()
    };
    let mut terminal = ratatui::try_init()?;
    let result = live(&mut terminal, screen, &source, args.interval);
    ratatui::restore();
    result
}

/// Shows one look after the other until a key ends it.
fn live(
    terminal: &mut DefaultTerminal,
    mut screen: Screen,
    source: &Source,
    interval: Duration,
) -> Result {
    let mut before = source.look()?;
    let mut start = Instant::now();
    screen.view = View::between(&before, &before, 1.0);
    screen.may_change = source.may_change();
    loop {
        screen.view.sort(screen.column);
        terminal.draw(|frame| screen.draw(frame))?;
        if event::poll(interval.saturating_sub(start.elapsed()))? {
            match event::read()? {
                Event::Key(key) if is_end(&key) => return Ok(()),
                Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                    KeyCode::Char('s') => screen.column = screen.column.next(),
                    KeyCode::Char('p') if screen.may_change => {
                        let old = screen.view.device.policy.as_deref();
                        let changed = source.set_policy(next_policy(old));
                        screen.message = changed.err().map(|error| error.to_string());
                        screen.view.device.policy = source.policy();
                    }
                    _ => (),
                },
                _ => (),
            }
            continue;
        }
        let now = source.look()?;
        screen.view = View::between(&before, &now, start.elapsed().as_secs_f64());
        screen.history.push(screen.view.rates);
        (before, start) = (now, Instant::now());
    }
}

fn is_end(key: &KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
        || (control && key.code == KeyCode::Char('c'))
}

/// The policy after another one.
fn next_policy(policy: Option<&str>) -> &'static str {
    let at = POLICIES.iter().position(|known| Some(*known) == policy);
    POLICIES[at.map_or(0, |at| (at + 1) % POLICIES.len())]
}

/// Where all is read.
struct Source<'a> {
    device: &'a Device,
    /// The device file's number.
    number: u64,
    debugfs: Option<PathBuf>,
}

impl<'a> Source<'a> {
    fn new(device: &'a Device) -> Result<Self> {
        Ok(Self {
            device,
            number: fs::metadata(device.path())?.rdev(),
            debugfs: figures::directory(device),
        })
    }

    /// What there is now.
    fn look(&self) -> Result<Sample> {
        let is_device = |fd: &Path| fs::metadata(fd).is_ok_and(|file| file.rdev() == self.number);
        let mut found = fdinfo::scan(Path::new("/proc"), is_device);
        // Not ourselves.
        found.clients.retain(|c| c.pid != std::process::id());
        let (info, counters) = (self.device.info()?, self.device.counters()?);
        let counts = self
            .read("memory")
            .map_or(Vec::new(), |t| figures::parse(&t));
        let count = |name| Some(counts.iter().find(|(known, _)| known == name)?.1);
        Ok(Sample {
            device: Figures {
                total: info.mem_total,
                used: info.mem_total.saturating_sub(info.mem_free),
                to_device: counters.bytes_to_device,
                to_host: counters.bytes_to_host,
                dropped: count("dropped"),
                refaults: count("refaults"),
                policy: self.policy(),
            },
            clients: found.clients,
            partial: found.partial,
        })
    }

    /// The text of a file in debugfs, if it can be read.
    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.debugfs.as_ref()?.join(name)).ok()
    }

    fn policy(&self) -> Option<String> {
        Some(self.read("evict_policy")?.trim().into())
    }

    /// Whether the policy can be changed: without write access the file can't be opened.
    fn may_change(&self) -> bool {
        let path = self.debugfs.as_ref().map(|d| d.join("evict_policy"));
        path.is_some_and(|path| fs::OpenOptions::new().write(true).open(path).is_ok())
    }

    fn set_policy(&self, name: &str) -> std::io::Result<()> {
        match &self.debugfs {
            Some(directory) => fs::write(directory.join("evict_policy"), name),
            None => Ok(()),
        }
    }
}

/// Seconds on the command line.
fn interval(text: &str) -> std::result::Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number of seconds from 0.1 to 3600".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_seconds() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for text in ["", "0", "-1", "nan", "1e9", "1s"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn policies_go_round() {
        let mut policy = next_policy(None);
        for expected in POLICIES {
            assert_eq!(policy, expected);
            policy = next_policy(Some(policy));
        }
        assert_eq!(policy, POLICIES[0]);
        assert_eq!(next_policy(Some("other")), POLICIES[0]);
    }

    #[test]
    fn keys_end_it() {
        let key = |code, modifiers| is_end(&KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
    }
}
