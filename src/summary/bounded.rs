//! Values of one quantity of which some lie between two ends, because this client read late.

use std::time::Duration;

use super::distribution::Moments;
use super::{Adjusted, Distribution, Samples};
use crate::record::{Ends, Times};
use crate::units::nanos;

/// Gathers times by their upper ends, and by their lower ends too from the first that has two.
#[derive(Debug)]
pub struct Bounded {
    high: Samples,
    /// `None` as long as every time is known.
    late: Option<Box<Late>>,
}

/// What is kept where some times are not known.
#[derive(Debug)]
struct Late {
    low: Samples,
    /// Of times that add up to the most and to the least that these can.
    most: Moments,
    least: Moments,
}

impl Bounded {
    /// None yet. The histogram counts in units of `per_bucket`.
    pub fn new(per_bucket: u64) -> Self {
        Self { high: Samples::new(per_bucket), late: None }
    }

    /// Takes a time in that is known, as often as told.
    pub fn add_known(&mut self, time: Duration, times: u32) {
        let time = nanos(time);
        self.high.add_times(time, times);
        if let Some(late) = &mut self.late {
            late.low.add_times(time, times);
            late.most.add(time, times);
            late.least.add(time, times);
        }
    }

    /// Takes a time in that lies between these ends; none where there are none.
    pub fn add(&mut self, ends: Option<Ends>) {
        let Some(ends) = ends else { return };
        if ends.low == ends.high {
            return self.add_known(ends.high, 1);
        }
        let (low, high) = (nanos(ends.low), nanos(ends.high));
        let late = self.late();
        late.low.add(low);
        late.least.add(low, 1);
        late.most.add(high, 1);
        self.high.add(high);
    }

    /// Takes the times between a reply's events or tokens in.
    pub fn add_all(&mut self, times: &Times) {
        times.known.iter().for_each(|(time, n)| self.add_known(*time, *n));
        if times.ranked.is_empty() {
            return;
        }
        let late = self.late();
        for (ends, n) in &times.ranked {
            late.low.add_times(nanos(ends.low), *n);
        }
        times.longest.iter().for_each(|(time, n)| late.most.add(nanos(*time), *n));
        times.shortest.iter().for_each(|(time, n)| late.least.add(nanos(*time), *n));
        times.ranked.iter().for_each(|(ends, n)| self.high.add_times(nanos(ends.high), *n));
    }

    fn late(&mut self) -> &mut Late {
        let high = &self.high;
        self.late.get_or_insert_with(|| {
            let so_far = high.moments();
            Box::new(Late { low: high.clone(), most: so_far, least: so_far })
        })
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.high.count()
    }

    /// As [`Samples::adjusted`]: of the upper ends, and of the lower ones where they differ.
    pub fn adjusted(&mut self, failures: u64, unit: f64) -> (Option<Adjusted>, Option<Adjusted>) {
        let low = self.late.as_mut().and_then(|late| late.low.adjusted(failures, unit));
        (self.high.adjusted(failures, unit), low)
    }

