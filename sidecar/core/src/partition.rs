//! Objects to partitions, partitions to hash tags and slots. The tag of partition p of n lies in slot band p, so
//! that neighbouring partitions sit on one shard and a shard's slot range is a partition range.

use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Slots of a Redis Cluster.
pub const SLOTS: u16 = 16384;
/// Most partitions of a store: one tag for each of these is in the table.
pub const PARTITIONS_MAX: u32 = 256;

/// `TAGS[b]` hashes into slot band b of 64 slots. A test proves every row.
const TAGS: [&str; PARTITIONS_MAX as usize] = [
    "cv", "bl", "cr", "bh", "6u", "bd", "cz", "d3", "cg", "7v", "cc", "by", "co", "bu", "ck", "bq", "ae",
    "5t", "aa", "oz", "am", "ov", "ai", "or", "3", "oo", "7", "f9", "4w", "f5", "ax", "f1", "kz", "c2", "1t",
    "c6", "ds", "ei", "dw", "em", "b9", "ep", "dn", "et", "b1", "ex", "b5", "0w", "fh", "f", "fl", "b", "ia",
    "n", "fd", "j", "fy", "w", "3v", "s", "fq", "a8", "fu", "go", "cw", "bm", "cs", "bi", "6t", "be", "lz",
    "ba", "cf", "7w", "cb", "bx", "cn", "bt", "cj", "bp", "ad", "5u", "g3", "qy", "al", "ow", "ah", "os",
    "2", "on", "6", "f8", "4v", "f4", "ay", "f0", "dz", "c3", "1u", "c7", "dr", "eh", "dv", "el", "b8", "eq",
    "do", "eu", "b0", "ey", "b4", "0v", "fi", "g", "fm", "c", "fa", "o", "fe", "k", "fx", "v", "3w", "r",
    "fp", "a9", "ft", "z", "bn", "ct", "bj", "cp", "bf", "6w", "bb", "cx", "7t", "ce", "mz", "ca", "bw",
    "cm", "bs", "ci", "5v", "ag", "ox", "ac", "ot", "ao", "op", "ak", "om", "1", "oi", "5", "f7", "9", "f3",
    "az", "c0", "dy", "c4", "1v", "c8", "dq", "eo", "du", "er", "dh", "ev", "dl", "ez", "b3", "0u", "b7",
    "d", "fj", "gt", "fn", "l", "fb", "h", "ff", "u", "iz", "q", "3t", "gi", "fs", "y", "fw", "bo", "cu",
    "bk", "cq", "bg", "6v", "bc", "cy", "7u", "cd", "bz", "e3", "bv", "cl", "br", "ch", "5w", "af", "oy",
    "ab", "ou", "an", "oq", "aj", "ol", "0", "oh", "4", "f6", "8", "f2", "nz", "c1", "dx", "c5", "1w", "c9",
    "dp", "en", "dt", "es", "di", "ew", "dm", "jz", "b2", "0t", "b6", "e", "fk", "a", "fo", "m", "fc", "i",
    "fg", "t", "fz", "p", "3u", "gh", "fr", "x", "fv",
];

/// The hash tag of a partition: the text between the braces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionTag(u8);

impl PartitionTag {
    pub fn as_str(self) -> &'static str {
        TAGS[usize::from(self.0)]
    }

    pub fn parse(text: &str) -> Option<Self> {
        TAGS.iter().position(|tag| *tag == text).and_then(|band| u8::try_from(band).ok()).map(Self)
    }

    /// The slot of every key with this tag.
    pub fn slot(self) -> u16 {
        crc16(self.as_str().as_bytes()) % SLOTS
    }
}

impl fmt::Display for PartitionTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PartitionTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// The tag of partition `partition` of `partitions`. With fewer than 256 partitions the bands are wider and the
/// first tag of each is used; partitions beyond the count wrap.
pub fn tag_of(partition: u32, partitions: u32) -> PartitionTag {
    let partitions = partitions.clamp(1, PARTITIONS_MAX);
    let band = (partition % partitions) * PARTITIONS_MAX / partitions;
    PartitionTag(u8::try_from(band).unwrap_or(u8::MAX))
}

/// The partition of an object: a hash of `bucket/name`.
pub fn partition_of(bucket: &str, name: &str, partitions: u32) -> u32 {
    let mut hash = Xxh3::new();
    hash.update(bucket.as_bytes());
    hash.update(b"/");
    hash.update(name.as_bytes());
    modulo(hash.digest(), partitions)
}

/// The home partition of a bucket's configuration.
pub fn home_of(bucket: &str, partitions: u32) -> u32 {
    modulo(xxh3_64(bucket.as_bytes()), partitions)
}

fn modulo(hash: u64, partitions: u32) -> u32 {
    let partitions = u64::from(partitions.clamp(1, PARTITIONS_MAX));
    u32::try_from(hash % partitions).unwrap_or(0)
}

/// CRC16/XMODEM, the hash of cluster slots.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_tag_lies_in_its_band() {
        assert_eq!(crc16(b"123456789"), 0x31C3, "the checksum's published check value");
        for (band, tag) in TAGS.iter().enumerate() {
            assert!((1..=2).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric()), "{tag}");
            assert_eq!(usize::from(crc16(tag.as_bytes()) % SLOTS) / 64, band, "{tag}");
        }
    }

    #[test]
    fn fewer_partitions_get_wider_bands() {
        for partitions in [1, 2, 3, 16, 100, 255, 256] {
            for partition in 0..partitions {
                let slot = u32::from(tag_of(partition, partitions).slot());
                let band = u32::from(SLOTS) / partitions;
                assert!(
                    slot + 64 > partition * band && slot < (partition + 1) * band + 64,
                    "partition {partition} of {partitions}: slot {slot}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn partitions_are_in_range_and_tags_round_trip(name in "\\PC{1,40}", partitions in 1_u32..=256) {
            let partition = partition_of("b", &name, partitions);
            prop_assert!(partition < partitions);
            let tag = tag_of(partition, partitions);
            prop_assert_eq!(PartitionTag::parse(tag.as_str()), Some(tag));
        }
    }

    #[test]
    fn objects_spread_evenly() {
        let mut seen = [0_u32; 16];
        for index in 0..16_000 {
            seen[partition_of("bucket", &format!("object-{index}"), 16) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }
}
