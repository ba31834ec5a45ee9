//! From the chunks of one reply to the facts of its record.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::backend::{Chunk, Exchange, Head, Trace};
use crate::clock::{Arrival, Date, Moment};
use crate::failure::{Failure, FailureKind};
use crate::observe;
use crate::record::{Connection, Moments, Outcome, Phase, Record, StreamFacts, TokenEvent};
use crate::secret;
use crate::wire::{self, Answer, Choices, Dialect, Event, Form, ReplyReader, TokenKind};

/// Takes in one reply. Nothing here formats, logs or locks while the stream runs.
pub struct Intake {
    dialect: Dialect,
    keeps_text: bool,
    status: Option<u16>,
    body: Body,
    seen: Seen,
    last_body: Option<Arrival>,
    timings: Vec<(String, f64)>,
    retry_after: Option<Duration>,
    /// Where a redirect points.
    location: Option<String>,
}

/// How the body is read.
enum Body {
    /// No head yet.
    Unknown,
    /// A reply in the API's dialect.
    Reply(Box<ReplyReader>),
    /// A reply in this content coding, which nobody asked for: it is not read.
    Encoded(String),
    /// The body of an error status: its beginning.
    Error(Vec<u8>),
}

/// What the events so far have shown.
struct Seen {
    is_stream: bool,
    first_event: Option<Moment>,
    token_events: Vec<TokenEvent>,
    facts: StreamFacts,
    /// The server's count in the last event that bore tokens of the first choice.
    tokens_before: u64,
    /// The same of the others.
    tokens_of_others: BTreeMap<u32, u64>,
}

/// An error's message is at its beginning.
const ERROR_BODY: usize = 64 * 1024;

impl Intake {
    /// A reply of which nothing has come; its text is kept if `keeps_text`.
    pub fn new(dialect: Dialect, keeps_text: bool) -> Self {
        let seen = Seen {
            is_stream: false,
            first_event: None,
            token_events: Vec::new(),
            facts: StreamFacts { is_counted: true, ..StreamFacts::default() },
            tokens_before: 0,
            tokens_of_others: BTreeMap::new(),
        };
        let body = Body::Unknown;
        Self {
            dialect,
            keeps_text,
            status: None,
            body,
            seen,
            last_body: None,
            timings: Vec::new(),
            retry_after: None,
            location: None,
        }
    }

    /// Takes in the next part of the reply.
    pub fn take(&mut self, chunk: Chunk<'_>) {
        match chunk {
            Chunk::Head(head) => self.take_head(head),
            Chunk::Body { arrival, bytes } => self.take_body(arrival, bytes),
        }
    }

    /// Events so far that bore tokens.
    pub fn token_events(&self) -> u64 {
        self.seen.token_events.len() as u64
    }

    fn take_head(&mut self, head: Head<'_>) {
        self.status = Some(head.status);
        for (name, value) in head.headers {
            self.timings.extend(observe::timing_header(name, value));
        }
        self.retry_after = head.header("retry-after").and_then(|value| wait(value, head.header("date")));
        self.location =
            head.header("location").filter(|_| (300..400).contains(&head.status)).map(str::to_owned);
        if let Some(coding) = coding(head) {
            self.body = Body::Encoded(coding.to_owned());
            return;
        }
        self.body = if is_success(head.status) {
            let form = Form::of_content_type(head.header("content-type").unwrap_or_default());
            self.seen.is_stream = form == Form::Stream;
            let reader = ReplyReader::new(self.dialect, form);
            Body::Reply(Box::new(if self.keeps_text { reader.keeping_text() } else { reader }))
        } else {
            Body::Error(Vec::new())
        };
    }

