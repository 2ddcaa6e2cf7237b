//! Who is asking, and may they: bearer tokens and basic authentication against the users of the store's Secret.
//! Every comparison of a secret takes the same time whatever matches.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::Deserialize;
use subtle::{Choice, ConstantTimeEq as _};

/// The users document: a list. Bounded, since every request compares with every user.
pub const USERS_COUNT_MAX: usize = 1_000;

/// One user of `users.yaml`.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    pub name: String,
    #[serde(default)]
    pub access_key: Option<String>,
    #[serde(default)]
    pub secret_key: Option<String>,
    /// Further pairs of keys, all valid at once: the next pair is added before the last one goes.
    #[serde(default)]
    pub keys: Vec<KeyPair>,
    #[serde(default)]
    pub token: Option<String>,
    /// Without a matching grant nothing is allowed.
    #[serde(default)]
    pub rights: Vec<Grant>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What an S3 client signs with.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyPair {
    pub access_key: String,
    pub secret_key: String,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

impl User {
    /// The secret of one of this user's access keys. Access keys are no secrets: compared as they are.
    fn secret_of(&self, access_key: &str) -> Option<&str> {
        let first = self.access_key.as_deref().zip(self.secret_key.as_deref());
        let more = self.keys.iter().map(|pair| (pair.access_key.as_str(), pair.secret_key.as_str()));
        first.into_iter().chain(more).find(|(known, _)| *known == access_key).map(|(_, secret)| secret)
    }
}

/// Rights on the objects of matching buckets whose names begin with `prefix`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// A bucket's name; a `*` at the end matches any rest.
    #[serde(default = "any")]
    pub bucket: String,
    #[serde(default)]
    pub prefix: String,
    pub allow: Vec<Right>,
}

fn any() -> String {
    "*".to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Right {
    Read,
    Write,
    Delete,
    List,
    /// Create and delete buckets, list them all. Implies the others.
    Admin,
}

/// What a request is about to touch.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub bucket: &'a str,
    /// An object's name, or a listing's prefix.
    pub name: &'a str,
}

/// Who may do what on this store.
#[derive(Clone, Debug, Default)]
pub struct Users {
    users: Vec<User>,
    /// Requests without credentials may do everything.
    anonymous: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    #[error("parse the users document")]
    Parse(#[from] serde_yaml_ng::Error),
    #[error("the users document has {0} users, at most {USERS_COUNT_MAX} are allowed")]
    TooMany(usize),
    #[error("user {0:?} has neither a token nor a pair of keys, or an empty one")]
    NoCredentials(String),
}

/// Why a request may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// 401: no credentials, or ones that nobody has.
    Unknown,
    /// 403: known, but without the right.
    Forbidden,
}

impl Users {
    pub fn new(users: Vec<User>, anonymous: bool) -> Result<Self, UsersError> {
        if users.len() > USERS_COUNT_MAX {
            return Err(UsersError::TooMany(users.len()));
        }
        let filled = |secret: &Option<String>| secret.as_ref().is_some_and(|secret| !secret.is_empty());
        let empty = |secret: &Option<String>| secret.as_ref().is_some_and(String::is_empty);
        for user in &users {
            let any = filled(&user.token) || filled(&user.secret_key) || !user.keys.is_empty();
            let bare = |pair: &KeyPair| pair.access_key.is_empty() || pair.secret_key.is_empty();
            if !any || empty(&user.token) || empty(&user.secret_key) || user.keys.iter().any(bare) {
                return Err(UsersError::NoCredentials(user.name.clone()));
            }
        }
        Ok(Self { users, anonymous })
    }

    pub fn parse(yaml: &str, anonymous: bool) -> Result<Self, UsersError> {
        Self::new(Self::read(yaml)?, anonymous)
    }

    /// The document's users, not checked yet. An empty document is an empty list.
    pub fn read(yaml: &str) -> Result<Vec<User>, UsersError> {
        let users: Option<Vec<User>> = serde_yaml_ng::from_str(yaml)?;
        Ok(users.unwrap_or_default())
    }

    /// May the sender of these headers do this? Wrong credentials are refused even where none are needed.
    pub fn check(&self, headers: &HeaderMap, right: Right, target: Target<'_>) -> Result<(), Denied> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            return if self.anonymous { Ok(()) } else { Err(Denied::Unknown) };
        };
        let credentials = value.to_str().ok().and_then(Credentials::parse).ok_or(Denied::Unknown)?;
        let user = self.find(&credentials).ok_or(Denied::Unknown)?;
        let allowed = self.anonymous || user.rights.iter().any(|grant| grant.allows(right, target));
        if allowed { Ok(()) } else { Err(Denied::Forbidden) }
    }

    /// The name of whom these credentials belong to.
    pub fn name_in(&self, headers: &HeaderMap) -> Option<String> {
        let credentials = Credentials::parse(headers.get(AUTHORIZATION)?.to_str().ok()?)?;
        self.find(&credentials).map(|user| user.name.clone())
    }

    /// The secret that goes with an access key.
    pub fn secret_of(&self, access_key: &str) -> Option<&str> {
        self.users.iter().find_map(|user| user.secret_of(access_key))
    }

    /// The name of who has this access key.
    pub fn name_of(&self, access_key: &str) -> Option<&str> {
        self.users.iter().find(|user| user.secret_of(access_key).is_some()).map(|user| user.name.as_str())
    }

    /// May whoever proved to have this access key do that? `None`: who has proved nothing.
    pub fn key_allows(&self, access_key: Option<&str>, right: Right, target: Target<'_>) -> bool {
        let user = access_key.and_then(|key| self.users.iter().find(|user| user.secret_of(key).is_some()));
        self.anonymous || user.is_some_and(|user| user.rights.iter().any(|grant| grant.allows(right, target)))
    }

    /// Has whoever has this access key any right in the bucket at all?
    pub fn key_knows(&self, access_key: Option<&str>, bucket: &str) -> bool {
        let user = access_key.and_then(|key| self.users.iter().find(|user| user.secret_of(key).is_some()));
        self.anonymous || user.is_some_and(|user| user.rights.iter().any(|grant| grant.covers(bucket)))
    }

    /// Compares with every user, so that time does not tell how far a guess got.
    fn find(&self, credentials: &Credentials) -> Option<&User> {
        let mut found = None;
        for user in &self.users {
            if bool::from(credentials.matches(user)) {
                found = Some(user);
            }
        }
        found
    }
}

