//! How the server is to be reached, as typed: files read, addresses understood, mistakes told.

use std::path::PathBuf;

use super::{Given, Origin};
use crate::backend::{self, Endpoint, Network, Resolve};
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
}

impl NetworkDraft {
    /// This draft, with what it leaves open taken from `base`.
    pub fn over(self, base: Self) -> Self {
        Self {
            cacert: self.cacert.or(base.cacert),
            cert: self.cert.or(base.cert),
            key: self.key.or(base.key),
            insecure: self.insecure.or(base.insecure),
            resolve: if self.resolve.is_empty() { base.resolve } else { self.resolve },
            unix_socket: self.unix_socket.or(base.unix_socket),
        }
    }

    /// Where whatever is said of connections is from.
    pub fn origins(&self) -> Vec<&Origin> {
        let paths = [&self.cacert, &self.cert, &self.key, &self.unix_socket].into_iter().flatten();
        let paths = paths.map(|given| &given.origin);
        let insecure = self.insecure.iter().map(|given| &given.origin);
        let texts = self.resolve.iter().map(|given| &given.origin);
        paths.chain(insecure).chain(texts).collect()
    }

    fn is_insecure(&self) -> bool {
        self.insecure.as_ref().is_some_and(|given| given.value)
    }

    /// What was meant, and everything that is wrong with it.
    pub(super) fn check(&self, endpoint: Option<&Endpoint>) -> (Network, Vec<Mistake>) {
        let mut mistakes = Vec::new();
        self.check_files(&mut mistakes);
        self.check_socket(&mut mistakes);
        let resolve =
            self.resolve.iter().filter_map(|given| resolve(given, endpoint, &mut mistakes)).collect();
        let path = |given: &Option<Given<PathBuf>>| given.as_ref().map(|given| given.value.clone());
        let network = Network {
            cacert: path(&self.cacert),
            cert: path(&self.cert),
            key: path(&self.key),
            insecure: self.is_insecure(),
            resolve,
            unix_socket: path(&self.unix_socket),
        };
        (network, mistakes)
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

/// A flag that is for another server than the one of the URL would go unnoticed; a file may know several.
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
