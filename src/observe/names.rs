//! What the servers call their metrics, now and formerly.
//!
//! To follow a server's new name, put it in front of its row; to add a server, add a [`Flavour`] and its rows.

use serde::{Deserialize, Serialize};

use Flavour::*;
use Metric::*;

/// Which server's metrics these are, told by their names. Gateways and simulators may answer in another's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flavour {
    /// vLLM: `vllm:…`.
    #[serde(rename = "vllm")]
    Vllm,
    /// SGLang: `sglang:…`.
    #[serde(rename = "sglang")]
    Sglang,
    /// Text Generation Inference: `tgi_…`.
    #[serde(rename = "tgi")]
    Tgi,
    /// llama.cpp's server: `llamacpp:…`.
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// TensorRT-LLM's server: `trtllm_…`.
    #[serde(rename = "trtllm")]
    TrtLlm,
}

impl Flavour {
    /// The server's name, as in results.
    pub fn name(self) -> &'static str {
        match self {
            Vllm => "vllm",
            Sglang => "sglang",
            Tgi => "tgi",
            LlamaCpp => "llama.cpp",
            TrtLlm => "trtllm",
        }
    }
}

/// The metrics we look for. Times are histograms in seconds, what counts is a counter, the first three are gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Running,
    Waiting,
    KvCacheUsage,
    Finished,
    Failed,
    Rejections,
    PromptTokens,
    /// TGI has the token counts only as sums of histograms of size per request.
    PromptTokensPerRequest,
    GenerationTokens,
    GenerationTokensPerRequest,
    Preemptions,
    PrefixQueries,
    PrefixHits,
    /// Before vLLM counted tokens it counted blocks under this name: good for a share, not for a number of tokens.
    PrefixQueriesUnitUnknown,
    PrefixHitsUnitUnknown,
    Ttft,
    Itl,
    Tpot,
    E2e,
    Queue,
    Prefill,
    Decode,
    /// Seconds spent generating, all requests together.
    DecodeSeconds,
    Drafts,
    DraftTokens,
    AcceptedTokens,
    AcceptedTokensPerPosition,
}

impl Metric {
    fn is_gauge(self) -> bool {
        matches!(self, Running | Waiting | KvCacheUsage)
    }
}

/// The part of a metric that one sample tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Of a counter or gauge.
    Value,
    /// One bucket of a histogram.
    Bucket,
    /// A histogram's sum.
    Sum,
    /// A histogram's count.
    Count,
}

/// Whose metric a sample belongs to, the metric's name in [`KNOWN`], and the part it tells. `None` for unknown names.
pub(super) fn identify(sample: &str) -> Option<(Flavour, &'static str, Part)> {
    rows().find_map(|(flavour, _, name)| Some((flavour, name, part(sample.strip_prefix(name)?)?)))
}

/// Names under which a server of this kind has the metric, newest first.
pub(super) fn names(flavour: Flavour, metric: Metric) -> impl Iterator<Item = &'static str> {
    rows().filter(move |row| (row.0, row.1) == (flavour, metric)).map(|row| row.2)
}

/// Names of all metrics of this kind of server that cannot fall while it runs.
pub(super) fn rising_names(flavour: Flavour) -> impl Iterator<Item = &'static str> {
    rows().filter(move |row| row.0 == flavour && !row.1.is_gauge()).map(|row| row.2)
}

fn rows() -> impl Iterator<Item = (Flavour, Metric, &'static str)> {
    KNOWN.iter().flat_map(|&(flavour, metric, names)| names.iter().map(move |&name| (flavour, metric, name)))
}

/// What stands after a metric's name. `_created` is none of it.
fn part(suffix: &str) -> Option<Part> {
    match suffix {
        "" | "_total" => Some(Part::Value),
        "_bucket" => Some(Part::Bucket),
        "_sum" => Some(Part::Sum),
        "_count" => Some(Part::Count),
        _ => None,
    }
}

