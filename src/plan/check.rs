//! From a draft to plans: every mistake is found before the first one is told.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::draft::{ArrivalName, Draft, Given, Origin, ScenarioDraft};
use super::{Csv, ErrorLimits, Extent, Load, Outputs, Plan, Rule, Suite, SuiteKind, Threshold, defaults};
use crate::arrivals::{Arrivals, Process, Shape};
use crate::backend::{Client, Endpoint, Settings};
use crate::error::{Error, Mistake};
use crate::random::fresh_seed;
use crate::secret::{Secret, shown_url};
use crate::wire::{Ask, Dialect};

/// The most threads of a run: each takes four mappings of memory, and Linux gives a process 65,530 of them unless told
/// otherwise.
pub const MAX_THREADS: usize = 16_000;

/// The most runs of `--runs`.
const MAX_RUNS: u64 = 1_000;

/// One run's own numbers, before they are checked.
struct Case {
    scenario: Option<String>,
    prompt: Given<String>,
    /// `None` takes as many as the load needs.
    threads: Option<Given<u64>>,
    completions: Option<Given<u64>>,
    max_tokens: Given<u64>,
}

impl Draft {
    /// Makes plans of the draft. Where no model is given, `ask_model` is asked for the one that the server serves;
    /// that is only done when nothing else is wrong.
    ///
    /// # Errors
    /// [`Error::Usage`] with all mistakes, or the error of `ask_model`.
    pub fn check(
        &self,
        ask_model: &mut dyn FnMut(&Settings) -> Result<String, Error>,
    ) -> Result<Suite, Error> {
        let mut found = Findings::default();
        let kind = self.kind(&mut found);
        let cases = self.cases(kind, &mut found);
        let loads: Vec<_> = cases.iter().filter_map(|case| self.load(case, &mut found)).collect();
        let outputs = self.outputs(kind, &mut found);
        self.overruled(kind, &mut found);
        self.request_limits(&cases, &mut found);
        self.thresholds(&mut found);
        self.runs(&mut found);
        let settings = self.settings(&mut found);
        let (Some(settings), true) = (settings, found.0.is_empty()) else {
            return Err(Error::Usage(found.0));
        };
        let model = match &self.model {
            Some(model) => model.value.clone(),
            None => ask_model(&settings)?,
        };
        let seed = self.seed.as_ref().map_or_else(fresh_seed, |seed| seed.value);
        let plans = cases
            .into_iter()
            .zip(loads)
            .zip(0_u64..)
            .map(|((case, load), number)| {
                // runs that are to be the same draw anew: other salts, so that no run's prompts are in a cache by the last
                let seed = if kind == SuiteKind::Runs { seed.wrapping_add(number) } else { seed };
                self.plan(case, load, &settings, &model, seed)
            })
            .collect();
        Ok(Suite { kind, plans, outputs })
    }

    fn kind(&self, found: &mut Findings) -> SuiteKind {
        let wanted = [
            (self.compare.is_some(), SuiteKind::Completions, "--compare"),
            (self.concurrent_tests.is_some(), SuiteKind::Threads, "--concurrent-tests"),
            (self.run_scenarios, SuiteKind::Scenarios, "--scenarios"),
            (self.runs.as_ref().is_some_and(|runs| runs.value > 1), SuiteKind::Runs, "--runs"),
        ];
        let mut asked = wanted.into_iter().filter(|(is_asked, ..)| *is_asked);
        let Some((_, kind, first)) = asked.next() else { return SuiteKind::Single };
        if let Some((_, _, second)) = asked.next() {
            found.add(Mistake::new(
                format!("{first} and {second}"),
                "give one of them; each makes runs of its own",
            ));
        }
        kind
    }

    fn cases(&self, kind: SuiteKind, found: &mut Findings) -> Vec<Case> {
        match kind {
            SuiteKind::Single => vec![self.case()],
            SuiteKind::Runs => self.repeated().map(|_| self.case()).collect(),
            SuiteKind::Completions => self.each(self.compare.as_ref(), found, |case, n| {
                case.completions = Some(n);
            }),
            SuiteKind::Threads => {
                self.each(self.concurrent_tests.as_ref(), found, |case, n| case.threads = Some(n))
            }
            SuiteKind::Scenarios => self.scenario_cases(found),
        }
    }

    /// The numbers of the runs that are the same; at most [`MAX_RUNS`], for more is a mistake told elsewhere.
    fn repeated(&self) -> std::ops::Range<u64> {
        0..self.runs.as_ref().map_or(1, |runs| runs.value).min(MAX_RUNS)
    }

    fn runs(&self, found: &mut Findings) {
        if let Some(given) = self.runs.as_ref().filter(|given| !(1..=MAX_RUNS).contains(&given.value)) {
            found.add(given.mistake(given.value, format!("write a whole number from 1 to {MAX_RUNS}")));
        }
    }

