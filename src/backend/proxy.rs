//! Which proxy the server is reached through, and the tunnel through it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ureq::Error;
use ureq::http::Uri;

use super::http::USER_AGENT;
use super::line::Line;
use super::marks::{Cause, note};
use super::network::{bare, has_valid_port, host_and_port};
use crate::secret::{MASK, Secret};

/// An HTTP proxy. Shown without user name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its URL without user name and password.
    uri: Uri,
    /// User name and password.
    credentials: Option<Credentials>,
}

/// User name and password of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    password: Secret,
    /// Both, as HTTP's basic authentication sends them.
    basic: Secret,
}

impl Credentials {
    /// Reads what stands before the `@` of a URL: `user:password`, each percent-encoded where it needs to be.
    pub fn of_userinfo(userinfo: &str) -> Self {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let (user, password) = (percent_decoded(user), percent_decoded(password));
        let basic = BASE64_STANDARD.encode([&user[..], b":", &password].concat());
        Self { password: Secret::new(&String::from_utf8_lossy(&password)), basic: Secret::new(&basic) }
    }

    /// The value of the header that sends them.
    pub fn header(&self) -> String {
        format!("Basic {}", self.basic.reveal())
    }

    /// What must not be shown of them.
    pub fn secrets(&self) -> [Secret; 2] {
        [self.password.clone(), self.basic.clone()]
    }
}

/// Longest head of a proxy's reply.
const MAX_HEAD: usize = 16 * 1024;

impl Proxy {
    /// Where it listens.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// What must not be shown of it.
    pub fn secrets(&self) -> impl Iterator<Item = Secret> + '_ {
        self.credentials.iter().flat_map(Credentials::secrets)
    }

    /// Asks the proxy at the other end of the line for a tunnel to the server, and waits for it.
    ///
    /// # Errors
    /// When it refuses, or what the line fails with.
    pub fn open_tunnel(&self, line: &mut Line, server: &Uri) -> Result<(), Error> {
        let Some((host, port)) = host_and_port(server) else {
            return Err(Error::BadUri("no host".to_owned()));
        };
        let to = format!("{host}:{port}");
        let header = |known: &Credentials| format!("Proxy-Authorization: {}\r\n", known.header());
        let authorization = self.credentials.as_ref().map(header).unwrap_or_default();
        let request =
            format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: {USER_AGENT}\r\n{authorization}\r\n");
        line.gather(request.as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
            if head.len() >= MAX_HEAD {
                return Err(self.refused("answered with a head longer than 16 KiB"));
            }
            if line.unread().is_empty() && line.receive()? == 0 {
                return Err(self.refused("closed the connection before it answered"));
            }
            // what follows the head is the server's
            head.push(line.unread()[0]);
            line.take(1);
        }
        let head = String::from_utf8_lossy(&head);
        let status_line = head.lines().next().unwrap_or_default();
        let answer = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.split_once(' '));
        match answer.map(|(_, answer)| answer.trim()) {
            Some(answer) if answer.starts_with('2') => Ok(()),
            Some(answer) => {
                Err(self.refused(&format!("answered '{answer}' when asked for a tunnel to {to}")))
            }
            None => Err(self.refused("answered with what is not HTTP")),
        }
    }

    fn refused(&self, what: &str) -> Error {
        note(|marks| marks.cause = Some(Cause::Proxy(format!("{self} {what}"))));
        Error::ConnectProxyFailed(what.to_owned())
    }
}

impl FromStr for Proxy {
    type Err = String;

    /// Reads `http://user:password@host:port`, of which only the host is needed.
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("http", text.trim()));
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => return Err("TLS to a proxy is not supported; name one that speaks http://".to_owned()),
            socks if socks.starts_with("socks") => {
                return Err("SOCKS is not supported; name an HTTP proxy, such as http://host:3128".to_owned());
            }
            _ => return Err("not the URL of a proxy; write http://host:3128".to_owned()),
        }
        let (userinfo, address) = match rest.rsplit_once('@') {
            Some((userinfo, address)) => (Some(userinfo), address),
            None => (None, rest),
        };
        let uri: Option<Uri> = format!("http://{}", address.trim_end_matches('/')).parse().ok();
        let is_plain = |uri: &Uri| uri.path() == "/" && uri.query().is_none() && uri.host() != Some("");
        let uri = uri.filter(|uri| is_plain(uri) && has_valid_port(uri));
        let uri = uri.ok_or_else(|| "not the URL of a proxy; write http://host:3128".to_owned())?;
        Ok(Self { uri, credentials: userinfo.map(Credentials::of_userinfo) })
    }
}

