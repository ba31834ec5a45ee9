//! Runs that differ in one number of their load: how throughput scales, and where to stop.

use serde::Serialize;

use super::threshold::{Judgement, Outcome};
use crate::plan::{Load, Metric, SuiteKind};
use crate::summary::Summary;

/// What a sweep looks at in a run.
#[derive(Clone, Copy, Debug)]
pub struct Ran<'a> {
    /// Its load.
    pub load: &'a Load,
    /// Its figures, its goodput among them.
    pub summary: &'a Summary,
    /// What came of its thresholds.
    pub thresholds: &'a [Judgement],
}

/// Runs side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sweep {
    /// One for each run, in the order in which they were made.
    pub points: Vec<Point>,
    /// Whether throughput is in output tokens; else in completions.
    pub in_tokens: bool,
    /// Index of the best point: the fewest threads within 5 % of the highest throughput of the runs that kept their limits.
    /// `None` unless threads were swept, and where no run succeeded and kept them.
    pub best: Option<usize>,
    /// Whether threads were swept and a request succeeded, so that there could be a best point.
    pub has_choice: bool,
    /// Whether the best point is that of the most threads and had over 5 % more throughput than the one before it: where the
    /// most is, nobody has seen yet.
    pub still_rising: bool,
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
    /// Whether it kept its limits: no threshold failed, and of the requests at least [`GOOD_ENOUGH`] met the objectives,
    /// unless a threshold is on goodput itself. `None` where it had none.
    pub keeps_limits: Option<bool>,
}

/// Points whose throughput is this near to the highest are as good.
const NEAR: f64 = 0.95;

/// The share of requests that have to meet the objectives where no threshold says how many.
pub const GOOD_ENOUGH: f64 = 0.9;

impl Sweep {
    /// Puts runs side by side.
    pub fn new<'a>(kind: SuiteKind, runs: impl IntoIterator<Item = Ran<'a>>) -> Self {
        let runs: Vec<Ran> = runs.into_iter().collect();
        // replies differ in length from run to run, so tokens tell more than completions; but only one of them for all
        let in_tokens = runs.iter().all(|Ran { summary, .. }| {
            summary.throughput.output_tokens_per_s.is_some() || summary.requests.succeeded == 0
        });
        let rated = |run: &Ran| {
            let rates = &run.summary.throughput;
            let rate = if in_tokens { rates.output_tokens_per_s } else { rates.requests_per_s };
            Point {
                threads: run.load.threads.get(),
                throughput: rate.filter(|rate| *rate > 0.0),
                scaling_efficiency: None,
                keeps_limits: keeps_limits(run),
            }
        };
        let mut points: Vec<Point> = runs.iter().map(rated).collect();
        if kind != SuiteKind::Threads {
            return Self { points, in_tokens, best: None, has_choice: false, still_rising: false };
        }
        let per_thread = |point: &Point| Some(point.throughput? / point.threads as f64);
        let base = points.iter().filter(|point| point.throughput.is_some()).min_by_key(|point| point.threads);
        let base = base.and_then(per_thread);
        for point in &mut points {
            point.scaling_efficiency = per_thread(point).zip(base).map(|(own, base)| own / base);
        }
        let best = best(&points);
        let still_rising = best.is_some_and(|best| still_rising(&points, best));
        Self { points, in_tokens, best, has_choice: base.is_some(), still_rising }
    }

    /// Whether any run had limits to keep.
    pub fn has_limits(&self) -> bool {
        self.points.iter().any(|point| point.keeps_limits.is_some())
    }
}

fn keeps_limits(run: &Ran) -> Option<bool> {
    if run.thresholds.is_empty() && run.summary.goodput.is_none() {
        return None;
    }
    let has_failed = run.thresholds.iter().any(|judged| judged.verdict == Outcome::Failed);
    let goodputs = [Metric::Goodput, Metric::GoodputRequestsPerS].map(|metric| metric.to_string());
    let is_judged = run.thresholds.iter().any(|judged| goodputs.contains(&judged.metric));
    let is_good = match &run.summary.goodput {
        Some(goodput) if !is_judged => goodput.share.is_some_and(|share| share >= GOOD_ENOUGH),
        _ => true,
    };
    Some(!has_failed && is_good)
}

