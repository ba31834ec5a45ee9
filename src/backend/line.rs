//! One connection: what goes out leaves in one piece, what comes in is stamped and kept until it is taken. It has
//! deadlines of its own, and causes for what fails.

use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use parking_lot::Mutex;
use ureq::unversioned::transport::ShutdownHandle;
use ureq::{Error, Timeout};

use super::batch::{Batch, Witnesses};
use super::chunked::{Dechunker, Decoded};
use super::lateness;
use super::marks::{Cause, Phase, note, note_io};
use super::socket::Socket;
use super::stamps::{Stamp, StampedReader};
use crate::clock::{Arrival, Clock, Moment, SystemClock};

/// A connection that ureq's transport and the reader of bodies have in common. They are of one thread: nobody waits.
pub type SharedLine = Arc<Mutex<Line>>;

/// A connection that stamps what passes.
pub struct Line {
    /// Before the socket, so that the keeper has done with the connection before another can take its port.
    witnesses: Witnesses,
    socket: Arc<Socket>,
    reader: StampedReader,
    /// Head and body come as two writes; held here until the first read, they leave as one.
    unsent: Vec<u8>,
    /// What came in; of it `unread` has not been taken. Grows while reads fill it, up to `room`.
    input: Vec<u8>,
    unread: Range<usize>,
    room: usize,
    /// The last read, and whether something of it was counted as body.
    batch: Batch,
    is_counted: bool,
    /// What the next read brings came no earlier.
    after: Moment,
    /// Bytes that have come and gone over the connection, what was said before the first request included.
    received: u64,
    written: u64,
    /// The latest look at the clock.
    seen: Moment,
    read_timeout: Option<Duration>,
    ended: bool,
    /// No exchange has been finished on it since it was last known to be open.
    fresh: bool,
    /// What kept the rest of a request from leaving. A reply may have come nevertheless: it is waited for, and what else
    /// is to be sent is dropped.
    cut_off: Option<io::Error>,
    /// The request was sent past ureq, which has still to be asked for the reply: what it writes is dropped.
    is_asked: bool,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// Bytes to gather before they are written without waiting for the first read.
const GATHER: usize = 256 * 1024;

/// The end of a stream that comes so long after what is in front of it can be told from that.
const MAY_END: Duration = Duration::from_millis(250);
/// A request above this may have to wait for room while it is written.
const MAY_WAIT: usize = 32 * 1024;

/// What ends a chunked body, behind its data.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Room for the first read: thousands of paced streams need no more each.
const FIRST_ROOM: usize = 4 * 1024;

/// How a body read by [`Line::read_chunked`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its last byte: the connection can serve another request.
    Whole,
    /// With its data; the connection is of no further use.
    Closed,
}

impl Line {
    /// A connection just made, with at most so much room for a read.
    pub fn new(socket: Arc<Socket>, room: usize, witnesses: Witnesses) -> Self {
        Self {
            witnesses,
            batch: Batch::default(),
            is_counted: false,
            after: SystemClock.now(),
            received: 0,
            written: 0,
            reader: StampedReader::new(&socket),
            socket,
            unsent: Vec::new(),
            input: vec![0; room.min(FIRST_ROOM)],
            unread: 0..0,
            room,
            seen: SystemClock.now(),
            read_timeout: None,
            ended: false,
            fresh: true,
            cut_off: None,
            is_asked: false,
        }
    }

    /// What ureq sends; see [`Line::gather`].
    ///
    /// # Errors
    /// What kept it from leaving.
    pub fn gather_of_ureq(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.is_asked { Ok(()) } else { self.gather(bytes) }
    }

    /// Reads once if nothing is unread, for ureq. Afterwards nothing is at the end.
    ///
    /// # Errors
    /// Those of [`Line::receive`].
    pub fn receive_for_ureq(&mut self) -> Result<(), Error> {
        self.is_asked = false;
        if self.unread.is_empty() {
            self.receive()?;
        }
        Ok(())
    }

