//! From records to results: a [`Tally`] takes records in and gives a [`Summary`]. Knows no channel and no format.

mod bounded;
mod distribution;
mod goodput;
mod intervals;
mod pace;
mod sample;
mod tally;
mod timeline;
mod window;
mod worst;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use distribution::{Adjusted, Distribution, EXACT_LIMIT, Percentiles, STATISTICS, Samples, Statistic};
pub use goodput::{Goodput, GoodputAtBest, Slo, SloMetric};
pub use intervals::Intervals;
pub use sample::SampledRequest;
pub use tally::Tally;
pub use timeline::{Brief, Slice, Timeline};
pub use window::{Full, Steady, Window, Windows};
pub use worst::SlowRequest;

use crate::failure::Group;
use crate::record::{ItlSource, TpotSource};
use crate::units::ratio;

/// What one run comes to. Definitions, formulas and sources are in `docs/metrics.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Counts of requests.
    pub requests: Requests,
    /// From the first measured request's start to the last one's end, in seconds; `None` without any.
    pub duration_s: Option<f64>,
    /// When the phases of the run were, and the rates while its load was steady.
    #[serde(default)]
    pub windows: Windows,
    /// Requests that met the objectives; `None` where none were set.
    #[serde(default)]
    pub goodput: Option<Goodput>,
    /// Rates over the duration.
    pub throughput: Throughput,
    /// Sums of tokens.
    pub tokens: Tokens,
    /// Times of successful requests.
    pub latency: Latency,
    /// Mean number of requests under way during the duration.
    pub mean_in_flight: Option<f64>,
    /// Failures by kind, most frequent first.
    pub errors: Vec<ErrorLine>,
    /// Replies by HTTP status.
    pub statuses: BTreeMap<u16, u64>,
    /// Successful requests by the server's finish reason; `none` where it gave none.
    pub finish_reasons: BTreeMap<String, u64>,
    /// Connections made, kept and found closed.
    pub connections: Connections,
    /// Bytes on the wire.
    pub bytes: Bytes,
    /// What the server told of its own work on each request, by names that carry the unit.
    pub server_timings: BTreeMap<String, Distribution>,
    /// The successful requests of the longest response times, at most ten, slowest first.
    #[serde(default)]
    pub worst: Vec<SlowRequest>,
    /// Successful requests with their lengths and times, in order of their ids: all of them, or 400 that their ids
    /// alone have chosen.
    #[serde(default)]
    pub sample: Vec<SampledRequest>,
    /// The run over time, in a bounded number of slices; `None` without any request.
    #[serde(default)]
    pub timeline: Option<Timeline>,
    /// What the threads of a closed loop paused, for the server could not be reached; `None` in an open loop, where they were
    /// not to pause, and where it is not known. No record tells it: it is added to what they come to.
    #[serde(default)]
    pub backoff: Option<Backoff>,
}

/// Pauses of threads whose requests had failed before a byte of them had left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backoff {
    /// Of all threads together, in seconds.
    pub paused_s: f64,
    /// Of the time of all threads, from 0 to 1.
    pub thread_share: f64,
}

impl Backoff {
    /// That so many threads of a run that took `wall` paused for so long, all together.
    pub fn new(paused: Duration, threads: NonZeroUsize, wall: Duration) -> Self {
        let all = wall.as_secs_f64() * threads.get() as f64;
        let share = if all > 0.0 { paused.as_secs_f64() / all } else { 0.0 };
        Self { paused_s: paused.as_secs_f64(), thread_share: share.min(1.0) }
    }
}

/// Counts of requests. `sent = succeeded + failed + by_client`; warm-up and cool-down are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// Measured requests that ended, well or not.
    pub sent: u64,
    /// Those with a complete reply that held tokens.
    pub succeeded: u64,
    /// Those that went wrong at the server or on the way.
    pub failed: u64,
    /// Those that this client ended: given up at the end of the run, or for want of descriptors, ports or memory. They
    /// say nothing of the server.
    pub by_client: u64,
    /// Requests of an open loop, of any phase, that were due and never left, for the run ended first. They are in
    /// none of the other counts.
    pub not_sent: u64,
    /// `succeeded ÷ (succeeded + failed)`, from 0 to 1; `None` when there was neither.
    pub success_rate: Option<f64>,
    /// Requests of the warm-up, in no other figure but those of the steady window.
    pub warmup: u64,
    /// Requests of the cool-down, likewise.
    pub cooldown: u64,
    /// Requests of an open loop that were due when no worker was free, so that they left late.
    pub no_worker_free: u64,
    /// Measured requests that were under way while this client stood still: stopped, paused or starved.
    pub stood_still: u64,
}

impl Requests {
    /// `failed ÷ (succeeded + failed)`, from 0 to 1; `None` when there was neither.
    pub fn error_rate(&self) -> Option<f64> {
        ratio(self.failed, self.succeeded.saturating_add(self.failed))
    }
}

