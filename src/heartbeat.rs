//! Whether this client could run at all: a thread that wakes up some hundred times a second and notes when it did not.
//!
//! A process that is stopped, a machine that is paused, a container over its quota: none of its threads runs, so none of
//! them is late by its own account. This one is, by the clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Moment, SystemClock};
use crate::priority;

/// Beats for as long as it lives.
#[derive(Debug)]
pub struct Heartbeat {
    beats: Beats,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the beats have shown so far. Cheap to clone; every clone sees the same.
#[derive(Clone, Debug, Default)]
pub struct Beats(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Moment of the last beat, ns; 0 before the first and after the last.
    last: AtomicU64,
    /// End of the last slip, ns; 0 if there was none.
    until: AtomicU64,
    slips: Mutex<Slips>,
}

/// Beats that came late.
#[derive(Debug, Default)]
struct Slips {
    /// The newest of them, of any length.
    recent: VecDeque<Standstill>,
    /// Those that are long enough to be told, in order; the first `MOST`.
    standstills: Vec<Standstill>,
    /// How long they lasted in all, those that are not kept included.
    all: Duration,
}

/// A time in which this client did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standstill {
    /// The last beat before it.
    pub from: Moment,
    /// The first beat behind it.
    pub until: Moment,
}

/// From one beat to the next.
const BEAT: Duration = Duration::from_millis(5);
/// A beat that is so late was kept from running, if only by its own turn in the queue.
const SLIP: Duration = Duration::from_millis(1);
/// One that is so late is told. A busy machine delays a thread that runs like all others by some ms.
const LATE: Duration = Duration::from_millis(10);
/// Standstills that are remembered one by one, and the newest slips.
const MOST: usize = 10_000;

impl Heartbeat {
    /// Begins to beat. Where the system has no thread for it, nothing is noted.
    pub fn start() -> Self {
        let beats = Beats::default();
        let is_over = Arc::<AtomicBool>::default();
        let (ended, noted) = (Arc::clone(&is_over), beats.clone());
        let body = move || {
            // so that what it notes is a standstill of all, and not its own turn in the queue
            let _ = priority::raise_this_thread();
            noted.beat(SystemClock.now());
            // a channel would look again and again before it sleeps, which costs more than all else here
            while !ended.load(Ordering::Relaxed) {
                thread::park_timeout(BEAT);
                noted.beat(SystemClock.now());
            }
        };
        let thread = thread::Builder::new().name("heartbeat".to_owned()).spawn(body);
        Self { beats, is_over, thread: thread.ok() }
    }

    /// What it notes.
    pub fn beats(&self) -> Beats {
        self.beats.clone()
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        self.beats.0.last.store(0, Ordering::Release);
    }
}

impl Beats {
    fn beat(&self, now: Moment) {
        let last = Moment::from_nanos(self.0.last.load(Ordering::Relaxed));
        let (since, one) = (now.since(last), Standstill { from: last, until: now });
        if last > Moment::default() && since > BEAT + SLIP {
            let mut slips = self.0.slips.lock();
            if slips.recent.len() >= MOST {
                slips.recent.pop_front();
            }
            slips.recent.push_back(one);
            if since > BEAT + LATE {
                slips.all += since;
                if slips.standstills.len() < MOST {
                    slips.standstills.push(one);
                }
            }
            self.0.until.store(now.as_nanos(), Ordering::Release);
        }
        self.0.last.store(now.as_nanos(), Ordering::Release);
    }

    /// How long this client may have stood still between two moments, of which the later is the present: what was noted,
    /// however short, and a beat that is overdue.
    pub fn may_have_stood(&self, from: Moment, now: Moment) -> Duration {
        self.slipped(from, now, SLIP)
    }

    /// How long this client stood still between two moments, of which the later is the present: what is long enough to be
    /// told.
    pub fn stood_still(&self, from: Moment, now: Moment) -> Duration {
        self.slipped(from, now, LATE)
    }

    fn slipped(&self, from: Moment, now: Moment, by: Duration) -> Duration {
        let last = Moment::from_nanos(self.0.last.load(Ordering::Acquire));
        if last == Moment::default() {
            return Duration::ZERO;
        }
        let overdue = if now.since(last) > BEAT + by { now.since(last.max(from)) } else { Duration::ZERO };
        if self.0.until.load(Ordering::Acquire) <= from.as_nanos() {
            return overdue;
        }
        let slips = self.0.slips.lock();
        let noted = slips.recent.iter().rev().take_while(|one| one.until > from);
        let noted = noted.filter(|one| one.until.since(one.from) > BEAT + by);
        noted.map(|one| one.until.since(one.from.max(from))).sum::<Duration>() + overdue
    }

    /// Standstills in order; the first ten thousand.
    pub fn standstills(&self) -> Vec<Standstill> {
        self.0.slips.lock().standstills.clone()
    }

    /// How long all standstills lasted; `None` where nothing beats.
    pub fn stood_in_all(&self) -> Option<Duration> {
        let is_beating = self.0.last.load(Ordering::Acquire) > 0;
        is_beating.then(|| self.0.slips.lock().all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_gap_between_beats_is_a_standstill() {
        let beats = Beats::default();
        // 6 and 5 ms are in time, 8 ms are a slip
        for beat in [87, 92, 100, 105, 111, 411, 416, 420, 500] {
            beats.beat(at(beat));
        }
        let want =
            [(111, 411), (420, 500)].map(|(from, until)| Standstill { from: at(from), until: at(until) });
        assert_eq!(beats.standstills(), want);
        assert_eq!(beats.stood_in_all(), Some(ms(380)));
        assert_eq!(beats.may_have_stood(at(92), at(505)), ms(388));
        for (from, now, want) in
            [(0, 505, 380), (111, 505, 380), (300, 505, 191), (411, 505, 80), (500, 505, 0)]
        {
            assert_eq!(beats.stood_still(at(from), at(now)), ms(want), "from {from} to {now}");
        }
    }

    #[test]
    fn a_beat_that_is_overdue_counts_before_it_comes() {
        let beats = Beats::default();
        beats.beat(at(100));
        assert_eq!(beats.stood_still(at(50), at(115)), ms(0));
        assert_eq!(beats.may_have_stood(at(50), at(115)), ms(15));
        assert_eq!(beats.stood_still(at(50), at(400)), ms(300));
        assert_eq!(beats.stood_still(at(350), at(400)), ms(50));
    }

    #[test]
    fn without_a_heart_nothing_is_said() {
        assert_eq!(Beats::default().stood_still(at(0), at(1_000_000)), ms(0));
        let heart = Heartbeat::start();
        let beats = heart.beats();
        drop(heart);
        assert_eq!((beats.stood_still(at(1), at(1 << 40)), beats.stood_in_all()), (ms(0), None));
    }
}
