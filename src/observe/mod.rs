//! The server's side of a run: what its `/metrics` say before, during and after, and the timings in its reply headers.
//!
//! Text comes in, numbers go out. Knows nothing of HTTP, threads, or the client's own measurements.

mod address;
mod gauges;
mod headers;
mod histogram;
mod names;
pub mod prometheus;
mod reading;
mod window;

pub use address::metrics_url;
pub use gauges::{GaugePoint, GaugeSummary, GaugeTrack, Gauges, Spread};
pub use headers::timing_header;
pub use histogram::HistogramDelta;
pub use names::Flavour;
pub use reading::Reading;
pub use window::{ServerSide, ServerWindow, SpecDecode};
