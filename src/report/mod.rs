//! From a [`Report`] to bytes: console, JSON, CSV, HTML, Markdown, Prometheus; and the sinks that show or keep records while a run goes on.
//!
//! A format is a plain function over reports and a writer. Nothing here knows how the numbers came about.

mod alert;
mod comparison;
mod console;
mod csv;
mod detail;
mod exchange;
mod file;
mod html;
mod json;
mod junit;
mod limits;
mod markdown;
mod naming;
mod progress;
pub mod prometheus;
mod record_log;
mod sweep;
mod table;
mod trend;
mod vllm;
mod words;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use alert::{ALERT_SCHEMA, Alert, Cause, CauseKind};
pub use comparison::{
    COMPARISON_SCHEMA, Compared, ComparisonReport, print_comparison, write_comparison_json,
    write_comparison_junit, write_comparison_markdown,
};
pub use console::print_report;
pub use csv::{write_csv, write_schedule};
pub use detail::DetailLog;
pub use exchange::{Better, write_bencher, write_github_benchmark};
pub use file::{OutputFile, numbered, remove_unfinished};
pub use html::{write_html, write_trend_html};
pub use json::write_json;
pub use junit::write_junit;
pub use markdown::write_markdown;
pub use progress::Progress;
pub use prometheus::{History, push_groups, write_prometheus};
pub use record_log::{LOG_SCHEMA, LogEnd, LogHead, LogLine, LoggedRecord, MOST_LOST, RecordLog};
pub use sweep::print_sweep;
pub(crate) use table::{print_table_to_the_right, table};
pub use trend::{
    Skipped, TREND_SCHEMA, TrendReport, TrendRun, TrendSeries, print_trend, write_trend_csv,
    write_trend_json, write_trend_markdown,
};
pub use vllm::{VllmRows, write_vllm_json};
pub(crate) use words::UNKNOWN;

use crate::accuracy::Calibration;
use crate::analysis::{self, Ending, Headline, Judgement};
use crate::arrivals::Shape;
use crate::clock::Date;
use crate::health::{Environment, Health};
use crate::observe::ServerSide;
use crate::plan::{Plan, ScheduleHash};
use crate::summary::Summary;
use crate::units::{ratio, show_share};

/// Number of the JSON's form. Fields are added under the same number; a changed meaning raises it.
pub const SCHEMA: u32 = 1;

/// One run: what was planned, where it was made, and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Number of this form, [`SCHEMA`].
    pub schema: u32,
    /// The tool that made it.
    pub tool: Tool,
    /// When the run began, UTC, RFC 3339.
    pub started: String,
    /// When it ended, UTC, RFC 3339.
    pub ended: String,
    /// Whether the run went on to its planned end; false when it was interrupted or stopped.
    pub complete: bool,
    /// Which limit of its own ended the run early, in words; `None` if none did.
    #[serde(default)]
    pub stopped_by: Option<String>,
    /// What was to be done.
    pub plan: Plan,
    /// What tells its schedule from others; `None` in a closed loop. Of a run that was interrupted, the schedule as far
    /// as requests were sent.
    pub schedule: Option<ScheduleHash>,
    /// Where it was done.
    pub environment: Environment,
    /// What it cost the client, and whether its figures can be believed.
    pub health: Health,
    /// What came of it.
    pub summary: Summary,
    /// Whether the run kept its thresholds, in their order.
    #[serde(default)]
    pub thresholds: Vec<Judgement>,
    /// The server's own account; `None` when it gives none or it was not asked.
    pub server: Option<ServerSide>,
    /// The client's own share in the times; `None` unless it was asked for.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// What a reader of this report should know beside the figures.
    pub warnings: Vec<String>,
}

impl Report {
    /// The report with its figures held to the plan's thresholds.
    pub fn judged(mut self) -> Self {
        self.summary.tokens.prefix_cache_hit_share = self.prefix_cache_hit_share();
        let plan = &self.plan;
        self.thresholds = analysis::judge(&plan.thresholds, &plan.load, &self.summary, self.health.verdict);
        self
    }

    /// How the run ended, and so what of it can be held against others.
    pub fn ending(&self) -> Ending {
        match (self.complete, &self.stopped_by) {
            (true, _) => Ending::Planned,
            (false, Some(_)) => Ending::Limit,
            (false, None) => Ending::Interrupted,
        }
    }

    /// What its figures say, in sentences; see [`analysis::remarks`].
    pub fn remarks(&self) -> Vec<String> {
        let (load, summary) = (&self.plan.load, &self.summary);
        let short = self.complete.then(|| analysis::short_schedule(load, summary)).flatten();
        let remarks = analysis::remarks(load, summary, self.server_time_per_token_ms());
        short.into_iter().chain(self.cached()).chain(remarks).collect()
    }

