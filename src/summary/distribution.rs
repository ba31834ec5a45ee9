//! Many values of one quantity, and what they come to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use rayon::slice::ParallelSliceMut;
use serde::{Deserialize, Serialize};

use super::Intervals;

/// Gathers the values of one quantity as they come.
///
/// Up to [`EXACT_LIMIT`] values are kept and give exact percentiles; beyond it, a histogram of three significant
/// digits does. Count, minimum, maximum, sum and spread are exact always, and so the same in whatever order values come.
#[derive(Clone, Debug)]
pub struct Samples {
    /// What the histogram counts in.
    per_bucket: u64,
    values: Values,
}

/// Values of one quantity that are kept one by one: 800 kB, so that memory stays flat however long a run is.
pub const EXACT_LIMIT: usize = 100_000;

#[derive(Clone, Debug)]
enum Values {
    /// All of them.
    Kept(Vec<u64>),
    /// There are too many.
    Counted(Box<Counted>),
}

/// What is known of values that are not kept.
#[derive(Clone, Debug)]
struct Counted {
    histogram: Histogram<u64>,
    moments: Moments,
}

impl Samples {
    /// None yet. The histogram counts in units of `per_bucket`: 1,000 makes microseconds of nanoseconds.
    pub fn new(per_bucket: u64) -> Self {
        Self { per_bucket: per_bucket.max(1), values: Values::Kept(Vec::new()) }
    }

    /// None yet, and only the histogram is kept: for looks in between.
    pub fn rough(per_bucket: u64) -> Self {
        Self { per_bucket: per_bucket.max(1), values: Values::Counted(Box::new(Counted::new())) }
    }

    /// Takes one value in.
    pub fn add(&mut self, value: u64) {
        self.add_times(value, 1);
    }

