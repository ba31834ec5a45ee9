//! A sample of a run's requests that shows how their lengths and times hang together, and stays small however long the
//! run is.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use crate::record::Record;

/// One of the sampled requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampledRequest {
    /// Its number within the run; it was sent with `X-Request-Id: run_id-id`.
    pub id: u64,
    /// Prompt tokens as the server counted them; `None` if it did not.
    pub input_tokens: Option<u64>,
    /// Output tokens as the server counted them; `None` if it did not.
    pub output_tokens: Option<u64>,
    /// Time to first token, ms; `None` where it was not streamed.
    pub ttft_ms: Option<f64>,
    /// End-to-end latency, ms; `None` where the moment of sending is unknown.
    pub e2e_ms: Option<f64>,
}

/// How many are kept: enough for a picture, and few enough to be sent along with every result.
const KEPT: usize = 400;

/// Keeps the successful requests whose ids have the smallest hashes. So the ids alone decide, not the order in which
/// threads finish, and neither the beginning nor the end of a run is preferred.
#[derive(Debug, Default)]
pub struct SampleTally(BinaryHeap<Hashed>);

/// A request in the order of its hash.
#[derive(Debug)]
struct Hashed {
    hash: u64,
    request: SampledRequest,
}

impl SampleTally {
    /// Takes in a measured record. One that failed has no length and is left out.
    pub fn add(&mut self, record: &Record) {
        let hash = hash(record.id);
        let is_full = self.0.len() >= KEPT;
        let is_late = is_full && self.0.peek().is_some_and(|last| hash >= last.hash);
        if is_late || !record.is_success() {
            return;
        }
        if is_full {
            self.0.pop();
        }
        let request = SampledRequest {
            id: record.id,
            input_tokens: record.usage.input_tokens,
            output_tokens: record.usage.output_tokens,
            ttft_ms: record.ttft().map(|time| time.as_secs_f64() * 1e3),
            e2e_ms: record.e2e().map(|time| time.as_secs_f64() * 1e3),
        };
        self.0.push(Hashed { hash, request });
    }

    /// The requests in order of their ids.
    pub fn sample(self) -> Vec<SampledRequest> {
        let mut requests: Vec<_> = self.0.into_iter().map(|hashed| hashed.request).collect();
        requests.sort_by_key(|request| request.id);
        requests
    }
}

/// SplitMix64 of the id (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). It is the same on
/// every machine, and no two ids share one. Results are compared by it: never change it.
fn hash(id: u64) -> u64 {
    let mut z = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Ord for Hashed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.hash.cmp(&other.hash)
    }
}

impl PartialOrd for Hashed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Hashed {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Hashed {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::failure::{Failure, FailureKind};
    use crate::record::{Moments, Outcome, Phase, Usage};

    fn record(id: u64) -> Record {
        let at = |ms: u64| Moment::from_nanos(ms * 1_000_000);
        Record {
            outcome: Outcome::Success,
            status: Some(200),
            moments: Moments {
                due: at(0),
                taken: at(0),
                started: at(0),
                sent: Some(at(1)),
                sent_latest: None,
                sent_whole: None,
                first_byte: None,
                first_event: None,
                end: at(3 + id % 5),
                end_earliest: at(3 + id % 5),
            },
            usage: Usage { input_tokens: Some(id % 7), ..Usage::default() },
            ..Record::not_sent(id, Phase::Measured, at(0), at(3 + id % 5))
        }
    }

    fn sample(ids: impl IntoIterator<Item = u64>) -> Vec<SampledRequest> {
        let mut tally = SampleTally::default();
        ids.into_iter().for_each(|id| tally.add(&record(id)));
        tally.sample()
    }

    #[test]
    fn the_hash_is_the_same_for_ever() {
        assert_eq!(hash(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(hash(1), 0x910a_2dec_8902_5cc1);
    }

    #[test]
    fn few_requests_are_all_kept_in_order_of_their_ids() {
        let kept = sample((0..KEPT as u64).rev());
        assert!(kept.iter().map(|request| request.id).eq(0..KEPT as u64));
        let none = SampledRequest {
            id: 9,
            input_tokens: Some(2),
            output_tokens: None,
            ttft_ms: None,
            e2e_ms: Some(6.0),
        };
        assert_eq!(kept[9], none);
    }

    #[test]
    fn of_many_the_order_in_which_they_end_chooses_none() {
        let kept = sample(0..10_000);
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept, sample((0..10_000).rev()));
        assert_eq!(kept, sample((0..10_000).map(|n| n * 7_919 % 10_000)));
        let early = kept.iter().filter(|request| request.id < 5_000).count();
        assert!((160..=240).contains(&early), "{early} of the first half");
    }

    #[test]
    fn what_failed_takes_no_place() {
        let mut tally = SampleTally::default();
        for id in 0..2_000 {
            let mut record = record(id);
            if id % 2 == 0 {
                record.outcome = Outcome::Failed(Failure::new(FailureKind::IdleTimeout, ""));
            }
            tally.add(&record);
        }
        assert_eq!(tally.sample(), sample((1..2_000).step_by(2)));
    }
}
