//! From an order to an exit code: starts what is to be started, makes the runs, writes what is to be written.

use std::io::Write;
use std::path::PathBuf;

use crate::benchmark::{self, Run};
use crate::cli::{RunOrder, SimulateOrder};
use crate::clock::{Date, Stop};
use crate::error::{Error, ExitCode};
use crate::plan::{Csv, Outputs, Plan, Suite, SuiteKind};
use crate::record::Sink;
use crate::report::{self, DetailLog, OutputFile, Progress, Report};
use crate::sim::Simulator;
use crate::summary;

/// Where results and remarks go.
pub struct Streams<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Everything else.
    pub err: &'a mut dyn Write,
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
    summary::raise_open_files_limit();
    for note in &order.notes {
        streams.remark(note);
    }
    let simulator = order.simulate.take().map(start).transpose()?;
    if let Some(simulator) = &simulator {
        order.draft.simulated = Some(simulator.behavior().to_string());
        order.draft.url = Some(crate::plan::Given::in_code("simulator", simulator.url()));
    }
    let suite = order.draft.check(&mut benchmark::ask_model)?;
    let files = Files::create(&suite)?;
    make_runs(&suite, files, &order, stop, streams)
}

fn start(behavior: crate::sim::Behavior) -> Result<Simulator, Error> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    Simulator::start(behavior, address).map_err(|e| Error::Server(format!("the simulator cannot start: {e}")))
}

/// Makes the runs and writes their files. A run that cannot be made and a console that is gone end the suite, but
/// lose nothing of the runs before.
fn make_runs(
    suite: &Suite,
    files: Files,
    order: &RunOrder,
    stop: &Stop,
    streams: &mut Streams<'_>,
) -> Result<ExitCode, Error> {
    let mut made = Made::default();
    let mut failure = made.all(suite, files.json, order, stop, streams).err();
    if suite.kind != SuiteKind::Single && failure.is_none() {
        failure = report::print_sweep(suite.kind, &made.reports, streams.out).err().map(Error::from);
    }
    if let Some(csv) = files.csv.filter(|_| !made.reports.is_empty()) {
        made.written.push(csv.finish(|out| report::write_csv(&made.reports, out))?);
    }
    for path in &made.written {
        log::info!("written: {}", path.display());
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    for path in made.written {
        writeln!(streams.out, "\nWritten: {}", path.display())?;
    }
    streams.out.flush()?;
    Ok(exit_code(&made.reports))
}

/// What has been made so far.
#[derive(Default)]
struct Made {
    reports: Vec<Report>,
    written: Vec<PathBuf>,
}

impl Made {
    fn all(
        &mut self,
        suite: &Suite,
        files: Vec<Vec<OutputFile>>,
        order: &RunOrder,
        stop: &Stop,
        streams: &mut Streams<'_>,
    ) -> Result<(), Error> {
        let count = suite.plans.len();
        for (number, (plan, json)) in suite.plans.iter().zip(files).enumerate() {
            if stop.requested() {
                streams.remark(format_args!("interrupted: {number} of {count} runs were made"));
                return Ok(());
            }
            if count > 1 {
                streams.remark(format_args!("run {} of {count}: {}", number + 1, title(plan)));
            }
            self.one(plan, json, suite.outputs.detail, order, stop)?;
            if let Some(report) = self.reports.last() {
                if number > 0 {
                    writeln!(streams.out)?;
                }
                report::print_report(report, streams.out)?;
            }
        }
        Ok(())
    }

    /// One run, and its files before anything is printed.
    fn one(
        &mut self,
        plan: &Plan,
        files: Vec<OutputFile>,
        detail: bool,
        order: &RunOrder,
        stop: &Stop,
    ) -> Result<(), Error> {
        let (report, mut log) = make_run(plan, detail && !files.is_empty(), order, stop)?;
        for file in files {
            self.written.push(file.finish(|out| report::write_json(&report, log.as_mut(), out))?);
        }
        self.reports.push(report);
        Ok(())
    }
}

fn title(plan: &Plan) -> String {
    match &plan.scenario {
        Some(name) => format!("{}, {}", crate::text::printable(name, 80), plan.load),
        None => plan.load.to_string(),
    }
}

fn make_run(
    plan: &Plan,
    wants_detail: bool,
    order: &RunOrder,
    stop: &Stop,
) -> Result<(Report, Option<DetailLog>), Error> {
    log::info!("{}: {}", plan.server.endpoint.shown(), plan.load);
    let mut detail = match wants_detail {
        true => Some(DetailLog::new().map_err(|cause| Error::File {
            path: std::env::temp_dir(),
            cause,
            advice: "; leave the single requests out with --no-detail, or set TMPDIR",
        })?),
        false => None,
    };
    let mut progress = Progress::new(plan.load, order.quiet);
    let mut sinks: Vec<&mut dyn Sink> = vec![&mut progress];
    if let Some(detail) = &mut detail {
        sinks.push(detail);
    }
    let report = benchmark::run(plan, Run { sinks, server_metrics: order.server_metrics, stop });
    progress.finish();
    Ok((report?, detail))
}

/// A run in which no request succeeded has measured nothing.
fn exit_code(reports: &[Report]) -> ExitCode {
    let any_success = |report: &Report| report.summary.requests.succeeded > 0;
    if !reports.is_empty() && reports.iter().all(any_success) { ExitCode::Success } else { ExitCode::Failed }
}

/// The files of a suite, made before the first request.
struct Files {
    /// For each plan.
    json: Vec<Vec<OutputFile>>,
    csv: Option<OutputFile>,
}

impl Files {
    fn create(suite: &Suite) -> Result<Self, Error> {
        let (outputs, date) = (&suite.outputs, Date::now());
        let json =
            suite.plans.iter().map(|plan| json_files(plan, outputs, date)).collect::<Result<_, _>>()?;
        let csv = match &outputs.csv {
            None => None,
            Some(Csv::File(path)) => Some(path.clone()),
            Some(Csv::Folder(folder)) => Some(folder.join(format!("comparison_{}.csv", date.compact()))),
        };
        let csv = csv.map(|path| OutputFile::create(&path, outputs.overwrite)).transpose()?;
        Ok(Self { json, csv })
    }
}

fn json_files(plan: &Plan, outputs: &Outputs, date: Date) -> Result<Vec<OutputFile>, Error> {
    let saved = outputs.save_to.as_ref().map(|folder| folder.join(report::file_name(plan, date, "json")));
    let paths = outputs.json.iter().cloned().chain(saved);
    paths.map(|path| OutputFile::create(&path, outputs.overwrite)).collect()
}

/// Runs the simulator until the stop.
///
/// # Errors
/// When it cannot listen there.
pub fn simulate(order: SimulateOrder, stop: &Stop, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    summary::raise_open_files_limit();
    let address = order.address;
    let simulator = Simulator::start(order.behavior, address)
        .map_err(|e| Error::Server(format!("cannot listen on {address}: {e}; choose another --port")))?;
    let url = simulator.url();
    streams.remark(format_args!("simulated server on {url}: {}", simulator.behavior()));
    streams.remark(format_args!("measure it with: vllm-loadgen --url {url} --threads 20 --completions 500"));
    simulator.run_until(stop);
    Ok(ExitCode::Success)
}
