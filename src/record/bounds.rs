//! Between which two ends the times of a request lie, where this client read late.
//!
//! What one late read joins is known to have come in after the read before it, and by its own stamp. So TTFT, E2E and TPOT
//! lie between two ends. Of the gaps between joined events only the sum is known, and by it their order: of gaps that add
//! up to W the j-th longest is at most W ÷ j.

use std::time::Duration;

use super::{ItlSource, Record, Share, TokenEvent};
use crate::clock::Moment;
use crate::units::nanos;

/// A time that lies between two; the same where it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// It is no less.
    pub low: Duration,
    /// It is no more.
    pub high: Duration,
}

impl Ends {
    /// A time that is known.
    pub const fn exact(time: Duration) -> Self {
        Self { low: time, high: time }
    }

    /// From a start to an end that each lie between two moments.
    pub(super) fn between(start: (Moment, Moment), end: (Moment, Moment)) -> Self {
        let high = end.1.since(start.0);
        Self { low: end.0.since(start.1).min(high), high }
    }
}

/// So many times whose ends these are: not of each by itself, but of each by its rank, longest first.
pub type Ranked = (Ends, u32);

/// Times between the token events of a reply, or between its tokens, of which some are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Those that are known, with the number of tokens that have each.
    pub known: Vec<(Duration, u32)>,
    /// The ends of the others, by their ranks.
    pub ranked: Vec<Ranked>,
    /// As many times as in `ranked` that add up to the most that these can: as they were stamped. Means are of these, for
    /// upper ends of ranks add up to far more than all can be together.
    pub longest: Vec<(Duration, u32)>,
    /// Likewise to the least that they can add up to: of even length.
    pub shortest: Vec<(Duration, u32)>,
}

impl Record {
    /// Whether every time of it is known: this client read no part of its reply late, and sent it without delay.
    pub fn is_exact(&self) -> bool {
        let moments = &self.moments;
        let is_sent_then =
            moments.sent_latest.is_none_or(|latest| moments.sent.is_none_or(|sent| latest <= sent));
        let has_end = !self.token_events.is_empty() || moments.end_earliest >= moments.end;
        // without a branch for each event: nearly always there is nothing to find
        is_sent_then
            && has_end
            && self.token_events.iter().fold(0, |early, event| early | event.early_us) == 0
    }

    fn sent_between(&self) -> Option<(Moment, Moment)> {
        let sent = self.moments.sent?;
        Some((sent, self.moments.sent_latest.unwrap_or(sent).max(sent)))
    }

    /// [`last_token`](Self::last_token) at the earliest and at the latest.
    fn last_token_between(&self) -> (Moment, Moment) {
        let end = (self.moments.end_earliest.min(self.moments.end), self.moments.end);
        self.token_span().map_or(end, |(_, last)| between(last))
    }

    /// [`ttft`](Self::ttft) at the least and at the most.
    pub fn ttft_ends(&self) -> Option<Ends> {
        Some(Ends::between(self.sent_between()?, between(self.token_span()?.0)))
    }

    /// [`e2e`](Self::e2e) at the least and at the most.
    pub fn e2e_ends(&self) -> Option<Ends> {
        Some(Ends::between(self.sent_between()?, self.last_token_between())).filter(|_| self.is_success())
    }

    /// [`response_ttft`](Self::response_ttft) at the least and at the most.
    pub fn response_ttft_ends(&self) -> Option<Ends> {
        let due = self.moments.due;
        Some(Ends::between((due, due), between(self.token_span()?.0)))
    }

    /// [`response_e2e`](Self::response_e2e) at the least and at the most.
    pub fn response_e2e_ends(&self) -> Option<Ends> {
        let due = self.moments.due;
        Some(Ends::between((due, due), self.last_token_between())).filter(|_| self.is_success())
    }

    /// The longest of the gaps between token events at the least and at the most. `None` below two of them.
    pub fn longest_gap_ends(&self) -> Option<Ends> {
        if self.is_exact() {
            return self.gaps().max().map(Ends::exact);
        }
        let times = self.gap_times();
        let known = times.known.into_iter().map(|(gap, _)| Ends::exact(gap));
        known
            .chain(times.ranked.into_iter().map(|(ends, _)| ends))
            .reduce(|a, b| Ends { low: a.low.max(b.low), high: a.high.max(b.high) })
    }

