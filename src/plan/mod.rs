//! What is to be done: from what was typed, maybe wrong, to plans that are complete and valid.
//!
//! A [`Draft`] holds values with their origins; [`Draft::check`] finds all mistakes at once, or makes a [`Suite`] of
//! [`Plan`]s. A plan never changes and is echoed in every report. Knows neither argh nor the clock.

mod check;
mod draft;
mod labels;
mod metric;
mod network;
mod paths;
mod phases;
mod schedule;
mod threshold;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use crate::backend::PROXY_VARIABLES;
pub use check::MAX_THREADS;
pub use draft::{ArrivalName, Draft, Given, Origin, ScenarioDraft};
pub use labels::{Labels, MAX_LABELS, parse_label, shown_labels};
pub use metric::{Metric, Quantity, Stat, Unit};
pub use network::NetworkDraft;
pub use paths::resolved;
pub use phases::{Extent, Phases};
pub use schedule::ScheduleHash;
pub use threshold::{Operator, Rule, Threshold};

use crate::arrivals::{Arrivals, Shape};
use crate::backend::{Destination, Network, Settings};
use crate::health;
use crate::keeper;
use crate::priority;
use crate::secret::{self, Secret};
use crate::summary::Full;
pub use crate::summary::Slo;
use crate::text::printable;
use crate::units::{as_seconds, as_seconds_or_null, from_seconds, from_seconds_or_null};
use crate::wire::Ask;

/// Values used where nothing is given. The documented tool's, where it documents one.
pub mod defaults {
    use std::time::Duration;

    /// Where the server is looked for.
    pub const URL: &str = "http://localhost:63455/v1/chat/completions";
    /// Requests in flight in a closed loop.
    pub const THREADS: u64 = 20;
    /// Seconds of arrivals that the threads of an open loop can hold at once, and the bounds of their number.
    pub const POOL_SECONDS: f64 = 20.0;
    /// Fewest threads of an open loop.
    pub const MIN_POOL: u64 = 64;
    /// Most threads of an open loop, unless more are asked for.
    pub const MAX_POOL: u64 = 1_000;
    /// Requests in all.
    pub const COMPLETIONS: u64 = 100;
    /// What is asked.
    pub const PROMPT: &str = "Generate a creative story about a robot learning to paint.";
    /// Longest reply, in tokens, so that a run ends.
    pub const MAX_TOKENS: u64 = 256;
    /// Longest time for a whole request.
    pub const TIMEOUT: Duration = Duration::from_secs(3600);
    /// Longest wait for the next byte.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
    /// How long a run goes on without any progress: longer than silence may last, which fails single requests.
    pub const fn no_progress(idle_timeout: Duration) -> Duration {
        idle_timeout.saturating_mul(2)
    }
    /// How long a run goes on in which no reply has come.
    pub const NO_REPLY: Duration = Duration::from_secs(60);
    /// How long requests under way may go on after an interrupt.
    pub const INTERRUPT_GRACE: Duration = Duration::from_secs(10);
    /// Longest time to connect.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// Where files go.
    pub const OUTPUT_DIR: &str = "results";
}

/// One run, complete and valid.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Names the run in request ids; new with each run.
    pub run_id: String,
    /// Tells plans apart that are not comparable: the first 16 digits of a SHA-256 over scenario, API, request, prompt
    /// and load. Server, headers, key, timeouts, labels, seed and run id are left out. It is made anew when a result is
    /// read, and settings that came later count only where they are not at rest: a new one parts no history.
    pub hash: String,
    /// Name of the scenario, if it is one.
    pub scenario: Option<String>,
    /// What the run is called where figures are kept over time; `None` takes the scenario's name.
    #[serde(default)]
    pub test_name: Option<String>,
    /// The simulated server in words; `None` when the server is none of ours.
    pub simulated: Option<String>,
    /// The server and how to reach it.
    pub server: Settings,
    /// Where the API key is from, in words; `None` without a key.
    pub key_source: Option<String>,
    /// What each request asks for.
    pub request: Ask,
    /// The prompt.
    pub prompt: String,
    /// Whether each prompt begins with a salt of its own.
    pub unique_prompts: bool,
    /// Whether a reply that was cut at its token limit (`finish_reason` is `length`) is a failure.
    #[serde(default)]
    pub fail_on_length: bool,
    /// Whether what the model says is kept with each request; no part of what tells plans apart.
    #[serde(default)]
    pub save_responses: bool,
    /// Whether the client looks at each segment that comes in; no part of what tells plans apart.
    #[serde(default)]
    pub keeper: keeper::Mode,
    /// How soon the client's threads are to be run; likewise.
    #[serde(default)]
    pub client_priority: priority::Wanted,
    /// How much is asked at once, and for how long.
    pub load: Load,
    /// Whether a thread of a closed loop pauses before its next request when no byte of the last one could leave; no part of
    /// what tells plans apart.
    #[serde(default = "yes")]
    pub backoff: bool,
    /// Above which values of its own the client calls a run DEGRADED or INVALID.
    #[serde(default)]
    pub health_limits: health::Limits,
    /// What a good request must meet, for the goodput; empty where nothing is asked.
    #[serde(default)]
    pub slos: Vec<Slo>,
    /// How much may go wrong before the run is ended.
    #[serde(default)]
    pub error_limits: ErrorLimits,
    /// What the run's figures are to keep.
    #[serde(default)]
    pub thresholds: Vec<Threshold>,
    /// What the user calls the run; no part of what tells plans apart.
    #[serde(default)]
    pub labels: Labels,
    /// Source of all that is random.
    pub seed: u64,
}

