//! Every fault of the simulator through the whole tool: what is wrong is a failure of exactly one kind, what is only odd
//! counts in full, and the run ends.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use vllm_loadgen::sim::{Behavior, Effect, Fault, Faults, Simulator};

use crate::command::{code, command, err, json as json_file, out, start};

/// What a fault must be counted as; `success` for what a client must accept.
fn outcome(fault: Fault) -> &'static str {
    match fault {
        Fault::Close | Fault::CutHead => "closed_before_reply",
        Fault::Reset => "reset_before_reply",
        Fault::Stall => "header_timeout",
        Fault::NotHttp | Fault::HugeHead | Fault::BadChunk => "protocol",
        Fault::Redirect => "http_302",
        Fault::Http429 => "http_429",
        Fault::Http502 => "http_502",
        Fault::Http503 => "http_503",
        Fault::ResetInBody => "reset_in_body",
        Fault::StallInBody => "idle_timeout",
        Fault::CutChunk | Fault::CutLength => "truncated_body",
        Fault::EarlyEnd => "ended_early",
        Fault::BadJson | Fault::BadUtf8 | Fault::HugeEvent | Fault::Gzip => "unparseable_reply",
        Fault::ErrorEvent => "error_event",
        Fault::Abort => "aborted",
        Fault::Empty => "empty_reply",
        _ => "success",
    }
}

fn with_faults(typed: &[&str]) -> Simulator {
    let mut faults = Faults::default();
    typed.iter().for_each(|text| faults.add(text).expect("a fault"));
    start(Behavior { faults, keep_log: true, ..Behavior::flat_out() })
}

/// How replies are asked for.
const ASKS: [&[&str]; 3] =
    [&["--api", "chat"], &["--api", "completions", "--continuous-usage"], &["--no-stream"]];
const REQUESTS: u64 = 4;

/// What is wrong with each number below `count`, several looked at at once.
fn mistakes(count: usize, look: impl Fn(usize) -> Vec<String> + Sync) -> Vec<String> {
    let (next, look) = (AtomicUsize::new(0), &look);
    let numbers = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < count);
    thread::scope(|scope| {
        let all = || std::iter::from_fn(numbers).flat_map(look).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(all)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// Measures the server and gives the report.
fn measure(server: &Simulator, words: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let url = server.url();
    let all = ["--url", &url, "-q", "-o", "run.json", "--max-tokens", "3", "--ignore-eos"];
    let output = command(folder.path()).args(all).args(words).output().expect("the command starts");
    let report = json_file(&folder.path().join("run.json"));
    let succeeded = report["summary"]["requests"]["succeeded"].as_u64().expect("a count");
    assert_eq!(code(&output), i32::from(succeeded == 0), "{words:?}\n{}\n{}", out(&output), err(&output));
    assert!(!err(&output).contains("panicked"), "{words:?}\n{}", err(&output));
    report
}

/// What is wrong with a run in which the fault hits every request.
fn look(fault: Fault, ask: &[&str]) -> Vec<String> {
    let is_streamed = ask != ["--no-stream"];
    let can_hit = is_streamed || !fault.needs_events();
    let want = if can_hit { outcome(fault) } else { "success" };
    let server = with_faults(&[&format!("{fault}=100")]);
    // nothing but a stall may run into it
    let idle = if want.ends_with("_timeout") { "2s" } else { "1m" };
    let count = REQUESTS.to_string();
    let report = measure(&server, &[ask, &["-n", &count, "-t", "4", "--idle-timeout", idle]].concat());

    let mut wrong = Vec::new();
    let mut check = |what: &str, got: &Value, want: Value| {
        if *got != want {
            wrong.push(format!(
                "{fault} {ask:?}: {what} is {got}, not {want}; {}",
                report["summary"]["errors"]
            ));
        }
    };
    let is_success = want == "success";
    let succeeded = if is_success { REQUESTS } else { 0 };
    check("succeeded", &report["summary"]["requests"]["succeeded"], succeeded.into());
    check("failed", &report["summary"]["requests"]["failed"], (REQUESTS - succeeded).into());
    let tokens = if is_success { (3 * REQUESTS).into() } else { Value::Null };
    check("tokens", &report["summary"]["tokens"]["output"], tokens);
    for row in report["requests"].as_array().expect("details") {
        check("outcome", &row["outcome"], want.into());
        let has_ttft = is_success && row["ttft_ms"].is_f64();
        check("has a TTFT", &has_ttft.into(), (is_success && is_streamed).into());
    }
    let kinds = report["summary"]["errors"].as_array().expect("a list");
    check("kinds", &kinds.len().into(), usize::from(!is_success).into());
    let hit: BTreeSet<String> = server.faulted().into_iter().map(|hit| hit.request_id).collect();
    check("hits", &hit.len().into(), if can_hit { REQUESTS } else { 0 }.into());
    wrong
}

#[test]
fn every_fault_is_of_its_one_kind_and_oddities_count_in_full() {
    let faults: Vec<Fault> = Fault::all().collect();
    let look = |number| look(faults[number / ASKS.len()], ASKS[number % ASKS.len()]);
    let wrong = mistakes(faults.len() * ASKS.len(), look);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_fault_is_in_the_manual_with_what_it_is_counted_as() {
    let manual = include_str!("../../docs/simulator.md");
    let rows: Vec<(&str, &str)> = manual
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.strip_suffix('`')?, cells.last()?.trim_end_matches(" |").trim_matches('`')))
        })
        .collect();
    let want: Vec<_> = Fault::all().map(|fault| (fault.name(), outcome(fault))).collect();
    assert_eq!(rows, want, "docs/simulator.md");
    for fault in Fault::all() {
        assert_eq!(outcome(fault) == "success", fault.effect() == Effect::OddReply, "{fault}");
    }
}

