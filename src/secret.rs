//! Values that must never be shown, and the headers whose values are such.

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value};

/// A key or token. Shows as `***` everywhere; only [`reveal`](Secret::reveal) gives it away, to the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the value in, without the white space and line end that files and variables carry along.
    pub fn new(value: &str) -> Self {
        Self(value.trim().to_owned())
    }

    /// The value itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// What stands in for a secret.
pub const MASK: &str = "***";

/// Whether a header of this name carries a secret: authorization, keys, tokens, cookies.
pub fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "key", "token", "cookie", "secret", "password", "credential", "signature", "session"]
        .iter()
        .any(|word| name.contains(word))
}

/// Whether a header of this name carries a key, which lets its sender in.
pub fn carries_key(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "key", "token"].iter().any(|word| name.contains(word))
}

/// What must not be shown of the value of a header that carries a secret: the whole, each of its words, and the values
/// among them, as in `session=…; theme=…`. Of an authorization, the scheme is no secret.
pub fn secrets_of_header(value: &Secret) -> Vec<Secret> {
    let words = value.0.split([' ', '\t', ';', ',', '"']).filter(|word| !word.is_empty());
    let words = words.filter(|word| !SCHEMES.iter().any(|scheme| scheme.eq_ignore_ascii_case(word)));
    let parts = words.flat_map(|word| [Some(word), word.split_once('=').map(|(_, value)| value)]);
    std::iter::once(value.0.as_str()).chain(parts.flatten()).map(Secret::new).collect()
}

/// Schemes of authorization, which stand before the secret; shorter ones are not masked anyway.
const SCHEMES: [&str; 5] = ["Bearer", "Digest", "ApiKey", "Api-Key", "Negotiate"];

/// The texts in a JSON object that stand under names of secrets, at whatever depth, as they are and as JSON writes them.
pub fn secrets_of_object(fields: &Map<String, Value>) -> Vec<Secret> {
    fields.iter().flat_map(|(name, value)| secrets_of_value(value, is_secret_field(name))).collect()
}

fn secrets_of_value(value: &Value, is_secret: bool) -> Vec<Secret> {
    match value {
        Value::String(text) if is_secret => {
            let written = value.to_string();
            vec![Secret::new(text), Secret::new(written.trim_matches('"'))]
        }
        Value::Array(items) => items.iter().flat_map(|item| secrets_of_value(item, is_secret)).collect(),
        Value::Object(fields) => {
            let inner = |(name, value): (&String, &Value)| {
                secrets_of_value(value, is_secret || is_secret_field(name))
            };
            fields.iter().flat_map(inner).collect()
        }
        _ => vec![],
    }
}

/// Secrets in every form in which they may come back: as they are, and as JSON writes them, where some escape `/` and all
/// that is not ASCII.
pub fn in_every_form(secrets: Vec<Secret>) -> Vec<Secret> {
    let mut forms = secrets;
    for number in 0..forms.len() {
        let written = Value::from(forms[number].reveal()).to_string();
        let written = &written[1..written.len() - 1];
        let ascii: String = written.chars().map(in_ascii).collect();
        for form in [written, &written.replace('/', "\\/"), &ascii, &ascii.replace('/', "\\/")] {
            if forms.iter().all(|known| known.0 != *form) {
                forms.push(Secret(form.to_owned()));
            }
        }
    }
    forms
}

/// A character of a JSON text as writers put it that keep to ASCII.
fn in_ascii(c: char) -> String {
    if c.is_ascii() {
        return c.to_string();
    }
    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// Whether a word that was typed where none or a file was expected may be a key, and is not to be shown: it begins as keys
/// of known services do, or is long, has digits and stands in no folder.
pub fn may_be_key(word: &str) -> bool {
    let word = word.trim();
    let begins =
        |start: &&str| word.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start));
    let folder = Path::new(word).parent().filter(|folder| !folder.as_os_str().is_empty());
    let is_path = folder.is_some_and(Path::is_dir) || word.starts_with("http");
    let is_long = word.len() >= if word.contains(['.', '/']) { 40 } else { 16 };
    KEYS.iter().any(begins) || (is_long && !is_path && word.bytes().any(|byte| byte.is_ascii_digit()))
}

/// How keys begin.
const KEYS: [&str; 12] =
    ["sk-", "sk_", "token-", "key-", "Bearer ", "Basic ", "hf_", "gsk_", "xai-", "nvapi-", "AIza", "eyJ"];

