//! Bucket policies, as far as this store evaluates them: what everybody may do, by action and resource. Statements
//! that depend on more are refused when they are set: a policy that is kept and not followed would be a lie.

use serde::Deserialize;

use crate::actions::{self, Level};

/// S3's own limit.
pub const POLICY_BYTES_MAX: usize = 20 << 10;

/// What somebody is about to do.
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

/// What a policy says of a deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everybody may.
    Allow,
    /// Nobody may.
    Deny,
    /// Who has the right may.
    Silent,
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
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Document {
    #[serde(default)]
    version: Option<String>,
    #[serde(default, rename = "Id")]
    _id: Option<String>,
    statement: OneOrMany<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Raw {
    #[serde(default, rename = "Sid")]
    _sid: Option<String>,
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
        let document: Document = serde_json::from_str(text)
            .map_err(|error| malformed(&format!("This policy contains invalid Json: {error}")))?;
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

    /// What is said of everybody doing this. A denial wins, in whichever statement it stands.
    pub fn verdict(&self, deed: Deed<'_>) -> Verdict {
        let meant = |allow: bool| {
            self.statements.iter().any(|statement| statement.allow == allow && statement.is_about(deed))
        };
        match (meant(false), meant(true)) {
            (true, _) => Verdict::Deny,
            (false, true) => Verdict::Allow,
            (false, false) => Verdict::Silent,
        }
    }

    /// Does it open anything to everybody?
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| statement.allow)
    }
}

fn malformed(message: &str) -> PolicyError {
    PolicyError::Malformed(message.to_owned())
}

fn statement(raw: Raw, bucket: &str) -> Result<Statement, PolicyError> {
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
    let resources = raw.resource.ok_or_else(|| malformed("Missing required field Resource"))?.all();
    if resources.iter().any(|resource| resource.contains("${")) {
        return Err(unknown("A variable"));
    }
    let own = resources.iter().map(|resource| {
        let path = resource.strip_prefix("arn:aws:s3:::").unwrap_or_default();
        let fits = path == bucket || path.strip_prefix(bucket).is_some_and(|rest| rest.starts_with('/'));
        fits.then(|| path.to_owned()).ok_or_else(|| malformed("Policy has invalid resource"))
    });
    let resources: Vec<String> = own.collect::<Result<_, _>>()?;
    if actions.is_empty() || resources.is_empty() {
        return Err(malformed("Policy statement must contain actions and resources"));
    }
    for action in &actions {
        applies(action, &resources)?;
    }
    Ok(Statement { allow, actions, resources })
}

/// An action that nothing has, or that fits none of the resources, is a mistake that would go unnoticed.
fn applies(action: &str, resources: &[String]) -> Result<(), PolicyError> {
    let levels = actions::levels(action);
    if levels.is_empty() {
        return Err(malformed("Policy has invalid action"));
    }
    let level = |path: &String| if path.contains('/') { Level::Object } else { Level::Bucket };
    if !resources.iter().any(|path| levels.contains(&level(path))) {
        return Err(malformed("Action does not apply to any resource(s) in statement"));
    }
    Ok(())
}

fn is_everybody(principal: &serde_json::Value) -> bool {
    use serde_json::Value;
    let star = |value: &Value| value.as_str() == Some("*");
    match principal {
        Value::String(text) => text == "*",
        Value::Object(map) => map.get("AWS").is_some_and(|aws| match aws {
            Value::Array(all) => all.iter().any(star),
            one => star(one),
        }),
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
        self.actions.iter().any(|action| actions::names(action, deed.action))
            && self.resources.iter().any(|resource| like(resource.as_bytes(), path.as_bytes()))
    }
}

/// `*` stands for any text, `?` for one byte. Linear in both: the last star is the only one gone back to.
pub(crate) fn like(pattern: &[u8], text: &[u8]) -> bool {
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

    fn check(text: &str, action: &str, key: &str, want: Verdict) {
        let policy = Policy::parse(text, "b").expect("a policy");
        assert_eq!(policy.verdict(Deed { action, bucket: "b", key }), want, "{action} {key}");
    }

    #[test]
    fn what_is_allowed_is_allowed_and_a_denial_wins() {
        check(READ, "s3:GetObject", "pub/a/b", Verdict::Allow);
        check(READ, "s3:GetObject", "private", Verdict::Silent);
        check(READ, "s3:PutObject", "pub/a", Verdict::Silent);
        check(READ, "s3:GetObjectTagging", "pub/a", Verdict::Silent);
        check(READ, "s3:GetObject", "pub/x1", Verdict::Deny);
        check(READ, "s3:PutObject", "pub/x1", Verdict::Deny);
        check(READ, "s3:ListBucket", "", Verdict::Silent);
    }

    #[test]
    fn a_bucket_is_not_its_objects() {
        let all = |resource: &str| {
            format!(
                r#"{{"Statement":{{"Sid":"1","Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"{resource}"}}}}"#
            )
        };
        let objects = all("arn:aws:s3:::b/*");
        check(&objects, "s3:ListBucket", "", Verdict::Silent);
        check(&objects, "s3:DeleteObject", "any/key", Verdict::Allow);
        let bucket = all("arn:aws:s3:::b");
        check(&bucket, "s3:ListBucket", "", Verdict::Allow);
        check(&bucket, "s3:GetObject", "key", Verdict::Silent);
        let prefix = all("arn:aws:s3:::b/a?/");
        check(&prefix, "s3:GetObject", "a1/", Verdict::Allow);
        check(&prefix, "s3:GetObject", "a1/x", Verdict::Silent);
    }

    #[test]
    fn names_of_actions_have_no_case() {
        let text = READ.replace("s3:GetObject", "S3:getobject");
        check(&text, "s3:GetObject", "pub/a", Verdict::Allow);
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let refuse = |text: &str| Policy::parse(text, "b").expect_err("no policy of ours");
        let with = |part: &str| {
            format!(r#"{{"Statement":{{"Effect":"Allow",{part},"Resource":"arn:aws:s3:::b/*"}}}}"#)
        };
        assert!(matches!(refuse("{"), PolicyError::Malformed(_)));
        for part in [
            r#""Principal":{"AWS":"arn:aws:iam::1:root"},"Action":"s3:GetObject""#,
            r#""Principal":{"Service":"*"},"Action":"s3:GetObject""#,
            r#""Principal":"*","NotAction":"s3:GetObject""#,
            r#""Principal":"*","Action":"s3:GetObject","Condition":{"Bool":{"aws:SecureTransport":"true"}}"#,
        ] {
            assert!(matches!(refuse(&with(part)), PolicyError::NotImplemented(_)), "{part}");
        }
        for part in [
            r#""Principal":"*","Action":"s3:GetObjekt""#,
            r#""Principal":"*","Action":"s3:ListBucket""#,
            r#""Principal":"*","Action":[]"#,
            r#""Principal":"*","Action":"s3:GetObject","Conditions":{}"#,
            r#""Principal":"*","Action":"s3:GetObject","Action":"s3:PutObject""#,
            r#""Action":"s3:GetObject""#,
        ] {
            assert!(matches!(refuse(&with(part)), PolicyError::Malformed(_)), "{part}");
        }
        for other in [":::other/", ":::bb/", ":::*/"] {
            assert!(matches!(refuse(&READ.replace(":::b/", other)), PolicyError::Malformed(_)), "{other}");
        }
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
