//! The new runs' figures in the forms of tools that keep benchmarks over time: github-action-benchmark and Bencher.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::ComparisonReport;
use super::words::interval;
use crate::analysis::Row;

/// Which way of a github-action-benchmark file is the better: its tool says it for the whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// `customSmallerIsBetter`: times.
    Smaller,
    /// `customBiggerIsBetter`: rates.
    Bigger,
}

/// Writes the figures of which that is the better as github-action-benchmark's list of `name`, `unit`, `value`, `range` and
/// `extra`. The error rate is left out: there, a change from 0 is infinite.
///
/// # Errors
/// Those of the writer.
pub fn write_github_benchmark(
    report: &ComparisonReport,
    better: Better,
    out: &mut dyn Write,
) -> io::Result<()> {
    let is_wanted = |row: &&Row| {
        row.smaller_is_better == (better == Better::Smaller)
            && row.metric != "error_rate"
            && row.new.value.is_some()
    };
    let model = report.new.first().map(|run| run.model.as_str()).unwrap_or_default();
    let plan = report.new.first().map(|run| run.plan_hash.as_str()).unwrap_or_default();
    let entry = |row: &Row| {
        let range = row.new.interval.map(|found| interval(found, ""));
        json!({
            "name": format!("{}/{}", report.benchmark_name(), row.metric),
            "unit": row.unit,
            "value": row.new.value,
            "range": range.unwrap_or_default(),
            "extra": format!("n={} runs={} model={model} plan={plan}", row.new.n, row.new.runs.len()),
        })
    };
    let entries: Vec<Value> = report.comparison.metrics.iter().filter(is_wanted).map(entry).collect();
    writeln!(out, "{}", serde_json::to_string_pretty(&entries)?)
}

/// Writes the figures in the Bencher Metric Format: benchmark, then measure, then `value`, `lower_value`, `upper_value`.
///
/// # Errors
/// Those of the writer.
pub fn write_bencher(report: &ComparisonReport, out: &mut dyn Write) -> io::Result<()> {
    let mut measures = Map::new();
    for row in &report.comparison.metrics {
        let Some(value) = row.new.value else { continue };
        let mut measure = Map::from_iter([("value".to_owned(), json!(value))]);
        let (low, high) = row.new.interval.map_or((None, None), |found| (found.low, found.high));
        for (name, bound) in [("lower_value", low), ("upper_value", high)] {
            measure.extend(bound.map(|bound| (name.to_owned(), json!(bound))));
        }
        // a slug: lower case letters, digits and hyphens
        measures.insert(row.metric.replace(['.', '_'], "-"), Value::Object(measure));
    }
    let benchmarks = json!({ report.benchmark_name(): measures });
    writeln!(out, "{}", serde_json::to_string_pretty(&benchmarks)?)
}
