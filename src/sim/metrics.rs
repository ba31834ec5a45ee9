//! The server's own count of what it did, under vLLM's names. Whole nanoseconds inside, so sums are exact.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::capacity::Capacity;
use super::pace::Finish;

/// Counters and histograms since the start.
pub struct Metrics {
    /// Tokens of prompts, counted when the first token of the answer is ready.
    pub prompt_tokens: AtomicU64,
    /// Tokens of answers, counted as they are ready.
    pub generation_tokens: AtomicU64,
    /// From having read the request to the first token.
    pub ttft: Histogram,
    /// From token to token; tokens that are ready together are no time apart.
    pub itl: Histogram,
    /// From having read the request to the last token.
    pub e2e: Histogram,
    /// From having read the request to the slot.
    pub queue: Histogram,
    stopped: AtomicU64,
    reached_length: AtomicU64,
    started_unix: f64,
}

impl Metrics {
    /// Nothing counted yet. `started_unix` is the start of the process in seconds since 1970.
    pub fn new(started_unix: f64) -> Self {
        Self {
            prompt_tokens: AtomicU64::new(0),
            generation_tokens: AtomicU64::new(0),
            ttft: Histogram::new(TTFT_EDGES),
            itl: Histogram::new(ITL_EDGES),
            e2e: Histogram::new(REQUEST_EDGES),
            queue: Histogram::new(REQUEST_EDGES),
            stopped: AtomicU64::new(0),
            reached_length: AtomicU64::new(0),
            started_unix,
        }
    }

    /// Counts a request that ended well.
    pub fn finished(&self, finish: Finish, e2e: Duration) {
        let count = match finish {
            Finish::Stop => &self.stopped,
            Finish::Length => &self.reached_length,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.e2e.observe(e2e, 1);
    }

    /// The text format of Prometheus, for the model named `model`.
    pub fn render(&self, model: &str, capacity: &Capacity) -> String {
        let mut page = Page { text: String::with_capacity(16 << 10), labels: labels(model) };
        page.plain("process_start_time_seconds", "gauge", "Start time of the process.", self.started_unix);
        page.family("vllm:num_requests_running", "gauge", "Number of requests that have a slot.");
        page.sample("vllm:num_requests_running", "", capacity.running() as f64);
        page.family("vllm:num_requests_waiting", "gauge", "Number of requests waiting for a slot.");
        page.sample("vllm:num_requests_waiting", "", capacity.waiting() as f64);
        page.family("vllm:kv_cache_usage_perc", "gauge", "Share of slots in use. 1 means all.");
        page.sample("vllm:kv_cache_usage_perc", "", capacity.usage());
        page.counter("vllm:num_preemptions_total", "Preemptions; there are none here.", 0);
        page.counter(
            "vllm:prompt_tokens_total",
            "Number of prefill tokens processed.",
            get(&self.prompt_tokens),
        );
        let generated = get(&self.generation_tokens);
        page.counter("vllm:generation_tokens_total", "Number of generation tokens processed.", generated);
        self.render_finished(&mut page);
        page.histogram("vllm:time_to_first_token_seconds", "time to first token", &self.ttft);
        page.histogram("vllm:inter_token_latency_seconds", "inter-token latency", &self.itl);
        page.histogram("vllm:e2e_request_latency_seconds", "e2e request latency", &self.e2e);
        page.histogram("vllm:request_queue_time_seconds", "time spent waiting for a slot", &self.queue);
        page.text
    }

    /// As in vLLM, a client that hangs up is counted nowhere.
    fn render_finished(&self, page: &mut Page) {
        let name = "vllm:request_success_total";
        page.family(name, "counter", "Count of successfully processed requests.");
        page.sample(name, "finished_reason=\"stop\",", get(&self.stopped) as f64);
        page.sample(name, "finished_reason=\"length\",", get(&self.reached_length) as f64);
        for never in ["abort", "error", "repetition"] {
            page.sample(name, &format!("finished_reason=\"{never}\","), 0.0);
        }
    }
}

/// Durations counted into buckets, with their exact sum.
pub struct Histogram {
    /// Upper edges in seconds, inclusive, ascending.
    edges: &'static [f64],
    /// One count per edge and one for all above the last.
    buckets: Vec<AtomicU64>,
    sum_nanos: AtomicU64,
}

impl Histogram {
    fn new(edges: &'static [f64]) -> Self {
        let buckets = (0..=edges.len()).map(|_| AtomicU64::new(0)).collect();
        Self { edges, buckets, sum_nanos: AtomicU64::new(0) }
    }

