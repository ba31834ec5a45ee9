//! Replies as they go out: status lines and headers in uvicorn's order and lower case.

use std::fmt::Write as _;
use std::io;

use super::http::Persistence;
use crate::clock::Date;

/// A reply that is known whole.
#[derive(Debug, Default)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// A header of its own, such as `allow`.
    pub header: Option<(&'static str, &'static str)>,
    /// `content-type`, if there is content.
    pub content_type: Option<&'static str>,
    /// What follows the head.
    pub body: Vec<u8>,
}

impl Reply {
    /// A reply of JSON.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: Some("application/json"), body: body.into(), ..Self::default() }
    }

    /// What uvicorn says to what is not HTTP.
    pub fn not_http() -> Self {
        let body = b"Invalid HTTP request received.".to_vec();
        Self { status: 400, content_type: Some("text/plain; charset=utf-8"), body, ..Self::default() }
    }

    /// Head and body, as they go out.
    pub fn bytes(&self, persistence: Persistence) -> Vec<u8> {
        let mut bytes = self.head(persistence).into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The head, with the blank line that ends it.
    pub fn head(&self, persistence: Persistence) -> String {
        let mut head = status_line(self.status);
        if let Some((name, value)) = self.header {
            put(&mut head, format_args!("{name}: {value}\r\n"));
        }
        put(&mut head, format_args!("content-length: {}\r\n", self.body.len()));
        if let Some(content_type) = self.content_type {
            put(&mut head, format_args!("content-type: {content_type}\r\n"));
        }
        end_of_head(&mut head, persistence, "");
        head
    }
}

/// The head of a stream of events. uvicorn sends chunks to HTTP/1.0 clients too.
pub fn stream_head(persistence: Persistence) -> String {
    body_head(&Shape { persistence, ..Shape::STREAM }, "")
}

/// What the head of a good answer says of its body.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub content_type: &'static str,
    pub framing: Framing,
    pub persistence: Persistence,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// `Content-Length`, for which all of the body must be known.
    Sized,
    /// The connection's end.
    UntilClose,
}

impl Shape {
    /// A stream of events.
    pub const STREAM: Self = Self {
        content_type: "text/event-stream; charset=utf-8",
        framing: Framing::Chunked,
        persistence: Persistence::KeepAlive,
    };
    /// An answer in one piece.
    pub const WHOLE: Self =
        Self { content_type: "application/json", framing: Framing::Sized, ..Self::STREAM };
}

/// The head of a good answer; `more` are headers, each with its line end.
pub fn body_head(shape: &Shape, more: &str) -> String {
    let mut head = status_line(200);
    put(&mut head, format_args!("content-type: {}\r\n{more}", shape.content_type));
    let last = if shape.framing == Framing::Chunked { "transfer-encoding: chunked\r\n" } else { "" };
    end_of_head(&mut head, shape.persistence, last);
    head
}

fn status_line(status: u16) -> String {
    let reason = match status {
        200 => "OK",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Request Entity Too Large",
        429 => "Too Many Requests",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    format!("HTTP/1.1 {status} {reason}\r\ndate: {}\r\nserver: uvicorn\r\n", Date::now().http())
}

fn end_of_head(head: &mut String, persistence: Persistence, last: &str) {
    let connection = match persistence {
        Persistence::KeepAlive => "",
        Persistence::Close => "connection: close\r\n",
    };
    put(head, format_args!("vary: Origin\r\n{connection}{last}\r\n"));
}

fn put(head: &mut String, text: std::fmt::Arguments<'_>) {
    head.write_fmt(text).expect("a string takes any text");
}

/// Sends all of `bytes`; a client that went away is an error.
pub fn send(mut sink: impl io::Write, bytes: &[u8]) -> io::Result<()> {
    sink.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `A_405_get_completions.http` and `A_http10_stream.http`, but for the date.
    #[test]
    fn heads_read_like_the_captured_ones() {
        let undated = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n")
        };
        let reply = Reply {
            header: Some(("allow", "POST")),
            ..Reply::json(405, r#"{"detail":"Method Not Allowed"}"#)
        };
        assert_eq!(
            undated(&reply.bytes(Persistence::KeepAlive)),
            "HTTP/1.1 405 Method Not Allowed\nserver: uvicorn\nallow: POST\ncontent-length: 31\n\
             content-type: application/json\nvary: Origin\n\n{\"detail\":\"Method Not Allowed\"}"
        );
        assert_eq!(
            undated(stream_head(Persistence::Close).as_bytes()),
            "HTTP/1.1 200 OK\nserver: uvicorn\ncontent-type: text/event-stream; charset=utf-8\nvary: Origin\n\
             connection: close\ntransfer-encoding: chunked\n"
        );
    }
}
