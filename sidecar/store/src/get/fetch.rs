//! A record from the engine, with what says where its chunks lie: its manifest, or its part list.

use std::time::Duration;

use blobstore_sidecar_core::{
    generation::Generation,
    key,
    manifest::Manifest,
    pack,
    partition::PartitionTag,
    parts::PartList,
    record::{Head, Record},
};
use blobstore_sidecar_runtime::{authority::Tenure, pool::Lease};
use redis::cmd;

use super::damaged;
use crate::{
    ErrorKind, StoreError,
    context::{Inner, Target},
    engine::{LaneLease, Outgoing, Value, errors},
    record_entry::{Chunks, RecordEntry},
};

/// Asked of the budget before a record is read: its fixed part, all headers, the longest tail.
const RECORD_BYTES_MAX: u64 = 25 << 10;

impl Inner {
    /// As the engine has it.
    pub(crate) async fn fetch_record(
        &self,
        target: &Target,
        tenure: &Tenure,
    ) -> Result<Option<RecordEntry>, StoreError> {
        self.fetch_record_at(&target.record(), target, tenure).await
    }

    pub(crate) async fn fetch_record_at(
        &self,
        key: &str,
        target: &Target,
        tenure: &Tenure,
    ) -> Result<Option<RecordEntry>, StoreError> {
        let wait = Duration::from_millis(self.options.limits.admission_wait_ms);
        let permit = self.budget.permit(RECORD_BYTES_MAX, wait).await.map_err(|error| {
            StoreError::new(ErrorKind::Busy, "too many bytes are in flight: retry in a moment")
                .caused_by(error)
        })?;
        let mut lane = self.read_lanes.take().await?;
        let mut out = Outgoing::default();
        out.command(&[b"GET", key.as_bytes()]);
        lane.send(&mut out).await?;
        let value = match lane.value(None, &self.pool, "record").await? {
            Value::Absent => return Ok(None),
            Value::Wrong => return Err(errors::garbage()),
            Value::Present(mut lease) => {
                lease.count_under(permit);
                lease.freeze()
            }
        };
        let record = Record::decode(&value.bytes).map_err(|error| damaged("record", error))?;
        let chunks = self.chunks_of(&mut lane, target, &record.head).await?;
        drop(lane);
        Ok(Some(RecordEntry::new(record, value, chunks, tenure.clone())))
    }

    /// The checksums of the body's chunks, from its manifest or part list.
    async fn chunks_of(
        &self,
        lane: &mut LaneLease,
        target: &Target,
        head: &Head,
    ) -> Result<Chunks, StoreError> {
        let (generation, chunks) = (head.generation, head.layout.chunks);
        if pack::is_packed(head.manifest_len) {
            let value = self.small_value(lane, &key::manifest(target.tag, generation), "manifest").await?;
            return packed_chunks(head, value.as_ref());
        }
        if head.layout.in_parts() {
            let key = key::part_list(target.tag, generation);
            let value = self.small_value(lane, &key, "part list").await?;
            let list = PartList::decode(value.as_ref()).map_err(|error| damaged("part list", error))?;
            if list.generation() != generation || list.size() != head.layout.size() || list.chunks() != chunks
            {
                return Err(damaged("part list", "it belongs to another body"));
            }
            return Ok(Chunks::InParts(list));
        }
        match chunks {
            0 => Ok(Chunks::Alike(Vec::new())),
            1 => Ok(Chunks::Alike(vec![head.first_crc64])),
            chunks => {
                let value =
                    self.small_value(lane, &key::manifest(target.tag, generation), "manifest").await?;
                let manifest =
                    Manifest::decode(value.as_ref()).map_err(|error| damaged("manifest", error))?;
                let crcs = manifest.crcs.unwrap_or_default();
                if crcs.len() != chunks as usize || manifest.generation != generation {
                    return Err(damaged("manifest", "it belongs to another body"));
                }
                Ok(Chunks::Alike(crcs))
            }
        }
    }

    async fn small_value(
        &self,
        lane: &mut LaneLease,
        key: &str,
        what: &'static str,
    ) -> Result<Lease, StoreError> {
        let mut out = Outgoing::default();
        out.command(&[b"GET", key.as_bytes()]);
        lane.send(&mut out).await?;
        match lane.value(None, &self.pool, what).await? {
            Value::Present(value) => Ok(value),
            _ => Err(StoreError::new(ErrorKind::Damaged, format!("the object's {what} is missing"))),
        }
    }

    /// The part list of a body that is to be freed; `None`: it is gone, or cannot be read.
    pub(crate) async fn part_list(
        &self,
        tag: PartitionTag,
        generation: Generation,
    ) -> Result<Option<PartList>, StoreError> {
        let read = cmd("GET").arg(key::part_list(tag, generation)).to_owned();
        let value: Option<Vec<u8>> = self.meta.query("read a part list", &read).await?;
        Ok(value.and_then(|value| PartList::decode(&value).ok()))
    }
}

/// The manifest of a packed body: lengths in the engine, and the parts it was uploaded in.
fn packed_chunks(head: &Head, value: &[u8]) -> Result<Chunks, StoreError> {
    let foreign = || damaged("manifest", "it belongs to another body");
    let manifest = Manifest::decode(value).map_err(|error| damaged("manifest", error))?;
    let (crcs, pack) = manifest.crcs.zip(manifest.pack).ok_or_else(foreign)?;
    let layout = head.layout;
    if crcs.len() != layout.chunks as usize || manifest.generation != head.generation {
        return Err(foreign());
    }
    let list = if layout.in_parts() {
        let list = PartList::joined(head.generation, pack.spans_in(head.generation), crcs.clone());
        Some(list.filter(|list| list.size() == layout.size()).ok_or_else(foreign)?)
    } else {
        None
    };
    let len = |index| match &list {
        Some(list) => list.locate(index).map(|(_, _, len)| len),
        None => Some(layout.chunk_len(index)),
    };
    // No longer than the plain chunk, or a reader would make room for what is not there.
    let fits = |(index, stored): (u32, &u32)| len(index).is_some_and(|len| *stored > 0 && *stored <= len);
    if !(0..).zip(&pack.lens).all(fits) {
        return Err(foreign());
    }
    Ok(Chunks::Packed(crcs, list, pack.lens))
}
