//! What the system says of this process and of the machine under it, at one moment.
//!
//! Files of `/proc` and of the control group are read where there are any; elsewhere their figures are unknown.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};

/// Counters of the process and the machine; two of them, before and after, tell what a run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    /// CPU time of this process: in user space and in the system.
    pub cpu: Option<(Duration, Duration)>,
    /// Largest resident memory of this process so far, bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Time that all cores together have had, and how much of it the hypervisor took; in ticks.
    pub ticks: Option<Ticks>,
    /// Time in which the control group was kept off the CPU by its quota.
    pub throttled: Option<Duration>,
    /// Memory that this process may use: the control group's limit or all there is, bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Files and sockets that this process has open, and how many it may have.
    pub open_files: Option<(u64, u64)>,
    /// Local ports that TCP takes at the moment, those that wait after closing included, and how many it may take.
    pub ports: Option<(u64, u64)>,
}

/// Sums over all cores since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// All time.
    pub all: u64,
    /// Time that the hypervisor gave to others.
    pub stolen: u64,
}

impl Machine {
    /// As it stands.
    pub fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let time = |t: nix::sys::time::TimeVal| {
            Duration::new(t.tv_sec().unsigned_abs(), t.tv_usec().unsigned_abs() as u32 * 1_000)
        };
        let group = control_group();
        Self {
            cpu: usage.map(|usage| (time(usage.user_time()), time(usage.system_time()))),
            // Linux counts in KiB
            peak_rss_bytes: usage.map(|usage| u64::try_from(usage.max_rss()).unwrap_or_default() * 1024),
            ticks: read("/proc/stat").as_deref().and_then(ticks),
            throttled: group.as_deref().and_then(|group| throttled(&read(group.join("cpu.stat"))?)),
            memory_limit_bytes: memory_limit(group.as_deref()),
            open_files: open_files(),
            ports: ports(),
        }
    }
}

/// Tasks that wanted a core, on average over the last minute; `None` where the system does not say.
pub fn load_average() -> Option<f64> {
    read("/proc/loadavg")?.split_whitespace().next()?.parse().ok()
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The folder of this process's control group (version 2).
fn control_group() -> Option<PathBuf> {
    let own = read("/proc/self/cgroup")?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    // in a container the path may be one of the host's
    [folder, PathBuf::from("/sys/fs/cgroup")].into_iter().find(|folder| folder.join("cpu.stat").is_file())
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let stolen = *fields.get(7)?;
    Some(Ticks { all: fields.iter().sum(), stolen })
}

fn throttled(stat: &str) -> Option<Duration> {
    Some(Duration::from_micros(field(stat, "throttled_usec")?))
}

/// The number after a name, as most files of `/proc` have it.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut words = text.split_whitespace().skip_while(|word| *word != name);
    words.nth(1)?.parse().ok()
}

fn memory_limit(group: Option<&Path>) -> Option<u64> {
    let all = read("/proc/meminfo").as_deref().and_then(|text| field(text, "MemTotal:"))? * 1024;
    let own = group.and_then(|group| read(group.join("memory.max"))?.trim().parse().ok());
    Some(own.map_or(all, |own: u64| own.min(all)))
}

fn open_files() -> Option<(u64, u64)> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let open = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    // one of them is the folder itself
    Some((open.saturating_sub(1), limit))
}

fn ports() -> Option<(u64, u64)> {
    let range = read("/proc/sys/net/ipv4/ip_local_port_range")?;
    let mut ends = range.split_whitespace().map_while(|end| end.parse::<u64>().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    Some((sockets(&read("/proc/net/sockstat")?)?, (last + 1).saturating_sub(first)))
}

/// The line `TCP: inuse 7 orphan 0 tw 12 …` of `/proc/net/sockstat`.
fn sockets(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    Some(field(line, "inuse")? + field(line, "tw")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_system_are_read_by_their_names() {
        let stat = "cpu  25719 0 4357 393521 409 0 61 58 0 0\ncpu0 1 0 1 1 1 0 1 1 0 0\n";
        assert_eq!(ticks(stat), Some(Ticks { all: 424_125, stolen: 58 }));
        assert_eq!(throttled("usage_usec 7\nthrottled_usec 1500\n"), Some(Duration::from_micros(1500)));
        assert_eq!(sockets("sockets: used 9\nTCP: inuse 7 orphan 0 tw 12 alloc 8 mem 1\n"), Some(19));
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        assert_eq!(ticks("cpu  1 2 3\n"), None);
        assert_eq!(ticks("intr 1\n"), None);
        assert_eq!(throttled("nr_periods 0\n"), None);
        assert_eq!(throttled("throttled_usec many\n"), None);
        assert_eq!(sockets("TCP: inuse 7\n"), None);
        assert_eq!(sockets(""), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let now = Machine::now();
        assert!(now.cpu.is_some_and(|(user, system)| user + system > Duration::ZERO));
        assert!(now.peak_rss_bytes.is_some_and(|bytes| bytes > 100_000));
    }
}
