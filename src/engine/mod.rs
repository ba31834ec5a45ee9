//! Threads and channels: feed → workers → collector, and the order in which they end.
//!
//! The feeder hands jobs to a fixed pool of workers over a desk with room for some; each worker sends its requests one
//! after another and pushes a record of each to the collector, which runs on the caller's thread and gives it to every
//! sink. Threads end because desk and channel close. Knows nothing of flags, HTTP or statistics.

mod backoff;
mod desk;
mod grace;
mod intake;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use parking_lot::Mutex;

use crate::backend::{Backend, Request};
use crate::clock::{Clock, Moment, RunQueue, Stop};
use crate::error::Error;
use crate::failure::{Failure, FailureKind};
use crate::heartbeat::Beats;
use crate::plan::{Load, Phases};
use crate::priority::{self, Priority, WhenLate};
use crate::record::{FinishReason, Outcome, Phase, Pulse, Record, Sink};
use crate::secret::{Secret, redacted};
use crate::units::show_counted;
use crate::wire::Dialect;
use backoff::Backoff;
use desk::{Desk, Feed, Seat};
use grace::Grace;
use intake::Intake;

/// One request to be made.
#[derive(Clone, Debug)]
struct Job {
    id: u64,
    /// `None` where it depends on when the request starts.
    phase: Option<Phase>,
    /// `None` in a closed loop: due when a worker is free for it.
    due: Option<Moment>,
    /// Whether it is known to be the last.
    is_last: bool,
    request: Request,
}

/// What a run needs beside its load.
pub struct Setup<'a> {
    /// The request of each number, from 0.
    pub request: &'a (dyn Fn(u64) -> Request + Sync),
    /// A backend for one more worker.
    pub backend: &'a (dyn Fn() -> Box<dyn Backend + 'a> + Sync),
    /// Source of the moments at which requests are due.
    pub seed: u64,
    /// From when an open loop's jobs begin to be handed out to the start of its schedule.
    pub lead: Duration,
    /// How replies are to be read.
    pub dialect: Dialect,
    /// What a server must not smuggle into the records by echoing it.
    pub secrets: &'a [Secret],
    /// The run's time.
    pub clock: &'a dyn Clock,
    /// How soon the workers are to be run.
    pub priority: Priority,
    /// Know when this client stood still.
    pub beats: &'a Beats,
    /// Ends the run early: no further request is sent, and those under way are given up after the grace, or at once if
    /// the stop is urgent.
    pub stop: &'a Stop,
    /// What requests under way are given up as after the stop; interrupted, where nobody has said otherwise.
    pub stopped_as: &'a OnceLock<FailureKind>,
    /// Whether a thread of a closed loop pauses before its next request when no byte of the last one could leave.
    pub backoff: bool,
    /// Whether a reply that was cut at its token limit is a failure ([`FailureKind::TokenLimit`]).
    pub fail_on_length: bool,
    /// Whether records are to hold what the model said ([`Record::response`]).
    pub save_responses: bool,
}

/// What the threads of a run share.
struct Floor<'a, 'b> {
    setup: &'a Setup<'b>,
    /// Of the run, and of the setup's stop.
    stop: Stop,
    /// Of a closed loop whose phases depend on when requests start.
    phases: Mutex<Phases>,
    /// From when on no request starts, where that is known before time says so.
    sent_all: OnceLock<Moment>,
    /// Threads that run before others.
    raised: AtomicU64,
    /// Jobs that were begun, and how many there are in all, once the last has come to a worker.
    begun: AtomicU64,
    jobs: OnceLock<u64>,
    /// When the schedule of an open loop began.
    began: OnceLock<Moment>,
    /// When the run was seen to end before all had left.
    stopped: OnceLock<Moment>,
    /// Why requests under way were given up.
    given_up: OnceLock<FailureKind>,
    in_flight: AtomicU64,
    /// Of each worker, what can be seen of it while it works.
    stations: Box<[Station]>,
    run_queue: Mutex<Option<RunQueue>>,
    /// Most records that were seen to wait for the collector.
    backlog: AtomicUsize,
    /// What all workers together have paused, in nanoseconds.
    paused: AtomicU64,
}

