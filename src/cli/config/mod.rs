//! The config file: the documented `benchmark_config.json` with keys of our own, read with positions.
//!
//! Every mistake of a file is told at once, with line and column. Whether good values go together is not known here:
//! that is the plan's to check. Values are shown only where they cannot be secrets.

#[cfg(test)]
mod tests;
mod values;

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::{Error, Mistake};
use crate::health::Limits;
use crate::plan::{Draft, Given, NetworkDraft, Origin, ScenarioDraft, Threshold};
use crate::secret::Secret;
use crate::text::{nearest, printable};
use values::{
    BROKEN_ESCAPE, above_0, arrival, boolean, dialect, duration, duration_from_0, extent, filled, from_0,
    goodput, is_no, json, keeper, list, number_above_0, path, priority, ramp_up, rate, share, stages,
    temperature, text, texts, threshold,
};

const MAX_BYTES: usize = 16 << 20;

const SECTIONS: [&str; 3] = ["server", "benchmark", "test_scenarios"];
const SERVER: [&str; 15] = [
    "url",
    "model",
    "auth_token",
    "timeout",
    "api",
    "connect_timeout",
    "idle_timeout",
    "headers",
    "cacert",
    "cert",
    "key",
    "insecure",
    "resolve",
    "unix_socket",
    "proxy",
];
const BENCHMARK: [&str; 38] = [
    "health_limits",
    "max_concurrent_requests",
    "default_prompt",
    "default_completions",
    "max_tokens",
    "temperature",
    "ignore_eos",
    "stream",
    "continuous_usage",
    "unique_prompts",
    "fail_on_length",
    "save_responses",
    "keeper",
    "client_priority",
    "calibrate",
    "extra_body",
    "duration",
    "warmup",
    "cooldown",
    "grace",
    "backoff",
    "goodput",
    "max_errors",
    "max_error_rate",
    "no_progress_timeout",
    "no_reply_timeout",
    "thresholds",
    "labels",
    "request_rate",
    "ramp_up",
    "stages",
    "arrival",
    "burstiness",
    "seed",
    "test_name",
    "pushgateway",
    "alert_webhook",
    "alertmanager",
];
const SCENARIO: [&str; 5] = ["name", "completions", "prompt", "threads", "max_tokens"];

const NUMBERS: &str = "write one or more numbers, such as [10, 25, 50]";
const OBJECT: &str = "write an object, such as {\"key\": \"value\"}";
const SCENARIOS: &str = "write a list of scenarios, each such as \
                         {\"name\": \"Small\", \"completions\": [10], \"prompt\": \"Hello\"}";

/// Reads a config file.
///
/// # Errors
/// [`Error::File`] when it cannot be read; [`Error::Usage`] with all that is wrong in it.
pub fn load(path: &Path) -> Result<Draft, Error> {
    let bytes = read(path).map_err(|cause| Error::File {
        path: path.to_owned(),
        cause,
        advice: "; name a config file that can be read with --config",
    })?;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        // the size is told first: a cut at the limit may split a character
        Err(_) if bytes.len() > MAX_BYTES => return Err(Error::Usage(vec![too_large(path)])),
        Err(error) => return Err(Error::Usage(vec![not_utf8(path, &bytes[..error.valid_up_to()])])),
    };
    parse(path, text).map_err(Error::Usage)
}

/// Reads the text of a config file into a draft; `path` is for messages only.
///
/// # Errors
/// All mistakes, in the order of the file, each at `path:line:column`.
pub fn parse(path: &Path, text: &str) -> Result<Draft, Vec<Mistake>> {
    if text.len() > MAX_BYTES {
        return Err(vec![too_large(path)]);
    }
    let mut reading = Reading::new(path, text);
    let draft = match serde_json::from_str(reading.text) {
        Ok(root) => reading.file(root),
        Err(error) => reading.syntax(&error),
    };
    reading.finish(draft)
}

/// The file's bytes, up to one past the limit.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn too_large(path: &Path) -> Mistake {
    Mistake::new(path.display().to_string(), "larger than 16 MiB; is it a config file?")
}

