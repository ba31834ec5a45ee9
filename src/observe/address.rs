//! Where a server's metrics are, told from where its API is.

/// The `/metrics` beside an API endpoint: the path from `/v1` on, or a server's own route such as `/generate`, gives way.
///
/// A path that is neither is taken for a prefix and kept; query and fragment go.
pub fn metrics_url(endpoint: &str) -> String {
    let endpoint = endpoint.split(['?', '#']).next().unwrap_or_default();
    let host_at = endpoint.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = endpoint.split_at(host_at);
    let mut segments = rest.split('/');
    let mut url = format!("{scheme}{}", segments.next().unwrap_or_default());
    for segment in segments.take_while(|segment| !is_route(segment)).filter(|segment| !segment.is_empty()) {
        url.push('/');
        url.push_str(segment);
    }
    url + "/metrics"
}

/// Whether a path's segment begins the API: a version, or a route that servers have beside `/v1`.
fn is_route(segment: &str) -> bool {
    let is_version = segment
        .strip_prefix('v')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    is_version || ROUTES.contains(&segment)
}

const ROUTES: &[&str] =
    &["chat", "completion", "completions", "embeddings", "generate", "generate_stream", "metrics"];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(endpoint: &str, want: &str) {
        assert_eq!(metrics_url(endpoint), want, "{endpoint}");
    }

    #[test]
    fn the_api_path_gives_way() {
        check("http://h:8000/v1/chat/completions", "http://h:8000/metrics");
        check("http://h/prefix/v1/completions", "http://h/prefix/metrics");
        check("https://h/a/b/v1", "https://h/a/b/metrics");
        check("http://h/v3/chat/completions", "http://h/metrics");
        check("http://h:8080/generate_stream", "http://h:8080/metrics");
        check("http://h:8080/completion?x=1#y", "http://h:8080/metrics");
        check("http://h/metrics", "http://h/metrics");
    }

    #[test]
    fn a_bare_server_gets_the_usual_path() {
        check("http://h:8000", "http://h:8000/metrics");
        check("http://h:8000/", "http://h:8000/metrics");
        check("http://[::1]:8000//v1/", "http://[::1]:8000/metrics");
        check("h:8000/v1", "h:8000/metrics");
        check("http://v1/v1", "http://v1/metrics");
    }

    #[test]
    fn a_prefix_is_kept() {
        check("http://h/llm", "http://h/llm/metrics");
        check("http://h/v1beta/x", "http://h/v1beta/x/metrics");
        check("http://h/vllm/v1/models", "http://h/vllm/metrics");
    }

    #[test]
    fn no_text_makes_it_panic() {
        for endpoint in ["", "/", "://", "?", "é://ü/v1", "http://", "#"] {
            assert!(metrics_url(endpoint).ends_with("/metrics"), "{endpoint}");
        }
    }
}
