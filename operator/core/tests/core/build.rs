//! Built children against committed text: a changed byte in a pod rolls every store, so it must be seen in review.
//! `BLESS=1 cargo test --ignore-rust-version --workspace --test core` rewrites the goldens.

use std::path::Path;

use blobstore_operator_core::action::Plan;
use blobstore_operator_core::build::{build, credentials, revision};
use blobstore_operator_core::children::Children;
use blobstore_operator_core::context::{Context, Fresh};
use blobstore_operator_core::lint::lint;
use blobstore_operator_core::observed::Seen;
use blobstore_operator_core::validate::ValidStore;
use serde::Serialize;

use crate::support::{context, valid};

const EVERYTHING: &str = "shards: 3
replicas: 2
persistence: Aof
storage: {size: 10Gi, className: fast}
cache: true
engine: {image: 'redis:7.4', config: {hz: '50', client-output-buffer-limit: normal 0 0 0, notify-keyspace-events: ''}}
auth: {usersSecret: {name: team-users}, tlsSecret: {name: team-tls}}
origins:
- {name: aws, bucket: media, s3: {bucket: raw, region: eu-central-1}, credentialsSecret: {name: aws-keys}, ttl: 10m}
- {name: web, bucket: media, prefix: web/, http: {url: 'https://example.org/files'}, immutable: true}
- {name: disk, bucket: files, file: {claimName: shared, path: exports}, writes: Local, negativeTtl: '0'}
scheduling:
  nodeSelector: {disk: ssd}
  tolerations: [{key: cache, operator: Exists, effect: NoSchedule}]
  spread: {node: Required, zone: 'Off'}
  priorityClassName: high";

fn fresh() -> Fresh {
    let value = |letter: &str| letter.repeat(32);
    Fresh {
        admin_token: value("a"),
        peer_token: value("b"),
        engine_password: value("c"),
        replication_password: value("d"),
        access_key: value("e"),
        secret_key: value("f"),
        user_token: value("0"),
    }
}

fn children(store: &ValidStore) -> Children {
    let credentials = credentials(store, &Seen::Absent, fresh());
    build(store, &Plan::default(), &context(), credentials.as_ref()).expect("every child is of its type")
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).expect("the folder is writable");
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        want == text,
        "{name} differs: look at the difference, then run BLESS=1 cargo test --ignore-rust-version --workspace --test core"
    );
}

fn yaml<T: Serialize>(document: &T) -> String {
    serde_yaml_ng::to_string(document).expect("it serialises")
}

fn documents(children: &Children) -> String {
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
    let mut parts =
        vec![yaml(service_account), yaml(role), yaml(role_binding), yaml(auth_secret), yaml(config_map)];
    parts.extend(services.iter().map(yaml));
    parts.push(yaml(network_policy));
    parts.extend(disruption_budgets.iter().map(yaml));
    parts.extend(leases.iter().map(yaml));
    parts.extend(stateful_sets.iter().map(yaml));
    parts.join("---\n")
}

#[test]
fn children_of_the_smallest_store() {
    golden("smallest.yaml", &documents(&children(&valid(""))));
}

#[test]
fn children_of_a_store_with_everything() {
    golden("everything.yaml", &documents(&children(&valid(EVERYTHING))));
}

/// Also the test that a new operator renders byte-identical pods: this text may change only on purpose.
#[test]
fn pod_template_and_revision_are_byte_identical() {
    let store = valid("");
    let set = children(&store).stateful_sets.remove(0);
    let template = set.spec.expect("a spec").template;
    golden("pod.yaml", &yaml(&template));
    golden("revision.txt", &format!("{}\n", revision(&store, &context(), 0)));
}

#[test]
fn every_store_passes_the_lint() {
    for spec in ["", EVERYTHING, "replicas: 0\nauth: {anonymous: true}", "shards: 16\nreplicas: 5"] {
        let notes = lint(&children(&valid(spec)));
        assert!(notes.is_empty(), "{spec}: {notes:?}");
    }
}

/// Credentials are files of the sidecar alone: in no argument, no environment, no ConfigMap, no other container.
#[test]
fn credentials_of_origins_are_files_of_the_sidecar() {
    let built = children(&valid(EVERYTHING));
    let document = yaml(&built.config_map);
    assert!(document.contains("/etc/blobstore/origins/aws") && !document.contains("aws-keys"), "{document}");
    let pod =
        built.stateful_sets[0].spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).expect("a pod");
    let with: Vec<&str> = pod
        .init_containers
        .iter()
        .flatten()
        .chain(&pod.containers)
        .filter(|container| {
            container.volume_mounts.iter().flatten().any(|mount| mount.name.starts_with("origin"))
        })
        .map(|container| container.name.as_str())
        .collect();
    assert_eq!(with, ["sidecar"]);
    let volumes = pod.volumes.iter().flatten().filter(|volume| volume.name.starts_with("origin"));
    let names: Vec<&str> = volumes.map(|volume| volume.name.as_str()).collect();
    assert_eq!(names, ["origins", "origin-disk"]);
}

