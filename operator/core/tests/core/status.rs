//! Status: idempotent, with times kept, and a phase that follows from conditions.

use blobstore_operator_api::BlobStoreStatus;
use blobstore_operator_api::status::{condition, reason};
use blobstore_operator_core::action::{Hold, Plan};
use blobstore_operator_core::observed::{ContainerSeen, Failure, LastWord, Observed, Seen};
use blobstore_operator_core::plan::{REQUEUE_WAITING, plan};
use blobstore_operator_core::status::{Told, failed, invalid, status};
use blobstore_operator_core::validate::{ValidStore, validate};
use blobstore_sidecar_api::report::VerdictClass;

use crate::support::{at, context, healthy, report, revisions, store, valid, verdict};

fn world(spec: &str) -> (ValidStore, Observed) {
    let store = valid(spec);
    let observed = healthy(&store, &revisions(&store));
    (store, observed)
}

fn pass(store: &ValidStore, observed: &Observed, old: &BlobStoreStatus, second: i64) -> BlobStoreStatus {
    let plan = plan(store, observed, &context(), old, at(second));
    status(store, observed, &plan, &[], old, at(second)).status
}

/// `Type=Status/Reason`.
fn told(status: &BlobStoreStatus, type_: &str) -> String {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    found.map_or_else(String::new, |condition| format!("{}/{}", condition.status, condition.reason))
}

#[test]
fn a_healthy_store_in_words() {
    let (store, observed) = world("shards: 3");
    let status = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    let all: Vec<String> =
        status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect();
    assert_eq!(
        all,
        [
            "Ready=True/AllShardsServing",
            "Progressing=False/Complete",
            "Degraded=False/FullyRedundant",
            "SafeToDisrupt=True/InSyncSpare",
            "MemoryHealthy=True/NoFinding",
            "RemediationActive=False/Idle",
            "ConfigApplied=True/Applied",
            "Reconcilable=True/Reconciling",
            "DataLost=False/NoLoss",
        ]
    );
    assert_eq!(status.phase.as_deref(), Some("Ready"));
    assert_eq!((status.ready.as_deref(), status.shards_ready.as_deref()), (Some("6/6"), Some("3/3")));
    assert_eq!(status.replicas, Some(1));
    assert_eq!(status.memory.expect("measured").used_percent, "25%");
}

#[test]
fn the_same_state_gives_the_same_status_whenever_it_is_asked() {
    let (store, observed) = world("");
    let first = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    let second = pass(&store, &observed, &first, 500);
    assert_eq!(first, second);
}

#[test]
fn small_movements_of_memory_write_nothing() {
    let (store, mut observed) = world("");
    let first = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    let Seen::Present(topology) = &mut observed.pods[0].topology else { panic!("the pod answers") };
    topology.engine.as_mut().expect("an engine").used_memory += 300 << 10;
    assert_eq!(pass(&store, &observed, &first, 1), first);
}

/// The figures of the first pod, after its engine's memory and that of the other have become these, in MiB of 1,000.
fn figures(before: &BlobStoreStatus, used: [u64; 2]) -> (BlobStoreStatus, u64, String) {
    let (store, mut observed) = world("");
    for (pod, mib) in observed.pods.iter_mut().zip(used) {
        let Seen::Present(topology) = &mut pod.topology else { panic!("the pod answers") };
        let engine = topology.engine.as_mut().expect("an engine");
        (engine.used_memory, engine.maxmemory) = (mib << 20, 1_000 << 20);
    }
    let status = pass(&store, &observed, before, 0);
    let memory = status.memory.clone().expect("memory");
    let used = status.nodes[0].used_mib.expect("a figure");
    (status, used, format!("{} of {}", memory.used_percent, memory.pod))
}

#[test]
fn a_figure_that_wavers_about_a_border_stays_and_one_that_moves_is_told() {
    let (mut status, used, memory) = figures(&BlobStoreStatus::default(), [640, 100]);
    assert_eq!((used, memory.as_str()), (640, "60% of media-0-0"));
    for wavers in [641, 644, 639, 621, 641] {
        let (next, used, memory) = figures(&status, [wavers, wavers - 10]);
        assert_eq!((used, memory.as_str()), (640, "60% of media-0-0"), "at {wavers} MiB");
        status = next;
    }
    let (_, used, memory) = figures(&status, [645, 652]);
    assert_eq!((used, memory.as_str()), (656, "60% of media-0-0"), "the other is hardly fuller");
    let (_, used, memory) = figures(&status, [620, 700]);
    assert_eq!((used, memory.as_str()), (624, "70% of media-0-1"));
}

