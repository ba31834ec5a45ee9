//! From an order to an exit code: starts what is to be started, makes the runs, writes what is to be written.

use std::io::Write;

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

/// Makes the runs of an order, one after another. Files are made before the first request.
///
/// # Errors
/// When the tool cannot do what it was asked.
pub fn run(mut order: RunOrder, stop: &Stop, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    summary::raise_open_files_limit();
    for note in &order.notes {
        writeln!(streams.err, "{note}")?;
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

fn make_runs(
    suite: &Suite,
    files: Files,
    order: &RunOrder,
    stop: &Stop,
    streams: &mut Streams<'_>,
) -> Result<ExitCode, Error> {
    let is_suite = suite.kind != SuiteKind::Single;
    let mut reports = Vec::with_capacity(suite.plans.len());
    let mut written = Vec::new();
    let count = suite.plans.len();
    for (number, (plan, json)) in suite.plans.iter().zip(files.json).enumerate() {
        if is_suite {
            writeln!(streams.err, "run {} of {count}: {}", number + 1, title(plan))?;
        }
        let (report, detail) = make_run(plan, suite.outputs.detail && !json.is_empty(), order, stop)?;
        let mut detail = detail;
        for file in json {
            written.push(file.finish(|out| report::write_json(&report, detail.as_mut(), out))?);
        }
        if number > 0 {
            writeln!(streams.out)?;
        }
        report::print_report(&report, streams.out)?;
        reports.push(report);
    }
    if is_suite {
        report::print_sweep(suite.kind, &reports, streams.out)?;
    }
    if let Some(csv) = files.csv {
        written.push(csv.finish(|out| report::write_csv(&reports, out))?);
    }
    for path in written {
        writeln!(streams.out, "\nWritten: {}", path.display())?;
    }
    streams.out.flush()?;
    Ok(exit_code(&reports))
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
    if reports.iter().all(any_success) { ExitCode::Success } else { ExitCode::Failed }
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
    writeln!(streams.err, "simulated server on {}: {}", simulator.url(), simulator.behavior())?;
    writeln!(
        streams.err,
        "measure it with: vllm-loadgen --url {} --threads 20 --completions 500",
        simulator.url()
    )?;
    simulator.run_until(stop);
    Ok(ExitCode::Success)
}
