//! Pages that people read: HTML and Markdown of runs just made, and of saved results.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use vllm_loadgen::sim::Behavior;

use crate::command::{code, folder, out, run, simulator, start, succeeds};

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).expect("written")
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

/// What holds for every page: it needs nothing else, and can be read by those who cannot see it.
pub fn check(html: &str) {
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
    for part in
        ["<script", "http-equiv=\"refresh\"", "<link rel=\"stylesheet\"", "@import", "url(", "NaN", "inf\""]
    {
        assert!(!html.contains(part), "{part}");
    }
    assert!(html.contains("default-src 'none'"));
    assert_eq!(count(html, "<svg viewBox=\"0 0 460 "), count(html, "role=\"img\" aria-label=\""));
    assert_eq!(count(html, "<table"), count(html, "<caption>"));
    for tag in ["section", "div", "figure", "svg", "table", "ul", "details"] {
        assert_eq!(count(html, &format!("<{tag}")), count(html, &format!("</{tag}>")), "{tag}");
    }
}

#[test]
fn a_run_makes_pages_and_its_result_makes_the_same() {
    let (folder, server) = (folder(), simulator());
    let (at, url) = (folder.path(), server.url());
    let words = ["-q", "--url", &url, "-t", "3", "-n", "40", "--max-tokens", "5", "--no-detail"];
    let files = ["-o", "run.json", "--html", "run.html", "--markdown", "run.md"];
    succeeds(&run(at, &[&words[..], &files].concat()));
    let html = read(at, "run.html");
    check(&html);
    for part in ["Client ", "No request failed", "E2E p50", "Over time", "Manifest", "closed loop, 3 threads"]
    {
        assert!(html.contains(part), "{part}");
    }
    succeeds(&run(at, &["report", "run.json", "--html", "again.html", "--markdown", "again.md"]));
    assert_eq!(html, read(at, "again.html"));
    assert_eq!(read(at, "run.md"), read(at, "again.md"));
    assert!(read(at, "run.md").contains("| E2E | 40 |"), "{}", read(at, "run.md"));
    // a result of a version that did not tell how the run went over time
    let mut result: Value = serde_json::from_str(&read(at, "run.json")).expect("JSON");
    let summary = result["summary"].as_object_mut().expect("an object");
    for name in ["timeline", "worst", "sample"] {
        assert!(summary.remove(name).is_some(), "{name}");
    }
    fs::write(at.join("old.json"), result.to_string()).expect("writable");
    succeeds(&run(at, &["report", "old.json", "--html", "old.html"]));
    check(&read(at, "old.html"));
}

#[test]
fn lengths_are_drawn_where_they_differ_and_told_where_they_do_not() {
    let (folder, server) = (folder(), simulator());
    let (at, url) = (folder.path(), server.url());
    let words = ["-q", "--url", &url, "-n", "60", "--max-tokens", "90", "--no-detail"];
    succeeds(&run(at, &[&words[..], &["-o", "same.json", "--html", "same.html"]].concat()));
    let (heading, caption) = ("<h3>Lengths</h3>", " against prompt tokens</figcaption>");
    let same = read(at, "same.html");
    assert!(
        same.contains("Every request had 14 prompt tokens. Each dot is one of the 60 requests that"),
        "{same}"
    );
    assert_eq!((count(&same, caption), count(&same, " against output tokens</figcaption>")), (0, 1));
    // as from a server that counts otherwise, and from a longer run
    let result: Value = serde_json::from_str(&read(at, "same.json")).expect("JSON");
    let save = |name: &str, change: fn(usize, &mut Value)| {
        let mut result = result.clone();
        result["summary"]["requests"]["succeeded"] = 1_000.into();
        let sample = result["summary"]["sample"].as_array_mut().expect("a list");
        sample.iter_mut().enumerate().for_each(|(number, request)| change(number, request));
        fs::write(at.join(name), result.to_string()).expect("writable");
    };
    save("varied.json", |number, request| request["input_tokens"] = (number / 2 * 50).into());
    save("few.json", |number, request| {
        request["output_tokens"] = if number < 3 { (number + 1).into() } else { Value::Null };
        request["input_tokens"] = Value::Null;
    });
    save("none.json", |_, request| {
        request["input_tokens"] = Value::Null;
        request["output_tokens"] = Value::Null;
    });
    let page = |files: &[&str]| {
        succeeds(&run(at, &[&["report", "--html", "again.html", "--overwrite"], files].concat()));
        let html = read(at, "again.html");
        check(&html);
        html
    };
    let varied = page(&["varied.json"]);
    assert!(varied.contains("60 of the 1,000 that succeeded, chosen by their numbers alone."), "{varied}");
    assert_eq!(count(&varied, caption), 2);
    let few = page(&["few.json"]);
    assert!(few.contains("Each dot is a request: 3 of the 1,000 that succeeded"), "{few}");
    assert!(!page(&["none.json"]).contains(heading));
    let both = page(&["same.json", "varied.json"]);
    assert_eq!((count(&both, heading), count(&both, caption)), (2, 4));
    // too many to be told apart
    let five = page(&["same.json", "same.json", "same.json", "same.json", "varied.json"]);
    assert_eq!((count(&five, heading), count(&five, caption)), (5, 2));
}