/// What one worker notes and the collector reads, in a cache line of its own.
#[repr(align(64))]
struct Station {
    /// Events with tokens so far.
    token_events: AtomicU64,
    /// When the request under way was started, in nanoseconds; [`NONE`](Self::NONE) without one.
    since: AtomicU64,
}

impl Station {
    const NONE: u64 = u64::MAX;

    fn new() -> Self {
        Self { token_events: AtomicU64::new(0), since: AtomicU64::new(Self::NONE) }
    }
}

/// What the threads themselves can tell of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Threads {
    /// What all workers together waited for a core; `None` where the system does not say.
    pub run_queue: Option<RunQueue>,
    /// What all workers together paused, for the server could not be reached; `None` in an open loop, and where they were
    /// not to.
    pub paused: Option<Duration>,
    /// Workers that ran before others in the end.
    pub raised: u64,
    /// Most records that were seen to wait for the sinks, of [`MOST_WAITING`].
    pub backlog: usize,
}

/// Records that may wait for the sinks: memory has an end. Where there are more, workers wait too, and so do their next
/// requests.
pub const MOST_WAITING: usize = 16 * 1024;

/// Makes the run: returns when every request has ended and every sink has seen its record.
///
/// # Errors
/// When the system refuses a thread; nothing has been sent then.
///
/// # Panics
/// When a sink does: what is under way is given up first, and every thread has ended.
pub fn run(load: &Load, setup: &Setup<'_>, sinks: &mut [&mut dyn Sink]) -> Result<Threads, Error> {
    let threads = load.threads.get();
    // of its own, for a sink's panic
    let (stopper, stop) = setup.stop.part();
    let floor = Floor {
        setup,
        stop,
        phases: Mutex::new(load.phases()),
        raised: AtomicU64::new(0),
        begun: AtomicU64::new(0),
        jobs: OnceLock::new(),
        sent_all: OnceLock::new(),
        began: OnceLock::new(),
        stopped: OnceLock::new(),
        given_up: OnceLock::new(),
        in_flight: AtomicU64::new(0),
        stations: (0..threads).map(|_| Station::new()).collect(),
        run_queue: Mutex::default(),
        backlog: AtomicUsize::new(0),
        paused: AtomicU64::new(0),
    };
    let desk = Desk::new(threads, threads.max(MIN_QUEUE));
    let (push, records) = bounded(MOST_WAITING);
    thread::scope(|scope| {
        let (floor, desk) = (&floor, &desk);
        // gone with this closure: workers notice that nobody listens
        let records = records;
        // leaving drops it: the workers that did start run dry
        let feed = desk.feed();
        let mut cancellers = Vec::with_capacity(threads);
        for number in 0..threads {
            let push = push.clone();
            let backend = (setup.backend)();
            cancellers.push(backend.canceller());
            let seat = desk.seat(number);
            let backs_off = setup.backoff && load.arrivals.is_none();
            let worker = move || {
                let backoff = backs_off.then(|| Backoff::new(setup.seed, number));
                work(seat, &push, backend, floor, &floor.stations[number], backoff);
                floor.note_run_queue();
            };
            spawn(scope, format!("worker-{number}"), worker, (number + 1, threads))?;
        }
        let feeder = move || feed_jobs(load, &feed, &push, floor);
        spawn(scope, "feed".to_owned(), feeder, (threads + 1, threads + 1))?;
        let grace = load.grace;
        let arrivals_end = grace.and_then(|_| load.timed_end(setup.seed));
        let mut grace = Grace::new(grace, arrivals_end, cancellers);
        let collecting = AssertUnwindSafe(|| collect(&records, floor, &mut grace, sinks));
        if let Err(panic) = catch_unwind(collecting) {
            // the scope waits for its threads before it passes the panic on
            stopper.stop();
            grace.give_up(FailureKind::Interrupted, floor);
            drop(records);
            resume_unwind(panic);
        }
        Ok::<_, Error>(())
    })?;
    let paused = Duration::from_nanos(floor.paused.into_inner());
    let backs_off = setup.backoff && load.arrivals.is_none();
    Ok(Threads {
        raised: floor.raised.into_inner(),
        run_queue: floor.run_queue.into_inner(),
        paused: backs_off.then_some(paused),
        backlog: floor.backlog.into_inner(),
    })
}

