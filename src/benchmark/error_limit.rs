//! Ends a run in which too much goes wrong, and passes on the stop that comes from outside.

use crate::clock::{Stop, Stopper};
use crate::plan::ErrorLimits;
use crate::record::{Pulse, Record, Sink};
use crate::units::{show_count, show_share};

/// Counts failures, and asks for the stop when there are too many.
pub(super) struct ErrorLimit<'a> {
    limits: ErrorLimits,
    succeeded: u64,
    failed: u64,
    /// Of the run; `None` once it was stopped at once.
    stopper: Option<Stopper>,
    outside: &'a Stop,
    /// Why the run was ended.
    reason: Option<String>,
}

/// Requests that must have ended before their rate of failures says something.
const ENOUGH: u64 = 20;

impl<'a> ErrorLimit<'a> {
    pub(super) fn new(limits: ErrorLimits, stopper: Stopper, outside: &'a Stop) -> Self {
        Self { limits, succeeded: 0, failed: 0, stopper: Some(stopper), outside, reason: None }
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

    fn pass_on(&mut self) {
        if self.outside.is_urgent() {
            self.stopper = None;
        } else if let Some(stopper) = self.stopper.as_mut().filter(|_| self.outside.requested()) {
            stopper.begin();
        }
    }
}

impl Sink for ErrorLimit<'_> {
    fn record(&mut self, record: &Record) {
        match record.failure() {
            None => self.succeeded += 1,
            Some(failure) if failure.kind.is_of_client() => {}
            Some(_) => self.failed += 1,
        }
        self.pass_on();
        if self.reason.is_none() && !self.outside.requested() {
            self.reason = self.exceeded();
            if let (Some(_), Some(stopper)) = (&self.reason, &mut self.stopper) {
                stopper.begin();
            }
        }
    }

    fn pulse(&mut self, _: &Pulse) {
        self.pass_on();
    }
}