/// How much may go wrong before a run is ended. What this client ended itself is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorLimits {
    /// So many failures end it; `None` sets no limit.
    #[serde(rename = "max_errors")]
    pub most: Option<NonZeroU64>,
    /// A larger share of failures, from 0 to 1, ends it, once 20 requests have ended; `None` sets no limit.
    #[serde(rename = "max_error_rate")]
    pub rate: Option<f64>,
    /// With requests under way, so long without a token and without the end of a request ends it.
    #[serde(
        rename = "no_progress_timeout_s",
        serialize_with = "as_seconds",
        deserialize_with = "from_seconds"
    )]
    pub no_progress: Duration,
    /// So long without a byte of any reply ends it, once a request has ended and unless one waits for its reply.
    #[serde(rename = "no_reply_timeout_s", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub no_reply: Duration,
}

impl Default for ErrorLimits {
    fn default() -> Self {
        Self {
            most: None,
            rate: None,
            no_progress: defaults::no_progress(defaults::IDLE_TIMEOUT),
            no_reply: defaults::NO_REPLY,
        }
    }
}

/// How much load a run puts on the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Threads, each with one request at a time; in an open loop the most that can be in flight.
    pub threads: NonZeroUsize,
    /// When requests arrive; `None` is a closed loop: a thread's next request follows its last.
    pub arrivals: Option<Arrivals>,
    /// Measured requests; `None` means as many as fit into the duration or the schedule.
    pub completions: Option<NonZeroU64>,
    /// No request starts later than this after the first measured one; `None` sets no limit.
    #[serde(
        rename = "duration_s",
        serialize_with = "as_seconds_or_null",
        deserialize_with = "from_seconds_or_null"
    )]
    pub duration: Option<Duration>,
    /// What is sent first and left out of the results.
    pub warmup: Extent,
    /// What is sent after the measured requests, to keep the load up until they have ended, and left out.
    #[serde(default = "no_extent")]
    pub cooldown: Extent,
    /// How long requests may go on once none is to be sent any more; `None` waits for them, and after an interrupt
    /// for [`defaults::INTERRUPT_GRACE`].
    #[serde(
        rename = "grace_s",
        serialize_with = "as_seconds_or_null",
        deserialize_with = "from_seconds_or_null"
    )]
    pub grace: Option<Duration>,
}

fn yes() -> bool {
    true
}

fn no_extent() -> Extent {
    Extent::NONE
}

impl Load {
    /// When the load is up.
    pub fn full(&self) -> Full {
        if self.has_rate() { Full::FirstEnded } else { Full::Started(self.threads.get() as u64) }
    }

    /// Whether it is an open loop: requests are due when they are, however many are under way.
    pub fn is_open(&self) -> bool {
        self.arrivals.is_some()
    }

    /// Whether requests arrive at a rate. Not where all are due at once: there, waiting is the point.
    pub fn has_rate(&self) -> bool {
        self.arrivals.as_ref().is_some_and(|arrivals| arrivals.shape != Shape::AtOnce)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::units::{show_count, show_counted, show_duration};
        let threads = self.threads.get() as u64;
        match &self.arrivals {
            None => write!(f, "closed loop, {}", show_counted(threads, "thread"))?,
            Some(arrivals) => write!(f, "open loop, {arrivals}, at most {} in flight", show_count(threads))?,
        }
        if let Some(completions) = self.completions {
            write!(f, ", {}", show_counted(completions.get(), "completion"))?;
        }
        if let Some(duration) = self.duration {
            write!(f, ", {}", show_duration(duration))?;
        }
        if !self.warmup.is_none() {
            write!(f, ", after {} for warm-up", self.warmup)?;
        }
        if !self.cooldown.is_none() {
            write!(f, ", then {} for cool-down", self.cooldown)?;
        }
        Ok(())
    }
}

impl Plan {
    /// What the run is called where figures are kept over time: the name given, the scenario's, both as `NAME/SCENARIO`,
    /// or `default`.
    pub fn test(&self) -> String {
        let names: Vec<&str> = self.test_name.iter().chain(&self.scenario).map(String::as_str).collect();
        if names.is_empty() { "default".to_owned() } else { names.join("/") }
    }

    /// What must not be shown of what is sent: that of the server's settings, and the texts under names of secrets in the
    /// body.
    pub fn secrets(&self) -> Vec<Secret> {
        let mut secrets = self.server.secrets();
        secrets.extend(secret::secrets_of_object(&self.request.extra));
        secret::in_every_form(secrets)
    }

    /// The id under which request number `id` is sent.
    pub fn request_id(&self, id: u64) -> String {
        format!("{}-{id}", self.run_id)
    }

