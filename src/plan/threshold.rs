//! Limits that a run's figures are to keep, as they are written: `ttft.p99<500ms`, `error_rate<=1%`, `health=VALID`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::metric::{Metric, Unit};
use crate::health::Verdict;
use crate::units::{parse_duration, parse_share};

/// A limit that a run is to keep. Serialises as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Threshold {
    /// As it was written, without blanks.
    text: String,
    /// What it says.
    pub rule: Rule,
}

/// What a threshold says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// A figure is to be below or above a number, in the figure's unit.
    Figure(Metric, Operator, f64),
    /// The client's verdict on itself is to be no worse than this.
    Health(Verdict),
}

impl Rule {
    /// What is limited: a metric's name, or `health`.
    pub fn name(&self) -> String {
        match self {
            Self::Figure(metric, ..) => metric.to_string(),
            Self::Health(_) => "health".to_owned(),
        }
    }
}

/// How a figure is to stand to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is its sign
pub enum Operator {
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl Operator {
    /// Longer signs first, so that `<` is not found in `<=`.
    const SIGNS: [(&'static str, Self); 4] =
        [("<=", Self::AtMost), (">=", Self::AtLeast), ("<", Self::Below), (">", Self::Above)];

    /// Its sign.
    pub fn sign(self) -> &'static str {
        Self::SIGNS.iter().find(|(_, operator)| *operator == self).map_or("", |(sign, _)| sign)
    }

    /// Whether the value stands so to the limit.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Below => value < limit,
            Self::AtMost => value <= limit,
            Self::Above => value > limit,
            Self::AtLeast => value >= limit,
        }
    }

    /// Whether the limit is the most that is allowed.
    pub fn is_upper(self) -> bool {
        matches!(self, Self::Below | Self::AtMost)
    }
}

const FORM: &str = "no threshold; write METRIC, one of < <= > >=, and a limit, such as ttft.p99<500ms";

/// Reads what completes "--threshold 'text': …" where it is wrong.
impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let at = text.find(['<', '>', '=']).ok_or(FORM)?;
        let (name, rest) = text.split_at(at);
        if name.eq_ignore_ascii_case("health") {
            let rule = Rule::Health(health(rest)?);
            return Ok(Self { text, rule });
        }
        let metric: Metric = name.parse()?;
        let sign =
            Operator::SIGNS.iter().find_map(|(sign, operator)| Some((*operator, rest.strip_prefix(sign)?)));
        let (operator, limit) = sign.ok_or(FORM)?;
        let rule = Rule::Figure(metric, operator, number(metric, operator, limit)?);
        Ok(Self { text, rule })
    }
}

/// `=VALID`, `<=DEGRADED`.
fn health(rest: &str) -> Result<Verdict, String> {
    let name = ["==", "<=", "="].iter().find_map(|sign| rest.strip_prefix(sign));
    match name.map(str::to_ascii_uppercase).as_deref() {
        Some("VALID") => Ok(Verdict::Valid),
        // a client that must be DEGRADED is nobody's wish
        Some("DEGRADED") if rest.starts_with("<=") => Ok(Verdict::Degraded),
        _ => Err("write health=VALID, or health<=DEGRADED, which lets both pass".to_owned()),
    }
}

