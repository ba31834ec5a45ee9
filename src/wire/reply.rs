//! One successful reply, read as its bytes arrive: which of them bear tokens, and what the reply says in all.

use super::payload::{Choices, FinishReason, Payload, TokenKind, Usage};
use super::request::Dialect;
use super::response::Response;
use super::template::Template;
use super::{refusal, sse};
use crate::failure::{Failure, FailureKind};
use crate::text;

/// How the reply's body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Server-sent events, one JSON object each.
    Stream,
    /// One JSON object.
    Whole,
}

impl Form {
    /// By the reply's `content-type`: what is not `text/event-stream` is taken as a whole, whatever was asked for.
    pub fn of_content_type(content_type: &str) -> Self {
        let media_type = content_type.split(';').next().unwrap_or(content_type).trim();
        if media_type.eq_ignore_ascii_case("text/event-stream") { Self::Stream } else { Self::Whole }
    }
}

/// One event of a streamed reply, or the whole of an unstreamed one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The most visible kind of token it bears; `None` for role, finish, usage, error and `[DONE]` events and empty text.
    pub tokens: Option<TokenKind>,
    /// The output tokens so far by the usage in this event; `None` if it has none. With several choices, servers differ
    /// on whether it counts them all.
    pub completion_tokens: Option<u64>,
    /// The choices that it speaks of.
    pub choices: Choices,
    /// Whether it says why a choice ended.
    pub finishes: bool,
}

/// Reads one reply of status 200. Cut the bytes anywhere.
///
/// ```
/// use vllm_loadgen::wire::{Dialect, FinishReason, Form, ReplyReader};
///
/// let mut reader = ReplyReader::new(Dialect::Completions, Form::Stream);
/// let mut events = Vec::new();
/// reader.push(b"data: {\"choices\":[{\"text\":\"Hi\",\"finish_reason\":\"st", &mut |event| events.push(event));
/// reader.push(b"op\"}]}\n\ndata: [DONE]\n\n", &mut |event| events.push(event));
/// let answer = reader.finish(&mut |event| events.push(event));
///
/// assert_eq!(answer.finish_reason, Some(FinishReason::Stop));
/// assert_eq!((answer.token_events, answer.failure), (1, None));
/// assert_eq!(events.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ReplyReader {
    body: Body,
    notes: Notes,
}

impl ReplyReader {
    /// A reader for a reply of which nothing has come yet.
    pub fn new(dialect: Dialect, form: Form) -> Self {
        let body = match form {
            Form::Stream => Body::Stream(sse::Decoder::default()),
            Form::Whole => Body::Whole(Vec::new()),
        };
        Self { body, notes: Notes::new(dialect, form) }
    }

    /// The same, but its text is kept too ([`Answer::response`]).
    #[must_use]
    pub fn keeping_text(mut self) -> Self {
        self.notes.response = Some(Response::default());
        self
    }

    /// Takes the next bytes of the body, transfer coding removed, and tells of each event that they complete.
    pub fn push(&mut self, bytes: &[u8], on_event: &mut dyn FnMut(Event)) {
        let Self { body, notes } = self;
        let overflow = match body {
            Body::Stream(decoder) => {
                let read = decoder.push(bytes, |data, is_error| {
                    notes.read(data, is_error).into_iter().for_each(&mut *on_event);
                });
                read.err().map(|sse::TooLong| "an event is longer than 16 MiB")
            }
            Body::Whole(gathered) if gathered.len() + bytes.len() > MAX_WHOLE_BYTES => {
                Some("the reply is longer than 64 MiB")
            }
            Body::Whole(gathered) => {
                gathered.extend_from_slice(bytes);
                None
            }
            Body::GivenUp => None,
        };
        if let Some(why) = overflow {
            self.notes.note_unparseable(why.to_owned());
            self.body = Body::GivenUp;
        }
    }

    /// Ends the reply, however its body ended, and says what it was in all. Tells of a whole reply, and of a last event
    /// that only lacks its blank line; an event that broke off is as if it had not begun.
    pub fn finish(self, on_event: &mut dyn FnMut(Event)) -> Answer {
        let Self { body, mut notes } = self;
        match body {
            Body::Stream(decoder) => {
                decoder.finish(|data, is_error| {
                    notes.read_if_whole(data, is_error).into_iter().for_each(&mut *on_event);
                });
            }
            Body::Whole(gathered) => on_event(notes.read_object(&gathered)),
            Body::GivenUp => (),
        }
        notes.answer()
    }
}

