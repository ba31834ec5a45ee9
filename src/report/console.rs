//! Reports for people: aligned text of about a screen.

use std::io::{self, Write};

use super::Report;
use super::table::{line, painted, print_table, table};
use super::words::{
    LATE, UNKNOWN, count, easier_replay, goodput, judgement, late_lines, lateness, load, number,
    prefix_cache, share, statistics, success,
};
use crate::analysis::{Judgement, Outcome};
use crate::health::{Health, StoodStill, Verdict};
use crate::keeper::{self, Sighted};
use crate::plan::shown_labels;
use crate::summary::{RetryAfter, Summary};
use crate::text::printable;
use crate::units::{show_count, show_counted, show_duration, show_fine_ms, show_share, significant};

/// Writes one run: what was done, whether this client can be believed, what came of it, and what that says.
///
/// # Errors
/// Those of the writer.
pub fn print_report(report: &Report, color: bool, out: &mut dyn Write) -> io::Result<()> {
    head(report, out)?;
    for headline in report.headlines() {
        // the name may be painted
        write!(out, "  {} ", painted(&format!("{:<20}", headline.word), "1;31", color))?;
        line(&headline.why, out)?;
    }
    health(&report.health, color, out)?;
    let summary = &report.summary;
    writeln!(out)?;
    requests(report, out)?;
    thresholds(&report.thresholds, color, out)?;
    writeln!(out)?;
    throughput(report, out)?;
    latencies(report, out)?;
    client_share(report, out)?;
    errors(summary, out)?;
    server(report, out)?;
    client(report, out)?;
    let said = report.remarks();
    section("What this says", said.iter().map(String::as_str), out)?;
    section("Warnings", report.warnings.iter().map(String::as_str), out)
}

fn section<'a>(title: &str, lines: impl IntoIterator<Item = &'a str>, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_some() {
        writeln!(out, "\n{title}")?;
    }
    lines.try_for_each(|said| line(&format!("  - {said}"), out))
}

fn row(name: &str, value: &str, out: &mut dyn Write) -> io::Result<()> {
    line(&format!("  {name:<20} {value}"), out)
}

fn head(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let plan = &report.plan;
    let scenario = plan.scenario.as_ref().map(|name| format!(": {}", printable(name, 80)));
    line(&format!("vllm-loadgen {}{}", report.tool.version, scenario.unwrap_or_default()), out)?;
    row("Server", &printable(&plan.server.endpoint.shown(), 200), out)?;
    for told in plan.server.network.told() {
        row("", &printable(&told, 200), out)?;
    }
    if plan.server.is_unchecked() {
        row("INSECURE", "the server's certificate is NOT CHECKED (--insecure)", out)?;
    }
    if let Some(simulated) = &plan.simulated {
        row("", &format!("SIMULATED, in this process: {simulated}"), out)?;
        row("", "these figures say nothing of a real server", out)?;
    }
    row("Model", &printable(&plan.request.model, 120), out)?;
    if !plan.labels.is_empty() {
        row("Labels", &shown_labels(&plan.labels), out)?;
    }
    row("Load", &load(report), out)?;
    row("Request", &request(report), out)?;
    if let Some(source) = &plan.key_source {
        row("API key", &format!("from {}", printable(source, 120)), out)?;
    }
    row("Started", &report.started, out)?;
    if !report.complete {
        let why = match &report.stopped_by {
            Some(limit) => format!("ended early: {limit}"),
            None => "ended before its planned end".to_owned(),
        };
        row("INCOMPLETE", &why, out)?;
    }
    Ok(())
}

/// The verdict, and what it rests on.
fn health(health: &Health, color: bool, out: &mut dyn Write) -> io::Result<()> {
    let (name, meaning) = (health.verdict.name(), health.verdict.meaning());
    let shown = match health.verdict {
        Verdict::Valid => name.to_owned(),
        Verdict::Degraded => painted(name, "33", color),
        Verdict::Invalid => painted(name, "1;31", color),
    };
    let colon = if health.reasons.is_empty() { "" } else { ":" };
    // the name may be painted
    writeln!(out, "  {:<20} {shown}: {meaning}{colon}", "Client health")?;
    health.reasons.iter().try_for_each(|reason| line(&format!("  - {reason}"), out))
}

