//! The byte ledger: what we know of, by family and by collection, in modelled bytes. The store tells it every
//! effect (`LedgerSink`), an audit pass what was there before. The book follows every change, so a restart leaves
//! one constant per family unknown, `offset = engine - book`. A pass that saw `seen` bytes, while `added` and
//! `removed` changed, bounds it: a key missed was added in the pass, a key counted in vain was removed in it, hence
//! `seen - removed - book <= offset <= seen + added - book`. Bounds of several passes are intersected; after a quiet
//! pass they meet in a point. Collections have names, so a pass replaces each of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use crate::hygiene::size_model::{ASSUMED, Collection, SizeModel, kind};
use crate::ledger::{Family, LedgerSink};

/// Every family, in the order of the book's columns.
pub const FAMILIES: [Family; 13] = [
    Family::Bucket,
    Family::Record,
    Family::Names,
    Family::Manifest,
    Family::Chunk,
    Family::Journal,
    Family::PendingFree,
    Family::Sums,
    Family::Upload,
    Family::OpenUploads,
    Family::Versions,
    Family::Expiry,
    Family::Damage,
];

fn column(family: Family) -> usize {
    FAMILIES.iter().position(|other| *other == family).unwrap_or(0)
}

/// Static name of a family, for figures.
pub fn family_name(family: Family) -> &'static str {
    family.name()
}

/// A collection is known by its key.
type CollectionName = (Family, Box<[u8]>);

/// One family's strings: what the book holds, and how much passed through it.
#[derive(Debug, Default)]
struct Strings {
    keys: AtomicI64,
    bytes: AtomicI64,
    added: AtomicU64,
    removed: AtomicU64,
}

/// Bounds of the unknown constant of one family, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offset {
    min: i64,
    max: i64,
}

impl Offset {
    const ZERO: Self = Self { min: 0, max: 0 };

    fn middle(self) -> i64 {
        self.min + (self.max - self.min) / 2
    }
}

/// What only an audit pass can say.
#[derive(Debug)]
struct Rebuild {
    /// None: nothing is known of what was there before the book began.
    offsets: Option<[Offset; FAMILIES.len()]>,
    /// Why the book does not hold, for people.
    reason: String,
    /// How often a pass contradicted the book: sink calls were lost, or somebody else writes our keys.
    drifts: u64,
}

/// The ledger of one engine. Shared by the store (through `LedgerSink`), the sampler and the audit.
#[derive(Debug)]
pub struct Ledger {
    model: RwLock<SizeModel>,
    strings: [Strings; FAMILIES.len()],
    /// One short critical section per member: sixteen bytes of arithmetic, never an await.
    collections: Mutex<HashMap<CollectionName, Collection>>,
    collection_bytes: [AtomicI64; FAMILIES.len()],
    in_flight: AtomicI64,
    pending_free: AtomicI64,
    rebuild: Mutex<Rebuild>,
}

/// Where a pass began: taken before its first SCAN.
#[derive(Clone, Copy, Debug)]
pub struct AuditMark {
    added: [u64; FAMILIES.len()],
    removed: [u64; FAMILIES.len()],
}

/// Bytes of live string keys that a pass saw, by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeenBytes([u64; FAMILIES.len()]);

impl SeenBytes {
    pub fn add(&mut self, family: Family, bytes: u64) {
        self.0[column(family)] += bytes;
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// What a pass did to the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// Width of what stays unknown, bytes.
    pub uncertain_bytes: u64,
    /// Bytes by which the pass contradicted the book, 0 when it agreed.
    pub drift_bytes: u64,
}

/// The book at one moment, bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerSnapshot {
    /// Everything that exists, pending free included.
    pub stored: u64,
    /// Of `stored`: generations that wait to be freed.
    pub pending_free: u64,
    /// Values on their way: between nothing and this much is in the engine already.
    pub in_flight: u64,
    /// What the last rebuild left open: `stored` may be off by half of this.
    pub uncertain: u64,
    /// Why the book does not hold, if it does not.
    pub not_rebuilt: Option<String>,
    pub families: Vec<(Family, u64)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// Holds nothing and knows nothing: `begin_empty` or an audit pass makes it valid.
    pub fn new() -> Self {
        Self {
            model: RwLock::new(ASSUMED),
            strings: Default::default(),
            collections: Mutex::default(),
            collection_bytes: Default::default(),
            in_flight: AtomicI64::new(0),
            pending_free: AtomicI64::new(0),
            rebuild: Mutex::new(Rebuild {
                offsets: None,
                reason: "the ledger has not been rebuilt since the sidecar started".to_owned(),
                drifts: 0,
            }),
        }
    }

