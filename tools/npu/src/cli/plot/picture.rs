// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Draws a history as SVG: three panels one below the other, which share the time axis.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::Result;
use super::super::human;
use super::history::{History, Vm};

const WIDTH: u32 = 1100;
const HEIGHT: u32 = 640;
/// Pixels above the first panel, beside all of them for labels and for what colours mean, and of the second one.
const HEADER: u32 = 62;
const LEFT: u32 = 78;
const INSET: u32 = 8;
const RIGHT: u32 = 200;
const STRIP: u32 = 62;
/// Of the first panel.
const TOP: u32 = 300;

/// Parts of the time for which there is one value.
const COLUMNS: usize = 400;
/// Bars of what moved.
const BARS: usize = 200;

const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
const ALARM: RGBColor = RGBColor(0xc0, 0x1c, 0x28);
const FAULTS: RGBColor = RGBColor(0x44, 0x44, 0x88);
const EVICTIONS: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
/// Copied to the device, made there, copied to the host, dropped.
const MOVES: [RGBColor; 4] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0x9c, 0xcb, 0xe8),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0xf6, 0xc9, 0xa2),
];
/// Of VMs, to be told apart by all eyes (Okabe and Ito's, lighter); more of them share the last one.
const VMS: [RGBColor; 8] = [
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x3f, 0xb5, 0x93),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xf0, 0xe4, 0x42),
    RGBColor(0x4d, 0x8f, 0xc4),
    RGBColor(0xdd, 0x83, 0x45),
    RGBColor(0xa8, 0xa8, 0xa8),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws all of it.
pub fn draw(history: &History) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        title(&root, history)?;
        let (_, panels) = root.split_vertically(HEADER);
        let (top, below) = panels.split_vertically(TOP);
        let (strip, bottom) = below.split_vertically(STRIP);
        residency(&top, history)?;
        marks(&strip, history)?;
        moves(&bottom, history)?;
        root.present()?;
    }
    Ok(svg)
}

/// Text of a size, whose anchor is where it is drawn.
fn font(size: u32, color: RGBColor, h: HPos) -> TextStyle<'static> {
    let style = ("sans-serif", size).into_font().color(&color);
    style.pos(Pos::new(h, VPos::Center))
}

fn write(area: &Area<'_>, text: String, at: (u32, u32), style: TextStyle<'static>) -> Result {
    let at = (at.0 as i32, at.1 as i32);
    area.draw(&Text::new(text, at, style))?;
    Ok(())
}

/// A box, given in pixels.
fn fill(area: &Area<'_>, (x, y): (u32, u32), (w, h): (u32, u32), color: RGBAColor) -> Result {
    let corners = [(x as i32, y as i32), ((x + w) as i32, (y + h) as i32)];
    area.draw(&Rectangle::new(corners, color.filled()))?;
    Ok(())
}

/// What a colour means, in a line beside a panel.
fn key(area: &Area<'_>, line: usize, color: RGBColor, text: String) -> Result {
    let (x, y) = (WIDTH - RIGHT + 16, 12 + 20 * line as u32);
    fill(area, (x, y), (12, 12), color.to_rgba())?;
    write(area, text, (x + 20, y + 6), font(13, INK, HPos::Left))
}

fn title(area: &Area<'_>, history: &History) -> Result {
    let what = history.command.as_deref().filter(|text| !text.is_empty());
    let what = what.map_or("Device memory".into(), |command| shorten(command, 110));
    write(area, what, (LEFT, 22), font(20, INK, HPos::Left))?;
    let sum = |moves: &[(u64, u64)]| human::bytes(moves.iter().map(|(_, bytes)| bytes).sum());
    let moves = &history.moves;
    let text = format!(
        "{:.1} s, {} faults, {} evictions; to the device: {} copied, {} made; to the host: {} copied, {} dropped",
        history.seconds(),
        human::count(history.faults.len() as u64),
        human::count(history.evictions.len() as u64),
        sum(&moves.to_device),
        sum(&moves.made),
        sum(&moves.to_host),
        sum(&moves.dropped),
    );
    write(area, text, (LEFT, 46), font(13, INK, HPos::Left))?;
    if history.lost > 0 {
        let text = format!("{} events are missing", human::count(history.lost));
        let style = font(13, ALARM, HPos::Right);
        write(area, text, (WIDTH - 16, 22), style)?;
    }
    Ok(())
}

/// As much of a text as there is room for.
fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_string(),
    }
}

