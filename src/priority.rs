//! How soon the system runs a thread that has something to do, where it lets us say so.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is asked of the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// High where the system allows it.
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
    /// Before all that run as usual: `SCHED_RR` of the lowest priority. On Linux it takes `CAP_SYS_NICE` or a limit
    /// `RLIMIT_RTPRIO` above 0.
    High,
}

/// What the threads of a run were given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// What they ran with.
    pub priority: Priority,
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
                Ok(Ok(())) => Self { priority: Priority::High, refused: None },
                Ok(Err(why)) => Self { refused: Some(why), ..Self::default() },
                Err(error) => Self { refused: Some(error.to_string()), ..Self::default() },
            },
        }
    }
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
