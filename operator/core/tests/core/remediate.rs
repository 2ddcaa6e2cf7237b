//! The ladder as timelines: what was seen at which second, what was decided, as text.

use std::collections::BTreeMap;

use blobstore_operator_api::spec::Rung;
use blobstore_operator_api::status::{BreakerState, RemediationStatus};
use blobstore_operator_core::action::Action;
use blobstore_operator_core::observed::{Observed, Seen};
use blobstore_operator_core::remediate::{Calm, decide, restarts, settle};
use blobstore_operator_core::validate::ValidStore;
use blobstore_sidecar_api::action::{ActionResult, ActionState};
use blobstore_sidecar_api::report::{Verdict, VerdictClass};

use crate::support::{at, healthy, report, revisions, valid, verdict};

const AUTO: &str = "hygiene: {mode: Auto}";

/// A store under the ladder, second by second.
struct Line {
    store: ValidStore,
    observed: Observed,
    status: RemediationStatus,
    calm: Calm,
    log: Vec<String>,
}

impl Line {
    fn new(spec: &str) -> Self {
        let store = valid(spec);
        let observed = healthy(&store, &revisions(&store));
        Self { store, observed, status: RemediationStatus::default(), calm: Calm::default(), log: Vec::new() }
    }

    /// The pod reports these verdicts from now on.
    fn reports(&mut self, pod: &str, second: i64, verdicts: Vec<Verdict>) {
        let seen = self.observed.pods.iter_mut().find(|seen| seen.name == pod).expect("the pod");
        seen.report = Seen::Present(report(pod, second, verdicts));
    }

    /// One pass; what it did goes to the log.
    fn look(&mut self, second: i64) -> Option<Action> {
        let decision = decide(&self.store, &self.observed, Some(&self.status), &self.calm, at(second));
        self.status = decision.status.expect("hygiene is on");
        for event in &decision.events {
            self.log.push(format!("t+{second} {}: {}", event.reason, event.message));
        }
        decision.action
    }

