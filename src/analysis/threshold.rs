//! Whether a run kept its limits, and how sure that is.

use serde::{Deserialize, Serialize};

use super::estimate::{Estimate, estimate};
use crate::health::Verdict;
use crate::plan::{Load, Metric, Operator, Quantity, Rule, Threshold, Unit};
use crate::stats::{Interval, count_for_lower_bound, count_for_upper_bound};
use crate::summary::Summary;
use crate::units::{show_count, show_counted, show_share, significant};

/// What came of one threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The threshold as it was written.
    pub threshold: String,
    /// The metric's name; `health` for the client's verdict.
    pub metric: String,
    /// What value and limit are measured in; `None` for the client's verdict.
    pub unit: Option<String>,
    /// What the run's figure is; `None` where it has none.
    pub value: Option<Figure>,
    /// The limit.
    pub limit: Figure,
    /// Where the figure may lie, 95 %; `None` where that is not known.
    pub ci95: Option<Interval>,
    /// How far from it the true figure may be, for this client was late: lower for times, higher for goodput. `None` where it
    /// is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_end: Option<f64>,
    /// Requests, or connections, that the figure is of.
    pub n: Option<u64>,
    /// Whether the limit was kept.
    pub verdict: Outcome,
    /// What else to know of it, in words.
    pub note: Option<String>,
}

/// A number, or the client's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Figure {
    /// In the unit beside it.
    Number(f64),
    /// VALID, DEGRADED or INVALID.
    Health(Verdict),
}

/// Whether a limit was kept. The figure as it was measured decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was.
    Passed,
    /// It was not, or the run has no such figure.
    Failed,
    /// It was, but by too few requests to say it of the server; or the limit lies between the two ends of a figure that this
    /// client was too late to know.
    Inconclusive,
}

impl Outcome {
    /// As it is shown and written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// Whether a command ends with 99 for it; `strict` takes what is inconclusive for bad.
    pub fn is_bad(self, strict: bool) -> bool {
        match self {
            Self::Passed => false,
            Self::Failed => true,
            Self::Inconclusive => strict,
        }
    }
}

/// Holds a run's figures to its thresholds, in their order.
pub fn judge(thresholds: &[Threshold], load: &Load, summary: &Summary, health: Verdict) -> Vec<Judgement> {
    let one = |threshold: &Threshold| match threshold.rule {
        Rule::Health(worst) => judged_health(threshold, worst, health),
        Rule::Figure(metric, operator, limit) => {
            let judged = judged_figure(threshold, metric, operator, limit, estimate(metric, load, summary));
            match Unknown::of(metric, summary) {
                Some(unknown) => unknown.weigh(judged, operator, limit),
                None => judged,
            }
        }
    };
    thresholds.iter().map(one).collect()
}

fn judged_health(threshold: &Threshold, worst: Verdict, health: Verdict) -> Judgement {
    Judgement {
        threshold: threshold.to_string(),
        metric: "health".to_owned(),
        unit: None,
        value: Some(Figure::Health(health)),
        limit: Figure::Health(worst),
        ci95: None,
        other_end: None,
        n: None,
        verdict: if health <= worst { Outcome::Passed } else { Outcome::Failed },
        note: None,
    }
}

fn judged_figure(
    threshold: &Threshold,
    metric: Metric,
    operator: Operator,
    limit: f64,
    found: Option<Estimate>,
) -> Judgement {
    let (verdict, note) = match &found {
        None => (Outcome::Failed, Some("no such value was measured".to_owned())),
        Some(found) => verdict(metric, operator, limit, found),
    };
    Judgement {
        threshold: threshold.to_string(),
        metric: metric.to_string(),
        unit: Some(metric.unit().name().to_owned()),
        value: found.map(|found| Figure::Number(found.value)),
        limit: Figure::Number(limit),
        ci95: found.and_then(|found| found.interval),
        other_end: found.and_then(|found| found.other_end).map(|end| end.value),
        n: found.map(|found| found.n),
        verdict,
        note,
    }
}

/// Requests of which the figure is not known, though they had one.
struct Unknown {
    count: u64,
    /// What is not known of them.
    what: &'static str,
    /// What a share would be if each of them were bad, and if each were good; `None` for a time, which can be anything.
    ends: Option<[f64; 2]>,
}

