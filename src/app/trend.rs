//! Looks at saved runs over time.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Streams;
use super::made::Made;
use crate::analysis::{Change, Estimate, Trend, estimate};
use crate::cli::TrendOrder;
use crate::clock::Date;
use crate::error::{Error, ExitCode};
use crate::plan::Metric;
use crate::rebuild;
use crate::report::{self, OutputFile, Report, Skipped, TrendReport, TrendRun, TrendSeries};

/// Groups saved results by plan, in the order of their start, and shows what changed.
///
/// # Errors
/// When a folder cannot be read, there is no result at all, or a file or the tables cannot be written.
pub fn trend(order: &TrendOrder, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    let create = |path: &Option<PathBuf>| OutputFile::create_some(path.as_deref(), order.overwrite);
    let fill = |path: &PathBuf| OutputFile::create_or_fill(path, order.overwrite);
    let (html, markdown) = (create(&order.html)?, order.markdown.as_ref().map(fill).transpose()?);
    let (csv, json) = (create(&order.csv)?, create(&order.json)?);
    let metrics = if order.metrics.is_empty() { &Metric::DEFAULTS[..] } else { &order.metrics };
    let read = Read::of(&files(order)?, order, metrics);
    if read.runs.is_empty() {
        return Err(nothing(order, &read));
    }
    let report =
        TrendReport::new(order.tolerance, order.by.clone(), series(read.runs, metrics, order), read.skipped);
    let mut made = Made::default();
    let color = streams.color;
    made.print(streams, |_, out| report::print_trend(&report, color, out));
    made.write_file(html, |_, out| report::write_trend_html(&report, out));
    made.write_file(markdown, |_, out| report::write_trend_markdown(&report, out));
    made.write_file(csv, |_, out| report::write_trend_csv(&report, out));
    made.write_file(json, |_, out| report::write_trend_json(&report, out));
    made.finish(streams)?;
    let is_unmet = order.fail_on_worse && report.verdict == Change::Worse;
    Ok(if is_unmet { ExitCode::Unmet } else { ExitCode::Success })
}

fn nothing(order: &TrendOrder, read: &Read) -> Error {
    let first = order.paths.first().cloned().unwrap_or_default();
    let why = match (read.skipped.first(), order.labels.is_empty()) {
        (Some(skipped), _) => format!("no result to look at; {}: {}", skipped.file, skipped.problem),
        (None, false) => "no result bears the labels asked for".to_owned(),
        (None, true) => "no result to look at".to_owned(),
    };
    let advice = "; name results, record logs or folders with such, with --recursive for folders within";
    Error::File { path: first, cause: io::Error::new(io::ErrorKind::NotFound, why), advice }
}

/// The files that may be results: those named, and those of folders.
fn files(order: &TrendOrder) -> Result<Vec<PathBuf>, Error> {
    let mut folders = order.paths.clone();
    if order.recursive {
        for path in order.paths.iter().filter(|path| path.is_dir()) {
            folders_within(path, &mut folders)?;
        }
    }
    let mut found = Vec::new();
    for path in folders {
        found.extend(rebuild::results_in(&path)?);
    }
    let mut seen = HashSet::new();
    found.retain(|path| seen.insert(path.clone()));
    Ok(found)
}

/// Adds the folders within a folder, and those within them. Links are not followed, so that none is looked into without end.
fn folders_within(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed =
        |cause| Error::File { path: path.to_owned(), cause, advice: "; name a folder that can be read" };
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            found.push(entry.path());
            folders_within(&entry.path(), found)?;
        }
    }
    Ok(())
}

/// A run and what of it is looked at.
struct Found {
    run: TrendRun,
    plan_hash: String,
    scenario: Option<String>,
    model: String,
    load: String,
    /// One for each metric.
    figures: Vec<Option<Estimate>>,
}

/// What was read.
#[derive(Default)]
struct Read {
    runs: Vec<Found>,
    skipped: Vec<Skipped>,
}

impl Read {
    /// Reads one file after another and keeps of each run only what is looked at. A run that is there twice, as result and
    /// as record log, counts once.
    fn of(files: &[PathBuf], order: &TrendOrder, metrics: &[Metric]) -> Self {
        let (mut read, mut ids) = (Self::default(), HashSet::new());
        for path in files {
            let report = match rebuild::report(path, &mut []) {
                Ok(report) => report,
                Err(error) => {
                    let problem = match error {
                        Error::File { cause, .. } => cause.to_string(),
                        other => other.to_string(),
                    };
                    read.skipped.push(Skipped { file: path.display().to_string(), problem });
                    continue;
                }
            };
            let has = |(name, value): &(String, String)| report.plan.labels.get(name) == Some(value);
            if order.labels.iter().all(has) && ids.insert(report.plan.run_id.clone()) {
                read.runs.push(found(path, &report, metrics));
            }
        }
        read
    }
}

fn found(path: &Path, report: &Report, metrics: &[Metric]) -> Found {
    let (plan, summary) = (&report.plan, &report.summary);
    Found {
        run: TrendRun::new(path.display().to_string(), report),
        plan_hash: plan.hash.clone(),
        scenario: plan.scenario.clone(),
        model: plan.request.model.clone(),
        load: plan.load.to_string(),
        figures: metrics.iter().map(|metric| estimate(*metric, &plan.load, summary)).collect(),
    }
}

/// One for each plan, by the start of its first run.
fn series(mut runs: Vec<Found>, metrics: &[Metric], order: &TrendOrder) -> Vec<TrendSeries> {
    runs.sort_by_cached_key(|found| {
        let started = &found.run.started;
        (Date::parse(started), started.clone(), found.run.file.clone())
    });
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut groups: Vec<Vec<Found>> = Vec::new();
    for found in runs {
        let place = *places.entry(found.plan_hash.clone()).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push(found);
    }
    groups.into_iter().filter_map(|group| one_series(group, metrics, order)).collect()
}

fn one_series(mut group: Vec<Found>, metrics: &[Metric], order: &TrendOrder) -> Option<TrendSeries> {
    let surplus = order.last.map_or(0, |last| group.len().saturating_sub(last));
    group.drain(..surplus);
    let first = group.first()?;
    let (plan_hash, scenario, model, load) =
        (first.plan_hash.clone(), first.scenario.clone(), first.model.clone(), first.load.clone());
    let judged: Vec<bool> = group.iter().map(|found| found.run.judged).collect();
    let of = |(index, metric): (usize, &Metric)| {
        let figures: Vec<_> = group.iter().map(|found| found.figures[index]).collect();
        // a metric that nobody asked for is no row of dashes
        let is_wanted = !order.metrics.is_empty() || figures.iter().any(Option::is_some);
        is_wanted.then(|| Trend::new(*metric, figures, &judged, order.tolerance))
    };
    let metrics = metrics.iter().enumerate().filter_map(of).collect();
    let runs = group.into_iter().map(|found| found.run).collect();
    Some(TrendSeries { plan_hash, scenario, model, load, runs, metrics })
}
