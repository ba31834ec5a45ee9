//! Who is told where a result is bad, and what.

use std::fs;
use std::io::{BufReader, Write};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;
use vllm_loadgen::sim::Behavior;

use crate::command::{code, err, folder, interrupt, json, metric, out, run, simulator, start, succeeds};
use crate::receiver::{Received, receive, receiver};
use crate::tls::{Authority, tls_server};

fn body(received: &Received) -> Value {
    serde_json::from_str(&received.body).expect("JSON")
}

#[test]
fn a_broken_threshold_is_told_once_to_each() {
    let (folder, server) = (folder(), simulator());
    let (hook, hooked) = receiver("200 OK");
    let (manager, managed) = receiver("200 OK");
    let secret = format!("{}/services/T0KEN", hook.replace("http://", "http://me:pa55word@"));
    let words =
        ["-q", "--url", &server.url(), "-n", "20", "--max-tokens", "2", "--prompt", "my very own words"];
    let limits = ["--threshold", "e2e.p50<1us", "--threshold", "error_rate<50%", "--test-name", "night"];
    let alerts =
        ["--alert-webhook", &secret, "--alertmanager", &manager, "--label", "commit=4f2a", "-o", "r.json"];
    let ran = run(folder.path(), &[&words[..], &limits, &alerts].concat());
    assert_eq!(code(&ran), 99);
    let told = hooked.recv().expect("told");
    assert_eq!(told.line, "POST /services/T0KEN HTTP/1.1");
    assert!(told.head.contains(&"content-type: application/json".to_owned()), "{told:?}");
    let message = body(&told);
    let text = message["text"].as_str().expect("text");
    assert!(text.starts_with("vllm-loadgen, night of simulated-model: e2e.p50<1us failed: "), "{text}");
    assert_eq!(message["alert"], 1);
    assert_eq!(message["causes"].as_array().map(Vec::len), Some(1), "{message}");
    assert_eq!(message["causes"][0]["kind"], "threshold");
    let told_run = &message["runs"][0];
    assert_eq!((&told_run["labels"]["commit"], &told_run["test"]), (&"4f2a".into(), &"night".into()));
    let told = managed.recv().expect("told");
    assert_eq!(told.line, "POST /api/v2/alerts HTTP/1.1");
    let alerts = body(&told);
    assert_eq!(alerts.as_array().map(Vec::len), Some(1), "{alerts}");
    let labels = &alerts[0]["labels"];
    assert_eq!(labels["alertname"], "VllmLoadgenThresholdFailed");
    assert_eq!((&labels["severity"], &labels["model"]), (&"critical".into(), &"simulated-model".into()));
    assert!(
        alerts[0]["annotations"]["summary"]
            .as_str()
            .is_some_and(|text| text.starts_with("e2e.p50<1us failed"))
    );
    let messages = format!("{message}{alerts}");
    let all = format!("{messages}{}{}", out(&ran), err(&ran));
    assert!(!messages.contains("my very own words"), "{messages}");
    assert!(!all.contains("pa55word") && !all.contains("T0KEN"), "{all}");
    assert!(err(&ran).contains(&format!("alert sent to {hook}\nalert sent to {manager}")), "{}", err(&ran));
    assert!(hooked.try_recv().is_err() && managed.try_recv().is_err(), "one message each");
}

#[test]
fn an_alert_goes_over_tls_to_none_but_the_host_that_was_named() {
    let (folder, server) = (folder(), simulator());
    let authority = Authority::new();
    let cacert = authority.write(folder.path());
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let port = tls_server(authority.server(&["localhost"]), move |stream| {
        // whoever does not trust the server sends nothing
        if stream.conn.complete_io(&mut stream.sock).is_ok()
            && let Some(received) = receive(&mut BufReader::new(&mut *stream))
        {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            tell.lock().expect("no panic").send(received).expect("wanted");
        }
    });
    let url = server.url();
    let words = ["-q", "--url", &url, "-n", "2", "--max-tokens", "2", "--threshold", "e2e.p50<1us"];
    let alert = |host: &str, more: &[&str]| {
        let hook = format!("https://{host}:{port}/hook");
        let ran = run(folder.path(), &[&words[..], &["--alert-webhook", &hook], more].concat());
        assert_eq!(code(&ran), 99);
        err(&ran)
    };
    let cacert = cacert.to_str().expect("UTF-8");
    let said = alert("localhost", &["--cacert", cacert]);
    assert!(said.contains(&format!("alert sent to https://localhost:{port}")), "{said}");
    assert_eq!(told.recv().expect("told").line, "POST /hook HTTP/1.1");
    // not even with --insecure, which is for the server under load
    for (host, more) in [("localhost", &["--insecure"][..]), ("127.0.0.1", &["--cacert", cacert])] {
        let said = alert(host, more);
        assert!(said.contains("no alert could be sent") && said.contains("certificate"), "{said}");
    }
    assert!(told.try_recv().is_err());
}

