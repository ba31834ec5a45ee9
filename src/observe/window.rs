//! What the server says happened between two readings of its metrics.
//!
//! All traffic of the server counts, not only ours; a client that hangs up is counted in few of these.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::gauges::GaugeSummary;
use super::histogram::HistogramDelta;
use super::names::{self, Flavour, Metric, Part};
use super::reading::{Family, Reading, Series};
use crate::secret::{MASK, Secret, is_secret_field, redacted};
use crate::text::printable;
use crate::units::ratio;

/// The server's own account of a run. `None` is what it does not tell; times are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerWindow {
    /// Whose metrics these are.
    pub flavour: Flavour,
    /// Requests that ended, by whatever reason the server counts.
    pub requests_finished: Option<u64>,
    /// The same by finish reason, with the reasons that did not occur; empty where the server does not tell.
    pub finished_by_reason: BTreeMap<String, u64>,
    /// Requests that the server counts as failed or aborted. vLLM's are among those finished.
    pub requests_failed: Option<u64>,
    /// Requests refused at the door because too many were queued.
    pub rejections: Option<u64>,
    /// Tokens of prompts taken in.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated.
    pub generation_tokens: Option<u64>,
    /// Times a running request had to give way and start over or wait.
    pub preemptions: Option<u64>,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_cache_queries_tokens: Option<u64>,
    /// Prompt tokens found there.
    pub prefix_cache_hits_tokens: Option<u64>,
    /// Share of what was looked up that was found, 0 to 1. `None` if nothing was looked up.
    pub prefix_cache_hit_share: Option<f64>,
    /// Time to first token, from arrival at the server.
    pub ttft_s: Option<HistogramDelta>,
    /// Time between tokens. llama.cpp: generating time over tokens, without quantiles.
    pub itl_s: Option<HistogramDelta>,
    /// Time per output token, one value a request.
    pub tpot_s: Option<HistogramDelta>,
    /// Whole requests, from arrival to the last token.
    pub e2e_s: Option<HistogramDelta>,
    /// Waiting for the engine.
    pub queue_s: Option<HistogramDelta>,
    /// From the engine's start on a request to its first token.
    pub prefill_s: Option<HistogramDelta>,
    /// From first to last token.
    pub decode_s: Option<HistogramDelta>,
    /// Speculative decoding; `None` where it is off.
    pub spec_decode: Option<SpecDecode>,
    /// The engine's cache configuration as vLLM shows it: `block_size`, `num_gpu_blocks` and more; else empty.
    pub config: BTreeMap<String, String>,
    /// What a reader of these numbers should know.
    pub warnings: Vec<String>,
}

/// The server's own account of a run, from its `/metrics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerSide {
    /// What changed from before the run to after it, the warm-up included.
    pub window: ServerWindow,
    /// Load of the server while the run went on; `None` when it was not read in between.
    pub gauges: Option<GaugeSummary>,
}

/// What speculative decoding did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpecDecode {
    /// Rounds of drafting.
    pub drafts: Option<u64>,
    /// Tokens drafted.
    pub draft_tokens: u64,
    /// Drafted tokens that the model took.
    pub accepted_tokens: u64,
    /// Accepted tokens over drafted tokens, 0 to 1. `None` if none were drafted.
    pub acceptance_share: Option<f64>,
    /// Mean tokens won per round: 1 + accepted tokens / drafts. `None` without drafts.
    pub acceptance_length: Option<f64>,
    /// Accepted tokens by their place in the draft, from 0.
    pub accepted_tokens_by_position: BTreeMap<u32, u64>,
}

impl ServerWindow {
    /// Masks what the server's labels echo of secrets, and the values of labels that are named as secrets are.
    pub fn redact(&mut self, secrets: &[Secret]) {
        let masked = |(name, value): (String, String)| {
            let value = if is_secret_field(&name) { MASK.to_owned() } else { redacted(&value, secrets) };
            (redacted(&name, secrets), value)
        };
        self.config = std::mem::take(&mut self.config).into_iter().map(masked).collect();
        let reasons = std::mem::take(&mut self.finished_by_reason).into_iter();
        self.finished_by_reason =
            reasons.map(|(reason, count)| (redacted(&reason, secrets), count)).collect();
    }

