//! Credentials that cannot be what they claim to be, told as AWS tells them, before anybody looks for their owner.

use http::{HeaderMap, Uri, header::AUTHORIZATION};
use percent_encoding::percent_decode_str;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// A week: S3's own limit.
const EXPIRES_SECONDS_MAX: u64 = 604_800;

/// Code and sentence of the refusal.
pub type Problem = (&'static str, &'static str);

/// What is wrong with the form of a request's credentials.
pub fn problem(headers: &HeaderMap, uri: &Uri) -> Option<Problem> {
    match headers.get(AUTHORIZATION) {
        Some(value) if value.is_empty() => None,
        Some(value) => match value.to_str() {
            Ok(text) => in_header(text, headers),
            Err(_) => Some(malformed("The authorization header is malformed; it is no text.")),
        },
        None => in_query(uri.query().unwrap_or_default()),
    }
}

fn malformed(message: &'static str) -> Problem {
    ("AuthorizationHeaderMalformed", message)
}

fn in_header(text: &str, headers: &HeaderMap) -> Option<Problem> {
    if let Some(pair) = text.strip_prefix("AWS ") {
        let fits =
            pair.split_once(':').is_some_and(|(key, signature)| !key.is_empty() && !signature.is_empty());
        let message = "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature";
        return (!fits).then_some(("InvalidArgument", message));
    }
    let Some(fields) = text.strip_prefix(ALGORITHM) else {
        return Some(("InvalidArgument", "Unsupported Authorization Type"));
    };
    let field = |name: &str| {
        let fields = fields.split(',').filter_map(|field| field.trim().split_once('='));
        fields
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    };
    let Some(credential) = field("Credential") else {
        return Some(malformed(
            "The authorization header is malformed; the authorization header requires Credential.",
        ));
    };
    if !is_credential(credential) {
        return Some(malformed(
            "The authorization header is malformed; the Credential is mal-formed; expecting \
             \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
        ));
    }
    if field("SignedHeaders").is_none() || field("Signature").is_none() {
        return Some(malformed(
            "The authorization header is malformed; it requires three components: Credential, SignedHeaders, and \
             Signature.",
        ));
    }
    of_its_time(credential, headers)
}

/// The day of a credential is the day of its request.
fn of_its_time(credential: &str, headers: &HeaderMap) -> Option<Problem> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let day = match text("x-amz-date") {
        None if text("date").is_some() => return None,
        given => given.and_then(day_of),
    };
    let Some(day) = day else {
        return Some(("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"));
    };
    (credential.rsplit('/').nth(3) != Some(day)).then_some(malformed(
        "The authorization header is malformed; Invalid credential date. This date is not the same as X-Amz-Date.",
    ))
}

/// The day of `20130524T000000Z`.
fn day_of(time: &str) -> Option<&str> {
    let (day, rest) = time.split_once('T')?;
    let clock = rest.strip_suffix('Z')?;
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(day, 8) && digits(clock, 6)).then_some(day)
}

/// `key/date/region/s3/aws4_request`; a key may hold slashes itself.
fn is_credential(text: &str) -> bool {
    let mut parts = text.rsplitn(5, '/');
    let (end, service, region) = (parts.next(), parts.next(), parts.next());
    let (date, key) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    end == Some("aws4_request")
        && service == Some("s3")
        && region.is_some_and(|region| !region.is_empty())
        && date.len() == 8
        && date.bytes().all(|byte| byte.is_ascii_digit())
        && !key.is_empty()
}

fn in_query(query: &str) -> Option<Problem> {
    let value = |name: &str| {
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
    };
    value("X-Amz-Algorithm").or_else(|| value("X-Amz-Signature"))?;
    let wrong = |message: &'static str| Some(("AuthorizationQueryParametersError", message));
    let needed = [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Signature",
        "X-Amz-Date",
        "X-Amz-SignedHeaders",
        "X-Amz-Expires",
    ];
    if needed.iter().any(|name| value(name).is_none_or(str::is_empty)) {
        return wrong(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, \
             X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        );
    }
    if value("X-Amz-Algorithm") != Some(ALGORITHM) {
        return wrong("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"");
    }
    let credential = value("X-Amz-Credential").unwrap_or_default();
    let credential = percent_decode_str(credential).decode_utf8_lossy();
    if !is_credential(&credential) {
        return wrong(
            "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting \
             \"<YOUR-AKID>/YYYYMMDD/REGION/s3/aws4_request\".",
        );
    }
    let Some(day) = value("X-Amz-Date").and_then(day_of) else {
        return wrong("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"");
    };
    if credential.rsplit('/').nth(3) != Some(day) {
        return wrong("Invalid credential date. This date is not the same as X-Amz-Date.");
    }
    match value("X-Amz-Expires").and_then(|text| text.parse::<i64>().ok()).map(u64::try_from) {
        None => wrong("X-Amz-Expires should be a number"),
        Some(Err(_)) => wrong("X-Amz-Expires must be non-negative"),
        Some(Ok(seconds)) if seconds > EXPIRES_SECONDS_MAX => wrong(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
        ),
        Some(Ok(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: Option<&str>, query: &str, want: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-date", "20300101T000000Z".parse().expect("a header"));
        if let Some(text) = header {
            headers.insert(AUTHORIZATION, text.parse().expect("a header"));
        }
        let uri: Uri = format!("/b/k?{query}").parse().expect("a URI");
        assert_eq!(problem(&headers, &uri).map(|(code, _)| code), want, "{header:?} {query}");
    }

    #[test]
    fn headers_have_three_parts_and_a_whole_credential() {
        let bad = Some("AuthorizationHeaderMalformed");
        let with = |credential: &str| {
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0")
        };
        check(Some(&with("a/b/20300101/r/s3/aws4_request")), "", None);
        check(Some(&with("a/20300101/r/s3/aws4_request").replace(", ", ",")), "", None);
        for credential in [
            "a",
            "a/2030/r/s3/aws4_request",
            "/20300101/r/s3/aws4_request",
            "a/20300101//s3/aws4_request",
            "a/20300101/r/ec2/aws4_request",
            "a/20300102/r/s3/aws4_request",
        ] {
            check(Some(&with(credential)), "", bad);
        }
        check(Some("AWS4-HMAC-SHA256 nonsense"), "", bad);
        check(Some("AWS4-HMAC-SHA256 Credential=a/20300101/r/s3/aws4_request"), "", bad);
        check(Some("AWS a:b"), "", None);
        check(Some("AWS nonsense"), "", Some("InvalidArgument"));
        check(Some("HMAC nonsense"), "", Some("InvalidArgument"));
        check(Some(""), "", None);
        check(None, "list-type=2", None);
    }

    #[test]
    fn presigned_requests_have_all_their_parameters() {
        let bad = Some("AuthorizationQueryParametersError");
        let whole = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c%2F20300101%2Fr%2Fs3%2Faws4_request\
                     &X-Amz-Date=20300101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=0";
        check(None, whole, None);
        check(None, &whole.replace("X-Amz-Signature=0", ""), bad);
        check(None, &whole.replace("Expires=60", "Expires=604801"), bad);
        check(None, &whole.replace("Expires=60", "Expires=-1"), bad);
        check(None, &whole.replace("Expires=60", "Expires=soon"), bad);
        check(None, &whole.replace("HMAC-SHA256", "HMAC-MD5"), bad);
        check(None, &whole.replace("c%2F20300101", "c%2F20300102"), bad);
        check(None, &whole.replace("s3%2F", "ec2%2F"), bad);
        check(None, &whole.replace("Date=2030", "Date=today"), bad);
    }
}
