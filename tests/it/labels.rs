//! Labels: from the flag or the config file to every output.

use std::fs;

use serde_json::json;

use crate::command::{code, err, folder, json as read_json, out, run, simulator, succeeds};

#[test]
fn labels_are_in_every_output_and_make_no_other_plan() {
    let (folder, server) = (folder(), simulator());
    let (at, url) = (folder.path(), server.url());
    let config = r#"{"benchmark": {"labels": {"commit": "from-file", "gpu": "=<b>H100"}}}"#;
    fs::write(at.join("c.json"), config).expect("writable");
    let words = ["-q", "--url", &url, "-n", "3", "--max-tokens", "2", "--no-detail", "-o"];
    succeeds(&run(at, &[&words[..], &["plain.json"]].concat()));
    let files = ["run.json", "--html", "run.html", "--markdown", "run.md", "--record-log", "run.jsonl"];
    let labels = ["-c", "c.json", "--label", "commit=typed", "--label=commit=a=1"];
    let ran = run(at, &[&words[..], &files, &labels].concat());
    succeeds(&ran);
    assert!(out(&ran).contains("Labels               commit=a=1, gpu==<b>H100\n"), "{}", out(&ran));
    let (plain, marked) = (read_json(&at.join("plain.json")), read_json(&at.join("run.json")));
    assert_eq!(marked["plan"]["labels"], json!({"commit": "a=1", "gpu": "=<b>H100"}));
    assert_eq!((&plain["plan"]["labels"], &plain["plan"]["hash"]), (&json!({}), &marked["plan"]["hash"]));
    let read = |name: &str| fs::read_to_string(at.join(name)).expect("written");
    assert!(read("run.html").contains("commit=a=1, gpu=="));
    assert!(!read("run.html").contains("<b>H100"));
    assert!(read("run.md").contains("`commit=a=1, gpu==<b>H100`"), "{}", read("run.md"));
    let words = ["report", "plain.json", "run.jsonl", "--csv", "both.csv", "--markdown", "both.md"];
    succeeds(&run(at, &words));
    let csv = read("both.csv");
    let mut lines = csv.lines();
    assert!(lines.next().is_some_and(|head| head.ends_with(",label_commit,label_gpu")), "{csv}");
    assert!(lines.next().is_some_and(|row| row.ends_with(",,")), "{csv}");
    // no formula for a spreadsheet
    assert!(lines.next().is_some_and(|row| row.ends_with(",a=1,'=<b>H100")), "{csv}");
    assert!(read("both.md").contains(" | labels |\n"), "{}", read("both.md"));
    let compared = run(
        at,
        &["compare", "plain.json", "run.json", "-o", "c.json", "--overwrite", "--metric", "error_rate"],
    );
    assert!(out(&compared).contains(", commit=a=1, gpu==<b>H100)\n"), "{}", out(&compared));
    assert_eq!(read_json(&at.join("c.json"))["new"][0]["labels"]["commit"], "a=1");
}

#[test]
fn labels_that_cannot_be_are_told_with_their_place() {
    let folder = folder();
    let config = "{\"benchmark\": {\"labels\": {\"a b\": \"x\",\n\"n\": 7}}}";
    fs::write(folder.path().join("c.json"), config).expect("writable");
    let refused = run(folder.path(), &["-c", "c.json", "--label", "commit", "--label", "=x"]);
    assert_eq!(code(&refused), 2);
    for part in [
        "--label 'commit': not a label; write NAME=VALUE",
        "--label '=x': the label has no name",
        "c.json:2:6: 'n' is a number; write text in double quotes",
    ] {
        assert!(err(&refused).contains(part), "{}", err(&refused));
    }
    fs::write(folder.path().join("c.json"), config.replace(",\n\"n\": 7", "")).expect("writable");
    let refused = run(folder.path(), &["-c", "c.json", "--model", "m"]);
    let want = "c.json:1:34: benchmark.labels.a b 'a b=x': a label's name is of letters, digits";
    assert!(err(&refused).contains(want), "{}", err(&refused));
}
