//! Request bodies: what is asked for, written once around a hole for the prompt.

use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Number, Value, json};

use crate::secret::{MASK, is_secret_field};

/// The two shapes in which the OpenAI API takes a prompt and gives tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// `messages` in, `message` or `delta` out.
    Chat,
    /// `prompt` in, `text` out.
    Completions,
}

impl Dialect {
    /// Whether it is that of conversations.
    pub fn is_chat(self) -> bool {
        self == Self::Chat
    }

    /// Where vLLM and the OpenAI API serve this dialect.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
        }
    }

    /// The dialect spoken at a path, by its ending; a query and a closing slash do not matter.
    pub fn of_path(path: &str) -> Option<Self> {
        let path = path.split('?').next().unwrap_or(path).trim_end_matches('/');
        if path.ends_with("/chat/completions") {
            Some(Self::Chat)
        } else if path.ends_with("/completions") {
            Some(Self::Completions)
        } else {
            None
        }
    }

    /// The field of the body that has the prompt.
    pub fn prompt_key(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Completions => "prompt",
        }
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "chat" => Ok(Self::Chat),
            "completions" => Ok(Self::Completions),
            _ => Err("unknown; write chat or completions".to_owned()),
        }
    }
}

/// What a request asks for, beside its prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// How it is asked.
    pub dialect: Dialect,
    /// The served model's id.
    pub model: String,
    /// Whether the reply is to come as events; the token counts are then asked for too.
    pub stream: bool,
    /// Most tokens to generate; `None` leaves it to the server.
    pub max_tokens: Option<u32>,
    /// Sampling temperature; `None`, and what is not finite, leaves it to the server.
    pub temperature: Option<f64>,
    /// Whether to generate up to `max_tokens` whatever the model says (a vLLM extension).
    pub ignore_eos: bool,
    /// Whether every event is to bear the running token counts (a vLLM extension; streams only).
    pub continuous_usage: bool,
    /// Top-level fields of the body as they are to be sent. They win over the fields above, and `null` takes one away.
    #[serde(serialize_with = "without_secrets")]
    pub extra: Map<String, Value>,
}

fn without_secrets<S: Serializer>(extra: &Map<String, Value>, serializer: S) -> Result<S::Ok, S::Error> {
    masked(&Value::Object(extra.clone()), false).serialize(serializer)
}

/// The value with the texts under names that carry secrets masked, at whatever depth.
fn masked(value: &Value, is_secret: bool) -> Value {
    match value {
        Value::String(_) if is_secret => MASK.into(),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), masked(value, is_secret || is_secret_field(name))))
                .collect(),
        ),
        Value::Array(items) => items.iter().map(|item| masked(item, is_secret)).collect(),
        other => other.clone(),
    }
}

impl Ask {
    /// The same request, with the fields that `extra` overrules set to what is really sent: what is reported must be
    /// what was asked.
    #[must_use]
    pub fn with_extra_told(mut self) -> Self {
        if let Some(model) = self.extra.get("model").and_then(Value::as_str) {
            self.model = model.to_owned();
        }
        for name in ["max_tokens", "max_completion_tokens"] {
            if let Some(value) = self.extra.get(name) {
                self.max_tokens = value.as_u64().and_then(|n| u32::try_from(n).ok());
            }
        }
        if let Some(value) = self.extra.get("temperature") {
            self.temperature = value.as_f64();
        }
        if let Some(value) = self.extra.get("ignore_eos") {
            self.ignore_eos = value.as_bool().unwrap_or(false);
        }
        self.stream = self.streams();
        self
    }

    /// The prompt that `extra` brings, in the place of any other: the text of a single message of a user, else the JSON as it is
    /// sent, with secrets masked; empty where `extra` takes the prompt away. `None` where it says nothing of it.
    pub fn prompt_of_extra(&self) -> Option<String> {
        let words = self.extra.get(self.dialect.prompt_key())?;
        let single = match words {
            Value::Array(messages) => match messages.as_slice() {
                [message] if message["role"] == "user" => message["content"].as_str(),
                _ => None,
            },
            Value::Null => Some(""),
            other => other.as_str(),
        };
        Some(single.map_or_else(|| masked(words, false).to_string(), str::to_owned))
    }

    /// The body for one prompt, in JSON. For many prompts, keep the [`template`](Self::template).
    pub fn body(&self, prompt: &str) -> Vec<u8> {
        self.template().render(prompt)
    }

