//! What others are told where a result is bad: one message, for a web hook or for Prometheus' Alertmanager.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::prometheus::{self, apart, of_plan, value_labels};
use super::words::{UNKNOWN, judgement, with_unit};
use super::{ComparisonReport, Report, Tool};
use crate::clock::Date;
use crate::health::Verdict;
use crate::plan::{Draft, Labels, Plan, shown_labels};
use crate::text::printable;
use crate::units::{show_counted, show_share};

/// The version of what a web hook is sent.
pub const ALERT_SCHEMA: u32 = 1;

/// Something is bad, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// All that is bad; at least one.
    pub causes: Vec<Cause>,
    /// The runs that it was found in.
    runs: Vec<Run>,
    /// Of each run, the labels that tell its series from those of the others.
    series: Vec<prometheus::Labels>,
}

/// One thing that is bad.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    /// What sort of thing.
    pub kind: CauseKind,
    /// The figures behind it, in words.
    pub text: String,
    /// Number of its run in `runs`, from 0.
    pub run: usize,
}

/// What an alert can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// A `--threshold` failed, or is inconclusive and `--strict` was given.
    Threshold,
    /// Not one request succeeded, or none could be sent for a reason of the server's.
    NoSuccess,
    /// A limit of its own ended the run early.
    EndedEarly,
    /// The client judged itself INVALID, and `--strict` was given.
    ClientInvalid,
    /// A metric is worse than that of the runs compared with, or it cannot be told and `--strict` was given.
    Regression,
}

/// What is told of a run; nothing in it is a secret, and no prompt or reply is in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Run {
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    started: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    test: String,
    labels: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Verdict>,
    complete: bool,
}

impl CauseKind {
    /// The name under which Alertmanager knows it; those of `configs/prometheus/rules.yml` where they say the same.
    fn alert_name(self) -> &'static str {
        match self {
            Self::Threshold => "VllmLoadgenThresholdFailed",
            Self::NoSuccess => "VllmLoadgenNoSuccess",
            Self::EndedEarly => "VllmLoadgenEndedEarly",
            Self::ClientInvalid => "VllmLoadgenClientInvalid",
            Self::Regression => "VllmLoadgenRegression",
        }
    }

    fn severity(self) -> &'static str {
        match self {
            Self::Threshold | Self::NoSuccess | Self::EndedEarly => "critical",
            Self::ClientInvalid | Self::Regression => "warning",
        }
    }
}

impl Alert {
    /// What is bad in these runs, by which their command ends with a code of its own; `None` where all is well. `strict`
    /// takes what is inconclusive or INVALID for bad. A run that was interrupted is not bad: who did that knows. `not_made` is
    /// a run after them that could not be made for a reason of the server's, in words.
    pub fn of_runs(reports: &[Report], not_made: Option<(&Plan, &str)>, strict: bool) -> Option<Self> {
        let is_own_end = |report: &Report| report.complete || report.stopped_by.is_some();
        let ended = reports.iter().enumerate().filter(|(_, report)| is_own_end(report));
        let mut causes: Vec<Cause> = ended.flat_map(|(run, report)| causes(report, run, strict)).collect();
        causes.extend(not_made.map(|(_, why)| no_run(why, reports.len())));
        let runs = reports.iter().map(Run::of_report).chain(not_made.map(|(plan, _)| Run::of_plan(plan)));
        let mut series = value_labels(&reports.iter().collect::<Vec<_>>());
        series.extend(not_made.map(|(plan, _)| of_plan(plan)));
        Self::new(causes, runs.collect(), apart(series))
    }

    /// That nothing could be made of the draft for a reason of the server's, in words.
    pub fn of_draft(draft: &Draft, why: &str) -> Self {
        let run = Run::of_draft(draft);
        Self { causes: vec![no_run(why, 0)], series: vec![run.series()], runs: vec![run] }
    }

    /// What has become worse, likewise.
    pub fn of_comparison(report: &ComparisonReport, strict: bool) -> Option<Self> {
        let worse = report.comparison.metrics.iter().filter(|row| row.verdict.is_bad(strict)).map(|row| {
            let value =
                |value: Option<f64>| value.map_or(UNKNOWN.to_owned(), |value| with_unit(value, row.unit));
            let change = row.change.map_or(String::new(), |change| format!(" ({:+.1}%)", change * 100.0));
            let (base, new) = (value(row.base.value), value(row.new.value));
            let note = row.note.as_ref().map_or(String::new(), |note| format!("; {note}"));
            let text = format!("{} is {}: {new} after {base}{change}{note}", row.metric, row.verdict.name());
            Cause { kind: CauseKind::Regression, text, run: 0 }
        });
        // what a base run has is told of the first that is judged by it
        let runs = report.new.iter().enumerate().chain(report.base.iter().map(|run| (0, run)));
        let invalid = runs.filter(|(_, run)| strict && run.health == Verdict::Invalid);
        let invalid = invalid.map(|(run, compared)| Cause {
            kind: CauseKind::ClientInvalid,
            text: format!("the client of {} judged itself INVALID", printable(&compared.file, 120)),
            run,
        });
        let runs = report.new.iter().map(|run| Run {
            run_id: None,
            file: Some(printable(&run.file, 200)),
            started: run.started.clone(),
            model: Some(printable(&run.model, 200)),
            test: printable(&run.test, 200),
            labels: run.labels.clone(),
            plan_hash: Some(run.plan_hash.clone()),
            health: Some(run.health),
            complete: run.complete,
        });
        let runs: Vec<Run> = runs.collect();
        let series = runs.iter().map(Run::series).collect();
        Self::new(worse.chain(invalid).collect(), runs, apart(series))
    }

