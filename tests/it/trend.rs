//! Saved runs over time: what is read, what is said to have changed, and every form in which it is written.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::command::{
    code, err, folder, json as read_json, out, run, simulator, succeeds, take_out_lateness,
};

/// A result of a real run, to be varied.
fn result(at: &Path) -> Value {
    let server = simulator();
    let words = ["-q", "--url", &server.url(), "-n", "20", "--max-tokens", "3", "--no-detail", "-o"];
    succeeds(&run(at, &[&words[..], &["real.json"]].concat()));
    let mut result = read_json(&at.join("real.json"));
    take_out_lateness(&mut result);
    fs::remove_file(at.join("real.json")).expect("written before");
    result
}

/// The same result as of another day and another server, in a file of its own.
fn save(folder: &Path, result: &Value, day: usize, p50: f64, commit: &str) {
    let mut result = result.clone();
    result["started"] = json!(format!("2026-10-{day:02}T02:00:00.000Z"));
    result["plan"]["run_id"] = json!(format!("lg-{day}"));
    result["plan"]["labels"] = json!({ "commit": commit, "gpu": "H100" });
    result["health"]["verdict"] = json!("VALID");
    let ttft = &mut result["summary"]["latency"]["ttft_ms"];
    (ttft["p50"], ttft["median"]) = (json!(p50), json!(p50));
    ttft["ci95"]["p50"] = json!({ "low": p50 - 1.0, "high": p50 + 2.0 });
    // names that do not tell the order
    fs::write(folder.join(format!("{}.json", 99 - day)), result.to_string()).expect("writable");
}

/// Nine runs at about 40 ms, then `count` at about 60.
fn history(at: &Path, count: usize) -> Value {
    let result = result(at);
    fs::create_dir(at.join("r")).expect("writable");
    for day in 1..=9 + count {
        let p50 = if day > 9 { 60.0 } else { 40.0 } + (day * 7 % 5) as f64 * 0.3;
        save(&at.join("r"), &result, day, p50, &format!("c{day}"));
    }
    result
}

#[test]
fn several_servers_of_one_series_are_told() {
    let folder = folder();
    let mut result = result(folder.path());
    let url = result["plan"]["server"]["url"].as_str().expect("a URL").to_owned();
    fs::create_dir(folder.path().join("r")).expect("writable");
    save(&folder.path().join("r"), &result, 1, 40.0, "a");
    assert!(!out(&run(folder.path(), &["trend", "r"])).contains("servers"));
    result["plan"]["server"]["url"] = json!("http://me:pw@other:8000/v1/chat/completions");
    save(&folder.path().join("r"), &result, 2, 40.0, "a");
    let shown = out(&run(folder.path(), &["trend", "r", "-o", "t.json"]));
    let told = format!(", of 2 servers (http://***@other:8000/v1/chat/completions, {url})");
    assert!(shown.contains(&told), "{shown}");
    let servers = &read_json(&folder.path().join("t.json"))["series"][0]["runs"];
    assert_eq!(servers[0]["server"], url);
}

