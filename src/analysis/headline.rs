//! What has to be known of a run before any figure of it is read: that most of it failed, or that its load was too high.

use super::remarks::most_common;
use crate::arrivals::Shape;
use crate::failure::FailureKind;
use crate::plan::Load;
use crate::summary::{Slice, Summary, Timeline};
use crate::units::{show_count, show_share, significant};

/// Something that stands before all figures of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headline {
    /// In a word.
    pub word: &'static str,
    /// In a sentence.
    pub why: String,
}

/// What stands before all figures of a run; empty where these can be taken as they are.
pub fn headlines(load: &Load, summary: &Summary) -> Vec<Headline> {
    let told = [("FAILED", collapse(summary)), ("OVERLOAD", overload(load, summary))];
    told.into_iter().filter_map(|(word, why)| Some(Headline { word, why: why? })).collect()
}

/// From this share of failures on, the run is one of failures.
const MOST: f64 = 0.5;
/// From so many failures without a success after the last one, the server has died, and not hiccuped.
const MANY: u64 = 20;

/// Most requests failed, or none succeeded any more from some time on. `None` where nothing succeeded at all, which is said
/// otherwise.
pub(super) fn collapse(summary: &Summary) -> Option<String> {
    let requests = &summary.requests;
    let share = requests.error_rate()?;
    let after = summary.timeline.as_ref().and_then(died);
    if requests.succeeded == 0 || (share < MOST && after.is_none()) {
        return None;
    }
    let most = most_common(summary)?;
    let (failed, answered) =
        (show_count(requests.failed), show_count(requests.succeeded.saturating_add(requests.failed)));
    let until = after.map_or(String::new(), |seconds| {
        format!(
            ". None succeeded after {} s of the run: rates and shares depend on when it was ended",
            significant(seconds)
        )
    });
    Some(format!(
        "{failed} of {answered} requests failed ({}), most with {} ({}){until}; the times are of the {} others",
        show_share(share),
        most.kind,
        most.meaning,
        show_count(requests.succeeded)
    ))
}

/// When the last request succeeded, in seconds from the start of the first, if many have failed since.
fn died(timeline: &Timeline) -> Option<f64> {
    let last = timeline.slices.iter().rposition(|slice| slice.succeeded > 0)?;
    let failed: u64 = timeline.slices[last + 1..].iter().map(failures).sum();
    (failed >= MANY).then(|| timeline.from_s + timeline.width_s * (last + 1) as f64)
}

/// Failures of the server or on the way.
fn failures(slice: &Slice) -> u64 {
    let is_of_server = |kind: &str| FailureKind::of_name(kind).is_none_or(|kind| !kind.is_of_client());
    slice.failed.iter().filter(|(kind, _)| is_of_server(kind)).map(|(_, count)| count).sum()
}

/// In an open loop: fewer requests ended than arrived, more and more were under way or waited, and those that came later
/// waited longer.
fn overload(load: &Load, summary: &Summary) -> Option<String> {
    let timeline = summary.timeline.as_ref().filter(|_| load.has_rate() && summary.requests.succeeded > 0)?;
    let from_s = summary.windows.measured?.from_s;
    let until_s = summary.windows.steady?.until_s;
    let middle_s = f64::midpoint(from_s, until_s);
    let seconds = until_s - middle_s;
    let later = Stretch::of(timeline, middle_s, until_s);
    let offered = match load.arrivals.as_ref().map(|arrivals| &arrivals.shape) {
        Some(Shape::Steady(_)) => summary.throughput.offered_requests_per_s? * seconds,
        // what was started, for nobody tells when they were due
        _ => later.started,
    };
    let growth = offered - later.ended;
    let at_middle = Stretch::of(timeline, middle_s - timeline.width_s, middle_s).in_flight;
    // so many requests as there are vary by chance by their root
    let is_chance = growth < 3.0 * (2.0 * at_middle.max(1.0)).sqrt();
    if growth < 0.1 * offered || is_chance {
        return None;
    }
    let grows =
        later.waits_longer(&Stretch::of(timeline, from_s, middle_s)) || summary.requests.no_worker_free > 0;
    grows.then(|| {
        format!(
            "in the second half of the run {} requests/s arrived and {} ended, so {} more were waiting at its \
             end than in its middle. Times and percentiles depend on how long the run is, and say little of the server: \
             lower the rate",
            significant(offered / seconds),
            significant(later.ended / seconds),
            show_count(growth.round() as u64)
        )
    })
}

