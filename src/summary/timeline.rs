//! How a run went over time: a bounded number of equal slices, each with its counts, its load and its times.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::window::WindowTally;
use crate::clock::Moment;
use crate::failure::FailureKind;
use crate::record::Record;
use crate::units::nanos;

/// A run in slices of equal width, one after another without a gap. Requests of all phases are in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Beginning of the first slice, in seconds from the start of the first request: 0 or a part of a slice before.
    pub from_s: f64,
    /// Width of each slice, s.
    pub width_s: f64,
    /// At most 120. The last one goes on after the end of the last request.
    pub slices: Vec<Slice>,
}

/// What happened in one slice of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Requests started.
    pub started: u64,
    /// Requests that ended well.
    pub succeeded: u64,
    /// Requests that ended otherwise, by kind.
    pub failed: BTreeMap<String, u64>,
    /// Output tokens received, of successful requests; `None` where one of them came without counts.
    pub output_tokens: Option<f64>,
    /// Requests under way, on average over the slice's whole width.
    pub in_flight: f64,
    /// Times to first token of successful requests whose first token came in it, ms; `None` without any.
    pub ttft_ms: Option<Brief>,
    /// End-to-end latencies of successful requests that ended in it, ms; `None` without any.
    pub e2e_ms: Option<Brief>,
    /// Inter-token latencies of the tokens that came in it, of successful requests, ms; `None` without any.
    pub itl_ms: Option<Brief>,
}

/// What the values of one slice come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Brief {
    /// Number of values.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Half of the values are no larger; right to 2 %.
    pub p50: f64,
    /// 99 % of the values are no larger; right to 2 %.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// Most slices of a run.
const MAX_SLICES: u64 = 120;
/// Width of a slice at first: 2^23 ns, 8.4 ms. Powers of two, so that finding a slice is a shift.
const MIN_WIDTH: u32 = 23;

/// Follows a run, record by record, in slices that double their width when there are too many of them.
#[derive(Debug)]
pub struct TimelineTally {
    /// A slice is 2^this nanoseconds wide.
    width: u32,
    /// Number of the first slice, counted from the origin of moments.
    first: u64,
    slices: VecDeque<SliceTally>,
}

#[derive(Debug, Default)]
struct SliceTally {
    started: u64,
    succeeded: u64,
    failed: BTreeMap<FailureKind, u64>,
    /// Nanoseconds spent in it by all requests.
    busy: u128,
    ttft: Rough,
    e2e: Rough,
    itl: Rough,
}

impl Default for TimelineTally {
    fn default() -> Self {
        Self { width: MIN_WIDTH, first: 0, slices: VecDeque::new() }
    }
}

impl TimelineTally {
    /// Takes in a record of any phase.
    pub fn add(&mut self, record: &Record) {
        let (started, end) = (record.moments.started, record.moments.end.max(record.moments.started));
        self.reach(started, end);
        self.slice(started).started += 1;
        self.add_busy(started.as_nanos(), end.as_nanos());
        let slice = self.slice(end);
        if let Some(failure) = record.failure() {
            *slice.failed.entry(failure.kind).or_default() += 1;
            return;
        }
        slice.succeeded += 1;
        if let Some(e2e) = record.e2e() {
            slice.e2e.add(e2e, 1);
        }
        if let Some((first, ttft)) = record.token_events.first().zip(record.ttft()) {
            self.slice(first.at).ttft.add(ttft, 1);
        }
        for (at, latency, tokens) in record.itl_at().1 {
            self.slice(at).itl.add(latency, tokens);
        }
    }

    /// Makes slices for all that is between the two, as many as there may be.
    fn reach(&mut self, from: Moment, until: Moment) {
        loop {
            let (from, until) = (from.as_nanos() >> self.width, until.as_nanos() >> self.width);
            if self.slices.is_empty() {
                self.first = from;
            }
            let first = self.first.min(from);
            let last = (self.first + self.slices.len() as u64).max(until + 1);
            if last - first > MAX_SLICES {
                self.coarsen();
                continue;
            }
            while self.first > first {
                self.slices.push_front(SliceTally::default());
                self.first -= 1;
            }
            self.slices.resize_with((last - first) as usize, SliceTally::default);
            return;
        }
    }

    fn coarsen(&mut self) {
        let first = self.first / 2;
        let mut slices: VecDeque<SliceTally> = VecDeque::with_capacity(self.slices.len() / 2 + 1);
        for (number, slice) in (self.first..).zip(std::mem::take(&mut self.slices)) {
            match slices.get_mut((number / 2 - first) as usize) {
                Some(joined) => joined.join(slice),
                None => slices.push_back(slice),
            }
        }
        (self.width, self.first, self.slices) = (self.width + 1, first, slices);
    }

    /// The slice of a moment that is between two that were reached; else the nearest.
    fn slice(&mut self, at: Moment) -> &mut SliceTally {
        let number = (at.as_nanos() >> self.width).saturating_sub(self.first);
        let last = self.slices.len() - 1;
        &mut self.slices[(number as usize).min(last)]
    }

