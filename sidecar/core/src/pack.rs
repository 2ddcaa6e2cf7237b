//! Packed bodies: how the chunks of a compressed generation lie in the engine, and what may be packed at all. A
//! packed body is cut exactly as the plain one was: ranges, tail and parts stay where they are.

use crate::{
    checksum::Checksum,
    chunk::Layout,
    hygiene::allocator::Allocator,
    parts::{PARTS_MAX, Span, number_word, of_word, take_sum},
};

/// In a record's `manifest_len`: the body is packed. The length itself never needs more than 23 bits, and the list of
/// generations to free carries the bit along.
pub const PACKED: u32 = 1 << 31;
/// A body is packed only if the engine then needs this much less for its chunks, in whole classes of its allocator:
/// below a tenth the second writing and every later unpacking cost more than the room is worth.
pub const GAIN_PERCENT_MIN: u64 = 10;
/// A single chunk is kept packed only if it saves as much; else it is stored as it is, and read without unpacking.
pub const CHUNK_GAIN_PERCENT_MIN: u64 = 10;
/// Chunks of one body: 4 GiB. More would be rewritten for longer than it is likely to stay unchanged, and its
/// checksums would fill the memory of a small pod.
pub const CHUNKS_PACKED_MAX: u32 = 1 << 14;
/// Read before anything is written: the first chunk, one in the middle and the last.
pub const SAMPLES: u32 = 3;
/// String header and slack of a value, as the planner of chunks counts them.
const VALUE_OVERHEAD: u64 = 64;
/// One part of a body that was uploaded in parts; its checksum, if it has one, follows.
const SPAN_BYTES: usize = 12;

/// Stored lengths of a packed body's chunks, and the parts that it was uploaded in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pack {
    /// One per chunk. As long as the chunk itself: it is stored as it is.
    pub lens: Vec<u32>,
    /// Number, size and checksum of each part; empty for a body in one run.
    pub spans: Vec<(u16, u64, Option<Checksum>)>,
}

impl Pack {
    pub fn append(&self, to: &mut Vec<u8>) {
        for len in &self.lens {
            to.extend_from_slice(&len.to_le_bytes());
        }
        for (number, size, sum) in &self.spans {
            to.extend_from_slice(&number_word(*number, *sum).to_le_bytes());
            to.extend_from_slice(&size.to_le_bytes());
            to.extend_from_slice(sum.as_ref().map(Checksum::value).unwrap_or_default());
        }
    }

    /// Of a body of `chunks` chunks.
    pub fn decode(chunks: usize, bytes: &[u8]) -> Option<Self> {
        let (lens, mut rest) = bytes.split_at_checked(chunks.checked_mul(4)?)?;
        let lens = lens.chunks_exact(4).map(|len| len.try_into().map(u32::from_le_bytes));
        let mut spans = Vec::new();
        while !rest.is_empty() {
            let (span, behind) = rest.split_at_checked(SPAN_BYTES)?;
            rest = behind;
            let (number, algorithm) = of_word(u32::from_le_bytes(span.get(..4)?.try_into().ok()?))?;
            let size = u64::from_le_bytes(span.get(4..)?.try_into().ok()?);
            let sum = match algorithm {
                None => None,
                Some(algorithm) => Some(take_sum(&mut rest, algorithm)?),
            };
            spans.push((number, size, sum));
            if spans.len() > usize::from(PARTS_MAX) {
                return None;
            }
        }
        Some(Self { lens: lens.collect::<Result<_, _>>().ok()?, spans })
    }

    /// The parts as their list has them, all in one generation.
    pub fn spans_in(&self, generation: crate::generation::Generation) -> impl Iterator<Item = Span> + '_ {
        self.spans.iter().map(move |(number, size, sum)| Span {
            number: *number,
            generation,
            size: *size,
            sum: *sum,
        })
    }
}

/// Whether a record's body is packed.
pub fn is_packed(manifest_len: u32) -> bool {
    manifest_len & PACKED != 0
}

/// Length of the manifest's value.
pub fn manifest_bytes(manifest_len: u32) -> u32 {
    manifest_len & !PACKED
}

/// What the engine's allocator takes for a value of `len` bytes. Its smallest classes differ between engines; no chunk
/// is that small.
pub fn engine_bytes(len: u32) -> u64 {
    Allocator::Jemalloc { quantum: 16 }.class(u64::from(len) + VALUE_OVERHEAD)
}

/// The form in which a chunk of `plain` bytes that packs to `packed` is kept.
pub fn stored_len(plain: u32, packed: u32) -> u32 {
    if packed < plain && saves(engine_bytes(plain), engine_bytes(packed), CHUNK_GAIN_PERCENT_MIN) {
        packed
    } else {
        plain
    }
}

