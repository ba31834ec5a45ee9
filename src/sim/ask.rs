//! What a client asks for: a JSON body in, an [`Ask`] or vLLM's refusal out. No I/O.

use std::num::NonZeroU64;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::pace::{End, Limits};
use super::refusal::Refusal;

/// The two APIs that generate text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

/// A request to generate text, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The API it came by.
    pub dialect: Dialect,
    /// White space counts words where a real server has a tokenizer; a chat message adds 4 for its frame.
    pub prompt_tokens: u64,
    /// How long the answer may be.
    pub limits: Limits,
    /// How it is to come.
    pub delivery: Delivery,
}

/// How the answer is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In one piece at the end.
    Whole,
    /// As events.
    Stream(Usage),
}

/// When a stream tells token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Not at all.
    Never,
    /// `include_usage`: one more event before the end.
    AtEnd,
    /// `continuous_usage_stats` too: in every event.
    Throughout,
}

/// The longest prompt and answer together that the model claims to take, in tokens: a higher `max_tokens` is refused.
pub const MAX_MODEL_LEN: u64 = 131_072;
/// What `/v1/completions` gives unless told how much.
const DEFAULT_COMPLETION_TOKENS: u64 = 16;
/// What stands for "the rest of the context" in a chat that does not say how much.
const DEFAULT_CHAT_TOKENS: u64 = 2048;
/// Tokens that a chat template puts around a message.
const MESSAGE_FRAME_TOKENS: u64 = 4;

impl Ask {
    /// Reads the body of a request to the server of `model`.
    ///
    /// # Errors
    /// What vLLM would answer. The checks come in vLLM's order.
    pub fn read(dialect: Dialect, body: &[u8], model: &str) -> Result<Self, Refusal> {
        let body: Body = parse(body)?;
        let prompt_tokens = body.prompt_tokens(dialect)?;
        let delivery = body.delivery()?;
        body.check_model(model)?;
        if body.n.unwrap_or(1) != 1 {
            return Err(Refusal::parameter("n", "the simulator supports n=1 only".to_owned()));
        }
        let limits = body.limits(dialect)?;
        Ok(Self { dialect, prompt_tokens, limits, delivery })
    }
}

/// Counts the tokens of a body for `/tokenize`, which takes a prompt or messages.
///
/// # Errors
/// What vLLM would answer.
pub fn count_tokens(body: &[u8], model: &str) -> Result<u64, Refusal> {
    let body: Body = parse(body)?;
    let dialect = if body.messages.is_some() { Dialect::Chat } else { Dialect::Completions };
    let count = body.prompt_tokens(dialect)?;
    body.check_model(model)?;
    Ok(count)
}

/// The fields that matter; others are ignored, as vLLM does.
#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    prompt: Option<Prompt>,
    messages: Option<Vec<Message>>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    min_tokens: Option<u64>,
    ignore_eos: Option<bool>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

#[derive(Deserialize)]
struct Message {
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
}

impl Body {
    fn prompt_tokens(&self, dialect: Dialect) -> Result<u64, Refusal> {
        match dialect {
            Dialect::Chat => chat_tokens(self.messages.as_deref()),
            Dialect::Completions => completion_tokens(self.prompt.as_ref()),
        }
    }

    fn delivery(&self) -> Result<Delivery, Refusal> {
        if self.stream != Some(true) {
            return match &self.stream_options {
                Some(_) => Err(Refusal::parameter(
                    "stream_options",
                    "Stream options can only be defined when `stream=True`. (parameter=stream_options)"
                        .to_owned(),
                )),
                None => Ok(Delivery::Whole),
            };
        }
        let asked = |choice: fn(&StreamOptions) -> Option<bool>| {
            self.stream_options.as_ref().and_then(choice).unwrap_or(false)
        };
        // vLLM: continuous without include does nothing
        Ok(Delivery::Stream(match asked(|o| o.include_usage) {
            false => Usage::Never,
            true if asked(|o| o.continuous_usage_stats) => Usage::Throughout,
            true => Usage::AtEnd,
        }))
    }

    fn check_model(&self, served: &str) -> Result<(), Refusal> {
        match &self.model {
            Some(asked) if asked != served => Err(Refusal::no_such_model(asked, served)),
            _ => Ok(()),
        }
    }

