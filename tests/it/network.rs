//! Ways to the server that the URL alone does not tell: addresses given for a name, and a Unix socket.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use vllm_loadgen::backend::{Client, Network, Settings};
use vllm_loadgen::failure::FailureKind;

use crate::command::{code, err, folder, json, out, run, simulator, succeeds};
use crate::failures::{exchange_on, read_request, server, settings};
use crate::tls::{Authority, answer_all, tls_server};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

fn port(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

fn with(url: &str, network: Network) -> Settings {
    Settings { network, ..settings(url) }
}

#[track_caller]
fn fails(settings: Settings, want: FailureKind) -> String {
    let (exchange, _) = exchange_on(&mut Client::new(settings).expect("valid").backend());
    let failure = exchange.result.expect_err("it must fail");
    assert_eq!(failure.kind, want, "{failure}");
    failure.message
}

fn resolving(text: &str) -> Network {
    Network { resolve: vec![text.parse().expect(text)], ..Network::default() }
}

#[test]
fn a_given_address_is_connected_to_under_the_servers_name() {
    let (push, requests) = mpsc::channel();
    let url = server(move |_, mut stream| {
        let mut buffer = [0; 8192];
        let size = stream.read(&mut buffer).expect("a request");
        push.send(String::from_utf8_lossy(&buffer[..size]).into_owned()).expect("the test waits");
        let _ = stream.write_all(OK.as_bytes());
    });
    let port = port(&url);
    // the first of them has nobody who listens
    let network = resolving(&format!("model.test:{port}:127.0.0.2,127.0.0.1"));
    let settings = with(&format!("http://Model.test:{port}"), network);
    let (exchange, _) = exchange_on(&mut Client::new(settings).expect("valid").backend());
    assert_eq!((exchange.result, exchange.trace.dns), (Ok(()), None));
    let request = requests.recv().expect("it came").to_lowercase();
    assert!(request.contains(&format!("\r\nhost: model.test:{port}\r\n")), "{request}");
}

#[test]
fn tls_asks_for_the_name_and_not_for_the_address() {
    let (folder, ca) = (folder(), Authority::new());
    let port = tls_server(ca.server(&["model.test"]), answer_all);
    let cacert = Some(ca.write(folder.path()));
    let network = Network { cacert, ..resolving(&format!("model.test:{port}:127.0.0.1")) };
    let settings = with(&format!("https://model.test:{port}"), network);
    let (exchange, _) = exchange_on(&mut Client::new(settings).expect("valid").backend());
    assert_eq!(exchange.result, Ok(()));
}

#[test]
fn addresses_are_given_by_flag_and_by_file() {
    let (folder, server) = (folder(), simulator());
    let port = server.address().port();
    let url = format!("http://model.test:{port}");
    let resolve = format!("model.test:{port}:127.0.0.1");
    let file = json!({"server": {"url": url, "resolve": ["elsewhere.test:1:::1", resolve]}});
    fs::write(folder.path().join("c.json"), file.to_string()).expect("writable");
    for words in [&["--url", &url, "--resolve", &resolve][..], &["--config", "c.json"]] {
        let common = ["-n", "4", "--max-tokens", "2", "-o", "run.json", "--overwrite"];
        let output = run(folder.path(), &[words, &common].concat());
        succeeds(&output);
        assert!(
            out(&output).contains(&format!("model.test:{port} at 127.0.0.1 (--resolve)")),
            "{}",
            out(&output)
        );
        let report = json(&folder.path().join("run.json"));
        assert_eq!(report["plan"]["server"]["resolve"], json!([resolve]));
        assert_eq!(report["summary"]["latency"]["dns_ms"], Value::Null);
        assert_eq!(report["server"]["window"]["requests_finished"], 4);
    }
}

#[test]
fn ways_that_lead_nowhere_are_mistakes() {
    let folder = folder();
    let long = "x".repeat(200);
    for (words, want) in [
        (&["--resolve", "a"][..], "--resolve 'a': not HOST:PORT:ADDRESS"),
        (&["--resolve", "a:1:b"], "--resolve 'a:1:b': 'b' is no IP address"),
        (&["--resolve", "a:1:::1"], "--resolve 'a:1:::1': is not of the server; begin with localhost:63455:"),
        (&["--unix-socket", ""], "--unix-socket '': names no socket"),
        (&["--unix-socket", &long], "is longer than the path of a socket can be"),
        (
            &["--unix-socket", "s", "--resolve", "localhost:63455:::1"],
            "--unix-socket and --resolve: give one of them",
        ),
        (&["--simulate", "--unix-socket", "s"], "--simulate and --unix-socket: leave it out"),
        (&["--simulate", "--insecure"], "--simulate and --insecure: leave it out"),
    ] {
        let output = run(folder.path(), &[words, &["--model", "m"]].concat());
        assert_eq!(code(&output), 2, "{words:?}: {}", err(&output));
        assert!(err(&output).contains(want), "{want} not in {}", err(&output));
    }
}

/// Carries bytes both ways until both ends are closed.
fn join(client: UnixStream, server: TcpStream) {
    let (mut from, mut to) = (client.try_clone().expect("a copy"), server.try_clone().expect("a copy"));
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (server, client);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// A Unix socket in front of a TCP server.
fn unix_front(folder: &Path, server: SocketAddr) -> PathBuf {
    let path = folder.join("server.sock");
    let listener = UnixListener::bind(&path).expect("a short path");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            join(client, TcpStream::connect(server).expect("it listens"));
        }
    });
    path
}

