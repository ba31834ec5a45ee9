//! What reports of several runs need to tell them apart, and which figures stand for a run.

use std::num::NonZeroU64;

use super::Report;
use crate::plan::SuiteKind;
use crate::summary::Distribution;
use crate::text::printable;
use crate::units::{show_count, show_counted};

/// A short name for each run: what it differs in from the others. `files` are the runs' files, where they were read
/// from some.
pub fn run_names(kind: SuiteKind, reports: &[Report], files: &[String]) -> Vec<String> {
    let names = reports.iter().enumerate().map(|(number, report)| match files.get(number) {
        Some(file) => printable(file, 80),
        None => name(kind, report),
    });
    told_apart(&names.collect::<Vec<_>>())
}

/// The names with a number behind each that was there before: `a`, `a (2)`, `a (3)`.
pub fn told_apart(names: &[String]) -> Vec<String> {
    let numbered = names.iter().enumerate();
    let one = |(number, name): (usize, &String)| {
        let before = names[..number].iter().filter(|before| *before == name).count();
        if before == 0 { name.clone() } else { format!("{name} ({})", before + 1) }
    };
    numbered.map(one).collect()
}

fn name(kind: SuiteKind, report: &Report) -> String {
    let load = &report.plan.load;
    let completions = || load.completions.map(|n| show_counted(n.get(), "completion"));
    match (kind, &report.plan.scenario) {
        (SuiteKind::Threads, _) => show_counted(load.threads.get() as u64, "thread"),
        (SuiteKind::Completions, _) => completions().unwrap_or_else(|| load.to_string()),
        (_, Some(scenario)) => {
            let completions = load.completions.map(|n| format!(", {}", show_count(n.get())));
            format!("{}{}", printable(scenario, 80), completions.unwrap_or_default())
        }
        _ => load.to_string(),
    }
}

/// Whether the headline times are response times, from when a request was due; else service times, from when it was sent.
pub fn is_open(report: &Report) -> bool {
    report.plan.load.is_open()
}

/// The end-to-end time that stands for the run: response time in an open loop, service time in a closed one. `None`
/// where no request succeeded.
pub fn headline_e2e(report: &Report) -> Option<&Distribution> {
    let latency = &report.summary.latency;
    if is_open(report) { latency.response_e2e.as_ref() } else { latency.e2e.as_ref() }
}

/// The time to first token that stands for the run, likewise.
pub fn headline_ttft(report: &Report) -> Option<&Distribution> {
    let latency = &report.summary.latency;
    if is_open(report) { latency.response_ttft.as_ref() } else { latency.ttft.as_ref() }
}

/// What the headline times are called.
pub fn headline_words(report: &Report) -> &'static str {
    if is_open(report) {
        "response times, from when a request was due"
    } else {
        "service times, from when a request was sent"
    }
}

/// The one number of their load that runs differ in.
pub struct LoadAxis {
    /// What it is.
    pub name: &'static str,
    /// Its value in each run.
    pub values: Vec<f64>,
    /// The runs in order of the value.
    pub order: Vec<usize>,
}

impl LoadAxis {
    /// `None` unless one number tells at least two runs apart that ask for the same otherwise.
    pub fn of(reports: &[Report]) -> Option<Self> {
        let (first, rest) = reports.split_first()?;
        let asks = |report: &Report| (report.plan.prompt.clone(), report.plan.scenario.clone());
        if rest.is_empty()
            || rest
                .iter()
                .any(|report| asks(report) != asks(first) || report.plan.request != first.plan.request)
        {
            return None;
        }
        let rates = reports.iter().map(rate).collect::<Option<Vec<_>>>();
        let is_closed = reports.iter().all(|report| !is_open(report));
        let threads = is_closed.then(|| reports.iter().map(|r| r.plan.load.threads.get() as f64).collect());
        let completions = is_closed.then(|| {
            let completions = reports.iter().map(|r| r.plan.load.completions.map(NonZeroU64::get));
            completions.map(|n| Some(n? as f64)).collect::<Option<Vec<_>>>()
        });
        let candidates = [
            ("requests per second asked for", rates),
            ("threads", threads),
            ("completions", completions.flatten()),
        ];
        candidates.into_iter().find_map(|(name, values)| {
            let values: Vec<f64> = values?;
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
            let are_apart = order.windows(2).all(|pair| values[pair[0]] < values[pair[1]]);
            are_apart.then_some(Self { name, values, order })
        })
    }

    /// A tick for each run, but not so near to the one before that they would touch.
    pub fn ticks(&self, show: fn(f64) -> String) -> Vec<(f64, String)> {
        let most = self.order.last().map_or(1.0, |run| self.values[*run]);
        let mut ticks: Vec<(f64, String)> = Vec::new();
        for run in self.order.iter().rev() {
            let value = self.values[*run];
            let is_apart = |(next, _): &(f64, String)| next / value > 1.3 || (next - value) / most > 0.12;
            if ticks.last().is_none_or(is_apart) {
                ticks.push((value, show(value)));
            }
        }
        ticks
    }
}

/// The steady rate of an open loop, per second.
fn rate(report: &Report) -> Option<f64> {
    report.plan.load.arrivals.as_ref()?.shape.steady()
}

/// Of runs at rates, the highest rate before the first that was not kept up with: while the load was steady, fewer than
/// 90 % of what arrived was completed. `None` for other runs, and where all or none kept up.
pub fn knee(axis: &LoadAxis, reports: &[Report]) -> Option<usize> {
    let keeps_up = |run: &usize| {
        let summary = &reports[*run].summary;
        let steady = summary.windows.steady.map(|steady| steady.requests_per_s);
        let completed = steady.or(summary.throughput.requests_per_s);
        Some(completed? >= 0.9 * rate(&reports[*run])?)
    };
    let kept = axis.order.iter().take_while(|run| keeps_up(run) == Some(true)).count();
    (kept < axis.order.len()).then(|| kept.checked_sub(1).map(|last| axis.order[last])).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_name_are_numbered() {
        let names = ["a", "b", "a", "a"].map(str::to_owned);
        assert_eq!(told_apart(&names), ["a", "b", "a (2)", "a (3)"]);
    }
}