fn request(report: &Report) -> String {
    let (plan, ask) = (&report.plan, &report.plan.request);
    let mut parts = vec![if ask.streams() {
        "streamed".to_owned()
    } else {
        "not streamed (so no TTFT, TPOT and ITL)".to_owned()
    }];
    parts.extend(ask.max_tokens.map(|n| format!("at most {n} tokens")));
    if ask.ignore_eos {
        parts.push("end of text ignored".to_owned());
    }
    if plan.fail_on_length {
        parts.push("a failure if cut there".to_owned());
    }
    parts.extend(ask.temperature.map(|t| format!("temperature {t}")));
    let prompt = printable(&plan.prompt, 60);
    parts.push(if plan.unique_prompts {
        format!("unique prompts \"{prompt}\"")
    } else {
        format!("the same prompt each time \"{prompt}\"")
    });
    parts.join(", ")
}

fn requests(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let summary = &report.summary;
    let requests = &summary.requests;
    let (ok, failed) = (show_count(requests.succeeded), show_count(requests.failed));
    let by_client = match requests.by_client {
        0 => String::new(),
        n => format!(", {} ended by this client", show_count(n)),
    };
    let not_sent = match requests.not_sent {
        0 => String::new(),
        n => format!("; {} due and never sent", show_count(n)),
    };
    let sent = show_count(requests.sent);
    row("Requests", &format!("{sent} sent: {ok} ok, {failed} failed{by_client}{not_sent}"), out)?;
    row("Success rate", &success(report), out)?;
    if let Some(goodput) = goodput(report) {
        row("Goodput", &goodput, out)?;
    }
    let seconds = summary.duration_s.map(|s| format!("{} s", significant(s)));
    row("Duration", &seconds.unwrap_or(UNKNOWN.to_owned()), out)?;
    let tokens = &summary.tokens;
    let mut sums = format!("{} in, {} out", count(tokens.input), count(tokens.output));
    for (n, what) in [(tokens.cached, "of the prompts cached"), (tokens.reasoning, "for reasoning")] {
        sums.push_str(&n.map(|n| format!(", {} {what}", show_count(n))).unwrap_or_default());
    }
    row("Tokens", &sums, out)?;
    prefix_cache(report).map_or(Ok(()), |told| row("Prefix cache", &told, out))
}

/// One line for each threshold: its verdict, the figure, where it may lie, and what else to know.
fn thresholds(judged: &[Judgement], color: bool, out: &mut dyn Write) -> io::Result<()> {
    if judged.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nThresholds")?;
    for one in judged {
        let code = match one.verdict {
            Outcome::Passed => "32",
            Outcome::Failed => "1;31",
            Outcome::Inconclusive => "33",
        };
        let verdict = painted(&format!("{:<12}", one.verdict.name()), code, color);
        write!(out, "  {verdict} ")?;
        line(&format!("{:<24} {}", one.threshold, judgement(one)), out)?;
    }
    Ok(())
}

fn throughput(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let summary = &report.summary;
    let rates = &summary.throughput;
    let per_second = |rate: Option<f64>, unit| {
        rate.map_or(UNKNOWN.to_owned(), |rate| format!("{} {unit}", significant(rate)))
    };
    if report.plan.load.is_open() {
        let (offered, sent) = (rates.offered_requests_per_s, rates.sent_requests_per_s);
        row("Offered", &per_second(offered, "requests/s"), out)?;
        row("Sent", &per_second(sent, "requests/s"), out)?;
    }
    let steady = &summary.windows.steady;
    if let Some(steady) = steady {
        let window =
            format!("from {} to {} s of the run", significant(steady.from_s), significant(steady.until_s));
        row("Steady load", &window, out)?;
    }
    let both = |whole: Option<f64>, steady: Option<f64>, unit| match steady {
        Some(steady) => {
            format!("{} {unit} while steady; {} over all", significant(steady), per_second(whole, unit))
        }
        None => per_second(whole, unit),
    };
    let requests_per_s = steady.map(|steady| steady.requests_per_s);
    let output_tokens_per_s = steady.and_then(|steady| steady.output_tokens_per_s);
    row("Throughput", &both(rates.requests_per_s, requests_per_s, "completions/s"), out)?;
    row("Output", &both(rates.output_tokens_per_s, output_tokens_per_s, "tokens/s"), out)?;
    row("Input and output", &per_second(rates.total_tokens_per_s, "tokens/s"), out)?;
    row("Mean in flight", &per_second(summary.mean_in_flight, "requests"), out)
}

