//! How late the calling thread can have been, by the system's own account of it.
//!
//! A thread that waits for bytes sleeps until they come. From then on it waits for a core, runs, or stands still with the
//! whole process; the system counts the first two (Linux `schedstat`), a heartbeat the third. So what it reads cannot have
//! come longer ago than all three together.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::clock::{Clock, Moment, RESOLUTION, RunQueue, SystemClock};
use crate::heartbeat::Beats;

/// What the system has counted for one thread.
#[derive(Debug)]
struct Account {
    /// `None` where the system keeps no such account.
    schedstat: Option<File>,
    /// The last look.
    looked: Look,
    /// Reads since then.
    reads: u32,
}

/// A look at the account.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    at: Moment,
    /// Time on a core and waiting for one, since the thread began.
    busy: Duration,
}

/// A look costs a microsecond, so it is taken only every so many reads. What was waited in them all counts as if it were
/// in the last.
const READS: u32 = 64;
/// Nor more often than this between two requests.
const FRESH: Duration = Duration::from_millis(20);
/// From the stamp of the bytes to the waking of who waits for them, and what no account has: interrupts, and what the
/// hypervisor takes.
const SLACK: Duration = Duration::from_micros(300);
/// A thread that slept for less may not have slept at all.
const ASLEEP: Duration = Duration::from_micros(500);

thread_local! {
    static ACCOUNT: RefCell<Option<Account>> = const { RefCell::new(None) };
}

fn with<R>(f: impl FnOnce(&mut Account) -> R) -> R {
    ACCOUNT.with_borrow_mut(|account| f(account.get_or_insert_with(Account::open)))
}

/// Whether the system keeps such an account.
pub fn is_known() -> bool {
    with(|account| account.counted().is_some())
}

/// This thread is about to send a request.
pub fn begins(now: Moment) {
    with(|account| {
        if now.since(account.looked.at) > FRESH {
            account.look();
        }
    });
}

/// This thread is about to read: what it is going to wait from now on is new.
pub fn reads() {
    with(|account| {
        account.reads += 1;
        if account.reads >= READS {
            account.look();
        }
    });
}

/// Looks in any case.
pub fn look() {
    with(Account::look);
}

/// Time on a core, waiting for one or standing still since the last look, or more. `None` where that is not known.
pub fn busy(now: Moment, beats: &Beats) -> Option<Duration> {
    with(|account| {
        let Look { at, busy } = account.looked;
        Some(account.counted()?.saturating_sub(busy) + beats.may_have_stood(at, now) + SLACK)
    })
}

/// The earliest moment at which this thread can have been woken in a call that began no later than `called` and was over at
/// `now`: what it read there came no earlier. `None` where it may not have slept in that call, so that what it read may have
/// been there before.
pub fn woken(called: Moment, now: Moment, beats: &Beats) -> Option<Moment> {
    let busy = busy(now, beats)?;
    look();
    woken_by(called, now, busy)
}

fn woken_by(called: Moment, now: Moment, busy: Duration) -> Option<Moment> {
    let all = now.since(called);
    let asleep = all.saturating_sub(busy);
    (asleep > ASLEEP.max(all / 10)).then(|| now.before(busy))
}

impl Account {
    /// That of the calling thread.
    fn open() -> Self {
        let schedstat = File::open("/proc/thread-self/schedstat").ok();
        let mut account = Self { schedstat, looked: Look::default(), reads: 0 };
        account.look();
        account
    }

    fn look(&mut self) {
        self.reads = 0;
        self.looked = Look { busy: self.counted().unwrap_or_default(), at: SystemClock.now() };
    }

    /// Time on a core and waiting for one.
    fn counted(&self) -> Option<Duration> {
        let mut text = [0; 96];
        let length = self.schedstat.as_ref()?.read_at(&mut text, 0).ok()?;
        // a kernel that keeps no account says 0 turns of a thread that runs
        let RunQueue { waited, turns } = RunQueue::parse(std::str::from_utf8(&text[..length]).ok()?)?;
        if turns == 0 {
            return None;
        }
        // schedstat has that too, but not the present turn
        let ran = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?);
        Some(waited + ran)
    }
}

/// Whether a difference between two moments is worth asking for.
pub fn matters(difference: Duration) -> bool {
    difference >= RESOLUTION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_slept_was_woken_no_longer_ago_than_it_was_busy() {
        let (at, ms) = (|ms: u64| Moment::from_nanos(ms * 1_000_000), Duration::from_millis);
        assert_eq!(woken_by(at(100), at(150), ms(5)), Some(at(145)));
        assert_eq!(woken_by(at(100), at(150), ms(44)), Some(at(106)));
        // it may never have slept
        assert_eq!(woken_by(at(100), at(150), ms(46)), None);
        assert_eq!(woken_by(at(100), at(150), ms(400)), None);
        assert_eq!(woken_by(at(100), at(101), Duration::from_micros(600)), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_a_thread_does_is_on_its_account() {
        let ran = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has it"));
        look();
        let before = ran();
        while ran() - before < Duration::from_millis(2) {}
        let busy = busy(SystemClock.now(), &Beats::default()).expect("Linux keeps it");
        assert!(is_known() && busy >= Duration::from_millis(2), "{busy:?}");
    }
}
