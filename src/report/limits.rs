//! The limits of several runs side by side: columns for goodput and thresholds, and the best point within them.

use super::Report;
use super::naming::LoadAxis;
use super::words::{UNKNOWN, number, share};
use crate::analysis::{GOOD_ENOUGH, Outcome, Ran, Sweep};
use crate::plan::SuiteKind;
use crate::units::show_share;

/// The reports as a sweep. Runs read from files may be one of threads, too.
pub fn sweep(kind: SuiteKind, reports: &[Report]) -> Sweep {
    let is_of_threads = LoadAxis::of(reports).is_some_and(|axis| axis.name == "threads");
    let kind = if is_of_threads { SuiteKind::Threads } else { kind };
    Sweep::new(kind, reports.iter().map(ran))
}

fn ran(report: &Report) -> Ran<'_> {
    let Report { plan, summary, thresholds, .. } = report;
    Ran { load: &plan.load, summary, thresholds }
}

/// Which columns on limits a table of several runs has: those that any of the runs can fill.
#[derive(Clone, Copy)]
pub struct LimitColumns {
    goodput: bool,
    thresholds: bool,
}

impl LimitColumns {
    /// For a table of these runs.
    pub fn of(reports: &[Report]) -> Self {
        Self {
            goodput: reports.iter().any(|report| report.summary.goodput.is_some()),
            thresholds: reports.iter().any(|report| !report.thresholds.is_empty()),
        }
    }

    /// What stands above them.
    pub fn heads(self) -> impl Iterator<Item = &'static str> {
        [self.goodput.then_some("goodput"), self.thresholds.then_some("thresholds")].into_iter().flatten()
    }

    /// The cells of one run.
    pub fn cells(self, report: &Report) -> impl Iterator<Item = String> {
        let goodput = self.goodput.then(|| share(report.summary.goodput.and_then(|goodput| goodput.share)));
        [goodput, self.thresholds.then(|| kept(report))].into_iter().flatten()
    }
}

/// `passed`, `1 of 3 failed`, `2 of 3 inconclusive`; a dash where the run had no threshold.
fn kept(report: &Report) -> String {
    let all = report.thresholds.len();
    let count = |outcome| report.thresholds.iter().filter(|judged| judged.verdict == outcome).count();
    match (count(Outcome::Failed), count(Outcome::Inconclusive)) {
        _ if all == 0 => UNKNOWN.to_owned(),
        (0, 0) => "passed".to_owned(),
        (0, unsure) => format!("{unsure} of {all} inconclusive"),
        (failed, _) => format!("{failed} of {all} failed"),
    }
}

/// Which point of a sweep of threads is best, or that none is, in sentences; empty for other runs. `name` tells a run.
pub fn best_point(sweep: &Sweep, name: impl Fn(usize) -> String) -> Vec<String> {
    if !sweep.has_choice {
        return vec![];
    }
    let unit = unit(sweep);
    let (within, good) = (" of the runs that kept their limits", show_share(GOOD_ENOUGH));
    let of_kept = if sweep.has_limits() { within } else { "" };
    let mut said = match sweep.best {
        Some(best) => vec![format!(
            "Best point: {}, {} {unit}: the fewest threads within 5% of the highest throughput{of_kept}",
            name(best),
            number(sweep.points[best].throughput)
        )],
        None => vec![format!(
            "No best point: each run broke a threshold, or fewer than {good} of its requests met the objectives"
        )],
    };
    if sweep.still_rising {
        said.push(
            "Throughput still rises there, at the most threads that were tried: more may be better"
                .to_owned(),
        );
    }
    said.push(format!("Efficiency is {unit} per thread against those of the run with the fewest threads"));
    said
}

fn unit(sweep: &Sweep) -> &'static str {
    if sweep.in_tokens { "output tokens/s" } else { "completions/s" }
}
