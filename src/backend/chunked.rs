//! Chunked transfer coding (RFC 9112, section 7.1), taken off in place as bytes arrive. Knows no sockets.

use std::ops::Range;

/// Where a chunked body stands between two reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dechunker(State);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a chunk's size, of which this has come.
    Size(Option<u64>),
    /// Behind the size's digits.
    AfterSize(u64),
    /// In an extension, which nobody asked for.
    Extension(u64),
    SizeLf(u64),
    /// In a chunk's data, of which this is to come.
    Data(u64),
    DataCr,
    DataLf,
    /// The last chunk has come; at the start of a trailer line.
    TrailerStart,
    TrailerLine,
    TrailerLf,
    EndLf,
    Ended,
}

impl Default for State {
    fn default() -> Self {
        Self::Size(None)
    }
}

/// No server sends larger chunks; longer sizes are read byte by byte.
const MAX_PLAIN_DIGITS: usize = 8;

/// What became of a read's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Where the data now stands, joined to one piece.
    pub data: Range<usize>,
    /// The bytes used up: all of them, unless the body ended before.
    pub used: usize,
}

impl Dechunker {
    /// Takes the coding off the next bytes, or of those before a mistake. Data moves only where a piece of coding stood between two pieces of it.
    ///
    /// # Errors
    /// Says what is no chunked coding.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, &'static str> {
        self.decode_until(bytes, false)
    }

    /// The same, but goes no further than to the end of the first chunk that has data.
    ///
    /// # Errors
    /// Says what is no chunked coding.
    pub fn decode_one(&mut self, bytes: &mut [u8]) -> Result<Decoded, &'static str> {
        self.decode_until(bytes, true)
    }

    fn decode_until(&mut self, bytes: &mut [u8], chunk_end: bool) -> Result<Decoded, &'static str> {
        let mut data = 0..0;
        let mut used = 0;
        while used < bytes.len() && self.0 != State::Ended {
            let ends_chunk = chunk_end && !data.is_empty();
            if ends_chunk && self.0 == State::Size(None) {
                break;
            }
            if let State::Data(left) = self.0 {
                let piece = usize::try_from(left).map_or(bytes.len() - used, |l| l.min(bytes.len() - used));
                if data.is_empty() {
                    data = used..used + piece;
                } else {
                    bytes.copy_within(used..used + piece, data.end);
                    data.end += piece;
                }
                used += piece;
                let left = left - piece as u64;
                self.0 = if left == 0 { State::DataCr } else { State::Data(left) };
            } else if let Some((state, length)) = self.0.leap(&bytes[used..]).filter(|_| !ends_chunk) {
                self.0 = state;
                used += length;
            } else {
                match self.0.after(bytes[used]) {
                    Ok(state) => self.0 = state,
                    // what stands before the mistake is good; the next call meets it
                    Err(_) if !data.is_empty() => break,
                    Err(mistake) => return Err(mistake),
                }
                used += 1;
            }
        }
        Ok(Decoded { data, used })
    }

    /// Whether the body has come whole, its trailer included.
    pub fn is_ended(self) -> bool {
        self.0 == State::Ended
    }

    /// Whether all data has come, so that only the end of the trailer may be missing.
    pub fn has_all_data(self) -> bool {
        matches!(self.0, State::TrailerStart | State::Ended)
    }
}

