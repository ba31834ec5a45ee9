//! One figure of one run, with how sure it is.

use serde::{Deserialize, Serialize};

use crate::arrivals::Process;
use crate::plan::{Load, Metric, Quantity, Stat};
use crate::stats::{Interval, NORMAL, share_interval};
use crate::summary::{Distribution, Latency, Summary};

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
    /// How far from it the true figure may be, for this client was late: lower for times, which are told at their most, and
    /// higher for goodput, which is told at its least. `None` where the figure is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_end: Option<OtherEnd>,
}

/// The other end of a figure that lies between two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherEnd {
    /// The figure, in its metric's unit.
    pub value: f64,
    /// Where it may lie, 95 %, if this is the true end; `None` as in [`Estimate`].
    pub interval: Option<Interval>,
}

impl Estimate {
    /// The same figure at its other end; itself where it has only one.
    pub fn at_other_end(self) -> Self {
        match self.other_end {
            Some(OtherEnd { value, interval }) => Self { value, interval, n: self.n, other_end: None },
            None => self,
        }
    }

    /// The same figure at its lower end.
    pub(super) fn at_least(self) -> Self {
        if self.at_other_end().value < self.value {
            self.at_other_end()
        } else {
            Self { other_end: None, ..self }
        }
    }

    /// The same figure at its upper end.
    pub(super) fn at_most(self) -> Self {
        if self.at_other_end().value > self.value {
            self.at_other_end()
        } else {
            Self { other_end: None, ..self }
        }
    }

    /// With this for the other end, where it is another figure.
    fn or(self, other: Option<Self>) -> Self {
        let other = other.filter(|other| other.value != self.value);
        let other_end = other.map(|Self { value, interval, .. }| OtherEnd { value, interval });
        Self { other_end, ..self }
    }
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
    let share_of = |value, hits, n| Estimate { value, interval: share_interval(hits, n), n, other_end: None };
    let share = |value, hits| share_of(value, hits, answered);
    match metric {
        Metric::Of(quantity, stat) => {
            let (high, low) = quantity_of(quantity, &summary.latency);
            // a deviation has no ends
            let low = low.filter(|_| stat != Stat::Std).map(|low| of(low, stat));
            Some(of(high?, stat).or(low))
        }
        Metric::RequestsPerS => rate(rates.requests_per_s?, requests.succeeded, None),
        Metric::OutputTokensPerS => rate(rates.output_tokens_per_s?, requests.succeeded, tokens),
        Metric::TotalTokensPerS => rate(rates.total_tokens_per_s?, requests.succeeded, tokens),
        Metric::SteadyRequestsPerS => rate(steady?.requests_per_s, ended, None),
        Metric::SteadyOutputTokensPerS => rate(steady?.output_tokens_per_s?, ended, tokens),
        Metric::ErrorRate => Some(share(requests.error_rate()?, requests.failed)),
        Metric::SuccessRate => Some(share(requests.success_rate?, requests.succeeded)),
        // tokens of one prompt are cached together, so nothing is known of its spread
        Metric::PrefixCacheHitShare => {
            let value = summary.tokens.prefix_cache_hit_share?;
            Some(Estimate { value, interval: None, n: requests.succeeded, other_end: None })
        }
        Metric::Goodput => {
            let goodput = summary.goodput?;
            let judged = answered.saturating_sub(goodput.unjudged);
            let at_best = goodput.at_best.and_then(|best| Some(share_of(best.share?, best.good, judged)));
            Some(share_of(goodput.share?, goodput.good, judged).or(at_best))
        }
        Metric::GoodputRequestsPerS => {
            let (goodput, spread) = (summary.goodput?, spread(load, summary));
            let at_best = goodput.at_best;
            let at_best = at_best
                .and_then(|best| Some(good_rate(best.good, best.share?, best.requests_per_s?, spread)));
            Some(good_rate(goodput.good, goodput.share?, goodput.requests_per_s?, spread).or(at_best))
        }
    }
}