/// The unit in which so many bytes are a handy number, and how many a unit has.
fn unit(bytes: f64) -> (&'static str, f64) {
    match bytes {
        b if b >= (2u64 << 30) as f64 => ("GiB", (1u64 << 30) as f64),
        b if b >= (2u64 << 20) as f64 => ("MiB", (1u64 << 20) as f64),
        _ => ("KiB", 1024.0),
    }
}

/// A number on an axis that ends at another one.
fn tick(value: f64, end: f64) -> String {
    match end {
        end if end >= 10.0 => format!("{value:.0}"),
        end if end >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// VMs as they are drawn, each with its averages; those for which there is no colour as one.
fn layers(history: &History) -> Vec<(String, Vec<f64>)> {
    let average = |vm: &Vm| history.averages(vm, COLUMNS);
    let alone = match history.vms.len() > VMS.len() {
        true => VMS.len() - 1,
        false => history.vms.len(),
    };
    let (alone, others) = history.vms.split_at(alone);
    let mut layers: Vec<_> = alone.iter().map(|vm| (name(vm), average(vm))).collect();
    if !others.is_empty() {
        let mut sums = vec![0.0; COLUMNS];
        for vm in others {
            for (sum, bytes) in sums.iter_mut().zip(average(vm)) {
                *sum += bytes;
            }
        }
        layers.push((format!("{} other VMs", others.len()), sums));
    }
    layers
}

fn name(vm: &Vm) -> String {
    match &vm.task {
        Some(task) => format!("VM {}, {}", vm.number, shorten(task, 18)),
        None => format!("VM {}", vm.number),
    }
}

/// What VMs have, one on the other.
fn residency(area: &Area<'_>, history: &History) -> Result {
    let layers = layers(history);
    let mut below = vec![0.0; COLUMNS];
    let mut bounds = vec![below.clone()];
    for (_, bytes) in &layers {
        for (sum, bytes) in below.iter_mut().zip(bytes) {
            *sum += bytes;
        }
        bounds.push(below.clone());
    }
    let peak = below.iter().copied().fold(1.0, f64::max);
    let most = peak.max(history.memory.map_or(0.0, |memory| memory as f64));
    let (unit, size) = unit(most);
    let (end, seconds) = (most * 1.06 / size, history.seconds());

    let mut chart = ChartBuilder::on(area)
        .margin_left(INSET)
        .margin_right(RIGHT)
        .margin_top(10)
        .margin_bottom(6)
        .set_label_area_size(LabelAreaPosition::Left, LEFT - INSET)
        .build_cartesian_2d(0.0..seconds, 0.0..end)?;
    let small = font(12, INK, HPos::Right);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_labels(6)
        .y_label_formatter(&|value| tick(*value, end))
        .y_desc(format!("{unit} on the device"))
        .axis_desc_style(("sans-serif", 13, &INK))
        .label_style(small)
        .axis_style(INK.mix(0.5))
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (i, color) in VMS.iter().enumerate().take(layers.len()) {
        let upper = edge(&bounds[i + 1], seconds, size);
        let lower = edge(&bounds[i], seconds, size);
        let outline: Vec<_> = upper.into_iter().chain(lower.into_iter().rev()).collect();
        chart.draw_series([Polygon::new(outline, color.mix(0.85))])?;
    }
    if let Some(memory) = history.memory {
        let y = memory as f64 / size;
        let line = vec![(0.0, y), (seconds, y)];
        chart.draw_series([PathElement::new(line, INK.stroke_width(1))])?;
        let text = format!("device memory, {}", human::bytes(memory));
        let style = font(12, INK, HPos::Right).pos(Pos::new(HPos::Right, VPos::Bottom));
        chart.draw_series([Text::new(text, (seconds, y + end / 100.0), style)])?;
    }
    // As they lie one on the other.
    for (line, (i, (name, _))) in layers.iter().enumerate().rev().enumerate() {
        key(area, line, VMS[i], name.clone())?;
    }
    Ok(())
}

/// The line through the middles of all columns, from the beginning to the end.
fn edge(bytes: &[f64], seconds: f64, size: f64) -> Vec<(f64, f64)> {
    let width = seconds / bytes.len() as f64;
    let middles = bytes.iter().enumerate();
    let middles = middles.map(|(i, bytes)| ((i as f64 + 0.5) * width, bytes / size));
    let first = bytes.first().map(|bytes| (0.0, bytes / size));
    let last = bytes.last().map(|bytes| (seconds, bytes / size));
    first.into_iter().chain(middles).chain(last).collect()
}

/// When something happened, the darker the more.
fn marks(area: &Area<'_>, history: &History) -> Result {
    let rows = [
        ("faults", &history.faults, FAULTS),
        ("evictions", &history.evictions, EVICTIONS),
    ];
    let width = f64::from(WIDTH - LEFT - RIGHT);
    for (row, (name, times, color)) in rows.into_iter().enumerate() {
        let y = 8 + 24 * row as u32;
        write(
            area,
            name.into(),
            (LEFT - 8, y + 9),
            font(12, INK, HPos::Right),
        )?;
        fill(area, (LEFT, y), (WIDTH - LEFT - RIGHT, 18), GRID.mix(0.4))?;
        let counts = history.counts(times, COLUMNS);
        let most = counts.iter().max().copied().unwrap_or(0);
        for (i, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let edge = |i: usize| LEFT + (i as f64 * width / COLUMNS as f64).round() as u32;
            let dark = 0.25 + 0.75 * (*count as f64).ln_1p() / (most as f64).ln_1p();
            let size = ((edge(i + 1) - edge(i)).max(1), 18);
            fill(area, (edge(i), y), size, color.mix(dark))?;
        }
        let all = format!("{} {name}", human::count(times.len() as u64));
        let x = WIDTH - RIGHT + 16;
        write(area, all, (x, y + 9), font(13, INK, HPos::Left))?;
    }
    Ok(())
}

/// What moved: to the device upwards, to the host downwards.
fn moves(area: &Area<'_>, history: &History) -> Result {
    let all = &history.moves;
    let seconds = history.seconds();
    let width = seconds / BARS as f64;
    let rates = [&all.to_device, &all.made, &all.to_host, &all.dropped].map(|moves| {
        let sums = history.sums(moves, BARS);
        let rates = sums.iter().map(|bytes| *bytes as f64 / width);
        rates.collect::<Vec<_>>()
    });
    let sum = |a: usize, b: usize| {
        let both = rates[a].iter().zip(&rates[b]);
        both.map(|(a, b)| a + b).fold(0.0, f64::max)
    };
    let (up, down) = (sum(0, 1), sum(2, 3));
    let (unit, size) = unit(up.max(down).max(1.0));
    // So that there is an axis to both sides.
    let least = up.max(down).max(1.0) * 0.1;
    let (up, down) = (up.max(least) * 1.08 / size, down.max(least) * 1.08 / size);

    let mut chart = ChartBuilder::on(area)
        .margin_left(INSET)
        .margin_right(RIGHT)
        .margin_top(6)
        .margin_bottom(10)
        .set_label_area_size(LabelAreaPosition::Left, LEFT - INSET)
        .set_label_area_size(LabelAreaPosition::Bottom, 42)
        .build_cartesian_2d(0.0..seconds, -down..up)?;
    let small = font(12, INK, HPos::Right);
    let below = font(12, INK, HPos::Center).pos(Pos::new(HPos::Center, VPos::Top));
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(12)
        .y_labels(7)
        .x_label_formatter(&|value| tick(*value, seconds))
        .y_label_formatter(&|value| tick(value.abs(), up.max(down)))
        .x_desc("seconds")
        .y_desc(format!("{unit}/s"))
        .axis_desc_style(("sans-serif", 13, &INK))
        .x_label_style(below)
        .y_label_style(small)
        .axis_style(INK.mix(0.5))
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    // The first of two at the axis, the other behind it.
    for (near, far, sign) in [(0, 1, 1.0), (2, 3, -1.0)] {
        for i in 0..BARS {
            let x = (i as f64 * width, (i + 1) as f64 * width);
            let (a, b) = (rates[near][i] / size, rates[far][i] / size);
            for (from, to, color) in [(0.0, a, MOVES[near]), (a, a + b, MOVES[far])] {
                if to > from {
                    let corners = [(x.0, sign * from), (x.1, sign * to)];
                    chart.draw_series([Rectangle::new(corners, color.filled())])?;
                }
            }
        }
    }
    let axis = vec![(0.0, 0.0), (seconds, 0.0)];
    chart.draw_series([PathElement::new(axis, INK.stroke_width(1))])?;
    let texts = [
        "copied to the device",
        "made on the device",
        "copied to the host",
        "dropped: the host had it",
    ];
    for (line, (text, color)) in texts.into_iter().zip(MOVES).enumerate() {
        key(area, line, color, text.into())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::TRACE;
    use super::*;

    fn picture(trace: &str) -> String {
        draw(&History::read(trace).unwrap()).unwrap()
    }

    /// The elements of a kind.
    fn elements<'a>(svg: &'a str, kind: &str) -> Vec<&'a str> {
        let start = format!("<{kind} ");
        svg.lines()
            .filter(|line| line.starts_with(&start))
            .collect()
    }

    /// The points of a polygon.
    fn points(polygon: &str) -> Vec<(f64, f64)> {
        let list = polygon.split_once("points=\"").unwrap().1;
        let list = list.split_once('"').unwrap().0;
        let pair = |pair: &str| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        list.split_whitespace().map(pair).collect()
    }

    #[test]
    fn residency_is_drawn_to_scale() {
        let svg = picture(TRACE);
        let polygons = elements(&svg, "polygon");
        assert_eq!(polygons.len(), 2);
        let first = points(polygons[0]);
        // Upper edge there, lower edge back.
        assert_eq!(first.len(), 2 * (COLUMNS + 2));
        let height = |second: f64| {
            let i = (second / 4.0 * COLUMNS as f64) as usize;
            first[first.len() - 2 - i].1 - first[i + 1].1
        };
        // 1 MiB, 2 MiB, 1 MiB: to the pixel.
        let one = height(0.5);
        assert!(one > 20.0);
        assert!((height(1.5) - 2.0 * one).abs() <= 2.0);
        assert!((height(2.5) - one).abs() <= 2.0);
        assert!((height(3.5) - one).abs() <= 2.0);
        // The other VM lies on it.
        let second = points(polygons[1]);
        let lower = second[second.len() - 2 - 350].1;
        assert_eq!(lower, first[351].1);
        assert!((lower - second[351].1 - one / 2.0).abs() <= 2.0);
        // It ends where the axis does.
        let right = f64::from(WIDTH - RIGHT);
        assert!((first[COLUMNS + 1].0 - right).abs() <= 1.0);
    }

    #[test]
    fn all_has_a_name() {
        let svg = picture(TRACE);
        for text in [
            "npu workload cyclic",
            "VM 7, npu-80",
            "VM 3",
            "MiB on the device",
            "device memory, 4 MiB",
            "1 faults, 1 evictions",
            "5 events are missing",
            "1020 KiB copied, 4 KiB made",
            "seconds",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(!svg.contains("VM 9"));
    }

    #[test]
    fn marks_and_bars_are_there() {
        let svg = picture(TRACE);
        let color =
            |color: RGBColor| format!("fill=\"#{:02X}{:02X}{:02X}\"", color.0, color.1, color.2);
        let count = |wanted: RGBColor| {
            let boxes = elements(&svg, "rect");
            boxes.iter().filter(|e| e.contains(&color(wanted))).count()
        };
        assert_eq!(count(FAULTS), 1);
        // The mark, the bar of what was copied to the host, and what the colour means.
        assert_eq!(EVICTIONS, MOVES[2]);
        assert_eq!(count(EVICTIONS), 3);
        assert_eq!(count(MOVES[0]), 2);
        assert_eq!(count(MOVES[3]), 2);
    }

    #[test]
    fn many_vms_share_a_colour() {
        let mut trace = String::new();
        for vm in 1..=20 {
            let line = " x-1 [000] ..... 1.000000: gmem_vm_resident: vm=";
            trace += &format!("{line}{vm} resident=4096 mirrored=0\n");
        }
        trace += " x-1 [000] ..... 2.000000: gmem_vm_resident: vm=1 resident=0 mirrored=0\n";
        let svg = picture(&trace);
        assert_eq!(elements(&svg, "polygon").len(), VMS.len());
        assert!(svg.contains("13 other VMs"));
    }

    #[test]
    fn nothing_moved_and_odd_names_are_drawn() {
        let trace = "# npu trace: <a> & \"b\"\n x-1 [000] ..... 1.000000: gmem_vm_attach: vm=1\n";
        let svg = picture(trace);
        assert!(svg.contains("&lt;a&gt; &amp; "));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(elements(&svg, "polygon").is_empty());
    }

    #[test]
    fn texts_and_units_fit() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("\u{e4}bcd", 3), "\u{e4}bc\u{2026}");
        assert_eq!(unit(4096.0).0, "KiB");
        assert_eq!(unit(4194304.0), ("MiB", 1048576.0));
        assert_eq!(unit(1e11).0, "GiB");
        assert_eq!(
            [tick(1.0, 64.0), tick(1.0, 4.0), tick(0.25, 0.5)],
            ["1", "1.0", "0.25"]
        );
    }
}
