//! Over finished results: what one run says in words, whether it keeps its limits, and what several say side by side.

mod compare;
mod estimate;
mod headline;
mod remarks;
mod repeats;
mod sweep;
mod threshold;
mod trend;

pub use compare::{Change, ComparedRun, Comparison, Ending, Method, RUNS_FOR_A_TEST, Row, Side};
pub use estimate::{Estimate, OtherEnd, estimate};
pub use headline::{Headline, headlines, short_schedule};
pub use remarks::remarks;
pub use repeats::{Spread, spreads};
pub use sweep::{GOOD_ENOUGH, Point, Ran, Sweep};
pub use threshold::{Figure, Judgement, Outcome, judge};
pub use trend::{Latest, Segment, Shift, Trend};
