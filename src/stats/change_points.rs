//! Where a series of values changes its level: binary segmentation by ranks.

/// Where a level changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangePoint {
    /// Index of the first value of the new level.
    pub at: usize,
    /// How likely a step as large as this, wherever it be, would stand out of the values of its segment in a random order.
    pub p: f64,
}

/// Fewest values on both sides of a change. Of 3 + 3 no order is rare enough to reach 5 %.
pub const VALUES_ASIDE: usize = 4;

/// Orders drawn for a p; the least p is 1 in so many and one.
const ORDERS: u32 = 4_999;

/// The changes of level of values in their order, from first to last; `alpha` is the share of series without a change in
/// which one is found. The same values always give the same answer. Values must be numbers.
///
/// A segment is cut where the sum of the ranks on one side is farthest from what is expected, in its standard deviations
/// (the two-sample rank test of every cut, and the largest of them: Lausen and Schumacher, Biometrics 48, 1992; with all cuts
/// weighed alike it is Pettitt's test, Appl. Stat. 28, 1979). Whether it is cut at all is decided by a permutation test of that
/// largest one, so that looking at every cut costs no false alarms. Both parts are searched again until none is cut (binary
/// segmentation: Vostrikova, Soviet Math. Dokl. 24, 1981; for performance tests with other distances: Daly et al., ICPE 2020),
/// and each change is then looked for anew between its neighbours (repartition: Bai, Econometric Theory 13, 1997). Whether
/// there is a change is said by ranks alone, so one outlier is none and no distribution is assumed; that values do not depend on
/// those before is. Where it is, is said by the values: ranks cannot tell a gap from a hair's breadth.
pub fn change_points(values: &[f64], alpha: f64) -> Vec<ChangePoint> {
    let mut found = Vec::new();
    let mut segments = vec![(0, values.len())];
    while let Some((from, until)) = segments.pop() {
        let Some(cut) = cut(&values[from..until]).filter(|cut| cut.p < alpha) else { continue };
        let at = from + cut.at;
        found.push(ChangePoint { at, ..cut });
        segments.extend([(from, at), (at, until)]);
    }
    found.sort_by_key(|change| change.at);
    repartitioned(&found, values, alpha)
}

/// The changes, each looked for anew between its neighbours: the first cuts were made with other changes beside them.
fn repartitioned(found: &[ChangePoint], values: &[f64], alpha: f64) -> Vec<ChangePoint> {
    let mut kept: Vec<ChangePoint> = Vec::with_capacity(found.len());
    for index in 0..found.len() {
        let from = kept.last().map_or(0, |change| change.at);
        let until = found.get(index + 1).map_or(values.len(), |change| change.at);
        let cut = cut(&values[from..until]).filter(|cut| cut.p < alpha);
        kept.extend(cut.map(|cut| ChangePoint { at: from + cut.at, ..cut }));
    }
    kept
}

/// The best cut of a segment; `None` where it is too short, or all its values are equal.
fn cut(values: &[f64]) -> Option<ChangePoint> {
    let mut ranks = centred_ranks(values);
    let largest = farthest(&ranks)?;
    let mut random = SplitMix(values.len() as u64);
    let mut as_large = 0_u32;
    for _ in 0..ORDERS {
        shuffle(&mut ranks, &mut random);
        // orders that are equal in truth may differ in the last digit
        let is_as_large = farthest(&ranks).is_some_and(|other| other >= largest * (1.0 - 1e-9));
        as_large += u32::from(is_as_large);
    }
    Some(ChangePoint { at: nearest_to_medians(values)?, p: f64::from(as_large + 1) / f64::from(ORDERS + 1) })
}

/// Each value's rank less the mean rank; equal values share theirs.
fn centred_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = below as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|index| ranks[*index] = rank - (values.len() as f64 + 1.0) / 2.0);
        below += tied.len();
    }
    ranks
}

/// How far the sum of the ranks on one side is from 0, at the cut where it is farthest: its square in variances, up to a factor
/// that is the same for every order of the values. `None` where there is no such cut.
fn farthest(ranks: &[f64]) -> Option<f64> {
    let n = ranks.len();
    let (mut sum, mut most) = (0.0, 0.0);
    for (index, rank) in ranks.iter().enumerate() {
        sum += rank;
        let (left, right) = (index + 1, n - index - 1);
        if left >= VALUES_ASIDE && right >= VALUES_ASIDE {
            most = f64::max(most, sum * sum / (left as f64 * right as f64));
        }
    }
    (most > 0.0).then_some(most)
}

/// The cut whose sides are nearest to their medians, in the sum of the distances.
fn nearest_to_medians(values: &[f64]) -> Option<usize> {
    let cuts = VALUES_ASIDE..=values.len().checked_sub(VALUES_ASIDE)?;
    let apart = |at: &usize| from_median(&values[..*at]) + from_median(&values[*at..]);
    cuts.min_by(|one, other| apart(one).total_cmp(&apart(other)))
}

