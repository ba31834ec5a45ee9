//! Buffers that begin small: thousands of connections need little more than a head each.

use std::ops::Range;

use ureq::unversioned::transport::Buffers;

/// What ureq writes into and reads from. The input grows where a head needs it, up to a limit.
#[derive(Debug)]
pub struct GrowingBuffers {
    input: Vec<u8>,
    unread: Range<usize>,
    max_input: usize,
    output: Vec<u8>,
    output_size: usize,
    /// Whether the latest look at the input used any of it.
    progress: bool,
}

/// Input at first: the heads of most replies fit.
const FIRST_INPUT: usize = 2 * 1024;

impl GrowingBuffers {
    /// With at most so much input, and so much output. Allocates when they are used.
    pub fn new(max_input: usize, output_size: usize) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { input, unread: 0..0, max_input, output, output_size, progress: false }
    }

    /// Makes room for input behind what is unread, unless that is as much as may be.
    fn make_room(&mut self, max: usize) {
        if self.unread.start > 0 {
            self.input.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.end == self.input.len() && self.input.len() < max {
            let grown = (self.input.len() * 2).max(FIRST_INPUT).min(max);
            self.input.resize(grown, 0);
        }
    }

    fn make_output(&mut self) {
        self.output.resize(self.output_size, 0);
    }
}

impl Buffers for GrowingBuffers {
    fn output(&mut self) -> &mut [u8] {
        self.make_output();
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        &self.input[self.unread.clone()]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.make_room(self.max_input);
        &mut self.input[self.unread.end..]
    }

    fn input_appended(&mut self, amount: usize) {
        self.unread.end += amount;
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.unread.start += amount;
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.make_output();
        // no limit: without room the body could not be sent
        self.make_room(usize::MAX);
        (&mut self.input[self.unread.end..], &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        !self.unread.is_empty() && self.progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_grows_to_its_limit_and_keeps_what_is_unread() {
        let mut buffers = GrowingBuffers::new(3 * FIRST_INPUT, 16);
        let mut all = Vec::new();
        for number in 0.. {
            let room = buffers.input_append_buf();
            if room.is_empty() {
                break;
            }
            let part = [number; 1000];
            let part = &part[..room.len().min(1000)];
            room[..part.len()].copy_from_slice(part);
            buffers.input_appended(part.len());
            all.extend_from_slice(part);
        }
        assert_eq!(all.len(), 3 * FIRST_INPUT);
        assert_eq!(buffers.input(), all);
        assert!(!buffers.can_use_input());
        buffers.input_consume(10);
        assert!(buffers.can_use_input());
        assert_eq!((buffers.input_append_buf().len(), buffers.input()), (10, &all[10..]));
    }

    #[test]
    fn there_is_always_room_to_send() {
        let mut buffers = GrowingBuffers::new(8, 4);
        let size = buffers.input_append_buf().len();
        buffers.input_appended(size);
        assert_eq!((size, buffers.output().len()), (8, 4));
        let (scratch, output) = buffers.tmp_and_output();
        assert!(!scratch.is_empty() && output.len() == 4);
    }
}
