//! The live line on standard error: redrawn on a terminal; elsewhere a plain line now and then.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::Moment;
use crate::failure::FailureKind;
use crate::plan::{Extent, Load};
use crate::record::{Phase, Pulse, Record, Sink};
use crate::summary::Samples;
use crate::units::{show_count, show_duration, significant};

/// Shows how a run goes on.
pub struct Progress {
    load: Load,
    seen: Seen,
    shown: Shown,
}

/// The little that the line tells of the records so far; the report has a tally of its own.
struct Seen {
    warmed: u64,
    succeeded: u64,
    failed: BTreeMap<FailureKind, u64>,
    measured_from: Option<Moment>,
    output_tokens: Option<u64>,
    ttft_us: Samples,
}

impl Seen {
    fn new() -> Self {
        Self {
            warmed: 0,
            succeeded: 0,
            failed: BTreeMap::new(),
            measured_from: None,
            output_tokens: None,
            ttft_us: Samples::rough(1),
        }
    }

    fn note(&mut self, record: &Record) {
        if !record.was_started() {
            return;
        }
        if record.phase != Phase::Measured {
            self.warmed += u64::from(record.phase == Phase::Warmup);
            return;
        }
        let started = record.moments.started;
        self.measured_from = Some(self.measured_from.map_or(started, |from| from.min(started)));
        if let Some(failure) = record.failure() {
            *self.failed.entry(failure.kind).or_default() += 1;
            return;
        }
        self.succeeded += 1;
        if let Some(tokens) = record.usage.output_tokens {
            self.output_tokens = Some(self.output_tokens.unwrap_or_default().saturating_add(tokens));
        }
        if let Some(ttft) = record.ttft() {
            self.ttft_us.add(u64::try_from(ttft.as_micros()).unwrap_or(u64::MAX));
        }
    }

    fn ended(&self) -> u64 {
        self.succeeded + self.failed.values().sum::<u64>()
    }
}

enum Shown {
    /// One line, redrawn.
    Terminal(ProgressBar),
    /// Plain lines, the next one due at this moment.
    Plain(Option<Moment>),
    /// Nothing.
    Quiet,
}

/// Time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    /// The progress of a run of this load; `quiet` shows nothing.
    pub fn new(load: Load, quiet: bool) -> Self {
        let target = ProgressDrawTarget::stderr();
        let shown = if quiet {
            Shown::Quiet
        } else if target.is_hidden() {
            Shown::Plain(None)
        } else {
            let style = ProgressStyle::with_template("{wide_msg}").expect("the template is ours");
            Shown::Terminal(ProgressBar::with_draw_target(None, target).with_style(style))
        };
        Self { load, seen: Seen::new(), shown }
    }

    /// Clears the line for the report.
    pub fn finish(self) {
        if let Shown::Terminal(bar) = self.shown {
            bar.finish_and_clear();
        }
    }

    fn line(&self, pulse: &Pulse) -> String {
        let (ok, done) = (self.seen.succeeded, self.seen.ended());
        if done == 0 {
            let warmed = self.seen.warmed;
            let is_warming_up = match self.load.warmup {
                Extent::Requests(requests) => warmed < requests,
                Extent::Time(time) => pulse.now.since(pulse.began) < time,
            };
            let phase = if is_warming_up { "warming up" } else { "waiting for the first reply" };
            let elapsed = show_duration(pulse.now.since(pulse.began));
            return format!(
                "{phase}: {} ended, {} in flight, {elapsed}",
                show_count(warmed),
                pulse.in_flight
            );
        }
        let mut parts = vec![match self.load.completions {
            Some(all) => format!("{}/{} done", show_count(done), show_count(all.get())),
            None => format!("{} done", show_count(done)),
        }];
        parts.push(format!("{} in flight", show_count(pulse.in_flight)));
        parts.push(self.failures(ok));
        parts.extend(self.rates(pulse, ok));
        parts.extend(self.ttft());
        parts.extend(self.time_left(pulse, done));
        parts.join(" · ")
    }

    fn failures(&self, ok: u64) -> String {
        let mut kinds: Vec<_> = self.seen.failed.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let shown = kinds.iter().take(3).map(|(kind, count)| format!(", {count} {kind}"));
        format!("{} ok{}", show_count(ok), shown.collect::<String>())
    }

    fn rates(&self, pulse: &Pulse, ok: u64) -> Option<String> {
        let seconds = pulse.now.since(self.seen.measured_from?).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let requests = significant(ok as f64 / seconds);
        Some(match self.seen.output_tokens {
            Some(tokens) => format!("{requests} req/s · {} tok/s", significant(tokens as f64 / seconds)),
            None => format!("{requests} req/s"),
        })
    }

    fn ttft(&self) -> Option<String> {
        let at = |percentile| {
            let us = self.seen.ttft_us.rough_percentile(percentile)?;
            Some(show_duration(Duration::from_micros(us)))
        };
        Some(format!("TTFT p50 {} p99 {}", at(50.0)?, at(99.0)?))
    }

    /// By completions or by time, whichever ends the run first.
    fn time_left(&self, pulse: &Pulse, done: u64) -> Option<String> {
        let elapsed = pulse.now.since(self.seen.measured_from?);
        let by_count = self.load.completions.and_then(|all| {
            let rest = all.get().saturating_sub(done) as f64 / done as f64;
            Duration::try_from_secs_f64(elapsed.as_secs_f64() * rest).ok()
        });
        let by_time = self.load.time_limit().map(|duration| duration.saturating_sub(elapsed));
        let left = by_count.into_iter().chain(by_time).min()?;
        Some(format!("{} left", show_duration(Duration::from_secs(left.as_secs_f64().round() as u64))))
    }
}

