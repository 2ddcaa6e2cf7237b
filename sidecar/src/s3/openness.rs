//! Who may reach a bucket: its policy, the block of public access, and who owns its objects.

use blobstore_sidecar_s3::S3ErrorCode;
use blobstore_sidecar_s3::policy::{POLICY_BYTES_MAX, Policy, PolicyError};
use blobstore_sidecar_store::BucketInfo;
use http::StatusCode;
use s3s::dto::{
    GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput, GetBucketPolicyInput,
    GetBucketPolicyOutput, GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput,
    GetPublicAccessBlockInput, GetPublicAccessBlockOutput, ObjectOwnership, OwnershipControls,
    OwnershipControlsRule, PolicyStatus, PublicAccessBlockConfiguration, PutBucketOwnershipControlsInput,
    PutBucketOwnershipControlsOutput, PutBucketPolicyInput, PutBucketPolicyOutput, PutPublicAccessBlockInput,
    PutPublicAccessBlockOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::call::Call;
use super::documents::{self, not_there};
use super::error::custom;

pub(crate) const POLICY: &str = "policy";
const BLOCK: &str = "public-access-block";

type Answer<T> = S3Result<S3Response<T>>;

/// Are policies that open something to everybody without effect?
pub(crate) fn is_restricted(info: &BucketInfo) -> bool {
    let Some(text) = info.document(BLOCK) else { return false };
    // What cannot be read blocks.
    let block = serde_json::from_str::<PublicAccessBlockConfiguration>(text);
    block.map_or(true, |block| block.restrict_public_buckets.unwrap_or_default())
}

pub(super) async fn put_policy(
    call: Call<'_>,
    request: S3Request<PutBucketPolicyInput>,
) -> Answer<PutBucketPolicyOutput> {
    let PutBucketPolicyInput { bucket, policy, .. } = request.input;
    if policy.len() > POLICY_BYTES_MAX {
        let message = "Policies are limited to 20 KB in size";
        return Err(custom("PolicyTooLarge", StatusCode::BAD_REQUEST, message));
    }
    call.bucket_exists(&bucket).await?;
    let parsed = Policy::parse(&policy, &bucket).map_err(|error| match error {
        PolicyError::Malformed(message) => s3_error!(MalformedPolicy, "{message}"),
        PolicyError::NotImplemented(message) => s3_error!(NotImplemented, "{message}"),
    })?;
    let block = call.document(&bucket, BLOCK).await?;
    let block = block.and_then(|text| serde_json::from_str::<PublicAccessBlockConfiguration>(&text).ok());
    if parsed.is_public() && block.is_some_and(|block| block.block_public_policy.unwrap_or_default()) {
        return Err(s3_error!(AccessDenied, "public policies are blocked by the BlockPublicPolicy setting"));
    }
    call.set_document(&bucket, POLICY, Some(policy)).await?;
    Ok(S3Response::with_status(PutBucketPolicyOutput::default(), StatusCode::NO_CONTENT))
}

pub(super) async fn get_policy(
    call: Call<'_>,
    request: S3Request<GetBucketPolicyInput>,
) -> Answer<GetBucketPolicyOutput> {
    let policy = call.document(&request.input.bucket, POLICY).await?;
    let policy = policy.ok_or_else(|| not_there(S3ErrorCode::NoSuchBucketPolicy))?;
    Ok(S3Response::new(GetBucketPolicyOutput { policy: Some(policy) }))
}

pub(super) async fn delete_policy<T: Default>(call: Call<'_>, bucket: &str) -> Answer<T> {
    documents::delete(call, bucket, POLICY).await
}

pub(super) async fn policy_status(
    call: Call<'_>,
    request: S3Request<GetBucketPolicyStatusInput>,
) -> Answer<GetBucketPolicyStatusOutput> {
    let bucket = request.input.bucket;
    let policy = call.document(&bucket, POLICY).await?;
    let policy = policy.ok_or_else(|| not_there(S3ErrorCode::NoSuchBucketPolicy))?;
    let is_public = Policy::parse(&policy, &bucket).is_ok_and(|policy| policy.is_public());
    let policy_status = Some(PolicyStatus { is_public: Some(is_public) });
    Ok(S3Response::new(GetBucketPolicyStatusOutput { policy_status }))
}

pub(super) async fn put_block(
    call: Call<'_>,
    request: S3Request<PutPublicAccessBlockInput>,
) -> Answer<PutPublicAccessBlockOutput> {
    let given = request.input.public_access_block_configuration;
    // What is left out is off, and told so.
    let on = |flag: Option<bool>| Some(flag.unwrap_or_default());
    let block = PublicAccessBlockConfiguration {
        block_public_acls: on(given.block_public_acls),
        block_public_policy: on(given.block_public_policy),
        ignore_public_acls: on(given.ignore_public_acls),
        restrict_public_buckets: on(given.restrict_public_buckets),
    };
    call.write(&request.input.bucket, BLOCK, &block).await?;
    Ok(S3Response::new(PutPublicAccessBlockOutput::default()))
}

pub(super) async fn get_block(
    call: Call<'_>,
    request: S3Request<GetPublicAccessBlockInput>,
) -> Answer<GetPublicAccessBlockOutput> {
    let absent = S3ErrorCode::Custom("NoSuchPublicAccessBlockConfiguration".into());
    let block = call.read(&request.input.bucket, BLOCK, absent).await?;
    Ok(S3Response::new(GetPublicAccessBlockOutput { public_access_block_configuration: Some(block) }))
}

pub(super) async fn delete_block<T: Default>(call: Call<'_>, bucket: &str) -> Answer<T> {
    documents::delete(call, bucket, BLOCK).await
}

/// Objects are their bucket's, whoever wrote them: access control lists are off, as in every new bucket of AWS.
pub(super) async fn ownership(
    call: Call<'_>,
    request: S3Request<GetBucketOwnershipControlsInput>,
) -> Answer<GetBucketOwnershipControlsOutput> {
    call.bucket_exists(&request.input.bucket).await?;
    let object_ownership = ObjectOwnership::from_static(ObjectOwnership::BUCKET_OWNER_ENFORCED);
    let rules = vec![OwnershipControlsRule { object_ownership }];
    Ok(S3Response::new(GetBucketOwnershipControlsOutput {
        ownership_controls: Some(OwnershipControls { rules }),
    }))
}

pub(super) async fn put_ownership(
    call: Call<'_>,
    request: S3Request<PutBucketOwnershipControlsInput>,
) -> Answer<PutBucketOwnershipControlsOutput> {
    let rules = request.input.ownership_controls.rules;
    match rules.as_slice() {
        [one] if one.object_ownership.as_str() == ObjectOwnership::BUCKET_OWNER_ENFORCED => {}
        [one] if is_ownership(&one.object_ownership) => {
            return Err(s3_error!(NotImplemented, "Access control lists are off: only BucketOwnerEnforced"));
        }
        _ => return Err(s3_error!(MalformedXML)),
    }
    call.bucket_exists(&request.input.bucket).await?;
    Ok(S3Response::new(PutBucketOwnershipControlsOutput::default()))
}

fn is_ownership(given: &ObjectOwnership) -> bool {
    [ObjectOwnership::BUCKET_OWNER_PREFERRED, ObjectOwnership::OBJECT_WRITER].contains(&given.as_str())
}

/// Back to what always holds.
pub(super) async fn delete_ownership<T: Default>(call: Call<'_>, bucket: &str) -> Answer<T> {
    call.bucket_exists(bucket).await?;
    Ok(S3Response::with_status(T::default(), StatusCode::NO_CONTENT))
}
