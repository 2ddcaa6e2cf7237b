//! Contents made from a seed: any size without holding it, the same bytes each time, and a checksum that
//! is computed while they stream.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use xxhash_rust::xxh3::Xxh3;

/// One frame: large enough that the loop costs nothing, small enough for a hundred bodies at once.
const FRAME: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Payload {
    pub seed: u64,
    pub size: u64,
}

/// What a content is known by: its size and XXH3 of 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    pub size: u64,
    pub hash: u128,
}

/// A checksum under way.
#[derive(Default)]
pub struct Summer {
    hash: Xxh3,
    size: u64,
}

impl std::fmt::Debug for Summer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Summer({} bytes)", self.size)
    }
}

impl Summer {
    pub fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }

    pub fn finish(&self) -> Checksum {
        Checksum { size: self.size, hash: self.hash.digest128() }
    }
}

pub fn checksum(bytes: &[u8]) -> Checksum {
    let mut summer = Summer::default();
    summer.update(bytes);
    summer.finish()
}

impl Payload {
    pub fn body(self) -> Stream {
        Stream { state: self.seed | 1, left: self.size }
    }

    /// Computed by making the contents: costs as much as reading them once.
    pub fn checksum(self) -> Checksum {
        let mut stream = self.body();
        let mut summer = Summer::default();
        while let Some(frame) = stream.next_frame() {
            summer.update(&frame);
        }
        summer.finish()
    }

    pub fn bytes(self) -> Bytes {
        let mut stream = self.body();
        let mut all = Vec::new();
        while let Some(frame) = stream.next_frame() {
            all.extend_from_slice(&frame);
        }
        all.into()
    }
}

/// The contents as a request body of known length.
#[derive(Debug)]
pub struct Stream {
    state: u64,
    left: u64,
}

impl Stream {
    fn next_frame(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let size = usize::try_from(self.left).unwrap_or(FRAME).min(FRAME);
        let mut frame = Vec::with_capacity(size + 8);
        while frame.len() < size {
            // SplitMix64: eight bytes a step that no compressor and no deduplication can shorten.
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            frame.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        frame.truncate(size);
        self.left -= size as u64;
        Some(frame.into())
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next_frame().map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_has_the_size_and_the_checksum_of_its_bytes() {
        for size in [0, 1, 7, 8, 65_535, 65_536, 65_537, 200_000] {
            let payload = Payload { seed: 42, size };
            let bytes = payload.bytes();
            assert_eq!(bytes.len() as u64, size);
            assert_eq!(checksum(&bytes), payload.checksum());
        }
    }

    #[test]
    fn seeds_make_different_contents() {
        let of = |seed| Payload { seed, size: 1000 }.checksum();
        assert_ne!(of(2), of(4));
    }
}
