//! Checksums of a body beyond the ones we keep for ourselves: computed while it streams, compared with what the client
//! says before the body or behind it.

use std::{fmt, sync::Arc};

use blobstore_sidecar_core::{
    checksum::{Algorithm, Checksum, Coverage},
    record::Attributes,
};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::{ErrorKind, StoreError};

/// The SHAs run at one to two gigabytes per second: after this much, others get a turn.
const SLICE_BYTES: usize = 64 << 10;

/// What the client says behind the body. Called once, when all of the body has arrived.
#[derive(Clone)]
pub struct LateChecksum(Arc<dyn Fn() -> Result<Option<Checksum>, String> + Send + Sync>);

impl LateChecksum {
    /// `Err` refuses the body with this message; `Ok(None)`: nothing was said after all.
    pub fn new(read: impl Fn() -> Result<Option<Checksum>, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for LateChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LateChecksum")
    }
}

/// Which checksum of the body to compute and keep, and what it has to be.
#[derive(Clone, Debug, Default)]
pub struct BodyChecks {
    /// Computed, compared and stored. `None`: the algorithm of `expected`, if there is one.
    pub algorithm: Option<Algorithm>,
    pub expected: Option<Checksum>,
    pub late: Option<LateChecksum>,
}

impl BodyChecks {
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm.or(self.expected.map(|expected| expected.algorithm))
    }

    /// The checksum to keep, once the body is in: it is what was announced, and what was told behind the body.
    pub(crate) fn verify(&self, computed: Option<Checksum>) -> Result<Option<Checksum>, StoreError> {
        let late = match &self.late {
            Some(LateChecksum(read)) => {
                read().map_err(|message| StoreError::new(ErrorKind::BadDigest, message))?
            }
            None => None,
        };
        for expected in [self.expected, late].into_iter().flatten() {
            if !computed.is_some_and(|computed| computed.same_value(&expected)) {
                let message = format!(
                    "the body does not match its {} checksum: {}, sent was {expected}",
                    expected.algorithm.name(),
                    computed
                        .map_or_else(|| "none was computed".into(), |computed| format!("it is {computed}")),
                );
                return Err(StoreError::new(ErrorKind::BadDigest, message));
            }
        }
        Ok(computed)
    }
}

/// The object's headers for its record, with the checksum that was computed.
pub(crate) fn headers(attributes: &Attributes, checksum: Option<Checksum>) -> Result<Vec<u8>, StoreError> {
    let encoded = match checksum {
        Some(checksum) => Attributes { checksum: Some(checksum), ..attributes.clone() }.encode(),
        None => attributes.encode(),
    };
    encoded.ok_or_else(|| {
        let message = "the object's headers, metadata and tags are larger than 8 KiB together";
        StoreError::new(ErrorKind::MetadataTooLarge, message)
    })
}

/// A running checksum. CRC64-NVME is not here: every body's is known anyway.
#[derive(Clone)]
pub(crate) enum Running {
    Crc32(Crc),
    Crc32c(Crc),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Running {
    pub(crate) fn new(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::Crc32 => Some(Self::Crc32(Crc::new(CrcAlgorithm::Crc32IsoHdlc))),
            Algorithm::Crc32c => Some(Self::Crc32c(Crc::new(CrcAlgorithm::Crc32Iscsi))),
            Algorithm::Crc64Nvme => None,
            Algorithm::Sha1 => Some(Self::Sha1(Sha1::new())),
            Algorithm::Sha256 => Some(Self::Sha256(Sha256::new())),
        }
    }

