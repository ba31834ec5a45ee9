//! When the requests of a load are due, and what tells one schedule from another.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Load, Plan, short_hex};
use crate::record::Phase;
use crate::units::nanos;

impl Load {
    /// Times from the start of the run at which its requests are due, each with its phase, by number and up to the run's
    /// end. `None` in a closed loop.
    pub fn schedule(&self, seed: u64) -> Option<impl Iterator<Item = (Duration, Phase)> + Send + use<>> {
        let moments = self.arrivals.as_ref()?.moments(seed);
        let mut phases = self.scheduled_phases();
        Some(moments.map_while(move |due| Some((due, phases.admit(due)?))))
    }

    /// When the last request is due, from the start of the run, where time ends the arrivals. `None` where their number
    /// does, in a closed loop, and where there is none. Draws the whole schedule.
    pub fn timed_end(&self, seed: u64) -> Option<Duration> {
        let shape = &self.arrivals.as_ref()?.shape;
        let is_timed = self.duration.is_some() || self.completions.is_none() || shape.end().is_some();
        self.schedule(seed).filter(|_| is_timed)?.last().map(|(due, _)| due)
    }

    /// How long requests may start; of a schedule that ends by itself, its length. `None` where only their number ends
    /// the run.
    pub fn time_limit(&self) -> Option<Duration> {
        self.duration.or_else(|| self.arrivals.as_ref()?.shape.end())
    }
}

impl Plan {
    /// Times from the start of the run at which its requests are due; `None` in a closed loop.
    pub fn schedule(&self) -> Option<impl Iterator<Item = Duration> + Send + use<>> {
        Some(self.load.schedule(self.seed)?.map(|(due, _)| due))
    }
}

/// What tells one schedule from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleHash {
    /// Requests in the schedule, the warm-up's included.
    pub count: u64,
    /// The first 16 digits of a SHA-256 over the moments at which they are due, in order: each in nanoseconds from the
    /// start of the run, as 8 bytes with the lowest first.
    pub hash: String,
}

impl ScheduleHash {
    /// Of these moments; none of them is kept.
    pub fn of(moments: impl Iterator<Item = Duration>) -> Self {
        let (mut count, mut hasher) = (0, Sha256::new());
        for due in moments {
            count += 1;
            hasher.update(nanos(due).to_le_bytes());
        }
        Self { count, hash: short_hex(&hasher.finalize()) }
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroUsize};

    use super::*;
    use crate::arrivals::{Arrivals, Process, Shape};
    use crate::plan::Extent;

    fn load(stages: &str, process: Process) -> Load {
        let shape = Shape::parse_stages(stages).expect(stages);
        Load {
            threads: NonZeroUsize::MIN,
            arrivals: Some(Arrivals { shape, process }),
            completions: None,
            duration: None,
            warmup: Extent::NONE,
            cooldown: Extent::NONE,
            grace: None,
        }
    }

    fn schedule(load: &Load, seed: u64) -> Vec<u128> {
        load.schedule(seed).expect("an open loop").map(|(due, _)| due.as_millis()).collect()
    }

    #[test]
    fn a_schedule_ends_with_its_shape_its_count_or_its_time() {
        let whole = load("2:1s,4:1s", Process::Constant);
        assert_eq!(schedule(&whole, 7), [0, 500, 1_000, 1_250, 1_500, 1_750]);
        let counted = Load { completions: NonZeroU64::new(2), warmup: Extent::Requests(1), ..whole.clone() };
        assert_eq!(schedule(&counted, 7), [0, 500, 1_000]);
        // from the first measured arrival
        let timed = Load { duration: Some(Duration::from_millis(500)), warmup: Extent::Requests(2), ..whole };
        assert_eq!(schedule(&timed, 7), [0, 500, 1_000, 1_250]);
    }

    #[test]
    fn the_hash_is_that_of_the_moments_and_their_order() {
        let hash = |load: &Load, seed| {
            ScheduleHash::of(load.schedule(seed).expect("an open loop").map(|(due, _)| due))
        };
        let constant = load("2:1s", Process::Constant);
        // printf '\0\0\0\0\0\0\0\0\x00\x65\xcd\x1d\0\0\0\0' | sha256sum
        assert_eq!(hash(&constant, 7), ScheduleHash { count: 2, hash: "b346958cae419883".to_owned() });
        let drawn = load("50:1s", Process::Poisson);
        assert_eq!(hash(&drawn, 7), hash(&drawn, 7));
        assert_ne!(hash(&drawn, 7), hash(&drawn, 8));
        assert_eq!(Load { arrivals: None, ..constant }.schedule(7).map(Iterator::count), None);
    }
}
