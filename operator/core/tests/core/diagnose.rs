//! Every fault of the list is named with its cause.

use blobstore_operator_api::status::reason;
use blobstore_operator_core::diagnose::causes;
use blobstore_operator_core::observed::{ContainerSeen, EndSeen, Observed, PodSeen, Seen};
use blobstore_sidecar_api::topology::EngineExit;

use crate::support::{at, healthy, revisions, valid};

fn check(change: impl FnOnce(&mut PodSeen), want: Option<(&str, &str)>) {
    let store = valid("engine: {config: {io-threads-do-reads-wrong: 'yes'}}");
    let mut observed = healthy(&store, &revisions(&store));
    change(&mut observed.pods[1]);
    let causes = causes(&store, &observed, at(0));
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
    let causes = causes(&store, &observed, at(0));
    assert_eq!(causes.len(), 1);
    assert!(causes[0].message.contains("node-1"), "{causes:?}");
}

#[test]
fn a_users_secret_that_is_missing_or_has_no_users() {
    let store = valid("auth: {usersSecret: {name: team-users}}");
    let mut observed = healthy(&store, &revisions(&store));
    let mut told = |users: Seen<bool>| {
        observed.users = users;
        causes(&store, &observed, at(0)).into_iter().map(|cause| cause.message).collect::<Vec<_>>()
    };
    assert_eq!(
        told(Seen::Absent),
        ["spec.auth.usersSecret: there is no Secret team-users in namespace team"]
    );
    assert_eq!(
        told(Seen::Present(false)),
        ["spec.auth.usersSecret: Secret team-users has no key users.yaml"]
    );
    assert!(told(Seen::Present(true)).is_empty());
    assert!(told(Seen::Unknown).is_empty());
}
