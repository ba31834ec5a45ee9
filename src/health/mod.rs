//! The client's verdict on itself: did the machine that measured bend the figures, which of them, and by how much.
//!
//! Evidence in ([`Machine`] before and after, what the threads waited for a core, the run's own summary), a [`Health`]
//! out. Sees neither threads nor formats.

mod environment;
mod limits;
mod machine;
mod uncertain;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use environment::{Environment, raise_open_files_limit};
pub use limits::{Check, Limit, Limits, TypedLimit, Unit};
pub use machine::{Machine, Ticks, load_average};
pub use uncertain::{Uncertain, most_uncertain, uncertain};

use crate::clock::RunQueue;
use crate::failure::FailureKind;
use crate::keeper;
use crate::priority;
use crate::summary::{Distribution, Summary};
use crate::units::ratio;

/// Whether a run's figures can be believed, as far as this client is concerned. In order from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// The client was no part of the figures.
    Valid,
    /// Some figures are less certain; the reasons say which.
    Degraded,
    /// The figures are those of the client, or of another load than was asked for.
    Invalid,
}

impl Verdict {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::Degraded => "DEGRADED",
            Self::Invalid => "INVALID",
        }
    }

    /// What it says of the figures; reasons may follow.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Valid => "no limit of this client was reached",
            Self::Degraded => "some figures are less certain",
            Self::Invalid => "the figures are not those of the server alone",
        }
    }
}

/// What a run cost the client, and what that says of its figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The worst of all checks.
    pub verdict: Verdict,
    /// Why it is not VALID: what is above its limit, and which figures are affected; worst first.
    pub reasons: Vec<String>,
    /// CPU time in user space, seconds, the simulator's included where the server was simulated; `None` if unknown.
    pub cpu_user_s: Option<f64>,
    /// CPU time in the system, seconds; `None` if unknown.
    pub cpu_system_s: Option<f64>,
    /// CPU time ÷ (wall time × cores), from 0 to 1; `None` if unknown.
    pub cpu_share: Option<f64>,
    /// Largest resident memory of the process so far, bytes; `None` if unknown.
    pub peak_rss_bytes: Option<u64>,
    /// Everything that was looked at, with its limits; worst first.
    pub checks: Vec<Checked>,
    /// Whether each segment was seen as it came in; `None` in results of versions that did not tell it.
    #[serde(default)]
    pub keeper: Option<keeper::Account>,
    /// How soon the client's threads were run; likewise.
    #[serde(default)]
    pub client_priority: Option<priority::Granted>,
    /// When the whole client stood still: stopped, paused or starved.
    #[serde(default)]
    pub standstills: Vec<StoodStill>,
}

/// A time in which the whole client stood still.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoodStill {
    /// When it began, seconds after the run's first request, less where it came before.
    pub start_s: f64,
    /// How long it lasted at most, seconds.
    pub seconds: f64,
}

/// One check of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// What was looked at.
    pub check: Check,
    /// Unit of the value and the limits.
    pub unit: Unit,
    /// What was found; `None` where it cannot be known here, or does not apply.
    pub value: Option<f64>,
    /// Above it the run is at least DEGRADED.
    pub degraded_above: f64,
    /// Above it the run is INVALID.
    pub invalid_above: f64,
    /// What follows; an unknown value is VALID.
    pub verdict: Verdict,
}

/// What a run is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The machine before the first request.
    pub before: Machine,
    /// And after the last.
    pub after: Machine,
    /// Time between the two.
    pub wall: Duration,
    /// Cores that this process may use; `None` if unknown.
    pub cores: Option<usize>,
    /// Threads that hold a connection each.
    pub threads: usize,
    /// Whether requests arrived at a rate. Where all are due at once, waiting is the point.
    pub has_rate: bool,
    /// What the workers waited for a core; `None` if unknown.
    pub run_queue: Option<RunQueue>,
    /// Most records that waited for the sinks, and how many may; `None` if unknown.
    pub backlog: Option<(u64, u64)>,
    /// How long the whole client stood still during the run: stopped, paused or starved; `None` if unknown.
    pub stood_still: Option<Duration>,
    /// What came of the run.
    pub summary: &'a Summary,
}

