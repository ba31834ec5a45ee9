//! The addresses of names: asked for once for all workers, and again when a connection to them has failed, but not by each
//! worker and not again and again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::clock::Moment;

/// What is known of names, for all workers.
#[derive(Debug, Default)]
pub struct Names {
    known: RwLock<Vec<Known>>,
    /// Held by whoever asks; with what the last one was told.
    flight: Mutex<Option<(String, Answer)>>,
    /// Questions that have been answered.
    flights: AtomicU64,
}

/// The addresses of a name, or why there are none.
pub type Answer = Result<Vec<SocketAddr>, String>;

#[derive(Debug)]
struct Known {
    name: String,
    addresses: Vec<SocketAddr>,
    since: Moment,
}

/// Addresses so new are as good as those that would be told now.
const NEW: Duration = Duration::from_secs(1);

impl Names {
    /// The addresses of a name that is not known: what `look_up` finds. Whoever comes while somebody asks gets the same
    /// answer.
    pub fn ask(&self, name: &str, now: Moment, look_up: impl FnOnce() -> Answer) -> Answer {
        let before = self.flights.load(Ordering::Acquire);
        let mut flight = self.flight.lock();
        if let Some((asked, answer)) = &*flight
            && asked == name
            && self.flights.load(Ordering::Acquire) != before
        {
            return answer.clone();
        }
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        let answer = look_up();
        if let Ok(addresses) = &answer {
            let known = Known { name: name.to_owned(), addresses: addresses.clone(), since: now };
            self.known.write().push(known);
        }
        *flight = Some((name.to_owned(), answer.clone()));
        self.flights.fetch_add(1, Ordering::Release);
        answer
    }

    /// The addresses of a name; `None` where it has to be asked for.
    pub fn known(&self, name: &str) -> Option<Vec<SocketAddr>> {
        self.known.read().iter().find(|known| known.name == name).map(|known| known.addresses.clone())
    }

    /// Forgets what it knows, as far as that is not new, so that the next request asks again.
    pub fn forget(&self, now: Moment) {
        if self.known.read().iter().any(|known| now.since(known.since) >= NEW) {
            self.known.write().retain(|known| now.since(known.since) < NEW);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn found() -> Answer {
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], 80))])
    }

    #[test]
    fn workers_that_start_together_ask_once() {
        let names = Names::default();
        let asked = AtomicU64::new(0);
        let look_up = || {
            asked.fetch_add(1, Ordering::Relaxed);
            found()
        };
        thread::scope(|scope| {
            let (inside, is_inside) = channel();
            let (go_on, may_go_on) = channel();
            let names = &names;
            scope.spawn(move || {
                names.ask("h:80", at(0), || {
                    inside.send(()).expect("awaited");
                    may_go_on.recv().expect("told");
                    look_up()
                })
            });
            is_inside.recv().expect("it asks");
            let (here, are_here) = channel();
            let others: Vec<_> = (0..8)
                .map(|_| {
                    let here = here.clone();
                    scope.spawn(move || {
                        here.send(()).expect("awaited");
                        names.ask("h:80", at(0), look_up)
                    })
                })
                .collect();
            others.iter().for_each(|_| are_here.recv().expect("it comes"));
            go_on.send(()).expect("it waits");
            others.into_iter().for_each(|other| assert_eq!(other.join().expect("no panic"), found()));
        });
        assert_eq!(asked.into_inner(), 1);
    }

    #[test]
    fn a_server_that_refuses_is_not_looked_up_again_at_each_request() {
        let names = Names::default();
        let mut asked = Vec::new();
        for ms in 0..3_000 {
            if names.known("h:80").is_none() {
                assert_eq!(names.ask("h:80", at(ms), found), found());
                asked.push(ms);
            }
            names.forget(at(ms));
        }
        assert_eq!(asked, [0, 1_001, 2_002]);
    }

    #[test]
    fn a_name_that_was_not_found_is_asked_for_again() {
        let names = Names::default();
        assert_eq!(
            names.ask("h:80", at(0), || Err("no such name".to_owned())),
            Err("no such name".to_owned())
        );
        assert_eq!(names.ask("h:80", at(0), found), found());
        assert_eq!(names.ask("g:80", at(0), || Err("none".to_owned())), Err("none".to_owned()));
    }
}
