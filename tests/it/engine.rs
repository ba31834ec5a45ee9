//! The engine over scripted replies and hand-moved time.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use proptest::prelude::*;
use vllm_loadgen::analysis;
use vllm_loadgen::arrivals::{Arrivals, Process, Shape};
use vllm_loadgen::backend::{Backend, Canceller, Chunk, Exchange, Head, Request, Scripted, Step, Trace};
use vllm_loadgen::clock::{Clock, ManualClock, Moment, Stop, SystemClock, stop_pair};
use vllm_loadgen::engine::{self, Setup};
use vllm_loadgen::failure::{Failure, FailureKind};
use vllm_loadgen::heartbeat::Beats;
use vllm_loadgen::plan::{Extent, Load, Slo};
use vllm_loadgen::priority::Priority;
use vllm_loadgen::record::{ItlSource, Outcome, Phase};
use vllm_loadgen::summary::{Full, Tally, Window};
use vllm_loadgen::units::Rate;
use vllm_loadgen::wire::Dialect;
use vllm_loadgen::{Record, Sink};

/// Nobody says what requests are given up as.
static NOT_SAID: OnceLock<FailureKind> = OnceLock::new();
/// Nothing is known to have stood still.
static NO_BEATS: LazyLock<Beats> = LazyLock::new(Beats::default);

#[derive(Default)]
struct Records(Vec<Record>);

impl Sink for Records {
    fn record(&mut self, record: &Record) {
        self.0.push(record.clone());
    }
}

fn load(threads: usize, completions: u64) -> Load {
    Load {
        threads: NonZeroUsize::new(threads).expect("above 0"),
        arrivals: None,
        completions: NonZeroU64::new(completions),
        duration: None,
        warmup: Extent::NONE,
        cooldown: Extent::NONE,
        grace: None,
    }
}

fn request(id: u64) -> Request {
    Request { id: format!("r-{id}"), body: b"{}".to_vec().into() }
}

fn run_with<'a>(
    load: Load,
    clock: &'a ManualClock,
    stop: &'a Stop,
    backend: &'a (dyn Fn() -> Box<dyn Backend + 'a> + Sync),
) -> Vec<Record> {
    let mut records = Records::default();
    let setup = Setup {
        request: &request,
        backend,
        lead: Duration::ZERO,
        dialect: Dialect::Chat,
        secrets: &[],
        seed: 7,
        clock,
        stop,
        stopped_as: &NOT_SAID,
        priority: Priority::Normal,
        beats: &NO_BEATS,
        backoff: false,
        fail_on_length: false,
        save_responses: false,
    };
    engine::run(&load, &setup, &mut [&mut records]).expect("threads can be started");
    records.0
}

fn run(load: Load, steps: &[Step]) -> Vec<Record> {
    let clock = ManualClock::default();
    let (_stopper, stop) = stop_pair();
    run_with(load, &clock, &stop, &|| Box::new(Scripted { clock: &clock, steps: steps.to_vec() }))
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const ROLE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
const REASON: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning\":\"a\"}}]}\n\n";
const LAST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n";

fn stream(body: &[Step]) -> Vec<Step> {
    let mut steps = vec![Step::Wait(ms(10)), Step::Head(200, "text/event-stream")];
    steps.extend_from_slice(body);
    steps
}

#[test]
fn first_event_first_token_and_end_are_kept_apart() {
    let steps = stream(&[
        Step::Wait(ms(10)),
        Step::Body(ROLE),
        Step::Wait(ms(30)),
        Step::Body(REASON),
        Step::Wait(ms(20)),
        Step::Body(TOKEN),
        Step::Wait(ms(20)),
        Step::Body(TOKEN),
        Step::Wait(ms(5)),
        Step::Body(LAST),
    ]);
    let records = run(load(1, 1), &steps);
    let record = &records[0];
    assert!(record.is_success(), "{record:?}");
    assert_eq!((record.ttfb(), record.ttfe(), record.ttft()), (Some(ms(10)), Some(ms(20)), Some(ms(50))));
    assert_eq!((record.e2e(), record.tpot()), (Some(ms(90)), Some(ms(20))));
    assert_eq!(record.moments.end.since(record.moments.started), ms(95));
    assert_eq!((record.events, record.reads, record.usage.output_tokens), (6, 5, Some(3)));
}

#[test]
fn events_of_one_read_share_its_moment() {
    let two = concat!(
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"}}]}\n\n"
    );
    let records =
        run(load(1, 1), &stream(&[Step::Body(two), Step::Wait(ms(40)), Step::Body(TOKEN), Step::Body(LAST)]));
    let gaps: Vec<_> = records[0].gaps().collect();
    assert_eq!(gaps, [ms(0), ms(40)]);
}

#[test]
fn tokens_counted_in_events_without_text_belong_to_the_event_that_shows_them() {
    let event = |content: &str, total: u32| -> &'static str {
        let choice = format!("{{\"index\":0,\"delta\":{{\"content\":\"{content}\"}}}}");
        format!("data: {{\"choices\":[{choice}],\"usage\":{{\"completion_tokens\":{total}}}}}\n\n").leak()
    };
    let mut steps = vec![];
    for (content, total) in [("a", 1), ("", 2), ("b", 3), ("", 4), ("c", 5), ("", 6)] {
        steps.extend([Step::Wait(ms(10)), Step::Body(event(content, total))]);
    }
    steps.push(Step::Body("data: [DONE]\n\n"));
    let records = run(load(1, 1), &stream(&steps));
    let (source, itl) = records[0].itl();
    assert_eq!((source, itl.collect::<Vec<_>>()), (ItlSource::Counted, vec![(ms(10), 2), (ms(10), 2)]));
    let mut tally = Tally::new(Full::Started(1));
    records.iter().for_each(|record| tally.record(record));
    // all six that usage tells, the one after the last text with it
    let timeline = tally.into_summary().timeline.expect("a request");
    let received: f64 = timeline.slices.iter().filter_map(|slice| slice.output_tokens).sum();
    assert!((received - 6.0).abs() < 1e-9, "{received}");
}

