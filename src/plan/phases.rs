//! Warm-up, what counts, cool-down: which of them a request belongs to, and when the last of them is over.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Load;
use crate::record::Phase;
use crate::units::{as_seconds, from_seconds, parse_duration, show_count, show_duration};

/// How long a warm-up or cool-down is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// So many requests.
    #[serde(rename = "requests")]
    Requests(u64),
    /// Those that start within this time of the first of them; at a rate, that are due within this time of the phase's beginning.
    #[serde(rename = "duration_s", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    Time(Duration),
}

impl Extent {
    /// None at all.
    pub const NONE: Self = Self::Requests(0);

    /// Reads a number of requests such as `20`, or a time such as `30s`.
    ///
    /// # Errors
    /// Says what is wrong and how to write it, without the value itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(requests) = text.parse() {
            return Ok(Self::Requests(requests));
        }
        let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
        let time = parse_duration(text).ok().filter(|_| has_unit);
        time.map(Self::Time).ok_or_else(|| {
            "neither a number of requests nor a time; write such as 20, or 30s with its unit".to_owned()
        })
    }

    /// Whether there is nothing in it.
    pub fn is_none(self) -> bool {
        matches!(self, Self::Requests(0) | Self::Time(Duration::ZERO))
    }

    fn requests(self) -> Option<u64> {
        match self {
            Self::Requests(requests) => Some(requests),
            Self::Time(_) => None,
        }
    }

    fn time(self) -> Option<Duration> {
        match self {
            Self::Requests(_) => None,
            Self::Time(time) => Some(time),
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests(requests) => f.write_str(&show_count(*requests)),
            Self::Time(time) => f.write_str(&show_duration(*time)),
        }
    }
}

/// Assigns requests, in the order in which they start or are due, to phases.
#[derive(Clone, Debug)]
pub struct Phases {
    /// Each with the most requests and the longest time that it lasts.
    parts: [(Phase, Option<u64>, Option<Duration>); 3],
    current: usize,
    /// Requests of the current phase so far.
    count: u64,
    /// When the first of them started; of a schedule, when the phase before it was over.
    from: Option<Duration>,
    /// Whether requests are due by a schedule, so that a phase can begin without one.
    is_scheduled: bool,
}

impl Phases {
    /// The phase of the next request, which starts or is due at `at` from a fixed origin. `None` once the last phase is
    /// over: the request is not to be made, nor is any later one.
    pub fn admit(&mut self, at: Duration) -> Option<Phase> {
        loop {
            let (phase, most, longest) = *self.parts.get(self.current)?;
            let from = self.from.unwrap_or(at);
            let is_full = most.is_some_and(|most| self.count >= most);
            let is_over = longest.is_some_and(|longest| at.saturating_sub(from) >= longest);
            if !is_full && !is_over {
                self.from = Some(from);
                self.count += 1;
                return Some(phase);
            }
            let next = match longest {
                Some(longest) if is_over && self.is_scheduled => from.checked_add(longest),
                // a phase of no request takes no time
                _ if self.count == 0 => self.from,
                _ => None,
            };
            (self.current, self.count, self.from) = (self.current + 1, 0, next);
        }
    }

    /// From when on no request can start any more, from the same origin, as far as time alone ends the phases. `None`
    /// as long as that is not known.
    pub fn end(&self) -> Option<Duration> {
        let Some((phase, _, longest)) = self.parts.get(self.current) else { return Some(Duration::ZERO) };
        let own = self.from?.checked_add((*longest)?)?;
        match phase {
            Phase::Warmup => None,
            Phase::Measured => match self.parts[2] {
                (_, Some(0), _) => Some(own),
                (.., cooldown) => own.checked_add(cooldown?),
            },
            Phase::Cooldown => Some(own),
        }
    }
}

impl Load {
    /// The phases of a run of this load, none of whose requests has started.
    pub fn phases(&self) -> Phases {
        let extent = |phase, extent: Extent| (phase, extent.requests(), extent.time());
        let measured = (Phase::Measured, self.completions.map(|n| n.get()), self.duration);
        let parts = [extent(Phase::Warmup, self.warmup), measured, extent(Phase::Cooldown, self.cooldown)];
        Phases { parts, current: 0, count: 0, from: None, is_scheduled: false }
    }

    /// The same of requests that are due by a schedule: what time ends begins with the run, or where time ended the phase before
    /// it, and does not wait for its first request.
    pub fn scheduled_phases(&self) -> Phases {
        Phases { from: Some(Duration::ZERO), is_scheduled: true, ..self.phases() }
    }

