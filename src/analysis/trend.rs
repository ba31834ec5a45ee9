//! Runs of one plan in the order they were made: where the level of a figure changes, and how the latest run stands to those
//! before it. A value is a run, never a request.

use serde::Serialize;

use super::compare::{Change, RUNS_FOR_A_TEST, SIGNIFICANT, exceeds, median};
use super::estimate::Estimate;
use crate::plan::Metric;
use crate::stats::{Interval, change_points};

/// One metric over runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trend {
    /// Its name.
    pub metric: String,
    /// What its figures are measured in.
    pub unit: &'static str,
    /// Whether less is better.
    pub smaller_is_better: bool,
    /// The figure of each run; `None` where the run has none.
    pub runs: Vec<Option<Estimate>>,
    /// Runs between two changes, first to last; at least one where a run that is judged has the figure.
    pub segments: Vec<Segment>,
    /// Where a level changes, first to last.
    pub changes: Vec<Shift>,
    /// The latest run that is judged; `None` without one before it.
    pub latest: Option<Latest>,
}

/// Runs of one level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Segment {
    /// Index of its first run.
    pub from: usize,
    /// Index of its last run.
    pub until: usize,
    /// How many of them are judged and have the figure.
    pub n: usize,
    /// The median of these.
    pub median: f64,
    /// The median of their other ends, where clients were late: lower for times, higher for goodput. `None` where it is the
    /// same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_end: Option<f64>,
}

/// A change of level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Shift {
    /// Index of the first run of the new level.
    pub run: usize,
    /// The level that it is held against: the median of the first segment, or of the last that was better or worse, so that
    /// small steps add up.
    pub before: f64,
    /// The new level: the median of its segment.
    pub after: f64,
    /// `after ÷ before − 1`; `None` where `before` is 0.
    pub change: Option<f64>,
    /// How likely a random order of the runs would show such a step somewhere.
    pub p: f64,
    /// Better or worse above the tolerance, same within it; inconclusive where that depends on how late clients were.
    pub verdict: Change,
}

/// The latest run beside those before it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latest {
    /// Its index.
    pub run: usize,
    /// The median of the runs before it since the last change.
    pub before: f64,
    /// How many these are.
    pub n: usize,
    /// `figure ÷ before − 1`; `None` where `before` is 0.
    pub change: Option<f64>,
    /// Better or worse where the figure is above the tolerance, beyond every one of at least four runs before it, and its own
    /// interval is beyond their median; same within the tolerance.
    pub verdict: Change,
    /// Why it is inconclusive.
    pub note: Option<String>,
}

impl Trend {
    /// A metric over runs in the order they were made. Runs that are not `judged` have a place, but no say.
    pub fn new(metric: Metric, runs: Vec<Option<Estimate>>, judged: &[bool], tolerance: f64) -> Self {
        let has_say = |(index, run): (usize, &Option<Estimate>)| {
            let is_judged = judged.get(index) == Some(&true);
            run.filter(|found| is_judged && found.value.is_finite()).map(|found| (index, found))
        };
        let found: Vec<(usize, Estimate)> = runs.iter().enumerate().filter_map(has_say).collect();
        let values: Vec<f64> = found.iter().map(|(_, estimate)| estimate.value).collect();
        let points = change_points(&values, SIGNIFICANT);
        let ends = points.iter().map(|point| point.at).chain([found.len()]);
        let starts = [0].into_iter().chain(points.iter().map(|point| point.at));
        let segments: Vec<Segment> =
            starts.zip(ends).filter_map(|(from, until)| segment(&found[from..until])).collect();
        let mut changes: Vec<Shift> = Vec::with_capacity(points.len());
        let mut level = segments.first().copied();
        for (segment, point) in segments.iter().skip(1).zip(&points) {
            let before = level.unwrap_or(*segment);
            let verdict = verdict_of_ends(metric, tolerance, before.ends(), segment.ends());
            changes.push(Shift {
                run: segment.from,
                before: before.median,
                after: segment.median,
                change: relative(before.median, segment.median),
                p: point.p,
                verdict,
            });
            if matches!(verdict, Change::Better | Change::Worse) {
                level = Some(*segment);
            }
        }
        let newest = points.last().map_or(0, |point| point.at);
        Self {
            metric: metric.to_string(),
            unit: metric.unit().name(),
            smaller_is_better: metric.smaller_is_better(),
            latest: latest(metric, tolerance, &found[newest..]),
            runs,
            segments,
            changes,
        }
    }

    /// What the newest level is, against that before it: the verdict of the last change above the tolerance, same without one.
    pub fn verdict(&self) -> Change {
        let last = self.changes.iter().rev().find(|change| change.verdict != Change::Same);
        last.map_or(Change::Same, |change| change.verdict)
    }

    /// The change that begins with this run.
    pub fn change_at(&self, run: usize) -> Option<&Shift> {
        self.changes.iter().find(|change| change.run == run)
    }
}

