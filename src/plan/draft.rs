//! What was typed, with where it was typed; nothing of it is believed yet.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Extent, NetworkDraft, Threshold};
use crate::arrivals::Shape;
use crate::error::Mistake;
use crate::health;
use crate::keeper;
use crate::priority;
use crate::secret::{Secret, carries_key};
use crate::summary::Slo;
use crate::wire::Dialect;

/// A value and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Where it is from.
    pub origin: Origin,
}

impl<T> Given<T> {
    /// A value from there.
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// A value set in a program.
    pub fn in_code(name: &'static str, value: T) -> Self {
        Self::new(value, Origin::Code(name))
    }

    /// What is wrong with the value.
    pub fn mistake(&self, shown: impl fmt::Display, problem: impl Into<String>) -> Mistake {
        Mistake::new(format!("{} '{shown}'", self.origin), problem)
    }
}

/// Where a value is from; shown as the place of a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag, such as `--threads`.
    Flag(&'static str),
    /// A field of a config file: `file:line:column: field`.
    File {
        /// Path as given, with line and column.
        place: String,
        /// The field's name.
        field: String,
    },
    /// A field of [`BenchmarkConfig`](crate::BenchmarkConfig) or an argument, by name.
    Code(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Code(name) => f.write_str(name),
            Self::File { place, field } => write!(f, "{place}: {field}"),
        }
    }
}

/// The name of an arrival process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is the process of its name
pub enum ArrivalName {
    Constant,
    Poisson,
    Gamma,
}

impl FromStr for ArrivalName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "constant" => Ok(Self::Constant),
            "poisson" => Ok(Self::Poisson),
            "gamma" => Ok(Self::Gamma),
            _ => Err("unknown; write constant, poisson or gamma".to_owned()),
        }
    }
}

/// A scenario of the config file.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioDraft {
    /// Its name.
    pub name: Given<String>,
    /// One run for each number of completions.
    pub completions: Given<Vec<u64>>,
    /// Its prompt.
    pub prompt: Given<String>,
    /// Threads, where it wants others than the rest.
    pub threads: Option<Given<u64>>,
    /// Longest reply in tokens, where it wants another than the rest.
    pub max_tokens: Option<Given<u64>>,
}

/// All that can be said of a run, from flags, config file or code. `None` takes the default.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // each field is the flag of its name
pub struct Draft {
    pub url: Option<Given<String>>,
    pub api: Option<Given<Dialect>>,
    pub model: Option<Given<String>>,
    /// What the run is called where figures are kept over time.
    pub test_name: Option<Given<String>>,
    /// The key, and in words where it is from.
    pub key: Option<(Secret, String)>,
    /// The URL that the file names which a key is from.
    pub key_is_for: Option<String>,
    /// Files that are read, which no output may replace.
    pub inputs: Vec<Given<PathBuf>>,
    pub timeout: Option<Given<Duration>>,
    pub idle_timeout: Option<Given<Duration>>,
    pub connect_timeout: Option<Given<Duration>>,
    pub headers: Vec<Given<(String, Secret)>>,
    pub network: NetworkDraft,
    pub prompt: Option<Given<String>>,
    pub unique_prompts: Option<bool>,
    pub fail_on_length: Option<bool>,
    pub save_responses: Option<Given<bool>>,
    /// Whether the client looks at each segment that comes in.
    pub keeper: Option<Given<keeper::Mode>>,
    /// How soon its threads are to be run.
    pub client_priority: Option<Given<priority::Wanted>>,
    /// Whether to find out the client's own share before each run; no plan knows of it.
    pub calibrate: Option<bool>,
    pub max_tokens: Option<Given<u64>>,
    pub temperature: Option<Given<f64>>,
    pub ignore_eos: Option<bool>,
    pub stream: Option<bool>,
    pub continuous_usage: Option<bool>,
    pub extra_body: Option<Given<Map<String, Value>>>,
    pub threads: Option<Given<u64>>,
    /// Whether no shape of arrivals is to be taken from a file.
    pub closed_loop: bool,
    pub request_rate: Option<Given<Shape>>,
    pub ramp_up: Option<Given<Shape>>,
    pub stages: Option<Given<Shape>>,
    pub arrival: Option<Given<ArrivalName>>,
    pub burstiness: Option<Given<f64>>,
    pub completions: Option<Given<u64>>,
    pub duration: Option<Given<Duration>>,
    pub warmup: Option<Given<Extent>>,
    /// What is sent after the measured requests and left out.
    pub cooldown: Option<Given<Extent>>,
    /// What a good request must meet.
    pub goodput: Option<Given<Vec<Slo>>>,
    /// So many failures end the run.
    pub max_errors: Option<Given<u64>>,
    /// A larger share of failures ends the run.
    pub max_error_rate: Option<Given<f64>>,
    /// So long without any progress ends the run.
    pub no_progress_timeout: Option<Given<Duration>>,
    /// So long without any reply ends the run.
    pub no_reply_timeout: Option<Given<Duration>>,
    /// What each run's figures are to keep.
    pub thresholds: Vec<Given<Threshold>>,
    /// File for the verdicts on them, as JUnit XML.
    pub junit: Option<Given<PathBuf>>,
    /// Names and values by which the user tells runs apart; of one name, the last counts.
    pub labels: Vec<Given<(String, String)>>,
    /// Whether a thread of a closed loop pauses while it cannot reach the server.
    pub backoff: Option<bool>,
    /// How long requests may go on once none is to be sent any more.
    pub grace: Option<Given<Duration>>,
    pub seed: Option<Given<u64>>,
    /// Limits of the client's verdict that differ from the documented ones.
    pub health_limits: health::Limits,
    pub compare: Option<Given<Vec<u64>>>,
    pub concurrent_tests: Option<Given<Vec<u64>>>,
    /// How often the same run is made.
    pub runs: Option<Given<u64>>,
    /// The scenarios that the config file has.
    pub scenarios: Vec<ScenarioDraft>,
    /// Whether they are to be run.
    pub run_scenarios: bool,
    /// The simulated server in words, when it is one.
    pub simulated: Option<String>,
    pub save: bool,
    pub output: Option<Given<PathBuf>>,
    pub output_dir: Option<Given<PathBuf>>,
    pub csv: Option<Given<PathBuf>>,
    pub html: Option<Given<PathBuf>>,
    pub markdown: Option<Given<PathBuf>>,
    /// File for the results as metrics, for Prometheus.
    pub prom_out: Option<Given<PathBuf>>,
    /// Where metrics are served while the runs go on.
    pub metrics_listen: Option<Given<SocketAddr>>,
    /// URL of a Pushgateway for them; may hold a password.
    pub pushgateway: Option<Given<String>>,
    /// URL of a web hook that is told where a result is bad; may hold a password.
    pub alert_webhook: Option<Given<String>>,
    /// URL of an Alertmanager that is told; likewise.
    pub alertmanager: Option<Given<String>>,
    pub schedule_out: Option<Given<PathBuf>>,
    /// File for the object of vLLM's own benchmark.
    pub vllm_json: Option<Given<PathBuf>>,
    /// File for every record of the one run, as it ends.
    pub record_log: Option<Given<PathBuf>>,
    pub no_csv: bool,
    pub no_detail: bool,
    pub overwrite: bool,
}