impl State {
    /// Over the coding between two chunks at once, where it is plain and all there: the state behind it, and its length.
    /// Byte by byte the same comes of it.
    fn leap(self, bytes: &[u8]) -> Option<(Self, usize)> {
        let (end, digits) = match (self, bytes) {
            (Self::DataCr, [b'\r', b'\n', digits @ ..]) => (2, digits),
            (Self::Size(None), digits) => (0, digits),
            _ => return None,
        };
        let mut size = 0;
        for (count, byte) in digits.iter().take(MAX_PLAIN_DIGITS + 1).enumerate() {
            size = size * 16
                + u64::from(match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'f' => byte - b'a' + 10,
                    b'\r' if size > 0 && digits.get(count + 1) == Some(&b'\n') => {
                        return Some((Self::Data(size), end + count + 2));
                    }
                    _ => return None,
                });
        }
        None
    }

    /// The state after one byte of coding.
    fn after(self, byte: u8) -> Result<Self, &'static str> {
        Ok(match (self, byte) {
            (Self::Size(size), b'0'..=b'9') => Self::longer(size, byte - b'0')?,
            (Self::Size(size), b'a'..=b'f') => Self::longer(size, byte - b'a' + 10)?,
            (Self::Size(size), b'A'..=b'F') => Self::longer(size, byte - b'A' + 10)?,
            (Self::Size(None), b' ' | b'\t') => self,
            (Self::Size(Some(size)) | Self::AfterSize(size), b' ' | b'\t') => Self::AfterSize(size),
            (Self::Size(Some(size)) | Self::AfterSize(size), b';') => Self::Extension(size),
            (Self::Size(Some(size)) | Self::AfterSize(size) | Self::Extension(size), b'\r') => {
                Self::SizeLf(size)
            }
            (Self::Size(_) | Self::AfterSize(_), _) => return Err("a chunk's size is not a number"),
            (Self::Extension(_), _) => self,
            (Self::SizeLf(0), b'\n') => Self::TrailerStart,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(None),
            (Self::TrailerStart, b'\r') => Self::EndLf,
            (Self::EndLf, b'\n') => Self::Ended,
            (Self::TrailerLine, b'\r') => Self::TrailerLf,
            (Self::TrailerLf, b'\n') => Self::TrailerStart,
            (Self::TrailerStart | Self::TrailerLine | Self::TrailerLf, _) => Self::TrailerLine,
            _ => return Err("a chunk does not end where its size says"),
        })
    }

    /// A size with one more digit.
    fn longer(size: Option<u64>, digit: u8) -> Result<Self, &'static str> {
        let longer = size.unwrap_or(0).checked_mul(16).ok_or("a chunk's size is too large")?;
        Ok(Self::Size(Some(longer + u64::from(digit))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a body that comes in these reads: its data, the pieces of it, and the bytes behind its end.
    fn decode<'a>(
        reads: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, Dechunker, usize), &'static str> {
        let (mut data, mut dechunker, mut behind) = (Vec::new(), Dechunker::default(), 0);
        for read in reads {
            let mut bytes = read.to_vec();
            let mut from = 0;
            while from < bytes.len() && !dechunker.is_ended() {
                let decoded = dechunker.decode(&mut bytes[from..])?;
                data.extend_from_slice(&bytes[from..][decoded.data]);
                from += decoded.used;
            }
            behind += bytes.len() - from;
        }
        Ok((data, dechunker, behind))
    }

    /// Whole, cut in two at each byte, and byte by byte.
    #[track_caller]
    fn check(body: &str, want: &str) {
        let body = body.as_bytes();
        let cuts = (0..=body.len()).map(|at| body.split_at(at)).map(|(head, tail)| vec![head, tail]);
        for reads in cuts.chain([vec![body], body.chunks(1).collect()]) {
            let (data, dechunker, behind) = decode(reads.iter().copied()).expect("chunked coding");
            assert_eq!(String::from_utf8_lossy(&data), want, "{reads:?}");
            assert!(dechunker.is_ended() && dechunker.has_all_data() && behind == 0, "{reads:?}");
        }
    }

    #[track_caller]
    fn check_refused(body: &str, want: &str) {
        for size in 1..=body.len() {
            assert_eq!(decode(body.as_bytes().chunks(size)), Err(want), "{body:?} in reads of {size}");
        }
    }

    #[test]
    fn data_is_what_stands_between_the_coding() {
        check("3\r\nabc\r\n0\r\n\r\n", "abc");
        check("1\r\na\r\n00C\r\n0123\r\n\r\n6789\r\n1\r\nz\r\n0\r\n\r\n", "a0123\r\n\r\n6789z");
        check("0\r\n\r\n", "");
    }

    #[test]
    fn extensions_and_trailers_are_passed_over() {
        check("2;a=b;c=\"d;e\"\r\nxy\r\n0;last\r\n\r\n", "xy");
        check("2 \t;a\r\nxy\r\n 1 \r\nz\r\n0\r\n\r\n", "xyz");
        check("1\r\nx\r\n000\r\ndate: now\r\nx: \r y\r\n\r\n", "x");
    }

    #[test]
    fn a_body_ends_where_it_says() {
        for size in 1..20 {
            let body = "1\r\nx\r\n0\r\n\r\nHTTP/1.1";
            let (data, dechunker, behind) = decode(body.as_bytes().chunks(size)).expect("chunked coding");
            assert_eq!((data, dechunker.is_ended(), behind), (b"x".to_vec(), true, 8));
        }
    }

    #[test]
    fn all_data_may_have_come_before_the_end() {
        let body = "1\r\nx\r\n0\r\nx: y\r\n\r\n";
        for length in 0..=body.len() {
            let (_, dechunker, _) = decode([&body.as_bytes()[..length]]).expect("chunked coding");
            assert_eq!(dechunker.has_all_data(), [9, 15, body.len()].contains(&length), "{length}");
            assert_eq!(dechunker.is_ended(), length == body.len(), "{length}");
        }
    }

    #[test]
    fn what_is_no_chunked_coding_is_refused() {
        for body in ["zz\r\n", "\r\n", "-1\r\n", "+1\r\nx", "1 1\r\n", "1\nx", "0x1\r\n", ";a\r\n"] {
            check_refused(body, "a chunk's size is not a number");
        }
        for body in ["1\r\nxy\r\n", "1\r\nx\n", "1\rx", "1\r\nx\rx", "0\r\n\rx", "1;a\rb"] {
            check_refused(body, "a chunk does not end where its size says");
        }
        check_refused("10000000000000000\r\n", "a chunk's size is too large");
    }

    #[test]
    fn one_chunk_at_a_time_makes_the_same_data() {
        let body = "3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\nHTTP";
        for cut in 0..=body.len() {
            let mut pieces = Vec::new();
            let mut dechunker = Dechunker::default();
            for part in [&body[..cut], &body[cut..]] {
                let mut bytes = part.as_bytes().to_vec();
                let mut from = 0;
                while from < bytes.len() && !dechunker.is_ended() {
                    let decoded = dechunker.decode_one(&mut bytes[from..]).expect("chunked coding");
                    pieces.push(String::from_utf8_lossy(&bytes[from..][decoded.data]).into_owned());
                    from += decoded.used;
                }
            }
            assert_eq!(pieces.concat(), "abcde", "cut at {cut}");
            assert!(dechunker.is_ended());
            assert!(!pieces.iter().any(|piece| piece.contains("cd")), "{pieces:?}");
        }
    }

    #[test]
    fn a_lone_piece_of_data_stays_where_it_is() {
        let mut bytes = b"3\r\nabc\r\n1\r\nd\r\n".to_vec();
        let mut dechunker = Dechunker::default();
        assert_eq!(dechunker.decode(&mut bytes[..8]), Ok(Decoded { data: 3..6, used: 8 }));
        assert_eq!(dechunker.decode(&mut bytes[8..]), Ok(Decoded { data: 3..4, used: 6 }));
    }
}
