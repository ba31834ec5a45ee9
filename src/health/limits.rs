//! What the client may cost the figures before its report says so.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{parse_duration, parse_share, show_duration, show_share};

/// One thing that is looked at to judge the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Share of the requests of an open loop that were due when no worker was free.
    NoWorkerFree,
    /// How late requests of an open loop were started after they were due, 99th percentile.
    LagP99,
    /// How far apart the two ends of TTFT are, between which it lies where this client read late, by its percentiles.
    TtftUncertain,
    /// The same of TPOT.
    TpotUncertain,
    /// The same of ITL.
    ItlUncertain,
    /// The same of E2E latency.
    E2eUncertain,
    /// Share of the wall time in which the whole client stood still.
    StoodStill,
    /// How long reads returned after the kernel had their bytes, 99th percentile.
    ReadDelayP99,
    /// How long a worker that could run waited for a core, mean over its turns.
    RunQueueWait,
    /// CPU time of this process ÷ (wall time × cores).
    CpuShare,
    /// Share of the machine's CPU time that the hypervisor gave to others.
    Steal,
    /// Share of the wall time in which the control group was kept off the CPU by its quota.
    Throttled,
    /// Most records that waited for the sinks ÷ those that may.
    Backlog,
    /// Files and sockets needed ÷ allowed.
    OpenFiles,
    /// Local ports taken at the end ÷ allowed.
    Ports,
    /// Largest resident memory ÷ allowed.
    Memory,
    /// Share of the requests that failed because this machine ran out of something.
    LocalFailures,
}

/// The quantity a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Milliseconds.
    Ms,
    /// A share, from 0 to 1.
    Share,
}

impl Unit {
    /// A value as people read it.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Ms => show_duration(Duration::try_from_secs_f64(value / 1e3).unwrap_or(Duration::MAX)),
            Self::Share => show_share(value),
        }
    }

    fn parse(self, text: &str) -> Result<f64, String> {
        match self {
            Self::Ms => Ok(parse_duration(text)?.as_secs_f64() * 1e3),
            Self::Share => parse_share(text),
        }
    }
}

/// What is known of a check beforehand.
struct Known {
    check: Check,
    name: &'static str,
    unit: Unit,
    default: Limit,
    subject: &'static str,
    affected: &'static str,
}

const fn known(
    check: Check,
    name: &'static str,
    unit: Unit,
    (degraded, invalid): (f64, f64),
    subject: &'static str,
    affected: &'static str,
) -> Known {
    Known { check, name, unit, default: Limit { degraded, invalid }, subject, affected }
}

/// A check on a time of which a percentile may be known only to lie between two ends.
const fn uncertain(check: Check, name: &'static str, time: &'static str) -> Known {
    known(
        check,
        name,
        Unit::Share,
        (0.02, 0.2),
        time,
        "this client read late, and no keeper saw the segments apart (--keeper on needs CAP_NET_RAW); give it free cores, \
         fewer threads or --client-priority high",
    )
}

