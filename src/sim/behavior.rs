//! What is asked of the simulated server: speed, size, faults. Plain values, checked before a server starts.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use serde::Serialize;

use super::fault::Faults;
use crate::units;

/// How the simulated server behaves.
///
/// Serialises with the unit in the name (`ttft_s`, `itl_s`, `keep_alive_s`) and without the key; neither
/// `Debug` nor `Display` shows the key.
#[derive(Clone, PartialEq, Serialize)]
pub struct Behavior {
    /// The one model that is served. Requests for another get vLLM's 404.
    pub model: String,
    /// Time from having a slot to the first token, for a request that runs alone.
    #[serde(rename = "ttft_s", serialize_with = "units::as_seconds")]
    pub ttft: Duration,
    /// Time between tokens of a request that runs alone.
    #[serde(rename = "itl_s", serialize_with = "units::as_seconds")]
    pub itl: Duration,
    /// Relative standard deviation of both times: normal, never below a tenth of the mean.
    pub jitter: f64,
    /// Requests that run at once. The rest wait, first come, first served.
    pub slots: NonZeroUsize,
    /// What each further running request adds to both times, as a share:
    /// the factor is `1 + slowdown × (running − 1)`.
    pub slowdown: f64,
    /// Mean length of an answer that may end by itself: geometric, in tokens, the end of the answer being one.
    /// `None` for answers that always run to `max_tokens`. Says nothing where the client sends `ignore_eos`.
    pub output_tokens: Option<NonZeroU64>,
    /// Tokens in one event of a stream. As in vLLM, the first token has an event to itself.
    pub tokens_per_event: NonZeroUsize,
    /// Demanded on `/v1/*` as `Authorization: Bearer KEY`, if set.
    #[serde(skip)]
    pub api_key: Option<String>,
    /// Share of requests, 0 to 1, that are answered with status 500.
    pub fail: f64,
    /// What else goes wrong, or oddly, and how often.
    pub faults: Faults,
    /// How long a connection may idle between two requests before the server closes it.
    #[serde(rename = "keep_alive_s", serialize_with = "units::as_seconds")]
    pub keep_alive: Duration,
    /// Whether to keep what [`Simulator::served`](super::Simulator::served) tells. Grows with every request.
    pub keep_log: bool,
    /// Fixes lengths, jitter and failures: the n-th request to arrive always draws the same.
    pub seed: u64,
}

impl Default for Behavior {
    fn default() -> Self {
        Self {
            model: "simulated-model".to_owned(),
            ttft: Duration::from_millis(40),
            itl: Duration::from_millis(5),
            jitter: 0.1,
            slots: NonZeroUsize::new(64).expect("64 is not 0"),
            slowdown: 0.02,
            output_tokens: NonZeroU64::new(64),
            tokens_per_event: NonZeroUsize::MIN,
            api_key: None,
            fail: 0.0,
            faults: Faults::default(),
            keep_alive: Duration::from_secs(5),
            keep_log: false,
            seed: 0,
        }
    }
}

impl Behavior {
    /// As fast as the machine allows: no waiting, no jitter, no slowdown, and a slot for everyone.
    pub fn flat_out() -> Self {
        Self {
            ttft: Duration::ZERO,
            itl: Duration::ZERO,
            jitter: 0.0,
            slowdown: 0.0,
            slots: NonZeroUsize::MAX,
            ..Self::default()
        }
    }

    /// A pace that is kept exactly, however many run at once, and a log of what was done: to hold a measurer against.
    pub fn exact(ttft: Duration, itl: Duration) -> Self {
        Self { ttft, itl, output_tokens: None, keep_log: true, ..Self::flat_out() }
    }

