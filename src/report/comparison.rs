//! A comparison as a table for people, as Markdown, as JSON and as JUnit XML.

use std::io::{self, Write};

use serde::Serialize;

use super::junit::{Case, write_suites};
use super::markdown::plain;
use super::table::{painted, print_table, table};
use super::words::{UNKNOWN, interval, shown};
use super::{Report, Tool};
use crate::analysis::{Change, Comparison, Ending, Method, Outcome, Row, Side};
use crate::health::Verdict;
use crate::plan::{Labels, shown_labels};
use crate::text::printable;
use crate::units::{show_count, show_counted};

/// Number of the JSON's form; counted apart from that of a run.
pub const COMPARISON_SCHEMA: u32 = 1;

/// A comparison, and what was compared.
#[derive(Clone, Debug, Serialize)]
pub struct ComparisonReport {
    /// Number of this form, [`COMPARISON_SCHEMA`].
    pub schema: u32,
    /// The tool that made it.
    pub tool: Tool,
    /// The runs compared with.
    pub base: Vec<Compared>,
    /// The runs that are judged.
    pub new: Vec<Compared>,
    /// In what the plans differ, in words; empty where they do not.
    pub differences: Vec<String>,
    /// What else makes the comparison doubtful, in words.
    pub warnings: Vec<String>,
    /// What came of it.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// One of the runs.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Its file, as it was named.
    pub file: String,
    /// When it began, UTC, RFC 3339.
    pub started: String,
    /// What it is a run of: `--test-name` and scenario, or `default`.
    pub test: String,
    /// Its scenario, if it is one.
    pub scenario: Option<String>,
    /// What its user called it.
    pub labels: Labels,
    /// The model that was asked.
    pub model: String,
    /// What tells its plan from others.
    pub plan_hash: String,
    /// The client's verdict on itself.
    pub health: Verdict,
    /// Whether it went on to its planned end.
    pub complete: bool,
    /// How it ended, and so what of it is judged.
    #[serde(skip)]
    pub ending: Ending,
}

impl Compared {
    /// A run and the name of its file.
    pub fn new(file: String, report: &Report) -> Self {
        Self {
            file,
            started: report.started.clone(),
            test: report.plan.test(),
            scenario: report.plan.scenario.clone(),
            labels: report.plan.labels.clone(),
            model: report.plan.request.model.clone(),
            plan_hash: report.plan.hash.clone(),
            health: report.health.verdict,
            complete: report.complete,
            ending: report.ending(),
        }
    }
}

impl ComparisonReport {
    /// Of these runs; `again` tells of files whose run was there before.
    pub fn new(
        base: Vec<Compared>,
        new: Vec<Compared>,
        differences: Vec<String>,
        again: Vec<String>,
        comparison: Comparison,
    ) -> Self {
        let warnings = base.iter().chain(&new).flat_map(warnings).chain(again).collect();
        Self { schema: COMPARISON_SCHEMA, tool: Tool::THIS, base, new, differences, warnings, comparison }
    }

    /// Whether a run's figures are those of its client.
    pub fn has_invalid_run(&self) -> bool {
        self.base.iter().chain(&self.new).any(|run| run.health == Verdict::Invalid)
    }

    /// What the new runs are called in files that collect benchmarks, where a new name begins a new history: the
    /// scenario's name, or the tool's.
    pub(super) fn benchmark_name(&self) -> &str {
        self.new.first().and_then(|run| run.scenario.as_deref()).unwrap_or("vllm-loadgen")
    }
}

fn warnings(run: &Compared) -> Vec<String> {
    let mut said = Vec::new();
    if run.health == Verdict::Invalid {
        said.push(format!("{}: INVALID: its figures are not those of the server alone", run.file));
    }
    if !run.complete {
        let what = match run.ending {
            Ending::Limit => "a limit of its own ended the run, so only its failures are judged",
            Ending::Planned | Ending::Interrupted => "the run was ended early, so it is not judged",
        };
        said.push(format!("{}: incomplete: {what}", run.file));
    }
    said
}

