//! Figures, intervals, thresholds and goodput, in the words that all reports share; and what stands for none.

use crate::analysis::{Figure, Judgement, Outcome};
use crate::health::{Check, Uncertain, uncertain};
use crate::report::Report;
use crate::report::naming::is_open;
use crate::stats::Interval;
use crate::summary::{Distribution, STATISTICS, Statistic};
use crate::units::{show_count, show_counted, show_fine_ms, show_share, significant};

/// What stands for an unknown figure.
pub(crate) const UNKNOWN: &str = "–";

/// A number with three digits.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or(UNKNOWN.to_owned(), significant)
}

/// A count, in groups of three digits.
pub(super) fn count(value: Option<u64>) -> String {
    value.map_or(UNKNOWN.to_owned(), show_count)
}

/// A share of 1 as a percentage.
pub(super) fn share(value: Option<f64>) -> String {
    value.map_or(UNKNOWN.to_owned(), show_share)
}

/// The load, and how much of it pauses took away.
pub(super) fn load(report: &Report) -> String {
    let load = &report.plan.load;
    match report.summary.backoff.filter(|backoff| backoff.paused_s > 0.0) {
        Some(backoff) => format!("{load}; paused for {} of thread time", show_share(backoff.thread_share)),
        None => load.to_string(),
    }
}

/// The share of requests that succeeded.
pub(super) fn success(report: &Report) -> String {
    share(report.summary.requests.success_rate)
}

/// Scaling efficiency in whole percent, which may be above 100.
pub(super) fn efficiency(value: Option<f64>) -> String {
    value.map_or(UNKNOWN.to_owned(), |value| format!("{:.0}%", value * 100.0))
}

/// The statistics of a row; the median is there as p50.
pub(super) fn statistics() -> impl Iterator<Item = Statistic> {
    STATISTICS.into_iter().filter(|(name, _)| *name != "median")
}

/// The figure of a judgement in words: `431 ms, 95% from 402 to 466, n 4,096; …`.
pub(super) fn judgement(judged: &Judgement) -> String {
    let unit = judged.unit.as_deref().unwrap_or_default();
    let mut words = match judged.value {
        None => UNKNOWN.to_owned(),
        Some(Figure::Health(verdict)) => verdict.name().to_owned(),
        Some(Figure::Number(value)) => with_unit(value, unit),
    };
    if let Some(ci95) = judged.ci95 {
        words.push_str(&format!(", 95% {}", interval(ci95, unit)));
    }
    words.push_str(&judged.n.map(|n| format!(", n {}", show_count(n))).unwrap_or_default());
    words.push_str(&judged.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default());
    words
}

/// A figure and its unit, shares as percentages: `431 ms`, `2.10%`.
pub(super) fn with_unit(value: f64, unit: &str) -> String {
    if unit == "share" { shown(value, unit) } else { format!("{} {unit}", shown(value, unit)) }
}

/// A figure without its unit, shares as percentages.
pub(super) fn shown(value: f64, unit: &str) -> String {
    if unit == "share" { format!("{}%", significant(value * 100.0)) } else { significant(value) }
}

/// `402 to 466`, with a dash for an end that nothing bounds.
pub(super) fn interval(interval: Interval, unit: &str) -> String {
    let end = |end: Option<f64>| end.map_or(UNKNOWN.to_owned(), |end| shown(end, unit));
    format!("{} to {}", end(interval.low), end(interval.high))
}

/// What became of a run's thresholds: whether any failed, and a line such as `1 of 3 thresholds failed, 1
/// inconclusive`. `None` where it had none.
pub(super) fn thresholds_in_short(report: &Report) -> Option<(Outcome, String)> {
    let count = |outcome| report.thresholds.iter().filter(|judged| judged.verdict == outcome).count();
    let (all, failed, unsure) =
        (report.thresholds.len(), count(Outcome::Failed), count(Outcome::Inconclusive));
    let of_all = show_counted(all as u64, "threshold");
    let mut words = match failed {
        0 if unsure == 0 => format!("{of_all} passed"),
        0 => format!("No threshold of {all} failed"),
        _ => format!("{failed} of {of_all} failed"),
    };
    if unsure > 0 {
        words.push_str(&format!(", {unsure} inconclusive"));
    }
    let worst = match (failed, unsure) {
        (0, 0) => Outcome::Passed,
        (0, _) => Outcome::Inconclusive,
        _ => Outcome::Failed,
    };
    (all > 0).then_some((worst, words))
}

/// A line for each threshold: what it was, whether it passed, and the figure.
pub(super) fn threshold_lines(report: &Report) -> impl Iterator<Item = String> + '_ {
    let line =
        |judged: &Judgement| format!("{} {}: {}", judged.threshold, judged.verdict.name(), judgement(judged));
    report.thresholds.iter().map(line)
}

/// What stands above [`late_lines`].
pub(super) const LATE: &str = "this client was late, so that these are known only to lie between two ends";

