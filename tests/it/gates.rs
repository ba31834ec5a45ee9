//! Runs held to limits, and compared: exit code 99, and what is written.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use vllm_loadgen::sim::Behavior;

use crate::command::{
    code, err, folder, json as read_json, out, run, simulator, start, succeeds, take_out_lateness,
};

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
fn goodput_is_held_to_limits_and_compared() {
    let (folder, server) = (folder(), simulator());
    let (at, url) = (folder.path(), server.url());
    let words = ["-q", "--url", &url, "-n", "10", "--max-tokens", "3", "-o"];
    let good = ["good.json", "--goodput", "e2e:1h", "--threshold", "goodput_requests_per_s>0"];
    succeeds(&run(at, &[&words[..], &good].concat()));
    let judged = &read_json(&at.join("good.json"))["thresholds"][0];
    assert_eq!((&judged["unit"], &judged["n"]), (&json!("requests/s"), &json!(10)));
    assert!(judged["ci95"]["low"].as_f64() < judged["value"].as_f64(), "{judged}");
    // nobody can be so fast
    let bad = ["bad.json", "--goodput", "e2e:0.000001", "--threshold", "goodput>95%"];
    assert_eq!(code(&run(at, &[&words[..], &bad].concat())), 99);
    let judged = &read_json(&at.join("bad.json"))["thresholds"][0];
    assert_eq!((&judged["value"], &judged["limit"]), (&json!(0.0), &json!(0.95)));
    let compared = run(at, &["compare", "good.json", "bad.json", "--force", "--metric", "goodput"]);
    assert_eq!(code(&compared), 99, "{}", out(&compared));
}

#[test]
fn replies_that_end_without_a_word_are_good_where_they_were_over_in_time() {
    let folder = folder();
    let few = Behavior { output_tokens: std::num::NonZeroU64::new(2), ..Behavior::flat_out() };
    let (at, server) = (folder.path(), start(few));
    let words = ["--url", &server.url(), "-n", "60", "--seed", "1", "--goodput", "ttft:1h", "-o", "r.json"];
    let ran = run(at, &words);
    succeeds(&ran);
    let report = read_json(&at.join("r.json"));
    let (goodput, latency) = (&report["summary"]["goodput"], &report["summary"]["latency"]);
    assert!(latency["ttft_ms"]["count"].as_u64() < Some(60), "{latency}");
    assert_eq!(
        (&goodput["good"], &goodput["unjudged"], &goodput["share"]),
        (&json!(60), &json!(0), &json!(1.0))
    );
    assert!(out(&ran).contains("of 60 replies had tokens and none that showed"), "{}", out(&ran));
}

#[test]
fn saved_results_are_judged_again() {
    let (folder, server) = (folder(), simulator());
    let (at, url) = (folder.path(), server.url());
    let words = ["-q", "--url", &url, "-n", "20", "--max-tokens", "3", "--ignore-eos", "-o"];
    succeeds(&run(at, &[&words[..], &["plain.json"]].concat()));
    let held = ["held.json", "--record-log", "held.jsonl", "--threshold", "ttft.p99<0.001us"];
    assert_eq!(code(&run(at, &[&words[..], &held].concat())), 99);
    let report = |words: &[&str]| run(at, &[&["report"], words].concat());
    // showing is no judging
    assert_eq!(code(&report(&["held.json"])), 0);
    assert_eq!(code(&report(&["held.jsonl", "--strict"])), 99);
    assert_eq!(code(&report(&["plain.json", "held.json", "--junit", "own.xml"])), 99);
    let xml = fs::read_to_string(at.join("own.xml")).expect("written");
    assert!(xml.contains("tests=\"0\"") && xml.contains("tests=\"1\" failures=\"1\""), "{xml}");
    assert!(xml.contains("20 completions\"") && xml.contains("20 completions (2)\""), "{xml}");
    // typed ones take the place of all others
    let typed = ["held.json", "--threshold", "e2e.p99<1h", "-o", "again.json", "--junit", "typed.xml"];
    let judged = report(&typed);
    succeeds(&judged);
    assert!(out(&judged).contains("inconclusive e2e.p99<1h"), "{}", out(&judged));
    assert_eq!(read_json(&at.join("again.json"))["plan"]["thresholds"], json!(["e2e.p99<1h"]));
    assert!(fs::read_to_string(at.join("typed.xml")).expect("written").contains("skipped=\"1\""));
    assert_eq!(code(&report(&["held.json", "--threshold", "e2e.p99<1h", "--strict"])), 99);
    assert_eq!(code(&report(&["plain.json", "--threshold=requests_per_s>1000000000"])), 99);
    let refused = report(&["plain.json", "--junit", "none.xml"]);
    assert_eq!((code(&refused), at.join("none.xml").exists()), (2, false));
    assert!(
        err(&refused).contains("--junit 'none.xml': the results were held to no threshold"),
        "{}",
        err(&refused)
    );
    let refused = report(&["plain.json", "--threshold", "ttft<5", "--csv", "a", "--junit", "a"]);
    assert_eq!(code(&refused), 2);
    assert!(err(&refused).contains("--threshold 'ttft<5'"), "{}", err(&refused));
    assert!(err(&refused).contains("--csv and --junit 'a': name two files"), "{}", err(&refused));
}

