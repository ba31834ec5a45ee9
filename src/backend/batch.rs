//! What one read brought, and when each part of it came.
//!
//! The stamp of a read is that of the last segment in it, so it is right for what came last and the latest moment for all
//! in front of that. Where the parts may have come apart, the keeper is asked; without one, a part came after the read
//! before, and after this thread can have been woken.

use std::time::Duration;

use super::lateness;
use super::stamps::Stamp;
use crate::clock::{Arrival, Moment};
use crate::heartbeat::Beats;
use crate::keeper::Claim;

/// One read of a connection.
#[derive(Debug, Default)]
pub struct Batch {
    stamp: Stamp,
    /// When the call was made.
    called: Moment,
    /// Nothing in it came earlier.
    after: Moment,
    bytes: usize,
    /// The byte of the connection with which it begins.
    first: u64,
    /// Whether the stamp may be later than its last byte.
    is_doubtful: bool,
    /// Since when this thread was awake, at the earliest, once that was asked for.
    woken: Option<Moment>,
    /// What the keeper has seen of it, once it was asked.
    parts: Option<Vec<(u64, Option<Moment>)>>,
}

/// Whom to ask when bytes came.
#[derive(Debug, Default)]
pub struct Witnesses {
    /// Sees each segment; `None` without a keeper.
    pub claim: Option<Claim>,
    /// Knows when this client stood still.
    pub beats: Beats,
}

impl Batch {
    /// So many bytes, read with this stamp, the first of them being this byte of the connection. They were asked for at
    /// `called`, and came after `after`.
    pub fn new(stamp: Stamp, (called, after): (Moment, Moment), (bytes, first): (usize, u64)) -> Self {
        Self { stamp, called, after, bytes, first, is_doubtful: !stamp.is_kernel, woken: None, parts: None }
    }

    /// The same, whose stamp may be later than its last byte if `is_doubtful`.
    pub fn doubted(self, is_doubtful: bool) -> Self {
        Self { is_doubtful: self.is_doubtful || is_doubtful, ..self }
    }

    /// The stamp may be later than its last byte.
    pub fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    /// The byte of the connection with which it begins.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Whether all of it came at about one time, so that it makes no difference which part is meant.
    pub fn is_at_once(&self) -> bool {
        !lateness::matters(self.stamp.arrival.at.since(self.after))
    }

    /// When the part came that ends with its byte number `end`, counted from 1.
    pub fn arrival(&mut self, end: usize, witnesses: &Witnesses) -> Arrival {
        let Stamp { arrival: last, read, is_kernel } = self.stamp;
        let is_late = read.since(last.at) > LATE;
        if self.is_at_once() && !is_late {
            return Arrival::exact(last.at);
        }
        let is_last = end >= self.bytes && !self.is_doubtful;
        if is_last && !is_late {
            return last;
        }
        if !is_kernel && !lateness::is_known() {
            // on such a system nothing better is known
            return last;
        }
        let woken = self.woken(witnesses);
        // bytes that were lost on the way and sent again have the stamp of those behind them, which came before
        let is_too_early = woken > last.at;
        if is_last && !is_too_early {
            return last;
        }
        if let Some(at) = self.seen(end, witnesses) {
            return Arrival::exact(at);
        }
        let latest = if is_too_early { read } else { last.at };
        Arrival::between(self.after.max(woken).min(latest), latest)
    }

    /// Since when this thread was awake, at the earliest.
    fn woken(&mut self, witnesses: &Witnesses) -> Moment {
        let (called, read) = (self.called, self.stamp.read);
        *self.woken.get_or_insert_with(|| lateness::woken(called, read, &witnesses.beats).unwrap_or_default())
    }

    /// What the keeper says.
    fn seen(&mut self, end: usize, witnesses: &Witnesses) -> Option<Moment> {
        let claim = witnesses.claim.as_ref()?;
        let (first, bytes) = (self.first, self.bytes as u64);
        let parts = self.parts.get_or_insert_with(|| claim.arrivals(first..first + bytes));
        let at = part_of(parts, first + end as u64 - 1)?;
        // both are stamps of one kernel
        Some(at.max(self.after).min(self.stamp.read))
    }
}

/// When the part came that holds this byte of the connection; `None` where that was not seen.
fn part_of(parts: &[(u64, Option<Moment>)], byte: u64) -> Option<Moment> {
    parts.iter().find(|(end, _)| *end > byte)?.1
}

/// A read that is so much later than its stamp: the thread was late, or the stamp is too early.
const LATE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Moment {
        Moment::from_nanos(us * 1_000)
    }

    /// A read of 100 bytes after 20 ms, with a stamp of 50 ms.
    fn batch(is_kernel: bool, is_doubtful: bool) -> Batch {
        let stamp = Stamp { arrival: Arrival::exact(at(50_000)), read: at(50_010), is_kernel };
        Batch::new(stamp, (at(20_000), at(20_000)), (100, 7)).doubted(is_doubtful)
    }

    #[test]
    fn the_stamp_is_right_for_what_came_last() {
        let none = Witnesses::default();
        assert_eq!(batch(true, false).arrival(100, &none), Arrival::exact(at(50_000)));
        let front = batch(true, false).arrival(99, &none);
        assert_eq!(front.at, at(50_000));
        assert!(front.earliest >= at(20_000), "{front:?}");
    }

    #[test]
    fn what_came_at_once_has_one_moment() {
        let stamp = Stamp { arrival: Arrival::exact(at(20_090)), read: at(20_100), is_kernel: true };
        let mut batch = Batch::new(stamp, (at(20_000), at(20_000)), (100, 7)).doubted(true);
        assert!(batch.is_at_once());
        assert_eq!(batch.arrival(1, &Witnesses::default()), Arrival::exact(at(20_090)));
    }

    #[test]
    fn each_byte_is_of_one_part() {
        let parts = [(50, Some(at(30_000))), (80, None), (107, Some(at(50_000)))];
        for (byte, want) in
            [(0, Some(30_000)), (49, Some(30_000)), (50, None), (79, None), (106, Some(50_000)), (107, None)]
        {
            assert_eq!(part_of(&parts, byte), want.map(at), "{byte}");
        }
    }

    #[test]
    fn a_stamp_from_before_the_thread_was_woken_is_none_of_what_it_waited_for() {
        let stamp = Stamp { arrival: Arrival::exact(at(20_200)), read: at(232_000), is_kernel: true };
        let mut batch = Batch::new(stamp, (at(20_000), at(20_000)), (100, 7));
        batch.woken = Some(at(231_000));
        for end in [50, 100] {
            let arrival = batch.arrival(end, &Witnesses::default());
            assert_eq!((arrival.earliest, arrival.at), (at(231_000), at(232_000)));
        }
        // one that was only late knows what came last
        batch.woken = Some(at(20_100));
        assert_eq!(batch.arrival(100, &Witnesses::default()), Arrival::exact(at(20_200)));
    }
}
