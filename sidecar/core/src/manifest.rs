//! The manifest of a generation: whose chunks these are, and later their checksums. Written before chunk 0, so that
//! no chunk is ever without an owner, and once more, complete, before the commit.

use crc_fast::{CrcAlgorithm, Digest};

use crate::{generation::Generation, pack::Pack};

/// Length of the fixed part; bucket, name and checksums follow.
pub const MANIFEST_FIXED_BYTES: usize = 48;

const MAGIC: &[u8; 4] = b"BSM1";
const FLAG_COMPLETE: u32 = 1;
/// The body is one part of a multipart upload; the upload's generation follows the name.
const FLAG_PART: u32 = 2;
/// The chunks are packed: their stored lengths follow the checksums.
const FLAG_PACKED: u32 = 4;
/// What a part's manifest says more.
pub const PART_BYTES: usize = 16;
const CRC_AT: usize = 44;

/// Who owns the chunks of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub generation: Generation,
    pub bucket: String,
    pub name: String,
    /// A part: the upload it belongs to, which later is the object's generation.
    pub upload: Option<Generation>,
    /// `None`: the client did not say.
    pub declared_len: Option<u64>,
    /// CRC64-NVME of every chunk; `None` while the upload runs.
    pub crcs: Option<Vec<u64>>,
    /// How the chunks of a packed body lie in the engine.
    pub pack: Option<Pack>,
}

/// The manifest is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the manifest's checksum or layout does not match")]
pub struct ManifestError;

impl Manifest {
    pub fn encode(&self) -> Vec<u8> {
        let crcs = self.crcs.as_deref().unwrap_or_default();
        let complete = if self.crcs.is_some() { FLAG_COMPLETE } else { 0 };
        let packed = if self.pack.is_some() { FLAG_PACKED } else { 0 };
        let flags = complete | packed | if self.upload.is_some() { FLAG_PART } else { 0 };
        let upload: &[u8] = self.upload.as_ref().map_or(&[], |upload| &upload.0);
        let len = manifest_len(&self.bucket, &self.name, crcs.len()) + upload.len();
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&self.generation.0);
        bytes.extend_from_slice(&self.declared_len.unwrap_or(u64::MAX).to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(crcs.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&short(self.bucket.len()));
        bytes.extend_from_slice(&short(self.name.len()));
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(self.bucket.as_bytes());
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.extend_from_slice(upload);
        for crc in crcs {
            bytes.extend_from_slice(&crc.to_le_bytes());
        }
        if let Some(pack) = &self.pack {
            pack.append(&mut bytes);
        }
        let crc = crc32c(&[&bytes[..CRC_AT], &bytes[MANIFEST_FIXED_BYTES..]]);
        bytes[CRC_AT..MANIFEST_FIXED_BYTES].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        decode(bytes).ok_or(ManifestError)
    }
}

/// Length of the complete manifest of `chunks` chunks; that of a part is [`PART_BYTES`] longer.
pub fn manifest_len(bucket: &str, name: &str, chunks: usize) -> usize {
    MANIFEST_FIXED_BYTES + bucket.len() + name.len() + 8 * chunks
}

fn short(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes()
}

fn decode(bytes: &[u8]) -> Option<Manifest> {
    let (fixed, rest) = bytes.split_at_checked(MANIFEST_FIXED_BYTES)?;
    let u16_at = |at: usize| Some(usize::from(u16::from_le_bytes(fixed.get(at..at + 2)?.try_into().ok()?)));
    let u32_at = |at: usize| Some(u32::from_le_bytes(fixed.get(at..at + 4)?.try_into().ok()?));
    if fixed.get(..4)? != MAGIC || u32_at(CRC_AT)? != crc32c(&[&fixed[..CRC_AT], rest]) {
        return None;
    }
    let flags = u32_at(4)?;
    let (complete, part) = (flags & FLAG_COMPLETE != 0, flags & FLAG_PART != 0);
    let declared = u64::from_le_bytes(fixed.get(24..32)?.try_into().ok()?);
    let (bucket, rest) = rest.split_at_checked(u16_at(40)?)?;
    let (name, rest) = rest.split_at_checked(u16_at(42)?)?;
    let (upload, rest) = rest.split_at_checked(if part { PART_BYTES } else { 0 })?;
    let count = usize::try_from(u32_at(32)?).ok()?;
    let (crcs, rest) = rest.split_at_checked(count.checked_mul(8)?)?;
    let pack = if flags & FLAG_PACKED == 0 { None } else { Some(Pack::decode(count, rest)?) };
    // While the upload runs nothing is known of its chunks.
    if (pack.is_none() && !rest.is_empty()) || (!complete && (count > 0 || pack.is_some())) {
        return None;
    }
    let crcs = || crcs.as_chunks().0.iter().map(|crc| u64::from_le_bytes(*crc)).collect();
    Some(Manifest {
        generation: Generation(fixed.get(8..24)?.try_into().ok()?),
        bucket: String::from_utf8(bucket.to_vec()).ok()?,
        name: String::from_utf8(name.to_vec()).ok()?,
        upload: if part { Some(Generation(upload.try_into().ok()?)) } else { None },
        declared_len: (declared != u64::MAX).then_some(declared),
        crcs: complete.then(crcs),
        pack,
    })
}

