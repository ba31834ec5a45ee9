//! HTTP/1.1 through ureq: one agent a worker with one kept connection, no redirects, no compression. What can go past
//! ureq on that connection does.

use std::fmt;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use rustls::AlertDescription;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ureq::http::{self, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use ureq::unversioned::transport::Connector;
use ureq::{Agent, Error};

use super::direct::{self, RequestHead};
use super::endpoint::Endpoint;
use super::lateness;
use super::line::{Ending, LAST_CHUNK, Line};
use super::marks::{self, Cause, Marks, Phase, note};
use super::named_roots;
use super::network::Network;
use super::proxy::{Proxy, is_loopback, percent_decoded};
use super::tls::{self, SharedTls};
use super::transport::{CachedResolver, ProbeConnector};
use super::{Backend, Canceller, Chunk, Exchange, Head, Request};
use crate::clock::{Clock, Moment, SystemClock};
use crate::failure::{Failure, FailureKind};
use crate::heartbeat::Beats;
use crate::keeper::Keeper;
use crate::secret::{self, MASK, Secret, carries_key, is_secret_field, is_secret_header};
use crate::units::{as_seconds, from_seconds, show_duration};

/// How to reach a server. Serialised without the key, and with the values of secret headers masked: read back, it
/// tells where requests went and can send none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Where requests go.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Sent as `Authorization: Bearer …`; `None` sends no such header.
    #[serde(skip)]
    pub key: Option<Secret>,
    /// The URL that stands beside the key, or beside a header that carries one, in the file which holds it; `None` where it
    /// is from elsewhere, or the file names no server.
    #[serde(skip)]
    pub key_is_for: Option<String>,
    /// More headers, sent with every request.
    #[serde(serialize_with = "masked", deserialize_with = "in_order")]
    pub headers: Vec<(String, Secret)>,
    /// Longest time for connecting and TLS, name lookup excepted.
    #[serde(rename = "connect_timeout_s", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub connect_timeout: Duration,
    /// Longest wait for the next byte of a reply.
    #[serde(rename = "idle_timeout_s", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub idle_timeout: Duration,
    /// Longest time for a whole request.
    #[serde(rename = "timeout_s", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub timeout: Duration,
    /// How connections are made, where the URL alone does not say it.
    #[serde(flatten)]
    pub network: Network,
}

impl Settings {
    /// Whether TLS is spoken with a server whose certificate is not checked.
    pub fn is_unchecked(&self) -> bool {
        self.network.insecure && self.endpoint.is_tls()
    }

    /// What whoever reads the figures should know of how the server was reached.
    pub fn warnings(&self) -> Vec<String> {
        let warning = "INSECURE: the server's certificate is not checked (--insecure), so that anyone on the way can \
                       read what is sent, keys too, and answer in the server's place";
        let insecure = self.is_unchecked().then(|| warning.to_owned());
        insecure.into_iter().chain(self.key_warnings()).collect()
    }

    /// Where a key goes that may not be meant to go there.
    fn key_warnings(&self) -> Vec<String> {
        if self.key.is_none() && !self.headers.iter().any(|(name, _)| carries_key(name)) {
            return vec![];
        }
        let (host, _) = self.endpoint.host_and_port();
        let meant = self.key_is_for.as_ref().and_then(|url| Endpoint::parse(url, None).ok());
        let meant = meant.map(|endpoint| endpoint.host_and_port().0);
        let elsewhere = meant.filter(|meant| !meant.eq_ignore_ascii_case(&host)).map(|meant| {
            format!(
                "KEY: the key is from a config file that names {meant}, and goes to {host}; --no-api-key sends none"
            )
        });
        let is_near = is_loopback(host.trim_matches(['[', ']'])) || self.network.unix_socket.is_some();
        let in_the_clear = (!is_near && !self.endpoint.is_tls()).then(|| {
            format!(
                "KEY: a key goes to {host} over plain http, where anyone on the way can read it; write https:// if the \
                 server speaks it"
            )
        });
        elsewhere.into_iter().chain(in_the_clear).collect()
    }

