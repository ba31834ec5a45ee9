//! From an order to an exit code: starts what is to be started, makes the runs, writes what is to be written.

mod alerts;
mod compare;
mod export;
mod files;
mod live;
mod made;
mod report;
mod run;
mod selftest;
mod trend;

use std::io::Write;

use crate::cli::SimulateOrder;
use crate::clock::Stop;
use crate::error::{Error, ExitCode};
use crate::health;
use crate::sim::Simulator;
use crate::text::one_line;

pub use compare::compare;
pub use export::export;
pub use report::report;
pub use run::run;
pub use selftest::selftest;
pub use trend::trend;

/// Where results and remarks go.
pub struct Streams<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Everything else.
    pub err: &'a mut dyn Write,
    /// Whether results may be coloured: a person reads them on a terminal.
    pub color: bool,
}

impl Streams<'_> {
    /// Says something beside the results. That nobody listens any more ends no run.
    fn remark(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.err, "{}", one_line(&text.to_string()));
    }
}

/// Runs the simulator until the stop.
///
/// # Errors
/// When it cannot listen there.
pub fn simulate(order: SimulateOrder, stop: &Stop, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    health::raise_open_files_limit();
    let address = order.address;
    let simulator = Simulator::start(order.behavior, address)
        .map_err(|e| Error::Server(format!("cannot listen on {address}: {e}; choose another --port")))?;
    let url = simulator.url();
    streams.remark(format_args!("simulated server on {url}: {}", simulator.behavior()));
    streams.remark(format_args!("measure it with: vllm-loadgen --url {url} --threads 20 --completions 500"));
    simulator.run_until(stop);
    remark_hits(&simulator, streams);
    Ok(ExitCode::Success)
}

/// Says how often the simulator's faults have hit, for comparison with what was measured.
fn remark_hits(simulator: &Simulator, streams: &mut Streams<'_>) {
    let hits: Vec<String> =
        simulator.hits().iter().map(|(fault, count)| format!("{fault} {count}")).collect();
    if !hits.is_empty() {
        streams.remark(format_args!("requests hit by faults of the simulated server: {}", hits.join(", ")));
    }
}
