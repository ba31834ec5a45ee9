//! Ends a run in which too much goes wrong, nothing goes on, or no reply ever comes.

use std::sync::OnceLock;

use crate::clock::{Moment, Stop, Stopper};
use crate::failure::{Failure, FailureKind};
use crate::plan::ErrorLimits;
use crate::record::{Pulse, Record, Sink};
use crate::text::printable;
use crate::units::{show_count, show_counted, show_duration, show_share};

/// Counts failures and watches for progress, and asks for the stop when there are too many or there is none.
pub(super) struct ErrorLimit<'a> {
    limits: ErrorLimits,
    /// Requests that have ended, whoever ended them.
    ended: u64,
    succeeded: u64,
    failed: u64,
    /// Whether a byte of any reply has come.
    has_reply: bool,
    /// The last failure, and which request it was. Where the warm-up ends a run, no other figure tells of it.
    last_failure: Option<(u64, Failure)>,
    /// The last progress that was seen; `None` before the first pulse.
    progress: Option<Progress>,
    /// Of the run.
    stopper: Stopper,
    /// A stop from outside ends the run too, and is no doing of these limits.
    outside: &'a Stop,
    /// What requests under way are to be given up as.
    stopped_as: &'a OnceLock<FailureKind>,
    /// Why the run was ended.
    reason: Option<String>,
}

/// How far a run had come, and when that was seen first.
#[derive(Clone, Copy)]
struct Progress {
    since: Moment,
    token_events: u64,
    ended: u64,
}

/// Longest reason, for a server's message may be long.
const REASON_CHARS: usize = 240;
/// Requests that must have ended before their rate of failures says something.
const ENOUGH: u64 = 20;

impl<'a> ErrorLimit<'a> {
    pub(super) fn new(
        limits: ErrorLimits,
        stopper: Stopper,
        outside: &'a Stop,
        stopped_as: &'a OnceLock<FailureKind>,
    ) -> Self {
        Self {
            limits,
            ended: 0,
            succeeded: 0,
            failed: 0,
            has_reply: false,
            last_failure: None,
            progress: None,
            stopper,
            outside,
            stopped_as,
            reason: None,
        }
    }

    /// Why the run was ended; `None` if it was not.
    pub(super) fn into_reason(self) -> Option<String> {
        self.reason
    }

    fn exceeded(&self) -> Option<String> {
        let all = self.succeeded + self.failed;
        let rate = self.failed as f64 / all.max(1) as f64;
        if let Some(most) = self.limits.most.filter(|most| self.failed >= most.get()) {
            return Some(format!("{} failures (--max-errors {most})", show_count(self.failed)));
        }
        let limit = self.limits.rate.filter(|limit| all >= ENOUGH && rate > *limit)?;
        let (failed, all) = (show_count(self.failed), show_count(all));
        let (rate, limit) = (show_share(rate), show_share(limit));
        Some(format!("{failed} failures in {all} requests, {rate} (--max-error-rate {limit})"))
    }

    /// Why the run is to end, if nothing has moved for too long.
    fn stalled(&mut self, pulse: &Pulse) -> Option<String> {
        let Pulse { now, token_events, .. } = *pulse;
        let reached =
            |progress: &Progress| (progress.token_events, progress.ended) == (token_events, self.ended);
        let progress = self.progress.filter(|progress| pulse.in_flight > 0 && reached(progress));
        let progress = progress.unwrap_or(Progress { since: now, token_events, ended: self.ended });
        self.progress = Some(progress);
        let limit = self.limits.no_progress;
        (now.since(progress.since) >= limit).then(|| {
            let (under_way, limit) = (show_counted(pulse.in_flight, "request"), show_duration(limit));
            format!("{under_way} under way, and no token or end of one for {limit} (--no-progress-timeout)")
        })
    }

    /// Why the run is to end, if no reply has ever come. One that has been waited for through half of that time may still
    /// come: how long is for other limits to say.
    fn is_unanswered(&self, pulse: &Pulse) -> Option<String> {
        let limit = self.limits.no_reply;
        let waits = pulse.oldest.is_some_and(|oldest| pulse.now.since(oldest) >= limit / 2);
        let has_reply = self.has_reply || pulse.token_events > 0;
        let is_over = self.ended > 0 && !has_reply && !waits && pulse.now.since(pulse.began) >= limit;
        is_over.then(|| {
            let (ended, limit) = (show_counted(self.ended, "request"), show_duration(limit));
            format!("no byte of a reply for {limit}, and {ended} ended (--no-reply-timeout)")
        })
    }

    /// The failure that a reason is to be read with.
    fn and_the_last(&self, reason: &str) -> String {
        let last = self.last_failure.as_ref();
        let last = last.map(|(id, failure)| format!("; the last was request {id}: {failure}"));
        printable(&(reason.to_owned() + &last.unwrap_or_default()), REASON_CHARS)
    }

