//! Counters and histograms of a run that is going on, under names that begin with `vllm_loadgen_`.
//!
//! The edges of the histograms are vLLM's own, so that the same quantile of client and server can be laid over each other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::exposition::{Family, Kind, Labels, Sample, write_text};
use super::series;
use crate::plan::Plan;
use crate::record::{Pulse, Record, Sink};
use crate::report::Tool;

/// The metrics of all runs of this process. Cheap to clone; every clone is the same.
#[derive(Clone, Debug, Default)]
pub struct LiveMetrics(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By the labels of their series: runs that are alike go on counting where the last ended.
    series: Vec<(Labels, Counts)>,
    /// The results of the runs that have ended, as text.
    results: Vec<u8>,
}

/// Takes in the records of one run.
pub struct LiveRun {
    metrics: LiveMetrics,
    /// Which series.
    number: usize,
    is_open: bool,
}

/// What one series has counted. Warm-up and cool-down are in it: it tells of what is going on.
#[derive(Debug)]
struct Counts {
    /// Requests that ended, by outcome and HTTP status.
    requests: Vec<((&'static str, Option<u16>), u64)>,
    in_flight: u64,
    input_tokens: u64,
    output_tokens: u64,
    ttft: Histogram,
    itl: Histogram,
    tpot: Histogram,
    e2e: Histogram,
    lag: Histogram,
}

/// vLLM's edges for the time to first token, s.
const TTFT_EDGES: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
/// vLLM's edges for inter-token latency and time per output token, s, with three below for fast decoding.
const ITL_EDGES: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
    10.0, 20.0, 40.0, 80.0,
];
/// vLLM's edges for the end-to-end latency, s.
const E2E_EDGES: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];
/// Lateness is far smaller than latency where all is well, s.
const LAG_EDGES: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0];

/// Values counted by the first edge that is not below them.
#[derive(Debug)]
struct Histogram {
    edges: &'static [f64],
    /// One for each edge, and one for what is above them all.
    counts: Vec<u64>,
    /// s.
    sum: f64,
}

impl Histogram {
    fn new(edges: &'static [f64]) -> Self {
        Self { edges, counts: vec![0; edges.len() + 1], sum: 0.0 }
    }

    fn add(&mut self, time: Duration, times: u32) {
        let seconds = time.as_secs_f64();
        self.counts[self.edges.partition_point(|edge| *edge < seconds)] += u64::from(times);
        self.sum += seconds * f64::from(times);
    }

    fn add_some(&mut self, time: Option<Duration>) {
        if let Some(time) = time {
            self.add(time, 1);
        }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            requests: Vec::new(),
            in_flight: 0,
            input_tokens: 0,
            output_tokens: 0,
            ttft: Histogram::new(TTFT_EDGES),
            itl: Histogram::new(ITL_EDGES),
            tpot: Histogram::new(ITL_EDGES),
            e2e: Histogram::new(E2E_EDGES),
            lag: Histogram::new(LAG_EDGES),
        }
    }
}

impl LiveMetrics {
    /// A sink for the run of this plan.
    pub fn run(&self, plan: &Plan) -> LiveRun {
        let labels = series::of_plan(plan);
        let mut state = self.0.lock();
        let known = state.series.iter().position(|(known, _)| *known == labels);
        let number = known.unwrap_or_else(|| {
            state.series.push((labels, Counts::default()));
            state.series.len() - 1
        });
        LiveRun { metrics: self.clone(), number, is_open: plan.load.is_open() }
    }

    /// From now on, these results of ended runs are told too; they are metrics as text.
    pub fn set_results(&self, results: Vec<u8>) {
        self.0.lock().results = results;
    }

    /// All of it in Prometheus' text format.
    pub fn text(&self) -> Vec<u8> {
        let (families, results) = {
            let state = self.0.lock();
            (state.families(), state.results.clone())
        };
        let mut text = Vec::new();
        let written: io::Result<()> = write_text(&families, &mut text);
        written.expect("a vector takes all");
        text.extend(results);
        text
    }
}

impl Sink for LiveRun {
    fn record(&mut self, record: &Record) {
        let mut state = self.metrics.0.lock();
        let Some((_, counts)) = state.series.get_mut(self.number) else { return };
        counts.count(record);
        if record.was_started() && self.is_open {
            counts.lag.add(record.lag(), 1);
        }
    }

    fn pulse(&mut self, pulse: &Pulse) {
        self.set_in_flight(pulse.in_flight);
    }
}

impl LiveRun {
    fn set_in_flight(&self, in_flight: u64) {
        if let Some((_, counts)) = self.metrics.0.lock().series.get_mut(self.number) {
            counts.in_flight = in_flight;
        }
    }
}

/// Nothing of an ended run is under way.
impl Drop for LiveRun {
    fn drop(&mut self) {
        self.set_in_flight(0);
    }
}

