//! The replies beside answers: what a server says when it refuses, and which models it serves.

use serde_json::Value;

use crate::text;

/// The server's message out of an error reply's body, whatever its shape: one printable line.
///
/// Knows `{"error": {"message"}}`, `{"error": "…"}`, `{"detail": "…"}`, `{"detail": [{"msg"}]}`, `{"message"}`, HTML and plain
/// text. What has none of these shapes is shown as it is.
pub fn error_message(body: &[u8]) -> String {
    let body = &body[..body.len().min(LOOKED_AT)];
    let spoken = serde_json::from_slice(body).ok().and_then(|json| spoken(&json));
    let message = spoken.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        if text.trim_start().starts_with('<') { words_of_html(&text) } else { text.into_owned() }
    });
    let message = text::printable(&message, MESSAGE_CHARS);
    if message.is_empty() { "the server gave no message".to_owned() } else { message }
}

/// The ids of the models served, as the server spells them, from the reply to `GET /v1/models`.
///
/// # Errors
/// Says why the body is not a list of models.
pub fn model_ids(body: &[u8]) -> Result<Vec<String>, String> {
    let reply: Value =
        serde_json::from_slice(body).map_err(|error| format!("not a list of models: {error}"))?;
    let models = reply.get("data").unwrap_or(&reply).as_array();
    let models = models.ok_or_else(|| "not a list of models: no 'data' in it".to_owned())?;
    Ok(models.iter().filter_map(|model| Some(model.get("id")?.as_str()?.to_owned())).collect())
}

/// Servers that echo the request put the prompt into their message, so this is more than a message.
const LOOKED_AT: usize = 1 << 20;
const MESSAGE_CHARS: usize = 300;

/// The first words found on the way down. `None` if there are none.
fn spoken(json: &Value) -> Option<String> {
    match json {
        Value::String(words) => (!words.trim().is_empty()).then(|| words.clone()),
        Value::Array(items) => {
            let words: Vec<String> = items.iter().filter_map(spoken).collect();
            (!words.is_empty()).then(|| words.join("; "))
        }
        Value::Object(fields) => {
            ["error", "message", "msg", "detail"].iter().find_map(|key| spoken(fields.get(*key)?))
        }
        _ => None,
    }
}

/// The title or, without one, everything outside of tags.
fn words_of_html(html: &str) -> String {
    let title = between(html, "<title>", "</title>").filter(|title| !title.trim().is_empty());
    title.map_or_else(|| without_tags(html), str::to_owned)
}

fn between<'t>(text: &'t str, opening: &str, closing: &str) -> Option<&'t str> {
    let lower = text.to_ascii_lowercase(); // ASCII only: the byte offsets stay
    let start = lower.find(opening)? + opening.len();
    let end = start + lower[start..].find(closing)?;
    text.get(start..end)
}

fn without_tags(html: &str) -> String {
    let mut words = String::new();
    for piece in html.split('<') {
        words.push_str(piece.split_once('>').map_or(piece, |(_tag, words)| words));
        words.push(' ');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, want: &str) {
        assert_eq!(error_message(body.as_bytes()), want, "{body}");
    }

    #[test]
    fn every_shape_of_error_has_its_message() {
        check(
            r#"{"error":{"message":"model not found","type":"NotFoundError","code":404}}"#,
            "model not found",
        );
        check(r#"{"error":"Unauthorized"}"#, "Unauthorized");
        check(r#"{"detail":"Not Found"}"#, "Not Found");
        check(
            r#"{"detail":[{"loc":["body"],"msg":"field required"},{"msg":"and so is this"}]}"#,
            "field required; and so is this",
        );
        check(r#"{"object":"error","message":"too long","code":400}"#, "too long");
        check(r#"{"error":true,"message":"no capacity"}"#, "no capacity");
        check(r#"[{"error":{"code":400,"message":"bad key","status":"INVALID"}}]"#, "bad key");
        check("upstream connect error\n", "upstream connect error");
    }

    #[test]
    fn a_page_is_known_by_its_title_or_its_words() {
        check(
            "<html>\n<head><TITLE>502 Bad\nGateway</TITLE></head><body>nginx</body></html>",
            "502 Bad Gateway",
        );
        check("<!doctype html><h1>Oops</h1><p>Try <b>later</b></p>", "Oops Try later");
        check("<title></title>İ no title", "İ no title");
        check("<title>İ never ends", "İ never ends");
    }

    #[test]
    fn what_says_nothing_is_shown_as_it_is() {
        check(r#"{"code":7}"#, r#"{"code":7}"#);
        check(r#"{"error":{}}"#, r#"{"error":{}}"#);
        check("", "the server gave no message");
        check(" \r\n\u{0}", "the server gave no message");
    }

    #[test]
    fn messages_are_short_and_printable() {
        check(r#"{"error":"\u001b[31mred\nalert"}"#, "[31mred alert");
        assert_eq!(error_message(&[b'x'; 9_999]).chars().count(), MESSAGE_CHARS + 1);
        assert_eq!(error_message(b"\xff\xfe no"), "\u{fffd}\u{fffd} no");
    }

    #[test]
    fn models_are_listed_by_id() {
        let body =
            br#"{"object":"list","data":[{"id":"a","max_model_len":2048},{"id":"b"},{"name":"no id"}]}"#;
        assert_eq!(model_ids(body), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(model_ids(br#"[{"id":"a"}]"#), Ok(vec!["a".to_owned()]));
        assert_eq!(model_ids(br#"{"data":[]}"#), Ok(vec![]));
    }

    #[test]
    fn what_is_no_list_of_models_is_refused() {
        assert_eq!(
            model_ids(br#"{"detail":"Not Found"}"#),
            Err("not a list of models: no 'data' in it".to_owned())
        );
        assert!(model_ids(b"<html>").is_err_and(|error| error.starts_with("not a list of models: ")));
    }
}
