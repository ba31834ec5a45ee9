//! Results and messages handed to other servers than the one under load: one request, one answer, and no retry.
//!
//! Neither the API key nor a header of the run goes there, and no redirect is followed: a body goes where it was sent.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{self, HeaderValue, Method, Uri};
use ureq::unversioned::transport::Connector;
use ureq::{Agent, Error};

use super::http::{USER_AGENT, classify, sensitive};
use super::marks::{self, note};
use super::network::{Network, has_valid_port, host_and_port};
use super::proxy::Credentials;
use super::tls::{self, SharedTls};
use super::transport::{CachedResolver, ProbeConnector};
use crate::clock::{Clock, SystemClock};
use crate::heartbeat::Beats;
use crate::secret::{self, Secret, redacted};
use crate::text::printable;

/// Where something is delivered to. Shown without user name, password and secret fields of the query.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination {
    /// Without user name and password.
    uri: Uri,
    /// User name and password.
    credentials: Option<Credentials>,
}

/// What is delivered.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// How.
    pub verb: Verb,
    /// Its media type.
    pub content_type: &'static str,
    /// The bytes.
    pub body: &'a [u8],
}

/// The methods by which something is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Adds.
    Post,
    /// Takes the place of what is there.
    Put,
}

/// Longest time for a delivery, name lookup and answer included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are looked at, and characters of it that are shown.
const MAX_ANSWER: u64 = 4 * 1024;
const MAX_SHOWN: usize = 300;

impl Destination {
    /// Reads `http://user:password@host:port/path?query`, of which scheme and host are needed.
    ///
    /// # Errors
    /// Says what is wrong and what to write, without showing what was typed.
    pub fn parse(url: &str) -> Result<Self, String> {
        const ADVICE: &str = "write such as http://host:9091";
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let scheme = scheme.to_ascii_lowercase();
        if !["http", "https"].contains(&scheme.as_str()) {
            return Err(format!("has no http:// or https://; {ADVICE}"));
        }
        let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(host_end);
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, authority),
        };
        let uri: Option<Uri> = format!("{scheme}://{host}{path}").parse().ok();
        let is_whole = |uri: &Uri| uri.host().is_some_and(|host| !host.is_empty()) && !path.contains('#');
        let uri = uri.filter(is_whole).ok_or_else(|| format!("not the URL of a server; {ADVICE}"))?;
        if !has_valid_port(&uri) {
            return Err(format!("has no valid port; {ADVICE}"));
        }
        Ok(Self { uri, credentials: userinfo.map(Credentials::of_userinfo) })
    }

    /// The same server with this path behind the one it has; `path` begins with a slash and is encoded as a URL's is.
    ///
    /// # Errors
    /// When that makes no URL.
    pub fn join(&self, path: &str) -> Result<Self, String> {
        let query = self.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let (before, origin) = (self.uri.path().trim_end_matches('/'), self.origin());
        let uri = format!("{origin}{before}{path}{query}").parse().map_err(|e| format!("not a URL: {e}"))?;
        Ok(Self { uri, credentials: self.credentials.clone() })
    }

    /// Scheme, host and port alone: what may be shown where the path itself is a secret, as that of a web hook.
    pub fn origin(&self) -> String {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        format!("{}://{authority}", self.uri.scheme_str().unwrap_or("http"))
    }

    /// Host and port; the port is that of the scheme where the URL names none.
    pub fn host_and_port(&self) -> (&str, u16) {
        host_and_port(&self.uri).unwrap_or_default()
    }

    /// Whether what is sent there is encrypted.
    pub fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// What an answer may echo and nobody is to read.
    fn secrets(&self) -> Vec<Secret> {
        let path = self.uri.path_and_query().map_or("", |path| path.as_str());
        let parts = [self.uri.path(), self.uri.query().unwrap_or_default()];
        let of_url = std::iter::once(path).chain(parts).map(Secret::new);
        let of_url = of_url.chain(self.credentials.iter().flat_map(Credentials::secrets));
        secret::in_every_form(of_url.collect())
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&secret::shown_url(&self.uri.to_string()))
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({self})")
    }
}

/// Delivers, once. Of the network of a run, the proxy, the given addresses and the client's certificate count; `cacert`
/// is trusted beside the system's certificates; a certificate is always checked, and no Unix socket is used.
///
/// # Errors
/// Why it was not taken, in one line fit to be shown; it does not name the destination. Any answer but 2xx is an error.
pub fn deliver(to: &Destination, network: &Network, delivery: &Delivery<'_>) -> Result<(), String> {
    let told = |text: &str| redacted(&printable(text, MAX_SHOWN), &to.secrets());
    let (status, answer) = exchange(to, network, delivery).map_err(|failure| told(&failure))?;
    let answer = told(&answer);
    let said = if answer.is_empty() { String::new() } else { format!(": {answer}") };
    match status {
        200..=299 => Ok(()),
        300..=399 => Err(format!(
            "it answered {status}, a redirect, which is not followed; give the URL that it leads to"
        )),
        401 | 403 => Err(format!("it answered {status}: user name and password go into the URL{said}")),
        _ => Err(format!("it answered {status}{said}")),
    }
}

/// Status and beginning of the answer.
fn exchange(to: &Destination, network: &Network, delivery: &Delivery<'_>) -> Result<(u16, String), String> {
    let request = request(to, delivery)?;
    let agent = agent(to, network)?;
    marks::begin(SystemClock.now() + TIMEOUT, TIMEOUT, TIMEOUT);
    let send = || -> Result<_, Error> {
        let reply = agent.run(request)?;
        note(|marks| marks.in_body = true);
        let status = reply.status().as_u16();
        let mut answer = Vec::new();
        // the status has been said: that the text behind it is cut changes nothing
        let _ = reply.into_body().into_reader().take(MAX_ANSWER).read_to_end(&mut answer);
        Ok((status, String::from_utf8_lossy(&answer).into_owned()))
    };
    let sent = send();
    let marks = marks::end();
    sent.map_err(|error| {
        let failure = classify(&error, &marks);
        format!("{} ({})", failure.kind.meaning(), failure.message)
    })
}

