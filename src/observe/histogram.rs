//! What a Prometheus histogram of seconds took in between two readings.

use serde::{Deserialize, Serialize};

/// The growth of one histogram. Quantiles are estimates, as good as the server's buckets are narrow.
///
/// Between the edges of a bucket values are taken to be spread evenly, as PromQL's `histogram_quantile` does. Unlike
/// there a quantile beyond the last finite edge is unknown, not that edge: it would read as a bound that held. So is an
/// estimate that the exact mean proves too high: vLLM's first bucket of queue time ends at 300 ms, and an idle queue
/// would seem to hold requests for 150 ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistogramDelta {
    /// Values taken in.
    pub count: u64,
    /// Their sum in seconds. `None` if the server does not tell.
    pub sum_s: Option<f64>,
    /// Their mean in seconds, exact. `None` without values.
    pub mean_s: Option<f64>,
    /// Estimated median in seconds. `None` without values, without buckets, or where they are too coarse.
    pub p50_s: Option<f64>,
    /// Estimated 90th percentile in seconds. `None` as for the median.
    pub p90_s: Option<f64>,
    /// Estimated 99th percentile in seconds. `None` as for the median.
    pub p99_s: Option<f64>,
}

impl HistogramDelta {
    /// From what each cumulative bucket grew by: pairs of upper edge in seconds and growth, in any order.
    pub(super) fn new(count: u64, sum_s: Option<f64>, buckets: Vec<(f64, f64)>) -> Self {
        let buckets = cumulative(buckets);
        let mean_s = sum_s.filter(|_| count > 0).map(|sum| sum / count as f64);
        // a share 1 − q of the values, none of them negative, is as large as the quantile: the mean cannot be below that
        let is_possible = |value: f64, q: f64| mean_s.is_none_or(|mean| value * (1.0 - q) <= mean);
        let estimate = |q| quantile(&buckets, q).filter(|value| is_possible(*value, q));
        Self { count, sum_s, mean_s, p50_s: estimate(0.5), p90_s: estimate(0.9), p99_s: estimate(0.99) }
    }
}

/// Adds up buckets of the same edge and sorts them; a bucket that holds less than a lower one is raised to it.
fn cumulative(mut buckets: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    buckets.retain(|(edge, _)| !edge.is_nan());
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets.dedup_by(|later, kept| {
        let same = later.0.total_cmp(&kept.0).is_eq();
        if same {
            kept.1 += later.1;
        }
        same
    });
    let mut floor = 0.0_f64;
    for (_, growth) in &mut buckets {
        floor = floor.max(*growth);
        *growth = floor;
    }
    buckets
}

/// The value in seconds below which the share `q` of the values lies. Buckets must end with the infinite one.
fn quantile(buckets: &[(f64, f64)], q: f64) -> Option<f64> {
    let &(last_edge, total) = buckets.last()?;
    if last_edge != f64::INFINITY || total <= 0.0 {
        return None;
    }
    let rank = q * total;
    let at = buckets.iter().position(|&(_, below)| below >= rank)?;
    let (upper, below_upper) = buckets[at];
    let (lower, below_lower) = match at.checked_sub(1) {
        Some(previous) => buckets[previous],
        None => (upper.min(0.0), 0.0),
    };
    let value = lower + (upper - lower) * ((rank - below_lower) / (below_upper - below_lower));
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    fn check(buckets: &[(f64, f64)], q: f64, want: Option<f64>) {
        assert_eq!(quantile(&cumulative(buckets.to_vec()), q), want, "{buckets:?} at {q}");
    }

    #[test]
    fn quantiles_lie_evenly_between_edges() {
        check(&[(1.0, 0.0), (2.0, 10.0), (INF, 10.0)], 0.5, Some(1.5));
        check(&[(1.0, 10.0), (INF, 10.0)], 0.5, Some(0.5));
        check(&[(1.0, 5.0), (3.0, 10.0), (INF, 10.0)], 0.5, Some(1.0));
        check(&[(1.0, 5.0), (3.0, 10.0), (INF, 10.0)], 0.75, Some(2.0));
        check(&[(INF, 10.0), (3.0, 10.0), (1.0, 5.0)], 0.75, Some(2.0));
    }

    #[test]
    fn beyond_the_last_edge_nothing_is_known() {
        check(&[(1.0, 5.0), (INF, 10.0)], 0.5, Some(1.0));
        check(&[(1.0, 5.0), (INF, 10.0)], 0.51, None);
        check(&[(INF, 10.0)], 0.5, None);
    }

    #[test]
    fn no_values_or_no_whole_buckets_have_no_quantile() {
        check(&[], 0.5, None);
        check(&[(1.0, 0.0), (INF, 0.0)], 0.5, None);
        check(&[(1.0, 5.0)], 0.5, None);
        check(&[(f64::NAN, 5.0)], 0.5, None);
    }

    #[test]
    fn engines_add_up_and_a_dent_is_filled() {
        check(&[(1.0, 4.0), (1.0, 4.0), (INF, 4.0), (INF, 4.0)], 0.5, Some(0.5));
        check(&[(1.0, 5.0), (2.0, 4.0), (INF, 10.0)], 0.5, Some(1.0));
    }

    #[test]
    fn negative_edges_do_no_harm() {
        check(&[(-1.0, 10.0), (INF, 10.0)], 0.5, Some(-1.0));
    }

    #[test]
    fn an_estimate_that_the_mean_disproves_is_none() {
        let idle = HistogramDelta::new(64, Some(0.0064), vec![(0.3, 64.0), (INF, 64.0)]);
        assert_eq!((idle.p50_s, idle.p90_s, idle.p99_s), (None, None, None));
        let busy = HistogramDelta::new(64, Some(9.6), vec![(0.3, 64.0), (INF, 64.0)]);
        assert_eq!((busy.mean_s, busy.p50_s), (Some(0.15), Some(0.15)));
    }

    #[test]
    fn a_mean_needs_values_and_a_sum() {
        assert_eq!(HistogramDelta::new(4, Some(2.0), Vec::new()).mean_s, Some(0.5));
        assert_eq!(HistogramDelta::new(0, Some(0.0), Vec::new()).mean_s, None);
        assert_eq!(HistogramDelta::new(4, None, Vec::new()).mean_s, None);
    }
}
