//! Hands saved results to other programs.

use std::path::PathBuf;

use super::Streams;
use crate::cli::ExportOrder;
use crate::error::{Error, ExitCode, Mistake};
use crate::rebuild;
use crate::report::{History, OutputFile};
use crate::text::shown_path;

/// Writes saved results as metrics with times. What is in a folder and is no result is told and passed over.
///
/// # Errors
/// When a result that was named cannot be read, there is none, or the metrics cannot be written.
pub fn export(order: &ExportOrder, streams: &mut Streams<'_>) -> Result<ExitCode, Error> {
    let file = order.openmetrics.as_ref();
    let file = file.map(|path| OutputFile::create_shared(path, order.overwrite)).transpose()?;
    let (mut paths, mut reports) = (Vec::new(), Vec::new());
    for named in &order.files {
        for path in rebuild::results_in(named)? {
            match rebuild::report(&path, &mut []) {
                Ok(report) => {
                    paths.push(path);
                    reports.push(report);
                }
                Err(Error::File { cause, .. })
                    if path != *named && cause.kind() == std::io::ErrorKind::InvalidData =>
                {
                    streams.remark(format_args!("left out: {}: no result: {cause}", path.display()));
                }
                Err(error) => return Err(error),
            }
        }
    }
    let history = History::new(&reports);
    for (number, why) in history.left_out() {
        streams.remark(format_args!("left out: {}: {why}", paths[*number].display()));
    }
    if history.count() == 0 {
        let named: Vec<String> = order.files.iter().map(|path| path.display().to_string()).collect();
        let problem = "holds no result; name results (JSON), record logs, or folders of them";
        return Err(Error::Usage(vec![Mistake::new(format!("export '{}'", named.join(" ")), problem)]));
    }
    match file {
        Some(file) => {
            let written: PathBuf = file.finish(|out| history.write(out))?;
            writeln!(streams.out, "Written: {}", shown_path(&written))?;
        }
        None => history.write(streams.out)?,
    }
    streams.out.flush()?;
    Ok(ExitCode::Success)
}
