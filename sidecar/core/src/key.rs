//! Names from outside, parsed once, and the engine's keys made from them. Every key of an object carries the hash
//! tag of its partition, so that all of them share a slot and one script may touch them together.

use std::{fmt, sync::Arc};

use crate::{generation::Generation, partition::PartitionTag};

/// Longest object name: the limit of S3, and far below what a listing of 1,000 names may weigh.
pub const NAME_BYTES_MAX: usize = 1024;
/// Longest bucket name: the limit of S3 and of a DNS label.
pub const BUCKET_BYTES_MAX: usize = 63;

/// Why a name was refused. The text is fit for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("an object name must not be empty")]
    Empty,
    #[error("an object name must be at most 1024 bytes long")]
    TooLong,
    #[error("an object name must not contain NUL")]
    Nul,
    #[error(
        "a bucket name has 1 to 63 letters, digits, '.', '-' or '_', and begins and ends with a letter or digit"
    )]
    Bucket,
}

/// A bucket's name that is safe inside keys, URLs and metrics. Shared: every request hands it around.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(Arc<str>);

impl BucketName {
    pub fn parse(name: impl Into<Arc<str>>) -> Result<Self, NameError> {
        let name = name.into();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric();
        let inner = |byte: &u8| plain(byte) || matches!(byte, b'.' | b'-' | b'_');
        let bytes = name.as_bytes();
        let fits = (1..=BUCKET_BYTES_MAX).contains(&bytes.len())
            && bytes.iter().all(inner)
            && bytes.first().is_some_and(plain)
            && bytes.last().is_some_and(plain);
        if fits { Ok(Self(name)) } else { Err(NameError::Bucket) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object's name: any UTF-8 without NUL, 1 to 1024 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Arc<str>);

impl ObjectName {
    pub fn parse(name: impl Into<Arc<str>>) -> Result<Self, NameError> {
        let name = name.into();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if name.as_bytes().contains(&0) {
            return Err(NameError::Nul);
        }
        Ok(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `family:{t}:rest`, in one piece of exactly its length: every request makes several.
fn joined(family: &str, tag: PartitionTag, rest: &[&str]) -> String {
    let front = [family, ":{", tag.as_str(), "}:"];
    let parts = || front.iter().chain(rest);
    let mut key = String::with_capacity(parts().map(|part| part.len()).sum());
    key.extend(parts().copied());
    key
}

fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &str {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return std::str::from_utf8(&digits[at..]).unwrap_or_default();
        }
    }
}

/// `b:{t0}:<bucket>`: bucket configuration, at its home partition.
pub fn bucket(tag: PartitionTag, bucket: &str) -> String {
    joined("b", tag, &[bucket])
}

/// `o:{t}:<bucket>/<name>`: the record.
pub fn record(tag: PartitionTag, bucket: &str, name: &str) -> String {
    joined("o", tag, &[bucket, "/", name])
}

/// `n:{t}:<generation>`: a record on its way in, renamed by the commit.
pub fn staged(tag: PartitionTag, generation: Generation) -> String {
    joined("n", tag, &[generation.text(&mut [0; 32])])
}

/// `x:{t}:<bucket>`: names of the bucket's objects in this partition. The empty bucket holds the names of the
/// buckets whose home this partition is.
pub fn names(tag: PartitionTag, bucket: &str) -> String {
    joined("x", tag, &[bucket])
}

/// `k:{t}:<generation>`: the manifest.
pub fn manifest(tag: PartitionTag, generation: Generation) -> String {
    joined("k", tag, &[generation.text(&mut [0; 32])])
}

/// `c:{t}:<generation>:<i>`: chunk i.
pub fn chunk(tag: PartitionTag, generation: Generation, index: u32) -> String {
    let mut digits = [0; 10];
    joined("c", tag, &[generation.text(&mut [0; 32]), ":", decimal(index, &mut digits)])
}

/// `m:{t}:<generation>`: the part list of an object that was uploaded in parts.
pub fn part_list(tag: PartitionTag, generation: Generation) -> String {
    joined("m", tag, &[generation.text(&mut [0; 32])])
}

/// `u:{t}:<generation>`: an open multipart upload and its parts.
pub fn upload(tag: PartitionTag, upload: Generation) -> String {
    joined("u", tag, &[upload.text(&mut [0; 32])])
}

/// `w:{t}:<bucket>`: the bucket's open multipart uploads in this partition, by name.
pub fn open_uploads(tag: PartitionTag, bucket: &str) -> String {
    joined("w", tag, &[bucket])
}

/// `h:{t}:<generation>:<bucket>/<name>`: the record of a version that is not current, or of a delete marker.
pub fn history(tag: PartitionTag, generation: Generation, bucket: &str, name: &str) -> String {
    joined("h", tag, &[generation.text(&mut [0; 32]), ":", bucket, "/", name])
}

/// `v:{t}:<bucket>`: an entry for each history key, by name and age: see [`crate::version::VersionEntry`].
pub fn versions(tag: PartitionTag, bucket: &str) -> String {
    joined("v", tag, &[bucket])
}

/// `j:{t}`: uploads in flight.
pub fn journal(tag: PartitionTag) -> String {
    format!("j:{{{tag}}}")
}

/// `d:{t}`: generations to free.
pub fn pending_free(tag: PartitionTag) -> String {
    format!("d:{{{tag}}}")
}

/// `e:{t}`: objects with an end of their own, by it.
pub fn expiry(tag: PartitionTag) -> String {
    format!("e:{{{tag}}}")
}

/// `z:{t}`: objects of which something is lost, by name, each with the generation that lost it.
pub fn damage(tag: PartitionTag) -> String {
    format!("z:{{{tag}}}")
}

/// `s:{t}`: sums per bucket.
pub fn sums(tag: PartitionTag) -> String {
    format!("s:{{{tag}}}")
}

/// A key of ours, taken apart. The audit, the sweeper and eviction read keys that SCAN or RANDOMKEY returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedKey<'a> {
    Bucket { tag: PartitionTag, bucket: &'a str },
    Record { tag: PartitionTag, bucket: &'a str, name: &'a str },
    Staged { tag: PartitionTag, generation: Generation },
    Names { tag: PartitionTag, bucket: &'a str },
    Manifest { tag: PartitionTag, generation: Generation },
    Chunk { tag: PartitionTag, generation: Generation, index: u32 },
    PartList { tag: PartitionTag, generation: Generation },
    Upload { tag: PartitionTag, generation: Generation },
    OpenUploads { tag: PartitionTag, bucket: &'a str },
    History { tag: PartitionTag, generation: Generation, bucket: &'a str, name: &'a str },
    Versions { tag: PartitionTag, bucket: &'a str },
    Journal { tag: PartitionTag },
    PendingFree { tag: PartitionTag },
    Expiry { tag: PartitionTag },
    Damage { tag: PartitionTag },
    Sums { tag: PartitionTag },
}

/// `None`: not a key of this data model.
pub fn parse(key: &[u8]) -> Option<ParsedKey<'_>> {
    let text = std::str::from_utf8(key).ok()?;
    let (family, rest) = text.split_once(":{")?;
    let (tag, rest) = rest.split_once('}')?;
    let tag = PartitionTag::parse(tag)?;
    if rest.is_empty() {
        return match family {
            "j" => Some(ParsedKey::Journal { tag }),
            "d" => Some(ParsedKey::PendingFree { tag }),
            "e" => Some(ParsedKey::Expiry { tag }),
            "z" => Some(ParsedKey::Damage { tag }),
            "s" => Some(ParsedKey::Sums { tag }),
            _ => None,
        };
    }
    let rest = rest.strip_prefix(':')?;
    match family {
        "b" => Some(ParsedKey::Bucket { tag, bucket: rest }),
        "x" => Some(ParsedKey::Names { tag, bucket: rest }),
        "n" => Some(ParsedKey::Staged { tag, generation: Generation::parse(rest)? }),
        "k" => Some(ParsedKey::Manifest { tag, generation: Generation::parse(rest)? }),
        "m" => Some(ParsedKey::PartList { tag, generation: Generation::parse(rest)? }),
        "u" => Some(ParsedKey::Upload { tag, generation: Generation::parse(rest)? }),
        "w" => Some(ParsedKey::OpenUploads { tag, bucket: rest }),
        "v" => Some(ParsedKey::Versions { tag, bucket: rest }),
        "h" => {
            let (generation, object) = rest.split_once(':')?;
            let (bucket, name) = object.split_once('/')?;
            Some(ParsedKey::History { tag, generation: Generation::parse(generation)?, bucket, name })
        }
        "o" => {
            let (bucket, name) = rest.split_once('/')?;
            Some(ParsedKey::Record { tag, bucket, name })
        }
        "c" => {
            let (generation, index) = rest.split_once(':')?;
            let index = index.parse().ok()?;
            Some(ParsedKey::Chunk { tag, generation: Generation::parse(generation)?, index })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::tag_of;

    fn check_bucket(name: &str, good: bool) {
        assert_eq!(BucketName::parse(name).is_ok(), good, "{name}");
    }

    #[test]
    fn bucket_names_are_limited_to_what_keys_and_urls_carry() {
        for name in ["a", "A9", "my-bucket.v_1", &"b".repeat(63)] {
            check_bucket(name, true);
        }
        for name in ["", "-a", "a-", ".", "..", "a/b", "a:b", "a{b", "ü", &"b".repeat(64)] {
            check_bucket(name, false);
        }
    }

    #[test]
    fn object_names_are_any_text_without_nul() {
        assert!(ObjectName::parse("ä/{x}:y\n").is_ok());
        assert_eq!(ObjectName::parse(""), Err(NameError::Empty));
        assert_eq!(ObjectName::parse("a\0b"), Err(NameError::Nul));
        assert!(ObjectName::parse("x".repeat(1024)).is_ok());
        assert_eq!(ObjectName::parse("x".repeat(1025)), Err(NameError::TooLong));
    }

    #[test]
    fn parsed_keys_are_the_keys_that_were_made() {
        let tag = tag_of(7, 256);
        let generation = Generation::new(1_700_000_000_000, [3; 10]);
        let cases: [(String, ParsedKey<'_>); 16] = [
            (bucket(tag, "b"), ParsedKey::Bucket { tag, bucket: "b" }),
            (record(tag, "b", "n/{m}:x"), ParsedKey::Record { tag, bucket: "b", name: "n/{m}:x" }),
            (staged(tag, generation), ParsedKey::Staged { tag, generation }),
            (names(tag, ""), ParsedKey::Names { tag, bucket: "" }),
            (manifest(tag, generation), ParsedKey::Manifest { tag, generation }),
            (chunk(tag, generation, 12), ParsedKey::Chunk { tag, generation, index: 12 }),
            (part_list(tag, generation), ParsedKey::PartList { tag, generation }),
            (upload(tag, generation), ParsedKey::Upload { tag, generation }),
            (open_uploads(tag, "b"), ParsedKey::OpenUploads { tag, bucket: "b" }),
            (
                history(tag, generation, "b", "n:/m"),
                ParsedKey::History { tag, generation, bucket: "b", name: "n:/m" },
            ),
            (versions(tag, "b"), ParsedKey::Versions { tag, bucket: "b" }),
            (journal(tag), ParsedKey::Journal { tag }),
            (pending_free(tag), ParsedKey::PendingFree { tag }),
            (expiry(tag), ParsedKey::Expiry { tag }),
            (damage(tag), ParsedKey::Damage { tag }),
            (sums(tag), ParsedKey::Sums { tag }),
        ];
        for (key, want) in &cases {
            assert_eq!(parse(key.as_bytes()).as_ref(), Some(want), "{key}");
        }
        assert_eq!(parse(b"c:{zzz}:nothing"), None);
        assert_eq!(parse(b"foreign"), None);
    }
}
