//! The cases, their goals, and how each is measured. Floor and ours take turns, so that both meet the same weather.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::replay::span;
use crate::trial::{Server, first_request, floor, ours, simulator};
use crate::weigh::Used;

/// One line of the table.
pub struct Row {
    pub case: &'static str,
    pub measure: &'static str,
    pub digits: usize,
    /// Medians; a floor of `None` where there is none to compare with.
    pub floor: Option<f64>,
    pub ours: f64,
    pub goal: Goal,
}

#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtMostTimes(f64),
    AtLeastTimes(f64),
    /// Measured for its own sake.
    Free,
}

/// A case: its name, and what it takes to measure it.
pub struct Case {
    pub name: &'static str,
    kind: Kind,
}

enum Kind {
    /// Streams at a pace: CPU a token, peak memory.
    Paced { streams: u64, completions: u64, itl: &'static str, cpu: Goal, memory: Goal },
    /// Streams as fast as they go.
    FlatOut { streams: u64, completions: u64 },
    /// Small replies that are not streamed.
    Small { threads: u64, completions: u64 },
    /// An open loop of small replies.
    Rate { per_second: u64, completions: u64 },
    /// From launch to the first request; plain: model and metrics are asked for first.
    Launch { is_plain: bool },
}

/// Tokens of a paced stream.
const TOKENS: u64 = 128;
/// Tokens of a stream that is flat out.
const MANY_TOKENS: u64 = 256;

const fn paced(streams: u64, completions: u64, itl: &'static str, cpu: Goal, memory: Goal) -> Kind {
    Kind::Paced { streams, completions, itl, cpu, memory }
}

pub const CASES: [Case; 11] = [
    Case { name: "stream-20", kind: paced(20, 200, "10ms", Goal::AtMostTimes(1.5), Goal::Free) },
    Case { name: "stream-200", kind: paced(200, 1_000, "20ms", Goal::AtMostTimes(1.5), Goal::AtMost(40.0)) },
    Case {
        name: "stream-1000",
        kind: paced(1_000, 2_000, "50ms", Goal::AtMostTimes(1.5), Goal::AtMost(120.0)),
    },
    Case { name: "stream-4000", kind: paced(4_000, 4_000, "100ms", Goal::Free, Goal::AtMost(450.0)) },
    Case { name: "flat-out", kind: Kind::FlatOut { streams: 64, completions: 20_000 } },
    Case { name: "small-20", kind: Kind::Small { threads: 20, completions: 100_000 } },
    Case { name: "small-64", kind: Kind::Small { threads: 64, completions: 100_000 } },
    Case { name: "rate-1000", kind: Kind::Rate { per_second: 1_000, completions: 4_000 } },
    Case { name: "rate-10000", kind: Kind::Rate { per_second: 10_000, completions: 40_000 } },
    Case { name: "launch", kind: Kind::Launch { is_plain: false } },
    Case { name: "launch-plain", kind: Kind::Launch { is_plain: true } },
];

/// Launches in one turn: each takes a few milliseconds only.
const LAUNCHES: usize = 8;

impl Case {
    /// Measures it in so many turns.
    pub fn rows(&self, turns: usize, folder: &Path) -> io::Result<Vec<Row>> {
        let case = self.name;
        match self.kind {
            Kind::Paced { streams, completions, itl, cpu, memory } => {
                let words = Words::streamed(streams, completions, TOKENS);
                let server = Server::simulator("50ms", itl)?;
                let pair = Pair { address: server.address, streams, completions, words, folder };
                let trials = pair.take_turns(turns, Ok)?;
                let tokens = (completions * TOKENS) as f64;
                let per_token = |used: &Used| used.cpu.as_secs_f64() * 1e6 / tokens;
                let megabytes = |used: &Used| used.peak_rss_bytes as f64 / 1e6;
                Ok(vec![
                    trials.row(case, "CPU µs/token", 2, per_token, cpu),
                    trials.row(case, "peak memory MB", 1, megabytes, memory),
                ])
            }
            Kind::FlatOut { streams, completions } => {
                let words = Words::streamed(streams, completions, MANY_TOKENS);
                let rate = |replies: f64| replies * MANY_TOKENS as f64 / 1e6;
                let measure = "million tokens/s";
                drained(case, measure, (streams, completions), words, (turns, folder), rate, 0.35)
            }
            Kind::Small { threads, completions } => {
                let words = Words::whole(&[("--threads", threads), ("--completions", completions)]);
                let rate = |replies: f64| replies / 1e3;
                let measure = "thousand requests/s";
                drained(case, measure, (threads, completions), words, (turns, folder), rate, 0.6)
            }
            Kind::Rate { per_second, completions } => {
                let mut words =
                    Words::whole(&[("--request-rate", per_second), ("--completions", completions)]);
                words.add(&["--arrival", "constant"]);
                let server = Server::replay(&words.request()?)?;
                let reports: io::Result<Vec<_>> =
                    (0..turns).map(|_| Ok(ours(server.address, &words.all(), folder)?.1)).collect();
                let reports = reports?;
                let lag = |quantile: &str| {
                    let lags =
                        reports.iter().filter_map(|r| r["summary"]["latency"]["lag_ms"][quantile].as_f64());
                    median(lags.collect())
                };
                let row = |measure, ours, goal| Row { case, measure, digits: 3, floor: None, ours, goal };
                Ok(vec![
                    row("lag p50 ms", lag("p50"), Goal::Free),
                    row("lag p99 ms", lag("p99"), Goal::AtMost(0.3)),
                ])
            }
            Kind::Launch { is_plain } => {
                let simulator = simulator()?;
                let times: io::Result<Vec<_>> = (0..turns * LAUNCHES)
                    .map(|_| Ok(first_request(&simulator, &[], is_plain)?.0.as_secs_f64() * 1e3))
                    .collect();
                let (measure, ours) = ("ms to first request", median(times?));
                Ok(vec![Row { case, measure, digits: 1, floor: None, ours, goal: Goal::AtMost(20.0) }])
            }
        }
    }
}

/// Replies a second by the server's own clock, and the CPU time of each.
fn drained(
    case: &'static str,
    measure: &'static str,
    (streams, completions): (u64, u64),
    words: Words,
    (turns, folder): (usize, &Path),
    rate: impl Fn(f64) -> f64,
    goal: f64,
) -> io::Result<Vec<Row>> {
    let server = Server::replay(&words.request()?)?;
    let address = server.address;
    let pair = Pair { address, streams, completions, words, folder };
    let trials = pair.take_turns(turns, |used| {
        let (replies, took) = span(address)?;
        if replies != completions {
            return Err(io::Error::other(format!("{replies} replies instead of {completions}")));
        }
        Ok((used, replies as f64 / took.as_secs_f64()))
    })?;
    let cpu = |(used, _): &(Used, f64)| used.cpu.as_secs_f64() * 1e6 / completions as f64;
    Ok(vec![
        trials.row(case, measure, 2, |(_, replies)| rate(*replies), Goal::AtLeastTimes(goal)),
        trials.row(case, "CPU µs/request", 2, cpu, Goal::Free),
    ])
}

/// Floor and ours on the same server with the same request.
struct Pair<'a> {
    address: SocketAddr,
    streams: u64,
    completions: u64,
    words: Words,
    folder: &'a Path,
}

