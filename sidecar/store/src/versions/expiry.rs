//! Lifecycle rules on versions that are not current, and on delete markers that hide nothing any more. The sweeper walks
//! a partition's entries in pages; those of a name stand together, the newest first.

use blobstore_sidecar_core::{
    key::{BucketName, ObjectName},
    lifecycle::{Lifecycle, Subject},
    partition::PartitionTag,
    record::{HEAD_BYTES, Head},
    version::{Version, VersionEntry},
};
use redis::pipe;

use crate::{
    StoreError,
    context::{Inner, Target},
    delete::{Deleted, Gone},
    metrics::EXPIRED,
};

/// What the walk knows of the name that it is at.
struct Walk {
    name: String,
    /// When what is newer than the next entry was written; `None`: nothing is newer.
    newer_ms: Option<u64>,
    /// Versions met that are not current.
    noncurrent: u32,
    entries: u32,
    /// The current version, if it is a delete marker.
    marker: Option<Version>,
}

/// A version that ceased to be current.
struct Old {
    since_ms: u64,
    /// Versions that ceased later.
    newer: u32,
}

impl Inner {
    /// Tells how many versions and delete markers ended.
    pub(crate) async fn apply_to_versions(
        &self,
        tag: PartitionTag,
        bucket: &BucketName,
        lifecycle: &Lifecycle,
        now: u64,
    ) -> Result<u64, StoreError> {
        if !lifecycle.rules.iter().any(|rule| rule.expires_versions()) {
            return Ok(0);
        }
        let (mut from, mut ended, mut walk) = (b"-".to_vec(), 0, None);
        loop {
            let Some(entries) = self.versions_from(tag, bucket, &mut from).await? else { break };
            for (target, current, head) in self.heads_of(bucket, &entries).await? {
                let is_next = walk.as_ref().is_none_or(|walk: &Walk| walk.name != target.name.as_str());
                if is_next {
                    let before = walk.replace(Walk::at(&target, current.as_ref(), &head));
                    ended += self.end_marker(bucket, before, lifecycle).await?;
                }
                let old = walk.as_mut().and_then(|walk| walk.go_on(&head));
                if let Some(old) = old
                    && self.is_over(&target, &head, &old, lifecycle, now).await?
                {
                    ended += self.end_version(&target, head.version()).await?;
                }
            }
        }
        Ok(ended + self.end_marker(bucket, walk, lifecycle).await?)
    }

    /// Each entry's object, its current version, and the entry's own head; those that cannot be read are left out.
    async fn heads_of(
        &self,
        bucket: &BucketName,
        entries: &[VersionEntry],
    ) -> Result<Vec<(Target, Option<Head>, Head)>, StoreError> {
        let targets: Vec<(Target, &VersionEntry)> = entries
            .iter()
            .filter_map(|entry| {
                Some((self.target(bucket, &ObjectName::parse(entry.name.as_str()).ok()?), entry))
            })
            .collect();
        let mut read = pipe();
        for (target, entry) in &targets {
            read.cmd("GETRANGE").arg(target.record()).arg(0).arg(HEAD_BYTES - 1);
            read.cmd("GETRANGE").arg(target.history(entry.generation)).arg(0).arg(HEAD_BYTES - 1);
        }
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let heads: Vec<Vec<u8>> = self.meta.pipe("read heads", &read).await?;
        let pairs = targets.into_iter().zip(heads.chunks(2)).filter_map(|((target, _), pair)| {
            let [current, own] = pair else { return None };
            Some((target, Head::decode(current).ok(), Head::decode(own).ok()?))
        });
        Ok(pairs.collect())
    }

    /// Do the rules end this version?
    async fn is_over(
        &self,
        target: &Target,
        head: &Head,
        old: &Old,
        lifecycle: &Lifecycle,
        now: u64,
    ) -> Result<bool, StoreError> {
        let version = Subject { name: target.name.as_str(), size: head.layout.size(), tags: None };
        let over = |version: &Subject<'_>| lifecycle.expires_version(version, old.since_ms, old.newer, now);
        if !over(&version) || !lifecycle.asks_tags() {
            return Ok(over(&version));
        }
        let attributes = self.attributes_of(&target.history(head.generation), head).await?;
        Ok(attributes.is_some_and(|of| over(&Subject { tags: Some(&of.tags), ..version })))
    }

    async fn end_version(&self, target: &Target, version: Version) -> Result<u64, StoreError> {
        let bucket = self.bucket(&target.bucket, false).await?;
        let Deleted::Done(Gone { free, .. }) = self.purge_old(target, &bucket, version).await? else {
            return Ok(0);
        };
        self.free_all(free).await;
        EXPIRED.inc();
        Ok(1)
    }

    async fn end_marker(
        &self,
        bucket: &BucketName,
        walk: Option<Walk>,
        lifecycle: &Lifecycle,
    ) -> Result<u64, StoreError> {
        let alone = walk.filter(|walk| walk.entries == 1 && lifecycle.expires_marker(&walk.name));
        let Some((name, marker)) = alone.and_then(|walk| Some((walk.name, walk.marker?))) else {
            return Ok(0);
        };
        let Ok(name) = ObjectName::parse(name) else { return Ok(0) };
        self.end_version(&self.target(bucket, &name), marker).await
    }
}

impl Walk {
    /// At the newest entry of a name.
    fn at(target: &Target, current: Option<&Head>, head: &Head) -> Self {
        let marker = (current.is_none() && head.delete_marker).then(|| head.version());
        let newer_ms = current.map(|current| current.created_ms);
        Self { name: target.name.as_str().to_owned(), newer_ms, noncurrent: 0, entries: 0, marker }
    }

    /// Goes on to this entry, which may be a version that is not current.
    fn go_on(&mut self, head: &Head) -> Option<Old> {
        self.entries += 1;
        let since_ms = self.newer_ms.replace(head.created_ms)?;
        let newer = self.noncurrent;
        self.noncurrent += 1;
        Some(Old { since_ms, newer })
    }
}
