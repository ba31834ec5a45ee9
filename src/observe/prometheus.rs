//! Reads the Prometheus text format: 0.0.4 and OpenMetrics 1.0, as servers write it.
//!
//! Tolerant: a line that makes no sense is counted and skipped. Knows no metric by name.

use std::borrow::Cow;
use std::str::Lines;

use memchr::memchr2;

/// One line of an exposition: a named value with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The name as written, with `_total`, `_bucket` and the like.
    pub name: &'a str,
    /// Names and unescaped values of the labels, in the order written.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// The value; may be NaN or infinite.
    pub value: f64,
}

impl Sample<'_> {
    /// The value of the label `name`, if there is one.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(have, _)| *have == name).map(|(_, value)| value.as_ref())
    }
}

/// The samples of `text`, in order. Comments, timestamps and exemplars are passed over.
///
/// ```
/// let text = "# TYPE queue gauge\nqueue{model=\"a, b\"} 3 1700000000\n";
/// let sample = vllm_loadgen::observe::prometheus::samples(text).next().unwrap();
/// assert_eq!((sample.name, sample.label("model"), sample.value), ("queue", Some("a, b"), 3.0));
/// ```
pub fn samples(text: &str) -> Samples<'_> {
    Samples { lines: text.lines(), unreadable: 0 }
}

/// Iterator of [`samples`].
#[derive(Clone, Debug)]
pub struct Samples<'a> {
    lines: Lines<'a>,
    unreadable: usize,
}

impl Samples<'_> {
    /// How many lines so far were neither a comment, nor empty, nor a sample.
    pub fn unreadable_lines(&self) -> usize {
        self.unreadable
    }
}

impl<'a> Iterator for Samples<'a> {
    type Item = Sample<'a>;

    fn next(&mut self) -> Option<Sample<'a>> {
        loop {
            let line = self.lines.next()?.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(sample) = read_sample(line) {
                return Some(sample);
            }
            self.unreadable += 1;
        }
    }
}

fn read_sample(line: &str) -> Option<Sample<'_>> {
    let (name, rest) = read_name(line)?;
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(inside) => read_labels(inside)?,
        None if rest.starts_with(char::is_whitespace) => (Vec::new(), rest),
        None => return None,
    };
    // what follows the value is a timestamp or an exemplar
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

/// A metric's or label's name, and what follows it.
fn read_name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let starts_well = name.starts_with(|c: char| !c.is_ascii_digit());
    starts_well.then_some((name, rest))
}

/// Labels and their names, in the order written.
type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// The labels after an opening brace, and what follows the closing one.
fn read_labels(mut text: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = read_name(text)?;
        let rest = rest.trim_start().strip_prefix('=')?;
        let (value, rest) = read_quoted(rest.trim_start().strip_prefix('"')?)?;
        labels.push((name, value));
        text = rest.trim_start();
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None if text.starts_with('}') => {}
            None => return None,
        }
    }
}

/// The text after an opening quote up to the closing one, unescaped, and what follows.
fn read_quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = closing_quote(text.as_bytes())?;
    let raw = text.get(..end)?;
    let value = if raw.contains('\\') { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) };
    Some((value, text.get(end + 1..)?))
}

fn closing_quote(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let hit = at + memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[hit] == b'"' {
            return Some(hit);
        }
        at = hit + 2;
    }
}

