//! Labels: what a user calls a run, such as the commit under test. They tell runs apart, and never plans.

use std::collections::BTreeMap;

use super::Given;
use crate::error::Mistake;
use crate::text::printable;

/// Names and values, in the order of the names.
pub type Labels = BTreeMap<String, String>;

/// The most labels of a run.
pub const MAX_LABELS: usize = 32;

/// The longest name, in characters.
const MAX_NAME: usize = 64;

/// The longest value, in characters.
const MAX_VALUE: usize = 256;

/// Reads `NAME=VALUE`; the value is all after the first `=`.
///
/// # Errors
/// What to write instead, where there is no `=`.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err("not a label; write NAME=VALUE, such as commit=4f2a91c".to_owned()),
    }
}

/// `commit=4f2a91c, gpu=H100`, fit to show; empty without labels.
pub fn shown_labels(labels: &Labels) -> String {
    let shown: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{}={}", printable(name, MAX_NAME), printable(value, MAX_VALUE)))
        .collect();
    shown.join(", ")
}

/// The labels, later ones in the place of earlier ones of the same name; what is wrong goes to `found`.
pub(super) fn checked(given: &[Given<(String, String)>], found: &mut dyn FnMut(Mistake)) -> Labels {
    let mut labels = Labels::new();
    for label in given {
        let (name, value) = &label.value;
        let shown = || format!("{}={}", printable(name, MAX_NAME), printable(value, 40));
        if let Some(problem) = wrong_name(name) {
            found(label.mistake(shown(), problem));
        }
        if let Some(problem) = wrong_value(value) {
            found(label.mistake(shown(), problem));
        }
        labels.insert(name.clone(), value.clone());
    }
    if let (Some(last), true) = (given.last(), labels.len() > MAX_LABELS) {
        let problem = format!("a run has at most {MAX_LABELS} labels, and these are {}", labels.len());
        found(Mistake::new(last.origin.to_string(), problem));
    }
    labels
}

fn wrong_name(name: &str) -> Option<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.is_empty() {
        Some("the label has no name; write NAME=VALUE, such as commit=4f2a91c".to_owned())
    } else if name.chars().count() > MAX_NAME {
        Some(format!("the name is longer than {MAX_NAME} characters; write a shorter one"))
    } else if !name.chars().all(is_allowed) {
        Some("a label's name is of letters, digits, _, . and -; write such as commit or gpu.count".to_owned())
    } else {
        None
    }
}

fn wrong_value(value: &str) -> Option<String> {
    if value.chars().count() > MAX_VALUE {
        Some(format!("the value is longer than {MAX_VALUE} characters; write a shorter one"))
    } else if printable(value, MAX_VALUE) != value {
        Some(
            "the value has blanks at an end or in a row, or characters that cannot be seen; leave them out"
                .to_owned(),
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::*;

    fn check(typed: &[&str]) -> (String, Vec<String>) {
        let given: Vec<_> = typed
            .iter()
            .map(|text| Given::new(parse_label(text).expect(text), Origin::Flag("--label")))
            .collect();
        let mut mistakes = Vec::new();
        let labels = checked(&given, &mut |mistake| mistakes.push(mistake.to_string()));
        (shown_labels(&labels), mistakes)
    }

    #[track_caller]
    fn refused(typed: &str, want: &str) {
        let (_, mistakes) = check(&[typed]);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains(want), "{mistakes:?}");
    }

    #[test]
    fn the_last_of_a_name_wins_and_names_are_in_order() {
        assert_eq!(check(&["gpu=H100", "a.b-c_9=x=y", "gpu="]), ("a.b-c_9=x=y, gpu=".to_owned(), vec![]));
        assert_eq!(check(&[]), (String::new(), vec![]));
    }

    #[test]
    fn names_and_values_that_cannot_be_are_told() {
        refused("=x", "--label '=x': the label has no name");
        refused("a b=x", "letters, digits");
        refused("é=x", "letters, digits");
        refused(&format!("{}=x", "n".repeat(65)), "longer than 64");
        refused(&format!("n={}", "é".repeat(257)), "longer than 256");
        for value in ["a\nb", "\u{1b}[31m", " a", "a  b", "\u{202e}a"] {
            refused(&format!("n={value}"), "cannot be seen");
        }
        assert!(parse_label("commit").is_err_and(|problem| problem.contains("NAME=VALUE")));
        assert_eq!(check(&[&format!("{}={}", "n".repeat(64), "é".repeat(256))]).1, Vec::<String>::new());
    }

    #[test]
    fn a_run_has_so_many_labels_and_no_more() {
        let typed: Vec<String> = (0..33).map(|n| format!("n{n}=x")).collect();
        let words: Vec<&str> = typed.iter().map(String::as_str).collect();
        assert_eq!(check(&words[..32]).1, Vec::<String>::new());
        assert_eq!(check(&words).1, ["--label: a run has at most 32 labels, and these are 33"]);
    }
}
