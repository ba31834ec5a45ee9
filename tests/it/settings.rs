//! Flags and the config file together, and what is asked of the server.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::command::{code, command, err, folder, json as read_json, run, simulator, succeeds};

/// The plan of a run with this config file and these flags beside `-n 2 -t 1`, or what was wrong.
fn plan(benchmark: Value, words: &[&str]) -> Result<Value, String> {
    let (folder, server) = (folder(), simulator());
    let headers = json!({"X-One": "1", "X-Two": "2"});
    let config = json!({"server": {"url": server.url(), "headers": headers}, "benchmark": benchmark});
    fs::write(folder.path().join("c.json"), config.to_string()).expect("writable");
    let all = ["-q", "-c", "c.json", "-t", "1", "--max-tokens", "2", "-o", "r.json", "--no-detail"];
    let output = run(folder.path(), &[&all[..], words].concat());
    match code(&output) {
        0 | 99 => Ok(read_json(&folder.path().join("r.json"))["plan"].clone()),
        _ => Err(err(&output)),
    }
}

const TWO: [&str; 2] = ["-n", "2"];

#[test]
fn a_flag_takes_the_place_of_what_has_its_name_in_the_file_and_of_nothing_else() {
    let file = json!({
        "thresholds": ["ttft.p99<500s", "error_rate<50%"],
        "goodput": ["ttft:500s", "e2e:600s"],
        "labels": {"gpu": "a", "commit": "b"},
        "extra_body": {"top_p": 0.5, "min_p": 0.1},
    });
    let words = [
        &TWO[..],
        &["--threshold", "ttft.p99<400s", "--goodput", "ttft:400s", "--label", "gpu=c"],
        &["--extra-body", "{\"top_p\": 0.9}", "--header", "x-two: 3"],
    ];
    let plan = plan(file, &words.concat()).expect("valid");
    assert_eq!(plan["thresholds"], json!(["error_rate<50%", "ttft.p99<400s"]));
    let goodput = json!([{"metric": "e2e", "limit_s": 600.0}, {"metric": "ttft", "limit_s": 400.0}]);
    assert_eq!(plan["slos"], goodput);
    assert_eq!(plan["labels"], json!({"gpu": "c", "commit": "b"}));
    assert_eq!(plan["request"]["extra"], json!({"top_p": 0.9, "min_p": 0.1}));
    let headers: Vec<&String> = plan["server"]["headers"].as_object().expect("headers").keys().collect();
    assert_eq!(headers, ["X-One", "x-two"]);
}

#[test]
fn what_a_file_switches_on_a_flag_switches_off() {
    let file = json!({"ignore_eos": true, "continuous_usage": true, "stream": false, "backoff": false});
    let file_without = json!({"ignore_eos": true, "continuous_usage": true, "backoff": false});
    assert_eq!(plan(file_without, &TWO).expect("valid")["request"]["ignore_eos"], true);
    let off = ["--ignore-eos=false", "--no-stream=false", "--continuous-usage=false", "--no-backoff=false"];
    let plan_of = plan(file, &[&TWO[..], &off].concat()).expect("valid");
    let request = &plan_of["request"];
    assert_eq!((&request["ignore_eos"], &request["continuous_usage"]), (&json!(false), &json!(false)));
    assert_eq!((&request["stream"], &plan_of["backoff"]), (&json!(true), &json!(true)));
    let told = plan(json!({}), &["-n", "2", "--ignore-eos=maybe"]).expect_err("neither");
    assert!(told.contains("--ignore-eos 'maybe': write it without a value, or =false"), "{told}");
    // and a rate gives way to a closed loop
    let rate = json!({"request_rate": 100, "arrival": "constant"});
    assert!(plan(rate.clone(), &TWO).expect("valid")["load"]["arrivals"].is_object());
    let closed = plan(rate, &["-n", "2", "--request-rate", "none"]).expect("valid");
    assert_eq!(closed["load"]["arrivals"], Value::Null);
}

