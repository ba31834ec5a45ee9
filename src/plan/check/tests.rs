//! Drafts that are right and wrong.

use std::path::PathBuf;

use super::*;
use serde_json::Value;

use crate::arrivals::{Process, Shape};
use crate::plan::Outputs;
use crate::plan::draft::{ArrivalName, Origin, ScenarioDraft};
use crate::wire::Dialect;

fn no_server(_: &Settings) -> Result<String, Error> {
    panic!("the server must not be asked")
}

fn flag<T>(name: &'static str, value: T) -> Option<Given<T>> {
    Some(Given::new(value, Origin::Flag(name)))
}

fn draft() -> Draft {
    Draft { model: flag("--model", "m".to_owned()), ..Draft::default() }
}

fn mistakes(draft: &Draft) -> Vec<String> {
    match draft.check(&mut no_server) {
        Err(Error::Usage(mistakes)) => mistakes.iter().map(Mistake::to_string).collect(),
        other => panic!("no mistake found: {other:?}"),
    }
}

#[test]
fn defaults_are_the_documented_ones() {
    let suite = draft().check(&mut no_server).expect("defaults are valid");
    let plan = &suite.plans[0];
    assert_eq!(plan.server.endpoint.url, "http://localhost:63455/v1/chat/completions");
    assert_eq!(plan.load.threads.get(), 20);
    assert_eq!(plan.load.completions.map(NonZeroU64::get), Some(100));
    assert_eq!(plan.request.max_tokens, Some(256));
    assert!(plan.request.stream);
    assert_eq!(suite.outputs, Outputs { detail: true, ..Outputs::default() });
}

#[test]
fn the_server_names_the_model_where_nobody_else_does() {
    let suite = Draft::default().check(&mut |_| Ok("served".to_owned())).expect("valid");
    assert_eq!(suite.plans[0].request.model, "served");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let draft = Draft {
        threads: flag("--threads", 0),
        completions: flag("--completions", 0),
        url: flag("--url", "localhost:8000".to_owned()),
        temperature: flag("--temperature", -1.0),
        timeout: flag("--timeout", Duration::ZERO),
        ..draft()
    };
    let found = mistakes(&draft);
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(found.contains(&"--threads '0': write a whole number from 1 to 16000".to_owned()));
}

#[test]
fn thresholds_need_what_they_are_about() {
    let threshold =
        |text: &str| vec![Given::new(text.parse::<Threshold>().expect(text), Origin::Flag("--threshold"))];
    let whole = Draft { stream: Some(false), thresholds: threshold("ttft.p99 < 5ms"), ..draft() };
    assert_eq!(
        mistakes(&whole),
        [
            "--threshold 'ttft.p99<5ms': replies that are not streamed have no such times; leave one of them out"
        ]
    );
    let no_objective = Draft { thresholds: threshold("goodput_requests_per_s>5"), ..draft() };
    let problem = "a run without objectives has no goodput; give --goodput too, such as ttft:500ms";
    assert_eq!(mistakes(&no_objective), [format!("--threshold 'goodput_requests_per_s>5': {problem}")]);
    let none = Draft { junit: flag("--junit", PathBuf::from("j.xml")), ..draft() };
    assert_eq!(
        mistakes(&none),
        ["--junit 'j.xml': there is no --threshold to tell of; give one, such as ttft.p99<500ms"]
    );
    let good = Draft { stream: Some(false), thresholds: threshold("e2e.p99<5ms"), ..draft() };
    assert_eq!(good.check(&mut no_server).expect("valid").plans[0].thresholds.len(), 1);
}

#[test]
fn the_default_server_speaks_either_dialect() {
    let typed = Draft { api: flag("--api", Dialect::Completions), ..draft() };
    let suite = typed.check(&mut no_server).expect("valid");
    assert_eq!(suite.plans[0].server.endpoint.url, "http://localhost:63455/v1/completions");
}

