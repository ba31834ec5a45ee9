//! Lives through one answer: waits for a slot, then token by token, counting before sending.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use parking_lot::Mutex;

use super::ask::{Ask, Delivery};
use super::behavior::Behavior;
use super::capacity::{Capacity, Slot, Waited};
use super::events::{EventStream, Heading, Tokens, whole};
use super::http::Persistence;
use super::metrics::Metrics;
use super::pace::{self, Length, Pace};
use super::refusal::Refusal;
use super::reply::{Reply, send, stream_head};
use crate::clock::{Clock, Date, Moment, Stop, SystemClock};

/// What really happened to a request that was answered to its end. All moments are the server's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The client's `X-Request-Id`, or the id that the server made, without `cmpl-` or `chatcmpl-`.
    pub request_id: String,
    /// When the request came in whole: the kernel's stamp of its last bytes, or where there is none, when it had been read.
    pub received: Moment,
    /// When the first token was ready.
    pub first_token: Moment,
    /// When the last token was ready.
    pub last_token: Moment,
    /// Tokens of the answer.
    pub tokens: u64,
    /// When each event that bears tokens was handed to the system, taken just before; for an answer in one piece, when
    /// that was.
    pub written: Vec<Moment>,
}

/// The model behind the server: what all connections share.
pub struct Model {
    /// How it behaves.
    pub behavior: Behavior,
    /// Its slots.
    pub capacity: Capacity,
    /// What it tells of itself.
    pub metrics: Metrics,
    /// What it did, if it keeps a log.
    pub served: Mutex<Vec<Served>>,
    /// Requests for text so far: the number of the next is what its draws hang on.
    arrivals: AtomicU64,
}

impl Model {
    /// A model that nobody has asked anything yet.
    pub fn new(behavior: Behavior) -> Self {
        Self {
            capacity: Capacity::new(behavior.slots),
            metrics: Metrics::new(Date::now().unix_seconds()),
            served: Mutex::default(),
            arrivals: AtomicU64::new(0),
            behavior,
        }
    }

    /// Keeps what was done, before the last of it is written. That moment is taken when nothing is left to wait for.
    fn note(&self, truth: Served, last_events: usize) {
        let mut served = self.served.lock();
        served.push(truth);
        if let Some(Served { written, .. }) = served.last_mut() {
            written.extend(std::iter::repeat_n(SystemClock.now(), last_events));
        }
    }
}

/// The way back to the client.
pub struct Line<'a> {
    /// The connection, for writing.
    pub stream: &'a TcpStream,
    /// Comes when the connection is cut.
    pub stop: &'a Stop,
    /// Whether the connection outlives the reply.
    pub persistence: Persistence,
}

impl Line<'_> {
    /// Sends a reply that is known whole.
    pub fn reply(&self, reply: &Reply) -> io::Result<()> {
        send(self.stream, &reply.bytes(self.persistence))
    }

    /// Sends the head of a reply, as `HEAD` wants it.
    pub fn reply_head(&self, reply: &Reply) -> io::Result<()> {
        send(self.stream, reply.head(self.persistence).as_bytes())
    }

    /// Whether the client has closed its side. Takes nothing from what it may have sent ahead.
    fn hung_up(&self) -> bool {
        recv(self.stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) == Ok(0)
    }
}

/// Answers a request that was read at `received`.
///
/// # Errors
/// When the client went away or the connection was cut.
pub fn answer(
    model: &Model,
    ask: Ask,
    request_id: Option<String>,
    received: Moment,
    line: &Line<'_>,
) -> io::Result<()> {
    let item = model.arrivals.fetch_add(1, Ordering::Relaxed);
    if pace::fails(&model.behavior, item) {
        let refusal = Refusal::engine_failed();
        return line.reply(&Reply::json(refusal.status, refusal.json()));
    }
    let mut pace = Pace::new(&model.behavior, item);
    // drawn whether it is used or not, so that the draws after it are the same
    let own_id = pace.id();
    let id = request_id.unwrap_or(own_id);
    let length = pace.length(ask.limits);
    let heading = Heading {
        dialect: ask.dialect,
        id: id.clone(),
        model: model.behavior.model.clone(),
        created: Date::now().unix_seconds() as u64,
        prompt_tokens: ask.prompt_tokens,
    };
    let form = match ask.delivery {
        Delivery::Whole => Form::Whole(heading),
        Delivery::Stream(usage) => {
            // in a packet of its own, before there is a slot, as vLLM does
            send(line.stream, stream_head(line.persistence).as_bytes())?;
            Form::Stream(EventStream::new(heading, usage, length))
        }
    };
    let (slot, started) = enter(model, received, line)?;
    let written = if model.behavior.keep_log { length.tokens.min(MAX_RESERVED) as usize } else { 0 };
    let written = Vec::with_capacity(written);
    let truth =
        Served { request_id: id, received, first_token: started, last_token: started, tokens: 0, written };
    let prompt_tokens = ask.prompt_tokens;
    Generation { model, line, pace, length, prompt_tokens, form, truth, uncounted: 0, unwritten: 0 }
        .run(slot, started)
}

