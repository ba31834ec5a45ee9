//! The wire against bytes captured from a real server, so that the code and the simulator cannot be wrong together.
//!
//! The numbers in the tables were counted by another program (a few lines of Python over the same files).

use std::collections::BTreeSet;
use std::path::PathBuf;

use vllm_loadgen::failure::FailureKind::{self, Aborted, EndedEarly, ErrorEvent};
use vllm_loadgen::wire::Dialect::{self, Chat, Completions};
use vllm_loadgen::wire::Form::{self, Stream, Whole};
use vllm_loadgen::wire::TokenKind::{Content, Reasoning, ToolCall};
use vllm_loadgen::wire::{Answer, Event, FinishReason, ReplyReader, Usage, error_message, model_ids};

/// Name, dialect, form, output tokens, finish reason ("" for none), events, those with tokens, the first of those, failure.
type Row = (&'static str, Dialect, Form, Option<u64>, &'static str, u64, u64, usize, Option<FailureKind>);

#[rustfmt::skip]
const ANSWERS: &[Row] = &[
    ("A_accept_encoding_gzip", Completions, Whole, Some(2), "length", 1, 1, 0, None),
    ("A_bad_role_accepted", Chat, Whole, Some(2), "length", 1, 1, 0, None),
    ("A_chat_json_schema_stream", Chat, Stream, Some(14), "stop", 16, 13, 1, None),
    ("A_chat_nonstream", Chat, Whole, Some(47), "stop", 1, 1, 0, None),
    ("A_chat_parts_stream", Chat, Stream, Some(8), "length", 10, 8, 1, None),
    ("A_chat_stream", Chat, Stream, None, "stop", 48, 46, 1, None),
    ("A_chat_stream_continuous", Chat, Stream, Some(47), "stop", 49, 46, 1, None),
    ("A_chat_stream_ignore_eos", Chat, Stream, Some(32), "length", 33, 31, 1, None),
    ("A_chat_stream_logprobs", Chat, Stream, Some(8), "length", 10, 8, 1, None),
    ("A_chat_stream_max_completion_tokens", Chat, Stream, Some(5), "length", 7, 5, 1, None),
    ("A_chat_stream_nothink_greedy", Chat, Stream, Some(5), "stop", 7, 4, 1, None),
    ("A_chat_stream_usage", Chat, Stream, Some(47), "stop", 49, 46, 1, None),
    ("A_chunked_request", Completions, Whole, Some(2), "length", 1, 1, 0, None),
    ("A_client_abort_stream", Completions, Stream, None, "", 4, 4, 0, Some(EndedEarly)),
    ("A_cmpl_nonstream", Completions, Whole, Some(16), "length", 1, 1, 0, None),
    ("A_cmpl_nonstream_logprobs", Completions, Whole, Some(16), "length", 1, 1, 0, None),
    ("A_cmpl_nonstream_min_tokens", Completions, Whole, Some(41), "stop", 1, 1, 0, None),
    ("A_cmpl_nonstream_token_ids", Completions, Whole, Some(16), "length", 1, 1, 0, None),
    ("A_cmpl_stream", Completions, Stream, None, "length", 16, 15, 0, None),
    ("A_cmpl_stream_continuous", Completions, Stream, Some(16), "length", 17, 15, 0, None),
    ("A_cmpl_stream_continuous_only", Completions, Stream, None, "length", 16, 15, 0, None),
    ("A_cmpl_stream_default_max", Completions, Stream, Some(8), "stop", 9, 7, 0, None),
    ("A_cmpl_stream_echo", Completions, Stream, Some(16), "length", 17, 15, 0, None),
    ("A_cmpl_stream_eos", Completions, Stream, Some(5), "stop", 6, 4, 0, None),
    ("A_cmpl_stream_logprobs", Completions, Stream, Some(16), "length", 3, 2, 0, None),
    ("A_cmpl_stream_max1", Completions, Stream, Some(1), "length", 2, 1, 0, None),
    ("A_cmpl_stream_min_tokens", Completions, Stream, Some(41), "stop", 42, 40, 0, None),
    ("A_cmpl_stream_n2", Completions, Stream, Some(32), "length", 33, 31, 0, None),
    ("A_cmpl_stream_options_empty", Completions, Stream, None, "length", 16, 15, 0, None),
    ("A_cmpl_stream_options_false", Completions, Stream, None, "length", 16, 15, 0, None),
    ("A_cmpl_stream_request_id", Completions, Stream, Some(16), "length", 17, 15, 0, None),
    ("A_cmpl_stream_return_token_ids", Completions, Stream, Some(16), "length", 17, 15, 0, None),
    ("A_cmpl_stream_stop_string", Completions, Stream, Some(74), "stop", 75, 72, 1, None),
    ("A_cmpl_stream_stop_token", Completions, Stream, Some(17), "stop", 18, 16, 0, None),
    ("A_cmpl_stream_usage", Completions, Stream, Some(16), "length", 17, 15, 0, None),
    ("A_cmpl_stream_utf8_bytes", Completions, Stream, Some(60), "length", 61, 18, 0, None),
    ("A_cmpl_stream_xrequestid", Completions, Stream, Some(16), "length", 17, 15, 0, None),
    ("A_connection_close", Completions, Whole, Some(2), "length", 1, 1, 0, None),
    ("A_http10", Completions, Whole, Some(2), "length", 1, 1, 0, None),
    ("A_http10_stream", Completions, Stream, None, "length", 4, 4, 0, None),
    ("A_sigterm_stream_cmpl", Completions, Stream, None, "", 16, 16, 0, Some(EndedEarly)),
    ("A_unknown_field_ignored", Completions, Whole, Some(2), "length", 1, 1, 0, None),
    ("B_chat_cached_nonstream", Chat, Whole, Some(4), "length", 1, 1, 0, None),
    ("B_chat_cached_stream", Chat, Stream, Some(4), "length", 5, 3, 1, None),
    ("B_chat_include_reasoning_false_stream", Chat, Stream, Some(47), "stop", 34, 31, 1, None),
    ("B_chat_no_thinking_stream", Chat, Stream, Some(7), "stop", 9, 6, 1, None),
    ("B_chat_reasoning_effort_none_stream", Chat, Stream, Some(7), "stop", 9, 6, 1, None),
    ("B_chat_reasoning_nonstream", Chat, Whole, Some(47), "stop", 1, 1, 0, None),
    ("B_chat_reasoning_stream", Chat, Stream, Some(47), "stop", 47, 44, 1, None),
    ("B_chat_reasoning_stream_continuous", Chat, Stream, Some(47), "stop", 47, 44, 1, None),
    ("B_cmpl_cached1_nonstream", Completions, Whole, Some(4), "length", 1, 1, 0, None),
    ("B_cmpl_cached2_nonstream", Completions, Whole, Some(4), "length", 1, 1, 0, None),
    ("B_cmpl_cached3_stream", Completions, Stream, Some(4), "length", 5, 4, 0, None),
    ("B_cmpl_cached4_stream_continuous", Completions, Stream, Some(4), "length", 5, 4, 0, None),
    ("B_cmpl_nonstream_own_reqid", Completions, Whole, Some(8), "length", 1, 1, 0, None),
    ("B_cmpl_nonstream_reqid", Completions, Whole, Some(8), "length", 1, 1, 0, None),
    ("B_cmpl_stream_continuous", Completions, Stream, Some(8), "length", 9, 7, 0, None),
    ("B_cmpl_stream_plain", Completions, Stream, None, "length", 8, 7, 0, None),
    ("B_cmpl_stream_usage_own_reqid", Completions, Stream, Some(8), "length", 9, 7, 0, None),
    ("B_dup_reqid_1", Completions, Whole, Some(8), "length", 1, 1, 0, None),
    ("B_enginekill_stream_cmpl", Completions, Stream, None, "", 18, 17, 0, Some(ErrorEvent)),
    ("B_tool_auto_nonstream", Chat, Whole, Some(16), "tool_calls", 1, 1, 0, None),
    ("B_tool_auto_stream", Chat, Stream, Some(16), "tool_calls", 10, 7, 1, None),
    ("B_tool_auto_text_answer_stream", Chat, Stream, Some(7), "stop", 9, 6, 1, None),
    ("B_tool_auto_thinking_stream", Chat, Stream, Some(32), "tool_calls", 24, 21, 1, None),
    ("B_tool_named_nonstream", Chat, Whole, Some(80), "length", 1, 1, 0, None),
    ("B_tool_named_stream", Chat, Stream, Some(80), "length", 66, 64, 1, None),
    ("B_tool_parallel_n2_stream", Chat, Stream, Some(32), "tool_calls", 19, 14, 2, None),
    ("B_tool_required_nonstream", Chat, Whole, Some(80), "length", 1, 1, 0, None),
    ("C_force_usage_chat_stream", Chat, Stream, Some(12), "length", 6, 4, 1, None),
    ("C_force_usage_stream", Completions, Stream, Some(4), "length", 3, 2, 0, None),
    ("C_graceful_nonstream_cmpl", Completions, Whole, Some(1900), "length", 1, 1, 0, None),
    ("C_graceful_stream_chat", Chat, Stream, Some(1900), "length", 383, 381, 1, None),
    ("C_graceful_stream_cmpl", Completions, Stream, Some(1900), "length", 382, 381, 0, None),
    ("C_interval5_stream", Completions, Stream, Some(23), "length", 7, 6, 0, None),
    ("C_queue3_stream", Completions, Stream, Some(1000), "length", 202, 201, 0, None),
    ("C_queue5_stream", Completions, Stream, Some(1000), "length", 202, 201, 0, None),
    ("S_sigterm_aborted_stream_cmpl", Completions, Stream, None, "abort", 213, 209, 0, Some(Aborted)),
];

