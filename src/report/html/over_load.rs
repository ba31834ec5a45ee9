//! How figures change with the load, over several runs.

use super::svg::{Axis, Chart, Series, Shape};
use super::words::{show_ms, show_number, show_percent};
use crate::report::Report;
use crate::report::naming::{LoadAxis, headline_e2e, headline_ttft, knee};

/// A figure of a run; `None` where the run does not have it.
type Figure = fn(&Report) -> Option<f64>;

/// What one chart shows: its title, its lines, and how its values are worded.
struct Sketch(&'static str, &'static [(&'static str, Figure)], fn(f64) -> String);

const SKETCHES: [Sketch; 6] = [
    Sketch(
        "Output tokens per second",
        &[("all requests", |run| run.summary.throughput.output_tokens_per_s)],
        show_number,
    ),
    Sketch(
        "Completions per second",
        &[("all requests", |run| run.summary.throughput.requests_per_s)],
        show_number,
    ),
    Sketch(
        "End-to-end latency",
        &[
            ("p50", |run| Some(headline_e2e(run)?.median)),
            ("p99", |run| Some(headline_e2e(run)?.percentiles.p99)),
        ],
        show_ms,
    ),
    Sketch(
        "Time to first token",
        &[
            ("p50", |run| Some(headline_ttft(run)?.median)),
            ("p99", |run| Some(headline_ttft(run)?.percentiles.p99)),
        ],
        show_ms,
    ),
    Sketch(
        "Inter-token latency",
        &[
            ("p50", |run| Some(run.summary.latency.itl.as_ref()?.median)),
            ("p99", |run| Some(run.summary.latency.itl.as_ref()?.percentiles.p99)),
        ],
        show_ms,
    ),
    Sketch(
        "Share of requests that failed",
        &[("failed", |run| run.summary.requests.error_rate())],
        show_percent,
    ),
];

/// Times, throughput and failures over the load. `best` is the run to be marked; else the last that kept up with its rate
/// is, where there is one.
pub fn over_load(axis: &LoadAxis, reports: &[Report], best: Option<usize>) -> Vec<Chart> {
    let marked = match best {
        Some(best) => Some((best, "best point")),
        None => knee(axis, reports).map(|last| (last, "last that kept up")),
    };
    SKETCHES.iter().filter_map(|sketch| chart(sketch, axis, reports, marked)).collect()
}

/// `None` where no run has any of the figures, or all are 0.
fn chart(
    Sketch(title, lines, show): &Sketch,
    axis: &LoadAxis,
    reports: &[Report],
    marked: Option<(usize, &str)>,
) -> Option<Chart> {
    let (mut series, mut told, mut highest) = (Vec::new(), Vec::new(), 0.0_f64);
    for (style, (name, of)) in lines.iter().enumerate() {
        let (mut points, mut marks) = (Vec::new(), Vec::new());
        for run in &axis.order {
            let Some(value) = of(&reports[*run]) else { continue };
            let word = marked.filter(|(marked, _)| marked == run && style == 0).map_or("", |(_, word)| word);
            points.push((axis.values[*run], value));
            marks.push((axis.values[*run], value, word.to_owned()));
            highest = highest.max(value);
        }
        if points.is_empty() {
            continue;
        }
        let all = points.iter().map(|(x, y)| format!("{} at {}", show(*y), show_number(*x)));
        told.push(format!("{name}: {}", all.collect::<Vec<_>>().join(", ")));
        series.push(Series { name: (*name).to_owned(), style, shape: Shape::Lines(vec![points]) });
        series.push(Series { name: String::new(), style, shape: Shape::Marks(marks) });
    }
    // also where nothing failed: a line along the bottom says nothing
    if highest <= 0.0 {
        return None;
    }
    let title = format!("{title} over {}", axis.name);
    let values = || axis.values.iter().copied();
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    Some(Chart {
        label: format!("{title}. {}", told.join("; ")),
        title,
        x: Axis::fitting(least, most, axis.name, show_number).with_ticks(axis.ticks(show_number)),
        y: Axis::linear(0.0, highest * 1.15, "", *show),
        series,
        bands: vec![],
    })
}
