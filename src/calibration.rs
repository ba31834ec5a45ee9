//! The client's own share in a run's times: one request shows the server's pace, and the same plan is then played
//! against a simulated server of that pace, which logs what it really did.
//!
//! Makes runs like any other; knows neither flags nor files.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use crate::accuracy::{Account, Accuracy, Calibration, Probe, Replay, lateness};
use crate::arrivals::{Arrivals, Shape};
use crate::backend::{Endpoint, Network, Settings};
use crate::benchmark::{self, Run};
use crate::clock::Stop;
use crate::error::Error;
use crate::health::Check;
use crate::plan::{Extent, Load, Plan};
use crate::record::{Record, Sink};
use crate::sim::{Behavior, Simulator};
use crate::text::printable;
use crate::units::Rate;
use crate::wire::Ask;

/// No request of the replay starts later than this after the first.
const STARTS: Duration = Duration::from_secs(6);
/// Most token events in the replay, so that what is kept of it has a bound.
const MOST_EVENTS: u64 = 400_000;
/// Fewest arrivals a second in the replay, so that there is something to compare.
const LOWEST_RATE: f64 = 5.0;
/// How often the server is asked for a reply that shows its pace.
const TRIES: u32 = 3;

/// Asks the plan's server for one reply, then replays the plan at its pace, for ten seconds at most. `None` when the
/// stop came in between.
///
/// # Errors
/// [`Error::Server`] when the server gives no reply that succeeds, or the simulated one cannot start; those of a run.
pub fn calibrate(plan: &Plan, stop: &Stop) -> Result<Option<Calibration>, Error> {
    let Some(probe) = probe(plan, stop)? else { return Ok(None) };
    let mut replay = Replay::of(&probe);
    let behavior = Behavior { model: plan.request.model.clone(), ..Behavior::exact(replay.ttft, replay.gap) };
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let simulator = Simulator::start(behavior, any_port).map_err(|error| {
        Error::Server(format!("the simulated server of --calibrate cannot start: {error}"))
    })?;
    let plan = replayed(plan, &probe, &replay, &simulator.url())?;
    let mut accounts = Accounts { plan: &plan, kept: Vec::new() };
    let report = benchmark::run(&plan, aside(&mut accounts, stop))?;
    if stop.requested() {
        return Ok(None);
    }
    replay.load = plan.load.to_string();
    replay.failed = report.summary.requests.failed;
    replay.run_queue_wait_ms = report.health.value(Check::RunQueueWait);
    let served = simulator.served();
    let server_late = lateness(&served, replay.pace());
    Ok(Some(Calibration { probe, replay, accuracy: Accuracy::of(accounts.kept, &served), server_late }))
}

/// What one reply of the server is like; it takes a few tries where replies fail. `None` when the stop came.
fn probe(plan: &Plan, stop: &Stop) -> Result<Option<Probe>, Error> {
    let load = Load {
        threads: NonZeroUsize::MIN,
        arrivals: None,
        completions: Some(NonZeroU64::MIN),
        duration: None,
        warmup: Extent::NONE,
        cooldown: Extent::NONE,
        ..plan.load.clone()
    };
    let mut said = String::from("it did not answer");
    for number in 1..=TRIES {
        let run_id = format!("{}-probe{number}", plan.run_id);
        let mut last = Last(None);
        // a reply that was cut has a pace too
        let one = Plan { run_id, load: load.clone(), fail_on_length: false, ..plan.clone() };
        benchmark::run(&one, aside(&mut last, stop))?;
        if stop.requested() {
            return Ok(None);
        }
        let Last(Some(record)) = last else { continue };
        if let Some(probe) = Probe::of(&record) {
            return Ok(Some(probe));
        }
        said = record.failure().map_or(said, ToString::to_string);
    }
    let (url, said) = (plan.server.endpoint.shown(), printable(&said, 300));
    Err(Error::Server(format!(
        "{url}: no reply that succeeds in {TRIES} tries, so that --calibrate does not know its pace: {said}; leave \
         --calibrate out to make the run nevertheless"
    )))
}

/// A run that leaves no trace but in this sink.
fn aside<'a, 'b>(sink: &'b mut dyn Sink, stop: &'a Stop) -> Run<'a, 'b> {
    Run { sinks: vec![sink], record_log: None, server_metrics: false, calibration: None, stop }
}

/// The same plan for the simulated server: as much at once, in less time.
fn replayed(plan: &Plan, probe: &Probe, replay: &Replay, url: &str) -> Result<Plan, Error> {
    let endpoint = Endpoint::parse(url, Some(plan.server.endpoint.dialect)).map_err(Error::Server)?;
    // the key, the user's headers and the way there are for the server
    let server = Settings {
        endpoint,
        key: None,
        headers: Vec::new(),
        network: Network::default(),
        ..plan.server.clone()
    };
    let request = Ask {
        max_tokens: u32::try_from(replay.tokens).ok(),
        ignore_eos: true,
        extra: serde_json::Map::new(),
        ..plan.request.clone()
    };
    let threads = plan.load.threads;
    let bearable = (MOST_EVENTS / replay.tokens.max(1)).max(threads.get() as u64);
    let completions = plan.load.completions.map_or(bearable, |n| n.get().min(bearable));
    let load = Load {
        threads,
        arrivals: arrivals(&plan.load, probe, replay),
        completions: NonZeroU64::new(completions),
        duration: Some(plan.load.duration.map_or(STARTS, |duration| duration.min(STARTS))),
        warmup: Extent::NONE,
        cooldown: Extent::NONE,
        ..plan.load.clone()
    };
    let run_id = format!("{}-replay", plan.run_id);
    // every reply of the replay ends at its limit
    Ok(Plan { run_id, server, key_source: None, request, load, fail_on_length: false, ..plan.clone() })
}

