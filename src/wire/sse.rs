//! The event stream format (WHATWG HTML, "Server-sent events"), decoded as its bytes arrive.
//!
//! Gives the data of each event, and whether its type is `error`, and knows nothing of what it means. Bytes may be cut anywhere; an event that lies
//! whole in one push is handed out in place, without a copy.

use memchr::memchr2;

/// The longest line, and the longest data of one event, that is taken in.
pub(super) const MAX_BYTES: usize = 16 << 20;

/// A line or an event outgrew [`MAX_BYTES`]. Nothing can be read from the stream any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Where the decoder stands between two pushes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Decoder {
    /// The bytes so far of a line whose end has not come.
    line: Vec<u8>,
    /// The data so far of an event whose blank line has not come.
    data: Vec<u8>,
    /// Whether the open event has a data line: its data may be the empty string.
    has_data: bool,
    /// Whether the type of the open event is `error`.
    is_error: bool,
    /// Whether the last byte was CR, so that an LF now belongs to the same line end.
    after_cr: bool,
    /// Whether the first line, which may begin with a byte order mark, is over.
    begun: bool,
}

impl Decoder {
    /// Takes the next bytes and hands out the data of each event that they complete, and whether its type is `error`.
    pub(super) fn push(&mut self, bytes: &[u8], mut on_data: impl FnMut(&[u8], bool)) -> Result<(), TooLong> {
        let mut rest = self.without_second_half_of_crlf(bytes);
        if !self.line.is_empty() {
            rest = self.push_to_carried_line(rest, &mut on_data)?;
        }
        // The only data line of an event that began in these bytes. While it is set, `self.has_data` is not.
        let mut lone: Option<&[u8]> = None;
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let line = self.without_bom(&rest[..end]);
            check_length(line.len())?;
            rest = self.after_line_end(&rest[end..]);
            if line.is_empty() {
                match lone.take() {
                    Some(data) => on_data(data, std::mem::take(&mut self.is_error)),
                    None => self.dispatch(&mut on_data),
                }
            } else if let Some(data) = data_of(line) {
                if let Some(first) = lone.take() {
                    self.append(first)?;
                }
                if self.has_data {
                    self.append(data)?;
                } else {
                    lone = Some(data);
                }
            } else {
                self.note_type(line);
            }
        }
        if let Some(data) = lone {
            self.append(data)?;
        }
        self.carry(rest)
    }

    /// Hands out the event that the end of the stream left open, if it has data.
    ///
    /// The standard drops it. Some servers leave out the last blank line, so the caller may look whether it is whole.
    pub(super) fn finish(mut self, mut on_data: impl FnMut(&[u8], bool)) {
        let ended = self.end_carried_line(&mut on_data);
        if ended.is_ok() {
            self.dispatch(&mut on_data);
        }
    }

    /// Adds bytes to the carried line and, if they hold its end, reads it. Returns what follows the line.
    fn push_to_carried_line<'b>(
        &mut self,
        bytes: &'b [u8],
        on_data: &mut impl FnMut(&[u8], bool),
    ) -> Result<&'b [u8], TooLong> {
        let Some(end) = memchr2(b'\n', b'\r', bytes) else {
            self.carry(bytes)?;
            return Ok(&[]);
        };
        self.carry(&bytes[..end])?;
        let rest = self.after_line_end(&bytes[end..]);
        self.end_carried_line(on_data)?;
        Ok(rest)
    }

    fn end_carried_line(&mut self, on_data: &mut impl FnMut(&[u8], bool)) -> Result<(), TooLong> {
        let mut carried = std::mem::take(&mut self.line);
        let line = self.without_bom(&carried);
        if line.is_empty() {
            self.dispatch(on_data);
        } else if let Some(data) = data_of(line) {
            self.append(data)?;
        } else {
            self.note_type(line);
        }
        carried.clear();
        self.line = carried; // keeps its room for the next cut line
        Ok(())
    }

    fn carry(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        check_length(self.line.len() + bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds a data line to the open event. Lines are joined by LF.
    fn append(&mut self, data: &[u8]) -> Result<(), TooLong> {
        check_length(self.data.len() + data.len())?;
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(data);
        self.has_data = true;
        Ok(())
    }

    /// Notes the type of the open event, if the line gives it.
    fn note_type(&mut self, line: &[u8]) {
        if let Some(name) = value_of(line, b"event") {
            self.is_error = name == b"error";
        }
    }

    fn dispatch(&mut self, on_data: &mut impl FnMut(&[u8], bool)) {
        let is_error = std::mem::take(&mut self.is_error);
        if std::mem::take(&mut self.has_data) {
            on_data(&self.data, is_error);
            self.data.clear();
        }
    }

    fn without_second_half_of_crlf<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if bytes.is_empty() || !std::mem::take(&mut self.after_cr) {
            return bytes;
        }
        bytes.strip_prefix(b"\n").unwrap_or(bytes)
    }

    fn without_bom<'b>(&mut self, line: &'b [u8]) -> &'b [u8] {
        if std::mem::replace(&mut self.begun, true) {
            return line;
        }
        line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
    }

    /// What follows the line end (LF, CR or CRLF) with which `bytes` begin.
    fn after_line_end<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        match bytes {
            [b'\r', b'\n', rest @ ..] => rest,
            [b'\r'] => {
                self.after_cr = true;
                &[]
            }
            [_, rest @ ..] => rest,
            [] => &[],
        }
    }
}

