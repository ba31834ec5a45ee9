//! Compares saved runs.

use std::path::PathBuf;

use super::Streams;
use super::alerts;
use super::made::Made;
use crate::analysis::{ComparedRun, Comparison};
use crate::cli::CompareOrder;
use crate::error::{Error, ExitCode, Mistake};
use crate::plan::Metric;
use crate::rebuild;
use crate::report::{self, Alert, Better, Compared, ComparisonReport, OutputFile, Report};

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
    let (base, base_again) = Read::of(&order.base)?.counted_once();
    let (new, new_again) = Read::of(&order.new)?.counted_once();
    no_run_on_both_sides(&base, &new)?;
    let differences = differing_plans(order, &base, &new)?;
    let is_default = order.metrics.is_empty();
    let metrics = if is_default { &Metric::DEFAULTS[..] } else { &order.metrics };
    let comparison = Comparison::new(&base.runs(), &new.runs(), metrics, is_default, order.tolerance);
    let again = base_again.into_iter().chain(new_again).collect();
    let report = ComparisonReport::new(base.compared(), new.compared(), differences, again, comparison);
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

/// The runs of a side, with the files that they are from.
#[derive(Default)]
struct Read(Vec<(PathBuf, Report)>);

impl Read {
    fn of(paths: &[PathBuf]) -> Result<Self, Error> {
        let read = |path: &PathBuf| Ok((path.clone(), rebuild::report(path, &mut [])?));
        paths.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Each run once, be it there as result, as record log or as a copy; and what to say of those that were there before.
    fn counted_once(self) -> (Self, Vec<String>) {
        let (mut once, mut again) = (Self::default(), Vec::new());
        for (path, report) in self.0 {
            match once.file_of(&report) {
                Some(first) => {
                    let (path, first) = (path.display(), first.display());
                    again.push(format!("{path}: the same run as {first}; it counts once"));
                }
                None => once.0.push((path, report)),
            }
        }
        (once, again)
    }

    fn file_of(&self, report: &Report) -> Option<&PathBuf> {
        let is_same = |(_, other): &&(PathBuf, Report)| other.plan.run_id == report.plan.run_id;
        self.0.iter().find(is_same).map(|(path, _)| path)
    }

    /// What a comparison looks at.
    fn runs(&self) -> Vec<ComparedRun<'_>> {
        let runs = self.0.iter().map(|(_, report)| ComparedRun {
            load: &report.plan.load,
            summary: &report.summary,
            ending: report.ending(),
        });
        runs.collect()
    }

    fn compared(&self) -> Vec<Compared> {
        self.0.iter().map(|(path, report)| Compared::new(path.display().to_string(), report)).collect()
    }
}

/// A run held against itself says nothing.
fn no_run_on_both_sides(base: &Read, new: &Read) -> Result<(), Error> {
    let both = new.0.iter().filter_map(|(path, report)| Some((path, base.file_of(report)?)));
    let mistake = |(path, first): (&PathBuf, &PathBuf)| {
        let problem = format!("is the same run as '{}'; compare it with another", first.display());
        Mistake::new(format!("compare '{}'", path.display()), problem)
    };
    let mistakes: Vec<Mistake> = both.map(mistake).collect();
    if mistakes.is_empty() { Ok(()) } else { Err(Error::Usage(mistakes)) }
}

/// In what the plans differ from the first one, by file. Refused unless it was allowed.
fn differing_plans(order: &CompareOrder, base: &Read, new: &Read) -> Result<Vec<String>, Error> {
    let mut reports = base.0.iter().chain(&new.0);
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