/// Waits for a slot and says when it came.
fn enter<'a>(model: &'a Model, received: Moment, line: &Line<'_>) -> io::Result<(Slot<'a>, Moment)> {
    let (slot, waited) = model.capacity.enter(line.stop).ok_or(io::ErrorKind::ConnectionAborted)?;
    if waited == Waited::Yes && line.hung_up() {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let started = SystemClock.now();
    model.metrics.queue.observe(started.since(received), 1);
    Ok((slot, started))
}

/// An answer while it has its slot.
struct Generation<'a> {
    model: &'a Model,
    line: &'a Line<'a>,
    pace: Pace<'a>,
    length: Length,
    prompt_tokens: u64,
    form: Form,
    /// Counts the tokens that the metrics know of.
    truth: Served,
    /// Tokens made since then.
    uncounted: u64,
    /// Events made and not yet handed to the system.
    unwritten: usize,
}

enum Form {
    Whole(Heading),
    Stream(EventStream),
}

/// When so many bytes are waiting they go out, though the next token is due already.
const FULL: usize = 32 << 10;

/// Of a longer answer the log's room grows as needed.
const MAX_RESERVED: u64 = 4096;

impl<'a> Generation<'a> {
    fn run(mut self, slot: Slot<'a>, started: Moment) -> io::Result<()> {
        let mut now = started;
        let mut due = started;
        let mut made = 0;
        while made < self.length.tokens {
            let tokens = self.next_event(made);
            made = tokens.end;
            due = due + self.time_for(&tokens);
            if due > now || self.is_full() {
                self.deliver(now)?;
                if !SystemClock.wait_until(due, self.line.stop) {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                now = SystemClock.now();
            }
            self.make(tokens);
        }
        self.end(slot, now)
    }

    /// The tokens of the next event. As in vLLM, the first token does not wait for others.
    fn next_event(&self, made: u64) -> Tokens {
        let size = if made == 0 { 1 } else { self.model.behavior.tokens_per_event.get() as u64 };
        made..made.saturating_add(size).min(self.length.tokens)
    }

    /// How long these tokens take under the present load.
    fn time_for(&mut self, tokens: &Tokens) -> Duration {
        let running = self.model.capacity.running();
        let time = |token| match token {
            0 => self.pace.before_first(running),
            _ => self.pace.before_next(running),
        };
        tokens.clone().map(time).fold(Duration::ZERO, Duration::saturating_add)
    }

    fn is_full(&self) -> bool {
        matches!(&self.form, Form::Stream(stream) if stream.bytes().len() >= FULL)
    }

    fn make(&mut self, tokens: Tokens) {
        self.uncounted += tokens.end - tokens.start;
        self.unwritten += 1;
        if let Form::Stream(stream) = &mut self.form {
            stream.tokens(tokens);
        }
    }

    /// Counts the tokens made, then sends them. For an answer in one piece it looks if the client is still there.
    fn deliver(&mut self, now: Moment) -> io::Result<()> {
        if self.uncounted == 0 {
            return Ok(());
        }
        self.count(now);
        match &mut self.form {
            Form::Whole(_) if self.line.hung_up() => Err(io::ErrorKind::ConnectionReset.into()),
            Form::Whole(_) => Ok(()),
            Form::Stream(stream) => {
                if self.model.behavior.keep_log {
                    self.truth.written.extend(std::iter::repeat_n(SystemClock.now(), self.unwritten));
                }
                self.unwritten = 0;
                send(self.line.stream, stream.bytes())?;
                stream.clear();
                Ok(())
            }
        }
    }

    /// Takes the tokens made into the metrics; they all were ready at `now`.
    fn count(&mut self, now: Moment) {
        let metrics = &self.model.metrics;
        if self.truth.tokens == 0 {
            metrics.prompt_tokens.fetch_add(self.prompt_tokens, Ordering::Relaxed);
            metrics.ttft.observe(now.since(self.truth.received), 1);
            self.truth.first_token = now;
        } else {
            metrics.itl.observe(now.since(self.truth.last_token), 1);
        }
        let further = self.uncounted.saturating_sub(1);
        metrics.itl.observe(Duration::ZERO, further);
        metrics.generation_tokens.fetch_add(self.uncounted, Ordering::Relaxed);
        self.truth.last_token = now;
        self.truth.tokens += self.uncounted;
        self.uncounted = 0;
    }

    /// Counts the request and frees the slot before the last bytes leave, so that whoever has seen the end of the
    /// answer finds it in the metrics, and finds the slot free.
    fn end(mut self, slot: Slot<'a>, now: Moment) -> io::Result<()> {
        self.count(now);
        let Self { model, line, length, mut form, truth, unwritten, .. } = self;
        model.metrics.finished(length.finish, now.since(truth.received));
        drop(slot);
        let (reply, events);
        let last = match &mut form {
            Form::Whole(heading) => {
                reply = Reply::json(200, whole(heading, length)).bytes(line.persistence);
                events = 1;
                reply.as_slice()
            }
            Form::Stream(stream) => {
                stream.end();
                events = unwritten;
                stream.bytes()
            }
        };
        if model.behavior.keep_log {
            model.note(truth, events);
        }
        send(line.stream, last)
    }
}