impl Counts {
    fn count(&mut self, record: &Record) {
        let outcome = match record.failure() {
            None => "succeeded",
            Some(_) if !record.was_started() => "not_sent",
            Some(failure) if failure.kind.is_of_client() => "by_client",
            Some(_) => "failed",
        };
        let kind = (outcome, record.status);
        match self.requests.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += record.arrivals,
            None => self.requests.push((kind, record.arrivals)),
        }
        if !record.is_success() {
            return;
        }
        self.input_tokens = self.input_tokens.saturating_add(record.usage.input_tokens.unwrap_or_default());
        self.output_tokens =
            self.output_tokens.saturating_add(record.usage.output_tokens.unwrap_or_default());
        self.ttft.add_some(record.ttft());
        self.tpot.add_some(record.tpot());
        self.e2e.add_some(record.e2e());
        for (latency, tokens) in record.itl().1 {
            self.itl.add(latency, tokens);
        }
    }
}

/// A number of a series.
type Number = fn(&Counts) -> u64;
/// A histogram of a series.
type Times = fn(&Counts) -> &Histogram;

const NUMBERS: [(&str, Kind, &str, Number); 3] = [
    ("vllm_loadgen_requests_in_flight", Kind::Gauge, "Requests under way, at most 0.2 s ago.", |c| {
        c.in_flight
    }),
    (
        "vllm_loadgen_input_tokens_total",
        Kind::Counter,
        "Prompt tokens of successful requests, as the server counted them.",
        |c| c.input_tokens,
    ),
    (
        "vllm_loadgen_output_tokens_total",
        Kind::Counter,
        "Output tokens of successful requests, as the server counted them.",
        |c| c.output_tokens,
    ),
];

const TIMES: [(&str, &str, Times); 5] = [
    ("vllm_loadgen_ttft_seconds", "Time to first token of successful requests.", |c| &c.ttft),
    (
        "vllm_loadgen_itl_seconds",
        "Time between tokens of successful requests, a value for each token.",
        |c| &c.itl,
    ),
    ("vllm_loadgen_tpot_seconds", "Time per output token after the first, a value for each request.", |c| {
        &c.tpot
    }),
    ("vllm_loadgen_e2e_seconds", "End-to-end latency of successful requests.", |c| &c.e2e),
    (
        "vllm_loadgen_send_lag_seconds",
        "Open loops: how late requests were started after they were due.",
        |c| &c.lag,
    ),
];

impl State {
    fn families(&self) -> Vec<Family> {
        let mut build = Family::new("vllm_loadgen_build_info", Kind::Info, "Which build this is; always 1.");
        let tool = Tool::THIS;
        let named = [("version", tool.version.into_owned()), ("commit", tool.commit.into_owned())];
        build.push(named.map(|(name, value)| (name.into(), value)).into(), 1.0);
        let mut requests = Family::new(
            "vllm_loadgen_requests_total",
            Kind::Counter,
            "Requests that ended, warm-up and cool-down too, by outcome and HTTP status.",
        );
        for (labels, counts) in &self.series {
            for ((outcome, status), count) in &counts.requests {
                let code = status.map_or("none".to_owned(), |status| status.to_string());
                let more = [("outcome".into(), (*outcome).to_owned()), ("code".into(), code)];
                requests.push(labels.iter().cloned().chain(more).collect(), *count as f64);
            }
        }
        let mut all = vec![build, requests];
        all.extend(NUMBERS.iter().map(|(name, kind, help, number)| {
            let mut family = Family::new(name, *kind, help);
            self.series
                .iter()
                .for_each(|(labels, counts)| family.push(labels.clone(), number(counts) as f64));
            family
        }));
        all.extend(TIMES.iter().map(|(name, help, times)| {
            let mut family = Family::new(name, Kind::Histogram, help);
            let told = self.series.iter().map(|(labels, counts)| (labels, times(counts)));
            told.for_each(|(labels, histogram)| histogram.write(labels, &mut family));
            family
        }));
        all
    }
}

impl Histogram {
    /// Adds its series; none where it is empty.
    fn write(&self, labels: &Labels, family: &mut Family) {
        let count: u64 = self.counts.iter().sum();
        if count == 0 {
            return;
        }
        let mut push = |suffix, part, value| {
            family.samples.push(Sample { suffix, labels: labels.clone(), part, value, at_ms: 0 });
        };
        let mut below = 0;
        for (edge, count) in self.edges.iter().zip(&self.counts) {
            below += count;
            push("_bucket", Some(("le", edge.to_string().into())), below as f64);
        }
        push("_bucket", Some(("le", "+Inf".into())), count as f64);
        push("_sum", None, self.sum);
        push("_count", None, count as f64);
    }
}
