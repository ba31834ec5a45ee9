//! What a calibration found: the client's own share in the times of a run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Accuracy, Pace, Spread};
use crate::record::Record;
use crate::sim::MAX_MODEL_LEN;
use crate::units::{as_seconds, as_seconds_or_null, from_seconds, from_seconds_or_null};

/// The client's own share: its errors in a replay at the server's pace, against a server that knows the truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// What one request to the server showed.
    pub probe: Probe,
    /// What was played against the simulated server.
    pub replay: Replay,
    /// Reported minus true, in the replay.
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// How late the simulated server itself wrote its events; `None` without any.
    #[serde(rename = "server_late_ms")]
    pub server_late: Option<Spread>,
}

/// What one reply of the server was like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Time to first token, s; `None` for a reply that was not streamed.
    #[serde(
        rename = "ttft_s",
        serialize_with = "as_seconds_or_null",
        deserialize_with = "from_seconds_or_null"
    )]
    pub ttft: Option<Duration>,
    /// Mean gap between events that bore tokens, s; `None` below two of them.
    #[serde(
        rename = "gap_s",
        serialize_with = "as_seconds_or_null",
        deserialize_with = "from_seconds_or_null"
    )]
    pub gap: Option<Duration>,
    /// End-to-end latency, s.
    #[serde(rename = "e2e_s", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub e2e: Duration,
    /// Events that bore tokens; 0 for a reply that was not streamed.
    pub token_events: u64,
    /// Tokens by the server's count; `None` where it did not say.
    pub output_tokens: Option<u64>,
}

/// How the plan was replayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// The load, in words.
    pub load: String,
    /// Tokens of each reply, each in an event of its own.
    pub tokens: u64,
    /// Pace of the simulated server: to the first token.
    #[serde(rename = "ttft_s", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub ttft: Duration,
    /// Pace of the simulated server: from a token to the next.
    #[serde(rename = "gap_s", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub gap: Duration,
    /// Requests that failed; they are in no error.
    pub failed: u64,
    /// How long a thread that could run waited for a core, mean over its turns, ms; `None` if unknown.
    #[serde(default)]
    pub run_queue_wait_ms: Option<f64>,
}

impl Probe {
    /// What the record of a request shows; `None` unless the request succeeded.
    pub fn of(record: &Record) -> Option<Self> {
        let e2e = record.e2e()?;
        let gaps = u32::try_from(record.token_events.len()).ok()?.saturating_sub(1);
        let total: Duration = record.gaps().sum();
        Some(Self {
            ttft: record.ttft(),
            gap: (gaps > 0).then(|| total / gaps),
            e2e,
            token_events: record.token_events.len() as u64,
            output_tokens: record.usage.output_tokens,
        })
    }
}

/// Longest time to the first token in a replay; waiting costs a client nothing.
const LONGEST_TTFT: Duration = Duration::from_secs(1);
/// Longest gap between tokens in a replay.
const LONGEST_GAP: Duration = Duration::from_secs(1);
/// Longest reply in a replay, but for two tokens it always has.
const LONGEST_REPLY: Duration = Duration::from_secs(4);
/// Tokens of a reply that was not streamed and whose server did not count.
const SOME_TOKENS: u64 = 64;

impl Replay {
    /// Replies like the probe's, cut where they would take too long; under no load yet.
    pub fn of(probe: &Probe) -> Self {
        let ttft = probe.ttft.unwrap_or(probe.e2e).min(LONGEST_TTFT);
        let gap = probe.gap.unwrap_or_default().min(LONGEST_GAP);
        let tokens = match probe.token_events {
            0 => probe.output_tokens.unwrap_or(SOME_TOKENS),
            events if gap.is_zero() => events,
            events => {
                let room = LONGEST_REPLY.saturating_sub(ttft).div_duration_f64(gap) as u64;
                events.min(1 + room.max(1))
            }
        };
        Self {
            load: String::new(),
            tokens: tokens.clamp(1, MAX_MODEL_LEN),
            ttft,
            gap,
            failed: 0,
            run_queue_wait_ms: None,
        }
    }

    /// The pace that the simulated server is to keep.
    pub fn pace(&self) -> Pace {
        Pace { ttft: self.ttft, gap: self.gap }
    }

    /// How long a reply takes.
    pub fn reply(&self) -> Duration {
        self.pace().reply(self.tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn replay(ttft: Option<u64>, gap: Option<u64>, events: u64) -> (u64, Duration) {
        let e2e = ms(ttft.unwrap_or(300) + gap.unwrap_or_default() * events.saturating_sub(1));
        let probe =
            Probe { ttft: ttft.map(ms), gap: gap.map(ms), e2e, token_events: events, output_tokens: None };
        let replay = Replay::of(&probe);
        (replay.tokens, replay.reply())
    }

    #[test]
    fn a_short_reply_is_replayed_as_it_was() {
        assert_eq!(replay(Some(40), Some(5), 64), (64, ms(40 + 63 * 5)));
        assert_eq!(replay(Some(40), None, 1), (1, ms(40)));
        assert_eq!(replay(Some(0), Some(0), 5_000), (5_000, ms(0)));
    }

    #[test]
    fn a_long_reply_is_cut() {
        assert_eq!(replay(Some(500), Some(50), 2_000), (71, ms(4_000)));
        assert_eq!(replay(Some(60_000), Some(50), 2_000), (61, ms(4_000)));
        assert_eq!(replay(Some(40), Some(30_000), 9), (4, ms(3_040)));
        assert_eq!(replay(Some(40), Some(0), 10_000_000).0, MAX_MODEL_LEN);
    }

    #[test]
    fn a_reply_in_one_piece_is_replayed_so() {
        assert_eq!(replay(None, None, 0), (SOME_TOKENS, ms(300)));
    }
}
