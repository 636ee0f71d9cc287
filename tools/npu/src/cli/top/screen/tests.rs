// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests of the screen, on a terminal that is only a buffer.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::rates::Figures;
use super::*;

/// The lines of a screen.
fn lines(screen: &Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let cells: Vec<&str> = buffer.content().iter().map(|cell| cell.symbol()).collect();
    let lines = cells.chunks(width.into()).map(|line| line.concat());
    lines.map(|line| line.trim_end().to_string()).collect()
}

fn process(pid: u32, command: &str, device: f64) -> Process {
    Process {
        pid,
        command: command.into(),
        device,
        host: 10.25,
        faults: 123.4,
        to_device: 31.4,
        evicted: 30.0,
        refaults: 0.0,
    }
}

fn screen() -> Screen {
    let rates = |i: u32| {
        let wave = 1.0 + (f64::from(i) / 4.0).sin();
        Rates {
            faults: 200.0 * wave,
            to_device: 40.0 + 10.0 * wave,
            to_host: f64::from(i % 7),
            dropped: Some(30.0 * wave),
            refaults: if i > 30 { 512.0 } else { 0.0 },
        }
    };
    let mut history = History::default();
    (0..40).for_each(|i| history.push(rates(i)));
    Screen {
        title: "/dev/accel/accel0".into(),
        view: View {
            device: Figures {
                total: 8 << 20,
                used: (8 << 20) - (512 << 10),
                policy: Some("lirs".into()),
                ..Default::default()
            },
            rates: rates(39),
            processes: vec![process(812, "npu", 4.5), process(815, "transformer", 2.5)],
            partial: false,
        },
        history,
        column: Column::Device,
        may_change: true,
        message: None,
    }
}

#[test]
fn all_has_its_place() {
    let lines = lines(&screen(), 132, 16);
    // For who wants to look: cargo test -- --nocapture all_has_its_place
    println!("{}", lines.join("\n"));
    assert!(lines[0].starts_with("╭ npu top /dev/accel/accel0 ─"));
    assert!(lines[0].ends_with("─ policy lirs ╮"));
    assert!(lines[1].contains("│ memory  █████"));
    assert!(lines[1].ends_with("7.5 of 8.0 MiB   94 % │"));
    assert!(lines[3].contains("faults/s ") && lines[3].ends_with("refaults/s         512.0 │"));
    assert!(lines[4].contains('█') && lines[6].contains('█'));
    assert!(lines[8].starts_with("╭ 2 processes ─"));
    let titles = "PID  COMMAND          ON DEVICE                 ▾DEVICE MiB     HOST MiB";
    assert!(lines[9].contains(titles), "{}", lines[9]);
    assert!(lines[10].starts_with("│     812  npu              █████"));
    assert!(
        lines[10]
            .ends_with("4.5         10.2        123.4         31.4         30.0          0.0 │")
    );
    assert!(lines[11].contains("815  transformer"));
    assert_eq!(
        lines[15],
        " q quit  s sort by another column  p another policy"
    );
}

#[test]
fn the_residency_is_a_bar() {
    assert_eq!(bar(0.0, 4), "");
    assert_eq!(bar(0.5, 4), "██");
    assert_eq!(bar(0.25, 5), "█▎");
    assert_eq!(bar(0.999, 4), "████");
    assert_eq!(bar(7.0, 4), "████");
    assert_eq!(bar(f64::NAN, 4), "");
}

#[test]
fn numbers_are_short() {
    let numbers = [0.0, 9.96, 999.9, 1234.5, 99_999.0, 123_456.0, 2e9];
    let short = numbers.map(short);
    assert_eq!(
        short,
        ["0.0", "10.0", "999.9", "1234", "99999", "123k", "2000M"]
    );
}

#[test]
fn any_size_will_do() {
    let mut screen = screen();
    for size in [(1, 1), (20, 5), (40, 12), (80, 24), (101, 13), (300, 80)] {
        lines(&screen, size.0, size.1);
    }
    let narrow = lines(&screen, 80, 14);
    println!("{}", narrow.join("\n"));
    let titles = "PID COMMAND   ON DEVICE   ▾DEVICE    HOST  FAULTS      IN   EVICT   REFLT │";
    assert!(narrow[9].ends_with(titles), "{}", narrow[9]);
    assert!(narrow[11].contains("815 transform ███"), "{}", narrow[11]);
    assert!(narrow[3].contains(" in       46.8  out "), "{}", narrow[3]);
    // There is no room for the bar.
    let narrow = lines(&screen, 70, 14);
    let titles = "PID COMMAND   ▾DEVICE    HOST";
    assert!(narrow[9].contains(titles), "{}", narrow[9]);
    // Nor for all processes.
    screen.view.processes = (0..9).map(|i| process(i, "many", 0.5)).collect();
    let full = lines(&screen, 110, 16);
    assert!(full[14].ends_with("─ and 5 more ╯"), "{}", full[14]);
}

#[test]
fn what_is_unknown_is_a_dash() {
    let mut screen = screen();
    screen.view.processes.clear();
    screen.view.partial = true;
    screen.view.rates.dropped = None;
    screen.view.device = Figures::default();
    screen.may_change = false;
    screen.message = Some("no".into());
    let lines = lines(&screen, 110, 14);
    assert!(!lines[0].contains("policy"));
    assert!(lines[1].ends_with("0.0 of 0.0 MiB    0 % │"));
    assert!(lines[3].contains("drop MiB/s        -"), "{}", lines[3]);
    assert!(lines[8].contains("0 processes") && lines[8].contains("other users"));
    assert!(lines[10].contains("nobody uses the device"));
    assert!(lines[13].starts_with(" q quit") && lines[13].ends_with(" no"));
    assert!(!lines[13].contains("policy"));
}
