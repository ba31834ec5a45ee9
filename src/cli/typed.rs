//! From text to values: numbers, times, headers; what cannot be read is noted and the rest goes on.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};

use super::flags::{Flags, Selftest, Simulate};
use crate::arrivals::Shape;
use crate::error::Mistake;
use crate::health::{Limits, TypedLimit};
use crate::plan::{Draft, Extent, Given, MAX_THREADS, NetworkDraft, Origin, Slo, Threshold, parse_label};
use crate::secret::Secret;
use crate::selftest::{Client, Settings};
use crate::sim::{Behavior, MAX_MODEL_LEN};
use crate::units::{parse_duration, parse_share};

/// The mistakes found so far.
#[derive(Debug, Default)]
pub struct Typed {
    pub mistakes: Vec<Mistake>,
}

/// Of `compare` and `trend`, where nothing else is said.
const TOLERANCE: f64 = 0.1;

const WHOLE: &str = "write a whole number, such as 100";

impl Typed {
    /// Notes a mistake.
    pub fn add(&mut self, place: impl Into<String>, problem: impl Into<String>) {
        self.mistakes.push(Mistake::new(place, problem));
    }

    /// The draft that the flags make.
    pub fn draft(&mut self, flags: &Flags) -> Draft {
        for off in flags.off.iter().filter(|off| !off.ends_with("=false")) {
            let (name, value) = off.split_once('=').unwrap_or((off, ""));
            self.add(
                format!("{name} '{value}'"),
                "write it without a value, or =false to undo a config file's",
            );
        }
        Draft {
            url: given("--url", flags.url.clone()),
            api: self.read("--api", flags.api.as_ref(), str::parse),
            model: given("--model", flags.model.clone()),
            test_name: given("--test-name", flags.test_name.clone()),
            key: None,
            key_is_for: None,
            inputs: Vec::new(),
            timeout: self.read("--timeout", flags.timeout.as_ref(), parse_duration),
            idle_timeout: self.read("--idle-timeout", flags.idle_timeout.as_ref(), parse_duration),
            connect_timeout: self.read("--connect-timeout", flags.connect_timeout.as_ref(), parse_duration),
            headers: flags
                .header
                .iter()
                .filter_map(|text| self.read("--header", Some(text), header))
                .collect(),
            network: network(flags),
            prompt: given("--prompt", flags.prompt.clone()),
            unique_prompts: switch(flags, "--unique-prompts", flags.unique_prompts),
            fail_on_length: switch(flags, "--fail-on-length", flags.fail_on_length),
            save_responses: given(
                "--save-responses",
                switch(flags, "--save-responses", flags.save_responses),
            ),
            keeper: self.read("--keeper", flags.keeper.as_ref(), str::parse),
            client_priority: self.read("--client-priority", flags.client_priority.as_ref(), str::parse),
            calibrate: switch(flags, "--calibrate", flags.calibrate),
            max_tokens: self.whole("--max-tokens", flags.max_tokens.as_ref()),
            temperature: self.read("--temperature", flags.temperature.as_ref(), number),
            ignore_eos: switch(flags, "--ignore-eos", flags.ignore_eos),
            stream: switch(flags, "--no-stream", flags.no_stream).map(|off| !off),
            continuous_usage: switch(flags, "--continuous-usage", flags.continuous_usage),
            extra_body: self.read("--extra-body", flags.extra_body.as_ref(), object),
            threads: self.threads(flags),
            closed_loop: rate_is_none(flags),
            request_rate: self.read(
                "--request-rate",
                flags.request_rate.as_ref().filter(|_| !rate_is_none(flags)),
                Shape::parse_rate,
            ),
            ramp_up: self.read("--ramp-up", flags.ramp_up.as_ref(), Shape::parse_ramp),
            stages: self.read("--stages", flags.stages.as_ref(), Shape::parse_stages),
            arrival: self.read("--arrival", flags.arrival.as_ref(), str::parse),
            burstiness: self.read("--burstiness", flags.burstiness.as_ref(), number),
            completions: self.whole("--completions", flags.completions.as_ref()),
            duration: self.read("--duration", flags.duration.as_ref(), parse_duration),
            warmup: self.read("--warmup", flags.warmup.as_ref(), Extent::parse),
            cooldown: self.read("--cooldown", flags.cooldown.as_ref(), Extent::parse),
            goodput: self.read("--goodput", flags.goodput.as_ref(), slos),
            max_errors: self.whole("--max-errors", flags.max_errors.as_ref()),
            max_error_rate: self.read("--max-error-rate", flags.max_error_rate.as_ref(), parse_share),
            no_progress_timeout: self.read(
                "--no-progress-timeout",
                flags.no_progress_timeout.as_ref(),
                parse_duration,
            ),
            no_reply_timeout: self.read(
                "--no-reply-timeout",
                flags.no_reply_timeout.as_ref(),
                parse_duration,
            ),
            thresholds: self.thresholds(&flags.threshold),
            junit: given("--junit", flags.junit.as_ref().map(PathBuf::from)),
            labels: flags
                .label
                .iter()
                .filter_map(|text| self.read("--label", Some(text), parse_label))
                .collect(),
            backoff: switch(flags, "--no-backoff", flags.no_backoff).map(|off| !off),
            grace: self.read("--grace", flags.grace.as_ref(), parse_duration),
            seed: self.whole("--seed", flags.seed.as_ref()),
            compare: self.read("--compare", flags.compare.as_ref(), numbers),
            concurrent_tests: self.read("--concurrent-tests", flags.concurrent_tests.as_ref(), numbers),
            runs: self.whole("--runs", flags.runs.as_ref()),
            health_limits: self.health_limits(flags),
            scenarios: Vec::new(),
            run_scenarios: flags.scenarios,
            simulated: None,
            save: flags.save,
            output: given("--output", flags.output.as_ref().map(PathBuf::from)),
            output_dir: given("--output-dir", flags.output_dir.as_ref().map(PathBuf::from)),
            csv: given("--csv", flags.csv.as_ref().map(PathBuf::from)),
            vllm_json: given("--vllm-json", flags.vllm_json.as_ref().map(PathBuf::from)),
            html: given("--html", flags.html.as_ref().map(PathBuf::from)),
            markdown: given("--markdown", flags.markdown.as_ref().map(PathBuf::from)),
            alert_webhook: given("--alert-webhook", flags.alert_webhook.clone()),
            alertmanager: given("--alertmanager", flags.alertmanager.clone()),
            pushgateway: given("--pushgateway", flags.pushgateway.clone()),
            prom_out: given("--prom-out", flags.prom_out.as_ref().map(PathBuf::from)),
            metrics_listen: self.read("--metrics-listen", flags.metrics_listen.as_ref(), listen_address),
            record_log: given("--record-log", flags.record_log.as_ref().map(PathBuf::from)),
            schedule_out: given("--schedule-out", flags.schedule_out.as_ref().map(PathBuf::from)),
            no_csv: flags.no_csv,
            no_detail: flags.no_detail,
            overwrite: flags.overwrite,
        }
    }

