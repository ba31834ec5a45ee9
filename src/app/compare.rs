//! Compares saved runs.

use std::path::PathBuf;

use super::Streams;
use super::alerts;
use super::made::Made;
use crate::analysis::Comparison;
use crate::cli::CompareOrder;
use crate::error::{Error, ExitCode, Mistake};
use crate::plan::{Load, Metric};
use crate::rebuild;
use crate::report::{self, Alert, Better, Compared, ComparisonReport, OutputFile, Report};
use crate::summary::Summary;

/// Compares saved results and record logs with others.
///
/// # Errors
/// When one of them cannot be read, their plans differ and may not, or a file or the table cannot be written.
pub fn compare(order: &CompareOrder, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    let create =
        |path: Option<&PathBuf>| OutputFile::create_some(path.map(PathBuf::as_path), order.overwrite);
    let fill = |path: &PathBuf| OutputFile::create_or_fill(path, order.overwrite);
    let (json, markdown) = (create(order.json.as_ref())?, order.markdown.as_ref().map(fill).transpose()?);
    let (junit, bencher) = (create(order.junit.as_ref())?, create(order.bencher.as_ref())?);
    let (smaller, bigger) =
        order.github_benchmark.as_ref().map(|(smaller, bigger)| (smaller, bigger)).unzip();
    let (smaller, bigger) = (create(smaller)?, create(bigger)?);
    let read = |paths: &[PathBuf]| {
        paths.iter().map(|path| rebuild::report(path, &mut [])).collect::<Result<Vec<_>, _>>()
    };
    let (base, new) = (read(&order.base)?, read(&order.new)?);
    let differences = differing_plans(order, &base, &new)?;
    let is_default = order.metrics.is_empty();
    let metrics = if is_default { &Metric::DEFAULTS[..] } else { &order.metrics };
    let comparison = Comparison::new(&runs(&base), &runs(&new), metrics, is_default, order.tolerance);
    let compared = |paths: &[PathBuf], reports: &[Report]| {
        let files = paths.iter().map(|path| path.display().to_string());
        files.zip(reports).map(|(file, report)| Compared::new(file, report)).collect()
    };
    let report = ComparisonReport::new(
        compared(&order.base, &base),
        compared(&order.new, &new),
        differences,
        comparison,
    );
    let mut made = Made::default();
    let color = streams.color;
    made.print(streams, |_, out| report::print_comparison(&report, color, out));
    made.write_file(json, |_, out| report::write_comparison_json(&report, out));
    made.write_file(markdown, |_, out| report::write_comparison_markdown(&report, out));
    made.write_file(junit, |_, out| report::write_comparison_junit(&report, out));
    made.write_file(smaller, |_, out| report::write_github_benchmark(&report, Better::Smaller, out));
    made.write_file(bigger, |_, out| report::write_github_benchmark(&report, Better::Bigger, out));
    made.write_file(bencher, |_, out| report::write_bencher(&report, out));
    let finished = made.finish(streams);
    alerts::send(&order.alerts, Alert::of_comparison(&report, order.strict), streams);
    finished?;
    let is_unmet =
        report.comparison.verdict.is_bad(order.strict) || (order.strict && report.has_invalid_run());
    Ok(if is_unmet { ExitCode::Unmet } else { ExitCode::Success })
}

/// What a comparison looks at.
fn runs(reports: &[Report]) -> Vec<(&Load, &Summary)> {
    reports.iter().map(|report| (&report.plan.load, &report.summary)).collect()
}

/// In what the plans differ from the first one, by file. Refused unless it was allowed.
fn differing_plans(order: &CompareOrder, base: &[Report], new: &[Report]) -> Result<Vec<String>, Error> {
    let mut reports = order.base.iter().chain(&order.new).zip(base.iter().chain(new));
    let Some((first_path, first)) = reports.next() else { return Ok(vec![]) };
    let (mut told, mut mistakes) = (Vec::new(), Vec::new());
    for (path, report) in reports {
        let differences = first.plan.differences(&report.plan);
        if differences.is_empty() {
            continue;
        }
        let place = format!("{} and {}", first_path.display(), path.display());
        let differences = differences.join("; ");
        let problem =
            format!("the plans differ ({differences}); compare like with like, or allow it with --force");
        told.push(format!("{place}: {differences}"));
        mistakes.push(Mistake::new(place, problem));
    }
    if order.force || mistakes.is_empty() { Ok(told) } else { Err(Error::Usage(mistakes)) }
}
