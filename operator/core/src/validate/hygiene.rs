//! The ladder and its limits, parsed. Times are milliseconds.

use blobstore_operator_api::spec::{
    BreakerSpec, BudgetsSpec, CooldownsSpec, DeadlinesSpec, HygieneMode, HygieneSpec, Rung,
};
use blobstore_operator_api::units::Period;

use super::Problems;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hygiene {
    pub mode: HygieneMode,
    pub ladder: Vec<Rung>,
    pub budgets: BudgetsSpec,
    pub cooldowns: Cooldowns,
    pub deadlines: Deadlines,
    pub breaker: Breaker,
    pub allow_downtime: bool,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooldowns {
    pub soft: u64,
    pub failover: u64,
    pub restart: u64,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    pub trim: u64,
    pub reclaim_orphans: u64,
    pub kill_clients: u64,
    pub purge: u64,
    pub restart: u64,
}

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    pub ineffective_max: u32,
    pub window: u64,
    pub open: u64,
    pub mass_percent: u32,
    pub mass_window: u64,
    pub healthy_percent_min: u32,
}

pub(super) fn hygiene(spec: &HygieneSpec, problems: &mut Problems) -> Hygiene {
    let mut time =
        |name: &str, period: &Period| problems.take(&format!("spec.hygiene.{name}"), period.parse_millis());
    let CooldownsSpec { soft, failover, restart } = &spec.cooldowns;
    let cooldowns = Cooldowns {
        soft: time("cooldowns.soft", soft),
        failover: time("cooldowns.failover", failover),
        restart: time("cooldowns.restart", restart),
    };
    let DeadlinesSpec { trim, reclaim_orphans, kill_clients, purge, restart } = &spec.deadlines;
    let deadlines = Deadlines {
        trim: time("deadlines.trim", trim),
        reclaim_orphans: time("deadlines.reclaimOrphans", reclaim_orphans),
        kill_clients: time("deadlines.killClients", kill_clients),
        purge: time("deadlines.purge", purge),
        restart: time("deadlines.restart", restart),
    };
    let BreakerSpec { ineffective_max, window, open, mass_percent, mass_window, healthy_percent_min } =
        &spec.breaker;
    let breaker = Breaker {
        ineffective_max: *ineffective_max,
        window: time("breaker.window", window),
        open: time("breaker.open", open),
        mass_percent: *mass_percent,
        mass_window: time("breaker.massWindow", mass_window),
        healthy_percent_min: *healthy_percent_min,
    };
    Hygiene {
        mode: spec.mode,
        ladder: spec.ladder.clone(),
        budgets: spec.budgets.clone(),
        cooldowns,
        deadlines,
        breaker,
        allow_downtime: spec.allow_downtime,
    }
}
