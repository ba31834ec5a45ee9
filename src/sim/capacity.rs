//! Room for so many requests at once; the rest wait in line. Knows nothing of HTTP or time.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Sender, bounded, select};
use parking_lot::Mutex;

use crate::clock::Stop;

/// The slots and the line before them: first come, first served.
pub struct Capacity {
    slots: NonZeroUsize,
    queue: Mutex<Queue>,
    /// Slots taken. Changes only under the lock of `queue`; read without it.
    running: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(u64, Sender<()>)>,
    last_ticket: u64,
}

/// A place among the running. Dropping it hands the place to whoever waits longest.
pub struct Slot<'a>(&'a Capacity);

impl Capacity {
    /// So many slots, all free.
    pub fn new(slots: NonZeroUsize) -> Self {
        Self { slots, queue: Mutex::default(), running: AtomicUsize::new(0) }
    }

    /// Waits for a slot, and says whether it had to wait at all. `None` if the stop came first.
    pub fn enter(&self, stop: &Stop) -> Option<(Slot<'_>, Waited)> {
        let (ticket, granted) = {
            let mut queue = self.queue.lock();
            if self.running() < self.slots.get() {
                self.running.fetch_add(1, Ordering::Relaxed);
                return Some((Slot(self), Waited::No));
            }
            let (grant, granted) = bounded(1);
            queue.last_ticket += 1;
            let ticket = queue.last_ticket;
            queue.waiting.push_back((ticket, grant));
            (ticket, granted)
        };
        select! {
            recv(granted) -> _ => Some((Slot(self), Waited::Yes)),
            recv(stop.channel()) -> _ => {
                self.leave(ticket);
                None
            }
        }
    }

    /// Requests that have a slot.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Requests in line.
    pub fn waiting(&self) -> usize {
        self.queue.lock().waiting.len()
    }

    /// Share of the slots in use, 0 to 1.
    pub fn usage(&self) -> f64 {
        self.running() as f64 / self.slots.get() as f64
    }

    /// Leaves the line. If a slot was granted in the meantime, it goes to the next.
    fn leave(&self, ticket: u64) {
        let mut queue = self.queue.lock();
        match queue.waiting.iter().position(|(other, _)| *other == ticket) {
            Some(place) => drop(queue.waiting.remove(place)),
            None => self.pass_on(&mut queue),
        }
    }

    /// The slot keeps counting as taken when somebody waits for it. Whoever is in line still holds its receiver,
    /// because leaving takes the lock: the grant cannot be lost.
    fn pass_on(&self, queue: &mut Queue) {
        match queue.waiting.pop_front() {
            Some((_, grant)) => drop(grant.send(())),
            None => drop(self.running.fetch_sub(1, Ordering::Relaxed)),
        }
    }
}

/// Whether a request had to stand in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// There was a free slot.
    No,
    /// It stood in line.
    Yes,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.pass_on(&mut self.0.queue.lock());
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::clock::stop_pair;

    fn capacity(slots: usize) -> Capacity {
        Capacity::new(NonZeroUsize::new(slots).expect("some slots"))
    }

    /// Returns once so many stand in line; they all came to stand there.
    fn await_line(capacity: &Capacity, length: usize) {
        while capacity.waiting() != length {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_free_slot_needs_no_waiting() {
        let capacity = capacity(2);
        let (_stopper, stop) = stop_pair();
        let (first, waited) = capacity.enter(&stop).expect("nobody said stop");
        assert_eq!((waited, capacity.running()), (Waited::No, 1));
        assert_eq!(capacity.usage(), 0.5);
        drop(first);
        assert_eq!(capacity.running(), 0);
    }

    #[test]
    fn who_waits_longest_goes_first() {
        let capacity = capacity(1);
        let (_stopper, stop) = stop_pair();
        let order = Mutex::new(Vec::new());
        let (held, _) = capacity.enter(&stop).expect("nobody said stop");
        thread::scope(|scope| {
            for name in 0..5 {
                let (capacity, stop, order) = (&capacity, &stop, &order);
                scope.spawn(move || {
                    let _slot = capacity.enter(stop).expect("nobody said stop");
                    order.lock().push(name);
                });
                await_line(capacity, name + 1);
            }
            drop(held);
        });
        assert_eq!(order.into_inner(), [0, 1, 2, 3, 4]);
        assert_eq!((capacity.running(), capacity.waiting()), (0, 0));
    }

    #[test]
    fn who_leaves_the_line_takes_no_slot() {
        let capacity = capacity(1);
        let (stopper, stop) = stop_pair();
        let (_other_stopper, other_stop) = stop_pair();
        let (held, _) = capacity.enter(&other_stop).expect("nobody said stop");
        thread::scope(|scope| {
            let leaver = scope.spawn(|| capacity.enter(&stop).is_none());
            await_line(&capacity, 1);
            let stayer = scope.spawn(|| capacity.enter(&other_stop).is_some());
            await_line(&capacity, 2);
            stopper.stop();
            assert!(leaver.join().expect("the leaver does not panic"));
            await_line(&capacity, 1);
            drop(held);
            assert!(stayer.join().expect("the stayer does not panic"));
        });
        assert_eq!((capacity.running(), capacity.waiting()), (0, 0));
    }

    #[test]
    fn a_slot_granted_to_a_leaver_is_not_lost() {
        for _ in 0..200 {
            let capacity = capacity(1);
            let (stopper, stop) = stop_pair();
            let (_other_stopper, other_stop) = stop_pair();
            let (held, _) = capacity.enter(&other_stop).expect("nobody said stop");
            thread::scope(|scope| {
                scope.spawn(|| drop(capacity.enter(&stop)));
                await_line(&capacity, 1);
                scope.spawn(|| stopper.stop());
                drop(held);
            });
            assert_eq!((capacity.running(), capacity.waiting()), (0, 0));
        }
    }
}
