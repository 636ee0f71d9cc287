// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How alike sentences are, as text.

use std::fmt::Write as _;

/// Columns that fit a terminal's width.
const MOST_COLUMNS: usize = 24;

/// Longest part of a sentence that is shown.
const WIDTH: usize = 72;

/// The sentences, each with the one that is most like it, and the table of all similarities.
pub fn similarities(sentences: &[String], vectors: &[Vec<f32>]) -> String {
    let alike = |a: usize, b: usize| -> f64 {
        let products = vectors[a].iter().zip(&vectors[b]);
        products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let all = 0..sentences.len();
    let digits = sentences.len().to_string().len();
    let mut text = String::new();
    for (i, sentence) in sentences.iter().enumerate() {
        let others = all.clone().filter(|other| *other != i);
        let closest = others.max_by(|a, b| alike(i, *a).total_cmp(&alike(i, *b)));
        let note = closest.map_or(String::new(), |other| {
            format!("most like {:>digits$} ({:.2})", other + 1, alike(i, other))
        });
        let shown = shorten(sentence, WIDTH);
        let gap = WIDTH - shown.chars().count();
        let line = format!("{:>digits$}  {shown}{:gap$}  {note}", i + 1, "");
        writeln!(text, "{}", line.trim_end()).expect("text grows");
    }
    if (2..=MOST_COLUMNS).contains(&sentences.len()) {
        // The other half is the same.
        for i in all.clone() {
            write!(text, "\n{:>digits$} ", i + 1).expect("text grows");
            (0..=i).for_each(|j| text.push_str(&cell(alike(i, j))));
        }
        write!(text, "\n{:digits$} ", "").expect("text grows");
        all.for_each(|i| write!(text, "{:>5}", i + 1).expect("text grows"));
        text.push('\n');
    }
    text
}

/// Two decimals, and no zero before the point.
fn cell(value: f64) -> String {
    let digits = format!("{:.2}", value.abs());
    let digits = digits.strip_prefix('0').unwrap_or(&digits);
    let sign = if value < 0.0 && digits != ".00" {
        "-"
    } else {
        ""
    };
    format!("{:>5}", format!("{sign}{digits}"))
}

fn shorten(sentence: &str, width: usize) -> String {
    if sentence.chars().count() <= width {
        return sentence.into();
    }
    let start: String = sentence.chars().take(width - 3).collect();
    format!("{}...", start.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_is_named() {
        let sentences = ["one", "two", "three"].map(String::from);
        let vectors = [vec![1.0, 0.0], vec![0.0, 1.0], vec![0.6, 0.8]];
        let text = similarities(&sentences, &vectors);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("1  one ") && lines[0].ends_with("  most like 3 (0.60)"));
        assert!(lines[1].ends_with("  most like 3 (0.80)"));
        let table = [
            "1  1.00",
            "2   .00 1.00",
            "3   .60  .80 1.00",
            "      1    2    3",
        ];
        assert_eq!(lines[4..], table);
        assert_eq!(
            [cell(-0.004), cell(-0.126), cell(-1.0)],
            ["  .00", " -.13", "-1.00"]
        );
    }

    #[test]
    fn long_and_lonely_sentences_fit() {
        let text = similarities(&["\u{e4}".repeat(200)], &[vec![1.0]]);
        assert_eq!(text, format!("1  {}...\n", "\u{e4}".repeat(WIDTH - 3)));
    }
}