    fn take_body(&mut self, arrival: Arrival, bytes: &[u8]) {
        self.last_body = Some(arrival);
        match &mut self.body {
            Body::Unknown | Body::Encoded(_) => {}
            Body::Reply(reader) => reader.push(bytes, &mut |event| self.seen.note(&event, arrival)),
            Body::Error(body) => {
                let room = ERROR_BODY.saturating_sub(body.len());
                body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        }
    }

    /// The record, once the exchange is over. The moments are those when the request was due, taken and started.
    pub fn into_record(
        mut self,
        id: u64,
        phase: Phase,
        (due, taken, started): (Moment, Moment, Moment),
        exchange: Exchange,
        now: Moment,
    ) -> Record {
        let Exchange { trace, result } = exchange;
        let end = self.last_body.filter(|_| result.is_ok()).unwrap_or(Arrival::exact(now));
        let (answer, failure) = self.conclude(result.err(), end);
        self.timings.extend(answer.server_timings.iter().map(|(name, ms)| ((*name).to_owned(), *ms)));
        let stream = self.seen.conclude(&answer);
        Record {
            id,
            phase,
            outcome: failure.map_or(Outcome::Success, Outcome::Failed),
            status: self.status,
            moments: Moments {
                due,
                taken,
                started,
                sent: trace.sent,
                sent_latest: trace.sent_latest,
                sent_whole: trace.sent_whole,
                first_byte: trace.first_byte,
                first_event: self.seen.first_event,
                end: end.at,
                end_earliest: end.earliest,
            },
            token_events: self.seen.token_events,
            stream,
            events: answer.events,
            reads: trace.body_reads,
            unstamped_reads: trace.reads.saturating_sub(trace.read_delays.len() as u64),
            connection: connection(&trace),
            read_delays: trace.read_delays,
            usage: answer.usage,
            finish_reason: answer.finish_reason,
            bytes_sent: trace.bytes_sent,
            bytes_received: trace.bytes_received,
            server_timings: self.timings,
            stood_still: Duration::ZERO,
            arrivals: 1,
            response: answer.response.map(Box::new),
        }
    }

    /// The failure of a reply whose status is none of success.
    fn refusal(&mut self, message: impl FnOnce() -> String) -> Failure {
        let status = self.status.unwrap_or_default();
        let message = self.location.take().map_or_else(message, redirected);
        Failure::new(FailureKind::Http(status), message).with_retry_after(self.retry_after)
    }

    /// What the reply said, and the one failure if there is any: what the server said of itself comes before how the
    /// transport ended.
    fn conclude(&mut self, broken: Option<Failure>, end: Arrival) -> (Answer, Option<Failure>) {
        match std::mem::replace(&mut self.body, Body::Unknown) {
            Body::Unknown => (Answer::default(), broken.or_else(|| Some(no_head()))),
            Body::Error(body) => (Answer::default(), Some(self.refusal(|| wire::error_message(&body)))),
            Body::Encoded(coding) if self.status.is_some_and(is_success) => {
                (Answer::default(), broken.or_else(|| Some(encoded(&coding))))
            }
            Body::Encoded(coding) => {
                let message = || format!("its message is encoded as '{coding}', which was not asked for");
                (Answer::default(), Some(self.refusal(message)))
            }
            Body::Reply(reader) => {
                let mut answer = reader.finish(&mut |event| self.seen.note(&event, end));
                let told = answer.failure.take();
                let is_told = told.as_ref().is_some_and(|f| f.kind == FailureKind::ErrorEvent);
                let failure = if is_told { told } else { broken.or(told) };
                (answer, failure)
            }
        }
    }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// `Retry-After` (RFC 9110 10.2.3): seconds, or a date, which is counted from the reply's own `Date`, for this machine's
/// clock is another. `None` for what is neither, and for a date in a reply without one.
fn wait(value: &str, date: Option<&str>) -> Option<Duration> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.parse().ok().map(Duration::from_secs);
    }
    let (until, from) = (Date::parse_http(value)?, Date::parse_http(date?)?);
    Some(Duration::from_millis(u64::try_from(until.unix_ms() - from.unix_ms()).unwrap_or(0)))
}

fn redirected(location: String) -> String {
    // a stranger's keys are no more for reports than ours
    let location = secret::shown_url(&location);
    format!("redirected to {location}; redirects are not followed: measure that URL itself")
}

/// What the body is encoded with, if it is not as it should be.
fn coding<'a>(head: Head<'a>) -> Option<&'a str> {
    let codings = ["content-encoding", "transfer-encoding"].into_iter().filter_map(|name| head.header(name));
    let is_plain =
        |coding: &&str| ["", "identity", "chunked"].iter().any(|plain| coding.eq_ignore_ascii_case(plain));
    codings.flat_map(|codings| codings.split(',')).map(str::trim).find(|coding| !is_plain(coding))
}

fn encoded(coding: &str) -> Failure {
    let message = format!(
        "the reply is encoded as '{coding}', which was not asked for; let the server, or the proxy before it, not \
         compress"
    );
    Failure::new(FailureKind::UnparseableReply, message)
}

fn no_head() -> Failure {
    Failure::new(FailureKind::Protocol, "the exchange ended without a reply")
}

