//! Reports again from what was saved: results as JSON, and record logs, of which the figures are computed anew.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::clock::{Date, Moment};
use crate::error::Error;
use crate::health::{Evidence, Health, Machine, Verdict};
use crate::record::{Record, Sink};
use crate::report::{LOG_SCHEMA, LogEnd, LogHead, LogLine, MOST_LOST, Report, SCHEMA};
use crate::summary::Tally;
use crate::units::show_duration;

/// Reads the file of a result or a record log, as [`read`] does.
///
/// # Errors
/// [`Error::File`] when the file cannot be read or is neither of the two.
pub fn report(path: &Path, sinks: &mut [&mut dyn Sink]) -> Result<Report, Error> {
    let file = File::open(path).map(BufReader::new);
    file.and_then(|file| read(file, sinks)).map_err(|cause| {
        let is_of_several = cause.get_ref().is_some_and(|inner| inner.is::<SeveralRuns>());
        let advice = match cause.kind() {
            _ if is_of_several => {
                "; name the log of each run by itself: `report`, `trend` and `compare` take several files"
            }
            io::ErrorKind::InvalidData => "; name a result or a record log of this version of vllm-loadgen",
            _ => "",
        };
        Error::File { path: path.to_owned(), cause, advice }
    })
}

/// The results and record logs that a path names: itself, or in a folder all files whose names end in `.json`, `.jsonl` or
/// `.jsonl.gz`, in order of their names. A log beside a result of its name is left out, for it is of the same run.
///
/// # Errors
/// [`Error::File`] when a folder cannot be read.
pub fn results_in(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let fail =
        |cause| Error::File { path: path.to_owned(), cause, advice: "; name a folder that can be read" };
    let entries = std::fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut found: Vec<PathBuf> = entries.map_err(fail)?.into_iter().map(|entry| entry.path()).collect();
    found.retain(|file| {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let log = name.strip_suffix(".gz").unwrap_or(&name).strip_suffix(".jsonl");
        let has_result = log.is_some_and(|stem| path.join(format!("{stem}.json")).is_file());
        file.is_file() && (name.ends_with(".json") || log.is_some()) && !has_result
    });
    found.sort();
    Ok(found)
}

/// Reads a result or a record log, compressed or not. Of a log, `sinks` get every record.
///
/// A log that was cut off gives a report that says so. Lines that cannot be read, such as a last one of which only a part
/// was written, are skipped, and counted in the report's warnings.
///
/// # Errors
/// Those of the reader, and [`io::ErrorKind::InvalidData`] when it is neither of the two.
pub fn read(mut text: impl BufRead, sinks: &mut [&mut dyn Sink]) -> io::Result<Report> {
    if text.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        read_text(BufReader::new(UntilBroken(MultiGzDecoder::new(text))), sinks)
    } else {
        read_text(text, sinks)
    }
}

fn read_text(mut text: impl BufRead, sinks: &mut [&mut dyn Sink]) -> io::Result<Report> {
    let begin = text.fill_buf()?;
    if !begin.trim_ascii_start().starts_with(b"{") {
        // neither, and may have no end
        let what = if begin.is_empty() { "it is empty" } else { "it does not begin with {, as JSON does" };
        return Err(invalid(what));
    }
    let mut first = Vec::new();
    read_line(&mut text, &mut first, LONGEST_LINE)?;
    if let Ok(head) = serde_json::from_slice::<LogHead>(&first) {
        return match head.record_log {
            LOG_SCHEMA => from_log(head, text, sinks),
            other => {
                Err(invalid(format!("a record log of form {other}; this version reads form {LOG_SCHEMA}")))
            }
        };
    }
    let report: Report = serde_json::from_reader(first.chain(text)).map_err(invalid)?;
    match report.schema {
        SCHEMA => Ok(Report { plan: report.plan.hashed(), ..report }),
        other => Err(invalid(format!("a result of form {other}; this version reads form {SCHEMA}"))),
    }
}

/// Longest line of a log, and of a result that is all in one line.
const LONGEST_LINE: u64 = 256 << 20;

/// The next line, its end with it, of at most so many bytes; nothing at the end.
fn read_line(text: &mut impl BufRead, line: &mut Vec<u8>, longest: u64) -> io::Result<()> {
    line.clear();
    let read = text.take(longest).read_until(b'\n', line)?;
    if read as u64 == longest && !line.ends_with(b"\n") {
        return Err(invalid(format!("a line of it is longer than {} MiB", longest >> 20)));
    }
    Ok(())
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What was put together from more than one record log, or holds a record twice: its rates would be of no run.
#[derive(Debug)]
struct SeveralRuns(String);

impl fmt::Display for SeveralRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SeveralRuns {}

/// The numbers of requests that were read, in little memory where they come about in order.
#[derive(Default)]
struct Numbers {
    /// All below this were there.
    below: u64,
    above: BTreeSet<u64>,
}

impl Numbers {
    /// Notes a number; whether it is new.
    fn add(&mut self, number: u64) -> bool {
        let is_new = number >= self.below && self.above.insert(number);
        while self.above.remove(&self.below) {
            self.below += 1;
        }
        is_new
    }
}

/// Ends where the compressed bytes do, even if that is in the middle.
struct UntilBroken<R>(R);

impl<R: Read> Read for UntilBroken<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        }
    }
}

