//! Gzip (RFC 1952) that can be unpacked as far as it has come.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// One stream being packed. Takes no memory before it is asked for something.
#[derive(Debug, Default)]
pub struct Gzip(Option<GzEncoder<Vec<u8>>>);

impl Gzip {
    /// What these bytes become; they can be unpacked at once.
    pub fn pack(&mut self, bytes: &[u8]) -> Vec<u8> {
        let encoder = self.encoder();
        let packed = encoder.write_all(bytes).and_then(|()| encoder.flush());
        packed.expect("memory takes what is written");
        std::mem::take(encoder.get_mut())
    }

    /// What follows the last bytes.
    pub fn end(&mut self) -> Vec<u8> {
        let encoder = self.encoder();
        encoder.try_finish().expect("memory takes what is written");
        std::mem::take(encoder.get_mut())
    }

    fn encoder(&mut self) -> &mut GzEncoder<Vec<u8>> {
        self.0.get_or_insert_with(|| GzEncoder::new(Vec::new(), Compression::fast()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn what_is_packed_can_be_unpacked_before_the_end() {
        let mut gzip = Gzip::default();
        let first = gzip.pack(b"data: a\n\n");
        let mut unpacked = [0; 9];
        GzDecoder::new(&first[..]).read_exact(&mut unpacked).expect("all of it is there");
        assert_eq!(&unpacked, b"data: a\n\n");
        let all = [first, gzip.pack(b"b"), gzip.end()].concat();
        let mut text = String::new();
        GzDecoder::new(&all[..]).read_to_string(&mut text).expect("it has its end and checksum");
        assert_eq!(text, "data: a\n\nb");
    }

    #[test]
    fn nothing_is_a_stream_too() {
        let mut text = String::new();
        GzDecoder::new(&Gzip::default().end()[..]).read_to_string(&mut text).expect("a head and an end");
        assert_eq!(text, "");
    }
}
