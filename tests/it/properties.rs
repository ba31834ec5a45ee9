//! What must hold for whatever comes from outside: bytes from a server, words from a user. The suite tries some inputs;
//! the fuzzer in `fuzz/` borrows this file and looks for those that nobody thought of.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use vllm_loadgen::analysis::{Change, ComparedRun, Comparison, Ending, Trend, estimate};
use vllm_loadgen::backend::{Backend, Chunk, Client, Endpoint, Network, Request, Settings};
use vllm_loadgen::cli::{self, Order, Surroundings};
use vllm_loadgen::failure::FailureKind;
use vllm_loadgen::observe::prometheus::samples;
use vllm_loadgen::observe::{Reading, ServerWindow, timing_header};
use vllm_loadgen::plan::{Draft, Metric};
use vllm_loadgen::rebuild;
use vllm_loadgen::report::{
    self, Better, Compared, ComparisonReport, DetailLog, TrendReport, TrendRun, TrendSeries,
};
use vllm_loadgen::wire::{Answer, Dialect, Event, Form, ReplyReader, error_message, model_ids};
use vllm_loadgen::{Error, Record, Report, Sink};

/// A stream is read alike however it is cut, and its counts fit together. The first two bytes say how it is cut and
/// which dialect it is.
pub fn stream(bytes: &[u8]) {
    let [cut, dialect, body @ ..] = bytes else { return };
    let dialect = if dialect % 2 == 0 { Dialect::Chat } else { Dialect::Completions };
    let whole = read(dialect, Form::Stream, body, body.len());
    assert_eq!(read(dialect, Form::Stream, body, usize::from(*cut) + 1), whole);
    let (events, answer) = whole;
    let with_tokens = events.iter().filter(|event| event.tokens.is_some()).count() as u64;
    assert_eq!(answer.token_events, with_tokens);
    assert!(answer.events <= events.len() as u64, "{answer:?}");
    sound(&answer);
}

/// A reply in one piece gives one event and an answer; whatever a server says to other questions is read or refused.
pub fn reply(bytes: &[u8]) {
    for dialect in [Dialect::Chat, Dialect::Completions] {
        let (events, answer) = read(dialect, Form::Whole, bytes, 7);
        assert_eq!((events.len(), answer.events), (1, 1));
        sound(&answer);
    }
    let message = error_message(bytes);
    assert!(!message.is_empty() && !message.chars().any(char::is_control), "{message:?}");
    let _ = model_ids(bytes);
    let text = String::from_utf8_lossy(bytes);
    let (name, value) = text.split_once(':').unwrap_or(("server-timing", &text));
    for (name, value) in timing_header(name, value) {
        assert!(value.is_finite(), "{name} {value}");
    }
}

/// What a server sends before it closes comes to the same end whatever segments it comes in, and on a connection that has
/// served a request too, and with the same bytes if it is a reply. The first two bytes say where it is cut.
pub fn exchange(bytes: &[u8]) {
    let [high, low, reply @ ..] = bytes else { return };
    let cut = usize::from(u16::from_be_bytes([*high, *low])) % (reply.len() + 1);
    let (body, status, end) = received(Kept::No, &[reply]);
    let (cut_body, cut_status, cut_end) = received(Kept::No, &[&reply[..cut], &reply[cut..]]);
    assert_eq!((cut_status, cut_end), (status, end));
    assert_eq!(cut_body, body);
    // without a byte of a reply a kept connection is a stale one
    if !reply.is_empty() {
        assert_eq!(received(Kept::Yes, &[reply]), (body, status, end));
        assert_eq!(received(Kept::Yes, &[&reply[..cut], &reply[cut..]]), (cut_body, cut_status, cut_end));
    }
}

/// Whether the connection has served a request before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    No,
    Yes,
}

