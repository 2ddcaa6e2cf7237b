//! The part list of an object that was uploaded in parts: whose chunks its body is made of, in order, with the
//! checksums of all of them. Written before the commit; the chunks themselves stay where the parts put them.

use crate::{
    checksum::{Algorithm, Checksum, Coverage},
    chunk::{CHUNK_BYTES, Layout, Piece, Place},
    generation::Generation,
    manifest::crc32c,
};

/// Most parts of one upload: the limit of S3.
pub const PARTS_MAX: u16 = 10_000;
/// Most chunks of one object: 64 GiB, and a part list of 2 MiB.
pub const CHUNKS_MAX: u32 = 1 << 18;

const MAGIC: &[u8; 4] = b"BSP1";
const FIXED_BYTES: usize = 40;
const SPAN_BYTES: usize = 28;
/// In a span's number: the code of its checksum's algorithm. The checksums themselves stand behind those of the chunks.
const CODE_SHIFT: u32 = 16;
const CRC_AT: usize = 36;

/// One part as the list has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub number: u16,
    pub generation: Generation,
    pub size: u64,
    /// Of its bytes, as the client knows it; kept where the upload was opened with an algorithm.
    pub sum: Option<Checksum>,
}

impl Span {
    /// Number and algorithm in one word.
    fn word(&self) -> u32 {
        number_word(self.number, self.sum)
    }
}

/// A part's number, with the code of its checksum's algorithm above it.
pub(crate) fn number_word(number: u16, sum: Option<Checksum>) -> u32 {
    u32::from(number) | sum.map_or(0, |sum| u32::from(sum.algorithm.code()) << CODE_SHIFT)
}

/// The number and the algorithm of the checksum that follows, if one does.
pub(crate) fn of_word(word: u32) -> Option<(u16, Option<Algorithm>)> {
    let number = u16::try_from(word & ((1 << CODE_SHIFT) - 1)).ok()?;
    match u8::try_from(word >> CODE_SHIFT).ok()? {
        0 => Some((number, None)),
        code => Some((number, Some(Algorithm::of_code(code)?))),
    }
}

/// Takes the checksum of one part from the front.
pub(crate) fn take_sum(bytes: &mut &[u8], algorithm: Algorithm) -> Option<Checksum> {
    let (value, rest) = bytes.split_at_checked(algorithm.value_len())?;
    *bytes = rest;
    Checksum::new(algorithm, Coverage::FullObject, value)
}

/// A span and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    span: Span,
    start: u64,
    first_chunk: u32,
}

/// All parts of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartList {
    generation: Generation,
    parts: Vec<Placed>,
    /// One per chunk, over all parts.
    crcs: Vec<u64>,
    size: u64,
    /// All chunks lie in one generation, numbered through: a packed body.
    joined: bool,
}

/// The part list is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the part list's checksum or layout does not match")]
pub struct PartListError;

impl PartList {
    /// `None`: the checksums are not those of these parts, or there are too many of either.
    pub fn new(
        generation: Generation,
        spans: impl IntoIterator<Item = Span>,
        crcs: Vec<u64>,
    ) -> Option<Self> {
        let (mut start, mut first_chunk, mut parts) = (0_u64, 0_u32, Vec::new());
        for span in spans {
            parts.push(Placed { span, start, first_chunk });
            start = start.checked_add(span.size)?;
            first_chunk = first_chunk.checked_add(Layout::of_part(span.size)?.chunks)?;
        }
        let fits = parts.len() <= usize::from(PARTS_MAX) && first_chunk <= CHUNKS_MAX;
        (fits && crcs.len() == first_chunk as usize).then_some(Self {
            generation,
            parts,
            crcs,
            size: start,
            joined: false,
        })
    }