    fn add_busy(&mut self, from: u64, until: u64) {
        let (width, first) = (self.width, self.first);
        for number in from >> width..=until >> width {
            let begin = number << width;
            let end = begin.saturating_add(1 << width);
            let busy = until.min(end).saturating_sub(from.max(begin));
            self.slices[(number - first) as usize].busy += u128::from(busy);
        }
    }

    /// What it comes to; `received` tells the tokens. `None` without any record.
    pub fn timeline(&self, received: &WindowTally) -> Option<Timeline> {
        let origin = received.origin()?;
        let width = 1_u64 << self.width;
        let slices = (self.first..).zip(&self.slices).map(|(number, slice)| {
            let begin = Moment::from_nanos(number << self.width);
            slice.slice(width, received.tokens(begin, begin + Duration::from_nanos(width)))
        });
        let from_s = ((self.first << self.width) as f64 - origin.as_nanos() as f64) / 1e9;
        Some(Timeline { from_s, width_s: width as f64 / 1e9, slices: slices.collect() })
    }
}

impl SliceTally {
    fn join(&mut self, later: Self) {
        self.started += later.started;
        self.succeeded += later.succeeded;
        for (kind, count) in later.failed {
            *self.failed.entry(kind).or_default() += count;
        }
        self.busy += later.busy;
        self.ttft.join(&later.ttft);
        self.e2e.join(&later.e2e);
        self.itl.join(&later.itl);
    }

    fn slice(&self, width: u64, output_tokens: Option<f64>) -> Slice {
        Slice {
            started: self.started,
            succeeded: self.succeeded,
            failed: self.failed.iter().map(|(kind, count)| (kind.name(), *count)).collect(),
            output_tokens: output_tokens.map(|tokens| (tokens * 1e3).round() / 1e3),
            in_flight: self.busy as f64 / width as f64,
            ttft_ms: self.ttft.brief(),
            e2e_ms: self.e2e.brief(),
            itl_ms: self.itl.brief(),
        }
    }
}

/// Times in buckets that are a 32nd of their power of two wide: small enough to have hundreds of them.
#[derive(Debug, Default)]
struct Rough {
    /// Number of the first bucket.
    first: usize,
    buckets: VecDeque<u64>,
    count: u64,
    /// Nanoseconds.
    sum: u128,
    max: u64,
}

/// Buckets of each power of two, as a power of two.
const FINE: u32 = 5;

/// The bucket of so many nanoseconds.
fn bucket(nanos: u64) -> usize {
    let coarse = (u64::BITS - nanos.leading_zeros()).saturating_sub(FINE + 1);
    ((u64::from(coarse) << FINE) + (nanos >> coarse)) as usize
}

/// The middle of a bucket, in nanoseconds.
fn middle(bucket: usize) -> u64 {
    let coarse = (bucket >> FINE).saturating_sub(1);
    let begin = ((bucket - (coarse << FINE)) as u64) << coarse;
    begin + (1 << coarse) / 2
}

impl Rough {
    fn add(&mut self, time: Duration, times: u32) {
        let nanos = nanos(time);
        self.add_to(bucket(nanos), u64::from(times));
        self.count += u64::from(times);
        self.sum += u128::from(nanos) * u128::from(times);
        self.max = self.max.max(nanos);
    }

    fn add_to(&mut self, bucket: usize, count: u64) {
        if self.buckets.is_empty() {
            self.first = bucket;
        }
        while self.first > bucket {
            self.buckets.push_front(0);
            self.first -= 1;
        }
        let index = bucket - self.first;
        if index >= self.buckets.len() {
            self.buckets.resize(index + 1, 0);
        }
        self.buckets[index] += count;
    }