const KNOWN: [Known; 17] = [
    known(
        Check::NoWorkerFree,
        "no_worker_free",
        Unit::Share,
        (0.0, 0.01),
        "requests that were due when no thread was free",
        "the server got less than the rate asked for; raise --threads, or lower the rate",
    ),
    known(
        Check::LagP99,
        "lag_p99",
        Unit::Ms,
        (10.0, 100.0),
        "p99 of the lag between due and start",
        "requests did not arrive as planned; response times have the lag in them, service times do not",
    ),
    uncertain(Check::TtftUncertain, "ttft_uncertain", "TTFT"),
    uncertain(Check::TpotUncertain, "tpot_uncertain", "TPOT"),
    uncertain(Check::ItlUncertain, "itl_uncertain", "ITL"),
    uncertain(Check::E2eUncertain, "e2e_uncertain", "E2E"),
    known(
        Check::StoodStill,
        "stood_still",
        Unit::Share,
        (0.01, 0.1),
        "time in which this client stood still, stopped, paused or starved",
        "requests left later, so throughput may be this client's limit, and what came in meanwhile is known only between two \
         moments unless the keeper saw it; run it where nothing stops it, with cores of its own",
    ),
    known(
        Check::ReadDelayP99,
        "read_delay_p99",
        Unit::Ms,
        (10.0, 100.0),
        "p99 of the delay between the kernel's receipt and the read",
        "the next requests left later, so throughput may be this client's limit, not the server's",
    ),
    known(
        Check::RunQueueWait,
        "run_queue_wait",
        Unit::Ms,
        (5.0, 50.0),
        "mean wait of a thread for a core",
        "requests left later, so throughput may be this client's limit, and so is every time that the kernel did not stamp; run \
         it on an idle machine or with fewer threads",
    ),
    known(
        Check::CpuShare,
        "cpu_share",
        Unit::Share,
        (0.8, 0.95),
        "use of all cores by this process",
        "throughput may be this client's limit, not the server's; use more cores or several clients",
    ),
    known(
        Check::Steal,
        "steal",
        Unit::Share,
        (0.02, 0.2),
        "CPU time that the hypervisor gave to others",
        "all times have pauses of this machine in them",
    ),
    known(
        Check::Throttled,
        "throttled",
        Unit::Share,
        (0.001, 0.05),
        "time this container was kept off the CPU by its quota",
        "all times have pauses of this client in them; raise the container's CPU limit",
    ),
    known(
        Check::Backlog,
        "backlog",
        Unit::Share,
        (0.5, 0.99),
        "records that waited to be counted and written, of those that may",
        "requests left later where there was no more room, so throughput may be this client's limit; write record logs to a \
         faster disk, or none",
    ),
    known(
        Check::OpenFiles,
        "open_files",
        Unit::Share,
        (0.9, 1.0),
        "open files and sockets, of those allowed",
        "more connections would fail on this machine; raise ulimit -n",
    ),
    known(
        Check::Ports,
        "ports",
        Unit::Share,
        (0.8, 1.0),
        "local ports, of those allowed",
        "more connections would fail on this machine; keep connections, or widen net.ipv4.ip_local_port_range",
    ),
    known(
        Check::Memory,
        "memory",
        Unit::Share,
        (0.8, 0.95),
        "memory, of that allowed",
        "this client may be swapped out or killed; use fewer threads",
    ),
    known(
        Check::LocalFailures,
        "local_failures",
        Unit::Share,
        (0.0, 0.0),
        "requests that failed for want of descriptors, ports or memory here",
        "the server never saw them; see the errors for what ran out",
    ),
];

impl Check {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        KNOWN.iter().map(|known| known.check)
    }

    fn known(self) -> &'static Known {
        KNOWN.iter().find(|known| known.check == self).unwrap_or(&KNOWN[0])
    }

    /// Its name in results and in `--health-limit`.
    pub fn name(self) -> &'static str {
        self.known().name
    }

    /// The unit of its value and limits.
    pub fn unit(self) -> Unit {
        self.known().unit
    }

    /// What is measured, in words.
    pub(super) fn subject(self) -> &'static str {
        self.known().subject
    }

    /// Which figures a bad value affects, and what to do.
    pub(super) fn affected(self) -> &'static str {
        self.known().affected
    }
}

/// Above which values a run is DEGRADED or INVALID.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Above it the run is at least DEGRADED.
    pub degraded: f64,
    /// Above it the run is INVALID.
    pub invalid: f64,
}

/// The limits of all checks: the documented ones, less what the user set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    set: Vec<TypedLimit>,
}

impl Limits {
    /// With a limit set; of several for one check the last counts.
    pub fn set(&mut self, typed: TypedLimit) {
        self.set.push(typed);
    }

