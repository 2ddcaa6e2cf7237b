//! What a shape costs in the engine, in bytes of `used_memory`: name, entry, object, string header, member nodes
//! and tables, each rounded to the allocator's class. The main tables are not here: the engine counts them itself.

use crate::hygiene::allocator::Allocator;
use crate::hygiene::layout::{
    Bucket, KeyPlace, Layout, OBJECT, SKIPLIST, SKIPLIST_HEAD, SKIPLIST_LEVEL, SKIPLIST_NODE, ZSET,
};
use crate::ledger::Family;

/// Strings up to this length sit in the object's own allocation.
const EMBEDDED_STRING_MAX: u64 = 44;
/// From here the engine hands the query buffer itself to the object: two more bytes, for CR and LF.
const BIG_ARGUMENT: u64 = 32 << 10;
/// Listpack: header of 6 bytes, one byte of end mark.
const LISTPACK_FRAME: u64 = 7;
/// A zset's level is one more with probability 1/4; above this the share is below one in 10^5.
const LEVELS_COUNTED: u32 = 8;
/// The smallest table of a collection.
const TABLE_MIN: u64 = 4;
/// A bucket of cache-line tables, its entries, and the fill (percent) at which the engine grows the table.
const LINE_BYTES: u64 = 64;
const LINE_ENTRIES: u64 = 7;
const LINE_FILL_PERCENT: u64 = 77;

/// Where a compact collection turns into its table form (`CONFIG GET *listpack*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListpackLimits {
    pub zset_entries: u64,
    pub zset_value: u64,
    pub hash_entries: u64,
    pub hash_value: u64,
}

impl Default for ListpackLimits {
    fn default() -> Self {
        Self { zset_entries: 128, zset_value: 64, hash_entries: 512, hash_value: 64 }
    }
}

/// Learned on the running engine: bytes to add per item and per byte of the model's own figure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Affine {
    pub per_item: f64,
    pub per_byte: f64,
}

impl Affine {
    fn apply(self, bytes: u64) -> u64 {
        let corrected = bytes as f64 * (1.0 + self.per_byte) + self.per_item;
        corrected.round().max(0.0) as u64
    }
}

/// One correction for each way the engine stores something.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Corrections {
    pub string: Affine,
    pub listpack: Affine,
    pub table: Affine,
}

/// The model of one engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SizeModel {
    pub allocator: Allocator,
    pub layout: Layout,
    pub limits: ListpackLimits,
    pub corrections: Corrections,
}

/// A zset or a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Zset,
    Hash,
}

/// What the ledger keeps of one collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    pub members: u64,
    /// Bytes of the members in compact form.
    pub compact_bytes: u64,
    /// Bytes of the members in table form, without the table.
    pub table_bytes: u64,
    /// In table form; an engine never turns one back.
    pub expanded: bool,
}

/// The type of a family's keys, if they are collections.
pub fn kind(family: Family) -> Option<Kind> {
    match family {
        Family::Bucket | Family::Sums | Family::Upload | Family::Damage => Some(Kind::Hash),
        Family::Names
        | Family::Journal
        | Family::PendingFree
        | Family::OpenUploads
        | Family::Versions
        | Family::Expiry => Some(Kind::Zset),
        Family::Record | Family::Manifest | Family::Chunk => None,
    }
}

/// Bytes of a string header, by the length of the string.
fn header(len: u64) -> u64 {
    match len {
        0..32 => 1,
        32..256 => 3,
        256..65_536 => 5,
        65_536..0x1_0000_0000 => 9,
        _ => 17,
    }
}

impl SizeModel {
    fn string(&self, len: u64) -> u64 {
        self.allocator.class(header(len) + len + 1)
    }

    /// Name and entry of any key, and its object header where the value does not bring its own.
    fn key(&self, key_len: u64) -> u64 {
        match self.layout.key {
            KeyPlace::Own => self.string(key_len) + self.allocator.class(self.layout.entry),
            KeyPlace::InEntry => self.allocator.class(self.layout.entry + header(key_len) + key_len + 1),
            KeyPlace::InObject { .. } => 0,
        }
    }

    /// The object's header, with the name behind it where the engine does so.
    fn object(&self, key_len: u64) -> u64 {
        match self.layout.key {
            KeyPlace::Own | KeyPlace::InEntry => self.allocator.class(OBJECT),
            KeyPlace::InObject { .. } => self.allocator.class(OBJECT + 1 + header(key_len) + key_len + 1),
        }
    }

    fn value(&self, key_len: u64, value_len: u64) -> u64 {
        let embedded = match self.layout.key {
            KeyPlace::InObject { embedded_bytes_max } => {
                // Name and value share the object while the whole stays within the bound.
                let whole = OBJECT + 1 + header(key_len) + key_len + 1 + 3 + value_len + 1;
                (whole <= embedded_bytes_max).then(|| self.allocator.class(whole))
            }
            KeyPlace::Own | KeyPlace::InEntry => {
                (value_len <= EMBEDDED_STRING_MAX).then(|| self.allocator.class(OBJECT + 3 + value_len + 1))
            }
        };
        let crlf = if value_len >= BIG_ARGUMENT { 2 } else { 0 };
        embedded.unwrap_or_else(|| self.object(key_len) + self.string(value_len + crlf))
    }

    /// A string key with its value.
    pub fn string_key(&self, key_len: usize, value_len: usize) -> u64 {
        let (key_len, value_len) = (key_len as u64, value_len as u64);
        self.corrections.string.apply(self.key(key_len) + self.value(key_len, value_len))
    }

    /// What the allocator makes of a value alone: bytes of an upload on their way.
    pub fn value_alone(&self, value_len: u64) -> u64 {
        self.string(value_len)
    }