/// Names without `_total`, newest first.
const KNOWN: &[(Flavour, Metric, &[&str])] = &[
    (Vllm, Running, &["vllm:num_requests_running"]),
    (Vllm, Waiting, &["vllm:num_requests_waiting"]),
    (Vllm, KvCacheUsage, &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"]),
    (Vllm, Finished, &["vllm:request_success"]),
    (Vllm, Rejections, &["vllm:admission_rejections"]),
    (Vllm, PromptTokens, &["vllm:prompt_tokens"]),
    (Vllm, GenerationTokens, &["vllm:generation_tokens"]),
    (Vllm, Preemptions, &["vllm:num_preemptions"]),
    (Vllm, PrefixQueries, &["vllm:prefix_cache_queries"]),
    (Vllm, PrefixHits, &["vllm:prefix_cache_hits"]),
    (Vllm, PrefixQueriesUnitUnknown, &["vllm:gpu_prefix_cache_queries"]),
    (Vllm, PrefixHitsUnitUnknown, &["vllm:gpu_prefix_cache_hits"]),
    (Vllm, Ttft, &["vllm:time_to_first_token_seconds"]),
    (Vllm, Itl, &["vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"]),
    (Vllm, Tpot, &["vllm:request_time_per_output_token_seconds"]),
    (Vllm, E2e, &["vllm:e2e_request_latency_seconds"]),
    (Vllm, Queue, &["vllm:request_queue_time_seconds"]),
    (Vllm, Prefill, &["vllm:request_prefill_time_seconds"]),
    (Vllm, Decode, &["vllm:request_decode_time_seconds"]),
    (Vllm, Drafts, &["vllm:spec_decode_num_drafts"]),
    (Vllm, DraftTokens, &["vllm:spec_decode_num_draft_tokens"]),
    (Vllm, AcceptedTokens, &["vllm:spec_decode_num_accepted_tokens"]),
    (Vllm, AcceptedTokensPerPosition, &["vllm:spec_decode_num_accepted_tokens_per_pos"]),
    (Sglang, Running, &["sglang:num_running_reqs"]),
    (Sglang, Waiting, &["sglang:num_queue_reqs"]),
    (Sglang, KvCacheUsage, &["sglang:token_usage"]),
    (Sglang, Finished, &["sglang:num_requests"]),
    (Sglang, Failed, &["sglang:num_aborted_requests"]),
    (Sglang, PromptTokens, &["sglang:prompt_tokens"]),
    (Sglang, GenerationTokens, &["sglang:generation_tokens"]),
    (Sglang, Preemptions, &["sglang:num_retracted_requests"]),
    (Sglang, PrefixQueries, &["sglang:prompt_tokens"]),
    (Sglang, PrefixHits, &["sglang:cached_tokens"]),
    (Sglang, Ttft, &["sglang:time_to_first_token_seconds"]),
    (Sglang, Itl, &["sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"]),
    (Sglang, E2e, &["sglang:e2e_request_latency_seconds"]),
    (Sglang, Queue, &["sglang:queue_time_seconds"]),
    (Tgi, Running, &["tgi_batch_current_size"]),
    (Tgi, Waiting, &["tgi_queue_size"]),
    (Tgi, Finished, &["tgi_request_success"]),
    (Tgi, Failed, &["tgi_request_failure"]),
    (Tgi, PromptTokensPerRequest, &["tgi_request_input_length"]),
    (Tgi, GenerationTokensPerRequest, &["tgi_request_generated_tokens"]),
    (Tgi, Tpot, &["tgi_request_mean_time_per_token_duration"]),
    (Tgi, E2e, &["tgi_request_duration"]),
    (Tgi, Queue, &["tgi_request_queue_duration"]),
    (LlamaCpp, Running, &["llamacpp:requests_processing"]),
    (LlamaCpp, Waiting, &["llamacpp:requests_deferred"]),
    (LlamaCpp, KvCacheUsage, &["llamacpp:kv_cache_usage_ratio"]),
    (LlamaCpp, PromptTokens, &["llamacpp:prompt_tokens"]),
    (LlamaCpp, GenerationTokens, &["llamacpp:tokens_predicted"]),
    (LlamaCpp, PrefixHits, &["llamacpp:prompt_tokens_cached"]),
    (LlamaCpp, DecodeSeconds, &["llamacpp:tokens_predicted_seconds"]),
    (LlamaCpp, Drafts, &["llamacpp:spec_decode_num_drafts"]),
    (LlamaCpp, DraftTokens, &["llamacpp:spec_decode_num_draft_tokens", "llamacpp:tokens_drafted"]),
    (
        LlamaCpp,
        AcceptedTokens,
        &["llamacpp:spec_decode_num_accepted_tokens", "llamacpp:tokens_drafted_accepted"],
    ),
    (LlamaCpp, AcceptedTokensPerPosition, &["llamacpp:spec_decode_num_accepted_tokens_per_pos"]),
    (TrtLlm, Running, &["trtllm_num_requests_running", "trtllm_num_active_requests"]),
    (TrtLlm, Waiting, &["trtllm_num_requests_waiting", "trtllm_server_queue_length"]),
    (TrtLlm, KvCacheUsage, &["trtllm_kv_cache_utilization"]),
    (TrtLlm, Finished, &["trtllm_request_success"]),
    (TrtLlm, Failed, &["trtllm_request_error"]),
    (TrtLlm, PromptTokens, &["trtllm_prompt_tokens"]),
    (TrtLlm, GenerationTokens, &["trtllm_generation_tokens"]),
    (TrtLlm, PrefixQueries, &["trtllm_prompt_tokens"]),
    (TrtLlm, PrefixHits, &["trtllm_prompt_cached_tokens"]),
    (TrtLlm, Ttft, &["trtllm_time_to_first_token_seconds"]),
    (TrtLlm, Tpot, &["trtllm_time_per_output_token_seconds"]),
    (TrtLlm, E2e, &["trtllm_e2e_request_latency_seconds"]),
    (TrtLlm, Queue, &["trtllm_request_queue_time_seconds"]),
    (TrtLlm, Prefill, &["trtllm_request_prefill_time_seconds"]),
    (TrtLlm, Decode, &["trtllm_request_decode_time_seconds"]),
    (TrtLlm, DraftTokens, &["trtllm_spec_decode_drafted_tokens", "trtllm_spec_decode_num_draft_tokens"]),
    (
        TrtLlm,
        AcceptedTokens,
        &["trtllm_spec_decode_accepted_tokens", "trtllm_spec_decode_num_accepted_tokens"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sample: &str, want: Option<(Flavour, &str, Part)>) {
        assert_eq!(identify(sample), want, "{sample}");
    }

    #[test]
    fn samples_are_known_with_and_without_total() {
        check("vllm:prompt_tokens_total", Some((Vllm, "vllm:prompt_tokens", Part::Value)));
        check("vllm:prompt_tokens", Some((Vllm, "vllm:prompt_tokens", Part::Value)));
        check("tgi_request_duration_sum", Some((Tgi, "tgi_request_duration", Part::Sum)));
    }

    #[test]
    fn neighbours_and_creation_times_are_not_taken_for_it() {
        check("vllm:prompt_tokens_created", None);
        check("vllm:prompt_tokens_by_source_total", None);
        check("vllm:iteration_tokens_total_sum", None);
        check("vllm:num_requests_waiting_by_reason", None);
        check("http_requests_total", None);
    }

    #[test]
    fn a_name_belongs_to_one_server_and_ends_in_no_suffix() {
        for (flavour, _, name) in rows() {
            assert_eq!(identify(name), Some((flavour, name, Part::Value)), "{name}");
            assert!(!["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end)), "{name}");
        }
    }
}
