//! What one read brought, and when each part of it came.
//!
//! The stamp of a read is that of the last segment in it, so it is right for what came last and the latest moment for all
//! in front of that. Where the parts may have come apart, the keeper is asked; without one, a part came after the read
//! before, and after this thread can have been woken.

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
        let last = self.stamp.arrival;
        if self.is_at_once() {
            return Arrival::exact(last.at);
        }
        if end >= self.bytes && !self.is_doubtful {
            return last;
        }
        if let Some(at) = self.seen(end, witnesses) {
            return Arrival::exact(at);
        }
        if !self.stamp.is_kernel && !lateness::is_known() {
            // on such a system nothing better is known
            return last;
        }
        let woken = *self.woken.get_or_insert_with(|| {
            lateness::woken(self.called, self.stamp.read, &witnesses.beats).unwrap_or_default()
        });
        Arrival::between(self.after.max(woken).min(last.at), last.at)
    }

    /// What the keeper says.
    fn seen(&mut self, end: usize, witnesses: &Witnesses) -> Option<Moment> {
        let claim = witnesses.claim.as_ref()?;
        let (first, bytes) = (self.first, self.bytes as u64);
        let parts = self.parts.get_or_insert_with(|| claim.arrivals(first..first + bytes));
        let last_byte = first + end as u64 - 1;
        let at = parts.iter().find(|(end, _)| *end > last_byte)?.1?;
        // both are stamps of one kernel
        Some(at.max(self.after).min(self.stamp.read))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let stamp = Stamp { arrival: Arrival::exact(at(20_090)), read: at(90_000), is_kernel: true };
        let mut batch = Batch::new(stamp, (at(20_000), at(20_000)), (100, 7)).doubted(true);
        assert!(batch.is_at_once());
        assert_eq!(batch.arrival(1, &Witnesses::default()), Arrival::exact(at(20_090)));
    }

    #[test]
    fn what_the_keeper_saw_is_known() {
        let mut batch = batch(true, false);
        batch.parts = Some(vec![(50, Some(at(30_000))), (80, None), (107, Some(at(50_000)))]);
        let claim = None;
        // without a claim nobody is asked, whatever was seen
        let witnesses = Witnesses { claim, ..Witnesses::default() };
        assert_eq!(batch.seen(43, &witnesses), None);
        assert!(Duration::ZERO < batch.arrival(43, &witnesses).at.since(batch.after));
    }
}
