//! Reads many messages from one stream: one JSON payload per line.

use std::io::{BufRead, BufReader, Read};

use wire::BATCH_MESSAGES_MAX;

/// A batch is complete when it has this many bytes.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Returns the lines that have arrived as one batch. Waits for the first line, but not for further lines.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    bytes_max: usize,
    /// Number of the last line read, counted from 1.
    number: u64,
}

/// Lines that arrived together.
#[derive(Debug, Default)]
pub(super) struct LineBatch {
    /// Each line with its number, counted from 1. Empty lines are left out.
    pub(super) lines: Vec<(u64, String)>,
    /// The number of the line that ended the reading, and the reason. `None` at the end of the input.
    pub(super) wrong: Option<(u64, String)>,
}

impl<R: Read> Lines<R> {
    /// Accepts lines of at most `bytes_max` bytes.
    pub(super) fn new(input: R, bytes_max: usize) -> Self {
        Self { input: BufReader::with_capacity(BATCH_BYTES_MAX, input), bytes_max, number: 0 }
    }

    /// Returns the next batch. A batch without lines is the end.
    pub(super) fn next(&mut self) -> LineBatch {
        let (mut batch, mut bytes) = (LineBatch::default(), 0);
        while batch.lines.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX {
            match self.line() {
                Ok(None) => break,
                Ok(Some(line)) if line.trim().is_empty() => {}
                Ok(Some(line)) => {
                    bytes += line.len();
                    batch.lines.push((self.number, line));
                }
                Err(reason) => {
                    batch.wrong = Some((self.number, reason));
                    break;
                }
            }
            if !batch.lines.is_empty() && !self.is_at_hand() {
                break;
            }
        }
        batch
    }

    fn line(&mut self) -> Result<Option<String>, String> {
        self.number += 1;
        let mut bytes = Vec::new();
        // The line end, which may have two bytes, does not count.
        let most = self.bytes_max as u64 + 2;
        let read = self.input.by_ref().take(most).read_until(b'\n', &mut bytes);
        read.map_err(|error| format!("standard input: {error}"))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.len() > self.bytes_max {
            return Err(format!("the payload has more than {} bytes (limits.message_bytes_max)", self.bytes_max));
        }
        String::from_utf8(text.to_vec()).map(Some).map_err(|_| "the line is not UTF-8".to_owned())
    }

    /// Whether a complete line has arrived.
    fn is_at_hand(&self) -> bool {
        self.input.buffer().contains(&b'\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one piece per read, as a pipe does.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            into[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn numbers(batch: &LineBatch) -> Vec<u64> {
        batch.lines.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn what_comes_together_goes_together_and_nothing_is_waited_for() {
        let mut lines = Lines::new(Pieces(vec![b"1\n2\n", b"3\n\n4", b"4\r\n5\n", b"6"]), 100);
        let mut batches = Vec::new();
        loop {
            let batch = lines.next();
            if batch.lines.is_empty() {
                break;
            }
            assert_eq!(batch.wrong, None);
            batches.push(batch.lines.iter().map(|(number, text)| format!("{number}:{text}")).collect::<Vec<_>>());
        }
        assert_eq!(batches, [vec!["1:1", "2:2"], vec!["3:3"], vec!["5:44", "6:5"], vec!["7:6"]]);
    }

    #[test]
    fn a_batch_is_bounded() {
        let text: Vec<u8> = b"1\n".repeat(150);
        let mut lines = Lines::new(text.as_slice(), 100);
        let sizes = [lines.next(), lines.next(), lines.next(), lines.next()].map(|batch| batch.lines.len());
        assert_eq!(sizes, [64, 64, 22, 0]);
    }

    #[test]
    fn a_bad_line_ends_the_reading_behind_the_good_ones() {
        for (input, reason) in [(&b"1\n22\n333\n4\n"[..], "more than 2 bytes"), (b"1\n22\n\xff\n4\n", "UTF-8")] {
            let batch = Lines::new(input, 2).next();
            assert_eq!(numbers(&batch), [1, 2]);
            let (number, error) = batch.wrong.unwrap();
            assert!(number == 3 && error.contains(reason), "{number}: {error}");
        }
    }
}
