//! What is known of one request: moments, counts and outcome as facts; every metric is a method over them.
//!
//! Definitions stand in `docs/metrics.md`. Knows neither how the request was sent nor how results are shown.

mod bounds;
mod pace;

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::bounds::{Ends, Ranked, Times};
pub use self::pace::{StreamFacts, TpotSource};
use crate::clock::{Arrival, Moment};
use crate::failure::{Failure, FailureKind};
pub use crate::wire::{FinishReason, Response, Usage};

/// One request, from the moment it was due to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Number of the request within its run, from 0.
    pub id: u64,
    /// Whether it counts.
    pub phase: Phase,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status of the reply; `None` when no reply head came.
    pub status: Option<u16>,
    /// When what happened.
    pub moments: Moments,
    /// The connection it went over.
    pub connection: Connection,
    /// Events that bore tokens, in order; empty for replies that were not streamed.
    pub token_events: Vec<TokenEvent>,
    /// What the stream showed beside them; `None` for replies that were not streamed, and in logs of former versions.
    pub stream: Option<StreamFacts>,
    /// Data events of the stream, those without tokens included, `[DONE]` not.
    pub events: u64,
    /// Reads that returned bytes of the reply's body.
    pub reads: u64,
    /// How long each read returned after the kernel had its bytes: the client's own delay. Reads that the kernel did
    /// not stamp are left out.
    pub read_delays: Vec<Duration>,
    /// Reads of the reply that the kernel did not stamp: their moments are those when they returned.
    pub unstamped_reads: u64,
    /// Token counts as the server's `usage` gave them.
    pub usage: Usage,
    /// Why the server stopped; `None` when it did not say.
    pub finish_reason: Option<FinishReason>,
    /// Bytes of the request, head included.
    pub bytes_sent: u64,
    /// Bytes of the reply, head included.
    pub bytes_received: u64,
    /// What the server told of its work on this request, by names that carry the unit.
    pub server_timings: Vec<(String, f64)>,
    /// How long this client stood still while the request was under way: stopped, paused or starved. Its reads were late.
    pub stood_still: Duration,
    /// Arrivals that it tells of: 1, but where a stop kept very many from leaving. Of these the first have a record each, and
    /// one tells of all the rest, with the last moment at which one was due.
    pub arrivals: u64,
    /// What the model said, a failed request's as far as it came; `None` unless that is kept.
    pub response: Option<Box<Response>>,
}

/// Whether a request counts towards the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Sent to warm the server and the connections up; left out of every result.
    Warmup,
    /// Counts.
    Measured,
    /// Sent to keep the load up while the last measured ones end; left out of every result.
    Cooldown,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A complete reply with tokens.
    Success,
    /// Anything else; of exactly one kind.
    Failed(Failure),
}

impl Outcome {
    /// The name of a success, where failures have that of their kind.
    pub const SUCCESS: &str = "success";

    /// How it is named in results: [`SUCCESS`](Self::SUCCESS), or the kind of the failure.
    pub fn name(&self) -> String {
        match self {
            Self::Success => Self::SUCCESS.to_owned(),
            Self::Failed(failure) => failure.kind.name(),
        }
    }
}

/// The moments of one request. `None` where it never came to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moments {
    /// When the request should have left; in a closed loop, when a worker was free for it.
    pub due: Moment,
    /// When a worker was there for it, in an open loop to wait for `due`: no later than that where one was idle, however
    /// late it woke up; else when one became free.
    pub taken: Moment,
    /// When its worker turned to it.
    pub started: Moment,
    /// First byte of the request handed to the system, at the earliest; connecting is over by then.
    pub sent: Option<Moment>,
    /// The same at the latest: the thread may have lost its core between its look at the clock and the handing over.
    pub sent_latest: Option<Moment>,
    /// Last byte of the request handed to the system.
    pub sent_whole: Option<Moment>,
    /// First byte of the reply.
    pub first_byte: Option<Moment>,
    /// First event of the stream, whatever it bears.
    pub first_event: Option<Moment>,
    /// The reply's end, or the failure; at the latest.
    pub end: Moment,
    /// The reply's end at the earliest.
    pub end_earliest: Moment,
}

