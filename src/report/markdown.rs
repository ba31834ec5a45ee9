//! One or more runs as compact tables in GitHub's Markdown, for pull requests and job summaries.

use std::io::{self, Write};

use super::Report;
use super::limits::{LimitColumns, best_point, sweep};
use super::naming::{headline_e2e, headline_ttft, headline_words, is_open, run_names};
use super::words::{
    LATE, UNKNOWN, goodput, late_lines, load, number, prefix_cache, success, threshold_lines,
    thresholds_in_short,
};
use crate::analysis::{Headline, Outcome};
use crate::health::Verdict;
use crate::plan::{SuiteKind, shown_labels};
use crate::summary::Distribution;
use crate::text::printable;
use crate::units::{show_count, show_counted, show_share, significant};

/// Writes the tables. `files` are the files that the reports were read from; empty where they are of runs just made.
///
/// # Errors
/// Those of the writer.
pub fn write_markdown(
    kind: SuiteKind,
    reports: &[Report],
    files: &[String],
    out: &mut dyn Write,
) -> io::Result<()> {
    match reports {
        [] => writeln!(out, "### vllm-loadgen\n\nNo run was made."),
        [one] => write_one(one, out),
        several => write_several(kind, several, &run_names(kind, several, files), out),
    }
}

fn write_one(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "### vllm-loadgen: {}\n", code(&report.plan.request.model))?;
    writeln!(out, "{}  \n{}\n", verdicts(report), load(report))?;
    reasons(report, out)?;
    let (summary, rates) = (&report.summary, &report.summary.throughput);
    table(&["success", "requests", "completions/s", "output tokens/s", "in flight", "duration"], out)?;
    row(
        &[
            success(report),
            show_count(summary.requests.sent),
            number(rates.requests_per_s),
            number(rates.output_tokens_per_s),
            number(summary.mean_in_flight),
            summary.duration_s.map_or(UNKNOWN.to_owned(), |s| format!("{} s", significant(s))),
        ],
        out,
    )?;
    writeln!(out)?;
    if let Some(told) = prefix_cache(report) {
        writeln!(out, "{told}.\n")?;
    }
    times(report, out)?;
    errors(report, out)?;
    manifest(report, out)
}

fn write_several(
    kind: SuiteKind,
    reports: &[Report],
    names: &[String],
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "### vllm-loadgen: {} runs side by side\n", reports.len())?;
    let mut head = vec!["run", "client", "success", "completions/s", "output tokens/s"];
    head.extend(["E2E p50", "E2E p99", "TTFT p50", "TTFT p99", "ITL p50", "ITL p99"]);
    let limits = LimitColumns::of(reports);
    head.extend(limits.heads());
    let is_labelled = reports.iter().any(|report| !report.plan.labels.is_empty());
    if is_labelled {
        head.push("labels");
    }
    table(&head, out)?;
    for (report, name) in reports.iter().zip(names) {
        let rates = &report.summary.throughput;
        let mut cells = vec![
            code(name),
            report.health.verdict.name().to_owned(),
            success(report),
            number(rates.requests_per_s),
            number(rates.output_tokens_per_s),
        ];
        let itl = report.summary.latency.itl.as_ref();
        for distribution in [headline_e2e(report), headline_ttft(report), itl] {
            cells.push(number(distribution.map(|d| d.median)));
            cells.push(number(distribution.map(|d| d.percentiles.p99)));
        }
        cells.extend(limits.cells(report));
        if is_labelled {
            cells.push(code(&shown_labels(&report.plan.labels)));
        }
        row(&cells, out)?;
    }
    let opens = reports.iter().filter(|report| is_open(report)).count();
    let words = match opens {
        0 => "from when a request was sent",
        n if n == reports.len() => "from when a request was due",
        _ => "from when a request was due in open loops, from when it was sent in closed ones",
    };
    writeln!(out, "\nTimes in ms of successful requests; E2E and TTFT {words}.\n")?;
    let best = best_point(&sweep(kind, reports), |best| format!("**{}**", code(&names[best])));
    if !best.is_empty() {
        writeln!(out, "{}.\n", best[..best.len() - 1].join(". "))?;
    }
    let simulated = reports.iter().zip(names).filter(|(report, _)| report.plan.simulated.is_some());
    let simulated: Vec<_> = simulated.map(|(_, name)| code(name)).collect();
    if !simulated.is_empty() {
        writeln!(
            out,
            "⚠️ simulated server, whose figures say nothing of a real one: {}\n",
            simulated.join(", ")
        )?;
    }
    for (report, name) in reports.iter().zip(names) {
        if !is_clean(report) {
            writeln!(out, "**{}**: {}\n", code(name), verdicts(report))?;
            reasons(report, out)?;
            errors(report, out)?;
        }
    }
    Ok(())
}

/// Whether there is nothing to say of the run but its figures.
fn is_clean(report: &Report) -> bool {
    report.health.verdict == Verdict::Valid
        && report.complete
        && report.summary.errors.is_empty()
        && report.warnings.is_empty()
        && !report.breaks_threshold(true)
        && report.headlines().is_empty()
}

