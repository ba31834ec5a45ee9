//! Which of the sorted values bound a percentile: the binomial tells how many values lie below it.

use super::TAIL;
use super::beta::incomplete_beta;

/// The ranks, counted from 1, of the two of `n` sorted values between which the true quantile (0 to 1) lies with at
/// least 95 % probability, whatever the distribution (David and Nagaraja, *Order Statistics*, 7.1). `None` where no value
/// bounds it on that side, for there are too few.
///
/// The lower is the largest l with P(B < l) ≤ 2.5 %, the upper the smallest u with P(B ≥ u) ≤ 2.5 %, for B binomial (n,
/// quantile).
pub fn ranks(n: u64, quantile: f64) -> (Option<u64>, Option<u64>) {
    let below = |rank: u64| rank == 0 || at_least(n, quantile, rank) >= 1.0 - TAIL;
    let above = |rank: u64| at_least(n, quantile, rank) <= TAIL;
    // both are within some standard deviations of the mean
    let (mean, spread) = (n as f64 * quantile, (n as f64 * quantile * (1.0 - quantile)).sqrt());
    let from = (mean - 10.0 * spread - 10.0).max(0.0) as u64;
    let until = ((mean + 10.0 * spread + 10.0) as u64).min(n + 1);
    let low = first(from, until, |rank| !below(rank)).saturating_sub(1);
    let high = first(from, until, above);
    ((1..=n).contains(&low).then_some(low), (1..=n).contains(&high).then_some(high))
}

/// The first number from `from` on for which `is` holds, which it does for all later ones too; `until` where none before
/// it does.
fn first(mut from: u64, mut until: u64, is: impl Fn(u64) -> bool) -> u64 {
    while from < until {
        let middle = from + (until - from) / 2;
        if is(middle) {
            until = middle;
        } else {
            from = middle + 1;
        }
    }
    from
}

/// P(B ≥ k) for B binomial (n, p).
fn at_least(n: u64, p: f64, k: u64) -> f64 {
    match k {
        0 => 1.0,
        k if k > n => 0.0,
        k => incomplete_beta(k as f64, (n - k) as f64 + 1.0, p),
    }
}

/// How many values it takes for the largest of them to be above the true quantile (0 to 1) with 95 % probability: 59 for
/// the 95th percentile, 299 for the 99th.
pub fn count_for_upper_bound(quantile: f64) -> u64 {
    // n values are all below it with probability quantile^n
    (0.05_f64.ln() / quantile.ln()).ceil().max(1.0) as u64
}

/// The same for the smallest of them to be below it.
pub fn count_for_lower_bound(quantile: f64) -> u64 {
    count_for_upper_bound(1.0 - quantile)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranks_are_those_of_the_binomial() {
        // scipy.stats.binom.cdf and .sf, 1.17.1, searched one by one
        for (n, quantile, low, high) in [
            (10, 0.5, 2, 9),
            (72, 0.95, 64, 72),
            (368, 0.99, 360, 368),
            (1_000, 0.5, 469, 532),
            (1_000, 0.99, 983, 997),
            (5_000, 0.99, 4_936, 4_964),
            (27_297, 0.95, 25_861, 26_003),
            (1_000_000, 0.999, 998_938, 999_062),
            (100_000_000, 0.5, 49_990_200, 50_009_801),
        ] {
            assert_eq!(ranks(n, quantile), (Some(low), Some(high)), "n {n}, quantile {quantile}");
        }
    }

    #[test]
    fn too_few_values_bound_nothing() {
        assert_eq!(ranks(0, 0.5), (None, None));
        assert_eq!(ranks(5, 0.5), (None, None));
        assert_eq!(ranks(6, 0.5), (Some(1), Some(6)));
        assert_eq!(ranks(71, 0.95), (Some(63), None));
        assert_eq!(ranks(367, 0.99), (Some(359), None));
    }

    #[test]
    fn a_bound_needs_so_many_values() {
        let needed = [0.5, 0.95, 0.99, 0.999].map(count_for_upper_bound);
        assert_eq!(needed, [5, 59, 299, 2_995]);
        assert_eq!((count_for_lower_bound(0.5), count_for_lower_bound(0.99)), (5, 1));
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_quantile_and_no_narrower_one_does(n in 1_u64..3_000, quantile in 0.01_f64..0.999) {
            let (low, high) = ranks(n, quantile);
            let (l, u) = (low.unwrap_or(0), high.unwrap_or(n + 1));
            prop_assert!(l < u);
            prop_assert!(1.0 - at_least(n, quantile, l) <= TAIL + 1e-9);
            prop_assert!(at_least(n, quantile, u) <= TAIL + 1e-9);
            prop_assert!(l == n || 1.0 - at_least(n, quantile, l + 1) > TAIL - 1e-9);
            prop_assert!(at_least(n, quantile, u - 1) > TAIL - 1e-9);
        }
    }
}