    /// Ends the run, unless it is ending.
    fn end(&mut self, reason: String) {
        if self.reason.is_none() && !self.outside.requested() {
            self.reason = Some(reason);
            self.stopper.begin();
        }
    }
}

impl Sink for ErrorLimit<'_> {
    fn record(&mut self, record: &Record) {
        match record.failure() {
            None => self.succeeded += 1,
            Some(failure) if failure.kind.is_of_client() => {}
            Some(failure) => {
                self.failed += 1;
                self.last_failure = Some((record.id, failure.clone()));
            }
        }
        self.ended += 1;
        self.has_reply |= record.moments.first_byte.is_some();
        if let Some(reason) = self.exceeded() {
            self.end(self.and_the_last(&reason));
        }
    }

    fn pulse(&mut self, pulse: &Pulse) {
        if let Some(reason) = self.stalled(pulse) {
            if self.reason.is_none() {
                // the server's silence, and no doing of this client's
                let _ = self.stopped_as.set(FailureKind::NoProgress);
            }
            self.end(reason);
        }
        if let Some(reason) = self.is_unanswered(pulse) {
            self.end(self.and_the_last(&reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::stop_pair;

    #[test]
    fn a_run_without_progress_is_ended_and_one_without_requests_is_not() {
        let (_outer, outside) = stop_pair();
        let (stopper, stop) = stop_pair();
        let stopped_as = OnceLock::new();
        let limits = ErrorLimits { no_progress: Duration::from_secs(60), ..ErrorLimits::default() };
        let mut limit = ErrorLimit::new(limits, stopper, &outside, &stopped_as);
        let mut pulse = |second: u64, in_flight, token_events| {
            let now = Moment::from_nanos(second * 1_000_000_000);
            limit.pulse(&Pulse { now, began: Moment::default(), in_flight, oldest: None, token_events });
            stop.requested()
        };
        assert!(!pulse(0, 2, 0) && !pulse(59, 2, 0) && !pulse(60, 2, 1), "a token in time");
        assert!(!pulse(119, 2, 1) && !pulse(300, 0, 1), "nothing is under way, so nothing is late");
        assert!(!pulse(310, 1, 1) && !pulse(359, 1, 1), "it counts from when something was");
        assert!(pulse(370, 1, 1));
        let reason = limit.into_reason().expect("it was ended");
        assert_eq!(stopped_as.get(), Some(&FailureKind::NoProgress));
        assert!(reason.starts_with("1 request under way") && reason.contains("60.0 s"), "{reason}");
    }
    /// Whether a run without a reply was ended, and why, at each of these seconds; with what had ended by then, and since
    /// when the oldest request was under way.
    fn ends_unanswered(ended: &[Record], pulses: &[(u64, Option<u64>)]) -> Option<String> {
        let (_outer, outside) = stop_pair();
        let (stopper, stop) = stop_pair();
        let stopped_as = OnceLock::new();
        let mut limit = ErrorLimit::new(ErrorLimits::default(), stopper, &outside, &stopped_as);
        ended.iter().for_each(|record| limit.record(record));
        let second = |second: u64| Moment::from_nanos(second * 1_000_000_000);
        for (now, oldest) in pulses {
            let in_flight = u64::from(oldest.is_some());
            let oldest = oldest.map(second);
            limit.pulse(&Pulse { now: second(*now), began: second(0), in_flight, oldest, token_events: 0 });
        }
        assert_eq!(stop.requested(), limit.reason.is_some());
        assert_eq!(stopped_as.get(), None);
        limit.into_reason()
    }

    #[test]
    fn a_run_without_any_reply_is_ended_unless_one_is_waited_for() {
        use crate::record::{Outcome, Phase};
        let at = Moment::default();
        let mut refused = Record::not_sent(7, Phase::Warmup, at, at);
        refused.outcome = Outcome::Failed(Failure::new(FailureKind::ConnectRefused, "nobody"));
        let mut answered = refused.clone();
        answered.moments.first_byte = Some(at);
        let refused = [refused];

        assert_eq!(ends_unanswered(&refused, &[(59, Some(58))]), None);
        let reason = ends_unanswered(&refused, &[(60, Some(59))]).expect("60 s are over");
        assert_eq!(
            reason,
            "no byte of a reply for 60.0 s, and 1 request ended (--no-reply-timeout); the last was request 7: \
             connect_refused: nobody"
        );
        assert!(ends_unanswered(&refused, &[(60, None)]).is_some(), "all pause");
        // a model that is slow to load or to answer
        assert_eq!(ends_unanswered(&[], &[(60, Some(0)), (300, Some(0))]), None);
        assert_eq!(ends_unanswered(&refused, &[(60, Some(2)), (89, Some(2))]), None);
        assert!(ends_unanswered(&refused, &[(60, Some(2)), (91, Some(90))]).is_some());
        let [refused] = refused;
        assert_eq!(ends_unanswered(&[refused, answered], &[(600, None)]), None);
    }
}