    /// Everything in it that must not be shown: the key, the values of secret headers and of secret fields of the query,
    /// and the proxy's password.
    pub fn secrets(&self) -> Vec<Secret> {
        let headers = self.headers.iter().filter(|(name, _)| is_secret_header(name));
        let values = headers.flat_map(|(_, value)| {
            secret::secrets_of_header(value).into_iter().chain(secrets_of_basic(value))
        });
        let query = self.endpoint.url.split_once('?').map_or("", |(_, query)| query);
        let fields = query.split('&').filter_map(|field| field.split_once('='));
        let fields = fields.filter(|(name, _)| is_secret_field(name)).flat_map(|(_, value)| {
            // as it was typed, and as a server may have read it
            [Secret::new(value), Secret::new(&String::from_utf8_lossy(&percent_decoded(value)))]
        });
        let of_proxy = self.network.proxy.iter().flat_map(Proxy::secrets);
        secret::in_every_form(self.key.iter().cloned().chain(values).chain(fields).chain(of_proxy).collect())
    }
}

/// What a value of basic authentication (RFC 7617) holds: user and password in one, and the password.
fn secrets_of_basic(value: &Secret) -> Vec<Secret> {
    let Some((scheme, encoded)) = value.reveal().split_once(' ') else { return vec![] };
    let decoded =
        BASE64_STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
    let Some(both) = decoded.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) else { return vec![] };
    let password = both.split_once(':').map(|(_, password)| Secret::new(password));
    std::iter::once(Secret::new(&both)).chain(password).collect()
}

fn masked<S: Serializer>(headers: &[(String, Secret)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| {
        let shown = if is_secret_header(name) { MASK } else { value.reveal() };
        (name, shown)
    }))
}

fn in_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, Secret)>, D::Error> {
    struct InOrder;

    impl<'de> Visitor<'de> for InOrder {
        type Value = Vec<(String, Secret)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("headers by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut headers = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, String>()? {
                headers.push((name, Secret::new(&value)));
            }
            Ok(headers)
        }
    }

    deserializer.deserialize_map(InOrder)
}

/// What all workers share: the resolver's answers, TLS, and the parts of a request that stay the same.
#[derive(Clone, Debug)]
pub struct Client {
    settings: Arc<Settings>,
    network: Arc<Network>,
    config: ureq::config::Config,
    resolver: CachedResolver,
    tls: SharedTls,
    keeper: Option<Keeper>,
    beats: Beats,
    post: Arc<http::request::Parts>,
    /// The head of every request, once one has gone out.
    head: Arc<OnceLock<RequestHead>>,
}

/// Room for a read; a head larger than this is refused.
const INPUT_BUFFER: usize = 16 * 1024;
/// Room for what ureq adds to a head.
const OUTPUT_BUFFER: usize = 2 * 1024;
/// Longest reply to a question about the server itself.
const MAX_ANSWER: u64 = 16 << 20;
pub const USER_AGENT: &str = concat!("vllm-loadgen/", env!("CARGO_PKG_VERSION"));