    /// Takes the same value in `times` times.
    pub fn add_times(&mut self, value: u64, times: u32) {
        match &mut self.values {
            Values::Kept(values) if values.len() + times as usize <= EXACT_LIMIT => match times {
                1 => values.push(value),
                _ => values.extend(std::iter::repeat_n(value, times as usize)),
            },
            Values::Kept(values) => {
                let mut counted = Counted::of(values, self.per_bucket);
                counted.add(value, times, self.per_bucket);
                self.values = Values::Counted(Box::new(counted));
            }
            Values::Counted(counted) => counted.add(value, times, self.per_bucket),
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        match &self.values {
            Values::Kept(values) => values.len() as u64,
            Values::Counted(counted) => counted.moments.count,
        }
    }

    /// Count, ends and sums so far.
    pub(super) fn moments(&self) -> Moments {
        match &self.values {
            Values::Kept(values) => {
                let mut moments = Moments::default();
                values.iter().for_each(|value| moments.add(*value, 1));
                moments
            }
            Values::Counted(counted) => counted.moments,
        }
    }

    /// The value at the percentile (0 to 100) so far, from the histogram: right to three digits. `None` without any.
    pub fn rough_percentile(&self, percentile: f64) -> Option<u64> {
        let at = |counted: &Counted| counted.at_quantile(percentile / 100.0, self.per_bucket);
        let rough = match &self.values {
            Values::Kept(values) => at(&Counted::of(values, self.per_bucket)),
            Values::Counted(counted) => at(counted),
        };
        (self.count() > 0).then_some(rough)
    }

    /// Percentiles of the values and of `failures` more that are endless, divided by `unit`; `None` where there is
    /// neither.
    pub fn adjusted(&mut self, failures: u64, unit: f64) -> Option<Adjusted> {
        let count = self.count();
        let all = count.checked_add(failures).filter(|all| *all > 0)?;
        if let Values::Kept(values) = &mut self.values {
            values.par_sort_unstable();
        }
        let at = |percentile: f64| {
            // numpy's rank among all; between the last value and an endless one there is nothing
            let rank = percentile / 100.0 * (all - 1) as f64;
            if count == 0 || rank > (count - 1) as f64 {
                return None;
            }
            let own = rank / (count - 1).max(1) as f64 * 100.0;
            Some(match &self.values {
                Values::Kept(sorted) => at_rank(sorted, rank) / unit,
                Values::Counted(counted) => counted.at_quantile(own / 100.0, self.per_bucket) as f64 / unit,
            })
        };
        Some(Adjusted::of(at))
    }

    /// What the values come to, divided by `unit`: 1e6 makes milliseconds of nanoseconds. `None` without any.
    pub fn into_distribution(self, unit: f64) -> Option<Distribution> {
        let independent = self.count();
        self.into_distribution_of(independent, unit)
    }

    /// The same, where only so many of the values count as independent: those of one reply share its fate.
    pub fn into_distribution_of(self, independent: u64, unit: f64) -> Option<Distribution> {
        self.into_distribution_with(None, independent, unit)
    }

    /// The same, with mean and deviation of these values instead, where they are of others.
    pub(super) fn into_distribution_with(
        self,
        means_of: Option<Moments>,
        independent: u64,
        unit: f64,
    ) -> Option<Distribution> {
        let (sorted, counted) = match self.values {
            Values::Kept(mut values) => {
                values.par_sort_unstable();
                let counted = Counted::of(&values, self.per_bucket);
                (Some(values), counted)
            }
            Values::Counted(counted) => (None, *counted),
        };
        if counted.moments.count == 0 {
            return None;
        }
        let moments = counted.moments;
        let at = |percentile: f64| match &sorted {
            Some(sorted) => interpolated(sorted, percentile) / unit,
            None => counted.at_quantile(percentile / 100.0, self.per_bucket) as f64 / unit,
        };
        let percentiles = Percentiles::of(at);
        let at_rank = |rank: u64| match &sorted {
            Some(sorted) => {
                sorted[usize::try_from(rank).unwrap_or(usize::MAX).clamp(1, sorted.len()) - 1] as f64 / unit
            }
            None => counted.at_quantile(rank as f64 / moments.count as f64, self.per_bucket) as f64 / unit,
        };
        let means_of = means_of.unwrap_or(moments);
        let (mean, std) = (means_of.mean() / unit, means_of.std() / unit);
        let sample_std = std * (moments.count as f64 / moments.count.saturating_sub(1).max(1) as f64).sqrt();
        let independent = independent.min(moments.count);
        Some(Distribution {
            ci95: Some(Intervals::new(independent, moments.count, mean, sample_std, at_rank)),
            count: moments.count,
            mean,
            std,
            min: moments.min as f64 / unit,
            max: moments.max as f64 / unit,
            median: percentiles.p50,
            percentiles,
            exact: sorted.is_some(),
            histogram: encode(&counted.histogram),
        })
    }
}

impl Counted {
    fn new() -> Self {
        let histogram = Histogram::new(3).expect("three digits are within the crate's 0 to 5");
        Self { histogram, moments: Moments::default() }
    }

    fn of(values: &[u64], per_bucket: u64) -> Self {
        let mut counted = Self::new();
        values.iter().for_each(|value| counted.add(*value, 1, per_bucket));
        counted
    }

    fn add(&mut self, value: u64, times: u32, per_bucket: u64) {
        let bucket = value / per_bucket + u64::from(value % per_bucket * 2 >= per_bucket);
        // it grows as needed; a value that no histogram can hold (5,000 centuries in µs) still counts elsewhere
        let _ = self.histogram.record_n(bucket, u64::from(times));
        self.moments.add(value, times);
    }

    /// The value at the quantile (0 to 1), right to three digits, and never beyond the least and the greatest that there
    /// were, which a bucket's end may be.
    fn at_quantile(&self, quantile: f64, per_bucket: u64) -> u64 {
        let value = self.histogram.value_at_quantile(quantile).saturating_mul(per_bucket);
        value.min(self.moments.max).max(self.moments.min)
    }
}

/// Count, ends and exact sums of values and of their squares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moments {
    count: u64,
    min: u64,
    max: u64,
    sum: u128,
    squares: u128,
    /// How often the sum of squares went over what 128 bits hold: not with values below 100 days in nanoseconds.
    carries: u64,
}

