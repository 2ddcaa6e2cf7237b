//! Acknowledging: who must hold a commit, who holds what, and who leaves or enters the in-sync set.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use blobstore_sidecar_api::record::{Member, ShardRecord};

use crate::shard::{
    machine::Machine,
    types::{Broken, Effect, Millis, Round},
};

/// Rounds remembered as evidence of when an acknowledgement was sent: a read window holds fewer at two a second.
const HISTORY_MAX: usize = 64;
/// Commit groups in flight: the ack loop sends one at a time, so a few suffice; older ones merge into the oldest.
const MARKS_MAX: usize = 64;
/// Pause after a join that failed, so that a slow replica does not slow every commit down.
const JOIN_PAUSE: Millis = 1_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Acks {
    /// Highest acknowledged offset of each run.
    acked: BTreeMap<String, u64>,
    /// When each run was last seen online.
    online: BTreeMap<String, Millis>,
    /// Commit groups not yet acknowledged: commits up to, their offset, when they were sent.
    marks: VecDeque<Mark>,
    /// An acknowledgement at or above the offset was sent after the time.
    history: VecDeque<(Millis, u64)>,
    first_round: Option<u64>,
    last_round: Option<(u64, u64)>,
    pub(crate) joining: Option<Joining>,
    join_not_before: Millis,
    /// When the newest round that came back was sent: up to then is known who owed what.
    judged_at: Millis,
    /// This process ran again after a pause: what was owed before then is owed since then.
    woke_at: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mark {
    upto: u64,
    offset: u64,
    sent_at: Millis,
}

/// A replica on its way into the set: required from now on, written into the record once it holds what was
/// acknowledged without it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Joining {
    pub(crate) member: Member,
    view: u64,
    since: Millis,
    goal: Option<u64>,
}

impl Acks {
    fn holds(&self, run_id: &str, offset: u64) -> bool {
        self.acked.get(run_id).is_some_and(|acked| *acked >= offset)
    }

    pub(crate) fn all_hold(&self, required: &BTreeSet<String>, offset: u64) -> bool {
        required.iter().all(|run_id| self.holds(run_id, offset))
    }

    /// Holds everything that the engine held when the reign's first round looked.
    pub(crate) fn holds_all(&self, run_id: &str) -> bool {
        self.first_round.is_some_and(|offset| self.holds(run_id, offset))
    }

    pub(crate) fn settled(&self, required: &BTreeSet<String>) -> bool {
        required.iter().all(|run_id| self.holds_all(run_id))
    }

    /// The offset seen by a round that began at this view or later.
    pub(crate) fn offset_since(&self, view: u64) -> Option<u64> {
        self.last_round.filter(|(seen, _)| *seen >= view).map(|(_, offset)| offset)
    }

    /// Every one of them has sent an acknowledgement after this moment.
    pub(crate) fn evidence(&self, required: &BTreeSet<String>) -> Option<Millis> {
        let of = |run_id: &String| {
            let acked = *self.acked.get(run_id)?;
            self.history.iter().filter(|(_, floor)| acked >= *floor).map(|(sent_at, _)| *sent_at).max()
        };
        required.iter().map(of).min().flatten()
    }

    fn take(&mut self, round: &Round, now: Millis) {
        self.first_round.get_or_insert(round.offset);
        self.last_round = Some((round.view, round.offset));
        self.judged_at = round.sent_at.max(self.judged_at);
        for replica in &round.replicas {
            self.online.insert(replica.run_id.clone(), now);
            let acked = self.acked.entry(replica.run_id.clone()).or_default();
            *acked = replica.offset.max(*acked);
        }
        // Without a marker the offset may be older than the question: only an acknowledgement beyond it is new.
        self.history.push_back((round.sent_at, round.offset + u64::from(!round.marked)));
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
        if round.marked {
            let mark = Mark { upto: round.upto, offset: round.offset, sent_at: round.sent_at };
            let full = self.marks.len() >= MARKS_MAX;
            match self.marks.back_mut().filter(|_| full) {
                Some(last) => (last.upto, last.offset) = (mark.upto, mark.offset),
                None => self.marks.push_back(mark),
            }
        }
    }

    pub(crate) fn woke(&mut self, now: Millis) {
        self.woke_at = now;
        if let Some(joining) = &mut self.joining {
            joining.since = now;
        }
    }

    fn acknowledged(&mut self, required: &BTreeSet<String>, any_suffices: bool) -> Option<u64> {
        let mut upto = None;
        while let Some(mark) = self.marks.front() {
            let any = required.iter().any(|run_id| self.holds(run_id, mark.offset));
            if !(self.all_hold(required, mark.offset) || any_suffices && any) {
                break;
            }
            upto = Some(mark.upto);
            self.marks.pop_front();
        }
        upto
    }

