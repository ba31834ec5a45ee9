//! Takes records in, one at a time, and keeps only what the summary needs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bounded::Bounded;
use super::goodput;
use super::pace::PaceTally;
use super::sample::SampleTally;
use super::timeline::TimelineTally;
use super::window::{Full, WindowTally};
use super::worst::WorstTally;
use super::{
    Bytes, Connections, Distribution, ErrorLine, Goodput, GoodputAtBest, Latency, Requests, RetryAfter,
    Samples, Slo, Summary, Throughput, Tokens,
};
use crate::clock::Moment;
use crate::failure::{Failure, FailureKind};
use crate::record::{Phase, Record, Sink};
use crate::units::{nanos, ratio};

/// The sums, counts and samples of one run so far.
#[derive(Debug)]
pub struct Tally {
    /// Requests of warm-up and cool-down, and how many of them did not succeed.
    warmup: u64,
    cooldown: u64,
    unmeasured_failed: u64,
    succeeded: u64,
    failed: u64,
    by_client: u64,
    not_sent: u64,
    windows: WindowTally,
    slos: Vec<Slo>,
    good: u64,
    /// Those that are good if every time that is not known is at its lower end.
    good_at_best: u64,
    unjudged: u64,
    timeline: TimelineTally,
    worst: WorstTally,
    sample: SampleTally,
    from: Option<Moment>,
    until: Option<Moment>,
    busy: Duration,
    due: Span,
    started: Span,
    no_worker_free: u64,
    tokens: Tokens,
    times: Times,
    pace: PaceTally,
    /// Output tokens after the first, and the gaps they came in, for replies with counts.
    counted_tokens: (u64, u64),
    /// Successful replies with gaps between their tokens.
    gapped: u64,
    late: Late,
    events: u64,
    reads: u64,
    unstamped_reads: u64,
    errors: BTreeMap<FailureKind, Failures>,
    statuses: BTreeMap<u16, u64>,
    finish_reasons: BTreeMap<String, u64>,
    connections: Connections,
    bytes: Bytes,
    server_timings: BTreeMap<String, Samples>,
}

/// The failures of one kind: their number, the first of them, when first and last ended, and how long the server asked
/// to be left alone.
#[derive(Debug)]
struct Failures {
    count: u64,
    example: Failure,
    first_request: u64,
    ended: (Moment, Moment),
    retry_after: Option<RetryAfter>,
}

/// What is not known for certain because this client was late.
#[derive(Debug, Default)]
struct Late {
    /// Successful requests with a moment that is not known to the millisecond.
    requests: u64,
    /// Gaps between token events of successful requests, and how many of them are not known.
    gaps: u64,
    uncertain_gaps: u64,
    /// How long this client stood still in measured requests, and in how many of them.
    stood_still: Duration,
    stood_still_in: u64,
}

/// First, last and number of some moments.
#[derive(Debug, Default)]
struct Span {
    ends: Option<(Moment, Moment)>,
    count: u64,
}

impl Span {
    fn add(&mut self, moment: Moment) {
        let (first, last) = self.ends.unwrap_or((moment, moment));
        self.ends = Some((first.min(moment), last.max(moment)));
        self.count += 1;
    }

    /// Gaps per second between first and last.
    fn rate(&self) -> Option<f64> {
        let (first, last) = self.ends?;
        let seconds = last.since(first).as_secs_f64();
        (seconds > 0.0).then(|| (self.count - 1) as f64 / seconds)
    }
}

#[derive(Debug)]
struct Times {
    e2e: Bounded,
    ttft: Bounded,
    response_e2e: Bounded,
    response_ttft: Bounded,
    lag: Samples,
    tpot: Bounded,
    itl: Bounded,
    inter_event: Bounded,
    ttfb: Samples,
    ttfe: Samples,
    connect: Samples,
    dns: Samples,
    tcp: Samples,
    tls: Samples,
    read_delay: Samples,
    input_tokens: Samples,
    output_tokens: Samples,
}

/// Nanoseconds in the unit of the histograms, and in a millisecond.
const MICROSECOND: u64 = 1_000;
const MILLISECOND: f64 = 1e6;
/// A server can name as many timings and finish reasons as it likes; this many are kept.
const MAX_NAMES: usize = 64;

impl Default for Tally {
    /// Of a run whose load is up with its first request.
    fn default() -> Self {
        Self::new(Full::Started(1))
    }
}