#[test]
fn tokens_counted_by_the_server_share_the_gap_of_their_event() {
    let counted = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b c d e\"}}],\"usage\":{\"completion_tokens\":5}}\n\n";
    let first = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}],\"usage\":{\"completion_tokens\":1}}\n\n";
    let records = run(
        load(1, 1),
        &stream(&[
            Step::Body(first),
            Step::Wait(ms(40)),
            Step::Body(counted),
            Step::Body("data: [DONE]\n\n"),
        ]),
    );
    let (source, itl) = records[0].itl();
    assert_eq!((source, itl.collect::<Vec<_>>()), (ItlSource::Counted, vec![(ms(10), 4)]));
}

#[test]
fn an_error_in_the_stream_is_the_failure_however_it_ended() {
    let error = "data: {\"error\": {\"message\": \"engine died\", \"code\": 500}}\n\n";
    let broken = Step::Fail(Failure::new(FailureKind::TruncatedBody, "eof"));
    for end in [Step::Body("data: [DONE]\n\n"), broken] {
        let records = run(load(1, 1), &stream(&[Step::Body(TOKEN), Step::Body(error), end]));
        let failure = records[0].failure().expect("it failed");
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::ErrorEvent, "engine died"));
        assert_eq!(records[0].e2e(), None);
    }
}

#[test]
fn an_error_status_is_told_in_the_servers_words() {
    let steps = [Step::Head(503, "application/json"), Step::Body("{\"error\":{\"message\":\"queue full\"}}")];
    let records = run(load(2, 4), &steps);
    assert_eq!(records.len(), 4);
    for record in &records {
        let failure = record.failure().expect("it failed");
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Http(503), "queue full"));
        assert_eq!(record.status, Some(503));
    }
}

#[test]
fn a_failure_before_any_reply_is_kept_with_what_is_known() {
    let records = run(load(1, 1), &[Step::Fail(Failure::new(FailureKind::ConnectRefused, "no"))]);
    assert_eq!(records[0].failure().map(|f| f.kind), Some(FailureKind::ConnectRefused));
    assert_eq!((records[0].status, records[0].ttft()), (None, None));
}

#[test]
fn a_warm_up_comes_first_and_counts_for_nothing() {
    let steps = stream(&[Step::Body(TOKEN), Step::Body(LAST)]);
    let records = run(Load { warmup: Extent::Requests(3), ..load(2, 5) }, &steps);
    let mut warm: Vec<_> = records.iter().filter(|r| r.phase == Phase::Warmup).map(|r| r.id).collect();
    warm.sort_unstable();
    assert_eq!((warm, records.len()), (vec![0, 1, 2], 8));
    let mut tally = Tally::default();
    records.iter().for_each(|record| tally.record(record));
    let summary = tally.into_summary();
    assert_eq!((summary.requests.sent, summary.requests.warmup), (5, 3));
    assert_eq!(summary.tokens.output, Some(15));
}

#[test]
fn a_duration_ends_sending_and_lets_running_requests_end() {
    // each request takes 100 ms of the one thread's time: the fifth starts at 400 ms, the sixth would at 500
    let steps = stream(&[Step::Wait(ms(90)), Step::Body(TOKEN), Step::Body(LAST)]);
    let records = run(Load { completions: None, duration: Some(ms(450)), ..load(1, 1) }, &steps);
    assert_eq!(records.len(), 5);
    assert!(records.iter().all(Record::is_success));
}

#[test]
fn a_duration_counts_from_the_first_measured_request() {
    let steps = stream(&[Step::Wait(ms(90)), Step::Body(TOKEN), Step::Body(LAST)]);
    let load =
        Load { completions: None, duration: Some(ms(250)), warmup: Extent::Requests(10), ..load(1, 1) };
    let measured = run(load, &steps).iter().filter(|r| r.phase == Phase::Measured).count();
    assert_eq!(measured, 3);
}

