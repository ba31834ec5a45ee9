//! When the phases of a run were, and what was received while its load was steady.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::record::{Phase, Record};

/// The time spans of a run, in seconds from the start of its first request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Windows {
    /// From the first start to the last end of the warm-up; `None` without one.
    pub warmup: Option<Window>,
    /// From the first start to the last end of the measured requests; `None` without any.
    pub measured: Option<Window>,
    /// From the first start to the last end of the cool-down; `None` without one.
    pub cooldown: Option<Window>,
    /// While the load was steady; `None` where it never was.
    pub steady: Option<Steady>,
}

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its beginning, s.
    pub from_s: f64,
    /// Its end, s.
    pub until_s: f64,
}

/// What was received from successful requests of any phase while the load was steady: from the later of the first
/// measured start and the moment when the load was up, to the last measured start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steady {
    /// Its beginning, s.
    pub from_s: f64,
    /// Its end, s.
    pub until_s: f64,
    /// Requests that ended in it ÷ its length.
    pub requests_per_s: f64,
    /// Output tokens received in it ÷ its length; `None` where a successful reply came without counts.
    pub output_tokens_per_s: Option<f64>,
}

/// When the load of a run is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Once so many requests have been started: a closed loop with as many threads.
    Started(u64),
    /// Once a request has ended well, whichever was the first to: arrivals at a rate, of which about rate × latency are under
    /// way from then on.
    FirstEnded,
}

/// Follows the phases and what is received, record by record.
#[derive(Debug)]
pub struct WindowTally {
    full: Full,
    full_at: Option<Moment>,
    warmup: Span,
    measured: Span,
    cooldown: Span,
    ended: Series,
    tokens: Series,
    misses_tokens: bool,
}

/// First and last start, and last end.
#[derive(Clone, Copy, Debug, Default)]
struct Span(Option<(Moment, Moment, Moment)>);

impl Span {
    fn add(&mut self, record: &Record) {
        let (started, ended) = (record.moments.started, record.moments.end);
        let (first, last, end) = self.0.unwrap_or((started, started, ended));
        self.0 = Some((first.min(started), last.max(started), end.max(ended)));
    }

    fn first_start(self) -> Option<Moment> {
        self.0.map(|(first, ..)| first)
    }

    fn window(self, origin: Moment) -> Option<Window> {
        let (first, _, end) = self.0?;
        Some(Window { from_s: seconds(first, origin), until_s: seconds(end, origin) })
    }
}

fn seconds(moment: Moment, origin: Moment) -> f64 {
    moment.since(origin).as_secs_f64()
}

impl WindowTally {
    /// Of a run whose load is up as `full` says.
    pub fn new(full: Full) -> Self {
        Self {
            full,
            full_at: None,
            warmup: Span::default(),
            measured: Span::default(),
            cooldown: Span::default(),
            ended: Series::default(),
            tokens: Series::default(),
            misses_tokens: false,
        }
    }

    /// Takes in a record of any phase.
    pub fn add(&mut self, record: &Record) {
        match record.phase {
            Phase::Warmup => self.warmup.add(record),
            Phase::Measured => self.measured.add(record),
            Phase::Cooldown => self.cooldown.add(record),
        }
        let (started, end) = (record.moments.started, record.moments.end);
        match self.full {
            // numbers follow the order of starts
            Full::Started(threads) if record.id < threads => self.full_at = self.full_at.max(Some(started)),
            // whichever it is: the first one sent may hang until the end of the run
            Full::FirstEnded if record.is_success() => {
                self.full_at = Some(self.full_at.map_or(end, |full| full.min(end)));
            }
            Full::Started(_) | Full::FirstEnded => {}
        }
        if record.is_success() {
            self.ended.add(end, 1.0);
            self.misses_tokens |= record.usage.output_tokens.is_none();
            record.token_arrivals().for_each(|(at, tokens)| self.tokens.add(at, tokens));
        }
    }

    /// When the first request started; `None` without any.
    pub fn origin(&self) -> Option<Moment> {
        [self.warmup, self.measured, self.cooldown].into_iter().filter_map(Span::first_start).min()
    }

    /// Output tokens received between the two; `None` where a successful reply came without counts.
    pub fn tokens(&self, from: Moment, until: Moment) -> Option<f64> {
        (!self.misses_tokens).then(|| self.tokens.sum(from, until))
    }