/// The bytes that a part of a URL stands for; what is no code of a byte stands for itself.
pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        let decoded = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    bytes
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = if self.credentials.is_some() { format!("{MASK}@") } else { String::new() };
        let (host, port) = host_and_port(&self.uri).unwrap_or_default();
        write!(f, "http://{masked}{host}:{port}")
    }
}

impl Serialize for Proxy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What was typed for a proxy, without user name and password, however wrong it is.
pub fn shown_proxy(text: &str) -> String {
    let Some((before, address)) = text.rsplit_once('@') else { return text.to_owned() };
    let scheme = before.split_once("://").map(|(scheme, _)| format!("{scheme}://"));
    format!("{}{MASK}@{address}", scheme.unwrap_or_default())
}

/// Variables that name proxies, and hosts that are reached without one. As with curl, `HTTP_PROXY` is none of them:
/// in a CGI program it is whatever a visitor sends in a header `Proxy`.
pub const PROXY_VARIABLES: [&str; 7] =
    ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"];

/// The variable that names the proxy for this server, and its value. This machine is reached without one.
pub fn proxy_of_variables<'v>(
    is_tls: bool,
    (host, port): (&str, u16),
    value: impl Fn(&str) -> Option<&'v str>,
) -> Option<(&'static str, &'v str)> {
    let host = bare(host).to_ascii_lowercase();
    let first = |names: &[&'static str]| {
        let mut found = names.iter().filter_map(|name| Some((*name, value(name)?.trim())));
        found.find(|(_, value)| !value.is_empty())
    };
    if is_loopback(&host) {
        return None;
    }
    if let Some((name, list)) = first(&["no_proxy", "NO_PROXY"])
        && list.split([',', ' ']).any(|entry| is_exempt(entry.trim(), &host, port))
    {
        log::info!("no proxy for {host}, which {name} names");
        return None;
    }
    let names = if is_tls { &["https_proxy", "HTTPS_PROXY"][..] } else { &["http_proxy"] };
    first(names).or_else(|| first(&["all_proxy", "ALL_PROXY"]))
}