/// Whether a body pays whose chunks took `before` and would take `after` bytes of the engine.
pub fn pays(before: u64, after: u64) -> bool {
    saves(before, after, GAIN_PERCENT_MIN)
}

fn saves(before: u64, after: u64, percent: u64) -> bool {
    u128::from(after) * 100 <= u128::from(before) * u128::from(100 - percent) && before > 0
}

/// The chunks to try first.
pub fn samples(chunks: u32) -> impl Iterator<Item = u32> {
    let all = [0, chunks / 2, chunks.saturating_sub(1)];
    (0..SAMPLES as usize).filter_map(move |at| {
        let index = *all.get(at)?;
        (index < chunks && !all.get(..at)?.contains(&index)).then_some(index)
    })
}

/// Why a body is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// Its body lies in the record.
    Inline,
    AlreadyPacked,
    /// Its generation is the version id that clients know.
    Versioned,
    Large,
    /// It was written or read too recently.
    Warm,
    /// Its content type is that of compressed data.
    ContentType,
    /// The client compressed it.
    ContentEncoding,
    /// It was tried and saves too little.
    NoGain,
    /// The store had no time or no room for it.
    Busy,
    /// It was written, changed or deleted meanwhile.
    Changed,
    Damaged,
}

impl Skip {
    /// For figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::AlreadyPacked => "already_packed",
            Self::Versioned => "versioned",
            Self::Large => "large",
            Self::Warm => "warm",
            Self::ContentType => "content_type",
            Self::ContentEncoding => "content_encoding",
            Self::NoGain => "no_gain",
            Self::Busy => "busy",
            Self::Changed => "changed",
            Self::Damaged => "damaged",
        }
    }
}

/// What is known of an object before its body is read.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub layout: &'a Layout,
    pub manifest_len: u32,
    pub versioned: bool,
    pub modified_ms: u64,
    /// Hours since 1970 of the last read.
    pub access_hour: u32,
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
}

/// `None`: worth reading a sample.
pub fn skipped(candidate: &Candidate<'_>, now_ms: u64, age_ms_min: u64) -> Option<Skip> {
    let Candidate {
        layout,
        manifest_len,
        versioned,
        modified_ms,
        access_hour,
        content_type,
        content_encoding,
    } = *candidate;
    let plain = |encoding: &str| matches!(encoding, "" | "identity" | "aws-chunked");
    if layout.chunks == 0 {
        Some(Skip::Inline)
    } else if is_packed(manifest_len) {
        Some(Skip::AlreadyPacked)
    } else if versioned {
        Some(Skip::Versioned)
    } else if layout.chunks > CHUNKS_PACKED_MAX {
        Some(Skip::Large)
    } else if content_encoding.is_some_and(|encodings| {
        !encodings.split(',').all(|encoding| plain(&encoding.trim().to_ascii_lowercase()))
    }) {
        Some(Skip::ContentEncoding)
    } else if content_type.is_some_and(incompressible) {
        Some(Skip::ContentType)
    } else if last_used_ms(modified_ms, access_hour, now_ms).saturating_add(age_ms_min) > now_ms {
        Some(Skip::Warm)
    } else {
        None
    }
}

/// The latest time at which the object may have been used: reads are known to the hour.
fn last_used_ms(modified_ms: u64, access_hour: u32, now_ms: u64) -> u64 {
    const HOUR_MS: u64 = 3_600_000;
    modified_ms.max((u64::from(access_hour) + 1) * HOUR_MS).min(now_ms)
}

/// Content types whose bytes are compressed already: they are not even read. A type that is wrongly missing here costs
/// one sample.
pub fn incompressible(content_type: &str) -> bool {
    const WHOLE: &[&str] = &[
        "application/epub+zip",
        "application/gzip",
        "application/java-archive",
        "application/pdf",
        "application/vnd.android.package-archive",
        "application/vnd.rar",
        "application/x-7z-compressed",
        "application/x-brotli",
        "application/x-bzip",
        "application/x-bzip2",
        "application/x-compress",
        "application/x-gzip",
        "application/x-lz4",
        "application/x-lzma",
        "application/x-rar-compressed",
        "application/x-xz",
        "application/x-zip-compressed",
        "application/zip",
        "application/zstd",
        "font/woff",
        "font/woff2",
    ];
    const FAMILIES: &[&str] =
        &["audio/", "image/", "video/", "application/vnd.oasis.", "application/vnd.openxmlformats-"];
    /// Of those families, what is stored as it is.
    const PLAIN: &[&str] =
        &["image/svg+xml", "image/bmp", "image/tiff", "audio/wav", "audio/x-wav", "audio/midi"];
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if PLAIN.contains(&kind.as_str()) {
        return false;
    }
    WHOLE.contains(&kind.as_str()) || FAMILIES.iter().any(|family| kind.starts_with(family))
}

#[cfg(test)]
mod tests;
