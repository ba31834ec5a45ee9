//! Whether runs differ from others: by the intervals of one run a side, or by a test over runs. Never over pooled
//! requests: requests of a run share its luck, so their number says nothing of how runs differ.

use serde::Serialize;

use super::estimate::{Estimate, estimate};
use super::threshold::between;
use crate::plan::{Load, Metric};
use crate::stats::{Interval, p_lower};
use crate::summary::Summary;

/// A run as it is compared.
#[derive(Clone, Copy, Debug)]
pub struct ComparedRun<'a> {
    /// What was to be done.
    pub load: &'a Load,
    /// What came of it.
    pub summary: &'a Summary,
    /// How it ended.
    pub ending: Ending,
}

/// How a run ended, and so what of it can be held against others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As planned.
    Planned,
    /// By a limit of its own, such as `--max-errors`: its failures are the server's, its times and rates are of no whole run.
    Limit,
    /// It was interrupted or cut off: nothing of it is judged, for its rates are those of coming up and going down.
    Interrupted,
}

impl ComparedRun<'_> {
    fn estimate(&self, metric: Metric) -> Option<Estimate> {
        let is_of_failures = matches!(metric, Metric::ErrorRate | Metric::SuccessRate);
        let is_judged = match self.ending {
            Ending::Planned => true,
            Ending::Limit => is_of_failures,
            Ending::Interrupted => false,
        };
        is_judged.then(|| estimate(metric, self.load, self.summary)).flatten()
    }
}

/// Runs held against others, metric by metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// By what it is decided whether there is a difference at all.
    pub method: Method,
    /// Changes up to this share of the base's figure are taken for none.
    pub tolerance: f64,
    /// The worst of the rows' verdicts.
    pub verdict: Change,
    /// One for each metric.
    pub metrics: Vec<Row>,
}

/// By what it is decided whether there is a difference at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// One run a side: their 95 % intervals are apart.
    Intervals,
    /// Fewer than four runs on a side: every interval of one side is apart from every one of the other. No test over so few
    /// runs can reach 5 %.
    EveryInterval,
    /// Four or more runs a side: the Mann–Whitney test on the runs' figures, one-sided, p below 5 %.
    MannWhitney,
}

/// What a comparison says of a metric. In order from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Shown, and above the tolerance.
    Better,
    /// Within the tolerance.
    Same,
    /// Above the tolerance, but not shown; or nothing can be shown; or it depends on where between their ends figures lie that
    /// a client was too late to know.
    Inconclusive,
    /// Shown, and above the tolerance; or no request of a new run succeeded.
    Worse,
}

impl Change {
    /// As it is shown and written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Same => "same",
            Self::Inconclusive => "inconclusive",
            Self::Worse => "worse",
        }
    }

    /// Whether a command ends with 99 for it; `strict` takes what is inconclusive for bad.
    pub fn is_bad(self, strict: bool) -> bool {
        match self {
            Self::Better | Self::Same => false,
            Self::Worse => true,
            Self::Inconclusive => strict,
        }
    }
}

/// One metric of both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub metric: String,
    /// What its figures are measured in.
    pub unit: &'static str,
    /// Whether less is better.
    pub smaller_is_better: bool,
    /// The runs compared with.
    pub base: Side,
    /// The runs that are judged.
    pub new: Side,
    /// `new ÷ base − 1`; `None` where a side has no figure or the base's is 0.
    pub change: Option<f64>,
    /// How likely chance alone would make the new runs' figures differ so much this way; `None` without a test.
    pub p: Option<f64>,
    /// What comes of it.
    pub verdict: Change,
    /// Why, where the figures do not say it.
    pub note: Option<String>,
}

/// One metric of the runs of a side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// The run's figure, the median of several; `None` where a run has none.
    pub value: Option<f64>,
    /// One run: its 95 % interval. Two or three: from the least to the most of theirs. More: from the least to the most of
    /// the runs' figures. `None` where that is not known.
    pub interval: Option<Interval>,
    /// The other end of `value`, where a client was late: lower for times, higher for goodput. `None` where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_end: Option<f64>,
    /// The runs' figures; `None` where a run has none, or was ended early and so is not judged.
    pub runs: Vec<Option<f64>>,
    /// Requests, or connections, behind them in all.
    pub n: u64,
}

