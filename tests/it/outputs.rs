//! Files that are written: none takes another's place, and none is left that holds nothing.

use std::fs;
use std::path::Path;

use vllm_loadgen::app;
use vllm_loadgen::cli::{self, Order, Surroundings};
use vllm_loadgen::clock::stop_pair;

use crate::command::{code, err, folder, out, run, simulator, succeeds};

#[track_caller]
fn refused(folder: &Path, words: &[&str]) {
    let output = run(folder, words);
    assert_eq!(code(&output), 2, "{words:?}: {}{}", out(&output), err(&output));
    assert!(err(&output).contains("name two files"), "{}", err(&output));
}

#[test]
fn one_file_under_two_names_is_one_file() {
    let (folder, server) = (folder(), simulator());
    let here = folder.path();
    fs::create_dir(here.join("sub")).expect("writable");
    let run_words = ["-q", "--url", &server.url(), "-n", "2", "--max-tokens", "2"];
    succeeds(&run(here, &[&run_words[..], &["-o", "old.json"]].concat()));
    succeeds(&run(here, &[&run_words[..], &["-o", "new.json"]].concat()));
    for (link, to) in [("link", "old.json"), ("dangling", "a.out"), ("folder", "sub")] {
        std::os::unix::fs::symlink(to, here.join(link)).expect("a link");
    }
    let absolute = here.join("a.out").display().to_string();
    let kept = fs::read(here.join("old.json")).expect("written");
    for (one, other) in [
        ("a.out", absolute.as_str()),
        ("a.out", "sub/../a.out"),
        ("a.out", "folder/../a.out"),
        ("a.out", "dangling"),
        ("sub/b", "folder/b"),
        ("sub/new/b", "folder/new/b"),
        ("old.json", "link"),
    ] {
        refused(here, &[&run_words[..], &["--overwrite", "-o", one, "--csv", other]].concat());
        refused(here, &["report", "new.json", "--overwrite", "--html", one, "--markdown", other]);
        refused(here, &["compare", "new.json", "old.json", "--overwrite", "-o", one, "--junit", other]);
    }
    refused(here, &["compare", "new.json", "old.json", "--overwrite", "-o", "link"]);
    assert_eq!(fs::read(here.join("old.json")).expect("still there"), kept);
    let twice = run(here, &["compare", "link", "old.json"]);
    assert!(code(&twice) == 2 && err(&twice).contains("a run counts once"), "{}", err(&twice));
    assert!(!here.join("a.out").exists());
}

#[test]
fn a_run_that_is_not_begun_leaves_no_record_log() {
    let (folder, server) = (folder(), simulator());
    let saved = folder.path().join("saved");
    let url = server.url();
    let words = [
        "-q",
        "--url",
        &url,
        "--compare",
        "2",
        "3",
        "--output-dir",
        &saved.display().to_string(),
        "--no-csv",
    ];
    let around =
        Surroundings { variable: &|_| None, read: &|path| fs::read_to_string(path), default_config: None };
    let Ok(Order::Run(order)) = cli::parse(&words.map(str::to_owned), &around) else {
        panic!("it is an order");
    };
    let (stopper, stop) = stop_pair();
    stopper.stop();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = app::Streams { out: &mut out, err: &mut err, color: false };
    app::run(*order, &stop, &mut streams).expect("it ends");
    let left: Vec<_> = fs::read_dir(&saved).expect("it was made").flatten().map(|file| file.path()).collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
}

#[test]
fn no_name_of_a_file_steers_a_terminal() {
    let (folder, server) = (folder(), simulator());
    let (result, log, lost) = ("a\u{1b}[31m\n.json", "b\u{1b}]0;t\u{7}.jsonl", "c\u{1b}[2J.json");
    let words = ["-n", "2", "--max-tokens", "2", "-o", result, "--record-log", log];
    let made = run(folder.path(), &[&["-q", "--url", &server.url()], &words[..]].concat());
    succeeds(&made);
    let shown = run(folder.path(), &["report", result, log]);
    succeeds(&shown);
    let missing = run(folder.path(), &["report", lost]);
    assert_eq!(code(&missing), 1);
    let mistaken = run(folder.path(), &["--csv", lost, "-o", lost]);
    assert_eq!(code(&mistaken), 2);
    let left_out = run(folder.path(), &["export", "--openmetrics", "d\u{1b}[31m.om", result, log]);
    succeeds(&left_out);
    for (output, name) in [
        (made, "a[31m"),
        (shown, "b]0;t.jsonl"),
        (missing, "c[2J"),
        (mistaken, "c[2J"),
        (left_out, "d[31m.om"),
    ] {
        let said = out(&output) + &err(&output);
        assert!(said.contains(name), "{name}: {said:?}");
        assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
    }
}
