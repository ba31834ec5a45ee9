//! What was going on in the server at one time, and over the polls of a run.

use serde::{Deserialize, Serialize};

use super::reading::Reading;

/// The server's load at one time. `None` for what it does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gauges {
    /// Requests being worked on, over all engines.
    pub running: Option<f64>,
    /// Requests that wait for an engine, over all engines.
    pub waiting: Option<f64>,
    /// Share of the key-value cache in use, 0 to 1, of the fullest engine.
    pub kv_cache_usage: Option<f64>,
}

/// Keeps the extremes and means of the gauges over many readings, in constant space.
#[derive(Clone, Debug, Default)]
pub struct GaugeTrack {
    readings: u64,
    running: Tally,
    waiting: Tally,
    kv_cache_usage: Tally,
}

impl GaugeTrack {
    /// Takes in one more reading.
    pub fn push(&mut self, reading: &Reading) {
        let gauges = reading.gauges();
        self.readings += 1;
        self.running.add(gauges.running);
        self.waiting.add(gauges.waiting);
        self.kv_cache_usage.add(gauges.kv_cache_usage);
    }

    /// What the readings say together. `None` before the first.
    pub fn summary(&self) -> Option<GaugeSummary> {
        (self.readings > 0).then(|| GaugeSummary {
            readings: self.readings,
            running: self.running.spread(),
            waiting: self.waiting.spread(),
            kv_cache_usage: self.kv_cache_usage.spread(),
        })
    }
}

/// The gauges over a run. `None` for what no reading told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaugeSummary {
    /// How many readings were taken.
    pub readings: u64,
    /// Requests being worked on.
    pub running: Option<Spread>,
    /// Requests waiting.
    pub waiting: Option<Spread>,
    /// Share of the key-value cache in use, 0 to 1.
    pub kv_cache_usage: Option<Spread>,
}

/// Least, mean and greatest of the values seen. The mean weighs each reading alike, however far apart they were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The greatest.
    pub max: f64,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    count: u64,
    sum: f64,
    extremes: Option<(f64, f64)>,
}

impl Tally {
    fn add(&mut self, value: Option<f64>) {
        let Some(value) = value.filter(|value| value.is_finite()) else { return };
        self.count += 1;
        self.sum += value;
        let (min, max) = self.extremes.unwrap_or((value, value));
        self.extremes = Some((min.min(value), max.max(value)));
    }

    fn spread(&self) -> Option<Spread> {
        let (min, max) = self.extremes?;
        Some(Spread { min, mean: self.sum / self.count as f64, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(texts: &[&str]) -> Option<GaugeSummary> {
        let mut track = GaugeTrack::default();
        for text in texts {
            track.push(&Reading::parse(text).expect("known names"));
        }
        track.summary()
    }

    #[test]
    fn no_reading_is_no_summary() {
        assert_eq!(track(&[]), None);
    }

    #[test]
    fn extremes_and_mean_are_kept() {
        let summary = track(&[
            "vllm:num_requests_running 4\nvllm:num_requests_waiting 1\n",
            "vllm:num_requests_running 8\n",
            "vllm:num_requests_running 0\nvllm:num_requests_waiting 2\n",
        ]);
        assert_eq!(
            summary,
            Some(GaugeSummary {
                readings: 3,
                running: Some(Spread { min: 0.0, mean: 4.0, max: 8.0 }),
                waiting: Some(Spread { min: 1.0, mean: 1.5, max: 2.0 }),
                kv_cache_usage: None,
            })
        );
    }

    #[test]
    fn unknown_is_null() {
        let json = serde_json::json!(track(&["vllm:prompt_tokens_total 1\n"]));
        assert_eq!(json["running"], serde_json::Value::Null);
    }
}
