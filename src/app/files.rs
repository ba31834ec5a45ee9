//! The files that an order asks for, made before the first request.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::clock::Date;
use crate::error::Error;
use crate::plan::{Csv, Plan, Suite};
use crate::report::{self, DetailLog, OutputFile, RecordLog, VllmRows};

/// The files of a suite, made before the first request.
pub(super) struct Files {
    /// For each plan.
    pub(super) runs: Vec<RunFiles>,
    pub(super) csv: Option<OutputFile>,
    pub(super) junit: Option<OutputFile>,
    pub(super) pages: Pages,
    /// Of the one run.
    pub(super) schedule: Option<OutputFile>,
}

/// The files of one run.
pub(super) struct RunFiles {
    pub(super) json: Vec<OutputFile>,
    pub(super) log: Option<(PathBuf, RecordLog)>,
    pub(super) vllm: Option<(OutputFile, VllmRows)>,
}

impl RunFiles {
    /// Takes away the files of a run that is not begun. All but its record log are not there yet, and a log with
    /// something in it is of a run that was.
    pub(super) fn leave(self) {
        if let Some((path, log)) = self.log {
            drop(log);
            if std::fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
                return;
            }
            if let Err(cause) = std::fs::remove_file(&path) {
                log::warn!("{}: {cause}; it is the record log of a run that was not begun", path.display());
            }
        }
    }
}

impl Files {
    pub(super) fn create(suite: &Suite) -> Result<Self, Error> {
        let (outputs, date) = (&suite.outputs, Date::now());
        let create = |path: Option<&Path>| OutputFile::create_some(path, outputs.overwrite);
        let mut taken = HashSet::new();
        let mut runs = Vec::with_capacity(suite.plans.len());
        for plan in &suite.plans {
            let saved = outputs.save_to.as_ref().map(|folder| saved_path(folder, plan, date, &mut taken));
            let saved_log =
                saved.as_ref().filter(|_| outputs.detail).map(|path| path.with_extension("jsonl"));
            let typed = |path: &PathBuf| OutputFile::create(path, outputs.overwrite);
            let json = outputs.json.iter().map(typed);
            let json = json.chain(saved.iter().map(|path| OutputFile::create_numbered(path)));
            let json = json.collect::<Result<_, _>>()?;
            let log = match &outputs.record_log {
                Some(path) => Some(typed(path)?),
                None => saved_log.map(|path| OutputFile::create_numbered(&path)).transpose()?,
            };
            let log = log.map(record_log).transpose()?;
            let vllm = create(outputs.vllm.as_deref())?;
            runs.push(RunFiles { json, log, vllm: vllm.map(|file| (file, VllmRows::default())) });
        }
        let csv = outputs.csv.as_ref().map(|csv| match csv {
            Csv::File(path) => OutputFile::create(path, outputs.overwrite),
            Csv::Folder(folder) => {
                OutputFile::create_numbered(&folder.join(format!("comparison_{}.csv", date.compact())))
            }
        });
        let csv = csv.transpose()?;
        let junit = create(outputs.junit.as_deref())?;
        let schedule = create(outputs.schedule.as_deref())?;
        let (html, markdown) = (outputs.html.as_deref(), outputs.markdown.as_deref());
        let prometheus = outputs.prometheus.as_deref();
        let pages = Pages::create(html, markdown, prometheus, outputs.overwrite)?;
        Ok(Self { runs, csv, junit, pages, schedule })
    }
}

/// The files that show all runs together.
pub(super) struct Pages {
    pub(super) html: Option<OutputFile>,
    pub(super) markdown: Option<OutputFile>,
    pub(super) prometheus: Option<OutputFile>,
}

impl Pages {
    pub(super) fn create(
        html: Option<&Path>,
        markdown: Option<&Path>,
        prometheus: Option<&Path>,
        overwrite: bool,
    ) -> Result<Self, Error> {
        Ok(Self {
            html: OutputFile::create_some(html, overwrite)?,
            markdown: markdown.map(|path| OutputFile::create_or_fill(path, overwrite)).transpose()?,
            prometheus: prometheus.map(|path| OutputFile::create_shared(path, overwrite)).transpose()?,
        })
    }
}

fn record_log(file: OutputFile) -> Result<(PathBuf, RecordLog), Error> {
    let (path, file) = file.grow()?;
    let gzip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    Ok((path, RecordLog::new(file, gzip)))
}

/// A path that no other run of the suite has, and no run that was begun in the same second: runs that are alike are
/// numbered.
fn saved_path(folder: &Path, plan: &Plan, date: Date, taken: &mut HashSet<PathBuf>) -> PathBuf {
    // the log of a run under way is there before its JSON
    let is_there = |path: &Path| path.exists() || path.with_extension("jsonl").exists();
    let path = folder.join(report::file_name(plan, date, "json"));
    let mut free = path.clone();
    let mut number = 1;
    while taken.contains(&free) || is_there(&free) {
        number += 1;
        free = report::numbered(&path, number);
    }
    taken.insert(free.clone());
    free
}

pub(super) fn detail_log() -> Result<DetailLog, Error> {
    DetailLog::new().map_err(|cause| Error::File {
        path: std::env::temp_dir(),
        cause,
        advice: "; leave the single requests out with --no-detail, or set TMPDIR",
    })
}