/// The connection a request went over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Whether it had served a request before; `None` when there was no connection.
    pub reused: Option<bool>,
    /// Looking up the server's name; `None` when it was known already.
    pub dns: Option<Duration>,
    /// Making the TCP connection; `None` on a reused one.
    pub tcp: Option<Duration>,
    /// The TLS handshake; `None` without TLS or on a reused connection.
    pub tls: Option<Duration>,
    /// Whether a kept connection turned out to be closed by the server, so that the request went out again.
    pub stale_retry: bool,
}

/// The arrival of an event that bears tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenEvent {
    /// When it came in, at the latest: the kernel's stamp on the read that brought it, or when that read returned.
    pub at: Moment,
    /// How much earlier it may have come, in microseconds, where this client read late; 0 where its time is known.
    pub early_us: u32,
    /// Tokens in it; `None` unless the server counts them in each event, and where it counted none.
    pub tokens: Option<NonZeroU32>,
    /// Whose they are: the choice's `index`, 0 for the only one.
    pub choice: u32,
}

impl TokenEvent {
    /// An event of the first choice that came in then and bears so many tokens.
    pub fn new(arrival: Arrival, tokens: Option<NonZeroU32>) -> Self {
        Self { at: arrival.at, early_us: arrival.early_us(), tokens, choice: 0 }
    }

    /// When it came in, at the earliest.
    pub fn earliest(&self) -> Moment {
        self.at.before(Duration::from_micros(self.early_us.into()))
    }
}

/// Takes in records one at a time, in the order in which the requests ended.
pub trait Sink {
    /// One more request has ended.
    fn record(&mut self, record: &Record);

    /// Called some times a second while the run goes on, with or without records.
    fn pulse(&mut self, pulse: &Pulse) {
        let _ = pulse;
    }
}

/// The state of a run that is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The present moment.
    pub now: Moment,
    /// When the run began.
    pub began: Moment,
    /// Requests under way.
    pub in_flight: u64,
    /// When the one that has been under way longest was started; `None` without any.
    pub oldest: Option<Moment>,
    /// Events that bore tokens, of all requests so far, of those under way too.
    pub token_events: u64,
}

/// How the tokens of the gaps between events were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItlSource {
    /// The server counted the tokens in each event.
    Counted,
    /// Estimated from the reply's output tokens and its number of events.
    Estimated,
    /// The server gave no token counts: gaps between events, as if each held one token.
    Events,
    /// Not known: tokens came that no event showed, and nobody can say in which gaps.
    Unknown,
}

/// No server bundles more; a `usage` that says so must not outweigh everybody else's.
const MAX_TOKENS_PER_EVENT: u32 = 65_536;

/// Over how many tokens a gap between token events is shared out.
#[derive(Clone, Copy, Debug)]
enum Share {
    /// One, so it is nearly always, and a division is not cheap.
    One,
    /// As many as the server counted.
    Counted(NonZeroU32),
    /// As many as an event of the reply has on average.
    Estimated(f64),
}

impl Share {
    /// The latency of each token, and their number.
    fn of(self, gap: Duration) -> (Duration, u32) {
        match self {
            Self::One => (gap, 1),
            Self::Counted(tokens) => (gap / tokens.get(), tokens.get().min(MAX_TOKENS_PER_EVENT)),
            Self::Estimated(tokens) => {
                (gap.div_f64(tokens), (tokens.round() as u32).min(MAX_TOKENS_PER_EVENT))
            }
        }
    }

    /// What the latencies of its tokens add up to, as a part of the gap: all of it but for rounding.
    fn part(self) -> f64 {
        match self {
            Self::One => 1.0,
            Self::Counted(tokens) => f64::from(self.of(Duration::ZERO).1) / f64::from(tokens.get()),
            Self::Estimated(tokens) => f64::from(self.of(Duration::ZERO).1) / tokens,
        }
    }

    /// Nanoseconds by which a latency may be rounded down.
    fn rounding(self) -> u64 {
        u64::from(!matches!(self, Self::One))
    }
}

impl Record {
    /// Whether the request succeeded.
    pub fn is_success(&self) -> bool {
        self.outcome == Outcome::Success
    }

