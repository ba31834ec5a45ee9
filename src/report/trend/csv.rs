//! Runs over time as CSV, a row for each figure of each run.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::{TrendReport, TrendRun, TrendSeries};
use crate::analysis::Trend;
use crate::report::csv::defused;

const HEAD: [&str; 18] = [
    "plan_hash",
    "scenario",
    "model",
    "load",
    "started",
    "file",
    "health",
    "complete",
    "judged",
    "metric",
    "unit",
    "value",
    "low",
    "high",
    "n",
    "level",
    "change",
    "verdict",
];

/// Writes a header and the rows, run by run; unknown is an empty cell. Each label that a run bears has a column.
///
/// # Errors
/// Those of the writer.
pub fn write_trend_csv(report: &TrendReport, out: &mut dyn Write) -> io::Result<()> {
    let mut csv = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(out);
    let runs = report.series.iter().flat_map(|series| &series.runs);
    let labels: BTreeSet<&str> = runs.flat_map(|run| run.labels.keys().map(String::as_str)).collect();
    let heads = HEAD.iter().map(|name| (*name).to_owned());
    csv.write_record(heads.chain(labels.iter().map(|name| format!("label_{name}"))))?;
    for series in &report.series {
        for (index, run) in series.runs.iter().enumerate() {
            for trend in &series.metrics {
                let named = labels.iter().map(|name| run.labels.get(*name).map_or("", String::as_str));
                csv.write_record(cells(series, run, trend, index).into_iter().chain(named.map(defused)))?;
            }
        }
    }
    csv.flush()
}

fn cells(series: &TrendSeries, run: &TrendRun, trend: &Trend, index: usize) -> [String; HEAD.len()] {
    let found = trend.runs.get(index).copied().flatten();
    let range = found.and_then(|found| found.interval);
    let level = trend.segments.iter().find(|segment| (segment.from..=segment.until).contains(&index));
    let shift = trend.change_at(index);
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    [
        defused(&series.plan_hash),
        defused(series.scenario.as_deref().unwrap_or_default()),
        defused(&series.model),
        defused(&series.load),
        defused(&run.started),
        defused(&run.file),
        run.health.name().to_owned(),
        yes(run.complete),
        yes(run.judged),
        trend.metric.clone(),
        trend.unit.to_owned(),
        number(found.map(|found| found.value)),
        number(range.and_then(|range| range.low)),
        number(range.and_then(|range| range.high)),
        found.map_or(String::new(), |found| found.n.to_string()),
        number(level.map(|level| level.median)),
        number(shift.and_then(|shift| shift.change)),
        shift.map_or(String::new(), |shift| shift.verdict.name().to_owned()),
    ]
}
