//! The keeper of stamps: it sees each segment of a connection as the kernel does, however late this client reads.
//!
//! The kernel joins segments that wait for a late reader, and the read gets the last one's stamp. A packet socket sees them
//! one by one, before they are joined: of each packet of the servers under load it gets the heads, with a stamp. A reader
//! that finds several events in one read asks here when each came. This takes `CAP_NET_RAW` on Linux, which root has and
//! containers have by default; elsewhere a reader knows between which two moments they came. Knows nothing of HTTP.

#[cfg(any(target_os = "linux", test))]
mod filter;
mod packet;
mod stream;
#[cfg(target_os = "linux")]
mod tap;
#[cfg(not(target_os = "linux"))]
#[path = "no_tap.rs"]
mod tap;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Moment, SystemClock};
use crate::priority;
use packet::Packet;
use stream::Stream;
use tap::Taps;

/// Sees what servers send, for as long as it lives. Cheap to clone; every clone is the same keeper.
#[derive(Clone, Debug)]
pub struct Keeper(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    seen: Mutex<Seen>,
    /// The thread that empties the sockets; it ends when this is gone.
    emptier: Mutex<Option<JoinHandle<()>>>,
}

/// What came past.
#[derive(Debug)]
struct Seen {
    taps: Taps,
    connections: Connections,
    packets: u64,
    claims: u64,
    /// Claims of connections whose beginning was not seen.
    unseen: u64,
    /// Why a server could not be looked at, the last time.
    problem: Option<String>,
}

/// A connection's two ends: this client's, and the server's.
type Ends = (SocketAddr, SocketAddr);

/// Connections by their ends; by their ports first, which is found sooner and mostly enough.
#[derive(Debug, Default)]
struct Connections(HashMap<[u16; 2], Vec<(Ends, Connection)>>);

impl Connections {
    fn ports((client, server): Ends) -> [u16; 2] {
        [client.port(), server.port()]
    }

    fn get(&mut self, ends: Ends) -> Option<&mut Connection> {
        let alike = self.0.get_mut(&Self::ports(ends))?;
        alike.iter_mut().find(|(known, _)| *known == ends).map(|(_, connection)| connection)
    }

    fn insert(&mut self, ends: Ends, connection: Connection) {
        self.remove(ends);
        self.0.entry(Self::ports(ends)).or_default().push((ends, connection));
    }

    fn remove(&mut self, ends: Ends) {
        if let Some(alike) = self.0.get_mut(&Self::ports(ends)) {
            alike.retain(|(known, _)| *known != ends);
        }
    }

    fn retain(&mut self, mut is_kept: impl FnMut(Ends, &mut Connection) -> bool) {
        self.0.retain(|_, alike| {
            alike.retain_mut(|(ends, connection)| is_kept(*ends, connection));
            !alike.is_empty()
        });
    }
}

#[derive(Debug)]
struct Connection {
    /// What the server sends.
    replies: Stream,
    /// What this client sends.
    requests: Stream,
    /// How much its reader has read and written; `None` for a connection that nobody has claimed.
    owner: Option<Arc<Progress>>,
    made: Moment,
}

/// Bytes of a connection that are over and done with.
#[derive(Debug, Default)]
struct Progress {
    read: AtomicU64,
    written: AtomicU64,
}

/// What a keeper has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighted {
    /// Connections that were made.
    pub connections: u64,
    /// Those whose packets do not come past, or whose beginning was lost: their moments are known as without a keeper.
    pub unseen_connections: u64,
    /// Packets of the servers under load.
    pub packets: u64,
    /// Packets for which there was no room, so that their moments are not known.
    pub lost: u64,
    /// Room for packets that wait to be looked at, bytes; about 1 kB each.
    pub room_bytes: u64,
}

/// Whether a run is to have a keeper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Where the system lets it.
    #[default]
    Auto,
    /// A run without one is none.
    On,
    /// None.
    Off,
}

impl Mode {
    /// Its name in results and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("unknown; write auto, on or off".to_owned()),
        }
    }
}

/// Whether a run had a keeper, and what that saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Whether there was one.
    pub is_on: bool,
    /// Why there was none; `None` where there was one.
    pub why_not: Option<String>,
    /// What it saw; all 0 where there was none.
    #[serde(flatten)]
    pub sighted: Sighted,
}

impl Account {
    /// Of a run with this keeper, or without one for this reason.
    pub fn of(keeper: &Result<Keeper, String>) -> Self {
        match keeper {
            Ok(keeper) => {
                let sighted = keeper.sighted();
                // it was there, and saw none of what it was there for
                let is_blind = sighted.connections > 0 && sighted.unseen_connections == sighted.connections;
                let why_not = is_blind.then(|| {
                    let problem = keeper.0.seen.lock().problem.clone();
                    problem
                        .unwrap_or_else(|| "the packets of these connections do not come past it".to_owned())
                });
                Self { is_on: !is_blind, why_not, sighted }
            }
            Err(why) => Self { why_not: Some(why.clone()), ..Self::default() },
        }
    }
}