fn latencies(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let (summary, latency) = (&report.summary, &report.summary.latency);
    let rate = success(report);
    writeln!(out)?;
    line(&format!("Latency in ms, of the successful requests ({rate} of all); {}", report.plan.load), out)?;
    let names = statistics().map(|(name, _)| name.to_owned());
    let mut table = table(["".to_owned(), "n".to_owned()].into_iter().chain(names));
    let is_open = report.plan.load.is_open();
    if is_open {
        writeln!(
            out,
            "  response times count from when a request was due, the others from when it was sent"
        )?;
    }
    let rows = [
        ("response E2E", latency.response_e2e.as_ref().filter(|_| is_open)),
        ("response TTFT", latency.response_ttft.as_ref().filter(|_| is_open)),
        ("lag", latency.lag.as_ref().filter(|_| is_open)),
        ("E2E", latency.e2e.as_ref()),
        ("TTFT", latency.ttft.as_ref()),
        ("TPOT", latency.tpot.as_ref()),
        ("ITL", latency.itl.as_ref()),
        ("connect", latency.connect.as_ref()),
        ("of it TLS", latency.tls.as_ref()),
    ];
    for (name, distribution) in rows {
        // connecting may be done before the measurement; without streams there are no tokens to time
        let is_optional = ["connect", "of it TLS", "lag"].contains(&name) || name.starts_with("response");
        if distribution.is_none() && (is_optional || (name != "E2E" && !report.plan.request.streams())) {
            continue;
        }
        let figures = statistics().map(|(_, of)| match distribution {
            Some(d) => significant(of(d)),
            None => UNKNOWN.to_owned(),
        });
        let count = count(distribution.map(|d| d.count));
        table.add_row([name.to_owned(), count].into_iter().chain(figures));
    }
    print_table(table, out)?;
    let late = late_lines(report);
    if !late.is_empty() {
        writeln!(out, "  {LATE}:")?;
    }
    late.iter().try_for_each(|told| line(&format!("    {told}"), out))?;
    failures_as_endless(summary, is_open, out)
}

/// Percentiles of the successful alone flatter a server that fails under load.
fn failures_as_endless(summary: &Summary, is_open: bool, out: &mut dyn Write) -> io::Result<()> {
    let latency = &summary.latency;
    let (e2e, ttft) = match is_open {
        true => (&latency.adj_response_e2e, &latency.adj_response_ttft),
        false => (&latency.adj_e2e, &latency.adj_ttft),
    };
    if summary.requests.failed == 0 {
        return Ok(());
    }
    let prefix = if is_open { "response " } else { "" };
    let told = [("E2E", e2e), ("TTFT", ttft)].into_iter().filter_map(|(name, adjusted)| {
        let adjusted = adjusted.as_ref()?;
        let shown = |value: Option<f64>| value.map_or("∞".to_owned(), significant);
        Some(format!("{prefix}{name} p50 {}, p99 {}", shown(adjusted.p50), shown(adjusted.p99)))
    });
    let told = told.collect::<Vec<_>>().join("; ");
    writeln!(out, "  with each failure taken as endless: {told}")
}

