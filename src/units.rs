//! Quantities as people write and read them: durations, counts, shares, and as plain numbers.
//!
//! Parsing answers with a sentence that completes "--flag 'value': …". Knows nothing of flags or metrics.

use std::fmt;
use std::time::Duration;

/// Reads a duration such as `250ms`, `30s`, `1.5m`, `2h` or `80us`. A bare number is seconds.
///
/// # Errors
/// Says what is wrong and how to write it, without the value itself.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit.trim() {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(DURATION_HELP.to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| DURATION_HELP.to_owned())?;
    let seconds = number * scale;
    if seconds > MAX_SECONDS {
        return Err("longer than a year; write a shorter duration".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

const DURATION_HELP: &str = "not a duration; write a number and a unit, such as 250ms, 30s, 5m or 1h";
const MAX_SECONDS: f64 = 366.0 * 86_400.0;

/// Reads a share of 1 such as `5%` or `0.05`.
///
/// # Errors
/// Says what is wrong and how to write it, without the value itself.
pub fn parse_share(text: &str) -> Result<f64, String> {
    const HELP: &str = "not a share; write a percentage such as 5%, or a number from 0 to 1 such as 0.05";
    let text = text.trim();
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let is_plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let share = number.parse::<f64>().map_err(|_| HELP.to_owned())? / scale;
    if is_plain && share <= 1.0 { Ok(share) } else { Err(HELP.to_owned()) }
}

/// Events per second: finite and above 0.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Rate(f64);

impl TryFrom<f64> for Rate {
    type Error = &'static str;

    fn try_from(per_second: f64) -> Result<Self, &'static str> {
        Self::new(per_second).ok_or("a rate is above 0")
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

impl Rate {
    /// `None` unless the number is finite and above 0.
    pub fn new(per_second: f64) -> Option<Self> {
        (per_second.is_finite() && per_second > 0.0).then_some(Self(per_second))
    }

    /// Events per second.
    pub fn per_second(self) -> f64 {
        self.0
    }
}

/// Reads a rate per second such as `12.5`.
///
/// # Errors
/// Says what is wrong and how to write it, without the value itself.
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    let rate = text.trim().parse().ok().and_then(Rate::new);
    rate.ok_or_else(|| "not a rate; write requests per second, a number above 0 such as 12.5".to_owned())
}

/// Events per second where there may be none: finite, 0 or above.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Level(f64);

impl TryFrom<f64> for Level {
    type Error = &'static str;

    fn try_from(per_second: f64) -> Result<Self, &'static str> {
        Self::new(per_second).ok_or("a rate is 0 or above")
    }
}

impl From<Level> for f64 {
    fn from(level: Level) -> Self {
        level.0
    }
}

impl Level {
    /// `None` unless the number is finite and not below 0.
    pub fn new(per_second: f64) -> Option<Self> {
        // adding 0 makes -0 plain
        (per_second.is_finite() && per_second >= 0.0).then_some(Self(per_second + 0.0))
    }

    /// Events per second.
    pub fn per_second(self) -> f64 {
        self.0
    }

    /// Whether there are none.
    pub fn is_zero(self) -> bool {
        self.0 == 0.0
    }
}

/// As it was written.
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads a rate per second that may be 0.
///
/// # Errors
/// Says what is wrong and how to write it, without the value itself.
pub fn parse_level(text: &str) -> Result<Level, String> {
    let level = text.trim().parse().ok().and_then(Level::new);
    level.ok_or_else(|| "not a rate; write requests per second, a number from 0 up such as 12.5".to_owned())
}

/// Shows a duration with three significant digits and the unit that suits it: `412 µs`, `3.25 ms`, `1.20 s`, `2 m 05 s`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        0.0 => "0 s".to_owned(),
        s if s < 0.999_5e-3 => format!("{} µs", significant(s * 1e6)),
        s if s < 0.999_5 => format!("{} ms", significant(s * 1e3)),
        s if s < 99.95 => format!("{} s", significant(s)),
        s if s < 3_599.5 => {
            let whole = s.round() as u64;
            format!("{} m {:02} s", whole / 60, whole % 60)
        }
        s => {
            let minutes = (s / 60.0).round() as u64;
            format!("{} h {:02} m", minutes / 60, minutes % 60)
        }
    }
}