    fn limits(&self, dialect: Dialect) -> Result<Limits, Refusal> {
        let (asked, default) = match dialect {
            Dialect::Chat => (self.max_completion_tokens.or(self.max_tokens), DEFAULT_CHAT_TOKENS),
            Dialect::Completions => (self.max_tokens, DEFAULT_COMPLETION_TOKENS),
        };
        let refused = |said| Refusal::parameter("max_tokens", said);
        let max = asked.unwrap_or(default as i64);
        let Some(max_tokens) = u64::try_from(max).ok().and_then(NonZeroU64::new) else {
            let said =
                format!("max_tokens must be at least 1, got {max}. (parameter=max_tokens, value={max})");
            return Err(refused(said));
        };
        if max_tokens.get() > MAX_MODEL_LEN {
            return Err(refused(format!(
                "max_tokens={max} cannot be greater than max_model_len={MAX_MODEL_LEN}. \
                 Please request fewer output tokens. (parameter=max_tokens, value={max})"
            )));
        }
        let end = if self.ignore_eos == Some(true) { End::AtMaximum } else { End::WhenDone };
        Ok(Limits { min_tokens: self.min_tokens.unwrap_or(0).min(max_tokens.get()), max_tokens, end })
    }
}

fn chat_tokens(messages: Option<&[Message]>) -> Result<u64, Refusal> {
    let missing = "{'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict>'}";
    let messages = messages.ok_or_else(|| Refusal::validation(Some("body.messages"), missing))?;
    if messages.is_empty() {
        let said = "Cannot apply chat template to an empty conversation. Provide at least one message.";
        return Err(Refusal::bad_request(said.to_owned()));
    }
    let content = |message: &Message| match &message.content {
        Some(Content::Text(text)) => words(text),
        Some(Content::Parts(parts)) => parts.iter().filter_map(|part| part.text.as_deref()).map(words).sum(),
        None => 0,
    };
    Ok(messages.iter().map(|message| content(message) + MESSAGE_FRAME_TOKENS).sum())
}

fn completion_tokens(prompt: Option<&Prompt>) -> Result<u64, Refusal> {
    let empty = "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)";
    let several = "the simulator supports one prompt a request only";
    let count = match prompt {
        Some(Prompt::Text(text)) if !text.is_empty() => words(text),
        Some(Prompt::Tokens(tokens)) if !tokens.is_empty() => tokens.len() as u64,
        Some(Prompt::Texts(texts)) => match &texts[..] {
            [text] => words(text),
            _ => return Err(Refusal::parameter("prompt", several.to_owned())),
        },
        Some(Prompt::TokenLists(lists)) => match &lists[..] {
            [tokens] => tokens.len() as u64,
            _ => return Err(Refusal::parameter("prompt", several.to_owned())),
        },
        _ => return Err(Refusal::parameter("prompt", empty.to_owned())),
    };
    Ok(count)
}