/// Fewer places cost a wake-up of the feeder for each job.
const MIN_QUEUE: usize = 64;
/// Deep enough for TLS; debug builds need twice as much.
const STACK: usize = if cfg!(debug_assertions) { 512 } else { 256 } * 1024;

/// Starts thread `number` of so many.
fn spawn<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: String,
    body: impl FnOnce() + Send + 'scope,
    (number, of): (usize, usize),
) -> Result<(), Error> {
    let spawned = thread::Builder::new().name(name).stack_size(STACK).spawn_scoped(scope, body);
    spawned.map(|_| ()).map_err(|cause| Error::Thread { number, of, cause })
}

/// Hands out jobs in order until there are enough, the schedule ends, the run is stopped or no worker is left. In an
/// open loop they carry their moments and are handed out a little before: the workers wait.
fn feed_jobs(load: &Load, feed: &Feed<'_, Job>, push: &Sender<Record>, floor: &Floor<'_, '_>) {
    let setup = floor.setup;
    // the first of them must not be late for being handed out
    let began = setup.clock.now() + setup.lead;
    let mut phases = load.phases();
    let (most, is_timed) = (load.most_requests().unwrap_or(u64::MAX), load.phases_need_time());
    let Some(schedule) = load.schedule(setup.seed) else {
        for id in 0..most {
            let phase = if is_timed { None } else { phases.admit(Duration::ZERO) };
            let job = Job { id, phase, due: None, is_last: id + 1 == most, request: (setup.request)(id) };
            if !feed.put(job, &floor.stop) {
                return;
            }
        }
        return;
    };
    let _ = floor.began.set(began);
    let arrivals = (0..most).zip(schedule).map(|(id, (offset, phase))| (id, phase, began + offset));
    let mut arrivals = arrivals.peekable();
    let mut handed_until = began;
    while let Some((id, phase, due)) = arrivals.next() {
        let mut goes_on = true;
        if due > handed_until {
            // at high rates it wakes for many jobs at once
            goes_on = setup.clock.wait_until(due.before(AHEAD), &floor.stop);
            handed_until = setup.clock.now() + 2 * AHEAD;
        }
        let mut job = || {
            let is_last = arrivals.peek().is_none();
            Job { id, phase: Some(phase), due: Some(due), is_last, request: (setup.request)(id) }
        };
        if !(goes_on && feed.put(job(), &floor.stop)) {
            tell_rest(std::iter::once((id, phase, due)).chain(arrivals), push, floor);
            return;
        }
    }
}

/// Tells of the arrivals that were due and can leave no more, of each of the first and of all the rest of a phase in one.
fn tell_rest(
    mut arrivals: impl Iterator<Item = (u64, Phase, Moment)>,
    push: &Sender<Record>,
    floor: &Floor<'_, '_>,
) {
    for (id, phase, due) in arrivals.by_ref().take(TOLD_APART) {
        if !floor.tell_not_sent(id, phase, due, push) {
            return;
        }
    }
    let stopped = floor.stopped();
    let mut rest: Option<Record> = None;
    for (id, phase, due) in arrivals.take_while(|(.., due)| *due <= stopped) {
        match &mut rest {
            Some(record) if record.phase == phase => {
                record.arrivals += 1;
                record.moments.due = due;
            }
            _ => {
                let before = rest.replace(Record::not_sent(id, phase, due, stopped));
                before.into_iter().for_each(|record| drop(push.send(record)));
            }
        }
    }
    rest.into_iter().for_each(|record| drop(push.send(record)));
}

/// Arrivals that a stop kept from leaving and that have a record each; more would only fill the disk.
const TOLD_APART: usize = 10_000;

/// How long before it is due a job is handed out at the latest; twice that at the earliest. Long enough for a worker to
/// wake up, and short enough that few workers sit and wait.
const AHEAD: Duration = Duration::from_millis(5);

