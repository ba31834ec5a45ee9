//! TLS servers of the tests' own, with certificates made for the occasion: whom the client trusts, what it proves of
//! itself, and what it says where there is no trust.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use vllm_loadgen::backend::{Client, Network, Settings};
use vllm_loadgen::failure::FailureKind;

use crate::command::{code, command, err, folder, json, out, run, succeeds};
use crate::failures::{exchange_on, read_request, server, settings};

/// An issuer of certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: rcgen::Certificate,
}

/// A certificate and its key.
struct Identity {
    cert: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        Self::named("the tests' issuer")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a root");
        Self { issuer: Issuer::new(params, key), root }
    }

    /// A certificate for these names, changed.
    fn identity_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        Identity { cert: params.signed_by(&key, &self.issuer).expect("a certificate"), key }
    }

    fn identity(&self, names: &[&str]) -> Identity {
        self.identity_with(names, |_| ())
    }

    /// The configuration of a server with a certificate for these names.
    pub fn server(&self, names: &[&str]) -> ServerConfig {
        self.identity(names).server(None)
    }

    /// Writes the root's certificate.
    pub fn write(&self, folder: &Path) -> PathBuf {
        write(folder, "ca.pem", &self.root.pem())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).expect("a root");
        roots
    }
}

impl Identity {
    /// Writes certificate and key under this name.
    fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        (
            write(folder, &format!("{name}.pem"), &self.cert.pem()),
            write(folder, &format!("{name}.key"), &self.key.serialize_pem()),
        )
    }

    /// The configuration of a server with this certificate; of clients, it wants certificates of this issuer's.
    fn server(&self, clients: Option<&Authority>) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(issuer) => {
                let roots = Arc::new(issuer.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key");
        builder.with_single_cert(vec![self.cert.der().clone()], key).expect("they are a pair")
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("writable");
    path
}

pub type TlsStream = StreamOwned<ServerConnection, TcpStream>;

/// Serves each connection on a thread of its own; returns its port. A connection stays open until the client's end of
/// it is closed, so that nothing said last is lost.
pub fn tls_server(config: ServerConfig, serve: impl Fn(&mut TlsStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let (config, serve) = (Arc::new(config), Arc::new(serve));
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let (config, serve) = (Arc::clone(&config), Arc::clone(&serve));
            thread::spawn(move || {
                let mut stream = StreamOwned::new(ServerConnection::new(config).expect("valid"), tcp);
                serve(&mut stream);
                let _ = std::io::copy(&mut stream.sock, &mut std::io::sink());
            });
        }
    });
    port
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// Answers every request of a connection.
pub fn answer_all(stream: &mut TlsStream) {
    while stream.conn.complete_io(&mut stream.sock).is_ok() {
        read_request(stream);
        if stream.write_all(OK.as_bytes()).is_err() {
            return;
        }
    }
}

fn trusting(url: &str, cacert: &Path) -> Settings {
    with(url, Network { cacert: Some(cacert.to_owned()), ..Network::default() })
}

fn with(url: &str, network: Network) -> Settings {
    Settings { network, ..settings(url) }
}

/// One request fails like this; returns what is said of it.
#[track_caller]
fn fails(settings: Settings, want: FailureKind) -> String {
    let (exchange, _) = exchange_on(&mut Client::new(settings).expect("valid").backend());
    let failure = exchange.result.expect_err("it must fail");
    assert_eq!(failure.kind, want, "{failure}");
    failure.message
}

#[track_caller]
fn works(settings: Settings) {
    let (exchange, body) = exchange_on(&mut Client::new(settings).expect("valid").backend());
    assert_eq!((exchange.result, body), (Ok(()), b"{}".to_vec()));
}

