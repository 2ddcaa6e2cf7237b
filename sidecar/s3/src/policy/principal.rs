//! Who a statement is about: everybody, every user of the store, or users by their names.

use serde_json::Value;

use super::{PolicyError, malformed, unknown};

/// An account has so many digits.
const ACCOUNT_DIGITS: usize = 12;

/// A statement's Principal, or its NotPrincipal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Principals {
    /// NotPrincipal.
    but: bool,
    named: Vec<Principal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Principal {
    Everybody,
    /// Whoever signed: all of them are of one account.
    Users,
    /// By name.
    User(String),
}

impl Principals {
    pub(super) fn parse(given: Option<&Value>, not: Option<&Value>) -> Result<Self, PolicyError> {
        let (but, value) = match (given, not) {
            (Some(value), None) => (false, value),
            (None, Some(value)) => (true, value),
            (None, None) => return Err(malformed("Missing required field Principal")),
            (Some(_), Some(_)) => {
                return Err(malformed("A statement has either Principal or NotPrincipal"));
            }
        };
        let named = match value {
            Value::String(text) if text == "*" => vec![Principal::Everybody],
            Value::Object(map) => {
                if let Some(kind) = map.keys().find(|kind| *kind != "AWS") {
                    return Err(unknown(&format!("A Principal of kind {kind}")));
                }
                let aws = map.get("AWS").ok_or_else(|| malformed("Invalid principal in policy"))?;
                let all = match aws {
                    Value::Array(all) => all.iter().collect(),
                    one => vec![one],
                };
                all.into_iter().map(principal).collect::<Result<_, _>>()?
            }
            _ => return Err(malformed("Invalid principal in policy")),
        };
        if named.is_empty() {
            return Err(malformed("Invalid principal in policy"));
        }
        Ok(Self { but, named })
    }

    /// Is it about who asks? `None`: nobody signed.
    pub(super) fn covers(&self, user: Option<&str>) -> bool {
        let meant = self.named.iter().any(|principal| match principal {
            Principal::Everybody => true,
            Principal::Users => user.is_some(),
            Principal::User(name) => user == Some(name),
        });
        meant != self.but
    }

    /// Does it leave out nobody, or only some?
    pub(super) fn is_anybody(&self) -> bool {
        self.but || self.named.contains(&Principal::Everybody)
    }
}

/// `*`, a name, `arn:aws:iam::…:user/NAME`, or the account, which is all users.
fn principal(value: &Value) -> Result<Principal, PolicyError> {
    let invalid = || malformed("Invalid principal in policy");
    let text = value.as_str().ok_or_else(invalid)?;
    if text == "*" {
        return Ok(Principal::Everybody);
    }
    if is_account(text) {
        return Ok(Principal::Users);
    }
    let name = match text.strip_prefix("arn:aws:iam::") {
        None if text.starts_with("arn:") => return Err(unknown("A Principal that is no user")),
        None => text,
        Some(rest) => {
            let (account, what) = rest.split_once(':').ok_or_else(invalid)?;
            if !(account.is_empty() || account == "*" || is_account(account)) {
                return Err(invalid());
            }
            if what == "root" {
                return Ok(Principal::Users);
            }
            let path = what.strip_prefix("user/").ok_or_else(|| unknown("A Principal that is no user"))?;
            path.rsplit('/').next().unwrap_or_default()
        }
    };
    if name.is_empty() || name.contains(['*', '?', '$']) {
        return Err(invalid());
    }
    Ok(Principal::User(name.to_owned()))
}

fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(given: Value, user: Option<&str>, want: bool) {
        let principals = Principals::parse(Some(&given), None).expect("principals");
        assert_eq!(principals.covers(user), want, "{given} {user:?}");
        let but = Principals::parse(None, Some(&given)).expect("principals");
        assert_eq!(but.covers(user), !want, "not {given} {user:?}");
    }

    #[test]
    fn users_are_meant_by_name_by_arn_or_all_at_once() {
        for who in [None, Some("ann")] {
            check(json!("*"), who, true);
            check(json!({"AWS": "*"}), who, true);
            check(json!({"AWS": "000000000000"}), who, who.is_some());
            check(json!({"AWS": ["arn:aws:iam::000000000000:root"]}), who, who.is_some());
            check(json!({"AWS": "ann"}), who, who.is_some());
            check(json!({"AWS": ["bob", "arn:aws:iam::*:user/ann"]}), who, who.is_some());
            check(json!({"AWS": "arn:aws:iam:::user/team/bob"}), who, false);
        }
    }

    #[test]
    fn who_cannot_be_is_refused() {
        for given in [
            json!("ann"),
            json!({}),
            json!({"AWS": []}),
            json!({"AWS": 7}),
            json!({"AWS": "a*"}),
            json!({"AWS": "arn:aws:iam::12:user/a"}),
            json!([]),
        ] {
            let refused = Principals::parse(Some(&given), None).expect_err("no principal");
            assert!(matches!(refused, PolicyError::Malformed(_)), "{given}");
        }
        for given in [json!({"Service": "x"}), json!({"AWS": "arn:aws:iam::000000000000:role/r"})] {
            let refused = Principals::parse(Some(&given), None).expect_err("no principal");
            assert!(matches!(refused, PolicyError::NotImplemented(_)), "{given}");
        }
    }
}
