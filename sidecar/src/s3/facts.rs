//! What a bucket's policy may ask about a request, besides who does what: condition keys and their values.

use blobstore_sidecar_s3::policy::{ANONYMOUS, Facts};
use http::header::{AUTHORIZATION, HeaderName, IF_MATCH, IF_NONE_MATCH, REFERER, USER_AGENT};
use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;

use super::headers::ACCOUNT;
use crate::io::Caller;
use crate::lane::HEADER_TAGS;
use crate::route;

/// Keys that are a header.
const HEADERS: &[(HeaderName, &str)] = &[
    (REFERER, "aws:referer"),
    (USER_AGENT, "aws:useragent"),
    (IF_MATCH, "s3:if-match"),
    (IF_NONE_MATCH, "s3:if-none-match"),
];
/// Keys that are a parameter.
const PARAMETERS: &[(&str, &str)] = &[
    ("prefix", "s3:prefix"),
    ("delimiter", "s3:delimiter"),
    ("max-keys", "s3:max-keys"),
    ("versionId", "s3:versionid"),
];
/// What these add to an object is no object.
const BESIDE: &[&str] = &["tagging", "acl", "retention", "legal-hold", "restore"];
const TAGGING: &str = "x-amz-tagging";

/// A request as it arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) uri: &'a Uri,
    pub(crate) caller: Caller,
}

/// Where facts come from.
pub(super) trait Known {
    fn known(&self, user: Option<&str>) -> Facts;
}

impl Known for Scene<'_> {
    fn known(&self, user: Option<&str>) -> Facts {
        self.facts(user)
    }
}

/// Found out before.
impl Known for Facts {
    fn known(&self, _: Option<&str>) -> Facts {
        self.clone()
    }
}

impl Scene<'_> {
    pub(crate) fn facts(&self, user: Option<&str>) -> Facts {
        let mut facts = Facts::new();
        let mut add = |key: &str, value: String| facts.push((key.to_owned(), value));
        if let Some(address) = self.caller.address {
            add("aws:sourceip", address.to_canonical().to_string());
        }
        add("aws:securetransport", self.caller.secure.to_string());
        for (key, value) in who(user) {
            add(key, value);
        }
        if let Some(version) = self.caller.tls_version {
            add("s3:tlsversion", version.to_owned());
        }
        let now = Timestamp::now();
        add("aws:currenttime", format!("{now:.0}"));
        add("aws:epochtime", now.as_second().to_string());
        for (name, key) in HEADERS {
            if let Some(value) = self.text(name) {
                add(key, value.to_owned());
            }
        }
        for name in self.headers.keys().filter(|name| name.as_str().starts_with("x-amz-")) {
            if let Some(value) = self.text(name) {
                add(&format!("s3:{name}"), value.to_owned());
            }
        }
        let parameters = route::parameters(self.uri.query().unwrap_or_default()).unwrap_or_default();
        for (name, value) in &parameters {
            if let Some((_, key)) = PARAMETERS.iter().find(|(known, _)| known == name) {
                add(key, value.clone());
            }
        }
        if let Some((kind, version)) = self.signature(&parameters) {
            add("s3:authtype", kind.to_owned());
            add("s3:signatureversion", version.to_owned());
        }
        if let Some(age) = self.signed_at(&parameters).map(|then| now.duration_since(then).as_millis()) {
            add("s3:signatureage", age.max(0).to_string());
        }
        if let Some(creates) = self.creates(&parameters) {
            add("s3:objectcreationoperation", creates.to_string());
        }
        let tags = self.headers.get(TAGGING).or_else(|| self.headers.get(HEADER_TAGS));
        let tags = tags.and_then(|tags| tags.to_str().ok()).unwrap_or_default();
        for (name, value) in route::parameters(tags).unwrap_or_default() {
            add(&format!("s3:requestobjecttag/{}", name.to_ascii_lowercase()), value);
            add("s3:requestobjecttagkeys", name);
        }
        facts
    }

    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// When it was signed, by a signature of version 4.
    fn signed_at(&self, parameters: &[route::Parameter]) -> Option<Timestamp> {
        let in_query = parameters.iter().find(|(name, _)| name == "X-Amz-Date");
        let text = match in_query {
            Some((_, value)) => value.as_str(),
            None => self.text(&HeaderName::from_static("x-amz-date"))?,
        };
        text.parse().ok()
    }

    /// Is there an object when this is done? `None`: it is not about the bytes of one.
    fn creates(&self, parameters: &[route::Parameter]) -> Option<bool> {
        let has = |wanted: &str| parameters.iter().any(|(name, _)| name == wanted);
        match *self.method {
            Method::PUT if BESIDE.iter().any(|name| has(name)) => None,
            Method::PUT => Some(!has("partNumber")),
            Method::POST if has("uploads") => Some(false),
            Method::POST if has("uploadId") || parameters.is_empty() => Some(true),
            _ => None,
        }
    }

    /// Where the signature stands, and of which version it is.
    fn signature(&self, parameters: &[route::Parameter]) -> Option<(&'static str, &'static str)> {
        let (old, new) = ("AWS", "AWS4-HMAC-SHA256");
        let has = |wanted: &str| parameters.iter().any(|(name, _)| name == wanted);
        match self.text(&AUTHORIZATION) {
            Some(text) if text.starts_with(new) => Some(("REST-HEADER", new)),
            Some(text) if text.starts_with("AWS ") => Some(("REST-HEADER", old)),
            Some(_) => None,
            None if has("X-Amz-Signature") => Some(("REST-QUERY-STRING", new)),
            None if has("Signature") => Some(("REST-QUERY-STRING", old)),
            None => None,
        }
    }
}

