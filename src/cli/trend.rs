//! What `trend` is told: which results to look at over time, how to tell them apart, and where the answer goes.

use std::path::PathBuf;

use argh::FromArgs;

use super::typed::Typed;
use super::{Order, TrendOrder, metrics};
use crate::error::Error;
use crate::plan::parse_label;

/// Look at saved results over time: runs of one plan in the order they were made, where the level of a figure changes, and how the latest run stands to those before it.
#[derive(FromArgs, Debug, Default)]
#[argh(
    subcommand,
    name = "trend",
    help_triggers("-h", "--help"),
    example = "All results of a folder, named by the commit that they measured:\n  {command_name} results --by commit --html trend.html",
    example = "Fail a nightly job when the newest level is worse:\n  {command_name} results --last 60 --fail-on-worse --markdown summary.md",
    error_code(1, "there is no result, or a file cannot be written"),
    error_code(2, "usage is wrong"),
    error_code(99, "with --fail-on-worse: the newest level of a metric is worse than the one before it")
)]
pub struct TrendFlags {
    /// results (JSON), record logs, or folders that hold such; what is neither is left out, and told
    #[argh(positional, arg_name = "DIR|FILE")]
    pub paths: Vec<String>,
    /// look into the folders of folders too
    #[argh(switch)]
    pub recursive: bool,
    /// what to look at, one or more, such as ttft.p99 (default: ttft.p50 ttft.p95 itl.p95 e2e.p95 output_tokens_per_s error_rate)
    #[argh(option, arg_name = "NAME")]
    pub metric: Vec<String>,
    /// only runs that bear this label; may be repeated
    #[argh(option, arg_name = "K=V")]
    pub label: Vec<String>,
    /// name runs by this label, such as commit (default: by all of their labels)
    #[argh(option, arg_name = "LABEL")]
    pub by: Option<String>,
    /// only so many runs of each plan, the latest (default: all)
    #[argh(option, arg_name = "N")]
    pub last: Option<String>,
    /// changes up to this share of a level are taken for none (default: 10%)
    #[argh(option, arg_name = "SHARE")]
    pub tolerance: Option<String>,
    /// exit 99 when the newest level of a metric is worse than the one before it
    #[argh(switch)]
    pub fail_on_worse: bool,
    /// write a page with charts: one HTML file that needs nothing else
    #[argh(option, arg_name = "FILE")]
    pub html: Option<String>,
    /// write tables as Markdown, such as for $GITHUB_STEP_SUMMARY
    #[argh(option, arg_name = "FILE")]
    pub markdown: Option<String>,
    /// write a CSV with a row for each figure of each run
    #[argh(option, arg_name = "FILE")]
    pub csv: Option<String>,
    /// write all of it to this file, as JSON
    #[argh(option, short = 'o', arg_name = "FILE")]
    pub output: Option<String>,
    /// replace files that exist
    #[argh(switch)]
    pub overwrite: bool,
    /// log what goes on to standard error
    #[argh(switch, short = 'v')]
    pub verbose: u8,
}

/// Makes an order of the flags.
pub fn order(flags: TrendFlags, verbosity: u8) -> Result<Order, Error> {
    let mut typed = Typed::default();
    if flags.paths.is_empty() {
        typed.add("trend", "name a folder with results, or some results");
    }
    let tolerance = typed.tolerance(flags.tolerance.as_ref());
    let last = flags.last.as_ref().and_then(|text| {
        let number = text.trim().parse().ok().filter(|number| *number > 0);
        if number.is_none() {
            typed.add(format!("--last '{text}'"), "write a whole number above 0, such as 30");
        }
        number
    });
    let mut labels = Vec::new();
    for text in &flags.label {
        match parse_label(text) {
            Ok(label) => labels.push(label),
            Err(problem) => typed.add(format!("--label '{text}'"), problem),
        }
    }
    let metrics = metrics(&flags.metric, &mut typed);
    typed.mistakes.extend(super::same_files(&[
        ("--output", &flags.output),
        ("--html", &flags.html),
        ("--markdown", &flags.markdown),
        ("--csv", &flags.csv),
    ]));
    for file in [&flags.output, &flags.html, &flags.markdown, &flags.csv].into_iter().flatten() {
        if flags.paths.contains(file) {
            typed.add(format!("trend '{file}'"), "would be replaced; name another file to write");
        }
    }
    if !typed.mistakes.is_empty() {
        return Err(Error::Usage(typed.mistakes));
    }
    let path = |text: Option<String>| text.map(PathBuf::from);
    Ok(Order::Trend(Box::new(TrendOrder {
        paths: flags.paths.into_iter().map(PathBuf::from).collect(),
        recursive: flags.recursive,
        metrics,
        labels,
        by: flags.by,
        last,
        tolerance,
        fail_on_worse: flags.fail_on_worse,
        html: path(flags.html),
        markdown: path(flags.markdown),
        csv: path(flags.csv),
        json: path(flags.output),
        overwrite: flags.overwrite,
        verbosity: verbosity.max(flags.verbose),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn mistakes_are_told_at_once() {
        let flags = TrendFlags {
            paths: words(&["r", "a.json"]),
            metric: words(&["ttft"]),
            label: words(&["commit"]),
            last: Some("0".to_owned()),
            tolerance: Some("x".to_owned()),
            html: Some("a".to_owned()),
            csv: Some("a".to_owned()),
            output: Some("a.json".to_owned()),
            ..TrendFlags::default()
        };
        let told = order(flags, 0).expect_err("wrong").to_string();
        assert_eq!(told.lines().count(), 6, "{told}");
        assert!(told.contains("trend 'a.json': would be replaced"), "{told}");
        let told = order(TrendFlags::default(), 0).expect_err("nothing named").to_string();
        assert_eq!(told, "trend: name a folder with results, or some results");
    }
}
