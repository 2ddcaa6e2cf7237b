//! One S3 request at work: what it may do, and the requests of the plain lane that it makes.

use std::sync::Arc;

use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_s3::actions;
use blobstore_sidecar_s3::names::{path_of, url_encoded};
use blobstore_sidecar_s3::policy::Facts;
use http::header::{HOST, IF_MATCH};
use http::{HeaderMap, Method, Request, Response, Uri};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};

use super::access::{self, Asked};
use super::{Context, error, versions};
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
    /// The client speaks TLS.
    secure: bool,
    /// What is known of the request, where it is asked about more than its own object.
    facts: Facts,
}

/// One operation on one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation<'a> {
    pub(super) name: &'static str,
    pub(super) right: Right,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) version: bool,
}

impl<'a> Call<'a> {
    pub(super) fn of<T>(shell: &'a Arc<Shell>, request: &S3Request<T>) -> Self {
        let context = request.extensions.get::<Context>();
        let request_id = context.map(|context| context.0.request_id.clone()).unwrap_or_default();
        let proven = context.and_then(|context| context.0.who.get());
        let who = request.credentials.as_ref().map(|known| &known.access_key).or(proven).cloned();
        let facts = context.and_then(|context| context.0.facts.get()).cloned().unwrap_or_default();
        let secure = context.is_some_and(|context| context.0.caller.secure);
        Self { shell, request_id, who, secure, facts }
    }

    /// For a request that s3s has not read.
    pub(super) fn new(shell: &'a Arc<Shell>, context: &Context, who: Option<String>, facts: Facts) -> Self {
        let Context(shared) = context;
        Self { shell, request_id: shared.request_id.clone(), who, secure: shared.caller.secure, facts }
    }

    /// May this be done to one object? By its operation's name.
    pub(super) async fn allow(&self, operation: &Operation<'_>) -> S3Result<()> {
        let Operation { name, right, bucket, key, version } = *operation;
        let actions = actions::actions_of(name, version);
        let asked = Asked { right, target: Target { bucket, name: key }, key, actions: &actions };
        access::permit(self.shell, self.who.as_deref(), asked, &self.facts).await
    }

    /// Where an object is, for whoever came to this host.
    pub(super) fn location(&self, headers: &HeaderMap, bucket: &str, key: &str) -> String {
        let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let scheme = if self.secure { "https" } else { "http" };
        match self.shell.domains.bucket(host) {
            Some(_) => format!("{scheme}://{host}/{}", url_encoded(key)),
            None => format!("{scheme}://{host}{}", path_of(bucket, key)),
        }
    }

    /// A read of one object, or of one version of it.
    pub(super) async fn find(
        &self,
        method: Method,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        headers: HeaderMap,
    ) -> S3Result<Response<Body>> {
        match self.ask(method, &versions::path(bucket, key, version)?, headers, None).await {
            Err(error) => Err(self.hidden(error, bucket).await),
            found => found,
        }
    }

    /// What is not there is told only to who may list the bucket. Users with rights are told anyway: they know whom
    /// to ask.
    pub(super) async fn hidden(&self, error: S3Error, bucket: &str) -> S3Error {
        if self.who.is_some() || *error.code() != S3ErrorCode::NoSuchKey {
            return error;
        }
        let actions = actions::actions_of("ListObjectsV2", false);
        let asked =
            Asked { right: Right::List, target: Target { bucket, name: "" }, key: "", actions: &actions };
        match access::permit(self.shell, None, asked, &self.facts).await {
            Ok(()) => error,
            Err(denied) => denied,
        }
    }

    /// A write or a deletion that a condition refused: where nothing is, what it was about is not found.
    pub(super) async fn unmet(
        &self,
        (bucket, key): (&str, &str),
        asked: &HeaderMap,
        error: S3Error,
    ) -> S3Error {
        if *error.code() == S3ErrorCode::PreconditionFailed && asked.contains_key(IF_MATCH) {
            let found = self.ask(Method::HEAD, &path_of(bucket, key), HeaderMap::new(), None).await;
            if let Err(absent) = found
                && *absent.code() == S3ErrorCode::NoSuchKey
            {
                return absent;
            }
        }
        error
    }

    /// An upload that is not there may be so because its bucket is not.
    pub(super) async fn homeless(&self, bucket: &str, error: S3Error) -> S3Error {
        if *error.code() != S3ErrorCode::NoSuchUpload {
            return error;
        }
        self.bucket_exists(bucket).await.err().unwrap_or(error)
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
