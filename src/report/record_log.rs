//! Every record on disk as it ends, one JSON object a line, so that a run that is cut off loses at most its last second.
//!
//! The first line tells what the reports tell before a run, the last what they tell after it; the lines between are the
//! records, without loss. The form is described in `docs/json.md`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::{Report, Tool};
use crate::accuracy::Calibration;
use crate::clock::Moment;
use crate::failure::{Failure, FailureKind};
use crate::health::{Environment, Health};
use crate::observe::ServerSide;
use crate::plan::{Plan, ScheduleHash};
use crate::record::{
    Connection, FinishReason, Moments, Outcome, Phase, Pulse, Record, Response, Sink, StreamFacts,
    TokenEvent, Usage,
};
use crate::summary::Backoff;
use crate::units::nanos;

/// Number of the form of record logs. A changed meaning raises it.
pub const LOG_SCHEMA: u32 = 1;

/// The first line: what is known before the first request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogHead {
    /// Number of this form, [`LOG_SCHEMA`].
    pub record_log: u32,
    /// The tool that made the run.
    pub tool: Tool,
    /// When the run began, UTC, RFC 3339.
    pub started: String,
    /// The same as a moment: those of the records are of the same clock.
    pub began: Moment,
    /// What was to be done.
    pub plan: Plan,
    /// Where it was done.
    pub environment: Environment,
    /// The client's own share in the times, where it was asked for.
    #[serde(default)]
    pub calibration: Option<Calibration>,
}

/// The last line: what is known after the last request, beside what the records tell. It is missing where the run was
/// cut off.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogEnd {
    /// When the run ended, UTC, RFC 3339.
    pub ended: String,
    /// Whether the run went on to its planned end.
    pub complete: bool,
    /// Which limit of its own ended it early.
    #[serde(default)]
    pub stopped_by: Option<String>,
    /// What tells its schedule from others.
    pub schedule: Option<ScheduleHash>,
    /// What its threads paused, for the server could not be reached.
    #[serde(default)]
    pub backoff: Option<Backoff>,
    /// What it cost the client, and whether its figures can be believed.
    pub health: Health,
    /// The server's own account.
    pub server: Option<ServerSide>,
    /// What a reader should know beside the figures.
    pub warnings: Vec<String>,
}

/// A line after the first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLine {
    /// A request that ended.
    Record(Box<LoggedRecord>),
    /// The run's end.
    End(Box<LogEnd>),
}

/// A record as it is logged. Moments are nanoseconds on one clock.
#[derive(Debug, Serialize, Deserialize)]
pub struct LoggedRecord {
    id: u64,
    phase: Phase,
    /// `success`, or the kind of failure.
    outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
    status: Option<u16>,
    due: Moment,
    taken: Moment,
    started: Moment,
    sent: Option<Moment>,
    /// Where it may be later than `sent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent_latest: Option<Moment>,
    sent_whole: Option<Moment>,
    first_byte: Option<Moment>,
    first_event: Option<Moment>,
    end: Moment,
    /// Where it may be earlier than `end`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_earliest: Option<Moment>,
    reused: Option<bool>,
    dns_ns: Option<u64>,
    tcp_ns: Option<u64>,
    tls_ns: Option<u64>,
    stale_retry: bool,
    /// Arrivals of the events that bore tokens: the first as a moment, each later one from the one before.
    token_events: Vec<i64>,
    /// Tokens of each, where the server counted them in one at least; 0 where it did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    event_tokens: Vec<u32>,
    /// How much earlier each may have come, in microseconds, where one may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    event_early_us: Vec<u32>,
    /// The choice of each, where one is not of the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    event_choices: Vec<u32>,
    /// What else the stream showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream: Option<StreamFacts>,
    events: u64,
    reads: u64,
    read_delays_ns: Vec<u64>,
    unstamped_reads: u64,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    finish_reason: Option<String>,
    bytes_sent: u64,
    bytes_received: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    stood_still_ns: u64,
    /// Where it tells of more than one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    arrivals: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    server_timings: Vec<(String, f64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response: Option<Box<Response>>,
}