    /// What stands before its figures; see [`analysis::headlines`].
    pub fn headlines(&self) -> Vec<Headline> {
        analysis::headlines(&self.plan.load, &self.summary)
    }

    /// The share of the prompt tokens that the server had in its prefix cache; see [`Tokens`](crate::summary::Tokens). Known of
    /// results of former versions, too.
    pub fn prefix_cache_hit_share(&self) -> Option<f64> {
        let tokens = &self.summary.tokens;
        let by_usage = tokens.cached.zip(tokens.input).and_then(|(cached, input)| ratio(cached, input));
        let by_server = || self.server.as_ref()?.window.prefix_cache_hit_share;
        tokens.prefix_cache_hit_share.or(by_usage).or_else(by_server)
    }

    /// What a share of the prefix cache says of the run that nobody may have wanted.
    fn cached(&self) -> Option<String> {
        let (share, unique) = (self.prefix_cache_hit_share()?, self.plan.unique_prompts);
        let said = match unique {
            false if share > 0.5 => {
                "TTFT and throughput are those of a cache that had seen the prompts; --unique-prompts keeps it out"
            }
            true if share > 0.1 => {
                "although each prompt begins with a salt of its own: the server has other traffic, or something stands \
                 before the prompts, such as a chat template"
            }
            _ => return None,
        };
        Some(format!(
            "{} of the prompt tokens came from the server's prefix cache: {said}",
            show_share(share)
        ))
    }

    /// The mean time of a token by the server's account. Its ITL is of steps, which are those of tokens unless it
    /// speculates; then the mean of its times per token of a request stands in. `None` where it does not tell.
    fn server_time_per_token_ms(&self) -> Option<f64> {
        let window = &self.server.as_ref()?.window;
        let times = if window.spec_decode.is_some() { &window.tpot_s } else { &window.itl_s };
        Some(times.as_ref()?.mean_s? * 1e3).filter(|ms| *ms > 0.0)
    }

    /// Whether a threshold failed; `strict` counts an inconclusive one as failed.
    pub fn breaks_threshold(&self, strict: bool) -> bool {
        self.thresholds.iter().any(|judged| judged.verdict.is_bad(strict))
    }
}

/// The tool and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its version.
    pub version: Cow<'static, str>,
    /// The commit it was built from; `unknown` outside a checkout.
    pub commit: Cow<'static, str>,
}

impl Tool {
    /// This build.
    pub const THIS: Self = Self {
        name: Cow::Borrowed(env!("CARGO_PKG_NAME")),
        version: Cow::Borrowed(env!("CARGO_PKG_VERSION")),
        commit: Cow::Borrowed(env!("VLLM_LOADGEN_COMMIT")),
    };
}

/// A file name for results that is made of the plan and the date:
/// `small-load_c100_t20_20261124T055113Z.json`.
pub fn file_name(plan: &Plan, date: Date, extension: &str) -> String {
    let scenario = plan.scenario.as_deref().map(slug).filter(|s| !s.is_empty());
    let name = scenario.unwrap_or_else(|| "benchmark".to_owned());
    let completions = plan.load.completions.map(|n| format!("_c{n}")).unwrap_or_default();
    let duration = plan.load.duration.map(|d| format!("_d{}s", d.as_secs_f64())).unwrap_or_default();
    let rate = plan.load.arrivals.as_ref().map(|arrivals| rate_name(&arrivals.shape)).unwrap_or_default();
    format!("{name}{completions}{duration}{rate}_t{}_{}.{extension}", plan.load.threads, date.compact())
}

fn rate_name(shape: &Shape) -> String {
    match shape {
        Shape::Steady(rate) => format!("_r{}", rate.per_second()),
        Shape::Ramp(ramp) => format!("_r{}-{}", ramp.from, ramp.to),
        Shape::Stages(stages) => format!("_{}stages", stages.len()),
        Shape::AtOnce => "_rinf".to_owned(),
    }
}

/// A name as part of a file name: lower case letters, digits and hyphens, at most 60.
fn slug(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            out.push(c);
        } else if !out.ends_with('-') && !out.is_empty() {
            out.push('-');
        }
    }
    out.chars().take(60).collect::<String>().trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn names_become_safe_parts_of_file_names() {
        assert_eq!(slug("Small Load"), "small-load");
        assert_eq!(slug("../../etc/passwd"), "etc-passwd");
        assert_eq!(slug("ÄÖ 9!"), "äö-9");
        assert_eq!(slug("!!!"), "");
    }
}
