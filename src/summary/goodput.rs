//! Which requests were good: those that met every service level objective.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::record::{Ends, Record, TpotSource};
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
    /// stalls are met, as in vLLM. Where no token of it showed, as of one that ended at once, the first came between the first
    /// event and the end. `None` where a time was there and is not known: one per token, or a first token's that lies on
    /// both sides of the limit.
    pub fn is_met(&self, record: &Record) -> Option<bool> {
        self.holds(record, |time| time.high)
    }

    /// Whether it may have met it: the time lies between two ends, for this client read late, and the lower one is good.
    /// `None` as for [`is_met`](Self::is_met).
    pub fn may_be_met(&self, record: &Record) -> Option<bool> {
        self.holds(record, |time| time.low)
    }

    fn holds(&self, record: &Record, end: impl Fn(Ends) -> Duration) -> Option<bool> {
        let is_unknown = || record.tpot_source() == Some(TpotSource::Unknown);
        if self.metric == SloMetric::Tpot && record.is_success() && is_unknown() {
            return None;
        }
        match self.ends(record) {
            Some(time) => Some(end(time) <= self.limit),
            None => self.holds_unseen(record),
        }
    }

    /// The same of a first token that no event showed, though there was one: the reply succeeded.
    fn holds_unseen(&self, record: &Record) -> Option<bool> {
        let origin = match self.metric {
            SloMetric::Ttft => record.moments.sent,
            SloMetric::ResponseTtft => Some(record.moments.due),
            _ => None,
        };
        let Some(origin) = origin.filter(|_| record.is_success() && record.token_events.is_empty()) else {
            return Some(false);
        };
        let within = |at: Moment| at.since(origin) <= self.limit;
        match (within(record.moments.end), record.moments.first_event.map(within)) {
            (true, _) => Some(true),
            // a whole reply has its first token at its end
            (false, None | Some(false)) => Some(false),
            (false, Some(true)) => None,
        }
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

/// Whether a request met all objectives, by what is said of each. `None` where it missed none and one of them cannot be judged.
pub(super) fn judge(
    slos: &[Slo],
    record: &Record,
    is_met: impl Fn(&Slo, &Record) -> Option<bool>,
) -> Option<bool> {
    let mut is_good = Some(true);
    for slo in slos {
        match is_met(slo, record) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => is_good = None,
        }
    }
    is_good
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
    /// Those that missed no objective, as far as can be known, and had a time that is not known: one per output token, or to a
    /// first token that no event showed. They are neither good nor bad.
    #[serde(default)]
    pub unjudged: u64,
    /// `good` ÷ (succeeded + failed − unjudged), from 0 to 1; `None` when that is 0.
    pub share: Option<f64>,
    /// `good` ÷ the run's duration, as vLLM's `request_goodput`: at least that, where some are unjudged. `None` without a
    /// duration, and where none could be judged.
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
    /// `good` ÷ those that could be judged, from 0 to 1; `None` when there was none.
    pub share: Option<f64>,
    /// `good` ÷ the run's duration; `None` without a duration.
    pub requests_per_s: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Arrival;
    use crate::record::{Outcome, Phase, Sink, StreamFacts, TokenEvent, Usage};
    use crate::summary::Tally;

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

    /// A reply of tool calls whose TPOT is not known, and its like with text, whose TPOT is 10 ms; each with a TTFT of 100 ms.
    fn replies() -> [Record; 2] {
        let at = |ms: u64| Moment::from_nanos(ms * 1_000_000);
        let mut text = Record::not_sent(0, Phase::Measured, at(0), at(500));
        text.outcome = Outcome::Success;
        (text.moments.started, text.moments.sent) = (at(0), Some(at(0)));
        text.token_events = [100, 110, 120].map(|ms| TokenEvent::new(Arrival::exact(at(ms)), None)).to_vec();
        text.usage.output_tokens = Some(3);
        text.stream = Some(StreamFacts::default());
        let tools = Record {
            usage: Usage { output_tokens: Some(30), ..Usage::default() },
            stream: Some(StreamFacts { tool_calls: true, ..StreamFacts::default() }),
            ..text.clone()
        };
        [tools, text]
    }

    #[test]
    fn a_time_per_token_that_is_not_known_is_neither_good_nor_bad() {
        let [tools, text] = replies();
        let judge = |slos: &[&str], record: &Record| {
            let slos: Vec<Slo> = slos.iter().map(|slo| slo.parse().expect("an objective")).collect();
            super::judge(&slos, record, Slo::is_met)
        };
        assert_eq!(judge(&["tpot:20"], &text), Some(true));
        assert_eq!(judge(&["tpot:5"], &text), Some(false));
        assert_eq!(judge(&["tpot:20"], &tools), None);
        assert_eq!(judge(&["tpot:20", "ttft:200"], &tools), None);
        // it missed what can be known, or was not asked for what cannot
        assert_eq!(judge(&["tpot:20", "ttft:50"], &tools), Some(false));
        assert_eq!(judge(&["ttft:50", "tpot:20"], &tools), Some(false));
        assert_eq!(judge(&["ttft:200"], &tools), Some(true));
        let one = Record { usage: Usage { output_tokens: Some(1), ..Usage::default() }, ..text };
        assert_eq!(judge(&["tpot:20"], &one), Some(true));
    }

    #[test]
    fn a_first_token_that_no_event_showed_came_between_the_first_event_and_the_end() {
        let at = |ms: u64| Moment::from_nanos(ms * 1_000_000);
        let [_, text] = replies();
        let mut silent = Record {
            token_events: vec![],
            usage: Usage { output_tokens: Some(1), ..Usage::default() },
            ..text
        };
        (silent.moments.first_event, silent.moments.end) = (Some(at(100)), at(300));
        let judge = |slo: &str, record: &Record| slo.parse::<Slo>().expect("an objective").is_met(record);
        for name in ["ttft", "response_ttft"] {
            assert_eq!(judge(&format!("{name}:300"), &silent), Some(true));
            assert_eq!(judge(&format!("{name}:200"), &silent), None);
            assert_eq!(judge(&format!("{name}:99"), &silent), Some(false));
        }
        // of a whole reply all is there at the end
        silent.moments.first_event = None;
        assert_eq!((judge("ttft:300", &silent), judge("ttft:200", &silent)), (Some(true), Some(false)));
        silent.outcome =
            Outcome::Failed(crate::failure::Failure::new(crate::failure::FailureKind::EmptyReply, ""));
        assert_eq!(judge("ttft:300", &silent), Some(false));
    }

    #[test]
    fn the_share_is_of_those_that_could_be_judged() {
        let goodput = |records: &[&Record]| {
            let mut tally = Tally::default().with_slos(&["tpot:20".parse().expect("an objective")]);
            records.iter().for_each(|record| tally.record(record));
            let goodput = tally.into_summary().goodput.expect("an objective");
            (goodput.good, goodput.unjudged, goodput.share, goodput.requests_per_s)
        };
        let [tools, text] = replies();
        assert_eq!(goodput(&[&text, &tools, &tools]), (1, 2, Some(1.0), Some(2.0)));
        assert_eq!(goodput(&[&tools]), (0, 1, None, None));
    }
}
