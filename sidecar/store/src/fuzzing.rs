//! The parsers of this crate that read foreign bytes, for the fuzz targets alone.

use crate::{
    doomed::Doomed,
    engine::resp::{self, Parsed},
    uploads::JournalEntry,
};

/// Length of the first whole answer of an engine.
pub fn reply(bytes: &[u8]) -> Option<usize> {
    match resp::parse(bytes) {
        Parsed::Whole(_, len) => Some(len),
        Parsed::More | Parsed::Garbage => None,
    }
}

/// Length of a value, and of the header that tells it.
pub fn bulk_header(bytes: &[u8]) -> Option<(usize, usize)> {
    resp::bulk_header(bytes).ok().flatten()
}

/// An entry of the journal, written as it was read.
pub fn journal_entry(text: &str) -> Option<String> {
    JournalEntry::parse(text).map(|entry| entry.member())
}

/// An entry of the list of generations to free, written as it was read.
pub fn doomed_entry(text: &str) -> Option<String> {
    let tag = blobstore_sidecar_core::partition::tag_of(0, 1);
    Doomed::parse(tag, text).map(|doomed| doomed.entry())
}

/// Whether these are the packed bytes of exactly `len` plain ones.
pub fn unpack(packed: &[u8], len: usize) -> bool {
    crate::pack::unpack(packed, &mut vec![0; len])
}
