//! The client under test: this very command, in a process of its own, and what its JSON says.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crossbeam_channel::{bounded, select};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;

use super::Trial;
use super::disturbed::stop_at_random;
use crate::accuracy::Account;
use crate::clock::Stop;

/// What the client's JSON says, as far as it matters here.
#[derive(Debug, Deserialize)]
pub struct Told {
    plan: Plan,
    /// What it cost.
    pub health: Health,
    /// What came of it.
    pub summary: Summary,
    requests: Vec<Request>,
}

#[derive(Debug, Deserialize)]
struct Plan {
    run_id: String,
}

/// What the run cost the client.
#[derive(Debug, Deserialize)]
pub struct Health {
    /// `VALID`, `DEGRADED` or `INVALID`.
    pub verdict: String,
    cpu_user_s: Option<f64>,
    cpu_system_s: Option<f64>,
    /// Largest resident memory, bytes.
    pub peak_rss_bytes: Option<u64>,
}

/// What came of the run.
#[derive(Debug, Deserialize)]
pub struct Summary {
    /// Failures by kind, most frequent first.
    pub errors: Vec<Failures>,
    /// Times, by the names of the JSON.
    #[serde(default)]
    pub latency: HashMap<String, Value>,
}

impl Summary {
    /// The lower and the upper end of a percentile, such as `p99`, of `ttft`, `itl` or `e2e`, ms. `None` where the client
    /// has none.
    pub fn ends(&self, figure: &str, percentile: &str) -> Option<(f64, f64)> {
        let of = |name: String| self.latency.get(&name)?.get(percentile)?.as_f64();
        let high = of(format!("{figure}_ms"))?;
        Some((of(format!("{figure}_low_ms")).unwrap_or(high), high))
    }
}

/// Failures of one kind.
#[derive(Debug, Deserialize)]
pub struct Failures {
    /// Requests that ended so.
    pub count: u64,
    /// The kind's name.
    pub kind: String,
    /// What it means.
    pub meaning: String,
    /// The message of the first.
    pub example: String,
}

#[derive(Debug, Deserialize)]
struct Request {
    id: u64,
    outcome: String,
    ttft_ms: Option<f64>,
    ttft_low_ms: Option<f64>,
    e2e_ms: Option<f64>,
    e2e_low_ms: Option<f64>,
    token_events_us: Vec<u64>,
}

impl Told {
    /// CPU time of the run, user and system; `None` if unknown.
    pub fn cpu(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.health.cpu_user_s? + self.health.cpu_system_s?).ok()
    }

    /// Token events of the requests that succeeded; each bears one token.
    pub fn tokens(&self) -> u64 {
        self.succeeded().map(|request| request.token_events_us.len() as u64).sum()
    }

    /// What is said of each request that succeeded.
    pub fn accounts(&self) -> impl Iterator<Item = Account> + '_ {
        let time = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).ok();
        self.succeeded().map(move |request| Account {
            request_id: format!("{}-{}", self.plan.run_id, request.id),
            ttft: request.ttft_ms.and_then(time),
            ttft_low: request.ttft_low_ms.and_then(time),
            e2e: request.e2e_ms.and_then(time),
            e2e_low: request.e2e_low_ms.and_then(time),
            token_events: request.token_events_us.iter().copied().map(Duration::from_micros).collect(),
        })
    }

    fn succeeded(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|request| request.outcome == "success")
    }
}

/// Environment variables that would make it another run than the one that is meant.
const NOT_PASSED_ON: [&str; 4] = ["RUST_LOG", "VLLM_LOADGEN_API_KEY", "OPENAI_API_KEY", "VLLM_API_KEY"];

