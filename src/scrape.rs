//! Answers whoever asks for metrics over HTTP: the smallest server that Prometheus is content with.
//!
//! It runs on threads of its own. One who connects and says nothing keeps nobody else waiting, and nothing that comes in
//! is looked at but the first line.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{Clock, Stop, Stopper, SystemClock, stop_pair};

/// Serves `GET /metrics` until it is dropped.
pub struct ScrapeServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stopper: Option<Stopper>,
    reception: Option<JoinHandle<()>>,
}

/// Makes the text that is served, anew for each who asks.
pub type Render = Box<dyn Fn() -> Vec<u8> + Send + Sync>;

struct Shared {
    render: Render,
    content_type: &'static str,
    /// Times that the metrics were handed over whole.
    scrapes: AtomicU64,
    /// Connections open now.
    guests: AtomicUsize,
    /// Those of them that have not asked yet, the oldest first, each with its number.
    silent: Mutex<VecDeque<(u64, TcpStream)>>,
}

/// More connections at once than any Prometheus makes; for each above, the one goes that has been silent for longest.
const MAX_GUESTS: usize = 16;
/// Longest time for a request to come, and for an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest head of a request that is read.
const MAX_HEAD: usize = 8 * 1024;
const STACK_SIZE: usize = 256 * 1024;

impl ScrapeServer {
    /// Listens at `address`; port 0 is any free port. `content_type` is the media type of what `render` makes.
    ///
    /// # Errors
    /// When the address cannot be had, or no thread can be started.
    pub fn start(address: SocketAddr, content_type: &'static str, render: Render) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            render,
            content_type,
            scrapes: AtomicU64::new(0),
            guests: AtomicUsize::new(0),
            silent: Mutex::default(),
        });
        let (stopper, stop) = stop_pair();
        let own = Arc::clone(&shared);
        let reception = thread::Builder::new()
            .name("scrape".to_owned())
            .stack_size(STACK_SIZE)
            .spawn(move || receive(&listener, &own, &stop))?;
        Ok(Self { address, shared, stopper: Some(stopper), reception: Some(reception) })
    }

    /// Where the metrics are, such as `http://127.0.0.1:9464/metrics`.
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    /// Goes on until the metrics have been asked for once more, for at most so long. A stop ends it at once.
    pub fn linger(&self, limit: Duration, stop: &Stop) {
        let (before, end) = (self.shared.scrapes.load(Ordering::Acquire), SystemClock.now() + limit);
        while self.shared.scrapes.load(Ordering::Acquire) == before && SystemClock.now() < end {
            if !stop.sleep(LOOK_EVERY) {
                return;
            }
        }
    }
}

/// How often one who lingers looks whether somebody has asked.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Accepts no more. Who is being answered is answered.
impl Drop for ScrapeServer {
    fn drop(&mut self) {
        drop(self.stopper.take());
        // wakes accept
        let local = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let woken = TcpStream::connect_timeout(&SocketAddr::new(local, self.address.port()), PATIENCE);
        if let (Ok(_), Some(reception)) = (woken, self.reception.take()) {
            let _ = reception.join();
        }
    }
}

fn receive(listener: &TcpListener, shared: &Arc<Shared>, stop: &Stop) {
    for number in 0_u64.. {
        let accepted = listener.accept();
        if stop.requested() {
            return;
        }
        match accepted {
            Ok((stream, _)) => admit(number, stream, shared),
            Err(error) => {
                log::warn!("the metrics' server cannot accept a connection: {error}");
                // out of descriptors, most likely
                stop.sleep(Duration::from_millis(100));
            }
        }
    }
}

