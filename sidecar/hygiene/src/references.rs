//! Who refers to a body: the record, a version or an open upload by way of the manifest, the journal, the list of
//! generations to free, a part list. Reads only; the script that frees asks again.

use std::collections::{HashMap, HashSet};

use blobstore_sidecar_core::generation::Generation;
use blobstore_sidecar_core::hygiene::audit::{BodyId, Reference};
use blobstore_sidecar_core::key;
use blobstore_sidecar_core::partition::PartitionTag;
use redis::{Value, cmd, pipe};

use crate::engine::{Engine, bulk, integer};
use crate::error::HygieneError;

/// Fixed part, longest bucket, longest name and upload of a manifest.
const MANIFEST_HEAD_BYTES: i64 = 48 + 63 + 1_024 + 16;
/// Flag of a manifest: the body is a part, and the upload follows the name.
const FLAG_PART: u8 = 2;
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
    let owners: Vec<Option<Owner>> =
        bodies.iter().zip(&heads).map(|(body, head)| owner(body, bulk(head))).collect();
    let mut records = pipe();
    for Owner { record, history, upload, .. } in owners.iter().flatten() {
        records.cmd("GETRANGE").arg(record).arg(8).arg(23);
        records.cmd("EXISTS").arg(history).arg(upload);
    }
    let owned = owners.iter().flatten().count();
    let answers = if owned == 0 { Vec::new() } else { engine.pipe("read records", &mut records).await? };
    let mut answers = answers.chunks(2);
    let mut found = Vec::with_capacity(bodies.len());
    for (body, owner) in bodies.iter().zip(&owners) {
        let reference = match owner {
            None => Reference::Unclaimed,
            Some(owner) => match answers.next() {
                Some([id, others]) if bulk(id) == owner.named_by || integer(others) > 0 => Reference::Named,
                _ => Reference::Nothing,
            },
        };
        found.push((*body, reference));
    }
    Ok(found)
}

/// What may name a body, by its manifest.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    record: String,
    /// The record of a version that is not current, and the upload that is still open.
    history: String,
    upload: String,
    /// The generation that the record has to have: the body's own, or that of its upload.
    named_by: [u8; 16],
}

/// Read from the head of a manifest.
fn owner(body: &BodyId, head: &[u8]) -> Option<Owner> {
    let short = |at: usize| Some(usize::from(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?)));
    let (name_at, upload_at) = (48 + short(40)?, 48 + short(40)? + short(42)?);
    let bucket = std::str::from_utf8(head.get(48..name_at)?).ok()?;
    let name = std::str::from_utf8(head.get(name_at..upload_at)?).ok()?;
    let generation = match head.get(4)? & FLAG_PART {
        0 => body.generation,
        _ => Generation(head.get(upload_at..upload_at + 16)?.try_into().ok()?),
    };
    Some(Owner {
        record: key::record(body.tag, bucket, name),
        history: key::history(body.tag, generation, bucket, name),
        upload: key::upload(body.tag, generation),
        named_by: generation.0,
    })
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
        parts.cmd("EXISTS").arg(key::part_list(*tag, *generation));
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
    use blobstore_sidecar_core::manifest::Manifest;
    use blobstore_sidecar_core::partition::tag_of;

    use super::*;

    #[test]
    fn the_owner_is_read_from_a_manifests_head() {
        let body = BodyId { tag: tag_of(1, 256), generation: Generation([1; 16]) };
        let mut manifest = Manifest {
            generation: body.generation,
            bucket: "bkt".to_owned(),
            name: "name".to_owned(),
            upload: None,
            declared_len: None,
            crcs: Some(vec![1, 2]),
            pack: None,
        };
        let head = manifest.encode();
        let own = owner(&body, &head).expect("a whole head");
        assert_eq!((own.record, own.named_by), (key::record(body.tag, "bkt", "name"), body.generation.0));
        let upload = Generation([7; 16]);
        manifest.upload = Some(upload);
        let part = owner(&body, &manifest.encode()).expect("a whole head");
        assert_eq!((part.upload, part.named_by), (key::upload(body.tag, upload), upload.0));
        assert_eq!(owner(&body, &head[..50]), None);
        assert_eq!(owner(&body, b""), None);
    }
}
