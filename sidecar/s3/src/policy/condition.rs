//! Conditions of a statement: what a request must be like besides who sends it and what it does.

use std::net::IpAddr;

use s3s::dto::{Timestamp, TimestampFormat};
use serde_json::Value;

use super::{PolicyError, like, malformed, unknown};

/// What is known of a request: condition keys in lower case, and what they are. A key may have several values.
pub type Facts = Vec<(String, String)>;

/// Keys that are known in full, in lower case.
const KEYS: &[&str] = &[
    "aws:sourceip",
    "aws:securetransport",
    "aws:referer",
    "aws:useragent",
    "aws:username",
    "aws:currenttime",
    "aws:epochtime",
    "s3:prefix",
    "s3:delimiter",
    "s3:max-keys",
    "s3:versionid",
    "s3:authtype",
    "s3:signatureversion",
    "s3:if-match",
    "s3:if-none-match",
    "s3:requestobjecttagkeys",
];
/// Keys of which the start is known: headers, and tags by their names.
const STARTS: &[&str] = &["s3:x-amz-", EXISTING_TAG, "s3:requestobjecttag/"];
/// Tags of the object that is there already: who asks for them has to look.
pub const EXISTING_TAG: &str = "s3:existingobjecttag/";
/// Ranges of addresses wider than this are as good as everybody, as AWS counts.
const BITS_V4_MIN: u8 = 8;
const BITS_V6_MIN: u8 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equals,
    EqualsIgnoreCase,
    Like,
    Bool,
    Ip,
    /// Numbers, and times as numbers: holds for these orders of what is to what is wanted.
    Number {
        less: bool,
        equal: bool,
        greater: bool,
    },
    Date {
        less: bool,
        equal: bool,
        greater: bool,
    },
    Null,
}

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
    values: Vec<String>,
}

use Compare::{Bool, Date, Equals, EqualsIgnoreCase, Ip, Like, Null, Number};

const OPERATORS: &[(&str, Compare, bool)] = &[
    ("StringEquals", Equals, false),
    ("StringNotEquals", Equals, true),
    ("StringEqualsIgnoreCase", EqualsIgnoreCase, false),
    ("StringNotEqualsIgnoreCase", EqualsIgnoreCase, true),
    ("StringLike", Like, false),
    ("StringNotLike", Like, true),
    ("Bool", Bool, false),
    ("IpAddress", Ip, false),
    ("NotIpAddress", Ip, true),
    ("NumericEquals", Number { less: false, equal: true, greater: false }, false),
    ("NumericNotEquals", Number { less: false, equal: true, greater: false }, true),
    ("NumericLessThan", Number { less: true, equal: false, greater: false }, false),
    ("NumericLessThanEquals", Number { less: true, equal: true, greater: false }, false),
    ("NumericGreaterThan", Number { less: false, equal: false, greater: true }, false),
    ("NumericGreaterThanEquals", Number { less: false, equal: true, greater: true }, false),
    ("DateEquals", Date { less: false, equal: true, greater: false }, false),
    ("DateNotEquals", Date { less: false, equal: true, greater: false }, true),
    ("DateLessThan", Date { less: true, equal: false, greater: false }, false),
    ("DateLessThanEquals", Date { less: true, equal: true, greater: false }, false),
    ("DateGreaterThan", Date { less: false, equal: false, greater: true }, false),
    ("DateGreaterThanEquals", Date { less: false, equal: true, greater: true }, false),
    ("Null", Null, false),
];

/// All conditions of a statement; all must hold.
pub(super) fn parse(given: Option<&Value>) -> Result<Vec<Condition>, PolicyError> {
    let Some(given) = given else { return Ok(Vec::new()) };
    let operators = given.as_object().ok_or_else(|| malformed("Conditions must be an object"))?;
    let mut all = Vec::new();
    for (operator, keys) in operators {
        let keys = keys.as_object().ok_or_else(|| malformed("Conditions must be an object"))?;
        for (key, values) in keys {
            all.push(condition(operator, key, values)?);
        }
    }
    Ok(all)
}