#[test]
fn a_rate_that_brings_no_request_within_the_duration_is_refused() {
    let at = |rate: &str, seconds| Draft {
        request_rate: flag("--request-rate", Shape::parse_rate(rate).expect("a rate")),
        duration: flag("--duration", Duration::from_secs(seconds)),
        ..draft()
    };
    assert_eq!(
        mistakes(&at("0.001", 3)),
        [
            "--request-rate and --duration: no more than 0.003 requests are due in that time, so that most such runs would \
             send none; make one of them larger"
        ]
    );
    load_of(&at("0.5", 2));
    // the first of equal gaps is due at once
    load_of(&Draft { arrival: flag("--arrival", ArrivalName::Constant), ..at("0.001", 3) });
}

#[test]
fn a_duration_alone_sets_no_number_of_completions() {
    let draft = Draft { duration: flag("--duration", Duration::from_secs(30)), ..draft() };
    let load = draft.check(&mut no_server).expect("valid").plans[0].load.clone();
    assert_eq!((load.completions, load.duration), (None, Some(Duration::from_secs(30))));
}

#[test]
fn a_sweep_is_one_plan_a_number() {
    let draft = Draft { concurrent_tests: flag("--concurrent-tests", vec![5, 10]), ..draft() };
    let suite = draft.check(&mut no_server).expect("valid");
    assert_eq!(suite.kind, SuiteKind::Threads);
    let threads: Vec<_> = suite.plans.iter().map(|plan| plan.load.threads.get()).collect();
    assert_eq!(threads, [5, 10]);
    assert_ne!(suite.plans[0].hash, suite.plans[1].hash);
    assert_ne!(suite.plans[0].run_id, suite.plans[1].run_id);
}

#[test]
fn runs_are_one_plan_with_a_seed_each() {
    let draft = |runs| Draft { runs: flag("--runs", runs), seed: flag("--seed", u64::MAX), ..draft() };
    let suite = draft(3).check(&mut no_server).expect("valid");
    assert_eq!(suite.kind, SuiteKind::Runs);
    let seeds: Vec<_> = suite.plans.iter().map(|plan| plan.seed).collect();
    assert_eq!(seeds, [u64::MAX, 0, 1]);
    assert!(suite.plans.iter().all(|plan| plan.hash == suite.plans[0].hash));
    assert_eq!(draft(1).check(&mut no_server).expect("valid").kind, SuiteKind::Single);
    assert_eq!(mistakes(&draft(0)), ["--runs '0': write a whole number from 1 to 1000"]);
    assert_eq!(mistakes(&draft(1_001)), ["--runs '1001': write a whole number from 1 to 1000"]);
    let both = Draft { compare: flag("--compare", vec![1]), ..draft(2) };
    assert_eq!(mistakes(&both), ["--compare and --runs: give one of them; each makes runs of its own"]);
}

#[test]
fn two_kinds_of_sweep_at_once_are_refused() {
    let draft = Draft {
        compare: flag("--compare", vec![1]),
        concurrent_tests: flag("--concurrent-tests", vec![1]),
        ..draft()
    };
    assert_eq!(
        mistakes(&draft),
        ["--compare and --concurrent-tests: give one of them; each makes runs of its own"]
    );
}

#[test]
fn one_output_file_cannot_hold_several_runs() {
    let draft = Draft {
        compare: flag("--compare", vec![1, 2]),
        output: flag("--output", PathBuf::from("a.json")),
        ..draft()
    };
    assert_eq!(
        mistakes(&draft),
        ["--output 'a.json': names one file, and this makes several runs; use --output-dir DIR"]
    );
}

#[test]
fn replies_need_a_file_that_holds_single_requests() {
    let draft = |kept| Draft { save_responses: flag("--save-responses", kept), ..draft() };
    let several = |kept| Draft { compare: flag("--compare", vec![1, 2]), ..draft(kept) };
    let output = || flag("--output", PathBuf::from("a.json"));
    let one = "give --record-log FILE, or --save or --output FILE without --no-detail";
    for (draft, advice) in [
        (draft(true), one),
        (Draft { no_detail: true, output: output(), ..draft(true) }, one),
        (several(true), "give --save without --no-detail"),
        (Draft { no_detail: true, save: true, ..several(true) }, "give --save without --no-detail"),
    ] {
        assert_eq!(mistakes(&draft), [format!("--save-responses: no file would hold them; {advice}")]);
    }
    let log = flag("--record-log", PathBuf::from("a.jsonl"));
    for (draft, want) in [
        (draft(false), false),
        (Draft { output: output(), ..draft(true) }, true),
        (Draft { no_detail: true, record_log: log, ..draft(true) }, true),
        (Draft { save: true, ..several(true) }, true),
    ] {
        assert_eq!(draft.check(&mut no_server).expect("valid").plans[0].save_responses, want);
    }
}