    /// Lets ureq, which keeps this connection, find the reply to a request that it is about to write.
    pub fn leave_reply_to_ureq(&mut self) {
        self.is_asked = true;
    }

    /// Adds to what is to be sent; it leaves before the next read, or when it is much.
    ///
    /// # Errors
    /// What kept it from leaving.
    pub fn gather(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.cut_off.is_some() {
            return Ok(());
        }
        self.unsent.extend_from_slice(bytes);
        if self.unsent.len() >= GATHER { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), Error> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let mut began = SystemClock.now();
        let (budget, cause) = budget(began, began);
        if budget.is_zero() {
            return Err(gave_up(ErrorKind::TimedOut.into(), Phase::Sending, cause));
        }
        let is_large = self.unsent.len() > MAY_WAIT;
        if is_large {
            lateness::look();
            began = SystemClock.now();
        }
        let (bytes, result) = self.write();
        self.seen = SystemClock.now();
        let sent = self.departure(began, is_large);
        self.written += bytes;
        // no reply comes before it is asked for
        self.after = self.after.max(sent.earliest);
        self.unsent.clear();
        self.unsent.shrink_to(GATHER);
        note(|marks| {
            let trace = &mut marks.trace;
            trace.bytes_sent += bytes;
            trace.reused.get_or_insert(true);
            if !marks.phase.is_before_exchange() {
                trace.sent.get_or_insert(sent.earliest);
                trace.sent_latest.get_or_insert(sent.at);
                trace.sent_whole = Some(self.seen);
            }
        });
        match result {
            // a server that has its answer before it has the whole request hangs up on the rest
            Err((error, _)) if is_hang_up(&error) => {
                self.ended = true;
                self.cut_off = Some(error);
                Ok(())
            }
            result => result.map_err(|(error, cause)| gave_up(error, Phase::Sending, cause)),
        }
    }

    /// Writes what is to be sent within the time for it. Tells how many bytes went, and what kept the rest, with what it
    /// means when the time is over.
    fn write(&self) -> (u64, Result<(), (io::Error, Cause)>) {
        let (mut done, mut moved) = (0, SystemClock.now());
        while done < self.unsent.len() {
            match send(self.socket.as_raw_fd(), &self.unsent[done..], SEND) {
                Ok(bytes) => {
                    done += bytes;
                    moved = if done < self.unsent.len() { SystemClock.now() } else { moved };
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    if let Err(why) = self.wait_for_room(moved) {
                        return (done as u64, Err(why));
                    }
                }
                Err(errno) => return (done as u64, Err((errno.into(), Cause::Total))),
            }
        }
        (done as u64, Ok(()))
    }

