//! Faults named by cause, from pod statuses alone: an image that does not come, an option that the engine does not
//! know, a pod too large for any node, an engine that was killed for memory. Rules in order, first match per pod; before
//! them the Secrets that the resource names.

use blobstore_operator_api::BlobStoreStatus;
use blobstore_operator_api::status::{condition, reason};
use blobstore_sidecar_api::topology::EngineExit;
use jiff::Timestamp;

use crate::action::Cause;
use crate::observed::{ContainerSeen, Observed, PodSeen, read};
use crate::secrets;
use crate::validate::ValidStore;

/// An OOM kill is told for this long after it happened, although the engine serves again.
pub const OOM_REMEMBERED_MS: i64 = 600_000;
/// Ends the sentence, unless the kubelet says why.
const PULL_FAILED: &str = "cannot be pulled";
/// An engine's last words can be long; a person reads a line or two.
const MESSAGE_CHARS_MAX: usize = 400;

type Rule = fn(&ValidStore, &PodSeen, Timestamp) -> Option<Cause>;

/// The most specific cause first.
const RULES: &[Rule] =
    &[unschedulable, image_pull_failed, out_of_memory, option_unknown, config_error, crashing, unreachable];

pub fn causes(store: &ValidStore, observed: &Observed, old: &BlobStoreStatus, now: Timestamp) -> Vec<Cause> {
    let mut causes: Vec<Cause> =
        observed.pods.iter().filter_map(|pod| RULES.iter().find_map(|rule| rule(store, pod, now))).collect();
    for pod in &observed.pods {
        if observed.node_lost(pod) {
            let node = pod.node.as_deref().unwrap_or_default();
            causes.push(cause(reason::REPLICA_MISSING, pod, node_lost(observed, pod, node)));
        }
    }
    causes.sort();
    causes.dedup_by(|a, b| a.reason == b.reason && a.pod == b.pod);
    // First what a person can put right; that pods wait or keep ending follows from it.
    causes.splice(0..0, secrets::causes(store, observed));
    for cause in &mut causes {
        keep_words(cause, old);
    }
    causes
}

/// A pod that is to end stays for as long as nobody vouches that its node is off: it may still run there.
fn node_lost(observed: &Observed, pod: &PodSeen, node: &str) -> String {
    let name = &pod.name;
    if !pod.deleting {
        return format!("pod {name} is on node {node}, which does not report");
    }
    if observed.nodes_out.contains(node) {
        return format!(
            "pod {name} is to end on node {node}, which is gone or out of service; it is removed once the primary of \
             shard {} serves elsewhere",
            pod.shard
        );
    }
    format!(
        "pod {name} is to end, but its node {node} does not report that it has: if the node is surely off, delete it \
         or taint it {}=nodeshutdown:NoExecute",
        read::TAINT_OUT_OF_SERVICE
    )
}

/// While the kubelet backs off it repeats only that it does; what it said before still holds.
fn keep_words(cause: &mut Cause, old: &BlobStoreStatus) {
    let degraded = old.conditions.iter().find(|found| found.type_ == condition::DEGRADED);
    let same = degraded.filter(|found| found.reason == cause.reason && cause.message.ends_with(PULL_FAILED));
    let Some(rest) = same.and_then(|found| found.message.split_once(&cause.message)) else { return };
    let words = rest.1.split("; pod ").next().unwrap_or_default();
    cause.message.push_str(words);
}

fn cause(reason: &'static str, pod: &PodSeen, message: String) -> Cause {
    Cause { reason, pod: pod.name.clone(), message: message.chars().take(MESSAGE_CHARS_MAX).collect() }
}

fn unschedulable(_: &ValidStore, pod: &PodSeen, _: Timestamp) -> Option<Cause> {
    let why = pod.unschedulable.as_ref()?;
    Some(cause(reason::POD_UNSCHEDULABLE, pod, format!("no node takes pod {}: {why}", pod.name)))
}

fn image_pull_failed(store: &ValidStore, pod: &PodSeen, _: Timestamp) -> Option<Cause> {
    const REASONS: &[&str] = &["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"];
    let (name, (_, message)) = pod
        .containers
        .iter()
        .filter_map(|(name, container)| Some((name, container.waiting.as_ref()?)))
        .find(|(_, (reason, _))| REASONS.contains(&reason.as_str()))?;
    let image = if name == "engine" {
        format!("spec.engine.image {}", store.engine.image)
    } else {
        "the sidecar's image".to_owned()
    };
    let words = pull_words(message);
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    let text = format!("pod {}: {image} of container {name} {PULL_FAILED}{words}", pod.name);
    Some(cause(reason::IMAGE_PULL_FAILED, pod, text))
}

/// The cause alone: between two tries the kubelet wraps the same words in others, or leaves them out.
fn pull_words(message: &str) -> &str {
    let cause = message.rsplit_once("ErrImagePull: ").map_or(message, |(_, cause)| cause);
    let cause = cause.rsplit_once(" desc = ").map_or(cause, |(_, cause)| cause);
    if cause.starts_with("Back-off pulling image") { "" } else { cause }
}

