//! The command line and the config file, as typed: words in, an [`Order`] out. Only this room knows argh.
//!
//! Knows neither threads nor HTTP. A flag wins over the file; every mistake of both is told at once.

mod compare;
pub mod config;
mod flags;
mod lists;
mod report;
mod trend;
mod typed;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use argh::FromArgs;

use crate::error::{Error, Mistake};
use crate::plan::{
    AlertsTo, Draft, Given, Metric, NetworkDraft, Origin, PROXY_VARIABLES, Threshold, resolved,
};
use crate::report::Tool;
use crate::secret::{MASK, Secret, carries_key, may_be_key};
use crate::selftest;
use crate::sim::Behavior;
use flags::{ExportFlags, Flags, Selftest, Simulate, Subcommand};
use typed::Typed;

/// What the user wants done.
#[derive(Debug)]
pub enum Order {
    /// Text for standard output, and nothing else.
    Print(String),
    /// Make runs.
    Run(Box<RunOrder>),
    /// Run the simulator alone.
    Simulate(Box<SimulateOrder>),
    /// Show results again.
    Report(ReportOrder),
    /// Hand results to other programs.
    Export(ExportOrder),
    /// Compare results.
    Compare(Box<CompareOrder>),
    /// Look at results over time.
    Trend(Box<TrendOrder>),
    /// Measure the tool itself.
    Selftest(Box<SelftestOrder>),
}

/// Results to show again.
#[derive(Debug)]
pub struct ReportOrder {
    /// Results or record logs.
    pub files: Vec<PathBuf>,
    /// Where the JSON of the one of them goes.
    pub json: Option<PathBuf>,
    /// Where the object of vLLM's own benchmark of the one of them goes.
    pub vllm: Option<PathBuf>,
    /// Where a CSV with a row for each goes.
    pub csv: Option<PathBuf>,
    /// Where a page with charts of all of them goes.
    pub html: Option<PathBuf>,
    /// Where Markdown tables of all of them go.
    pub markdown: Option<PathBuf>,
    /// Where metrics of all of them go, for Prometheus.
    pub prometheus: Option<PathBuf>,
    /// What the figures are to keep, in the place of what they were to keep when they were measured; empty leaves that.
    pub thresholds: Vec<Threshold>,
    /// Where the verdicts on it go, as JUnit XML.
    pub junit: Option<PathBuf>,
    /// Whether an INVALID run and an inconclusive threshold fail the command.
    pub strict: bool,
    /// Whether the JSON has a line for each request of a record log.
    pub detail: bool,
    /// Whether files that exist may be replaced.
    pub overwrite: bool,
    /// How much to log.
    pub verbosity: u8,
}

/// Results to hand to other programs.
#[derive(Debug)]
pub struct ExportOrder {
    /// Results, record logs, or folders of them; at least one.
    pub files: Vec<PathBuf>,
    /// Where they go as OpenMetrics; `None` is standard output.
    pub openmetrics: Option<PathBuf>,
    /// Whether a file that exists may be replaced.
    pub overwrite: bool,
    /// How much to log.
    pub verbosity: u8,
}

/// Results to compare.
#[derive(Debug)]
pub struct CompareOrder {
    /// Results or record logs to compare with; at least one.
    pub base: Vec<PathBuf>,
    /// Those that are judged; at least one.
    pub new: Vec<PathBuf>,
    /// What to compare; empty takes [`Metric::DEFAULTS`], as far as the runs have them.
    pub metrics: Vec<Metric>,
    /// Changes up to this share are taken for none.
    pub tolerance: f64,
    /// Whether plans may differ.
    pub force: bool,
    /// Whether what is inconclusive, and a run that is INVALID, fails the command.
    pub strict: bool,
    /// Where the comparison goes as JSON.
    pub json: Option<PathBuf>,
    /// As Markdown.
    pub markdown: Option<PathBuf>,
    /// As JUnit XML.
    pub junit: Option<PathBuf>,
    /// Where the new figures go for github-action-benchmark: times, and rates.
    pub github_benchmark: Option<(PathBuf, PathBuf)>,
    /// For Bencher.
    pub bencher: Option<PathBuf>,
    /// Who is told where something is worse.
    pub alerts: AlertsTo,
    /// Whether files that exist may be replaced.
    pub overwrite: bool,
    /// How much to log.
    pub verbosity: u8,
}