/// As the shell sees a pod whose sidecar has not answered since that second.
fn silence(observed: &mut Observed, index: usize, since: i64) {
    let pod = &mut observed.pods[index];
    pod.last_word =
        Some(LastWord { topology: pod.topology.present().cloned(), report: pod.report.present().cloned() });
    pod.silent_since = Some(at(since));
    (pod.topology, pod.report) = (Seen::Unknown, Seen::Unknown);
}

#[test]
fn a_missed_look_is_not_told_and_a_longer_silence_is() {
    let (store, mut observed) = world("");
    let found = verdict(VerdictClass::Orphaned, 40, -60);
    observed.pods[1].report = Seen::Present(report("media-0-1", 0, vec![found]));
    let running = ContainerSeen { running: true, ready: true, ..ContainerSeen::default() };
    observed.pods[1].containers.insert("sidecar".to_owned(), running);
    let first = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    silence(&mut observed, 1, 30);
    for second in [30, 32, 39] {
        assert_eq!(pass(&store, &observed, &first, second), first, "at {second} s");
    }
    let plan = plan(&store, &observed, &context(), &first, at(39));
    assert!(plan.requeue <= REQUEUE_WAITING, "it is asked again soon: {:?}", plan.requeue);
    let later = pass(&store, &observed, &first, 40);
    assert_eq!(told(&later, condition::DEGRADED), format!("True/{}", reason::SIDECAR_UNREACHABLE));
    assert_eq!(later.ready.as_deref(), Some("1/2"));
    assert_eq!(later.nodes[1].state, "Unknown");
}

/// A last word is told and never decided on: a roll waits although it would call the pod in sync.
#[test]
fn a_last_word_moves_nothing() {
    let (store, mut observed) = world("");
    for pod in &mut observed.pods {
        pod.revision = Some("old".to_owned());
    }
    let surged = |observed: &Observed| {
        plan(&store, observed, &context(), &BlobStoreStatus::default(), at(31)).sizes[&0]
    };
    assert_eq!(surged(&observed), 3);
    silence(&mut observed, 0, 30);
    assert_eq!(surged(&observed), 2, "the primary's word is needed");
}

#[test]
fn a_gate_that_counts_writes_nothing_and_keeps_its_numbers() {
    let (store, mut observed) = world("");
    let gate = |observed: &mut Observed, seconds: u32| {
        let mut unknown = report("media-0-0", 0, vec![verdict(VerdictClass::Unknown, 0, 0)]);
        unknown.gates =
            vec![format!("redis 7.0.15 is not calibrated: 104 of 128 bytes fit, tried {seconds} s ago")];
        observed.pods[0].report = Seen::Present(unknown);
    };
    gate(&mut observed, 5);
    let first = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    let condition = first.conditions.iter().find(|found| found.type_ == condition::MEMORY_HEALTHY);
    let message = &condition.expect("it is told").message;
    assert!(
        message.contains("redis 7.0.15 is not calibrated: 104 of 128 bytes fit, tried 5 s ago"),
        "{message}"
    );
    gate(&mut observed, 35);
    assert_eq!(pass(&store, &observed, &first, 30), first);
}

#[test]
fn times_move_only_with_the_status() {
    let (store, mut observed) = world("");
    let first = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    observed.pods.pop();
    let second = pass(&store, &observed, &first, 60);
    let time = |status: &BlobStoreStatus, type_: &str| {
        status.conditions.iter().find(|c| c.type_ == type_).map(|c| c.last_transition_time.0)
    };
    assert_eq!(time(&second, condition::READY), Some(at(0)));
    assert_eq!(time(&second, condition::DEGRADED), Some(at(60)));
    assert_eq!(told(&second, condition::DEGRADED), "True/ReplicaMissing");
    assert_eq!(told(&second, condition::SAFE_TO_DISRUPT), "False/NoInSyncReplica");
    assert_eq!(second.phase.as_deref(), Some("Degraded"));
}

