//! From an order to an exit code: starts what is to be started, makes the runs, writes what is to be written.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::accuracy::Calibration;
use crate::analysis::{Change, Comparison};
use crate::backend::Settings;
use crate::benchmark::{self, Run};
use crate::calibration;
use crate::cli::{CompareOrder, ReportOrder, RunOrder, SelftestOrder, SimulateOrder};
use crate::clock::{Date, Stop};
use crate::error::{Error, ExitCode, Mistake};
use crate::health::{self, Verdict};
use crate::plan::{Csv, Load, Metric, Plan, Suite, SuiteKind};
use crate::rebuild;
use crate::record::Sink;
use crate::report::{
    self, Better, Compared, ComparisonReport, DetailLog, OutputFile, Progress, RecordLog, Report, Tool,
    VllmRows,
};
use crate::selftest::{self, Findings};
use crate::sim::Simulator;
use crate::summary::Summary;
use crate::units::{show_counted, show_duration};

/// Where results and remarks go.
pub struct Streams<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Everything else.
    pub err: &'a mut dyn Write,
    /// Whether results may be coloured: a person reads them on a terminal.
    pub color: bool,
}

impl Streams<'_> {
    /// Says something beside the results. That nobody listens any more ends no run.
    fn remark(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.err, "{text}");
    }
}

/// Makes the runs of an order, one after another. Files are made before the first request.
///
/// # Errors
/// When the tool cannot do what it was asked.
pub fn run(mut order: RunOrder, stop: &Stop, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    health::raise_open_files_limit();
    for note in &order.notes {
        streams.remark(note);
    }
    let simulator = order.simulate.take().map(start).transpose()?;
    if let Some(simulator) = &simulator {
        order.draft.simulated = Some(simulator.behavior().to_string());
        order.draft.url = Some(crate::plan::Given::in_code("simulator", simulator.url()));
    }
    let mut is_warned = false;
    let suite = order.draft.check(&mut |server| {
        // the key goes out with the question
        warn(server, streams);
        is_warned = true;
        benchmark::ask_model(server)
    })?;
    if let Some(plan) = suite.plans.first().filter(|_| !is_warned) {
        warn(&plan.server, streams);
    }
    let files = Files::create(&suite)?;
    let code = make_runs(&suite, files, &order, stop, streams);
    if let Some(simulator) = &simulator {
        remark_hits(simulator, streams);
    }
    code
}

fn warn(server: &Settings, streams: &mut Streams<'_>) {
    for warning in server.warnings() {
        streams.remark(format_args!("warning: {warning}"));
    }
}

/// Says how often the simulator's faults have hit, for comparison with what was measured.
fn remark_hits(simulator: &Simulator, streams: &mut Streams<'_>) {
    let hits: Vec<String> =
        simulator.hits().iter().map(|(fault, count)| format!("{fault} {count}")).collect();
    if !hits.is_empty() {
        streams.remark(format_args!("requests hit by faults of the simulated server: {}", hits.join(", ")));
    }
}

fn start(behavior: crate::sim::Behavior) -> Result<Simulator, Error> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    Simulator::start(behavior, address).map_err(|e| Error::Server(format!("the simulator cannot start: {e}")))
}

/// Makes the runs and writes their files. What fails on the way, a file, the console or a later run, loses nothing of
/// the rest: it is told at the end.
fn make_runs(
    suite: &Suite,
    files: Files,
    order: &RunOrder,
    stop: &Stop,
    streams: &mut Streams<'_>,
) -> Result<ExitCode, Error> {
    let mut made = Made::default();
    if let Some((file, plan)) = files.schedule.zip(suite.plans.first()) {
        let moments = plan.schedule().into_iter().flatten();
        made.written.push(file.finish(|out| report::write_schedule(moments, out))?);
    }
    let ended = made.all(suite, files.runs, order, stop, streams);
    made.keep(ended);
    if made.reports.len() > 1 {
        made.print(streams, |reports, out| report::print_sweep(suite.kind, reports, out));
    }
    if let Some(csv) = files.csv.filter(|_| !made.reports.is_empty()) {
        let written = csv.finish(|out| report::write_csv(&made.reports, out));
        made.keep_file(written);
    }
    if let Some(junit) = files.junit.filter(|_| !made.reports.is_empty()) {
        let written = junit.finish(|out| report::write_junit(&made.reports, out));
        made.keep_file(written);
    }
    made.write_pages(files.pages, suite.kind, &[]);
    let reports = made.finish(streams)?;
    Ok(exit_code(&reports, order.strict))
}