/// Results to look at over time.
#[derive(Debug)]
pub struct TrendOrder {
    /// Results, record logs, or folders that hold such; at least one.
    pub paths: Vec<PathBuf>,
    /// Whether folders of folders are looked into.
    pub recursive: bool,
    /// What to look at; empty takes [`Metric::DEFAULTS`], as far as the runs have them.
    pub metrics: Vec<Metric>,
    /// Labels that runs must bear.
    pub labels: Vec<(String, String)>,
    /// Which label names the runs; `None` takes all of theirs.
    pub by: Option<String>,
    /// How many runs of each plan, the latest; `None` takes all.
    pub last: Option<usize>,
    /// Changes up to this share of a level are taken for none.
    pub tolerance: f64,
    /// Whether a newest level that is worse fails the command.
    pub fail_on_worse: bool,
    /// Where a page with charts goes.
    pub html: Option<PathBuf>,
    /// Where tables go as Markdown.
    pub markdown: Option<PathBuf>,
    /// Where the figures go as CSV.
    pub csv: Option<PathBuf>,
    /// Where all of it goes as JSON.
    pub json: Option<PathBuf>,
    /// Whether files that exist may be replaced.
    pub overwrite: bool,
    /// How much to log.
    pub verbosity: u8,
}

/// Runs to make.
#[derive(Debug)]
pub struct RunOrder {
    /// What was said of them.
    pub draft: Draft,
    /// The simulated server to start and measure; `None` measures the draft's.
    pub simulate: Option<Behavior>,
    /// Whether to read the server's metrics.
    pub server_metrics: bool,
    /// Whether an INVALID run fails the command.
    pub strict: bool,
    /// Whether to show no progress.
    pub quiet: bool,
    /// How much to log: 0 warnings, 1 what goes on, 2 details, 3 everything.
    pub verbosity: u8,
    /// What the user should know before the run.
    pub notes: Vec<String>,
}

/// A simulator to run.
#[derive(Debug)]
pub struct SimulateOrder {
    /// How it behaves.
    pub behavior: Behavior,
    /// Where it listens.
    pub address: SocketAddr,
    /// How much to log.
    pub verbosity: u8,
}

/// A self-test to make.
#[derive(Debug)]
pub struct SelftestOrder {
    /// What it is to try.
    pub settings: selftest::Settings,
    /// Where the figures go as JSON; `None` writes no file.
    pub output: Option<PathBuf>,
    /// Whether a file that exists may be replaced.
    pub overwrite: bool,
    /// Whether to show no progress.
    pub quiet: bool,
    /// How much to log.
    pub verbosity: u8,
}

/// What the surroundings say beside the command line.
pub struct Surroundings<'a> {
    /// The value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The content of a file, or of standard input for `-`.
    pub read: &'a dyn Fn(&Path) -> std::io::Result<String>,
    /// The present folder's config file, where nobody names one.
    pub default_config: Option<PathBuf>,
}

/// The config file that is taken where none is named.
pub const DEFAULT_CONFIG: &str = "benchmark_config.json";

/// Makes an order of the words after the program's name.
///
/// # Errors
/// [`Error::Usage`] with every mistake.
pub fn parse(words: &[String], around: &Surroundings<'_>) -> Result<Order, Error> {
    let expanded = lists::expand(words);
    let expanded: Vec<&str> = expanded.iter().map(String::as_str).collect();
    let flags = match Flags::from_args(&["vllm-loadgen"], &expanded) {
        Ok(flags) => flags,
        Err(exit) if exit.status.is_ok() => return Ok(Order::Print(exit.output)),
        Err(exit) => return Err(unknown_words(&exit.output)),
    };
    if flags.version {
        let Tool { name, version, commit } = Tool::THIS;
        return Ok(Order::Print(format!("{name} {version} (commit {commit})\n")));
    }
    if let Some(command) = &flags.command {
        no_flag_before(command, &expanded)?;
    }
    match flags.command {
        Some(Subcommand::Simulate(simulate)) => simulate_order(&simulate, flags.verbose, around),
        Some(Subcommand::Report(report)) => report::order(report, flags.verbose),
        Some(Subcommand::Compare(compare)) => {
            let network = NetworkDraft { variables: proxy_variables(around), ..NetworkDraft::default() };
            compare::order(compare, flags.verbose, &network)
        }
        Some(Subcommand::Export(export)) => export_order(export, flags.verbose),
        Some(Subcommand::Selftest(selftest)) => {
            selftest_order(Selftest { quiet: selftest.quiet || flags.quiet, ..selftest }, flags.verbose)
        }
        Some(Subcommand::Trend(trend)) => trend::order(trend, flags.verbose),
        None => run_order(&flags, around),
    }
}