fn condition(operator: &str, key: &str, values: &Value) -> Result<Condition, PolicyError> {
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
    let key_lower = key.to_ascii_lowercase();
    if !KEYS.contains(&key_lower.as_str()) && !STARTS.iter().any(|start| key_lower.starts_with(start)) {
        return Err(unknown(&format!("The condition key {key}")));
    }
    let all = match values {
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    };
    let values: Vec<String> = all.into_iter().map(text).collect::<Result<_, _>>()?;
    if values.is_empty() || values.iter().any(|value| value.contains("${")) {
        return Err(unknown("A condition without values, or with a variable,"));
    }
    let condition =
        Condition { compare: *compare, negated: *negated, if_exists, over, key: key_lower, values };
    if !condition.values.iter().all(|value| condition.is_readable(value)) {
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
        if self.compare == Null {
            return self.values.iter().any(|value| value.eq_ignore_ascii_case("true")) == found.is_empty();
        }
        match self.over {
            Over::All => found.iter().all(|found| self.fits(found)),
            Over::Any => found.iter().any(|found| self.fits(found)),
            // What is not there is unlike anything.
            Over::One if found.is_empty() => self.if_exists || self.negated,
            Over::One => found.iter().all(|found| self.fits(found)),
        }
    }

    fn fits(&self, found: &str) -> bool {
        self.values.iter().any(|wanted| self.compare.fits(found, wanted)) != self.negated
    }

    /// The key of a tag of the object that is there already.
    pub(super) fn wants_tags(&self) -> bool {
        self.key.starts_with(EXISTING_TAG)
    }

    /// Does it let in only who comes from a few addresses?
    pub(super) fn is_narrow(&self) -> bool {
        let narrow = |value: &String| {
            block(value).is_some_and(|(address, bits)| match address {
                IpAddr::V4(_) => bits >= BITS_V4_MIN,
                IpAddr::V6(_) => bits >= BITS_V6_MIN,
            })
        };
        let kind = self.compare == Ip && !self.negated && !self.if_exists && self.over == Over::One;
        kind && self.key == "aws:sourceip" && self.values.iter().all(narrow)
    }

    fn is_readable(&self, value: &str) -> bool {
        match self.compare {
            Ip => block(value).is_some(),
            Bool | Null => ["true", "false"].iter().any(|known| value.eq_ignore_ascii_case(known)),
            Number { .. } => value.parse::<f64>().is_ok(),
            Date { .. } => seconds(value).is_some(),
            Equals | EqualsIgnoreCase | Like => true,
        }
    }
}

impl Compare {
    fn fits(self, found: &str, wanted: &str) -> bool {
        let ordered = |order: Option<std::cmp::Ordering>, less, equal, greater| match order {
            Some(std::cmp::Ordering::Less) => less,
            Some(std::cmp::Ordering::Equal) => equal,
            Some(std::cmp::Ordering::Greater) => greater,
            None => false,
        };
        match self {
            Equals => found == wanted,
            EqualsIgnoreCase | Bool => found.to_lowercase() == wanted.to_lowercase(),
            Like => like(wanted.as_bytes(), found.as_bytes()),
            Ip => found.parse().is_ok_and(|address| within(address, wanted)),
            Number { less, equal, greater } => {
                let pair = found.parse::<f64>().ok().zip(wanted.parse::<f64>().ok());
                ordered(pair.and_then(|(found, wanted)| found.partial_cmp(&wanted)), less, equal, greater)
            }
            Date { less, equal, greater } => {
                let pair = seconds(found).zip(seconds(wanted));
                ordered(pair.and_then(|(found, wanted)| found.partial_cmp(&wanted)), less, equal, greater)
            }
            Null => false,
        }
    }
}

/// Seconds since 1970 of a date, or of a number that is that already.
fn seconds(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let long = if text.len() == "2030-01-01".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time = Timestamp::parse(TimestampFormat::DateTime, &long).ok()?;
    let mut out = Vec::new();
    time.format(TimestampFormat::EpochSeconds, &mut out).ok()?;
    String::from_utf8(out).ok()?.parse().ok()
}

/// `203.0.113.0/24`, or one address.
fn block(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        None => (text.parse::<IpAddr>().ok()?, None),
        Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits.parse::<u8>().ok()?)),
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some((address, bits))
}

fn within(address: IpAddr, text: &str) -> bool {
    let Some((network, bits)) = block(text) else { return false };
    match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            u32::from(address) & mask == u32::from(network) & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            u128::from(address) & mask == u128::from(network) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(given: &Value, facts: &[(&str, &str)], want: bool) {
        let all = parse(Some(given)).expect("conditions");
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
            json!({"Bool": {"aws:SecureTransport": "maybe"}}),
            json!({"NumericEquals": {"s3:max-keys": "ten"}}),
            json!({"DateLessThan": {"aws:CurrentTime": "soon"}}),
        ] {
            assert!(matches!(parse(Some(&given)), Err(PolicyError::Malformed(_))), "{given}");
        }
        for given in [
            json!({"StringEquals": {"aws:SourceVpc": "vpc-1"}}),
            json!({"StringLike": {"s3:prefix": "${aws:username}/*"}}),
            json!({"StringEquals": {"s3:prefix": []}}),
        ] {
            assert!(matches!(parse(Some(&given)), Err(PolicyError::NotImplemented(_))), "{given}");
        }
    }
}