    fn new(causes: Vec<Cause>, runs: Vec<Run>, series: Vec<prometheus::Labels>) -> Option<Self> {
        (!causes.is_empty()).then_some(Self { causes, runs, series })
    }

    /// A line that says it: what chat programs show of a web hook.
    fn text(&self) -> String {
        let first = &self.causes[0];
        let more = match self.causes.len() - 1 {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let run = &self.runs[first.run];
        let model = run.model.as_ref().map_or(String::new(), |model| format!(" of {model}"));
        format!("vllm-loadgen, {}{model}: {}{more}", run.test, first.text)
    }

    /// The object that a web hook is sent, described in `docs/monitoring.md`.
    pub fn webhook(&self) -> Value {
        json!({
            "alert": ALERT_SCHEMA,
            "tool": Tool::THIS,
            "text": self.text(),
            "causes": self.causes,
            "runs": self.runs,
        })
    }

    /// The alerts that Alertmanager's `/api/v2/alerts` is sent: one for each sort of cause in each run. Alerts of the same
    /// labels are one to it, so they have those that tell the runs apart.
    pub fn alertmanager(&self) -> Value {
        let mut alerts: Vec<Value> = Vec::new();
        let mut told: Vec<(CauseKind, usize)> = Vec::new();
        for cause in &self.causes {
            if told.contains(&(cause.kind, cause.run)) {
                continue;
            }
            told.push((cause.kind, cause.run));
            let same = self.causes.iter().filter(|other| (other.kind, other.run) == (cause.kind, cause.run));
            let texts: Vec<&str> = same.map(|other| other.text.as_str()).collect();
            let run = &self.runs[cause.run];
            let ours = [
                ("alertname", cause.kind.alert_name()),
                ("severity", cause.kind.severity()),
                ("job", "vllm-loadgen"),
            ];
            let mut labels: Map<String, Value> =
                ours.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
            // a regression is one of all runs together
            let is_told = |name: &str| name != "run" || cause.kind != CauseKind::Regression;
            let series = self.series[cause.run].iter().filter(|(name, _)| is_told(name));
            labels.extend(series.map(|(name, value)| (name.to_string(), value.as_str().into())));
            alerts.push(json!({
                "labels": labels,
                "annotations": {
                    "summary": texts[0],
                    "description": texts.join("; "),
                    "labels": shown_labels(&run.labels),
                    "started": run.started,
                },
            }));
        }
        Value::Array(alerts)
    }
}

impl Run {
    fn of_report(report: &Report) -> Self {
        let plan = &report.plan;
        Self {
            run_id: Some(plan.run_id.clone()),
            file: None,
            started: report.started.clone(),
            model: Some(printable(&plan.request.model, 200)),
            test: printable(&plan.test(), 200),
            labels: plan.labels.clone(),
            plan_hash: Some(plan.hash.clone()),
            health: Some(report.health.verdict),
            complete: report.complete,
        }
    }

    /// A run that could not be made.
    fn of_plan(plan: &Plan) -> Self {
        Self {
            run_id: Some(plan.run_id.clone()),
            file: None,
            started: Date::now().rfc3339(),
            model: Some(printable(&plan.request.model, 200)),
            test: printable(&plan.test(), 200),
            labels: plan.labels.clone(),
            plan_hash: Some(plan.hash.clone()),
            health: None,
            complete: false,
        }
    }

    /// Runs of which there is not even a plan.
    fn of_draft(draft: &Draft) -> Self {
        let test = draft.test_name.as_ref().map_or("default", |name| &name.value);
        Self {
            run_id: None,
            file: None,
            started: Date::now().rfc3339(),
            model: draft.model.as_ref().map(|model| printable(&model.value, 200)),
            test: printable(test, 200),
            labels: draft.labels.iter().map(|label| label.value.clone()).collect(),
            plan_hash: None,
            health: None,
            complete: false,
        }
    }

    fn series(&self) -> prometheus::Labels {
        let model = self.model.iter().map(|model| ("model".into(), model.clone()));
        model.chain([("test".into(), self.test.clone())]).collect()
    }
}

fn no_run(why: &str, run: usize) -> Cause {
    Cause { kind: CauseKind::NoSuccess, text: printable(why, 300), run }
}

fn causes(report: &Report, run: usize, strict: bool) -> Vec<Cause> {
    let requests = &report.summary.requests;
    let mut causes = Vec::new();
    let mut add = |kind, text| causes.push(Cause { kind, text, run });
    if requests.succeeded == 0 {
        let sent = show_counted(requests.sent, "request");
        let most = report.summary.errors.first();
        let most =
            most.map_or(String::new(), |line| format!(", most failed with {}", printable(&line.kind, 60)));
        add(CauseKind::NoSuccess, format!("none of {sent} succeeded{most}"));
    }
    if let Some(limit) = &report.stopped_by {
        let share = requests.success_rate.map_or("none".to_owned(), show_share);
        add(CauseKind::EndedEarly, format!("ended early, {share} succeeded: {}", printable(limit, 300)));
    }
    for judged in report.thresholds.iter().filter(|judged| judged.verdict.is_bad(strict)) {
        let (threshold, verdict) = (printable(&judged.threshold, 200), judged.verdict.name());
        add(CauseKind::Threshold, format!("{threshold} {verdict}: {}", printable(&judgement(judged), 300)));
    }
    if strict && report.health.verdict == Verdict::Invalid {
        let why =
            report.health.reasons.first().map_or(String::new(), |why| format!(": {}", printable(why, 300)));
        add(CauseKind::ClientInvalid, format!("the client judged itself INVALID{why}"));
    }
    causes
}
