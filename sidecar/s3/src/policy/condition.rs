//! Conditions of a statement: what a request must be like besides who sends it and what it does.

use std::net::IpAddr;

use serde_json::Value;

use super::compare::{Compare, OPERATORS, Wanted, block};
use super::pattern::{Language, Pattern};
use super::{PolicyError, malformed, unknown};

/// What is known of a request: condition keys in lower case, and what they are. A key may have several values.
pub type Facts = Vec<(String, String)>;

/// Keys that are known in full, in lower case.
const KEYS: &[&str] = &[
    "aws:sourceip",
    "aws:securetransport",
    "aws:referer",
    "aws:useragent",
    "aws:username",
    "aws:userid",
    "aws:principaltype",
    "aws:principalarn",
    "aws:principalaccount",
    "aws:principalisawsservice",
    "aws:viaawsservice",
    "aws:resourceaccount",
    "aws:currenttime",
    "aws:epochtime",
    "s3:prefix",
    "s3:delimiter",
    "s3:max-keys",
    "s3:versionid",
    "s3:authtype",
    "s3:signatureversion",
    "s3:signatureage",
    "s3:tlsversion",
    "s3:resourceaccount",
    "s3:objectcreationoperation",
    "s3:if-match",
    "s3:if-none-match",
    MANY,
];
/// The one key with several values.
const MANY: &str = "s3:requestobjecttagkeys";
/// Keys of which the start is known: headers, and tags by their names.
const STARTS: &[&str] = &["s3:x-amz-", EXISTING_TAG, "s3:requestobjecttag/"];
/// Tags of the object that is there already: who asks for them has to look.
pub const EXISTING_TAG: &str = "s3:existingobjecttag/";
/// The id of whoever did not sign.
pub const ANONYMOUS: &str = "anonymous";
/// Ranges of addresses wider than this are as good as everybody, as AWS counts.
const BITS_V4_MIN: u8 = 8;
const BITS_V6_MIN: u8 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    One,
    All,
    Any,
}

/// One key of one operator.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    compare: Compare,
    /// Of a `Not…` operator.
    negated: bool,
    if_exists: bool,
    over: Over,
    key: String,
    values: Vec<Pattern>,
}

/// Is this key, in lower case, one that requests are looked at for?
pub(super) fn is_known(key: &str) -> bool {
    KEYS.contains(&key) || STARTS.iter().any(|start| key.len() > start.len() && key.starts_with(start))
}

/// May it have several values?
pub(super) fn has_many(key: &str) -> bool {
    key == MANY
}

/// The key of a tag of the object that is there already.
pub(super) fn is_tag(key: &str) -> bool {
    key.starts_with(EXISTING_TAG)
}

/// All conditions of a statement; all must hold.
pub(super) fn parse(given: Option<&Value>, language: Language) -> Result<Vec<Condition>, PolicyError> {
    let Some(given) = given else { return Ok(Vec::new()) };
    let operators = given.as_object().ok_or_else(|| malformed("Conditions must be an object"))?;
    let mut all = Vec::new();
    for (operator, keys) in operators {
        let keys = keys.as_object().ok_or_else(|| malformed("Conditions must be an object"))?;
        for (key, values) in keys {
            all.push(condition(operator, key, values, language)?);
        }
    }
    Ok(all)
}

fn condition(
    operator: &str,
    key: &str,
    values: &Value,
    language: Language,
) -> Result<Condition, PolicyError> {
    let (over, rest) = match operator.split_once(':') {
        Some(("ForAllValues", rest)) => (Over::All, rest),
        Some(("ForAnyValue", rest)) => (Over::Any, rest),
        _ => (Over::One, operator),
    };
    let (if_exists, name) = match rest.strip_suffix("IfExists") {
        Some(name) => (true, name),
        None => (false, rest),
    };
    let known = OPERATORS.iter().find(|(known, ..)| *known == name);
    let Some((_, compare, negated)) = known else {
        return Err(malformed(&format!("Invalid Condition type : {operator}")));
    };
    // What is not there is what Null asks about.
    if if_exists && *compare == Compare::Null {
        return Err(malformed(&format!("Invalid Condition type : {operator}")));
    }
    let key_lower = key.to_ascii_lowercase();
    if !is_known(&key_lower) {
        return Err(unknown(&format!("The condition key {key}")));
    }
    let all = match values {
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    };
    // Only texts have variables: a number or an address with one is none.
    let language = if compare.is_text() { language } else { Language::Plain };
    let values: Vec<Pattern> = all
        .into_iter()
        .map(|value| Pattern::parse(&text(value)?, language))
        .collect::<Result<_, PolicyError>>()?;
    if values.is_empty() {
        return Err(unknown("A condition without values"));
    }
    let condition =
        Condition { compare: *compare, negated: *negated, if_exists, over, key: key_lower, values };
    if !condition.values.iter().all(|value| compare.is_readable(&value.text)) {
        return Err(malformed(&format!("Invalid value for the condition {operator} on {key}")));
    }
    Ok(condition)
}