/// What stands before a command is a flag of runs, and this command makes none: dropped, it would be missed.
fn no_flag_before(command: &Subcommand, words: &[&str]) -> Result<(), Error> {
    let name = command.name();
    let reads = |words: &[&str]| Flags::from_args(&["vllm-loadgen"], words).is_ok();
    // the value of a flag may be the same word
    let is_command = |(at, word): &(usize, &&str)| **word == name && reads(&words[..*at]);
    let Some((at, _)) = words.iter().enumerate().find(is_command) else { return Ok(()) };
    let mut dropped = Vec::new();
    let mut before = words[..at].iter();
    while let Some(word) = before.next() {
        if !reads(&[word]) {
            // it takes a value
            before.next();
        }
        let is_kept = match *word {
            "-v" | "--verbose" => true,
            "-q" | "--quiet" => matches!(command, Subcommand::Selftest(_)),
            _ => false,
        };
        if !is_kept {
            dropped.push(*word);
        }
    }
    if dropped.is_empty() {
        return Ok(());
    }
    let place = format!("{} before `{name}`", dropped.join(", "));
    let problem =
        format!("flags there are those of runs; write what `{name}` has after it, and leave out the rest");
    Err(Error::Usage(vec![Mistake::new(place, problem)]))
}

/// argh's own words for a mistyped flag, with what it cannot know.
fn unknown_words(output: &str) -> Error {
    let said = output.trim().trim_end_matches('.').replace('\n', " ");
    if let Some(word) = said.strip_prefix("Unrecognized argument: ").filter(|word| may_be_key(word)) {
        let said = said.replace(word, MASK);
        let advice = "if it is a key, write it into a file that --api-key-file names; it is in your shell's history now";
        return Error::Usage(vec![Mistake::new("command line", format!("{said}; {advice}"))]);
    }
    let advice = match said.strip_prefix("Unrecognized argument: ") {
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
            format!("write --url {url}")
        }
        Some(word) if !word.starts_with(['-', '"']) => {
            "a flag is missing before it; lists are whole numbers, such as --compare 10 50 100".to_owned()
        }
        _ => "see vllm-loadgen --help".to_owned(),
    };
    Error::Usage(vec![Mistake::new("command line", format!("{said}; {advice}"))])
}

fn proxy_variables(around: &Surroundings<'_>) -> Vec<(&'static str, String)> {
    PROXY_VARIABLES.iter().filter_map(|name| Some((*name, (around.variable)(name)?))).collect()
}

fn run_order(flags: &Flags, around: &Surroundings<'_>) -> Result<Order, Error> {
    let mut typed = Typed::default();
    let mut notes = Vec::new();
    let mut draft = typed.draft(flags);
    draft.network.variables = proxy_variables(around);
    draft.key = api_key(flags.api_key_file.as_deref(), around, &mut typed);
    if let (Some(_), true) = (&flags.api_key_file, flags.no_api_key) {
        typed.add("--api-key-file and --no-api-key", "give one of them");
    }
    draft.prompt = prompt(flags, around, &mut typed);
    let simulate = (flags.simulate || flags.behavior.is_some())
        .then(|| typed.behavior(flags.behavior.as_deref(), draft.seed.as_ref().map(|seed| seed.value)));
    if let (Some(url), true) = (&flags.url, simulate.is_some()) {
        typed.add(
            format!("--simulate and --url '{url}'"),
            "give one of them; the simulated server has a URL of its own",
        );
    }
    if let (Some(file), true) = (&flags.api_key_file, simulate.is_some()) {
        typed.add(
            format!("--simulate and --api-key-file '{}'", shown_word(file)),
            "leave the key out; the simulated server wants none",
        );
    }
    if simulate.is_some() {
        let origins: Vec<_> = draft.network.origins().iter().map(ToString::to_string).collect();
        for origin in origins {
            typed.add(
                format!("--simulate and {origin}"),
                "leave it out; the simulated server is in this process, over plain HTTP",
            );
        }
    }
    let base = config_file(flags, around, &mut typed, &mut notes);
    if flags.sync {
        notes.push(
            "--sync: requests are always synchronous here, one thread each; there is no other mode"
                .to_owned(),
        );
    }
    let model = draft.model.clone();
    let mut draft = draft.over(base);
    draft.key = draft.key.or_else(|| key_of_variables(&FOREIGN_KEYS, around));
    if flags.no_api_key {
        draft.key = None;
        let is_typed = |origin: &Origin| !matches!(origin, Origin::File { .. });
        draft.headers.retain(|header| is_typed(&header.origin) || !carries_key(&header.value.0));
    }
    draft.inputs.extend(inputs(flags, around));
    let simulate = simulate.map(|behavior| {
        // those of the file are for another server; a model that was typed is what the simulator serves
        (draft.url, draft.model, draft.key, draft.key_is_for) = (None, None, None, None);
        let variables = std::mem::take(&mut draft.network.variables);
        draft.network = NetworkDraft { variables, ..NetworkDraft::default() };
        Behavior { model: model.map_or(behavior.model, |model| model.value), ..behavior }
    });
    if !typed.mistakes.is_empty() {
        let draft = Typed::with_stand_ins(flags, draft);
        return Err(Error::Usage(with_mistakes_of(&draft, typed.mistakes)));
    }
    Ok(Order::Run(Box::new(RunOrder {
        draft,
        simulate,
        server_metrics: !flags.no_server_metrics,
        strict: flags.strict,
        quiet: flags.quiet,
        verbosity: flags.verbose,
        notes,
    })))
}

