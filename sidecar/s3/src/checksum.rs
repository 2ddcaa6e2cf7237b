//! Checksums of S3: which one a request promises (in a header or in a trailer), and the sums of the bytes that came.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{
    Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256, Sha512, XxHash3, XxHash64, XxHash128,
};

/// A checksum algorithm of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
    Sha512,
    Md5,
    XxHash64,
    XxHash3,
    XxHash128,
}

const HEADER_START: &str = "x-amz-checksum-";
/// Header that names a trailer with a checksum.
const HEADER_TRAILER: &str = "x-amz-trailer";

impl Algorithm {
    pub const ALL: [Self; 10] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
        Self::Sha512,
        Self::Md5,
        Self::XxHash64,
        Self::XxHash3,
        Self::XxHash128,
    ];

    /// As S3 writes it in XML and in `x-amz-checksum-algorithm`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
            Self::Md5 => "MD5",
            Self::XxHash64 => "XXHASH64",
            Self::XxHash3 => "XXHASH3",
            Self::XxHash128 => "XXHASH128",
        }
    }

    /// `x-amz-checksum-…`, in lower case.
    pub fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
            Self::Sha512 => "x-amz-checksum-sha512",
            Self::Md5 => "x-amz-checksum-md5",
            Self::XxHash64 => "x-amz-checksum-xxhash64",
            Self::XxHash3 => "x-amz-checksum-xxhash3",
            Self::XxHash128 => "x-amz-checksum-xxhash128",
        }
    }

    /// Bytes of a sum.
    pub fn bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme | Self::XxHash64 | Self::XxHash3 => 8,
            Self::Md5 | Self::XxHash128 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The one that this header carries.
    pub fn of_header(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.header().eq_ignore_ascii_case(name))
    }
}

/// What a request promises about its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    pub algorithm: Algorithm,
    /// Base64. `None`: it comes in a trailer.
    pub value: Option<String>,
}

/// Why the checksum headers of a request make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromiseError {
    #[error("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")]
    Several,
    #[error("The value specified in the x-amz-trailer header is not supported")]
    Trailer,
    #[error("Value for {} header is invalid.", .0.header())]
    Value(Algorithm),
}

/// Reads the promise out of a request's headers.
pub fn promise(headers: &HeaderMap) -> Result<Option<Promise>, PromiseError> {
    let mut found = None;
    for name in headers.keys().filter(|name| name.as_str().starts_with(HEADER_START)) {
        let Some(algorithm) = Algorithm::of_header(name.as_str()) else { continue };
        if found.is_some() || headers.get_all(name).iter().count() > 1 {
            return Err(PromiseError::Several);
        }
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !is_sum(algorithm, value) {
            return Err(PromiseError::Value(algorithm));
        }
        found = Some(Promise { algorithm, value: Some(value.to_owned()) });
    }
    let trailer = headers.get(HEADER_TRAILER).and_then(|value| value.to_str().ok());
    match (trailer, found) {
        (None, found) => Ok(found),
        (Some(_), Some(_)) => Err(PromiseError::Several),
        (Some(trailer), None) => match Algorithm::of_header(trailer.trim()) {
            Some(algorithm) => Ok(Some(Promise { algorithm, value: None })),
            None => Err(PromiseError::Trailer),
        },
    }
}

/// Base64 of as many bytes as the algorithm has.
pub fn is_sum(algorithm: Algorithm, text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == algorithm.bytes())
}

/// A sum under way.
pub struct Sum {
    algorithm: Algorithm,
    hasher: ChecksumHasher,
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sum").field(&self.algorithm).finish()
    }
}

