//! The machine: what one member knows, and one entry point. Events change what is known; then, if nothing is under
//! way, `decide` or the reign's next step says what to do.

use std::collections::BTreeSet;

use blobstore_sidecar_api::{
    record::{Member, ShardRecord},
    topology::ShardState,
};

use crate::shard::{
    acks::Acks,
    decide::Watch,
    reign::{Reign, Step},
    types::{Broken, Effect, EngineFacts, Event, Millis, Outcome, Rules, Seen, Snapshot, Why},
};

/// A swap that is under way, or whose outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Swap {
    pub(crate) id: u64,
    pub(crate) expected: u64,
    pub(crate) record: ShardRecord,
    /// Set when the swap claims the shard for this member.
    pub(crate) claim: Option<Claim>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    pub(crate) why: Why,
    /// Nobody else can answer reads any more: the read window need not pass.
    pub(crate) no_window: bool,
}

/// One member of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    pub(crate) rules: Rules,
    pub(crate) engine: Option<EngineFacts>,
    pub(crate) seen: Option<Seen>,
    /// The register went back to an older epoch: somebody re-created it. Nobody decides on such a record; the owner,
    /// if there is one, puts its own back.
    pub(crate) regressed: Option<u64>,
    pub(crate) swap: Option<Swap>,
    /// Members of swaps of unknown outcome, and the version they expected: they may be in the record at any moment.
    pub(crate) ghosts: BTreeSet<String>,
    /// A read that must be answered before anything is decided.
    pub(crate) reading: Option<u64>,
    pub(crate) reign: Option<Reign>,
    /// Highest epoch at which we served and never will again.
    pub(crate) relinquished: Option<u64>,
    pub(crate) leaving: bool,
    pub(crate) acks: Acks,
    pub(crate) watch: Watch,
    pub(crate) next_id: u64,
    pub(crate) snapshot: Snapshot,
}

