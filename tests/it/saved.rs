//! What is saved while a run goes on, and reports made of it again.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use vllm_loadgen::plan::SuiteKind;
use vllm_loadgen::sim::Behavior;
use vllm_loadgen::{rebuild, report};

use crate::command::{Child, code, command, err, folder, json, metric, out, run, simulator, start, succeeds};

/// A server that also fails, with figures of every kind.
fn faulty() -> vllm_loadgen::sim::Simulator {
    let tokens_per_event = std::num::NonZeroUsize::new(3).expect("above 0");
    start(Behavior { fail: 0.2, tokens_per_event, ..Behavior::flat_out() })
}

#[test]
fn the_report_of_a_record_log_is_the_live_one_to_the_byte() {
    let (folder, server) = (folder(), faulty());
    let url = server.url();
    for (name, more) in [
        ("closed", &["-t", "4", "-n", "60", "--warmup", "5", "--cooldown", "3", "--continuous-usage"][..]),
        ("open", &["--request-rate", "500", "-n", "50", "--header", "x: y", "--header", "x-key: secret"]),
        ("staged", &["--stages", "100:0.2s,400:0.1s", "--api", "completions", "--no-server-metrics"]),
        ("whole", &["--no-stream", "-n", "30", "--extra-body", "{\"top_p\": 0.9}"]),
        ("many", &["-t", "8", "-n", "900"]),
    ] {
        let (live, log, again) =
            (format!("{name}.json"), format!("{name}.jsonl.gz"), format!("{name}-2.json"));
        let words =
            [&["-q", "--url", &url, "--max-tokens", "9", "-o", &live, "--record-log", &log], more].concat();
        let ran = run(folder.path(), &words);
        succeeds(&ran);
        let shown = run(folder.path(), &["report", &log, "--output", &again]);
        succeeds(&shown);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("written");
        assert_eq!(read(&live), read(&again), "{name}");
        let report = |text: String| text.split("\nWritten").next().expect("a first part").to_owned();
        assert_eq!(report(out(&ran)), report(out(&shown)), "{name}");
        // and so is that of the JSON
        assert_eq!(report(out(&run(folder.path(), &["report", &live]))), report(out(&shown)), "{name}");
    }
    let many = json(&folder.path().join("many.json"));
    assert_eq!(many["summary"]["sample"].as_array().map(Vec::len), Some(400));
    let shown = run(folder.path(), &["report", "closed.jsonl.gz", "open.json", "--csv", "both.csv"]);
    succeeds(&shown);
    assert!(out(&shown).contains("Side by side"), "{}", out(&shown));
    assert_eq!(fs::read_to_string(folder.path().join("both.csv")).expect("written").lines().count(), 3);
}

#[test]
fn what_a_late_client_did_not_know_is_in_its_log_and_in_what_is_made_of_it() {
    let log = include_str!("../data/record_log.jsonl");
    // the whole reply was read at once, and this client had stood still before
    let late = log.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        let record = &mut line["record"];
        if let Some(events) = record["token_events"].as_array().map(Vec::len).filter(|events| *events > 1) {
            let first = record["token_events"][0].as_u64().expect("a moment");
            let early = (first - record["sent"].as_u64().expect("a moment")) / 2_000;
            record["token_events"] = [first].into_iter().chain(std::iter::repeat_n(0, events - 1)).collect();
            record["event_early_us"] = vec![early; events].into();
            record["stood_still_ns"] = 2_000_000.into();
        }
        format!("{line}\n")
    });
    let late: String = late.collect();
    let made = rebuild::read(late.as_bytes(), &mut []).expect("a log");
    let latency = &made.summary.latency;
    let (high, low) = (latency.ttft.as_ref().expect("some"), latency.ttft_low.as_ref().expect("some"));
    assert!((low.max / high.max - 0.5).abs() < 1e-3, "{} of {}", low.max, high.max);
    assert_eq!((latency.uncertain_requests_share, latency.uncertain_gaps_share), (Some(1.0), Some(1.0)));
    assert_eq!(latency.stood_still_s, Some(0.002 * made.summary.requests.succeeded as f64));
    assert!(latency.itl_low.is_some() && latency.adj_ttft_low.is_some());
    // and the result that is made of it is read as it was written
    let json = serde_json::to_string(&made).expect("plain data");
    let again = rebuild::read(json.as_bytes(), &mut []).expect("a result");
    assert_eq!(again.summary, made.summary);
}

