//! What one event of a stream costs: framing, parsing and noting it, through the reader that the engine uses.
//!
//! `scripts/bench.sh events` prints nanoseconds an event, for reads of one event and of 64. To count what does not
//! depend on the weather, give the built file (`cargo bench --no-run --bench events` names it) a stream, events a read
//! and a number of events. The difference of two numbers leaves out what starting costs:
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null FILE chat 1 2000     # instructions
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null FILE chat 1 12000
//! valgrind --tool=memcheck FILE chat 1 2000                                     # allocations in all
//! ```

use std::hint::black_box;
use std::time::Instant;

use vllm_loadgen::wire::{Dialect, Form, ReplyReader};

/// The streams: as captured from vLLM, but for ids.
const STREAMS: [(&str, Dialect, &str); 4] = [
    (
        "chat",
        Dialect::Chat,
        r#"{"id":"chatcmpl-3f0c4a3b9d2e4c57","object":"chat.completion.chunk","created":1764000000,"model":"simulated-model","choices":[{"index":0,"delta":{"content":" the"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
    ),
    (
        "chat-escape",
        Dialect::Chat,
        r#"{"id":"chatcmpl-3f0c4a3b9d2e4c57","object":"chat.completion.chunk","created":1764000000,"model":"simulated-model","choices":[{"index":0,"delta":{"content":"\n\"é"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
    ),
    (
        "chat-usage",
        Dialect::Chat,
        r#"{"id":"chatcmpl-3f0c4a3b9d2e4c57","object":"chat.completion.chunk","created":1764000000,"model":"simulated-model","choices":[{"index":0,"delta":{"content":" the"},"logprobs":null,"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":14,"total_tokens":20,"completion_tokens":6}}"#,
    ),
    (
        "completions",
        Dialect::Completions,
        r#"{"id":"cmpl-3f0c4a3b9d2e4c57","object":"text_completion","created":1764000000,"model":"simulated-model","choices":[{"index":0,"text":" the","logprobs":null,"finish_reason":null,"stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null}]}"#,
    ),
];

/// Events of a timed run.
const EVENTS: usize = 200_000;
/// Timed runs of each stream.
const RUNS: usize = 7;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [name, per_read, events] if !name.starts_with("--") => {
            let number = |word: &str| word.parse().expect("a number");
            count(name, number(per_read), number(events));
        }
        // `cargo test --benches` is for finding out whether it starts
        _ if words.contains(&"--test") || !words.contains(&"--bench") => {}
        _ => time_all(),
    }
}

fn count(name: &str, per_read: usize, events: usize) {
    let stream = STREAMS.iter().find(|(known, ..)| *known == name).expect("a stream of the table");
    println!("{} events bear tokens", read(stream.1, &bytes(stream.2, per_read), events / per_read));
}

fn time_all() {
    println!("| stream | bytes/event | events/read | ns/event |\n| --- | --: | --: | --: |");
    for (name, dialect, json) in STREAMS {
        for per_read in [1, 64] {
            let bytes = bytes(json, per_read);
            let mut nanos = [0.0; RUNS];
            for nanos in &mut nanos {
                let began = Instant::now();
                let tokens = read(dialect, &bytes, EVENTS / per_read);
                *nanos = began.elapsed().as_nanos() as f64 / tokens as f64;
            }
            nanos.sort_by(f64::total_cmp);
            println!("| {name} | {} | {per_read} | {:.0} |", bytes.len() / per_read, nanos[RUNS / 2]);
        }
    }
}

/// What one read of so many events brings.
fn bytes(json: &str, events: usize) -> Vec<u8> {
    format!("data: {json}\n\n").repeat(events).into_bytes()
}

/// Reads a reply of so many reads; returns its events that bear tokens.
fn read(dialect: Dialect, bytes: &[u8], reads: usize) -> u64 {
    let mut reader = ReplyReader::new(dialect, Form::Stream);
    let mut tokens = 0;
    for _ in 0..reads {
        reader.push(black_box(bytes), &mut |event| tokens += u64::from(event.tokens.is_some()));
    }
    let answer = reader.finish(&mut |_| ());
    assert_eq!(answer.token_events, tokens, "every event is read");
    tokens
}