fn phases(records: &[Record]) -> String {
    let mut records: Vec<_> = records.iter().collect();
    records.sort_by_key(|record| record.id);
    let letter = |record: &&Record| match record.phase {
        Phase::Warmup => 'w',
        Phase::Measured => 'm',
        Phase::Cooldown => 'c',
    };
    records.iter().map(letter).collect()
}

#[test]
fn warm_up_and_cool_down_end_by_count_or_by_time_in_both_loops() {
    // 100 ms each, one after another
    let steps = stream(&[Step::Wait(ms(90)), Step::Body(TOKEN), Step::Body(LAST)]);
    let requests = Extent::Requests;
    for (warmup, completions, duration, cooldown, want, want_open) in [
        (requests(2), 3, None, requests(1), "wwmmmc", "wwmmmc"),
        (Extent::Time(ms(150)), 3, None, requests(2), "wwmmmcc", "wwmmmcc"),
        // times of a schedule follow each other: from 150 to 400 and to 600 ms
        (Extent::Time(ms(150)), 0, Some(ms(250)), Extent::Time(ms(200)), "wwmmmcc", "wwmmcc"),
        (requests(0), 2, None, Extent::Time(ms(110)), "mmcc", "mmcc"),
    ] {
        let load =
            Load { warmup, cooldown, duration, completions: NonZeroU64::new(completions), ..load(1, 1) };
        assert_eq!(phases(&run(load.clone(), &steps)), want, "{load}");
        assert_eq!(
            phases(&run(open(load.clone(), 10.0, Process::Constant), &steps)),
            want_open,
            "open: {load}"
        );
    }
}

#[test]
fn goodput_is_over_all_that_ended_and_failures_are_endless() {
    let steps = stream(&[
        Step::Wait(ms(40)),
        Step::Body(TOKEN),
        Step::Wait(ms(50)),
        Step::Body(TOKEN),
        Step::Body(LAST),
    ]);
    let mut records = run(load(1, 4), &steps);
    records[3].outcome = Outcome::Failed(Failure::new(FailureKind::IdleTimeout, ""));
    let slow = records[2].token_events.last_mut().expect("two");
    slow.at = slow.at + ms(100);
    let summary = |slos: &[&str]| {
        let slos: Vec<Slo> = slos.iter().map(|slo| slo.parse().expect(slo)).collect();
        let mut tally = Tally::default().with_slos(&slos);
        records.iter().for_each(|record| tally.record(record));
        tally.into_summary()
    };
    for (slos, good) in [
        (&["ttft:50"][..], 3),
        (&["ttft:49.9ms"], 0),
        (&["ttft:50", "stall:60"], 2),
        (&["tpot:70"], 2),
        (&["e2el:100", "response_e2e:100ms", "response_ttft:1s"], 2),
    ] {
        let goodput = summary(slos).goodput.expect("objectives");
        assert_eq!((goodput.good, goodput.share), (good, Some(good as f64 / 4.0)), "{slos:?}");
    }
    let plain = summary(&[]);
    assert_eq!(plain.goodput, None);
    let adjusted = plain.latency.adj_ttft.expect("streams");
    assert_eq!((adjusted.p50, adjusted.p90), (Some(50.0), None));
}

#[test]
fn the_steady_window_leaves_out_how_the_load_came_up_and_went_down() {
    // 100 ms each: started at 0 (warm-up), 100, 200 and 300 ms (measured), 400 ms (cool-down)
    let steps = stream(&[
        Step::Wait(ms(40)),
        Step::Body(TOKEN),
        Step::Wait(ms(50)),
        Step::Body(TOKEN),
        Step::Body(LAST),
    ]);
    let load = Load { warmup: Extent::Requests(1), cooldown: Extent::Requests(1), ..load(1, 3) };
    let mut tally = Tally::new(Full::Started(1));
    run(load, &steps).iter().for_each(|record| tally.record(record));
    let summary = tally.into_summary();
    let requests = summary.requests;
    assert_eq!((requests.sent, requests.warmup, requests.cooldown), (3, 1, 1));
    let window = |from_s, until_s| Some(Window { from_s, until_s });
    let windows = summary.windows;
    assert_eq!((windows.warmup, windows.measured), (window(0.0, 0.1), window(0.1, 0.4)));
    assert_eq!(windows.cooldown, window(0.4, 0.5));
    let steady = windows.steady.expect("200 ms of it");
    assert_eq!((steady.from_s, steady.until_s), (0.1, 0.3));
    let near = |rate: f64, want: f64| (rate / want - 1.0).abs() < 1e-9;
    // ends at 100 and 200 ms are in it; 1 token at 150 and 250 ms, the other 2 of the 3 at 100 and 200 ms
    assert!(near(steady.requests_per_s, 10.0), "{steady:?}");
    assert!(near(steady.output_tokens_per_s.expect("counted"), 30.0), "{steady:?}");
}

