//! The labels that tell one run's series from another's: few, and the same tomorrow, so that figures over time are one
//! series.

use super::exposition::Labels;
use crate::arrivals::Shape;
use crate::plan::Plan;
use crate::report::Report;
use crate::report::naming::is_open;
use crate::text::printable;

/// Characters of a label's value that are kept.
const MAX_VALUE: usize = 256;

/// A text as a label's value: one line without what steers a terminal.
pub(super) fn value(text: &str) -> String {
    printable(text, MAX_VALUE)
}

/// Labels for each run, no two the same: `model` and `test`; of the numbers that make up a load, those in which the runs
/// differ; and where that is not enough, `run` with the number of the run, from 1.
pub fn series_labels(reports: &[Report]) -> Vec<Labels> {
    let reports: Vec<&Report> = reports.iter().collect();
    apart(value_labels(&reports))
}

/// The labels of runs with `run` added where two of them are the same.
pub fn apart(mut all: Vec<Labels>) -> Vec<Labels> {
    let is_apart = |labels: &Labels| all.iter().filter(|other| *other == labels).count() == 1;
    if !all.iter().all(is_apart) {
        for (number, labels) in all.iter_mut().enumerate() {
            labels.push(("run".into(), (number + 1).to_string()));
        }
    }
    all
}

/// The same without `run`: repetitions have the same labels.
pub fn value_labels(reports: &[&Report]) -> Vec<Labels> {
    let differing: Vec<_> = NUMBERS
        .iter()
        .filter(|(_, number)| reports.windows(2).any(|pair| number(pair[0]) != number(pair[1])))
        .collect();
    let labels = |report: &&Report| {
        let mut labels = of_plan(&report.plan);
        // a label without value is the same as none
        let numbers = differing.iter().filter_map(|(name, number)| Some(((*name).into(), number(report)?)));
        labels.extend(numbers);
        labels
    };
    reports.iter().map(labels).collect()
}

/// `model` and `test`, which every series has.
pub fn of_plan(plan: &Plan) -> Labels {
    let names = [("model", &plan.request.model), ("test", &plan.test())];
    names.map(|(name, text)| (name.into(), value(text))).into()
}

/// A number of a load as it is written; `None` where the load has none.
type Number = fn(&Report) -> Option<String>;

/// The numbers that may tell loads apart.
const NUMBERS: [(&str, Number); 3] = [
    // of an open loop they are room, not load
    ("threads", |report| (!is_open(report)).then(|| report.plan.load.threads.to_string())),
    ("request_rate", |report| match &report.plan.load.arrivals.as_ref()?.shape {
        Shape::Steady(rate) => Some(rate.per_second().to_string()),
        Shape::AtOnce => Some("inf".to_owned()),
        shape @ (Shape::Ramp(_) | Shape::Stages(_)) => Some(value(&shape.to_string())),
    }),
    ("completions", |report| report.plan.load.completions.map(|count| count.to_string())),
];

/// What is told of a run beside its figures: of these, a new value makes a new series.
pub(super) fn info_labels(report: &Report) -> Labels {
    let plan = &report.plan;
    let simulated = if plan.simulated.is_some() { "true" } else { "false" };
    let ours = [
        ("version", report.tool.version.as_ref()),
        ("commit", report.tool.commit.as_ref()),
        ("config_hash", &plan.hash),
        ("load", &plan.load.to_string()),
        ("simulated", simulated),
        ("complete", if report.complete { "true" } else { "false" }),
    ]
    .map(|(name, text)| (name.into(), value(text)));
    let mut labels = Labels::from(ours);
    for (name, text) in &plan.labels {
        let name = user_label(name);
        // of two names that come to the same the first is kept, for a label must not repeat
        if labels.iter().all(|(known, _)| *known != name) {
            labels.push((name.into(), value(text)));
        }
    }
    labels
}

/// A user's label as one of Prometheus': `label_` before it, so that it is none of ours, and an underscore for what a name
/// cannot have.
fn user_label(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("label_{}", name.chars().map(fit).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::user_label;

    #[test]
    fn a_users_label_has_a_name_that_is_allowed_and_none_of_ours() {
        for (name, want) in
            [("commit", "label_commit"), ("gpu.count", "label_gpu_count"), ("2-é", "label_2__")]
        {
            assert_eq!(user_label(name), want);
        }
    }
}
