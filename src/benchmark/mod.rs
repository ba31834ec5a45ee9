//! The programmatic face: a plan made into a run, and the documented `BenchmarkConfig` and `Benchmarker`.

mod error_limit;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use error_limit::ErrorLimit;

use crate::accuracy::Calibration;
use crate::backend::{Backend, Client, Request, Settings};
use crate::clock::{Clock, Date, Moment, Stop, SystemClock, stop_pair};
use crate::engine::{self, Setup};
use crate::error::Error;
use crate::failure::FailureKind;
use crate::health::{Environment, Evidence, Health, Machine, StoodStill};
use crate::heartbeat::{Heartbeat, Standstill};
use crate::keeper::{self, Keeper};
use crate::plan::{Draft, Extent, Given, Plan, ScheduleHash, defaults};
use crate::priority::{Granted, Wanted};
use crate::record::Sink;
use crate::report::{self, DetailLog, LOG_SCHEMA, LogHead, OutputFile, RecordLog, Report, SCHEMA, Tool};
use crate::secret::{self, Secret};
use crate::summary::{Backoff, Tally};
use crate::watch::Watch;
use crate::wire;
use crate::workload::Workload;

/// How a run is made, beside its plan.
pub struct Run<'a, 'b> {
    /// Get every record beside the report's own tally.
    pub sinks: Vec<&'b mut dyn Sink>,
    /// Keeps every record on disk.
    pub record_log: Option<&'b mut RecordLog>,
    /// Whether to read the server's `/metrics`.
    pub server_metrics: bool,
    /// What a calibration before the run found; goes into the report as it is.
    pub calibration: Option<Calibration>,
    /// Ends the run early: no further request is sent, and those under way are given up after a while, or at once if
    /// the stop is urgent, which is looked at every fifth of a second.
    pub stop: &'a Stop,
}

