//! A server that keeps what it is sent, for what the tool hands to others than the server under load.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// One request, as it came.
#[derive(Debug)]
pub struct Received {
    /// `PUT /metrics/job/x HTTP/1.1`.
    pub line: String,
    /// Head lines, names in lower case.
    pub head: Vec<String>,
    pub body: String,
}

/// Answers every request with this status, and gives out what came. Its thread ends with the process.
pub fn receiver(status: &'static str) -> (String, Receiver<Received>) {
    answering(move |_| (status.to_owned(), String::new()))
}

/// Answers every request with the status, and more lines of a head if need be, and the body that `answer` gives.
pub fn answering(
    mut answer: impl FnMut(&Received) -> (String, String) + Send + 'static,
) -> (String, Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it has one"));
    let (push, received) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let Some(received) = receive(&mut reader) else { continue };
            let (status, body) = answer(&received);
            if push.send(received).is_err() {
                return;
            }
            let length = body.len();
            let reply =
                format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            (&stream).write_all(reply.as_bytes()).expect("answered");
        }
    });
    (url, received)
}

/// One request; `None` where the connection ends before it.
pub fn receive(reader: &mut impl BufRead) -> Option<Received> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a head");
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return None;
    }
    let line = lines.remove(0);
    let lower = |line: String| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}", name.to_ascii_lowercase()),
        None => line,
    };
    let head: Vec<String> = lines.into_iter().map(lower).collect();
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).expect("a body");
    Some(Received { line, head, body: String::from_utf8(body).expect("UTF-8") })
}