#[test]
fn no_text_of_a_result_steers_a_terminal() {
    let (folder, server) = (folder(), faulty());
    let url = server.url();
    let limits = ["--threshold", "error_rate<1%", "--label", "gpu=h100"];
    let load = ["-q", "--url", &url, "-n", "30", "--max-tokens", "3", "-o", "r.json", "--no-detail"];
    assert_eq!(code(&run(folder.path(), &[&load[..], &limits].concat())), 99);
    let mut whole = json(&folder.path().join("r.json"));
    assert!(whole["summary"]["errors"][0]["kind"].is_string(), "{whole}");
    whole["complete"] = false.into();
    whole["stopped_by"] = "a limit".into();
    whole["plan"]["simulated"] = "a server".into();
    whole["health"]["reasons"] = serde_json::json!(["a reason"]);
    whole["warnings"] = serde_json::json!(["a warning"]);
    let mut texts = vec![];
    places_of_text(&whole, String::new(), &mut texts);
    let mut shown = 0;
    for place in &texts {
        let mut changed = whole.clone();
        let text = changed.pointer_mut(place).expect("it is there");
        *text = format!("{}\u{1b}[2J\u{9b}31m\r\u{7}", text.as_str().expect("text")).into();
        let bytes = changed.to_string();
        // some words are of a closed set
        let Ok(report) = rebuild::read(bytes.as_bytes(), &mut []) else { continue };
        let mut out = Vec::new();
        report::print_report(&report, false, &mut out).expect("a vector takes all");
        report::print_sweep(SuiteKind::Scenarios, std::slice::from_ref(&report), &mut out)
            .expect("a vector takes all");
        report::write_csv([&report], &mut out).expect("a vector takes all");
        let out = String::from_utf8(out).expect("text").replace("\r\n", "\n");
        let steers = |c: char| c.is_control() && c != '\n';
        assert!(!out.contains(steers), "{place}");
        shown += usize::from(out.contains("[2J31m"));
    }
    assert!(shown > 15, "{shown} of {texts:?}");
}

/// Adds the JSON pointer of each text in the value.
fn places_of_text(value: &Value, place: String, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(place),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(number, item)| {
                places_of_text(item, format!("{place}/{number}"), found);
            });
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| {
                places_of_text(field, format!("{place}/{}", name.replace('/', "~1")), found);
            });
        }
        _ => {}
    }
}

#[test]
fn what_is_saved_has_a_record_log_beside_it() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    succeeds(&run(folder.path(), &["--url", &url, "-n", "3", "--max-tokens", "2", "--output-dir", "r"]));
    succeeds(&run(
        folder.path(),
        &["--url", &url, "-n", "3", "--max-tokens", "2", "--output-dir", "s", "--no-detail"],
    ));
    let suffixes = |name: &str| {
        let files =
            fs::read_dir(folder.path().join(name)).expect("made").map(|file| file.expect("readable").path());
        let mut suffixes: Vec<_> = files.map(|path| path.extension().expect("one").to_owned()).collect();
        suffixes.sort();
        suffixes
    };
    assert_eq!((suffixes("r"), suffixes("s")), (vec!["json".into(), "jsonl".into()], vec!["json".into()]));
}

#[test]
fn runs_that_are_begun_together_are_all_saved() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    for words in [&["--output-dir", "r"][..], &["--output-dir", "s", "--no-detail"]] {
        let begin = || {
            let mut command = command(folder.path());
            command.args(["--url", &url, "-q", "-n", "1", "--max-tokens", "2"]).args(words);
            command.stdout(Stdio::null()).spawn().expect("the command starts")
        };
        let children: Vec<_> = (0..4).map(|_| begin()).collect();
        for mut child in children {
            assert!(child.wait().expect("it ends").success());
        }
        let files = fs::read_dir(folder.path().join(words[1])).expect("made");
        let results =
            files.filter(|file| file.as_ref().expect("readable").path().extension() == Some("json".as_ref()));
        assert_eq!(results.count(), 4, "{words:?}");
    }
}

