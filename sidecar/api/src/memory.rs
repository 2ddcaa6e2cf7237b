//! `GET /v1/memory`: the engine's own evidence (INFO, MEMORY STATS, MEMORY DOCTOR, MEMORY USAGE), explained.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryView {
    pub pod: String,
    /// RFC 3339.
    pub at: String,
    pub engine_run_id: String,
    /// `used_memory`, bytes.
    pub used: u64,
    /// The smaller of `maxmemory` and the container's limit, bytes; 0: none.
    pub limit: u64,
    /// What `used` is made of, largest first.
    pub parts: Vec<MemoryPart>,
    pub fragmentation: Fragmentation,
    /// The largest keys but for chunks of blobs, which are all of one size; none before the first audit pass.
    pub largest: Vec<LargeKey>,
    /// MEMORY DOCTOR, word for word.
    pub doctor: String,
    /// All of it in sentences, the most important first.
    pub explained: Vec<String>,
}

/// A part of the engine's allocated memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryPart {
    /// As MEMORY STATS names it.
    pub name: String,
    pub bytes: u64,
    pub meaning: String,
}

/// What the process holds beyond its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fragmentation {
    /// Resident set by allocated memory.
    pub ratio: f64,
    /// Of the ratio: `below 1`, `1 to 1.5`, `1.5 to 2`, `2 to 5` or `above 5`.
    pub band: String,
    /// Resident bytes beyond what is allocated; negative: allocated memory that is not resident.
    pub bytes: i64,
    pub cause: FragmentationCause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum FragmentationCause {
    /// Too few bytes to matter, whatever the ratio.
    Negligible,
    /// Slabs that are partly in use: only a restart or a defragmentation gives them back.
    Slabs,
    /// Freed pages that the allocator keeps: a purge gives them back.
    FreedPages,
    /// Code, stacks, and what else the process holds outside its allocator.
    Process,
    /// Allocated, and never touched or swapped out.
    NotResident,
    /// The engine's allocator does not tell.
    Unknown,
}

/// A key that is large for its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LargeKey {
    /// Its name, cut to 80 characters.
    pub key: String,
    /// MEMORY USAGE, bytes.
    pub bytes: u64,
    /// What it is to us, `foreign` if nothing.
    pub family: String,
}
