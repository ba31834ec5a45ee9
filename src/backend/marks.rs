//! What the transport notes of the exchange under way.
//!
//! An agent never leaves its thread, so marks go to a thread-local without locks.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use ureq::Error;

use super::Trace;
use super::line::SharedLine;
use super::proxy::Proxy;
use crate::clock::{Arrival, Moment};

/// What the transport notes of the exchange under way on this thread.
#[derive(Debug, Default)]
pub struct Marks {
    pub trace: Trace,
    /// When the whole exchange must be over.
    pub deadline: Moment,
    /// Longest wait for the next byte.
    pub idle: Duration,
    /// Longest time to connect, TLS included.
    pub connect_timeout: Duration,
    /// When the connection being made must be there, TLS included.
    pub connect_by: Moment,
    /// The present phase.
    pub phase: Phase,
    /// Whether the reply's head is over.
    pub in_body: bool,
    /// What the system said last, kept because ureq swallows some of it.
    pub cause: Option<Cause>,
    /// When the bytes of the latest read came in.
    pub last_read: Arrival,
    /// The connection in use, if its bytes are those of HTTP: there is none under TLS.
    pub line: Option<SharedLine>,
    /// The first that ureq wrote on it: the head of the request, if that was written at once.
    pub request_head: Vec<u8>,
}

impl Marks {
    /// Puts whom it is about before the words of the cause.
    pub fn say_first(&mut self, whom: impl fmt::Display) {
        if let Some(Cause::Dns(words) | Cause::Io(.., words)) = &mut self.cause {
            *words = format!("{whom}: {words}");
        }
    }

    /// What failed was on the way to the proxy, and is none of the server's; nor is it where this machine is short of
    /// something.
    pub fn blame(&mut self, proxy: &Proxy) {
        self.say_first(proxy);
        self.cause = match self.cause.take() {
            Some(Cause::Io(.., number, words)) if !is_shortage(number) => Some(Cause::Proxy(words)),
            Some(Cause::Dns(words)) => Some(Cause::Proxy(words)),
            other => other,
        };
    }
}

/// What the transport is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Resolving,
    Connecting,
    /// Waiting for a proxy to open the way to the server.
    Tunnel,
    Handshake,
    Sending,
    Receiving,
}

impl Phase {
    /// Whether the connection is being made, so that what passes is no request or reply.
    pub fn is_before_exchange(self) -> bool {
        matches!(self, Self::Tunnel | Self::Handshake)
    }
}

/// Why the transport gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The name could not be resolved; with the system's words.
    Dns(String),
    /// The proxy is not there or opens no way; which it is, and in what words.
    Proxy(String),
    /// Connecting took too long.
    ConnectTimeout,
    /// No byte within the idle timeout.
    Idle,
    /// The whole exchange took too long.
    Total,
    /// The system's error and its number, in this phase.
    Io(Phase, ErrorKind, Option<i32>, String),
}

thread_local! {
    static MARKS: RefCell<Marks> = RefCell::default();
}

/// Starts the marks of a new exchange on this thread.
pub fn begin(deadline: Moment, idle: Duration, connect_timeout: Duration) {
    MARKS.set(Marks { deadline, idle, connect_timeout, ..Marks::default() });
}

/// The marks of this thread's exchange, which is over.
pub fn end() -> Marks {
    MARKS.take()
}

/// When the bytes of the latest read on this thread came in.
pub fn last_read() -> Arrival {
    MARKS.with_borrow(|marks| marks.last_read)
}

/// The system's error of this exchange, if there was one: ureq takes a reset for the end of a body that has no length.
pub fn last_io_error() -> Option<Error> {
    MARKS.with_borrow(|marks| match &marks.cause {
        Some(Cause::Io(_, kind, ..)) => Some(Error::Io((*kind).into())),
        _ => None,
    })
}

/// Notes something about this thread's exchange.
pub fn note<R>(f: impl FnOnce(&mut Marks) -> R) -> R {
    MARKS.with_borrow_mut(f)
}

/// Notes an error of the system's.
pub fn note_io(phase: Phase, error: &io::Error) {
    note(|marks| marks.cause = Some(Cause::Io(phase, error.kind(), error.raw_os_error(), error.to_string())));
}

/// Whether an error of this number means that this machine ran out of descriptors, ports or memory.
pub fn is_shortage(number: Option<i32>) -> bool {
    use nix::errno::Errno;
    let all = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::EADDRNOTAVAIL];
    number.is_some_and(|number| all.iter().any(|errno| *errno as i32 == number))
}
