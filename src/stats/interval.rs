//! Intervals that hold a true value 95 times in 100.

use serde::{Deserialize, Serialize};

use super::TAIL;
use super::beta::incomplete_beta;

/// From where to where a value may lie; an end that nothing bounds is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
}

impl Interval {
    /// With both ends.
    pub fn new(low: f64, high: f64) -> Self {
        Self { low: Some(low), high: Some(high) }
    }

    /// Whether all of it is below all of the other.
    pub fn is_below(self, other: Self) -> bool {
        self.high.zip(other.low).is_some_and(|(high, low)| high < low)
    }

    /// Whether both ends are known.
    pub fn is_bounded(self) -> bool {
        self.low.is_some() && self.high.is_some()
    }

    /// Whether a value is within; an unknown end is beyond every value.
    pub fn holds(self, value: f64) -> bool {
        self.low.is_none_or(|low| low <= value) && self.high.is_none_or(|high| value <= high)
    }
}

/// The two-sided 97.5 % point of the normal distribution: so many standard errors to either side hold 95 %.
pub const NORMAL: f64 = 1.959_963_984_540_054;

/// Of a mean, by Student's t; `std` is the sample's own, with n − 1 below it. `None` below two values.
pub fn mean_interval(mean: f64, std: f64, n: u64) -> Option<Interval> {
    let half = student(n.checked_sub(1).filter(|degrees| *degrees > 0)?) * std / (n as f64).sqrt();
    Some(Interval::new(mean - half, mean + half))
}

/// Of a share, `hits` of `n`, by Wilson's score interval (JASA 22, 1927). `None` without any.
pub fn share_interval(hits: u64, n: u64) -> Option<Interval> {
    if n == 0 {
        return None;
    }
    let (n, z2) = (n as f64, NORMAL * NORMAL);
    let share = hits as f64 / n;
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = NORMAL / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    // what no arithmetic is needed for is exact
    let low = if share == 0.0 { 0.0 } else { (middle - half).max(0.0) };
    let high = if share == 1.0 { 1.0 } else { (middle + half).min(1.0) };
    Some(Interval::new(low, high))
}

/// Mean and standard deviation of a sample, with n − 1 below the latter. `None` below two values.
pub fn sample_std(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((mean, (squares / (n - 1.0)).sqrt()))
}

/// The two-sided 97.5 % point of Student's t, by bisection.
fn student(degrees: u64) -> f64 {
    if degrees > 10_000_000 {
        return NORMAL;
    }
    let degrees = degrees as f64;
    // P(T > t) = ½ I of degrees ÷ (degrees + t²)
    let above = |t: f64| incomplete_beta(degrees / 2.0, 0.5, degrees / (degrees + t * t)) / 2.0;
    let (mut low, mut high) = (0.0, 13.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if above(middle) > TAIL { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-7 * want.abs().max(1e-3), "{got}, not {want}");
    }

    #[test]
    fn points_of_t_are_those_of_scipy() {
        // scipy.stats.t.ppf(.975, degrees), 1.17.1
        for (degrees, want) in [
            (1, 12.706_204_736_174_694),
            (2, 4.302_652_729_749_462),
            (4, 2.776_445_105_197_793_4),
            (29, 2.045_229_642_132_703),
            (999, 1.962_341_461_133_449_3),
            (1_000_000, 1.959_966_356_814_107),
        ] {
            near(student(degrees), want);
        }
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_scipy() {
        // numpy.std(ddof=1), scipy.stats.t.interval
        let (mean, std) = sample_std(&[1.0, 2.0, 3.0, 4.0, 10.0]).expect("enough");
        near(std, 3.535_533_905_932_737_8);
        let interval = mean_interval(mean, std, 5).expect("enough");
        near(interval.low.expect("bounded"), -0.389_945_165_425_413_8);
        near(interval.high.expect("bounded"), 8.389_945_165_425_413);
        assert_eq!(
            (sample_std(&[1.0]), mean_interval(1.0, 0.0, 1), mean_interval(1.0, 0.0, 0)),
            (None, None, None)
        );
    }

    #[test]
    fn the_interval_of_a_share_is_wilsons() {
        // scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
        for (hits, n, low, high) in [
            (0, 1_000, 0.0, 0.003_826_758_485_555_123_4),
            (10, 1_000, 0.005_440_754_445_529_25, 0.018_309_468_870_314_774),
            (5, 20, 0.111_861_701_407_665_71, 0.468_700_877_618_744),
            (20, 20, 0.838_874_841_946_818, 1.0),
        ] {
            let got = share_interval(hits, n).expect("some");
            near(got.low.expect("bounded"), low);
            near(got.high.expect("bounded"), high);
        }
        assert_eq!(share_interval(0, 0), None);
    }

    #[test]
    fn an_unknown_end_is_beyond_everything() {
        let open = Interval { low: Some(5.0), high: None };
        assert!(Interval::new(1.0, 2.0).is_below(open) && !open.is_below(Interval::new(9.0, 10.0)));
        assert!(open.holds(1e9) && !open.holds(4.0) && !open.is_bounded());
        assert!(!Interval::new(1.0, 5.0).is_below(open));
    }
}