impl Sum {
    pub fn new(algorithm: Algorithm) -> Self {
        let mut hasher = ChecksumHasher::default();
        match algorithm {
            Algorithm::Crc32 => hasher.crc32 = Some(Crc32::new()),
            Algorithm::Crc32c => hasher.crc32c = Some(Crc32c::new()),
            Algorithm::Crc64Nvme => hasher.crc64nvme = Some(Crc64Nvme::new()),
            Algorithm::Sha1 => hasher.sha1 = Some(Sha1::new()),
            Algorithm::Sha256 => hasher.sha256 = Some(Sha256::new()),
            Algorithm::Sha512 => hasher.sha512 = Some(Sha512::new()),
            Algorithm::Md5 => hasher.md5 = Some(Md5::new()),
            Algorithm::XxHash64 => hasher.xxhash64 = Some(XxHash64::new()),
            Algorithm::XxHash3 => hasher.xxhash3 = Some(XxHash3::new()),
            Algorithm::XxHash128 => hasher.xxhash128 = Some(XxHash128::new()),
        }
        Self { algorithm, hasher }
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Base64, as the headers carry it.
    pub fn finish(self) -> String {
        let sums = self.hasher.finalize();
        let sum = match self.algorithm {
            Algorithm::Crc32 => sums.checksum_crc32,
            Algorithm::Crc32c => sums.checksum_crc32c,
            Algorithm::Crc64Nvme => sums.checksum_crc64nvme,
            Algorithm::Sha1 => sums.checksum_sha1,
            Algorithm::Sha256 => sums.checksum_sha256,
            Algorithm::Sha512 => sums.checksum_sha512,
            Algorithm::Md5 => sums.checksum_md5,
            Algorithm::XxHash64 => sums.checksum_xxhash64,
            Algorithm::XxHash3 => sums.checksum_xxhash3,
            Algorithm::XxHash128 => sums.checksum_xxhash128,
        };
        sum.unwrap_or_default()
    }
}

/// The sum of bytes in hand.
pub fn sum_of(algorithm: Algorithm, bytes: &[u8]) -> String {
    let mut sum = Sum::new(algorithm);
    sum.update(bytes);
    sum.finish()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn check(headers: &[(&str, &str)], want: Result<Option<(Algorithm, Option<&str>)>, PromiseError>) {
        let map: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().expect("a name");
                (name, HeaderValue::from_str(value).expect("a value"))
            })
            .collect();
        let want = want.map(|promise| {
            promise.map(|(algorithm, value)| Promise { algorithm, value: value.map(str::to_owned) })
        });
        assert_eq!(promise(&map), want, "{headers:?}");
    }

    #[test]
    fn promises_are_read_from_headers_and_trailers() {
        check(&[], Ok(None));
        check(&[("x-amz-checksum-algorithm", "CRC32")], Ok(None));
        check(&[("x-amz-checksum-crc32", "AAAAAA==")], Ok(Some((Algorithm::Crc32, Some("AAAAAA==")))));
        check(&[("x-amz-trailer", "x-amz-checksum-sha256")], Ok(Some((Algorithm::Sha256, None))));
        check(&[("x-amz-trailer", "x-amz-checksum-md6")], Err(PromiseError::Trailer));
        check(&[("x-amz-checksum-crc32", "AAAA")], Err(PromiseError::Value(Algorithm::Crc32)));
        check(
            &[("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-checksum-crc32c", "AAAAAA==")],
            Err(PromiseError::Several),
        );
    }

    /// The check value of every algorithm over "123456789", from its definition.
    #[test]
    fn sums_are_those_of_the_definitions() {
        for (algorithm, want) in [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Crc32c, "e3069283"),
            (Algorithm::Crc64Nvme, "ae8b14860a799888"),
            (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (Algorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
            (Algorithm::Md5, "25f9e794323b453885f5181f1b624d0b"),
        ] {
            let sum = STANDARD.decode(sum_of(algorithm, b"123456789")).expect("base64");
            let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, want, "{algorithm:?}");
        }
        for algorithm in Algorithm::ALL {
            assert!(is_sum(algorithm, &sum_of(algorithm, b"x")), "{algorithm:?}");
        }
    }
}
