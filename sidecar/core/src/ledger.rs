//! What the store tells the byte ledger, key by key. The store reports shapes (lengths), never sizes: what a shape
//! costs in the engine is the size model's business (`hygiene`).

/// The key families of the data model (one letter each in the key).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Bucket,
    Record,
    Names,
    Manifest,
    Chunk,
    Journal,
    PendingFree,
    Sums,
    /// Open multipart uploads and their parts.
    Upload,
    /// Open multipart uploads by name.
    OpenUploads,
    /// Versions that are not current, by name.
    Versions,
    /// Objects with an end of their own.
    Expiry,
    /// Objects of which something is lost.
    Damage,
}

impl Family {
    /// For figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Record => "record",
            Self::Names => "names",
            Self::Manifest => "manifest",
            Self::Chunk => "chunk",
            Self::Journal => "journal",
            Self::PendingFree => "pending_free",
            Self::Sums => "sums",
            Self::Upload => "upload",
            Self::OpenUploads => "open_uploads",
            Self::Versions => "versions",
            Self::Expiry => "expiry",
            Self::Damage => "damage",
        }
    }
}

/// Receives every effect of the store on the engine. Calls are cheap and never block.
pub trait LedgerSink: Send + Sync + std::fmt::Debug + 'static {
    /// Bytes of a string value are on their way to the engine; `sent_done` follows exactly once.
    fn sending(&self, value_len: u64);
    /// The engine answered, or the lane broke.
    fn sent_done(&self, value_len: u64);
    /// A string key exists now that did not before.
    fn string_added(&self, family: Family, key_len: usize, value_len: usize);
    /// A string key is gone.
    fn string_removed(&self, family: Family, key_len: usize, value_len: usize);
    /// A member of a zset, or a field of a hash (`member_len` = field + value). `key` names the collection.
    fn member_added(&self, family: Family, key: &[u8], member_len: usize);
    fn member_removed(&self, family: Family, key: &[u8], member_len: usize);
    /// A collection is gone as a whole, with all its members.
    fn collection_removed(&self, family: Family, key: &[u8]);
    /// A committed generation now waits to be freed (its bytes stay allocated), or has been freed.
    fn pending_free(&self, bytes: i64);
}

/// For tests and tools that keep no ledger.
#[derive(Debug)]
pub struct NoLedger;

impl LedgerSink for NoLedger {
    fn sending(&self, _: u64) {}
    fn sent_done(&self, _: u64) {}
    fn string_added(&self, _: Family, _: usize, _: usize) {}
    fn string_removed(&self, _: Family, _: usize, _: usize) {}
    fn member_added(&self, _: Family, _: &[u8], _: usize) {}
    fn member_removed(&self, _: Family, _: &[u8], _: usize) {}
    fn collection_removed(&self, _: Family, _: &[u8]) {}
    fn pending_free(&self, _: i64) {}
}
