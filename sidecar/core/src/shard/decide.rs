//! Decisions of a member that does not reign: claim, or follow.

use blobstore_sidecar_api::record::{Member, ShardRecord};

use crate::shard::{
    machine::{Claim, Machine},
    reign::TAKE_BACK_AFTER,
    types::{Broken, Command, Effect, Millis, Probe, Why},
};

/// How much later than its predecessor each next candidate moves.
const STAGGER: Millis = 500;
/// How much later each next ordinal claims a shard that never had a primary.
const FORMATION_STAGGER: Millis = 1_000;
/// Following is checked and repaired this often.
const FOLLOW_EVERY: Millis = 500;
/// A request to take over that cannot be met at once is forgotten after this.
const ASKED_FOR: Millis = 5_000;

/// What a member has observed of the record's primary, of its own link, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Watch {
    /// The record began to name its primary.
    named_at: Millis,
    /// Since when its sidecar has not answered.
    silent_since: Option<Millis>,
    /// Since when its sidecar has answered that the engine of the record is not there.
    gone_since: Option<Millis>,
    /// It answered that another engine run is in its place.
    replaced: bool,
    /// It answered that it serves.
    pub(crate) serving: bool,
    /// It answered, and has the engine of the record.
    present: bool,
    /// The epoch that it gave up.
    gave_up: Option<u64>,
    link_down_since: Option<Millis>,
    /// Looks in a row that found our engine a replica, or without slots.
    lost_looks: u8,
    engine_at: Millis,
    pub(crate) engine_seen: bool,
    pub(crate) asked: Option<(Option<u64>, Millis)>,
    pub(crate) following: Option<u64>,
    follow_not_before: Millis,
    pub(crate) swap_not_before: Millis,
    pub(crate) nudge_not_before: Millis,
    pub(crate) nudges: usize,
    pub(crate) relinquished_at: Option<Millis>,
    pub(crate) handing_since: Millis,
    /// The pod that should take over.
    pub(crate) wished: Option<String>,
}

impl Watch {
    pub(crate) fn primary_changed(&mut self, now: Millis) {
        self.named_at = now;
        self.silent_since = None;
        self.gone_since = None;
        self.replaced = false;
        self.serving = false;
        self.present = false;
        self.gave_up = None;
        self.follow_not_before = now;
    }

    pub(crate) fn engine_changed(&mut self, now: Millis) {
        self.engine_at = now;
        self.engine_seen = true;
        self.following = None;
        self.follow_not_before = now;
    }

    /// Silence counts in time that we lived through: what we slept through may have been said.
    pub(crate) fn woke(&mut self, now: Millis) {
        for since in [&mut self.silent_since, &mut self.link_down_since].into_iter().flatten() {
            *since = now;
        }
    }

    pub(crate) fn demotion_seen(&mut self, lost: bool) {
        self.lost_looks = if lost { self.lost_looks.saturating_add(1) } else { 0 };
    }

    /// The engine is no primary of our slots although nobody ordered it: a look that began before the last order
    /// ended may say so once more, but not two in a row.
    pub(crate) fn demoted(&self) -> bool {
        self.lost_looks >= 2
    }

    pub(crate) fn link_seen(&mut self, up: bool, now: Millis) {
        if up {
            self.link_down_since = None;
        } else {
            self.link_down_since.get_or_insert(now);
        }
    }
}

fn for_long(since: Option<Millis>, now: Millis, long: Millis) -> bool {
    since.is_some_and(|since| now >= since + long)
}

impl Machine {
    pub(crate) fn on_probe(&mut self, probe: Probe, now: Millis) {
        let Some(record) = self.record() else { return };
        let Some(primary) = &record.primary else { return };
        if primary.run_id != probe.run_id || record.epoch != probe.epoch {
            return;
        }
        let epoch = record.epoch;
        let watch = &mut self.watch;
        let Some(status) = probe.status else {
            watch.silent_since.get_or_insert(now);
            watch.serving = false;
            watch.present = false;
            return;
        };
        watch.silent_since = None;
        watch.serving = status.serving == Some(epoch);
        watch.gave_up = status.relinquished;
        watch.present = status.run_id.as_deref() == Some(&probe.run_id);
        watch.replaced = !watch.present && status.run_id.is_some();
        if watch.present {
            watch.gone_since = None;
        } else {
            watch.gone_since.get_or_insert(now);
        }
    }

