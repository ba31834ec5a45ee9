//! Several runs side by side for people: a row for each, the best point, and how runs of one plan differ.

use std::io::{self, Write};
use std::num::NonZeroU64;

use super::Report;
use super::limits::{LimitColumns, best_point, sweep};
use super::table::{print_table, table};
use super::words::{UNKNOWN, count, efficiency, interval, number, shown};
use crate::analysis::spreads;
use crate::plan::{Metric, Quantity, Stat, SuiteKind};
use crate::summary::Distribution;
use crate::text::printable;
use crate::units::{show_count, show_counted};

/// Writes several runs side by side, with the best point where threads were swept.
///
/// # Errors
/// Those of the writer.
pub fn print_sweep(kind: SuiteKind, reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    let (sweep, limits) = (sweep(kind, reports), LimitColumns::of(reports));
    let mut head = vec!["completions", "threads", "ok", "failed", "completions/s", "output tokens/s"];
    head.extend(["E2E p50", "E2E p99", "TTFT p50", "TTFT p99", "ITL p50", "ITL p99"]);
    head.extend(limits.heads());
    if sweep.has_choice {
        head.push("efficiency");
    }
    if kind == SuiteKind::Scenarios {
        head.insert(0, "scenario");
    }
    writeln!(out, "\nSide by side (times in ms, of the successful requests)")?;
    let mut table = table(head.into_iter().map(str::to_owned));
    for (report, point) in reports.iter().zip(&sweep.points) {
        let mut cells = cells(report);
        cells.extend(limits.cells(report));
        if sweep.has_choice {
            cells.push(efficiency(point.scaling_efficiency));
        }
        if kind == SuiteKind::Scenarios {
            cells.insert(0, printable(report.plan.scenario.as_deref().unwrap_or_default(), 30));
        }
        table.add_row(cells);
    }
    print_table(table, out)?;
    if kind == SuiteKind::Runs {
        print_spreads(reports, out)?;
    }
    let threads = |best: usize| format!("{} threads", sweep.points[best].threads);
    for (number, said) in best_point(&sweep, threads).into_iter().enumerate() {
        let gap = if number == 0 { "\n" } else { "" };
        writeln!(out, "{gap}{said}")?;
    }
    if sweep.has_choice && unequal_lengths(reports) {
        writeln!(
            out,
            "The runs' replies differ in length; --ignore-eos makes them equal and the runs comparable"
        )?;
    }
    Ok(())
}

/// How the figures of runs of one plan differ: runs are the sample, never their pooled requests.
fn print_spreads(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    use Quantity::{E2e, Itl, Ttft};
    let metrics = [
        Metric::Of(Ttft, Stat::P50),
        Metric::Of(Ttft, Stat::P99),
        Metric::Of(Itl, Stat::P50),
        Metric::Of(Itl, Stat::P99),
        Metric::Of(E2e, Stat::P50),
        Metric::Of(E2e, Stat::P99),
        Metric::RequestsPerS,
        Metric::OutputTokensPerS,
        Metric::ErrorRate,
    ];
    let runs: Vec<_> = reports.iter().map(|report| (&report.plan.load, &report.summary)).collect();
    let count = show_counted(runs.len() as u64, "run");
    writeln!(out, "\nOver {count}: mean, its 95% interval by Student's t over the runs, and their spread")?;
    let mut table =
        table(["", "mean", "interval", "unit", "std", "std ÷ mean", "min", "max", "runs"].map(str::to_owned));
    for spread in spreads(&runs, &metrics) {
        let unit = spread.metric.unit().name();
        let relative =
            if spread.mean > 0.0 { shown(spread.std / spread.mean, "share") } else { UNKNOWN.to_owned() };
        table.add_row([
            spread.metric.to_string(),
            shown(spread.mean, unit),
            interval(spread.interval, unit),
            if unit == "share" { String::new() } else { unit.to_owned() },
            shown(spread.std, unit),
            relative,
            shown(spread.ends.0, unit),
            shown(spread.ends.1, unit),
            spread.runs.to_string(),
        ]);
    }
    print_table(table, out)
}

/// Whether the mean reply of one run is more than a tenth longer than that of another.
fn unequal_lengths(reports: &[Report]) -> bool {
    let means = reports.iter().filter_map(|report| Some(report.summary.latency.output_tokens.as_ref()?.mean));
    let (min, max) = means.fold((f64::MAX, 0.0_f64), |(min, max), mean| (min.min(mean), max.max(mean)));
    max > min * 1.1
}

fn cells(report: &Report) -> Vec<String> {
    let (load, summary) = (&report.plan.load, &report.summary);
    let latency = &summary.latency;
    let of = |d: &Option<Distribution>, f: fn(&Distribution) -> f64| number(d.as_ref().map(f));
    vec![
        count(load.completions.map(NonZeroU64::get)),
        load.threads.to_string(),
        show_count(summary.requests.succeeded),
        show_count(summary.requests.failed),
        number(summary.throughput.requests_per_s),
        number(summary.throughput.output_tokens_per_s),
        of(&latency.e2e, |d| d.median),
        of(&latency.e2e, |d| d.percentiles.p99),
        of(&latency.ttft, |d| d.median),
        of(&latency.ttft, |d| d.percentiles.p99),
        of(&latency.itl, |d| d.median),
        of(&latency.itl, |d| d.percentiles.p99),
    ]
}
