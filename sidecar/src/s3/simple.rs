//! Simple requests go to the plain lane without s3s in between, which would look for some forty parameters and headers
//! that are not there. Rights, errors and answers are those of every other request.

use std::sync::Arc;

use blobstore_sidecar_s3::actions;
use blobstore_sidecar_s3::policy::Facts;
use blobstore_sidecar_s3::simple::{self, Simple};
use blobstore_sidecar_store::GetRequest;
use http::{HeaderMap, Method, Response, request};
use jiff::Timestamp;
use s3s::S3Result;

use super::access::{self, Asked};
use super::call::{Call, bucket_name, object_name};
use super::object::{MD5_BYTES_MAX, Upload, shown};
use super::sums::wants_sums;
use super::upload::Proof;
use super::{Context, Scene, expiry};
use crate::auth::{Right, Target};
use crate::body::{Body, RequestBody};
use crate::lane;
use crate::shell::Shell;

/// The request, if it is one of these and its signature is good.
pub(super) fn of<'a>(shell: &Shell, head: &'a request::Parts) -> Option<Simple<'a>> {
    if shell.hosted(&head.headers).is_some() {
        return None;
    }
    let users = shell.users();
    let secret = |access_key: &str| users.secret_of(access_key);
    let found = simple::read(&head.method, &head.uri, &head.headers, Timestamp::now(), secret)?;
    (found.length <= shell.limits.body_bytes_max).then_some(found)
}

pub(super) async fn answer(
    shell: &Arc<Shell>,
    simple: Simple<'_>,
    head: &request::Parts,
    body: RequestBody,
    context: &Context,
) -> S3Result<Response<Body>> {
    let Simple { bucket, key, access_key, length } = simple;
    let (label, operation, right) = match head.method == Method::PUT {
        true => ("s3_put", "PutObject", Right::Write),
        false => ("s3_get", "GetObject", Right::Read),
    };
    let _ = context.0.label.set(label);
    let scene =
        Scene { method: &head.method, headers: &head.headers, uri: &head.uri, caller: context.0.caller };
    let actions = actions::actions_of(operation, false);
    let asked = Asked { right, target: Target { bucket, name: &key }, key: &key, actions: &actions };
    access::permit(shell, Some(&access_key), asked, &scene).await?;
    let call = Call::new(shell, context, Some(access_key), Facts::default());
    match right {
        Right::Write => {
            let md5 = length <= MD5_BYTES_MAX;
            let upload = Upload { bucket, key: &key, headers: &head.headers, length: Some(length), md5 };
            let mut response = Response::new(Body::empty());
            *response.headers_mut() = upload.pass_on(&call, body, &Proof::default()).await?;
            Ok(response)
        }
        _ => {
            let request = GetRequest::new(bucket_name(bucket)?, object_name(&key)?);
            let mut response = match lane::at_hand(shell, &request, || true) {
                Some(found) => found.into(),
                None => call.find(Method::GET, bucket, &key, None, HeaderMap::new()).await?,
            };
            let mut headers = shown(response.headers(), wants_sums(&head.headers), &[]);
            expiry::tell(shell, bucket, &key, response.headers(), &mut headers).await;
            *response.headers_mut() = headers;
            Ok(response)
        }
    }
}