pub(super) fn is_loopback(host: &str) -> bool {
    let is_name = host == "localhost" || host.ends_with(".localhost");
    is_name || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether an entry of `no_proxy` names this host: `*`, an address, a network such as `10.0.0.0/8`, or a domain, which
/// stands for all below it too. A port may follow.
fn is_exempt(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let address: Option<IpAddr> = host.parse().ok();
    if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
        let network = bare(network).parse();
        return network.is_ok_and(|network| bits.parse().is_ok_and(|bits| is_within(address, network, bits)));
    }
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, wanted)) if !name.contains(':') || name.ends_with(']') => (name, wanted.parse().ok()),
        _ => (entry, Some(port)),
    };
    if wanted != Some(port) {
        return false;
    }
    let name = bare(name.trim_start_matches('*').trim_start_matches('.')).to_ascii_lowercase();
    match address {
        Some(address) => name.parse() == Ok(address),
        None => {
            let below = host.strip_suffix(&name).filter(|_| !name.is_empty());
            below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (address, network, size) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    // no bits at all are those of every address
    bits <= size && (address ^ network).checked_shr(size - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_and_shown_without_what_is_secret() {
        for (text, shown, basic) in [
            ("http://h:3128", "http://h:3128", None),
            ("h", "http://h:80", None),
            ("HTTP://[::1]:8080/", "http://[::1]:8080", None),
            ("http://me:p%40ss@h:1", "http://***@h:1", Some("bWU6cEBzcw==")),
            ("me:a%zz%@h:1", "http://***@h:1", Some("bWU6YSV6eiU=")),
            ("a@b:c@h:1", "http://***@h:1", Some("YUBiOmM=")),
        ] {
            let proxy: Proxy = text.parse().expect(text);
            assert_eq!(proxy.to_string(), shown, "{text}");
            let sent = proxy.credentials.as_ref().map(|known| known.basic.reveal().to_owned());
            assert_eq!(sent.as_deref(), basic, "{text}");
            assert!(!format!("{proxy:?}").contains("p@ss"));
            let read_back: Proxy = shown.parse().expect(shown);
            assert_eq!(read_back.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_http_proxy_is_told() {
        for (text, want) in [
            ("socks5://h:1080", "SOCKS is not supported"),
            ("socks5h://u:p@h", "SOCKS is not supported"),
            ("https://h", "TLS to a proxy"),
            ("ftp://h", "not the URL of a proxy"),
            ("", "not the URL of a proxy"),
            ("http://", "not the URL of a proxy"),
            ("http://h:0", "not the URL of a proxy"),
            ("http://h:x", "not the URL of a proxy"),
            ("http://h/path", "not the URL of a proxy"),
            ("h h", "not the URL of a proxy"),
            ("h\r\nx: y", "not the URL of a proxy"),
        ] {
            let error = text.parse::<Proxy>().expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
        for (text, shown) in [("u:p@h h", "***@h h"), ("socks5://u:p@h", "socks5://***@h"), ("x:y", "x:y")] {
            assert_eq!(shown_proxy(text), shown);
        }
    }

    #[test]
    fn variables_name_the_proxy_by_scheme_and_never_for_this_machine() {
        let chosen = |is_tls, host: &str, variables: &[(&str, &'static str)]| {
            let value =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            proxy_of_variables(is_tls, (host, 8000), value).map(|(name, value)| format!("{name}={value}"))
        };
        let all = [
            ("http_proxy", "a"),
            ("HTTP_PROXY", "b"),
            ("https_proxy", "c"),
            ("HTTPS_PROXY", "d"),
            ("ALL_PROXY", "e"),
        ];
        assert_eq!(chosen(false, "h", &all), Some("http_proxy=a".to_owned()));
        assert_eq!(chosen(true, "h", &all), Some("https_proxy=c".to_owned()));
        assert_eq!(chosen(false, "h", &all[1..]), Some("ALL_PROXY=e".to_owned()));
        assert_eq!(chosen(true, "h", &all[3..]), Some("HTTPS_PROXY=d".to_owned()));
        assert_eq!(
            chosen(true, "h", &[("https_proxy", " "), ("all_proxy", "f")]),
            Some("all_proxy=f".to_owned())
        );
        assert_eq!(chosen(false, "h", &[]), None);
        for host in ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert_eq!(chosen(false, host, &all), None, "{host}");
        }
        assert_eq!(chosen(false, "h", &[("http_proxy", "a"), ("NO_PROXY", "x, H")]), None);
    }

    #[test]
    fn hosts_are_exempt_by_name_domain_address_and_network() {
        for (entry, host) in [
            ("*", "h"),
            ("h", "h"),
            ("H:8000", "h"),
            ("example.com", "a.example.com"),
            (".example.com", "a.b.example.com"),
            ("*.example.com", "a.example.com"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.0/8", "10.9.8.7"),
            ("0.0.0.0/0", "10.9.8.7"),
            ("10.0.0.7/32", "10.0.0.7"),
            ("fd00::/8", "fd12::1"),
            ("::/0", "fd12::1"),
            ("[fd12::1]:8000", "fd12::1"),
            ("fd12::1", "fd12::1"),
        ] {
            assert!(is_exempt(entry, host, 8000), "{entry} {host}");
        }
        for (entry, host) in [
            ("", "h"),
            (".", "h"),
            ("h:80", "h"),
            ("h:x", "h"),
            ("example.com", "anexample.com"),
            ("a.example.com", "example.com"),
            ("0.1", "10.0.0.1"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/33", "10.0.0.0"),
            ("10.0.0.0/x", "10.0.0.0"),
            ("fd00::/8", "10.0.0.1"),
            ("10.0.0.0/8", "h"),
        ] {
            assert!(!is_exempt(entry, host, 8000), "{entry} {host}");
        }
    }
}