    /// Waits until more can be written, as long as no refusal has come. The last bytes went at `moved`.
    fn wait_for_room(&self, moved: Moment) -> Result<(), (io::Error, Cause)> {
        let mut wanted = PollFlags::POLLOUT | PollFlags::POLLIN;
        loop {
            let (left, cause) = budget(SystemClock.now(), moved);
            if left.is_zero() {
                return Err((ErrorKind::TimedOut.into(), cause));
            }
            // a millisecond more, for what is cut off
            let wait =
                PollTimeout::try_from(left.min(LONGEST_POLL).as_millis() + 1).unwrap_or(PollTimeout::ZERO);
            let mut ready = [PollFd::new(self.socket.as_fd(), wanted)];
            match poll(&mut ready, wait) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => match ready[0].revents().unwrap_or(PollFlags::POLLOUT) {
                    events if events != PollFlags::POLLIN => return Ok(()),
                    _ if self.is_refused() => return Err((ErrorKind::BrokenPipe.into(), cause)),
                    // of use once the request is out
                    _ => wanted = PollFlags::POLLOUT,
                },
                Err(errno) => return Err((errno.into(), cause)),
            }
        }
    }

    /// Whether what waits to be read is the beginning of a reply that tells of an error: the rest of the request is then
    /// of no use.
    fn is_refused(&self) -> bool {
        let mut begin = [0; 10];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let come = recv(self.socket.as_raw_fd(), &mut begin, flags).unwrap_or(0);
        begin[..come].starts_with(b"HTTP/1.") && matches!(begin[9], b'4' | b'5')
    }

    /// When the first byte left that was written in the call which began then and is over.
    fn departure(&self, began: Moment, is_large: bool) -> Arrival {
        if !lateness::matters(self.seen.since(began)) {
            return Arrival::exact(began);
        }
        let witnesses = &self.witnesses;
        let left = witnesses.claim.as_ref().and_then(|claim| claim.departure(self.written));
        if let Some(left) = left.filter(|left| (began..=self.seen).contains(left)) {
            return Arrival::exact(left);
        }
        // of a large body the first part leaves before the call waits for room
        let busy = if is_large { lateness::busy(self.seen, &witnesses.beats) } else { None };
        Arrival::between(began, busy.map_or(self.seen, |busy| self.seen.min(began + busy)))
    }

    /// Sends what is to be sent, and reads once; to be asked when nothing is unread. Returns the bytes read, 0 at the
    /// end.
    ///
    /// # Errors
    /// The system's, or the timeout that came first.
    pub fn receive(&mut self) -> Result<usize, Error> {
        self.send()?;
        if self.unread.end == self.input.len() && self.input.len() < self.room {
            self.input.resize(self.room.min(self.input.len() * 2), 0);
        }
        let began = self.seen;
        loop {
            let (budget, cause) = budget(self.seen, began);
            if budget.is_zero() {
                return Err(gave_up(ErrorKind::TimedOut.into(), Phase::Receiving, cause));
            }
            if is_worth_setting(self.read_timeout, budget) {
                let set = self.socket.set_read_timeout(Some(budget));
                set.map_err(|error| gave_up(error, Phase::Receiving, Cause::Total))?;
                self.read_timeout = Some(budget);
            }
            lateness::reads();
            let called = SystemClock.now();
            match self.reader.read(&self.socket, &mut self.input, self.after) {
                Ok((bytes, stamp)) => {
                    self.note_read(bytes, stamp, called);
                    return match self.cut_off.take().filter(|_| bytes == 0) {
                        Some(error) => Err(gave_up(error, Phase::Sending, cause)),
                        None => Ok(bytes),
                    };
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // a timeout set earlier may be shorter than today's budget: wait for the rest of it
                Err(error) if is_timeout(&error) => self.read_timeout = None,
                Err(error) => {
                    return Err(match self.cut_off.take() {
                        Some(first) => gave_up(first, Phase::Sending, cause),
                        None => gave_up(error, Phase::Receiving, cause),
                    });
                }
            }
            self.seen = SystemClock.now();
        }
    }

    /// Notes a read that was asked for at `called`.
    fn note_read(&mut self, bytes: usize, stamp: Stamp, called: Moment) {
        let at = stamp.arrival.at;
        let is_full = bytes == self.input.len();
        // the end of the stream joins what came before it, and leaves its stamp there
        let may_have_end = at.since(self.after) > MAY_END && self.has_end();
        self.is_counted = false;
        let batch = Batch::new(stamp, (called, self.after), (bytes, self.received));
        self.batch = batch.doubted(is_full || may_have_end);
        self.received += bytes as u64;
        if !is_full {
            // the queue was empty then, so what comes next came later
            let last = if stamp.is_kernel && !may_have_end { stamp.arrival.earliest } else { called };
            self.after = self.after.max(called).max(last);
        }
        if let Some(claim) = &self.witnesses.claim {
            claim.forget(self.batch.first(), self.written);
        }
        self.unread = 0..bytes;
        self.seen = stamp.read;
        self.ended |= bytes == 0;
        self.fresh = true;
        note(|marks| {
            marks.last_read = stamp.arrival;
            let trace = &mut marks.trace;
            trace.bytes_received += bytes as u64;
            if bytes > 0 && !marks.phase.is_before_exchange() {
                trace.first_byte.get_or_insert(at);
                trace.reads += 1;
                trace.read_delays.extend(stamp.is_kernel.then(|| stamp.read.since(at)));
                marks.phase = Phase::Receiving;
            }
        });
    }

    /// Whether the other side has closed the connection behind what has come.
    fn has_end(&self) -> bool {
        let mut byte = [0];
        recv(self.socket.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) == Ok(0)
    }

    /// When the next so many of the unread bytes had come.
    fn arrival_of_next(&mut self, bytes: usize) -> Arrival {
        let arrival = self.batch.arrival(self.unread.start + bytes, &self.witnesses);
        if !self.is_counted {
            note(|marks| {
                self.is_counted = marks.in_body;
                let trace = &mut marks.trace;
                trace.body_reads += u64::from(marks.in_body);
                // whose stamp may be that of what followed it in the same read
                trace.first_byte = trace.first_byte.map(|first| first.min(arrival.at));
            });
        }
        arrival
    }

    /// Whether the unread bytes may have come one after the other.
    pub fn may_be_joined(&self) -> bool {
        !self.batch.is_at_once()
    }

    /// Takes so many of the unread bytes for ureq, and notes when they had come.
    pub fn take_for_ureq(&mut self, bytes: usize) {
        let arrival = self.arrival_of_next(bytes);
        note(|marks| marks.last_read = arrival);
        self.take(bytes);
    }

    /// What came in and has not been taken.
    pub fn unread(&self) -> &[u8] {
        &self.input[self.unread.clone()]
    }

    /// The same, to be changed in place.
    pub fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.input[self.unread.clone()]
    }

    /// Takes so many of the unread bytes.
    pub fn take(&mut self, bytes: usize) {
        self.unread.start += bytes;
    }

    /// Puts bytes in front of what will be read next; to be asked when nothing is unread.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.input[..bytes.len()].copy_from_slice(bytes);
        self.unread = 0..bytes.len();
        // they were read and counted before
        self.batch = Batch::default();
        self.is_counted = true;
    }

    /// Reads a chunked body to its end and hands out its data, once a read, in place, with the moment it came in.
    ///
    /// # Errors
    /// Those of [`Line::receive`], an end in the body, and what is no chunked coding.
    pub fn read_chunked(&mut self, on_data: &mut dyn FnMut(Arrival, &[u8])) -> Result<Ending, Error> {
        let mut dechunker = Dechunker::default();
        loop {
            if self.unread.is_empty() && self.receive()? == 0 {
                return if dechunker.has_all_data() { Ok(Ending::Closed) } else { Err(cut()) };
            }
            let start = self.unread.start;
            let unread = &mut self.input[self.unread.clone()];
            // a server writes a chunk for each event, mostly
            let decoded =
                if self.batch.is_at_once() { dechunker.decode(unread) } else { dechunker.decode_one(unread) };
            let Decoded { data, used } = decoded.map_err(no_chunked_coding)?;
            if !data.is_empty() {
                let arrival = self.arrival_of_next(used);
                on_data(arrival, &self.input[start..][data]);
            }
            self.take(used);
            if dechunker.is_ended() {
                return Ok(if self.unread.is_empty() { Ending::Whole } else { Ending::Closed });
            }
        }
    }

    /// Reads a body of so many bytes to its end and hands it out, once a read, in place, with the moment it came in.
    ///
    /// # Errors
    /// Those of [`Line::receive`], and an end in the body.
    pub fn read_sized(
        &mut self,
        size: u64,
        on_data: &mut dyn FnMut(Arrival, &[u8]),
    ) -> Result<Ending, Error> {
        let mut left = size;
        while left > 0 {
            if self.unread.is_empty() && self.receive()? == 0 {
                return Err(cut());
            }
            let unread = usize::try_from(left).map_or(self.unread.len(), |left| left.min(self.unread.len()));
            let is_at_once = self.batch.is_at_once();
            if !is_at_once && unread as u64 == left && self.has_end() {
                self.batch.doubt();
            }
            // events of a stream that says its length may have come apart
            let taken = if is_at_once { unread } else { event_end(&self.unread()[..unread]) };
            let arrival = self.arrival_of_next(taken);
            on_data(arrival, &self.unread()[..taken]);
            self.take(taken);
            left -= taken as u64;
        }
        Ok(if self.unread.is_empty() { Ending::Whole } else { Ending::Closed })
    }

    /// Asked twice an exchange: when the connection goes back to the pool, and when it is taken out again. Only the
    /// second looks closely.
    pub fn is_open(&mut self) -> bool {
        if self.is_asked {
            return true;
        }
        let is_back = std::mem::take(&mut self.fresh);
        if is_back { !self.ended && self.unread.is_empty() } else { self.can_serve() }
    }

    /// Whether another request can be sent on it: a reply that nobody asked for would be taken for its own.
    pub fn can_serve(&mut self) -> bool {
        let idle = SystemClock.now().since(self.seen);
        if self.ended || !self.unread.is_empty() || idle >= MAX_IDLE_AGE {
            return false;
        }
        let mut byte = [0];
        let peek = recv(self.socket.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
        // neither bytes that nobody asked for nor an end
        peek == Err(nix::errno::Errno::EAGAIN)
    }

    /// An exchange is over of which ureq knows nothing: when it next asks, it takes the connection out.
    pub fn stays(&mut self) {
        self.fresh = false;
    }

    /// Ends it, so that neither side uses it again.
    pub fn close(&mut self) {
        self.ended = true;
        self.socket.shutdown();
    }
}

