//! One direction of one TCP connection: when each of its bytes came past. Pure bookkeeping: sequence numbers in, moments
//! out.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::clock::Moment;

/// When the bytes of one direction came past. Bytes are counted from 0, the first behind the handshake.
#[derive(Debug)]
pub struct Stream {
    /// Sequence number of byte 0.
    first: u32,
    /// All bytes before this one have come.
    until: u64,
    /// Segments in order, each with the moment at which it and all before it had come.
    known: VecDeque<Piece>,
    /// Segments that came before what belongs in front of them, by their first byte.
    ahead: BTreeMap<u64, Piece>,
}

/// Some bytes, and when they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    from: u64,
    to: u64,
    at: Moment,
}

/// Segments ahead of their turn that are remembered; more are no disorder but a loss.
const MOST_AHEAD: usize = 1_024;

impl Stream {
    /// A direction of which nothing has come; its byte 0 has this sequence number.
    pub fn new(first: u32) -> Self {
        Self { first, until: 0, known: VecDeque::new(), ahead: BTreeMap::new() }
    }

    /// Whether its byte 0 has this sequence number.
    pub fn begins_with(&self, first: u32) -> bool {
        self.first == first
    }

    /// A segment came past: so many bytes from this sequence number on. What had come before keeps its moment.
    pub fn note(&mut self, sequence: u32, bytes: u32, at: Moment) {
        let Some(from) = self.position(sequence) else { return };
        let piece = Piece { from, to: from + u64::from(bytes), at };
        if piece.to <= self.until {
            return;
        }
        if piece.from > self.until {
            if self.ahead.len() < MOST_AHEAD {
                self.ahead.entry(piece.from).or_insert(piece);
            }
            return;
        }
        self.append(piece);
        while let Some(next) = self.ahead.first_entry().filter(|next| *next.key() <= self.until) {
            let next = next.remove();
            if next.to > self.until {
                self.append(next);
            }
        }
    }

    /// The byte of this sequence number; `None` if it lies before byte 0. Right as long as it is within 2 GiB of what has
    /// come.
    fn position(&self, sequence: u32) -> Option<u64> {
        let expected = self.first.wrapping_add(self.until as u32);
        let distance = i64::from(sequence.wrapping_sub(expected).cast_signed());
        u64::try_from(self.until.cast_signed() + distance).ok()
    }

    /// What a reader can have had is what came in order, so no moment is before that of the bytes in front.
    fn append(&mut self, piece: Piece) {
        let before = self.known.back().map_or(piece.at, |last| last.at);
        self.known.push_back(Piece { from: piece.from.max(self.until), at: piece.at.max(before), ..piece });
        self.until = piece.to;
    }

    /// Nobody will ask for the bytes before this one any more. Also says that they have come: what was not seen of them was
    /// lost on the way here.
    pub fn forget(&mut self, before: u64) {
        while self.known.front().is_some_and(|piece| piece.to <= before) {
            self.known.pop_front();
        }
        self.skip_to(before);
    }

    /// The parts of these bytes, which have all come, in order: the end of each, and when it came; `None` for what was not
    /// seen.
    pub fn parts(&mut self, bytes: Range<u64>) -> Vec<(u64, Option<Moment>)> {
        self.skip_to(bytes.end);
        let mut parts = Vec::new();
        let mut next = bytes.start;
        for piece in self.known.iter().skip_while(|piece| piece.to <= bytes.start) {
            if piece.from >= bytes.end {
                break;
            }
            if piece.from > next {
                parts.push((piece.from, None));
            }
            next = piece.to.min(bytes.end);
            parts.push((next, Some(piece.at)));
        }
        if next < bytes.end {
            parts.push((bytes.end, None));
        }
        parts
    }

    /// All before this byte has come, so that what is missing of it never will.
    fn skip_to(&mut self, byte: u64) {
        loop {
            // what joins on to it is in order now, too
            let next = self.ahead.first_entry().filter(|next| *next.key() <= byte.max(self.until));
            let Some(piece) = next.map(|next| next.remove()) else { break };
            if piece.to > self.until {
                // in front of it may be a hole
                self.until = self.until.max(piece.from);
                self.append(piece);
            }
        }
        self.until = self.until.max(byte);
    }