#[test]
fn a_mistake_makes_no_others() {
    for (words, want) in [
        ("--request-rate fast --arrival constant", "--request-rate 'fast'"),
        ("--threshold bad --junit f.xml", "--threshold 'bad'"),
        ("--goodput bad --threshold goodput>90%", "--goodput 'bad'"),
        ("--duration 3x --request-rate 5 --cooldown 3", "--duration '3x'"),
    ] {
        let folder = folder();
        let words: Vec<&str> = words.split(' ').chain(["--simulate"]).collect();
        let output = run(folder.path(), &words);
        let told: Vec<String> = err(&output).lines().map(str::to_owned).collect();
        assert_eq!((code(&output), told.len()), (2, 1), "{told:?}");
        assert!(told[0].starts_with(&format!("error: {want}: ")), "{told:?}");
    }
    // others are told beside it
    let output =
        run(folder().path(), &["--simulate", "--duration", "3x", "--stages", "1:1s", "--cooldown", "3"]);
    let told = err(&output);
    assert!(
        told.lines().count() == 2 && told.contains("--stages and --duration: leave the duration out"),
        "{told}"
    );
    let output = run(folder().path(), &["--simulate", "--request-rate", "fast", "--threads", "0"]);
    assert_eq!(err(&output).lines().count(), 2, "{}", err(&output));
}

#[test]
fn the_prompt_told_is_the_one_sent() {
    let words = |extra: &'static str| [&TWO[..], &["--extra-body", extra]].concat();
    let messages =
        r#"{"messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}]}"#;
    let told = plan(json!({"default_prompt": "of the file"}), &words(messages)).expect("valid");
    let prompt: Value = serde_json::from_str(told["prompt"].as_str().expect("text")).expect("JSON");
    assert_eq!(prompt, serde_json::from_str::<Value>(messages).expect("JSON")["messages"]);
    let single = r#"{"messages": [{"role": "user", "content": "hi"}]}"#;
    let told = plan(json!({}), &words(single)).expect("valid");
    assert_eq!(told["prompt"], "hi");
    for (more, place) in [
        (&["--unique-prompts"][..], "--extra-body and --unique-prompts: give one of them"),
        (&["--prompt", "a"], "--extra-body and --prompt: give one of them"),
    ] {
        let told = plan(json!({}), &[&words(single)[..], more].concat()).expect_err("both");
        assert!(told.contains(place), "{told}");
    }
    // a flag wins over the file here too
    let file = json!({"extra_body": {"messages": [], "top_p": 0.5}});
    let told = plan(file, &["-n", "2", "--prompt", "a"]).expect("valid");
    assert_eq!((&told["prompt"], &told["request"]["extra"]), (&json!("a"), &json!({"top_p": 0.5})));
}

#[test]
fn a_prompt_may_be_in_a_file_or_on_standard_input() {
    let (folder, server) = (folder(), simulator());
    let at = folder.path();
    fs::write(at.join("p.txt"), "from a file\nof two lines").expect("writable");
    fs::write(at.join("empty"), "").expect("writable");
    let url = server.url();
    let words =
        ["-q", "--url", &url, "-n", "1", "--max-tokens", "2", "-o", "r.json", "--no-detail", "--overwrite"];
    let told = || read_json(&at.join("r.json"))["plan"]["prompt"].clone();
    for (typed, want) in [("@p.txt", "from a file\nof two lines"), ("@@p.txt", "@p.txt"), ("a - b", "a - b")]
    {
        succeeds(&run(at, &[&words[..], &["--prompt", typed]].concat()));
        assert_eq!(told(), want);
    }
    let mut piped = command(at);
    piped.args([&words[..], &["-p", "-"]].concat()).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = piped.spawn().expect("the command starts");
    child.stdin.take().expect("piped").write_all(b"from a pipe").expect("read");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(told(), "from a pipe");
    for (typed, why) in [("@missing", "No such file"), ("@empty", "holds no text")] {
        let refused = run(at, &[&words[..], &["--prompt", typed]].concat());
        assert_eq!(code(&refused), 2);
        assert!(
            err(&refused).contains(&format!("--prompt '{typed}': ")) && err(&refused).contains(why),
            "{}",
            err(&refused)
        );
    }
}
