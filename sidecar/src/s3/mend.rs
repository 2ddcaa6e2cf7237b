//! Requests that S3 serves and s3s refuses to read: a Range that nobody can follow, a date that is none, a number left
//! empty. Once the signature is verified, what S3 ignores is left out, and the rest is served as if it had come so.

use blobstore_sidecar_core::precondition::parse_http_date;
use blobstore_sidecar_core::range::ByteRange;
use http::header::{
    AUTHORIZATION, EXPIRES, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::{Extensions, HeaderMap, Method, Request, Uri};
use s3s::dto::ETagCondition;
use s3s::route::S3Route;
use s3s::service::S3Service;
use s3s::{Body, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::{Context, object};
use crate::route;

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
const DATES: [HeaderName; 4] = [
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    HeaderName::from_static("x-amz-copy-source-if-modified-since"),
    HeaderName::from_static("x-amz-copy-source-if-unmodified-since"),
];
/// ETags that are compared: S3 takes any text for one, s3s only what one may be.
const TAGS: [HeaderName; 4] = [
    IF_MATCH,
    IF_NONE_MATCH,
    HeaderName::from_static("x-amz-copy-source-if-match"),
    HeaderName::from_static("x-amz-copy-source-if-none-match"),
];
/// What nothing is called.
const NO_TAG: &str = "\"-\"";
/// A header of the answer that S3 takes as it comes, and s3s as a date.
const RESPONSE_EXPIRES: &str = "response-expires";
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
    if text.contains(' ') {
        return Mend::Drop;
    }
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

fn tag(text: &str) -> Mend {
    if text.is_empty() || text.contains(',') {
        return Mend::Keep;
    }
    if text.trim_start_matches("W/").trim_matches('"').contains('"') {
        return Mend::Replace(NO_TAG.to_owned());
    }
    if ETagCondition::parse_http_header(text.as_bytes()).is_ok() {
        return Mend::Keep;
    }
    let quoted = format!("\"{}\"", text.replace('"', ""));
    let fits = ETagCondition::parse_http_header(quoted.as_bytes()).is_ok();
    Mend::Replace(if fits { quoted } else { NO_TAG.to_owned() })
}

fn mends(headers: &HeaderMap) -> impl Iterator<Item = (HeaderName, Mend)> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let range = text(&RANGE).map(|text| (RANGE, range(text)));
    let dates = DATES.into_iter().filter_map(move |name| Some((name.clone(), date(text(&name)?))));
    let tags = TAGS.into_iter().filter_map(move |name| Some((name.clone(), tag(text(&name)?))));
    range.into_iter().chain(dates).chain(tags).filter(|(_, mend)| *mend != Mend::Keep)
}

fn is_empty_number(pair: &str) -> bool {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    value.is_empty() && NUMBERS.contains(&name)
}

fn named(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default()
}

fn signs(pair: &str) -> bool {
    let name = named(pair);
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-")) || SIGNING.contains(&name)
}

/// The address without empty numbers, and without its signature.
fn mended(uri: &Uri) -> Option<Uri> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let goes = |pair: &str| is_empty_number(pair) || signs(pair) || named(pair) == RESPONSE_EXPIRES;
    let kept: Vec<&str> = pairs.filter(|pair| !goes(pair)).collect();
    format!("{}?{}", uri.path(), kept.join("&")).parse().ok()
}

#[async_trait::async_trait]
impl S3Route for Mender {
    fn is_match(&self, method: &Method, uri: &Uri, headers: &HeaderMap, _: &mut Extensions) -> bool {
        let odd = |pair: &str| is_empty_number(pair) || named(pair) == RESPONSE_EXPIRES;
        let query = || uri.query().is_some_and(|query| query.split('&').any(odd));
        match *method {
            Method::GET | Method::HEAD => mends(headers).next().is_some() || query(),
            Method::DELETE => mends(headers).next().is_some(),
            // A copy has no body that would have to be read twice.
            Method::PUT => headers.contains_key("x-amz-copy-source") && mends(headers).next().is_some(),
            _ => false,
        }
    }

    /// Rights are looked at when it is served.
    async fn check_access(&self, _: &mut S3Request<Body>) -> S3Result<()> {
        Ok(())
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let S3Request { input, method, uri, mut headers, extensions, credentials, .. } = request;
        let parameters = route::parameters(uri.query().unwrap_or_default()).unwrap_or_default();
        let expires = parameters.into_iter().find(|(name, _)| name == RESPONSE_EXPIRES);
        if expires.is_some() && credentials.is_none() {
            return Err(object::overridden_by_nobody());
        }
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
        if let Some(value) = expires.and_then(|(_, text)| HeaderValue::from_str(&text).ok())
            && head.status.is_success()
        {
            response.headers.insert(EXPIRES, value);
        }
        response.extensions = head.extensions;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_nobody_can_follow_are_left_out() {
        for text in ["bytes= -1", "items=0-4", "bytes", "bytes=", "bytes=0-4,10-20", "bytes=5-2", "bytes=a-b"]
        {
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
    fn any_text_is_an_etag() {
        for text in ["*", "\"abc\"", "abc", "W/\"abc\"", "", "\"a\", \"b\""] {
            assert_eq!(tag(text), Mend::Keep, "{text}");
        }
        assert_eq!(tag("not_quoted"), Mend::Replace("\"not_quoted\"".to_owned()));
        assert_eq!(tag("\"a"), Mend::Replace("\"a\"".to_owned()));
        assert_eq!(tag("\"a\" \"b\""), Mend::Replace(NO_TAG.to_owned()));
    }

    #[test]
    fn empty_numbers_and_signatures_go() {
        let uri: Uri =
            "/b?max-keys=&prefix=&X-Amz-Signature=0&x=y&response-expires=never".parse().expect("a URI");
        assert_eq!(mended(&uri).expect("a URI").to_string(), "/b?prefix=&x=y");
    }
}