/// Name, status, message.
#[rustfmt::skip]
const REFUSALS: &[(&str, u16, &str)] = &[
    ("A_405_get_completions", 405, "Method Not Allowed"),
    ("A_bad_request_line", 400, "Invalid HTTP request received."),
    ("A_cmpl_stream_max0", 400, "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)"),
    ("A_err400_bad_temperature", 400, "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)"),
    ("A_err400_empty_messages", 400, "Cannot apply chat template to an empty conversation. Provide at least one message."),
    ("A_err400_empty_prompt", 400, "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)"),
    ("A_err400_malformed_json", 400, r#"1 validation error: {'type': 'json_invalid', 'loc': 'body.37', 'msg': 'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {'error': "Expecting ',' delimiter"}}"#),
    ("A_err400_malformed_json_chat", 400, "1 validation error: {'type': 'json_invalid', 'loc': 'body.37', 'msg': 'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {'error': 'Expecting value'}}"),
    ("A_err400_max_tokens_over", 400, "max_tokens=5000 cannot be greater than max_model_len=2048. Please request fewer output tokens. (parameter=max_tokens, value=5000)"),
    ("A_err400_max_tokens_over_chat", 400, "max_tokens=5000 cannot be greater than max_model_len=2048. Please request fewer output tokens. (parameter=max_tokens, value=5000)"),
    ("A_err400_missing_messages", 400, "1 validation error: {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 2 items>'}"),
    ("A_err400_missing_prompt", 400, "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)"),
    ("A_err400_negative_max", 400, "max_tokens must be at least 1, got -1. (parameter=max_tokens, value=-1)"),
    ("A_err400_stream_options_without_stream", 400, "Stream options can only be defined when `stream=True`. (parameter=stream_options)"),
    ("A_err400_too_long", 400, "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=2049)"),
    ("A_err400_too_long_chat", 400, "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=2049)"),
    ("A_err400_too_long_chat_stream", 400, "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=2049)"),
    ("A_err400_too_long_stream", 400, "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=2049)"),
    ("A_err400_tools_without_parser", 400, r#""auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set"#),
    ("A_err400_wrong_type", 400, "1 validation error: {'type': 'int_parsing', 'loc': 'body.max_tokens', 'msg': 'Input should be a valid integer, unable to parse string as an integer', 'input': 'many'}"),
    ("A_err404_model", 404, "The model `no-such-model` does not exist. Valid aliases: tiny-qwen3."),
    ("A_err404_model_chat", 404, "The model `no-such-model` does not exist. Valid aliases: tiny-qwen3."),
    ("A_err404_model_stream", 404, "The model `no-such-model` does not exist. Valid aliases: tiny-qwen3."),
    ("A_err404_model_stream_chat", 404, "The model `no-such-model` does not exist. Valid aliases: tiny-qwen3."),
    ("A_err_empty_body", 400, "1 validation error: {'type': 'missing', 'loc': 'body', 'msg': 'Field required', 'input': 'None'}"),
    ("A_err_no_content_type", 400, "1 validation error: Unsupported Media Type: Only 'application/json' is allowed"),
    ("A_err_text_plain", 400, "1 validation error: Unsupported Media Type: Only 'application/json' is allowed"),
    ("B_401_no_key", 401, "Unauthorized"),
    ("B_401_no_key_chat_stream", 401, "Unauthorized"),
    ("B_401_wrong_key", 401, "Unauthorized"),
    ("B_401_wrong_scheme", 401, "Unauthorized"),
    ("B_enginekill_nonstream_cmpl", 500, "EngineCore encountered an issue. See stack trace (above) for the root cause."),
    ("C_graceful_after0_completion", 500, "cannot schedule new futures after shutdown"),
    ("C_graceful_after1_completion", 500, "cannot schedule new futures after shutdown"),
    ("C_queue6_stream", 503, "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."),
    ("C_queue7_stream", 503, "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."),
    ("D_completions_on_embed", 404, "Not Found"),
];

const MODEL_LISTS: &[&str] = &["A_get_models", "B_200_models_key"];

#[test]
fn every_answer_is_read_as_it_was_given() {
    for row in ANSWERS {
        let (name, dialect, form, output_tokens, finish_reason, events, token_events, first_token, failure) =
            *row;
        let capture = Capture::load(name);
        assert_eq!((capture.status, capture.form()), (200, form), "{name}");
        let (seen, answer) = read(dialect, form, [&capture.body[..]]);
        assert_eq!(answer.usage.output_tokens, output_tokens, "{name}");
        assert_eq!(answer.finish_reason.as_ref().map_or("", FinishReason::as_str), finish_reason, "{name}");
        assert_eq!((answer.events, answer.token_events), (events, token_events), "{name}");
        assert_eq!(seen.iter().position(|event| event.tokens.is_some()), Some(first_token), "{name}");
        assert_eq!(answer.failure.map(|failure| failure.kind), failure, "{name}");
        assert_eq!(seen.len() as u64, events + u64::from(answer.done), "{name}");
    }
}

#[test]
fn every_refusal_has_its_message() {
    for &(name, status, message) in REFUSALS {
        let capture = Capture::load(name);
        assert_eq!((capture.status, error_message(&capture.body)), (status, message.to_owned()), "{name}");
    }
}

#[test]
fn models_are_listed() {
    for name in MODEL_LISTS {
        assert_eq!(model_ids(&Capture::load(name).body), Ok(vec!["tiny-qwen3".to_owned()]), "{name}");
    }
}

#[test]
fn no_capture_is_left_out() {
    let answers = ANSWERS.iter().map(|row| row.0);
    let refusals = REFUSALS.iter().map(|row| row.0);
    let tested: BTreeSet<String> =
        answers.chain(refusals).chain(MODEL_LISTS.iter().copied()).map(str::to_owned).collect();
    let files = std::fs::read_dir(folder()).expect("the captures lie in the repository");
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let stored: BTreeSet<String> =
        names.filter_map(|name| Some(name.strip_suffix(".http")?.to_owned())).collect();
    assert_eq!(tested, stored);
}

#[test]
fn one_cut_anywhere_changes_nothing() {
    for &(name, dialect, form, ..) in ANSWERS {
        let body = Capture::load(name).body;
        let whole = read(dialect, form, [&body[..]]);
        for cut in (0..body.len()).step_by(body.len() / 16 + 1) {
            let (head, tail) = body.split_at(cut);
            assert_eq!(read(dialect, form, [head, tail]), whole, "{name} cut at {cut}");
        }
    }
}

/// Every byte position of every stream. A cut leaves no trace beyond its event: told by the reader's state after it.
#[test]
fn a_cut_at_each_byte_leaves_no_trace_after_its_event() {
    for &(name, dialect, form, ..) in ANSWERS.iter().filter(|row| row.2 == Stream) {
        let body = Capture::load(name).body;
        let events = pieces(&body);
        let mut before = ReplyReader::new(dialect, form);
        for (number, &piece) in events.iter().enumerate() {
            let after = pushed(&before, [piece]);
            let is_worth_it = body.len() < LONG || number < 3 || number + 3 >= events.len();
            for cut in (1..piece.len()).filter(|_| is_worth_it) {
                let (head, tail) = piece.split_at(cut);
                assert_eq!(pushed(&before, [head, tail]), after, "{name}: event {number} cut at {cut}");
            }
            before = after.1;
        }
        let whole = pushed(&ReplyReader::new(dialect, form), [&body[..]]).1;
        assert_eq!(before, whole, "{name}");
    }
}

/// In longer replies only the first and last events are cut at each byte: those between are all alike.
const LONG: usize = 100_000;

#[test]
fn a_byte_at_a_time_is_the_same() {
    for &(name, dialect, form, ..) in ANSWERS {
        let body = Capture::load(name).body;
        assert_eq!(read(dialect, form, body.chunks(1)), read(dialect, form, [&body[..]]), "{name}");
    }
}

#[test]
fn a_stream_cut_off_before_its_end_ended_early() {
    for name in ["A_cmpl_stream_usage", "B_chat_reasoning_stream", "A_cmpl_stream_n2"] {
        let (_, dialect, form, ..) = *ANSWERS.iter().find(|row| row.0 == name).expect("the table has it");
        let body = Capture::load(name).body;
        let finish =
            body.windows(17).position(|bytes| bytes == b"\"finish_reason\":\"").expect("it has an end");
        for length in (0..finish).step_by(7) {
            let (_, answer) = read(dialect, form, [&body[..length]]);
            assert_eq!(
                answer.failure.map(|failure| failure.kind),
                Some(EndedEarly),
                "{name} cut off at {length}"
            );
        }
    }
}

#[test]
fn an_engines_death_is_an_error_although_done_follows() {
    let (_, answer) = read(Completions, Stream, [&Capture::load("B_enginekill_stream_cmpl").body[..]]);
    assert!(answer.done);
    let failure = answer.failure.unwrap();
    let want = "EngineCore encountered an issue. See stack trace (above) for the root cause.";
    assert_eq!((failure.kind, &failure.message[..]), (ErrorEvent, want));
}

#[track_caller]
fn check_kinds(name: &str, want: [usize; 3]) {
    let (events, _) = read(Chat, Stream, [&Capture::load(name).body[..]]);
    let count = |kind| events.iter().filter(|event| event.tokens == Some(kind)).count();
    assert_eq!([Reasoning, ToolCall, Content].map(count), want, "{name}");
}

#[test]
fn reasoning_tool_calls_and_content_are_told_apart() {
    check_kinds("B_chat_reasoning_stream", [13, 0, 31]);
    check_kinds("B_chat_include_reasoning_false_stream", [0, 0, 31]);
    check_kinds("B_chat_no_thinking_stream", [0, 0, 6]);
    check_kinds("B_chat_cached_stream", [3, 0, 0]);
    check_kinds("B_tool_auto_stream", [0, 7, 0]);
    check_kinds("B_tool_auto_thinking_stream", [13, 7, 1]);
    check_kinds("B_tool_parallel_n2_stream", [0, 14, 0]);
}

#[track_caller]
fn check_running(name: &str, dialect: Dialect, want: impl IntoIterator<Item = u64>) {
    let (events, _) = read(dialect, Stream, [&Capture::load(name).body[..]]);
    let running: Vec<u64> = events.iter().filter_map(|event| event.completion_tokens).collect();
    assert_eq!(running, Vec::from_iter(want), "{name}");
}

#[test]
fn continuous_usage_is_told_event_by_event() {
    check_running("A_cmpl_stream_continuous", Completions, (1..=16).chain([16]));
    check_running("C_force_usage_stream", Completions, [1, 4, 4]);
    check_running("C_force_usage_chat_stream", Chat, [0, 1, 6, 11, 12, 12]);
    // `<think>` and `</think>` make no event
    check_running(
        "B_chat_reasoning_stream_continuous",
        Chat,
        [0].into_iter().chain(2..=14).chain(16..=47).chain([47]),
    );
    check_running("A_cmpl_stream_usage", Completions, [16]);
    check_running("A_cmpl_stream", Completions, []);
}

#[track_caller]
fn check_usage(name: &str, dialect: Dialect, want: [Option<u64>; 4]) {
    let capture = Capture::load(name);
    let (_, answer) = read(dialect, capture.form(), [&capture.body[..]]);
    let [input_tokens, output_tokens, cached_tokens, reasoning_tokens] = want;
    assert_eq!(
        answer.usage,
        Usage { input_tokens, output_tokens, cached_tokens, reasoning_tokens },
        "{name}"
    );
}

#[test]
fn usage_says_what_the_server_knows_and_no_more() {
    check_usage("A_cmpl_stream", Completions, [None, None, None, None]);
    check_usage("A_cmpl_stream_echo", Completions, [Some(3), Some(16), None, None]);
    check_usage("A_cmpl_stream_n2", Completions, [Some(3), Some(32), None, None]);
    check_usage("B_cmpl_cached1_nonstream", Completions, [Some(521), Some(4), Some(0), None]);
    check_usage("B_cmpl_cached4_stream_continuous", Completions, [Some(521), Some(4), Some(512), None]);
    check_usage("B_chat_reasoning_nonstream", Chat, [Some(14), Some(47), Some(0), Some(13)]);
    check_usage("B_chat_cached_stream", Chat, [Some(529), Some(4), Some(512), Some(3)]);
}

#[test]
fn the_servers_own_timings_are_kept() {
    let (_, answer) = read(Completions, Stream, [&Capture::load("B_cmpl_cached3_stream").body[..]]);
    assert_eq!(
        answer.server_timings,
        [
            ("metrics.time_to_first_token_ms", 5.772579999756999),
            ("metrics.queue_time_ms", 0.013241000033303862),
            ("metrics.generation_time_ms", 16.31466300023021),
            ("metrics.mean_itl_ms", 5.438221000076737),
            ("metrics.tokens_per_second", 181.1000132520983),
        ]
    );
    let (_, without) = read(Completions, Stream, [&Capture::load("A_cmpl_stream_usage").body[..]]);
    assert_eq!(without.server_timings, []);
}

fn read<'a>(
    dialect: Dialect,
    form: Form,
    pushes: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Event>, Answer) {
    let (mut events, reader) = pushed(&ReplyReader::new(dialect, form), pushes);
    let answer = reader.finish(&mut |event| events.push(event));
    (events, answer)
}

/// What a reader tells of, and what becomes of it, when it is given some pushes.
fn pushed<'a>(reader: &ReplyReader, pushes: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, ReplyReader) {
    let mut reader = reader.clone();
    let mut events = Vec::new();
    for bytes in pushes {
        reader.push(bytes, &mut |event| events.push(event));
    }
    (events, reader)
}

