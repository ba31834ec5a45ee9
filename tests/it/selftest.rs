//! `vllm-loadgen selftest`: small runs, whose shape and counts are certain on any machine; no time is.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{code, command, err, json, out, run};

const TINY: [&str; 8] = ["selftest", "--tokens", "4", "--gap", "1ms", "--requests", "2", "-q"];

fn tiny(folder: &std::path::Path, more: &[&str]) -> std::process::Output {
    run(folder, &[&TINY, more].concat())
}

/// The cells of the line that begins so.
fn line(text: &str, beginning: &str) -> Vec<String> {
    let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix(beginning));
    let line = line.unwrap_or_else(|| panic!("no line '{beginning}' in\n{text}"));
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_number_of_streams_has_a_column_and_every_request_is_found_in_the_servers_log() {
    let folder = tempfile::tempdir().expect("a folder");
    // a config file of the user's is for other runs
    fs::write(folder.path().join("benchmark_config.json"), r#"{"benchmark": {"stream": false}}"#)
        .expect("written");
    let output = tiny(folder.path(), &["--streams", "1", "3", "-o", "self.json"]);
    assert_eq!(code(&output), 0, "{}\n{}", out(&output), err(&output));
    assert_eq!(err(&output), "");
    let text = out(&output);
    assert_eq!(line(&text, "streams"), ["1", "3"]);
    assert_eq!(line(&text, "requests "), ["2", "6"]);
    assert_eq!(line(&text, "tokens"), ["8", "24"]);
    assert_eq!(line(&text, "time between tokens, ms"), ["1.00", "1.00"]);
    assert_eq!(line(&text, "requests or tokens that do not match"), ["0", "0"]);
    for measured in
        ["TTFT error, ms: p50", "ITL error, ms: p50", "E2E error, ms: p50", "server late, ms: p50"]
    {
        let cells = line(&text, measured);
        assert!(
            cells.len() == 2 && cells.iter().all(|cell| cell.parse::<f64>().is_ok()),
            "{measured}: {cells:?}"
        );
    }
    for streams in ["1 stream: TTFT error p99 ", "3 streams: TTFT error p99 "] {
        assert!(text.contains(streams), "{text}");
    }
    assert!(text.contains("Written: self.json") || text.contains("/self.json"), "{text}");
    let findings = json(&folder.path().join("self.json"));
    assert_eq!(findings["schema"], 1);
    let rows = findings["rows"].as_array().expect("rows");
    for (row, streams) in rows.iter().zip([1, 3]) {
        let found = &row["found"];
        assert_eq!((&row["streams"], &row["problem"]), (&streams.into(), &serde_json::Value::Null));
        assert_eq!((&found["matched"], &found["unmatched"]), (&(2 * streams).into(), &0.into()), "{row}");
        assert_eq!(found["ttft_error_ms"]["count"], 2 * streams);
        assert_eq!(found["itl_error_ms"]["count"], 2 * 3 * streams);
        assert_eq!(found["server_late_ms"]["count"], 2 * 4 * streams);
        assert!(found["cpu_us_per_token"].is_number() && found["ttft_goal_ms"] == 0.2, "{row}");
    }
    assert_eq!(rows.len(), 2);
}

#[test]
fn what_makes_no_sense_is_told_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |words: &[&str], said: &str| {
        let output = run(folder.path(), words);
        assert_eq!((code(&output), out(&output).as_str()), (2, ""), "{words:?}");
        assert!(err(&output).contains(said), "{words:?}: {}", err(&output));
    };
    let counts = "write one or more whole numbers from 1 to 16000, such as 1,20,200";
    check(&["selftest", "--streams", "0"], &format!("--streams '0': {counts}"));
    check(&["selftest", "--streams", "1,16001"], &format!("--streams '1,16001': {counts}"));
    check(&["selftest", "--streams", ","], &format!("--streams ',': {counts}"));
    check(&["selftest", "--streams", "abc"], "--streams 'abc': 'abc' is not a whole number");
    check(&["selftest", "--gap", "0"], "--gap '0': write a time above 0, such as 20ms");
    check(&["selftest", "--tokens", "0"], "--tokens '0': write a whole number above 0");
    check(&["selftest", "--tokens", "131073"], "--tokens '131073': write a whole number from 1 to 131072");
    check(&["selftest", "--requests", "-1", "--gap", "soon"], "--requests '-1': write a whole number");
    check(&["selftest", "--requests", "-1", "--gap", "soon"], "--gap 'soon': not a duration");
}

#[test]
fn a_file_that_exists_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("self.json"), "mine").expect("written");
    let output = tiny(folder.path(), &["--streams", "1", "-o", "self.json"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("--overwrite"), "{}", err(&output));
    assert_eq!(fs::read_to_string(folder.path().join("self.json")).expect("kept"), "mine");
}

#[test]
fn streams_that_the_limits_do_not_allow_are_told_and_the_rest_is_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut shell = Command::new("sh");
    let script = r#"ulimit -n 100 && exec "$0" "$@""#;
    shell.args(["-c", script, env!("CARGO_BIN_EXE_vllm-loadgen")]).args(TINY).args(["--streams", "100,2"]);
    let output = shell.current_dir(folder.path()).output().expect("there is a shell");
    assert_eq!(code(&output), 1, "{}", err(&output));
    let text = out(&output);
    assert_eq!(line(&text, "streams"), ["2"]);
    assert!(
        text.contains("100 streams: not run: the limit on open files is 100, and it takes 164"),
        "{text}"
    );
}

#[test]
fn an_interrupted_self_test_ends_at_once_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = command(folder.path())
        .args(["selftest", "--streams", "1,2", "--gap", "1h"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut words = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut first = String::new();
    words.read_line(&mut first).expect("it says what it does");
    assert!(first.starts_with("1 stream: about "), "{first}");
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a process id")), Signal::SIGTERM)
        .expect("it is there");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(143));
    assert!(out(&output).starts_with("vllm-loadgen "), "{}", out(&output));
}