/// Values at their upper ends, and at their lower ones where some are not known.
fn quantity_of(quantity: Quantity, latency: &Latency) -> (Option<&Distribution>, Option<&Distribution>) {
    let (high, low) = match quantity {
        Quantity::E2e => (&latency.e2e, &latency.e2e_low),
        Quantity::Ttft => (&latency.ttft, &latency.ttft_low),
        Quantity::Tpot => (&latency.tpot, &latency.tpot_low),
        Quantity::Itl => (&latency.itl, &latency.itl_low),
        Quantity::InterEvent => (&latency.inter_event, &latency.inter_event_low),
        Quantity::Ttfb => (&latency.ttfb, &None),
        Quantity::ResponseTtft => (&latency.response_ttft, &latency.response_ttft_low),
        Quantity::ResponseE2e => (&latency.response_e2e, &latency.response_e2e_low),
        Quantity::Lag => (&latency.lag, &None),
        Quantity::Connect => (&latency.connect, &None),
        Quantity::InputTokens => (&latency.input_tokens, &None),
        Quantity::OutputTokens => (&latency.output_tokens, &None),
    };
    (high.as_ref(), low.as_ref())
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
    Estimate { value, interval, n: ci95.map_or(distribution.count, |ci| ci.n), other_end: None }
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
fn good_rate(good: u64, share: f64, requests_per_s: f64, spread: Option<f64>) -> Estimate {
    let thinned = spread.map(|spread| (1.0 - share + share * spread * spread).sqrt());
    rate(requests_per_s, good, thinned, None)
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
    Estimate { value, interval, n, other_end: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Extent;
    use crate::summary::{Goodput, GoodputAtBest, Samples, Tally};

    fn of_values(values: [u64; 3]) -> Option<Distribution> {
        let mut samples = Samples::new(1);
        values.into_iter().for_each(|value| samples.add(value));
        samples.into_distribution(1.0)
    }

    #[test]
    fn a_figure_that_is_not_known_has_another_end() {
        let mut summary = Tally::default().into_summary();
        summary.latency.ttft = of_values([50, 60, 290]);
        summary.latency.ttft_low = of_values([50, 50, 60]);
        summary.latency.e2e = of_values([50, 60, 290]);
        let load = Load {
            threads: std::num::NonZeroUsize::MIN,
            arrivals: None,
            completions: None,
            duration: None,
            warmup: Extent::NONE,
            cooldown: Extent::NONE,
            grace: None,
        };
        let ends = |metric: &str| {
            let found = estimate(metric.parse().expect(metric), &load, &summary).expect(metric);
            (found.value, found.other_end.map(|end| end.value))
        };
        assert_eq!((ends("ttft.p50"), ends("ttft.max")), ((60.0, Some(50.0)), (290.0, Some(60.0))));
        // nothing is not known of the least, of a deviation no ends are known, and of E2E all is known
        assert_eq!(
            (ends("ttft.min"), ends("ttft.std").1, ends("e2e.max")),
            ((50.0, None), None, (290.0, None))
        );
        summary.requests.succeeded = 10;
        summary.goodput = Some(Goodput {
            good: 8,
            unjudged: 0,
            share: Some(0.8),
            requests_per_s: Some(4.0),
            at_best: Some(GoodputAtBest { good: 9, share: Some(0.9), requests_per_s: Some(4.5) }),
        });
        let ends = |metric: &str| {
            let found = estimate(metric.parse().expect(metric), &load, &summary).expect(metric);
            (found.at_least().value, found.value, found.at_most().value)
        };
        assert_eq!(ends("goodput"), (0.8, 0.8, 0.9));
        assert_eq!(ends("goodput_requests_per_s"), (4.0, 4.0, 4.5));
        assert_eq!(ends("ttft.p50"), (50.0, 60.0, 60.0));
    }
}
