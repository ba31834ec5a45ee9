//! Reply headers in which servers and gateways tell how long they took.
//!
//! With a streamed reply headers leave before the work is done, so they time the way to the first byte only.

/// The timings that one header holds: each with a name fit for results, unit included, and its milliseconds.
///
/// Empty for headers that are no known timing and for values that are no number of at least 0. Only `server-timing`
/// holds more than one.
///
/// ```
/// use vllm_loadgen::observe::timing_header;
/// assert_eq!(timing_header("X-Compute-Time", "0.25"), [("x_compute_time_ms".to_owned(), 250.0)]);
/// ```
pub fn timing_header(name: &str, value: &str) -> Vec<(String, f64)> {
    if name.eq_ignore_ascii_case("server-timing") {
        return server_timings(value);
    }
    let known = TIMINGS.iter().find(|(known, ..)| name.eq_ignore_ascii_case(known));
    let timing = known.and_then(|&(_, canonical, ms)| Some((canonical.to_owned(), read_ms(value, ms)?)));
    timing.into_iter().collect()
}

const MS: f64 = 1.0;
const SECONDS: f64 = 1e3;

/// Header, name in results, milliseconds of one unit.
const TIMINGS: &[(&str, &str, f64)] = &[
    // OpenAI, Azure
    ("openai-processing-ms", "openai_processing_ms", MS),
    // TGI; the first of them is in seconds
    ("x-compute-time", "x_compute_time_ms", SECONDS),
    ("x-total-time", "x_total_time_ms", MS),
    ("x-validation-time", "x_validation_time_ms", MS),
    ("x-queue-time", "x_queue_time_ms", MS),
    ("x-inference-time", "x_inference_time_ms", MS),
    ("x-time-per-token", "x_time_per_token_ms", MS),
    // Envoy, Istio
    ("x-envoy-upstream-service-time", "x_envoy_upstream_service_time_ms", MS),
    // LiteLLM
    ("x-litellm-response-duration-ms", "x_litellm_response_duration_ms", MS),
    ("x-litellm-overhead-duration-ms", "x_litellm_overhead_duration_ms", MS),
    // Fireworks
    ("fireworks-server-time-to-first-token", "fireworks_server_time_to_first_token_ms", SECONDS),
    ("fireworks-server-processing-time", "fireworks_server_processing_time_ms", SECONDS),
];

fn read_ms(value: &str, ms_per_unit: f64) -> Option<f64> {
    let ms = value.trim().parse::<f64>().ok()? * ms_per_unit;
    (ms.is_finite() && ms >= 0.0).then_some(ms)
}

/// `db;dur=53.2, app;desc="a, b";dur=12` (W3C Server Timing): entries without a duration are passed over.
fn server_timings(value: &str) -> Vec<(String, f64)> {
    split_unquoted(value, ',').filter_map(server_timing).take(MAX_SERVER_TIMINGS).collect()
}

/// A reply cannot make results grow without end.
const MAX_SERVER_TIMINGS: usize = 16;
const MAX_NAME_CHARS: usize = 40;

fn server_timing(entry: &str) -> Option<(String, f64)> {
    let mut parts = split_unquoted(entry, ';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let ms = parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        let is_duration = key.trim().eq_ignore_ascii_case("dur");
        is_duration.then(|| read_ms(value.trim().trim_matches('"'), MS))?
    })?;
    Some((format!("server_timing_{}_ms", snake_case(name)), ms))
}

/// A stranger's name made fit for results: lower case, digits and underscores, and not too long.
fn snake_case(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    name.chars().take(MAX_NAME_CHARS).map(fit).collect()
}

/// Splits at `separator` where it stands outside double quotes.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c: char| {
        let literal = std::mem::take(&mut escaped);
        match c {
            '\\' if quoted && !literal => escaped = true,
            '"' if !literal => quoted = !quoted,
            c => return c == separator && !quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(name: &str, value: &str, want: &[(&str, f64)]) {
        let timings = timing_header(name, value);
        let have: Vec<_> = timings.iter().map(|(name, ms)| (name.as_str(), *ms)).collect();
        assert_eq!(have, want, "{name}: {value}");
    }

    #[test]
    fn known_headers_give_milliseconds() {
        check("openai-processing-ms", "412", &[("openai_processing_ms", 412.0)]);
        check("OpenAI-Processing-MS", " 412 ", &[("openai_processing_ms", 412.0)]);
        check("x-compute-time", "1.5", &[("x_compute_time_ms", 1500.0)]);
        check("x-time-per-token", "9", &[("x_time_per_token_ms", 9.0)]);
        check("X-Envoy-Upstream-Service-Time", "7", &[("x_envoy_upstream_service_time_ms", 7.0)]);
        check("fireworks-server-processing-time", "0.5", &[("fireworks_server_processing_time_ms", 500.0)]);
    }

    #[test]
    fn names_in_results_are_the_headers_own_with_their_unit() {
        for &(header, canonical, _) in TIMINGS {
            let name = header.replace('-', "_");
            let name = name.strip_suffix("_ms").unwrap_or(&name);
            assert_eq!(canonical, format!("{name}_ms"));
        }
    }

    #[test]
    fn server_timing_holds_several() {
        check(
            "server-timing",
            "db;dur=53.2, app;dur=12",
            &[("server_timing_db_ms", 53.2), ("server_timing_app_ms", 12.0)],
        );
        check(
            "Server-Timing",
            r#"a-B;desc="x, y;dur=9 \" ,";dur="4", miss, c;dur=bad"#,
            &[("server_timing_a_b_ms", 4.0)],
        );
        check("server-timing", "total;Dur = 3;dur=5", &[("server_timing_total_ms", 3.0)]);
        check("server-timing", ";dur=3,,", &[]);
        assert_eq!(timing_header("server-timing", &"a;dur=1,".repeat(1000)).len(), MAX_SERVER_TIMINGS);
    }

    #[test]
    fn what_is_no_timing_gives_none() {
        check("x-request-id", "12", &[]);
        for value in ["", "fast", "-1", "NaN", "inf", "1e308"] {
            check("x-compute-time", value, &[]);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(value in r#"([a-z;=,"\\ 0-9.-]|\PC){0,60}"#) {
            for (name, ms) in timing_header("server-timing", &value) {
                prop_assert!(ms.is_finite() && name.is_ascii());
            }
        }
    }
}
