//! A reign: from the won swap through fencing and take-over to serving, and its end.
//! Tenure is only ever granted at an epoch that this very process swapped in, with a certain outcome.

use blobstore_sidecar_api::record::Member;

use crate::shard::{
    acks::Acks,
    machine::{Claim, Machine},
    types::{Broken, Command, Effect, Millis, Why},
};

/// Slack on the read window for clocks that run apart (5 %) and timers that fire late.
const WINDOW_SLACK: Millis = 100;
/// A failed engine command is tried again after this: a few times within the failover time.
const RETRY_AFTER: Millis = 200;
/// Between two requests to take over: the candidates' answer takes a few milliseconds.
const NUDGE_EVERY: Millis = 250;
/// The wished successor alone is asked for this long: twice. Then anyone who is in sync may take over.
const WISHED_FOR: Millis = 500;
/// After this long without a successor, the owner that gave up takes its shard back.
pub(crate) const TAKE_BACK_AFTER: Millis = 5_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reign {
    pub(crate) epoch: u64,
    pub(crate) claim: Claim,
    pub(crate) step: Step,
    /// Tenure was granted at this epoch.
    pub(crate) served: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Not before this time: break the link.
    Break {
        not_before: Millis,
    },
    Breaking {
        command: u64,
    },
    /// The old owner may answer reads until then.
    Fence {
        until: Millis,
    },
    Assume {
        not_before: Millis,
    },
    Assuming {
        command: u64,
    },
    /// The engine is ours; others in the set must hold what it holds, or leave the set.
    Settle {
        since: Millis,
    },
    Serving,
    /// Serves no more; the last commits are being acknowledged. `offset`: what every member must hold.
    HandingOver {
        view: u64,
        offset: Option<u64>,
    },
}

impl Reign {
    /// Commits made under the tenure are still acknowledged.
    pub(crate) fn acking(&self) -> bool {
        matches!(self.step, Step::Serving | Step::HandingOver { .. })
    }
}

impl Machine {
    pub(crate) fn begin_reign(&mut self, epoch: u64, claim: Claim) {
        let step = match claim.why {
            // No link to break: the engine follows nobody.
            Why::Formation | Why::Release | Why::Resume => Step::Fence { until: 0 },
            _ => Step::Break { not_before: 0 },
        };
        self.acks = Acks::default();
        self.reign = Some(Reign { epoch, claim, step, served: false });
    }

    /// Ends the reign for whatever reason. What was served is given up for good at this epoch.
    pub(crate) fn end_reign(&mut self, out: &mut Vec<Effect>) {
        let Some(reign) = self.reign.take() else { return };
        if reign.served {
            self.relinquished = self.relinquished.max(Some(reign.epoch));
        }
        self.acks = Acks::default();
        self.watch.nudge_not_before = 0;
        self.watch.relinquished_at = None;
        let id = self.id();
        out.push(Effect::Command { id, command: Command::CloseReplication });
    }

    /// Another epoch, or another primary: we are no longer it.
    pub(crate) fn check_deposed(&mut self, out: &mut Vec<Effect>) {
        let Some(reign) = &self.reign else { return };
        let epoch = self.record().map(|record| record.epoch);
        if epoch != Some(reign.epoch) || !self.named() {
            self.end_reign(out);
        }
    }

    pub(crate) fn on_done(&mut self, id: u64, ok: bool, now: Millis) {
        if self.watch.following == Some(id) {
            self.watch.following = None;
        }
        let window = self.rules.read_window + self.rules.read_window / 20 + WINDOW_SLACK;
        let skip = self.rules.broken(Broken::SkipReadWindow);
        let Some(reign) = &mut self.reign else { return };
        let again = now + RETRY_AFTER;
        reign.step = match reign.step {
            Step::Breaking { command } if command == id && ok => {
                let wait = if reign.claim.no_window || skip { 0 } else { window };
                Step::Fence { until: now + wait }
            }
            Step::Breaking { command } if command == id => Step::Break { not_before: again },
            Step::Assuming { command } if command == id && ok => {
                // What was seen before was the replica that it has just been.
                self.watch.demotion_seen(false);
                Step::Settle { since: now }
            }
            Step::Assuming { command } if command == id => Step::Assume { not_before: again },
            step => step,
        };
    }

    /// What we claimed may be another's by now: before we take it, the record is read.
    pub(crate) fn on_woke(&mut self, now: Millis, out: &mut Vec<Effect>) {
        self.acks.woke(now);
        self.watch.woke(now);
        let claims = self.swap.as_ref().is_some_and(|swap| swap.claim.is_some());
        let settled = |step| matches!(step, Step::Settle { .. } | Step::Serving | Step::HandingOver { .. });
        if claims || self.reign.as_ref().is_some_and(|reign| !settled(reign.step)) {
            self.read(out);
        }
    }

    pub(crate) fn on_hand_over(&mut self, leaving: bool, to: Option<String>, now: Millis) {
        self.leaving |= leaving;
        let candidates = self.candidates();
        let view = self.snapshot.view;
        let Some(reign) = &mut self.reign else { return };
        if reign.step == Step::Serving && !candidates.is_empty() {
            // The view grows with this step: only a round that starts afterwards closes the books.
            reign.step = Step::HandingOver { view: view + 1, offset: None };
            self.watch.handing_since = now;
            self.watch.wished = to;
        }
    }

