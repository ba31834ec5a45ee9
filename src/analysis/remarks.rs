//! What the figures of one run say, in sentences: the documented tool's advice on reading results, computed.

use super::headline::collapse;
use crate::failure::Group;
use crate::plan::{Extent, Load};
use crate::record::{ItlSource, TpotSource};
use crate::summary::{Distribution, ErrorLine, Summary};
use crate::units::{show_count, show_counted, show_share, significant};

/// Sentences about one run, most important first; empty when there is nothing to add to the figures. `server_ms` is the mean
/// time of a token by the server's own account, in ms, where that is known.
pub fn remarks(load: &Load, summary: &Summary, server_ms: Option<f64>) -> Vec<String> {
    [
        // where it is a headline, it is said
        errors(summary).filter(|_| collapse(summary).is_none()),
        no_requests(load, summary),
        starved_pool(load, summary),
        idle_threads(load, summary),
        cold_threads(load),
        ended_by_client(summary),
        never_sent(summary),
        few_requests(summary),
        consistency(summary),
        silent_replies(summary),
        unknown_tokens(summary),
        contradicted_tokens(summary),
        unknown_pace(summary, server_ms),
        uncertain_pace(summary, server_ms),
        other_pace(summary, server_ms),
        joined_events(summary),
        reconnects(load, summary),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn no_requests(load: &Load, summary: &Summary) -> Option<String> {
    let is_timed = load.duration.is_some() && load.is_open();
    let why = match is_timed && summary.requests.not_sent == 0 {
        true => {
            "; the first that counts may be due after --duration at this rate: make that longer, or the rate higher"
        }
        false => "",
    };
    (summary.requests.sent == 0)
        .then(|| format!("no request that counts has ended: there is nothing to measure{why}"))
}

fn errors(summary: &Summary) -> Option<String> {
    let requests = &summary.requests;
    let first = most_common(summary)?;
    if requests.succeeded == 0 {
        let advice = match first.kind.as_str() {
            "http_401" | "http_403" => "; give the right key with --api-key-file",
            "http_404" => "; is the --url's path right, and does the server have that --model?",
            _ => "",
        };
        return Some(format!(
            "no request succeeded; most failed with {}: {}{advice}",
            first.kind, first.meaning
        ));
    }
    Some(format!(
        "{} of {} requests failed ({}), most with {} ({}); the times are those of the others, so a server \
         that refuses load looks faster than it is",
        show_count(requests.failed),
        show_count(requests.succeeded.saturating_add(requests.failed)),
        show_share(requests.error_rate()?),
        first.kind,
        first.meaning
    ))
}

/// The kind that most requests failed with; where any succeeded, the most of those that are not this client's doing.
pub(super) fn most_common(summary: &Summary) -> Option<&ErrorLine> {
    let is_of_server = |line: &&ErrorLine| line.group != Group::Client;
    match summary.requests.succeeded {
        0 => summary.errors.first(),
        _ => summary.errors.iter().find(is_of_server),
    }
}

fn starved_pool(load: &Load, summary: &Summary) -> Option<String> {
    let waited = summary.requests.no_worker_free;
    (load.has_rate() && waited > 0).then(|| {
        format!(
            "{} of {} requests were due when none of the {} threads was free, and left late: the server got less than \
             the rate asked for; response times have the wait in them. Raise --threads, or lower the rate",
            show_count(waited),
            show_count(summary.requests.sent),
            show_count(load.threads.get() as u64)
        )
    })
}

fn idle_threads(load: &Load, summary: &Summary) -> Option<String> {
    let sent = summary.requests.sent;
    let threads = load.threads.get() as u64;
    (!load.is_open() && sent > 0 && sent < threads).then(|| {
        format!("{} threads for {sent} requests: at most {sent} were in flight at once", show_count(threads))
    })
}

fn cold_threads(load: &Load) -> Option<String> {
    let threads = load.threads.get() as u64;
    let Extent::Requests(warmup) = load.warmup else { return None };
    (!load.is_open() && warmup > 0 && warmup < threads).then(|| {
        format!(
            "{} requests for warm-up are fewer than the {} threads: the others measured their first request cold",
            show_count(warmup),
            show_count(threads)
        )
    })
}

fn ended_by_client(summary: &Summary) -> Option<String> {
    let requests = &summary.requests;
    (requests.by_client > 0).then(|| {
        format!(
            "{} ended by this client itself: the latencies leave out what may have been the slowest; they are too low \
             for that",
            show_counted(requests.by_client, "request")
        )
    })
}

fn never_sent(summary: &Summary) -> Option<String> {
    let count = summary.requests.not_sent;
    (count > 0).then(|| {
        format!(
            "{} due and never sent: the run ended while they waited for a free thread, and no figure of lateness or \
             response time has them",
            if count == 1 { "1 request was".to_owned() } else { format!("{} requests were", show_count(count)) }
        )
    })
}

/// From so many values on the 95% interval of a p99 has an upper end: 0.99ⁿ ≤ 2.5 %.
const ENOUGH_FOR_P99: u64 = 368;

fn few_requests(summary: &Summary) -> Option<String> {
    let succeeded = summary.requests.succeeded;
    (1..ENOUGH_FOR_P99).contains(&succeeded).then(|| {
        format!(
            "{}: too few for the 95% interval of a p99 to have an upper end (that takes {ENOUGH_FOR_P99}); read \
             p99 and p99.9 as the largest values seen",
            show_counted(succeeded, "successful request")
        )
    })
}

fn consistency(summary: &Summary) -> Option<String> {
    // a median of nothing is a multiple of nothing
    let e2e = summary.latency.e2e.as_ref().filter(|d| d.count >= 10 && d.median > 0.0)?;
    let variation = e2e.std / e2e.mean;
    let tail = e2e.percentiles.p99 / e2e.median;
    let judgement = match variation {
        v if v < 0.1 => "very even",
        v if v < 0.3 => "even",
        v if v < 0.7 => "uneven",
        _ => "very uneven",
    };
    Some(format!(
        "latency is {judgement}: its standard deviation is {} of the mean, and p99 is {} × the median{}",
        show_share(variation),
        significant(tail),
        length_hint(summary.latency.output_tokens.as_ref())
    ))
}

/// Uneven latency may just be uneven length.
fn length_hint(tokens: Option<&Distribution>) -> String {
    match tokens {
        Some(tokens) if tokens.min < tokens.max => {
            let (min, max) = (tokens.min, tokens.max);
            format!(" (replies had {min:.0} to {max:.0} tokens; --ignore-eos makes them equal)")
        }
        _ => String::new(),
    }
}

/// Why there are fewer times to the first token than replies.
fn silent_replies(summary: &Summary) -> Option<String> {
    let count = |d: &Option<Distribution>| d.as_ref().map_or(0, |d| d.count);
    // a reply that was not streamed has neither
    let streamed = count(&summary.latency.ttfe);
    let silent = streamed.checked_sub(count(&summary.latency.ttft)).filter(|silent| *silent > 0)?;
    Some(format!(
        "{} of {} replies had tokens and none that showed (such as an end of text at once, or hidden reasoning): they have \
         an E2E latency, but no TTFT, TPOT and ITL",
        show_count(silent),
        show_count(streamed)
    ))
}

fn unknown_tokens(summary: &Summary) -> Option<String> {
    let missing = summary.tokens.replies_without_usage;
    (missing > 0).then(|| {
        format!(
            "{} replies had no usage that counts tokens: these are unknown and in no token figure; ask the server for \
             stream_options.include_usage",
            show_count(missing)
        )
    })
}

fn contradicted_tokens(summary: &Summary) -> Option<String> {
    let count = summary.tokens.replies_contradicted;
    (count > 0).then(|| {
        format!(
            "the usage of {} counts fewer tokens than the reply's events: one of the two is wrong. Token figures are those of \
             the usage; do not trust them, nor TPOT and ITL",
            if count == 1 { "1 reply".to_owned() } else { format!("{} replies", show_count(count)) }
        )
    })
}

/// Replies had tokens that made no event, and their times are not known.
fn unknown_pace(summary: &Summary, server_ms: Option<f64>) -> Option<String> {
    let latency = &summary.latency;
    // that there was no usage, or a wrong one, is said already
    let tokens = &summary.tokens;
    let said = tokens.replies_without_usage.saturating_add(tokens.replies_contradicted);
    let no_tpot = latency.tpot_unknown?.saturating_sub(said);
    let no_itl = latency.itl_unknown?.saturating_sub(tokens.replies_contradicted);
    let count = no_tpot.max(no_itl);
    let (what, is) = match (no_tpot > 0, no_itl > 0) {
        (true, true) => ("TPOT and ITL", "are"),
        (true, false) => ("TPOT", "is"),
        (false, true) => ("ITL", "is"),
        (false, false) => return None,
    };
    let of_server = server_ms.map_or_else(String::new, |ms| {
        format!("; the server's own time per token is {} ms", significant(ms))
    });
    Some(format!(
        "{what} of {} {is} not known: tokens came that no event showed, such as the syntax of tool calls or hidden \
         reasoning; --continuous-usage makes the server count them{of_server}",
        if count == 1 { "1 reply".to_owned() } else { format!("{} replies", show_count(count)) }
    ))
}

/// Events seem to have held several tokens. Whether some were hidden instead, the server's own time may tell.
fn uncertain_pace(summary: &Summary, server_ms: Option<f64>) -> Option<String> {
    let latency = &summary.latency;
    let per_event = significant(latency.tokens_per_event?);
    if latency.tpot_source == Some(TpotSource::Assumed) && latency.tokens_per_event? >= HIDDEN {
        let agrees = match differs(summary, server_ms) {
            Some(true) => return None,
            Some(false) => ", but the server's own time per token agrees",
            None => "",
        };
        return Some(format!(
            "there were {per_event} output tokens for each event, and TPOT and ITL take an event to have held so many; \
             were some hidden instead, both would be too low{agrees}. --continuous-usage makes the server count them"
        ));
    }
    (latency.itl_source == Some(ItlSource::Estimated) && latency.tokens_per_event? >= 1.5).then(|| {
        format!(
            "an event held {per_event} tokens on average, so ITL is estimated; --continuous-usage makes the server count \
             them"
        )
    })
}

/// From so many output tokens for each token event on, some may have been hidden.
const HIDDEN: f64 = 1.1;

/// Where tokens may have been hidden, whether TPOT is another than the server's own time per token: by over 10 %. `None`
/// where one of them is not known.
fn differs(summary: &Summary, server_ms: Option<f64>) -> Option<bool> {
    let ratio = summary.latency.tpot.as_ref()?.mean / server_ms?;
    Some(!(0.9..=1.1).contains(&ratio))
}

fn other_pace(summary: &Summary, server_ms: Option<f64>) -> Option<String> {
    let latency = &summary.latency;
    let is_other = differs(summary, server_ms)? && latency.tokens_per_event? >= HIDDEN;
    let why = match latency.tpot_source? {
        TpotSource::Assumed => {
            "tokens were hidden that TPOT and ITL take for parts of the events shown, or else"
        }
        _ => "either replies of unlike speed were of unlike length, or",
    };
    is_other.then_some(format!(
        "there were {} output tokens for each event, and TPOT, {} ms on average, is not the server's own time per token of \
         {} ms: {why} the server had other traffic, or this client was late",
        significant(latency.tokens_per_event?),
        significant(latency.tpot.as_ref()?.mean),
        significant(server_ms?)
    ))
}

fn joined_events(summary: &Summary) -> Option<String> {
    let per_read = summary.latency.events_per_read?;
    (per_read >= 2.0).then(|| {
        format!(
            "a read brought {} events on average: the server or the network bundles them, or this client was slow to \
             read; ITL is blurred by that",
            significant(per_read)
        )
    })
}

fn reconnects(load: &Load, summary: &Summary) -> Option<String> {
    let connections = &summary.connections;
    let is_wasteful = connections.opened > connections.reused && summary.requests.sent > 20;
    let many = summary.requests.sent as f64 / connections.opened.max(1) as f64;
    // the many threads of an open loop take turns, so most of their connections are new
    (!load.is_open() && is_wasteful && many < 1.5).then(|| {
        format!(
            "{} of {} requests opened a connection of their own: the server, or something before it, does not keep \
             connections",
            show_count(connections.opened),
            show_count(summary.requests.sent)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;
    use crate::summary::{ErrorLine, Requests, Samples, Tally};
    use std::num::NonZeroUsize;

    fn load() -> Load {
        let threads = NonZeroUsize::new(20).expect("20");
        Load {
            threads,
            arrivals: None,
            completions: None,
            duration: None,
            warmup: Extent::NONE,
            cooldown: Extent::NONE,
            grace: None,
        }
    }

    fn summary(succeeded: u64, failed: u64) -> Summary {
        let mut summary = Tally::default().into_summary();
        summary.requests = Requests { sent: succeeded + failed, succeeded, failed, ..Requests::default() };
        if failed > 0 {
            let kind = FailureKind::Http(503);
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

    fn check(summary: &Summary, want: &str) {
        let said = remarks(&load(), summary, None);
        assert!(said.iter().any(|line| line.contains(want)), "{want:?} not in {said:#?}");
    }

    #[test]
    fn failures_come_first() {
        check(&summary(90, 10), "10 of 100 requests failed (10.0%), most with http_503");
        check(&summary(0, 10), "no request succeeded");
        check(&summary(0, 0), "no request that counts has ended");
        let mut given_up = summary(90, 10);
        (given_up.requests.sent, given_up.requests.by_client) = (150, 50);
        check(&given_up, "10 of 100 requests failed (10.0%)");
    }

    #[test]
    fn too_few_requests_are_said_to_be_few() {
        for (count, is_few) in [(100, true), (300, true), (367, true), (368, false)] {
            let summary = summary(count, 0);
            let is_said =
                remarks(&load(), &summary, None).iter().any(|line| line.contains("too few for the 95%"));
            // said just where the report shows a dash
            let mut values = Samples::new(1);
            (1..=count).for_each(|value| values.add(value));
            let interval = values.into_distribution(1.0).and_then(|d| d.ci95).expect("told").p99;
            assert_eq!((is_said, interval.high.is_none()), (is_few, is_few), "{count}");
        }
        check(&summary(7, 0), "20 threads for 7 requests");
        assert_eq!(remarks(&load(), &summary(400, 0), None), Vec::<String>::new());
    }

    #[test]
    fn consistency_is_judged_and_explained() {
        let mut samples = Samples::new(1);
        (0..100).for_each(|i| samples.add(1_000 + i));
        let mut even = summary(300, 0);
        even.latency.e2e = samples.into_distribution(1.0);
        check(&even, "latency is very even");
        let mut nothing = Samples::new(1);
        (0..100).for_each(|i| nothing.add(i / 60));
        even.latency.e2e = nothing.into_distribution(1.0);
        assert!(consistency(&even).is_none());
    }

    #[test]
    fn uncertain_figures_are_said_to_be_so() {
        let mut vague = summary(300, 0);
        vague.tokens.replies_without_usage = 3;
        vague.latency.itl_source = Some(ItlSource::Estimated);
        vague.latency.tokens_per_event = Some(3.0);
        vague.latency.events_per_read = Some(4.0);
        check(&vague, "3 replies had no usage");
        check(&vague, "ITL is estimated");
        vague.tokens.replies_contradicted = 12;
        check(&vague, "the usage of 12 replies counts fewer tokens than the reply's events");
        check(&vague, "a read brought 4.00 events");
    }

    #[test]
    fn replies_without_a_first_token_are_counted() {
        let of = |count: u64| {
            let mut values = Samples::new(1);
            (0..count).for_each(|_| values.add(10));
            values.into_distribution(1.0)
        };
        let mut silent = summary(500, 0);
        (silent.latency.e2e, silent.latency.ttfe, silent.latency.ttft) = (of(500), of(500), of(485));
        check(&silent, "15 of 500 replies had tokens and none that showed");
        silent.latency.ttft = None;
        check(&silent, "500 of 500 replies had tokens and none that showed");
        silent.latency.ttft = of(500);
        assert!(silent_replies(&silent).is_none());
        (silent.latency.ttfe, silent.latency.ttft) = (None, None);
        assert!(silent_replies(&silent).is_none());
    }

    fn ten_ms() -> Option<Distribution> {
        let mut values = Samples::new(1);
        (0..100).for_each(|_| values.add(10));
        values.into_distribution(1.0)
    }

    #[test]
    fn tokens_that_made_no_event_are_called_so() {
        let mut hidden = summary(400, 0);
        (hidden.latency.tpot_unknown, hidden.latency.itl_unknown) = (Some(64), Some(64));
        hidden.latency.tpot_source = Some(TpotSource::Unknown);
        hidden.latency.itl_source = Some(ItlSource::Unknown);
        hidden.latency.tokens_per_event = Some(2.57);
        let said = |summary: &Summary, server_ms| remarks(&load(), summary, server_ms).join("\n");
        let told = said(&hidden, Some(4.41));
        assert!(
            told.contains("TPOT and ITL of 64 replies are not known: tokens came that no event"),
            "{told}"
        );
        assert!(told.contains("server's own time per token is 4.41 ms"), "{told}");
        assert!(!told.contains("an event held"), "{told}");
        (hidden.latency.tpot, hidden.latency.tpot_unknown) = (ten_ms(), Some(0));
        hidden.latency.tpot_source = Some(TpotSource::Whole);
        let told = said(&hidden, Some(10.2));
        assert!(told.contains("ITL of 64 replies is not known"), "{told}");
        assert!(!told.contains("not the server's own"), "{told}");
        assert!(said(&hidden, Some(20.0)).contains("not the server's own time per token of 20.0 ms"));
        // no usage is another remark's
        let mut silent = summary(400, 0);
        (silent.latency.tpot_unknown, silent.latency.itl_unknown) = (Some(9), Some(0));
        silent.tokens.replies_without_usage = 9;
        assert!(!said(&silent, None).contains("no event showed"));
        // nor is a wrong one
        (silent.tokens.replies_without_usage, silent.tokens.replies_contradicted) = (0, 9);
        silent.latency.itl_unknown = Some(9);
        assert!(!said(&silent, None).contains("no event showed"));
    }

    #[test]
    fn bundles_that_may_be_hidden_tokens_are_held_to_the_servers_own_time() {
        let mut assumed = summary(400, 0);
        assumed.latency.tpot = ten_ms();
        (assumed.latency.tpot_unknown, assumed.latency.itl_unknown) = (Some(0), Some(0));
        assumed.latency.tpot_source = Some(TpotSource::Assumed);
        assumed.latency.itl_source = Some(ItlSource::Estimated);
        assumed.latency.tokens_per_event = Some(2.0);
        let said = |server_ms| remarks(&load(), &assumed, server_ms);
        let [alone] = &said(None)[..] else { panic!("{:?}", said(None)) };
        assert!(alone.contains("were some hidden instead, both would be too low. --cont"), "{alone}");
        let [agrees] = &said(Some(9.5))[..] else { panic!("{:?}", said(Some(9.5))) };
        assert!(agrees.contains("too low, but the server's own time per token agrees"), "{agrees}");
        let [differs] = &said(Some(20.0))[..] else { panic!("{:?}", said(Some(20.0))) };
        assert!(differs.contains("20.0 ms: tokens were hidden that TPOT and ITL take for"), "{differs}");
    }
}
