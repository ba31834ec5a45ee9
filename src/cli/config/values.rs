//! From one value of the file to one value of ours; each says what is wrong and what to write instead.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::arrivals::Shape;
use crate::keeper::Mode;
use crate::plan::{ArrivalName, Extent, Slo, Threshold};
use crate::priority::Wanted;
use crate::text::printable;
use crate::units::{Rate, parse_duration, parse_share};
use crate::wire::Dialect;

pub const ABOVE_0: &str = "write a whole number above 0";
pub const FROM_0: &str = "write a whole number from 0 up";
pub const SECONDS: &str = "write a number of seconds, such as 3600";
pub const TEXT: &str = "write text in double quotes";
pub const BROKEN_ESCAPE: &str = "has a broken \\u escape; write the character itself";

/// What a value is, without the value.
pub fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

pub fn is_no(raw: &RawValue, help: &str) -> String {
    format!("is {}; {help}", kind(raw))
}

/// The same where a number was wanted, so that it may be shown.
pub fn is_no_such_number(raw: &RawValue, help: &str) -> String {
    match kind(raw) {
        "a number" => format!("is {}; {help}", printable(raw.get(), 30)),
        _ => is_no(raw, help),
    }
}

pub fn list<'t>(raw: &'t RawValue, help: &str) -> Result<Vec<&'t RawValue>, String> {
    serde_json::from_str(raw.get()).map_err(|_| is_no(raw, help))
}

pub fn text(raw: &RawValue) -> Result<String, String> {
    serde_json::from_str(raw.get()).map_err(|_| match kind(raw) {
        "a string" => BROKEN_ESCAPE.to_owned(),
        _ => is_no(raw, TEXT),
    })
}

pub fn filled(raw: &RawValue) -> Result<String, String> {
    let text = text(raw)?;
    if text.trim().is_empty() { Err("is empty; write some text".to_owned()) } else { Ok(text) }
}

pub fn texts(raw: &RawValue) -> Result<Vec<String>, String> {
    match kind(raw) {
        "a list" => list(raw, TEXT)?.into_iter().map(text).collect(),
        _ => Ok(vec![text(raw)?]),
    }
}

pub fn path(raw: &RawValue) -> Result<PathBuf, String> {
    filled(raw).map(PathBuf::from)
}

pub fn boolean(raw: &RawValue) -> Result<bool, String> {
    serde_json::from_str(raw.get()).map_err(|_| is_no(raw, "write true or false"))
}

pub fn above_0(raw: &RawValue) -> Result<u64, String> {
    match whole(raw, ABOVE_0)? {
        0 => Err(is_no_such_number(raw, ABOVE_0)),
        count => Ok(count),
    }
}

pub fn from_0(raw: &RawValue) -> Result<u64, String> {
    whole(raw, FROM_0)
}

pub fn whole(raw: &RawValue, help: &str) -> Result<u64, String> {
    let is_too_big = raw.get().bytes().all(|b| b.is_ascii_digit());
    let help = if is_too_big { "write a smaller number" } else { help };
    serde_json::from_str(raw.get()).map_err(|_| is_no_such_number(raw, help))
}

pub fn temperature(raw: &RawValue) -> Result<f64, String> {
    let temperature = serde_json::from_str::<f64>(raw.get()).ok().filter(|t| *t >= 0.0);
    temperature.ok_or_else(|| is_no_such_number(raw, "write a number from 0 up, such as 0.7"))
}

/// Objectives in one text, or in a list of texts.
pub fn goodput(raw: &RawValue) -> Result<Vec<Slo>, String> {
    let help = "write a list of objectives, such as [\"ttft:500ms\", \"tpot:50ms\"]";
    let items = match kind(raw) {
        "a list" => list(raw, help)?,
        _ => vec![raw],
    };
    let slo = |item: &&RawValue| text(item)?.parse::<Slo>().map_err(|problem| format!("is wrong: {problem}"));
    let slos: Vec<Slo> = items.iter().map(slo).collect::<Result<_, _>>()?;
    if slos.is_empty() { Err(is_no(raw, help)) } else { Ok(slos) }
}

/// A number from 0 to 1, or a percentage in quotes.
pub fn share(raw: &RawValue) -> Result<f64, String> {
    let written = if kind(raw) == "a string" { text(raw)? } else { raw.get().to_owned() };
    parse_share(&written).map_err(|_| is_no_such_number(raw, "write a share, such as 0.05 or \"5%\""))
}

