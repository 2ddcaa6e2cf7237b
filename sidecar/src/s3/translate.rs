//! Every operation of S3 that is served, one line each; the rest answers `NotImplemented` by itself.

use std::sync::Arc;

use blobstore_sidecar_s3::S3ErrorCode;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::call::Call;
use super::{
    attributes, bucket, copy, defaults, delete, documents, lifecycle, listing, multipart, object, openness,
    tagging, uploads, versions,
};
use crate::shell::Shell;

/// The S3 API over the plain lane.
#[derive(Debug)]
pub(super) struct Translator(pub(super) Arc<Shell>);

type Answer<T> = S3Result<S3Response<T>>;

/// One line an operation: its name, what comes, what goes, and who does it.
macro_rules! operations {
    ($($name:ident($input:ident) -> $output:ident = |$call:ident, $request:ident| $answer:expr;)+) => {
        #[async_trait::async_trait]
        impl S3 for Translator {
            $(async fn $name(&self, $request: S3Request<$input>) -> Answer<$output> {
                let $call = Call::of(&self.0, &$request);
                $answer
            })+
        }
    };
}

operations! {
    list_buckets(ListBucketsInput) -> ListBucketsOutput = |call, req|
        listing::buckets(call, req).await;
    create_bucket(CreateBucketInput) -> CreateBucketOutput = |call, req|
        bucket::create(call, req).await;
    head_bucket(HeadBucketInput) -> HeadBucketOutput = |call, req|
        bucket::head(call, req).await;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput = |call, req|
        bucket::delete(call, req).await;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = |call, req|
        bucket::location(call, req).await;
    list_objects(ListObjectsInput) -> ListObjectsOutput = |call, req|
        listing::v1(call, req).await;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output = |call, req|
        listing::v2(call, req).await;
    put_object(PutObjectInput) -> PutObjectOutput = |call, req|
        object::put(call, req).await;
    copy_object(CopyObjectInput) -> CopyObjectOutput = |call, req|
        copy::object(call, req).await;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput = |call, req|
        multipart::create(call, req).await;
    upload_part(UploadPartInput) -> UploadPartOutput = |call, req|
        multipart::put_part(call, req).await;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput = |call, req|
        multipart::copy_part(call, req).await;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput = |call, req|
        multipart::complete(call, req).await;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput = |call, req|
        multipart::abort(call, req).await;
    list_parts(ListPartsInput) -> ListPartsOutput = |call, req|
        uploads::parts(call, req).await;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput = |call, req|
        uploads::open(call, req).await;
    put_bucket_cors(PutBucketCorsInput) -> PutBucketCorsOutput = |call, req|
        documents::put_cors(call, req).await;
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput = |call, req|
        documents::get_cors(call, req).await;
    delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput = |call, req|
        documents::delete_cors(call, &req.input.bucket).await;
    put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput) -> PutBucketLifecycleConfigurationOutput = |call, req|
        lifecycle::put(call, req).await;
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput = |call, req|
        lifecycle::get(call, req).await;
    delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput = |call, req|
        lifecycle::delete(call, &req.input.bucket).await;
    put_bucket_policy(PutBucketPolicyInput) -> PutBucketPolicyOutput = |call, req|
        openness::put_policy(call, req).await;
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput = |call, req|
        openness::get_policy(call, req).await;
    delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput = |call, req|
        openness::delete_policy(call, &req.input.bucket).await;
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput = |call, req|
        openness::policy_status(call, req).await;
    put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput = |call, req|
        documents::put_tags(call, req).await;
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput = |call, req|
        documents::get_tags(call, req).await;
    delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput = |call, req|
        documents::delete_tags(call, &req.input.bucket).await;
    get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput = |call, req|
        attributes::get(call, req).await;
    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput = |call, req|
        tagging::get(call, req).await;
    put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput = |call, req|
        { let tags = tagging::pairs(&req.input.tagging.tag_set)?; tagging::set(call, (&req.input.bucket, &req.input.key, req.input.version_id.as_deref()), tags).await };
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput = |call, req|
        tagging::set(call, (&req.input.bucket, &req.input.key, req.input.version_id.as_deref()), Vec::new()) .await;
    get_object(GetObjectInput) -> GetObjectOutput = |call, req|
        object::get(call, req).await;
    head_object(HeadObjectInput) -> HeadObjectOutput = |call, req|
        object::head(call, req).await;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = |call, req|
        delete::one(call, req).await;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput = |call, req|
        delete::many(call, req).await;
    get_object_acl(GetObjectAclInput) -> GetObjectAclOutput = |call, req|
        defaults::object_acl(call, req).await;
    get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput = |call, req|
        defaults::absent(call, &req.input.bucket, S3ErrorCode::ServerSideEncryptionConfigurationNotFoundError) .await;
    get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput = |call, req|
        defaults::absent(call, &req.input.bucket, S3ErrorCode::ReplicationConfigurationNotFoundError).await;
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput = |call, req|
        defaults::absent(call, &req.input.bucket, S3ErrorCode::NoSuchWebsiteConfiguration).await;
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput = |call, req|
        openness::ownership(call, req).await;
    put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput = |call, req|
        openness::put_ownership(call, req).await;
    delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput) -> DeleteBucketOwnershipControlsOutput = |call, req|
        openness::delete_ownership(call, &req.input.bucket).await;
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput = |call, req|
        defaults::absent(call, &req.input.bucket, S3ErrorCode::ObjectLockConfigurationNotFoundError).await;
    get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput = |call, req|
        defaults::no_lock(call, &req.input.bucket).await;
    get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput = |call, req|
        defaults::no_lock(call, &req.input.bucket).await;
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput = |call, req|
        openness::get_block(call, req).await;
    put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput = |call, req|
        openness::put_block(call, req).await;
    delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput = |call, req|
        openness::delete_block(call, &req.input.bucket).await;
    get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput) -> GetBucketAccelerateConfigurationOutput = |call, req|
        defaults::empty(call, &req.input.bucket).await;
    get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput = |call, req|
        defaults::empty(call, &req.input.bucket).await;
    get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput = |call, req|
        defaults::empty(call, &req.input.bucket).await;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput = |call, req|
        versions::get_state(call, req).await;
    put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput = |call, req|
        versions::put_state(call, req).await;
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput = |call, req|
        versions::list(call, req).await;
    get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput = |call, req|
        defaults::payment(call, &req.input.bucket).await;
    get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput = |call, req|
        defaults::bucket_acl(call, &req.input.bucket).await;
    put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput = |call, req|
        { defaults::private_acl(&req.headers, req.input.access_control_policy.as_ref())?; defaults::empty(call, &req.input.bucket).await };
    put_object_acl(PutObjectAclInput) -> PutObjectAclOutput = |call, req|
        defaults::set_object_acl(call, req).await;
    put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput = |call, req|
        defaults::no_lock(call, &req.input.bucket).await;
    put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput = |call, req|
        defaults::no_lock(call, &req.input.bucket).await;
    put_bucket_logging(PutBucketLoggingInput) -> PutBucketLoggingOutput = |call, req|
        defaults::unchanged(call, &req.input.bucket, req.input.bucket_logging_status.logging_enabled.is_some()).await;
    put_bucket_notification_configuration(PutBucketNotificationConfigurationInput) -> PutBucketNotificationConfigurationOutput = |call, req|
        defaults::unchanged(call, &req.input.bucket, req.input.notification_configuration != NotificationConfiguration::default()).await;
    put_bucket_request_payment(PutBucketRequestPaymentInput) -> PutBucketRequestPaymentOutput = |call, req|
        defaults::unchanged(call, &req.input.bucket, req.input.request_payment_configuration.payer.as_str() != Payer::BUCKET_OWNER).await;
    delete_bucket_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput = |call, req|
        defaults::gone(call, &req.input.bucket).await;
    delete_bucket_replication(DeleteBucketReplicationInput) -> DeleteBucketReplicationOutput = |call, req|
        defaults::gone(call, &req.input.bucket).await;
    delete_bucket_website(DeleteBucketWebsiteInput) -> DeleteBucketWebsiteOutput = |call, req|
        defaults::gone(call, &req.input.bucket).await;
}
