//! Config files that are right and wrong, and where their mistakes are.

use proptest::prelude::*;

use super::*;
use crate::arrivals::Shape;
use crate::wire::Dialect;
use std::time::Duration;

const DOCUMENTED: &str = include_str!("../../../configs/benchmark_config.json");

fn read_text(text: &str) -> Result<Draft, Vec<Mistake>> {
    parse(Path::new("c.json"), text)
}

fn good(text: &str) -> Draft {
    read_text(text).unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"))
}

/// The file has these mistakes and no others, written as `line:column: problem`.
fn check(text: &str, want: &[&str]) {
    let mistakes = read_text(text).expect_err(text);
    let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    let want: Vec<String> = want.iter().map(|want| format!("c.json:{want}")).collect();
    assert_eq!(told, want, "{text}");
}

fn value<T>(given: Option<Given<T>>) -> T {
    given.expect("given").value
}

#[test]
fn the_documented_example_is_read_as_documented() {
    let draft = good(DOCUMENTED);
    assert_eq!(
        draft.url,
        Some(Given::new(
            "http://localhost:63455/v1/chat/completions".to_owned(),
            Origin::File { place: "c.json:3:12".to_owned(), field: "server.url".to_owned() }
        ))
    );
    assert_eq!(value(draft.model), "Qwen/Qwen3-1.7B");
    let (token, source) = draft.key.expect("a token");
    assert_eq!(token.reveal(), "token-abc123");
    assert_eq!(source, "config file c.json, server.auth_token");
    assert_eq!(value(draft.timeout), Duration::from_secs(3600));
    assert_eq!(value(draft.threads), 20);
    assert_eq!(value(draft.prompt), "Generate a creative story about a robot learning to paint.");
    assert_eq!(value(draft.completions), 100);
    assert!(!draft.run_scenarios);
    let scenarios: Vec<(&str, &[u64])> = draft
        .scenarios
        .iter()
        .map(|scenario| (scenario.name.value.as_str(), scenario.completions.value.as_slice()))
        .collect();
    assert_eq!(
        scenarios,
        [
            ("Small Load", &[10, 25, 50][..]),
            ("Medium Load", &[100, 200, 500]),
            ("Heavy Load", &[1000, 2000, 5000])
        ]
    );
    assert_eq!(draft.scenarios[0].prompt.value, "Write a short poem about coding.");
    assert_eq!(
        draft.scenarios[1].completions.origin,
        Origin::File { place: "c.json:21:22".to_owned(), field: "test_scenarios[1].completions".to_owned() }
    );
}

#[test]
fn keys_of_our_own_are_read() {
    let draft = good(
        r#"{"server": {"api": "completions", "timeout": "90s", "connect_timeout": 0.5, "idle_timeout": 1e1,
                "headers": {"X-Team": "a", "X-Id": "b"}},
                "benchmark": {"max_tokens": 16, "temperature": 0, "ignore_eos": true, "stream": false,
                "continuous_usage": true, "unique_prompts": false, "fail_on_length": true, "save_responses": true, "keeper": "on", "client_priority": "high", "calibrate": true,
                "extra_body": {"top_p": 0.9, "stop": null},
                "duration": "1.5m", "warmup": 0, "seed": 18446744073709551615},
                "test_scenarios": [{"name": "n", "completions": [1], "prompt": "p", "threads": 2,
                "max_tokens": 3}]}"#,
    );
    assert_eq!(value(draft.api), Dialect::Completions);
    assert_eq!(value(draft.timeout), Duration::from_secs(90));
    assert_eq!(value(draft.connect_timeout), Duration::from_millis(500));
    assert_eq!(value(draft.idle_timeout), Duration::from_secs(10));
    let headers: Vec<(&str, &str)> =
        draft.headers.iter().map(|given| (given.value.0.as_str(), given.value.1.reveal())).collect();
    assert_eq!(headers, [("X-Team", "a"), ("X-Id", "b")]);
    assert_eq!(value(draft.max_tokens), 16);
    assert_eq!(value(draft.temperature), 0.0);
    assert_eq!(draft.ignore_eos, Some(true));
    assert_eq!(draft.stream, Some(false));
    assert_eq!(draft.continuous_usage, Some(true));
    assert_eq!((draft.unique_prompts, draft.fail_on_length), (Some(false), Some(true)));
    assert!(value(draft.save_responses));
    assert_eq!(value(draft.keeper), crate::keeper::Mode::On);
    assert_eq!(value(draft.client_priority), crate::priority::Wanted::High);
    assert_eq!(draft.calibrate, Some(true));
    assert_eq!(Value::Object(value(draft.extra_body)), serde_json::json!({"top_p": 0.9, "stop": null}));
    assert_eq!(value(draft.duration), Duration::from_secs(90));
    assert_eq!(value(draft.warmup), crate::plan::Extent::NONE);
    assert_eq!(value(draft.seed), u64::MAX);
    assert_eq!(draft.scenarios[0].threads.as_ref().map(|given| given.value), Some(2));
    assert_eq!(draft.scenarios[0].max_tokens.as_ref().map(|given| given.value), Some(3));
}

