//! The listener, its threads, and how they all end.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle, Scope};
use std::time::Duration;

use log::{debug, warn};
use nix::sys::socket::{self, Backlog};
use parking_lot::Mutex;

use super::answer::{Faulted, Model, Served};
use super::behavior::Behavior;
use super::door::{self, Door};
use super::fault::Fault;
use super::http::Persistence;
use super::refusal::Refusal;
use super::reply::send;
use super::{api, arrival, connection};
use crate::clock::{Stop, Stopper, stop_pair};

/// A simulated server that runs until it is dropped.
///
/// ```
/// # use std::net::{Ipv4Addr, SocketAddr};
/// use vllm_loadgen::sim::{Behavior, Simulator};
///
/// let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
/// let server = Simulator::start(Behavior::default(), any_port)?;
/// assert!(server.url().starts_with("http://127.0.0.1:"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Simulator {
    model: Arc<Model>,
    listener: Arc<TcpListener>,
    address: SocketAddr,
    stopper: Option<Stopper>,
    reception: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Starts a server at `address`; port 0 is any free port.
    ///
    /// Each connection takes a thread and a file descriptor. For thousands of them, raise the limit on open files
    /// first.
    ///
    /// # Errors
    /// When the behavior makes no sense ([`Behavior::check`]), the address cannot be had, or no thread can be started.
    pub fn start(behavior: Behavior, address: SocketAddr) -> io::Result<Self> {
        behavior.check().map_err(|mistakes| io::Error::new(io::ErrorKind::InvalidInput, mistakes))?;
        let door = behavior.faults.refused_share().map(Door::new);
        let listener = Arc::new(match door {
            Some(_) => door::bind(address)?,
            None => TcpListener::bind(address)?,
        });
        // std asks for a line of 128, and a burst of connections is longer
        socket::listen(&*listener, Backlog::MAXALLOWABLE)?;
        if door.as_ref().is_some_and(Door::is_always_shut) {
            door::shut(&listener)?;
        }
        if behavior.keep_log {
            arrival::stamp(&*listener);
        }
        let address = listener.local_addr()?;
        let model = Arc::new(Model::new(behavior));
        let (stopper, stop) = stop_pair();
        let reception = Reception { model: Arc::clone(&model), listener: Arc::clone(&listener), door, stop };
        let reception =
            thread::Builder::new().name("sim-accept".to_owned()).spawn(move || reception.open())?;
        Ok(Self { model, listener, address, stopper: Some(stopper), reception: Some(reception) })
    }

    /// Where clients find the server, such as `http://127.0.0.1:8000`. For a server on all addresses, the local one.
    pub fn url(&self) -> String {
        format!("http://{}", self.reachable())
    }

    /// The address that the server listens at, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the server behaves.
    pub fn behavior(&self) -> &Behavior {
        &self.model.behavior
    }

    /// What really happened to the requests answered so far, in the order they ended. Empty unless
    /// [`Behavior::keep_log`] is set. A client that has seen the end of its answer finds it here.
    pub fn served(&self) -> Vec<Served> {
        self.model.served.lock().clone()
    }

    /// Whom faults have hit so far, in the order in which they did. Empty unless [`Behavior::keep_log`] is set.
    pub fn faulted(&self) -> Vec<Faulted> {
        self.model.faulted.lock().clone()
    }

    /// How often each fault has hit so far; those that have not are left out.
    pub fn hits(&self) -> Vec<(Fault, u64)> {
        self.model.hits.lock().iter().map(|(fault, count)| (*fault, *count)).collect()
    }

    /// Requests that have a slot now.
    pub fn running(&self) -> usize {
        self.model.capacity.running()
    }

    /// Requests that wait for a slot now.
    pub fn waiting(&self) -> usize {
        self.model.capacity.waiting()
    }

    /// Serves until the stop comes. The server goes on until it is dropped.
    pub fn run_until(&self, stop: &Stop) {
        // nothing is ever sent: the channel closes
        let _ = stop.channel().recv();
    }

    fn reachable(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }
}