impl Unknown {
    /// `None` where there is none.
    fn of(metric: Metric, summary: &Summary) -> Option<Self> {
        let (latency, requests) = (&summary.latency, &summary.requests);
        let unknown = match metric {
            Metric::Of(Quantity::Tpot, _) => Self { count: latency.tpot_unknown?, what: "TPOT", ends: None },
            Metric::Of(Quantity::Itl, _) => Self { count: latency.itl_unknown?, what: "ITL", ends: None },
            Metric::Goodput | Metric::GoodputRequestsPerS => {
                let goodput = summary.goodput?;
                let of = match metric {
                    Metric::Goodput => requests.succeeded.saturating_add(requests.failed) as f64,
                    _ => summary.duration_s?,
                };
                let at_best = goodput.at_best.map_or(goodput.good, |best| best.good);
                let most = at_best.saturating_add(goodput.unjudged);
                let ends = [goodput.good as f64 / of, most as f64 / of];
                Self { count: goodput.unjudged, what: "TTFT or TPOT", ends: Some(ends) }
            }
            _ => return None,
        };
        (unknown.count > 0).then_some(unknown)
    }

    /// The same judgement, but inconclusive where these requests could turn it. What is broken without them stays so.
    fn weigh(&self, judged: Judgement, operator: Operator, limit: f64) -> Judgement {
        let Self { count, what, .. } = self;
        let requests = show_counted(*count, "request");
        let why = format!(
            "the {what} of {requests} is not known; --continuous-usage makes the server count tokens"
        );
        let note = judged.note.as_ref().map_or_else(|| why.clone(), |note| format!("{note}; {why}"));
        let can_turn = match self.ends {
            Some(ends) => {
                ends.iter().any(|end| operator.holds(*end, limit) == (judged.verdict == Outcome::Failed))
            }
            None => judged.verdict == Outcome::Passed,
        };
        let verdict = match judged.value {
            Some(_) if can_turn => Outcome::Inconclusive,
            _ => judged.verdict,
        };
        Judgement { verdict, note: Some(note), ..judged }
    }
}

fn verdict(metric: Metric, operator: Operator, limit: f64, found: &Estimate) -> (Outcome, Option<String>) {
    let is_kept = operator.holds(found.value, limit);
    if operator.holds(found.at_other_end().value, limit) != is_kept {
        let ends = between(metric.unit(), found.value, found.at_other_end().value);
        return (Outcome::Inconclusive, Some(format!("this client was late: {ends}")));
    }
    if let (true, Some(needed)) =
        (is_kept, needed(metric, operator, limit).filter(|needed| found.n < *needed))
    {
        let note = format!(
            "{} cannot show it at 95%; it takes {}",
            show_counted(found.n, "request"),
            show_count(needed)
        );
        return (Outcome::Inconclusive, Some(note));
    }
    // an interval without ends, of few values, says nothing of where the limit is
    let has_end = |interval: Interval| interval.low.is_some() || interval.high.is_some();
    let is_near = found.interval.is_some_and(|interval| has_end(interval) && interval.holds(limit));
    let note = is_near.then(|| "the limit lies within the interval: chance may decide".to_owned());
    (if is_kept { Outcome::Passed } else { Outcome::Failed }, note)
}

/// Between which two ends a figure lies: `50.1 to 290 ms`.
pub(super) fn between(unit: Unit, one: f64, other: f64) -> String {
    let (low, high) = (one.min(other), one.max(other));
    match unit {
        Unit::Share => format!("{} to {}", show_share(low), show_share(high)),
        _ => format!("{} to {} {}", significant(low), significant(high), unit.name()),
    }
}

