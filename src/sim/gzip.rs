//! Gzip (RFC 1952) without the compression: what it packs, every client can unpack.

/// One stream being packed.
#[derive(Debug, Default)]
pub struct Gzip {
    begun: bool,
    checksum: Crc32,
    /// Bytes so far, as the trailer counts them: modulo 2^32.
    length: u32,
}

/// The longest stored block of RFC 1951.
const MAX_BLOCK: usize = 0xffff;

impl Gzip {
    /// What these bytes become; they can be unpacked at once.
    pub fn pack(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = self.header();
        for block in bytes.chunks(MAX_BLOCK) {
            stored(&mut out, false, block);
            self.checksum.add(block);
            self.length = self.length.wrapping_add(block.len() as u32);
        }
        out
    }

    /// What follows the last bytes.
    pub fn end(&mut self) -> Vec<u8> {
        let mut out = self.header();
        stored(&mut out, true, &[]);
        out.extend(self.checksum.value().to_le_bytes());
        out.extend(self.length.to_le_bytes());
        out
    }

    /// What stands before the first block.
    fn header(&mut self) -> Vec<u8> {
        let is_first = !std::mem::replace(&mut self.begun, true);
        // magic, deflate, no flags, no time, no level, unknown system
        if is_first { vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff] } else { Vec::new() }
    }
}

fn stored(out: &mut Vec<u8>, is_last: bool, block: &[u8]) {
    let length = block.len() as u16;
    out.push(u8::from(is_last));
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend_from_slice(block);
}

/// The checksum of gzip, bit by bit.
#[derive(Debug, Default)]
struct Crc32(u32);

impl Crc32 {
    fn add(&mut self, bytes: &[u8]) {
        self.0 = !bytes.iter().fold(!self.0, |crc, byte| {
            let shift = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1));
            (0..8).fold(crc ^ u32::from(*byte), shift)
        });
    }

    fn value(&self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        let mut crc = Crc32::default();
        crc.add(b"1234");
        crc.add(b"56789");
        assert_eq!(crc.value(), 0xcbf4_3926);
        assert_eq!(Crc32::default().value(), 0);
    }

    /// Checked with Python's `gzip.decompress`.
    #[test]
    fn a_stream_has_header_blocks_and_trailer() {
        let mut gzip = Gzip::default();
        let packed = [gzip.pack(b"ab"), gzip.pack(b"c"), gzip.end()].concat();
        let want = [
            &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff][..],
            &[0, 2, 0, 0xfd, 0xff, b'a', b'b', 0, 1, 0, 0xfe, 0xff, b'c', 1, 0, 0, 0xff, 0xff],
            &0x3524_41c2u32.to_le_bytes(),
            &3u32.to_le_bytes(),
        ];
        assert_eq!(packed, want.concat());
    }
}
