//! A small CONNECT proxy of the tests' own: who is reached through it, what it gets to see, and how it can refuse.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use vllm_loadgen::backend::{Client, Network, Settings};
use vllm_loadgen::failure::FailureKind;
use vllm_loadgen::sim::Behavior;

use crate::command::{code, command, err, folder, json, out, simulator, start, succeeds};
use crate::failures::{exchange_on, server, settings};
use crate::tls::{Authority, answer_all, tls_server};

/// What a proxy was asked, one head a visitor.
#[derive(Clone, Default)]
struct Heads(Arc<Mutex<Vec<String>>>);

impl Heads {
    fn all(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }
}

/// Opens tunnels to this server, whatever name it is asked for.
fn proxy(server: SocketAddr) -> (String, Heads) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let heads = Heads::default();
    let seen = heads.clone();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let head = read_head(&mut client);
            seen.0.lock().expect("no panic").push(head);
            let server = TcpStream::connect(server).expect("it listens");
            let _ = client.write_all(b"HTTP/1.0 200 Connection established\r\nvia: a test\r\n\r\n");
            carry(&client, &server);
            carry(&server, &client);
        }
    });
    (address, heads)
}

fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

/// Carries bytes one way until they end.
fn carry(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().expect("a copy"), to.try_clone().expect("a copy"));
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// Runs the command in a new folder with these variables; returns the report too, if there is one.
fn run(words: &[&str], variables: &[(&str, &str)]) -> (Output, Value) {
    let folder = folder();
    let mut command = command(folder.path());
    command.args(words).args(["-n", "6", "-t", "1", "--max-tokens", "8", "--ignore-eos", "-o", "run.json"]);
    let output = command.envs(variables.iter().copied()).output().expect("it starts");
    let file = folder.path().join("run.json");
    (output, if file.exists() { json(&file) } else { Value::Null })
}

#[test]
fn a_run_through_a_proxy_names_it_and_has_the_same_figures() {
    let server = simulator();
    let (address, heads) = proxy(server.address());
    let proxy = format!("http://{address}");
    let url = "http://model.test:8000";
    let mut is_stamped = false;
    for (words, variables, source) in [
        (&["--url", url, "--proxy", &address][..], vec![], "--proxy"),
        (&["--url", url], vec![("http_proxy", &proxy[..])], "environment variable http_proxy"),
        (&["--url", url], vec![("ALL_PROXY", &address)], "environment variable ALL_PROXY"),
        // a flag wins over the variables, and over what they exempt
        (&["--url", url, "--proxy", &proxy], vec![("http_proxy", "none.test"), ("no_proxy", "*")], "--proxy"),
    ] {
        let (output, report) = run(words, &variables);
        succeeds(&output);
        let told = format!("through the proxy {proxy} ({source})");
        assert!(out(&output).contains(&told), "{told} not in {}", out(&output));
        let in_plan = &report["plan"]["server"];
        assert_eq!((&in_plan["proxy"], &in_plan["proxy_source"]), (&json!(proxy), &json!(source)));
        let summary = &report["summary"];
        assert_eq!(summary["tokens"]["output"], 48);
        assert_eq!(summary["connections"]["reused"], 5);
        assert_eq!(summary["latency"]["tcp_ms"]["count"], 1);
        assert_eq!(report["server"]["window"]["generation_tokens"], 48);
        is_stamped |= summary["latency"]["kernel_stamped_share"].as_f64() > Some(0.0);
    }
    // a busy kernel begins to stamp some time after it is asked to
    assert!(is_stamped || !cfg!(target_os = "linux"));
    for head in heads.all() {
        assert!(head.starts_with("CONNECT model.test:8000 HTTP/1.1\r\nHost: model.test:8000\r\n"), "{head}");
    }
}

#[test]
fn the_key_goes_through_the_tunnel_and_the_proxys_own_secrets_to_it_alone() {
    let server = start(Behavior { api_key: Some("sk-canary".to_owned()), ..Behavior::flat_out() });
    let (address, heads) = proxy(server.address());
    let proxy = format!("http://canary-user:canary-word@{address}");
    let variables = [("VLLM_LOADGEN_API_KEY", "sk-canary"), ("RUST_LOG", "trace"), ("http_proxy", &proxy)];
    let (output, report) = run(&["--url", "http://model.test", "--record-log", "run.jsonl"], &variables);
    succeeds(&output);
    assert!(out(&output).contains(&format!("through the proxy http://***@{address} (")), "{}", out(&output));
    for text in [out(&output), err(&output), report.to_string()] {
        for secret in ["canary", "Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXdvcmQ="] {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret}");
        }
    }
    for head in heads.all() {
        assert!(
            head.contains("\r\nProxy-Authorization: Basic Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXdvcmQ=\r\n"),
            "{head}"
        );
        assert!(!head.contains("sk-canary"), "{head}");
    }
}

