//! Results of many days as OpenMetrics: each value at the time at which its run ended.

use std::collections::HashSet;
use std::io::{self, Write};

use super::{Labels, ended_ms, exposition, families, value_labels};
use crate::report::Report;

/// Runs in the order of their ends, as series over time. Of one series no two runs ended at the same time.
#[derive(Clone, Debug)]
pub struct History<'r> {
    runs: Vec<(&'r Report, Labels)>,
    left_out: Vec<(usize, &'static str)>,
}

impl<'r> History<'r> {
    /// Of these results each run once, as far as its time is known and no other has it.
    pub fn new(reports: &'r [Report]) -> Self {
        let mut left_out = Vec::new();
        let mut ids = HashSet::new();
        let mut kept: Vec<(usize, i64, &Report)> = Vec::new();
        for (number, report) in reports.iter().enumerate() {
            match ended_ms(report) {
                None => left_out.push((number, "it does not tell when the run ended")),
                Some(_) if !ids.insert(&report.plan.run_id) => {
                    left_out.push((number, "the same run was named before"));
                }
                Some(at_ms) => kept.push((number, at_ms, report)),
            }
        }
        kept.sort_by_key(|(_, at_ms, _)| *at_ms);
        let labels = value_labels(&kept.iter().map(|(.., report)| *report).collect::<Vec<_>>());
        let mut moments = HashSet::new();
        let mut runs = Vec::new();
        for ((number, at_ms, report), labels) in kept.into_iter().zip(labels) {
            if moments.insert((labels.clone(), at_ms)) {
                runs.push((report, labels));
            } else {
                left_out.push((number, "another run of the same series ended in the same millisecond"));
            }
        }
        Self { runs, left_out }
    }

    /// How many runs it has.
    pub fn count(&self) -> usize {
        self.runs.len()
    }

    /// Which results are not in it, by their place among those given, and why.
    pub fn left_out(&self) -> &[(usize, &'static str)] {
        &self.left_out
    }

    /// Writes the values as OpenMetrics. Labels are those of the text file, but for `run`.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        exposition::write_openmetrics(&families(&self.runs), out)
    }
}