impl Draft {
    /// This draft, with what it leaves open taken from `base`: flags over a file. Of things with names (headers, labels, fields
    /// of the body, limits and objectives by their metric), those of `base` stay whose names are not given here.
    pub fn over(self, base: Self) -> Self {
        let base = base.giving_way_to(&self);
        let key_is_for = self.key_is_for.clone().or_else(|| self.key_left_to(&base));
        Self {
            key_is_for,
            inputs: self.inputs.into_iter().chain(base.inputs).collect(),
            url: self.url.or(base.url),
            api: self.api.or(base.api),
            model: self.model.or(base.model),
            test_name: self.test_name.or(base.test_name),
            key: self.key.or(base.key),
            timeout: self.timeout.or(base.timeout),
            idle_timeout: self.idle_timeout.or(base.idle_timeout),
            connect_timeout: self.connect_timeout.or(base.connect_timeout),
            headers: by_name(self.headers, base.headers, |(name, _)| name.to_ascii_lowercase()),
            network: self.network.over(base.network),
            prompt: self.prompt.or(base.prompt),
            unique_prompts: self.unique_prompts.or(base.unique_prompts),
            fail_on_length: self.fail_on_length.or(base.fail_on_length),
            save_responses: self.save_responses.or(base.save_responses),
            keeper: self.keeper.or(base.keeper),
            client_priority: self.client_priority.or(base.client_priority),
            calibrate: self.calibrate.or(base.calibrate),
            max_tokens: self.max_tokens.or(base.max_tokens),
            temperature: self.temperature.or(base.temperature),
            ignore_eos: self.ignore_eos.or(base.ignore_eos),
            stream: self.stream.or(base.stream),
            continuous_usage: self.continuous_usage.or(base.continuous_usage),
            extra_body: fields(self.extra_body, base.extra_body),
            threads: self.threads.or(base.threads),
            closed_loop: self.closed_loop || base.closed_loop,
            request_rate: self.request_rate.or(base.request_rate),
            ramp_up: self.ramp_up.or(base.ramp_up),
            stages: self.stages.or(base.stages),
            arrival: self.arrival.or(base.arrival),
            burstiness: self.burstiness.or(base.burstiness),
            completions: self.completions.or(base.completions),
            duration: self.duration.or(base.duration),
            warmup: self.warmup.or(base.warmup),
            cooldown: self.cooldown.or(base.cooldown),
            backoff: self.backoff.or(base.backoff),
            grace: self.grace.or(base.grace),
            goodput: objectives(self.goodput, base.goodput),
            max_errors: self.max_errors.or(base.max_errors),
            max_error_rate: self.max_error_rate.or(base.max_error_rate),
            no_progress_timeout: self.no_progress_timeout.or(base.no_progress_timeout),
            no_reply_timeout: self.no_reply_timeout.or(base.no_reply_timeout),
            thresholds: by_name(self.thresholds, base.thresholds, |threshold| threshold.rule.name()),
            labels: base.labels.into_iter().chain(self.labels).collect(),
            junit: self.junit.or(base.junit),
            seed: self.seed.or(base.seed),
            health_limits: self.health_limits.over(base.health_limits),
            compare: self.compare.or(base.compare),
            concurrent_tests: self.concurrent_tests.or(base.concurrent_tests),
            runs: self.runs.or(base.runs),
            scenarios: if self.scenarios.is_empty() { base.scenarios } else { self.scenarios },
            run_scenarios: self.run_scenarios || base.run_scenarios,
            simulated: self.simulated.or(base.simulated),
            save: self.save || base.save,
            output: self.output.or(base.output),
            output_dir: self.output_dir.or(base.output_dir),
            csv: self.csv.or(base.csv),
            html: self.html.or(base.html),
            markdown: self.markdown.or(base.markdown),
            prom_out: self.prom_out.or(base.prom_out),
            metrics_listen: self.metrics_listen.or(base.metrics_listen),
            pushgateway: self.pushgateway.or(base.pushgateway),
            alert_webhook: self.alert_webhook.or(base.alert_webhook),
            alertmanager: self.alertmanager.or(base.alertmanager),
            schedule_out: self.schedule_out.or(base.schedule_out),
            vllm_json: self.vllm_json.or(base.vllm_json),
            record_log: self.record_log.or(base.record_log),
            no_csv: self.no_csv || base.no_csv,
            no_detail: self.no_detail || base.no_detail,
            overwrite: self.overwrite || base.overwrite,
        }
    }

