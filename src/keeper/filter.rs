//! Which packets the kernel copies for us: those that servers under load send, and the requests sent to them. A program
//! of classic BPF, run on each packet of the interface; all others cost no more than that.

use std::net::{IpAddr, SocketAddr};

use super::packet::MAX_HEADS;

/// One instruction of classic BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub if_true: u8,
    pub if_false: u8,
    pub value: u32,
}

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_AT_X: u16 = 0x48;
const LOAD_LENGTH: u16 = 0x80;
/// X becomes the length of the IPv4 head that begins at this byte.
const HEAD_TO_X: u16 = 0xb1;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Where the kernel answers whom a packet is for (`SKF_AD_OFF + SKF_AD_PKTTYPE`).
const PACKET_TYPE: u32 = 0xffff_f004;
/// It leaves this machine, or on the loopback interface its sender.
const OUTGOING: u32 = 4;
/// What we send is a request if it is longer than this: an acknowledgement takes at most 60 + 60 bytes, and mostly 52 or
/// 72. A request has the name of its server, its length and more in it.
const LONGEST_ACKNOWLEDGEMENT: u32 = 100;

/// Lets through what comes from these servers, and what goes to them and is longer than an acknowledgement; of each packet,
/// the heads. Packets begin with their IP head.
pub fn program(servers: &[SocketAddr]) -> Vec<Instruction> {
    let (v4, v6): (Vec<_>, Vec<_>) = servers.iter().partition(|server| server.is_ipv4());
    let (v4, v6) = (of_v4(&v4), of_v6(&v6));
    let mut program = vec![
        op(LOAD_BYTE, 0),
        op(AND, 0xf0),
        branch(IF_EQUAL, 0x40, 2, 0),
        branch(IF_EQUAL, 0x60, 2, 0),
        op(RETURN, 0),
        op(JUMP, 1),
        op(JUMP, u32::try_from(v4.len()).unwrap_or(u32::MAX)),
    ];
    program.extend(v4);
    program.extend(v6);
    program
}

fn op(code: u16, value: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, value }
}

fn branch(code: u16, value: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, value }
}

fn of_v4(servers: &[&SocketAddr]) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD_BYTE, 9),
        branch(IF_EQUAL, 6, 1, 0),
        op(RETURN, 0),
        op(LOAD_HALF, 6),
        branch(IF_BITS, 0x1fff, 0, 1),
        op(RETURN, 0),
        op(HEAD_TO_X, 0),
    ];
    by_direction(&mut program, |is_outgoing| {
        let (address, port) = if is_outgoing { (16, 2) } else { (12, 0) };
        servers.iter().flat_map(|server| one_of(server, address, op(LOAD_HALF_AT_X, port))).collect()
    });
    program
}

fn of_v6(servers: &[&SocketAddr]) -> Vec<Instruction> {
    let mut program = vec![op(LOAD_BYTE, 6), branch(IF_EQUAL, 6, 1, 0), op(RETURN, 0)];
    by_direction(&mut program, |is_outgoing| {
        let (address, port) = if is_outgoing { (24, 42) } else { (8, 40) };
        servers.iter().flat_map(|server| one_of(server, address, op(LOAD_HALF, port))).collect()
    });
    program
}

/// What comes and what goes are held to programs of their own.
fn by_direction(program: &mut Vec<Instruction>, of: impl Fn(bool) -> Vec<Instruction>) {
    let (coming, going) = (of(false), of(true));
    let behind_coming = u32::try_from(coming.len() + 1).unwrap_or(u32::MAX);
    program.extend([op(LOAD_BYTE, PACKET_TYPE), branch(IF_EQUAL, OUTGOING, 0, 1), op(JUMP, behind_coming)]);
    program.extend(coming);
    program.push(op(RETURN, 0));
    program.extend([op(LOAD_LENGTH, 0), branch(IF_GREATER, LONGEST_ACKNOWLEDGEMENT, 1, 0), op(RETURN, 0)]);
    program.extend(going);
    program.push(op(RETURN, 0));
}