    /// The body with a hole for the prompt, so that a prompt costs no more than its own escaping.
    pub fn template(&self) -> BodyTemplate {
        let mut head = Value::Object(self.fields()).to_string();
        if self.extra.contains_key(self.dialect.prompt_key()) {
            return BodyTemplate { head, tail: None };
        }
        head.pop(); // the closing brace
        if head.len() > "{".len() {
            head.push(',');
        }
        let (opening, tail) = match self.dialect {
            Dialect::Chat => (r#""messages":[{"role":"user","content":"#, "}]}"),
            Dialect::Completions => (r#""prompt":"#, "}"),
        };
        head.push_str(opening);
        BodyTemplate { head, tail: Some(tail) }
    }

    /// Whether the body asks for events: `stream`, unless `extra` says otherwise.
    pub fn streams(&self) -> bool {
        self.extra.get("stream").map_or(self.stream, |stream| stream == &Value::Bool(true))
    }

    /// Everything but the prompt.
    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("model".to_owned(), json!(self.model));
        if self.streams() {
            fields.insert("stream".to_owned(), json!(true));
            // vLLM refuses stream options without a stream
            fields.insert("stream_options".to_owned(), self.stream_options());
        }
        if let Some(max_tokens) = self.max_tokens {
            fields.insert("max_tokens".to_owned(), json!(max_tokens));
        }
        if let Some(temperature) = self.temperature.and_then(Number::from_f64) {
            fields.insert("temperature".to_owned(), Value::Number(temperature));
        }
        if self.ignore_eos {
            fields.insert("ignore_eos".to_owned(), json!(true));
        }
        fields.extend(self.extra.clone());
        fields.retain(|_, value| !value.is_null());
        fields
    }

    fn stream_options(&self) -> Value {
        if self.continuous_usage {
            // does nothing on vLLM without include_usage
            json!({"include_usage": true, "continuous_usage_stats": true})
        } else {
            json!({"include_usage": true})
        }
    }
}

/// A request body with a hole for the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyTemplate {
    head: String,
    /// What follows the prompt; `None` if the body has fixed words and no hole.
    tail: Option<&'static str>,
}

