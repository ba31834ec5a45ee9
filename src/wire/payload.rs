//! One JSON object of a reply, be it an event's data or a whole reply, and what can be learned from it.
//!
//! Only what is measured is read: whether there is text, not which. Unknown fields are skipped, and the common event
//! costs no allocation.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Dialect, refusal};
use crate::secret::{Secret, redacted};
use crate::text;

/// What a reader of the reply would see a token as. Ordered from the least visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenKind {
    /// Thinking, which most front ends hide.
    Reasoning,
    /// A call's name or arguments.
    ToolCall,
    /// The answer's text, or a refusal's.
    Content,
}

/// Which of a request's choices (`n`, or several prompts) an object of the reply speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Choices {
    /// None, as the event of the counts.
    #[default]
    Nobody,
    /// The one of this `index`; 0 where the server gives none.
    One(u32),
    /// More than one at once.
    Several,
}

/// Token counts from the server's `usage`. What it does not say stays `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, `prompt_tokens`.
    pub input_tokens: Option<u64>,
    /// Tokens generated, `completion_tokens`: all choices, special tokens and reasoning included.
    pub output_tokens: Option<u64>,
    /// Tokens of the prompt that were found in the server's cache.
    pub cached_tokens: Option<u64>,
    /// Tokens generated that were reasoning.
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// This, but for what `later` says anew.
    pub(super) fn updated(self, later: Self) -> Self {
        Self {
            input_tokens: later.input_tokens.or(self.input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            cached_tokens: later.cached_tokens.or(self.cached_tokens),
            reasoning_tokens: later.reasoning_tokens.or(self.reasoning_tokens),
        }
    }
}

/// Why the server stopped generating.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model ended its answer, or a stop string was met.
    Stop,
    /// The limit of tokens was reached.
    Length,
    /// The model wants tools to be called.
    ToolCalls,
    /// A filter cut the answer off.
    ContentFilter,
    /// The server gave the request up.
    Abort,
    /// The server failed on the request.
    Error,
    /// Another word of the server's, made printable and short.
    Other(String),
}

