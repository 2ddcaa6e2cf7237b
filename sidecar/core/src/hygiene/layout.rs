//! The structures that an engine version puts around a key. Redis 7.0 and Valkey 8.1 were measured; the others follow
//! what is known of their sources. What is not exactly so in a build shows in the calibration probe, and one that differs
//! too much is not calibrated. Redis 8.0 is left out: with the layout of 7.4 its probes miss by 16 bytes a key.

/// Where the bytes of a key's name live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// A string of its own, pointed at by the dict entry.
    Own,
    /// Behind the dict entry, in the same allocation (Valkey 8.0).
    InEntry,
    /// Behind the object header, in the same allocation; a value short enough rides there too (Valkey 8.1 on).
    InObject { embedded_bytes_max: u64 },
}

/// Sizes in bytes of what surrounds a key, its value and a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub key: KeyPlace,
    /// Main dict entry, cluster links included; 0 where the table holds the object itself.
    pub entry: u64,
    /// Per key, what the engine counts as overhead of its tables besides the tables themselves.
    pub counted_per_key: u64,
    /// Per expiry, the same.
    pub counted_per_expiry: u64,
    /// Entry of a zset's or hash's own table; 0 where members sit in the buckets.
    pub member_entry: u64,
    /// The `dict` or `hashtable` header of a collection.
    pub member_table: u64,
    /// Bytes of one bucket and the members it holds on average at the fill the engine aims at.
    pub bucket: Bucket,
}

/// A table's bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// One pointer per bucket, a power of two of at least as many buckets as members.
    Chained,
    /// A cache line of 7 entries (Valkey 8.1 on).
    CacheLine,
}

/// Object header, without an embedded string.
pub const OBJECT: u64 = 16;
/// `zset`: pointers to table and list. `zskiplist`: header, tail, length, level.
pub const ZSET: u64 = 16;
pub const SKIPLIST: u64 = 32;
/// The list's head has all 32 levels.
pub const SKIPLIST_HEAD: u64 = 24 + 32 * 16;
/// A node without levels, and one level.
pub const SKIPLIST_NODE: u64 = 24;
pub const SKIPLIST_LEVEL: u64 = 16;

const DICT: u64 = 56;
const ENTRY: u64 = 24;
/// Previous and next key of the slot, in the entry of a cluster's main dict (7.0 and 7.2).
const SLOT_LINK: u64 = 16;

/// The engine's name and version, as INFO says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineVersion {
    pub valkey: bool,
    pub major: u32,
    pub minor: u32,
}

impl EngineVersion {
    /// `redis_version` and, on Valkey, `valkey_version` of INFO server.
    pub fn parse(redis_version: &str, valkey_version: Option<&str>) -> Option<Self> {
        let mut parts = valkey_version.unwrap_or(redis_version).split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some(Self { valkey: valkey_version.is_some(), major, minor })
    }
}

impl std::fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}.{}", if self.valkey { "valkey" } else { "redis" }, self.major, self.minor)
    }
}

/// The layout of `version`, or nothing for a version we have not read.
pub fn layout(version: &EngineVersion, cluster: bool) -> Option<Layout> {
    let link = if cluster { SLOT_LINK } else { 0 };
    let dict = Layout {
        key: KeyPlace::Own,
        entry: ENTRY,
        counted_per_key: ENTRY + OBJECT,
        counted_per_expiry: ENTRY,
        member_entry: ENTRY,
        member_table: DICT,
        bucket: Bucket::Chained,
    };
    let linked = Layout { entry: ENTRY + link, counted_per_key: ENTRY + OBJECT + link, ..dict };
    // Entry: value pointer, next pointer, one byte for the header's size; the name follows.
    let in_entry = Layout { key: KeyPlace::InEntry, entry: 17, ..dict };
    let hashtable = |embedded_bytes_max| Layout {
        key: KeyPlace::InObject { embedded_bytes_max },
        entry: 0,
        counted_per_key: OBJECT,
        counted_per_expiry: 0,
        member_entry: 0,
        member_table: DICT,
        bucket: Bucket::CacheLine,
    };
    match (version.valkey, version.major, version.minor) {
        (false, 7, 0..=3) | (true, 7, 2) => Some(linked),
        (false, 7, 4) => Some(dict),
        (true, 8, 0) => Some(in_entry),
        (true, 8, 1) => Some(hashtable(64)),
        (true, 9, 0) => Some(hashtable(128)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_we_have_read_have_a_layout() {
        let known = [("7.0.15", None), ("7.2.4", None), ("7.4.1", None), ("7.2.4", Some("7.2.8"))];
        let newer = [("7.2.4", Some("8.0.1")), ("7.2.4", Some("8.1.0")), ("7.2.4", Some("9.0.0"))];
        for (redis, valkey) in known.into_iter().chain(newer) {
            let version = EngineVersion::parse(redis, valkey).expect("a version");
            assert!(layout(&version, true).is_some(), "{version}");
        }
        let unread = EngineVersion::parse("99.1.0", None).expect("a version");
        assert_eq!(layout(&unread, true), None);
    }
}
