//! Time: moments of a run, waiting for them, and the one place that reads the machine's clocks.
//!
//! Everything that waits does so through a [`Clock`], so that a stop wakes it and a test moves time by hand.

use std::convert::Infallible;
use std::ops::Add;
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds on the monotonic clock since this process first asked for the time.
///
/// Moments of one process compare and subtract; moments of two processes do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// The moment `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment so long before this one; the origin where there is none.
    pub const fn before(self, span: Duration) -> Self {
        let nanos = span.as_nanos();
        Self(if nanos > self.0 as u128 { 0 } else { self.0 - nanos as u64 })
    }

    /// Time from `earlier` to this moment; zero where `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// When something came in, as far as that is known: no later than `at`, no earlier than `earliest`.
///
/// The two are one moment where the kernel stamped the bytes apart from those behind them; they part where this client
/// read late, and found joined what came apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// The latest that it can have been; what is reported.
    pub at: Moment,
    /// The earliest that it can have been.
    pub earliest: Moment,
}

impl Arrival {
    /// A moment that is known.
    pub const fn exact(at: Moment) -> Self {
        Self { at, earliest: at }
    }

    /// How much earlier it may have been, in microseconds, rounded up; 0 where it is known.
    pub fn early_us(&self) -> u32 {
        let early = self.at.since(self.earliest).as_nanos().div_ceil(1_000);
        u32::try_from(early).unwrap_or(u32::MAX)
    }

    /// A moment between two. What differs by less than [`RESOLUTION`] is known.
    pub fn between(earliest: Moment, at: Moment) -> Self {
        if at.since(earliest) < RESOLUTION { Self::exact(at) } else { Self { at, earliest } }
    }
}

/// To this times are known where they are called exact: what lies between two readings of a clock around one system
/// call.
pub const RESOLUTION: Duration = Duration::from_micros(100);

/// Tells the time of the run and waits for moments to come.
pub trait Clock: Sync {
    /// The present moment.
    fn now(&self) -> Moment;

    /// Sleeps until `due`. False if the stop came first; true at once when `due` has passed and nobody said stop.
    fn wait_until(&self, due: Moment, stop: &Stop) -> bool;
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let origin = *ORIGIN;
        // 584 years fit
        Moment(origin.elapsed().as_nanos() as u64)
    }

    fn wait_until(&self, due: Moment, stop: &Stop) -> bool {
        let now = self.now();
        if due <= now {
            return !stop.requested();
        }
        stop.begun.recv_timeout(due.since(now)) == Err(RecvTimeoutError::Timeout)
    }
}

/// A clock that moves only when told to: for tests of whatever takes a [`Clock`].
#[derive(Debug, Default)]
pub struct ManualClock {
    now: Mutex<Moment>,
    moved: Condvar,
}

impl ManualClock {
    /// Moves time forward and wakes whoever waited for a moment that has now come.
    pub fn advance(&self, step: Duration) {
        let mut now = self.now.lock();
        *now = *now + step;
        self.moved.notify_all();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        *self.now.lock()
    }

    fn wait_until(&self, due: Moment, stop: &Stop) -> bool {
        let mut now = self.now.lock();
        while *now < due {
            if stop.requested() {
                return false;
            }
            // real time, only to look at the stop again
            self.moved.wait_for(&mut now, Duration::from_millis(5));
        }
        !stop.requested()
    }
}

/// The waiting side of a stop. Cheap to clone; every clone sees the stop.
#[derive(Clone, Debug)]
pub struct Stop {
    begun: Receiver<Infallible>,
    urged: Receiver<Infallible>,
    lines: Arc<Mutex<Lines>>,
}

/// The side that asks for the stop: gently by [`begin`](Stopper::begin), at once by [`stop`](Stopper::stop) or by
/// being dropped.
#[derive(Debug)]
pub struct Stopper(Arc<Mutex<Lines>>);

/// What is hung up to stop: both sides of a pair hold it, and a pair knows those that are parts of it.
#[derive(Debug)]
struct Lines {
    begin: Option<Sender<Infallible>>,
    urge: Option<Sender<Infallible>>,
    parts: Vec<Weak<Mutex<Lines>>>,
}

/// A fresh pair: nothing is stopped until the [`Stopper`] says so or goes.
pub fn stop_pair() -> (Stopper, Stop) {
    let ((begin, begun), (urge, urged)) = (bounded(0), bounded(0));
    let lines = Lines { begin: Some(begin), urge: Some(urge), parts: Vec::new() };
    let lines = Arc::new(Mutex::new(lines));
    (Stopper(Arc::clone(&lines)), Stop { begun, urged, lines })
}

