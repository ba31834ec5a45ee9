//! From a draft to plans: every mistake is found before the first one is told.

mod arrivals;
mod cases;
mod outputs;
mod server;
#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::time::Duration;

use super::draft::{Draft, Given, Origin};
use super::labels::{self, Labels};
use super::{ErrorLimits, Load, Plan, Rule, Suite, SuiteKind, Threshold, defaults};
use crate::backend::Settings;
use crate::error::{Error, Mistake};
use crate::random::fresh_seed;
use crate::wire::Ask;

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
        let labels = labels::checked(&self.labels, &mut |mistake| found.add(mistake));
        let settings = self.settings(&mut found);
        if let Some(settings) = &settings {
            self.words_of_extra(settings.endpoint.dialect.prompt_key(), kind, &mut found);
        }
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
                Plan { labels: labels.clone(), ..self.plan(case, load, &settings, &model, seed) }
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

    fn runs(&self, found: &mut Findings) {
        if let Some(given) = self.runs.as_ref().filter(|given| !(1..=MAX_RUNS).contains(&given.value)) {
            found.add(given.mistake(given.value, format!("write a whole number from 1 to {MAX_RUNS}")));
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
        if self.fail_on_length == Some(true) && self.ignore_eos == Some(true) {
            let problem =
                "give one of them; where no reply ends by itself, each is cut at its limit and would fail";
            found.add(Mistake::new("--fail-on-length and --ignore-eos", problem));
        }
    }

    /// A body that has its own words leaves no room for others.
    fn words_of_extra(&self, key: &str, kind: SuiteKind, found: &mut Findings) {
        let Some(extra) = self.extra_body.as_ref().filter(|extra| extra.value.contains_key(key)) else {
            return;
        };
        let mut clash = |with: &str, what: &str| {
            let problem = format!("give one of them; '{key}' of the extra body is sent as it is, {what}");
            found.add(Mistake::new(format!("{} and {with}", extra.origin), problem));
        };
        if self.unique_prompts == Some(true) {
            clash("--unique-prompts", "and so the same each time");
        }
        if kind == SuiteKind::Scenarios {
            clash("--scenarios", "in the place of every scenario's prompt");
        }
        if let Some(prompt) = self.prompt.as_ref().filter(|prompt| matches!(prompt.origin, Origin::Flag(_))) {
            clash(&prompt.origin.to_string(), "in the place of the prompt");
        }
    }

    /// Limits on what such a run does not have; and a file of verdicts where nothing is judged.
    fn thresholds(&self, found: &mut Findings) {
        let is_streamed = |given: &&Given<Threshold>| matches!(given.value.rule, Rule::Figure(metric, ..) if metric.needs_stream());
        for given in self.thresholds.iter().filter(is_streamed).filter(|_| self.stream == Some(false)) {
            let problem = "replies that are not streamed have no such times; leave one of them out";
            found.add(given.mistake(&given.value, problem));
        }
        let is_of_goodput = |given: &&Given<Threshold>| matches!(given.value.rule, Rule::Figure(metric, ..) if metric.needs_objectives());
        for given in self.thresholds.iter().filter(is_of_goodput).filter(|_| self.goodput.is_none()) {
            let problem = "a run without objectives has no goodput; give --goodput too, such as ttft:500ms";
            found.add(given.mistake(&given.value, problem));
        }
        if let Some(file) = self.junit.as_ref().filter(|_| self.thresholds.is_empty()) {
            let problem = "there is no --threshold to tell of; give one, such as ttft.p99<500ms";
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
        let prompt_of_extra = request.prompt_of_extra();
        let plan = Plan {
            run_id: format!("lg-{:012x}", fresh_seed() & 0xffff_ffff_ffff),
            hash: String::new(),
            scenario: case.scenario,
            test_name: self.test_name.as_ref().map(|name| name.value.clone()),
            simulated: self.simulated.clone(),
            server: settings.clone(),
            key_source: self.key_source(),
            request,
            prompt: prompt_of_extra.unwrap_or(case.prompt.value),
            unique_prompts: self.unique_prompts.unwrap_or(false),
            fail_on_length: self.fail_on_length.unwrap_or(false),
            save_responses: self.save_responses.as_ref().is_some_and(|given| given.value),
            keeper: self.keeper.as_ref().map(|keeper| keeper.value).unwrap_or_default(),
            client_priority: self.client_priority.as_ref().map(|priority| priority.value).unwrap_or_default(),
            load,
            backoff: self.backoff.unwrap_or(true),
            health_limits: self.health_limits.clone(),
            slos: self.goodput.as_ref().map(|slos| slos.value.clone()).unwrap_or_default(),
            error_limits: ErrorLimits {
                most: self.max_errors.as_ref().and_then(|n| NonZeroU64::new(n.value)),
                rate: self.max_error_rate.as_ref().map(|rate| rate.value),
                no_progress: match &self.no_progress_timeout {
                    Some(given) => given.value,
                    None => defaults::no_progress(settings.idle_timeout),
                },
                no_reply: self.no_reply_timeout.as_ref().map_or(defaults::NO_REPLY, |given| given.value),
            },
            thresholds: self.thresholds.iter().map(|given| given.value.clone()).collect(),
            labels: Labels::new(),
            seed,
        };
        plan.hashed()
    }
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