    /// What makes results comparable where it is equal. What was not there from the beginning is left out where it says
    /// nothing, so that plans from before there was such a choice keep their hash.
    fn comparable(&self) -> Value {
        let mut request = serde_json::json!(self.request);
        let mut load = serde_json::json!(self.load);
        without_later(&mut request, &FIRST_OF_REQUEST);
        without_later(&mut load, &FIRST_OF_LOAD);
        let mut all = serde_json::json!({
            "scenario": self.scenario,
            "api": self.server.endpoint.dialect,
            "request": request,
            "prompt": self.prompt,
            "unique_prompts": self.unique_prompts,
            "load": load,
        });
        if self.fail_on_length {
            all["fail_on_length"] = true.into();
        }
        all
    }

    /// In what this plan differs from another that it is not comparable with, in words: `load.threads: 20 and 40`. Empty
    /// where they are comparable.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        differences("", &self.comparable(), &other.comparable(), &mut found);
        found
    }

    /// The plan with its hash filled in, of whichever version it is.
    pub(crate) fn hashed(mut self) -> Self {
        let digest = Sha256::digest(self.comparable().to_string().as_bytes());
        self.hash = short_hex(&digest);
        self
    }
}

/// The fields of requests and loads that are in every hash, whatever they say.
const FIRST_OF_REQUEST: [&str; 8] =
    ["dialect", "model", "stream", "max_tokens", "temperature", "ignore_eos", "continuous_usage", "extra"];
const FIRST_OF_LOAD: [&str; 7] =
    ["threads", "arrivals", "completions", "duration_s", "warmup", "cooldown", "grace_s"];

/// Takes the fields out that are not of the `first` and say nothing: null, false, 0, or empty. What a new setting means where
/// it is not given has to be one of these.
fn without_later(value: &mut Value, first: &[&str]) {
    let is_at_rest = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    };
    if let Value::Object(fields) = value {
        fields.retain(|name, value| first.contains(&name.as_str()) || !is_at_rest(value));
    }
}

/// The leaves in which two values differ, by their dotted names.
fn differences(name: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    if one == other {
        return;
    }
    let (Value::Object(a), Value::Object(b)) = (one, other) else {
        let shown = |value: &Value| printable(&value.to_string(), 80);
        found.push(format!("{name}: {} and {}", shown(one), shown(other)));
        return;
    };
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for key in names {
        let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
        let name =
            if name.is_empty() { printable(key, 60) } else { format!("{name}.{}", printable(key, 60)) };
        differences(&name, &of(a), &of(b), found);
    }
}

/// The first 16 hexadecimal digits.
fn short_hex(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Runs made one after another, and what for.
#[derive(Clone, Debug)]
pub struct Suite {
    /// What the runs are to show.
    pub kind: SuiteKind,
    /// At least one.
    pub plans: Vec<Plan>,
    /// What is written to files.
    pub outputs: Outputs,
}

/// Why there are several runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuiteKind {
    /// There is one.
    Single,
    /// `--compare`: numbers of completions side by side.
    Completions,
    /// `--concurrent-tests`: numbers of threads side by side.
    Threads,
    /// `--runs`: the same again, each with a seed of its own.
    Runs,
    /// `--scenarios`: the scenarios of the config file.
    Scenarios,
}

/// What is written to files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// JSON per run in this folder, under names made from the plan and the date.
    pub save_to: Option<PathBuf>,
    /// JSON of the one run.
    pub json: Option<PathBuf>,
    /// CSV over all runs.
    pub csv: Option<Csv>,
    /// The object of vLLM's own benchmark, of the one run.
    pub vllm: Option<PathBuf>,
    /// JUnit XML of the thresholds of all runs.
    pub junit: Option<PathBuf>,
    /// Page with charts over all runs.
    pub html: Option<PathBuf>,
    /// Markdown tables over all runs.
    pub markdown: Option<PathBuf>,
    /// The results of all runs as metrics, for Prometheus.
    pub prometheus: Option<PathBuf>,
    /// Where metrics are served while the runs go on.
    pub metrics_listen: Option<SocketAddr>,
    /// The Pushgateway that is sent them.
    pub pushgateway: Option<Route>,
    /// Who is told where a result is bad.
    pub alerts: AlertsTo,
    /// Record log of the one run; compressed if its name ends in `.gz`.
    pub record_log: Option<PathBuf>,
    /// CSV of when the one run's requests are due.
    pub schedule: Option<PathBuf>,
    /// Whether there is a line for each request in the JSON, and beside what is saved a record log.
    pub detail: bool,
    /// Whether files that exist may be replaced.
    pub overwrite: bool,
}

/// A server beside the one under load, and how it is reached.
pub type Route = (Destination, Network);

/// Who is told where a result is bad.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertsTo {
    /// A web hook, which is sent one JSON object.
    pub webhook: Option<Route>,
    /// Prometheus' Alertmanager, by its URL without the path of its API.
    pub alertmanager: Option<Route>,
}

/// Where the CSV goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Csv {
    /// To this file.
    File(PathBuf),
    /// Into this folder, under a name with the date.
    Folder(PathBuf),
}