/// One worker: a request at a time, until no job is left or the time is up.
fn work(
    seat: Seat<'_, Job>,
    push: &Sender<Record>,
    mut backend: Box<dyn Backend + '_>,
    floor: &Floor<'_, '_>,
    station: &Station,
    mut backoff: Option<Backoff>,
) {
    let setup = floor.setup;
    // whether it is granted was found out before
    if setup.priority == Priority::High && priority::raise_this_thread().is_ok() {
        floor.raised.fetch_add(1, Ordering::Relaxed);
    }
    let mut when_late = (setup.priority == Priority::WhenLate).then(|| WhenLate::new(setup.clock.now()));
    let mut pause = None;
    loop {
        // before a job is taken: those that are taken start in their order
        let paused = pause.take().and_then(|pause| floor.pause(pause, &seat));
        let Some((job, was_idle)) = seat.take() else { break };
        let now = setup.clock.now();
        // in a closed loop, one that was there when the pause was over was due then
        let was_due = job.due.or(paused.filter(|_| !was_idle));
        // a worker that was idle and woke up late was there all the same
        let taken = was_due.filter(|_| was_idle || paused.is_some()).map_or(now, |due| due.min(now));
        let goes_on = setup.clock.wait_until(job.due.unwrap_or(now), &floor.stop);
        if !goes_on || floor.given_up.get().is_some() {
            // a closed loop has nothing that waits
            let Some((due, phase)) = job.due.zip(job.phase) else { break };
            floor.tell_not_sent(job.id, phase, due, push);
            continue;
        }
        // an arrival is never dropped, however late; a closed loop has none
        let started = setup.clock.now();
        let Some(phase) = job.phase.or_else(|| floor.phases.lock().admit(since_origin(started))) else {
            // time has ended it
            let _ = floor.sent_all.set(started);
            break;
        };
        floor.begins(&job, started);
        let due = was_due.unwrap_or(started);
        floor.in_flight.fetch_add(1, Ordering::Relaxed);
        station.since.store(started.as_nanos(), Ordering::Relaxed);
        let record =
            attempt(&job, phase, (due, taken.min(started), started), backend.as_mut(), floor, station);
        station.since.store(Station::NONE, Ordering::Relaxed);
        floor.in_flight.fetch_sub(1, Ordering::Relaxed);
        if when_late.as_mut().is_some_and(|when_late| when_late.look(setup.clock.now())) {
            floor.raised.fetch_add(1, Ordering::Relaxed);
        }
        pause = backoff.as_mut().and_then(|backoff| backoff.after(&record));
        if push.send(record).is_err() {
            return;
        }
    }
}

/// Phases count from any fixed origin.
fn since_origin(moment: Moment) -> Duration {
    moment.since(Moment::default())
}

impl Floor<'_, '_> {
    /// A job is begun: the last to be begun, which need not be the last in order, ends the sending.
    fn begins(&self, job: &Job, now: Moment) {
        if job.is_last {
            let _ = self.jobs.set(job.id + 1);
        }
        let begun = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        if self.jobs.get().is_some_and(|jobs| begun >= *jobs) {
            let _ = self.sent_all.set(now);
        }
    }

    /// Adds what this thread waited for a core.
    fn note_run_queue(&self) {
        if let Some(own) = RunQueue::of_this_thread() {
            self.run_queue.lock().get_or_insert_default().add(own);
        }
    }

