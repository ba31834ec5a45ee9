//! The object that `vllm bench serve --save-result` writes, for whoever reads that: a projection of a report.
//!
//! Keys, their order and units are those of vLLM's Python client at 0.32; what is ours beyond it is under `loadgen`.
//! Every statistic that any reader asks for is there, whatever a run was asked for. `docs/vllm-json.md` tells where the
//! figures are defined otherwise than vLLM's.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::Report;
use crate::arrivals::{Process, Shape};
use crate::clock::{Date, Moment};
use crate::record::{Phase, Record, Sink};
use crate::summary::Distribution;

/// What the object tells of each measured request: about 40 bytes of memory a request.
#[derive(Debug, Default)]
pub struct VllmRows {
    rows: Vec<Row>,
    /// Output tokens received in each tenth of a second, of successful requests.
    tokens: BTreeMap<u64, f64>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    id: u64,
    started: Moment,
    end: Moment,
    /// Seconds; 0 for a failure, as in vLLM.
    latency: f64,
    /// Seconds that it left late.
    queue: f64,
}

impl Sink for VllmRows {
    fn record(&mut self, record: &Record) {
        if record.phase != Phase::Measured || !record.was_started() {
            return;
        }
        self.rows.push(Row {
            id: record.id,
            started: record.moments.started,
            end: record.moments.end,
            latency: record.e2e().map_or(0.0, |e2e| e2e.as_secs_f64()),
            queue: record.lag().as_secs_f64(),
        });
        if record.is_success() {
            for (at, tokens) in record.token_arrivals() {
                *self.tokens.entry(at.as_nanos() / 100_000_000).or_default() += tokens;
            }
        }
    }
}

impl VllmRows {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Most output tokens received within a second: ten tenths, whichever they are. A second of the clock, or one counted from
    /// the first request as vLLM has it, may part a burst in two.
    fn most_tokens_in_a_second(&self) -> f64 {
        let from = |first: u64| self.tokens.range(first..first + 10).map(|(_, tokens)| tokens).sum();
        self.tokens.keys().map(|tenth| from(*tenth)).fold(0.0, f64::max)
    }

    /// Most requests under way at one moment.
    fn peak(&self) -> u64 {
        let starts = self.rows.iter().map(|row| (row.started, 1_i64));
        // one that ends when another starts has made room for it
        let mut changes: Vec<_> = starts.chain(self.rows.iter().map(|row| (row.end, -1))).collect();
        changes.sort_unstable();
        let mut running = 0;
        let peak = changes.iter().map(|(_, change)| {
            running += change;
            running
        });
        peak.max().unwrap_or(0).unsigned_abs()
    }

    fn in_order(&self) -> Vec<Row> {
        let mut rows = self.rows.clone();
        rows.sort_unstable_by_key(|row| row.id);
        rows
    }
}

/// Keys and values in the order in which they were put in.
#[derive(Default)]
struct Object(Vec<(String, Value)>);