#[test]
fn the_hash_tells_plans_apart_and_not_servers() {
    let hash = |draft: Draft| draft.check(&mut no_server).expect("valid").plans[0].hash.clone();
    let elsewhere = Draft { url: flag("--url", "http://h:1".to_owned()), ..draft() };
    assert_eq!(hash(draft()), hash(elsewhere));
    assert_ne!(hash(draft()), hash(Draft { threads: flag("--threads", 3), ..draft() }));
}

#[test]
fn a_new_setting_parts_no_history() {
    use crate::plan::{FIRST_OF_LOAD, FIRST_OF_REQUEST, without_later};
    let line = include_str!("../../../tests/data/record_log.jsonl").lines().next().expect("a head");
    let head: crate::report::LogHead = serde_json::from_str(line).expect("of an earlier version");
    assert_eq!(head.plan.clone().hashed().hash, head.plan.hash, "hashes of old plans stay");
    // what is not given is at rest
    let plan = draft().check(&mut no_server).expect("valid").plans.remove(0);
    for (told, first) in [
        (serde_json::json!(plan.request), &FIRST_OF_REQUEST[..]),
        (serde_json::json!(plan.load), &FIRST_OF_LOAD[..]),
    ] {
        let mut kept = told.clone();
        without_later(&mut kept, first);
        let names: Vec<&String> = kept.as_object().expect("fields").keys().collect();
        assert_eq!(names.len(), first.len(), "{names:?} and {first:?}");
        let mut later = told;
        (later["later"], later["list"], later["count"]) = (Value::Null, serde_json::json!([]), 0.into());
        without_later(&mut later, first);
        assert_eq!(later, kept);
        later["later"] = "given".into();
        without_later(&mut later, first);
        assert_eq!(later["later"], "given");
    }
}

#[test]
fn plans_that_differ_say_in_what() {
    let plan = |draft: Draft| draft.check(&mut no_server).expect("valid").plans.remove(0);
    let other =
        Draft { threads: flag("--threads", 3), prompt: flag("--prompt", "a\u{1b}b".to_owned()), ..draft() };
    let differences = plan(draft()).differences(&plan(other));
    assert_eq!(differences[0], "load.threads: 20 and 3");
    assert!(differences[1].ends_with("and \"a\\u001bb\""), "{differences:?}");
    assert_eq!(plan(draft()).differences(&plan(draft())), Vec::<String>::new());
}

#[test]
fn a_rate_makes_an_open_loop_with_threads_to_hold_it() {
    let rate = |rate: f64| flag("--request-rate", Shape::parse_rate(&rate.to_string()).expect("above 0"));
    let load = |draft: Draft| draft.check(&mut no_server).expect("valid").plans[0].load.clone();
    let open = load(Draft { request_rate: rate(10.0), ..draft() });
    assert_eq!((open.threads.get(), open.arrivals.map(|a| a.process)), (200, Some(Process::Poisson)));
    assert_eq!(load(Draft { request_rate: rate(0.1), ..draft() }).threads.get(), 64);
    assert_eq!(
        load(Draft { request_rate: rate(1e6), threads: flag("--threads", 7), ..draft() }).threads.get(),
        7
    );
    let bursty = load(Draft { request_rate: rate(1.0), burstiness: flag("--burstiness", 0.5), ..draft() });
    assert_eq!(bursty.arrivals.map(|a| a.process), Some(Process::Gamma { burstiness: 0.5 }));
}