    /// A member's bytes in compact form. `scores_are_small`: names carry score 0, the others a time.
    pub fn compact_member(&self, family: Family, len: u64) -> u64 {
        let entry = |len: u64| len + if len < 64 { 2 } else { 3 };
        match kind(family) {
            Some(Kind::Hash) => entry(len / 2) + entry(len - len / 2),
            _ if family == Family::Names => entry(len) + 2,
            // A 64-bit integer with its code, and one byte of back length.
            _ => entry(len) + 10,
        }
    }

    /// A member's bytes in table form: node or field, entry, text.
    pub fn table_member(&self, family: Family, len: u64) -> u64 {
        let entry =
            if self.layout.member_entry == 0 { 0 } else { self.allocator.class(self.layout.member_entry) };
        match kind(family) {
            Some(Kind::Hash) => entry + self.string(len / 2) + self.string(len - len / 2),
            _ => entry + self.string(len) + self.mean_node(),
        }
    }

    /// Mean size of a skiplist node over the distribution of its levels.
    fn mean_node(&self) -> u64 {
        let share = |level: u32| 0.75 * 0.25_f64.powi(level as i32 - 1);
        let size = |level: u32| self.allocator.class(SKIPLIST_NODE + SKIPLIST_LEVEL * u64::from(level));
        let mean: f64 = (1..=LEVELS_COUNTED).map(|level| share(level) * size(level) as f64).sum();
        mean.round() as u64
    }

    /// Whether a collection with one more member of `len` bytes leaves the compact form.
    pub fn expands(&self, family: Family, members: u64, len: u64) -> bool {
        match kind(family) {
            Some(Kind::Hash) => members > self.limits.hash_entries || len > 2 * self.limits.hash_value,
            _ => members > self.limits.zset_entries || len > self.limits.zset_value,
        }
    }

    fn table(&self, members: u64) -> u64 {
        match self.layout.bucket {
            Bucket::Chained => self.allocator.class(members.next_power_of_two().max(TABLE_MIN) * 8),
            Bucket::CacheLine => {
                let buckets = (members * 100).div_ceil(LINE_ENTRIES * LINE_FILL_PERCENT).max(1);
                self.allocator.class(buckets.next_power_of_two() * LINE_BYTES)
            }
        }
    }

    /// A whole collection: key, object, and its members in the form they have.
    pub fn collection(&self, family: Family, key_len: usize, collection: &Collection) -> u64 {
        if collection.members == 0 {
            return 0;
        }
        let key_len = key_len as u64;
        let frame = self.corrections.string.apply(self.key(key_len) + self.object(key_len));
        if !collection.expanded {
            let compact = self.allocator.class(LISTPACK_FRAME + collection.compact_bytes);
            return frame + self.corrections.listpack.apply(compact);
        }
        let fixed = self.allocator.class(self.layout.member_table) + self.table(collection.members);
        let list = match kind(family) {
            Some(Kind::Hash) => 0,
            _ => {
                let parts = [ZSET, SKIPLIST, SKIPLIST_HEAD];
                parts.iter().map(|part| self.allocator.class(*part)).sum()
            }
        };
        // The correction is per member here: a node's mean size is what an engine may differ in.
        let Affine { per_item, per_byte } = self.corrections.table;
        let members = collection.table_bytes as f64 * (1.0 + per_byte) + collection.members as f64 * per_item;
        frame + fixed + list + members.round().max(0.0) as u64
    }
}

/// Redis 7.0 in cluster mode on a distribution's jemalloc: where a ledger starts before its engine is known.
pub const ASSUMED: SizeModel = SizeModel {
    allocator: Allocator::Jemalloc { quantum: 16 },
    layout: Layout {
        key: KeyPlace::Own,
        entry: 40,
        counted_per_key: 56,
        counted_per_expiry: 24,
        member_entry: 24,
        member_table: 56,
        bucket: Bucket::Chained,
    },
    limits: ListpackLimits { zset_entries: 128, zset_value: 64, hash_entries: 512, hash_value: 64 },
    corrections: Corrections {
        string: Affine { per_item: 0.0, per_byte: 0.0 },
        listpack: Affine { per_item: 0.0, per_byte: 0.0 },
        table: Affine { per_item: 0.0, per_byte: 0.0 },
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_chunk_fills_its_class() {
        // Name of 40 bytes: 48; entry with slot links: 48; object: 16; value: 2^18.
        assert_eq!(ASSUMED.string_key(40, 262_080), 48 + 48 + 16 + 262_144);
    }

    #[test]
    fn a_power_of_two_spills_into_the_next_class() {
        assert_eq!(ASSUMED.string_key(40, 262_144), 48 + 48 + 16 + 327_680);
    }

    #[test]
    fn a_short_value_shares_the_objects_allocation() {
        assert_eq!(ASSUMED.string_key(10, 20), 16 + 48 + 48);
    }

    #[test]
    fn a_zset_grows_from_compact_to_table_form() {
        let member = ASSUMED.compact_member(Family::Names, 20);
        let compact = Collection { members: 100, compact_bytes: 100 * member, ..Default::default() };
        let table = Collection {
            members: 1_000,
            table_bytes: 1_000 * ASSUMED.table_member(Family::Names, 20),
            expanded: true,
            ..Default::default()
        };
        assert_eq!(ASSUMED.collection(Family::Names, 30, &compact), 32 + 48 + 16 + 2_560);
        let bytes = ASSUMED.collection(Family::Names, 30, &table);
        assert!((120..140).contains(&(bytes / 1_000)), "{bytes} bytes for 1000 members");
        assert_eq!(ASSUMED.collection(Family::Names, 30, &Collection::default()), 0);
    }
}
