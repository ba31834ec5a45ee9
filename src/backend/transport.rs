//! The instrumented transport under ureq: one send a request, one stamp a read, own deadlines, typed causes.
//!
//! An agent never leaves its thread, so marks go to a thread-local without locks. Everything that uses ureq's
//! `unversioned` interfaces is in this file and in `tls.rs`.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use parking_lot::RwLock;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};
use ureq::{Error, Timeout};

use super::Trace;
use super::stamps::{Arrival, StampedReader};
use crate::clock::{Clock, Moment, SystemClock};

/// What the transport notes of the exchange under way on this thread.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    pub trace: Trace,
    /// When the whole exchange must be over.
    pub deadline: Moment,
    /// Longest wait for the next byte.
    pub idle: Duration,
    /// Longest time to connect, TLS included.
    pub connect_timeout: Duration,
    /// The present phase.
    pub phase: Phase,
    /// What the system said last, kept because ureq swallows some of it.
    pub cause: Option<Cause>,
    /// When the bytes of the latest read came in.
    pub last_read: Moment,
}

/// What the transport is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Resolving,
    Connecting,
    Handshake,
    Sending,
    Receiving,
}

/// Why the transport gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The name could not be resolved; with the system's words.
    Dns(String),
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

/// The marks of this thread's exchange as they stand.
pub fn marks() -> Marks {
    MARKS.with_borrow(Clone::clone)
}

/// When the bytes of the latest read on this thread came in.
pub fn last_read() -> Moment {
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

fn note_io(phase: Phase, error: &io::Error) {
    note(|marks| marks.cause = Some(Cause::Io(phase, error.kind(), error.raw_os_error(), error.to_string())));
}

/// Resolves each server once and shares the answer between all agents, until a connection to it fails.
#[derive(Clone, Debug, Default)]
pub struct CachedResolver(Arc<RwLock<Vec<(String, ResolvedSocketAddrs)>>>);

impl CachedResolver {
    fn known(&self, authority: &str) -> Option<ResolvedSocketAddrs> {
        let known = self.0.read();
        let (_, addresses) = known.iter().find(|(name, _)| name == authority)?;
        let mut copy = self.empty();
        addresses.iter().for_each(|address| copy.push(*address));
        Some(copy)
    }

    /// Forgets what it knows, so that the next request asks again.
    pub fn forget(&self) {
        self.0.write().clear();
    }
}

impl Resolver for CachedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let authority = uri.authority().ok_or_else(|| Error::BadUri("no host".to_owned()))?;
        if let Some(addresses) = self.known(authority.as_str()) {
            return Ok(addresses);
        }
        let before = SystemClock.now();
        let answer = DefaultResolver::default().resolve(uri, config, timeout);
        note(|marks| {
            marks.trace.dns = Some(SystemClock.now().since(before));
            if let Err(error) = &answer {
                marks.cause = Some(Cause::Dns(error.to_string()));
            }
        });
        let addresses = answer?;
        let mut kept = self.empty();
        addresses.iter().for_each(|address| kept.push(*address));
        self.0.write().push((authority.as_str().to_owned(), kept));
        Ok(addresses)
    }
}

/// Makes instrumented TCP connections.
#[derive(Debug, Default)]
pub struct ProbeConnector;

impl Connector<()> for ProbeConnector {
    type Out = ProbeTransport;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<ProbeTransport>, Error> {
        note(|marks| marks.phase = Phase::Connecting);
        let before = SystemClock.now();
        let socket = Arc::new(Socket(connect_any(&details.addrs, before)?));
        note(|marks| {
            marks.trace.tcp = Some(SystemClock.now().since(before));
            marks.trace.reused = Some(false);
            marks.phase = Phase::Sending;
        });
        let handle: Arc<dyn ShutdownHandle> = socket.clone();
        let weak: Weak<dyn ShutdownHandle> = Arc::downgrade(&handle);
        (details.register_shutdown)(weak)?;
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(ProbeTransport {
            reader: StampedReader::new(&socket.0),
            socket,
            buffers: LazyBuffers::new(input, output),
            unsent: Vec::new(),
            read_timeout: None,
            write_timeout: None,
            ended: false,
            fresh: true,
        }))
    }
}

/// Connects to the first address that answers, within the connect timeout for all of them together.
fn connect_any(addresses: &[SocketAddr], began: Moment) -> Result<TcpStream, Error> {
    let (limit, deadline) = note(|marks| (began + marks.connect_timeout, marks.deadline));
    let mut failed = None;
    for address in addresses {
        let left = limit.min(deadline).since(SystemClock.now());
        if left.is_zero() {
            return Err(connect_timeout(limit > deadline));
        }
        match TcpStream::connect_timeout(address, left).and_then(|s| s.set_nodelay(true).map(|()| s)) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(error),
        }
    }
    let error = failed.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into());
    if error.kind() == ErrorKind::TimedOut {
        return Err(connect_timeout(limit > deadline));
    }
    note_io(Phase::Connecting, &error);
    Err(Error::Io(error))
}

fn connect_timeout(is_total: bool) -> Error {
    note(|marks| marks.cause = Some(if is_total { Cause::Total } else { Cause::ConnectTimeout }));
    Error::Timeout(Timeout::Connect)
}

#[derive(Debug)]
struct Socket(TcpStream);

