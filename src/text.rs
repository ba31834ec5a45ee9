//! Text from strangers, made fit to show.

use std::borrow::Cow;
use std::path::Path;

/// One line of at most `max_chars` characters that cannot steer a terminal: control, format and direction marks are
/// dropped, runs of white space become one blank, and a cut is marked with `…`.
pub fn printable(text: &str, max_chars: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max_chars * 4));
    let mut count = 0;
    let mut blank_due = false;
    for c in text.chars() {
        if c.is_whitespace() {
            blank_due = !out.is_empty();
            continue;
        }
        if c.is_control() || is_invisible(c) {
            continue;
        }
        let needed = 1 + usize::from(blank_due);
        if count + needed > max_chars {
            out.push('…');
            return out;
        }
        if std::mem::take(&mut blank_due) {
            out.push(' ');
        }
        out.push(c);
        count += needed;
    }
    out
}

/// The text in one line that cannot steer a terminal: control, format and direction marks are dropped, white space other
/// than blanks becomes a blank. Of any length, and blanks in a row stay, unlike with [`printable`].
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() || is_invisible(c)) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match c {
        c if c.is_whitespace() => Some(' '),
        c => (!c.is_control() && !is_invisible(c)).then_some(c),
    };
    Cow::Owned(text.chars().filter_map(shown).collect())
}

/// The path in [one line](one_line) for messages: whoever made the file has named it.
pub fn shown_path(path: &Path) -> String {
    one_line(&path.display().to_string()).into_owned()
}

/// Characters that change how others are shown: direction overrides, zero widths, byte order marks.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// The one of the names that was meant by what was typed; `None` where none is near.
pub fn nearest<'k>(key: &str, expected: &[&'k str]) -> Option<&'k str> {
    let typed: Vec<char> = key.to_lowercase().replace('-', "_").chars().take(64).collect();
    let candidates = expected.iter().map(|known| (distance(&typed, known), *known));
    candidates.filter(|(distance, known)| *distance <= known.len() / 3).min().map(|(_, known)| known)
}

/// Characters to insert, delete or replace to make one of the other (Levenshtein), row by row.
fn distance(typed: &[char], known: &str) -> usize {
    let mut row: Vec<usize> = (0..=typed.len()).collect();
    for (i, want) in known.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, have) in typed.iter().enumerate() {
            let replaced = diagonal + usize::from(*have != want);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[typed.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &str) {
        assert_eq!(printable(text, 12), want);
    }

    #[test]
    fn escapes_cannot_reach_a_terminal() {
        check("\x1b[31mred\x1b[0m", "[31mred[0m");
        check("a\u{202e}b\u{0}c\u{9b}d", "abcd");
    }

    #[test]
    fn one_line_keeps_all_but_what_steers() {
        assert_eq!(one_line("p50 1  p99 2"), "p50 1  p99 2");
        assert_eq!(one_line("\x1b[31ma\r\n\tb\u{202e}\u{9b}c"), "[31ma   bc");
    }

    #[test]
    fn a_name_is_found_by_what_is_near_to_it() {
        let names = ["ttft", "error_rate"];
        assert_eq!(nearest("Eror-Rate", &names), Some("error_rate"));
        assert_eq!((nearest("tft", &names), nearest("", &names)), (Some("ttft"), None));
    }

    #[test]
    fn lines_become_one() {
        check("  a\r\n\t b  ", "a b");
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        check("0123456789ab", "0123456789ab");
        check("0123456789abc", "0123456789ab…");
        check("0123456789a bc", "0123456789a…");
    }
}
