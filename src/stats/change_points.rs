//! Where a series of values changes its level: segmentation by ranks, with several changes looked for at once.

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

/// Most changes that are looked for at once; what has more is found piece by piece.
const MOST_AT_ONCE: usize = 7;

/// The changes of level of values in their order, from first to last; `alpha` is the share of series without a change in
/// which one is found. The same values always give the same answer. Values must be numbers.
///
/// A segment is fitted with one to `MOST_AT_ONCE` changes, each time where the ranks of the parts are farthest from what is
/// expected (the Kruskal-Wallis statistic, the largest of all partitions, found by dynamic programming: Auger and Lawrence,
/// Bull. Math. Biol. 51, 1989). One change at a time is not enough: where a level comes and goes, both sides of each single cut
/// are alike. Whether there is any change is decided by one permutation test of the largest of these statistics, in their own
/// standard deviations, so that looking at every partition costs no false alarms. The parts are searched again until there is no
/// change in any (as in binary segmentation: Vostrikova, Soviet Math. Dokl. 24, 1981; for performance tests with other distances:
/// Daly et al., ICPE 2020). Then each change has to stand between its neighbours by itself (the two-sample rank test of every cut,
/// and the largest of them: Lausen and Schumacher, Biometrics 48, 1992), the weakest is given up first, and is looked for anew
/// there (repartition: Bai, Econometric Theory 13, 1997). Whether there is a change is said by ranks alone, so one outlier is none
/// and no distribution is assumed; that values do not depend on those before is. Where it is, is said by the values: ranks cannot
/// tell a gap from a hair's breadth.
pub fn change_points(values: &[f64], alpha: f64) -> Vec<ChangePoint> {
    let mut found = Vec::new();
    let mut segments = vec![(0, values.len())];
    while let Some((from, until)) = segments.pop() {
        let cuts = several(&values[from..until], alpha).into_iter().map(|at| from + at);
        let ends: Vec<usize> = [from].into_iter().chain(cuts).chain([until]).collect();
        if ends.len() > 2 {
            found.extend_from_slice(&ends[1..ends.len() - 1]);
            segments.extend(ends.windows(2).map(|pair| (pair[0], pair[1])));
        }
    }
    found.sort_unstable();
    let found = standing(found, values, alpha);
    // each where the values say, between neighbours that have been found
    let mut placed: Vec<ChangePoint> = Vec::with_capacity(found.len());
    for index in 0..found.len() {
        let from = placed.last().map_or(0, |change| change.at);
        let until = found.get(index + 1).map_or(values.len(), |at| *at);
        placed.extend(cut(&values[from..until]).map(|cut| ChangePoint { at: from + cut.at, ..cut }));
    }
    placed
}

/// The changes without those that do not stand between their neighbours, of which the weakest goes first.
fn standing(mut found: Vec<usize>, values: &[f64], alpha: f64) -> Vec<usize> {
    loop {
        let p_of = |index: usize| {
            let from = if index == 0 { 0 } else { found[index - 1] };
            let until = found.get(index + 1).map_or(values.len(), |at| *at);
            cut(&values[from..until]).map_or(1.0, |cut| cut.p)
        };
        let weakest = (0..found.len()).map(|index| (p_of(index), index)).max_by(|a, b| a.0.total_cmp(&b.0));
        match weakest {
            Some((p, index)) if p >= alpha => found.remove(index),
            _ => return found,
        };
    }
}

