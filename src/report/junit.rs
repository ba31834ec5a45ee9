//! Verdicts as JUnit XML, the form that CI systems show: a suite for each run, a case for each threshold.

use std::io::{self, Write};

use super::Report;
use super::naming::told_apart;
use super::words::judgement;
use crate::analysis::Outcome;
use crate::text::is_invisible;

/// One case of a suite.
pub(super) struct Case {
    /// What was judged.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The figures behind it.
    pub message: String,
}

/// Writes a suite for each report, those of one name numbered, with a case for each of its thresholds; inconclusive ones are skipped.
///
/// # Errors
/// Those of the writer.
pub fn write_junit<'a>(reports: impl IntoIterator<Item = &'a Report>, out: &mut dyn Write) -> io::Result<()> {
    let suites = reports.into_iter().map(|report| {
        let scenario = report.plan.scenario.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
        let cases = report.thresholds.iter().map(|judged| Case {
            name: judged.threshold.clone(),
            outcome: judged.verdict,
            message: judgement(judged),
        });
        (format!("{scenario}{}", report.plan.load), cases.collect())
    });
    let (names, cases): (Vec<String>, Vec<Vec<Case>>) = suites.unzip();
    let suites: Vec<_> = told_apart(&names).into_iter().zip(cases).collect();
    write_suites("threshold", &suites, out)
}

/// Writes suites by name; `kind` is the type of their failures.
pub(super) fn write_suites(
    kind: &str,
    suites: &[(String, Vec<Case>)],
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"vllm-loadgen\">")?;
    for (name, cases) in suites {
        let count = |outcome| cases.iter().filter(|case| case.outcome == outcome).count();
        writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">",
            escaped(name),
            cases.len(),
            count(Outcome::Failed),
            count(Outcome::Inconclusive)
        )?;
        for case in cases {
            write_case(kind, case, out)?;
        }
        writeln!(out, "  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")
}

fn write_case(kind: &str, case: &Case, out: &mut dyn Write) -> io::Result<()> {
    let (name, message) = (escaped(&case.name), escaped(&case.message));
    write!(out, "    <testcase classname=\"vllm-loadgen\" name=\"{name}\" time=\"0\">")?;
    match case.outcome {
        Outcome::Passed => write!(out, "<system-out>{message}</system-out>")?,
        Outcome::Failed => write!(out, "<failure type=\"{kind}\" message=\"{message}\"/>")?,
        Outcome::Inconclusive => write!(out, "<skipped message=\"inconclusive: {message}\"/>")?,
    }
    writeln!(out, "</testcase>")
}

/// Text within an element or a quoted attribute; characters that XML 1.0 does not know, or that steer a terminal, are
/// dropped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() || is_invisible(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_passed_failed_or_skipped() {
        let case = |name: &str, outcome| Case {
            name: name.to_owned(),
            outcome,
            message: "5 > 4 \u{1b}\u{9b}\u{202e}[0m".to_owned(),
        };
        let cases = vec![
            case("a<b", Outcome::Passed),
            case("\"c\"", Outcome::Failed),
            case("d&e", Outcome::Inconclusive),
        ];
        let mut out = Vec::new();
        write_suites("threshold", &[("one\ntwo".to_owned(), cases)], &mut out).expect("a vector takes all");
        let want = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="vllm-loadgen">
  <testsuite name="one two" tests="3" failures="1" errors="0" skipped="1">
    <testcase classname="vllm-loadgen" name="a&lt;b" time="0"><system-out>5 &gt; 4 [0m</system-out></testcase>
    <testcase classname="vllm-loadgen" name="&quot;c&quot;" time="0"><failure type="threshold" message="5 &gt; 4 [0m"/></testcase>
    <testcase classname="vllm-loadgen" name="d&amp;e" time="0"><skipped message="inconclusive: 5 &gt; 4 [0m"/></testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(String::from_utf8(out).expect("UTF-8"), want);
    }
}
