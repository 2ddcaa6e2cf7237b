//! Every fault of the list is named with its cause.

use blobstore_operator_api::BlobStoreStatus;
use blobstore_operator_api::status::{condition, reason};
use blobstore_operator_core::diagnose::causes;
use blobstore_operator_core::observed::{ContainerSeen, EndSeen, Observed, PodSeen, Seen};
use blobstore_operator_core::plan::plan;
use blobstore_operator_core::secrets::SecretSeen;
use blobstore_operator_core::status::status;
use blobstore_sidecar_api::topology::EngineExit;

use crate::support::{at, context, healthy, revisions, valid};

fn check(change: impl FnOnce(&mut PodSeen), want: Option<(&str, &str)>) {
    let store = valid("engine: {config: {io-threads-do-reads-wrong: 'yes'}}");
    let mut observed = healthy(&store, &revisions(&store));
    change(&mut observed.pods[1]);
    let causes = causes(&store, &observed, &BlobStoreStatus::default(), at(0));
    match want {
        None => assert!(causes.is_empty(), "{causes:?}"),
        Some((reason, words)) => {
            assert_eq!(causes.len(), 1, "{causes:?}");
            assert_eq!(causes[0].reason, reason);
            assert!(causes[0].message.contains(words), "{}", causes[0].message);
        }
    }
}

fn waiting(why: &str, message: &str) -> ContainerSeen {
    ContainerSeen { waiting: Some((why.to_owned(), message.to_owned())), ..ContainerSeen::default() }
}

fn ended(why: &str, message: &str, at_second: i64) -> ContainerSeen {
    let end = EndSeen {
        reason: why.to_owned(),
        message: message.to_owned(),
        exit_code: 137,
        at: Some(at(at_second)),
    };
    ContainerSeen { last_end: Some(end), ..waiting("CrashLoopBackOff", "back-off") }
}

fn engine(pod: &mut PodSeen, container: ContainerSeen) {
    pod.ready = false;
    pod.containers.insert("engine".to_owned(), container);
}

#[test]
fn a_healthy_store_has_no_causes() {
    check(|_| {}, None);
}

#[test]
fn an_image_that_does_not_exist() {
    check(
        |pod| engine(pod, waiting("ImagePullBackOff", "manifest unknown")),
        Some((reason::IMAGE_PULL_FAILED, "spec.engine.image docker.io/valkey/valkey:8.1")),
    );
}

