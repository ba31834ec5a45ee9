//! When requests are due: a rate over time and an arrival process, to an iterator of moments. Knows no clock, no thread
//! and no worker.

mod shape;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand_distr::{Distribution, Exp1, Gamma};
use serde::{Deserialize, Serialize};

pub use shape::{Ramp, Shape, Stage};

use crate::random::{self, Purpose};
use crate::units::Rate;

/// Requests that arrive by themselves, whatever the server does: an open loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Told", try_from = "Told")]
pub struct Arrivals {
    /// The rate over time.
    pub shape: Shape,
    /// How the gaps between arrivals are drawn.
    pub process: Process,
}

/// Shapes of gamma arrivals that can be drawn from: beyond, gaps are all nothing but one, or all alike.
pub const BURSTINESS: RangeInclusive<f64> = 0.001..=1_000.0;

/// The least rate at its peak that makes a run, per second: one request a day.
pub const LEAST_RATE: f64 = 1.0 / 86_400.0;

/// How the gaps between arrivals are drawn. Each has the mean `1 ÷ rate`, where the rate is steady.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "snake_case")]
pub enum Process {
    /// All alike.
    Constant,
    /// Exponential, as of many users who know nothing of each other: true Poisson, not rescaled to fit.
    Poisson,
    /// Gamma with this shape: 1 is Poisson, below 1 is burstier, above is more even. vLLM's `--burstiness`.
    Gamma {
        /// The shape, within [`BURSTINESS`]; what is beyond is taken as the end that is nearer.
        burstiness: f64,
    },
}

impl Arrivals {
    /// Times from the start of the run at which requests are due, never falling; without end unless the shape has one.
    /// The same seed always gives the same times.
    ///
    /// Gaps are drawn for one request a second, summed, and mapped through the inverse of the number of requests that
    /// the shape expects by a time. So Poisson stays Poisson, at whatever rate there is at the moment.
    pub fn moments(&self, seed: u64) -> impl Iterator<Item = Duration> + Send + use<> {
        let process = self.process;
        let mut timeline = self.shape.timeline();
        let mut generator = random::stream(seed, Purpose::Arrivals, 0);
        let gamma = match process {
            Process::Gamma { burstiness } => {
                let shape = burstiness.clamp(*BURSTINESS.start(), *BURSTINESS.end());
                Gamma::new(shape, 1.0 / shape).ok()
            }
            _ => None,
        };
        let mut sum_of_gaps = 0.0;
        (0_u64..).map_while(move |number| {
            let gaps = match process {
                // counted, not summed: no error piles up over a long run
                Process::Constant => number as f64,
                _ => {
                    let gap: f64 = match gamma {
                        Some(gamma) => gamma.sample(&mut generator),
                        None => Exp1.sample(&mut generator),
                    };
                    sum_of_gaps += gap;
                    sum_of_gaps
                }
            };
            timeline.at(gaps)
        })
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shape)?;
        match (self.process, &self.shape) {
            (_, Shape::AtOnce) => Ok(()),
            (Process::Constant, Shape::Steady(_)) => write!(f, " at equal gaps"),
            (Process::Constant, _) => write!(f, ", evenly spaced"),
            (Process::Poisson, _) => write!(f, ", Poisson"),
            (Process::Gamma { burstiness }, _) => write!(f, ", gamma with burstiness {burstiness}"),
        }
    }
}

/// As reports tell it: `rate_per_s` of a steady rate, else what the shape has in its place.
#[derive(Serialize, Deserialize)]
struct Told {
    rate_per_s: Option<Rate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ramp: Option<Ramp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stages: Option<Vec<Stage>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    at_once: bool,
    #[serde(flatten)]
    process: Process,
}

impl From<Arrivals> for Told {
    fn from(arrivals: Arrivals) -> Self {
        let process = arrivals.process;
        let mut told = Self { rate_per_s: None, ramp: None, stages: None, at_once: false, process };
        match arrivals.shape {
            Shape::Steady(rate) => told.rate_per_s = Some(rate),
            Shape::Ramp(ramp) => told.ramp = Some(ramp),
            Shape::Stages(stages) => told.stages = Some(stages),
            Shape::AtOnce => told.at_once = true,
        }
        told
    }
}

impl TryFrom<Told> for Arrivals {
    type Error = &'static str;

