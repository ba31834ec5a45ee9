//! What a client reported against what the simulated server did: each takes its times on its own, and only differences
//! are compared, request by request.
//!
//! Pure arithmetic over the client's accounts and the server's log; knows not how either came about.

mod calibration;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use calibration::{Calibration, Probe, Replay};

use crate::clock::Moment;
use crate::record::Record;
use crate::sim::Served;

/// What a client says of one request that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The `X-Request-Id` that it was sent under.
    pub request_id: String,
    /// Time to first token; `None` where there is none.
    pub ttft: Option<Duration>,
    /// The same at least, where it is known only to lie between two ends.
    pub ttft_low: Option<Duration>,
    /// End-to-end latency; `None` where there is none.
    pub e2e: Option<Duration>,
    /// The same at least, as for the time to first token.
    pub e2e_low: Option<Duration>,
    /// Arrival of each event that bore tokens, from any one origin; empty for a reply that was not streamed.
    pub token_events: Vec<Duration>,
}

impl Account {
    /// What the record of a request says; `None` unless the request succeeded.
    pub fn of(record: &Record, request_id: String) -> Option<Self> {
        let from_origin = |at: Moment| at.since(Moment::default());
        record.is_success().then(|| Self {
            request_id,
            ttft: record.ttft(),
            ttft_low: record.ttft_ends().map(|ends| ends.low),
            e2e: record.e2e(),
            e2e_low: record.e2e_ends().map(|ends| ends.low),
            token_events: record.token_events.iter().map(|event| from_origin(event.at)).collect(),
        })
    }
}

/// Reported minus true, over all requests that both sides know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Requests that both sides know.
    pub matched: u64,
    /// Requests that succeeded for the client and are not in the server's log: 0 unless something is wrong.
    pub unmatched: u64,
    /// Matched requests whose true TTFT or E2E lies outside of the ends that were reported, by more than half a millisecond.
    #[serde(default)]
    pub outside: u64,
    /// Matched requests whose token events the client counted otherwise than the server; they are in no ITL.
    pub miscounted: u64,
    /// Of the time to first token; one value a request. `None` without any.
    #[serde(rename = "ttft_error_ms")]
    pub ttft: Option<Spread>,
    /// Of the gaps between events that bear tokens; one value a gap. `None` without any.
    #[serde(rename = "itl_error_ms")]
    pub itl: Option<Spread>,
    /// Of the end-to-end latency; one value a request. `None` without any.
    #[serde(rename = "e2e_error_ms")]
    pub e2e: Option<Spread>,
}

/// What many differences come to, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of differences.
    pub count: u64,
    /// The median, with its sign: above 0 where too much is reported.
    pub p50: f64,
    /// 99 % of them are no larger than this, whatever their sign.
    pub p99: f64,
    /// The largest, whatever its sign.
    pub max: f64,
}

impl Accuracy {
    /// Compares what was reported with what happened, by request id.
    ///
    /// The true TTFT goes from the request's arrival at the server to the moment just before its first token is handed
    /// to the system, and so on: the way over the network, in both directions, counts as error.
    pub fn of(accounts: impl IntoIterator<Item = Account>, served: &[Served]) -> Self {
        let truths: HashMap<&str, &Served> =
            served.iter().map(|served| (served.request_id.as_str(), served)).collect();
        let mut accuracy = Self::default();
        let (mut ttft, mut itl, mut e2e) = (Vec::new(), Vec::new(), Vec::new());
        for account in accounts {
            let Some(truth) = truths.get(account.request_id.as_str()) else {
                accuracy.unmatched += 1;
                continue;
            };
            accuracy.matched += 1;
            let after_receipt = |written: Option<&Moment>| Some(written?.since(truth.received));
            let (first, last) = (after_receipt(truth.written.first()), after_receipt(truth.written.last()));
            ttft.extend(difference(account.ttft, first));
            e2e.extend(difference(account.e2e, last));
            let is_outside = lies_outside(first, account.ttft_low, account.ttft)
                || lies_outside(last, account.e2e_low, account.e2e);
            accuracy.outside += u64::from(is_outside);
            if account.token_events.len() == truth.written.len() {
                itl.extend(gap_errors(&account.token_events, &truth.written));
            } else if !account.token_events.is_empty() {
                accuracy.miscounted += 1;
            }
        }
        Self { ttft: Spread::of(ttft), itl: Spread::of(itl), e2e: Spread::of(e2e), ..accuracy }
    }
}

