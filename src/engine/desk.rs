//! Where jobs wait for workers and workers for jobs.
//!
//! Unlike a channel it gives a job to the worker that became idle last: its connection is warm, and no more of them are
//! opened than are needed at once.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::Stop;

/// Hands jobs to a fixed number of workers, in order.
pub(super) struct Desk<T> {
    state: Mutex<State<T>>,
    /// One for each worker.
    bells: Box<[Condvar]>,
    /// Rung for the feeder when there is room again, or nobody to feed.
    room: Condvar,
    capacity: usize,
}

struct State<T> {
    /// Jobs for which no worker was idle.
    queue: VecDeque<T>,
    /// Workers without a job, the latest last.
    idle: Vec<usize>,
    /// A job for each worker that was idle.
    handed: Vec<Option<T>>,
    workers: usize,
    is_closed: bool,
    feeder_waits: bool,
}

/// How often a feeder that waits for room looks whether the run was stopped.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl<T> Desk<T> {
    /// For so many workers, numbered from 0; holds up to `capacity` jobs that nobody has taken.
    pub(super) fn new(workers: usize, capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                queue: VecDeque::with_capacity(capacity),
                idle: Vec::with_capacity(workers),
                handed: (0..workers).map(|_| None).collect(),
                workers,
                is_closed: false,
                feeder_waits: false,
            }),
            bells: (0..workers).map(|_| Condvar::new()).collect(),
            room: Condvar::new(),
            capacity,
        }
    }

    /// The one feeder's side.
    pub(super) fn feed(&self) -> Feed<'_, T> {
        Feed(self)
    }

    /// A worker's side.
    pub(super) fn seat(&self, worker: usize) -> Seat<'_, T> {
        Seat(self, worker)
    }
}

/// Puts jobs on the desk. No job will come any more once it is dropped.
pub(super) struct Feed<'a, T>(&'a Desk<T>);

impl<T> Feed<'_, T> {
    /// Hands a job over, waiting for room if need be. False if the stop came first or no worker is left.
    pub(super) fn put(&self, job: T, stop: &Stop) -> bool {
        let desk = self.0;
        let mut state = desk.state.lock();
        loop {
            if state.workers == 0 || stop.requested() {
                return false;
            }
            if let Some(worker) = state.idle.pop() {
                state.handed[worker] = Some(job);
                drop(state);
                desk.bells[worker].notify_one();
                return true;
            }
            if state.queue.len() < desk.capacity {
                state.queue.push_back(job);
                return true;
            }
            state.feeder_waits = true;
            desk.room.wait_for(&mut state, LOOK_EVERY);
        }
    }
}

impl<T> Drop for Feed<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_closed = true;
        for worker in std::mem::take(&mut state.idle) {
            self.0.bells[worker].notify_one();
        }
    }
}

/// Takes jobs from the desk, until it is dropped.
pub(super) struct Seat<'a, T>(&'a Desk<T>, usize);

impl<T> Seat<'_, T> {
    /// The next job, and whether it was handed to this worker while that was idle; else it waited for a worker. `None`
    /// once the feed is gone and the desk is empty.
    pub(super) fn take(&self) -> Option<(T, bool)> {
        let Self(desk, worker) = *self;
        let mut state = desk.state.lock();
        if let Some(job) = state.queue.pop_front() {
            // woken for every job, the feeder would cost as much as a worker
            if state.feeder_waits && state.queue.len() <= desk.capacity / 2 {
                state.feeder_waits = false;
                desk.room.notify_one();
            }
            return Some((job, false));
        }
        if !state.is_closed {
            state.idle.push(worker);
        }
        while state.handed[worker].is_none() && !state.is_closed {
            desk.bells[worker].wait(&mut state);
        }
        state.handed[worker].take().map(|job| (job, true))
    }
}

impl<T> Seat<'_, T> {
    /// Whether no job will come any more.
    pub(super) fn is_over(&self) -> bool {
        let Self(desk, worker) = *self;
        let state = desk.state.lock();
        state.is_closed && state.queue.is_empty() && state.handed[worker].is_none()
    }
}

impl<T> Drop for Seat<'_, T> {
    fn drop(&mut self) {
        self.0.state.lock().workers -= 1;
        self.0.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::clock::stop_pair;

    #[test]
    fn the_worker_that_became_idle_last_is_first() {
        let desk = Desk::new(3, 4);
        let (_stopper, stop) = stop_pair();
        let idle = |count| {
            while desk.state.lock().idle.len() != count {
                thread::yield_now();
            }
        };
        thread::scope(|scope| {
            let mut waiting = Vec::new();
            for worker in 0..3 {
                waiting.push(scope.spawn({
                    let seat = desk.seat(worker);
                    move || seat.take()
                }));
                idle(worker + 1);
            }
            let feed = desk.feed();
            assert!(feed.put('a', &stop) && feed.put('b', &stop));
            drop(feed);
            let jobs: Vec<_> = waiting.into_iter().map(|worker| worker.join().expect("no panic")).collect();
            assert_eq!(jobs, [None, Some(('b', true)), Some(('a', true))]);
        });
    }

    #[test]
    fn jobs_wait_in_order_and_are_taken_after_the_close() {
        let desk = Desk::new(1, 2);
        let (_stopper, stop) = stop_pair();
        let (feed, seat) = (desk.feed(), desk.seat(0));
        assert!(feed.put(1, &stop) && feed.put(2, &stop));
        drop(feed);
        assert_eq!([seat.take(), seat.take(), seat.take()], [Some((1, false)), Some((2, false)), None]);
    }

    #[test]
    fn a_feeder_waits_for_room_but_not_for_nobody() {
        let desk = Desk::new(1, 1);
        let (stopper, stop) = stop_pair();
        let (feed, seat) = (desk.feed(), desk.seat(0));
        assert!(feed.put(1, &stop));
        thread::scope(|scope| {
            let feeder = scope.spawn(|| feed.put(2, &stop));
            while !desk.state.lock().feeder_waits {
                thread::yield_now();
            }
            assert_eq!(seat.take(), Some((1, false)));
            assert!(feeder.join().expect("no panic"));
            let feeder = scope.spawn(|| feed.put(3, &stop));
            drop(seat);
            assert!(!feeder.join().expect("no panic"));
        });
        stopper.stop();
        assert!(!Desk::new(1, 1).feed().put(1, &stop));
    }
}
