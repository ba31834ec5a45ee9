//! Servers that misbehave on purpose, each through the real transport: one kind of failure each, and no hang.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use vllm_loadgen::backend::{Backend, Chunk, Client, Endpoint, Exchange, Network, Request, Settings};
use vllm_loadgen::failure::FailureKind;

/// Serves each connection with `serve`, in order, on threads that end with the test's process.
pub fn server(mut serve: impl FnMut(usize, TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            serve(number, stream);
        }
    });
    url
}

/// Reads one request with a content length.
pub fn read_request(stream: &mut impl Read) {
    read_body(stream);
}

/// Reads one request with a content length, and tells its body.
pub fn read_body(stream: &mut impl Read) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        seen.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&seen).to_lowercase();
    let length =
        head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    // the client may be gone already
    let _ = stream.read_exact(&mut body);
    body
}

/// Answers one request with these bytes.
pub fn answer(stream: &mut TcpStream, bytes: &str) {
    read_request(stream);
    let _ = stream.write_all(bytes.as_bytes());
}

/// Closes with RST instead of FIN: unread input is dropped with the connection.
fn reset(stream: TcpStream) {
    let _ = stream.set_nonblocking(true);
    nix::sys::socket::setsockopt(
        &stream,
        nix::sys::socket::sockopt::Linger,
        &nix::libc::linger { l_onoff: 1, l_linger: 0 },
    )
    .expect("linger can be set");
}

pub fn settings(url: &str) -> Settings {
    Settings {
        endpoint: Endpoint::parse(url, None).expect("a URL"),
        key: None,
        key_is_for: None,
        headers: vec![],
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(20),
        timeout: Duration::from_secs(60),
        network: Network::default(),
    }
}

fn request() -> Request {
    Request { id: "t-0".to_owned(), body: b"{}".to_vec().into() }
}

fn exchange(settings: Settings) -> (Exchange, Vec<u8>) {
    let mut backend = Client::new(settings).expect("valid settings").backend();
    exchange_on(&mut backend)
}

pub fn exchange_on(backend: &mut dyn Backend) -> (Exchange, Vec<u8>) {
    let mut body = Vec::new();
    let exchange = backend.stream(&request(), &mut |chunk| {
        if let Chunk::Body { bytes, .. } = chunk {
            body.extend_from_slice(bytes);
        }
    });
    (exchange, body)
}

#[track_caller]
fn check(url: &str, want: FailureKind) -> Exchange {
    check_with(settings(url), want)
}