/// The report that the lines after the first come to.
fn from_log(head: LogHead, mut lines: impl BufRead, sinks: &mut [&mut dyn Sink]) -> io::Result<Report> {
    let mut tally = Tally::new(head.plan.load.full()).with_slos(&head.plan.slos);
    let mut log_end = None;
    let mut last = head.began;
    let mut unread = 0_u64;
    let mut line = Vec::new();
    let mut numbers = Numbers::default();
    for place in 2_u64.. {
        read_line(&mut lines, &mut line, LONGEST_LINE)?;
        if line.is_empty() {
            break;
        }
        let refused = |what: String| Err(invalid(SeveralRuns(what)));
        match serde_json::from_slice(&line) {
            Ok(LogLine::End(end)) => log_end = Some(*end),
            Ok(LogLine::Record(logged)) => match Record::try_from(*logged) {
                Ok(record) if !numbers.add(record.id) => {
                    let id = record.id;
                    return refused(format!("request {id} is there twice, in line {place} again"));
                }
                Ok(record) => {
                    last = last.max(record.moments.end);
                    tally.record(&record);
                    sinks.iter_mut().for_each(|sink| sink.record(&record));
                }
                Err(_) => unread += 1,
            },
            Err(_) if serde_json::from_slice::<LogHead>(&line).is_ok() => {
                return refused(format!("it holds several runs, another begins in line {place}"));
            }
            Err(_) => unread += 1,
        }
    }
    let mut summary = tally.into_summary();
    let mut end = log_end.unwrap_or_else(|| cut_off(&head, last, &summary));
    summary.backoff = end.backoff;
    if unread > 0 {
        end.warnings.push(format!(
            "{unread} of the record log's lines could not be read; the requests they told of are left out"
        ));
    }
    Ok(Report {
        schema: SCHEMA,
        tool: head.tool,
        started: head.started,
        ended: end.ended,
        complete: end.complete,
        stopped_by: end.stopped_by,
        // settings that were not known then do not make it another plan
        plan: head.plan.hashed(),
        schedule: end.schedule,
        environment: head.environment,
        health: end.health,
        summary,
        thresholds: vec![],
        server: end.server,
        calibration: head.calibration,
        warnings: end.warnings,
    }
    .judged())
}

/// What can be said of the end of a run whose log has none.
fn cut_off(head: &LogHead, last: Moment, summary: &crate::summary::Summary) -> LogEnd {
    let wall = last.since(head.began);
    let ended =
        Date::parse(&head.started).map_or_else(|| head.started.clone(), |date| (date + wall).rfc3339());
    let evidence = Evidence {
        before: Machine::default(),
        after: Machine::default(),
        wall,
        cores: head.environment.cores,
        threads: head.plan.load.threads.get(),
        has_rate: head.plan.load.has_rate(),
        run_queue: None,
        backlog: None,
        stood_still: None,
        summary,
    };
    let mut health = Health::judge(&evidence, &head.plan.health_limits);
    health.verdict = health.verdict.max(Verdict::Degraded);
    health.reasons.push(
        "what the run cost this client was not recorded, so most limits are held against nothing".to_owned(),
    );
    LogEnd {
        ended,
        complete: false,
        stopped_by: None,
        schedule: None,
        backoff: None,
        health,
        server: None,
        warnings: vec![format!(
            "the run was cut off: its record log has no end. What was under way then is unknown; \
             requests that ended up to about {} before are here",
            show_duration(MOST_LOST)
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_an_end_is_refused() {
        let mut line = Vec::new();
        let mut endless = BufReader::new(io::repeat(b'x'));
        assert!(
            read_line(&mut endless, &mut line, 1 << 20)
                .is_err_and(|error| error.to_string().contains("1 MiB"))
        );
        let mut text = &b"0123456\nabc"[..];
        for want in ["0123456\n", "abc", ""] {
            read_line(&mut text, &mut line, 8).expect("short enough");
            assert_eq!(line, want.as_bytes());
        }
    }

    #[test]
    fn what_is_no_json_is_refused_at_its_first_bytes() {
        for endless in [0, b'x', b'['] {
            assert!(read(BufReader::new(io::repeat(endless)), &mut []).is_err());
        }
    }
}