#[test]
fn runs_of_every_kind_have_a_page() {
    let (folder, server) = (folder(), simulator());
    let failing = start(Behavior { fail: 1.0, ..Behavior::flat_out() });
    let (at, url, bad) = (folder.path(), server.url(), failing.url());
    for (name, words, want) in [
        ("one", &["--url", &url, "-n", "1"][..], "1 completion"),
        ("failed", &["--url", &bad, "-n", "20"], "No request succeeded; 20 failed"),
        ("whole", &["--url", &url, "-n", "20", "--no-stream"], "E2E: how often"),
        ("open", &["--url", &url, "-r", "400", "-n", "40", "--warmup", "9"], "Response TTFT"),
        ("sweep", &["--url", &url, "-n", "20", "--concurrent-tests", "1", "2", "4"], "best point"),
        ("compare", &["--url", &url, "--compare", "1", "30"], "over completions"),
    ] {
        let (html, markdown) = (format!("{name}.html"), format!("{name}.md"));
        let files = ["-q", "--max-tokens", "3", "--html", &html, "--markdown", &markdown];
        let ran = run(at, &[&files[..], words].concat());
        assert_eq!(code(&ran), i32::from(name == "failed"), "{name}");
        let html = read(at, &html);
        check(&html);
        assert!(html.contains(want), "{name}: {want}");
        assert!(read(at, &markdown).starts_with("### vllm-loadgen: "), "{name}");
    }
}

/// Console, Markdown and HTML of a run.
fn told(folder: &Path, words: &[&str]) -> [String; 3] {
    let files = ["--markdown", "told.md", "--html", "told.html", "--overwrite"];
    let ran = run(folder, &[words, &files[..]].concat());
    succeeds(&ran);
    check(&read(folder, "told.html"));
    [out(&ran), read(folder, "told.md"), read(folder, "told.html")]
}

#[test]
fn a_load_above_what_the_server_can_do_is_named_first() {
    use std::{num::NonZeroUsize, time::Duration};
    let folder = folder();
    let narrow =
        Behavior { slots: NonZeroUsize::MIN, ttft: Duration::from_millis(20), ..Behavior::flat_out() };
    let server = start(narrow);
    let words = ["--url", &server.url(), "-r", "150", "-n", "150", "-t", "150", "--max-tokens", "2"];
    let [console, markdown, html] = told(folder.path(), &words);
    let at = |part: &str| console.find(part).expect(part);
    assert!(
        at("  OVERLOAD ") < at("Client health") && at("requests/s arrived and ") < at("Latency"),
        "{console}"
    );
    assert!(markdown.contains("- **OVERLOAD**: in the second half of the run "), "{markdown}");
    assert!(html.contains("</span> OVERLOAD</strong><span>in the second half of the run "));
}

#[test]
fn a_server_that_dies_in_mid_run_is_the_headline() {
    let folder = folder();
    let url = crate::failures::server(|number, mut stream| {
        crate::failures::read_request(&mut stream);
        let reply = r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", reply.len());
        if number < 20 {
            let _ = std::io::Write::write_all(&mut stream, (head + reply).as_bytes());
        }
    });
    let words = ["--url", &url, "--model", "m", "-n", "200", "-t", "2", "--no-server-metrics"];
    let [console, markdown, html] = told(folder.path(), &words);
    let at = |part: &str| console.find(part).expect(part);
    assert!(at("  FAILED ") < at("Client health"), "{console}");
    assert!(console.contains("180 of 200 requests failed (90.0%), most with "), "{console}");
    assert!(console.contains("None succeeded after "), "{console}");
    assert!(markdown.contains("- **FAILED**: 180 of 200 requests failed"), "{markdown}");
    assert!(html.contains("</span> FAILED</strong><span>180 of 200 requests failed"));
}

/// A server that has all but 3 of the 100 tokens of each prompt in its prefix cache, and says so.
fn caching_server() -> String {
    crate::failures::server(|_, mut stream| {
        crate::failures::read_request(&mut stream);
        let reply = r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,
            "completion_tokens":1,"prompt_tokens_details":{"cached_tokens":97}}}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", reply.len());
        let _ = std::io::Write::write_all(&mut stream, (head + reply).as_bytes());
    })
}