    /// The case that all runs have in common.
    fn case(&self) -> Case {
        let default = |value| Given::in_code("default", value);
        let has_end = |given: &Given<Shape>| matches!(given.value, Shape::Ramp(_) | Shape::Stages(_));
        let is_timed = self.duration.is_some() || self.shapes().any(has_end);
        Case {
            scenario: None,
            prompt: self
                .prompt
                .clone()
                .unwrap_or_else(|| Given::in_code("default", defaults::PROMPT.to_owned())),
            threads: self.threads.clone(),
            completions: self
                .completions
                .clone()
                .or_else(|| (!is_timed).then(|| default(defaults::COMPLETIONS))),
            max_tokens: self.max_tokens.clone().unwrap_or_else(|| default(defaults::MAX_TOKENS)),
        }
    }

    /// An open loop needs threads for all that may be in flight.
    fn default_threads(arrivals: Option<&Arrivals>, completions: Option<u64>) -> u64 {
        match arrivals.map(|arrivals| &arrivals.shape) {
            None => defaults::THREADS,
            Some(Shape::AtOnce) => completions.unwrap_or(defaults::COMPLETIONS).clamp(1, defaults::MAX_POOL),
            Some(shape) => {
                let wanted = (shape.peak() * defaults::POOL_SECONDS).ceil() as u64;
                wanted.clamp(defaults::MIN_POOL, defaults::MAX_POOL)
            }
        }
    }

    /// The arrivals, if requests arrive by themselves. `is_limited`: a number or a time ends the run.
    fn arrivals(&self, is_limited: bool, found: &mut Findings) -> Option<Arrivals> {
        let Some(shape) = self.shapes().next() else {
            self.no_process("says nothing without --request-rate, --ramp-up or --stages", found);
            return None;
        };
        self.disagreeing(shape, found);
        let process = match shape.value {
            Shape::AtOnce => {
                self.no_process("says nothing at --request-rate inf: every request is due at once", found);
                Process::Constant
            }
            _ => self.process(found)?,
        };
        let shape = shape.value.clone();
        Some(Arrivals { shape: if is_limited { shape } else { shape.ending_by_itself() }, process })
    }

    /// A process says nothing there.
    fn no_process(&self, problem: &str, found: &mut Findings) {
        let origins = [
            self.arrival.as_ref().map(|given| &given.origin),
            self.burstiness.as_ref().map(|given| &given.origin),
        ];
        for origin in origins.into_iter().flatten() {
            found.add(Mistake::new(origin.to_string(), problem));
        }
    }

    /// What cannot stand beside this shape of arrivals.
    fn disagreeing(&self, shape: &Given<Shape>, found: &mut Findings) {
        let mut beside = |other: &Origin, problem: &str| {
            found.add(Mistake::new(format!("{} and {other}", shape.origin), problem));
        };
        for other in self.shapes().skip(1) {
            beside(&other.origin, "give one of them; each says when requests arrive");
        }
        if let Some(tests) = &self.concurrent_tests {
            beside(&tests.origin, "give one of them; at a rate, threads only bound what is in flight");
        }
        if shape.value == Shape::AtOnce {
            let timed = [&self.warmup, &self.cooldown].into_iter().flatten();
            for given in timed.filter(|given| matches!(given.value, Extent::Time(_))) {
                beside(
                    &given.origin,
                    "write a number of requests: all of them are due at once, at no time after",
                );
            }
        }
        if let (Some(warmup), Some(end)) = (&self.warmup, shape.value.end())
            && matches!(warmup.value, Extent::Time(time) if time >= end)
        {
            beside(
                &warmup.origin,
                "nothing would be measured: the arrivals end with the warm-up; make it shorter",
            );
        }
        let Some(duration) = &self.duration else { return };
        match shape.value {
            Shape::Stages(_) => beside(
                &duration.origin,
                "leave the duration out: the run ends with the last stage; make that longer or shorter",
            ),
            Shape::AtOnce => beside(
                &duration.origin,
                "leave the duration out: every request is due at the start; --completions says how many",
            ),
            Shape::Steady(_) | Shape::Ramp(_) => {}
        }
    }

    fn process(&self, found: &mut Findings) -> Option<Process> {
        let named = self.arrival.as_ref().map(|given| given.value);
        let process = match (named, &self.burstiness) {
            (Some(ArrivalName::Constant | ArrivalName::Poisson), Some(burstiness)) => {
                found.add(
                    burstiness.mistake(burstiness.value, "is for --arrival gamma; leave one of them out"),
                );
                return None;
            }
            (Some(ArrivalName::Constant), None) => Process::Constant,
            (Some(ArrivalName::Poisson) | None, None) => Process::Poisson,
            (Some(ArrivalName::Gamma), None) => Process::Gamma { burstiness: 1.0 },
            (_, Some(burstiness)) => Process::Gamma { burstiness: burstiness.value },
        };
        if let Some(given) = self.burstiness.as_ref().filter(|b| !(b.value.is_finite() && b.value > 0.0)) {
            found.add(given.mistake(given.value, "write a number above 0, such as 0.5"));
        }
        Some(process)
    }

