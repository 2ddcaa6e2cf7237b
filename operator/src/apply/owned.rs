//! Does the live object still hold what we want of it? Only fields that we name are compared: what the API server
//! fills in and what others own is not ours. Pure.

use blobstore_operator_api::units;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Hash of the desired document, kept on the object: a field that we stopped naming shows as another hash.
pub const ANNOTATION_APPLIED: &str = "cachehygiene.io/applied";

/// Lists that Kubernetes merges by a key; others may have added elements. All other lists are compared whole.
const KEYED: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("volumes", &["name"]),
    ("env", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("ports", &["containerPort", "port"]),
    ("topologySpreadConstraints", &["topologyKey"]),
    ("ownerReferences", &["uid"]),
];

/// Fields whose children are quantities, which the API server rewrites (`1024Mi` to `1Gi`).
const QUANTITIES: &[&str] = &["limits", "requests", "sizeLimit", "divisor"];

/// The document as it is applied: with the hash of itself, without a status.
pub fn marked(mut desired: Value) -> Value {
    if let Some(object) = desired.as_object_mut() {
        object.remove("status");
    }
    let hash = hex::encode(&Sha256::digest(desired.to_string())[..8]);
    desired["metadata"]["annotations"][ANNOTATION_APPLIED] = Value::String(hash);
    desired
}

/// Path of the first field that the live object lacks or holds differently.
pub fn difference(desired: &Value, live: &Value) -> Option<String> {
    value("", desired, live).map(|path| path.trim_start_matches('.').to_owned())
}

fn value(path: &str, desired: &Value, live: &Value) -> Option<String> {
    match (desired, live) {
        (Value::Null, _) => None,
        (Value::Object(want), Value::Object(have)) => object(path, want, have),
        (Value::Array(want), Value::Array(have)) => list(path, want, have),
        // Empty lists and objects are dropped by the API server.
        (Value::Object(want), Value::Null) if want.is_empty() => None,
        (Value::Array(want), Value::Null) if want.is_empty() => None,
        _ if desired == live || same_quantity(path, desired, live) => None,
        _ => Some(path.to_owned()),
    }
}

fn object(path: &str, want: &Map<String, Value>, have: &Map<String, Value>) -> Option<String> {
    want.iter().find_map(|(key, desired)| {
        value(&format!("{path}.{key}"), desired, have.get(key).unwrap_or(&Value::Null))
    })
}

fn list(path: &str, want: &[Value], have: &[Value]) -> Option<String> {
    let keys = KEYED.iter().find(|(name, _)| last(path) == *name).map(|(_, keys)| *keys);
    let key = keys.and_then(|keys| keys.iter().find(|key| want.iter().all(|item| !item[**key].is_null())));
    if let Some(key) = key {
        return want.iter().find_map(|desired| {
            let at = format!("{path}[{}]", desired[*key]);
            let live = have.iter().find(|live| live[*key] == desired[*key]);
            value(&at, desired, live.unwrap_or(&Value::Null))
        });
    }
    if want.len() != have.len() {
        return Some(path.to_owned());
    }
    want.iter()
        .zip(have)
        .enumerate()
        .find_map(|(index, (desired, live))| value(&format!("{path}[{index}]"), desired, live))
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn same_quantity(path: &str, desired: &Value, live: &Value) -> bool {
    if !QUANTITIES.iter().any(|name| path.split('.').rev().take(2).any(|part| part == *name)) {
        return false;
    }
    let (Some(desired), Some(live)) = (desired.as_str(), live.as_str()) else { return false };
    let bytes = |text: &str| units::Bytes(text.to_owned()).parse().ok();
    let cpu = |text: &str| units::Cpu(text.to_owned()).parse_millis().ok();
    let same = |left: Option<u64>, right: Option<u64>| left.is_some() && left == right;
    same(bytes(desired), bytes(live)) || same(cpu(desired), cpu(live))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(desired: Value, live: Value, want: Option<&str>) {
        assert_eq!(difference(&desired, &live).as_deref(), want, "{desired} against {live}");
    }

    #[test]
    fn fields_of_others_and_defaults_are_not_ours() {
        check(json!({"a": 1}), json!({"a": 1, "b": 2}), None);
        check(json!({"a": {}, "l": [], "n": null}), json!({}), None);
    }

    #[test]
    fn changed_and_missing_fields_are_named() {
        check(json!({"spec": {"a": 1}}), json!({"spec": {"a": 2}}), Some("spec.a"));
        check(json!({"spec": {"a": 1}}), json!({}), Some("spec"));
        check(json!({"a": false}), json!({}), Some("a"));
    }

    #[test]
    fn keyed_lists_compare_by_key_and_others_whole() {
        let want = json!({"containers": [{"name": "engine", "image": "x"}]});
        let injected =
            json!({"containers": [{"name": "mesh"}, {"name": "engine", "image": "x", "tty": false}]});
        check(want.clone(), injected, None);
        let drifted = json!({"containers": [{"name": "engine", "image": "y"}]});
        check(want, drifted, Some(r#"containers["engine"].image"#));
        check(json!({"verbs": ["get"]}), json!({"verbs": ["get", "list"]}), Some("verbs"));
        check(json!({"rules": [{"a": 1}]}), json!({"rules": [{"a": 2}]}), Some("rules[0].a"));
        check(json!({"ports": [{"port": 1}]}), json!({"ports": [{"port": 1, "protocol": "TCP"}]}), None);
        check(json!({"ports": [{"port": "http"}]}), json!({"ports": []}), Some(r#"ports["http"]"#));
    }

    #[test]
    fn quantities_compare_as_amounts_only_where_they_are_amounts() {
        let limits = |memory: &str, cpu: &str| json!({"limits": {"memory": memory, "cpu": cpu}});
        check(limits("1024Mi", "1000m"), limits("1Gi", "1"), None);
        check(limits("1024Mi", "1000m"), limits("1Gi", "2"), Some("limits.cpu"));
        check(json!({"sizeLimit": "1024Mi"}), json!({"sizeLimit": "1Gi"}), None);
        check(json!({"data": {"x": "1024Mi"}}), json!({"data": {"x": "1Gi"}}), Some("data.x"));
    }

    #[test]
    fn mark_changes_with_the_document_and_not_with_the_status() {
        let mark = |document: Value| marked(document)["metadata"]["annotations"][ANNOTATION_APPLIED].clone();
        assert_eq!(mark(json!({"a": 1})), mark(json!({"a": 1, "status": {"x": 1}})));
        assert_ne!(mark(json!({"a": 1})), mark(json!({})));
    }
}
