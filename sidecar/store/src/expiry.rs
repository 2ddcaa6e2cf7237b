//! Objects and uploads whose time is over: those with an end of their own, and those that a bucket's lifecycle rules
//! end. Applied by the sweeper, in bounded steps; until it comes, an ended object is not served either.

use std::collections::BTreeSet;

use blobstore_sidecar_core::{
    generation::Generation,
    key::{self, BucketName, ObjectName},
    ledger::Family,
    lifecycle::{Lifecycle, Subject},
    partition::PartitionTag,
    record::{ATTRIBUTES_BYTES_MAX, HEAD_BYTES, Head, decode_headers},
};
use redis::{cmd, pipe};

use crate::{
    Attributes, CrashPoint, ErrorKind, Store, StoreError,
    context::{Inner, Target},
    delete::Deleted,
    metrics::EXPIRED,
    multipart::state,
    scripts,
};

/// Due entries of a partition taken at a time, and times per pass: others of the sweeper's duties wait behind them.
const DUE_AT_A_TIME: isize = 64;
const DUE_ROUNDS_MAX: u32 = 64;

impl Store {
    /// Applies the lifecycle rules of all buckets to the partitions served here, now. The sweeper does the same by
    /// itself. Tells how many objects and uploads ended.
    pub async fn apply_lifecycle(&self) -> Result<u64, StoreError> {
        self.inner.apply_lifecycle().await
    }
}

impl Inner {
    /// Removes what is due by its own end.
    pub(crate) async fn sweep_expired(&self, tag: PartitionTag, now: u64) -> Result<(), StoreError> {
        for _ in 0..DUE_ROUNDS_MAX {
            let mut look = cmd("ZRANGEBYSCORE");
            look.arg(key::expiry(tag)).arg("-inf").arg(now).arg("LIMIT").arg(0).arg(DUE_AT_A_TIME);
            let due: Vec<String> = self.meta.query("look for what is due", &look).await?;
            for member in &due {
                self.end_one(tag, member, now).await?;
            }
            if due.len() < usize::try_from(DUE_AT_A_TIME).unwrap_or(usize::MAX) {
                break;
            }
        }
        Ok(())
    }

    async fn end_one(&self, tag: PartitionTag, member: &str, now: u64) -> Result<(), StoreError> {
        let (object, version) = match member.split_once('\0') {
            Some((object, version)) => (object, Generation::parse(version)),
            None => (member, None),
        };
        let object = object.split_once('/').and_then(|(bucket, name)| {
            Some(self.target(&BucketName::parse(bucket).ok()?, &ObjectName::parse(name).ok()?))
        });
        if let Some(target) = object {
            let head = match version {
                Some(version) => self.head_named(&target, version).await?,
                None => self.stored_head(&target).await?,
            };
            if let Some(head) = head.filter(|head| head.is_expired(now)) {
                self.end_own(&target, &head, version.is_none()).await?;
            }
        }
        let (list, at) = (key::expiry(tag), now.to_string());
        let gone: u64 =
            self.meta.script(&scripts::EXPIRY_STRIKE, &[&list], &[member.as_bytes(), at.as_bytes()]).await?;
        if gone > 0 {
            self.ledger.member_removed(Family::Expiry, list.as_bytes(), member.len());
        }
        Ok(())
    }

    async fn stored_head(&self, target: &Target) -> Result<Option<Head>, StoreError> {
        let read = cmd("GETRANGE").arg(target.record()).arg(0).arg(HEAD_BYTES - 1).to_owned();
        let bytes: Vec<u8> = self.meta.query("read a record's head", &read).await?;
        Ok(Head::decode(&bytes).ok())
    }

    /// As a deletion would end it: where the bucket keeps versions, this one is kept. True: it was still this one.
    async fn end(&self, target: &Target, head: &Head) -> Result<bool, StoreError> {
        let want = &head.generation.0;
        let deleted = match self.bucket(&target.bucket, false).await {
            Ok(bucket) => self.remove(target, &bucket, want, None).await?,
            Err(error) if error.kind == ErrorKind::NoSuchBucket => {
                self.delete_record(target, "", want).await?
            }
            Err(error) => return Err(error),
        };
        let Deleted::Done(gone) = deleted else { return Ok(false) };
        self.crash_at(CrashPoint::Ended)?;
        self.free_all(gone.free).await;
        EXPIRED.inc();
        Ok(true)
    }

    /// An object whose own end has come is not kept: where the bucket keeps versions a delete marker hides those before
    /// it, and it goes for good.
    async fn end_own(&self, target: &Target, head: &Head, current: bool) -> Result<(), StoreError> {
        if current {
            self.end(target, head).await?;
        }
        let bucket = match self.bucket(&target.bucket, false).await {
            Ok(bucket) if bucket.versioning().keeps() => bucket,
            Ok(_) => return Ok(()),
            Err(error) if error.kind == ErrorKind::NoSuchBucket => return Ok(()),
            Err(error) => return Err(error),
        };
        let still = self.head_named(target, head.generation).await?;
        if still.is_some_and(|head| !head.delete_marker)
            && let Deleted::Done(gone) = self.remove(target, &bucket, b"any", Some(head.version())).await?
        {
            self.free_all(gone.free).await;
        }
        Ok(())
    }

