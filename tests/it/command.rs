//! The built command, as a user types it, against the simulator.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use vllm_loadgen::sim::{Behavior, Simulator};

/// A simulator in the test's own process, as fast as it can be.
pub fn simulator() -> Simulator {
    start(Behavior::flat_out())
}

pub fn start(behavior: Behavior) -> Simulator {
    Simulator::start(behavior, ([127, 0, 0, 1], 0).into()).expect("a free port")
}

/// Variables that would change a run.
const SURROUNDINGS: [&str; 13] = [
    "VLLM_LOADGEN_API_KEY",
    "OPENAI_API_KEY",
    "VLLM_API_KEY",
    "RUST_LOG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// The command in a folder of its own, without the machine's keys.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vllm-loadgen"));
    command.current_dir(folder);
    for name in SURROUNDINGS {
        command.env_remove(name);
    }
    command
}

pub fn run(folder: &Path, words: &[&str]) -> Output {
    command(folder).args(words).output().expect("the command starts")
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("it was written")).expect("JSON")
}

/// Takes out of a result what its client did not know, for tests whose machine may have been busy.
pub fn take_out_lateness(result: &mut Value) {
    let latency = result["summary"]["latency"].as_object_mut().expect("an object");
    latency.retain(|name, _| !name.ends_with("_low_ms"));
}

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[track_caller]
pub fn succeeds(output: &Output) {
    assert_eq!(code(output), 0, "{}\n{}", out(output), err(output));
}

#[test]
fn the_main_job_runs_on_the_simulator_and_says_so() {
    let folder = folder();
    let output = run(
        folder.path(),
        &[
            "--simulate",
            "--behavior",
            "ttft=0s,itl=0s",
            "--threads",
            "20",
            "--completions",
            "500",
            "-o",
            "run.json",
        ],
    );
    succeeds(&output);
    assert!(out(&output).contains("SIMULATED"), "{}", out(&output));
    assert!(out(&output).contains("500 sent: 500 ok, 0 failed"), "{}", out(&output));
    let report = json(&folder.path().join("run.json"));
    assert_eq!(report["schema"], 1);
    assert_eq!(report["summary"]["requests"]["succeeded"], 500);
    assert_eq!(report["requests"].as_array().expect("details").len(), 500);
    assert_eq!(report["plan"]["load"]["threads"], 20);
    assert_eq!(report["server"]["window"]["requests_finished"], 500);
    assert!(report["plan"]["simulated"].is_string());
    assert_eq!(report["warnings"], serde_json::json!([]));
}

#[test]
fn every_token_is_counted_and_every_moment_in_order() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let words =
        ["--url", &url, "--max-tokens", "32", "--ignore-eos", "-n", "64", "-t", "8", "-o", "run.json"];
    succeeds(&run(folder.path(), &words));
    let report = json(&folder.path().join("run.json"));
    assert_eq!(report["summary"]["tokens"]["output"], 64 * 32);
    assert_eq!(report["server"]["window"]["generation_tokens"], 64 * 32);
    assert_eq!(report["summary"]["finish_reasons"]["length"], 64);
    for request in report["requests"].as_array().expect("details") {
        let at = |name: &str| request[name].as_f64().unwrap_or_else(|| panic!("{name}: {request}"));
        let moments = ["start_ms", "sent_ms", "first_byte_ms", "first_event_ms", "end_ms"].map(at);
        assert!(moments.is_sorted(), "{request}");
        assert_eq!(request["token_events_us"].as_array().expect("streamed").len(), 32);
    }
}

#[test]
fn whole_replies_have_latency_and_no_token_times() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let words = ["--url", &url, "--no-stream", "--completions", "10", "--max-tokens", "4", "-o", "run.json"];
    succeeds(&run(folder.path(), &words));
    let summary = &json(&folder.path().join("run.json"))["summary"];
    assert_eq!(summary["latency"]["e2e_ms"]["count"], 10);
    assert_eq!(summary["latency"]["ttft_ms"], Value::Null);
    assert_eq!(summary["latency"]["itl_ms"], Value::Null);
}

#[test]
fn concurrent_is_threads_and_equals_signs_are_read() {
    let (folder, server) = (folder(), simulator());
    let url = format!("--url={}", server.url());
    let words = [&url, "--prompt", "Hello", "--completions=9", "--concurrent", "3", "-o", "run.json"];
    succeeds(&run(folder.path(), &words));
    let plan = &json(&folder.path().join("run.json"))["plan"];
    assert_eq!((&plan["load"]["threads"], &plan["prompt"]), (&3.into(), &"Hello".into()));
}

#[test]
fn numbers_of_completions_stand_side_by_side() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let words = ["--url", &url, "--compare", "3", "5", "8", "--max-tokens", "2", "--csv", "all.csv"];
    let output = run(folder.path(), &words);
    succeeds(&output);
    assert!(out(&output).contains("Side by side"));
    let rows = rows(&folder.path().join("all.csv"));
    let sent: Vec<_> = rows.iter().map(|row| row["requests_succeeded"].as_str()).collect();
    assert_eq!(sent, ["3", "5", "8"]);
}

#[test]
fn a_thread_sweep_names_the_best_point() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let words = ["--url", &url, "--concurrent-tests", "1,2,4", "--completions", "8", "--max-tokens", "2"];
    let output = run(folder.path(), &words);
    succeeds(&output);
    assert!(out(&output).contains("efficiency"), "{}", out(&output));
    assert!(out(&output).contains("Best point: "), "{}", out(&output));
    // and so do their results, read again
    for (threads, file) in [("1", "a.json"), ("2", "b.json")] {
        let words = ["-q", "--url", &url, "-t", threads, "-n", "8", "--max-tokens", "2", "-o", file];
        succeeds(&run(folder.path(), &words));
    }
    let again = run(folder.path(), &["report", "a.json", "b.json", "--markdown", "r.md"]);
    assert!(out(&again).contains("efficiency") && out(&again).contains("Best point: "), "{}", out(&again));
    let markdown = std::fs::read_to_string(folder.path().join("r.md")).expect("written");
    assert!(markdown.contains("Best point: **`"), "{markdown}");
}