#[test]
fn arrivals_that_nothing_can_be_drawn_from_are_refused() {
    let gamma = |burstiness: f64| Draft {
        request_rate: flag("--request-rate", Shape::parse_rate("5").expect("a rate")),
        burstiness: flag("--burstiness", burstiness),
        ..draft()
    };
    for within in [0.001, 1_000.0] {
        assert!(gamma(within).check(&mut no_server).is_ok(), "{within}");
    }
    for beyond in [0.0, -1.0, 1e-320, 0.000_9, 1_001.0, f64::INFINITY, f64::NAN] {
        let want = format!("--burstiness '{beyond}': write a number from 0.001 to 1000, such as 0.5");
        assert_eq!(mistakes(&gamma(beyond)), [want]);
    }
    let rate = |text: &str| flag("--request-rate", Shape::parse_rate(text).expect("a rate"));
    let why = "less than one request a day; write a higher rate, such as 0.1";
    for slow in ["1e-300", "0.0000115"] {
        assert_eq!(
            mistakes(&Draft { request_rate: rate(slow), ..draft() }),
            [format!("--request-rate: {why}")]
        );
    }
    assert!(Draft { request_rate: rate("0.0000116"), ..draft() }.check(&mut no_server).is_ok());
    assert_eq!(mistakes(&Draft { ramp_up: ramp("0:1e-300:9s"), ..draft() }), [format!("--ramp-up: {why}")]);
    assert_eq!(mistakes(&Draft { stages: stages("0:1s,1e-9:9s"), ..draft() }), [format!("--stages: {why}")]);
}

fn ramp(text: &str) -> Option<Given<Shape>> {
    flag("--ramp-up", Shape::parse_ramp(text).expect(text))
}

fn stages(text: &str) -> Option<Given<Shape>> {
    flag("--stages", Shape::parse_stages(text).expect(text))
}

fn at_once() -> Option<Given<Shape>> {
    flag("--request-rate", Shape::AtOnce)
}

fn load_of(draft: &Draft) -> Load {
    draft.check(&mut no_server).expect("valid").plans[0].load.clone()
}

#[test]
fn a_ramp_ends_the_run_where_nothing_else_does() {
    let alone = load_of(&Draft { ramp_up: ramp("1:50:60s"), ..draft() });
    assert_eq!((alone.completions, alone.time_limit()), (None, Some(Duration::from_secs(60))));
    assert_eq!(alone.threads.get(), 1_000);
    let duration = flag("--duration", Duration::from_secs(90));
    let timed = load_of(&Draft { ramp_up: ramp("1:50:60s"), duration, ..draft() });
    assert_eq!(timed.time_limit(), Some(Duration::from_secs(90)));
    let counted = load_of(&Draft { ramp_up: ramp("1:5:60s"), completions: flag("-n", 7), ..draft() });
    assert_eq!((counted.time_limit(), counted.threads.get()), (None, 100));
}

#[test]
fn stages_end_the_run_and_a_number_may_end_it_earlier() {
    let alone = load_of(&Draft { stages: stages("10:30s,0:5s"), ..draft() });
    assert_eq!((alone.completions, alone.time_limit()), (None, Some(Duration::from_secs(35))));
    let counted = Draft { stages: stages("10:30s"), completions: flag("--completions", 7), ..draft() };
    assert_eq!(load_of(&counted).completions.map(NonZeroU64::get), Some(7));
}

#[test]
fn everything_at_once_has_a_thread_a_request() {
    let load = load_of(&Draft { request_rate: at_once(), ..draft() });
    assert_eq!((load.threads.get(), load.completions.map(NonZeroU64::get)), (100, Some(100)));
    let many = Draft { request_rate: at_once(), completions: flag("--completions", 5_000), ..draft() };
    assert_eq!(load_of(&many).threads.get(), 1_000);
    let compared = Draft { request_rate: at_once(), compare: flag("--compare", vec![3, 9]), ..draft() };
    let suite = compared.check(&mut no_server).expect("valid");
    assert_eq!(suite.plans.iter().map(|plan| plan.load.threads.get()).collect::<Vec<_>>(), [3, 9]);
}