/// Text with every one of these secrets masked: a server may echo what it was sent. So is the beginning of one wherever
/// the text was cut (`…`). Very short secrets are left, for they stand in ordinary words too.
pub fn redacted(text: &str, secrets: &[Secret]) -> String {
    let mut worth_masking: Vec<_> = secrets.iter().filter(|secret| secret.0.len() >= SHORTEST).collect();
    // one secret may be a part of another
    worth_masking.sort_by_key(|secret| std::cmp::Reverse(secret.0.len()));
    worth_masking.into_iter().fold(text.to_owned(), |text, secret| {
        let text = text.replace(&secret.0, MASK);
        let Some((cut, rest)) = text.rsplit_once('…') else { return text };
        let pieces: Vec<_> = cut.split('…').map(|piece| without_beginning(piece, &secret.0)).collect();
        format!("{}…{rest}", pieces.join("…"))
    })
}

/// The text before a cut; the beginning of the secret at its end is masked.
fn without_beginning(piece: &str, secret: &str) -> String {
    let beginnings = secret.char_indices().map(|(end, _)| &secret[..end]).rev();
    match beginnings.take_while(|part| part.len() >= SHORTEST).find_map(|part| piece.strip_suffix(part)) {
        Some(rest) => format!("{rest}{MASK}"),
        None => piece.to_owned(),
    }
}

/// Likewise for text that may have been cut anywhere and does not say so: the beginning of a secret at its end is masked
/// too.
pub fn redacted_to_the_end(text: &str, secrets: &[Secret]) -> String {
    let mut masked = redacted(&format!("{text}…"), secrets);
    if masked.ends_with('…') {
        masked.pop();
    }
    masked
}

/// Bytes of the shortest text that is worth masking.
const SHORTEST: usize = 6;

/// A URL fit to be shown: without user name and password, and without the values of query fields that carry secrets.
pub fn shown_url(url: &str) -> String {
    let url = without_userinfo(url);
    let Some((address, query)) = url.split_once('?') else { return url };
    let masked = query.split('&').map(|field| match field.split_once('=') {
        Some((name, _)) if is_secret_field(name) => format!("{name}={MASK}"),
        _ => field.to_owned(),
    });
    format!("{address}?{}", masked.collect::<Vec<_>>().join("&"))
}

/// Whether a field of this name carries a secret, in a query or in JSON.
pub fn is_secret_field(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    is_secret_header(&name) || ["sig", "code"].contains(&name.as_str())
}

