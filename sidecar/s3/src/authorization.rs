//! Credentials that cannot be what they claim to be, told as AWS tells them, before anybody looks for their owner.

use std::borrow::Cow;

use http::{HeaderMap, Uri, header::AUTHORIZATION};
use percent_encoding::percent_decode_str;

pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// A week: S3's own limit.
pub(crate) const EXPIRES_SECONDS_MAX: u32 = 604_800;
/// What a signature in a query consists of.
pub(crate) const IN_QUERY: &[&str] = &[
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
];

/// Code and sentence of the refusal.
pub type Problem = (&'static str, Cow<'static, str>);

const NO_DATE: &str = "AWS authentication requires a valid Date or x-amz-date header";
/// What comes with keys that are lent for a while: this store lends none.
const TOKEN: &str = "x-amz-security-token";

/// What is wrong with the form of a request's credentials.
pub fn problem(headers: &HeaderMap, uri: &Uri) -> Option<Problem> {
    let query = uri.query().unwrap_or_default();
    let found = match headers.get(AUTHORIZATION) {
        Some(value) if value.is_empty() => return None,
        Some(value) => match value.to_str() {
            Ok(text) => in_header(text, headers),
            Err(_) => Some(malformed("it is no text.")),
        },
        None => in_query(query),
    };
    found.or_else(|| {
        let signed = headers.contains_key(AUTHORIZATION) || parameter(query, "X-Amz-Signature").is_some();
        let token = headers.get(TOKEN).map(|value| value.as_bytes());
        let token = token.or_else(|| parameter(query, "X-Amz-Security-Token").map(str::as_bytes));
        (signed && token.is_some_and(|token| !token.is_empty()))
            .then_some(("InvalidToken", "The provided token is malformed or otherwise invalid.".into()))
    })
}

fn malformed(why: impl std::fmt::Display) -> Problem {
    ("AuthorizationHeaderMalformed", format!("The authorization header is malformed; {why}").into())
}

fn in_header(text: &str, headers: &HeaderMap) -> Option<Problem> {
    if let Some(pair) = text.strip_prefix("AWS ") {
        let fits =
            pair.split_once(':').is_some_and(|(key, signature)| !key.is_empty() && !signature.is_empty());
        let message = "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature";
        return (!fits).then_some(("InvalidArgument", message.into()));
    }
    if !text.contains(' ') {
        let message = "Authorization header is invalid -- one and only one ' ' (space) required";
        return Some(("InvalidArgument", message.into()));
    }
    let Some(fields) = text.strip_prefix(ALGORITHM) else {
        return Some(("InvalidArgument", "Unsupported Authorization Type".into()));
    };
    let fields: Vec<&str> = fields.split(',').map(str::trim).filter(|field| !field.is_empty()).collect();
    if fields.len() < 3 {
        return Some(malformed(
            "the authorization header requires three components: Credential, SignedHeaders, and Signature.",
        ));
    }
    if let Some(odd) = fields.iter().find(|field| !field.contains('=')) {
        return Some(malformed(format!("the authorization component \"{odd}\" is malformed.")));
    }
    let field = |name: &str| {
        let mut pairs = fields.iter().filter_map(|field| field.split_once('='));
        pairs.find(|(known, value)| *known == name && !value.is_empty()).map(|(_, value)| value)
    };
    let missing = ["Credential", "SignedHeaders", "Signature"].into_iter().find(|name| field(name).is_none());
    if let Some(name) = missing {
        return Some(malformed(format!("missing {name}.")));
    }
    let credential = field("Credential").unwrap_or_default();
    match credential_problem(credential) {
        Some(why) => Some(malformed(why)),
        None => of_its_time(credential, headers),
    }
}

/// The day of a credential is the day of its request.
fn of_its_time(credential: &str, headers: &HeaderMap) -> Option<Problem> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let day = match text("x-amz-date") {
        None if text("date").is_some() => return None,
        given => given.and_then(day_of),
    };
    let Some(day) = day else { return Some(("AccessDenied", NO_DATE.into())) };
    other_day(credential, day).map(malformed)
}

pub(crate) fn other_day(credential: &str, day: &str) -> Option<String> {
    let own = credential.rsplit('/').nth(3).unwrap_or_default();
    (own != day).then(|| {
        format!("Invalid credential date \"{own}\". This date is not the same as X-Amz-Date: \"{day}\".")
    })
}