    /// What happened from `before` to `after`.
    ///
    /// What only the later reading has began at 0 in between, for servers show many a series on first use only; what
    /// only the earlier one has is unknown and warned of.
    ///
    /// # Errors
    /// When the two are not readings of one server that ran on: it says why, in words for a warning.
    pub fn between(before: &Reading, after: &Reading) -> Result<Self, String> {
        check_same_server(before, after)?;
        let mut growth = Growth { before, after, unclear: BTreeSet::new() };
        let finished_by_reason = growth.by_label(Metric::Finished, "finished_reason");
        let queries = growth.count(Metric::PrefixQueries);
        let hits = growth.count(Metric::PrefixHits);
        let share = share(hits, queries).or_else(|| growth.hit_share_of_unknown_unit());
        Ok(Self {
            flavour: after.flavour,
            requests_finished: growth.count(Metric::Finished),
            requests_failed: growth.count(Metric::Failed).or_else(|| failed(&finished_by_reason)),
            finished_by_reason,
            rejections: growth.count(Metric::Rejections),
            prompt_tokens: growth.tokens(Metric::PromptTokens, Metric::PromptTokensPerRequest),
            generation_tokens: growth.tokens(Metric::GenerationTokens, Metric::GenerationTokensPerRequest),
            preemptions: growth.count(Metric::Preemptions),
            prefix_cache_queries_tokens: queries,
            prefix_cache_hits_tokens: hits,
            prefix_cache_hit_share: share,
            ttft_s: growth.histogram(Metric::Ttft),
            itl_s: growth.histogram(Metric::Itl).or_else(|| growth.mean_itl()),
            tpot_s: growth.histogram(Metric::Tpot),
            e2e_s: growth.histogram(Metric::E2e),
            queue_s: growth.histogram(Metric::Queue),
            prefill_s: growth.histogram(Metric::Prefill),
            decode_s: growth.histogram(Metric::Decode),
            spec_decode: growth.spec_decode(),
            config: after.config.clone(),
            warnings: growth.warnings(),
        })
    }
}

/// vLLM's reasons that are no success.
fn failed(finished_by_reason: &BTreeMap<String, u64>) -> Option<u64> {
    let of = |reason| finished_by_reason.get(reason).copied();
    Some(of("abort")? + of("error").unwrap_or(0))
}

fn share(part: Option<u64>, of: Option<u64>) -> Option<f64> {
    ratio(part?, of?)
}

/// One process that ran on has one start and no metric that fell.
fn check_same_server(before: &Reading, after: &Reading) -> Result<(), String> {
    if before.flavour != after.flavour {
        let (first, second) = (before.flavour.name(), after.flavour.name());
        return Err(format!(
            "the first reading comes from {first}, the second from {second}: server metrics are left out"
        ));
    }
    let (first, second) = (&before.process_starts, &after.process_starts);
    if !first.is_empty() && !second.is_empty() && first != second {
        return Err(not_one_server("'process_start_time_seconds' changed"));
    }
    match names::rising_names(after.flavour).find(|name| fell(before, after, name)) {
        Some(name) => Err(not_one_server(&format!("'{name}' fell"))),
        None => Ok(()),
    }
}

fn not_one_server(sign: &str) -> String {
    format!(
        "{sign}: the server restarted, or a proxy answered from another replica: server metrics are left out; \
         name the address of each server itself"
    )
}

