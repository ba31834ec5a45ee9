//! Sending requests: bytes out, bytes in, each stamped with its moment. Keeps no counts, computes no metric.
//!
//! [`HttpBackend`] speaks HTTP/1.1 through ureq over a transport of our own, and past ureq where that transport is kept
//! and the reply a usual one; [`Scripted`] replays replies written beforehand, for tests. [`deliver`] hands something to
//! another server. Only this room knows ureq.

mod batch;
mod buffers;
mod chunked;
mod deliver;
mod direct;
mod endpoint;
mod http;
mod lateness;
mod line;
mod marks;
mod named_roots;
mod names;
mod network;
mod proxy;
mod scripted;
mod socket;
mod stamps;
mod tls;
mod transport;

use std::sync::Arc;
use std::time::Duration;

pub use deliver::{Delivery, Destination, Verb, deliver};
pub use endpoint::Endpoint;
pub use http::{Client, HttpBackend, Settings};
pub use network::{Network, Resolve};
pub use proxy::{PROXY_VARIABLES, Proxy, proxy_of_variables, shown_proxy};
pub use scripted::{Scripted, Step};
pub use socket::check_path;
pub use tls::{check_key, check_pair, read_certs, read_roots};

use crate::clock::{Arrival, Moment};
use crate::failure::Failure;

/// One request as it goes out.
#[derive(Clone, Debug)]
pub struct Request {
    /// Sent as `X-Request-Id`; finds the request in the server's log.
    pub id: String,
    /// The JSON body.
    pub body: Arc<[u8]>,
}

/// A part of a reply as it comes in.
#[derive(Clone, Copy, Debug)]
pub enum Chunk<'a> {
    /// Status and headers; comes once, before any body.
    Head(Head<'a>),
    /// Bytes of the body, cut wherever the network cut them.
    Body {
        /// When they came in: the kernel's stamp where there is one, else when the read returned.
        arrival: Arrival,
        /// Never empty.
        bytes: &'a [u8],
    },
}

/// The head of a reply.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case, and values that are text.
    pub headers: &'a [(&'a str, &'a str)],
}

impl<'a> Head<'a> {
    /// The value of the first header of this name; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }
}

/// What became of one request on the wire, whether or not it went well.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Moments and counts.
    pub trace: Trace,
    /// `Ok` when a reply of any status came in whole.
    pub result: Result<(), Failure>,
}

/// The transport's facts about one exchange. `None` where it never came to that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Looking up the server's name; `None` when it was known already.
    pub dns: Option<Duration>,
    /// Making the TCP connection, and the proxy's tunnel if there is one; `None` over a Unix socket too.
    pub tcp: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// Whether the connection had served a request before; `None` when there was no connection.
    pub reused: Option<bool>,
    /// Whether a kept connection turned out to be closed by the server, so that the request went out again.
    pub stale_retry: bool,
    /// First byte of the request handed to the system, at the earliest.
    pub sent: Option<Moment>,
    /// The same at the latest: the thread may have lost its core between its look at the clock and the handing over.
    pub sent_latest: Option<Moment>,
    /// Last byte of the request handed to the system.
    pub sent_whole: Option<Moment>,
    /// First byte of the reply.
    pub first_byte: Option<Moment>,
    /// How long each read of the reply returned after the kernel had its bytes: the client's own delay. Reads that the
    /// kernel did not stamp are left out.
    pub read_delays: Vec<Duration>,
    /// Reads of the reply, stamped or not.
    pub reads: u64,
    /// Those of them that brought bytes of its body.
    pub body_reads: u64,
    /// Bytes written, TLS and heads included.
    pub bytes_sent: u64,
    /// Bytes read, TLS and heads included.
    pub bytes_received: u64,
}

/// Sends a request and hands over its reply as it streams in.
pub trait Backend: Send {
    /// Sends `request`; returns when its reply has ended or failed.
    fn stream(&mut self, request: &Request, on_chunk: &mut dyn FnMut(Chunk<'_>)) -> Exchange;

    /// Ends what is under way, and makes whatever comes later fail: called from another thread, at most once.
    fn canceller(&self) -> Canceller {
        Box::new(|| ())
    }
}

/// See [`Backend::canceller`].
pub type Canceller = Box<dyn FnOnce() + Send>;