/// The value of a `data` line; `None` for comments and other fields.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    value_of(line, b"data")
}

/// The value of a line of that field; `None` for another line.
#[inline]
fn value_of<'l>(line: &'l [u8], field: &[u8]) -> Option<&'l [u8]> {
    let after_name = line.strip_prefix(field)?;
    if after_name.is_empty() {
        return Some(after_name);
    }
    let value = after_name.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

fn check_length(bytes: usize) -> Result<(), TooLong> {
    if bytes > MAX_BYTES { Err(TooLong) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data of each event, after `error!` where that is its type; and what the end left open.
    fn decode<'a>(pushes: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Vec<String>) {
        let mut decoder = Decoder::default();
        let (mut events, mut left_open) = (Vec::new(), Vec::new());
        let shown = |data: &[u8], is_error| marked(&String::from_utf8_lossy(data), is_error);
        for bytes in pushes {
            decoder.push(bytes, |data, is_error| events.push(shown(data, is_error))).unwrap();
        }
        decoder.finish(|data, is_error| left_open.push(shown(data, is_error)));
        (events, left_open)
    }

    fn marked(data: &str, is_error: bool) -> String {
        if is_error { format!("error!{data}") } else { data.to_owned() }
    }

    #[track_caller]
    fn check(pushes: &[&str], want: &[&str]) {
        assert_eq!(decode(pushes.iter().map(|push| push.as_bytes())).0, want);
    }

    #[test]
    fn an_event_is_its_data() {
        check(&["data: a\n\ndata: b\n\n"], &["a", "b"]);
        check(&[], &[]);
    }

    #[test]
    fn one_blank_after_the_colon_is_not_data() {
        check(&["data:a\n\ndata:  b\n\n"], &["a", " b"]);
    }

    #[test]
    fn lines_end_in_lf_cr_or_crlf() {
        check(&["data: a\r\rdata: b\r\n\r\ndata: c\n\r\n"], &["a", "b", "c"]);
        check(&["data: a\r\n\rdata: b\n\r"], &["a", "b"]);
    }

    #[test]
    fn data_lines_are_joined_by_lf() {
        check(&["data: a\ndata: b\n\n"], &["a\nb"]);
        check(&["data: a\n", "data: b\ndata: c\n", "\n"], &["a\nb\nc"]);
        check(&["data\ndata\n\n"], &["\n"]);
    }

    #[test]
    fn comments_and_other_fields_are_skipped() {
        check(&[": ping\n\nevent: message\nid: 7\nretry: 1\ndata: a\n: ping\n\n"], &["a"]);
        check(&["database: a\n\ndatum\n\n Data: b\n\n"], &[]);
    }

    #[test]
    fn an_event_of_type_error_is_told_apart() {
        check(&["event: error\ndata: a\n\ndata: b\n\n"], &["error!a", "b"]);
        check(&["data: a\nevent:error\r\n\r\n", "event: err", "or\ndata: b\n\n"], &["error!a", "error!b"]);
        // the last type counts, and one without data goes with its blank line
        check(&["event: error\nevent: errors\ndata: a\n\nevent: error\n\ndata: b\n\n"], &["a", "b"]);
        assert_eq!(decode([&b"event: error\ndata: a"[..]]).1, ["error!a"]);
    }

    #[test]
    fn an_event_without_data_is_no_event_but_empty_data_is_one() {
        check(&["\n\n\nevent: a\n\n"], &[]);
        check(&["data:\n\ndata\n\n"], &["", ""]);
    }

    #[test]
    fn a_byte_order_mark_counts_only_at_the_start() {
        check(&["\u{feff}data: a\n\n"], &["a"]);
        check(&["\u{feff}\u{feff}data: a\n\n"], &[]);
        check(&["\n\u{feff}data: a\n\n"], &[]);
    }

    #[test]
    fn cut_anywhere() {
        check(&["da", "ta: a\n", "\n"], &["a"]);
        check(&["data: a\r", "\n\r", "\ndata: b\r", "\r", ""], &["a", "b"]);
        check(&["data: a\r", "", "\ndata: b\n\n"], &["a\nb"]);
    }

    #[test]
    fn an_event_left_open_is_handed_out_at_the_end() {
        for (text, want) in
            [("data: a", "a"), ("data: a\n", "a"), ("data: a\r\ndata: b", "a\nb"), ("data", "")]
        {
            assert_eq!(decode([text.as_bytes()]), (vec![], vec![want.to_owned()]), "{text:?}");
        }
        for text in ["", "dat", ": a", "data: a\n\n: b"] {
            assert!(decode([text.as_bytes()]).1.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn an_event_in_one_push_is_handed_out_in_place() {
        let bytes = b"data: a\n\n: ping\n\ndata: b\n\n";
        let mut decoder = Decoder::default();
        let mut offsets = Vec::new();
        decoder.push(bytes, |data, _| offsets.push(data.as_ptr().addr() - bytes.as_ptr().addr())).unwrap();
        assert_eq!(offsets, [6, 23]);
        assert_eq!((decoder.line.capacity(), decoder.data.capacity()), (0, 0));
    }

    #[test]
    fn lines_and_events_have_a_greatest_length() {
        let mebibyte = vec![b'x'; 1 << 20];
        let mut line = Decoder::default();
        let mut pushes = (0..=16).map(|_| line.push(&mebibyte, |_, _| ()));
        assert_eq!(pushes.position(|taken| taken == Err(TooLong)), Some(16));

        let data_line = [b"data: ", &mebibyte[..], b"\n"].concat();
        let mut event = Decoder::default();
        let mut pushes = (0..=16).map(|_| event.push(&data_line, |_, _| ()));
        // the LFs between sixteen lines are too much
        assert_eq!(pushes.position(|taken| taken == Err(TooLong)), Some(15));

        let whole_line = [&vec![b'x'; MAX_BYTES + 1][..], b"\n"].concat();
        assert_eq!(Decoder::default().push(&whole_line, |_, _| ()), Err(TooLong));
    }

    /// The standard, read slowly over the whole text: lines first, then events.
    fn by_the_book(text: &str) -> Vec<String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
        let mut lines: Vec<&str> = text.split('\n').collect();
        lines.pop(); // no line end, no line
        let mut events = Vec::new();
        let mut data = String::new();
        let mut is_error = false;
        for line in lines {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            if line.is_empty() {
                let whole = std::mem::take(&mut data);
                events.extend(whole.strip_suffix('\n').map(|data| marked(data, is_error)));
                is_error = false;
            } else if field == "event" {
                is_error = value.strip_prefix(' ').unwrap_or(value) == "error";
            } else if field == "data" {
                data += value.strip_prefix(' ').unwrap_or(value);
                data += "\n";
            }
        }
        events
    }

    fn stream() -> impl Strategy<Value = String> {
        let pieces = [
            "data",
            ":",
            " ",
            "\r",
            "\n",
            "\r\n",
            "x",
            "ü",
            "\u{feff}",
            "data: y\n\n",
            ": z\n",
            "event",
            "event: error\n",
        ];
        proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..24)
            .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_text_is_read_by_the_book(text in stream()) {
            prop_assert_eq!(decode([text.as_bytes()]).0, by_the_book(&text));
        }

        #[test]
        fn any_cutting_yields_the_same_events(text in stream(), sizes in proptest::collection::vec(0usize..6, 1..9)) {
            let whole = decode([text.as_bytes()]);
            let mut rest = text.as_bytes();
            let mut pushes = Vec::new();
            for size in sizes {
                let (push, left) = rest.split_at(size.min(rest.len()));
                pushes.push(push);
                rest = left;
            }
            pushes.push(rest);
            prop_assert_eq!(&decode(pushes), &whole);
            prop_assert_eq!(&decode(text.as_bytes().chunks(1)), &whole);
        }
    }
}
