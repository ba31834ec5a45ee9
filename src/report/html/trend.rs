//! Runs over time as a page: what changed, a chart for each metric, and the runs.

use std::io::{self, Write};

use super::escape::Text;
use super::svg::{Axis, Chart, Series, Shape, Spot};
use super::table::{Columns, write_table};
use super::words::{show_ms, show_number, show_percent};
use super::{foot, head};
use crate::analysis::{Change, Estimate, Trend};
use crate::report::trend::{TrendReport, TrendRun, TrendSeries, cell, figure, heading, latest_cell, unit};
use crate::report::words::shown;
use crate::stats::Interval;
use crate::units::show_counted;

/// Writes the page.
///
/// # Errors
/// Those of the writer.
pub fn write_trend_html(report: &TrendReport, out: &mut dyn Write) -> io::Result<()> {
    let runs: usize = report.series.iter().map(|series| series.runs.len()).sum();
    let runs = show_counted(runs as u64, "run");
    let title = match report.series.as_slice() {
        [one] => format!("{}: {runs} over time", one.title()),
        several => format!("{runs} of {} plans over time", several.len()),
    };
    head(&title, out)?;
    writeln!(out, "<header><p class=\"tool\">vllm-loadgen trend</p><h1>{}</h1></header>", Text(&title))?;
    verdicts(report, out)?;
    let by = report.by.as_deref();
    for (number, series) in report.series.iter().enumerate() {
        writeln!(out, "<section class=\"run\" id=\"plan-{}\">", number + 1)?;
        writeln!(out, "<h2>{}</h2><p class=\"load\">{}</p>", Text(&series.title()), Text(&series.about()))?;
        list("Changes of level", &series.changes(by), out)?;
        list(
            "The latest run against the median of those before it since the last change",
            &series.latest(),
            out,
        )?;
        writeln!(out, "<div class=\"charts\">")?;
        series
            .metrics
            .iter()
            .filter_map(|trend| chart(series, trend, by))
            .try_for_each(|chart| chart.draw(out))?;
        writeln!(out, "</div>")?;
        table(series, by, out)?;
        writeln!(out, "</section>")?;
    }
    skipped(report, out)?;
    writeln!(out, "<p class=\"load\">{}.</p>", Text(&report.rule()))?;
    foot(out)
}

fn mood(verdict: Change) -> (&'static str, &'static str) {
    match verdict {
        Change::Better | Change::Same => ("good", "✓"),
        Change::Inconclusive => ("doubtful", "!"),
        Change::Worse => ("bad", "✗"),
    }
}

/// What each plan's newest levels are.
fn verdicts(report: &TrendReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<ul class=\"verdicts\">")?;
    for (number, series) in report.series.iter().enumerate() {
        let (verdict, told) = series.verdict();
        let (class, mark) = mood(verdict);
        writeln!(
            out,
            "<li class=\"{class}\"><strong><span aria-hidden=\"true\">{mark}</span> {}</strong>\
             <span><a href=\"#plan-{}\">{}</a></span></li>",
            Text(&told),
            number + 1,
            Text(&series.title())
        )?;
    }
    writeln!(out, "</ul>")
}

fn list(title: &str, lines: &[(Change, String)], out: &mut dyn Write) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h3>{title}</h3><ul>")?;
    for (verdict, line) in lines {
        match verdict {
            Change::Same => writeln!(out, "<li>{}</li>", Text(line))?,
            verdict => writeln!(out, "<li class=\"{}\">{}</li>", mood(*verdict).0, Text(line))?,
        }
    }
    writeln!(out, "</ul>")
}

/// `None` where no run has the figure.
fn chart(series: &TrendSeries, trend: &Trend, by: Option<&str>) -> Option<Chart> {
    let spots: Vec<Spot> = spots(series, trend, by);
    let ends = || spots.iter().flat_map(|spot| [spot.low, spot.y, spot.high]);
    let (least, most) = (ends().reduce(f64::min)?, ends().reduce(f64::max)?);
    let show = match trend.unit {
        "ms" => show_ms,
        "share" => show_percent,
        _ => show_number,
    };
    let most = if most > 0.0 { most } else { 1.0 };
    let y = Axis::fitting(least, most, "", show);
    let place = |run: usize| run as f64 + 1.0;
    let levels = trend
        .segments
        .iter()
        .map(|level| vec![(place(level.from) - 0.4, level.median), (place(level.until) + 0.4, level.median)]);
    let mut drawn = vec![Series {
        name: "median of a level".to_owned(),
        style: 7,
        shape: Shape::Lines(levels.collect()),
    }];
    for (name, style, is_worse) in [("worse from here on", 6, true), ("better from here on", 2, false)] {
        let wanted = if is_worse { Change::Worse } else { Change::Better };
        let shifts: Vec<_> = trend.changes.iter().filter(|shift| shift.verdict == wanted).collect();
        if !shifts.is_empty() {
            let bounds = |run| vec![(place(run) - 0.5, y.least()), (place(run) - 0.5, y.most())];
            let lines = shifts.iter().map(|shift| bounds(shift.run)).collect();
            drawn.push(Series { name: name.to_owned(), style, shape: Shape::Lines(lines) });
            let words = shifts.iter().filter_map(|shift| {
                Some((place(shift.run) - 0.5, shift.after, format!("{:+.1}%", shift.change? * 100.0)))
            });
            drawn.push(Series { name: String::new(), style, shape: Shape::Words(words.collect()) });
        }
    }
    let name = "a run, with its 95% interval".to_owned();
    let told = told(series, trend, by);
    drawn.push(Series { name, style: 0, shape: Shape::Spots(spots) });
    let count = series.runs.len();
    Some(Chart {
        title: heading(trend),
        label: told,
        x: Axis::linear(0.5, place(count) - 0.5, "start of the run", show_number).with_ticks(ticks(series)),
        y,
        series: drawn,
        bands: vec![],
    })
}

