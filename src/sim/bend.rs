//! Does to a reply what its fault says: events as the model made them in, bytes as they go over the wire out.

use std::io::{self, Read};
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::answer::Line;
use super::fault::Fault;
use super::gzip::Gzip;
use super::http::Persistence;
use super::refusal::Refusal;
use super::reply::{Framing, Reply, Shape, body_head, send};

/// Does what a fault does that leaves no good head to read.
///
/// # Errors
/// When the connection cannot serve another request, as the fault may want.
pub fn instead_of_reply(fault: Fault, line: &Line<'_>) -> io::Result<()> {
    match fault {
        Fault::Reset => reset(line),
        Fault::Stall => hold(line),
        Fault::NotHttp => {
            send(line.stream, b"SSH-2.0-OpenSSH_9.6\r\n\r\n")?;
            Err(over(fault))
        }
        Fault::CutHead => {
            let head = body_head(&Shape { persistence: line.persistence, ..Shape::STREAM }, "");
            send(line.stream, &head.as_bytes()[..head.len() / 2])?;
            Err(over(fault))
        }
        Fault::Redirect => line.reply(&Reply {
            status: 302,
            // RFC 6761: no such name will ever be
            header: Some(("location", "http://elsewhere.invalid/v1/completions")),
            ..Reply::default()
        }),
        Fault::Http429 => line.reply(&refused(&Refusal::too_many_requests(), "1")),
        Fault::Http503 => line.reply(&refused(&Refusal::busy(), "30")),
        Fault::Http502 => line.reply(&Reply {
            status: 502,
            content_type: Some("text/html"),
            body: b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1>\
                    </center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
                .to_vec(),
            ..Reply::default()
        }),
        _ => Err(over(fault)),
    }
}

fn refused(refusal: &Refusal, retry_after: &'static str) -> Reply {
    Reply { header: Some(("retry-after", retry_after)), ..Reply::json(refusal.status, refusal.json()) }
}

/// Ends the connection without a word to the client.
fn over(fault: Fault) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, format!("ended by the fault {fault}"))
}

/// Lets the close that follows be a reset.
fn reset(line: &Line<'_>) -> io::Result<()> {
    setsockopt(line.stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    Err(over(Fault::Reset))
}

/// Waits until the client gives up, or the server ends.
fn hold(line: &Line<'_>) -> io::Result<()> {
    let mut stream = line.stream;
    stream.set_read_timeout(None)?;
    while stream.read(&mut [0; 64])? > 0 {}
    Err(over(Fault::Stall))
}

/// Whether a reply can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// It can.
    GoesOn,
    /// The fault has ended it; the connection serves the next request.
    IsOver,
}

/// A reply on its way out with a fault to it.
pub struct Bent<'a> {
    fault: Fault,
    line: &'a Line<'a>,
    shape: Shape,
    random: ChaCha8Rng,
    gzip: Gzip,
    /// Events so far.
    events: u64,
    /// Whether what comes once has come.
    struck: bool,
    /// What waits for the end of the body.
    held: Vec<u8>,
}

/// The text that makes an event big.
const BIG: usize = 10 << 20;
/// More than any client should take for an event.
const HUGE: usize = 17 << 20;
/// The header that makes a head huge.
const HUGE_HEADER: usize = 64 << 10;
/// Between two bytes of a body that comes slowly; those of a head come faster.
const BYTE_EVERY: Duration = Duration::from_millis(1);
const HEAD_BYTE_EVERY: Duration = Duration::from_micros(50);
/// The largest piece of a body in pieces.
const PIECE: u64 = 40;

const DONE: &[u8] = b"data: [DONE]\n\n";

impl<'a> Bent<'a> {
    /// A reply of this shape, of which nothing has gone out. `random` cuts it, if it is to be cut.
    pub fn new(fault: Fault, line: &'a Line<'a>, shape: Shape, random: ChaCha8Rng) -> Self {
        let framing = match fault {
            Fault::UntilClose | Fault::Http10 => Framing::UntilClose,
            Fault::Sized | Fault::CutLength => Framing::Sized,
            Fault::CutChunk | Fault::BadChunk => Framing::Chunked,
            _ => shape.framing,
        };
        let closes = matches!(fault, Fault::UntilClose | Fault::Http10 | Fault::ConnectionClose);
        let persistence = if closes { Persistence::Close } else { line.persistence };
        let shape = Shape { framing, persistence, ..shape };
        let gzip = Gzip::default();
        Self { fault, line, shape, random, gzip, events: 0, struck: false, held: Vec::new() }
    }

