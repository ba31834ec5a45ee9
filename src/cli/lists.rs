//! What argh lacks, done on the words before it reads them: `--flag=value`, lists of numbers, `-vv`.

use crate::plan::Metric;

/// Flags that take several items, and what an item looks like: `--compare 10 50 100`, `--compare 10,50,100`,
/// `--compare=10,50`, `--stages 10:30s 20:30s`.
const LISTS: [List; 5] = [
    ("--compare", is_numbers),
    ("--concurrent-tests", is_numbers),
    ("--stages", is_stages),
    ("--streams", is_numbers),
    ("--goodput", is_objectives),
];

/// Flags that take several words and may be repeated: `--base a.json b.json` is `--base a.json --base b.json`. Words up to
/// the next flag belong to them.
const REPEATED: [&str; 3] = ["--base", "--new", "--metric"];

/// Switches that a config file has too, so that what it says can be undone: `--ignore-eos=false`.
pub const SWITCHES: [&str; 9] = [
    "--ignore-eos",
    "--no-stream",
    "--continuous-usage",
    "--unique-prompts",
    "--fail-on-length",
    "--save-responses",
    "--calibrate",
    "--no-backoff",
    "--insecure",
];
/// The flag that stands for a switch with a value; its own is `--ignore-eos=false`.
const OFF: &str = "--off";

/// A flag, and whether a word is of its items.
type List = (&'static str, fn(&str) -> bool);

/// Rewrites words so that every flag has one value of its own: lists become one flag with commas, `--flag=value` two
/// words, `-vv` two flags. Items after a list's flag belong to it up to the first word that is none. Nothing
/// after `--` is touched.
pub fn expand(words: &[String]) -> Vec<String> {
    let mut out = Vec::with_capacity(words.len());
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            out.push(word.clone());
            out.extend(rest.cloned());
            break;
        }
        if let Some(level) = verbosity(word) {
            out.extend(std::iter::repeat_n("-v".to_owned(), level));
            continue;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") && name.len() > 2 => (name, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        if REPEATED.contains(&name) {
            repeat(name, value, &mut rest, &mut out);
            continue;
        }
        if let Some(value) = value.as_deref().filter(|_| SWITCHES.contains(&name)) {
            match value {
                "true" => out.push(name.to_owned()),
                _ => out.extend([OFF.to_owned(), format!("{name}={value}")]),
            }
            continue;
        }
        out.push(name.to_owned());
        let Some((_, is_items)) = LISTS.iter().find(|(list, _)| *list == name) else {
            out.extend(value);
            continue;
        };
        let mut items: Vec<String> = value.into_iter().collect();
        if items.is_empty() && rest.clone().next().is_some_and(|word| !word.starts_with("--")) {
            // whatever stands first is its value, so that a mistake in it is told as such
            items.extend(rest.next().cloned());
        }
        while rest.clone().next().is_some_and(|word| is_items(word)) {
            items.extend(rest.next().cloned());
        }
        if !items.is_empty() {
            out.push(items.join(","));
        }
    }
    out
}

/// One flag for each of its words.
fn repeat(name: &str, value: Option<String>, rest: &mut std::slice::Iter<'_, String>, out: &mut Vec<String>) {
    let mut words: Vec<String> = value.into_iter().collect();
    let is_item = |word: &String, first: bool| {
        !word.starts_with('-') && (name != "--metric" || first || is_meant_as_metrics(word))
    };
    while rest.clone().next().is_some_and(|word| is_item(word, words.is_empty())) {
        words.extend(rest.next().cloned());
    }
    if words.is_empty() {
        out.push(name.to_owned());
    }
    words.into_iter().for_each(|word| out.extend([name.to_owned(), word]));
}

/// How many flags `-v`, `-vv`, `-vvv` … stand for.
fn verbosity(word: &str) -> Option<usize> {
    let level = word.strip_prefix('-')?;
    (!level.is_empty() && level.bytes().all(|b| b == b'v')).then_some(level.len())
}

/// Numbers and commas only, such as `10`, `10,` or `10,50`.
fn is_numbers(word: &str) -> bool {
    word.bytes().any(|b| b.is_ascii_digit()) && word.bytes().all(|b| b.is_ascii_digit() || b == b',')
}