/// How much of the times a calibration found to be the client's.
fn client_share(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Some(calibration) = &report.calibration else { return Ok(()) };
    let (latency, accuracy) = (&report.summary.latency, &calibration.accuracy);
    writeln!(out, "\nClient's own share, by a replay against a simulated server of this server's pace")?;
    let shares = [
        ("TTFT", &latency.ttft, accuracy.ttft),
        ("ITL", &latency.itl, accuracy.itl),
        ("E2E", &latency.e2e, accuracy.e2e),
    ];
    for (name, times, errors) in shares {
        // without streams there are no tokens to time
        if errors.is_none() && name != "E2E" {
            continue;
        }
        let p99 = number(times.as_ref().map(|d| d.percentiles.p99));
        let share = errors.map_or(UNKNOWN.to_owned(), |errors| show_fine_ms(errors.p99));
        row(name, &format!("p99 {p99} ms, of which client ≤ {share} ms"), out)?;
    }
    let replay = &calibration.replay;
    let requests = show_counted(accuracy.matched, "request");
    let tokens = show_counted(replay.tokens, "token");
    let pace =
        format!("{} to the first, {} to the next", show_duration(replay.ttft), show_duration(replay.gap));
    row("Replayed", &format!("{requests} of {tokens}, {pace}: {}", replay.load), out)?;
    let gap_ms = replay.gap.as_secs_f64() * 1e3;
    if let Some(late) = calibration.server_late.filter(|late| gap_ms > 0.0 && late.p99 > gap_ms) {
        let p99 = significant(late.p99);
        let said = "this machine cannot carry both sides at that pace";
        row("", &format!("the simulated server was late itself (p99 {p99} ms): {said}"), out)?;
    }
    if replay.failed > 0 {
        row("", &format!("{} more failed and are left out", show_counted(replay.failed, "request")), out)?;
    }
    if report.plan.server.endpoint.is_tls() {
        row("", "the replay was without TLS", out)?;
    }
    easier_replay(report).map_or(Ok(()), |told| row("", &told, out))
}

fn errors(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    if summary.errors.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nErrors")?;
    for error in &summary.errors {
        let count = show_count(error.count);
        let group = serde_json::to_value(error.group)?;
        let group = group.as_str().unwrap_or_default();
        line(&format!("  {count:>7} × {} ({group} group): {}", error.kind, error.meaning), out)?;
        let times = format!("from {} to {} s", significant(error.first_s), significant(error.last_s));
        let example = printable(&error.example, 200);
        line(&format!("            {times}; e.g. request {}: {example}", error.first_request), out)?;
        if let Some(RetryAfter { min, max }) = error.retry_after_s {
            let seconds = if min == max { min.to_string() } else { format!("{min} to {max}") };
            writeln!(out, "            server says: retry after {seconds} s; nothing is sent again")?;
        }
    }
    Ok(())
}

