//! When the identity and the slopes must not be judged: while a gate is shut the verdict is `Unknown`, never
//! `Healthy`. Classes proved otherwise (orphans, clients, balances, pages) do not pass through here.

use blobstore_sidecar_api::config::HygieneConfig;

use crate::hygiene::info::EngineFigures;
use crate::hygiene::sample::{Keyspace, Sample};

/// Samples that may be missing in a row before the series is broken.
const MISSED_MAX: u32 = 3;
/// A fall of `used_memory` by more than this share frees pages that decay for a while.
const FALL_PERCENT: u64 = 10;
/// Page decay as a share of the confirmation time: 30 s of 10 min.
const DECAY_SHARE: u64 = 20;

/// What the gates remember from sample to sample.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    run: Option<(String, bool)>,
    changed_ms: Option<u64>,
    missed: u32,
    used_before: u64,
    fall_until_ms: u64,
}

/// What a sample means for the series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// Reasons; empty: the series may be judged.
    pub shut: Vec<String>,
    /// The engine is another run or has another role: everything learned about it is void.
    pub new_engine: bool,
}

impl Gates {
    /// Reasons that hold at `now_ms`.
    pub fn pass(&mut self, config: &HygieneConfig, sample: &Sample, now_ms: u64) -> Passage {
        let Some(engine) = &sample.engine else {
            self.missed += 1;
            return Passage { shut: self.missing(), new_engine: false };
        };
        self.missed = 0;
        let new_engine = self.follow(engine, now_ms);
        self.watch_fall(config, engine, now_ms);
        let mut shut = self.of_engine(config, engine, now_ms);
        shut.extend(of_keyspace(config, sample));
        Passage { shut, new_engine }
    }

    fn missing(&self) -> Vec<String> {
        let held = self.missed <= MISSED_MAX;
        let sentence = if held {
            "the engine did not answer this time".to_owned()
        } else {
            format!("the engine has not answered for {} samples", self.missed)
        };
        vec![sentence]
    }

    fn follow(&mut self, engine: &EngineFigures, now_ms: u64) -> bool {
        let run = (engine.run_id.clone(), engine.primary);
        let changed = self.run.as_ref().is_some_and(|before| *before != run);
        if changed {
            self.changed_ms = Some(now_ms);
        }
        if self.run.as_ref() != Some(&run) {
            self.run = Some(run);
            self.used_before = 0;
        }
        changed
    }

    fn watch_fall(&mut self, config: &HygieneConfig, engine: &EngineFigures, now_ms: u64) {
        if engine.used * 100 < self.used_before * (100 - FALL_PERCENT) {
            self.fall_until_ms = now_ms + config.confirm_seconds * 1_000 / DECAY_SHARE;
        }
        self.used_before = engine.used;
    }

    fn of_engine(&self, config: &HygieneConfig, engine: &EngineFigures, now_ms: u64) -> Vec<String> {
        let settled_ms = config.warmup_seconds * 1_000 / 2;
        let since_change_ms = self.changed_ms.map(|changed_ms| now_ms.saturating_sub(changed_ms));
        let reasons = [
            (
                engine.uptime_seconds < config.warmup_seconds,
                // No reason counts seconds: it stands in a status that is written when the reason changes.
                format!("the engine has run for less than {} s", config.warmup_seconds),
            ),
            (engine.loading, "the engine is loading its data".to_owned()),
            (engine.forked, "the engine has a fork child running".to_owned()),
            (engine.syncing, "the engine is copying its primary".to_owned()),
            (
                since_change_ms.is_some_and(|since_ms| since_ms < settled_ms),
                format!("the engine restarted or changed role less than {} s ago", settled_ms / 1_000),
            ),
            (engine.lazyfree_pending > 0, format!("{} objects wait to be freed", engine.lazyfree_pending)),
            (
                now_ms < self.fall_until_ms,
                format!("used memory fell by more than {FALL_PERCENT} %: pages are still decaying"),
            ),
            (engine.underflowed(), "the engine's dataset figure is below zero".to_owned()),
        ];
        reasons.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason).collect()
    }
}