impl Lines {
    fn hang_up(&mut self, urgently: bool) {
        self.begin = None;
        if urgently {
            self.urge = None;
        }
        for part in self.parts.iter().filter_map(Weak::upgrade) {
            part.lock().hang_up(urgently);
        }
    }
}

impl Stop {
    /// Whether the stop has come, gently or not: nothing new is to be begun.
    pub fn requested(&self) -> bool {
        is_closed(&self.begun)
    }

    /// Whether the stop is to be at once: what is under way is not to be waited for either.
    pub fn is_urgent(&self) -> bool {
        is_closed(&self.urged)
    }

    /// Sleeps for `wait`. False if the stop came first.
    pub fn sleep(&self, wait: Duration) -> bool {
        self.begun.recv_timeout(wait) == Err(RecvTimeoutError::Timeout)
    }

    /// A fresh pair for a part of what this stops: stopped by its own stopper, and at once with the whole.
    pub fn part(&self) -> (Stopper, Self) {
        let (stopper, stop) = stop_pair();
        let mut whole = self.lines.lock();
        if whole.begin.is_none() {
            stop.lines.lock().hang_up(whole.urge.is_none());
        }
        whole.parts.retain(|part| part.strong_count() > 0);
        whole.parts.push(Arc::downgrade(&stop.lines));
        (stopper, stop)
    }

    /// The channel that closes at the stop, for use in `select!`.
    pub fn channel(&self) -> &Receiver<Infallible> {
        &self.begun
    }
}

fn is_closed(channel: &Receiver<Infallible>) -> bool {
    channel.try_recv() == Err(TryRecvError::Disconnected)
}

impl Stopper {
    /// Asks for a gentle stop: what is under way may end in its time.
    pub fn begin(&mut self) {
        self.0.lock().hang_up(false);
    }

    /// Asks for a stop at once.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.0.lock().hang_up(true);
    }
}

/// Maps the kernel's stamps, which are of the wall clock, to moments.
///
/// The two clocks run alike; only steps of the wall clock part them. Each stamp is held to the wall clock as it stands, so
/// a step shows, and what was stamped around one lies between two moments or is known to be on one side of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelClock {
    /// When the clocks were last compared, and the wall clock's time at the origin of moments, ns since 1970.
    compared: Option<(Moment, i128)>,
}

/// Two readings one after the other are so close together, or else the thread lost its core between them.
const READING_ERROR: i128 = 20_000;
/// Comparing the clocks errs by less; a stamp that far outside of what is possible is at its edge.
const STAMP_ERROR: i128 = 100_000;

impl KernelClock {
    /// When it was that the kernel stamped something with this time since 1970, that came after `after` and was read at
    /// `read`, which is the present. `None` for a stamp that no moment between the two explains.
    pub fn arrival(&mut self, stamp: Duration, after: Moment, read: Moment) -> Option<Arrival> {
        self.origins_at(read).arrival(stamp, after, read)
    }

    /// What the wall clock shows by now, which is the present, and showed before a step: for many stamps at once.
    pub fn origins_at(&mut self, now: Moment) -> Origins {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (present, stepped_from) = self.origins(wall.as_nanos() as i128, now, wall_clock_at_origin);
        Origins { present, stepped_from }
    }

    /// The wall clock's time at the origin of moments by what it shows now, and by what it showed before a step.
    fn origins(&mut self, wall: i128, now: Moment, compare: impl FnOnce() -> i128) -> (i128, Option<i128>) {
        let roughly = wall - i128::from(now.0);
        if let Some((_, origin)) =
            self.compared.filter(|(_, origin)| (roughly - origin).abs() < READING_ERROR)
        {
            return (origin, None);
        }
        let origin = compare();
        let stepped_from = self.compared.and_then(|(at, before)| {
            // a clock that is slewed to the right time gains or loses at most this
            let slewed = STAMP_ERROR + now.since(at).as_nanos() as i128 / 1_000;
            ((origin - before).abs() > slewed).then_some(before)
        });
        self.compared = Some((now, origin));
        (origin, stepped_from)
    }
}

/// The wall clock's time at the origin of moments: as it stands, and as it stood before a step.
#[derive(Clone, Copy, Debug)]
pub struct Origins {
    present: i128,
    stepped_from: Option<i128>,
}

impl Origins {
    /// As [`KernelClock::arrival`].
    pub fn arrival(self, stamp: Duration, after: Moment, read: Moment) -> Option<Arrival> {
        let stamp = stamp.as_nanos() as i128;
        let now = possible(stamp - self.present, after, read);
        let before = self.stepped_from.and_then(|origin| possible(stamp - origin, after, read));
        let (first, second) = (now.or(before)?, before.or(now)?);
        Some(Arrival::between(first.min(second), first.max(second)))
    }
}

