//! How vLLM says no: the error JSON and the cases that need a name.

use serde_json::json;

/// An answer that says no, in vLLM's error shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    kind: &'static str,
    param: Option<&'static str>,
    message: String,
}

impl Refusal {
    /// The body of the reply.
    pub fn json(&self) -> String {
        let Self { status, kind, param, message } = self;
        // written out, because a map would sort the names
        format!(
            r#"{{"error":{{"message":{},"type":"{kind}","param":{},"code":{status}}}}}"#,
            json!(message),
            json!(param)
        )
    }

    /// The engine failed.
    pub fn engine_failed() -> Self {
        let message = "EngineCore encountered an issue. See stack trace (above) for the root cause.";
        Self { status: 500, kind: "InternalServerError", param: None, message: message.to_owned() }
    }

    /// The server has no room for another connection.
    pub fn busy() -> Self {
        let message = "The engine is currently busy and cannot accept new requests. \
                       Please try again later or on a different instance.";
        Self { status: 503, kind: "Service Unavailable", param: None, message: message.to_owned() }
    }

    /// A client asks too often, says what stands before the server.
    pub fn too_many_requests() -> Self {
        let message = "Rate limit exceeded. Please retry later.".to_owned();
        Self { status: 429, kind: "RateLimitError", param: None, message }
    }

    /// The body is larger than the server takes.
    pub fn body_too_large(limit: usize) -> Self {
        let message = format!("request body is larger than {} MiB", limit >> 20);
        Self { status: 413, kind: "Request Entity Too Large", param: None, message }
    }

    /// The body is not announced as JSON.
    pub fn not_json() -> Self {
        Self::validation(None, "Unsupported Media Type: Only 'application/json' is allowed")
    }

    /// There is another model here.
    pub fn no_such_model(asked: &str, served: &str) -> Self {
        let message = format!("The model `{asked}` does not exist. Valid aliases: {served}.");
        Self { status: 404, kind: "NotFoundError", param: Some("model"), message }
    }

    /// A field has a value that cannot be.
    pub fn parameter(param: &'static str, message: String) -> Self {
        Self { param: Some(param), ..Self::bad_request(message) }
    }

    /// The request makes no sense.
    pub fn bad_request(message: String) -> Self {
        Self { status: 400, kind: "BadRequestError", param: None, message }
    }

    /// The body does not have the shape that the API demands.
    pub fn validation(param: Option<&'static str>, what: &str) -> Self {
        let message = format!("1 validation error:\n  {what}");
        Self { status: 400, kind: "Bad Request", param, message }
    }
}