/// A line for each time of which a percentile is known to less than 1 ms and 2 %, because this client was late: `TTFT: p50 50.1
/// to 330 ms, p99 50.1 to 370 ms`.
pub(super) fn late_lines(report: &Report) -> Vec<String> {
    let latency = &report.summary.latency;
    let open = |distribution| Option::as_ref(distribution).filter(|_| is_open(report));
    let times = [
        ("response E2E", open(&latency.response_e2e), &latency.response_e2e_low),
        ("response TTFT", open(&latency.response_ttft), &latency.response_ttft_low),
        ("E2E", latency.e2e.as_ref(), &latency.e2e_low),
        ("TTFT", latency.ttft.as_ref(), &latency.ttft_low),
        ("TPOT", latency.tpot.as_ref(), &latency.tpot_low),
        ("ITL", latency.itl.as_ref(), &latency.itl_low),
    ];
    let line = |(name, high, low): (&str, Option<&Distribution>, &Option<Distribution>)| {
        let apart = uncertain(high?, low.as_ref()).filter(Uncertain::is_material);
        let told: Vec<_> = apart.map(|one| one.ends_in_words()).collect();
        (!told.is_empty()).then(|| format!("{name}: {}", told.join(", ")))
    };
    times.into_iter().filter_map(line).collect()
}

/// How much is not known because this client was late: `3.20% of the requests have moments that are not known to the millisecond;
/// it stood still while 4 requests went on`. `None` where all is known.
pub(super) fn lateness(report: &Report) -> Option<String> {
    let summary = &report.summary;
    let share = summary.latency.uncertain_requests_share.filter(|share| *share > 0.0);
    let share = share.map(|share| {
        format!("{} of the requests have moments that are not known to the millisecond", show_share(share))
    });
    let stood_still = Some(summary.requests.stood_still).filter(|requests| *requests > 0);
    let stood_still = stood_still
        .map(|requests| format!("it stood still while {} went on", show_counted(requests, "request")));
    let parts: Vec<String> = [share, stood_still].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// How much of the prompts was cached: `97.1% of 87,000 prompt tokens came from the server's prefix cache`. `None` where nobody
/// tells.
pub(super) fn prefix_cache(report: &Report) -> Option<String> {
    let share = show_share(report.prefix_cache_hit_share()?);
    let tokens = &report.summary.tokens;
    let of = match tokens.input.filter(|_| tokens.cached.is_some()) {
        Some(input) => format!("{} prompt tokens", show_count(input)),
        None => "all prompt tokens that the server counted".to_owned(),
    };
    Some(format!("{share} of {of} came from the server's prefix cache"))
}

/// The goodput in words, `94.2%, 12.1 requests/s: 471 met ttft ≤ 500 ms`. `None` where no objective was set.
pub(super) fn goodput(report: &Report) -> Option<String> {
    let goodput = report.summary.goodput.as_ref()?;
    let (share, rate) = (share(goodput.share), number(goodput.requests_per_s));
    let slos = report.plan.slos.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let at_best = goodput.at_best.map(|best| {
        let share = self::share(best.share);
        format!("; this client was late: up to {} ({share}) may have", show_count(best.good))
    });
    let unjudged = match goodput.unjudged {
        0 => String::new(),
        count => format!("; {} could not be judged", show_count(count)),
    };
    let (good, at_best) = (show_count(goodput.good), at_best.unwrap_or_default());
    Some(format!("{share}, {rate} requests/s: {good} met {slos}{at_best}{unjudged}"))
}

/// That a calibration's replay had an easier machine than the run: a thread waited for a core for longer in the run than
/// twice what it did in the replay, by more than a fifth of a millisecond. `None` where it had not, or that is not known.
pub(super) fn easier_replay(report: &Report) -> Option<String> {
    let replay = report.calibration.as_ref()?.replay.run_queue_wait_ms?;
    easier(replay, report.health.value(Check::RunQueueWait)?)
}

fn easier(replay: f64, run: f64) -> Option<String> {
    let is_easier = run > 2.0 * replay && run > replay + 0.2;
    is_easier.then(|| {
        format!(
            "the replay had an easier machine: its threads waited {} ms for a core on average, those of the run {} ms, so the \
             client's share may be larger than this",
            show_fine_ms(replay),
            show_fine_ms(run)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_on_an_easier_machine_is_told_of() {
        assert_eq!(easier(0.05, 0.2), None);
        assert_eq!(easier(2.0, 3.9), None);
        let told = easier(0.05, 4.0).expect("it was easier");
        assert!(told.contains("waited 0.050 ms") && told.contains("those of the run 4.00 ms"), "{told}");
    }

    #[test]
    fn a_share_is_a_percentage_and_all_else_has_its_unit() {
        assert_eq!(with_unit(0.021, "share"), "2.10%");
        assert_eq!(with_unit(431.2, "ms"), "431 ms");
    }
}