/// A reply this long is no answer of a model.
const MAX_WHOLE_BYTES: usize = 64 << 20;

/// What a reply said in all.
#[derive(Default, Clone, Debug, PartialEq)]
pub struct Answer {
    /// The last token counts given.
    pub usage: Usage,
    /// Why generation stopped. With several choices a failure, if there is one, or else the first.
    pub finish_reason: Option<FinishReason>,
    /// Events with data, `[DONE]` not counted; 1 for a whole reply.
    pub events: u64,
    /// Those of them that bear tokens.
    pub token_events: u64,
    /// Whether `[DONE]` came.
    pub done: bool,
    /// The server's own measurements of this request, by name: milliseconds, or a rate if the name says `per_second`.
    /// Names are a closed set, values finite.
    pub server_timings: Vec<(&'static str, f64)>,
    /// Whether the server's `system_fingerprint` is one of vLLM, which newer versions send once a reply.
    pub is_of_vllm: bool,
    /// What the model said; `None` unless that is kept, and of a whole reply that cannot be read.
    pub response: Option<Response>,
    /// Why this is no answer; the gravest reason, if there are several.
    pub failure: Option<Failure>,
}

#[derive(Clone, Debug, PartialEq)]
enum Body {
    Stream(sse::Decoder),
    Whole(Vec<u8>),
    /// Too long; what comes is passed over.
    GivenUp,
}

/// What has been learned from a reply so far.
#[derive(Clone, Debug, PartialEq)]
struct Notes {
    dialect: Dialect,
    form: Form,
    template: Template,
    usage: Usage,
    finish_reason: Option<FinishReason>,
    events: u64,
    token_events: u64,
    done: bool,
    server_timings: Vec<(&'static str, f64)>,
    is_of_vllm: bool,
    /// What the model said so far, if that is kept.
    response: Option<Response>,
    /// The message of the first error that the server reported.
    error: Option<String>,
    /// What was wrong with the first object that could not be read.
    unparseable: Option<String>,
}

impl Notes {
    fn new(dialect: Dialect, form: Form) -> Self {
        Self {
            dialect,
            form,
            template: Template::default(),
            usage: Usage::default(),
            finish_reason: None,
            events: 0,
            token_events: 0,
            done: false,
            server_timings: Vec::new(),
            is_of_vllm: false,
            response: None,
            error: None,
            unparseable: None,
        }
    }

    /// Reads one event's data. `None` if it is blank, as in some servers' keep-alives.
    fn read(&mut self, data: &[u8], is_error: bool) -> Option<Event> {
        match data.trim_ascii() {
            b"" => None,
            data if is_error => {
                self.events += 1;
                self.error.get_or_insert_with(|| refusal::error_message(data));
                Some(Event::default())
            }
            b"[DONE]" => {
                self.done = true;
                Some(Event::default())
            }
            data => Some(self.read_object(data)),
        }
    }

    /// Reads the data of an event that the end of the stream left open, unless it is cut off.
    fn read_if_whole(&mut self, data: &[u8], is_error: bool) -> Option<Event> {
        let is_whole = data.trim_ascii() == b"[DONE]" || Payload::read(data, self.dialect).is_ok();
        if is_whole { self.read(data, is_error) } else { None }
    }

    fn read_object(&mut self, json: &[u8]) -> Event {
        self.events += 1;
        if let Some(response) = &mut self.response {
            response.add(json, self.dialect);
        }
        if self.form == Form::Stream
            && let Some(said) = self.template.recognise(json)
        {
            self.token_events += 1;
            return Event { tokens: Some(said.tokens), choices: said.choices, ..Event::default() };
        }
        let read = match self.form {
            Form::Stream => self.template.read(json, self.dialect),
            Form::Whole => Payload::read(json, self.dialect),
        };
        match read {
            Ok(payload) => self.note(payload),
            Err(why) => {
                self.note_unparseable(self.complaint(&why, json));
                Event::default()
            }
        }
    }

