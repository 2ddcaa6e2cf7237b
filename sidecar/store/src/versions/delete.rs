//! Deletions where a bucket keeps versions: delete markers, and versions that go for good.

use blobstore_sidecar_core::{
    chunk::Layout,
    etag::ETag,
    ledger::Family,
    manifest::crc32c,
    record::Head,
    version::{Version, Versioning},
};
use redis::Value;

use crate::{
    BucketInfo, DeleteOutcome, DeleteRequest, Store, StoreError,
    commit::Before,
    context::{Inner, Target},
    delete::{Deleted, Gone},
    engine::errors,
    scripts,
};

impl Store {
    /// Removes one version for good. The newest that is left becomes current; what is not there needs no removing.
    pub async fn delete_version(
        &self,
        request: DeleteRequest,
        version: Version,
    ) -> Result<DeleteOutcome, StoreError> {
        self.inner.delete(request, Some(version)).await
    }
}

/// The record of a delete marker: a head and nothing else.
fn marker(inner: &Inner, keeps: Versioning) -> Head {
    let (generation, now) = (inner.new_generation(), inner.times.now_ms());
    Head {
        generation,
        layout: Layout::inline(0),
        created_ms: now,
        modified_ms: now,
        expires_ms: 0,
        etag: ETag::of(generation),
        crc64: 0,
        tail_crc64: 0,
        first_crc64: 0,
        manifest_len: 0,
        headers_len: 0,
        headers_crc: crc32c(&[]),
        access_hour: 0,
        versioned: keeps == Versioning::Enabled,
        delete_marker: true,
    }
}

/// A script's answer: words, then heads.
fn texts(answer: Vec<Value>) -> Vec<Vec<u8>> {
    let text = |value| match value {
        Value::BulkString(text) => text,
        Value::SimpleString(text) => text.into_bytes(),
        _ => Vec::new(),
    };
    answer.into_iter().map(text).collect()
}

impl Inner {
    /// A deletion that names no version: a delete marker comes on top.
    pub(crate) async fn mark(
        &self,
        target: &Target,
        bucket: &BucketInfo,
        want: &[u8],
    ) -> Result<Deleted, StoreError> {
        let keeps = bucket.versioning();
        let marker = marker(self, keeps);
        let (epoch, encoded) = (bucket.epoch.to_string(), marker.encode());
        let args = [want, epoch.as_bytes(), keeps.word().as_bytes(), &encoded];
        self.cache.invalidate_record(&target.cache_key);
        let answer: Result<Vec<Value>, StoreError> =
            self.meta.script(&scripts::MARK, &[&target.record()], &args).await;
        self.cache.invalidate_record(&target.cache_key);
        let answer = texts(answer?);
        match answer.first().map(Vec::as_slice) {
            Some(b"SEALED") => return Ok(Deleted::Sealed),
            Some(b"CHANGED") => return Ok(Deleted::Changed),
            Some(b"OK") => {}
            _ => return Err(errors::garbage()),
        }
        self.damage.doubt(&target.cache_key);
        let before = Before::decode(answer.iter().skip(1).map(Vec::as_slice));
        if let Some(old) = &before.replaced {
            self.ledger.string_removed(Family::Record, target.record().len(), old.value_len());
        }
        if before.existed() {
            self.account_name(target, false);
        }
        self.account_before(target, &before);
        let key_len = target.history(marker.generation).len();
        self.ledger.string_added(Family::Record, key_len, marker.value_len());
        self.account_entry(target, marker.version(), true);
        Ok(Deleted::Done(Gone {
            free: self.retire_all(target.tag, [&before.replaced, &before.gone]),
            outcome: DeleteOutcome {
                existed: before.existed(),
                version: Some(marker.version()),
                marker: true,
            },
        }))
    }

    /// A deletion of one version.
    pub(crate) async fn purge(
        &self,
        target: &Target,
        bucket: &BucketInfo,
        version: Version,
    ) -> Result<Deleted, StoreError> {
        self.purge_if(target, bucket, version, b"0").await
    }

    /// The same, unless the version has become current meanwhile.
    pub(crate) async fn purge_old(
        &self,
        target: &Target,
        bucket: &BucketInfo,
        version: Version,
    ) -> Result<Deleted, StoreError> {
        self.purge_if(target, bucket, version, b"1").await
    }

    async fn purge_if(
        &self,
        target: &Target,
        bucket: &BucketInfo,
        version: Version,
        only_old: &[u8],
    ) -> Result<Deleted, StoreError> {
        let (epoch, hour) = (bucket.epoch.to_string(), self.times.hour().to_le_bytes());
        let args = [version.bytes(), epoch.as_bytes(), &hour, only_old];
        self.cache.invalidate_record(&target.cache_key);
        let answer: Result<Vec<Value>, StoreError> =
            self.meta.script(&scripts::VERSION_DELETE, &[&target.record()], &args).await;
        self.cache.invalidate_record(&target.cache_key);
        let answer = texts(answer?);
        let words: Vec<&[u8]> = answer.iter().map(Vec::as_slice).collect();
        let (was_current, gone, next) = match words.as_slice() {
            [b"SEALED"] => return Ok(Deleted::Sealed),
            [b"ABSENT"] => return Ok(Deleted::Absent),
            [b"CHANGED"] => return Ok(Deleted::Changed),
            [b"OK", place, gone, next] => (*place == b"current", *gone, *next),
            _ => return Err(errors::garbage()),
        };
        let (Ok(gone), next) = (Head::decode(gone), Head::decode(next).ok()) else {
            return Err(errors::garbage());
        };
        self.damage.doubt(&target.cache_key);
        if was_current {
            self.ledger.string_removed(Family::Record, target.record().len(), gone.value_len());
        } else {
            self.account_purged(target, &gone);
        }
        if let Some(next) = &next {
            self.account_purged(target, next);
            self.ledger.string_added(Family::Record, target.record().len(), next.value_len());
        }
        if was_current != next.is_some() {
            self.account_name(target, next.is_some());
        }
        let (version, marker) = (Some(version), gone.delete_marker);
        Ok(Deleted::Done(Gone {
            free: self.retire_all(target.tag, [&Some(gone)]),
            outcome: DeleteOutcome { existed: true, version, marker },
        }))
    }

    fn account_name(&self, target: &Target, added: bool) {
        let (names, len) = (target.names(), target.name.as_str().len());
        match added {
            true => self.ledger.member_added(Family::Names, names.as_bytes(), len),
            false => self.ledger.member_removed(Family::Names, names.as_bytes(), len),
        }
    }
}