/// Rates over the run's duration, successful requests only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Throughput {
    /// Arrivals per second as they were due; in a closed loop the same as sent. `None` below two requests.
    pub offered_requests_per_s: Option<f64>,
    /// Requests per second as they were started. `None` below two requests.
    pub sent_requests_per_s: Option<f64>,
    /// Completions per second.
    pub requests_per_s: Option<f64>,
    /// Output tokens per second; `None` when the server gave no counts.
    pub output_tokens_per_s: Option<f64>,
    /// Input and output tokens per second; `None` when the server gave no counts.
    pub total_tokens_per_s: Option<f64>,
}

/// Sums of the server's `usage` over successful requests. `None` when no reply gave the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Prompt tokens.
    pub input: Option<u64>,
    /// Completion tokens.
    pub output: Option<u64>,
    /// Prompt tokens that the server had cached.
    pub cached: Option<u64>,
    /// Completion tokens spent on reasoning.
    pub reasoning: Option<u64>,
    /// Share of the prompt tokens that the server had in its prefix cache, from 0 to 1: by `usage` where that tells, else by the
    /// server's own metrics, of all its traffic and the warm-up's. `None` where neither does, and in results of former versions.
    pub prefix_cache_hit_share: Option<f64>,
    /// Successful replies without `usage`: their tokens are in no sum.
    pub replies_without_usage: u64,
    /// Successful replies whose `usage` counts fewer tokens than their events: one of the two is wrong. 0, too, in results of
    /// former versions.
    pub replies_contradicted: u64,
}

