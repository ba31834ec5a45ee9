//! Metrics for Prometheus: of results, by every route, held against the rules of the format.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use vllm_loadgen::observe::prometheus::samples;
use vllm_loadgen::sim::Behavior;

use crate::command::{code, command, err, folder, json, out, run, simulator, start, succeeds};
use crate::receiver::receiver;

/// Series with their labels in order, and their values.
type Values = BTreeMap<String, f64>;

/// Holds a text to the rules of format 0.0.4: what `promtool check metrics` looks at, and that no series repeats.
pub fn check(text: &str) -> Values {
    assert!(text.ends_with('\n') && !text.contains("NaN"), "{text}");
    let mut read = samples(text);
    let (mut values, mut families) = (Values::new(), BTreeSet::new());
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let types: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let helps: BTreeSet<&str> =
        text.lines().filter_map(|line| Some(line.strip_prefix("# HELP ")?.split_once(' ')?.0)).collect();
    assert_eq!(helps, types.keys().copied().collect());
    let mut last = "";
    for sample in read.by_ref() {
        let line = lines.next().expect("a line for each sample");
        assert_eq!(
            line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok()),
            Some(sample.value),
            "{line}"
        );
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| sample.name.strip_suffix(suffix).filter(|base| types.contains_key(base)));
        let family = base.unwrap_or(sample.name);
        let kind = types.get(family).unwrap_or_else(|| panic!("no type: {line}"));
        assert_eq!(sample.name.ends_with("_total"), *kind == "counter", "{line}");
        assert!(base.is_none() || ["summary", "histogram"].contains(kind), "{line}");
        if family != last {
            assert!(families.insert(family), "{family} is not in one piece");
        }
        last = family;
        let mut labels: Vec<_> =
            sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        labels.sort();
        let names: BTreeSet<_> = sample.labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), labels.len(), "a label twice: {line}");
        let series = format!("{}{{{}}}", sample.name, labels.join(","));
        assert!(values.insert(series, sample.value).is_none(), "twice: {line}");
    }
    assert_eq!(read.unreadable_lines(), 0, "{text}");
    values
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).expect("written")
}

fn near(value: f64, want: f64) -> bool {
    (value - want).abs() <= 1e-9 * want.abs()
}

#[test]
fn a_run_and_its_result_make_the_same_metrics() {
    let (folder, server) = (folder(), start(Behavior { fail: 0.2, ..Behavior::flat_out() }));
    let (at, url) = (folder.path(), server.url());
    let ran = run(
        at,
        &[
            "-q",
            "--url",
            &url,
            "-r",
            "400",
            "-n",
            "40",
            "--label",
            "gpu.x=a\"b\\",
            "--label",
            "gpu-x=2",
            "--max-tokens",
            "5",
            "--goodput",
            "ttft:10s",
            "--threshold",
            "error_rate<0.001%",
            "--threshold",
            "error_rate < 0.001%",
            "--threshold",
            "requests_per_s>0.1",
            "--test-name",
            "night\"ly\n",
            "-o",
            "run.json",
            "--prom-out",
            "run.prom",
        ],
    );
    assert_eq!(code(&ran), 99);
    let text = read(at, "run.prom");
    let values = check(&text);
    let report = json(&at.join("run.json"));
    let summary = &report["summary"];
    let labels = "model=simulated-model";
    let value = |name: &str, more: &str| {
        let mut labels = vec![labels, "test=night\"ly"];
        labels.extend(more.split(',').filter(|more| !more.is_empty()));
        labels.sort_unstable();
        let series = format!("vllm_loadgen_run_{name}{{{}}}", labels.join(","));
        *values.get(&series).unwrap_or_else(|| panic!("no {series} in {text}"))
    };
    let latency = &summary["latency"];
    for (name, field) in [
        ("ttft", "ttft_ms"),
        ("itl", "itl_ms"),
        ("tpot", "tpot_ms"),
        ("e2e", "e2e_ms"),
        ("send_lag", "lag_ms"),
        ("response_ttft", "response_ttft_ms"),
    ] {
        let of = |field_2: &str| latency[field][field_2].as_f64().expect("a number");
        let p99 = of("p99");
        assert!(near(value(&format!("{name}_seconds"), "quantile=0.99"), p99 / 1e3), "{name}");
        assert_eq!(value(&format!("{name}_seconds_count"), ""), of("count"), "{name}");
        assert!(near(value(&format!("{name}_seconds_sum"), ""), of("mean") * of("count") / 1e3), "{name}");
    }
    let failed = summary["requests"]["failed"].as_f64().expect("a number");
    assert!(failed > 0.0);
    assert_eq!(value("requests", "outcome=failed"), failed);
    assert_eq!(value("errors", "kind=http_500"), failed);
    assert!(near(value("error_ratio", ""), failed / 40.0));
    assert_eq!(Some(value("goodput_ratio", "")), summary["goodput"]["share"].as_f64());
    assert_eq!(value("threshold_failed", "threshold=error_rate<0.001%"), 1.0);
    assert_eq!(value("threshold_failed", "threshold=requests_per_s>0.1"), 0.0);
    assert!(value("end_timestamp_seconds", "") >= value("start_timestamp_seconds", ""));
    let hash = report["plan"]["hash"].as_str().expect("text");
    assert!(text.contains(&format!("config_hash=\"{hash}\"")), "{text}");
    // of names that come to the same one is kept, and no other series has them
    assert_eq!(text.matches("label_gpu_x=").count(), 1);
    // no id of the run is in it: that would be a new series every day
    assert!(!text.contains(report["plan"]["run_id"].as_str().expect("text")), "{text}");
    succeeds(&run(at, &["report", "run.json", "--prom-out", "again.prom"]));
    assert_eq!(read(at, "again.prom"), text);
}

