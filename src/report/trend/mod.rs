//! Saved runs over time: what was read, grouped by plan, and the forms in which it is shown.

mod console;
mod csv;
mod markdown;

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde::Serialize;

pub use console::print_trend;
pub use csv::write_trend_csv;
pub use markdown::write_trend_markdown;

use super::words::{UNKNOWN, interval, shown};
use super::{Report, Tool};
use crate::analysis::{Change, Estimate, Latest, Shift, Trend};
use crate::health::Verdict;
use crate::plan::{Labels, shown_labels};
use crate::stats::Interval;
use crate::text::printable;
use crate::units::show_counted;

/// Number of the JSON's form; counted apart from that of a run.
pub const TREND_SCHEMA: u32 = 1;

/// Runs over time, one series for each plan.
#[derive(Clone, Debug, Serialize)]
pub struct TrendReport {
    /// Number of this form, [`TREND_SCHEMA`].
    pub schema: u32,
    /// The tool that made it.
    pub tool: Tool,
    /// Changes up to this share of a level are taken for none.
    pub tolerance: f64,
    /// Which label names the runs; `None` shows them by their date alone.
    pub by: Option<String>,
    /// The worst of the metrics' verdicts on their newest level.
    pub verdict: Change,
    /// One for each plan, by the start of its first run.
    pub series: Vec<TrendSeries>,
    /// Files that were left out.
    pub skipped: Vec<Skipped>,
}

/// The runs of one plan, first to last.
#[derive(Clone, Debug, Serialize)]
pub struct TrendSeries {
    /// What tells the plan from others.
    pub plan_hash: String,
    /// Its scenario, if it is one.
    pub scenario: Option<String>,
    /// The model that was asked.
    pub model: String,
    /// Its load, in words.
    pub load: String,
    /// The runs, first to last.
    pub runs: Vec<TrendRun>,
    /// One for each metric; their figures and indexes are of these runs.
    pub metrics: Vec<Trend>,
}

/// A run of a series.
#[derive(Clone, Debug, Serialize)]
pub struct TrendRun {
    /// Its file, as it was found.
    pub file: String,
    /// When it began, UTC, RFC 3339.
    pub started: String,
    /// The URL that was asked, or `simulated server`, whose port is another each time.
    pub server: String,
    /// What its user called it.
    pub labels: Labels,
    /// The client's verdict on itself.
    pub health: Verdict,
    /// Whether it went on to its planned end.
    pub complete: bool,
    /// Whether it has a say: it is complete and not INVALID.
    pub judged: bool,
}

/// A file that was left out.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    /// The file.
    pub file: String,
    /// Why.
    pub problem: String,
}

impl TrendRun {
    /// A run and the name of its file.
    pub fn new(file: String, report: &Report) -> Self {
        Self {
            file,
            started: report.started.clone(),
            server: match &report.plan.simulated {
                Some(_) => "simulated server".to_owned(),
                None => report.plan.server.endpoint.shown(),
            },
            labels: report.plan.labels.clone(),
            health: report.health.verdict,
            complete: report.complete,
            judged: report.complete && report.health.verdict != Verdict::Invalid,
        }
    }

    /// `2026-11-24 05:51:13`, as far as the date is one.
    pub(super) fn date(&self) -> String {
        printable(&self.started.chars().take(19).collect::<String>().replace('T', " "), 19)
    }

    /// What the run is called beside its date: the label that names it, or all of its labels; empty without.
    pub(super) fn name(&self, by: Option<&str>) -> String {
        match by {
            Some(by) => self.labels.get(by).map_or(String::new(), |value| printable(value, 80)),
            None => printable(&shown_labels(&self.labels), 80),
        }
    }

    /// `2026-11-24 05:51:13 (4f2a91c)`.
    pub(super) fn told(&self, by: Option<&str>) -> String {
        match self.name(by) {
            name if name.is_empty() => self.date(),
            name => format!("{} ({name})", self.date()),
        }
    }