    pub(crate) async fn apply_lifecycle(&self) -> Result<u64, StoreError> {
        let now = self.engine_now().await?;
        let tags: Vec<PartitionTag> = self.served().collect();
        let mut ended = 0;
        for bucket in self.buckets_of(&tags).await? {
            let lifecycle = match self.bucket(&bucket, false).await {
                Ok(info) => info.lifecycle(),
                Err(error) if error.kind == ErrorKind::NoSuchBucket => None,
                Err(error) => return Err(error),
            };
            let Some(lifecycle) = lifecycle.filter(|lifecycle| !lifecycle.rules.is_empty()) else { continue };
            for tag in &tags {
                ended += self.apply_to_versions(*tag, &bucket, &lifecycle, now).await?;
                ended += self.apply_to_objects(*tag, &bucket, &lifecycle, now).await?;
                ended += self.apply_to_uploads(*tag, &bucket, &lifecycle, now).await?;
            }
        }
        Ok(ended)
    }

    /// Buckets with objects, versions or open uploads in these partitions: their sums name them.
    pub(crate) async fn buckets_of(&self, tags: &[PartitionTag]) -> Result<BTreeSet<BucketName>, StoreError> {
        if tags.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut read = pipe();
        for tag in tags {
            read.cmd("HKEYS").arg(key::sums(*tag));
        }
        let fields: Vec<Vec<String>> = self.meta.pipe("read sums", &read).await?;
        let bucket = |field: &String| {
            let name = ["o:", "r:", "v:"].iter().find_map(|family| field.strip_prefix(family))?;
            BucketName::parse(name).ok()
        };
        Ok(fields.iter().flatten().filter_map(bucket).collect())
    }

    async fn apply_to_objects(
        &self,
        tag: PartitionTag,
        bucket: &BucketName,
        lifecycle: &Lifecycle,
        now: u64,
    ) -> Result<u64, StoreError> {
        if !lifecycle.rules.iter().any(|rule| rule.expires_objects()) {
            return Ok(0);
        }
        let (mut from, mut ended) = (b"-".to_vec(), 0);
        loop {
            let Some(names) = self.names_from(tag, bucket, &mut from).await? else { return Ok(ended) };
            let covered = |name: &&ObjectName| {
                lifecycle.rules.iter().any(|rule| name.as_str().starts_with(&rule.prefix))
            };
            let targets: Vec<Target> =
                names.iter().filter(covered).map(|name| self.target(bucket, name)).collect();
            if targets.is_empty() {
                continue;
            }
            let mut read = pipe();
            for target in &targets {
                read.cmd("GETRANGE").arg(target.record()).arg(0).arg(HEAD_BYTES - 1);
            }
            let heads: Vec<Vec<u8>> = self.meta.pipe("read heads", &read).await?;
            for (target, head) in targets.iter().zip(heads) {
                let Ok(head) = Head::decode(&head) else { continue };
                let object = Subject { name: target.name.as_str(), size: head.layout.size(), tags: None };
                if !lifecycle.expires(&object, head.modified_ms, now) {
                    continue;
                }
                if lifecycle.asks_tags() {
                    let Some(of) = self.attributes_of(&target.record(), &head).await? else { continue };
                    let object = Subject { tags: Some(&of.tags), ..object };
                    if !lifecycle.expires(&object, head.modified_ms, now) {
                        continue;
                    }
                }
                ended += u64::from(self.end(target, &head).await?);
            }
        }
    }

    /// What describes a record whose head was read. `None`: it is another one by now.
    pub(crate) async fn attributes_of(
        &self,
        record: &str,
        head: &Head,
    ) -> Result<Option<Attributes>, StoreError> {
        // Headers as long as they may be: a changed tag changes their length.
        let last = HEAD_BYTES + ATTRIBUTES_BYTES_MAX - 1;
        let read = cmd("GETRANGE").arg(record).arg(0).arg(last).to_owned();
        let bytes: Vec<u8> = self.meta.query("read a record's headers", &read).await?;
        let now = Head::decode(&bytes).ok().filter(|now| now.generation == head.generation);
        Ok(now.and_then(|now| decode_headers(&now, &bytes).ok()))
    }

    async fn apply_to_uploads(
        &self,
        tag: PartitionTag,
        bucket: &BucketName,
        lifecycle: &Lifecycle,
        now: u64,
    ) -> Result<u64, StoreError> {
        if !lifecycle.rules.iter().any(|rule| rule.enabled && rule.abort_after_seconds.is_some()) {
            return Ok(0);
        }
        let list = cmd("ZRANGE").arg(key::open_uploads(tag, bucket.as_str())).arg(0).arg(-1).to_owned();
        let members: Vec<Vec<u8>> = self.meta.query("list a bucket's uploads", &list).await?;
        let mut ended = 0;
        for (name, upload) in members.iter().filter_map(|member| state::parse_member(member)) {
            if lifecycle.aborts(&name, upload.born_ms(), now) {
                self.expire_upload(tag, bucket.as_str(), &name, upload).await?;
                ended += 1;
            }
        }
        Ok(ended)
    }
}
