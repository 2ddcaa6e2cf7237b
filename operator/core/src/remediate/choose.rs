//! The next remedy: first finding, first rung that fits, is allowed, and has not just failed.

use blobstore_operator_api::spec::{HygieneMode, Rung};
use blobstore_operator_api::status::{HistoryEntry, PlannedRemedy, RemediationStatus, Remedy, RemedyResult};
use blobstore_sidecar_api::report::Verdict;
use jiff::Timestamp;

use super::rungs::{action, class_name, deadline_ms, figure, fitting, left_percent, restart_of};
use super::{Calm, Decision, disruptive, findings, later, limits, text};
use crate::action::Event;
use crate::ask;
use crate::observed::{Observed, PodSeen};
use crate::validate::ValidStore;

/// A rung that was refused, not answered or ended in an error so often will not come to anything.
const NOTHING_MAX: usize = 3;
/// A list that is small in itself is freed whole: the same figure as the sidecar's own limit.
const ORPHAN_RUN_BYTES_MIN: u64 = 256 << 20;

pub(super) fn choose(
    store: &ValidStore,
    observed: &Observed,
    calm: &Calm,
    status: &mut RemediationStatus,
    decision: &mut Decision,
    now: Timestamp,
) {
    let before = status.plan.take();
    let confirmed =
        findings::ordered(observed).into_iter().filter(|(_, verdict)| findings::confirmed(verdict));
    let mut candidates: Vec<(&PodSeen, &Verdict, Rung)> = confirmed
        .filter_map(|(pod, verdict)| Some((pod, verdict, rung(store, observed, status, pod, verdict, now)?)))
        .collect();
    // A primary hands over to a replica that is well: else both are restarted as primaries, with two failovers.
    candidates.sort_by_key(|(.., rung)| *rung == Rung::FailoverAndRestart);
    let mut first_held = None;
    for (pod, verdict, rung) in candidates {
        let remedy = remedy(store, pod, verdict, rung, now);
        let held = held(store, observed, calm, status, &remedy, now);
        let planned = PlannedRemedy {
            rung,
            pod: pod.name.clone(),
            class: remedy.class.clone(),
            prediction: remedy.prediction.clone(),
            held,
        };
        if planned.held.is_none() {
            start(store, pod, remedy, status, decision);
            return;
        }
        first_held.get_or_insert(planned);
    }
    if let Some(planned) = first_held {
        announce(&planned, before.as_ref(), decision);
        // A plan that differs only in its last digits keeps its words.
        let same = before.filter(|old| {
            (old.rung, &old.pod, &old.class, &old.held)
                == (planned.rung, &planned.pod, &planned.class, &planned.held)
        });
        status.plan = Some(same.unwrap_or(planned));
    }
}

/// One event per plan, not per pass.
fn announce(planned: &PlannedRemedy, before: Option<&PlannedRemedy>, decision: &mut Decision) {
    let known = before.is_some_and(|old| {
        (old.rung, &old.pod, &old.class, &old.held)
            == (planned.rung, &planned.pod, &planned.class, &planned.held)
    });
    if known {
        return;
    }
    let held = planned.held.as_deref().unwrap_or_default();
    decision.events.push(Event {
        warning: false,
        reason: "RemediationHeld".into(),
        message: format!(
            "{} on {}: would {:?}, expecting that {}; held: {held}",
            planned.class, planned.pod, planned.rung, planned.prediction
        ),
    });
}

/// The gentlest rung of the class that the ladder allows and that has not failed on this finding; none while that rung
/// rests.
fn rung(
    store: &ValidStore,
    observed: &Observed,
    status: &RemediationStatus,
    pod: &PodSeen,
    verdict: &Verdict,
    now: Timestamp,
) -> Option<Rung> {
    let primary = observed.recorded_primary(pod.shard).is_some_and(|member| member.pod == pod.name);
    let class = class_name(verdict.class);
    let mut fits: Vec<Rung> = fitting(verdict.class)
        .iter()
        .map(|rung| if disruptive(*rung) { restart_of(primary) } else { *rung })
        .filter(|rung| store.hygiene.ladder.contains(rung))
        .collect();
    let place = |rung: &Rung| store.hygiene.ladder.iter().position(|allowed| allowed == rung);
    fits.sort_by_key(place);
    let tried = |rung| Tried::of(store, status, (&pod.name, &class, rung), now);
    fits.into_iter().find(|rung| tried(*rung) != Tried::Failed).filter(|rung| tried(*rung) == Tried::No)
}

/// What the history says of a rung on a finding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    No,
    /// It was refused or came to nothing within the soft cooldown: whether it helps is not known, so nothing harsher
    /// takes its place.
    Rests,
    /// Within the restart cooldown it did not help, or came to nothing again and again: the next rung's turn.
    Failed,
}

