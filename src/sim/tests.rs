//! The simulated server from outside, through plain sockets.

mod client;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::num::{NonZeroU64, NonZeroUsize};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use self::client::Client;
use super::{Behavior, Simulator};
use crate::clock::stop_pair;

/// Long enough to be a bug.
const STUCK: Duration = Duration::from_secs(60);
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(36_000);

fn start(behavior: Behavior) -> Simulator {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Simulator::start(behavior, address).expect("a free port on this machine")
}

fn one_slot(behavior: Behavior) -> Simulator {
    start(Behavior { slots: NonZeroUsize::MIN, ..behavior })
}

/// `fields` begin with a comma.
fn chat(fields: &str) -> String {
    format!(
        r#"{{"model":"simulated-model","messages":[{{"role":"user","content":"one two three"}}]{fields}}}"#
    )
}

fn completion(fields: &str) -> String {
    format!(r#"{{"model":"simulated-model","prompt":"one two three"{fields}}}"#)
}

const STREAM: &str = r#","stream":true"#;
const STREAM_WITH_USAGE: &str = r#","stream":true,"stream_options":{"include_usage":true}"#;
const EXACTLY_9: &str = r#","max_tokens":9,"ignore_eos":true"#;
/// As many as the server lets a client ask for.
const ENDLESS: &str = r#","max_tokens":131072,"ignore_eos":true,"stream":true"#;

fn endless_chat(client: &mut Client) {
    client.post("/v1/chat/completions", "", &chat(ENDLESS));
}

/// Returns once `is_so`; the caller knows that it comes to be so.
fn eventually(is_so: impl Fn() -> bool) {
    while !is_so() {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_chat_stream_ends_with_done() {
    let server = start(Behavior::flat_out());
    let got = Client::connect(&server).chat(&format!("{EXACTLY_9}{STREAM}"));
    assert_eq!(got.status, 200);
    assert!(got.head.contains("content-type: text/event-stream; charset=utf-8\r\n"), "{}", got.head);
    let events = got.events();
    // the role, the tokens, the end
    assert_eq!(events.len(), 1 + 9 + 1);
    assert!(events[0].contains(r#""delta":{"role":"assistant","content":""}"#), "{}", events[0]);
    assert!(events[9].contains(r#""finish_reason":"length""#), "{}", events[9]);
    assert_eq!(events[10], "[DONE]");
}

#[test]
fn usage_counts_what_was_asked_and_sent() {
    let server = start(Behavior::flat_out());
    let mut client = Client::connect(&server);
    for (got, prompt) in [
        (client.chat(&format!("{EXACTLY_9}{STREAM_WITH_USAGE}")).last_event(), 7),
        (client.complete(&format!("{EXACTLY_9}{STREAM_WITH_USAGE}")).last_event(), 3),
        (client.chat(EXACTLY_9).json(), 7),
        (client.complete(EXACTLY_9).json(), 3),
    ] {
        assert_eq!(got["usage"]["prompt_tokens"], prompt, "{got}");
        assert_eq!(got["usage"]["completion_tokens"], 9, "{got}");
        assert_eq!(got["usage"]["total_tokens"], prompt + 9, "{got}");
    }
}

#[test]
fn every_length_asked_for_is_met_exactly() {
    let server =
        start(Behavior { tokens_per_event: NonZeroUsize::new(4).expect("4"), ..Behavior::flat_out() });
    let mut client = Client::connect(&server);
    for tokens in 1..=20 {
        let fields = format!(r#","max_tokens":{tokens},"ignore_eos":true{STREAM_WITH_USAGE}"#);
        let got = client.complete(&fields);
        assert_eq!(got.last_event()["usage"]["completion_tokens"], tokens);
        // the first token alone, then four at a time, then the usage and the end
        let events = 1 + (tokens - 1_usize).div_ceil(4) + 2;
        assert_eq!(got.events().len(), events, "{tokens}");
        let text = |event: &&str| {
            let event: Value = serde_json::from_str(event).ok()?;
            event["choices"][0]["text"].as_str().map(str::to_owned)
        };
        let words: String = got.events().iter().filter_map(text).collect();
        assert_eq!(words.split_whitespace().count(), tokens);
    }
}

#[test]
fn an_answer_that_ends_by_itself_says_stop() {
    let server = start(Behavior { output_tokens: NonZeroU64::new(1), ..Behavior::flat_out() });
    let got = Client::connect(&server).complete("").json();
    assert_eq!(got["choices"][0]["finish_reason"], "stop");
    assert_eq!(got["choices"][0]["text"], "");
    assert_eq!(got["usage"]["completion_tokens"], 1);
}

#[test]
fn the_same_seed_gives_the_same_lengths() {
    let lengths = |seed, id: &str| {
        let server = start(Behavior { seed, ..Behavior::flat_out() });
        let mut client = Client::connect(&server);
        let mut length = |_| {
            client.post("/v1/chat/completions", id, &chat(""));
            client.read().json()["usage"]["completion_tokens"].as_u64().expect("a count")
        };
        (0..8).map(&mut length).collect::<Vec<_>>()
    };
    assert_eq!(lengths(1, ""), lengths(1, "X-Request-Id: mine\r\n"));
    assert_ne!(lengths(1, ""), lengths(2, ""));
}

#[test]
fn the_clients_id_becomes_the_answers() {
    let server = start(Behavior { keep_log: true, ..Behavior::flat_out() });
    let mut client = Client::connect(&server);
    client.post("/v1/chat/completions", "X-Request-Id: abc-123\r\n", &chat(EXACTLY_9));
    assert_eq!(client.read().json()["id"], "chatcmpl-abc-123");
    let served = server.served();
    assert_eq!((served.len(), served[0].request_id.as_str(), served[0].tokens), (1, "abc-123", 9));
    assert!(served[0].received <= served[0].first_token && served[0].first_token <= served[0].last_token);
}

#[test]
fn times_are_never_shorter_than_asked() {
    let (ttft, itl) = (Duration::from_millis(30), Duration::from_millis(5));
    let behavior = Behavior { ttft, itl, jitter: 0.0, keep_log: true, ..Behavior::default() };
    let server = start(behavior);
    let mut client = Client::connect(&server);
    client.chat(&format!("{EXACTLY_9}{STREAM}"));
    client.chat(EXACTLY_9);
    for served in server.served() {
        assert!(served.first_token.since(served.received) >= ttft, "{served:?}");
        assert!(served.last_token.since(served.received) >= ttft + itl * 8, "{served:?}");
    }
}

#[test]
fn the_log_has_a_moment_for_every_token_event() {
    let bundles = NonZeroUsize::new(4).expect("4 is not 0");
    let server = start(Behavior { tokens_per_event: bundles, keep_log: true, ..Behavior::flat_out() });
    let mut client = Client::connect(&server);
    client.chat(&format!("{EXACTLY_9}{STREAM_WITH_USAGE}"));
    client.chat(EXACTLY_9);
    let served = server.served();
    // one, four and four tokens; then an answer in one piece
    assert_eq!(served.iter().map(|served| served.written.len()).collect::<Vec<_>>(), [3, 1]);
    for served in served {
        assert!(served.written.is_sorted() && served.received <= served.written[0], "{served:?}");
    }
}

#[test]
fn one_connection_serves_many_requests() {
    let server = start(Behavior::flat_out());
    let mut client = Client::connect(&server);
    assert_eq!(client.chat(EXACTLY_9).status, 200);
    assert_eq!(client.chat(STREAM).status, 200);
    assert_eq!(client.get("/health").body, "");
    let two = "GET /version HTTP/1.1\r\nHost: h\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n";
    client.write(two);
    assert!(client.read().json()["version"].is_string());
    assert_eq!(client.read().json()["data"][0]["id"], "simulated-model");
}

#[test]
fn a_client_that_wants_to_close_is_closed() {
    let server = start(Behavior::flat_out());
    for request in [
        "GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET /health HTTP/1.0\r\nHost: h\r\n\r\n",
    ] {
        let mut client = Client::connect(&server);
        client.write(request);
        let got = client.read();
        assert!(got.head.contains("connection: close\r\n"), "{}", got.head);
        assert!(client.is_at_end());
    }
}

#[test]
fn an_idle_connection_is_closed_after_its_first_request() {
    let server = start(Behavior { keep_alive: Duration::from_millis(20), ..Behavior::flat_out() });
    let mut fresh = Client::connect(&server);
    let mut used = Client::connect(&server);
    used.get("/health");
    assert!(used.is_at_end());
    assert_eq!(fresh.get("/health").status, 200);
}

#[test]
fn a_slow_request_is_waited_for() {
    let server = start(Behavior { keep_alive: Duration::from_millis(400), ..Behavior::flat_out() });
    let mut client = Client::connect(&server);
    client.get("/health");
    let body = completion("");
    client.write("POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n");
    thread::sleep(Duration::from_millis(500));
    client.write(&format!("Content-Length: {}\r\n\r\n", body.len()));
    thread::sleep(Duration::from_millis(500));
    client.write(&body);
    assert_eq!(client.read().status, 200);
}

#[test]
fn bodies_may_come_in_chunks_or_on_demand() {
    let server = start(Behavior::flat_out());
    let mut client = Client::connect(&server);
    let body = completion(EXACTLY_9);
    let head = "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n";
    let (one, two) = body.split_at(10);
    let chunks = format!("a\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", two.len());
    client.write(&format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"));
    assert_eq!(client.read().json()["usage"]["completion_tokens"], 9);
    client.write(&format!("{head}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len()));
    assert_eq!(client.read_head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.write(&body);
    assert_eq!(client.read().json()["usage"]["completion_tokens"], 9);
}

#[test]
fn a_wrong_question_gets_vllms_answer_and_the_connection_stays() {
    let server = start(Behavior::flat_out());
    let mut client = Client::connect(&server);
    let mut check = |path: &str, body: &str, status: u16, kind: &str| {
        client.post(path, "", body);
        let got = client.read();
        assert_eq!((got.status, got.json()["error"]["type"].as_str()), (status, Some(kind)), "{body}");
    };
    check("/v1/chat/completions", r#"{"model":"other","messages":[{"content":"x"}]}"#, 404, "NotFoundError");
    check("/v1/chat/completions", r#"{"model":"simulated-model","#, 400, "Bad Request");
    check("/v1/chat/completions", r#"{"model":"simulated-model"}"#, 400, "Bad Request");
    check("/v1/completions", r#"{"model":"simulated-model"}"#, 400, "BadRequestError");
    check("/v1/completions", &completion(r#","n":2"#), 400, "BadRequestError");
    check("/v1/completions", &completion(r#","max_tokens":-1"#), 400, "BadRequestError");
    check("/v1/completions", &completion(r#","stream_options":{}"#), 400, "BadRequestError");
    assert_eq!(client.get("/v1/nothing").body, r#"{"detail":"Not Found"}"#);
    let got = client.get("/v1/completions");
    assert_eq!((got.status, got.body.as_str()), (405, r#"{"detail":"Method Not Allowed"}"#));
    client.write("HEAD /health HTTP/1.1\r\n\r\n");
    assert!(client.read_head().contains("content-length: 31\r\n"));
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn what_cannot_be_read_is_answered_and_closed() {
    let server = start(Behavior::flat_out());
    let head = "POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n";
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        (format!("{head}Content-Length: 99999999\r\n\r\nsome of it"), 413),
    ] {
        let mut client = Client::connect(&server);
        client.write(&request);
        assert_eq!(client.read().status, status, "{request}");
        assert!(client.is_at_end());
    }
}

#[test]
fn the_key_guards_v1_only() {
    let server = start(Behavior { api_key: Some("s3cret".to_owned()), ..Behavior::flat_out() });
    let mut client = Client::connect(&server);
    for headers in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic s3cret\r\n"] {
        client.post("/v1/completions", headers, &completion(""));
        let got = client.read();
        assert_eq!((got.status, got.body.as_str()), (401, r#"{"error":"Unauthorized"}"#), "{headers}");
    }
    client.post("/v1/completions", "Authorization: Bearer s3cret\r\n", &completion(""));
    assert_eq!(client.read().status, 200);
    assert_eq!(client.get("/v1/models").status, 401);
    assert_eq!(client.get("/health").status, 200);
    client.post("/tokenize", "", &completion(""));
    assert_eq!(client.read().json()["count"], 3);
}

#[test]
fn requests_fail_as_often_as_asked() {
    let server = start(Behavior { fail: 1.0, ..Behavior::flat_out() });
    let mut client = Client::connect(&server);
    for fields in ["", STREAM] {
        let got = client.chat(fields);
        assert_eq!((got.status, got.json()["error"]["code"].as_u64()), (500, Some(500)));
    }
    assert_eq!(client.metric("vllm:generation_tokens_total"), 0.0);
}

#[test]
fn the_second_waits_while_the_first_has_the_slot() {
    let itl = Duration::from_millis(5);
    let server = one_slot(Behavior { itl, keep_log: true, ..Behavior::flat_out() });
    let mut first = Client::connect(&server);
    let asked = r#","max_tokens":20,"ignore_eos":true,"stream":true"#;
    first.post("/v1/completions", "X-Request-Id: first\r\n", &completion(asked));
    first.read_head();
    first.read_chunk();
    let mut second = Client::connect(&server);
    second.post("/v1/completions", "X-Request-Id: second\r\n", &completion(asked));
    // the head does not wait for the slot
    assert!(second.read_head().starts_with("HTTP/1.1 200 OK\r\n"));
    while !first.read_chunk().is_empty() {}
    while !second.read_chunk().is_empty() {}
    let served = server.served();
    let ids: Vec<_> = served.iter().map(|served| served.request_id.as_str()).collect();
    assert_eq!(ids, ["first", "second"]);
    assert!(served[1].first_token >= served[0].last_token, "{served:?}");
    assert_eq!(first.metric("vllm:request_queue_time_seconds_count"), 2.0);
}

#[test]
fn a_client_that_hangs_up_frees_its_slot() {
    let server = one_slot(Behavior { itl: Duration::from_millis(1), ..Behavior::flat_out() });
    let mut streaming = Client::connect(&server);
    endless_chat(&mut streaming);
    streaming.read_head();
    streaming.read_chunk();
    let mut whole = Client::connect(&server);
    whole.post("/v1/chat/completions", "", &chat(r#","max_tokens":131072,"ignore_eos":true"#));
    eventually(|| server.waiting() == 1);
    drop(streaming);
    eventually(|| server.waiting() == 0);
    drop(whole);
    let mut last = Client::connect(&server);
    assert_eq!(last.chat(r#","max_tokens":2"#).status, 200);
    assert_eq!(last.series(SUCCESS_BY_LENGTH) + last.series(SUCCESS_BY_STOP), 1.0);
}

const SUCCESS_BY_LENGTH: &str =
    r#"vllm:request_success_total{engine="0",finished_reason="length",model_name="simulated-model"} "#;
const SUCCESS_BY_STOP: &str =
    r#"vllm:request_success_total{engine="0",finished_reason="stop",model_name="simulated-model"} "#;

#[test]
fn metrics_have_all_that_clients_have_seen_the_end_of() {
    let server = start(Behavior { keep_log: true, ..Behavior::flat_out() });
    let mut client = Client::connect(&server);
    for done in 1..=20 {
        client.chat(&format!("{EXACTLY_9}{}", if done % 2 == 0 { STREAM } else { "" }));
        let done = f64::from(done);
        assert_eq!(client.series(SUCCESS_BY_LENGTH), done);
        assert_eq!(client.metric("vllm:generation_tokens_total"), done * 9.0);
        assert_eq!(client.metric("vllm:prompt_tokens_total"), done * 7.0);
        assert_eq!(client.metric("vllm:time_to_first_token_seconds_count"), done);
        assert_eq!(client.metric("vllm:inter_token_latency_seconds_count"), done * 8.0);
        assert_eq!(client.metric("vllm:e2e_request_latency_seconds_count"), done);
        assert_eq!(client.metric("vllm:num_requests_running"), 0.0);
    }
    let served = server.served();
    let gaps: Duration = served.iter().map(|served| served.last_token.since(served.first_token)).sum();
    assert_eq!(client.metric("vllm:inter_token_latency_seconds_sum"), gaps.as_nanos() as f64 / 1e9);
    let e2e: Duration = served.iter().map(|served| served.last_token.since(served.received)).sum();
    assert_eq!(client.metric("vllm:e2e_request_latency_seconds_sum"), e2e.as_nanos() as f64 / 1e9);
}

#[test]
fn two_hundred_streams_run_at_once() {
    let behavior = Behavior { ttft: FOR_EVER, jitter: 0.0, ..Behavior::flat_out() };
    let server = start(behavior);
    let mut clients: Vec<_> = (0..200).map(|_| Client::connect(&server)).collect();
    clients.iter_mut().for_each(endless_chat);
    eventually(|| server.running() == 200);
    assert_eq!(Client::connect(&server).metric("vllm:num_requests_running"), 200.0);
}

/// Every way in which a thread of the server can wait.
#[test]
fn a_dropped_server_leaves_nobody_waiting() {
    let waiting = one_slot(Behavior { ttft: FOR_EVER, ..Behavior::default() });
    let writing = start(Behavior::flat_out());
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(&waiting)).collect();
    endless_chat(&mut clients[0]);
    endless_chat(&mut clients[1]);
    clients[2].write("POST /v1/completions HTTP/1.1\r\nContent-Le");
    let idle = Client::connect(&waiting);
    // nobody reads 30 MB of events
    let mut deaf = Client::connect(&writing);
    endless_chat(&mut deaf);
    eventually(|| waiting.running() == 1 && waiting.waiting() == 1 && writing.running() == 1);

    let (stopper, stop) = stop_pair();
    let dropper = thread::spawn(move || {
        drop((waiting, writing));
        stopper.stop();
    });
    assert!(!stop.sleep(STUCK), "the server did not end");
    dropper.join().expect("dropping does not panic");
    drop((clients, idle, deaf));
}

#[test]
fn nobody_answers_after_the_end() {
    let server = start(Behavior::flat_out());
    let address = server.address();
    assert_eq!(server.url(), format!("http://{address}"));
    let (stopper, stop) = stop_pair();
    stopper.stop();
    server.run_until(&stop);
    drop(server);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_behavior_that_makes_no_sense_starts_no_server() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let started = Simulator::start(Behavior { fail: 2.0, ..Behavior::default() }, address);
    let error = started.err().expect("twice of all cannot fail");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("fail 2"), "{error}");
}