    fn answers(&mut self, second: i64, action: &Action, state: ActionState, after: Option<(&str, f64)>) {
        let Action::Ask { request, .. } = action else { panic!("a soft rung") };
        let answer = ActionResult {
            id: request.id.clone(),
            state,
            message: "as asked".to_owned(),
            before: BTreeMap::new(),
            after: after.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        for event in settle(&mut self.status, &answer, at(second)) {
            self.log.push(format!("t+{second} {}: {}", event.reason, event.message));
        }
    }

    fn check(&self, want: &[&str]) {
        assert_eq!(self.log, want);
    }
}

fn leak(mib: u64) -> Vec<Verdict> {
    vec![verdict(VerdictClass::Orphaned, mib, -60)]
}

#[test]
fn orphans_are_reclaimed_and_the_effect_is_measured() {
    let mut line = Line::new(AUTO);
    assert!(line.look(0).is_none());
    line.reports("media-0-0", 5, leak(40));
    let action = line.look(5).expect("reclaim");
    let repeated = line.look(6).expect("asked again until answered");
    assert_eq!(action, repeated, "the same remedy has the same id");
    line.answers(7, &action, ActionState::Done, None);
    assert!(line.look(8).is_none());
    line.reports("media-0-0", 20, Vec::new());
    assert!(line.look(20).is_none());
    line.check(&[
        "t+5 RemediationStarted: Orphaned on media-0-0: ReclaimOrphans, expecting that orphan_bytes falls from 40.0 MiB \
         to 8.0 MiB or less within 60 s",
        "t+20 RemediationEffective: Orphaned on media-0-0: ReclaimOrphans: orphan_bytes fell from 41943040 to 0",
    ]);
    assert_eq!(line.status.last_actions.len(), 1);
    assert_eq!(line.status.budget.expect("counted").soft_last_hour, "1/20");
}

#[test]
fn an_answer_with_the_figure_settles_at_once() {
    let mut line = Line::new(AUTO);
    line.reports("media-0-0", 5, leak(40));
    let action = line.look(5).expect("reclaim");
    line.answers(6, &action, ActionState::Done, Some(("orphan_bytes", 0.0)));
    assert!(line.status.current.is_none());
    assert_eq!(line.log.len(), 2, "{:?}", line.log);
}

/// R004-13: a purge before a restart, and the restart only once the purge has not helped.
#[test]
fn slow_waits_and_ineffective_escalates() {
    let mut line = Line::new("hygiene: {mode: Auto}");
    let pages = || vec![verdict(VerdictClass::RetainedPages, 100, -60)];
    line.reports("media-0-1", 0, pages());
    let action = line.look(0).expect("purge");
    line.answers(0, &action, ActionState::Done, None);
    line.reports("media-0-1", 10, pages());
    assert!(line.look(10).is_none(), "slow");
    line.reports("media-0-1", 31, pages());
    assert!(line.look(31).is_none(), "the restart is the roll's");
    assert_eq!(restarts(Some(&line.status)), ["uid-media-0-1".to_owned()].into());
    line.check(&[
        "t+0 RemediationStarted: RetainedPages on media-0-1: Purge, expecting that retained_bytes falls from 100.0 MiB to \
         50.0 MiB or less within 30 s",
        "t+31 RemediationIneffective: RetainedPages on media-0-1: Purge: retained_bytes is 104857600, predicted 52428800 \
         or less",
        "t+31 RemediationStarted: RetainedPages on media-0-1: RestartReplica, expecting that retained_bytes falls from \
         100.0 MiB to 25.0 MiB or less within 600 s",
    ]);
}

#[test]
fn a_primary_fails_over_and_is_restarted() {
    let mut line = Line::new("hygiene: {mode: Auto, ladder: [FailoverAndRestart]}");
    line.reports("media-0-0", 0, vec![verdict(VerdictClass::Growing, 80, -600)]);
    assert!(line.look(0).is_none());
    assert_eq!(restarts(Some(&line.status)), ["uid-media-0-0".to_owned()].into());
    // The roll has replaced the pod: another UID, in sync, and clean.
    line.observed.pods[0].uid = "new".to_owned();
    assert!(line.look(60).is_none());
    assert!(restarts(Some(&line.status)).is_empty());
    line.reports("media-0-0", 90, Vec::new());
    line.look(90);
    assert!(line.log[1].starts_with("t+90 RemediationEffective: Growing on media-0-0: FailoverAndRestart"));
    assert_eq!(line.status.budget.as_ref().map(|budget| budget.restarts_last_day.as_str()), Some("1/2"));
    line.reports("media-0-1", 120, vec![verdict(VerdictClass::Growing, 80, 60)]);
    line.look(120);
    let held = line.status.plan.as_ref().and_then(|plan| plan.held.clone());
    assert_eq!(held, None, "a replica's restart is not in this ladder");
}

#[test]
fn replica_is_restarted_before_its_primary_hands_over_to_it() {
    let mut line = Line::new("hygiene: {mode: Auto}");
    // The primary is worse off, and still the replica comes first.
    line.reports("media-0-0", 0, vec![verdict(VerdictClass::Fragmented, 200, -60)]);
    line.reports("media-0-1", 0, vec![verdict(VerdictClass::Fragmented, 100, -60)]);
    assert!(line.look(0).is_none(), "a restart is the roll's");
    let current = line.status.current.as_ref().expect("a remedy");
    assert_eq!((current.rung, current.pod.as_str()), (Rung::RestartReplica, "media-0-1"));
}

#[test]
fn observe_writes_the_plan_once_and_touches_nothing() {
    let mut line = Line::new("");
    line.reports("media-0-0", 5, leak(40));
    for second in 5..50 {
        assert!(line.look(second).is_none());
        assert!(line.status.current.is_none());
    }
    line.check(&[
        "t+5 RemediationHeld: Orphaned on media-0-0: would ReclaimOrphans, expecting that orphan_bytes falls \
                  from 40.0 MiB to 8.0 MiB or less within 60 s; held: spec.hygiene.mode is Observe",
    ]);
}

#[test]
fn off_decides_nothing() {
    let store = valid("hygiene: {mode: 'Off'}");
    let observed = healthy(&store, &revisions(&store));
    assert_eq!(decide(&store, &observed, None, &Calm::default(), at(0)), Default::default());
}

#[test]
fn suspects_and_growing_data_are_left_alone() {
    let mut line = Line::new(AUTO);
    let mut suspect = verdict(VerdictClass::Orphaned, 40, 0);
    suspect.state = blobstore_sidecar_api::report::VerdictState::Suspect;
    line.reports("media-0-0", 0, vec![suspect, verdict(VerdictClass::CapacityGrowth, 400, 0)]);
    assert!(line.look(0).is_none());
    assert_eq!((line.status.findings.len(), line.status.plan.is_none()), (2, true));
}

#[test]
fn blockers_hold_restarts_only() {
    let mut line = Line::new("hygiene: {mode: Auto}");
    line.calm.blockers.push("a roll is under way".to_owned());
    line.reports(
        "media-0-1",
        0,
        vec![verdict(VerdictClass::Growing, 80, 0), verdict(VerdictClass::Orphaned, 80, 0)],
    );
    assert!(line.look(0).is_some(), "orphans first: they are soft");
    let mut line = Line::new("hygiene: {mode: Auto, ladder: [RestartReplica]}");
    line.calm.blockers.push("a roll is under way".to_owned());
    line.reports("media-0-1", 0, vec![verdict(VerdictClass::Growing, 80, 0)]);
    line.look(0);
    assert_eq!(line.status.plan.and_then(|plan| plan.held).as_deref(), Some("a roll is under way"));
}

/// Orphans come back after every run; the budget of a pod ends it, then the breaker.
#[test]
fn a_remedy_that_does_not_last_opens_the_breaker() {
    let mut line = Line::new("hygiene: {mode: Auto, cooldowns: {soft: 1s}}");
    let mut runs = 0;
    for second in (0..600).step_by(10) {
        line.reports("media-0-0", second, leak(40));
        if let Some(action) = line.look(second) {
            runs += 1;
            line.answers(second + 1, &action, ActionState::Done, Some(("orphan_bytes", 0.0)));
        }
    }
    assert_eq!(runs, 3);
    assert_eq!(line.status.breaker, BreakerState::Open);
    assert_eq!(line.status.breaker_reason.as_deref(), Some("Orphaned on media-0-0 came back 3 times"));
}

#[test]
fn two_rungs_without_effect_open_the_breaker_until_its_time() {
    let mut line = Line::new("hygiene: {mode: Auto, ladder: [Trim, Purge], breaker: {open: 10m}}");
    let found =
        || vec![verdict(VerdictClass::CacheOverrun, 80, 0), verdict(VerdictClass::RetainedPages, 90, 0)];
    let mut asked = Vec::new();
    for second in (0..400).step_by(10) {
        line.reports("media-0-1", second, found());
        if let Some(action) = line.look(second) {
            line.answers(second, &action, ActionState::Done, None);
            let Action::Ask { name, .. } = action else { panic!("a soft rung") };
            asked.push(name);
        }
    }
    assert_eq!(asked, ["trim", "purge"]);
    assert_eq!(line.status.breaker, BreakerState::Open);
    assert_eq!(line.status.breaker_reason.as_deref(), Some("Trim and Purge had no effect"));
    line.reports("media-0-1", 900, found());
    line.look(900);
    assert_eq!(line.status.breaker, BreakerState::Closed);
}

/// A total of 200 MiB of which 40 are too much: half of the 40 must go, not half of the 200.
#[test]
fn the_fall_is_counted_from_where_the_figure_stands() {
    let mut line = Line::new("hygiene: {mode: Auto}");
    line.reports("media-0-1", 0, vec![verdict(VerdictClass::CacheOverrun, 40, 0)]);
    let Seen::Present(report) = &mut line.observed.pods[1].report else { panic!("the pod reports") };
    report.figures.insert("cache_bytes".to_owned(), f64::from(200 << 20));
    let action = line.look(0).expect("trim");
    assert_eq!(line.status.current.as_ref().map(|remedy| remedy.target), Some(f64::from(180 << 20)));
    line.answers(1, &action, ActionState::Done, Some(("cache_bytes", f64::from(160 << 20))));
    assert!(line.log[1].contains("RemediationEffective"), "{:?}", line.log);
}

#[test]
fn a_finding_without_bytes_must_end() {
    let mut line = Line::new("hygiene: {mode: Auto}");
    line.reports("media-0-1", 0, vec![verdict(VerdictClass::TaskLeak, 0, 0)]);
    let action = line.look(0).expect("trim");
    line.answers(1, &action, ActionState::Done, None);
    line.reports("media-0-1", 20, vec![verdict(VerdictClass::TaskLeak, 0, 0)]);
    line.look(20);
    assert!(line.status.current.is_some(), "still there");
    line.reports("media-0-1", 40, Vec::new());
    line.look(40);
    assert!(line.log[1].contains("RemediationEffective"), "{:?}", line.log);
}

#[test]
fn an_acknowledgement_closes_the_breaker_at_once() {
    let mut line = Line::new(AUTO);
    line.status.breaker = BreakerState::Frozen;
    line.status.breaker_reason = Some("a release".to_owned());
    line.reports("media-0-0", 0, leak(40));
    assert!(line.look(0).is_none());
    line.store.acknowledged = Some("alice".to_owned());
    assert!(line.look(1).is_some());
    assert_eq!(line.status.breaker, BreakerState::Closed);
}

#[test]
fn many_pods_at_once_are_a_release_not_a_leak() {
    let mut line = Line::new("shards: 3\nhygiene: {mode: Auto}");
    for pod in ["media-0-0", "media-1-0"] {
        line.reports(pod, 0, vec![verdict(VerdictClass::TaskLeak, 5, -60)]);
    }
    assert!(line.look(0).is_none());
    assert_eq!(line.status.breaker, BreakerState::Frozen);
    assert!(line.log[0].contains("2 of 6 pods became TaskLeak"), "{:?}", line.log);
    // One shard's members share their data: their findings are one finding.
    let mut line = Line::new("shards: 3\nhygiene: {mode: Auto}");
    for pod in ["media-0-0", "media-0-1"] {
        line.reports(pod, 0, leak(40));
    }
    assert!(line.look(0).is_some());
}

#[test]
fn budgets_and_cooldowns_hold_and_say_so() {
    let mut line = Line::new("hygiene: {mode: Auto}");
    line.reports("media-0-0", 0, leak(40));
    let action = line.look(0).expect("reclaim");
    line.answers(1, &action, ActionState::Done, Some(("orphan_bytes", 0.0)));
    line.reports("media-0-0", 30, leak(30));
    assert!(line.look(30).is_none());
    assert_eq!(
        line.status.plan.as_ref().and_then(|plan| plan.held.clone()).as_deref(),
        Some("cooldown after a soft remedy on media-0-0")
    );
    assert_eq!(line.status.cooldown_until.as_deref(), Some(at(601).to_string().as_str()));
    line.reports("media-0-0", 700, leak(30));
    assert!(line.look(700).is_some());
}

#[test]
fn a_refusal_rests_and_a_silent_sidecar_is_given_up() {
    let mut line = Line::new(AUTO);
    line.reports("media-0-0", 0, leak(40));
    let action = line.look(0).expect("reclaim");
    line.answers(1, &action, ActionState::Refused, None);
    assert!(line.look(2).is_none(), "not again at once");
    assert!(line.look(700).is_some(), "but later");
    for second in [730, 760, 790] {
        assert!(line.look(second).is_some());
    }
    assert!(line.look(821).is_none(), "and rests");
    assert!(line.log.last().is_some_and(|last| last.contains("did not answer in time")), "{:?}", line.log);
}

/// Whether it helps is not known, so nothing harsher takes its place, until it has come to nothing three times.
#[test]
fn a_remedy_that_was_refused_or_failed_is_tried_again_before_anything_harsher() {
    let mut line = Line::new(AUTO);
    let pages = || vec![verdict(VerdictClass::RetainedPages, 100, -60)];
    for (second, state) in
        [(0, ActionState::Refused), (700, ActionState::Failed), (1_400, ActionState::Failed)]
    {
        line.reports("media-0-1", second, pages());
        let action = line.look(second).expect("a purge");
        line.answers(second + 1, &action, state, None);
        assert!(line.status.current.is_none());
        if second < 1_400 {
            assert!(line.look(second + 2).is_none());
            assert!(line.status.current.is_none(), "no restart: {:?}", line.log);
        }
    }
    line.reports("media-0-1", 1_500, pages());
    assert!(line.look(1_500).is_none(), "the restart is the roll's");
    assert_eq!(restarts(Some(&line.status)), ["uid-media-0-1".to_owned()].into());
    let told: Vec<&str> = line.log.iter().filter_map(|line| line.split([' ', ':']).nth(1)).collect();
    assert_eq!(
        told,
        [
            "RemediationStarted",
            "RemediationRefused",
            "RemediationStarted",
            "RemediationAbandoned",
            "RemediationStarted",
            "RemediationAbandoned",
            "RemediationStarted"
        ]
    );
}

#[test]
fn an_operator_that_restarts_goes_on_where_it_was() {
    let mut line = Line::new(AUTO);
    line.reports("media-0-0", 0, leak(40));
    let first = line.look(0);
    let text = serde_json::to_string(&line.status).expect("it serialises");
    line.status = serde_json::from_str(&text).expect("and comes back");
    assert_eq!(line.look(3), first);
}

#[test]
fn no_replica_means_no_restart_unless_downtime_is_allowed() {
    for (downtime, started) in [("false", false), ("true", true)] {
        let spec = format!(
            "replicas: 0\nhygiene: {{mode: Auto, ladder: [FailoverAndRestart], allowDowntime: {downtime}}}"
        );
        let mut line = Line::new(&spec);
        line.reports("media-0-0", 0, vec![verdict(VerdictClass::Growing, 80, 0)]);
        line.look(0);
        assert_eq!(line.status.current.is_some(), started);
    }
}