    /// The same parts in one generation, their chunks numbered through.
    pub fn joined(
        generation: Generation,
        spans: impl IntoIterator<Item = Span>,
        crcs: Vec<u64>,
    ) -> Option<Self> {
        Some(Self { joined: true, ..Self::new(generation, spans, crcs)? })
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn chunks(&self) -> u32 {
        u32::try_from(self.crcs.len()).unwrap_or(u32::MAX)
    }

    pub fn crcs(&self) -> &[u64] {
        &self.crcs
    }

    pub fn spans(&self) -> impl ExactSizeIterator<Item = Span> + '_ {
        self.parts.iter().map(|placed| placed.span)
    }

    /// Bytes in memory, for the cache.
    pub fn weight(&self) -> u64 {
        (self.parts.len() * size_of::<Placed>() + self.crcs.len() * size_of::<u64>()) as u64
    }

    /// The piece that holds byte `at`, up to `end`.
    pub fn piece_at(&self, at: u64, end: u64) -> Option<Piece> {
        let end = end.min(self.size);
        if at >= end {
            return None;
        }
        // The last part that begins at or before the byte: an empty part before it holds nothing.
        let part = self.parts.get(self.parts.partition_point(|part| part.start <= at).checked_sub(1)?)?;
        let inside = at - part.start;
        let local = u32::try_from(inside / u64::from(CHUNK_BYTES)).ok()?;
        let skip = u32::try_from(inside % u64::from(CHUNK_BYTES)).ok()?;
        let len = Layout::of_part(part.span.size)?.chunk_len(local);
        let take = u32::try_from(u64::from(len - skip).min(end - at)).ok()?;
        Some(Piece { place: Place::Chunk(part.first_chunk + local), skip, take })
    }

    /// Where chunk `index` of the object lies: the part's generation, the chunk's index there, its length.
    pub fn locate(&self, index: u32) -> Option<(Generation, u32, u32)> {
        let at = self.parts.partition_point(|part| part.first_chunk <= index).checked_sub(1)?;
        let part = self.parts.get(at)?;
        let local = index - part.first_chunk;
        let layout = Layout::of_part(part.span.size)?;
        let (generation, at) =
            if self.joined { (self.generation, index) } else { (part.span.generation, local) };
        (local < layout.chunks).then(|| (generation, at, layout.chunk_len(local)))
    }

