//! The record of an object: 128 bytes of fixed layout, the headers, then the inline body or tail. Scripts read the
//! fixed part by offset; change a field here and in `scripts` of the store together.

use bytes::Bytes;

use crate::{
    chunk::Layout,
    etag::ETag,
    generation::Generation,
    manifest::{crc32c, crc64},
    record::fields::{get_u16, get_u32, get_u64, put},
    version::Version,
};

mod attributes;
mod fields;

pub use attributes::{Attributes, TAGS_MAX};

/// Length of the fixed part.
pub const HEAD_BYTES: usize = 128;
/// Headers and user metadata of one object: four times what S3 allows.
pub const ATTRIBUTES_BYTES_MAX: usize = 8 << 10;
/// Offset of the last-access hour: outside the CRC, rewritten in place.
pub const ACCESS_HOUR_AT: usize = 124;

const MAGIC: u32 = u32::from_le_bytes(*b"BSR1");
const FLAG_MD5: u32 = 1;
/// The ETag is that of a multipart upload; the number of its parts is in the upper half of the flags.
const FLAG_PARTS_TAG: u32 = 2;
/// The body is described by a part list.
const FLAG_IN_PARTS: u32 = 4;
/// Written while the bucket kept versions: the generation is its version id. Otherwise its version is `null`.
const FLAG_VERSIONED: u32 = 8;
/// No object at all, but the note that the name was deleted.
const FLAG_DELETE_MARKER: u32 = 16;
const PARTS_SHIFT: u32 = 16;
const CRC_AT: usize = 120;

/// Why a record cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record is shorter than its fields say")]
    Short,
    #[error("the record does not begin like one")]
    Magic,
    #[error("the record's checksum does not match")]
    Checksum,
    #[error("the record's fields contradict each other")]
    Inconsistent,
}

/// The fixed part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub generation: Generation,
    pub layout: Layout,
    pub created_ms: u64,
    pub modified_ms: u64,
    /// When the object ends, milliseconds since 1970; 0: never.
    pub expires_ms: u64,
    pub etag: ETag,
    /// CRC64-NVME of the whole body, of the tail, and of chunk 0.
    pub crc64: u64,
    pub tail_crc64: u64,
    pub first_crc64: u64,
    /// Length of the manifest's value, or of the part list's; 0 without chunks.
    pub manifest_len: u32,
    pub headers_len: u16,
    pub headers_crc: u32,
    /// Hours since 1970 of the last read, at most one hour late; under a history key the number of its entry.
    pub access_hour: u32,
    /// The generation is the version's id; else its id is `null`.
    pub versioned: bool,
    /// The name was deleted while the bucket kept versions.
    pub delete_marker: bool,
}

