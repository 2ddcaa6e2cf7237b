//! One S3 request at work: what it may do, and the requests of the plain lane that it makes.

use std::sync::Arc;

use blobstore_sidecar_core::key::{BucketName, ObjectName};
use http::{HeaderMap, Method, Request, Response, Uri};
use s3s::{S3Request, S3Result, s3_error};

use super::{Context, access, error};
use crate::auth::{Right, Target};
use crate::body::{Body, RequestBody};
use crate::error::ApiError;
use crate::lane;
use crate::shell::Shell;
use crate::wire::ask::{Ask, Told};

/// The shell, and who asks.
pub(super) struct Call<'a> {
    pub(super) shell: &'a Arc<Shell>,
    pub(super) request_id: String,
    /// The access key that signed.
    pub(super) who: Option<String>,
}

impl<'a> Call<'a> {
    pub(super) fn of<T>(shell: &'a Arc<Shell>, request: &S3Request<T>) -> Self {
        let context = request.extensions.get::<Context>();
        let request_id = context.map(|context| context.0.request_id.clone()).unwrap_or_default();
        let who = request.credentials.as_ref().map(|known| known.access_key.clone());
        Self { shell, request_id, who }
    }

    pub(super) fn allow(&self, right: Right, bucket: &str, name: &str) -> S3Result<()> {
        access::allow(self.shell, self.who.as_deref(), right, Target { bucket, name })
    }

    /// One request of the plain lane, served here or by its owner. Refusals come back as errors.
    pub(super) async fn lane(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Option<RequestBody>,
    ) -> Result<Response<Body>, ApiError> {
        let uri: Uri =
            path.parse().map_err(|_| ApiError::bad_request("InvalidURI", "the key makes no URI"))?;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let (head, ()) = request.into_parts();
        let body = body.unwrap_or_else(RequestBody::none);
        Box::pin(lane::inside(self.shell, &head, &self.request_id, body)).await
    }

    /// The same, with the error as S3 tells it.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Option<RequestBody>,
    ) -> S3Result<Response<Body>> {
        self.lane(method, path, headers, body).await.map_err(error::from_api)
    }

    /// A small operation at the object's owner.
    pub(super) async fn owner(&self, ask: Ask) -> S3Result<Told> {
        Box::pin(lane::ask(self.shell, &self.request_id, &ask)).await.map_err(error::from_api)
    }

    pub(super) async fn bucket_exists(&self, bucket: &str) -> S3Result<()> {
        self.ask(Method::HEAD, &format!("/{bucket}"), HeaderMap::new(), None).await.map(drop)
    }
}

pub(super) fn bucket_name(name: &str) -> S3Result<BucketName> {
    BucketName::parse(name).map_err(|_| s3_error!(InvalidBucketName))
}

pub(super) fn object_name(name: &str) -> S3Result<ObjectName> {
    use blobstore_sidecar_core::key::NameError;
    ObjectName::parse(name).map_err(|error| match error {
        NameError::TooLong => s3_error!(KeyTooLongError),
        NameError::Empty | NameError::Nul | NameError::Bucket => s3_error!(InvalidArgument, "{error}"),
    })
}