/// Writes the table, what decided, and what makes it doubtful.
///
/// # Errors
/// Those of the writer.
pub fn print_comparison(report: &ComparisonReport, color: bool, out: &mut dyn Write) -> io::Result<()> {
    let comparison = &report.comparison;
    for (name, runs) in [("Base", &report.base), ("New", &report.new)] {
        for (number, run) in runs.iter().enumerate() {
            let name = if number == 0 { name } else { "" };
            let file = printable(&run.file, 120);
            let known =
                [printable(&run.started, 40), run.health.name().to_owned(), shown_labels(&run.labels)];
            let known: Vec<String> = known.into_iter().filter(|part| !part.is_empty()).collect();
            writeln!(out, "  {name:<6} {file}  ({})", known.join(", "))?;
        }
    }
    writeln!(out, "\n{}", decided_by(comparison))?;
    let mut table = table(HEAD.map(str::to_owned));
    comparison.metrics.iter().for_each(|row| {
        table.add_row(cells(row));
    });
    print_table(table, out)?;
    for row in &comparison.metrics {
        if let Some(note) = &row.note {
            writeln!(out, "  - {}: {note}", row.metric)?;
        }
    }
    for (title, lines) in [("Different plans", &report.differences), ("Warnings", &report.warnings)] {
        if !lines.is_empty() {
            writeln!(out, "\n{title}")?;
        }
        lines.iter().try_for_each(|line| writeln!(out, "  - {}", printable(line, 300)))?;
    }
    let code = match comparison.verdict {
        Change::Worse => "1;31",
        Change::Inconclusive => "33",
        Change::Better | Change::Same => "32",
    };
    writeln!(out, "\nVerdict: {}", painted(&summed_up(comparison), code, color))
}

const HEAD: [&str; 9] = ["", "base", "interval", "new", "interval", "unit", "n", "change", "verdict"];

fn cells(row: &Row) -> [String; 9] {
    let value = |side: &Side| side.value.map_or(UNKNOWN.to_owned(), |value| shown(value, row.unit));
    let range = |side: &Side| side.interval.map_or(UNKNOWN.to_owned(), |found| interval(found, row.unit));
    let unit = if row.unit == "share" { "" } else { row.unit };
    let p = row.p.map(|p| format!(" (p {p:.3})")).unwrap_or_default();
    [
        row.metric.clone(),
        value(&row.base),
        range(&row.base),
        value(&row.new),
        range(&row.new),
        unit.to_owned(),
        show_count(row.base.n.min(row.new.n)),
        change(row),
        format!("{}{p}", row.verdict.name()),
    ]
}

/// `▲ +12.3%`.
fn change(row: &Row) -> String {
    let arrow = match row.base.value.zip(row.new.value) {
        Some((base, new)) if new > base => "▲",
        Some((base, new)) if new < base => "▼",
        Some(_) => return "=".to_owned(),
        None => return UNKNOWN.to_owned(),
    };
    match row.change {
        Some(change) => format!("{arrow} {:+.1}%", change * 100.0),
        None => format!("{arrow} from 0"),
    }
}

/// The rule in words.
fn decided_by(comparison: &Comparison) -> String {
    let tolerance = shown(comparison.tolerance, "share");
    let rule = match comparison.method {
        Method::Intervals => "the 95% intervals of the two runs are apart",
        Method::EveryInterval => {
            "every 95% interval of one side is apart from every one of the other (fewer than four runs on a side: no test \
             over runs can reach 5%)"
        }
        Method::MannWhitney => {
            "a Mann-Whitney test over the runs has p < 5% (intervals: from the least run to the most)"
        }
    };
    format!("Worse or better: {rule}, and the change is above {tolerance}")
}

