//! Load generator for LLM servers: vLLM first, anything that speaks the OpenAI API.
//!
//! A fixed pool of threads, each with a blocking HTTP agent, sends requests; a collector gives a [`Record`] of each to
//! every [`Sink`]; a tally makes a [`Summary`] of them. A run is a [`Report`]: plan, environment, figures.
//!
//! ```
//! use vllm_loadgen::sim::{Behavior, Simulator};
//! use vllm_loadgen::{BenchmarkConfig, Benchmarker};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // a simulated server, so that the example runs anywhere; yours would be "http://localhost:8000"
//! let server = Simulator::start(Behavior::flat_out(), ([127, 0, 0, 1], 0).into())?;
//! let benchmarker = Benchmarker::new(BenchmarkConfig {
//!     url: server.url(),
//!     max_tokens: 16,
//!     ..BenchmarkConfig::default()
//! });
//!
//! let report = benchmarker.run_benchmark("Write a story about AI", 40, 20)?;
//!
//! assert_eq!(report.summary.requests.succeeded, 40);
//! let ttft = report.summary.latency.ttft.as_ref().expect("the replies were streamed");
//! println!("p99 TTFT: {} ms", ttft.percentiles.p99);
//! benchmarker.print_results(&report)?;
//! # Ok(())
//! # }
//! ```
//!
//! A sink of your own sees every request as it ends:
//!
//! ```
//! use vllm_loadgen::sim::{Behavior, Simulator};
//! use vllm_loadgen::{BenchmarkConfig, Benchmarker, Record, Sink};
//!
//! #[derive(Default)]
//! struct Slowest(Option<std::time::Duration>);
//!
//! impl Sink for Slowest {
//!     fn record(&mut self, record: &Record) {
//!         self.0 = self.0.max(record.e2e());
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = Simulator::start(Behavior::flat_out(), ([127, 0, 0, 1], 0).into())?;
//! # let config = BenchmarkConfig { url: server.url(), max_tokens: 4, ..BenchmarkConfig::default() };
//! let mut slowest = Slowest::default();
//! Benchmarker::new(config).run_with_sinks("Hello", 10, 2, vec![&mut slowest])?;
//! assert!(slowest.0.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! The rooms, lowest first; each uses only those before it (`docs/architecture.md`):

pub mod clock;
pub mod error;
pub mod random;
pub mod secret;
pub mod stats;
pub mod text;
pub mod units;

pub mod priority;

pub mod arrivals;
pub mod failure;
pub mod heartbeat;
pub mod keeper;
pub mod scrape;

pub mod wire;

pub mod record;

pub mod backend;
pub mod observe;
pub mod summary;
pub mod workload;

pub mod health;

pub mod plan;

pub mod analysis;
pub mod engine;
pub mod sim;

pub mod accuracy;

pub mod report;

pub mod rebuild;
pub mod selftest;
pub mod watch;

pub mod benchmark;
pub mod cli;

pub mod calibration;

pub mod app;

pub use benchmark::{BenchmarkConfig, Benchmarker};
pub use error::Error;
pub use plan::Plan;
pub use record::{Record, Sink};
pub use report::Report;
pub use summary::Summary;
