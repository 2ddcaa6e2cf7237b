//! Secret `<store>-auth`: credentials and tokens, generated once, kept for ever.

use std::collections::BTreeMap;

use blobstore_operator_api::names;
use blobstore_sidecar_api::ports;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::{BuildError, labels, metadata, typed};
use crate::context::{Credentials, Fresh};
use crate::observed::Seen;
use crate::validate::ValidStore;

/// The generated user's keys, for people and their tools.
const ACCESS_KEY: &str = "access-key";
const SECRET_KEY: &str = "secret-key";
const USER_TOKEN: &str = "token";

/// What exists, completed with fresh values. `None` if the Secret could not be read.
pub fn credentials(
    store: &ValidStore,
    seen: &Seen<BTreeMap<String, Vec<u8>>>,
    fresh: Fresh,
) -> Option<Credentials> {
    let existing = match seen {
        Seen::Unknown => return None,
        Seen::Absent => BTreeMap::new(),
        Seen::Present(data) => data.clone(),
    };
    let Fresh {
        admin_token,
        peer_token,
        engine_password,
        replication_password,
        access_key,
        secret_key,
        user_token,
    } = fresh;
    let generated = [
        (ports::SECRET_ADMIN_TOKEN, admin_token),
        (ports::SECRET_PEER_TOKEN, peer_token),
        (ports::SECRET_ENGINE_PASSWORD, engine_password),
        (ports::SECRET_REPLICATION_PASSWORD, replication_password),
        (ACCESS_KEY, access_key),
        (SECRET_KEY, secret_key),
        (USER_TOKEN, user_token),
    ];
    let kept = |key: &str| {
        existing
            .get(key)
            .and_then(|bytes| String::from_utf8(bytes.clone()).ok())
            .filter(|text| !text.is_empty())
    };
    let mut data: BTreeMap<String, String> =
        generated.into_iter().map(|(key, value)| (key.to_owned(), kept(key).unwrap_or(value))).collect();
    if store.users_secret.is_none() {
        let users = users(&data);
        data.insert(ports::SECRET_USERS.to_owned(), users);
    }
    Some(Credentials(data))
}

/// One user who may do everything. The values are hexadecimal, so YAML needs no quoting rules beyond the quotes.
fn users(data: &BTreeMap<String, String>) -> String {
    let value = |key: &str| data.get(key).map_or("", String::as_str);
    format!(
        "- name: admin\n  accessKey: \"{}\"\n  secretKey: \"{}\"\n  token: \"{}\"\n  rights:\n  - bucket: \"*\"\n    \
         allow: [admin]\n",
        value(ACCESS_KEY),
        value(SECRET_KEY),
        value(USER_TOKEN)
    )
}

pub(super) fn secret(store: &ValidStore, credentials: &Credentials) -> Result<Secret, BuildError> {
    let data: BTreeMap<&String, k8s_openapi::ByteString> = credentials
        .0
        .iter()
        .map(|(key, value)| (key, k8s_openapi::ByteString(value.clone().into_bytes())))
        .collect();
    let document = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(store, &names::auth_secret(&store.name), &labels(store)),
        "type": "Opaque",
        "data": data,
    });
    typed("Secret", document)
}