fn text(value: &Value) -> Result<String, PolicyError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        _ => Err(malformed("Values of conditions are texts, numbers or booleans")),
    }
}

impl Condition {
    /// Does it hold for this request?
    pub(super) fn holds(&self, facts: &[(String, String)]) -> bool {
        let found: Vec<&str> =
            facts.iter().filter(|(key, _)| *key == self.key).map(|(_, value)| value.as_str()).collect();
        if self.compare == Compare::Null {
            return self.values.iter().any(|value| value.text.eq_ignore_ascii_case("true"))
                == found.is_empty();
        }
        let wanted: Vec<Wanted<'_>> = self
            .values
            .iter()
            .filter_map(|value| Some(Wanted { text: &value.text, pieces: value.filled(facts)? }))
            .collect();
        let fits = |found: &&str| self.fits(found, &wanted);
        match self.over {
            Over::All => found.iter().all(fits),
            Over::Any => found.iter().any(fits),
            // What is not there is unlike anything.
            Over::One if found.is_empty() => self.if_exists || self.negated,
            Over::One => found.iter().all(fits),
        }
    }

    fn fits(&self, found: &str, wanted: &[Wanted<'_>]) -> bool {
        wanted.iter().any(|wanted| self.compare.fits(found, wanted)) != self.negated
    }

    /// Does it ask about a tag of the object that is there already?
    pub(super) fn wants_tags(&self) -> bool {
        is_tag(&self.key) || self.values.iter().flat_map(Pattern::variables).any(is_tag)
    }

    pub(super) fn values(&self) -> &[Pattern] {
        &self.values
    }

    /// Does it let in only who comes from a few addresses, or is one of a few users?
    pub(super) fn is_narrow(&self) -> bool {
        let narrow = |value: &Pattern| {
            block(&value.text).is_some_and(|(address, bits)| match address {
                IpAddr::V4(_) => bits >= BITS_V4_MIN,
                IpAddr::V6(_) => bits >= BITS_V6_MIN,
            })
        };
        if self.negated || self.if_exists || self.over != Over::One {
            return false;
        }
        let user = |value: &Pattern| value.variables().next().is_none() && value.text != ANONYMOUS;
        match (self.compare, self.key.as_str()) {
            (Compare::Ip, "aws:sourceip") => self.values.iter().all(narrow),
            (Compare::Equals, "aws:userid") => self.values.iter().all(user),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(given: &Value, facts: &[(&str, &str)], want: bool) {
        let all = parse(Some(given), Language::Variables).expect("conditions");
        let facts: Facts =
            facts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(all.iter().all(|one| one.holds(&facts)), want, "{given} {facts:?}");
    }

    #[test]
    fn texts_are_compared_as_the_operator_says() {
        let prefix = |operator: &str, value: Value| json!({operator: {"s3:prefix": value}});
        check(&prefix("StringEquals", json!("a/")), &[("s3:prefix", "a/")], true);
        check(&prefix("StringEquals", json!(["b/", "a/"])), &[("s3:prefix", "a/")], true);
        check(&prefix("StringEquals", json!("a/")), &[("s3:prefix", "A/")], false);
        check(&prefix("StringEqualsIgnoreCase", json!("a/")), &[("s3:prefix", "A/")], true);
        check(&prefix("StringLike", json!("a*")), &[("s3:prefix", "abc")], true);
        check(&prefix("StringNotLike", json!("a*")), &[("s3:prefix", "abc")], false);
        check(&prefix("StringNotEquals", json!(["a", "b"])), &[("s3:prefix", "b")], false);
        check(&prefix("StringEquals", json!("a")), &[], false);
        check(&prefix("StringEqualsIfExists", json!("a")), &[], true);
        check(&prefix("StringNotEquals", json!("a")), &[], true);
        check(&prefix("Null", json!("true")), &[], true);
        check(&prefix("Null", json!(false)), &[], false);
        let two = json!({"StringEquals": {"s3:prefix": "a", "s3:delimiter": "/"}});
        check(&two, &[("s3:prefix", "a")], false);
        check(&two, &[("s3:prefix", "a"), ("s3:delimiter", "/")], true);
        let own = prefix("StringEquals", json!("${aws:username}/*"));
        check(&own, &[("s3:prefix", "ann/*"), ("aws:username", "ann")], true);
        check(&own, &[("s3:prefix", "ann/x"), ("aws:username", "ann")], false);
        check(&prefix("StringLike", json!("${*}*")), &[("s3:prefix", "*x")], true);
        check(&prefix("StringLike", json!("${*}*")), &[("s3:prefix", "x")], false);
        let arn = json!({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/a*"}});
        check(&arn, &[("aws:principalarn", "arn:aws:iam::000000000000:user/ann")], true);
        check(&arn, &[("aws:principalarn", "arn:aws:iam::000000000000:user/bob")], false);
    }

    #[test]
    fn addresses_numbers_and_dates_are_what_they_are() {
        let ip = |operator: &str, value: &str| json!({operator: {"aws:SourceIp": value}});
        check(&ip("IpAddress", "10.1.0.0/16"), &[("aws:sourceip", "10.1.2.3")], true);
        check(&ip("IpAddress", "10.1.0.0/16"), &[("aws:sourceip", "::ffff:10.1.2.3")], true);
        check(&ip("IpAddress", "10.1.0.0/16"), &[("aws:sourceip", "10.2.2.3")], false);
        check(&ip("NotIpAddress", "10.1.0.0/16"), &[("aws:sourceip", "10.2.2.3")], true);
        check(&ip("IpAddress", "2001:db8::/32"), &[("aws:sourceip", "2001:db8:1::1")], true);
        check(&ip("IpAddress", "0.0.0.0/0"), &[("aws:sourceip", "9.9.9.9")], true);
        let keys = json!({"NumericLessThanEquals": {"s3:max-keys": "10"}});
        check(&keys, &[("s3:max-keys", "10")], true);
        check(&keys, &[("s3:max-keys", "11")], false);
        let until = json!({"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}});
        check(&until, &[("aws:currenttime", "1893455999")], true);
        check(&until, &[("aws:currenttime", "1893456000")], false);
        check(&json!({"Bool": {"aws:SecureTransport": false}}), &[("aws:securetransport", "false")], true);
    }

    #[test]
    fn sets_hold_for_all_or_for_any() {
        let with =
            |over: &str| json!({format!("{over}:StringEquals"): {"s3:RequestObjectTagKeys": ["a", "b"]}});
        let key = "s3:requestobjecttagkeys";
        check(&with("ForAllValues"), &[(key, "a"), (key, "b")], true);
        check(&with("ForAllValues"), &[(key, "a"), (key, "c")], false);
        check(&with("ForAllValues"), &[], true);
        check(&with("ForAnyValue"), &[(key, "a"), (key, "c")], true);
        check(&with("ForAnyValue"), &[], false);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for given in [
            json!([]),
            json!({"StringAlmostEquals": {"s3:prefix": "a"}}),
            json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}),
            json!({"IpAddress": {"aws:SourceIp": "home"}}),
            json!({"NullIfExists": {"s3:prefix": "true"}}),
            json!({"ForSomeValues:StringEquals": {"s3:prefix": "a"}}),
            json!({"Bool": {"aws:SecureTransport": "maybe"}}),
            json!({"NumericEquals": {"s3:max-keys": "ten"}}),
            json!({"DateLessThan": {"aws:CurrentTime": "soon"}}),
            json!({"IpAddress": {"aws:SourceIp": "${aws:SourceIp}"}}),
        ] {
            assert!(
                matches!(parse(Some(&given), Language::Variables), Err(PolicyError::Malformed(_))),
                "{given}"
            );
        }
        for given in [
            json!({"StringEquals": {"aws:SourceVpc": "vpc-1"}}),
            json!({"StringLike": {"s3:prefix": "${aws:PrincipalTag/team}/*"}}),
            json!({"StringEquals": {"s3:ExistingObjectTag/": "a"}}),
            json!({"StringEquals": {"s3:prefix": []}}),
        ] {
            assert!(
                matches!(parse(Some(&given), Language::Variables), Err(PolicyError::NotImplemented(_))),
                "{given}"
            );
        }
    }
}