fn not_utf8(path: &Path, valid: &[u8]) -> Mistake {
    let valid = String::from_utf8_lossy(valid);
    let reading = Reading::new(path, &valid);
    Mistake::new(reading.place(reading.text.len()), "not UTF-8 text; save the file as UTF-8")
}

/// A value of the file, and what it is called.
struct Entry<'t> {
    /// Its name in messages: `'url'`.
    label: String,
    /// Its dotted key: `server.url`.
    field: String,
    raw: &'t RawValue,
}

/// What an object holds, less what was wrong with its keys.
struct Members<'t>(Vec<(String, Entry<'t>)>);

impl<'t> Members<'t> {
    fn take(&mut self, key: &str) -> Option<Entry<'t>> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// A file being read, with the mistakes found so far.
struct Reading<'t> {
    path: String,
    text: &'t str,
    line_starts: Vec<usize>,
    /// Each with its offset in the text, as they are not found in order.
    mistakes: Vec<(usize, String)>,
}

impl<'t> Reading<'t> {
    fn new(path: &Path, text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let after_breaks = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Self {
            path: path.display().to_string(),
            text,
            line_starts: std::iter::once(0).chain(after_breaks).collect(),
            mistakes: Vec::new(),
        }
    }

    fn finish(mut self, draft: Draft) -> Result<Draft, Vec<Mistake>> {
        if self.mistakes.is_empty() {
            return Ok(draft);
        }
        let mut mistakes = std::mem::take(&mut self.mistakes);
        mistakes.sort_by_key(|(offset, _)| *offset);
        Err(mistakes.into_iter().map(|(offset, problem)| Mistake::new(self.place(offset), problem)).collect())
    }

    fn file(&mut self, root: &'t RawValue) -> Draft {
        let root = Entry { label: "the file".to_owned(), field: String::new(), raw: root };
        let mut sections = self.members(Some(root), Some(&SECTIONS));
        let mut draft = Draft::default();
        self.server(sections.take("server"), &mut draft);
        self.benchmark(sections.take("benchmark"), &mut draft);
        draft.scenarios = self.scenarios(sections.take("test_scenarios"));
        draft
    }

    fn server(&mut self, section: Option<Entry<'t>>, draft: &mut Draft) {
        let mut of = self.members(section, Some(&SERVER));
        draft.url = self.read(of.take("url"), text);
        draft.api = self.read(of.take("api"), dialect);
        draft.model = self.read(of.take("model"), text);
        draft.key = self.key(of.take("auth_token"));
        draft.timeout = self.read(of.take("timeout"), duration);
        draft.connect_timeout = self.read(of.take("connect_timeout"), duration);
        draft.idle_timeout = self.read(of.take("idle_timeout"), duration);
        draft.headers = self.headers(of.take("headers"));
        draft.network = NetworkDraft {
            cacert: self.read(of.take("cacert"), path),
            cert: self.read(of.take("cert"), path),
            key: self.read(of.take("key"), path),
            insecure: self.read(of.take("insecure"), boolean),
            resolve: self.each(of.take("resolve")),
            unix_socket: self.read(of.take("unix_socket"), path),
            proxy: self.read(of.take("proxy"), text),
            variables: Vec::new(),
        };
    }

