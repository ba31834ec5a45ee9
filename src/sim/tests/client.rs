//! An HTTP client of a few lines: it sends what it is told and reads one reply.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::{STUCK, chat, completion};
use crate::sim::Simulator;

/// One connection.
pub struct Client(BufReader<TcpStream>);

#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The data of the events.
    pub fn events(&self) -> Vec<&str> {
        assert!(self.body.ends_with("\n\n"), "{self:?}");
        let data = |event| str::strip_prefix(event, "data: ").unwrap_or_else(|| panic!("{event}"));
        self.body.trim_end().split("\n\n").map(data).collect()
    }

    /// The last event but `[DONE]`, which is where the usage is.
    pub fn last_event(&self) -> Value {
        let events = self.events();
        assert_eq!(events.last(), Some(&"[DONE]"));
        serde_json::from_str(events[events.len() - 2]).expect("an event is JSON")
    }
}

impl Client {
    pub fn connect(server: &Simulator) -> Self {
        let stream = TcpStream::connect(server.address()).expect("the server listens");
        stream.set_read_timeout(Some(STUCK)).expect("a timeout above 0");
        Self(BufReader::new(stream))
    }

    pub fn write(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).expect("the server reads");
    }

    pub fn post(&mut self, path: &str, headers: &str, body: &str) {
        self.write(&format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }

    pub fn get(&mut self, path: &str) -> Got {
        self.write(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        self.read()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line
    }

    fn take(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).expect("as many bytes as announced");
        String::from_utf8(bytes).expect("text")
    }

    pub fn read_head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let line = self.line();
            assert!(!line.is_empty(), "ended within the head: {head:?}");
            head.push_str(&line);
        }
        head
    }

    pub fn read_chunk(&mut self) -> String {
        let size = self.line();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap_or_else(|_| panic!("no size: {size:?}"));
        let chunk = self.take(size);
        assert_eq!(self.take(2), "\r\n");
        chunk
    }

    pub fn read(&mut self) -> Got {
        let head = self.read_head();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body = match length {
            Some(length) => self.take(length.parse().expect("a length")),
            None => {
                let mut body = String::new();
                loop {
                    match self.read_chunk() {
                        chunk if chunk.is_empty() => break body,
                        chunk => body.push_str(&chunk),
                    }
                }
            }
        };
        Got { status, head, body }
    }

    pub fn is_at_end(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]), Ok(0))
    }

    pub fn chat(&mut self, fields: &str) -> Got {
        self.post("/v1/chat/completions", "", &chat(fields));
        self.read()
    }

    pub fn complete(&mut self, fields: &str) -> Got {
        self.post("/v1/completions", "", &completion(fields));
        self.read()
    }

    /// The value of a series that has no labels but the common ones.
    pub fn metric(&mut self, name: &str) -> f64 {
        self.series(&format!("{name}{{engine=\"0\",model_name=\"simulated-model\"}} "))
    }

    pub fn series(&mut self, start: &str) -> f64 {
        let page = self.get("/metrics").body;
        let value =
            page.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("{page}"));
        value.parse().expect("a number")
    }
}