/// vLLM closes connections after 5 s without a request.
const MAX_IDLE_AGE: Duration = Duration::from_secs(4);
/// Longest wait in one call, of which the system takes no more than 24 days.
const LONGEST_POLL: Duration = Duration::from_secs(3600);

/// Nobody is to be killed by a connection that has gone; elsewhere Rust's own start sees to that.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SEND: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SEND: MsgFlags = MsgFlags::MSG_DONTWAIT;

fn cut() -> Error {
    Error::Io(io::Error::new(ErrorKind::UnexpectedEof, "Peer disconnected"))
}

fn no_chunked_coding(why: &str) -> Error {
    Error::Io(io::Error::new(ErrorKind::InvalidData, why))
}

/// The end of the first event of a stream, or of all there is.
pub fn event_end(bytes: &[u8]) -> usize {
    let blank_line = |line_end: &[u8]| {
        let at = bytes.windows(line_end.len()).position(|window| window == line_end);
        at.map(|at| at + line_end.len())
    };
    [blank_line(b"\n\n"), blank_line(b"\r\n\r\n")].into_iter().flatten().min().unwrap_or(bytes.len())
}

/// Time left at `now` for a read or write that `began`, and what it means when it runs out.
fn budget(now: Moment, began: Moment) -> (Duration, Cause) {
    note(|marks| {
        let left = marks.deadline.since(now);
        let (wait, cause) = match marks.phase {
            phase if phase.is_before_exchange() => (marks.connect_by.since(now), Cause::ConnectTimeout),
            // a head that drips in is none: it is to be whole in time
            Phase::Receiving if !marks.in_body => {
                let began = marks.trace.sent_whole.unwrap_or(began);
                (marks.idle.saturating_sub(now.since(began)), Cause::Idle)
            }
            _ => (marks.idle.saturating_sub(now.since(began)), Cause::Idle),
        };
        if left < wait { (left, Cause::Total) } else { (wait, cause) }
    })
}

/// A system call for each token costs more than a timeout that fires up to an eighth late.
fn is_worth_setting(set: Option<Duration>, wanted: Duration) -> bool {
    set.is_none_or(|set| wanted.abs_diff(set) > set / 8)
}

/// Whether the other side takes no more.
fn is_hang_up(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionAborted)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ends_with_its_blank_line() {
        for (bytes, want) in [
            ("data: a\n\ndata: b\n\n", 9),
            ("data: a\r\n\r\ndata: b\n\n", 11),
            ("data: a\n", 8),
            ("\n\n", 2),
            ("", 0),
        ] {
            assert_eq!(event_end(bytes.as_bytes()), want, "{bytes:?}");
        }
    }
}
