//! Every operation of S3 that is served, one line each; the rest answers `NotImplemented` by itself.

use std::sync::Arc;

use blobstore_sidecar_s3::S3ErrorCode;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::call::Call;
use super::{
    attributes, bucket, copy, defaults, delete, documents, listing, multipart, object, openness, tagging,
    uploads, versions,
};
use crate::shell::Shell;

/// The S3 API over the plain lane.
#[derive(Debug)]
pub(super) struct Translator(pub(super) Arc<Shell>);

type Answer<T> = S3Result<S3Response<T>>;

#[async_trait::async_trait]
impl S3 for Translator {
    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        let call = Call::of(&self.0, &req);
        listing::buckets(call, req).await
    }
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        let call = Call::of(&self.0, &req);
        bucket::create(call, req).await
    }
    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        let call = Call::of(&self.0, &req);
        bucket::head(call, req).await
    }
    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        let call = Call::of(&self.0, &req);
        bucket::delete(call, req).await
    }
    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> Answer<GetBucketLocationOutput> {
        let call = Call::of(&self.0, &req);
        bucket::location(call, req).await
    }
    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        let call = Call::of(&self.0, &req);
        listing::v1(call, req).await
    }
    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        let call = Call::of(&self.0, &req);
        listing::v2(call, req).await
    }
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let call = Call::of(&self.0, &req);
        object::put(call, req).await
    }
    async fn post_object(&self, req: S3Request<PostObjectInput>) -> Answer<PostObjectOutput> {
        let call = Call::of(&self.0, &req);
        object::post(call, req).await
    }
    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let call = Call::of(&self.0, &req);
        copy::object(call, req).await
    }
    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let call = Call::of(&self.0, &req);
        multipart::create(call, req).await
    }
    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let call = Call::of(&self.0, &req);
        multipart::put_part(call, req).await
    }
    async fn upload_part_copy(&self, req: S3Request<UploadPartCopyInput>) -> Answer<UploadPartCopyOutput> {
        let call = Call::of(&self.0, &req);
        multipart::copy_part(call, req).await
    }
    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let call = Call::of(&self.0, &req);
        multipart::complete(call, req).await
    }
    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        let call = Call::of(&self.0, &req);
        multipart::abort(call, req).await
    }
    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        let call = Call::of(&self.0, &req);
        uploads::parts(call, req).await
    }
    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        let call = Call::of(&self.0, &req);
        uploads::open(call, req).await
    }
    async fn put_bucket_cors(&self, req: S3Request<PutBucketCorsInput>) -> Answer<PutBucketCorsOutput> {
        let call = Call::of(&self.0, &req);
        documents::put_cors(call, req).await
    }
    async fn get_bucket_cors(&self, req: S3Request<GetBucketCorsInput>) -> Answer<GetBucketCorsOutput> {
        let call = Call::of(&self.0, &req);
        documents::get_cors(call, req).await
    }
    async fn delete_bucket_cors(
        &self,
        req: S3Request<DeleteBucketCorsInput>,
    ) -> Answer<DeleteBucketCorsOutput> {
        let call = Call::of(&self.0, &req);
        documents::delete_cors(call, &req.input.bucket).await
    }
    async fn put_bucket_lifecycle_configuration(
        &self,
        req: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> Answer<PutBucketLifecycleConfigurationOutput> {
        let call = Call::of(&self.0, &req);
        documents::put_lifecycle(call, req).await
    }
    async fn get_bucket_lifecycle_configuration(
        &self,
        req: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> Answer<GetBucketLifecycleConfigurationOutput> {
        let call = Call::of(&self.0, &req);
        documents::get_lifecycle(call, req).await
    }
    async fn delete_bucket_lifecycle(
        &self,
        req: S3Request<DeleteBucketLifecycleInput>,
    ) -> Answer<DeleteBucketLifecycleOutput> {
        let call = Call::of(&self.0, &req);
        documents::delete_lifecycle(call, &req.input.bucket).await
    }
    async fn put_bucket_policy(&self, req: S3Request<PutBucketPolicyInput>) -> Answer<PutBucketPolicyOutput> {
        let call = Call::of(&self.0, &req);
        openness::put_policy(call, req).await
    }
    async fn get_bucket_policy(&self, req: S3Request<GetBucketPolicyInput>) -> Answer<GetBucketPolicyOutput> {
        let call = Call::of(&self.0, &req);
        openness::get_policy(call, req).await
    }
    async fn delete_bucket_policy(
        &self,
        req: S3Request<DeleteBucketPolicyInput>,
    ) -> Answer<DeleteBucketPolicyOutput> {
        let call = Call::of(&self.0, &req);
        openness::delete_policy(call, &req.input.bucket).await
    }
    async fn get_bucket_policy_status(
        &self,
        req: S3Request<GetBucketPolicyStatusInput>,
    ) -> Answer<GetBucketPolicyStatusOutput> {
        let call = Call::of(&self.0, &req);
        openness::policy_status(call, req).await
    }
    async fn put_bucket_tagging(
        &self,
        req: S3Request<PutBucketTaggingInput>,
    ) -> Answer<PutBucketTaggingOutput> {
        let call = Call::of(&self.0, &req);
        documents::put_tags(call, req).await
    }
    async fn get_bucket_tagging(
        &self,
        req: S3Request<GetBucketTaggingInput>,
    ) -> Answer<GetBucketTaggingOutput> {
        let call = Call::of(&self.0, &req);
        documents::get_tags(call, req).await
    }
    async fn delete_bucket_tagging(
        &self,
        req: S3Request<DeleteBucketTaggingInput>,
    ) -> Answer<DeleteBucketTaggingOutput> {
        let call = Call::of(&self.0, &req);
        documents::delete_tags(call, &req.input.bucket).await
    }
    async fn get_object_attributes(
        &self,
        req: S3Request<GetObjectAttributesInput>,
    ) -> Answer<GetObjectAttributesOutput> {
        let call = Call::of(&self.0, &req);
        attributes::get(call, req).await
    }
    async fn get_object_tagging(
        &self,
        req: S3Request<GetObjectTaggingInput>,
    ) -> Answer<GetObjectTaggingOutput> {
        let call = Call::of(&self.0, &req);
        tagging::get(call, req).await
    }
    async fn put_object_tagging(
        &self,
        req: S3Request<PutObjectTaggingInput>,
    ) -> Answer<PutObjectTaggingOutput> {
        let call = Call::of(&self.0, &req);
        let tags = tagging::pairs(&req.input.tagging.tag_set);
        tagging::set(call, (&req.input.bucket, &req.input.key, req.input.version_id.as_deref()), tags).await
    }
    async fn delete_object_tagging(
        &self,
        req: S3Request<DeleteObjectTaggingInput>,
    ) -> Answer<DeleteObjectTaggingOutput> {
        let call = Call::of(&self.0, &req);
        tagging::set(call, (&req.input.bucket, &req.input.key, req.input.version_id.as_deref()), Vec::new())
            .await
    }
    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let call = Call::of(&self.0, &req);
        object::get(call, req).await
    }
    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let call = Call::of(&self.0, &req);
        object::head(call, req).await
    }
    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let call = Call::of(&self.0, &req);
        delete::one(call, req).await
    }
    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        let call = Call::of(&self.0, &req);
        delete::many(call, req).await
    }
    async fn get_object_acl(&self, req: S3Request<GetObjectAclInput>) -> Answer<GetObjectAclOutput> {
        let call = Call::of(&self.0, &req);
        defaults::object_acl(call, req).await
    }
    async fn get_bucket_encryption(
        &self,
        req: S3Request<GetBucketEncryptionInput>,
    ) -> Answer<GetBucketEncryptionOutput> {
        let call = Call::of(&self.0, &req);
        defaults::absent(call, &req.input.bucket, S3ErrorCode::ServerSideEncryptionConfigurationNotFoundError)
            .await
    }
    async fn get_bucket_replication(
        &self,
        req: S3Request<GetBucketReplicationInput>,
    ) -> Answer<GetBucketReplicationOutput> {
        let call = Call::of(&self.0, &req);
        defaults::absent(call, &req.input.bucket, S3ErrorCode::ReplicationConfigurationNotFoundError).await
    }
    async fn get_bucket_website(
        &self,
        req: S3Request<GetBucketWebsiteInput>,
    ) -> Answer<GetBucketWebsiteOutput> {
        let call = Call::of(&self.0, &req);
        defaults::absent(call, &req.input.bucket, S3ErrorCode::NoSuchWebsiteConfiguration).await
    }
    async fn get_bucket_ownership_controls(
        &self,
        req: S3Request<GetBucketOwnershipControlsInput>,
    ) -> Answer<GetBucketOwnershipControlsOutput> {
        let call = Call::of(&self.0, &req);
        openness::ownership(call, req).await
    }
    async fn put_bucket_ownership_controls(
        &self,
        req: S3Request<PutBucketOwnershipControlsInput>,
    ) -> Answer<PutBucketOwnershipControlsOutput> {
        let call = Call::of(&self.0, &req);
        openness::put_ownership(call, req).await
    }
    async fn delete_bucket_ownership_controls(
        &self,
        req: S3Request<DeleteBucketOwnershipControlsInput>,
    ) -> Answer<DeleteBucketOwnershipControlsOutput> {
        let call = Call::of(&self.0, &req);
        openness::delete_ownership(call, &req.input.bucket).await
    }
    async fn get_object_lock_configuration(
        &self,
        req: S3Request<GetObjectLockConfigurationInput>,
    ) -> Answer<GetObjectLockConfigurationOutput> {
        let call = Call::of(&self.0, &req);
        defaults::absent(call, &req.input.bucket, S3ErrorCode::ObjectLockConfigurationNotFoundError).await
    }
    async fn get_object_retention(
        &self,
        req: S3Request<GetObjectRetentionInput>,
    ) -> Answer<GetObjectRetentionOutput> {
        let call = Call::of(&self.0, &req);
        defaults::absent(call, &req.input.bucket, S3ErrorCode::NoSuchObjectLockConfiguration).await
    }
    async fn get_object_legal_hold(
        &self,
        req: S3Request<GetObjectLegalHoldInput>,
    ) -> Answer<GetObjectLegalHoldOutput> {
        let call = Call::of(&self.0, &req);
        defaults::absent(call, &req.input.bucket, S3ErrorCode::NoSuchObjectLockConfiguration).await
    }
    async fn get_public_access_block(
        &self,
        req: S3Request<GetPublicAccessBlockInput>,
    ) -> Answer<GetPublicAccessBlockOutput> {
        let call = Call::of(&self.0, &req);
        openness::get_block(call, req).await
    }
    async fn put_public_access_block(
        &self,
        req: S3Request<PutPublicAccessBlockInput>,
    ) -> Answer<PutPublicAccessBlockOutput> {
        let call = Call::of(&self.0, &req);
        openness::put_block(call, req).await
    }
    async fn delete_public_access_block(
        &self,
        req: S3Request<DeletePublicAccessBlockInput>,
    ) -> Answer<DeletePublicAccessBlockOutput> {
        let call = Call::of(&self.0, &req);
        openness::delete_block(call, &req.input.bucket).await
    }
    async fn get_bucket_accelerate_configuration(
        &self,
        req: S3Request<GetBucketAccelerateConfigurationInput>,
    ) -> Answer<GetBucketAccelerateConfigurationOutput> {
        let call = Call::of(&self.0, &req);
        defaults::empty(call, &req.input.bucket).await
    }
    async fn get_bucket_logging(
        &self,
        req: S3Request<GetBucketLoggingInput>,
    ) -> Answer<GetBucketLoggingOutput> {
        let call = Call::of(&self.0, &req);
        defaults::empty(call, &req.input.bucket).await
    }
    async fn get_bucket_notification_configuration(
        &self,
        req: S3Request<GetBucketNotificationConfigurationInput>,
    ) -> Answer<GetBucketNotificationConfigurationOutput> {
        let call = Call::of(&self.0, &req);
        defaults::empty(call, &req.input.bucket).await
    }
    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> Answer<GetBucketVersioningOutput> {
        let call = Call::of(&self.0, &req);
        versions::get_state(call, req).await
    }
    async fn put_bucket_versioning(
        &self,
        req: S3Request<PutBucketVersioningInput>,
    ) -> Answer<PutBucketVersioningOutput> {
        let call = Call::of(&self.0, &req);
        versions::put_state(call, req).await
    }
    async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> Answer<ListObjectVersionsOutput> {
        let call = Call::of(&self.0, &req);
        versions::list(call, req).await
    }
    async fn get_bucket_request_payment(
        &self,
        req: S3Request<GetBucketRequestPaymentInput>,
    ) -> Answer<GetBucketRequestPaymentOutput> {
        let call = Call::of(&self.0, &req);
        defaults::payment(call, &req.input.bucket).await
    }
    async fn get_bucket_acl(&self, req: S3Request<GetBucketAclInput>) -> Answer<GetBucketAclOutput> {
        let call = Call::of(&self.0, &req);
        defaults::bucket_acl(call, &req.input.bucket).await
    }
    async fn put_bucket_acl(&self, req: S3Request<PutBucketAclInput>) -> Answer<PutBucketAclOutput> {
        let call = Call::of(&self.0, &req);
        defaults::private_acl(&req.headers, req.input.access_control_policy.as_ref())?;
        defaults::empty(call, &req.input.bucket).await
    }
    async fn put_object_acl(&self, req: S3Request<PutObjectAclInput>) -> Answer<PutObjectAclOutput> {
        let call = Call::of(&self.0, &req);
        defaults::private_acl(&req.headers, req.input.access_control_policy.as_ref())?;
        defaults::empty(call, &req.input.bucket).await
    }
}