#[test]
fn lint_sees_what_it_is_for() {
    let mut broken = children(&valid(""));
    let extra = broken.disruption_budgets[0].clone();
    broken.disruption_budgets.push(extra);
    broken.config_map.metadata.owner_references = None;
    let pod =
        broken.stateful_sets[0].spec.as_mut().and_then(|spec| spec.template.spec.as_mut()).expect("a pod");
    pod.containers[0].liveness_probe = Some(k8s_openapi::api::core::v1::Probe::default());
    pod.containers[0].resources = None;
    let notes = lint(&broken);
    assert_eq!(notes.len(), 4, "{notes:?}");
}

#[test]
fn scaling_and_the_operators_namespace_change_no_revision() {
    let base = revision(&valid("replicas: 1"), &context(), 0);
    assert_eq!(base, revision(&valid("replicas: 3"), &context(), 0));
    let elsewhere =
        Context { operator_namespace: "other".to_owned(), monitoring_namespace: None, ..context() };
    assert_eq!(base, revision(&valid("replicas: 1"), &elsewhere, 0));
}

#[test]
fn what_pods_run_with_changes_the_revision() {
    let base = revision(&valid(""), &context(), 0);
    for spec in [
        "engine: {image: other}",
        "engine: {config: {hz: '20'}}",
        "memory: {maxmemoryPercent: 60}",
        "sidecar: {limits: {bodyIdle: 10s}}",
        "hygiene: {thresholds: {sample: 1s}}",
        "scheduling: {nodeSelector: {a: b}}",
        "sidecar: {heapProfiles: true}",
    ] {
        assert_ne!(base, revision(&valid(spec), &context(), 0), "{spec}");
    }
}

#[test]
fn only_a_store_that_asks_for_heap_profiles_starts_its_sidecars_with_a_sampler() {
    let samplers = |spec: &str| {
        let children =
            build(&valid(spec), &Plan::default(), &context(), None).expect("every child is of its type");
        let pod = children.stateful_sets[0].spec.clone().and_then(|spec| spec.template.spec).expect("a pod");
        let containers = pod.containers.into_iter().chain(pod.init_containers.unwrap_or_default());
        let sampled = containers.filter(|container| {
            let all = container.env.iter().flatten();
            all.filter(|one| one.name == "_RJEM_MALLOC_CONF")
                .any(|one| one.value.as_deref() == Some("prof:true,prof_active:false"))
        });
        sampled.map(|container| container.name).collect::<Vec<_>>()
    };
    assert_eq!(samplers(""), Vec::<String>::new());
    assert_eq!(samplers("sidecar: {heapProfiles: true}"), ["sidecar"]);
}

#[test]
fn generated_values_are_kept_and_an_unread_secret_is_left_alone() {
    let store = valid("");
    assert!(credentials(&store, &Seen::Unknown, fresh()).is_none());
    let first = credentials(&store, &Seen::Absent, fresh()).expect("generated");
    let seen = first.0.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())).collect();
    let other = Fresh { admin_token: "z".repeat(32), secret_key: "y".repeat(32), ..fresh() };
    assert_eq!(credentials(&store, &Seen::Present(seen), other), Some(first));
}

#[test]
fn a_claim_template_keeps_the_size_it_was_created_with() {
    let store = valid("persistence: Aof\nstorage: {size: 20Gi}");
    let plan = Plan { claim_sizes: [(0, "10Gi".to_owned())].into(), ..Plan::default() };
    let children = build(&store, &plan, &context(), None).expect("every child is of its type");
    let spec = children.stateful_sets[0].spec.clone().expect("a spec");
    let claim = spec.volume_claim_templates.and_then(|mut claims| claims.pop()).expect("a claim");
    let size = blobstore_operator_core::observed::read::claim_size(&claim);
    assert_eq!(size.as_deref(), Some("10Gi"));
}

#[test]
fn a_pull_policy_stands_at_every_container_and_only_if_it_was_asked_for() {
    let store = valid("");
    let policies = |context: &Context| {
        let children = build(&store, &Plan::default(), context, None).expect("every child is of its type");
        let spec = children.stateful_sets[0].spec.clone().and_then(|spec| spec.template.spec).expect("a pod");
        let containers = spec.containers.into_iter().chain(spec.init_containers.unwrap_or_default());
        containers.map(|container| container.image_pull_policy).collect::<Vec<_>>()
    };
    assert_eq!(policies(&context()), [None, None, None]);
    let never = Context { image_pull_policy: Some("Never".to_owned()), ..context() };
    assert_eq!(policies(&never), vec![Some("Never".to_owned()); 3]);
}