/// Distributions over successful requests, but for connecting: that is of all that connected. `None` where no request
/// had such a time.
///
/// Where this client read late, a time is known only to lie between two ends. The distributions are of the upper ends; beside
/// them stand those of the lower ends, `…_low`, which are `None` where every value is known. A true percentile lies between
/// that of the two, and so do mean, least and most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// End-to-end latency, ms.
    #[serde(rename = "e2e_ms")]
    pub e2e: Option<Distribution>,
    /// Time to first token, ms.
    #[serde(rename = "ttft_ms")]
    pub ttft: Option<Distribution>,
    /// Response time: as `e2e`, but from when the request was due, so that lag and connecting are in it, ms.
    #[serde(rename = "response_e2e_ms")]
    pub response_e2e: Option<Distribution>,
    /// Response time to first token: as `ttft`, but from when the request was due, ms.
    #[serde(rename = "response_ttft_ms")]
    pub response_ttft: Option<Distribution>,
    /// How late requests were started after they were due, of all requests, ms; zero in a closed loop.
    #[serde(rename = "lag_ms")]
    pub lag: Option<Distribution>,
    /// Percentiles of `e2e` with each failure taken as endless, ms.
    #[serde(rename = "adj_e2e_ms")]
    pub adj_e2e: Option<Adjusted>,
    /// Percentiles of `ttft` likewise, ms; `None`, too, where no reply was streamed.
    #[serde(rename = "adj_ttft_ms")]
    pub adj_ttft: Option<Adjusted>,
    /// Percentiles of `response_e2e` likewise, ms.
    #[serde(rename = "adj_response_e2e_ms")]
    pub adj_response_e2e: Option<Adjusted>,
    /// Percentiles of `response_ttft` likewise, ms.
    #[serde(rename = "adj_response_ttft_ms")]
    pub adj_response_ttft: Option<Adjusted>,
    /// Time per output token, ms; of the replies of which it is known.
    #[serde(rename = "tpot_ms")]
    pub tpot: Option<Distribution>,
    /// How it is known; the least certain of those in it, or unknown where there is none. `None` where no reply had
    /// tokens after the first, and in results of former versions.
    pub tpot_source: Option<TpotSource>,
    /// Successful replies whose time per output token is not known; `None` in results of former versions.
    pub tpot_unknown: Option<u64>,
    /// Inter-token latency over all tokens of the replies of which it is known, ms.
    #[serde(rename = "itl_ms")]
    pub itl: Option<Distribution>,
    /// How the tokens of the inter-token latencies were counted; the least certain of those in it, or unknown where
    /// there is none.
    pub itl_source: Option<ItlSource>,
    /// Successful replies with gaps between their token events whose inter-token latencies are not known; `None` in
    /// results of former versions.
    pub itl_unknown: Option<u64>,
    /// Gaps between events that bore tokens, ms.
    #[serde(rename = "inter_event_ms")]
    pub inter_event: Option<Distribution>,
    /// Time to first byte, ms.
    #[serde(rename = "ttfb_ms")]
    pub ttfb: Option<Distribution>,
    /// Time to the first event of any kind, ms.
    #[serde(rename = "ttfe_ms")]
    pub ttfe: Option<Distribution>,
    /// Connecting, for requests that opened a connection, ms.
    #[serde(rename = "connect_ms")]
    pub connect: Option<Distribution>,
    /// The part of `connect` that looked the server's name up, ms; of requests that did.
    #[serde(rename = "dns_ms")]
    pub dns: Option<Distribution>,
    /// The part of `connect` that made the TCP connection, ms.
    #[serde(rename = "tcp_ms")]
    pub tcp: Option<Distribution>,
    /// The part of `connect` that was the TLS handshake, ms.
    #[serde(rename = "tls_ms")]
    pub tls: Option<Distribution>,
    /// How long reads returned after the kernel had the last of their bytes, ms: this client's own delay. Of all requests;
    /// `None` where no read was stamped.
    #[serde(rename = "read_delay_ms")]
    pub read_delay: Option<Distribution>,
    /// Share of the reads whose moments are the kernel's, from 0 to 1; the others' are later by the delay.
    pub kernel_stamped_share: Option<f64>,
    /// Input tokens a request.
    pub input_tokens: Option<Distribution>,
    /// Output tokens a request.
    pub output_tokens: Option<Distribution>,
    /// Mean output tokens per token event; `None` without counts.
    pub tokens_per_event: Option<f64>,
    /// Mean events per read of the socket.
    pub events_per_read: Option<f64>,
    /// The lower ends of `e2e`, ms; `None` where all of it is known.
    #[serde(rename = "e2e_low_ms", skip_serializing_if = "Option::is_none")]
    pub e2e_low: Option<Distribution>,
    /// The lower ends of `ttft`, ms; `None` where all of it is known.
    #[serde(rename = "ttft_low_ms", skip_serializing_if = "Option::is_none")]
    pub ttft_low: Option<Distribution>,
    /// The lower ends of `response_e2e`, ms; `None` where all of it is known.
    #[serde(rename = "response_e2e_low_ms", skip_serializing_if = "Option::is_none")]
    pub response_e2e_low: Option<Distribution>,
    /// The lower ends of `response_ttft`, ms; `None` where all of it is known.
    #[serde(rename = "response_ttft_low_ms", skip_serializing_if = "Option::is_none")]
    pub response_ttft_low: Option<Distribution>,
    /// The lower ends of `tpot`, ms; `None` where all of it is known.
    #[serde(rename = "tpot_low_ms", skip_serializing_if = "Option::is_none")]
    pub tpot_low: Option<Distribution>,
    /// The lower ends of `itl`, ms; `None` where all of it is known.
    #[serde(rename = "itl_low_ms", skip_serializing_if = "Option::is_none")]
    pub itl_low: Option<Distribution>,
    /// The lower ends of `inter_event`, ms; `None` where all of it is known.
    #[serde(rename = "inter_event_low_ms", skip_serializing_if = "Option::is_none")]
    pub inter_event_low: Option<Distribution>,
    /// The lower ends of `adj_e2e`, ms; `None` where all of it is known.
    #[serde(rename = "adj_e2e_low_ms", skip_serializing_if = "Option::is_none")]
    pub adj_e2e_low: Option<Adjusted>,
    /// The lower ends of `adj_ttft`, ms; `None` where all of it is known.
    #[serde(rename = "adj_ttft_low_ms", skip_serializing_if = "Option::is_none")]
    pub adj_ttft_low: Option<Adjusted>,
    /// The lower ends of `adj_response_e2e`, ms; `None` where all of it is known.
    #[serde(rename = "adj_response_e2e_low_ms", skip_serializing_if = "Option::is_none")]
    pub adj_response_e2e_low: Option<Adjusted>,
    /// The lower ends of `adj_response_ttft`, ms; `None` where all of it is known.
    #[serde(rename = "adj_response_ttft_low_ms", skip_serializing_if = "Option::is_none")]
    pub adj_response_ttft_low: Option<Adjusted>,
    /// Share of the successful requests with a moment that is not known to the millisecond, 0 to 1; `None` without any
    /// success, and in results of versions that did not tell it.
    pub uncertain_requests_share: Option<f64>,
    /// Share of the gaps between token events of which an end is not known to the millisecond, 0 to 1; `None` likewise.
    pub uncertain_gaps_share: Option<f64>,
    /// How long this client stood still while measured requests were under way, added up over the requests, s; `None` in
    /// results of versions that did not tell it.
    pub stood_still_s: Option<f64>,
}

/// One kind of failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorLine {
    /// Name of the kind.
    pub kind: String,
    /// The documented group it belongs to.
    pub group: Group,
    /// What it means.
    pub meaning: Cow<'static, str>,
    /// Requests that ended so.
    pub count: u64,
    /// The message of the first of them.
    pub example: String,
    /// The number of the first of them.
    pub first_request: u64,
    /// When the first and the last of them ended, in seconds from the start of the run's first request.
    #[serde(default)]
    pub first_s: f64,
    /// See `first_s`.
    #[serde(default)]
    pub last_s: f64,
    /// How long the server asked to be left alone, if it did.
    pub retry_after_s: Option<RetryAfter>,
}

/// The least and the most that `Retry-After` said, in seconds. Nothing is sent again because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryAfter {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

/// Connections of the measured requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connections {
    /// Requests that opened one.
    pub opened: u64,
    /// Requests over a kept one.
    pub reused: u64,
    /// Requests sent again because a kept connection turned out to be closed.
    pub stale_retries: u64,
}

/// Bytes of the measured requests, heads included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bytes {
    /// Written.
    pub sent: u64,
    /// Read.
    pub received: u64,
}
