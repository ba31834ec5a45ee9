//! The instrumented transport under ureq: one send a request, one stamp a read.
//!
//! Everything that uses ureq's `unversioned` interfaces is in this room.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, ShutdownHandle, Transport,
};
use ureq::{Error, Timeout};

use super::batch::Witnesses;
use super::buffers::GrowingBuffers;
use super::line::{Line, SharedLine, event_end};
use super::marks::{Cause, Phase, note, note_io};
use super::names::Names;
use super::network::{Network, host_and_port};
use super::proxy::Proxy;
use super::socket::Socket;
use crate::clock::{Clock, SystemClock};
use crate::heartbeat::Beats;
use crate::keeper::Keeper;

/// Resolves each server once and shares the answer between all agents, until a connection to it fails.
#[derive(Clone, Debug)]
pub struct CachedResolver {
    network: Arc<Network>,
    names: Arc<Names>,
}

impl CachedResolver {
    /// Knows the addresses that were given.
    pub fn new(network: Arc<Network>) -> Self {
        Self { network, names: Arc::default() }
    }

    /// The addresses that were given for it; none where a Unix socket takes its place.
    fn given(&self, uri: &Uri) -> Option<ResolvedSocketAddrs> {
        if self.network.unix_socket.is_some() {
            return Some(self.empty());
        }
        // asked before each request, and mostly there are none
        let (host, port) = host_and_port(uri).filter(|_| !self.network.resolve.is_empty())?;
        let mut given = self.empty();
        let resolve = self.network.resolve.iter().find(|resolve| resolve.is_of(host, port))?;
        resolve.addresses().for_each(|address| given.push(address));
        Some(given)
    }

    /// As ureq takes them.
    fn listed(&self, addresses: Vec<SocketAddr>) -> ResolvedSocketAddrs {
        let mut listed = self.empty();
        addresses.into_iter().for_each(|address| listed.push(address));
        listed
    }

    /// Forgets what it knows, unless it is new, so that the next request asks again.
    pub fn forget(&self) {
        self.names.forget(SystemClock.now());
    }
}

impl Resolver for CachedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        if let Some(addresses) = self.given(uri) {
            return Ok(addresses);
        }
        let proxy = self.network.proxy.as_ref();
        let uri = proxy.map_or(uri, Proxy::uri);
        let authority = uri.authority().ok_or_else(|| Error::BadUri("no host".to_owned()))?;
        if let Some(addresses) = self.names.known(authority.as_str()) {
            return Ok(self.listed(addresses));
        }
        let before = SystemClock.now();
        let answer = self.names.ask(authority.as_str(), before, || {
            let found = DefaultResolver::default().resolve(uri, config, timeout);
            found.map(|addresses| addresses.to_vec()).map_err(|error| error.to_string())
        });
        note(|marks| {
            marks.trace.dns = Some(SystemClock.now().since(before));
            if let Err(words) = &answer {
                marks.cause = Some(Cause::Dns(words.clone()));
            }
            if let Some(proxy) = proxy {
                marks.blame(proxy);
            }
        });
        answer.map(|addresses| self.listed(addresses)).map_err(|_| Error::HostNotFound)
    }
}

/// Makes instrumented connections.
#[derive(Debug)]
pub struct ProbeConnector {
    pub network: Arc<Network>,
    /// Whether the connection being made is not wanted any more.
    pub given_up: Arc<AtomicBool>,
    /// Sees each segment that servers send; `None` without one.
    pub keeper: Option<Keeper>,
    /// Know when this client stood still.
    pub beats: Beats,
}