/// The mistakes found so far, and those that the rest of the draft makes.
fn with_mistakes_of(draft: &Draft, mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    if let Err(Error::Usage(more)) = draft.check(&mut |_| Ok(String::new())) {
        mistakes.extend(more);
    }
    mistakes
}

fn config_file(
    flags: &Flags,
    around: &Surroundings<'_>,
    typed: &mut Typed,
    notes: &mut Vec<String>,
) -> Draft {
    let path = match (&flags.config, &around.default_config) {
        (Some(named), _) => PathBuf::from(named),
        (None, Some(found)) if !flags.no_config => {
            notes.push(format!("settings not given as flags are from {}", found.display()));
            found.clone()
        }
        (None, _) => return Draft::default(),
    };
    config::load(&path).unwrap_or_else(|error| {
        match error {
            Error::Usage(mistakes) => typed.mistakes.extend(mistakes),
            Error::File { cause, .. } => {
                let problem = format!("{cause}; name a config file that can be read");
                typed.add(format!("--config '{}'", path.display()), problem);
            }
            other => typed.add(format!("--config '{}'", path.display()), other.to_string()),
        }
        Draft::default()
    })
}

/// Files that are read before the run.
fn inputs(flags: &Flags, around: &Surroundings<'_>) -> Vec<Given<PathBuf>> {
    let named = [("--config", &flags.config), ("--api-key-file", &flags.api_key_file)];
    let named = named.into_iter().filter_map(|(flag, file)| Some((flag, PathBuf::from(file.as_ref()?))));
    let found = around.default_config.clone().map(|file| ("config file", file));
    let found = found.filter(|_| flags.config.is_none() && !flags.no_config);
    named.chain(found).map(|(flag, file)| Given::new(file, Origin::Flag(flag))).collect()
}

/// Variables that may hold the key, the first one wins. This one is meant for us, so it comes before the config file's own.
const OWN_KEYS: [&str; 1] = ["VLLM_LOADGEN_API_KEY"];

/// These are set for other programs, and come after it.
const FOREIGN_KEYS: [&str; 2] = ["OPENAI_API_KEY", "VLLM_API_KEY"];

fn key_of_variables(names: &[&str], around: &Surroundings<'_>) -> Option<(Secret, String)> {
    names.iter().find_map(|name| {
        let key = Secret::new(&(around.variable)(name)?);
        (!key.is_empty()).then(|| (key, format!("environment variable {name}")))
    })
}

/// A word as messages show it: it may be a key that stands in the wrong place.
fn shown_word(word: &str) -> &str {
    if may_be_key(word) { MASK } else { word }
}

/// The key and where it is from, as far as somebody gave it to this program. The config file's own comes after these.
fn api_key(file: Option<&str>, around: &Surroundings<'_>, typed: &mut Typed) -> Option<(Secret, String)> {
    let Some(file) = file else { return key_of_variables(&OWN_KEYS, around) };
    let text = match (around.read)(Path::new(file)) {
        Ok(text) => text,
        Err(cause) => {
            let problem = format!("{cause}; name a file that holds the key, not the key itself");
            typed.add(format!("--api-key-file '{}'", shown_word(file)), problem);
            return None;
        }
    };
    let key = Secret::new(&text);
    if key.is_empty() {
        typed.add(format!("--api-key-file '{file}'"), "holds no key; write the key into it");
    }
    Some((key, format!("file {file}")))
}