/// Resolves `\\`, `\"` and `\n`; any other backslash stands for itself.
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(c @ ('\\' | '"')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads one line and compares it with `name`, labels and the value's text.
    fn check(line: &str, name: &str, labels: &[(&str, &str)], value: f64) {
        let all: Vec<_> = samples(line).collect();
        let [sample] = all.as_slice() else { panic!("{line}: {all:?}") };
        assert_eq!(sample.name, name, "{line}");
        let have: Vec<_> = sample.labels.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        assert_eq!(have, labels, "{line}");
        assert!(sample.value.total_cmp(&value).is_eq(), "{line}: {}", sample.value);
    }

    fn refuse(line: &str) {
        let mut samples = samples(line);
        assert_eq!(samples.next(), None, "{line}");
        assert_eq!(samples.unreadable_lines(), 1, "{line}");
    }

    #[test]
    fn samples_are_read_with_and_without_labels() {
        check("up 1", "up", &[], 1.0);
        check("up\t1\r\n", "up", &[], 1.0);
        check("  vllm:x_total {} 3.0", "vllm:x_total", &[], 3.0);
        check(r#"a{b="c",d="e"} 2"#, "a", &[("b", "c"), ("d", "e")], 2.0);
        check(r#"a { b = "c" , d="e", } 2"#, "a", &[("b", "c"), ("d", "e")], 2.0);
        check(r#"a{b=""}2"#, "a", &[("b", "")], 2.0);
    }

    #[test]
    fn label_values_may_hold_anything() {
        check(r#"a{m="x y, z} 3 # \"q\" \\ \n"} 1"#, "a", &[("m", "x y, z} 3 # \"q\" \\ \n")], 1.0);
        check(r#"a{m="\\",n="\\\""} 1"#, "a", &[("m", "\\"), ("n", "\\\"")], 1.0);
        check(r#"a{m="C:\dir\é"} 1"#, "a", &[("m", "C:\\dir\\é")], 1.0);
        check(r#"a{m="名前=\"{}\""} 1"#, "a", &[("m", "名前=\"{}\"")], 1.0);
    }

    #[test]
    fn timestamps_and_exemplars_are_passed_over() {
        check("a 1 1395066363000", "a", &[], 1.0);
        check(r#"a_bucket{le="1"} 5 # {trace="x} 9"} 0.5 123.4"#, "a_bucket", &[("le", "1")], 5.0);
    }

    #[test]
    fn numbers_are_read_as_servers_write_them() {
        check("a 1.79548860191e+09", "a", &[], 1_795_488_601.91);
        check("a 9007199254740991", "a", &[], 9_007_199_254_740_991.0);
        check("a +Inf", "a", &[], f64::INFINITY);
        check("a -Inf", "a", &[], f64::NEG_INFINITY);
        check("a NaN", "a", &[], f64::NAN);
        check("a -0.5", "a", &[], -0.5);
    }

    #[test]
    fn comments_and_empty_lines_are_no_samples() {
        let mut samples = samples("# HELP a b\n\n   \r\n#\n# EOF");
        assert_eq!(samples.next(), None);
        assert_eq!(samples.unreadable_lines(), 0);
    }

    #[test]
    fn what_is_not_a_sample_is_counted() {
        for line in [
            "a",
            "a ",
            "1a 2",
            "a-3",
            "a one",
            "a{",
            "a{}",
            "a{b} 1",
            "a{b=c} 1",
            "a{b=\"c} 1",
            "a{b=\"c\\\"} 1",
            "a{b=\"c\" d=\"e\"} 1",
            "a{,} 1",
            "{\"a\"} 1",
            "<html>",
            "a{b=\"c\"",
            "= 1",
            "a{b=\"c\\",
            "é 1",
        ] {
            refuse(line);
        }
    }

    #[test]
    fn a_bad_line_does_not_hide_the_next() {
        let mut samples = samples("a{b=\" 1\nc 2\n");
        assert_eq!(samples.next().map(|sample| sample.value), Some(2.0));
        assert_eq!(samples.unreadable_lines(), 1);
    }

    proptest! {
        #[test]
        fn any_label_value_survives_escaping(value in ".*") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // a bare CR within a line is trimmed at its end only, and never followed by LF here
            let line = format!("a{{b=\"{escaped}\"}} 1\n");
            let read = samples(&line).next().expect("the line is well formed");
            prop_assert_eq!(read.label("b"), Some(value.as_str()));
        }

        #[test]
        fn no_text_makes_it_panic(text in r#"([a-c_:{}=",\\ \n\r0-9.+eé#-]|\PC){0,80}"#) {
            let _ = samples(&text).count();
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = samples(&String::from_utf8_lossy(&bytes)).count();
        }
    }
}
