//! Versions of objects: what a bucket keeps, where a version lies, and what the ledger is told when one stops being
//! current. The steps themselves are the scripts'.

use blobstore_sidecar_core::{
    generation::Generation,
    key::{self, BucketName},
    ledger::Family,
    partition::PartitionTag,
    record::{HEAD_BYTES, Head},
    version::{VERSIONING_DOCUMENT, Version, Versioning, entry_lens},
};
use redis::{cmd, pipe};

use crate::{
    BucketInfo, ErrorKind, Store, StoreError,
    buckets::no_such_bucket,
    commit::Before,
    context::{Inner, Target},
    documents::FIELD_START,
    doomed::Doomed,
    engine::errors,
    scripts,
};

pub(crate) mod delete;
mod expiry;
pub(crate) mod list;
mod read;

impl Store {
    /// At the bucket's home only (else `NotOwner`). When this answers, no write under what held before can succeed any
    /// more: each is refused by its partition and made again under the new setting.
    pub async fn set_versioning(
        &self,
        bucket: &BucketName,
        keeps: Versioning,
    ) -> Result<BucketInfo, StoreError> {
        self.inner.set_versioning(bucket, keeps).await
    }

    /// Does the bucket keep versions, or did it ever? Answered from memory; a bucket that cannot be asked keeps none.
    pub async fn keeps_versions(&self, bucket: &BucketName) -> bool {
        if let Some(keeps) = self.keeps_versions_at_hand(bucket) {
            return keeps;
        }
        self.inner.bucket_lately(bucket).await.is_ok_and(|info| info.versioning().keeps())
    }

    /// As [`Store::keeps_versions`], if it is known here.
    pub fn keeps_versions_at_hand(&self, bucket: &BucketName) -> Option<bool> {
        self.inner.bucket_at_hand(bucket, true, |info| info.versioning().keeps())
    }
}

impl BucketInfo {
    /// What the bucket keeps.
    pub fn versioning(&self) -> Versioning {
        self.document(VERSIONING_DOCUMENT).and_then(Versioning::parse).unwrap_or_default()
    }
}

impl Target {
    pub(crate) fn history(&self, generation: Generation) -> String {
        key::history(self.tag, generation, self.bucket.as_str(), self.name.as_str())
    }

    pub(crate) fn versions(&self) -> String {
        key::versions(self.tag, self.bucket.as_str())
    }
}

/// A version and the key of its record.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) key: String,
    pub(crate) head: Head,
}

impl Inner {
    /// The setting gets a new epoch, then every partition refuses what comes under the old one.
    async fn set_versioning(&self, bucket: &BucketName, keeps: Versioning) -> Result<BucketInfo, StoreError> {
        if !keeps.keeps() {
            let message = "versioning is Enabled or Suspended: it cannot be unset";
            return Err(StoreError::new(ErrorKind::InvalidName, message));
        }
        let home = self.home(bucket);
        let tenure = self.owned(home.slot())?;
        let (key, field) =
            (key::bucket(home, bucket.as_str()), format!("{FIELD_START}{VERSIONING_DOCUMENT}"));
        let args = [field.as_bytes(), keeps.text().as_bytes()];
        let answer = self.meta.script(&scripts::BUCKET_VERSIONING, &[&key], &args).await;
        self.buckets.changed(bucket);
        let answer: Vec<String> = answer?;
        let (old, epoch) = match answer.as_slice() {
            [word, old, epoch] if word == "OK" => (old.parse::<usize>().ok(), epoch.parse::<u64>().ok()),
            [word] if word == "ABSENT" => return Err(no_such_bucket(bucket)),
            _ => return Err(errors::garbage()),
        };
        let epoch = epoch.ok_or_else(errors::garbage)?;
        if let Some(old) = old {
            self.ledger.member_removed(Family::Bucket, key.as_bytes(), field.len() + old);
        }
        self.ledger.member_added(Family::Bucket, key.as_bytes(), field.len() + keeps.text().len());
        self.authority.acknowledged(&tenure).await?;
        self.seal_here(bucket, epoch).await?;
        self.options.peers.seal(bucket, epoch).await?;
        self.bucket(bucket, true).await
    }

