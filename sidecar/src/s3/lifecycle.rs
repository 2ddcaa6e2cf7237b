//! Lifecycle rules over S3: what they may say, and how the store keeps them.

use blobstore_sidecar_core::key::NAME_BYTES_MAX;
use blobstore_sidecar_core::lifecycle::{
    FilterForm, LIFECYCLE_DOCUMENT, Lifecycle, LifecycleRule as Rule, RULES_MAX,
};
use blobstore_sidecar_s3::S3ErrorCode;
use s3s::dto::{
    AbortIncompleteMultipartUpload, ExpirationStatus, GetBucketLifecycleConfigurationInput,
    GetBucketLifecycleConfigurationOutput, LifecycleExpiration, LifecycleRule, LifecycleRuleAndOperator,
    LifecycleRuleFilter, NoncurrentVersionExpiration, PutBucketLifecycleConfigurationInput,
    PutBucketLifecycleConfigurationOutput, Tag, Timestamp, TimestampFormat,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::call::Call;
use super::documents::{self, Answer, not_there};
use super::listing::timestamp;
use super::tagging;

/// S3's own limit.
const RULE_ID_CHARS_MAX: usize = 255;
const DAY_SECONDS: u64 = 24 * 3_600;

pub(super) async fn delete<T: Default>(call: Call<'_>, bucket: &str) -> Answer<T> {
    documents::delete(call, bucket, LIFECYCLE_DOCUMENT).await
}

pub(super) async fn put(
    call: Call<'_>,
    request: S3Request<PutBucketLifecycleConfigurationInput>,
) -> Answer<PutBucketLifecycleConfigurationOutput> {
    let PutBucketLifecycleConfigurationInput { bucket, lifecycle_configuration, .. } = request.input;
    let rules = lifecycle_configuration.map(|configuration| configuration.rules).unwrap_or_default();
    if rules.is_empty() || rules.len() > RULES_MAX {
        return Err(s3_error!(MalformedXML));
    }
    let rules: Vec<Rule> = rules.into_iter().enumerate().map(kept).collect::<S3Result<_>>()?;
    for (index, rule) in rules.iter().enumerate() {
        if rules.iter().take(index).any(|known| known.id == rule.id) {
            return Err(s3_error!(
                InvalidArgument,
                "Rule ID must be unique. Found same ID for more than one rule"
            ));
        }
    }
    call.set_document(&bucket, LIFECYCLE_DOCUMENT, Some(Lifecycle { rules }.text())).await?;
    Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
}

const ABORTING: (&str, &str) = ("DaysAfterInitiation", "AbortIncompleteMultipartUpload");
const NONCURRENT: (&str, &str) = ("NoncurrentDays", "NoncurrentVersionExpiration");

/// Seconds of a number of days. `what`: its element and its action, for the refusal.
fn days(days: i32, (element, action): (&str, &str)) -> S3Result<u64> {
    let positive = u64::try_from(days).ok().filter(|days| *days > 0);
    positive.map(|days| days * DAY_SECONDS).ok_or_else(|| {
        s3_error!(InvalidArgument, "'{element}' for {action} action must be a positive integer")
    })
}

/// Milliseconds of a date, which must be midnight.
fn date(at: &Timestamp) -> S3Result<u64> {
    let mut text = Vec::new();
    at.format(TimestampFormat::EpochSeconds, &mut text).map_err(S3Error::internal_error)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let seconds: u64 = text.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or_default();
    if seconds == 0 || !seconds.is_multiple_of(DAY_SECONDS) {
        return Err(s3_error!(InvalidArgument, "'Date' must be at midnight GMT"));
    }
    Ok(seconds * 1_000)
}

/// Versions that a rule keeps whatever their age: S3's own limit.
const NEWER_MAX: i32 = 100;

fn refused(what: &str) -> S3Error {
    s3_error!(NotImplemented, "{what} in a lifecycle rule is not implemented")
}

/// What a rule is about.
#[derive(Default)]
struct About {
    prefix: Option<String>,
    tags: Vec<Tag>,
    size_above: Option<i64>,
    size_below: Option<i64>,
    form: FilterForm,
}

/// What a rule is about: it must say so, in one way.
fn about(filter: Option<LifecycleRuleFilter>, prefix: Option<String>) -> S3Result<About> {
    let filter = match (filter, prefix) {
        (None, None) | (Some(_), Some(_)) => return Err(s3_error!(MalformedXML)),
        (None, prefix) => return Ok(About { prefix, form: FilterForm::Bare, ..About::default() }),
        (Some(filter), None) => filter,
    };
    let LifecycleRuleFilter { and, object_size_greater_than, object_size_less_than, prefix, tag, .. } =
        filter;
    let single = About {
        prefix,
        tags: tag.into_iter().collect(),
        size_above: object_size_greater_than,
        size_below: object_size_less_than,
        form: FilterForm::Single,
    };
    match (and, single.conditions()) {
        (None, 0) => Ok(About { form: FilterForm::Empty, ..single }),
        (None, 1) => Ok(single),
        (Some(and), 0) => {
            let form = if and.prefix.is_some() { FilterForm::AndPrefix } else { FilterForm::And };
            let several = About {
                prefix: and.prefix,
                tags: and.tags.unwrap_or_default(),
                size_above: and.object_size_greater_than,
                size_below: and.object_size_less_than,
                form,
            };
            if several.conditions() < 2 { Err(s3_error!(MalformedXML)) } else { Ok(several) }
        }
        _ => Err(s3_error!(MalformedXML)),
    }
}

impl About {
    fn conditions(&self) -> usize {
        let single = [self.prefix.is_some(), self.size_above.is_some(), self.size_below.is_some()];
        self.tags.len() + single.into_iter().filter(|said| *said).count()
    }

    /// Puts the conditions into a rule, if they can be.
    fn put(self, rule: &mut Rule) -> S3Result<()> {
        rule.form = self.form;
        rule.prefix = self.prefix.unwrap_or_default();
        if rule.prefix.len() > NAME_BYTES_MAX {
            return Err(s3_error!(InvalidRequest, "The maximum size of a prefix is {NAME_BYTES_MAX}."));
        }
        rule.tags = tagging::pairs(&self.tags)?;
        for (index, (key, _)) in rule.tags.iter().enumerate() {
            if rule.tags.iter().take(index).any(|(known, _)| known == key) {
                return Err(s3_error!(InvalidRequest, "Duplicate Tag Keys are not allowed."));
            }
        }
        tagging::check_each(&rule.tags)?;
        rule.size_above = self.size_above.map(size).transpose()?;
        rule.size_below = self.size_below.map(size).transpose()?;
        if rule.size_above.zip(rule.size_below).is_some_and(|(above, below)| above >= below) {
            return Err(s3_error!(
                InvalidRequest,
                "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'."
            ));
        }
        // An upload has neither, and a delete marker neither.
        let narrow =
            [("Tags", !rule.tags.is_empty()), ("Object Size", rule.size_above.or(rule.size_below).is_some())];
        let actions = [
            ("AbortIncompleteMultipartUpload", rule.abort_after_seconds.is_some()),
            ("ExpiredObjectDeleteMarker", rule.expire_markers),
        ];
        let given =
            |all: &[(&'static str, bool)]| all.iter().find(|(_, given)| *given).map(|(name, _)| *name);
        if let Some((action, condition)) = given(&actions).zip(given(&narrow)) {
            return Err(s3_error!(InvalidRequest, "{action} cannot be specified with {condition}."));
        }
        Ok(())
    }
}

/// S3's largest object.
const SIZE_MAX: i64 = 5 << 40;

fn size(bytes: i64) -> S3Result<u64> {
    let known = Some(bytes).filter(|bytes| *bytes <= SIZE_MAX).and_then(|bytes| u64::try_from(bytes).ok());
    known.ok_or_else(|| s3_error!(InvalidRequest, "An object size in a filter is between 0 and 5 TB."))
}

/// The conditions of a rule as they came.
fn filter(rule: &Rule) -> Option<LifecycleRuleFilter> {
    let number = |size: Option<u64>| size.and_then(|size| i64::try_from(size).ok());
    let tags =
        || rule.tags.iter().map(|(key, value)| Tag { key: Some(key.clone()), value: Some(value.clone()) });
    let (above, below) = (number(rule.size_above), number(rule.size_below));
    match rule.form {
        FilterForm::Bare => None,
        FilterForm::Empty => Some(LifecycleRuleFilter::default()),
        FilterForm::Single => Some(LifecycleRuleFilter {
            object_size_greater_than: above,
            object_size_less_than: below,
            prefix: (rule.tags.is_empty() && above.or(below).is_none()).then(|| rule.prefix.clone()),
            tag: tags().next(),
            ..LifecycleRuleFilter::default()
        }),
        FilterForm::And | FilterForm::AndPrefix => Some(LifecycleRuleFilter {
            and: Some(LifecycleRuleAndOperator {
                object_size_greater_than: above,
                object_size_less_than: below,
                prefix: (rule.form == FilterForm::AndPrefix).then(|| rule.prefix.clone()),
                tags: (!rule.tags.is_empty()).then(|| tags().collect()),
            }),
            ..LifecycleRuleFilter::default()
        }),
    }
}

/// An object ends in one way only.
fn one_way(expiration: &LifecycleExpiration) -> S3Result<()> {
    let said = [
        expiration.days.is_some(),
        expiration.date.is_some(),
        expiration.expired_object_delete_marker.is_some(),
    ];
    if said.into_iter().filter(|said| *said).count() > 1 { Err(s3_error!(MalformedXML)) } else { Ok(()) }
}

/// A rule as the store keeps it. What it would not follow is refused.
fn kept((index, rule): (usize, LifecycleRule)) -> S3Result<Rule> {
    if rule.transitions.is_some_and(|all| !all.is_empty())
        || rule.noncurrent_version_transitions.is_some_and(|all| !all.is_empty())
    {
        return Err(refused("Transition"));
    }
    let id = rule.id.unwrap_or_else(|| format!("rule-{}", index + 1));
    if id.chars().count() > RULE_ID_CHARS_MAX {
        return Err(s3_error!(InvalidArgument, "ID length should not exceed allowed limit of 255"));
    }
    let enabled = match rule.status.as_str() {
        ExpirationStatus::ENABLED => true,
        ExpirationStatus::DISABLED => false,
        _ => return Err(s3_error!(MalformedXML)),
    };
    let about = about(rule.filter, rule.prefix)?;
    let expiration = rule.expiration.unwrap_or_default();
    one_way(&expiration)?;
    let abort = rule.abort_incomplete_multipart_upload.and_then(|abort| abort.days_after_initiation);
    let noncurrent = rule.noncurrent_version_expiration.unwrap_or_default();
    let newer = noncurrent.newer_noncurrent_versions;
    if newer.is_some_and(|newer| !(1..=NEWER_MAX).contains(&newer))
        || newer.is_some() && noncurrent.noncurrent_days.is_none()
    {
        return Err(s3_error!(
            InvalidArgument,
            "'NewerNoncurrentVersions' goes from 1 to 100, with 'NoncurrentDays'"
        ));
    }
    let mut kept = Rule {
        id,
        enabled,
        expire_after_seconds: expiration.days.map(|count| days(count, ("Days", "Expiration"))).transpose()?,
        expire_at_ms: expiration.date.as_ref().map(date).transpose()?,
        abort_after_seconds: abort.map(|count| days(count, ABORTING)).transpose()?,
        noncurrent_after_seconds: noncurrent
            .noncurrent_days
            .map(|count| days(count, NONCURRENT))
            .transpose()?,
        noncurrent_keep: newer.and_then(|newer| u32::try_from(newer).ok()),
        expire_markers: expiration.expired_object_delete_marker.unwrap_or_default(),
        ..Rule::default()
    };
    about.put(&mut kept)?;
    if kept.expire_after_seconds.is_none()
        && kept.expire_at_ms.is_none()
        && kept.abort_after_seconds.is_none()
        && kept.noncurrent_after_seconds.is_none()
        && expiration.expired_object_delete_marker.is_none()
    {
        return Err(s3_error!(InvalidRequest, "At least one action needs to be specified in a rule"));
    }
    Ok(kept)
}

pub(super) async fn get(
    call: Call<'_>,
    request: S3Request<GetBucketLifecycleConfigurationInput>,
) -> Answer<GetBucketLifecycleConfigurationOutput> {
    let text = call.document(&request.input.bucket, LIFECYCLE_DOCUMENT).await?;
    let lifecycle = text.as_deref().and_then(Lifecycle::parse);
    let lifecycle = lifecycle.ok_or_else(|| not_there(S3ErrorCode::NoSuchLifecycleConfiguration))?;
    let rules = lifecycle.rules.into_iter().map(shown).collect();
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput { rules: Some(rules), ..Default::default() }))
}

fn shown(rule: Rule) -> LifecycleRule {
    let whole_days = |seconds: u64| i32::try_from(seconds / DAY_SECONDS).unwrap_or(i32::MAX);
    let status = if rule.enabled { ExpirationStatus::ENABLED } else { ExpirationStatus::DISABLED };
    let (days, date) = (rule.expire_after_seconds.map(whole_days), rule.expire_at_ms.map(timestamp));
    let markers = rule.expire_markers.then_some(true);
    let some = days.is_some() || date.is_some() || markers.is_some();
    let expiration =
        some.then_some(LifecycleExpiration { days, date, expired_object_delete_marker: markers });
    LifecycleRule {
        filter: filter(&rule),
        prefix: (rule.form == FilterForm::Bare).then_some(rule.prefix),
        id: Some(rule.id),
        status: ExpirationStatus::from_static(status),
        expiration,
        abort_incomplete_multipart_upload: rule.abort_after_seconds.map(|seconds| {
            AbortIncompleteMultipartUpload { days_after_initiation: Some(whole_days(seconds)) }
        }),
        noncurrent_version_expiration: rule.noncurrent_after_seconds.map(|seconds| {
            NoncurrentVersionExpiration {
                noncurrent_days: Some(whole_days(seconds)),
                newer_noncurrent_versions: rule.noncurrent_keep.and_then(|keep| i32::try_from(keep).ok()),
            }
        }),
        noncurrent_version_transitions: None,
        transitions: None,
    }
}