fn without_userinfo(url: &str) -> String {
    // what has no scheme may have a password nevertheless
    let (scheme, rest) = url.find("://").map_or(("", url), |at| url.split_at(at + 3));
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let userinfo = match authority.rfind('@') {
        // a password with a / or a ? that should have been percent-encoded
        None if !has_port_or_none(authority) => rest.rfind('@'),
        found => found,
    };
    match userinfo {
        Some(at) => format!("{scheme}{MASK}@{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

/// Whether what follows a host's last colon, if it has one, is a port; the colons of `[::1]` are none.
fn has_port_or_none(authority: &str) -> bool {
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    port.ends_with(']') || port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::new(" sk-canary\n");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.reveal(), "sk-canary");
    }

    #[test]
    fn an_echoed_secret_is_masked() {
        let secrets = [Secret::new("sk-canary"), Secret::new("a")];
        assert_eq!(
            redacted("no such key: sk-canary, ask an admin", &secrets),
            "no such key: ***, ask an admin"
        );
        let one_in_the_other = [Secret::new("canary"), Secret::new("canary-two")];
        assert_eq!(redacted("canary-two, canary", &one_in_the_other), "***, ***");
    }

    #[test]
    fn a_secret_that_breaks_off_is_masked() {
        let secrets = [Secret::new("sk-canary")];
        for (text, want) in [
            ("it is sk-canary", "it is ***"),
            ("it is sk-cana", "it is ***"),
            ("it is sk-ca", "it is sk-ca"),
            ("sk-cana, it is", "sk-cana, it is"),
            ("and so on…", "and so on…"),
            ("", ""),
        ] {
            assert_eq!(redacted_to_the_end(text, &secrets), want);
        }
        let with_dots = [Secret::new("canary…")];
        assert_eq!(redacted_to_the_end("a canary", &with_dots), "a ***");
    }

    #[test]
    fn a_secret_that_was_cut_in_the_middle_of_a_text_is_masked() {
        let secrets = [Secret::new("sk-canary-plain")];
        let cut = "event 2, '{\"n\": \"sk-canary-pl…': invalid type: string \"sk-canary-plain\", sk-can…";
        assert_eq!(redacted(cut, &secrets), "event 2, '{\"n\": \"***…': invalid type: string \"***\", ***…");
    }

    #[test]
    fn a_secret_is_masked_as_json_writes_it_too() {
        let secrets = in_every_form(vec![Secret::new("can/a\"r\\yü")]);
        for form in [r#"can/a"r\yü"#, r#"can/a\"r\\yü"#, r#"can\/a\"r\\yü"#, r#"can\/a\"r\\y\u00fc"#] {
            assert_eq!(redacted(&format!("no key {form}."), &secrets), "no key ***.", "{form}");
        }
        assert_eq!(in_every_form(vec![Secret::new("sk-plain")]).len(), 1);
    }

    #[test]
    fn a_key_that_was_typed_for_a_file_is_known() {
        for key in ["sk-ab", "SK-AB", "token-abc123", "0123456789abcdef0", "eyJh.bc.de"] {
            assert!(may_be_key(key), "{key}");
        }
        for word in [
            "key.txt",
            "nokey",
            "/tmp/0123456789abcdef0123456789abcdef012345",
            "10",
            "https://h1/aaaaaaaaaaaaa",
        ] {
            assert!(!may_be_key(word), "{word}");
        }
    }

    #[test]
    fn the_parts_of_a_header_are_secrets_too() {
        let parts = |value: &str| -> Vec<String> {
            secrets_of_header(&Secret::new(value)).into_iter().map(|secret| secret.0).collect()
        };
        assert_eq!(parts("Bearer abc=="), ["Bearer abc==", "abc==", "="]);
        assert_eq!(parts("a=1; b=2"), ["a=1; b=2", "a=1", "1", "b=2", "2"]);
    }

    #[test]
    fn texts_under_names_of_secrets_are_secrets_at_every_depth() {
        let Value::Object(object) =
            serde_json::json!({"token": "a\"b", "x": [{"keys": ["c", 1]}], "auth": {"user": "d"}, "y": "e"})
        else {
            unreachable!("it is one")
        };
        let found: Vec<_> = secrets_of_object(&object).into_iter().map(|secret| secret.0).collect();
        for part in ["a\"b", "a\\\"b", "c", "d"] {
            assert!(found.contains(&part.to_owned()), "{part}: {found:?}");
        }
        assert!(!found.contains(&"e".to_owned()), "{found:?}");
    }

    #[test]
    fn secret_headers_are_known_by_name() {
        for name in [
            "Authorization",
            "X-Api-Key",
            "Proxy-Authorization",
            "Cookie",
            "x-auth-token",
            "Ocp-Apim-Subscription-Key",
        ] {
            assert!(is_secret_header(name), "{name}");
        }
        for name in ["X-Request-Id", "Content-Type", "Host"] {
            assert!(!is_secret_header(name), "{name}");
        }
    }

    #[test]
    fn urls_are_shown_without_passwords_and_keys() {
        assert_eq!(shown_url("http://me:pw@host/v1"), "http://***@host/v1");
        assert_eq!(
            shown_url("http://host/v1?a=b@c&key=k&api-version=1"),
            "http://host/v1?a=b@c&key=***&api-version=1"
        );
        assert_eq!(shown_url("host"), "host");
        assert_eq!(shown_url("me:pw@host:80/a@b"), "***@host:80/a@b");
        assert_eq!(shown_url("http://[::1]:80/a@b"), "http://[::1]:80/a@b");
        assert_eq!(shown_url("http://[::1]/a@b?key=k"), "http://[::1]/a@b?key=***");
    }

    #[test]
    fn a_password_that_is_not_encoded_is_masked_whole() {
        for url in ["http://me:p/w@host/v1", "http://me:p?w@host/v1", "http://me:p#w@x/@host/v1"] {
            assert_eq!(shown_url(url), "http://***@host/v1", "{url}");
        }
        assert_eq!(shown_url("me:p/w@host"), "***@host");
    }
}
