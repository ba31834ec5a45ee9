//! What has been made so far: reports and files, told at the end with the first thing that failed.

use std::io::{self, Write};
use std::path::PathBuf;

use super::Streams;
use super::files::{Pages, RunFiles};
use crate::backend::{self, Delivery, Destination, Network, Verb};
use crate::error::Error;
use crate::plan::SuiteKind;
use crate::report::{self, DetailLog, OutputFile, Report};
use crate::text::{one_line, shown_path};

/// What has been made so far, and the first thing that failed.
#[derive(Default)]
pub(super) struct Made {
    pub(super) reports: Vec<Report>,
    pub(super) written: Vec<PathBuf>,
    pub(super) failure: Option<Error>,
    pub(super) console_is_gone: bool,
}

impl Made {
    /// Writes a run's files; the single requests are left out where they could not be kept.
    pub(super) fn write(&mut self, report: &Report, mut detail: Option<DetailLog>, files: RunFiles) {
        if let Some((path, log)) = files.log {
            let advice = "; the record log ends where that happened";
            let ended = log.end(report).map_err(|cause| Error::File { path: path.clone(), cause, advice });
            self.keep_file(ended.map(|()| path));
        }
        if let Some(cause) = detail.as_mut().and_then(DetailLog::take_failure) {
            detail = None;
            let advice =
                "; the single requests are not in the JSON: set TMPDIR to a folder with room, or --no-detail";
            self.keep(Err(Error::File { path: std::env::temp_dir(), cause, advice }));
        }
        if let Some((file, rows)) = files.vllm {
            let written = file.finish(|out| report::write_vllm_json(report, Some(&rows), out));
            self.keep_file(written);
        }
        for file in files.json {
            let written = file.finish(|out| report::write_json(report, detail.as_mut(), out));
            self.keep_file(written);
        }
    }

    /// Writes what shows all runs together; `names` are the files that they were read from, if they were.
    pub(super) fn write_pages(&mut self, pages: Pages, kind: SuiteKind, names: &[String]) {
        if self.reports.is_empty() {
            return;
        }
        self.write_file(pages.html, |reports, out| report::write_html(kind, reports, names, out));
        self.write_file(pages.markdown, |reports, out| report::write_markdown(kind, reports, names, out));
        self.write_file(pages.prometheus, report::write_prometheus);
    }

    /// Pushes the results of all runs, a group for each test. Where one is not taken, the rest would not be either.
    pub(super) fn push(&mut self, to: &Destination, network: &Network, streams: &mut Streams<'_>) {
        for group in report::push_groups(&self.reports) {
            let pushed = to.join(&group.path).and_then(|to| {
                let delivery = Delivery {
                    verb: Verb::Put,
                    content_type: report::prometheus::TEXT_TYPE,
                    body: &group.body,
                };
                backend::deliver(&to, network, &delivery).map(|()| to)
            });
            match pushed {
                Ok(to) => streams.remark(format_args!("pushed: {to}")),
                Err(why) => {
                    self.keep(Err(Error::Server(format!("cannot push to {}: {why}", to.origin()))));
                    break;
                }
            }
        }
    }

    /// Writes a file, if it was asked for, of the reports or of what else `write` knows.
    pub(super) fn write_file(
        &mut self,
        file: Option<OutputFile>,
        write: impl FnOnce(&[Report], &mut dyn Write) -> io::Result<()>,
    ) {
        if let Some(file) = file {
            let written = file.finish(|out| write(&self.reports, out));
            self.keep_file(written);
        }
    }

    pub(super) fn keep_file(&mut self, written: Result<PathBuf, Error>) {
        let kept = written.map(|path| self.written.push(path));
        self.keep(kept);
    }

    /// Keeps the first failure for the end; further ones are told at once.
    pub(super) fn keep(&mut self, result: Result<(), Error>) {
        match (result, &self.failure) {
            (Ok(()), _) => {}
            (Err(failure), None) => self.failure = Some(failure),
            (Err(failure), Some(_)) => log::warn!("{}", one_line(&failure.to_string())),
        }
    }

    /// Prints, unless the console has failed before.
    pub(super) fn print(
        &mut self,
        streams: &mut Streams<'_>,
        print: impl FnOnce(&[Report], &mut dyn Write) -> io::Result<()>,
    ) {
        if self.console_is_gone {
            return;
        }
        if let Err(error) = print(&self.reports, streams.out) {
            self.console_is_gone = true;
            self.keep(Err(Error::Output(error)));
        }
    }

    /// Tells what was written. Returns the reports, or the first thing that failed.
    pub(super) fn finish(mut self, streams: &mut Streams<'_>) -> Result<Vec<Report>, Error> {
        let written = std::mem::take(&mut self.written);
        self.print(streams, |_, out| {
            written.iter().try_for_each(|path| writeln!(out, "\nWritten: {}", shown_path(path)))?;
            out.flush()
        });
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.reports),
        }
    }
}