#[test]
fn a_trusted_server_is_asked_by_name_and_its_connection_is_kept() {
    let (folder, ca) = (folder(), Authority::new());
    let names = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&names);
    let port = tls_server(ca.server(&["localhost"]), move |stream| {
        stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        asked.lock().expect("no panic").push(stream.conn.server_name().map(str::to_owned));
        answer_all(stream);
    });
    let settings = trusting(&format!("https://localhost:{port}"), &ca.write(folder.path()));
    let mut backend = Client::new(settings).expect("valid").backend();
    let (first, body) = exchange_on(&mut backend);
    assert_eq!((first.result, body), (Ok(()), b"{}".to_vec()));
    assert_eq!(first.trace.reused, Some(false));
    assert!(first.trace.tls.is_some() && first.trace.tcp.is_some());
    let (second, _) = exchange_on(&mut backend);
    assert_eq!((second.result, second.trace.reused, second.trace.tls), (Ok(()), Some(true), None));
    assert_eq!(*names.lock().expect("no panic"), [Some("localhost".to_owned())]);
}

#[test]
fn certificates_that_cannot_be_trusted_are_failures_of_their_own_kind() {
    let (folder, ca, stranger) = (folder(), Authority::new(), Authority::named("a stranger"));
    let cacert = ca.write(folder.path());
    let expired = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    };
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for (identity, said) in [
        (ca.identity_with(&["127.0.0.1"], authority), "CA:TRUE"),
        (stranger.identity(&["127.0.0.1"]), "UnknownIssuer"),
        (ca.identity(&["other.test"]), "not valid for name"),
        (ca.identity_with(&["127.0.0.1"], expired), "expired"),
    ] {
        let url = format!("https://127.0.0.1:{}", tls_server(identity.server(None), answer_all));
        let message = fails(trusting(&url, &cacert), FailureKind::TlsCertificate);
        assert!(message.contains(said), "{said} not in {message}");
        works(with(&url, Network { insecure: true, ..Network::default() }));
    }
    let url = format!("https://127.0.0.1:{}", tls_server(ca.server(&["127.0.0.1"]), answer_all));
    fails(settings(&url), FailureKind::TlsCertificate);
    works(trusting(&url, &cacert));
}

#[test]
fn a_servers_own_certificate_is_trusted_where_it_is_named() {
    let folder = folder();
    // as `openssl req -x509` makes it: signed by itself, and an authority's
    let own = |change: fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        Identity { cert: params.self_signed(&key).expect("a certificate"), key }
    };
    let serve = |identity: &Identity| tls_server(identity.server(None), answer_all);
    let (server, other) = (own(|_| ()), own(|_| ()));
    let url = format!("https://127.0.0.1:{}", serve(&server));
    let (named, _) = server.write(folder.path(), "server");
    works(trusting(&url, &named));
    // another of the same name is not it
    let (stranger, _) = other.write(folder.path(), "other");
    fails(trusting(&url, &stranger), FailureKind::TlsCertificate);
    let by_name = format!("https://localhost:{}", serve(&server));
    assert!(fails(trusting(&by_name, &named), FailureKind::TlsCertificate).contains("not valid for name"));
    let old = own(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let url = format!("https://127.0.0.1:{}", serve(&old));
    let (named, _) = old.write(folder.path(), "old");
    assert!(fails(trusting(&url, &named), FailureKind::TlsCertificate).contains("expired"));
}

#[test]
fn a_server_that_wants_a_client_certificate_gets_it() {
    let (folder, ca) = (folder(), Authority::new());
    let config = ca.identity(&["127.0.0.1"]).server(Some(&ca));
    let url = format!("https://127.0.0.1:{}", tls_server(config, answer_all));
    let (cert, key) = ca.identity(&["a client"]).write(folder.path(), "client");
    let network = Network {
        cacert: Some(ca.write(folder.path())),
        cert: Some(cert),
        key: Some(key),
        ..Network::default()
    };
    works(with(&url, network.clone()));
    let without = Network { cert: None, key: None, ..network.clone() };
    let message = fails(with(&url, without), FailureKind::TlsHandshake);
    assert!(message.contains("--cert"), "{message}");
    let (cert, key) = Authority::new().identity(&["a stranger"]).write(folder.path(), "stranger");
    fails(with(&url, Network { cert: Some(cert), key: Some(key), ..network }), FailureKind::TlsHandshake);
}

