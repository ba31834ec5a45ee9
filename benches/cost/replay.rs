//! A server faster than any client: learns one reply from the simulator and then sends its bytes to whoever asks.
//!
//! A stream comes in as few writes as the socket takes, so it is the client that is measured. It tells the time between
//! the first request and the last byte of the last reply itself.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vllm_loadgen::sim::{Behavior, Simulator};

use crate::frame::Connection;

/// Asks for the time since the last such question.
const ASK_SPAN: &[u8] = b"GET /span HTTP/1.1\r\nhost: bench\r\n\r\n";

/// Serves the reply to the request on standard input until it is killed.
pub fn run() -> io::Result<()> {
    let mut request = Vec::new();
    io::stdin().read_to_end(&mut request)?;
    let reply = {
        let simulator = Simulator::start(Behavior::flat_out(), ([127, 0, 0, 1], 0).into())?;
        Connection::to(simulator.address())?.fetch(&request)?
    };
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXALLOWABLE)?;
    eprintln!("http://{}", listener.local_addr()?);
    let (reply, span) = (Arc::new(reply), Arc::new(Span::new()));
    for stream in listener.incoming() {
        let (stream, reply, span) = (stream?, Arc::clone(&reply), Arc::clone(&span));
        // ends when its client goes away
        let serve = move || drop(serve(stream, &reply, &span));
        thread::Builder::new().stack_size(128 * 1024).spawn(serve)?;
    }
    Ok(())
}

fn serve(stream: TcpStream, reply: &[u8], span: &Span) -> io::Result<()> {
    let mut connection = Connection::new(stream)?;
    loop {
        let mut is_question = false;
        connection.pass_over(|bytes| is_question |= bytes.starts_with(b"GET /span"))?;
        if is_question {
            let (replies, nanos) = span.take();
            let body = format!("{replies} {nanos}");
            connection.write(
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes(),
            )?;
        } else {
            span.begin();
            connection.write(reply)?;
            span.end();
        }
    }
}

/// From the first request to the end of the last reply, and the replies between.
struct Span {
    origin: Instant,
    first: AtomicU64,
    last: AtomicU64,
    replies: AtomicU64,
}

impl Span {
    fn new() -> Self {
        let (first, last, replies) = (AtomicU64::new(u64::MAX), AtomicU64::new(0), AtomicU64::new(0));
        Self { origin: Instant::now(), first, last, replies }
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    fn begin(&self) {
        if self.first.load(Ordering::Relaxed) == u64::MAX {
            self.first.fetch_min(self.now(), Ordering::Relaxed);
        }
    }

    fn end(&self) {
        self.last.fetch_max(self.now(), Ordering::Relaxed);
        self.replies.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) -> (u64, u64) {
        let first = self.first.swap(u64::MAX, Ordering::Relaxed);
        (self.replies.swap(0, Ordering::Relaxed), self.last.load(Ordering::Relaxed).saturating_sub(first))
    }
}

/// Replies since the last time this was asked, and the time they took.
pub fn span(server: SocketAddr) -> io::Result<(u64, Duration)> {
    let reply = Connection::to(server)?.fetch(ASK_SPAN)?;
    let text = String::from_utf8_lossy(&reply);
    let told = text.rsplit("\r\n\r\n").next().and_then(|body| body.split_once(' '));
    let read = |(replies, nanos): (&str, &str)| Some((replies.parse().ok()?, nanos.parse().ok()?));
    let (replies, nanos) = told.and_then(read).ok_or_else(|| io::Error::other("the server tells no span"))?;
    Ok((replies, Duration::from_nanos(nanos)))
}