    fn each(
        &self,
        numbers: Option<&Given<Vec<u64>>>,
        found: &mut Findings,
        set: impl Fn(&mut Case, Given<u64>),
    ) -> Vec<Case> {
        let Some(numbers) = numbers else { return vec![] };
        if numbers.value.is_empty() {
            found.add(Mistake::new(
                numbers.origin.to_string(),
                "names no number; write one or more, such as 10 50 100",
            ));
        }
        let case_of = |n: &u64| {
            let mut case = self.case();
            set(&mut case, Given::new(*n, numbers.origin.clone()));
            case
        };
        numbers.value.iter().map(case_of).collect()
    }

    fn scenario_cases(&self, found: &mut Findings) -> Vec<Case> {
        if self.scenarios.is_empty() {
            let problem = "there are no test_scenarios; name a file that has some with --config FILE";
            found.add(Mistake::new("--scenarios", problem));
        }
        self.scenarios.iter().flat_map(|scenario| self.cases_of(scenario, found)).collect()
    }

    fn cases_of(&self, scenario: &ScenarioDraft, found: &mut Findings) -> Vec<Case> {
        let common = self.case();
        if scenario.completions.value.is_empty() {
            let place = scenario.completions.origin.to_string();
            found.add(Mistake::new(
                place,
                "is an empty list; write one or more numbers, such as [10, 25, 50]",
            ));
        }
        let flag = |given: &Given<u64>| matches!(given.origin, Origin::Flag(_));
        let case_of = |n: &u64| Case {
            scenario: Some(scenario.name.value.clone()),
            // a flag wins over the scenario, the scenario over the rest of the file
            prompt: match &self.prompt {
                Some(prompt) if matches!(prompt.origin, Origin::Flag(_)) => prompt.clone(),
                _ => scenario.prompt.clone(),
            },
            threads: match (&scenario.threads, &common.threads) {
                (Some(_), Some(common)) if flag(common) => Some(common.clone()),
                (own, common) => own.as_ref().or(common.as_ref()).cloned(),
            },
            completions: Some(Given::new(*n, scenario.completions.origin.clone())),
            max_tokens: match &scenario.max_tokens {
                Some(max_tokens) if !flag(&common.max_tokens) => max_tokens.clone(),
                _ => common.max_tokens.clone(),
            },
        };
        scenario.completions.value.iter().map(case_of).collect()
    }

    fn load(&self, case: &Case, found: &mut Findings) -> Option<Load> {
        let completions = case.completions.as_ref().map(|n| (n, NonZeroU64::new(n.value)));
        if let Some((given, None)) = completions {
            found.add(given.mistake(given.value, "write a whole number above 0"));
        }
        let duration = self.duration.as_ref().map(|d| d.value);
        found.positive(self.duration.as_ref());
        if let Some(given) = self.max_errors.as_ref().filter(|given| given.value == 0) {
            found.add(
                given.mistake(given.value, "write a whole number above 0; at so many failures the run ends"),
            );
        }
        let warmup = self.warmup.as_ref().map_or(Extent::NONE, |n| n.value);
        let cooldown = self.cooldown.as_ref().map_or(Extent::NONE, |n| n.value);
        let is_limited = completions.is_some() || duration.is_some();
        let arrivals = self.arrivals(is_limited, found);
        if let Some(given) = self.cooldown.as_ref().filter(|given| !is_limited && !given.value.is_none()) {
            let problem = "needs --completions or --duration: nothing else says where it begins";
            found.add(given.mistake(given.value, problem));
        }
        let threads = case.threads.clone().unwrap_or_else(|| {
            let completions = completions.map(|(given, _)| given.value);
            Given::in_code("default", Self::default_threads(arrivals.as_ref(), completions))
        });
        let checked = usize::try_from(threads.value).ok().and_then(NonZeroUsize::new);
        let checked = checked.filter(|threads| threads.get() <= MAX_THREADS);
        if checked.is_none() {
            let problem = format!("write a whole number from 1 to {MAX_THREADS}");
            found.add(threads.mistake(threads.value, problem));
        }
        Some(Load {
            threads: checked?,
            arrivals,
            completions: completions.and_then(|(_, n)| n),
            duration,
            warmup,
            cooldown,
            grace: self.grace.as_ref().map(|time| time.value),
        })
    }

    /// Numbers that a sweep sets itself must not be given beside it.
    fn overruled(&self, kind: SuiteKind, found: &mut Findings) {
        let (given, sweep) = match kind {
            SuiteKind::Completions => (&self.completions, "--compare"),
            SuiteKind::Scenarios => (&self.completions, "--scenarios"),
            SuiteKind::Threads => (&self.threads, "--concurrent-tests"),
            SuiteKind::Single | SuiteKind::Runs => return,
        };
        if let Some(given) = given.as_ref().filter(|given| matches!(given.origin, Origin::Flag(_))) {
            found.add(given.mistake(given.value, format!("leave it out; {sweep} sets it for each run")));
        }
    }

