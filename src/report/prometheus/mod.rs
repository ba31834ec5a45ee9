//! The results of runs as metrics for Prometheus, under names that begin with `vllm_loadgen_run_`. They are described in
//! `docs/monitoring.md`, each with its type and unit.
//!
//! A figure that a run does not have is left out: there is no NaN and no 0 in its place.

mod exposition;
mod history;
mod live;
mod push;
mod series;

use std::io::{self, Write};

pub use exposition::{Family, Kind, Labels, Sample, TEXT_TYPE, write_text};
pub use history::History;
pub use live::{LiveMetrics, LiveRun};
pub use push::{PushGroup, push_groups};
pub use series::{apart, of_plan, series_labels, value_labels};

use super::Report;
use super::naming::is_open;
use crate::analysis::Outcome;
use crate::clock::Date;
use crate::health::Verdict;
use crate::summary::{Distribution, Statistic};

/// Writes the results of runs in Prometheus' text format. Each run has series of its own.
///
/// # Errors
/// Those of the writer.
pub fn write_prometheus(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    let labelled: Vec<_> = reports.iter().zip(series_labels(reports)).collect();
    write_text(&families(&labelled), out)
}

/// When the run ended, in milliseconds since 1970; `None` where the report does not tell.
fn ended_ms(report: &Report) -> Option<i64> {
    Date::parse(&report.ended).map(Date::unix_ms)
}

/// The quantiles of a distribution that are written.
const QUANTILES: [Statistic; 5] = [
    ("0.5", |d| d.percentiles.p50),
    ("0.9", |d| d.percentiles.p90),
    ("0.95", |d| d.percentiles.p95),
    ("0.99", |d| d.percentiles.p99),
    ("0.999", |d| d.percentiles.p99_9),
];

/// A figure of a run; `None` where it has none.
type Figure = fn(&Report) -> Option<f64>;
/// A distribution of times, in milliseconds, likewise.
type Times = for<'r> fn(&'r Report) -> Option<&'r Distribution>;

/// The runs with their labels, as families; each sample with the time at which its run ended.
fn families(runs: &[(&Report, Labels)]) -> Vec<Family> {
    let mut all: Vec<Family> =
        TIMES.iter().map(|(name, help, times)| summary(runs, name, help, *times)).collect();
    all.extend(LOWER_ENDS.iter().map(|(name, help, times)| summary(runs, name, help, *times)));
    all.extend(GAUGES.iter().map(|(name, help, figure)| {
        each(runs, Family::new(name, Kind::Gauge, help), |report| {
            figure(report).map(|value| (vec![], value)).into_iter().collect()
        })
    }));
    all.extend([
        each(
            runs,
            Family::new("vllm_loadgen_run_requests", Kind::Gauge, "Measured requests by what came of them."),
            requests,
        ),
        each(
            runs,
            Family::new("vllm_loadgen_run_errors", Kind::Gauge, "Requests that failed, by kind of failure."),
            errors,
        ),
        each(
            runs,
            Family::new(
                "vllm_loadgen_run_threshold_failed",
                Kind::Gauge,
                "1 where the threshold failed, 0 where it passed or is inconclusive.",
            ),
            thresholds,
        ),
        each(
            runs,
            Family::new("vllm_loadgen_run_info", Kind::Info, "What was run, and with what; always 1."),
            |report| vec![(series::info_labels(report), 1.0)],
        ),
    ]);
    all
}

const TIMES: [(&str, &str, Times); 7] = [
    (
        "vllm_loadgen_run_ttft_seconds",
        "Time to first token of successful requests, from when they were sent.",
        |r| r.summary.latency.ttft.as_ref(),
    ),
    ("vllm_loadgen_run_itl_seconds", "Time between tokens, over all tokens of successful requests.", |r| {
        r.summary.latency.itl.as_ref()
    }),
    (
        "vllm_loadgen_run_tpot_seconds",
        "Time per output token after the first, a value for each request.",
        |r| r.summary.latency.tpot.as_ref(),
    ),
    (
        "vllm_loadgen_run_e2e_seconds",
        "End-to-end latency of successful requests, from when they were sent.",
        |r| r.summary.latency.e2e.as_ref(),
    ),
    (
        "vllm_loadgen_run_response_ttft_seconds",
        "Open loops: time to first token from when requests were due.",
        |r| r.summary.latency.response_ttft.as_ref().filter(|_| is_open(r)),
    ),
    (
        "vllm_loadgen_run_response_e2e_seconds",
        "Open loops: end-to-end latency from when requests were due.",
        |r| r.summary.latency.response_e2e.as_ref().filter(|_| is_open(r)),
    ),
    (
        "vllm_loadgen_run_send_lag_seconds",
        "Open loops: how late requests were started after they were due.",
        |r| r.summary.latency.lag.as_ref().filter(|_| is_open(r)),
    ),
];