    /// [`gaps`](Self::gaps) as far as they are known.
    pub fn gap_times(&self) -> Times {
        self.times(|_| true, |_| Share::One)
    }

    /// [`itl`](Self::itl) as far as it is known.
    pub fn itl_times(&self) -> Times {
        let (source, share) = self.itl_share();
        match source {
            ItlSource::Unknown => Times::default(),
            // what waited for a token is in that token's latency
            ItlSource::Counted => {
                self.times(|event| event.tokens.is_some(), |event| event.tokens.map_or(share, Share::Counted))
            }
            ItlSource::Estimated | ItlSource::Events => self.times(|_| true, |_| share),
        }
    }

    /// The times between the token events of each choice, of those after the first that count, shared out as said.
    fn times(&self, counts: impl Fn(&TokenEvent) -> bool, share: impl Fn(&TokenEvent) -> Share) -> Times {
        let mut all = Times::default();
        for mut events in self.by_choice() {
            let later = events.get(1..).unwrap_or_default();
            if !later.iter().all(&counts) {
                let kept = events.iter().enumerate().filter(|(number, event)| *number == 0 || counts(event));
                events = kept.map(|(_, event)| *event).collect::<Vec<_>>().into();
            }
            let later = events.get(1..).unwrap_or_default();
            let Times { known, ranked, longest, shortest } = times(&events, later.iter().map(&share));
            all.known.extend(known);
            all.ranked.extend(ranked);
            all.longest.extend(longest);
            all.shortest.extend(shortest);
        }
        all
    }

    /// Whether one of its moments is not known to the millisecond: when it was sent, when a token came in, when a whole reply
    /// ended.
    pub fn is_uncertain(&self) -> bool {
        let moments = &self.moments;
        let is_far = |earliest: Moment, latest: Moment| latest.since(earliest) > NOTICEABLE;
        let is_sent_late = self.sent_between().is_some_and(|(earliest, latest)| is_far(earliest, latest));
        let ends_late = self.token_events.is_empty() && is_far(moments.end_earliest, moments.end);
        is_sent_late || ends_late || self.token_events.iter().any(TokenEvent::is_uncertain)
    }

    /// How many of the gaps between token events are from or to one of which the moment is not known to the millisecond.
    pub fn uncertain_gaps(&self) -> u64 {
        self.steps().filter(|(before, event)| before.is_uncertain() || event.is_uncertain()).count() as u64
    }
}

/// What is known to this is not counted as unknown: hardly anybody asks for more.
const NOTICEABLE: Duration = Duration::from_millis(1);

impl TokenEvent {
    fn is_uncertain(&self) -> bool {
        Duration::from_micros(self.early_us.into()) > NOTICEABLE
    }
}

/// When it came in, at the earliest and at the latest.
pub(super) fn between(event: TokenEvent) -> (Moment, Moment) {
    (event.earliest(), event.at)
}

/// What is known of the times between these events, each gap shared out over the tokens of the event that ended it.
///
/// Gaps come in groups: from one event whose moment is known to the next such, or from the first event or to the last.
fn times(events: &[TokenEvent], shares: impl Iterator<Item = Share>) -> Times {
    let mut times = Times::default();
    let mut shares = shares.fuse();
    let mut start = 0;
    while start + 1 < events.len() {
        let is_open = |event: &TokenEvent| event.early_us > 0;
        let inner = events[start + 1..events.len() - 1].iter().take_while(|event| is_open(event)).count();
        let group = &events[start..start + inner + 2];
        start += inner + 1;
        let shares: Vec<Share> = shares.by_ref().take(inner + 1).collect();
        if group.iter().any(is_open) {
            times.add_group(group, &shares);
        } else {
            let gaps = group.windows(2).map(|pair| pair[1].at.since(pair[0].at));
            times.known.extend(gaps.zip(shares).map(|(gap, share)| share.of(gap)));
        }
    }
    times
}