#[test]
fn the_load_at_a_rate_is_up_when_any_request_has_ended_well() {
    let reply = stream(&[Step::Wait(ms(40)), Step::Body(TOKEN), Step::Wait(ms(60)), Step::Body(LAST)]);
    // one thread, so that they end in order; and the same records each time
    let records = run(load(1, 9), &reply);
    let steady = |held: Option<u64>| {
        let mut tally = Tally::new(Full::FirstEnded);
        for mut record in records.clone() {
            if Some(record.id) == held {
                // one that hung until all others had ended
                record.moments.end = record.moments.end + Duration::from_secs(10);
            }
            tally.record(&record);
        }
        tally.into_summary().windows.steady
    };
    let all = steady(None).expect("a steady load");
    assert_eq!(steady(Some(0)).map(|held| held.until_s), Some(all.until_s));
    assert!(steady(Some(0)).expect("the others were steady").requests_per_s > 0.0);
    assert_eq!(steady(Some(5)).map(|held| held.from_s), Some(all.from_s));
}

/// Never answers; fails once it is cancelled.
struct Mute<'a> {
    begun: &'a AtomicU64,
    cancelled: crossbeam_channel::Receiver<()>,
    cancel: std::sync::Mutex<Option<crossbeam_channel::Sender<()>>>,
}

impl Backend for Mute<'_> {
    fn stream(&mut self, _: &Request, _: &mut dyn FnMut(Chunk<'_>)) -> Exchange {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let _ = self.cancelled.recv();
        let failure = Failure::new(FailureKind::ClosedBeforeReply, "shut down");
        Exchange { trace: Trace::default(), result: Err(failure) }
    }

    fn canceller(&self) -> Canceller {
        let cancel = self.cancel.lock().expect("not poisoned").take();
        Box::new(move || drop(cancel))
    }
}

fn mute(begun: &AtomicU64) -> Box<dyn Backend + '_> {
    let (cancel, cancelled) = crossbeam_channel::bounded(0);
    Box::new(Mute { begun, cancelled, cancel: Some(cancel).into() })
}

/// How a run is stopped from outside, once its first request is under way.
#[derive(Clone, Copy, PartialEq)]
enum Halt {
    Never,
    Gently,
    AtOnce,
}

/// Runs it on the machine's clock.
fn run_mute(load: &Load, halt: Halt) -> Vec<Record> {
    let (mut stopper, stop) = stop_pair();
    let begun = AtomicU64::new(0);
    let mut records = Records::default();
    let setup = Setup {
        request: &request,
        backend: &|| mute(&begun),
        lead: Duration::ZERO,
        dialect: Dialect::Chat,
        secrets: &[],
        seed: 7,
        clock: &SystemClock,
        stop: &stop,
        stopped_as: &NOT_SAID,
        priority: Priority::Normal,
        beats: &NO_BEATS,
        backoff: false,
        fail_on_length: false,
        save_responses: false,
    };
    std::thread::scope(|scope| {
        let begun = &begun;
        scope.spawn(move || {
            while halt != Halt::Never && begun.load(Ordering::Relaxed) == 0 {
                std::thread::sleep(ms(1));
            }
            match halt {
                Halt::Never => std::mem::forget(stopper),
                Halt::Gently => {
                    stopper.begin();
                    std::mem::forget(stopper);
                }
                Halt::AtOnce => stopper.stop(),
            }
        });
        engine::run(load, &setup, &mut [&mut records]).expect("threads can be started");
    });
    records.0
}

#[test]
fn requests_under_way_are_given_up_when_the_grace_is_over() {
    use FailureKind::{Cancelled, Interrupted};
    let (timed, zero) =
        (Load { completions: None, duration: Some(ms(30)), ..load(3, 1) }, Some(Duration::ZERO));
    let arrivals = open(load(3, 3), 100.0, Process::Constant);
    let endless = Load { completions: None, duration: Some(Duration::MAX), ..load(3, 1) };
    for (load, halt, want) in [
        (Load { grace: Some(ms(20)), ..timed }, Halt::Never, Cancelled),
        (Load { grace: zero, ..arrivals }, Halt::Never, Cancelled),
        (Load { grace: zero, ..endless.clone() }, Halt::Gently, Interrupted),
        (endless, Halt::AtOnce, Interrupted),
    ] {
        let records = run_mute(&load, halt);
        let kinds: Vec<_> = records.iter().map(|r| r.failure().expect("none succeeds").kind).collect();
        assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == want), "{load}: {kinds:?}");
        let messages = records.iter().map(|r| r.failure().expect("none succeeds").message.as_str());
        messages.for_each(|message| assert_eq!(message, "given up while connecting"));
        let mut tally = Tally::default();
        records.iter().for_each(|record| tally.record(record));
        let requests = tally.into_summary().requests;
        let all = records.len() as u64;
        assert_eq!((requests.by_client, requests.failed, requests.success_rate), (all, 0, None));
    }
}