#[test]
fn nobody_is_told_of_what_is_well() {
    let (folder, server) = (folder(), simulator());
    let (hook, hooked) = receiver("200 OK");
    let words = ["-q", "--url", &server.url(), "-n", "5", "--max-tokens", "2", "--threshold", "e2e.p50<1h"];
    let ran = run(folder.path(), &[&words[..], &["--alert-webhook", &hook]].concat());
    succeeds(&ran);
    assert!(!err(&ran).contains("alert") && hooked.try_recv().is_err(), "{}", err(&ran));
}

#[test]
fn nobody_is_told_of_a_run_that_was_interrupted() {
    let (folder, server) = (folder(), simulator());
    let (hook, hooked) = receiver("200 OK");
    let file = folder.path().join("r.json");
    let words = ["-q", "--duration", "1h", "-t", "2", "--max-tokens", "2", "--threshold", "e2e.p50<1us"];
    let more = ["--alert-webhook", &hook, "-o", file.to_str().expect("UTF-8")];
    let is_running = || metric(&server, "vllm:request_success_total") > 0;
    let signals = [nix::sys::signal::Signal::SIGINT];
    assert_eq!(interrupt(&[&words[..], &more].concat(), &server, is_running, &signals), 130);
    assert!(hooked.try_recv().is_err());
}

#[test]
fn one_who_cannot_be_told_changes_no_exit_code() {
    let (folder, failing) = (folder(), start(Behavior { fail: 1.0, ..Behavior::flat_out() }));
    let (refusing, _kept) = receiver("503 Service Unavailable");
    let words = ["-q", "--url", &failing.url(), "-n", "3", "--max-tokens", "2", "-o", "r.json"];
    let ran = run(folder.path(), &[&words[..], &["--alert-webhook", &refusing]].concat());
    assert_eq!(code(&ran), 1, "no request succeeded");
    assert!(
        err(&ran).contains(&format!("warning: no alert could be sent to {refusing}: it answered 503")),
        "{}",
        err(&ran)
    );
    assert!(out(&ran).contains("Written: r.json"), "{}", out(&ran));
    let wrong =
        run(folder.path(), &["--simulate", "--alertmanager", "somewhere", "--alert-webhook", "ftp://h"]);
    assert_eq!(code(&wrong), 2);
    for part in ["--alertmanager: has no http:// or https://", "--alert-webhook: has no http:// or https://"]
    {
        assert!(err(&wrong).contains(part), "{}", err(&wrong));
    }
}

#[test]
fn a_regression_is_told_by_compare() {
    let (folder, server) =
        (folder(), start(Behavior { ttft: Duration::from_millis(1), ..Behavior::flat_out() }));
    let slow = start(Behavior { ttft: Duration::from_millis(60), ..Behavior::flat_out() });
    let (hook, hooked) = receiver("200 OK");
    let (manager, managed) = receiver("200 OK");
    let words = ["-q", "-n", "80", "-t", "20", "--max-tokens", "2", "--no-detail", "--seed", "1"];
    let words = [&words[..], &["--test-name", "night"]].concat();
    for (server, file) in [(&server, "base.json"), (&slow, "new.json")] {
        succeeds(&run(folder.path(), &[&words[..], &["--url", &server.url(), "-o", file]].concat()));
    }
    let alerts = ["--alert-webhook", &hook, "--alertmanager", &manager];
    let compared = run(
        folder.path(),
        &[&["compare", "base.json", "new.json", "--metric", "ttft.p50"][..], &alerts].concat(),
    );
    assert_eq!(code(&compared), 99, "{}", err(&compared));
    let message = body(&hooked.recv().expect("told"));
    assert_eq!(
        (&message["causes"][0]["kind"], &message["runs"][0]["file"]),
        (&"regression".into(), &"new.json".into())
    );
    let text = message["text"].as_str().expect("text");
    let begins = "vllm-loadgen, night of simulated-model: ttft.p50 is worse: ";
    assert!(text.starts_with(begins) && text.contains(" ms after "), "{text}");
    let alerts = body(&managed.recv().expect("told"));
    assert_eq!(alerts[0]["labels"]["alertname"], "VllmLoadgenRegression");
    let better = run(
        folder.path(),
        &["compare", "new.json", "base.json", "--metric", "ttft.p50", "--alert-webhook", &hook],
    );
    succeeds(&better);
    assert!(hooked.try_recv().is_err());
}

