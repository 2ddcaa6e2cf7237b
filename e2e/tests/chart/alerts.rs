//! The alerts: sound, tested in time, explained by a runbook, made of metrics that exist, and the same in all three
//! forms in which they ship.

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml_ng::Value;

use crate::tools::{
    chart, documents, files, list, of_kind, only, promtool, read, rendered, repository, stem, succeeded, text,
};

pub(crate) fn alerts() -> Vec<Value> {
    let file = documents(&read(&chart().join("files/alerts.yaml"))).remove(0);
    let groups = list(&file["groups"], "groups").to_vec();
    groups.iter().flat_map(|group| list(&group["rules"], "rules").to_vec()).collect()
}

fn name(alert: &Value) -> &str {
    text(&alert["alert"], "an alert's name")
}

#[test]
fn rules_pass_promtool() {
    succeeded(&promtool(&["check", "rules", chart().join("files/alerts.yaml").to_str().expect("UTF-8")]));
}

#[test]
fn rules_fire_and_stay_silent_as_promtool_tests_say() {
    let tests = chart().join("tests/alerts_test.yaml");
    succeeded(&promtool(&["test", "rules", tests.to_str().expect("UTF-8")]));
}

#[test]
fn every_alert_has_a_promtool_test() {
    let tests = documents(&read(&chart().join("tests/alerts_test.yaml"))).remove(0);
    let mut fires = BTreeSet::new();
    let mut silent = BTreeSet::new();
    for case in list(&tests["tests"], "tests") {
        for expectation in list(&case["alert_rule_test"], "alert_rule_test") {
            let wanted = expectation["exp_alerts"].as_sequence().is_some_and(|alerts| !alerts.is_empty());
            let set = if wanted { &mut fires } else { &mut silent };
            set.insert(text(&expectation["alertname"], "alertname").to_owned());
        }
    }
    let all: BTreeSet<String> = alerts().iter().map(|alert| name(alert).to_owned()).collect();
    assert_eq!(all.difference(&fires).collect::<Vec<_>>(), Vec::<&String>::new(), "never seen to fire");
    assert_eq!(
        all.difference(&silent).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "never seen to stay silent"
    );
}

#[test]
fn every_alert_says_what_it_means_and_every_runbook_has_its_alert() {
    let runbooks: BTreeSet<String> =
        files(&chart().join("runbooks"), "md").iter().map(|path| stem(path)).collect();
    let names: BTreeSet<String> = alerts().iter().map(|alert| name(alert).to_owned()).collect();
    assert_eq!(runbooks, names, "one runbook per alert, of its name");
    for alert in alerts() {
        let severity = text(&alert["labels"]["severity"], "severity");
        assert!(["critical", "warning", "info"].contains(&severity), "{}: {severity}", name(&alert));
        for annotation in ["summary", "description"] {
            assert!(!text(&alert["annotations"][annotation], annotation).is_empty(), "{}", name(&alert));
        }
        let runbook = read(&chart().join(format!("runbooks/{}.md", name(&alert))));
        for heading in ["## Meaning", "## Look", "## Act"] {
            assert!(runbook.contains(heading), "{}: the runbook has {heading}", name(&alert));
        }
    }
}

/// Names of metrics in an expression: ours all begin with `blobstore_`.
pub(crate) fn metrics_in(expression: &str) -> BTreeSet<String> {
    expression
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("blobstore_sidecar_") || word.starts_with("blobstore_operator_"))
        .map(str::to_owned)
        .collect()
}

