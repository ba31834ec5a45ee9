//! Whether this client could run at all: a thread that wakes up some hundred times a second and notes when it did not.
//!
//! A process that is stopped, a machine that is paused, a container over its quota: none of its threads runs, so none of
//! them is late by its own account. This one is, by the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::clock::{Clock, Moment, SystemClock};
use crate::priority;

/// Beats for as long as it lives.
#[derive(Debug)]
pub struct Heartbeat {
    beats: Beats,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the beats have shown so far. Cheap to clone; every clone sees the same.
#[derive(Clone, Debug, Default)]
pub struct Beats(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Moment of the last beat, ns; 0 before the first and after the last.
    last: AtomicU64,
    /// End of the last standstill, ns; 0 if there was none.
    until: AtomicU64,
    standstills: Mutex<Vec<Standstill>>,
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
/// A beat that is so late was kept from running. A busy machine delays a thread that runs like all others by some ms.
const LATE: Duration = Duration::from_millis(10);
/// Standstills that are remembered one by one.
const MOST: usize = 10_000;

impl Heartbeat {
    /// Begins to beat. Where the system has no thread for it, nothing is noted.
    pub fn start() -> Self {
        let beats = Beats::default();
        let (end, ended) = bounded::<()>(0);
        let noted = beats.clone();
        let body = move || {
            // so that what it notes is a standstill of all, and not its own turn in the queue
            let _ = priority::raise_this_thread();
            noted.beat(SystemClock.now());
            while ended.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                noted.beat(SystemClock.now());
            }
        };
        let thread = thread::Builder::new().name("heartbeat".to_owned()).spawn(body);
        Self { beats, end: Some(end), thread: thread.ok() }
    }

    /// What it notes.
    pub fn beats(&self) -> Beats {
        self.beats.clone()
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.beats.0.last.store(0, Ordering::Release);
    }
}

impl Beats {
    fn beat(&self, now: Moment) {
        let last = Moment::from_nanos(self.0.last.load(Ordering::Relaxed));
        if last > Moment::default() && now.since(last) > BEAT + LATE {
            let mut standstills = self.0.standstills.lock();
            if standstills.len() < MOST {
                standstills.push(Standstill { from: last, until: now });
            }
            self.0.until.store(now.as_nanos(), Ordering::Release);
        }
        self.0.last.store(now.as_nanos(), Ordering::Release);
    }

    /// How long this client may have stood still between two moments, of which the later is the present: what was noted, and
    /// a beat that is overdue.
    pub fn stood_still(&self, from: Moment, now: Moment) -> Duration {
        let last = Moment::from_nanos(self.0.last.load(Ordering::Acquire));
        if last == Moment::default() {
            return Duration::ZERO;
        }
        let overdue = if now.since(last) > BEAT + LATE { now.since(last.max(from)) } else { Duration::ZERO };
        if self.0.until.load(Ordering::Acquire) <= from.as_nanos() {
            return overdue;
        }
        let standstills = self.0.standstills.lock();
        let noted = standstills.iter().rev().take_while(|one| one.until > from);
        noted.map(|one| one.until.since(one.from.max(from))).sum::<Duration>() + overdue
    }

    /// All that was noted, in order.
    pub fn standstills(&self) -> Vec<Standstill> {
        self.0.standstills.lock().clone()
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
        for beat in [100, 105, 111, 411, 416, 420, 500] {
            beats.beat(at(beat));
        }
        let want =
            [(111, 411), (420, 500)].map(|(from, until)| Standstill { from: at(from), until: at(until) });
        assert_eq!(beats.standstills(), want);
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
        assert_eq!(beats.stood_still(at(50), at(400)), ms(300));
        assert_eq!(beats.stood_still(at(350), at(400)), ms(50));
    }

    #[test]
    fn without_a_heart_nothing_is_said() {
        assert_eq!(Beats::default().stood_still(at(0), at(1_000_000)), ms(0));
        let heart = Heartbeat::start();
        let beats = heart.beats();
        drop(heart);
        assert_eq!(beats.stood_still(at(1), at(1 << 40)), ms(0));
    }
}