fn admit(number: u64, stream: TcpStream, shared: &Arc<Shared>) {
    if shared.guests.fetch_add(1, Ordering::Relaxed) >= MAX_GUESTS && !shared.show_one_out() {
        shared.guests.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    if let Ok(handle) = stream.try_clone() {
        shared.silent().push_back((number, handle));
    }
    let own = Arc::clone(shared);
    let serve = move || {
        if let Err(error) = own.serve(number, &stream) {
            log::debug!("a scrape failed: {error}");
        }
        own.has_asked(number);
        own.guests.fetch_sub(1, Ordering::Relaxed);
    };
    let thread = thread::Builder::new().name("scrape-guest".to_owned()).stack_size(STACK_SIZE);
    if let Err(error) = thread.spawn(serve) {
        log::warn!("no thread for a scrape: {error}");
        shared.has_asked(number);
        shared.guests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn silent(&self) -> MutexGuard<'_, VecDeque<(u64, TcpStream)>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection that has been silent for longest; false where all have asked.
    fn show_one_out(&self) -> bool {
        let oldest = self.silent().pop_front();
        oldest.is_some_and(|(_, stream)| stream.shutdown(Shutdown::Both).is_ok())
    }

    fn has_asked(&self, number: u64) {
        self.silent().retain(|(silent, _)| *silent != number);
    }

    fn serve(&self, number: u64, mut stream: &TcpStream) -> io::Result<()> {
        let head = read_head(stream)?;
        self.has_asked(number);
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        let (status, content_type, body) = match (method, path) {
            ("GET" | "HEAD", "/metrics") => ("200 OK", self.content_type, (self.render)()),
            ("GET" | "HEAD", _) => ("404 Not Found", PLAIN, b"the metrics are at /metrics\n".to_vec()),
            _ => ("405 Method Not Allowed", PLAIN, b"only GET is answered\n".to_vec()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let body = if method == "HEAD" { &[][..] } else { &body };
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&[head.as_bytes(), body].concat())?;
        if status.starts_with("200") && method == "GET" {
            self.scrapes.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// The first line of a request, once its head has come.
fn read_head(mut stream: &TcpStream) -> io::Result<String> {
    let end = SystemClock.now() + PATIENCE;
    let (mut head, mut part) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let left = end.since(SystemClock.now());
        if left.is_zero() || head.len() > MAX_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no request came, or one too long"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => head.extend_from_slice(&part[..n]),
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ScrapeServer {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        ScrapeServer::start(any, "text/x", Box::new(|| b"a 1\n".to_vec())).expect("a free port")
    }

    fn ask(server: &ScrapeServer, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address).expect("it listens");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("answered");
        reply
    }

    #[test]
    fn the_metrics_are_at_one_path_only() {
        let server = server();
        let reply = ask(&server, "GET /metrics?x=1 HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(
            reply.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 4\r\n"),
            "{reply}"
        );
        assert!(reply.ends_with("\r\n\r\na 1\n"), "{reply}");
        let head = ask(&server, "HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(head.contains("Content-Length: 4\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(ask(&server, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(ask(&server, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    }

    #[test]
    fn one_who_says_nothing_keeps_nobody_waiting() {
        let server = server();
        let _silent: Vec<_> =
            (0..3).map(|_| TcpStream::connect(server.address).expect("it listens")).collect();
        assert!(ask(&server, "GET /metrics HTTP/1.0\r\n\r\n").contains(" 200 OK"));
    }

    #[test]
    fn however_many_say_nothing_who_asks_is_answered() {
        let server = server();
        let _silent: Vec<_> =
            (0..300).map(|_| TcpStream::connect(server.address).expect("it listens")).collect();
        assert!(ask(&server, "GET /metrics HTTP/1.0\r\n\r\n").contains(" 200 OK"));
    }

    #[test]
    fn lingering_ends_with_a_scrape_or_a_stop() {
        let server = server();
        let (stopper, stop) = stop_pair();
        let hour = Duration::from_secs(3600);
        thread::scope(|scope| {
            let waits = scope.spawn(|| server.linger(hour, &stop));
            while !waits.is_finished() {
                ask(&server, "GET /metrics HTTP/1.1\r\n\r\n");
            }
        });
        stopper.stop();
        server.linger(hour, &stop);
    }
}