/// The body and the end of a reply that a server sends in these parts.
fn received(kept: Kept, parts: &[&[u8]]) -> (Vec<u8>, Option<u16>, Result<(), FailureKind>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let settings = Settings {
        endpoint: Endpoint::parse(&url, None).expect("a URL"),
        key: None,
        key_is_for: None,
        headers: vec![],
        connect_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
        timeout: Duration::from_secs(60),
        network: Network::default(),
    };
    let (mut body, mut status) = (Vec::new(), None);
    let exchange = thread::scope(|scope| {
        scope.spawn(move || {
            let stream = listener.accept().expect("a client").0;
            if kept == Kept::Yes {
                send(&stream, &[b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]);
            }
            send(&stream, parts);
        });
        let mut backend = Client::new(settings).expect("valid settings").backend();
        let request = Request { id: "t-0".to_owned(), body: b"{}".to_vec().into() };
        if kept == Kept::Yes {
            assert_eq!(backend.stream(&request, &mut |_| ()).result, Ok(()));
        }
        backend.stream(&request, &mut |chunk| match chunk {
            Chunk::Head(head) => status = Some(head.status),
            Chunk::Body { bytes, .. } => body.extend_from_slice(bytes),
        })
    });
    (body, status, exchange.result.map_err(|failure| failure.kind))
}

/// Reads a request, whose body is `{}`, answers and closes.
fn send(mut stream: &TcpStream, parts: &[&[u8]]) {
    let _ = stream.set_nodelay(true);
    let mut seen = Vec::new();
    let mut space = [0; 4096];
    while !seen.ends_with(b"{}") {
        match stream.read(&mut space) {
            Ok(size @ 1..) => seen.extend_from_slice(&space[..size]),
            _ => return,
        }
    }
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            // so that the client has most likely read what came before
            thread::sleep(Duration::from_micros(200));
        }
        // the client may have enough
        let _ = stream.write_all(part);
    }
}

/// A failure is a failure, and figures are numbers.
fn sound(answer: &Answer) {
    assert!(answer.server_timings.iter().all(|(_, value)| value.is_finite()), "{answer:?}");
    let has_tokens = answer.token_events > 0 || answer.usage.output_tokens.unwrap_or(0) > 0;
    assert!(answer.failure.is_some() || has_tokens, "{answer:?}");
}

fn read(dialect: Dialect, form: Form, body: &[u8], size: usize) -> (Vec<Event>, Answer) {
    let mut reader = ReplyReader::new(dialect, form);
    let mut events = Vec::new();
    for part in body.chunks(size.max(1)) {
        reader.push(part, &mut |event| events.push(event));
    }
    let answer = reader.finish(&mut |event| events.push(event));
    (events, answer)
}

/// A config file is read or its mistakes are told, each with place and problem; what is read makes plans or mistakes.
pub fn config(text: &str) {
    match cli::config::parse(Path::new("c.json"), text) {
        Ok(draft) => plans(&draft),
        Err(mistakes) => assert!(!mistakes.is_empty()),
    }
}

/// A result or a record log makes a report that can be written, or is refused.
pub fn saved(bytes: &[u8]) {
    struct Count(u64);

    impl Sink for Count {
        fn record(&mut self, _: &Record) {
            self.0 += 1;
        }
    }

    let mut records = Count(0);
    if let Ok(report) = rebuild::read(bytes, &mut [&mut records]) {
        let requests = &report.summary.requests;
        let counted = requests.sent + requests.warmup + requests.cooldown;
        assert!(records.0 == 0 || counted == records.0);
        let mut out = Vec::new();
        report::write_json(&report, None::<&mut DetailLog>, &mut out).expect("a vector takes all");
        report::print_report(&report, true, &mut out).expect("a vector takes all");
        report::write_csv([&report], &mut out).expect("a vector takes all");
        report::write_junit([&report.clone().judged()], &mut out).expect("a vector takes all");
        compared(&report);
        over_time(&report);
    }
}

/// A report as a series of itself, in every form.
fn over_time(report: &Report) {
    let figures = |metric| vec![estimate(metric, &report.plan.load, &report.summary); 9];
    let series = TrendSeries {
        plan_hash: report.plan.hash.clone(),
        scenario: report.plan.scenario.clone(),
        model: report.plan.request.model.clone(),
        load: report.plan.load.to_string(),
        runs: vec![TrendRun::new("a|b.json".to_owned(), report); 9],
        metrics: Metric::DEFAULTS.iter().map(|m| Trend::new(*m, figures(*m), &[true; 9], 0.1)).collect(),
    };
    assert!(series.metrics.iter().all(|trend| trend.changes.is_empty()));
    let trend = TrendReport::new(0.1, None, vec![series], vec![]);
    let mut out = Vec::new();
    report::print_trend(&trend, true, &mut out).expect("a vector takes all");
    report::write_trend_html(&trend, &mut out).expect("a vector takes all");
    report::write_trend_markdown(&trend, &mut out).expect("a vector takes all");
    report::write_trend_csv(&trend, &mut out).expect("a vector takes all");
    report::write_trend_json(&trend, &mut out).expect("a vector takes all");
}