#[test]
fn arrivals_that_a_stop_keeps_from_leaving_are_told_of() {
    let mut load = open(load(2, 500), 1e6, Process::Constant);
    load.arrivals.as_mut().expect("open").shape = Shape::AtOnce;
    for halt in [Halt::Gently, Halt::AtOnce] {
        let records = run_mute(&Load { grace: Some(Duration::ZERO), ..load.clone() }, halt);
        let mut ids: Vec<u64> = records.iter().map(|record| record.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..500).collect::<Vec<_>>(), "each that was due is told of once");
        let mut tally = Tally::default();
        records.iter().for_each(|record| tally.record(record));
        let summary = tally.into_summary();
        let requests = summary.requests;
        assert!((1..=2).contains(&requests.sent), "{requests:?}");
        assert_eq!((requests.sent, requests.not_sent), (requests.by_client, 500 - requests.sent));
        let lines: BTreeMap<_, _> =
            summary.errors.iter().map(|line| (line.kind.as_str(), line.count)).collect();
        assert_eq!((lines["not_sent"], lines["interrupted"]), (requests.not_sent, requests.sent));
        assert_eq!(summary.latency.lag.map(|lag| lag.count), Some(requests.sent), "what left has a lag");
        let started: u64 = summary.timeline.expect("requests").slices.iter().map(|slice| slice.started).sum();
        assert_eq!(started, requests.sent);
    }
}

#[test]
fn a_million_arrivals_that_a_stop_keeps_from_leaving_are_few_records() {
    let mut load = open(load(2, 1_000_000), 1e6, Process::Constant);
    load.arrivals.as_mut().expect("open").shape = Shape::AtOnce;
    let records = run_mute(&Load { grace: Some(Duration::ZERO), ..load }, Halt::AtOnce);
    assert!(records.len() < 20_000, "{}", records.len());
    assert_eq!(records.iter().map(|record| record.arrivals).sum::<u64>(), 1_000_000);
    let mut tally = Tally::default();
    records.iter().for_each(|record| tally.record(record));
    let summary = tally.into_summary();
    assert_eq!(summary.requests.sent + summary.requests.not_sent, 1_000_000);
    let lines: BTreeMap<_, _> = summary.errors.iter().map(|line| (line.kind.as_str(), line.count)).collect();
    assert_eq!(lines["not_sent"], summary.requests.not_sent);
}

/// Waits at its first record until so many requests were sent.
struct Slow<'a> {
    sent: &'a AtomicU64,
    until: u64,
}

impl Sink for Slow<'_> {
    fn record(&mut self, _: &Record) {
        while self.sent.load(Ordering::Relaxed) < self.until {
            std::thread::sleep(ms(1));
        }
    }
}

#[test]
fn what_waits_for_a_slow_sink_is_bounded_and_told() {
    let sent = AtomicU64::new(0);
    let clock = ManualClock::default();
    let (_stopper, stop) = stop_pair();
    let most = engine::MOST_WAITING as u64;
    // one is with the sink, and one in the hand of the worker
    let mut slow = Slow { sent: &sent, until: most + 2 };
    let setup = Setup {
        request: &request,
        backend: &|| Box::new(Counting { sent: &sent, limit: u64::MAX, halt: &|| () }),
        lead: Duration::ZERO,
        dialect: Dialect::Chat,
        secrets: &[],
        seed: 7,
        clock: &clock,
        stop: &stop,
        stopped_as: &NOT_SAID,
        priority: Priority::Normal,
        beats: &NO_BEATS,
        backoff: false,
        fail_on_length: false,
        save_responses: false,
    };
    let threads =
        engine::run(&load(1, most + 500), &setup, &mut [&mut slow]).expect("threads can be started");
    assert_eq!((threads.backlog, sent.into_inner()), (engine::MOST_WAITING, most + 500));
}

#[test]
fn a_grace_ends_runs_whose_threads_are_all_taken() {
    // more arrivals than there is room for, so that most of them never get a thread
    let timed =
        open(Load { completions: None, duration: Some(ms(100)), ..load(2, 1) }, 10_000.0, Process::Constant);
    let records = run_mute(&Load { grace: Some(ms(20)), ..timed }, Halt::Never);
    assert_eq!(records.len(), 1_000, "each is told of once");
    let sent: Vec<_> = records.iter().filter(|record| record.was_started()).collect();
    assert_eq!(sent.len(), 2, "a thread has one");
    assert!(sent.iter().all(|record| record.failure().is_some_and(|f| f.kind == FailureKind::Cancelled)));
    // counted: the last one has started, and none is ever idle to say so
    for counted in [load(3, 3), open(load(3, 3), 1_000.0, Process::Constant)] {
        let records = run_mute(&Load { grace: Some(ms(20)), ..counted }, Halt::Never);
        let kinds: Vec<_> = records.iter().map(|r| r.failure().expect("none succeeds").kind).collect();
        assert_eq!(kinds, [FailureKind::Cancelled; 3]);
    }
}