#[test]
fn a_threshold_that_fails_is_99_and_an_inconclusive_one_under_strict() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let of = |words: &[&str]| {
        run(
            folder.path(),
            &[&["-q", "--ignore-eos", "--url", &url, "-n", "20", "--max-tokens", "3"], words].concat(),
        )
    };
    let failed = of(&["--threshold", "e2e.max<1us"]);
    assert_eq!(code(&failed), 99, "{}", out(&failed));
    assert!(out(&failed).contains("failed       e2e.max<1us"), "{}", out(&failed));
    let few = ["--threshold", "ttft.p99<1h"];
    let inconclusive = of(&few);
    assert_eq!(code(&inconclusive), 0);
    assert!(
        out(&inconclusive).contains("20 requests cannot show it at 95%; it takes 299"),
        "{}",
        out(&inconclusive)
    );
    assert_eq!(code(&of(&[&few[..], &["--strict"]].concat())), 99);
    // what no request had is not kept: the one connection is the warm-up's
    let connect = of(&["--threads", "1", "--warmup", "3", "--threshold", "connect.p50<1h"]);
    assert_eq!(code(&connect), 99, "{}", out(&connect));
    assert!(out(&connect).contains("no such value was measured"), "{}", out(&connect));
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

/// Runs of the same server: the names of their files.
fn runs_of(folder: &Path, count: u64) -> Vec<String> {
    let server = simulator();
    let one = |number| {
        let file = format!("base-{number}.json");
        let words = [
            "-q",
            "--ignore-eos",
            "--url",
            &server.url(),
            "-n",
            "90",
            "--max-tokens",
            "2",
            "--no-detail",
            "-o",
            &file,
        ];
        succeeds(&run(folder, &words));
        let mut report = read_json(&folder.join(&file));
        take_out_lateness(&mut report);
        fs::write(folder.join(&file), report.to_string()).expect("written before");
        file
    };
    (1..=count).map(one).collect()
}

/// The same runs with times a thousandfold and rates in proportion, whatever the machine was doing: a server that is surely
/// slower.
fn slower(folder: &Path, runs: &[String]) -> Vec<String> {
    fn scale(value: &mut Value, factor: f64) {
        match value {
            Value::Number(number) => *value = json!(number.as_f64().expect("finite") * factor),
            Value::Object(map) => {
                let is_count = |key: &str| key == "count" || key == "n";
                map.iter_mut().filter(|(key, _)| !is_count(key)).for_each(|(_, value)| scale(value, factor));
            }
            _ => {}
        }
    }
    let one = |file: &String| {
        let mut report = read_json(&folder.join(file));
        for time in ["ttft_ms", "e2e_ms"] {
            scale(&mut report["summary"]["latency"][time], 1e3);
        }
        scale(&mut report["summary"]["throughput"], 1e-3);
        report["plan"]["run_id"] = json!(format!("slower {file}"));
        let name = file.replace("base", "new");
        fs::write(folder.join(&name), report.to_string()).expect("written");
        name
    };
    runs.iter().map(one).collect()
}