impl Default for Moments {
    fn default() -> Self {
        Self { count: 0, min: u64::MAX, max: 0, sum: 0, squares: 0, carries: 0 }
    }
}

impl Moments {
    pub(super) fn add(&mut self, value: u64, times: u32) {
        if times == 0 {
            return;
        }
        self.count += u64::from(times);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += u128::from(value) * u128::from(times);
        let square = u128::from(value) * u128::from(value);
        // the upper and the lower half of a product that may take more than 128 bits
        let (high, low) =
            ((square >> 64) * u128::from(times), (square & u128::from(u64::MAX)) * u128::from(times));
        self.carries += (high >> 64) as u64;
        for part in [high << 64, low] {
            let (squares, is_carried) = self.squares.overflowing_add(part);
            self.squares = squares;
            self.carries += u64::from(is_carried);
        }
    }

    fn mean(&self) -> f64 {
        self.sum as f64 / self.count as f64
    }

    /// Population standard deviation. With the mean `m + r/n` of whole `m` and `r`, the squared distances add up to
    /// Σx² − m·Σx − m·r − r²/n, whose first terms are whole.
    fn std(&self) -> f64 {
        let count = u128::from(self.count);
        let (mean, rest) = (self.sum / count, self.sum % count);
        let fraction = rest as f64 * rest as f64 / count as f64;
        let spread = if self.carries == 0 {
            (self.squares - mean * self.sum - mean * rest) as f64 - fraction
        } else {
            let squares = self.carries as f64 * 2f64.powi(128) + self.squares as f64;
            squares - self.mean() * self.sum as f64
        };
        (spread.max(0.0) / self.count as f64).sqrt()
    }
}

/// Linear interpolation between the closest ranks, as numpy does by default. `sorted` is not empty.
fn interpolated(sorted: &[u64], percentile: f64) -> f64 {
    at_rank(sorted, percentile / 100.0 * (sorted.len() - 1) as f64)
}

/// The value at a rank from 0, which may lie between two. `sorted` is not empty.
fn at_rank(sorted: &[u64], rank: f64) -> f64 {
    let below = sorted[rank.floor() as usize] as f64;
    let above = sorted[(rank.ceil() as usize).min(sorted.len() - 1)] as f64;
    below + (above - below) * rank.fract()
}

/// The interchange form that HdrHistogram's log tools read.
fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("a histogram this small fits into memory");
    STANDARD.encode(bytes)
}

/// What many values of one quantity come to. The name of the field that holds it tells the unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Number of values.
    pub count: u64,
    /// Arithmetic mean, from the exact sum.
    pub mean: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// The same as `p50`.
    pub median: f64,
    /// Population standard deviation, as numpy's default.
    pub std: f64,
    /// Values at fixed percentiles.
    #[serde(flatten)]
    pub percentiles: Percentiles,
    /// Whether the percentiles are of the values themselves; else of a histogram, right to three digits.
    pub exact: bool,
    /// Where mean and percentiles may lie; `None` in results of versions that did not tell it.
    #[serde(default)]
    pub ci95: Option<Intervals>,
    /// HdrHistogram V2, deflated, base64: three significant digits; microseconds for times, ones for counts.
    pub histogram: String,
}

impl Distribution {
    /// A percentile (0 to 100) of times in milliseconds: one of those kept, or else interpolated like them between values
    /// of the histogram, which are right to three digits.
    pub fn percentile_ms(&self, percentile: f64) -> f64 {
        let p = &self.percentiles;
        let kept =
            [(50.0, p.p50), (75.0, p.p75), (90.0, p.p90), (95.0, p.p95), (99.0, p.p99), (99.9, p.p99_9)];
        if let Some((_, value)) = kept.into_iter().find(|(kept, _)| *kept == percentile) {
            return value;
        }
        let values = self.values();
        let total = values.iter().fold(0_u64, |total, (_, count)| total.saturating_add(*count));
        let at_rank = |rank: u64| {
            let mut so_far = 0_u64;
            let value = values.iter().find(|(_, count)| {
                so_far = so_far.saturating_add(*count);
                so_far > rank
            });
            // what the histogram rounds lies between the extremes all the same
            value.map_or(self.min, |(micros, _)| (*micros as f64 / 1e3).clamp(self.min, self.max))
        };
        let rank = percentile / 100.0 * total.saturating_sub(1) as f64;
        let (low, high) = (at_rank(rank.floor() as u64), at_rank(rank.ceil() as u64));
        low + (high - low) * rank.fract()
    }

