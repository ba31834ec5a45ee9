//! Shuts the server's port at times, so that who connects then is refused.
//!
//! Whoever listens has accepted a connection before there is a request on it, so no single request can be refused. What
//! can be is a share of the time. A port that is shut stays bound, so that nobody else can have it.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select, unbounded};
use log::warn;
use nix::sys::socket::{self, Backlog};

use crate::clock::Stop;

/// How long it takes from one opening to the next: short, so that a run of a second sees some of each.
const PERIOD: Duration = Duration::from_millis(200);

/// When the port is open and when it is shut.
pub struct Door {
    open: Duration,
    shut: Duration,
    opens: Sender<()>,
    opened: Receiver<()>,
}

impl Door {
    /// A port that is shut for this share of the time, from 0 to 1: in each period, at its end.
    pub fn new(share: f64) -> Self {
        let shut = PERIOD.mul_f64(share);
        let (opens, opened) = unbounded();
        Self { open: PERIOD.saturating_sub(shut), shut, opens, opened }
    }

    /// Whether the port is never open.
    pub fn is_always_shut(&self) -> bool {
        self.open.is_zero()
    }

    /// Opens and shuts the port, which is open at first, until the stop comes. Returns at once where it is always shut.
    pub fn open_and_shut(&self, listener: &TcpListener, stop: &Stop) {
        if self.is_always_shut() {
            return;
        }
        while stop.sleep(self.open) {
            let shut = shut(listener);
            let goes_on = stop.sleep(self.shut);
            let opened = socket::listen(listener, Backlog::MAXALLOWABLE);
            // whoever waits for the next connection then must not wait for ever
            if !goes_on || stop.requested() {
                let _ = self::shut(listener);
                return;
            }
            let _ = self.opens.send(());
            if let Err(error) = shut.and(opened.map_err(io::Error::from)) {
                warn!("simulated server cannot shut and open its port: {error}");
                return;
            }
        }
    }

    /// Waits for the port to open, or for the stop, if this error of `accept` says that it is shut. False for others.
    pub fn waits_after(&self, error: &io::Error, stop: &Stop) -> bool {
        if error.kind() != ErrorKind::InvalidInput {
            return false;
        }
        // an opening that was told before is taken here too; the next call of accept then fails once more
        select! {
            recv(self.opened) -> _ => {}
            recv(stop.channel()) -> _ => {}
        }
        true
    }
}

/// Listens no more. On Linux the socket keeps its port, and can be asked to listen again.
///
/// # Errors
/// When the system cannot.
pub fn shut(listener: &TcpListener) -> io::Result<()> {
    Ok(socket::shutdown(listener.as_raw_fd(), socket::Shutdown::Read)?)
}

/// Listens at an address that is kept when the port is shut. The system takes back a port that it has chosen itself, so
/// that one is asked for once more, by its number.
///
/// # Errors
/// When the address cannot be had.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if address.port() != 0 {
        return TcpListener::bind(address);
    }
    let chosen = TcpListener::bind(address)?.local_addr()?;
    TcpListener::bind(chosen)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn a_shut_port_refuses_is_kept_and_opens_again() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        let address = listener.local_addr().expect("an address");
        TcpStream::connect(address).expect("open");
        for _ in 0..3 {
            shut(&listener).expect("shut");
            let refused = TcpStream::connect(address).expect_err("shut");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let accepted = listener.accept().expect_err("shut");
            assert_eq!(accepted.kind(), ErrorKind::InvalidInput);
            assert_eq!(listener.local_addr().expect("an address"), address);
            socket::listen(&listener, Backlog::MAXALLOWABLE).expect("open again");
            TcpStream::connect(address).expect("open again");
        }
    }

    #[test]
    fn the_times_make_up_the_share() {
        let door = Door::new(0.25);
        assert_eq!((door.open, door.shut), (Duration::from_millis(150), Duration::from_millis(50)));
        assert!(!door.is_always_shut());
        assert!(Door::new(1.0).is_always_shut());
    }
}