    fn note(&mut self, payload: Payload) -> Event {
        self.token_events += u64::from(payload.tokens.is_some());
        self.usage = self.usage.updated(payload.usage);
        self.is_of_vllm |= payload.is_of_vllm;
        let finishes = payload.finish_reason.is_some();
        self.finish_reason = FinishReason::weightier(self.finish_reason.take(), payload.finish_reason);
        for (name, value) in payload.timings {
            self.server_timings.retain(|(known, _)| *known != name);
            self.server_timings.push((name, value));
        }
        self.error = self.error.take().or(payload.error);
        Event {
            tokens: payload.tokens,
            completion_tokens: payload.usage.output_tokens,
            choices: payload.choices,
            finishes,
        }
    }

    fn note_unparseable(&mut self, why: String) {
        self.unparseable.get_or_insert(why);
    }

    fn complaint(&self, why: &str, json: &[u8]) -> String {
        let mut beginning = String::from_utf8_lossy(&json[..json.len().min(200)]).into_owned();
        if json.len() > 200 {
            // said here, where what is left may be shown whole
            beginning.push('…');
        }
        let beginning = text::printable(&beginning, 60);
        match self.form {
            Form::Stream => format!("event {}, '{beginning}': {why}", self.events),
            Form::Whole => format!("reply '{beginning}': {why}"),
        }
    }

    fn answer(self) -> Answer {
        let failure = self.failure();
        let is_unread = self.form == Form::Whole && self.unparseable.is_some();
        Answer {
            usage: self.usage,
            finish_reason: self.finish_reason,
            events: self.events,
            token_events: self.token_events,
            done: self.done,
            server_timings: self.server_timings,
            is_of_vllm: self.is_of_vllm,
            response: self.response.filter(|_| !is_unread),
            failure,
        }
    }

    /// The gravest thing wrong with the reply. The server's own word comes first.
    fn failure(&self) -> Option<Failure> {
        let gave_up = self.finish_reason.as_ref().filter(|reason| reason.is_failure());
        if let Some(message) = &self.error {
            Some(Failure::new(FailureKind::ErrorEvent, message))
        } else if let Some(why) = &self.unparseable {
            Some(Failure::new(FailureKind::UnparseableReply, why))
        } else if let Some(reason) = gave_up {
            Some(Failure::new(FailureKind::Aborted, format!("finish_reason is '{reason}'")))
        } else if self.ended_early() {
            let ending = format!("{} events, then neither a finish reason nor [DONE]", self.events);
            Some(Failure::new(FailureKind::EndedEarly, ending))
        } else if self.is_empty() {
            Some(Failure::new(FailureKind::EmptyReply, format!("no token in {} events", self.events)))
        } else {
            None
        }
    }

    fn ended_early(&self) -> bool {
        self.form == Form::Stream && self.finish_reason.is_none() && !self.done
    }

    /// Nothing to read, and no count that says there were tokens: swallowed reasoning and special tokens are real work.
    fn is_empty(&self) -> bool {
        self.token_events == 0 && self.usage.output_tokens.unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a stream of completions in one push.
    fn read(stream: &str) -> (Vec<Event>, Answer) {
        read_as(Form::Stream, [stream.as_bytes()])
    }

    fn read_as<'a>(form: Form, pushes: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Answer) {
        let mut reader = ReplyReader::new(Dialect::Completions, form);
        let mut events = Vec::new();
        for bytes in pushes {
            reader.push(bytes, &mut |event| events.push(event));
        }
        let answer = reader.finish(&mut |event| events.push(event));
        (events, answer)
    }

    const TOKEN: &str = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
    const STOP: &str = "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n";
    const ABORT: &str = "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"abort\"}]}\n\n";
    const COUNT: &str = "data: {\"choices\":[],\"usage\":{\"completion_tokens\":2}}\n\n";
    const ERROR: &str = "data: {\"error\": {\"message\": \"engine died\"}}\n\n";
    const NONSENSE: &str = "data: {\"choices\":[{\"te\n\n";
    const NAMED_ERROR: &str = "event: error\ndata: {\"message\":\"boom\",\"code\":500}\n\n";
    const DETAIL: &str = "data: {\"detail\":\"engine dead\"}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    #[track_caller]
    fn check(events: &[&str], want: Option<FailureKind>) {
        let (_, answer) = read(&events.concat());
        assert_eq!(answer.failure.map(|failure| failure.kind), want, "{events:?}");
    }

