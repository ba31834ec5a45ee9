//! Metric families and how they are written: Prometheus text format 0.0.4, and OpenMetrics 1.0 with times.
//!
//! Knows no metric by name. Every label value and help text is escaped; label names are the caller's care.

use std::borrow::Cow;
use std::io::{self, Write};

/// The media type of the text format.
pub const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All samples of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name, without what samples append, but for a counter's `_total`.
    pub name: &'static str,
    /// What it is, in a sentence with its unit.
    pub help: &'static str,
    /// How its samples are to be read.
    pub kind: Kind,
    /// Its samples, in the order in which they are written.
    pub samples: Vec<Sample>,
}

/// The types of metrics that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A count that only grows; its name ends in `_total`.
    Counter,
    /// Counts of values up to each bound, cumulative.
    Histogram,
    /// Quantiles, sum and count.
    Summary,
    /// Labels that tell something; the value is 1 and the name ends in `_info`.
    Info,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What the family's name is followed by, such as `_sum`.
    pub suffix: &'static str,
    /// The labels that tell the series from the family's others.
    pub labels: Labels,
    /// The label of a part of a distribution, `le` or `quantile`, with its value.
    pub part: Option<(&'static str, Cow<'static, str>)>,
    /// The value.
    pub value: f64,
    /// When it was so, in milliseconds since 1970; only OpenMetrics is written with it.
    pub at_ms: i64,
}

/// Labels by name, in the order in which they are written.
pub type Labels = Vec<(Cow<'static, str>, String)>;

impl Family {
    /// A family without samples.
    pub fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, help, kind, samples: Vec::new() }
    }

    /// Adds a value without suffix, part or time.
    pub fn push(&mut self, labels: Labels, value: f64) {
        self.samples.push(Sample { suffix: "", labels, part: None, value, at_ms: 0 });
    }
}

/// Writes the families that have samples in text format 0.0.4, without times.
///
/// # Errors
/// Those of the writer.
pub fn write_text(families: &[Family], out: &mut dyn Write) -> io::Result<()> {
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let kind = match family.kind {
            Kind::Gauge | Kind::Info => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        };
        // unlike in OpenMetrics, quotes are plain in a help text
        writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", family.name, help(family.help), family.name)?;
        for sample in &family.samples {
            write_sample(family.name, sample, out)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Writes the families that have samples as OpenMetrics 1.0, each sample with its time, and the mark of the end. Series
/// follow one another; within a series samples stay in their order.
///
/// # Errors
/// Those of the writer.
pub fn write_openmetrics(families: &[Family], out: &mut dyn Write) -> io::Result<()> {
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let (kind, ending) = match family.kind {
            Kind::Gauge => ("gauge", ""),
            Kind::Counter => ("counter", "_total"),
            Kind::Histogram => ("histogram", ""),
            Kind::Summary => ("summary", ""),
            Kind::Info => ("info", "_info"),
        };
        let name = family.name.strip_suffix(ending).unwrap_or(family.name);
        writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", escaped(family.help))?;
        if let Some(unit) = ["seconds", "ratio"].iter().find(|unit| name.ends_with(&format!("_{unit}"))) {
            writeln!(out, "# UNIT {name} {unit}")?;
        }
        let mut samples: Vec<&Sample> = family.samples.iter().collect();
        samples.sort_by(|a, b| a.labels.cmp(&b.labels));
        for sample in samples {
            write_sample(family.name, sample, out)?;
            writeln!(out, " {:.3}", sample.at_ms as f64 / 1e3)?;
        }
    }
    writeln!(out, "# EOF")
}

fn write_sample(name: &str, sample: &Sample, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{name}{}", sample.suffix)?;
    let labels = sample.labels.iter().map(|(name, value)| (name.as_ref(), value.as_str()));
    let part = sample.part.iter().map(|(name, value)| (*name, value.as_ref()));
    let mut before = '{';
    for (name, value) in labels.chain(part) {
        write!(out, "{before}{name}=\"{}\"", escaped(value))?;
        before = ',';
    }
    let end = if before == ',' { "}" } else { "" };
    write!(out, "{end} {}", sample.value)
}

fn help(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

/// A label value as it stands between quotes.
fn escaped(text: &str) -> String {
    help(text).replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: fn(&[Family], &mut dyn Write) -> io::Result<()>, families: &[Family]) -> String {
        let mut out = Vec::new();
        write(families, &mut out).expect("a vector takes all");
        String::from_utf8(out).expect("UTF-8")
    }

    fn families() -> Vec<Family> {
        let mut info = Family::new("a_info", Kind::Info, "What \"a\" is.");
        info.push(vec![("model".into(), "x\"y\\z\nw".to_owned())], 1.0);
        let mut seconds = Family::new("b_seconds", Kind::Summary, "Line\nbreak.");
        for (at_ms, name) in [(1_500, "q"), (2_000, "p"), (2_001, "q")] {
            seconds.samples.push(Sample {
                suffix: "",
                labels: vec![("test".into(), name.to_owned())],
                part: Some(("quantile", "0.5".into())),
                value: 0.25,
                at_ms,
            });
        }
        vec![info, Family::new("empty", Kind::Gauge, "Nothing."), seconds]
    }

    #[test]
    fn the_text_format_has_no_times_and_escapes_what_it_must() {
        let want = "# HELP a_info What \"a\" is.\n# TYPE a_info gauge\na_info{model=\"x\\\"y\\\\z\\nw\"} 1\n\
                    # HELP b_seconds Line\\nbreak.\n# TYPE b_seconds summary\n\
                    b_seconds{test=\"q\",quantile=\"0.5\"} 0.25\n\
                    b_seconds{test=\"p\",quantile=\"0.5\"} 0.25\n\
                    b_seconds{test=\"q\",quantile=\"0.5\"} 0.25\n";
        assert_eq!(text(write_text, &families()), want);
    }

    #[test]
    fn openmetrics_has_times_units_and_an_end() {
        let want = "# HELP a What \\\"a\\\" is.\n# TYPE a info\na_info{model=\"x\\\"y\\\\z\\nw\"} 1 0.000\n\
                    # HELP b_seconds Line\\nbreak.\n# TYPE b_seconds summary\n# UNIT b_seconds seconds\n\
                    b_seconds{test=\"p\",quantile=\"0.5\"} 0.25 2.000\n\
                    b_seconds{test=\"q\",quantile=\"0.5\"} 0.25 1.500\n\
                    b_seconds{test=\"q\",quantile=\"0.5\"} 0.25 2.001\n# EOF\n";
        assert_eq!(text(write_openmetrics, &families()), want);
    }
}