/// `nanos` since the origin, as a moment between these two; `None` if it lies outside by more than an error of reading.
fn possible(nanos: i128, after: Moment, until: Moment) -> Option<Moment> {
    let (after, until) = (i128::from(after.0), i128::from(until.0));
    let is_possible = (after - STAMP_ERROR..=until + STAMP_ERROR).contains(&nanos);
    is_possible.then(|| Moment(u64::try_from(nanos.max(after).min(until)).unwrap_or_default()))
}

/// The wall clock's time at the origin of moments: the tightest of five readings of both clocks.
fn wall_clock_at_origin() -> i128 {
    let reading = || {
        let before = SystemClock.now().0;
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let width = SystemClock.now().0 - before;
        (width, wall.as_nanos() as i128 - i128::from(before + width / 2))
    };
    (0..5).map(|_| reading()).min_by_key(|(width, _)| *width).map_or(0, |(_, origin)| origin)
}

/// What threads that could run waited for a core (Linux `schedstat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunQueue {
    /// Time waited, over all turns.
    pub waited: Duration,
    /// Turns on a core.
    pub turns: u64,
}

impl RunQueue {
    /// What the calling thread has waited since it began; `None` where the system does not say.
    pub fn of_this_thread() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
    }

    /// What a `schedstat` file says: time on a core, time waiting for one (both in ns) and turns. `None` for another text.
    pub fn parse(schedstat: &str) -> Option<Self> {
        let mut numbers = schedstat.split_whitespace().skip(1).map_while(|number| number.parse().ok());
        Some(Self { waited: Duration::from_nanos(numbers.next()?), turns: numbers.next()? })
    }

    /// Adds what another thread waited.
    pub fn add(&mut self, other: Self) {
        self.waited += other.waited;
        self.turns += other.turns;
    }

    /// Mean wait before a turn; `None` without turns.
    pub fn mean_wait(self) -> Option<Duration> {
        (self.turns > 0).then(|| self.waited.div_f64(self.turns as f64))
    }
}

impl Add<Duration> for Date {
    type Output = Self;

    /// The date so much later; the same where there is none.
    fn add(self, wait: Duration) -> Self {
        Self(self.0.checked_add(wait).unwrap_or(self.0))
    }
}

/// A date of the wall clock, UTC. Labels results; never measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(jiff::Timestamp);

impl Date {
    /// The present date.
    pub fn now() -> Self {
        Self(SystemTime::now().try_into().unwrap_or(jiff::Timestamp::UNIX_EPOCH))
    }

    /// Reads a date in the form of [`rfc3339`](Self::rfc3339); `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    /// Reads a date of an HTTP header, such as `Sun, 06 Nov 1994 08:49:37 GMT`; `None` if it is none.
    pub fn parse_http(text: &str) -> Option<Self> {
        let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Self(date))
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(self) -> i64 {
        self.0.as_millisecond()
    }

    /// RFC 3339 in whole milliseconds, such as `2026-11-24T05:51:13.042Z`.
    pub fn rfc3339(self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
    }

    /// The form for file names, such as `20261124T055113Z`.
    pub fn compact(self) -> String {
        self.0.strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    /// The form of vLLM's results, such as `20261124-055113`.
    pub fn vllm(self) -> String {
        self.0.strftime("%Y%m%d-%H%M%S").to_string()
    }

    /// The form of HTTP's headers (RFC 9110, section 5.6.7), such as `Tue, 24 Nov 2026 05:51:13 GMT`.
    pub fn http(self) -> String {
        self.0.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    /// Seconds since 1970, with fractions.
    pub fn unix_seconds(self) -> f64 {
        self.0.as_millisecond() as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_goes_forward() {
        let clock = SystemClock;
        let first = clock.now();
        let (_stopper, stop) = stop_pair();
        assert!(clock.wait_until(first + Duration::from_millis(2), &stop));
        assert!(clock.now().since(first) >= Duration::from_millis(2));
    }

    #[test]
    fn a_stop_ends_a_wait() {
        let (stopper, stop) = stop_pair();
        assert!(!stop.requested());
        stopper.stop();
        assert!(stop.requested());
        assert!(!SystemClock.wait_until(SystemClock.now() + Duration::from_secs(3600), &stop));
        assert!(!ManualClock::default().wait_until(Moment::from_nanos(1), &stop));
        assert!(!stop.sleep(Duration::from_secs(3600)));
    }

    #[test]
    fn a_gentle_stop_can_be_followed_by_an_urgent_one() {
        let (mut stopper, stop) = stop_pair();
        stopper.begin();
        assert_eq!((stop.requested(), stop.is_urgent()), (true, false));
        stopper.stop();
        assert_eq!((stop.requested(), stop.is_urgent()), (true, true));
    }

    #[test]
    fn a_part_stops_with_the_whole_and_not_the_other_way_round() {
        let seen = |stop: &Stop| (stop.requested(), stop.is_urgent());
        let (mut whole, stop) = stop_pair();
        let (mut first, first_stop) = stop.part();
        let (_second, second_stop) = stop.part();
        first.begin();
        assert_eq!(
            [&stop, &first_stop, &second_stop].map(seen),
            [(false, false), (true, false), (false, false)]
        );
        let (_inner, inner_stop) = second_stop.part();
        whole.begin();
        assert_eq!([&second_stop, &inner_stop, &stop.part().1].map(seen), [(true, false); 3]);
        whole.stop();
        assert_eq!([&first_stop, &second_stop, &inner_stop].map(seen), [(true, true); 3]);
    }

    #[test]
    fn a_manual_clock_wakes_who_waits() {
        let clock = ManualClock::default();
        let (_stopper, stop) = stop_pair();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| clock.wait_until(Moment::from_nanos(10), &stop));
            clock.advance(Duration::from_nanos(10));
            assert!(waiter.join().expect("the waiter does not panic"));
        });
        assert_eq!(clock.now(), Moment::from_nanos(10));
    }