#[test]
fn a_sweep_of_which_no_point_keeps_its_limits_has_no_best_one() {
    let (folder, server) = (folder(), simulator());
    let (at, url) = (folder.path(), server.url());
    let words = ["--url", &url, "--concurrent-tests", "1,2", "-n", "8", "--max-tokens", "2", "--overwrite"];
    let files = ["-q", "--csv", "s.csv", "--markdown", "s.md", "--html", "s.html"];
    let told = |limits: &[&str]| {
        let output = run(at, &[&words[..], &files, limits].concat());
        let read = |name: &str| std::fs::read_to_string(at.join(name)).expect("written");
        (out(&output), read("s.md"), read("s.html"), rows(&at.join("s.csv")))
    };
    let broken = ["--goodput", "e2e:1h", "--threshold", "e2e.min>1h", "--threshold", "e2e.min<1h"];
    let (console, markdown, html, csv) = told(&broken);
    for page in [&console, &markdown, &html] {
        assert!(page.contains("No best point: each run broke a threshold"), "{page}");
        assert!(page.contains("1 of 2 failed") && !page.contains("Best point"), "{page}");
    }
    assert!(markdown.contains("| ITL p99 | goodput | thresholds |"), "{markdown}");
    let of = |names: &[&str]| -> Vec<String> { names.iter().map(|name| csv[1][*name].clone()).collect() };
    let counts = ["goodput", "thresholds_passed", "thresholds_failed", "thresholds_inconclusive"];
    assert_eq!(of(&counts), ["1", "1", "1", "0"]);
    assert!(["VALID", "DEGRADED", "INVALID"].contains(&&*of(&["health"])[0]));
    let (console, markdown, html, csv) = told(&["--goodput", "e2e:1h"]);
    for page in [&console, &markdown, &html] {
        assert!(page.contains("Best point: "), "{page}");
        assert!(page.contains("of the runs that kept their limits"), "{page}");
    }
    assert!(!html.contains("<th scope=\"col\">thresholds"));
    assert_eq!(csv[0]["thresholds_failed"], "");
}

#[test]
fn unique_prompts_are_of_one_run_whatever_the_seed() {
    let (sender, bodies) = std::sync::mpsc::channel();
    let url = crate::failures::server(move |_, mut stream| {
        let body = crate::failures::read_body(&mut stream);
        sender.send(body).expect("somebody listens");
        let reply = r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", reply.len());
        let _ = std::io::Write::write_all(&mut stream, (head + reply).as_bytes());
    });
    let folder = folder();
    let words = ["-q", "--url", &url, "--model", "m", "-n", "2", "-t", "1", "--no-server-metrics"];
    for _ in 0..2 {
        succeeds(&run(folder.path(), &[&words[..], &["--seed", "7", "--unique-prompts"]].concat()));
    }
    let sent: std::collections::BTreeSet<Vec<u8>> = bodies.try_iter().collect();
    assert_eq!(sent.len(), 4);
}

#[test]
fn a_program_that_names_no_concurrency_gets_that_of_its_settings() {
    use vllm_loadgen::{BenchmarkConfig, Benchmarker};
    let (folder, server) = (folder(), simulator());
    let config = BenchmarkConfig {
        url: server.url(),
        max_concurrent_requests: 3,
        max_tokens: 2,
        ..Default::default()
    };
    let benchmarker = Benchmarker::new(config);
    let threads = |named: Option<u64>| {
        let report = benchmarker.run_benchmark("Hello", 4, named).expect("a run");
        assert_eq!(report.summary.requests.succeeded, 4);
        report.plan.load.threads.get()
    };
    assert_eq!((threads(None), threads(Some(2))), (3, 2));
    let report = benchmarker.run_benchmark("Hello", 1, 1).expect("a run");
    let path = folder.path().join("saved.json");
    benchmarker.save_results(&report, &path).expect("writable");
    assert_eq!(json(&path)["summary"]["requests"]["succeeded"], 1);
    benchmarker.save_results(&report, &path).expect_err("nothing is replaced");
    benchmarker.overwrite_results(&report, &path).expect("unless it was asked for");
    let wrong = benchmarker.run_benchmark("", 0, 0).expect_err("three mistakes").to_string();
    assert_eq!(wrong.lines().count(), 3, "{wrong}");
}

/// Rows of a CSV by column.
fn rows(path: &Path) -> Vec<std::collections::HashMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).expect("it was written");
    reader.deserialize().collect::<Result<_, _>>().expect("RFC 4180")
}

const CONFIG: &str = r#"{
  "server": {"url": "URL", "model": "simulated-model"},
  "benchmark": {"max_concurrent_requests": 4, "default_prompt": "p", "default_completions": 7, "max_tokens": 2},
  "test_scenarios": [
    {"name": "Small Load", "completions": [2, 3], "prompt": "=1+1"},
    {"name": "Other", "completions": [4], "prompt": "q"}
  ]
}"#;

fn with_config(server: &Simulator) -> tempfile::TempDir {
    let folder = folder();
    fs::write(folder.path().join("c.json"), CONFIG.replace("URL", &server.url())).expect("writable");
    folder
}

#[test]
fn scenarios_make_a_csv_unless_told_not_to() {
    let server = simulator();
    let folder = with_config(&server);
    succeeds(&run(folder.path(), &["--config", "c.json", "--scenarios", "--csv", "all.csv", "--save"]));
    let rows = rows(&folder.path().join("all.csv"));
    let cells: Vec<_> = rows.iter().map(|row| (&row["scenario"][..], &row["completions"][..])).collect();
    assert_eq!(cells, [("Small Load", "2"), ("Small Load", "3"), ("Other", "4")]);
    assert_eq!((&rows[0]["threads"][..], &rows[0]["prompt"][..]), ("4", "'=1+1"));
    let mut names: Vec<_> = fs::read_dir(folder.path().join("results"))
        .expect("made")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert!(names[2].starts_with("small-load_c2_t4_20") && names[3].ends_with(".jsonl"), "{names:?}");
    assert_eq!(names.len(), 6);

    let other = with_config(&server);
    succeeds(&run(other.path(), &["--config", "c.json", "--scenarios", "--no-csv"]));
    assert!(!other.path().join("results").exists());
    succeeds(&run(other.path(), &["--config", "c.json", "--scenarios"]));
    assert_eq!(fs::read_dir(other.path().join("results")).expect("made").count(), 1);
}

#[test]
fn flags_win_over_the_file() {
    let server = simulator();
    let folder = with_config(&server);
    succeeds(&run(folder.path(), &["--config", "c.json", "--threads", "2", "-o", "run.json"]));
    let load = &json(&folder.path().join("run.json"))["plan"]["load"];
    assert_eq!((&load["threads"], &load["completions"]), (&2.into(), &7.into()));
}

#[test]
fn the_folders_own_config_file_is_taken_and_named() {
    let (folder, server) = (folder(), simulator());
    fs::write(folder.path().join("benchmark_config.json"), CONFIG.replace("URL", &server.url()))
        .expect("writable");
    let output = run(folder.path(), &["-o", "run.json"]);
    succeeds(&output);
    assert!(err(&output).contains("benchmark_config.json"), "{}", err(&output));
    assert_eq!(json(&folder.path().join("run.json"))["summary"]["requests"]["sent"], 7);
}