    /// A round that was sent after `patience` still found it owing an acknowledgement, or offline. While no round comes
    /// back it is our own engine that is silent, and nobody is judged: a primary must not strike off who is to succeed
    /// it.
    fn overdue(&self, run_id: &str, patience: Millis) -> bool {
        let owed = self.marks.iter().find(|mark| !self.holds(run_id, mark.offset)).map(|mark| mark.sent_at);
        let online = self.online.get(run_id).copied().unwrap_or_default();
        owed.is_some_and(|since| self.judged_at >= since.max(self.woke_at) + patience)
            || self.judged_at >= online.max(self.woke_at) + patience + ONLINE_SLACK
    }
}

/// Idle rounds come twice a second: a replica is offline only when two of them have missed it.
const ONLINE_SLACK: Millis = 1_000;

impl Machine {
    /// Run ids of the members besides this one that must hold a commit before it is acknowledged: those of the
    /// record, and whoever may be in the record before we know it.
    pub(crate) fn required(&self) -> BTreeSet<String> {
        let in_swap = self.swap.iter().flat_map(|swap| &swap.record.in_sync);
        let in_record = self.record().into_iter().flat_map(|record| &record.in_sync);
        let joining = self.acks.joining.iter().map(|joining| &joining.member);
        let mut required: BTreeSet<String> =
            in_record.chain(in_swap).chain(joining).map(|member| member.run_id.clone()).collect();
        required.extend(self.ghosts.iter().cloned());
        if let Some(me) = self.me() {
            required.remove(&me.run_id);
        }
        required
    }

    pub(crate) fn on_round(&mut self, round: Round, now: Millis, out: &mut Vec<Effect>) {
        if self.reign.is_none() {
            return;
        }
        self.acks.take(&round, now);
        if let Some(joining) = &mut self.acks.joining
            && round.view >= joining.view
        {
            joining.goal.get_or_insert(round.offset);
        }
        let required = self.required();
        let broken = self.rules.broken(Broken::AckWithoutAll);
        if let Some(upto) = self.acks.acknowledged(&required, broken) {
            out.push(Effect::Acknowledged { upto });
        }
    }

    pub(crate) fn on_join(&mut self, member: Member, now: Millis) {
        let known = self.record().is_some_and(|record| record.in_sync.contains(&member));
        let serving = self.snapshot.tenure.is_some();
        let online = self.acks.online.get(&member.run_id).is_some_and(|seen| now < seen + ONLINE_SLACK);
        if known || !serving || !online || self.acks.joining.is_some() || now < self.acks.join_not_before {
            return;
        }
        // The view grows with this step: what was acknowledged without the member is below the offset that a later
        // round sees.
        let view = self.snapshot.view + 1;
        self.acks.joining = Some(Joining { member, view, since: now, goal: None });
    }

    /// While serving: who owes too much leaves the record, who has caught up enters it.
    pub(crate) fn keep_members(&mut self, now: Millis, out: &mut Vec<Effect>) {
        if now < self.watch.swap_not_before {
            return;
        }
        if let Some(joining) = self.acks.joining.clone() {
            let hasty = self.rules.broken(Broken::JoinWithoutCatchUp);
            let caught_up = joining.goal.is_some_and(|goal| self.acks.holds(&joining.member.run_id, goal));
            if caught_up || hasty {
                self.acks.joining = None;
                self.add(joining.member, now, out);
                return;
            }
            if now >= joining.since + self.rules.ack_timeout {
                self.acks.joining = None;
                self.acks.join_not_before = now + JOIN_PAUSE;
            }
        }
        let required = self.required();
        let patience = self.rules.ack_timeout;
        let overdue: BTreeSet<String> =
            required.into_iter().filter(|run_id| self.acks.overdue(run_id, patience)).collect();
        if !overdue.is_empty() {
            self.remove(&overdue, now, out);
        }
    }

    fn add(&mut self, member: Member, now: Millis, out: &mut Vec<Effect>) {
        let Some(mut record) = self.record().cloned() else { return };
        // An older run of the same pod cannot be in sync any more: its process is gone.
        record.in_sync.retain(|other| other.pod != member.pod);
        record.in_sync.push(member);
        self.swap_to(record, None, now, out);
    }

    /// Writes the record without them. Also when they are only ghosts: a new version ends a swap of unknown outcome.
    pub(crate) fn remove(&mut self, run_ids: &BTreeSet<String>, now: Millis, out: &mut Vec<Effect>) {
        let Some(record) = self.record().cloned() else { return };
        let in_sync = record.in_sync.into_iter().filter(|member| !run_ids.contains(&member.run_id)).collect();
        self.swap_to(ShardRecord { in_sync, ..record }, None, now, out);
    }
}
