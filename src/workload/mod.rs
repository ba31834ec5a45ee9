//! What is asked: the prompt of each request, as a body ready to send. Knows nothing of when or where.

use std::sync::Arc;

use rand::Rng;

use crate::random::{self, Purpose};
use crate::wire::{Ask, BodyTemplate};

/// Bodies of a run's requests, by number.
#[derive(Clone, Debug)]
pub enum Workload {
    /// Every request has the same body, serialised once.
    Same(Arc<[u8]>),
    /// Every prompt begins with a salt of its own, so that the server's prefix cache cannot answer it.
    Unique {
        /// The body around the prompt.
        template: BodyTemplate,
        /// What follows the salt.
        prompt: String,
        /// Source of the salts, of the run alone.
        source: u64,
    },
}

impl Workload {
    /// The same prompt for every request; or, with `unique`, the prompt behind a salt drawn from that run id. It is no seed's,
    /// for a server may still have cached the prompts of the last run with that seed.
    pub fn new(ask: &Ask, prompt: &str, unique: Option<&str>) -> Self {
        match unique {
            None => Self::Same(ask.body(prompt).into()),
            Some(run_id) => {
                let source = source(run_id);
                Self::Unique { template: ask.template(), prompt: prompt.to_owned(), source }
            }
        }
    }

    /// The body of request number `id`; the same number always gives the same body.
    pub fn body(&self, id: u64) -> Arc<[u8]> {
        match self {
            Self::Same(body) => Arc::clone(body),
            Self::Unique { template, prompt, source } => {
                let salt = random::stream(*source, Purpose::Salt, id).next_u64();
                template.render(&format!("[{salt:016x}] {prompt}")).into()
            }
        }
    }
}

/// A number of the name's own: FNV-1a.
fn source(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Dialect;

    fn ask() -> Ask {
        Ask {
            dialect: Dialect::Completions,
            model: "m".to_owned(),
            stream: true,
            max_tokens: Some(8),
            temperature: None,
            ignore_eos: false,
            continuous_usage: false,
            extra: serde_json::Map::new(),
        }
    }

    fn prompt(workload: &Workload, id: u64) -> String {
        let body: serde_json::Value = serde_json::from_slice(&workload.body(id)).expect("a body is JSON");
        body["prompt"].as_str().expect("with a prompt").to_owned()
    }

    #[test]
    fn the_same_prompt_is_one_allocation() {
        let workload = Workload::new(&ask(), "hello \"you\"", None);
        assert!(Arc::ptr_eq(&workload.body(0), &workload.body(1)));
        assert_eq!(prompt(&workload, 3), "hello \"you\"");
    }

    #[test]
    fn unique_prompts_differ_from_their_first_word_on_and_from_those_of_every_other_run() {
        let workload = Workload::new(&ask(), "hello", Some("lg-000000000007"));
        let (first, second) = (prompt(&workload, 0), prompt(&workload, 1));
        assert_ne!(first[..18], second[..18]);
        assert!(first.ends_with("] hello"));
        assert_eq!(first, prompt(&Workload::new(&ask(), "hello", Some("lg-000000000007")), 0));
        assert_ne!(first, prompt(&Workload::new(&ask(), "hello", Some("lg-000000000008")), 0));
    }
}
