//! Eviction, for a store that is a cache: of a few random objects the one that was not read for longest goes, until
//! there is room. The engine's own idle times are no help: any audit resets them.

use blobstore_sidecar_core::{
    generation::Generation,
    key::{self, BucketName, ObjectName, ParsedKey},
    manifest::Manifest,
    record::{HEAD_BYTES, Head},
};
use redis::pipe;

use crate::{
    ErrorKind, StoreError,
    context::{Inner, Target},
    delete::Deleted,
    memory::{EVICT_TO_PERCENT, Figures},
    metrics::EVICTED_OBJECTS,
};

/// Random keys per choice: the worst of 16 is colder than 94 % of all.
const SAMPLE: usize = 16;
/// Objects evicted in one go; then others get a turn.
const EVICTIONS_MAX: u32 = 256;

/// What may go.
#[derive(Debug)]
struct Cold {
    target: Target,
    head: Head,
    current: bool,
}

impl Inner {
    /// Evicts until the engine is below the lower mark with `needed` bytes to spare, or nothing is found.
    pub(crate) async fn evict(&self, needed: u64) -> Result<u32, StoreError> {
        let mut evicted = 0;
        for _ in 0..EVICTIONS_MAX {
            let Figures { used, limit } = self.figures(false).await?;
            // Room for one upload is enough when the upload waits for it.
            let mark = if needed > 0 { limit - limit / 32 } else { limit / 100 * EVICT_TO_PERCENT };
            if limit == 0 || used + needed + needed / 32 <= mark {
                break;
            }
            let Some(cold) = self.coldest().await? else { break };
            let deleted = self.evict_one(&cold).await?;
            if let Deleted::Done(gone) = deleted {
                self.free_all(gone.free).await;
                EVICTED_OBJECTS.inc();
                evicted += 1;
            }
        }
        Ok(evicted)
    }

    /// A current object of a bucket that keeps versions stays: without it an older one would be shown.
    async fn evict_one(&self, cold: &Cold) -> Result<Deleted, StoreError> {
        let Cold { target, head, current } = cold;
        let bucket = match self.bucket(&target.bucket, false).await {
            Ok(bucket) => bucket,
            Err(error) if error.kind == ErrorKind::NoSuchBucket => {
                return self.delete_record(target, "", &head.generation.0).await;
            }
            Err(error) => return Err(error),
        };
        match (current, bucket.versioning().keeps()) {
            (false, _) => self.purge_old(target, &bucket, head.version()).await,
            (true, false) => self.delete_record(target, &bucket.epoch.to_string(), &head.generation.0).await,
            (true, true) => Ok(Deleted::Changed),
        }
    }

    /// The coldest object of a sample; before any of them a version that is not current.
    async fn coldest(&self) -> Result<Option<Cold>, StoreError> {
        let mut sample = pipe();
        for _ in 0..SAMPLE {
            sample.cmd("RANDOMKEY");
        }
        let keys: Vec<Option<Vec<u8>>> = self.meta.pipe("sample keys", &sample).await?;
        let mut objects: Vec<(BucketName, ObjectName)> = Vec::new();
        let (mut manifests, mut versions): (Vec<String>, Vec<(Target, Generation)>) =
            (Vec::new(), Vec::new());
        for key in keys.iter().flatten() {
            match key::parse(key) {
                Some(ParsedKey::Record { bucket, name, .. }) => objects.extend(object(bucket, name)),
                Some(ParsedKey::History { bucket, name, generation, .. }) => {
                    let target = object(bucket, name).map(|(bucket, name)| self.target(&bucket, &name));
                    versions.extend(target.map(|target| (target, generation)));
                }
                Some(ParsedKey::Manifest { tag, generation } | ParsedKey::Chunk { tag, generation, .. }) => {
                    manifests.push(key::manifest(tag, generation));
                }
                _ => {}
            }
        }
        if let Some(cold) = self.old_version(versions).await? {
            return Ok(Some(cold));
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

    /// Any of these that is no delete marker.
    async fn old_version(&self, versions: Vec<(Target, Generation)>) -> Result<Option<Cold>, StoreError> {
        for (target, generation) in versions {
            let head = self.head_named(&target, generation).await?;
            if let Some(head) = head.filter(|head| !head.delete_marker) {
                return Ok(Some(Cold { target, head, current: false }));
            }
        }
        Ok(None)
    }

    async fn oldest(&self, targets: Vec<Target>) -> Result<Option<Cold>, StoreError> {
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
            Some(Cold { target, head, current: true })
        });
        Ok(known.min_by_key(|cold| (cold.head.access_hour, cold.head.modified_ms)))
    }
}

fn object(bucket: &str, name: &str) -> Option<(BucketName, ObjectName)> {
    Some((BucketName::parse(bucket).ok()?, ObjectName::parse(name).ok()?))
}