/// The limit in the metric's unit. Times need theirs, for a bare number might be seconds as well.
fn number(metric: Metric, operator: Operator, text: &str) -> Result<f64, String> {
    let example = |limit: &str| format!("such as {metric}{}{limit}", operator.sign());
    let is_bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match metric.unit() {
        Unit::Ms if is_bare => {
            Err(format!("the limit has no unit; write ms or s, {}", example(&format!("{text}ms"))))
        }
        Unit::Ms => parse_duration(text)
            .map(|limit| limit.as_secs_f64() * 1e3)
            .map_err(|_| format!("the limit is no time; write a number and a unit, {}", example("500ms"))),
        Unit::Share if text == "1" => Err(format!("1 may be 1% or all; write the %, {}", example("1%"))),
        Unit::Share => parse_share(text)
            .map_err(|_| format!("the limit is no share; write a percentage, {}", example("1%"))),
        Unit::RequestsPerS | Unit::TokensPerS | Unit::Tokens => {
            let number =
                text.strip_suffix("/s").unwrap_or(text).parse::<f64>().ok().filter(|n| n.is_finite());
            number
                .filter(|n| *n >= 0.0)
                .ok_or_else(|| format!("the limit is no number from 0 up; write one, {}", example("40")))
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Threshold {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> Self {
        threshold.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Quantity, Stat};
    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse::<Threshold>().unwrap_or_else(|problem| panic!("{text}: {problem}")).rule
    }

    fn wrong(text: &str, want: &str) {
        assert_eq!(text.parse::<Threshold>().expect_err(text), want, "{text}");
    }

    #[test]
    fn thresholds_are_read_in_their_units() {
        let ttft = Metric::Of(Quantity::Ttft, Stat::P99);
        for text in ["ttft.p99<500ms", " TTFT.p99 < 0.5s ", "ttft.p99<500000us"] {
            assert_eq!(rule(text), Rule::Figure(ttft, Operator::Below, 500.0), "{text}");
        }
        assert_eq!(rule("error_rate<=1%"), Rule::Figure(Metric::ErrorRate, Operator::AtMost, 0.01));
        assert_eq!(rule("success-rate>=0.99"), Rule::Figure(Metric::SuccessRate, Operator::AtLeast, 0.99));
        let rate = Rule::Figure(Metric::RequestsPerS, Operator::Above, 40.0);
        assert_eq!((rule("requests_per_s>40"), rule("requests_per_s > 40/s")), (rate, rate));
        assert_eq!(rule("health=valid"), Rule::Health(Verdict::Valid));
        assert_eq!(rule("health<=DEGRADED"), Rule::Health(Verdict::Degraded));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        wrong("ttft.p99", FORM);
        wrong("ttft.p99=5ms", FORM);
        wrong("ttft.p99<500", "the limit has no unit; write ms or s, such as ttft.p99<500ms");
        wrong("ttft.p99<", "the limit is no time; write a number and a unit, such as ttft.p99<500ms");
        wrong("ttft.p99<-5ms", "the limit is no time; write a number and a unit, such as ttft.p99<500ms");
        wrong("error_rate<1", "1 may be 1% or all; write the %, such as error_rate<1%");
        wrong("error_rate<5", "the limit is no share; write a percentage, such as error_rate<1%");
        wrong(
            "requests_per_s>fast",
            "the limit is no number from 0 up; write one, such as requests_per_s>40",
        );
        wrong("ttfft.p99<5ms", "no such metric; did you mean 'ttft'?");
        wrong("health>VALID", "write health=VALID, or health<=DEGRADED, which lets both pass");
        wrong("health=DEGRADED", "write health=VALID, or health<=DEGRADED, which lets both pass");
    }

    #[test]
    fn operators_are_what_they_say() {
        let holds = |operator: Operator| [1.0, 2.0, 3.0].map(|value| operator.holds(value, 2.0));
        assert_eq!(holds(Operator::Below), [true, false, false]);
        assert_eq!(holds(Operator::AtMost), [true, true, false]);
        assert_eq!(holds(Operator::Above), [false, false, true]);
        assert_eq!(holds(Operator::AtLeast), [false, true, true]);
        assert!(!Operator::AtMost.holds(f64::NAN, 2.0));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r"(ttft|health|error_rate|\.p99|<|<=|>|=|1|%|ms|/s|é|\n|-|e9){0,6}") {
            if let Ok(threshold) = text.parse::<Threshold>() {
                let json = serde_json::to_string(&threshold).expect("text");
                prop_assert_eq!(serde_json::from_str::<Threshold>(&json).expect("the same"), threshold);
            }
        }
    }
}