/// What has been made so far, and the first thing that failed.
#[derive(Default)]
struct Made {
    reports: Vec<Report>,
    written: Vec<PathBuf>,
    failure: Option<Error>,
    console_is_gone: bool,
}

impl Made {
    fn all(
        &mut self,
        suite: &Suite,
        files: Vec<RunFiles>,
        order: &RunOrder,
        stop: &Stop,
        streams: &mut Streams<'_>,
    ) -> Result<(), Error> {
        let count = suite.plans.len();
        for (number, (plan, mut files)) in suite.plans.iter().zip(files).enumerate() {
            if stop.requested() {
                streams.remark(format_args!("interrupted: {number} of {count} runs were made"));
                break;
            }
            let heading = (count > 1).then(|| format!("run {} of {count}: {}", number + 1, title(plan)));
            if let Some(heading) = heading.as_ref().filter(|_| !order.quiet) {
                streams.remark(heading);
            }
            let calibration = calibrated(plan, order, stop, streams)?;
            let wants_detail = suite.outputs.detail && !files.json.is_empty();
            let log = files.log.as_mut().map(|(_, log)| log);
            let run = Run {
                sinks: vec![],
                record_log: log,
                server_metrics: order.server_metrics,
                calibration,
                stop,
            };
            let rows = files.vllm.as_mut().map(|(_, rows)| rows);
            let (report, detail) = make_run(plan, wants_detail, rows, run, order.quiet)?;
            self.write(&report, detail, files);
            self.reports.push(report);
            let color = streams.color;
            self.print(streams, |reports, out| {
                if let Some(heading) = heading {
                    writeln!(out, "\n== {heading} ==")?;
                }
                reports.last().map_or(Ok(()), |report| report::print_report(report, color, out))
            });
        }
        Ok(())
    }

    /// Writes a run's files; the single requests are left out where they could not be kept.
    fn write(&mut self, report: &Report, mut detail: Option<DetailLog>, files: RunFiles) {
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
    fn write_pages(&mut self, pages: Pages, kind: SuiteKind, names: &[String]) {
        let is_shown = !self.reports.is_empty();
        if let Some(html) = pages.html.filter(|_| is_shown) {
            let written = html.finish(|out| report::write_html(kind, &self.reports, names, out));
            self.keep_file(written);
        }
        if let Some(markdown) = pages.markdown.filter(|_| is_shown) {
            let written = markdown.finish(|out| report::write_markdown(kind, &self.reports, names, out));
            self.keep_file(written);
        }
    }

    fn keep_file(&mut self, written: Result<PathBuf, Error>) {
        let kept = written.map(|path| self.written.push(path));
        self.keep(kept);
    }

    /// Keeps the first failure for the end; further ones are told at once.
    fn keep(&mut self, result: Result<(), Error>) {
        match (result, &self.failure) {
            (Ok(()), _) => {}
            (Err(failure), None) => self.failure = Some(failure),
            (Err(failure), Some(_)) => log::warn!("{failure}"),
        }
    }

    /// Prints, unless the console has failed before.
    fn print(
        &mut self,
        streams: &mut Streams<'_>,
        print: impl FnOnce(&[Report], &mut dyn Write) -> std::io::Result<()>,
    ) {
        if self.console_is_gone {
            return;
        }
        if let Err(error) = print(&self.reports, streams.out) {
            self.console_is_gone = true;
            self.keep(Err(Error::Output(error)));
        }
    }
}

impl Made {
    /// Tells what was written. Returns the reports, or the first thing that failed.
    fn finish(mut self, streams: &mut Streams<'_>) -> Result<Vec<Report>, Error> {
        let written = std::mem::take(&mut self.written);
        self.print(streams, |_, out| {
            written.iter().try_for_each(|path| writeln!(out, "\nWritten: {}", path.display()))?;
            out.flush()
        });
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.reports),
        }
    }
}

fn title(plan: &Plan) -> String {
    match &plan.scenario {
        Some(name) => format!("{}, {}", crate::text::printable(name, 80), plan.load),
        None => plan.load.to_string(),
    }
}

/// The client's own share in the run that is to come, if it was asked for.
fn calibrated(
    plan: &Plan,
    order: &RunOrder,
    stop: &Stop,
    streams: &mut Streams<'_>,
) -> Result<Option<Calibration>, Error> {
    if order.draft.calibrate != Some(true) {
        return Ok(None);
    }
    if !order.quiet {
        streams.remark(
            "calibrating: one request to the server, then up to 10 s of this load to a simulated one",
        );
    }
    calibration::calibrate(plan, stop)
}

