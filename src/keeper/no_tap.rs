//! Where there are no packet sockets as Linux has them.

use std::net::SocketAddr;

use super::packet::Packet;
use crate::clock::Moment;

/// There are none.
#[derive(Debug)]
pub enum Taps {}

impl Taps {
    pub fn new() -> Result<Self, String> {
        Err("it takes Linux".to_owned())
    }

    pub fn add(&mut self, _: SocketAddr) -> Result<(), String> {
        match *self {}
    }

    pub fn take(&mut self, _: &mut dyn FnMut(Packet, Option<Moment>)) {
        match *self {}
    }

    pub fn lost(&self) -> u64 {
        match *self {}
    }

    pub fn room_bytes(&self) -> u64 {
        match *self {}
    }
}
