//! Secrets of the user's that a resource names: which, for what, and what is wrong with them. Pods wait for one that is
//! missing without a word of it in their status, and say of one that is wrong only that they keep ending.

use std::collections::BTreeSet;

use blobstore_operator_api::spec::{BlobStoreSpec, OriginSpec};
use blobstore_operator_api::status::reason;
use blobstore_sidecar_api::ports;

use crate::action::Cause;
use crate::observed::{Observed, Seen};
use crate::validate::ValidStore;

/// What a Secret is named for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Users,
    Certificate,
    /// Credentials of an origin.
    Origin(&'static [&'static str]),
}

/// A Secret that the resource names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSecret {
    /// The field of the resource, the key under which [`Observed::secrets`] has it.
    pub field: String,
    pub name: String,
    pub purpose: Purpose,
}

/// A Secret as far as a diagnosis needs it: what it holds stays out of the core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretSeen {
    pub keys: BTreeSet<String>,
    /// Why its values do not serve their purpose, after the keys were found to be there.
    pub problem: Option<String>,
}

/// Keys of which an origin needs at least one; the trusted certificates alone are no credentials, but all that a
/// private HTTPS origin may need.
const S3_KEYS: &[&str] = &[ports::ORIGIN_ACCESS_KEY, ports::ORIGIN_SECRET_KEY, ports::ORIGIN_CA];
const GCS_KEYS: &[&str] = &[ports::ORIGIN_SERVICE_ACCOUNT, ports::ORIGIN_CA];
const AZURE_KEYS: &[&str] = &[ports::ORIGIN_ACCOUNT_KEY, ports::ORIGIN_SAS_TOKEN, ports::ORIGIN_CA];
const HTTP_KEYS: &[&str] = &[ports::ORIGIN_AUTHORIZATION, ports::ORIGIN_CA];

/// All of them, in the order of the resource.
pub fn named(spec: &BlobStoreSpec) -> Vec<NamedSecret> {
    let auth = [
        ("spec.auth.usersSecret", &spec.auth.users_secret, Purpose::Users),
        ("spec.auth.tlsSecret", &spec.auth.tls_secret, Purpose::Certificate),
    ];
    let auth = auth.into_iter().filter_map(|(field, secret, purpose)| {
        let name = secret.as_ref()?.name.clone();
        Some(NamedSecret { field: field.to_owned(), name, purpose })
    });
    let origins = spec.origins.iter().enumerate().filter_map(|(index, origin)| {
        let name = origin.credentials_secret.as_ref()?.name.clone();
        let field = format!("spec.origins[{index}].credentialsSecret");
        Some(NamedSecret { field, name, purpose: Purpose::Origin(origin_keys(origin)) })
    });
    auth.chain(origins).collect()
}

fn origin_keys(origin: &OriginSpec) -> &'static [&'static str] {
    match origin {
        OriginSpec { s3: Some(_), .. } => S3_KEYS,
        OriginSpec { gcs: Some(_), .. } => GCS_KEYS,
        OriginSpec { azure: Some(_), .. } => AZURE_KEYS,
        _ => HTTP_KEYS,
    }
}

/// What is wrong, the first fault of each Secret.
pub fn causes(store: &ValidStore, observed: &Observed) -> Vec<Cause> {
    store
        .secrets
        .iter()
        .filter_map(|secret| cause(store, secret, observed.secrets.get(&secret.field)?))
        .collect()
}

fn cause(store: &ValidStore, secret: &NamedSecret, seen: &Seen<SecretSeen>) -> Option<Cause> {
    let NamedSecret { field, name, purpose } = secret;
    let (missing, invalid) = match purpose {
        Purpose::Users => (reason::USERS_SECRET_MISSING, reason::USERS_SECRET_INVALID),
        Purpose::Certificate => (reason::TLS_SECRET_MISSING, reason::TLS_SECRET_INVALID),
        Purpose::Origin(_) => (reason::ORIGIN_SECRET_MISSING, reason::ORIGIN_SECRET_INVALID),
    };
    let say = |reason, message| Some(Cause { reason, pod: String::new(), message });
    let found = match seen {
        Seen::Unknown => return None,
        Seen::Absent => {
            return say(
                missing,
                format!("{field}: there is no Secret {name} in namespace {}", store.namespace),
            );
        }
        Seen::Present(found) => found,
    };
    let lacks = |key: &&&str| !found.keys.contains(**key);
    let needed: &[&str] = match purpose {
        Purpose::Users => &[ports::SECRET_USERS],
        Purpose::Certificate => &[ports::SECRET_TLS_CERTIFICATE, ports::SECRET_TLS_KEY],
        Purpose::Origin(any) if any.iter().all(|key| lacks(&key)) => {
            let keys = any.join(", ");
            return say(missing, format!("{field}: Secret {name} has none of the keys {keys}"));
        }
        Purpose::Origin(_) => &[],
    };
    if let Some(key) = needed.iter().find(lacks) {
        return say(missing, format!("{field}: Secret {name} has no key {key}"));
    }
    let problem = found.problem.as_ref()?;
    say(invalid, format!("{field}: Secret {name}: {problem}"))
}
