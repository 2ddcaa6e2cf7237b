//! Buckets: made, changed and deleted at their home partition, known everywhere for a moment.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use blobstore_sidecar_core::{
    key::{self, BucketName},
    ledger::Family,
    partition::{PartitionTag, home_of, tag_of},
};
use blobstore_sidecar_runtime::authority::Owner;
use lru::LruCache;
use redis::{cmd, pipe};

use crate::{
    BucketInfo, BucketUsage, ErrorKind, StoreError, context::Inner, documents::documents, engine::errors,
    scripts,
};

/// How long another's deletion or quota may go unnoticed. Seals make it harmless for deletions.
const KNOWN_FOR: Duration = Duration::from_secs(2);
/// The same for what only decorates the answer to a read.
const KNOWN_LATELY: Duration = Duration::from_secs(60);
/// Buckets known at once.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Seals are lifted after this: by then no upload can still hold the deleted bucket's configuration.
const SEALED_FOR: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Known {
    infos: LruCache<BucketName, (BucketInfo, Instant)>,
    /// Changes to buckets that were made here.
    changes: u64,
}

#[derive(Debug)]
pub(crate) struct BucketCache {
    known: Mutex<Known>,
    /// One lease is asked for at a time, so that grants and returns of a partition keep their order.
    pub(crate) leasing: tokio::sync::Mutex<()>,
    /// Seals to lift.
    sealed: Mutex<Vec<(BucketName, u64, Instant)>>,
}

impl Default for BucketCache {
    fn default() -> Self {
        Self {
            known: Mutex::new(Known { infos: LruCache::new(KNOWN_MAX), changes: 0 }),
            leasing: tokio::sync::Mutex::default(),
            sealed: Mutex::default(),
        }
    }
}

impl BucketCache {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, name: &BucketName) -> Option<BucketInfo> {
        self.get_within(name, KNOWN_FOR)
    }

    /// What is known, if it is not older than `age`.
    fn get_within(&self, name: &BucketName, age: Duration) -> Option<BucketInfo> {
        self.ask(name, age, BucketInfo::clone)
    }

    /// What is asked of what is known, if that is not older than `age`. Nothing is copied.
    fn ask<T>(&self, name: &BucketName, age: Duration, what: impl FnOnce(&BucketInfo) -> T) -> Option<T> {
        let mut known = self.lock();
        let (info, at) = known.infos.get(name)?;
        (at.elapsed() < age).then(|| what(info))
    }

    /// However old.
    pub(crate) fn last(&self, name: &BucketName) -> Option<BucketInfo> {
        let mut known = self.lock();
        known.infos.get(name).map(|(info, _)| info.clone())
    }

    /// To be read before a bucket's home is asked; see [`BucketCache::set`].
    pub(crate) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Keeps what the home said, unless a bucket was changed here since `changes` was read: it may be older than that.
    pub(crate) fn set(&self, info: BucketInfo, changes: u64) {
        let mut known = self.lock();
        if known.changes == changes {
            known.infos.put(info.name.clone(), (info, Instant::now()));
        }
    }

    fn forget(&self, name: &BucketName) {
        self.lock().infos.pop(name);
    }

    /// A change has been made, or may have been: what was read before is not kept any more.
    pub(crate) fn changed(&self, name: &BucketName) {
        let mut known = self.lock();
        known.changes += 1;
        known.infos.pop(name);
    }

    fn seal(&self, name: &BucketName, epoch: u64) {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        sealed.push((name.clone(), epoch, Instant::now()));
    }

    fn due(&self) -> Vec<(BucketName, u64)> {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let due: Vec<_> = sealed.extract_if(.., |(_, _, at)| at.elapsed() > SEALED_FOR).collect();
        due.into_iter().map(|(name, epoch, _)| (name, epoch)).collect()
    }
}

pub(crate) fn no_such_bucket(name: &BucketName) -> StoreError {
    StoreError::new(ErrorKind::NoSuchBucket, format!("there is no bucket {name}"))
}