/// The changes that fit best, in order, where there is any: up to [`MOST_AT_ONCE`], and as many as stand out most.
fn several(values: &[f64], alpha: f64) -> Vec<usize> {
    let grid = Grid::of(values.len());
    let most = (values.len() / VALUES_ASIDE).saturating_sub(1).min(MOST_AT_ONCE);
    if most == 0 {
        return vec![];
    }
    let mut ranks = centred_ranks(values);
    let mut traced = vec![vec![0; grid.0.len()]; most + 1];
    let fits = grid.fits(&ranks, most, |parts, until, from| traced[parts][until] = from);
    let mut random = SplitMix(values.len() as u64);
    let mut shuffled = || {
        shuffle(&mut ranks, &mut random);
        grid.fits(&ranks, most, |_, _, _| {})
    };
    // what each number of changes comes to without any, from orders of their own
    let scale = Scale::of(&(0..ORDERS_FOR_SCALE).map(|_| shuffled()).collect::<Vec<_>>());
    let Some((changes, stands_out)) = scale.most(&fits) else { return vec![] };
    let orders = grid.orders(most);
    let too_many = alpha * f64::from(orders + 1);
    let mut as_large = 1_u32;
    for drawn in 1..=orders {
        let other = scale.most(&shuffled()).map_or(f64::NEG_INFINITY, |(_, other)| other);
        as_large += u32::from(other >= stands_out - 1e-9);
        if f64::from(as_large) >= too_many {
            return vec![];
        }
        if drawn == ORDERS_FOR_A_LOOK && f64::from(as_large) < CLEAR * alpha * f64::from(drawn) {
            break;
        }
    }
    let mut until = grid.0.len() - 1;
    let mut cuts: Vec<usize> = (1..=changes)
        .rev()
        .map(|parts| {
            until = traced[parts][until];
            grid.0[until]
        })
        .collect();
    cuts.reverse();
    cuts
}

/// After so many orders it is seen whether so small a share of what `alpha` allows was as large that the rest cannot change it.
const ORDERS_FOR_A_LOOK: u32 = 499;
const CLEAR: f64 = 0.25;

/// Orders from which it is learned how large the statistics are by chance.
const ORDERS_FOR_SCALE: usize = 200;

/// The means and standard deviations of the statistics of 1, 2, 3 … changes, in series without any.
struct Scale(Vec<(f64, f64)>);

impl Scale {
    fn of(drawn: &[Vec<f64>]) -> Self {
        let n = drawn.len() as f64;
        let of = |index: usize| {
            let mean = drawn.iter().map(|fits| fits[index]).sum::<f64>() / n;
            let square = drawn.iter().map(|fits| (fits[index] - mean).powi(2)).sum::<f64>();
            (mean, (square / n).sqrt())
        };
        Self((0..drawn.first().map_or(0, Vec::len)).map(of).collect())
    }

    /// Which number of changes stands out most, and by how many standard deviations; `None` where none can be.
    fn most(&self, fits: &[f64]) -> Option<(usize, f64)> {
        let each = self.0.iter().zip(fits).enumerate();
        let each = each.filter(|(_, ((_, deviation), _))| *deviation > 0.0);
        let each = each.map(|(index, ((mean, deviation), fit))| (index + 1, (fit - mean) / deviation));
        // the fewest of those that are alike
        each.reduce(|best, other| if other.1 > best.1 { other } else { best })
    }
}

/// Where parts may begin and end: everywhere, or in a long series at so many places.
struct Grid(Vec<usize>);

/// Most places of a grid, which bound what a search costs.
const PLACES: usize = 128;
/// About how many pairs of places are weighed for one answer.
const PAIRS: u64 = 100_000_000;

impl Grid {
    fn of(n: usize) -> Self {
        let step = n.div_ceil(PLACES).max(1);
        Self((0..n).step_by(step).chain([n]).collect())
    }

    /// Orders drawn: fewer in a long series, never below 999.
    fn orders(&self, most: usize) -> u32 {
        let pairs = (self.0.len() * self.0.len() * most / 2).max(1) as u64;
        u32::try_from(PAIRS / pairs).unwrap_or(ORDERS).clamp(999, ORDERS)
    }

