//! Which values a quantity had, in two pictures: by percentile, and how often each.

use super::svg::{Axis, Chart, Series, Shape};
use super::words::{show_ms, show_number, trimmed};
use crate::summary::Distribution;

/// Percentiles of one or more quantities in ms: the further right, the rarer. What has no values keeps its colour for other
/// charts. `None` where there is nothing to draw.
pub fn percentiles(title: &str, lines: &[(String, Option<&Distribution>)]) -> Option<Chart> {
    let known = || lines.iter().enumerate().filter_map(|(style, (name, d))| Some((style, name, (*d)?)));
    let curves: Vec<_> =
        known().map(|(style, name, distribution)| (style, name, curve(distribution))).collect();
    let points = || curves.iter().flat_map(|(.., curve)| curve);
    let rarest = points().map(|(x, _)| *x).fold(10.0, f64::max);
    let least = points().map(|(_, y)| *y).filter(|y| *y > 0.0).fold(f64::INFINITY, f64::min);
    let most = points().map(|(_, y)| *y).fold(0.0, f64::max);
    points().next()?;
    let told = known().map(|(_, name, d)| {
        format!(
            "{name}: p50 {}, p99 {}, max {}",
            show_ms(d.median),
            show_ms(d.percentiles.p99),
            show_ms(d.max)
        )
    });
    let x = Axis::log(1.0, rarest, "percentile", trimmed).with_ticks(percentile_ticks(rarest));
    Some(Chart {
        title: title.to_owned(),
        label: format!("{title}. {}", told.collect::<Vec<_>>().join("; ")),
        x,
        y: Axis::fitting(least.min(most), most, "", show_ms),
        series: curves
            .into_iter()
            .map(|(style, name, curve)| Series {
                name: name.clone(),
                style,
                shape: Shape::Lines(vec![curve]),
            })
            .collect(),
        bands: vec![],
    })
}

/// Points of 1 ÷ (1 − share below) and value, near enough to each other for a picture.
fn curve(distribution: &Distribution) -> Vec<(f64, f64)> {
    let values = distribution.values();
    let total = values.iter().map(|(_, count)| *count as f64).sum::<f64>();
    let mut below = 0.0;
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (number, (value, count)) in values.iter().enumerate() {
        below += *count as f64;
        let x = total / (total - below + 0.5);
        let is_end = number == 0 || number + 1 == values.len();
        if is_end || points.last().is_none_or(|(before, _)| x / before > 1.02) {
            points.push((x, *value as f64 / 1e3));
        }
    }
    // the first value is the one that all others are above
    if let Some((_, first)) = points.first().copied() {
        points.insert(0, (1.0, first));
    }
    points
}

fn percentile_ticks(rarest: f64) -> Vec<(f64, String)> {
    let ticks = [
        (1.0, "0"),
        (2.0, "50"),
        (10.0, "90"),
        (1e2, "99"),
        (1e3, "99.9"),
        (1e4, "99.99"),
        (1e5, "99.999"),
        (1e6, "99.9999"),
    ];
    ticks.into_iter().filter(|(x, _)| *x <= rarest * 1.01).map(|(x, text)| (x, text.to_owned())).collect()
}

/// How often which values of a quantity in ms were there. `None` where its histogram cannot be read.
pub fn histogram(name: &str, distribution: &Distribution, style: usize) -> Option<Chart> {
    let values = distribution.values();
    let bins = Bins::of(&values)?;
    let mut counts = [0.0; BINS];
    for (value, count) in values {
        counts[bins.holding(value as f64 / 1e3)] += count as f64;
    }
    let bars = counts.iter().enumerate().filter(|(_, count)| **count > 0.0);
    let bars = bars.map(|(bin, count)| [bins.edge(bin), bins.edge(bin + 1), 0.0, *count]).collect();
    let highest = counts.iter().copied().fold(0.0, f64::max);
    let p = distribution.percentiles;
    Some(Chart {
        title: format!("{name}: how often"),
        label: format!(
            "Histogram of {name}: {} values from {} to {}, half of them up to {}, 99 of 100 up to {}",
            distribution.count,
            show_ms(distribution.min),
            show_ms(distribution.max),
            show_ms(p.p50),
            show_ms(p.p99)
        ),
        x: if bins.is_log { Axis::log } else { Axis::linear }(bins.from, bins.until, name, show_ms),
        y: Axis::linear(0.0, highest * 1.1, "", show_number),
        series: vec![Series { name: String::new(), style, shape: Shape::Bars(bars) }],
        bands: vec![],
    })
}