/// What happened between two times of a run; slices that an end cuts count by their share.
#[derive(Default)]
struct Stretch {
    started: f64,
    ended: f64,
    /// On average.
    in_flight: f64,
    ttft: Mean,
    e2e: Mean,
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn get(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }
}

impl Stretch {
    fn of(timeline: &Timeline, from_s: f64, until_s: f64) -> Self {
        let (mut all, mut width) = (Self::default(), 0.0);
        for (number, slice) in timeline.slices.iter().enumerate() {
            let begin = timeline.from_s + timeline.width_s * number as f64;
            let covered = (until_s.min(begin + timeline.width_s) - from_s.max(begin)).max(0.0);
            let share = covered / timeline.width_s;
            all.started += share * slice.started as f64;
            all.ended += share * (slice.succeeded + slice.failed.values().sum::<u64>()) as f64;
            all.in_flight += covered * slice.in_flight;
            width += covered;
            for (mean, brief) in [(&mut all.ttft, slice.ttft_ms), (&mut all.e2e, slice.e2e_ms)] {
                if let Some(brief) = brief {
                    mean.sum += share * brief.mean * brief.count as f64;
                    mean.count += share * brief.count as f64;
                }
            }
        }
        all.in_flight = if width > 0.0 { all.in_flight / width } else { 0.0 };
        all
    }

    /// Whether first tokens came much later than before; without streams, whole replies.
    fn waits_longer(&self, before: &Self) -> bool {
        let times = match self.ttft.get().zip(before.ttft.get()) {
            Some(times) => Some(times),
            None => self.e2e.get().zip(before.e2e.get()),
        };
        times.is_some_and(|(now, before)| now > 1.25 * before)
    }
}