    /// Sends the head, if it can be sent before the body is known.
    pub fn begin(&mut self) -> io::Result<()> {
        if self.shape.framing == Framing::Sized { Ok(()) } else { self.head(None) }
    }

    /// Sends events, each written as `data: …` and a blank line.
    pub fn events(&mut self, events: &[u8]) -> io::Result<Course> {
        let mut rest = events;
        while !rest.is_empty() {
            let end = rest.windows(2).position(|pair| pair == b"\n\n").map_or(rest.len(), |at| at + 2);
            let (event, later) = rest.split_at(end);
            if self.event(event)? == Course::IsOver {
                return Ok(Course::IsOver);
            }
            rest = later;
        }
        Ok(Course::GoesOn)
    }

    /// Sends a reply that is one JSON, and its end.
    pub fn whole(&mut self, json: &[u8]) -> io::Result<()> {
        self.begin()?;
        match self.fault {
            Fault::BadJson => self.body(&json[..json.len() / 2])?,
            Fault::ErrorEvent => self.body(error_json().as_bytes())?,
            _ if self.breaks_off() => self.strike(json)?,
            _ => {
                let json = self.reworded(json);
                self.body(&json)?;
            }
        }
        self.end()
    }

    /// Ends the body.
    ///
    /// # Errors
    /// Also when the connection is to end with it.
    pub fn end(&mut self) -> io::Result<()> {
        if self.fault == Fault::Gzip {
            let last = self.gzip.end();
            self.framed(&last)?;
        }
        let held = std::mem::take(&mut self.held);
        match self.shape.framing {
            Framing::Sized => {
                self.head(Some(held.len()))?;
                let kept = if self.fault == Fault::CutLength { held.len() / 2 } else { held.len() };
                self.write(&held[..kept])?;
            }
            Framing::Chunked if held.is_empty() => self.write(LAST_CHUNK)?,
            Framing::Chunked => {
                let body = [&chunk(&held)[..], LAST_CHUNK].concat();
                self.write(&body)?;
            }
            Framing::UntilClose => {}
        }
        let is_cut = self.fault == Fault::CutLength;
        if is_cut || self.shape.persistence == Persistence::Close { Err(over(self.fault)) } else { Ok(()) }
    }

    /// Sends one event.
    fn event(&mut self, event: &[u8]) -> io::Result<Course> {
        self.events += 1;
        let is_done = event == DONE;
        // in the third event, or in the last one of a short stream
        let strikes = !self.struck && (self.events == 3 || is_done);
        let data = event.strip_prefix(b"data: ").unwrap_or(event);
        let data = data.strip_suffix(b"\n\n").unwrap_or(data);
        match self.fault {
            _ if strikes && self.breaks_off() => self.strike(event)?,
            Fault::BadJson if strikes => {
                self.struck = true;
                self.body(&[b"data: ", &data[..data.len() / 2], b"\n\n"].concat())?;
            }
            Fault::EarlyEnd if strikes => return self.end().map(|()| Course::IsOver),
            Fault::ErrorEvent if strikes => {
                self.body(format!("data: {}\n\n", error_json()).as_bytes())?;
                self.body(DONE)?;
                return self.end().map(|()| Course::IsOver);
            }
            Fault::Crlf => self.body(&[b"data: ", data, b"\r\n\r\n"].concat())?,
            Fault::Cr => self.body(&[b"data: ", data, b"\r\r"].concat())?,
            Fault::NoSpace => self.body(&[b"data:", data, b"\n\n"].concat())?,
            Fault::Comments => {
                let before = b": keep-alive\n\n:\n\nevent: message\nid: 7\n: data: {}\nretry: 10\n";
                self.body(&[before, event].concat())?;
            }
            Fault::NoDone if is_done => {}
            _ => {
                let event = self.reworded(event);
                self.body(&event)?;
            }
        }
        Ok(Course::GoesOn)
    }

    /// Whether nothing more of the reply comes once it has struck.
    fn breaks_off(&self) -> bool {
        use Fault::{BadChunk, CutChunk, ResetInBody, StallInBody};
        matches!(self.fault, ResetInBody | StallInBody | CutChunk | BadChunk)
    }