    #[test]
    fn a_stream_with_tokens_and_an_end_is_an_answer() {
        check(&[TOKEN, STOP, COUNT, DONE], None);
        check(&[TOKEN, STOP], None);
        check(&[TOKEN, DONE], None);
    }

    #[test]
    fn tokens_that_only_the_count_knows_are_tokens() {
        check(&[STOP, COUNT, DONE], None);
        check(&[STOP, DONE], Some(FailureKind::EmptyReply));
        check(&[DONE], Some(FailureKind::EmptyReply));
    }

    #[test]
    fn an_error_needs_no_error_key() {
        for (events, want) in [
            ([TOKEN, NAMED_ERROR, DONE].concat(), "boom"),
            ([TOKEN, DETAIL, DONE].concat(), "engine dead"),
            ([TOKEN, "event: error\ndata: out of memory\n\n", DONE].concat(), "out of memory"),
            // an event as usual but for its name
            (["event: error\n", TOKEN, DONE].concat(), "{\"choices\":[{\"text\":\"a\"}]}"),
        ] {
            let failure = read(&events).1.failure.expect("an error");
            assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::ErrorEvent, want), "{events}");
        }
        let whole = [TOKEN, "event: message\n", TOKEN, STOP, DONE];
        check(&whole, None);
    }

    #[test]
    fn the_gravest_failure_counts() {
        use FailureKind::*;
        check(&[TOKEN, NONSENSE, ABORT, ERROR, DONE], Some(ErrorEvent));
        check(&[ERROR, TOKEN, STOP, DONE], Some(ErrorEvent));
        check(&[NONSENSE, ABORT, DONE], Some(UnparseableReply));
        check(&[STOP, ABORT, DONE], Some(Aborted));
        check(&[ABORT], Some(Aborted));
        check(&[TOKEN, COUNT], Some(EndedEarly));
        check(&[], Some(EndedEarly));
        check(&[STOP], Some(EmptyReply));
    }

    #[test]
    fn failures_say_what_the_server_said_and_where() {
        for (stream, want) in [
            ([TOKEN, ERROR, DONE].concat(), "error_event: engine died"),
            (ABORT.to_owned(), "aborted: finish_reason is 'abort'"),
            (TOKEN.to_owned(), "ended_early: 1 events, then neither a finish reason nor [DONE]"),
            ([TOKEN, "data: hello\n\n"].concat(), "unparseable_reply: event 2, 'hello': not a JSON object"),
        ] {
            assert_eq!(read(&stream).1.failure.unwrap().to_string(), want);
        }
    }

    #[test]
    fn of_several_failures_of_a_kind_the_first_counts() {
        let second_error = "data: {\"error\":\"too late\"}\n\n";
        for (stream, want) in [
            ([ERROR, second_error].concat(), "error_event: engine died"),
            ("data: a\n\ndata: b\n\n".to_owned(), "unparseable_reply: event 1, 'a': not a JSON object"),
        ] {
            assert_eq!(read(&stream).1.failure.unwrap().to_string(), want);
        }
    }

    #[test]
    fn events_are_told_of_as_they_come() {
        let (events, answer) = read(&[": ping\n\n", TOKEN, STOP, "data: \n\n", COUNT, DONE].concat());
        let choices = Choices::One(0);
        let token = Event { tokens: Some(TokenKind::Content), choices, ..Event::default() };
        let stop = Event { finishes: true, choices, ..Event::default() };
        let count = Event { completion_tokens: Some(2), ..Event::default() };
        assert_eq!(events, [token, stop, count, Event::default()]);
        assert_eq!((answer.events, answer.token_events, answer.done), (3, 1, true));
        assert_eq!(answer.finish_reason, Some(FinishReason::Stop));
        assert_eq!(answer.usage.output_tokens, Some(2));
    }

    #[test]
    fn a_last_event_that_only_lacks_its_blank_line_counts() {
        for ending in ["", "\n", "\r\n"] {
            let (events, answer) = read(&(TOKEN.to_owned() + DONE.trim_end() + ending));
            assert_eq!((events.len(), answer.done, answer.failure), (2, true, None));
            let (events, answer) = read(&(TOKEN.to_owned() + STOP.trim_end() + ending));
            assert_eq!((events.len(), answer.failure), (2, None));
        }
    }