    /// Counts `times` durations of this length.
    pub fn observe(&self, duration: Duration, times: u64) {
        let seconds = duration.as_secs_f64();
        let bucket = self.edges.partition_point(|edge| *edge < seconds);
        self.buckets[bucket].fetch_add(times, Ordering::Relaxed);
        let nanos = (duration.as_nanos() as u64).saturating_mul(times);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// vLLM's edges, so that panels of both overlay.
const TTFT_EDGES: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
const ITL_EDGES: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
const REQUEST_EDGES: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];

/// The page being written, and the labels that every series carries.
struct Page {
    text: String,
    labels: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn plain(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.line(format_args!("{name} {value:?}"));
    }

    fn counter(&mut self, name: &str, help: &str, count: u64) {
        self.family(name, "counter", help);
        self.sample(name, "", count as f64);
    }

    /// `further` labels end with a comma.
    fn sample(&mut self, name: &str, further: &str, value: f64) {
        let labels = std::mem::take(&mut self.labels);
        self.line(format_args!("{name}{{engine=\"0\",{further}{labels}}} {value:?}"));
        self.labels = labels;
    }

    fn histogram(&mut self, name: &str, what: &str, histogram: &Histogram) {
        self.family(name, "histogram", &format!("Histogram of {what} in seconds."));
        let bucket_name = format!("{name}_bucket");
        let mut count = 0;
        let edges = histogram.edges.iter().map(|edge| format!("{edge:?}")).chain(["+Inf".to_owned()]);
        for (edge, bucket) in edges.zip(&histogram.buckets) {
            count += get(bucket);
            self.sample(&bucket_name, &format!("le=\"{edge}\","), count as f64);
        }
        // the count is the sum of the buckets just shown: both agree even while requests end
        self.sample(&format!("{name}_count"), "", count as f64);
        self.sample(&format!("{name}_sum"), "", get(&histogram.sum_nanos) as f64 / 1e9);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string takes any text");
    }
}

fn labels(model: &str) -> String {
    let model = model.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("model_name=\"{model}\"")
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn page(metrics: &Metrics, model: &str) -> String {
        metrics.render(model, &Capacity::new(NonZeroUsize::MIN))
    }

    #[test]
    fn an_edge_belongs_to_the_bucket_below_it() {
        let metrics = Metrics::new(0.0);
        metrics.ttft.observe(Duration::from_millis(5), 1);
        metrics.ttft.observe(Duration::from_secs(9999), 2);
        let page = page(&metrics, "m");
        for line in [
            r#"vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0"#,
            r#"vllm:time_to_first_token_seconds_bucket{engine="0",le="0.005",model_name="m"} 1.0"#,
            r#"vllm:time_to_first_token_seconds_bucket{engine="0",le="2560.0",model_name="m"} 1.0"#,
            r#"vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 3.0"#,
            r#"vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 3.0"#,
            r#"vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 19998.005"#,
        ] {
            assert!(page.lines().any(|other| other == line), "{line}\n{page}");
        }
    }

    #[test]
    fn a_strange_model_name_stays_one_label() {
        let page = page(&Metrics::new(0.0), "a\"b\\c\nd");
        assert!(
            page.contains(r#"vllm:num_requests_running{engine="0",model_name="a\"b\\c\nd"} 0.0"#),
            "{page}"
        );
    }

    /// Lines from the capture `A_get_metrics.http` of vLLM 0.32.0.
    #[test]
    fn series_read_like_the_captured_ones() {
        let page = page(&Metrics::new(1.79548860191e9), "tiny-qwen3");
        for line in [
            "# TYPE process_start_time_seconds gauge",
            "process_start_time_seconds 1795488601.91",
            "# TYPE vllm:num_requests_running gauge",
            r#"vllm:num_requests_waiting{engine="0",model_name="tiny-qwen3"} 0.0"#,
            "# HELP vllm:generation_tokens_total Number of generation tokens processed.",
            "# TYPE vllm:generation_tokens_total counter",
            r#"vllm:request_success_total{engine="0",finished_reason="abort",model_name="tiny-qwen3"} 0.0"#,
            "# HELP vllm:inter_token_latency_seconds Histogram of inter-token latency in seconds.",
            r#"vllm:inter_token_latency_seconds_bucket{engine="0",le="0.025",model_name="tiny-qwen3"} 0.0"#,
            r#"vllm:e2e_request_latency_seconds_bucket{engine="0",le="7680.0",model_name="tiny-qwen3"} 0.0"#,
        ] {
            assert!(page.lines().any(|other| other == line), "{line}\n{page}");
        }
    }
}
