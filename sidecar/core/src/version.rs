//! Versions of an object: how a client names them, what a bucket keeps of them, and the entries by which the engine
//! lists those that are not current. Scripts of the store build and read the same entries.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::generation::Generation;

/// Name of the bucket's document that says what it keeps.
pub const VERSIONING_DOCUMENT: &str = "versioning";
/// An entry behind its name: NUL, four bytes of order, the generation.
const ENTRY_BYTES: usize = 1 + ORDER_BYTES + 16;
const ORDER_BYTES: usize = 4;

/// What a bucket keeps when an object is written or deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// Never switched on: a write replaces, a deletion removes.
    #[default]
    Off,
    /// Every write is a version of its own, a deletion a marker.
    Enabled,
    /// Writes replace the version `null`; what was kept before stays.
    Suspended,
}

impl Versioning {
    /// As the bucket's document and S3 spell it; `None`: neither.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "Enabled" => Some(Self::Enabled),
            "Suspended" => Some(Self::Suspended),
            _ => None,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::Off => "",
            Self::Enabled => "Enabled",
            Self::Suspended => "Suspended",
        }
    }

    /// What a script is told.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Enabled => "on",
            Self::Suspended => "suspended",
        }
    }

    pub fn keeps(self) -> bool {
        self != Self::Off
    }
}

/// One version of an object, as a client names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Written before the bucket kept versions, or while it was suspended. An object has at most one.
    Null,
    /// The generation of what was written.
    Id(Generation),
}

impl Version {
    pub fn parse(text: &str) -> Option<Self> {
        if text == "null" { Some(Self::Null) } else { Generation::parse(text).map(Self::Id) }
    }

    /// What a script is told: four letters, or sixteen bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Null => b"null",
            Self::Id(generation) => &generation.0,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Id(generation) => generation.fmt(f),
        }
    }
}

/// Where a listing of versions goes on within one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionMarker {
    pub version: Version,
    /// Its place among the versions that were not current; 0: it was current, or the client does not say.
    pub number: u32,
}

impl VersionMarker {
    /// A version's id, or what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, number) = match text.split_once('.') {
            Some((version, number)) => (version, number.parse().ok()?),
            None => (text, 0),
        };
        Version::parse(version).map(|version| Self { version, number })
    }
}

impl fmt::Display for VersionMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => self.version.fmt(f),
            number => write!(f, "{}.{number}", self.version),
        }
    }
}

/// An entry of `v:{t}:<bucket>`: a version that is not current, or a delete marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionEntry {
    pub name: String,
    /// Grows with every version of a name that stops being current; the first is 1.
    pub number: u32,
    pub generation: Generation,
}

impl VersionEntry {
    /// Entries of a name stand together, the newest first.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = below(&self.name, self.number);
        bytes.extend_from_slice(&self.generation.0);
        bytes
    }

    /// `None`: not an entry, or the second one that the version `null` has.
    pub fn decode(member: &[u8]) -> Option<Self> {
        let at = member.iter().position(|byte| *byte == 0)?;
        let (name, rest) = member.split_at_checked(at)?;
        let (order, generation) = rest.get(1..)?.split_at_checked(ORDER_BYTES)?;
        let number = u32::MAX - u32::from_be_bytes(order.try_into().ok()?);
        Some(Self {
            name: String::from_utf8(name.to_vec()).ok().filter(|_| number > 0)?,
            number,
            generation: Generation(generation.try_into().ok()?),
        })
    }
}

/// Name and order of an entry: below it in the list is what is newer, above it the entry and what is older.
pub fn below(name: &str, number: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + ENTRY_BYTES);
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&(u32::MAX - number).to_be_bytes());
    bytes
}

/// Length of an entry; of both that the version `null` has, one after the other.
pub fn entry_lens(name: &str, version: Version) -> impl Iterator<Item = usize> {
    let len = name.len() + ENTRY_BYTES;
    let second = (version == Version::Null).then_some(len + ORDER_BYTES);
    std::iter::once(len).chain(second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, number: u32) -> VersionEntry {
        VersionEntry { name: name.into(), number, generation: Generation([7; 16]) }
    }

    #[test]
    fn entries_stand_by_name_and_the_newest_first() {
        let order = [entry("a", 9), entry("a", 1), entry("a\u{1}", 5), entry("a/b", 2), entry("b", 1)];
        let encoded: Vec<Vec<u8>> = order.iter().map(VersionEntry::encode).collect();
        assert!(encoded.is_sorted(), "{encoded:?}");
        assert!(below("a", 9) < encoded[0] && below("a", 8) > encoded[0]);
    }

    #[test]
    fn the_second_entry_of_null_is_none() {
        let second = [b"a\0\xff\xff\xff\xff".as_slice(), &entry("", 3).encode()[1..]].concat();
        assert_eq!(VersionEntry::decode(&second), None);
        let lens: Vec<usize> = entry_lens("a", Version::Null).collect();
        assert_eq!(lens, [entry("a", 3).encode().len(), second.len()]);
        assert_eq!(entry_lens("a", Version::Id(Generation([1; 16]))).count(), 1);
    }

    #[test]
    fn ids_and_markers_survive_their_text() {
        for version in [Version::Null, Version::Id(Generation([9; 16]))] {
            assert_eq!(Version::parse(&version.to_string()), Some(version));
            for number in [0, 7] {
                let marker = VersionMarker { version, number };
                assert_eq!(VersionMarker::parse(&marker.to_string()), Some(marker));
            }
        }
        for bad in ["", "Null", "abc", "null.x", "."] {
            assert_eq!(VersionMarker::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(name in "[^\0]{1,40}", number in 1_u32.., id in any::<[u8; 16]>()) {
            let entry = VersionEntry { name, number, generation: Generation(id) };
            prop_assert_eq!(VersionEntry::decode(&entry.encode()), Some(entry));
        }

        #[test]
        fn foreign_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = VersionEntry::decode(&bytes);
        }
    }
}