/// Makes a run with its sinks: the live line, and the log of single requests where the JSON wants it.
fn make_run(
    plan: &Plan,
    wants_detail: bool,
    vllm: Option<&mut VllmRows>,
    run: Run<'_, '_>,
    is_quiet: bool,
) -> Result<(Report, Option<DetailLog>), Error> {
    log::info!("{}: {}", plan.server.endpoint.shown(), plan.load);
    let mut detail = match wants_detail {
        true => Some(detail_log()?),
        false => None,
    };
    let mut progress = Progress::new(plan.load.clone(), is_quiet);
    let mut sinks: Vec<&mut dyn Sink> = vec![&mut progress];
    if let Some(detail) = &mut detail {
        sinks.push(detail);
    }
    if let Some(rows) = vllm {
        sinks.push(rows);
    }
    let report = benchmark::run(plan, Run { sinks, ..run });
    progress.finish();
    Ok((report?, detail))
}

fn detail_log() -> Result<DetailLog, Error> {
    DetailLog::new().map_err(|cause| Error::File {
        path: std::env::temp_dir(),
        cause,
        advice: "; leave the single requests out with --no-detail, or set TMPDIR",
    })
}

/// A run in which no request succeeded has measured nothing. One that was ended for its failures is not what was asked
/// for; nor is one that broke a threshold; nor, under `--strict`, one that is INVALID or whose thresholds are inconclusive.
fn exit_code(reports: &[Report], strict: bool) -> ExitCode {
    let any_success = |report: &Report| report.summary.requests.succeeded > 0;
    if reports.is_empty() || !reports.iter().all(any_success) {
        return ExitCode::Failed;
    }
    let is_invalid = |report: &Report| report.health.verdict == Verdict::Invalid;
    let is_unmet = |report: &Report| {
        report.stopped_by.is_some() || report.breaks_threshold(strict) || (strict && is_invalid(report))
    };
    if reports.iter().any(is_unmet) { ExitCode::Unmet } else { ExitCode::Success }
}

/// The files of a suite, made before the first request.
struct Files {
    /// For each plan.
    runs: Vec<RunFiles>,
    csv: Option<OutputFile>,
    junit: Option<OutputFile>,
    pages: Pages,
    /// Of the one run.
    schedule: Option<OutputFile>,
}

/// The files that show all runs together.
struct Pages {
    html: Option<OutputFile>,
    markdown: Option<OutputFile>,
}

impl Pages {
    fn create(html: Option<&Path>, markdown: Option<&Path>, overwrite: bool) -> Result<Self, Error> {
        let create = |path| OutputFile::create(path, overwrite);
        Ok(Self { html: html.map(create).transpose()?, markdown: markdown.map(create).transpose()? })
    }
}

/// The files of one run.
struct RunFiles {
    json: Vec<OutputFile>,
    log: Option<(PathBuf, RecordLog)>,
    vllm: Option<(OutputFile, VllmRows)>,
}