impl Health {
    /// What a check found, in its unit; `None` where it cannot be known here, or does not apply.
    pub fn value(&self, check: Check) -> Option<f64> {
        self.checks.iter().find(|checked| checked.check == check)?.value
    }

    /// Judges a run.
    pub fn judge(evidence: &Evidence<'_>, limits: &Limits) -> Self {
        let mut checks: Vec<Checked> =
            Check::all().map(|check| checked(check, evidence.value(check), limits.of(check))).collect();
        checks.sort_by_key(|checked| std::cmp::Reverse(checked.verdict));
        let verdict = checks.first().map_or(Verdict::Valid, |worst| worst.verdict);
        let bad = checks.iter().filter(|checked| checked.verdict != Verdict::Valid);
        let mut is_advised = false;
        let reasons = bad.map(|checked| checked.reason(evidence, &mut is_advised)).collect();
        let cpu = evidence.cpu();
        Self {
            verdict,
            reasons,
            cpu_user_s: cpu.map(|(user, _)| user.as_secs_f64()),
            cpu_system_s: cpu.map(|(_, system)| system.as_secs_f64()),
            cpu_share: evidence.cpu_share(),
            peak_rss_bytes: evidence.after.peak_rss_bytes,
            checks,
            keeper: None,
            client_priority: None,
            standstills: vec![],
        }
    }
}

fn checked(check: Check, value: Option<f64>, limit: Limit) -> Checked {
    let verdict = match value {
        Some(value) if value > limit.invalid => Verdict::Invalid,
        Some(value) if value > limit.degraded => Verdict::Degraded,
        _ => Verdict::Valid,
    };
    let Limit { degraded, invalid } = limit;
    Checked { check, unit: check.unit(), value, degraded_above: degraded, invalid_above: invalid, verdict }
}

impl Checked {
    /// Of several times that are not known, the first comes with the advice, which is the same for all.
    fn reason(&self, evidence: &Evidence<'_>, is_advised: &mut bool) -> String {
        let limit = if self.verdict == Verdict::Invalid { self.invalid_above } else { self.degraded_above };
        let (value, limit) = (self.unit.show(self.value.unwrap_or_default()), self.unit.show(limit));
        let (subject, affected) = (self.check.subject(), self.check.affected());
        if let Some(most) = evidence.most_uncertain(self.check) {
            let said = format!("{subject} {} ({value}, above {limit})", most.words());
            return match std::mem::replace(is_advised, true) {
                true => format!("{said}: this client read late"),
                false => format!("{said}: {affected}"),
            };
        }
        format!("{subject}: {value}, above {limit}: {affected}")
    }
}