/// Fewest runs a side with which a one-sided test can reach 5 %: of 3 + 3 the least possible p is 1 in 20.
pub const RUNS_FOR_A_TEST: usize = 4;
pub(super) const SIGNIFICANT: f64 = 0.05;

impl Comparison {
    /// Holds new runs against base runs. A metric that no run has is left out where it `may_be_missing`.
    pub fn new(
        base: &[ComparedRun<'_>],
        new: &[ComparedRun<'_>],
        metrics: &[Metric],
        may_be_missing: bool,
        tolerance: f64,
    ) -> Self {
        let (whole_base, whole_new) = (not_interrupted(base), not_interrupted(new));
        let method = match whole_base.len().min(whole_new.len()) {
            fewest if fewest >= RUNS_FOR_A_TEST => Method::MannWhitney,
            _ if whole_base.len() <= 1 && whole_new.len() <= 1 => Method::Intervals,
            _ => Method::EveryInterval,
        };
        let estimates = |runs: &[ComparedRun<'_>], metric| -> Vec<_> {
            runs.iter().map(|run| run.estimate(metric)).collect()
        };
        let rows = metrics.iter().filter_map(|metric| {
            let (of_base, of_new) = (estimates(&whole_base, *metric), estimates(&whole_new, *metric));
            let is_there = |run: &ComparedRun<'_>| estimate(*metric, run.load, run.summary).is_some();
            let is_missing = !base.iter().chain(new).any(is_there);
            (!(is_missing && may_be_missing)).then(|| {
                let mut row = row(*metric, method, tolerance, &of_base, &of_new);
                for (side, runs) in [(&mut row.base, base), (&mut row.new, new)] {
                    side.runs = values(&estimates(runs, *metric));
                }
                row
            })
        });
        let is_lost = base.iter().all(|run| run.summary.requests.succeeded > 0) && new.iter().any(all_failed);
        let rows = rows.map(|row| if is_lost { row.lost() } else { row });
        let metrics: Vec<Row> = rows.collect();
        let verdict = metrics.iter().map(|row| row.verdict).max().unwrap_or(Change::Inconclusive);
        Self { method, tolerance, verdict, metrics }
    }
}

fn not_interrupted<'a>(runs: &[ComparedRun<'a>]) -> Vec<ComparedRun<'a>> {
    runs.iter().copied().filter(|run| run.ending != Ending::Interrupted).collect()
}

/// Whether the server answered nothing well.
fn all_failed(run: &ComparedRun<'_>) -> bool {
    let requests = &run.summary.requests;
    run.ending != Ending::Interrupted && requests.succeeded == 0 && requests.failed > 0
}

impl Row {
    /// What to say where a new run has no success, and so no such figure or a rate of nothing, and the base has: a server
    /// that answers nothing is no better for having no times.
    fn lost(mut self) -> Self {
        let is_nothing = self.new.value.is_none_or(|value| value == 0.0 && !self.smaller_is_better);
        if self.verdict == Change::Inconclusive && self.base.value.is_some() && is_nothing {
            self.verdict = Change::Worse;
            self.note = Some("no request of a new run succeeded".to_owned());
        }
        self
    }
}

/// The row of a metric. Where figures lie between two ends, its verdict has to be the same at the ends that are farthest
/// apart and nearest to each other, and so wherever between them the truth is.
fn row(
    metric: Metric,
    method: Method,
    tolerance: f64,
    base: &[Option<Estimate>],
    new: &[Option<Estimate>],
) -> Row {
    let mut row = row_of(metric, method, tolerance, base, new);
    let at = |runs: &[Option<Estimate>], end: fn(Estimate) -> Estimate| -> Vec<_> {
        runs.iter().map(|found| found.map(end)).collect()
    };
    let is_late = base.iter().chain(new).flatten().any(|found| found.other_end.is_some());
    let verdict_at =
        |of_base, of_new| row_of(metric, method, tolerance, &at(base, of_base), &at(new, of_new)).verdict;
    let is_one = |ends| ends == row.verdict;
    if is_late
        && !(is_one(verdict_at(Estimate::at_least, Estimate::at_most))
            && is_one(verdict_at(Estimate::at_most, Estimate::at_least)))
    {
        let told = [("base", &row.base), ("new", &row.new)].into_iter().filter_map(|(name, side)| {
            Some(format!("{name} {}", between(metric.unit(), side.value?, side.other_end?)))
        });
        row.note = Some(format!("the client was late: {}", told.collect::<Vec<_>>().join(", ")));
        row.verdict = Change::Inconclusive;
    }
    row
}