    /// Something that can be read in the place of each value that could not, for finding the other mistakes: what is missing
    /// only because it was mistyped must not be missed.
    pub fn with_stand_ins(flags: &Flags, draft: Draft) -> Draft {
        fn or<T>(
            read: Option<Given<T>>,
            name: &'static str,
            text: Option<&String>,
            value: impl FnOnce() -> Option<T>,
        ) -> Option<Given<T>> {
            read.or_else(|| text.and_then(|_| given(name, value())))
        }
        let rate = flags.request_rate.as_ref().filter(|_| !rate_is_none(flags));
        let (ramp_up, stages) = (flags.ramp_up.as_ref(), flags.stages.as_ref());
        let (duration, completions) = (flags.duration.as_ref(), flags.completions.as_ref());
        let (compare, tests) = (flags.compare.as_ref(), flags.concurrent_tests.as_ref());
        let mut draft = Draft {
            request_rate: or(draft.request_rate, "--request-rate", rate, || Shape::parse_rate("1").ok()),
            ramp_up: or(draft.ramp_up, "--ramp-up", ramp_up, || Shape::parse_ramp("1:2:1s").ok()),
            stages: or(draft.stages, "--stages", stages, || Shape::parse_stages("1:1s").ok()),
            duration: or(draft.duration, "--duration", duration, || Some(Duration::from_secs(1))),
            completions: or(draft.completions, "--completions", completions, || Some(1)),
            goodput: or(draft.goodput, "--goodput", flags.goodput.as_ref(), || slos("e2e:1s").ok()),
            compare: or(draft.compare, "--compare", compare, || Some(vec![1])),
            concurrent_tests: or(draft.concurrent_tests, "--concurrent-tests", tests, || Some(vec![1])),
            ..draft
        };
        if draft.thresholds.is_empty() && !flags.threshold.is_empty() {
            draft.thresholds.extend(given("--threshold", "error_rate<=100%".parse().ok()));
        }
        draft
    }