#[test]
fn what_the_model_says_is_kept_where_it_is_asked_for_and_nowhere_else() {
    let (folder, server) = (folder(), faulty());
    let url = server.url();
    let words =
        ["-q", "--url", &url, "-n", "60", "-t", "4", "--max-tokens", "5", "--record-log", "run.jsonl"];
    let files =
        ["-o", "run.json", "--html", "run.html", "--csv", "run.csv", "--markdown", "run.md", "--overwrite"];
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("written");
    run(folder.path(), &[&words[..], &files].concat());
    assert!(!read("run.json").contains("\"response\":") && !read("run.jsonl").contains("\"response\":"));
    for ask in [&["--api", "chat"][..], &["--api", "completions"], &["--no-stream"]] {
        let live = run(folder.path(), &[&words[..], &files, ask, &["--save-responses"]].concat());
        let report = json(&folder.path().join("run.json"));
        let rows = report["requests"].as_array().expect("details");
        let said = |row: &Value| row["response"]["text"].as_str().map(str::to_owned);
        let succeeded = rows.iter().filter(|row| row["outcome"] == "success");
        let texts: Vec<String> = succeeded.map(|row| said(row).expect("it was kept")).collect();
        let long: Vec<_> = texts.iter().filter(|text| text.split_whitespace().count() > 2).collect();
        assert!(!long.is_empty(), "{texts:?}");
        for text in long {
            assert!(!out(&live).contains(text));
            ["run.html", "run.csv", "run.md"].iter().for_each(|name| assert!(!read(name).contains(text)));
        }
        succeeds(&run(folder.path(), &["report", "run.jsonl", "-o", "again.json", "--overwrite"]));
        assert_eq!(read("again.json"), read("run.json"), "{ask:?}");
    }
    for words in [&["--save-responses", "--no-detail", "-o", "x.json"][..], &["--save-responses"]] {
        let refused = run(folder.path(), &[&["--url", &url, "--model", "m"], words].concat());
        assert!(
            code(&refused) == 2 && err(&refused).contains("no file would hold them"),
            "{}",
            err(&refused)
        );
    }
}

/// Starts a long run with a record log and kills it once requests have been logged.
fn kill_in_the_middle(folder: &Path, log: &str) {
    let server = start(Behavior { ttft: std::time::Duration::from_millis(1), ..Behavior::flat_out() });
    let mut command = command(folder);
    let words = [
        "-q",
        "--url",
        &server.url(),
        "--duration",
        "1h",
        "-t",
        "2",
        "--max-tokens",
        "2",
        "--record-log",
        log,
    ];
    let child = command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut child = Child(child);
    let path = folder.join(log);
    // the head, and at least one flush of records after it
    let head = || fs::metadata(&path).map_or(0, |file| file.len());
    while head() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let first = head();
    while head() == first || metric(&server, "vllm:request_success_total") < 10 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.0.kill().expect("it runs");
    child.0.wait().expect("it ends");
}

#[test]
fn a_run_that_is_killed_keeps_what_it_had() {
    let folder = folder();
    for log in ["plain.jsonl", "packed.jsonl.gz"] {
        kill_in_the_middle(folder.path(), log);
        let made = format!("{log}.json");
        let shown = run(folder.path(), &["report", log, "-o", &made]);
        succeeds(&shown);
        let report = json(&folder.path().join(&made));
        assert_eq!(report["complete"], false, "{log}");
        assert_ne!(report["health"]["verdict"], "VALID", "what it cost is not known");
        let requests = report["requests"].as_array().expect("a list").len();
        assert!(requests > 0 && report["summary"]["requests"]["sent"] == requests, "{log}");
        assert!(report["warnings"][0].as_str().expect("text").starts_with("the run was cut off"), "{log}");
    }
}

#[test]
fn a_torn_line_is_skipped_and_counted() {
    let (folder, server) = (folder(), simulator());
    let log = folder.path().join("run.jsonl");
    succeeds(&run(
        folder.path(),
        &["--url", &server.url(), "-n", "5", "--max-tokens", "2", "--record-log", "run.jsonl"],
    ));
    let text = fs::read_to_string(&log).expect("written");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 7);
    let torn = format!("{}\n{}", lines[..5].join("\n"), &lines[5][..lines[5].len() / 2]);
    fs::write(&log, torn).expect("writable");
    succeeds(&run(folder.path(), &["report", "run.jsonl", "-o", "run.json"]));
    let report = json(&folder.path().join("run.json"));
    assert_eq!(report["summary"]["requests"]["sent"], 4);
    assert!(report["warnings"][1].as_str().expect("text").starts_with("1 of the record log's lines"));
}

#[test]
fn what_is_no_result_is_refused_by_name() {
    let folder = folder();
    fs::write(folder.path().join("other.json"), "{\"schema\": 1}").expect("writable");
    fs::write(folder.path().join("text"), "no JSON").expect("writable");
    let mut gzip = fs::File::create(folder.path().join("torn.gz")).expect("writable");
    gzip.write_all(&[0x1f, 0x8b, 8]).expect("writable");
    for name in ["other.json", "text", "torn.gz", "missing.json", "."] {
        let refused = run(folder.path(), &["report", name]);
        assert_eq!(code(&refused), 1, "{name}");
        assert!(err(&refused).contains(&format!("{name}: ")), "{}", err(&refused));
    }
    assert_eq!(code(&run(folder.path(), &["report"])), 2);
    assert_eq!(code(&run(folder.path(), &["report", "a", "b", "-o", "c"])), 2);
}
