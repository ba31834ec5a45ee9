//! Packet sockets of Linux (`man 7 packet`): one for each interface that leads to a server.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, MultiHeaders, SockaddrStorage, bind, getsockopt, recvmmsg,
    setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::filter::program;
use super::packet::{MAX_HEADS, Packet};
use crate::clock::{Clock, KernelClock, Moment, SystemClock};

/// All packet sockets of a keeper.
#[derive(Debug)]
pub struct Taps {
    taps: Vec<Tap>,
    /// Servers that are looked at.
    servers: Vec<SocketAddr>,
    buffers: Box<[u8]>,
}

/// The packet socket of one interface.
#[derive(Debug)]
struct Tap {
    interface: LinkAddr,
    socket: Socket,
    servers: Vec<SocketAddr>,
    clock: KernelClock,
    /// All packets that came before it had been taken.
    emptied: Moment,
    /// The system's count of packets without room.
    lost: u64,
    room_bytes: u64,
}

/// Room for packets that wait to be looked at. It is taken only when they do.
const ROOM: usize = 64 << 20;
/// Packets taken in one call.
const BATCH: usize = 64;
/// More servers than these are not looked at: the program that the kernel runs on each packet grows with them.
const MOST_SERVERS: usize = 16;
/// All protocols, as `socket` wants it: taps of one protocol do not see what leaves (`ETH_P_ALL`).
const ALL: i32 = (3_u16.to_be()) as i32;

impl Taps {
    /// None yet.
    pub fn new() -> Result<Self, String> {
        packet_socket().map_err(|error| match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
            Errno::EPERM | Errno::EACCES => {
                "it takes CAP_NET_RAW, which this process does not have".to_owned()
            }
            _ => format!("the system gives no packet socket: {error}"),
        })?;
        Ok(Self { taps: Vec::new(), servers: Vec::new(), buffers: vec![0; BATCH * MAX_HEADS].into() })
    }

    /// Looks at what this server sends, too.
    pub fn add(&mut self, server: SocketAddr) -> Result<(), String> {
        let server = super::canonical(server);
        if self.servers.contains(&server) {
            return Ok(());
        }
        if self.servers.len() >= MOST_SERVERS {
            return Err(format!("it looks at {MOST_SERVERS} addresses at most"));
        }
        self.add_new(server).map_err(|error| format!("no packet socket for {server}: {error}"))?;
        self.servers.push(server);
        Ok(())
    }

    fn add_new(&mut self, server: SocketAddr) -> io::Result<()> {
        let interface = interface_to(server)?;
        let known = self.taps.iter().position(|tap| tap.interface.ifindex() == interface.ifindex());
        let tap = match known {
            Some(known) => &mut self.taps[known],
            None => {
                self.taps.push(Tap::new(interface)?);
                self.taps.last_mut().ok_or(io::ErrorKind::NotFound)?
            }
        };
        tap.servers.push(server);
        tap.filter()
    }

    /// Takes all packets that wait, each with its moment, or none where the wall clock was set in between.
    pub fn take(&mut self, on_packet: &mut dyn FnMut(Packet, Option<Moment>)) {
        for tap in &mut self.taps {
            tap.take(&mut self.buffers, on_packet);
        }
    }

    /// Packets for which there was no room.
    pub fn lost(&self) -> u64 {
        self.taps.iter().map(|tap| tap.lost).sum()
    }

    /// Room for packets that wait, bytes.
    pub fn room_bytes(&self) -> u64 {
        self.taps.iter().map(|tap| tap.room_bytes).sum()
    }
}

/// A packet socket that sees nothing: whether there may be one.
fn packet_socket() -> io::Result<Socket> {
    // of no protocol, so that nothing comes in
    Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))
}