#[test]
fn the_share_of_the_prefix_cache_is_told_everywhere_and_can_be_held_to_a_limit() {
    let folder = folder();
    let (at, url) = (folder.path(), caching_server());
    let words = ["--url", &url, "--model", "m", "-n", "10", "--no-server-metrics", "--csv", "c.csv"];
    let more = ["--prom-out", "m.prom", "-o", "r.json", "--threshold", "prefix_cache_hit_share>96%"];
    let pages = told(at, &[&words[..], &more].concat());
    for page in &pages {
        let said = page.replace("&#39;", "'");
        assert!(said.contains("97.0% of 1,000 prompt tokens came from the server's prefix cache"), "{said}");
    }
    assert!(
        pages[0].contains("a cache that had seen the prompts; --unique-prompts keeps it out"),
        "{}",
        pages[0]
    );
    assert!(pages[0].contains("passed       prefix_cache_hit_share>96%"), "{}", pages[0]);
    assert!(read(at, "c.csv").lines().next().is_some_and(|head| head.contains(",prefix_cache_hit_share,")));
    assert!(
        read(at, "m.prom").contains("vllm_loadgen_run_prefix_cache_hit_ratio{"),
        "{}",
        read(at, "m.prom")
    );
    let held = ["report", "r.json", "--threshold", "prefix_cache_hit_share<50%"];
    assert_eq!(code(&run(at, &held)), 99);
    let unique = [&words[..], &["--unique-prompts"]].concat();
    let [console, ..] = told(at, &[&unique[..], &["--overwrite"]].concat());
    assert!(console.contains("although each prompt begins with a salt of its own"), "{console}");
}

#[test]
fn a_schedule_that_ends_before_its_number_is_reached_says_so() {
    let (folder, server) = (folder(), simulator());
    let words = ["--url", &server.url(), "--stages", "40:0.2s", "-n", "1000", "--max-tokens", "2"];
    let [console, ..] = told(folder.path(), &words);
    assert!(console.contains("of the 1,000 requests that were asked for"), "{console}");
}

#[test]
fn simulated_runs_are_said_to_be_such_among_others_too() {
    let (folder, server) = (folder(), simulator());
    let (at, url) = (folder.path(), server.url());
    let words = ["-q", "-n", "1", "--max-tokens", "3"];
    succeeds(&run(at, &[&words[..], &["--simulate", "-o", "sim.json"]].concat()));
    succeeds(&run(at, &[&words[..], &["--url", &url, "-o", "real.json"]].concat()));
    let told = |file: &str| {
        succeeds(&run(at, &["report", "real.json", file, "--markdown", "r.md", "--overwrite"]));
        read(at, "r.md")
            .contains("⚠️ simulated server, whose figures say nothing of a real one: `sim.json`\n")
    };
    assert!(told("sim.json"));
    fs::copy(at.join("real.json"), at.join("too.json")).expect("readable");
    assert!(!told("too.json"));
}

