//! How a body is cut: whole chunks, then a last piece that fills one of the allocator's size classes, then a few
//! bytes that ride in the record. Round sizes would cost a quarter more of the engine's memory.

use std::ops::Range;

/// 2^18 - 64: the value, its string header and the engine's slack fill one 256 KiB class; 2^18 would take the next.
pub const CHUNK_BYTES: u32 = 262_080;
/// Up to this size the whole body lives in the record: one round trip, one key.
pub const INLINE_BYTES_MAX: usize = 16 << 10;
/// Longest tail that rides in the record. Reading a record must stay cheap.
pub const TAIL_BYTES_MAX: u32 = 16 << 10;
/// What a value needs besides its bytes (string header, the engine's spare), generously.
const VALUE_OVERHEAD: u32 = 64;

/// The allocator's size classes (four per doubling) that a last piece may fill.
const CLASSES: [u32; 17] = [
    16_384, 20_480, 24_576, 28_672, 32_768, 40_960, 49_152, 57_344, 65_536, 81_920, 98_304, 114_688, 131_072,
    163_840, 196_608, 229_376, 262_144,
];

/// The value sizes that fill a class exactly, ascending. The buffer pool keeps buffers of these.
pub fn class_payloads() -> impl DoubleEndedIterator<Item = u32> + Clone {
    CLASSES.iter().map(|class| class - VALUE_OVERHEAD)
}

/// What happens to the bytes behind the last whole chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Length of the last, shorter chunk; 0: there is none.
    pub chunk: u32,
    /// Length of the tail in the record.
    pub tail: u32,
}

/// Cuts `rest` bytes (less than one chunk) so that the engine pays least for them.
pub fn plan_rest(rest: u32) -> Rest {
    if rest <= TAIL_BYTES_MAX {
        return Rest { chunk: 0, tail: rest };
    }
    let whole = Rest { chunk: rest, tail: 0 };
    let Some(filled) = class_payloads().rev().find(|payload| *payload <= rest) else { return whole };
    let tail = rest - filled;
    // A tail costs its bytes and, on average, an eighth for the record's own class.
    let split_cost = filled + VALUE_OVERHEAD + tail + tail / 8;
    let whole_cost = CLASSES.iter().find(|class| **class >= rest + VALUE_OVERHEAD).unwrap_or(&CHUNK_BYTES);
    if tail <= TAIL_BYTES_MAX && split_cost <= *whole_cost { Rest { chunk: filled, tail } } else { whole }
}

/// How a stored body lies in chunks and tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Length of every chunk but the last.
    pub chunk_bytes: u32,
    pub chunks: u32,
    /// Length of the last chunk; 0 without chunks.
    pub last: u32,
    pub tail: u32,
    /// Bytes in chunks of a body made of parts, where every part ends in a shorter chunk: the part list tells where
    /// they lie. 0: all chunks but the last are alike.
    pub parts_bytes: u64,
}

/// One run of bytes from one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub place: Place,
    /// Bytes to leave out at the front.
    pub skip: u32,
    pub take: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Chunk(u32),
    Tail,
}

impl Layout {
    /// The layout of a body of `size` bytes. `None`: larger than 2^32 chunks.
    pub fn of(size: u64) -> Option<Self> {
        let whole = size / u64::from(CHUNK_BYTES);
        let rest = plan_rest(u32::try_from(size % u64::from(CHUNK_BYTES)).ok()?);
        let whole = u32::try_from(whole).ok()?;
        let chunks = whole.checked_add(u32::from(rest.chunk > 0))?;
        let last = match (rest.chunk, whole) {
            (0, 0) => 0,
            (0, _) => CHUNK_BYTES,
            (chunk, _) => chunk,
        };
        Some(Self { chunk_bytes: CHUNK_BYTES, chunks, last, tail: rest.tail, parts_bytes: 0 })
    }

    /// The layout of one part: no tail, for a part has no record to carry it.
    pub fn of_part(size: u64) -> Option<Self> {
        let chunks = u32::try_from(size.div_ceil(u64::from(CHUNK_BYTES))).ok()?;
        let before = u64::from(chunks.saturating_sub(1)) * u64::from(CHUNK_BYTES);
        let last = u32::try_from(size - before).ok()?;
        Some(Self { chunk_bytes: CHUNK_BYTES, chunks, last, tail: 0, parts_bytes: 0 })
    }

    /// The layout of a body of several parts with `chunks` chunks together.
    pub fn of_parts(size: u64, chunks: u32) -> Self {
        Self { chunk_bytes: CHUNK_BYTES, chunks, last: 0, tail: 0, parts_bytes: size }
    }

    /// A body that lies in the record alone.
    pub fn inline(tail: u32) -> Self {
        Self { chunk_bytes: CHUNK_BYTES, chunks: 0, last: 0, tail, parts_bytes: 0 }
    }

    pub fn in_parts(&self) -> bool {
        self.parts_bytes > 0
    }

    pub fn size(&self) -> u64 {
        self.chunked() + u64::from(self.tail)
    }

