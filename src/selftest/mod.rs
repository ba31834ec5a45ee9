//! The measurer measured: runs of this very command against a simulated server that knows the truth, from one stream to
//! thousands.
//!
//! The server and the log of what it did are in this process; each run is a process of its own, started as a user starts
//! it. So CPU time and peak memory are those of that run alone, and nothing but its own JSON tells what it reported.

mod client;
mod disturbed;
mod ends;
mod table;
mod trial;

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use serde::Serialize;

pub use ends::Ends;
pub use table::print;
pub use trial::{run, this_program};

use crate::accuracy::{Accuracy, Pace, Spread};
use crate::health::Environment;
use crate::keeper;
use crate::priority;
use crate::units::as_seconds;

/// What a self-test is to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Streams at once: one run for each number.
    pub streams: Vec<NonZeroUsize>,
    /// Tokens of a reply.
    pub tokens: NonZeroU64,
    /// Time between the tokens of a stream; `None` takes one for each number of streams.
    pub gap: Option<Duration>,
    /// Requests of each stream; `None` takes as many as fit into some seconds.
    pub requests: Option<NonZeroU64>,
    /// What the client is to have, and to bear.
    pub client: Client,
}

/// What the client under test has, and what it has to bear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Client {
    /// Threads that are kept busy beside it.
    pub busy: usize,
    /// Whether its process is stopped now and then.
    pub stops: bool,
    /// Whether it may have a keeper of stamps.
    pub keeper: keeper::Mode,
    /// The priority that its threads ask for.
    #[serde(rename = "client_priority")]
    pub priority: priority::Wanted,
}

impl Client {
    /// Whether something is to keep it from its work.
    pub fn is_disturbed(&self) -> bool {
        self.busy > 0 || self.stops
    }
}

impl Default for Settings {
    fn default() -> Self {
        let streams = [1, 20, 200, 1_000, 4_000].into_iter().filter_map(NonZeroUsize::new).collect();
        let tokens = NonZeroU64::new(32).expect("32 is not 0");
        Self { streams, tokens, gap: None, requests: None, client: Client::default() }
    }
}

/// One run to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// Threads, each with one stream at a time.
    pub streams: NonZeroUsize,
    /// Requests in all.
    pub requests: NonZeroU64,
    /// Tokens of a reply, each in an event of its own.
    pub tokens: NonZeroU64,
    /// From a request's arrival to its first token.
    #[serde(rename = "ttft_s", serialize_with = "as_seconds")]
    pub ttft: Duration,
    /// From a token to the next.
    #[serde(rename = "gap_s", serialize_with = "as_seconds")]
    pub gap: Duration,
    /// What the client has, and has to bear.
    #[serde(flatten)]
    pub client: Client,
}

/// The shortest gap that is taken unasked.
const SHORTEST_GAP: Duration = Duration::from_millis(10);
/// What each stream adds to the gap, so that all together get 20,000 tokens a second at most.
const GAP_PER_STREAM: Duration = Duration::from_micros(50);
/// The first token takes as long as so many others.
const FIRST_TOKEN: u32 = 5;
/// How long the streams of one run go on, unasked.
const RUN: Duration = Duration::from_secs(6);
/// Fewest requests of a stream, unasked: one over a new connection and one over a kept one.
const FEWEST: u64 = 2;

impl Settings {
    /// The runs, in the order that was asked for.
    pub fn trials(&self) -> Vec<Trial> {
        self.streams.iter().map(|streams| self.trial(*streams)).collect()
    }

    fn trial(&self, streams: NonZeroUsize) -> Trial {
        let count = u32::try_from(streams.get()).unwrap_or(u32::MAX);
        let gap = self.gap.unwrap_or_else(|| SHORTEST_GAP.max(GAP_PER_STREAM.saturating_mul(count)));
        let ttft = gap.saturating_mul(FIRST_TOKEN);
        let trial =
            Trial { streams, requests: NonZeroU64::MIN, tokens: self.tokens, ttft, gap, client: self.client };
        let of_each = self
            .requests
            .map_or_else(|| (RUN.div_duration_f64(trial.reply()).ceil() as u64).max(FEWEST), NonZeroU64::get);
        let all = of_each.saturating_mul(u64::from(count));
        Trial { requests: NonZeroU64::new(all).unwrap_or(NonZeroU64::MIN), ..trial }
    }
}

impl Trial {
    /// The pace that the simulated server is to keep.
    fn pace(&self) -> Pace {
        Pace { ttft: self.ttft, gap: self.gap }
    }