impl Object {
    fn put(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        self.0.push((key.into(), value.into()));
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Writes the object. `rows` are the requests', where they are known.
///
/// # Errors
/// Those of the writer.
pub fn write_vllm_json(report: &Report, rows: Option<&VllmRows>, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &object(report, rows))?;
    writeln!(out)
}

fn object(report: &Report, rows: Option<&VllmRows>) -> Object {
    let mut object = Object::default();
    setup(report, &mut object);
    results(report, rows, &mut object);
    let latency = &report.summary.latency;
    let mut times = vec![
        ("ttft", &latency.ttft),
        ("tpot", &latency.tpot),
        // vLLM's are the gaps between events, however many tokens one bears
        ("itl", &latency.inter_event),
        ("e2el", &latency.e2e),
    ];
    if report.plan.load.is_open() {
        times.push(("client_queue_time", &latency.lag));
        times.push(("e2el_including_client_queue", &latency.response_e2e));
    }
    for (name, distribution) in times {
        statistics(name, distribution.as_ref(), &mut object);
    }
    for (key, date) in
        [("benchmark_start_time_unix", &report.started), ("benchmark_end_time_unix", &report.ended)]
    {
        if let Some(date) = Date::parse(date) {
            object.put(key, date.unix_seconds());
        }
    }
    // as vLLM's --metadata: beside the rest, and in the place of none of it
    for (name, value) in &report.plan.labels {
        if object.0.iter().all(|(key, _)| key != name) && name != "loadgen" {
            object.put(name.as_str(), value.as_str());
        }
    }
    object.put(
        "loadgen",
        json!({
            "schema": report.schema,
            "tool": report.tool,
            "started": report.started,
            "ended": report.ended,
            "complete": report.complete,
            "plan_hash": report.plan.hash,
            "seed": report.plan.seed,
            "load": report.plan.load,
            "health": report.health.verdict,
            "errors": report.summary.errors,
            "steady": report.summary.windows.steady,
        }),
    );
    object
}

fn setup(report: &Report, object: &mut Object) {
    let plan = &report.plan;
    let backend = if plan.request.dialect.is_chat() { "openai-chat" } else { "openai" };
    // vLLM's readers know no time zone: UTC
    object.put("date", Date::parse(&report.started).map_or(String::new(), Date::vllm));
    object.put("endpoint_type", backend);
    object.put("backend", backend);
    object.put("label", Value::Null);
    object.put("model_id", plan.request.model.as_str());
    object.put("tokenizer_id", Value::Null);
    let asked = plan.load.completions.map_or(report.summary.requests.sent, |n| n.get());
    object.put("num_prompts", asked);
    let arrivals = plan.load.arrivals.as_ref();
    let rate = match arrivals.map(|arrivals| &arrivals.shape) {
        Some(Shape::Steady(rate)) => json!(rate.per_second()),
        Some(Shape::Stages(_)) => json!(report.summary.throughput.offered_requests_per_s),
        Some(Shape::Ramp(_) | Shape::AtOnce) | None => json!("inf"),
    };
    object.put("request_rate", rate);
    let burstiness = match arrivals.map(|arrivals| arrivals.process) {
        Some(Process::Gamma { burstiness }) => json!(burstiness),
        // there is no number for it: gaps that are all alike
        Some(Process::Constant) if plan.load.has_rate() => Value::Null,
        _ => json!(1.0),
    };
    object.put("burstiness", burstiness);
    object.put("max_concurrency", plan.load.threads.get());
    if let Some(Shape::Ramp(ramp)) = arrivals.map(|arrivals| &arrivals.shape) {
        object.put("ramp_up_strategy", "linear");
        object.put("ramp_up_start_rps", ramp.from.per_second());
        object.put("ramp_up_end_rps", ramp.to.per_second());
    }
}

fn results(report: &Report, rows: Option<&VllmRows>, object: &mut Object) {
    let (summary, rates) = (&report.summary, &report.summary.throughput);
    object.put("duration", summary.duration_s.unwrap_or(0.0));
    object.put("completed", summary.requests.succeeded);
    object.put("failed", summary.requests.failed + summary.requests.by_client);
    object.put("total_input_tokens", summary.tokens.input.unwrap_or(0));
    object.put("total_output_tokens", summary.tokens.output.unwrap_or(0));
    object.put("request_throughput", rates.requests_per_s.unwrap_or(0.0));
    object.put("request_goodput", json!(summary.goodput.and_then(|goodput| goodput.requests_per_s)));
    object.put("output_throughput", rates.output_tokens_per_s.unwrap_or(0.0));
    object.put("total_token_throughput", rates.total_tokens_per_s.unwrap_or(0.0));
    if let Some(rows) = rows {
        let in_order = rows.in_order();
        object.put("latencies", in_order.iter().map(|row| row.latency).collect::<Vec<_>>());
        object.put("queue_times", in_order.iter().map(|row| row.queue).collect::<Vec<_>>());
        object.put("max_output_tokens_per_s", rows.most_tokens_in_a_second());
        object.put("max_concurrent_requests", rows.peak());
    }
    object.put("rtfx", 0.0);
}

/// All that a reader asks for: llm-d's importer wants the most.
const PERCENTILES: [f64; 11] = [0.1, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9];

fn statistics(name: &str, distribution: Option<&Distribution>, object: &mut Object) {
    // a 0 would pass every limit
    let Some(d) = distribution else { return };
    let figures = [("mean".to_owned(), d.mean), ("median".to_owned(), d.median), ("std".to_owned(), d.std)];
    let percentiles = PERCENTILES.iter().map(|p| (format!("p{p}"), d.percentile_ms(*p)));
    for (figure, value) in figures.into_iter().chain(percentiles) {
        // readers divide by these
        if !(name == "tpot" && value == 0.0) {
            object.put(format!("{figure}_{name}_ms"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u64, started: u64, end: u64) -> Row {
        let at = Moment::from_nanos;
        Row { id, started: at(started), end: at(end), latency: 0.0, queue: 0.0 }
    }

    #[test]
    fn the_best_second_begins_anywhere() {
        let of = |tokens: &[(u64, f64)]| {
            VllmRows { tokens: tokens.iter().copied().collect(), ..VllmRows::default() }
                .most_tokens_in_a_second()
        };
        assert_eq!(of(&[]), 0.0);
        // across the end of a second of the clock
        assert_eq!(of(&[(8, 5.0), (12, 7.0), (17, 1.0), (18, 9.0)]), 17.0);
        assert_eq!(of(&[(0, 5.0), (10, 7.0)]), 7.0);
    }

    #[test]
    fn the_peak_is_of_requests_that_overlap() {
        let of = |rows: Vec<Row>| VllmRows { rows, ..VllmRows::default() }.peak();
        assert_eq!(of(vec![]), 0);
        assert_eq!(of(vec![row(0, 0, 10), row(1, 10, 20), row(2, 20, 30)]), 1);
        assert_eq!(of(vec![row(0, 0, 10), row(1, 5, 20), row(2, 9, 30), row(3, 12, 13)]), 3);
    }

    #[test]
    fn what_has_no_value_is_left_out() {
        let mut object = Object::default();
        statistics("ttft", None, &mut object);
        assert!(object.0.is_empty());
    }
}