impl ProbeConnector {
    /// Connects to the first address that answers, within the connect timeout for all of them together.
    fn connect_any(&self, addresses: &[SocketAddr]) -> io::Result<Socket> {
        let mut result = Err(ErrorKind::AddrNotAvailable.into());
        for address in addresses {
            if let Some(Err(problem)) = self.keeper.as_ref().map(|keeper| keeper.watch(*address)) {
                log::debug!("keeper of stamps: {problem}");
            }
            result = connect_within(|left| Socket::to_address(address, left, &self.given_up));
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Who can say when bytes of this connection came.
    fn witnesses(&self, socket: &Socket) -> Witnesses {
        let ends = socket.ends();
        let claim =
            self.keeper.as_ref().zip(ends).map(|(keeper, (own, server))| keeper.connection(own, server));
        Witnesses { claim, beats: self.beats.clone() }
    }
}

impl Connector<()> for ProbeConnector {
    type Out = ProbeTransport;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<ProbeTransport>, Error> {
        let before = SystemClock.now();
        note(|marks| {
            marks.phase = Phase::Connecting;
            marks.connect_by = before + marks.connect_timeout;
        });
        let network = &*self.network;
        let connected = match &network.unix_socket {
            Some(path) => connect_within(|left| Socket::to_path(path, left)),
            None => self.connect_any(&details.addrs),
        };
        let socket = Arc::new(connected.map_err(|error| not_connected(error, network))?);
        note(|marks| marks.trace.reused = Some(false));
        let handle: Arc<dyn ShutdownHandle> = socket.clone();
        let weak: Weak<dyn ShutdownHandle> = Arc::downgrade(&handle);
        (details.register_shutdown)(weak)?;
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        let witnesses = self.witnesses(&socket);
        let mut line = Line::new(socket, input, witnesses);
        if let Some(proxy) = &network.proxy {
            note(|marks| marks.phase = Phase::Tunnel);
            let opened = proxy.open_tunnel(&mut line, details.uri);
            opened.inspect_err(|_| note(|marks| marks.blame(proxy)))?;
        }
        note(|marks| {
            marks.trace.tcp = network.unix_socket.is_none().then(|| SystemClock.now().since(before));
            marks.phase = Phase::Sending;
        });
        Ok(Some(ProbeTransport {
            line: Arc::new(Mutex::new(line)),
            buffers: GrowingBuffers::new(input, output),
            is_tls: details.needs_tls(),
            head_end: HeadEnd::default(),
            record_end: RecordEnd::default(),
        }))
    }
}

/// Connects in what is left of the time for it.
fn connect_within(connect: impl FnOnce(Duration) -> io::Result<Socket>) -> io::Result<Socket> {
    let limit = note(|marks| marks.connect_by.min(marks.deadline));
    let left = limit.since(SystemClock.now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { connect(left) }
}

/// Notes why there is no connection.
fn not_connected(error: io::Error, network: &Network) -> Error {
    if error.kind() == ErrorKind::TimedOut {
        note(|marks| {
            let is_total = marks.connect_by > marks.deadline;
            marks.cause = Some(if is_total { Cause::Total } else { Cause::ConnectTimeout });
        });
        return Error::Timeout(Timeout::Connect);
    }
    note_io(Phase::Connecting, &error);
    note(|marks| match (&network.unix_socket, &network.proxy) {
        (Some(path), _) => marks.say_first(path.display()),
        (None, Some(proxy)) => marks.blame(proxy),
        (None, None) => {}
    });
    Error::Io(error)
}

/// What ureq sees of a connection. It is given a head up to its end and no further, so that whoever reads the body can
/// take it from the line.
#[derive(Debug)]
pub struct ProbeTransport {
    line: SharedLine,
    buffers: GrowingBuffers,
    /// Whether its bytes are those of TLS, which have no heads.
    is_tls: bool,
    head_end: HeadEnd,
    record_end: RecordEnd,
}

impl Transport for ProbeTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        if !self.is_tls {
            note(|marks| {
                if marks.line.is_none() {
                    marks.line = Some(self.line.clone());
                    marks.request_head = self.buffers.output()[..amount].to_vec();
                }
            });
        }
        self.line.lock().gather_of_ureq(&self.buffers.output()[..amount])
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        let mut line = self.line.lock();
        let room = self.buffers.input_append_buf();
        if room.is_empty() {
            // a read into no room would look like the end of the stream
            let size = self.buffers.input().len();
            return Err(Error::LargeResponseHeader(size, size));
        }
        line.receive_for_ureq()?;
        let unread = line.unread();
        if unread.is_empty() {
            return Ok(false);
        }
        let fitting = &unread[..unread.len().min(room.len())];
        let in_body = note(|marks| marks.in_body);
        let is_joined = line.may_be_joined();
        let given = match (self.is_tls, in_body) {
            // what came apart is given apart, each with its moment
            (true, _) if is_joined => self.record_end.within(fitting),
            (true, _) => self.record_end.pass(fitting),
            (false, true) if is_joined => event_end(fitting),
            (false, true) => fitting.len(),
            (false, false) => self.head_end.within(fitting),
        };
        room[..given].copy_from_slice(&fitting[..given]);
        line.take_for_ureq(given);
        self.buffers.input_appended(given);
        Ok(true)
    }

    fn is_open(&mut self) -> bool {
        self.line.lock().is_open()
    }
}

/// Finds the empty line that ends a head, wherever the head is cut.
#[derive(Debug, Default)]
struct HeadEnd {
    /// Whether the present line has any byte but CR.
    has_text: bool,
}

impl HeadEnd {
    /// How many of these bytes belong to the head.
    fn within(&mut self, bytes: &[u8]) -> usize {
        let is_text = |bytes: &[u8]| bytes.iter().any(|byte| *byte != b'\r');
        let mut start = 0;
        while let Some(length) = bytes[start..].iter().position(|byte| *byte == b'\n') {
            let had_text = std::mem::take(&mut self.has_text) || is_text(&bytes[start..start + length]);
            start += length + 1;
            if !had_text {
                return start;
            }
        }
        self.has_text |= is_text(&bytes[start..]);
        bytes.len()
    }
}

/// Finds the end of a TLS record (RFC 8446, section 5.1), wherever records are cut.
#[derive(Debug, Default)]
struct RecordEnd {
    /// As much as has come of the head of a record.
    head: [u8; 5],
    come: usize,
    /// What is to come of the record behind its head.
    left: usize,
}

impl RecordEnd {
    /// How many of these bytes belong to the present record.
    fn within(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            if self.left == 0 {
                self.head[self.come] = bytes[used];
                self.come += 1;
                used += 1;
                if self.come < self.head.len() {
                    continue;
                }
                self.come = 0;
                self.left = usize::from(u16::from_be_bytes([self.head[3], self.head[4]]));
            } else {
                let part = self.left.min(bytes.len() - used);
                self.left -= part;
                used += part;
            }
            if self.left == 0 {
                return used;
            }
        }
        used
    }