    /// Whether such a server can be.
    ///
    /// # Errors
    /// Names every value that makes no sense.
    pub fn check(&self) -> Result<(), String> {
        let not_negative = |name, value: f64| {
            (!(value.is_finite() && value >= 0.0))
                .then(|| format!("{name} {value} is not a number from 0 up"))
        };
        let share = |name, value: f64| {
            (!(0.0..=1.0).contains(&value)).then(|| format!("{name} {value} is not a share from 0 to 1"))
        };
        let unusable_key = |key: &String| key.is_empty() || key.chars().any(char::is_control);
        let mistakes: Vec<String> = [
            not_negative("jitter", self.jitter),
            not_negative("slowdown", self.slowdown),
            share("fail", self.fail),
            self.faults.check().err(),
            (self.faults.refused_share().is_some() && !cfg!(target_os = "linux"))
                .then(|| "refuse can be had on Linux only".to_owned()),
            self.model.is_empty().then(|| "model has no name".to_owned()),
            self.keep_alive.is_zero().then(|| "keep-alive of no time at all".to_owned()),
            self.api_key.as_ref().is_some_and(unusable_key).then(|| "api key cannot be sent".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect();
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes.join("; ")) }
    }
}

/// One line for reports, such as `TTFT 80.0 ms, ITL 12.0 ms, jitter 10%, 64 slots, +2% per running request, seed 7`.
/// Names the model and the key's presence nowhere.
impl fmt::Display for Behavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TTFT {}, ITL {}", units::show_duration(self.ttft), units::show_duration(self.itl))?;
        write!(f, ", jitter {}", Percent(self.jitter))?;
        match self.slots {
            NonZeroUsize::MAX => write!(f, ", a slot for everyone")?,
            slots => write!(f, ", {slots} slots")?,
        }
        write!(f, ", +{} per running request", Percent(self.slowdown))?;
        if let Some(mean) = self.output_tokens {
            write!(f, ", {mean} tokens an answer")?;
        }
        if self.tokens_per_event.get() > 1 {
            write!(f, ", {} tokens an event", self.tokens_per_event)?;
        }
        if self.fail > 0.0 {
            write!(f, ", {} failing", Percent(self.fail))?;
        }
        if !self.faults.is_empty() {
            write!(f, ", faults: {}", self.faults)?;
        }
        write!(f, ", seed {}", self.seed)
    }
}

/// Lists the fields one by one, so that a new field must be looked at before it is shown.
impl fmt::Debug for Behavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, ttft, itl, jitter, slots, slowdown, output_tokens, .. } = self;
        let Self { tokens_per_event, api_key, fail, faults, keep_alive, keep_log, seed, .. } = self;
        f.debug_struct("Behavior")
            .field("model", model)
            .field("ttft", ttft)
            .field("itl", itl)
            .field("jitter", jitter)
            .field("slots", slots)
            .field("slowdown", slowdown)
            .field("output_tokens", output_tokens)
            .field("tokens_per_event", tokens_per_event)
            .field("api_key", &api_key.as_ref().map(|_| "(hidden)"))
            .field("fail", fail)
            .field("faults", faults)
            .field("keep_alive", keep_alive)
            .field("keep_log", keep_log)
            .field("seed", seed)
            .finish()
    }
}

/// A setting as a percentage, without digits it does not have: `2%`, `0.5%`.
struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 0.07 × 100 is not quite 7
        write!(f, "{}%", (self.0 * 1e6).round() / 1e4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_reads_as_one_line() {
        assert_eq!(
            Behavior { seed: 7, ..Behavior::default() }.to_string(),
            "TTFT 40.0 ms, ITL 5.00 ms, jitter 10%, 64 slots, +2% per running request, 64 tokens an answer, seed 7"
        );
    }

    #[test]
    fn the_key_is_never_shown() {
        let behavior = Behavior { api_key: Some("s3cret".to_owned()), ..Behavior::default() };
        let json = serde_json::to_string(&behavior).expect("a behavior is plain data");
        for text in [format!("{behavior:?}"), format!("{behavior:#?}"), behavior.to_string(), json] {
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn the_unit_is_in_the_name() {
        let json = serde_json::to_value(Behavior::default()).expect("a behavior is plain data");
        assert_eq!(json["ttft_s"], 0.04);
        assert_eq!(json["itl_s"], 0.005);
        assert_eq!(json["keep_alive_s"], 5.0);
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let behavior = Behavior { jitter: f64::NAN, slowdown: -1.0, fail: 1.5, ..Behavior::default() };
        let said = behavior.check().expect_err("three mistakes");
        for name in ["jitter", "slowdown", "fail"] {
            assert!(said.contains(name), "{said}");
        }
        assert_eq!(Behavior::default().check(), Ok(()));
        assert_eq!(Behavior::flat_out().check(), Ok(()));
    }
}
