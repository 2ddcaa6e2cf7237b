//! Orphans made on purpose: chunks that no manifest, record, upload or list names, as a crash of a writer that
//! is not ours would leave them.

use std::time::Duration;

use crate::{
    error::{Error, Result},
    store::Store,
};

/// The size of a whole chunk.
pub const CHUNK_BYTES: u64 = 262_080;
/// A tag of the partition table; any will do where one shard owns all slots.
const TAG: &str = "cv";
/// The values are zeros with a last byte: made inside the engine, so that no payload passes a command line.
const SCRIPT: &str = "for i = 0, tonumber(ARGV[2]) - 1 do \
     redis.call('SETRANGE', 'c:{' .. ARGV[3] .. '}:' .. ARGV[1] .. ':' .. i, tonumber(ARGV[4]) - 1, 'x') end \
     return redis.call('DBSIZE')";

#[derive(Debug, Clone)]
pub struct Orphans {
    pub pod: String,
    pub generation: String,
    pub chunks: u64,
}

impl Orphans {
    pub fn bytes(&self) -> u64 {
        self.chunks * CHUNK_BYTES
    }
}

/// Puts chunks of a generation that old into the engine of a pod, which must be the primary of all slots.
pub async fn inject(store: &Store, pod: &str, chunks: u64, age: Duration) -> Result<Orphans> {
    let born = jiff::Timestamp::now() - age;
    let generation = format!("{:012x}{:020x}", born.as_millisecond(), rand::random::<u64>());
    let key = format!("c:{{{TAG}}}:{generation}:0");
    let (count, bytes) = (chunks.to_string(), CHUNK_BYTES.to_string());
    store.engine(pod, &["EVAL", SCRIPT, "1", &key, &generation, &count, TAG, &bytes]).await?;
    let orphans = Orphans { pod: pod.to_owned(), generation, chunks };
    match left(store, &orphans).await? {
        found if found == chunks => Ok(orphans),
        found => Err(Error::Wrong(format!("{found} of {chunks} orphans are in the engine"))),
    }
}

/// How many of them the engine still holds.
pub async fn left(store: &Store, orphans: &Orphans) -> Result<u64> {
    let prefix = format!("c:{{{TAG}}}:{}:", orphans.generation);
    let script = "local n = 0 for i = 0, tonumber(ARGV[2]) - 1 do n = n + redis.call('EXISTS', ARGV[1] .. i) end return n";
    let key = format!("{prefix}0");
    let count = orphans.chunks.to_string();
    let answer = store.engine(&orphans.pod, &["EVAL", script, "1", &key, &prefix, &count]).await?;
    answer.trim().parse().map_err(Error::other(format!("read a count from {answer:?}")))
}

/// A figure of `INFO memory`, in bytes.
pub async fn memory(store: &Store, pod: &str, figure: &str) -> Result<u64> {
    let info = store.engine(pod, &["INFO", "memory"]).await?;
    let value = info.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    let value = value.ok_or_else(|| Error::Wrong(format!("INFO memory shows no {figure}")))?;
    value.trim().parse().map_err(Error::other(format!("read {figure}")))
}