    /// As [`Samples::into_distribution_of`]: of the upper ends, and of the lower ones where they differ. Only so many values
    /// count as independent; `None` stands for all.
    pub fn into_distributions(
        self,
        independent: Option<u64>,
        unit: f64,
    ) -> (Option<Distribution>, Option<Distribution>) {
        let independent = independent.unwrap_or(self.high.count());
        let (low, most) = match self.late.map(|late| *late) {
            None => (None, None),
            Some(Late { low, most, least }) => {
                (low.into_distribution_with(Some(least), independent, unit), Some(most))
            }
        };
        (self.high.into_distribution_with(most, independent, unit), low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Arrival, Moment};
    use crate::record::{Moments, Outcome, Phase, Record, Sink, TokenEvent, Usage};
    use crate::summary::{Slo, Summary, Tally};

    const MS: f64 = 1e6;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn ends(low: u64, high: u64) -> Option<Ends> {
        Some(Ends { low: ms(low), high: ms(high) })
    }

    #[test]
    fn what_is_known_has_one_distribution() {
        let mut times = Bounded::new(1_000);
        (1..=10).for_each(|time| times.add(ends(time, time)));
        times.add(None);
        let mut plain = Samples::new(1_000);
        (1..=10).for_each(|time| plain.add(time * 1_000_000));
        assert_eq!(times.adjusted(1, MS), (plain.adjusted(1, MS), None));
        assert_eq!(times.into_distributions(None, MS), (plain.into_distribution(MS), None));
    }

    #[test]
    fn one_time_that_is_not_known_parts_the_ends() {
        let mut times = Bounded::new(1_000);
        times.add(ends(50, 50));
        times.add(ends(50, 330));
        times.add_known(ms(60), 1);
        let (high, low) = times.into_distributions(None, MS);
        let (high, low) = (high.expect("three"), low.expect("one is not known"));
        assert_eq!((high.count, high.median, high.max), (3, 60.0, 330.0));
        assert_eq!((low.count, low.median, low.max), (3, 50.0, 60.0));
        assert!((high.mean - 440.0 / 3.0).abs() < 1e-9 && (low.mean - 160.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_mean_is_that_of_the_sum_and_not_of_the_ranks() {
        let mut gaps = Bounded::new(1_000);
        let ranked = |high| (Ends { low: Duration::ZERO, high: ms(high) }, 1);
        gaps.add_all(&Times {
            known: vec![(ms(10), 1)],
            ranked: vec![ranked(60), ranked(30), ranked(20)],
            longest: vec![(ms(0), 2), (ms(60), 1)],
            shortest: vec![(ms(20), 3)],
        });
        let (high, low) = gaps.into_distributions(Some(1), MS);
        let (high, low) = (high.expect("four"), low.expect("three are not known"));
        assert_eq!((high.mean, low.mean), (17.5, 17.5));
        assert_eq!((high.percentiles.p50, high.max, low.max), (25.0, 60.0, 10.0));
        assert_eq!((high.ci95.map(|ci| ci.n), low.ci95.map(|ci| ci.n)), (Some(1), Some(1)));
    }

    /// Sent at 0; tokens at 50, 60, … 140 ms. Of those before `read_ms` all but the last were joined into one read.
    fn record(id: u64, read_ms: u64) -> Record {
        let at = |ms: u64| Moment::from_nanos(ms * 1_000_000);
        let joined = (5..15).map(|n| n * 10).rfind(|ms| *ms <= read_ms).unwrap_or_default();
        let events = (5..15).map(|n| n * 10).map(|ms| match ms < joined {
            true => Arrival { earliest: at(0), at: at(joined) },
            false => Arrival::exact(at(ms)),
        });
        let empty = Record::not_sent(id, Phase::Measured, at(0), at(150));
        Record {
            outcome: Outcome::Success,
            moments: Moments { sent: Some(at(0)), sent_latest: Some(at(0)), ..empty.moments.clone() },
            token_events: events.map(|arrival| TokenEvent::new(arrival, None)).collect(),
            usage: Usage { output_tokens: Some(10), ..Usage::default() },
            stood_still: Duration::from_millis(read_ms),
            ..empty
        }
    }

    fn summary(slos: &[&str], records: impl IntoIterator<Item = Record>) -> Summary {
        let slos: Vec<Slo> = slos.iter().map(|slo| slo.parse().expect("an objective")).collect();
        let mut tally = Tally::default().with_slos(&slos);
        records.into_iter().for_each(|record| tally.record(&record));
        tally.into_summary()
    }

    #[test]
    fn a_run_in_time_has_no_lower_ends_and_says_so() {
        let summary = summary(&["ttft:50ms"], (0..10).map(|id| record(id, 0)));
        let json = serde_json::to_value(&summary).expect("plain data");
        let latency = json["latency"].as_object().expect("an object");
        assert!(latency.keys().all(|name| !name.contains("_low")), "{latency:?}");
        assert_eq!(
            (&latency["uncertain_requests_share"], &latency["uncertain_gaps_share"]),
            (&0.0.into(), &0.0.into())
        );
        assert_eq!((&latency["stood_still_s"], &json["requests"]["stood_still"]), (&0.0.into(), &0.into()));
        assert!(json["goodput"].get("at_best").is_none());
    }

    #[test]
    fn a_run_that_was_late_has_both_ends() {
        let slos = ["ttft:60ms", "stall:15ms"];
        let summary = summary(&slos, (0..10).map(|id| record(id, if id < 2 { 100 } else { 0 })));
        let latency = &summary.latency;
        let (high, low) = (latency.ttft.as_ref().expect("ten"), latency.ttft_low.as_ref().expect("two late"));
        assert_eq!((high.median, high.max, low.min, low.max), (50.0, 100.0, 0.0, 50.0));
        assert_eq!((&latency.e2e_low, latency.e2e.as_ref().map(|d| d.max)), (&None, Some(140.0)));
        assert_eq!(latency.adj_ttft_low.map(|adjusted| adjusted.p99), Some(Some(50.0)));
        // ten gaps of 10 ms each, of which two replies' first five are known to add up to 100 ms at most
        let (high, low) = (latency.itl.as_ref().expect("some"), latency.itl_low.as_ref().expect("some"));
        assert_eq!((high.count, low.count, high.max, high.median), (90, 90, 100.0, 10.0));
        assert!(low.mean < 10.0 && 10.0 < high.mean && high.mean < 12.0, "{} {}", low.mean, high.mean);
        assert!(latency.tpot_low.is_some() && latency.inter_event_low.is_some());
        assert_eq!(latency.uncertain_requests_share, Some(0.2));
        assert_eq!(latency.uncertain_gaps_share, Some(10.0 / 90.0));
        assert_eq!((latency.stood_still_s, summary.requests.stood_still), (Some(0.2), 2));
        let goodput = summary.goodput.expect("objectives");
        assert_eq!(
            (goodput.good, goodput.at_best.map(|best| (best.good, best.share))),
            (8, Some((10, Some(1.0))))
        );
    }

    #[test]
    fn the_order_in_which_late_requests_end_is_no_matter() {
        let run = |order: &mut dyn Iterator<Item = u64>| summary(&[], order.map(|id| record(id, id * 20)));
        let (one, other) = (run(&mut (0..8)), run(&mut (0..8).rev()));
        assert_eq!(one.latency, other.latency);
    }
}
