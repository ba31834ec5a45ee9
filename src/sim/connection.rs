//! One connection from its first request to its last.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::answer::{Line, Model};
use super::api;
use super::arrival::Incoming;
use super::http::{Head, Inbox, MAX_BODY, Persistence, Trouble};
use super::refusal::Refusal;
use super::reply::{Reply, send};
use crate::clock::Stop;

/// Serves one request after the other until either side has enough.
///
/// # Errors
/// When the client went away in the middle of something, or the connection was cut.
pub fn serve(model: &Model, stream: &TcpStream, stop: &Stop) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut inbox = Inbox::new(Incoming::new(stream, &model.behavior));
    let mut is_first = true;
    loop {
        let (head, body) = match read(&mut inbox, stream) {
            Ok(request) => request,
            Err(trouble) => return turn_away(stream, trouble),
        };
        // a kept connection cannot be refused
        let persistence = match model.behavior.faults.refused_share() {
            Some(_) => Persistence::Close,
            None => head.persistence,
        };
        let received = inbox.source().arrival();
        api::respond(model, head, &body, received, &Line { stream, stop, persistence })?;
        if persistence == Persistence::Close {
            return Ok(());
        }
        if is_first {
            // not before: as in uvicorn, a connection that has asked nothing yet may take its time
            stream.set_read_timeout(Some(model.behavior.keep_alive))?;
            is_first = false;
        }
    }
}

fn read(inbox: &mut Inbox<Incoming<'_>>, stream: &TcpStream) -> Result<(Head, Vec<u8>), Trouble> {
    let head = inbox.head()?;
    if head.expects_continue && !inbox.holds_bytes() {
        send(stream, b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|_| Trouble::Gone)?;
    }
    let body = inbox.body(head.body)?;
    Ok((head, body))
}

/// Says what was wrong with a request that could not be read, and waits a little for the client to hear it: closing
/// with unread bytes would reset the connection and with it the reply.
fn turn_away(mut stream: &TcpStream, trouble: Trouble) -> io::Result<()> {
    let reply = match trouble {
        Trouble::Gone => return Ok(()),
        Trouble::Malformed => Reply::not_http(),
        Trouble::TooLarge => api::refused(&Refusal::body_too_large(MAX_BODY)),
    };
    send(stream, &reply.bytes(Persistence::Close))?;
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut space = [0; 16 << 10];
    let mut unread = MAX_BODY;
    while unread > 0 {
        match stream.read(&mut space) {
            Ok(0) => break,
            Ok(count) => unread = unread.saturating_sub(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    Ok(())
}