    pub(crate) async fn update(&mut self, frame: &Bytes) {
        match self {
            Self::Crc32(crc) | Self::Crc32c(crc) => crc.update(frame),
            Self::Sha1(_) | Self::Sha256(_) => {
                for slice in frame.chunks(SLICE_BYTES) {
                    self.add(slice);
                    if slice.len() == SLICE_BYTES {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }

    /// Without giving others a turn: for small runs of bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32(crc) | Self::Crc32c(crc) => crc.update(bytes),
            Self::Sha1(sha) => sha.update(bytes),
            Self::Sha256(sha) => sha.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Option<Checksum> {
        let crc32 = |crc: &Crc| u32::try_from(crc.finalize()).unwrap_or(0).to_be_bytes();
        let whole = Coverage::FullObject;
        match self {
            Self::Crc32(crc) => Checksum::new(Algorithm::Crc32, whole, &crc32(&crc)),
            Self::Crc32c(crc) => Checksum::new(Algorithm::Crc32c, whole, &crc32(&crc)),
            Self::Sha1(sha) => Checksum::new(Algorithm::Sha1, whole, &sha.finalize()),
            Self::Sha256(sha) => Checksum::new(Algorithm::Sha256, whole, &sha.finalize()),
        }
    }
}

/// The body's CRC64-NVME as a checksum of S3.
pub(crate) fn crc64_checksum(crc64: u64) -> Option<Checksum> {
    Checksum::new(Algorithm::Crc64Nvme, Coverage::FullObject, &crc64.to_be_bytes())
}

/// The checksum of a whole from those of its parts, in order; `None`: one is missing, or is of another kind.
pub(crate) fn joined(
    algorithm: Algorithm,
    composite: bool,
    parts: impl Iterator<Item = (Option<Checksum>, u64)>,
) -> Option<Checksum> {
    if composite || !algorithm.combines() {
        return composed(algorithm, parts);
    }
    let crc = match algorithm {
        Algorithm::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
        Algorithm::Crc32c => CrcAlgorithm::Crc32Iscsi,
        _ => CrcAlgorithm::Crc64Nvme,
    };
    let mut whole = 0;
    for (part, size) in parts {
        let part = part.filter(|part| part.algorithm == algorithm)?;
        let value = part.value().iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        whole = crc_fast::checksum_combine(crc, whole, value, size);
    }
    let bytes = whole.to_be_bytes();
    Checksum::new(algorithm, Coverage::FullObject, bytes.get(8 - algorithm.value_len()..)?)
}

fn composed(algorithm: Algorithm, parts: impl Iterator<Item = (Option<Checksum>, u64)>) -> Option<Checksum> {
    let (mut count, mut values) = (0, Vec::new());
    for (part, _) in parts {
        values.extend_from_slice(part.filter(|part| part.algorithm == algorithm)?.value());
        count += 1;
    }
    let whole = match Running::new(algorithm) {
        Some(mut running) => {
            running.add(&values);
            running.finish()
        }
        None => crc64_checksum(blobstore_sidecar_core::manifest::crc64(&values)),
    };
    Checksum::new(algorithm, Coverage::Composite { parts: count }, whole?.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: [(Algorithm, &str); 4] = [
        (Algorithm::Crc32, "y/Q5Jg=="),
        (Algorithm::Crc32c, "4waSgw=="),
        (Algorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE="),
        (Algorithm::Sha256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
    ];

    #[tokio::test]
    async fn checksums_have_their_published_values() {
        for (algorithm, text) in PUBLISHED {
            let mut running = Running::new(algorithm).expect("not ours");
            running.update(&Bytes::from_static(b"1234")).await;
            running.update(&Bytes::from_static(b"56789")).await;
            assert_eq!(running.finish().expect("a value").to_string(), text, "{algorithm:?}");
        }
    }

    #[test]
    fn crcs_of_parts_join_to_that_of_the_whole() {
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let of = |bytes: &[u8]| match Running::new(algorithm) {
                Some(mut running) => {
                    running.add(bytes);
                    running.finish()
                }
                None => crc64_checksum(blobstore_sidecar_core::manifest::crc64(bytes)),
            };
            let parts = [(of(b"1234"), 4), (of(b"56789"), 5)];
            assert_eq!(joined(algorithm, false, parts.into_iter()), of(b"123456789"));
            let composite = joined(algorithm, true, parts.into_iter()).expect("composed");
            assert_eq!(composite.coverage, Coverage::Composite { parts: 2 });
            assert_eq!(joined(algorithm, false, [(None, 4)].into_iter()), None);
        }
    }

    #[test]
    fn what_is_told_late_is_compared_too() {
        let right = crc64_checksum(7);
        let checks = |late: Result<Option<Checksum>, String>| BodyChecks {
            late: Some(LateChecksum::new(move || late.clone())),
            ..BodyChecks::default()
        };
        assert_eq!(checks(Ok(right)).verify(right).expect("it matches"), right);
        assert_eq!(checks(Ok(None)).verify(right).expect("nothing was said"), right);
        let wrong = checks(Ok(crc64_checksum(8))).verify(right).expect_err("another value");
        assert_eq!(wrong.kind, ErrorKind::BadDigest);
        assert_eq!(
            checks(Err("bad trailer".into())).verify(right).expect_err("unreadable").message,
            "bad trailer"
        );
    }
}
