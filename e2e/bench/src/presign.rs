//! AWS Signature Version 4 in the query, payload unsigned: signed once, so that the generator costs the same for all.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>

use std::net::SocketAddr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub(crate) const ACCESS_KEY: &str = "benchbenchbench";
pub(crate) const SECRET_KEY: &str = "benchbenchbenchbenchbenchbench";
const REGION: &str = "us-east-1";
/// A run takes minutes; the protocol's limit is a week.
const EXPIRES_SECONDS: u32 = 86_400;

/// The path with its query, good for `method` on `server` from now on. Paths here need no escapes.
pub(crate) fn presigned(method: &str, server: SocketAddr, path: &str) -> String {
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    presigned_at(method, &server.to_string(), path, &date)
}

fn presigned_at(method: &str, host: &str, path: &str, date: &str) -> String {
    let day = date.get(..8).unwrap_or_default();
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    let credential = format!("{ACCESS_KEY}/{scope}").replace('/', "%2F");
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={date}\
         &X-Amz-Expires={EXPIRES_SECONDS}&X-Amz-SignedHeaders=host"
    );
    let canonical = format!("{method}\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for part in [day, REGION, "s3", "aws4_request"] {
        key = mac(&key, part);
    }
    format!("{path}?{query}&X-Amz-Signature={}", hex::encode(mac(&key, &text)))
}

/// A key of HMAC may have any length: there is no error to give.
fn mac(key: &[u8], text: &str) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).map_or_else(
        |_| Vec::new(),
        |mut mac| {
            mac.update(text.as_bytes());
            mac.finalize().into_bytes().to_vec()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with botocore's `S3SigV4QueryAuth` for the same request, keys and time.
    #[test]
    fn signature_is_the_one_that_botocore_makes() {
        let found = presigned_at("GET", "127.0.0.1:9000", "/bench/a/1", "20261121T120000Z");
        assert!(
            found.ends_with(
                "X-Amz-Signature=b77a5cb5a55593ccf1ef5b9e48db1bc55ae17e0b500756f70755dabe86951be3"
            ),
            "{found}"
        );
    }
}