    /// The JSON with what the fault changes in its words.
    fn reworded(&mut self, json: &[u8]) -> Vec<u8> {
        let padding = match self.fault {
            Fault::BadUtf8 => vec![0xff],
            Fault::BigEvent => vec![b'x'; BIG],
            Fault::HugeEvent => vec![b'x'; HUGE],
            Fault::Abort => {
                let json = String::from_utf8_lossy(json);
                let abort = r#""finish_reason":"abort""#;
                let json = json.replace(r#""finish_reason":"stop""#, abort);
                return json.replace(r#""finish_reason":"length""#, abort).into_bytes();
            }
            _ => return json.to_vec(),
        };
        let Some(at) = text_starts_at(json).filter(|_| !self.struck) else {
            return json.to_vec();
        };
        self.struck = true;
        [&json[..at], &padding, &json[at..]].concat()
    }

    /// Breaks off in the middle of these bytes of the body.
    fn strike(&mut self, bytes: &[u8]) -> io::Result<()> {
        let half = &bytes[..bytes.len() / 2];
        match self.shape.framing {
            Framing::Sized => {
                self.head(Some(bytes.len()))?;
                self.write(half)?;
            }
            Framing::UntilClose => self.write(half)?,
            Framing::Chunked if self.fault == Fault::BadChunk => self.write(b"many\r\n")?,
            Framing::Chunked => {
                let size = format!("{:x}\r\n", bytes.len());
                self.write(&[size.as_bytes(), half].concat())?;
            }
        }
        match self.fault {
            Fault::ResetInBody => reset(self.line),
            Fault::StallInBody => hold(self.line),
            fault => Err(over(fault)),
        }
    }

    /// Sends these bytes of the body, compressed if that is the fault.
    fn body(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.fault == Fault::Gzip {
            let packed = self.gzip.pack(bytes);
            return self.framed(&packed);
        }
        self.framed(bytes)
    }

    fn framed(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.shape.framing {
            Framing::Sized => self.held.extend_from_slice(bytes),
            Framing::Chunked if self.fault == Fault::Joined => self.held.extend_from_slice(bytes),
            Framing::Chunked if self.fault == Fault::Split => {
                let chunks: Vec<u8> = self.pieces(bytes).into_iter().flat_map(chunk).collect();
                self.write(&chunks)?;
            }
            Framing::Chunked => self.write(&chunk(bytes))?,
            Framing::UntilClose => self.write(bytes)?,
        }
        Ok(())
    }

    /// Sends bytes of the body, framing included.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.fault {
            Fault::SlowBody => self.drip(bytes, BYTE_EVERY),
            Fault::Split => {
                self.pieces(bytes).into_iter().try_for_each(|piece| send(self.line.stream, piece))
            }
            _ => send(self.line.stream, bytes),
        }
    }

    /// Cuts bytes into small pieces anywhere.
    fn pieces<'b>(&mut self, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = 1 + self.random.next_u64() % PIECE;
            let (piece, later) = rest.split_at(rest.len().min(length as usize));
            pieces.push(piece);
            rest = later;
        }
        pieces
    }

    fn head(&self, length: Option<usize>) -> io::Result<()> {
        let more = match self.fault {
            Fault::Gzip => "content-encoding: gzip\r\n".to_owned(),
            Fault::HugeHead => format!("x-padding: {}\r\n", "x".repeat(HUGE_HEADER)),
            _ => String::new(),
        };
        let more = length.map_or(more.clone(), |length| format!("{more}content-length: {length}\r\n"));
        let mut head = body_head(&self.shape, &more);
        match self.fault {
            Fault::Http10 => head = head.replacen("HTTP/1.1", "HTTP/1.0", 1),
            Fault::Interim => {
                let hints = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n";
                head.insert_str(0, hints);
            }
            Fault::SlowHead => return self.drip(head.as_bytes(), HEAD_BYTE_EVERY),
            _ => {}
        }
        send(self.line.stream, head.as_bytes())
    }

    /// Sends byte by byte.
    fn drip(&self, bytes: &[u8], every: Duration) -> io::Result<()> {
        bytes.iter().try_for_each(|byte| {
            send(self.line.stream, &[*byte])?;
            let is_over = !self.line.stop.sleep(every);
            if is_over { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
        })
    }
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Where the text of a choice begins; `None` for the event that names the role, and where there is no text.
fn text_starts_at(json: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(json);
    let is_role = text.contains(r#""delta":{"role""#);
    let after = |key: &str| text.find(key).map(|at| at + key.len());
    after(r#""content":""#).or_else(|| after(r#""text":""#)).filter(|_| !is_role)
}

/// As captured from a server whose engine was killed: with blanks, unlike all other events.
fn error_json() -> String {
    Refusal::engine_failed().json().replace(r#"":"#, r#"": "#).replace(r#","#, ", ")
}