fn segment(found: &[(usize, Estimate)]) -> Option<Segment> {
    let ((from, _), (until, _)) = found.first().zip(found.last())?;
    let of = |end: fn(Estimate) -> Estimate| {
        median(found.iter().map(|(_, estimate)| end(*estimate).value).collect())
    };
    let median = of(|estimate| estimate)?;
    let other_end = of(Estimate::at_other_end).filter(|other| *other != median);
    Some(Segment { from: *from, until: *until, n: found.len(), median, other_end })
}

impl Segment {
    /// Its median, and between which two it lies.
    fn ends(&self) -> [f64; 3] {
        let other = self.other_end.unwrap_or(self.median);
        [self.median, self.median.min(other), self.median.max(other)]
    }
}

/// Better, worse or within the tolerance wherever between their ends the figures are; inconclusive where that differs. Both are
/// given as the figure, its lower and its upper end.
fn verdict_of_ends(metric: Metric, tolerance: f64, from: [f64; 3], to: [f64; 3]) -> Change {
    let shown = verdict(metric, tolerance, from[0], to[0]);
    let is_so = |from, to| verdict(metric, tolerance, from, to) == shown;
    if is_so(from[1], to[2]) && is_so(from[2], to[1]) { shown } else { Change::Inconclusive }
}

/// Better, worse, or within the tolerance.
fn verdict(metric: Metric, tolerance: f64, from: f64, to: f64) -> Change {
    match exceeds(metric, tolerance, from, to) {
        false => Change::Same,
        true if (to > from) == metric.smaller_is_better() => Change::Worse,
        true => Change::Better,
    }
}

fn relative(from: f64, to: f64) -> Option<f64> {
    (from != 0.0).then(|| to / from - 1.0)
}

/// The last of the runs beside the others of its level.
fn latest(metric: Metric, tolerance: f64, found: &[(usize, Estimate)]) -> Option<Latest> {
    let ((run, last), before) = found.split_last()?;
    let values: Vec<f64> = before.iter().map(|(_, estimate)| estimate.value).collect();
    let middle = median(values)?;
    let is_beyond = |other: &Estimate| match last.value > middle {
        true => other.at_most().value < last.at_least().value,
        false => other.at_least().value > last.at_most().value,
    };
    let level = segment(before)?;
    let last_ends = [last.value, last.at_least().value, last.at_most().value];
    let (verdict, note) = match verdict_of_ends(metric, tolerance, level.ends(), last_ends) {
        Change::Inconclusive => {
            (Change::Inconclusive, Some("the client was late, and may have made the difference"))
        }
        Change::Same => (Change::Same, None),
        _ if before.len() < RUNS_FOR_A_TEST => (Change::Inconclusive, Some("fewer than four runs before it")),
        _ if !before.iter().all(|(_, other)| is_beyond(other)) => {
            (Change::Inconclusive, Some("a run before it was as far off"))
        }
        _ if !(is_clear(last.interval, middle) && is_clear(last.at_other_end().interval, middle)) => {
            (Change::Inconclusive, Some("its own requests are too few to tell"))
        }
        shown => (shown, None),
    };
    Some(Latest {
        run: *run,
        before: middle,
        n: before.len(),
        change: relative(middle, last.value),
        verdict,
        note: note.map(str::to_owned),
    })
}

