//! What a Secret of the user's holds, judged as far as its purpose needs it. Values stay here: what leaves this module,
//! for a status that many may read, are names of keys and places.

use std::collections::BTreeMap;

use blobstore_operator_core::secrets::{Purpose, SecretSeen};
use blobstore_sidecar_api::ports;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

pub(super) fn judge(purpose: Purpose, data: &BTreeMap<String, Vec<u8>>) -> SecretSeen {
    let value = |key: &str| data.get(key).map(Vec::as_slice);
    let problem = match purpose {
        Purpose::Users => value(ports::SECRET_USERS).and_then(users),
        Purpose::Certificate => {
            let pair = value(ports::SECRET_TLS_CERTIFICATE).zip(value(ports::SECRET_TLS_KEY));
            pair.and_then(|(chain, key)| certificate(chain, key))
        }
        Purpose::Origin(_) => None,
    };
    SecretSeen { keys: data.keys().cloned().collect(), problem }
}

/// The parser's own words may hold what it stumbled over: only the place is told. What a user must have, the sidecar
/// says.
fn users(text: &[u8]) -> Option<String> {
    let key = ports::SECRET_USERS;
    let users: serde_yaml_ng::Value = match serde_yaml_ng::from_slice(text) {
        Ok(users) => users,
        Err(error) => {
            let place = error.location().map_or_else(String::new, |at| format!(" at line {}", at.line()));
            return Some(format!("{key} is no YAML{place}"));
        }
    };
    let Some(users) = users.as_sequence() else { return Some(format!("{key} is not a list of users")) };
    let nameless = users.iter().position(|user| user.get("name").is_none_or(|name| !name.is_string()));
    nameless.map(|index| format!("user {} of {key} has no name", index + 1))
}

fn certificate(chain: &[u8], key: &[u8]) -> Option<String> {
    let (crt, pem) = (ports::SECRET_TLS_CERTIFICATE, ports::SECRET_TLS_KEY);
    let parsed: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let Some(chain) = parsed.ok().filter(|chain| !chain.is_empty()) else {
        return Some(format!("{crt} holds no certificate in PEM"));
    };
    let Ok(key) = PrivateKeyDer::from_pem_slice(key) else {
        return Some(format!("{pem} holds no private key in PEM"));
    };
    match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        Ok(_) => None,
        Err(rustls::Error::InconsistentKeys(_)) => Some(format!("{pem} is not the key of {crt}")),
        Err(error) => Some(format!("{crt} and {pem} cannot be used: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj /CN=store`.
    const CHAIN: &str = "\
        -----BEGIN CERTIFICATE-----\n\
        MIIBdjCCAR2gAwIBAgIUJ9+/mFzhtyLR1tYfhshLoLHLTUAwCgYIKoZIzj0EAwIw\n\
        EDEOMAwGA1UEAwwFc3RvcmUwIBcNMjYxMTIxMjI1NDEwWhgPMjEyNjEwMjgyMjU0\n\
        MTBaMBAxDjAMBgNVBAMMBXN0b3JlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n\
        IUB3WRQWGkrXFUe9awJFY3L+Zjr2rScbOHzMUzw/lIDKA6+kYZWuco2Fg7MnO5Cm\n\
        IXMeAPszX9ZQ+Z0LexTNyKNTMFEwHQYDVR0OBBYEFB7CmSt4KzlXrz4hRZftkZ7N\n\
        G/xyMB8GA1UdIwQYMBaAFB7CmSt4KzlXrz4hRZftkZ7NG/xyMA8GA1UdEwEB/wQF\n\
        MAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgOEGZL/jEt5PfwXup1Z+waczfIAzzGkyH\n\
        6siLTFDrx5oCIFYODVqYWHemeLxk78NVFp2OwsKwff3pf7O9/9RgE9+8\n\
        -----END CERTIFICATE-----\n";
    const KEY: &str = "\
        -----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgd/0WpkrzrxJOpdsd\n\
        xizuF8SUCdWgTWgS9KwmYlM+gl6hRANCAAQhQHdZFBYaStcVR71rAkVjcv5mOvat\n\
        Jxs4fMxTPD+UgMoDr6Rhla5yjYWDsyc7kKYhcx4A+zNf1lD5nQt7FM3I\n\
        -----END PRIVATE KEY-----\n";
    const OTHER_KEY: &str = "\
        -----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgc3YTUg4iQ4PYHBIp\n\
        151+tQifHZAq+qaSUohUEAtpuXWhRANCAAR5X0g5lIOKS8z6Qn7uFhG4XQkCHs++\n\
        +RtjCd3bA48gte4wk+osl824djCED0P148it0fW3WbHn8rJW5CPKOnIg\n\
        -----END PRIVATE KEY-----\n";

    fn check(purpose: Purpose, data: &[(&str, &str)], want: Option<&str>) {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        assert_eq!(judge(purpose, &data).problem.as_deref(), want);
    }

    #[test]
    fn a_certificate_and_its_key_are_told_from_what_is_none() {
        let check = |chain, key, want| {
            check(Purpose::Certificate, &[("tls.crt", chain), ("tls.key", key)], want);
        };
        check(CHAIN, KEY, None);
        check(CHAIN, OTHER_KEY, Some("tls.key is not the key of tls.crt"));
        check("hello", KEY, Some("tls.crt holds no certificate in PEM"));
        check(KEY, KEY, Some("tls.crt holds no certificate in PEM"));
        check(CHAIN, "hello", Some("tls.key holds no private key in PEM"));
        let cut = CHAIN.replace("MII", "MIJ");
        assert!(certificate(cut.as_bytes(), KEY.as_bytes()).is_some());
    }

    #[test]
    fn users_that_cannot_be_read_are_told_without_what_they_are() {
        let check = |text, want| check(Purpose::Users, &[("users.yaml", text)], want);
        check("- {name: a, token: t}\n", None);
        check("[]", None);
        check("- {name: a\n  token: secret\n", Some("users.yaml is no YAML at line 2"));
        check("hunter2", Some("users.yaml is not a list of users"));
        check("- {name: a}\n- hunter2\n", Some("user 2 of users.yaml has no name"));
    }

    #[test]
    fn a_key_that_is_missing_is_no_problem_of_its_value() {
        check(Purpose::Certificate, &[("tls.crt", CHAIN)], None);
        check(Purpose::Users, &[], None);
    }
}
