//! What chance alone can do: intervals for percentiles, means and shares, a test of two samples, and changes of level in a
//! series. Pure functions of numbers, the same answer every time; knows no metric, no run and no unit.

mod beta;
mod change_points;
mod interval;
mod mann_whitney;
mod rank;

pub use change_points::{ChangePoint, VALUES_ASIDE, change_points};
pub use interval::{Interval, NORMAL, mean_interval, sample_std, share_interval};
pub use mann_whitney::p_lower;
pub use rank::{count_for_lower_bound, count_for_upper_bound, ranks};

/// What a two-sided interval misses, on each side: 2.5 %, so that it holds the true value 95 times in 100.
const TAIL: f64 = 0.025;