impl Tally {
    /// Of a run whose load is up as `full` says.
    pub fn new(full: Full) -> Self {
        let time = || Samples::new(MICROSECOND);
        let bounded = || Bounded::new(MICROSECOND);
        let times = Times {
            e2e: bounded(),
            ttft: bounded(),
            response_e2e: bounded(),
            response_ttft: bounded(),
            lag: time(),
            tpot: bounded(),
            itl: bounded(),
            inter_event: bounded(),
            ttfb: time(),
            ttfe: time(),
            connect: time(),
            dns: time(),
            tcp: time(),
            tls: time(),
            read_delay: time(),
            input_tokens: Samples::new(1),
            output_tokens: Samples::new(1),
        };
        Self {
            warmup: 0,
            cooldown: 0,
            unmeasured_failed: 0,
            succeeded: 0,
            failed: 0,
            by_client: 0,
            not_sent: 0,
            windows: WindowTally::new(full),
            slos: Vec::new(),
            good: 0,
            good_at_best: 0,
            unjudged: 0,
            timeline: TimelineTally::default(),
            worst: WorstTally::default(),
            sample: SampleTally::default(),
            from: None,
            until: None,
            busy: Duration::ZERO,
            due: Span::default(),
            started: Span::default(),
            no_worker_free: 0,
            tokens: Tokens::default(),
            times,
            pace: PaceTally::default(),
            counted_tokens: (0, 0),
            gapped: 0,
            late: Late::default(),
            events: 0,
            reads: 0,
            unstamped_reads: 0,
            errors: BTreeMap::new(),
            statuses: BTreeMap::new(),
            finish_reasons: BTreeMap::new(),
            connections: Connections::default(),
            bytes: Bytes::default(),
            server_timings: BTreeMap::new(),
        }
    }
}

impl Sink for Tally {
    fn record(&mut self, record: &Record) {
        if !record.was_started() {
            self.add_not_sent(record);
            return;
        }
        self.windows.add(record);
        self.timeline.add(record);
        if record.phase != Phase::Measured {
            self.warmup += u64::from(record.phase == Phase::Warmup);
            self.cooldown += u64::from(record.phase == Phase::Cooldown);
            self.unmeasured_failed += u64::from(!record.is_success());
            return;
        }
        let is_good = goodput::judge(&self.slos, record, Slo::is_met);
        let is_good_at_best = || goodput::judge(&self.slos, record, Slo::may_be_met) == Some(true);
        self.good += u64::from(is_good == Some(true));
        self.good_at_best += u64::from(is_good == Some(true) || is_good_at_best());
        self.unjudged += u64::from(is_good.is_none());
        self.worst.add(record);
        self.sample.add(record);
        self.add_window(record);
        self.add_wire(record);
        match record.failure() {
            None => self.add_success(record),
            Some(failure) => self.add_failure(record, failure),
        }
    }
}

impl Tally {
    /// The same, counting the requests that meet these objectives.
    #[must_use]
    pub fn with_slos(self, slos: &[Slo]) -> Self {
        Self { slos: slos.to_vec(), ..self }
    }

    fn add_window(&mut self, record: &Record) {
        let moments = &record.moments;
        self.from = Some(self.from.map_or(moments.started, |from| from.min(moments.started)));
        self.until = Some(self.until.map_or(moments.end, |until| until.max(moments.end)));
        self.busy += moments.end.since(moments.started);
        self.due.add(moments.due);
        self.started.add(moments.started);
        self.no_worker_free += u64::from(record.found_no_worker());
        self.times.lag.add(nanos(record.lag()));
        self.late.stood_still += record.stood_still;
        self.late.stood_still_in += u64::from(!record.stood_still.is_zero());
    }

    fn add_wire(&mut self, record: &Record) {
        if let Some(status) = record.status {
            *self.statuses.entry(status).or_default() += 1;
        }
        match record.connection.reused {
            Some(true) => self.connections.reused += 1,
            Some(false) => self.connections.opened += 1,
            None => {}
        }
        self.connections.stale_retries += u64::from(record.connection.stale_retry);
        self.bytes.sent += record.bytes_sent;
        self.bytes.received += record.bytes_received;
        record.read_delays.iter().for_each(|delay| self.times.read_delay.add(nanos(*delay)));
        self.unstamped_reads += record.unstamped_reads;
        sample(&mut self.times.connect, record.connect().map(nanos));
        sample(&mut self.times.dns, record.connection.dns.map(nanos));
        sample(&mut self.times.tcp, record.connection.tcp.map(nanos));
        sample(&mut self.times.tls, record.connection.tls.map(nanos));
    }