/// How many requests it takes at least to bound the figure on the side of its limit with 95 % probability: for a
/// percentile so many that one lies beyond it, for a share so many that it is below the limit if none failed. `None` where
/// any number will do.
fn needed(metric: Metric, operator: Operator, limit: f64) -> Option<u64> {
    match metric {
        Metric::Of(_, stat) => stat.quantile().map(|quantile| match operator.is_upper() {
            true => count_for_upper_bound(quantile),
            false => count_for_lower_bound(quantile),
        }),
        Metric::PrefixCacheHitShare => None,
        _ if metric.unit() == Unit::Share => {
            // a limit of no failure at all is one of counts, not of a share
            let allowed = if metric == Metric::ErrorRate { limit } else { 1.0 - limit };
            let is_upper = operator.is_upper() == (metric == Metric::ErrorRate);
            (is_upper && allowed > 0.0 && allowed < 1.0).then(|| count_for_upper_bound(1.0 - allowed))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::estimate::OtherEnd;
    use crate::plan::Extent;
    use crate::summary::{Goodput, Latency, Samples, Tally};

    fn found(value: f64, low: f64, high: f64, n: u64) -> Estimate {
        Estimate { value, interval: Some(Interval::new(low, high)), n, other_end: None }
    }

    #[track_caller]
    fn check(threshold: &str, found: Option<Estimate>, want: Outcome, note: Option<&str>) {
        let threshold: Threshold = threshold.parse().expect(threshold);
        let Rule::Figure(metric, operator, limit) = threshold.rule else { panic!("a figure") };
        let judged = judged_figure(&threshold, metric, operator, limit, found);
        assert_eq!((judged.verdict, judged.note.as_deref()), (want, note), "{threshold}");
    }

    #[test]
    fn the_figure_itself_decides() {
        check("ttft.p50<500ms", Some(found(400.0, 380.0, 420.0, 300)), Outcome::Passed, None);
        check("ttft.p50<500ms", Some(found(600.0, 580.0, 620.0, 300)), Outcome::Failed, None);
        check("ttft.p50>=500ms", Some(found(600.0, 580.0, 620.0, 300)), Outcome::Passed, None);
    }

    #[test]
    fn a_limit_within_the_interval_is_told() {
        let near = Some("the limit lies within the interval: chance may decide");
        check("ttft.p50<500ms", Some(found(490.0, 470.0, 510.0, 300)), Outcome::Passed, near);
        check("ttft.p50<500ms", Some(found(501.0, 470.0, 510.0, 300)), Outcome::Failed, near);
    }

    #[test]
    fn too_few_requests_show_nothing_good() {
        let few = |value, n| {
            Some(Estimate {
                interval: Some(Interval { low: Some(1.0), high: None }),
                ..found(value, 0.0, 0.0, n)
            })
        };
        let note = Some("298 requests cannot show it at 95%; it takes 299");
        check("ttft.p99<500ms", few(400.0, 298), Outcome::Inconclusive, note);
        let near = Some("the limit lies within the interval: chance may decide");
        check("ttft.p99<500ms", few(400.0, 299), Outcome::Passed, near);
        check("ttft.p99<500ms", few(600.0, 10), Outcome::Failed, near);
        check("ttft.p99>3ms", few(600.0, 1), Outcome::Passed, near);
        let endless = Some(Estimate { interval: Some(Interval::default()), ..found(600.0, 0.0, 0.0, 2) });
        check("ttft.p99>3ms", endless, Outcome::Passed, None);
        check("ttft.p99<3ms", endless, Outcome::Failed, None);
        let note = Some("100 requests cannot show it at 95%; it takes 299");
        check("error_rate<1%", Some(found(0.0, 0.0, 0.037, 100)), Outcome::Inconclusive, note);
        check("success_rate>99%", Some(found(1.0, 0.963, 1.0, 100)), Outcome::Inconclusive, note);
        check("goodput>99%", Some(found(1.0, 0.963, 1.0, 100)), Outcome::Inconclusive, note);
        check("error_rate<=0%", Some(found(0.0, 0.0, 0.037, 100)), Outcome::Passed, near);
        check("error_rate>1%", Some(found(0.5, 0.4, 0.6, 100)), Outcome::Passed, None);
    }

    #[test]
    fn a_limit_between_the_ends_is_the_clients_doing() {
        let between = |value: f64, other: f64| {
            let other_end = Some(OtherEnd { value: other, interval: None });
            Some(Estimate { other_end, ..found(value, value, value, 5_000) })
        };
        let late = Some("this client was late: 50.1 to 290 ms");
        check("ttft.p99<100ms", between(290.0, 50.1), Outcome::Inconclusive, late);
        check("ttft.p99>100ms", between(290.0, 50.1), Outcome::Inconclusive, late);
        check("ttft.p99<300ms", between(290.0, 50.1), Outcome::Passed, None);
        check("ttft.p99<50ms", between(290.0, 50.1), Outcome::Failed, None);
        let late = Some("this client was late: 94.2% to 96.0%");
        check("goodput>=95%", between(0.942, 0.96), Outcome::Inconclusive, late);
        check("goodput>=94%", between(0.942, 0.96), Outcome::Passed, None);
        check("goodput>=97%", between(0.942, 0.96), Outcome::Failed, None);
        let late = Some("this client was late: 9.00 to 12.0 requests/s");
        check("goodput_requests_per_s>10", between(9.0, 12.0), Outcome::Inconclusive, late);
    }

    #[test]
    fn what_was_not_measured_is_not_kept() {
        check("connect.p50<5ms", None, Outcome::Failed, Some("no such value was measured"));
        let mean = Some(Estimate { interval: None, ..found(4.0, 0.0, 0.0, 1) });
        check("e2e.max<5ms", mean, Outcome::Passed, None);
    }

    #[test]
    fn the_clients_verdict_is_a_limit_too() {
        let health = |text: &str, verdict| {
            let threshold: Threshold = text.parse().expect(text);
            let Rule::Health(worst) = threshold.rule else { panic!("health") };
            judged_health(&threshold, worst, verdict).verdict
        };
        assert_eq!(health("health=VALID", Verdict::Valid), Outcome::Passed);
        assert_eq!(health("health=VALID", Verdict::Degraded), Outcome::Failed);
        assert_eq!(health("health<=DEGRADED", Verdict::Degraded), Outcome::Passed);
        assert_eq!(health("health<=DEGRADED", Verdict::Invalid), Outcome::Failed);
    }

    #[test]
    fn requests_of_which_a_figure_is_not_known_can_turn_a_verdict() {
        let load = Load {
            threads: std::num::NonZeroUsize::MIN,
            arrivals: None,
            completions: None,
            duration: None,
            warmup: Extent::NONE,
            cooldown: Extent::NONE,
            grace: None,
        };
        let mut values = Samples::new(1);
        (0..400).for_each(|_| values.add(10));
        let mut summary = Tally::default().into_summary();
        summary.latency.tpot = values.into_distribution(1.0);
        (summary.requests.succeeded, summary.duration_s) = (500, Some(10.0));
        let goodput = |unjudged| Goodput {
            good: 390,
            unjudged,
            share: Some(0.975),
            requests_per_s: Some(39.0),
            at_best: None,
        };
        let check = |threshold: &str, unknown, want, part: &str| {
            let summary = Summary {
                goodput: Some(goodput(unknown)),
                latency: Latency { tpot_unknown: Some(unknown), ..summary.latency.clone() },
                ..summary.clone()
            };
            let threshold: Threshold = threshold.parse().expect("a threshold");
            let judged = judge(&[threshold], &load, &summary, Verdict::Valid).remove(0);
            assert_eq!(judged.verdict, want, "{judged:?}");
            assert!(judged.note.as_deref().unwrap_or_default().contains(part), "{judged:?}");
        };
        use Outcome::*;
        check("tpot.p50<20ms", 0, Passed, "");
        check("tpot.p50<20ms", 100, Inconclusive, "the TPOT of 100 requests is not known");
        check("tpot.p50<20ms", 1, Inconclusive, "the TPOT of 1 request is not known");
        check("tpot.p50<5ms", 100, Failed, "100 requests");
        check("goodput>97%", 100, Inconclusive, "100 requests");
        // from 78 to 98 %, from 39 to 49 a second
        check("goodput>77%", 100, Passed, "100 requests");
        check("goodput>99%", 100, Failed, "100 requests");
        check("goodput_requests_per_s>38", 100, Passed, "100 requests");
        check("goodput_requests_per_s>48", 100, Inconclusive, "100 requests");
        check("goodput_requests_per_s>50", 100, Failed, "100 requests");
        // nothing is known at all
        check("itl.p50<5ms", 100, Failed, "no such value");
    }
}
