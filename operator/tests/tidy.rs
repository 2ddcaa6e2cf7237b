//! House rules over the whole workspace that no lint checks: lengths, headers, orphans, forbidden words and crates.

#![expect(clippy::expect_used, reason = "a test says what should hold")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
/// Well known enough to need no word of what they save.
const CRATES_KNOWN: &[&str] = &["http", "http-body", "http-body-util", "base64", "hex"];
/// What a pure crate must not be able to do.
const CRATES_IMPURE: &[&str] = &["tokio", "hyper", "hyper-util", "redis", "rand"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let hidden = name.to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && name != "target" && name != "node_modules" {
            walk(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

struct Source {
    path: String,
    text: String,
}

fn sources(extensions: &[&str]) -> Vec<Source> {
    let root = root();
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let wanted = |path: &PathBuf| {
        path.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted))
    };
    let read = |path: PathBuf| Source {
        path: path.strip_prefix(&root).expect("below the root").display().to_string(),
        text: fs::read_to_string(&path).expect("source is text"),
    };
    paths.into_iter().filter(wanted).map(read).collect()
}

fn check(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn files_are_short() {
    let long = sources(&["rs", "go"]).into_iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", source.path))
    });
    check(long.collect());
}

/// The formatter ends an item with a brace at the indentation of its first line.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let words = body.split('(').next().unwrap_or_default();
        let is_function = words.split_whitespace().any(|word| word == "fn" || word == "func");
        if !is_function || body.starts_with("//") || body.contains('"') || line.ends_with(';') {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - body.len()]);
        if let Some(length) = lines[start..].iter().position(|line| *line == end) {
            found.push((words.to_owned(), length + 1));
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let long = sources(&["rs", "go"]).into_iter().flat_map(|source| {
        let long = functions(&source.text).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX);
        long.map(|(name, lines)| format!("{}: {name}: {lines} lines", source.path)).collect::<Vec<_>>()
    });
    check(long.collect());
}

#[test]
fn files_start_with_a_header() {
    let bare = sources(&["rs"]).into_iter().filter_map(|source| {
        let header = source.text.lines().take_while(|line| line.starts_with("//!")).count();
        (header == 0).then(|| format!("{}: no //! header", source.path))
    });
    check(bare.collect());
}

/// A file that no `mod` line names is not compiled by anyone.
#[test]
fn no_file_is_an_orphan() {
    let all = sources(&["rs"]);
    let texts: Vec<(&Path, &str)> =
        all.iter().map(|source| (Path::new(&source.path), source.text.as_str())).collect();
    let orphans = texts.iter().filter_map(|(path, _)| {
        let name = path.file_stem()?.to_str()?;
        let folder = path.parent()?;
        let in_folder = folder.file_name()?.to_str()?;
        let is_root = matches!(name, "main" | "lib" | "build")
            || ["tests", "benches", "examples", "fuzz_targets", "bin"].contains(&in_folder);
        let (name, home) = if name == "mod" { (in_folder, folder.parent()?) } else { (name, folder) };
        let parents =
            [home.join("lib.rs"), home.join("main.rs"), home.join("mod.rs"), home.with_extension("rs")];
        let line = format!("mod {name};");
        let named = texts.iter().any(|(other, text)| {
            let near = parents.iter().any(|parent| parent == other)
                || (other.parent() == Some(home) && home.ends_with("tests"));
            near && text.lines().any(|found| found.trim_start().ends_with(&line))
        });
        (!is_root && !named).then(|| format!("{}: named by no mod line", path.display()))
    });
    check(orphans.collect());
}

/// Modules that are compiled for tests only: `#[cfg(test)]` before their `mod` line.
fn test_modules(all: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in all {
        let home = source.path.trim_end_matches(".rs").trim_end_matches("/lib").trim_end_matches("/mod");
        let lines: Vec<&str> = source.text.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0].trim() == "#[cfg(test)]") {
            let name = pair[1].trim().rsplit(' ').next().and_then(|name| name.strip_suffix(';'));
            found.extend(name.map(|name| format!("{home}/{name}")));
        }
    }
    found
}

