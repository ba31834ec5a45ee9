//! The built-in simulated server: speaks vLLM's HTTP, byte for byte as captured, with timing that is asked for.
//!
//! For trying things out, for tests, and for measuring the measurer: what it did is known exactly, from its
//! `/metrics` and from [`Simulator::served`]. Runs on threads of its own; knows nothing of the load generator.

mod answer;
mod api;
mod arrival;
mod ask;
mod behavior;
mod bend;
mod capacity;
mod connection;
mod door;
mod events;
mod fault;
mod gzip;
mod http;
mod metrics;
mod pace;
mod refusal;
mod reply;
mod server;
#[cfg(test)]
mod tests;

pub use answer::{Faulted, Served};
pub use ask::MAX_MODEL_LEN;
pub use behavior::Behavior;
pub use fault::{Effect, Fault, Faults};
pub use server::Simulator;
