//! Text from strangers, made fit to stand in HTML.

use std::fmt;

use crate::text::is_invisible;

/// Shows text so that no character of it is taken for markup, in an element as well as in a quoted attribute. What
/// cannot be seen is dropped; line breaks and tabs stay.
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => fmt::Write::write_char(f, c)?,
                c if c.is_control() || is_invisible(c) => {}
                c => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &str) {
        assert_eq!(Text(text).to_string(), want);
    }

    #[test]
    fn markup_is_shown_and_not_done() {
        check("<script>alert('x')</script>", "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;");
        check("\" onload=\"x", "&quot; onload=&quot;x");
        check("&lt;", "&amp;lt;");
    }

    #[test]
    fn what_cannot_be_seen_is_dropped() {
        check("a\0b\u{1b}c\u{202e}d\u{85}\r\n\te", "abcd\n\te");
        check("ÄÖ 日本", "ÄÖ 日本");
    }
}