    /// All values as the histogram holds them, rising, each with how often it was there: in microseconds for times, in
    /// ones for counts. Empty where the text is no histogram.
    pub fn values(&self) -> Vec<(u64, u64)> {
        let Some(histogram) = decode(&self.histogram) else { return vec![] };
        let recorded = histogram.iter_recorded();
        recorded
            .map(|step| (histogram.median_equivalent(step.value_iterated_to()), step.count_at_value()))
            .collect()
    }
}

/// `None` where it is none: a report may come from a file.
fn decode(text: &str) -> Option<Histogram<u64>> {
    let bytes = STANDARD.decode(text).ok()?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
}

/// Values below which the named share of all values lies; interpolated linearly between ranks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles<T = f64> {
    /// 50 %.
    pub p50: T,
    /// 75 %.
    pub p75: T,
    /// 90 %.
    pub p90: T,
    /// 95 %.
    pub p95: T,
    /// 99 %.
    pub p99: T,
    /// 99.9 %.
    #[serde(rename = "p99.9")]
    pub p99_9: T,
}

/// Percentiles with failures taken as endless. `None` where a percentile falls among them.
pub type Adjusted = Percentiles<Option<f64>>;

impl<T> Percentiles<T> {
    /// What `at` says of each, in percent.
    fn of(at: impl Fn(f64) -> T) -> Self {
        Self { p50: at(50.0), p75: at(75.0), p90: at(90.0), p95: at(95.0), p99: at(99.0), p99_9: at(99.9) }
    }
}

