//! How fast the tokens of one reply came: gaps, TPOT, ITL, and what is known of the tokens that no event showed.
//!
//! A server counts tokens that it never shows: the syntax of tool calls, hidden reasoning, `<think>`, the end of text. To
//! divide the time between visible events by all tokens is wrong where many are unseen, and a bundle of speculative
//! decoding looks just the same. `docs/metrics.md` says how the two are told apart.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bounds::between;
use super::{Ends, FinishReason, ItlSource, Record, Share, TokenEvent};
use crate::clock::Moment;

/// What a stream showed beside its token events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamFacts {
    /// The last event that said why a choice ended; `None` where there was none.
    #[serde(skip_serializing_if = "is_default")]
    pub finish: Option<Moment>,
    /// How much earlier it may have come, in microseconds, where this client read late; 0 where its time is known.
    #[serde(skip_serializing_if = "is_default")]
    pub finish_early_us: u32,
    /// Events of that kind that bore no token.
    #[serde(skip_serializing_if = "is_default")]
    pub silent_finishes: u32,
    /// Whether the first event spoke of a choice, with its role or with text.
    #[serde(skip_serializing_if = "is_default")]
    pub opens_with_choice: bool,
    /// How much earlier the first event may have come, in microseconds, likewise.
    #[serde(skip_serializing_if = "is_default")]
    pub first_event_early_us: u32,
    /// Choices that events spoke of: the highest index and 1.
    #[serde(skip_serializing_if = "is_default")]
    pub choices: u32,
    /// Whether an event bore tokens of more choices than one.
    #[serde(skip_serializing_if = "is_default")]
    pub is_mixed: bool,
    /// Whether reasoning was shown.
    #[serde(skip_serializing_if = "is_default")]
    pub reasoning: bool,
    /// Whether parts of tool calls were shown.
    #[serde(skip_serializing_if = "is_default")]
    pub tool_calls: bool,
    /// Whether every token event had the server's count so far of its choice: one whose tokens are `None` brought none.
    #[serde(skip_serializing_if = "is_default")]
    pub is_counted: bool,
    /// Whether the server's fingerprint is vLLM's: its first event comes with the first token, shown or not.
    #[serde(skip_serializing_if = "is_default")]
    pub is_of_vllm: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How the time per output token is known. In order from the most to the least certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TpotSource {
    /// The server counted the tokens of every event: first to last token event.
    Counted,
    /// Events showed all tokens, or all but so few that they change it by 5 % at most: first to last token event.
    Text,
    /// The server sends its first event with the first token, shown or not: first event to finish event.
    Whole,
    /// There were more tokens than events, and they are taken as several to an event; were they hidden, it would be too
    /// low. First to last token event.
    Assumed,
    /// Tokens came that no event showed, and nobody can say when; or there was no `usage`.
    Unknown,
}

/// Two events so near to each other came at once.
const AT_ONCE: Duration = Duration::from_millis(1);
/// So many tokens unseen for each that was make TPOT wrong by so much at most: 1 in 20, 5 %.
const FEW: u64 = 20;
/// Gaps that tell which is usual: enough, and quickly sorted. Odd, for a middle.
const MOST_SAMPLED: usize = 63;

/// Tokens, and the time in which they came.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pace {
    span: Ends,
    tokens: u64,
    source: TpotSource,
    /// How many came in each event after the first; `None` where that differs and is not known.
    per_event: Option<f64>,
}

impl Pace {
    /// `None` where there is no token.
    fn new(span: Ends, tokens: u64, source: TpotSource, per_event: Option<f64>) -> Option<Self> {
        (tokens > 0).then_some(Self { span, tokens, source, per_event })
    }

    fn time(&self) -> Option<Ends> {
        let tokens = u32::try_from(self.tokens).ok()?;
        Some(Ends { low: self.span.low / tokens, high: self.span.high / tokens })
    }
}

impl Record {
    /// Time per output token after the first event; of several choices the mean over the tokens of all. How its ends and
    /// its tokens are chosen is said by [`tpot_source`](Self::tpot_source). Where the moments of its ends are not known, it
    /// counts from the earliest to the latest. `None` where it is unknown, and where no token is left to divide by.
    pub fn tpot(&self) -> Option<Duration> {
        Some(self.tpot_ends()?.high)
    }

