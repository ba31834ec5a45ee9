//! Events that differ in their text alone are read once, and from then on recognised by the bytes around the text.
//!
//! Why this is exact: what was read before the text left the JSON reader inside a string, and any well-formed, longer or
//! shorter string body brings it to the same closing quote in the same state. So bytes that are equal on both sides are
//! read alike, and of the text itself a payload holds only whether it is empty. Anything else is read in full.

use super::payload::{Choices, Payload, TokenKind};
use super::request::Dialect;

/// The bytes around the text of the last event that was read in full and said nothing but that it bears a token.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Template {
    /// To the opening quote.
    before: Vec<u8>,
    /// From the closing quote on.
    after: Vec<u8>,
    /// What such an event says; `None` while there is no template.
    said: Option<Said>,
}

/// What an event that differs in its text alone says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Said {
    /// What it bears.
    pub(super) tokens: TokenKind,
    /// For whom.
    pub(super) choices: Choices,
    is_of_vllm: bool,
}

impl From<Said> for Payload {
    fn from(said: Said) -> Self {
        let Said { tokens, choices, is_of_vllm } = said;
        Self { tokens: Some(tokens), choices, is_of_vllm, ..Self::default() }
    }
}

impl Template {
    /// What the data of one event says, if it is recognised: reading it would tell nothing else.
    pub(super) fn recognise(&self, data: &[u8]) -> Option<Said> {
        self.said.filter(|_| self.fits(data))
    }

    /// Reads the data of one event; the result is that of [`Payload::read`].
    ///
    /// # Errors
    /// Says why the data is not what the API promises.
    pub(super) fn read(&mut self, data: &[u8], dialect: Dialect) -> Result<Payload, String> {
        if let Some(said) = self.recognise(data) {
            return Ok(said.into());
        }
        let (payload, place) = Payload::read_and_locate(data, dialect)?;
        if let Some(place) = place
            && let Some(said) = said_by(&payload)
        {
            self.before.clear();
            self.before.extend_from_slice(&data[..place.start]);
            self.after.clear();
            self.after.extend_from_slice(&data[place.end..]);
            self.said = Some(said);
        }
        Ok(payload)
    }

    fn fits(&self, data: &[u8]) -> bool {
        let text = || data.strip_prefix(&self.before[..])?.strip_suffix(&self.after[..]);
        self.said.is_some() && text().is_some_and(|text| !text.is_empty() && is_string_body(text))
    }
}

/// What a payload says, if that is all.
fn said_by(payload: &Payload) -> Option<Said> {
    let said = Said { tokens: payload.tokens?, choices: payload.choices, is_of_vllm: payload.is_of_vllm };
    (*payload == Payload::from(said)).then_some(said)
}

/// Whether the bytes can stand between the quotes of a JSON string. False, too, for a surrogate written as an escape,
/// of which there must be two.
fn is_string_body(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return std::str::from_utf8(bytes).is_ok(),
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => rest,
            [b'\\', b'u', a, b, c, d, rest @ ..] if is_character([*a, *b, *c, *d]) => rest,
            [b'\\' | b'"' | ..=0x1f, ..] => return false,
            [_, rest @ ..] => rest,
        };
    }
}

