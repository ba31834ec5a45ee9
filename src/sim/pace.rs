//! How long an answer is and when its tokens are due: seeded draws, pure arithmetic.

use std::num::NonZeroU64;
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::behavior::Behavior;
use crate::random::{self, Purpose};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model had said all; its last token is the end-of-answer token and has no text.
    Stop,
    /// As many tokens as were allowed.
    Length,
}

impl Finish {
    /// vLLM's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// How many tokens an answer will have, and why no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// At least one.
    pub tokens: u64,
    /// Why no more.
    pub finish: Finish,
}

/// What the client said about the length of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The answer does not end by itself before this.
    pub min_tokens: u64,
    /// The answer is cut here.
    pub max_tokens: NonZeroU64,
    /// Whether it may end by itself at all.
    pub end: End,
}

/// Whether the model may end the answer by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Yes.
    WhenDone,
    /// `ignore_eos`: exactly the tokens that were asked for.
    AtMaximum,
}

/// The random draws of one request.
pub struct Pace<'a> {
    behavior: &'a Behavior,
    random: ChaCha8Rng,
}

impl<'a> Pace<'a> {
    /// The draws of the `item`-th request to arrive.
    pub fn new(behavior: &'a Behavior, item: u64) -> Self {
        Self { behavior, random: random::stream(behavior.seed, Purpose::Simulator, item) }
    }

    /// An id as vLLM makes them: 16 hexadecimal digits.
    pub fn id(&mut self) -> String {
        format!("{:016x}", self.random.next_u64())
    }

    /// The length of the answer within the client's limits.
    pub fn length(&mut self, limits: Limits) -> Length {
        let max = limits.max_tokens.get();
        let drawn = match (self.behavior.output_tokens, limits.end) {
            (Some(mean), End::WhenDone) => self.geometric(mean).max(limits.min_tokens),
            _ => u64::MAX,
        };
        match drawn {
            tokens if tokens <= max => Length { tokens, finish: Finish::Stop },
            _ => Length { tokens: max, finish: Finish::Length },
        }
    }

    /// Time from the slot to the first token while so many run.
    pub fn before_first(&mut self, running: usize) -> Duration {
        self.wait(self.behavior.ttft, running)
    }

    /// Time from a token to the next while so many run.
    pub fn before_next(&mut self, running: usize) -> Duration {
        self.wait(self.behavior.itl, running)
    }

    fn wait(&mut self, mean: Duration, running: usize) -> Duration {
        if mean.is_zero() {
            return mean;
        }
        let load = 1.0 + self.behavior.slowdown * running.saturating_sub(1) as f64;
        Duration::try_from_secs_f64(mean.as_secs_f64() * load * self.jitter()).unwrap_or(Duration::MAX)
    }

    /// A factor around 1.
    fn jitter(&mut self) -> f64 {
        if self.behavior.jitter == 0.0 {
            return 1.0;
        }
        // Box and Muller
        let (radius, angle) = (self.uniform(), self.uniform());
        let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        (1.0 + self.behavior.jitter * normal).max(0.1)
    }

    /// At least 1; after each token the answer ends with the same chance.
    fn geometric(&mut self, mean: NonZeroU64) -> u64 {
        let chance = 1.0 / mean.get() as f64;
        1 + (self.uniform().ln() / (-chance).ln_1p()) as u64
    }

    /// Above 0, up to 1.
    fn uniform(&mut self) -> f64 {
        unit(&mut self.random)
    }
}

/// Whether the `item`-th request to arrive is one of those that fail.
pub fn fails(behavior: &Behavior, item: u64) -> bool {
    behavior.fail > 0.0 && unit(&mut random::stream(behavior.seed, Purpose::Faults, item)) <= behavior.fail
}

