//! The store as the origins need it: a trait, so that a test can put something between.

use std::sync::Arc;

use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_runtime::budget::Budget;
use blobstore_sidecar_store::{
    DeleteRequest, GetOutcome, GetRequest, HeadRequest, ObjectMeta, PutOutcome, PutRequest, Store,
    StoreError, UploadProgress,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::failure::Failure;

/// One object of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub bucket: BucketName,
    pub name: ObjectName,
}

pub type PutBody = BoxStream<'static, Result<Bytes, Failure>>;

/// What the store does for the origins.
pub trait Blobs: Send + Sync + std::fmt::Debug + 'static {
    fn get(&self, request: GetRequest) -> BoxFuture<'_, Result<GetOutcome, StoreError>>;
    fn head(&self, request: HeadRequest) -> BoxFuture<'_, Result<ObjectMeta, StoreError>>;
    fn put(&self, request: PutRequest, body: PutBody) -> BoxFuture<'_, Result<PutOutcome, StoreError>>;
    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Bytes of an upload that runs, from `at`: see [`Store::read_upload`].
    fn read_upload<'a>(
        &'a self,
        key: &'a Key,
        progress: &'a UploadProgress,
        at: u64,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>>;
    fn budget(&self) -> &Budget;
    /// What is larger is not stored.
    fn body_bytes_max(&self) -> u64;
}

impl Blobs for Store {
    fn get(&self, request: GetRequest) -> BoxFuture<'_, Result<GetOutcome, StoreError>> {
        Box::pin(Store::get(self, request))
    }

    fn head(&self, request: HeadRequest) -> BoxFuture<'_, Result<ObjectMeta, StoreError>> {
        Box::pin(Store::head(self, request))
    }

    fn put(&self, request: PutRequest, body: PutBody) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        Box::pin(Store::put(self, request, body))
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Store::delete(self, request).await.map(|_| ()) })
    }

    fn read_upload<'a>(
        &'a self,
        key: &'a Key,
        progress: &'a UploadProgress,
        at: u64,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(Store::read_upload(self, &key.bucket, &key.name, progress, at))
    }

    fn budget(&self) -> &Budget {
        Store::budget(self)
    }

    fn body_bytes_max(&self) -> u64 {
        self.options().limits.body_bytes_max
    }
}

/// Shared by everything that works for the origins.
pub(crate) type SharedBlobs = Arc<dyn Blobs>;