/// Whether four hexadecimal digits name a character, and not half of one.
fn is_character(digits: [u8; 4]) -> bool {
    let is_surrogate = matches!(digits, [b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', ..]);
    digits.iter().all(u8::is_ascii_hexdigit) && !is_surrogate
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    /// A template that has read `learned`, and whether `data` fits it. Reading `data` in full must give the same.
    #[track_caller]
    fn fits_after(learned: &str, data: &[u8], dialect: Dialect) -> bool {
        let mut template = Template::default();
        template.read(learned.as_bytes(), dialect).expect("a payload");
        let fits = template.fits(data);
        assert_eq!(template.read(data, dialect), Payload::read(data, dialect), "{}", data.escape_ascii());
        fits
    }

    const CHAT: &str =
        r#"{"id":"x","choices":[{"index":0,"delta":{"content":"TEXT"},"finish_reason":null}],"usage":null}"#;

    #[track_caller]
    fn check(text: &str, want: bool) {
        let data = CHAT.replace("TEXT", text);
        assert_eq!(fits_after(CHAT, data.as_bytes(), Dialect::Chat), want, "{text}");
    }

    #[test]
    fn any_text_fits() {
        for text in
            ["a", "a longer one", "ü 漢 🦀", r#"\" \\ \/ \b\f\n\r\t"#, r"\u00e9\uFFFF\ud7ff", "\u{7f}"]
        {
            check(text, true);
        }
    }

    #[test]
    fn what_is_no_text_is_read_in_full() {
        for text in
            ["", r#"a","refusal":"b"#, r#"a"},"delta":{"content":"b"#, r"\", r"\x", r"\u12", r"\u12g4"]
        {
            check(text, false);
        }
        for text in ["\n", "\0", "a\u{1f}", r"\ud83d\ude00", r"\udfff", r"\DABC", "a\"", "\"a"] {
            check(text, false);
        }
        let cut = CHAT.as_bytes().iter().map(|byte| if *byte == b'E' { 0xc3 } else { *byte });
        assert!(!fits_after(CHAT, &cut.collect::<Vec<_>>(), Dialect::Chat));
    }

    #[test]
    fn every_kind_of_token_has_a_template() {
        for choice in [
            r#""delta":{"content":"TEXT"}"#,
            r#""delta":{"content":null,"reasoning":"TEXT"}"#,
            r#""delta":{"reasoning_content":"TEXT","content":""}"#,
            r#""delta":{"tool_calls":[{"index":0,"function":{"arguments":"TEXT"}}]}"#,
            r#""delta":{"tool_calls":[{"function":{"name":"f","arguments":"TEXT"}}]}"#,
            r#""delta":{"function_call":{"arguments":"TEXT"}}"#,
            r#""message":{"refusal":"TEXT"}"#,
            r#""index":7,"delta":{"content":"TEXT"}"#,
        ] {
            let learned = format!(r#"{{"choices":[{{{choice}}}]}}"#);
            assert!(fits_after(&learned, learned.replace("TEXT", "b").as_bytes(), Dialect::Chat), "{choice}");
        }
        let learned = r#"{"choices":[{"text":"TEXT"},{"text":""}]}"#;
        assert!(fits_after(learned, learned.replace("TEXT", "b").as_bytes(), Dialect::Completions));
    }

    #[test]
    fn events_that_say_more_give_no_template() {
        for event in [
            r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"completion_tokens":1}}"#,
            r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"metrics":{"queue_time_ms":1}}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"error":"busy"}"#,
            r#"{"choices":[{"delta":{"content":""}}]}"#,
            r#"{"choices":[{"delta":{"content":"\n"}}]}"#,
            r#"{"choices":[{"delta":{"content":["a"]}}]}"#,
        ] {
            assert!(!fits_after(event, event.as_bytes(), Dialect::Chat), "{event}");
        }
    }

    #[test]
    fn a_template_lasts_until_another_is_learned() {
        let mut template = Template::default();
        let other = CHAT.replace(r#""index":0"#, r#""index":1"#);
        for (data, is_known) in
            [(CHAT, false), (CHAT, true), ("{}", false), (CHAT, true), (&other, false), (CHAT, false)]
        {
            assert_eq!(template.fits(data.as_bytes()), is_known, "{data}");
            template.read(data.as_bytes(), Dialect::Chat).expect("a payload");
        }
    }

    /// The data of every event of every captured stream, stream by stream.
    fn captured() -> Vec<(Dialect, Vec<Vec<u8>>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/captures");
        let files = std::fs::read_dir(folder).expect("captures");
        let mut streams = Vec::new();
        for file in files {
            let bytes = std::fs::read(file.expect("a file").path()).expect("a readable file");
            let dialect = if bytes.windows(21).any(|part| part == b"chat.completion.chunk") {
                Dialect::Chat
            } else {
                Dialect::Completions
            };
            let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
            let events: Vec<_> =
                lines.filter_map(|line| line.strip_prefix(b"data: ")).map(<[u8]>::to_vec).collect();
            if !events.is_empty() {
                streams.push((dialect, events));
            }
        }
        assert!(streams.len() > 30, "there are captures of streams");
        streams
    }

    #[test]
    fn captured_streams_are_read_alike_and_mostly_by_template() {
        let (mut without_usage, mut fitting) = (0, 0);
        for (dialect, stream) in captured() {
            let mut template = Template::default();
            for data in stream {
                fitting += usize::from(template.fits(&data));
                let payload = template.read(&data, dialect);
                without_usage +=
                    usize::from(payload.as_ref().is_ok_and(|payload| said_by(payload).is_some()));
                assert_eq!(payload, Payload::read(&data, dialect));
            }
        }
        assert!(fitting * 4 > without_usage * 3, "{fitting} of {without_usage}");
    }

    /// A change to the data of an event.
    #[derive(Clone, Debug)]
    enum Change {
        Flip(Index, u8),
        Insert(Index, &'static str),
        Cut(Index, Index),
        /// Repeats a part of it elsewhere.
        Repeat(Index, Index, Index),
        /// Puts this in place of what stands between two quotes.
        Rewrite(Index, &'static str),
    }

    impl Change {
        fn apply(&self, data: &mut Vec<u8>) {
            let span = |a: &Index, b: &Index| {
                let (a, b) = (a.index(data.len() + 1), b.index(data.len() + 1));
                a.min(b)..a.max(b)
            };
            match self {
                Self::Flip(at, bits) => {
                    if !data.is_empty() {
                        let at = at.index(data.len());
                        data[at] ^= bits;
                    }
                }
                Self::Insert(at, what) => {
                    let at = at.index(data.len() + 1);
                    data.splice(at..at, what.bytes());
                }
                Self::Cut(a, b) => drop(data.drain(span(a, b))),
                Self::Repeat(a, b, at) => {
                    let part = data[span(a, b)].to_vec();
                    let at = at.index(data.len() + 1);
                    data.splice(at..at, part);
                }
                Self::Rewrite(at, what) => {
                    let quotes: Vec<usize> = (0..data.len()).filter(|i| data[*i] == b'"').collect();
                    if quotes.len() > 1 {
                        let open = at.index(quotes.len() - 1);
                        data.splice(quotes[open] + 1..quotes[open + 1], what.bytes());
                    }
                }
            }
        }
    }

    fn change() -> impl Strategy<Value = Change> {
        let pieces = [
            "a",
            "\"",
            "\\",
            r#"\""#,
            r"\\",
            r"\n",
            r"\u0022",
            r"\u005c",
            r"\ud800",
            r"\u12",
            r"\x",
            "\n",
            "\0",
            "ü",
            "",
            ",",
            "}",
            "]",
            r#""content":"b","#,
            r#","usage":{"completion_tokens":3}"#,
            r#","error":"x""#,
            r#","finish_reason":"stop""#,
            r#"","content":"b"#,
        ];
        let index = any::<Index>;
        prop_oneof![
            (index(), 1u8..).prop_map(|(at, bits)| Change::Flip(at, bits)),
            (index(), select(pieces.to_vec())).prop_map(|(at, what)| Change::Insert(at, what)),
            (index(), index()).prop_map(|(a, b)| Change::Cut(a, b)),
            (index(), index(), index()).prop_map(|(a, b, at)| Change::Repeat(a, b, at)),
            (index(), select(pieces.to_vec())).prop_map(|(at, what)| Change::Rewrite(at, what)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_is_done_to_an_event_both_ways_of_reading_agree(
            stream in select(captured()),
            learned in any::<Index>(),
            changes in proptest::collection::vec(change(), 0..4),
            first_changes in proptest::collection::vec(change(), 0..2),
        ) {
            let (dialect, events) = stream;
            let mut first = learned.get(&events).clone();
            let mut second = first.clone();
            first_changes.iter().for_each(|change| change.apply(&mut first));
            changes.iter().for_each(|change| change.apply(&mut second));
            let mut template = Template::default();
            for data in [&first, &second, &first] {
                prop_assert_eq!(template.read(data, dialect), Payload::read(data, dialect));
            }
        }

        #[test]
        fn any_bytes_between_the_quotes_are_judged_as_the_json_reader_does(
            text in proptest::collection::vec(
                prop_oneof![any::<u8>(), select(br#""\/bfnrtu0123dD8cC "#.to_vec()), 0xbcu8..0xc5], 0..12),
            dialect in select(vec![Dialect::Chat, Dialect::Completions]),
        ) {
            let learned = match dialect {
                Dialect::Chat => CHAT,
                Dialect::Completions => r#"{"choices":[{"text":"TEXT","finish_reason":null}]}"#,
            };
            let (before, after) = learned.split_once("TEXT").expect("there is a text");
            let data = [before.as_bytes(), &text, after.as_bytes()].concat();
            let is_text = serde_json::from_slice::<String>(&[b"\"", &text[..], b"\""].concat());
            let fits = fits_after(learned, &data, dialect);
            prop_assert!(!fits || is_text.is_ok_and(|text| !text.is_empty()));
        }
    }
}