fn row_of(
    metric: Metric,
    method: Method,
    tolerance: f64,
    base: &[Option<Estimate>],
    new: &[Option<Estimate>],
) -> Row {
    let unjudged = [("base", base), ("new", new)].into_iter().find(|(_, runs)| runs.is_empty());
    let (base, new) = (side(method, base), side(method, new));
    let mut row = Row {
        metric: metric.to_string(),
        unit: metric.unit().name(),
        smaller_is_better: metric.smaller_is_better(),
        change: base
            .value
            .zip(new.value)
            .filter(|(base, _)| *base != 0.0)
            .map(|(base, new)| new / base - 1.0),
        base,
        new,
        p: None,
        verdict: Change::Inconclusive,
        note: None,
    };
    let Some((from, to)) = row.base.value.zip(row.new.value) else {
        row.note = Some(match unjudged {
            Some((name, _)) => format!("no run of the {name} side went on to its planned end"),
            None => "not every run has such a value".to_owned(),
        });
        return row;
    };
    if method == Method::MannWhitney {
        let (low, high) = if to > from { (&row.base, &row.new) } else { (&row.new, &row.base) };
        row.p = p_lower(&figures(low), &figures(high));
    }
    let is_shown = match row.p {
        Some(p) => p < SIGNIFICANT,
        None => row.base.interval.zip(row.new.interval).is_some_and(|(base, new)| {
            (to > from && base.is_below(new)) || (to < from && new.is_below(base))
        }),
    };
    let is_above = exceeds(metric, tolerance, from, to);
    let is_bounded = row.p.is_some() || [&row.base, &row.new].iter().all(|side| is_bounded(side));
    (row.verdict, row.note) = match (is_shown, is_above) {
        (true, true) if (to > from) == row.smaller_is_better => (Change::Worse, None),
        (true, true) => (Change::Better, None),
        (true, false) => (Change::Same, Some("a difference is shown, within the tolerance".to_owned())),
        (false, _) if !is_bounded => (Change::Inconclusive, Some(unbounded(&row))),
        (false, false) => (Change::Same, None),
        (false, true) => {
            let why = "above the tolerance, but chance could do it: more requests or more runs would tell";
            (Change::Inconclusive, Some(why.to_owned()))
        }
    };
    row
}

/// Whether the change is above the tolerance. That of a success rate is one of the failures: 99 % to 98 % doubles them.
pub(super) fn exceeds(metric: Metric, tolerance: f64, from: f64, to: f64) -> bool {
    let (from, to) = if metric == Metric::SuccessRate { (1.0 - from, 1.0 - to) } else { (from, to) };
    (to - from).abs() > tolerance * from.abs()
}

fn is_bounded(side: &Side) -> bool {
    side.interval.is_some_and(Interval::is_bounded)
}

fn unbounded(row: &Row) -> String {
    match row.base.interval.and(row.new.interval) {
        Some(_) => "too few requests for an interval".to_owned(),
        None => format!("no interval is known for it; compare {RUNS_FOR_A_TEST} runs a side"),
    }
}

fn figures(side: &Side) -> Vec<f64> {
    side.runs.iter().copied().flatten().collect()
}

fn side(method: Method, estimates: &[Option<Estimate>]) -> Side {
    let runs = values(estimates);
    let values: Option<Vec<f64>> = runs.iter().copied().collect();
    let n = estimates.iter().flatten().fold(0_u64, |n, one| n.saturating_add(one.n));
    let interval = match method {
        Method::MannWhitney => values.as_deref().and_then(range),
        Method::Intervals | Method::EveryInterval => {
            let each: Option<Vec<Interval>> =
                estimates.iter().map(|one| one.and_then(|one| one.interval)).collect();
            each.map(|each| hull(&each))
        }
    };
    let value = values.and_then(median);
    let others =
        estimates.iter().map(|one| one.map(|one| one.at_other_end().value)).collect::<Option<Vec<f64>>>();
    let other_end = others.and_then(median).filter(|other| Some(*other) != value);
    Side { value, interval, other_end, runs, n }
}