impl Times {
    fn add_group(&mut self, events: &[TokenEvent], shares: &[Share]) {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return };
        let sum = Ends::between(between(*first), between(*last));
        let ends = events.windows(2).map(|pair| Ends::between(between(pair[0]), between(pair[1])));
        let (mut lows, mut highs) = (Vec::with_capacity(shares.len()), Vec::with_capacity(shares.len()));
        // how much of a gap its tokens' latencies add up to: all of it, unless their number was rounded
        let (mut least, mut most) = (f64::INFINITY, 0_f64);
        for (ends, share) in ends.zip(shares) {
            let (low, tokens) = share.of(ends.low);
            lows.push((nanos(low), tokens));
            highs.push((nanos(share.of(ends.high).0).saturating_add(share.rounding()), tokens));
            (least, most) = (least.min(share.part()), most.max(share.part()));
        }
        let scaled = |time: Duration, by: f64| if by == 1.0 { time } else { time.mul_f64(by) };
        let sum = (scaled(sum.low, least.min(1.0)), scaled(sum.high, most.max(1.0)));
        self.ranked.extend(ranked((nanos(sum.0), nanos(sum.1)), lows, highs));

        let starts = std::iter::once(first.earliest()).chain(events[1..].iter().map(|event| event.at));
        let stamped = starts.zip(&events[1..]).map(|(start, event)| event.at.since(start));
        self.longest.extend(stamped.zip(shares).map(|(gap, share)| share.of(gap)));
        let tokens: u64 =
            self.longest[self.longest.len() - shares.len()..].iter().map(|(_, n)| u64::from(*n)).sum();
        let even = Duration::from_nanos(nanos(sum.0) / tokens.max(1));
        self.shortest.extend(shares.iter().map(|share| (even, share.of(even).1)));
    }
}

/// Ranks of a group beyond which one bound stands for several in a row, which makes it looser by a 256th at most.
const FINE_RANKS: u64 = 256;