    /// It was due, and that is all: it has no time and is in no window.
    fn add_not_sent(&mut self, record: &Record) {
        self.not_sent += record.arrivals;
        if let (Phase::Measured, Some(failure)) = (record.phase, record.failure()) {
            self.due.add(record.moments.due);
            self.due.count += record.arrivals.saturating_sub(1);
            self.add_error(record, failure);
        }
    }

    fn add_failure(&mut self, record: &Record, failure: &Failure) {
        *if failure.kind.is_of_client() { &mut self.by_client } else { &mut self.failed } += 1;
        self.add_error(record, failure);
    }

    fn add_error(&mut self, record: &Record, failure: &Failure) {
        let end = record.moments.end;
        let of_kind = self.errors.entry(failure.kind).or_insert_with(|| Failures {
            count: 0,
            example: failure.clone(),
            first_request: record.id,
            ended: (end, end),
            retry_after: None,
        });
        of_kind.count += record.arrivals;
        of_kind.ended = (of_kind.ended.0.min(end), of_kind.ended.1.max(end));
        if let Some(seconds) = failure.retry_after.map(|wait| wait.as_secs()) {
            let said = of_kind.retry_after.get_or_insert(RetryAfter { min: seconds, max: seconds });
            *said = RetryAfter { min: said.min.min(seconds), max: said.max.max(seconds) };
        }
    }

    fn add_success(&mut self, record: &Record) {
        self.succeeded += 1;
        let mut reason = record.finish_reason.as_ref().map_or("none".to_owned(), ToString::to_string);
        if self.finish_reasons.len() >= MAX_NAMES && !self.finish_reasons.contains_key(&reason) {
            reason = "other".to_owned();
        }
        *self.finish_reasons.entry(reason).or_default() += 1;
        self.add_tokens(record);
        self.add_times(record);
        self.add_itl(record);
        for (name, ms) in &record.server_timings {
            self.add_server_timing(name, *ms);
        }
    }

    fn add_tokens(&mut self, record: &Record) {
        let usage = &record.usage;
        add_some(&mut self.tokens.input, usage.input_tokens);
        add_some(&mut self.tokens.output, usage.output_tokens);
        add_some(&mut self.tokens.cached, usage.cached_tokens);
        add_some(&mut self.tokens.reasoning, usage.reasoning_tokens);
        self.tokens.replies_without_usage += u64::from(usage.output_tokens.is_none());
        self.tokens.replies_contradicted += u64::from(record.contradicts_its_events());
        sample(&mut self.times.input_tokens, usage.input_tokens);
        sample(&mut self.times.output_tokens, usage.output_tokens);
    }

    fn add_times(&mut self, record: &Record) {
        let times = &mut self.times;
        times.e2e.add(record.e2e_ends());
        times.ttft.add(record.ttft_ends());
        times.response_e2e.add(record.response_e2e_ends());
        times.response_ttft.add(record.response_ttft_ends());
        times.tpot.add(record.tpot_ends());
        sample(&mut times.ttfb, record.ttfb().map(nanos));
        sample(&mut times.ttfe, record.ttfe().map(nanos));
    }

    fn add_itl(&mut self, record: &Record) {
        let (source, itl) = record.itl();
        let gaps = record.token_events.len().saturating_sub(1) as u64;
        // of each choice by itself, as those that are not known are
        self.late.gaps += record.gaps().count() as u64;
        if record.is_exact() {
            record.gaps().for_each(|gap| self.times.inter_event.add_known(gap, 1));
            itl.for_each(|(latency, tokens)| self.times.itl.add_known(latency, tokens));
        } else {
            self.times.inter_event.add_all(&record.gap_times());
            self.times.itl.add_all(&record.itl_times());
            self.late.requests += u64::from(record.is_uncertain());
            self.late.uncertain_gaps += record.uncertain_gaps();
        }
        self.gapped += u64::from(gaps > 0);
        self.pace.add(record.tpot_source(), Some(source).filter(|_| gaps > 0));
        if let (Some(output), true) = (record.usage.output_tokens, gaps > 0) {
            self.counted_tokens.0 = self.counted_tokens.0.saturating_add(output.saturating_sub(1));
            self.counted_tokens.1 += gaps;
        }
        if record.events > 0 {
            self.events += record.events;
            self.reads += record.reads;
        }
    }

