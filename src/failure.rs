//! How a request can go wrong: a closed set of kinds, each in exactly one group.
//!
//! A failure is a measurement, not an error of the tool: it is counted and the run goes on.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::text;

/// What went wrong with one request. Every failed request has exactly one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// It was due, and the run ended before it left: stopped, or its grace over.
    NotSent,
    /// The server's name could not be resolved.
    Dns,
    /// Nothing listens at the server's address.
    ConnectRefused,
    /// No route to the server's host or network.
    Unreachable,
    /// The connection was not made within the connect timeout.
    ConnectTimeout,
    /// The proxy is not there, or opens no way to the server.
    Proxy,
    /// The server's certificate is not trusted or not for this name.
    TlsCertificate,
    /// The TLS handshake failed for another reason.
    TlsHandshake,
    /// This machine ran out of descriptors, ports or memory: the client's fault, not the server's.
    LocalResource,
    /// The connection broke while the request was being sent.
    SendFailed,
    /// No complete reply head within the idle timeout.
    HeaderTimeout,
    /// The reply stalled: no byte within the idle timeout.
    IdleTimeout,
    /// Nothing moved in the whole run for too long, and this was under way.
    NoProgress,
    /// The whole request took longer than its timeout.
    TotalTimeout,
    /// The server closed the connection before the reply's head was complete.
    ClosedBeforeReply,
    /// The server reset the connection before the reply's head was complete.
    ResetBeforeReply,
    /// The connection was reset in the middle of the reply's body.
    ResetInBody,
    /// The reply's body ended before its announced end.
    TruncatedBody,
    /// What came back is not HTTP as it should be.
    Protocol,
    /// The server answered with this HTTP status, none of 200 to 299.
    Http(u16),
    /// The server reported an error inside a reply that began with status 200.
    ErrorEvent,
    /// The server gave up on the request: `finish_reason` is `abort` or `error`.
    Aborted,
    /// The stream ended without a finish reason and without `[DONE]`.
    EndedEarly,
    /// The reply was complete and held no token.
    EmptyReply,
    /// The reply was cut at its token limit (`finish_reason` is `length`), and the user takes that for a failure.
    TokenLimit,
    /// The reply, or an event of it, is not the JSON that the API promises.
    UnparseableReply,
    /// This client gave up on it: sending had ended, and so had the grace for requests under way.
    Cancelled,
    /// This client gave up on it because the run was interrupted.
    Interrupted,
}

/// The four groups of errors of the documented tool, and a fifth for what says nothing of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// No connection, or a connection that could not be kept until the request was out.
    Connection,
    /// The reply did not come, broke off or stalled.
    Receive,
    /// A reply that ended well but is shorter than a reply can be.
    Length,
    /// The server answered, and the answer says no or makes no sense.
    Exception,
    /// This client's doing: never counted against the server.
    Client,
}

impl FailureKind {
    /// The kind's name in results: snake case, stable.
    pub fn name(self) -> String {
        if let Self::Http(status) = self { format!("http_{status}") } else { self.row().0.to_owned() }
    }

    /// The kind of this name; `None` for a name that is no kind's.
    pub fn of_name(name: &str) -> Option<Self> {
        let plain = Self::PLAIN.into_iter().find(|kind| kind.row().0 == name);
        plain.or_else(|| Some(Self::Http(name.strip_prefix("http_")?.parse().ok()?)))
    }

    /// All kinds but that of the HTTP status.
    const PLAIN: [Self; 27] = [
        Self::NotSent,
        Self::Dns,
        Self::ConnectRefused,
        Self::Unreachable,
        Self::ConnectTimeout,
        Self::Proxy,
        Self::TlsCertificate,
        Self::TlsHandshake,
        Self::LocalResource,
        Self::SendFailed,
        Self::HeaderTimeout,
        Self::IdleTimeout,
        Self::NoProgress,
        Self::TotalTimeout,
        Self::ClosedBeforeReply,
        Self::ResetBeforeReply,
        Self::ResetInBody,
        Self::TruncatedBody,
        Self::Protocol,
        Self::ErrorEvent,
        Self::Aborted,
        Self::EndedEarly,
        Self::EmptyReply,
        Self::TokenLimit,
        Self::UnparseableReply,
        Self::Cancelled,
        Self::Interrupted,
    ];