#[test]
fn a_slower_server_is_worse_in_every_format() {
    let folder = folder();
    let base = runs_of(folder.path(), 1);
    let new = slower(folder.path(), &base);
    let words = [
        "compare",
        &base[0],
        &new[0],
        "--metric",
        "ttft.p50",
        "e2e.p95",
        "requests_per_s",
        "-o",
        "c.json",
        "--markdown",
        "c.md",
        "--junit",
        "c.xml",
        "--github-benchmark",
        "g.json",
        "--bencher",
        "b.json",
    ];
    let compared = run(folder.path(), &words);
    assert_eq!(code(&compared), 99, "{}\n{}", out(&compared), err(&compared));
    assert!(out(&compared).contains("Verdict: worse: 3 metrics"), "{}", out(&compared));
    assert!(out(&compared).contains("▲ +"), "{}", out(&compared));
    let written = read_json(&folder.path().join("c.json"));
    assert_eq!((&written["verdict"], &written["method"]), (&json!("worse"), &json!("intervals")));
    assert_eq!(written["metrics"][0]["smaller_is_better"], true);
    assert!(written["metrics"][0]["change"].as_f64() > Some(1.0), "{written}");
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).expect("written");
    assert!(text("c.md").contains("| ttft.p50 |") && text("c.md").contains("**worse**"), "{}", text("c.md"));
    assert!(text("c.xml").contains("tests=\"3\" failures=\"3\""), "{}", text("c.xml"));
    let smaller = read_json(&folder.path().join("g.json"));
    let names = |list: &Value| -> Vec<String> {
        list.as_array()
            .expect("a list")
            .iter()
            .map(|one| one["name"].as_str().expect("text").to_owned())
            .collect()
    };
    assert_eq!(names(&smaller), ["vllm-loadgen/ttft.p50", "vllm-loadgen/e2e.p95"]);
    assert_eq!((&smaller[0]["unit"], smaller[0]["value"].is_number()), (&json!("ms"), true));
    assert_eq!(names(&read_json(&folder.path().join("g-bigger.json"))), ["vllm-loadgen/requests_per_s"]);
    let bencher = &read_json(&folder.path().join("b.json"))["vllm-loadgen"];
    let (low, value) = (&bencher["ttft-p50"]["lower_value"], &bencher["ttft-p50"]["value"]);
    assert!(low.as_f64() <= value.as_f64() && low.is_number(), "{bencher}");
    // the other way round it is better, and nothing is replaced unasked
    succeeds(&run(folder.path(), &["compare", &new[0], &base[0], "--metric", "ttft.p50"]));
    let again = run(folder.path(), &["compare", &base[0], &new[0], "-o", "c.json"]);
    assert_eq!(code(&again), 1);
    assert!(err(&again).contains("--overwrite"), "{}", err(&again));
}

#[test]
fn several_runs_a_side_are_tested_over_runs() {
    let folder = folder();
    let base = runs_of(folder.path(), 4);
    let new = slower(folder.path(), &base);
    let words = |base: &[String], new: &[String]| {
        let words =
            ["compare", "--metric", "ttft.p50", "-o", "c.json", "--overwrite", "--base"].map(str::to_owned);
        [&words[..], base, &["--new".to_owned()], new].concat()
    };
    let compared = |base: &[String], new: &[String]| {
        let words = words(base, new);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = run(folder.path(), &words);
        (code(&output), read_json(&folder.path().join("c.json"))["method"].clone())
    };
    assert_eq!(compared(&base, &new), (99, json!("mann_whitney")));
    assert_eq!(compared(&new, &base), (0, json!("mann_whitney")));
    assert_eq!(compared(&base[..2], &new[..3]), (99, json!("every_interval")));
}

#[test]
fn a_server_that_answers_nothing_is_worse() {
    let folder = folder();
    let base = runs_of(folder.path(), 1);
    let mut report = read_json(&folder.path().join(&base[0]));
    report["summary"]["requests"]["succeeded"] = json!(0);
    report["summary"]["requests"]["failed"] = json!(90);
    report["summary"]["throughput"]["requests_per_s"] = json!(0.0);
    let latency = report["summary"]["latency"].as_object_mut().expect("an object");
    latency.values_mut().for_each(|distribution| *distribution = Value::Null);
    report["plan"]["run_id"] = json!("lg-dead");
    fs::write(folder.path().join("dead.json"), report.to_string()).expect("written");
    for metric in ["ttft.p99", "requests_per_s"] {
        let compared = run(folder.path(), &["compare", &base[0], "dead.json", "--metric", metric]);
        assert_eq!(code(&compared), 99, "{metric}: {}", out(&compared));
        assert!(out(&compared).contains("no request of a new run succeeded"), "{}", out(&compared));
        // a base that was dead is none to be worse than
        assert_eq!(code(&run(folder.path(), &["compare", "dead.json", &base[0], "--metric", metric])), 0);
    }
}

