//! Load generator for LLM servers.

pub mod clock;
pub mod failure;
pub mod random;
pub mod text;
pub mod units;
