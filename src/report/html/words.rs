//! Numbers as charts and tables word them.

use crate::units::significant;

/// A time of so many milliseconds, short enough for an axis.
pub fn show_ms(ms: f64) -> String {
    match ms {
        ms if ms >= 59_999.0 => format!("{} min", trimmed(ms / 60_000.0)),
        ms if ms >= 999.5 => format!("{} s", trimmed(ms / 1e3)),
        ms if ms >= 0.1 || ms == 0.0 => format!("{} ms", trimmed(ms)),
        ms => format!("{} µs", trimmed(ms * 1e3)),
    }
}

/// A time of so many seconds, likewise.
pub fn show_s(seconds: f64) -> String {
    match seconds {
        s if s >= 7_200.0 => format!("{} h", trimmed(s / 3_600.0)),
        s if s >= 600.0 => format!("{} min", trimmed(s / 60.0)),
        s if s >= 1.0 || s == 0.0 => format!("{} s", trimmed(s)),
        s => show_ms(s * 1e3),
    }
}

/// A number, likewise.
pub fn show_number(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{}G", trimmed(v / 1e9)),
        v if v >= 1e6 => format!("{}M", trimmed(v / 1e6)),
        v if v >= 1e4 => format!("{}k", trimmed(v / 1e3)),
        v => trimmed(v),
    }
}

/// A share of 1 as a percentage, likewise.
pub fn show_percent(share: f64) -> String {
    format!("{}%", trimmed(share * 100.0))
}

/// At most three digits after the point, and none that say nothing.
pub fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A time of so many milliseconds with three digits.
pub fn show_time(ms: f64) -> String {
    if ms < 10_000.0 { format!("{} ms", significant(ms)) } else { show_ms((ms / 10.0).round() * 10.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_worded_shortly() {
        let check = |text: String, want: &str| assert_eq!(text, want);
        check(show_ms(0.05), "50 µs");
        check(show_ms(0.0), "0 ms");
        check(show_ms(2.5), "2.5 ms");
        check(show_ms(1_500.0), "1.5 s");
        check(show_s(0.2), "200 ms");
        check(show_s(1_200.0), "20 min");
        check(show_number(25_000.0), "25k");
        check(show_percent(0.005), "0.5%");
    }
}
