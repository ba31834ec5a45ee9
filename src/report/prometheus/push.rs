//! What a Pushgateway is sent: a group for each test, with the results of its runs.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::{Labels, families, series_labels, write_text};
use crate::report::Report;

/// The results of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushGroup {
    /// Path of the group behind the Pushgateway's URL, encoded: `/metrics/job/vllm-loadgen/test/NAME`.
    pub path: String,
    /// Its metrics in Prometheus' text format.
    pub body: Vec<u8>,
}

/// The groups of these runs, in the order in which their tests come first. Labels are those of the text file.
pub fn push_groups(reports: &[Report]) -> Vec<PushGroup> {
    let mut tests: Vec<(String, Vec<(&Report, Labels)>)> = Vec::new();
    for (report, labels) in reports.iter().zip(series_labels(reports)) {
        let test = labels.iter().find(|(name, _)| name == "test").map_or("", |(_, test)| test);
        match tests.iter_mut().find(|(known, _)| known == test) {
            Some((_, runs)) => runs.push((report, labels)),
            None => tests.push((test.to_owned(), vec![(report, labels)])),
        }
    }
    let group = |(test, runs): (String, Vec<_>)| {
        let mut body = Vec::new();
        write_text(&families(&runs), &mut body).expect("a vector takes all");
        PushGroup { path: format!("/metrics/job/vllm-loadgen/{}", segment("test", &test)), body }
    };
    tests.into_iter().map(group).collect()
}

/// Name and value of a label as a part of the path. A value that a path cannot carry as it is goes as base64; an empty one is
/// a lone `=` there.
fn segment(name: &str, value: &str) -> String {
    let is_plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b));
    match value {
        "" => format!("{name}@base64/="),
        "." | ".." => format!("{name}@base64/{}", BASE64_URL_SAFE_NO_PAD.encode(value)),
        _ if is_plain => format!("{name}/{value}"),
        _ => format!("{name}@base64/{}", BASE64_URL_SAFE_NO_PAD.encode(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_cannot_carry_goes_as_base64() {
        for (value, want) in [
            ("default", "test/default"),
            ("v1.2_a-b~", "test/v1.2_a-b~"),
            ("nightly/Small Load", "test@base64/bmlnaHRseS9TbWFsbCBMb2Fk"),
            ("é?", "test@base64/w6k_"),
            ("..", "test@base64/Li4"),
            ("", "test@base64/="),
        ] {
            assert_eq!(segment("test", value), want, "{value}");
        }
    }
}
