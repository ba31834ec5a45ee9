//! One or more runs as a page of HTML that needs nothing but itself: verdicts, then numbers, then pictures, then all that
//! it takes to make the runs again. No script, no font, no picture from elsewhere.

mod distribution;
mod dots;
mod escape;
mod lengths;
mod manifest;
mod over_load;
mod over_time;
mod run;
mod svg;
mod table;
mod trend;
mod words;

use std::io::{self, Write};

pub use trend::write_trend_html;

use distribution::percentiles;
use escape::Text;
use lengths::lengths_over;
use over_load::over_load;
use table::{Columns, write_table};
use words::show_time;

use super::Report;
use super::limits::{LimitColumns, best_point, sweep};
use super::naming::{LoadAxis, headline_e2e, headline_ttft, knee, run_names};
use crate::analysis::Sweep;
use crate::plan::SuiteKind;
use crate::report::Tool;
use crate::report::words::{UNKNOWN, efficiency, number, success};
use crate::summary::Distribution;
use crate::units::show_count;

const STYLE: &str = include_str!("style.css");

/// Writes the page. `files` are the files that the reports were read from; empty where they are of runs just made.
///
/// # Errors
/// Those of the writer.
pub fn write_html(
    kind: SuiteKind,
    reports: &[Report],
    files: &[String],
    out: &mut dyn Write,
) -> io::Result<()> {
    let names = run_names(kind, reports, files);
    let page = Page { kind, reports, names: &names };
    head(&page.title(), out)?;
    page.top(out)?;
    if reports.len() > 1 {
        page.side_by_side(out)?;
    }
    for (number, report) in reports.iter().enumerate() {
        writeln!(out, "<section class=\"run\" id=\"run-{}\">", number + 1)?;
        if reports.len() > 1 {
            writeln!(out, "<h2>{}</h2>", Text(&names[number]))?;
            run::write_verdicts(report, out)?;
        }
        run::write_run(report, out)?;
        manifest::write_manifest(report, out)?;
        writeln!(out, "</section>")?;
    }
    foot(out)
}

/// The end of the page.
fn foot(out: &mut dyn Write) -> io::Result<()> {
    let Tool { name, version, .. } = Tool::THIS;
    writeln!(
        out,
        "</main><footer>Written by {name} {version}. No script is in this page.</footer></body></html>"
    )
}

/// Everything up to the page's own text. The policy forbids all that is not in the file, scripts in it included.
fn head(title: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style></head>\n<body><main>",
        Text(title)
    )
}

struct Page<'a> {
    kind: SuiteKind,
    reports: &'a [Report],
    /// One for each report.
    names: &'a [String],
}