/// Where this client was late: the lower ends of times of which `TIMES` has the upper ones.
const LOWER_ENDS: [(&str, &str, Times); 6] = [
    (
        "vllm_loadgen_run_ttft_low_seconds",
        "Lower ends of times to first token, where this client was late and they are not known.",
        |r| r.summary.latency.ttft_low.as_ref(),
    ),
    (
        "vllm_loadgen_run_itl_low_seconds",
        "Lower ends of times between tokens, where this client was late and they are not known.",
        |r| r.summary.latency.itl_low.as_ref(),
    ),
    (
        "vllm_loadgen_run_tpot_low_seconds",
        "Lower ends of times per output token, where this client was late and they are not known.",
        |r| r.summary.latency.tpot_low.as_ref(),
    ),
    (
        "vllm_loadgen_run_e2e_low_seconds",
        "Lower ends of end-to-end latencies, where this client was late and they are not known.",
        |r| r.summary.latency.e2e_low.as_ref(),
    ),
    (
        "vllm_loadgen_run_response_ttft_low_seconds",
        "Open loops: lower ends of times to first token from when requests were due, where they are not known.",
        |r| r.summary.latency.response_ttft_low.as_ref().filter(|_| is_open(r)),
    ),
    (
        "vllm_loadgen_run_response_e2e_low_seconds",
        "Open loops: lower ends of end-to-end latencies from when requests were due, where they are not known.",
        |r| r.summary.latency.response_e2e_low.as_ref().filter(|_| is_open(r)),
    ),
];

const GAUGES: [(&str, &str, Figure); 11] = [
    ("vllm_loadgen_run_output_tokens_per_second", "Output tokens per second over the run's duration.", |r| {
        r.summary.throughput.output_tokens_per_s
    }),
    (
        "vllm_loadgen_run_requests_per_second",
        "Successful requests per second over the run's duration.",
        |r| r.summary.throughput.requests_per_s,
    ),
    (
        "vllm_loadgen_run_error_ratio",
        "Failed requests as a share of those that succeeded or failed, 0 to 1.",
        |r| r.summary.requests.error_rate(),
    ),
    ("vllm_loadgen_run_goodput_ratio", "Requests that met every objective as a share of all, 0 to 1.", |r| {
        r.summary.goodput.as_ref()?.share
    }),
    (
        "vllm_loadgen_run_goodput_at_best_ratio",
        "Requests that may have met every objective as a share of all, 0 to 1, where this client was late and it is more.",
        |r| r.summary.goodput.as_ref()?.at_best?.share,
    ),
    (
        "vllm_loadgen_run_prefix_cache_hit_ratio",
        "Prompt tokens that the server had in its prefix cache as a share of all, 0 to 1.",
        Report::prefix_cache_hit_share,
    ),
    (
        "vllm_loadgen_run_uncertain_requests_ratio",
        "Requests with a moment that is not known to the millisecond, for this client was late, as a share of all, 0 to 1.",
        |r| r.summary.latency.uncertain_requests_share,
    ),
    (
        "vllm_loadgen_run_duration_seconds",
        "From the first measured request's start to the last one's end.",
        |r| r.summary.duration_s,
    ),
    ("vllm_loadgen_run_start_timestamp_seconds", "When the run began, in seconds since 1970.", |r| {
        seconds(&r.started)
    }),
    ("vllm_loadgen_run_end_timestamp_seconds", "When the run ended, in seconds since 1970.", |r| {
        seconds(&r.ended)
    }),
    (
        "vllm_loadgen_run_client_valid",
        "0 where the client judged itself INVALID, so that the figures are not the server's alone; else 1.",
        |r| Some(f64::from(u8::from(r.health.verdict != Verdict::Invalid))),
    ),
];

fn seconds(date: &str) -> Option<f64> {
    Date::parse(date).map(Date::unix_seconds)
}

/// The family with what each run has for it.
fn each(
    runs: &[(&Report, Labels)],
    mut family: Family,
    values: impl Fn(&Report) -> Vec<(Labels, f64)>,
) -> Family {
    for (report, labels) in runs {
        for (more, value) in values(report) {
            let labels = labels.iter().cloned().chain(more).collect();
            family.samples.push(Sample {
                suffix: "",
                labels,
                part: None,
                value,
                at_ms: ended_ms(report).unwrap_or_default(),
            });
        }
    }
    family
}

fn summary(runs: &[(&Report, Labels)], name: &'static str, help: &'static str, times: Times) -> Family {
    let mut family = Family::new(name, Kind::Summary, help);
    for (report, labels) in runs {
        let Some(found) = times(report) else { continue };
        let at_ms = ended_ms(report).unwrap_or_default();
        let mut push = |suffix, part, value| {
            family.samples.push(Sample { suffix, labels: labels.clone(), part, value, at_ms });
        };
        for (quantile, value) in QUANTILES {
            push("", Some(("quantile", quantile.into())), value(found) / 1e3);
        }
        push("_sum", None, found.mean * found.count as f64 / 1e3);
        push("_count", None, found.count as f64);
    }
    family
}

fn one(name: &'static str, value: impl Into<String>) -> Labels {
    vec![(name.into(), value.into())]
}

fn requests(report: &Report) -> Vec<(Labels, f64)> {
    let requests = &report.summary.requests;
    let counts = [
        ("succeeded", requests.succeeded),
        ("failed", requests.failed),
        ("by_client", requests.by_client),
        ("not_sent", requests.not_sent),
    ];
    counts.map(|(outcome, count)| (one("outcome", outcome), count as f64)).into()
}

fn errors(report: &Report) -> Vec<(Labels, f64)> {
    report
        .summary
        .errors
        .iter()
        .map(|line| (one("kind", series::value(&line.kind)), line.count as f64))
        .collect()
}

/// A threshold that was given twice is told once.
fn thresholds(report: &Report) -> Vec<(Labels, f64)> {
    let mut told: Vec<(Labels, f64)> = Vec::new();
    for judged in &report.thresholds {
        let labels = one("threshold", series::value(&judged.threshold));
        if told.iter().all(|(before, _)| *before != labels) {
            told.push((labels, f64::from(u8::from(judged.verdict == Outcome::Failed))));
        }
    }
    told
}