impl Tap {
    fn new(interface: LinkAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ALL)))?;
        // what came in before is of no connection that is known, and counts for nothing
        socket.attach_filter(&filters(&[]))?;
        bind(socket.as_raw_fd(), &interface)?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &ROOM).is_err() {
            // without CAP_NET_ADMIN as much as net.core.rmem_max allows
            setsockopt(&socket, sockopt::RcvBuf, &ROOM)?;
        }
        let room_bytes = getsockopt(&socket, sockopt::RcvBuf)? as u64;
        let (emptied, clock) = (SystemClock.now(), KernelClock::default());
        Ok(Self { interface, socket, servers: Vec::new(), clock, emptied, lost: 0, room_bytes })
    }

    fn filter(&self) -> io::Result<()> {
        self.socket.attach_filter(&filters(&self.servers))
    }

    fn take(&mut self, buffers: &mut [u8], on_packet: &mut dyn FnMut(Packet, Option<Moment>)) {
        loop {
            let before = SystemClock.now();
            let taken = self.take_batch(buffers, on_packet);
            if taken < BATCH {
                self.emptied = before;
                return;
            }
        }
    }

    /// Takes packets in one call: how many there were.
    fn take_batch(&mut self, buffers: &mut [u8], on_packet: &mut dyn FnMut(Packet, Option<Moment>)) -> usize {
        let mut slices: Vec<_> =
            buffers.chunks_mut(MAX_HEADS).map(|buffer| [IoSliceMut::new(buffer)]).collect();
        // made anew each time: the kernel writes into them how much it used
        let mut headers = MultiHeaders::<()>::preallocate(BATCH, Some(nix::cmsg_space!(TimeSpec, u32)));
        let flags = MsgFlags::MSG_DONTWAIT;
        let Ok(messages) = recvmmsg(self.socket.as_raw_fd(), &mut headers, &mut slices, flags, None) else {
            return 0;
        };
        let mut taken = 0;
        let now = SystemClock.now();
        let origins = self.clock.origins_at(now);
        for message in messages {
            taken += 1;
            let mut stamp = None;
            for control in message.cmsgs().into_iter().flatten() {
                match control {
                    ControlMessageOwned::ScmTimestampns(time) => stamp = Some(Duration::from(time)),
                    ControlMessageOwned::RxqOvfl(lost) => self.lost = self.lost.max(u64::from(lost)),
                    _ => {}
                }
            }
            let arrival = stamp.and_then(|stamp| origins.arrival(stamp, self.emptied, now));
            let at = arrival.filter(|arrival| arrival.at == arrival.earliest).map(|arrival| arrival.at);
            if let Some(packet) = message.iovs().next().and_then(Packet::read) {
                on_packet(packet, at);
            }
        }
        taken
    }
}

fn filters(servers: &[SocketAddr]) -> Vec<SockFilter> {
    let program = program(servers);
    program.iter().map(|op| SockFilter::new(op.code, op.if_true, op.if_false, op.value)).collect()
}

/// The interface over which packets of this server come: that of the address from which the system would reach it, or the
/// loopback interface where the server's address is one of this machine's.
fn interface_to(server: SocketAddr) -> io::Result<LinkAddr> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    // connecting such a socket sends nothing
    let probe = UdpSocket::bind((any, 0))?;
    probe.connect(server)?;
    let own = probe.local_addr()?.ip();
    let all: Vec<_> = getifaddrs()?.collect();
    let has = |of: &InterfaceAddress, ip: IpAddr| {
        let address = of.address.as_ref().and_then(ip_of);
        address == Some(ip)
    };
    let is_own = server.ip().is_loopback() || all.iter().any(|of| has(of, server.ip()));
    let name = if is_own {
        all.iter().find(|of| of.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK))
    } else {
        all.iter().find(|of| has(of, own))
    };
    let name = &name
        .ok_or_else(|| io::Error::other("no interface has the address to reach it from"))?
        .interface_name;
    // an address may have a label of its own, such as eth0:1
    let name = name.split(':').next().unwrap_or(name);
    // bears the interface's number, and as protocol 0, which leaves the socket's as it is
    let link = all.iter().filter(|of| of.interface_name == *name);
    let link = link.filter_map(|of| of.address?.as_link_addr().copied()).next();
    link.ok_or_else(|| io::Error::other(format!("interface '{name}' has no number")))
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
}
