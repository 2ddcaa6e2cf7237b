//! Which rungs fit which class, and what each rung predicts. The tables are the specification.

use blobstore_operator_api::spec::Rung;
use blobstore_sidecar_api::action::name;
use blobstore_sidecar_api::report::VerdictClass;

use crate::validate::Deadlines;

/// Remedies of a class, gentlest first. `RestartReplica` stands for both restarts: the pod's role decides.
/// `Orphaned` has no restart: a restarted pod copies the orphans from its primary.
pub(super) fn fitting(class: VerdictClass) -> &'static [Rung] {
    match class {
        VerdictClass::ClientBuffers => &[Rung::KillClients, Rung::RestartReplica],
        VerdictClass::Orphaned => &[Rung::ReclaimOrphans],
        VerdictClass::PoolImbalance | VerdictClass::TaskLeak | VerdictClass::CacheOverrun => {
            &[Rung::Trim, Rung::RestartReplica]
        }
        VerdictClass::RetainedPages => &[Rung::Purge, Rung::RestartReplica],
        // Neither a trim nor a purge reaches what is lost inside the engine's own pages and objects.
        VerdictClass::Fragmented | VerdictClass::Growing => &[Rung::RestartReplica],
        // More data needs more room, not a remedy; what is unknown or healthy needs none.
        VerdictClass::CapacityGrowth | VerdictClass::Unknown | VerdictClass::Healthy => &[],
    }
}

/// The rung of the ladder that this pod needs for a restart.
pub(super) fn restart_of(primary: bool) -> Rung {
    if primary { Rung::FailoverAndRestart } else { Rung::RestartReplica }
}

/// The sidecar's action for a soft rung.
pub(super) fn action(rung: Rung) -> Option<&'static str> {
    match rung {
        Rung::Trim => Some(name::TRIM),
        Rung::ReclaimOrphans => Some(name::RECLAIM_ORPHANS),
        Rung::KillClients => Some(name::KILL_CLIENTS),
        Rung::Purge => Some(name::PURGE),
        Rung::Observe | Rung::RestartReplica | Rung::FailoverAndRestart => None,
    }
}

/// What must be left of the figure, in percent, for the rung to count as effective (leaks survey, 5.7).
pub(super) fn left_percent(rung: Rung) -> f64 {
    match rung {
        Rung::ReclaimOrphans | Rung::KillClients => 20.0,
        Rung::Trim | Rung::Purge => 50.0,
        Rung::RestartReplica | Rung::FailoverAndRestart => 25.0,
        Rung::Observe => 100.0,
    }
}

pub(super) fn deadline_ms(rung: Rung, deadlines: &Deadlines) -> u64 {
    match rung {
        Rung::Observe => 0,
        Rung::Trim => deadlines.trim,
        Rung::ReclaimOrphans => deadlines.reclaim_orphans,
        Rung::KillClients => deadlines.kill_clients,
        Rung::Purge => deadlines.purge,
        Rung::RestartReplica | Rung::FailoverAndRestart => deadlines.restart,
    }
}

/// The figure of the leak report, and of an action's result, that the class is about. `tasks_excess` is in neither:
/// there only the end of the finding counts.
pub(super) fn figure(class: VerdictClass) -> &'static str {
    match class {
        VerdictClass::ClientBuffers => "client_bytes",
        VerdictClass::Orphaned => "orphan_bytes",
        VerdictClass::PoolImbalance => "pool_outstanding_bytes",
        VerdictClass::TaskLeak => "tasks_excess",
        VerdictClass::CacheOverrun => "cache_bytes",
        VerdictClass::RetainedPages => "retained_bytes",
        VerdictClass::Fragmented => "slab_waste_bytes",
        VerdictClass::Growing => "residual",
        VerdictClass::CapacityGrowth | VerdictClass::Unknown | VerdictClass::Healthy => "used_memory",
    }
}

/// The class as the status spells it.
pub(super) fn class_name(class: VerdictClass) -> String {
    format!("{class:?}")
}
