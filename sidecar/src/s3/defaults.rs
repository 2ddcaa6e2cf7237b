//! What a bucket answers that nobody has configured: what AWS answers for a bucket without that configuration.

use s3s::dto::{
    AccessControlPolicy, GetBucketAclOutput, GetBucketRequestPaymentOutput, GetObjectAclInput,
    GetObjectAclOutput, Grant, Grantee, Payer, Permission, PutObjectAclInput, PutObjectAclOutput, Type,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use http::{HeaderMap, Method, StatusCode};

use super::call::Call;
use super::headers;
use super::listing::owner;
use blobstore_sidecar_s3::S3ErrorCode;

/// The refusal for a configuration that is not there, once the bucket is known to be.
pub(super) async fn absent<T>(call: Call<'_>, bucket: &str, code: S3ErrorCode) -> S3Result<T> {
    call.bucket_exists(bucket).await?;
    let mut error = S3Error::new(code);
    error.set_status_code(StatusCode::NOT_FOUND);
    Err(error)
}

/// An empty document.
pub(super) async fn empty<T: Default>(call: Call<'_>, bucket: &str) -> S3Result<S3Response<T>> {
    call.bucket_exists(bucket).await?;
    Ok(S3Response::new(T::default()))
}

pub(super) async fn payment(
    call: Call<'_>,
    bucket: &str,
) -> S3Result<S3Response<GetBucketRequestPaymentOutput>> {
    call.bucket_exists(bucket).await?;
    let payer = Some(Payer::from_static(Payer::BUCKET_OWNER));
    Ok(S3Response::new(GetBucketRequestPaymentOutput { payer }))
}

fn full_control() -> Vec<Grant> {
    let owner = owner(None);
    let grantee = Grantee {
        display_name: owner.display_name,
        id: owner.id,
        email_address: None,
        type_: Type::from_static(Type::CANONICAL_USER),
        uri: None,
    };
    let permission = Some(Permission::from_static(Permission::FULL_CONTROL));
    vec![Grant { grantee: Some(grantee), permission }]
}

pub(super) async fn bucket_acl(call: Call<'_>, bucket: &str) -> S3Result<S3Response<GetBucketAclOutput>> {
    call.bucket_exists(bucket).await?;
    Ok(S3Response::new(GetBucketAclOutput { grants: Some(full_control()), owner: Some(owner(None)) }))
}

pub(super) async fn object_acl(
    call: Call<'_>,
    request: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let GetObjectAclInput { bucket, key, version_id, .. } = request.input;
    call.find(Method::HEAD, &bucket, &key, version_id.as_deref(), HeaderMap::new()).await?;
    Ok(S3Response::new(GetObjectAclOutput {
        grants: Some(full_control()),
        owner: Some(owner(None)),
        ..Default::default()
    }))
}

/// Setting an access control list: fine when it only says what holds anyway.
pub(super) fn private_acl(headers: &HeaderMap, document: Option<&AccessControlPolicy>) -> S3Result<()> {
    let refusal = S3ErrorCode::AccessControlListNotSupported;
    headers::lists(headers, refusal.clone())?;
    let own = owner(None).id;
    let grants = document.map(|document| document.grants.as_deref().unwrap_or_default());
    let only_own = |grants: &[Grant]| {
        grants.iter().all(|grant| grant.grantee.as_ref().is_some_and(|grantee| grantee.id == own))
    };
    match (headers.contains_key("x-amz-acl"), grants) {
        (true, None) => Ok(()),
        (false, None) => Err(S3Error::new(S3ErrorCode::MissingSecurityHeader)),
        (false, Some(grants)) if only_own(grants) => Ok(()),
        _ => Err(S3Error::new(refusal)),
    }
}

pub(super) async fn set_object_acl(
    call: Call<'_>,
    request: S3Request<PutObjectAclInput>,
) -> S3Result<S3Response<PutObjectAclOutput>> {
    private_acl(&request.headers, request.input.access_control_policy.as_ref())?;
    let PutObjectAclInput { bucket, key, version_id, .. } = request.input;
    call.find(Method::HEAD, &bucket, &key, version_id.as_deref(), HeaderMap::new()).await?;
    Ok(S3Response::new(PutObjectAclOutput::default()))
}

/// Locks of objects, where no bucket has any.
pub(super) async fn no_lock<T>(call: Call<'_>, bucket: &str) -> S3Result<T> {
    call.bucket_exists(bucket).await?;
    Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"))
}

/// Setting what holds anyway. `other`: it asks for more.
pub(super) async fn unchanged<T: Default>(
    call: Call<'_>,
    bucket: &str,
    other: bool,
) -> S3Result<S3Response<T>> {
    if other {
        return Err(s3_error!(NotImplemented, "This configuration is not implemented"));
    }
    empty(call, bucket).await
}

/// Removing what is not there.
pub(super) async fn gone<T: Default>(call: Call<'_>, bucket: &str) -> S3Result<S3Response<T>> {
    call.bucket_exists(bucket).await?;
    Ok(S3Response::with_status(T::default(), StatusCode::NO_CONTENT))
}
