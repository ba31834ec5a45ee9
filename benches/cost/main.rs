//! What `vllm-loadgen` costs beside a client that does the least that can be done (the floor).
//!
//! `scripts/bench.sh [CASE…] [--quick]` runs it. Server and clients are processes of their own: the server is the
//! simulator where tokens have a pace, and else one that replays the simulator's bytes and is faster than any client.

mod cases;
mod floor;
mod frame;
mod replay;
mod table;
mod trial;
mod weigh;

use std::io;
use std::process::ExitCode;

use cases::{CASES, Case};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["floor", address, threads, completions] => run_floor(address, threads, completions),
        ["replay"] => replay::run(),
        ["weigh", ..] => weigh::only_child(&std::env::args().skip(2).collect::<Vec<_>>()),
        // `cargo test --benches` is for finding out whether it starts
        _ if words.contains(&"--test") || !words.contains(&"--bench") => Ok(()),
        _ => bench(&words),
    };
    done.map_or_else(
        |error| {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn run_floor(address: &str, threads: &str, completions: &str) -> io::Result<()> {
    let address = address.parse().map_err(io::Error::other)?;
    let number = |word: &str| word.parse().map_err(io::Error::other);
    floor::run(address, number(threads)?, number(completions)?)
}

/// Turns of each case.
const TURNS: usize = 5;
const QUICK_TURNS: usize = 2;

fn bench(words: &[&str]) -> io::Result<()> {
    let turns = if words.contains(&"--quick") { QUICK_TURNS } else { TURNS };
    let wanted = wanted(words.iter().copied().filter(|word| !word.starts_with("--")))?;
    raise_open_files_limit();
    let folder = tempfile::tempdir()?;
    table::open(turns);
    for case in wanted {
        eprintln!("bench: {}", case.name);
        case.rows(turns, folder.path())?.iter().for_each(table::print);
    }
    table::close();
    Ok(())
}

/// The cases that are named; a word that names none stands for all that begin so. All, if there is no word.
fn wanted<'a>(words: impl Iterator<Item = &'a str>) -> io::Result<Vec<&'static Case>> {
    let mut wanted = Vec::new();
    for word in words {
        let is_exact = CASES.iter().any(|case| case.name == word);
        let is_meant = |case: &&Case| case.name == word || !is_exact && case.name.starts_with(word);
        let before = wanted.len();
        wanted.extend(CASES.iter().filter(is_meant));
        if wanted.len() == before {
            let names = CASES.iter().map(|case| case.name).collect::<Vec<_>>().join(", ");
            return Err(io::Error::other(format!("there is no case '{word}'; there are {names}")));
        }
    }
    Ok(if wanted.is_empty() { CASES.iter().collect() } else { wanted })
}

/// For this process and all that it starts: thousands of streams need as many sockets.
fn raise_open_files_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        eprintln!("bench: the limit on open files stays as it is: {error}");
    }
}