/// Makes one run and reports on it.
///
/// # Errors
/// When the requests cannot be built or the threads not be started. Failed requests are no error: they are counted in
/// the report.
pub fn run(plan: &Plan, run: Run<'_, '_>) -> Result<Report, Error> {
    let keeper = keeper(plan)?;
    let (heart, granted) = (Heartbeat::start(), Granted::of(plan.client_priority));
    let client = Client::new(plan.server.clone()).map_err(Error::Server)?;
    let client = client.with_witnesses(keeper.as_ref().ok().cloned(), heart.beats());
    let unique = plan.unique_prompts.then_some(plan.run_id.as_str());
    let workload = Workload::new(&plan.request, &plan.prompt, unique);
    let secrets = plan.secrets();
    let (stopper, stop) = run.stop.part();
    let stopped_as = OnceLock::new();
    let mut error_limit = ErrorLimit::new(plan.error_limits, stopper, run.stop, &stopped_as);
    let setup = Setup {
        request: &|id| Request { id: plan.request_id(id), body: workload.body(id) },
        backend: &|| -> Box<dyn Backend> { Box::new(client.backend()) },
        lead: LEAD,
        dialect: plan.request.dialect,
        secrets: &secrets,
        seed: plan.seed,
        priority: granted.priority,
        beats: &heart.beats(),
        clock: &SystemClock,
        stop: &stop,
        stopped_as: &stopped_as,
        backoff: plan.backoff,
        fail_on_length: plan.fail_on_length,
        save_responses: plan.save_responses,
    };
    let environment = Environment::here();

    let watch = run.server_metrics.then(|| Watch::begin(&client, &plan.server.endpoint.url));
    let (started, began, before) = (Date::now(), SystemClock.now(), Machine::now());
    let stood_before = heart.beats().stood_in_all().unwrap_or_default();
    let mut tally = Tally::new(plan.load.full()).with_slos(&plan.slos);
    let mut sinks: Vec<&mut dyn Sink> = vec![&mut tally];
    if let Some(log) = run.record_log {
        log.begin(&LogHead {
            record_log: LOG_SCHEMA,
            tool: Tool::THIS,
            started: started.rfc3339(),
            began,
            plan: plan.clone(),
            environment: environment.clone(),
            calibration: run.calibration.clone(),
        });
        sinks.push(log);
    }
    sinks.push(&mut error_limit);
    for sink in run.sinks {
        sinks.push(sink);
    }
    // the end is taken before the watch ends: a slow reading of metrics is not part of the run
    let mut work = || {
        let threads = engine::run(&plan.load, &setup, &mut sinks)?;
        Ok::<_, Error>((Date::now(), SystemClock.now().since(began), Machine::now(), threads))
    };
    let (ended, wall, after, threads) = match &watch {
        Some(watch) => watch.during(work)?,
        None => work()?,
    };
    let stopped_by = error_limit.into_reason();
    let complete = stopped_by.is_none() && !run.stop.requested();
    let (succeeded, failed) = tally.ended();
    let origin = tally.origin().unwrap_or(began);
    let mut summary = tally.into_summary();
    summary.backoff = threads.paused.map(|paused| Backoff::new(paused, plan.load.threads, wall));
    let (standstills, stood_in_all) = (heart.beats().standstills(), heart.beats().stood_in_all());
    let evidence = Evidence {
        before,
        after,
        wall,
        cores: environment.cores,
        threads: plan.load.threads.get(),
        has_rate: plan.load.has_rate(),
        run_queue: threads.run_queue,
        backlog: Some((threads.backlog as u64, engine::MOST_WAITING as u64)),
        stood_still: stood_in_all.map(|all| all.saturating_sub(stood_before)),
        summary: &summary,
    };
    let health = Health {
        keeper: Some(keeper::Account::of(&keeper)),
        client_priority: Some(Granted { raised_threads: threads.raised, ..granted }),
        standstills: standstills.iter().map(|one| stood_still(one, origin)).collect(),
        ..Health::judge(&evidence, &plan.health_limits)
    };
    let schedule = schedule(plan, complete, succeeded.saturating_add(failed));
    let (mut server, watched) =
        watch.map_or((None, vec![]), |watch| watch.end(succeeded, failed, origin, run.stop));
    if let Some(side) = &mut server {
        side.window.redact(&secrets);
    }
    let refused = health.client_priority.as_ref().and_then(|granted| granted.refused.as_ref());
    let refused = refused.filter(|_| plan.client_priority == Wanted::High);
    let refused =
        refused.map(|why| format!("--client-priority high was refused: {why}; it takes CAP_SYS_NICE"));
    let warnings = plan.server.warnings().into_iter().chain(watched).chain(refused).collect();
    Ok(Report {
        schema: SCHEMA,
        tool: Tool::THIS,
        started: started.rfc3339(),
        ended: ended.rfc3339(),
        complete,
        stopped_by,
        plan: plan.clone(),
        schedule,
        health,
        environment,
        summary,
        thresholds: vec![],
        server,
        calibration: run.calibration,
        warnings,
    }
    .judged())
}

/// The keeper that the plan asks for, or why there is none.
fn keeper(plan: &Plan) -> Result<Result<Keeper, String>, Error> {
    if plan.keeper == keeper::Mode::Off {
        return Ok(Err("it was not asked for".to_owned()));
    }
    let has_network = plan.server.network.unix_socket.is_none();
    let no_network = || Err("nothing passes a network on the way to a Unix socket".to_owned());
    match if has_network { Keeper::start() } else { no_network() } {
        Err(why) if plan.keeper == keeper::Mode::On => Err(Error::Server(format!("--keeper on: {why}"))),
        keeper => Ok(keeper),
    }
}

fn stood_still(one: &Standstill, origin: Moment) -> StoodStill {
    let start_s = if one.from < origin {
        -origin.since(one.from).as_secs_f64()
    } else {
        one.from.since(origin).as_secs_f64()
    };
    StoodStill { start_s, seconds: one.until.since(one.from).as_secs_f64() }
}