    /// The URL of the file that is to be `base`, if a key of its own is sent.
    fn key_left_to(&self, base: &Self) -> Option<String> {
        let is_replaced = |name: &str| self.headers.iter().any(|own| own.value.0.eq_ignore_ascii_case(name));
        let mut names = base.headers.iter().map(|header| header.value.0.as_str());
        let in_header = names.any(|name| carries_key(name) && !is_replaced(name));
        let has_key = self.key.is_none() && self.authorization().is_none() && base.key.is_some();
        base.url.as_ref().filter(|_| has_key || in_header).map(|url| url.value.clone())
    }

    /// The header by which whoever typed it is let in.
    pub(super) fn authorization(&self) -> Option<&Given<(String, Secret)>> {
        self.headers.iter().find(|header| header.value.0.eq_ignore_ascii_case("authorization"))
    }

    /// The shapes of arrivals that were asked for. More than one is a mistake.
    pub(super) fn shapes(&self) -> impl Iterator<Item = &Given<Shape>> {
        [&self.request_rate, &self.ramp_up, &self.stages].into_iter().flatten()
    }

    /// This draft without what goes with another shape of arrivals than `other` brings, and without words in the body in whose
    /// place `other` has a prompt.
    fn giving_way_to(mut self, other: &Self) -> Self {
        if let (Some(_), Some(extra)) = (&other.prompt, &mut self.extra_body) {
            for dialect in [Dialect::Chat, Dialect::Completions] {
                extra.value.remove(dialect.prompt_key());
            }
        }
        if other.closed_loop {
            (self.request_rate, self.ramp_up, self.stages) = (None, None, None);
            (self.arrival, self.burstiness) = (None, None);
        }
        let Some(shape) = other.shapes().next() else { return self };
        let mut rest = Self { request_rate: None, ramp_up: None, stages: None, ..self };
        match shape.value {
            Shape::Steady(_) => {}
            Shape::Ramp(_) => rest.completions = None,
            Shape::Stages(_) => (rest.completions, rest.duration) = (None, None),
            Shape::AtOnce => (rest.duration, rest.arrival, rest.burstiness) = (None, None, None),
        }
        rest
    }
}

/// All of `over`, and of `base` what has other names.
pub(super) fn by_name<T, N: PartialEq>(
    over: Vec<Given<T>>,
    base: Vec<Given<T>>,
    name: impl Fn(&T) -> N,
) -> Vec<Given<T>> {
    let names: Vec<N> = over.iter().map(|given| name(&given.value)).collect();
    base.into_iter().filter(|given| !names.contains(&name(&given.value))).chain(over).collect()
}

fn fields(
    over: Option<Given<Map<String, Value>>>,
    base: Option<Given<Map<String, Value>>>,
) -> Option<Given<Map<String, Value>>> {
    match (over, base) {
        (Some(over), Some(base)) => {
            let value = base.value.into_iter().chain(over.value).collect();
            Some(Given { value, ..over })
        }
        (over, base) => over.or(base),
    }
}

fn objectives(over: Option<Given<Vec<Slo>>>, base: Option<Given<Vec<Slo>>>) -> Option<Given<Vec<Slo>>> {
    match (over, base) {
        (Some(mut over), Some(base)) => {
            let is_given = |slo: &Slo| over.value.iter().any(|other| other.metric == slo.metric);
            let rest: Vec<Slo> = base.value.into_iter().filter(|slo| !is_given(slo)).collect();
            over.value.splice(0..0, rest);
            Some(over)
        }
        (over, base) => over.or(base),
    }
}
