//! Small named documents of a bucket: CORS, lifecycle, policy and the like. They live with the bucket at its home, and
//! travel with what every shard knows of it.

use std::{collections::BTreeMap, time::Duration};

use blobstore_sidecar_core::{
    key::{self, BucketName},
    ledger::Family,
    lifecycle::{LIFECYCLE_DOCUMENT, Lifecycle},
    version::VERSIONING_DOCUMENT,
};

use crate::{
    BucketInfo, ErrorKind, Store, StoreError, buckets::no_such_bucket, context::Inner, engine::errors,
    scripts,
};

/// Three times the largest policy of S3. Documents travel with every fresh look at the bucket.
pub const DOCUMENT_BYTES_MAX: usize = 64 << 10;
/// The configurations that S3 knows, and some to spare.
pub const DOCUMENTS_MAX: usize = 16;
/// Longest name of a document.
const NAME_BYTES_MAX: usize = 32;
/// What a document's field begins with in the bucket's hash.
pub(crate) const FIELD_START: &str = "doc:";

impl Store {
    /// At the bucket's home only (else `NotOwner`). `None` deletes. To read, see [`BucketInfo::documents`].
    pub async fn set_document(
        &self,
        bucket: &BucketName,
        name: &str,
        text: Option<&str>,
    ) -> Result<BucketInfo, StoreError> {
        self.inner.set_document(bucket, name, text).await
    }
}

/// A home that says nothing for so long is asked again later: what is known of its bucket holds until then.
const LOOK_MAX: Duration = Duration::from_millis(500);

impl Store {
    /// Asks what is known of the bucket now; `None`: use [`Store::get_bucket`].
    pub fn bucket_at_hand<T>(&self, name: &BucketName, what: impl FnOnce(&BucketInfo) -> T) -> Option<T> {
        self.inner.bucket_at_hand(name, false, what)
    }

    /// As [`Store::get_bucket`], but while the bucket's home cannot say, what was known last: reads of other shards
    /// go on while that one has no primary.
    pub async fn bucket_last_known(&self, name: &BucketName) -> Result<BucketInfo, StoreError> {
        if let Some(info) = self.bucket_at_hand(name, BucketInfo::clone) {
            return Ok(info);
        }
        let changes = self.inner.buckets.changes();
        let Some(last) = self.inner.buckets.last(name) else {
            return self.inner.bucket(name, false).await;
        };
        match tokio::time::timeout(LOOK_MAX, self.inner.bucket(name, false)).await {
            Ok(Ok(info)) => Ok(info),
            Ok(Err(error)) if error.kind == ErrorKind::NoSuchBucket => Err(error),
            Ok(Err(_)) | Err(_) => {
                // Stamped anew: not every request waits for a home that is away.
                self.inner.buckets.set(last.clone(), changes);
                Ok(last)
            }
        }
    }
}

impl BucketInfo {
    pub fn document(&self, name: &str) -> Option<&str> {
        self.documents.get(name).map(String::as_str)
    }

    /// The bucket's lifecycle rules, if it has any that can be read.
    pub fn lifecycle(&self) -> Option<Lifecycle> {
        Lifecycle::parse(self.document(LIFECYCLE_DOCUMENT)?)
    }
}

/// The documents among the fields of a bucket's hash.
pub(crate) fn documents<'a>(
    fields: impl Iterator<Item = (&'a String, &'a String)>,
) -> BTreeMap<String, String> {
    let document =
        |(field, text): (&String, &String)| Some((field.strip_prefix(FIELD_START)?.to_owned(), text.clone()));
    fields.filter_map(document).collect()
}

impl Inner {
    async fn set_document(
        &self,
        bucket: &BucketName,
        name: &str,
        text: Option<&str>,
    ) -> Result<BucketInfo, StoreError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
            let message = "a document's name has 1 to 32 lower-case letters, digits or '-'";
            return Err(StoreError::new(ErrorKind::InvalidName, message));
        }
        if text.is_some_and(|text| text.len() > DOCUMENT_BYTES_MAX) {
            let message = format!("a document has at most {DOCUMENT_BYTES_MAX} bytes");
            return Err(StoreError::new(ErrorKind::TooLarge, message));
        }
        if name == VERSIONING_DOCUMENT {
            let message = "what a bucket keeps is set by its versioning";
            return Err(StoreError::new(ErrorKind::InvalidName, message));
        }
        if name == LIFECYCLE_DOCUMENT && text.is_some_and(|text| Lifecycle::parse(text).is_none()) {
            return Err(StoreError::new(ErrorKind::InvalidName, "the lifecycle rules cannot be read"));
        }
        let home = self.home(bucket);
        let tenure = self.owned(home.slot())?;
        let (key, field) = (key::bucket(home, bucket.as_str()), format!("{FIELD_START}{name}"));
        let (delete, most): (&[u8], String) =
            (if text.is_none() { b"1" } else { b"0" }, DOCUMENTS_MAX.to_string());
        let args = [field.as_bytes(), text.unwrap_or_default().as_bytes(), delete, most.as_bytes()];
        let answer = self.meta.script(&scripts::BUCKET_DOCUMENT, &[&key], &args).await;
        self.buckets.changed(bucket);
        let answer: Vec<String> = answer?;
        match answer.first().map(String::as_str) {
            Some("OK") => {}
            Some("ABSENT") => return Err(no_such_bucket(bucket)),
            Some("FULL") => {
                let message = format!("a bucket has at most {DOCUMENTS_MAX} documents");
                return Err(StoreError::new(ErrorKind::InvalidName, message));
            }
            _ => return Err(errors::garbage()),
        }
        if let Some(old) = answer.get(1).and_then(|len| len.parse::<usize>().ok()) {
            self.ledger.member_removed(Family::Bucket, key.as_bytes(), field.len() + old);
        }
        if let Some(text) = text {
            self.ledger.member_added(Family::Bucket, key.as_bytes(), field.len() + text.len());
        }
        self.authority.acknowledged(&tenure).await?;
        self.bucket(bucket, true).await
    }
}
