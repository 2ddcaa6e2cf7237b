//! Deletes over S3: one object, or many with an answer each.

use blobstore_sidecar_s3::names;
use futures::StreamExt as _;
use http::header::IF_MATCH;
use http::{HeaderMap, Method, StatusCode};
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
    ObjectIdentifier,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::call::{Call, Operation, object_name};
use super::object::pass;
use super::versions;
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
    let path = versions::path(&input.bucket, &input.key, input.version_id.as_deref())?;
    let gone = call.ask(Method::DELETE, &path, asked.clone(), None).await;
    let gone = match gone {
        Ok(gone) => gone,
        Err(refused) => return Err(call.unmet((&input.bucket, &input.key), &asked, refused).await),
    };
    let mut response = S3Response::with_status(DeleteObjectOutput::default(), StatusCode::NO_CONTENT);
    versions::pass(gone.headers(), &mut response.headers);
    Ok(response)
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
    let outcomes: Vec<(ObjectIdentifier, S3Result<HeaderMap>)> = futures::stream::iter(delete.objects)
        .map(|object| async move {
            let outcome = delete_one(call, bucket, &object).await;
            (object, outcome)
        })
        .buffered(DELETES_CONCURRENT_MAX)
        .collect()
        .await;
    let quiet = delete.quiet.unwrap_or_default();
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (object, outcome) in outcomes {
        match outcome {
            Ok(_) if quiet => {}
            Ok(told) => deleted.push(shown(object, &told)),
            Err(error) => errors.push(s3s::dto::Error {
                key: Some(shown_key(&object.key)),
                code: Some(error.code().as_str().to_owned()),
                message: error.message().map(str::to_owned),
                version_id: object.version_id,
            }),
        }
    }
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors),
        ..Default::default()
    }))
}

fn shown_key(key: &str) -> String {
    names::shown(key, false)
}

/// A deletion, by what the plain lane told of it.
fn shown(object: ObjectIdentifier, told: &HeaderMap) -> DeletedObject {
    let marker = versions::is_marker(told);
    DeletedObject {
        delete_marker: marker.then_some(true),
        delete_marker_version_id: versions::version_of(told).filter(|_| marker),
        key: Some(shown_key(&object.key)),
        version_id: object.version_id,
    }
}

async fn delete_one(call: &Call<'_>, bucket: &str, object: &ObjectIdentifier) -> S3Result<HeaderMap> {
    let (key, id) = (object.key.as_str(), object.version_id.as_deref());
    object_name(key)?;
    let version = id.is_some();
    let deed = Operation { name: "DeleteObject", right: Right::Delete, bucket, key, version };
    call.allow(&deed).await?;
    let mut asked = HeaderMap::new();
    if let Some(value) = object.e_tag.as_ref().and_then(|etag| etag.to_http_header().ok()) {
        asked.insert(IF_MATCH, value);
    }
    let gone = call.ask(Method::DELETE, &versions::path(bucket, key, id)?, asked.clone(), None).await;
    match gone {
        Ok(gone) => Ok(gone.into_parts().0.headers),
        Err(refused) => Err(call.unmet((bucket, key), &asked, refused).await),
    }
}
