//! Makes the runs of an order, one after another.

use std::vec;

use super::alerts;
use super::files::{Files, RunFiles, detail_log};
use super::live::Live;
use super::made::Made;
use super::{Streams, remark_hits};
use crate::accuracy::Calibration;
use crate::backend::Settings;
use crate::benchmark::{self, Run};
use crate::calibration;
use crate::cli::RunOrder;
use crate::clock::Stop;
use crate::error::{Error, ExitCode};
use crate::health::{self, Verdict};
use crate::plan::{Plan, Suite};
use crate::record::Sink;
use crate::report::{self, Alert, DetailLog, Progress, Report};
use crate::sim::Simulator;

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
    });
    if let Err(Error::Server(why)) = &suite {
        if stop.requested() {
            // whoever has stopped waiting for the answer has no run that failed
            streams.remark(format_args!("error: {why}"));
            return Ok(ExitCode::Failed);
        }
        // all else is right then, so whoever is to be told is known
        alerts::send(&order.draft.alerts_to(), Some(Alert::of_draft(&order.draft, why)), streams);
    }
    let suite = suite?;
    if let Some(plan) = suite.plans.first().filter(|_| !is_warned) {
        warn(&plan.server, streams);
    }
    // an address that cannot be had leaves no empty files behind
    let live = suite.outputs.metrics_listen.map(|address| Live::start(address, streams)).transpose()?;
    let files = Files::create(&suite)?;
    let code = make_runs(&suite, files, live, &order, stop, streams);
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

fn start(behavior: crate::sim::Behavior) -> Result<Simulator, Error> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    Simulator::start(behavior, address).map_err(|e| Error::Server(format!("the simulator cannot start: {e}")))
}

/// Makes the runs and writes their files. What fails on the way, a file, the console or a later run, loses nothing of
/// the rest: it is told at the end.
fn make_runs(
    suite: &Suite,
    files: Files,
    live: Option<Live>,
    order: &RunOrder,
    stop: &Stop,
    streams: &mut Streams<'_>,
) -> Result<ExitCode, Error> {
    let mut made = Made::default();
    if let Some((file, plan)) = files.schedule.zip(suite.plans.first()) {
        let moments = plan.schedule().into_iter().flatten();
        made.written.push(file.finish(|out| report::write_schedule(moments, out))?);
    }
    let ended = made.all(suite, files.runs, live.as_ref(), order, stop, streams);
    let not_made = match &ended {
        Err(Error::Server(why)) => suite.plans.get(made.reports.len()).map(|plan| (plan, why.clone())),
        _ => None,
    };
    made.keep(ended);
    if made.reports.len() > 1 {
        made.print(streams, |reports, out| report::print_sweep(suite.kind, reports, out));
    }
    let is_anything = !made.reports.is_empty();
    made.write_file(files.csv.filter(|_| is_anything), |reports, out| report::write_csv(reports, out));
    made.write_file(files.junit.filter(|_| is_anything), |reports, out| report::write_junit(reports, out));
    made.write_pages(files.pages, suite.kind, &[]);
    if let Some((to, network)) = &suite.outputs.pushgateway {
        made.push(to, network, streams);
    }
    // what is there is told before anybody is waited for
    let not_made = not_made.as_ref().map(|(plan, why)| (*plan, why.as_str()));
    let alert = Alert::of_runs(&made.reports, not_made, order.strict);
    let results = live.map(|live| (live, made.reports.clone()));
    let reports = made.finish(streams);
    alerts::send(&suite.outputs.alerts, alert, streams);
    if let Some((live, results)) = results {
        live.end(&results, stop, streams);
    }
    Ok(exit_code(&reports?, order.strict))
}

impl Made {
    fn all(
        &mut self,
        suite: &Suite,
        files: Vec<RunFiles>,
        live: Option<&Live>,
        order: &RunOrder,
        stop: &Stop,
        streams: &mut Streams<'_>,
    ) -> Result<(), Error> {
        let mut waiting = files.into_iter();
        let ended = self.each(suite, &mut waiting, live, order, stop, streams);
        waiting.for_each(RunFiles::leave);
        ended
    }

    fn each(
        &mut self,
        suite: &Suite,
        waiting: &mut vec::IntoIter<RunFiles>,
        live: Option<&Live>,
        order: &RunOrder,
        stop: &Stop,
        streams: &mut Streams<'_>,
    ) -> Result<(), Error> {
        let count = suite.plans.len();
        for (number, plan) in suite.plans.iter().enumerate() {
            if stop.requested() {
                streams.remark(format_args!("interrupted: {number} of {count} runs were made"));
                break;
            }
            let heading = (count > 1).then(|| format!("run {} of {count}: {}", number + 1, title(plan)));
            if let Some(heading) = heading.as_ref().filter(|_| !order.quiet) {
                streams.remark(heading);
            }
            let calibration = calibrated(plan, order, stop, streams)?;
            if calibration.is_none() && order.draft.calibrate == Some(true) && stop.requested() {
                streams.remark(format_args!("interrupted: {number} of {count} runs were made"));
                break;
            }
            let Some(mut files) = waiting.next() else { break };
            let wants_detail = suite.outputs.detail && !files.json.is_empty();
            let log = files.log.as_mut().map(|(_, log)| log);
            let mut counted = live.map(|live| live.metrics.run(plan));
            let run = Run {
                sinks: vec![],
                record_log: log,
                server_metrics: order.server_metrics,
                calibration,
                stop,
            };
            let rows = files.vllm.iter_mut().map(|(_, rows)| rows as &mut dyn Sink);
            let more = rows.chain(counted.iter_mut().map(|live| live as &mut dyn Sink)).collect();
            let (report, detail) = match make_run(plan, wants_detail, more, run, order.quiet) {
                Ok(made) => made,
                Err(error) => {
                    files.leave();
                    return Err(error);
                }
            };
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
    more: Vec<&mut dyn Sink>,
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
    sinks.extend(more.into_iter().map(|sink| sink as &mut dyn Sink));
    let report = benchmark::run(plan, Run { sinks, ..run });
    progress.finish();
    Ok((report?, detail))
}

/// A run in which no request succeeded has measured nothing. One that was ended for its failures is not what was asked
/// for; nor is one that broke a threshold; nor, under `--strict`, one that is INVALID or whose thresholds are inconclusive.
pub(super) fn exit_code(reports: &[Report], strict: bool) -> ExitCode {
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