fn server(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let timings = &report.summary.server_timings;
    if report.server.is_none() && timings.is_empty() {
        return Ok(());
    }
    let warmed = if report.summary.requests.warmup > 0 { ", the warm-up included" } else { "" };
    writeln!(out, "\nServer's own account{warmed}")?;
    if let Some(side) = &report.server {
        let window = &side.window;
        let finished = count(window.requests_finished);
        let tokens = format!("{} in, {} out", count(window.prompt_tokens), count(window.generation_tokens));
        row("Requests, tokens", &format!("{finished} finished; {tokens}"), out)?;
        let means = [
            ("TTFT", &window.ttft_s),
            ("ITL", &window.itl_s),
            ("E2E", &window.e2e_s),
            ("queue", &window.queue_s),
        ];
        let shown = means.iter().filter_map(|(name, delta)| {
            let mean_s = delta.as_ref()?.mean_s?;
            Some(format!("{name} {}", significant(mean_s * 1e3)))
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        if !shown.is_empty() {
            row("Means in ms", &shown, out)?;
        }
        if let Some(gauges) = &side.gauges {
            let most = |spread: Option<crate::observe::Spread>| {
                spread.map_or(UNKNOWN.to_owned(), |s| show_count(s.max.max(0.0) as u64))
            };
            let cache = share(gauges.kv_cache_usage.map(|s| s.max));
            let (running, waiting) = (most(gauges.running), most(gauges.waiting));
            row(
                "At most",
                &format!("{running} running, {waiting} waiting, {cache} of the key-value cache"),
                out,
            )?;
        }
    }
    for (name, distribution) in timings {
        let p = distribution.percentiles;
        let figures = format!("p50 {}  p99 {}", significant(p.p50), significant(p.p99));
        row(&printable(name, 60), &figures, out)?;
    }
    Ok(())
}

fn client(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let health = &report.health;
    let mut parts = Vec::new();
    if let Some((user, system)) = health.cpu_user_s.zip(health.cpu_system_s) {
        let share = health.cpu_share.map(|s| format!(", {} of its cores", show_share(s))).unwrap_or_default();
        parts.push(format!("CPU {} s{share}", significant(user + system)));
    }
    parts.extend(health.peak_rss_bytes.map(|b| format!("peak memory {} MB", significant(b as f64 / 1e6))));
    let raised = health.client_priority.as_ref().map_or(0, |granted| granted.raised_threads);
    if raised > 0 {
        parts.push(format!("{} ran before others", show_counted(raised, "thread")));
    }
    let connections = &report.summary.connections;
    parts.push(format!(
        "{} for {}",
        show_counted(connections.opened, "new connection"),
        show_counted(report.summary.requests.sent, "request")
    ));
    if connections.stale_retries > 0 {
        parts.push(format!(
            "{} sent again after a stale connection",
            show_counted(connections.stale_retries, "request")
        ));
    }
    writeln!(out)?;
    row("Client", &parts.join("; "), out)?;
    let has_address = report.plan.server.network.unix_socket.is_none();
    row("Clock", &stamps(&report.summary, has_address), out)?;
    lateness(report).map_or(Ok(()), |told| row("", &told, out))?;
    report.health.keeper.as_ref().map_or(Ok(()), |keeper| row("Keeper", &kept(keeper), out))?;
    match stood_still(&report.health.standstills) {
        Some(times) => row("Stood still", &times, out),
        None => Ok(()),
    }
}

/// Whether each segment was seen.
fn kept(keeper: &keeper::Account) -> String {
    let Sighted { packets, lost, .. } = keeper.sighted;
    match (&keeper.why_not, lost) {
        (Some(why), _) => format!("off, so segments that waited for a late read are not told apart: {why}"),
        (None, 0) => format!("saw {} as they came in", show_counted(packets, "segment")),
        (None, lost) => {
            format!(
                "saw {} as they came in; {} had no room",
                show_counted(packets, "segment"),
                show_count(lost)
            )
        }
    }
}

/// How often this client stood still, and for how long; `None` if it never did.
fn stood_still(standstills: &[StoodStill]) -> Option<String> {
    let longest = standstills.iter().map(|one| one.seconds).fold(0.0, f64::max);
    let all: f64 = standstills.iter().map(|one| one.seconds).sum();
    let (times, longest) = (show_counted(standstills.len() as u64, "time"), significant(longest * 1e3));
    let all = significant(all);
    (!standstills.is_empty())
        .then(|| format!("this client did not run {times}, {all} s in all, {longest} ms at most"))
}

/// Whose moments the times are made of, and how late this client was itself.
fn stamps(summary: &Summary, has_address: bool) -> String {
    if summary.requests.sent == 0 {
        return UNKNOWN.to_owned();
    }
    let latency = &summary.latency;
    let Some(share) = latency.kernel_stamped_share else { return "no reply was read".to_owned() };
    let Some(delay) = &latency.read_delay else {
        let why = if has_address { "the system gives no" } else { "a Unix socket has no" };
        return format!("times are of this process's reads: {why} receive timestamps");
    };
    let late = format!(
        "this client read p50 {}, p99 {}, max {} ms later",
        significant(delay.median),
        significant(delay.percentiles.p99),
        significant(delay.max)
    );
    format!("{} of the reads stamped by the kernel; {late}", show_share(share))
}