/// Time for the workers to start and to take up their first jobs, so that these are not late for that.
const LEAD: Duration = Duration::from_millis(20);

/// What tells the run's schedule from others. It is drawn again rather than kept: a long run holds no list.
fn schedule(plan: &Plan, complete: bool, ended: u64) -> Option<ScheduleHash> {
    let moments = plan.schedule()?;
    let sent = if complete { usize::MAX } else { usize::try_from(ended).unwrap_or(usize::MAX) };
    Some(ScheduleHash::of(moments.take(sent)))
}

/// Asks the server which model it serves.
///
/// # Errors
/// [`Error::Server`] when it cannot be reached, refuses, or serves none or several.
pub fn ask_model(settings: &Settings) -> Result<String, Error> {
    let url = settings.endpoint.models_url();
    let client = Client::new(settings.clone()).map_err(Error::Server)?;
    let fail = |why: String| Error::Server(format!("{url}: {why}"));
    let (status, body) = client.get(&url, ASK_TIMEOUT).map_err(|failure| {
        let (kind, why) = (failure.kind.meaning(), failure.message);
        let advice = match failure.kind {
            FailureKind::Dns => "is the name right?",
            FailureKind::Proxy => "is it the right proxy? --proxy none goes without",
            FailureKind::TlsHandshake => "does it speak https? if not, write http://",
            FailureKind::TlsCertificate => "--cacert names the certificates to trust",
            FailureKind::Protocol => "does it speak http? if it speaks TLS, write https://",
            _ => "is the server up?",
        };
        Error::Server(format!("cannot reach {}: {kind} ({why}); {advice}", settings.endpoint.base()))
    })?;
    if status != 200 {
        let said = secret::redacted(&wire::error_message(&body), &settings.secrets());
        let advice = if status == 401 || status == 403 {
            "give a key with --api-key-file"
        } else {
            "name it with --model"
        };
        return Err(fail(format!("status {status}: {said}; the model is not known: {advice}")));
    }
    let models = wire::model_ids(&body).map_err(|why| fail(format!("{why}; name the model with --model")))?;
    match models.as_slice() {
        [] => Err(fail("the server lists no model; name one with --model".to_owned())),
        [first, others @ ..] => {
            if !others.is_empty() {
                log::warn!("the server lists {} models; taking the first", models.len());
            }
            Ok(first.clone())
        }
    }
}

/// Longest time for the server to say what it serves.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of a [`Benchmarker`], with the documented tool's names and defaults.
#[derive(Clone, Debug)]
pub struct BenchmarkConfig {
    /// Server, such as `http://host:8000`, or full endpoint.
    pub url: String,
    /// Model to ask for; `None` takes the one that the server names.
    pub model: Option<String>,
    /// Sent as `Authorization: Bearer …`; `None` sends no such header.
    pub auth_token: Option<Secret>,
    /// Longest time for a whole request.
    pub timeout: Duration,
    /// Threads where a call names no number: each has one request at a time.
    pub max_concurrent_requests: u64,
    /// Longest reply, in tokens.
    pub max_tokens: u64,
    /// Sampling temperature; `None` leaves it to the server.
    pub temperature: Option<f64>,
    /// Make every reply `max_tokens` long (vLLM's `ignore_eos`).
    pub ignore_eos: bool,
    /// Whether to ask for streams; without one there is no TTFT, TPOT or ITL.
    pub stream: bool,
    /// Requests sent first and left out of the results.
    pub warmup: u64,
    /// Source of all that is random; `None` draws one and records it.
    pub seed: Option<u64>,
}

impl Default for BenchmarkConfig {
    fn default() -> Self {
        Self {
            url: defaults::URL.to_owned(),
            model: None,
            auth_token: None,
            timeout: defaults::TIMEOUT,
            max_concurrent_requests: defaults::THREADS,
            max_tokens: defaults::MAX_TOKENS,
            temperature: None,
            ignore_eos: false,
            stream: true,
            warmup: 0,
            seed: None,
        }
    }
}

