//! What the engine holds of an open upload: a hash with what the upload is and one field per part. The scripts read
//! the first five fields of a part's text.

use blobstore_sidecar_core::{
    checksum::{Algorithm, Checksum},
    etag::ETag,
    generation::Generation,
    partition::PartitionTag,
};

use super::{PartInfo, UploadChecksum};
use crate::{Attributes, doomed::Doomed};

/// What `meta` of the hash holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadMeta {
    /// The bucket that the upload was begun in: one that was deleted and made again has none of its uploads.
    pub(crate) bucket_created_ms: u64,
    pub(crate) expires_ms: u64,
    pub(crate) checksum: Option<UploadChecksum>,
    pub(crate) attributes: Attributes,
}

const FIXED_BYTES: usize = 18;

impl UploadMeta {
    /// `None`: the attributes are too large.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.bucket_created_ms.to_le_bytes());
        bytes.extend_from_slice(&self.expires_ms.to_le_bytes());
        let (code, composite) = self.checksum.map_or((0, false), |checksum| {
            let index = Algorithm::ALL.iter().position(|algorithm| *algorithm == checksum.algorithm);
            (index.map_or(0, |index| index + 1), checksum.composite)
        });
        bytes.push(u8::try_from(code).ok()?);
        bytes.push(u8::from(composite));
        bytes.extend_from_slice(&self.attributes.encode()?);
        Some(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (fixed, attributes) = bytes.split_at_checked(FIXED_BYTES)?;
        let checksum = match usize::from(*fixed.get(16)?).checked_sub(1) {
            None => None,
            Some(index) => Some(UploadChecksum {
                algorithm: *Algorithm::ALL.get(index)?,
                composite: *fixed.get(17)? != 0,
            }),
        };
        Some(Self {
            bucket_created_ms: u64::from_le_bytes(fixed.get(..8)?.try_into().ok()?),
            expires_ms: u64::from_le_bytes(fixed.get(8..16)?.try_into().ok()?),
            checksum,
            attributes: Attributes::decode(attributes)?,
        })
    }
}

/// One part as the hash has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredPart {
    pub(crate) generation: Generation,
    pub(crate) chunks: u32,
    pub(crate) last: u32,
    /// Length of its manifest's value.
    pub(crate) manifest: u32,
    pub(crate) info: PartInfo,
}

impl StoredPart {
    /// `generation:size:chunks:last:manifest:crc64:modified:etag:checksum`.
    pub(crate) fn encode(&self) -> String {
        let Self { generation, chunks, last, manifest, info } = self;
        let PartInfo { number: _, etag, size, modified_ms, crc64, checksum } = info;
        let checksum = checksum.map(|checksum| checksum.encode()).unwrap_or_default();
        format!("{generation}:{size}:{chunks}:{last}:{manifest}:{crc64:x}:{modified_ms}:{etag}:{checksum}")
    }

    pub(crate) fn decode(number: u16, text: &str) -> Option<Self> {
        let mut fields = text.splitn(9, ':');
        let mut next = || fields.next();
        let generation = Generation::parse(next()?)?;
        let size = next()?.parse().ok()?;
        let (chunks, last, manifest) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
        let crc64 = u64::from_str_radix(next()?, 16).ok()?;
        let modified_ms = next()?.parse().ok()?;
        let etag = ETag::parse(next()?)?;
        let checksum = match next()? {
            "" => None,
            text => Some(Checksum::decode(text)?),
        };
        let info = PartInfo { number, etag, size, modified_ms, crc64, checksum };
        Some(Self { generation, chunks, last, manifest, info })
    }

    /// What is left to free when it is replaced or left out.
    pub(crate) fn doomed(&self, tag: PartitionTag) -> Option<Doomed> {
        let Self { generation, chunks, last, manifest, info: _ } = *self;
        (chunks > 0).then_some(Doomed { tag, generation, chunks, last, manifest, parts_bytes: 0 })
    }
}

/// A member of the bucket's zset of open uploads: NUL is below every byte of a name.
pub(crate) fn member(name: &str, upload: Generation) -> Vec<u8> {
    let mut member = Vec::with_capacity(name.len() + 33);
    member.extend_from_slice(name.as_bytes());
    member.push(0);
    member.extend_from_slice(upload.to_string().as_bytes());
    member
}

pub(crate) fn parse_member(member: &[u8]) -> Option<(String, Generation)> {
    let at = member.iter().position(|byte| *byte == 0)?;
    let upload = std::str::from_utf8(member.get(at + 1..)?).ok()?;
    Some((String::from_utf8(member.get(..at)?.to_vec()).ok()?, Generation::parse(upload)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let attributes = Attributes { content_type: Some("text/plain".into()), ..Attributes::default() };
        for checksum in [None, Some(UploadChecksum { algorithm: Algorithm::Sha256, composite: true })] {
            let meta =
                UploadMeta { bucket_created_ms: 5, expires_ms: 6, checksum, attributes: attributes.clone() };
            assert_eq!(UploadMeta::decode(&meta.encode().expect("small")), Some(meta));
        }
        let checksum = Checksum::parse(Algorithm::Crc32, "y/Q5Jg==");
        for (etag, checksum) in [(ETag::Md5([1; 16]), checksum), (ETag::Opaque([2; 16]), None)] {
            let info = PartInfo { number: 7, etag, size: 8, modified_ms: 9, crc64: 10, checksum };
            let part = StoredPart { generation: Generation([3; 16]), chunks: 1, last: 8, manifest: 70, info };
            assert_eq!(StoredPart::decode(7, &part.encode()), Some(part));
        }
        assert_eq!(StoredPart::decode(1, "nonsense"), None);
        let member = member("a/ä", Generation([4; 16]));
        assert_eq!(parse_member(&member), Some(("a/ä".into(), Generation([4; 16]))));
    }
}
