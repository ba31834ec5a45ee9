//! The slowest requests of a run, by name, so that they can be looked up in the server's log.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::record::Record;

/// One of the slowest requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowRequest {
    /// Its number within the run; it was sent with `X-Request-Id: run_id-id`.
    pub id: u64,
    /// When it started, in seconds from the start of the first request.
    pub start_s: f64,
    /// Response time: from when it was due, ms.
    pub response_e2e_ms: f64,
    /// End-to-end latency, ms; `None` where the moment of sending is unknown.
    pub e2e_ms: Option<f64>,
    /// Time to first token, ms; `None` where it was not streamed.
    pub ttft_ms: Option<f64>,
    /// Longest gap between events that bore tokens, ms; `None` below two of them.
    pub longest_gap_ms: Option<f64>,
    /// Output tokens as the server counted them; `None` if it did not.
    pub output_tokens: Option<u64>,
}

/// How many are kept.
const KEPT: usize = 10;

/// Keeps the successful requests of the longest response times, slowest first.
#[derive(Debug, Default)]
pub struct WorstTally(Vec<Slow>);

#[derive(Debug)]
struct Slow {
    response: Duration,
    started: Moment,
    request: SlowRequest,
}

impl WorstTally {
    /// Takes in a measured record. One that failed has no latency and is left out.
    pub fn add(&mut self, record: &Record) {
        let Some(response) = record.response_e2e() else { return };
        // of equals the first is kept, so that the order of what comes in decides
        let place = self.0.partition_point(|slow| slow.response >= response);
        if place >= KEPT {
            return;
        }
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let request = SlowRequest {
            id: record.id,
            start_s: 0.0,
            response_e2e_ms: ms(response),
            e2e_ms: record.e2e().map(ms),
            ttft_ms: record.ttft().map(ms),
            longest_gap_ms: record.gaps().max().map(ms),
            output_tokens: record.usage.output_tokens,
        };
        self.0.truncate(KEPT - 1);
        self.0.insert(place, Slow { response, started: record.moments.started, request });
    }

    /// The slowest first; starts are counted from `origin`.
    pub fn worst(self, origin: Moment) -> Vec<SlowRequest> {
        let requests = self.0.into_iter();
        requests
            .map(|slow| SlowRequest { start_s: slow.started.since(origin).as_secs_f64(), ..slow.request })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure, FailureKind};
    use crate::record::{Moments, Outcome, Phase};

    fn record(id: u64, started_ms: u64, end_ms: u64) -> Record {
        let at = |ms: u64| Moment::from_nanos(ms * 1_000_000);
        Record {
            outcome: Outcome::Success,
            status: Some(200),
            moments: Moments {
                due: at(started_ms),
                taken: at(started_ms),
                started: at(started_ms),
                sent: Some(at(started_ms + 1)),
                sent_latest: None,
                sent_whole: None,
                first_byte: None,
                first_event: None,
                end: at(end_ms),
                end_earliest: at(end_ms),
            },
            ..Record::not_sent(id, Phase::Measured, at(started_ms), at(end_ms))
        }
    }

    #[test]
    fn the_slowest_that_succeeded_are_kept_in_order() {
        let mut tally = WorstTally::default();
        for id in 0..30 {
            tally.add(&record(id, 1_000, 1_100 + id * 7 % 30));
        }
        let mut failed = record(30, 1_000, 9_000);
        failed.outcome = Outcome::Failed(Failure::new(FailureKind::IdleTimeout, ""));
        tally.add(&failed);
        tally.add(&record(31, 1_000, 1_129));
        let worst = tally.worst(Moment::from_nanos(500_000_000));
        assert_eq!(worst.len(), KEPT);
        assert!(worst.is_sorted_by(|a, b| a.response_e2e_ms >= b.response_e2e_ms));
        let first = worst[0];
        assert_eq!((first.start_s, first.response_e2e_ms, first.e2e_ms), (0.5, 129.0, Some(128.0)));
        assert_eq!((first.id, worst[1].id), (17, 31));
        assert_eq!((first.ttft_ms, first.longest_gap_ms, first.output_tokens), (None, None, None));
    }
}
