//! What a bucket's policy may ask about a request, besides who does what: condition keys and their values.

use std::time::{SystemTime, UNIX_EPOCH};

use blobstore_sidecar_s3::policy::Facts;
use http::header::{AUTHORIZATION, HeaderName, IF_MATCH, IF_NONE_MATCH, REFERER, USER_AGENT};
use http::{HeaderMap, Uri};

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
const TAGGING: &str = "x-amz-tagging";

/// A request as it arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
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
        if let Some(user) = user {
            add("aws:username", user.to_owned());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        add("aws:currenttime", now.clone());
        add("aws:epochtime", now);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_headers_and_parameters() {
        let mut headers = HeaderMap::new();
        headers.insert(REFERER, "https://a/".parse().expect("a header"));
        headers.insert("x-amz-acl", "private".parse().expect("a header"));
        headers.insert(TAGGING, "Team=b%20c".parse().expect("a header"));
        let uri: Uri = "/b?prefix=a%2F&max-keys=5&X-Amz-Signature=0".parse().expect("a URI");
        let caller = Caller { address: "::ffff:10.0.0.1".parse().ok(), secure: true };
        let facts = Scene { headers: &headers, uri: &uri, caller }.facts(Some("ann"));
        let fact = |key: &str| facts.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        for (key, want) in [
            ("aws:sourceip", "10.0.0.1"),
            ("aws:securetransport", "true"),
            ("aws:username", "ann"),
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
    }
}
