//! What a bucket is configured with: cross-origin rules and tags. Each is one small document that the store keeps with
//! the bucket. Who may do what is in `openness.rs`, what ends by itself in `lifecycle.rs`.

use blobstore_sidecar_s3::{S3ErrorCode, cors};
use http::StatusCode;
use s3s::dto::{
    CORSRule, GetBucketCorsInput, GetBucketCorsOutput, GetBucketTaggingInput, GetBucketTaggingOutput,
    PutBucketCorsInput, PutBucketCorsOutput, PutBucketTaggingInput, PutBucketTaggingOutput, Tag,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::{Call, bucket_name};
use super::{error, tagging};
use crate::lane;
use crate::wire::ask::Ask;

pub(crate) const CORS: &str = "cors";
pub(super) const TAGS: &str = "tagging";
/// S3's own limits.
const CORS_RULES_MAX: usize = 100;
const TAGS_MAX: usize = 50;

pub(super) type Answer<T> = S3Result<S3Response<T>>;

impl Call<'_> {
    pub(super) async fn document(&self, bucket: &str, name: &str) -> S3Result<Option<String>> {
        let bucket = bucket_name(bucket)?;
        let info = self.shell.store.get_bucket(&bucket).await;
        let info =
            info.map_err(|error| error::from_api(lane::refusal(error, bucket.as_str(), &self.request_id)))?;
        Ok(info.document(name).map(str::to_owned))
    }

    pub(super) async fn set_document(&self, bucket: &str, name: &str, text: Option<String>) -> S3Result<()> {
        bucket_name(bucket)?;
        let ask = Ask::SetDocument { bucket: bucket.to_owned(), name: name.to_owned(), text };
        self.owner(ask).await.map(drop)
    }

    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        bucket: &str,
        name: &str,
        absent: S3ErrorCode,
    ) -> S3Result<T> {
        let text = self.document(bucket, name).await?.ok_or_else(|| not_there(absent))?;
        serde_json::from_str(&text).map_err(S3Error::internal_error)
    }

    pub(super) async fn write<T: Serialize + Sync>(
        &self,
        bucket: &str,
        name: &str,
        value: &T,
    ) -> S3Result<()> {
        let text = serde_json::to_string(value).map_err(S3Error::internal_error)?;
        self.set_document(bucket, name, Some(text)).await
    }
}

pub(super) fn not_there(code: S3ErrorCode) -> S3Error {
    let mut error = S3Error::new(code);
    error.set_status_code(StatusCode::NOT_FOUND);
    error
}

/// Removing what is not there succeeds.
pub(super) async fn delete<T: Default>(call: Call<'_>, bucket: &str, name: &str) -> Answer<T> {
    call.set_document(bucket, name, None).await?;
    Ok(S3Response::with_status(T::default(), StatusCode::NO_CONTENT))
}

pub(super) async fn delete_cors<T: Default>(call: Call<'_>, bucket: &str) -> Answer<T> {
    delete(call, bucket, CORS).await
}

pub(super) async fn delete_tags<T: Default>(call: Call<'_>, bucket: &str) -> Answer<T> {
    delete(call, bucket, TAGS).await
}

pub(super) async fn put_cors(
    call: Call<'_>,
    request: S3Request<PutBucketCorsInput>,
) -> Answer<PutBucketCorsOutput> {
    let PutBucketCorsInput { bucket, cors_configuration, .. } = request.input;
    let rules = cors_configuration.cors_rules;
    if rules.is_empty() || rules.len() > CORS_RULES_MAX {
        return Err(s3_error!(MalformedXML));
    }
    if let Some(problem) = cors::problem(&rules) {
        return Err(s3_error!(InvalidRequest, "{problem}"));
    }
    call.write(&bucket, CORS, &rules).await?;
    Ok(S3Response::new(PutBucketCorsOutput::default()))
}

pub(super) async fn get_cors(
    call: Call<'_>,
    request: S3Request<GetBucketCorsInput>,
) -> Answer<GetBucketCorsOutput> {
    let absent = S3ErrorCode::NoSuchCORSConfiguration;
    let rules: Vec<CORSRule> = call.read(&request.input.bucket, CORS, absent).await?;
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(rules) }))
}

/// Tags that a bucket may have.
pub(super) fn check_tags(tags: &[Tag]) -> S3Result<()> {
    if tags.len() > TAGS_MAX {
        return Err(error::custom(
            "BadRequest",
            StatusCode::BAD_REQUEST,
            "Bucket tag count cannot be greater than 50",
        ));
    }
    tagging::check_each(&tagging::pairs(tags)?)
}

pub(super) async fn put_tags(
    call: Call<'_>,
    request: S3Request<PutBucketTaggingInput>,
) -> Answer<PutBucketTaggingOutput> {
    let PutBucketTaggingInput { bucket, tagging: given, .. } = request.input;
    check_tags(&given.tag_set)?;
    if given.tag_set.is_empty() {
        return delete(call, &bucket, TAGS).await;
    }
    call.write(&bucket, TAGS, &given.tag_set).await?;
    let mut response = S3Response::new(PutBucketTaggingOutput::default());
    response.extensions.insert(StatusCode::NO_CONTENT);
    Ok(response)
}

pub(super) async fn get_tags(
    call: Call<'_>,
    request: S3Request<GetBucketTaggingInput>,
) -> Answer<GetBucketTaggingOutput> {
    let tag_set: Vec<Tag> = call.read(&request.input.bucket, TAGS, S3ErrorCode::NoSuchTagSet).await?;
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set }))
}
