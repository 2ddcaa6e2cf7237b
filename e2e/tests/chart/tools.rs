//! Where the chart is, and the programs that look at it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_yaml_ng::{Deserializer, Value};

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e has a parent").to_path_buf()
}

pub(crate) fn chart() -> PathBuf {
    repository().join("charts/blobstore")
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// Files of a folder with this ending, sorted by name.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("list {}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == ending))
        .collect();
    files.sort();
    files
}

pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().expect("a file name").to_string_lossy().into_owned()
}

/// `HELM`, else the newest of the harness's cache, else PATH.
fn helm_program() -> PathBuf {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = named("BLOBSTORE_CACHE")
        .or_else(|| named("XDG_CACHE_HOME").map(|folder| folder.join("blobstore-e2e")))
        .or_else(|| named("HOME").map(|folder| folder.join(".cache/blobstore-e2e")));
    let mut built: Vec<PathBuf> = cache
        .into_iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("helm-"))
        .map(|entry| entry.path().join("helm"))
        .filter(|program| program.is_file())
        .collect();
    built.sort();
    named("HELM").or_else(|| built.pop()).unwrap_or_else(|| PathBuf::from("helm"))
}

fn run(mut command: Command, missing: &str) -> Output {
    command.output().unwrap_or_else(|error| panic!("run {command:?}: {error}; {missing}"))
}

pub(crate) fn helm(arguments: &[&str]) -> Output {
    let mut command = Command::new(helm_program());
    command.args(arguments);
    run(command, "Helm is missing: run `make setup`, or set HELM")
}

pub(crate) fn promtool(arguments: &[&str]) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments);
    run(command, "promtool is missing: Debian's package `prometheus` has it, `make setup` installs it")
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `helm template` with more arguments, as the text it prints.
pub(crate) fn template(arguments: &[&str]) -> Output {
    let chart = chart();
    let chart = chart.to_str().expect("a path in UTF-8");
    let fixed = ["template", "demo", chart, "--namespace", "ops", "--kube-version", "1.34.0"];
    helm(&[&fixed[..], arguments].concat())
}

/// The documents of a rendered chart.
pub(crate) fn rendered(arguments: &[&str]) -> Vec<Value> {
    documents(&succeeded(&template(arguments)))
}

pub(crate) fn documents(text: &str) -> Vec<Value> {
    use serde::Deserialize;
    let parsed = Deserializer::from_str(text).map(|part| Value::deserialize(part).expect("YAML"));
    parsed.filter(|value| !value.is_null()).collect()
}

pub(crate) fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|value| value["kind"].as_str() == Some(kind)).collect()
}

pub(crate) fn only<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(documents, kind);
    assert_eq!(found.len(), 1, "one {kind}");
    found[0]
}

pub(crate) fn text<'a>(value: &'a Value, what: &str) -> &'a str {
    value.as_str().unwrap_or_else(|| panic!("{what} is text: {value:?}"))
}

pub(crate) fn list<'a>(value: &'a Value, what: &str) -> &'a [Value] {
    value.as_sequence().unwrap_or_else(|| panic!("{what} is a list: {value:?}"))
}