/// The ends of values by their rank, largest first: of values that add up to `sum` (least, most), each of which is at least
/// and at most so much. Both lists tell how many values are alike, and have the same number of values.
///
/// The j-th largest is no more than the j-th largest of the upper ends, nor than the sum's j-th part. It is no less than the
/// j-th largest of the lower ends, nor than the mean of what is left of the sum when all that are larger are as large as
/// can be.
fn ranked(sum: (u64, u64), mut lows: Vec<(u64, u32)>, mut highs: Vec<(u64, u32)>) -> Vec<Ranked> {
    let all: u64 = highs.iter().map(|(_, times)| u64::from(*times)).sum();
    lows.sort_unstable_by(|a, b| b.cmp(a));
    highs.sort_unstable_by(|a, b| b.cmp(a));
    let (mut lows, mut highs) = (lows.into_iter(), highs.into_iter());
    let (mut least, mut most) = ((0, 0), (0, 0));
    let mut ranked = Vec::new();
    let (mut rank, mut larger) = (1_u64, 0_u128);
    while rank <= all {
        while least.1 == 0 {
            least = lows.next().unwrap_or((0, u32::MAX));
        }
        while most.1 == 0 {
            most = highs.next().unwrap_or((u64::MAX, u32::MAX));
        }
        let run = u64::from(least.1.min(most.1)).min((rank / FINE_RANKS).max(1)).min(all - rank + 1);
        let high = most.0.min(sum.1.div_ceil(rank));
        // of the last of this run
        let left = u128::from(sum.0).saturating_sub(larger + u128::from(high) * u128::from(run - 1));
        let mean = left / u128::from(all - (rank + run - 1) + 1);
        let low = least.0.max(u64::try_from(mean).unwrap_or(u64::MAX)).min(high);
        let run32 = u32::try_from(run).unwrap_or(u32::MAX);
        ranked.push((Ends { low: Duration::from_nanos(low), high: Duration::from_nanos(high) }, run32));
        (least.1, most.1) = (least.1 - run32, most.1 - run32);
        larger += u128::from(high) * u128::from(run);
        rank += run;
    }
    ranked
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Arrival;
    use crate::record::{Moments, Outcome, Phase, Usage};

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * MS)
    }

    fn record(token_events: Vec<TokenEvent>, output_tokens: Option<u64>) -> Record {
        let end = token_events.last().map_or(at(500), |event| event.at);
        let empty = Record::not_sent(0, Phase::Measured, at(0), end);
        Record {
            outcome: Outcome::Success,
            moments: Moments { sent: Some(at(10)), sent_latest: Some(at(10)), ..empty.moments.clone() },
            token_events,
            usage: Usage { output_tokens, ..Usage::default() },
            ..empty
        }
    }

    fn event(earliest_ms: u64, at_ms: u64) -> TokenEvent {
        TokenEvent::new(Arrival { at: at(at_ms), earliest: at(earliest_ms) }, None)
    }

    fn ends(low: u64, high: u64) -> Ends {
        Ends { low: Duration::from_millis(low), high: Duration::from_millis(high) }
    }

    #[test]
    fn what_came_in_in_time_has_one_end() {
        let exact = record(vec![event(60, 60), event(80, 80), event(90, 90)], Some(3));
        assert!(exact.is_exact());
        assert_eq!((exact.ttft_ends(), exact.ttft()), (Some(ends(50, 50)), Some(Duration::from_millis(50))));
        assert_eq!((exact.e2e_ends(), exact.tpot_ends()), (Some(ends(80, 80)), Some(ends(15, 15))));
        assert_eq!(exact.longest_gap_ends(), Some(ends(20, 20)));
        let gaps: Vec<_> = exact.gaps().map(|gap| (gap, 1)).collect();
        assert_eq!(exact.gap_times(), Times { known: gaps, ..Times::default() });
        assert_eq!(exact.uncertain_gaps(), 0);
    }

    /// Four tokens from 60 to 90 ms and one at 100; the first four were read at once, late, after nothing before 20.
    fn joined() -> Record {
        record(
            [20; 4].map(|earliest| event(earliest, 90)).into_iter().chain([event(100, 100)]).collect(),
            Some(5),
        )
    }

    #[test]
    fn a_late_first_token_leaves_two_ends() {
        let late = joined();
        assert!(!late.is_exact() && late.is_uncertain());
        assert_eq!((late.ttft_ends(), late.ttft()), (Some(ends(10, 80)), Some(Duration::from_millis(80))));
        assert_eq!(late.response_ttft_ends(), Some(ends(20, 90)));
        assert_eq!(late.e2e_ends(), Some(ends(90, 90)));
        let tpot = Ends { low: Duration::from_micros(2_500), high: Duration::from_millis(20) };
        assert_eq!((late.tpot_ends(), late.tpot()), (Some(tpot), Some(tpot.high)));
    }

    #[test]
    fn of_joined_gaps_the_sum_bounds_the_ranks() {
        let late = joined();
        let times = late.gap_times();
        let highs: Vec<_> = times.ranked.iter().map(|(ends, n)| (ends.high.as_micros(), *n)).collect();
        // 80 ms in all, of which three gaps are 70 at most
        assert_eq!(highs, [(80_000, 1), (40_000, 1), (26_666, 1), (20_000, 1)]);
        // 10 ms at least, in four gaps
        let lows: Vec<_> = times.ranked.iter().map(|(ends, _)| ends.low.as_micros()).collect();
        assert_eq!(lows, [10_000, 0, 0, 0]);
        assert_eq!((late.longest_gap_ends(), late.uncertain_gaps()), (Some(ends(10, 80)), 4));
        let sum = |times: &[(Duration, u32)]| times.iter().map(|(time, n)| *time * *n).sum::<Duration>();
        assert_eq!((sum(&times.longest), sum(&times.shortest)), (ends(10, 80).high, ends(10, 80).low));
    }

    #[test]
    fn a_little_late_is_a_little_uncertain() {
        let events = (0..5).map(|i| event(60 + 50 * i, 61 + 50 * i)).collect();
        let little = record(events, None);
        assert!(!little.is_exact() && !little.is_uncertain() && little.uncertain_gaps() == 0);
        let all = little.gap_times().ranked;
        assert!(
            all.iter()
                .all(|(ends, _)| ends.low >= Duration::from_millis(49)
                    && ends.high <= Duration::from_millis(51))
        );
    }

    #[test]
    fn a_reply_that_was_not_streamed_ends_between_two_moments() {
        let mut whole = record(vec![], Some(5));
        whole.moments.end_earliest = at(400);
        whole.moments.sent_latest = Some(at(15));
        assert!(!whole.is_exact() && whole.is_uncertain());
        assert_eq!((whole.e2e_ends(), whole.ttft_ends()), (Some(ends(385, 490)), None));
        assert_eq!((whole.response_e2e_ends(), whole.longest_gap_ends()), (Some(ends(400, 500)), None));
    }

    #[test]
    fn a_hostile_count_of_tokens_makes_a_bounded_list() {
        let late = record(vec![event(60, 60), event(60, 90), event(60, 90)], Some(u64::MAX));
        let times = late.itl_times();
        assert_eq!(times.ranked.iter().map(|(_, n)| u64::from(*n)).sum::<u64>(), 2 * 65_536);
        assert!(times.ranked.len() < 5_000, "{}", times.ranked.len());
    }

    /// What really happened, and what a late reader made of it.
    #[derive(Debug)]
    struct Told {
        truth: Record,
        late: Record,
    }

    /// How the reader stamps what it joined.
    #[derive(Clone, Copy, Debug)]
    enum Stamps {
        /// All with the last one's stamp; the last is as uncertain as the others.
        OfTheLast,
        /// The same, but it is known that the stamp is the last one's.
        LastKnown,
        /// With the moment of the read.
        OfTheRead,
    }

    /// Tokens at true times in µs from `sent`, read only at those of the reads, the rest at once in the end.
    fn told(
        gaps: &[u64],
        tokens: &[u32],
        is_counted: bool,
        reads: &[u64],
        stamps: Stamps,
        sent_us: u64,
    ) -> Told {
        let micros = |us: u64| Moment::from_nanos((1_000 + us) * 1_000);
        let times: Vec<u64> = gaps
            .iter()
            .scan(0, |at, gap| {
                *at += gap;
                Some(*at)
            })
            .collect();
        let mut reads: Vec<u64> = reads
            .iter()
            .scan(0, |at, wait| {
                *at += wait;
                Some(*at)
            })
            .filter(|at| *at < times[times.len() - 1])
            .collect();
        reads.push(times[times.len() - 1]);
        let mut before = 0;
        let mut arrivals = Vec::new();
        let mut rest = times.as_slice();
        for read in reads {
            let (joined, later) = rest.split_at(rest.partition_point(|time| *time <= read));
            rest = later;
            let Some(last) = joined.last() else { continue };
            let stamp = if matches!(stamps, Stamps::OfTheRead) { read } else { *last };
            for (number, _) in joined.iter().enumerate() {
                let is_known = match stamps {
                    Stamps::OfTheLast => joined.len() == 1,
                    Stamps::LastKnown => number + 1 == joined.len(),
                    Stamps::OfTheRead => false,
                };
                let earliest = if is_known { stamp } else { before };
                arrivals.push(Arrival { at: micros(stamp), earliest: micros(earliest) });
            }
            before = stamp;
        }
        let counts = tokens.iter().cycle().map(|n| NonZeroU32::new(*n).filter(|_| is_counted));
        let output: u64 = tokens.iter().cycle().take(times.len()).map(|n| u64::from(*n)).sum();
        let event = |(arrival, tokens)| TokenEvent::new(arrival, tokens);
        let exact = times.iter().map(|time| Arrival::exact(micros(*time)));
        let mut truth = record(exact.zip(counts.clone()).map(event).collect(), Some(output));
        let mut late = record(arrivals.into_iter().zip(counts).map(event).collect(), Some(output));
        truth.moments.sent = Some(micros(0));
        truth.moments.sent_latest = truth.moments.sent;
        late.moments.sent = Some(Moment::from_nanos((1_000 - sent_us) * 1_000));
        late.moments.sent_latest = Some(micros(sent_us));
        Told { truth, late }
    }

    fn a_run() -> impl Strategy<Value = Vec<Told>> {
        let stamps = prop_oneof![Just(Stamps::OfTheLast), Just(Stamps::LastKnown), Just(Stamps::OfTheRead)];
        let tokens = proptest::collection::vec(1_u32..5, 1..4);
        let one = (
            proptest::collection::vec(prop_oneof![Just(0_u64), 1..20_000_u64, 1..500_000_u64], 1..40),
            tokens,
            any::<bool>(),
            proptest::collection::vec(prop_oneof![1..20_000_u64, 1..400_000_u64], 0..40),
            stamps,
            0..900_u64,
        );
        proptest::collection::vec(
            one.prop_map(|(gaps, tokens, counted, reads, stamps, sent)| {
                told(&gaps, &tokens, counted, &reads, stamps, sent)
            }),
            1..5,
        )
    }

    /// Each value so many times, sorted.
    fn spread(values: impl Iterator<Item = (Duration, u32)>) -> Vec<Duration> {
        let mut all: Vec<Duration> =
            values.flat_map(|(value, times)| std::iter::repeat_n(value, times as usize)).collect();
        all.sort();
        all
    }

    /// Each order statistic of the truth is between those of the ends, and so is every percentile.
    fn check(truth: Vec<Duration>, lows: Vec<Duration>, highs: Vec<Duration>) -> Result<(), TestCaseError> {
        // a latency is rounded to nanoseconds
        let rounding = Duration::from_nanos(2);
        prop_assert_eq!((lows.len(), highs.len()), (truth.len(), truth.len()));
        for (rank, true_time) in truth.iter().enumerate() {
            let (low, high) = (lows[rank], highs[rank]);
            prop_assert!(low <= *true_time + rounding, "{}: {:?} is not above {:?}", rank, true_time, low);
            prop_assert!(*true_time <= high + rounding, "{}: {:?} is not below {:?}", rank, true_time, high);
        }
        Ok(())
    }

    type EndsOf = fn(&Record) -> Option<Ends>;
    type TimesOf = fn(&Record) -> Times;

    proptest! {
        #[test]
        fn the_truth_lies_between_the_ends(run in a_run()) {
            let of: [EndsOf; 6] = [
                Record::ttft_ends,
                Record::e2e_ends,
                Record::response_ttft_ends,
                Record::response_e2e_ends,
                Record::tpot_ends,
                Record::longest_gap_ends,
            ];
            for ends in of {
                let all = |of: fn(&Told) -> &Record, end: fn(Ends) -> Duration| {
                    spread(run.iter().filter_map(|told| Some((end(ends(of(told))?), 1))))
                };
                let truth = all(|told| &told.truth, |ends| ends.low);
                prop_assert_eq!(&truth, &all(|told| &told.truth, |ends| ends.high));
                check(truth, all(|told| &told.late, |ends| ends.low), all(|told| &told.late, |ends| ends.high))?;
            }
        }

        #[test]
        fn true_gaps_and_latencies_lie_between_the_ends_of_their_ranks(run in a_run()) {
            let of: [TimesOf; 2] = [Record::gap_times, Record::itl_times];
            for times in of {
                let (truth, late): (Vec<_>, Vec<_>) =
                    run.iter().map(|told| (times(&told.truth), times(&told.late))).unzip();
                prop_assert!(truth.iter().all(|times| times.ranked.is_empty()));
                let known = |times: &[Times]| -> Vec<_> { times.iter().flat_map(|t| t.known.clone()).collect() };
                let truth = spread(known(&truth).into_iter());
                let with = |end: fn(&Times) -> Vec<(Duration, u32)>| {
                    spread(known(&late).into_iter().chain(late.iter().flat_map(end)))
                };
                let low = with(|t| t.ranked.iter().map(|(ends, n)| (ends.low, *n)).collect());
                let high = with(|t| t.ranked.iter().map(|(ends, n)| (ends.high, *n)).collect());
                check(truth.clone(), low, high)?;
                // and so does the mean
                let sum = |times: &[Duration]| times.iter().sum::<Duration>();
                let rounding = Duration::from_nanos(4 * truth.len() as u64);
                let (shortest, longest) = (with(|t| t.shortest.clone()), with(|t| t.longest.clone()));
                prop_assert_eq!((shortest.len(), longest.len()), (truth.len(), truth.len()));
                prop_assert!(sum(&shortest) <= sum(&truth) + rounding);
                prop_assert!(sum(&truth) <= sum(&longest) + rounding);
            }
        }

        #[test]
        fn an_exact_record_is_told_as_it_always_was(run in a_run()) {
            for Told { truth, .. } in run {
                prop_assert!(truth.is_exact());
                prop_assert_eq!(truth.itl_times().known, truth.itl().1.collect::<Vec<_>>());
                let tpot = truth.tpot_ends();
                prop_assert_eq!(tpot.map(|ends| (ends.low, ends.high)), truth.tpot().map(|time| (time, time)));
            }
        }
    }
}