impl Client {
    /// Prepares to reach the server; sends nothing yet.
    ///
    /// # Errors
    /// Says which header cannot be sent, or which file not be used.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            // the connection itself knows when it was used last
            .max_idle_age(Duration::MAX)
            .input_buffer_size(INPUT_BUFFER)
            .user_agent(USER_AGENT)
            .accept_encoding("");
        if settings.endpoint.is_tls() {
            config = config.tls_config(tls::config(&settings.network)?);
        }
        let tls = match settings.endpoint.is_tls() {
            true => SharedTls::of(&settings.network)?,
            false => SharedTls::default(),
        };
        let post = request_parts(&settings, Method::POST, &settings.endpoint.url)?;
        let network = Arc::new(settings.network.clone());
        let config = config.output_buffer_size(OUTPUT_BUFFER + size_of_head(&post));
        Ok(Self {
            settings: Arc::new(settings),
            config: config.build(),
            resolver: CachedResolver::new(Arc::clone(&network)),
            network,
            tls,
            keeper: None,
            beats: Beats::default(),
            post: Arc::new(post),
            head: Arc::default(),
        })
    }

    /// The same, whose connections ask these when what they read late came in.
    #[must_use]
    pub fn with_witnesses(self, keeper: Option<Keeper>, beats: Beats) -> Self {
        Self { keeper, beats, ..self }
    }

    /// Whether requests can be built from these settings.
    ///
    /// # Errors
    /// Says which header cannot be sent.
    pub fn check(settings: &Settings) -> Result<(), String> {
        request_parts(settings, Method::POST, &settings.endpoint.url).map(|_| ())
    }

    /// A backend for one worker, with an agent and a connection of its own.
    pub fn backend(&self) -> HttpBackend {
        let (buffer, given_up) = (Vec::new(), Arc::default());
        let agent = self.agent(Arc::clone(&given_up));
        HttpBackend { agent, given_up, client: self.clone(), kept: Weak::new(), buffer }
    }

    /// Asks the server about itself: status and body of the reply to a GET.
    ///
    /// # Errors
    /// The failure, if no whole reply came within `timeout`.
    pub fn get(&self, url: &str, timeout: Duration) -> Result<(u16, Vec<u8>), Failure> {
        let parts = request_parts(&self.settings, Method::GET, url)
            .map_err(|problem| Failure::new(FailureKind::Protocol, problem))?;
        let now = SystemClock.now();
        marks::begin(now + timeout, timeout, timeout.min(self.settings.connect_timeout));
        let ask = || -> Result<_, Error> {
            let reply = self.agent(Arc::default()).run(http::Request::from_parts(parts, ()))?;
            note(|marks| marks.in_body = true);
            let status = reply.status().as_u16();
            let body = reply.into_body().into_with_config().limit(MAX_ANSWER).read_to_vec()?;
            Ok((status, body))
        };
        let answer = ask();
        let marks = marks::end();
        answer.map_err(|error| classify(&error, &marks))
    }

    fn agent(&self, given_up: Arc<AtomicBool>) -> Agent {
        let (network, keeper, beats) = (Arc::clone(&self.network), self.keeper.clone(), self.beats.clone());
        let connector = ProbeConnector { network, given_up, keeper, beats };
        let connector = connector.chain(self.tls.clone());
        Agent::with_parts(self.config.clone(), connector, self.resolver.clone())
    }
}

/// Method, URL and headers, parsed once.
fn request_parts(settings: &Settings, method: Method, url: &str) -> Result<http::request::Parts, String> {
    let mut request = http::Request::builder().method(method).uri(url);
    request = request.header("content-type", "application/json");
    if let Some(key) = &settings.key {
        let value = HeaderValue::from_str(&format!("Bearer {}", key.reveal())).ok().filter(is_ascii);
        let value = value.ok_or("the API key holds characters that a header cannot carry")?;
        request = request.header("authorization", sensitive(value));
    }
    let (mut parts, ()) =
        request.body(()).map_err(|e| format!("cannot build the request: {e}"))?.into_parts();
    for (name, value) in &settings.headers {
        let header: HeaderName = name.parse().map_err(|_| format!("'{name}' is not a header name"))?;
        if OURS.contains(&header.as_str()) {
            return Err(format!("'{name}' cannot be set; it follows from the request"));
        }
        let is_fit = |value: &HeaderValue| is_ascii(value) || !ASCII_ONLY.contains(&header.as_str());
        let value = HeaderValue::from_str(value.reveal()).ok().filter(is_fit);
        let value = value.ok_or_else(|| format!("header '{name}' cannot carry this value"))?;
        // whoever prints the request must not print what may be a secret
        let value = sensitive(value);
        parts.headers.append(header, value);
    }
    Ok(parts)
}

