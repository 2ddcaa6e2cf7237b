//! The parts that an object was uploaded in, as they were when it was completed.

use blobstore_sidecar_core::{
    checksum::Checksum,
    etag::ETag,
    key::{BucketName, ObjectName},
    version::Version,
};

use crate::{Store, StoreError, context::Inner};

/// One part of a completed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectPart {
    pub number: u16,
    /// Where in the object its bytes begin.
    pub start: u64,
    pub size: u64,
    /// Kept where the upload was opened with an algorithm.
    pub checksum: Option<Checksum>,
}

/// Some of an object's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectParts {
    /// Of the object: parts of another one are no use.
    pub etag: ETag,
    pub size: u64,
    /// All there are. 0: the object was not uploaded in parts.
    pub count: u16,
    pub parts: Vec<ObjectPart>,
    /// There are more behind the last one.
    pub truncated: bool,
}

impl Store {
    /// At most `max` parts with numbers above `after`.
    pub async fn parts_of(
        &self,
        object: (&BucketName, &ObjectName, Option<Version>),
        after: u16,
        max: usize,
    ) -> Result<ObjectParts, StoreError> {
        self.inner.parts_of(object, after, max).await
    }
}

impl Inner {
    async fn parts_of(
        &self,
        (bucket, name, version): (&BucketName, &ObjectName, Option<Version>),
        after: u16,
        max: usize,
    ) -> Result<ObjectParts, StoreError> {
        let target = self.target(bucket, name);
        let tenure = self.owned(target.tag.slot())?;
        let Some(entry) = self.wanted(&target, &tenure, version).await? else {
            return Err(self.absent(&target, &tenure).await);
        };
        self.may_answer(&target, &tenure).await?;
        let head = &entry.record.head;
        let mut found = ObjectParts {
            etag: head.etag,
            size: head.layout.size(),
            count: 0,
            parts: Vec::new(),
            truncated: false,
        };
        let Some(list) = &entry.parts else { return Ok(found) };
        found.count = u16::try_from(list.spans().len()).unwrap_or(u16::MAX);
        let mut start = 0;
        for span in list.spans() {
            let part = ObjectPart { number: span.number, start, size: span.size, checksum: span.sum };
            start += span.size;
            if part.number <= after {
                continue;
            }
            if found.parts.len() == max {
                found.truncated = true;
                break;
            }
            found.parts.push(part);
        }
        Ok(found)
    }
}