/// CRC32C over several runs of bytes: small fixed structures.
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    u32::try_from(digest.finalize()).unwrap_or(0)
}

/// CRC64-NVME: payload.
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

/// The polynomial of CRC64-NVME, lowest power in the highest bit, as the CRC itself is kept.
const CRC64_POLYNOMIAL: u64 = 0xAD93_D235_94C9_3659_u64.reverse_bits();

/// The CRC64-NVME of two neighbouring runs of bytes from those of each. Multiplies by x^(8 len) modulo the
/// polynomial, a few microseconds; crc-fast's own way squares matrices, which took half the CPU time of a PUT.
pub fn crc64_joined(first: u64, second: u64, second_len: u64) -> u64 {
    let mut shifted = first;
    // x^8: one byte. Squared, it stands for twice as many.
    let mut power = 1 << 55;
    let mut left = second_len;
    while left > 0 && shifted != 0 {
        if left & 1 == 1 {
            shifted = crc64_product(shifted, power);
        }
        power = crc64_product(power, power);
        left >>= 1;
    }
    shifted ^ second
}

/// a times b modulo the polynomial.
fn crc64_product(a: u64, mut b: u64) -> u64 {
    let mut product = 0;
    for bit in (0..64).rev() {
        // Masks instead of branches: the bits are as good as random.
        product ^= b & ((a >> bit) & 1).wrapping_neg();
        b = (b >> 1) ^ (CRC64_POLYNOMIAL & (b & 1).wrapping_neg());
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checksum::{Algorithm, Checksum, Coverage};

    proptest! {
        #[test]
        fn what_was_written_is_read(
            name in "\\PC{1,40}",
            upload in proptest::option::of(any::<[u8; 16]>()),
            declared_len in proptest::option::of(0_u64..1 << 40),
            crcs in proptest::option::of(proptest::collection::vec(any::<u64>(), 0..20)),
        ) {
            let upload = upload.map(Generation);
            let generation = Generation([5; 16]);
            let manifest =
                Manifest { generation, bucket: "b".into(), name, upload, declared_len, crcs, pack: None };
            let bytes = manifest.encode();
            let count = manifest.crcs.as_ref().map_or(0, Vec::len);
            let part = if manifest.upload.is_some() { PART_BYTES } else { 0 };
            prop_assert_eq!(bytes.len(), manifest_len("b", &manifest.name, count) + part);
            prop_assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        }

        #[test]
        fn what_is_said_of_packed_chunks_is_read(
            lens in proptest::collection::vec(any::<u32>(), 0..20),
            spans in proptest::collection::vec((any::<u16>(), any::<u64>()), 0..5),
        ) {
            let sum = |number: u16| Checksum::new(Algorithm::Sha1, Coverage::FullObject, &[number.to_le_bytes()[0]; 20]);
            let spans = spans.into_iter().map(|(number, size)| (number, size, sum(number).filter(|_| number % 2 > 0)));
            let spans = spans.collect();
            let manifest = Manifest {
                generation: Generation([5; 16]),
                bucket: "b".into(),
                name: "n".into(),
                upload: None,
                declared_len: None,
                crcs: Some(lens.iter().map(|len| u64::from(*len)).collect()),
                pack: Some(Pack { lens, spans }),
            };
            let bytes = manifest.encode();
            prop_assert!(Manifest::decode(&bytes[..bytes.len() - 1]).is_err());
            prop_assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        }

        #[test]
        fn every_flipped_byte_is_noticed(at in 0_usize..1000, flip in 1_u8..) {
            let mut bytes = Manifest {
                generation: Generation([5; 16]),
                bucket: "bucket".into(),
                name: "name".into(),
                upload: None,
                declared_len: Some(7),
                crcs: Some(vec![1, 2, 3]),
                pack: Some(Pack { lens: vec![9, 8, 7], spans: vec![(1, 5, None), (3, 2, None)] }),
            }
            .encode();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert_eq!(Manifest::decode(&bytes), Err(ManifestError));
        }

        #[test]
        fn foreign_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Manifest::decode(&bytes), Err(ManifestError));
        }

        #[test]
        fn joining_agrees_with_the_slow_way(first: u64, second: u64, len in 0_u64..1 << 40) {
            let slow = crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, first, second, len);
            prop_assert_eq!(crc64_joined(first, second, len), slow);
        }

        #[test]
        fn joined_checksums_are_those_of_the_whole(a in ".{0,50}", b in ".{0,50}") {
            let whole = crc64([a.as_bytes(), b.as_bytes()].concat().as_slice());
            let len = u64::try_from(b.len()).expect("small");
            prop_assert_eq!(crc64_joined(crc64(a.as_bytes()), crc64(b.as_bytes()), len), whole);
        }
    }

    #[test]
    fn checksums_have_their_published_values() {
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xE306_9283);
        assert_eq!(crc64(b"123456789"), 0xAE8B_1486_0A79_9888);
    }
}
