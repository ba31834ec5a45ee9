//! A client that reads late: what the kernel joined meanwhile is told apart, or bounded.

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use vllm_loadgen::backend::{Backend, Chunk, Client, Request};
use vllm_loadgen::clock::{Arrival, Clock, Moment, SystemClock};
use vllm_loadgen::heartbeat::Beats;
use vllm_loadgen::keeper::Keeper;

use crate::failures::{read_request, server, settings};

/// Before and after each event was written.
type Written = Vec<(Moment, Moment)>;

const EVENTS: usize = 6;
/// Between two events; the assertions do not depend on it.
const GAP: Duration = Duration::from_millis(12);
/// Clocks that are compared with the kernel's stamps.
const SLACK: Duration = Duration::from_millis(1);

/// A server of one reply. Once it is told that the head was read, it writes all events, and tells when it began and ended to
/// write each.
fn writer() -> (String, Sender<()>, Receiver<Written>) {
    let (go, gone) = channel();
    let (tell, told): (Sender<_>, _) = channel();
    let url = server(move |_, mut stream| {
        let _ = stream.set_nodelay(true);
        read_request(&mut stream);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        let _ = gone.recv();
        let mut written = Written::new();
        for number in 0..EVENTS {
            thread::sleep(GAP);
            let before = SystemClock.now();
            let event = format!("data: event {number}\n\n");
            let _ = stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
            written.push((before, SystemClock.now()));
        }
        let _ = tell.send(written);
        let _ = stream.write_all(b"0\r\n\r\n");
    });
    (url, go, told)
}

/// Reads the reply late: nothing behind its head before all events are written. The arrival of each event, and when it was
/// written.
fn read_late(keeper: Option<Keeper>) -> Vec<(Arrival, (Moment, Moment))> {
    let (url, go, told) = writer();
    let client =
        Client::new(settings(&url)).expect("valid settings").with_witnesses(keeper, Beats::default());
    let request = Request { id: "t-0".to_owned(), body: b"{}".to_vec().into() };
    let (mut arrivals, mut written) = (Vec::new(), Vec::new());
    let exchange = client.backend().stream(&request, &mut |chunk| match chunk {
        Chunk::Head(_) => {
            go.send(()).expect("the server waits");
            written = told.recv().expect("it was all written");
        }
        Chunk::Body { arrival, bytes } => {
            let ends = bytes.windows(2).filter(|two| two == b"\n\n").count();
            arrivals.extend(std::iter::repeat_n(arrival, ends));
        }
    });
    assert_eq!((exchange.result, arrivals.len()), (Ok(()), EVENTS));
    arrivals.into_iter().zip(written).collect()
}

#[test]
fn without_a_keeper_each_event_came_between_its_two_moments() {
    let events = read_late(None);
    for (arrival, (before, after)) in &events {
        assert!(
            arrival.earliest <= *after + SLACK && arrival.at + SLACK >= *before,
            "{arrival:?} {before:?} {after:?}"
        );
    }
    // they were joined, and that is not hidden
    let (first, _) = events[0];
    assert!(first.at.since(first.earliest) + SLACK >= GAP * (EVENTS as u32 - 2), "{first:?}");
}

#[test]
fn with_a_keeper_each_event_has_its_moment_however_late_it_is_read() {
    let keeper = match Keeper::start() {
        Ok(keeper) => keeper,
        Err(why) => {
            println!("not tested: {why}");
            return;
        }
    };
    let events = read_late(Some(keeper.clone()));
    for (number, (arrival, (before, after))) in events.iter().enumerate() {
        assert_eq!(arrival.at, arrival.earliest, "event {number}");
        assert!(arrival.at + SLACK >= *before, "event {number}: {arrival:?} {before:?} {after:?}");
        if let Some((_, (next, _))) = events.get(number + 1) {
            assert!(arrival.at <= *next, "event {number}: {arrival:?} {next:?}");
        }
    }
    let sighted = keeper.sighted();
    assert!(sighted.packets > EVENTS as u64 && sighted.lost == 0, "{sighted:?}");
    assert_eq!((sighted.connections, sighted.unseen_connections), (1, 0));
}