    /// Where a version lies now; it may move the next moment.
    pub(crate) async fn find(&self, target: &Target, which: &[u8]) -> Result<Option<Found>, StoreError> {
        let record = target.record();
        let answer: Vec<Vec<u8>> = self.meta.script(&scripts::VERSION_FIND, &[&record], &[which]).await?;
        let [place, head] = answer.as_slice() else { return Ok(None) };
        let head = Head::decode(head).map_err(|error| crate::get::damaged("record", error))?;
        let key = if place == b"current" { record } else { target.history(head.generation) };
        Ok(Some(Found { key, head }))
    }

    /// The delete marker that hides an object.
    pub(crate) async fn marker_of(&self, target: &Target) -> Result<Option<Head>, StoreError> {
        let found = self.find(target, b"newest").await?;
        Ok(found.map(|found| found.head).filter(|head| head.delete_marker))
    }

    /// The head of the version of this generation, current or not.
    pub(crate) async fn head_named(
        &self,
        target: &Target,
        generation: Generation,
    ) -> Result<Option<Head>, StoreError> {
        let mut read = pipe();
        for key in [target.record(), target.history(generation)] {
            read.add_command(cmd("GETRANGE").arg(key).arg(0).arg(HEAD_BYTES - 1).to_owned());
        }
        let heads: Vec<Vec<u8>> = self.meta.pipe("look for a version", &read).await?;
        let mut heads = heads.iter().filter_map(|head| Head::decode(head).ok());
        Ok(heads.find(|head| head.generation == generation))
    }

    /// Is the generation an object's, current or not? In one step: it may be on its way from one to the other.
    pub(crate) async fn is_named(&self, target: &Target, generation: Generation) -> Result<bool, StoreError> {
        let mut read = pipe();
        read.atomic();
        read.cmd("GETRANGE").arg(target.record()).arg(8).arg(23);
        read.cmd("EXISTS").arg(target.history(generation));
        let (current, kept): (Vec<u8>, u64) = self.meta.pipe("look for a version", &read).await?;
        Ok(current == generation.0 || kept > 0)
    }

    /// The ledger learns what became of the versions that a change met.
    pub(crate) fn account_before(&self, target: &Target, before: &Before) {
        if let Some(kept) = &before.kept {
            let len = kept.value_len();
            self.ledger.string_removed(Family::Record, target.record().len(), len);
            self.ledger.string_added(Family::Record, target.history(kept.generation).len(), len);
            self.account_entry(target, kept.version(), true);
            if kept.expires_ms > 0 {
                let list = key::expiry(target.tag);
                let len = target.cache_key.len() + 1 + 32;
                self.ledger.member_added(Family::Expiry, list.as_bytes(), len);
            }
        }
        if let Some(gone) = &before.gone {
            self.account_purged(target, gone);
        }
    }

    /// A version that was not current is gone for good.
    pub(crate) fn account_purged(&self, target: &Target, gone: &Head) {
        let key_len = target.history(gone.generation).len();
        self.ledger.string_removed(Family::Record, key_len, gone.value_len());
        self.account_entry(target, gone.version(), false);
    }

    pub(crate) fn account_entry(&self, target: &Target, version: Version, added: bool) {
        let key = target.versions();
        for len in entry_lens(target.name.as_str(), version) {
            match added {
                true => self.ledger.member_added(Family::Versions, key.as_bytes(), len),
                false => self.ledger.member_removed(Family::Versions, key.as_bytes(), len),
            }
        }
    }

    /// Tells the ledger what is on the list of generations to free, and which of it can be freed now.
    pub(crate) fn retire_all<'a>(
        &self,
        tag: PartitionTag,
        heads: impl IntoIterator<Item = &'a Option<Head>>,
    ) -> Vec<Doomed> {
        let doomed = heads.into_iter().flatten().filter_map(|head| Doomed::of(tag, head));
        doomed.filter_map(|doomed| self.retire(doomed)).collect()
    }

    /// As `retire_all`, of what a write found in its way: of that, the engine may have freed some already.
    pub(crate) fn retire_before(&self, tag: PartitionTag, before: &Before) -> Vec<Doomed> {
        if before.freed {
            self.freed_at_once(tag, before.replaced.as_ref());
            return self.retire_all(tag, [&before.gone]);
        }
        self.retire_all(tag, [&before.replaced, &before.gone])
    }

    pub(crate) async fn free_all(&self, all: Vec<Doomed>) {
        for doomed in all {
            self.free_or_leave(Some(doomed)).await;
        }
    }
}