#[test]
fn shapes_that_disagree_are_mistakes() {
    let rate = flag("--request-rate", Shape::parse_rate("5").expect("a rate"));
    let three = Draft { request_rate: rate, ramp_up: ramp("1:5:9s"), stages: stages("1:9s"), ..draft() };
    assert_eq!(
        mistakes(&three),
        [
            "--request-rate and --ramp-up: give one of them; each says when requests arrive",
            "--request-rate and --stages: give one of them; each says when requests arrive",
        ]
    );
    let duration = || flag("--duration", Duration::from_secs(9));
    assert_eq!(
        mistakes(&Draft { stages: stages("1:9s"), duration: duration(), ..draft() }),
        [
            "--stages and --duration: leave the duration out: the run ends with the last stage; make that longer or shorter"
        ]
    );
    let at_once = Draft {
        request_rate: at_once(),
        duration: duration(),
        arrival: flag("--arrival", ArrivalName::Gamma),
        burstiness: flag("--burstiness", 0.5),
        ..draft()
    };
    assert_eq!(
        mistakes(&at_once),
        [
            "--request-rate and --duration: leave the duration out: every request is due at the start; --completions says how many",
            "--arrival: says nothing at --request-rate inf: every request is due at once",
            "--burstiness: says nothing at --request-rate inf: every request is due at once",
        ]
    );
}

#[test]
fn a_schedule_file_is_for_the_one_run_of_an_open_loop() {
    let out = || flag("--schedule-out", PathBuf::from("s.csv"));
    assert_eq!(
        mistakes(&Draft { schedule_out: out(), compare: flag("--compare", vec![1, 2]), ..draft() }),
        [
            "--schedule-out 's.csv': names one file, and this makes several runs; leave it out, or make one run",
            "--schedule-out 's.csv': a closed loop has no schedule; give --request-rate, --ramp-up or --stages",
        ]
    );
    let twice = Draft {
        stages: stages("1:9s"),
        schedule_out: out(),
        csv: flag("--csv", PathBuf::from("./s.csv")),
        ..draft()
    };
    assert_eq!(
        mistakes(&twice),
        ["--csv and --schedule-out 's.csv': name two files; one would replace the other"]
    );
}

#[test]
fn a_flags_shape_takes_the_place_of_the_files() {
    let file = Draft {
        request_rate: flag("file", Shape::parse_rate("5").expect("a rate")),
        completions: flag("file", 100),
        duration: flag("file", Duration::from_secs(9)),
        arrival: flag("file", ArrivalName::Constant),
        ..draft()
    };
    let over = |flags: Draft| load_of(&flags.over(file.clone()));
    let staged = over(Draft { stages: stages("1:30s"), ..Draft::default() });
    assert_eq!((staged.completions, staged.duration), (None, None));
    assert_eq!(staged.arrivals.map(|arrivals| arrivals.process), Some(Process::Constant));
    let ramped = over(Draft { ramp_up: ramp("1:5:3s"), ..Draft::default() });
    assert_eq!((ramped.completions, ramped.duration), (None, Some(Duration::from_secs(9))));
    let at_once = over(Draft { request_rate: at_once(), ..Draft::default() });
    assert_eq!((at_once.completions.map(NonZeroU64::get), at_once.duration), (Some(100), None));
}

#[test]
fn parts_of_an_open_loop_alone_are_mistakes() {
    let lone = Draft { arrival: flag("--arrival", ArrivalName::Poisson), ..draft() };
    assert_eq!(mistakes(&lone), ["--arrival: says nothing without --request-rate, --ramp-up or --stages"]);
    let rate = flag("--request-rate", Shape::parse_rate("1").expect("above 0"));
    let both = Draft {
        request_rate: rate,
        arrival: flag("--arrival", ArrivalName::Constant),
        burstiness: flag("--burstiness", 2.0),
        ..draft()
    };
    assert_eq!(mistakes(&both), ["--burstiness '2': is for --arrival gamma; leave one of them out"]);
}

#[test]
fn a_flag_wins_over_a_scenario() {
    let file = |field: &str| Origin::File { place: "f:1:1".to_owned(), field: field.to_owned() };
    let scenario = ScenarioDraft {
        name: Given::new("s".to_owned(), file("name")),
        completions: Given::new(vec![3, 4], file("completions")),
        prompt: Given::new("p".to_owned(), file("prompt")),
        threads: Some(Given::new(7, file("threads"))),
        max_tokens: None,
    };
    let base = Draft { scenarios: vec![scenario], run_scenarios: true, ..draft() };
    let threads = |draft: &Draft| draft.check(&mut no_server).expect("valid").plans[1].load.threads.get();
    assert_eq!(threads(&base), 7);
    assert_eq!(threads(&Draft { threads: flag("--threads", 9), ..base }), 9);
}