/// The part of a file before its tests; files of tests have none.
fn shipped<'a>(source: &'a Source, test_modules: &[String]) -> &'a str {
    let is_test = ["/tests/", "/benches/", "/tests.rs", "e2e/", "_test.go"];
    let module = source.path.trim_end_matches(".rs");
    let in_tests = test_modules.iter().any(|test| module == test || module.starts_with(&format!("{test}/")));
    if in_tests || is_test.iter().any(|part| source.path.contains(part)) {
        return "";
    }
    source.text.split("#[cfg(test)]\n").next().unwrap_or_default()
}

/// Lines of code, without constants (a panic there is a compile error) and what an `#[expect]` with a reason excuses.
fn risky_lines(text: &str) -> Vec<&str> {
    let mut excused = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let start = line.trim_start();
        excused |= start.contains("clippy::unwrap_used") || start.contains("clippy::expect_used");
        let constant = start.starts_with("const ") || start.starts_with("pub const ");
        if !excused && !constant && code(line) {
            lines.push(line);
        }
        // An excuse ends with the item that it stands before.
        excused &= start != "}";
    }
    lines
}

fn code(line: &str) -> bool {
    !line.trim_start().starts_with("//")
}

#[test]
fn no_forbidden_words() {
    // Split, so that this file does not find itself.
    let everywhere = [["dbg", "!("], ["todo", "!("], ["FIX", "ME"], ["#[ign", "ore"], ["#[should_", "panic"]];
    let everywhere = everywhere.map(|parts| parts.concat());
    let shipped_only = [".unwrap()", ".expect(", "panic!(", "unimplemented!("];
    let all = sources(&["rs"]);
    let tests = test_modules(&all);
    let faults = all.iter().flat_map(|source| {
        let words = everywhere.iter().filter(|word| source.text.contains(word.as_str())).cloned();
        let lines = risky_lines(shipped(source, &tests));
        let risky = shipped_only.iter().filter(|word| lines.iter().any(|line| line.contains(**word)));
        let words = words.chain(risky.map(|word| (*word).to_owned()));
        words.map(|word| format!("{}: {word}", source.path)).collect::<Vec<_>>()
    });
    check(faults.collect());
}

fn dependencies(manifest: &str) -> BTreeSet<String> {
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).map(str::to_owned).collect()
}

#[test]
fn pure_crates_cannot_do_anything() {
    let mut faults = Vec::new();
    for folder in ["operator/api", "operator/core", "sidecar/api", "sidecar/core"] {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let found = dependencies(&manifest);
        let impure = CRATES_IMPURE.iter().filter(|name| found.contains(**name));
        faults.extend(impure.map(|name| format!("{folder}: {name}")));
        let line = manifest.lines().find(|line| line.starts_with("kube ")).unwrap_or_default();
        let client = ["\"client\"", "\"runtime\""].iter().any(|feature| line.contains(feature));
        faults.extend(client.then(|| format!("{folder}: kube with a client")));
    }
    check(faults);
}

#[test]
fn every_dependency_says_what_it_saves() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let lines = section.lines().filter(|line| line.contains('=') && code(line) && !line.starts_with('#'));
    let silent = lines.filter(|line| {
        let name = line.split([' ', '=']).next().unwrap_or_default();
        !line.contains(" # ") && !line.contains("path = ") && !CRATES_KNOWN.contains(&name)
    });
    check(silent.map(str::to_owned).collect());
}

#[test]
fn licence_is_there_and_is_the_one_we_name() {
    let text = fs::read_to_string(root().join("LICENSE")).unwrap_or_default();
    assert!(text.contains("Apache License"), "LICENSE holds the Apache License 2.0");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    assert!(manifest.contains(r#"license = "Apache-2.0""#));
}

#[test]
fn the_length_counter_counts() {
    let text = "impl X {\n    fn a() {\n        b();\n    }\n}\nfn c(\n    x: u8,\n) {\n}\n";
    let found = functions(text);
    assert_eq!(found, [("fn a".to_owned(), 3), ("fn c".to_owned(), 4)]);
}
