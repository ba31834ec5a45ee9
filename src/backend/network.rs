//! How connections are made, where the URL alone does not say it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ureq::http::Uri;

use super::proxy::Proxy;

/// What is said of connections beside the URL. Serialised without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// PEM file with the only certificates to trust; `None` trusts the system's.
    #[serde(serialize_with = "as_text")]
    pub cacert: Option<PathBuf>,
    /// PEM file with this client's certificate and those that lead to its issuer; has a [`key`](Self::key).
    #[serde(serialize_with = "as_text")]
    pub cert: Option<PathBuf>,
    /// PEM file with the key of [`cert`](Self::cert).
    #[serde(serialize_with = "as_text")]
    pub key: Option<PathBuf>,
    /// Whether any certificate of the server's is taken, whoever made it and for whatever name.
    pub insecure: bool,
    /// Addresses of names that nobody is asked for.
    pub resolve: Vec<Resolve>,
    /// The Unix socket that takes the place of the URL's host and port.
    #[serde(serialize_with = "as_text")]
    pub unix_socket: Option<PathBuf>,
    /// The proxy that makes a tunnel to the server.
    pub proxy: Option<Proxy>,
    /// Where the proxy is from, in words; `None` without one.
    pub proxy_source: Option<String>,
}

impl Network {
    /// What differs from the URL, in words.
    pub fn told(&self) -> Vec<String> {
        let socket = self.unix_socket.iter().map(|path| format!("over the Unix socket {}", path.display()));
        let resolved = self.resolve.iter().map(|resolve| {
            let addresses: Vec<_> = resolve.addresses.iter().map(IpAddr::to_string).collect();
            format!("{} at {} (--resolve)", resolve.name(), addresses.join(", "))
        });
        let source = self.proxy_source.as_deref().unwrap_or("the program");
        let proxy = self.proxy.iter().map(|proxy| format!("through the proxy {proxy} ({source})"));
        socket.chain(resolved).chain(proxy).collect()
    }
}

fn as_text<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

/// The addresses of a host and port, as given: `host:443:10.0.0.1,[::1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    host: String,
    port: u16,
    addresses: Vec<IpAddr>,
}

/// The most addresses that a name can have.
const MOST_ADDRESSES: usize = 16;

impl Resolve {
    /// Whether these are the addresses of this host, with or without brackets, at this port.
    pub fn is_of(&self, host: &str, port: u16) -> bool {
        self.port == port && bare(host).eq_ignore_ascii_case(&self.host)
    }

    /// Where to connect to, one after another until one answers: 1 to 16.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses.iter().map(|address| SocketAddr::new(*address, self.port))
    }

    fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Resolve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "not HOST:PORT:ADDRESS; write such as example.com:443:10.0.0.1".to_owned();
        let host_end = if text.starts_with('[') { text.find(']').ok_or_else(form)? + 1 } else { 0 };
        let host_end = host_end + text[host_end..].find(':').ok_or_else(form)?;
        let (host, rest) = (bare(&text[..host_end]), &text[host_end + 1..]);
        let (port, addresses) = rest.split_once(':').ok_or_else(form)?;
        if host.is_empty() {
            return Err(form());
        }
        let port = port.parse().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| "has no valid port; write a number from 1 to 65535".to_owned())?;
        let read = |text: &str| {
            bare(text.trim())
                .parse()
                .map_err(|_| format!("'{text}' is no IP address; write such as 10.0.0.1 or ::1"))
        };
        let addresses: Vec<_> = addresses.split(',').map(read).collect::<Result<_, _>>()?;
        match addresses.len() {
            0..=MOST_ADDRESSES => Ok(Self { host: host.to_ascii_lowercase(), port, addresses }),
            _ => Err(format!("names more than {MOST_ADDRESSES} addresses; leave some out")),
        }
    }
}

/// Host and port of a URL, the port that of its scheme where it names none.
pub fn host_and_port(uri: &Uri) -> Option<(&str, u16)> {
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Some((uri.host()?, uri.port_u16().unwrap_or(default)))
}

/// Whether a URL names no port, or one that can be connected to.
pub fn has_valid_port(uri: &Uri) -> bool {
    uri.authority().is_some_and(|authority| {
        authority.as_str() == authority.host() || matches!(authority.port_u16(), Some(1..))
    })
}

/// A host without the brackets that stand around an IPv6 address.
pub fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

impl fmt::Display for Resolve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.addresses.iter().map(IpAddr::to_string).collect();
        write!(f, "{}:{}", self.name(), addresses.join(","))
    }
}

impl Serialize for Resolve {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Resolve {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_curl_reads_them() {
        for (text, host, port, want) in [
            ("Example.com:443:10.0.0.1", "example.COM", 443, &["10.0.0.1:443"][..]),
            ("a:80:10.0.0.1,::1,[fe80::2]", "a", 80, &["10.0.0.1:80", "[::1]:80", "[fe80::2]:80"]),
            ("[::1]:8000:127.0.0.1", "[::1]", 8000, &["127.0.0.1:8000"]),
        ] {
            let resolve: Resolve = text.parse().expect(text);
            assert!(resolve.is_of(host, port) && !resolve.is_of(host, port + 1), "{text}");
            let got: Vec<_> = resolve.addresses().map(|address| address.to_string()).collect();
            assert_eq!(got, want, "{text}");
            assert_eq!(resolve.to_string().parse(), Ok(resolve), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_told() {
        let many = format!("a:1:{}", ["::1"; 17].join(","));
        for (text, want) in [
            ("", "not HOST:PORT:ADDRESS"),
            ("a", "not HOST"),
            ("a:80", "not HOST"),
            (":80:::1", "not HOST"),
            ("[::1:80:::1", "not HOST"),
            ("a:0:::1", "no valid port"),
            ("a:65536:::1", "no valid port"),
            ("a:80:", "'' is no IP address"),
            ("a:80:b.c", "'b.c' is no IP address"),
            ("a:80:::1,", "'' is no IP address"),
            (&many, "more than 16"),
        ] {
            let error = text.parse::<Resolve>().expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
