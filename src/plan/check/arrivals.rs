//! When requests arrive by themselves: how often, how evenly, and what cannot stand beside that.

use super::Findings;
use crate::arrivals::{Arrivals, BURSTINESS, LEAST_RATE, Process, Shape};
use crate::error::Mistake;
use crate::plan::draft::{ArrivalName, Draft, Given, Origin};
use crate::plan::{Extent, defaults};
use crate::units::significant;

impl Draft {
    /// An open loop needs threads for all that may be in flight.
    pub(super) fn default_threads(arrivals: Option<&Arrivals>, completions: Option<u64>) -> u64 {
        match arrivals.map(|arrivals| &arrivals.shape) {
            None => defaults::THREADS,
            Some(Shape::AtOnce) => completions.unwrap_or(defaults::COMPLETIONS).clamp(1, defaults::MAX_POOL),
            Some(shape) => {
                let wanted = (shape.peak() * defaults::POOL_SECONDS).ceil() as u64;
                wanted.clamp(defaults::MIN_POOL, defaults::MAX_POOL)
            }
        }
    }

    /// The arrivals, if requests arrive by themselves. `is_limited`: a number or a time ends the run.
    pub(super) fn arrivals(&self, is_limited: bool, found: &mut Findings) -> Option<Arrivals> {
        let Some(shape) = self.shapes().next() else {
            self.no_process("says nothing without --request-rate, --ramp-up or --stages", found);
            return None;
        };
        self.disagreeing(shape, found);
        if shape.value.peak() < LEAST_RATE {
            let problem = "less than one request a day; write a higher rate, such as 0.1";
            found.add(Mistake::new(shape.origin.to_string(), problem));
        }
        let process = match shape.value {
            Shape::AtOnce => {
                self.no_process("says nothing at --request-rate inf: every request is due at once", found);
                Process::Constant
            }
            _ => self.process(found)?,
        };
        let shape = shape.value.clone();
        Some(Arrivals { shape: if is_limited { shape } else { shape.ending_by_itself() }, process })
    }

    /// A process says nothing there.
    fn no_process(&self, problem: &str, found: &mut Findings) {
        let origins = [
            self.arrival.as_ref().map(|given| &given.origin),
            self.burstiness.as_ref().map(|given| &given.origin),
        ];
        for origin in origins.into_iter().flatten() {
            found.add(Mistake::new(origin.to_string(), problem));
        }
    }

    /// What cannot stand beside this shape of arrivals.
    fn disagreeing(&self, shape: &Given<Shape>, found: &mut Findings) {
        let mut beside = |other: &Origin, problem: &str| {
            found.add(Mistake::new(format!("{} and {other}", shape.origin), problem));
        };
        for other in self.shapes().skip(1) {
            beside(&other.origin, "give one of them; each says when requests arrive");
        }
        if let Some(tests) = &self.concurrent_tests {
            beside(&tests.origin, "give one of them; at a rate, threads only bound what is in flight");
        }
        if shape.value == Shape::AtOnce {
            let timed = [&self.warmup, &self.cooldown].into_iter().flatten();
            for given in timed.filter(|given| matches!(given.value, Extent::Time(_))) {
                beside(
                    &given.origin,
                    "write a number of requests: all of them are due at once, at no time after",
                );
            }
        }
        if let (Some(warmup), Some(end)) = (&self.warmup, shape.value.end())
            && matches!(warmup.value, Extent::Time(time) if time >= end)
        {
            beside(
                &warmup.origin,
                "nothing would be measured: the arrivals end with the warm-up; make it shorter",
            );
        }
        let Some(duration) = &self.duration else { return };
        let most = shape.value.peak() * duration.value.as_secs_f64();
        // the first of equal gaps is due at once
        let is_drawn = self.arrival.as_ref().is_none_or(|named| named.value != ArrivalName::Constant);
        if is_drawn && most < 1.0 && !duration.value.is_zero() {
            let problem = format!(
                "no more than {} requests are due in that time, so that most such runs would send none; make one of them larger",
                significant(most)
            );
            beside(&duration.origin, &problem);
        }
        match shape.value {
            Shape::Stages(_) => beside(
                &duration.origin,
                "leave the duration out: the run ends with the last stage; make that longer or shorter",
            ),
            Shape::AtOnce => beside(
                &duration.origin,
                "leave the duration out: every request is due at the start; --completions says how many",
            ),
            Shape::Steady(_) | Shape::Ramp(_) => {}
        }
    }

    fn process(&self, found: &mut Findings) -> Option<Process> {
        let named = self.arrival.as_ref().map(|given| given.value);
        let process = match (named, &self.burstiness) {
            (Some(ArrivalName::Constant | ArrivalName::Poisson), Some(burstiness)) => {
                found.add(
                    burstiness.mistake(burstiness.value, "is for --arrival gamma; leave one of them out"),
                );
                return None;
            }
            (Some(ArrivalName::Constant), None) => Process::Constant,
            (Some(ArrivalName::Poisson) | None, None) => Process::Poisson,
            (Some(ArrivalName::Gamma), None) => Process::Gamma { burstiness: 1.0 },
            (_, Some(burstiness)) => Process::Gamma { burstiness: burstiness.value },
        };
        if let Some(given) = self.burstiness.as_ref().filter(|given| !BURSTINESS.contains(&given.value)) {
            let (least, most) = BURSTINESS.into_inner();
            let problem = format!("write a number from {least} to {most}, such as 0.5");
            found.add(given.mistake(given.value, problem));
        }
        Some(process)
    }
}
