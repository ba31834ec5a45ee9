//! Lives through one answer: waits for a slot, then token by token, counting before sending.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use parking_lot::Mutex;

use super::ask::{Ask, Delivery};
use super::behavior::Behavior;
use super::bend::{self, Bent, Course};
use super::capacity::{Capacity, Slot, Waited};
use super::events::{EventStream, Frame, Heading, Tokens, whole};
use super::fault::{self, Effect, Fault};
use super::http::Persistence;
use super::metrics::Metrics;
use super::pace::{self, Finish, Length, Pace};
use super::refusal::Refusal;
use super::reply::{Reply, Shape, send, stream_head};
use crate::clock::{Clock, Date, Moment, Stop, SystemClock};
use crate::random::{self, Purpose};

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

/// A request that a fault has hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faulted {
    /// As in [`Served::request_id`]. A request that comes twice is hit twice.
    pub request_id: String,
    /// What hit it.
    pub fault: Fault,
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
    /// Whom faults have hit, if it keeps a log.
    pub faulted: Mutex<Vec<Faulted>>,
    /// How often each fault has hit.
    pub hits: Mutex<BTreeMap<Fault, u64>>,
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
            faulted: Mutex::default(),
            hits: Mutex::default(),
            arrivals: AtomicU64::new(0),
            behavior,
        }
    }

    /// Keeps what was done, before the last of it is written. That moment is taken when nothing is left to wait for.
    fn keep(&self, truth: Served, last_events: usize) {
        if !self.behavior.keep_log {
            return;
        }
        let mut served = self.served.lock();
        served.push(truth);
        if let Some(Served { written, .. }) = served.last_mut() {
            written.extend(std::iter::repeat_n(SystemClock.now(), last_events));
        }
    }

    /// The fault that hits this request, if one does.
    fn fault(&self, ask: &Ask, request_id: Option<&str>, item: u64) -> Option<Fault> {
        let number = fault::number_of(request_id).unwrap_or(item);
        let fault = self.behavior.faults.draw(self.behavior.seed, number)?;
        let can_hit = ask.delivery != Delivery::Whole || !fault.needs_events();
        can_hit.then_some(fault)
    }

    fn note(&self, fault: Fault, request_id: &str) {
        *self.hits.lock().entry(fault).or_default() += 1;
        if self.behavior.keep_log {
            self.faulted.lock().push(Faulted { request_id: request_id.to_owned(), fault });
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
/// When the client went away or the connection was cut, be it by a fault.
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
    let fault = model.fault(&ask, request_id.as_deref(), item);
    let id = request_id.unwrap_or(own_id);
    if let Some(fault) = fault {
        model.note(fault, &id);
        if fault.effect() == Effect::NoReply {
            return bend::instead_of_reply(fault, line);
        }
    }
    let length = match fault {
        Some(Fault::Empty) => Length { tokens: 0, finish: Finish::Stop },
        _ => pace.length(ask.limits),
    };
    let heading = Heading {
        dialect: ask.dialect,
        id: id.clone(),
        model: model.behavior.model.clone(),
        created: Date::now().unix_seconds() as u64,
        prompt_tokens: ask.prompt_tokens,
    };
    let shape = if ask.delivery == Delivery::Whole { Shape::WHOLE } else { Shape::STREAM };
    // the numbers from the other end are for the cuts
    let cuts = || random::stream(model.behavior.seed, Purpose::Faults, !item);
    let mut bent = fault.map(|fault| Bent::new(fault, line, shape, cuts()));
    let form = match ask.delivery {
        Delivery::Whole => Form::Whole(heading),
        Delivery::Stream(usage) => {
            // in a packet of its own, before there is a slot, as vLLM does
            let frame = send_head(bent.as_mut(), line)?;
            Form::Stream(EventStream::new(heading, usage, length, frame))
        }
    };
    let tokens_per_event = match fault {
        Some(Fault::SeveralTokens) => SEVERAL,
        _ => model.behavior.tokens_per_event.get() as u64,
    };
    let (slot, started) = enter(model, received, line)?;
    let written = if model.behavior.keep_log { length.tokens.min(MAX_RESERVED) as usize } else { 0 };
    let written = Vec::with_capacity(written);
    let truth =
        Served { request_id: id, received, first_token: started, last_token: started, tokens: 0, written };
    let prompt_tokens = ask.prompt_tokens;
    let answer = Generation {
        model,
        line,
        pace,
        length,
        prompt_tokens,
        tokens_per_event,
        form,
        bent,
        truth,
        uncounted: 0,
        unwritten: 0,
    };
    answer.run(slot, started)
}

/// Tokens in an event where the fault wants several.
const SEVERAL: u64 = 4;

/// Sends the head of a stream and says who frames its events.
fn send_head(bent: Option<&mut Bent<'_>>, line: &Line<'_>) -> io::Result<Frame> {
    match bent {
        Some(bent) => bent.begin().map(|()| Frame::Bare),
        None => send(line.stream, stream_head(line.persistence).as_bytes()).map(|()| Frame::Chunk),
    }
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
    tokens_per_event: u64,
    form: Form,
    /// The fault that hits it.
    bent: Option<Bent<'a>>,
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
                if self.deliver(now)? == Course::IsOver {
                    return Ok(());
                }
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
        let size = if made == 0 { 1 } else { self.tokens_per_event };
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
    fn deliver(&mut self, now: Moment) -> io::Result<Course> {
        if self.uncounted == 0 {
            return Ok(Course::GoesOn);
        }
        self.count(now);
        match &mut self.form {
            Form::Whole(_) if self.line.hung_up() => Err(io::ErrorKind::ConnectionReset.into()),
            Form::Whole(_) => Ok(Course::GoesOn),
            Form::Stream(stream) => {
                if self.model.behavior.keep_log {
                    self.truth.written.extend(std::iter::repeat_n(SystemClock.now(), self.unwritten));
                }
                self.unwritten = 0;
                let course = match &mut self.bent {
                    Some(bent) => bent.events(stream.bytes())?,
                    None => send(self.line.stream, stream.bytes()).map(|()| Course::GoesOn)?,
                };
                stream.clear();
                Ok(course)
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
        let Self { model, line, length, form, bent, truth, unwritten, .. } = self;
        model.metrics.finished(length.finish, now.since(truth.received));
        drop(slot);
        match (form, bent) {
            (Form::Whole(heading), None) => {
                let reply = Reply::json(200, whole(&heading, length)).bytes(line.persistence);
                model.keep(truth, 1);
                send(line.stream, &reply)
            }
            (Form::Whole(heading), Some(mut bent)) => {
                model.keep(truth, 1);
                bent.whole(whole(&heading, length).as_bytes())
            }
            (Form::Stream(mut stream), None) => {
                stream.end();
                model.keep(truth, unwritten);
                send(line.stream, stream.bytes())
            }
            (Form::Stream(mut stream), Some(mut bent)) => {
                stream.end();
                model.keep(truth, unwritten);
                match bent.events(stream.bytes())? {
                    Course::GoesOn => bent.end(),
                    Course::IsOver => Ok(()),
                }
            }
        }
    }
}
