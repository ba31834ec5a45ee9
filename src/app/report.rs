//! Shows saved runs again.

use std::path::PathBuf;

use super::Streams;
use super::files::{Pages, RunFiles, detail_log};
use super::made::Made;
use super::run::exit_code;
use crate::cli::ReportOrder;
use crate::error::{Error, ExitCode, Mistake};
use crate::plan::{SuiteKind, Threshold};
use crate::rebuild;
use crate::record::Sink;
use crate::report::{self, OutputFile, Report, VllmRows};
use crate::text::shown_path;

/// Shows saved results and record logs again, and writes what is asked for. Where they are to be judged, the exit code is
/// that of the runs.
///
/// # Errors
/// When one of them cannot be read, or a file or the report not be written, or there is no verdict to write.
pub fn report(order: &ReportOrder, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    let create = |path: &Option<PathBuf>| OutputFile::create_some(path.as_deref(), order.overwrite);
    let (json, csv) = (create(&order.json)?, create(&order.csv)?);
    let (html, markdown) = (order.html.as_deref(), order.markdown.as_deref());
    let pages = Pages::create(html, markdown, order.prometheus.as_deref(), order.overwrite)?;
    let junit = create(&order.junit)?;
    let mut made = Made::default();
    let vllm = create(&order.vllm)?;
    let mut detail = None;
    let mut rows = VllmRows::default();
    for path in &order.files {
        detail = (json.is_some() && order.detail).then(detail_log).transpose()?;
        let mut sinks: Vec<&mut dyn Sink> = detail.iter_mut().map(|detail| detail as &mut dyn Sink).collect();
        if vllm.is_some() {
            sinks.push(&mut rows);
        }
        made.reports.push(judged(rebuild::report(path, &mut sinks)?, &order.thresholds));
        let color = streams.color;
        made.print(streams, |reports, out| {
            if order.files.len() > 1 {
                writeln!(out, "\n== {} ==", shown_path(path))?;
            }
            reports.last().map_or(Ok(()), |report| report::print_report(report, color, out))
        });
    }
    no_verdicts(order, &made.reports)?;
    if made.reports.len() > 1 {
        made.print(streams, |reports, out| report::print_sweep(SuiteKind::Scenarios, reports, out));
    }
    if let Some((file, report)) = json.zip(made.reports.first().cloned()) {
        made.write(&report, detail, RunFiles { json: vec![file], log: None, vllm: None });
    }
    if let Some((file, report)) = vllm.zip(made.reports.first()) {
        // a result in JSON has no single requests to tell of
        let rows = (!rows.is_empty()).then_some(&rows);
        let written = file.finish(|out| report::write_vllm_json(report, rows, out));
        made.keep_file(written);
    }
    made.write_file(csv, |reports, out| report::write_csv(reports, out));
    made.write_file(junit, |reports, out| report::write_junit(reports, out));
    let names: Vec<String> = order.files.iter().map(|path| path.display().to_string()).collect();
    made.write_pages(pages, SuiteKind::Scenarios, &names);
    let reports = made.finish(streams)?;
    let is_judged = !order.thresholds.is_empty() || order.junit.is_some() || order.strict;
    Ok(if is_judged { exit_code(&reports, order.strict) } else { ExitCode::Success })
}

/// The report held to other thresholds than those it was made under, where there are such.
fn judged(mut report: Report, thresholds: &[Threshold]) -> Report {
    if thresholds.is_empty() {
        return report;
    }
    report.plan.thresholds = thresholds.to_vec();
    report.judged()
}

/// Verdicts that are to be written must be of something.
fn no_verdicts(order: &ReportOrder, reports: &[Report]) -> Result<(), Error> {
    match &order.junit {
        Some(file) if reports.iter().all(|report| report.thresholds.is_empty()) => {
            let place = format!("--junit '{}'", file.display());
            let problem =
                "the results were held to no threshold; give one, such as --threshold 'ttft.p99<500ms'";
            Err(Error::Usage(vec![Mistake::new(place, problem)]))
        }
        _ => Ok(()),
    }
}