    fn benchmark(&mut self, section: Option<Entry<'t>>, draft: &mut Draft) {
        let mut of = self.members(section, Some(&BENCHMARK));
        draft.threads = self.read(of.take("max_concurrent_requests"), above_0);
        draft.prompt = self.read(of.take("default_prompt"), text);
        draft.completions = self.read(of.take("default_completions"), above_0);
        draft.max_tokens = self.read(of.take("max_tokens"), above_0);
        draft.temperature = self.read(of.take("temperature"), temperature);
        draft.ignore_eos = self.switch(of.take("ignore_eos"));
        draft.stream = self.switch(of.take("stream"));
        draft.continuous_usage = self.switch(of.take("continuous_usage"));
        draft.unique_prompts = self.switch(of.take("unique_prompts"));
        draft.fail_on_length = self.switch(of.take("fail_on_length"));
        draft.save_responses = self.read(of.take("save_responses"), boolean);
        draft.keeper = self.read(of.take("keeper"), keeper);
        draft.client_priority = self.read(of.take("client_priority"), priority);
        draft.calibrate = self.switch(of.take("calibrate"));
        draft.extra_body = self.extra_body(of.take("extra_body"));
        draft.duration = self.read(of.take("duration"), duration);
        draft.request_rate = self.read(of.take("request_rate"), rate);
        draft.ramp_up = self.read(of.take("ramp_up"), ramp_up);
        draft.stages = self.read(of.take("stages"), stages);
        draft.arrival = self.read(of.take("arrival"), arrival);
        draft.burstiness = self.read(of.take("burstiness"), number_above_0);
        draft.warmup = self.read(of.take("warmup"), extent);
        draft.cooldown = self.read(of.take("cooldown"), extent);
        draft.goodput = self.read(of.take("goodput"), goodput);
        draft.max_errors = self.read(of.take("max_errors"), above_0);
        draft.max_error_rate = self.read(of.take("max_error_rate"), share);
        draft.no_progress_timeout = self.read(of.take("no_progress_timeout"), duration);
        draft.no_reply_timeout = self.read(of.take("no_reply_timeout"), duration);
        draft.thresholds = self.thresholds(of.take("thresholds"));
        draft.labels = self.labels(of.take("labels"));
        draft.backoff = self.switch(of.take("backoff"));
        draft.grace = self.read(of.take("grace"), duration_from_0);
        draft.seed = self.read(of.take("seed"), from_0);
        draft.test_name = self.read(of.take("test_name"), text);
        draft.pushgateway = self.read(of.take("pushgateway"), text);
        draft.alert_webhook = self.read(of.take("alert_webhook"), text);
        draft.alertmanager = self.read(of.take("alertmanager"), text);
        draft.health_limits = self.health_limits(of.take("health_limits"));
    }

    fn scenarios(&mut self, section: Option<Entry<'t>>) -> Vec<ScenarioDraft> {
        let Some(section) = section.filter(|section| self.is_there(section)) else { return Vec::new() };
        let Some(items) = self.try_read(&section, |raw| list(raw, SCENARIOS)) else { return Vec::new() };
        let entry = |(index, raw)| Entry {
            label: "a scenario".to_owned(),
            field: format!("{}[{index}]", section.field),
            raw,
        };
        items.into_iter().enumerate().map(entry).filter_map(|item| self.scenario(item)).collect()
    }

    /// All of it is looked at before it is given up for a mistake.
    fn scenario(&mut self, item: Entry<'t>) -> Option<ScenarioDraft> {
        let raw = item.raw;
        if raw.get() == "null" {
            self.wrong(raw, format!("a scenario is null; {OBJECT}"));
            return None;
        }
        let is_object = raw.get().starts_with('{');
        let mut of = self.members(Some(item), Some(&SCENARIO));
        if !is_object {
            return None;
        }
        let name = self.required(raw, &mut of, "name");
        let completions = self.required(raw, &mut of, "completions");
        let prompt = self.required(raw, &mut of, "prompt");
        let name = name.and_then(|entry| self.given(&entry, filled));
        let completions = completions.and_then(|entry| self.counts(&entry));
        let prompt = prompt.and_then(|entry| self.given(&entry, text));
        let threads = self.read(of.take("threads"), above_0);
        let max_tokens = self.read(of.take("max_tokens"), above_0);
        Some(ScenarioDraft { name: name?, completions: completions?, prompt: prompt?, threads, max_tokens })
    }