#[test]
fn nothing_is_overwritten_silently() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    fs::write(folder.path().join("run.json"), "mine").expect("writable");
    let words = ["--url", &url, "--completions", "2", "--output", "run.json"];
    let output = run(folder.path(), &words);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("--overwrite"), "{}", err(&output));
    assert_eq!(fs::read_to_string(folder.path().join("run.json")).expect("kept"), "mine");
    let request_count = server.running() + server.waiting();
    assert_eq!(request_count, 0);
    succeeds(&run(folder.path(), &[&words[..], &["--overwrite"]].concat()));
}

#[test]
fn a_warm_up_is_left_out_of_the_figures() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    succeeds(&run(
        folder.path(),
        &["--url", &url, "--warmup", "5", "-n", "10", "--max-tokens", "2", "-o", "run.json"],
    ));
    let report = json(&folder.path().join("run.json"));
    assert_eq!(report["summary"]["requests"]["sent"], 10);
    assert_eq!(report["summary"]["requests"]["warmup"], 5);
    assert_eq!(report["server"]["window"]["requests_finished"], 15);
}

#[test]
fn a_duration_ends_a_run_without_completions() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let words = [
        "--url",
        &url,
        "--duration",
        "300ms",
        "-t",
        "2",
        "--max-tokens",
        "2",
        "--no-detail",
        "-o",
        "run.json",
    ];
    succeeds(&run(folder.path(), &words));
    let report = json(&folder.path().join("run.json"));
    assert!(report["summary"]["requests"]["sent"].as_u64().expect("a count") > 0);
    assert_eq!(report.get("requests"), None);
    assert_eq!(report["plan"]["load"]["completions"], Value::Null);
}

#[test]
fn a_run_without_success_is_a_failure_of_the_command() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let output = run(folder.path(), &["--url", &url, "--model", "no-such", "-n", "4", "-o", "run.json"]);
    assert_eq!(code(&output), 1);
    let errors = &json(&folder.path().join("run.json"))["summary"]["errors"];
    assert_eq!((&errors[0]["kind"], &errors[0]["count"]), (&"http_404".into(), &4.into()));
    assert!(errors[0]["example"].as_str().expect("text").contains("no-such"));
    assert_eq!(out(&output).matches("does not exist").count(), 1, "{}", out(&output));
}

#[test]
fn a_run_that_fails_in_part_is_reported_in_full() {
    let folder = folder();
    let server = start(Behavior { fail: 0.5, seed: 3, ..Behavior::flat_out() });
    let url = server.url();
    succeeds(&run(folder.path(), &["--url", &url, "-n", "100", "--max-tokens", "2", "-o", "run.json"]));
    let summary = &json(&folder.path().join("run.json"))["summary"];
    let count = |name: &str| summary["requests"][name].as_u64().expect("a count");
    assert_eq!(count("sent"), 100);
    assert_eq!(count("succeeded") + count("failed"), 100);
    assert_eq!(summary["errors"][0]["kind"], "http_500");
    assert_eq!(summary["errors"][0]["count"], count("failed"));
    assert_eq!(summary["latency"]["e2e_ms"]["count"], count("succeeded"));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let folder = folder();
    let port =
        std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("bound").port();
    let url = format!("http://127.0.0.1:{port}");
    let output = run(folder.path(), &["--url", &url]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains(&format!("cannot reach {url}: connection refused")), "{}", err(&output));
    let named = run(folder.path(), &["--url", &url, "--model", "m", "-n", "3", "-o", "run.json"]);
    assert_eq!(code(&named), 1);
    assert_eq!(json(&folder.path().join("run.json"))["summary"]["errors"][0]["kind"], "connect_refused");
    assert!(out(&named).contains("Clock                no reply was read"), "{}", out(&named));
}

#[test]
fn a_key_is_sent_named_by_source_and_never_shown() {
    let folder = folder();
    let key = "sk-canary-1234567890";
    let server = start(Behavior { api_key: Some(key.to_owned()), ..Behavior::flat_out() });
    let url = server.url();
    let names =
        ["run.json", "run.csv", "run.jsonl", "run.html", "run.md", "vllm.json", "junit.xml", "run.prom"];
    let words = ["--url", &url, "-n", "5", "--max-tokens", "2", "-vvv"];
    let flags =
        ["-o", "--csv", "--record-log", "--html", "--markdown", "--vllm-json", "--junit", "--prom-out"];
    let files = flags.into_iter().zip(names).flat_map(|(flag, name)| [flag, name]);
    let threshold = ["--threshold", "error_rate<100%"];
    let output = command(folder.path())
        .args(words)
        .args(files)
        .args(threshold)
        .env("OPENAI_API_KEY", key)
        .output()
        .expect("it starts");
    succeeds(&output);
    assert!(out(&output).contains("OPENAI_API_KEY"));
    let files = names.map(|name| fs::read_to_string(folder.path().join(name)).expect("written"));
    for text in [out(&output), err(&output)].iter().chain(&files) {
        assert!(!text.contains("canary"), "{text}");
    }
    fs::write(folder.path().join("key"), "wrong\n").expect("writable");
    let refused = run(
        folder.path(),
        &["--url", &url, "--model", "simulated-model", "--api-key-file", "key", "-n", "3"],
    );
    assert_eq!(code(&refused), 1);
    assert!(out(&refused).contains("3 × http_401"), "{}", out(&refused));
}

#[test]
fn the_key_is_nowhere_even_when_everything_is_logged() {
    let folder = folder();
    let server = start(Behavior { api_key: Some("sk-canary".to_owned()), ..Behavior::flat_out() });
    let output = command(folder.path())
        .args(["--url", &server.url(), "-n", "2", "--max-tokens", "2"])
        .args(["--header", "X-Api-Token: sk-canary-too", "-o", "run.json", "--record-log", "run.jsonl"])
        .env("VLLM_LOADGEN_API_KEY", "sk-canary")
        .env("RUST_LOG", "trace")
        .output()
        .expect("it starts");
    succeeds(&output);
    assert!(err(&output).contains("DEBUG"), "everything is logged");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("written");
    let files = ["--html", "t.html", "--markdown", "t.md", "--csv", "t.csv", "-o", "t.json"];
    let trend = run(folder.path(), &[&["trend", "run.json"], &files[..]].concat());
    succeeds(&trend);
    let pages = ["t.html", "t.md", "t.csv", "t.json"].map(read).concat();
    for text in [out(&output), err(&output), read("run.json"), read("run.jsonl"), out(&trend), pages] {
        assert!(
            !text.contains("canary"),
            "{}",
            text.lines().find(|l| l.contains("canary")).unwrap_or_default()
        );
    }
}

