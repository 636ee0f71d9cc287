// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The screen of `npu top`.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Cell, Padding, RenderDirection, Row, Sparkline, Table};

use super::rates::{Column, History, MIB, Process, Rates, View};

/// Lines that the device takes: border, memory, space, titles, curves, border.
const HEADER: u16 = 8;
/// Columns between two of the table, or of the header.
const GAP: u16 = 2;
/// Fewest columns for which a bar is worth while.
const LEAST_BAR: u16 = 6;
/// Behind bars.
const TRACK: Color = Color::Indexed(237);
/// What is not that important.
const QUIET: Color = Color::DarkGray;
/// Borders.
const BORDER: Color = Color::Indexed(240);
/// What is the user's choice.
const ACCENT: Color = Color::Cyan;

/// One of the device's rates.
struct Card {
    /// For much, some and little room.
    names: [&'static str; 3],
    color: Color,
    value: fn(&Rates) -> Option<f64>,
}

const CARDS: [Card; 5] = [
    Card {
        names: ["faults/s", "faults/s", "faults"],
        color: Color::Yellow,
        value: |rates| Some(rates.faults),
    },
    Card {
        names: ["to device MiB/s", "in MiB/s", "in"],
        color: Color::Green,
        value: |rates| Some(rates.to_device),
    },
    Card {
        names: ["to host MiB/s", "out MiB/s", "out"],
        color: Color::Blue,
        value: |rates| Some(rates.to_host),
    },
    Card {
        names: ["dropped MiB/s", "drop MiB/s", "dropped"],
        color: Color::Magenta,
        value: |rates| rates.dropped,
    },
    Card {
        names: ["refaults/s", "refaults/s", "refault"],
        color: Color::Red,
        value: |rates| Some(rates.refaults),
    },
];

/// How wide the table's columns are.
struct Widths {
    pid: u16,
    name: u16,
    number: u16,
    gap: u16,
    bar: u16,
    /// For short titles only.
    short: bool,
}

impl Widths {
    /// In so many columns.
    fn new(room: u16) -> Self {
        let make = |pid, name, number, gap, short| {
            let numbers = Column::NUMBERS.len() as u16;
            let taken = pid + name + numbers * number + (numbers + 2) * gap;
            Self {
                pid,
                name,
                number,
                gap,
                bar: room.saturating_sub(taken),
                short,
            }
        };
        let wide = make(7, 15, 11, GAP, false);
        let widths = match wide.bar {
            ..LEAST_BAR => make(6, 9, 7, 1, true),
            _ => wide,
        };
        let bar = match widths.bar {
            ..LEAST_BAR => 0,
            bar => bar,
        };
        Self { bar, ..widths }
    }

    /// Of all columns.
    fn all(&self) -> Vec<Constraint> {
        let mut all = vec![self.pid, self.name];
        if self.bar > 0 {
            all.push(self.bar);
        }
        all.extend(Column::NUMBERS.map(|_| self.number));
        all.into_iter().map(Constraint::Length).collect()
    }
}

/// All that is on the screen.
#[derive(Debug, Default)]
pub struct Screen {
    /// Which device.
    pub title: String,
    /// The last look.
    pub view: View,
    /// Those before it.
    pub history: History,
    /// By which the table is sorted.
    pub column: Column,
    /// The policy can be changed.
    pub may_change: bool,
    /// What is to be said.
    pub message: Option<String>,
}

impl Screen {
    /// Draws it.
    pub fn draw(&self, frame: &mut Frame) {
        let rows = [
            Constraint::Length(HEADER),
            Constraint::Min(3),
            Constraint::Length(1),
        ];
        let [device, processes, keys] = Layout::vertical(rows).areas(frame.area());
        self.draw_device(frame, device);
        self.draw_processes(frame, processes);
        self.draw_keys(frame, keys);
    }

    fn draw_device(&self, frame: &mut Frame, area: Rect) {
        let mut block = block(vec![
            " npu top ".fg(ACCENT).bold(),
            format!("{} ", self.title).into(),
        ]);
        if let Some(policy) = &self.view.device.policy {
            let policy = vec![" policy ".fg(QUIET), format!("{policy} ").fg(ACCENT).bold()];
            block = block.title(Line::from(policy).right_aligned());
        }
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let rows = [1, 1, 1, 3].map(Constraint::Length);
        let [memory, _, titles, curves] = Layout::vertical(rows).areas(inner);
        self.draw_memory(frame, memory);

        let columns = Layout::horizontal([Constraint::Fill(1); 5]).spacing(GAP);
        let (titles, curves) = (columns.split(titles), columns.split(curves));
        for (card, (title, curve)) in CARDS.iter().zip(titles.iter().zip(curves.iter())) {
            self.draw_card(frame, card, *title, *curve);
        }
    }

    fn draw_card(&self, frame: &mut Frame, card: &Card, title: Rect, curve: Rect) {
        // By the width alone, so that it stays as it is.
        let name = match title.width {
            22.. => card.names[0],
            16.. => card.names[1],
            _ => card.names[2],
        };
        frame.render_widget(name.fg(QUIET), title);
        let now = (card.value)(&self.view.rates).map_or("-".into(), short);
        let now = Line::from(now.fg(card.color).bold()).right_aligned();
        frame.render_widget(now, title);
        let past = self.history.of(|rates| (card.value)(rates).unwrap_or(0.0));
        // Heights are whole numbers; the highest one fills the height.
        let most = past.iter().copied().fold(1e-9, f64::max);
        let past: Vec<u64> = past.iter().map(|v| (v * 1000.0 / most) as u64).collect();
        let line = Sparkline::default()
            .data(&past)
            .max(1000)
            .direction(RenderDirection::RightToLeft)
            .style(Style::new().fg(card.color));
        frame.render_widget(line, curve);
    }

