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

/// A record log of 200 requests with a first token after 50 ms and one every 10 ms then. Of the first `late` the client, which
/// stood still, read the first 28 tokens at once.
fn log_of_a_late_client(late: u64) -> String {
    let lines: Vec<&str> = include_str!("../data/record_log.jsonl").lines().collect();
    let mut head: Value = serde_json::from_str(lines[0]).expect("JSON");
    head["plan"]["run_id"] = format!("lg-{late}").into();
    head["plan"]["slos"] = serde_json::json!([{"metric": "ttft", "limit_s": 0.1}]);
    let model = lines.iter().find(|line| line.contains("\"outcome\":\"success\"")).expect("one succeeded");
    let mut log = format!("{head}\n");
    for id in 0..200 {
        let mut line: Value = serde_json::from_str(model).expect("JSON");
        let record = &mut line["record"];
        let sent = (id + 1) * 1_000_000_000;
        for moment in ["due", "taken", "started", "sent", "sent_whole", "first_byte", "first_event"] {
            record[moment] = sent.into();
        }
        let arrivals = (0..40).map(|n| 50_000_000 + 10_000_000 * n);
        let arrivals: Vec<i64> =
            arrivals.map(|at| if id < late { at.max(320_000_000) } else { at }).collect();
        let steps = arrivals.windows(2).map(|pair| pair[1] - pair[0]);
        record["token_events"] = [sent as i64 + arrivals[0]].into_iter().chain(steps).collect();
        if id < late {
            let early = (0..40).map(|n| if n < 28 { 319_000 } else { 0 });
            record["event_early_us"] = early.collect();
            record["stood_still_ns"] = 300_000_000.into();
        }
        record["id"] = id.into();
        record["end"] = (sent + 450_000_000).into();
        record["event_tokens"] = Value::Array(vec![]);
        record["output_tokens"] = 40.into();
        log.push_str(&format!("{line}\n"));
    }
    format!("{log}{}\n", lines[lines.len() - 1])
}

#[test]
fn every_format_tells_both_ends_of_what_a_late_client_does_not_know() {
    let folder = folder();
    let written = |name: &str, late| {
        fs::write(folder.path().join(name), log_of_a_late_client(late)).expect("writable");
    };
    written("late.jsonl", 20);
    written("exact.jsonl", 0);
    let files =
        ["--markdown", "f.md", "--html", "f.html", "--csv", "f.csv", "--prom-out", "f.prom", "--overwrite"];
    let shown = |log: &str, more: &[&str]| run(folder.path(), &[&["report", log], &files[..], more].concat());
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("written");

    succeeds(&shown("exact.jsonl", &[]));
    assert!(
        !read("f.md").contains("two ends")
            && !read("f.prom").contains("_low_")
            && !read("f.html").contains("two ends")
    );

    let late = shown("late.jsonl", &[]);
    succeeds(&late);
    for part in [
        "  this client was late, so that these are known only to lie between two ends:\n    TTFT: p90 50.0 to 77.0 ms, p95 50.0 to 320 ms, p99 50.0 to 320 ms\n",
        "10.0% of the requests have moments that are not known to the millisecond; it stood still while 20 requests went on",
        "180 met ttft ≤ 100 ms; this client was late: up to 200 (100%) may have",
    ] {
        assert!(out(&late).contains(part), "{part}\n{}", out(&late));
    }
    assert!(
        read("f.md").contains("- TTFT: p90 50.0 to 77.0 ms, p95 50.0 to 320 ms, p99 50.0 to 320 ms\n"),
        "{}",
        read("f.md")
    );
    assert!(
        read("f.html").contains("<li>TTFT: p90 50.0 to 77.0 ms, p95 50.0 to 320 ms, p99 50.0 to 320 ms</li>")
    );
    let csv = read("f.csv");
    let names: Vec<_> = csv.lines().next().expect("a head").split(',').collect();
    let at = |name| names.iter().position(|one| *one == name).unwrap_or_else(|| panic!("{name}"));
    // what is new comes last
    assert!(at("itl_low_ms_p99") < at("goodput") && names.last() == Some(&"health"), "{names:?}");
    let prom = read("f.prom");
    for part in ["_ttft_low_seconds{", "_itl_low_seconds{", "_tpot_low_seconds{", "_goodput_at_best_ratio{"] {
        assert!(prom.contains(&format!("vllm_loadgen_run{part}")), "{part}\n{prom}");
    }
    assert!(
        prom.lines()
            .any(|line| line.starts_with("vllm_loadgen_run_uncertain_requests_ratio{")
                && line.ends_with(" 0.1"))
    );

    // of a log without an end the client is judged anew
    let log = log_of_a_late_client(20);
    let cut = log.lines().filter(|line| !line.starts_with("{\"end\"")).map(|line| format!("{line}\n"));
    fs::write(folder.path().join("cut.jsonl"), cut.collect::<String>()).expect("writable");
    let said = "TTFT p99 is known only to lie between 50.0 and 320 ms (84.4%, above 20.0%): this client read late, and";
    let cut = run(folder.path(), &["report", "cut.jsonl"]);
    assert!(out(&cut).contains("INVALID") && out(&cut).contains(said), "{}", out(&cut));

    // a limit between the ends is for nobody to judge
    for (limit, want, told) in [
        ("ttft.p99<100ms", 0, "inconclusive ttft.p99<100ms           320 ms"),
        ("ttft.p95<400ms", 0, "passed"),
        ("ttft.p99<40ms", 99, "failed"),
        ("goodput>=95%", 0, "this client was late: 90.0% to 100%"),
    ] {
        let judged = run(folder.path(), &["report", "late.jsonl", "--threshold", limit]);
        assert_eq!(code(&judged), want, "{limit}\n{}", out(&judged));
        assert!(out(&judged).contains(told), "{limit}\n{}", out(&judged));
    }
    let compared = run(folder.path(), &["compare", "exact.jsonl", "late.jsonl", "--metric", "ttft.p95"]);
    assert!(out(&compared).contains("the client was late: new 50.0 to 320 ms"), "{}", out(&compared));
    assert_eq!(code(&compared), 0);
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
    assert!(shown > 14, "{shown} of {texts:?}");
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
fn record_logs_put_together_are_no_run() {
    let (folder, server) = (folder(), simulator());
    let at = folder.path();
    let words = ["-q", "--url", &server.url(), "-n", "5", "--max-tokens", "2", "--record-log"];
    for log in ["a.jsonl", "b.jsonl"] {
        succeeds(&run(at, &[&words[..], &[log]].concat()));
    }
    let text = |name: &str| fs::read_to_string(at.join(name)).expect("written");
    let (a, b) = (text("a.jsonl"), text("b.jsonl"));
    let torn = &a[..a.len() - 20];
    let headless: String = b.lines().skip(1).map(|line| format!("{line}\n")).collect();
    for (joined, why) in [
        (format!("{a}{b}"), "several runs, another begins in line 8"),
        (format!("{torn}{b}"), "is there twice, in line 8 again"),
        (format!("{a}{headless}"), "is there twice, in line 8 again"),
    ] {
        fs::write(at.join("joined.jsonl"), joined).expect("writable");
        for command in [&["report"][..], &["compare", "a.jsonl"], &["trend"]] {
            let refused = run(at, &[command, &["joined.jsonl"]].concat());
            assert_eq!(code(&refused), 1, "{command:?}: {}", out(&refused));
            assert!(err(&refused).contains(why), "{command:?}: {}", err(&refused));
        }
        let told = err(&run(at, &["report", "joined.jsonl"]));
        assert!(told.contains("; name the log of each run by itself"), "{told}");
    }
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