    #[test]
    fn an_event_that_broke_off_is_as_if_it_had_not_begun() {
        for length in 0..STOP.trim_end().len() {
            let (events, answer) = read(&(TOKEN.to_owned() + &STOP[..length]));
            assert_eq!((events.len(), answer.events), (1, 1));
            assert_eq!(answer.failure.map(|failure| failure.kind), Some(FailureKind::EndedEarly));
        }
    }

    #[test]
    fn the_last_of_the_servers_timings_count() {
        let timings = |queue| format!("data: {{\"metrics\":{{\"queue_time_ms\":{queue}}}}}\n\n");
        let llama = "data: {\"timings\":{\"prompt_ms\":3}}\n\n";
        let (_, answer) = read(&[&timings(1), llama, &timings(2)].concat());
        assert_eq!(answer.server_timings, [("timings.prompt_ms", 3.0), ("metrics.queue_time_ms", 2.0)]);
    }

    #[track_caller]
    fn check_whole(body: &str, want: Option<FailureKind>) {
        let (events, answer) = read_as(Form::Whole, body.as_bytes().chunks(3));
        assert_eq!(answer.failure.map(|failure| failure.kind), want, "{body}");
        assert_eq!((events.len(), answer.events), (1, 1), "{body}");
    }

    #[test]
    fn a_whole_reply_is_one_event() {
        use FailureKind::*;
        check_whole(r#"{"choices":[{"text":"a","finish_reason":"stop"}]}"#, None);
        check_whole(r#"{"choices":[{"text":"a"}]}"#, None);
        check_whole(r#"{"choices":[{"text":""}],"usage":{"completion_tokens":3}}"#, None);
        check_whole(r#"{"choices":[{"text":""}],"usage":{"completion_tokens":0}}"#, Some(EmptyReply));
        check_whole(r#"{"choices":[{"text":"","finish_reason":"stop"}]}"#, Some(EmptyReply));
        check_whole(r#"{"choices":[{"text":"a","finish_reason":"abort"}]}"#, Some(Aborted));
        check_whole(r#"{"error":"busy"}"#, Some(ErrorEvent));
        check_whole("<html>", Some(UnparseableReply));
        check_whole(r#"{"choices":[{"te"#, Some(UnparseableReply));
        check_whole("", Some(UnparseableReply));
    }

    #[test]
    fn a_reply_without_bounds_is_given_up() {
        let mebibyte = vec![b' '; 1 << 20];
        for (form, mebibytes) in [(Form::Stream, 16), (Form::Whole, 64)] {
            let mut reader = ReplyReader::new(Dialect::Chat, form);
            for _ in 0..mebibytes {
                reader.push(&mebibyte, &mut |_| ());
            }
            assert_ne!(reader.body, Body::GivenUp);
            reader.push(b" ", &mut |_| ());
            reader.push(DONE.as_bytes(), &mut |_| ());
            assert_eq!(reader.body, Body::GivenUp);
            let failure = reader.finish(&mut |_| ()).failure.unwrap();
            assert_eq!(failure.kind, FailureKind::UnparseableReply, "{failure}");
        }
    }

    #[test]
    fn the_content_type_tells_the_form() {
        for (content_type, want) in [
            ("text/event-stream; charset=utf-8", Form::Stream),
            ("Text/Event-Stream", Form::Stream),
            (" text/event-stream ;q", Form::Stream),
            ("application/json", Form::Whole),
            ("text/event-streams", Form::Whole),
            ("", Form::Whole),
        ] {
            assert_eq!(Form::of_content_type(content_type), want, "{content_type}");
        }
    }

    fn stream() -> impl Strategy<Value = String> {
        let pieces = [TOKEN, STOP, ABORT, COUNT, ERROR, NONSENSE, DONE, ": x\r\n", "data:", "\r", "{}", "ü"];
        proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..8)
            .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_answer(stream in stream(), size in 1usize..40) {
            let whole = read(&stream);
            prop_assert_eq!(&read_as(Form::Stream, stream.as_bytes().chunks(size)), &whole);
            prop_assert_eq!(&read_as(Form::Stream, stream.as_bytes().chunks(1)), &whole);
        }

        #[test]
        fn no_bytes_can_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            for form in [Form::Stream, Form::Whole] {
                read_as(form, [head, tail]);
            }
            read_as(Form::Stream, [b"data: {", head, b"\n\n", tail]);
            super::super::error_message(&bytes);
            let _ = super::super::model_ids(&bytes);
        }
    }
}
