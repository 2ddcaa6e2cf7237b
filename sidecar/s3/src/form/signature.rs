//! Who signed a form: the fields that say so, and the signature that its policy must have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::Head;
use crate::authorization::{ALGORITHM, credential_problem, other_day};

/// A signature that somebody claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub access_key: String,
    policy: String,
    signature: String,
    /// Day and region of version 4; version 2 has none.
    scope: Option<(String, String)>,
}

/// The refusal of a form: code and sentence.
type Refusal = (&'static str, String);

/// `None`: nobody claims to have signed.
pub fn claim(head: &Head) -> Result<Option<Claim>, Refusal> {
    let needed = |name: &str| {
        head.field(name).filter(|value| !value.is_empty()).map(str::to_owned).ok_or_else(|| {
            let message = format!(
                "Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the \
                 fields."
            );
            ("InvalidArgument", message)
        })
    };
    let has = |names: &[&str]| names.iter().any(|name| head.field(name).is_some());
    if has(&["x-amz-signature", "x-amz-credential", "x-amz-algorithm"]) {
        let (policy, credential) = (needed("policy")?, needed("x-amz-credential")?);
        let (algorithm, date) = (needed("x-amz-algorithm")?, needed("x-amz-date")?);
        let signature = needed("x-amz-signature")?;
        if algorithm != ALGORITHM {
            return Err(("InvalidArgument", format!("X-Amz-Algorithm only supports \"{ALGORITHM}\"")));
        }
        let day = date.get(.."20300101".len()).unwrap_or_default();
        if let Some(why) = credential_problem(&credential).or_else(|| other_day(&credential, day)) {
            return Err(("InvalidArgument", why));
        }
        let Some((access_key, day, region)) = scope(&credential) else {
            return Err(("InvalidArgument", "the Credential is mal-formed".to_owned()));
        };
        return Ok(Some(Claim { access_key, policy, signature, scope: Some((day, region)) }));
    }
    if has(&["awsaccesskeyid", "signature"]) {
        let (policy, access_key) = (needed("policy")?, needed("awsaccesskeyid")?);
        return Ok(Some(Claim { access_key, policy, signature: needed("signature")?, scope: None }));
    }
    Ok(None)
}

/// Access key, day and region of `key/day/region/s3/aws4_request`.
fn scope(credential: &str) -> Option<(String, String, String)> {
    let mut parts = credential.rsplitn(5, '/');
    let (_, _, region) = (parts.next()?, parts.next()?, parts.next()?);
    let (day, key) = (parts.next()?, parts.next()?);
    Some((key.to_owned(), day.to_owned(), region.to_owned()))
}

impl Claim {
    /// Is it the signature that whoever has this secret would make?
    pub fn holds(&self, secret: &str) -> bool {
        let wanted = match &self.scope {
            Some((day, region)) => {
                let key = [region.as_str(), "s3", "aws4_request", &self.policy]
                    .iter()
                    .fold(sign256(format!("AWS4{secret}").as_bytes(), day), |key, text| sign256(&key, text));
                hex::encode(key)
            }
            None => {
                let mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes());
                let sum =
                    mac.map(|mac| mac.chain_update(self.policy.as_bytes()).finalize().into_bytes().to_vec());
                STANDARD.encode(sum.unwrap_or_default())
            }
        };
        bool::from(wanted.as_bytes().ct_eq(self.signature.as_bytes()))
    }
}

fn sign256(key: &[u8], text: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key);
    mac.map(|mac| mac.chain_update(text.as_bytes()).finalize().into_bytes().to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> Head {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Head { fields, file_name: String::new(), rest: Vec::new() }
    }

    const FOUR: [(&str, &str); 5] = [
        ("policy", "cG9saWN5"),
        ("x-amz-credential", "AK/20300101/us-east-1/s3/aws4_request"),
        ("x-amz-algorithm", ALGORITHM),
        ("x-amz-date", "20300101T000000Z"),
        ("x-amz-signature", "1f9bd7b4ee0c58a8cb8a7a6d0fd18a2ae3e0f1c6b2f4c2a8f0c8b4d5e6f70819"),
    ];

    #[test]
    fn claims_are_whole() {
        let claimed = claim(&head(&FOUR)).expect("a form").expect("a claim");
        assert_eq!(claimed.access_key, "AK");
        assert!(!claimed.holds("secret"), "a signature of nobody's");
        for left_out in 0..FOUR.len() {
            let mut fields = FOUR.to_vec();
            let (name, _) = fields.remove(left_out);
            assert_eq!(claim(&head(&fields)).map_err(|(code, _)| code), Err("InvalidArgument"), "{name}");
        }
        let mut other = FOUR;
        other[3].1 = "20300102T000000Z";
        assert!(claim(&head(&other)).is_err(), "another day");
        assert_eq!(claim(&head(&[("key", "a"), ("policy", "x")])), Ok(None));
        let old = [("policy", "eyAiYSI6IDEgfQ=="), ("awsaccesskeyid", "AK"), ("signature", "x")];
        assert!(claim(&head(&old)).expect("a form").is_some_and(|claim| !claim.holds("secret")));
        assert!(claim(&head(&old[1..])).is_err());
    }
}