#[test]
fn many_faults_at_once_are_counted_as_the_server_logs_them() {
    let kinds = [
        "close",
        "reset",
        "cut-head",
        "http-429",
        "http-503",
        "reset-in-body",
        "cut-chunk",
        "early-end",
        "bad-json",
        "error-event",
        "abort",
        "gzip",
        "split",
        "crlf",
        "until-close",
        "no-done",
    ];
    let typed: Vec<String> = kinds.iter().map(|kind| format!("{kind}=5")).collect();
    let server = with_faults(&typed.iter().map(String::as_str).collect::<Vec<_>>());
    let report = measure(&server, &["-n", "600", "-t", "8"]);

    // a request that went out twice, because its kept connection was closed, was hit twice, and by the same
    let number = |id: &str| id.rsplit('-').next().and_then(|end| end.parse().ok()).expect("a number");
    let hit: BTreeMap<u64, Fault> =
        server.faulted().into_iter().map(|hit| (number(&hit.request_id), hit.fault)).collect();
    let mut want: BTreeMap<String, u64> = BTreeMap::new();
    for row in report["requests"].as_array().expect("details") {
        let id = row["id"].as_u64().expect("a number");
        let kind = hit.get(&id).map_or("success", |fault| outcome(*fault));
        assert_eq!(row["outcome"], kind, "{:?}: {row}", hit.get(&id));
        *want.entry(kind.to_owned()).or_default() += 1;
    }
    let lines = report["summary"]["errors"].as_array().expect("a list");
    let count = |line: &Value| (line["kind"].as_str().expect("a name").to_owned(), line["count"].as_u64());
    let mut got: BTreeMap<String, u64> =
        lines.iter().map(count).map(|(kind, n)| (kind, n.expect("a count"))).collect();
    got.insert("success".to_owned(), report["summary"]["requests"]["succeeded"].as_u64().expect("a count"));
    assert_eq!(got, want);
    assert_eq!(report["summary"]["requests"]["sent"], 600);
    // by the seed alone: each of the kinds came
    assert_eq!(hit.values().collect::<BTreeSet<_>>().len(), kinds.len(), "{hit:?}");
    let waits =
        |kind: &str| lines.iter().find(|line| line["kind"] == kind).map(|line| &line["retry_after_s"]);
    assert_eq!(waits("http_429"), Some(&json!({"min": 1, "max": 1})));
    assert_eq!(waits("http_503"), Some(&json!({"min": 30, "max": 30})));
    assert_eq!(waits("aborted"), Some(&Value::Null));
}

