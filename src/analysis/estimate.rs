//! One figure of one run, with how sure it is.

use serde::{Deserialize, Serialize};

use crate::arrivals::Process;
use crate::plan::{Load, Metric, Quantity, Stat};
use crate::stats::{Interval, NORMAL, share_interval};
use crate::summary::{Distribution, Goodput, Latency, Summary};

/// A figure of one run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure, in its metric's unit.
    pub value: f64,
    /// Where it may lie, 95 %, as far as this run's requests tell; `None` where that has no known form (least, most and
    /// standard deviation), or where the result is of a version that did not tell it.
    pub interval: Option<Interval>,
    /// Requests, or connections, that it is of and that count as independent.
    pub n: u64,
}

/// What a run's figure is; `None` where the run has no such value.
///
/// Intervals of times are those of [`Intervals`](crate::summary::Intervals); of shares Wilson's. A rate's is that of a
/// renewal process, rate × (1 ± 1.96 c ÷ √n), where c is std ÷ mean of the times between the n completions of a thread,
/// its E2E latencies; in an open loop of the gaps between arrivals, at least 1. For tokens c² is the sum of that and of
/// (std ÷ mean)² of the tokens of a reply, and for goodput of the share p of completions that were good it is
/// 1 − p + p c² (Cox, *Renewal Theory*, 1962, ch. 8 and 9).
pub fn estimate(metric: Metric, load: &Load, summary: &Summary) -> Option<Estimate> {
    let (requests, rates) = (&summary.requests, &summary.throughput);
    let answered = requests.succeeded.saturating_add(requests.failed);
    let tokens = summary.latency.output_tokens.as_ref();
    let rate = |value, n, counts| Some(rate(value, n, spread(load, summary), counts));
    let steady = summary.windows.steady;
    let ended = steady.map_or(0, |steady| {
        (steady.requests_per_s * (steady.until_s - steady.from_s)).round().max(0.0) as u64
    });
    let share = |value, hits| Some(Estimate { value, interval: share_interval(hits, answered), n: answered });
    match metric {
        Metric::Of(quantity, stat) => Some(of(quantity_of(quantity, &summary.latency)?, stat)),
        Metric::RequestsPerS => rate(rates.requests_per_s?, requests.succeeded, None),
        Metric::OutputTokensPerS => rate(rates.output_tokens_per_s?, requests.succeeded, tokens),
        Metric::TotalTokensPerS => rate(rates.total_tokens_per_s?, requests.succeeded, tokens),
        Metric::SteadyRequestsPerS => rate(steady?.requests_per_s, ended, None),
        Metric::SteadyOutputTokensPerS => rate(steady?.output_tokens_per_s?, ended, tokens),
        Metric::ErrorRate => share(requests.error_rate()?, requests.failed),
        Metric::SuccessRate => share(requests.success_rate?, requests.succeeded),
        Metric::Goodput => share(summary.goodput?.share?, summary.goodput?.good),
        Metric::GoodputRequestsPerS => good_rate(summary.goodput.as_ref()?, spread(load, summary)),
    }
}

fn quantity_of(quantity: Quantity, latency: &Latency) -> Option<&Distribution> {
    match quantity {
        Quantity::E2e => latency.e2e.as_ref(),
        Quantity::Ttft => latency.ttft.as_ref(),
        Quantity::Tpot => latency.tpot.as_ref(),
        Quantity::Itl => latency.itl.as_ref(),
        Quantity::InterEvent => latency.inter_event.as_ref(),
        Quantity::Ttfb => latency.ttfb.as_ref(),
        Quantity::ResponseTtft => latency.response_ttft.as_ref(),
        Quantity::ResponseE2e => latency.response_e2e.as_ref(),
        Quantity::Lag => latency.lag.as_ref(),
        Quantity::Connect => latency.connect.as_ref(),
        Quantity::InputTokens => latency.input_tokens.as_ref(),
        Quantity::OutputTokens => latency.output_tokens.as_ref(),
    }
}

fn of(distribution: &Distribution, stat: Stat) -> Estimate {
    let (p, ci95) = (&distribution.percentiles, distribution.ci95.as_ref());
    let (value, interval) = match stat {
        Stat::Mean => (distribution.mean, ci95.map(|ci| ci.mean)),
        Stat::Min => (distribution.min, None),
        Stat::Max => (distribution.max, None),
        Stat::Std => (distribution.std, None),
        Stat::P50 => (p.p50, ci95.map(|ci| ci.p50)),
        Stat::P75 => (p.p75, ci95.map(|ci| ci.p75)),
        Stat::P90 => (p.p90, ci95.map(|ci| ci.p90)),
        Stat::P95 => (p.p95, ci95.map(|ci| ci.p95)),
        Stat::P99 => (p.p99, ci95.map(|ci| ci.p99)),
        Stat::P999 => (p.p99_9, ci95.map(|ci| ci.p99_9)),
    };
    Estimate { value, interval, n: ci95.map_or(distribution.count, |ci| ci.n) }
}

/// Standard deviation ÷ mean of the times between completions. `None` where it is not known.
fn spread(load: &Load, summary: &Summary) -> Option<f64> {
    match load.arrivals.as_ref().map(|arrivals| arrivals.process) {
        None => summary.latency.e2e.as_ref().and_then(variation),
        Some(Process::Constant | Process::Poisson) => Some(1.0),
        Some(Process::Gamma { burstiness }) => Some(burstiness.sqrt().recip().max(1.0)),
    }
}

/// The rate of good requests: completions, of which each is good or not by itself.
fn good_rate(goodput: &Goodput, spread: Option<f64>) -> Option<Estimate> {
    let share = goodput.share?;
    let thinned = spread.map(|spread| (1.0 - share + share * spread * spread).sqrt());
    Some(rate(goodput.requests_per_s?, goodput.good, thinned, None))
}

fn variation(distribution: &Distribution) -> Option<f64> {
    (distribution.mean > 0.0).then(|| distribution.std / distribution.mean)
}

fn rate(value: f64, n: u64, spread: Option<f64>, counts: Option<&Distribution>) -> Estimate {
    let of_counts = counts.and_then(variation).unwrap_or_default();
    let interval = spread.filter(|_| n > 1).map(|spread| {
        let half = value * NORMAL * spread.hypot(of_counts) / (n as f64).sqrt();
        Interval::new((value - half).max(0.0), value + half)
    });
    Estimate { value, interval, n }
}
