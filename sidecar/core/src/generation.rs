//! The name of one written body: 6 bytes of milliseconds, then 10 random bytes. It has an age, and it is never
//! used twice, so that a cached chunk can never be stale.

use std::fmt;

/// 16 bytes; in keys 32 hex digits, which keeps a chunk's key within the allocator's 48-byte class.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub [u8; 16]);

impl Generation {
    pub fn new(now_ms: u64, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        Self(bytes)
    }

    /// From the 32 hex digits of a key.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 16];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// As a key has it, without a `String`.
    pub fn text(self, digits: &mut [u8; 32]) -> &str {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        std::str::from_utf8(digits).unwrap_or_default()
    }

    /// When the upload began, milliseconds since 1970.
    pub fn born_ms(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0[..6]);
        u64::from_be_bytes(bytes)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; 32]))
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_age_survive(ms in 0_u64..(1 << 48), random in any::<[u8; 10]>()) {
            let generation = Generation::new(ms, random);
            prop_assert_eq!(generation.born_ms(), ms);
            prop_assert_eq!(Generation::parse(&generation.to_string()), Some(generation));
        }

        #[test]
        fn foreign_text_is_refused(text in "\\PC{0,40}") {
            if let Some(generation) = Generation::parse(&text) {
                prop_assert_eq!(generation.to_string(), text.to_lowercase());
            }
        }
    }

    #[test]
    fn signs_are_not_digits() {
        assert_eq!(Generation::parse("+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f"), None);
    }
}
