//! Bucket policies, as far as this store evaluates them: what everybody may do, by action and resource. Statements
//! that depend on more are refused when they are set: a policy that is kept and not followed would be a lie.

use serde::Deserialize;

/// S3's own limit.
pub const POLICY_BYTES_MAX: usize = 20 << 10;

/// What somebody without credentials is about to do.
#[derive(Clone, Copy, Debug)]
pub struct Deed<'a> {
    /// `s3:GetObject` and the like.
    pub action: &'a str,
    pub bucket: &'a str,
    /// Empty: the bucket itself.
    pub key: &'a str,
}

/// A policy that can be evaluated.
#[derive(Clone, Debug)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
struct Statement {
    allow: bool,
    actions: Vec<String>,
    resources: Vec<String>,
}

/// Why a document is no policy of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    NotImplemented(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    #[serde(default)]
    version: Option<String>,
    statement: OneOrMany<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    effect: String,
    principal: Option<serde_json::Value>,
    action: Option<OneOrMany<String>>,
    resource: Option<OneOrMany<String>>,
    condition: Option<serde_json::Value>,
    not_principal: Option<serde_json::Value>,
    not_action: Option<serde_json::Value>,
    not_resource: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn all(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

impl Policy {
    /// Reads a policy of this bucket.
    pub fn parse(text: &str, bucket: &str) -> Result<Self, PolicyError> {
        let malformed = |message: &str| PolicyError::Malformed(message.to_owned());
        let document: Document =
            serde_json::from_str(text).map_err(|_| malformed("This policy contains invalid Json"))?;
        if !matches!(document.version.as_deref(), None | Some("2012-10-17" | "2008-10-17")) {
            return Err(malformed("The policy must contain a valid version string"));
        }
        let statements = document.statement.all();
        if statements.is_empty() {
            return Err(malformed("Could not parse the policy: Statement is empty!"));
        }
        let statements = statements.into_iter().map(|raw| statement(raw, bucket));
        Ok(Self { statements: statements.collect::<Result<_, _>>()? })
    }

    /// May everybody do this? A denial wins.
    pub fn allows(&self, deed: Deed<'_>) -> bool {
        let meant = |statement: &&Statement| statement.is_about(deed);
        self.statements.iter().filter(meant).any(|statement| statement.allow)
            && !self.statements.iter().filter(meant).any(|statement| !statement.allow)
    }

    /// Does it open anything to everybody?
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| statement.allow)
    }
}

fn statement(raw: Raw, bucket: &str) -> Result<Statement, PolicyError> {
    let malformed = |message: &str| PolicyError::Malformed(message.to_owned());
    let unknown =
        |what: &str| PolicyError::NotImplemented(format!("{what} in a bucket policy is not implemented"));
    let allow = match raw.effect.as_str() {
        "Allow" => true,
        "Deny" => false,
        other => return Err(malformed(&format!("Invalid effect: {other}"))),
    };
    if raw.not_principal.is_some() || raw.not_action.is_some() || raw.not_resource.is_some() {
        return Err(unknown("NotPrincipal, NotAction or NotResource"));
    }
    if raw.condition.is_some_and(|condition| condition.as_object().is_none_or(|map| !map.is_empty())) {
        return Err(unknown("Condition"));
    }
    let principal = raw.principal.ok_or_else(|| malformed("Missing required field Principal"))?;
    if !is_everybody(&principal) {
        return Err(unknown("A Principal other than \"*\""));
    }
    let actions = raw.action.ok_or_else(|| malformed("Missing required field Action"))?.all();
    if let Some(action) = actions.iter().find(|action| **action != "*" && !action.starts_with("s3:")) {
        return Err(malformed(&format!("Policy has invalid action: {action}")));
    }
    let resources = raw.resource.ok_or_else(|| malformed("Missing required field Resource"))?.all();
    let own = resources.iter().map(|resource| {
        let path = resource.strip_prefix("arn:aws:s3:::").unwrap_or_default();
        let fits = path == bucket
            || path == "*"
            || path.strip_prefix(bucket).is_some_and(|rest| rest.starts_with('/'));
        fits.then(|| path.to_owned()).ok_or_else(|| malformed("Policy has invalid resource"))
    });
    Ok(Statement { allow, actions, resources: own.collect::<Result<_, _>>()? })
}

fn is_everybody(principal: &serde_json::Value) -> bool {
    use serde_json::Value;
    match principal {
        Value::String(text) => text == "*",
        Value::Array(all) => all.iter().any(is_everybody),
        Value::Object(map) => map.get("AWS").is_some_and(is_everybody),
        _ => false,
    }
}

impl Statement {
    fn is_about(&self, deed: Deed<'_>) -> bool {
        let path = if deed.key.is_empty() {
            deed.bucket.to_owned()
        } else {
            format!("{}/{}", deed.bucket, deed.key)
        };
        self.actions.iter().any(|action| like(action.as_bytes(), deed.action.as_bytes()))
            && self.resources.iter().any(|resource| like(resource.as_bytes(), path.as_bytes()))
    }
}

/// `*` stands for any text, `?` for one byte. Linear in both: the last star is the only one gone back to.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_none_or(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:GetObject"],"Resource":"arn:aws:s3:::b/pub/*"},
        {"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::b/pub/x*"]}]}"#;

    fn check(action: &str, key: &str, want: bool) {
        let policy = Policy::parse(READ, "b").expect("a policy");
        assert_eq!(policy.allows(Deed { action, bucket: "b", key }), want, "{action} {key}");
    }

    #[test]
    fn what_is_allowed_is_allowed_and_a_denial_wins() {
        check("s3:GetObject", "pub/a/b", true);
        check("s3:GetObject", "private", false);
        check("s3:PutObject", "pub/a", false);
        check("s3:GetObject", "pub/x1", false);
        check("s3:ListBucket", "", false);
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let refuse = |text: &str| Policy::parse(text, "b").expect_err("no policy of ours");
        assert!(matches!(refuse("{"), PolicyError::Malformed(_)));
        for part in [
            r#""Principal":{"AWS":"arn:aws:iam::1:root"},"Action":"s3:GetObject""#,
            r#""Principal":"*","Action":"s3:GetObject","Condition":{"Bool":{"aws:SecureTransport":"true"}}"#,
        ] {
            let text =
                format!(r#"{{"Statement":{{"Effect":"Allow",{part},"Resource":"arn:aws:s3:::b/*"}}}}"#);
            assert!(matches!(refuse(&text), PolicyError::NotImplemented(_)), "{part}");
        }
        let other = READ.replace(":::b/", ":::other/");
        assert!(matches!(refuse(&other), PolicyError::Malformed(_)));
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?c*", "abcd", true),
            ("", "a", false),
        ] {
            assert_eq!(like(pattern.as_bytes(), text.as_bytes()), want, "{pattern} {text}");
        }
    }
}
