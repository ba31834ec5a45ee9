//! How a run went: panels that all span the same seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use super::svg::{Axis, Chart, Series, Shape};
use super::words::{show_ms, show_number, show_percent, show_s};
use crate::observe::GaugePoint;
use crate::report::Report;
use crate::summary::{Brief, Slice, Timeline};
use crate::units::show_duration;

/// The panels of one run, all over the same seconds: times, throughput, load, the server's queue and cache, failures.
pub fn over_time(report: &Report) -> Vec<Chart> {
    let Some(timeline) = &report.summary.timeline else { return vec![] };
    let course = Course::of(report, timeline);
    let panels = [
        course.times("Time to first token", |slice| slice.ttft_ms),
        course.times("End-to-end latency", |slice| slice.e2e_ms),
        course.gaps(),
        course.requests(),
        course.tokens(),
        course.load(),
        course.cache(),
        course.failures(),
    ];
    panels.into_iter().flatten().collect()
}

/// Points of seconds and values, in pieces with gaps between them.
type Lines = Vec<Vec<(f64, f64)>>;

/// A timeline and what is drawn beside it.
struct Course<'a> {
    timeline: &'a Timeline,
    gauges: &'a [GaugePoint],
    end_s: f64,
    bands: Vec<(f64, f64, &'static str)>,
}

impl<'a> Course<'a> {
    fn of(report: &'a Report, timeline: &'a Timeline) -> Self {
        let windows = &report.summary.windows;
        let ends = [windows.warmup, windows.measured, windows.cooldown];
        let end_s = ends.into_iter().flatten().map(|window| window.until_s).fold(0.0, f64::max);
        let mut bands = Vec::new();
        if let Some(warmup) = windows.warmup {
            bands.push((warmup.from_s, windows.measured.map_or(warmup.until_s, |m| m.from_s), "warm-up"));
        }
        if let Some(cooldown) = windows.cooldown {
            bands.push((cooldown.from_s, cooldown.until_s, "cool-down"));
        }
        let gauges = report.server.as_ref().and_then(|server| server.gauges.as_ref());
        Self { timeline, gauges: gauges.map_or(&[], |gauges| &gauges.series), end_s, bands }
    }

    /// The slices with middle and length of the part of each that is within the run, in seconds. Slices of which next to
    /// nothing is are left out: their rates would be noise.
    fn slices(&self) -> impl Iterator<Item = (f64, f64, &'a Slice)> {
        let (from_s, width_s, end_s) = (self.timeline.from_s, self.timeline.width_s, self.end_s);
        self.timeline.slices.iter().enumerate().filter_map(move |(number, slice)| {
            let begin = from_s + number as f64 * width_s;
            let (from, until) = (begin.max(0.0), (begin + width_s).min(end_s));
            (until - from > width_s * 0.2).then_some((f64::midpoint(from, until), until - from, slice))
        })
    }

    /// Lines with gaps where there is no value.
    fn line(&self, of: impl Fn(&Slice, f64) -> Option<f64>) -> Lines {
        let mut lines = vec![vec![]];
        for (at, length, slice) in self.slices() {
            match (of(slice, length), lines.last_mut()) {
                (Some(value), Some(line)) => line.push((at, value)),
                (None, Some(line)) if !line.is_empty() => lines.push(vec![]),
                _ => {}
            }
        }
        lines.retain(|line| !line.is_empty());
        lines
    }

    fn gauge(&self, of: impl Fn(&GaugePoint) -> Option<f64>) -> Lines {
        let points = self.gauges.iter().filter_map(|point| Some((point.at_s, of(point)?)));
        let points: Vec<_> = points.filter(|(at, _)| (0.0..=self.end_s * 1.01).contains(at)).collect();
        if points.is_empty() { vec![] } else { vec![points] }
    }

    /// `None` where there is nothing in any of the lines.
    fn chart(&self, title: &str, lines: Vec<(&str, Lines)>, show: fn(f64) -> String) -> Option<Chart> {
        let lines: Vec<_> = lines.into_iter().filter(|(_, lines)| !lines.is_empty()).collect();
        let values = || lines.iter().flat_map(|(_, lines)| lines).flatten().map(|(_, value)| *value);
        let most = values().fold(f64::NEG_INFINITY, f64::max);
        let told = lines.iter().map(|(name, lines)| {
            let most = lines.iter().flatten().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
            format!("{name}: at most {}", show(most))
        });
        let label = format!("{title} over the run. {}", told.collect::<Vec<_>>().join("; "));
        most.is_finite().then(|| Chart {
            title: title.to_owned(),
            label,
            x: self.axis(),
            y: Axis::linear(0.0, if most > 0.0 { most * 1.1 } else { 1.0 }, "", show),
            series: lines
                .into_iter()
                .enumerate()
                .map(|(style, (name, lines))| Series {
                    name: name.to_owned(),
                    style,
                    shape: Shape::Lines(lines),
                })
                .collect(),
            bands: self.bands.clone(),
        })
    }