    /// For 1 to `most` changes, the largest sum over the parts of (sum of ranks)² ÷ length; minus infinity where so many have
    /// no room. `note` is told, of parts and where the last of them ends, where it begins.
    fn fits(&self, ranks: &[f64], most: usize, mut note: impl FnMut(usize, usize, usize)) -> Vec<f64> {
        let mut sums = Vec::with_capacity(ranks.len() + 1);
        sums.push(0.0);
        sums.extend(ranks.iter().scan(0.0, |sum, rank| {
            *sum += rank;
            Some(*sum)
        }));
        let places = self.0.len();
        // best[until][changes before it within what is left of it]
        let mut best = vec![[f64::NEG_INFINITY; MOST_AT_ONCE + 1]; places];
        for until in 1..places {
            let mut here = [f64::NEG_INFINITY; MOST_AT_ONCE + 1];
            for from in 0..until {
                let length = self.0[until] - self.0[from];
                if length < VALUES_ASIDE {
                    break;
                }
                let sum: f64 = sums[self.0[until]] - sums[self.0[from]];
                let part = sum * sum / length as f64;
                if from == 0 {
                    here[0] = part;
                    continue;
                }
                for changes in 1..=most {
                    let fit = best[from][changes - 1] + part;
                    if fit > here[changes] {
                        here[changes] = fit;
                        note(changes, until, from);
                    }
                }
            }
            best[until] = here;
        }
        best[places - 1][1..=most].to_vec()
    }
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
    fn a_level_that_comes_and_goes_is_found() {
        let mut random = SplitMix(3);
        for blocks in [
            &[8, 8, 8][..],
            &[4, 4, 4, 5],
            &[6; 8],
            &[10, 4, 10, 4],
            &[8, 8, 8, 4],
            &[6, 6, 6, 6],
            &[20, 8, 20],
            &[20, 20, 20],
        ] {
            let levels: Vec<(usize, f64)> = blocks
                .iter()
                .enumerate()
                .map(|(index, n)| (*n, if index.is_multiple_of(2) { 0.0 } else { 15.0 }))
                .collect();
            let ends = blocks.iter().scan(0, |at, n| {
                *at += n;
                Some(*at)
            });
            let want: Vec<usize> = ends.take(blocks.len() - 1).collect();
            for _ in 0..2 {
                // within a level, chance makes a change now and then
                let found = places(&series(&mut random, &levels));
                assert!(want.iter().all(|at| found.contains(at)), "{blocks:?}: {found:?}");
            }
        }
    }

    #[test]
    fn a_long_series_is_searched_on_a_grid() {
        let mut random = SplitMix(5);
        let values = series(&mut random, &[(500, 0.0), (150, 20.0), (650, 0.0)]);
        let found = places(&values);
        assert!(found.contains(&500) && found.contains(&650), "{found:?}");
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
        for blocks in [&[8, 8, 8][..], &[20, 4, 20], &[20, 8, 20], &[10, 4, 10, 4], &[4, 4, 4, 5], &[6; 8]] {
            let found = [1.0, 2.0, 3.0, 5.0].map(|step| {
                let level = |index: usize| if index.is_multiple_of(2) { 0.0 } else { step };
                let levels: Vec<(usize, f64)> =
                    blocks.iter().enumerate().map(|(index, n)| (*n, level(index))).collect();
                let last = blocks.iter().sum::<usize>() - blocks[blocks.len() - 1];
                let mut random = SplitMix(11);
                let mut is_seen =
                    || places(&series(&mut random, &levels)).iter().any(|at| at.abs_diff(last) <= 1);
                (0..200).filter(|_| is_seen()).count() / 2
            });
            println!("{blocks:?}: newest change of 1, 2, 3, 5 standard deviations found in {found:?}%");
            assert!(found[3] > found[0], "{found:?}");
        }
        for (before, after) in [(4, 4), (6, 4), (10, 4), (20, 4), (20, 8), (20, 20)] {
            let found = [1.0, 2.0, 3.0].map(|step| 100.0 * share(500, &[(before, 0.0), (after, step)]));
            println!("{before} + {after}: steps of 1, 2, 3 standard deviations found in {found:.0?}%");
            assert!(found[2] > found[0], "{found:?}");
        }
        for n in [8, 12, 20, 50, 100] {
            let alarms = share(if n > 20 { 1_000 } else { 4_000 }, &[(n, 0.0)]);
            println!("false alarms in {n} values: {:.1}%", alarms * 100.0);
            assert!((0.02..0.065).contains(&alarms), "{n} values: {alarms}");
        }
    }
}
