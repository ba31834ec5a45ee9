//! The rate over time: steady, growing, in stages, or everything at once; and when so many requests are expected.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{
    Level, Rate, as_seconds, from_seconds, parse_duration, parse_level, parse_rate, significant,
};

/// The rate at which requests arrive, over time.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// One rate without end.
    Steady(Rate),
    /// A rate that changes evenly.
    Ramp(Ramp),
    /// One rate after another. The schedule ends with the last of them.
    Stages(Vec<Stage>),
    /// Every request is due at the start.
    AtOnce,
}

/// A rate that changes evenly from one to another. Not both are 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    /// Requests per second at its start.
    #[serde(rename = "from_per_s")]
    pub from: Level,
    /// Requests per second at its end.
    #[serde(rename = "to_per_s")]
    pub to: Level,
    /// How long it takes.
    #[serde(rename = "duration_s", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub duration: Duration,
    /// Whether requests go on arriving at the rate it has reached; else the schedule ends with it.
    pub holds: bool,
}

/// A rate for a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Requests per second; 0 is a pause.
    #[serde(rename = "rate_per_s")]
    pub rate: Level,
    /// How long.
    #[serde(rename = "duration_s", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub duration: Duration,
}

const RAMP: &str = "a ramp is FROM:TO:TIME, such as 1:50:60s";
const STAGES: &str = "stages are RATE:TIME with commas between, such as 10:30s,20:30s";

impl Shape {
    /// Reads a steady rate such as `12.5`, or `inf` for everything at once.
    ///
    /// # Errors
    /// Says what is wrong and how to write it, without the value itself.
    pub fn parse_rate(text: &str) -> Result<Self, String> {
        match text.trim() {
            "inf" => Ok(Self::AtOnce),
            rate => parse_rate(rate).map(Self::Steady).map_err(|problem| format!("{problem}, or inf")),
        }
    }

    /// Reads a ramp that holds the rate it has reached, such as `1:50:60s`.
    ///
    /// # Errors
    /// Says what is wrong and how to write it.
    pub fn parse_ramp(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split(':').map(str::trim).collect();
        let [from, to, duration] = parts[..] else { return Err(format!("not a ramp; {RAMP}")) };
        let (from, to, duration) = (level(from, RAMP)?, level(to, RAMP)?, length(duration, RAMP)?);
        if from.is_zero() && to.is_zero() {
            return Err(format!("both rates are 0, so that nothing would be sent; {RAMP}"));
        }
        Ok(Self::Ramp(Ramp { from, to, duration, holds: true }))
    }

    /// Reads stages such as `10:30s,20:30s`.
    ///
    /// # Errors
    /// Says what is wrong and how to write it.
    pub fn parse_stages(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let stages = parts.map(stage).collect::<Result<Vec<_>, _>>()?;
        if stages.is_empty() {
            return Err(format!("names no stage; {STAGES}"));
        }
        if stages.iter().all(|stage| stage.rate.is_zero()) {
            let problem = "no stage has a rate above 0, so that nothing would be sent";
            return Err(format!("{problem}; {STAGES}"));
        }
        Ok(Self::Stages(stages))
    }

    /// The same, and a ramp ends the schedule.
    #[must_use]
    pub fn ending_by_itself(self) -> Self {
        match self {
            Self::Ramp(ramp) => Self::Ramp(Ramp { holds: false, ..ramp }),
            other => other,
        }
    }

    /// The rate of a steady shape, per second; `None` for any other.
    pub fn steady(&self) -> Option<f64> {
        match self {
            Self::Steady(rate) => Some(rate.per_second()),
            Self::Ramp(_) | Self::Stages(_) | Self::AtOnce => None,
        }
    }

    /// The highest rate there is, per second; infinite where everything comes at once.
    pub fn peak(&self) -> f64 {
        match self {
            Self::Steady(rate) => rate.per_second(),
            Self::Ramp(ramp) => ramp.from.per_second().max(ramp.to.per_second()),
            Self::Stages(stages) => stages.iter().map(|stage| stage.rate.per_second()).fold(0.0, f64::max),
            Self::AtOnce => f64::INFINITY,
        }
    }