impl FinishReason {
    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Abort => "abort",
            Self::Error => "error",
            Self::Other(word) => word,
        }
    }

    /// Whether the server gave up, so that the reply is no answer.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Abort | Self::Error)
    }

    /// The reason that a word means. `None` for an empty word, which some servers send in every event.
    pub fn of_word(word: &str) -> Option<Self> {
        let known =
            [Self::Stop, Self::Length, Self::ToolCalls, Self::ContentFilter, Self::Abort, Self::Error];
        known.into_iter().find(|reason| reason.as_str() == word).or_else(|| {
            let word = text::printable(word, 40);
            (!word.is_empty()).then_some(Self::Other(word))
        })
    }

    /// Masks what a server echoes of secrets.
    pub(crate) fn redact(&mut self, secrets: &[Secret]) {
        if let Self::Other(word) = self {
            *word = redacted(word, secrets);
        }
    }

    /// Of two choices' reasons the one that tells more: a failure, else the first.
    pub(super) fn weightier(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(first), Some(second)) if second.is_failure() && !first.is_failure() => Some(second),
            (first, second) => first.or(second),
        }
    }
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one JSON object of a reply says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Payload {
    /// The most visible kind among its tokens.
    pub(super) tokens: Option<TokenKind>,
    pub(super) choices: Choices,
    pub(super) finish_reason: Option<FinishReason>,
    pub(super) usage: Usage,
    /// The server's own times of the request, see [`super::Answer::server_timings`].
    pub(super) timings: Vec<(&'static str, f64)>,
    /// The server's message, if it reports an error.
    pub(super) error: Option<String>,
    /// Whether the server's fingerprint is one of vLLM.
    pub(super) is_of_vllm: bool,
}

impl Payload {
    /// Reads one JSON object.
    ///
    /// # Errors
    /// Says why the data is not what the API promises.
    pub(super) fn read(data: &[u8], dialect: Dialect) -> Result<Self, String> {
        Self::read_and_locate(data, dialect).map(|(payload, _)| payload)
    }

    /// Reads one JSON object, and tells where in `data` one of its texts stands, quotes left out. The text is not
    /// empty and free of escapes; of it the payload holds only that it is not empty.
    ///
    /// # Errors
    /// Says why the data is not what the API promises.
    pub(super) fn read_and_locate(
        data: &[u8],
        dialect: Dialect,
    ) -> Result<(Self, Option<Range<usize>>), String> {
        let text = std::str::from_utf8(data).map_err(|error| error.to_string())?.trim_ascii();
        if !text.starts_with('{') {
            // serde would take a list for an object's fields in order
            return Err("not a JSON object".to_owned());
        }
        let object: Object<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let place = object.choices.verbatim.map(|text| {
            let start = text.as_ptr().addr() - data.as_ptr().addr();
            start..start + text.len()
        });
        let payload = Self {
            tokens: match dialect {
                Dialect::Chat => object.choices.chat,
                Dialect::Completions => object.choices.text,
            },
            error: object.error_message(),
            timings: object.timings(),
            usage: object.usage().map_or_else(Usage::default, UsageObject::counts),
            is_of_vllm: object.is_of_vllm(),
            choices: object.choices.which,
            finish_reason: object.choices.finish_reason,
        };
        Ok((payload, place))
    }
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    choices: Folded<'a>,
    #[serde(default, deserialize_with = "object_or_none")]
    usage: Option<UsageObject>,
    x_groq: Option<Groq>,
    metrics: Option<Value>,
    timings: Option<Value>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<Word<'a>>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    system_fingerprint: Option<&'a RawValue>,
}

impl Object<'_> {
    /// `{"error": …}`, or `{"object": "error", "message": …}` as vLLM once wrote it, or `{"detail": …}` and
    /// `{"message": "…"}` where nothing else is.
    fn error_message(&self) -> Option<String> {
        let is_error = self.object.as_ref().is_some_and(|object| object.0 == "error");
        let is_bare = self.object.is_none() && !self.choices.are_there && self.usage().is_none();
        // a message that is an object is some API's answer
        let words = self.message.filter(|message| is_error || (is_bare && message.get().starts_with('"')));
        let error = self.error.or(words).or(self.detail.filter(|_| is_error || is_bare));
        match error {
            Some(error) => Some(refusal::error_message(error.get().as_bytes())),
            None => is_error.then(|| "the server gave no message".to_owned()),
        }
    }

    /// Whether its fingerprint begins as vLLM's does, `vllm-0.32.0-a47042cf`: with a version.
    fn is_of_vllm(&self) -> bool {
        let rest = self.system_fingerprint.and_then(|json| json.get().strip_prefix("\"vllm-"));
        rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    }

    fn usage(&self) -> Option<&UsageObject> {
        self.usage.as_ref().or_else(|| self.x_groq.as_ref()?.usage.as_ref())
    }

    fn timings(&self) -> Vec<(&'static str, f64)> {
        let mut found = Vec::new();
        let sections =
            [(&self.metrics, "metrics.", VLLM_METRICS), (&self.timings, "timings.", LLAMA_TIMINGS)];
        for (section, prefix, names) in sections {
            let Some(section) = section else { continue };
            found.extend(names.iter().filter_map(|&name| {
                let value = section.get(name.strip_prefix(prefix)?)?;
                Some((name, value.as_f64()?))
            }));
        }
        if let Some(usage) = self.usage() {
            found.extend(usage.times());
        }
        found.retain(|(_, value)| value.is_finite());
        found
    }
}

/// vLLM with `--enable-per-request-metrics`.
const VLLM_METRICS: &[&str] = &[
    "metrics.time_to_first_token_ms",
    "metrics.queue_time_ms",
    "metrics.generation_time_ms",
    "metrics.mean_itl_ms",
    "metrics.tokens_per_second",
];

const LLAMA_TIMINGS: &[&str] = &[
    "timings.prompt_ms",
    "timings.predicted_ms",
    "timings.prompt_per_second",
    "timings.predicted_per_second",
];

