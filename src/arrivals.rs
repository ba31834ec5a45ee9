//! When requests are due: an arrival process to an iterator of moments. Knows no clock, no thread and no worker.

use std::fmt;
use std::time::Duration;

use rand_distr::{Distribution, Exp1, Gamma};
use serde::Serialize;

use crate::random::{self, Purpose};
use crate::units::{Rate, significant};

/// Requests that arrive at a rate, whatever the server does: an open loop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Arrivals {
    /// Mean arrivals per second.
    #[serde(rename = "rate_per_s")]
    pub rate: Rate,
    /// How the gaps between arrivals are drawn.
    #[serde(flatten)]
    pub process: Process,
}

/// How the gaps between arrivals are drawn. Each has the mean `1 ÷ rate`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "process", rename_all = "snake_case")]
pub enum Process {
    /// All alike.
    Constant,
    /// Exponential, as of many users who know nothing of each other: true Poisson, not rescaled to fit.
    Poisson,
    /// Gamma with this shape: 1 is Poisson, below 1 is burstier, above is more even. vLLM's `--burstiness`.
    Gamma {
        /// The shape, above 0.
        burstiness: f64,
    },
}

impl Arrivals {
    /// Times from the start of the run at which requests are due, without end and never falling. The same seed always
    /// gives the same times.
    pub fn moments(&self, seed: u64) -> impl Iterator<Item = Duration> + Send + use<> {
        let (rate, process) = (self.rate.per_second(), self.process);
        let mut generator = random::stream(seed, Purpose::Arrivals, 0);
        let gamma = match process {
            Process::Gamma { burstiness } => Gamma::new(burstiness, 1.0 / burstiness).ok(),
            _ => None,
        };
        let mut sum_of_gaps = 0.0;
        (0_u64..).map(move |number| {
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
            Duration::try_from_secs_f64(gaps / rate).unwrap_or(Duration::MAX)
        })
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = significant(self.rate.per_second());
        match self.process {
            Process::Constant => write!(f, "{rate} requests/s at equal gaps"),
            Process::Poisson => write!(f, "{rate} requests/s, Poisson"),
            Process::Gamma { burstiness } => {
                write!(f, "{rate} requests/s, gamma with burstiness {burstiness}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(rate: f64, process: Process, seed: u64, count: usize) -> Vec<f64> {
        let arrivals = Arrivals { rate: Rate::new(rate).expect("above 0"), process };
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
}