struct Trials<T> {
    floor: Vec<T>,
    ours: Vec<T>,
}

impl Pair<'_> {
    fn take_turns<T>(&self, turns: usize, look: impl Fn(Used) -> io::Result<T>) -> io::Result<Trials<T>> {
        let request = self.words.request()?;
        let mut trials = Trials { floor: Vec::new(), ours: Vec::new() };
        for _ in 0..turns {
            trials.floor.push(look(floor(self.address, self.streams, self.completions, &request)?)?);
            trials.ours.push(look(ours(self.address, &self.words.all(), self.folder)?.0)?);
        }
        Ok(trials)
    }
}

impl<T> Trials<T> {
    fn row(
        &self,
        case: &'static str,
        measure: &'static str,
        digits: usize,
        value: impl Fn(&T) -> f64,
        goal: Goal,
    ) -> Row {
        let median_of = |all: &[T]| median(all.iter().map(&value).collect());
        Row { case, measure, digits, floor: Some(median_of(&self.floor)), ours: median_of(&self.ours), goal }
    }
}

/// The middle one, or the mean of the two in the middle; NaN of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    values.get(low).zip(values.get(high)).map_or(f64::NAN, |(a, b)| f64::midpoint(*a, *b))
}

/// The words of a run of ours.
struct Words(Vec<String>);

impl Words {
    fn new(numbers: &[(&str, u64)]) -> Self {
        Self(numbers.iter().flat_map(|(flag, n)| [(*flag).to_owned(), n.to_string()]).collect())
    }

    fn streamed(threads: u64, completions: u64, tokens: u64) -> Self {
        Self::new(&[("--threads", threads), ("--completions", completions), ("--max-tokens", tokens)])
    }

    /// Replies of one token, not streamed.
    fn whole(numbers: &[(&str, u64)]) -> Self {
        let mut words = Self::new(numbers);
        words.add(&["--no-stream", "--max-tokens", "1"]);
        words
    }

    fn add(&mut self, more: &[&str]) {
        self.0.extend(more.iter().map(|word| (*word).to_owned()));
    }

    fn all(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    /// The bytes that ours sends when it is told so.
    fn request(&self) -> io::Result<Vec<u8>> {
        Ok(first_request(&simulator()?, &self.all(), false)?.1)
    }
}