#[derive(Deserialize)]
struct UsageObject {
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(default)]
    completion_tokens: Count,
    #[serde(default, deserialize_with = "object_or_none")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default, deserialize_with = "object_or_none")]
    completion_tokens_details: Option<CompletionDetails>,
    // Groq's, in seconds
    queue_time: Option<Value>,
    prompt_time: Option<Value>,
    completion_time: Option<Value>,
    total_time: Option<Value>,
}

impl UsageObject {
    fn counts(&self) -> Usage {
        Usage {
            input_tokens: self.prompt_tokens.0,
            output_tokens: self.completion_tokens.0,
            cached_tokens: self.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens.0),
            reasoning_tokens: self
                .completion_tokens_details
                .as_ref()
                .and_then(|details| details.reasoning_tokens.0),
        }
    }

    fn times(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let times = [
            ("usage.queue_time_ms", &self.queue_time),
            ("usage.prompt_time_ms", &self.prompt_time),
            ("usage.completion_time_ms", &self.completion_time),
            ("usage.total_time_ms", &self.total_time),
        ];
        times.into_iter().filter_map(|(name, seconds)| Some((name, seconds.as_ref()?.as_f64()? * 1e3)))
    }
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Count,
}

#[derive(Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Count,
}

/// A number of tokens, in whatever way it is written: `7`, `7.0`, `"7"`. `None` for what is no such number: a reply is no worse
/// for a count that cannot be read.
#[derive(Clone, Copy, Debug, Default)]
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyCount;

        impl<'de> Visitor<'de> for AnyCount {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of tokens")
            }

            fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
                Ok(Count(Some(count)))
            }

            fn visit_i64<E>(self, count: i64) -> Result<Count, E> {
                Ok(Count(count.try_into().ok()))
            }

            fn visit_f64<E>(self, count: f64) -> Result<Count, E> {
                // beyond, a floating point number loses units
                const EXACT: f64 = (1_u64 << 53) as f64;
                let is_whole = count.fract() == 0.0 && (0.0..=EXACT).contains(&count);
                Ok(Count(is_whole.then_some(count as u64)))
            }

            fn visit_str<E>(self, count: &str) -> Result<Count, E> {
                Ok(Count(count.trim().parse().ok()))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }
        }

        deserializer.deserialize_any(AnyCount)
    }
}

/// An object; `None` for any other value.
fn object_or_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct AnyValue<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for AnyValue<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<T>, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(None)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_str<E>(self, _: &str) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Option<T>, E> {
            Ok(None)
        }
    }

    deserializer.deserialize_any(AnyValue(PhantomData))
}

/// Where Groq puts the usage of a stream.
#[derive(Deserialize)]
struct Groq {
    #[serde(default, deserialize_with = "object_or_none")]
    usage: Option<UsageObject>,
}

/// All choices of one object, folded as they are read: no list is built.
#[derive(Default)]
struct Folded<'a> {
    /// Whether there is a list, be it empty.
    are_there: bool,
    which: Choices,
    /// In the chat dialect's places.
    chat: Option<TokenKind>,
    /// In the completions dialect's place.
    text: Option<TokenKind>,
    finish_reason: Option<FinishReason>,
    /// The first text that is not empty and stands in the data letter by letter.
    verbatim: Option<&'a str>,
}

impl<'a> Folded<'a> {
    fn add(&mut self, choice: Choice<'a>) {
        self.which = match self.which {
            Choices::Nobody => Choices::One(choice.index()),
            Choices::One(_) | Choices::Several => Choices::Several,
        };
        let message = choice.delta.or(choice.message);
        self.chat = self.chat.max(message.as_ref().and_then(Message::tokens));
        self.text = self.text.max(choice.text.is_any().then_some(TokenKind::Content));
        let verbatim = || message.as_ref().and_then(Message::verbatim).or(choice.text.verbatim());
        self.verbatim = self.verbatim.or_else(verbatim);
        let finish_reason = choice.finish_reason.and_then(|word| FinishReason::of_word(&word.0));
        self.finish_reason = FinishReason::weightier(self.finish_reason.take(), finish_reason);
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Folded<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fold;

        impl<'de> Visitor<'de> for Fold {
            type Value = Folded<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of choices")
            }

            fn visit_unit<E>(self) -> Result<Folded<'de>, E> {
                Ok(Folded::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Folded<'de>, A::Error> {
                let mut choices = Folded { are_there: true, ..Folded::default() };
                while let Some(choice) = list.next_element()? {
                    choices.add(choice);
                }
                Ok(choices)
            }
        }