fn fell(before: &Reading, after: &Reading, name: &str) -> bool {
    let (Some(before), Some(after)) = (before.families.get(name), after.families.get(name)) else {
        return false;
    };
    // sums of several processes are added up anew at each reading, and not always in the same order
    let dropped = |was: f64, is: f64| was - is > was * 1e-9;
    before.iter().any(|(series, was)| after.get(series).is_some_and(|is| dropped(*was, *is)))
}

/// What metrics grew by between two readings of one server.
struct Growth<'a> {
    before: &'a Reading,
    after: &'a Reading,
    /// Names of metrics about which the readings leave a doubt.
    unclear: BTreeSet<&'static str>,
}

impl<'a> Growth<'a> {
    /// The growth of each series of one part of a metric. `None` if a series of it went missing or may have.
    fn series(&mut self, metric: Metric, part: Part) -> Option<Vec<(&'a Series, f64)>> {
        let name = self.before.name_of(metric).or_else(|| self.after.name_of(metric))?;
        let of_part = |family: &'a Family| family.iter().filter(move |(series, _)| series.part == part);
        let before = self.before.families.get(name);
        let after = self.after.families.get(name);
        let went_missing = before.is_some_and(|before| {
            of_part(before).any(|(series, _)| !after.is_some_and(|a| a.contains_key(series)))
        });
        let grown = of_part(after.filter(|_| !went_missing).or_else(|| self.doubt(name))?)
            .map(|(series, is)| (series, before.and_then(|before| before.get(series)), *is))
            .collect::<Vec<_>>();
        let is_new = grown.iter().any(|(_, was, _)| was.is_none());
        if is_new && (self.before.cut_off || self.after.cut_off) {
            return self.doubt(name);
        }
        let growth =
            |(series, was, is): (_, Option<&f64>, f64)| (series, (is - was.unwrap_or(&0.0)).max(0.0));
        (!grown.is_empty()).then(|| grown.into_iter().map(growth).collect())
    }

    fn total(&mut self, metric: Metric, part: Part) -> Option<f64> {
        Some(self.series(metric, part)?.into_iter().map(|(_, growth)| growth).sum())
    }

    /// The growth of a metric that counts, over all its labels.
    fn count(&mut self, metric: Metric) -> Option<u64> {
        let total = self.total(metric, Part::Value)?;
        self.whole(metric, total)
    }

    fn tokens(&mut self, counted: Metric, per_request: Metric) -> Option<u64> {
        self.count(counted).or_else(|| {
            let total = self.total(per_request, Part::Sum)?;
            self.whole(per_request, total)
        })
    }

