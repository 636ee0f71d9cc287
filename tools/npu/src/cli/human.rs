// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Numbers for people.

/// A size: whole if it is a power of 1024, else with a decimal.
pub fn bytes(size: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let Some(power) = (1..=UNITS.len() as u32)
        .rev()
        .find(|p| size >= 1 << (10 * p))
    else {
        return format!("{size} B");
    };
    let (one, unit) = (1u64 << (10 * power), UNITS[power as usize - 1]);
    if size % one == 0 {
        format!("{} {unit}", size / one)
    } else {
        format!("{:.1} {unit}", size as f64 / one as f64)
    }
}

/// A count with its thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `part` of `whole` in percent, or a dash if there is no whole.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".into();
    }
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

/// Lines of a name and a value each.
pub fn rows(rows: &[(&str, String)]) -> String {
    rows.iter().fold(String::new(), |text, (name, value)| {
        text + &format!("{name:<12} {value}\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(4096), "4 KiB");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3 GiB");
        assert_eq!(bytes(1 << 48), "256 TiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn counts_and_percents() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(count(123_456), "123 456");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(0, 0), "-");
    }
}