    /// When the schedule ends by itself, from the start of the run; `None` if it does not.
    pub fn end(&self) -> Option<Duration> {
        match self {
            Self::Ramp(ramp) => (!ramp.holds).then_some(ramp.duration),
            Self::Stages(stages) => Some(stages.iter().map(|stage| stage.duration).sum()),
            Self::Steady(_) | Self::AtOnce => None,
        }
    }

    /// The shape, to be walked along.
    pub(super) fn timeline(&self) -> Timeline {
        let pieces = match self {
            Self::Steady(rate) => vec![Piece::flat(rate.per_second(), None)],
            Self::AtOnce => vec![Piece::flat(f64::INFINITY, None)],
            Self::Stages(stages) => stages
                .iter()
                .map(|stage| Piece::flat(stage.rate.per_second(), Some(stage.duration)))
                .collect(),
            Self::Ramp(ramp) => {
                let (from, to) = (ramp.from.per_second(), ramp.to.per_second());
                let rise = Piece { from, to, duration: Some(ramp.duration) };
                let plateau = ramp.holds.then(|| Piece::flat(to, None));
                std::iter::once(rise).chain(plateau).collect()
            }
        };
        Timeline { pieces, current: 0, began: Duration::ZERO, before: 0.0 }
    }
}

fn stage(text: &str) -> Result<Stage, String> {
    let Some((rate, duration)) = text.split_once(':') else {
        return Err(format!("'{text}' is no stage; {STAGES}"));
    };
    Ok(Stage { rate: level(rate, STAGES)?, duration: length(duration, STAGES)? })
}

fn level(text: &str, help: &str) -> Result<Level, String> {
    let text = text.trim();
    parse_level(text).map_err(|problem| format!("'{text}' is {problem}; {help}"))
}

fn length(text: &str, help: &str) -> Result<Duration, String> {
    let text = text.trim();
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err(format!("'{text}' is no time at all; write a duration above 0; {help}")),
        Ok(duration) => Ok(duration),
        Err(problem) => Err(format!("'{text}' is {problem}; {help}")),
    }
}

/// More stages than these are told by their bounds.
const MANY_STAGES: usize = 6;

/// Rates and times are shown as they were written, not to three digits.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steady(rate) => write!(f, "{} requests/s", significant(rate.per_second())),
            Self::AtOnce => f.write_str("all requests at once"),
            Self::Ramp(Ramp { from, to, duration, holds }) => {
                write!(f, "from {from} to {to} requests/s over {} s", duration.as_secs_f64())?;
                if *holds { write!(f, " and on at {to}") } else { Ok(()) }
            }
            Self::Stages(stages) if stages.len() > MANY_STAGES => {
                let rates = stages.iter().map(|stage| stage.rate.per_second());
                let (least, most) = (rates.fold(f64::INFINITY, f64::min), self.peak());
                let length = self.end().unwrap_or_default().as_secs_f64();
                write!(f, "{} stages of {least} to {most} requests/s over {length} s", stages.len())
            }
            Self::Stages(stages) => {
                for (number, Stage { rate, duration }) in stages.iter().enumerate() {
                    let (comma, unit) = if number == 0 { ("", " requests/s") } else { (", ", "") };
                    write!(f, "{comma}{rate}{unit} for {} s", duration.as_secs_f64())?;
                }
                Ok(())
            }
        }
    }
}

/// A part of a shape, in which the rate is a straight line.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: f64,
    to: f64,
    /// `None`: without end.
    duration: Option<Duration>,
}

impl Piece {
    fn flat(rate: f64, duration: Option<Duration>) -> Self {
        Self { from: rate, to: rate, duration }
    }

    /// Requests expected by its end.
    fn expected(self, duration: Duration) -> f64 {
        (self.from + self.to) / 2.0 * duration.as_secs_f64()
    }