/// What is asked: the text itself, or what `@FILE` or standard input (`-`) holds, as it is.
fn prompt(flags: &Flags, around: &Surroundings<'_>, typed: &mut Typed) -> Option<Given<String>> {
    let text = flags.prompt.as_deref()?;
    let file = match text.strip_prefix('@') {
        Some(rest) if rest.starts_with('@') => {
            return Some(Given::new(rest.to_owned(), Origin::Flag("--prompt")));
        }
        Some(file) => file,
        None if text == "-" => "-",
        None => return Some(Given::new(text.to_owned(), Origin::Flag("--prompt"))),
    };
    let place = format!("--prompt '{text}'");
    let is_key = file == "-" && flags.api_key_file.as_deref() == Some("-");
    let read = match is_key {
        true => Err("standard input has the key already; name a file for one of them".to_owned()),
        false => (around.read)(Path::new(file)).map_err(|cause| {
            format!(
                "{cause}; name a file of text that can be read, or write @@ for a text that begins with @"
            )
        }),
    };
    match read {
        Ok(held) if held.is_empty() => typed.add(place, "holds no text; write the prompt into it"),
        Ok(held) => return Some(Given::new(held, Origin::Flag("--prompt"))),
        Err(problem) => typed.add(place, problem),
    }
    None
}

fn export_order(flags: ExportFlags, verbosity: u8) -> Result<Order, Error> {
    let mut mistakes = Vec::new();
    if flags.files.is_empty() {
        mistakes.push(Mistake::new("export", "name one or more results, record logs or folders of them"));
    }
    if flags.openmetrics.as_deref().is_none_or(str::is_empty) {
        let problem = "say where it goes: --openmetrics FILE, or --openmetrics - for standard output";
        mistakes.push(Mistake::new("export", problem));
    }
    if !mistakes.is_empty() {
        return Err(Error::Usage(mistakes));
    }
    Ok(Order::Export(ExportOrder {
        files: flags.files.into_iter().map(PathBuf::from).collect(),
        openmetrics: flags.openmetrics.filter(|file| file != "-").map(PathBuf::from),
        overwrite: flags.overwrite,
        verbosity: verbosity.max(flags.verbose),
    }))
}

/// Flags that name one file twice.
fn same_files(files: &[(&str, &Option<String>)]) -> Vec<Mistake> {
    let given = files.iter().filter_map(|(flag, file)| Some((*flag, file.as_deref()?)));
    let given: Vec<_> = given.map(|(flag, file)| (flag, file, resolved(Path::new(file)))).collect();
    let mut mistakes = Vec::new();
    for (number, (flag, file, place)) in given.iter().enumerate() {
        for (other, ..) in given[..number].iter().filter(|(.., other)| other == place) {
            let place = format!("{other} and {flag} '{file}'");
            mistakes.push(Mistake::new(place, "name two files; one would replace the other"));
        }
    }
    mistakes
}

/// Metrics by name, each once; several may stand in one word.
fn metrics(words: &[String], typed: &mut Typed) -> Vec<Metric> {
    let names = words.iter().flat_map(|word| word.split(',')).map(str::trim).filter(|name| !name.is_empty());
    let mut metrics = Vec::new();
    for name in names {
        match name.parse() {
            Ok(metric) if metrics.contains(&metric) => {}
            Ok(metric) => metrics.push(metric),
            Err(problem) => typed.add(format!("--metric '{name}'"), problem),
        }
    }
    metrics
}

fn simulate_order(flags: &Simulate, verbosity: u8, around: &Surroundings<'_>) -> Result<Order, Error> {
    let mut typed = Typed::default();
    let mut behavior = typed.simulator(flags);
    let key = flags.api_key_file.as_deref().and_then(|file| api_key(Some(file), around, &mut typed));
    behavior.api_key = key.map(|(key, _)| key.reveal().to_owned());
    let host =
        typed.parsed("--host", flags.host.as_ref(), "write an IP address, such as 127.0.0.1 or 0.0.0.0");
    let port = typed.parsed("--port", flags.port.as_ref(), "write a port from 0 to 65535");
    if let Err(problem) = behavior.check() {
        typed.add("simulate", problem);
    }
    if !typed.mistakes.is_empty() {
        return Err(Error::Usage(typed.mistakes));
    }
    let address = SocketAddr::new(host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port.unwrap_or(8000));
    Ok(Order::Simulate(Box::new(SimulateOrder {
        behavior,
        address,
        verbosity: verbosity.max(flags.verbose),
    })))
}

fn selftest_order(flags: Selftest, verbosity: u8) -> Result<Order, Error> {
    let mut typed = Typed::default();
    let settings = typed.selftest(&flags);
    if !typed.mistakes.is_empty() {
        return Err(Error::Usage(typed.mistakes));
    }
    Ok(Order::Selftest(Box::new(SelftestOrder {
        settings,
        output: flags.output.map(PathBuf::from),
        overwrite: flags.overwrite,
        quiet: flags.quiet,
        verbosity: verbosity.max(flags.verbose),
    })))
}