#[test]
fn a_server_without_tls_fails_the_handshake() {
    let secret = |url: String| settings(&url.replace("http://", "https://"));
    let plain = server(|_, mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    });
    let message = fails(secret(plain), FailureKind::TlsHandshake);
    assert!(message.contains("not TLS"), "{message}");
    let closing = server(|_, mut stream| {
        let _ = stream.read(&mut [0; 4096]);
    });
    fails(secret(closing), FailureKind::TlsHandshake);
}

#[test]
fn a_handshake_that_stalls_or_crawls_ends_with_the_connect_timeout() {
    let mut held = Vec::new();
    let silent = server(move |_, stream| held.push(stream));
    let crawling = server(|_, mut stream| {
        // a record of 16 KiB that comes byte by byte
        let _ = stream.write_all(&[0x16, 3, 3, 0x40, 0]);
        while stream.write_all(&[2]).is_ok() {
            thread::sleep(Duration::from_millis(2));
        }
    });
    for url in [silent, crawling] {
        let settings = settings(&url.replace("http://", "https://"));
        fails(
            Settings { connect_timeout: Duration::from_millis(60), ..settings },
            FailureKind::ConnectTimeout,
        );
    }
}

/// Time before the first token.
const THINKING: Duration = Duration::from_millis(80);

