//! Reading from a socket with the kernel's own time of arrival (Linux `SO_TIMESTAMPNS`, no privilege needed).
//!
//! A stamp taken after `read` returns is as late as the thread that takes it; the kernel stamps a segment when it comes
//! in. What a read joins from several segments carries the last one's stamp, so it is the latest moment for what is in
//! front of it. On systems without such stamps, and where one is missing or makes no sense, the time after the read
//! stands in.

use std::io;

use super::socket::Socket;
use crate::clock::{Arrival, Clock, KernelClock, Moment, SystemClock};

/// When the bytes of a read came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// When the last of them came: the kernel's stamp, or else the time after the read.
    pub arrival: Arrival,
    /// The time after the read.
    pub read: Moment,
    /// Whether the kernel stamped it.
    pub is_kernel: bool,
}

/// Reads from one socket.
#[derive(Debug)]
pub struct StampedReader {
    /// Room for the kernel's message; empty where the socket gives no stamps.
    control: Vec<u8>,
    clock: KernelClock,
}

impl StampedReader {
    /// Asks the kernel for stamps on this socket.
    pub fn new(socket: &Socket) -> Self {
        Self { control: enable(socket), clock: KernelClock::default() }
    }

    /// Reads once. What is read came after `after`.
    ///
    /// # Errors
    /// Those of the system's read.
    pub fn read(&mut self, socket: &Socket, room: &mut [u8], after: Moment) -> io::Result<(usize, Stamp)> {
        let (bytes, stamp) = receive(socket, room, &mut self.control)?;
        let read = SystemClock.now();
        let kernel = stamp.and_then(|stamp| self.clock.arrival(stamp, after, read));
        Ok((
            bytes,
            Stamp { arrival: kernel.unwrap_or(Arrival::exact(read)), read, is_kernel: kernel.is_some() },
        ))
    }
}

#[cfg(target_os = "linux")]
fn enable(socket: &Socket) -> Vec<u8> {
    if matches!(socket, Socket::Unix(_)) {
        // nothing stamps what never was on a wire
        return Vec::new();
    }
    use nix::sys::socket::{setsockopt, sockopt::ReceiveTimestampns};
    match setsockopt(socket, ReceiveTimestampns, &true) {
        Ok(()) => nix::cmsg_space!(nix::sys::time::TimeSpec),
        Err(error) => {
            log::debug!("no kernel receive timestamps: {error}");
            Vec::new()
        }
    }
}

#[cfg(target_os = "linux")]
fn receive(
    socket: &Socket,
    room: &mut [u8],
    control: &mut [u8],
) -> io::Result<(usize, Option<std::time::Duration>)> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use std::os::fd::AsRawFd;
    if control.is_empty() {
        return Ok((io::Read::read(&mut { socket }, room)?, None));
    }
    let mut parts = [io::IoSliceMut::new(room)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(control), MsgFlags::empty())?;
    let stamp = message.cmsgs().ok().and_then(|mut all| {
        all.find_map(|one| match one {
            ControlMessageOwned::ScmTimestampns(time) => Some(time.into()),
            _ => None,
        })
    });
    Ok((message.bytes, stamp))
}

#[cfg(not(target_os = "linux"))]
fn enable(_: &Socket) -> Vec<u8> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn receive(
    socket: &Socket,
    room: &mut [u8],
    _: &mut [u8],
) -> io::Result<(usize, Option<std::time::Duration>)> {
    Ok((io::Read::read(&mut { socket }, room)?, None))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    /// A pair of connected sockets.
    fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (server, _) = listener.accept().expect("accepted");
        (Socket::Tcp(client), server)
    }

    /// Sends a segment and reads it a while later: moments before and after sending, and its arrival.
    fn late_read(
        (client, server): (&Socket, &mut TcpStream),
        reader: &mut StampedReader,
        late: Duration,
    ) -> (Moment, Moment, Stamp) {
        let before = SystemClock.now();
        server.write_all(b"segment").expect("sent");
        let sent = SystemClock.now();
        thread::sleep(late);
        let (bytes, stamp) = reader.read(client, &mut [0; 64], before).expect("read");
        assert_eq!(bytes, 7);
        (before, sent, stamp)
    }

    #[test]
    fn the_stamp_is_of_the_arrival_and_not_of_the_read() {
        let (client, mut server) = pair();
        let mut reader = StampedReader::new(&client);
        let late = Duration::from_millis(40);
        // the system begins to stamp a little after it was asked to
        let stamped = (0..50)
            .map(|_| late_read((&client, &mut server), &mut reader, late))
            .find(|(.., stamp)| stamp.is_kernel);
        let (before, sent, stamp) = stamped.expect("Linux stamps what comes in");
        // loopback delivers within the send; the clocks agree within far less
        let slack = Duration::from_millis(10);
        assert!(
            stamp.arrival.at + slack >= before && sent + slack >= stamp.arrival.at,
            "{before:?} {sent:?} {stamp:?}"
        );
        assert!(stamp.read.since(stamp.arrival.at) + slack >= late, "{stamp:?}");
    }

    #[test]
    fn an_end_is_no_arrival_of_bytes() {
        let (client, server) = pair();
        let mut reader = StampedReader::new(&client);
        drop(server);
        let (bytes, stamp) = reader.read(&client, &mut [0; 8], Moment::default()).expect("read");
        assert_eq!((bytes, stamp.is_kernel), (0, false));
    }
}