/// How often the sockets are emptied: less often than this costs less for each packet, where there is room for so many.
const EMPTY_EVERY: Duration = Duration::from_millis(50);
/// How often where there is little room.
const EMPTY_OFTEN: Duration = Duration::from_millis(10);
/// Room for what comes in from one to the next, at 100,000 packets a second.
const MUCH_ROOM: u64 = 8 << 20;
/// A connection that nobody claims is another program's.
const UNCLAIMED: Duration = Duration::from_secs(5);

impl Keeper {
    /// Begins to look at what servers send that are named later.
    ///
    /// # Errors
    /// Why this system does not let it.
    pub fn start() -> Result<Self, String> {
        let seen = Seen {
            taps: Taps::new()?,
            connections: Connections::default(),
            packets: 0,
            claims: 0,
            unseen: 0,
            problem: None,
        };
        let shared = Arc::new(Shared { seen: Mutex::new(seen), emptier: Mutex::default() });
        let of_thread = Arc::downgrade(&shared);
        let body = move || {
            // it does little, and is asked for more where it is late
            let _ = priority::raise_this_thread();
            let mut pause = EMPTY_OFTEN;
            loop {
                thread::park_timeout(pause);
                let Some(shared) = of_thread.upgrade() else { return };
                let mut seen = shared.seen.lock();
                seen.tidy();
                pause = if seen.taps.room_bytes() >= MUCH_ROOM { EMPTY_EVERY } else { EMPTY_OFTEN };
            }
        };
        let thread = thread::Builder::new().name("keeper".to_owned()).spawn(body);
        let thread = thread.map_err(|error| format!("no thread for it: {error}"))?;
        *shared.emptier.lock() = Some(thread);
        Ok(Self(shared))
    }

    /// Looks at what this server sends from now on: to be said before connecting to it.
    ///
    /// # Errors
    /// Why the system does not let it.
    pub fn watch(&self, server: SocketAddr) -> Result<(), String> {
        let mut seen = self.0.seen.lock();
        let added = seen.taps.add(server);
        if let Err(problem) = &added {
            seen.problem = Some(problem.clone());
        }
        added
    }

    /// A connection that was made just now: this client's end, and the server's.
    pub fn connection(&self, client: SocketAddr, server: SocketAddr) -> Claim {
        let ends = (canonical(client), canonical(server));
        let progress = Arc::<Progress>::default();
        let mut seen = self.0.seen.lock();
        seen.take_in();
        seen.claims += 1;
        match seen.connections.get(ends) {
            Some(connection) => connection.owner = Some(Arc::clone(&progress)),
            None => seen.unseen += 1,
        }
        Claim { keeper: self.clone(), ends, progress }
    }