/// Streams four tokens to every request of a connection, the first after a while.
fn stream_tokens(stream: &mut TlsStream) {
    let event = |data: &str| {
        let event = format!("data: {data}\n\n");
        format!("{:x}\r\n{event}\r\n", event.len())
    };
    let token = event(r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#);
    let last = event(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#);
    let usage = event(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#);
    while stream.conn.complete_io(&mut stream.sock).is_ok() {
        read_request(stream);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut say = |text: &str| stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).is_ok();
        if !say(head) {
            return;
        }
        thread::sleep(THINKING);
        let rest = [last.as_str(), &usage, &event("[DONE]"), "0\r\n\r\n"].concat();
        for text in [&token, &token, &token, &token, &rest] {
            say(text);
        }
    }
}

#[test]
fn a_run_over_tls_has_the_same_figures_and_the_handshakes() {
    let (folder, ca) = (folder(), Authority::new());
    let port = tls_server(ca.server(&["localhost"]), stream_tokens);
    let url = format!("https://localhost:{port}");
    let words = ["--url", &url, "--model", "m", "-n", "6", "-t", "2", "--no-server-metrics", "-q"];
    let cacert = ca.write(folder.path());
    write(folder.path(), "c.json", r#"{"server": {"cacert": "ca.pem"}}"#);
    let trust: [(&[&str], _); 3] =
        [(&["--cacert", "ca.pem"], None), (&["--config", "c.json"], None), (&[], Some(&cacert))];
    for (trust, variable) in trust {
        let mut command = command(folder.path());
        command.args(words).args(trust).args(["-o", "run.json", "--overwrite"]);
        command.envs(variable.map(|path| ("SSL_CERT_FILE", path)));
        let output = command.output().expect("it starts");
        succeeds(&output);
        let report = json(&folder.path().join("run.json"));
        let latency = &report["summary"]["latency"];
        assert_eq!(report["summary"]["tokens"]["output"], 24, "{trust:?}");
        assert!(latency["ttft_ms"]["min"].as_f64() >= Some(80.0), "{latency}");
        assert_eq!(latency["tls_ms"]["count"], 2, "{latency}");
        assert_eq!(report["summary"]["connections"]["reused"], 4);
        assert_eq!(report["plan"]["server"]["insecure"], false);
        let in_plan = &report["plan"]["server"]["cacert"];
        assert_eq!(in_plan.as_str(), (!trust.is_empty()).then_some("ca.pem"), "{trust:?}");
    }
}

#[test]
fn certificates_that_are_not_checked_are_warned_of_everywhere() {
    let folder = folder();
    let port = tls_server(Authority::new().identity(&["localhost"]).server(None), stream_tokens);
    let url = format!("https://localhost:{port}");
    let words =
        ["--url", &url, "--model", "m", "-n", "2", "-t", "1", "--no-server-metrics", "-o", "run.json"];
    let output = run(folder.path(), &[&words[..], &["--insecure"]].concat());
    succeeds(&output);
    assert!(err(&output).contains("INSECURE: the server's certificate is not checked"), "{}", err(&output));
    assert!(out(&output).contains("NOT CHECKED"), "{}", out(&output));
    let report = json(&folder.path().join("run.json"));
    assert_eq!(report["plan"]["server"]["insecure"], true);
    assert!(report["warnings"][0].as_str().is_some_and(|warning| warning.starts_with("INSECURE")));
    let shown = run(folder.path(), &["report", "run.json"]);
    assert!(out(&shown).contains("NOT CHECKED"), "{}", out(&shown));

    // the server says nothing of models, and it is asked all the same
    let asked = run(folder.path(), &["--url", &url, "--insecure"]);
    assert_eq!(err(&asked).matches("INSECURE").count(), 1, "{}", err(&asked));
    assert!(err(&asked).starts_with("warning: INSECURE"), "{}", err(&asked));
    let refused = run(folder.path(), &["--url", &url]);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("--cacert names the certificates to trust"), "{}", err(&refused));
    let mut command = command(folder.path());
    let bundled = command.args(["--url", &url]).env("SSL_CERT_FILE", "none.pem").output().expect("it starts");
    assert_eq!(code(&bundled), 1);
    for said in
        ["SSL_CERT_FILE names no certificate that can be read; trusting the bundled ones", "UnknownIssuer"]
    {
        assert!(err(&bundled).contains(said), "{}", err(&bundled));
    }
}

#[test]
fn files_that_cannot_be_used_are_told_before_anything_is_sent() {
    let (folder, ca) = (folder(), Authority::new());
    ca.write(folder.path());
    ca.identity(&["a"]).write(folder.path(), "a");
    ca.identity(&["b"]).write(folder.path(), "b");
    write(folder.path(), "text", "no PEM");
    write(folder.path(), "bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    write(folder.path(), "cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    write(folder.path(), "bad.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    for (words, want) in [
        (&["--cacert", "none.pem"][..], &["--cacert 'none.pem': No such file"][..]),
        (&["--cacert", "text"], &["--cacert 'text': holds no certificate in PEM form"]),
        (&["--cacert", "bad.pem"], &["--cacert 'bad.pem': holds a certificate that cannot be used"]),
        (&["--cacert", "cut.pem"], &["--cacert 'cut.pem': is no PEM file of certificates"]),
        (&["--cacert", "/dev/zero"], &["--cacert '/dev/zero': is larger than 16 MiB"]),
        (&["--cacert", "ca.pem", "--insecure"], &["--cacert 'ca.pem': says nothing beside --insecure"]),
        (&["--cert", "a.pem"], &["--cert 'a.pem': has no key"]),
        (&["--key", "a.key"], &["--key 'a.key': has no certificate"]),
        (&["--cert", "a.pem", "--key", "b.key"], &["--cert 'a.pem': 'b.key' is the key of another"]),
        (
            &["--cert", "a.key", "--key", "a.pem", "--cacert", "nowhere"],
            &["--cert 'a.key': holds no cert", "--key 'a.pem': holds no private key", "--cacert 'nowhere': "],
        ),
        (&["--cert", "a.pem", "--key", "bad.key"], &["--key 'bad.key': holds a private key that cannot"]),
    ] {
        let output = run(folder.path(), &[words, &["--url", "https://localhost:1", "--model", "m"]].concat());
        assert_eq!(code(&output), 2, "{words:?}: {}", err(&output));
        for part in want {
            assert!(err(&output).contains(part), "{part} not in {}", err(&output));
        }
    }
}
