//! Invariants over built children, as a list of violations: what must hold whatever the spec says.

use std::collections::BTreeSet;

use blobstore_operator_api::names;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::children::Children;

/// Nothing: the children may be applied.
pub fn lint(children: &Children) -> Vec<String> {
    let mut notes = Vec::new();
    for meta in metadata(children) {
        owned(meta, &mut notes);
    }
    budgets(children, &mut notes);
    for set in &children.stateful_sets {
        stateful_set(set, &mut notes);
    }
    for rule in children.role.rules.iter().flatten() {
        if rule.resource_names.as_ref().is_none_or(Vec::is_empty) {
            notes.push("the sidecars' Role has a rule without resource names".to_owned());
        }
    }
    notes
}

fn metadata(children: &Children) -> Vec<&ObjectMeta> {
    let Children {
        service_account,
        role,
        role_binding,
        auth_secret,
        config_map,
        services,
        network_policy,
        disruption_budgets,
        leases,
        stateful_sets,
    } = children;
    let single = [
        &service_account.metadata,
        &role.metadata,
        &role_binding.metadata,
        &config_map.metadata,
        &network_policy.metadata,
    ];
    single
        .into_iter()
        .chain(auth_secret.iter().map(|child| &child.metadata))
        .chain(services.iter().map(|child| &child.metadata))
        .chain(disruption_budgets.iter().map(|child| &child.metadata))
        .chain(leases.iter().map(|child| &child.metadata))
        .chain(stateful_sets.iter().map(|child| &child.metadata))
        .collect()
}

fn owned(meta: &ObjectMeta, notes: &mut Vec<String>) {
    let name = meta.name.as_deref().unwrap_or_default();
    if name.is_empty() || name.len() > 63 {
        notes.push(format!("name {name:?} is not 1 to 63 characters long"));
    }
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    if owners.len() != 1 || owners.iter().any(|owner| owner.block_owner_deletion.is_some()) {
        notes.push(format!("{name} is not owned by its store alone"));
    }
    let labels = meta.labels.as_ref();
    for label in [names::LABEL_MANAGED_BY, names::LABEL_STORE] {
        if labels.is_none_or(|labels| !labels.contains_key(label)) {
            notes.push(format!("{name} lacks label {label}: it would be neither watched nor pruned"));
        }
    }
}

/// Exactly one budget per pod.
fn budgets(children: &Children, notes: &mut Vec<String>) {
    for set in &children.stateful_sets {
        let labels = set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.clone());
        let labels = labels.unwrap_or_default();
        let count = children
            .disruption_budgets
            .iter()
            .filter_map(|budget| budget.spec.as_ref()?.selector.as_ref()?.match_labels.as_ref())
            .filter(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
            .count();
        if count != 1 {
            let name = set.metadata.name.as_deref().unwrap_or_default();
            notes.push(format!("pods of {name} are under {count} disruption budgets"));
        }
    }
}

fn stateful_set(set: &StatefulSet, notes: &mut Vec<String>) {
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = &set.spec else { return notes.push(format!("{name} has no spec")) };
    let strategy = spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    if strategy != Some("OnDelete") || spec.pod_management_policy.as_deref() != Some("Parallel") {
        notes.push(format!("{name} is not OnDelete and Parallel"));
    }
    if let Some(pod) = &spec.template.spec {
        pod_spec(name, pod, notes);
    }
}

fn pod_spec(name: &str, pod: &PodSpec, notes: &mut Vec<String>) {
    if pod.automount_service_account_token != Some(false) {
        notes.push(format!("{name}: the API token is mounted by default"));
    }
    let security = pod.security_context.as_ref();
    if security
        .is_none_or(|security| security.run_as_non_root != Some(true) || security.seccomp_profile.is_none())
    {
        notes.push(format!("{name}: the pod is not restricted"));
    }
    let volumes: BTreeSet<&str> = pod.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    let init = pod.init_containers.iter().flatten();
    for container in init.chain(&pod.containers) {
        container_rules(name, container, &volumes, notes);
    }
    for engine in pod.containers.iter().filter(|container| container.name == "engine") {
        if engine.liveness_probe.is_some() || engine.startup_probe.is_some() {
            notes.push(format!("{name}: a probe could kill a waiting launcher"));
        }
    }
}

fn container_rules(name: &str, container: &Container, volumes: &BTreeSet<&str>, notes: &mut Vec<String>) {
    let at = format!("{name}/{}", container.name);
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    if limits.is_none_or(|limits| !limits.contains_key("memory")) {
        notes.push(format!("{at} has no memory limit"));
    }
    let security = container.security_context.as_ref();
    let restricted = security.is_some_and(|security| {
        security.read_only_root_filesystem == Some(true)
            && security.allow_privilege_escalation == Some(false)
            && security
                .capabilities
                .as_ref()
                .is_some_and(|caps| caps.drop.as_deref() == Some(&["ALL".to_owned()]))
    });
    if !restricted {
        notes.push(format!("{at} is not restricted"));
    }
    for mount in container.volume_mounts.iter().flatten() {
        if mount.name == "token" && container.name != "sidecar" {
            notes.push(format!("{at} has the API token"));
        }
        if mount.name.starts_with("origin") && (container.name != "sidecar" || mount.read_only != Some(true))
        {
            notes.push(format!("{at} has {}, which only the sidecar may read", mount.name));
        }
        if !volumes.contains(mount.name.as_str()) && mount.name != "data" {
            notes.push(format!("{at} mounts {}, which is no volume", mount.name));
        }
    }
}
