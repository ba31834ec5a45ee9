//! Runs as CSV (RFC 4180), one row each, for spreadsheets.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use super::Report;
use crate::analysis::Outcome;
use crate::summary::{Distribution, Latency, STATISTICS, Summary};

/// Writes a header and a row for each report. Unknown is an empty cell. Each label that a report bears has a column.
///
/// # Errors
/// Those of the writer.
pub fn write_csv<'a>(reports: impl IntoIterator<Item = &'a Report>, out: &mut dyn Write) -> io::Result<()> {
    let mut csv = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(out);
    let reports: Vec<&Report> = reports.into_iter().collect();
    let labels: BTreeSet<&str> =
        reports.iter().flat_map(|report| report.plan.labels.keys().map(String::as_str)).collect();
    let mut has_header = false;
    for report in reports {
        let cells = cells(report, &labels);
        if !std::mem::replace(&mut has_header, true) {
            csv.write_record(cells.iter().map(|(name, _)| name))?;
        }
        csv.write_record(cells.iter().map(|(_, value)| value))?;
    }
    csv.flush()
}

/// Writes when requests are due: a header, then number and seconds from the start of the run, to the nanosecond.
///
/// # Errors
/// Those of the writer.
pub fn write_schedule(moments: impl Iterator<Item = Duration>, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "request,due_s\r\n")?;
    for (number, due) in moments.enumerate() {
        write!(out, "{number},{}.{:09}\r\n", due.as_secs(), due.subsec_nanos())?;
    }
    Ok(())
}

/// Names and values of one row, in the order of the columns.
fn cells(report: &Report, labels: &BTreeSet<&str>) -> Vec<(String, String)> {
    let (plan, summary) = (&report.plan, &report.summary);
    let mut row = Row(Vec::new());
    row.text("scenario", plan.scenario.as_deref().unwrap_or_default());
    row.number("completions", plan.load.completions);
    row.number("threads", Some(plan.load.threads));
    let steady = plan.load.arrivals.as_ref().and_then(|arrivals| arrivals.shape.steady());
    row.number("request_rate_per_s", steady);
    row.number("duration_limit_s", plan.load.duration.map(|d| d.as_secs_f64()));
    row.text("started", &report.started);
    row.text("model", &plan.request.model);
    row.text("url", &plan.server.endpoint.shown());
    row.text("simulated", if plan.simulated.is_some() { "yes" } else { "no" });
    row.number("max_tokens", plan.request.max_tokens);
    row.text("stream", if plan.request.streams() { "yes" } else { "no" });
    row.summary(summary);
    row.text("errors", &errors(summary));
    row.number("client_cpu_share", report.health.cpu_share);
    row.text("prompt", &plan.prompt);
    row.text("plan_hash", &plan.hash);
    row.number("seed", Some(plan.seed));
    row.text("arrivals", &plan.load.arrivals.as_ref().map(ToString::to_string).unwrap_or_default());
    row.text("schedule_hash", report.schedule.as_ref().map_or("", |schedule| &schedule.hash));
    row.lower_ends(&summary.latency);
    row.limits(report);
    for name in labels {
        let value = plan.labels.get(*name).map_or("", String::as_str);
        row.text(&format!("label_{name}"), value);
    }
    row.0
}

/// Kinds and counts, such as `http_503:4 idle_timeout:1`.
fn errors(summary: &Summary) -> String {
    summary.errors.iter().map(|line| format!("{}:{}", line.kind, line.count)).collect::<Vec<_>>().join(" ")
}

/// The statistics of lower ends that have a column.
const LOWER_ENDS: [&str; 5] = ["mean", "p50", "p90", "p95", "p99"];

struct Row(Vec<(String, String)>);

impl Row {
    fn text(&mut self, name: &str, value: &str) {
        self.0.push((harmless(name), defused(&harmless(value))));
    }

    fn number(&mut self, name: &str, value: Option<impl ToString>) {
        self.0.push((name.to_owned(), value.map(|v| v.to_string()).unwrap_or_default()));
    }