fn over(path: &Path) -> Network {
    Network { unix_socket: Some(path.to_owned()), ..Network::default() }
}

#[test]
fn a_run_over_a_unix_socket_says_that_nothing_is_stamped() {
    let (folder, server) = (folder(), simulator());
    let path = unix_front(folder.path(), server.address());
    let path = path.to_str().expect("a plain path");
    fs::write(folder.path().join("c.json"), json!({"server": {"unix_socket": path}}).to_string())
        .expect("writable");
    for words in [&["--unix-socket", path][..], &["--config", "c.json"]] {
        let common =
            ["-n", "6", "-t", "1", "--max-tokens", "8", "--ignore-eos", "-o", "run.json", "--overwrite"];
        let output = run(folder.path(), &[words, &common].concat());
        succeeds(&output);
        for part in [&format!("over the Unix socket {path}")[..], "a Unix socket has no receive timestamps"] {
            assert!(out(&output).contains(part), "{part} not in {}", out(&output));
        }
        let report = json(&folder.path().join("run.json"));
        assert_eq!(report["plan"]["server"]["unix_socket"], path);
        let summary = &report["summary"];
        assert_eq!(summary["tokens"]["output"], 48);
        assert_eq!(
            (&summary["connections"]["opened"], &summary["connections"]["reused"]),
            (&1.into(), &5.into())
        );
        let latency = &summary["latency"];
        assert_eq!(latency["ttft_ms"]["count"], 6);
        assert_eq!(latency["kernel_stamped_share"], 0.0);
        for phase in ["dns_ms", "tcp_ms", "tls_ms", "read_delay_ms"] {
            assert_eq!(latency[phase], Value::Null, "{phase}");
        }
        assert_eq!(report["server"]["window"]["generation_tokens"], 48);
    }
}

#[test]
fn tls_goes_over_a_unix_socket_too() {
    let (folder, ca) = (folder(), Authority::new());
    let port = tls_server(ca.server(&["model.test"]), answer_all);
    let path = unix_front(folder.path(), ([127, 0, 0, 1], port).into());
    let network = Network { cacert: Some(ca.write(folder.path())), ..over(&path) };
    let (exchange, _) =
        exchange_on(&mut Client::new(with("https://model.test", network)).expect("valid").backend());
    assert_eq!(exchange.result, Ok(()));
    assert!(exchange.trace.tls.is_some() && exchange.trace.tcp.is_none());
}

#[test]
fn a_unix_socket_fails_as_tcp_does() {
    let folder = folder();
    let path = folder.path().join("s.sock");
    let settings = || with("http://h", over(&path));
    let message = fails(settings(), FailureKind::ConnectRefused);
    assert!(message.contains("s.sock: No such file"), "{message}");
    let listener = UnixListener::bind(&path).expect("a short path");
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a visitor");
            read_request(&mut stream);
        });
        fails(settings(), FailureKind::ClosedBeforeReply);
        // held until it is taken, which is after the test
        let _held = scope.spawn(|| listener.accept());
        let idle = Duration::from_millis(50);
        fails(Settings { idle_timeout: idle, ..settings() }, FailureKind::HeaderTimeout);
    });
    drop(listener);
    let message = fails(settings(), FailureKind::ConnectRefused);
    assert!(message.contains("s.sock: Connection refused"), "{message}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_unix_server_that_accepts_nobody_is_a_connect_timeout() {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
    use std::os::fd::AsRawFd;
    let folder = folder();
    let path = folder.path().join("s.sock");
    let queue = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).expect("a socket");
    bind(queue.as_raw_fd(), &UnixAddr::new(&path).expect("a short path")).expect("bound");
    listen(&queue, Backlog::new(0).expect("none")).expect("it listens");
    let _waits = UnixStream::connect(&path).expect("there is room for one");
    let settings = Settings { connect_timeout: Duration::from_millis(50), ..with("http://h", over(&path)) };
    fails(settings, FailureKind::ConnectTimeout);
}