#[track_caller]
fn check_with(settings: Settings, want: FailureKind) -> Exchange {
    let (exchange, _) = exchange(settings);
    let failure = exchange.result.clone().expect_err("it must fail");
    assert_eq!(failure.kind, want, "{failure}");
    exchange
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn nobody_listens() {
    let port = TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("bound").port();
    let exchange = check(&format!("http://127.0.0.1:{port}"), FailureKind::ConnectRefused);
    assert_eq!((exchange.trace.sent, exchange.trace.reused), (None, None));
}

#[test]
fn a_name_that_cannot_exist() {
    check("http://an..impossible.name:8000", FailureKind::Dns);
}

#[test]
fn closed_before_the_reply() {
    let url = server(|_, mut stream| read_request(&mut stream));
    let exchange = check(&url, FailureKind::ClosedBeforeReply);
    assert!(exchange.trace.sent.is_some());
    assert!(!exchange.trace.stale_retry, "a fresh connection is never retried");
}

#[test]
fn reset_before_the_reply() {
    let url = server(|_, mut stream| {
        read_request(&mut stream);
        reset(stream);
    });
    check(&url, FailureKind::ResetBeforeReply);
}

#[test]
fn closed_in_the_body() {
    let url = server(|_, mut stream| answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"));
    check(&url, FailureKind::TruncatedBody);
    let url = server(|_, mut stream| answer(&mut stream, &format!("{CHUNKED}5\r\nabc")));
    check(&url, FailureKind::TruncatedBody);
}

#[test]
fn a_reply_cut_at_any_byte_is_no_reply() {
    let chunked = format!("{CHUNKED}5;x=y\r\ndata:\r\n0C\r\n [DONE]\r\n\r\n\n\r\n0\r\nt: x\r\n\r\n");
    for whole in [OK.to_owned(), format!("HTTP/1.1 100 Continue\r\n\r\n{OK}"), chunked] {
        let body_at = whole.rfind("\r\n\r\n{").or(whole.find("\r\n\r\n5")).expect("a body") + 4;
        // nothing of the reply is missing after the last chunk
        let data_ends = whole.find("\n0\r\n").map_or(whole.len(), |at| at + 4);
        let reply = whole.clone();
        // the number of the connection is where the reply is cut
        let url =
            server(move |number, mut stream| answer(&mut stream, reply.get(..number).unwrap_or(&reply)));
        for cut in 0..=whole.len() {
            let (exchange, _) = exchange(settings(&url));
            let got = exchange.result.map_err(|f| f.kind);
            let want = match cut {
                _ if cut >= data_ends && (got.is_ok() || cut == whole.len()) => Ok(()),
                _ if cut < body_at => Err(FailureKind::ClosedBeforeReply),
                _ => Err(FailureKind::TruncatedBody),
            };
            assert_eq!(got, want, "{:?}", &whole[..cut]);
        }
    }
}

#[test]
fn a_reply_with_any_byte_changed_comes_to_an_end() {
    let whole = format!("{CHUNKED}5\r\ndata:\r\n0C\r\n [DONE]\r\n\r\n\n\r\n0\r\n\r\n");
    let bytes = [0, b'\n', b'\r', b' ', b'0', b'f', b':', 0xff];
    let reply = whole.clone();
    // the number of the connection says which byte becomes which
    let url = server(move |number, mut stream| {
        let mut reply = reply.clone().into_bytes();
        reply[number / bytes.len()] = bytes[number % bytes.len()];
        read_request(&mut stream);
        let _ = stream.write_all(&reply);
    });
    let client = Client::new(settings(&url)).expect("valid settings");
    for number in 0..whole.len() * bytes.len() {
        // a backend each: a connection is never used twice
        let (exchange, body) = exchange_on(&mut client.backend());
        assert!(exchange.result.is_err() || body.len() <= whole.len(), "{number}");
    }
}

#[test]
fn reset_in_the_body() {
    let url = server(|_, mut stream| {
        answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
        // the client has read what there is before the reset overtakes it
        thread::sleep(Duration::from_millis(100));
        reset(stream);
    });
    check(&url, FailureKind::ResetInBody);
}

#[test]
fn what_is_not_http() {
    for reply in [
        "SSH-2.0-OpenSSH_9\r\n\r\n",
        "{\"choices\":[]}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/1.1 2000 High\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 1\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    ] {
        // what stands before a mistake in a chunk has come all the same
        let before = if reply.contains("\r\n1\r\n{") { "{" } else { "" };
        let url = server(move |_, mut stream| answer(&mut stream, reply));
        let (exchange, body) = exchange(settings(&url));
        assert_eq!(exchange.result.map_err(|f| f.kind), Err(FailureKind::Protocol), "{reply:?}");
        assert_eq!(String::from_utf8_lossy(&body), before, "{reply:?}");
    }
}

#[test]
fn a_head_larger_than_any_head() {
    let url = server(|_, mut stream| {
        answer(&mut stream, &format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(200_000)));
    });
    check(&url, FailureKind::Protocol);
}

#[test]
fn silence_ends_in_a_timeout() {
    let mut held = Vec::new();
    let url = server(move |_, mut stream| {
        read_request(&mut stream);
        held.push(stream);
    });
    let idle = Duration::from_millis(50);
    check_with(Settings { idle_timeout: idle, ..settings(&url) }, FailureKind::HeaderTimeout);
    check_with(Settings { timeout: idle, ..settings(&url) }, FailureKind::TotalTimeout);
}

#[test]
fn a_stream_that_stalls_ends_in_a_timeout() {
    let mut held = Vec::new();
    let url = server(move |_, mut stream| {
        answer(&mut stream, &format!("{CHUNKED}3\r\nabc\r\n"));
        held.push(stream);
    });
    let idle = Duration::from_millis(50);
    check_with(Settings { idle_timeout: idle, ..settings(&url) }, FailureKind::IdleTimeout);
    let exchange = check_with(Settings { timeout: idle, ..settings(&url) }, FailureKind::TotalTimeout);
    assert!(exchange.trace.first_byte.is_some());
}

#[test]
fn a_head_that_drips_in_is_to_be_whole_within_the_idle_timeout() {
    let url = server(|_, mut stream| {
        answer(&mut stream, "HTTP/1.1 200 OK\r\na: ");
        while stream.write_all(b"a").is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let idle = Duration::from_millis(200);
    let failed = check_with(Settings { idle_timeout: idle, ..settings(&url) }, FailureKind::HeaderTimeout);
    let told = failed.result.expect_err("it failed").message;
    assert_eq!(told, "no whole head within 200 ms");
}

#[test]
fn drip_feeding_does_not_outlast_the_total_timeout() {
    let url = server(|_, mut stream| {
        answer(&mut stream, CHUNKED);
        while stream.write_all(b"1\r\nx\r\n").is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    check_with(Settings { timeout: Duration::from_millis(200), ..settings(&url) }, FailureKind::TotalTimeout);
}

#[test]
fn a_redirect_is_not_followed() {
    let url = server(|_, mut stream| {
        answer(
            &mut stream,
            "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        );
    });
    let (exchange, _) = exchange(settings(&url));
    assert_eq!(exchange.result, Ok(()));
}

#[test]
fn a_connection_is_kept_and_a_stale_one_is_replaced_once() {
    // the first connection serves one request and is closed unseen; every further one serves one request, too
    let url = server(|_, mut stream| {
        answer(&mut stream, OK);
        // still open when the client looks, closed when it has sent
        read_request(&mut stream);
    });
    let mut backend = Client::new(settings(&url)).expect("valid settings").backend();
    let (first, body) = exchange_on(&mut backend);
    assert_eq!((first.result, body), (Ok(()), b"{}".to_vec()));
    let (second, body) = exchange_on(&mut backend);
    assert_eq!((second.result, body), (Ok(()), b"{}".to_vec()));
    assert!(second.trace.stale_retry);
    assert_eq!(second.trace.reused, Some(false));
}

#[test]
fn a_kept_connection_is_used_again() {
    let url = server(|_, mut stream| (0..2).for_each(|_| answer(&mut stream, OK)));
    let mut backend = Client::new(settings(&url)).expect("valid settings").backend();
    assert_eq!(exchange_on(&mut backend).0.trace.reused, Some(false));
    let (second, _) = exchange_on(&mut backend);
    assert_eq!(second.trace.reused, Some(true));
    assert!(!second.trace.stale_retry);
    assert_eq!((second.trace.tcp, second.trace.dns), (None, None));
}

#[test]
fn a_request_leaves_in_one_piece_with_its_id() {
    let (push, requests) = std::sync::mpsc::channel();
    let url = server(move |_, mut stream| {
        let mut buffer = vec![0; 64 * 1024];
        let size = stream.read(&mut buffer).expect("a request");
        push.send(String::from_utf8_lossy(&buffer[..size]).into_owned()).expect("the test waits");
        let _ = stream.write_all(OK.as_bytes());
    });
    let (exchange, _) = exchange(settings(&url));
    assert_eq!(exchange.result, Ok(()));
    let sent = requests.recv().expect("a request came").to_lowercase();
    for part in [
        "post /v1/chat/completions http/1.1\r\n",
        "x-request-id: t-0\r\n",
        "content-length: 2\r\n",
        "\r\n\r\n{}",
    ] {
        assert!(sent.contains(part), "{part:?} not in {sent}");
    }
    assert!(!sent.contains("accept-encoding"), "{sent}");
    assert_eq!(exchange.trace.bytes_sent, sent.len() as u64);
    assert_eq!(exchange.trace.bytes_received, OK.len() as u64);
}

#[test]
fn a_server_that_hangs_up_late_has_had_the_request() {
    // its second request on a connection is worked on for longer than any connection is stale
    let url = server(|_, mut stream| {
        answer(&mut stream, OK);
        read_request(&mut stream);
        thread::sleep(Duration::from_millis(400));
    });
    let mut backend = Client::new(settings(&url)).expect("valid settings").backend();
    assert_eq!(exchange_on(&mut backend).0.result, Ok(()));
    let (second, _) = exchange_on(&mut backend);
    assert_eq!(second.result.map_err(|f| f.kind), Err(FailureKind::ClosedBeforeReply));
    assert!(!second.trace.stale_retry);
}

#[test]
fn a_reset_in_a_body_without_length_is_no_end() {
    let url = server(|_, mut stream| {
        answer(&mut stream, "HTTP/1.1 200 OK\r\n\r\nabc");
        thread::sleep(Duration::from_millis(100));
        reset(stream);
    });
    check(&url, FailureKind::ResetInBody);
}

#[test]
fn no_time_left_to_send_is_a_timeout_and_not_a_protocol_error() {
    let url = server(|_, mut stream| answer(&mut stream, OK));
    let settings = Settings { timeout: Duration::from_nanos(1), ..settings(&url) };
    check_with(settings, FailureKind::TotalTimeout);
}

#[test]
fn headers_that_frame_a_request_cannot_be_set() {
    for name in ["Content-Length", "transfer-encoding", "Expect"] {
        let headers = vec![(name.to_owned(), vllm_loadgen::secret::Secret::new("1"))];
        Client::check(&Settings { headers, ..settings("http://h") }).expect_err(name);
    }
}

#[test]
fn a_key_that_no_header_can_carry_is_told_before_anything_is_sent() {
    let secret = vllm_loadgen::secret::Secret::new;
    for key in ["\u{feff}sk-1", "ключ", "two\nlines"] {
        let told = Client::check(&Settings { key: Some(secret(key)), ..settings("http://h") });
        assert_eq!(
            told,
            Err("the API key holds characters that a header cannot carry".to_owned()),
            "{key:?}"
        );
        for (name, is_fit) in [("Authorization", false), ("host", false), ("x-title", !key.contains('\n'))] {
            let headers = vec![(name.to_owned(), secret(key))];
            let told = Client::check(&Settings { headers, ..settings("http://h") });
            assert_eq!(told.is_ok(), is_fit, "{name}: {key:?}: {told:?}");
        }
    }
}

#[test]
fn settings_do_not_show_what_is_in_headers() {
    let headers = vec![("X-Any".to_owned(), vllm_loadgen::secret::Secret::new("canary"))];
    let settings = Settings { headers, ..settings("http://h?key=canary") };
    let client = Client::new(settings.clone()).expect("valid");
    let json = serde_json::to_string(&settings).expect("plain data");
    assert!(json.contains("X-Any") && !json.contains("key=canary"), "{json}");
    assert!(!format!("{client:?}").replace("key=canary", "").contains("canary"));
}

#[test]
fn settings_from_before_there_were_ways_to_the_server_are_read() {
    let mut json = serde_json::to_value(settings("http://h")).expect("plain data");
    let fields = json.as_object_mut().expect("an object");
    let network = serde_json::to_value(Network::default()).expect("plain data");
    for name in network.as_object().expect("an object").keys() {
        fields.remove(name).expect("it was written");
    }
    let read: Settings = serde_json::from_value(json).expect("older settings");
    assert_eq!(read.network, Network::default());
}

/// A request whose body no socket takes at once.
fn large() -> Request {
    Request { id: "t-0".to_owned(), body: vec![b' '; 16 << 20].into() }
}

fn send_large(settings: Settings) -> (Exchange, Option<u16>) {
    let mut status = None;
    let mut backend = Client::new(settings).expect("valid settings").backend();
    let exchange = backend.stream(&large(), &mut |chunk| {
        if let Chunk::Head(head) = chunk {
            status = Some(head.status);
        }
    });
    (exchange, status)
}

const TOO_LARGE: &str = "HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

fn read_head(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        seen.push(byte[0]);
    }
}

#[test]
fn a_refusal_that_comes_before_the_request_was_sent_is_read() {
    for hangs_up in [true, false] {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let is_done = std::sync::Mutex::new(is_done);
        let url = server(move |_, mut stream| {
            read_head(&mut stream);
            let _ = stream.write_all(TOO_LARGE.as_bytes());
            if !hangs_up {
                // it reads nothing more, and waits for the client
                let _ = is_done.lock().expect("alone").recv();
            }
        });
        let settings = Settings { timeout: Duration::from_secs(20), ..settings(&url) };
        let (exchange, status) = send_large(settings);
        assert_eq!((exchange.result, status), (Ok(()), Some(413)), "hangs up: {hangs_up}");
        assert!(exchange.trace.bytes_sent < 16 << 20);
        drop(done);
    }
}

#[test]
fn a_server_that_hangs_up_on_a_request_without_a_word_is_a_failed_sending() {
    let url = server(|_, mut stream| read_head(&mut stream));
    let (exchange, status) = send_large(settings(&url));
    assert_eq!(status, None);
    assert_eq!(exchange.result.expect_err("it must fail").kind, FailureKind::SendFailed);
}

#[test]
fn sending_does_not_outlast_the_total_timeout() {
    // a few bytes every now and then, so that no single wait is long
    let url = server(|_, mut stream| {
        answer(&mut stream, OK);
        let mut some = [0; 64 * 1024];
        while stream.read(&mut some).unwrap_or(0) > 0 {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let settings = Settings { timeout: Duration::from_millis(500), ..settings(&url) };
    let mut backend = Client::new(settings).expect("valid settings").backend();
    assert_eq!(exchange_on(&mut backend).0.result, Ok(()));
    // on a kept connection it is written at once
    let exchange = backend.stream(&large(), &mut |_| ());
    assert_eq!(exchange.result.expect_err("it must fail").kind, FailureKind::TotalTimeout);
    assert_eq!(exchange.trace.reused, Some(true));
    let sent = exchange.trace.bytes_sent;
    assert!((1..16 << 20).contains(&sent), "the rest was not waited for: {sent}");
}

#[test]
fn a_timeout_told_to_an_idle_connection_is_no_failure_of_the_request_that_crosses_it() {
    const TIMEOUT: &str = "HTTP/1.1 408 Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let url = server(|number, mut stream| {
        answer(&mut stream, OK);
        if number == 0 {
            answer(&mut stream, TIMEOUT);
        }
    });
    let mut backend = Client::new(settings(&url)).expect("valid settings").backend();
    assert_eq!(exchange_on(&mut backend).0.result, Ok(()));
    let mut statuses = Vec::new();
    let second = backend.stream(&request(), &mut |chunk| {
        if let Chunk::Head(head) = chunk {
            statuses.push(head.status);
        }
    });
    assert_eq!((second.result, statuses.as_slice()), (Ok(()), &[200][..]));
    assert!(second.trace.stale_retry);

    // one that the server says to the request itself is its answer
    let url = server(|_, mut stream| answer(&mut stream, TIMEOUT));
    let mut backend = Client::new(settings(&url)).expect("valid settings").backend();
    let first = exchange_on(&mut backend).0;
    assert!(first.result.is_ok() && !first.trace.stale_retry);
}

#[test]
fn a_second_reply_that_nobody_asked_for_is_not_taken_for_the_next() {
    for round in 0..20 {
        let (push, is_there) = std::sync::mpsc::channel();
        let url = server(move |number, mut stream| {
            let text = if number == 0 { "{}" } else { "ok" };
            answer(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{text}"));
            if number == 0 {
                // loopback delivers within the call
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno");
            }
            let _ = push.send(stream);
        });
        let mut backend = Client::new(settings(&url)).expect("valid settings").backend();
        assert_eq!(exchange_on(&mut backend).1, b"{}");
        let kept = is_there.recv().expect("written");
        let (second, body) = exchange_on(&mut backend);
        assert_eq!((second.result, body.as_slice()), (Ok(()), &b"ok"[..]), "round {round}");
        drop(kept);
    }
}
