//! Buckets over S3: create, look at, delete, and where they are.

use blobstore_sidecar_s3::{S3ErrorCode, names};
use http::header::{HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Method, StatusCode};
use s3s::dto::{
    CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput, GetBucketLocationInput,
    GetBucketLocationOutput, HeadBucketInput, HeadBucketOutput, ObjectOwnership,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::call::Call;
use super::{documents, headers};

/// The region that clients assume when they are told none.
pub(super) const REGION: &str = "us-east-1";

pub(super) async fn create(
    call: Call<'_>,
    request: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let input = request.input;
    if !names::bucket_may_be_called(&input.bucket) {
        return Err(s3_error!(InvalidBucketName));
    }
    if input.object_lock_enabled_for_bucket.unwrap_or_default() {
        return Err(s3_error!(NotImplemented, "Object Lock is not implemented"));
    }
    let ownership = input.object_ownership.as_ref().map(ObjectOwnership::as_str);
    match ownership {
        None | Some(ObjectOwnership::BUCKET_OWNER_ENFORCED) => {}
        Some(ObjectOwnership::BUCKET_OWNER_PREFERRED | ObjectOwnership::OBJECT_WRITER) => {
            return Err(s3_error!(NotImplemented, "Access control lists are off: only BucketOwnerEnforced"));
        }
        Some(kind) => {
            return Err(s3_error!(InvalidArgument, "Invalid x-amz-object-ownership header: {kind}"));
        }
    }
    headers::lists(&request.headers, S3ErrorCode::InvalidBucketAclWithObjectOwnership)?;
    let tags = input.create_bucket_configuration.and_then(|given| given.tags).unwrap_or_default();
    documents::check_tags(&tags)?;
    let mut given = HeaderMap::new();
    given.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
    call.ask(Method::PUT, &format!("/{}", input.bucket), given, None).await?;
    if !tags.is_empty() {
        call.write(&input.bucket, documents::TAGS, &tags).await?;
    }
    let location = Some(format!("/{}", input.bucket));
    Ok(S3Response::new(CreateBucketOutput { location, ..Default::default() }))
}

pub(super) async fn head(
    call: Call<'_>,
    request: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    call.bucket_exists(&request.input.bucket).await?;
    let output = HeadBucketOutput { bucket_region: Some(REGION.to_owned()), ..Default::default() };
    Ok(S3Response::new(output))
}

pub(super) async fn delete(
    call: Call<'_>,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    call.ask(Method::DELETE, &format!("/{}", request.input.bucket), HeaderMap::new(), None).await?;
    Ok(S3Response::with_status(DeleteBucketOutput::default(), StatusCode::NO_CONTENT))
}

pub(super) async fn location(
    call: Call<'_>,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    call.bucket_exists(&request.input.bucket).await?;
    // Nothing: the region that has no constraint.
    Ok(S3Response::new(GetBucketLocationOutput::default()))
}