    fn summary(&mut self, summary: &Summary) {
        let requests = &summary.requests;
        self.number("requests_sent", Some(requests.sent));
        self.number("requests_succeeded", Some(requests.succeeded));
        self.number("requests_failed", Some(requests.failed));
        self.number("requests_by_client", Some(requests.by_client));
        self.number("requests_not_sent", Some(requests.not_sent));
        self.number("success_rate", requests.success_rate);
        self.number("duration_s", summary.duration_s);
        self.number("no_worker_free", Some(requests.no_worker_free));
        self.number("offered_requests_per_s", summary.throughput.offered_requests_per_s);
        self.number("sent_requests_per_s", summary.throughput.sent_requests_per_s);
        self.number("requests_per_s", summary.throughput.requests_per_s);
        self.number("output_tokens_per_s", summary.throughput.output_tokens_per_s);
        self.number("total_tokens_per_s", summary.throughput.total_tokens_per_s);
        self.number("input_tokens", summary.tokens.input);
        self.number("output_tokens", summary.tokens.output);
        self.number("mean_in_flight", summary.mean_in_flight);
        let steady = summary.windows.steady;
        self.number("steady_requests_per_s", steady.map(|steady| steady.requests_per_s));
        self.number("steady_output_tokens_per_s", steady.and_then(|steady| steady.output_tokens_per_s));
        let latency = &summary.latency;
        self.distribution("latency_ms", latency.e2e.as_ref());
        self.distribution("ttft_ms", latency.ttft.as_ref());
        self.distribution("response_latency_ms", latency.response_e2e.as_ref());
        self.distribution("response_ttft_ms", latency.response_ttft.as_ref());
        self.distribution("lag_ms", latency.lag.as_ref());
        self.distribution("tpot_ms", latency.tpot.as_ref());
        self.distribution("itl_ms", latency.itl.as_ref());
    }

    /// What came of goodput and thresholds, and whether this client can be believed.
    fn limits(&mut self, report: &Report) {
        let goodput = report.summary.goodput;
        self.number("goodput", goodput.and_then(|goodput| goodput.share));
        self.number("goodput_requests_per_s", goodput.and_then(|goodput| goodput.requests_per_s));
        for outcome in [Outcome::Passed, Outcome::Failed, Outcome::Inconclusive] {
            let of = || report.thresholds.iter().filter(|judged| judged.verdict == outcome).count();
            let count = (!report.thresholds.is_empty()).then(of);
            self.number(&format!("thresholds_{}", outcome.name()), count);
        }
        self.number("prefix_cache_hit_share", report.prefix_cache_hit_share());
        self.text("health", report.health.verdict.name());
    }

    /// Where this client was late.
    fn lower_ends(&mut self, latency: &Latency) {
        self.number("uncertain_requests_share", latency.uncertain_requests_share);
        self.number("uncertain_gaps_share", latency.uncertain_gaps_share);
        self.number("stood_still_s", latency.stood_still_s);
        let times = [
            ("latency_low_ms", &latency.e2e_low),
            ("ttft_low_ms", &latency.ttft_low),
            ("response_latency_low_ms", &latency.response_e2e_low),
            ("response_ttft_low_ms", &latency.response_ttft_low),
            ("tpot_low_ms", &latency.tpot_low),
            ("itl_low_ms", &latency.itl_low),
        ];
        for (name, low) in times {
            for (statistic, value) in STATISTICS.into_iter().filter(|(name, _)| LOWER_ENDS.contains(name)) {
                self.number(&format!("{name}_{statistic}"), low.as_ref().map(value));
            }
        }
    }

    fn distribution(&mut self, name: &str, distribution: Option<&Distribution>) {
        for (statistic, value) in STATISTICS {
            self.number(&format!("{name}_{statistic}"), distribution.map(value));
        }
    }
}

/// Without control characters, which could steer a terminal; but lines and tabs of a prompt stay.
fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Text that a spreadsheet would take for a formula gets an apostrophe before it (OWASP, CSV injection).
pub(super) fn defused(text: &str) -> String {
    match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n') => format!("'{text}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_written_to_the_nanosecond() {
        let mut out = Vec::new();
        let moments = [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(61_500)];
        write_schedule(moments.into_iter(), &mut out).expect("a vector takes all");
        assert_eq!(out, b"request,due_s\r\n0,0.000000000\r\n1,0.000000001\r\n2,61.500000000\r\n");
    }

    #[test]
    fn formulas_are_defused() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"] {
            assert_eq!(defused(text), format!("'{text}"));
        }
        assert_eq!(defused("Small Load"), "Small Load");
    }

    #[test]
    fn what_steers_a_terminal_is_no_part_of_a_cell() {
        assert_eq!(harmless("a\u{1b}[31m\r\n\tb\u{9b}"), "a[31m\n\tb");
    }
}
