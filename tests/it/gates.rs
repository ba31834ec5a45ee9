//! Runs held to limits, and compared: exit code 99, and what is written.

use std::fs;

use serde_json::json;

use crate::command::{code, err, folder, json as read_json, out, run, simulator, succeeds};

#[test]
fn thresholds_decide_the_exit_code_and_are_in_every_result() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let words = [
        "-q",
        "--ignore-eos",
        "--url",
        &url,
        "-n",
        "320",
        "-t",
        "4",
        "--max-tokens",
        "3",
        "--threshold",
        "ttft.p99 < 1h",
        "--threshold=error_rate<=50%",
        "-o",
        "run.json",
        "--junit",
        "run.xml",
        "--record-log",
        "run.jsonl",
    ];
    let ran = run(folder.path(), &words);
    succeeds(&ran);
    assert!(out(&ran).contains("passed       ttft.p99<1h"), "{}", out(&ran));
    let report = read_json(&folder.path().join("run.json"));
    let judged = &report["thresholds"][0];
    assert_eq!((&judged["verdict"], &judged["unit"]), (&json!("passed"), &json!("ms")));
    assert_eq!((&judged["n"], &judged["limit"]), (&json!(320), &json!(3_600_000.0)));
    assert!(judged["ci95"]["low"].as_f64() <= judged["value"].as_f64(), "{judged}");
    assert_eq!(report["thresholds"][1]["value"], 0.0);
    assert_eq!(report["plan"]["thresholds"], json!(["ttft.p99<1h", "error_rate<=50%"]));
    let xml = fs::read_to_string(folder.path().join("run.xml")).expect("written");
    assert!(xml.contains("tests=\"2\" failures=\"0\""), "{xml}");
    // the log makes the same report, verdicts and all
    succeeds(&run(folder.path(), &["report", "run.jsonl", "-o", "again.json"]));
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).expect("written");
    assert_eq!(text("run.json"), text("again.json"));
}

#[test]
fn a_threshold_that_fails_is_99_and_an_inconclusive_one_under_strict() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let of = |words: &[&str]| {
        run(
            folder.path(),
            &[&["-q", "--ignore-eos", "--url", &url, "-n", "20", "-t", "2", "--max-tokens", "3"], words]
                .concat(),
        )
    };
    let failed = of(&["--threshold", "e2e.max<1us"]);
    assert_eq!(code(&failed), 99, "{}", out(&failed));
    assert!(out(&failed).contains("failed       e2e.max<1us"), "{}", out(&failed));
    let few = ["--threshold", "ttft.p99<1h"];
    let inconclusive = of(&few);
    assert_eq!(code(&inconclusive), 0);
    assert!(
        out(&inconclusive).contains("20 requests cannot show it at 95 %; it takes 299"),
        "{}",
        out(&inconclusive)
    );
    assert_eq!(code(&of(&[&few[..], &["--strict"]].concat())), 99);
    // what no request had is no success
    assert_eq!(code(&of(&["--threshold", "connect.p50<1h", "--warmup", "0"])), 0);
    assert_eq!(code(&of(&["--api", "chat", "--threshold", "steady_requests_per_s>0"])), 0);
}

#[test]
fn thresholds_that_are_wrong_are_told_before_the_run() {
    let folder = folder();
    let words = ["--threshold", "ttfft.p99<5ms", "--threshold", "ttft.p99<500", "--threads", "0"];
    let output = run(folder.path(), &words);
    assert_eq!(code(&output), 2);
    for want in [
        "--threshold 'ttfft.p99<5ms': no such metric; did you mean 'ttft'?",
        "--threshold 'ttft.p99<500': the limit has no unit; write ms or s, such as ttft.p99<500ms",
        "--threads '0'",
    ] {
        assert!(err(&output).contains(want), "{}", err(&output));
    }
}

#[test]
fn a_config_file_has_thresholds_and_a_flag_replaces_them() {
    let (folder, server) = (folder(), simulator());
    let config = json!({"server": {"url": server.url()}, "benchmark": {"thresholds": ["e2e.min>1h"], "max_tokens": 2}});
    fs::write(folder.path().join("c.json"), config.to_string()).expect("written");
    let words = ["-q", "-c", "c.json", "-n", "4", "-t", "1"];
    assert_eq!(code(&run(folder.path(), &words)), 99);
    let over = [&words[..], &["--threshold", "e2e.min<1h"]].concat();
    assert_eq!(code(&run(folder.path(), &over)), 0);
}