impl Inner {
    pub(crate) fn home(&self, name: &BucketName) -> PartitionTag {
        tag_of(home_of(name.as_str(), self.options.partitions), self.options.partitions)
    }

    /// The bucket's configuration, from wherever its home is. `fresh`: not from memory.
    pub(crate) async fn bucket(&self, name: &BucketName, fresh: bool) -> Result<BucketInfo, StoreError> {
        if !fresh && let Some(info) = self.buckets.get(name) {
            return Ok(info);
        }
        let changes = self.buckets.changes();
        let found = match self.authority.owner(self.home(name).slot()) {
            Owner::Here(_) => self.bucket_here(name).await?,
            Owner::Peer { .. } | Owner::Nobody => self.options.peers.bucket(name).await?,
        };
        match found {
            Some(info) => {
                self.buckets.set(info.clone(), changes);
                Ok(info)
            }
            None => {
                self.buckets.forget(name);
                Err(no_such_bucket(name))
            }
        }
    }

    /// For what a seal puts out of memory: whether the bucket keeps versions. Saves reads the way to its home.
    pub(crate) async fn bucket_lately(&self, name: &BucketName) -> Result<BucketInfo, StoreError> {
        match self.buckets.get_within(name, KNOWN_LATELY) {
            Some(info) => Ok(info),
            None => self.bucket(name, false).await,
        }
    }

    /// Answers of what is known now; `None`: the bucket's home has to be asked.
    pub(crate) fn bucket_at_hand<T>(
        &self,
        name: &BucketName,
        lately: bool,
        what: impl FnOnce(&BucketInfo) -> T,
    ) -> Option<T> {
        self.buckets.ask(name, if lately { KNOWN_LATELY } else { KNOWN_FOR }, what)
    }

    /// The bucket was closed under a write, or keeps something else now. If it is still the same bucket, its deletion
    /// did not come to pass.
    pub(crate) async fn reopened(&self, known: &BucketInfo) -> Result<BucketInfo, StoreError> {
        let fresh = self.bucket(&known.name, true).await?;
        if fresh.created_ms != known.created_ms || fresh.epoch <= known.epoch {
            let message = format!("bucket {} is being deleted", known.name);
            return Err(StoreError::new(ErrorKind::NoSuchBucket, message));
        }
        Ok(fresh)
    }

    /// The bucket as its home partition, served here, has it. One that is being deleted is gone already.
    pub(crate) async fn bucket_here(&self, name: &BucketName) -> Result<Option<BucketInfo>, StoreError> {
        let home = self.home(name);
        let tenure = self.owned(home.slot())?;
        let read = cmd("HGETALL").arg(key::bucket(home, name.as_str())).to_owned();
        let fields: HashMap<String, String> = self.meta.query("read a bucket", &read).await?;
        self.authority.may_read(&tenure).await?;
        Ok(bucket_info(name, &fields))
    }

    pub(crate) async fn create_bucket(
        &self,
        name: &BucketName,
        quota: Option<u64>,
    ) -> Result<BucketInfo, StoreError> {
        let home = self.home(name);
        let tenure = self.owned(home.slot())?;
        let (bucket, names) = (key::bucket(home, name.as_str()), key::names(home, ""));
        let quota = quota.map(|quota| quota.to_string()).unwrap_or_default();
        let args = [name.as_str().as_bytes(), quota.as_bytes()];
        let keys = [bucket.as_str(), names.as_str(), &key::sums(home)];
        let answer: Vec<String> = self.meta.script(&scripts::BUCKET_CREATE, &keys, &args).await?;
        if answer.first().map(String::as_str) != Some("OK") {
            return Err(StoreError::new(ErrorKind::BucketExists, format!("bucket {name} exists")));
        }
        self.ledger.member_added(Family::Names, names.as_bytes(), name.as_str().len());
        for (field, len) in [("created", 13), ("epoch", 13), ("leased", 1), ("quota", quota.len())] {
            if len > 0 {
                self.ledger.member_added(Family::Bucket, bucket.as_bytes(), field.len() + len);
            }
        }
        self.authority.acknowledged(&tenure).await?;
        self.bucket(name, true).await
    }

