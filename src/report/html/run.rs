//! One run: whether it can be believed, its numbers with the load beside them, and its pictures.

use std::io::{self, Write};

use super::distribution::{histogram, percentiles};
use super::escape::Text;
use super::lengths::write_lengths;
use super::over_time::over_time;
use super::svg::Chart;
use super::table::{Columns, write_pairs, write_table};
use super::words::show_time;
use crate::analysis::Outcome;
use crate::health::Verdict;
use crate::report::Report;
use crate::report::naming::{headline_e2e, headline_ttft, headline_words, is_open};
use crate::report::words::{
    LATE, UNKNOWN, count, easier_replay, goodput, late_lines, lateness, load, number, prefix_cache, share,
    statistics, success, threshold_lines, thresholds_in_short,
};
use crate::summary::{Distribution, RetryAfter};
use crate::text::printable;
use crate::units::{show_count, show_counted, show_fine_ms, significant};

/// Writes all of a run but its manifest.
///
/// # Errors
/// Those of the writer.
pub fn write_run(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<p class=\"load\">{}; {}</p>", Text(&load(report)), headline_words(report))?;
    tiles(report, out)?;
    if let Some(told) = prefix_cache(report) {
        writeln!(out, "<p class=\"load\">{}.</p>", Text(&told))?;
    }
    let said = report.remarks();
    list("What this says", &said, out)?;
    list("Warnings", &report.warnings, out)?;
    latencies(report, out)?;
    client_share(report, out)?;
    errors(report, out)?;
    charts("Distribution", "", &distributions(report), out)?;
    write_lengths(report, out)?;
    let note = match is_open(report) {
        true => "Here, times are service times, from when a request was sent.",
        false => "",
    };
    charts("Over time", note, &over_time(report), out)?;
    worst(report, out)?;
    server(report, out)
}

/// How good or bad something is, for its colour; the words say it too.
enum Mood {
    Good,
    Doubtful,
    Bad,
}

impl Mood {
    fn mark(&self) -> (&'static str, &'static str) {
        match self {
            Self::Good => ("good", "✓"),
            Self::Doubtful => ("doubtful", "!"),
            Self::Bad => ("bad", "✗"),
        }
    }
}

/// What can be said of the run before any number of it is read: mood, a short word, and the reasons.
fn verdicts(report: &Report) -> Vec<(Mood, String, Vec<String>)> {
    let (health, requests) = (&report.health, &report.summary.requests);
    let name = health.verdict.name();
    let client = match health.verdict {
        Verdict::Valid => Mood::Good,
        Verdict::Degraded => Mood::Doubtful,
        Verdict::Invalid => Mood::Bad,
    };
    let failed = show_count(requests.failed);
    let errors = match (requests.succeeded, requests.failed) {
        (0, 0) if requests.sent == 0 => (Mood::Bad, "No request was sent".to_owned()),
        (0, _) => (Mood::Bad, format!("No request succeeded; {failed} failed")),
        (_, 0) => (Mood::Good, "No request failed".to_owned()),
        _ => (Mood::Doubtful, format!("{failed} of {} failed", show_counted(requests.sent, "request"))),
    };
    let ours = [
        (requests.by_client, "ended by this client itself, counted apart"),
        (requests.not_sent, "due and never sent, for the run ended first"),
    ];
    let apart = ours.into_iter().filter(|(count, _)| *count > 0);
    let apart = apart.map(|(count, what)| format!("{} {what}", show_counted(count, "request"))).collect();
    let end = match (report.complete, &report.stopped_by) {
        (true, _) => (Mood::Good, "Complete".to_owned(), vec![]),
        (false, Some(limit)) => (Mood::Bad, "Incomplete: ended early".to_owned(), vec![limit.clone()]),
        (false, None) => (Mood::Bad, "Incomplete: ended before its planned end".to_owned(), vec![]),
    };
    let headlines = report.headlines().into_iter();
    let mut all: Vec<_> = headlines.map(|told| (Mood::Bad, told.word.to_owned(), vec![told.why])).collect();
    all.extend([
        (client, format!("Client {name}: {}", health.verdict.meaning()), health.reasons.clone()),
        (errors.0, errors.1, apart),
        end,
    ]);
    if let Some((worst, words)) = thresholds_in_short(report) {
        let mood = match worst {
            Outcome::Passed => Mood::Good,
            Outcome::Inconclusive => Mood::Doubtful,
            Outcome::Failed => Mood::Bad,
        };
        all.push((mood, words, threshold_lines(report).collect()));
    }
    if let Some(simulated) = &report.plan.simulated {
        let why = "these figures say nothing of a real server".to_owned();
        all.push((Mood::Doubtful, "Simulated server".to_owned(), vec![why, printable(simulated, 400)]));
    }
    all
}

