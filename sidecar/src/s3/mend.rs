//! Requests that S3 serves and s3s refuses to read: a Range that nobody can follow, a date that is none, a number left
//! empty. Once the signature is verified, what S3 ignores is left out, and the rest is served as if it had come so.

use blobstore_sidecar_core::precondition::parse_http_date;
use blobstore_sidecar_core::range::ByteRange;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, RANGE};
use http::{Extensions, HeaderMap, Method, Request, Uri};
use s3s::route::S3Route;
use s3s::service::S3Service;
use s3s::{Body, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::Context;

/// Parameters that S3 ignores when they are empty, and s3s reads as numbers.
const NUMBERS: &[&str] = &[
    "max-keys",
    "max-uploads",
    "max-parts",
    "max-buckets",
    "part-number-marker",
    "fetch-owner",
    "partNumber",
];
/// What signs a request in its query: verified by then, and not looked at twice.
const SIGNING: &[&str] = &["AWSAccessKeyId", "Signature", "Expires"];
const DATES: [HeaderName; 2] = [IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
/// `Sun, 06 Nov 1994 08:49:37 GMT`: the one form that s3s reads.
const DATE_BYTES: usize = 29;

/// Serves such requests through a second S3 side, which has no route and sees no signatures.
pub(super) struct Mender(pub(super) S3Service);

/// What becomes of a header.
#[derive(Debug, PartialEq, Eq)]
enum Mend {
    Keep,
    Drop,
    Replace(String),
}

/// A range in the one notation that s3s reads. No object is larger than its numbers.
fn range(text: &str) -> Mend {
    let number = |number: u64| number.min(i64::MAX.unsigned_abs() - 1);
    let plain = match ByteRange::parse(text) {
        None => return Mend::Drop,
        Some(ByteRange::Between { first, last }) => format!("bytes={}-{}", number(first), number(last)),
        Some(ByteRange::From { first }) => format!("bytes={}-", number(first)),
        Some(ByteRange::Last { len }) => format!("bytes=-{}", number(len)),
    };
    if plain == text { Mend::Keep } else { Mend::Replace(plain) }
}

fn date(text: &str) -> Mend {
    let known = text.len() == DATE_BYTES && text.ends_with(" GMT") && parse_http_date(text).is_some();
    if known { Mend::Keep } else { Mend::Drop }
}

fn mends(headers: &HeaderMap) -> impl Iterator<Item = (HeaderName, Mend)> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let range = text(&RANGE).map(|text| (RANGE, range(text)));
    let dates = DATES.into_iter().filter_map(move |name| Some((name.clone(), date(text(&name)?))));
    range.into_iter().chain(dates).filter(|(_, mend)| *mend != Mend::Keep)
}

fn is_empty_number(pair: &str) -> bool {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    value.is_empty() && NUMBERS.contains(&name)
}

fn signs(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-")) || SIGNING.contains(&name)
}

/// The address without empty numbers, and without its signature.
fn mended(uri: &Uri) -> Option<Uri> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let kept: Vec<&str> = pairs.filter(|pair| !is_empty_number(pair) && !signs(pair)).collect();
    format!("{}?{}", uri.path(), kept.join("&")).parse().ok()
}

#[async_trait::async_trait]
impl S3Route for Mender {
    fn is_match(&self, method: &Method, uri: &Uri, headers: &HeaderMap, _: &mut Extensions) -> bool {
        matches!(*method, Method::GET | Method::HEAD)
            && (mends(headers).next().is_some()
                || uri.query().is_some_and(|query| query.split('&').any(is_empty_number)))
    }

    /// Rights are looked at when it is served.
    async fn check_access(&self, _: &mut S3Request<Body>) -> S3Result<()> {
        Ok(())
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let S3Request { input, method, uri, mut headers, extensions, credentials, .. } = request;
        if let (Some(context), Some(known)) = (extensions.get::<Context>(), credentials) {
            let _ = context.0.who.set(known.access_key);
        }
        let found: Vec<(HeaderName, Mend)> = mends(&headers).collect();
        for (name, mend) in found {
            headers.remove(&name);
            if let Mend::Replace(text) = mend
                && let Ok(value) = HeaderValue::from_str(&text)
            {
                headers.insert(name, value);
            }
        }
        headers.remove(AUTHORIZATION);
        let mut request = Request::new(input);
        *request.method_mut() = method;
        *request.uri_mut() = mended(&uri).ok_or_else(|| s3_error!(InvalidURI))?;
        *request.headers_mut() = headers;
        *request.extensions_mut() = extensions;
        let answer = Box::pin(self.0.call(request)).await;
        let answer = answer.map_err(S3Error::internal_error)?;
        let (head, body) = answer.into_parts();
        let mut response = S3Response::new(body);
        response.status = Some(head.status);
        response.headers = head.headers;
        response.extensions = head.extensions;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_nobody_can_follow_are_left_out() {
        for text in ["items=0-4", "bytes", "bytes=", "bytes=0-4,10-20", "bytes=5-2", "bytes=a-b"] {
            assert_eq!(range(text), Mend::Drop, "{text}");
        }
        for text in ["bytes=0-4", "bytes=-5", "bytes=7-"] {
            assert_eq!(range(text), Mend::Keep, "{text}");
        }
        assert_eq!(range("Bytes=0-4"), Mend::Replace("bytes=0-4".to_owned()));
        assert_eq!(range("bytes=99999999999999999999-"), Mend::Replace(format!("bytes={}-", i64::MAX - 1)));
    }

    #[test]
    fn dates_that_are_none_are_left_out() {
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Mend::Keep);
        for text in ["junk", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 XYZ"] {
            assert_eq!(date(text), Mend::Drop, "{text}");
        }
    }

    #[test]
    fn empty_numbers_and_signatures_go() {
        let uri: Uri = "/b?max-keys=&prefix=&X-Amz-Signature=0&x=y".parse().expect("a URI");
        assert_eq!(mended(&uri).expect("a URI").to_string(), "/b?prefix=&x=y");
    }
}
