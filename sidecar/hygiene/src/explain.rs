//! What the engine says of its own memory, read when somebody asks: MEMORY STATS, MEMORY DOCTOR, and MEMORY USAGE of the
//! largest keys that the last audit pass met.

use blobstore_sidecar_api::memory::{LargeKey, MemoryView};
use blobstore_sidecar_core::hygiene::audit::{Place, place};
use blobstore_sidecar_core::hygiene::detector::timestamp;
use blobstore_sidecar_core::hygiene::explain::{Stats, explain, fragmentation, parts};
use redis::{Value, cmd, pipe};

use crate::engine::{bulk, integer};
use crate::error::HygieneError;
use crate::sampler::{engine_figures, smallest_limit};
use crate::service::{Inner, now_ms};

/// A key's name is shown up to here.
const KEY_CHARS_MAX: usize = 80;
/// Databases are one level down; nothing is deeper.
const DEPTH_MAX: usize = 3;

pub(crate) async fn view(inner: &Inner) -> Result<MemoryView, HygieneError> {
    let engine = engine_figures(&inner.engine).await?;
    let answer = inner.engine.query::<Value>("read MEMORY STATS", cmd("MEMORY").arg("STATS")).await?;
    let mut stats = Stats::new();
    flatten("", &answer, DEPTH_MAX, &mut stats);
    if stats.is_empty() {
        return Err(HygieneError::Answer("read MEMORY STATS"));
    }
    let doctor: String = inner.engine.query("ask MEMORY DOCTOR", cmd("MEMORY").arg("DOCTOR")).await?;
    let largest = largest(inner).await?;
    let (parts, fragmentation) = (parts(&stats), fragmentation(&engine));
    let limit = smallest_limit(inner, Some(&engine));
    Ok(MemoryView {
        pod: inner.options.pod.clone(),
        at: timestamp(now_ms()),
        explained: explain(&engine, limit, &parts, &fragmentation, &largest),
        engine_run_id: engine.run_id,
        used: engine.used,
        limit,
        parts,
        fragmentation,
        largest,
        doctor: doctor.trim().to_owned(),
    })
}

/// Those that still exist, largest first.
async fn largest(inner: &Inner) -> Result<Vec<LargeKey>, HygieneError> {
    let keys = inner.largest_keys();
    let mut reads = pipe();
    for key in &keys {
        reads.cmd("MEMORY").arg("USAGE").arg(&key[..]);
    }
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let answers = inner.engine.pipe("ask MEMORY USAGE", &mut reads).await?;
    let sized = keys.iter().zip(&answers).map(|(key, answer)| (key, integer(answer)));
    let mut largest: Vec<LargeKey> =
        sized.filter(|(_, bytes)| *bytes > 0).map(|(key, bytes)| large(key, bytes)).collect();
    largest.sort_by_key(|key| std::cmp::Reverse(key.bytes));
    Ok(largest)
}

fn large(key: &[u8], bytes: u64) -> LargeKey {
    let family = match place(key) {
        Place::String(family) | Place::Collection(family) | Place::Body(family, _) => family.name(),
        Place::Foreign => "foreign",
    };
    let name = String::from_utf8_lossy(key).chars().take(KEY_CHARS_MAX).collect();
    LargeKey { key: name, bytes, family: family.to_owned() }
}

/// Names and numbers in turn (RESP2) or a map (RESP3); ratios are left out.
fn flatten(prefix: &str, value: &Value, depth: usize, stats: &mut Stats) {
    let pairs: Vec<(&Value, &Value)> = match value {
        Value::Array(items) => {
            items.chunks_exact(2).filter_map(|pair| Some((pair.first()?, pair.last()?))).collect()
        }
        Value::Map(pairs) => pairs.iter().map(|(name, value)| (name, value)).collect(),
        _ => return,
    };
    for (name, value) in pairs {
        let name = match name {
            Value::SimpleString(name) => name.clone(),
            name => String::from_utf8_lossy(bulk(name)).into_owned(),
        };
        let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Int(_) => {
                stats.insert(name, integer(value));
            }
            Value::Array(_) | Value::Map(_) if depth > 0 => flatten(&name, value, depth - 1, stats),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_from_both_protocols() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let inner = [(text("overhead.hashtable.main"), Value::Int(72)), (text("ratio"), text("1.5"))];
        let flat = |pairs: &[(Value, Value)]| {
            Value::Array(pairs.iter().flat_map(|(name, value)| [name.clone(), value.clone()]).collect())
        };
        let old = flat(&[(text("total.allocated"), Value::Int(1_000)), (text("db.0"), flat(&inner))]);
        let new = Value::Map(vec![
            (text("total.allocated"), Value::Int(1_000)),
            (text("db.0"), Value::Map(inner.to_vec())),
        ]);
        for value in [old, new] {
            let mut stats = Stats::new();
            flatten("", &value, DEPTH_MAX, &mut stats);
            let expected = [("db.0.overhead.hashtable.main", 72), ("total.allocated", 1_000)];
            let expected = expected.map(|(name, bytes)| (name.to_owned(), bytes));
            assert_eq!(stats, Stats::from(expected));
        }
    }
}
