//! The text of a reply, for users who want to keep it. It is read beside what is measured, and only where it was asked for.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
        let Ok(mut object) = serde_json::from_slice::<Value>(json) else { return };
        let choices = object.get_mut("choices").and_then(Value::as_array_mut);
        let is_first = |choice: &&mut Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0;
        let Some(choice) = choices.and_then(|choices| choices.iter_mut().find(is_first)) else { return };
        let said = match dialect {
            Dialect::Completions => &*choice,
            Dialect::Chat => {
                ["delta", "message"].iter().find_map(|name| choice.get(name)).unwrap_or(&Value::Null)
            }
        };
        for name in ["text", "content", "refusal"] {
            self.truncated |= !append(&mut self.text, said.get(name));
        }
        let reasoning = ["reasoning", "reasoning_content"].iter().find_map(|name| said.get(name)?.as_str());
        self.truncated |= !append_text(&mut self.reasoning, reasoning.unwrap_or_default());
    }

    /// Masks what a server echoes of secrets, also where the reply, its token limit or the bound cut one.
    pub(crate) fn redact(&mut self, secrets: &[Secret]) {
        self.text = redacted_to_the_end(&self.text, secrets);
        self.reasoning = redacted_to_the_end(&self.reasoning, secrets);
    }
}

/// Appends a text, or the texts of a list of parts. False where there was no room for all of it.
fn append(text: &mut String, value: Option<&Value>) -> bool {
    match value {
        Some(Value::String(more)) => append_text(text, more),
        Some(Value::Array(parts)) => {
            let mut texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
            texts.all(|more| append_text(text, more))
        }
        _ => true,
    }
}

fn append_text(text: &mut String, more: &str) -> bool {
    let room = MOST - text.len();
    let end = if more.len() <= room { more.len() } else { more.floor_char_boundary(room) };
    text.push_str(&more[..end]);
    end == more.len()
}

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
                r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
                r#"{"error":{"message":"no"}}"#,
                "no JSON",
            ],
        );
        assert_eq!((chat.text.as_str(), chat.reasoning.as_str(), chat.truncated), ("🦀 abc", "hm so", false));
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
