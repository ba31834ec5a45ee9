//! How much one figure differs from run to run of the same plan.

use super::estimate::estimate;
use crate::plan::{Load, Metric};
use crate::stats::{Interval, mean_interval, sample_std};
use crate::summary::Summary;

/// One metric over runs of the same plan. Runs are the sample, never their requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// Which.
    pub metric: Metric,
    /// Mean of the runs' figures.
    pub mean: f64,
    /// Their standard deviation, with n − 1 below it.
    pub std: f64,
    /// Where the mean over all such runs may lie, 95 %, by Student's t over the runs, cut at 0.
    pub interval: Interval,
    /// The least and the most of them.
    pub ends: (f64, f64),
    /// Runs that have the figure.
    pub runs: usize,
}

/// The spread of each metric that at least two runs have.
pub fn spreads(runs: &[(&Load, &Summary)], metrics: &[Metric]) -> Vec<Spread> {
    let one = |metric: &Metric| {
        let found = runs.iter().filter_map(|(load, summary)| estimate(*metric, load, summary));
        spread(*metric, &found.map(|found| found.value).collect::<Vec<_>>())
    };
    metrics.iter().filter_map(one).collect()
}

fn spread(metric: Metric, values: &[f64]) -> Option<Spread> {
    let (mean, std) = sample_std(values)?;
    let ends = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
    let interval = mean_interval(mean, std, values.len() as u64)?;
    // no figure is below 0
    let interval = Interval { low: interval.low.map(|low| low.max(0.0)), ..interval };
    Some(Spread { metric, mean, std, interval, ends, runs: values.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_runs() {
        // scipy.stats.t.interval(.95, 4, mean, sem), numpy.std(ddof=1)
        let found = spread(Metric::ErrorRate, &[1.0, 2.0, 3.0, 4.0, 10.0]).expect("enough runs");
        assert_eq!((found.mean, found.ends, found.runs), (4.0, (1.0, 10.0), 5));
        assert!((found.std - 3.535_534).abs() < 1e-6);
        assert!((found.interval.high.expect("bounded") - 8.389_945).abs() < 1e-6);
        assert_eq!(found.interval.low, Some(0.0));
        assert_eq!(spread(Metric::ErrorRate, &[1.0]), None);
    }
}