    /// When the segment came that holds this byte; `None` if it was not seen.
    pub fn at(&self, byte: u64) -> Option<Moment> {
        self.known.iter().find(|piece| (piece.from..piece.to).contains(&byte)).map(|piece| piece.at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    /// Notes segments (first byte, bytes, ms) on a stream whose numbers wrap behind byte 15.
    fn stream(segments: &[(u32, u32, u64)]) -> Stream {
        let mut stream = Stream::new(FIRST);
        for (byte, bytes, ms) in segments {
            stream.note(FIRST.wrapping_add(*byte), *bytes, at(*ms));
        }
        stream
    }

    const FIRST: u32 = u32::MAX - 15;

    #[track_caller]
    fn check(segments: &[(u32, u32, u64)], bytes: Range<u64>, want: &[(u64, Option<u64>)]) {
        let want: Vec<_> = want.iter().map(|(end, ms)| (*end, ms.map(at))).collect();
        assert_eq!(stream(segments).parts(bytes), want);
    }

    #[test]
    fn each_segment_keeps_its_moment() {
        check(&[(0, 10, 1), (10, 10, 2), (20, 5, 3)], 0..25, &[(10, Some(1)), (20, Some(2)), (25, Some(3))]);
        check(&[(0, 10, 1), (10, 10, 2), (20, 5, 3)], 5..12, &[(10, Some(1)), (12, Some(2))]);
    }

    #[test]
    fn bytes_that_wait_for_others_have_the_moment_of_those() {
        check(
            &[(10, 10, 1), (0, 10, 9), (20, 5, 10)],
            0..25,
            &[(10, Some(9)), (20, Some(9)), (25, Some(10))],
        );
    }

    #[test]
    fn what_is_sent_again_came_when_it_came_first() {
        check(&[(0, 10, 1), (0, 10, 5), (5, 10, 6)], 0..15, &[(10, Some(1)), (15, Some(6))]);
    }

    #[test]
    fn what_was_not_seen_is_unknown_and_what_follows_is_known() {
        check(&[(0, 10, 1), (20, 10, 7)], 0..30, &[(10, Some(1)), (20, None), (30, Some(7))]);
        check(&[], 0..30, &[(30, None)]);
        check(&[(0, 10, 1)], 0..30, &[(10, Some(1)), (30, None)]);
    }

    #[test]
    fn what_was_forgotten_is_unknown_and_costs_nothing() {
        let mut stream = stream(&[(0, 10, 1), (10, 10, 2), (30, 10, 4)]);
        stream.forget(30);
        assert_eq!(stream.known.len() + stream.ahead.len(), 1);
        assert_eq!(stream.parts(0..40), [(30, None), (40, Some(at(4)))]);
        stream.note(FIRST.wrapping_add(40), 2, at(6));
        assert_eq!((stream.at(41), stream.at(3)), (Some(at(6)), None));
    }

    #[test]
    fn what_joins_on_to_what_was_forgotten_is_known() {
        let mut stream = stream(&[(0, 10, 1), (15, 10, 3)]);
        stream.forget(15);
        assert_eq!(stream.at(15), Some(at(3)));
    }

    proptest! {
        /// However segments are cut, reordered and repeated, each byte has the moment at which it and all before it had come.
        #[test]
        fn bytes_come_in_order(
            cuts in prop::collection::btree_set(1_u32..60, 0..12),
            keys in prop::collection::vec(any::<u16>(), 13),
        ) {
            let ends: Vec<u32> = cuts.into_iter().chain([60]).collect();
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let mut segments: Vec<(u32, u32, u16)> =
                starts.zip(&ends).zip(&keys).map(|((from, to), key)| (from, to - from, *key)).collect();
            segments.sort_by_key(|(.., key)| *key);
            let timed: Vec<_> = segments.iter().zip(1..).map(|((from, bytes, _), ms)| (*from, *bytes, ms)).collect();
            let mut stream = stream(&timed);
            for byte in 0..60_u32 {
                let latest = timed.iter().filter(|(from, ..)| *from <= byte).map(|(.., ms)| *ms).max();
                prop_assert_eq!(stream.at(byte.into()), latest.map(at), "byte {} of {:?}", byte, timed);
            }
            prop_assert_eq!(stream.parts(0..60).last().map(|(end, _)| *end), Some(60));
        }
    }
}