    /// What it has seen so far.
    pub fn sighted(&self) -> Sighted {
        let mut seen = self.0.seen.lock();
        seen.take_in();
        let Seen { taps, packets, claims, unseen, .. } = &*seen;
        let (lost, room_bytes) = (taps.lost(), taps.room_bytes());
        Sighted { connections: *claims, unseen_connections: *unseen, packets: *packets, lost, room_bytes }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(thread) = self.emptier.get_mut().take() {
            thread.thread().unpark();
            // the last owner may be that thread itself
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// An address as the packets bear it: who connects to no address in particular comes to this machine.
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl Seen {
    /// Takes in all packets that wait.
    fn take_in(&mut self) {
        let Self { taps, connections, packets, .. } = self;
        taps.take(&mut |packet, at| {
            *packets += 1;
            note(connections, &packet, at);
        });
    }

    /// The same, and forgets what nobody will ask for.
    fn tidy(&mut self) {
        self.take_in();
        let now = SystemClock.now();
        self.connections.retain(|_, connection| {
            let Some(owner) = &connection.owner else { return now.since(connection.made) < UNCLAIMED };
            connection.replies.forget(owner.read.load(Ordering::Relaxed));
            connection.requests.forget(owner.written.load(Ordering::Relaxed));
            true
        });
    }
}

/// Notes a packet; `at` is `None` where its moment cannot be known.
fn note(connections: &mut Connections, packet: &Packet, at: Option<Moment>) {
    if packet.is_syn_ack {
        let ends = (packet.to, packet.from);
        let first = packet.sequence.wrapping_add(1);
        if connections
            .get(ends)
            .is_some_and(|known| known.owner.is_some() && known.replies.begins_with(first))
        {
            // it was sent again
            return;
        }
        let connection = Connection {
            replies: Stream::new(first),
            requests: Stream::new(packet.acknowledged),
            owner: None,
            made: SystemClock.now(),
        };
        connections.insert(ends, connection);
        return;
    }
    let Some(at) = at.filter(|_| packet.bytes > 0) else { return };
    if let Some(connection) = connections.get((packet.to, packet.from)) {
        connection.replies.note(packet.sequence, packet.bytes, at);
    } else if let Some(connection) = connections.get((packet.from, packet.to)) {
        connection.requests.note(packet.sequence, packet.bytes, at);
    }
}

/// A connection that a reader has claimed: bytes of each direction are counted from 0, those of TLS and tunnels included.
#[derive(Debug)]
pub struct Claim {
    keeper: Keeper,
    ends: Ends,
    progress: Arc<Progress>,
}

impl Claim {
    /// Nobody will ask for replies before byte `read`, nor for requests before byte `written`.
    pub fn forget(&self, read: u64, written: u64) {
        self.progress.read.store(read, Ordering::Relaxed);
        self.progress.written.store(written, Ordering::Relaxed);
    }

    /// The segments that bore these bytes, which have been read: the end of each part, and when it came; `None` where that
    /// was not seen.
    pub fn arrivals(&self, bytes: Range<u64>) -> Vec<(u64, Option<Moment>)> {
        let mut seen = self.keeper.0.seen.lock();
        seen.take_in();
        match seen.connections.get(self.ends) {
            Some(connection) => connection.replies.parts(bytes),
            None => vec![(bytes.end, None)],
        }
    }

    /// When this byte, which has been sent, left; `None` where that was not seen.
    pub fn departure(&self, byte: u64) -> Option<Moment> {
        let mut seen = self.keeper.0.seen.lock();
        seen.take_in();
        seen.connections.get(self.ends)?.requests.at(byte)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.keeper.0.seen.lock().connections.remove(self.ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn ends() -> Ends {
        let address = |text: &str| text.parse().expect(text);
        (address("10.0.0.2:4000"), address("10.0.0.1:80"))
    }

    /// Of the server, where `sequence` is 1,000 for its SYN; of the client, whose SYN had 500, if `is_request`.
    fn packet(is_request: bool, sequence: u32, bytes: u32) -> Packet {
        let (client, server) = ends();
        let (from, to) = if is_request { (client, server) } else { (server, client) };
        Packet { from, to, sequence, acknowledged: 501, is_syn_ack: bytes == 0, bytes }
    }

    /// A claimed connection.
    fn connected() -> Connections {
        let mut connections = Connections::default();
        note(&mut connections, &packet(false, 1_000, 0), None);
        connections.get(ends()).expect("its handshake was seen").owner = Some(Arc::default());
        connections
    }

    #[test]
    fn both_directions_count_from_the_handshake() {
        let mut connections = connected();
        note(&mut connections, &packet(true, 501, 200), Some(at(1)));
        note(&mut connections, &packet(false, 1_001, 30), Some(at(5)));
        note(&mut connections, &packet(false, 1_031, 30), Some(at(9)));
        let connection = connections.get(ends()).expect("known");
        assert_eq!(connection.requests.at(0), Some(at(1)));
        assert_eq!(connection.replies.parts(0..60), [(30, Some(at(5))), (60, Some(at(9)))]);
    }

    #[test]
    fn a_handshake_that_is_sent_again_changes_nothing_and_a_new_one_all() {
        let mut connections = connected();
        note(&mut connections, &packet(false, 1_001, 30), Some(at(5)));
        note(&mut connections, &packet(false, 1_000, 0), None);
        assert_eq!(connections.get(ends()).expect("known").replies.at(0), Some(at(5)));
        // the same ports for another connection
        note(&mut connections, &packet(false, 7_000, 0), None);
        let connection = connections.get(ends()).expect("known");
        assert!(connection.owner.is_none() && connection.replies.at(0).is_none());
    }

    #[test]
    fn what_is_of_no_connection_or_has_no_moment_is_passed_over() {
        let mut connections = Connections::default();
        note(&mut connections, &packet(false, 1_001, 30), Some(at(5)));
        assert!(connections.get(ends()).is_none());
        let mut connections = connected();
        note(&mut connections, &packet(false, 1_001, 30), None);
        assert_eq!(connections.get(ends()).expect("known").replies.parts(0..30), [(30, None)]);
        connections.remove(ends());
        assert!(connections.get(ends()).is_none());
    }

    #[test]
    fn an_address_is_as_packets_bear_it() {
        let of = |text: &str| canonical(text.parse().expect(text)).to_string();
        assert_eq!(of("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(of("[::]:80"), "[::1]:80");
        assert_eq!(of("[::ffff:10.0.0.1]:80"), "10.0.0.1:80");
        assert_eq!(of("[fe80::1%7]:80"), "[fe80::1]:80");
    }
}
