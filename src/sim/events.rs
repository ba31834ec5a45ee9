//! Answers as vLLM writes them: events of a stream, or one JSON at the end. Values in, bytes out; no I/O.

use std::io::Write;

use serde_json::json;

use super::ask::{Dialect, Usage};
use super::pace::{Finish, Length};

/// What every event of an answer repeats.
pub struct Heading {
    pub dialect: Dialect,
    /// Without the prefix of the dialect.
    pub id: String,
    /// The name of the model.
    pub model: String,
    /// Seconds since 1970.
    pub created: u64,
    pub prompt_tokens: u64,
}

/// Sent as `system_fingerprint`.
pub const FINGERPRINT: &str = concat!("vllm-loadgen-", env!("CARGO_PKG_VERSION"), "-simulator");

/// The words that tokens are, each with the blank before it. None needs escaping in JSON.
const WORDS: [&str; 16] = [
    " the", " river", " runs", " past", " an", " old", " mill", " and", " cold", " wind", " moves", " over",
    " grey", " stones", " until", " night",
];

impl Heading {
    /// The text of a token that is not the end of the answer.
    fn word(&self, token: u64) -> &'static str {
        // answers to prompts of other lengths begin elsewhere
        WORDS[(token.wrapping_add(self.prompt_tokens) % WORDS.len() as u64) as usize]
    }

    /// The part of every event and reply up to its choices.
    fn opening(&self, object: &str) -> String {
        let prefix = match self.dialect {
            Dialect::Chat => "chatcmpl",
            Dialect::Completions => "cmpl",
        };
        let Self { id, model, created, .. } = self;
        let (id, model) = (json!(format!("{prefix}-{id}")), json!(model));
        format!(r#"{{"id":{id},"object":"{object}","created":{created},"model":{model},"choices":["#)
    }
}

/// Tokens of an answer: those of one event.
pub type Tokens = std::ops::Range<u64>;

/// A stream being written, usually chunked as HTTP wants it. After the first few events it allocates no more.
pub struct EventStream {
    heading: Heading,
    usage: Usage,
    length: Length,
    /// `data: ` and the opening; then, from `choice_at`, the choice up to its text.
    prefix: Vec<u8>,
    choice_at: usize,
    event: Vec<u8>,
    out: Vec<u8>,
    frame: Frame,
}

/// What stands around an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A chunk of HTTP.
    Chunk,
    /// Nothing: whoever sends it frames it.
    Bare,
}

