//! The heads of a TCP segment and of the IP packet around it (RFC 9293 3.1, RFC 791 3.1, RFC 8200 3): as much of them as
//! tells which bytes of which connection it bears.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the heads say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// Sequence number of its first byte, or of the SYN.
    pub sequence: u32,
    /// The next sequence number expected from the other side.
    pub acknowledged: u32,
    /// Whether it is a server's answer to a client that connects.
    pub is_syn_ack: bool,
    /// Bytes of data.
    pub bytes: u32,
}

/// The most that the heads of both take.
pub const MAX_HEADS: usize = 120;

const TCP: u8 = 6;
const SYN_ACK: u8 = 0x12;

impl Packet {
    /// Reads the beginning of an IP packet. `None` if it is not whole TCP: another protocol, a fragment, an IPv6 packet
    /// with extension headers, or one so large that it does not tell its length.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let (from, to, tcp, length) = match packet.first()? >> 4 {
            4 => {
                let head = usize::from(packet[0] & 0xf) * 4;
                let (length, fragment) = (u16_at(packet, 2)?, u16_at(packet, 6)? & 0x1fff);
                if *packet.get(9)? != TCP || fragment != 0 {
                    return None;
                }
                let address = |at| Some(IpAddr::from(Ipv4Addr::from(u32_at(packet, at)?)));
                (address(12)?, address(16)?, packet.get(head..)?, usize::from(length).checked_sub(head)?)
            }
            6 if *packet.get(6)? == TCP => {
                let address = |at: usize| {
                    let bytes: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
                    Some(IpAddr::from(Ipv6Addr::from(bytes)))
                };
                (address(8)?, address(24)?, packet.get(40..)?, usize::from(u16_at(packet, 4)?))
            }
            _ => return None,
        };
        let head = usize::from(tcp.get(12)? >> 4) * 4;
        Some(Self {
            from: SocketAddr::new(from, u16_at(tcp, 0)?),
            to: SocketAddr::new(to, u16_at(tcp, 2)?),
            sequence: u32_at(tcp, 4)?,
            acknowledged: u32_at(tcp, 8)?,
            is_syn_ack: tcp.get(13)? & SYN_ACK == SYN_ACK,
            bytes: u32::try_from(length.checked_sub(head)?).ok()?,
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A segment in an IP packet.
    pub fn packet(
        from: SocketAddr,
        to: SocketAddr,
        flags: u8,
        (sequence, acknowledged): (u32, u32),
        data: &[u8],
    ) -> Vec<u8> {
        let mut tcp = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        tcp.extend(sequence.to_be_bytes());
        tcp.extend(acknowledged.to_be_bytes());
        // twelve bytes of options, as with timestamps
        tcp.extend([0x80, flags, 1, 0, 0, 0, 0, 0]);
        tcp.extend([1; 12]);
        tcp.extend(data);
        let mut packet = Vec::new();
        match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                packet.extend([0x45, 0]);
                packet.extend((20 + tcp.len() as u16).to_be_bytes());
                packet.extend([0, 0, 0x40, 0, 64, TCP, 0, 0]);
                packet.extend(from.octets());
                packet.extend(to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                packet.extend([0x60, 0, 0, 0]);
                packet.extend((tcp.len() as u16).to_be_bytes());
                packet.extend([TCP, 64]);
                packet.extend(from.octets());
                packet.extend(to.octets());
            }
            _ => panic!("both of one family"),
        }
        packet.extend(tcp);
        packet
    }

    #[test]
    fn a_segment_tells_which_bytes_it_bears() {
        for (from, to) in [("10.0.0.1:80", "10.0.0.2:4000"), ("[fd00::1]:80", "[fd00::2]:4000")] {
            let (from, to) = (from.parse().expect(from), to.parse().expect(to));
            let bytes = packet(from, to, 0x18, (7, 9), b"data");
            let want = Packet { from, to, sequence: 7, acknowledged: 9, is_syn_ack: false, bytes: 4 };
            assert_eq!(Packet::read(&bytes), Some(want));
            let syn_ack = packet(from, to, SYN_ACK, (7, 9), b"");
            assert_eq!(Packet::read(&syn_ack), Some(Packet { is_syn_ack: true, bytes: 0, ..want }));
            // the data need not be there, the heads must
            let heads = bytes.len() - 4;
            for cut in 0..bytes.len() {
                let read = Packet::read(&bytes[..cut]);
                assert!(
                    if cut >= heads { read == Some(want) } else { read.is_none_or(|read| read == want) },
                    "{cut}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_whole_segment_is_none() {
        let (from, to) =
            ("10.0.0.1:80".parse().expect("an address"), "10.0.0.2:4000".parse().expect("an address"));
        let bytes = packet(from, to, 0x18, (7, 9), b"data");
        for (at, value) in [(0, 0x55), (9, 17), (6, 0x1f), (7, 1), (2, 0), (3, 3)] {
            let mut other = bytes.clone();
            other[at] = value;
            if at == 3 {
                // shorter than its heads
                other[2] = 0;
            }
            if (at, value) == (2, 0) {
                other[3] = 0;
            }
            assert_eq!(Packet::read(&other), None, "byte {at} is {value}");
        }
    }
}