impl Files {
    fn create(suite: &Suite) -> Result<Self, Error> {
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
        let pages = Pages::create(html, markdown, outputs.overwrite)?;
        Ok(Self { runs, csv, junit, pages, schedule })
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

/// Shows saved results and record logs again, and writes what is asked for.
///
/// # Errors
/// When one of them cannot be read, or a file or the report not be written.
pub fn report(order: &ReportOrder, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    let create = |path: &PathBuf| OutputFile::create(path, order.overwrite);
    let (json, csv) =
        (order.json.as_ref().map(create).transpose()?, order.csv.as_ref().map(create).transpose()?);
    let pages = Pages::create(order.html.as_deref(), order.markdown.as_deref(), order.overwrite)?;
    let mut made = Made::default();
    let vllm = order.vllm.as_ref().map(create).transpose()?;
    let mut detail = None;
    let mut rows = VllmRows::default();
    for path in &order.files {
        detail = (json.is_some() && order.detail).then(detail_log).transpose()?;
        let mut sinks: Vec<&mut dyn Sink> = detail.iter_mut().map(|detail| detail as &mut dyn Sink).collect();
        if vllm.is_some() {
            sinks.push(&mut rows);
        }
        made.reports.push(rebuild::report(path, &mut sinks)?);
        let color = streams.color;
        made.print(streams, |reports, out| {
            if order.files.len() > 1 {
                writeln!(out, "\n== {} ==", path.display())?;
            }
            reports.last().map_or(Ok(()), |report| report::print_report(report, color, out))
        });
    }
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
    if let Some(csv) = csv {
        let written = csv.finish(|out| report::write_csv(&made.reports, out));
        made.keep_file(written);
    }
    let names: Vec<String> = order.files.iter().map(|path| path.display().to_string()).collect();
    made.write_pages(pages, SuiteKind::Scenarios, &names);
    made.finish(streams)?;
    Ok(ExitCode::Success)
}

/// Compares saved results and record logs with others.
///
/// # Errors
/// When one of them cannot be read, their plans differ and may not, or a file or the table cannot be written.
pub fn compare(order: &CompareOrder, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    let create = |path: &PathBuf| OutputFile::create(path, order.overwrite);
    let create_some = |path: &Option<PathBuf>| path.as_ref().map(create).transpose();
    let (json, markdown) = (create_some(&order.json)?, create_some(&order.markdown)?);
    let (junit, bencher) = (create_some(&order.junit)?, create_some(&order.bencher)?);
    let github = order.github_benchmark.as_ref();
    let github =
        github.map(|(smaller, bigger)| Ok::<_, Error>((create(smaller)?, create(bigger)?))).transpose()?;
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
    type Write<'a> = (Option<OutputFile>, &'a dyn Fn(&mut dyn std::io::Write) -> std::io::Result<()>);
    let (smaller, bigger) = github.unzip();
    let writes: [Write<'_>; 6] = [
        (json, &|out| report::write_comparison_json(&report, out)),
        (markdown, &|out| report::write_comparison_markdown(&report, out)),
        (junit, &|out| report::write_comparison_junit(&report, out)),
        (smaller, &|out| report::write_github_benchmark(&report, Better::Smaller, out)),
        (bigger, &|out| report::write_github_benchmark(&report, Better::Bigger, out)),
        (bencher, &|out| report::write_bencher(&report, out)),
    ];
    for (file, write) in writes {
        if let Some(file) = file {
            let written = file.finish(write);
            made.keep_file(written);
        }
    }
    made.finish(streams)?;
    let is_unmet = match report.comparison.verdict {
        Change::Worse => true,
        Change::Inconclusive => order.strict,
        Change::Better | Change::Same => false,
    };
    let is_unmet = is_unmet || (order.strict && report.has_invalid_run());
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

/// Runs the simulator until the stop.
///
/// # Errors
/// When it cannot listen there.
pub fn simulate(order: SimulateOrder, stop: &Stop, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    health::raise_open_files_limit();
    let address = order.address;
    let simulator = Simulator::start(order.behavior, address)
        .map_err(|e| Error::Server(format!("cannot listen on {address}: {e}; choose another --port")))?;
    let url = simulator.url();
    streams.remark(format_args!("simulated server on {url}: {}", simulator.behavior()));
    streams.remark(format_args!("measure it with: vllm-loadgen --url {url} --threads 20 --completions 500"));
    simulator.run_until(stop);
    remark_hits(&simulator, streams);
    Ok(ExitCode::Success)
}

/// Measures the tool itself and prints what was found; an interrupted test prints what it has.
///
/// # Errors
/// When it cannot be begun or not be written. A number of streams that cannot be run is told in the table, and the exit
/// code says so.
pub fn selftest(order: SelftestOrder, stop: &Stop, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    let file = order.output.map(|path| OutputFile::create(&path, order.overwrite)).transpose()?;
    let program = selftest::this_program()?;
    health::raise_open_files_limit();
    let trials = order.settings.trials();
    let (started, environment, load_average) =
        (Date::now().rfc3339(), health::Environment::here(), health::load_average());
    let mut announce = |trial: &selftest::Trial| {
        if !order.quiet {
            let count = show_counted(trial.streams.get() as u64, "stream");
            streams.remark(format_args!("{count}: about {}", show_duration(trial.planned())));
        }
    };
    let rows = selftest::run(&trials, &program, environment.open_files_limit, stop, &mut announce)?;
    let is_whole = rows.len() == trials.len() && rows.iter().all(selftest::Row::is_whole);
    let findings =
        Findings { schema: selftest::SCHEMA, tool: Tool::THIS, started, environment, load_average, rows };
    // neither a console that is gone nor a file that cannot be written costs the other
    let printed = selftest::print(&findings, streams.out);
    if let Some(file) = file {
        let written = file.finish(|out| {
            serde_json::to_writer_pretty(&mut *out, &findings)?;
            writeln!(out)
        })?;
        writeln!(streams.out, "\nWritten: {}", written.display())?;
    }
    printed?;
    streams.out.flush()?;
    Ok(if is_whole { ExitCode::Success } else { ExitCode::Failed })
}
