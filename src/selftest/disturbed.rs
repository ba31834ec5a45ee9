//! What keeps a client from its work: other work on all cores, and stops of the whole process.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::RngExt;

use crate::random::{self, Purpose};

/// Threads of this process that do nothing, as fast as they can, for as long as this lives.
pub struct Busy {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    /// So many threads.
    ///
    /// # Errors
    /// When the system has no thread for one; in words.
    pub fn start(threads: usize) -> Result<Self, String> {
        let mut busy = Self { is_over: Arc::default(), threads: Vec::with_capacity(threads) };
        for _ in 0..threads {
            let is_over = Arc::clone(&busy.is_over);
            let spin = move || while !is_over.load(Ordering::Relaxed) {};
            let thread = thread::Builder::new().name("busy".to_owned()).spawn(spin);
            busy.threads.push(thread.map_err(|error| format!("no thread to be busy: {error}"))?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// How long a process is stopped, and how long it runs in between, milliseconds.
const STOPPED: RangeInclusive<u64> = 50..=500;
const RUNNING: RangeInclusive<u64> = 200..=1_000;

/// Stops the process for random times at random moments, until `over` is closed; then it runs again.
pub fn stop_at_random(process: Pid, over: &Receiver<()>) {
    // the same each time, so that two self-tests are alike
    let mut random = random::stream(0, Purpose::Stops, 0);
    let mut is_over = |times: RangeInclusive<u64>| {
        let time = Duration::from_millis(random.random_range(times));
        over.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
    };
    while !is_over(RUNNING) {
        // it may be gone already
        let _ = kill(process, Signal::SIGSTOP);
        let ends = is_over(STOPPED);
        let _ = kill(process, Signal::SIGCONT);
        if ends {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_busy_ends_when_it_is_over() {
        let busy = Busy::start(2).expect("two threads");
        let is_over = Arc::downgrade(&busy.is_over);
        drop(busy);
        assert!(is_over.upgrade().is_none());
    }
}
