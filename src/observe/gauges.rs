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

/// Keeps the extremes and means of the gauges over many readings, and how they went, in bounded space.
#[derive(Clone, Debug, Default)]
pub struct GaugeTrack {
    readings: u64,
    series: GaugeSeries,
    running: Tally,
    waiting: Tally,
    kv_cache_usage: Tally,
}

impl GaugeTrack {
    /// Takes in one more reading, taken so many seconds after whatever this track counts from.
    pub fn push(&mut self, at_s: f64, reading: &Reading) {
        let gauges = reading.gauges();
        self.readings += 1;
        self.series.push(GaugePoint { at_s, gauges });
        self.running.add(gauges.running);
        self.waiting.add(gauges.waiting);
        self.kv_cache_usage.add(gauges.kv_cache_usage);
    }

    /// What the readings say together, with the run's start so many seconds after what this track counts from. `None`
    /// before the first.
    pub fn summary(&self, start_s: f64) -> Option<GaugeSummary> {
        (self.readings > 0).then(|| GaugeSummary {
            readings: self.readings,
            series: self.series.points(start_s),
            running: self.running.spread(),
            waiting: self.waiting.spread(),
            kv_cache_usage: self.kv_cache_usage.spread(),
        })
    }
}

/// The gauges at one time of a run, or on average over a few readings in a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaugePoint {
    /// When they were read, in seconds from the start of the run's first request.
    pub at_s: f64,
    /// What they showed.
    #[serde(flatten)]
    pub gauges: Gauges,
}

impl GaugePoint {
    /// The mean of two; a value that only one has is taken as it is.
    fn mean(self, other: Self) -> Self {
        let mean = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a / 2.0 + b / 2.0),
            (a, b) => a.or(b),
        };
        Self {
            at_s: self.at_s / 2.0 + other.at_s / 2.0,
            gauges: Gauges {
                running: mean(self.gauges.running, other.gauges.running),
                waiting: mean(self.gauges.waiting, other.gauges.waiting),
                kv_cache_usage: mean(self.gauges.kv_cache_usage, other.gauges.kv_cache_usage),
            },
        }
    }
}

/// Most points of a series.
const MAX_POINTS: usize = 240;

/// The gauges over time: once there are too many points, each becomes the mean of twice as many readings.
#[derive(Clone, Debug)]
struct GaugeSeries {
    points: Vec<GaugePoint>,
    /// Readings of a point; a power of two.
    per_point: u64,
    /// Means of 1, 2, 4, … readings that wait for their other half.
    halves: Vec<Option<GaugePoint>>,
}

impl Default for GaugeSeries {
    fn default() -> Self {
        Self { points: Vec::new(), per_point: 1, halves: Vec::new() }
    }
}

impl GaugeSeries {
    fn push(&mut self, point: GaugePoint) {
        let (mut point, mut readings, mut level) = (point, 1, 0);
        while readings < self.per_point {
            if self.halves.len() <= level {
                self.halves.push(None);
            }
            let Some(half) = self.halves[level].take() else {
                self.halves[level] = Some(point);
                return;
            };
            (point, readings, level) = (half.mean(point), readings * 2, level + 1);
        }
        self.points.push(point);
        if self.points.len() == MAX_POINTS {
            self.points = self.points.chunks(2).map(|pair| pair[0].mean(pair[pair.len() - 1])).collect();
            self.per_point *= 2;
        }
    }

    /// In order; readings that did not fill a point are left out.
    fn points(&self, start_s: f64) -> Vec<GaugePoint> {
        self.points.iter().map(|point| GaugePoint { at_s: point.at_s - start_s, ..*point }).collect()
    }
}

/// The gauges over a run. `None` for what no reading told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaugeSummary {
    /// How many readings were taken.
    pub readings: u64,
    /// How they went: at most 240 points in order, each a reading or, in longer runs, the mean of 2, 4, … in a row.
    #[serde(default)]
    pub series: Vec<GaugePoint>,
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
            let at_s = track.readings as f64 + 10.0;
            track.push(at_s, &Reading::parse(text).expect("known names"));
        }
        track.summary(9.0)
    }

    fn point(at_s: f64, running: Option<f64>, waiting: Option<f64>) -> GaugePoint {
        GaugePoint { at_s, gauges: Gauges { running, waiting, kv_cache_usage: None } }
    }

    #[test]
    fn a_long_series_is_of_means_and_bounded() {
        let mut series = GaugeSeries::default();
        for second in 0..100_000 {
            series.push(point(f64::from(second), Some(f64::from(second)), None));
        }
        let points = series.points(0.0);
        assert!((MAX_POINTS / 2 - 1..MAX_POINTS).contains(&points.len()), "{}", points.len());
        for (number, point) in points.iter().enumerate() {
            let middle = (number as f64 + 0.5) * series.per_point as f64 - 0.5;
            assert_eq!((point.at_s, point.gauges.running), (middle, Some(middle)));
        }
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
                series: vec![
                    point(1.0, Some(4.0), Some(1.0)),
                    point(2.0, Some(8.0), None),
                    point(3.0, Some(0.0), Some(2.0)),
                ],
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
