//! What `report` is told: which results to show again, what to hold them to, and where that goes.

use std::path::PathBuf;

use super::flags::ReportFlags;
use super::typed::Typed;
use super::{Order, ReportOrder, same_files};
use crate::error::{Error, Mistake};

/// Makes an order of the flags.
pub fn order(flags: ReportFlags, verbosity: u8) -> Result<Order, Error> {
    let mut typed = Typed::default();
    let thresholds = typed.thresholds(&flags.threshold);
    let mut mistakes = typed.mistakes;
    if flags.files.is_empty() {
        mistakes.push(Mistake::new("report", "name one or more results or record logs"));
    }
    for (flag, file) in [("--output", &flags.output), ("--vllm-json", &flags.vllm_json)] {
        if let (Some(file), 2..) = (file, flags.files.len()) {
            let problem = "names one file, and there are several results; leave it out, or give one";
            mistakes.push(Mistake::new(format!("{flag} '{file}'"), problem));
        }
    }
    mistakes.extend(same_files(&[
        ("--output", &flags.output),
        ("--vllm-json", &flags.vllm_json),
        ("--csv", &flags.csv),
        ("--html", &flags.html),
        ("--markdown", &flags.markdown),
        ("--prom-out", &flags.prom_out),
        ("--junit", &flags.junit),
    ]));
    if !mistakes.is_empty() {
        return Err(Error::Usage(mistakes));
    }
    Ok(Order::Report(ReportOrder {
        files: flags.files.into_iter().map(PathBuf::from).collect(),
        json: flags.output.map(PathBuf::from),
        vllm: flags.vllm_json.map(PathBuf::from),
        csv: flags.csv.map(PathBuf::from),
        html: flags.html.map(PathBuf::from),
        markdown: flags.markdown.map(PathBuf::from),
        prometheus: flags.prom_out.map(PathBuf::from),
        thresholds: thresholds.into_iter().map(|given| given.value).collect(),
        junit: flags.junit.map(PathBuf::from),
        strict: flags.strict,
        detail: !flags.no_detail,
        overwrite: flags.overwrite,
        verbosity: verbosity.max(flags.verbose),
    }))
}
