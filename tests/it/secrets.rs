//! Secrets that a server sends back are shown nowhere.

use std::fs;

use serde_json::json;

use crate::command::{code, command, err, folder, json, out, run, succeeds};
use crate::receiver::answering;

#[test]
fn what_a_server_echoes_of_secrets_is_masked_in_every_output() {
    let folder = folder();
    let mut statuses = ["400", "401", "403", "404", "301", "200"].into_iter();
    let (url, _received) = answering(move |request| {
        let head = |name: &str| request.head.iter().find_map(|line| line.strip_prefix(name)).expect("sent");
        let cookie = head("cookie: ");
        let (status, said) = match statuses.next() {
            Some("400") => ("400 Bad", format!("no route {}", request.line)),
            Some("401") => ("401 No", format!("bad cookie {cookie}, session {}", &cookie[8..20])),
            Some("403") => ("403 No", format!("bad key {}", head("x-api-key: "))),
            Some("404") => ("404 No", request.body.clone()),
            Some("200") => {
                let said = format!("your key is {}", head("x-api-key: "));
                let reply = json!({"choices": [{"message": {"content": said}, "finish_reason": "stop"}]});
                return ("200 OK".to_owned(), reply.to_string());
            }
            _ => ("301 Moved\r\nLocation: https://x.example/y?api_key=canary%2Dquery&a=1", String::new()),
        };
        (status.to_owned(), json!({"error": {"message": said}}).to_string())
    });
    let extra = json!({"user_token": "canary\"body", "nested": [{"password": "canary-deep"}]}).to_string();
    let names = ["r.json", "r.jsonl", "r.csv", "r.html", "r.md", "v.json", "r.xml", "r.prom"];
    let flags =
        ["-o", "--record-log", "--csv", "--html", "--markdown", "--vllm-json", "--junit", "--prom-out"];
    let output = command(folder.path())
        .args(["--url", &format!("{url}/v1/chat/completions?api_key=canary%2Dquery"), "--model", "m"])
        .args(["-n", "6", "-t", "1", "-vvv", "--save-responses", "--no-server-metrics", "--prompt", "x"])
        .args(["--header", "Cookie: session=canary-jar12; theme=canary-mode"])
        .args(["--header", "X-Api-Key: canary-head canary-tail", "--extra-body", &extra])
        .args(["--threshold", "error_rate<1%"])
        .args(flags.into_iter().zip(names).flat_map(|(flag, name)| [flag, name]))
        .env("RUST_LOG", "trace")
        .output()
        .expect("it starts");
    assert_eq!(code(&output), 99, "{}", err(&output));
    let errors = &json(&folder.path().join("r.json"))["summary"]["errors"];
    assert_eq!(errors.as_array().map(Vec::len), Some(5), "each was answered otherwise: {errors}");
    for part in ["bad cookie ***, session ***", "bad key ***", "/v1/chat/completions?api_key=*** HTTP/1.1"] {
        assert!(errors.to_string().contains(part), "{part}: {errors}");
    }
    let files = names.map(|name| fs::read_to_string(folder.path().join(name)).expect("written"));
    let kept = files.iter().filter(|text| text.contains(r#""response":{"text":"your key is ***"}"#));
    assert_eq!(kept.count(), 2, "{}", files[1]);
    for text in [out(&output), err(&output)].iter().chain(&files) {
        let shown = text.lines().find(|line| line.contains("canary"));
        assert_eq!(shown, None);
    }
}

#[test]
fn a_mistake_shows_no_secret() {
    for (words, advice) in [
        (["--url", "ftp://me:canary1@h:80/?key=canary2"], "write http://h:80/?key=***"),
        (["--url", "me:canary1@h"], "write http://h"),
        (["--extra-body", "{\"token\": \"canary1\", }"], "--extra-body: not JSON"),
    ] {
        let output = run(folder().path(), &words);
        assert_eq!(code(&output), 2);
        assert!(err(&output).contains(advice) && !err(&output).contains("canary"), "{}", err(&output));
    }
}

/// A reply with the finish reason and no more.
fn finished(reason: &str) -> (String, String) {
    let choice = json!({"message": {"content": "a"}, "finish_reason": reason});
    ("200 OK".to_owned(), json!({"choices": [choice], "usage": {"completion_tokens": 1}}).to_string())
}

#[test]
fn what_a_server_echoes_at_odd_places_is_masked_too() {
    let folder = folder();
    let key = "sk-canary-\"0123456789\\";
    let mut replies = 0;
    let (url, _received) = answering(move |request| {
        if request.line.contains("/metrics") {
            replies += 1;
            let text = format!(
                "vllm:cache_config_info{{block_size=\"16\",api_key=\"another-canary\",path=\"sk-canary-\\\"0123456789\\\\\"}} 1\n\
                 vllm:request_success_total{{finished_reason=\"sk-canary-\\\"0123456789\\\\\"}} {replies}\n"
            );
            return ("200 OK".to_owned(), text);
        }
        replies += 1;
        match replies % 4 {
            0 => finished(key),
            1 => ("200 OK".to_owned(), json!({"choices": format!("abcdefghij{key}")}).to_string()),
            2 => ("400 Bad".to_owned(), json!({"x": format!("key {key} is none")}).to_string()),
            _ => (
                "401 No".to_owned(),
                json!({"error": "wrong password canary-pass of me:canary-pass"}).to_string(),
            ),
        }
    });
    fs::write(folder.path().join("key"), key).expect("writable");
    let output = command(folder.path())
        .args(["--url", &url, "--model", "m", "--api-key-file", "key", "-n", "8", "-t", "1", "-o", "r.json"])
        .args(["--header", "X-Api-Auth: Basic bWU6Y2FuYXJ5LXBhc3M=", "--record-log", "r.jsonl"])
        .output()
        .expect("it starts");
    succeeds(&output);
    let report = json(&folder.path().join("r.json"));
    assert_eq!(report["summary"]["finish_reasons"], json!({"***": 2}));
    assert_eq!(report["server"]["window"]["config"]["block_size"], "16");
    let config = &report["server"]["window"]["config"];
    assert_eq!((&config["api_key"], &config["path"]), (&json!("***"), &json!("***")));
    let errors = report["summary"]["errors"].to_string();
    for part in ["abcdefghij***", "key *** is none", "wrong password *** of "] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    let files =
        ["r.json", "r.jsonl"].map(|name| fs::read_to_string(folder.path().join(name)).expect("written"));
    for text in [out(&output), err(&output)].iter().chain(&files) {
        assert_eq!(text.lines().find(|line| line.contains("canary")), None);
    }
}

#[test]
fn a_key_that_was_typed_by_mistake_is_not_shown() {
    for words in [
        &["--api-key-file", "sk-canary"][..],
        &["sk-canary"],
        &["-n", "3", "sk-canary"],
        &["simulate", "--api-key-file", "sk-canary"],
        &["--simulate", "--api-key-file", "sk-canary"],
    ] {
        let output = run(folder().path(), words);
        assert_eq!(code(&output), 2);
        assert!(err(&output).contains("***") && !err(&output).contains("canary"), "{}", err(&output));
    }
    let output = run(folder().path(), &["--api-key-file", "nokey.txt"]);
    assert!(err(&output).contains("--api-key-file 'nokey.txt'"), "{}", err(&output));
}

/// What a server got as the authorization of its last request.
fn sent_key(
    words: &[&str],
    variables: &[(&str, &str)],
    config: Option<&serde_json::Value>,
) -> (Option<String>, String) {
    let folder = folder();
    let (url, received) = answering(|_| finished("stop"));
    let mut config = config.cloned();
    if let Some(config) = &mut config {
        if config["server"]["url"] == "here" {
            config["server"]["url"] = json!(url);
        }
        fs::write(folder.path().join("benchmark_config.json"), config.to_string()).expect("writable");
    }
    let output = command(folder.path())
        .args(["--url", &url, "--model", "m", "-n", "1", "--no-server-metrics", "-o", "r.json"])
        .args(words)
        .envs(variables.iter().copied())
        .output()
        .expect("it starts");
    succeeds(&output);
    let request = received.recv().expect("one was sent");
    let key = request.head.iter().find_map(|line| line.strip_prefix("authorization: Bearer "));
    let warnings = json(&folder.path().join("r.json"))["warnings"].clone();
    let told = warnings.as_array().expect("a list").iter().filter_map(|warning| warning.as_str());
    for warning in told.clone() {
        assert!(err(&output).contains(warning), "{warning} is not in {}", err(&output));
    }
    (key.map(str::to_owned), told.collect())
}

#[test]
fn the_files_own_key_comes_before_one_that_is_meant_for_others() {
    let file = json!({"server": {"url": "here", "auth_token": "of-file"}});
    let ambient = [("OPENAI_API_KEY", "of-others"), ("VLLM_API_KEY", "of-vllm")];
    assert_eq!(sent_key(&[], &ambient, Some(&file)), (Some("of-file".to_owned()), String::new()));
    assert_eq!(sent_key(&[], &ambient, None).0, Some("of-others".to_owned()));
    let ours = [("OPENAI_API_KEY", "of-others"), ("VLLM_LOADGEN_API_KEY", "of-ours")];
    assert_eq!(sent_key(&[], &ours, Some(&file)).0, Some("of-ours".to_owned()));
}

#[test]
fn no_key_is_sent_and_no_file_read_where_that_is_asked() {
    let with_header = json!({"server": {"url": "here", "headers": {"Authorization": "Bearer of-header"}}});
    let file = json!({"server": {"url": "here", "auth_token": "of-file"}});
    let ambient = [("OPENAI_API_KEY", "of-others"), ("VLLM_LOADGEN_API_KEY", "of-ours")];
    assert_eq!(sent_key(&["--no-api-key"], &ambient, Some(&file)).0, None);
    assert_eq!(sent_key(&["--no-api-key"], &[], Some(&with_header)).0, None);
    assert_eq!(sent_key(&["--no-config"], &[], Some(&file)).0, None);
    let output = run(folder().path(), &["--no-api-key", "--api-key-file", "key.txt"]);
    assert!(err(&output).contains("--api-key-file and --no-api-key: give one of them"), "{}", err(&output));
}

#[test]
fn a_files_key_that_goes_to_another_host_is_warned_of() {
    let elsewhere = json!({"server": {"url": "https://prod.example.com", "auth_token": "of-file"}});
    let (key, warnings) = sent_key(&[], &[], Some(&elsewhere));
    assert_eq!(key, Some("of-file".to_owned()), "it is sent nevertheless");
    assert!(warnings.contains("names prod.example.com, and goes to 127.0.0.1"), "{warnings}");
    let (key, warnings) = sent_key(&["--no-api-key"], &[], Some(&elsewhere));
    assert_eq!((key, warnings.as_str()), (None, ""));
}

#[test]
fn a_files_header_that_carries_a_key_is_a_key_of_the_file() {
    let file = json!({"server": {"url": "https://prod.example.com", "headers": {"X-Api-Key": "of-file", "X-A": "b"}}});
    let other = &["--header", "X-Other: 1"][..];
    assert!(sent_key(other, &[], Some(&file)).1.contains("names prod.example.com"));
    let own = ["--header", "x-api-key: of-flag"];
    for words in [&own[..], &["--no-api-key"]] {
        assert_eq!(sent_key(words, &[], Some(&file)).1, "", "{words:?}");
    }
}

#[test]
fn a_key_over_plain_http_to_another_machine_is_warned_of() {
    let settings = |url: &str| crate::failures::settings(url);
    for (url, has_key, is_warned) in [
        ("http://10.1.2.3:8000", true, true),
        ("http://10.1.2.3:8000", false, false),
        ("https://10.1.2.3:8000", true, false),
        ("http://localhost:8000", true, false),
        ("http://[::1]:8000", true, false),
    ] {
        let mut settings = settings(url);
        settings.key = has_key.then(|| vllm_loadgen::secret::Secret::new("sk-canary"));
        let told = settings.warnings().concat();
        assert_eq!(told.contains("over plain http"), is_warned, "{url}: {told}");
    }
}

#[test]
fn no_output_replaces_the_file_that_settings_or_keys_are_read_from() {
    let folder = folder();
    for (name, content) in [("c.json", "{}"), ("k", "sk-canary"), ("benchmark_config.json", "{}")] {
        fs::write(folder.path().join(name), content).expect("writable");
    }
    for (words, told) in [
        (&["--config", "c.json", "-o", "./c.json"][..], "--output './c.json': is read as --config"),
        (&["--api-key-file", "k", "--csv", "k"], "--csv 'k': is read as --api-key-file"),
        (&["-o", "benchmark_config.json"], "'benchmark_config.json': is read as config file"),
    ] {
        let output = command(folder.path())
            .args(["--url", "http://127.0.0.1:9", "--model", "m", "-n", "1", "--overwrite"])
            .args(words)
            .output()
            .expect("it starts");
        assert_eq!(code(&output), 2, "{}", err(&output));
        assert!(err(&output).contains(told), "{}", err(&output));
    }
    assert_eq!(fs::read_to_string(folder.path().join("k")).expect("there"), "sk-canary");
}
