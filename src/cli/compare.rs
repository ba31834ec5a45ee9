//! What `compare` is told: which results are the base, which are judged, and where the answer goes.

use std::path::{Path, PathBuf};

use super::flags::CompareFlags;
use super::typed::Typed;
use super::{CompareOrder, Order, metrics};
use crate::error::Error;
use crate::plan::{AlertsTo, Given, NetworkDraft, Origin, resolved};

/// Makes an order of the flags.
pub fn order(flags: CompareFlags, verbosity: u8, network: &NetworkDraft) -> Result<Order, Error> {
    let mut typed = Typed::default();
    let (base, new) = sides(&flags, &mut typed);
    let tolerance = typed.tolerance(flags.tolerance.as_ref());
    let metrics = metrics(&flags.metric, &mut typed);
    let github_benchmark = flags.github_benchmark.map(PathBuf::from).map(|path| {
        let bigger = bigger(&path);
        (path, bigger)
    });
    let mut route = |name, text: Option<String>| {
        network.route(&Given::new(text?, Origin::Flag(name)), &mut typed.mistakes)
    };
    let alerts = AlertsTo {
        webhook: route("--alert-webhook", flags.alert_webhook),
        alertmanager: route("--alertmanager", flags.alertmanager),
    };
    let path = |text: Option<String>| text.map(PathBuf::from);
    let order = CompareOrder {
        base,
        new,
        metrics,
        tolerance,
        force: flags.force,
        strict: flags.strict,
        json: path(flags.output),
        markdown: path(flags.markdown),
        junit: path(flags.junit),
        github_benchmark,
        bencher: path(flags.bencher),
        alerts,
        overwrite: flags.overwrite,
        verbosity: verbosity.max(flags.verbose),
    };
    no_file_twice(&order, &mut typed);
    if typed.mistakes.is_empty() {
        Ok(Order::Compare(Box::new(order)))
    } else {
        Err(Error::Usage(typed.mistakes))
    }
}

/// `compare BASE NEW`, `compare BASE... --new NEW...`, `compare --base BASE... --new NEW...`.
fn sides(flags: &CompareFlags, typed: &mut Typed) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let paths = |words: &[String]| words.iter().map(PathBuf::from).collect();
    match (flags.files.as_slice(), flags.base.as_slice(), flags.new.as_slice()) {
        ([base, new], [], []) => (vec![base.into()], vec![new.into()]),
        ([], base @ [_, ..], new @ [_, ..]) | (base @ [_, ..], [], new @ [_, ..]) => {
            (paths(base), paths(new))
        }
        _ => {
            typed.add(
                "compare",
                "name two results, compare BASE NEW, or several a side, compare --base BASE... --new NEW...",
            );
            (vec![], vec![])
        }
    }
}

/// `bench.json` is `bench-bigger.json`.
fn bigger(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push("-bigger");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// One result counts once, and no file takes the place of another.
fn no_file_twice(order: &CompareOrder, typed: &mut Typed) {
    let read: Vec<&PathBuf> = order.base.iter().chain(&order.new).collect();
    let github = order.github_benchmark.iter().flat_map(|(smaller, bigger)| [smaller, bigger]);
    let written: Vec<&PathBuf> = [&order.json, &order.markdown, &order.junit, &order.bencher]
        .into_iter()
        .flatten()
        .chain(github)
        .collect();
    let places = |paths: &[&PathBuf]| paths.iter().map(|path| resolved(path)).collect::<Vec<_>>();
    let (places_read, places_written) = (places(&read), places(&written));
    for (number, path) in read.iter().enumerate() {
        if places_read[..number].contains(&places_read[number]) {
            typed.add(format!("compare '{}'", path.display()), "is named twice; a run counts once");
        }
    }
    for (number, path) in written.iter().enumerate() {
        if path.as_os_str().is_empty() {
            typed.add("compare", "a file to write has no name; name one");
        } else if places_written[..number].contains(&places_written[number])
            || places_read.contains(&places_written[number])
        {
            typed
                .add(format!("compare '{}'", path.display()), "would be replaced by another; name two files");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn read(flags: CompareFlags) -> Result<Box<CompareOrder>, String> {
        match order(flags, 0, &NetworkDraft::default()) {
            Ok(Order::Compare(order)) => Ok(order),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn sides_may_be_named_in_three_ways() {
        let sides = |files: &str, base: &str, new: &str| {
            let flags = CompareFlags {
                files: words(files),
                base: words(base),
                new: words(new),
                ..CompareFlags::default()
            };
            read(flags).map(|order| (order.base.len(), order.new.len()))
        };
        assert_eq!(sides("a b", "", ""), Ok((1, 1)));
        assert_eq!(sides("a b", "", "c d e"), Ok((2, 3)));
        assert_eq!(sides("", "a b", "c"), Ok((2, 1)));
        for (files, base, new) in
            [("a", "", ""), ("a b c", "", ""), ("", "a", ""), ("a", "b", "c"), ("", "", "a")]
        {
            let problem = sides(files, base, new).expect_err(files);
            assert!(problem.starts_with("compare: name two results"), "{problem}");
        }
        assert_eq!(
            sides("a a", "", "").expect_err("twice"),
            "compare 'a': is named twice; a run counts once"
        );
    }

    #[test]
    fn mistakes_are_told_at_once() {
        let flags = CompareFlags {
            files: words("a b"),
            metric: words("ttft.p99,itl eror_rate"),
            tolerance: Some("ten".to_owned()),
            markdown: Some("b".to_owned()),
            ..CompareFlags::default()
        };
        let told = read(flags).expect_err("wrong");
        assert_eq!(told.lines().count(), 4, "{told}");
        assert!(told.contains("--metric 'eror_rate': no such metric; did you mean 'error_rate'?"), "{told}");
    }

    #[test]
    fn rates_have_a_file_beside_that_of_times() {
        assert_eq!(bigger(Path::new("d/bench.json")), Path::new("d/bench-bigger.json"));
        assert_eq!(bigger(Path::new("bench")), Path::new("bench-bigger"));
    }
}