    /// The limit of a check.
    pub fn of(&self, check: Check) -> Limit {
        let set = self.set.iter().rev().find(|typed| typed.check == check);
        set.map_or(check.known().default, |typed| typed.limit)
    }

    /// Adds the limits of `base` for whatever is not set here.
    pub fn over(self, base: Self) -> Self {
        Self { set: base.set.into_iter().chain(self.set).collect() }
    }
}

/// As `{"lag_p99": [10.0, 100.0], …}`, in the unit of each check.
impl Serialize for Limits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Check::all().map(|check| {
            let Limit { degraded, invalid } = self.of(check);
            (check.name(), [degraded, invalid])
        }))
    }
}

/// What other versions looked at is left out.
impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = BTreeMap::<String, [f64; 2]>::deserialize(deserializer)?;
        let set = Check::all().filter_map(|check| {
            let [degraded, invalid] = *read.get(check.name())?;
            Some(TypedLimit { check, limit: Limit { degraded, invalid } })
        });
        Ok(Self { set: set.collect() })
    }
}

/// A limit as typed: `lag_p99=5ms,50ms`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TypedLimit {
    /// What it is for.
    pub check: Check,
    /// Its two values.
    pub limit: Limit,
}

impl FromStr for TypedLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, values) = text.split_once('=').ok_or(FORM)?;
        let name = name.trim().replace('-', "_");
        let check = Check::all().find(|check| check.name() == name).ok_or_else(|| {
            let names = Check::all().map(Check::name).collect::<Vec<_>>().join(", ");
            format!("unknown; the limits are {names}")
        })?;
        let (degraded, invalid) = values.split_once([',', ':']).ok_or(FORM)?;
        let parse = |part: &str| check.unit().parse(part.trim());
        let limit = Limit { degraded: parse(degraded)?, invalid: parse(invalid)? };
        if limit.degraded > limit.invalid {
            return Err(
                "the first value is for DEGRADED and must not be above the second, for INVALID".to_owned()
            );
        }
        Ok(Self { check, limit })
    }
}

const FORM: &str = "write NAME=DEGRADED,INVALID, such as lag_p99=5ms,50ms or cpu_share=70%,90%";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_known_once_by_its_own_name() {
        for check in Check::all() {
            assert_eq!(check.known().check, check);
            let json = serde_json::to_value(check).expect("plain data");
            assert_eq!(json, check.name());
            let Limit { degraded, invalid } = Limits::default().of(check);
            assert!(degraded <= invalid, "{check:?}");
        }
    }

    #[test]
    fn limits_are_typed_in_the_unit_of_their_check() {
        let typed = |text: &str| text.parse::<TypedLimit>();
        let lag = typed("lag_p99=5ms,0.05s").expect("well typed");
        assert_eq!((lag.check, lag.limit), (Check::LagP99, Limit { degraded: 5.0, invalid: 50.0 }));
        let cpu = typed("cpu-share = 70% : 90%").expect("well typed");
        assert_eq!((cpu.check, cpu.limit), (Check::CpuShare, Limit { degraded: 0.7, invalid: 0.9 }));
        for (text, want) in [
            ("lag_p99", "NAME=DEGRADED,INVALID"),
            ("lag_p99=5ms", "NAME=DEGRADED,INVALID"),
            ("lag=5ms,50ms", "unknown; the limits are no_worker_free, lag_p99"),
            ("lag_p99=50ms,5ms", "must not be above"),
            ("lag_p99=5,50parsecs", "not a duration"),
        ] {
            let said = typed(text).expect_err(text);
            assert!(said.contains(want), "{text}: {said}");
        }
    }

    #[test]
    fn the_last_limit_set_counts() {
        let mut file = Limits::default();
        file.set("steal=10%,20%".parse().expect("well typed"));
        let mut flags = Limits::default();
        flags.set("steal=30%,40%".parse().expect("well typed"));
        assert_eq!(flags.over(file).of(Check::Steal).degraded, 0.3);
    }
}
