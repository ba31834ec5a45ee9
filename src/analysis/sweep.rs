//! Runs that differ in one number of their load: how throughput scales, and where to stop.

use serde::Serialize;

use crate::plan::{Load, SuiteKind};
use crate::summary::Summary;

/// Runs side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sweep {
    /// One for each run, in the order in which they were made.
    pub points: Vec<Point>,
    /// Whether throughput is in output tokens; else in completions.
    pub in_tokens: bool,
    /// Index of the best point; `None` unless threads were swept and a request succeeded.
    pub best: Option<usize>,
}

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Threads of the run.
    pub threads: usize,
    /// Output tokens per second, or completions per second where the server counts no tokens; `None` when no request
    /// succeeded.
    pub throughput: Option<f64>,
    /// Throughput per thread ÷ that of the point with the fewest threads; 1 is perfect scaling. `None` without
    /// throughput.
    pub scaling_efficiency: Option<f64>,
}

/// Points whose throughput is this near to the highest are as good.
const NEAR: f64 = 0.95;

impl Sweep {
    /// Puts runs side by side.
    pub fn new<'a>(kind: SuiteKind, runs: impl IntoIterator<Item = (&'a Load, &'a Summary)>) -> Self {
        let runs: Vec<_> = runs.into_iter().collect();
        // replies differ in length from run to run, so tokens tell more than completions; but only one of them for all
        let in_tokens = runs.iter().all(|(_, summary)| {
            summary.throughput.output_tokens_per_s.is_some() || summary.requests.succeeded == 0
        });
        let rated = |(load, summary): &(&Load, &Summary)| {
            let rates = &summary.throughput;
            let rate = if in_tokens { rates.output_tokens_per_s } else { rates.requests_per_s };
            Point {
                threads: load.threads.get(),
                throughput: rate.filter(|rate| *rate > 0.0),
                scaling_efficiency: None,
            }
        };
        let mut points: Vec<Point> = runs.iter().map(rated).collect();
        if kind != SuiteKind::Threads {
            return Self { points, in_tokens, best: None };
        }
        let per_thread = |point: &Point| Some(point.throughput? / point.threads as f64);
        let base = points.iter().filter(|point| point.throughput.is_some()).min_by_key(|point| point.threads);
        let base = base.and_then(per_thread);
        for point in &mut points {
            point.scaling_efficiency = per_thread(point).zip(base).map(|(own, base)| own / base);
        }
        let best = best(&points);
        Self { points, in_tokens, best }
    }
}

/// The fewest threads whose throughput is within 5 % of the highest.
fn best(points: &[Point]) -> Option<usize> {
    let highest = points.iter().filter_map(|point| point.throughput).max_by(f64::total_cmp)?;
    let is_near = |point: &Point| point.throughput.is_some_and(|rate| rate >= highest * NEAR);
    (0..points.len()).filter(|i| is_near(&points[*i])).min_by_key(|i| points[*i].threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(rates: &[(usize, Option<f64>)]) -> Vec<Point> {
        let point = |&(threads, throughput)| Point { threads, throughput, scaling_efficiency: None };
        rates.iter().map(point).collect()
    }

    #[test]
    fn the_best_point_is_the_cheapest_of_the_fastest() {
        let curve = points(&[(5, Some(10.0)), (10, Some(19.0)), (20, Some(30.0)), (50, Some(31.0))]);
        assert_eq!(best(&curve), Some(2));
    }

    #[test]
    fn failed_points_are_never_best() {
        assert_eq!(best(&points(&[(5, None), (10, Some(1.0))])), Some(1));
        assert_eq!(best(&points(&[(5, None)])), None);
    }
}
