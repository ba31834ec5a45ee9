//! The object of vLLM's own benchmark, held against objects that vLLM's client wrote.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::command::{code, err, folder, run, simulator, start, succeeds};
use vllm_loadgen::sim::Behavior;

fn object(path: &Path) -> Map<String, Value> {
    let text = fs::read_to_string(path).expect("written");
    assert_eq!(text.lines().count(), 1, "one line, without indentation");
    serde_json::from_str(&text).expect("an object")
}

/// What vLLM wrote, its long lists cut.
fn golden(name: &str) -> Map<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vllm-bench").join(name);
    serde_json::from_str(&fs::read_to_string(path).expect("there")).expect("an object")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Keys of vLLM's that are of other options of its: whole replies of single requests, and probes beside the run.
fn is_of_other_options(key: &str) -> bool {
    let detailed = ["input_lens", "output_lens", "start_times", "ttfts", "itls", "generated_texts", "errors"];
    detailed.contains(&key) || key.starts_with("probe_")
}

#[test]
fn every_key_of_vllms_is_there_of_its_kind_and_in_its_order() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    for (name, words) in [
        ("bench_small_c8.json", &["-t", "8", "-n", "64", "--api", "completions"][..]),
        (
            "bench_chat_poisson.json",
            &["--request-rate", "400", "-n", "60", "-t", "16", "--goodput", "ttft:500"],
        ),
    ] {
        let words = [&["--url", &url, "--max-tokens", "4", "-q", "--vllm-json", name], words].concat();
        succeeds(&run(folder.path(), &words));
        let (ours, theirs) = (object(&folder.path().join(name)), golden(name));
        let order: Vec<String> = key_order(&folder.path().join(name));
        let mut last = 0;
        for (key, value) in &theirs {
            // this server is so fast that some of these are 0
            let is_nothing = key.contains("_tpot_") && !ours.contains_key(key);
            if is_of_other_options(key) || is_nothing {
                continue;
            }
            let own = ours.get(key).unwrap_or_else(|| panic!("{name}: {key} is missing"));
            let may_be_null = ["tokenizer_id"].contains(&key.as_str());
            assert!(kind(own) == kind(value) || (may_be_null && own.is_null()), "{name}: {key} is {own}");
        }
        for key in key_order(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vllm-bench").join(name))
        {
            let Some(at) = order.iter().position(|own| *own == key) else { continue };
            assert!(at >= last, "{name}: {key} is out of order");
            last = at;
        }
        assert_eq!(order.last().map(String::as_str), Some("loadgen"));
    }
}

/// Top-level keys as they stand in the text.
fn key_order(path: &Path) -> Vec<String> {
    struct Keys(Vec<String>);

    impl<'de> serde::Deserialize<'de> for Keys {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;

            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Keys;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                    let mut keys = Vec::new();
                    while let Some((key, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                        keys.push(key);
                    }
                    Ok(Keys(keys))
                }
            }

            deserializer.deserialize_map(Visitor)
        }
    }

    let keys: Keys = serde_json::from_str(&fs::read_to_string(path).expect("there")).expect("an object");
    keys.0
}

#[test]
fn every_key_that_others_read_is_there() {
    let (folder, server) = (folder(), start(Behavior { fail: 1.0, ..Behavior::flat_out() }));
    // even of a run without any success
    let words = ["--url", &server.url(), "-n", "3", "-q", "--vllm-json", "v.json"];
    assert_eq!(code(&run(folder.path(), &words)), 1);
    let ours = object(&folder.path().join("v.json"));
    let wanted: Vec<String> = [
        "date",
        "model_id",
        "num_prompts",
        "completed",
        "failed",
        "request_rate",
        "max_concurrency",
        "duration",
        "total_input_tokens",
        "total_output_tokens",
        "request_throughput",
        "output_throughput",
        "total_token_throughput",
        "request_goodput",
        "latencies",
        "queue_times",
        "max_output_tokens_per_s",
        "max_concurrent_requests",
        "rtfx",
    ]
    .map(str::to_owned)
    .to_vec();
    let has_time = |key: &String| key.ends_with("_ms");
    assert!(!ours.keys().any(has_time), "what has no value is left out, and never 0 or null: {ours:?}");
    let good = simulator();
    let words =
        ["--url", &good.url(), "-n", "3", "--ignore-eos", "--max-tokens", "4", "-q", "--vllm-json", "g.json"];
    succeeds(&run(folder.path(), &[&words[..], &["--label", "commit=4f2a", "--label", "date=x"]].concat()));
    let good = object(&folder.path().join("g.json"));
    assert_eq!(good["commit"], "4f2a");
    assert_ne!(good["date"], "x", "a label takes the place of nothing");
    let (from, until) = (&good["benchmark_start_time_unix"], &good["benchmark_end_time_unix"]);
    assert!(from.as_f64() > Some(1.6e9) && from.as_f64() <= until.as_f64(), "{from} to {until}");
    for metric in ["ttft", "itl", "e2el"] {
        let statistics = [
            "mean", "median", "std", "p0.1", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99",
            "p99.9",
        ];
        for statistic in statistics {
            let key = format!("{statistic}_{metric}_ms");
            assert!(good.contains_key(&key), "{key}");
        }
    }
    for key in &wanted {
        assert!(ours.contains_key(key), "{key}");
    }
    assert_eq!(
        (&ours["request_rate"], &ours["completed"], &ours["failed"]),
        (&"inf".into(), &0.into(), &3.into())
    );
    assert_eq!(&ours["latencies"][2], &0.0);
    let date = ours["date"].as_str().expect("text");
    assert!(date.len() == 15 && date.as_bytes()[8] == b'-', "{date}");
}

#[test]
fn a_saved_run_gives_the_same_object() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let words =
        ["--url", &url, "--max-tokens", "4", "-n", "20", "-q", "-o", "r.json", "--record-log", "r.jsonl"];
    succeeds(&run(folder.path(), &[&words[..], &["--vllm-json", "live.json"]].concat()));
    succeeds(&run(folder.path(), &["report", "r.jsonl", "--vllm-json", "log.json"]));
    succeeds(&run(folder.path(), &["report", "r.json", "--vllm-json", "json.json"]));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("written");
    assert_eq!(read("live.json"), read("log.json"));
    let (live, of_json) =
        (object(&folder.path().join("live.json")), object(&folder.path().join("json.json")));
    for (key, value) in &of_json {
        assert_eq!(live.get(key), Some(value), "{key}");
    }
    assert!(!of_json.contains_key("latencies"));
    let several = run(folder.path(), &["--url", &url, "--compare", "1", "2", "--vllm-json", "x.json"]);
    assert_eq!(code(&several), 2);
    assert!(err(&several).contains("report FILE --vllm-json"), "{}", err(&several));
}
