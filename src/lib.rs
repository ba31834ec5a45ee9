//! Load generator for LLM servers.

pub mod analysis;
pub mod backend;
pub mod clock;
pub mod engine;
pub mod error;
pub mod failure;
pub mod observe;
pub mod plan;
pub mod random;
pub mod record;
pub mod secret;
pub mod sim;
pub mod summary;
pub mod text;
pub mod units;
pub mod wire;
pub mod workload;