/// Whether the truth lies below the lower end or above the upper one by more than what the ways take.
fn lies_outside(truth: Option<Duration>, low: Option<Duration>, high: Option<Duration>) -> bool {
    let Some((truth, high)) = truth.zip(high) else { return false };
    truth + ON_THE_WAY < low.unwrap_or(high) || truth > high + ON_THE_WAY
}

/// What happened to the requests that a client knows, by the server's log; ns, rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truths {
    /// Times to first token, one of each request.
    pub ttft: Vec<i64>,
    /// Gaps between events that bear tokens.
    pub itl: Vec<i64>,
    /// End-to-end latencies, one of each request.
    pub e2e: Vec<i64>,
}

impl Truths {
    /// Of the requests that both sides know.
    pub fn of(accounts: &[Account], served: &[Served]) -> Self {
        let known: HashSet<&str> = accounts.iter().map(|account| account.request_id.as_str()).collect();
        let mut truths = Self::default();
        for served in served.iter().filter(|served| known.contains(served.request_id.as_str())) {
            let after_receipt = |written: Option<&Moment>| Some(signed(written?.since(served.received)));
            truths.ttft.extend(after_receipt(served.written.first()));
            truths.e2e.extend(after_receipt(served.written.last()));
            truths.itl.extend(served.written.windows(2).map(|pair| signed(pair[1].since(pair[0]))));
        }
        [&mut truths.ttft, &mut truths.itl, &mut truths.e2e]
            .into_iter()
            .for_each(|times| times.sort_unstable());
        truths
    }

    /// A percentile (0 to 100) of rising times, ms; `None` without any.
    pub fn percentile(rising: &[i64], percentile: f64) -> Option<f64> {
        interpolated(rising, percentile)
    }
}

/// Each gap as reported, minus the true one; ns.
fn gap_errors<'a>(reported: &'a [Duration], written: &'a [Moment]) -> impl Iterator<Item = i64> + 'a {
    let reported = reported.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    let truth = written.windows(2).map(|pair| pair[1].since(pair[0]));
    reported.zip(truth).map(|(reported, truth)| signed(reported) - signed(truth))
}

fn difference(reported: Option<Duration>, truth: Option<Duration>) -> Option<i64> {
    Some(signed(reported?) - signed(truth?))
}

/// Nanoseconds; at most 146 years, so that any two of them subtract.
fn signed(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).map_or(i64::MAX / 2, |nanos| nanos.min(i64::MAX / 2))
}

impl Spread {
    /// Of differences in nanoseconds; `None` without any.
    pub fn of(mut differences: Vec<i64>) -> Option<Self> {
        differences.sort_unstable();
        let p50 = interpolated(&differences, 50.0)?;
        let mut sizes: Vec<i64> = differences.into_iter().map(i64::saturating_abs).collect();
        sizes.sort_unstable();
        let (p99, max) = (interpolated(&sizes, 99.0)?, interpolated(&sizes, 100.0)?);
        Some(Self { count: sizes.len() as u64, p50, p99, max })
    }
}

/// What the ways over loopback may take, and a server be late between its look at the clock and its write.
const ON_THE_WAY: Duration = Duration::from_micros(500);

/// In milliseconds, linearly between the closest ranks. `None` without values.
fn interpolated(sorted: &[i64], percentile: f64) -> Option<f64> {
    let rank = percentile / 100.0 * sorted.len().checked_sub(1)? as f64;
    let at = |rank: f64| sorted.get(rank as usize).map_or(0.0, |value| *value as f64);
    let (below, above) = (at(rank.floor()), at(rank.ceil()));
    Some((below + (above - below) * rank.fract()) / 1e6)
}

/// The pace that a simulated server was to keep, where it neither slows down nor jitters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From the arrival of a request to its first token.
    pub ttft: Duration,
    /// From an event that bears tokens to the next.
    pub gap: Duration,
}

impl Pace {
    /// How long a reply takes whose tokens have an event each.
    pub fn reply(self, tokens: u64) -> Duration {
        let gaps = u32::try_from(tokens.saturating_sub(1)).unwrap_or(u32::MAX);
        self.ttft.saturating_add(self.gap.saturating_mul(gaps))
    }
}