    fn request_limits(&self, cases: &[Case], found: &mut Findings) {
        for case in cases {
            if u32::try_from(case.max_tokens.value).unwrap_or(0) == 0 {
                let given = &case.max_tokens;
                found.add(given.mistake(given.value, "write a whole number from 1 to 4294967295"));
            }
            if case.prompt.value.is_empty() {
                found.add(case.prompt.mistake("", "the prompt is empty; write some text"));
            }
        }
        if let Some(t) = &self.temperature
            && !(t.value.is_finite() && t.value >= 0.0)
        {
            found.add(t.mistake(t.value, "write a number from 0 up, such as 0.7"));
        }
        if let Some(model) = &self.model
            && model.value.trim().is_empty()
        {
            found.add(
                model
                    .mistake(&model.value, "name a model, or leave it out to take the one the server serves"),
            );
        }
        if let Some(slos) = &self.goodput
            && let Some(slo) = slos.value.iter().find(|slo| slo.metric.needs_stream())
            && self.stream == Some(false)
        {
            let problem = "only a streamed reply has this time; leave it or --no-stream out";
            found.add(slos.mistake(slo.metric.name(), problem));
        }
        if self.stream == Some(false) && self.continuous_usage == Some(true) {
            let problem = "give one of them; counts per event need a stream";
            found.add(Mistake::new("--no-stream and --continuous-usage", problem));
        }
    }

    /// Limits on what such a run does not have; and a file of verdicts where nothing is judged.
    fn thresholds(&self, found: &mut Findings) {
        let is_streamed = |given: &&Given<Threshold>| matches!(given.value.rule, Rule::Figure(metric, ..) if metric.needs_stream());
        for given in self.thresholds.iter().filter(is_streamed).filter(|_| self.stream == Some(false)) {
            let problem = "replies that are not streamed have no such times; leave one of them out";
            found.add(given.mistake(&given.value, problem));
        }
        if let Some(file) = self.junit.as_ref().filter(|_| self.thresholds.is_empty()) {
            let problem = "there is no --threshold to tell of; give one, such as ttft.p99<500ms";
            found.add(file.mistake(file.value.display(), problem));
        }
    }

    fn settings(&self, found: &mut Findings) -> Option<Settings> {
        let api = self.api.as_ref().map(|api| api.value);
        // its path is that of one dialect
        let default = defaults::URL.strip_suffix(Dialect::Chat.path()).filter(|_| api.is_some());
        let default = Given::in_code("default", default.unwrap_or(defaults::URL).to_owned());
        let url = self.url.as_ref().unwrap_or(&default);
        let endpoint = Endpoint::parse(&url.value, api);
        let or = |given: &Option<Given<Duration>>, default| given.as_ref().map_or(default, |d| d.value);
        for timeout in [&self.timeout, &self.idle_timeout, &self.connect_timeout] {
            found.positive(timeout.as_ref());
        }
        let (network, mistakes) = self.network.check(endpoint.as_ref().ok());
        mistakes.into_iter().for_each(|mistake| found.add(mistake));
        let endpoint =
            endpoint.map_err(|problem| found.add(url.mistake(shown_url(&url.value), problem))).ok()?;
        let settings = Settings {
            endpoint,
            key: self.effective_key().map(|(key, _)| key.clone()),
            headers: self.headers.iter().map(|header| header.value.clone()).collect(),
            connect_timeout: or(&self.connect_timeout, defaults::CONNECT_TIMEOUT),
            idle_timeout: or(&self.idle_timeout, defaults::IDLE_TIMEOUT),
            timeout: or(&self.timeout, defaults::TIMEOUT),
            network,
        };
        if let Err(problem) = Client::check(&settings) {
            found.add(Mistake::new("request headers", problem));
        }
        Some(settings)
    }

    /// The key, unless a header of the user's own takes its place.
    fn effective_key(&self) -> Option<&(Secret, String)> {
        self.key.as_ref().filter(|_| self.authorization().is_none())
    }

    fn authorization(&self) -> Option<&Given<(String, Secret)>> {
        self.headers.iter().find(|header| header.value.0.eq_ignore_ascii_case("authorization"))
    }

    fn key_source(&self) -> Option<String> {
        match self.authorization() {
            Some(header) => Some(format!("{}: Authorization", header.origin)),
            None => self.key.as_ref().map(|(_, source)| source.clone()),
        }
    }