/// `worse: 1 of 6 metrics (ttft.p95)`.
fn summed_up(comparison: &Comparison) -> String {
    let verdict = comparison.verdict;
    let names: Vec<&str> = comparison
        .metrics
        .iter()
        .filter(|row| row.verdict == verdict)
        .map(|row| row.metric.as_str())
        .collect();
    let of = show_counted(comparison.metrics.len() as u64, "metric");
    match names.len() {
        0 => format!("{}: nothing to compare", verdict.name()),
        all if all == comparison.metrics.len() => format!("{}: {of}", verdict.name()),
        some => format!("{}: {some} of {of} ({})", verdict.name(), names.join(", ")),
    }
}

/// Writes it as Markdown, as for a summary of a CI job.
///
/// # Errors
/// Those of the writer.
pub fn write_comparison_markdown(report: &ComparisonReport, out: &mut dyn Write) -> io::Result<()> {
    let comparison = &report.comparison;
    writeln!(out, "### vllm-loadgen: {}\n", plain(&summed_up(comparison), 300))?;
    writeln!(out, "| metric | base | new | unit | n | change | verdict |")?;
    writeln!(out, "| --- | ---: | ---: | --- | ---: | ---: | --- |")?;
    for row in &comparison.metrics {
        let [metric, base, base_range, new, new_range, unit, n, change, verdict] =
            cells(row).map(|cell| plain(&cell, 300));
        let verdict = if row.verdict == Change::Worse { format!("**{verdict}**") } else { verdict };
        writeln!(
            out,
            "| {metric} | {base} ({base_range}) | {new} ({new_range}) | {unit} | {n} | {change} | {verdict} |"
        )?;
    }
    writeln!(out, "\n{}.", plain(&decided_by(comparison), 300))?;
    let named = |run: &Compared| match shown_labels(&run.labels) {
        labels if labels.is_empty() => plain(&run.file, 300),
        labels => format!("{} ({})", plain(&run.file, 300), plain(&labels, 300)),
    };
    let files = |runs: &[Compared]| runs.iter().map(named).collect::<Vec<_>>().join(", ");
    writeln!(out, "Base: {}. New: {}.", files(&report.base), files(&report.new))?;
    let notes =
        comparison.metrics.iter().filter_map(|row| Some(format!("{}: {}", row.metric, row.note.as_ref()?)));
    let differences = report.differences.iter().map(|difference| format!("different plans: {difference}"));
    let lines: Vec<String> = notes.chain(differences).chain(report.warnings.iter().cloned()).collect();
    if !lines.is_empty() {
        writeln!(out)?;
    }
    lines.iter().try_for_each(|line| writeln!(out, "- {}", plain(line, 300)))
}

/// Writes it as JSON.
///
/// # Errors
/// Those of the writer.
pub fn write_comparison_json(report: &ComparisonReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", serde_json::to_string_pretty(report)?)
}

/// Writes it as JUnit XML, a case for each metric; worse is a failure, inconclusive is skipped.
///
/// # Errors
/// Those of the writer.
pub fn write_comparison_junit(report: &ComparisonReport, out: &mut dyn Write) -> io::Result<()> {
    let case = |row: &Row| {
        let [_, base, base_range, new, new_range, unit, _, change, _] = cells(row);
        let note = row.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
        let unit = if unit.is_empty() { unit } else { format!(" {unit}") };
        Case {
            name: row.metric.clone(),
            outcome: match row.verdict {
                Change::Better | Change::Same => Outcome::Passed,
                Change::Worse => Outcome::Failed,
                Change::Inconclusive => Outcome::Inconclusive,
            },
            message: format!("{base} ({base_range}) to {new} ({new_range}){unit}, {change}{note}"),
        }
    };
    let cases = report.comparison.metrics.iter().map(case).collect();
    let test = report.new.first().map_or("default", |run| run.test.as_str());
    write_suites("regression", &[(format!("{test}, compared"), cases)], out)
}