#[test]
#[cfg(target_os = "linux")]
fn a_port_that_is_shut_refuses_all_and_one_that_is_at_times_refuses_some() {
    let kinds = |report: &Value| -> BTreeMap<String, u64> {
        let lines = report["summary"]["errors"].as_array().expect("a list");
        let count = |line: &Value| {
            (line["kind"].as_str().expect("a name").to_owned(), line["count"].as_u64().expect("a count"))
        };
        lines.iter().map(count).collect()
    };
    let shut = measure(&with_faults(&["refuse=100"]), &["-n", "8", "-t", "4", "--model", "m"]);
    assert_eq!(kinds(&shut), BTreeMap::from([("connect_refused".to_owned(), 8)]));

    // paced, so that the run meets many openings and shuttings whatever the machine does
    let server = with_faults(&["refuse=50"]);
    let report = measure(
        &server,
        &["-n", "100", "-t", "4", "--request-rate", "100", "--model", server.behavior().model.as_str()],
    );
    let requests = &report["summary"]["requests"];
    let kinds = kinds(&report);
    assert!(kinds.get("connect_refused").is_some_and(|count| *count > 0), "{kinds:?}");
    assert!(requests["succeeded"].as_u64().is_some_and(|count| count > 0), "{requests}");
    assert_eq!(requests["sent"], 100);
    // a connection made as the port shuts is reset or closed, before or after the request has left
    assert!(
        kinds.keys().all(|kind| [
            "connect_refused",
            "reset_before_reply",
            "closed_before_reply",
            "send_failed"
        ]
        .contains(&kind.as_str())),
        "{kinds:?}"
    );
}

#[test]
fn a_reply_that_is_cut_at_its_limit_fails_where_that_is_asked_for() {
    let server = start(Behavior::flat_out());
    let words = ["-n", "40", "-t", "4"];
    let url = server.url();
    let folder = tempfile::tempdir().expect("a folder");
    let run = |more: &[&str], file: &str| {
        let all = ["--url", &url, "-q", "--max-tokens", "40", "-o", file];
        let output = command(folder.path()).args(all).args(words).args(more).output().expect("it starts");
        assert_eq!(code(&output), 0, "{}", err(&output));
        (out(&output), json_file(&folder.path().join(file))["summary"].take())
    };
    let (_, plain) = run(&[], "plain.json");
    assert_eq!(plain["requests"]["succeeded"], 40);
    let (shown, strict) = run(&["--fail-on-length"], "strict.json");
    let errors = strict["errors"].as_array().expect("a list");
    assert_eq!((errors.len(), &errors[0]["kind"]), (1, &json!("token_limit")));
    let (cut, whole) = (&errors[0]["count"], &strict["requests"]["succeeded"]);
    assert_eq!(cut.as_u64().zip(whole.as_u64()).map(|(cut, whole)| cut + whole), Some(40));
    // replies end by themselves too: those alone are left
    assert_eq!(strict["finish_reasons"], json!({ "stop": whole }));
    assert!(shown.contains("at most 40 tokens, a failure if cut there"), "{shown}");
    let both = command(folder.path()).args(["--simulate", "--fail-on-length", "--ignore-eos"]).output();
    let both = both.expect("it starts");
    assert!(code(&both) == 2 && err(&both).contains("each is cut at its limit"), "{}", err(&both));
}

#[test]
fn the_seed_says_which_requests_are_hit_whatever_the_threads_do() {
    let hit = |seed, threads: &str| -> BTreeSet<String> {
        let mut faults = Faults::default();
        faults.add("http-503=20").expect("a fault");
        faults.add("crlf=12.5").expect("a fault");
        let server = start(Behavior { faults, seed, keep_log: true, ..Behavior::flat_out() });
        measure(&server, &["-n", "60", "-t", threads]);
        let number = |id: &str| id.rsplit('-').next().unwrap_or_default().to_owned();
        server.faulted().iter().map(|hit| format!("{} {}", number(&hit.request_id), hit.fault)).collect()
    };
    let once = hit(1, "1");
    assert!(!once.is_empty());
    assert_eq!(hit(1, "7"), once);
    assert_ne!(hit(2, "7"), once);
}