    /// Bytes that lie in chunks.
    pub fn chunked(&self) -> u64 {
        if self.in_parts() {
            return self.parts_bytes;
        }
        match self.chunks.checked_sub(1) {
            None => 0,
            Some(before) => u64::from(before) * u64::from(self.chunk_bytes) + u64::from(self.last),
        }
    }

    pub fn chunk_len(&self, index: u32) -> u32 {
        if index + 1 == self.chunks { self.last } else { self.chunk_bytes }
    }

    /// The piece that holds byte `at`, up to `end`. `None`: `at` is not below `end`, or outside the body. For bodies in
    /// parts ask their part list.
    pub fn piece_at(&self, at: u64, end: u64) -> Option<Piece> {
        let end = end.min(self.size());
        if at >= end {
            return None;
        }
        let take = |len: u64| u32::try_from(len.min(end - at)).unwrap_or(u32::MAX);
        let chunked = self.chunked();
        if at >= chunked {
            let skip = u32::try_from(at - chunked).ok()?;
            return Some(Piece { place: Place::Tail, skip, take: take(u64::from(self.tail - skip)) });
        }
        let index = u32::try_from(at / u64::from(self.chunk_bytes)).ok()?;
        let skip = u32::try_from(at % u64::from(self.chunk_bytes)).ok()?;
        let left = u64::from(self.chunk_len(index) - skip);
        Some(Piece { place: Place::Chunk(index), skip, take: take(left) })
    }

    /// The pieces of a range, in order.
    pub fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece> + use<> {
        let layout = *self;
        let mut at = range.start;
        std::iter::from_fn(move || {
            let piece = layout.piece_at(at, range.end)?;
            at += u64::from(piece.take);
            Some(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(size: u64, chunks: u32, last: u32, tail: u32) {
        let want = Layout { chunk_bytes: CHUNK_BYTES, chunks, last, tail, parts_bytes: 0 };
        assert_eq!(Layout::of(size), Some(want), "{size}");
    }

    #[test]
    fn sizes_fill_classes() {
        check(0, 0, 0, 0);
        check(16_384, 0, 0, 16_384);
        check(16_385, 1, 16_320, 65);
        check(65_536, 1, 65_472, 64);
        check(262_080, 1, 262_080, 0);
        check(262_079, 1, 262_079, 0);
        check(262_081, 1, 262_080, 1);
        check(1 << 20, 4, 262_080, 256);
        check(524_160 + 16_384, 2, 262_080, 16_384);
    }

    #[test]
    fn a_leftover_too_large_for_the_record_stays_in_its_chunk() {
        // 20,000 above a class is more than a record takes.
        assert_eq!(plan_rest(196_544 + 20_000), Rest { chunk: 216_544, tail: 0 });
    }

    #[test]
    fn a_64_kib_body_costs_less_than_one_percent_more() {
        let rest = plan_rest(65_536);
        let class = CLASSES.iter().find(|class| **class >= rest.chunk + VALUE_OVERHEAD).expect("a class");
        assert!(f64::from(class + rest.tail + rest.tail / 8) / 65_536.0 < 1.01);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_piece_is_too_long(size in 0_u64..(40 << 20)) {
            let layout = Layout::of(size).expect("fits");
            prop_assert_eq!(layout.size(), size);
            prop_assert!(layout.tail <= TAIL_BYTES_MAX && layout.last <= CHUNK_BYTES);
            prop_assert!(layout.chunks == 0 || layout.last > 0);
            let part = Layout::of_part(size).expect("fits");
            prop_assert_eq!(part.size(), size);
            prop_assert!(part.tail == 0 && part.last <= CHUNK_BYTES && (part.chunks > 0) == (size > 0));
        }

        #[test]
        fn pieces_of_a_range_are_the_range(size in 1_u64..(3 << 20), a in any::<u64>(), b in any::<u64>()) {
            let layout = Layout::of(size).expect("fits");
            let (start, end) = ((a % size).min(b % size), (a % size).max(b % size) + 1);
            let mut at = start;
            for piece in layout.pieces(start..end) {
                let offset = match piece.place {
                    Place::Chunk(index) => {
                        prop_assert!(piece.skip + piece.take <= layout.chunk_len(index));
                        u64::from(index) * u64::from(CHUNK_BYTES)
                    }
                    Place::Tail => {
                        prop_assert!(piece.skip + piece.take <= layout.tail);
                        layout.chunked()
                    }
                };
                prop_assert_eq!(offset + u64::from(piece.skip), at);
                at += u64::from(piece.take);
            }
            prop_assert_eq!(at, end);
        }

        #[test]
        fn no_cut_costs_more_than_the_whole(rest in 1_u32..CHUNK_BYTES) {
            let cut = plan_rest(rest);
            prop_assert_eq!(cut.chunk + cut.tail, rest);
            prop_assert!(cut.chunk > 0 || cut.tail <= TAIL_BYTES_MAX);
        }
    }
}