const fn one() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks so
const fn is_one(arrivals: &u64) -> bool {
    *arrivals == 1
}

impl From<&Record> for LoggedRecord {
    fn from(record: &Record) -> Self {
        let (moments, connection, usage) = (&record.moments, &record.connection, &record.usage);
        let mut before = 0;
        let token_events = record.token_events.iter().map(|event| {
            let at = event.at.as_nanos().cast_signed();
            at - std::mem::replace(&mut before, at)
        });
        let token_events = token_events.collect();
        let counts = record.token_events.iter().map(|event| event.tokens.map_or(0, NonZeroU32::get));
        let is_counted = record.token_events.iter().any(|event| event.tokens.is_some());
        let early = record.token_events.iter().map(|event| event.early_us);
        let is_early = record.token_events.iter().any(|event| event.early_us > 0);
        let choices = record.token_events.iter().map(|event| event.choice);
        let has_choices = choices.clone().any(|choice| choice > 0);
        let failure = record.failure();
        Self {
            id: record.id,
            phase: record.phase,
            outcome: record.outcome.name(),
            error: failure.map(|failure| failure.message.clone()),
            retry_after_s: failure.and_then(|failure| Some(failure.retry_after?.as_secs())),
            status: record.status,
            due: moments.due,
            taken: moments.taken,
            started: moments.started,
            sent: moments.sent,
            sent_latest: moments.sent_latest.filter(|latest| moments.sent != Some(*latest)),
            sent_whole: moments.sent_whole,
            first_byte: moments.first_byte,
            first_event: moments.first_event,
            end: moments.end,
            end_earliest: Some(moments.end_earliest).filter(|earliest| *earliest != moments.end),
            reused: connection.reused,
            dns_ns: connection.dns.map(nanos),
            tcp_ns: connection.tcp.map(nanos),
            tls_ns: connection.tls.map(nanos),
            stale_retry: connection.stale_retry,
            token_events,
            event_tokens: if is_counted { counts.collect() } else { Vec::new() },
            event_early_us: if is_early { early.collect() } else { Vec::new() },
            event_choices: if has_choices { choices.collect() } else { Vec::new() },
            stream: record.stream,
            events: record.events,
            reads: record.reads,
            read_delays_ns: record.read_delays.iter().map(|delay| nanos(*delay)).collect(),
            unstamped_reads: record.unstamped_reads,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cached_tokens: usage.cached_tokens,
            reasoning_tokens: usage.reasoning_tokens,
            finish_reason: record.finish_reason.as_ref().map(|reason| reason.as_str().to_owned()),
            bytes_sent: record.bytes_sent,
            bytes_received: record.bytes_received,
            stood_still_ns: nanos(record.stood_still),
            arrivals: record.arrivals,
            server_timings: record.server_timings.clone(),
            response: record.response.clone(),
        }
    }
}

impl TryFrom<LoggedRecord> for Record {
    type Error = String;