impl Page<'_> {
    fn title(&self) -> String {
        match self.reports {
            [one] => format!("{}: {}", one.plan.request.model, one.plan.load),
            several => format!("{} runs side by side", several.len()),
        }
    }

    fn top(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "<header><p class=\"tool\">vllm-loadgen report</p><h1>{}</h1></header>",
            Text(&self.title())
        )?;
        if self.reports.is_empty() {
            return writeln!(out, "<p>No run was made: there is nothing to show.</p>");
        }
        if let [one] = self.reports {
            return run::write_verdicts(one, out);
        }
        writeln!(out, "<nav aria-label=\"Runs\"><ol>")?;
        for (number, (report, name)) in self.reports.iter().zip(self.names).enumerate() {
            write!(out, "<li><a href=\"#run-{}\">{}</a> ", number + 1, Text(name))?;
            run::write_chips(report, out)?;
            writeln!(out, "</li>")?;
        }
        writeln!(out, "</ol></nav>")
    }

    fn side_by_side(&self, out: &mut dyn Write) -> io::Result<()> {
        let axis = LoadAxis::of(self.reports);
        let sweep = sweep(self.kind, self.reports);
        writeln!(out, "<section><h2>Side by side</h2>")?;
        self.table(&sweep, out)?;
        let name = |best: usize| format!("<strong>{}</strong>", Text(&self.names[best]));
        let said = best_point(&sweep, name);
        if !said.is_empty() {
            writeln!(out, "<p>{}.</p>", said.join(". "))?;
        }
        if let Some(last) = axis.as_ref().and_then(|axis| knee(axis, self.reports)) {
            writeln!(
                out,
                "<p>Last that kept up: <strong>{}</strong>: above it, fewer than 90% of the requests that arrived were \
                 completed.</p>",
                Text(&self.names[last])
            )?;
        }
        writeln!(out, "<div class=\"charts\">")?;
        if let Some(axis) = &axis {
            over_load(axis, self.reports, sweep.best).iter().try_for_each(|chart| chart.draw(out))?;
        }
        self.distributions(out)?;
        lengths_over(self.names, self.reports).iter().try_for_each(|chart| chart.draw(out))?;
        writeln!(out, "</div></section>")
    }

    fn table(&self, sweep: &Sweep, out: &mut dyn Write) -> io::Result<()> {
        let mut head = vec!["run", "client", "ok", "failed", "success", "completions/s", "output tokens/s"];
        head.extend(["E2E p50", "E2E p99", "TTFT p50", "TTFT p99", "ITL p50", "ITL p99"]);
        let (limits, has_efficiency) = (LimitColumns::of(self.reports), sweep.has_choice);
        head.extend(limits.heads());
        if has_efficiency {
            head.push("efficiency");
        }
        let rows = self.reports.iter().zip(self.names).zip(&sweep.points);
        let rows = rows.map(|((report, name), point)| {
            let mut row = row(name, report);
            row.extend(limits.cells(report));
            if has_efficiency {
                row.push(efficiency(point.scaling_efficiency));
            }
            row
        });
        let rows: Vec<_> = rows.collect();
        write_table("Runs side by side; times of successful requests", Columns::Numbers, &head, &rows, out)?;
        writeln!(
            out,
            "<p class=\"load\">E2E and TTFT count from when a request was due in an open loop, and from when it was sent \
             in a closed one.</p>"
        )
    }

    /// The distributions of all runs, one over another.
    fn distributions(&self, out: &mut dyn Write) -> io::Result<()> {
        type Which = fn(&Report) -> Option<&Distribution>;
        let which: [(&str, Which); 3] = [
            ("End-to-end latency by percentile", headline_e2e),
            ("Time to first token by percentile", headline_ttft),
            ("Inter-token latency by percentile", |report| report.summary.latency.itl.as_ref()),
        ];
        for (title, of) in which {
            let runs = self.names.iter().zip(self.reports);
            let lines: Vec<_> = runs.map(|(name, report)| (name.clone(), of(report))).collect();
            if let Some(chart) = percentiles(title, &lines) {
                chart.draw(out)?;
            }
        }
        Ok(())
    }
}

/// A run in the table of several.
fn row(name: &str, report: &Report) -> Vec<String> {
    let (summary, rates) = (&report.summary, &report.summary.throughput);
    let ms = |d: Option<&Distribution>, of: fn(&Distribution) -> f64| {
        d.map_or(UNKNOWN.to_owned(), |d| show_time(of(d)))
    };
    let itl = summary.latency.itl.as_ref();
    vec![
        name.to_owned(),
        report.health.verdict.name().to_owned(),
        show_count(summary.requests.succeeded),
        show_count(summary.requests.failed),
        success(report),
        number(rates.requests_per_s),
        number(rates.output_tokens_per_s),
        ms(headline_e2e(report), |d| d.median),
        ms(headline_e2e(report), |d| d.percentiles.p99),
        ms(headline_ttft(report), |d| d.median),
        ms(headline_ttft(report), |d| d.percentiles.p99),
        ms(itl, |d| d.median),
        ms(itl, |d| d.percentiles.p99),
    ]
}