impl ShutdownHandle for Socket {
    fn shutdown(&self) {
        // the peer may have closed it already
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// A TCP connection that stamps what passes.
pub struct ProbeTransport {
    socket: Arc<Socket>,
    reader: StampedReader,
    buffers: LazyBuffers,
    /// Head and body come as two writes; held here until the first read, they leave as one.
    unsent: Vec<u8>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    ended: bool,
    /// No exchange has been finished on it since it was last known to be open.
    fresh: bool,
}

impl fmt::Debug for ProbeTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeTransport").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// Bytes to gather before they are written without waiting for the first read.
const GATHER: usize = 256 * 1024;

impl ProbeTransport {
    fn send(&mut self) -> Result<(), Error> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let now = SystemClock.now();
        let (budget, cause) = budget(now, now);
        if budget.is_zero() {
            return Err(gave_up(ErrorKind::TimedOut.into(), Phase::Sending, cause));
        }
        if is_worth_setting(self.write_timeout, budget) {
            let set = self.socket.0.set_write_timeout(Some(budget));
            set.map_err(|error| gave_up(error, Phase::Sending, Cause::Total))?;
            self.write_timeout = Some(budget);
        }
        let began = SystemClock.now();
        let result = (&self.socket.0).write_all(&self.unsent);
        let ended = SystemClock.now();
        let bytes = self.unsent.len() as u64;
        self.unsent.clear();
        self.unsent.shrink_to(GATHER);
        note(|marks| {
            let trace = &mut marks.trace;
            trace.bytes_sent += bytes;
            trace.reused.get_or_insert(true);
            if marks.phase != Phase::Handshake {
                trace.sent.get_or_insert(began);
                trace.sent_whole = Some(ended);
            }
        });
        result.map_err(|error| gave_up(error, Phase::Sending, cause))
    }

    /// Reads once; the bytes go to the end of the input buffer.
    fn receive(&mut self) -> Result<(usize, Arrival), Error> {
        let began = SystemClock.now();
        let mut now = began;
        loop {
            let (budget, cause) = budget(now, began);
            if budget.is_zero() {
                return Err(gave_up(ErrorKind::TimedOut.into(), Phase::Receiving, cause));
            }
            if is_worth_setting(self.read_timeout, budget) {
                let set = self.socket.0.set_read_timeout(Some(budget));
                set.map_err(|error| gave_up(error, Phase::Receiving, Cause::Total))?;
                self.read_timeout = Some(budget);
            }
            let room = self.buffers.input_append_buf();
            if room.is_empty() {
                // a read into no room would look like the end of the stream
                let size = self.buffers.input().len();
                return Err(Error::LargeResponseHeader(size, size));
            }
            match self.reader.read(&self.socket.0, room) {
                Ok(arrived) => return Ok(arrived),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // a timeout set earlier may be shorter than today's budget: wait for the rest of it
                Err(error) if is_timeout(&error) => self.read_timeout = None,
                Err(error) => return Err(gave_up(error, Phase::Receiving, cause)),
            }
            now = SystemClock.now();
        }
    }
}

/// Time left at `now` for a read or write that `began`, and what it means when it runs out.
fn budget(now: Moment, began: Moment) -> (Duration, Cause) {
    note(|marks| {
        let left = marks.deadline.since(now);
        let (whole, cause) = match marks.phase {
            Phase::Handshake => (marks.connect_timeout, Cause::ConnectTimeout),
            _ => (marks.idle, Cause::Idle),
        };
        let wait = whole.saturating_sub(now.since(began));
        if left < wait { (left, Cause::Total) } else { (wait, cause) }
    })
}

/// A system call for each token costs more than a timeout that fires up to an eighth late.
fn is_worth_setting(set: Option<Duration>, wanted: Duration) -> bool {
    set.is_none_or(|set| wanted < set - set / 8 || wanted > set + set / 8)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn gave_up(error: io::Error, phase: Phase, cause: Cause) -> Error {
    if is_timeout(&error) {
        note(|marks| marks.cause = Some(cause));
        return Error::Timeout(Timeout::PerRead);
    }
    note_io(phase, &error);
    Error::Io(error)
}

impl Transport for ProbeTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        let output = &self.buffers.output()[..amount];
        self.unsent.extend_from_slice(output);
        if self.unsent.len() >= GATHER { self.send() } else { Ok(()) }
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        self.send()?;
        let (bytes, arrival) = self.receive()?;
        self.buffers.input_appended(bytes);
        self.ended |= bytes == 0;
        self.fresh = true;
        note(|marks| {
            marks.last_read = arrival.at;
            let trace = &mut marks.trace;
            trace.bytes_received += bytes as u64;
            if bytes > 0 && marks.phase != Phase::Handshake {
                trace.first_byte.get_or_insert(arrival.at);
                trace.reads += 1;
                trace.read_delays.extend(arrival.is_kernel.then(|| arrival.read.since(arrival.at)));
                marks.phase = Phase::Receiving;
            }
        });
        Ok(bytes > 0)
    }

    /// Asked twice an exchange: when the connection goes back to the pool, and when it is taken out again. Only the
    /// second asks the system.
    fn is_open(&mut self) -> bool {
        if self.ended {
            return false;
        }
        if std::mem::take(&mut self.fresh) {
            return true;
        }
        let mut byte = [0];
        let peek = recv(self.socket.0.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
        // neither bytes that nobody asked for nor an end
        peek == Err(nix::errno::Errno::EAGAIN)
    }
}