#[test]
fn every_section_may_be_left_out() {
    assert_eq!(good("{}"), Draft::default());
    assert_eq!(good("\u{feff}{\"server\": {}, \"benchmark\": {}, \"test_scenarios\": []}"), Draft::default());
    assert_eq!(good("{\"server\": {\"auth_token\": \" \"}}").key, None);
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    check(
        r#"{
  "benchmark": {
    "max_concurent_requests": 20,
    "default_prompt": 7, "default_completions": -5
  },
  "test_scenarios": [
    {"name": "größer", "completions": [], "threads": 1.5},
    {"name": "n", "completions": [1, "2", 0], "prompt": "p"}
  ],
  "server": {"timeout": true}
}"#,
        &[
            "3:5: unknown key 'max_concurent_requests'; did you mean 'max_concurrent_requests'?",
            "4:23: 'default_prompt' is a number; write text in double quotes",
            "4:49: 'default_completions' is -5; write a whole number above 0",
            "7:5: the scenario has no 'prompt'; every scenario needs one",
            "7:39: 'completions' is an empty list; write one or more numbers, such as [10, 25, 50]",
            "7:54: 'threads' is 1.5; write a whole number above 0",
            "8:38: an item of 'completions' is a string; write a whole number above 0",
            "8:43: an item of 'completions' is 0; write a whole number above 0",
            "10:25: 'timeout' is a boolean; write a number of seconds, such as 3600",
        ],
    );
}

