//! What a person needs after a failure: events, pods and their logs (the previous run's too), the stores
//! with their status, and what the operator said.

use std::fmt::Write;

use ::kube::{Api, Client, ResourceExt, api::ListParams, core::GroupVersionKind};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};

use crate::{client, helm};

/// Lines of a log that are shown: what led to a failure is at its end.
const LOG_LINES: usize = 60;

/// Everything about a namespace as text. Never fails: what cannot be read is named as such.
pub async fn dump(client: &Client, namespace: &str) -> String {
    let mut out = format!("\n======== namespace {namespace} ========\n");
    stores(client, namespace, &mut out).await;
    events(client, namespace, &mut out).await;
    pods(client, namespace, &mut out).await;
    line(&mut out, "\n======== operator ========");
    pods(client, helm::NAMESPACE, &mut out).await;
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

async fn stores(client: &Client, namespace: &str, out: &mut String) {
    let kind = GroupVersionKind::gvk("cachehygiene.io", "v1alpha1", "BlobStore");
    match client::api_of(client, &kind, Some(namespace)).list(&ListParams::default()).await {
        Ok(stores) => {
            for mut store in stores {
                store.metadata.managed_fields = None;
                line(out, &format!("-------- BlobStore {}", store.name_any()));
                line(out, &serde_yaml_ng::to_string(&store).unwrap_or_default());
            }
        }
        Err(error) => line(out, &format!("no BlobStores to read: {error}")),
    }
}

async fn events(client: &Client, namespace: &str, out: &mut String) {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let Ok(mut events) = api.list(&ListParams::default()).await else {
        return line(out, "events cannot be read");
    };
    let time = |event: &Event| event.last_timestamp.clone().or_else(|| event.first_timestamp.clone());
    events.items.sort_by_key(time);
    line(out, "-------- events");
    for event in &events.items {
        let object = &event.involved_object;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let when = time(event).map(|time| time.0.to_string()).unwrap_or_default();
        let (kind, name) = (text(&object.kind), text(&object.name));
        let (reason, message) = (text(&event.reason), text(&event.message));
        line(out, &format!("{when} {kind}/{name} {reason} x{}: {message}", event.count.unwrap_or(1)));
    }
}

async fn pods(client: &Client, namespace: &str, out: &mut String) {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let Ok(pods) = api.list(&ListParams::default()).await else {
        return line(out, "pods cannot be read");
    };
    for pod in &pods {
        let status = pod.status.clone().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let phase = status.phase.clone().unwrap_or_default();
        line(
            out,
            &format!(
                "-------- pod {} {phase} on {node} {}",
                pod.name_any(),
                status.pod_ip.clone().unwrap_or_default()
            ),
        );
        for condition in status.conditions.iter().flatten() {
            let message = condition.message.clone().unwrap_or_default();
            line(out, &format!("  {}={} {message}", condition.type_, condition.status));
        }
        let all = status.init_container_statuses.iter().chain(status.container_statuses.iter()).flatten();
        for container in all {
            container_of(&api, &pod.name_any(), container, out).await;
        }
    }
}

async fn container_of(api: &Api<Pod>, pod: &str, container: &ContainerStatus, out: &mut String) {
    let state = serde_json::to_string(&container.state).unwrap_or_default();
    let restarts = container.restart_count;
    line(out, &format!("  ---- {} ready={} restarts={restarts} {state}", container.name, container.ready));
    if let Some(last) = &container.last_state {
        line(out, &format!("  last: {}", serde_json::to_string(last).unwrap_or_default()));
    }
    log(api, pod, &container.name, false, out).await;
    if restarts > 0 {
        log(api, pod, &container.name, true, out).await;
    }
}

async fn log(api: &Api<Pod>, pod: &str, container: &str, previous: bool, out: &mut String) {
    match client::logs(api, pod, container, previous).await {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let label = if previous { "previous log" } else { "log" };
            let _never_fails = writeln!(out, "  {label}, {} lines:", lines.len()).is_ok();
            for one in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                line(out, &format!("    {one}"));
            }
        }
        Err(error) => line(out, &format!("  no log: {}", error.chain())),
    }
}