fn values(estimates: &[Option<Estimate>]) -> Vec<Option<f64>> {
    estimates.iter().map(|one| one.map(|one| one.value)).collect()
}

/// From the least lower end to the most upper one; unknown where one of them is.
fn hull(each: &[Interval]) -> Interval {
    let ends = |of: fn(&Interval) -> Option<f64>| each.iter().map(of).collect::<Option<Vec<f64>>>();
    Interval {
        low: ends(|interval| interval.low).and_then(|lows| lows.into_iter().reduce(f64::min)),
        high: ends(|interval| interval.high).and_then(|highs| highs.into_iter().reduce(f64::max)),
    }
}

fn range(values: &[f64]) -> Option<Interval> {
    let low = values.iter().copied().reduce(f64::min)?;
    Some(Interval::new(low, values.iter().copied().reduce(f64::max)?))
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], upper) } else { upper })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::estimate::OtherEnd;
    use crate::plan::{Quantity, Stat};

    const P95: Metric = Metric::Of(Quantity::Ttft, Stat::P95);

    fn found(value: f64, low: f64, high: f64) -> Option<Estimate> {
        Some(Estimate { value, interval: Some(Interval::new(low, high)), n: 100, other_end: None })
    }

    fn method(base: usize, new: usize) -> Method {
        match base.min(new) {
            fewest if fewest >= RUNS_FOR_A_TEST => Method::MannWhitney,
            _ if base + new == 2 => Method::Intervals,
            _ => Method::EveryInterval,
        }
    }

    #[track_caller]
    fn check(metric: Metric, base: &[Option<Estimate>], new: &[Option<Estimate>], want: Change) -> Row {
        let row = row(metric, method(base.len(), new.len()), 0.1, base, new);
        assert_eq!(row.verdict, want, "{row:?}");
        row
    }

    #[test]
    fn one_run_against_one_is_decided_by_intervals_and_tolerance() {
        let base = [found(100.0, 95.0, 105.0)];
        check(P95, &base, &[found(120.0, 115.0, 125.0)], Change::Worse);
        check(P95, &base, &[found(80.0, 75.0, 85.0)], Change::Better);
        check(P95, &base, &[found(103.0, 98.0, 108.0)], Change::Same);
        // shown, but too little to matter
        check(P95, &[found(100.0, 99.0, 101.0)], &[found(105.0, 104.0, 106.0)], Change::Same);
        // a lot, but not shown
        let row = check(P95, &base, &[found(120.0, 104.0, 140.0)], Change::Inconclusive);
        assert!(row.note.is_some_and(|note| note.contains("chance could do it")));
        assert!((row.change.expect("a base") - 0.2).abs() < 1e-9);
    }

    #[test]
    fn more_is_better_for_rates() {
        let base = [found(100.0, 98.0, 102.0)];
        check(Metric::OutputTokensPerS, &base, &[found(80.0, 78.0, 82.0)], Change::Worse);
        check(Metric::OutputTokensPerS, &base, &[found(120.0, 118.0, 122.0)], Change::Better);
    }

    #[test]
    fn shares_are_compared_by_the_failures() {
        let (none, some) = (found(0.0, 0.0, 0.004), found(0.02, 0.013, 0.03));
        let row = check(Metric::ErrorRate, &[none], &[some], Change::Worse);
        assert_eq!(row.change, None);
        check(Metric::ErrorRate, &[none], &[none], Change::Same);
        let (all, fewer) = (found(1.0, 0.996, 1.0), found(0.98, 0.97, 0.987));
        check(Metric::SuccessRate, &[all], &[fewer], Change::Worse);
    }

    #[test]
    fn what_has_no_interval_or_no_value_is_inconclusive() {
        let open = |value| {
            found(value, 0.0, 0.0)
                .map(|e| Estimate { interval: Some(Interval { low: Some(1.0), high: None }), ..e })
        };
        let row = check(P95, &[open(5.0)], &[open(5.0)], Change::Inconclusive);
        assert_eq!(row.note.as_deref(), Some("too few requests for an interval"));
        let bare = |value| found(value, 0.0, 0.0).map(|e| Estimate { interval: None, ..e });
        let row = check(P95, &[bare(5.0)], &[bare(5.0)], Change::Inconclusive);
        assert_eq!(row.note.as_deref(), Some("no interval is known for it; compare 4 runs a side"));
        check(P95, &[None], &[bare(5.0)], Change::Inconclusive);
        // below all that the base can be, although its upper end is not known
        let base = [found(100.0, 0.0, 0.0)
            .map(|e| Estimate { interval: Some(Interval { low: Some(90.0), high: None }), ..e })];
        check(P95, &base, &[found(50.0, 45.0, 55.0)], Change::Better);
    }

    #[test]
    fn two_or_three_a_side_need_every_interval_apart() {
        let base = [found(100.0, 95.0, 105.0), found(102.0, 97.0, 107.0)];
        let apart = [found(120.0, 115.0, 125.0), found(121.0, 116.0, 126.0), found(119.0, 114.0, 124.0)];
        check(P95, &base, &apart, Change::Worse);
        let one_near = [apart[0], apart[1], found(119.0, 106.0, 124.0)];
        check(P95, &base, &one_near, Change::Inconclusive);
        check(P95, &base, &apart[..1], Change::Worse);
    }

    #[test]
    fn four_or_more_a_side_are_tested_over_runs() {
        let runs = |values: &[f64]| -> Vec<_> { values.iter().map(|v| found(*v, *v, *v)).collect() };
        let base = runs(&[100.0, 103.0, 98.0, 101.0]);
        let row = check(P95, &base, &runs(&[120.0, 118.0, 125.0, 121.0]), Change::Worse);
        assert!((row.p.expect("a test") - 1.0 / 70.0).abs() < 1e-12);
        assert_eq!((row.base.value, row.new.value), (Some(100.5), Some(120.5)));
        check(P95, &base, &runs(&[104.0, 105.0, 106.0, 104.5]), Change::Same);
        check(P95, &base, &runs(&[99.0, 97.0, 130.0, 140.0]), Change::Inconclusive);
        check(P95, &base, &runs(&[80.0, 81.0, 79.0, 82.0, 80.0]), Change::Better);
        check(P95, &base, &base, Change::Same);
    }

    /// A figure that is known only to lie between two.
    fn between_ends(low: f64, high: f64) -> Option<Estimate> {
        let interval = |value: f64| Some(Interval::new(value * 0.99, value * 1.01));
        let other_end = Some(OtherEnd { value: low, interval: interval(low) });
        Some(Estimate { value: high, interval: interval(high), n: 100, other_end })
    }

    #[test]
    fn a_difference_that_a_late_client_may_have_made_is_inconclusive() {
        let base = [found(50.0, 49.5, 50.5)];
        let row = check(P95, &base, &[between_ends(50.0, 290.0)], Change::Inconclusive);
        assert_eq!(row.note.as_deref(), Some("the client was late: new 50.0 to 290 ms"));
        assert_eq!((row.new.value, row.new.other_end), (Some(290.0), Some(50.0)));
        // nor can it be called the same or better
        check(P95, &[found(290.0, 285.0, 295.0)], &[between_ends(50.0, 290.0)], Change::Inconclusive);
        let row = check(P95, &[between_ends(50.0, 290.0)], &[between_ends(60.0, 61.0)], Change::Inconclusive);
        assert_eq!(
            row.note.as_deref(),
            Some("the client was late: base 50.0 to 290 ms, new 60.0 to 61.0 ms")
        );
        // wherever the truth is, these differ
        check(P95, &base, &[between_ends(100.0, 290.0)], Change::Worse);
        check(P95, &[found(500.0, 495.0, 505.0)], &[between_ends(50.0, 290.0)], Change::Better);
        // and this is within the tolerance
        check(P95, &base, &[between_ends(49.0, 51.0)], Change::Same);
    }

    #[test]
    fn a_test_over_runs_has_to_come_to_the_same_at_both_ends() {
        let runs = |values: &[f64]| -> Vec<_> { values.iter().map(|v| found(*v, *v, *v)).collect() };
        let base = runs(&[100.0, 103.0, 98.0, 101.0]);
        let late = |lows: [f64; 4]| lows.map(|low| between_ends(low, 200.0)).to_vec();
        check(P95, &base, &late([120.0, 118.0, 125.0, 121.0]), Change::Worse);
        check(P95, &base, &late([90.0, 91.0, 95.0, 92.0]), Change::Inconclusive);
    }
}
