//! What is built in comes from crates.io, under a licence that allows it, without an async runtime and without OpenSSL: what
//! `cargo deny` checks by `deny.toml`, but for the advisories, which take a network.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The packages that are built here, tests included, as cargo tells them.
fn packages() -> Vec<Value> {
    let cargo = || {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo
    };
    let version = cargo().arg("-vV").output().expect("cargo runs").stdout;
    let version = String::from_utf8(version).expect("text");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo tells its host");
    // all of them are there, for this test was built of them
    let words = ["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host];
    let told = cargo().args(words).output().expect("cargo runs");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    told["packages"].as_array().expect("a list").clone()
}

/// The texts in quotes of a list in `deny.toml`.
fn listed(name: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    let text = std::fs::read_to_string(path).expect("deny.toml");
    let list = text
        .split_once(&format!("\n{name} = [\n"))
        .and_then(|(_, rest)| rest.split_once("\n]"))
        .expect(name)
        .0;
    list.lines().filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

/// Whether an SPDX expression offers what is allowed. A slash is the old way to write OR; an exception (WITH) only allows
/// more.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    let good = any(&mut rest, allowed);
    assert!(rest.is_empty(), "no SPDX expression: {expression}");
    good
}

fn any(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut good = all(words, allowed);
    while take(words, "OR") {
        good |= all(words, allowed);
    }
    good
}

fn all(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut good = one(words, allowed);
    while take(words, "AND") {
        good &= one(words, allowed);
    }
    good
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    if take(words, "(") {
        let good = any(words, allowed);
        assert!(take(words, ")"), "no SPDX expression");
        return good;
    }
    let (name, rest) = words.split_first().expect("a licence");
    *words = rest;
    if take(words, "WITH") {
        *words = words.split_first().expect("an exception").1;
    }
    allowed.contains(*name)
}

/// Whether this word comes next; it is taken then.
fn take(words: &mut &[&str], word: &str) -> bool {
    let comes = words.first() == Some(&word);
    if comes {
        *words = &words[1..];
    }
    comes
}

#[test]
fn what_is_built_in_is_allowed() {
    let (licences, banned) = (listed("allow"), listed("deny"));
    assert!(licences.contains("MIT") && banned.contains("tokio"));
    let packages = packages();
    assert!(packages.len() > 50, "{}", packages.len());
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        assert!(
            !banned.contains(name),
            "{name} is banned in deny.toml; do without the package that brings it"
        );
        if name == env!("CARGO_PKG_NAME") {
            continue;
        }
        let source = package["source"].as_str();
        assert_eq!(source, Some("registry+https://github.com/rust-lang/crates.io-index"), "{name}");
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        assert!(
            is_allowed(licence, &licences),
            "{name}: {licence} is not among the licences of deny.toml; do without it, or allow it there"
        );
    }
}

#[test]
fn licences_are_read_as_spdx_writes_them() {
    let allowed: BTreeSet<String> = ["MIT", "ISC"].map(str::to_owned).into();
    for (expression, want) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND GPL-3.0", false),
        ("MIT AND ISC", true),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("(MIT OR GPL-3.0) AND GPL-2.0", false),
        ("GPL-3.0 OR MIT AND ISC", true),
        ("Apache-2.0 WITH LLVM-exception OR MIT", true),
        ("MIT WITH Some-exception AND GPL-3.0", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), want, "{expression}");
    }
}
