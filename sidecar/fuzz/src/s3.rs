//! What the S3 library reads for us, set up as the sidecar sets it up: chunked bodies behind a right signature, forms
//! with a signed policy, documents in XML. The body is read to its end; nothing is stored.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::StreamExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Request;
use s3s::{
    Body, S3, S3Request, S3Response, S3Result,
    auth::SimpleAuth,
    config::{S3Config, StaticConfigProvider},
    dto::{PutObjectInput, PutObjectOutput},
    service::{S3Service, S3ServiceBuilder},
};
use sha2::{Digest as _, Sha256};

const SCOPE: &str = "us-east-1/s3/aws4_request";

/// Reads every body to its end.
#[derive(Debug)]
struct Drain;

#[async_trait::async_trait]
impl S3 for Drain {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        if let Some(mut body) = request.input.body {
            while let Some(Ok(_)) = body.next().await {}
        }
        Ok(S3Response::new(PutObjectOutput::default()))
    }
}

fn service() -> S3Service {
    let mut config = S3Config::default();
    config.aws_chunked_stream_max_chunk_size = 1 << 20;
    config.xml_max_body_size = 1 << 20;
    config.form_max_fields_size = 64 << 10;
    config.form_max_field_size = 64 << 10;
    let mut builder = S3ServiceBuilder::new(Drain);
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_auth(SimpleAuth::from_single("key", "secret"));
    builder.build()
}

/// Answers a request; what the answer is does not matter, only that there is one.
fn answer(request: Result<Request<Body>, http::Error>) -> Option<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
    let answer = runtime.block_on(service().call(request.ok()?)).ok()?;
    Some(answer.status().as_u16())
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(text.as_bytes()).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

/// The time of now, and the signature of a text under it.
struct Signer {
    time: String,
    key: Vec<u8>,
}

impl Signer {
    fn now() -> Self {
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = hmac(b"AWS4secret", time.get(..8).unwrap_or_default());
        let key = SCOPE.split('/').fold(day, |key, part| hmac(&key, part));
        Self { time, key }
    }

    fn scope(&self) -> String {
        format!("{}/{SCOPE}", self.time.get(..8).unwrap_or_default())
    }

    fn sign(&self, text: &str) -> String {
        hex::encode(hmac(&self.key, text))
    }
}

/// A PUT whose head is signed as it should be.
fn chunked(input: &[u8], payload: &str, trailer: &str) -> Option<u16> {
    let signer = Signer::now();
    let (decoded, body) = input.split_at(input.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    let decoded = String::from_utf8_lossy(decoded).trim().to_owned();
    let mut headers = vec![
        ("host", "test"),
        ("x-amz-content-sha256", payload),
        ("x-amz-date", &signer.time),
        ("x-amz-decoded-content-length", &decoded),
    ];
    if !trailer.is_empty() {
        headers.push(("x-amz-trailer", trailer));
    }
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let canonical = format!("PUT\n/bucket/key\n\n{lines}\n{names}\n{payload}");
    let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
    let scope = signer.scope();
    let signature = signer.sign(&format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", signer.time));
    let credentials =
        format!("AWS4-HMAC-SHA256 Credential=key/{scope}, SignedHeaders={names}, Signature={signature}");
    let mut request = Request::put("/bucket/key").header("authorization", credentials);
    request = request.header("content-length", body.len());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    answer(request.body(Body::from(body.to_vec())))
}

/// First line: the length that the client promises; the rest: chunks with signatures.
pub(crate) fn chunked_signed(input: &[u8]) {
    let _status = chunked(input, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "");
}

/// The same without signatures, and a checksum behind the last chunk.
pub(crate) fn chunked_trailer(input: &[u8]) {
    let _status = chunked(input, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-checksum-crc32");
}

fn form(body: Vec<u8>) -> Option<u16> {
    let request = Request::post("/bucket")
        .header("host", "test")
        .header("content-type", "multipart/form-data; boundary=edge")
        .header("content-length", body.len());
    answer(request.body(Body::from(body)))
}

/// The policy of a form, signed as it should be.
pub(crate) fn post_policy(input: &[u8]) {
    let signer = Signer::now();
    let policy = STANDARD.encode(input);
    let fields = [
        ("key", "user/file.txt".to_owned()),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256".to_owned()),
        ("x-amz-credential", format!("key/{}", signer.scope())),
        ("x-amz-date", signer.time.clone()),
        ("x-amz-signature", signer.sign(&policy)),
        ("policy", policy.clone()),
        ("file", "the file".to_owned()),
    ];
    let mut body = String::new();
    for (name, value) in fields {
        let file = if name == "file" { "; filename=\"f\"" } else { "" };
        body.push_str(&format!(
            "--edge\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n"
        ));
    }
    body.push_str("--edge--\r\n");
    let _status = form(body.into_bytes());
}

/// The form itself.
pub(crate) fn post_form(input: &[u8]) {
    let _status = form(input.to_vec());
}

/// First line: path and query of a PUT or POST without signature; the rest: its document.
pub(crate) fn xml(input: &[u8]) {
    let (uri, body) = input.split_at(input.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    let uri = String::from_utf8_lossy(uri).trim().to_owned();
    for method in ["PUT", "POST"] {
        let request = Request::builder().method(method).uri(&uri).header("host", "test");
        let body = Body::from(body.to_vec());
        let (Ok(request), Ok(runtime)) =
            (request.body(body), tokio::runtime::Builder::new_current_thread().build())
        else {
            return;
        };
        // Without an owner of keys everybody may ask everything: the document is read.
        let _answer = runtime.block_on(S3ServiceBuilder::new(Drain).build().call(request));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_body_is_taken_behind_the_right_signature() {
        let body = b"5\n5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
        let status = chunked(body, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-checksum-crc32");
        assert_eq!(status, Some(200), "the parser of chunks is reached, and satisfied");
    }
}
