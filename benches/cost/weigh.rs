//! What a process used of the machine, asked of the system and not of the process.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// User and system time of a process from its start to its end, and the most memory it had.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    pub cpu: Duration,
    pub peak_rss_bytes: u64,
}

impl Used {
    pub fn by_this_process() -> Self {
        Self::by(UsageWho::RUSAGE_SELF)
    }

    fn by(who: UsageWho) -> Self {
        let usage = getrusage(who).expect("the system knows its own processes");
        let time =
            |t: TimeVal| Duration::new(t.tv_sec().unsigned_abs(), t.tv_usec().unsigned_abs() as u32 * 1_000);
        Self {
            cpu: time(usage.user_time()) + time(usage.system_time()),
            peak_rss_bytes: usage.max_rss().unsigned_abs() * 1024,
        }
    }
}

/// Runs a command as the only child of this process, and prints what it used. A process of its own for each, for the
/// system tells the peak memory of all children together.
pub fn only_child(words: &[String]) -> io::Result<()> {
    let (program, words) = words.split_first().expect("a command");
    let status = Command::new(program).args(words).stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("{program} ended with {status}")));
    }
    let used = Used::by(UsageWho::RUSAGE_CHILDREN);
    println!("{} {}", used.cpu.as_micros(), used.peak_rss_bytes);
    Ok(())
}

/// What `only_child` printed.
pub fn told(printed: &str) -> Option<Used> {
    let (cpu, peak) = printed.trim().split_once(' ')?;
    let cpu = Duration::from_micros(cpu.parse().ok()?);
    Some(Used { cpu, peak_rss_bytes: peak.parse().ok()? })
}