#[test]
fn a_grace_cuts_no_run_that_ends_by_count_before_its_last_request_has_started() {
    let sent = AtomicU64::new(0);
    let clock = ManualClock::default();
    let (_stopper, stop) = stop_pair();
    let mut all = open(load(4, 300), 1.0, Process::Constant);
    all.arrivals.as_mut().expect("open").shape = Shape::AtOnce;
    let load = Load { grace: Some(Duration::ZERO), ..all };
    let records =
        run_with(load, &clock, &stop, &|| Box::new(Counting { sent: &sent, limit: u64::MAX, halt: &|| () }));
    assert_eq!(sent.load(Ordering::Relaxed), 300);
    assert_eq!(records.len(), 300);
}

/// The machine's clock, by which workers wake up long after they wanted to.
struct Drowsy;

impl Clock for Drowsy {
    fn now(&self) -> Moment {
        SystemClock.now()
    }

    fn wait_until(&self, due: Moment, stop: &Stop) -> bool {
        let is_worker = std::thread::current().name().is_some_and(|name| name.starts_with("worker"));
        // long enough for the collector to look
        let sleep = if is_worker && due > self.now() { ms(500) } else { ms(0) };
        SystemClock.wait_until(due + sleep, stop)
    }
}

#[test]
fn a_grace_of_nothing_loses_no_arrival_that_waits_to_be_due() {
    let load = Load { grace: Some(Duration::ZERO), ..open(load(4, 3), 100.0, Process::Constant) };
    let steps = stream(&[Step::Body(TOKEN), Step::Body(LAST)]);
    let (_stopper, stop) = stop_pair();
    let clock = ManualClock::default();
    let mut records = Records::default();
    let setup = Setup {
        request: &request,
        backend: &|| Box::new(Scripted { clock: &clock, steps: steps.clone() }),
        lead: Duration::ZERO,
        dialect: Dialect::Chat,
        secrets: &[],
        seed: 7,
        clock: &Drowsy,
        stop: &stop,
        stopped_as: &NOT_SAID,
        priority: Priority::Normal,
        beats: &NO_BEATS,
        backoff: false,
        fail_on_length: false,
        save_responses: false,
    };
    engine::run(&load, &setup, &mut [&mut records]).expect("threads can be started");
    let failures: Vec<_> = records.0.iter().filter_map(Record::failure).collect();
    assert_eq!((records.0.len(), failures), (3, vec![]));
}

#[test]
fn arrivals_not_yet_due_at_a_stop_are_no_loss() {
    let load = open(load(4, 1_000_000), 0.001, Process::Constant);
    let records = run_mute(&load, Halt::AtOnce);
    assert_eq!(records.iter().map(|record| record.id).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_stop_ends_a_run_that_has_no_end() {
    let clock = ManualClock::default();
    let (stopper, stop) = stop_pair();
    let stopper = std::sync::Mutex::new(Some(stopper));
    let sent = AtomicU64::new(0);
    let halt = || drop(stopper.lock().expect("not poisoned").take());
    let load = Load { completions: None, duration: Some(Duration::MAX), ..load(4, 1) };
    let records =
        run_with(load, &clock, &stop, &|| Box::new(Counting { sent: &sent, limit: 10, halt: &halt }));
    // the others go on until they see it, and then the run ends
    assert!(records.len() >= 10, "{}", records.len());
}

/// Answers at once, and calls `halt` at request number `limit`.
struct Counting<'a> {
    sent: &'a AtomicU64,
    limit: u64,
    halt: &'a (dyn Fn() + Sync),
}

impl Backend for Counting<'_> {
    fn stream(&mut self, _: &Request, _: &mut dyn FnMut(Chunk<'_>)) -> Exchange {
        if self.sent.fetch_add(1, Ordering::Relaxed) + 1 == self.limit {
            (self.halt)();
        }
        Exchange { trace: Trace::default(), result: Ok(()) }
    }
}

fn open(load: Load, rate: f64, process: Process) -> Load {
    let shape = Shape::Steady(Rate::new(rate).expect("above 0"));
    Load { arrivals: Some(Arrivals { shape, process }), ..load }
}

/// One thread, a thousand and more requests a second, each of which takes 250 ms: time begins to move when the feeder has
/// handed out nearly all of them, so that they wait for the thread and not the thread for them.
fn run_starved(load: &Load) -> Vec<Record> {
    let steps = stream(&[Step::Wait(ms(240)), Step::Body(TOKEN), Step::Body(LAST)]);
    let all = load.completions.expect("a number").get();
    let (clock, fed) = (ManualClock::default(), AtomicU64::new(0));
    let (_stopper, stop) = stop_pair();
    let mut records = Records::default();
    let setup = Setup {
        request: &|id| {
            fed.store(id + 1, Ordering::Release);
            request(id)
        },
        backend: &|| Box::new(Scripted { clock: &clock, steps: steps.clone() }),
        lead: ms(1),
        dialect: Dialect::Chat,
        secrets: &[],
        seed: 7,
        clock: &clock,
        stop: &stop,
        stopped_as: &NOT_SAID,
        priority: Priority::Normal,
        beats: &NO_BEATS,
        backoff: false,
        fail_on_length: false,
        save_responses: false,
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while fed.load(Ordering::Acquire) < all {
                std::thread::sleep(ms(1));
            }
            clock.advance(ms(1));
        });
        engine::run(load, &setup, &mut [&mut records]).expect("threads can be started");
    });
    records.0
}

