//! Every test that a document names as proof of a claim exists: a renamed test must not leave a claim behind.

#![expect(clippy::expect_used, reason = "a test says what should hold")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Documents with tables whose last column is headed `test`.
const DOCUMENTS: &[&str] = &["operator/ARCHITECTURE.md", "operator/CAPABILITIES.md"];
/// Fewer, and the tables were not found rather than shortened.
const CLAIMS_MIN: usize = 60;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What can be named: functions marked as tests with the files they are in, and modules or programs that hold some.
#[derive(Default)]
struct Tests {
    functions: BTreeMap<String, BTreeSet<String>>,
    modules: BTreeSet<String>,
}

fn tests() -> Tests {
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    let mut tests = Tests::default();
    for path in paths {
        let text = fs::read_to_string(&path).expect("source is text");
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        for name in functions(&text) {
            tests.functions.entry(name).or_default().insert(path.display().to_string());
            tests.modules.insert(stem.clone());
        }
    }
    tests
}

/// Names of the functions marked `#[test]`, `#[tokio::test]` or with arguments to it.
fn functions(text: &str) -> Vec<String> {
    let mut marked = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim_start) {
        marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let Some(rest) = line.trim_start_matches("async ").strip_prefix("fn ") else { continue };
        if std::mem::take(&mut marked) {
            names.extend(rest.split(['(', '<']).next().map(str::to_owned));
        }
    }
    names
}

/// The code spans of the last column, in tables that say that it holds tests.
fn claims(text: &str) -> Vec<String> {
    let mut proofs = false;
    let mut claims = Vec::new();
    for line in text.lines() {
        let Some(row) = line.strip_prefix("| ").and_then(|row| row.strip_suffix(" |")) else {
            proofs &= line.starts_with("|-");
            continue;
        };
        let last = row.rsplit(" | ").next().unwrap_or_default();
        if last == "test" {
            proofs = true;
        } else if proofs {
            claims.extend(last.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    claims
}

/// `make target`, a path, `module::*`, `module::function`, a function, or a program or module of tests.
fn exists(claim: &str, tests: &Tests, targets: &str) -> bool {
    if let Some(target) = claim.strip_prefix("make ") {
        return targets.lines().any(|line| line.starts_with(&format!("{target}:")));
    }
    if claim.contains('/') {
        return root().join(claim).exists();
    }
    if let Some(module) = claim.strip_suffix("::*") {
        return tests.modules.contains(module);
    }
    let mut parts = claim.rsplit("::").filter(|part| *part != "tests");
    let (name, module) = (parts.next().unwrap_or_default(), parts.next());
    match tests.functions.get(name) {
        Some(files) => {
            module.is_none_or(|module| files.iter().any(|file| file.contains(&format!("/{module}"))))
        }
        None => tests.modules.contains(name),
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let tests = tests();
    let targets = fs::read_to_string(root().join("Makefile")).expect("a Makefile");
    let mut count = 0;
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).expect("the document is there");
        let claims = claims(&text);
        count += claims.len();
        let wrong = claims.into_iter().filter(|claim| !exists(claim, &tests, &targets));
        missing.extend(wrong.map(|claim| format!("{document}: `{claim}` is no test")));
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
    assert!(count >= CLAIMS_MIN, "only {count} claims were found");
}

/// A line without a test is not a claim.
#[test]
fn every_claim_names_a_test() {
    let text = fs::read_to_string(root().join("operator/CAPABILITIES.md")).expect("the document is there");
    let rows = text.lines().filter(|line| line.starts_with("| ") && *line != "| claim | test |");
    let bare: Vec<&str> =
        rows.filter(|row| claims(&format!("| claim | test |\n|---|---|\n{row}")).is_empty()).collect();
    assert!(bare.is_empty(), "\n{}", bare.join("\n"));
    let empty = text.split("\n## ").filter(|section| section.trim_end().ends_with("|---|---|"));
    assert_eq!(empty.count(), 0, "a level without claims says so in words");
}

#[test]
fn a_claim_that_is_wrong_is_found() {
    let tests = tests();
    for wrong in ["no_such_test", "roll::no_such_test", "nowhere::*", "operator/nowhere.rs", "make nothing"] {
        assert!(!exists(wrong, &tests, "help:\n"), "{wrong}");
    }
    assert!(!exists("safety::a_claim_that_is_wrong_is_found", &tests, ""), "it is in another module");
    for right in
        ["a_claim_that_is_wrong_is_found", "claims::a_claim_that_is_wrong_is_found", "claims::*", "make help"]
    {
        assert!(exists(right, &tests, "help: ## List\n"), "{right}");
    }
}