/// A schedule that ended by itself before there were as many requests as were asked for. Only of a run that went on to its
/// end.
pub fn short_schedule(load: &Load, summary: &Summary) -> Option<String> {
    let asked = load.completions?.get();
    let ends = match &load.arrivals.as_ref()?.shape {
        // it holds its last rate for ever, which is none
        Shape::Ramp(ramp) if ramp.to.per_second() == 0.0 => true,
        shape => shape.end().is_some(),
    };
    let sent = summary.requests.sent.saturating_add(summary.requests.not_sent);
    (ends && load.duration.is_none() && sent < asked).then(|| {
        format!(
            "the schedule ended after {} of the {} requests that were asked for: its rates do not reach them; make it longer, \
             or the number smaller",
            show_count(sent),
            show_count(asked)
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::{NonZeroU64, NonZeroUsize};

    use super::*;
    use crate::arrivals::{Arrivals, Process};
    use crate::plan::Extent;
    use crate::summary::{Brief, ErrorLine, Requests, Steady, Tally, Window};

    fn load(shape: Shape) -> Load {
        Load {
            threads: NonZeroUsize::new(20).expect("20"),
            arrivals: Some(Arrivals { shape, process: Process::Poisson }),
            completions: None,
            duration: None,
            warmup: Extent::NONE,
            cooldown: Extent::NONE,
            grace: None,
        }
    }

    fn steady(rate: f64) -> Load {
        load(Shape::Steady(crate::units::Rate::new(rate).expect("above 0")))
    }

    /// Slices of a second, each with what started, succeeded and failed, those under way and their TTFT.
    fn summary(slices: &[(u64, u64, u64, f64, f64)]) -> Summary {
        let mut summary = Tally::default().into_summary();
        let slice = |&(started, succeeded, failed, in_flight, ttft): &(u64, u64, u64, f64, f64)| Slice {
            started,
            succeeded,
            failed: BTreeMap::from([("connect_refused".to_owned(), failed)]),
            output_tokens: None,
            in_flight,
            ttft_ms: Some(Brief { count: succeeded, mean: ttft, p50: ttft, p99: ttft, max: ttft }),
            e2e_ms: None,
            itl_ms: None,
        };
        let sum = |of: fn(&(u64, u64, u64, f64, f64)) -> u64| slices.iter().map(of).sum::<u64>();
        let (sent, succeeded, failed) = (sum(|slice| slice.0), sum(|slice| slice.1), sum(|slice| slice.2));
        summary.requests = Requests { sent, succeeded, failed, ..Requests::default() };
        let sending = slices.iter().rposition(|slice| slice.0 > 0).map_or(0.0, |last| last as f64 + 1.0);
        summary.windows.measured = Some(Window { from_s: 0.0, until_s: slices.len() as f64 });
        summary.windows.steady =
            Some(Steady { from_s: 0.0, until_s: sending, requests_per_s: 1.0, output_tokens_per_s: None });
        summary.throughput.offered_requests_per_s = Some(sent as f64 / sending);
        summary.timeline =
            Some(Timeline { from_s: 0.0, width_s: 1.0, slices: slices.iter().map(slice).collect() });
        if failed > 0 {
            let kind = FailureKind::ConnectRefused;
            summary.errors = vec![ErrorLine {
                kind: kind.name(),
                group: kind.group(),
                meaning: kind.meaning().into(),
                count: failed,
                example: String::new(),
                first_request: 0,
                first_s: 0.0,
                last_s: 0.0,
                retry_after_s: None,
            }];
        }
        summary
    }

    #[test]
    fn a_load_that_waits_longer_and_longer_is_overload() {
        let grows: Vec<_> =
            (0..10).map(|i| (60, 36, 0, 24.0 * f64::from(i), 100.0 + 600.0 * f64::from(i))).collect();
        let told = headlines(&steady(60.0), &summary(&grows));
        let [Headline { word: "OVERLOAD", why }] = &told[..] else { panic!("{told:?}") };
        assert!(why.contains("60.0 requests/s arrived and 36.0 ended, so 120 more"), "{why}");
        // of stages, too
        let stages = load(Shape::parse_stages("10:5s,60:5s").expect("stages"));
        assert_eq!(headlines(&stages, &summary(&grows)).len(), 1);
        // in a closed loop the load follows the server
        assert_eq!(headlines(&Load { arrivals: None, ..steady(60.0) }, &summary(&grows)), []);
    }

    #[test]
    fn a_load_that_is_kept_up_with_is_none() {
        let none = |slices: &[(u64, u64, u64, f64, f64)]| {
            assert_eq!(headlines(&steady(60.0), &summary(slices)), []);
        };
        none(&[(60, 58, 0, 10.0, 100.0); 10]);
        // long replies: none has ended yet, and none waits
        let long: Vec<_> = (0..10).map(|i| (60, 6 * i, 0, 50.0 * i as f64, 100.0)).collect();
        none(&long);
        // what fluctuates comes back
        none(&[
            (9, 9, 0, 10.0, 100.0),
            (9, 9, 0, 10.0, 100.0),
            (10, 7, 0, 10.0, 190.0),
            (10, 8, 0, 13.0, 190.0),
        ]);
    }

    #[test]
    fn a_server_that_died_is_the_headline() {
        let mut run = vec![(100, 100, 0, 20.0, 50.0); 3];
        run.push((2_000, 0, 2_000, 20.0, 50.0));
        let closed = Load { arrivals: None, ..steady(60.0) };
        let told = headlines(&closed, &summary(&run));
        let [Headline { word: "FAILED", why }] = &told[..] else { panic!("{told:?}") };
        assert!(
            why.starts_with("2,000 of 2,300 requests failed (87.0%), most with connect_refused"),
            "{why}"
        );
        assert!(why.contains("None succeeded after 3.00 s of the run"), "{why}");
        // few failed, but none succeeded since
        run[3] = (20, 0, 20, 20.0, 50.0);
        assert_eq!(headlines(&closed, &summary(&run)).len(), 1);
        run.push((1, 1, 0, 20.0, 50.0));
        assert_eq!(headlines(&closed, &summary(&run)), []);
        // most failed all the time
        let told = headlines(&closed, &summary(&[(100, 10, 90, 1.0, 1.0); 2]));
        assert!(
            told[0].why.contains("180 of 200 requests failed") && !told[0].why.contains("None succeeded")
        );
        // that nothing succeeded is another's to say
        assert_eq!(headlines(&closed, &summary(&[(100, 0, 90, 1.0, 1.0); 2])), []);
    }

    #[test]
    fn a_schedule_that_cannot_reach_its_number_says_so() {
        let of = |shape: Shape, asked, sent| {
            let load = Load { completions: NonZeroU64::new(asked), ..load(shape) };
            short_schedule(&load, &summary(&[(sent, sent, 0, 1.0, 1.0)]))
        };
        let stages = || Shape::parse_stages("10:2s").expect("stages");
        let told = of(stages(), 100, 22).expect("told");
        assert!(
            told.starts_with("the schedule ended after 22 of the 100 requests that were asked for"),
            "{told}"
        );
        assert_eq!(of(stages(), 22, 22), None);
        let ramp = |text: &str| Shape::parse_ramp(text).expect("a ramp");
        assert!(of(ramp("100:0:3s"), 2_000, 141).is_some());
        assert_eq!(of(ramp("1:10:3s"), 2_000, 141), None);
    }
}