#[test]
fn thresholds_and_goodput_are_on_the_pages() {
    let (folder, server) = (folder(), simulator());
    let at = folder.path();
    let words = ["-q", "--url", &server.url(), "-n", "40", "--max-tokens", "3", "--goodput", "e2e:1h"];
    let limits = ["--threshold", "e2e.p50<1h", "--threshold", "error_rate>5%"];
    let pages = ["--html", "run.html", "--markdown", "run.md"];
    assert_eq!(code(&run(at, &[&words[..], &limits, &pages].concat())), 99);
    let (html, markdown) = (read(at, "run.html"), read(at, "run.md"));
    check(&html);
    for part in
        ["1 of 2 thresholds failed", "e2e.p50&lt;1h passed: ", "error_rate&gt;5% failed: ", "Goodput: 100%"]
    {
        assert!(html.contains(part), "{part}: {html}");
    }
    for part in ["❌ 1 of 2 thresholds failed", "- `e2e.p50<1h passed: ", "- `goodput 100%, "] {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
}

/// Puts the text into every word of a result that is not one of ours.
fn spoil(result: &mut Value, text: &str) {
    for path in [
        "/tool/name",
        "/tool/version",
        "/tool/commit",
        "/started",
        "/ended",
        "/stopped_by",
        "/plan/run_id",
        "/plan/hash",
        "/plan/scenario",
        "/plan/simulated",
        "/plan/key_source",
        "/plan/prompt",
        "/plan/request/model",
        "/environment/platform",
        "/environment/kernel",
        "/summary/errors/0/kind",
        "/summary/errors/0/meaning",
        "/summary/errors/0/example",
    ] {
        *result.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = text.into();
    }
    result["warnings"] = json!([text]);
    result["health"]["reasons"] = json!([text]);
    result["schedule"] = json!({"count": 1, "hash": text});
    result["plan"]["server"]["headers"] = json!({text: text});
    result["plan"]["server"]["url"] = format!("http://h/v1/chat/completions?{text}").into();
    result["plan"]["request"]["extra"] = json!({text: text});
    result["summary"]["finish_reasons"] = json!({text: 1});
    result["summary"]["server_timings"] = json!({text: result["summary"]["latency"]["e2e_ms"]});
    for slice in result["summary"]["timeline"]["slices"].as_array_mut().expect("a list") {
        slice["failed"] = json!({text: 2});
    }
}

#[test]
fn words_from_outside_are_words_and_no_markup() {
    let folder = folder();
    let server = start(Behavior { fail: 0.5, ..Behavior::flat_out() });
    let at = folder.path();
    let words =
        ["-q", "--url", &server.url(), "-n", "30", "--max-tokens", "3", "--no-detail", "-o", "run.json"];
    succeeds(&run(at, &words));
    let mut result: Value = serde_json::from_str(&read(at, "run.json")).expect("JSON");
    result["complete"] = false.into();
    spoil(&mut result, "\"'><script>alert(1)</script>");
    let name = "<script>&.json";
    fs::write(at.join(name), result.to_string()).expect("writable");
    for (files, pages) in
        [(&[name][..], ["one.html", "one.md"]), (&[name, "run.json", name], ["all.html", "all.md"])]
    {
        let words = [&["report", "--html", pages[0], "--markdown", pages[1]], files].concat();
        succeeds(&run(at, &words));
        let html = read(at, pages[0]);
        check(&html);
        assert!(count(&html, "&lt;script&gt;alert(1)&lt;/script&gt;") > 20, "{}", pages[0]);
        // outside of code, which is every second part, nothing is left of it
        let markdown = read(at, pages[1]);
        assert!(markdown.split('`').step_by(2).all(|part| !part.contains("<script")), "{markdown}");
        assert!(markdown.contains("<script"), "{markdown}");
    }
}

#[test]
fn a_page_takes_no_other_files_name() {
    let folder = folder();
    let refused = run(folder.path(), &["--simulate", "--html", "a", "--markdown", "./a"]);
    assert_eq!(code(&refused), 2);
    let refused = run(folder.path(), &["report", "x.json", "--html", "a", "--csv", "a"]);
    assert_eq!(code(&refused), 2);
}

#[test]
fn a_run_that_sent_nothing_says_so() {
    let (folder, server) = (folder(), simulator());
    let at = folder.path();
    let url = server.url();
    succeeds(&run(at, &["-q", "--url", &url, "-n", "1", "--max-tokens", "2", "-o", "run.json"]));
    let mut report: Value = serde_json::from_str(&read(at, "run.json")).expect("JSON");
    for count in ["sent", "succeeded"] {
        report["summary"]["requests"][count] = json!(0);
    }
    let latency = report["summary"]["latency"].as_object_mut().expect("an object");
    latency.values_mut().for_each(|figure| *figure = Value::Null);
    fs::write(at.join("none.json"), report.to_string()).expect("written");
    let ran = run(at, &["report", "none.json", "--html", "r.html", "--markdown", "r.md"]);
    succeeds(&ran);
    assert!(read(at, "r.md").contains("❌ no request was sent ·"), "{}", read(at, "r.md"));
    assert!(read(at, "r.html").contains("No request was sent"));
    assert!(!out(&ran).contains("receive timestamps"), "{}", out(&ran));
}

#[test]
fn shares_of_errors_count_requests_that_never_left_too() {
    let (folder, server) = (folder(), simulator());
    let (at, url) = (folder.path(), server.url());
    succeeds(&run(at, &["-q", "--url", &url, "-n", "5", "--max-tokens", "2", "-o", "r.json"]));
    let mut report: Value = serde_json::from_str(&read(at, "r.json")).expect("JSON");
    let requests = json!({"sent": 10, "succeeded": 0, "failed": 10, "not_sent": 30, "success_rate": 0.0});
    report["summary"]["requests"] = requests;
    let line = |kind: &str, count: u64| json!({"kind": kind, "group": "exception", "meaning": "", "count": count, "example": "", "first_request": 0, "first_s": 0.0, "last_s": 1.0});
    report["summary"]["errors"] = json!([line("not_sent", 30), line("http_500", 10)]);
    fs::write(at.join("edited.json"), report.to_string()).expect("writable");
    succeeds(&run(at, &["report", "edited.json", "--markdown", "r.md", "--prom-out", "r.prom"]));
    let markdown = read(at, "r.md");
    assert!(markdown.contains("| `not_sent` | 30 | 75.0% |"), "{markdown}");
    assert!(markdown.contains("| `http_500` | 10 | 25.0% |"), "{markdown}");
    let metrics = read(at, "r.prom");
    let unsent = metrics.lines().find(|line| line.contains("outcome=\"not_sent\""));
    assert!(unsent.is_some_and(|line| line.ends_with(" 30")), "{metrics}");
}
