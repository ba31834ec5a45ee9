//! The server's side of a run: what its `/metrics` say before, during and after, and the timings in its reply headers.
//!
//! Text comes in, numbers go out. Knows nothing of HTTP, threads, or the client's own measurements.

pub mod address;
pub mod gauges;
pub mod headers;
pub mod histogram;
mod names;
pub mod prometheus;
pub mod reading;
pub mod window;

pub use address::metrics_url;
pub use gauges::{GaugePoint, GaugeSummary, GaugeTrack, Gauges, Spread};
pub use headers::timing_header;
pub use histogram::HistogramDelta;
pub use names::Flavour;
pub use reading::Reading;
pub use window::{ServerSide, ServerWindow, SpecDecode};
