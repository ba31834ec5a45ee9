//! Requests as they come in: HTTP/1.1 as far as a server of this kind needs it.
//!
//! Reads from anything that reads; knows no routes.

use std::io::{ErrorKind, Read};

use httparse::Status;

/// The largest request body that is read, in bytes.
pub const MAX_BODY: usize = 64 << 20;
/// The largest request head, chunk line or trailer that is read, in bytes.
const MAX_HEAD: usize = 32 << 10;
const MAX_HEADERS: usize = 64;

/// The head of a request: what the server looks at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub persistence: Persistence,
    pub body: Framing,
    pub expects_continue: bool,
    /// `X-Request-Id`.
    pub request_id: Option<String>,
    pub authorization: Option<String>,
    /// Whether the body is announced as JSON.
    pub json: bool,
}

/// Whether the connection stays open after the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    #[default]
    KeepAlive,
    Close,
}

/// How the end of a request's body is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    NoBody,
    Sized(usize),
    Chunked,
}

/// Why a request could not be read. None of these leaves a connection to go on with.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The client went away, or idled for too long between requests.
    Gone,
    /// What came is not HTTP, or a head beyond all measure.
    Malformed,
    /// The body is larger than [`MAX_BODY`].
    TooLarge,
}

/// The bytes that came in and are not used up yet.
pub struct Inbox<R> {
    source: R,
    bytes: Vec<u8>,
}

impl<R: Read> Inbox<R> {
    /// Nothing has come in yet.
    pub fn new(source: R) -> Self {
        Self { source, bytes: Vec::new() }
    }

    /// Reads the head of the next request. A timeout of the source ends the wait for its first byte only.
    ///
    /// # Errors
    /// [`Trouble::Gone`] where there is no next request.
    pub fn head(&mut self) -> Result<Head, Trouble> {
        if self.bytes.is_empty() {
            self.first_bytes()?;
        }
        loop {
            if let Some((head, length)) = parse_head(&self.bytes)? {
                self.bytes.drain(..length);
                return Ok(head);
            }
            self.more()?;
        }
    }

    /// Where the bytes are from.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// Whether bytes are waiting to be used.
    pub fn holds_bytes(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Reads the body that the head announced.
    ///
    /// # Errors
    /// Where the body breaks off, is too large or not framed as announced.
    pub fn body(&mut self, framing: Framing) -> Result<Vec<u8>, Trouble> {
        match framing {
            Framing::NoBody => Ok(Vec::new()),
            Framing::Sized(length) => {
                let mut body = Vec::new();
                self.append(&mut body, length)?;
                Ok(body)
            }
            Framing::Chunked => self.chunked(),
        }
    }

    fn chunked(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        loop {
            match self.chunk_size()? {
                0 => {
                    while !self.line()?.is_empty() {}
                    return Ok(body);
                }
                size => self.append(&mut body, size)?,
            }
            if !self.line()?.is_empty() {
                return Err(Trouble::Malformed);
            }
        }
    }

    fn chunk_size(&mut self) -> Result<usize, Trouble> {
        loop {
            match httparse::parse_chunk_size(&self.bytes).map_err(|_| Trouble::Malformed)? {
                Status::Complete((used, size)) => {
                    self.bytes.drain(..used);
                    return usize::try_from(size).map_err(|_| Trouble::TooLarge);
                }
                Status::Partial => self.more()?,
            }
        }
    }

    /// Takes one line, without its end.
    fn line(&mut self) -> Result<Vec<u8>, Trouble> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.bytes[..end].to_vec();
                self.bytes.drain(..end + 2);
                return Ok(line);
            }
            self.more()?;
        }
    }

    /// Moves the next `length` bytes to the end of `body`.
    fn append(&mut self, body: &mut Vec<u8>, length: usize) -> Result<(), Trouble> {
        let end = body.len().saturating_add(length);
        if end > MAX_BODY {
            return Err(Trouble::TooLarge);
        }
        let held = length.min(self.bytes.len());
        body.extend(self.bytes.drain(..held));
        let mut space = [0; 16 << 10];
        while body.len() < end {
            let want = (end - body.len()).min(space.len());
            let count = self.read(&mut space[..want])?;
            body.extend_from_slice(&space[..count]);
        }
        Ok(())
    }

    fn first_bytes(&mut self) -> Result<(), Trouble> {
        let mut space = [0; 2 << 10];
        let count = loop {
            match self.source.read(&mut space) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return Err(Trouble::Gone),
                Ok(count) => break count,
            }
        };
        self.bytes.extend_from_slice(&space[..count]);
        Ok(())
    }

    fn more(&mut self) -> Result<(), Trouble> {
        if self.bytes.len() > MAX_HEAD {
            return Err(Trouble::Malformed);
        }
        let mut space = [0; 2 << 10];
        let count = self.read(&mut space)?;
        self.bytes.extend_from_slice(&space[..count]);
        Ok(())
    }

    /// Reads at least one byte. As uvicorn does, it waits for a slow sender for ever.
    fn read(&mut self, space: &mut [u8]) -> Result<usize, Trouble> {
        loop {
            match self.source.read(space) {
                Ok(0) => return Err(Trouble::Gone),
                Ok(count) => return Ok(count),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    _ => return Err(Trouble::Gone),
                },
            }
        }
    }
}

