//! One reading of a server's `/metrics`, reduced to the metrics we know.
//!
//! Series stay apart, so that one engine's restart cannot hide behind another's growth; sums are made when asked for.

use std::collections::BTreeMap;

use super::gauges::Gauges;
use super::names::{self, Flavour, Metric, Part};
use super::prometheus::{Sample, samples};
use crate::text::printable;

/// What a server said of itself at one time.
#[derive(Clone, Debug)]
pub struct Reading {
    pub(super) flavour: Flavour,
    pub(super) families: BTreeMap<&'static str, Family>,
    /// When the processes behind the text started, in seconds since 1970, sorted; empty if not told.
    pub(super) process_starts: Vec<f64>,
    /// The engine's configuration as far as it is shown.
    pub(super) config: BTreeMap<String, String>,
    pub(super) unreadable_lines: usize,
    /// Whether the text broke off within a line.
    pub(super) cut_off: bool,
}

/// All series of one metric, each with its value: finite and not negative.
pub(super) type Family = BTreeMap<Series, f64>;

/// What tells the samples of one metric apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    pub(super) part: Part,
    /// Sorted, without the labels that mark copies.
    labels: Vec<(String, String)>,
}

impl Series {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

impl Reading {
    /// Reads the text of `/metrics`.
    ///
    /// A text that does not end with a line end was cut off: its last line is dropped, for half a number is a wrong one.
    ///
    /// # Errors
    /// When the text holds no metric of a server that we know, in words that say what it holds instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let whole_lines = whole_lines(text);
        let mut samples = samples(whole_lines);
        let mut flavour = None;
        let mut families = BTreeMap::<_, Family>::new();
        let mut process_starts = Vec::new();
        let mut config = BTreeMap::new();
        for sample in samples.by_ref() {
            match sample.name {
                "process_start_time_seconds" => process_starts.push(sample.value),
                "vllm:cache_config_info" => config = config_of(&sample),
                name => {
                    if let Some((of, name, part)) = names::identify(name)
                        && *flavour.get_or_insert(of) == of
                    {
                        add(families.entry(name).or_default(), part, &sample);
                    }
                }
            }
        }
        process_starts.sort_by(f64::total_cmp);
        Ok(Self {
            flavour: flavour.ok_or_else(|| why_nothing_is_known(text))?,
            families,
            process_starts,
            config,
            unreadable_lines: samples.unreadable_lines(),
            cut_off: whole_lines.len() < text.len(),
        })
    }

    /// Which server's metrics these are.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// What was going on at the time of the reading.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            running: self.values(Metric::Running).map(Iterator::sum),
            waiting: self.values(Metric::Waiting).map(Iterator::sum),
            kv_cache_usage: self.values(Metric::KvCacheUsage).map(|values| values.fold(0.0, f64::max)),
        }
    }

    /// The newest name under which this reading has the metric.
    pub(super) fn name_of(&self, metric: Metric) -> Option<&'static str> {
        names::names(self.flavour, metric).find(|name| self.families.contains_key(name))
    }

    fn values(&self, metric: Metric) -> Option<impl Iterator<Item = f64>> {
        let family = self.families.get(self.name_of(metric)?)?;
        let is_value = |(series, _): &(&Series, _)| series.part == Part::Value;
        let mut values = family.iter().filter(is_value).map(|(_, value)| *value).peekable();
        values.peek().is_some().then_some(values)
    }
}

/// The text without a last line that has no end. OpenMetrics' closing mark may do without.
fn whole_lines(text: &str) -> &str {
    if text.ends_with("# EOF") {
        return text;
    }
    text.rfind('\n').map_or("", |end| &text[..=end])
}

/// Adds a sample to its series. Same series twice: servers' texts put together, so they add up; copies of the same
/// engine's numbers, one from each of its ranks, do not.
fn add(family: &mut Family, part: Part, sample: &Sample<'_>) {
    if !sample.value.is_finite() || sample.value < 0.0 {
        return;
    }
    let (copies, rest): (Vec<_>, Vec<_>) =
        sample.labels.iter().partition(|(name, _)| RANKS_OF_ONE_ENGINE.contains(name));
    let mut labels: Vec<_> =
        rest.into_iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_owned())).collect();
    labels.sort();
    let total = family.entry(Series { part, labels }).or_insert(0.0);
    *total = if copies.is_empty() { *total + sample.value } else { total.max(sample.value) };
}

/// SGLang's labels of tensor, pipeline and expert ranks, which all tell of the same requests.
const RANKS_OF_ONE_ENGINE: &[&str] = &["tp_rank", "pp_rank", "moe_ep_rank"];

fn config_of(sample: &Sample<'_>) -> BTreeMap<String, String> {
    let labels = sample.labels.iter().filter(|(name, _)| *name != "engine");
    labels.map(|(name, value)| ((*name).to_owned(), printable(value, 100))).collect()
}