impl Grant {
    fn covers(&self, bucket: &str) -> bool {
        match self.bucket.strip_suffix('*') {
            Some(start) => bucket.starts_with(start),
            None => bucket == self.bucket,
        }
    }

    fn allows(&self, right: Right, target: Target<'_>) -> bool {
        let bucket = self.covers(target.bucket);
        // Buckets themselves belong to who may do everything in them.
        let name = target.name.starts_with(&self.prefix);
        bucket && name && (self.allow.contains(&right) || self.allow.contains(&Right::Admin))
    }
}

enum Credentials {
    Bearer(String),
    Basic { name: String, secret: String },
}

impl Credentials {
    fn parse(value: &str) -> Option<Self> {
        let (scheme, rest) = value.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Bearer(rest.trim().to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
        let (name, secret) = decoded.split_once(':')?;
        Some(Self::Basic { name: name.to_owned(), secret: secret.to_owned() })
    }

    fn matches(&self, user: &User) -> Choice {
        match self {
            Self::Bearer(token) => same_option(token, user.token.as_deref()),
            Self::Basic { name: name_given, secret } => {
                let name = same(name_given, &user.name) | same_option(name_given, user.access_key.as_deref());
                let secret_is = same_option(secret, user.secret_key.as_deref())
                    | same_option(secret, user.token.as_deref());
                user.keys.iter().fold(name & secret_is, |found, pair| {
                    found | same(name_given, &pair.access_key) & same_option(secret, Some(&pair.secret_key))
                })
            }
        }
    }
}

fn same_option(given: &str, wanted: Option<&str>) -> Choice {
    match wanted {
        Some(wanted) if !wanted.is_empty() => same(given, wanted),
        _ => Choice::from(0),
    }
}

fn same(given: &str, wanted: &str) -> Choice {
    given.as_bytes().ct_eq(wanted.as_bytes())
}

/// The one token of the admin or the peer port.
pub fn bearer_is(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(Credentials::parse);
    match given {
        Some(Credentials::Bearer(given)) => bool::from(same_option(&given, Some(token))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const USERS: &str = "
- name: alice
  accessKey: AK
  secretKey: SK
  token: alice-token
  rights:
  - {bucket: photos, prefix: 2026/, allow: [read, list]}
  - {bucket: 'tmp-*', allow: [admin]}
- {name: bob, token: bob-token}
";

    fn check(authorization: &str, right: Right, bucket: &str, name: &str, want: Result<(), Denied>) {
        let users = Users::parse(USERS, false).expect("the document is right");
        let mut headers = HeaderMap::new();
        if !authorization.is_empty() {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).expect("a header"));
        }
        assert_eq!(
            users.check(&headers, right, Target { bucket, name }),
            want,
            "{authorization} {bucket}/{name}"
        );
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn rights_follow_bucket_and_prefix() {
        check("Bearer alice-token", Right::Read, "photos", "2026/a", Ok(()));
        check("bearer alice-token", Right::Write, "photos", "2026/a", Err(Denied::Forbidden));
        check("Bearer alice-token", Right::Read, "photos", "2025/a", Err(Denied::Forbidden));
        check("Bearer alice-token", Right::Write, "tmp-7", "x", Ok(()));
        check("Bearer bob-token", Right::Read, "photos", "2026/a", Err(Denied::Forbidden));
    }

    #[test]
    fn both_schemes_name_the_same_user() {
        check(&basic("AK:SK"), Right::Read, "photos", "2026/a", Ok(()));
        check(&basic("alice:alice-token"), Right::Read, "photos", "2026/a", Ok(()));
        check(&basic("alice:bob-token"), Right::Read, "photos", "2026/a", Err(Denied::Unknown));
    }

    #[test]
    fn what_nobody_has_is_unknown() {
        for wrong in
            ["", "Bearer ", "Bearer nope", "Bearer", "Basic !!", "Digest x", &basic("AK:"), &basic(":")]
        {
            check(wrong, Right::Read, "photos", "2026/a", Err(Denied::Unknown));
        }
    }

    #[test]
    fn a_user_without_credentials_is_refused() {
        assert!(matches!(Users::parse("- {name: eve}", false), Err(UsersError::NoCredentials(_))));
        assert!(matches!(Users::parse("- {name: eve, token: ''}", false), Err(UsersError::NoCredentials(_))));
        assert!(Users::parse("", true).is_ok());
    }
}
