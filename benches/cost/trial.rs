//! One trial: a server in a process of its own, and a client in another, weighed.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use vllm_loadgen::sim::{Behavior, Simulator};

use crate::frame::Connection;
use crate::weigh::{Used, told};

/// The command that is measured.
const OURS: &str = env!("CARGO_BIN_EXE_vllm-loadgen");

/// What every run of ours is told. The model is named, so that nobody asks for it.
const ALWAYS: [&str; 7] =
    ["--model", "simulated-model", "--no-server-metrics", "--ignore-eos", "--no-detail", "--overwrite", "-q"];

/// A server that is killed when nobody needs it any more.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// Kept open, for the server may say more.
    _words: BufReader<ChildStderr>,
}

impl Server {
    /// The simulator: every token on its own and at its time.
    pub fn simulator(ttft: &str, itl: &str) -> io::Result<Self> {
        let words =
            ["--ttft", ttft, "--itl", itl, "--slowdown", "0", "--slots", "100000", "--output-tokens", "0"];
        Self::start(Command::new(OURS).args(["simulate", "--port", "0"]).args(words), &[])
    }

    /// The server that sends the reply to `request` over and over, as fast as it can.
    pub fn replay(request: &[u8]) -> io::Result<Self> {
        Self::start(Command::new(std::env::current_exe()?).arg("replay"), request)
    }

    fn start(command: &mut Command, input: &[u8]) -> io::Result<Self> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().expect("a pipe").write_all(input)?;
        let mut line = String::new();
        let mut words = BufReader::new(child.stderr.take().expect("a pipe"));
        words.read_line(&mut line)?;
        let address = line.split("http://").nth(1).and_then(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
            rest[..end].trim_end_matches(':').parse().ok()
        });
        let address = address.ok_or_else(|| io::Error::other(format!("no server address in '{line}'")))?;
        Ok(Self { child, address, _words: words })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the floor.
pub fn floor(server: SocketAddr, threads: u64, completions: u64, request: &[u8]) -> io::Result<Used> {
    let program = std::env::current_exe()?.display().to_string();
    let words =
        [program, "floor".to_owned(), server.to_string(), threads.to_string(), completions.to_string()];
    weigh(&words, request)
}

/// Runs `vllm-loadgen` and returns its report beside what it used. A request that fails is an error: there is nothing
/// to compare then.
pub fn ours(server: SocketAddr, words: &[&str], folder: &Path) -> io::Result<(Used, Value)> {
    let file = folder.join("report.json").display().to_string();
    let url = format!("http://{server}");
    let all = [OURS, "--url", &url, "-o", &file].into_iter().chain(ALWAYS).chain(words.iter().copied());
    let used = weigh(&all.map(str::to_owned).collect::<Vec<_>>(), &[])?;
    let report: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let requests = &report["summary"]["requests"];
    if requests["sent"] != requests["succeeded"] {
        return Err(io::Error::other(format!("not every request went well: {requests}")));
    }
    Ok((used, report))
}

fn weigh(words: &[String], input: &[u8]) -> io::Result<Used> {
    let mut scale = Command::new(std::env::current_exe()?)
        .arg("weigh")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    scale.stdin.take().expect("a pipe").write_all(input)?;
    let output = scale.wait_with_output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    told(&printed).ok_or_else(|| io::Error::other(format!("'{}' failed", words.join(" "))))
}

/// The first request of ours: the time from its launch until that has come, and the request's bytes.
///
/// What it asks before is answered by `simulator`. `words` come after those of every run, or alone if `is_plain`.
pub fn first_request(
    simulator: &Simulator,
    words: &[&str],
    is_plain: bool,
) -> io::Result<(Duration, Vec<u8>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut command = Command::new(OURS);
    command.args(["--url", &url]).args(if is_plain { &[] } else { &ALWAYS[..] }).args(words);
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn()?;
    let first = answer_until_post(&listener, simulator.address());
    child.kill()?;
    child.wait()?;
    let (at, request) = first?;
    Ok((at.duration_since(began), request))
}

fn answer_until_post(listener: &TcpListener, simulator: SocketAddr) -> io::Result<(Instant, Vec<u8>)> {
    loop {
        let mut guest = Connection::new(listener.accept()?.0)?;
        let request = guest.read()?;
        if request.starts_with(b"POST") {
            return Ok((Instant::now(), request));
        }
        guest.write(&Connection::to(simulator)?.fetch(&request)?)?;
    }
}

/// A simulator in this process, for what is asked once.
pub fn simulator() -> io::Result<Simulator> {
    Simulator::start(Behavior::flat_out(), ([127, 0, 0, 1], 0).into())
}
