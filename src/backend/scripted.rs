//! A backend that replays replies written beforehand: for tests of whatever takes a [`Backend`].

use std::time::Duration;

use super::{Backend, Chunk, Exchange, Head, Request, Trace};
use crate::clock::{Arrival, Clock, ManualClock};
use crate::failure::Failure;

/// One step of a scripted reply.
#[derive(Clone, Debug)]
pub enum Step {
    /// Time passes.
    Wait(Duration),
    /// A head with this status and content type arrives.
    Head(u16, &'static str),
    /// Bytes of the body arrive.
    Body(&'static str),
    /// The exchange fails; nothing after it is played.
    Fail(Failure),
}

/// Plays the same steps for each request, moving a [`ManualClock`] by hand.
#[derive(Clone, Debug)]
pub struct Scripted<'a> {
    /// The clock it moves.
    pub clock: &'a ManualClock,
    /// What each request gets.
    pub steps: Vec<Step>,
}

impl Backend for Scripted<'_> {
    fn stream(&mut self, request: &Request, on_chunk: &mut dyn FnMut(Chunk<'_>)) -> Exchange {
        let sent = Some(self.clock.now());
        let bytes_sent = request.body.len() as u64;
        let mut trace = Trace {
            reused: Some(false),
            sent,
            sent_latest: sent,
            sent_whole: sent,
            bytes_sent,
            ..Trace::default()
        };
        for step in &self.steps {
            match step {
                Step::Wait(wait) => self.clock.advance(*wait),
                Step::Head(status, content_type) => {
                    trace.first_byte.get_or_insert(self.clock.now());
                    let headers = [("content-type", *content_type)];
                    on_chunk(Chunk::Head(Head { status: *status, headers: &headers }));
                }
                Step::Body(bytes) => {
                    trace.body_reads += 1;
                    trace.bytes_received += bytes.len() as u64;
                    on_chunk(Chunk::Body {
                        arrival: Arrival::exact(self.clock.now()),
                        bytes: bytes.as_bytes(),
                    });
                }
                Step::Fail(failure) => return Exchange { trace, result: Err(failure.clone()) },
            }
        }
        Exchange { trace, result: Ok(()) }
    }
}