    /// Goes over all of them.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            used += self.within(&bytes[used..]);
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_ends_where_its_head_says_wherever_it_is_cut() {
        let records =
            [&[23, 3, 3, 0, 4][..], b"data", &[21, 3, 3, 0, 0], &[23, 3, 3, 1, 0], &[7; 256]].concat();
        for cut in 0..=records.len() {
            let mut end = RecordEnd::default();
            let (mut ends, mut at) = (Vec::new(), 0);
            for part in [&records[..cut], &records[cut..]] {
                let mut from = 0;
                while from < part.len() {
                    let used = end.within(&part[from..]);
                    (from, at) = (from + used, at + used);
                    ends.push(at);
                }
            }
            ends.retain(|end| *end != cut || [9, 14, records.len()].contains(end));
            assert_eq!(ends, [9, 14, records.len()], "cut at {cut}");
            let mut end = RecordEnd::default();
            assert_eq!(end.pass(&records[..cut]) + end.pass(&records[cut..]), records.len());
            assert_eq!((end.left, end.come), (0, 0));
        }
    }

    #[test]
    fn a_head_ends_with_its_empty_line_wherever_it_is_cut() {
        for (head, behind) in [
            ("HTTP/1.1 200 OK\r\na: b\r\n\r\n", "\r\n\r\n"),
            ("HTTP/1.1 200 OK\na: b\n\n", "x"),
            ("\r\n", "HTTP"),
        ] {
            let bytes = [head, behind].concat();
            for cut in 0..=head.len() {
                let mut end = HeadEnd::default();
                let (first, second) = bytes.as_bytes().split_at(cut);
                assert_eq!(end.within(first), cut, "{head:?} cut at {cut}");
                if cut < head.len() {
                    assert_eq!(end.within(second), head.len() - cut, "{head:?} cut at {cut}");
                }
            }
        }
    }
}