/// Writes whether the run can be believed, with the reasons.
///
/// # Errors
/// Those of the writer.
pub fn write_verdicts(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<ul class=\"verdicts\">")?;
    for (mood, word, reasons) in verdicts(report) {
        let (class, mark) = mood.mark();
        write!(
            out,
            "<li class=\"{class}\"><strong><span aria-hidden=\"true\">{mark}</span> {}</strong>",
            Text(&word)
        )?;
        reasons.iter().try_for_each(|reason| write!(out, "<span>{}</span>", Text(reason)))?;
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ul>")
}

/// Writes the same in a line, without the reasons.
///
/// # Errors
/// Those of the writer.
pub fn write_chips(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for (mood, word, _) in verdicts(report) {
        let (class, mark) = mood.mark();
        let short = word.split(": ").next().unwrap_or_default();
        write!(
            out,
            "<span class=\"chip {class}\"><span aria-hidden=\"true\">{mark}</span> {}</span> ",
            Text(short)
        )?;
    }
    Ok(())
}

fn list(title: &str, lines: &[String], out: &mut dyn Write) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h3>{title}</h3><ul>")?;
    lines.iter().try_for_each(|line| writeln!(out, "<li>{}</li>", Text(line)))?;
    writeln!(out, "</ul>")
}

/// The few numbers that are looked for first.
fn tiles(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let (summary, rates) = (&report.summary, &report.summary.throughput);
    let times = |d: Option<&Distribution>| match d {
        Some(d) => (show_time(d.median), format!("p99 {}", show_time(d.percentiles.p99))),
        None => (UNKNOWN.to_owned(), String::new()),
    };
    let (e2e, ttft, itl) =
        (times(headline_e2e(report)), times(headline_ttft(report)), times(summary.latency.itl.as_ref()));
    let sent = format!(
        "{} sent, {}",
        show_count(summary.requests.sent),
        match summary.duration_s {
            Some(seconds) => format!("{} s", significant(seconds)),
            None => "no time".to_owned(),
        }
    );
    let offered = match (is_open(report), rates.offered_requests_per_s) {
        (true, Some(rate)) => format!("{} offered", significant(rate)),
        _ => String::new(),
    };
    let steady = summary.windows.steady.filter(|_| rates.output_tokens_per_s.is_some());
    let steady = steady.and_then(|steady| steady.output_tokens_per_s);
    let steady = steady.map_or(String::new(), |rate| format!("{} while steady", significant(rate)));
    let [e2e_name, ttft_name] = headline_names(report).map(|name| format!("{name} p50"));
    let tiles = [
        ("Success", success(report), sent),
        ("Completions/s", number(rates.requests_per_s), offered),
        ("Output tokens/s", number(rates.output_tokens_per_s), steady),
        ("In flight", number(summary.mean_in_flight), "on average".to_owned()),
        (e2e_name.as_str(), e2e.0, e2e.1),
        (ttft_name.as_str(), ttft.0, ttft.1),
        ("ITL p50", itl.0, itl.1),
    ];
    writeln!(out, "<dl class=\"tiles\">")?;
    for (name, value, beside) in tiles {
        writeln!(
            out,
            "<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>",
            Text(name),
            Text(&value),
            Text(&beside)
        )?;
    }
    writeln!(out, "</dl>")?;
    match goodput(report) {
        Some(words) => writeln!(out, "<p>Goodput: {}</p>", Text(&words)),
        None => Ok(()),
    }
}

