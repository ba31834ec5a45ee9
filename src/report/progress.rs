//! The live line on standard error: redrawn on a terminal; elsewhere a plain line now and then.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::Moment;
use crate::plan::Load;
use crate::record::{Pulse, Record, Sink};
use crate::summary::Tally;
use crate::units::{show_count, show_duration, significant};

/// Shows how a run goes on.
pub struct Progress {
    load: Load,
    tally: Tally,
    shown: Shown,
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
        Self { load, tally: Tally::default(), shown }
    }

    /// Clears the line for the report.
    pub fn finish(self) {
        if let Shown::Terminal(bar) = self.shown {
            bar.finish_and_clear();
        }
    }

    fn line(&self, pulse: &Pulse) -> String {
        let (ok, failed) = self.tally.ended();
        let done = ok + failed;
        if done == 0 {
            let warmed = self.tally.warmed();
            let phase = if warmed < self.load.warmup { "warming up" } else { "waiting for the first reply" };
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
        let mut kinds: Vec<_> = self.tally.failures().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let shown = kinds.iter().take(3).map(|(kind, count)| format!(", {count} {kind}"));
        format!("{} ok{}", show_count(ok), shown.collect::<String>())
    }

    fn rates(&self, pulse: &Pulse, ok: u64) -> Option<String> {
        let seconds = pulse.now.since(self.tally.measured_from()?).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let requests = significant(ok as f64 / seconds);
        Some(match self.tally.output_tokens() {
            Some(tokens) => format!("{requests} req/s · {} tok/s", significant(tokens as f64 / seconds)),
            None => format!("{requests} req/s"),
        })
    }

    fn ttft(&self) -> Option<String> {
        let at = |percentile| self.tally.ttft_so_far(percentile).map(show_duration);
        Some(format!("TTFT p50 {} p99 {}", at(50.0)?, at(99.0)?))
    }

    /// By completions or by time, whichever ends the run first.
    fn time_left(&self, pulse: &Pulse, done: u64) -> Option<String> {
        let elapsed = pulse.now.since(self.tally.measured_from()?);
        let by_count = self.load.completions.and_then(|all| {
            let rest = all.get().saturating_sub(done) as f64 / done as f64;
            Duration::try_from_secs_f64(elapsed.as_secs_f64() * rest).ok()
        });
        let by_time = self.load.duration.map(|duration| duration.saturating_sub(elapsed));
        let left = by_count.into_iter().chain(by_time).min()?;
        Some(format!("{} left", show_duration(Duration::from_secs(left.as_secs_f64().round() as u64))))
    }
}

impl Sink for Progress {
    fn record(&mut self, record: &Record) {
        if !matches!(self.shown, Shown::Quiet) {
            self.tally.record(record);
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
