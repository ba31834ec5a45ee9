//! The server's address: what the user gave, made into the URLs that are asked.

use serde::{Deserialize, Serialize, Serializer};
use ureq::http::Uri;

use super::network::{has_valid_port, host_and_port};
use crate::secret;
use crate::wire::Dialect;

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The full URL of the API; serialised without secrets.
    #[serde(serialize_with = "as_shown")]
    pub url: String,
    /// The API's dialect.
    pub dialect: Dialect,
    #[serde(skip)]
    base: String,
}

impl Endpoint {
    /// Reads a full endpoint such as `http://host:8000/v1/chat/completions`, or a server such as `http://host:8000` or
    /// `http://host:8000/v1`, whose endpoint is that of `dialect` (chat by default). A path that tells no dialect
    /// needs `dialect`.
    ///
    /// # Errors
    /// Says what is wrong and what to write.
    pub fn parse(url: &str, dialect: Option<Dialect>) -> Result<Self, String> {
        let url = url.trim();
        if !url.starts_with("http://") && !url.starts_with("https://") {
            // what was typed may hold a password or a key, and a user name is not taken in a URL
            let shown = secret::shown_url(url);
            let address = shown.split_once("://").map_or(shown.as_str(), |(_, address)| address);
            let address = address.trim_start_matches('/');
            let address =
                address.strip_prefix(secret::MASK).and_then(|rest| rest.strip_prefix('@')).unwrap_or(address);
            return Err(format!("has no http:// or https://; write http://{address}"));
        }
        let uri: Uri = url.parse().map_err(|e| format!("not a URL: {e}; write http://host:8000"))?;
        let authority = uri.authority().ok_or("names no host; write http://host:8000")?;
        if authority.as_str().contains('@') {
            return Err(
                "holds a user name; give credentials in --header 'Authorization: …' instead".to_owned()
            );
        }
        if authority.host().is_empty() || url.contains('#') {
            return Err("not a URL of a server; write http://host:8000".to_owned());
        }
        if !has_valid_port(&uri) {
            return Err("has no valid port; write http://host:8000".to_owned());
        }
        let root = format!("{}://{authority}", uri.scheme_str().unwrap_or("http"));
        let path = uri.path().trim_end_matches('/');
        let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
        let (prefix, dialect, path) = resolve_path(path, dialect)?;
        Ok(Self { url: format!("{root}{path}{query}"), dialect, base: format!("{root}{prefix}") })
    }

    /// URL of the list of models.
    pub fn models_url(&self) -> String {
        format!("{}/v1/models", self.base)
    }

    /// The URL as reports show it.
    pub fn shown(&self) -> String {
        secret::shown_url(&self.url)
    }

    /// Whether what is sent there is encrypted.
    pub fn is_tls(&self) -> bool {
        self.url.starts_with("https://")
    }

    /// Host and port; the port is that of the scheme where the URL names none.
    pub fn host_and_port(&self) -> (String, u16) {
        let uri: Option<Uri> = self.url.parse().ok();
        let found = uri.as_ref().and_then(host_and_port);
        found.map_or_else(Default::default, |(host, port)| (host.to_owned(), port))
    }

    /// Scheme and authority with whatever path stands before `/v1`.
    pub fn base(&self) -> &str {
        &self.base
    }
}

fn as_shown<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&secret::shown_url(url))
}

/// Prefix before `/v1`, dialect and full path.
fn resolve_path(path: &str, dialect: Option<Dialect>) -> Result<(&str, Dialect, String), String> {
    let bare = path.strip_suffix("/v1").unwrap_or(path);
    let is_server = path.ends_with("/v1") || path.is_empty();
    if is_server {
        let dialect = dialect.unwrap_or(Dialect::Chat);
        return Ok((bare, dialect, format!("{bare}{}", dialect.path())));
    }
    let told = Dialect::of_path(path);
    if let (Some(asked), Some(told)) = (dialect, told)
        && asked != told
    {
        return Err(format!("path '{path}' is of another dialect than --api says; give one of them"));
    }
    let dialect = dialect.or(told).ok_or_else(|| {
        format!(
            "path '{path}' ends in neither /chat/completions nor /completions; \
             give the server alone, such as http://host:8000, or say which with --api"
        )
    })?;
    let prefix = path.strip_suffix(dialect.path()).unwrap_or("");
    Ok((prefix, dialect, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, want: &str, base: &str) {
        let endpoint = Endpoint::parse(url, None).expect(url);
        assert_eq!((endpoint.url.as_str(), endpoint.base()), (want, base));
    }

    #[test]
    fn a_server_gets_the_chat_endpoint() {
        let want = "http://h:8000/v1/chat/completions";
        for url in ["http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/", want] {
            check(url, want, "http://h:8000");
        }
        check("https://h/x/v1", "https://h/x/v1/chat/completions", "https://h/x");
        check("http://[::1]:80", "http://[::1]:80/v1/chat/completions", "http://[::1]:80");
    }

    #[test]
    fn the_path_tells_the_dialect() {
        check("http://h/v1/completions", "http://h/v1/completions", "http://h");
        check("http://h/a/v1/completions?k=v", "http://h/a/v1/completions?k=v", "http://h/a");
        assert_eq!(Endpoint::parse("http://h/v1/completions", None).unwrap().dialect, Dialect::Completions);
        let named = Endpoint::parse("http://h/generate", Some(Dialect::Completions)).unwrap();
        assert_eq!((named.url.as_str(), named.dialect), ("http://h/generate", Dialect::Completions));
        assert_eq!(named.models_url(), "http://h/v1/models");
    }

    #[test]
    fn what_is_no_server_is_refused_with_advice() {
        for (url, part) in [
            ("localhost:8000", "write http://localhost:8000"),
            ("ftp://h", "http://"),
            ("ftp://u:p@h:1/?key=k", "write http://h:1/?key=***"),
            ("u:p@h", "write http://h"),
            ("http://", "not a URL"),
            ("http://h:99999", "port"),
            ("http://h:0", "port"),
            ("http://u:p@h", "user name"),
            ("http://h/generate", "--api"),
            ("http://h h", "not a URL"),
        ] {
            let error = Endpoint::parse(url, None).expect_err(url);
            assert!(error.contains(part), "{url}: {error}");
        }
    }
}