    /// The failure, if it is one.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.outcome {
            Outcome::Success => None,
            Outcome::Failed(failure) => Some(failure),
        }
    }

    /// Whether it left at all: not so where it was due and the run ended first. Its moments are those of that end then,
    /// but for `due`.
    pub fn was_started(&self) -> bool {
        self.failure().is_none_or(|failure| failure.kind != FailureKind::NotSent)
    }

    /// A request that was due and never left, for the run ended at this moment.
    pub fn not_sent(id: u64, phase: Phase, due: Moment, ended: Moment) -> Self {
        let failure = Failure::new(FailureKind::NotSent, "the run ended before a thread was free for it");
        Self {
            id,
            phase,
            outcome: Outcome::Failed(failure),
            status: None,
            moments: Moments {
                due,
                taken: ended,
                started: ended,
                sent: None,
                sent_latest: None,
                sent_whole: None,
                first_byte: None,
                first_event: None,
                end: ended,
                end_earliest: ended,
            },
            connection: Connection::default(),
            token_events: vec![],
            stream: None,
            events: 0,
            reads: 0,
            read_delays: vec![],
            unstamped_reads: 0,
            usage: Usage::default(),
            finish_reason: None,
            bytes_sent: 0,
            bytes_received: 0,
            server_timings: vec![],
            stood_still: Duration::ZERO,
            arrivals: 1,
            response: None,
        }
    }

    /// How late the request left: `started − due`.
    pub fn lag(&self) -> Duration {
        self.moments.started.since(self.moments.due)
    }

    /// Whether no worker was free when it was due, so that it left late.
    pub fn found_no_worker(&self) -> bool {
        self.moments.taken > self.moments.due
    }

    /// Response time to first token: from `due`, so that lag and connecting are in it. `None` as for
    /// [`ttft`](Self::ttft).
    pub fn response_ttft(&self) -> Option<Duration> {
        Some(self.token_span()?.0.at.since(self.moments.due))
    }

    /// Response time: from `due` to where [`e2e`](Self::e2e) ends. `None` unless the request succeeded.
    pub fn response_e2e(&self) -> Option<Duration> {
        Some(self.last_token().since(self.moments.due)).filter(|_| self.is_success())
    }

    /// The last event that bore tokens, or the reply's end where there is none.
    fn last_token(&self) -> Moment {
        self.token_span().map_or(self.moments.end, |(_, last)| last.at)
    }

    /// First and last event that bore tokens. `None` for replies that were not streamed.
    fn token_span(&self) -> Option<(TokenEvent, TokenEvent)> {
        Some((*self.token_events.first()?, *self.token_events.last()?))
    }

    fn after_sent(&self, moment: Option<Moment>) -> Option<Duration> {
        Some(moment?.since(self.moments.sent?))
    }

    /// End-to-end latency: from `sent` to the last event that bore tokens, or to the reply's end where it was not
    /// streamed. `None` unless the request succeeded.
    pub fn e2e(&self) -> Option<Duration> {
        if !self.is_success() {
            return None;
        }
        self.after_sent(Some(self.last_token()))
    }

    /// Time to first token: from `sent` to the first event with non-empty content, reasoning or tool call.
    /// `None` where none came or the reply was not streamed.
    pub fn ttft(&self) -> Option<Duration> {
        self.after_sent(self.token_span().map(|(first, _)| first.at))
    }

    /// Time to first byte of the reply, from `sent`.
    pub fn ttfb(&self) -> Option<Duration> {
        self.after_sent(self.moments.first_byte)
    }

    /// Time to the first event of the stream of any kind, from `sent`.
    pub fn ttfe(&self) -> Option<Duration> {
        self.after_sent(self.moments.first_event)
    }

    /// Connecting: name lookup, TCP and TLS together. `None` on a reused connection.
    pub fn connect(&self) -> Option<Duration> {
        let c = &self.connection;
        c.tcp.map(|tcp| tcp + c.dns.unwrap_or_default() + c.tls.unwrap_or_default())
    }

    /// Output tokens per token event, the first of each left out. `None` without `usage` or below two token events.
    pub fn tokens_per_event(&self) -> Option<f64> {
        let gaps = self.token_events.len().checked_sub(1).filter(|n| *n > 0)?;
        let output = self.usage.output_tokens?;
        Some(output.saturating_sub(1) as f64 / gaps as f64)
    }

    /// The output tokens as they came in: each event bears those that the server counted in it, the last one also those
    /// that came without text after it (end of text); or the reply's are shared out evenly where it did not count in every
    /// event, one to the first. All at once where there is no second event. Never more than the reply's, whatever its events
    /// say; nothing without `usage`.
    pub fn token_arrivals(&self) -> impl Iterator<Item = (Moment, f64)> + '_ {
        let each = self.tokens_per_event();
        let output = self.usage.output_tokens;
        let is_counted = self.token_events.iter().all(|event| event.tokens.is_some())
            && output.is_some_and(|output| self.counted_tokens() <= output);
        let at = self.token_events.first().map_or(self.moments.end, |event| event.at);
        let at_once = self.usage.output_tokens.filter(|_| each.is_none()).map(|output| (at, output as f64));
        let uncounted =
            output.filter(|_| is_counted).unwrap_or_default().saturating_sub(self.counted_tokens());
        let at_first = output.unwrap_or_default().min(1) as f64;
        let last = self.token_events.len().saturating_sub(1);
        let shared = each.map(|each| {
            self.token_events.iter().enumerate().map(move |(number, event)| {
                let tokens = match event.tokens {
                    Some(tokens) if is_counted => f64::from(tokens.get()),
                    _ if number == 0 => at_first,
                    _ => each,
                };
                let rest = if number == last { uncounted as f64 } else { 0.0 };
                (event.at, tokens + rest)
            })
        });
        at_once.into_iter().chain(shared.into_iter().flatten())
    }

    /// Tokens by the counts of the events.
    fn counted_tokens(&self) -> u64 {
        self.token_events.iter().filter_map(|event| event.tokens).map(|tokens| u64::from(tokens.get())).sum()
    }

    /// Whether the reply's `usage` counts fewer tokens than its events do, or than there are events that bore text: one of the
    /// two is wrong. Deltas of tool calls do not tell, for servers cut them as they like.
    pub fn contradicts_its_events(&self) -> bool {
        let Some(output) = self.usage.output_tokens else { return false };
        let calls_tools = self.stream.is_some_and(|stream| stream.tool_calls);
        let events = if calls_tools { 0 } else { self.token_events.len() as u64 };
        output < events.max(self.counted_tokens())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn event(ms: u64, tokens: u32) -> TokenEvent {
        TokenEvent::new(Arrival::exact(at(ms)), NonZeroU32::new(tokens))
    }

    /// Due at 0, started at 5, sent at 10 and ended at 500 ms.
    fn record(token_events: Vec<TokenEvent>, output_tokens: Option<u64>) -> Record {
        Record {
            outcome: Outcome::Success,
            status: Some(200),
            moments: Moments {
                due: at(0),
                taken: at(2),
                started: at(5),
                sent: Some(at(10)),
                sent_latest: Some(at(10)),
                sent_whole: Some(at(11)),
                first_byte: Some(at(20)),
                first_event: Some(at(30)),
                end: at(500),
                end_earliest: at(500),
            },
            token_events,
            usage: Usage { output_tokens, ..Usage::default() },
            ..Record::not_sent(0, Phase::Measured, at(0), at(500))
        }
    }

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    #[test]
    fn every_latency_starts_where_its_definition_says() {
        let record = record(vec![event(110, 0), event(150, 0), event(210, 0)], Some(3));
        assert_eq!(record.lag(), Duration::from_millis(5));
        assert!(record.found_no_worker());
        assert_eq!((record.response_ttft(), record.response_e2e()), (ms(110), ms(210)));
        assert_eq!(record.ttfb(), ms(10));
        assert_eq!(record.ttfe(), ms(20));
        assert_eq!(record.ttft(), ms(100));
        assert_eq!(record.e2e(), ms(200));
        assert_eq!(record.tpot(), ms(50));
        assert_eq!(record.connect(), None);
    }

    #[test]
    fn a_reply_that_was_not_streamed_has_latency_and_no_token_times() {
        let record = record(vec![], Some(32));
        assert_eq!(record.e2e(), ms(490));
        assert_eq!((record.ttft(), record.tpot()), (None, None));
        assert_eq!(record.itl().1.count(), 0);
    }

    #[test]
    fn a_failure_has_no_latency() {
        let mut record = record(vec![event(110, 0)], None);
        record.outcome = Outcome::Failed(Failure::new(FailureKind::TruncatedBody, ""));
        assert_eq!(record.e2e(), None);
        assert_eq!(record.ttft(), ms(100));
    }

    #[test]
    fn one_token_has_no_time_per_output_token() {
        assert_eq!(record(vec![event(110, 0)], Some(1)).tpot(), None);
        assert_eq!(record(vec![event(110, 3)], Some(3)).tpot(), None);
        assert_eq!(record(vec![event(110, 0)], Some(2)).tpot(), None);
        assert_eq!(record(vec![event(110, 0), event(120, 0)], None).tpot(), None);
    }

    fn itl(record: &Record) -> (ItlSource, Vec<(u64, u32)>) {
        let (source, gaps) = record.itl();
        (source, gaps.map(|(gap, tokens)| (gap.as_millis() as u64, tokens)).collect())
    }

    #[test]
    fn counted_tokens_share_their_gap() {
        let record = record(vec![event(100, 1), event(160, 3), event(180, 1)], Some(5));
        assert_eq!(itl(&record), (ItlSource::Counted, vec![(20, 3), (20, 1)]));
        assert_eq!(record.tpot(), ms(20));
    }

    #[test]
    fn uncounted_tokens_are_estimated_and_say_so() {
        let several = record(vec![event(100, 0), event(130, 0), event(160, 0)], Some(7));
        assert_eq!(itl(&several), (ItlSource::Estimated, vec![(10, 3), (10, 3)]));
        // the end of text is counted and makes no event
        let one_each = record((0..4).map(|i| event(100 + 30 * i, 0)).collect(), Some(5));
        assert_eq!(itl(&one_each), (ItlSource::Estimated, vec![(30, 1); 3]));
    }

    #[test]
    fn without_usage_gaps_are_what_is_known() {
        let record = record(vec![event(100, 0), event(130, 0)], None);
        assert_eq!(itl(&record), (ItlSource::Events, vec![(30, 1)]));
        assert_eq!(record.tokens_per_event(), None);
        assert_eq!(record.token_arrivals().count(), 0);
    }

    #[test]
    fn a_count_that_no_server_bundles_does_not_outweigh_the_others() {
        let estimated = record(vec![event(100, 0), event(130, 0)], Some(u64::MAX));
        assert_eq!(itl(&estimated).1, [(0, 65_536)]);
        let counted = record(vec![event(100, 1), event(130, u32::MAX)], Some(9));
        assert_eq!(itl(&counted).1, [(0, 65_536)]);
    }

    #[test]
    fn usage_may_contradict_the_events() {
        let check = |token_events, output, want| {
            assert_eq!(record(token_events, output).contradicts_its_events(), want, "{output:?}");
        };
        let uncounted = || vec![event(100, 0), event(130, 0), event(160, 0)];
        check(uncounted(), Some(0), true);
        check(uncounted(), Some(2), true);
        check(uncounted(), Some(3), false);
        check(uncounted(), None, false);
        check(vec![event(100, 2), event(130, 3)], Some(4), true);
        check(vec![event(100, 2), event(130, 3)], Some(6), false);
        let calls = StreamFacts { tool_calls: true, ..StreamFacts::default() };
        let tools = Record { stream: Some(calls), ..record(uncounted(), Some(2)) };
        assert!(!tools.contradicts_its_events());
    }

    #[test]
    fn tokens_come_in_with_their_events() {
        let check = |token_events, output, want: &[(u64, f64)]| {
            let record = record(token_events, output);
            let arrivals: Vec<_> = record.token_arrivals().collect();
            let want: Vec<_> = want.iter().map(|(ms, tokens)| (at(*ms), *tokens)).collect();
            assert_eq!(arrivals, want);
        };
        check(vec![event(100, 2), event(160, 3)], Some(5), &[(100, 2.0), (160, 3.0)]);
        let uncounted = || vec![event(100, 0), event(130, 0), event(160, 0)];
        check(uncounted(), Some(7), &[(100, 1.0), (130, 3.0), (160, 3.0)]);
        // a count in some events is of no use
        check(
            vec![event(100, 2), event(130, 0), event(160, 9)],
            Some(7),
            &[(100, 1.0), (130, 3.0), (160, 3.0)],
        );
        // no more than there were
        check(uncounted(), Some(0), &[(100, 0.0), (130, 0.0), (160, 0.0)]);
        check(vec![event(100, 40), event(160, 60)], Some(3), &[(100, 1.0), (160, 2.0)]);
        check(vec![event(100, 0)], Some(4), &[(100, 4.0)]);
        check(vec![], Some(4), &[(500, 4.0)]);
        check(uncounted(), None, &[]);
    }
}
