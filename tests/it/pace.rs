//! TPOT and ITL of replies in which not every token makes an event: replies of a real server, played with the times at
//! which they came, against the server's own mean inter-token latency.

use std::sync::OnceLock;
use std::time::Duration;

use vllm_loadgen::backend::{Backend, Chunk, Exchange, Head, Request, Trace};
use vllm_loadgen::clock::{Arrival, Clock, ManualClock, stop_pair};
use vllm_loadgen::engine::{self, Setup};
use vllm_loadgen::heartbeat::Beats;
use vllm_loadgen::plan::{Extent, Load};
use vllm_loadgen::priority::Priority;
use vllm_loadgen::record::{ItlSource, TpotSource};
use vllm_loadgen::wire::Dialect::{self, Chat, Completions};
use vllm_loadgen::{Record, Sink};

use super::captures::{folder, without_chunks};

/// Plays one captured exchange: each part of it at the moment at which it came.
struct Replay<'a> {
    clock: &'a ManualClock,
    /// The reply's bytes with its head, and when and how many of them came.
    bytes: Vec<u8>,
    parts: Vec<(Duration, usize)>,
    counts: Counts,
}

/// Whether a reply's events have the server's count of tokens so far, if it gave one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Counts {
    AsCaptured,
    TakenOut,
}

impl<'a> Replay<'a> {
    fn load(name: &str, counts: Counts, clock: &'a ManualClock) -> Self {
        let bytes = std::fs::read(folder().join(format!("{name}.http"))).expect(name);
        let times = std::fs::read_to_string(folder().join(format!("{name}.times.tsv"))).expect(name);
        let part = |line: &str| {
            let mut columns = line.split('\t');
            let ms: f64 = columns.next()?.parse().ok()?;
            let [offset, length] =
                [columns.next()?, columns.next()?].map(|column| column.parse::<usize>().ok());
            Some((Duration::from_secs_f64(ms / 1e3), offset? + length?))
        };
        let parts = times.lines().filter_map(part).collect();
        Self { clock, bytes, parts, counts }
    }
}

impl Backend for Replay<'_> {
    fn stream(&mut self, _request: &Request, on_chunk: &mut dyn FnMut(Chunk<'_>)) -> Exchange {
        let sent = Some(self.clock.now());
        let mut trace = Trace { sent, sent_whole: sent, ..Trace::default() };
        let head = self.bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let (mut past, mut given) = (Duration::ZERO, 0);
        for (at, end) in &self.parts {
            self.clock.advance(*at - past);
            past = *at;
            if trace.first_byte.is_none() {
                trace.first_byte = Some(self.clock.now());
                let headers = [("content-type", "text/event-stream")];
                on_chunk(Chunk::Head(Head { status: 200, headers: &headers }));
            }
            let mut body = without_chunks(&self.bytes[head..head.max(*end)]);
            if self.counts == Counts::TakenOut {
                body = without_counts(&body);
            }
            if body.len() > given {
                let arrival = Arrival::exact(self.clock.now());
                on_chunk(Chunk::Body { arrival, bytes: &body[given..] });
                given = body.len();
            }
        }
        Exchange { trace, result: Ok(()) }
    }
}

/// The whole events of a stream, those with choices without their usage.
fn without_counts(body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let mut out = String::new();
    for event in text.split_inclusive("\n\n").filter(|event| event.ends_with("\n\n")) {
        match event.split_once(r#","usage":{"#).filter(|_| event.contains(r#""choices":[{"#)) {
            Some((before, _)) => out.extend([before, "}\n\n"]),
            None => out.push_str(event),
        }
    }
    out.into_bytes()
}

#[derive(Default)]
struct Last(Option<Record>);

impl Sink for Last {
    fn record(&mut self, record: &Record) {
        self.0 = Some(record.clone());
    }
}

fn replayed(name: &str, dialect: Dialect, counts: Counts) -> Record {
    let clock = ManualClock::default();
    let (_stopper, stop) = stop_pair();
    let mut last = Last::default();
    let setup = Setup {
        request: &|_| Request { id: String::new(), body: b"{}".to_vec().into() },
        backend: &|| Box::new(Replay::load(name, counts, &clock)),
        lead: Duration::ZERO,
        dialect,
        secrets: &[],
        seed: 7,
        clock: &clock,
        stop: &stop,
        stopped_as: &OnceLock::new(),
        fail_on_length: false,
        save_responses: false,
        backoff: false,
        priority: Priority::Normal,
        beats: &Beats::default(),
    };
    let load = Load {
        threads: std::num::NonZeroUsize::MIN,
        arrivals: None,
        completions: Some(std::num::NonZeroU64::MIN),
        duration: None,
        warmup: Extent::NONE,
        cooldown: Extent::NONE,
        grace: None,
    };
    engine::run(&load, &setup, &mut [&mut last]).expect("a thread can be started");
    last.0.expect("one request")
}