    /// The group that it belongs to.
    pub fn group(self) -> Group {
        self.row().1
    }

    /// Whether it is this client's doing, so that it says nothing of the server.
    pub fn is_of_client(self) -> bool {
        self.group() == Group::Client
    }

    /// Whether the server itself said so, in a status or in the reply.
    pub fn is_told_by_server(self) -> bool {
        matches!(self, Self::Http(_) | Self::ErrorEvent | Self::Aborted | Self::TokenLimit)
    }

    /// What happened, in words for the console.
    pub fn meaning(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (&'static str, Group, &'static str) {
        use Group::*;
        match self {
            Self::NotSent => ("not_sent", Client, "due, but the run ended before it left"),
            Self::Dns => ("dns", Connection, "the server's name could not be resolved"),
            Self::ConnectRefused => ("connect_refused", Connection, "connection refused"),
            Self::Unreachable => ("unreachable", Connection, "no route to the server"),
            Self::ConnectTimeout => {
                ("connect_timeout", Connection, "no connection within the connect timeout")
            }
            Self::Proxy => ("proxy", Connection, "no way to the server through the proxy"),
            Self::TlsCertificate => {
                ("tls_certificate", Connection, "certificate not trusted or for another name")
            }
            Self::TlsHandshake => ("tls_handshake", Connection, "TLS handshake failed"),
            Self::LocalResource => {
                ("local_resource", Client, "this machine ran out of descriptors, ports or memory")
            }
            Self::SendFailed => ("send_failed", Connection, "connection broke while sending"),
            Self::HeaderTimeout => ("header_timeout", Receive, "no reply head within the idle timeout"),
            Self::IdleTimeout => ("idle_timeout", Receive, "reply stalled for longer than the idle timeout"),
            Self::NoProgress => {
                ("no_progress", Receive, "nothing moved in any request for the no-progress timeout")
            }
            Self::TotalTimeout => ("total_timeout", Receive, "request took longer than its timeout"),
            Self::ClosedBeforeReply => {
                ("closed_before_reply", Receive, "server closed the connection before replying")
            }
            Self::ResetBeforeReply => {
                ("reset_before_reply", Receive, "server reset the connection before replying")
            }
            Self::ResetInBody => ("reset_in_body", Receive, "connection reset in the middle of the reply"),
            Self::TruncatedBody => ("truncated_body", Receive, "reply broke off before its end"),
            Self::Protocol => ("protocol", Receive, "reply is not valid HTTP"),
            Self::Http(_) => ("http", Exception, "server answered with an error status"),
            Self::ErrorEvent => {
                ("error_event", Exception, "server reported an error inside a reply with status 200")
            }
            Self::Aborted => ("aborted", Exception, "server aborted the request"),
            Self::EndedEarly => {
                ("ended_early", Length, "stream ended without a finish reason and without [DONE]")
            }
            Self::EmptyReply => ("empty_reply", Length, "reply held no token"),
            Self::TokenLimit => ("token_limit", Length, "reply was cut at its token limit"),
            Self::UnparseableReply => {
                ("unparseable_reply", Exception, "reply is not the JSON that the API promises")
            }
            Self::Cancelled => ("cancelled", Client, "given up by this client when the grace was over"),
            Self::Interrupted => ("interrupted", Client, "given up by this client when it was interrupted"),
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Serialize for FailureKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// One request's failure: its kind and a message fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// The cause in the words of the server or the system: one line, shortened, without control characters.
    pub message: String,
    /// How long the server asked to be left alone (`Retry-After`, in seconds); noted only, nothing is sent again.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure whose message may come from anywhere: it is made printable and short.
    pub fn new(kind: FailureKind, message: impl AsRef<str>) -> Self {
        Self { kind, message: text::printable(message.as_ref(), MESSAGE_CHARS), retry_after: None }
    }

    /// The same, from a server that asked to be left alone for so long.
    pub fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }
}

const MESSAGE_CHARS: usize = 300;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}
