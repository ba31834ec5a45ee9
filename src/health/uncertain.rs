//! How far apart the two ends of a percentile are, between which it lies where this client read late.

use crate::summary::{Distribution, Statistic};
use crate::units::significant;

/// A percentile that is known only to lie between two ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uncertain {
    /// Which.
    pub percentile: &'static str,
    /// Its lower end, ms.
    pub low: f64,
    /// Its upper end, ms.
    pub high: f64,
}

/// The percentiles that are looked at, each with the number of values from which on it says something.
const LOOKED_AT: [(Statistic, u64); 4] = [
    (("p50", |d| d.percentiles.p50), 1),
    (("p90", |d| d.percentiles.p90), 10),
    (("p95", |d| d.percentiles.p95), 20),
    (("p99", |d| d.percentiles.p99), 100),
];

/// Of times below it, differences are shares of it, ms: 2 % are 1 ms at least.
const LEAST_MS: f64 = 50.0;

impl Uncertain {
    /// The distance of the ends as a share of the upper one, or of 50 ms where that is more.
    pub fn share(&self) -> f64 {
        (self.high - self.low) / self.high.max(LEAST_MS)
    }

    /// Whether it is far enough apart to matter: by more than 1 ms and more than 2 %.
    pub fn is_material(&self) -> bool {
        self.share() > 0.02
    }

    /// Such as `p99 50.1 to 290 ms`.
    pub fn ends_in_words(&self) -> String {
        format!("{} {} to {} ms", self.percentile, significant(self.low), significant(self.high))
    }

    /// Such as `p99 is known only to lie between 50.1 and 290 ms`.
    pub fn words(&self) -> String {
        let (low, high) = (significant(self.low), significant(self.high));
        format!("{} is known only to lie between {low} and {high} ms", self.percentile)
    }
}

/// The percentiles of times in ms that are known only to lie between two ends.
pub fn uncertain<'a>(
    high: &'a Distribution,
    low: Option<&'a Distribution>,
) -> impl Iterator<Item = Uncertain> + 'a {
    LOOKED_AT.into_iter().filter_map(move |(statistic, _)| between(statistic, high, low?))
}

/// The one of them whose ends are farthest apart, of those that have enough values to say something; `None` where all are
/// known.
pub fn most_uncertain(high: &Distribution, low: Option<&Distribution>) -> Option<Uncertain> {
    let looked_at = LOOKED_AT.into_iter().filter(|(_, least)| high.count >= *least);
    let apart = looked_at.filter_map(|(statistic, _)| between(statistic, high, low?));
    apart.max_by(|a, b| a.share().total_cmp(&b.share()))
}

fn between((percentile, of): Statistic, high: &Distribution, low: &Distribution) -> Option<Uncertain> {
    let (low, high) = (of(low), of(high));
    (low < high).then_some(Uncertain { percentile, low, high })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Samples;

    fn of(values: impl Iterator<Item = u64>) -> Distribution {
        let mut samples = Samples::new(1);
        values.for_each(|value| samples.add(value));
        samples.into_distribution(1.0).expect("there are values")
    }

    #[test]
    fn the_percentile_that_is_farthest_off_is_told() {
        // one in twenty was late
        let (high, low) =
            (of((0..100).map(|n| if n % 20 == 0 { 290 } else { 50 })), of((0..100).map(|_| 50)));
        assert_eq!(most_uncertain(&high, None), None);
        assert_eq!(most_uncertain(&low, Some(&low)), None);
        let most = most_uncertain(&high, Some(&low)).expect("p99");
        assert_eq!(most, Uncertain { percentile: "p99", low: 50.0, high: 290.0 });
        assert!((most.share() - 240.0 / 290.0).abs() < 1e-9 && most.is_material());
        assert_eq!(most.words(), "p99 is known only to lie between 50.0 and 290 ms");
    }

    #[test]
    fn few_values_are_not_judged_by_high_percentiles() {
        let told = |count: u64| {
            // the higher, the farther off
            let (high, low) = (of((1..=count).map(|n| 1_000 + 100 * n)), of((1..=count).map(|_| 1_000)));
            assert_eq!(uncertain(&high, Some(&low)).count(), 4);
            most_uncertain(&high, Some(&low)).map(|one| one.percentile)
        };
        assert_eq!([9, 19, 99, 100].map(told), [Some("p50"), Some("p90"), Some("p95"), Some("p99")]);
    }

    #[test]
    fn a_millisecond_or_two_percent_do_not_matter() {
        let is_material = |low, high| Uncertain { percentile: "p50", low, high }.is_material();
        assert!(!is_material(4.0, 5.0) && is_material(3.9, 5.0));
        assert!(!is_material(980.0, 1_000.0) && is_material(979.0, 1_000.0));
    }
}