impl Head {
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        put(&mut bytes, 0, &MAGIC.to_le_bytes());
        put(&mut bytes, 4, &self.flags().to_le_bytes());
        put(&mut bytes, 8, &self.generation.0);
        put(&mut bytes, 24, &self.layout.size().to_le_bytes());
        put(&mut bytes, 32, &self.created_ms.to_le_bytes());
        put(&mut bytes, 40, &self.modified_ms.to_le_bytes());
        put(&mut bytes, 48, &self.expires_ms.to_le_bytes());
        put(&mut bytes, 56, self.etag.bytes());
        put(&mut bytes, 72, &self.crc64.to_le_bytes());
        put(&mut bytes, 80, &self.tail_crc64.to_le_bytes());
        put(&mut bytes, 88, &self.first_crc64.to_le_bytes());
        put(&mut bytes, 96, &self.layout.chunk_bytes.to_le_bytes());
        put(&mut bytes, 100, &self.layout.chunks.to_le_bytes());
        put(&mut bytes, 104, &self.layout.last.to_le_bytes());
        put(&mut bytes, 108, &self.manifest_len.to_le_bytes());
        put(&mut bytes, 112, &u16::try_from(self.layout.tail).unwrap_or(u16::MAX).to_le_bytes());
        put(&mut bytes, 114, &self.headers_len.to_le_bytes());
        put(&mut bytes, 116, &self.headers_crc.to_le_bytes());
        let crc = crc32c(&[&bytes[..CRC_AT]]);
        put(&mut bytes, CRC_AT, &crc.to_le_bytes());
        put(&mut bytes, ACCESS_HOUR_AT, &self.access_hour.to_le_bytes());
        bytes
    }

    fn flags(&self) -> u32 {
        let tag = match self.etag {
            ETag::Md5(_) => FLAG_MD5,
            ETag::Opaque(_) => 0,
            ETag::Parts { count, .. } => FLAG_PARTS_TAG | u32::from(count) << PARTS_SHIFT,
        };
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        tag | flag(self.layout.in_parts(), FLAG_IN_PARTS)
            | flag(self.versioned, FLAG_VERSIONED)
            | flag(self.delete_marker, FLAG_DELETE_MARKER)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let bytes: &[u8; HEAD_BYTES] =
            bytes.get(..HEAD_BYTES).and_then(|head| head.try_into().ok()).ok_or(RecordError::Short)?;
        if get_u32(bytes, 0) != MAGIC {
            return Err(RecordError::Magic);
        }
        if get_u32(bytes, CRC_AT) != crc32c(&[&bytes[..CRC_AT]]) {
            return Err(RecordError::Checksum);
        }
        let (flags, size) = (get_u32(bytes, 4), get_u64(bytes, 24));
        let layout = Layout {
            chunk_bytes: get_u32(bytes, 96),
            chunks: get_u32(bytes, 100),
            last: get_u32(bytes, 104),
            tail: u32::from(get_u16(bytes, 112)),
            parts_bytes: if flags & FLAG_IN_PARTS == 0 { 0 } else { size },
        };
        // A body in parts has no tail, and then its size is the sum that was written.
        if layout.in_parts() && layout.tail > 0 {
            return Err(RecordError::Inconsistent);
        }
        if layout.size() != size || layout.last > layout.chunk_bytes || layout.chunk_bytes == 0 {
            return Err(RecordError::Inconsistent);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[8..24]);
        let mut tag = [0; 16];
        tag.copy_from_slice(&bytes[56..72]);
        let etag = match flags & (FLAG_MD5 | FLAG_PARTS_TAG) {
            FLAG_MD5 => ETag::Md5(tag),
            FLAG_PARTS_TAG => {
                ETag::Parts { digest: tag, count: u16::try_from(flags >> PARTS_SHIFT).unwrap_or(u16::MAX) }
            }
            _ => ETag::Opaque(tag),
        };
        Ok(Self {
            generation: Generation(id),
            layout,
            created_ms: get_u64(bytes, 32),
            modified_ms: get_u64(bytes, 40),
            expires_ms: get_u64(bytes, 48),
            etag,
            crc64: get_u64(bytes, 72),
            tail_crc64: get_u64(bytes, 80),
            first_crc64: get_u64(bytes, 88),
            manifest_len: get_u32(bytes, 108),
            headers_len: get_u16(bytes, 114),
            headers_crc: get_u32(bytes, 116),
            access_hour: get_u32(bytes, ACCESS_HOUR_AT),
            versioned: flags & FLAG_VERSIONED != 0,
            delete_marker: flags & FLAG_DELETE_MARKER != 0,
        })
    }

    /// How a client names it, in a bucket that keeps versions.
    pub fn version(&self) -> Version {
        if self.versioned { Version::Id(self.generation) } else { Version::Null }
    }

    /// Its end has come: it is there no more, for everyone but the sweeper.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms > 0 && self.expires_ms <= now_ms
    }

    /// Length of the whole record.
    pub fn value_len(&self) -> usize {
        HEAD_BYTES + usize::from(self.headers_len) + self.layout.tail as usize
    }
}

/// A record as it was read, checked.
#[derive(Clone, Debug)]
pub struct Record {
    pub head: Head,
    pub attributes: Attributes,
    /// The inline body, or the bytes behind the last chunk.
    pub tail: Bytes,
}

impl Record {
    /// Checks and takes apart a record. The tail is a slice of `value`, not a copy.
    pub fn decode(value: &Bytes) -> Result<Self, RecordError> {
        let head = Head::decode(value)?;
        if value.len() != head.value_len() {
            return Err(RecordError::Short);
        }
        let attributes = decode_headers(&head, value)?;
        let tail = value.slice(HEAD_BYTES + usize::from(head.headers_len)..);
        if crc64(&tail) != head.tail_crc64 {
            return Err(RecordError::Checksum);
        }
        Ok(Self { head, attributes, tail })
    }
}

/// The headers of a record of which at least head and headers were read.
pub fn decode_headers(head: &Head, value: &[u8]) -> Result<Attributes, RecordError> {
    let end = HEAD_BYTES + usize::from(head.headers_len);
    let headers = value.get(HEAD_BYTES..end).ok_or(RecordError::Short)?;
    if crc32c(&[headers]) != head.headers_crc {
        return Err(RecordError::Checksum);
    }
    Attributes::decode(headers).ok_or(RecordError::Inconsistent)
}

#[cfg(test)]
mod tests;