fn request<'a>(to: &Destination, delivery: &Delivery<'a>) -> Result<http::Request<&'a [u8]>, String> {
    let method = match delivery.verb {
        Verb::Post => Method::POST,
        Verb::Put => Method::PUT,
    };
    let mut request = http::Request::builder().method(method).uri(&to.uri);
    request = request.header("content-type", delivery.content_type);
    if let Some(credentials) = &to.credentials {
        let value = HeaderValue::from_str(&credentials.header());
        let value = value.map_err(|_| "its password holds what a header cannot carry".to_owned())?;
        request = request.header("authorization", sensitive(value));
    }
    request.body(delivery.body).map_err(|e| format!("cannot build the request: {e}"))
}

fn agent(to: &Destination, network: &Network) -> Result<Agent, String> {
    let network = Arc::new(Network { unix_socket: None, insecure: false, ..network.clone() });
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(0)
        // the transport has deadlines of its own; this is for the name lookup
        .timeout_global(Some(TIMEOUT))
        .user_agent(USER_AGENT)
        .accept_encoding("");
    if to.is_tls() {
        config = config.tls_config(tls::config_beside_system(&network)?);
    }
    let connector = ProbeConnector {
        network: Arc::clone(&network),
        given_up: Arc::default(),
        keeper: None,
        beats: Beats::default(),
    };
    let connector = connector.chain(SharedTls::default());
    Ok(Agent::with_parts(config.build(), connector, CachedResolver::new(network)))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Delivers to a server that gives this answer; what came of it, and what the server was sent.
    fn check(userinfo: &str, answer: &'static str) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{userinfo}{}/a/hook", listener.local_addr().expect("it is bound"));
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            let (mut head, mut size) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let before = head.len();
                reader.read_line(&mut head).expect("a head");
                if let Some(value) = head[before..].to_ascii_lowercase().strip_prefix("content-length: ") {
                    size = value.trim().parse().expect("a length");
                }
            }
            let mut body = vec![0; size];
            reader.read_exact(&mut body).expect("a body");
            stream.write_all(answer.as_bytes()).expect("the client listens");
            head + &String::from_utf8_lossy(&body)
        });
        let to = Destination::parse(&url).expect("a URL");
        let delivery = Delivery { verb: Verb::Put, content_type: "text/plain", body: b"a 1\n" };
        let result = deliver(&to, &Network::default(), &delivery);
        (result, server.join().expect("the server ends"))
    }

    #[test]
    fn a_body_is_sent_once_with_what_the_url_says() {
        let (result, sent) = check("me:p%40ss@", "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(result, Ok(()));
        let lower = sent.to_ascii_lowercase();
        assert!(sent.starts_with("PUT /a/hook HTTP/1.1\r\n") && sent.ends_with("\r\n\r\na 1\n"), "{sent}");
        for line in ["content-type: text/plain\r\n", "authorization: basic bwu6cebzcw==\r\n"] {
            assert!(lower.contains(line), "{sent}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_one_line_without_secrets() {
        let answer = "HTTP/1.1 400 Bad Request\r\n\r\nno:\n\x1b[1m bWU6c2VjcmV0 secret at /a/hook";
        let (result, _) = check("me:secret@", answer);
        assert_eq!(result, Err("it answered 400: no: [1m *** *** at ***".to_owned()));
    }

    #[test]
    fn no_redirect_is_followed() {
        let answer = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let error = check("", answer).0.expect_err("it was sent elsewhere");
        assert!(error.contains("302, a redirect, which is not followed"), "{error}");
    }

    #[test]
    fn nobody_there_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let to = Destination::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        drop(listener);
        let delivery = Delivery { verb: Verb::Post, content_type: "application/json", body: b"[]" };
        let error = deliver(&to, &Network::default(), &delivery).expect_err("nobody listens");
        assert!(error.starts_with("connection refused"), "{error}");
    }

    #[test]
    fn destinations_are_read_and_shown_without_secrets() {
        for (url, shown) in [
            ("http://h:9091", "http://h:9091/"),
            ("HTTPS://me:pw@h/x?token=abc&a=b", "https://h/x?token=***&a=b"),
            ("http://a@b:c@[::1]:1/", "http://[::1]:1/"),
        ] {
            let to = Destination::parse(url).expect(url);
            assert_eq!(
                (to.to_string().as_str(), format!("{to:?}")),
                (shown, format!("Destination({shown})"))
            );
        }
        let joined = Destination::parse("http://me@h/x/?a=b").unwrap().join("/metrics/job/j").unwrap();
        assert_eq!(joined.to_string(), "http://h/x/metrics/job/j?a=b");
        assert_eq!(joined.origin(), "http://h");
        assert_eq!(joined.host_and_port(), ("h", 80));
    }

    #[test]
    fn what_is_no_destination_is_refused_without_showing_it() {
        for (url, want) in [
            ("h:9091", "has no http://"),
            ("ftp://me:canary@h", "has no http://"),
            ("http://", "not the URL"),
            ("http://me:canary@", "not the URL"),
            ("http://me:canary@h:0", "no valid port"),
            ("http://me:canary@h h", "not the URL"),
            ("http://h/#canary", "not the URL"),
        ] {
            let error = Destination::parse(url).expect_err(url);
            assert!(error.contains(want) && !error.contains("canary"), "{url}: {error}");
        }
    }
}