impl BodyTemplate {
    /// The body for one prompt.
    pub fn render(&self, prompt: &str) -> Vec<u8> {
        let Some(tail) = self.tail else { return self.head.clone().into_bytes() };
        let escapes = prompt.len() / 16; // a guess: line ends and quotes of ordinary prose
        let mut body = Vec::with_capacity(self.head.len() + prompt.len() + escapes + 2 + tail.len());
        body.extend_from_slice(self.head.as_bytes());
        serde_json::to_writer(&mut body, prompt).expect("any string is JSON, and a Vec takes all bytes");
        body.extend_from_slice(tail.as_bytes());
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(dialect: Dialect) -> Ask {
        Ask {
            dialect,
            model: "m".to_owned(),
            stream: false,
            max_tokens: None,
            temperature: None,
            ignore_eos: false,
            continuous_usage: false,
            extra: Map::new(),
        }
    }

    fn with_extra(dialect: Dialect, extra: Value) -> Ask {
        let Value::Object(extra) = extra else { panic!("extra fields are an object") };
        Ask { stream: true, max_tokens: Some(8), extra, ..ask(dialect) }
    }

    #[track_caller]
    fn check(ask: &Ask, want: Value) {
        let body = ask.body("say \"hi\"\n\u{1f600}");
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), want);
    }

    const PROMPT: &str = "say \"hi\"\n\u{1f600}";

    #[test]
    fn nothing_is_sent_that_was_not_asked_for() {
        check(&ask(Dialect::Completions), json!({"model": "m", "prompt": PROMPT}));
        check(&ask(Dialect::Chat), json!({"model": "m", "messages": [{"role": "user", "content": PROMPT}]}));
    }

    #[test]
    fn a_stream_asks_for_the_token_counts() {
        let streamed = Ask { stream: true, ..ask(Dialect::Completions) };
        check(
            &streamed,
            json!({"model": "m", "prompt": PROMPT, "stream": true, "stream_options": {"include_usage": true}}),
        );
        check(
            &Ask { continuous_usage: true, ..streamed },
            json!({"model": "m", "prompt": PROMPT, "stream": true,
                "stream_options": {"include_usage": true, "continuous_usage_stats": true}}),
        );
        let unstreamed = Ask { continuous_usage: true, ..ask(Dialect::Completions) };
        check(&unstreamed, json!({"model": "m", "prompt": PROMPT}));
    }

    #[test]
    fn limits_and_sampling_go_by_the_servers_names() {
        let full = Ask {
            max_tokens: Some(64),
            temperature: Some(0.5),
            ignore_eos: true,
            ..ask(Dialect::Completions)
        };
        check(
            &full,
            json!({"model": "m", "prompt": PROMPT, "max_tokens": 64, "temperature": 0.5, "ignore_eos": true}),
        );
        check(
            &Ask { temperature: Some(f64::NAN), ..ask(Dialect::Completions) },
            json!({"model": "m", "prompt": PROMPT}),
        );
    }

    #[test]
    fn texts_under_names_of_secrets_are_sent_and_not_shown() {
        let extra =
            json!({"max_tokens": 3, "auth": {"user": "u", "ways": ["w", {"pin": "p"}]}, "a": "shown"});
        let ask = with_extra(Dialect::Chat, extra.clone());
        assert_eq!(serde_json::from_slice::<Value>(&ask.body("")).unwrap()["auth"], extra["auth"]);
        let shown = serde_json::to_value(&ask).expect("plain data");
        let want =
            json!({"max_tokens": 3, "auth": {"user": "***", "ways": ["***", {"pin": "***"}]}, "a": "shown"});
        assert_eq!(shown["extra"], want);
    }

    #[test]
    fn extra_fields_win_and_null_takes_away() {
        check(
            &with_extra(
                Dialect::Chat,
                json!({"max_tokens": null, "max_completion_tokens": 9, "stream_options": {}}),
            ),
            json!({"model": "m", "messages": [{"role": "user", "content": PROMPT}], "stream": true,
                "stream_options": {}, "max_completion_tokens": 9}),
        );
        check(
            &with_extra(Dialect::Completions, json!({"model": "other", "absent": null, "stream": false})),
            json!({"model": "other", "prompt": PROMPT, "max_tokens": 8, "stream": false}),
        );
        check(
            &with_extra(Dialect::Completions, json!({"model": null, "stream": null, "max_tokens": null})),
            json!({"prompt": PROMPT}),
        );
    }

    #[test]
    fn an_extra_prompt_fills_the_hole() {
        check(
            &with_extra(Dialect::Completions, json!({"prompt": [1, 2], "stream": false})),
            json!({"model": "m", "prompt": [1, 2], "max_tokens": 8, "stream": false}),
        );
    }

    #[test]
    fn an_extra_prompt_is_told() {
        let told = |dialect, extra| with_extra(dialect, extra).prompt_of_extra();
        let user = json!({"role": "user", "content": "hi"});
        let system = json!({"role": "system", "content": "be short", "key": "k"});
        assert_eq!(told(Dialect::Chat, json!({"messages": [user]})).as_deref(), Some("hi"));
        let both = told(Dialect::Chat, json!({"messages": [system, user]})).expect("said");
        let want = json!([{"role": "system", "content": "be short", "key": "***"}, {"role": "user", "content": "hi"}]);
        assert_eq!(serde_json::from_str::<Value>(&both).expect("JSON"), want);
        assert_eq!(told(Dialect::Chat, json!({"prompt": "hi"})), None);
        assert_eq!(told(Dialect::Completions, json!({"prompt": "hi"})).as_deref(), Some("hi"));
        assert_eq!(told(Dialect::Completions, json!({"prompt": [1, 2]})).as_deref(), Some("[1,2]"));
        assert_eq!(told(Dialect::Completions, json!({"prompt": null})).as_deref(), Some(""));
    }

    #[test]
    fn a_template_renders_what_the_ask_says() {
        let ask = Ask { stream: true, ..ask(Dialect::Chat) };
        let template = ask.template();
        for prompt in ["", "a", "\u{0}\u{1b}\\\"", PROMPT] {
            assert_eq!(template.render(prompt), ask.body(prompt));
            let body: Value = serde_json::from_slice(&ask.body(prompt)).unwrap();
            assert_eq!(body["messages"][0]["content"], prompt);
        }
    }

    #[test]
    fn a_path_tells_its_dialect_by_the_ending() {
        for (path, want) in [
            ("/v1/chat/completions", Some(Dialect::Chat)),
            ("/v1/completions", Some(Dialect::Completions)),
            ("/openai/deployments/x/chat/completions?api-version=1", Some(Dialect::Chat)),
            ("http://host/base/completions/", Some(Dialect::Completions)),
            ("/v1/embeddings", None),
            ("/v1/subcompletions", None),
            ("", None),
        ] {
            assert_eq!(Dialect::of_path(path), want, "{path}");
        }
        for dialect in [Dialect::Chat, Dialect::Completions] {
            assert_eq!(Dialect::of_path(dialect.path()), Some(dialect));
        }
    }

    #[test]
    fn dialects_are_written_in_lower_case() {
        assert_eq!(json!([Dialect::Chat, Dialect::Completions]), json!(["chat", "completions"]));
    }
}