fn spots(series: &TrendSeries, trend: &Trend, by: Option<&str>) -> Vec<Spot> {
    let runs = series.runs.iter().zip(&trend.runs).enumerate();
    let spot = |(index, (run, found)): (usize, (&TrendRun, &Option<Estimate>))| {
        let found = (*found)?;
        // to the farther of a late client's two ends
        let reach = |end: fn(Interval) -> Option<f64>, farther: fn(f64, f64) -> f64| {
            let of = |found: Estimate| found.interval.and_then(end).unwrap_or(found.value);
            farther(of(found), of(found.at_other_end()))
        };
        let doubt = match run.doubt() {
            "" => String::new(),
            doubt => format!(", {doubt}, left out of the judgement"),
        };
        Some(Spot {
            x: index as f64 + 1.0,
            y: found.value,
            low: reach(|range| range.low, f64::min),
            high: reach(|range| range.high, f64::max),
            is_faint: !run.judged,
            title: format!("{}: {}{}{doubt}", run.told(by), figure(found, trend.unit), unit(trend)),
        })
    };
    runs.filter_map(spot).collect()
}

/// The chart in words: its levels.
fn told(series: &TrendSeries, trend: &Trend, by: Option<&str>) -> String {
    let levels = trend.segments.iter().filter_map(|level| {
        let (from, until) = (series.runs.get(level.from)?, series.runs.get(level.until)?);
        let runs = show_counted(level.n as u64, "run");
        let median = shown(level.median, trend.unit);
        Some(format!("{median}{} in {runs} from {} to {}", unit(trend), from.told(by), until.told(by)))
    });
    let levels: Vec<String> = levels.collect();
    format!("{} over time. Median of each level: {}", trend.metric, levels.join("; "))
}

/// The dates of at most five runs, evenly apart, as far as they tell the runs apart: times of one day, days of one year, months.
fn ticks(series: &TrendSeries) -> Vec<(f64, String)> {
    let part =
        |run: &TrendRun, from: usize, count| run.date().chars().skip(from).take(count).collect::<String>();
    let is_one = |count| {
        series.runs.first().map(|run| part(run, 0, count))
            == series.runs.last().map(|run| part(run, 0, count))
    };
    let (from, count) = match (is_one(10), is_one(4)) {
        (true, _) => (11, 8),
        (_, true) => (5, 5),
        _ => (0, 7),
    };
    let step = series.runs.len().div_ceil(5).max(1);
    let dated = series.runs.iter().enumerate().step_by(step);
    dated.map(|(index, run)| (index as f64 + 1.0, part(run, from, count))).collect()
}

fn table(series: &TrendSeries, by: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    let heads: Vec<String> = series.metrics.iter().map(heading).collect();
    let named = by.unwrap_or("labels");
    let mut head = vec!["started", named, "client"];
    head.extend(heads.iter().map(String::as_str));
    head.push("file");
    let mut rows: Vec<Vec<String>> = Vec::with_capacity(series.runs.len() + 1);
    for (index, run) in series.runs.iter().enumerate() {
        let client = if run.complete {
            run.health.name().to_owned()
        } else {
            format!("{}, incomplete", run.health.name())
        };
        let mut row = vec![run.date(), run.name(by), client];
        row.extend(series.metrics.iter().map(|trend| cell(trend, index)));
        row.push(run.file.clone());
        rows.push(row);
    }
    let mut last = vec!["latest run".to_owned(), String::new(), String::new()];
    last.extend(series.metrics.iter().map(|trend| latest_cell(trend.latest.as_ref())));
    last.push(String::new());
    rows.push(last);
    write_table("Runs, first to last, with 95% intervals", Columns::Numbers, &head, &rows, out)
}

fn skipped(report: &TrendReport, out: &mut dyn Write) -> io::Result<()> {
    if report.skipped.is_empty() {
        return Ok(());
    }
    writeln!(out, "<section><h2>Left out</h2><ul>")?;
    for skipped in &report.skipped {
        writeln!(out, "<li>{}: {}</li>", Text(&skipped.file), Text(&skipped.problem))?;
    }
    writeln!(out, "</ul></section>")
}