    /// Why it has no say; empty where it has.
    pub(super) fn doubt(&self) -> &'static str {
        match (self.complete, self.health) {
            (_, Verdict::Invalid) => "INVALID",
            (false, _) => "incomplete",
            _ => "",
        }
    }
}

impl TrendSeries {
    /// `Small Load, llama: closed loop, 20 threads, 100 completions`.
    pub(super) fn title(&self) -> String {
        let scenario = self.scenario.as_ref().map(|name| format!("{}, ", printable(name, 80)));
        format!("{}{}: {}", scenario.unwrap_or_default(), printable(&self.model, 80), self.load)
    }

    /// `plan 7382d55417dc5549, 24 runs from 2026-11-01 00:00:00 to 2026-11-24 00:00:00`; a plan does not name its server,
    /// so several in one series are told.
    pub(super) fn about(&self) -> String {
        let runs = show_counted(self.runs.len() as u64, "run");
        let ends = self.runs.first().zip(self.runs.last());
        let ends = ends.map(|(first, last)| format!(" from {} to {}", first.date(), last.date()));
        let plan = printable(&self.plan_hash, 64);
        format!("plan {plan}, {runs}{}{}", ends.unwrap_or_default(), self.servers().unwrap_or_default())
    }

    /// `, of 2 servers (http://a:8000/v1/chat/completions, …)`; `None` for one.
    fn servers(&self) -> Option<String> {
        const SHOWN: usize = 3;
        let servers: BTreeSet<&str> = self.runs.iter().map(|run| run.server.as_str()).collect();
        let names = servers.iter().take(SHOWN).map(|server| printable(server, 80));
        let more = (servers.len() > SHOWN).then(|| "…".to_owned());
        let names: Vec<_> = names.chain(more).collect();
        (servers.len() > 1).then(|| format!(", of {} servers ({})", servers.len(), names.join(", ")))
    }

    /// Every change of level, in words, with its verdict: metric by metric.
    pub(super) fn changes(&self, by: Option<&str>) -> Vec<(Change, String)> {
        let of = |trend: &Trend| -> Vec<_> {
            trend.changes.iter().map(|shift| (shift.verdict, self.told(trend, shift, by))).collect()
        };
        self.metrics.iter().flat_map(of).collect()
    }

    fn told(&self, trend: &Trend, shift: &Shift, by: Option<&str>) -> String {
        let from = self.runs.get(shift.run).map(|run| run.told(by)).unwrap_or_default();
        let within = match shift.verdict {
            Change::Same => ", within the tolerance",
            Change::Inconclusive => ", which clients that were late may have made",
            Change::Better | Change::Worse => "",
        };
        format!(
            "{}: {} {} from {from} on: {} to {}{}{within} (p {:.4})",
            trend.metric,
            shift.verdict.name(),
            moved(shift.before, shift.after, shift.change),
            shown(shift.before, trend.unit),
            shown(shift.after, trend.unit),
            unit(trend),
            shift.p
        )
    }

    /// What is to be said of the latest run where it is beyond the tolerance, metric by metric.
    pub(super) fn latest(&self) -> Vec<(Change, String)> {
        let beyond = |trend: &Trend| {
            let latest = trend.latest.as_ref().filter(|latest| latest.verdict != Change::Same)?;
            let value = trend.runs.get(latest.run).copied().flatten()?.value;
            let note = latest.note.as_ref().map(|note| format!(", {note}")).unwrap_or_default();
            let told = format!(
                "{}: {} {}: {}{} against {}{note}",
                trend.metric,
                latest.verdict.name(),
                moved(latest.before, value, latest.change),
                shown(value, trend.unit),
                unit(trend),
                shown(latest.before, trend.unit),
            );
            Some((latest.verdict, told))
        };
        self.metrics.iter().filter_map(beyond).collect()
    }

    /// What the newest levels are, in words.
    pub(super) fn verdict(&self) -> (Change, String) {
        let verdict = self.metrics.iter().map(Trend::verdict).max().unwrap_or(Change::Same);
        let names: Vec<&str> = self
            .metrics
            .iter()
            .filter(|trend| trend.verdict() == verdict)
            .map(|trend| trend.metric.as_str())
            .collect();
        let told = match verdict {
            Change::Same => "no level changed above the tolerance".to_owned(),
            _ => format!("the newest level is {}: {}", verdict.name(), names.join(", ")),
        };
        (verdict, told)
    }
}

