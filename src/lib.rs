//! Load generator for LLM servers.

pub mod clock;
pub mod error;
pub mod failure;
pub mod observe;
pub mod random;
pub mod secret;
pub mod text;
pub mod units;
pub mod wire;