    /// The most requests that there can be; `None` where only time or the schedule bounds them.
    pub fn most_requests(&self) -> Option<u64> {
        let parts = [self.warmup.requests()?, self.completions?.get(), self.cooldown.requests()?];
        Some(parts.into_iter().fold(0, u64::saturating_add))
    }

    /// Whether time plays a part in which phase a request belongs to.
    pub fn phases_need_time(&self) -> bool {
        let times = [self.warmup.time(), self.duration, self.cooldown.time()];
        times.iter().any(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroUsize};

    use super::*;

    fn load(warmup: &str, completions: u64, duration_s: Option<u64>, cooldown: &str) -> Load {
        Load {
            threads: NonZeroUsize::MIN,
            arrivals: None,
            completions: NonZeroU64::new(completions),
            duration: duration_s.map(Duration::from_secs),
            warmup: Extent::parse(warmup).expect(warmup),
            cooldown: Extent::parse(cooldown).expect(cooldown),
            grace: None,
        }
    }

    /// One letter for each request, one request a second, and when time alone would end the run.
    fn run(load: &Load) -> (String, Option<u64>) {
        let mut phases = load.phases();
        let mut letters = String::new();
        let mut end = None;
        for second in 0..30 {
            let Some(phase) = phases.admit(Duration::from_secs(second)) else { break };
            letters.push(match phase {
                Phase::Warmup => 'w',
                Phase::Measured => 'm',
                Phase::Cooldown => 'c',
            });
            end = end.or(phases.end().map(|end| end.as_secs()));
        }
        (letters, end)
    }

    #[test]
    fn phases_follow_one_another_by_count_or_time() {
        assert_eq!(run(&load("2", 3, None, "1")), ("wwmmmc".to_owned(), None));
        assert_eq!(run(&load("2s", 3, None, "2s")), ("wwmmmcc".to_owned(), Some(7)));
        assert_eq!(run(&load("2", 0, Some(3), "0")), ("wwmmm".to_owned(), Some(5)));
        assert_eq!(run(&load("0s", 0, Some(3), "2s")), ("mmmcc".to_owned(), Some(5)));
        assert_eq!(run(&load("0", 0, Some(3), "2")), ("mmmcc".to_owned(), None));
        assert_eq!(run(&load("0", 2, Some(3), "0")), ("mm".to_owned(), Some(3)));
    }

    #[test]
    fn a_time_of_a_schedule_does_not_wait_for_a_request() {
        let letters = |load: &Load, due: &[u64]| {
            let mut phases = load.scheduled_phases();
            let phase = |second: &u64| phases.admit(Duration::from_secs(*second));
            due.iter().map_while(phase).map(|phase| format!("{phase:?}").remove(0)).collect::<String>()
        };
        assert_eq!(letters(&load("0", 0, Some(3), "0"), &[1, 2, 3]), "MM");
        assert_eq!(letters(&load("0", 0, Some(3), "0"), &[40, 41]), "");
        assert_eq!(letters(&load("2s", 0, Some(3), "2s"), &[1, 4, 5, 6, 7]), "WMCC");
        assert_eq!(letters(&load("2s", 0, Some(3), "2s"), &[4, 6]), "MC");
        // a count is of requests, and what follows it begins with one
        assert_eq!(letters(&load("2", 0, Some(3), "0"), &[1, 5, 9, 11, 12]), "WWMM");
        assert_eq!(letters(&load("0", 2, None, "2s"), &[1, 5, 9, 10, 11]), "MMCC");
    }

    #[test]
    fn all_that_is_counted_has_a_bound() {
        assert_eq!(load("2", 3, Some(1), "4").most_requests(), Some(9));
        assert_eq!(load("2s", 3, None, "4").most_requests(), None);
        assert_eq!(load("2", 0, Some(3), "0").most_requests(), None);
        assert!(!load("2", 3, None, "4").phases_need_time());
        assert!(load("2", 3, None, "4s").phases_need_time());
    }

    #[test]
    fn an_extent_is_a_number_or_a_time_with_its_unit() {
        assert_eq!(Extent::parse(" 20 "), Ok(Extent::Requests(20)));
        assert_eq!(Extent::parse("1.5m"), Ok(Extent::Time(Duration::from_secs(90))));
        for wrong in ["", "-1", "2.5", "many", "3 parsecs", "s"] {
            assert!(Extent::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            serde_json::json!([Extent::NONE, Extent::Time(Duration::from_secs(2))]).to_string(),
            r#"[{"requests":0},{"duration_s":2.0}]"#
        );
    }
}