        deserializer.deserialize_any(Fold)
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Choice<'a> {
    index: Option<&'a RawValue>,
    #[serde(default)]
    text: Filled<'a>,
    delta: Option<Message<'a>>,
    message: Option<Message<'a>>,
    finish_reason: Option<Word<'a>>,
}

impl Choice<'_> {
    fn index(&self) -> u32 {
        self.index.and_then(|json| json.get().parse().ok()).unwrap_or_default()
    }
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Message<'a> {
    content: Filled<'a>,
    refusal: Filled<'a>,
    // one server's word or another's; some send both
    reasoning: Filled<'a>,
    reasoning_content: Filled<'a>,
    tool_calls: Option<Vec<ToolCall<'a>>>,
    function_call: Option<Function<'a>>,
}

impl<'a> Message<'a> {
    fn tokens(&self) -> Option<TokenKind> {
        if self.content.is_any() || self.refusal.is_any() {
            Some(TokenKind::Content)
        } else if self.calls().any(Function::is_filled) {
            Some(TokenKind::ToolCall)
        } else if self.reasoning.is_any() || self.reasoning_content.is_any() {
            Some(TokenKind::Reasoning)
        } else {
            None
        }
    }

    fn calls(&self) -> impl Iterator<Item = &Function<'a>> {
        let calls = self.tool_calls.iter().flatten().filter_map(|call| call.function.as_ref());
        calls.chain(&self.function_call)
    }

    fn verbatim(&self) -> Option<&'a str> {
        let texts = [&self.content, &self.refusal, &self.reasoning, &self.reasoning_content];
        let found = texts.into_iter().find_map(Filled::verbatim);
        found.or_else(|| self.calls().find_map(Function::verbatim))
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct ToolCall<'a> {
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Function<'a> {
    #[serde(default)]
    name: Filled<'a>,
    #[serde(default)]
    arguments: Filled<'a>,
}

impl<'a> Function<'a> {
    fn is_filled(&self) -> bool {
        self.name.is_any() || self.arguments.is_any()
    }

    fn verbatim(&self) -> Option<&'a str> {
        self.arguments.verbatim().or(self.name.verbatim())
    }
}

/// A word kept in place. (serde borrows a `Cow` only inside a newtype.)
#[derive(Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether there is text: a string that is not empty, or a list of parts or an object that is not.
#[derive(Clone, Copy, Default)]
enum Filled<'a> {
    #[default]
    Not,
    /// A string without escapes, in place.
    Verbatim(&'a str),
    Otherwise,
}

impl<'a> Filled<'a> {
    fn is_any(&self) -> bool {
        !matches!(self, Self::Not)
    }