/// Name, dialect, the counts in its events, where TPOT and ITL are known from.
#[rustfmt::skip]
const REPLIES: &[(&str, Dialect, Counts, TpotSource, ItlSource)] = {
    use Counts::{AsCaptured, TakenOut};
    use ItlSource::{Counted as ItlCounted, Estimated, Events, Unknown as ItlUnknown};
    use TpotSource::{Counted, Text, Unknown, Whole};
    &[
        // every token makes an event, but for the end of text
        ("A_chat_stream_usage", Chat, AsCaptured, Text, Estimated),
        ("B_chat_no_thinking_stream", Chat, AsCaptured, Text, Estimated),
        ("B_tool_auto_text_answer_stream", Chat, AsCaptured, Text, Estimated),
        ("B_cmpl_stream_usage_own_reqid", Completions, AsCaptured, Text, Estimated),
        ("B_cmpl_stream_continuous", Completions, AsCaptured, Counted, ItlCounted),
        ("B_cmpl_stream_continuous", Completions, TakenOut, Text, Estimated),
        // most tokens are parts of characters: events without text
        ("A_cmpl_stream_utf8_bytes", Completions, AsCaptured, Counted, ItlCounted),
        ("A_cmpl_stream_utf8_bytes", Completions, TakenOut, Text, Estimated),
        // five tokens an event
        ("C_interval5_stream", Completions, AsCaptured, Counted, ItlCounted),
        ("C_interval5_stream", Completions, TakenOut, Text, Estimated),
        // the first and one in the middle make no event
        ("B_chat_reasoning_stream", Chat, AsCaptured, Whole, Estimated),
        ("B_chat_reasoning_stream_continuous", Chat, AsCaptured, Counted, ItlCounted),
        ("B_chat_reasoning_stream_continuous", Chat, TakenOut, Whole, Estimated),
        // the syntax of tool calls makes none
        ("B_tool_auto_stream", Chat, AsCaptured, Whole, ItlUnknown),
        ("B_tool_named_stream", Chat, AsCaptured, Whole, ItlUnknown),
        ("B_tool_auto_thinking_stream", Chat, AsCaptured, Counted, ItlCounted),
        ("B_tool_auto_thinking_stream", Chat, TakenOut, Whole, ItlUnknown),
        // reasoning that is not shown makes none
        ("B_chat_include_reasoning_false_stream", Chat, AsCaptured, Counted, ItlCounted),
        ("B_chat_include_reasoning_false_stream", Chat, TakenOut, Whole, ItlUnknown),
        // two choices: shown in full, and tool calls
        ("A_cmpl_stream_n2", Completions, AsCaptured, Text, Estimated),
        ("B_tool_parallel_n2_stream", Chat, AsCaptured, Unknown, ItlUnknown),
        // no usage
        ("A_cmpl_stream", Completions, AsCaptured, Unknown, Events),
    ]
};

#[test]
fn what_is_known_of_the_time_between_tokens_is_known_from_the_right_source() {
    for (name, dialect, counts, tpot, itl) in REPLIES {
        let record = replayed(name, *dialect, *counts);
        assert!(record.is_success(), "{name}: {record:?}");
        assert_eq!((record.tpot_source(), record.itl().0), (Some(*tpot), *itl), "{name}, {counts:?}");
        assert_eq!(record.tpot().is_none(), *tpot == TpotSource::Unknown, "{name}, {counts:?}");
        assert_eq!(record.itl().1.next().is_none(), *itl == ItlSource::Unknown, "{name}, {counts:?}");
    }
}

#[test]
fn times_per_token_are_the_servers_own_or_unknown() {
    let mut compared = 0;
    for (name, dialect, counts, ..) in REPLIES {
        let record = replayed(name, *dialect, *counts);
        let told = record.server_timings.iter().find(|(name, _)| name == "metrics.mean_itl_ms");
        let Some((_, truth)) = told else { continue };
        let (latencies, tokens) = record.itl().1.fold((0.0, 0), |(sum, count), (latency, tokens)| {
            (sum + latency.as_secs_f64() * 1e3 * f64::from(tokens), count + tokens)
        });
        let itl = (tokens > 0).then(|| latencies / f64::from(tokens));
        let tpot = record.tpot().map(|tpot| tpot.as_secs_f64() * 1e3);
        for (what, ms) in [("TPOT", tpot), ("ITL", itl)] {
            let Some(ms) = ms else { continue };
            println!("{name}, {counts:?}: {what} {:.3}", ms / truth);
            assert!((ms / truth - 1.0).abs() < 0.05, "{name}: {what} is {ms} ms, the server's {truth} ms");
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared}");
}

#[test]
fn two_choices_have_gaps_of_their_own() {
    let record = replayed("A_cmpl_stream_n2", Completions, Counts::AsCaptured);
    // 16 tokens each, one of which has no text; the two come together every 5 ms
    let gaps: Vec<_> = record.gaps().collect();
    assert_eq!((gaps.len(), record.token_events.len()), (29, 31));
    assert!(gaps.iter().all(|gap| *gap > Duration::from_millis(3)), "{gaps:?}");
    let tpot = record.tpot().expect("known");
    assert!((Duration::from_millis(4)..Duration::from_millis(6)).contains(&tpot), "{tpot:?}");
}