#[test]
fn help_version_and_mistyped_flags_are_answered() {
    let folder = folder();
    let help = run(folder.path(), &["--help"]);
    succeeds(&help);
    for part in ["--threads", "default: 20", "--simulate", "--concurrent-tests 5 10 20 50"] {
        assert!(out(&help).contains(part), "{part}");
    }
    let version = run(folder.path(), &["--version"]);
    succeeds(&version);
    assert!(out(&version).starts_with(concat!("vllm-loadgen ", env!("CARGO_PKG_VERSION"), " (commit ")));
    let mistyped = run(folder.path(), &["--thread", "3"]);
    assert_eq!(code(&mistyped), 2);
    assert!(err(&mistyped).contains("--threads"), "{}", err(&mistyped));
}

#[test]
fn sync_is_accepted_and_explained() {
    let (folder, server) = (folder(), simulator());
    let output = run(folder.path(), &["--url", &server.url(), "-n", "2", "--max-tokens", "2", "--sync"]);
    succeeds(&output);
    assert!(err(&output).contains("always synchronous"), "{}", err(&output));
}

#[test]
fn every_mistake_is_told_before_anything_is_sent() {
    let folder = folder();
    let words = [
        "--threads",
        "none",
        "--timeout",
        "soon",
        "--temperature",
        "warm",
        "--header",
        "oops",
        "--extra-body",
        "[1]",
    ];
    let output = run(folder.path(), &words);
    assert_eq!(code(&output), 2);
    let said = err(&output);
    for part in ["--threads 'none'", "--timeout 'soon'", "--temperature 'warm'", "--header", "--extra-body: "]
    {
        assert!(said.contains(part), "{part} not in {said}");
    }
    assert_eq!(out(&output), "");
}

/// A child that is ended with the test, however the test ends.
pub struct Child(pub std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_simulator_alone_is_a_server_to_measure() {
    use std::io::{BufRead, BufReader};
    let folder = folder();
    let words =
        ["simulate", "--port", "0", "--ttft", "0s", "--itl", "0s", "--model", "own-model", "--slots", "2"];
    let mut command = command(folder.path());
    let child = command.args(words).stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let mut child = Child(child);
    let said =
        BufReader::new(child.0.stderr.take().expect("piped")).lines().next().expect("a line").expect("UTF-8");
    let url =
        said.split_whitespace().find_map(|word| word.strip_suffix(':').filter(|w| w.starts_with("http")));
    let url = url.unwrap_or_else(|| panic!("no URL in {said}"));
    succeeds(&run(folder.path(), &["--url", url, "-n", "20", "--max-tokens", "3", "-o", "run.json"]));
    let report = json(&folder.path().join("run.json"));
    assert_eq!(report["plan"]["request"]["model"], "own-model");
    assert_eq!(report["plan"]["simulated"], Value::Null);
    assert_eq!(report["summary"]["requests"]["succeeded"], 20);
}

#[test]
fn a_simulator_that_cannot_be_is_refused() {
    let folder = folder();
    let output =
        run(folder.path(), &["simulate", "--port", "x", "--ttft", "soon", "--fail", "200%", "--slots", "0"]);
    assert_eq!(code(&output), 2);
    for part in ["--port 'x'", "--ttft 'soon'", "--fail '200%'", "--slots '0'"] {
        assert!(err(&output).contains(part), "{part} not in {}", err(&output));
    }
}

/// Starts a run, and sends it signals once the server has something to do with it.
pub fn interrupt(
    words: &[&str],
    server: &Simulator,
    is_ready: impl Fn() -> bool,
    signals: &[nix::sys::signal::Signal],
) -> i32 {
    let folder =
        Path::new(words.last().expect("a file at the end")).parent().expect("in a folder").to_owned();
    let mut command = command(&folder);
    let stdio = std::process::Stdio::piped;
    let child = command.args(["--url", &server.url()]).args(words).stdout(stdio()).stderr(stdio()).spawn();
    let mut child = Child(child.expect("it starts"));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.0.id()).expect("a process id"));
    while !is_ready() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut said = std::io::BufReader::new(child.0.stderr.take().expect("piped"));
    for signal in signals {
        nix::sys::signal::kill(pid, *signal).expect("it runs");
        // the next signal might be merged with one that is not taken yet
        std::io::BufRead::read_line(&mut said, &mut String::new()).expect("text");
    }
    child.0.wait().expect("it ends").code().expect("it was not killed")
}

#[test]
fn an_interrupted_run_still_reports_and_says_that_it_is_incomplete() {
    use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    let folder = folder();
    let mut all = vec![(SIGINT, 130), (SIGTERM, 143), (SIGXFSZ, 153)];
    // elsewhere it is not known whether it is ignored
    if cfg!(target_os = "linux") {
        all.push((SIGHUP, 129));
    }
    for (signal, want) in all {
        let server = simulator();
        let file = folder.path().join(format!("{signal}.json"));
        let words = ["-q", "--duration", "1h", "-t", "4", "--max-tokens", "2", "-o", path(&file)];
        // it has caught the signals by the time its first request is served
        let is_served = || metric(&server, "vllm:request_success_total") > 0;
        assert_eq!(interrupt(&words, &server, is_served, &[signal]), want);
        let report = json(&file);
        assert_eq!(report["complete"], false);
        assert!(report["summary"]["requests"]["succeeded"].as_u64().expect("a count") > 0);
    }
    assert_eq!(hidden_files(folder.path()), 0);
}

/// Files written aside that are still there.
fn hidden_files(folder: &Path) -> usize {
    let names = fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").file_name());
    names.filter(|name| name.as_encoded_bytes().starts_with(b".")).count()
}

