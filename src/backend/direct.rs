//! Requests over a connection that ureq made and keeps, past ureq: its work on two heads costs more than the rest of a
//! small request.
//!
//! The head of a request is learned from one that ureq wrote. Of replies only the usual kind is read here: any other is
//! handed to ureq, which is told that it has sent the request.

use httparse::{EMPTY_HEADER, Header, Response, Status};
use ureq::Error;

use super::line::{Ending, Line};
use super::marks::note;
use super::{Chunk, Head, Request};
use crate::clock::Arrival;

/// The head of every request, without what differs between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    text: Vec<u8>,
    /// Where in the text the values belong that differ, in order.
    slots: Vec<(usize, Slot)>,
}

/// A value that differs between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Id,
    Length,
}

impl RequestHead {
    /// Learns from the head of this request, as ureq wrote it. `None` where it is not whole or tells no length. An id
    /// that is the user's own is the same in each.
    pub fn learn(head: &[u8], request: &Request) -> Option<Self> {
        let end = head.windows(END.len()).position(|part| part == END)?;
        let length = request.body.len().to_string();
        let values = [("x-request-id: ", &request.id, Slot::Id), ("content-length: ", &length, Slot::Length)];
        let (mut text, mut slots) = (Vec::new(), Vec::new());
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let value_of = |name: &str| line.strip_prefix(name.as_bytes())?.strip_suffix(LINE_END);
            match values.iter().find(|(name, value, _)| value_of(name) == Some(value.as_bytes())) {
                Some((name, _, slot)) => {
                    text.extend_from_slice(name.as_bytes());
                    slots.push((text.len(), *slot));
                    text.extend_from_slice(LINE_END);
                }
                None => text.extend_from_slice(line),
            }
        }
        let count = |slot| slots.iter().filter(|(_, of)| *of == slot).count();
        let is_known = end + END.len() == head.len() && count(Slot::Length) == 1 && count(Slot::Id) <= 1;
        is_known.then_some(Self { text, slots })
    }

    /// Whether the id can stand in a head as it is.
    pub fn suits(&self, request: &Request) -> bool {
        request.id.bytes().all(|byte| byte.is_ascii_graphic())
    }

    /// The head of this request, piece by piece.
    fn write(&self, request: &Request, mut put: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut from = 0;
        for (at, slot) in &self.slots {
            put(&self.text[from..*at])?;
            match slot {
                Slot::Id => put(request.id.as_bytes())?,
                Slot::Length => put(request.body.len().to_string().as_bytes())?,
            }
            from = *at;
        }
        put(&self.text[from..])
    }
}

const LINE_END: &[u8] = b"\r\n";
/// What ends a head.
const END: &[u8] = b"\r\n\r\n";