#[test]
fn different_plans_are_refused_unless_forced() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    for (name, threads) in [("a", "2"), ("b", "3")] {
        let (file, log) = (format!("{name}.json"), format!("{name}.jsonl.gz"));
        let words = [
            "-q",
            "--ignore-eos",
            "--url",
            &url,
            "-n",
            "80",
            "-t",
            threads,
            "--max-tokens",
            "3",
            "-o",
            &file,
        ];
        succeeds(&run(folder.path(), &[&words[..], &["--record-log", &log]].concat()));
    }
    let refused = run(folder.path(), &["compare", "a.json", "b.json"]);
    assert_eq!(code(&refused), 2);
    assert!(err(&refused).contains("the plans differ (load.threads: 2 and 3)"), "{}", err(&refused));
    let forced = run(folder.path(), &["compare", "a.json", "b.json", "--force", "--tolerance", "100%"]);
    assert!(out(&forced).contains("load.threads: 2 and 3"), "{}", out(&forced));
    // a record log is as good as the result
    let logs = run(folder.path(), &["compare", "a.jsonl.gz", "b.json", "--force", "--tolerance", "100%"]);
    assert!(out(&logs).contains("Verdict: "), "{}", out(&logs));
    let missing = run(folder.path(), &["compare", "a.json", "none.json"]);
    assert_eq!(code(&missing), 1);
    assert!(err(&missing).contains("none.json"), "{}", err(&missing));
}

#[test]
fn a_setting_that_came_later_parts_no_history() {
    let folder = folder();
    let at = folder.path();
    let runs = runs_of(at, 2);
    // as of a version whose plans had another hash
    let mut old = read_json(&at.join(&runs[0]));
    old["plan"]["hash"] = json!("0123456789abcdef");
    fs::write(at.join(&runs[0]), old.to_string()).expect("writable");
    let compared = run(at, &["compare", &runs[0], &runs[1]]);
    assert!(out(&compared).contains("Verdict: "), "{}", err(&compared));
    let trend = run(at, &["trend", &runs[0], &runs[1]]);
    assert!(out(&trend).contains(", 2 runs from "), "{}", out(&trend));
}

#[test]
fn a_run_that_is_there_twice_counts_once() {
    let folder = folder();
    let at = folder.path();
    let base = runs_of(at, 2);
    let new = slower(at, &base);
    for (file, copy) in
        [(&base[0], "c1.json"), (&base[1], "c2.json"), (&new[0], "c3.json"), (&new[1], "c4.json")]
    {
        fs::copy(at.join(file), at.join(copy)).expect("writable");
    }
    let words = [
        "compare", "--metric", "ttft.p50", "-o", "c.json", "--base", &base[0], &base[1], "c1.json", "c2.json",
    ];
    let words = [&words[..], &["--new", &new[0], "c3.json", &new[1], "c4.json"]].concat();
    let compared = run(at, &words);
    let written = read_json(&at.join("c.json"));
    assert_eq!(written["method"], "every_interval", "two a side are not four");
    let runs = |side: &str| written["metrics"][0][side]["runs"].as_array().expect("a list").len();
    let files = |side: &str| written[side].as_array().expect("a list").len();
    assert_eq!((runs("base"), runs("new"), files("base"), files("new")), (2, 2, 2, 2), "{written}");
    assert!(
        out(&compared).contains("c1.json: the same run as base-1.json; it counts once"),
        "{}",
        out(&compared)
    );
    // a run is nothing to compare itself with
    let refused = run(at, &["compare", &base[0], "c1.json"]);
    assert_eq!(code(&refused), 2, "{}", out(&refused));
    let problem = format!("compare 'c1.json': is the same run as '{}'", base[0]);
    assert!(err(&refused).contains(&problem), "{}", err(&refused));
}

#[test]
fn a_result_and_its_record_log_are_one_run() {
    let (folder, server) = (folder(), simulator());
    let at = folder.path();
    for dir in ["a", "b"] {
        let words = ["-q", "--url", &server.url(), "-n", "5", "--max-tokens", "2", "--output-dir", dir];
        succeeds(&run(at, &words));
    }
    let files = |dir: &str| -> Vec<String> {
        let entries = fs::read_dir(at.join(dir)).expect("made");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("there").path().display().to_string()).collect();
        names.sort();
        names
    };
    let (a, b) = (files("a"), files("b"));
    assert_eq!((a.len(), b.len()), (2, 2));
    let words = ["compare", "-o", "c.json", "--base", &a[0], &a[1], "--new", &b[0], &b[1]];
    run(at, &words);
    let written = read_json(&at.join("c.json"));
    assert_eq!(
        (&written["method"], written["base"].as_array().map(Vec::len)),
        (&json!("intervals"), Some(1))
    );
}

