//! The server: where it is, who may ask it, and how long it may take.

use std::time::Duration;

use super::Findings;
use crate::backend::{Client, Endpoint, Settings};
use crate::error::Mistake;
use crate::plan::defaults;
use crate::plan::draft::{Draft, Given};
use crate::secret::{Secret, shown_url};
use crate::wire::Dialect;

impl Draft {
    pub(super) fn settings(&self, found: &mut Findings) -> Option<Settings> {
        let api = self.api.as_ref().map(|api| api.value);
        // its path is that of one dialect
        let default = defaults::URL.strip_suffix(Dialect::Chat.path()).filter(|_| api.is_some());
        let default = Given::in_code("default", default.unwrap_or(defaults::URL).to_owned());
        let url = self.url.as_ref().unwrap_or(&default);
        let endpoint = Endpoint::parse(&url.value, api);
        let or = |given: &Option<Given<Duration>>, default| given.as_ref().map_or(default, |d| d.value);
        for timeout in [
            &self.timeout,
            &self.idle_timeout,
            &self.connect_timeout,
            &self.no_progress_timeout,
            &self.no_reply_timeout,
        ] {
            found.positive(timeout.as_ref());
        }
        let (network, mistakes) = self.network.check(endpoint.as_ref().ok());
        mistakes.into_iter().for_each(|mistake| found.add(mistake));
        let endpoint =
            endpoint.map_err(|problem| found.add(url.mistake(shown_url(&url.value), problem))).ok()?;
        let settings = Settings {
            endpoint,
            key: self.effective_key().map(|(key, _)| key.clone()),
            key_is_for: self.key_is_for.clone(),
            headers: self.headers.iter().map(|header| header.value.clone()).collect(),
            connect_timeout: or(&self.connect_timeout, defaults::CONNECT_TIMEOUT),
            idle_timeout: or(&self.idle_timeout, defaults::IDLE_TIMEOUT),
            timeout: or(&self.timeout, defaults::TIMEOUT),
            network,
        };
        if let Err(problem) = Client::check(&settings) {
            found.add(Mistake::new("request headers", problem));
        }
        Some(settings)
    }

    /// The key, unless a header of the user's own takes its place.
    fn effective_key(&self) -> Option<&(Secret, String)> {
        self.key.as_ref().filter(|_| self.authorization().is_none())
    }

    pub(super) fn key_source(&self) -> Option<String> {
        match self.authorization() {
            Some(header) => Some(format!("{}: Authorization", header.origin)),
            None => self.key.as_ref().map(|(_, source)| source.clone()),
        }
    }
}
