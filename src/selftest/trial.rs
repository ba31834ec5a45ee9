//! One trial: the simulated server here, the client there, and what both say put side by side.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;

use super::client::{self, Told};
use super::disturbed::Busy;
use super::ends;
use super::{Found, Row, Trial};
use crate::accuracy::{Accuracy, lateness};
use crate::clock::Stop;
use crate::error::Error;
use crate::priority;
use crate::sim::{Behavior, Served, Simulator};
use crate::text::printable;
use crate::units::show_count;

/// Files that a process has open beside its streams, with something to spare.
const OTHER_FILES: u64 = 64;

/// Makes the runs one after another; `program` is this very command, and `open_files` the limit in force (`None` if
/// unknown). `on_trial` is told of each before it begins. Ends
/// early, with the runs made so far, when the stop comes.
///
/// # Errors
/// [`Error::File`] when no folder for the clients' reports can be made. A run that cannot be made is a row that says why.
pub fn run(
    trials: &[Trial],
    program: &Path,
    open_files: Option<u64>,
    stop: &Stop,
    on_trial: &mut dyn FnMut(&Trial),
) -> Result<Vec<Row>, Error> {
    let folder = tempfile::tempdir().map_err(|cause| Error::File {
        path: std::env::temp_dir(),
        cause,
        advice: "; set TMPDIR to a folder that can be written",
    })?;
    let mut rows = Vec::with_capacity(trials.len());
    for trial in trials {
        if stop.requested() {
            break;
        }
        on_trial(trial);
        let made = files_suffice(trial, open_files).and_then(|()| make(trial, program, folder.path(), stop));
        match made {
            Ok(Some((found, problem))) => rows.push(Row { trial: *trial, found: Some(found), problem }),
            Ok(None) => break,
            Err(problem) => rows.push(Row { trial: *trial, found: None, problem: Some(problem) }),
        }
    }
    Ok(rows)
}

fn files_suffice(trial: &Trial, limit: Option<u64>) -> Result<(), String> {
    let needed = trial.streams.get() as u64 + OTHER_FILES;
    match limit.filter(|limit| *limit < needed) {
        None => Ok(()),
        Some(limit) => Err(format!(
            "the limit on open files is {}, and it takes {}; raise it with ulimit -n",
            show_count(limit),
            show_count(needed)
        )),
    }
}

/// `None` if the stop came first.
fn make(
    trial: &Trial,
    program: &Path,
    folder: &Path,
    stop: &Stop,
) -> Result<Option<(Found, Option<String>)>, String> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let start = || Simulator::start(Behavior::exact(trial.ttft, trial.gap), any_port);
    let simulator = if trial.client.is_disturbed() { before_others(start) } else { start() };
    let simulator = simulator.map_err(|error| format!("the simulated server cannot start: {error}"))?;
    // after the server, whose threads they must not become
    let busy = Busy::start(trial.client.busy)?;
    let model = simulator.behavior().model.clone();
    let Some(told) = client::run(program, (&simulator.url(), &model), trial, folder, stop)? else {
        return Ok(None);
    };
    drop(busy);
    Ok(Some((found(trial, &told, &simulator.served()), problem(trial, &told))))
}

/// What is started so runs before all that run as usual, where the system allows it: it must not be late itself.
fn before_others<T: Send>(start: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let start = || {
        if let Err(why) = priority::raise_this_thread() {
            log::warn!("the simulated server has no priority over what keeps the client busy: {why}");
        }
        start()
    };
    thread::scope(|scope| scope.spawn(start).join().unwrap_or_else(|_| Err(io::Error::other("it panicked"))))
}

fn found(trial: &Trial, told: &Told, served: &[Served]) -> Found {
    let accounts: Vec<_> = told.accounts().collect();
    let ends = ends::of(&accounts, &told.summary, served);
    let accuracy = Accuracy::of(accounts, served);
    let tokens = told.tokens();
    let cpu = told.cpu().filter(|_| tokens > 0);
    let goal = trial.goal_ms();
    Found {
        output_tokens: tokens,
        cpu_us_per_token: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / tokens as f64),
        peak_rss_bytes: told.health.peak_rss_bytes,
        ends,
        server_late: lateness(served, trial.pace()),
        client_verdict: told.health.verdict.clone(),
        ttft_goal_ms: goal,
        ttft_goal_met: goal.zip(accuracy.ttft).map(|(goal, error)| error.p99 <= goal),
        accuracy,
    }
}

/// What was not as planned, if anything.
fn problem(trial: &Trial, told: &Told) -> Option<String> {
    let failed: u64 = told.summary.errors.iter().map(|line| line.count).sum();
    let worst = told.summary.errors.first()?;
    Some(format!(
        "{} of {} requests failed; most were {}, {}: {}",
        show_count(failed),
        show_count(trial.requests.get()),
        worst.kind,
        worst.meaning,
        printable(&worst.example, 200)
    ))
}

/// This very command.
///
/// # Errors
/// [`Error::File`] when the system does not say where it is.
pub fn this_program() -> Result<PathBuf, Error> {
    std::env::current_exe().map_err(|cause| Error::File {
        path: PathBuf::from("vllm-loadgen"),
        cause,
        advice: "; the self-test starts this command anew and must find it",
    })
}