impl Seen {
    /// Notes an event and its arrival. A reply that is not streamed has no moment for any token. Tokens counted in
    /// an event without text (half a character, text held back) belong to the event that shows them.
    fn note(&mut self, event: &Event, arrival: Arrival) {
        if !self.is_stream {
            return;
        }
        let facts = &mut self.facts;
        let (choice, choices) = match event.choices {
            Choices::One(index) => (index, index.saturating_add(1)),
            Choices::Nobody => (0, 0),
            Choices::Several => (0, 2),
        };
        if self.first_event.is_none() {
            self.first_event = Some(arrival.at);
            facts.first_event_early_us = arrival.early_us();
            facts.opens_with_choice = choices > 0;
        }
        facts.choices = facts.choices.max(choices);
        if event.finishes {
            facts.finish = Some(arrival.at);
            facts.finish_early_us = arrival.early_us();
            facts.silent_finishes += u32::from(event.tokens.is_none());
        }
        let Some(kind) = event.tokens else { return };
        facts.reasoning |= kind == TokenKind::Reasoning;
        facts.tool_calls |= kind == TokenKind::ToolCall;
        facts.is_mixed |= event.choices == Choices::Several;
        facts.is_counted &= event.completion_tokens.is_some();
        let counted = event.completion_tokens.map(|total| self.newly_counted(choice, total));
        let tokens = counted.and_then(NonZeroU32::new);
        self.token_events.push(TokenEvent { choice, ..TokenEvent::new(arrival, tokens) });
    }

    /// Tokens of a choice since its last event that bore some, where its count is `total` now.
    fn newly_counted(&mut self, choice: u32, total: u64) -> u32 {
        let before = match choice {
            0 => &mut self.tokens_before,
            _ => self.tokens_of_others.entry(choice).or_default(),
        };
        let new = total.saturating_sub(*before);
        *before = total.max(*before);
        u32::try_from(new).unwrap_or(u32::MAX)
    }

    /// What the stream showed; `None` if it was none. Counts that come to more than the whole reply's were those of all
    /// choices together, and tell nothing of one.
    fn conclude(&mut self, answer: &Answer) -> Option<StreamFacts> {
        let counted =
            self.tokens_of_others.values().fold(self.tokens_before, |sum, n| sum.saturating_add(*n));
        if self.facts.choices > 1 && answer.usage.output_tokens.is_some_and(|output| counted > output) {
            self.facts.is_counted = false;
            self.token_events.iter_mut().for_each(|event| event.tokens = None);
        }
        let is_counted = self.facts.is_counted && !self.facts.is_mixed && !self.token_events.is_empty();
        let facts = StreamFacts { is_counted, is_of_vllm: answer.is_of_vllm, ..self.facts };
        self.is_stream.then_some(facts)
    }
}

fn connection(trace: &Trace) -> Connection {
    Connection {
        reused: trace.reused,
        dns: trace.dns,
        tcp: trace.tcp,
        tls: trace.tls,
        stale_retry: trace.stale_retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_seconds_or_as_a_date_of_the_servers_clock() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (value, from, want) in [
            ("120", None, Some(120)),
            ("0", Some(date), Some(0)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", Some(date), Some(120)),
            // in the past: at once
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(date), Some(0)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", None, None),
            ("Sun, 06 Nov 1994 08:51:37 GMT", Some("today"), None),
            ("", Some(date), None),
            ("-1", Some(date), None),
            ("1.5", Some(date), None),
            ("99999999999999999999999", Some(date), None),
            ("soon", Some(date), None),
        ] {
            assert_eq!(wait(value, from), want.map(Duration::from_secs), "{value} {from:?}");
        }
    }

    #[test]
    fn a_refusal_that_is_compressed_is_of_its_status_and_shows_no_bytes() {
        let mut intake = Intake::new(Dialect::Chat, false);
        let headers = [("content-encoding", "gzip"), ("retry-after", "7")];
        intake.take(Chunk::Head(Head { status: 503, headers: &headers }));
        intake.take(Chunk::Body { arrival: Arrival::default(), bytes: b"\x1f\x8b\x08" });
        let (_, failure) = intake.conclude(None, Arrival::default());
        let failure = failure.expect("a refusal");
        assert_eq!(
            (failure.kind, failure.retry_after),
            (FailureKind::Http(503), Some(Duration::from_secs(7)))
        );
        assert_eq!(failure.message, "its message is encoded as 'gzip', which was not asked for");
    }
}
