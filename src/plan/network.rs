//! How the server is to be reached, as typed: files read, addresses understood, mistakes told.

use std::path::PathBuf;

use super::draft::by_name;
use super::{Given, Origin, Route};
use crate::backend::{self, Destination, Endpoint, Network, Proxy, Resolve};
use crate::error::Mistake;

/// All that can be said of connections beside the URL.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // each field is the flag of its name
pub struct NetworkDraft {
    pub cacert: Option<Given<PathBuf>>,
    pub cert: Option<Given<PathBuf>>,
    pub key: Option<Given<PathBuf>>,
    pub insecure: Option<Given<bool>>,
    pub resolve: Vec<Given<String>>,
    pub unix_socket: Option<Given<PathBuf>>,
    /// A URL, or `none`.
    pub proxy: Option<Given<String>>,
    /// Environment variables that say something of proxies.
    pub variables: Vec<(&'static str, String)>,
}

impl NetworkDraft {
    /// This draft, with what it leaves open taken from `base`.
    pub fn over(self, base: Self) -> Self {
        Self {
            cacert: self.cacert.or(base.cacert),
            cert: self.cert.or(base.cert),
            key: self.key.or(base.key),
            insecure: self.insecure.or(base.insecure),
            resolve: by_name(self.resolve, base.resolve, |text| host_and_port(text)),
            unix_socket: self.unix_socket.or(base.unix_socket),
            proxy: self.proxy.or(base.proxy),
            variables: if self.variables.is_empty() { base.variables } else { self.variables },
        }
    }

    /// Where whatever is said of connections is from.
    pub fn origins(&self) -> Vec<&Origin> {
        let paths = [&self.cacert, &self.cert, &self.key, &self.unix_socket].into_iter().flatten();
        let paths = paths.map(|given| &given.origin);
        let insecure = self.insecure.iter().map(|given| &given.origin);
        let texts = self.resolve.iter().chain(&self.proxy).map(|given| &given.origin);
        paths.chain(insecure).chain(texts).collect()
    }

    /// Files that are read for connections.
    pub(super) fn files(&self) -> impl Iterator<Item = &Given<PathBuf>> {
        [&self.cacert, &self.cert, &self.key].into_iter().flatten()
    }

    fn is_insecure(&self) -> bool {
        self.insecure.as_ref().is_some_and(|given| given.value)
    }

    /// What was meant, and everything that is wrong with it.
    pub(super) fn check(&self, endpoint: Option<&Endpoint>) -> (Network, Vec<Mistake>) {
        let mut mistakes = Vec::new();
        self.check_files(&mut mistakes);
        self.check_socket(&mut mistakes);
        let resolve: Vec<_> =
            self.resolve.iter().filter_map(|given| resolve(given, endpoint, &mut mistakes)).collect();
        let proxy = self.proxy(endpoint, &mut mistakes);
        let unused = self.resolve.first().filter(|_| !resolve.is_empty());
        if let (Some((proxy, source)), Some(given)) = (&proxy, unused) {
            let problem =
                format!("says nothing where the proxy {proxy} ({source}) looks names up; add --proxy none");
            mistakes.push(given.mistake(&given.value, problem));
        }
        let (proxy, proxy_source) = proxy.unzip();
        let path = |given: &Option<Given<PathBuf>>| given.as_ref().map(|given| given.value.clone());
        let network = Network {
            cacert: path(&self.cacert),
            cert: path(&self.cert),
            key: path(&self.key),
            insecure: self.is_insecure(),
            resolve,
            unix_socket: path(&self.unix_socket),
            proxy,
            proxy_source,
        };
        (network, mistakes)
    }

    /// The way to a server beside the one under load; `None`, with what is wrong in `mistakes`, where there is none.
    pub fn route(&self, url: &Given<String>, mistakes: &mut Vec<Mistake>) -> Option<Route> {
        // what was typed may hold a password
        let to = Destination::parse(&url.value);
        let to = to.map_err(|problem| mistakes.push(Mistake::new(url.origin.to_string(), problem))).ok()?;
        let network = self.beside(&to, mistakes);
        Some((to, network))
    }

    /// Through the proxy that the variables name for it, unless `--proxy none` was given; with the certificates of the
    /// draft.
    fn beside(&self, to: &Destination, mistakes: &mut Vec<Mistake>) -> Network {
        let is_none = self.proxy.as_ref().is_some_and(|given| is_none(&given.value));
        let server = (to.is_tls(), to.host_and_port());
        let proxy = if is_none { None } else { self.proxy_of_variables(server, mistakes) };
        let (proxy, proxy_source) = proxy.unzip();
        let path = |given: &Option<Given<PathBuf>>| given.as_ref().map(|given| given.value.clone());
        Network {
            cacert: path(&self.cacert),
            cert: path(&self.cert),
            key: path(&self.key),
            proxy,
            proxy_source,
            ..Network::default()
        }
    }