#[test]
fn a_base_that_is_invalid_is_told_under_strict() {
    let (folder, server) = (folder(), simulator());
    let (hook, hooked) = receiver("200 OK");
    let url = server.url();
    let words = ["-q", "--url", &url, "-n", "80", "-t", "1", "--max-tokens", "2", "--no-detail"];
    let limit = ["--health-limit", "cpu_share=0%,0%", "-o", "base.json"];
    succeeds(&run(folder.path(), &[&words[..], &limit].concat()));
    let mut report = json(&folder.path().join("base.json"));
    report["health"]["verdict"] = "VALID".into();
    // another run, not a copy of it
    report["plan"]["run_id"] = "lg-other".into();
    fs::write(folder.path().join("new.json"), report.to_string()).expect("writable");
    let compare = ["compare", "base.json", "new.json", "--metric", "error_rate", "--alert-webhook", &hook];
    succeeds(&run(folder.path(), &compare));
    assert!(hooked.try_recv().is_err(), "not strict");
    assert_eq!(code(&run(folder.path(), &[&compare[..], &["--strict"]].concat())), 99);
    let message = body(&hooked.recv_timeout(Duration::from_secs(60)).expect("told"));
    let [cause] = &message["causes"].as_array().expect("a list")[..] else { panic!("{message}") };
    assert_eq!((&cause["kind"], &cause["run"]), (&"client_invalid".into(), &0.into()));
    assert!(cause["text"].as_str().is_some_and(|text| text.contains("base.json")), "{cause}");
}

#[test]
fn a_server_that_cannot_be_asked_is_told_too() {
    let folder = folder();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let url = format!("http://{closed}");
    let (hook, hooked) = receiver("200 OK");
    let (manager, managed) = receiver("200 OK");
    let words = ["-q", "--url", &url, "-n", "3", "--test-name", "night", "--label", "commit=4f2a"];
    let alerts = ["--alert-webhook", &hook, "--alertmanager", &manager];
    for (more, model) in [(&[][..], None), (&["--model", "m", "--calibrate"], Some("m"))] {
        let ran = run(folder.path(), &[&words[..], &alerts, more].concat());
        assert_eq!(code(&ran), 1, "{}", err(&ran));
        let message = body(&hooked.try_recv().expect("told"));
        assert_eq!(message["causes"][0]["kind"], "no_success");
        assert!(message["causes"][0]["text"].as_str().is_some_and(|text| text.contains(&url)), "{message}");
        let told_run = &message["runs"][0];
        assert_eq!((&told_run["labels"]["commit"], &told_run["test"]), (&"4f2a".into(), &"night".into()));
        assert_eq!((told_run["model"].as_str(), &told_run["complete"]), (model, &false.into()));
        let alerts = body(&managed.try_recv().expect("told"));
        assert_eq!(alerts[0]["labels"]["alertname"], "VllmLoadgenNoSuccess");
        assert_eq!(alerts[0]["labels"]["model"].as_str(), model);
    }
}

#[test]
fn alerts_of_several_runs_are_not_one() {
    let (folder, server) = (folder(), simulator());
    let (manager, managed) = receiver("200 OK");
    let words = ["-q", "--url", &server.url(), "-n", "4", "--max-tokens", "2", "--no-csv"];
    let limit = ["--threshold", "e2e.p50<1us", "--alertmanager", &manager];
    for (runs, label, values) in [
        (["--concurrent-tests", "1", "2"], "threads", ["1", "2"]),
        (["--runs", "2", "-q"], "run", ["1", "2"]),
    ] {
        let ran = run(folder.path(), &[&words[..], &limit, &runs].concat());
        assert_eq!(code(&ran), 99, "{}", err(&ran));
        let alerts = body(&managed.try_recv().expect("told"));
        let found: Vec<_> =
            alerts.as_array().expect("alerts").iter().map(|alert| alert["labels"][label].as_str()).collect();
        assert_eq!(found, values.map(Some), "{alerts}");
    }
}