    pub(crate) async fn set_bucket(
        &self,
        name: &BucketName,
        quota: Option<u64>,
    ) -> Result<BucketInfo, StoreError> {
        let quota = quota.map(|quota| quota.to_string()).unwrap_or_default();
        self.update_bucket(name, "quota", &quota).await?;
        self.bucket(name, true).await
    }

    /// One step of a bucket's life; answers with its epoch.
    async fn update_bucket(&self, name: &BucketName, what: &str, value: &str) -> Result<u64, StoreError> {
        let home = self.home(name);
        let tenure = self.owned(home.slot())?;
        let bucket = key::bucket(home, name.as_str());
        let args = [what.as_bytes(), value.as_bytes()];
        let answer = self.meta.script(&scripts::BUCKET_UPDATE, &[&bucket], &args).await;
        self.buckets.changed(name);
        let answer: Vec<String> = answer?;
        if answer.first().map(String::as_str) == Some("ABSENT") {
            return Err(no_such_bucket(name));
        }
        self.authority.acknowledged(&tenure).await?;
        answer.get(1).and_then(|epoch| epoch.parse().ok()).ok_or_else(errors::garbage)
    }

    /// Closed at home, sealed in every partition of every shard; if all are empty it goes, else it opens again.
    pub(crate) async fn delete_bucket(&self, name: &BucketName) -> Result<(), StoreError> {
        self.bucket(name, true).await?;
        let epoch = self.update_bucket(name, "close", "").await?;
        let sealed = match self.seal_here(name, epoch).await {
            Ok(true) => self.options.peers.seal(name, epoch).await,
            other => other,
        };
        match sealed {
            Ok(true) => self.drop_bucket(name, epoch).await,
            Ok(false) => {
                self.update_bucket(name, "reopen", "").await?;
                Err(StoreError::new(ErrorKind::BucketNotEmpty, format!("bucket {name} is not empty")))
            }
            Err(error) => {
                self.update_bucket(name, "reopen", "").await?;
                Err(error)
            }
        }
    }

    async fn drop_bucket(&self, name: &BucketName, epoch: u64) -> Result<(), StoreError> {
        let home = self.home(name);
        let tenure = self.owned(home.slot())?;
        let (bucket, names) = (key::bucket(home, name.as_str()), key::names(home, ""));
        let epoch = epoch.to_string();
        let args = [name.as_str().as_bytes(), epoch.as_bytes()];
        let keys = [bucket.as_str(), names.as_str()];
        let gone: u64 = self.meta.script(&scripts::BUCKET_DROP, &keys, &args).await?;
        if gone == 0 {
            return Err(no_such_bucket(name));
        }
        self.ledger.member_removed(Family::Names, names.as_bytes(), name.as_str().len());
        self.ledger.collection_removed(Family::Bucket, bucket.as_bytes());
        self.authority.acknowledged(&tenure).await?;
        Ok(())
    }

    /// Refuses writes under `epoch` in the partitions served here; true if none holds an object or a version.
    pub(crate) async fn seal_here(&self, name: &BucketName, epoch: u64) -> Result<bool, StoreError> {
        let text = epoch.to_string();
        let mut empty = true;
        for tag in self.served() {
            let (sums, names) = (key::sums(tag), key::names(tag, name.as_str()));
            let versions = key::versions(tag, name.as_str());
            let args = [name.as_str().as_bytes(), text.as_bytes()];
            let left: u64 = self.meta.script(&scripts::SEAL, &[&sums, &names, &versions], &args).await?;
            empty &= left == 0;
        }
        self.buckets.seal(name, epoch);
        self.buckets.changed(name);
        if let Some(tenure) = self.authority.tenure() {
            self.authority.acknowledged(&tenure).await?;
        }
        Ok(empty)
    }