    /// Neither in the set nor near anybody who serves: only the operator's release helps.
    pub(crate) fn forsaken(&self, now: Millis) -> bool {
        let Some(record) = self.record().filter(|record| record.epoch > 0) else { return false };
        let long = self.rules.failover_after;
        let returned = record.primary.as_ref().is_some_and(|primary| primary.pod == self.rules.pod);
        let gone = for_long(self.watch.silent_since, now, long)
            || self.watch.replaced
            || for_long(self.watch.gone_since, now, long)
            || returned;
        let link_up = self.engine.as_ref().is_some_and(|engine| engine.link_up);
        gone && !link_up
            && !self.named()
            && !self.in_sync()
            && self.return_claim(record, now).is_none()
            && !self.may_return_later(record)
    }

    pub(crate) fn advance(&mut self, now: Millis, out: &mut Vec<Effect>) {
        if self.reign.is_some() && self.regressed.is_none() {
            self.reign_on(now, out);
            return;
        }
        let usable = self.engine.as_ref().is_some_and(|engine| !engine.loading);
        let Some(record) = self.record().cloned() else { return };
        if self.regressed.is_some() {
            // The register was re-created under us: whoever served puts its own record back at a new epoch.
            if usable && self.snapshot.tenure.is_some() && now >= self.watch.swap_not_before {
                self.end_reign(out);
                self.claim(&record, Claim { why: Why::Resume, no_window: true }, now, out);
            }
            return;
        }
        self.nudge(now, out);
        if !usable || self.leaving && self.handed_over() {
            return;
        }
        if now >= self.watch.swap_not_before
            && let Some(claim) = self.wanted_claim(&record, now)
        {
            self.watch.asked = None;
            self.claim(&record, claim, now, out);
            return;
        }
        self.follow(&record, now, out);
    }

    fn wanted_claim(&self, record: &ShardRecord, now: Millis) -> Option<Claim> {
        let me = self.me()?;
        let Some(primary) = &record.primary else {
            let turn = self.watch.named_at.max(self.watch.engine_at)
                + FORMATION_STAGGER * Millis::from(self.rules.ordinal);
            let first = record.epoch == 0 && now >= turn && !self.leaving;
            return first.then_some(Claim { why: Why::Formation, no_window: true });
        };
        if primary.run_id == me.run_id {
            return self.resume_claim(record, now);
        }
        if self.in_sync() || self.rules.broken(Broken::PromoteNonMember) {
            return self.candidate_claim(record, now);
        }
        let released = record
            .release
            .as_ref()
            .is_some_and(|release| release.pod == self.rules.pod && release.epoch == record.epoch);
        if released {
            return Some(Claim { why: Why::Release, no_window: false });
        }
        self.return_claim(record, now)
    }

    /// The record names this run, but this process does not reign: it restarted, or gave up and nobody came.
    fn resume_claim(&self, record: &ShardRecord, now: Millis) -> Option<Claim> {
        let gave_up = self.relinquished == Some(record.epoch);
        let others = record.in_sync.len() > 1;
        let waited = for_long(self.watch.relinquished_at, now, TAKE_BACK_AFTER);
        if gave_up && others && (self.leaving || !waited) {
            return None;
        }
        Some(Claim { why: Why::Resume, no_window: true })
    }