/// Runs the client to its end; `None` if the stop came first.
///
/// # Errors
/// When it cannot be started, or ends without a report: in words, for the user.
pub fn run(
    program: &Path,
    (url, model): (&str, &str),
    trial: &Trial,
    folder: &Path,
    stop: &Stop,
) -> Result<Option<Told>, String> {
    let file = folder.join(format!("{}.json", trial.streams));
    let mut command = Command::new(program);
    command
        // not where a config file may be
        .current_dir(folder)
        .args(["--url", url, "--model", model, "--no-server-metrics", "--ignore-eos", "-q"])
        .args(["--threads", &trial.streams.to_string(), "--completions", &trial.requests.to_string()])
        .args(["--keeper", trial.client.keeper.name(), "--client-priority", trial.client.priority.name()])
        .args(["--max-tokens", &trial.tokens.to_string(), "--overwrite", "--output"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    for name in NOT_PASSED_ON {
        command.env_remove(name);
    }
    let started = command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    let Some(words) = wait(Process(started), trial.client.stops, stop)
        .map_err(|error| format!("the client is lost: {error}"))?
    else {
        return Ok(None);
    };
    let said = words.lines().rev().find_map(|line| line.strip_prefix("error: "));
    let told = File::open(&file).and_then(|file| Ok(serde_json::from_reader(BufReader::new(file))?));
    // a run without success has a report, and an exit code that says so
    told.map(Some).map_err(|error| match said {
        Some(said) => said.to_owned(),
        None => format!("the client left no report that can be read: {error}"),
    })
}

/// A process that does not outlive its use.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the process has closed its standard error, and returns what it said there; `None` if the stop came first. Stops
/// the process now and then, if `stops`.
fn wait(mut process: Process, stops: bool, stop: &Stop) -> io::Result<Option<String>> {
    let mut stderr = process.0.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (tell, told) = bounded(1);
    std::thread::scope(|scope| {
        let listen = move || {
            let mut words = Vec::new();
            let read = stderr.read_to_end(&mut words);
            // nobody listens any more after a stop
            let _ = tell.send(read.map(|_| String::from_utf8_lossy(&words).into_owned()));
        };
        std::thread::Builder::new().name("client-words".to_owned()).spawn_scoped(scope, listen)?;
        let (over, is_over) = bounded(0);
        let id = Pid::from_raw(i32::try_from(process.0.id()).expect("process numbers are of this size"));
        let stopper = stops.then(|| {
            let body = move || stop_at_random(id, &is_over);
            std::thread::Builder::new().name("client-stops".to_owned()).spawn_scoped(scope, body)
        });
        // before the process is waited for: until then nobody else has its number
        let end_stops = move || {
            drop(over);
            stopper.and_then(Result::ok).map(|stopper| stopper.join())
        };
        select! {
            recv(told) -> words => {
                end_stops();
                process.0.wait()?;
                words.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())).map(Some)
            }
            recv(stop.channel()) -> _ => {
                end_stops();
                // closes its standard error, so that the thread ends
                drop(process);
                Ok(None)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::stop_pair;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stderr(Stdio::piped());
        Process(command.spawn().expect("there is a shell"))
    }

    #[test]
    fn a_process_is_heard_to_its_end() {
        let (_stopper, stop) = stop_pair();
        let words = wait(shell("echo one >&2; echo two >&2"), false, &stop).expect("it ends");
        assert_eq!(words.as_deref(), Some("one\ntwo\n"));
    }

    #[test]
    fn a_stop_ends_the_process() {
        let (stopper, stop) = stop_pair();
        stopper.stop();
        assert_eq!(wait(shell("exec sleep 3600"), true, &stop).expect("it is killed"), None);
    }

    #[test]
    fn accounts_are_those_of_the_requests_that_succeeded() {
        let told: Told = serde_json::from_str(
            r#"{"schema": 1, "plan": {"run_id": "lg-1", "seed": 7},
                "health": {"verdict": "VALID", "cpu_user_s": 1.5, "cpu_system_s": 0.5, "peak_rss_bytes": null},
                "summary": {"errors": [{"kind": "http_503", "count": 1, "meaning": "m", "example": "e"}]},
                "requests": [
                    {"id": 3, "outcome": "success", "ttft_ms": 1.5, "e2e_ms": 2.5, "token_events_us": [1500, 2500]},
                    {"id": 4, "outcome": "http_503", "ttft_ms": null, "e2e_ms": null, "token_events_us": []}]}"#,
        )
        .expect("the form of the JSON");
        assert_eq!((told.cpu(), told.tokens()), (Some(Duration::from_secs(2)), 2));
        let want = Account {
            request_id: "lg-1-3".to_owned(),
            ttft: Some(Duration::from_micros(1500)),
            e2e: Some(Duration::from_micros(2500)),
            token_events: vec![Duration::from_micros(1500), Duration::from_micros(2500)],
            ..Account::default()
        };
        assert_eq!(told.accounts().collect::<Vec<_>>(), [want]);
    }
}