    /// Limits that figures are to keep.
    pub fn thresholds(&mut self, words: &[String]) -> Vec<Given<Threshold>> {
        words.iter().filter_map(|text| self.read("--threshold", Some(text), str::parse)).collect()
    }

    fn health_limits(&mut self, flags: &Flags) -> Limits {
        let mut limits = Limits::default();
        for text in &flags.health_limit {
            if let Some(typed) = self.read("--health-limit", Some(text), str::parse::<TypedLimit>) {
                limits.set(typed.value);
            }
        }
        limits
    }

    fn threads(&mut self, flags: &Flags) -> Option<Given<u64>> {
        if let (Some(threads), Some(concurrent)) = (&flags.threads, &flags.concurrent) {
            let place = format!("--threads '{threads}' and --concurrent '{concurrent}'");
            self.add(place, "give one of them; they are the same");
        }
        self.whole("--threads", flags.threads.as_ref())
            .or_else(|| self.whole("--concurrent", flags.concurrent.as_ref()))
    }

    fn whole(&mut self, name: &'static str, text: Option<&String>) -> Option<Given<u64>> {
        self.read(name, text, whole)
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        text: Option<&String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Given<T>> {
        let text = text?;
        match parse(text) {
            Ok(value) => given(name, Some(value)),
            Err(problem) => {
                // these may hold a key even where they are mistyped
                let may_be_secret = ["--header", "--extra-body"].contains(&name);
                let shown = if may_be_secret { name.to_owned() } else { format!("{name} '{text}'") };
                self.add(shown, problem);
                None
            }
        }
    }

    /// Changes of a figure that are taken for none, as a share of it.
    pub fn tolerance(&mut self, text: Option<&String>) -> f64 {
        self.read("--tolerance", text, parse_share).map_or(TOLERANCE, |given| given.value)
    }

    /// A value that knows how to read itself.
    pub fn parsed<T: FromStr>(&mut self, name: &'static str, text: Option<&String>, help: &str) -> Option<T> {
        self.read(name, text, |text| text.trim().parse().map_err(|_| help.to_owned()))
            .map(|given| given.value)
    }

    /// The simulator of the main command: `ttft=80ms,itl=12ms`.
    pub fn behavior(&mut self, settings: Option<&str>, seed: Option<u64>) -> Behavior {
        let mut behavior = Behavior { seed: seed.unwrap_or_default(), ..Behavior::default() };
        let settings = settings.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty());
        for setting in settings {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            if let Err(problem) = set(&mut behavior, key.trim(), value.trim()) {
                self.add(format!("--behavior '{setting}'"), problem);
            }
        }
        if let Err(problem) = behavior.check() {
            self.add("--behavior", problem);
        }
        behavior
    }