/// A report against itself, in every form.
fn compared(report: &Report) {
    let run = ComparedRun { load: &report.plan.load, summary: &report.summary, ending: Ending::Planned };
    for runs in [1, 2, 4] {
        let runs = vec![run; runs];
        let comparison = Comparison::new(&runs, &runs, &Metric::DEFAULTS, true, 0.1);
        assert!(!matches!(comparison.verdict, Change::Better | Change::Worse));
        let side = vec![Compared::new("a|b.json".to_owned(), report)];
        let comparison = ComparisonReport::new(side.clone(), side, vec![], vec![], comparison);
        let mut out = Vec::new();
        report::print_comparison(&comparison, true, &mut out).expect("a vector takes all");
        report::write_comparison_markdown(&comparison, &mut out).expect("a vector takes all");
        report::write_comparison_json(&comparison, &mut out).expect("a vector takes all");
        report::write_comparison_junit(&comparison, &mut out).expect("a vector takes all");
        report::write_bencher(&comparison, &mut out).expect("a vector takes all");
        report::write_github_benchmark(&comparison, Better::Smaller, &mut out).expect("a vector takes all");
    }
}

/// Words, one a line, make an order or mistakes.
pub fn flags(text: &str) {
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    if words.iter().any(|word| word.starts_with("--config") || word.starts_with("-c")) {
        // a file of the machine
        return;
    }
    let around = Surroundings { variable: &|_| None, read: &|_| Ok("key".to_owned()), default_config: None };
    match cli::parse(&words, &around) {
        Ok(Order::Run(order)) => plans(&order.draft),
        Ok(Order::Simulate(order)) => assert_eq!(order.behavior.check(), Ok(())),
        Ok(Order::Report(order)) => assert!(!order.files.is_empty()),
        Ok(Order::Export(order)) => assert!(!order.files.is_empty()),
        Ok(Order::Compare(order)) => assert!(!order.base.is_empty() && !order.new.is_empty()),
        Ok(Order::Trend(order)) => assert!(!order.paths.is_empty()),
        Ok(Order::Selftest(order)) => assert!(!order.settings.trials().is_empty()),
        Ok(Order::Print(text)) => assert!(!text.is_empty()),
        Err(Error::Usage(mistakes)) => assert!(!mistakes.is_empty()),
        Err(other) => panic!("{other}"),
    }
}

fn plans(draft: &Draft) {
    match draft.check(&mut |_| Ok("model".to_owned())) {
        Ok(suite) => assert!(!suite.plans.is_empty()),
        Err(Error::Usage(mistakes)) => assert!(!mistakes.is_empty()),
        Err(other) => panic!("{other}"),
    }
}

/// Text from `/metrics` is read or refused; two readings, parted by a zero byte, make a window that can be written.
pub fn metrics(text: &str) {
    let _ = samples(text).count();
    let (before, after) = text.split_once('\0').unwrap_or((text, text));
    let (Ok(before), Ok(after)) = (Reading::parse(before), Reading::parse(after)) else { return };
    if let Ok(window) = ServerWindow::between(&before, &after) {
        assert!(serde_json::to_string(&window).is_ok());
    }
}

#[cfg(test)]
mod suite {
    use proptest::prelude::*;