/// The sum of the distances from the median; any value between two in the middle gives the same.
fn from_median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    let middle = values.len() / 2;
    let (_, median, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let median = *median;
    values.iter().map(|value| (value - median).abs()).sum()
}

/// Fisher and Yates's shuffle.
fn shuffle(values: &mut [f64], random: &mut SplitMix) {
    for last in (1..values.len()).rev() {
        values.swap(last, random.below(last as u64 + 1) as usize);
    }
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): enough for orders, and the same for ever.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, by multiplication; the bias is below 1 in 2^32 for any series that can be.
    fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALPHA: f64 = 0.05;

    /// About normal: the sum of twelve even numbers.
    fn noise(random: &mut SplitMix) -> f64 {
        (0..12).map(|_| (random.next() >> 11) as f64 / (1_u64 << 53) as f64).sum::<f64>() - 6.0
    }

    fn series(random: &mut SplitMix, levels: &[(usize, f64)]) -> Vec<f64> {
        levels.iter().flat_map(|(n, level)| vec![*level; *n]).map(|level| level + noise(random)).collect()
    }

    fn places(values: &[f64]) -> Vec<usize> {
        change_points(values, ALPHA).iter().map(|change| change.at).collect()
    }

    /// The share of series in which a change is found.
    fn share(series_count: u64, levels: &[(usize, f64)]) -> f64 {
        let mut random = SplitMix(7);
        let hits = (0..series_count).filter(|_| !places(&series(&mut random, levels)).is_empty()).count();
        hits as f64 / series_count as f64
    }

    #[test]
    fn a_step_is_found_where_it_is() {
        assert_eq!(places(&[1.0, 2.0, 3.0, 4.0, 11.0, 12.0, 13.0, 14.0]), [4]);
        let change = change_points(&[1.0, 2.0, 3.0, 4.0, 11.0, 12.0, 13.0, 14.0], ALPHA)[0];
        // two of the 70 ways to choose four of eight
        assert!((change.p - 2.0 / 70.0).abs() < 0.006, "{change:?}");
        let mut random = SplitMix(1);
        assert_eq!(places(&series(&mut random, &[(20, 0.0), (4, 20.0)])), [20]);
        assert_eq!(places(&series(&mut random, &[(10, 0.0), (10, 20.0), (10, -20.0)])), [10, 20]);
    }

    #[test]
    fn the_last_of_the_old_level_is_of_it_though_it_is_the_highest() {
        let values = [25.6, 24.6, 25.5, 24.9, 25.3, 23.7, 25.1, 25.2, 25.7, 37.7, 36.7, 38.2, 37.1, 38.0];
        assert_eq!(places(&values), [9]);
    }

    #[test]
    fn what_cannot_be_told_from_chance_is_no_change() {
        assert_eq!(places(&[]), [0_usize; 0]);
        assert_eq!(places(&[1.0, 1.0, 1.0, 9.0, 9.0, 9.0]), [0_usize; 0]);
        assert_eq!(places(&[5.0; 40]), [0_usize; 0]);
        // one outlier, however large, and one at the end
        let mut values: Vec<f64> = (0..30).map(|i| f64::from(i * 7 % 11)).collect();
        values[12] = 1e9;
        values[29] = 1e9;
        assert_eq!(places(&values), [0_usize; 0]);
    }

    #[test]
    fn equal_values_share_their_rank() {
        assert_eq!(centred_ranks(&[3.0, 1.0, 3.0, 3.0]), [0.5, -1.5, 0.5, 0.5]);
        assert_eq!(places(&[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]), [5]);
    }

    #[test]
    fn false_alarms_are_as_rare_as_asked_for() {
        for n in [8, 20] {
            let alarms = share(120, &[(n, 0.0)]);
            assert!((0.005..0.09).contains(&alarms), "{n} values: {alarms}");
        }
        assert!(share(40, &[(20, 0.0), (5, 3.0)]) > 0.9);
    }

    /// The figures of docs/trends.md; takes minutes without optimisation.
    #[test]
    #[ignore = "measures; run with --release -- --ignored --nocapture"]
    fn false_alarms_and_power_of_the_docs() {
        for n in [8, 12, 20, 50, 100] {
            let alarms = share(4_000, &[(n, 0.0)]);
            println!("false alarms in {n} values: {:.1}%", alarms * 100.0);
            assert!((0.02..0.065).contains(&alarms), "{n} values: {alarms}");
        }
        for (before, after) in [(4, 4), (6, 4), (10, 4), (20, 4), (20, 8), (20, 20)] {
            let found = [1.0, 2.0, 3.0].map(|step| 100.0 * share(2_000, &[(before, 0.0), (after, step)]));
            println!("{before} + {after}: steps of 1, 2, 3 standard deviations found in {found:.0?}%");
            assert!(found[2] > found[0], "{found:?}");
        }
    }
}
