//! Other headers, tags or another end for an object whose bytes stay: a new record over the same generation.

use std::sync::Arc;

use blobstore_sidecar_core::{
    generation::Generation,
    key::{self, BucketName, ObjectName},
    ledger::Family,
    manifest::crc32c,
    precondition::{Access, Conditions, Current, Outcome},
    record::{Attributes, HEAD_BYTES, Head, TAGS_MAX},
    version::Version,
};
use blobstore_sidecar_runtime::{authority::Tenure, tasks};
use redis::cmd;

use crate::{
    CrashPoint, ErrorKind, ObjectMeta, Store, StoreError, checks,
    commit::STAGED_SECONDS,
    context::{Inner, Target},
    engine::errors,
    record_entry::RecordEntry,
    scripts,
};

/// Tries of an update whose object changes under it.
const UPDATE_TRIES_MAX: u32 = 8;
/// Bytes of the head that tell whether a record is still the same: all but its checksum and the access hour.
pub(crate) const SAME_BYTES: usize = 120;
/// The limits of S3, in characters.
const TAG_KEY_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;

/// What of an object is to change.
#[derive(Clone, Debug)]
pub enum Change {
    /// All headers and metadata, as a copy onto itself would. Tags, checksum and origin stay, the time is now.
    Attributes(Box<Attributes>),
    /// As `Attributes`, the tags included.
    AttributesAndTags(Box<Attributes>),
    /// The tags. ETag and time stay.
    Tags(Vec<(String, String)>),
    /// When the object ends, milliseconds since 1970; 0: never.
    Expiry(u64),
}

#[derive(Clone, Debug)]
pub struct UpdateRequest {
    pub bucket: BucketName,
    pub name: ObjectName,
    pub conditions: Conditions,
    pub change: Change,
}

impl Store {
    /// Changes what is told about an object; its bytes, its ETag and its generation stay.
    pub async fn update(&self, request: UpdateRequest) -> Result<ObjectMeta, StoreError> {
        self.change(request, None).await
    }

    pub(crate) async fn change(
        &self,
        request: UpdateRequest,
        version: Option<Version>,
    ) -> Result<ObjectMeta, StoreError> {
        if let Change::Tags(tags) = &request.change {
            check_tags(tags)?;
        }
        self.inner.accepting()?;
        // Seen through even if the client leaves: the cache has to learn what happened.
        let inner = Arc::clone(&self.inner);
        tasks::seen_through("update", async move { inner.update(&request, version).await }).await
    }
}

/// At most ten, each key once, none too long.
pub fn check_tags(tags: &[(String, String)]) -> Result<(), StoreError> {
    let wrong = |message: String| Err(StoreError::new(ErrorKind::InvalidTag, message));
    if tags.len() > TAGS_MAX {
        return wrong(format!("an object has at most {TAGS_MAX} tags"));
    }
    for (index, (key, value)) in tags.iter().enumerate() {
        if key.is_empty() || key.chars().count() > TAG_KEY_CHARS_MAX {
            return wrong(format!("a tag's key has 1 to {TAG_KEY_CHARS_MAX} characters"));
        }
        if value.chars().count() > TAG_VALUE_CHARS_MAX {
            return wrong(format!("a tag's value has at most {TAG_VALUE_CHARS_MAX} characters"));
        }
        if tags.iter().take(index).any(|(other, _)| other == key) {
            return wrong(format!("the tag {key} is there twice"));
        }
    }
    Ok(())
}

