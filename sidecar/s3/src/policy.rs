//! Bucket policies, as far as this store evaluates them: who may do what to what, and on which conditions. What is not
//! evaluated is refused when it is set: a policy that is kept and not followed would be a lie.

use serde::Deserialize;
use serde_json::Value;

use crate::actions::{self, Level};

mod compare;
mod condition;
pub(crate) mod pattern;
mod principal;

use condition::Condition;
pub use condition::{ANONYMOUS, EXISTING_TAG, Facts};
use pattern::{Language, Pattern};
use principal::Principals;

/// S3's own limit.
pub const POLICY_BYTES_MAX: usize = 20 << 10;

/// What somebody is about to do.
#[derive(Clone, Copy, Debug)]
pub struct Deed<'a> {
    /// The name of the user; nobody, if nobody signed.
    pub user: Option<&'a str>,
    /// `s3:GetObject` and the like.
    pub action: &'a str,
    pub bucket: &'a str,
    /// Empty: the bucket itself.
    pub key: &'a str,
    /// What else is known of the request.
    pub facts: &'a [(String, String)],
}

/// A policy that can be evaluated.
#[derive(Clone, Debug)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
struct Statement {
    allow: bool,
    principals: Principals,
    actions: Patterns<String>,
    resources: Patterns<Pattern>,
    conditions: Vec<Condition>,
}

/// Actions or resources, or all but these.
#[derive(Clone, Debug)]
struct Patterns<T> {
    but: bool,
    all: Vec<T>,
}

impl Patterns<String> {
    /// Exactly one of the two forms. `what`: for the refusal.
    fn parse(
        given: Option<OneOrMany<String>>,
        not: Option<OneOrMany<String>>,
        what: &str,
    ) -> Result<Self, PolicyError> {
        let (but, all) = match (given, not) {
            (Some(given), None) => (false, given.all()),
            (None, Some(not)) => (true, not.all()),
            (None, None) => return Err(malformed(&format!("Missing required field {what}"))),
            (Some(_), Some(_)) => {
                return Err(malformed(&format!("A statement has either {what} or Not{what}")));
            }
        };
        if all.is_empty() {
            return Err(malformed("Policy statement must contain actions and resources"));
        }
        Ok(Self { but, all })
    }
}

impl<T> Patterns<T> {
    fn cover(&self, fits: impl Fn(&T) -> bool) -> bool {
        self.all.iter().any(fits) != self.but
    }
}

/// What a policy says of a deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Whoever asks may.
    Allow,
    /// He may not, whatever his rights.
    Deny,
    /// He may if he has the right.
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
    statement: Option<OneOrMany<Raw>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Raw {
    #[serde(default, rename = "Sid")]
    _sid: Option<String>,
    effect: String,
    principal: Option<Value>,
    not_principal: Option<Value>,
    action: Option<OneOrMany<String>>,
    not_action: Option<OneOrMany<String>>,
    resource: Option<OneOrMany<String>>,
    not_resource: Option<OneOrMany<String>>,
    condition: Option<Value>,
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
        let language = match document.version.as_deref() {
            None | Some("2008-10-17") => Language::Plain,
            Some("2012-10-17") => Language::Variables,
            Some(_) => return Err(malformed("The policy must contain a valid version string")),
        };
        let statements =
            document.statement.ok_or_else(|| malformed("Missing required field Statement"))?.all();
        if statements.is_empty() {
            return Err(malformed("Could not parse the policy: Statement is empty!"));
        }
        let statements = statements.into_iter().map(|raw| statement(raw, bucket, language));
        Ok(Self { statements: statements.collect::<Result<_, _>>()? })
    }

    /// What is said of this. A denial wins, in whichever statement it stands. `restricted`: what is allowed to anybody is
    /// allowed to users only.
    pub fn verdict(&self, deed: Deed<'_>, restricted: bool) -> Verdict {
        let about =
            |allow: bool| self.statements.iter().filter(move |one| one.allow == allow && one.is_about(deed));
        if about(false).next().is_some() {
            return Verdict::Deny;
        }
        let open = about(true).any(|one| !(restricted && deed.user.is_none() && one.is_public()));
        if open { Verdict::Allow } else { Verdict::Silent }
    }

    /// Does it open anything to anybody?
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| statement.allow && statement.is_public())
    }

    /// Does it ask about the tags that the object has?
    pub fn wants_tags(&self) -> bool {
        self.statements.iter().any(|statement| {
            let mut named = statement.resources.all.iter().flat_map(Pattern::variables);
            named.any(condition::is_tag) || statement.conditions.iter().any(Condition::wants_tags)
        })
    }
}

