//! Every way in which a reply says where its body ends, cut at every byte, through the real transport.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use vllm_loadgen::backend::Client;
use vllm_loadgen::failure::FailureKind;

use crate::failures::{exchange_on, read_request, server, settings};

/// Whether the connection can serve another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Kept,
    Closed,
}

use Connection::{Closed, Kept};

/// Long enough for the client to take in what came; a test that it is too short for checks less, and fails never.
const PAUSE: Duration = Duration::from_millis(1);

/// Answers every request with the same bytes in two writes, the first of them a byte longer each time.
fn answer_cut_everywhere(mut stream: TcpStream, reply: &[u8], cuts: std::ops::RangeInclusive<usize>) {
    let _ = stream.set_nodelay(true);
    for cut in cuts {
        read_request(&mut stream);
        let _ = stream.write_all(&reply[..cut]);
        thread::sleep(PAUSE);
        let _ = stream.write_all(&reply[cut..]);
    }
}

/// The reply's body is `want`, wherever it is cut.
#[track_caller]
fn check(reply: &'static str, want: &str, connection: Connection) {
    let reply = reply.as_bytes();
    let url = server(move |number, stream| match connection {
        Kept => answer_cut_everywhere(stream, reply, 1..=reply.len()),
        Closed => answer_cut_everywhere(stream, reply, number + 1..=number + 1),
    });
    let mut backend = Client::new(settings(&url)).expect("valid settings").backend();
    for cut in 1..=reply.len() {
        let (exchange, body) = exchange_on(&mut backend);
        assert_eq!(exchange.result, Ok(()), "cut at {cut}");
        assert_eq!(String::from_utf8_lossy(&body), want, "cut at {cut}");
        assert_eq!(exchange.trace.reused, Some(connection == Kept && cut > 1), "cut at {cut}");
        assert_eq!((exchange.trace.stale_retry, exchange.trace.bytes_received), (false, reply.len() as u64));
    }
}

/// The reply breaks off after each byte of its body, and that is a failure of this kind.
#[track_caller]
fn check_broken_off(head: &'static str, body: &'static str, want: FailureKind, but_for: &[usize]) {
    let url = server(move |length, mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(&[head.as_bytes(), &body.as_bytes()[..length]].concat());
    });
    let mut backend = Client::new(settings(&url)).expect("valid settings").backend();
    for length in 0..body.len() {
        let result = exchange_on(&mut backend).0.result;
        let want = if but_for.contains(&length) { Ok(()) } else { Err(want) };
        assert_eq!(result.map_err(|failure| failure.kind), want, "{:?}", &body[..length]);
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn a_chunked_body() {
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n00a;x=y\r\n\r\n\r\n0\r\n\r\n-\r\n0\r\n\r\n",
        "abc\r\n\r\n0\r\n\r\n-",
        Kept,
    );
    check(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\ndate: now\r\nx: y\r\n\r\n",
        "a",
        Kept,
    );
    check("HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n1\r\na\r\n0\r\n\r\n", "a", Kept);
    check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "", Kept);
}

#[test]
fn a_chunked_body_of_an_error_or_of_a_connection_that_closes() {
    check("HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "{}", Kept);
    check(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "a",
        Closed,
    );
}

#[test]
fn a_body_with_a_length() {
    check("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\na\r\n\r\nb\r\n\r\n", "a\r\n\r\nb\r\n\r\n", Kept);
    check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "", Kept);
}

#[test]
fn a_body_to_the_end_of_the_connection() {
    check("HTTP/1.1 200 OK\r\n\r\na\r\n\r\nb", "a\r\n\r\nb", Closed);
    check("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na", "1\r\na", Closed);
    check("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", "a", Closed);
}

#[test]
fn a_reply_without_a_body_or_behind_another_head() {
    check("HTTP/1.1 204 No\r\n\r\n", "", Kept);
    check("HTTP/1.1 304 No\r\ntransfer-encoding: chunked\r\n\r\n", "", Kept);
    check(
        "HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "a",
        Kept,
    );
}

#[test]
fn a_body_that_breaks_off() {
    let body = "3;x\r\nabc\r\n0\r\ny: z\r\n\r\n";
    // all data has come, and no trailer line has begun
    check_broken_off(CHUNKED, body, FailureKind::TruncatedBody, &[13, 19]);
    check_broken_off("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", "abc", FailureKind::TruncatedBody, &[]);
}

#[test]
fn a_body_that_is_no_chunked_coding() {
    for body in ["x\r\n", "1\r\nabc", "\r\n", "fffffffffffffffff\r\n", "1\r\na\r\n1\r\nb\r\nx"] {
        let url = server(move |_, mut stream| {
            read_request(&mut stream);
            let _ = stream.write_all(&[CHUNKED, body].concat().into_bytes());
        });
        let mut backend = Client::new(settings(&url)).expect("valid settings").backend();
        let failure = exchange_on(&mut backend).0.result.expect_err(body);
        assert_eq!(failure.kind, FailureKind::Protocol, "{body:?}: {failure}");
    }
}

#[test]
fn bytes_behind_a_body_end_the_connection() {
    for reply in [
        [CHUNKED, "1\r\na\r\n0\r\n\r\nx"].concat(),
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nax".to_owned(),
    ] {
        let url = server(move |_, mut stream| {
            read_request(&mut stream);
            let _ = stream.write_all(reply.as_bytes());
        });
        let mut backend = Client::new(settings(&url)).expect("valid settings").backend();
        for _ in 0..2 {
            let (exchange, body) = exchange_on(&mut backend);
            assert_eq!((exchange.result, body), (Ok(()), b"a".to_vec()));
            assert_eq!((exchange.trace.reused, exchange.trace.stale_retry), (Some(false), false));
        }
    }
}

#[test]
fn a_server_that_hangs_up_behind_its_reply_without_a_word() {
    let url = server(|_, mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(&[CHUNKED, "1\r\na\r\n0\r\n\r\n"].concat().into_bytes());
    });
    let mut backend = Client::new(settings(&url)).expect("valid settings").backend();
    // whether the client sees the end before it sends again or after, every request is answered once
    for _ in 0..50 {
        let (exchange, body) = exchange_on(&mut backend);
        assert_eq!((exchange.result, body), (Ok(()), b"a".to_vec()));
        assert_eq!(exchange.trace.reused, Some(false));
    }
}

#[test]
fn a_body_larger_than_any_read() {
    let body = "0123456789abcdef".repeat(20_000);
    let chunks: String =
        body.as_bytes().chunks(7_777).map(|c| format!("{:x}\r\n{}\r\n", c.len(), c.escape_ascii())).collect();
    for reply in [
        [CHUNKED, &chunks, "0\r\n\r\n"].concat(),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
    ] {
        let url = server(move |_, mut stream| {
            for _ in 0..2 {
                read_request(&mut stream);
                let _ = stream.write_all(reply.as_bytes());
            }
        });
        let mut backend = Client::new(settings(&url)).expect("valid settings").backend();
        for is_reused in [false, true] {
            let (exchange, got) = exchange_on(&mut backend);
            assert_eq!((exchange.result, exchange.trace.reused), (Ok(()), Some(is_reused)));
            assert!(got == body.as_bytes(), "{} bytes of {}", got.len(), body.len());
        }
    }
}