/// The highest rate of the plan, raised as much as its replies were shortened, so that as many are under way, up to one
/// for each thread. `None` for a closed loop, and where all requests are due at once: then threads alone bound them.
fn arrivals(load: &Load, probe: &Probe, replay: &Replay) -> Option<Arrivals> {
    let arrivals = load.arrivals.as_ref().filter(|_| load.has_rate())?;
    let reply_s = replay.reply().as_secs_f64();
    let shortened = if reply_s > 0.0 { (probe.e2e.as_secs_f64() / reply_s).max(1.0) } else { 1.0 };
    let wanted = arrivals.shape.peak() * shortened;
    let most = if reply_s > 0.0 { load.threads.get() as f64 / reply_s } else { wanted };
    let rate = Rate::new(wanted.min(most).max(LOWEST_RATE))?;
    Some(Arrivals { shape: Shape::Steady(rate), process: arrivals.process })
}

/// Keeps what the client says of each request.
struct Accounts<'a> {
    plan: &'a Plan,
    kept: Vec<Account>,
}

impl Sink for Accounts<'_> {
    fn record(&mut self, record: &Record) {
        self.kept.extend(Account::of(record, self.plan.request_id(record.id)));
    }
}

/// Keeps the record of the one request.
struct Last(Option<Record>);

impl Sink for Last {
    fn record(&mut self, record: &Record) {
        self.0 = Some(record.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Draft, Given};
    use crate::secret::Secret;

    /// A plan of 20 threads, or as many as the arrivals want.
    fn plan(change: impl FnOnce(&mut Draft)) -> Plan {
        let mut draft = Draft {
            url: Some(Given::in_code("url", "https://example.com/v1/completions".to_owned())),
            model: Some(Given::in_code("model", "m".to_owned())),
            ..Draft::default()
        };
        change(&mut draft);
        let suite = draft.check(&mut |_| Ok(String::new())).expect("a plan");
        suite.plans.into_iter().next().expect("one plan")
    }

    /// Of 101 tokens: 1 s to the first, 90 ms to the next, 10 s in all; replayed with 34 tokens in 3.97 s.
    fn probe() -> Probe {
        Probe {
            ttft: Some(Duration::from_secs(1)),
            gap: Some(Duration::from_millis(90)),
            e2e: Duration::from_secs(10),
            token_events: 101,
            output_tokens: Some(101),
        }
    }

    fn replay_of(plan: &Plan) -> Plan {
        replayed(plan, &probe(), &Replay::of(&probe()), "http://127.0.0.1:1").expect("a plan")
    }

    fn rate(load: &Load) -> Option<f64> {
        let shape = &load.arrivals.as_ref()?.shape;
        Some(shape.steady().unwrap_or_else(|| panic!("{shape}")))
    }

    #[test]
    fn what_is_the_servers_is_kept_from_the_simulated_one() {
        let replay = replay_of(&plan(|draft| {
            draft.key = Some((Secret::new("s3cret"), "a test".to_owned()));
            draft.headers = vec![Given::in_code("header", ("x-token".to_owned(), Secret::new("s3cret")))];
            draft.extra_body = Some(Given::in_code(
                "extra",
                serde_json::from_str(r#"{"max_tokens": 9}"#).expect("an object"),
            ));
        }));
        assert_eq!(replay.server.endpoint.url, "http://127.0.0.1:1/v1/completions");
        assert_eq!((replay.server.key, replay.server.headers.len(), replay.key_source), (None, 0, None));
        assert_eq!((replay.request.max_tokens, replay.request.ignore_eos), (Some(34), true));
        assert!(replay.request.extra.is_empty());
    }

    #[test]
    fn a_closed_loop_keeps_its_threads_and_ends_in_time() {
        let load = replay_of(&plan(|draft| {
            draft.threads = Some(Given::in_code("threads", 7));
            draft.warmup = Some(Given::in_code("warmup", Extent::Requests(9)));
        }))
        .load;
        assert_eq!((load.threads.get(), load.arrivals, load.duration), (7, None, Some(STARTS)));
        assert_eq!((load.completions.map(NonZeroU64::get), load.warmup), (Some(100), Extent::NONE));
    }

    #[test]
    fn an_open_loop_has_as_many_under_way_up_to_one_a_thread() {
        let with = |text: &'static str, threads| {
            replay_of(&plan(|draft| {
                draft.stages = Some(Given::in_code("stages", Shape::parse_stages(text).expect(text)));
                draft.threads = Some(Given::in_code("threads", threads));
            }))
            .load
        };
        let close = |got: Option<f64>, want: f64| {
            assert!(got.is_some_and(|got| (got - want).abs() < 1e-9), "{got:?}")
        };
        // 20 a second, and 10 s shortened to 3.97
        close(rate(&with("5:9s,20:9s", 1_000)), 20.0 * 10.0 / 3.97);
        close(rate(&with("5:9s,20:9s", 100)), 100.0 / 3.97);
        close(rate(&with("0.001:9h", 100)), LOWEST_RATE);
        let at_once = replay_of(&plan(|draft| {
            draft.request_rate = Some(Given::in_code("rate", Shape::AtOnce));
        }));
        assert_eq!(at_once.load.arrivals, None);
    }
}