/// Makes runs from a program.
#[derive(Clone, Debug)]
pub struct Benchmarker {
    config: BenchmarkConfig,
}

impl Benchmarker {
    /// With these settings; they are checked when a run is made.
    pub fn new(config: BenchmarkConfig) -> Self {
        Self { config }
    }

    /// Makes one run: `num_completions` requests with this prompt, `concurrent_requests` at a time; `None` takes
    /// `max_concurrent_requests`.
    ///
    /// # Errors
    /// [`Error::Usage`] with everything that is wrong with settings and arguments; [`Error::Server`] when no model was
    /// named and the server cannot be asked. Failed requests are no error: they are counted in the report.
    pub fn run_benchmark(
        &self,
        prompt: &str,
        num_completions: u64,
        concurrent_requests: impl Into<Option<u64>>,
    ) -> Result<Report, Error> {
        self.run_with_sinks(prompt, num_completions, concurrent_requests, vec![])
    }

    /// The same, and every sink gets every record as the requests end.
    ///
    /// # Errors
    /// Those of [`run_benchmark`](Self::run_benchmark).
    pub fn run_with_sinks(
        &self,
        prompt: &str,
        num_completions: u64,
        concurrent_requests: impl Into<Option<u64>>,
        sinks: Vec<&mut dyn Sink>,
    ) -> Result<Report, Error> {
        let draft = self.draft(prompt, num_completions, concurrent_requests.into());
        let suite = draft.check(&mut ask_model)?;
        let (_stopper, stop) = stop_pair();
        run(
            &suite.plans[0],
            Run { sinks, record_log: None, server_metrics: true, calibration: None, stop: &stop },
        )
    }

    fn draft(&self, prompt: &str, completions: u64, threads: Option<u64>) -> Draft {
        let config = &self.config;
        let threads = match threads {
            Some(threads) => Given::in_code("concurrent_requests", threads),
            None => Given::in_code("max_concurrent_requests", config.max_concurrent_requests),
        };
        Draft {
            url: Some(Given::in_code("url", config.url.clone())),
            model: config.model.clone().map(|model| Given::in_code("model", model)),
            key: config.auth_token.clone().map(|key| (key, "the program".to_owned())),
            timeout: Some(Given::in_code("timeout", config.timeout)),
            prompt: Some(Given::in_code("prompt", prompt.to_owned())),
            max_tokens: Some(Given::in_code("max_tokens", config.max_tokens)),
            temperature: config.temperature.map(|t| Given::in_code("temperature", t)),
            ignore_eos: Some(config.ignore_eos),
            stream: Some(config.stream),
            threads: Some(threads),
            completions: Some(Given::in_code("num_completions", completions)),
            warmup: Some(Given::in_code("warmup", Extent::Requests(config.warmup))),
            seed: config.seed.map(|seed| Given::in_code("seed", seed)),
            ..Draft::default()
        }
    }

    /// Prints the report to standard output, as the command does.
    ///
    /// # Errors
    /// [`Error::Output`] when it cannot be written.
    pub fn print_results(&self, report: &Report) -> Result<(), Error> {
        Ok(report::print_report(report, false, &mut io::stdout().lock())?)
    }

    /// Saves the report as JSON; a file that exists is not replaced.
    ///
    /// # Errors
    /// [`Error::File`] when it exists or cannot be written.
    pub fn save_results(&self, report: &Report, path: impl AsRef<Path>) -> Result<PathBuf, Error> {
        Self::save(report, path.as_ref(), false)
    }

    /// The same, and a file that is there is replaced.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be written.
    pub fn overwrite_results(&self, report: &Report, path: impl AsRef<Path>) -> Result<PathBuf, Error> {
        Self::save(report, path.as_ref(), true)
    }

    fn save(report: &Report, path: &Path, overwrite: bool) -> Result<PathBuf, Error> {
        let file = OutputFile::create(path, overwrite)?;
        file.finish(|out| report::write_json(report, None::<&mut DetailLog>, out))
    }
}