    /// [`tpot`](Self::tpot) at the least and at the most.
    pub fn tpot_ends(&self) -> Option<Ends> {
        self.pace()?.time()
    }

    /// How [`tpot`](Self::tpot) is known. `None` where there is none to be known: the reply was not streamed or had one
    /// token a choice, or it failed before it was known.
    pub fn tpot_source(&self) -> Option<TpotSource> {
        let pace = self.pace().filter(|pace| pace.time().is_some());
        pace.map(|pace| pace.source).or_else(|| self.lacks_tpot().then_some(TpotSource::Unknown))
    }

    /// Whether the reply had tokens after the first of which no time is known.
    fn lacks_tpot(&self) -> bool {
        let first =
            self.token_events.first().and_then(|event| event.tokens).map_or(1, |n| u64::from(n.get()));
        let at_start = first.max(u64::from(self.choices()));
        self.is_success()
            && !self.token_events.is_empty()
            && self.usage.output_tokens.map_or(self.token_events.len() > 1, |output| output > at_start)
    }

    /// Gaps between events that bore tokens, of each choice for itself, as they are stamped: what a reader sees as a stall.
    pub fn gaps(&self) -> impl Iterator<Item = Duration> + '_ {
        self.steps().map(|(before, event)| event.at.since(before.at))
    }

    /// Inter-token latencies: each gap between token events of a choice shared out evenly over the tokens of the event
    /// that ended it, as (latency, tokens). Nothing where that is unknown. The first part says where the token counts are
    /// from.
    pub fn itl(&self) -> (ItlSource, impl Iterator<Item = (Duration, u32)> + '_) {
        let (source, itl) = self.itl_at();
        (source, itl.map(|(_, latency, tokens)| (latency, tokens)))
    }

    /// The same, with the moment of the event that ended the gap first.
    pub fn itl_at(&self) -> (ItlSource, impl Iterator<Item = (Moment, Duration, u32)> + '_) {
        let (source, share) = self.itl_share();
        // gaps of events that brought no new token, until one does
        let mut waited = Vec::new();
        let itl = self.steps().filter_map(move |(before, event)| {
            let gap = event.at.since(before.at);
            let (latency, tokens) = match (source, event.tokens) {
                (ItlSource::Unknown, _) => return None,
                (ItlSource::Counted, Some(tokens)) => {
                    Share::Counted(tokens).of(gap + take_wait(&mut waited, event.choice))
                }
                (ItlSource::Counted, None) => {
                    let before = take_wait(&mut waited, event.choice);
                    waited.push((event.choice, before + gap));
                    return None;
                }
                _ => share.of(gap),
            };
            Some((event.at, latency, tokens))
        });
        (source, itl)
    }

    /// Where the tokens of the gaps are known from, and over how many each gap is shared out if they are not counted.
    pub(super) fn itl_share(&self) -> (ItlSource, Share) {
        if self.token_events.len() < 2 {
            return (ItlSource::Events, Share::One);
        }
        match self.pace() {
            Some(Pace { source: TpotSource::Counted, .. }) => (ItlSource::Counted, Share::One),
            Some(Pace { per_event: Some(1.0), .. }) => (ItlSource::Estimated, Share::One),
            Some(Pace { per_event: Some(tokens), .. }) => (ItlSource::Estimated, Share::Estimated(tokens)),
            _ if self.usage.output_tokens.is_none() => (ItlSource::Events, Share::One),
            _ => (ItlSource::Unknown, Share::One),
        }
    }

    /// The token events of each choice.
    pub(super) fn by_choice(&self) -> Vec<Cow<'_, [TokenEvent]>> {
        if self.choices() == 1 {
            return vec![Cow::Borrowed(&self.token_events)];
        }
        let mut of_each = BTreeMap::<u32, Vec<TokenEvent>>::new();
        for event in &self.token_events {
            of_each.entry(event.choice).or_default().push(*event);
        }
        of_each.into_values().map(Cow::Owned).collect()
    }

    /// From the first to the last token event of each choice, all together.
    fn span(&self) -> Ends {
        let mut all = Ends::default();
        for events in self.by_choice() {
            if let [first, .., last] = events[..] {
                let Ends { low, high } = Ends::between(between(first), between(last));
                all = Ends { low: all.low + low, high: all.high + high };
            }
        }
        all
    }

    /// Choices that the reply had, 1 where that is not known.
    fn choices(&self) -> u32 {
        self.stream.map_or(1, |stream| stream.choices).max(1)
    }

    /// Each token event with the one of the same choice before it.
    pub(super) fn steps(&self) -> impl Iterator<Item = (TokenEvent, TokenEvent)> + '_ {
        let is_one = self.choices() == 1;
        let one = self.token_events.windows(2).filter(move |_| is_one).map(|pair| (pair[0], pair[1]));
        let several = self.token_events.iter().filter(move |_| !is_one);
        let mut last = BTreeMap::new();
        one.chain(several.filter_map(move |event| Some((last.insert(event.choice, *event)?, *event))))
    }

    /// The tokens whose time is known, and that time.
    fn pace(&self) -> Option<Pace> {
        let Some(stream) = self.stream else { return self.pace_without_facts() };
        if stream.is_counted {
            let counted = self.pace_by_counts();
            if counted.is_some() {
                return counted;
            }
        }
        match self.choices() {
            1 => self.pace_by_text(&stream).or_else(|| self.pace_of_whole(&stream, None)),
            choices => self.pace_of_choices(&stream, choices),
        }
    }

    /// As former versions had it: nothing is known of what was not shown.
    fn pace_without_facts(&self) -> Option<Pace> {
        let (first, last) = self.token_span().filter(|_| self.token_events.len() > 1)?;
        let later = self.token_events.get(1..).unwrap_or_default();
        let is_counted = later.iter().all(|event| event.tokens.is_some());
        let source = if is_counted { TpotSource::Counted } else { TpotSource::Assumed };
        let output = self.usage.output_tokens?;
        // some tokens make no event (end of text, <think>), so a ratio near 1 means one token an event
        let per_event = self.tokens_per_event().map(|ratio| if ratio < 1.5 { 1.0 } else { ratio });
        let first_tokens = first.tokens.map_or(1, |n| u64::from(n.get()));
        let span = Ends::between(between(first), between(last));
        Pace::new(span, output.checked_sub(first_tokens)?, source, per_event)
    }

    /// From the server's count at the first token event of each choice to that at its last.
    fn pace_by_counts(&self) -> Option<Pace> {
        let counts = self.steps().filter_map(|(_, event)| event.tokens);
        let tokens = counts.map(|tokens| u64::from(tokens.get())).sum();
        Pace::new(self.span(), tokens, TpotSource::Counted, None)
    }

    /// From first to last token event, where few tokens at most can have come unseen before the first or after the last.
    fn pace_by_text(&self, stream: &StreamFacts) -> Option<Pace> {
        let (first, last) = self.token_span().filter(|_| self.token_events.len() > 1)?;
        let later = self.usage.output_tokens?.checked_sub(first.tokens.map_or(1, |n| u64::from(n.get())))?;
        let gaps = self.token_events.len() as u64 - 1;
        let gap = self.usual_gap();
        let near = (gap / 2).max(AT_ONCE);
        let after_last = stream.finish.map(|finish| finish.since(last.at));
        // a finish a step later came with the end of text, which is counted and is no text
        let is_step_later = stream.silent_finishes > 0 && after_last.is_some_and(|after| after > near);
        let tokens = later - u64::from(is_step_later && later > gaps);
        let unseen = tokens.saturating_sub(gaps);
        let span = Ends::between(between(first), between(last));
        let pace = |source, per_event| Pace::new(span, tokens, source, Some(per_event));
        if self.hides_tokens(stream) {
            return None;
        }
        if unseen == 0 {
            return pace(TpotSource::Text, 1.0);
        }
        // at the most, where this client read late
        let opened = self.first_event_between(stream);
        let begins = opened.is_none_or(|(earliest, _)| first.at.since(earliest) <= near);
        let ends = stream.finish.is_some_and(|at| at.since(last.earliest()) <= (2 * gap).max(AT_ONCE));
        let bundle = tokens as f64 / gaps as f64;
        let is_told = stream.is_of_vllm || self.usage.reasoning_tokens == Some(0);
        match (begins && ends, unseen.saturating_mul(FEW) <= tokens) {
            (true, true) => pace(TpotSource::Text, 1.0),
            (true, false) if is_told => pace(TpotSource::Text, bundle),
            (true, false) => pace(TpotSource::Assumed, bundle),
            (false, true) => self.pace_of_whole(stream, Some(1.0)).or_else(|| pace(TpotSource::Text, 1.0)),
            (false, false) => None,
        }
    }

    /// Whether the reply had what hides tokens: tool calls, or reasoning that is counted and was not shown.
    fn hides_tokens(&self, stream: &StreamFacts) -> bool {
        let calls_tools = stream.tool_calls || self.finish_reason == Some(FinishReason::ToolCalls);
        calls_tools || (!stream.reasoning && self.usage.reasoning_tokens.is_some_and(|tokens| tokens > 0))
    }

    /// From first event to finish event, whatever was shown between. Only where the first event came with the first
    /// token: the server is one that does so, and the event came so much later than the reply's head that a step of
    /// generation can lie between the two.
    fn pace_of_whole(&self, stream: &StreamFacts, per_event: Option<f64>) -> Option<Pace> {
        let (first, finish) = (self.first_event_between(stream)?, stream.finish?);
        let finish = (finish.before(micros(stream.finish_early_us)), finish);
        let later = self.usage.output_tokens?.checked_sub(1)?;
        let pace = Pace::new(Ends::between(first, finish), later, TpotSource::Whole, per_event)?;
        let after_head = first.0.since(self.moments.first_byte?);
        let is_with_token =
            stream.is_of_vllm && stream.opens_with_choice && after_head >= pace.time()?.high / 2;
        is_with_token.then_some(pace)
    }

    /// When the stream's first event came in, at the earliest and at the latest.
    fn first_event_between(&self, stream: &StreamFacts) -> Option<(Moment, Moment)> {
        let at = self.moments.first_event?;
        Some((at.before(micros(stream.first_event_early_us)), at))
    }

    /// The median of the gaps between token events, of some of them where there are many; their mean where it is 0, as
    /// when most came joined in one read. 0 below two token events.
    fn usual_gap(&self) -> Duration {
        let mut gaps = [Duration::ZERO; MOST_SAMPLED];
        let count = self.token_events.len().saturating_sub(1);
        let taken = count.min(MOST_SAMPLED);
        for (number, gap) in gaps[..taken].iter_mut().enumerate() {
            let at = number * count / taken;
            *gap = self.token_events[at + 1].at.since(self.token_events[at].at);
        }
        gaps[..taken].sort_unstable();
        let median = gaps[taken / 2];
        match self.token_span() {
            Some((first, last)) if median.is_zero() && count > 0 => {
                last.at.since(first.at).div_f64(count as f64)
            }
            _ => median,
        }
    }

    /// Several choices: known where events showed all tokens but a few, for then each event had one.
    fn pace_of_choices(&self, stream: &StreamFacts, choices: u32) -> Option<Pace> {
        let output = self.usage.output_tokens?;
        let seen = self.token_events.len() as u64 + u64::from(stream.silent_finishes);
        let later = output.saturating_sub(u64::from(choices));
        let is_few = output.saturating_sub(seen).saturating_mul(FEW) <= later;
        if stream.is_mixed || self.hides_tokens(stream) || !is_few {
            return None;
        }
        Pace::new(self.span(), self.steps().count() as u64, TpotSource::Text, Some(1.0))
    }
}