    #[test]
    fn a_stamp_lies_between_what_came_before_and_its_read() {
        let (after, read) = (Moment(10_000_000), Moment(20_000_000));
        for (nanos, want) in [
            (19_999_000, Some(19_999_000)),
            (20_050_000, Some(20_000_000)),
            (20_200_000, None),
            (9_950_000, Some(10_000_000)),
            (9_800_000, None),
            (-1, None),
        ] {
            assert_eq!(possible(nanos, after, read), want.map(Moment), "{nanos}");
        }
    }

    /// The origins of a clock that was last compared at 1 s, with the origin 500 s, and is read at 2 s.
    fn origins(wall_ms: i128, compared_ms: i128) -> (i128, Option<i128>) {
        let ms = |ms: i128| ms * 1_000_000;
        let mut clock = KernelClock { compared: Some((Moment(1_000_000_000), ms(500_000))) };
        let (now, before) = clock.origins(ms(wall_ms), Moment(2_000_000_000), || ms(compared_ms));
        (now / ms(1), before.map(|before| before / ms(1)))
    }

    #[test]
    fn a_step_of_the_wall_clock_shows() {
        assert_eq!(origins(502_000, 0), (500_000, None), "nothing has happened, and nothing is compared");
        assert_eq!(origins(501_980, 499_980), (499_980, Some(500_000)), "set back by 20 ms");
        assert_eq!(origins(502_500, 500_500), (500_500, Some(500_000)), "set forward by half a second");
        assert_eq!(
            origins(502_500, 500_000),
            (500_000, None),
            "the thread lost its core between two readings"
        );
        assert_eq!(origins(502_001, 500_001), (500_001, None), "slewed");
    }

    #[test]
    fn a_stamp_from_around_a_step_is_bounded() {
        let now = SystemClock.now() + Duration::from_secs(10);
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        // the clock was set forward by 20 s since it was last compared
        let origin = wall_clock_at_origin() - 20_000_000_000;
        let mut clock = KernelClock { compared: Some((Moment(0), origin)) };
        let arrival =
            clock.arrival(wall, Moment(0), now + Duration::from_secs(30)).expect("both are possible");
        assert!(
            arrival.at.since(arrival.earliest).abs_diff(Duration::from_secs(20)) < Duration::from_millis(100)
        );
        // and now it is known
        let arrival = clock.arrival(wall, Moment(0), now + Duration::from_secs(30)).expect("possible");
        assert_eq!(arrival.at, arrival.earliest);
    }

    #[test]
    fn waiting_for_a_core_is_a_mean_over_turns() {
        let mut queue = RunQueue::parse("500 3000 2\n").expect("three numbers");
        queue.add(RunQueue::parse("0 1000 2").expect("three numbers"));
        assert_eq!(queue.mean_wait(), Some(Duration::from_nanos(1000)));
        assert_eq!(RunQueue::default().mean_wait(), None);
        assert_eq!(RunQueue::parse("500 3000"), None);
        assert_eq!(RunQueue::parse("a b c"), None);
    }

    #[test]
    fn http_dates_have_the_day_of_the_week_and_english_months() {
        for (date, want) in [
            ("1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("1994-11-06T08:49:37.999Z", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ] {
            assert_eq!(Date::parse(date).expect(date).http(), want);
        }
    }

    #[test]
    fn an_earlier_moment_has_no_negative_distance() {
        let (early, late) = (Moment::from_nanos(5), Moment::from_nanos(9));
        assert_eq!(late.since(early), Duration::from_nanos(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