/// The head at the start of `bytes` and its length; `None` while there is no whole head.
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Trouble> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes).map_err(|_| Trouble::Malformed)? {
        Status::Complete(length) => length,
        Status::Partial => return Ok(None),
    };
    let path = request.path.unwrap_or_default();
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: path.split('?').next().unwrap_or_default().to_owned(),
        persistence: if request.version == Some(0) { Persistence::Close } else { Persistence::KeepAlive },
        ..Head::default()
    };
    for header in request.headers {
        head.take(header.name, header.value)?;
    }
    Ok(Some((head, length)))
}

impl Head {
    /// Takes in a header, if it is one that matters.
    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), Trouble> {
        let value = String::from_utf8_lossy(value);
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                // a sign would parse too
                let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
                let length = value.parse().ok().filter(|_| is_number).ok_or(Trouble::Malformed)?;
                // chunks, if announced too, are what counts (RFC 9112, section 6.3)
                if self.body != Framing::Chunked {
                    self.body = Framing::Sized(length);
                }
            }
            "transfer-encoding" if has_token(&value, "chunked") => self.body = Framing::Chunked,
            "transfer-encoding" => return Err(Trouble::Malformed),
            "connection" if has_token(&value, "close") => self.persistence = Persistence::Close,
            "connection" if has_token(&value, "keep-alive") => self.persistence = Persistence::KeepAlive,
            "expect" => self.expects_continue = value.eq_ignore_ascii_case("100-continue"),
            "x-request-id" => self.request_id = Some(value.into_owned()),
            "authorization" => self.authorization = Some(value.into_owned()),
            "content-type" => {
                let media = value.split(';').next().unwrap_or_default();
                self.json = media.trim().eq_ignore_ascii_case("application/json");
            }
            _ => {}
        }
        Ok(())
    }
}

fn has_token(list: &str, token: &str) -> bool {
    list.split(',').any(|one| one.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const POST: &str =
        "POST /v1/completions?x=1 HTTP/1.1\r\nHost: h\r\nContent-Type: application/json; charset=utf-8\r\n";

    /// Gives its bytes a few at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(space.len());
            space[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn read(bytes: &str, at_once: usize) -> Result<(Head, Vec<u8>), Trouble> {
        let mut inbox = Inbox::new(Drip(bytes.as_bytes(), at_once));
        let head = inbox.head()?;
        let body = inbox.body(head.body)?;
        Ok((head, body))
    }

    /// Whatever the bytes are cut into, the same comes out.
    fn check(bytes: &str, body: &str) -> Head {
        let (head, _) = read(bytes, usize::MAX).expect("a request");
        for at_once in 1..=bytes.len() {
            let (other, read) = read(bytes, at_once).expect("a request");
            assert_eq!(other, head, "{at_once} bytes at once");
            assert_eq!(String::from_utf8_lossy(&read), body, "{at_once} bytes at once");
        }
        head
    }

    fn troubled(bytes: &str, want: Trouble) {
        assert_eq!(read(bytes, usize::MAX).map(|_| ()), Err(want), "{bytes:?}");
    }

    #[test]
    fn a_sized_body_is_read() {
        let head =
            check(&format!("{POST}Content-Length: 7\r\nX-Request-Id: r-1\r\n\r\n{{\"a\":1}}"), "{\"a\":1}");
        assert_eq!((head.method.as_str(), head.path.as_str(), head.json), ("POST", "/v1/completions", true));
        assert_eq!(head.request_id.as_deref(), Some("r-1"));
    }

    #[test]
    fn a_chunked_body_is_read() {
        check(
            &format!("{POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n02;x=y\r\nde\r\n0\r\n\r\n"),
            "abcde",
        );
        check(&format!("{POST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: t\r\n\r\n"), "a");
    }

    #[test]
    fn two_requests_in_one_read_are_two_requests() {
        let bytes = format!("{POST}Content-Length: 1\r\n\r\naGET /health HTTP/1.1\r\n\r\n");
        let mut inbox = Inbox::new(bytes.as_bytes());
        let first = inbox.head().expect("the first");
        assert_eq!(inbox.body(first.body), Ok(b"a".to_vec()));
        assert_eq!(inbox.head().expect("the second").path, "/health");
        assert_eq!(inbox.head(), Err(Trouble::Gone));
    }

    #[test]
    fn the_client_decides_about_the_connection() {
        let persistence = |text: &str| read(text, usize::MAX).expect("a request").0.persistence;
        assert_eq!(persistence("GET / HTTP/1.1\r\n\r\n"), Persistence::KeepAlive);
        assert_eq!(persistence("GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n"), Persistence::Close);
        assert_eq!(persistence("GET / HTTP/1.0\r\n\r\n"), Persistence::Close);
        assert_eq!(persistence("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"), Persistence::KeepAlive);
    }

    #[test]
    fn what_is_not_http_is_refused() {
        troubled("", Trouble::Gone);
        troubled("GET / HTTP/1.1\r\nHos", Trouble::Gone);
        troubled("\u{1}\u{2}\r\n\r\n", Trouble::Malformed);
        troubled("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", Trouble::Malformed);
        troubled("GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\na", Trouble::Malformed);
        troubled("GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", Trouble::Malformed);
        troubled(&format!("{POST}Transfer-Encoding: chunked\r\n\r\nx\r\n"), Trouble::Malformed);
        troubled(&format!("{POST}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n"), Trouble::Malformed);
        troubled(&format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(64 << 10)), Trouble::Malformed);
    }

    #[test]
    fn a_body_beyond_the_limit_is_refused_before_it_is_read() {
        troubled(&format!("{POST}Content-Length: 67108865\r\n\r\n"), Trouble::TooLarge);
        troubled(&format!("{POST}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), Trouble::TooLarge);
    }
}