pub fn number_above_0(raw: &RawValue) -> Result<f64, String> {
    let number = serde_json::from_str::<f64>(raw.get()).ok().filter(|n| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| is_no_such_number(raw, "write a number above 0, such as 12.5"))
}

/// A number, or "inf".
pub fn rate(raw: &RawValue) -> Result<Shape, String> {
    if kind(raw) == "a string" {
        let written = text(raw)?;
        let help = "write a number above 0, such as 12.5, or \"inf\"";
        return Shape::parse_rate(&written).map_err(|_| format!("is '{}'; {help}", printable(&written, 30)));
    }
    let rate = Rate::new(number_above_0(raw)?).map(Shape::Steady);
    rate.ok_or_else(|| is_no_such_number(raw, "write a number above 0, such as 12.5"))
}

pub fn ramp_up(raw: &RawValue) -> Result<Shape, String> {
    shape(&text(raw)?, Shape::parse_ramp)
}

/// As the flag has them, or a list of such.
pub fn stages(raw: &RawValue) -> Result<Shape, String> {
    let written = match kind(raw) {
        "a list" => list(raw, TEXT)?.into_iter().map(text).collect::<Result<Vec<_>, _>>()?.join(","),
        _ => text(raw)?,
    };
    shape(&written, Shape::parse_stages)
}

fn shape(written: &str, parse: fn(&str) -> Result<Shape, String>) -> Result<Shape, String> {
    parse(written).map_err(|problem| format!("is '{}': {problem}", printable(written, 30)))
}

pub fn threshold(raw: &RawValue) -> Result<Threshold, String> {
    let written = text(raw)?;
    written.parse().map_err(|problem| format!("is '{}': {problem}", printable(&written, 60)))
}

pub fn arrival(raw: &RawValue) -> Result<ArrivalName, String> {
    name(raw, "write \"poisson\", \"constant\" or \"gamma\"")
}

pub fn keeper(raw: &RawValue) -> Result<Mode, String> {
    name(raw, "write \"auto\", \"on\" or \"off\"")
}

pub fn priority(raw: &RawValue) -> Result<Wanted, String> {
    name(raw, "write \"auto\", \"normal\" or \"high\"")
}

/// A duration that may be 0.
pub fn duration_from_0(raw: &RawValue) -> Result<Duration, String> {
    if raw.get() == "0" { Ok(Duration::ZERO) } else { duration(raw) }
}

/// A number of requests, or a time with its unit.
pub fn extent(raw: &RawValue) -> Result<Extent, String> {
    if kind(raw) == "a string" {
        let written = text(raw)?;
        return Extent::parse(&written)
            .map_err(|problem| format!("is '{}'; {problem}", printable(&written, 30)));
    }
    from_0(raw).map(Extent::Requests)
}

/// A number of seconds, or a string with a unit.
pub fn duration(raw: &RawValue) -> Result<Duration, String> {
    let (shown, written) = match kind(raw) {
        "a string" => {
            let written = text(raw)?;
            (format!("'{}'", printable(&written, 30)), written)
        }
        // shown without an exponent, which durations do not have
        _ => match serde_json::from_str::<f64>(raw.get()) {
            Ok(seconds) if seconds > 0.0 => (printable(raw.get(), 30), seconds.to_string()),
            _ => return Err(is_no_such_number(raw, SECONDS)),
        },
    };
    match parse_duration(&written) {
        Ok(Duration::ZERO) => Err(format!("is {shown}; write a duration above 0, such as 30 or \"30s\"")),
        Ok(duration) => Ok(duration),
        Err(problem) => Err(format!("is {shown}, {problem}")),
    }
}

pub fn dialect(raw: &RawValue) -> Result<Dialect, String> {
    name(raw, "write \"chat\" or \"completions\"")
}

/// One of a closed set of names.
fn name<T: FromStr>(raw: &RawValue, help: &str) -> Result<T, String> {
    if kind(raw) != "a string" {
        return Err(is_no(raw, help));
    }
    let name = text(raw)?;
    name.parse().map_err(|_| format!("is '{}'; {help}", printable(&name, 30)))
}

pub fn json(raw: &RawValue) -> Result<Value, String> {
    serde_json::from_str(raw.get()).map_err(|_| {
        "cannot be read; keep numbers within 64 bits, escapes whole and nesting below 100".to_owned()
    })
}