    fn try_from(told: Told) -> Result<Self, &'static str> {
        let shape = match told {
            Told { rate_per_s: Some(rate), .. } => Shape::Steady(rate),
            Told { ramp: Some(ramp), .. } => Shape::Ramp(ramp),
            Told { stages: Some(stages), .. } => Shape::Stages(stages),
            Told { at_once: true, .. } => Shape::AtOnce,
            _ => return Err("arrivals without rate, ramp, stages or at_once"),
        };
        Ok(Self { shape, process: told.process })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::Level;

    fn moments(rate: f64, process: Process, seed: u64, count: usize) -> Vec<f64> {
        let shape = Shape::Steady(Rate::new(rate).expect("above 0"));
        let arrivals = Arrivals { shape, process };
        arrivals.moments(seed).take(count).map(|moment| moment.as_secs_f64()).collect()
    }

    /// Mean and coefficient of variation of the gaps.
    fn gaps(moments: &[f64]) -> (f64, f64) {
        let gaps: Vec<f64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        (mean, variance.sqrt() / mean)
    }

    #[test]
    fn constant_is_constant() {
        assert_eq!(moments(4.0, Process::Constant, 7, 4), [0.0, 0.25, 0.5, 0.75]);
        let late = moments(3.0, Process::Constant, 7, 3_000_001);
        assert_eq!(late.last(), Some(&1_000_000.0));
    }

    #[test]
    fn poisson_has_the_mean_and_the_spread_of_poisson() {
        let (mean, variation) = gaps(&moments(50.0, Process::Poisson, 7, 20_001));
        // standard errors are 0.7 % of either
        assert!((mean * 50.0 - 1.0).abs() < 0.035, "{mean}");
        assert!((variation - 1.0).abs() < 0.05, "{variation}");
    }

    #[test]
    fn burstiness_is_the_shape_of_gamma() {
        for burstiness in [0.25_f64, 1.0, 4.0] {
            let (mean, variation) = gaps(&moments(50.0, Process::Gamma { burstiness }, 7, 20_001));
            assert!((mean * 50.0 - 1.0).abs() < 0.07, "{burstiness}: {mean}");
            let want = burstiness.sqrt().recip();
            assert!((variation / want - 1.0).abs() < 0.08, "{burstiness}: {variation}");
        }
    }

    #[test]
    fn a_schedule_is_its_seed_and_never_falls() {
        let drawn = moments(10.0, Process::Poisson, 7, 1_000);
        assert!(drawn.is_sorted());
        assert_eq!(drawn, moments(10.0, Process::Poisson, 7, 1_000));
        assert_ne!(drawn, moments(10.0, Process::Poisson, 8, 1_000));
    }

    /// Steady schedules are part of a seed's meaning: these are of the first version that had them.
    #[test]
    fn a_steady_schedule_is_the_same_for_ever() {
        let nanos = |process| {
            let arrivals = Arrivals { shape: Shape::Steady(Rate::new(12.5).expect("above 0")), process };
            arrivals.moments(7).take(3).map(|moment| moment.as_nanos()).collect::<Vec<_>>()
        };
        assert_eq!(nanos(Process::Constant), [0, 80_000_000, 160_000_000]);
        assert_eq!(nanos(Process::Poisson), [74_283_145, 80_017_943, 80_226_407]);
        assert_eq!(nanos(Process::Gamma { burstiness: 0.5 }), [35_460_859, 90_644_028, 92_004_430]);
    }

    fn shaped(shape: Shape, process: Process, seed: u64) -> Vec<f64> {
        let moments = Arrivals { shape, process }.moments(seed);
        moments.map(|moment| moment.as_secs_f64()).collect()
    }

    fn stages(text: &str) -> Shape {
        Shape::parse_stages(text).expect(text)
    }

    fn lone_ramp(text: &str) -> Shape {
        Shape::parse_ramp(text).expect(text).ending_by_itself()
    }

    fn within(moments: &[f64], from: f64, to: f64) -> usize {
        moments.iter().filter(|moment| (from..to).contains(*moment)).count()
    }