/// A command of ours that a shell runs after these words.
fn command_after(shell: &str, folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.current_dir(folder).args(["-c", &format!("{shell}; exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_vllm-loadgen")).args(words);
    for name in SURROUNDINGS {
        command.env_remove(name);
    }
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

#[test]
fn a_third_interrupt_leaves_nothing_behind() {
    let folder = folder();
    let (asked, is_asked) = std::sync::mpsc::channel();
    let mut held = Vec::new();
    // for its metrics, which are waited for
    let url = crate::failures::server(move |_, stream| {
        held.push(stream);
        let _ = asked.send(());
    });
    let mut command = command(folder.path());
    command.args(["-q", "--url", &url, "--model", "m", "-o", "r.json", "--csv", "r.csv"]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn();
    let mut child = Child(child.expect("it starts"));
    is_asked.recv().expect("it asks");
    assert_eq!(hidden_files(folder.path()), 2);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.0.id()).expect("a process id"));
    let mut said = std::io::BufReader::new(child.0.stderr.take().expect("piped"));
    for _ in 0..3 {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it runs");
        std::io::BufRead::read_line(&mut said, &mut String::new()).expect("text");
    }
    assert_eq!(child.0.wait().expect("it ends").code(), Some(130));
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
}

#[test]
fn a_run_under_nohup_outlives_a_hang_up() {
    let (folder, server) = (folder(), simulator());
    let words = ["-q", "--url", &server.url(), "--duration", "500ms", "-t", "2", "--max-tokens", "2"];
    let child =
        command_after("trap '' HUP", folder.path(), &[&words[..], &["-o", "r.json"]].concat()).spawn();
    let mut child = Child(child.expect("it starts"));
    while metric(&server, "vllm:request_success_total") == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.0.id()).expect("a process id"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("it runs");
    assert_eq!(child.0.wait().expect("it ends").code(), Some(0));
    assert_eq!(json(&folder.path().join("r.json"))["complete"], true);
}

#[test]
fn a_file_that_may_not_grow_is_told_as_a_full_disk_is() {
    let (folder, server) = (folder(), simulator());
    let base = ["-q", "--url", &server.url(), "-n", "200", "-t", "2", "--max-tokens", "2"];
    for more in [&["-o", "r.json"][..], &["-o", "r.json", "--no-detail", "--record-log", "r.jsonl"]] {
        // 4 or 8 KiB, as the shell counts
        let mut command = command_after("ulimit -f 8", folder.path(), &[&base[..], more].concat());
        let output = command.output().expect("it starts");
        assert_eq!(output.status.code(), Some(1), "{more:?}: {}", err(&output));
        assert!(
            out(&output).contains("  Requests ") && out(&output).contains("0 failed"),
            "{}",
            out(&output)
        );
        let said = err(&output);
        assert!(said.contains("File too large") && said.contains("ulimit -f"), "{more:?}: {said}");
        assert_eq!(hidden_files(folder.path()), 0, "{more:?}");
        assert!(!folder.path().join("r.json").exists(), "{more:?}");
        let _ = fs::remove_file(folder.path().join("r.jsonl"));
    }
    // what makes no run tells it too
    succeeds(&run(folder.path(), &[&base[..], &["-o", "whole.json"]].concat()));
    let words = ["report", "whole.json", "--html", "r.html"];
    let output = command_after("ulimit -f 8", folder.path(), &words).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("r.html: File too large"), "{}", err(&output));
    assert_eq!(hidden_files(folder.path()), 0);
}

/// Sends a first token after an hour.
fn stuck() -> Simulator {
    start(Behavior { ttft: std::time::Duration::from_secs(3600), ..Behavior::flat_out() })
}

#[test]
fn streams_that_are_stuck_are_given_up_after_the_grace_or_at_a_second_signal() {
    use nix::sys::signal::Signal::SIGINT;
    let folder = folder();
    let graced: &[&str] = &["--grace", "50ms"];
    for (name, more, signals) in [("grace", graced, &[SIGINT][..]), ("twice", &[], &[SIGINT, SIGINT])] {
        let server = stuck();
        let file = folder.path().join(format!("{name}.json"));
        let words = [&["-q", "-n", "9", "-t", "3"], more, &["-o", path(&file)]].concat();
        let is_running = || metric(&server, "vllm:num_requests_running") == 3;
        assert_eq!(interrupt(&words, &server, is_running, signals), 130, "{name}");
        let report = json(&file);
        let requests = &report["summary"]["requests"];
        assert_eq!((&requests["sent"], &requests["by_client"]), (&3.into(), &3.into()), "{name}");
        assert_eq!(report["summary"]["errors"][0]["kind"], "interrupted", "{name}");
    }
}

#[test]
fn a_run_whose_time_is_up_gives_stuck_streams_up_after_the_grace() {
    let (folder, server) = (folder(), stuck());
    let words =
        ["--url", &server.url(), "-t", "2", "--duration", "50ms", "--grace", "50ms", "-o", "run.json"];
    let output = run(folder.path(), &words);
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains("2 sent: 0 ok, 0 failed, 2 ended by this client"), "{}", out(&output));
    let report = json(&folder.path().join("run.json"));
    assert_eq!(
        (&report["complete"], &report["summary"]["errors"][0]["kind"]),
        (&true.into(), &"cancelled".into())
    );
}

#[test]
fn too_many_failures_end_a_run_with_its_report() {
    let (folder, failing, half) = (
        folder(),
        start(Behavior { fail: 1.0, ..Behavior::flat_out() }),
        start(Behavior { fail: 0.5, ..Behavior::flat_out() }),
    );
    let base = ["-q", "-t", "2", "-n", "10000", "--max-tokens", "2", "--url"];
    for (name, server, limit, code_wanted, most) in [
        ("all", &failing, ["--max-errors", "5"], 1, 5_000),
        ("some", &half, ["--max-errors", "5"], 99, 5_000),
        ("share", &half, ["--max-error-rate", "10%"], 99, 5_000),
    ] {
        let file = format!("{name}.json");
        let output = run(folder.path(), &[&base[..], &[&server.url()], &limit, &["-o", &file]].concat());
        assert_eq!(code(&output), code_wanted, "{name}: {}", err(&output));
        assert!(out(&output).contains("INCOMPLETE           ended early: "), "{name}: {}", out(&output));
        let report = json(&folder.path().join(&file));
        assert_eq!(report["complete"], false, "{name}");
        assert!(report["stopped_by"].as_str().expect("text").contains(limit[0]), "{name}");
        assert!(report["summary"]["requests"]["failed"].as_u64().expect("a count") >= 3, "{name}");
        assert!(report["summary"]["requests"]["sent"].as_u64().expect("a count") <= most, "{name}");
    }
    // the warm-up is in no other figure
    let warmup = ["--warmup", "1000", "--max-errors", "5", "-o", "warmup.json"];
    let output = run(folder.path(), &[&base[..], &[&failing.url()], &warmup].concat());
    let report = json(&folder.path().join("warmup.json"));
    assert_eq!((code(&output), &report["summary"]["requests"]["failed"]), (1, &0.into()));
    let reason = report["stopped_by"].as_str().expect("text");
    assert!(reason.contains("; the last was request ") && reason.contains(": http_500: "), "{reason}");
    let enough = ["-q", "-n", "40", "--max-tokens", "2", "--max-error-rate", "90%", "--url", &half.url()];
    succeeds(&run(folder.path(), &enough));
}

#[test]
fn a_run_without_progress_ends_with_its_report() {
    let (folder, silent) =
        (folder(), start(Behavior { ttft: Duration::from_secs(3600), ..Behavior::flat_out() }));
    let words = [
        "-q",
        "-t",
        "2",
        "-n",
        "9",
        "--no-progress-timeout",
        "300ms",
        "--grace",
        "0s",
        "-o",
        "r.json",
        "--url",
    ];
    let output = run(folder.path(), &[&words[..], &[&silent.url()]].concat());
    assert_eq!(code(&output), 1, "nothing succeeded: {}", err(&output));
    let report = json(&folder.path().join("r.json"));
    assert!(report["stopped_by"].as_str().expect("text").contains("--no-progress-timeout"), "{report}");
    assert_eq!(report["summary"]["errors"][0]["kind"], "no_progress");
    assert_eq!(report["summary"]["requests"]["failed"], 2, "its silence counts against the server");
}

