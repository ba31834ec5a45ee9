//! The Mann–Whitney test (rank-sum test) of two samples.

/// How likely ranks of `a` as low as these, or lower, would be if both samples were of one distribution: the one-sided p
/// of "`a` is lower than `b`". `None` where a side is empty.
///
/// Exact over all ways to deal the pooled ranks out, ties sharing their mean rank, up to 60 values in all; beyond, the
/// normal approximation with corrections for ties and continuity. Mann and Whitney, Ann. Math. Stat. 18 (1947).
pub fn p_lower(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let (ranks, of_a) = doubled_ranks(a, b);
    Some(if ranks.len() <= EXACT_LIMIT {
        exact(&ranks, a.len(), of_a)
    } else {
        approximate(&ranks, a.len(), of_a)
    })
}

const EXACT_LIMIT: usize = 60;

/// Twice the rank of every value, so that shared ranks are whole too; and the sum of those of `a`.
fn doubled_ranks(a: &[f64], b: &[f64]) -> (Vec<usize>, usize) {
    let mut values: Vec<(f64, bool)> =
        a.iter().map(|v| (*v, true)).chain(b.iter().map(|v| (*v, false))).collect();
    values.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut ranks, mut of_a) = (Vec::with_capacity(values.len()), 0);
    for tied in values.chunk_by(|x, y| x.0 == y.0) {
        let (first, last) = (ranks.len() + 1, ranks.len() + tied.len());
        ranks.extend(std::iter::repeat_n(first + last, tied.len()));
        of_a += tied.iter().filter(|(_, is_a)| *is_a).count() * (first + last);
    }
    (ranks, of_a)
}

/// The share of the ways to choose `n` of the ranks whose sum is at most `of_a`.
fn exact(ranks: &[usize], n: usize, of_a: usize) -> f64 {
    let most: usize = ranks.iter().sum();
    // ways[k][s]: choices of k ranks with the sum s
    let mut ways = vec![vec![0.0_f64; most + 1]; n + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for k in (1..=n).rev() {
            let (fewer, own) = ways.split_at_mut(k);
            for (own, fewer) in own[0][*rank..].iter_mut().zip(&fewer[k - 1]) {
                *own += fewer;
            }
        }
    }
    let (low, all) = (ways[n][..=of_a].iter().sum::<f64>(), ways[n].iter().sum::<f64>());
    low / all
}

fn approximate(ranks: &[usize], n: usize, of_a: usize) -> f64 {
    let (n, all) = (n as f64, ranks.len() as f64);
    let ties: f64 =
        ranks.chunk_by(|x, y| x == y).map(|tied| (tied.len() as f64).powi(3) - tied.len() as f64).sum();
    let variance = n * (all - n) / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    normal_below((of_a as f64 / 2.0 - n * (all + 1.0) / 2.0 + 0.5) / variance.sqrt())
}

/// Φ(z), by the Chebyshev fit of erfc of *Numerical Recipes* 6.2: right to 1.2e-7 of itself.
fn normal_below(z: f64) -> f64 {
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + x / 2.0);
    let tail = t * (FIT.iter().rev().fold(0.0, |sum, term| sum * t + term) - x * x).exp() / 2.0;
    if z < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(a: &[f64], b: &[f64], want: f64) {
        let got = p_lower(a, b).expect("both sides have values");
        assert!((got - want).abs() < 1e-6 * want, "{got}, not {want}");
    }

    #[test]
    fn probabilities_are_those_of_scipy() {
        // scipy.stats.mannwhitneyu(a, b, alternative="less", method="exact"), 1.17.1
        check(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], 1.0 / 70.0);
        check(&[10.1, 10.4, 9.8, 10.0, 10.2], &[10.3, 10.9, 11.2, 10.8, 11.0], 2.0 / 252.0);
        // all ways one by one, ties by scipy.stats.rankdata
        check(&[0.0, 0.0, 0.0, 1.0, 2.0], &[0.0, 1.0, 3.0, 3.0, 4.0], 0.071_428_571_428_571_42);
        check(&[0.0; 4], &[0.0; 4], 1.0);
    }

    #[test]
    fn three_a_side_can_never_tell() {
        check(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0], 0.05);
        assert_eq!(p_lower(&[], &[1.0]), None);
    }

    #[test]
    fn many_values_are_approximated() {
        // method="asymptotic"
        let a: Vec<f64> = (0..100).map(|i| f64::from(2 * i)).collect();
        let b: Vec<f64> = (0..100).map(|i| f64::from(2 * i + 31)).collect();
        check(&a, &b, 0.000_238_970_330_093_082_88);
        check(&[7.0; 50], &[7.0; 50], 1.0);
    }

    proptest! {
        #[test]
        fn both_directions_share_what_is_equal(
            a in proptest::collection::vec(0_u8..9, 1..9),
            b in proptest::collection::vec(0_u8..9, 1..9),
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) =
                (a.into_iter().map(f64::from).collect(), b.into_iter().map(f64::from).collect());
            let (lower, higher) = (p_lower(&a, &b).expect("some"), p_lower(&b, &a).expect("some"));
            prop_assert!((0.0..=1.0 + 1e-12).contains(&lower));
            prop_assert!(lower + higher >= 1.0 - 1e-12);
        }
    }
}