fn engine(pod: &PodSeen) -> Option<&ContainerSeen> {
    pod.containers.get("engine")
}

fn exit(pod: &PodSeen) -> Option<&EngineExit> {
    pod.topology.present()?.last_exit.as_ref()
}

fn out_of_memory(store: &ValidStore, pod: &PodSeen, now: Timestamp) -> Option<Cause> {
    let container = engine(pod).and_then(|engine| engine.last_end.as_ref()).filter(|end| {
        let told = end.reason == "OOMKilled" || says_oom(&end.message);
        let recent = end
            .at
            .is_none_or(|at| now.as_millisecond().saturating_sub(at.as_millisecond()) < OOM_REMEMBERED_MS);
        told && recent
    });
    if container.is_none() && !exit(pod).is_some_and(|exit| exit.oom_killed) {
        return None;
    }
    let limit = store.engine.container.memory_limit_bytes >> 20;
    let percent = store.sidecar.maxmemory_percent;
    let message = format!(
        "the engine of pod {} was killed for memory at its limit of {limit} MiB (maxmemory is {percent} % of it): raise \
         spec.resources.engine.limits.memory or lower spec.memory.maxmemoryPercent",
        pod.name
    );
    Some(cause(reason::ENGINE_OOM_KILLED, pod, message))
}

/// The launcher's word for a kill by the kernel, which the kubelet cannot see under cgroup v1.
fn says_oom(message: &str) -> bool {
    let lower = message.to_lowercase();
    lower.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "oom" || word == "oomkilled")
        || lower.contains("out of memory")
}

/// What the engine said before it went, in one line; the stars and empty lines around its words are left out.
fn last_words(pod: &PodSeen) -> String {
    let written =
        engine(pod).and_then(|engine| engine.last_end.as_ref()).map(|end| in_one_line(&end.message));
    let told = exit(pod).map(|exit| in_one_line(&exit.last_lines.join("\n")));
    written.filter(|text| !text.is_empty()).or(told).unwrap_or_default()
}

fn in_one_line(text: &str) -> String {
    let lines =
        text.lines().map(|line| line.trim_matches([' ', '*', '>', '#'])).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" / ")
}

fn option_unknown(store: &ValidStore, pod: &PodSeen, _: Timestamp) -> Option<Cause> {
    const SIGNS: &[&str] =
        &["FATAL CONFIG FILE ERROR", "Bad directive or wrong number of arguments", "Unknown configuration"];
    if pod.ready {
        return None;
    }
    let words = last_words(pod);
    let first = SIGNS.iter().filter_map(|sign| words.find(*sign)).min()?;
    // What the engine wrote before it came to its configuration explains nothing.
    let words = &words[first..];
    let named = store.engine.options.keys().find(|option| {
        words.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == option.as_str())
    });
    let message = match named {
        Some(option) => {
            format!("spec.engine.config: the engine of pod {} refuses option {option}: {words}", pod.name)
        }
        None => {
            format!("spec.engine.config: the engine of pod {} refuses its configuration: {words}", pod.name)
        }
    };
    Some(cause(reason::ENGINE_CONFIG_REJECTED, pod, message))
}

/// What the kubelet cannot set up: a Secret or key that is missing, a user that the image does not allow.
fn config_error(_: &ValidStore, pod: &PodSeen, _: Timestamp) -> Option<Cause> {
    const REASONS: &[&str] = &["CreateContainerConfigError", "CreateContainerError", "RunContainerError"];
    let (name, (reason_seen, message)) = pod
        .containers
        .iter()
        .filter_map(|(name, container)| Some((name, container.waiting.as_ref()?)))
        .find(|(_, (reason, _))| REASONS.contains(&reason.as_str()))?;
    let text = format!("pod {}: container {name} cannot start ({reason_seen}): {message}", pod.name);
    Some(cause(reason::CONTAINER_CRASHING, pod, text))
}

fn crashing(_: &ValidStore, pod: &PodSeen, _: Timestamp) -> Option<Cause> {
    let (name, container) = pod.containers.iter().find(|(_, container)| {
        container.waiting.as_ref().is_some_and(|(reason, _)| reason == "CrashLoopBackOff")
    })?;
    let end = container.last_end.as_ref();
    let code = end.map_or(0, |end| end.exit_code);
    let words = end.map(|end| end.message.trim()).filter(|text| !text.is_empty());
    let words = words.map_or_else(String::new, |text| format!(": {text}"));
    let text = format!(
        "pod {}: container {name} keeps ending (code {code}, {} restarts){words}",
        pod.name, container.restarts
    );
    Some(cause(reason::CONTAINER_CRASHING, pod, text))
}

/// Running for the kubelet, silent for us.
fn unreachable(_: &ValidStore, pod: &PodSeen, _: Timestamp) -> Option<Cause> {
    let running = pod.containers.get("sidecar").is_some_and(|sidecar| sidecar.running && sidecar.ready);
    if !running || !pod.topology.is_unknown() {
        return None;
    }
    let message = format!("the sidecar of pod {} does not answer on its admin port", pod.name);
    Some(cause(reason::SIDECAR_UNREACHABLE, pod, message))
}
