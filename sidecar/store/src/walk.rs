//! Walks for background work: over the partitions served here, their buckets, and what is in those, in pages, so that
//! no index is ever read as a whole.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    vec,
};

use blobstore_sidecar_core::{
    key::{self, BucketName, ObjectName},
    partition::PartitionTag,
    version::VersionEntry,
};
use redis::{FromRedisValue, cmd};

use crate::{ErrorKind, StoreError, context::Inner};

/// Members of an index taken at a time: heads of as many are read in one pipeline, 128 bytes each.
const MEMBERS_AT_A_TIME: usize = 256;

/// The store, unless its last user has left meanwhile.
pub(crate) fn upgraded(store: &Weak<Inner>) -> Result<Arc<Inner>, StoreError> {
    store.upgrade().ok_or_else(|| StoreError::new(ErrorKind::EngineDown, "the store was closed"))
}

/// A pass over everything that was served here when it began.
pub(crate) struct Walk {
    store: Weak<Inner>,
    left: vec::IntoIter<PartitionTag>,
    total: usize,
}

impl Walk {
    pub(crate) fn begin(store: &Weak<Inner>) -> Result<Self, StoreError> {
        let tags: Vec<PartitionTag> = upgraded(store)?.served().collect();
        Ok(Self { store: Weak::clone(store), total: tags.len(), left: tags.into_iter() })
    }

    /// The next partition, and the buckets that have something in it.
    pub(crate) async fn next(&mut self) -> Result<Option<(PartitionTag, BTreeSet<BucketName>)>, StoreError> {
        let Some(tag) = self.left.next() else { return Ok(None) };
        Ok(Some((tag, upgraded(&self.store)?.buckets_of(&[tag]).await?)))
    }

    /// Of the partitions, how many were given out.
    pub(crate) fn percent(&self) -> i64 {
        let done = self.total - self.left.len();
        (done * 100).checked_div(self.total).and_then(|percent| i64::try_from(percent).ok()).unwrap_or(100)
    }
}

impl Inner {
    /// A few names of a bucket in a partition, and where to go on. `None`: there are no more.
    pub(crate) async fn names_from(
        &self,
        tag: PartitionTag,
        bucket: &BucketName,
        from: &mut Vec<u8>,
    ) -> Result<Option<Vec<ObjectName>>, StoreError> {
        let index = key::names(tag, bucket.as_str());
        let names: Option<Vec<String>> = self.members_from("list names", &index, from).await?;
        Ok(names.map(|names| names.into_iter().filter_map(|name| ObjectName::parse(name).ok()).collect()))
    }

    /// A few versions that are not current, as [`Inner::names_from`].
    pub(crate) async fn versions_from(
        &self,
        tag: PartitionTag,
        bucket: &BucketName,
        from: &mut Vec<u8>,
    ) -> Result<Option<Vec<VersionEntry>>, StoreError> {
        let index = key::versions(tag, bucket.as_str());
        let entries: Option<Vec<Vec<u8>>> = self.members_from("list versions", &index, from).await?;
        let decoded = |entries: Vec<Vec<u8>>| {
            entries.iter().filter_map(|entry| VersionEntry::decode(entry)).collect::<Vec<_>>()
        };
        Ok(entries.map(decoded))
    }

    async fn members_from<T: FromRedisValue + AsRef<[u8]>>(
        &self,
        what: &'static str,
        index: &str,
        from: &mut Vec<u8>,
    ) -> Result<Option<Vec<T>>, StoreError> {
        let mut list = cmd("ZRANGEBYLEX");
        list.arg(index).arg(&*from).arg("+").arg("LIMIT").arg(0).arg(MEMBERS_AT_A_TIME);
        let members: Vec<T> = self.meta.query(what, &list).await?;
        let Some(last) = members.last() else { return Ok(None) };
        *from = [b"(".as_slice(), last.as_ref()].concat();
        Ok(Some(members))
    }
}
