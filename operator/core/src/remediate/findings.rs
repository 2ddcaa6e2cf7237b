//! Verdicts of all pods as one list, in the order in which to act.

use std::collections::BTreeMap;

use blobstore_operator_api::status::{FINDINGS_MAX, Finding};
use blobstore_sidecar_api::report::{Verdict, VerdictClass, VerdictState};

use super::rungs::class_name;
use crate::observed::{Observed, PodSeen};

/// Sentences per finding: enough for a proof, not for a novel.
const EVIDENCE_MAX: usize = 4;

/// A finding's pod and verdict, in the order in which to act: class, then bytes, then name.
pub(super) fn ordered(observed: &Observed) -> Vec<(&PodSeen, &Verdict)> {
    let mut all: Vec<(&PodSeen, &Verdict)> = observed
        .pods
        .iter()
        .filter_map(|pod| Some((pod, pod.report.present()?)))
        .flat_map(|(pod, report)| report.verdicts.iter().map(move |verdict| (pod, verdict)))
        .filter(|(_, verdict)| !matches!(verdict.class, VerdictClass::Healthy | VerdictClass::Unknown))
        .collect();
    all.sort_by(|(pod_a, a), (pod_b, b)| {
        (a.class, std::cmp::Reverse(a.bytes), &pod_a.name).cmp(&(
            b.class,
            std::cmp::Reverse(b.bytes),
            &pod_b.name,
        ))
    });
    all
}

/// For the status. A finding that has not moved keeps its words: their last digits would write the status every
/// time anybody looks.
pub(super) fn findings(observed: &Observed, old: &[Finding]) -> Vec<Finding> {
    ordered(observed)
        .into_iter()
        .take(FINDINGS_MAX)
        .map(|(pod, verdict)| {
            let new = Finding {
                pod: pod.name.clone(),
                class: class_name(verdict.class),
                state: format!("{:?}", verdict.state),
                since: verdict.since.clone(),
                mib: verdict.bytes >> 20,
                evidence: verdict.evidence.iter().take(EVIDENCE_MAX).cloned().collect(),
            };
            let same = old.iter().find(|old| {
                old.pod == new.pod && old.class == new.class && old.state == new.state && old.mib == new.mib
            });
            same.cloned().unwrap_or(new)
        })
        .collect()
}

/// `none`, or confirmed classes with counts.
pub(super) fn summary(findings: &[Finding]) -> String {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| finding.state == "Confirmed") {
        *counts.entry(finding.class.as_str()).or_default() += 1;
    }
    if counts.is_empty() {
        return "none".to_owned();
    }
    let parts: Vec<String> = counts
        .into_iter()
        .map(|(class, count)| if count == 1 { class.to_owned() } else { format!("{class}×{count}") })
        .collect();
    parts.join(",")
}

pub(super) fn confirmed(verdict: &Verdict) -> bool {
    verdict.state == VerdictState::Confirmed
}
