//! A store with something in between: what a test does not ask for is the store's own.

use std::sync::{Arc, Mutex};

use blobstore_sidecar_origins::{Blobs, Key, PutBody};
use blobstore_sidecar_runtime::budget::Budget;
use blobstore_sidecar_store::{
    DeleteRequest, ErrorKind, GetOutcome, GetRequest, HeadRequest, ObjectMeta, PutOutcome, PutRequest, Store,
    StoreError, UploadProgress,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::sync::{Notify, oneshot};

#[derive(Debug)]
pub(crate) struct Between {
    pub(crate) store: Store,
    /// It is full: an upload ends after so many bytes.
    pub(crate) takes: Option<usize>,
    /// The first answer to a read arrives late.
    pub(crate) late: Mutex<Option<Late>>,
}

#[derive(Debug)]
pub(crate) struct Late {
    /// Told when the store has answered.
    pub(crate) asked: Arc<Notify>,
    /// Who asked hears of it then.
    pub(crate) answer: oneshot::Receiver<()>,
}

impl Between {
    pub(crate) fn of(store: &Store) -> Self {
        Self { store: store.clone(), takes: None, late: Mutex::default() }
    }
}

impl Blobs for Between {
    fn get(&self, request: GetRequest) -> BoxFuture<'_, Result<GetOutcome, StoreError>> {
        let late = self.late.lock().expect("nobody panicked").take();
        Box::pin(async move {
            let found = Blobs::get(&self.store, request).await;
            if let Some(Late { asked, answer }) = late {
                asked.notify_one();
                answer.await.expect("the test goes on");
            }
            found
        })
    }
    fn head(&self, request: HeadRequest) -> BoxFuture<'_, Result<ObjectMeta, StoreError>> {
        Blobs::head(&self.store, request)
    }
    fn put(&self, request: PutRequest, mut body: PutBody) -> BoxFuture<'_, Result<PutOutcome, StoreError>> {
        let Some(takes) = self.takes else { return Blobs::put(&self.store, request, body) };
        Box::pin(async move {
            let mut taken = 0;
            while taken < takes
                && let Some(Ok(bytes)) = body.next().await
            {
                taken += bytes.len();
            }
            assert!(request.declared_len.is_some());
            Err(StoreError::new(ErrorKind::EngineFull, "full on purpose"))
        })
    }
    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<(), StoreError>> {
        Blobs::delete(&self.store, request)
    }
    fn read_upload<'a>(
        &'a self,
        key: &'a Key,
        progress: &'a UploadProgress,
        at: u64,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Blobs::read_upload(&self.store, key, progress, at)
    }
    fn budget(&self) -> &Budget {
        Blobs::budget(&self.store)
    }
    fn body_bytes_max(&self) -> u64 {
        Blobs::body_bytes_max(&self.store)
    }
}
