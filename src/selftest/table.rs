//! The self-test for people: a column for each number of streams, and a line for what each column says.

use std::io::{self, Write};

use super::{Ends, Findings, Found, Row};
use crate::accuracy::Spread;
use crate::report::{self, UNKNOWN};
use crate::text::printable;
use crate::units::{show_count, show_counted, show_fine_ms, significant};

/// One figure of a column.
type Figure = (&'static str, fn(&Row, &Found) -> Option<String>);

/// The lines of the table.
const FIGURES: [Figure; 20] = [
    ("requests", |_, found| Some(show_count(found.accuracy.matched))),
    ("tokens", |_, found| Some(show_count(found.output_tokens))),
    ("time between tokens, ms", |row, _| Some(significant(row.trial.gap.as_secs_f64() * 1e3))),
    ("TTFT error, ms: p50", |_, found| figure(found.accuracy.ttft, |s| s.p50)),
    ("p99", |_, found| figure(found.accuracy.ttft, |s| s.p99)),
    ("max", |_, found| figure(found.accuracy.ttft, |s| s.max)),
    ("ITL error, ms: p50", |_, found| figure(found.accuracy.itl, |s| s.p50)),
    ("p99", |_, found| figure(found.accuracy.itl, |s| s.p99)),
    ("max", |_, found| figure(found.accuracy.itl, |s| s.max)),
    ("E2E error, ms: p50", |_, found| figure(found.accuracy.e2e, |s| s.p50)),
    ("p99", |_, found| figure(found.accuracy.e2e, |s| s.p99)),
    ("max", |_, found| figure(found.accuracy.e2e, |s| s.max)),
    ("CPU of the client, µs/token", |_, found| found.cpu_us_per_token.map(significant)),
    ("peak memory of the client, MB", |_, found| {
        found.peak_rss_bytes.map(|bytes| significant(bytes as f64 / 1e6))
    }),
    ("client's own verdict", |_, found| Some(printable(&found.client_verdict, 10))),
    ("server late, ms: p50", |_, found| figure(found.server_late, |s| s.p50)),
    ("p99", |_, found| figure(found.server_late, |s| s.p99)),
    ("max", |_, found| figure(found.server_late, |s| s.max)),
    ("requests outside of the ends reported", |_, found| Some(show_count(found.accuracy.outside))),
    ("requests or tokens that do not match", |_, found| {
        Some(show_count(found.accuracy.unmatched + found.accuracy.miscounted))
    }),
];

fn figure(spread: Option<Spread>, of: fn(&Spread) -> f64) -> Option<String> {
    spread.map(|spread| show_fine_ms(of(&spread)))
}

/// Writes all that was found.
///
/// # Errors
/// Those of the writer.
pub fn print(findings: &Findings, out: &mut dyn Write) -> io::Result<()> {
    let here = &findings.environment;
    let kernel = here.kernel.as_deref().map(|kernel| format!(", kernel {}", printable(kernel, 60)));
    let cores = here.cores.map(|cores| format!(", {}", show_counted(cores as u64, "core")));
    let load = findings.load_average.map(|load| format!(", load average {load:.2} before it began"));
    writeln!(out, "vllm-loadgen {} self-test, {}", findings.tool.version, findings.started)?;
    let parts = [kernel, cores, load].into_iter().flatten().collect::<String>();
    writeln!(out, "{}{parts}", printable(&here.platform, 60))?;
    writeln!(
        out,
        "\nError is what the client reported minus what the simulated server did, on the way over loopback"
    )?;
    writeln!(out, "included; p50 has a sign, p99 and max are sizes. Each column is a process of its own.\n")?;
    let made: Vec<_> = findings.rows.iter().filter_map(|row| Some((row, row.found.as_ref()?))).collect();
    if !made.is_empty() {
        table(&made, out)?;
        writeln!(out)?;
    }
    findings.rows.iter().flat_map(remarks).try_for_each(|remark| writeln!(out, "{remark}"))?;
    fell_behind(&made).map_or(Ok(()), |remark| writeln!(out, "{remark}"))
}

fn table(made: &[(&Row, &Found)], out: &mut dyn Write) -> io::Result<()> {
    let streams = made.iter().map(|(row, _)| show_count(row.trial.streams.get() as u64));
    let mut table = report::table(["streams".to_owned()].into_iter().chain(streams));
    for (name, of) in FIGURES {
        let cells = made.iter().map(|(row, found)| of(row, found).unwrap_or_else(|| UNKNOWN.to_owned()));
        table.add_row([name.to_owned()].into_iter().chain(cells));
    }
    for (figure, percentile) in PERCENTILES {
        let of = |found: &Found| {
            found.ends.iter().find(|ends| (ends.figure, ends.percentile) == (figure, percentile)).cloned()
        };
        let cells = |show: fn(&Ends) -> String| {
            let shown = move |found: &Found| of(found).map_or_else(|| UNKNOWN.to_owned(), |ends| show(&ends));
            made.iter().map(move |(_, found)| shown(found))
        };
        let name = format!("{} {percentile}, ms: true", figure.to_uppercase());
        table.add_row([name].into_iter().chain(cells(|ends| show_fine_ms(ends.true_ms))));
        table.add_row(["reported".to_owned()].into_iter().chain(cells(reported)));
    }
    // the percentiles of a quantity stand under its first
    report::print_table_to_the_right(table, out)
}

/// The percentiles that are held to the truth.
const PERCENTILES: [(&str, &str); 6] =
    [("ttft", "p50"), ("ttft", "p99"), ("itl", "p50"), ("itl", "p99"), ("e2e", "p50"), ("e2e", "p99")];

/// One end where both are the same.
fn reported(ends: &Ends) -> String {
    let (low, high) = (show_fine_ms(ends.low_ms), show_fine_ms(ends.high_ms));
    if low == high { high } else { format!("{low} to {high}") }
}

/// What a row says in words.
fn remarks(row: &Row) -> Vec<String> {
    let name = show_counted(row.trial.streams.get() as u64, "stream");
    let mut remarks = Vec::new();
    if let Some(found) = &row.found {
        remarks.extend(goal(found).map(|said| format!("{name}: {said}")));
        remarks.extend(
            found.ends.iter().filter(|ends| !ends.holds).map(|ends| format!("{name}: {}", missed(ends))),
        );
    }
    if let Some(problem) = &row.problem {
        let what = if row.found.is_some() { "not as planned" } else { "not run" };
        remarks.push(format!("{name}: {what}: {}", printable(problem, 400)));
    }
    remarks
}

/// Where the truth does not lie between the ends that were reported.
fn missed(ends: &Ends) -> String {
    let figure = ends.figure.to_uppercase();
    format!(
        "{figure} {} was {} ms and reported as {} ms",
        ends.percentile,
        show_fine_ms(ends.true_ms),
        reported(ends)
    )
}

/// Where the server itself was later than the next token was due.
fn fell_behind(made: &[(&Row, &Found)]) -> Option<String> {
    let is_late = |(row, found): &&(&Row, &Found)| {
        found.server_late.is_some_and(|late| late.p99 > row.trial.gap.as_secs_f64() * 1e3)
    };
    let streams = |(row, _): &(&Row, &Found)| show_count(row.trial.streams.get() as u64);
    let late: Vec<String> = made.iter().filter(is_late).map(streams).collect();
    (!late.is_empty()).then(|| {
        format!(
            "The simulated server itself was late by more than the time between two tokens (p99) at streams {}: this \
             machine cannot carry both sides at that pace, or has other work; try a longer --gap",
            late.join("; ")
        )
    })
}

fn goal(found: &Found) -> Option<String> {
    let error = found.accuracy.ttft?;
    let (p99, requests) = (show_fine_ms(error.p99), show_counted(error.count, "request"));
    let shown = format!("TTFT error p99 {p99} ms over {requests}");
    Some(match found.ttft_goal_ms.zip(found.ttft_goal_met) {
        Some((goal, true)) => format!("{shown}, within the goal of {goal} ms"),
        Some((goal, false)) => format!("{shown}, above the goal of {goal} ms"),
        None => format!("{shown}; no goal is set for so many"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Environment;
    use crate::report::Tool;
    use crate::selftest::{SCHEMA, Settings};

    fn spread(ms: f64) -> Option<Spread> {
        Some(Spread { count: 3, p50: -ms, p99: ms, max: 2.0 * ms })
    }

    fn found(ttft_ms: f64) -> Found {
        Found {
            accuracy: crate::accuracy::Accuracy {
                matched: 22,
                ttft: spread(ttft_ms),
                ..crate::accuracy::Accuracy::default()
            },
            output_tokens: 704,
            cpu_us_per_token: Some(21.25),
            peak_rss_bytes: None,
            ends: vec![Ends {
                figure: "ttft",
                percentile: "p99",
                true_ms: 50.0,
                low_ms: 60.0,
                high_ms: 350.0,
                holds: false,
            }],
            server_late: spread(30.0),
            client_verdict: "VALID".to_owned(),
            ttft_goal_ms: Some(0.2),
            ttft_goal_met: Some(ttft_ms <= 0.2),
        }
    }

    fn printed(found: Option<Found>, problem: Option<&str>) -> String {
        let trial = Settings::default().trials()[1];
        let findings = Findings {
            schema: SCHEMA,
            tool: Tool::THIS,
            started: "2026-11-24T13:00:00.000Z".to_owned(),
            environment: Environment::here(),
            load_average: Some(0.5),
            rows: vec![Row { trial, found, problem: problem.map(str::to_owned) }],
        };
        let mut out = Vec::new();
        print(&findings, &mut out).expect("memory takes it");
        String::from_utf8(out).expect("UTF-8")
    }

    fn line<'a>(text: &'a str, beginning: &str) -> Vec<&'a str> {
        let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix(beginning));
        line.unwrap_or_else(|| panic!("no line '{beginning}' in {text}")).split_whitespace().collect()
    }

    #[test]
    fn a_column_has_its_figures_and_a_dash_where_one_is_unknown() {
        let text = printed(Some(found(0.15)), None);
        assert_eq!(line(&text, "streams"), ["20"]);
        assert_eq!(line(&text, "tokens"), ["704"]);
        assert_eq!(line(&text, "TTFT error, ms: p50"), ["-0.150"]);
        assert_eq!(line(&text, "ITL error, ms: p50"), [UNKNOWN]);
        assert_eq!(line(&text, "TTFT p99, ms: true"), ["50.0"]);
        assert!(text.contains("20 streams: TTFT p99 was 50.0 ms and reported as 60.0 to 350 ms"), "{text}");
        assert_eq!(line(&text, "CPU of the client, µs/token"), ["21.2"]);
        assert_eq!(line(&text, "peak memory of the client, MB"), [UNKNOWN]);
        assert!(
            text.contains("20 streams: TTFT error p99 0.150 ms over 3 requests, within the goal of 0.2 ms\n"),
            "{text}"
        );
        assert!(
            text.contains("late by more than the time between two tokens (p99) at streams 20:"),
            "{text}"
        );
    }

    #[test]
    fn a_goal_that_is_missed_is_said() {
        let text = printed(Some(found(0.25)), None);
        assert!(text.contains("TTFT error p99 0.250 ms over 3 requests, above the goal of 0.2 ms"), "{text}");
    }

    #[test]
    fn a_run_that_could_not_be_made_says_why_and_has_no_column() {
        let text = printed(None, Some("the limit on open files is 64"));
        assert!(text.contains("20 streams: not run: the limit on open files is 64\n"), "{text}");
        assert!(!text.contains("CPU of the client"), "{text}");
    }
}
