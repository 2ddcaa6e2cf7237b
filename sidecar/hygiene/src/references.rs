//! Who refers to a body: its record by way of the manifest, the journal, the list of generations to free, a part
//! list. Reads only; the script that frees asks again.

use std::collections::{HashMap, HashSet};

use blobstore_sidecar_core::hygiene::audit::{BodyId, Reference};
use blobstore_sidecar_core::key;
use blobstore_sidecar_core::partition::PartitionTag;
use redis::{Value, cmd, pipe};

use crate::engine::{Engine, bulk, integer};
use crate::error::HygieneError;

/// Fixed part, longest bucket and longest name of a manifest.
const MANIFEST_HEAD_BYTES: i64 = 48 + 63 + 1_024;
/// Answers kept from page to page: a large body's chunks lie all over the keyspace. 65,536 need about 3 MB.
const KNOWN_MAX: usize = 65_536;
/// Entries of journal or pending free read per partition; what lies beyond is found by the script that frees.
const LISTED_MAX: isize = 10_000;

/// Answers of one pass.
#[derive(Debug, Default)]
pub(crate) struct References {
    known: HashMap<BodyId, Reference>,
}

impl References {
    pub(crate) fn get(&self, body: &BodyId) -> Option<Reference> {
        self.known.get(body).copied()
    }

    /// Finds out about every body of a page that is not known yet.
    pub(crate) async fn learn(
        &mut self,
        engine: &Engine,
        bodies: &HashSet<BodyId>,
    ) -> Result<(), HygieneError> {
        let unknown: Vec<BodyId> =
            bodies.iter().filter(|body| !self.known.contains_key(body)).copied().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        if self.known.len() + unknown.len() > KNOWN_MAX {
            self.known.clear();
        }
        let by_record = by_record(engine, &unknown).await?;
        let open: Vec<BodyId> =
            by_record.iter().filter(|(_, found)| *found != Reference::Named).map(|(body, _)| *body).collect();
        let listed = listed(engine, &open).await?;
        for (body, found) in by_record {
            let found = if listed.contains(&body) { Reference::Named } else { found };
            self.known.insert(body, found);
        }
        Ok(())
    }
}

/// Named by its record, not named although its manifest says whose it is, or without manifest.
async fn by_record(engine: &Engine, bodies: &[BodyId]) -> Result<Vec<(BodyId, Reference)>, HygieneError> {
    let mut heads = pipe();
    for BodyId { tag, generation } in bodies {
        let manifest = key::manifest(*tag, *generation);
        heads.cmd("GETRANGE").arg(manifest).arg(0).arg(MANIFEST_HEAD_BYTES - 1);
    }
    let heads = engine.pipe("read manifests", &mut heads).await?;
    let owners: Vec<Option<String>> =
        bodies.iter().zip(&heads).map(|(body, head)| owner(body, bulk(head))).collect();
    let mut records = pipe();
    for record in owners.iter().flatten() {
        records.cmd("GETRANGE").arg(record).arg(8).arg(23);
    }
    let owned = owners.iter().flatten().count();
    let answers = if owned == 0 { Vec::new() } else { engine.pipe("read records", &mut records).await? };
    let mut answers = answers.iter();
    let mut found = Vec::with_capacity(bodies.len());
    for (body, owner) in bodies.iter().zip(&owners) {
        let reference = match owner {
            None => Reference::Unclaimed,
            Some(_) if answers.next().is_some_and(|id| bulk(id) == body.generation.0) => Reference::Named,
            Some(_) => Reference::Nothing,
        };
        found.push((*body, reference));
    }
    Ok(found)
}

/// The record's key, from the head of a manifest.
fn owner(body: &BodyId, head: &[u8]) -> Option<String> {
    let short = |at: usize| Some(usize::from(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?)));
    let (bucket_len, name_len) = (short(40)?, short(42)?);
    let bucket = std::str::from_utf8(head.get(48..48 + bucket_len)?).ok()?;
    let name = std::str::from_utf8(head.get(48 + bucket_len..48 + bucket_len + name_len)?).ok()?;
    Some(key::record(body.tag, bucket, name))
}

/// Those in a journal, in pending free, or with a part list.
pub(crate) async fn listed(engine: &Engine, bodies: &[BodyId]) -> Result<HashSet<BodyId>, HygieneError> {
    if bodies.is_empty() {
        return Ok(HashSet::new());
    }
    let tags: HashSet<PartitionTag> = bodies.iter().map(|body| body.tag).collect();
    let tags: Vec<PartitionTag> = tags.into_iter().collect();
    let mut lists = pipe();
    for tag in &tags {
        for list in [key::journal(*tag), key::pending_free(*tag)] {
            lists.add_command(cmd("ZRANGE").arg(list).arg(0).arg(LISTED_MAX - 1).take());
        }
    }
    let lists = engine.pipe("read journal and pending free", &mut lists).await?;
    let entries: HashMap<PartitionTag, HashSet<[u8; 32]>> = tags
        .iter()
        .zip(lists.chunks(2))
        .map(|(tag, pair)| (*tag, pair.iter().flat_map(prefixes).collect()))
        .collect();
    let mut parts = pipe();
    for BodyId { tag, generation } in bodies {
        parts.cmd("EXISTS").arg(format!("m:{{{tag}}}:{generation}"));
    }
    let parts = engine.pipe("look for part lists", &mut parts).await?;
    let named = |(body, part): (&BodyId, &Value)| {
        let hex = body.generation.to_string();
        let in_list = entries.get(&body.tag).is_some_and(|set| set.iter().any(|id| id == hex.as_bytes()));
        (in_list || integer(part) > 0).then_some(*body)
    };
    Ok(bodies.iter().zip(&parts).filter_map(named).collect())
}

/// The generation that each entry of a list begins with, in hex.
fn prefixes(list: &Value) -> Vec<[u8; 32]> {
    let Value::Array(entries) = list else { return Vec::new() };
    entries.iter().filter_map(|entry| bulk(entry).get(..32)?.try_into().ok()).collect()
}

#[cfg(test)]
mod tests {
    use blobstore_sidecar_core::generation::Generation;
    use blobstore_sidecar_core::partition::tag_of;

    use super::*;

    #[test]
    fn the_owner_is_read_from_a_manifests_head() {
        let body = BodyId { tag: tag_of(1, 256), generation: Generation([1; 16]) };
        let mut head = vec![0; 48];
        head[40] = 3;
        head[42] = 4;
        head.extend_from_slice(b"bktname and checksums");
        assert_eq!(owner(&body, &head), Some(key::record(body.tag, "bkt", "name")));
        assert_eq!(owner(&body, &head[..50]), None);
        assert_eq!(owner(&body, b""), None);
    }
}