/// Accepts no more, cuts what is open and waits until every thread has ended.
impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.stopper.take());
        // wakes accept on Linux; elsewhere a connection does
        if socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both).is_err() {
            let _ = TcpStream::connect_timeout(&self.reachable(), Duration::from_secs(1));
        }
        if let Some(reception) = self.reception.take()
            && reception.join().is_err()
        {
            warn!("a thread of the simulated server panicked");
        }
    }
}

/// The thread that accepts connections and outlives their threads.
struct Reception {
    model: Arc<Model>,
    listener: Arc<TcpListener>,
    /// Shuts the port at times, if that was asked for.
    door: Option<Door>,
    stop: Stop,
}

/// Smaller than usual, because there is one for each connection; code without optimisation needs more.
const STACK_SIZE: usize = if cfg!(debug_assertions) { 512 << 10 } else { 256 << 10 };

impl Reception {
    fn open(&self) {
        let guests = Guests::default();
        thread::scope(|scope| {
            if let Some(door) = &self.door
                && let Err(error) = thread::Builder::new()
                    .name("sim-door".to_owned())
                    .spawn_scoped(scope, || door.open_and_shut(&self.listener, &self.stop))
            {
                warn!("simulated server has no thread to shut its port: {error}");
            }
            for number in 0.. {
                let accepted = self.listener.accept();
                if self.stop.requested() {
                    break;
                }
                match accepted {
                    Ok((stream, _)) => self.admit(scope, &guests, number, stream),
                    Err(error)
                        if self.door.as_ref().is_some_and(|door| door.waits_after(&error, &self.stop)) => {}
                    Err(error) => {
                        warn!("simulated server cannot accept a connection: {error}");
                        // out of descriptors, most likely: until others close there is nothing to do
                        self.stop.sleep(Duration::from_millis(10));
                    }
                }
            }
            guests.cut_all();
        });
    }

    /// Gives the connection a thread; where there is none to be had, says so to the client.
    fn admit<'s>(&'s self, scope: &'s Scope<'s, '_>, guests: &'s Guests, number: u64, stream: TcpStream) {
        let stream = Arc::new(stream);
        let stop = guests.enter(number, &stream);
        let served = Arc::clone(&stream);
        let serve = move || {
            if let Err(error) = connection::serve(&self.model, &served, &stop) {
                debug!("simulated server lost connection {number}: {error}");
            }
            guests.leave(number);
        };
        let thread = thread::Builder::new().name(format!("sim-{number}")).stack_size(STACK_SIZE);
        if let Err(error) = thread.spawn_scoped(scope, serve) {
            warn!("simulated server has no thread for a connection: {error}");
            guests.leave(number);
            let _ = send(&*stream, &api::refused(&Refusal::busy()).bytes(Persistence::Close));
        }
    }
}

/// The open connections, so that they can be cut.
#[derive(Default)]
struct Guests(Mutex<HashMap<u64, Guest>>);

struct Guest {
    stream: Arc<TcpStream>,
    /// Dropped to wake the thread where it waits. One for each, because a thousand waiters on one channel would
    /// queue for its lock at every token.
    _stopper: Stopper,
}

impl Guests {
    fn enter(&self, number: u64, stream: &Arc<TcpStream>) -> Stop {
        let (stopper, stop) = stop_pair();
        self.0.lock().insert(number, Guest { stream: Arc::clone(stream), _stopper: stopper });
        stop
    }

    fn leave(&self, number: u64) {
        self.0.lock().remove(&number);
    }

    /// Wakes every thread, whether it waits for time, for a slot or for the network.
    fn cut_all(&self) {
        for (_, guest) in self.0.lock().drain() {
            // the client may have gone already
            let _ = guest.stream.shutdown(Shutdown::Both);
        }
    }
}
