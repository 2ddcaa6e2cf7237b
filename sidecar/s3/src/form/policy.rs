//! The policy of a form: what its fields may be, how large its file, and until when.

use s3s::dto::{Timestamp, TimestampFormat};
use serde_json::Value;

use super::Field;

/// Fields that no policy has to name: what signs, what is signed, the file, and what nobody reads.
const FREE: &[&str] = &["policy", "signature", "x-amz-signature", "awsaccesskeyid", "file", "submit"];
const IGNORED: &str = "x-ignore-";

/// Sizes of the file, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    pub min: u64,
    pub max: u64,
}

/// Why a form is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyProblem {
    #[error("Invalid Policy: {0}")]
    Malformed(&'static str),
    #[error("Invalid according to Policy: {0}")]
    Denied(String),
}

use PolicyProblem::{Denied, Malformed};

/// Do these fields meet the policy, which is JSON? The size that the file may have, if it says so.
pub fn check(policy: &str, fields: &[Field], now_seconds: f64) -> Result<Option<SizeRange>, PolicyProblem> {
    let policy: Value = serde_json::from_str(policy).map_err(|_| Malformed("Invalid JSON."))?;
    let expiration = policy.get("expiration").and_then(Value::as_str);
    let expiration = expiration.ok_or(Malformed("Policy missing expiration."))?;
    let expiration = seconds(expiration).ok_or(Malformed("Invalid 'expiration' value"))?;
    if now_seconds >= expiration {
        return Err(Denied("Policy expired.".to_owned()));
    }
    let conditions = policy.get("conditions").and_then(Value::as_array);
    let conditions = conditions.ok_or(Malformed("Policy missing conditions."))?;
    let (mut sizes, mut named) = (None, Vec::new());
    for condition in conditions {
        for (what, field, value) in parse(condition, &mut sizes)? {
            let found = fields.iter().find(|(name, _)| *name == field);
            let found = found.map_or("", |(_, value)| value.as_str());
            let holds = match what {
                Match::Equals => found == value,
                // A list of types must begin so each.
                Match::Starts if field == "content-type" => {
                    found.split(',').all(|one| one.trim().starts_with(&value))
                }
                Match::Starts => found.starts_with(&value),
            };
            if !holds {
                return Err(Denied(format!("Policy Condition failed: {condition}")));
            }
            named.push(field);
        }
    }
    let free = |name: &str| FREE.contains(&name) || name.starts_with(IGNORED);
    match fields.iter().find(|(name, _)| !free(name) && !named.contains(name)) {
        Some((name, _)) => Err(Denied(format!("Extra input fields: {name}"))),
        None => Ok(sizes),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Equals,
    Starts,
}

type Condition = (Match, String, String);

/// `{"field": "value"}`, or `["operator", "$field", "value"]`. A range of sizes goes to `sizes`.
fn parse(condition: &Value, sizes: &mut Option<SizeRange>) -> Result<Vec<Condition>, PolicyProblem> {
    let wrong = || Malformed("Invalid Condition");
    if let Some(map) = condition.as_object() {
        let pair = |(name, value): (&String, &Value)| {
            Some((Match::Equals, name.to_ascii_lowercase(), value.as_str()?.to_owned()))
        };
        let pairs: Option<Vec<_>> = map.iter().map(pair).collect();
        return pairs.filter(|pairs| !pairs.is_empty()).ok_or_else(wrong);
    }
    let [operator, first, second] = condition.as_array().ok_or_else(wrong)?.as_slice() else {
        return Err(wrong());
    };
    let operator = operator.as_str().ok_or_else(wrong)?.to_ascii_lowercase();
    if operator == "content-length-range" {
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let (min, max) = number(first).zip(number(second)).ok_or_else(wrong)?;
        *sizes = Some(SizeRange { min, max });
        return Ok(Vec::new());
    }
    let what = match operator.as_str() {
        "eq" => Match::Equals,
        "starts-with" => Match::Starts,
        _ => return Err(wrong()),
    };
    let field = first.as_str().and_then(|field| field.strip_prefix('$')).ok_or_else(wrong)?;
    let value = second.as_str().ok_or_else(wrong)?;
    Ok(vec![(what, field.to_ascii_lowercase(), value.to_owned())])
}

/// Seconds since 1970 of an ISO 8601 time.
fn seconds(text: &str) -> Option<f64> {
    let time = Timestamp::parse(TimestampFormat::DateTime, text).ok()?;
    let mut out = Vec::new();
    time.format(TimestampFormat::EpochSeconds, &mut out).ok()?;
    String::from_utf8(out).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(conditions: &str, fields: &[(&str, &str)]) -> Result<Option<SizeRange>, PolicyProblem> {
        let policy = format!(r#"{{"expiration":"2030-01-01T00:00:00.000Z","conditions":[{conditions}]}}"#);
        let fields: Vec<Field> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(&policy, &fields, 0.0)
    }

    #[test]
    fn fields_meet_their_conditions() {
        let fields =
            [("bucket", "b"), ("key", "a/b"), ("content-type", "text/a,text/b"), ("x-ignore-me", "1")];
        let good = r#"{"Bucket":"b"},["StArTs-WiTh","$KEY","a/"],["starts-with","$Content-Type","text/"]"#;
        assert_eq!(ask(good, &fields), Ok(None));
        let sized = format!(r#"{good},["content-length-range",1,"9"]"#);
        assert_eq!(ask(&sized, &fields), Ok(Some(SizeRange { min: 1, max: 9 })));
        for bad in [
            r#"{"bucket":"c"}"#,
            r#"["eq","$key","a"]"#,
            r#"["starts-with","$key","b"]"#,
            r#"["starts-with","$content-type","text/a"]"#,
            r#"["eq","$acl","private"]"#,
        ] {
            assert!(matches!(ask(&format!("{good},{bad}"), &fields), Err(Denied(_))), "{bad}");
        }
        assert!(matches!(ask(r#"{"bucket":"b"}"#, &fields), Err(Denied(_))), "fields that nobody named");
    }

    #[test]
    fn policies_have_their_form_and_their_time() {
        for bad in [
            r#"["eq","$key"]"#,
            r#"["is","$key","a"]"#,
            r#"["content-length-range",-1,0]"#,
            "{}",
            "7",
            r#"["content-length-range",1]"#,
            r#"["eq","key","a"]"#,
            r#"{"a":1}"#,
        ] {
            assert!(matches!(ask(bad, &[]), Err(Malformed(_))), "{bad}");
        }
        for bad in [
            "{",
            r#"{"conditions":[]}"#,
            r#"{"expiration":"soon","conditions":[]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z"}"#,
        ] {
            assert!(matches!(check(bad, &[], 0.0), Err(Malformed(_))), "{bad}");
        }
        let late = check(r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[]}"#, &[], 1_893_456_000.0);
        assert_eq!(late, Err(Denied("Policy expired.".to_owned())));
    }
}
