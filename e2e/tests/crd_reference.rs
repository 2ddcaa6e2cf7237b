//! `crds/README.md` is the reference of the resource, written from the committed CRD: a field, its type, default,
//! bounds and description, and every rule. `UPDATE_GOLDENS=1` writes it anew.

#![expect(clippy::expect_used, reason = "a test program: what should hold is said where it is expected")]

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_yaml_ng::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crds")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) => {
            serde_yaml_ng::to_string(value).expect("a scalar").trim().to_owned()
        }
        Value::Sequence(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        _ => serde_json::to_string(value).expect("JSON"),
    }
}

/// One line of a table: no line breaks, no bars.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn kind(schema: &Value) -> String {
    let choices = text(&schema["enum"]);
    if !choices.is_empty() {
        return choices.trim_end_matches([',', ' ']).to_owned();
    }
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some("object") if schema["additionalProperties"].is_mapping() => {
            format!("map of {}", kind(&schema["additionalProperties"]))
        }
        Some(plain) => plain.to_owned(),
        None if schema["x-kubernetes-int-or-string"].as_bool() == Some(true) => "number or text".to_owned(),
        None => "any".to_owned(),
    }
}

fn bounds(schema: &Value) -> String {
    let named = [("minimum", "≥"), ("maximum", "≤"), ("minLength", "length ≥"), ("maxLength", "length ≤")];
    let more = [
        ("minItems", "items ≥"),
        ("maxItems", "items ≤"),
        ("maxProperties", "entries ≤"),
        ("pattern", "matches"),
    ];
    let one = |(key, sign): &(&str, &str)| {
        let value = text(&schema[*key]);
        let number = value.strip_suffix(".0").unwrap_or(&value).to_owned();
        (!value.is_empty()).then(|| format!("{sign} `{number}`"))
    };
    named.iter().chain(&more).filter_map(one).collect::<Vec<_>>().join(", ")
}

/// A schema's fields, depth first, each under its dotted path.
fn fields(schema: &Value, path: &str, lines: &mut String) {
    let Some(properties) = schema["properties"].as_mapping() else { return };
    let required = text(&schema["required"]);
    let required: Vec<&str> = required.split(", ").collect();
    for (name, field) in properties {
        let name = name.as_str().expect("a name");
        let path = format!("{path}.{name}");
        let default = match (text(&field["default"]), required.contains(&name)) {
            (_, true) => "**required**".to_owned(),
            (value, false) if value.is_empty() || value == "{}" => String::new(),
            (value, false) => format!("`{value}`"),
        };
        let meaning = [cell(&bounds(field)), cell(&text(&field["description"]))].join(" ");
        let _ = writeln!(
            lines,
            "| `{}` | {} | {} | {} |",
            &path[1..],
            cell(&kind(field)),
            cell(&default),
            meaning.trim()
        );
        fields(field, &path, lines);
        if field["items"].is_mapping() {
            fields(&field["items"], &format!("{path}[]"), lines);
        }
    }
}

/// The messages of all rules, in the order of the schema.
fn rules(schema: &Value, lines: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_sequence().into_iter().flatten() {
        lines.push(cell(&text(&rule["message"])));
    }
    for part in ["properties"].iter().filter_map(|key| schema[*key].as_mapping()).flat_map(|map| map.values())
    {
        rules(part, lines);
    }
}

fn reference() -> String {
    let file = folder().join("blobstore.yaml");
    let crd: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(file).expect("the CRD")).expect("YAML");
    let version = &crd["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut out = format!(
        "# `BlobStore`, {}/{}\n\n{}\n\nWritten from `crds/blobstore.yaml` by the test `crd_reference`; defaults are filled in by the API \
         server, so a stored object says what it runs with. Quantities are written as in Kubernetes (`64Mi`), times as \
         `15s`, `10m`, `6h`.\n",
        text(&crd["spec"]["group"]),
        text(&version["name"]),
        cell(&text(&schema["description"])),
    );
    out.push_str("\n## kubectl get\n\n| column | shows |\n|---|---|\n");
    for column in version["additionalPrinterColumns"].as_sequence().expect("columns") {
        let wide = if text(&column["priority"]) == "1" { " (wide)" } else { "" };
        let shows = match text(&column["description"]) {
            empty if empty.is_empty() => format!("`{}`", text(&column["jsonPath"])),
            description => cell(&description),
        };
        let _ = writeln!(out, "| {}{wide} | {shows} |", text(&column["name"]));
    }
    for part in ["spec", "status"] {
        let _ = writeln!(out, "\n## {part}\n\n| field | type | default | meaning |\n|---|---|---|---|");
        let mut lines = String::new();
        fields(&schema["properties"][part], "", &mut lines);
        out.push_str(&lines);
    }
    let mut messages = Vec::new();
    rules(schema, &mut messages);
    assert!(!messages.is_empty(), "the CRD has rules");
    out.push_str("\n## Rules\n\nRefused at admission with these words:\n\n");
    messages.iter().for_each(|message| out.push_str(&format!("- {message}\n")));
    out
}

#[test]
fn committed_reference_equals_the_crd() {
    let file = folder().join("README.md");
    let want = reference();
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&file, &want).expect("write the reference");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let hint = "run UPDATE_GOLDENS=1 cargo test -p blobstore-e2e --test crd_reference";
    assert!(found == want, "crds/README.md differs from the CRD: {hint}");
}

#[test]
fn every_field_of_the_spec_is_explained() {
    let unexplained: Vec<String> = reference()
        .split("\n## status")
        .next()
        .expect("the spec comes first")
        .lines()
        .filter(|line| line.starts_with("| `") && line.ends_with("|  |"))
        .map(str::to_owned)
        .collect();
    assert_eq!(unexplained, Vec::<String>::new());
}