impl EventStream {
    /// The stream of an answer that will be so long. A chat opens with the event that names the role.
    pub fn new(heading: Heading, usage: Usage, length: Length, frame: Frame) -> Self {
        let (object, choice) = match heading.dialect {
            Dialect::Chat => ("chat.completion.chunk", r#"{"index":0,"delta":{"content":""#),
            Dialect::Completions => ("text_completion", r#"{"index":0,"text":""#),
        };
        let mut prefix = format!("data: {}", heading.opening(object)).into_bytes();
        let choice_at = prefix.len();
        prefix.extend_from_slice(choice.as_bytes());
        let mut stream =
            Self { heading, usage, length, prefix, choice_at, event: Vec::new(), out: Vec::new(), frame };
        if stream.heading.dialect == Dialect::Chat {
            stream.role();
        }
        stream
    }

    /// Adds the event of these tokens; the answer's last token brings the reason for its end.
    pub fn tokens(&mut self, tokens: Tokens) {
        let so_far = tokens.end;
        let finish = (so_far == self.length.tokens).then_some(self.length.finish);
        self.event.clear();
        self.event.extend_from_slice(&self.prefix);
        let spoken = if finish == Some(Finish::Stop) { tokens.start..so_far - 1 } else { tokens };
        for token in spoken {
            self.event.extend_from_slice(self.heading.word(token).as_bytes());
        }
        self.event.extend_from_slice(after_text(self.heading.dialect, finish).as_bytes());
        self.running_usage(so_far);
        if finish.is_some() && self.usage == Usage::Never {
            self.fingerprint();
        }
        self.end_event();
    }

    /// Adds what follows the last token: the counts, if asked for, and the end of the stream.
    pub fn end(&mut self) {
        if self.usage != Usage::Never {
            self.event.clear();
            self.event.extend_from_slice(&self.prefix[..self.choice_at]);
            self.event.extend_from_slice(b"]");
            let (prompt, tokens) = (self.heading.prompt_tokens, self.length.tokens);
            put_usage(&mut self.event, prompt, tokens, "");
            self.fingerprint();
            self.end_event();
        }
        let end: &[u8] = match self.frame {
            Frame::Chunk => b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
            Frame::Bare => b"data: [DONE]\n\n",
        };
        self.out.extend_from_slice(end);
    }

    /// Bytes to be sent.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Forgets the bytes, which have been sent.
    pub fn clear(&mut self) {
        self.out.clear();
    }

    fn role(&mut self) {
        self.event.extend_from_slice(&self.prefix[..self.choice_at]);
        self.event.extend_from_slice(
            br#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]"#,
        );
        self.running_usage(0);
        self.event.extend_from_slice(br#","prompt_token_ids":null,"prompt_text":null"#);
        self.end_event();
    }

    fn running_usage(&mut self, so_far: u64) {
        if self.usage == Usage::Throughout {
            let details = match self.heading.dialect {
                Dialect::Chat => r#","completion_tokens_details":null"#,
                Dialect::Completions => "",
            };
            put_usage(&mut self.event, self.heading.prompt_tokens, so_far, details);
        }
    }

    fn fingerprint(&mut self) {
        put(&mut self.event, format_args!(r#","system_fingerprint":"{FINGERPRINT}""#));
    }

    /// Closes the event and moves it, framed, to what is to be sent.
    fn end_event(&mut self) {
        self.event.extend_from_slice(b"}\n\n");
        if self.frame == Frame::Bare {
            self.out.extend_from_slice(&self.event);
            return;
        }
        put(&mut self.out, format_args!("{:x}\r\n", self.event.len()));
        self.out.extend_from_slice(&self.event);
        self.out.extend_from_slice(b"\r\n");
    }
}

/// The whole answer as one JSON.
pub fn whole(heading: &Heading, length: Length) -> String {
    // an answer without any token is none of a model's, but can be asked for
    let spoken = length.tokens.saturating_sub(u64::from(length.finish == Finish::Stop));
    let text: String = (0..spoken).map(|token| heading.word(token)).collect();
    let (opening, choice, after) = match heading.dialect {
        Dialect::Chat => (
            heading.opening("chat.completion"),
            format!(
                r#"{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null}},"logprobs":null,"finish_reason":"{}","stop_reason":null,"token_ids":null,"routed_experts":null}}"#,
                length.finish.name()
            ),
            r#""prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null"#,
        ),
        Dialect::Completions => (
            heading.opening("text_completion"),
            format!(
                r#"{{"index":0,"text":"{text}","logprobs":null,"finish_reason":"{}","stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}}"#,
                length.finish.name()
            ),
            r#""kv_transfer_params":null"#,
        ),
    };
    let (prompt, tokens) = (heading.prompt_tokens, length.tokens);
    let mut usage = Vec::new();
    let details = r#","prompt_tokens_details":null,"completion_tokens_details":null"#;
    put_usage(&mut usage, prompt, tokens, details);
    let usage = String::from_utf8_lossy(&usage);
    format!(
        r#"{opening}{choice}],"service_tier":null,"system_fingerprint":"{FINGERPRINT}"{usage},{after},"ec_transfer_params":null,"metrics":null}}"#
    )
}

/// What follows the text of a choice.
fn after_text(dialect: Dialect, finish: Option<Finish>) -> &'static str {
    match (dialect, finish) {
        (Dialect::Chat, None) => r#""},"logprobs":null,"finish_reason":null,"token_ids":null}]"#,
        (Dialect::Chat, Some(Finish::Stop)) => {
            r#""},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null}]"#
        }
        (Dialect::Chat, Some(Finish::Length)) => {
            r#""},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}]"#
        }
        (Dialect::Completions, None) => {
            r#"","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]"#
        }
        (Dialect::Completions, Some(Finish::Stop)) => {
            r#"","logprobs":null,"finish_reason":"stop","stop_reason":null,"prompt_token_ids":null,"token_ids":null}]"#
        }
        (Dialect::Completions, Some(Finish::Length)) => {
            r#"","logprobs":null,"finish_reason":"length","stop_reason":null,"prompt_token_ids":null,"token_ids":null}]"#
        }
    }
}

fn put_usage(out: &mut Vec<u8>, prompt: u64, tokens: u64, details: &str) {
    let total = prompt + tokens;
    put(
        out,
        format_args!(
            r#","usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{tokens}{details}}}"#
        ),
    );
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes any bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heading(dialect: Dialect, id: &str, created: u64, prompt_tokens: u64) -> Heading {
        Heading { dialect, id: id.to_owned(), model: "tiny-qwen3".to_owned(), created, prompt_tokens }
    }

    /// Checks the events of a stream against captured ones, in which words and fingerprint are swapped for ours.
    /// `ends` says after which tokens an event ends.
    fn check(mut stream: EventStream, ends: &[u64], want: &[&str]) {
        let mut start = 0;
        for end in ends {
            stream.tokens(start..*end);
            start = *end;
        }
        stream.end();
        let mut wanted = String::new();
        for event in want {
            let event = event.replace("vllm-0.32.0-9c49895f", FINGERPRINT);
            wanted.push_str(&format!("{:x}\r\ndata: {event}\n\n\r\n", event.len() + 8));
        }
        wanted.push_str("0\r\n\r\n");
        assert_eq!(String::from_utf8_lossy(stream.bytes()), wanted);
    }

    /// From `A_chat_stream_usage.http`.
    #[test]
    fn a_chat_reads_like_the_captured_one() {
        let heading = heading(Dialect::Chat, "a5a93e54680a9294", 1795488776, 14);
        let length = Length { tokens: 3, finish: Finish::Stop };
        check(
            EventStream::new(heading, Usage::AtEnd, length, Frame::Chunk),
            &[1, 2, 3],
            &[
                r#"{"id":"chatcmpl-a5a93e54680a9294","object":"chat.completion.chunk","created":1795488776,"model":"tiny-qwen3","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}"#,
                r#"{"id":"chatcmpl-a5a93e54680a9294","object":"chat.completion.chunk","created":1795488776,"model":"tiny-qwen3","choices":[{"index":0,"delta":{"content":" until"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
                r#"{"id":"chatcmpl-a5a93e54680a9294","object":"chat.completion.chunk","created":1795488776,"model":"tiny-qwen3","choices":[{"index":0,"delta":{"content":" night"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
                r#"{"id":"chatcmpl-a5a93e54680a9294","object":"chat.completion.chunk","created":1795488776,"model":"tiny-qwen3","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null}]}"#,
                r#"{"id":"chatcmpl-a5a93e54680a9294","object":"chat.completion.chunk","created":1795488776,"model":"tiny-qwen3","choices":[],"usage":{"prompt_tokens":14,"total_tokens":17,"completion_tokens":3},"system_fingerprint":"vllm-0.32.0-9c49895f"}"#,
                "[DONE]",
            ],
        );
    }

    /// From `A_chat_stream_continuous.http` and `A_chat_stream_ignore_eos.http`.
    #[test]
    fn a_chat_with_running_counts_reads_like_the_captured_one() {
        let heading = heading(Dialect::Chat, "9537d014e9c1785e", 1795488776, 14);
        let length = Length { tokens: 1, finish: Finish::Length };
        check(
            EventStream::new(heading, Usage::Throughout, length, Frame::Chunk),
            &[1],
            &[
                r#"{"id":"chatcmpl-9537d014e9c1785e","object":"chat.completion.chunk","created":1795488776,"model":"tiny-qwen3","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":14,"total_tokens":14,"completion_tokens":0,"completion_tokens_details":null},"prompt_token_ids":null,"prompt_text":null}"#,
                r#"{"id":"chatcmpl-9537d014e9c1785e","object":"chat.completion.chunk","created":1795488776,"model":"tiny-qwen3","choices":[{"index":0,"delta":{"content":" until"},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}],"usage":{"prompt_tokens":14,"total_tokens":15,"completion_tokens":1,"completion_tokens_details":null}}"#,
                r#"{"id":"chatcmpl-9537d014e9c1785e","object":"chat.completion.chunk","created":1795488776,"model":"tiny-qwen3","choices":[],"usage":{"prompt_tokens":14,"total_tokens":15,"completion_tokens":1},"system_fingerprint":"vllm-0.32.0-9c49895f"}"#,
                "[DONE]",
            ],
        );
    }

    /// From `A_cmpl_stream_continuous_only.http`.
    #[test]
    fn a_completion_without_counts_reads_like_the_captured_one() {
        let heading = heading(Dialect::Completions, "b81e2edb827061d9", 1795488754, 3);
        let length = Length { tokens: 4, finish: Finish::Length };
        check(
            EventStream::new(heading, Usage::Never, length, Frame::Chunk),
            &[1, 4],
            &[
                r#"{"id":"cmpl-b81e2edb827061d9","object":"text_completion","created":1795488754,"model":"tiny-qwen3","choices":[{"index":0,"text":" past","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]}"#,
                r#"{"id":"cmpl-b81e2edb827061d9","object":"text_completion","created":1795488754,"model":"tiny-qwen3","choices":[{"index":0,"text":" an old mill","logprobs":null,"finish_reason":"length","stop_reason":null,"prompt_token_ids":null,"token_ids":null}],"system_fingerprint":"vllm-0.32.0-9c49895f"}"#,
                "[DONE]",
            ],
        );
    }

    /// From `A_cmpl_stream_continuous.http`.
    #[test]
    fn a_completion_with_running_counts_reads_like_the_captured_one() {
        let heading = heading(Dialect::Completions, "8bc81acb27ca7be4", 1795488753, 3);
        let length = Length { tokens: 2, finish: Finish::Stop };
        check(
            EventStream::new(heading, Usage::Throughout, length, Frame::Chunk),
            &[1, 2],
            &[
                r#"{"id":"cmpl-8bc81acb27ca7be4","object":"text_completion","created":1795488753,"model":"tiny-qwen3","choices":[{"index":0,"text":" past","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}],"usage":{"prompt_tokens":3,"total_tokens":4,"completion_tokens":1}}"#,
                r#"{"id":"cmpl-8bc81acb27ca7be4","object":"text_completion","created":1795488753,"model":"tiny-qwen3","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop","stop_reason":null,"prompt_token_ids":null,"token_ids":null}],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2}}"#,
                r#"{"id":"cmpl-8bc81acb27ca7be4","object":"text_completion","created":1795488753,"model":"tiny-qwen3","choices":[],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2},"system_fingerprint":"vllm-0.32.0-9c49895f"}"#,
                "[DONE]",
            ],
        );
    }

    /// From `A_cmpl_nonstream.http` and `A_chat_nonstream.http`.
    #[test]
    fn whole_answers_read_like_the_captured_ones() {
        let length = Length { tokens: 2, finish: Finish::Length };
        assert_eq!(
            whole(&heading(Dialect::Completions, "9d45f7e0c5e16118", 1795488753, 3), length),
            r#"{"id":"cmpl-9d45f7e0c5e16118","object":"text_completion","created":1795488753,"model":"tiny-qwen3","choices":[{"index":0,"text":" past an","logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}],"service_tier":null,"system_fingerprint":"vllm-0.32.0-9c49895f","usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2,"prompt_tokens_details":null,"completion_tokens_details":null},"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}"#
                .replace("vllm-0.32.0-9c49895f", FINGERPRINT)
        );
        let length = Length { tokens: 2, finish: Finish::Stop };
        assert_eq!(
            whole(&heading(Dialect::Chat, "841e9c44a74f6da7", 1795488775, 14), length),
            r#"{"id":"chatcmpl-841e9c44a74f6da7","object":"chat.completion","created":1795488775,"model":"tiny-qwen3","choices":[{"index":0,"message":{"role":"assistant","content":" until","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null,"routed_experts":null}],"service_tier":null,"system_fingerprint":"vllm-0.32.0-9c49895f","usage":{"prompt_tokens":14,"total_tokens":16,"completion_tokens":2,"prompt_tokens_details":null,"completion_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}"#
                .replace("vllm-0.32.0-9c49895f", FINGERPRINT)
        );
    }

    #[test]
    fn an_id_from_a_stranger_cannot_break_the_json() {
        let heading = heading(Dialect::Chat, "a\"b\\c", 1, 1);
        let length = Length { tokens: 1, finish: Finish::Length };
        let json: serde_json::Value = serde_json::from_str(&whole(&heading, length)).expect("still JSON");
        assert_eq!(json["id"], "chatcmpl-a\"b\\c");
    }

    #[test]
    fn no_word_needs_escaping() {
        for word in WORDS {
            assert_eq!(serde_json::to_string(word).expect("a word is plain text"), format!("\"{word}\""));
        }
    }
}
