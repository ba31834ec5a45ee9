//! The text of a reply, for users who want to keep it. It is read beside what is measured, and only where it was asked for.
//!
//! What else a reply holds is passed over as it is read, so that a large one does not become a larger tree.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Dialect;
use crate::secret::{Secret, redacted_to_the_end};

/// What a model said in one reply: the first choice's text, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The answer, a refusal included.
    pub text: String,
    /// The thinking before it, where the server tells it apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// Whether there was more of either than is kept: 1 MiB.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// Bytes of a text that are kept: far more than a model says, and so few that no server can fill the memory.
const MOST: usize = 1 << 20;

impl Response {
    /// Takes in one JSON object of the reply; what is none says nothing, and nothing follows what was cut.
    pub(super) fn add(&mut self, json: &[u8], dialect: Dialect) {
        if self.truncated {
            return;
        }
        let Ok(Object { choices: First(Some(choice)) }) = serde_json::from_slice(json) else { return };
        if dialect == Dialect::Completions {
            self.truncated = !append(&mut self.text, &choice.text.0);
        } else if let Some(message) = choice.delta.or(choice.message) {
            let texts = [&message.content.0, &message.refusal.0];
            self.truncated = !texts.into_iter().all(|text| append(&mut self.text, text));
            self.truncated |= !append(&mut self.reasoning, message.thinking());
        }
    }

    /// Masks what a server echoes of secrets, also where the reply, its token limit or the bound cut one.
    pub(crate) fn redact(&mut self, secrets: &[Secret]) {
        self.text = redacted_to_the_end(&self.text, secrets);
        self.reasoning = redacted_to_the_end(&self.reasoning, secrets);
    }
}

/// Appends a text. False where there was no room for all of it.
fn append(text: &mut String, more: &str) -> bool {
    let room = MOST - text.len();
    let end = if more.len() <= room { more.len() } else { more.floor_char_boundary(room) };
    text.push_str(&more[..end]);
    end == more.len()
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    choices: First<'a>,
}

/// The choice of index 0; where choices have no index, the first of the list. The others are dropped as they are read.
#[derive(Default)]
struct First<'a>(Option<Choice<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for First<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pick;

        impl<'de> Visitor<'de> for Pick {
            type Value = First<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of choices")
            }

            fn visit_unit<E>(self) -> Result<First<'de>, E> {
                Ok(First(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<First<'de>, A::Error> {
                let mut first: Option<Choice<'de>> = None;
                let mut number = 0_u64;
                while let Some(choice) = list.next_element::<Choice<'de>>()? {
                    let is_first = choice.index.map_or(number == 0, |index| index.get() == "0");
                    first = first.or(Some(choice).filter(|_| is_first));
                    number += 1;
                }
                Ok(First(first))
            }
        }

        deserializer.deserialize_any(Pick)
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Choice<'a> {
    index: Option<&'a RawValue>,
    #[serde(default)]
    text: Text<'a>,
    delta: Option<Message<'a>>,
    message: Option<Message<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Message<'a> {
    content: Text<'a>,
    refusal: Text<'a>,
    reasoning: Text<'a>,
    reasoning_content: Text<'a>,
}

impl Message<'_> {
    /// One server's word or another's; some send the same under both.
    fn thinking(&self) -> &str {
        if self.reasoning.0.is_empty() { &self.reasoning_content.0 } else { &self.reasoning.0 }
    }
}

/// A string, or the texts of a list of parts (`{"type": "text", "text": "…"}`) in their order; empty for what else
/// stands there.
#[derive(Default)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;

        impl<'de> Visitor<'de> for Take {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_unit<E>(self) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text<'de>, A::Error> {
                let mut text = String::new();
                while let Some(part) = list.next_element::<&RawValue>()? {
                    if let Ok(Part { text: Some(Word(word)) }) = serde_json::from_str(part.get()) {
                        text.push_str(&word);
                    }
                }
                Ok(Text(Cow::Owned(text)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text::default())
            }
        }

        deserializer.deserialize_any(Take)
    }
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<Word<'a>>,
}

/// A word kept in place. (serde borrows a `Cow` only inside a newtype.)
#[derive(Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn said(dialect: Dialect, objects: &[&str]) -> Response {
        let mut response = Response::default();
        objects.iter().for_each(|json| response.add(json.as_bytes(), dialect));
        response
    }

    #[test]
    fn the_first_choice_is_heard_whatever_its_form() {
        let chat = said(
            Dialect::Chat,
            &[
                r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm "}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"content":null,"reasoning":"so"}}]}"#,
                r#"{"choices":[{"index":1,"delta":{"content":"other"}},{"index":0,"delta":{"content":"\ud83e\udd80 a"}}]}"#,
                r#"{"choices":[{"delta":{"content":[{"type":"text","text":"b"},{"text":"c"}]}}]}"#,
                r#"{"choices":[{"delta":null,"message":{"content":"d","reasoning":"","reasoning_content":"!"}}]}"#,
                r#"{"choices":[{"delta":{"content":"e"},"logprobs":1e999}]}"#,
                r#"{"choices":[{"text":"of the other dialect"}]}"#,
                r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
                r#"{"error":{"message":"no"}}"#,
                "no JSON",
            ],
        );
        assert_eq!(
            (chat.text.as_str(), chat.reasoning.as_str(), chat.truncated),
            ("🦀 abcde", "hm so!", false)
        );
        let whole = said(Dialect::Chat, &[r#"{"choices":[{"message":{"content":"yes","refusal":null}}]}"#]);
        assert_eq!(whole.text, "yes");
        let text =
            said(Dialect::Completions, &[r#"{"choices":[{"text":"a"}]}"#, r#"{"choices":[{"text":"b"}]}"#]);
        assert_eq!(text.text, "ab");
    }

    #[test]
    fn what_is_beyond_the_bound_is_cut_at_a_character_and_said() {
        let long = format!(r#"{{"choices":[{{"text":"a{}"}}]}}"#, "ü".repeat(MOST / 2));
        let response = said(Dialect::Completions, &[&long, &long]);
        assert_eq!((response.text.len(), response.truncated), (MOST - 1, true));
        assert!(response.text.ends_with('ü'));
    }

    #[test]
    fn only_what_there_is_is_written() {
        let plain = Response { text: "a".to_owned(), ..Response::default() };
        assert_eq!(serde_json::to_string(&plain).expect("plain data"), r#"{"text":"a"}"#);
        let json = r#"{"text":"a","reasoning":"b","truncated":true}"#;
        let back: Response = serde_json::from_str(json).expect("a response");
        assert_eq!(serde_json::to_string(&back).expect("plain data"), json);
    }
}