#[test]
fn a_late_request_counts_from_when_it_was_due() {
    // due after 0, 1, 2 ms of the run; started after 0, 250, 500
    let records = run_starved(&open(load(1, 4), 1_000.0, Process::Constant));
    let records = &records[..3];
    let lags: Vec<_> = records.iter().map(Record::lag).collect();
    assert_eq!(lags, [ms(0), ms(249), ms(498)]);
    let found_none: Vec<_> = records.iter().map(Record::found_no_worker).collect();
    assert_eq!(found_none, [false, true, true]);
    for (record, lag) in records.iter().zip(lags) {
        assert_eq!((record.ttft(), record.e2e()), (Some(ms(250)), Some(ms(250))));
        assert_eq!(
            (record.response_ttft(), record.response_e2e()),
            (Some(ms(250) + lag), Some(ms(250) + lag))
        );
    }
}

#[test]
fn a_starved_pool_is_counted_and_said() {
    let load = open(load(1, 20), 10_000.0, Process::Constant);
    let mut tally = Tally::default();
    run_starved(&load).iter().for_each(|record| tally.record(record));
    let summary = tally.into_summary();
    assert_eq!(summary.requests.no_worker_free, 19);
    let rates = summary.throughput;
    let near = |rate: Option<f64>, want: f64| (rate.expect("known") / want - 1.0).abs() < 1e-9;
    assert!(
        near(rates.offered_requests_per_s, 10_000.0) && near(rates.sent_requests_per_s, 4.0),
        "{rates:?}"
    );
    assert!(analysis::remarks(&load, &summary, None)[0].starts_with("19 of 20 requests were due when none"));
}

#[test]
fn the_schedule_of_an_open_loop_ends_with_its_duration_and_drops_nothing() {
    let steps = stream(&[Step::Wait(ms(240)), Step::Body(TOKEN), Step::Body(LAST)]);
    let load = Load { completions: None, duration: Some(ms(500)), warmup: Extent::Requests(2), ..load(1, 1) };
    let records = run(open(load, 10.0, Process::Constant), &steps);
    let measured = records.iter().filter(|record| record.phase == Phase::Measured).count();
    // due from 200 to 600 ms, though the last of them is started at 1,500
    assert_eq!((records.len(), measured), (7, 5));
}

/// Any shape and any process, over within some milliseconds.
fn arrivals() -> impl Strategy<Value = Arrivals> {
    let stage = prop_oneof![Just("0:1ms"), Just("20000:2ms"), Just("50000:3ms")];
    let stages = prop::collection::vec(stage, 1..4).prop_map(|stages| stages.join(",") + ",50000:1ms");
    let shape = prop_oneof![
        Just(Shape::Steady(Rate::new(50_000.0).expect("above 0"))),
        Just(Shape::AtOnce),
        stages.prop_map(|stages| Shape::parse_stages(&stages).expect("stages")),
        any::<bool>().prop_map(|holds| {
            let ramp = Shape::parse_ramp("0:50000:5ms").expect("a ramp");
            if holds { ramp } else { ramp.ending_by_itself() }
        }),
    ];
    let process = prop_oneof![
        Just(Process::Constant),
        Just(Process::Poisson),
        (0.1_f64..4.0).prop_map(|burstiness| Process::Gamma { burstiness }),
    ];
    (shape, process).prop_map(|(shape, process)| Arrivals { shape, process })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_job_is_done_once_whatever_the_shape(threads in 1_usize..40, completions in 1_u64..200, warmup in 0_u64..50) {
        let records = run(Load { warmup: Extent::Requests(warmup), ..load(threads, completions) }, &stream(&[Step::Body(TOKEN), Step::Body(LAST)]));
        let mut ids: Vec<_> = records.iter().map(|record| record.id).collect();
        ids.sort_unstable();
        prop_assert_eq!(ids, (0..warmup + completions).collect::<Vec<_>>());
    }

    #[test]
    fn every_arrival_leaves_once_and_not_before_it_is_due(
        threads in 1_usize..40,
        completions in 1_u64..200,
        arrivals in arrivals(),
    ) {
        let load = Load { arrivals: Some(arrivals), ..load(threads, completions) };
        let scheduled = load.schedule(7).expect("an open loop").count() as u64;
        prop_assert!(scheduled <= completions);
        let (_stopper, stop) = stop_pair();
        let sent = AtomicU64::new(0);
        let idle: &(dyn Fn() + Sync) = &|| {};
        let backend = || -> Box<dyn Backend> { Box::new(Counting { sent: &sent, limit: 0, halt: idle }) };
        let mut records = Records::default();
        let setup = Setup {
            lead: Duration::ZERO,
            request: &request, backend: &backend, dialect: Dialect::Chat, secrets: &[], seed: 7, clock: &SystemClock, stop: &stop,
            stopped_as: &NOT_SAID,
        priority: Priority::Normal,
        beats: &NO_BEATS,
        backoff: false,
        fail_on_length: false,
        save_responses: false,
        };
        engine::run(&load, &setup, &mut [&mut records]).expect("threads can be started");
        let mut ids: Vec<_> = records.0.iter().map(|record| record.id).collect();
        ids.sort_unstable();
        prop_assert_eq!(ids, (0..scheduled).collect::<Vec<_>>());
        prop_assert!(records.0.iter().all(|record| record.moments.started >= record.moments.due));
    }
}