/// What is known of a user: the name is the id. Of nobody AWS knows an id, too.
fn who(user: Option<&str>) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("aws:principalisawsservice", false.to_string()),
        ("aws:viaawsservice", false.to_string()),
        ("aws:resourceaccount", ACCOUNT.to_owned()),
        ("s3:resourceaccount", ACCOUNT.to_owned()),
    ];
    match user {
        Some(user) => facts.extend([
            ("aws:username", user.to_owned()),
            ("aws:userid", user.to_owned()),
            ("aws:principaltype", "User".to_owned()),
            ("aws:principalaccount", ACCOUNT.to_owned()),
            ("aws:principalarn", format!("arn:aws:iam::{ACCOUNT}:user/{user}")),
        ]),
        None => facts
            .extend([("aws:userid", ANONYMOUS.to_owned()), ("aws:principaltype", "Anonymous".to_owned())]),
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_headers_and_parameters() {
        let mut headers = HeaderMap::new();
        headers.insert(REFERER, "https://a/".parse().expect("a header"));
        headers.insert("x-amz-acl", "private".parse().expect("a header"));
        headers.insert(TAGGING, "Team=b%20c".parse().expect("a header"));
        let uri: Uri =
            "/b?prefix=a%2F&max-keys=5&X-Amz-Signature=0&X-Amz-Date=20260101T000000Z".parse().expect("a URI");
        let address = "::ffff:10.0.0.1".parse().ok();
        let caller = Caller { address, secure: true, tls_version: Some("1.3") };
        let scene = Scene { method: &Method::PUT, headers: &headers, uri: &uri, caller };
        let facts = scene.facts(Some("ann"));
        let fact = |key: &str| facts.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        for (key, want) in [
            ("aws:sourceip", "10.0.0.1"),
            ("aws:securetransport", "true"),
            ("aws:username", "ann"),
            ("aws:userid", "ann"),
            ("aws:principaltype", "User"),
            ("aws:principalarn", "arn:aws:iam::000000000000:user/ann"),
            ("s3:tlsversion", "1.3"),
            ("s3:objectcreationoperation", "true"),
            ("aws:referer", "https://a/"),
            ("s3:x-amz-acl", "private"),
            ("s3:prefix", "a/"),
            ("s3:max-keys", "5"),
            ("s3:authtype", "REST-QUERY-STRING"),
            ("s3:requestobjecttag/team", "b c"),
            ("s3:requestobjecttagkeys", "Team"),
        ] {
            assert_eq!(fact(key), Some(want), "{key}");
        }
        assert_eq!(fact("aws:useragent"), None);
        let age: u64 = fact("s3:signatureage").and_then(|text| text.parse().ok()).expect("an age");
        assert!(age > 1_000, "signed on New Year's Day");
        let now = fact("aws:currenttime").expect("a time");
        assert!(now.len() == "2026-01-01T00:00:00Z".len() && now.ends_with('Z'), "{now}");
    }

    #[test]
    fn parts_are_no_objects_and_completions_are() {
        let headers = HeaderMap::new();
        let check = |method: Method, query: &str, want: Option<&str>| {
            let uri: Uri = format!("/b/k{query}").parse().expect("a URI");
            let scene = Scene { method: &method, headers: &headers, uri: &uri, caller: Caller::default() };
            let facts = scene.facts(None);
            let found = facts.iter().find(|(known, _)| known == "s3:objectcreationoperation");
            assert_eq!(found.map(|(_, value)| value.as_str()), want, "{method} {query}");
            assert!(facts.contains(&("aws:userid".to_owned(), "anonymous".to_owned())));
        };
        check(Method::PUT, "", Some("true"));
        check(Method::PUT, "?partNumber=1&uploadId=u", Some("false"));
        check(Method::POST, "?uploads", Some("false"));
        check(Method::POST, "?uploadId=u", Some("true"));
        check(Method::PUT, "?tagging", None);
        check(Method::GET, "", None);
    }
}