/// Returns with success if the address at this byte and the port that is loaded so are the server's.
fn one_of(server: &SocketAddr, address: u32, load_port: Instruction) -> Vec<Instruction> {
    let words: Vec<u32> = match server.ip() {
        IpAddr::V4(ip) => vec![ip.to_bits()],
        IpAddr::V6(ip) => (0..4).rev().map(|word| (ip.to_bits() >> (32 * word)) as u32).collect(),
    };
    // to what follows the last instruction
    let mut to_end = u8::try_from(words.len() * 2 + 3).unwrap_or(u8::MAX);
    let mut program = Vec::new();
    for (number, word) in (0..).zip(words) {
        to_end -= 2;
        program.extend([op(LOAD_WORD, address + 4 * number), branch(IF_EQUAL, word, 0, to_end)]);
    }
    let whole_heads = op(RETURN, MAX_HEADS as u32);
    program.extend([load_port, branch(IF_EQUAL, server.port().into(), 0, 1), whole_heads]);
    program
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::packet;
    use super::*;

    /// Runs a program as the kernel does: bytes to keep.
    fn run(program: &[Instruction], packet: &[u8], packet_type: u32) -> u32 {
        let (mut a, mut x, mut next) = (0_u32, 0_u32, 0);
        let at = |at: u32, bytes: usize| {
            let part = packet.get(at as usize..at as usize + bytes)?;
            Some(part.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
        };
        loop {
            let Instruction { code, if_true, if_false, value } = program[next];
            next += 1;
            let loaded = match code {
                LOAD_BYTE if value == PACKET_TYPE => Some(packet_type),
                LOAD_BYTE => at(value, 1),
                LOAD_HALF => at(value, 2),
                LOAD_WORD => at(value, 4),
                LOAD_HALF_AT_X => at(x + value, 2),
                LOAD_LENGTH => Some(packet.len() as u32),
                AND => Some(a & value),
                _ => {
                    let is_true = match code {
                        IF_EQUAL => a == value,
                        IF_GREATER => a > value,
                        IF_BITS => a & value != 0,
                        RETURN => return value,
                        HEAD_TO_X => {
                            let Some(byte) = at(value, 1) else { return 0 };
                            x = (byte & 0xf) * 4;
                            continue;
                        }
                        JUMP => {
                            next += value as usize;
                            continue;
                        }
                        _ => panic!("code {code:#x}"),
                    };
                    next += usize::from(if is_true { if_true } else { if_false });
                    continue;
                }
            };
            // a load beyond the end ends the program
            let Some(loaded) = loaded else { return 0 };
            a = loaded;
        }
    }

    const SERVERS: [&str; 4] = ["10.0.0.1:80", "10.0.0.9:8000", "[fd00::1]:80", "[fd00:0:0:7::9]:8000"];

    fn address(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    fn is_kept(from: &str, to: &str, data: usize, packet_type: u32) -> bool {
        let program = program(&SERVERS.map(address));
        let bytes = packet(address(from), address(to), 0x18, (1, 2), &vec![b'x'; data]);
        match run(&program, &bytes, packet_type) {
            0 => false,
            kept => {
                assert_eq!(kept as usize, MAX_HEADS);
                true
            }
        }
    }

    #[test]
    fn what_servers_send_and_what_is_asked_of_them_is_kept() {
        for server in SERVERS {
            let client = if server.starts_with('[') { "[fd00::2]:4000" } else { "10.0.0.2:4000" };
            assert!(is_kept(server, client, 0, 0), "{server}");
            assert!(is_kept(server, client, 100, 0), "{server}");
            assert!(is_kept(client, server, 100, OUTGOING), "{server}");
            // an acknowledgement, and the other sight of a packet on the loopback interface
            assert!(!is_kept(client, server, 0, OUTGOING), "{server}");
            assert!(!is_kept(server, client, 100, OUTGOING), "{server}");
            assert!(!is_kept(client, server, 100, 0), "{server}");
        }
    }

    #[test]
    fn all_else_is_none_of_ours() {
        for (from, to) in [
            ("10.0.0.1:81", "10.0.0.2:4000"),
            ("10.0.0.3:80", "10.0.0.2:4000"),
            ("10.0.0.1:8000", "10.0.0.2:4000"),
            ("10.0.0.2:4000", "10.0.0.1:81"),
            ("[fd00::1]:81", "[fd00::2]:4000"),
            ("[fd00::7]:80", "[fd00::2]:4000"),
            ("[fd00:0:0:8::9]:8000", "[fd00::2]:4000"),
            ("[fd00::2]:4000", "[fd00::1]:81"),
        ] {
            assert!(!is_kept(from, to, 100, 0) && !is_kept(from, to, 100, OUTGOING), "{from} {to}");
        }
        let kept = program(&SERVERS.map(address));
        let (from, to) = (address("10.0.0.1:80"), address("10.0.0.2:4000"));
        let bytes = packet(from, to, 0x18, (1, 2), b"data");
        for (byte, value) in [(0, 0x55), (9, 17), (7, 1)] {
            let mut other = bytes.clone();
            other[byte] = value;
            assert_eq!(run(&kept, &other, 0), 0, "byte {byte}");
        }
        assert_eq!(run(&kept, &[], 0), 0);
        assert_eq!(run(&program(&[]), &bytes, 0), 0);
    }
}