#[test]
fn a_new_store_is_creating_and_a_named_fault_explains_why_it_stays_so() {
    let store = valid("");
    let mut observed = Observed::default();
    let status = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    assert_eq!(status.phase.as_deref(), Some("Creating"));
    observed = healthy(&store, &revisions(&store));
    for pod in &mut observed.pods {
        pod.ready = false;
        pod.topology = Seen::Absent;
        let waiting = Some(("ErrImagePull".to_owned(), "not found".to_owned()));
        pod.containers.insert("engine".to_owned(), ContainerSeen { waiting, ..ContainerSeen::default() });
    }
    observed.records.clear();
    let status = pass(&store, &observed, &BlobStoreStatus::default(), 5);
    assert_eq!(status.phase.as_deref(), Some("Creating"));
    let why = status.phase_reason.expect("a reason");
    assert!(why.contains("cannot be pulled"), "{why}");
}

#[test]
fn findings_and_their_absence() {
    let (store, mut observed) = world("");
    let found = verdict(VerdictClass::Orphaned, 40, -60);
    observed.pods[0].report = Seen::Present(report("media-0-0", 0, vec![found]));
    let status = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    assert_eq!(told(&status, condition::MEMORY_HEALTHY), "False/FindingConfirmed");
    assert_eq!(told(&status, condition::REMEDIATION_ACTIVE), "True/Observing");
    assert_eq!(status.remediation.expect("hygiene is on").findings_summary, "Orphaned");
    observed.pods[0].report = Seen::Unknown;
    let status = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    assert_eq!(told(&status, condition::MEMORY_HEALTHY), "Unknown/NotMeasured");
}

#[test]
fn a_loss_is_told_for_as_long_as_the_object_lives() {
    let (store, mut observed) = world("");
    let first = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    let Seen::Present(record) = &mut observed.records.get_mut(&0).expect("a record").record else {
        panic!("the record is read")
    };
    record.losses = 1;
    let second = pass(&store, &observed, &first, 10);
    assert_eq!(told(&second, condition::DATA_LOST), "True/ReleasedEmpty");
    let third = pass(&store, &observed, &second, 1_000);
    assert_eq!(third, second);
}

#[test]
fn a_wrong_spec_keeps_what_is_known_and_says_what_is_wrong() {
    let (good, observed) = world("");
    let before = pass(&good, &observed, &BlobStoreStatus::default(), 0);
    let mut wrong = store("sidecar: {cache: {maxBytes: 1Gi}}");
    wrong.metadata.generation = Some(2);
    let why = validate(&wrong).expect_err("it cannot be built");
    let said = invalid(&wrong, &why, &before, at(5));
    let event = said.events.iter().map(|event| (event.warning, &*event.reason)).collect::<Vec<_>>();
    assert_eq!(event, [(true, reason::SPEC_INVALID)], "{:?}", said.events);
    let after = said.status;
    assert_eq!(after.phase.as_deref(), Some("Invalid"));
    assert_eq!((after.observed_generation, &after.nodes), (Some(2), &before.nodes));
    assert_eq!(told(&after, condition::RECONCILABLE), format!("False/{}", reason::SPEC_INVALID));
    assert_eq!(told(&after, condition::READY), "True/AllShardsServing");
    assert_eq!(invalid(&wrong, &why, &after, at(50)), Told { status: after, events: Vec::new() });
}

#[test]
fn a_refused_right_is_told() {
    let failure = Failure { forbidden: true, message: "apply StatefulSet media-0: forbidden".to_owned() };
    let told_status = failed(1, &failure, &BlobStoreStatus::default(), at(0)).status;
    assert_eq!(told(&told_status, condition::RECONCILABLE), "False/PermissionDenied");
    let (store, mut observed) = world("");
    observed.failures.push(failure);
    let status = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    assert_eq!(told(&status, condition::RECONCILABLE), "False/PermissionDenied");
}

#[test]
fn a_paused_store_plans_nothing() {
    let store = valid("lifecycle: {paused: true}");
    let mut observed = healthy(&store, &revisions(&store));
    observed.pods.remove(0);
    observed.pods[0].revision = Some("old".to_owned());
    let plan: Plan = plan(&store, &observed, &context(), &BlobStoreStatus::default(), at(0));
    assert!(plan.actions.is_empty());
    assert_eq!(plan.sizes[&0], 2);
    assert!(plan.holds.iter().any(|Hold { reason, .. }| *reason == reason::PAUSED));
    let told_status = status(&store, &observed, &plan, &[], &BlobStoreStatus::default(), at(0)).status;
    assert_eq!(told_status.phase.as_deref(), Some("Paused"));
}