/// Above 0, up to 1, in steps of 2^-53: the numbers a seed gives do not hang on another crate's idea of a float.
fn unit(random: &mut ChaCha8Rng) -> f64 {
    ((random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(min_tokens: u64, max_tokens: u64, end: End) -> Limits {
        let max_tokens = NonZeroU64::new(max_tokens).expect("some tokens");
        Limits { min_tokens, max_tokens, end }
    }

    fn lengths(behavior: &Behavior, limits: Limits, items: u64) -> Vec<Length> {
        (0..items).map(|item| Pace::new(behavior, item).length(limits)).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let (seven, eight) =
            (Behavior { seed: 7, ..Behavior::default() }, Behavior { seed: 8, ..Behavior::default() });
        let limits = limits(0, 1000, End::WhenDone);
        assert_eq!(lengths(&seven, limits, 50), lengths(&seven, limits, 50));
        assert_ne!(lengths(&seven, limits, 50), lengths(&eight, limits, 50));
        assert_eq!(Pace::new(&seven, 3).before_next(5), Pace::new(&seven, 3).before_next(5));
    }

    #[test]
    fn lengths_have_the_mean_asked_for() {
        let behavior = Behavior::default();
        let drawn = lengths(&behavior, limits(0, u64::MAX, End::WhenDone), 10_000);
        let mean = drawn.iter().map(|length| length.tokens).sum::<u64>() as f64 / 10_000.0;
        // the standard error is 0.64
        assert!((mean - 64.0).abs() < 3.2, "{mean}");
        assert!(drawn.iter().all(|length| length.tokens >= 1 && length.finish == Finish::Stop));
    }

    #[test]
    fn a_mean_of_one_token_is_one_token() {
        let behavior = Behavior { output_tokens: NonZeroU64::new(1), ..Behavior::default() };
        let drawn = lengths(&behavior, limits(0, 10, End::WhenDone), 100);
        assert!(drawn.iter().all(|length| length.tokens == 1), "{drawn:?}");
    }

    #[test]
    fn limits_are_kept() {
        let behavior = Behavior::default();
        for length in lengths(&behavior, limits(20, 40, End::WhenDone), 200) {
            assert!((20..=40).contains(&length.tokens), "{length:?}");
            assert!(length.finish == Finish::Stop || length.tokens == 40, "{length:?}");
        }
        for length in lengths(&behavior, limits(0, 40, End::AtMaximum), 50) {
            assert_eq!(length, Length { tokens: 40, finish: Finish::Length });
        }
        let endless = Behavior { output_tokens: None, ..Behavior::default() };
        let want = Length { tokens: 40, finish: Finish::Length };
        assert_eq!(lengths(&endless, limits(0, 40, End::WhenDone), 1), [want]);
    }

    #[test]
    fn each_further_running_request_slows_all() {
        let behavior = Behavior { jitter: 0.0, slowdown: 0.5, ..Behavior::default() };
        let mut pace = Pace::new(&behavior, 0);
        assert_eq!(pace.before_first(1), Duration::from_millis(40));
        assert_eq!(pace.before_next(0), Duration::from_millis(5));
        assert_eq!(pace.before_next(1), Duration::from_millis(5));
        assert_eq!(pace.before_next(3), Duration::from_millis(10));
    }

    #[test]
    fn jitter_keeps_the_mean_and_never_falls_below_a_tenth() {
        let mild = Behavior::default();
        let mut pace = Pace::new(&mild, 0);
        let total: Duration = (0..10_000).map(|_| pace.before_next(1)).sum();
        // the standard error is 50 ms
        assert!(total.abs_diff(Duration::from_secs(50)) < Duration::from_millis(250), "{total:?}");
        let wild = Behavior { jitter: 50.0, ..Behavior::default() };
        let mut pace = Pace::new(&wild, 0);
        assert!((0..1000).all(|_| pace.before_next(1) >= Duration::from_micros(500)));
    }

    #[test]
    fn so_many_requests_fail() {
        let count = |fail| {
            let behavior = Behavior { fail, ..Behavior::default() };
            (0..10_000).filter(|item| fails(&behavior, *item)).count()
        };
        assert_eq!((count(0.0), count(1.0)), (0, 10_000));
        // the standard error is 46
        assert!(count(0.3).abs_diff(3000) < 230, "{}", count(0.3));
    }
}