#[test]
fn runs_written_together_have_series_of_their_own() {
    let (folder, server) = (folder(), simulator());
    let (at, url) = (folder.path(), server.url());
    let words =
        ["-q", "--overwrite", "--url", &url, "--max-tokens", "2", "--prom-out", "runs.prom", "--no-csv"];
    let series = |more: &[&str]| {
        succeeds(&run(at, &[&words[..], more].concat()));
        let values = check(&read(at, "runs.prom"));
        let of_runs = values.into_keys().filter_map(|series| {
            let labels = series.strip_prefix("vllm_loadgen_run_duration_seconds{")?;
            Some(labels.replace("model=simulated-model,", ""))
        });
        of_runs.collect::<Vec<_>>()
    };
    assert_eq!(series(&["-n", "4"]), ["test=default}"]);
    assert_eq!(
        series(&["-n", "4", "--concurrent-tests", "1", "2"]),
        ["test=default,threads=1}", "test=default,threads=2}"]
    );
    let rate = ["--request-rate", "500", "--compare", "2", "3"];
    assert_eq!(series(&rate).len(), 2);
    assert_eq!(series(&["-n", "4", "--runs", "2"]), ["run=1,test=default}", "run=2,test=default}"]);
    let scenarios = r#"{"benchmark": {"test_name": "nightly"}, "test_scenarios": [
        {"name": "Small", "completions": [2, 3], "prompt": "a"}, {"name": "Large", "completions": [2], "prompt": "b"}]}"#;
    fs::write(at.join("c.json"), scenarios).expect("writable");
    assert_eq!(
        series(&["--config", "c.json", "--scenarios"]),
        [
            "completions=2,test=nightly/Large}",
            "completions=2,test=nightly/Small}",
            "completions=3,test=nightly/Small}",
        ]
    );
}

/// What is served there, or nothing where nobody listens.
fn scrape(url: &str) -> Option<String> {
    let address = url.strip_prefix("http://")?.strip_suffix("/metrics")?;
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    assert!(head.contains("200 OK") && head.contains("version=0.0.4"), "{head}");
    Some(body.to_owned())
}

