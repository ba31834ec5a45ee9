//! Which requests were good: those that met every service level objective.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::{Ends, Record};
use crate::units::{as_seconds, from_seconds, parse_duration, show_duration};

/// A time of one request that an objective can bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SloMetric {
    /// Time to first token.
    Ttft,
    /// Time per output token.
    Tpot,
    /// End-to-end latency.
    E2e,
    /// The longest gap between token events: what a reader sees as a stall.
    Stall,
    /// Response time to first token, from when the request was due.
    ResponseTtft,
    /// Response time.
    ResponseE2e,
}

const METRICS: [(SloMetric, &str); 6] = [
    (SloMetric::Ttft, "ttft"),
    (SloMetric::Tpot, "tpot"),
    (SloMetric::E2e, "e2e"),
    (SloMetric::Stall, "stall"),
    (SloMetric::ResponseTtft, "response_ttft"),
    (SloMetric::ResponseE2e, "response_e2e"),
];

impl SloMetric {
    /// Its name on the command line and in results.
    pub fn name(self) -> &'static str {
        METRICS.iter().find(|(metric, _)| *metric == self).map_or("e2e", |(_, name)| name)
    }

    /// Whether only a streamed reply has it.
    pub fn needs_stream(self) -> bool {
        !matches!(self, Self::E2e | Self::ResponseE2e)
    }
}

/// A service level objective: a time that a request must not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// What is bounded.
    pub metric: SloMetric,
    /// The longest time that is good.
    #[serde(rename = "limit_s", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub limit: Duration,
}

impl Slo {
    /// Whether the request met it for certain; a failure meets none. Where a reply had one token, its time per token and its
    /// stalls are met, as in vLLM.
    pub fn is_met(&self, record: &Record) -> bool {
        self.ends(record).is_some_and(|time| time.high <= self.limit)
    }

    /// Whether it may have met it: the time lies between two ends, for this client read late, and the lower one is good.
    pub fn may_be_met(&self, record: &Record) -> bool {
        self.ends(record).is_some_and(|time| time.low <= self.limit)
    }

    fn ends(&self, record: &Record) -> Option<Ends> {
        if !record.is_success() {
            return None;
        }
        match self.metric {
            SloMetric::Ttft => record.ttft_ends(),
            SloMetric::Tpot => Some(record.tpot_ends().unwrap_or_default()),
            SloMetric::E2e => record.e2e_ends(),
            SloMetric::Stall => Some(record.longest_gap_ends().unwrap_or_default()),
            SloMetric::ResponseTtft => record.response_ttft_ends(),
            SloMetric::ResponseE2e => record.response_e2e_ends(),
        }
    }
}

impl FromStr for Slo {
    type Err = String;

    /// Reads `ttft:500ms`; a bare number is milliseconds, as in vLLM.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, limit) = text.split_once(':').ok_or(FORM)?;
        let name = match name.trim() {
            "e2el" => "e2e",
            name => name,
        };
        let (metric, _) = METRICS.into_iter().find(|(_, known)| *known == name).ok_or_else(|| {
            let names = METRICS.map(|(_, name)| name).join(", ");
            format!("'{}' is no objective's metric; they are {names}", crate::text::printable(name, 40))
        })?;
        let limit = match limit.trim().parse::<f64>() {
            Ok(ms) => Duration::try_from_secs_f64(ms / 1e3).map_err(|_| FORM)?,
            Err(_) => parse_duration(limit).map_err(|_| FORM)?,
        };
        if limit.is_zero() { Err("a limit is above 0".to_owned()) } else { Ok(Self { metric, limit }) }
    }
}

const FORM: &str = "write METRIC:TIME, such as ttft:500ms or tpot:50";

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ≤ {}", self.metric.name(), show_duration(self.limit))
    }
}

/// How many requests were good, by the upper ends of times that are not known for certain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goodput {
    /// Measured requests that succeeded and met every objective.
    pub good: u64,
    /// `good` ÷ (succeeded + failed), from 0 to 1; `None` when there was neither.
    pub share: Option<f64>,
    /// `good` ÷ the run's duration, as vLLM's `request_goodput`; `None` without a duration.
    pub requests_per_s: Option<f64>,
    /// The same by the lower ends; `None` where it comes to the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_best: Option<GoodputAtBest>,
}

/// How many requests may have been good: this client read late, and some times lie between two ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoodputAtBest {
    /// Those that are good for certain, and those that may be.
    pub good: u64,
    /// `good` ÷ (succeeded + failed), from 0 to 1; `None` when there was neither.
    pub share: Option<f64>,
    /// `good` ÷ the run's duration; `None` without a duration.
    pub requests_per_s: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_read_as_vllm_writes_them_or_with_units() {
        let slo = |text: &str| text.parse::<Slo>().map(|slo| slo.to_string());
        assert_eq!(slo("ttft:500"), Ok("ttft ≤ 500 ms".to_owned()));
        assert_eq!(slo("e2el:2s"), Ok("e2e ≤ 2.00 s".to_owned()));
        assert_eq!(slo(" stall : 0.5s "), Ok("stall ≤ 500 ms".to_owned()));
        for (text, part) in [
            ("ttft", "METRIC:TIME"),
            ("tft:5", "they are ttft"),
            ("ttft:0", "above 0"),
            ("ttft:-1", "METRIC"),
            ("ttft:x", "METRIC"),
            ("ttft:NaN", "METRIC"),
        ] {
            let said = slo(text).expect_err(text);
            assert!(said.contains(part), "{text}: {said}");
        }
    }
}