    #[test]
    fn stages_follow_each_other_and_a_stage_of_0_is_a_pause() {
        let moments = shaped(stages("2:1s,0:2s,4:1s"), Process::Constant, 7);
        assert_eq!(moments, [0.0, 0.5, 3.0, 3.25, 3.5, 3.75]);
        assert_eq!(shaped(stages("0:1s,1:2s,0:9s"), Process::Constant, 7), [1.0, 2.0]);
    }

    #[test]
    fn a_stage_that_doubles_cannot_hold_ends_where_it_should() {
        // 0.1 × 30 is a little more than 3: the fourth would be due at the end, and in the pause
        assert_eq!(shaped(stages("0.1:30s"), Process::Constant, 7), [0.0, 10.0, 20.0]);
        assert_eq!(shaped(stages("0.1:30s,0:5s,1:1s"), Process::Constant, 7), [0.0, 10.0, 20.0, 35.0]);
    }

    #[test]
    fn a_ramp_grows_linearly_and_holds() {
        let ramp = Shape::parse_ramp("0:8:4s").expect("a ramp");
        let arrivals = Arrivals { shape: ramp, process: Process::Constant };
        let moments: Vec<f64> = arrivals.moments(7).take(33).map(|moment| moment.as_secs_f64()).collect();
        // t² requests by t, so number 9 comes after 3 s; 16 in the ramp, then 8 a second
        assert_eq!((moments[0], moments[1], moments[9], moments[16], moments[32]), (0.0, 1.0, 3.0, 4.0, 6.0));
        assert_eq!(within(&moments, 0.0, 4.0), 16);
    }

    #[test]
    fn a_ramp_may_fall_to_nothing_and_ends_then() {
        let moments = shaped(Shape::parse_ramp("8:0:4s").expect("a ramp"), Process::Constant, 7);
        assert_eq!((moments.len(), moments[7]), (16, 4.0 - 3.0));
    }

    #[test]
    fn all_at_once_is_at_the_start() {
        for process in [Process::Constant, Process::Poisson] {
            let arrivals = Arrivals { shape: Shape::AtOnce, process };
            assert!(arrivals.moments(7).take(1_000).all(|moment| moment.is_zero()));
        }
    }

    #[test]
    fn poisson_has_its_mean_and_spread_in_every_part_of_a_shape() {
        let runs = 400_u64;
        for (shape, parts) in [
            (stages("5:4s,0:3s,20:5s"), vec![(0.0, 4.0, 20.0), (4.0, 7.0, 0.0), (7.0, 12.0, 100.0)]),
            (lone_ramp("0:20:10s"), vec![(0.0, 5.0, 25.0), (5.0, 10.0, 75.0)]),
            (lone_ramp("20:4:10s"), vec![(0.0, 5.0, 80.0), (5.0, 10.0, 40.0)]),
        ] {
            let drawn: Vec<_> = (0..runs).map(|seed| shaped(shape.clone(), Process::Poisson, seed)).collect();
            for (from, to, want) in parts {
                let counts: Vec<f64> = drawn.iter().map(|moments| within(moments, from, to) as f64).collect();
                let mean = counts.iter().sum::<f64>() / runs as f64;
                let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / runs as f64;
                // five standard errors of either; the variance of Poisson is its mean
                let error = 5.0 * (want / runs as f64).sqrt();
                assert!((mean - want).abs() <= error, "{shape} {from}..{to}: {mean}");
                let spread = 5.0 * want * (2.0 / runs as f64).sqrt();
                assert!((variance - want).abs() <= spread, "{shape} {from}..{to}: {variance}");
            }
        }
    }

    #[test]
    fn what_reports_tell_of_a_steady_rate_has_not_changed() {
        let told = |shape, process| serde_json::to_value(Arrivals { shape, process }).expect("JSON");
        let steady = Shape::Steady(Rate::new(12.5).expect("above 0"));
        assert_eq!(
            told(steady, Process::Gamma { burstiness: 0.5 }),
            serde_json::json!({"rate_per_s": 12.5, "process": "gamma", "burstiness": 0.5})
        );
        assert_eq!(
            told(stages("0:1.5s,10:30s"), Process::Poisson),
            serde_json::json!({"rate_per_s": null, "process": "poisson", "stages": [
                {"rate_per_s": 0.0, "duration_s": 1.5}, {"rate_per_s": 10.0, "duration_s": 30.0}]})
        );
        assert_eq!(
            told(lone_ramp("1:50:60s"), Process::Constant),
            serde_json::json!({"rate_per_s": null, "process": "constant",
                "ramp": {"from_per_s": 1.0, "to_per_s": 50.0, "duration_s": 60.0, "holds": false}})
        );
        assert_eq!(
            told(Shape::AtOnce, Process::Constant),
            serde_json::json!({"rate_per_s": null, "at_once": true, "process": "constant"})
        );
    }