    /// The simulator of `simulate`.
    pub fn simulator(&mut self, flags: &Simulate) -> Behavior {
        let mut behavior = Behavior::default();
        let settings = [
            ("model", &flags.model),
            ("ttft", &flags.ttft),
            ("itl", &flags.itl),
            ("jitter", &flags.jitter),
            ("slots", &flags.slots),
            ("slowdown", &flags.slowdown),
            ("output-tokens", &flags.output_tokens),
            ("tokens-per-event", &flags.tokens_per_event),
            ("fail", &flags.fail),
            ("seed", &flags.seed),
        ];
        for (key, value) in settings {
            let Some(value) = value else { continue };
            if let Err(problem) = set(&mut behavior, key, value) {
                self.add(format!("--{key} '{value}'"), problem);
            }
        }
        for value in &flags.fault {
            if let Err(problem) = set(&mut behavior, "fault", value) {
                self.add(format!("--fault '{value}'"), problem);
            }
        }
        behavior
    }

    /// What `selftest` is to try.
    pub fn selftest(&mut self, flags: &Selftest) -> Settings {
        let default = Settings::default();
        let above_0 =
            |text: &str| NonZeroU64::new(whole(text)?).ok_or("write a whole number above 0".to_owned());
        let tokens = |text: &str| match above_0(text)? {
            tokens if tokens.get() <= MAX_MODEL_LEN => Ok(tokens),
            _ => Err(format!("write a whole number from 1 to {MAX_MODEL_LEN}")),
        };
        let gap = |text: &str| match parse_duration(text)? {
            gap if gap.is_zero() => Err("write a time above 0, such as 20ms".to_owned()),
            gap => Ok(gap),
        };
        if flags.output.as_ref().is_some_and(String::is_empty) {
            self.add("--output ''", "name a file");
        }
        Settings {
            streams: self
                .read("--streams", flags.streams.as_ref(), stream_counts)
                .map_or(default.streams, |given| given.value),
            tokens: value(self.read("--tokens", flags.tokens.as_ref(), tokens)).unwrap_or(default.tokens),
            gap: self.read("--gap", flags.gap.as_ref(), gap).map(|given| given.value),
            requests: value(self.read("--requests", flags.requests.as_ref(), above_0)),
            client: Client {
                busy: value(self.read("--busy", flags.busy.as_ref(), busy)).unwrap_or_default(),
                stops: flags.stops,
                keeper: value(self.read("--keeper", flags.keeper.as_ref(), str::parse)).unwrap_or_default(),
                priority: value(self.read("--client-priority", flags.client_priority.as_ref(), str::parse))
                    .unwrap_or_default(),
            },
        }
    }
}

/// Whether a closed loop was asked for in so many words: `--request-rate none`.
fn rate_is_none(flags: &Flags) -> bool {
    flags.request_rate.as_ref().is_some_and(|rate| rate.trim().eq_ignore_ascii_case("none"))
}