fn of_keyspace(config: &HygieneConfig, sample: &Sample) -> Option<String> {
    match &sample.keyspace {
        None => Some("the engine is not calibrated yet".to_owned()),
        Some(Keyspace::NotComparable(reason)) => Some(reason.clone()),
        Some(Keyspace::Compared { ledger, .. }) => {
            let open = ledger.uncertain
                > config.residual_bytes_min.max(ledger.stored / 1_000 * config.residual_permille);
            let uncertain = || format!("the audit left {} bytes of the ledger open", ledger.uncertain);
            ledger.not_rebuilt.clone().or_else(|| open.then(uncertain))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hygiene::book::LedgerSnapshot;

    fn clear() -> Sample {
        let engine = EngineFigures {
            run_id: "a".to_owned(),
            primary: true,
            uptime_seconds: 10_000,
            used: 1 << 30,
            ..Default::default()
        };
        let ledger = LedgerSnapshot::default();
        Sample {
            engine: Some(engine),
            keyspace: Some(Keyspace::Compared { engine_bytes: 0, ledger }),
            ..Default::default()
        }
    }

    fn check(change: impl FnOnce(&mut Sample), wanted: &str) {
        let mut sample = clear();
        change(&mut sample);
        let mut gates = Gates::default();
        assert_eq!(gates.pass(&HygieneConfig::default(), &clear(), 0).shut, Vec::<String>::new());
        let passage = gates.pass(&HygieneConfig::default(), &sample, 15_000);
        assert!(passage.shut.iter().any(|reason| reason.contains(wanted)), "{wanted}: {passage:?}");
    }

    fn engine(sample: &mut Sample) -> &mut EngineFigures {
        sample.engine.as_mut().expect("an engine")
    }

    #[test]
    fn each_gate_shuts_for_its_reason() {
        check(|sample| engine(sample).uptime_seconds = 5, "run for less than");
        check(|sample| engine(sample).loading = true, "loading");
        check(|sample| engine(sample).forked = true, "fork child");
        check(|sample| engine(sample).run_id = "b".to_owned(), "restarted or changed role");
        check(|sample| engine(sample).primary = false, "restarted or changed role");
        check(|sample| engine(sample).lazyfree_pending = 3, "3 objects");
        check(|sample| engine(sample).used = 1 << 29, "fell by more than 10 %");
        check(|sample| engine(sample).dataset = u64::MAX, "below zero");
        check(|sample| sample.engine = None, "did not answer");
        check(|sample| sample.keyspace = None, "not calibrated");
        let replica = || Keyspace::NotComparable("replica: compared on the primary".to_owned());
        check(|sample| sample.keyspace = Some(replica()), "replica");
        let rebuilt = |not_rebuilt, uncertain| {
            let ledger = LedgerSnapshot { not_rebuilt, uncertain, ..Default::default() };
            Some(Keyspace::Compared { engine_bytes: 0, ledger })
        };
        check(|sample| sample.keyspace = rebuilt(Some("no pass yet".to_owned()), 0), "no pass yet");
        check(|sample| sample.keyspace = rebuilt(None, 9 << 20), "left 9437184 bytes");
    }

    #[test]
    fn gates_open_again() {
        let config = HygieneConfig::default();
        let mut gates = Gates::default();
        gates.pass(&config, &clear(), 0);
        let mut fallen = clear();
        engine(&mut fallen).used = 1 << 20;
        assert!(!gates.pass(&config, &fallen, 15_000).shut.is_empty());
        assert!(gates.pass(&config, &fallen, 46_000).shut.is_empty());
        for missed in 1..=4 {
            let shut = gates.pass(&config, &Sample::default(), 46_000).shut;
            assert_eq!(shut[0].contains("for 4 samples"), missed == 4, "{shut:?}");
        }
        assert!(gates.pass(&config, &fallen, 60_000).shut.is_empty());
    }
}
