//! When requests under way are given up, and doing so.

use std::time::Duration;

use super::Floor;
use crate::backend::Canceller;
use crate::clock::Moment;
use crate::failure::FailureKind;
use crate::plan::defaults;

/// Gives up what is under way when its time is over.
pub(super) struct Grace {
    /// How long requests may go on once none is sent any more; `None` waits for them, but not after a stop.
    limit: Option<Duration>,
    /// When the last arrival is due, from the first on, where time ends them.
    arrivals_end: Option<Duration>,
    /// One for each worker; none once they were used.
    cancellers: Vec<Canceller>,
}

impl Grace {
    pub(super) fn new(
        limit: Option<Duration>,
        arrivals_end: Option<Duration>,
        cancellers: Vec<Canceller>,
    ) -> Self {
        Self { limit, arrivals_end, cancellers }
    }

    /// Looks whether it is time, and if so gives everything up. Returns when to look again at the latest; `None` where
    /// no moment is known.
    pub(super) fn look(&mut self, now: Moment, floor: &Floor<'_, '_>) -> Option<Moment> {
        if self.cancellers.is_empty() {
            return None;
        }
        let (end, kind) = self.end(now, floor)?;
        if now < end {
            return Some(end);
        }
        self.give_up(kind, floor);
        None
    }

    /// Gives up what is under way, as of this kind.
    pub(super) fn give_up(&mut self, kind: FailureKind, floor: &Floor<'_, '_>) {
        // said first, so that whatever fails from now on knows why
        let _ = floor.given_up.set(kind);
        for cancel in self.cancellers.drain(..) {
            cancel();
        }
    }

    /// When requests under way are to be given up, and as what.
    fn end(&self, now: Moment, floor: &Floor<'_, '_>) -> Option<(Moment, FailureKind)> {
        let stop = &floor.stop;
        if stop.is_urgent() {
            return Some((now, FailureKind::Interrupted));
        }
        if stop.requested() {
            let limit = self.limit.unwrap_or(defaults::INTERRUPT_GRACE);
            let kind = floor.setup.stopped_as.get().copied().unwrap_or(FailureKind::Interrupted);
            return Some((floor.stopped() + limit, kind));
        }
        // arrivals that still wait for a thread when time has ended them do not hold the run up
        let timed = floor.began.get().zip(self.arrivals_end).map(|(began, end)| *began + end);
        let sent_all = timed.into_iter().chain(floor.sent_all()).min()?;
        Some((sent_all + self.limit?, FailureKind::Cancelled))
    }
}
