//! Who may call a webhook: the holder of the bearer token, or of the HMAC key with a fresh timestamp.

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Lower-case hex without prefix, as Grafana sends it.
pub const SIGNATURE_HEADER: &str = "x-grafana-alerting-signature";
/// Seconds since 1970; the signature covers `timestamp:body`. To be named in Grafana's contact point.
pub const TIMESTAMP_HEADER: &str = "x-grafana-alerting-timestamp";
/// Five minutes of clock skew and delivery: the usual bound for replays.
const SKEW_SECONDS_MAX: i64 = 300;

/// What callers may prove themselves with; none of both closes the receivers.
#[derive(Clone, Default)]
pub struct Credentials {
    pub token: Option<String>,
    pub hmac_key: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { token, hmac_key } = self;
        f.debug_struct("Credentials")
            .field("token", &token.is_some())
            .field("hmac_key", &hmac_key.is_some())
            .finish()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Neither a token nor a key is configured.
    Closed,
    /// Nothing was offered.
    Missing,
    /// What was offered is wrong.
    Wrong,
    /// Signed, but too old or from the future.
    Stale,
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

impl Credentials {
    /// Refuses an empty secret: it would be a door that anyone opens.
    pub fn new(token: Option<String>, hmac_key: Option<String>) -> Self {
        let some = |secret: Option<String>| secret.filter(|secret| !secret.is_empty());
        Self { token: some(token), hmac_key: some(hmac_key) }
    }

    /// Cheap refusals before the body is read: a caller without any credentials costs no memory.
    pub fn offered(&self, headers: &HeaderMap) -> Result<(), Denied> {
        if self.token.is_none() && self.hmac_key.is_none() {
            return Err(Denied::Closed);
        }
        let offered = headers.contains_key(AUTHORIZATION) || headers.contains_key(SIGNATURE_HEADER);
        if offered { Ok(()) } else { Err(Denied::Missing) }
    }

    /// A signature decides when there is one; else the token. `now` in seconds since 1970.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: i64) -> Result<(), Denied> {
        self.offered(headers)?;
        match (text(headers, SIGNATURE_HEADER), &self.hmac_key) {
            (Some(signature), Some(key)) => {
                signed(key, signature, text(headers, TIMESTAMP_HEADER), body, now)
            }
            _ => self.bearer(headers),
        }
    }

    fn bearer(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let wanted = self.token.as_deref().ok_or(Denied::Wrong)?;
        let offered = text(headers, AUTHORIZATION.as_str()).ok_or(Denied::Missing)?;
        let (scheme, token) = offered.split_once(' ').ok_or(Denied::Wrong)?;
        let same = bool::from(token.trim().as_bytes().ct_eq(wanted.as_bytes()));
        if scheme.eq_ignore_ascii_case("bearer") && same { Ok(()) } else { Err(Denied::Wrong) }
    }
}

/// Without a timestamp a recorded call could be replayed for ever: it is required.
fn signed(key: &str, signature: &str, timestamp: Option<&str>, body: &[u8], now: i64) -> Result<(), Denied> {
    let timestamp = timestamp.ok_or(Denied::Stale)?;
    let offered = hex::decode(signature).map_err(|_| Denied::Wrong)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|_| Denied::Wrong)?;
    mac.update(timestamp.as_bytes());
    mac.update(b":");
    mac.update(body);
    mac.verify_slice(&offered).map_err(|_| Denied::Wrong)?;
    let sent: i64 = timestamp.parse().map_err(|_| Denied::Stale)?;
    let skew = now.saturating_sub(sent).saturating_abs();
    if skew <= SKEW_SECONDS_MAX { Ok(()) } else { Err(Denied::Stale) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600;
    const BODY: &[u8] = br#"{"alerts":[]}"#;

    fn signature(key: &str, message: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any key length");
        mac.update(message);
        hex::encode(mac.finalize().into_bytes())
    }

    fn call(headers: &[(&'static str, &str)], body: &[u8]) -> Result<(), Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("header value"));
        }
        let credentials = Credentials::new(Some("secret".to_owned()), Some("key".to_owned()));
        credentials.verify(&map, body, NOW)
    }

    fn signed_at(sent: i64) -> Result<(), Denied> {
        let message = [sent.to_string().as_bytes(), b":", BODY].concat();
        let signature = signature("key", &message);
        call(&[(SIGNATURE_HEADER, &signature), (TIMESTAMP_HEADER, &sent.to_string())], BODY)
    }

    #[test]
    fn known_vector_of_hmac_sha256() {
        // RFC 4231, test case 2.
        let got = signature("Jefe", b"what do ya want for nothing?");
        assert_eq!(got, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn signature_holds_for_five_minutes_both_ways() {
        for (sent, want) in [
            (NOW, Ok(())),
            (NOW - 300, Ok(())),
            (NOW + 300, Ok(())),
            (NOW - 301, Err(Denied::Stale)),
            (NOW + 301, Err(Denied::Stale)),
        ] {
            assert_eq!(signed_at(sent), want, "{sent}");
        }
    }

    #[test]
    fn signature_without_timestamp_could_be_replayed() {
        let signature = signature("key", BODY);
        assert_eq!(call(&[(SIGNATURE_HEADER, &signature)], BODY), Err(Denied::Stale));
    }

    #[test]
    fn signature_over_another_body_is_wrong() {
        let signature = signature("key", &[NOW.to_string().as_bytes(), b":", BODY].concat());
        let headers = [(SIGNATURE_HEADER, signature.as_str()), (TIMESTAMP_HEADER, &NOW.to_string())];
        assert_eq!(call(&headers, b"{}"), Err(Denied::Wrong));
    }

    #[test]
    fn wrong_signature_is_not_saved_by_a_good_token() {
        let headers = [
            (SIGNATURE_HEADER, "00"),
            (TIMESTAMP_HEADER, &NOW.to_string()),
            ("authorization", "Bearer secret"),
        ];
        assert_eq!(call(&headers, BODY), Err(Denied::Wrong));
    }

    #[test]
    fn bearer_tokens() {
        assert_eq!(call(&[("authorization", "Bearer secret")], BODY), Ok(()));
        assert_eq!(call(&[("authorization", "bearer secret")], BODY), Ok(()));
        assert_eq!(call(&[("authorization", "Bearer secre")], BODY), Err(Denied::Wrong));
        assert_eq!(call(&[("authorization", "Basic secret")], BODY), Err(Denied::Wrong));
        assert_eq!(call(&[], BODY), Err(Denied::Missing));
    }

    #[test]
    fn nothing_configured_closes_the_receiver() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer ".parse().expect("header value"));
        let closed = Credentials::new(Some(String::new()), None);
        assert_eq!(closed.verify(&headers, BODY, NOW), Err(Denied::Closed));
    }
}