    fn by_label(&mut self, metric: Metric, label: &str) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (series, growth) in self.series(metric, Part::Value).unwrap_or_default() {
            if let Some(value) = series.label(label)
                && let Some(growth) = self.whole(metric, growth)
            {
                *counts.entry(printable(value, 40)).or_insert(0) += growth;
            }
        }
        counts
    }

    fn histogram(&mut self, metric: Metric) -> Option<HistogramDelta> {
        let buckets = self.series(metric, Part::Bucket).unwrap_or_default();
        let buckets: Vec<_> =
            buckets.into_iter().filter_map(|(series, growth)| Some((edge(series)?, growth))).collect();
        let sum = self.total(metric, Part::Sum).filter(|sum| sum.is_finite());
        let count = self.total(metric, Part::Count)?;
        Some(HistogramDelta::new(self.whole(metric, count)?, sum, buckets))
    }

    /// For servers that tell no more than seconds and tokens.
    fn mean_itl(&mut self) -> Option<HistogramDelta> {
        let seconds = self.total(Metric::DecodeSeconds, Part::Value)?;
        Some(HistogramDelta::new(self.count(Metric::GenerationTokens)?, Some(seconds), Vec::new()))
    }

    fn hit_share_of_unknown_unit(&mut self) -> Option<f64> {
        share(self.count(Metric::PrefixHitsUnitUnknown), self.count(Metric::PrefixQueriesUnitUnknown))
    }

    fn spec_decode(&mut self) -> Option<SpecDecode> {
        let draft_tokens = self.count(Metric::DraftTokens)?;
        let accepted_tokens = self.count(Metric::AcceptedTokens)?;
        let drafts = self.count(Metric::Drafts);
        let by_position = self.by_label(Metric::AcceptedTokensPerPosition, "position");
        Some(SpecDecode {
            drafts,
            draft_tokens,
            accepted_tokens,
            acceptance_share: share(Some(accepted_tokens), Some(draft_tokens)),
            acceptance_length: share(Some(accepted_tokens), drafts).map(|per_draft| 1.0 + per_draft),
            accepted_tokens_by_position: by_position
                .into_iter()
                .filter_map(|(position, tokens)| Some((position.parse().ok()?, tokens)))
                .collect(),
        })
    }

    /// A count as it must be: whole, and below the numbers where the wire's floating point loses units.
    fn whole(&mut self, metric: Metric, count: f64) -> Option<u64> {
        const EXACT: f64 = (1_u64 << 53) as f64;
        if count.fract() == 0.0 && count <= EXACT {
            return Some(count as u64);
        }
        let name = self.after.name_of(metric)?;
        self.doubt(name)
    }

    /// Notes a doubt about the metric of this name.
    fn doubt<T>(&mut self, name: &'static str) -> Option<T> {
        self.unclear.insert(name);
        None
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (which, reading) in [("first", self.before), ("second", self.after)] {
            warnings.extend(flaws(which, reading));
        }
        let unclear = self.unclear.iter();
        warnings
            .extend(unclear.map(|name| {
                format!("'{name}' is incomplete in a reading, or no whole number, and left out")
            }));
        warnings
    }
}

/// A bucket's upper edge in seconds.
fn edge(bucket: &Series) -> Option<f64> {
    bucket.label("le")?.parse().ok()
}