fn malformed(message: &str) -> PolicyError {
    PolicyError::Malformed(message.to_owned())
}

fn unknown(what: &str) -> PolicyError {
    PolicyError::NotImplemented(format!("{what} in a bucket policy is not implemented"))
}

fn statement(raw: Raw, bucket: &str, language: Language) -> Result<Statement, PolicyError> {
    let allow = match raw.effect.as_str() {
        "Allow" => true,
        "Deny" => false,
        other => return Err(malformed(&format!("Invalid effect: {other}"))),
    };
    let principals = Principals::parse(raw.principal.as_ref(), raw.not_principal.as_ref())?;
    let actions = Patterns::parse(raw.action, raw.not_action, "Action")?;
    let Patterns { but, all } = Patterns::parse(raw.resource, raw.not_resource, "Resource")?;
    let own = all.iter().map(|resource| {
        let path = resource.strip_prefix("arn:aws:s3:::").unwrap_or_default();
        let fits = path == bucket || path.strip_prefix(bucket).is_some_and(|rest| rest.starts_with('/'));
        if !fits {
            return Err(malformed("Policy has invalid resource"));
        }
        Pattern::parse(path, language)
    });
    let resources = Patterns { but, all: own.collect::<Result<_, _>>()? };
    for action in &actions.all {
        applies(action, &resources, actions.but)?;
    }
    let conditions = condition::parse(raw.condition.as_ref(), language)?;
    Ok(Statement { allow, principals, actions, resources, conditions })
}

/// An action that nothing has, or that fits none of the resources, is a mistake that would go unnoticed.
fn applies(action: &str, resources: &Patterns<Pattern>, but: bool) -> Result<(), PolicyError> {
    let levels = actions::levels(action);
    if levels.is_empty() {
        return Err(malformed("Policy has invalid action"));
    }
    let level = |path: &Pattern| if path.text.contains('/') { Level::Object } else { Level::Bucket };
    if !but && !resources.but && !resources.all.iter().any(|path| levels.contains(&level(path))) {
        return Err(malformed("Action does not apply to any resource(s) in statement"));
    }
    Ok(())
}

impl Statement {
    fn is_about(&self, deed: Deed<'_>) -> bool {
        let path = if deed.key.is_empty() {
            deed.bucket.to_owned()
        } else {
            format!("{}/{}", deed.bucket, deed.key)
        };
        self.principals.covers(deed.user)
            && self.actions.cover(|action| actions::names(action, deed.action))
            && !self.lacks(deed.facts)
            && self.resources.cover(|resource| {
                resource.filled(deed.facts).is_some_and(|pieces| pattern::like(&pieces, &path))
            })
            && self.conditions.iter().all(|condition| condition.holds(deed.facts))
    }

    /// Does a variable stand for nothing in this request? Then the statement is about something else.
    fn lacks(&self, facts: &[(String, String)]) -> bool {
        let named = self.resources.all.iter().chain(self.conditions.iter().flat_map(Condition::values));
        named.into_iter().any(|pattern| pattern.filled(facts).is_none())
    }

    /// To anybody at all, from wherever?
    fn is_public(&self) -> bool {
        self.principals.is_anybody() && !self.conditions.iter().any(Condition::is_narrow)
    }
}

#[cfg(test)]
mod tests;