/// The fewest threads whose throughput is within 5 % of the highest, of those that kept their limits.
fn best(points: &[Point]) -> Option<usize> {
    let kept = |point: &Point| point.throughput.filter(|_| point.keeps_limits != Some(false));
    let highest = points.iter().filter_map(kept).max_by(f64::total_cmp)?;
    let is_near = |point: &Point| kept(point).is_some_and(|rate| rate >= highest * NEAR);
    (0..points.len()).filter(|i| is_near(&points[*i])).min_by_key(|i| points[*i].threads)
}

fn still_rising(points: &[Point], best: usize) -> bool {
    let (last, fewer) = (&points[best], points.iter().filter(|point| point.threads < points[best].threads));
    let before = fewer.filter(|point| point.throughput.is_some()).max_by_key(|point| point.threads);
    points.iter().all(|point| point.threads <= last.threads)
        && before.is_some_and(|before| before.throughput < last.throughput.map(|rate| rate * NEAR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::judge;
    use crate::health::Verdict;
    use crate::plan::Extent;
    use crate::summary::{Goodput, Tally};

    fn points(rates: &[(usize, Option<f64>)]) -> Vec<Point> {
        let point = |&(threads, throughput)| Point {
            threads,
            throughput,
            scaling_efficiency: None,
            keeps_limits: None,
        };
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

    #[test]
    fn the_best_point_keeps_its_limits() {
        let mut curve = points(&[(4, Some(10.0)), (8, Some(19.0)), (16, Some(30.0)), (32, Some(50.0))]);
        for (point, keeps) in curve.iter_mut().zip([true, true, false, false]) {
            point.keeps_limits = Some(keeps);
        }
        assert_eq!(best(&curve), Some(1));
        curve.iter_mut().for_each(|point| point.keeps_limits = Some(false));
        assert_eq!(best(&curve), None);
    }

    #[test]
    fn throughput_still_rises_where_the_last_point_is_far_above_the_one_before() {
        let rises = |rates: &[(usize, Option<f64>)]| {
            let curve = points(rates);
            still_rising(&curve, best(&curve).expect("one"))
        };
        assert!(rises(&[(4, Some(10.0)), (8, Some(19.0))]));
        // in whatever order they were made
        assert!(rises(&[(8, Some(19.0)), (4, Some(10.0)), (6, None)]));
        assert!(!rises(&[(4, Some(10.0)), (8, Some(19.0)), (16, Some(19.5))]));
        assert!(!rises(&[(4, Some(10.0)), (8, Some(19.0)), (16, Some(12.0))]));
        assert!(!rises(&[(4, Some(10.0))]));
    }

    #[test]
    fn a_run_keeps_its_limits_where_no_threshold_failed_and_nine_of_ten_were_good() {
        let load = Load {
            threads: std::num::NonZeroUsize::MIN,
            arrivals: None,
            completions: None,
            duration: None,
            warmup: Extent::NONE,
            cooldown: Extent::NONE,
            grace: None,
        };
        let check = |share: Option<f64>, threshold: Option<&str>, want| {
            let mut summary = Tally::default().into_summary();
            (summary.requests.succeeded, summary.throughput.requests_per_s) = (1_000, Some(10.0));
            summary.goodput = share.map(|share| Goodput {
                good: (share * 1e3) as u64,
                unjudged: 0,
                share: Some(share),
                requests_per_s: Some(share * 10.0),
                at_best: None,
            });
            let thresholds: Vec<_> = threshold.map(|text| text.parse().expect(text)).into_iter().collect();
            let thresholds = judge(&thresholds, &load, &summary, Verdict::Valid);
            let found = keeps_limits(&Ran { load: &load, summary: &summary, thresholds: &thresholds });
            assert_eq!(found, want, "{share:?} {threshold:?}");
        };
        check(None, None, None);
        check(None, Some("requests_per_s>9"), Some(true));
        check(None, Some("requests_per_s>11"), Some(false));
        check(Some(0.06), None, Some(false));
        check(Some(0.9), None, Some(true));
        check(Some(0.95), Some("requests_per_s>11"), Some(false));
        check(Some(0.5), Some("requests_per_s>9"), Some(false));
        // who says how many have to be good is taken at their word
        check(Some(0.5), Some("goodput>=40%"), Some(true));
        check(Some(0.95), Some("goodput>=99%"), Some(false));
    }
}