/// What the kubelet says in turn while an image does not come is one sentence to us.
#[test]
fn a_pull_that_fails_again_and_again_is_told_in_the_same_words() {
    let store = valid("");
    let cause = r#"failed to resolve reference "x:1": x:1: not found"#;
    let turns = [
        ("ErrImagePull", format!("rpc error: code = NotFound desc = {cause}")),
        (
            "ImagePullBackOff",
            format!(
                r#"Back-off pulling image "x:1": ErrImagePull: rpc error: code = NotFound desc = {cause}"#
            ),
        ),
        ("ImagePullBackOff", r#"Back-off pulling image "x:1""#.to_owned()),
        ("ErrImagePull", cause.to_owned()),
    ];
    let mut old = BlobStoreStatus::default();
    for (turn, (why, message)) in turns.iter().enumerate() {
        let mut observed = healthy(&store, &revisions(&store));
        for pod in &mut observed.pods {
            engine(pod, waiting(why, message));
        }
        let plan = plan(&store, &observed, &context(), &old, at(0));
        assert!(plan.causes[0].message.ends_with(&format!("cannot be pulled: {cause}")), "{:?}", plan.causes);
        let told = status(&store, &observed, &plan, &[], &old, at(0)).status;
        let degraded = told.conditions.iter().find(|found| found.type_ == condition::DEGRADED);
        assert_eq!(degraded.expect("it is told").reason, reason::IMAGE_PULL_FAILED);
        assert!(turn == 0 || told == old, "the status is written once");
        old = told;
    }
}

#[test]
fn a_pod_too_large_for_any_node() {
    check(
        |pod| pod.unschedulable = Some("0/3 nodes are available: 3 Insufficient memory".to_owned()),
        Some((reason::POD_UNSCHEDULABLE, "Insufficient memory")),
    );
}

#[test]
fn an_option_that_the_engine_does_not_know_by_its_name() {
    let words = "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n>>> 'io-threads-do-reads-wrong yes'\nBad directive or \
                 wrong number of arguments";
    check(
        |pod| engine(pod, ended("Error", words, -10)),
        Some((reason::ENGINE_CONFIG_REJECTED, "refuses option io-threads-do-reads-wrong")),
    );
}

#[test]
fn a_refused_option_is_told_without_the_stars_and_blanks_around_it() {
    let words = "engine ended: code Some(1), signal None\n\n***\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\nReading \
                 the configuration file, at line 3\n>>> 'hz x'\nargument couldn't be parsed into an integer";
    let told = "refuses its configuration: FATAL CONFIG FILE ERROR (Redis 7.0.15) / Reading the configuration file, at \
                line 3 / 'hz x' / argument couldn't be parsed into an integer";
    check(|pod| engine(pod, ended("Error", words, -10)), Some((reason::ENGINE_CONFIG_REJECTED, told)));
}

#[test]
fn an_engine_killed_for_memory_by_kernel_or_by_launchers_word() {
    let kernel = Some((reason::ENGINE_OOM_KILLED, "limit of 1024 MiB"));
    check(|pod| engine(pod, ended("OOMKilled", "", -10)), kernel);
    check(|pod| engine(pod, ended("Error", "engine oom-killed (signal 9)", -10)), kernel);
    let exit = EngineExit { code: None, signal: Some(9), oom_killed: true, last_lines: Vec::new() };
    let told = |pod: &mut PodSeen| {
        let Seen::Present(topology) = &mut pod.topology else { panic!("the pod answers") };
        topology.last_exit = Some(exit);
    };
    check(told, kernel);
}

#[test]
fn an_old_oom_kill_is_forgotten() {
    let serving = |pod: &mut PodSeen| {
        let container = ContainerSeen { running: true, waiting: None, ..ended("OOMKilled", "", -3_600) };
        pod.containers.insert("engine".to_owned(), container);
    };
    check(serving, None);
}

#[test]
fn a_missing_secret_and_a_crash_are_told_with_their_words() {
    check(
        |pod| engine(pod, waiting("CreateContainerConfigError", "secret \"team-users\" not found")),
        Some((reason::CONTAINER_CRASHING, "team-users")),
    );
    check(
        |pod| engine(pod, ended("Error", "boom", -1)),
        Some((reason::CONTAINER_CRASHING, "code 137, 0 restarts): boom")),
    );
}

#[test]
fn a_silent_sidecar_is_told() {
    let silent = |pod: &mut PodSeen| {
        pod.topology = Seen::Unknown;
        let container = ContainerSeen { running: true, ready: true, ..ContainerSeen::default() };
        pod.containers.insert("sidecar".to_owned(), container);
    };
    check(silent, Some((reason::SIDECAR_UNREACHABLE, "does not answer")));
}

#[test]
fn a_lost_node_is_told() {
    let store = valid("");
    let mut observed: Observed = healthy(&store, &revisions(&store));
    observed.nodes_lost.insert("node-1".to_owned());
    let causes = causes(&store, &observed, &BlobStoreStatus::default(), at(0));
    assert_eq!(causes.len(), 1);
    assert!(causes[0].message.contains("node-1"), "{causes:?}");
}

#[test]
fn a_pod_that_cannot_end_says_what_a_person_can_do() {
    let store = valid("");
    let mut observed = healthy(&store, &revisions(&store));
    observed.nodes_lost.insert("node-1".to_owned());
    observed.pods[1].deleting = true;
    let told =
        |observed: &Observed| causes(&store, observed, &BlobStoreStatus::default(), at(0))[0].message.clone();
    assert!(told(&observed).contains("taint it node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"));
    observed.nodes_out.insert("node-1".to_owned());
    assert!(told(&observed).contains("is removed once the primary of shard 0 serves elsewhere"));
}

const NAMED: &str = "auth: {usersSecret: {name: team-users}, tlsSecret: {name: team-tls}}
origins:
- {name: up, bucket: pictures, s3: {bucket: far}, credentialsSecret: {name: far-keys}}
- {name: web, bucket: pages, http: {url: 'https://web.example'}, credentialsSecret: {name: web-keys}}";

fn secret(keys: &[&str], problem: Option<&str>) -> Seen<SecretSeen> {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    Seen::Present(SecretSeen { keys, problem: problem.map(str::to_owned) })
}

/// One Secret is seen as given, all others are fine.
fn check_secret(field: &str, seen: Seen<SecretSeen>, want: Option<(&str, &str)>) {
    let store = valid(NAMED);
    let mut observed = healthy(&store, &revisions(&store));
    let all = ["users.yaml", "tls.crt", "tls.key", "accessKey", "secretKey", "authorization"];
    observed.secrets = store.secrets.iter().map(|named| (named.field.clone(), secret(&all, None))).collect();
    assert!(observed.secrets.insert(field.to_owned(), seen).is_some(), "{field} is named");
    // That a container keeps ending follows from it.
    engine(&mut observed.pods[0], ended("Error", "", 0));
    let found = causes(&store, &observed, &BlobStoreStatus::default(), at(0));
    let first = found.first().filter(|first| first.reason != reason::CONTAINER_CRASHING);
    assert_eq!(first.map(|first| (first.reason, first.message.as_str())), want, "{found:?}");
}

#[test]
fn secrets_that_are_missing_or_lack_their_keys_are_named_first() {
    let (users, tls) = ("spec.auth.usersSecret", "spec.auth.tlsSecret");
    let (far, web) = ("spec.origins[0].credentialsSecret", "spec.origins[1].credentialsSecret");
    let cases = [
        (
            users,
            Seen::Absent,
            reason::USERS_SECRET_MISSING,
            "there is no Secret team-users in namespace team",
        ),
        (
            users,
            secret(&["x"], None),
            reason::USERS_SECRET_MISSING,
            "Secret team-users has no key users.yaml",
        ),
        (tls, Seen::Absent, reason::TLS_SECRET_MISSING, "there is no Secret team-tls in namespace team"),
        (tls, secret(&["tls.crt"], None), reason::TLS_SECRET_MISSING, "Secret team-tls has no key tls.key"),
        (far, Seen::Absent, reason::ORIGIN_SECRET_MISSING, "there is no Secret far-keys in namespace team"),
        (
            far,
            secret(&["password"], None),
            reason::ORIGIN_SECRET_MISSING,
            "Secret far-keys has none of the keys accessKey, secretKey, ca.crt",
        ),
        (
            web,
            secret(&["accessKey"], None),
            reason::ORIGIN_SECRET_MISSING,
            "Secret web-keys has none of the keys authorization, ca.crt",
        ),
    ];
    for (field, seen, reason, words) in cases {
        check_secret(field, seen, Some((reason, &format!("{field}: {words}"))));
    }
}

#[test]
fn secrets_that_do_not_serve_their_purpose_say_why() {
    let pair = secret(&["tls.crt", "tls.key"], Some("tls.key is not the key of tls.crt"));
    let words = "spec.auth.tlsSecret: Secret team-tls: tls.key is not the key of tls.crt";
    check_secret("spec.auth.tlsSecret", pair, Some((reason::TLS_SECRET_INVALID, words)));
    let users = secret(&["users.yaml"], Some("users.yaml is no YAML at line 2"));
    let words = "spec.auth.usersSecret: Secret team-users: users.yaml is no YAML at line 2";
    check_secret("spec.auth.usersSecret", users, Some((reason::USERS_SECRET_INVALID, words)));
}

#[test]
fn secrets_that_are_fine_or_could_not_be_read_are_no_cause() {
    check_secret("spec.auth.tlsSecret", secret(&["tls.crt", "tls.key", "ca.crt"], None), None);
    check_secret("spec.auth.tlsSecret", Seen::Unknown, None);
}
