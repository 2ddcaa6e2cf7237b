//! The dashboard: importable by every route, its queries parse, and its metrics exist.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::alerts::{assert_metrics_exist, metrics_in};
use crate::tools::{chart, files, of_kind, only, promtool, read, rendered, succeeded};

/// Grafana's own: a new one would make a second dashboard at every upgrade.
const UID: &str = "blobstore-overview";
/// The limit of a ConfigMap is 1 MiB for all keys together.
const BYTES_MAX: usize = 512 << 10;

fn dashboard() -> Value {
    let all = files(&chart().join("files/dashboards"), "json");
    assert_eq!(all.len(), 1);
    let text = read(&all[0]);
    assert!(text.len() < BYTES_MAX);
    serde_json::from_str(&text).expect("the dashboard is JSON")
}

fn panels() -> Vec<Value> {
    let dashboard = dashboard();
    let top = dashboard["panels"].as_array().expect("panels").clone();
    let inner = top.iter().flat_map(|panel| panel["panels"].as_array().cloned().unwrap_or_default());
    let inner: Vec<Value> = inner.collect();
    [top, inner].concat()
}

fn title(panel: &Value) -> &str {
    panel["title"].as_str().expect("every panel has a title")
}

fn targets() -> Vec<(String, String)> {
    let of = |panel: &Value| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let expression = |target: &Value| target["expr"].as_str().expect("expr").to_owned();
        targets.iter().map(|target| (title(panel).to_owned(), expression(target))).collect::<Vec<_>>()
    };
    panels().iter().flat_map(of).collect()
}

#[test]
fn imports_without_questions() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], UID);
    assert!(dashboard["schemaVersion"].as_u64().expect("a number") >= 36);
    assert!(dashboard.get("__inputs").is_none() && dashboard.get("__requires").is_none());
    assert!(dashboard["id"].is_null(), "the id is the receiving Grafana's");
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    assert!(
        variables.iter().any(|variable| variable["type"] == "datasource" && variable["name"] == "datasource")
    );
    for panel in panels().iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", title(panel));
        assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{}", title(panel));
    }
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in panels() {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{}: id twice", title(&panel));
        let side = |name: &str| panel["gridPos"][name].as_u64().expect("a position");
        assert!(side("x") + side("w") <= 24, "{}: 24 columns", title(&panel));
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(cells.insert((x, y)), "{} lies on another panel", title(&panel));
            }
        }
    }
}

#[test]
fn metrics_of_the_dashboard_exist() {
    assert_metrics_exist("the dashboard", &targets().iter().flat_map(|(_, expr)| metrics_in(expr)).collect());
}

#[test]
fn queries_parse() {
    let plain = |expr: &str| {
        let expr = expr.replace("$__rate_interval", "5m").replace("$__range", "1h");
        ["$namespace", "$store", "$pod"].iter().fold(expr, |expr, variable| expr.replace(variable, ".*"))
    };
    let rules: Vec<Value> = targets()
        .iter()
        .enumerate()
        .map(|(index, (panel, expr))| {
            let expr = plain(expr);
            assert!(!expr.contains('$'), "{panel}: an unknown variable in {expr}");
            serde_json::json!({"record": format!("dashboard:query:{index}"), "expr": expr})
        })
        .collect();
    assert!(rules.len() >= 30, "{} queries", rules.len());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("queries.yaml");
    let document = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    fs::write(&file, document.to_string()).expect("write the queries");
    succeeded(&promtool(&["check", "rules", file.to_str().expect("UTF-8")]));
}

#[test]
fn every_verdict_has_a_place_on_it() {
    let text = serde_json::to_string(&dashboard()).expect("JSON");
    assert!(text.contains("blobstore_sidecar_verdict"), "verdicts are shown");
}

#[test]
fn both_routes_carry_the_same_dashboard() {
    let both = "monitoring.dashboards.enabled=true,monitoring.dashboards.resource=true";
    let documents = rendered(&["--set", both]);
    let config_map = only(&documents, "ConfigMap");
    assert_eq!(
        config_map["metadata"]["labels"]["grafana_dashboard"].as_str(),
        Some("1"),
        "text, not a number"
    );
    let data = config_map["data"].as_mapping().expect("data");
    let parse = |text: &str| -> Value { serde_json::from_str(text).expect("JSON") };
    for value in data.values() {
        assert_eq!(parse(value.as_str().expect("text")), dashboard());
    }
    let resource = only(&documents, "GrafanaDashboard");
    assert_eq!(parse(resource["spec"]["json"].as_str().expect("text")), dashboard());
    assert!(of_kind(&rendered(&[]), "ConfigMap").is_empty(), "off by default");
}