fn flaws(which: &str, reading: &Reading) -> Vec<String> {
    let mut flaws = Vec::new();
    if reading.cut_off {
        flaws.push(format!("the {which} reading of the server's metrics was cut off"));
    }
    if reading.unreadable_lines > 0 {
        let lines = reading.unreadable_lines;
        flaws.push(format!("{lines} lines of the {which} reading of the server's metrics make no sense"));
    }
    let gauges = reading.gauges();
    let busy = gauges.running.unwrap_or(0.0) + gauges.waiting.unwrap_or(0.0);
    if busy > 0.0 {
        flaws.push(format!(
            "{busy} requests were in the server at the {which} reading: its numbers hold parts of other work"
        ));
    }
    flaws
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reading::tests::any_line;
    use super::*;

    const BEFORE: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/metrics/metrics_before.prom"));
    const AFTER: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/metrics/metrics_after.prom"));
    const OTHER: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/metrics/metrics_loaded_C.prom"));

    fn read(text: &str) -> Reading {
        Reading::parse(text).expect("known names")
    }

    fn window(before: &str, after: &str) -> ServerWindow {
        ServerWindow::between(&read(before), &read(after)).expect("one server")
    }

    fn refused(before: &str, after: &str, want: &str) {
        let why = ServerWindow::between(&read(before), &read(after)).expect_err(want);
        assert!(why.contains(want), "{why}");
    }

    fn near(have: Option<f64>, want: f64, tolerance: f64) {
        let have = have.expect("known");
        assert!((have - want).abs() <= tolerance, "{have} is not {want}");
    }

    #[test]
    fn a_real_run_of_64_requests_is_told_exactly() {
        let window = window(BEFORE, AFTER);
        assert_eq!(window.flavour, Flavour::Vllm);
        assert_eq!(window.requests_finished, Some(64));
        assert_eq!(window.finished_by_reason["length"], 64);
        assert_eq!(window.finished_by_reason["stop"], 0);
        assert_eq!(window.requests_failed, Some(0));
        assert_eq!((window.prompt_tokens, window.generation_tokens), (Some(4096), Some(2048)));
        assert_eq!((window.rejections, window.preemptions), (Some(0), Some(0)));
        assert_eq!(window.prefix_cache_hits_tokens, Some(0));
        assert_eq!(window.prefix_cache_hit_share, Some(0.0));
        assert_eq!(window.prompt_tokens, window.prefix_cache_queries_tokens);
        assert_eq!(window.spec_decode, None);
        assert_eq!(window.config["block_size"], "128");
        assert_eq!(window.warnings, Vec::<String>::new());
    }

    #[test]
    fn its_latencies_are_those_of_the_field_notes() {
        let window = window(BEFORE, AFTER);
        let [ttft, itl, tpot, e2e] =
            [window.ttft_s, window.itl_s, window.tpot_s, window.e2e_s].map(|h| h.expect("vLLM tells it"));
        assert_eq!([ttft.count, itl.count, tpot.count, e2e.count], [64, 1984, 64, 64]);
        near(ttft.mean_s, 0.0262, 0.000_05);
        near(itl.mean_s, 0.008_95, 0.000_005);
        near(tpot.mean_s, 0.008_95, 0.000_005);
        near(e2e.mean_s, 0.304, 0.000_5);
        // up to 20, 40, 60 ms the buckets hold 17, 60, 64 of the 64
        near(ttft.p50_s, 0.02 + 0.02 * (32.0 - 17.0) / 43.0, 1e-9);
        near(ttft.p99_s, 0.04 + 0.02 * (63.36 - 60.0) / 4.0, 1e-9);
        // 0.1 ms each, in a first bucket of 300 ms
        assert_eq!(window.queue_s.as_ref().and_then(|queue| queue.p50_s), None);
        for phase in [window.queue_s, window.prefill_s, window.decode_s] {
            assert_eq!(phase.expect("vLLM tells it").count, 64);
        }
    }

    #[test]
    fn unknown_is_null_and_units_stand_in_names() {
        let json = serde_json::json!(window("tgi_request_success 1\n", "tgi_request_success 3\n"));
        assert_eq!(json["flavour"], "tgi");
        assert_eq!(json["requests_finished"], 2);
        assert_eq!(json["ttft_s"], serde_json::Value::Null);
        assert_eq!(json["generation_tokens"], serde_json::Value::Null);
    }

    #[test]
    fn another_process_is_another_server() {
        refused(BEFORE, OTHER, "'process_start_time_seconds' changed");
    }

    #[test]
    fn a_counter_that_fell_is_another_server() {
        refused(AFTER, BEFORE, "fell: the server restarted, or a proxy");
        refused("vllm:prompt_tokens_total 5\n", "vllm:prompt_tokens_total 4\n", "'vllm:prompt_tokens' fell");
    }

    #[test]
    fn one_engine_that_restarted_cannot_hide_behind_another() {
        let before = "vllm:prompt_tokens_total{engine=\"0\"} 5\nvllm:prompt_tokens_total{engine=\"1\"} 5\n";
        let after = "vllm:prompt_tokens_total{engine=\"0\"} 1\nvllm:prompt_tokens_total{engine=\"1\"} 99\n";
        refused(before, after, "fell");
    }

    #[test]
    fn another_kind_of_server_is_refused() {
        refused("tgi_queue_size 1\n", "vllm:prompt_tokens_total 4\n", "from tgi, the second from vllm");
    }

    #[test]
    fn a_gauge_may_fall() {
        window("vllm:num_requests_running 5\n", "vllm:num_requests_running 4\n");
    }

    #[test]
    fn counts_stay_exact_where_floating_point_is() {
        let window = window("vllm:prompt_tokens_total 1\n", "vllm:prompt_tokens_total 9007199254740992.0\n");
        assert_eq!(window.prompt_tokens, Some(9_007_199_254_740_991));
    }

    #[test]
    fn what_is_no_whole_number_is_no_count() {
        let window = window("vllm:prompt_tokens_total 1\n", "vllm:prompt_tokens_total 2.5\n");
        assert_eq!(window.prompt_tokens, None);
        assert_eq!(
            window.warnings,
            ["'vllm:prompt_tokens' is incomplete in a reading, or no whole number, and left out"]
        );
    }

    #[test]
    fn a_series_shown_on_first_use_counts_from_zero() {
        let before = "tgi_queue_size 0\ntgi_request_failure{err=\"validation\"} 2\n";
        let after = "tgi_queue_size 0\ntgi_request_failure{err=\"validation\"} 2\ntgi_request_failure{err=\"overloaded\"} 3\n\
                     tgi_request_success 7\n";
        let window = window(before, after);
        assert_eq!((window.requests_failed, window.requests_finished), (Some(3), Some(7)));
    }

    #[test]
    fn a_series_that_went_missing_makes_its_metric_unknown() {
        let before = "vllm:prompt_tokens_total{engine=\"0\"} 1\nvllm:prompt_tokens_total{engine=\"1\"} 1\n\
                      vllm:generation_tokens_total 4\nvllm:num_preemptions_total 1\n";
        let after = "vllm:prompt_tokens_total{engine=\"0\"} 9\nvllm:generation_tokens_total 5\n";
        let window = window(before, after);
        assert_eq!(
            (window.prompt_tokens, window.preemptions, window.generation_tokens),
            (None, None, Some(1))
        );
        assert_eq!(window.warnings.len(), 2, "{:?}", window.warnings);
    }

    #[test]
    fn text_cut_at_any_byte_gives_no_wrong_number() {
        let (first, second) = (excerpt(BEFORE), excerpt(AFTER));
        for cut in 0..first.len() {
            check_cut(Reading::parse(&first[..cut]), Reading::parse(&second));
        }
        for cut in 0..second.len() {
            check_cut(Reading::parse(&first), Reading::parse(&second[..cut]));
        }
    }

    /// A few metrics of the capture, few enough to cut the text everywhere.
    fn excerpt(text: &str) -> String {
        let names =
            ["vllm:request_success_total", "vllm:prompt_tokens_total", "vllm:time_to_first_token_seconds"];
        let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        lines.map(|line| format!("{line}\n")).collect()
    }

    fn check_cut(before: Result<Reading, String>, after: Result<Reading, String>) {
        let (Ok(before), Ok(after)) = (before, after) else { return };
        let window = ServerWindow::between(&before, &after).expect("one server");
        if before.cut_off || after.cut_off {
            assert!(window.requests_finished.is_none_or(|count| count == 64));
            assert!(window.prompt_tokens.is_none_or(|count| count == 4096));
            assert!(window.ttft_s.is_none_or(|ttft| ttft.count == 64));
            assert!(!window.warnings.is_empty());
        }
    }

    #[test]
    fn old_vllm_names_are_understood() {
        let before = "vllm:time_per_output_token_seconds_count 0\nvllm:time_per_output_token_seconds_sum 0\n\
                      vllm:gpu_prefix_cache_queries_total 0\nvllm:gpu_prefix_cache_hits_total 0\n";
        let after = "vllm:time_per_output_token_seconds_count 4\nvllm:time_per_output_token_seconds_sum 1\n\
                     vllm:gpu_prefix_cache_queries_total 8\nvllm:gpu_prefix_cache_hits_total 2\n";
        let window = window(before, after);
        assert_eq!(window.itl_s.and_then(|itl| itl.mean_s), Some(0.25));
        assert_eq!(window.prefix_cache_hit_share, Some(0.25));
        // blocks in some versions, tokens in others
        assert_eq!(window.prefix_cache_hits_tokens, None);
    }

    #[test]
    fn sglang_counts_cached_tokens_of_all_sources() {
        let before = "sglang:prompt_tokens_total 100\nsglang:cached_tokens_total{cache_source=\"device\"} 10\n\
                      sglang:num_requests_total 1\n";
        let after = "sglang:prompt_tokens_total 200\nsglang:cached_tokens_total{cache_source=\"device\"} 30\n\
                     sglang:cached_tokens_total{cache_source=\"host\"} 5\nsglang:num_requests_total 3\n\
                     sglang:num_aborted_requests_total 1\nsglang:num_retracted_requests_total 2\n";
        let window = window(before, after);
        assert_eq!(window.prefix_cache_hits_tokens, Some(25));
        assert_eq!(window.prefix_cache_hit_share, Some(0.25));
        assert_eq!(
            (window.requests_finished, window.requests_failed, window.preemptions),
            (Some(2), Some(1), Some(2))
        );
    }

    #[test]
    fn llama_cpp_tells_a_mean_and_no_quantile() {
        let before = "llamacpp:tokens_predicted_total 10\nllamacpp:tokens_predicted_seconds_total 1.5\n";
        let after = "llamacpp:tokens_predicted_total 14\nllamacpp:tokens_predicted_seconds_total 2.5\n";
        let itl = window(before, after).itl_s.expect("seconds and tokens are known");
        assert_eq!((itl.count, itl.mean_s, itl.p50_s), (4, Some(0.25), None));
    }

    #[test]
    fn tgi_tells_tokens_as_sums_of_sizes() {
        let before = "tgi_request_generated_tokens_sum 100\ntgi_request_generated_tokens_count 2\n";
        let after = "tgi_request_generated_tokens_sum 164\ntgi_request_generated_tokens_count 4\n";
        assert_eq!(window(before, after).generation_tokens, Some(64));
    }

    #[test]
    fn speculation_is_told_by_position() {
        let text = |n: u64| {
            format!(
                "vllm:spec_decode_num_drafts_total {}\nvllm:spec_decode_num_draft_tokens_total {}\n\
                 vllm:spec_decode_num_accepted_tokens_total {}\n\
                 vllm:spec_decode_num_accepted_tokens_per_pos_total{{position=\"0\"}} {}\n\
                 vllm:spec_decode_num_accepted_tokens_per_pos_total{{position=\"10\"}} {n}\n",
                10 * n,
                40 * n,
                5 * n,
                4 * n
            )
        };
        let spec = window(&text(1), &text(2)).spec_decode.expect("it is on");
        assert_eq!((spec.drafts, spec.draft_tokens, spec.accepted_tokens), (Some(10), 40, 5));
        assert_eq!((spec.acceptance_share, spec.acceptance_length), (Some(0.125), Some(1.5)));
        assert_eq!(spec.accepted_tokens_by_position, BTreeMap::from([(0, 4), (10, 1)]));
    }

    #[test]
    fn other_work_in_the_server_is_warned_of() {
        let text = "vllm:num_requests_running 2\nvllm:num_requests_waiting 1\nvllm:prompt_tokens_total 1\n";
        let warnings = window(text, text).warnings;
        assert_eq!(warnings.len(), 2);
        assert!(
            warnings[0].starts_with("3 requests were in the server at the first reading"),
            "{warnings:?}"
        );
    }

    #[test]
    fn a_reading_against_itself_is_a_window_without_events() {
        let window = window(BEFORE, BEFORE);
        assert_eq!(window.requests_finished, Some(0));
        assert_eq!(window.ttft_s, Some(HistogramDelta::new(0, Some(0.0), Vec::new())));
        assert_eq!(window.prefix_cache_hit_share, None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            before in prop::collection::vec(any_line(), 0..12),
            after in prop::collection::vec(any_line(), 0..12),
        ) {
            let (before, after) = (Reading::parse(&before.concat()), Reading::parse(&after.concat()));
            if let (Ok(before), Ok(after)) = (before, after)
                && let Ok(window) = ServerWindow::between(&before, &after)
            {
                prop_assert!(serde_json::to_string(&window).is_ok());
            }
        }
    }
}
