//! `--save-responses`: the text of replies, where it is kept and where it must not be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::command::{code, command, err, folder, json, out, run, succeeds};
use crate::receiver::answering;

const STREAM: &str = "text/event-stream";
const WHOLE: &str = "application/json";
/// The most bytes that are kept of a text.
const MOST: usize = 1 << 20;

/// A stream of these objects, without `[DONE]`.
fn stream(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("data: {object}\n\n")).collect()
}

fn delta(text: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": text}}]})
}

/// Has every request answered with this body, and gives back the one line of `requests`, the record log's line having the
/// same.
fn answered(path: &str, content_type: &'static str, body: String) -> Value {
    let folder = folder();
    let (url, _received) =
        answering(move |_| (format!("200 OK\r\nContent-Type: {content_type}"), body.clone()));
    let url = format!("{url}{path}");
    let words = ["-q", "--model", "m", "-n", "1", "-t", "1", "--no-server-metrics", "--save-responses"];
    let output = run(
        folder.path(),
        &[&words[..], &["--url", &url, "-o", "r.json", "--record-log", "r.jsonl"]].concat(),
    );
    assert!(code(&output) < 2, "{}", err(&output));
    let row = json(&folder.path().join("r.json"))["requests"][0].clone();
    let log = fs::read_to_string(folder.path().join("r.jsonl")).expect("written");
    let record: Value = serde_json::from_str(log.lines().nth(1).expect("a record")).expect("JSON");
    assert_eq!(row.get("response"), record["record"].get("response"));
    row
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn a_streamed_chat_is_kept_with_its_reasoning_apart() {
    let thought = json!({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]});
    let stop = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let body = stream(&[thought, delta("Hi,\n"), delta("\"you\" 🦀"), stop]);
    let row = answered(CHAT, STREAM, body);
    assert_eq!(row["outcome"], "success");
    assert_eq!(row["response"], json!({"text": "Hi,\n\"you\" 🦀", "reasoning": "hm"}));
}

#[test]
fn streamed_completions_are_kept() {
    let token = |text: &str, reason: Value| json!({"choices": [{"text": text, "finish_reason": reason}]});
    let body = stream(&[token("One", Value::Null), token(" two", Value::Null), token(".", json!("stop"))]);
    let row = answered("/v1/completions", STREAM, body);
    assert_eq!(row["response"], json!({"text": "One two."}));
}

#[test]
fn a_whole_reply_is_kept() {
    let message = json!({"role": "assistant", "content": "All at once", "reasoning": "hm"});
    let body = json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]});
    let row = answered(CHAT, WHOLE, body.to_string());
    assert_eq!(row["response"], json!({"text": "All at once", "reasoning": "hm"}));
}

#[test]
fn of_a_reply_that_fails_midway_is_kept_what_came() {
    let row = answered(CHAT, STREAM, stream(&[delta("So "), delta("far")]));
    assert_eq!((&row["outcome"], &row["response"]["text"]), (&json!("ended_early"), &json!("So far")));
    let row = answered(CHAT, STREAM, stream(&[delta("So far"), json!({"error": {"message": "dead"}})]));
    assert_eq!((&row["outcome"], &row["response"]["text"]), (&json!("error_event"), &json!("So far")));
    let row = answered(CHAT, WHOLE, "{\"choices\":[{\"message\":{\"content\":\"br".to_owned());
    assert_eq!((&row["outcome"], row.get("response")), (&json!("unparseable_reply"), None));
}

#[test]
fn a_reply_is_cut_at_its_bound() {
    let long = "x".repeat(MOST / 4 + 1);
    let row = answered(CHAT, STREAM, stream(&vec![delta(&long); 5]));
    assert_eq!(row["response"]["truncated"], true);
    assert_eq!(row["response"]["text"].as_str().map(str::len), Some(MOST));
}

/// What a server says that sends the key back, whole and broken off, in one event and over two.
fn echo() -> String {
    stream(&[
        delta("canary-text: sk-canary-key, sk-can"),
        delta("ary-key; "),
        json!({"choices": [{"index": 0, "delta": {"reasoning": "is it sk-canary-key"}}]}),
        delta("and sk-canary-"),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}),
    ])
}

/// Makes a run whose every output is written, with more words; the key is in a variable.
fn run_with_every_output(folder: &Path, more: &[&str]) -> [String; 2] {
    let (url, _received) = answering(|_| (format!("200 OK\r\nContent-Type: {STREAM}"), echo()));
    let output = command(folder)
        .args(["--url", &format!("{url}{CHAT}"), "--model", "m", "-n", "3", "-t", "1", "-vv"])
        .args(["--no-server-metrics", "--threshold", "error_rate<1%", "-o", "r.json"])
        .args(["--record-log", "r.jsonl", "--csv", "r.csv", "--html", "r.html", "--markdown", "r.md"])
        .args(["--vllm-json", "v.json", "--junit", "r.xml", "--prom-out", "r.prom"])
        .args(more)
        .env("VLLM_LOADGEN_API_KEY", "sk-canary-key")
        .output()
        .expect("it starts");
    succeeds(&output);
    [out(&output), err(&output)]
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).expect("written")
}

#[test]
fn replies_are_in_two_files_that_are_private_without_the_key_and_nowhere_else() {
    let folder = folder();
    let here = folder.path();
    let shown = run_with_every_output(here, &["--save-responses"]);
    for name in ["r.json", "r.jsonl"] {
        let text = read(here, name);
        assert!(
            text.contains("canary-text: ***, ***; and ***") && text.contains("is it ***"),
            "{name}: {text}"
        );
        assert!(!text.contains("sk-can"), "{name}: {text}");
        let mode = fs::metadata(here.join(name)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let others = ["r.csv", "r.html", "r.md", "v.json", "r.xml", "r.prom"].map(|name| read(here, name));
    for text in shown.iter().chain(&others) {
        assert!(!text.contains("canary"), "{text}");
    }
}