/// Makes a run that is scraped while it goes on and once after; what the second scrape gave.
pub fn scraped_to_the_end(folder: &Path, words: &[&str]) -> String {
    let mut child = command(folder)
        .args([words, &["-q", "--metrics-listen", "127.0.0.1:0"]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let url = lines.find_map(|line| Some(line.strip_prefix("metrics of the runs on ")?.to_owned()));
    let url = url.expect("the address is said");
    check(&scrape(&url).expect("it listens"));
    lines.find(|line| line.starts_with("metrics stay on ")).expect("it stays");
    let last = scrape(&url).expect("it stays for one scrape");
    assert!(child.wait().expect("it ends").success());
    last
}

#[test]
fn a_run_is_scraped_while_it_goes_on_and_once_after() {
    let (folder, server) = (folder(), start(Behavior { fail: 0.1, ..Behavior::flat_out() }));
    let words = ["--url", &server.url(), "-r", "200", "-n", "60", "--max-tokens", "4", "--test-name", "live"];
    let last = scraped_to_the_end(folder.path(), &[&words[..], &["-o", "run.json"]].concat());
    let values = check(&last);
    let report = json(&folder.path().join("run.json"));
    let summary = &report["summary"];
    let value = |name: &str, more: &str| {
        let series = format!("vllm_loadgen_{name}{{{more}model=simulated-model,test=live}}");
        *values.get(&series).unwrap_or_else(|| panic!("no {series} in {last}"))
    };
    let count =
        |path: &str| summary.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}"));
    assert_eq!(value("ttft_seconds_count", ""), count("/latency/ttft_ms/count"));
    assert_eq!(value("itl_seconds_count", ""), count("/latency/itl_ms/count"));
    assert_eq!(value("e2e_seconds_bucket", "le=+Inf,"), count("/requests/succeeded"));
    assert_eq!(value("send_lag_seconds_count", ""), 60.0);
    assert_eq!(value("output_tokens_total", ""), count("/tokens/output"));
    assert_eq!(value("requests_in_flight", ""), 0.0);
    let ended = |code, outcome| {
        let labels = format!("code={code},model=simulated-model,outcome={outcome},test=live");
        values.get(&format!("vllm_loadgen_requests_total{{{labels}}}")).copied().unwrap_or_default()
    };
    assert_eq!(ended(200, "succeeded"), count("/requests/succeeded"));
    assert_eq!(ended(500, "failed"), count("/requests/failed"));
    assert_eq!(value("run_duration_seconds", ""), count("/duration_s"), "the results are there too");
}

#[test]
fn an_address_that_cannot_be_had_costs_no_request() {
    let (folder, server) = (folder(), simulator());
    let taken = server.address().to_string();
    let words =
        ["-q", "--url", &server.url(), "-n", "4", "--metrics-listen", &taken, "--record-log", "run.jsonl"];
    let ran = run(folder.path(), &words);
    assert_eq!(code(&ran), 1);
    assert!(!folder.path().join("run.jsonl").exists(), "no empty file is left behind");
    assert!(err(&ran).contains("choose another --metrics-listen"), "{}", err(&ran));
    assert!(server.served().is_empty());
    let wrong = run(folder.path(), &["--simulate", "--metrics-listen", "everywhere"]);
    assert_eq!(code(&wrong), 2);
    assert!(err(&wrong).contains("write such as 127.0.0.1:9464"), "{}", err(&wrong));
}

#[test]
fn results_are_pushed_once_and_say_no_more_than_they_should() {
    let (folder, server) = (folder(), simulator());
    let (gateway, received) = receiver("202 Accepted");
    let with_password = gateway.replace("http://", "http://me:pa55word@");
    let words = ["-q", "--url", &server.url(), "-n", "5", "--max-tokens", "2", "--test-name", "night/ly"];
    let ran = Command::new(env!("CARGO_BIN_EXE_vllm-loadgen"))
        .current_dir(folder.path())
        .env("VLLM_LOADGEN_API_KEY", "sk-secret")
        .args(
            [&words[..], &["--prom-out", "run.prom", "-o", "run.json", "--pushgateway", &with_password]]
                .concat(),
        )
        .output()
        .expect("the command starts");
    succeeds(&ran);
    let push = received.recv().expect("pushed");
    assert_eq!(push.line, "PUT /metrics/job/vllm-loadgen/test@base64/bmlnaHQvbHk HTTP/1.1");
    assert_eq!(push.body, read(folder.path(), "run.prom"), "the same as in the file");
    check(&push.body);
    assert!(push.head.contains(&"authorization: Basic bWU6cGE1NXdvcmQ=".to_owned()), "{push:?}");
    let all = format!("{}{}{}{push:?}", out(&ran), err(&ran), read(folder.path(), "run.json"));
    assert!(!all.contains("sk-secret") && !all.contains("pa55word"), "{all}");
    assert!(
        err(&ran).contains(&format!("pushed: {gateway}/metrics/job/vllm-loadgen/test@base64/")),
        "{}",
        err(&ran)
    );
    assert!(received.try_recv().is_err(), "one push");
}

#[test]
fn each_test_is_a_group_and_a_refused_push_is_told() {
    let (folder, server) = (folder(), simulator());
    let scenarios = r#"{"test_scenarios": [{"name": "A", "completions": [2, 3], "prompt": "a"},
        {"name": "B", "completions": [2], "prompt": "b"}]}"#;
    fs::write(folder.path().join("c.json"), scenarios).expect("writable");
    let (gateway, received) = receiver("200 OK");
    let words =
        ["-q", "--url", &server.url(), "--config", "c.json", "--scenarios", "--max-tokens", "2", "--no-csv"];
    succeeds(&run(folder.path(), &[&words[..], &["--pushgateway", &gateway]].concat()));
    for name in ["A", "B"] {
        let push = received.recv().expect("pushed");
        assert_eq!(push.line, format!("PUT /metrics/job/vllm-loadgen/test/{name} HTTP/1.1"));
        assert!(check(&push.body).keys().all(|series| series.contains(&format!("test={name}"))));
    }
    let (refusing, _received) = receiver("400 Bad Request");
    let words = ["-q", "--url", &server.url(), "-n", "2", "--max-tokens", "2", "--pushgateway", &refusing];
    let ran = run(folder.path(), &[&words[..], &["-o", "kept.json"]].concat());
    assert_eq!(code(&ran), 1);
    assert!(err(&ran).contains(&format!("cannot push to {refusing}: ")), "{}", err(&ran));
    assert!(out(&ran).contains("Written: kept.json"), "nothing else is lost: {}", out(&ran));
}