impl Tried {
    fn of(
        store: &ValidStore,
        status: &RemediationStatus,
        (pod, class, rung): (&str, &str, Rung),
        now: Timestamp,
    ) -> Self {
        let within = |ms: u64, results: &[RemedyResult]| {
            let same = |entry: &&HistoryEntry| entry.pod == pod && entry.class == class && entry.rung == rung;
            let all = limits::within(status, now, limits::window(ms)).filter(same);
            all.filter(|entry| results.contains(&entry.result)).count()
        };
        let cooldowns = &store.hygiene.cooldowns;
        let nothing = [RemedyResult::Refused, RemedyResult::Abandoned];
        if within(cooldowns.restart, &[RemedyResult::Ineffective]) > 0
            || within(cooldowns.restart, &nothing) >= NOTHING_MAX
        {
            return Self::Failed;
        }
        if within(cooldowns.soft, &nothing) > 0 { Self::Rests } else { Self::No }
    }
}

fn held(
    store: &ValidStore,
    observed: &Observed,
    calm: &Calm,
    status: &RemediationStatus,
    remedy: &Remedy,
    now: Timestamp,
) -> Option<String> {
    if store.hygiene.mode == HygieneMode::Observe {
        return Some("spec.hygiene.mode is Observe".to_owned());
    }
    if let Some(reason) = limits::hold(store, status, remedy.rung, &remedy.pod, now) {
        return Some(reason);
    }
    if !disruptive(remedy.rung) {
        return None;
    }
    if store.replicas == 0 && !store.hygiene.allow_downtime {
        return Some("no replica, and spec.hygiene.allowDowntime is false".to_owned());
    }
    if let Some(blocker) = calm.blockers.first() {
        return Some(blocker.clone());
    }
    let healthy = observed.pods.iter().filter(|pod| pod.ready).count() * 100;
    let least = store.hygiene.breaker.healthy_percent_min as usize;
    (healthy < observed.pods.len() * least).then(|| format!("fewer than {least} % of the pods are healthy"))
}

fn remedy(store: &ValidStore, pod: &PodSeen, verdict: &Verdict, rung: Rung, now: Timestamp) -> Remedy {
    let class = class_name(verdict.class);
    let figure = figure(verdict.class);
    let deadline_ms = deadline_ms(rung, &store.hygiene.deadlines);
    let bytes = verdict.bytes;
    let reported = pod.report.present().and_then(|report| report.figures.get(figure)).copied();
    let before = reported.unwrap_or(to_f64(bytes));
    // The figure may be a total of which only a part is at stake: the fall counts, from where it stands.
    let fall = to_f64(reach(store, pod, bytes, rung)) * (1.0 - left_percent(rung) / 100.0);
    let target = (before - fall).max(0.0);
    let seconds = deadline_ms.div_ceil(1_000);
    let prediction = if bytes == 0 {
        format!("the finding ends within {seconds} s")
    } else {
        format!(
            "{figure} falls from {:.1} MiB to {:.1} MiB or less within {seconds} s",
            mib(before),
            mib(target)
        )
    };
    Remedy {
        id: format!("{rung:?}-{}-{class}-{}", pod.name, now.as_millisecond()).to_lowercase(),
        rung,
        pod: pod.name.clone(),
        pod_uid: Some(pod.uid.clone()),
        class,
        started_at: text(now),
        deadline: text(later(now, deadline_ms)),
        prediction,
        figure: figure.to_owned(),
        before,
        target,
        after: None,
        result: RemedyResult::Planned,
        message: None,
    }
}

/// How many of the bytes one run may touch: orphan runs are limited to a share of the dataset.
fn reach(store: &ValidStore, pod: &PodSeen, bytes: u64, rung: Rung) -> u64 {
    if rung != Rung::ReclaimOrphans {
        return bytes;
    }
    let used = pod.engine().map_or(0, |engine| engine.used_memory);
    let share = used / 100 * u64::from(store.hygiene.budgets.orphan_percent_per_run);
    bytes.min(share.max(ORPHAN_RUN_BYTES_MIN))
}

/// Intent first: the status carries the remedy before anything happens. A soft rung is asked in the same pass,
/// after the status is written; a restart is the roll's, from the next pass on.
fn start(
    store: &ValidStore,
    pod: &PodSeen,
    remedy: Remedy,
    status: &mut RemediationStatus,
    decision: &mut Decision,
) {
    decision.events.push(Event {
        warning: false,
        reason: "RemediationStarted".into(),
        message: format!(
            "{} on {}: {:?}, expecting that {}",
            remedy.class, remedy.pod, remedy.rung, remedy.prediction
        ),
    });
    decision.action = request(store, pod, &remedy);
    status.current = Some(remedy);
}

/// The sidecar's request of a soft rung, the same for the same remedy.
pub(super) fn request(store: &ValidStore, pod: &PodSeen, remedy: &Remedy) -> Option<crate::action::Action> {
    let name = action(remedy.rung)?;
    let why = format!("{}: {}", remedy.class, remedy.prediction);
    let mut params = vec![("class", remedy.class.clone())];
    if remedy.rung == Rung::ReclaimOrphans {
        let bytes = pod.engine().map_or(0, |engine| engine.used_memory) / 100
            * u64::from(store.hygiene.budgets.orphan_percent_per_run);
        params.push(("max_bytes", bytes.max(ORPHAN_RUN_BYTES_MIN).to_string()));
    }
    ask::named(pod, name, remedy.id.clone(), None, &params, &why)
}

/// Bytes as the status writes them; exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "sizes below 8 PiB are exact")]
pub(super) fn to_f64(bytes: u64) -> f64 {
    bytes as f64
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