#[test]
fn a_run_that_was_interrupted_is_not_judged() {
    let folder = folder();
    let at = folder.path();
    let base = runs_of(at, 1);
    let new = slower(at, &base);
    let compared = |stopped_by: Value, words: &[&str]| {
        let mut report = read_json(&at.join(&new[0]));
        (report["complete"], report["stopped_by"]) = (json!(false), stopped_by);
        fs::write(at.join("ended.json"), report.to_string()).expect("writable");
        let output =
            run(at, &[&["compare", &base[0], "ended.json", "-o", "c.json", "--overwrite"], words].concat());
        (code(&output), read_json(&at.join("c.json")))
    };
    let (code_of, written) = compared(Value::Null, &[]);
    assert_eq!((code_of, &written["verdict"]), (0, &json!("inconclusive")), "{written}");
    let note = "no run of the new side went on to its planned end";
    assert!(written["metrics"].as_array().expect("rows").iter().all(|row| row["note"] == note), "{written}");
    assert_eq!(written["metrics"][0]["new"]["runs"], json!([null]));
    assert!(written["warnings"][0].as_str().expect("text").contains("is not judged"), "{written}");
    // one that ended itself for its failures is judged by these
    let (code_of, written) = compared(json!("max_errors"), &["--metric", "ttft.p50"]);
    assert_eq!((code_of, &written["verdict"]), (0, &json!("inconclusive")), "{written}");
    let mut report = read_json(&at.join(&new[0]));
    (report["summary"]["requests"]["succeeded"], report["summary"]["requests"]["failed"]) =
        (json!(10), json!(80));
    fs::write(at.join(&new[0]), report.to_string()).expect("writable");
    let (code_of, written) = compared(json!("max_errors"), &["--metric", "error_rate"]);
    assert_eq!((code_of, &written["verdict"]), (99, &json!("worse")), "{written}");
    // beside others of its side it is left out
    let words = [
        "compare",
        "--metric",
        "ttft.p50",
        "-o",
        "d.json",
        "--base",
        &base[0],
        "--new",
        "whole.json",
        "ended.json",
    ];
    let mut whole = read_json(&at.join(&new[0]));
    whole["plan"]["run_id"] = json!("lg-whole");
    fs::write(at.join("whole.json"), whole.to_string()).expect("writable");
    compared(Value::Null, &[]);
    assert_eq!(code(&run(at, &words)), 99);
    let written = read_json(&at.join("d.json"));
    assert_eq!(written["method"], "intervals");
    assert_eq!(written["metrics"][0]["new"]["runs"].as_array().map(Vec::len), Some(2));
}

#[test]
fn runs_of_one_plan_have_a_seed_each_and_a_spread() {
    let (folder, server) = (folder(), simulator());
    let url = server.url();
    let words = [
        "-q",
        "--url",
        &url,
        "--runs",
        "3",
        "--seed",
        "7",
        "-n",
        "20",
        "-t",
        "2",
        "--max-tokens",
        "3",
        "--output-dir",
        "r",
        "--threshold",
        "error_rate<=0%",
        "--junit",
        "t.xml",
    ];
    let ran = run(folder.path(), &words);
    succeeds(&ran);
    assert!(out(&ran).contains("Over 3 runs: mean, its 95% interval"), "{}", out(&ran));
    let files =
        fs::read_dir(folder.path().join("r")).expect("made").map(|file| file.expect("readable").path());
    let results: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    let plans: Vec<_> = results.iter().map(|path| read_json(path)["plan"].clone()).collect();
    let mut seeds: Vec<_> = plans.iter().map(|plan| plan["seed"].as_u64().expect("a seed")).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, [7, 8, 9]);
    assert!(plans.iter().all(|plan| plan["hash"] == plans[0]["hash"]));
    let xml = fs::read_to_string(folder.path().join("t.xml")).expect("written");
    assert_eq!(xml.matches("<testsuite ").count(), 3, "{xml}");
}