#[test]
fn a_store_is_ready_when_clients_reach_a_pod() {
    let (store, mut observed) = world("shards: 3");
    for pod in &mut observed.pods {
        pod.ready = false;
    }
    let first = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    assert_eq!(told(&first, condition::READY), "False/Initializing", "the kubelet has not looked yet");
    assert_eq!(first.phase.as_deref(), Some("Creating"));
    observed.pods[3].ready = true;
    let second = pass(&store, &observed, &first, 1);
    assert_eq!(told(&second, condition::READY), "True/AllShardsServing");
    observed.pods[3].ready = false;
    let third = pass(&store, &observed, &second, 2);
    assert_eq!(told(&third, condition::READY), "False/NoReadyPod");
    assert_eq!(third.phase.as_deref(), Some("Unready"));
}

#[test]
fn growth_is_judged_on_primaries_and_a_replica_without_a_verdict_is_well() {
    let (store, mut observed) = world("shards: 3");
    let blind = |observed: &mut Observed, at: usize| {
        let pod = observed.pods[at].name.clone();
        let mut blind = report(&pod, 0, vec![verdict(VerdictClass::Unknown, 0, 0)]);
        blind.gates.push("it cannot be told".to_owned());
        observed.pods[at].report = Seen::Present(blind);
    };
    let primary = |observed: &Observed, at: usize| observed.pods[at].role.as_deref() == Some("primary");
    for at in 0..observed.pods.len() {
        if !primary(&observed, at) {
            blind(&mut observed, at);
        }
    }
    let first = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    assert_eq!(told(&first, condition::MEMORY_HEALTHY), "True/NoFinding");
    let at = (0..observed.pods.len()).find(|at| primary(&observed, *at)).expect("a primary");
    blind(&mut observed, at);
    let second = pass(&store, &observed, &first, 1);
    assert_eq!(told(&second, condition::MEMORY_HEALTHY), "Unknown/NotMeasured");
}

#[test]
fn a_primary_that_changes_is_an_event_and_the_first_one_is_none() {
    let (store, mut observed) = world("");
    let first = pass(&store, &observed, &BlobStoreStatus::default(), 0);
    let events = |observed: &Observed, old: &BlobStoreStatus| -> Vec<String> {
        let plan = plan(&store, observed, &context(), old, at(1));
        let told = status(&store, observed, &plan, &[], old, at(1));
        let changed = told.events.into_iter().filter(|event| event.reason == reason::PRIMARY_CHANGED);
        changed.map(|event| event.message).collect()
    };
    assert_eq!(events(&observed, &BlobStoreStatus::default()), [""; 0]);
    assert_eq!(events(&observed, &first), [""; 0]);
    let seen = observed.records.get_mut(&0).expect("a record");
    let Seen::Present(record) = &mut seen.record else { panic!("a record") };
    let before = record.epoch;
    record.epoch += 1;
    record.primary = record.in_sync.get(1).cloned();
    let said = events(&observed, &first);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(&format!("is primary since epoch {}", before + 1)), "{said:?}");
}

#[test]
fn a_condition_that_turns_is_an_event_and_one_that_lasts_is_none() {
    let (store, mut observed) = world("");
    let look = |observed: &Observed, old: &BlobStoreStatus, second| {
        let plan = plan(&store, observed, &context(), old, at(second));
        let told = status(&store, observed, &plan, &[], old, at(second));
        let said: Vec<_> =
            told.events.iter().map(|event| format!("{} {}", event.warning, event.reason)).collect();
        (told.status, said)
    };
    let (new, said) = look(&Observed::default(), &BlobStoreStatus::default(), 0);
    assert_eq!(said, [""; 0], "that a new store has no pods yet is no news");
    let (first, said) = look(&observed, &new, 0);
    assert_eq!(said, ["false AllShardsServing"]);
    assert!(look(&observed, &first, 10).1.is_empty());
    observed.pods[1].unschedulable = Some("0/3 nodes are available".to_owned());
    let (second, said) = look(&observed, &first, 20);
    assert_eq!(said, ["true PodUnschedulable"]);
    assert!(look(&observed, &second, 30).1.is_empty());
    observed.pods[1].unschedulable = None;
    assert!(look(&observed, &second, 40).1.is_empty(), "a fault that ended is no news");
}
