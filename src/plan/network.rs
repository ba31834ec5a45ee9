//! How the server is to be reached, as typed: files read, addresses understood, mistakes told.

use std::path::PathBuf;

use super::Given;
use crate::backend::{self, Network};
use crate::error::Mistake;

/// All that can be said of connections beside the URL.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // each field is the flag of its name
pub struct NetworkDraft {
    pub cacert: Option<Given<PathBuf>>,
    pub cert: Option<Given<PathBuf>>,
    pub key: Option<Given<PathBuf>>,
    pub insecure: Option<bool>,
}

impl NetworkDraft {
    /// This draft, with what it leaves open taken from `base`.
    pub fn over(self, base: Self) -> Self {
        Self {
            cacert: self.cacert.or(base.cacert),
            cert: self.cert.or(base.cert),
            key: self.key.or(base.key),
            insecure: self.insecure.or(base.insecure),
        }
    }

    /// What was meant, and everything that is wrong with it.
    pub(super) fn check(&self) -> (Network, Vec<Mistake>) {
        let mut mistakes = Vec::new();
        self.check_files(&mut mistakes);
        let path = |given: &Option<Given<PathBuf>>| given.as_ref().map(|given| given.value.clone());
        let network = Network {
            cacert: path(&self.cacert),
            cert: path(&self.cert),
            key: path(&self.key),
            insecure: self.insecure.unwrap_or(false),
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
        if let (Some(cacert), Some(true)) = (&self.cacert, self.insecure) {
            told(
                cacert,
                Err("says nothing beside --insecure, which trusts any; leave one of them out".to_owned()),
            );
        }
    }
}