impl Inner {
    async fn update(
        self: &Arc<Self>,
        request: &UpdateRequest,
        version: Option<Version>,
    ) -> Result<ObjectMeta, StoreError> {
        let target = self.target(&request.bucket, &request.name);
        let tenure = self.owned(target.tag.slot())?;
        let (mut damage, mut read) = (None, false);
        for _ in 0..UPDATE_TRIES_MAX {
            let (key, entry) = match self.to_update(&target, &tenure, version).await {
                Ok((key, Some(entry))) => (key, entry),
                Ok((_, None)) => return Err(self.absent(&target, &tenure).await),
                // The object was replaced and its manifest freed between the two reads: read again.
                Err(error) if error.kind == ErrorKind::Damaged => {
                    damage = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            read = true;
            let head = &entry.record.head;
            let current = Current { etag: &head.etag, modified_ms: head.modified_ms };
            if request.conditions.evaluate(Access::Write, Some(current)) != Outcome::Proceed {
                return Err(StoreError::new(
                    ErrorKind::Precondition,
                    "the object does not meet the condition",
                ));
            }
            let (new, headers, attributes) = changed(self.times.now_ms(), &entry, &request.change)?;
            if self.swap_record((&target, &key), &tenure, &entry, (&new, &headers)).await? {
                return Ok(ObjectMeta::of(&new, Arc::new(attributes)));
            }
        }
        let busy = || StoreError::new(ErrorKind::Busy, "the object changes too often: retry in a moment");
        // What was whole once and is gone now was replaced; damage is there at every try.
        Err(damage.filter(|_| !read).unwrap_or_else(busy))
    }

    /// The key of the record, and what it holds.
    async fn to_update(
        &self,
        target: &Target,
        tenure: &Tenure,
        version: Option<Version>,
    ) -> Result<(String, Option<Arc<RecordEntry>>), StoreError> {
        match version {
            None => Ok((target.record(), self.live_record(target, tenure).await?)),
            Some(version) => {
                let (key, entry) = self.version_record(target, tenure, version).await?;
                Ok((key, Some(entry)))
            }
        }
    }

    /// False: the object is another one by now.
    async fn swap_record(
        &self,
        (target, record): (&Target, &str),
        tenure: &Tenure,
        entry: &RecordEntry,
        (new, headers): (&Head, &[u8]),
    ) -> Result<bool, StoreError> {
        let (tag, old) = (target.tag, &entry.record.head);
        let mut value = Vec::with_capacity(HEAD_BYTES + headers.len() + entry.record.tail.len());
        value.extend_from_slice(&new.encode());
        value.extend_from_slice(headers);
        value.extend_from_slice(&entry.record.tail);
        let staged: Generation = self.new_generation();
        let (staged, expiry) = (key::staged(tag, staged), key::expiry(tag));
        let change = self.changing.begin(&target.cache_key);
        let set = cmd("SET").arg(&staged).arg(&value).arg("EX").arg(STAGED_SECONDS).to_owned();
        let () = self.meta.query("stage a record", &set).await?;
        self.crash_at(CrashPoint::UpdateStaged)?;
        self.cache.invalidate_record(&target.cache_key);
        let (same, expires) = (old.encode(), new.expires_ms.to_string());
        let member = match *record == target.record() {
            true => expiry_member(target),
            false => version_expiry_member(target, old.generation),
        };
        let args = [same.get(..SAME_BYTES).unwrap_or_default(), expires.as_bytes(), member.as_bytes()];
        let answer: Result<String, StoreError> =
            self.meta.script(&scripts::UPDATE, &[&staged, record, &expiry], &args).await;
        self.cache.invalidate_record(&target.cache_key);
        match answer?.as_str() {
            "OK" => {
                self.crash_at(CrashPoint::Updated)?;
                self.ledger.string_removed(Family::Record, record.len(), old.value_len());
                self.ledger.string_added(Family::Record, record.len(), new.value_len());
                self.authority.acknowledged(tenure).await?;
                change.acknowledged();
                Ok(true)
            }
            "CHANGED" => {
                change.acknowledged();
                Ok(false)
            }
            _ => Err(errors::garbage()),
        }
    }
}

/// The head, the headers and the attributes after the change.
fn changed(
    now_ms: u64,
    entry: &RecordEntry,
    change: &Change,
) -> Result<(Head, Vec<u8>, Attributes), StoreError> {
    let (mut head, old) = (entry.record.head.clone(), &*entry.attributes);
    // Never back in time: a conditional read must see the change.
    let now = now_ms.max(head.modified_ms + 1);
    let attributes = match change {
        Change::Attributes(new) => {
            head.modified_ms = now;
            Attributes { tags: old.tags.clone(), ..kept(new, old) }
        }
        Change::AttributesAndTags(new) => {
            head.modified_ms = now;
            kept(new, old)
        }
        Change::Tags(tags) => Attributes { tags: tags.clone(), ..old.clone() },
        Change::Expiry(at) => {
            head.expires_ms = *at;
            old.clone()
        }
    };
    let headers = checks::headers(&attributes, None)?;
    head.headers_len = u16::try_from(headers.len()).unwrap_or(u16::MAX);
    head.headers_crc = crc32c(&[&headers]);
    Ok((head, headers, attributes))
}

/// What belongs to the bytes stays with them.
fn kept(new: &Attributes, old: &Attributes) -> Attributes {
    Attributes { checksum: old.checksum, origin: old.origin.clone(), ..new.clone() }
}

/// A member of `e:{t}` for a version that is not current.
pub(crate) fn version_expiry_member(target: &Target, generation: Generation) -> String {
    format!("{}\0{generation}", expiry_member(target))
}

/// A member of `e:{t}`.
pub(crate) fn expiry_member(target: &Target) -> String {
    format!("{}/{}", target.bucket, target.name)
}
