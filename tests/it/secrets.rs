//! Secrets that a server sends back are shown nowhere.

use std::fs;

use serde_json::json;

use crate::command::{code, command, err, folder, json, out, run};
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