    /// Lifts seals that have done their work, and takes the deleted bucket's leases with them.
    pub(crate) async fn lift_seals(&self) -> Result<(), StoreError> {
        for (name, epoch) in self.buckets.due() {
            // What a bucket keeps is settled for good: a pod that knows less, however long, must not write by it.
            match self.bucket(&name, false).await {
                Ok(info) if info.versioning().keeps() => continue,
                Ok(_) => {}
                Err(error) if error.kind == ErrorKind::NoSuchBucket => {}
                Err(error) => {
                    self.buckets.seal(&name, epoch);
                    return Err(error);
                }
            }
            let field = format!("x:{name}");
            let mut read = pipe();
            let tags: Vec<PartitionTag> = self.served().collect();
            for tag in &tags {
                read.cmd("HGET").arg(key::sums(*tag)).arg(&field);
            }
            let seals: Vec<Option<u64>> = self.meta.pipe("read seals", &read).await?;
            let mut lift = pipe();
            for (tag, seal) in tags.iter().zip(seals) {
                if seal == Some(epoch) {
                    lift.cmd("HDEL").arg(key::sums(*tag)).arg(&field).ignore();
                }
            }
            if !lift.is_empty() {
                let () = self.meta.pipe("lift seals", &lift).await?;
            }
            self.drop_uploads_of(&name).await?;
        }
        Ok(())
    }

    /// Buckets whose home is served here, in order of their names.
    pub(crate) async fn list_buckets(&self) -> Result<Vec<BucketInfo>, StoreError> {
        let tags: Vec<PartitionTag> = self.served().collect();
        let mut read = pipe();
        for tag in &tags {
            read.cmd("ZRANGE").arg(key::names(*tag, "")).arg(0).arg(-1);
        }
        let names: Vec<Vec<String>> = self.meta.pipe("list buckets", &read).await?;
        let names: Vec<(PartitionTag, BucketName)> = tags
            .into_iter()
            .zip(names)
            .flat_map(|(tag, names)| {
                names.into_iter().filter_map(move |name| Some((tag, BucketName::parse(name).ok()?)))
            })
            .collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = pipe();
        for (tag, name) in &names {
            read.cmd("HGETALL").arg(key::bucket(*tag, name.as_str()));
        }
        let fields: Vec<HashMap<String, String>> = self.meta.pipe("read buckets", &read).await?;
        let mut buckets: Vec<BucketInfo> =
            names.iter().zip(&fields).filter_map(|((_, name), fields)| bucket_info(name, fields)).collect();
        buckets.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(tenure) = self.authority.tenure() {
            self.authority.may_read(&tenure).await?;
        }
        Ok(buckets)
    }

    pub(crate) async fn bucket_usage(&self, name: &BucketName) -> Result<BucketUsage, StoreError> {
        let mut read = pipe();
        let fields = [format!("b:{name}"), format!("o:{name}")];
        for tag in self.served() {
            read.cmd("HMGET").arg(key::sums(tag)).arg(&fields);
        }
        if read.is_empty() {
            return Ok(BucketUsage::default());
        }
        let sums: Vec<(Option<u64>, Option<u64>)> = self.meta.pipe("read sums", &read).await?;
        Ok(sums.into_iter().fold(BucketUsage::default(), |usage, (bytes, objects)| BucketUsage {
            bytes: usage.bytes + bytes.unwrap_or(0),
            objects: usage.objects + objects.unwrap_or(0),
        }))
    }
}

fn bucket_info(name: &BucketName, fields: &HashMap<String, String>) -> Option<BucketInfo> {
    if fields.contains_key("deleting") {
        return None;
    }
    let number = |field: &str| fields.get(field).and_then(|text| text.parse().ok());
    Some(BucketInfo {
        name: name.clone(),
        created_ms: number("created")?,
        epoch: number("epoch")?,
        quota_bytes: number("quota"),
        documents: Arc::new(documents(fields.iter())),
    })
}
