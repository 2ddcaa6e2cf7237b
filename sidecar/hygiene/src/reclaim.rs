//! `reclaim-orphans`: frees what two audit passes agree on, in small atomic steps that look again, at a bounded
//! rate, and no more than a bounded share of the data in one run.

use std::time::Duration;

use blobstore_sidecar_core::hygiene::audit::{Body, BodyId};
use blobstore_sidecar_core::key;
use redis::Value;

use crate::engine::{Engine, bulk, integer};
use crate::error::HygieneError;

const RECLAIM: &str = include_str!("scripts/reclaim.lua");
/// Keys of one step, manifest included: 64 chunks of 256 KiB are unlinked in under a millisecond.
const CHUNKS_PER_STEP: u32 = 63;
/// A quarter of what one engine writes: freeing must not be what clients notice.
const BYTES_PER_SECOND: u64 = 50_000_000;
/// Of the dataset, per run: a wrong proof costs no more than this before somebody sees it.
const RUN_PERCENT: u64 = 5;
/// A list that is small in itself is freed whole: twenty runs for a few objects would help nobody.
const RUN_BYTES_MIN: u64 = 256 << 20;

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reclaimed {
    pub(crate) bodies: u64,
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    /// Bodies that something refers to after all, and the last such reference.
    pub(crate) named: u64,
    pub(crate) named_by: String,
    /// Bodies left for the next run.
    pub(crate) left: u64,
    /// Settled either way: no longer on the list.
    pub(crate) settled: Vec<BodyId>,
}

/// What one run may free of a dataset of this many bytes.
pub(crate) fn run_bytes_max(dataset: u64) -> u64 {
    (dataset / 100 * RUN_PERCENT).max(RUN_BYTES_MIN)
}

/// Frees `orphans` in their order until the list or the run's share is used up.
pub(crate) async fn run(
    engine: &Engine,
    orphans: &[(BodyId, Body)],
    bytes_max: u64,
) -> Result<Reclaimed, HygieneError> {
    let mut done = Reclaimed::default();
    for (body, what) in orphans {
        if done.bytes >= bytes_max {
            done.left += 1;
            continue;
        }
        match free(engine, body, what, &mut done).await? {
            None => done.bodies += 1,
            Some(reference) => {
                done.named += 1;
                done.named_by = reference;
            }
        }
        done.settled.push(*body);
    }
    Ok(done)
}

/// Chunks first, the manifest last: a run that is cut off leaves an orphan that the next audit still finds.
async fn free(
    engine: &Engine,
    body: &BodyId,
    what: &Body,
    done: &mut Reclaimed,
) -> Result<Option<String>, HygieneError> {
    let steps = what.chunks.div_ceil(CHUNKS_PER_STEP).max(1);
    for step in 0..steps {
        let first = step * CHUNKS_PER_STEP;
        let last = (first + CHUNKS_PER_STEP).min(what.chunks);
        let last_step = step + 1 == steps;
        let answer: Vec<Value> = engine
            .script("free an orphan", RECLAIM, &keys(body, first..last), &args(body, last_step))
            .await?;
        match answer.as_slice() {
            [verb, keys, bytes] if bulk(verb) == b"FREED" => {
                done.keys += integer(keys);
                done.bytes += integer(bytes);
                let nanos = integer(bytes).saturating_mul(1_000_000_000) / BYTES_PER_SECOND;
                tokio::time::sleep(Duration::from_nanos(nanos)).await;
            }
            [verb, reference] if bulk(verb) == b"NAMED" => {
                return Ok(Some(String::from_utf8_lossy(bulk(reference)).into_owned()));
            }
            _ => return Err(HygieneError::Answer("free an orphan")),
        }
    }
    Ok(None)
}

fn keys(body: &BodyId, chunks: std::ops::Range<u32>) -> Vec<String> {
    let BodyId { tag, generation } = *body;
    let mut keys = vec![
        key::manifest(tag, generation),
        key::journal(tag),
        key::pending_free(tag),
        key::part_list(tag, generation),
    ];
    keys.extend(chunks.map(|index| key::chunk(tag, generation, index)));
    keys
}

fn args(body: &BodyId, last_step: bool) -> Vec<Vec<u8>> {
    let BodyId { tag, generation } = *body;
    vec![
        tag.to_string().into_bytes(),
        generation.to_string().into_bytes(),
        generation.0.to_vec(),
        tag.slot().to_string().into_bytes(),
        if last_step { b"1".to_vec() } else { b"0".to_vec() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_frees_a_share_of_much_and_all_of_little() {
        assert_eq!(run_bytes_max(100 << 30), (100 << 30) / 100 * 5);
        assert_eq!(run_bytes_max(100 << 20), RUN_BYTES_MIN);
    }
}
