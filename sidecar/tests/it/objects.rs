//! The suite that `object_store` holds every backend to, run over S3 against a real engine, and what it keeps to
//! itself: presigned URLs, tags, buckets that are not there.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use http::Method;
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3ConditionalPut, S3CopyIfNotExists};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector as Connector, HttpError, HttpErrorKind, HttpRequest,
    HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::integration;
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{Error, ObjectStore as _, ObjectStoreExt as _, PutOptions, PutPayload, TagSet};

use crate::process::{Dev, TOKEN};
use crate::signer::{ACCESS_KEY, element, signed};

/// hyper under object_store's client: what it brings itself is a second HTTP stack.
#[derive(Clone, Debug)]
struct Plain(Client<HttpConnector, HttpRequestBody>);

#[async_trait::async_trait]
impl HttpService for Plain {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.0.request(request).await;
        let answer = answer.map_err(|error| HttpError::new(HttpErrorKind::Request, error))?;
        let broken = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(answer.map(|body| HttpResponseBody::new(body.map_err(broken))))
    }
}

#[derive(Debug)]
struct Hyper;

impl Connector for Hyper {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Plain(Client::builder(TokioExecutor::new()).build_http())))
    }
}

const BUCKET: &str = "objects";

fn builder(dev: &Dev) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_endpoint(format!("http://{}", dev.client.address))
        .with_allow_http(true)
        .with_bucket_name(BUCKET)
        .with_region("us-east-1")
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key(TOKEN)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
        .with_http_connector(Hyper)
}

fn opened() -> (Dev, AmazonS3) {
    let dev = Dev::with_bucket(BUCKET, &[]);
    let store = builder(&dev).build().expect("a client");
    (dev, store)
}

/// R000-3: upload, download, existence, deletion; a suite that is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn object_store_puts_gets_lists_and_deletes() {
    let (dev, store) = opened();
    integration::put_get_delete_list(&store).await;
    // Wants an empty bucket; those below leave something behind.
    integration::stream_get(&store).await;
    integration::get_opts(&store).await;
    integration::put_opts(&store, true).await;
    integration::put_get_attributes(&store).await;
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn object_store_lists_in_folders_and_pages() {
    let (dev, store) = opened();
    integration::list_uses_directories_correctly(&store).await;
    integration::list_with_delimiter(&store).await;
    integration::list_with_offset_exclusivity(&store).await;
    integration::list_paginated(&store, &store).await;
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn object_store_copies_and_renames() {
    let (dev, store) = opened();
    integration::rename_and_copy(&store).await;
    integration::copy_if_not_exists(&store).await;
    integration::copy_rename_nonexistent_object(&store).await;
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn object_store_uploads_in_parts() {
    let (dev, store) = opened();
    integration::multipart(&store, &store).await;
    integration::multipart_with_opts(&store, &store).await;
    integration::multipart_put_part_out_of_order(&store, &store).await;
    integration::multipart_race_condition(&store, true).await;
    integration::multipart_out_of_order(&store).await;
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn object_store_signs_bodies_and_checksums_as_it_likes() {
    let dev = Dev::with_bucket(BUCKET, &[]);
    for made in [
        builder(&dev).with_unsigned_payload(true),
        builder(&dev).with_checksum_algorithm(Checksum::SHA256),
        builder(&dev).with_checksum_algorithm(Checksum::CRC64NVME),
    ] {
        integration::put_get_delete_list(&made.build().expect("a client")).await;
    }
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn object_store_finds_what_is_not_there_missing() {
    let (dev, store) = opened();
    let nowhere = builder(&dev).with_bucket_name("never-made").build().expect("a client");
    let path = Path::from("none");
    let missing = |error: Error| assert!(matches!(error, Error::NotFound { .. }), "{error}");
    missing(integration::get_nonexistent_object(&store, Some(path.clone())).await.expect_err("no object"));
    missing(nowhere.get(&path).await.expect_err("no bucket"));
    missing(nowhere.put(&path, PutPayload::from("x")).await.expect_err("no bucket"));
    missing(nowhere.delete(&path).await.expect_err("no bucket"));
    store.delete(&path).await.expect("what is not there is deleted already");
    let listed: Vec<_> = store.list(None).try_collect().await.expect("a list");
    assert!(listed.is_empty(), "{listed:?}");
    dev.stop();
}

/// Without credentials but those of the URL.
async fn fetch(url: &str) -> (u16, Vec<u8>) {
    let client: Client<HttpConnector, HttpRequestBody> = Client::builder(TokioExecutor::new()).build_http();
    let request = http::Request::get(url).body(HttpRequestBody::from(Bytes::new())).expect("a request");
    let answer = client.request(request).await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.into_body().collect().await.expect("a body").to_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn object_store_presigns_and_tags() {
    let (dev, store) = opened();
    let path = Path::from("tagged/one");
    let mut tags = TagSet::default();
    tags.push("foo.com=bar/s", "bananas/foo.com-_");
    tags.push("key", "value with a space");
    let options = PutOptions { tags, ..PutOptions::default() };
    store.put_opts(&path, PutPayload::from("bytes"), options).await.expect("a put");
    let shown = signed(&dev.client, "GET", "/objects/tagged/one?tagging", b"");
    assert_eq!(element(&shown, "Key").as_deref(), Some("foo.com=bar/s"), "{}", shown.text());
    assert!(shown.text().contains("<Value>value with a space</Value>"), "{}", shown.text());

    let url = store.signed_url(Method::GET, &path, Duration::from_secs(60)).await.expect("a URL");
    let got = fetch(url.as_str()).await;
    assert_eq!((got.0, got.1.as_slice()), (200, &b"bytes"[..]));
    let forged = fetch(&url.as_str().replace("/one", "/two")).await;
    assert_eq!(forged.0, 403, "a signature of something else");
    dev.stop();
}