/// A switch: true where it was given, false where its `=false` was.
fn switch(flags: &Flags, name: &str, is_given: bool) -> Option<bool> {
    let is_off = flags.off.iter().any(|off| off.strip_prefix(name) == Some("=false"));
    match (is_given, is_off) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

fn value<T>(given: Option<Given<T>>) -> Option<T> {
    given.map(|given| given.value)
}

/// Threads to keep busy: some for each core of the largest machines.
fn busy(text: &str) -> Result<usize, String> {
    match whole(text)? {
        threads @ 0..=1_024 => Ok(threads as usize),
        _ => Err("write a whole number from 0 to 1024".to_owned()),
    }
}

/// Numbers of streams, each of which this command takes as `--threads`.
fn stream_counts(text: &str) -> Result<Vec<NonZeroUsize>, String> {
    let counts = numbers(text)?.into_iter().map(|count| {
        let count = usize::try_from(count).ok().and_then(NonZeroUsize::new);
        count.filter(|count| count.get() <= MAX_THREADS)
    });
    match counts.collect::<Option<Vec<_>>>() {
        Some(counts) if !counts.is_empty() => Ok(counts),
        _ => Err(format!("write one or more whole numbers from 1 to {MAX_THREADS}, such as 1,20,200")),
    }
}

fn network(flags: &Flags) -> NetworkDraft {
    let path = |name, text: &Option<String>| given(name, text.as_ref().map(PathBuf::from));
    NetworkDraft {
        cacert: path("--cacert", &flags.cacert),
        cert: path("--cert", &flags.cert),
        key: path("--key", &flags.key),
        insecure: given("--insecure", switch(flags, "--insecure", flags.insecure)),
        resolve: flags.resolve.iter().filter_map(|text| given("--resolve", Some(text.clone()))).collect(),
        unix_socket: path("--unix-socket", &flags.unix_socket),
        proxy: given("--proxy", flags.proxy.clone()),
        variables: Vec::new(),
    }
}

/// What can be set in a behavior.
const SETTINGS: &str =
    "model, ttft, itl, jitter, slots, slowdown, output-tokens, tokens-per-event, fail, fault, seed";

fn set(behavior: &mut Behavior, key: &str, value: &str) -> Result<(), String> {
    let above_0 =
        |n: u64| usize::try_from(n).ok().and_then(NonZeroUsize::new).ok_or("write a whole number above 0");
    match key {
        "model" => behavior.model = value.to_owned(),
        "ttft" => behavior.ttft = parse_duration(value)?,
        "itl" => behavior.itl = parse_duration(value)?,
        "jitter" => behavior.jitter = parse_share(value)?,
        "slots" => behavior.slots = above_0(whole(value)?)?,
        "slowdown" => behavior.slowdown = parse_share(value)?,
        "output-tokens" => behavior.output_tokens = NonZeroU64::new(whole(value)?),
        "tokens-per-event" => behavior.tokens_per_event = above_0(whole(value)?)?,
        "fail" => behavior.fail = parse_share(value)?,
        "fault" => behavior.faults.add(value)?,
        "seed" => behavior.seed = whole(value)?,
        _ => return Err(format!("unknown setting; expected one of {SETTINGS}")),
    }
    Ok(())
}

fn given<T>(name: &'static str, value: Option<T>) -> Option<Given<T>> {
    value.map(|value| Given::new(value, Origin::Flag(name)))
}

fn whole(text: &str) -> Result<u64, String> {
    // one group mark is allowed, as people write 10_000
    text.trim().replace('_', "").parse().map_err(|_| WHOLE.to_owned())
}

fn number(text: &str) -> Result<f64, String> {
    text.trim().parse().map_err(|_| "not a number; write one such as 0.7".to_owned())
}

fn numbers(text: &str) -> Result<Vec<u64>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            whole(part).map_err(|_| format!("'{part}' is not a whole number; write such as 10 50 100"))
        })
        .collect()
}

/// `127.0.0.1:9464`, or a port alone, which is one of this machine.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").unwrap_or(text).parse().ok();
    let local = port.map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    local.or_else(|| text.parse().ok()).ok_or_else(|| {
        "is no address to listen at; write such as 127.0.0.1:9464, or 0.0.0.0:9464 for all networks"
            .to_owned()
    })
}

fn slos(text: &str) -> Result<Vec<Slo>, String> {
    let slos: Vec<Slo> = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    if slos.is_empty() {
        Err("names no objective; write such as ttft:500ms tpot:50ms".to_owned())
    } else {
        Ok(slos)
    }
}

fn header(text: &str) -> Result<(String, Secret), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), Secret::new(value))),
        _ => Err("not a header; write 'Name: value'".to_owned()),
    }
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("not a JSON object; write such as {\"top_p\": 0.9}".to_owned()),
        Err(error) => Err(format!("not JSON: {error}; write such as {{\"top_p\": 0.9}}")),
    }
}