    fn outputs(&self, kind: SuiteKind, found: &mut Findings) -> Outputs {
        let folder = self.output_dir.as_ref().map(|dir| dir.value.clone());
        let save = self.save || folder.is_some();
        if let (Some(output), true) = (&self.output, kind != SuiteKind::Single) {
            let problem = "names one file, and this makes several runs; use --output-dir DIR";
            found.add(output.mistake(output.value.display(), problem));
        }
        if let (Some(csv), true) = (&self.csv, self.no_csv) {
            found.add(Mistake::new(format!("{} and --no-csv", csv.origin), "give one of them"));
        }
        if let (Some(log), true) = (&self.record_log, kind != SuiteKind::Single) {
            let problem = "names one file, and this makes several runs; --save keeps a log of each";
            found.add(log.mistake(log.value.display(), problem));
        }
        self.schedule_out(kind, found);
        if let (Some(vllm), true) = (&self.vllm_json, kind != SuiteKind::Single) {
            let problem =
                "names one file, and this makes several runs; save them, and use report FILE --vllm-json";
            found.add(vllm.mistake(vllm.value.display(), problem));
        }
        let files = [
            &self.output,
            &self.csv,
            &self.schedule_out,
            &self.record_log,
            &self.vllm_json,
            &self.junit,
            &self.html,
            &self.markdown,
        ];
        let files: Vec<_> = files.into_iter().flatten().collect();
        for (number, file) in files.iter().enumerate() {
            for other in files[..number].iter().filter(|other| plain(&other.value).eq(plain(&file.value))) {
                let place = format!("{} and {} '{}'", other.origin, file.origin, file.value.display());
                found.add(Mistake::new(place, "name two files; one would replace the other"));
            }
        }
        for path in files.into_iter().chain(&self.output_dir) {
            if path.value.as_os_str().is_empty() {
                found.add(path.mistake("", "name a file or folder"));
            }
        }
        let folder = folder.unwrap_or_else(|| PathBuf::from(defaults::OUTPUT_DIR));
        let wants_csv = !self.no_csv && (kind == SuiteKind::Scenarios || (save && kind != SuiteKind::Single));
        let csv = match &self.csv {
            Some(file) => Some(Csv::File(file.value.clone())),
            None => wants_csv.then(|| Csv::Folder(folder.clone())),
        };
        Outputs {
            save_to: save.then_some(folder),
            json: self.output.as_ref().map(|path| path.value.clone()),
            csv,
            vllm: self.vllm_json.as_ref().map(|path| path.value.clone()),
            html: self.html.as_ref().map(|path| path.value.clone()),
            markdown: self.markdown.as_ref().map(|path| path.value.clone()),
            record_log: self.record_log.as_ref().map(|path| path.value.clone()),
            schedule: self.schedule_out.as_ref().map(|path| path.value.clone()),
            junit: self.junit.as_ref().map(|path| path.value.clone()),
            detail: !self.no_detail,
            overwrite: self.overwrite,
        }
    }

    fn schedule_out(&self, kind: SuiteKind, found: &mut Findings) {
        let Some(file) = &self.schedule_out else { return };
        if kind != SuiteKind::Single {
            let problem = "names one file, and this makes several runs; leave it out, or make one run";
            found.add(file.mistake(file.value.display(), problem));
        }
        if self.shapes().next().is_none() {
            let problem = "a closed loop has no schedule; give --request-rate, --ramp-up or --stages";
            found.add(file.mistake(file.value.display(), problem));
        }
    }

    fn plan(&self, case: Case, load: Load, settings: &Settings, model: &str, seed: u64) -> Plan {
        let extra = self.extra_body.as_ref().map(|extra| extra.value.clone()).unwrap_or_default();
        let request = Ask {
            dialect: settings.endpoint.dialect,
            model: model.to_owned(),
            stream: self.stream.unwrap_or(true),
            max_tokens: u32::try_from(case.max_tokens.value).ok(),
            temperature: self.temperature.as_ref().map(|t| t.value),
            ignore_eos: self.ignore_eos.unwrap_or(false),
            continuous_usage: self.continuous_usage.unwrap_or(false),
            extra,
        };
        let request = request.with_extra_told();
        let plan = Plan {
            run_id: format!("lg-{:012x}", fresh_seed() & 0xffff_ffff_ffff),
            hash: String::new(),
            scenario: case.scenario,
            simulated: self.simulated.clone(),
            server: settings.clone(),
            key_source: self.key_source(),
            request,
            prompt: case.prompt.value,
            unique_prompts: self.unique_prompts.unwrap_or(false),
            load,
            health_limits: self.health_limits.clone(),
            slos: self.goodput.as_ref().map(|slos| slos.value.clone()).unwrap_or_default(),
            error_limits: ErrorLimits {
                most: self.max_errors.as_ref().and_then(|n| NonZeroU64::new(n.value)),
                rate: self.max_error_rate.as_ref().map(|rate| rate.value),
            },
            thresholds: self.thresholds.iter().map(|given| given.value.clone()).collect(),
            seed,
        };
        plan.hashed()
    }
}

/// The parts of a path that tell it from others: `./a` is `a`.
fn plain(path: &Path) -> impl Iterator<Item = Component<'_>> {
    path.components().filter(|part| *part != Component::CurDir)
}

/// The mistakes found so far.
#[derive(Default)]
struct Findings(Vec<Mistake>);

impl Findings {
    /// Adds a mistake, once: cases share what they have in common.
    fn add(&mut self, mistake: Mistake) {
        if !self.0.contains(&mistake) {
            self.0.push(mistake);
        }
    }