#[test]
fn a_folder_of_results_becomes_a_history_with_times() {
    let (folder, server) = (folder(), simulator());
    let (at, url) = (folder.path(), server.url());
    let words = ["-q", "--url", &url, "-n", "4", "--max-tokens", "3", "-o", "run.json", "--overwrite"];
    succeeds(&run(at, &words));
    fs::create_dir(at.join("history")).expect("writable");
    let mut result = json(&at.join("run.json"));
    // newest first by name, one without a log, one of which the log is all there is, one twice, and what is no result
    let ends = ["2026-11-03T00:00:00.250Z", "2026-11-02T00:00:00.000Z", "2026-11-01T00:00:00.000Z"];
    for (number, end) in ends.iter().enumerate() {
        result["ended"] = Value::from(*end);
        result["plan"]["run_id"] = Value::from(format!("lg-{number}"));
        fs::write(at.join(format!("history/{number}.json")), result.to_string()).expect("writable");
    }
    fs::copy(at.join("history/0.json"), at.join("history/3.json")).expect("writable");
    fs::write(at.join("history/0.jsonl"), "not looked at").expect("writable");
    fs::write(at.join("history/other.json"), "{}").expect("writable");
    fs::write(at.join("history/notes.txt"), "not looked at").expect("writable");
    let exported = run(at, &["export", "--openmetrics", "-", "history"]);
    succeeds(&exported);
    let text = out(&exported);
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    assert!(
        text.contains("# TYPE vllm_loadgen_run info\n")
            && text.contains("# UNIT vllm_loadgen_run_e2e_seconds seconds\n")
    );
    let mut times: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, time) = line.rsplit_once(' ').expect("a time");
        times.entry(sample.rsplit_once(' ').expect("a value").0).or_default().push(time);
    }
    assert!(times.keys().any(|series| series.starts_with("vllm_loadgen_run_e2e_seconds_count{")), "{text}");
    for (series, times) in times {
        assert_eq!(times, ["1793491200.000", "1793577600.000", "1793664000.250"], "{series}");
    }
    let told = err(&exported);
    assert!(
        told.contains("other.json: no result: ") && told.contains("3.json: the same run was named before"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 2, "{told}");
    // into a file the same
    succeeds(&run(at, &["export", "history", "--openmetrics", "history.om"]));
    assert_eq!(read(at, "history.om"), text);
    assert_eq!(code(&run(at, &["export", "history", "--openmetrics", "history.om"])), 1);
}

#[test]
fn what_cannot_be_exported_is_told() {
    let (folder, server) = (folder(), simulator());
    let (at, url) = (folder.path(), server.url());
    fs::create_dir(at.join("empty")).expect("writable");
    succeeds(&run(at, &["-q", "--url", &url, "-n", "2", "--max-tokens", "3", "-o", "run.json"]));
    let mut result = json(&at.join("run.json"));
    result["plan"]["run_id"] = Value::from("lg-other");
    fs::write(at.join("twin.json"), result.to_string()).expect("writable");
    result["ended"] = Value::from("yesterday");
    result["plan"]["run_id"] = Value::from("lg-third");
    fs::write(at.join("undated.json"), result.to_string()).expect("writable");
    let exported = run(at, &["export", "--openmetrics", "-", "run.json", "twin.json", "undated.json"]);
    succeeds(&exported);
    let told = err(&exported);
    assert!(
        told.contains("twin.json: another run of the same series ended in the same millisecond"),
        "{told}"
    );
    assert!(told.contains("undated.json: it does not tell when the run ended"), "{told}");
    for (words, status, want) in [
        (&["export", "run.json"][..], 2, "--openmetrics FILE"),
        (&["export", "--openmetrics", "-"], 2, "name one or more results"),
        (&["export", "--openmetrics", "-", "empty"], 2, "holds no result"),
        (&["export", "--openmetrics", "-", "none.json"], 1, "none.json"),
        (&["export", "--openmetrics", "a.om", "undated.json"], 2, "holds no result"),
    ] {
        let ran = run(at, words);
        assert!(code(&ran) == status && err(&ran).contains(want), "{words:?}: {}", err(&ran));
    }
    assert!(!at.join("a.om").exists());
}
