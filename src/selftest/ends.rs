//! Whether what a client reports of a quantity has the truth between its ends.

use serde::Serialize;

use super::client::Summary;
use crate::accuracy::{Account, Truths};
use crate::sim::Served;

/// A percentile as it was, and as the client reports it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ends {
    /// `ttft`, `itl` or `e2e`.
    pub figure: &'static str,
    /// `p50` or `p99`.
    pub percentile: &'static str,
    /// What it was by the server's log, ms.
    pub true_ms: f64,
    /// What it was at least by the client's report, ms.
    pub low_ms: f64,
    /// What it was at most by the client's report, which is what it reports, ms.
    pub high_ms: f64,
    /// Whether the truth lies between the two, but for the way over loopback and a server that is late itself.
    pub holds: bool,
}

/// What the two ways may take, and what a server at the highest priority may be late between a stamp and its write.
const ON_THE_WAY_MS: f64 = 0.5;

/// All percentiles that both sides have.
pub fn of(accounts: &[Account], summary: &Summary, served: &[Served]) -> Vec<Ends> {
    let truths = Truths::of(accounts, served);
    let figures = [("ttft", &truths.ttft), ("itl", &truths.itl), ("e2e", &truths.e2e)];
    let percentiles = [("p50", 50.0), ("p99", 99.0)];
    let all = figures.into_iter().flat_map(|figure| percentiles.map(|percentile| (figure, percentile)));
    let one = |((figure, truth), (name, percentile)): ((&'static str, &Vec<i64>), (&'static str, f64))| {
        let true_ms = Truths::percentile(truth, percentile)?;
        let (low_ms, high_ms) = summary.ends(figure, name)?;
        let holds = (low_ms - ON_THE_WAY_MS..=high_ms + ON_THE_WAY_MS).contains(&true_ms);
        Some(Ends { figure, percentile: name, true_ms, low_ms, high_ms, holds })
    };
    all.filter_map(one).collect()
}
