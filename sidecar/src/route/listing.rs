//! The queries of listings, and of deletions that go by one. Pure.

use blobstore_sidecar_core::glob::{Pattern, PatternError};
use blobstore_sidecar_core::key::{BucketName, NAME_BYTES_MAX};
use blobstore_sidecar_core::list::PAGE_ITEMS_MAX;

use super::{Bulk, Need, Parameter};
use crate::auth::Right;
use crate::error::ApiError;

/// One page of a listing, as asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    pub prefix: String,
    /// Only names that it matches; never beside a delimiter.
    pub pattern: Option<Pattern>,
    pub delimiter: Option<String>,
    /// Names after this one; a continuation token stands for one too and wins.
    pub start_after: Option<String>,
    pub continuation_token: Option<String>,
    pub keys_max: usize,
    /// Names in an XML answer are percent-encoded.
    pub encode_url: bool,
}

impl ListQuery {
    /// What every name that it can show begins with; `None`: there can be none.
    pub fn reach(&self) -> Option<&str> {
        match &self.pattern {
            Some(pattern) => pattern.head_within(&self.prefix),
            None => Some(&self.prefix),
        }
    }

    pub(super) fn need<'a>(&'a self, bucket: &'a BucketName) -> Need<'a> {
        (Right::List, bucket.as_str(), self.reach().unwrap_or(&self.prefix))
    }
}

/// A deletion of what a prefix or a pattern names. Strict: whatever is misspelt, or empty because a script's variable
/// was, must neither widen it nor make it the deletion of the bucket.
pub(super) fn found(query: &[Parameter]) -> Result<Bulk, ApiError> {
    let mut dry_run = false;
    for (name, value) in query {
        match (name.as_str(), value.as_str()) {
            ("prefix" | "pattern" | "continuation-token", "") => {
                return Err(ApiError::bad_request(
                    "InvalidArgument",
                    format!("{name} is empty: nothing is deleted"),
                ));
            }
            ("prefix" | "pattern" | "continuation-token", _) => {
                if query.iter().filter(|(other, _)| other == name).count() > 1 {
                    let message = format!("{name} stands there twice: nothing is deleted");
                    return Err(ApiError::bad_request("InvalidArgument", message));
                }
            }
            ("dry-run", "" | "true" | "1") => dry_run = true,
            ("dry-run", "false" | "0") => dry_run = false,
            _ => {
                let message = format!(
                    "DELETE of many objects takes prefix, pattern, dry-run and continuation-token, not {name}={value}"
                );
                return Err(ApiError::bad_request("InvalidArgument", message));
            }
        }
    }
    let query = list_query(query)?;
    if query.prefix.is_empty() && query.pattern.as_ref().is_none_or(|pattern| !pattern.has_literal()) {
        let message = "name what is to go: a prefix, or a pattern with a letter that stands for itself";
        return Err(ApiError::bad_request("InvalidArgument", message));
    }
    Ok(Bulk::Found { query: Box::new(query), dry_run })
}

pub(super) fn list_query(parameters: &[Parameter]) -> Result<ListQuery, ApiError> {
    let mut query = ListQuery { keys_max: PAGE_ITEMS_MAX, ..ListQuery::default() };
    for (name, value) in parameters {
        match name.as_str() {
            "prefix" => query.prefix = value.clone(),
            "pattern" => {
                let wrong = |error: PatternError| ApiError::bad_request("InvalidArgument", error.to_string());
                query.pattern = Some(Pattern::parse(value).map_err(wrong)?);
            }
            "delimiter" => query.delimiter = (!value.is_empty()).then(|| value.clone()),
            "start-after" | "marker" => query.start_after = (!value.is_empty()).then(|| value.clone()),
            "continuation-token" => query.continuation_token = Some(value.clone()),
            "encoding-type" => query.encode_url = value == "url",
            "max-keys" => {
                let count: usize = value.parse().map_err(|_| {
                    ApiError::bad_request("InvalidArgument", format!("max-keys {value:?} is not a number"))
                })?;
                query.keys_max = count.min(PAGE_ITEMS_MAX);
            }
            // list-type=1 has other fields in its answer; both carry the names that clients page by.
            _ => {}
        }
    }
    if query.pattern.is_some() && query.delimiter.is_some() {
        let message = "a listing goes by a pattern or folds at a delimiter, not both";
        return Err(ApiError::bad_request("InvalidArgument", message));
    }
    let texts = [Some(&query.prefix), query.delimiter.as_ref(), query.start_after.as_ref()];
    if texts.iter().flatten().any(|text| text.len() > NAME_BYTES_MAX || text.contains('\0')) {
        return Err(ApiError::bad_request(
            "InvalidArgument",
            format!("prefix, delimiter and start-after hold at most {NAME_BYTES_MAX} bytes and no NUL"),
        ));
    }
    Ok(query)
}