    fn draw_memory(&self, frame: &mut Frame, area: Rect) {
        let device = &self.view.device;
        let part = match device.total {
            0 => 0.0,
            total => device.used as f64 / total as f64,
        };
        let text = format!(
            "{:.1} of {:.1} MiB  {:>3.0} %",
            device.used as f64 / MIB,
            device.total as f64 / MIB,
            part * 100.0
        );
        let columns = [
            Constraint::Length(6),
            Constraint::Fill(1),
            Constraint::Length(text.len() as u16),
        ];
        let [name, bar, figures] = Layout::horizontal(columns).spacing(GAP).areas(area);
        frame.render_widget("memory".fg(QUIET), name);
        frame.render_widget(draw_bar(part, bar.width, level(part)), bar);
        frame.render_widget(text.bold(), figures);
    }

    fn draw_processes(&self, frame: &mut Frame, area: Rect) {
        let processes = &self.view.processes;
        let mut block = block(vec![
            format!(" {} ", processes_text(processes.len())).bold(),
        ]);
        if self.view.partial {
            let note = " those of other users are not shown ".fg(QUIET);
            block = block.title(Line::from(note).right_aligned());
        }
        let inner = block.inner(area);
        let hidden = (processes.len() + 1).saturating_sub(inner.height.into());
        if hidden > 0 && !processes.is_empty() {
            let note = format!(" and {hidden} more ").fg(QUIET);
            block = block.title_bottom(Line::from(note).right_aligned());
        }
        frame.render_widget(block, area);
        if processes.is_empty() {
            let middle = Layout::vertical([Constraint::Length(1)]).flex(Flex::Center);
            let [middle] = middle.areas(inner);
            let text = Line::from("nobody uses the device".fg(QUIET).italic());
            frame.render_widget(text.alignment(Alignment::Center), middle);
            return;
        }
        let widths = Widths::new(inner.width);
        let rows = processes
            .iter()
            .map(|process| self.row(process, widths.bar));
        let table = Table::new(rows, widths.all())
            .column_spacing(widths.gap)
            .header(self.titles(&widths));
        frame.render_widget(table, inner);
    }

    fn titles(&self, widths: &Widths) -> Row<'static> {
        let title = |column: Column| {
            let title = match widths.short {
                true => column.short_title(),
                false => column.title(),
            };
            if column == self.column {
                format!("▾{title}").fg(ACCENT).bold()
            } else {
                title.fg(QUIET)
            }
        };
        let mut cells = vec![
            right(title(Column::Pid)),
            Cell::from(title(Column::Command)),
        ];
        if widths.bar > 0 {
            cells.push(Cell::from("ON DEVICE".fg(QUIET)));
        }
        cells.extend(Column::NUMBERS.map(|column| right(title(column))));
        Row::new(cells)
    }

    fn row(&self, process: &Process, bar: u16) -> Row<'static> {
        let mut cells = vec![
            right(Span::from(process.pid.to_string()).fg(QUIET)),
            Cell::from(process.command.clone().bold()),
        ];
        if bar > 0 {
            let total = self.view.device.total as f64 / MIB;
            let part = if total > 0.0 {
                process.device / total
            } else {
                0.0
            };
            cells.push(Cell::from(draw_bar(part, bar, ACCENT)));
        }
        for column in Column::NUMBERS {
            let value = column.value(process);
            let color = match column {
                _ if value < 0.05 => QUIET,
                Column::Faults => Color::Yellow,
                Column::ToDevice => Color::Green,
                Column::Evicted => Color::Magenta,
                Column::Refaults => Color::Red,
                _ => Color::Reset,
            };
            cells.push(right(Span::from(short(value)).fg(color)));
        }
        Row::new(cells)
    }

    fn draw_keys(&self, frame: &mut Frame, area: Rect) {
        let key = |key: &'static str| key.fg(ACCENT).bold();
        let mut keys = vec![
            key(" q"),
            " quit  ".into(),
            key("s"),
            " sort by another column  ".into(),
        ];
        if self.may_change {
            keys.extend([key("p"), " another policy".into()]);
        }
        frame.render_widget(Line::from(keys), area);
        if let Some(message) = &self.message {
            let message = Line::from(format!("{message} ").red()).right_aligned();
            frame.render_widget(message, area);
        }
    }
}

fn block(title: Vec<Span<'static>>) -> Block<'static> {
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().fg(BORDER))
        .padding(Padding::horizontal(1))
        .title(Line::from(title))
}

fn right(text: Span<'static>) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

fn processes_text(count: usize) -> String {
    match count {
        1 => "1 process".into(),
        _ => format!("{count} processes"),
    }
}

/// A number of at most six columns.
fn short(value: f64) -> String {
    match value {
        _ if value < 999.95 => format!("{value:.1}"),
        _ if value < 99_999.5 => format!("{value:.0}"),
        _ if value < 9_999_500.0 => format!("{:.0}k", value / 1e3),
        _ => format!("{:.0}M", value / 1e6),
    }
}

/// The colour of memory that is so full.
fn level(part: f64) -> Color {
    match part {
        _ if part < 0.7 => Color::Green,
        _ if part < 0.9 => Color::Yellow,
        _ => Color::LightRed,
    }
}

/// A bar, in eighths of a column.
fn draw_bar(part: f64, width: u16, color: Color) -> Span<'static> {
    let width = width.into();
    let text = format!("{:<width$}", bar(part, width));
    Span::styled(text, Style::new().fg(color).bg(TRACK))
}

fn bar(part: f64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (part.clamp(0.0, 1.0) * (8 * width) as f64).round() as usize;
    "█".repeat(eighths / 8) + PARTS[eighths % 8]
}

#[cfg(test)]
mod tests;