/// What each visitor sent.
type Visits = Arc<Mutex<Vec<String>>>;

/// Answers every request with these bytes and closes.
fn answering(reply: String) -> (String, Visits) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let visits = Visits::default();
    let seen = Arc::clone(&visits);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut space = [0; 16 << 10];
            let size = stream.read(&mut space).unwrap_or(0);
            seen.lock().expect("no panic").push(String::from_utf8_lossy(&space[..size]).into_owned());
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    (url, visits)
}

#[test]
fn a_redirect_is_not_followed_and_takes_no_key_elsewhere() {
    let (elsewhere, strangers) = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned());
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {elsewhere}/v1/chat/completions");
        let (url, visits) =
            answering(format!("HTTP/1.1 {status} Moved\r\n{location}\r\ncontent-length: 0\r\n\r\n"));
        let folder = tempfile::tempdir().expect("a folder");
        let words = ["--url", &url, "--model", "m", "-n", "2", "-t", "1", "-q", "-o", "run.json"];
        let output = command(folder.path())
            .args(words)
            .args(["--no-server-metrics"])
            .env("VLLM_LOADGEN_API_KEY", "canary")
            .output()
            .expect("the command starts");
        assert_eq!(code(&output), 1, "{}", err(&output));
        let report = json_file(&folder.path().join("run.json"));
        assert_eq!(report["summary"]["errors"][0]["kind"], format!("http_{status}"));
        assert_eq!(report["summary"]["errors"][0]["count"], 2);
        let example = report["summary"]["errors"][0]["example"].as_str().expect("words");
        assert!(example.contains(&elsewhere), "{example}");
        let visits = visits.lock().expect("no panic");
        assert!(visits.len() >= 2 && visits.iter().all(|head| head.contains("canary")), "{visits:?}");
    }
    assert_eq!(*strangers.lock().expect("no panic"), Vec::<String>::new());
}

#[test]
fn faults_are_typed_alike_for_both_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |words: &[&str]| command(folder.path()).args(words).output().expect("the command starts");
    let behavior = "ttft=0s,itl=0s,fault=http-503=50,fault=crlf=50";
    let words =
        ["--behavior", behavior, "-n", "100", "--max-tokens", "2", "-q", "-o", "run.json", "--seed", "7"];
    let output = run(&words);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let report = json_file(&folder.path().join("run.json"));
    let failed = &report["summary"]["errors"][0];
    assert_eq!(failed["kind"], "http_503");
    let simulated = report["plan"]["simulated"].as_str().expect("words");
    assert!(simulated.contains("faults: http-503 50%, crlf 50%"), "{simulated}");
    let said = err(&output);
    let hits = format!("http-503 {}, crlf {}", failed["count"], report["summary"]["requests"]["succeeded"]);
    assert!(said.contains(&hits), "{said}");
    assert!(out(&output).contains("retry after 30 s"), "{}", out(&output));

    for (words, want) in [
        (&["--behavior", "fault=reset=60,fault=stall=50"][..], "add up to 110%"),
        (&["--behavior", "fault=reset=5,fault=nonsense=5"], "unknown fault 'nonsense'"),
        (&["simulate", "--fault", "reset=60", "--fault", "stall=50"], "add up to 110%"),
        (&["simulate", "--fault", "reset"], "--fault 'reset': not a percentage"),
        (&["simulate", "--fault", "refuse=101"], "--fault 'refuse=101': not a percentage"),
    ] {
        let output = run(words);
        assert_eq!(code(&output), 2, "{words:?}: {}", err(&output));
        assert!(err(&output).contains(want), "{words:?}: {}", err(&output));
    }
}