/// How late the server itself was: when each event was written, minus when it was due, counted from the request's
/// arrival. Whatever kept the server is in it, its taking up the request included. `None` without any event.
pub fn lateness(served: &[Served], pace: Pace) -> Option<Spread> {
    let of_one = |served: &Served| {
        let first_due = served.received + pace.ttft;
        let due = (0_u32..).map(move |event| first_due + pace.gap.saturating_mul(event));
        let late =
            |(written, due): (&Moment, Moment)| signed(written.since(due)) - signed(due.since(*written));
        served.written.iter().zip(due).map(late).collect::<Vec<_>>()
    };
    Spread::of(served.iter().flat_map(of_one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Arrives at 1 s; its events are written so many ms later.
    fn served(id: &str, written: &[u64]) -> Served {
        let received = Moment::from_nanos(1_000_000_000);
        Served {
            request_id: id.to_owned(),
            received,
            first_token: received,
            last_token: received,
            tokens: written.len() as u64,
            written: written.iter().map(|after| received + ms(*after)).collect(),
        }
    }

    fn account(id: &str, events: &[u64]) -> Account {
        Account {
            request_id: id.to_owned(),
            ttft: events.first().copied().map(ms),
            e2e: events.last().copied().map(ms),
            token_events: events.iter().copied().map(ms).collect(),
            ..Account::default()
        }
    }

    fn spread(spread: Option<Spread>) -> Option<(u64, f64, f64, f64)> {
        spread.map(|s| (s.count, s.p50, s.p99, s.max))
    }

    #[test]
    fn requests_are_matched_by_id_whatever_their_order() {
        let served = [served("b", &[100, 110]), served("a", &[50, 80])];
        let accuracy = Accuracy::of([account("a", &[53, 81]), account("b", &[103, 111])], &served);
        assert_eq!((accuracy.matched, accuracy.unmatched, accuracy.miscounted), (2, 0, 0));
        assert_eq!(spread(accuracy.ttft), Some((2, 3.0, 3.0, 3.0)));
        assert_eq!(spread(accuracy.itl), Some((2, -2.0, 2.0, 2.0)));
        assert_eq!(spread(accuracy.e2e), Some((2, 1.0, 1.0, 1.0)));
    }

    #[test]
    fn a_request_that_only_one_side_knows_is_counted_and_compared_with_nothing() {
        let accuracy = Accuracy::of([account("a", &[53])], &[served("b", &[50])]);
        assert_eq!((accuracy.matched, accuracy.unmatched), (0, 1));
        assert_eq!((accuracy.ttft, accuracy.itl, accuracy.e2e), (None, None, None));
        assert_eq!(Accuracy::of([], &[served("b", &[50])]), Accuracy::default());
    }

    #[test]
    fn token_events_that_do_not_agree_in_number_are_counted_and_in_no_gap() {
        let accuracy = Accuracy::of([account("a", &[50, 60])], &[served("a", &[50, 55, 60])]);
        assert_eq!((accuracy.matched, accuracy.miscounted), (1, 1));
        assert_eq!(accuracy.itl, None);
        assert_eq!(spread(accuracy.e2e), Some((1, 0.0, 0.0, 0.0)));
    }

    #[test]
    fn the_truth_may_lie_between_two_ends_and_not_outside_of_them() {
        let late = |low: u64, high: u64| {
            let account = Account { ttft_low: Some(ms(low)), ..account("a", &[high, 80]) };
            Accuracy::of([account], &[served("a", &[50, 80])]).outside
        };
        assert_eq!((late(20, 70), late(50, 50), late(51, 70), late(20, 49)), (0, 0, 1, 1));
        let exact = Accuracy::of([account("a", &[52, 80])], &[served("a", &[50, 80])]);
        assert_eq!(exact.outside, 1);
    }

    #[test]
    fn a_reply_in_one_piece_has_an_end_and_no_tokens() {
        let whole = Account { ttft: None, token_events: vec![], ..account("a", &[70]) };
        let accuracy = Accuracy::of([whole], &[served("a", &[60])]);
        assert_eq!((accuracy.ttft, accuracy.itl, accuracy.miscounted), (None, None, 0));
        assert_eq!(spread(accuracy.e2e), Some((1, 10.0, 10.0, 10.0)));
    }

    #[test]
    fn the_median_has_a_sign_and_the_tail_a_size() {
        assert_eq!(spread(Spread::of(vec![-5_000_000, -1_000_000, 1_000_000])), Some((3, -1.0, 4.92, 5.0)));
        assert_eq!(Spread::of(vec![]), None);
    }

    #[test]
    fn lateness_counts_from_the_arrival_and_may_be_early() {
        let pace = Pace { ttft: ms(50), gap: ms(10) };
        let late = lateness(&[served("a", &[50, 61, 69])], pace);
        assert_eq!(spread(late), Some((3, 0.0, 1.0, 1.0)));
        assert_eq!(lateness(&[], pace), None);
    }
}