    fn positive(&mut self, given: Option<&Given<Duration>>) {
        if let Some(given) = given.filter(|given| given.value.is_zero()) {
            self.add(given.mistake("0", "write a duration above 0, such as 30s"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_server(_: &Settings) -> Result<String, Error> {
        panic!("the server must not be asked")
    }

    fn flag<T>(name: &'static str, value: T) -> Option<Given<T>> {
        Some(Given::new(value, Origin::Flag(name)))
    }

    fn draft() -> Draft {
        Draft { model: flag("--model", "m".to_owned()), ..Draft::default() }
    }

    fn mistakes(draft: &Draft) -> Vec<String> {
        match draft.check(&mut no_server) {
            Err(Error::Usage(mistakes)) => mistakes.iter().map(Mistake::to_string).collect(),
            other => panic!("no mistake found: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let suite = draft().check(&mut no_server).expect("defaults are valid");
        let plan = &suite.plans[0];
        assert_eq!(plan.server.endpoint.url, "http://localhost:63455/v1/chat/completions");
        assert_eq!(plan.load.threads.get(), 20);
        assert_eq!(plan.load.completions.map(NonZeroU64::get), Some(100));
        assert_eq!(plan.request.max_tokens, Some(256));
        assert!(plan.request.stream);
        assert_eq!(suite.outputs, Outputs { detail: true, ..Outputs::default() });
    }

    #[test]
    fn the_server_names_the_model_where_nobody_else_does() {
        let suite = Draft::default().check(&mut |_| Ok("served".to_owned())).expect("valid");
        assert_eq!(suite.plans[0].request.model, "served");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let draft = Draft {
            threads: flag("--threads", 0),
            completions: flag("--completions", 0),
            url: flag("--url", "localhost:8000".to_owned()),
            temperature: flag("--temperature", -1.0),
            timeout: flag("--timeout", Duration::ZERO),
            ..draft()
        };
        let found = mistakes(&draft);
        assert_eq!(found.len(), 5, "{found:#?}");
        assert!(found.contains(&"--threads '0': write a whole number from 1 to 16000".to_owned()));
    }

    #[test]
    fn thresholds_need_what_they_are_about() {
        let threshold = |text: &str| {
            vec![Given::new(text.parse::<Threshold>().expect(text), Origin::Flag("--threshold"))]
        };
        let whole = Draft { stream: Some(false), thresholds: threshold("ttft.p99 < 5ms"), ..draft() };
        assert_eq!(
            mistakes(&whole),
            [
                "--threshold 'ttft.p99<5ms': replies that are not streamed have no such times; leave one of them out"
            ]
        );
        let none = Draft { junit: flag("--junit", PathBuf::from("j.xml")), ..draft() };
        assert_eq!(
            mistakes(&none),
            ["--junit 'j.xml': there is no --threshold to tell of; give one, such as ttft.p99<500ms"]
        );
        let good = Draft { stream: Some(false), thresholds: threshold("e2e.p99<5ms"), ..draft() };
        assert_eq!(good.check(&mut no_server).expect("valid").plans[0].thresholds.len(), 1);
    }

    #[test]
    fn the_default_server_speaks_either_dialect() {
        let typed = Draft { api: flag("--api", Dialect::Completions), ..draft() };
        let suite = typed.check(&mut no_server).expect("valid");
        assert_eq!(suite.plans[0].server.endpoint.url, "http://localhost:63455/v1/completions");
    }

    #[test]
    fn a_duration_alone_sets_no_number_of_completions() {
        let draft = Draft { duration: flag("--duration", Duration::from_secs(30)), ..draft() };
        let load = draft.check(&mut no_server).expect("valid").plans[0].load.clone();
        assert_eq!((load.completions, load.duration), (None, Some(Duration::from_secs(30))));
    }

    #[test]
    fn a_sweep_is_one_plan_a_number() {
        let draft = Draft { concurrent_tests: flag("--concurrent-tests", vec![5, 10]), ..draft() };
        let suite = draft.check(&mut no_server).expect("valid");
        assert_eq!(suite.kind, SuiteKind::Threads);
        let threads: Vec<_> = suite.plans.iter().map(|plan| plan.load.threads.get()).collect();
        assert_eq!(threads, [5, 10]);
        assert_ne!(suite.plans[0].hash, suite.plans[1].hash);
        assert_ne!(suite.plans[0].run_id, suite.plans[1].run_id);
    }

    #[test]
    fn runs_are_one_plan_with_a_seed_each() {
        let draft = |runs| Draft { runs: flag("--runs", runs), seed: flag("--seed", u64::MAX), ..draft() };
        let suite = draft(3).check(&mut no_server).expect("valid");
        assert_eq!(suite.kind, SuiteKind::Runs);
        let seeds: Vec<_> = suite.plans.iter().map(|plan| plan.seed).collect();
        assert_eq!(seeds, [u64::MAX, 0, 1]);
        assert!(suite.plans.iter().all(|plan| plan.hash == suite.plans[0].hash));
        assert_eq!(draft(1).check(&mut no_server).expect("valid").kind, SuiteKind::Single);
        assert_eq!(mistakes(&draft(0)), ["--runs '0': write a whole number from 1 to 1000"]);
        assert_eq!(mistakes(&draft(1_001)), ["--runs '1001': write a whole number from 1 to 1000"]);
        let both = Draft { compare: flag("--compare", vec![1]), ..draft(2) };
        assert_eq!(mistakes(&both), ["--compare and --runs: give one of them; each makes runs of its own"]);
    }

    #[test]
    fn two_kinds_of_sweep_at_once_are_refused() {
        let draft = Draft {
            compare: flag("--compare", vec![1]),
            concurrent_tests: flag("--concurrent-tests", vec![1]),
            ..draft()
        };
        assert_eq!(
            mistakes(&draft),
            ["--compare and --concurrent-tests: give one of them; each makes runs of its own"]
        );
    }

    #[test]
    fn one_output_file_cannot_hold_several_runs() {
        let draft = Draft {
            compare: flag("--compare", vec![1, 2]),
            output: flag("--output", PathBuf::from("a.json")),
            ..draft()
        };
        assert_eq!(
            mistakes(&draft),
            ["--output 'a.json': names one file, and this makes several runs; use --output-dir DIR"]
        );
    }

    #[test]
    fn the_hash_tells_plans_apart_and_not_servers() {
        let hash = |draft: Draft| draft.check(&mut no_server).expect("valid").plans[0].hash.clone();
        let elsewhere = Draft { url: flag("--url", "http://h:1".to_owned()), ..draft() };
        assert_eq!(hash(draft()), hash(elsewhere));
        assert_ne!(hash(draft()), hash(Draft { threads: flag("--threads", 3), ..draft() }));
    }

    #[test]
    fn plans_that_differ_say_in_what() {
        let plan = |draft: Draft| draft.check(&mut no_server).expect("valid").plans.remove(0);
        let other = Draft {
            threads: flag("--threads", 3),
            prompt: flag("--prompt", "a\u{1b}b".to_owned()),
            ..draft()
        };
        let differences = plan(draft()).differences(&plan(other));
        assert_eq!(differences[0], "load.threads: 20 and 3");
        assert!(differences[1].ends_with("and \"a\\u001bb\""), "{differences:?}");
        assert_eq!(plan(draft()).differences(&plan(draft())), Vec::<String>::new());
    }

    #[test]
    fn a_rate_makes_an_open_loop_with_threads_to_hold_it() {
        let rate = |rate: f64| flag("--request-rate", Shape::parse_rate(&rate.to_string()).expect("above 0"));
        let load = |draft: Draft| draft.check(&mut no_server).expect("valid").plans[0].load.clone();
        let open = load(Draft { request_rate: rate(10.0), ..draft() });
        assert_eq!((open.threads.get(), open.arrivals.map(|a| a.process)), (200, Some(Process::Poisson)));
        assert_eq!(load(Draft { request_rate: rate(0.1), ..draft() }).threads.get(), 64);
        assert_eq!(
            load(Draft { request_rate: rate(1e6), threads: flag("--threads", 7), ..draft() }).threads.get(),
            7
        );
        let bursty =
            load(Draft { request_rate: rate(1.0), burstiness: flag("--burstiness", 0.5), ..draft() });
        assert_eq!(bursty.arrivals.map(|a| a.process), Some(Process::Gamma { burstiness: 0.5 }));
    }

    fn ramp(text: &str) -> Option<Given<Shape>> {
        flag("--ramp-up", Shape::parse_ramp(text).expect(text))
    }

    fn stages(text: &str) -> Option<Given<Shape>> {
        flag("--stages", Shape::parse_stages(text).expect(text))
    }

    fn at_once() -> Option<Given<Shape>> {
        flag("--request-rate", Shape::AtOnce)
    }

    fn load_of(draft: &Draft) -> Load {
        draft.check(&mut no_server).expect("valid").plans[0].load.clone()
    }

    #[test]
    fn a_ramp_ends_the_run_where_nothing_else_does() {
        let alone = load_of(&Draft { ramp_up: ramp("1:50:60s"), ..draft() });
        assert_eq!((alone.completions, alone.time_limit()), (None, Some(Duration::from_secs(60))));
        assert_eq!(alone.threads.get(), 1_000);
        let duration = flag("--duration", Duration::from_secs(90));
        let timed = load_of(&Draft { ramp_up: ramp("1:50:60s"), duration, ..draft() });
        assert_eq!(timed.time_limit(), Some(Duration::from_secs(90)));
        let counted = load_of(&Draft { ramp_up: ramp("1:5:60s"), completions: flag("-n", 7), ..draft() });
        assert_eq!((counted.time_limit(), counted.threads.get()), (None, 100));
    }

    #[test]
    fn stages_end_the_run_and_a_number_may_end_it_earlier() {
        let alone = load_of(&Draft { stages: stages("10:30s,0:5s"), ..draft() });
        assert_eq!((alone.completions, alone.time_limit()), (None, Some(Duration::from_secs(35))));
        let counted = Draft { stages: stages("10:30s"), completions: flag("--completions", 7), ..draft() };
        assert_eq!(load_of(&counted).completions.map(NonZeroU64::get), Some(7));
    }

    #[test]
    fn everything_at_once_has_a_thread_a_request() {
        let load = load_of(&Draft { request_rate: at_once(), ..draft() });
        assert_eq!((load.threads.get(), load.completions.map(NonZeroU64::get)), (100, Some(100)));
        let many = Draft { request_rate: at_once(), completions: flag("--completions", 5_000), ..draft() };
        assert_eq!(load_of(&many).threads.get(), 1_000);
        let compared = Draft { request_rate: at_once(), compare: flag("--compare", vec![3, 9]), ..draft() };
        let suite = compared.check(&mut no_server).expect("valid");
        assert_eq!(suite.plans.iter().map(|plan| plan.load.threads.get()).collect::<Vec<_>>(), [3, 9]);
    }

    #[test]
    fn shapes_that_disagree_are_mistakes() {
        let rate = flag("--request-rate", Shape::parse_rate("5").expect("a rate"));
        let three = Draft { request_rate: rate, ramp_up: ramp("1:5:9s"), stages: stages("1:9s"), ..draft() };
        assert_eq!(
            mistakes(&three),
            [
                "--request-rate and --ramp-up: give one of them; each says when requests arrive",
                "--request-rate and --stages: give one of them; each says when requests arrive",
            ]
        );
        let duration = || flag("--duration", Duration::from_secs(9));
        assert_eq!(
            mistakes(&Draft { stages: stages("1:9s"), duration: duration(), ..draft() }),
            [
                "--stages and --duration: leave the duration out: the run ends with the last stage; make that longer or shorter"
            ]
        );
        let at_once = Draft {
            request_rate: at_once(),
            duration: duration(),
            arrival: flag("--arrival", ArrivalName::Gamma),
            burstiness: flag("--burstiness", 0.5),
            ..draft()
        };
        assert_eq!(
            mistakes(&at_once),
            [
                "--request-rate and --duration: leave the duration out: every request is due at the start; --completions says how many",
                "--arrival: says nothing at --request-rate inf: every request is due at once",
                "--burstiness: says nothing at --request-rate inf: every request is due at once",
            ]
        );
    }

    #[test]
    fn a_schedule_file_is_for_the_one_run_of_an_open_loop() {
        let out = || flag("--schedule-out", PathBuf::from("s.csv"));
        assert_eq!(
            mistakes(&Draft { schedule_out: out(), compare: flag("--compare", vec![1, 2]), ..draft() }),
            [
                "--schedule-out 's.csv': names one file, and this makes several runs; leave it out, or make one run",
                "--schedule-out 's.csv': a closed loop has no schedule; give --request-rate, --ramp-up or --stages",
            ]
        );
        let twice = Draft {
            stages: stages("1:9s"),
            schedule_out: out(),
            csv: flag("--csv", PathBuf::from("./s.csv")),
            ..draft()
        };
        assert_eq!(
            mistakes(&twice),
            ["--csv and --schedule-out 's.csv': name two files; one would replace the other"]
        );
    }

    #[test]
    fn a_flags_shape_takes_the_place_of_the_files() {
        let file = Draft {
            request_rate: flag("file", Shape::parse_rate("5").expect("a rate")),
            completions: flag("file", 100),
            duration: flag("file", Duration::from_secs(9)),
            arrival: flag("file", ArrivalName::Constant),
            ..draft()
        };
        let over = |flags: Draft| load_of(&flags.over(file.clone()));
        let staged = over(Draft { stages: stages("1:30s"), ..Draft::default() });
        assert_eq!((staged.completions, staged.duration), (None, None));
        assert_eq!(staged.arrivals.map(|arrivals| arrivals.process), Some(Process::Constant));
        let ramped = over(Draft { ramp_up: ramp("1:5:3s"), ..Draft::default() });
        assert_eq!((ramped.completions, ramped.duration), (None, Some(Duration::from_secs(9))));
        let at_once = over(Draft { request_rate: at_once(), ..Draft::default() });
        assert_eq!((at_once.completions.map(NonZeroU64::get), at_once.duration), (Some(100), None));
    }

    #[test]
    fn parts_of_an_open_loop_alone_are_mistakes() {
        let lone = Draft { arrival: flag("--arrival", ArrivalName::Poisson), ..draft() };
        assert_eq!(
            mistakes(&lone),
            ["--arrival: says nothing without --request-rate, --ramp-up or --stages"]
        );
        let rate = flag("--request-rate", Shape::parse_rate("1").expect("above 0"));
        let both = Draft {
            request_rate: rate,
            arrival: flag("--arrival", ArrivalName::Constant),
            burstiness: flag("--burstiness", 2.0),
            ..draft()
        };
        assert_eq!(mistakes(&both), ["--burstiness '2': is for --arrival gamma; leave one of them out"]);
    }

    #[test]
    fn a_flag_wins_over_a_scenario() {
        let file = |field: &str| Origin::File { place: "f:1:1".to_owned(), field: field.to_owned() };
        let scenario = ScenarioDraft {
            name: Given::new("s".to_owned(), file("name")),
            completions: Given::new(vec![3, 4], file("completions")),
            prompt: Given::new("p".to_owned(), file("prompt")),
            threads: Some(Given::new(7, file("threads"))),
            max_tokens: None,
        };
        let base = Draft { scenarios: vec![scenario], run_scenarios: true, ..draft() };
        let threads = |draft: &Draft| draft.check(&mut no_server).expect("valid").plans[1].load.threads.get();
        assert_eq!(threads(&base), 7);
        assert_eq!(threads(&Draft { threads: flag("--threads", 9), ..base }), 9);
    }
}
