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
    /// Takes away the files of a run that is not begun. All but its record log are not there yet.
    pub(super) fn leave(self) {
        if let Some((path, log)) = self.log {
            drop(log);
            if let Err(cause) = std::fs::remove_file(&path) {
                log::warn!("{}: {cause}; it is the record log of a run that was not begun", path.display());
            }
        }
    }
}

impl Files {
    pub(super) fn create(suite: &Suite) -> Result<Self, Error> {
        let (outputs, date) = (&suite.outputs, Date::now());
        let mut taken = HashSet::new();
        let mut runs = Vec::with_capacity(suite.plans.len());
        for plan in &suite.plans {
            let saved = outputs.save_to.as_ref().map(|folder| saved_path(folder, plan, date, &mut taken));
            let saved_log =
                saved.as_ref().filter(|_| outputs.detail).map(|path| path.with_extension("jsonl"));
            let paths = outputs.json.iter().cloned().chain(saved);
            let json =
                paths.map(|path| OutputFile::create(&path, outputs.overwrite)).collect::<Result<_, _>>()?;
            let log = outputs.record_log.clone().or(saved_log);
            let log = log.map(|path| record_log(path, outputs.overwrite)).transpose()?;
            let vllm =
                outputs.vllm.as_ref().map(|path| OutputFile::create(path, outputs.overwrite)).transpose()?;
            runs.push(RunFiles { json, log, vllm: vllm.map(|file| (file, VllmRows::default())) });
        }
        let csv = match &outputs.csv {
            None => None,
            Some(Csv::File(path)) => Some(path.clone()),
            Some(Csv::Folder(folder)) => Some(folder.join(format!("comparison_{}.csv", date.compact()))),
        };
        let csv = csv.map(|path| OutputFile::create(&path, outputs.overwrite)).transpose()?;
        let junit = outputs.junit.as_ref();
        let junit = junit.map(|path| OutputFile::create(path, outputs.overwrite)).transpose()?;
        let schedule = outputs.schedule.as_ref();
        let schedule = schedule.map(|path| OutputFile::create(path, outputs.overwrite)).transpose()?;
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
        let create = |path| OutputFile::create(path, overwrite);
        Ok(Self {
            html: html.map(create).transpose()?,
            markdown: markdown.map(create).transpose()?,
            prometheus: prometheus.map(|path| OutputFile::create_shared(path, overwrite)).transpose()?,
        })
    }
}

fn record_log(path: PathBuf, overwrite: bool) -> Result<(PathBuf, RecordLog), Error> {
    let gzip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    let file = OutputFile::create_growing(&path, overwrite)?;
    Ok((path, RecordLog::new(file, gzip)))
}

/// A path that no other run of the suite has: runs that are alike are numbered.
fn saved_path(folder: &Path, plan: &Plan, date: Date, taken: &mut HashSet<PathBuf>) -> PathBuf {
    let mut path = folder.join(report::file_name(plan, date, "json"));
    let mut number = 2;
    while !taken.insert(path.clone()) {
        path = folder.join(report::file_name(plan, date, &format!("{number}.json")));
        number += 1;
    }
    path
}

pub(super) fn detail_log() -> Result<DetailLog, Error> {
    DetailLog::new().map_err(|cause| Error::File {
        path: std::env::temp_dir(),
        cause,
        advice: "; leave the single requests out with --no-detail, or set TMPDIR",
    })
}
