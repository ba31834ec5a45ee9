//! Reading requests with the kernel's own time of their arrival, where a log is kept: a thread that wakes late does not
//! make a request come late.

use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;

use super::behavior::Behavior;
use crate::clock::{Clock, KernelClock, Moment, SystemClock};

/// Asks the kernel to stamp what comes in on this socket, and on those that it accepts. Where that cannot be had, the
/// time after the read stands in.
pub fn stamp(socket: &impl AsFd) {
    #[cfg(target_os = "linux")]
    if let Err(error) =
        nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::ReceiveTimestampns, &true)
    {
        log::debug!("no kernel receive timestamps in the simulated server: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// A connection that is read from.
pub struct Incoming<'a> {
    stream: &'a TcpStream,
    /// Room for the kernel's message; empty where nobody asked for stamps.
    control: Vec<u8>,
    clock: KernelClock,
    /// Of the last read.
    arrival: Option<Moment>,
    /// When that read returned.
    read: Moment,
}

impl<'a> Incoming<'a> {
    /// Looks for stamps where a log is kept; nothing else needs them.
    pub fn new(stream: &'a TcpStream, behavior: &Behavior) -> Self {
        let control = if behavior.keep_log { room() } else { Vec::new() };
        Self { stream, control, clock: KernelClock::default(), arrival: None, read: Moment::default() }
    }

    /// When the bytes read last came in, by the kernel's stamp; the present where there is none.
    pub fn arrival(&self) -> Moment {
        self.arrival.unwrap_or_else(|| SystemClock.now())
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.control.is_empty() {
            return self.stream.read(into);
        }
        let (count, stamp) = receive(self.stream, into, &mut self.control)?;
        let now = SystemClock.now();
        self.arrival =
            Some(stamp.and_then(|stamp| self.clock.arrival(stamp, self.read, now)).map_or(now, |a| a.at));
        self.read = now;
        Ok(count)
    }
}

#[cfg(target_os = "linux")]
fn room() -> Vec<u8> {
    nix::cmsg_space!(nix::sys::time::TimeSpec)
}

#[cfg(target_os = "linux")]
fn receive(
    stream: &TcpStream,
    into: &mut [u8],
    control: &mut [u8],
) -> io::Result<(usize, Option<std::time::Duration>)> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use std::os::fd::AsRawFd;
    let mut parts = [io::IoSliceMut::new(into)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(control), MsgFlags::empty())?;
    let mut stamp = None;
    for one in message.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmTimestampns(time) = one {
            stamp = Some(time.into());
        }
    }
    Ok((message.bytes, stamp))
}

#[cfg(not(target_os = "linux"))]
fn room() -> Vec<u8> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn receive(
    mut stream: &TcpStream,
    into: &mut [u8],
    _: &mut [u8],
) -> io::Result<(usize, Option<std::time::Duration>)> {
    Ok((stream.read(into)?, None))
}
