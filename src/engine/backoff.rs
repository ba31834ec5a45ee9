//! How long a worker leaves a server alone that it cannot reach.

use std::time::Duration;

use crate::random::{Purpose, shares};
use crate::record::Record;

/// The pauses of one worker of a closed loop. A request of which no byte left costs the server nothing and the client next
/// to nothing, so that without a pause the next one would follow at once, tens of thousands of times a second.
pub(super) struct Backoff {
    /// From 0 to 1, so that workers do not come back all at once.
    jitter: Box<dyn Iterator<Item = f64>>,
    /// The next pause, at its longest.
    step: Duration,
}

/// The first pause and the longest, both before the jitter, which takes up to half away.
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

impl Backoff {
    /// Of worker number `worker`, from 0.
    pub(super) fn new(seed: u64, worker: usize) -> Self {
        Self { jitter: Box::new(shares(seed, Purpose::Backoff, worker as u64)), step: FIRST }
    }

    /// How long to pause after this request; `None` unless it failed before a byte of it had left.
    pub(super) fn after(&mut self, record: &Record) -> Option<Duration> {
        if record.moments.first_byte.is_some() {
            self.step = FIRST;
        }
        if record.is_success() || record.moments.sent.is_some() {
            return None;
        }
        let jitter = self.jitter.next().unwrap_or_default();
        let pause = self.step.mul_f64(1.0 - jitter / 2.0);
        self.step = (2 * self.step).min(LONGEST);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::failure::{Failure, FailureKind};
    use crate::record::{Outcome, Phase};

    fn record(kind: FailureKind, sent: bool, first_byte: bool) -> Record {
        let at = Moment::default();
        let mut record = Record::not_sent(0, Phase::Measured, at, at);
        record.outcome = Outcome::Failed(Failure::new(kind, ""));
        record.moments.sent = sent.then_some(at);
        record.moments.first_byte = first_byte.then_some(at);
        record
    }

    #[test]
    fn pauses_double_up_to_a_second_and_begin_anew_after_a_first_byte() {
        let refused = record(FailureKind::ConnectRefused, false, false);
        let mut backoff = Backoff::new(7, 0);
        for longest in [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000] {
            let longest = Duration::from_millis(longest);
            let pause = backoff.after(&refused).expect("a pause");
            assert!(longest / 2 <= pause && pause <= longest, "{pause:?}");
        }
        // it got away, and nothing came: no news of the server
        assert_eq!(backoff.after(&record(FailureKind::ClosedBeforeReply, true, false)), None);
        assert!(backoff.after(&refused).expect("a pause") >= Duration::from_millis(500));
        assert_eq!(backoff.after(&record(FailureKind::Http(503), true, true)), None);
        assert!(backoff.after(&refused).expect("a pause") <= Duration::from_millis(10));
    }

    #[test]
    fn pauses_are_of_the_seed_and_of_the_worker() {
        let refused = record(FailureKind::Dns, false, false);
        let pauses = |seed, worker| {
            let mut backoff = Backoff::new(seed, worker);
            (0..9).map(|_| backoff.after(&refused)).collect::<Vec<_>>()
        };
        assert_eq!(pauses(7, 1), pauses(7, 1));
        assert_ne!(pauses(7, 1), pauses(7, 2));
        assert_ne!(pauses(7, 1), pauses(8, 1));
    }
}
