//! Over finished results: what one run says in words, and what several say side by side.

mod remarks;
mod sweep;

pub use remarks::remarks;
pub use sweep::{Point, Sweep};