    /// When `count` requests are expected, from its start; `None` where that is never.
    fn reaches(self, count: f64) -> Option<Duration> {
        let seconds = match self.duration {
            // count = from·t + slope·t²÷2, solved so that nothing cancels when the slope is small
            Some(duration) if self.from != self.to && count > 0.0 => {
                let slope = (self.to - self.from) / duration.as_secs_f64();
                let square = self.from * self.from + 2.0 * slope * count;
                2.0 * count / (self.from + square.max(0.0).sqrt())
            }
            Some(_) if self.from != self.to => 0.0,
            // infinite or no number in a pause
            _ => count / self.from,
        };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// A shape walked along, piece after piece.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    pieces: Vec<Piece>,
    current: usize,
    /// When the current piece begins.
    began: Duration,
    /// Requests expected before it.
    before: f64,
}

impl Timeline {
    /// When `count` requests are expected; of all such moments the last, so that none falls into a pause. `None` after
    /// the end. Counts must not fall from call to call.
    ///
    /// A moment that the clock could not tell from a piece's end belongs to the next one: so the doubles' last digits
    /// neither add a request nor put one into a pause.
    pub(super) fn at(&mut self, count: f64) -> Option<Duration> {
        loop {
            let piece = *self.pieces.get(self.current)?;
            let within = piece.reaches((count - self.before).max(0.0));
            let Some(duration) = piece.duration else { return self.began.checked_add(within?) };
            if let Some(within) = within.filter(|within| *within < duration) {
                return Some(self.began + within);
            }
            self.before += piece.expected(duration);
            self.began += duration;
            self.current += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(parsed: Result<Shape, String>, want: &str) {
        assert_eq!(parsed.expect_err(want), want);
    }

    #[test]
    fn bad_ramps_come_with_advice() {
        let ramp = Shape::parse_ramp;
        for text in ["", "5", "1:50", "1:50:60s:2"] {
            refused(ramp(text), "not a ramp; a ramp is FROM:TO:TIME, such as 1:50:60s");
        }
        refused(
            ramp("1:x:3s"),
            "'x' is not a rate; write requests per second, a number from 0 up such as 12.5; \
             a ramp is FROM:TO:TIME, such as 1:50:60s",
        );
        refused(
            ramp("1:5:0s"),
            "'0s' is no time at all; write a duration above 0; a ramp is FROM:TO:TIME, such as 1:50:60s",
        );
        refused(
            ramp("0:0:3s"),
            "both rates are 0, so that nothing would be sent; a ramp is FROM:TO:TIME, such as 1:50:60s",
        );
        assert!(ramp("-1:5:3s").is_err() && ramp("1:inf:3s").is_err() && ramp("1:5:soon").is_err());
    }

    #[test]
    fn bad_stages_come_with_advice() {
        let stages = Shape::parse_stages;
        let help = "stages are RATE:TIME with commas between, such as 10:30s,20:30s";
        refused(stages("10"), &format!("'10' is no stage; {help}"));
        refused(stages("10:30s,20"), &format!("'20' is no stage; {help}"));
        refused(stages(" , "), &format!("names no stage; {help}"));
        refused(
            stages("0:30s,0:5s"),
            &format!("no stage has a rate above 0, so that nothing would be sent; {help}"),
        );
        refused(stages("5:0s"), &format!("'0s' is no time at all; write a duration above 0; {help}"));
        refused(
            stages("5:soon"),
            &format!(
                "'soon' is not a duration; write a number and a unit, such as 250ms, 30s, 5m or 1h; {help}"
            ),
        );
        assert!(stages("fast:3s").is_err() && stages("-1:3s").is_err() && stages("1:2:3s").is_err());
    }

    #[test]
    fn a_rate_may_be_infinite() {
        assert_eq!(Shape::parse_rate(" inf "), Ok(Shape::AtOnce));
        refused(
            Shape::parse_rate("0"),
            "not a rate; write requests per second, a number above 0 such as 12.5, or inf",
        );
    }
}