    /// Pieces in any order, joined.
    fn pieces(of: &[&'static str]) -> impl Strategy<Value = String> + use<> {
        proptest::collection::vec(proptest::sample::select(of.to_vec()), 0..12)
            .prop_map(|pieces| pieces.concat())
    }

    const JSON: [&str; 22] = [
        "{\"choices\":[{\"text\":\"a\"}]}",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"choices\"",
        "\"delta\"",
        "\"content\"",
        "\"usage\"",
        "\"completion_tokens\"",
        "\"error\"",
        "\"message\"",
        "\"finish_reason\"",
        "\"stop\"",
        "null",
        "1e999",
        "-1",
        "\"\\ud800\"",
        "ü",
        " ",
    ];
    const STREAM: [&str; 12] = [
        "data: ",
        "data:",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        ": x\n\n",
        "data: [DONE]\n\n",
        "\u{feff}",
        "{\"choices\":[{\"text\":\"a\"}]}",
        "{\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}",
        "{\"error\":\"x\"}",
    ];
    const WORDS: [&str; 30] = [
        "--url\n",
        "http://h\n",
        "--threads\n",
        "--compare\n",
        "--stages\n",
        "--ramp-up\n",
        "1:2:3s\n",
        "10:30s\n",
        "--request-rate\n",
        "inf\n",
        "0\n",
        "1\n",
        "-1\n",
        "NaN\n",
        "1e400\n",
        "18446744073709551615\n",
        "--duration\n",
        "99999999h\n",
        "--behavior\n",
        "ttft=1s,fault=reset=5\n",
        "simulate\n",
        "--fault\n",
        "stall=0.5\n",
        "--header\n",
        "a: b\n",
        "--help\n",
        "-vv\n",
        "--extra-body\n",
        "{\"n\": 2}\n",
        "--health-limit\n",
    ];
    const HTTP: [&str; 22] = [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 503 No\r\n",
        "HTTP/1.1 204 No\r\n",
        "content-length: 2\r\n",
        "content-length: 12\r\n",
        "transfer-encoding: chunked\r\n",
        "connection: close\r\n",
        "\r\n",
        "\n",
        "{}",
        "2\r\n{}\r\n",
        "02;x=y\r\n{}\r\n",
        "2\r\n",
        "0\r\n\r\n",
        "0\r\nt: x\r\n\r\n",
        "fffffffffffffffff\r\n",
        "zz\r\n",
        ": ",
        "x",
        "\0",
    ];
    const METRICS: [&str; 14] = [
        "vllm:num_requests_running",
        "vllm:generation_tokens_total",
        "vllm:time_to_first_token_seconds_bucket",
        "{le=\"0.1\"}",
        "{le=\"+Inf\"}",
        "{engine=\"0\"}",
        " ",
        "1",
        "-1",
        "NaN",
        "1e308",
        "\n",
        "# TYPE x histogram\n",
        "\0",
    ];

    /// The log of a run of four requests, three of which failed.
    const LOG: &[u8] = include_bytes!("../data/record_log.jsonl");

    /// A byte in the middle of what looks like a value is as likely to be hit as any.
    fn changed(changes: Vec<(prop::sample::Index, u8)>) -> Vec<u8> {
        let mut log = LOG.to_vec();
        for (at, byte) in changes {
            let at = at.index(log.len());
            log[at] = byte;
        }
        log
    }

    fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
        let byte = prop_oneof![any::<u8>(), proptest::sample::select(b"0123456789-e.,:{}[]\"\n".to_vec())];
        proptest::collection::vec((any::<prop::sample::Index>(), byte), 0..6)
    }

    proptest! {
        #[test]
        fn any_record_log_makes_a_report_or_is_refused(changes in changes(), end: prop::sample::Index, bytes: Vec<u8>) {
            let log = changed(changes);
            super::saved(&log);
            super::saved(&log[..end.index(log.len())]);
            super::saved(&bytes);
        }

        #[test]
        fn any_stream_is_read_alike_however_it_is_cut(cut: u8, dialect: u8, text in pieces(&STREAM)) {
            super::stream(&[&[cut, dialect], text.as_bytes()].concat());
        }

        #[test]
        fn any_reply_is_an_answer_or_a_failure(text in pieces(&JSON), bytes: Vec<u8>) {
            super::reply(text.as_bytes());
            super::reply(&bytes);
        }

        #[test]
        fn any_reply_ends_alike_in_whatever_segments(at: u16, text in pieces(&HTTP), ok: bool) {
            let begin = if ok { "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" } else { "" };
            super::exchange(&[&at.to_be_bytes(), begin.as_bytes(), text.as_bytes()].concat());
        }

        #[test]
        fn any_config_file_is_read_or_refused(text in pieces(&JSON)) {
            super::config(&text);
        }

        #[test]
        fn any_words_make_an_order_or_mistakes(words in pieces(&WORDS)) {
            super::flags(&words);
        }

        #[test]
        fn any_metrics_are_read_or_refused(text in pieces(&METRICS)) {
            super::metrics(&text);
        }
    }
}