impl TrendReport {
    /// Of these series.
    pub fn new(tolerance: f64, by: Option<String>, series: Vec<TrendSeries>, skipped: Vec<Skipped>) -> Self {
        let verdicts = series.iter().map(|series| series.verdict().0);
        let verdict = verdicts.max().unwrap_or(Change::Same);
        Self { schema: TREND_SCHEMA, tool: Tool::THIS, tolerance, by, verdict, series, skipped }
    }

    /// The rule, in words.
    pub(super) fn rule(&self) -> String {
        format!(
            "A level changes where a permutation test on the ranks of the runs' figures has p < 5%, with four runs or more on \
             both sides; worse or better where it moves by more than {}",
            shown(self.tolerance, "share")
        )
    }
}

/// `▲ +12.3%`.
fn moved(before: f64, after: f64, change: Option<f64>) -> String {
    let arrow = if after > before { "▲" } else { "▼" };
    match change {
        Some(change) => format!("{arrow} {:+.1}%", change * 100.0),
        None => format!("{arrow} from 0"),
    }
}

/// ` ms`; nothing for a share.
pub(super) fn unit(trend: &Trend) -> String {
    if trend.unit == "share" { String::new() } else { format!(" {}", trend.unit) }
}

/// `ttft.p50 ms`: the metric with its unit where its name does not tell it.
pub(super) fn heading(trend: &Trend) -> String {
    if trend.metric.ends_with("_per_s") {
        trend.metric.clone()
    } else {
        format!("{}{}", trend.metric, unit(trend))
    }
}

/// `40.1 ±3%`: the figure and how far its 95 % interval reaches at most, of it; shares with the interval's ends. Of a client
/// that was late `50.1 to 290`, between which it lies.
pub(super) fn figure(found: Estimate, unit: &str) -> String {
    let value = shown(found.value, unit);
    let other = found.at_other_end().value;
    if shown(other, unit) != value {
        return interval(Interval::new(found.value.min(other), found.value.max(other)), unit);
    }
    let Some(range) = found.interval else { return value };
    if unit == "share" {
        return format!("{value} ({})", interval(range, unit));
    }
    match range.low.zip(range.high) {
        Some((low, high)) if found.value > 0.0 => {
            let reach = (found.value - low).max(high - found.value) / found.value * 100.0;
            format!("{value} ±{reach:.0}%")
        }
        _ => value,
    }
}

/// `▲ worse` and the like where a level begins with this run.
fn mark(trend: &Trend, run: usize) -> Option<String> {
    let shift = trend.change_at(run)?;
    let arrow = if shift.after > shift.before { "▲" } else { "▼" };
    Some(match shift.verdict {
        Change::Same => arrow.to_owned(),
        verdict => format!("{arrow} {}", verdict.name()),
    })
}

/// A run's figure, with a mark where a level begins; a dash where there is none.
pub(super) fn cell(trend: &Trend, run: usize) -> String {
    let Some(found) = trend.runs.get(run).copied().flatten() else { return UNKNOWN.to_owned() };
    let mark = mark(trend, run).map(|mark| format!("{mark} ")).unwrap_or_default();
    format!("{mark}{}", figure(found, trend.unit))
}

/// The latest run beside those before it: `+1.2% same`.
pub(super) fn latest_cell(latest: Option<&Latest>) -> String {
    let Some(latest) = latest else { return UNKNOWN.to_owned() };
    match (latest.change, latest.verdict) {
        (Some(change), verdict) => format!("{:+.1}% {}", change * 100.0, verdict.name()),
        (None, Change::Same) => "same".to_owned(),
        (None, verdict) => format!("from 0 {}", verdict.name()),
    }
}

/// Writes it as JSON.
///
/// # Errors
/// Those of the writer.
pub fn write_trend_json(report: &TrendReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", serde_json::to_string_pretty(report)?)
}