/// The stream in pieces of one event each, comments included.
fn pieces(body: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = body;
    while let Some(blank) = rest.windows(2).position(|bytes| bytes == b"\n\n") {
        let (piece, left) = rest.split_at(blank + 2);
        pieces.push(piece);
        rest = left;
    }
    pieces.push(rest);
    pieces
}

/// One captured reply, its transfer coding removed.
pub struct Capture {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Capture {
    pub fn load(name: &str) -> Self {
        let bytes = std::fs::read(folder().join(format!("{name}.http")))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = head.parse(&bytes).unwrap() else {
            panic!("{name}: no whole head")
        };
        let header = |name: &str| {
            let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            header.map_or(String::new(), |header| String::from_utf8_lossy(header.value).into_owned())
        };
        let body = &bytes[length..];
        let is_chunked = header("transfer-encoding") == "chunked";
        Self {
            status: head.code.unwrap(),
            content_type: header("content-type"),
            body: if is_chunked { without_chunks(body) } else { body.to_vec() },
        }
    }

    fn form(&self) -> Form {
        Form::of_content_type(&self.content_type)
    }
}

/// The bytes inside of the chunks; a reply that was cut off ends where it was cut.
pub fn without_chunks(mut coded: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(coded) {
        let end = (start + size as usize).min(coded.len());
        body.extend_from_slice(&coded[start..end]);
        coded = coded.get(end + "\r\n".len()..).unwrap_or_default();
    }
    body
}

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/captures")
}