/// The day of `20130524T000000Z`.
fn day_of(time: &str) -> Option<&str> {
    let (day, rest) = time.split_once('T')?;
    let clock = rest.strip_suffix('Z')?;
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(day, 8) && digits(clock, 6)).then_some(day)
}

/// What `key/date/region/s3/aws4_request` lacks; a key may hold slashes itself. Any region is this one: a store has no
/// other place than its own.
pub(crate) fn credential_problem(text: &str) -> Option<String> {
    let mut parts = text.rsplitn(5, '/');
    let (end, service, region) = (parts.next(), parts.next(), parts.next());
    let (date, key) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if key.is_empty() || region.is_none_or(str::is_empty) {
        let message =
            "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".";
        return Some(message.to_owned());
    }
    if end != Some("aws4_request") {
        let end = end.unwrap_or_default();
        return Some(format!("incorrect terminal \"{end}\". This endpoint uses \"aws4_request\"."));
    }
    if service != Some("s3") {
        let service = service.unwrap_or_default();
        return Some(format!("incorrect service \"{service}\". This endpoint belongs to \"s3\"."));
    }
    (date.len() != 8 || !date.bytes().all(|byte| byte.is_ascii_digit())).then(|| {
        format!(
            "incorrect date format \"{date}\". This date in the credential must be in the format \"yyyyMMdd\"."
        )
    })
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

fn in_query(query: &str) -> Option<Problem> {
    let value = |name: &str| parameter(query, name);
    value("X-Amz-Algorithm").or_else(|| value("X-Amz-Signature"))?;
    let told = |message: Cow<'static, str>| Some(("AuthorizationQueryParametersError", message));
    let wrong = |message: &'static str| told(message.into());
    if IN_QUERY.iter().any(|name| value(name).is_none_or(str::is_empty)) {
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
    if let Some(why) = credential_problem(&credential) {
        return told(format!("Error parsing the X-Amz-Credential parameter; {why}").into());
    }
    let Some(day) = value("X-Amz-Date").and_then(day_of) else {
        return wrong("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"");
    };
    if let Some(why) = other_day(&credential, day) {
        return told(why.into());
    }
    match value("X-Amz-Expires").and_then(|text| text.parse::<i64>().ok()).map(u64::try_from) {
        None => wrong("X-Amz-Expires should be a number"),
        Some(Err(_)) => wrong("X-Amz-Expires must be non-negative"),
        Some(Ok(seconds)) if seconds > u64::from(EXPIRES_SECONDS_MAX) => wrong(
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
    fn what_is_wrong_is_said() {
        let said = |fields: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-date", "20300101T000000Z".parse().expect("a header"));
            headers.insert(AUTHORIZATION, format!("AWS4-HMAC-SHA256 {fields}").parse().expect("a header"));
            problem(&headers, &Uri::from_static("/b")).map(|(_, message)| message.into_owned())
        };
        let with =
            |credential: &str| said(&format!("Credential={credential},SignedHeaders=host,Signature=0"));
        for (found, want) in [
            (
                with("a/20300101/r/ec2/aws4_request"),
                "incorrect service \"ec2\". This endpoint belongs to \"s3\".",
            ),
            (
                with("a/20300101/r/s3/aws5"),
                "incorrect terminal \"aws5\". This endpoint uses \"aws4_request\".",
            ),
            (with("a/2030/r/s3/aws4_request"), "incorrect date format \"2030\"."),
            (with("a/20300102/r/s3/aws4_request"), "This date is not the same as X-Amz-Date: \"20300101\"."),
            (with("a/b"), "the Credential is mal-formed"),
            (said("Credential=a,SignedHeaders=host"), "requires three components"),
            (said("Credential=a,SignedHeaders,Signature=0"), "component \"SignedHeaders\" is malformed."),
            (said("Credential=a,SignedHeaders=,Signature=0"), "missing SignedHeaders."),
        ] {
            assert!(found.as_deref().is_some_and(|found| found.contains(want)), "{found:?} {want}");
        }
        assert_eq!(with("a/20300101/anywhere/s3/aws4_request"), None, "any region is this one");
    }

    #[test]
    fn lent_keys_are_not_known() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "AWS a:b".parse().expect("a header"));
        headers.insert(TOKEN, "lent".parse().expect("a header"));
        let found = problem(&headers, &Uri::from_static("/b")).map(|(code, _)| code);
        assert_eq!(found, Some("InvalidToken"));
        headers.remove(AUTHORIZATION);
        assert_eq!(problem(&headers, &Uri::from_static("/b")), None, "nobody signed");
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
        check(Some("nonsense"), "", Some("InvalidArgument"));
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