    /// How long one reply takes.
    fn reply(&self) -> Duration {
        self.pace().reply(self.tokens.get())
    }

    /// How long the run takes if nothing is late.
    pub fn planned(&self) -> Duration {
        let of_each = self.requests.get().div_ceil(self.streams.get() as u64);
        self.reply().saturating_mul(u32::try_from(of_each).unwrap_or(u32::MAX))
    }

    /// What the p99 error of TTFT should not exceed, ms; `None` where no goal is set.
    pub fn goal_ms(&self) -> Option<f64> {
        match self.streams.get() {
            _ if self.client.is_disturbed() => Some(0.5),
            ..=200 => Some(0.2),
            201..=1_000 => Some(1.0),
            _ => None,
        }
    }
}

/// A run, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was to be done.
    #[serde(flatten)]
    pub trial: Trial,
    /// What was found; `None` when the run could not be made.
    pub found: Option<Found>,
    /// Why the run could not be made, or not as planned.
    pub problem: Option<String>,
}

/// What a run showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// Reported minus true.
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// Tokens that the client reported.
    pub output_tokens: u64,
    /// User and system time of the client ÷ tokens, µs; `None` if unknown.
    pub cpu_us_per_token: Option<f64>,
    /// Largest resident memory of the client, bytes; `None` if unknown.
    pub peak_rss_bytes: Option<u64>,
    /// Whether the true percentiles lie between the ends that the client reports.
    pub ends: Vec<Ends>,
    /// How late the simulated server itself wrote its events.
    #[serde(rename = "server_late_ms")]
    pub server_late: Option<Spread>,
    /// The client's verdict on itself, as its own report has it.
    pub client_verdict: String,
    /// What the p99 error of TTFT should not exceed, ms; `None` where no goal is set.
    pub ttft_goal_ms: Option<f64>,
    /// Whether it does not; `None` where no goal is set or nothing was compared.
    pub ttft_goal_met: Option<bool>,
}

impl Row {
    /// Whether the run was made as planned.
    pub fn is_whole(&self) -> bool {
        self.found.is_some() && self.problem.is_none()
    }
}

/// All runs and where they were made, as the JSON has them.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// Number of the form.
    pub schema: u32,
    /// The tool that was tested.
    pub tool: crate::report::Tool,
    /// When the self-test began, UTC, RFC 3339.
    pub started: String,
    /// Where it was made.
    pub environment: Environment,
    /// Mean number of tasks that wanted a core over the minute before it began; `None` if unknown.
    pub load_average: Option<f64>,
    /// One for each number of streams that was come to.
    pub rows: Vec<Row>,
}

/// Number of the JSON's form.
pub const SCHEMA: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(streams: usize, settings: &Settings) -> Trial {
        settings.trial(NonZeroUsize::new(streams).expect("some streams"))
    }

    #[test]
    fn unasked_the_whole_takes_less_than_a_minute_at_a_bearable_rate() {
        let trials = Settings::default().trials();
        let planned: Duration = trials.iter().map(Trial::planned).sum();
        assert!(planned < Duration::from_secs(50), "{planned:?}");
        for trial in trials {
            assert!(trial.streams.get() as f64 / trial.gap.as_secs_f64() <= 20_000.5, "{trial:?}");
            assert!(trial.requests.get() >= 2 * trial.streams.get() as u64, "{trial:?}");
        }
    }

    #[test]
    fn what_is_asked_is_done() {
        let settings = Settings {
            gap: Some(Duration::from_millis(1)),
            tokens: NonZeroU64::new(4).expect("4"),
            requests: NonZeroU64::new(3),
            ..Settings::default()
        };
        let trial = trial(7, &settings);
        assert_eq!((trial.requests.get(), trial.tokens.get()), (21, 4));
        assert_eq!(trial.planned(), Duration::from_millis(3 * (5 + 3)));
        let absurd = Settings {
            tokens: NonZeroU64::MAX,
            gap: Some(Duration::MAX),
            requests: NonZeroU64::new(u64::MAX),
            ..settings
        };
        assert_eq!(absurd.trial(NonZeroUsize::MAX).planned(), Duration::MAX);
    }

    #[test]
    fn goals_are_set_up_to_a_thousand_streams() {
        let goal = |streams| trial(streams, &Settings::default()).goal_ms();
        assert_eq!(
            (goal(1), goal(200), goal(201), goal(1_000)),
            (Some(0.2), Some(0.2), Some(1.0), Some(1.0))
        );
        assert_eq!(goal(1_001), None);
    }
}
