//! The client's own side: the machine it ran on and what the run cost it.

use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use serde::Serialize;

/// The machine and the limits a run was made under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// Operating system and architecture, such as `linux-x86_64`.
    pub platform: String,
    /// Release of the kernel; `None` where it cannot be asked.
    pub kernel: Option<String>,
    /// Cores this process may use; `None` where it cannot be asked.
    pub cores: Option<usize>,
    /// Files and sockets this process may have open; `None` where it cannot be asked.
    pub open_files_limit: Option<u64>,
}

impl Environment {
    /// That of this process.
    pub fn here() -> Self {
        Self {
            platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            kernel: nix::sys::utsname::uname().ok().map(|u| u.release().to_string_lossy().into_owned()),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            open_files_limit: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
        }
    }
}

/// What the process has used of its machine so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    user: Duration,
    system: Duration,
    peak_rss_bytes: u64,
}

impl Usage {
    /// Up to now; `None` where it cannot be asked.
    pub fn now() -> Option<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
        let time = |t: nix::sys::time::TimeVal| {
            Duration::new(t.tv_sec().unsigned_abs(), t.tv_usec().unsigned_abs() as u32 * 1_000)
        };
        let kibibytes = u64::try_from(usage.max_rss()).unwrap_or_default();
        Some(Self {
            user: time(usage.user_time()),
            system: time(usage.system_time()),
            peak_rss_bytes: kibibytes * 1024,
        })
    }
}

/// What a run cost the client.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// CPU time in user space, seconds, the simulator's included where the server was simulated; `None` if unknown.
    pub cpu_user_s: Option<f64>,
    /// CPU time in the system, seconds; `None` if unknown.
    pub cpu_system_s: Option<f64>,
    /// CPU time ÷ (wall time × cores), from 0 to 1; `None` if unknown.
    pub cpu_share: Option<f64>,
    /// Largest resident memory of the process so far, bytes; `None` if unknown.
    pub peak_rss_bytes: Option<u64>,
}

impl Health {
    /// From the usage before and after a run that took `wall`.
    pub fn between(
        before: Option<Usage>,
        after: Option<Usage>,
        wall: Duration,
        cores: Option<usize>,
    ) -> Self {
        let used = before.zip(after).map(|(before, after)| {
            (after.user.saturating_sub(before.user), after.system.saturating_sub(before.system))
        });
        let available = cores.map(|n| n as f64 * wall.as_secs_f64()).filter(|s| *s > 0.0);
        Self {
            cpu_user_s: used.map(|(user, _)| user.as_secs_f64()),
            cpu_system_s: used.map(|(_, system)| system.as_secs_f64()),
            cpu_share: used.zip(available).map(|((user, system), s)| (user + system).as_secs_f64() / s),
            peak_rss_bytes: after.map(|usage| usage.peak_rss_bytes),
        }
    }
}

/// Raises the limit of open files as far as the system lets it, so that a thousand streams need no `ulimit`. Returns
/// the limit now in force; `None` where it cannot be asked.
pub fn raise_open_files_limit() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard && nix::sys::resource::setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Some(hard);
    }
    Some(soft)
}
