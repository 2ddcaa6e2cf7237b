//! AWS Signature Version 4 by hand, for requests that no client library would make.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::http::{Answer, Client};
use crate::process::TOKEN;

pub(crate) const ACCESS_KEY: &str = "test";
const REGION: &str = "us-east-1";

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Base64, as a checksum header carries it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(bytes))
}

/// A signed request in the making.
pub(crate) struct Signed {
    method: &'static str,
    /// Percent-encoded, with its query.
    path: String,
    headers: Vec<(String, String)>,
    time: String,
    access_key: &'static str,
    key: Vec<u8>,
    pub(crate) signature: String,
}

impl Signed {
    /// Signs what is given; `payload` is the value of x-amz-content-sha256.
    pub(crate) fn new(method: &'static str, path: &str, payload: &str, more: &[(&str, &str)]) -> Self {
        Self::by((ACCESS_KEY, TOKEN), method, path, payload, more)
    }

    /// The same, by somebody with other keys.
    pub(crate) fn by(
        (access_key, secret): (&'static str, &str),
        method: &'static str,
        path: &str,
        payload: &str,
        more: &[(&str, &str)],
    ) -> Self {
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut headers: Vec<(String, String)> = vec![
            ("host".to_owned(), "test".to_owned()),
            ("x-amz-content-sha256".to_owned(), payload.to_owned()),
            ("x-amz-date".to_owned(), time.clone()),
        ];
        headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        headers.sort();
        let key = ["aws4_request"].iter().fold(
            hmac(&hmac(&hmac(format!("AWS4{secret}").as_bytes(), &time[..8]), REGION), "s3"),
            |key, text| hmac(&key, text),
        );
        let path = path.to_owned();
        let mut signed = Self { method, path, headers, time, access_key, key, signature: String::new() };
        signed.signature = signed.sign(payload);
        signed
    }

    /// The path of a URL that is good for a minute.
    pub(crate) fn presigned(method: &'static str, path: &str) -> String {
        let mut signed = Self::new(method, path, "UNSIGNED-PAYLOAD", &[]);
        signed.headers.retain(|(name, _)| name == "host");
        let credential = format!("{}/{}", signed.access_key, signed.scope()).replace('/', "%2F");
        let time = &signed.time;
        signed.path = format!(
            "{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={time}\
             &X-Amz-Expires=60&X-Amz-SignedHeaders=host"
        );
        format!("{}&X-Amz-Signature={}", signed.path, signed.sign("UNSIGNED-PAYLOAD"))
    }

    fn scope(&self) -> String {
        format!("{}/{REGION}/s3/aws4_request", &self.time[..8])
    }

    fn names(&self) -> String {
        self.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";")
    }

    fn sign(&self, payload: &str) -> String {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let mut pairs: Vec<String> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
            .collect();
        pairs.sort();
        let lines: String = self.headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical =
            format!("{}\n{path}\n{}\n{lines}\n{}\n{payload}", self.method, pairs.join("&"), self.names());
        let text =
            format!("AWS4-HMAC-SHA256\n{}\n{}\n{}", self.time, self.scope(), sha256(canonical.as_bytes()));
        hex::encode(hmac(&self.key, &text))
    }

    /// One chunk of a signed, chunked body; `previous` becomes its signature.
    pub(crate) fn chunk(&self, previous: &mut String, bytes: &[u8]) -> Vec<u8> {
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{previous}\n{}\n{}",
            self.time,
            self.scope(),
            sha256(b""),
            sha256(bytes)
        );
        *previous = hex::encode(hmac(&self.key, &text));
        let mut out = format!("{:x};chunk-signature={previous}\r\n", bytes.len()).into_bytes();
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// The trailer of such a body, with its signature.
    pub(crate) fn trailer(&self, previous: &str, name: &str, value: &str) -> Vec<u8> {
        let text = format!(
            "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{previous}\n{}",
            self.time,
            self.scope(),
            sha256(format!("{name}:{value}\n").as_bytes())
        );
        let signature = hex::encode(hmac(&self.key, &text));
        format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n\r\n").into_bytes()
    }

    fn authorization(&self) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}",
            self.access_key,
            self.scope(),
            self.names(),
            self.signature
        )
    }

    /// The request's head without its last line, for connections of another kind.
    pub(crate) fn head(&self) -> String {
        let lines: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (method, path) = (self.method, &self.path);
        format!("{method} {path} HTTP/1.1\r\n{lines}authorization: {}\r\n", self.authorization())
    }

    /// A browser's form with a policy, its fields behind the boundary `line`.
    pub(crate) fn form(&self, bucket: &str, key: &str, file: &[u8]) -> Vec<u8> {
        let credential = format!("{}/{}", self.access_key, self.scope());
        let mut fields = vec![
            ("key", key.to_owned()),
            ("success_action_status", "201".to_owned()),
            ("x-amz-algorithm", "AWS4-HMAC-SHA256".to_owned()),
            ("x-amz-credential", credential),
            ("x-amz-date", self.time.clone()),
        ];
        let conditions: Vec<_> =
            fields.iter().map(|(name, value)| serde_json::json!({ *name: value })).collect();
        let mut policy = serde_json::json!({"expiration": "2099-01-01T00:00:00Z", "conditions": conditions});
        policy["conditions"].as_array_mut().expect("a list").push(serde_json::json!({"bucket": bucket}));
        let policy = STANDARD.encode(policy.to_string());
        fields.push(("x-amz-signature", hex::encode(hmac(&self.key, &policy))));
        fields.push(("policy", policy));
        let mut out = Vec::new();
        for (name, value) in fields {
            let part =
                format!("--line\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            out.extend(part.into_bytes());
        }
        out.extend(b"--line\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n");
        out.extend(file);
        out.extend(b"\r\n--line--\r\n");
        out
    }

    pub(crate) fn send(&self, client: &Client, body: &[u8]) -> Answer {
        let authorization = self.authorization();
        let mut headers = vec![("authorization", authorization.as_str())];
        headers.extend(
            self.headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                // The client writes its own.
                .filter(|(name, _)| !["host", "content-length"].contains(name)),
        );
        client.send(self.method, &self.path, &headers, body)
    }
}

/// A request whose payload's hash is signed. A list of deletions comes with a digest, as it must.
pub(crate) fn signed(client: &Client, method: &'static str, path: &str, body: &[u8]) -> Answer {
    let digest = digest(body);
    let more = [("x-amz-checksum-sha256", digest.as_str())];
    let more: &[(&str, &str)] = if path.contains("?delete") { &more } else { &[] };
    Signed::new(method, path, &sha256(body), more).send(client, body)
}

/// `<name>text</name>` of an XML answer.
pub(crate) fn element(answer: &Answer, name: &str) -> Option<String> {
    let text = answer.text();
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner.to_owned())
}