    /// What it comes to.
    pub fn windows(&self) -> Windows {
        let Some(origin) = self.origin() else { return Windows::default() };
        Windows {
            warmup: self.warmup.window(origin),
            measured: self.measured.window(origin),
            cooldown: self.cooldown.window(origin),
            steady: self.steady(origin),
        }
    }

    fn steady(&self, origin: Moment) -> Option<Steady> {
        let (first, last, _) = self.measured.0?;
        let from = first.max(self.full_at?);
        let length = last.since(from).as_secs_f64();
        if length <= 0.0 {
            return None;
        }
        let tokens = self.tokens.sum(from, last) / length;
        Some(Steady {
            from_s: seconds(from, origin),
            until_s: seconds(last, origin),
            requests_per_s: self.ended.sum(from, last) / length,
            output_tokens_per_s: (!self.misses_tokens).then_some(tokens),
        })
    }
}

/// Amounts over time, in bins that double their width when there are too many of them: its size is bounded, and its
/// edges are true to a 32,768th of the time that it spans.
#[derive(Debug)]
struct Series {
    width: u64,
    /// Number of the first bin, counted from the origin of moments.
    first: u64,
    bins: VecDeque<f64>,
}

/// Most bins of a series.
const MAX_BINS: usize = 1 << 16;
/// Width of its bins at first.
const MIN_WIDTH: Duration = Duration::from_micros(100);

impl Default for Series {
    fn default() -> Self {
        Self { width: MIN_WIDTH.as_nanos() as u64, first: 0, bins: VecDeque::new() }
    }
}

impl Series {
    fn add(&mut self, at: Moment, amount: f64) {
        loop {
            let bin = at.as_nanos() / self.width;
            if self.bins.is_empty() {
                self.first = bin;
            }
            let last = (self.first + self.bins.len() as u64).max(bin + 1);
            if last - self.first.min(bin) > MAX_BINS as u64 {
                self.coarsen();
                continue;
            }
            while self.first > bin {
                self.bins.push_front(0.0);
                self.first -= 1;
            }
            let index = (bin - self.first) as usize;
            if index >= self.bins.len() {
                self.bins.resize(index + 1, 0.0);
            }
            self.bins[index] += amount;
            return;
        }
    }

    fn coarsen(&mut self) {
        let first = self.first / 2;
        let mut bins = VecDeque::with_capacity(self.bins.len() / 2 + 1);
        for (index, amount) in self.bins.iter().enumerate() {
            let bin = ((self.first + index as u64) / 2 - first) as usize;
            if bin >= bins.len() {
                bins.push_back(0.0);
            }
            bins[bin] += amount;
        }
        (self.width, self.first, self.bins) = (self.width * 2, first, bins);
    }

    /// What came from `from` up to `until`; a bin that an edge cuts counts by its share.
    fn sum(&self, from: Moment, until: Moment) -> f64 {
        let (from, until) = (from.as_nanos(), until.as_nanos());
        let share = |(index, amount): (usize, &f64)| {
            let begin = (self.first + index as u64) * self.width;
            let covered = until.min(begin.saturating_add(self.width)).saturating_sub(from.max(begin));
            amount * (covered as f64 / self.width as f64)
        };
        let skipped = usize::try_from((from / self.width).saturating_sub(self.first)).unwrap_or(usize::MAX);
        let bins = self.bins.iter().enumerate().skip(skipped);
        let within = bins.take_while(|(index, _)| (self.first + *index as u64) * self.width < until);
        within.map(share).fold(0.0, |sum, share| sum + share)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_series_adds_up_between_any_two_moments() {
        let mut series = Series::default();
        for ms in [5_000, 1, 2_000] {
            series.add(at(ms), 2.0);
        }
        assert_eq!(series.sum(at(0), at(10_000)), 6.0);
        assert_eq!(series.sum(at(1_999), at(2_001)), 2.0);
        assert_eq!(series.sum(at(2_001), at(4_999)), 0.0);
        assert_eq!(series.sum(at(9), at(3)), 0.0);
    }

    proptest! {
        #[test]
        fn a_series_loses_nothing_and_stays_small(times in proptest::collection::vec(0_u64..100_000_000_000_000, 1..300)) {
            let mut series = Series::default();
            times.iter().for_each(|nanos| series.add(Moment::from_nanos(*nanos), 1.0));
            prop_assert!(series.bins.len() <= MAX_BINS);
            let all = series.sum(Moment::default(), Moment::from_nanos(u64::MAX / 2));
            prop_assert!((all - times.len() as f64).abs() < 1e-6);
        }
    }
}