    #[test]
    fn arrivals_are_told_in_words() {
        let words = |shape, process| Arrivals { shape, process }.to_string();
        for (shape, want) in [
            (stages("10:30s,20:1.5m,0:500ms"), "10 requests/s for 30 s, 20 for 90 s, 0 for 0.5 s, Poisson"),
            (lone_ramp("1:50:60s"), "from 1 to 50 requests/s over 60 s, Poisson"),
            (
                Shape::parse_ramp("1:50:60s").expect("a ramp"),
                "from 1 to 50 requests/s over 60 s and on at 50, Poisson",
            ),
            (stages(&["3:2s"; 9].join(",")), "9 stages of 3 to 3 requests/s over 18 s, Poisson"),
            (Shape::AtOnce, "all requests at once"),
        ] {
            assert_eq!(words(shape, Process::Poisson), want);
        }
        assert_eq!(words(stages("10:30s"), Process::Constant), "10 requests/s for 30 s, evenly spaced");
    }

    fn process() -> impl Strategy<Value = Process> {
        prop_oneof![
            Just(Process::Constant),
            Just(Process::Poisson),
            (0.1_f64..4.0).prop_map(|burstiness| Process::Gamma { burstiness }),
        ]
    }

    fn any_stages() -> impl Strategy<Value = Vec<Stage>> {
        let rate = prop_oneof![Just(0.0), 0.01_f64..200.0];
        let stage = (rate, 1_u64..5_000).prop_map(|(rate, ms)| Stage {
            rate: Level::new(rate).expect("0 or above"),
            duration: Duration::from_millis(ms),
        });
        prop::collection::vec(stage, 1..8)
    }

    proptest! {
        #[test]
        fn moments_of_stages_never_fall_and_end_with_the_last(stages in any_stages(), process in process(), seed: u64) {
            let end: Duration = stages.iter().map(|stage| stage.duration).sum();
            let moments: Vec<_> = Arrivals { shape: Shape::Stages(stages), process }.moments(seed).collect();
            prop_assert!(moments.is_sorted());
            prop_assert!(moments.last().is_none_or(|last| *last < end));
        }

        #[test]
        fn a_constant_stage_has_its_rate_times_its_duration(stages in any_stages(), seed: u64) {
            let shape = Shape::Stages(stages.clone());
            let moments: Vec<_> = Arrivals { shape, process: Process::Constant }.moments(seed).collect();
            let mut began = Duration::ZERO;
            for stage in stages {
                let ended = began + stage.duration;
                let count = moments.iter().filter(|moment| (began..ended).contains(*moment)).count() as f64;
                let want = stage.rate.per_second() * stage.duration.as_secs_f64();
                prop_assert!((count - want).abs() <= 1.0, "{} in a stage of {}", count, want);
                prop_assert!(count == 0.0 || want > 0.0);
                began = ended;
            }
        }

        #[test]
        fn moments_of_a_ramp_never_fall(
            from in prop_oneof![Just(0.0), 0.01_f64..200.0],
            to in 0.01_f64..200.0,
            ms in 1_u64..5_000,
            process in process(),
            seed: u64,
        ) {
            let level = |rate| Level::new(rate).expect("0 or above");
            let duration = Duration::from_millis(ms);
            let shape = Shape::Ramp(Ramp { from: level(from), to: level(to), duration, holds: true });
            let moments: Vec<_> = Arrivals { shape, process }.moments(seed).take(2_000).collect();
            prop_assert_eq!(moments.len(), 2_000);
            prop_assert!(moments.is_sorted());
            if process == Process::Constant {
                let count = moments.iter().filter(|moment| **moment < duration).count() as f64;
                let want = (from + to) / 2.0 * duration.as_secs_f64();
                prop_assert!((count.min(2_000.0) - want.min(2_000.0)).abs() <= 1.0, "{} of {}", count, want);
            }
        }
    }
}