fn micros(micros: u32) -> Duration {
    Duration::from_micros(micros.into())
}

/// Takes what the events of this choice have waited for a token.
fn take_wait(waited: &mut Vec<(u32, Duration)>, choice: u32) -> Duration {
    let at = waited.iter().position(|(of, _)| *of == choice);
    at.map_or(Duration::ZERO, |at| waited.swap_remove(at).1)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::{Outcome, Phase, Times, Usage};
    use super::*;
    use crate::clock::Arrival;

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn event(ms: u64, tokens: u32, choice: u32) -> TokenEvent {
        TokenEvent { choice, ..TokenEvent::new(Arrival::exact(at(ms)), NonZeroU32::new(tokens)) }
    }

    /// A reply of one choice whose head came at 20 ms, its first event at 100, its token events at these moments.
    fn reply(token_events: &[u64], finish: Option<u64>, output: u64) -> Record {
        let mut record = Record::not_sent(0, Phase::Measured, at(0), at(900));
        record.outcome = Outcome::Success;
        (record.moments.first_byte, record.moments.first_event) = (Some(at(20)), Some(at(100)));
        record.token_events = token_events.iter().map(|ms| event(*ms, 0, 0)).collect();
        record.usage = Usage { output_tokens: Some(output), ..Usage::default() };
        let finish_is_silent = finish != token_events.last().copied();
        record.stream = Some(StreamFacts {
            finish: finish.map(at),
            silent_finishes: u32::from(finish.is_some() && finish_is_silent),
            opens_with_choice: true,
            choices: 1,
            ..StreamFacts::default()
        });
        record
    }

    /// A reply with this said of its stream.
    fn with(mut record: Record, say: impl FnOnce(&mut StreamFacts)) -> Record {
        say(record.stream.as_mut().expect("streamed"));
        record
    }

    fn of_vllm(record: Record) -> Record {
        with(record, |stream| stream.is_of_vllm = true)
    }

    fn calling_tools(record: Record) -> Record {
        with(record, |stream| stream.tool_calls = true)
    }

    /// TPOT and mean ITL in ms, each with its source.
    #[track_caller]
    fn check(record: &Record, tpot: (Option<f64>, TpotSource), itl: (Option<f64>, ItlSource)) {
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let (source, latencies) = record.itl();
        let (sum, count) = latencies.fold((Duration::ZERO, 0), |(s, n), (gap, k)| (s + gap * k, n + k));
        let mean = (count > 0).then(|| ms(sum / count));
        assert_eq!((record.tpot().map(ms), record.tpot_source()), (tpot.0, Some(tpot.1)));
        assert_eq!((mean, source), itl);
    }

    use ItlSource::{Counted as ItlCounted, Estimated, Events, Unknown as ItlUnknown};
    use TpotSource::{Assumed, Counted, Text, Unknown, Whole};

    #[test]
    fn text_is_timed_from_first_to_last_and_the_end_of_text_is_none() {
        let events = [100, 110, 120, 130];
        check(&reply(&events, Some(130), 4), (Some(10.0), Text), (Some(10.0), Estimated));
        check(&reply(&events, Some(140), 5), (Some(10.0), Text), (Some(10.0), Estimated));
        // however late it came
        check(&reply(&events, Some(500), 5), (Some(10.0), Text), (Some(10.0), Estimated));
        // a server that does not count the end of text, and one that sends its finish at once
        check(&reply(&events, Some(140), 4), (Some(10.0), Text), (Some(10.0), Estimated));
        check(&reply(&events, Some(131), 4), (Some(10.0), Text), (Some(10.0), Estimated));
        // the role came before the prompt was read
        check(&reply(&[300, 310, 320], Some(330), 4), (Some(10.0), Text), (Some(10.0), Estimated));
        // no finish reason at all
        check(&reply(&events, None, 4), (Some(10.0), Text), (Some(10.0), Estimated));
        check(&reply(&events, None, 9), (None, Unknown), (None, ItlUnknown));
    }

    #[test]
    fn bundles_of_text_are_known_where_hidden_tokens_would_show() {
        // 1 + 3 + 3 + 3
        let bundles = reply(&[100, 130, 160, 190], Some(190), 10);
        check(&of_vllm(bundles.clone()), (Some(10.0), Text), (Some(10.0), Estimated));
        let mut told = bundles.clone();
        told.usage.reasoning_tokens = Some(0);
        check(&told, (Some(10.0), Text), (Some(10.0), Estimated));
        // nobody says that nothing was hidden
        check(&bundles, (Some(10.0), Assumed), (Some(10.0), Estimated));
    }

    #[test]
    fn tokens_unseen_before_the_first_or_after_the_last_event_are_not_divided_by() {
        // seven tokens before the first text
        let hidden_before = reply(&[170, 180, 190, 200], Some(210), 12);
        check(&hidden_before, (None, Unknown), (None, ItlUnknown));
        check(&of_vllm(hidden_before), (Some(10.0), Whole), (None, ItlUnknown));
        let hidden_after = reply(&[100, 110, 120, 130], Some(180), 9);
        check(&hidden_after, (None, Unknown), (None, ItlUnknown));
        check(&of_vllm(hidden_after), (Some(10.0), Whole), (None, ItlUnknown));
    }

    #[test]
    fn tool_calls_and_hidden_reasoning_are_never_timed_by_their_text() {
        let bundles = || reply(&[100, 130, 160, 190], Some(190), 10);
        check(&calling_tools(bundles()), (None, Unknown), (None, ItlUnknown));
        check(&of_vllm(calling_tools(bundles())), (Some(10.0), Whole), (None, ItlUnknown));
        let mut called = bundles();
        called.finish_reason = Some(FinishReason::ToolCalls);
        check(&called, (None, Unknown), (None, ItlUnknown));
        let mut thought = bundles();
        thought.usage.reasoning_tokens = Some(5);
        check(&thought, (None, Unknown), (None, ItlUnknown));
        // shown, it is text
        check(
            &with(thought, |stream| stream.reasoning = true),
            (Some(10.0), Assumed),
            (Some(10.0), Estimated),
        );
    }

    #[test]
    fn few_unseen_tokens_change_little() {
        let events: Vec<u64> = (0..40).map(|number| 110 + 10 * number).collect();
        // <think> before the first and </think> in the middle, each a step long
        let of_another = reply(&events, Some(500), 42);
        let tpot = of_another.tpot().expect("known").as_secs_f64();
        assert!((tpot / 0.010 - 1.0).abs() < 0.05, "{tpot}");
        assert_eq!((of_another.tpot_source(), of_another.itl().0), (Some(Text), Estimated));
        // from its first event on, vLLM's has 41 steps after the first
        let whole = of_vllm(reply(&events, Some(510), 42));
        check(&whole, (Some(10.0), Whole), (Some(10.0), Estimated));
    }

    #[test]
    fn the_first_event_counts_only_where_it_came_with_the_first_token() {
        let hidden = || of_vllm(calling_tools(reply(&[170, 180], Some(200), 11)));
        check(&hidden(), (Some(10.0), Whole), (None, ItlUnknown));
        // with the head: before the prompt was read
        let mut early = hidden();
        early.moments.first_event = Some(at(21));
        check(&early, (None, Unknown), (None, ItlUnknown));
        check(
            &with(hidden(), |stream| stream.opens_with_choice = false),
            (None, Unknown),
            (None, ItlUnknown),
        );
        check(&with(hidden(), |stream| stream.finish = None), (None, Unknown), (None, ItlUnknown));
    }

    #[test]
    fn counts_are_taken_from_the_first_event_to_the_last() {
        // role, 8 tokens of syntax with the first, then one each, three after the last; one event brings no token
        let mut record = calling_tools(reply(&[180, 190, 190, 200], Some(230), 13));
        for (event, tokens) in record.token_events.iter_mut().zip([8, 1, 0, 1]) {
            event.tokens = NonZeroU32::new(tokens);
        }
        let counted = with(record, |stream| stream.is_counted = true);
        check(&counted, (Some(10.0), Counted), (Some(10.0), ItlCounted));
        // what waited for a token is in that token's latency
        let mut slow = counted;
        slow.token_events[2].at = at(196);
        assert_eq!(slow.itl().1.collect::<Vec<_>>(), [(at(10).since(at(0)), 1); 2]);
    }

    #[test]
    fn choices_have_times_of_their_own() {
        let two = |output, silent_finishes| {
            let mut record = reply(&[], Some(140), output);
            let events = [(100, 0), (101, 1), (110, 0), (111, 1), (120, 0), (122, 1), (135, 1)];
            record.token_events = events.iter().map(|(ms, choice)| event(*ms, 0, *choice)).collect();
            with(record, |stream| (stream.choices, stream.silent_finishes) = (2, silent_finishes))
        };
        let gaps: Vec<u128> = two(7, 0).gaps().map(|gap| gap.as_millis()).collect();
        assert_eq!(gaps, [10, 10, 10, 11, 13]);
        // 54 ms over five tokens; with an end of text each they are as many
        check(&two(7, 0), (Some(10.8), Text), (Some(10.8), Estimated));
        check(&two(9, 2), (Some(10.8), Text), (Some(10.8), Estimated));
        check(&two(14, 0), (None, Unknown), (None, ItlUnknown));
        check(&calling_tools(two(7, 0)), (None, Unknown), (None, ItlUnknown));
        check(&with(two(7, 0), |stream| stream.is_mixed = true), (None, Unknown), (None, ItlUnknown));
        let mut counted = two(12, 0);
        counted.token_events.iter_mut().for_each(|event| event.tokens = NonZeroU32::new(2));
        let counted = with(counted, |stream| stream.is_counted = true);
        check(&counted, (Some(5.4), Counted), (Some(5.4), ItlCounted));
    }

    #[test]
    fn what_a_late_client_does_not_know_has_two_ends() {
        let ends = |low, high| Ends { low: Duration::from_millis(low), high: Duration::from_millis(high) };
        let whole = || of_vllm(calling_tools(reply(&[170, 180], Some(200), 11)));
        assert_eq!(whole().tpot_ends(), Some(ends(10, 10)));
        let late =
            with(whole(), |stream| (stream.finish_early_us, stream.first_event_early_us) = (20_000, 30_000));
        assert_eq!((late.tpot_ends(), late.tpot()), (Some(ends(8, 13)), Some(Duration::from_millis(13))));
        // first text and first event came in one late read: which came first, or when, is not known
        let mut joined = reply(&[100, 130, 160, 190], Some(190), 10);
        joined.token_events[0].early_us = 70_000;
        let joined = with(joined, |stream| stream.first_event_early_us = 70_000);
        check(&joined, (None, Unknown), (None, ItlUnknown));
        assert_eq!(joined.itl_times(), Times::default());
        // of two choices each has gaps of its own
        let mut two = with(reply(&[100, 101, 110, 111], Some(111), 4), |stream| stream.choices = 2);
        two.token_events.iter_mut().zip([0, 1, 0, 1]).for_each(|(event, choice)| event.choice = choice);
        two.token_events[3].early_us = 5_000;
        assert_eq!(two.tpot_ends(), Some(Ends { low: Duration::from_micros(7_500), ..ends(10, 10) }));
        let times = two.gap_times();
        assert_eq!((times.known, two.uncertain_gaps()), (vec![(Duration::from_millis(10), 1)], 1));
        assert_eq!(times.ranked, [(ends(5, 10), 1)]);
    }

    #[test]
    fn no_usage_is_unknown_and_one_token_has_no_time() {
        let mut record = reply(&[100, 110], Some(110), 2);
        record.usage = Usage::default();
        check(&record, (None, Unknown), (Some(10.0), Events));
        assert_eq!(reply(&[100], Some(110), 1).tpot_source(), None);
        let mut one_each = with(reply(&[100, 101], Some(110), 2), |stream| stream.choices = 2);
        one_each.token_events[1].choice = 1;
        assert_eq!(one_each.tpot_source(), None);
        // five tokens at once
        check(&reply(&[100], Some(100), 5), (None, Unknown), (None, Events));
        let mut failed = calling_tools(reply(&[100, 110], Some(110), 9));
        failed.outcome = Record::not_sent(0, Phase::Measured, at(0), at(1)).outcome;
        assert_eq!(failed.tpot_source(), None);
    }

    #[test]
    fn records_of_former_versions_are_read_as_they_were() {
        let old = |events: &[u64], output| Record { stream: None, ..reply(events, None, output) };
        check(&old(&[100, 110, 120], 5), (Some(5.0), Assumed), (Some(5.0), Estimated));
        check(&old(&[100, 110, 120, 130], 5), (Some(7.5), Assumed), (Some(10.0), Estimated));
        let mut counted = old(&[100, 130], 4);
        counted.token_events[1].tokens = NonZeroU32::new(3);
        check(&counted, (Some(10.0), Counted), (Some(10.0), ItlCounted));
    }

    #[test]
    fn joined_reads_do_not_make_text_unknown() {
        // four reads of five events each
        let events: Vec<u64> = (0..20).map(|number| 100 + 50 * (number / 5)).collect();
        check(&reply(&events, Some(250), 20), (Some(7.895), Text), (Some(7.895), Estimated));
        assert_eq!(reply(&events, Some(250), 20).usual_gap().as_micros(), 7_894);
    }
}
