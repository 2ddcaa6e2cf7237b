//! What the operator may do and how its pod is confined.

use serde_yaml_ng::Value;

use crate::tools::{list, of_kind, only, rendered, text};

fn rules(role: &Value) -> Vec<(Vec<String>, Vec<String>)> {
    let words =
        |value: &Value| list(value, "words").iter().map(|word| text(word, "word").to_owned()).collect();
    list(&role["rules"], "rules")
        .iter()
        .map(|rule| (words(&rule["resources"]), words(&rule["verbs"])))
        .collect()
}

fn allows(role: &Value, resource: &str, verb: &str) -> bool {
    let has = |words: &[String], wanted: &str| words.iter().any(|word| word == wanted);
    rules(role).iter().any(|(resources, verbs)| has(resources, resource) && has(verbs, verb))
}

#[test]
fn rights_name_every_resource_and_verb() {
    for set in [&["--set", "operator.watchNamespaces={a,b}"][..], &[]] {
        let documents = rendered(set);
        for role in [of_kind(&documents, "ClusterRole"), of_kind(&documents, "Role")].concat() {
            for (resources, verbs) in rules(role) {
                let all = resources.iter().chain(&verbs).any(|word| word.contains('*'));
                assert!(!all, "no wildcard: {resources:?} {verbs:?}");
                let data = resources.iter().any(|resource| resource.starts_with("persistentvolume"));
                let destroys = verbs.iter().any(|verb| verb.starts_with("delete"));
                assert!(!(data && destroys), "the operator never deletes a volume");
            }
        }
    }
}

#[test]
fn operator_holds_what_it_grants_to_sidecars() {
    let documents = rendered(&[]);
    let role = only(&documents, "ClusterRole");
    for verb in ["get", "watch", "update"] {
        assert!(allows(role, "leases", verb), "leases: {verb}");
    }
}

#[test]
fn named_namespaces_leave_no_right_over_others() {
    let documents = rendered(&["--set", "operator.watchNamespaces={a,b}"]);
    let cluster = only(&documents, "ClusterRole");
    for resource in ["secrets", "pods", "statefulsets", "blobstores", "leases", "configmaps"] {
        assert!(!allows(cluster, resource, "get"), "{resource} cluster-wide");
    }
    let namespaces: Vec<&str> = of_kind(&documents, "Role")
        .into_iter()
        .filter(|role| allows(role, "statefulsets", "patch"))
        .map(|role| text(&role["metadata"]["namespace"], "namespace"))
        .collect();
    assert_eq!(namespaces, ["a", "b"]);
}

#[test]
fn operator_pod_is_restricted() {
    let documents = rendered(&[]);
    let pod = &only(&documents, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"].as_str(), Some("RuntimeDefault"));
    let containers = list(&pod["containers"], "containers");
    assert_eq!(containers.len(), 1);
    let own = &containers[0]["securityContext"];
    assert_eq!(own["allowPrivilegeEscalation"].as_bool(), Some(false));
    assert_eq!(own["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(list(&own["capabilities"]["drop"], "drop"), ["ALL"]);
    assert_eq!(containers[0]["resources"]["limits"]["memory"].as_str(), Some("64Mi"));
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert!(containers[0][probe].is_mapping(), "{probe}");
    }
}

#[test]
fn budget_covers_more_than_one_operator_only() {
    let budgets = |set: &str| of_kind(&rendered(&["--set", set]), "PodDisruptionBudget").len();
    assert_eq!(budgets("operator.replicas=2"), 1);
    assert_eq!(budgets("operator.replicas=1"), 0, "it would only block a drain");
}

#[test]
fn monitors_select_what_the_operator_labels() {
    use blobstore_operator_api::names;
    let documents = rendered(&["--set", "monitoring.podMonitor.enabled=true"]);
    let spec = &only(&documents, "PodMonitor")["spec"];
    assert_eq!(spec["selector"]["matchLabels"][names::LABEL_MANAGED_BY].as_str(), Some(names::MANAGED_BY));
    let meta = |label: &str| {
        let plain: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        format!("__meta_kubernetes_pod_label_{plain}")
    };
    let relabelings = serde_yaml_ng::to_string(&spec["podMetricsEndpoints"]).expect("YAML");
    for label in [names::LABEL_STORE, names::LABEL_SHARD] {
        assert!(relabelings.contains(&meta(label)), "{label} becomes a label of the metrics");
    }
}