/// A statistic's name in results, and how it is read off.
pub type Statistic = (&'static str, fn(&Distribution) -> f64);

/// All statistics of a distribution, in the order in which tables show them.
pub const STATISTICS: [Statistic; 11] = [
    ("mean", |d| d.mean),
    ("std", |d| d.std),
    ("min", |d| d.min),
    ("median", |d| d.median),
    ("p50", |d| d.percentiles.p50),
    ("p75", |d| d.percentiles.p75),
    ("p90", |d| d.percentiles.p90),
    ("p95", |d| d.percentiles.p95),
    ("p99", |d| d.percentiles.p99),
    ("p99.9", |d| d.percentiles.p99_9),
    ("max", |d| d.max),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Distribution {
        let mut samples = Samples::new(1);
        values.into_iter().for_each(|value| samples.add(value));
        samples.into_distribution(1.0).expect("there are values")
    }

    #[test]
    fn no_values_are_no_distribution() {
        assert_eq!(Samples::new(1).into_distribution(1.0), None);
        assert_eq!(Samples::new(1).rough_percentile(50.0), None);
    }

    #[test]
    fn one_value_is_every_percentile() {
        let one = of([7]);
        assert_eq!((one.mean, one.std, one.median, one.percentiles.p99_9), (7.0, 0.0, 7.0, 7.0));
    }

    #[test]
    fn figures_are_those_of_numpy() {
        // numpy.percentile([1..10], [50, 75, 90, 95, 99, 99.9]), numpy.std
        let ten = of([3, 1, 2, 10, 9, 8, 7, 6, 5, 4]);
        let p = ten.percentiles;
        assert_eq!((ten.count, ten.mean, ten.min, ten.max), (10, 5.5, 1.0, 10.0));
        let want = [5.5, 7.75, 9.1, 9.55, 9.91, 9.991];
        for (got, want) in [p.p50, p.p75, p.p90, p.p95, p.p99, p.p99_9].into_iter().zip(want) {
            assert!((got - want).abs() < 1e-9, "{got} {want}");
        }
        assert!((ten.std - 2.872_281_323_269_014_3).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_spread_is_that_of_the_distances_from_the_mean(
            values in proptest::collection::vec((0_u64..1 << 50, 1_u32..4), 1..50),
        ) {
            let mut moments = Moments::default();
            values.iter().for_each(|(value, times)| moments.add(*value, *times));
            let all: Vec<f64> = values.iter().flat_map(|(value, times)| vec![*value as f64; *times as usize]).collect();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let spread = all.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
            let want = (spread / all.len() as f64).sqrt();
            prop_assert!((moments.std() - want).abs() <= 1e-9 * want.max(1.0), "{} {want}", moments.std());
        }
    }

    #[test]
    fn values_alike_have_no_spread_however_large() {
        assert_eq!(of([u64::MAX; 3]).count, 3);
        assert!(of([u64::MAX; 3]).std < 1e-6 * u64::MAX as f64);
        let far = of([0, u64::MAX]);
        assert!((far.std / (u64::MAX as f64 / 2.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn percentiles_that_are_not_kept_are_interpolated_too() {
        let mut samples = Samples::new(1_000);
        [1_000_000, 2_000_000, 3_000_000, 9_000_000].into_iter().for_each(|nanos| samples.add(nanos));
        let times = samples.into_distribution(1e6).expect("there are values");
        // numpy.percentile([1, 2, 3, 9], …)
        for (percentile, want) in
            [(0.0, 1.0), (10.0, 1.3), (25.0, 1.75), (50.0, 2.5), (80.0, 5.4), (100.0, 9.0)]
        {
            let found = times.percentile_ms(percentile);
            assert!((found / want - 1.0_f64).abs() < 2e-3, "p{percentile}: {found} {want}");
        }
    }

    #[test]
    fn a_failure_is_slower_than_any_value() {
        let mut samples = Samples::new(1);
        (1..=99).for_each(|value| samples.add(value));
        let adjusted = samples.adjusted(1, 1.0).expect("there are values");
        // numpy.percentile([1..99, inf], [50, 90, 99, 99.9]): the last two have no bound
        assert_eq!((adjusted.p50, adjusted.p90), (Some(50.5), Some(90.10000000000001)));
        assert_eq!((adjusted.p99, adjusted.p99_9), (None, None));
        assert_eq!(samples.adjusted(0, 1.0).expect("values").p99, Some(98.02));
        let none = Samples::new(1).adjusted(3, 1.0).expect("failures");
        assert_eq!((none.p50, Samples::new(1).adjusted(0, 1.0)), (None, None));
        let mut one = Samples::new(1);
        one.add(7);
        assert_eq!(one.adjusted(0, 1.0).expect("a value").p99, Some(7.0));
    }

    #[test]
    fn a_unit_divides_every_figure() {
        let mut samples = Samples::new(1_000);
        samples.add(2_500_000);
        let ms = samples.into_distribution(1e6).expect("there is a value");
        assert_eq!((ms.mean, ms.min, ms.percentiles.p50), (2.5, 2.5, 2.5));
    }

    #[test]
    fn a_weight_counts_as_so_many_values() {
        let mut samples = Samples::new(1);
        samples.add_times(10, 3);
        samples.add(50);
        assert_eq!(samples.clone().into_distribution(1.0), Some(of([10, 10, 10, 50])));
    }

    #[test]
    fn beyond_the_limit_figures_are_near_and_say_so() {
        let mut samples = Samples::new(1);
        for value in 1..=EXACT_LIMIT as u64 + 1 {
            samples.add(value);
        }
        let many = samples.into_distribution(1.0).expect("there are values");
        assert!(!many.exact);
        assert_eq!((many.min, many.max, many.mean), (1.0, 100_001.0, 50_001.0));
        assert!((many.percentiles.p90 / 90_000.0 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn beyond_the_limit_no_figure_is_outside_of_the_values() {
        let mut samples = Samples::new(1_000);
        (0..=EXACT_LIMIT).for_each(|_| samples.add(3_000_000));
        assert_eq!(samples.rough_percentile(50.0), Some(3_000_000));
        let adjusted = samples.adjusted(1, 1e6).expect("there are values");
        assert_eq!((adjusted.p50, adjusted.p99), (Some(3.0), Some(3.0)));
        let alike = samples.into_distribution(1e6).expect("there are values");
        let p = alike.percentiles;
        assert_eq!((alike.exact, alike.min, p.p50, p.p99_9, alike.max), (false, 3.0, 3.0, 3.0, 3.0));
        let median = alike.ci95.expect("told").p50;
        assert_eq!((median.low, median.high), (Some(3.0), Some(3.0)));
    }

    #[test]
    fn intervals_are_order_statistics_of_the_values() {
        let intervals = of(1..=1_000).ci95.expect("told");
        let bounds = |interval: crate::stats::Interval| (interval.low, interval.high);
        // ranks by scipy.stats.binom
        assert_eq!(bounds(intervals.p50), (Some(469.0), Some(532.0)));
        assert_eq!(bounds(intervals.p99), (Some(983.0), Some(997.0)));
        assert_eq!(bounds(intervals.p99_9), (Some(997.0), None));
        // scipy.stats.t.interval(.95, 999, mean, sem)
        let (low, high) = (intervals.mean.low.expect("bounded"), intervals.mean.high.expect("bounded"));
        assert!((low - 482.577_401).abs() < 1e-6 && (high - 518.422_599).abs() < 1e-6, "{low} {high}");
        assert_eq!(bounds(of([7]).ci95.expect("told").mean), (None, None));
    }

    #[test]
    fn values_of_few_replies_count_as_so_many() {
        let mut samples = Samples::new(1);
        (1..=1_000).for_each(|value| samples.add_times(value, 10));
        let intervals = samples.clone().into_distribution_of(1_000, 1.0).and_then(|d| d.ci95).expect("told");
        assert_eq!(intervals.n, 1_000);
        assert_eq!((intervals.p50.low, intervals.p50.high), (Some(469.0), Some(532.0)));
        let none = samples.into_distribution_of(0, 1.0).and_then(|d| d.ci95).expect("told");
        assert_eq!((none.n, none.p50.low, none.p50.high), (0, None, None));
    }

    #[test]
    fn beyond_the_limit_intervals_are_those_of_the_histogram() {
        let mut samples = Samples::new(1);
        (1..=EXACT_LIMIT as u64 + 1).for_each(|value| samples.add(value));
        let median = samples.into_distribution(1.0).and_then(|d| d.ci95).expect("told").p50;
        let (low, high) = (median.low.expect("bounded"), median.high.expect("bounded"));
        assert!(low < 50_000.0 && high > 50_000.0, "{low} {high}");
        assert!((low / 49_691.0 - 1.0).abs() < 2e-3 && (high / 50_311.0 - 1.0).abs() < 2e-3, "{low} {high}");
    }

    #[test]
    fn the_histogram_can_be_read_back() {
        let mut samples = Samples::new(1_000);
        (1..=100).for_each(|ms| samples.add(ms * 1_000_000));
        let text = samples.clone().into_distribution(1e6).expect("there are values").histogram;
        let back = decode(&text).expect("V2 in base64");
        assert_eq!(back.len(), 100);
        assert!(back.equivalent(back.value_at_percentile(50.0), 50_000));
        let distribution = Samples::into_distribution(samples, 1e6).expect("there are values");
        assert_eq!((distribution.percentile_ms(0.0), distribution.percentile_ms(99.0)), (1.0, 99.01));
        assert!((distribution.percentile_ms(25.0) - 25.75).abs() < 0.05);
        let values = distribution.values();
        assert_eq!((values.len(), values[0]), (100, (1_000, 1)));
        assert!(values[49].0.abs_diff(50_000) < 50, "{values:?}");
        for text in ["", "no base64", "SElTVEZBQUFB"] {
            assert_eq!(Distribution { histogram: text.to_owned(), ..distribution.clone() }.values(), []);
        }
    }
}
