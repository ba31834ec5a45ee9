//! `--calibrate`: the client's own share beside a run, from small runs whose counts are certain; no time is.

use std::fs;
use std::num::NonZeroU64;

use serde_json::Value;
use vllm_loadgen::sim::Behavior;

use crate::command::{code, err, json, out, run, start};

const SMALL: [&str; 9] = ["--max-tokens", "4", "--ignore-eos", "-t", "2", "-n", "6", "-o", "run.json"];

/// Runs against a server with a log; returns the report and the number of requests that the server had.
fn calibrated(words: &[&str]) -> (Value, String, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(Behavior { keep_log: true, ..Behavior::flat_out() });
    let output = run(folder.path(), &[&["--url", &server.url()], &SMALL[..], words].concat());
    assert_eq!(code(&output), 0, "{}\n{}", out(&output), err(&output));
    (json(&folder.path().join("run.json")), out(&output), server.served().len())
}

#[test]
fn the_clients_own_share_stands_beside_the_run_and_the_probe_is_in_no_result() {
    let (report, text, served) = calibrated(&["--calibrate"]);
    assert_eq!((served, &report["summary"]["requests"]["sent"]), (7, &6.into()));
    assert_eq!(report["requests"].as_array().expect("details").len(), 6);
    assert_eq!(report["warnings"], serde_json::json!([]));
    let found = &report["calibration"];
    assert_eq!(found["probe"]["token_events"], 4);
    assert_eq!(
        (&found["matched"], &found["unmatched"], &found["miscounted"]),
        (&6.into(), &0.into(), &0.into())
    );
    assert_eq!((&found["replay"]["tokens"], &found["replay"]["failed"]), (&4.into(), &0.into()));
    assert_eq!(found["itl_error_ms"]["count"], 6 * 3);
    for line in ["TTFT                 p99 ", "ITL                  p99 ", "E2E                  p99 "] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.contains("Replayed             6 requests of 4 tokens"), "{text}");
}

#[test]
fn an_open_loop_can_be_calibrated() {
    let (report, ..) = calibrated(&["--calibrate", "--request-rate", "100", "--arrival", "constant"]);
    assert_eq!(
        (&report["calibration"]["matched"], &report["calibration"]["unmatched"]),
        (&6.into(), &0.into())
    );
}

#[test]
fn replies_that_end_at_their_limit_fail_in_the_run_and_not_in_its_replay() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(Behavior { output_tokens: NonZeroU64::new(8), ..Behavior::flat_out() });
    let words = ["-q", "--max-tokens", "200", "-t", "2", "-n", "6", "-o", "run.json", "--calibrate"];
    let output = run(folder.path(), &[&["--url", &server.url(), "--fail-on-length"], &words[..]].concat());
    assert_eq!(code(&output), 0, "{}\n{}", out(&output), err(&output));
    let found = &json(&folder.path().join("run.json"))["calibration"];
    assert_eq!((&found["matched"], &found["replay"]["failed"]), (&6.into(), &0.into()));
}

#[test]
fn replies_in_one_piece_have_an_end_to_compare() {
    let (report, text, _) = calibrated(&["--calibrate", "--no-stream"]);
    let found = &report["calibration"];
    assert_eq!((&found["ttft_error_ms"], &found["itl_error_ms"]), (&Value::Null, &Value::Null));
    assert_eq!((&found["e2e_error_ms"]["count"], &found["probe"]["output_tokens"]), (&6.into(), &4.into()));
    assert!(!text.contains("TTFT                 p99 "), "{text}");
}

#[test]
fn nothing_is_calibrated_unasked_and_the_config_file_may_ask() {
    let (report, text, served) = calibrated(&[]);
    assert_eq!((&report["calibration"], served), (&Value::Null, 6));
    assert!(!text.contains("own share"), "{text}");
    let folder = tempfile::tempdir().expect("a folder");
    let config = r#"{"benchmark": {"calibrate": true, "max_tokens": 2, "default_completions": 2}}"#;
    fs::write(folder.path().join("config.json"), config).expect("written");
    let words = ["--simulate", "--behavior", "ttft=0s,itl=0s", "-c", "config.json", "-o", "run.json"];
    let output = run(folder.path(), &words);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(err(&output).contains("calibrating: one request"), "{}", err(&output));
    assert_eq!(json(&folder.path().join("run.json"))["calibration"]["matched"], 2);
}

#[test]
fn a_server_that_shows_no_pace_ends_the_command_before_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(Behavior { fail: 1.0, ..Behavior::flat_out() });
    let output = run(folder.path(), &["--url", &server.url(), "--calibrate", "-o", "run.json"]);
    assert_eq!((code(&output), out(&output).as_str()), (1, ""), "{}", err(&output));
    assert!(err(&output).contains("no reply that succeeds in 3 tries"), "{}", err(&output));
    assert!(err(&output).contains("http_500"), "{}", err(&output));
    assert!(!folder.path().join("run.json").exists());
}

#[test]
fn a_record_log_has_it_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let words = ["--simulate", "--behavior", "ttft=0s,itl=0s", "--calibrate", "--record-log", "run.jsonl"];
    let output = run(folder.path(), &[&words[..], &SMALL[..]].concat());
    assert_eq!(code(&output), 0, "{}", err(&output));
    let output = run(folder.path(), &["report", "run.jsonl", "--output", "again.json"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("Client's own share"), "{}", out(&output));
    let found = |file: &str| json(&folder.path().join(file))["calibration"].clone();
    assert_eq!(found("again.json"), found("run.json"));
}
