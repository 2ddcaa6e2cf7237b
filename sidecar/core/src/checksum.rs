//! The checksums that S3 clients may ask for besides the ETag: their names, their values, and whether one covers the
//! whole object or the checksums of its parts. What computes them is the store's business.

use std::fmt;

/// The algorithms of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// As `x-amz-checksum-algorithm` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of a value.
    pub fn value_len(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// A CRC of a whole can be made from those of its parts.
    pub fn combines(self) -> bool {
        matches!(self, Self::Crc32 | Self::Crc32c | Self::Crc64Nvme)
    }

    /// What stands for it in what the store keeps; never 0.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Crc32 => 1,
            Self::Crc32c => 2,
            Self::Crc64Nvme => 3,
            Self::Sha1 => 4,
            Self::Sha256 => 5,
        }
    }
}

impl Algorithm {
    pub(crate) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.code() == code)
    }
}

/// What a checksum of an object covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coverage {
    FullObject,
    /// The parts' checksums, one after the other.
    Composite {
        parts: u16,
    },
}

/// One value, big-endian, as S3 writes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum {
    pub algorithm: Algorithm,
    pub coverage: Coverage,
    /// The first `algorithm.value_len()` bytes count.
    bytes: [u8; 32],
}

impl Checksum {
    /// `None`: not the length of this algorithm.
    pub fn new(algorithm: Algorithm, coverage: Coverage, value: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        (value.len() == algorithm.value_len()).then_some(Self { algorithm, coverage, bytes })
    }

    /// Base64, for a composite one with the number of parts behind it.
    pub fn parse(algorithm: Algorithm, text: &str) -> Option<Self> {
        let (value, coverage) = match text.split_once('-') {
            None => (text, Coverage::FullObject),
            Some((value, parts)) => (value, Coverage::Composite { parts: parts.parse().ok()? }),
        };
        Self::new(algorithm, coverage, &from_base64(value)?)
    }

    pub fn value(&self) -> &[u8] {
        self.bytes.get(..self.algorithm.value_len()).unwrap_or_default()
    }

    /// Same algorithm and value; what they cover is told apart elsewhere.
    pub fn same_value(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.bytes == other.bytes
    }

    /// For a record or a part's entry: the algorithm's digit, then the text.
    pub fn encode(&self) -> String {
        format!("{}{self}", self.algorithm.code())
    }

    pub fn decode(text: &str) -> Option<Self> {
        let (code, text) = text.split_at_checked(1)?;
        let code: u8 = code.parse().ok()?;
        let algorithm = Algorithm::of_code(code)?;
        Self::parse(algorithm, text)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_base64(self.value()))?;
        match self.coverage {
            Coverage::FullObject => Ok(()),
            Coverage::Composite { parts } => write!(f, "-{parts}"),
        }
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.algorithm.name())
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let sextet = (word >> (18 - 6 * digit)) & 63;
            let letter = DIGITS.get(sextet as usize).copied().unwrap_or(b'=');
            text.push(if digit <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Padded, as S3 writes it; nothing else.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) || text.len() > 64 {
        return None;
    }
    let letters = text.trim_end_matches('=');
    if text.len() - letters.len() > 2 {
        return None;
    }
    let (mut bytes, mut word, mut bits) = (Vec::new(), 0_u32, 0);
    for letter in letters.bytes() {
        let sextet = u32::try_from(DIGITS.iter().position(|digit| *digit == letter)?).ok()?;
        (word, bits) = (word << 6 | sextet, bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((word >> bits) & 255).ok()?);
        }
    }
    (word & ((1 << bits) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_look_as_s3_writes_them() {
        let crc = Checksum::new(Algorithm::Crc32c, Coverage::FullObject, &0xE306_9283_u32.to_be_bytes());
        assert_eq!(crc.expect("four bytes").to_string(), "4waSgw==");
        let parts = Checksum::parse(Algorithm::Crc32c, "4waSgw==-3").expect("composite");
        assert_eq!(parts.coverage, Coverage::Composite { parts: 3 });
        assert!(parts.same_value(&crc.expect("four bytes")));
        for bad in ["", "4waSgw", "4waSgw==x", "4waSgwAA", "4waSgx==", "===="] {
            assert_eq!(Checksum::parse(Algorithm::Crc32c, bad), None, "{bad}");
        }
        assert_eq!(Algorithm::parse("crc64nvme"), Some(Algorithm::Crc64Nvme));
    }

    proptest! {
        #[test]
        fn values_round_trip(value in any::<[u8; 32]>(), which in 0_usize..5, parts in proptest::option::of(1_u16..)) {
            let algorithm = Algorithm::ALL[which];
            let coverage = parts.map_or(Coverage::FullObject, |parts| Coverage::Composite { parts });
            let checksum = Checksum::new(algorithm, coverage, &value[..algorithm.value_len()]).expect("its length");
            prop_assert_eq!(Checksum::parse(algorithm, &checksum.to_string()), Some(checksum));
            prop_assert_eq!(Checksum::decode(&checksum.encode()), Some(checksum));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,70}") {
            let _ = Checksum::decode(&text);
            let _ = from_base64(&text);
        }
    }
}
