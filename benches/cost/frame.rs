//! Where an HTTP/1.1 message ends, and nothing else of it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Room for a read.
const ROOM: usize = 64 * 1024;
/// What ends a chunked body that has any data.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// A connection that reads whole messages. The other side sends no second one before it is answered, so a message's
/// end is always the end of what has come.
pub struct Connection {
    stream: TcpStream,
    room: Vec<u8>,
}

impl Connection {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, room: vec![0; ROOM] })
    }

    pub fn to(address: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect(address)?)
    }

    /// Sends `request` and reads its reply to the end. Returns the bytes read.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<u64> {
        self.write(request)?;
        self.pass_over(|_| ())
    }

    /// Sends `request` and keeps the whole reply.
    pub fn fetch(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.write(request)?;
        self.read()
    }

    /// One message, whole.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut message = Vec::new();
        self.pass_over(|bytes| message.extend_from_slice(bytes))?;
        Ok(message)
    }

    pub fn write(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.write_all(message)
    }

    /// Reads one message, read by read. An end in its middle, or before it, is an error.
    pub fn pass_over(&mut self, mut on_bytes: impl FnMut(&[u8])) -> io::Result<u64> {
        let mut filled = 0;
        let head = loop {
            let count = some(self.stream.read(&mut self.room[filled..])?)?;
            on_bytes(&self.room[filled..filled + count]);
            filled += count;
            if let Some(end) = find(&self.room[..filled], b"\r\n\r\n") {
                break end + 4;
            }
        };
        let mut total = filled as u64;
        if let Some(length) = content_length(&self.room[..head]) {
            while total < head as u64 + length {
                let count = some(self.stream.read(&mut self.room)?)?;
                on_bytes(&self.room[..count]);
                total += count as u64;
            }
            return Ok(total);
        }
        // the end may be cut: what was read last is kept in front of what comes next
        while !self.room[..filled].ends_with(LAST_CHUNK) {
            let kept = filled.min(LAST_CHUNK.len());
            self.room.copy_within(filled - kept..filled, 0);
            let count = some(self.stream.read(&mut self.room[kept..])?)?;
            on_bytes(&self.room[kept..kept + count]);
            filled = kept + count;
            total += count as u64;
        }
        Ok(total)
    }
}

fn some(count: usize) -> io::Result<usize> {
    if count == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
}

fn find(bytes: &[u8], sought: &[u8]) -> Option<usize> {
    bytes.windows(sought.len()).position(|window| window == sought)
}

/// `None` for a chunked body. A message without a word of either, such as a GET, has no body.
fn content_length(head: &[u8]) -> Option<u64> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        return None;
    }
    let value = head.split("content-length:").nth(1).and_then(|rest| rest.lines().next());
    Some(value.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
}
