//! What goes over the wire: request bodies, replies and their event streams, in the dialects of the OpenAI API.
//!
//! Bytes in, values out. Knows no sockets, no clock and no metric: when a byte came is its caller's to say.

mod payload;
mod refusal;
mod reply;
mod request;
mod response;
mod sse;
mod template;

pub use payload::{Choices, FinishReason, TokenKind, Usage};
pub use refusal::{error_message, model_ids};
pub use reply::{Answer, Event, Form, ReplyReader};
pub use request::{Ask, BodyTemplate, Dialect};
pub use response::Response;