    /// Length of the encoded list.
    pub fn encoded_len(&self) -> usize {
        let sums: usize = self.spans().filter_map(|span| span.sum).map(|sum| sum.value().len()).sum();
        FIXED_BYTES + SPAN_BYTES * self.parts.len() + 8 * self.crcs.len() + sums
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&u32::try_from(self.parts.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&self.generation.0);
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&self.chunks().to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for span in self.spans() {
            bytes.extend_from_slice(&span.generation.0);
            bytes.extend_from_slice(&span.size.to_le_bytes());
            bytes.extend_from_slice(&span.word().to_le_bytes());
        }
        for crc in &self.crcs {
            bytes.extend_from_slice(&crc.to_le_bytes());
        }
        for sum in self.spans().filter_map(|span| span.sum) {
            bytes.extend_from_slice(sum.value());
        }
        let crc = crc32c(&[&bytes[..CRC_AT], &bytes[FIXED_BYTES..]]);
        bytes[CRC_AT..FIXED_BYTES].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, PartListError> {
        decode(bytes).ok_or(PartListError)
    }
}

fn decode(bytes: &[u8]) -> Option<PartList> {
    let (fixed, rest) = bytes.split_at_checked(FIXED_BYTES)?;
    let u32_at = |at: usize| Some(u32::from_le_bytes(fixed.get(at..at + 4)?.try_into().ok()?));
    if fixed.get(..4)? != MAGIC || u32_at(CRC_AT)? != crc32c(&[&fixed[..CRC_AT], rest]) {
        return None;
    }
    let parts = usize::try_from(u32_at(4)?).ok()?;
    let (spans, rest) = rest.split_at_checked(parts.checked_mul(SPAN_BYTES)?)?;
    let chunks = usize::try_from(u32_at(32)?).ok()?;
    let (crcs, mut sums) = rest.split_at_checked(chunks.checked_mul(8)?)?;
    let spans: Option<Vec<Span>> =
        spans.chunks_exact(SPAN_BYTES).map(|bytes| span(bytes, &mut sums)).collect();
    let crcs: Option<Vec<u64>> =
        crcs.chunks(8).map(|crc| Some(u64::from_le_bytes(crc.try_into().ok()?))).collect();
    let list = PartList::new(Generation(fixed.get(8..24)?.try_into().ok()?), spans?, crcs?)?;
    (sums.is_empty() && list.size == u64::from_le_bytes(fixed.get(24..32)?.try_into().ok()?)).then_some(list)
}

fn span(bytes: &[u8], sums: &mut &[u8]) -> Option<Span> {
    let (number, algorithm) = of_word(u32::from_le_bytes(bytes.get(24..28)?.try_into().ok()?))?;
    Some(Span {
        generation: Generation(bytes.get(..16)?.try_into().ok()?),
        size: u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?),
        number,
        sum: match algorithm {
            None => None,
            Some(algorithm) => Some(take_sum(sums, algorithm)?),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(sizes: &[u64]) -> PartList {
        let sum = |number: u8| {
            let algorithm = Algorithm::ALL[usize::from(number) % 5];
            Checksum::new(algorithm, Coverage::FullObject, &[number; 32][..algorithm.value_len()])
        };
        let spans: Vec<Span> = (1_u8..)
            .zip(sizes)
            .map(|(number, size)| Span {
                number: u16::from(number) * 3,
                generation: Generation([number; 16]),
                size: *size,
                sum: sum(number).filter(|_| number % 3 > 0),
            })
            .collect();
        let chunks: u64 = sizes.iter().map(|size| size.div_ceil(u64::from(CHUNK_BYTES))).sum();
        PartList::new(Generation([99; 16]), spans, (0..chunks).collect()).expect("consistent")
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(sizes in proptest::collection::vec(0_u64..900_000, 0..12)) {
            let list = list(&sizes);
            let bytes = list.encode();
            prop_assert_eq!(bytes.len(), list.encoded_len());
            prop_assert_eq!(PartList::decode(&bytes), Ok(list));
        }

        #[test]
        fn every_flipped_byte_is_noticed(at in 0_usize..1000, flip in 1_u8..) {
            let mut bytes = list(&[300_000, 5, 600_000]).encode();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert_eq!(PartList::decode(&bytes), Err(PartListError));
        }

        #[test]
        fn foreign_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(PartList::decode(&bytes), Err(PartListError));
        }

        #[test]
        fn pieces_cover_a_range_in_order(
            sizes in proptest::collection::vec(0_u64..700_000, 1..8), a in any::<u64>(), b in any::<u64>(),
        ) {
            let list = list(&sizes);
            prop_assume!(list.size() > 0);
            let (a, b) = (a % list.size(), b % list.size());
            let (mut at, end) = (a.min(b), a.max(b) + 1);
            while at < end {
                let piece = list.piece_at(at, end).expect("inside");
                let Place::Chunk(index) = piece.place else { panic!("parts have no tail") };
                let (generation, local, len) = list.locate(index).expect("a chunk");
                let part = usize::from(generation.0[0]) - 1;
                let start: u64 = sizes[..part].iter().sum();
                prop_assert_eq!(start + u64::from(local) * u64::from(CHUNK_BYTES) + u64::from(piece.skip), at);
                prop_assert!(piece.take > 0 && piece.skip + piece.take <= len);
                at += u64::from(piece.take);
            }
            prop_assert_eq!(at, end);
            prop_assert_eq!(list.locate(list.chunks()), None);
            let joined = PartList::joined(list.generation(), list.spans(), list.crcs().to_vec()).expect("the same");
            for index in 0..list.chunks() {
                let len = list.locate(index).expect("a chunk").2;
                prop_assert_eq!(joined.locate(index), Some((list.generation(), index, len)));
            }
            prop_assert_eq!(joined.piece_at(a.min(b), end), list.piece_at(a.min(b), end));
        }
    }
}