fn verdicts(report: &Report) -> String {
    let (verdict, requests) = (report.health.verdict, &report.summary.requests);
    let mark = |good: bool| if good { "✅" } else { "⚠️" };
    let client = format!("{} client {}", mark(verdict == Verdict::Valid), verdict.name());
    let errors = match (requests.succeeded, requests.failed) {
        (0, 0) if requests.sent == 0 => "❌ no request was sent".to_owned(),
        (0, failed) => format!("❌ no request succeeded, {} failed", show_count(failed)),
        (_, 0) => "✅ no request failed".to_owned(),
        (_, failed) => format!("⚠️ {} failed", show_counted(failed, "request")),
    };
    let end = match (report.complete, &report.stopped_by) {
        (true, _) => "✅ complete".to_owned(),
        (false, Some(limit)) => format!("❌ ended early: {}", code(limit)),
        (false, None) => "❌ incomplete: ended before its planned end".to_owned(),
    };
    let thresholds = thresholds_in_short(report).map_or(String::new(), |(worst, words)| {
        let mark = match worst {
            Outcome::Passed => "✅",
            Outcome::Inconclusive => "⚠️",
            Outcome::Failed => "❌",
        };
        format!(" · {mark} {}", words.to_lowercase())
    });
    let simulated = if report.plan.simulated.is_some() { " · ⚠️ simulated server" } else { "" };
    format!("{client} · {errors} · {end}{thresholds}{simulated}")
}

fn reasons(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let headlines = report.headlines();
    for Headline { word, why } in &headlines {
        writeln!(out, "- **{word}**: {}", plain(why, 400))?;
    }
    let goodput = goodput(report).map(|words| format!("goodput {words}"));
    let thresholds = threshold_lines(report).chain(goodput).map(|line| code(&line));
    let reasons = report.health.reasons.iter().chain(&report.warnings);
    let mut reasons = reasons.map(|reason| plain(reason, 400)).chain(thresholds).peekable();
    let is_some = !headlines.is_empty() || reasons.peek().is_some();
    reasons.try_for_each(|reason| writeln!(out, "- {reason}"))?;
    if is_some { writeln!(out) } else { Ok(()) }
}

fn times(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let latency = &report.summary.latency;
    let rows = [
        ("E2E", headline_e2e(report)),
        ("TTFT", headline_ttft(report)),
        ("TPOT", latency.tpot.as_ref()),
        ("ITL", latency.itl.as_ref()),
    ];
    let known: Vec<(&str, &Distribution)> =
        rows.into_iter().filter_map(|(name, d)| Some((name, d?))).collect();
    if known.is_empty() {
        return Ok(());
    }
    table(&["ms", "n", "mean", "p50", "p90", "p99", "max"], out)?;
    for (name, d) in known {
        let figures = [d.mean, d.median, d.percentiles.p90, d.percentiles.p99, d.max].map(significant);
        let cells: Vec<_> = [name.to_owned(), show_count(d.count)].into_iter().chain(figures).collect();
        row(&cells, out)?;
    }
    writeln!(out, "\nE2E and TTFT are {}.\n", headline_words(report))?;
    let late = late_lines(report);
    if late.is_empty() {
        return Ok(());
    }
    writeln!(out, "⚠️ {LATE}:\n")?;
    late.iter().try_for_each(|told| writeln!(out, "- {told}"))?;
    writeln!(out)
}

fn errors(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.summary.errors.is_empty() {
        return Ok(());
    }
    table(&["failed with", "count", "share", "first of them"], out)?;
    // what never left is among them too
    let requests = &report.summary.requests;
    let all = requests.sent.saturating_add(requests.not_sent).max(1) as f64;
    for line in &report.summary.errors {
        let share = line.count as f64 / all;
        row(&[code(&line.kind), show_count(line.count), show_share(share), code(&line.example)], out)?;
    }
    writeln!(out)
}

fn manifest(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let (tool, plan) = (&report.tool, &report.plan);
    let schedule = report.schedule.as_ref().map(|s| format!(", schedule {}", code(&s.hash)));
    let labels = (!plan.labels.is_empty()).then(|| format!(" · {}", code(&shown_labels(&plan.labels))));
    writeln!(
        out,
        "<sub>{} {} · {} · started {} · plan {}{} · seed {}{}</sub>",
        code(&tool.name),
        code(&tool.version),
        code(&plan.server.endpoint.shown()),
        code(&report.started),
        code(&plan.hash),
        schedule.unwrap_or_default(),
        plan.seed,
        labels.unwrap_or_default()
    )
}

/// The head of a table, its first column to the left, the others to the right.
pub(super) fn table(head: &[&str], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "| {} |\n|:--{}|", head.join(" | "), "|--:".repeat(head.len().saturating_sub(1)))
}

pub(super) fn row(cells: &[String], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "| {} |", cells.join(" | "))
}

/// Text from strangers as code, on one line: nothing in it is a link, a mention, markup or the end of a cell.
pub(super) fn code(text: &str) -> String {
    // a bar ends a cell even within code, unless it has one backslash before it
    let text = printable(text, 200).replace("\\|", "\\ |").replace('|', "\\|");
    if text.is_empty() {
        return UNKNOWN.to_owned();
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    let blank = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{blank}{text}{blank}{fence}")
}

/// Our own sentences, in which a stranger's words may be quoted, on one line of at most so many characters: no markup.
pub(super) fn plain(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in printable(text, max).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // no mention
            '@' => out.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_words_are_code_and_end_neither_it_nor_the_cell() {
        assert_eq!(code("<b>@all [x](y) | *z*"), "`<b>@all [x](y) \\| *z*`");
        assert_eq!(code("a ``b`` c"), "```a ``b`` c```");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code("a\\|b"), "`a\\ \\|b`");
        assert_eq!(code("two\nlines"), "`two lines`");
        assert_eq!(code(""), UNKNOWN);
    }

    #[test]
    fn sentences_are_no_markup() {
        assert_eq!(
            plain("a <b> @c & [d](e) _f_ `g` | #1\n2", 400),
            "a &lt;b&gt; &#64;c &amp; \\[d\\](e) \\_f\\_ \\`g\\` \\| \\#1 2"
        );
    }
}