    fn check_files(&self, mistakes: &mut Vec<Mistake>) {
        let mut told = |given: &Given<PathBuf>, result: Result<(), String>| {
            let fine = result.is_ok();
            mistakes.extend(result.err().map(|problem| given.mistake(given.value.display(), problem)));
            fine
        };
        if let Some(cacert) = &self.cacert {
            told(cacert, backend::read_roots(&cacert.value).map(|_| ()));
        }
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let fine = [
                    told(cert, backend::read_certs(&cert.value).map(|_| ())),
                    told(key, backend::check_key(&key.value)),
                ];
                if fine == [true; 2] {
                    told(cert, backend::check_pair(&cert.value, &key.value));
                }
            }
            (Some(cert), None) => {
                told(cert, Err("has no key; name the file of its key with --key FILE".to_owned()));
            }
            (None, Some(key)) => {
                told(key, Err("has no certificate; name the file of it with --cert FILE".to_owned()));
            }
            (None, None) => {}
        }
        if let (Some(cacert), true) = (&self.cacert, self.is_insecure()) {
            told(
                cacert,
                Err("says nothing beside --insecure, which trusts any; leave one of them out".to_owned()),
            );
        }
    }

    /// The proxy and where it is from.
    fn proxy(&self, endpoint: Option<&Endpoint>, mistakes: &mut Vec<Mistake>) -> Option<(Proxy, String)> {
        let Some(given) = &self.proxy else {
            if self.unix_socket.is_some() {
                return None;
            }
            let (host, port) = endpoint?.host_and_port();
            return self.proxy_of_variables((endpoint?.is_tls(), (&host, port)), mistakes);
        };
        if is_none(&given.value) {
            return None;
        }
        if let Some(socket) = &self.unix_socket {
            let place = format!("{} and {}", given.origin, socket.origin);
            mistakes.push(Mistake::new(place, "give one of them; a Unix socket is on this machine"));
        }
        let told = |problem: String| {
            let problem = format!("{problem}; or write none");
            mistakes.push(given.mistake(backend::shown_proxy(&given.value), problem));
        };
        Some((given.value.parse().map_err(told).ok()?, given.origin.to_string()))
    }

    fn proxy_of_variables(
        &self,
        (is_tls, server): (bool, (&str, u16)),
        mistakes: &mut Vec<Mistake>,
    ) -> Option<(Proxy, String)> {
        let value = |name: &str| {
            let mut known = self.variables.iter().filter(|(known, _)| *known == name);
            known.next().map(|(_, value)| value.as_str())
        };
        let (name, value) = backend::proxy_of_variables(is_tls, server, value)?;
        let told = |problem: String| {
            let place = format!("environment variable {name} '{}'", backend::shown_proxy(value));
            mistakes.push(Mistake::new(place, format!("{problem}; or go without with --proxy none")));
        };
        Some((value.parse().map_err(told).ok()?, format!("environment variable {name}")))
    }

    fn check_socket(&self, mistakes: &mut Vec<Mistake>) {
        let Some(given) = &self.unix_socket else { return };
        if let Err(problem) = backend::check_path(&given.value) {
            mistakes.push(given.mistake(given.value.display(), problem));
        }
        if let Some(resolve) = self.resolve.first() {
            let place = format!("{} and {}", given.origin, resolve.origin);
            mistakes.push(Mistake::new(place, "give one of them; a Unix socket has no address to look up"));
        }
    }
}

/// Whether no proxy is wanted.
fn is_none(proxy: &str) -> bool {
    proxy.trim().eq_ignore_ascii_case("none")
}

/// A flag that is for another server than the one of the URL would go unnoticed; a file may know several.
/// `host:443` of `host:443:10.0.0.1`.
fn host_and_port(text: &str) -> String {
    let host_end = if text.starts_with('[') { text.find(']').unwrap_or(0) } else { 0 };
    let mut colons = text.match_indices(':').map(|(at, _)| at).filter(|at| *at >= host_end);
    text[..colons.nth(1).unwrap_or(text.len())].to_ascii_lowercase()
}

fn resolve(
    given: &Given<String>,
    endpoint: Option<&Endpoint>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Resolve> {
    let resolve: Resolve = given
        .value
        .parse()
        .map_err(|problem: String| mistakes.push(given.mistake(&given.value, problem)))
        .ok()?;
    let (host, port) = endpoint?.host_and_port();
    if resolve.is_of(&host, port) {
        return Some(resolve);
    }
    if matches!(given.origin, Origin::Flag(_)) {
        let problem = format!("is not of the server; begin with {host}:{port}:");
        mistakes.push(given.mistake(&given.value, problem));
    }
    None
}