/// Sends the request and receives its reply, on a connection that can serve one. `None` where the reply is not of the
/// usual kind: nothing of it has been handed out, and ureq must be asked for it.
pub fn exchange(
    line: &mut Line,
    head: &RequestHead,
    request: &Request,
    on_chunk: &mut dyn FnMut(Chunk<'_>),
) -> Option<Result<(), Error>> {
    let ended = attempt(line, head, request, on_chunk);
    match ended {
        Ok(None) => {
            line.leave_reply_to_ureq();
            return None;
        }
        Ok(Some(Ending::Whole)) => line.stays(),
        Ok(Some(Ending::Closed)) | Err(_) => line.close(),
    }
    Some(ended.map(|_| ()))
}

fn attempt(
    line: &mut Line,
    head: &RequestHead,
    request: &Request,
    on_chunk: &mut dyn FnMut(Chunk<'_>),
) -> Result<Option<Ending>, Error> {
    head.write(request, |bytes| line.gather(bytes))?;
    line.gather(&request.body)?;
    line.receive()?;
    let Some((length, body)) = take_head(line.unread_mut(), on_chunk) else { return Ok(None) };
    line.take(length);
    note(|marks| marks.in_body = true);
    let on_data = &mut |arrival: Arrival, bytes: &[u8]| on_chunk(Chunk::Body { arrival, bytes });
    match body {
        Body::Chunked => line.read_chunked(on_data),
        Body::Sized(size) => line.read_sized(size, on_data),
    }
    .map(Some)
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Chunked,
    Sized(u64),
}

/// Hands out the head with which these bytes begin, and tells its length and what follows. `None`, and nothing handed
/// out, if it is not whole, or not that of a usual success on a connection that stays open.
fn take_head(bytes: &mut [u8], on_chunk: &mut dyn FnMut(Chunk<'_>)) -> Option<(usize, Body)> {
    lower_names(bytes);
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut reply = Response::new(&mut headers);
    let Ok(Status::Complete(length)) = reply.parse(bytes) else { return None };
    if (reply.version, reply.code) != (Some(1), Some(200)) {
        return None;
    }
    let body = framing(reply.headers)?;
    let mut texts = [("", ""); MAX_HEADERS];
    let mut count = 0;
    for header in reply.headers.iter() {
        if let Some(value) = text_of(header.value) {
            texts[count] = (header.name, value);
            count += 1;
        }
    }
    on_chunk(Chunk::Head(Head { status: 200, headers: &texts[..count] }));
    Some((length, body))
}

/// Servers send fewer; ureq reads heads with more.
const MAX_HEADERS: usize = 32;

/// Makes the names of headers lower case.
fn lower_names(head: &mut [u8]) {
    let is_blank = |line: &&mut [u8]| matches!(line, [] | [b'\r']);
    let lines = head.split_mut(|byte| *byte == b'\n').skip_while(is_blank).skip(1);
    for line in lines.take_while(|line| !is_blank(line)) {
        let name = line.iter().position(|byte| *byte == b':').unwrap_or(0);
        line[..name].make_ascii_lowercase();
    }
}

/// A header's value, if it is text as the HTTP types have it.
fn text_of(value: &[u8]) -> Option<&str> {
    let is_text = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    std::str::from_utf8(value).ok().filter(|_| is_text)
}

/// The one framing that the headers tell. `None` without one, with several or strange ones, and where the connection is
/// to be closed.
fn framing(headers: &[Header<'_>]) -> Option<Body> {
    let mut body = None;
    for Header { name, value } in headers {
        let told = match *name {
            "content-length" => Body::Sized(number(value)?),
            "transfer-encoding" if value.eq_ignore_ascii_case(b"chunked") => Body::Chunked,
            "transfer-encoding" => return None,
            "connection" if value.eq_ignore_ascii_case(b"keep-alive") => continue,
            "connection" | "upgrade" => return None,
            _ => continue,
        };
        if body.replace(told).is_some() {
            return None;
        }
    }
    body
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str, body: &str) -> Request {
        Request { id: id.to_owned(), body: body.as_bytes().into() }
    }

    /// Learns from a head for request `r-0` with a body of 12 bytes; the head of another one.
    fn learned(head: &str) -> Option<String> {
        let known = RequestHead::learn(head.as_bytes(), &request("r-0", "twelve bytes"))?;
        let mut written = Vec::new();
        let put = |bytes: &[u8]| {
            written.extend_from_slice(bytes);
            Ok(())
        };
        known.write(&request("r-17", "three"), put).expect("a vector takes all");
        Some(String::from_utf8(written).expect("text"))
    }

    #[test]
    fn a_head_differs_in_id_and_length() {
        let head = "POST /v1 HTTP/1.1\r\nhost: h\r\nx-request-id: r-0\r\ncontent-length: 12\r\na: 12\r\n\r\n";
        let want = "POST /v1 HTTP/1.1\r\nhost: h\r\nx-request-id: r-17\r\ncontent-length: 5\r\na: 12\r\n\r\n";
        assert_eq!(learned(head).as_deref(), Some(want));
        let head = "POST / HTTP/1.1\r\ncontent-length: 12\r\nx-request-id: my own\r\n\r\n";
        let want = "POST / HTTP/1.1\r\ncontent-length: 5\r\nx-request-id: my own\r\n\r\n";
        assert_eq!(learned(head).as_deref(), Some(want));
    }

    #[test]
    fn a_head_that_is_not_understood_is_left_to_ureq() {
        for head in [
            "",
            "POST / HTTP/1.1\r\ncontent-length: 12\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 12\r\n\r\ntwelve bytes",
            "POST / HTTP/1.1\r\ncontent-length: 12\r\n\r\n\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 13\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 12\r\ncontent-length: 12\r\n\r\n",
            "CONNECT h:80 HTTP/1.1\r\nhost: h\r\n\r\n",
        ] {
            assert_eq!(learned(head), None, "{head:?}");
        }
    }

    /// What is made of a reply: its body's framing, the length of its head, and its headers.
    fn reply(bytes: &str) -> Option<(Body, usize, String)> {
        let mut headers = None;
        let taken = take_head(&mut bytes.as_bytes().to_vec(), &mut |chunk| {
            if let Chunk::Head(head) = chunk {
                headers = Some(format!("{:?}", head.headers));
            }
        });
        assert_eq!(headers.is_some(), taken.is_some(), "{bytes:?}");
        taken.zip(headers).map(|((length, body), headers)| (body, length, headers))
    }

    #[test]
    fn a_usual_reply_is_taken() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX-A:  b \r\nConnection: Keep-Alive\r\n\r\n";
        let (body, length, headers) = reply(&format!("{head}A: b\r\n\r\n")).expect("a usual reply");
        assert_eq!((body, length), (Body::Sized(7), head.len()));
        assert_eq!(headers, r#"[("content-length", "7"), ("x-a", "b"), ("connection", "Keep-Alive")]"#);
        assert!(reply("\r\nHTTP/1.1 200 A:B\r\ncontent-length: 7\r\n\r\n").is_some());
        let chunked = reply("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\nx: \u{e9}\r\n\r\n");
        let (body, _, headers) = chunked.expect("a usual reply");
        assert_eq!((body, headers.as_str()), (Body::Chunked, r#"[("transfer-encoding", "Chunked")]"#));
    }

    #[test]
    fn every_other_reply_is_left_to_ureq() {
        for reply_head in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 200 OK\r\ncontent-length: 7\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\ncontent-length: 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +7\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nupgrade: h2c\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nbad name: x\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            assert_eq!(reply(reply_head), None, "{reply_head:?}");
        }
        let many = "a: b\r\n".repeat(MAX_HEADERS);
        assert_eq!(reply(&format!("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n{many}\r\n")), None);
    }
}