#[test]
fn https_goes_through_a_tunnel_and_is_the_servers_own() {
    let (folder, ca) = (folder(), Authority::new());
    let port = tls_server(ca.server(&["model.test"]), answer_all);
    let (address, heads) = proxy(([127, 0, 0, 1], port).into());
    let network = Network {
        cacert: Some(ca.write(folder.path())),
        proxy: Some(address.parse().expect("a proxy")),
        ..Network::default()
    };
    let key = Some(vllm_loadgen::secret::Secret::new("sk-canary"));
    let settings = Settings { network, key, ..settings("https://model.test") };
    let mut backend = Client::new(settings).expect("valid").backend();
    for reused in [false, true] {
        let (exchange, body) = exchange_on(&mut backend);
        assert_eq!((exchange.result, body), (Ok(()), b"{}".to_vec()));
        assert_eq!((exchange.trace.reused, exchange.trace.tls.is_some()), (Some(reused), !reused));
    }
    let heads = heads.all();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].starts_with("CONNECT model.test:443 ") && !heads[0].contains("canary"), "{heads:?}");
}

fn through(proxy: &str) -> Settings {
    let proxy = Some(proxy.parse().expect("a proxy"));
    Settings { network: Network { proxy, ..Network::default() }, ..settings("http://model.test") }
}

#[track_caller]
fn fails(settings: Settings, want: FailureKind) -> String {
    let (exchange, _) = exchange_on(&mut Client::new(settings).expect("valid").backend());
    let failure = exchange.result.expect_err("it must fail");
    assert_eq!(failure.kind, want, "{failure}");
    assert_eq!((exchange.trace.sent, exchange.trace.reads), (None, 0), "nothing was asked of the server");
    failure.message
}

