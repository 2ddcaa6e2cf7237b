//! Deletes over S3: one object, or many with an answer each.

use blobstore_sidecar_s3::names::path_of;
use futures::StreamExt as _;
use http::header::IF_MATCH;
use http::{HeaderMap, Method, StatusCode};
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::call::{Call, Operation, object_name};
use super::object::pass;
use crate::auth::Right;

/// Deletions of one DeleteObjects at once: enough to hide a round trip, few enough for a busy pod.
const DELETES_CONCURRENT_MAX: usize = 16;
/// S3's own limit.
const DELETES_COUNT_MAX: usize = 1_000;

pub(super) async fn one(
    call: Call<'_>,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let S3Request { input, headers, .. } = request;
    object_name(&input.key)?;
    let mut asked = HeaderMap::new();
    pass(&headers, &mut asked, &[IF_MATCH]);
    call.ask(Method::DELETE, &path_of(&input.bucket, &input.key), asked, None).await?;
    Ok(S3Response::with_status(DeleteObjectOutput::default(), StatusCode::NO_CONTENT))
}

pub(super) async fn many(
    call: Call<'_>,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let DeleteObjectsInput { bucket, delete, .. } = request.input;
    if delete.objects.is_empty() || delete.objects.len() > DELETES_COUNT_MAX {
        return Err(s3_error!(MalformedXML));
    }
    call.bucket_exists(&bucket).await?;
    let (call, bucket) = (&call, &bucket);
    let outcomes: Vec<(String, Result<(), S3Error>)> = futures::stream::iter(delete.objects)
        .map(|object| async move {
            let outcome = delete_one(call, bucket, &object.key, object.e_tag.as_ref()).await;
            (object.key, outcome)
        })
        .buffered(DELETES_CONCURRENT_MAX)
        .collect()
        .await;
    let quiet = delete.quiet.unwrap_or_default();
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (key, outcome) in outcomes {
        match outcome {
            Ok(()) if quiet => {}
            Ok(()) => deleted.push(DeletedObject { key: Some(key), ..Default::default() }),
            Err(error) => errors.push(s3s::dto::Error {
                key: Some(key),
                code: Some(error.code().as_str().to_owned()),
                message: error.message().map(str::to_owned),
                version_id: None,
            }),
        }
    }
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors),
        ..Default::default()
    }))
}

async fn delete_one(call: &Call<'_>, bucket: &str, key: &str, etag: Option<&ETag>) -> S3Result<()> {
    object_name(key)?;
    let deed = Operation { name: "DeleteObject", right: Right::Delete, bucket, key, version: false };
    call.allow(&deed).await?;
    let mut asked = HeaderMap::new();
    if let Some(value) = etag.and_then(|etag| etag.to_http_header().ok()) {
        asked.insert(IF_MATCH, value);
    }
    call.ask(Method::DELETE, &path_of(bucket, key), asked, None).await.map(drop)
}