    /// We hold every acknowledged write; is the owner gone, or has it asked?
    fn candidate_claim(&self, record: &ShardRecord, now: Millis) -> Option<Claim> {
        if self.leaving {
            return None;
        }
        let asked = self.watch.asked.filter(|(_, at)| now < at + ASKED_FOR).map(|(word, _)| word);
        let word = asked.flatten().into_iter().chain(self.watch.gave_up).max();
        let turn = STAGGER * self.place(record);
        if word == Some(record.epoch) && (asked.is_some() || now >= self.watch.named_at + turn) {
            return Some(Claim { why: Why::HandOver, no_window: true });
        }
        if asked == Some(None) {
            return Some(Claim { why: Why::Asked, no_window: false });
        }
        let long = self.rules.failover_after + turn;
        let silent = for_long(self.watch.silent_since, now, long)
            && for_long(self.watch.link_down_since, now, long)
            && now >= self.watch.named_at + long;
        let gone = for_long(self.watch.gone_since, now, if self.watch.replaced { turn } else { long });
        (silent || gone).then_some(Claim { why: Why::Failover, no_window: false })
    }

    /// Our place among the members that could take over.
    fn place(&self, record: &ShardRecord) -> Millis {
        let primary = record.primary.as_ref().map(|primary| &primary.run_id);
        let before = |member: &&Member| {
            Some(&member.run_id) != primary && crate::shard::reign::ordinal(&member.pod) < self.rules.ordinal
        };
        record.in_sync.iter().filter(before).count() as Millis
    }

    /// Our pod is in the set with data that outlived its process.
    fn may_return_later(&self, record: &ShardRecord) -> bool {
        self.rules.persistent
            && self.engine.as_ref().is_some_and(|engine| engine.has_data)
            && record.in_sync.iter().any(|member| member.pod == self.rules.pod)
    }

    /// Persistent data came back under a new run id. A member of the same run has more, so it goes first.
    fn return_claim(&self, record: &ShardRecord, now: Millis) -> Option<Claim> {
        if !self.may_return_later(record) || self.leaving {
            return None;
        }
        let primary = record.primary.as_ref()?;
        let wait = match primary.pod == self.rules.pod {
            true if record.in_sync.len() == 1 => 0,
            true => 2 * self.rules.failover_after + STAGGER * record.in_sync.len() as Millis,
            false => self.rules.absent_primary_wait,
        };
        let since = self.watch.engine_at.max(self.watch.named_at);
        let absent = primary.pod == self.rules.pod || for_long(self.watch.silent_since, now, wait);
        let no_window = primary.pod == self.rules.pod && record.in_sync.len() == 1;
        (absent && now >= since + wait).then_some(Claim { why: Why::Return, no_window })
    }

    fn claim(&mut self, record: &ShardRecord, claim: Claim, now: Millis, out: &mut Vec<Effect>) {
        let Some(me) = self.me().cloned() else { return };
        if claim.why == Why::Resume && self.rules.broken(Broken::ResumeWithoutSwap) {
            self.begin_reign(record.epoch, claim);
            return;
        }
        // Members of the set stay in it until the new primary acknowledges anything without them: if it dies before
        // that, they still hold everything.
        let in_sync = match claim.why {
            Why::Formation | Why::Release | Why::Return => vec![me.clone()],
            _ => record.in_sync.clone(),
        };
        let loss = u64::from(claim.why == Why::Release);
        let next = ShardRecord {
            epoch: record.epoch + 1,
            primary: Some(me),
            in_sync,
            release: None,
            losses: record.losses + loss,
        };
        self.swap_to(next, Some(claim), now, out);
    }

    fn follow(&mut self, record: &ShardRecord, now: Millis, out: &mut Vec<Effect>) {
        let (Some(primary), Some(engine)) = (&record.primary, &self.engine) else { return };
        let follows = engine.follows.as_ref() == Some(&primary.node_id) && engine.link_up;
        let named = primary.run_id == engine.member.run_id;
        if follows || named || !self.watch.present || self.watch.following.is_some() {
            return;
        }
        // Only a primary that serves has left the set to those who follow it.
        if !self.watch.serving || now < self.watch.follow_not_before {
            return;
        }
        self.watch.follow_not_before = now + FOLLOW_EVERY;
        let id = self.order(Command::Follow(primary.clone()), out);
        self.watch.following = Some(id);
    }
}
