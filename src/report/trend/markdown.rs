//! Runs over time as Markdown, such as for a summary of a CI job.

use std::io::{self, Write};

use super::{TrendReport, TrendSeries, cell, heading, latest_cell};
use crate::analysis::Change;
use crate::report::markdown::{code, plain, row, table};

/// Runs that a table shows at most, the latest.
const SHOWN: usize = 30;

/// Writes a table for each series, with what changed.
///
/// # Errors
/// Those of the writer.
pub fn write_trend_markdown(report: &TrendReport, out: &mut dyn Write) -> io::Result<()> {
    for series in &report.series {
        write_series(series, report.by.as_deref(), out)?;
    }
    for skipped in &report.skipped {
        writeln!(out, "- left out: {}: {}", code(&skipped.file), plain(&skipped.problem, 400))?;
    }
    writeln!(out, "\n<sub>{}.</sub>", plain(&report.rule(), 400))
}

fn write_series(series: &TrendSeries, by: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "### vllm-loadgen trend: {}\n", plain(&series.title(), 400))?;
    let (verdict, told) = series.verdict();
    let emphasis = if verdict == Change::Worse { "**" } else { "" };
    writeln!(out, "{emphasis}{}{emphasis}; {}\n", plain(&told, 400), plain(&series.about(), 400))?;
    for (_, line) in series.changes(by).iter().chain(&series.latest()) {
        writeln!(out, "- {}", plain(line, 400))?;
    }
    writeln!(out)?;
    let heads: Vec<String> = series.metrics.iter().map(|trend| plain(&heading(trend), 400)).collect();
    let named = by.map_or("labels".to_owned(), code);
    table(&["started", &named].into_iter().chain(heads.iter().map(String::as_str)).collect::<Vec<_>>(), out)?;
    let hidden = series.runs.len().saturating_sub(SHOWN);
    for (index, run) in series.runs.iter().enumerate().skip(hidden) {
        let date = [run.date().as_str(), run.doubt()].join(" ").trim_end().to_owned();
        let cells = series.metrics.iter().map(|trend| cell(trend, index));
        row(&[plain(&date, 400), code(&run.name(by))].into_iter().chain(cells).collect::<Vec<_>>(), out)?;
    }
    let cells = series.metrics.iter().map(|trend| latest_cell(trend.latest.as_ref()));
    row(&["latest run".to_owned(), String::new()].into_iter().chain(cells).collect::<Vec<_>>(), out)?;
    writeln!(out)
}