    fn verbatim(&self) -> Option<&'a str> {
        match *self {
            Self::Verbatim(text) => Some(text),
            _ => None,
        }
    }

    fn otherwise(is_any: bool) -> Self {
        if is_any { Self::Otherwise } else { Self::Not }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Filled<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;

        impl<'de> Visitor<'de> for Look {
            type Value = Filled<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_unit<E>(self) -> Result<Filled<'de>, E> {
                Ok(Filled::Not)
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Filled<'de>, E> {
                Ok(if text.is_empty() { Filled::Not } else { Filled::Verbatim(text) })
            }

            fn visit_str<E>(self, text: &str) -> Result<Filled<'de>, E> {
                Ok(Filled::otherwise(!text.is_empty()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Filled<'de>, A::Error> {
                let mut filled = false;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    filled = true;
                }
                Ok(Filled::otherwise(filled))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Filled<'de>, A::Error> {
                let mut filled = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    filled = true;
                }
                Ok(Filled::otherwise(filled))
            }
        }

        deserializer.deserialize_any(Look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, dialect: Dialect) -> Payload {
        Payload::read(json.as_bytes(), dialect).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[track_caller]
    fn check(choice: &str, want: Option<TokenKind>) {
        let object = format!(r#"{{"id":"x","choices":[{{"index":0,{choice}}}],"new":[{{}}]}}"#);
        assert_eq!(read(&object, Dialect::Chat).tokens, want, "{choice}");
    }

    #[test]
    fn tokens_are_what_a_reader_would_see() {
        use TokenKind::*;
        check(r#""delta":{"content":"a"}"#, Some(Content));
        check(r#""delta":{"content":"\n\u00e9"}"#, Some(Content));
        check(r#""delta":{"refusal":"no"}"#, Some(Content));
        check(r#""delta":{"content":[{"type":"text","text":"a"}]}"#, Some(Content));
        check(r#""delta":{"reasoning":"hm"}"#, Some(Reasoning));
        check(r#""delta":{"reasoning":"hm","reasoning_content":"hm"}"#, Some(Reasoning));
        check(r#""delta":{"content":null,"reasoning_content":"hm"}"#, Some(Reasoning));
        check(r#""delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}"#, Some(ToolCall));
        check(r#""delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}"#, Some(ToolCall));
        check(r#""delta":{"function_call":{"name":"f","arguments":""}}"#, Some(ToolCall));
        check(r#""message":{"role":"assistant","content":"a"}"#, Some(Content));
        check(r#""message":{"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}"#, Some(ToolCall));
    }

    #[test]
    fn empty_deltas_bear_no_token() {
        check(r#""delta":{"role":"assistant","content":""}"#, None);
        check(r#""delta":{"content":null,"reasoning":null,"tool_calls":null,"function_call":null}"#, None);
        check(r#""delta":{"tool_calls":[]}"#, None);
        check(r#""delta":{"tool_calls":[{"index":0,"function":{"arguments":""}},{"function":null}]}"#, None);
        check(r#""delta":{"content":[]},"finish_reason":"stop""#, None);
        check(r#""delta":{}"#, None);
        check(r#""delta":null"#, None);
        check(r#""message":{"content":""}"#, None);
        check(r#""text":"a chat has no text""#, None);
    }

    #[test]
    fn the_most_visible_token_of_an_event_counts() {
        check(r#""delta":{"reasoning":"so","content":"A"}"#, Some(TokenKind::Content));
        check(r#""delta":{"reasoning":"so","function_call":{"name":"f"}}"#, Some(TokenKind::ToolCall));
        check(r#""delta":{"reasoning":"so"}},{"index":1,"delta":{"content":"A"}"#, Some(TokenKind::Content));
    }

    #[test]
    fn completions_have_text_and_chats_do_not() {
        let text = r#"{"choices":[{"text":""},{"text":"a"}]}"#;
        assert_eq!(read(text, Dialect::Completions).tokens, Some(TokenKind::Content));
        assert_eq!(read(r#"{"choices":[{"text":""}]}"#, Dialect::Completions).tokens, None);
        assert_eq!(read(r#"{"choices":[{"delta":{"content":"a"}}]}"#, Dialect::Completions).tokens, None);
    }

    #[test]
    fn an_object_may_be_without_choices() {
        for json in
            ["{}", r#" {"choices":null} "#, r#"{"choices":[],"usage":null,"metrics":null,"error":null}"#]
        {
            assert_eq!(read(json, Dialect::Chat), Payload::default(), "{json}");
        }
    }

    #[test]
    fn what_is_not_the_promised_json_is_refused() {
        for json in [
            "",
            "hello",
            "[]",
            r#""a""#,
            "{",
            r#"{"choices":{}}"#,
            r#"{"choices":[{"delta":{"content":7}}]}"#,
            r#"{"usage":{"completion_tokens":7"#,
            "{} {}",
        ] {
            assert!(Payload::read(json.as_bytes(), Dialect::Chat).is_err(), "{json}");
        }
        assert!(Payload::read(b"{\"id\":\"\xff\"}", Dialect::Chat).is_err());
        assert!(Payload::read("[".repeat(9_999).as_bytes(), Dialect::Chat).is_err());
        let deep = format!(r#"{{"metrics":{}"#, "[".repeat(9_999));
        assert!(Payload::read(deep.as_bytes(), Dialect::Chat).is_err());
    }

    #[test]
    fn usage_says_what_it_says() {
        let all = r#"{"usage":{"prompt_tokens":9,"total_tokens":12,"completion_tokens":3,
            "prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}}}"#;
        assert_eq!(
            read(all, Dialect::Chat).usage,
            Usage {
                input_tokens: Some(9),
                output_tokens: Some(3),
                cached_tokens: Some(8),
                reasoning_tokens: Some(2)
            }
        );
        let part = r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":null}}"#;
        assert_eq!(read(part, Dialect::Chat).usage, Usage { input_tokens: Some(9), ..Usage::default() });
    }

    #[test]
    fn a_count_of_another_type_is_read_or_unknown_and_no_failure() {
        for (count, want) in [
            ("7", Some(7)),
            ("7.0", Some(7)),
            (r#""7""#, Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("-1", None),
            ("-1.0", None),
            ("7.5", None),
            (r#""many""#, None),
            ("18446744073709551616", None),
            ("true", None),
            ("null", None),
            ("[7]", None),
            (r#"{"n":[7]}"#, None),
        ] {
            let json = format!(
                r#"{{"choices":[],"usage":{{"prompt_tokens":{count},"completion_tokens":{count},
                "prompt_tokens_details":{{"cached_tokens":{count}}},"completion_tokens_details":{{"reasoning_tokens":{count}}}}}}}"#
            );
            let usage = Usage {
                input_tokens: want,
                output_tokens: want,
                cached_tokens: want,
                reasoning_tokens: want,
            };
            assert_eq!(read(&json, Dialect::Chat).usage, usage, "{count}");
        }
        for usage in
            ["7", r#""none""#, "[]", "false", r#"{"prompt_tokens_details":7,"completion_tokens_details":[]}"#]
        {
            let json = format!(r#"{{"choices":[],"usage":{usage}}}"#);
            assert_eq!(read(&json, Dialect::Chat).usage, Usage::default(), "{json}");
        }
    }

    #[test]
    fn later_counts_replace_earlier_ones_and_silence_does_not() {
        let first = Usage { input_tokens: Some(1), output_tokens: Some(1), ..Usage::default() };
        let later = Usage { output_tokens: Some(2), cached_tokens: Some(0), ..Usage::default() };
        let want = Usage {
            input_tokens: Some(1),
            output_tokens: Some(2),
            cached_tokens: Some(0),
            reasoning_tokens: None,
        };
        assert_eq!(first.updated(later), want);
    }

    #[test]
    fn an_object_says_of_which_choices_it_speaks() {
        use Choices::*;
        for (json, want) in [
            ("{}", Nobody),
            (r#"{"choices":null}"#, Nobody),
            (r#"{"choices":[]}"#, Nobody),
            (r#"{"choices":[{"text":"a"}]}"#, One(0)),
            (r#"{"choices":[{"index":null,"text":"a"}]}"#, One(0)),
            (r#"{"choices":[{"index":"x","text":"a"}]}"#, One(0)),
            (r#"{"choices":[{"index":-1,"text":"a"}]}"#, One(0)),
            (r#"{"choices":[{"text":"a","index":3}]}"#, One(3)),
            (r#"{"choices":[{"index":0},{"index":1}]}"#, Several),
        ] {
            assert_eq!(read(json, Dialect::Completions).choices, want, "{json}");
        }
    }

    #[test]
    fn a_fingerprint_with_a_version_is_vllms() {
        for (fingerprint, want) in [
            (r#""vllm-0.32.0-a47042cf""#, true),
            (r#""vllm-1.0""#, true),
            (r#""vllm-loadgen-0.1.0-simulator""#, false),
            (r#""fp_44709d6fcb""#, false),
            (r#""vllm-""#, false),
            ("null", false),
            ("7", false),
        ] {
            let json = format!(r#"{{"choices":[],"system_fingerprint":{fingerprint}}}"#);
            assert_eq!(read(&json, Dialect::Chat).is_of_vllm, want, "{json}");
        }
    }

    #[track_caller]
    fn check_timings(json: &str, want: &[(&str, f64)]) {
        assert_eq!(read(json, Dialect::Chat).timings, want, "{json}");
    }

    #[test]
    fn server_timings_are_numbers_in_milliseconds() {
        check_timings(
            r#"{"metrics":{"mean_itl_ms":4.5,"queue_time_ms":1,"tokens_per_second":200.0,"speculative_decoding":null}}"#,
            &[
                ("metrics.queue_time_ms", 1.0),
                ("metrics.mean_itl_ms", 4.5),
                ("metrics.tokens_per_second", 200.0),
            ],
        );
        check_timings(r#"{"timings":{"prompt_n":3,"prompt_ms":12.5}}"#, &[("timings.prompt_ms", 12.5)]);
        check_timings(
            r#"{"usage":{"queue_time":0.25,"total_time":2}}"#,
            &[("usage.queue_time_ms", 250.0), ("usage.total_time_ms", 2000.0)],
        );
        check_timings(
            r#"{"x_groq":{"id":"r","usage":{"prompt_time":0.5}}}"#,
            &[("usage.prompt_time_ms", 500.0)],
        );
        check_timings(r#"{"metrics":{"mean_itl_ms":"4","queue_time_ms":null},"timings":"fast"}"#, &[]);
        check_timings(r#"{"usage":{"queue_time":1e307}}"#, &[]);
    }

    #[track_caller]
    fn check_finish(words: &[&str], want: Option<FinishReason>) {
        let choices: Vec<Value> =
            words.iter().map(|word| serde_json::json!({"finish_reason": word})).collect();
        let object = serde_json::json!({"choices": choices}).to_string();
        assert_eq!(read(&object, Dialect::Chat).finish_reason, want, "{words:?}");
    }

    #[test]
    fn finish_reasons_are_known_by_their_words() {
        use FinishReason::*;
        for known in [Stop, Length, ToolCalls, ContentFilter, Abort, Error] {
            check_finish(&[known.as_str()], Some(known.clone()));
        }
        check_finish(&["eos\u{1b}_token"], Some(Other("eos_token".to_owned())));
        check_finish(&[&"x".repeat(99)], Some(Other("x".repeat(40) + "…")));
        check_finish(&[""], None);
        check_finish(&[], None);
    }

    #[test]
    fn of_several_finish_reasons_a_failure_counts_or_else_the_first() {
        check_finish(&["length", "stop"], Some(FinishReason::Length));
        check_finish(&["length", "abort", "error"], Some(FinishReason::Abort));
    }

    #[track_caller]
    fn check_error(json: &str, want: Option<&str>) {
        assert_eq!(read(json, Dialect::Chat).error.as_deref(), want, "{json}");
    }

    #[test]
    fn an_error_is_told_by_its_key_or_by_its_object() {
        check_error(r#"{"error":{"message":"engine died","code":500}}"#, Some("engine died"));
        check_error(r#"{"error":"overloaded","error_type":"overloaded"}"#, Some("overloaded"));
        check_error(r#"{"object":"error","message":"too long","code":400}"#, Some("too long"));
        check_error(r#"{"message":"boom","code":500}"#, Some("boom"));
        check_error(r#"{"detail":"engine dead"}"#, Some("engine dead"));
        check_error(r#"{"detail":[{"msg":"too long"}],"choices":null}"#, Some("too long"));
        check_error(r#"{"object":"error","detail":"engine dead"}"#, Some("engine dead"));
        check_error(r#"{"detail":"of a chunk","choices":[]}"#, None);
        check_error(r#"{"message":"of a count","usage":{"completion_tokens":1}}"#, None);
        check_error(r#"{"message":{"role":"assistant","content":"hello"}}"#, None);
        check_error(r#"{"message":null,"detail":null}"#, None);
        check_error(r#"{"object":"error"}"#, Some("the server gave no message"));
        check_error(r#"{"object":"chat.completion","message":"not an error"}"#, None);
        check_error(r#"{"error":null,"choices":[]}"#, None);
    }
}