impl Evidence<'_> {
    fn value(&self, check: Check) -> Option<f64> {
        let requests = &self.summary.requests;
        let latency = &self.summary.latency;
        let of_sent = |count: u64| ratio(count, requests.sent);
        match check {
            Check::NoWorkerFree => {
                // those that a stop found waiting had no thread either
                let waited = requests.no_worker_free + requests.not_sent;
                ratio(waited, requests.sent + requests.not_sent).filter(|_| self.has_rate)
            }
            Check::LagP99 => latency.lag.as_ref().filter(|_| self.has_rate).map(|lag| lag.percentiles.p99),
            Check::TtftUncertain | Check::TpotUncertain | Check::ItlUncertain | Check::E2eUncertain => {
                let is_known = self.ends_of(check)?.0.is_some();
                is_known.then(|| self.most_uncertain(check).map_or(0.0, |most| most.share()))
            }
            Check::StoodStill => self.of_wall(self.stood_still?),
            Check::ReadDelayP99 => latency.read_delay.as_ref().map(|delay| delay.percentiles.p99),
            Check::RunQueueWait => Some(self.run_queue?.mean_wait()?.as_secs_f64() * 1e3),
            Check::CpuShare => self.cpu_share(),
            Check::Steal => {
                let (before, after) = self.before.ticks.zip(self.after.ticks)?;
                ratio(after.stolen.saturating_sub(before.stolen), after.all.saturating_sub(before.all))
            }
            Check::Throttled => {
                let (before, after) = self.before.throttled.zip(self.after.throttled)?;
                self.of_wall(after.saturating_sub(before))
            }
            Check::Backlog => {
                let (waited, allowed) = self.backlog?;
                ratio(waited, allowed)
            }
            Check::OpenFiles => {
                let (open, allowed) = self.before.open_files?;
                ratio(open + self.threads as u64, allowed)
            }
            Check::Ports => {
                let (taken, allowed) = self.after.ports?;
                ratio(taken, allowed)
            }
            Check::Memory => ratio(self.after.peak_rss_bytes?, self.after.memory_limit_bytes?),
            Check::LocalFailures => {
                let own = FailureKind::LocalResource.name();
                let lines = self.summary.errors.iter().filter(|line| line.kind == own);
                of_sent(lines.map(|line| line.count).sum())
            }
        }
    }

    /// Upper and lower ends of the time that the check is on; `None` where it is on something else.
    fn ends_of(&self, check: Check) -> Option<(&Option<Distribution>, &Option<Distribution>)> {
        let latency = &self.summary.latency;
        match check {
            Check::TtftUncertain => Some((&latency.ttft, &latency.ttft_low)),
            Check::TpotUncertain => Some((&latency.tpot, &latency.tpot_low)),
            Check::ItlUncertain => Some((&latency.itl, &latency.itl_low)),
            Check::E2eUncertain => Some((&latency.e2e, &latency.e2e_low)),
            _ => None,
        }
    }

    fn most_uncertain(&self, check: Check) -> Option<Uncertain> {
        let (high, low) = self.ends_of(check)?;
        most_uncertain(high.as_ref()?, low.as_ref())
    }

    /// CPU time of this process in the run: in user space and in the system.
    fn cpu(&self) -> Option<(Duration, Duration)> {
        let ((user, system), (user_after, system_after)) = self.before.cpu.zip(self.after.cpu)?;
        Some((user_after.saturating_sub(user), system_after.saturating_sub(system)))
    }

    fn cpu_share(&self) -> Option<f64> {
        let (user, system) = self.cpu()?;
        Some(self.of_wall(user + system)? / self.cores.filter(|cores| *cores > 0)? as f64)
    }

    fn of_wall(&self, part: Duration) -> Option<f64> {
        let wall = self.wall.as_secs_f64();
        (wall > 0.0).then(|| part.as_secs_f64() / wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{Latency, Requests, Samples, Tally};

    /// An idle machine of two cores and a run of 10 s with 100 requests.
    fn judge(change: impl FnOnce(&mut Evidence<'_>, &mut Summary)) -> Health {
        let mut summary = Tally::default().into_summary();
        summary.requests = Requests { sent: 100, succeeded: 100, ..Requests::default() };
        let empty = Tally::default().into_summary();
        let machine = Machine {
            cpu: Some((Duration::ZERO, Duration::ZERO)),
            ticks: Some(Ticks::default()),
            throttled: Some(Duration::ZERO),
            memory_limit_bytes: Some(1_000),
            peak_rss_bytes: Some(10),
            open_files: Some((10, 1_000)),
            ports: Some((10, 1_000)),
        };
        let mut evidence = Evidence {
            before: machine,
            after: Machine { ticks: Some(Ticks { all: 1_000, stolen: 0 }), ..machine },
            wall: Duration::from_secs(10),
            cores: Some(2),
            threads: 20,
            has_rate: true,
            run_queue: None,
            backlog: None,
            stood_still: None,
            summary: &empty,
        };
        change(&mut evidence, &mut summary);
        Health::judge(&Evidence { summary: &summary, ..evidence }, &Limits::default())
    }

    fn ms(value: u64) -> Option<crate::summary::Distribution> {
        let mut samples = Samples::new(1);
        samples.add(value);
        samples.into_distribution(1.0)
    }

    fn check(change: impl FnOnce(&mut Evidence<'_>, &mut Summary), want: Verdict, words: &str) {
        let health = judge(change);
        assert_eq!(health.verdict, want, "{words}: {:?}", health.reasons);
        assert!(health.reasons[0].contains(words), "{words}: {:?}", health.reasons);
    }

    #[test]
    fn an_idle_machine_is_valid_and_gives_no_reasons() {
        let health = judge(|_, _| {});
        assert_eq!((health.verdict, health.reasons.len()), (Verdict::Valid, 0));
        assert_eq!(health.checks.len(), Check::all().count());
        assert_eq!(health.cpu_share, Some(0.0));
    }

    #[test]
    fn every_check_can_degrade_and_invalidate() {
        use Verdict::{Degraded, Invalid};
        check(|_, s| s.requests.no_worker_free = 1, Degraded, "no thread was free: 1.00%");
        check(|_, s| s.requests.no_worker_free = 2, Invalid, "no thread was free: 2.00%");
        check(|_, s| s.latency.lag = ms(11), Degraded, "lag between due and start: 11.0 ms, above 10.0 ms");
        check(|_, s| s.latency.lag = ms(101), Invalid, "lag between due and start");
        check(|_, s| s.latency.read_delay = ms(11), Degraded, "kernel's receipt and the read: 11.0 ms");
        check(|_, s| s.latency.read_delay = ms(101), Invalid, "kernel's receipt");
        check(
            |e, _| e.stood_still = Some(Duration::from_millis(150)),
            Degraded,
            "stopped, paused or starved: 1.50%",
        );
        check(|e, _| e.stood_still = Some(Duration::from_secs(7)), Invalid, "this client stood still");
        let waited = |ms| Some(RunQueue { waited: Duration::from_millis(ms), turns: 10 });
        check(|e, _| e.run_queue = waited(60), Degraded, "wait of a thread for a core: 6.00 ms");
        check(|e, _| e.run_queue = waited(600), Invalid, "wait of a thread for a core");
        let used = |s| Some((Duration::from_secs(s), Duration::from_secs(1)));
        check(|e, _| e.after.cpu = used(16), Degraded, "use of all cores by this process: 85.0%");
        check(|e, _| e.after.cpu = used(19), Invalid, "use of all cores");
        let ticks = |stolen| Some(Ticks { all: 1_000, stolen });
        check(|e, _| e.after.ticks = ticks(30), Degraded, "hypervisor gave to others: 3.00%");
        check(|e, _| e.after.ticks = ticks(300), Invalid, "hypervisor");
        let off = |ms| Some(Duration::from_millis(ms));
        check(|e, _| e.after.throttled = off(100), Degraded, "by its quota: 1.00%");
        check(|e, _| e.after.throttled = off(1_000), Invalid, "by its quota: 10.0%");
        check(|e, _| e.backlog = Some((51, 100)), Degraded, "waited to be counted and written");
        check(|e, _| e.backlog = Some((100, 100)), Invalid, "waited to be counted and written");
        check(|e, _| e.before.open_files = Some((885, 1_000)), Degraded, "open files and sockets");
        check(|e, _| e.before.open_files = Some((985, 1_000)), Invalid, "open files and sockets");
        check(|e, _| e.after.ports = Some((900, 1_000)), Degraded, "local ports");
        check(|e, _| e.after.ports = Some((1_001, 1_000)), Invalid, "local ports");
        check(|e, _| e.after.peak_rss_bytes = Some(900), Degraded, "memory, of that allowed: 90.0%");
        check(|e, _| e.after.peak_rss_bytes = Some(990), Invalid, "memory, of that allowed");
    }

    #[test]
    fn times_between_two_ends_degrade_and_invalidate() {
        use Verdict::{Degraded, Invalid};
        let late = |change: fn(&mut Latency, [Option<Distribution>; 2])| {
            move |low, high| {
                move |_: &mut Evidence<'_>, s: &mut Summary| change(&mut s.latency, [ms(low), ms(high)])
            }
        };
        let ttft = late(|l, [low, high]| (l.ttft_low, l.ttft) = (low, high));
        let said = "TTFT p50 is known only to lie between 50.0 and 52.0 ms (3.85%, above 2.00%): this client read late";
        check(ttft(50, 52), Degraded, said);
        check(
            ttft(50, 290),
            Invalid,
            "TTFT p50 is known only to lie between 50.0 and 290 ms (82.8%, above 20.0%)",
        );
        check(
            late(|l, [low, high]| (l.tpot_low, l.tpot) = (low, high))(10, 12),
            Degraded,
            "TPOT p50 is known only",
        );
        check(
            late(|l, [low, high]| (l.itl_low, l.itl) = (low, high))(0, 60),
            Invalid,
            "ITL p50 is known only",
        );
        check(
            late(|l, [low, high]| (l.e2e_low, l.e2e) = (low, high))(900, 1_000),
            Degraded,
            "E2E p50 is known only",
        );
        // what to do is told once
        let both = judge(|_, s| {
            (s.latency.ttft_low, s.latency.ttft) = (ms(50), ms(290));
            (s.latency.itl_low, s.latency.itl) = (ms(50), ms(52));
        });
        assert!(both.reasons[0].contains("above 20.0%): this client read late"), "{:?}", both.reasons);
        assert!(both.reasons[1].ends_with("above 2.00%): this client read late"), "{:?}", both.reasons);
        // a millisecond is no matter, and neither are two percent
        assert_eq!(judge(ttft(9, 10)).verdict, Verdict::Valid);
        assert_eq!(judge(ttft(980, 1_000)).verdict, Verdict::Valid);
        let value = |health: &Health| {
            health.checks.iter().find(|c| c.check == Check::TtftUncertain).and_then(|c| c.value)
        };
        assert_eq!(value(&judge(|_, s| s.latency.ttft = ms(50))), Some(0.0));
        assert_eq!(value(&judge(|_, _| {})), None);
    }

    #[test]
    fn the_clients_own_failures_invalidate() {
        let own = |_: &mut Evidence<'_>, summary: &mut Summary| {
            let kind = FailureKind::LocalResource;
            summary.errors = vec![crate::summary::ErrorLine {
                kind: kind.name(),
                group: kind.group(),
                meaning: kind.meaning().into(),
                count: 1,
                example: String::new(),
                first_request: 0,
                first_s: 0.0,
                last_s: 0.0,
                retry_after_s: None,
            }];
        };
        check(own, Verdict::Invalid, "want of descriptors, ports or memory here: 1.00%");
    }

    #[test]
    fn lateness_is_no_matter_where_nothing_was_due() {
        let health = judge(|e, s| {
            e.has_rate = false;
            s.latency.lag = ms(101);
            s.requests.no_worker_free = 100;
        });
        assert_eq!(health.verdict, Verdict::Valid);
    }

    #[test]
    fn the_worst_reason_comes_first() {
        let health = judge(|e, s| {
            s.latency.lag = ms(11);
            e.after.peak_rss_bytes = Some(990);
        });
        assert_eq!((health.verdict, health.reasons.len()), (Verdict::Invalid, 2));
        assert!(health.reasons[0].starts_with("memory"), "{:?}", health.reasons);
        assert_eq!(health.checks[0].check, Check::Memory);
    }

    #[test]
    fn what_is_unknown_is_not_held_against_anybody() {
        let health = judge(|e, _| {
            e.before = Machine::default();
            e.after = Machine::default();
            e.cores = None;
        });
        assert_eq!(health.verdict, Verdict::Valid);
        assert_eq!((health.cpu_share, health.peak_rss_bytes), (None, None));
    }
}
