//! The runs of a suite, each with its own numbers, and the load that these make.

use std::num::{NonZeroU64, NonZeroUsize};

use super::{Case, Findings, MAX_RUNS, MAX_THREADS};
use crate::arrivals::Shape;
use crate::error::Mistake;
use crate::plan::draft::{Draft, Given, Origin, ScenarioDraft};
use crate::plan::{Extent, Load, SuiteKind, defaults};

impl Draft {
    pub(super) fn cases(&self, kind: SuiteKind, found: &mut Findings) -> Vec<Case> {
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

    pub(super) fn load(&self, case: &Case, found: &mut Findings) -> Option<Load> {
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
    pub(super) fn overruled(&self, kind: SuiteKind, found: &mut Findings) {
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
}
