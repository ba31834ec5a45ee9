//! Measures the tool itself.

use super::Streams;
use crate::cli::SelftestOrder;
use crate::clock::{Date, Stop};
use crate::error::{Error, ExitCode};
use crate::health;
use crate::report::{OutputFile, Tool};
use crate::selftest::{self, Findings};
use crate::text::shown_path;
use crate::units::{show_counted, show_duration};

/// Measures the tool itself and prints what was found; an interrupted test prints what it has.
///
/// # Errors
/// When it cannot be begun or not be written. A number of streams that cannot be run is told in the table, and the exit
/// code says so.
pub fn selftest(order: SelftestOrder, stop: &Stop, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    let file = OutputFile::create_some(order.output.as_deref(), order.overwrite)?;
    let program = selftest::this_program()?;
    health::raise_open_files_limit();
    let trials = order.settings.trials();
    let (started, environment, load_average) =
        (Date::now().rfc3339(), health::Environment::here(), health::load_average());
    let mut announce = |trial: &selftest::Trial| {
        if !order.quiet {
            let count = show_counted(trial.streams.get() as u64, "stream");
            streams.remark(format_args!("{count}: about {}", show_duration(trial.planned())));
        }
    };
    let rows = selftest::run(&trials, &program, environment.open_files_limit, stop, &mut announce)?;
    let is_whole = rows.len() == trials.len() && rows.iter().all(selftest::Row::is_whole);
    let findings =
        Findings { schema: selftest::SCHEMA, tool: Tool::THIS, started, environment, load_average, rows };
    // neither a console that is gone nor a file that cannot be written costs the other
    let printed = selftest::print(&findings, streams.out);
    if let Some(file) = file {
        let written = file.finish(|out| {
            serde_json::to_writer_pretty(&mut *out, &findings)?;
            writeln!(out)
        })?;
        writeln!(streams.out, "\nWritten: {}", shown_path(&written))?;
    }
    printed?;
    streams.out.flush()?;
    Ok(if is_whole { ExitCode::Success } else { ExitCode::Failed })
}