    fn add_server_timing(&mut self, name: &str, ms: f64) {
        let is_known = self.server_timings.contains_key(name);
        if !(ms.is_finite() && ms >= 0.0) || (!is_known && self.server_timings.len() >= MAX_NAMES) {
            return;
        }
        let samples = self.server_timings.entry(name.to_owned()).or_insert_with(|| Samples::new(MICROSECOND));
        samples.add((ms * MILLISECOND) as u64);
    }

    /// Requests of all phases that have ended so far: succeeded, and all others.
    pub fn ended(&self) -> (u64, u64) {
        let unmeasured = self.warmup + self.cooldown - self.unmeasured_failed;
        (self.succeeded + unmeasured, self.failed + self.by_client + self.unmeasured_failed)
    }

    /// When the first request of all phases started; `None` before one has ended.
    pub fn origin(&self) -> Option<Moment> {
        self.windows.origin()
    }

    /// What it all comes to.
    pub fn into_summary(self) -> Summary {
        let duration = self.from.zip(self.until).map(|(from, until)| until.since(from));
        let seconds = duration.map(|d| d.as_secs_f64()).filter(|s| *s > 0.0);
        let rate = |count: Option<u64>| Some(count? as f64 / seconds?);
        let total =
            self.tokens.input.zip(self.tokens.output).map(|(input, output)| input.saturating_add(output));
        let answered = self.succeeded + self.failed;
        let throughput = Throughput {
            offered_requests_per_s: self.due.rate(),
            sent_requests_per_s: self.started.rate(),
            requests_per_s: rate(Some(self.succeeded)),
            output_tokens_per_s: rate(self.tokens.output),
            total_tokens_per_s: rate(total),
        };
        let judged = answered.saturating_sub(self.unjudged);
        let goodput = (!self.slos.is_empty()).then(|| Goodput {
            good: self.good,
            unjudged: self.unjudged,
            share: ratio(self.good, judged),
            requests_per_s: rate(Some(self.good).filter(|_| judged > 0 || self.unjudged == 0)),
            at_best: (self.good_at_best > self.good).then(|| GoodputAtBest {
                good: self.good_at_best,
                share: ratio(self.good_at_best, judged),
                requests_per_s: rate(Some(self.good_at_best)),
            }),
        });
        let latency = self.times.into_latency(
            self.failed,
            self.pace,
            ratio(self.counted_tokens.0, self.counted_tokens.1),
            ratio(self.events, self.reads),
            self.unstamped_reads,
            self.gapped,
        );
        let latency = Latency {
            uncertain_requests_share: ratio(self.late.requests, self.succeeded),
            uncertain_gaps_share: ratio(self.late.uncertain_gaps, self.late.gaps),
            stood_still_s: Some(self.late.stood_still.as_secs_f64()),
            ..latency
        };
        Summary {
            requests: Requests {
                sent: answered + self.by_client,
                succeeded: self.succeeded,
                failed: self.failed,
                by_client: self.by_client,
                not_sent: self.not_sent,
                success_rate: ratio(self.succeeded, answered),
                warmup: self.warmup,
                cooldown: self.cooldown,
                no_worker_free: self.no_worker_free,
                stood_still: self.late.stood_still_in,
            },
            duration_s: duration.map(|d| d.as_secs_f64()),
            windows: self.windows.windows(),
            goodput,
            throughput,
            tokens: self.tokens,
            latency,
            mean_in_flight: seconds.map(|s| self.busy.as_secs_f64() / s),
            timeline: self.timeline.timeline(&self.windows),
            worst: self.worst.worst(self.windows.origin().unwrap_or_default()),
            sample: self.sample.sample(),
            errors: error_lines(self.errors, self.windows.origin().unwrap_or_default()),
            statuses: self.statuses,
            finish_reasons: self.finish_reasons,
            connections: self.connections,
            bytes: self.bytes,
            server_timings: distributions(self.server_timings),
            backoff: None,
        }
    }
}