#[test]
fn a_level_that_rose_is_worse_from_that_run_on_in_every_form() {
    let folder = folder();
    let at = folder.path();
    history(at, 5);
    let words = ["trend", "r", "--by", "commit", "--metric", "ttft.p50", "error_rate"];
    let files = ["--html", "t.html", "--markdown", "t.md", "--csv", "t.csv", "-o", "t.json"];
    let shown = run(at, &[&words[..], &files].concat());
    succeeds(&shown);
    let text = out(&shown);
    for part in [
        "14 runs from 2026-10-01 02:00:00 to 2026-10-14 02:00:00",
        "c10  ▲ worse 60.0 ±3%",
        "│",
        "ttft.p50: worse ▲ +49.3% from 2026-10-10 02:00:00 (c10) on: 40.6 to 60.6 ms (p 0.0",
        "Verdict: the newest level is worse: ttft.p50\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let read = |name: &str| fs::read_to_string(at.join(name)).expect("written");
    let trend = read_json(&at.join("t.json"));
    let series = &trend["series"][0];
    assert_eq!(
        (&trend["schema"], &trend["verdict"], &trend["by"]),
        (&json!(1), &json!("worse"), &json!("commit"))
    );
    assert_eq!(series["runs"][9]["labels"]["commit"], "c10");
    let metric = &series["metrics"][0];
    assert_eq!(
        (&metric["changes"][0]["run"], metric["changes"].as_array().map(Vec::len)),
        (&json!(9), Some(1))
    );
    assert_eq!(metric["segments"][1], json!({ "from": 9, "until": 13, "n": 5, "median": 60.6 }));
    assert_eq!((&metric["latest"]["n"], &metric["latest"]["verdict"]), (&json!(4), &json!("same")));
    assert_eq!(metric["runs"][0]["interval"], json!({ "low": 39.6, "high": 42.6 }));
    let csv = read("t.csv");
    assert_eq!(csv.lines().count(), 1 + 14 * 2);
    assert!(
        csv.lines().next().is_some_and(|head| head.ends_with(",verdict,label_commit,label_gpu")),
        "{csv}"
    );
    assert_eq!(csv.lines().filter(|line| line.contains(",worse,c10,H100")).count(), 1, "{csv}");
    let markdown = read("t.md");
    assert!(markdown.contains("**the newest level is worse: ttft.p50**"), "{markdown}");
    assert!(markdown.contains("| `c10` | ▲ worse 60.0 ±3% |"), "{markdown}");
    let html = read("t.html");
    crate::pages::check(&html);
    for part in ["worse from here on", "<title>2026-10-10 02:00:00 (c10): 60.0 ±3% ms</title>", "10-01"] {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(html.matches("<g class=\"spot").count(), 28);
}

#[test]
fn the_exit_code_is_that_of_the_newest_level_where_it_is_asked_for() {
    let folder = folder();
    let at = folder.path();
    history(at, 5);
    let trend = |words: &[&str]| code(&run(at, &[&["trend", "r", "--metric", "ttft.p50"], words].concat()));
    assert_eq!(trend(&[]), 0);
    assert_eq!(trend(&["--fail-on-worse"]), 99);
    assert_eq!(trend(&["--fail-on-worse", "--tolerance", "60%"]), 0);
    // of seven runs there are no four on both sides
    assert_eq!(trend(&["--fail-on-worse", "--last", "9"]), 99);
    assert_eq!(trend(&["--fail-on-worse", "--last", "7"]), 0);
    assert_eq!(trend(&["--fail-on-worse", "--label", "commit=c10"]), 0);
}

#[test]
fn plans_are_apart_and_what_is_no_result_or_counts_for_nothing_is_told() {
    let folder = folder();
    let at = folder.path();
    let result = history(at, 0);
    let r = at.join("r");
    let mut other = result.clone();
    other["plan"]["hash"] = json!("0123456789abcdef");
    other["plan"]["request"]["model"] = json!("<b>other|model\u{1b}[31m");
    save(&r, &other, 20, 70.0, "=1|<i>x");
    // the same run again, one that is INVALID, and one that was interrupted
    fs::copy(r.join("98.json"), r.join("twice.json")).expect("copied");
    for (day, health, complete) in [(10, "INVALID", true), (11, "VALID", false)] {
        save(&r, &result, day, 500.0, "doubtful");
        let path = r.join(format!("{}.json", 99 - day));
        let mut changed = read_json(&path);
        (changed["health"]["verdict"], changed["complete"]) = (json!(health), json!(complete));
        fs::write(&path, changed.to_string()).expect("writable");
    }
    fs::write(r.join("no.json"), "{}").expect("writable");
    fs::write(r.join("notes.txt"), "no result, and no name of one").expect("writable");
    fs::create_dir(r.join("deeper")).expect("writable");
    fs::rename(r.join("79.json"), r.join("deeper/79.json")).expect("moved");
    let shown = run(at, &["trend", "r", "--metric", "ttft.p50"]);
    succeeds(&shown);
    let text = out(&shown);
    assert!(text.contains(", 11 runs from ") && text.contains("r/no.json: missing field"), "{text}");
    assert!(text.contains("INVALID") && text.contains("incomplete"), "{text}");
    assert!(text.contains("Verdict: no level changed") && !text.contains("notes.txt"), "{text}");
    assert!(!text.contains("other"), "{text}");
    let files = ["--html", "t.html", "--markdown", "t.md", "--csv", "t.csv"];
    let shown = run(at, &[&["trend", "r", "--recursive", "--by", "commit"][..], &files].concat());
    succeeds(&shown);
    assert!(out(&shown).contains("<b>other|model[31m: "), "{}", out(&shown));
    let read = |name: &str| fs::read_to_string(at.join(name)).expect("written");
    let html = read("t.html");
    crate::pages::check(&html);
    assert!(html.contains("12 runs of 2 plans over time") && html.contains("spot s0 faint"), "{html}");
    assert!(!html.contains("<b>other") && !html.contains("<i>x"));
    assert!(read("t.md").contains("&lt;b&gt;other\\|model\\[31m") && read("t.md").contains("`=1\\|<i>x`"));
    assert!(read("t.csv").contains(",'=1|<i>x,"), "{}", read("t.csv"));
}

#[test]
fn a_run_kept_as_result_and_as_record_log_counts_once() {
    let (folder, server) = (folder(), simulator());
    let (at, url) = (folder.path(), server.url());
    let words = ["-q", "--url", &url, "-n", "5", "--max-tokens", "2", "--output-dir", "r"];
    succeeds(&run(at, &words));
    assert_eq!(fs::read_dir(at.join("r")).expect("made").count(), 2);
    assert!(out(&run(at, &["trend", "r"])).contains(", 1 run from "));
    // the log alone will do
    let logs =
        ["-q", "--url", &url, "-n", "5", "--max-tokens", "2", "-o", "x.json", "--record-log", "log.jsonl.gz"];
    succeeds(&run(at, &logs));
    assert!(out(&run(at, &["trend", "r", "log.jsonl.gz", "x.json"])).contains(", 2 runs from "));
}

#[test]
fn what_cannot_be_done_is_told_and_writes_nothing() {
    let folder = folder();
    let at = folder.path();
    fs::create_dir(at.join("r")).expect("writable");
    for words in
        [&["trend", "r", "--csv", "t.csv"][..], &["trend", "gone.json"], &["trend", "r", "--label", "a=b"]]
    {
        let refused = run(at, words);
        assert_eq!(code(&refused), 1, "{words:?}");
        assert!(err(&refused).contains("no result"), "{}", err(&refused));
    }
    assert!(!at.join("t.csv").exists());
    let refused = run(at, &["trend", "r", "--metric", "ttft", "--last", "0", "--html", "a", "--csv", "a"]);
    assert_eq!((code(&refused), err(&refused).lines().count()), (2, 3), "{}", err(&refused));
}