/// Whether the interval leaves the value out. Where none is known, the run's figure has to do.
fn is_clear(interval: Option<Interval>, value: f64) -> bool {
    interval.is_none_or(|interval| !interval.holds(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::estimate::OtherEnd;
    use crate::plan::{Quantity, Stat};

    const P95: Metric = Metric::Of(Quantity::Ttft, Stat::P95);

    fn found(value: f64) -> Option<Estimate> {
        Some(Estimate {
            value,
            interval: Some(Interval::new(value * 0.98, value * 1.02)),
            n: 100,
            other_end: None,
        })
    }

    fn trend(metric: Metric, values: &[f64]) -> Trend {
        Trend::new(metric, values.iter().copied().map(found).collect(), &vec![true; values.len()], 0.1)
    }

    #[track_caller]
    fn check(metric: Metric, values: &[f64], want: &[(usize, Change)]) {
        let trend = trend(metric, values);
        let changes: Vec<_> = trend.changes.iter().map(|change| (change.run, change.verdict)).collect();
        assert_eq!(changes, want, "{trend:?}");
        assert_eq!(
            trend.verdict(),
            want.iter().rev().map(|w| w.1).find(|v| *v != Change::Same).unwrap_or(Change::Same)
        );
    }

    const BEFORE: [f64; 6] = [100.0, 103.0, 98.0, 101.0, 99.0, 102.0];

    fn then(after: &[f64]) -> Vec<f64> {
        [&BEFORE[..], after].concat()
    }

    #[test]
    fn a_change_is_worse_or_better_by_the_metrics_own_way() {
        let up = then(&[130.0, 128.0, 131.0, 129.0]);
        check(P95, &up, &[(6, Change::Worse)]);
        check(Metric::OutputTokensPerS, &up, &[(6, Change::Better)]);
        check(P95, &then(&[104.0, 105.0, 104.5, 106.0]), &[(6, Change::Same)]);
        check(P95, &BEFORE, &[]);
        check(P95, &[], &[]);
        let shift = trend(P95, &up).changes[0];
        assert_eq!((shift.before, shift.after), (100.5, 129.5));
        assert!((shift.change.expect("a level") - 0.288_6).abs() < 1e-3);
    }

    #[test]
    fn small_steps_add_up() {
        let steps: Vec<f64> =
            (0..3).flat_map(|step| BEFORE.map(|value| value * (1.0 + 0.07 * f64::from(step)))).collect();
        check(P95, &steps, &[(6, Change::Same), (12, Change::Worse)]);
    }

    #[test]
    fn what_is_not_judged_has_no_say_but_a_place() {
        let mut judged = [true; 11];
        (judged[3], judged[10]) = (false, false);
        let mut runs: Vec<_> = then(&[130.0, 128.0, 131.0, 129.0, 9.0]).into_iter().map(found).collect();
        (runs[3], runs[1]) = (found(1e6), None);
        let trend = Trend::new(P95, runs, &judged, 0.1);
        assert_eq!(trend.changes.iter().map(|change| change.run).collect::<Vec<_>>(), [6]);
        assert_eq!(
            trend.segments.iter().map(|s| (s.from, s.until, s.n)).collect::<Vec<_>>(),
            [(0, 5, 4), (6, 9, 4)]
        );
        assert_eq!(trend.latest.map(|latest| (latest.run, latest.n)), Some((9, 3)));
    }

    /// Known only to lie between the two.
    fn between_ends(low: f64, high: f64) -> Option<Estimate> {
        let other_end = Some(OtherEnd { value: low, interval: Some(Interval::new(low * 0.98, low * 1.02)) });
        found(high).map(|found| Estimate { other_end, ..found })
    }

    #[test]
    fn a_change_that_late_clients_may_have_made_is_inconclusive() {
        let with = |low: f64| {
            let after = [200.0, 198.0, 202.0, 201.0].map(|high| between_ends(low, high));
            let runs: Vec<_> = BEFORE.map(found).into_iter().chain(after).collect();
            let judged = vec![true; runs.len()];
            Trend::new(P95, runs, &judged, 0.1)
        };
        let (late, slow) = (with(100.0), with(150.0));
        assert_eq!((late.changes[0].verdict, late.verdict()), (Change::Inconclusive, Change::Inconclusive));
        assert_eq!((late.segments[1].median, late.segments[1].other_end), (200.5, Some(100.0)));
        assert_eq!((slow.changes[0].verdict, slow.verdict()), (Change::Worse, Change::Worse));
    }

    #[test]
    fn a_latest_run_that_was_late_is_inconclusive_unless_both_ends_say_the_same() {
        let latest = |last: Option<Estimate>| {
            let runs: Vec<_> = BEFORE.map(found).into_iter().chain([last]).collect();
            let judged = vec![true; runs.len()];
            Trend::new(P95, runs, &judged, 0.1).latest.expect("some before it")
        };
        let late = latest(between_ends(100.0, 300.0));
        assert_eq!(late.verdict, Change::Inconclusive);
        assert!(late.note.is_some_and(|note| note.contains("late")));
        assert_eq!(latest(between_ends(150.0, 300.0)).verdict, Change::Worse);
        assert_eq!(latest(between_ends(95.0, 105.0)).verdict, Change::Same);
    }

    #[test]
    fn the_latest_run_is_held_against_those_of_its_level() {
        let latest = |last: Option<Estimate>, before: &[f64]| {
            let runs = before.iter().copied().map(found).chain([last]).collect();
            Trend::new(P95, runs, &vec![true; before.len() + 1], 0.1).latest.expect("some before it")
        };
        assert_eq!(latest(found(130.0), &BEFORE).verdict, Change::Worse);
        assert_eq!(latest(found(80.0), &BEFORE).verdict, Change::Better);
        assert_eq!(latest(found(109.0), &BEFORE).verdict, Change::Same);
        let wide = Interval { low: Some(90.0), high: None };
        let wide = Estimate { value: 130.0, interval: Some(wide), n: 9, other_end: None };
        for (last, before, why) in [
            (found(130.0), &BEFORE[..3], "fewer than four"),
            (found(130.0), &[100.0, 101.0, 140.0, 99.0, 98.0][..], "as far off"),
            (Some(wide), &BEFORE[..], "too few to tell"),
        ] {
            let latest = latest(last, before);
            assert_eq!(latest.verdict, Change::Inconclusive, "{latest:?}");
            assert!(latest.note.as_ref().is_some_and(|note| note.contains(why)), "{latest:?}");
        }
        let far = latest(found(131.0), &then(&[130.0, 128.0, 131.0, 129.0]));
        assert_eq!((far.before, far.n, far.verdict), (129.5, 4, Change::Same));
        assert_eq!(trend(P95, &[1.0]).latest, None);
    }
}
