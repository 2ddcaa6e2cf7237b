//! Eviction, for a store that is a cache: of a few random objects the one that was not read for longest goes, until
//! there is room. The engine's own idle times are no help: any audit resets them.

use blobstore_sidecar_core::{
    key::{self, BucketName, ObjectName, ParsedKey},
    manifest::Manifest,
    record::{HEAD_BYTES, Head},
};
use redis::pipe;

use crate::{
    StoreError,
    context::{Inner, Target},
    delete::Deleted,
    memory::{EVICT_TO_PERCENT, Figures},
    metrics::EVICTED_OBJECTS,
};

/// Random keys per choice: the worst of 16 is colder than 94 % of all.
const SAMPLE: usize = 16;
/// Objects evicted in one go; then others get a turn.
const EVICTIONS_MAX: u32 = 256;

impl Inner {
    /// Evicts until the engine is below the lower mark with `needed` bytes to spare, or nothing is found.
    pub(crate) async fn evict(&self, needed: u64) -> Result<u32, StoreError> {
        let mut evicted = 0;
        while evicted < EVICTIONS_MAX {
            let Figures { used, limit } = self.figures(false).await?;
            // Room for one upload is enough when the upload waits for it.
            let mark = if needed > 0 { limit - limit / 32 } else { limit / 100 * EVICT_TO_PERCENT };
            if limit == 0 || used + needed + needed / 32 <= mark {
                break;
            }
            let Some((target, head)) = self.coldest().await? else { break };
            let deleted = self.delete_record(&target, &head.generation.0).await?;
            if let Deleted::Done(doomed) = deleted {
                self.free_or_leave(doomed).await;
                EVICTED_OBJECTS.inc();
                evicted += 1;
            }
        }
        Ok(evicted)
    }

    /// The coldest object of a sample.
    async fn coldest(&self) -> Result<Option<(Target, Head)>, StoreError> {
        let mut sample = pipe();
        for _ in 0..SAMPLE {
            sample.cmd("RANDOMKEY");
        }
        let keys: Vec<Option<Vec<u8>>> = self.meta.pipe("sample keys", &sample).await?;
        let mut objects: Vec<(BucketName, ObjectName)> = Vec::new();
        let mut manifests: Vec<String> = Vec::new();
        for key in keys.iter().flatten() {
            match key::parse(key) {
                Some(ParsedKey::Record { bucket, name, .. }) => objects.extend(object(bucket, name)),
                Some(ParsedKey::Manifest { tag, generation } | ParsedKey::Chunk { tag, generation, .. }) => {
                    manifests.push(key::manifest(tag, generation));
                }
                _ => {}
            }
        }
        objects.extend(self.owners(&manifests).await?);
        let targets: Vec<Target> = objects.iter().map(|(bucket, name)| self.target(bucket, name)).collect();
        self.oldest(targets).await
    }

    /// The objects that the manifests name.
    async fn owners(&self, manifests: &[String]) -> Result<Vec<(BucketName, ObjectName)>, StoreError> {
        if manifests.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = pipe();
        for manifest in manifests {
            read.cmd("GET").arg(manifest);
        }
        let values: Vec<Option<Vec<u8>>> = self.meta.pipe("read manifests", &read).await?;
        let manifests = values.iter().flatten().filter_map(|value| Manifest::decode(value).ok());
        // An upload in flight has no checksums yet and no object that could be evicted.
        let whole = manifests.filter(|manifest| manifest.crcs.is_some());
        Ok(whole.filter_map(|manifest| object(&manifest.bucket, &manifest.name)).collect())
    }

    async fn oldest(&self, targets: Vec<Target>) -> Result<Option<(Target, Head)>, StoreError> {
        if targets.is_empty() {
            return Ok(None);
        }
        let mut read = pipe();
        for target in &targets {
            read.cmd("GETRANGE").arg(target.record()).arg(0).arg(HEAD_BYTES - 1);
        }
        let heads: Vec<Vec<u8>> = self.meta.pipe("read heads", &read).await?;
        let known = targets.into_iter().zip(heads).filter_map(|(target, head)| {
            let head = Head::decode(&head).ok()?;
            Some((target, head))
        });
        Ok(known.min_by_key(|(_, head)| (head.access_hour, head.modified_ms)))
    }
}

fn object(bucket: &str, name: &str) -> Option<(BucketName, ObjectName)> {
    Some((BucketName::parse(bucket).ok()?, ObjectName::parse(name).ok()?))
}