impl Sink for Progress {
    fn record(&mut self, record: &Record) {
        if !matches!(self.shown, Shown::Quiet) {
            self.seen.note(record);
        }
    }

    fn pulse(&mut self, pulse: &Pulse) {
        let line = match &self.shown {
            Shown::Quiet => return,
            Shown::Terminal(_) => self.line(pulse),
            Shown::Plain(due) if due.is_some_and(|due| pulse.now >= due) => self.line(pulse),
            Shown::Plain(_) => String::new(),
        };
        match &mut self.shown {
            Shown::Terminal(bar) => bar.set_message(line),
            Shown::Plain(due) => {
                if !line.is_empty() {
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
                if due.is_none_or(|due| pulse.now >= due) {
                    *due = Some(pulse.now + PLAIN_EVERY);
                }
            }
            Shown::Quiet => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::{NonZeroU64, NonZeroUsize};

    fn progress() -> Progress {
        let threads = NonZeroUsize::new(4).expect("4");
        let load = Load {
            threads,
            arrivals: None,
            completions: NonZeroU64::new(10),
            duration: None,
            warmup: Extent::Requests(2),
            cooldown: Extent::NONE,
            grace: None,
        };
        Progress::new(load, true)
    }

    fn pulse(ms: u64) -> Pulse {
        Pulse {
            now: Moment::from_nanos(ms * 1_000_000),
            began: Moment::default(),
            in_flight: 4,
            oldest: None,
            token_events: 0,
        }
    }

    #[test]
    fn the_line_says_what_it_waits_for() {
        assert_eq!(progress().line(&pulse(1_500)), "warming up: 0 ended, 4 in flight, 1.50 s");
    }

    #[test]
    fn the_line_tells_counts_rates_and_the_time_left() {
        let mut progress = progress();
        progress.seen.succeeded = 4;
        progress.seen.failed.insert(FailureKind::Http(503), 1);
        progress.seen.measured_from = Some(Moment::default());
        progress.seen.output_tokens = Some(400);
        progress.seen.ttft_us.add(50_000);
        let want = "5/10 done · 4 in flight · 4 ok, 1 http_503 · 2.00 req/s · 200 tok/s · \
                    TTFT p50 50.0 ms p99 50.0 ms · 2.00 s left";
        assert_eq!(progress.line(&pulse(2_000)), want);
    }
}
