//! AWS Signature Version 4 in the `Authorization` header, payload unsigned: the least that a client of S3 has to do.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Any region is right: the store has none. This is what clients take when nobody names one.
const REGION: &str = "us-east-1";
const PAYLOAD: &str = "UNSIGNED-PAYLOAD";
const SIGNED: &str = "host;x-amz-content-sha256;x-amz-date";

/// One user's keys.
#[derive(Clone)]
pub struct Signer {
    access_key: String,
    secret_key: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Signer({})", self.access_key)
    }
}

impl Signer {
    pub fn new(access_key: &str, secret_key: &str) -> Self {
        Self { access_key: access_key.to_owned(), secret_key: secret_key.to_owned() }
    }

    /// The headers that make the request this user's, signed as of now.
    pub fn headers(&self, method: &Method, uri: &Uri) -> Result<HeaderMap> {
        let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text).map_err(Error::other("use a header"));
        headers.insert(header::AUTHORIZATION, value(&self.authorization(method, uri, &host, &date)?)?);
        headers.insert(header::HOST, value(&host)?);
        headers.insert("x-amz-content-sha256", value(PAYLOAD)?);
        headers.insert("x-amz-date", value(&date)?);
        Ok(headers)
    }

    fn authorization(&self, method: &Method, uri: &Uri, host: &str, date: &str) -> Result<String> {
        let mut query: Vec<String> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
            .collect();
        query.sort();
        let (path, query) = (uri.path(), query.join("&"));
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{PAYLOAD}\nx-amz-date:{date}\n\n{SIGNED}\n{PAYLOAD}"
        );
        let day = &date[..8];
        let scope = format!("{day}/{REGION}/s3/aws4_request");
        let digest = hex::encode(Sha256::digest(canonical));
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}");
        let mut key = format!("AWS4{}", self.secret_key).into_bytes();
        for part in [day, REGION, "s3", "aws4_request"] {
            key = mac(&key, part)?;
        }
        let signature = hex::encode(mac(&key, &text)?);
        let access = &self.access_key;
        Ok(format!(
            "AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={SIGNED}, Signature={signature}"
        ))
    }
}

fn mac(key: &[u8], text: &str) -> Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(Error::other("make a signing key"))?;
    mac.update(text.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with botocore's `S3SigV4Auth` for the same request, keys and time.
    #[test]
    fn signature_is_the_one_that_botocore_makes() {
        let signer = Signer::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let uri: Uri = "http://store.example:9000/bucket/a/key?uploads&max=3".parse().expect("a URI");
        let found = signer
            .authorization(&Method::GET, &uri, "store.example:9000", "20261121T120000Z")
            .expect("a signature");
        let want = "Signature=d8f77bcd01beb2ae75c9e132f8391b9e4b816cb4f2237e3f3804ca1be2421a7b";
        assert!(found.ends_with(want), "{found}");
    }
}
