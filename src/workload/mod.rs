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
        /// Source of the salts.
        seed: u64,
    },
}

impl Workload {
    /// The same prompt for every request; or, with `unique`, the prompt behind a salt drawn from that seed.
    pub fn new(ask: &Ask, prompt: &str, unique: Option<u64>) -> Self {
        match unique {
            None => Self::Same(ask.body(prompt).into()),
            Some(seed) => Self::Unique { template: ask.template(), prompt: prompt.to_owned(), seed },
        }
    }

    /// The body of request number `id`; the same number always gives the same body.
    pub fn body(&self, id: u64) -> Arc<[u8]> {
        match self {
            Self::Same(body) => Arc::clone(body),
            Self::Unique { template, prompt, seed } => {
                let salt = random::stream(*seed, Purpose::Salt, id).next_u64();
                template.render(&format!("[{salt:016x}] {prompt}")).into()
            }
        }
    }
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
    fn unique_prompts_differ_from_their_first_word_and_repeat_with_the_seed() {
        let workload = Workload::new(&ask(), "hello", Some(7));
        let (first, second) = (prompt(&workload, 0), prompt(&workload, 1));
        assert_ne!(first[..18], second[..18]);
        assert!(first.ends_with("] hello"));
        assert_eq!(first, prompt(&Workload::new(&ask(), "hello", Some(7)), 0));
        assert_ne!(first, prompt(&Workload::new(&ask(), "hello", Some(8)), 0));
    }
}