#[test]
fn a_run_without_any_reply_ends_with_its_report() {
    let (folder, url) = (folder(), dead_url());
    fs::write(folder.path().join("c.json"), r#"{"benchmark": {"no_reply_timeout": "300ms"}}"#)
        .expect("writable");
    let base =
        ["-q", "-t", "2", "--duration", "1h", "--model", "m", "--overwrite", "-o", "r.json", "--url", &url];
    let open: &[&str] = &["--no-reply-timeout", "300ms", "--request-rate", "20"];
    for limit in [&["--no-reply-timeout", "300ms"][..], &["--config", "c.json"], open] {
        let output = run(folder.path(), &[&base[..], limit].concat());
        assert_eq!(code(&output), 1, "nothing succeeded: {}", err(&output));
        assert!(out(&output).contains("ended early: no byte of a reply for 300 ms"), "{}", out(&output));
        let report = json(&folder.path().join("r.json"));
        let reason = report["stopped_by"].as_str().expect("text");
        assert!(reason.contains("--no-reply-timeout") && reason.contains("connect_refused"), "{reason}");
        assert_eq!(report["plan"]["error_limits"]["no_reply_timeout_s"], 0.3);
    }
    let output = run(folder.path(), &["--no-reply-timeout", "0s"]);
    assert!(code(&output) == 2 && err(&output).contains("--no-reply-timeout '0'"), "{}", err(&output));
}

/// The URL of a port at which nobody listens.
pub fn dead_url() -> String {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

#[test]
fn a_closed_loop_does_not_hammer_a_server_that_is_not_there() {
    let (folder, url) = (folder(), dead_url());
    let base = ["-q", "--url", &url, "--model", "m", "--overwrite", "-o", "r.json"];
    let output = run(folder.path(), &[&base[..], &["-t", "4", "--duration", "500ms"]].concat());
    assert_eq!(code(&output), 1, "nothing succeeded: {}", err(&output));
    let report = json(&folder.path().join("r.json"));
    // halved by chance throughout: 5 + 10 + 20 + 40 + 80 + 160 + 320 ms
    let failed = report["summary"]["requests"]["failed"].as_u64().expect("a count");
    assert!(failed <= 4 * 8, "{failed}");

    let output =
        run(folder.path(), &[&base[..], &["-t", "2", "-n", "8", "--record-log", "r.jsonl"]].concat());
    let report = json(&folder.path().join("r.json"));
    assert_eq!(report["summary"]["requests"]["failed"], 8);
    let backoff = &report["summary"]["backoff"];
    assert!(backoff["paused_s"].as_f64().is_some_and(|paused| paused > 0.0), "{backoff}");
    let share = backoff["thread_share"].as_f64();
    assert!(share.is_some_and(|share| 0.0 < share && share <= 1.0), "{backoff}");
    let load = |output: &Output| {
        let shown = out(output);
        shown.lines().find(|line| line.starts_with("  Load ")).expect("a line").to_owned()
    };
    assert!(
        load(&output).contains("8 completions; paused for ") && load(&output).ends_with("% of thread time")
    );
    // the log has no less
    let again = run(folder.path(), &["report", "r.jsonl"]);
    assert_eq!(load(&again), load(&output));

    fs::write(folder.path().join("c.json"), r#"{"benchmark": {"backoff": false}}"#).expect("writable");
    for off in [&["--no-backoff"][..], &["--config", "c.json"]] {
        let words =
            ["-q", "--url", &url, "--model", "m", "-t", "1", "-n", "500", "--overwrite", "-o", "r.json"];
        run(folder.path(), &[&words[..], off].concat());
        let report = json(&folder.path().join("r.json"));
        assert_eq!(report["summary"]["requests"]["failed"], 500, "{off:?}");
        assert_eq!(
            (&report["plan"]["backoff"], &report["summary"]["backoff"]),
            (&false.into(), &Value::Null)
        );
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// The sum of a counter of the simulator's.
pub fn metric(server: &Simulator, name: &str) -> u64 {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(server.address()).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("answered");
    let values =
        reply.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().expect("a number") as u64).sum()
}

#[test]
fn runs_that_are_alike_do_not_share_a_file() {
    let (folder, server) = (folder(), simulator());
    succeeds(&run(
        folder.path(),
        &["--url", &server.url(), "--compare", "3", "3", "--max-tokens", "2", "--save"],
    ));
    let results = fs::read_dir(folder.path().join("results")).expect("made");
    let json =
        results.filter(|entry| entry.as_ref().expect("readable").path().extension() == Some("json".as_ref()));
    assert_eq!(json.count(), 2);
}

#[test]
fn a_console_that_is_gone_costs_no_file() {
    let (folder, server) = (folder(), simulator());
    let words = ["--url", &server.url(), "--compare", "2", "3", "--max-tokens", "2", "--csv", "all.csv"];
    let mut command = command(folder.path());
    let mut child = command.args(words).stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert_eq!(rows(&folder.path().join("all.csv")).len(), 2);
}

#[test]
fn a_file_that_cannot_be_written_in_the_end_costs_no_other() {
    let folder = folder();
    let server = start(Behavior { ttft: std::time::Duration::from_millis(300), ..Behavior::flat_out() });
    let words =
        ["--url", &server.url(), "-n", "1", "--max-tokens", "2", "-o", "run.json", "--csv", "run.csv"];
    let mut command = command(folder.path());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.args(words).spawn().expect("it starts");
    while server.running() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    fs::write(folder.path().join("run.json"), "theirs").expect("writable");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains("1 sent: 1 ok"), "{}", out(&output));
    assert_eq!(rows(&folder.path().join("run.csv")).len(), 1);
    assert_eq!(fs::read_to_string(folder.path().join("run.json")).expect("kept"), "theirs");
    assert!(err(&output).contains("numbered name"), "{}", err(&output));
    assert_eq!(json(&folder.path().join("run.2.json"))["summary"]["requests"]["succeeded"], 1);
}

#[test]
fn two_outputs_cannot_be_one_file() {
    let output = run(folder().path(), &["-o", "a.json", "--csv", "./a.json", "--model", "m"]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("name two files"), "{}", err(&output));
}

#[test]
fn a_flag_of_runs_before_a_command_is_not_dropped() {
    let folder = folder();
    for (words, flags) in [
        (
            &["-o", "zz.json", "--strict", "--threshold=ttft.p99<1us", "report", "r.json"][..],
            "-o, --strict, --threshold",
        ),
        (&["--url", "report", "report", "r.json"], "--url"),
        (&["-q", "report", "r.json"], "-q"),
        (&["-v", "-t", "5", "compare", "a", "b"], "-t"),
        (&["--seed", "1", "selftest"], "--seed"),
    ] {
        let command = words.iter().rev().find(|word| ["report", "compare", "selftest"].contains(word));
        let output = run(folder.path(), words);
        let want = format!("{flags} before `{}`: ", command.expect("one of them"));
        assert!(code(&output) == 2 && err(&output).contains(&want), "{words:?}: {}", err(&output));
    }
    assert!(!folder.path().join("zz.json").exists());
    let output = run(folder.path(), &["-v", "report", "r.json"]);
    assert!(code(&output) == 1 && err(&output).contains("r.json"), "{}", err(&output));
}

#[test]
fn what_is_reported_is_what_was_sent() {
    let (folder, server) = (folder(), simulator());
    let extra = r#"{"max_tokens": 3, "ignore_eos": true, "api_key": "sk-canary"}"#;
    succeeds(&run(
        folder.path(),
        &["--url", &server.url(), "-n", "2", "--extra-body", extra, "-o", "run.json"],
    ));
    let report = json(&folder.path().join("run.json"));
    let request = &report["plan"]["request"];
    assert_eq!((&request["max_tokens"], &request["ignore_eos"]), (&3.into(), &true.into()));
    assert_eq!(request["extra"]["api_key"], "***");
    assert_eq!(report["summary"]["tokens"]["output"], 6);
}

#[test]
fn a_header_of_the_users_own_takes_the_keys_place() {
    let folder = folder();
    let server = start(Behavior { api_key: Some("sk-canary".to_owned()), ..Behavior::flat_out() });
    let words = [
        "--url",
        &server.url(),
        "-n",
        "2",
        "--max-tokens",
        "2",
        "--header",
        "Authorization: Bearer sk-canary",
    ];
    let mut command = command(folder.path());
    let output = command.args(words).env("OPENAI_API_KEY", "another").output().expect("it starts");
    succeeds(&output);
    assert!(out(&output).contains("from --header: Authorization"), "{}", out(&output));
    assert!(!out(&output).contains("canary"));
}

#[test]
fn mistakes_in_values_and_between_values_are_told_together() {
    let output = run(folder().path(), &["--threads", "abc", "--completions", "0", "--url", "foo"]);
    assert_eq!(code(&output), 2);
    for part in ["--threads 'abc'", "--completions '0'", "--url 'foo'"] {
        assert!(err(&output).contains(part), "{part} not in {}", err(&output));
    }
    let files = run(folder().path(), &["--config", "nope.json", "--api-key-file", "nokey", "--threads", "x"]);
    assert_eq!(code(&files), 2);
    for part in ["--config 'nope.json'", "--api-key-file 'nokey'", "--threads 'x'"] {
        assert!(err(&files).contains(part), "{part} not in {}", err(&files));
    }
    let many = run(folder().path(), &["--threads", "99999999999999999", "--model", "m"]);
    assert_eq!(code(&many), 2);
}

#[test]
fn absurd_counts_from_a_server_break_nothing() {
    use std::io::{Read, Write};
    let folder = folder();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let body = r#"{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":18446744073709551615}}"#;
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            // the request fits into one read; the client may be gone already
            let _ = stream.read(&mut [0; 64 * 1024]);
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    let words =
        ["--url", &url, "--model", "m", "-n", "3", "-t", "1", "--no-server-metrics", "-o", "run.json"];
    succeeds(&run(folder.path(), &words));
    let tokens = &json(&folder.path().join("run.json"))["summary"]["tokens"];
    assert_eq!(tokens["output"], u64::MAX);
}

#[test]
fn a_starved_pool_is_invalid_and_strict_makes_it_fail() {
    let folder = folder();
    // one thread cannot make 200 requests a second of 50 ms each
    let starved = ["--behavior", "ttft=50ms", "--request-rate", "200", "--threads", "1", "-n", "12", "-q"];
    let output = run(folder.path(), &[&starved[..], &["-o", "run.json"]].concat());
    succeeds(&output);
    assert!(out(&output).contains("Client health        INVALID: "), "{}", out(&output));
    assert!(
        out(&output).contains("  - requests that were due when no thread was free: "),
        "{}",
        out(&output)
    );
    assert!(!out(&output).contains('\x1b'), "no colours where nobody looks");
    let health = &json(&folder.path().join("run.json"))["health"];
    assert_eq!(health["verdict"], "INVALID");
    assert!(health["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{health}");
    let strict = run(folder.path(), &[&starved[..], &["--strict"]].concat());
    assert_eq!(code(&strict), 99, "{}", err(&strict));
}

#[test]
fn the_limits_of_the_verdict_are_the_users_by_flag_and_file() {
    let folder = folder();
    let file = r#"{"benchmark": {"health_limits": {"memory": "0%,0%", "lag_p99": "1s,2s"}}}"#;
    fs::write(folder.path().join("c.json"), file).expect("written");
    let words = ["--config", "c.json", "--simulate", "-n", "2", "-q", "--max-tokens", "2", "--strict"];
    let output = run(folder.path(), &words);
    assert_eq!(code(&output), 99, "{}", out(&output));
    let output =
        run(folder.path(), &[&words[..], &["--health-limit", "memory=0%,100%", "-o", "r.json"]].concat());
    let report = json(&folder.path().join("r.json"));
    assert_eq!(report["plan"]["health_limits"]["memory"], serde_json::json!([0.0, 1.0]));
    assert_eq!(report["plan"]["health_limits"]["lag_p99"], serde_json::json!([1000.0, 2000.0]));
    assert!(out(&output).contains("memory, of that allowed"), "{}", out(&output));
    let wrong = run(folder.path(), &["--simulate", "--health-limit", "lag=1"]);
    assert_eq!(code(&wrong), 2);
    assert!(err(&wrong).contains("--health-limit 'lag=1': "), "{}", err(&wrong));
}

#[test]
fn requests_arrive_at_a_rate_whatever_the_server_does() {
    let (folder, server) = (folder(), simulator());
    let words = [
        "--url",
        &server.url(),
        "--request-rate",
        "200",
        "-n",
        "40",
        "--max-tokens",
        "2",
        "--ignore-eos",
        "--seed",
        "7",
    ];
    let output = run(folder.path(), &[&words[..], &["-o", "run.json", "--csv", "run.csv"]].concat());
    succeeds(&output);
    for part in ["open loop, 200 requests/s, Poisson", "response TTFT", "Offered", "lag"] {
        assert!(out(&output).contains(part), "{part} not in {}", out(&output));
    }
    let report = json(&folder.path().join("run.json"));
    let arrivals = &report["plan"]["load"]["arrivals"];
    assert_eq!((&arrivals["process"], &arrivals["rate_per_s"]), (&"poisson".into(), &200.0.into()));
    let latency = &report["summary"]["latency"];
    assert_eq!(
        (&latency["response_ttft_ms"]["count"], &latency["lag_ms"]["count"]),
        (&40.into(), &40.into())
    );
    let mean = |name: &str| latency[name]["mean"].as_f64().expect("a number");
    assert!(mean("response_e2e_ms") >= mean("e2e_ms"));
    assert_eq!(rows(&folder.path().join("run.csv"))[0]["request_rate_per_s"], "200");
    let constant = ["--request-rate", "500", "--arrival", "constant", "-n", "5", "--max-tokens", "2"];
    succeeds(&run(folder.path(), &[&["--url", &server.url()], &constant[..]].concat()));
}

#[test]
fn an_open_loop_that_makes_no_sense_is_refused() {
    let words = ["--request-rate", "fast", "--arrival", "sometimes", "--model", "m"];
    let output = run(folder().path(), &words);
    assert_eq!(code(&output), 2);
    for part in ["--request-rate 'fast': not a rate", "--arrival 'sometimes': unknown; write constant"] {
        assert!(err(&output).contains(part), "{part} not in {}", err(&output));
    }
}

#[test]
fn stages_are_sent_written_and_hashed_as_planned() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let words = ["--url", &url, "--stages", "50:200ms", "0:100ms", "200:200ms", "--arrival", "constant"];
    let tail =
        ["--max-tokens", "2", "--seed", "7", "--schedule-out", "s.csv", "-o", "run.json", "--csv", "run.csv"];
    let words = [&words[..], &tail[..]].concat();
    let output = run(folder.path(), &words);
    succeeds(&output);
    let line = "open loop, 50 requests/s for 0.2 s, 0 for 0.1 s, 200 for 0.2 s, evenly spaced";
    assert!(out(&output).contains(line), "{}", out(&output));
    let report = json(&folder.path().join("run.json"));
    assert_eq!(report["summary"]["requests"]["sent"], 50);
    assert_eq!(report["schedule"]["count"], 50);
    assert_eq!(report["plan"]["load"]["arrivals"]["stages"][1]["rate_per_s"], 0.0);
    let due = rows(&folder.path().join("s.csv"));
    let at = |number: usize| due[number]["due_s"].as_str();
    assert_eq!(
        (due.len(), at(0), at(9), at(10), at(49)),
        (50, "0.000000000", "0.180000000", "0.300000000", "0.495000000")
    );
    let row = &rows(&folder.path().join("run.csv"))[0];
    assert_eq!(
        (row["request_rate_per_s"].as_str(), row["schedule_hash"].as_str().into()),
        ("", report["schedule"]["hash"].clone())
    );
    let again = run(folder.path(), &words);
    assert_eq!(code(&again), 1);
    succeeds(&run(folder.path(), &[&words[..], &["--overwrite"]].concat()));
    let second = json(&folder.path().join("run.json"));
    assert_eq!(second["schedule"], report["schedule"]);
    assert_eq!(second["plan"]["hash"], report["plan"]["hash"]);
}

#[test]
fn a_ramp_and_all_at_once_run_to_their_ends() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let common = ["--url", &url, "--max-tokens", "2", "-o", "run.json", "--overwrite"];
    let ramp = ["--ramp-up", "0:200:400ms", "--arrival", "constant"];
    let output = run(folder.path(), &[&common[..], &ramp[..]].concat());
    succeeds(&output);
    assert!(out(&output).contains("from 0 to 200 requests/s over 0.4 s, evenly spaced"), "{}", out(&output));
    assert_eq!(json(&folder.path().join("run.json"))["summary"]["requests"]["sent"], 40);
    let output = run(folder.path(), &[&common[..], &["--request-rate", "inf", "-n", "30"]].concat());
    succeeds(&output);
    assert!(
        out(&output).contains("open loop, all requests at once, at most 30 in flight"),
        "{}",
        out(&output)
    );
    let report = json(&folder.path().join("run.json"));
    assert_eq!(
        (&report["schedule"]["count"], &report["plan"]["load"]["arrivals"]["at_once"]),
        (&30.into(), &true.into())
    );
    succeeds(&run(folder.path(), &[&common[..], &["-n", "3"]].concat()));
    assert_eq!(json(&folder.path().join("run.json"))["schedule"], Value::Null);
}

#[test]
fn shapes_that_make_no_sense_are_refused_with_advice() {
    let folder = folder();
    for (words, want) in [
        (&["--ramp-up", "1:x:3s"][..], "--ramp-up '1:x:3s': 'x' is not a rate; write requests per second"),
        (&["--ramp-up", "5"], "--ramp-up '5': not a ramp; a ramp is FROM:TO:TIME, such as 1:50:60s"),
        (&["--stages", "10"], "--stages '10': '10' is no stage; stages are RATE:TIME with commas"),
        (
            &["--stages", "0:30s"],
            "--stages '0:30s': no stage has a rate above 0, so that nothing would be sent",
        ),
        (&["--stages", "1:3s", "--duration", "9s"], "--stages and --duration: leave the duration out"),
        (&["--stages", "1:3s", "--ramp-up", "1:2:3s"], "--ramp-up and --stages: give one of them"),
        (&["--request-rate", "inf", "--arrival", "gamma"], "--arrival: says nothing at --request-rate inf"),
        (&["--schedule-out", "s.csv"], "--schedule-out 's.csv': a closed loop has no schedule"),
    ] {
        let output = run(folder.path(), &[words, &["--model", "m"]].concat());
        assert_eq!(code(&output), 2);
        assert!(err(&output).contains(want), "{want} not in {}", err(&output));
    }
    assert!(!folder.path().join("s.csv").exists());
}

#[test]
fn files_without_an_end_are_refused() {
    let folder = folder();
    for words in [
        &["report", "/dev/zero"][..],
        &["report", "/dev/full"],
        &["compare", "/dev/zero", "/dev/full"],
        &["trend", "/dev/zero", "/dev/full"],
        &["export", "/dev/zero", "--openmetrics", "-"],
        &["--api-key-file", "/dev/zero"],
    ] {
        let output = command_after("ulimit -v 4000000", folder.path(), words).output().expect("it starts");
        assert!([1, 2].contains(&code(&output)), "{words:?}: {}", err(&output));
        assert!(
            err(&output).contains("it does not begin with {") || err(&output).contains("16 MiB"),
            "{}",
            err(&output)
        );
    }
}

#[test]
fn a_shell_of_small_limits_is_told_which_to_raise() {
    let folder = folder();
    let words = ["--simulate", "--behavior", "ttft=0s,itl=0s", "-n", "2", "-t", "1"];
    let output = command_after("ulimit -n 4", folder.path(), &words).output().expect("it starts");
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("cannot start") && err(&output).contains("ulimit -n"), "{}", err(&output));
    succeeds(&command_after("ulimit -s 128", folder.path(), &words).output().expect("it starts"));
}
