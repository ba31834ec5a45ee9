//! The system's sockets: TCP, or a Unix socket of this machine, with the time that connecting may take.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, UnixAddr, connect, socket};
use ureq::unversioned::transport::ShutdownHandle;

use crate::clock::{Clock, SystemClock};

/// A connected socket that another thread may shut down.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects to this address within this time, or until it is given up.
    pub fn to_address(address: &SocketAddr, within: Duration, given_up: &AtomicBool) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let stream = TcpStream::from(socket(family, SockType::Stream, CLOSED_IN_CHILDREN, None)?);
        stream.set_nonblocking(true)?;
        match connect(stream.as_raw_fd(), &SockaddrStorage::from(*address)) {
            Ok(()) => {}
            Err(Errno::EINPROGRESS | Errno::EINTR) => wait_until_connected(&stream, within, given_up)?,
            Err(errno) => return Err(errno.into()),
        }
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Connects to the Unix socket at this path within this time.
    pub fn to_path(path: &Path, within: Duration) -> io::Result<Self> {
        let address = UnixAddr::new(path)?;
        let stream =
            UnixStream::from(socket(AddressFamily::Unix, SockType::Stream, CLOSED_IN_CHILDREN, None)?);
        // the system waits as long for room in the server's queue
        stream.set_write_timeout(Some(within))?;
        loop {
            match connect(stream.as_raw_fd(), &address) {
                Ok(()) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(ErrorKind::TimedOut.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
        stream.set_write_timeout(None)?;
        Ok(Self::Unix(stream))
    }

    /// The addresses of both ends, this machine's first; `None` of a Unix socket.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok().zip(stream.peer_addr().ok()),
            Self::Unix(_) => None,
        }
    }

    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }
}

/// Looks again and again whether it was given up: nothing else can end a connection that is being made.
fn wait_until_connected(stream: &TcpStream, within: Duration, given_up: &AtomicBool) -> io::Result<()> {
    let until = SystemClock.now() + within;
    loop {
        let left = until.since(SystemClock.now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        if given_up.load(Ordering::Relaxed) {
            return Err(io::Error::new(ErrorKind::ConnectionAborted, "given up while connecting"));
        }
        // a millisecond more, for what is cut off
        let wait = PollTimeout::try_from(left.min(LOOK_EVERY).as_millis() + 1).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)], wait) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return stream.take_error()?.map_or(Ok(()), Err),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// How often a connection being made looks whether it was given up.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOSED_IN_CHILDREN: SockFlag = SockFlag::SOCK_CLOEXEC;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOSED_IN_CHILDREN: SockFlag = SockFlag::empty();

/// Whether a Unix socket can have this path.
///
/// # Errors
/// What completes "this path …".
pub fn check_path(path: &Path) -> Result<(), String> {
    match UnixAddr::new(path) {
        Ok(_) if path.as_os_str().is_empty() => Err("names no socket".to_owned()),
        Ok(_) => Ok(()),
        Err(Errno::ENAMETOOLONG) => {
            Err("is longer than the path of a socket can be; give a shorter one, or one from here".to_owned())
        }
        Err(errno) => Err(errno.desc().to_owned()),
    }
}

impl ShutdownHandle for Socket {
    fn shutdown(&self) {
        // the peer may have closed it already
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for &Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).read(room),
            Socket::Unix(stream) => (&*stream).read(room),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