/// How many bars a histogram has.
const BINS: usize = 48;

/// Bars of equal width on an axis that suits the values, in ms.
struct Bins {
    from: f64,
    until: f64,
    is_log: bool,
}

impl Bins {
    /// `None` without values. Where they differ much, the axis is logarithmic, and the few that are far below all others
    /// go into the first bar.
    fn of(values: &[(u64, u64)]) -> Option<Self> {
        let ms = |micros: u64| micros as f64 / 1e3;
        let (least, most) = (ms(values.first()?.0), ms(values.last()?.0));
        let total: f64 = values.iter().map(|(_, count)| *count as f64).sum();
        let mut below = 0.0;
        let low = values.iter().find(|(_, count)| {
            below += *count as f64;
            below >= total * 0.005
        });
        let low = low.map_or(least, |(value, _)| ms(*value)).max(1e-3);
        Some(match most - least {
            _ if most / low > 20.0 => Self { from: low * 0.999, until: most * 1.001, is_log: true },
            // as wide as if there were others
            0.0 => Self { from: least * 0.9, until: most * 1.1 + 1e-3, is_log: false },
            _ => Self { from: least, until: most, is_log: false },
        })
    }

    fn holding(&self, value: f64) -> usize {
        let place = match self.is_log {
            true => (value / self.from).ln() / (self.until / self.from).ln(),
            false => (value - self.from) / (self.until - self.from),
        };
        // what is below the first becomes 0
        ((place * BINS as f64) as usize).min(BINS - 1)
    }

    /// Where a bar begins.
    fn edge(&self, bin: usize) -> f64 {
        let share = bin as f64 / BINS as f64;
        match self.is_log {
            true => self.from * (self.until / self.from).powf(share),
            false => self.from + (self.until - self.from) * share,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Samples;

    fn distribution(ms: impl IntoIterator<Item = u64>) -> Distribution {
        let mut samples = Samples::new(1_000);
        ms.into_iter().for_each(|ms| samples.add(ms * 1_000_000));
        samples.into_distribution(1e6).expect("there are values")
    }

    #[test]
    fn a_curve_goes_from_the_least_to_the_largest_value_in_few_points() {
        let points = curve(&distribution(1..=5_000));
        assert_eq!(points[0], (1.0, 1.0));
        let last = points.last().expect("there are points");
        assert!((last.0 - 10_000.0).abs() < 1.0 && (last.1 / 5_000.0 - 1.0).abs() < 1e-3, "{last:?}");
        assert!(
            points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1) && points.len() < 600,
            "{}",
            points.len()
        );
    }

    #[test]
    fn a_run_without_values_leaves_the_colours_of_the_others() {
        let (first, last) = (distribution(1..9), distribution(2..5));
        let lines =
            [("a", Some(&first)), ("b", None), ("c", Some(&last))].map(|(name, d)| (name.to_owned(), d));
        let chart = percentiles("E2E", &lines).expect("two curves");
        let styles: Vec<_> = chart.series.iter().map(|one| (one.name.as_str(), one.style)).collect();
        assert_eq!(styles, [("a", 0), ("c", 2)]);
        assert!(percentiles("E2E", &[("b".to_owned(), None)]).is_none());
    }

    #[test]
    fn a_histogram_holds_every_value() {
        for values in [vec![7], vec![0, 0, 0], vec![1, 2, 1_000], vec![0, 5_000], (1..500).collect()] {
            let all = distribution(values);
            let chart = histogram("TTFT", &all, 0).expect("it can be read");
            let Shape::Bars(bars) = &chart.series[0].shape else { panic!("bars") };
            assert_eq!(bars.iter().map(|bar| bar[3]).sum::<f64>(), all.count as f64);
        }
    }
}