    pub fn model(&self) -> SizeModel {
        *self.model.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another engine, or the same one calibrated: what the book holds was reckoned with another model.
    pub fn set_model(&self, model: SizeModel, reason: &str) {
        *self.model.write().unwrap_or_else(PoisonError::into_inner) = model;
        self.invalidate(reason);
    }

    /// The engine is another one, or changed role: only an audit pass can say what it holds.
    pub fn invalidate(&self, reason: &str) {
        let mut rebuild = locked(&self.rebuild);
        rebuild.offsets = None;
        reason.clone_into(&mut rebuild.reason);
        let mut collections = locked(&self.collections);
        collections.clear();
        for bytes in &self.collection_bytes {
            bytes.store(0, Ordering::Relaxed);
        }
        for strings in &self.strings {
            strings.keys.store(0, Ordering::Relaxed);
            strings.bytes.store(0, Ordering::Relaxed);
        }
    }

    pub fn drifts(&self) -> u64 {
        locked(&self.rebuild).drifts
    }

    /// Call before the first SCAN of a pass.
    pub fn mark(&self) -> AuditMark {
        AuditMark {
            added: std::array::from_fn(|index| self.strings[index].added.load(Ordering::Relaxed)),
            removed: std::array::from_fn(|index| self.strings[index].removed.load(Ordering::Relaxed)),
        }
    }

    /// Call after the last SCAN of a pass and a settling time, in which the effects of commands that the scan
    /// overtook have been told to the book.
    pub fn reconcile(&self, mark: &AuditMark, seen: &SeenBytes) -> Reconciled {
        let mut rebuild = locked(&self.rebuild);
        let bounds: [Offset; FAMILIES.len()] = std::array::from_fn(|index| {
            let strings = &self.strings[index];
            let book = strings.bytes.load(Ordering::Relaxed);
            let added = signed(strings.added.load(Ordering::Relaxed).saturating_sub(mark.added[index]));
            let removed = signed(strings.removed.load(Ordering::Relaxed).saturating_sub(mark.removed[index]));
            let seen = signed(seen.0[index]);
            Offset { min: seen - removed - book, max: seen + added - book }
        });
        let known = rebuild.offsets;
        let mut drift_bytes = 0;
        let merged: [Offset; FAMILIES.len()] = std::array::from_fn(|index| {
            let new = bounds[index];
            let Some(old) = known.map(|offsets| offsets[index]) else { return new };
            let both = Offset { min: new.min.max(old.min), max: new.max.min(old.max) };
            if both.min <= both.max {
                return both;
            }
            // No constant satisfies both: the book lost something since. The newer pass is right.
            drift_bytes += (both.min - both.max).unsigned_abs();
            new
        });
        rebuild.drifts += u64::from(drift_bytes > 0);
        rebuild.offsets = Some(merged);
        rebuild.reason.clear();
        let uncertain_bytes = merged.iter().map(|offset| (offset.max - offset.min).unsigned_abs()).sum();
        Reconciled { uncertain_bytes, drift_bytes }
    }

    /// The engine holds no key at all: the book is exact from here.
    pub fn begin_empty(&self, model: SizeModel) {
        self.set_model(model, "");
        locked(&self.rebuild).offsets = Some([Offset::ZERO; FAMILIES.len()]);
    }

    /// A pass read this collection whole: replaces what the book has of it.
    pub fn adopt(&self, family: Family, key: &[u8], collection: Collection) {
        let model = self.model();
        let mut collections = locked(&self.collections);
        let name = (family, Box::from(key));
        let before = collections.get(&name).map_or(0, |known| model.collection(family, key.len(), known));
        let after = model.collection(family, key.len(), &collection);
        if collection.members == 0 {
            collections.remove(&name);
        } else {
            collections.insert(name, collection);
        }
        self.collection_bytes[column(family)].fetch_add(signed(after) - signed(before), Ordering::Relaxed);
    }

    /// Collections of the book that a pass did not meet: gone, unless they came to be in that pass.
    pub fn collections(&self) -> Vec<CollectionName> {
        locked(&self.collections).keys().cloned().collect()
    }

    pub fn snapshot(&self) -> LedgerSnapshot {
        let rebuild = locked(&self.rebuild);
        let offsets = rebuild.offsets.unwrap_or([Offset::ZERO; FAMILIES.len()]);
        let families: Vec<(Family, u64)> = FAMILIES
            .iter()
            .enumerate()
            .map(|(index, family)| {
                let strings = self.strings[index].bytes.load(Ordering::Relaxed) + offsets[index].middle();
                let members = self.collection_bytes[index].load(Ordering::Relaxed);
                (*family, unsigned(strings + members))
            })
            .collect();
        LedgerSnapshot {
            stored: families.iter().map(|(_, bytes)| bytes).sum(),
            pending_free: unsigned(self.pending_free.load(Ordering::Relaxed)),
            in_flight: unsigned(self.in_flight.load(Ordering::Relaxed)),
            uncertain: offsets.iter().map(|offset| (offset.max - offset.min).unsigned_abs()).sum(),
            not_rebuilt: rebuild.offsets.is_none().then(|| rebuild.reason.clone()),
            families,
        }
    }

    fn change_member(&self, family: Family, key: &[u8], member_len: usize, sign: Sign) {
        if kind(family).is_none() {
            return;
        }
        let model = self.model();
        let mut collections = locked(&self.collections);
        let name = (family, Box::from(key));
        let known = collections.get(&name).copied().unwrap_or_default();
        let changed = changed(&model, family, known, member_len as u64, sign);
        let before = model.collection(family, key.len(), &known);
        let after = model.collection(family, key.len(), &changed);
        if changed.members == 0 {
            collections.remove(&name);
        } else {
            collections.insert(name, changed);
        }
        self.collection_bytes[column(family)].fetch_add(signed(after) - signed(before), Ordering::Relaxed);
    }

    fn change_string(&self, family: Family, shape: (usize, usize), sign: Sign) {
        let bytes = self.model().string_key(shape.0, shape.1);
        let strings = &self.strings[column(family)];
        match sign {
            Sign::Plus => {
                strings.keys.fetch_add(1, Ordering::Relaxed);
                strings.bytes.fetch_add(signed(bytes), Ordering::Relaxed);
                strings.added.fetch_add(bytes, Ordering::Relaxed);
            }
            Sign::Minus => {
                strings.keys.fetch_sub(1, Ordering::Relaxed);
                strings.bytes.fetch_sub(signed(bytes), Ordering::Relaxed);
                strings.removed.fetch_add(bytes, Ordering::Relaxed);
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Sign {
    Plus,
    Minus,
}

fn changed(model: &SizeModel, family: Family, known: Collection, len: u64, sign: Sign) -> Collection {
    let (compact, table) = (model.compact_member(family, len), model.table_member(family, len));
    match sign {
        Sign::Plus => Collection {
            members: known.members + 1,
            compact_bytes: known.compact_bytes + compact,
            table_bytes: known.table_bytes + table,
            expanded: known.expanded || model.expands(family, known.members + 1, len),
        },
        Sign::Minus => Collection {
            members: known.members.saturating_sub(1),
            compact_bytes: known.compact_bytes.saturating_sub(compact),
            table_bytes: known.table_bytes.saturating_sub(table),
            expanded: known.expanded,
        },
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn unsigned(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

impl LedgerSink for Ledger {
    fn sending(&self, value_len: u64) {
        let bytes = self.model().value_alone(value_len);
        self.in_flight.fetch_add(signed(bytes), Ordering::Relaxed);
    }

    fn sent_done(&self, value_len: u64) {
        let bytes = self.model().value_alone(value_len);
        self.in_flight.fetch_sub(signed(bytes), Ordering::Relaxed);
    }

    fn string_added(&self, family: Family, key_len: usize, value_len: usize) {
        self.change_string(family, (key_len, value_len), Sign::Plus);
    }

    fn string_removed(&self, family: Family, key_len: usize, value_len: usize) {
        self.change_string(family, (key_len, value_len), Sign::Minus);
    }

    fn member_added(&self, family: Family, key: &[u8], member_len: usize) {
        self.change_member(family, key, member_len, Sign::Plus);
    }

    fn member_removed(&self, family: Family, key: &[u8], member_len: usize) {
        self.change_member(family, key, member_len, Sign::Minus);
    }

    fn collection_removed(&self, family: Family, key: &[u8]) {
        self.adopt(family, key, Collection::default());
    }

    fn pending_free(&self, bytes: i64) {
        self.pending_free.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