/// The stand-in for a tokenizer: one token a word.
fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    if body.is_empty() {
        let said = "{'type': 'missing', 'loc': 'body', 'msg': 'Field required', 'input': 'None'}";
        return Err(Refusal::validation(Some("body"), said));
    }
    serde_json::from_slice(body).map_err(|error| {
        let kind = if error.is_data() { "type_error" } else { "json_invalid" };
        Refusal::validation(Some("body"), &format!("{{'type': '{kind}', 'loc': 'body', 'msg': '{error}'}}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(dialect: Dialect, body: &str) -> Result<Ask, Refusal> {
        Ask::read(dialect, body.as_bytes(), "m")
    }

    fn refused(dialect: Dialect, body: &str, want: &str) {
        assert_eq!(ask(dialect, body).map_err(|refusal| refusal.json()), Err(want.to_owned()), "{body}");
    }

    fn prompt_tokens(dialect: Dialect, body: &str, want: u64) {
        assert_eq!(ask(dialect, body).map(|ask| ask.prompt_tokens), Ok(want), "{body}");
    }

    /// Bodies and answers as captured from vLLM 0.32.0, but for the model's name.
    #[test]
    fn refusals_read_like_the_captured_ones() {
        use Dialect::{Chat, Completions};
        refused(
            Completions,
            r#"{"model": "no-such-model", "prompt": "x"}"#,
            r#"{"error":{"message":"The model `no-such-model` does not exist. Valid aliases: m.","type":"NotFoundError","param":"model","code":404}}"#,
        );
        refused(
            Completions,
            r#"{"model": "m", "prompt": "", "max_tokens": 2}"#,
            r#"{"error":{"message":"Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)","type":"BadRequestError","param":"prompt","code":400}}"#,
        );
        refused(
            Completions,
            r#"{"model": "m", "prompt": "x", "max_tokens": -1}"#,
            r#"{"error":{"message":"max_tokens must be at least 1, got -1. (parameter=max_tokens, value=-1)","type":"BadRequestError","param":"max_tokens","code":400}}"#,
        );
        refused(
            Completions,
            r#"{"model": "m", "prompt": "x", "stream_options": {"include_usage": true}}"#,
            r#"{"error":{"message":"Stream options can only be defined when `stream=True`. (parameter=stream_options)","type":"BadRequestError","param":"stream_options","code":400}}"#,
        );
        refused(
            Chat,
            r#"{"model": "m", "messages": [], "max_tokens": 2}"#,
            r#"{"error":{"message":"Cannot apply chat template to an empty conversation. Provide at least one message.","type":"BadRequestError","param":null,"code":400}}"#,
        );
        refused(
            Chat,
            "",
            r#"{"error":{"message":"1 validation error:\n  {'type': 'missing', 'loc': 'body', 'msg': 'Field required', 'input': 'None'}","type":"Bad Request","param":"body","code":400}}"#,
        );
    }

    #[test]
    fn every_cut_of_a_good_body_is_refused_with_400() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"stream":true}"#;
        assert!(ask(Dialect::Chat, body).is_ok());
        for end in 0..body.len() {
            let refusal = ask(Dialect::Chat, &body[..end]).expect_err("half a body");
            assert_eq!(refusal.status, 400, "{end}");
        }
    }

    #[test]
    fn wrong_types_missing_fields_and_too_much_are_refused() {
        for (dialect, body) in [
            (Dialect::Chat, r#"{"model":"m"}"#),
            (Dialect::Chat, r#"{"messages":"hi"}"#),
            (Dialect::Chat, r#"{"messages":[{"content":"x"}],"n":2}"#),
            (Dialect::Completions, r#"{"model":"m"}"#),
            (Dialect::Completions, r#"[1]"#),
            (Dialect::Completions, r#"{"prompt":"x","max_tokens":"many"}"#),
            (Dialect::Completions, r#"{"prompt":"x","max_tokens":0}"#),
            (Dialect::Completions, r#"{"prompt":"x","max_tokens":131073}"#),
            (Dialect::Completions, r#"{"prompt":["a","b"]}"#),
        ] {
            let refusal = ask(dialect, body).expect_err(body);
            assert_eq!(refusal.status, 400, "{body}");
            let json: serde_json::Value = serde_json::from_str(&refusal.json()).expect("a refusal is JSON");
            assert_eq!(json["error"]["code"], 400, "{body}");
        }
    }

    #[test]
    fn a_prompt_has_as_many_tokens_as_words() {
        prompt_tokens(Dialect::Completions, r#"{"prompt":" one  two\nthree "}"#, 3);
        prompt_tokens(Dialect::Completions, r#"{"prompt":["one two"]}"#, 2);
        prompt_tokens(Dialect::Completions, r#"{"prompt":[5,6,7,8]}"#, 4);
        prompt_tokens(Dialect::Completions, r#"{"prompt":[[5,6]]}"#, 2);
        prompt_tokens(Dialect::Chat, r#"{"messages":[{"role":"user","content":"a b c"}]}"#, 7);
        let parts = r#"{"messages":[{"content":"a"},{"content":[{"type":"text","text":"b c"},{"type":"image_url"}]},{"content":null}]}"#;
        prompt_tokens(Dialect::Chat, parts, 15);
    }

    #[test]
    fn the_newer_name_of_the_limit_wins_in_a_chat() {
        let max = |dialect, body| ask(dialect, body).map(|ask| ask.limits.max_tokens.get());
        let chat = r#"{"messages":[{"content":"x"}],"max_tokens":9,"max_completion_tokens":5}"#;
        assert_eq!(max(Dialect::Chat, chat), Ok(5));
        assert_eq!(max(Dialect::Chat, r#"{"messages":[{"content":"x"}]}"#), Ok(2048));
        assert_eq!(max(Dialect::Completions, r#"{"prompt":"x"}"#), Ok(16));
    }

    #[test]
    fn usage_in_every_event_needs_the_last_one_too() {
        let delivery = |options: &str| {
            ask(
                Dialect::Completions,
                &format!(r#"{{"prompt":"x","stream":true,"stream_options":{options}}}"#),
            )
            .map(|ask| ask.delivery)
        };
        assert_eq!(delivery("null"), Ok(Delivery::Stream(Usage::Never)));
        assert_eq!(delivery("{}"), Ok(Delivery::Stream(Usage::Never)));
        assert_eq!(delivery(r#"{"include_usage":true}"#), Ok(Delivery::Stream(Usage::AtEnd)));
        assert_eq!(delivery(r#"{"continuous_usage_stats":true}"#), Ok(Delivery::Stream(Usage::Never)));
        assert_eq!(
            delivery(r#"{"include_usage":true,"continuous_usage_stats":true}"#),
            Ok(Delivery::Stream(Usage::Throughout))
        );
    }
}
