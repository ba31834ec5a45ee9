//! One JSON object a request, kept in an unnamed file while the run goes on, so that memory does not grow with it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};

use serde::Serialize;
use serde_json::json;

use crate::clock::Moment;
use crate::record::{Ends, Record, Response, Sink, TokenEvent, TpotSource};

/// Keeps every record, one line each.
#[derive(Debug)]
pub struct DetailLog {
    file: BufWriter<File>,
    origin: Option<Moment>,
    failure: Option<io::Error>,
}

/// One request in the JSON. Times are milliseconds; `null` where there is no such time.
#[derive(Serialize)]
struct Row<'a> {
    id: u64,
    phase: crate::record::Phase,
    /// `success`, or the kind of failure.
    outcome: String,
    error: Option<&'a str>,
    status: Option<u16>,
    /// Start, counted from that of the request which ended first; so it may be negative.
    start_ms: f64,
    /// How late it was started after it was due.
    lag_ms: f64,
    sent_ms: Option<f64>,
    first_byte_ms: Option<f64>,
    first_event_ms: Option<f64>,
    end_ms: f64,
    ttft_ms: Option<f64>,
    tpot_ms: Option<f64>,
    tpot_source: Option<TpotSource>,
    e2e_ms: Option<f64>,
    /// The lower ends of these, where this client read late and they are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttft_low_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tpot_low_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e2e_low_ms: Option<f64>,
    connect_ms: Option<f64>,
    connection_reused: Option<bool>,
    stale_retry: bool,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    finish_reason: Option<&'a str>,
    events: u64,
    reads: u64,
    bytes_sent: u64,
    bytes_received: u64,
    /// Arrival of each event that bore tokens, counted from `sent_ms`, in microseconds.
    token_events_us: Vec<u64>,
    /// How much earlier each of them may have come, in microseconds; left out where each is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    token_events_early_us: Vec<u32>,
    /// Tokens of each of them; empty unless the server counts them.
    tokens_per_event: Vec<u32>,
    /// The choice of each of them; left out where all are of the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choice_per_event: Vec<u32>,
    /// How long this client stood still while it was under way; left out where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    stood_still_ms: Option<f64>,
    /// Arrivals that it tells of, where it is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    arrivals: Option<u64>,
    server_timings: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a Response>,
}

impl DetailLog {
    /// An empty log in the system's folder for temporary files, gone with the process.
    ///
    /// # Errors
    /// When no such file can be made.
    pub fn new() -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(tempfile::tempfile()?), origin: None, failure: None })
    }

    /// Why not every request could be kept, if so.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take().or_else(|| self.file.flush().err())
    }

    /// Writes all rows, separated by commas, each on a line of its own.
    pub(super) fn copy_rows(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.file.flush()?;
        let file = self.file.get_mut();
        file.rewind()?;
        let mut separator = "\n    ";
        for line in BufReader::new(&*file).lines() {
            write!(out, "{separator}{}", line?)?;
            separator = ",\n    ";
        }
        file.seek(io::SeekFrom::End(0))?;
        Ok(())
    }
}

impl Sink for DetailLog {
    fn record(&mut self, record: &Record) {
        if self.failure.is_some() {
            return;
        }
        let origin = *self.origin.get_or_insert(record.moments.started);
        let written = serde_json::to_writer(&mut self.file, &row(record, origin))
            .map_err(io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"));
        // told when the details are asked for; the run itself goes on
        self.failure = written.err();
    }
}

/// Milliseconds from `origin`; requests end in another order than they start, so it may be negative.
fn ms(moment: Moment, origin: Moment) -> f64 {
    (moment.as_nanos() as f64 - origin.as_nanos() as f64) / 1e6
}

fn row(record: &Record, origin: Moment) -> Row<'_> {
    let moments = &record.moments;
    let at = |moment: Option<Moment>| moment.map(|moment| ms(moment, origin));
    let millis = |duration: Option<std::time::Duration>| duration.map(|d| d.as_secs_f64() * 1e3);
    let sent = moments.sent.unwrap_or(moments.started);
    let low = |ends: Option<Ends>| millis(ends.filter(|ends| ends.low < ends.high).map(|ends| ends.low));
    let is_early = record.token_events.iter().any(|event| event.early_us > 0);
    let early = record.token_events.iter().filter(|_| is_early).map(|event| event.early_us);
    let is_counted = record.stream.is_some_and(|stream| stream.is_counted);
    let count = |event: &TokenEvent| event.tokens.map(u32::from).or(is_counted.then_some(0));
    let counts: Option<Vec<u32>> = record.token_events.iter().map(count).collect();
    let choices: Vec<u32> = record.token_events.iter().map(|event| event.choice).collect();
    let timings = record.server_timings.iter().map(|(name, ms)| (name.clone(), json!(ms)));
    Row {
        id: record.id,
        phase: record.phase,
        outcome: record.outcome.name(),
        error: record.failure().map(|failure| failure.message.as_str()),
        status: record.status,
        start_ms: ms(moments.started, origin),
        lag_ms: record.lag().as_secs_f64() * 1e3,
        sent_ms: at(moments.sent),
        first_byte_ms: at(moments.first_byte),
        first_event_ms: at(moments.first_event),
        end_ms: ms(moments.end, origin),
        ttft_ms: millis(record.ttft()),
        tpot_ms: millis(record.tpot()),
        tpot_source: record.tpot_source(),
        e2e_ms: millis(record.e2e()),
        ttft_low_ms: low(record.ttft_ends()),
        tpot_low_ms: low(record.tpot_ends()),
        e2e_low_ms: low(record.e2e_ends()),
        connect_ms: millis(record.connect()),
        connection_reused: record.connection.reused,
        stale_retry: record.connection.stale_retry,
        input_tokens: record.usage.input_tokens,
        output_tokens: record.usage.output_tokens,
        cached_tokens: record.usage.cached_tokens,
        reasoning_tokens: record.usage.reasoning_tokens,
        finish_reason: record.finish_reason.as_ref().map(|reason| reason.as_str()),
        events: record.events,
        reads: record.reads,
        bytes_sent: record.bytes_sent,
        bytes_received: record.bytes_received,
        token_events_us: record.token_events.iter().map(|e| e.at.since(sent).as_micros() as u64).collect(),
        token_events_early_us: early.collect(),
        tokens_per_event: counts.unwrap_or_default(),
        choice_per_event: if choices.iter().any(|choice| *choice > 0) { choices } else { Vec::new() },
        stood_still_ms: millis(Some(record.stood_still).filter(|stood| !stood.is_zero())),
        arrivals: Some(record.arrivals).filter(|arrivals| *arrivals > 1),
        server_timings: timings.collect::<serde_json::Map<_, _>>().into(),
        response: record.response.as_deref(),
    }
}