#[test]
fn shapes_of_arrivals_are_read() {
    let draft =
        good(r#"{"benchmark": {"request_rate": "inf", "ramp_up": "1:50:60s", "stages": "10:30s,0:5s"}}"#);
    assert_eq!(value(draft.request_rate), Shape::AtOnce);
    assert_eq!(Ok(value(draft.ramp_up)), Shape::parse_ramp("1:50:60s"));
    let stages = Shape::parse_stages("10:30s,0:5s");
    assert_eq!(Ok(value(draft.stages)), stages);
    let listed = good(r#"{"benchmark": {"request_rate": 2.5, "stages": ["10:30s", "0:5s"]}}"#);
    assert_eq!(
        (Ok(value(listed.stages)), Ok(value(listed.request_rate))),
        (stages, Shape::parse_rate("2.5"))
    );
}

#[test]
fn thresholds_are_a_list_and_each_mistake_has_its_place() {
    let draft = good(r#"{"benchmark": {"thresholds": ["ttft.p99 < 500ms", "error_rate<1%"]}}"#);
    let read: Vec<_> = draft.thresholds.iter().map(|given| given.value.to_string()).collect();
    assert_eq!(read, ["ttft.p99<500ms", "error_rate<1%"]);
    check(
        r#"{"benchmark": {"thresholds": ["e2e.p50<1s", "ttft<5", 7]}}"#,
        &[
            "1:45: an item of 'thresholds' is 'ttft<5': ttft is many values; say which of them, such as ttft.p99",
            "1:55: an item of 'thresholds' is a number; write text in double quotes",
        ],
    );
    check(
        r#"{"benchmark": {"thresholds": "ttft.p99<5ms"}}"#,
        &["1:30: 'thresholds' is a string; write a list such as [\"ttft.p99<500ms\"]"],
    );
}

#[test]
fn a_syntax_error_is_told_where_it_is() {
    let help = "comments, single quotes and commas before a closing bracket are not allowed";
    check("{\n  \"server\": {},\n}", &[&format!("3:1: not JSON: key must be a string; {help}")]);
    check("{\"é\": x}", &[&format!("1:7: not JSON: expected value; {help}")]);
    check("{} {}", &[&format!("1:4: not JSON: trailing characters; {help}")]);
    let early = "the file ends too early, close what is open";
    check("", &[&format!("1:1: not JSON: EOF while parsing a value; {early}")]);
    check("{\"server\":\n{", &[&format!("2:1: not JSON: EOF while parsing an object; {early}")]);
}

#[test]
fn a_key_may_be_given_once() {
    check(
        r#"{"server": {"url": "a", "url": "b", "headers": {"A": "1", "\u0041": "2"}}}"#,
        &["1:25: 'url' is given twice; keep one of them", "1:59: 'A' is given twice; keep one of them"],
    );
    check(r#"{"server": {}, "server": {}}"#, &["1:16: 'server' is given twice; keep one of them"]);
}

#[test]
fn null_is_no_value() {
    check(r#"{"server": null}"#, &["1:12: 'server' is null; leave the key out instead"]);
    check(r#"{"server": {"url": null}}"#, &["1:20: 'url' is null; leave the key out instead"]);
    check(
        r#"{"test_scenarios": [{"name": null, "completions": [1], "prompt": "p"}]}"#,
        &["1:30: 'name' is null; write text in double quotes"],
    );
    check(
        r#"{"test_scenarios": [null]}"#,
        &["1:21: a scenario is null; write an object, such as {\"key\": \"value\"}"],
    );
}

#[test]
fn unknown_keys_come_with_advice() {
    check(r#"{"servers": {}}"#, &["1:2: unknown key 'servers'; did you mean 'server'?"]);
    check(r#"{"server": {"max_tokens": 5}}"#, &["1:13: unknown key 'max_tokens'; it belongs in 'benchmark'"]);
    check(
        r#"{"server": {"Connect-Timeout": 5}}"#,
        &["1:13: unknown key 'Connect-Timeout'; did you mean 'connect_timeout'?"],
    );
    check(
        r#"{"x": 1, "\u0079": 2}"#,
        &[
            "1:2: unknown key 'x'; expected one of server, benchmark, test_scenarios",
            "1:10: unknown key 'y'; expected one of server, benchmark, test_scenarios",
        ],
    );
}

#[test]
fn values_of_the_wrong_kind_are_told_with_what_to_write() {
    check("[]", &["1:1: the file is a list; write an object, such as {\"key\": \"value\"}"]);
    check(
        r#"{"test_scenarios": [5]}"#,
        &["1:21: a scenario is a number; write an object, such as {\"key\": \"value\"}"],
    );
    for (member, want) in [
        (
            r#""request_rate": "fast""#,
            "'request_rate' is 'fast'; write a number above 0, such as 12.5, or \"inf\"",
        ),
        (r#""request_rate": 0"#, "'request_rate' is 0; write a number above 0, such as 12.5"),
        (r#""ramp_up": "1:50""#, "'ramp_up' is '1:50': not a ramp; a ramp is FROM:TO:TIME, such as 1:50:60s"),
        (r#""ramp_up": 7"#, "'ramp_up' is a number; write text in double quotes"),
        (
            r#""stages": ["10"]"#,
            "'stages' is '10': '10' is no stage; stages are RATE:TIME with commas between, such as 10:30s,20:30s",
        ),
        (r#""stages": [10]"#, "'stages' is a number; write text in double quotes"),
        (r#""stream": "yes""#, "'stream' is a string; write true or false"),
        (r#""seed": -1"#, "'seed' is -1; write a whole number from 0 up"),
        (r#""seed": 18446744073709551616"#, "'seed' is 18446744073709551616; write a smaller number"),
        (r#""max_tokens": "16""#, "'max_tokens' is a string; write a whole number above 0"),
        (r#""temperature": -0.1"#, "'temperature' is -0.1; write a number from 0 up, such as 0.7"),
        (r#""temperature": 1e999"#, "'temperature' is 1e999; write a number from 0 up, such as 0.7"),
        (r#""duration": 0"#, "'duration' is 0; write a number of seconds, such as 3600"),
        (r#""duration": "0s""#, "'duration' is '0s'; write a duration above 0, such as 30 or \"30s\""),
        (
            r#""duration": "fast""#,
            "'duration' is 'fast', not a duration; write a number and a unit, such as 250ms, 30s, 5m or 1h",
        ),
        (r#""duration": 1e300"#, "'duration' is 1e300, longer than a year; write a shorter duration"),
        (r#""extra_body": []"#, "'extra_body' is a list; write an object, such as {\"key\": \"value\"}"),
        (
            r#""default_prompt": "\ud800""#,
            "'default_prompt' has a broken \\u escape; write the character itself",
        ),
    ] {
        let column = "{\"benchmark\": {".len() + member.find(": ").expect("a value") + 3;
        check(&format!("{{\"benchmark\": {{{member}}}}}"), &[&format!("1:{column}: {want}")]);
    }
    check(r#"{"server": {"api": "grpc"}}"#, &["1:20: 'api' is 'grpc'; write \"chat\" or \"completions\""]);
}

#[test]
fn the_token_is_never_shown() {
    let canary = "canary";
    let draft = good(r#"{"server": {"auth_token": "canary"}}"#);
    assert!(!format!("{draft:?}").contains(canary));
    for text in [
        r#"{"server": {"auth_token": "canary", "auth_token": "canary"}}"#,
        r#"{"server": {"auth_token": ["canary"]}}"#,
        r#"{"server": {"auth_token": "canary\ud800"}}"#,
        r#"{"server": {"auth-token": "canary"}}"#,
        r#"{"server": {"headers": {"Authorization": ["canary"]}}}"#,
        r#"{"server": {"auth_token": "canary"#,
        r#"{"server": {"auth_token": canary}}"#,
        r#"{"server": {"auth_token": {"canary": 1}}}"#,
    ] {
        let mistakes = read_text(text).expect_err(text);
        assert!(!format!("{mistakes:?}").contains(canary), "{mistakes:?}");
    }
    let mistakes = read_text(r#"{"server": {"auth_token": 4815162342}}"#).expect_err("a number");
    assert!(!format!("{mistakes:?}").contains("4815162342"), "{mistakes:?}");
}

#[test]
fn files_that_are_too_large_or_no_text_are_refused() {
    let mistakes = read_text(&" ".repeat(MAX_BYTES + 1)).expect_err("too large");
    assert_eq!(mistakes[0].to_string(), "c.json: larger than 16 MiB; is it a config file?");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), b"{\n\"\xff\": 1}").expect("written");
    let error = load(file.path()).expect_err("not UTF-8").to_string();
    assert!(error.ends_with(":2:2: not UTF-8 text; save the file as UTF-8"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_no_usage_error() {
    assert!(matches!(load(Path::new("no/such.json")), Err(Error::File { .. })));
}

#[test]
fn every_config_that_comes_with_the_tool_is_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let draft = load(&path).unwrap_or_else(|error| panic!("{error}"));
            assert!(!draft.scenarios.is_empty(), "{}", path.display());
            found += 1;
        }
    }
    assert!(found >= 3, "{found} configs");
}

#[test]
fn the_documented_example_cut_anywhere_is_one_mistake() {
    let whole = DOCUMENTED.trim_end();
    for end in 0..whole.len() {
        assert_eq!(read_text(&whole[..end]).expect_err("cut").len(), 1, "cut at {end}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = read_text(&text);
    }

    #[test]
    fn any_json_like_text_is_read_or_refused(
        text in r#"(\{|\}|\[|\]|:|,|"|"url":|"server":|"test_scenarios":|"\\ud800"|1e999|-|0|null|é|\n){0,24}"#
    ) {
        let _ = read_text(&text);
    }

    #[test]
    fn any_value_in_any_place_is_read_or_refused(
        key in proptest::sample::select([&SERVER[..], &BENCHMARK, &SCENARIO].concat()),
        value in r#"(\[|\{"a":){0,3}("é\\n"|-?(0|[1-9][0-9]{0,21})|1e[0-9]{1,4}|null|true|"-?[0-9]{1,3}[a-z]")"#,
    ) {
        let closing: String = value
            .chars()
            .rev()
            .filter_map(|c| match c {
                '[' => Some(']'),
                '{' => Some('}'),
                _ => None,
            })
            .collect();
        let member = format!("{{\n\"{key}\": {value}{closing}}}");
        let text = format!("{{\"server\": {member}, \"benchmark\": {member}, \"test_scenarios\": [{member}]}}");
        let mistakes = read_text(&text).expect_err("the key is unknown somewhere");
        prop_assert!(mistakes.iter().all(|mistake| !mistake.problem.starts_with("not JSON")), "{text}");
    }
}