/// Metrics, or what is near to one. Files that are named after them are none: `compare --metric ttft.p99 a.json b.json`.
fn is_meant_as_metrics(word: &str) -> bool {
    let is_meant =
        |name: &str| name.parse::<Metric>().map_or_else(|problem| problem.contains("did you mean"), |_| true);
    let names = word.split(',').map(str::trim).filter(|name| !name.is_empty());
    !word.contains('/')
        && !word.contains(".json")
        && names.clone().next().is_some()
        && names.into_iter().all(is_meant)
}

/// Starts as `10:30s` and `0.5:1m,` do.
fn is_stages(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit() || c == '.') && word.contains(':')
}

/// Such as `ttft:500`.
fn is_objectives(word: &str) -> bool {
    let Some((name, _)) = word.split_once(':') else { return false };
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, want: &str) {
        let words: Vec<String> = typed.split_whitespace().map(str::to_owned).collect();
        assert_eq!(expand(&words).join(" "), want, "{typed}");
    }

    #[test]
    fn lists_may_be_written_in_every_usual_way() {
        for typed in [
            "--compare 10 50 100",
            "--compare 10,50,100",
            "--compare=10,50,100",
            "--compare 10,50 100",
            "--compare=10 50 100",
        ] {
            check(typed, "--compare 10,50,100");
        }
        check("--compare 10, 50, 100", "--compare 10,,50,,100");
    }

    #[test]
    fn stages_are_a_list_too() {
        for typed in ["--stages 10:30s 20:1m", "--stages=10:30s 20:1m", "--stages 10:30s,20:1m"] {
            check(&format!("{typed} -q"), "--stages 10:30s,20:1m -q");
        }
        check("--stages 10 simulate", "--stages 10 simulate");
    }

    #[test]
    fn objectives_are_a_list_too() {
        check("--goodput ttft:500 tpot:50 -q", "--goodput ttft:500,tpot:50 -q");
        check("--goodput=e2e:2s --url http://h", "--goodput e2e:2s --url http://h");
    }

    #[test]
    fn files_are_a_list_of_their_own() {
        check("compare --base a b --new=c d -q", "compare --base a --base b --new c --new d -q");
        check("compare a b --metric ttft.p99 --force", "compare a b --metric ttft.p99 --force");
        check("compare --base --new c", "compare --base --new c");
        // files after a metric are no metrics
        let metrics = "compare --metric ttft.p99 --metric itl.p95";
        check("compare --metric ttft.p99 itl.p95 a.json b.json", &format!("{metrics} a.json b.json"));
        check(
            "compare --metric ttft.p99,itl.p95 before/a after/b",
            "compare --metric ttft.p99,itl.p95 before/a after/b",
        );
        check("trend --metric error_rate results", "trend --metric error_rate results");
        // a mistake is told as one
        check(
            "compare --metric ttft.p99 eror_rate a.json",
            "compare --metric ttft.p99 --metric eror_rate a.json",
        );
        check("compare --metric=x a.json b.json", "compare --metric x a.json b.json");
    }

    #[test]
    fn a_list_ends_at_the_first_word_that_is_no_number() {
        check("--concurrent-tests 5 10 --completions 100", "--concurrent-tests 5,10 --completions 100");
        check("--compare 5 simulate --port 1", "--compare 5 simulate --port 1");
        check("--compare --save", "--compare --save");
        check("--compare ten 5", "--compare ten,5");
        check("--compare -5 5", "--compare -5,5");
    }

    #[test]
    fn values_may_follow_an_equals_sign() {
        check("--threads=20 --header=a=b", "--threads 20 --header a=b");
        check("--prompt=", "--prompt ");
        check("--ignore-eos=false --insecure=true -q", "--off --ignore-eos=false --insecure -q");
        check("--strict=false", "--strict false");
        check("-- --threads=20", "-- --threads=20");
    }

    #[test]
    fn verbosity_may_be_doubled() {
        check("-vv --threads 3 -v", "-v -v --threads 3 -v");
        check("--verbose -x", "--verbose -x");
    }
}