    fn required(&mut self, scenario: &RawValue, of: &mut Members<'t>, key: &str) -> Option<Entry<'t>> {
        let entry = of.take(key);
        if entry.is_none() {
            self.wrong(scenario, format!("the scenario has no '{key}'; every scenario needs one"));
        }
        entry
    }

    fn counts(&mut self, entry: &Entry<'t>) -> Option<Given<Vec<u64>>> {
        let items = self.try_read(entry, |raw| match list(raw, NUMBERS)? {
            items if items.is_empty() => Err(format!("is an empty list; {NUMBERS}")),
            items => Ok(items),
        })?;
        let label = format!("an item of {}", entry.label);
        let item = |raw| Entry { label: label.clone(), field: entry.field.clone(), raw };
        let counts: Vec<Option<u64>> =
            items.into_iter().map(|raw| self.try_read(&item(raw), above_0)).collect();
        let counts = counts.into_iter().collect::<Option<_>>()?;
        Some(Given::new(counts, self.origin(entry)))
    }

    /// A text, or a list of them.
    fn each(&mut self, entry: Option<Entry<'t>>) -> Vec<Given<String>> {
        let Some(given) = self.read(entry, texts) else { return Vec::new() };
        given.value.into_iter().map(|text| Given::new(text, given.origin.clone())).collect()
    }

    fn headers(&mut self, entry: Option<Entry<'t>>) -> Vec<Given<(String, Secret)>> {
        let headers = self.members(entry, None).0;
        headers
            .into_iter()
            .filter_map(|(name, entry)| self.read(Some(entry), |raw| Ok((name, Secret::new(&text(raw)?)))))
            .collect()
    }

    /// `["ttft.p99<500ms"]`; each keeps its own place.
    fn thresholds(&mut self, entry: Option<Entry<'t>>) -> Vec<Given<Threshold>> {
        const HELP: &str = "write a list such as [\"ttft.p99<500ms\"]";
        let Some(entry) = entry.filter(|entry| self.is_there(entry)) else { return Vec::new() };
        let Some(items) = self.try_read(&entry, |raw| list(raw, HELP)) else { return Vec::new() };
        let label = format!("an item of {}", entry.label);
        let item = |raw| Entry { label: label.clone(), field: entry.field.clone(), raw };
        items.into_iter().filter_map(|raw| self.given(&item(raw), threshold)).collect()
    }

    /// `{"commit": "4f2a91c"}`; each keeps its own place.
    fn labels(&mut self, entry: Option<Entry<'t>>) -> Vec<Given<(String, String)>> {
        let labels = self.members(entry, None).0;
        labels
            .into_iter()
            .filter_map(|(name, entry)| self.read(Some(entry), |raw| Ok((name, text(raw)?))))
            .collect()
    }

    /// `{"lag_p99": "5ms,50ms"}`.
    fn health_limits(&mut self, entry: Option<Entry<'t>>) -> Limits {
        let mut limits = Limits::default();
        for (name, entry) in self.members(entry, None).0 {
            let limit = |raw| format!("{name}={}", text(raw)?).parse();
            if let Some(typed) = self.read(Some(entry), limit) {
                limits.set(typed.value);
            }
        }
        limits
    }

    fn extra_body(&mut self, entry: Option<Entry<'t>>) -> Option<Given<Map<String, Value>>> {
        let entry = entry.filter(|entry| self.is_there(entry))?;
        let origin = self.origin(&entry);
        if !entry.raw.get().starts_with('{') {
            self.wrong(entry.raw, format!("{} {}", entry.label, is_no(entry.raw, OBJECT)));
            return None;
        }
        let members = self.members(Some(entry), None).0;
        // a null within is the server's business, not ours
        let read = |(key, entry): (String, Entry<'t>)| Some((key, self.try_read(&entry, json)?));
        let body: Vec<Option<(String, Value)>> = members.into_iter().map(read).collect();
        Some(Given::new(body.into_iter().collect::<Option<_>>()?, origin))
    }

    fn key(&mut self, entry: Option<Entry<'t>>) -> Option<(Secret, String)> {
        let token = Secret::new(&self.read(entry, text)?.value);
        let source = format!("config file {}, server.auth_token", self.path);
        (!token.is_empty()).then_some((token, source))
    }

    fn switch(&mut self, entry: Option<Entry<'t>>) -> Option<bool> {
        self.read(entry, boolean).map(|given| given.value)
    }

    /// An optional value. `parse` answers with what completes "'key' …".
    fn read<T>(
        &mut self,
        entry: Option<Entry<'t>>,
        parse: impl FnOnce(&'t RawValue) -> Result<T, String>,
    ) -> Option<Given<T>> {
        let entry = entry.filter(|entry| self.is_there(entry))?;
        self.given(&entry, parse)
    }

    fn given<T>(
        &mut self,
        entry: &Entry<'t>,
        parse: impl FnOnce(&'t RawValue) -> Result<T, String>,
    ) -> Option<Given<T>> {
        let value = self.try_read(entry, parse)?;
        Some(Given::new(value, self.origin(entry)))
    }

    fn try_read<T>(
        &mut self,
        entry: &Entry<'t>,
        parse: impl FnOnce(&'t RawValue) -> Result<T, String>,
    ) -> Option<T> {
        parse(entry.raw).map_err(|problem| self.wrong(entry.raw, format!("{} {problem}", entry.label))).ok()
    }

    fn is_there(&mut self, entry: &Entry<'t>) -> bool {
        let is_null = entry.raw.get() == "null";
        if is_null {
            self.wrong(entry.raw, format!("{} is null; leave the key out instead", entry.label));
        }
        !is_null
    }

    /// The members of an object; keys not `expected` and keys given twice are told and left out.
    fn members(&mut self, object: Option<Entry<'t>>, expected: Option<&[&str]>) -> Members<'t> {
        let mut members = Members(Vec::new());
        let Some(object) = object.filter(|object| self.is_there(object)) else { return members };
        let pairs = self.try_read(&object, |raw| {
            serde_json::from_str::<Pairs<'_>>(raw.get()).map_err(|_| is_no(raw, OBJECT))
        });
        let mut seen = HashSet::new();
        for (key_raw, raw) in pairs.map(|pairs| pairs.0).unwrap_or_default() {
            let Ok(key) = serde_json::from_str::<String>(key_raw.get()) else {
                self.wrong(key_raw, format!("a key {BROKEN_ESCAPE}"));
                continue;
            };
            let shown = printable(&key, 60);
            if !seen.insert(key.clone()) {
                self.wrong(key_raw, format!("'{shown}' is given twice; keep one of them"));
            } else if let Some(expected) = expected.filter(|expected| !expected.contains(&key.as_str())) {
                self.wrong(key_raw, format!("unknown key '{shown}'; {}", advice(&key, expected)));
            } else {
                let field = dotted(&object.field, &key);
                members.0.push((key, Entry { label: format!("'{shown}'"), field, raw }));
            }
        }
        members
    }

    fn syntax(&mut self, error: &serde_json::Error) -> Draft {
        let line_start = self.line_starts.get(error.line().saturating_sub(1)).copied().unwrap_or_default();
        let offset = line_start + error.column().saturating_sub(1);
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        let help = if error.is_eof() {
            "the file ends too early, close what is open"
        } else {
            "comments, single quotes and commas before a closing bracket are not allowed"
        };
        self.mistakes.push((offset, format!("not JSON: {said}; {help}")));
        Draft::default()
    }

    fn wrong(&mut self, at: &RawValue, problem: String) {
        self.mistakes.push((self.offset(at), problem));
    }

    fn origin(&self, entry: &Entry<'t>) -> Origin {
        Origin::File { place: self.place(self.offset(entry.raw)), field: entry.field.clone() }
    }

    /// Where a value begins: it is borrowed from the text, so its address says it.
    fn offset(&self, raw: &RawValue) -> usize {
        raw.get().as_ptr().addr() - self.text.as_ptr().addr()
    }

    /// `path:line:column`, from 1, columns in characters.
    fn place(&self, offset: usize) -> String {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let column = self.text[self.line_starts[line - 1]..offset].chars().count() + 1;
        format!("{}:{line}:{column}", self.path)
    }
}

/// Keys and values of an object in file order, repeated keys and all.
struct Pairs<'t>(Vec<(&'t RawValue, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Pairs<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

fn dotted(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// What to do about an unknown key: the section it belongs in, the key that was meant, or all there are.
fn advice(key: &str, expected: &[&str]) -> String {
    let homes = [("server", &SERVER[..]), ("benchmark", &BENCHMARK[..])];
    if let Some((home, _)) = homes.iter().find(|(_, keys)| keys.contains(&key)) {
        return format!("it belongs in '{home}'");
    }
    match nearest(key, expected) {
        Some(meant) => format!("did you mean '{meant}'?"),
        None => format!("expected one of {}", expected.join(", ")),
    }
}
