//! Rules and dashboard of `configs/`: they name only metrics that are there, and the dashboard is one that Grafana takes.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use serde_json::Value;
use vllm_loadgen::observe::prometheus::samples;
use vllm_loadgen::sim::Behavior;

use crate::command::{folder, json, start};
use crate::monitoring::scraped_to_the_end;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn dashboard() -> Value {
    json(&root().join("configs/grafana/dashboard.json"))
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().expect("panels")
}

/// The words of a text that begin so and are names of metrics.
fn names(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !is_part(c)).map(|word| word.trim_matches(':'));
    words.filter(|word| word.starts_with(prefix) && !word.ends_with('_')).map(str::to_owned).collect()
}

/// All names that a run has while it goes on and in its result: of samples and of families.
fn names_of_a_run() -> BTreeSet<String> {
    let (folder, server) = (folder(), start(Behavior { fail: 0.2, ..Behavior::flat_out() }));
    let (at, url) = (folder.path(), server.url());
    let load = ["--url", &url, "-r", "400", "-n", "40", "--max-tokens", "5", "--goodput", "ttft:10s"];
    names_of(&scraped_to_the_end(at, &[&load[..], &["--threshold", "requests_per_s>0.1"]].concat()))
}

/// What only a run has whose client was late, or whose server tells of its cache; the outputs' tests look at them.
const NAMES_OF_A_LATE_CLIENT: [&str; 8] = [
    "vllm_loadgen_run_ttft_low_seconds",
    "vllm_loadgen_run_itl_low_seconds",
    "vllm_loadgen_run_tpot_low_seconds",
    "vllm_loadgen_run_e2e_low_seconds",
    "vllm_loadgen_run_response_ttft_low_seconds",
    "vllm_loadgen_run_response_e2e_low_seconds",
    "vllm_loadgen_run_goodput_at_best_ratio",
    "vllm_loadgen_run_prefix_cache_hit_ratio",
];

fn names_of(text: &str) -> BTreeSet<String> {
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    samples(text).map(|sample| sample.name).chain(families).map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

#[test]
fn rules_dashboard_and_page_name_what_a_run_has() {
    let mut there = names_of_a_run();
    there.extend(NAMES_OF_A_LATE_CLIENT.map(str::to_owned));
    for path in ["configs/prometheus/rules.yml", "configs/grafana/dashboard.json", "docs/monitoring.md"] {
        let named = names(&read(path), "vllm_loadgen_");
        assert!(!named.is_empty(), "{path}");
        let unknown: Vec<_> = named.difference(&there).collect();
        assert!(unknown.is_empty(), "{path} names {unknown:?}; there are {there:?}");
    }
    // the tests of the rules give values to what the rules ask for
    let named = names(&read("configs/prometheus/rules_test.yml"), "vllm_loadgen_run_");
    assert!(named.is_subset(&names(&read("configs/prometheus/rules.yml"), "vllm_loadgen_run_")), "{named:?}");
}

#[test]
fn the_dashboard_asks_the_server_for_what_it_has() {
    let server = start(Behavior::flat_out());
    let address = server.url().strip_prefix("http://").expect("plain HTTP").to_owned();
    let mut stream = std::net::TcpStream::connect(&address).expect("it listens");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    let there = names_of(reply.split_once("\r\n\r\n").expect("a body").1);
    let named = names(&read("configs/grafana/dashboard.json"), "vllm:");
    assert!(named.len() > 5);
    let unknown: Vec<_> = named.difference(&there).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_alert_is_tested_and_told() {
    let (rules, tests, page) = (
        read("configs/prometheus/rules.yml"),
        read("configs/prometheus/rules_test.yml"),
        read("docs/monitoring.md"),
    );
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 3, "{alerts:?}");
    assert_eq!(alerts.len(), alerts.iter().collect::<HashSet<_>>().len(), "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
        assert!(page.contains(&format!("`{alert}`")), "{alert} is not on the page");
    }
}

#[test]
fn the_dashboard_is_made_for_any_grafana() {
    let dashboard = dashboard();
    assert!(dashboard["id"].is_null(), "an id is the database's");
    assert_eq!((&dashboard["uid"], &dashboard["schemaVersion"]), (&"vllm-loadgen".into(), &39.into()));
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let names: Vec<_> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
    assert_eq!(names, ["DS_PROMETHEUS", "model", "test"]);
    let mut ids = HashSet::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}");
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|words| !words.is_empty()), "{title}");
        let mut letters = HashSet::new();
        for target in panel["targets"].as_array().expect(title) {
            assert_eq!(target["datasource"]["uid"], "${DS_PROMETHEUS}", "{title}");
            assert!(letters.insert(target["refId"].as_str().expect("a letter")), "{title}");
            let expr = target["expr"].as_str().expect("an expression");
            assert!(expr.contains("=~\"$model\""), "{title}: {expr}");
            assert_eq!(expr.contains("rate("), expr.contains("[$__rate_interval]"), "{title}: {expr}");
            assert_eq!(expr.matches('(').count(), expr.matches(')').count(), "{title}: {expr}");
        }
    }
}

#[test]
fn panels_lie_beside_each_other_on_the_grid() {
    let dashboard = dashboard();
    let mut taken = HashSet::new();
    for panel in panels(&dashboard) {
        let at = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
        let (x, y, w, h) = (at("x"), at("y"), at("w"), at("h"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{}", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} lies on another at {cell:?}", panel["title"]);
        }
    }
}