impl Times {
    fn into_latency(
        mut self,
        failed: u64,
        pace: PaceTally,
        tokens_per_event: Option<f64>,
        events_per_read: Option<f64>,
        unstamped_reads: u64,
        gapped: u64,
    ) -> Latency {
        let ms = |samples: Samples| samples.into_distribution(MILLISECOND);
        let is_streamed = self.ttft.count() > 0;
        let adjusted = |samples: &mut Bounded| samples.adjusted(failed, MILLISECOND);
        let (adj_e2e, adj_e2e_low) = adjusted(&mut self.e2e);
        let (adj_ttft, adj_ttft_low) = adjusted(&mut self.ttft);
        let (adj_response_e2e, adj_response_e2e_low) = adjusted(&mut self.response_e2e);
        let (adj_response_ttft, adj_response_ttft_low) = adjusted(&mut self.response_ttft);
        let ends = |samples: Bounded| samples.into_distributions(None, MILLISECOND);
        let (e2e, e2e_low) = ends(self.e2e);
        let (ttft, ttft_low) = ends(self.ttft);
        let (response_e2e, response_e2e_low) = ends(self.response_e2e);
        let (response_ttft, response_ttft_low) = ends(self.response_ttft);
        let (tpot, tpot_low) = ends(self.tpot);
        let (itl, itl_low) =
            self.itl.into_distributions(Some(gapped.saturating_sub(pace.itl_unknown)), MILLISECOND);
        let (inter_event, inter_event_low) = self.inter_event.into_distributions(Some(gapped), MILLISECOND);
        Latency {
            adj_e2e,
            adj_ttft: adj_ttft.filter(|_| is_streamed),
            adj_response_e2e,
            adj_response_ttft: adj_response_ttft.filter(|_| is_streamed),
            adj_e2e_low,
            adj_ttft_low,
            adj_response_e2e_low,
            adj_response_ttft_low,
            e2e,
            ttft,
            response_e2e,
            response_ttft,
            lag: ms(self.lag),
            tpot,
            tpot_source: pace.tpot_source(),
            tpot_unknown: Some(pace.tpot_unknown),
            itl,
            itl_source: pace.itl_source(),
            itl_unknown: Some(pace.itl_unknown),
            inter_event,
            e2e_low,
            ttft_low,
            response_e2e_low,
            response_ttft_low,
            tpot_low,
            itl_low,
            inter_event_low,
            ttfb: ms(self.ttfb),
            ttfe: ms(self.ttfe),
            connect: ms(self.connect),
            dns: ms(self.dns),
            tcp: ms(self.tcp),
            tls: ms(self.tls),
            kernel_stamped_share: ratio(self.read_delay.count(), self.read_delay.count() + unstamped_reads),
            read_delay: ms(self.read_delay),
            input_tokens: self.input_tokens.into_distribution(1.0),
            output_tokens: self.output_tokens.into_distribution(1.0),
            tokens_per_event,
            events_per_read,
            uncertain_requests_share: None,
            uncertain_gaps_share: None,
            stood_still_s: None,
        }
    }
}

fn add_some(sum: &mut Option<u64>, value: Option<u64>) {
    if let Some(value) = value {
        *sum = Some(sum.unwrap_or_default().saturating_add(value));
    }
}

fn sample(samples: &mut Samples, value: Option<u64>) {
    if let Some(value) = value {
        samples.add(value);
    }
}

fn error_lines(errors: BTreeMap<FailureKind, Failures>, origin: Moment) -> Vec<ErrorLine> {
    let mut lines: Vec<ErrorLine> = errors
        .into_iter()
        .map(|(kind, of_kind)| ErrorLine {
            kind: kind.name(),
            group: kind.group(),
            meaning: kind.meaning().into(),
            count: of_kind.count,
            example: of_kind.example.message,
            first_request: of_kind.first_request,
            first_s: of_kind.ended.0.since(origin).as_secs_f64(),
            last_s: of_kind.ended.1.since(origin).as_secs_f64(),
            retry_after_s: of_kind.retry_after,
        })
        .collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.count));
    lines
}

fn distributions(timings: BTreeMap<String, Samples>) -> BTreeMap<String, Distribution> {
    timings
        .into_iter()
        .filter_map(|(name, samples)| Some((name, samples.into_distribution(MILLISECOND)?)))
        .collect()
}