    /// The record again.
    ///
    /// # Errors
    /// When it is of a kind of failure that this version does not know.
    fn try_from(logged: LoggedRecord) -> Result<Self, String> {
        let outcome = if logged.outcome == Outcome::SUCCESS {
            Outcome::Success
        } else {
            let kind = FailureKind::of_name(&logged.outcome).ok_or_else(|| {
                format!("'{}' is no kind of failure", crate::text::printable(&logged.outcome, 40))
            })?;
            let retry_after = logged.retry_after_s.map(Duration::from_secs);
            Outcome::Failed(Failure { retry_after, ..Failure::new(kind, logged.error.unwrap_or_default()) })
        };
        let mut at = 0_i64;
        let counts = logged.event_tokens.into_iter().chain(std::iter::repeat(0));
        let early = logged.event_early_us.into_iter().chain(std::iter::repeat(0));
        let choices = logged.event_choices.into_iter().chain(std::iter::repeat(0));
        let what = counts.zip(early).zip(choices);
        let token_events =
            logged.token_events.iter().zip(what).map(|(step, ((tokens, early_us), choice))| {
                at = at.saturating_add(*step);
                let at = Moment::from_nanos(at.max(0).cast_unsigned());
                TokenEvent { at, early_us, tokens: NonZeroU32::new(tokens), choice }
            });
        Ok(Self {
            id: logged.id,
            phase: logged.phase,
            outcome,
            status: logged.status,
            token_events: token_events.collect(),
            stream: logged.stream,
            moments: Moments {
                due: logged.due,
                taken: logged.taken,
                started: logged.started,
                sent: logged.sent,
                sent_latest: logged.sent_latest.or(logged.sent),
                sent_whole: logged.sent_whole,
                first_byte: logged.first_byte,
                first_event: logged.first_event,
                end: logged.end,
                end_earliest: logged.end_earliest.unwrap_or(logged.end),
            },
            connection: Connection {
                reused: logged.reused,
                dns: logged.dns_ns.map(Duration::from_nanos),
                tcp: logged.tcp_ns.map(Duration::from_nanos),
                tls: logged.tls_ns.map(Duration::from_nanos),
                stale_retry: logged.stale_retry,
            },
            events: logged.events,
            reads: logged.reads,
            read_delays: logged.read_delays_ns.into_iter().map(Duration::from_nanos).collect(),
            unstamped_reads: logged.unstamped_reads,
            usage: Usage {
                input_tokens: logged.input_tokens,
                output_tokens: logged.output_tokens,
                cached_tokens: logged.cached_tokens,
                reasoning_tokens: logged.reasoning_tokens,
            },
            finish_reason: logged.finish_reason.and_then(|word| FinishReason::of_word(&word)),
            bytes_sent: logged.bytes_sent,
            bytes_received: logged.bytes_received,
            stood_still: Duration::from_nanos(logged.stood_still_ns),
            arrivals: logged.arrivals,
            server_timings: logged.server_timings,
            response: logged.response,
        })
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Where the lines go.
enum Out {
    Plain(BufWriter<File>),
    Gzip(Box<GzEncoder<BufWriter<File>>>),
}

impl Out {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(out) => out,
            Self::Gzip(out) => out.as_mut(),
        }
    }

    /// Makes sure that somebody can still open the file.
    fn check_is_there(&self) -> io::Result<()> {
        let file = match self {
            Self::Plain(out) => out.get_ref(),
            Self::Gzip(out) => out.get_ref().get_ref(),
        };
        match file.metadata()?.nlink() {
            0 => Err(io::Error::new(io::ErrorKind::NotFound, "removed while the run went on")),
            _ => Ok(()),
        }
    }

    fn finish(self) -> io::Result<()> {
        self.check_is_there()?;
        match self {
            Self::Plain(mut out) => out.flush(),
            Self::Gzip(out) => out.finish()?.flush(),
        }
    }
}

/// Writes the log of one run.
pub struct RecordLog {
    /// `None` once writing has failed.
    out: Option<Out>,
    next_flush: Moment,
    failure: Option<io::Error>,
}

/// Lines are held back for so long, and then until the next pulse.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// What a run that is killed loses at most: what came since the last flush, which is `FLUSH_EVERY` and a pulse (0.2 s)
/// ago at most, rounded up.
pub const MOST_LOST: Duration = Duration::from_secs(1);

impl RecordLog {
    /// A log in this file, which is empty; compressed if `gzip`.
    pub fn new(file: File, gzip: bool) -> Self {
        let file = BufWriter::new(file);
        let out = match gzip {
            true => Out::Gzip(Box::new(GzEncoder::new(file, Compression::fast()))),
            false => Out::Plain(file),
        };
        Self { out: Some(out), next_flush: Moment::default(), failure: None }
    }

    /// Writes the first line, and makes sure that it is on disk.
    pub fn begin(&mut self, head: &LogHead) {
        self.line(head);
        self.flush();
    }

    /// Writes the last line.
    ///
    /// # Errors
    /// The first thing that went wrong with the file since it was made.
    pub fn end(mut self, report: &Report) -> io::Result<()> {
        self.line(&LogLine::End(Box::new(LogEnd {
            ended: report.ended.clone(),
            complete: report.complete,
            stopped_by: report.stopped_by.clone(),
            schedule: report.schedule.clone(),
            backoff: report.summary.backoff,
            health: report.health.clone(),
            server: report.server.clone(),
            warnings: report.warnings.clone(),
        })));
        match (self.failure, self.out) {
            (Some(failure), _) => Err(failure),
            (None, out) => out.map_or(Ok(()), Out::finish),
        }
    }