    /// The member that alone is asked to take over now.
    pub(crate) fn wished(&self, now: Millis) -> Option<Member> {
        let wish = self.watch.wished.as_ref()?;
        let over = self.watch.relinquished_at.is_some_and(|since| now >= since + WISHED_FOR);
        self.candidates().into_iter().find(|member| !over && member.pod == *wish)
    }

    /// Members of the set in other pods, lowest ordinal first.
    pub(crate) fn candidates(&self) -> Vec<Member> {
        let Some(record) = self.record() else { return Vec::new() };
        let mut others: Vec<Member> =
            record.in_sync.iter().filter(|member| member.pod != self.rules.pod).cloned().collect();
        others.sort_by_key(|member| (ordinal(&member.pod), member.pod.clone()));
        others
    }

    /// One step of a reign that no event is awaited for.
    pub(crate) fn reign_on(&mut self, now: Millis, out: &mut Vec<Effect>) {
        if self.engine_lost(out) {
            return;
        }
        let Some(reign) = self.reign.clone() else { return };
        match reign.step {
            Step::Break { not_before } if now >= not_before => {
                let command = self.order(Command::BreakLink, out);
                self.set_step(Step::Breaking { command });
            }
            Step::Fence { until } if now >= until => {
                self.set_step(Step::Assume { not_before: 0 });
                self.reign_on(now, out);
            }
            Step::Assume { not_before } if now >= not_before => {
                let command = self.order(Command::Assume, out);
                self.set_step(Step::Assuming { command });
            }
            Step::Settle { since } => self.settle(&reign, since, now, out),
            Step::Serving => self.keep_members(now, out),
            Step::HandingOver { .. } => self.hand_over_on(&reign, now, out),
            _ => {}
        }
    }

    /// Our engine follows another or has lost its slots, as engines do when a peer took over later than they: a member
    /// slept through the end of its own claim and woke with the order to take over in its hands. What our engine still
    /// holds is not certain any more, since some drop the keys of slots that they lost. Who is in sync has all of it
    /// and takes over; without such a member we resume.
    fn engine_lost(&mut self, out: &mut Vec<Effect>) -> bool {
        let settled = |reign: &&Reign| matches!(reign.step, Step::Settle { .. } | Step::Serving);
        let Some(epoch) = self.reign.as_ref().filter(settled).map(|reign| reign.epoch) else { return false };
        if !self.watch.demoted() {
            return false;
        }
        self.watch.demotion_seen(false);
        self.relinquished = self.relinquished.max(Some(epoch));
        self.end_reign(out);
        self.read(out);
        true
    }

    /// Others of the set leave it, unless we merely resume and they acknowledge everything in time.
    fn settle(&mut self, reign: &Reign, since: Millis, now: Millis, out: &mut Vec<Effect>) {
        let required = self.required();
        if required.is_empty() || self.acks.settled(&required) {
            self.set_step(Step::Serving);
            if let Some(reign) = &mut self.reign {
                reign.served = true;
            }
            out.push(Effect::Granted { epoch: reign.epoch, why: reign.claim.why });
            return;
        }
        let patient = reign.claim.why == Why::Resume && now < since + self.rules.ack_timeout;
        if !patient && now >= self.watch.swap_not_before {
            let missing = required.into_iter().filter(|run_id| !self.acks.holds_all(run_id)).collect();
            self.remove(&missing, now, out);
        }
    }

    fn hand_over_on(&mut self, reign: &Reign, now: Millis, out: &mut Vec<Effect>) {
        let Step::HandingOver { view, offset } = reign.step else { return };
        let candidates = self.candidates();
        if candidates.is_empty() {
            // The last candidate left the set: there is nobody to hand over to.
            self.set_step(Step::Serving);
            self.watch.wished = None;
            return;
        }
        let offset = offset.or_else(|| self.acks.offset_since(view));
        self.set_step(Step::HandingOver { view, offset });
        let required = self.required();
        if offset.is_some_and(|offset| self.acks.all_hold(&required, offset)) {
            self.end_reign(out);
            self.nudge(now, out);
            return;
        }
        self.keep_members(now, out);
    }

    /// Asks the wished successor, then the candidates in turn, to take over what we gave up.
    pub(crate) fn nudge(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let candidates = self.candidates();
        let epoch = self.record().map(|record| record.epoch);
        let (false, Some(relinquished)) = (candidates.is_empty(), self.relinquished) else { return };
        if epoch != Some(relinquished) || now < self.watch.nudge_not_before {
            return;
        }
        self.watch.relinquished_at.get_or_insert(now);
        self.watch.nudge_not_before = now + NUDGE_EVERY;
        let to = self.wished(now).unwrap_or_else(|| {
            let turn = self.watch.nudges % candidates.len();
            self.watch.nudges += 1;
            candidates[turn].clone()
        });
        out.push(Effect::Nudge { to, relinquished });
    }

    pub(crate) fn order(&mut self, command: Command, out: &mut Vec<Effect>) -> u64 {
        let id = self.id();
        out.push(Effect::Command { id, command });
        id
    }

    fn set_step(&mut self, step: Step) {
        if let Some(reign) = &mut self.reign {
            reign.step = step;
        }
    }
}

/// The number at the end of a pod's name; a name without one comes last.
pub(crate) fn ordinal(pod: &str) -> u32 {
    pod.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(u32::MAX)
}