/// Shows a number with three significant digits, and all digits of what is before the point: `0.123`, `4.57`, `1234`, and
/// from five of them on in groups, as [`show_count`] does: `12,345`.
pub fn significant(value: f64) -> String {
    let size = value.abs();
    if (9_999.5..1e18).contains(&size) {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", show_count(size.round() as u64));
    }
    let decimals = match size {
        0.0 => 0,
        s if s >= 99.95 => 0,
        s if s >= 9.995 => 1,
        s if s >= 0.999_5 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// Shows milliseconds, without the unit, with three digits after the point below 1: a microsecond is what can be told of a
/// client's own share. Else as [`significant`] does.
pub fn show_fine_ms(ms: f64) -> String {
    let shown = if ms.abs() < 0.999_5 { format!("{ms:.3}") } else { significant(ms) };
    // what is less than half a microsecond too low is not below 0
    shown
        .strip_prefix('-')
        .filter(|rest| rest.bytes().all(|b| b"0.".contains(&b)))
        .unwrap_or(&shown)
        .to_owned()
}

/// Shows a count with thin groups of three: `2,048`.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Shows a count with its noun: `1 thread`, `2,048 threads`.
pub fn show_counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", show_count(count))
}

/// Shows a share of 1 as a percentage that never rounds a miss away: `100%` means all, `99.99%` at most means not all.
pub fn show_share(share: f64) -> String {
    let percent = share * 100.0;
    if share >= 1.0 {
        "100%".to_owned()
    } else if percent > 99.99 {
        "99.99%".to_owned()
    } else if percent > 0.0 && percent < 0.01 {
        "0.01%".to_owned()
    } else if !(10.0..=99.0).contains(&percent) {
        format!("{percent:.2}%")
    } else {
        format!("{percent:.1}%")
    }
}

/// Whole nanoseconds; the most that fit, some 584 years, where there are more.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `part` ÷ `whole`; `None` where `whole` is 0.
pub fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Writes a duration as a number of seconds, for fields whose names end in `_s`.
///
/// # Errors
/// Those of the serializer.
pub fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// The same where there may be none: `null`.
///
/// # Errors
/// Those of the serializer.
pub fn as_seconds_or_null<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => as_seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// Reads back what [`as_seconds`] wrote, to the nanosecond for up to a hundred days.
///
/// # Errors
/// Those of the deserializer, and when the number is negative or too large.
pub fn from_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = <f64 as serde::Deserialize>::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
}

/// Reads back what [`as_seconds_or_null`] wrote.
///
/// # Errors
/// Those of [`from_seconds`].
pub fn from_seconds_or_null<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let seconds = <Option<f64> as serde::Deserialize>::deserialize(deserializer)?;
    seconds.map(Duration::try_from_secs_f64).transpose().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_from_five_on_groups() {
        for (value, want) in [
            (0.0, "0"),
            (0.1234, "0.123"),
            (99.96, "100"),
            (1234.4, "1234"),
            (9999.4, "9999"),
            (9999.5, "10,000"),
            (-12_345.6, "-12,346"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(significant(value), want);
        }
    }

    fn duration(text: &str, want: Duration) {
        assert_eq!(parse_duration(text), Ok(want), "{text}");
    }

    #[test]
    fn durations_are_read_with_their_units() {
        duration("250ms", Duration::from_millis(250));
        duration("30s", Duration::from_secs(30));
        duration("1.5m", Duration::from_secs(90));
        duration("2h", Duration::from_secs(7200));
        duration("80us", Duration::from_micros(80));
        duration("3", Duration::from_secs(3));
        duration(" 5 s ", Duration::from_secs(5));
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", "fast", "-3s", "3 parsecs", "1.2.3s", "ms", "1e9s", "99999999h", "NaN", "inf"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_read_as_percentages_or_fractions() {
        assert_eq!(parse_share("5%"), Ok(0.05));
        assert_eq!(parse_share("0.25"), Ok(0.25));
        assert_eq!(parse_share("100 %"), Ok(1.0));
        for text in ["", "%", "5", "101%", "-1%", "NaN", "1e-3"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_above_0() {
        assert_eq!(parse_rate("12.5").map(Rate::per_second), Ok(12.5));
        for text in ["0", "-1", "fast", "NaN", "inf", ""] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn levels_may_be_0() {
        assert_eq!(parse_level("0").map(Level::is_zero), Ok(true));
        assert_eq!(parse_level("-0").map(|level| level.to_string()), Ok("0".to_owned()));
        for text in ["-1", "fast", "NaN", "inf", ""] {
            assert!(parse_level(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_the_unit_that_suits() {
        for (nanos, want) in [
            (0, "0 s"),
            (412_000, "412 µs"),
            (3_250_000, "3.25 ms"),
            (999_600_000, "1.00 s"),
            (1_200_000_000, "1.20 s"),
            (125_000_000_000, "2 m 05 s"),
            (7_260_000_000_000, "2 h 01 m"),
        ] {
            assert_eq!(show_duration(Duration::from_nanos(nanos)), want);
        }
    }

    #[test]
    fn counts_and_shares_are_shown_plainly() {
        assert_eq!(show_count(0), "0");
        assert_eq!(show_count(2048), "2,048");
        assert_eq!(show_counted(1, "thread"), "1 thread");
        assert_eq!(show_counted(2048, "thread"), "2,048 threads");
        assert_eq!(show_count(1_000_000), "1,000,000");
        assert_eq!(show_share(1.0), "100%");
        assert_eq!(show_share(0.999_999), "99.99%");
        assert_eq!(show_share(0.953), "95.3%");
        assert_eq!(show_share(0.000_001), "0.01%");
        assert_eq!(show_share(0.0), "0.00%");
    }

    #[test]
    fn there_is_no_share_of_nothing_and_no_time_is_too_long() {
        assert_eq!((ratio(1, 4), ratio(0, 4), ratio(0, 0)), (Some(0.25), Some(0.0), None));
        assert_eq!((nanos(Duration::from_micros(3)), nanos(Duration::MAX)), (3_000, u64::MAX));
    }

    #[test]
    fn fine_milliseconds_are_told_to_the_microsecond_and_nothing_is_minus_zero() {
        assert_eq!(show_fine_ms(-0.000_4), "0.000");
        assert_eq!(show_fine_ms(-0.004), "-0.004");
        assert_eq!(show_fine_ms(12.34), "12.3");
    }
}
