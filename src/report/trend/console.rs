//! Runs over time as tables for people.

use std::io::{self, Write};

use super::{TrendReport, TrendSeries, cell, heading, latest_cell};
use crate::analysis::{Change, Trend};
use crate::report::table::{painted, print_table, table};
use crate::text::{one_line, printable};
use crate::units::show_counted;

/// Runs that a table shows at most, the latest.
const SHOWN: usize = 30;

/// Runs that a line of bars shows at most.
const BARS: usize = 48;

/// Writes each series: its runs, how the figures went, and where their levels changed.
///
/// # Errors
/// Those of the writer.
pub fn print_trend(report: &TrendReport, color: bool, out: &mut dyn Write) -> io::Result<()> {
    for series in &report.series {
        print_series(series, report.by.as_deref(), color, out)?;
    }
    if !report.skipped.is_empty() {
        writeln!(out, "Left out")?;
    }
    for skipped in &report.skipped {
        writeln!(out, "  - {}: {}", printable(&skipped.file, 120), printable(&skipped.problem, 200))?;
    }
    writeln!(out, "{}", report.rule())
}

fn print_series(series: &TrendSeries, by: Option<&str>, color: bool, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}\n  {}\n", series.title(), series.about())?;
    let hidden = series.runs.len().saturating_sub(SHOWN);
    if hidden > 0 {
        let earlier = show_counted(hidden as u64, "earlier run");
        writeln!(out, "  {earlier} not shown; --csv and --html have them")?;
    }
    let is_named = series.runs.iter().any(|run| !run.name(by).is_empty());
    let is_doubted = series.runs.iter().any(|run| !run.judged);
    let extra = |name: &str, doubt: &str| {
        let name = is_named.then(|| name.to_owned());
        name.into_iter().chain(is_doubted.then(|| doubt.to_owned())).collect::<Vec<_>>()
    };
    let heads = series.metrics.iter().map(heading);
    let mut rows =
        table(["".to_owned()].into_iter().chain(extra(by.unwrap_or("labels"), "left out")).chain(heads));
    for (index, run) in series.runs.iter().enumerate().skip(hidden) {
        let cells = series.metrics.iter().map(|trend| cell(trend, index));
        rows.add_row([run.date()].into_iter().chain(extra(&run.name(by), run.doubt())).chain(cells));
    }
    let last = |title: &str, of: &dyn Fn(&Trend) -> String| {
        let cells: Vec<String> = series.metrics.iter().map(of).collect();
        [title.to_owned()].into_iter().chain(extra("", "")).chain(cells).collect::<Vec<_>>()
    };
    rows.add_row(last("latest run", &|trend| latest_cell(trend.latest.as_ref())));
    print_table(rows, out)?;
    writeln!(out)?;
    let width = series.metrics.iter().map(|trend| trend.metric.len()).max().unwrap_or_default();
    for trend in &series.metrics {
        writeln!(out, "  {:<width$}  {}", trend.metric, bars(trend))?;
    }
    list("Changes of level", &series.changes(by), color, out)?;
    list(
        "The latest run against the median of those before it since the last change",
        &series.latest(),
        color,
        out,
    )?;
    let (verdict, told) = series.verdict();
    writeln!(out, "\nVerdict: {}\n", paint(&told, verdict, color))
}

fn list(title: &str, lines: &[(Change, String)], color: bool, out: &mut dyn Write) -> io::Result<()> {
    if !lines.is_empty() {
        writeln!(out, "\n{title}")?;
    }
    lines.iter().try_for_each(|(verdict, line)| writeln!(out, "  - {}", paint(line, *verdict, color)))
}

fn paint(text: &str, verdict: Change, color: bool) -> String {
    let text = &one_line(text);
    match verdict {
        Change::Worse => painted(text, "1;31", color),
        Change::Inconclusive => painted(text, "33", color),
        Change::Better => painted(text, "32", color),
        Change::Same => text.to_string(),
    }
}

/// The latest figures as bars from the least to the most; a bar before each new level, a blank where there is none.
fn bars(trend: &Trend) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let first = trend.runs.len().saturating_sub(BARS);
    let values = || trend.runs[first..].iter().flatten().map(|found| found.value);
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let mut line = String::new();
    for (index, found) in trend.runs.iter().enumerate().skip(first) {
        if index > first && trend.change_at(index).is_some() {
            line.push('│');
        }
        let block = found.map(|found| (found.value - least) / (most - least)).map(|share| {
            // of equal figures there is no share
            BLOCKS[if share.is_finite() { (share * 7.0).round().clamp(0.0, 7.0) as usize } else { 0 }]
        });
        line.push(block.unwrap_or(' '));
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Estimate;
    use crate::plan::Metric;

    fn check(values: &[Option<f64>], want: &str) {
        let runs = values
            .iter()
            .map(|value| value.map(|value| Estimate { value, interval: None, n: 1, other_end: None }));
        let trend = Trend::new(Metric::ErrorRate, runs.collect(), &vec![true; values.len()], 0.1);
        assert_eq!(bars(&trend), want);
    }

    #[test]
    fn figures_are_bars_and_a_change_stands_between_them() {
        check(&[Some(0.0), None, Some(7.0), Some(3.0)], "▁ █▄");
        check(&[Some(5.0); 3], "▁▁▁");
        check(&[1.0, 2.0, 1.0, 2.0, 8.0, 8.0, 8.0, 8.0].map(Some), "▁▂▁▂│████");
        check(&[None, None], "");
        check(&[Some(1.0); 50], &"▁".repeat(BARS));
    }
}