/// About as many bytes as these take in a head.
fn size_of_head(parts: &http::request::Parts) -> usize {
    let headers =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    parts.uri.to_string().len() + headers.sum::<usize>()
}

/// Headers that frame a request: another value would break it.
const OURS: [&str; 5] = ["connection", "content-length", "content-type", "expect", "transfer-encoding"];

/// Headers that ureq reads itself, and refuses at each request where they are more than ASCII.
const ASCII_ONLY: [&str; 2] = ["authorization", "host"];

fn is_ascii(value: &HeaderValue) -> bool {
    value.to_str().is_ok()
}

/// A value that is not shown where a request is printed.
pub fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// One worker's way to the server.
#[derive(Debug)]
pub struct HttpBackend {
    client: Client,
    agent: Agent,
    /// Whether what is under way was given up, which cuts connecting short.
    given_up: Arc<AtomicBool>,
    /// The connection that the agent keeps, if its bytes are those of HTTP.
    kept: Weak<Mutex<Line>>,
    /// For bodies that come through ureq.
    buffer: Vec<u8>,
}

impl Backend for HttpBackend {
    fn stream(&mut self, request: &Request, on_chunk: &mut dyn FnMut(Chunk<'_>)) -> Exchange {
        let settings = &self.client.settings;
        let now = SystemClock.now();
        let deadline = now + settings.timeout;
        let (idle, connect) = (settings.idle_timeout, settings.connect_timeout);
        marks::begin(deadline, idle, connect);
        lateness::begins(now);
        let mut has_crossed = false;
        let mut outcome = self.exchange(request, &mut |chunk| {
            if let Chunk::Head(Head { status: 408, .. }) = chunk {
                has_crossed = note(|marks| is_prompt_on_kept(marks, SystemClock.now()));
            }
            if !has_crossed {
                on_chunk(chunk);
            }
        });
        let mut is_retry = false;
        let mut wasted_bytes = 0;
        if has_crossed || (outcome.is_err() && note(|marks| is_stale(marks, SystemClock.now()))) {
            // it said 408 to the silence before the request, and hangs up
            self.kept.upgrade().filter(|_| has_crossed).into_iter().for_each(|line| line.lock().close());
            is_retry = true;
            wasted_bytes = marks::end().trace.bytes_sent;
            marks::begin(deadline, idle, connect);
            outcome = self.exchange(request, on_chunk);
        }
        let marks = marks::end();
        let result = outcome.map_err(|error| classify(&error, &marks));
        if result.as_ref().is_err_and(|f| !matches!(f.kind, FailureKind::LocalResource))
            && marks.trace.sent.is_none()
        {
            self.client.resolver.forget();
        }
        let mut trace = marks.trace;
        trace.stale_retry = is_retry;
        trace.bytes_sent += wasted_bytes;
        Exchange { trace, result }
    }

    /// Shuts the connection down, also one that is being made; a name lookup alone ends in its own time.
    fn canceller(&self) -> Canceller {
        let (agent, given_up) = (self.agent.clone(), Arc::clone(&self.given_up));
        Box::new(move || {
            given_up.store(true, Ordering::Relaxed);
            agent.shutdown();
        })
    }
}

impl HttpBackend {
    /// Sends and receives.
    fn exchange(&mut self, request: &Request, on_chunk: &mut dyn FnMut(Chunk<'_>)) -> Result<(), Error> {
        if let Some(line) = self.kept.upgrade()
            && let Some(head) = self.client.head.get().filter(|head| head.suits(request))
        {
            let mut line = line.lock();
            if line.can_serve()
                && let Some(outcome) = direct::exchange(&mut line, head, request, on_chunk)
            {
                return outcome;
            }
        }
        let outcome = self.exchange_through_ureq(request, on_chunk);
        note(|marks| {
            self.kept = marks.line.as_ref().map(Arc::downgrade).unwrap_or_default();
            if self.client.head.get().is_none()
                && let Some(head) = RequestHead::learn(&marks.request_head, request)
            {
                let _ = self.client.head.set(head);
            }
        });
        outcome
    }

    fn exchange_through_ureq(
        &mut self,
        request: &Request,
        on_chunk: &mut dyn FnMut(Chunk<'_>),
    ) -> Result<(), Error> {
        let mut parts = http::request::Parts::clone(&self.client.post);
        if let Ok(id) = HeaderValue::from_str(&request.id) {
            // the user's own comes first
            parts.headers.entry("x-request-id").or_insert(id);
        }
        let reply = self.agent.run(http::Request::from_parts(parts, &request.body[..]))?;
        note(|marks| marks.in_body = true);
        let (head, body) = reply.into_parts();
        let headers: Vec<(&str, &str)> = head
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        on_chunk(Chunk::Head(Head { status: head.status.as_u16(), headers: &headers }));
        let mut reader = body.into_reader();
        if is_chunked(&head)
            && let Some(line) = note(|marks| marks.line.clone())
        {
            let on_data = &mut |arrival, bytes: &[u8]| on_chunk(Chunk::Body { arrival, bytes });
            let ending = line.lock().read_chunked(on_data)?;
            if ending == Ending::Whole {
                // ureq has seen nothing of the body; by its end it knows that the connection is free
                line.lock().put_back(LAST_CHUNK);
                let _ = reader.read(&mut [0]);
            }
            return Ok(());
        }
        self.buffer.resize(INPUT_BUFFER, 0);
        loop {
            match reader.read(&mut self.buffer)? {
                // only a body read to its end leaves the connection open for the next request
                0 => return marks::last_io_error().map_or(Ok(()), Err),
                n => on_chunk(Chunk::Body { arrival: marks::last_read(), bytes: &self.buffer[..n] }),
            }
        }
    }
}

/// Whether the body is chunked and nothing else: such a stream is read past ureq's layers, which cost more than the
/// rest of a token. ureq agrees on what is chunked.
fn is_chunked(head: &http::response::Parts) -> bool {
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next().and_then(|value| value.to_str().ok());
    head.status == StatusCode::OK
        && head.version == Version::HTTP_11
        && coding.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
        && codings.next().is_none()
}

/// A kept connection that the server had closed by the time it was used: nothing of a reply came, and the end came
/// about as fast as it can. A server that takes its time before it hangs up has had the request: that is its failure.
fn is_stale(marks: &Marks, now: Moment) -> bool {
    let is_closed = matches!(marks.cause, None | Some(Cause::Io(..)));
    marks.trace.first_byte.is_none() && is_closed && is_prompt_on_kept(marks, now)
}

/// Whether the connection is a kept one, and the request went out a moment ago.
fn is_prompt_on_kept(marks: &Marks, now: Moment) -> bool {
    marks.trace.reused == Some(true) && marks.trace.sent.is_none_or(|sent| now.since(sent) < STALE_WITHIN)
}

/// Longest time after sending in which the end of a kept connection still counts as stale.
const STALE_WITHIN: Duration = Duration::from_millis(250);

/// The one kind that a failed exchange is of, from ureq's error and from what the transport saw.
pub fn classify(error: &Error, marks: &Marks) -> Failure {
    let kind = kind_of(error, marks);
    let message = match &marks.cause {
        Some(Cause::Dns(words) | Cause::Proxy(words) | Cause::Io(.., words)) => words.clone(),
        Some(Cause::ConnectTimeout) => format!("after {}", show_duration(marks.connect_timeout)),
        Some(Cause::Idle) if !marks.in_body && marks.trace.first_byte.is_some() => {
            format!("no whole head within {}", show_duration(marks.idle))
        }
        Some(Cause::Idle) => format!("no byte for {}", show_duration(marks.idle)),
        Some(Cause::Total) => "the time for the request was over".to_owned(),
        None => words(error),
    };
    Failure::new(kind, message)
}

/// What ureq says, in words for whoever does not know ureq.
fn words(error: &Error) -> String {
    match error {
        Error::LargeResponseHeader(..) => {
            format!("the reply's head is longer than {} KiB", INPUT_BUFFER / 1024)
        }
        _ if is_end(error) => "the server closed the connection".to_owned(),
        _ => rustls_error(error).map_or_else(|| error.to_string(), tls_words),
    }
}

fn tls_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(_) => format!("what came is not TLS: {error}"),
        error if named_roots::is_of_authority(error) => {
            "the server's own certificate is that of an authority (CA:TRUE, as openssl makes it for itself); name it with \
             --cacert, or do not check it: --insecure"
                .to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a client certificate; give one with --cert and --key".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Whether the stream ended where more was to come.
fn is_end(error: &Error) -> bool {
    use std::io::ErrorKind::{NotConnected, UnexpectedEof};
    match error {
        Error::Io(io) => matches!(io.kind(), NotConnected | UnexpectedEof),
        // ureq's word for an end within the line that gives a chunk's size
        Error::BodyStalled => true,
        _ => false,
    }
}

fn kind_of(error: &Error, marks: &Marks) -> FailureKind {
    if let Some(kind) = tls_kind(error) {
        return kind;
    }
    match &marks.cause {
        Some(Cause::Dns(_)) => FailureKind::Dns,
        Some(Cause::Proxy(_)) => FailureKind::Proxy,
        Some(Cause::ConnectTimeout) => FailureKind::ConnectTimeout,
        Some(Cause::Total) => FailureKind::TotalTimeout,
        Some(Cause::Idle) if marks.in_body => FailureKind::IdleTimeout,
        Some(Cause::Idle) => FailureKind::HeaderTimeout,
        Some(Cause::Io(phase, kind, number, _)) => io_kind(*phase, *kind, *number, marks),
        None => protocol_kind(error, marks),
    }
}

fn tls_kind(error: &Error) -> Option<FailureKind> {
    if matches!(error, Error::Tls(_) | Error::TlsRequired) {
        return Some(FailureKind::TlsHandshake);
    }
    Some(match rustls_error(error)? {
        rustls::Error::InvalidCertificate(_) => FailureKind::TlsCertificate,
        _ => FailureKind::TlsHandshake,
    })
}

fn rustls_error(error: &Error) -> Option<&rustls::Error> {
    match error {
        Error::Rustls(inner) => Some(inner),
        Error::Io(io) => io.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn io_kind(phase: Phase, kind: std::io::ErrorKind, number: Option<i32>, marks: &Marks) -> FailureKind {
    use std::io::ErrorKind;
    if marks::is_shortage(number) {
        return FailureKind::LocalResource;
    }
    let is_reset = matches!(kind, ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted);
    match (phase, kind) {
        // a Unix socket that is not there
        (Phase::Connecting, ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
            FailureKind::ConnectRefused
        }
        (Phase::Connecting, _) => FailureKind::Unreachable,
        _ if marks.phase == Phase::Handshake => FailureKind::TlsHandshake,
        (Phase::Sending, _) => FailureKind::SendFailed,
        _ if marks.in_body && is_reset => FailureKind::ResetInBody,
        _ if marks.in_body => FailureKind::TruncatedBody,
        _ if is_reset => FailureKind::ResetBeforeReply,
        _ => FailureKind::ClosedBeforeReply,
    }
}

/// Without a cause of the system's: the stream ended, or what came is not HTTP.
fn protocol_kind(error: &Error, marks: &Marks) -> FailureKind {
    match error {
        Error::HostNotFound => FailureKind::Dns,
        _ if is_end(error) => match (marks.in_body, marks.phase) {
            (_, Phase::Handshake) => FailureKind::TlsHandshake,
            (true, _) => FailureKind::TruncatedBody,
            (false, _) => FailureKind::ClosedBeforeReply,
        },
        _ => FailureKind::Protocol,
    }
}