/// Every metric that the sources name, in a string of its own.
pub(crate) fn metrics_in_sources() -> BTreeSet<String> {
    fn walk(folder: &std::path::Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("list sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = read(&path);
                let texts = source.split('"');
                found
                    .extend(texts.clone().filter(|text| metrics_in(text).contains(*text)).map(str::to_owned));
                // Constructors in a metrics.rs may put the prefix in front of every name.
                if path.ends_with("metrics.rs") {
                    let operator = path.starts_with(repository().join("operator"));
                    let prefix = if operator { "blobstore_operator_" } else { "blobstore_sidecar_" };
                    let plain = texts.filter(|text| text.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
                    let word = |text: &&str| text.contains('_') || *text == "leader";
                    found.extend(plain.filter(word).map(|text| format!("{prefix}{text}")));
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    for folder in ["sidecar", "operator"] {
        walk(&repository().join(folder), &mut found);
    }
    assert!(found.len() > 20, "the sources were found: {found:?}");
    found
}

/// Panics with the names that no source defines. A histogram's series end in three known ways.
pub(crate) fn assert_metrics_exist(place: &str, used: &BTreeSet<String>) {
    let defined = metrics_in_sources();
    let base = |name: &str| {
        ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    let unknown: Vec<&String> =
        used.iter().filter(|name| !defined.contains(*name) && !defined.contains(&base(name))).collect();
    assert!(unknown.is_empty(), "{place}: no source defines {unknown:?}");
}

#[test]
fn metrics_of_alerts_exist() {
    let used = alerts().iter().flat_map(|alert| metrics_in(text(&alert["expr"], "expr"))).collect();
    assert_metrics_exist("alerts.yaml", &used);
}

/// The same rules by name, as (expression, for, severity).
type Form = BTreeMap<String, (String, String, String)>;

fn form(rules: &[Value], name: &str, expression: impl Fn(&Value) -> String) -> Form {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |rule: &Value| {
        let facts = (expression(rule), word(&rule["for"]), word(&rule["labels"]["severity"]));
        (word(&rule[name]), facts)
    };
    rules.iter().map(one).collect()
}

fn grafana_form(rules: &[Value]) -> Form {
    form(rules, "title", |rule| text(&rule["data"][0]["model"]["expr"], "expr").to_owned())
}

fn all_forms() -> Vec<Value> {
    rendered(&[
        "--set",
        "monitoring.rules.enabled=true,monitoring.grafana.alerts.configMap=true,\
         monitoring.grafana.alerts.resource=true",
    ])
}

fn rules_of<'a>(groups: impl Iterator<Item = &'a Value>) -> Vec<Value> {
    groups.flat_map(|group| list(&group["rules"], "rules").to_vec()).collect()
}

fn provisioned(documents: &[Value]) -> Value {
    let config_map = only(documents, "ConfigMap");
    assert_eq!(config_map["metadata"]["labels"]["grafana_alert"].as_str(), Some("1"));
    self::documents(text(&config_map["data"]["blobstore-alerts.yaml"], "the file")).remove(0)
}

#[test]
fn all_forms_carry_the_same_alerts() {
    let documents = all_forms();
    let prometheus = rules_of(list(&only(&documents, "PrometheusRule")["spec"]["groups"], "groups").iter());
    let prometheus = form(&prometheus, "alert", |rule| text(&rule["expr"], "expr").to_owned());
    let source = form(&alerts(), "alert", |rule| text(&rule["expr"], "expr").to_owned());
    assert_eq!(prometheus, source);
    let file = provisioned(&documents);
    // Grafana wants a duration where Prometheus takes nothing for zero.
    let zero = |form: Form| -> Form {
        let filled = |wait: String| if wait.is_empty() { "0s".to_owned() } else { wait };
        form.into_iter()
            .map(|(name, (expr, wait, severity))| (name, (expr, filled(wait), severity)))
            .collect()
    };
    assert_eq!(grafana_form(&rules_of(list(&file["groups"], "groups").iter())), zero(source.clone()));
    let resources = of_kind(&documents, "GrafanaAlertRuleGroup");
    let rules = rules_of(resources.iter().map(|resource| &resource["spec"]));
    assert_eq!(grafana_form(&rules), zero(source));
}

#[test]
fn grafana_rules_are_complete_and_keep_their_identity() {
    let documents = all_forms();
    let rules = rules_of(list(&provisioned(&documents)["groups"], "groups").iter());
    let mut uids = BTreeSet::new();
    for rule in &rules {
        let title = text(&rule["title"], "title");
        let uid = text(&rule["uid"], "uid");
        assert!(uid.len() <= 40 && uids.insert(uid.to_owned()), "{title}: uid {uid}");
        assert_eq!(text(&rule["noDataState"], "noDataState"), "OK", "{title}: no series means no alert");
        let condition = text(&rule["condition"], "condition");
        let steps = list(&rule["data"], "data");
        assert!(steps.iter().any(|step| step["refId"].as_str() == Some(condition)), "{title}: {condition}");
        assert_eq!(steps[0]["datasourceUid"].as_str(), Some("prometheus"));
        let annotations = serde_yaml_ng::to_string(&rule["annotations"]).expect("YAML");
        assert!(
            !annotations.contains("$value "),
            "{title}: $value means something else in Grafana: {annotations}"
        );
        // File provisioning expands `$NAME` in expressions: none may be there.
        let model = serde_yaml_ng::to_string(&rule["data"]).expect("YAML");
        assert!(!model.contains('$'), "{title}: a dollar sign would be expanded: {model}");
    }
}

#[test]
fn excluded_alerts_are_gone_and_added_labels_are_on_the_rest() {
    let documents = rendered(&[
        "--set",
        "monitoring.rules.enabled=true,monitoring.rules.exclude={BlobStoreFragmented},\
         monitoring.rules.alertLabels.team=storage,monitoring.rules.runbookBaseUrl=https://example.com/r/",
    ]);
    let rules = rules_of(list(&only(&documents, "PrometheusRule")["spec"]["groups"], "groups").iter());
    assert_eq!(rules.len(), alerts().len() - 1);
    for rule in &rules {
        assert_ne!(name(rule), "BlobStoreFragmented");
        assert_eq!(rule["labels"]["team"].as_str(), Some("storage"));
        assert!(rule["labels"]["severity"].is_string(), "{} keeps its own labels", name(rule));
        let url = format!("https://example.com/r/{}.md", name(rule));
        assert_eq!(rule["annotations"]["runbook_url"].as_str(), Some(url.as_str()));
    }
}