    /// Lets a worker pause, but not beyond the end of sending. Returns when the pause was to be over; `None` where there is
    /// nothing to pause for.
    fn pause(&self, pause: Duration, seat: &Seat<'_, Job>) -> Option<Moment> {
        let from = self.setup.clock.now();
        let until = self.sent_all().map_or(from + pause, |end| end.min(from + pause));
        if until <= from || seat.is_over() {
            return None;
        }
        self.setup.clock.wait_until(until, &self.stop);
        let paused = self.setup.clock.now().min(until).since(from);
        self.paused.fetch_add(u64::try_from(paused.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Some(until)
    }

    fn pulse(&self, now: Moment, began: Moment) -> Pulse {
        let stations = self.stations.iter();
        let token_events = stations.map(|station| station.token_events.load(Ordering::Relaxed)).sum();
        let since = self.stations.iter().map(|station| station.since.load(Ordering::Relaxed));
        let oldest = since.min().filter(|since| *since != Station::NONE).map(Moment::from_nanos);
        Pulse { now, began, in_flight: self.in_flight.load(Ordering::Relaxed), oldest, token_events }
    }

    /// When the run ended before all had left, at the first sight of that.
    fn stopped(&self) -> Moment {
        *self.stopped.get_or_init(|| self.setup.clock.now())
    }

    /// Tells of an arrival that the run's end kept from leaving. False where it was not due yet, which is no loss, or nobody
    /// listens.
    fn tell_not_sent(&self, id: u64, phase: Phase, due: Moment, push: &Sender<Record>) -> bool {
        let stopped = self.stopped();
        due <= stopped && push.send(Record::not_sent(id, phase, due, stopped)).is_ok()
    }

    /// From when on no request starts; `None` as long as that is not known.
    fn sent_all(&self) -> Option<Moment> {
        let known = self.sent_all.get().copied();
        known.or_else(|| Some(Moment::default() + self.phases.lock().end()?))
    }
}

/// Sends one request and writes down what happened.
fn attempt(
    job: &Job,
    phase: Phase,
    moments: (Moment, Moment, Moment),
    backend: &mut dyn Backend,
    floor: &Floor<'_, '_>,
    Station { token_events, .. }: &Station,
) -> Record {
    let setup = floor.setup;
    let mut intake = Intake::new(setup.dialect, setup.save_responses);
    let before = token_events.load(Ordering::Relaxed);
    let exchange = backend.stream(&job.request, &mut |chunk| {
        intake.take(chunk);
        token_events.store(before + intake.token_events(), Ordering::Relaxed);
    });
    let mut record = intake.into_record(job.id, phase, moments, exchange, setup.clock.now());
    record.stood_still = setup.beats.stood_still(record.moments.started, record.moments.end);
    if let Some(response) = &mut record.response {
        response.redact(setup.secrets);
    }
    if let Some(reason) = &mut record.finish_reason {
        reason.redact(setup.secrets);
    }
    for (name, _) in &mut record.server_timings {
        *name = redacted(name, setup.secrets);
    }
    if setup.fail_on_length && record.is_success() && record.finish_reason == Some(FinishReason::Length) {
        record.outcome = Outcome::Failed(Failure::new(FailureKind::TokenLimit, "finish_reason is 'length'"));
    }
    if let Outcome::Failed(failure) = &mut record.outcome {
        if let Some(kind) = floor.given_up.get().filter(|_| !failure.kind.is_told_by_server()) {
            // how the connection ended then is this client's doing too, and no fact of the server
            let until = match (record.moments.sent, record.moments.first_byte) {
                (None, _) => "given up while connecting".to_owned(),
                (Some(_), None) => "given up before a reply came".to_owned(),
                (Some(_), Some(_)) => format!("given up after {}", show_counted(record.events, "event")),
            };
            *failure = Failure::new(*kind, until);
        }
        failure.message = redacted(&failure.message, setup.secrets);
    }
    record
}

/// Gives every record to every sink, and a pulse in between, until the last worker has gone. Ends requests under way
/// when their grace is over.
fn collect(
    records: &Receiver<Record>,
    floor: &Floor<'_, '_>,
    grace: &mut Grace,
    sinks: &mut [&mut dyn Sink],
) {
    let clock = floor.setup.clock;
    let began = clock.now();
    let mut next_look = began;
    let mut next_pulse = began + PULSE;
    loop {
        let wait = next_look.since(clock.now()).min(PULSE);
        floor.backlog.fetch_max(records.len(), Ordering::Relaxed);
        match records.recv_timeout(wait) {
            Ok(record) => {
                log_record(&record);
                sinks.iter_mut().for_each(|sink| sink.record(&record));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = clock.now();
        if now >= next_look {
            next_look = (now + PULSE).min(grace.look(now, floor).unwrap_or(Moment::from_nanos(u64::MAX)));
        }
        if now >= next_pulse {
            next_pulse = now + PULSE;
            let pulse = floor.pulse(now, began);
            sinks.iter_mut().for_each(|sink| sink.pulse(&pulse));
        }
    }
}

/// Details for those who ask for them; costs nothing otherwise.
fn log_record(record: &Record) {
    if !log::log_enabled!(log::Level::Debug) {
        return;
    }
    let outcome = record.failure().map_or("ok".to_owned(), ToString::to_string);
    log::debug!(
        "request {}: {outcome}; status {:?}, TTFT {:?}, E2E {:?}, {:?} output tokens in {} events",
        record.id,
        record.status,
        record.ttft(),
        record.e2e(),
        record.usage.output_tokens,
        record.events
    );
}

/// Time between two pulses.
const PULSE: Duration = Duration::from_millis(200);