    fn join(&mut self, other: &Self) {
        for (bucket, count) in (other.first..).zip(&other.buckets) {
            self.add_to(bucket, *count);
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    fn brief(&self) -> Option<Brief> {
        // to the microsecond: more digits would be noise
        let ms = |nanos: f64| (nanos / 1e3).round() / 1e3;
        (self.count > 0).then(|| Brief {
            count: self.count,
            mean: ms(self.sum as f64 / self.count as f64),
            p50: ms(self.at(0.5) as f64),
            p99: ms(self.at(0.99) as f64),
            max: ms(self.max as f64),
        })
    }

    /// The value at the rank that the share of all values reaches.
    fn at(&self, share: f64) -> u64 {
        let rank = (share * self.count as f64).ceil() as u64;
        let mut below = 0;
        for (bucket, count) in (self.first..).zip(&self.buckets) {
            below += count;
            if below >= rank {
                return middle(bucket).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Arrival;
    use crate::failure::Failure;
    use crate::record::{Moments, Outcome, Phase, TokenEvent, Usage};
    use crate::summary::Full;

    /// Started and sent at the first of these milliseconds, with a token at each of the others.
    fn record(id: u64, ms: &[u64]) -> Record {
        let at = |ms: u64| Moment::from_nanos(ms * 1_000_000);
        let (started, end) = (at(ms[0]), at(ms[ms.len() - 1]));
        Record {
            outcome: Outcome::Success,
            status: Some(200),
            moments: Moments {
                due: started,
                taken: started,
                started,
                sent: Some(started),
                sent_latest: Some(started),
                sent_whole: Some(started),
                first_byte: None,
                first_event: None,
                end,
                end_earliest: end,
            },
            token_events: ms[1..].iter().map(|ms| TokenEvent::new(Arrival::exact(at(*ms)), None)).collect(),
            usage: Usage { output_tokens: Some(ms.len() as u64 - 1), ..Usage::default() },
            ..Record::not_sent(id, Phase::Measured, started, end)
        }
    }

    fn timeline(records: &[Record]) -> Option<Timeline> {
        let (mut tally, mut windows) = (TimelineTally::default(), WindowTally::new(Full::Started(1)));
        for record in records {
            tally.add(record);
            windows.add(record);
        }
        tally.timeline(&windows)
    }

    #[test]
    fn no_records_are_no_timeline() {
        assert_eq!(timeline(&[]), None);
    }

    #[test]
    fn a_request_is_where_its_moments_are() {
        let mut failed = record(1, &[50, 60]);
        failed.outcome = Outcome::Failed(Failure::new(FailureKind::Http(503), ""));
        let run = timeline(&[record(0, &[1, 11, 21, 31]), failed]).expect("there are records");
        assert_eq!((run.width_s, run.slices.len()), (0.008_388_608, 8));
        assert!((run.from_s + 0.001).abs() < 1e-9, "{}", run.from_s);
        let of = |f: fn(&Slice) -> u64| run.slices.iter().map(f).collect::<Vec<_>>();
        assert_eq!(of(|slice| slice.started), [1, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(of(|slice| slice.succeeded), [0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(of(|slice| slice.failed.values().sum()), [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(
            of(|slice| slice.output_tokens.expect("counted").round() as u64),
            [0, 1, 1, 1, 0, 0, 0, 0]
        );
        assert_eq!(of(|slice| slice.ttft_ms.map_or(0, |ttft| ttft.count)), [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(of(|slice| slice.itl_ms.map_or(0, |itl| itl.count)), [0, 0, 1, 1, 0, 0, 0, 0]);
        assert_eq!(run.slices[3].e2e_ms.map(|e2e| (e2e.p50, e2e.max)), Some((30.0, 30.0)));
        assert_eq!((run.slices[1].in_flight, run.slices[4].in_flight), (1.0, 0.0));
    }

    #[test]
    fn a_bucket_holds_its_values_and_is_narrow() {
        for power in 0..63 {
            for nanos in [1_u64 << power, (1 << power) + (1 << power) / 3, (2 << power) - 1] {
                let middle = middle(bucket(nanos));
                assert!(middle.abs_diff(nanos) as f64 <= nanos as f64 / 63.0, "{nanos} {middle}");
            }
        }
        assert_eq!(middle(bucket(0)), 0);
        assert!(middle(bucket(u64::MAX)) > u64::MAX / 64 * 63);
    }

    #[test]
    fn percentiles_are_near() {
        let mut rough = Rough::default();
        (1..=1_000).for_each(|ms| rough.add(Duration::from_millis(ms), 1));
        let brief = rough.brief().expect("there are values");
        assert_eq!((brief.count, brief.mean, brief.max), (1_000, 500.5, 1_000.0));
        assert!(
            (brief.p50 / 500.0 - 1.0).abs() < 0.02 && (brief.p99 / 990.0 - 1.0).abs() < 0.02,
            "{brief:?}"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_all_stays_small(spans in proptest::collection::vec((0_u64..100_000_000, 0_u64..1_000_000), 1..60)) {
            let records: Vec<_> =
                (0..).zip(&spans).map(|(id, (from, length))| record(id, &[*from, from + length])).collect();
            let run = timeline(&records).expect("there are records");
            prop_assert!(run.slices.len() as u64 <= MAX_SLICES);
            let count = spans.len() as u64;
            prop_assert_eq!(run.slices.iter().map(|slice| slice.started).sum::<u64>(), count);
            prop_assert_eq!(run.slices.iter().map(|slice| slice.succeeded).sum::<u64>(), count);
            prop_assert_eq!(run.slices.iter().filter_map(|slice| Some(slice.e2e_ms?.count)).sum::<u64>(), count);
            let busy: f64 = run.slices.iter().map(|slice| slice.in_flight * run.width_s).sum();
            let want: f64 = spans.iter().map(|(_, length)| *length as f64 / 1e3).sum();
            prop_assert!((busy - want).abs() <= want * 1e-6 + 1e-6, "{} {}", busy, want);
        }

        #[test]
        fn any_moments_at_all_make_a_timeline(nanos in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 1..9)) {
            let records: Vec<_> = (0..).zip(&nanos).map(|(id, (started, token, end))| {
                let mut record = record(id, &[0, 1]);
                record.moments.started = Moment::from_nanos(*started);
                record.token_events[0].at = Moment::from_nanos(*token);
                record.moments.end = Moment::from_nanos(*end);
                record
            }).collect();
            prop_assert!(timeline(&records).is_some_and(|run| run.slices.len() as u64 <= MAX_SLICES));
        }
    }
}
