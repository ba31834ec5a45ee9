//! Where the mean and the percentiles of a distribution may lie, as far as the number of values tells.

use serde::{Deserialize, Serialize};

use crate::stats::{Interval, mean_interval, ranks};

/// 95 % confidence intervals: by order statistics for the percentiles, whatever the distribution; by Student's t for the
/// mean. An end is `None` where there are too few values for one.
///
/// They take the values of one run for independent draws. How runs of the same plan differ is not in them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Values that count as independent. Fewer than the distribution's where several come from one reply.
    pub n: u64,
    /// Of the mean; both ends `None` below two values.
    pub mean: Interval,
    /// Of the 50th percentile.
    pub p50: Interval,
    /// Of the 75th.
    pub p75: Interval,
    /// Of the 90th.
    pub p90: Interval,
    /// Of the 95th.
    pub p95: Interval,
    /// Of the 99th.
    pub p99: Interval,
    /// Of the 99.9th.
    #[serde(rename = "p99.9")]
    pub p99_9: Interval,
}

impl Intervals {
    /// Of `count` values with this mean and sample standard deviation that count as `n`; `at` is the value at a rank, from 1.
    pub(super) fn new(n: u64, count: u64, mean: f64, std: f64, at: impl Fn(u64) -> f64) -> Self {
        // the ranks of n values, as places among all of them, rounded outwards
        let place = |rank: u64| u128::from(rank) * u128::from(count);
        let of = |quantile| {
            let (low, high) = ranks(n, quantile);
            let low = low.map(|rank| at(place(rank).checked_div(n.into()).unwrap_or(1).max(1) as u64));
            let high = high.map(|rank| at(place(rank).div_ceil(u128::from(n.max(1))) as u64));
            Interval { low, high }
        };
        Self {
            n,
            mean: mean_interval(mean, std, n).unwrap_or_default(),
            p50: of(0.5),
            p75: of(0.75),
            p90: of(0.9),
            p95: of(0.95),
            p99: of(0.99),
            p99_9: of(0.999),
        }
    }
}
