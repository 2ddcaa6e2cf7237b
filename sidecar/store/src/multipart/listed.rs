//! The list that completes an upload, held against the parts that are stored.

use std::collections::HashMap;

use blobstore_sidecar_core::parts::PARTS_MAX;

use super::{PartRef, state::StoredPart};
use crate::{ErrorKind, StoreError};

/// The client's list names stored parts, in order, large enough, and as they are. `composite`: the object's checksum is
/// made of theirs, which S3 does only for parts that are numbered through from 1.
pub(super) fn check(
    parts: &[PartRef],
    stored: &HashMap<u16, StoredPart>,
    part_bytes_min: u64,
    composite: bool,
) -> Result<(), StoreError> {
    if parts.is_empty() || parts.len() > usize::from(PARTS_MAX) {
        let message = format!("a list of 1 to {PARTS_MAX} parts is needed");
        return Err(StoreError::new(ErrorKind::InvalidPart, message));
    }
    if !parts.is_sorted_by(|a, b| a.number < b.number) {
        return Err(StoreError::new(ErrorKind::InvalidPartOrder, "the parts are not in ascending order"));
    }
    if composite && !parts.iter().map(|part| part.number).eq((1..).take(parts.len())) {
        let message = "parts with checksums are numbered through from 1";
        return Err(StoreError::new(ErrorKind::InvalidPartOrder, message));
    }
    for (index, part) in parts.iter().enumerate() {
        let wrong = |what: &str| {
            let message = format!("part {} {what}", part.number);
            StoreError::new(ErrorKind::InvalidPart, message)
        };
        let found = stored.get(&part.number).ok_or_else(|| wrong("is not there"))?;
        let etag = part.etag.as_deref().map(|etag| etag.trim_matches('"'));
        if etag.is_some_and(|etag| etag != found.info.etag.to_string()) {
            return Err(wrong("has another ETag"));
        }
        let same = |checksum| found.info.checksum.is_some_and(|found| found.same_value(&checksum));
        if part.checksum.is_some_and(|checksum| !same(checksum)) {
            return Err(wrong("has another checksum"));
        }
        if index + 1 < parts.len() && found.info.size < part_bytes_min {
            let message =
                format!("part {} has {} bytes: less than {part_bytes_min}", part.number, found.info.size);
            return Err(StoreError::new(ErrorKind::PartTooSmall, message));
        }
    }
    Ok(())
}