fn why_nothing_is_known(text: &str) -> String {
    let text = text.trim_start();
    let holds = if text.is_empty() {
        "the text is empty"
    } else if text.starts_with('<') {
        "it is a page for people"
    } else if text.starts_with('{') || text.starts_with('[') {
        "it is JSON"
    } else {
        "it holds no metric of vLLM, SGLang, TGI, llama.cpp or TensorRT-LLM"
    };
    format!(
        "not a known server's metrics: {holds}; is this the address of the server itself? \
         SGLang shows them with --enable-metrics only, llama.cpp with --metrics"
    )
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gauges(text: &str) -> Gauges {
        Reading::parse(text).expect("known names").gauges()
    }

    fn check_error(text: &str, want: &str) {
        let error = Reading::parse(text).expect_err(text);
        assert!(error.contains(want), "{error}");
    }

    #[test]
    fn a_loaded_server_shows_its_gauges() {
        let text =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/metrics/metrics_loaded_C.prom"));
        let reading = Reading::parse(text).expect("captured from vLLM");
        assert_eq!(reading.flavour(), Flavour::Vllm);
        assert_eq!(reading.gauges().running, Some(4.0));
        assert_eq!(reading.gauges().waiting, Some(2.0));
        assert!(reading.gauges().kv_cache_usage.is_some_and(|share| (0.0..=1.0).contains(&share)));
        assert_eq!(reading.config.get("num_gpu_blocks").map(String::as_str), Some("17"));
        assert_eq!(reading.unreadable_lines, 0);
    }

    #[test]
    fn requests_add_up_over_engines_and_the_fullest_cache_counts() {
        let have = gauges(
            "vllm:num_requests_running{engine=\"0\"} 3\nvllm:num_requests_running{engine=\"1\"} 4\n\
             vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.75\n",
        );
        assert_eq!(have, Gauges { running: Some(7.0), waiting: None, kv_cache_usage: Some(0.75) });
    }

    #[test]
    fn ranks_of_one_engine_are_copies() {
        let have = gauges(
            "sglang:num_running_reqs{dp_rank=\"0\",tp_rank=\"0\"} 3\nsglang:num_running_reqs{dp_rank=\"0\",tp_rank=\"1\"} 3\n\
             sglang:num_running_reqs{dp_rank=\"1\",tp_rank=\"2\"} 5\n",
        );
        assert_eq!(have.running, Some(8.0));
    }

    #[test]
    fn the_newest_name_wins() {
        let have = gauges("vllm:gpu_cache_usage_perc 0.1\nvllm:kv_cache_usage_perc 0.2\n");
        assert_eq!(have.kv_cache_usage, Some(0.2));
        assert_eq!(gauges("vllm:gpu_cache_usage_perc 0.1\n").kv_cache_usage, Some(0.1));
    }

    #[test]
    fn not_a_number_is_no_number() {
        let have = gauges("vllm:num_requests_running NaN\nvllm:num_requests_waiting 1\n");
        assert_eq!(have, Gauges { running: None, waiting: Some(1.0), kv_cache_usage: None });
    }

    #[test]
    fn half_a_number_is_dropped() {
        let reading = Reading::parse("vllm:num_requests_running 3\nvllm:num_requests_waiting 12")
            .expect("one is whole");
        assert!(reading.cut_off);
        assert_eq!(reading.gauges(), Gauges { running: Some(3.0), waiting: None, kv_cache_usage: None });
        assert!(!Reading::parse("vllm:num_requests_running 3\n# EOF").expect("whole").cut_off);
    }

    #[test]
    fn every_server_is_told_by_its_names() {
        for (text, want) in [
            ("vllm:prompt_tokens_total 1\n", Flavour::Vllm),
            ("sglang:prompt_tokens_total 1\n", Flavour::Sglang),
            ("tgi_queue_size 1\n", Flavour::Tgi),
            ("llamacpp:tokens_predicted_total 1\n", Flavour::LlamaCpp),
            ("trtllm_request_success_total 1\n", Flavour::TrtLlm),
        ] {
            assert_eq!(Reading::parse(text).map(|reading| reading.flavour()), Ok(want));
            assert_eq!(serde_json::json!(want), serde_json::json!(want.name()));
        }
    }

    #[test]
    fn absent_names_are_an_error_in_words() {
        check_error("", "the text is empty");
        check_error("<!doctype html>\n<p>", "a page for people");
        check_error("{\"detail\":\"Not Found\"}", "JSON");
        check_error("process_start_time_seconds 1\nhttp_requests_total 3\n", "no metric of vLLM");
        check_error("vllm:prompt_tokens_created 1.7e9\n", "no metric of vLLM");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(lines in prop::collection::vec(any_line(), 0..12), end in ".{0,9}") {
            if let Ok(reading) = Reading::parse(&(lines.concat() + &end)) {
                let _ = reading.gauges();
            }
        }
    }

    /// A line of metrics, likely or not, for tests of what takes a reading.
    pub fn any_line() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "vllm:num_requests_running",
            "vllm:request_success_total",
            "vllm:time_to_first_token_seconds_bucket",
            "vllm:time_to_first_token_seconds_sum",
            "vllm:time_to_first_token_seconds_count",
            "vllm:prompt_tokens_total",
            "vllm:prefix_cache_queries_total",
            "vllm:prefix_cache_hits_total",
            "process_start_time_seconds",
            "vllm:spec_decode_num_drafts_total",
            "vllm:spec_decode_num_draft_tokens_total",
            "vllm:cache_config_info",
            "vllm:spec_decode_num_accepted_tokens_per_pos_total",
            "llamacpp:tokens_predicted_seconds_total",
        ]);
        let label = prop::sample::select(vec![
            "",
            "{le=\"0.1\"}",
            "{le=\"+Inf\"}",
            "{le=\"-1\"}",
            "{le=\"NaN\"}",
            "{position=\"0\"}",
            "{finished_reason=\"\u{1b}\"}",
        ]);
        let value =
            prop_oneof!["[0-9]{1,20}", "-?[0-9.e+]{1,5}", Just("1e308".to_owned()), Just("NaN".to_owned())];
        (name, label, value).prop_map(|(name, label, value)| format!("{name}{label} {value}\n"))
    }
}
