//! The CRD as the API server gets it: kube's derived schema, made smaller and free of what Kubernetes warns about.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::rules::{CelRule, cel_rules};
use crate::spec::BlobStore;

/// Formats that Kubernetes knows; others make `kubectl apply` print a warning for each field.
const FORMATS_KNOWN: &[&str] = &["int32", "int64", "float", "double", "date-time"];

/// The definition of `BlobStore`.
pub fn blob_store_crd() -> CustomResourceDefinition {
    let derived = BlobStore::crd();
    let Ok(mut value) = serde_json::to_value(&derived) else { return derived };
    tidy(&mut value);
    cel_rules().iter().for_each(|rule| insert_rule(&mut value, rule));
    serde_json::from_value(value).unwrap_or(derived)
}

/// The committed file's text: JSON's field order is lost in YAML anyway, so keys are sorted.
pub fn blob_store_crd_yaml() -> Result<String, serde_yaml_ng::Error> {
    let text = serde_yaml_ng::to_string(&blob_store_crd())?;
    Ok(text.lines().map(quoted).collect())
}

/// kubectl and Helm read YAML 1.1, in which a bare `Off` is false: an enum with a hole where its word was.
const WORDS_QUOTED: &[&str] = &["On", "Off", "Yes", "No"];

fn quoted(line: &str) -> String {
    let plain = line.rsplit_once(' ').filter(|(head, _)| head.ends_with('-') || head.ends_with(':'));
    match plain {
        Some((head, word)) if WORDS_QUOTED.contains(&word) => format!("{head} '{word}'\n"),
        _ => format!("{line}\n"),
    }
}

/// Walks the schema: unknown formats go, defaults of objects shrink to `{}` (the API server fills in the fields'
/// own defaults), and `default: null` goes.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            tidy_schema(map);
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn tidy_schema(map: &mut Map<String, Value>) {
    // A property that is itself called `format` or `default` is an object here, never text or a scalar.
    if map.get("format").and_then(Value::as_str).is_some_and(|format| !FORMATS_KNOWN.contains(&format)) {
        map.remove("format");
    }
    if map.contains_key("properties") && map.get("default").is_some_and(Value::is_object) {
        map.insert("default".to_owned(), json!({}));
    }
    if map.get("type").is_some_and(Value::is_string) && map.get("default").is_some_and(Value::is_null) {
        map.remove("default");
    }
}

/// Adds the rule to the schema at its place. A place that does not exist is caught by the test below.
fn insert_rule(crd: &mut Value, rule: &CelRule) {
    let mut pointer = "/spec/versions/0/schema/openAPIV3Schema".to_owned();
    for name in rule.at.split('.').filter(|name| !name.is_empty()) {
        pointer.push_str("/properties/");
        pointer.push_str(name);
    }
    let Some(schema) = crd.pointer_mut(&pointer).and_then(Value::as_object_mut) else { return };
    let rules = schema.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
    if let Some(rules) = rules.as_array_mut() {
        rules.push(json!({ "rule": rule.rule, "message": rule.message }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_finds_its_place() {
        let text = serde_json::to_string(&blob_store_crd()).expect("the CRD serialises");
        let count = text.matches("\"rule\":").count();
        assert_eq!(count, cel_rules().len());
    }

    #[test]
    fn every_message_names_its_field() {
        for rule in cel_rules() {
            assert!(
                rule.message.starts_with("spec.") || rule.message.starts_with("metadata."),
                "{}",
                rule.message
            );
        }
    }

    #[test]
    fn every_field_is_described_and_no_format_is_unknown() {
        let crd = serde_json::to_value(blob_store_crd()).expect("the CRD serialises");
        let schema = crd
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
            .expect("spec has a schema");
        let mut missing = Vec::new();
        undescribed("spec", schema, &mut missing);
        assert!(missing.is_empty(), "without description: {missing:?}");
    }

    fn undescribed(path: &str, schema: &Value, missing: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if property["description"].as_str().is_none_or(str::is_empty) {
                missing.push(path.clone());
            }
            undescribed(&path, property, missing);
        }
    }
}
