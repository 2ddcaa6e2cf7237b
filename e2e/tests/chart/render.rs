//! Linting, goldens, CRDs, the values schema.

use std::fs;
use std::path::Path;

use serde_yaml_ng::Value;

use crate::tools::{
    chart, documents, files, helm, of_kind, read, rendered, repository, said, stem, succeeded, template, text,
};

fn value_sets() -> Vec<std::path::PathBuf> {
    let sets = files(&chart().join("tests/values"), "yaml");
    assert!(sets.len() >= 3, "default, namespaced and monitoring at least");
    sets
}

#[test]
fn every_value_set_lints() {
    let chart = chart();
    let chart = chart.to_str().expect("a path in UTF-8");
    succeeded(&helm(&["lint", chart, "--strict"]));
    for set in value_sets() {
        succeeded(&helm(&["lint", chart, "--strict", "--values", set.to_str().expect("UTF-8")]));
    }
}

#[test]
fn every_value_set_renders_as_its_golden_says() {
    for set in value_sets() {
        let mut documents = rendered(&["--values", set.to_str().expect("UTF-8")]);
        documents.iter_mut().for_each(shorten);
        let texts: Vec<String> =
            documents.iter().map(|value| serde_yaml_ng::to_string(value).expect("YAML")).collect();
        compare(&chart().join(format!("tests/golden/{}.yaml", stem(&set))), &texts.join("---\n"));
    }
}

/// What comes from a file unchanged has a test of its own and would only bury the rest.
fn shorten(document: &mut Value) {
    let elsewhere = || Value::String("(from a file)".to_owned());
    match document["kind"].as_str() {
        Some("CustomResourceDefinition") => document["spec"] = elsewhere(),
        Some("GrafanaDashboard") => document["spec"]["json"] = elsewhere(),
        Some("PrometheusRule") => document["spec"]["groups"] = elsewhere(),
        Some("GrafanaAlertRuleGroup") => document["spec"]["rules"] = elsewhere(),
        Some("ConfigMap") => {
            let data = document["data"].as_mapping_mut().expect("data");
            data.values_mut().for_each(|value| *value = elsewhere());
        }
        _ => {}
    }
}

fn compare(golden: &Path, got: &str) {
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(golden, got).expect("write the golden");
        return;
    }
    let want = read(golden);
    let differs = want.lines().zip(got.lines()).position(|(want, got)| want != got);
    let line = differs.unwrap_or_else(|| want.lines().count().min(got.lines().count()));
    let at = |text: &str| text.lines().nth(line).unwrap_or("(end)").to_owned();
    let hint = "if this is meant, run again with UPDATE_GOLDENS=1 and read the difference";
    assert!(want == got, "{}:{}: {} is now {}; {hint}", golden.display(), line + 1, at(&want), at(got));
}

#[test]
fn crds_in_the_chart_equal_the_generated_ones() {
    let generated = files(&repository().join("crds"), "yaml");
    assert!(!generated.is_empty(), "crds/ holds the generated CRDs");
    let copies = files(&chart().join("files/crds"), "yaml");
    let names = |paths: &[std::path::PathBuf]| paths.iter().map(|path| stem(path)).collect::<Vec<_>>();
    assert_eq!(
        names(&generated),
        names(&copies),
        "the same files; run `cp crds/*.yaml charts/blobstore/files/crds/`"
    );
    for (generated, copy) in generated.iter().zip(&copies) {
        let same = read(generated) == read(copy);
        assert!(same, "{} differs; run `cp crds/*.yaml charts/blobstore/files/crds/`", copy.display());
    }
}

#[test]
fn crds_upgrade_with_the_chart_and_outlive_it() {
    let documents = rendered(&[]);
    let crds = of_kind(&documents, "CustomResourceDefinition");
    assert_eq!(crds.len(), files(&repository().join("crds"), "yaml").len());
    for crd in crds {
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"].as_str(), Some("keep"));
        let name = text(&crd["metadata"]["name"], "the CRD's name");
        let source = files(&repository().join("crds"), "yaml")
            .iter()
            .flat_map(|path| self::documents(&read(path)))
            .find(|value| value["metadata"]["name"].as_str() == Some(name))
            .unwrap_or_else(|| panic!("{name} is in crds/"));
        assert_eq!(
            crd["spec"], source["spec"],
            "{name}: not a number or word of the schema changes on its way"
        );
    }
    assert!(of_kind(&rendered(&["--set", "crds.install=false"]), "CustomResourceDefinition").is_empty());
}

/// A set of values that must be refused, and a word of the refusal.
fn refuses(set: &str, names: &str) {
    let output = template(&["--set", set]);
    assert!(!output.status.success(), "{set} is refused");
    assert!(said(&output).contains(names), "{set}: the refusal names {names}: {}", said(&output));
}

#[test]
fn wrong_values_are_refused_by_name() {
    refuses("operator.replica=3", "replica");
    refuses("operator.replicas=-1", "replicas");
    refuses("operator.watchNamespaces[0]=Not_A_Namespace", "watchNamespaces");
    refuses("image.sidecar.repository=", "repository");
    refuses("image.operator.repository=x:1", "repository");
    refuses("image.pullPolicy=Sometimes", "pullPolicy");
    refuses("monitoring.rules.enabled=yes-please", "enabled");
    refuses("monitoring.rules.exclude[0]=Other", "exclude");
    refuses("monitoring.podMonitor.interval=15", "interval");
    refuses("serviceAccount.create=false", "serviceAccount.name");
    refuses("surprise=true", "surprise");
}

#[test]
fn every_value_is_in_the_readme() {
    let readme = read(&chart().join("README.md"));
    let values = documents(&read(&chart().join("values.yaml")));
    let mut missing = Vec::new();
    leaves(&values[0], "", &mut |path| {
        if !readme.contains(&format!("`{path}`")) {
            missing.push(path.to_owned());
        }
    });
    assert!(missing.is_empty(), "charts/blobstore/README.md lacks {missing:?}");
}

/// Calls `seen` with the dotted path of everything that is not a filled map; a free-form map is one value.
fn leaves(value: &Value, path: &str, seen: &mut impl FnMut(&str)) {
    const FREE_FORM: &[&str] = &["operator.resources", "monitoring.grafana.instanceSelector"];
    match value.as_mapping() {
        Some(map) if !map.is_empty() && !FREE_FORM.contains(&path) => {
            for (key, value) in map {
                let key = text(key, "a key");
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                leaves(value, &path, seen);
            }
        }
        _ => seen(path),
    }
}
