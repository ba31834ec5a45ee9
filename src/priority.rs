//! How soon the system runs a thread that has something to do, where it lets us say so.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Moment, RunQueue};

/// What is asked of the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// High, where the system allows it, for threads that have to wait for a core.
    #[default]
    Auto,
    /// As all others.
    Normal,
    /// High; that it is refused is to be told.
    High,
}

impl Wanted {
    /// Its name in results and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "normal" => Ok(Self::Normal),
            "high" => Ok(Self::High),
            _ => Err("unknown; write auto, normal or high".to_owned()),
        }
    }
}

/// How soon a thread is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// As all others.
    #[default]
    Normal,
    /// High from when a thread had to wait for a core: on an idle machine it gains nothing, and costs switches.
    WhenLate,
    /// Before all that run as usual: `SCHED_RR` of the lowest priority. On Linux it takes `CAP_SYS_NICE` or a limit
    /// `RLIMIT_RTPRIO` above 0.
    High,
}

/// What the threads of a run were given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// What they were to run with, as far as the system allows it.
    pub priority: Priority,
    /// Threads that ran before others in the end.
    #[serde(default)]
    pub raised_threads: u64,
    /// Why it is not high; `None` where it is, or was not to be.
    pub refused: Option<String>,
}

impl Granted {
    /// What a thread that asks for this is given: found out by asking.
    pub fn of(wanted: Wanted) -> Self {
        let is_granted = || std::thread::Builder::new().name("priority".to_owned()).spawn(raise_this_thread);
        match wanted {
            Wanted::Normal => Self::default(),
            Wanted::Auto | Wanted::High => match is_granted().map(|thread| thread.join().unwrap_or(Ok(()))) {
                Ok(Ok(())) if wanted == Wanted::High => Self { priority: Priority::High, ..Self::default() },
                Ok(Ok(())) => Self { priority: Priority::WhenLate, ..Self::default() },
                Ok(Err(why)) => Self { refused: Some(why), ..Self::default() },
                Err(error) => Self { refused: Some(error.to_string()), ..Self::default() },
            },
        }
    }
}

/// Raises the calling thread once it had to wait for a core.
#[derive(Debug)]
pub struct WhenLate {
    /// The thread's account at the last look, and when that was; `None` once there is nothing more to look for.
    looked: Option<(RunQueue, Moment)>,
}

/// A thread that waited for longer, mean over its turns, is late.
const LATE: Duration = Duration::from_micros(500);
/// How often a thread looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl WhenLate {
    /// For the calling thread, from now on.
    pub fn new(now: Moment) -> Self {
        Self { looked: RunQueue::of_this_thread().map(|queue| (queue, now)) }
    }

    /// Looks, now and then, whether the calling thread had to wait, and raises it then. True if it was raised just now.
    pub fn look(&mut self, now: Moment) -> bool {
        let Some((before, at)) = self.looked.filter(|(_, at)| now.since(*at) >= LOOK_EVERY) else {
            return false;
        };
        let Some(queue) = RunQueue::of_this_thread() else { return false };
        let waited = queue.waited.saturating_sub(before.waited);
        let turns = u32::try_from(queue.turns.saturating_sub(before.turns)).unwrap_or(u32::MAX);
        let is_late = is_late(waited, turns);
        self.looked = if is_late { None } else { Some((queue, now.max(at))) };
        is_late && raise_this_thread().is_ok()
    }
}

fn is_late(waited: Duration, turns: u32) -> bool {
    turns > 0 && waited / turns > LATE
}

/// Lets the calling thread, and those that it starts, run before all that run as usual.
///
/// # Errors
/// The system's words, where it does not allow that.
pub fn raise_this_thread() -> Result<(), String> {
    use thread_priority::{RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
    let lowest = ThreadPriority::Crossplatform(1_u8.try_into().map_err(|_| "no such priority")?);
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    let this = thread_priority::thread_native_id();
    thread_priority::set_thread_priority_and_policy(this, lowest, policy).map_err(|error| match error {
        thread_priority::Error::OS(number) => std::io::Error::from_raw_os_error(number).to_string(),
        other => format!("{other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_core_is_late() {
        let ms = Duration::from_millis;
        assert!(is_late(ms(60), 100) && is_late(ms(1), 1));
        assert!(!is_late(ms(40), 100) && !is_late(ms(0), 5) && !is_late(ms(9), 0));
    }

    #[test]
    fn a_thread_looks_only_now_and_then() {
        let at = |ms: u64| Moment::from_nanos(ms * 1_000_000);
        let mut thread = WhenLate { looked: Some((RunQueue::default(), at(1_000))) };
        assert!(!thread.look(at(1_199)));
        assert_eq!(thread.looked, Some((RunQueue::default(), at(1_000))));
        let mut raised = WhenLate { looked: None };
        assert!(!raised.look(at(9_000)));
    }
}