    fn line(&mut self, line: &impl Serialize) {
        self.write(|out| {
            serde_json::to_writer(&mut *out, line)?;
            out.write_all(b"\n")
        });
    }

    fn flush(&mut self) {
        self.write(|out| out.flush());
        if let Some(Err(error)) = self.out.as_ref().map(Out::check_is_there) {
            self.fail(error);
        }
    }

    /// What fails is told at the end: the run goes on.
    fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let Some(out) = &mut self.out else { return };
        if let Err(error) = write(out.writer()) {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: io::Error) {
        log::warn!("the record log ends here: {error}");
        self.failure = Some(error);
        self.out = None;
    }
}

impl Sink for RecordLog {
    fn record(&mut self, record: &Record) {
        self.line(&LogLine::Record(Box::new(record.into())));
    }

    fn pulse(&mut self, pulse: &Pulse) {
        if pulse.now >= self.next_flush {
            self.flush();
            self.next_flush = pulse.now + FLUSH_EVERY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_removed_is_told_of() {
        let folder = tempfile::tempdir().expect("a folder");
        for gzip in [false, true] {
            let path = folder.path().join("a.jsonl");
            let mut log = RecordLog::new(File::create(&path).expect("writable"), gzip);
            log.flush();
            assert!(log.failure.is_none());
            std::fs::remove_file(&path).expect("it was made");
            log.flush();
            let told = log.failure.map(|failure| failure.to_string());
            assert_eq!(told.as_deref(), Some("removed while the run went on"));
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let at = Moment::from_nanos;
        let mut record = Record {
            id: 7,
            phase: Phase::Cooldown,
            outcome: Outcome::Failed(Failure::new(FailureKind::Http(503), "busy")),
            status: Some(503),
            moments: Moments {
                due: at(1),
                taken: at(2),
                started: at(3),
                sent: Some(at(4)),
                sent_latest: Some(at(5)),
                sent_whole: None,
                first_byte: Some(at(6)),
                first_event: Some(at(7)),
                end: at(1 << 60),
                end_earliest: at(1 << 59),
            },
            connection: Connection {
                reused: Some(false),
                dns: None,
                tcp: Some(Duration::from_nanos(5)),
                tls: Some(Duration::from_secs(1)),
                stale_retry: true,
            },
            token_events: vec![
                TokenEvent { at: at(9), early_us: 2, tokens: NonZeroU32::new(3), choice: 0 },
                // the kernel's clock was set back
                TokenEvent { at: at(8), early_us: 0, tokens: None, choice: 2 },
            ],
            stream: Some(StreamFacts {
                finish: Some(at(8)),
                choices: 3,
                is_of_vllm: true,
                ..StreamFacts::default()
            }),
            events: 3,
            reads: 2,
            read_delays: vec![Duration::from_nanos(11)],
            unstamped_reads: 1,
            usage: Usage { output_tokens: Some(4), ..Usage::default() },
            finish_reason: Some(FinishReason::Other("strange".to_owned())),
            bytes_sent: 10,
            bytes_received: 20,
            stood_still: Duration::from_millis(3),
            arrivals: 2,
            server_timings: vec![("metrics.queue_time_ms".to_owned(), 0.1)],
            response: Some(Box::new(Response { text: "said\n".to_owned(), ..Response::default() })),
        };
        for _ in 0..2 {
            let line =
                serde_json::to_string(&LogLine::Record(Box::new((&record).into()))).expect("plain data");
            let LogLine::Record(back) = serde_json::from_str(&line).expect(&line) else { panic!("{line}") };
            assert_eq!(Record::try_from(*back).as_ref(), Ok(&record), "{line}");
            record.outcome = Outcome::Success;
            record.token_events.iter_mut().for_each(|event| (event.tokens, event.choice) = (None, 0));
            record.stream = None;
        }
    }
}