/// Time that passes only where somebody waits, and then at once.
#[derive(Default)]
struct LeapingClock(std::sync::Mutex<Moment>);

impl Clock for LeapingClock {
    fn now(&self) -> Moment {
        *self.0.lock().expect("not poisoned")
    }

    fn wait_until(&self, due: Moment, stop: &Stop) -> bool {
        let mut now = self.0.lock().expect("not poisoned");
        *now = due.max(*now);
        !stop.requested()
    }
}

/// Nothing listens until a moment; from then on it answers.
struct Restarted<'a> {
    clock: &'a dyn Clock,
    back: Moment,
}

impl Backend for Restarted<'_> {
    fn stream(&mut self, _: &Request, on_chunk: &mut dyn FnMut(Chunk<'_>)) -> Exchange {
        let now = self.clock.now();
        if now < self.back {
            let failure = Failure::new(FailureKind::ConnectRefused, "nobody is there");
            return Exchange { trace: Trace::default(), result: Err(failure) };
        }
        on_chunk(Chunk::Head(Head { status: 503, headers: &[] }));
        let trace = Trace { sent: Some(now), first_byte: Some(now), ..Trace::default() };
        Exchange { trace, result: Ok(()) }
    }
}

fn run_restarted(load: &Load, backoff: bool, back: Moment) -> (Vec<Record>, Option<Duration>) {
    let clock = LeapingClock::default();
    let (_stopper, stop) = stop_pair();
    let mut records = Records::default();
    let setup = Setup {
        request: &request,
        backend: &|| Box::new(Restarted { clock: &clock, back }),
        lead: Duration::ZERO,
        dialect: Dialect::Chat,
        secrets: &[],
        seed: 7,
        clock: &clock,
        stop: &stop,
        stopped_as: &NOT_SAID,
        priority: Priority::Normal,
        beats: &NO_BEATS,
        backoff,
        fail_on_length: false,
        save_responses: false,
    };
    let threads = engine::run(load, &setup, &mut [&mut records]).expect("threads can be started");
    (records.0, threads.paused)
}

#[test]
fn a_thread_pauses_while_the_server_is_away_and_finds_it_soon_when_it_is_back() {
    let back = Moment::from_nanos(10_000_000_000);
    let (records, paused) = run_restarted(&load(1, 40), true, back);
    let (away, there): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.status.is_none());
    let started = |record: &Record| record.moments.started;
    let pauses: Vec<_> = records.windows(2).map(|pair| started(&pair[1]).since(started(&pair[0]))).collect();
    let (pauses, rest) = pauses.split_at(away.len());
    assert!(pauses.iter().zip([10, 20, 40, 80, 160, 320, 640]).all(|(pause, most)| *pause <= ms(most)));
    assert!(pauses[7..].iter().all(|pause| (ms(500)..=ms(1_000)).contains(pause)), "{pauses:?}");
    assert!(started(there[0]).since(back) <= ms(1_000), "found within a second");
    assert_eq!(paused, Some(pauses.iter().sum()));
    // an error status is an answer, and no reason to wait
    assert!(rest.len() > 10 && rest.iter().all(Duration::is_zero), "{rest:?}");
    assert!(records.iter().all(|record| record.lag().is_zero() && !record.found_no_worker()));
}

#[test]
fn nobody_pauses_in_an_open_loop_or_where_it_is_switched_off() {
    let never = Moment::from_nanos(u64::MAX);
    let (records, paused) = run_restarted(&load(1, 40), false, never);
    assert_eq!((records.len(), paused), (40, None));
    assert!(records.iter().all(|record| record.moments.started == Moment::default()));
    let (records, paused) = run_restarted(&open(load(1, 40), 1_000.0, Process::Constant), true, never);
    assert_eq!((records.len(), paused), (40, None));
}

#[test]
fn a_pause_goes_not_beyond_the_end_of_sending() {
    let timed = Load { completions: None, duration: Some(ms(1_900)), ..load(1, 1) };
    let (records, paused) = run_restarted(&timed, true, Moment::from_nanos(u64::MAX));
    assert!((8..=12).contains(&records.len()), "{}", records.len());
    assert_eq!(paused, Some(ms(1_900)), "up to the end, and no further");
}