#[test]
fn a_proxy_that_opens_no_tunnel_is_named() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(20_000));
    for (reply, want) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "answered '407 Proxy Authentication Required'",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nno!", "answered '502 Bad Gateway'"),
        ("HTTP/1.0 403\n\n", "answered '403' when asked for a tunnel to model.test:80"),
        ("SSH-2.0-OpenSSH_9\r\n\r\n", "answered with what is not HTTP"),
        ("HTTP/1.1 200 OK\r\n", "closed the connection before it answered"),
        ("", "closed the connection before it answered"),
        (&long, "answered with a head longer than 16 KiB"),
    ] {
        let reply = reply.to_owned();
        let url = server(move |_, mut stream| {
            read_head(&mut stream);
            let _ = stream.write_all(reply.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
            // it closes when the client has read all
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let message = fails(through(&url), FailureKind::Proxy);
        assert!(message.starts_with(&url) && message.contains(want), "{want} not in {message}");
    }
}

#[test]
fn a_proxys_answer_cut_at_any_byte_opens_no_tunnel() {
    let answer = "HTTP/1.1 200 OK\r\nvia: a test\r\n\r\n";
    // the number of the visitor is where the answer is cut
    let url = server(move |number, mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(&answer.as_bytes()[..number]);
    });
    for _ in 0..answer.len() {
        let message = fails(through(&url), FailureKind::Proxy);
        assert!(message.contains("closed the connection before it answered"), "{message}");
    }
}

#[test]
fn a_proxy_that_is_not_there_or_silent_is_told_from_the_server() {
    let port = TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("bound").port();
    let message = fails(through(&format!("http://127.0.0.1:{port}")), FailureKind::Proxy);
    assert!(message.contains(&format!("http://127.0.0.1:{port}: Connection refused")), "{message}");
    let message = fails(through("http://an..impossible.name:1"), FailureKind::Proxy);
    assert!(message.starts_with("http://an..impossible.name:1: "), "{message}");
    let mut held = Vec::new();
    let silent = server(move |_, stream| held.push(stream));
    let settings = Settings { connect_timeout: Duration::from_millis(50), ..through(&silent) };
    fails(settings, FailureKind::ConnectTimeout);
    let (output, _) = run(&["--url", "http://model.test", "--proxy", &format!("127.0.0.1:{port}")], &[]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("no way to the server through the proxy"), "{}", err(&output));
    assert!(err(&output).contains("--proxy none goes without"), "{}", err(&output));
}

#[test]
fn this_machine_and_what_is_exempt_are_reached_without_a_proxy() {
    let server = simulator();
    let url = server.url();
    let dead = [("http_proxy", "http://127.0.0.1:1"), ("all_proxy", "socks5://127.0.0.1:1")];
    let port = server.address().port();
    let named = format!("http://model.test:{port}");
    let resolve = format!("model.test:{port}:127.0.0.1");
    let named = ["--url", &named, "--resolve", &resolve];
    for (words, more) in [
        (&["--url", &url][..], None),
        (&named, Some(("no_proxy", "x,.test"))),
        (&[&named[..], &["--proxy", "none"]].concat(), None),
    ] {
        let variables: Vec<_> = dead.into_iter().chain(more).collect();
        let (output, report) = run(words, &variables);
        succeeds(&output);
        assert_eq!(report["plan"]["server"]["proxy"], Value::Null);
        assert!(!out(&output).contains("proxy"), "{}", out(&output));
    }
    // by its flag, this machine is reached through a proxy too
    let (address, heads) = proxy(server.address());
    let (output, _) = run(&["--url", &url, "--proxy", &address], &[]);
    succeeds(&output);
    assert!(!heads.all().is_empty());
}

#[test]
fn proxies_that_cannot_be_used_are_told_before_the_run_without_their_passwords() {
    let url = ["--url", "http://model.test", "--model", "m"];
    for (words, variable, want) in [
        (&["--proxy", "socks5://me:canary@h"][..], None, "--proxy 'socks5://***@h': SOCKS is not supported"),
        (&["--proxy", "https://h"], None, "--proxy 'https://h': TLS to a proxy is not supported"),
        (&["--proxy", ""], None, "--proxy '': not the URL of a proxy"),
        (&["--proxy", "me:canary@h h"], None, "--proxy '***@h h': not the URL of a proxy"),
        (
            &[],
            Some(("ALL_PROXY", "socks5h://me:canary@h")),
            "environment variable ALL_PROXY 'socks5h://***@h': SOCKS is not supported; name an HTTP proxy, such as \
             http://host:3128; or go without with --proxy none",
        ),
        (
            &["--proxy", "h", "--unix-socket", "s"],
            None,
            "--proxy and --unix-socket: give one of them; a Unix socket is on this machine",
        ),
        (
            &["--resolve", "model.test:80:::1"],
            Some(("http_proxy", "u:canary@h")),
            "--resolve 'model.test:80:::1': says nothing where the proxy http://***@h:80 (environment variable \
             http_proxy) looks names up; add --proxy none",
        ),
        (&["--simulate", "--proxy", "h"], None, "--simulate and --proxy: leave it out"),
    ] {
        let (output, _) = run(&[&url[..], words].concat(), &variable.into_iter().collect::<Vec<_>>());
        assert_eq!(code(&output), 2, "{words:?}: {}", err(&output));
        assert!(err(&output).contains(want), "{want} not in {}", err(&output));
        assert!(!err(&output).contains("canary"), "{}", err(&output));
    }
}

#[test]
fn the_files_proxy_is_taken_and_a_flag_goes_without() {
    let server = simulator();
    let (address, heads) = proxy(server.address());
    let folder = folder();
    let url = format!("http://model.test:{}", server.address().port());
    let config = json!({"server": {"url": url, "proxy": format!("http://me:canary@{address}")}});
    fs::write(folder.path().join("benchmark_config.json"), config.to_string()).expect("writable");
    let run = |words: &[&str]| {
        let mut command = command(folder.path());
        command.args(["-n", "2", "-t", "1", "--max-tokens", "2"]).args(words).output().expect("it starts")
    };
    let output = run(&[]);
    succeeds(&output);
    assert!(out(&output).contains("server.proxy)") && !out(&output).contains("canary"), "{}", out(&output));
    let asked = heads.all().len();
    assert!(asked > 0);
    succeeds(&run(&["--proxy", "none", "--url", &server.url()]));
    succeeds(&run(&["--simulate"]));
    assert_eq!(heads.all().len(), asked);
}
