//! How connections are made, where the URL alone does not say it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

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
}

fn as_text<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}