impl Machine {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            engine: None,
            seen: None,
            regressed: None,
            swap: None,
            ghosts: BTreeSet::new(),
            reading: None,
            reign: None,
            relinquished: None,
            leaving: false,
            acks: Acks::default(),
            watch: Watch::default(),
            next_id: 0,
            snapshot: Snapshot::default(),
        }
    }

    /// The whole protocol. Effects are to be started in order; answers come back as events.
    pub fn step(&mut self, event: Event, now: Millis) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Record { seen, read } => self.on_record(seen, read, now),
            Event::Swap { id, outcome } => self.on_swap(id, outcome, now, &mut out),
            Event::Engine(engine) => self.on_engine(engine, now, &mut out),
            Event::Round(round) => self.on_round(round, now, &mut out),
            Event::Done { id, ok } => self.on_done(id, ok, now),
            Event::Probe(probe) => self.on_probe(probe, now),
            Event::Join(member) => self.on_join(member, now),
            Event::Promote { relinquished } => self.watch.asked = Some((relinquished, now)),
            Event::HandOver { leaving, to } => self.on_hand_over(leaving, to, now),
            Event::Woke => self.on_woke(now, &mut out),
            Event::Tick => {}
        }
        self.check_deposed(&mut out);
        if self.swap.is_none() && self.reading.is_none() {
            self.advance(now, &mut out);
        }
        self.publish();
        out
    }

    /// What the data path may do now.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub fn record(&self) -> Option<&ShardRecord> {
        self.seen.as_ref().map(|seen| &seen.record)
    }

    pub fn engine(&self) -> Option<&EngineFacts> {
        self.engine.as_ref()
    }

    /// Highest epoch at which this member served and never will again.
    pub fn relinquished(&self) -> Option<u64> {
        self.relinquished
    }

    /// The same for the other members: they hear of it once the wished successor has had its turn.
    pub fn announced(&self, now: Millis) -> Option<u64> {
        self.relinquished.filter(|_| self.wished(now).is_none())
    }

    pub fn leaving(&self) -> bool {
        self.leaving
    }

    /// Somebody waits for the next step: look more often than usual.
    pub fn hurried(&self) -> bool {
        let settled = matches!(self.reign, None | Some(Reign { step: Step::Serving, .. }));
        !settled
            || self.acks.joining.is_some()
            || (self.leaving && self.reign.is_none() && !self.handed_over())
    }

    /// The engine is ours, and acknowledgements matter.
    pub fn wants_rounds(&self) -> bool {
        let step = self.reign.as_ref().map(|reign| reign.step);
        matches!(step, Some(Step::Settle { .. } | Step::Serving | Step::HandingOver { .. }))
    }

    /// Members of the set in other pods: who could take over from us.
    pub fn successors(&self) -> usize {
        self.candidates().len()
    }

    /// Another member serves: what was ours is in its hands.
    pub fn handed_over(&self) -> bool {
        !self.named() && self.watch.serving
    }

    pub(crate) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn me(&self) -> Option<&Member> {
        self.engine.as_ref().map(|engine| &engine.member)
    }

    /// The record names the run of our engine as primary.
    pub fn named(&self) -> bool {
        let run = |member: &Member| member.run_id.clone();
        let primary = self.record().and_then(|record| record.primary.as_ref()).map(run);
        primary.is_some() && primary == self.me().map(run)
    }

    /// The record holds the run of our engine as in sync.
    pub fn in_sync(&self) -> bool {
        let (Some(record), Some(me)) = (self.record(), self.me()) else { return false };
        record.in_sync.iter().any(|member| member.run_id == me.run_id)
    }

    /// Starts a swap against what we have seen.
    pub(crate) fn swap_to(
        &mut self,
        record: ShardRecord,
        claim: Option<Claim>,
        now: Millis,
        out: &mut Vec<Effect>,
    ) {
        let version = self.seen.as_ref().map(|seen| seen.version);
        let Some(expected) = self.regressed.or(version) else { return };
        let id = self.id();
        self.watch.swap_not_before = now + SWAP_SPACING;
        self.swap = Some(Swap { id, expected, record: record.clone(), claim });
        out.push(Effect::Swap { id, expected, record });
    }

    fn on_record(&mut self, seen: Seen, read: Option<u64>, now: Millis) {
        if read.is_some() && read == self.reading {
            self.reading = None;
        }
        let known = self.seen.as_ref().map(|known| (known.version, known.record.epoch));
        let newest = known.map(|(version, _)| version).max(self.regressed);
        if newest.is_some_and(|newest| seen.version <= newest) {
            return;
        }
        self.ghosts.clear();
        if known.is_some_and(|(_, epoch)| seen.record.epoch < epoch) {
            self.regressed = Some(seen.version);
            return;
        }
        self.regressed = None;
        self.adopt(seen, now);
    }

    fn adopt(&mut self, seen: Seen, now: Millis) {
        let primary = |seen: &Seen| (seen.record.epoch, seen.record.primary.clone());
        if self.seen.as_ref().map(primary) != Some(primary(&seen)) {
            self.watch.primary_changed(now);
        }
        self.seen = Some(seen);
    }

    fn on_swap(&mut self, id: u64, outcome: Outcome, now: Millis, out: &mut Vec<Effect>) {
        let Some(swap) = self.swap.take_if(|swap| swap.id == id) else { return };
        let mut outcome = outcome;
        if self.rules.broken(Broken::TenureOnUnknownSwap) && outcome == Outcome::Unknown {
            outcome = Outcome::Swapped(swap.expected + 1);
        }
        match outcome {
            Outcome::Swapped(version) => {
                let newest = self.seen.as_ref().map_or(0, |seen| seen.version);
                if version > newest {
                    self.ghosts.clear();
                    self.regressed = None;
                    self.adopt(Seen { version, record: swap.record.clone() }, now);
                }
                if let Some(claim) = swap.claim {
                    self.begin_reign(swap.record.epoch, claim);
                }
            }
            Outcome::Conflict => self.read(out),
            Outcome::Unknown => {
                // Only the current version can still be replaced by it.
                if self.seen.as_ref().is_some_and(|seen| seen.version == swap.expected) {
                    self.ghosts.extend(swap.record.in_sync.into_iter().map(|member| member.run_id));
                }
                self.read(out);
            }
        }
    }

    pub(crate) fn read(&mut self, out: &mut Vec<Effect>) {
        let id = self.id();
        self.reading = Some(id);
        out.push(Effect::Read { id });
    }

    fn on_engine(&mut self, engine: Option<EngineFacts>, now: Millis, out: &mut Vec<Effect>) {
        let run = |engine: &Option<EngineFacts>| engine.as_ref().map(|facts| facts.member.run_id.clone());
        if run(&engine) != run(&self.engine) {
            self.end_reign(out);
            self.watch.engine_changed(now);
        }
        let lost = |facts: &EngineFacts| facts.follows.is_some() || facts.slotless;
        self.watch.demotion_seen(engine.as_ref().is_some_and(lost));
        self.watch.link_seen(engine.as_ref().is_some_and(|facts| facts.link_up), now);
        self.engine = engine;
    }

    fn publish(&mut self) {
        let acking = self.reign.as_ref().filter(|reign| reign.acking()).map(|reign| reign.epoch);
        let tenure = self.reign.as_ref().filter(|reign| reign.step == Step::Serving).map(|reign| reign.epoch);
        let run_id = self.me().map(|me| me.run_id.clone()).unwrap_or_default();
        let required = self.required();
        let evidence = self.acks.evidence(&required);
        let old = &self.snapshot;
        let same =
            old.acking == acking && old.tenure == tenure && old.run_id == run_id && old.required == required;
        let view = old.view + u64::from(!same);
        self.snapshot = Snapshot { view, tenure, acking, run_id, required, evidence };
    }

    /// Where this member stands, for people and for the operator.
    pub fn state(&self, now: Millis) -> ShardState {
        let Some(engine) = &self.engine else {
            return if self.watch.engine_seen { ShardState::EngineDown } else { ShardState::Starting };
        };
        match self.reign.as_ref().map(|reign| reign.step) {
            Some(Step::Serving) => return ShardState::Primary,
            Some(Step::HandingOver { .. }) => return ShardState::HandingOver,
            Some(_) => return ShardState::Promoting,
            None => {}
        }
        if self.swap.as_ref().is_some_and(|swap| swap.claim.is_some()) {
            return ShardState::Promoting;
        }
        if self.named() {
            let over = self.relinquished.is_some();
            return if over { ShardState::HandingOver } else { ShardState::Promoting };
        }
        if engine.loading || self.seen.is_none() || self.reading.is_some() {
            return ShardState::Starting;
        }
        if self.in_sync() {
            return if engine.link_up { ShardState::InSync } else { ShardState::Deposed };
        }
        if self.forsaken(now) { ShardState::Empty } else { ShardState::Syncing }
    }
}

/// At most ten swaps a second from one member: conflicts must not become a storm on the API server.
pub(crate) const SWAP_SPACING: Millis = 100;