    fn axis(&self) -> Axis {
        Axis::linear(0.0, self.end_s.max(1e-3), "since the first request", show_s)
    }

    fn times(&self, title: &str, of: fn(&Slice) -> Option<Brief>) -> Option<Chart> {
        let line = |figure: fn(Brief) -> f64| self.line(|slice, _| of(slice).map(figure));
        self.chart(title, vec![("p50", line(|b| b.p50)), ("p99", line(|b| b.p99))], show_ms)
    }

    fn gaps(&self) -> Option<Chart> {
        let line = |figure: fn(Brief) -> f64| self.line(|slice, _| slice.itl_ms.map(figure));
        // there are so many that the 99th does not show a stall
        let lines = vec![("p50", line(|b| b.p50)), ("p99", line(|b| b.p99)), ("max", line(|b| b.max))];
        self.chart("Inter-token latency", lines, show_ms)
    }

    fn requests(&self) -> Option<Chart> {
        let rate = |of: fn(&Slice) -> u64| self.line(move |slice, length| Some(of(slice) as f64 / length));
        self.chart(
            "Requests per second",
            vec![("started", rate(|slice| slice.started)), ("succeeded", rate(|slice| slice.succeeded))],
            show_number,
        )
    }

    fn tokens(&self) -> Option<Chart> {
        let line = self.line(|slice, length| Some(slice.output_tokens? / length));
        self.chart("Output tokens per second", vec![("received", line)], show_number)
    }

    fn load(&self) -> Option<Chart> {
        let width_s = self.timeline.width_s;
        self.chart(
            "Requests in flight, and the server's queue",
            vec![
                ("in flight, seen here", self.line(|slice, length| Some(slice.in_flight * width_s / length))),
                ("running in the server", self.gauge(|point| point.gauges.running)),
                ("waiting in the server", self.gauge(|point| point.gauges.waiting)),
            ],
            show_number,
        )
    }

    fn cache(&self) -> Option<Chart> {
        let line = self.gauge(|point| point.gauges.kv_cache_usage);
        self.chart("Key-value cache in use at the server", vec![("in use", line)], show_percent)
    }

    fn failures(&self) -> Option<Chart> {
        const SHOWN: usize = 7;
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (kind, count) in self.timeline.slices.iter().flat_map(|slice| &slice.failed) {
            let sum = sums.entry(kind).or_default();
            *sum = sum.saturating_add(*count);
        }
        let mut kinds: Vec<_> = sums.into_iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        if kinds.is_empty() {
            return None;
        }
        let (width_s, from_s) = (self.timeline.width_s, self.timeline.from_s);
        let style_of =
            |kind: &str| kinds.iter().position(|(name, _)| *name == kind).unwrap_or(SHOWN).min(SHOWN);
        let mut bars: Vec<Vec<[f64; 4]>> = vec![vec![]; SHOWN + 1];
        let mut highest = 1.0_f64;
        for (number, slice) in self.timeline.slices.iter().enumerate() {
            let begin = from_s + number as f64 * width_s;
            let mut low = 0.0;
            let mut stacked: Vec<_> = slice.failed.iter().map(|(kind, n)| (style_of(kind), *n)).collect();
            stacked.sort_unstable();
            for (style, count) in stacked {
                let high = low + count as f64;
                bars[style].push([begin.max(0.0), begin + width_s, low, high]);
                low = high;
            }
            highest = highest.max(low);
        }
        let names = kinds.iter().map(|(kind, _)| *kind).take(SHOWN).chain(["other"]);
        let told = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ");
        let title = format!("Failed requests by kind, in slices of {}", show_width(width_s));
        Some(Chart {
            label: format!("{title}. In all: {told}"),
            title,
            x: self.axis(),
            y: Axis::linear(0.0, highest * 1.1, "", show_number),
            series: names
                .zip(bars)
                .enumerate()
                .filter(|(_, (_, bars))| !bars.is_empty())
                .map(|(style, (name, bars))| Series {
                    name: name.to_owned(),
                    style,
                    shape: Shape::Bars(bars),
                })
                .collect(),
            bands: self.bands.clone(),
        })
    }
}

fn show_width(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| show_s(seconds), show_duration)
}