fn latencies(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let latency = &report.summary.latency;
    let open = |d: &'_ Option<Distribution>| d.as_ref().filter(|_| is_open(report)).cloned();
    let rows = [
        ("response E2E", open(&latency.response_e2e)),
        ("response TTFT", open(&latency.response_ttft)),
        ("lag", open(&latency.lag)),
        ("E2E", latency.e2e.clone()),
        ("TTFT", latency.ttft.clone()),
        ("TPOT", latency.tpot.clone()),
        ("ITL", latency.itl.clone()),
        ("time to first byte", latency.ttfb.clone()),
        ("connect", latency.connect.clone()),
        ("of it TLS", latency.tls.clone()),
        ("client's own read delay", latency.read_delay.clone()),
    ];
    let mut head = vec!["", "n"];
    head.extend(statistics().map(|(name, _)| name));
    let rows = rows.iter().filter_map(|(name, distribution)| {
        let distribution = distribution.as_ref()?;
        let figures = statistics().map(|(_, of)| significant(of(distribution)));
        Some([(*name).to_owned(), show_count(distribution.count)].into_iter().chain(figures).collect())
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return writeln!(out, "<p>No request succeeded: there are no times.</p>");
    }
    let caption = format!(
        "Times in ms of the successful requests ({} of all); lag and read delay of all requests",
        success(report)
    );
    write_table(&caption, Columns::Numbers, &head, &rows, out)?;
    if let Some(told) = lateness(report) {
        writeln!(out, "<p>This client was late: {}.</p>", Text(&told))?;
    }
    let late = late_lines(report);
    if late.is_empty() {
        return Ok(());
    }
    writeln!(out, "<p>The table has upper ends: {LATE}.</p><ul>")?;
    late.iter().try_for_each(|told| writeln!(out, "<li>{}</li>", Text(told)))?;
    writeln!(out, "</ul>")
}

/// How much of the times a calibration found to be the client's.
fn client_share(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Some(calibration) = &report.calibration else { return Ok(()) };
    let accuracy = &calibration.accuracy;
    let rows: Vec<_> = [("TTFT", accuracy.ttft), ("ITL", accuracy.itl), ("E2E", accuracy.e2e)]
        .into_iter()
        .filter_map(|(name, errors)| {
            let errors = errors?;
            let figures = [errors.p50, errors.p99, errors.max].map(show_fine_ms);
            Some([name.to_owned()].into_iter().chain(figures).collect())
        })
        .collect();
    let caption = "Client's own share in ms, by a replay against a simulated server of this server's pace";
    write_table(caption, Columns::Numbers, &["", "p50", "p99", "max"], &rows, out)?;
    easier_replay(report).map_or(Ok(()), |told| writeln!(out, "<p>{}</p>", Text(&told)))
}

fn errors(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.summary.errors.is_empty() {
        return Ok(());
    }
    let rows =
        report.summary.errors.iter().map(|line| {
            let group = serde_json::to_value(line.group)?;
            let retry = line.retry_after_s.map(|RetryAfter { min, max }| {
                if min == max { format!("{min} s") } else { format!("{min} to {max} s") }
            });
            Ok(vec![
                printable(&line.kind, 60),
                show_count(line.count),
                group.as_str().unwrap_or_default().to_owned(),
                line.meaning.to_string(),
                format!("{} to {} s", significant(line.first_s), significant(line.last_s)),
                format!("request {}: {}", line.first_request, printable(&line.example, 300)),
                retry.unwrap_or(UNKNOWN.to_owned()),
            ])
        });
    let rows = rows.collect::<io::Result<Vec<_>>>()?;
    let head = ["kind", "count", "group", "meaning", "when", "first of them", "server says: retry after"];
    write_table("Failed requests by kind, most frequent first", Columns::Words, &head, &rows, out)
}

fn charts(title: &str, note: &str, charts: &[Chart], out: &mut dyn Write) -> io::Result<()> {
    if charts.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h3>{title}</h3>")?;
    if !note.is_empty() {
        writeln!(out, "<p class=\"load\">{note}</p>")?;
    }
    writeln!(out, "<div class=\"charts\">")?;
    charts.iter().try_for_each(|chart| chart.draw(out))?;
    writeln!(out, "</div>")
}

fn distributions(report: &Report) -> Vec<Chart> {
    let [e2e, ttft] = headline_names(report);
    let itl = report.summary.latency.itl.as_ref();
    let quantities = [(e2e, headline_e2e(report)), (ttft, headline_ttft(report)), ("ITL", itl)];
    let lines = quantities.map(|(name, distribution)| (name.to_owned(), distribution));
    let by_percentile = percentiles("Times by percentile", &lines);
    let each = quantities.into_iter().enumerate();
    let each = each.filter_map(|(style, (name, distribution))| histogram(name, distribution?, style));
    by_percentile.into_iter().chain(each).collect()
}

/// End-to-end time and time to first token, as they stand for the run.
fn headline_names(report: &Report) -> [&'static str; 2] {
    if is_open(report) { ["Response E2E", "Response TTFT"] } else { ["E2E", "TTFT"] }
}

fn worst(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let worst = &report.summary.worst;
    if worst.is_empty() {
        return Ok(());
    }
    let ms = |ms: Option<f64>| ms.map_or(UNKNOWN.to_owned(), show_time);
    let rows = worst.iter().map(|slow| {
        vec![
            report.plan.request_id(slow.id),
            format!("{} s", significant(slow.start_s)),
            ms(Some(slow.response_e2e_ms)),
            ms(slow.e2e_ms),
            ms(slow.ttft_ms),
            ms(slow.longest_gap_ms),
            count(slow.output_tokens),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let head = ["X-Request-Id", "started", "response E2E", "E2E", "TTFT", "longest gap", "output tokens"];
    write_table("The slowest successful requests, by response time", Columns::Numbers, &head, &rows, out)
}

fn server(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let timings = &report.summary.server_timings;
    if let Some(side) = &report.server {
        let window = &side.window;
        let mut pairs = vec![
            ("Requests finished", count(window.requests_finished)),
            ("Prompt tokens", count(window.prompt_tokens)),
            ("Generated tokens", count(window.generation_tokens)),
            ("Preemptions", count(window.preemptions)),
            ("Prefix cache hits", share(window.prefix_cache_hit_share)),
        ];
        let means = [
            ("Mean TTFT", &window.ttft_s),
            ("Mean ITL", &window.itl_s),
            ("Mean E2E", &window.e2e_s),
            ("Mean time in the queue", &window.queue_s),
            ("Mean prefill", &window.prefill_s),
            ("Mean decode", &window.decode_s),
        ];
        pairs.extend(
            means
                .into_iter()
                .filter_map(|(name, delta)| Some((name, show_time(delta.as_ref()?.mean_s? * 1e3)))),
        );
        let caption = "The server's own account, of all its traffic, the warm-up included";
        write_pairs(caption, &pairs, out)?;
    }
    if timings.is_empty() {
        return Ok(());
    }
    let rows = timings.iter().map(|(name, d)| {
        vec![
            printable(name, 60),
            significant(d.percentiles.p50),
            significant(d.percentiles.p99),
            significant(d.max),
        ]
    });
    let caption = "What the server told of its work on each request, in ms unless the name says otherwise";
    write_table(caption, Columns::Numbers, &["", "p50", "p99", "max"], &rows.collect::<Vec<_>>(), out)
}
