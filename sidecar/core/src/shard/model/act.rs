//! What may happen next in the world: deliveries, clients, time, faults; and the recovery at the end.

use super::{
    engine::MARKER,
    world::{Flight, World, run_of},
};
use crate::shard::{
    Machine,
    types::{Command, Event, Outcome, Probe, ProbeStatus, ReplicaAck, Round, Seen},
};

impl World {
    pub(super) fn random_step(&mut self) -> Result<(), String> {
        let index = self.below(self.nodes.len());
        match self.below(100) {
            0..52 => self.deliver_any(),
            52..56 => {
                self.now += self.below(200) as u64;
                Ok(())
            }
            56..62 => self.serve_client(index),
            62..92 => self.run_node(index),
            92..94 => self.operator(),
            94..96 => self.heal(index),
            _ if self.below(self.calm) > 0 => Ok(()),
            _ => self.fault(index),
        }
    }

    fn deliver_any(&mut self) -> Result<(), String> {
        if self.flights.is_empty() {
            return Ok(());
        }
        let which = self.below(self.flights.len());
        let flight = self.flights.swap_remove(which);
        self.deliver(flight)
    }

    fn asleep(&self, index: usize) -> bool {
        self.nodes[index].paused
    }

    pub(super) fn deliver(&mut self, flight: Flight) -> Result<(), String> {
        match flight {
            Flight::SwapRequest { from, process, id, expected, record } => {
                self.swap(from, process, id, expected, record);
                Ok(())
            }
            Flight::ToMachine { to, process, event } => self.reach_machine(to, process, event),
            Flight::ToPeer { from, to, event } => {
                if !self.reachable(from, to) || self.asleep(to) {
                    return Ok(());
                }
                self.feed(to, event)
            }
            Flight::Ack { from, run, to_run, offset } => {
                self.take_ack(from, run, to_run, offset);
                Ok(())
            }
            Flight::Round { of, process, run, view, sent_at, upto, marked } => {
                if self.asleep(of) || self.nodes[of].process != process {
                    return Ok(());
                }
                let Some(engine) = self.nodes[of].engine.as_mut().filter(|engine| engine.run == run) else {
                    return Ok(());
                };
                let marked = marked && engine.follows.is_none();
                if marked {
                    engine.log.push(MARKER);
                }
                let acks = engine.acked.iter();
                let replicas = acks
                    .map(|(run, offset)| ReplicaAck { run_id: format!("r{run}"), offset: *offset })
                    .collect();
                let round = Round { view, sent_at, upto, marked, offset: engine.offset(), replicas };
                self.flights.push(Flight::ToMachine { to: of, process, event: Event::Round(round) });
                Ok(())
            }
            Flight::Write { at, process, run, epoch } => self.write(at, process, run, epoch),
            Flight::Read { at, process, run, epoch, log, owed, losses } => {
                self.answer_read(at, (process, run, epoch), &log, &owed, losses)
            }
        }
    }

    fn swap(
        &mut self,
        from: usize,
        process: u32,
        id: u64,
        expected: u64,
        record: blobstore_sidecar_api::record::ShardRecord,
    ) {
        let outcome = if self.nodes[from].api_away {
            Outcome::Unknown
        } else if self.cell.version == expected {
            if record.losses > self.cell.record.losses {
                // What was acknowledged before is given up, and said to be.
                self.losses += 1;
                self.acknowledged.clear();
            }
            self.cell = Seen { version: expected + 1, record };
            // One in eight answers is lost after the fact.
            if self.below(8) == 0 { Outcome::Unknown } else { Outcome::Swapped(expected + 1) }
        } else {
            Outcome::Conflict
        };
        let event = Event::Swap { id, outcome };
        self.flights.push(Flight::ToMachine { to: from, process, event });
    }

    fn reach_machine(&mut self, to: usize, process: u32, event: Event) -> Result<(), String> {
        if self.nodes[to].process != process {
            return Ok(());
        }
        let Event::Record { read: Some(id), .. } = event else {
            if self.asleep(to) {
                self.flights.push(Flight::ToMachine { to, process, event });
                return Ok(());
            }
            return self.feed(to, event);
        };
        if self.asleep(to) || self.nodes[to].api_away {
            self.read_register(to, id);
            return Ok(());
        }
        let seen = self.cell.clone();
        self.feed(to, Event::Record { seen, read: Some(id) })
    }

    fn take_ack(&mut self, from: usize, run: u32, to_run: u32, offset: u64) {
        let Some(to) =
            self.nodes.iter().position(|node| node.engine.as_ref().is_some_and(|e| e.run == to_run))
        else {
            return;
        };
        if self.asleep(to) || !self.reachable(from, to) {
            // Bytes in a socket buffer: they arrive when the process runs again, however late.
            self.flights.push(Flight::Ack { from, run, to_run, offset });
            return;
        }
        let Some(engine) = &mut self.nodes[to].engine else { return };
        if let Some(slot) = engine.acked.iter_mut().find(|(replica, _)| *replica == run) {
            slot.1 = slot.1.max(offset);
        }
    }

    pub(super) fn serve_client(&mut self, index: usize) -> Result<(), String> {
        if self.asleep(index) {
            return Ok(());
        }
        let writes = self.below(2) == 0;
        let node = &self.nodes[index];
        let process = node.process;
        let Some(snapshot) = node.machine.as_ref().map(Machine::snapshot) else { return Ok(()) };
        let (Some(epoch), Some(engine)) = (snapshot.tenure, &node.engine) else { return Ok(()) };
        if snapshot.run_id != format!("r{}", engine.run) {
            return Ok(());
        }
        let run = engine.run;
        let flight = if writes {
            Flight::Write { at: index, process, run, epoch }
        } else {
            let (log, owed, losses) = (engine.log.clone(), self.acknowledged.clone(), self.losses);
            Flight::Read { at: index, process, run, epoch, log, owed, losses }
        };
        self.flights.push(flight);
        Ok(())
    }

    fn write(&mut self, at: usize, process: u32, run: u32, epoch: u64) -> Result<(), String> {
        if self.asleep(at) || self.nodes[at].process != process {
            return Ok(());
        }
        let node = &mut self.nodes[at];
        let Some(engine) =
            node.engine.as_mut().filter(|engine| engine.run == run && engine.follows.is_none())
        else {
            return Ok(());
        };
        let write = self.next_write;
        self.next_write += 1;
        engine.log.push(write);
        let Some(snapshot) = node.machine.as_ref().map(Machine::snapshot) else { return Ok(()) };
        if snapshot.acking != Some(epoch) || snapshot.run_id != format!("r{run}") {
            return Ok(());
        }
        if snapshot.required.is_empty() {
            return self.acknowledged_now(epoch, write);
        }
        node.commits += 1;
        let number = node.commits;
        node.waiters.insert(number, (epoch, write));
        Ok(())
    }

    fn answer_read(
        &mut self,
        at: usize,
        (process, run, epoch): (u32, u32, u64),
        log: &[u32],
        owed: &[u32],
        losses: u64,
    ) -> Result<(), String> {
        let node = &self.nodes[at];
        if self.asleep(at) || node.process != process || losses != self.losses {
            return Ok(());
        }
        let Some(snapshot) = node.machine.as_ref().map(Machine::snapshot) else { return Ok(()) };
        let fresh = snapshot.evidence.is_some_and(|evidence| self.now <= evidence + 3_000);
        let ours = snapshot.tenure == Some(epoch) && snapshot.run_id == format!("r{run}");
        if !ours || !(snapshot.required.is_empty() || fresh) {
            return Ok(());
        }
        self.reads += 1;
        match owed.iter().find(|write| !log.contains(write)) {
            Some(stale) => {
                Err(format!("{at} answers a read at epoch {epoch} without acknowledged write {stale}"))
            }
            None => Ok(()),
        }
    }

    fn run_node(&mut self, index: usize) -> Result<(), String> {
        if self.asleep(index) {
            return Ok(());
        }
        match self.below(8) {
            0 => self.feed(index, Event::Tick),
            1 => {
                let facts = self.facts(index);
                self.feed(index, Event::Engine(facts))
            }
            2 => self.see_record(index),
            3 => self.execute(index),
            4 => {
                self.replicate(index);
                Ok(())
            }
            5 => {
                self.start_round(index);
                Ok(())
            }
            6 => self.look_around(index),
            _ => {
                self.gossip(index);
                Ok(())
            }
        }
    }

    pub(super) fn see_record(&mut self, index: usize) -> Result<(), String> {
        if self.nodes[index].api_away {
            return Ok(());
        }
        let seen = self.cell.clone();
        self.feed(index, Event::Record { seen, read: None })
    }

    pub(super) fn execute(&mut self, index: usize) -> Result<(), String> {
        let Some((id, run, command)) = self.nodes[index].commands.pop_front() else { return Ok(()) };
        self.config_epoch += 1;
        let config_epoch = self.config_epoch;
        let engine = self.nodes[index].engine.as_mut().filter(|engine| engine.run == run);
        let ok = engine.is_some();
        if let Some(engine) = engine {
            match command {
                Command::BreakLink => engine.break_link(),
                Command::Assume => engine.assume(config_epoch),
                Command::CloseReplication => engine.close(),
                Command::Follow(member) => engine.follow(run_of(&member.run_id)),
            }
        }
        let process = self.nodes[index].process;
        self.flights.push(Flight::ToMachine { to: index, process, event: Event::Done { id, ok } });
        Ok(())
    }

    pub(super) fn replicate(&mut self, index: usize) {
        let Some(follows) = self.nodes[index].engine.as_ref().and_then(|engine| engine.follows) else {
            return;
        };
        let at = |node: &super::world::Node| node.engine.as_ref().is_some_and(|engine| engine.run == follows);
        let Some(to) = self.nodes.iter().position(at) else { return };
        if !self.reachable(index, to) || self.asleep(to) {
            return;
        }
        let Some(mut replica) = self.nodes[index].engine.take() else { return };
        if let Some(primary) = &mut self.nodes[to].engine
            && replica.pull_from(primary)
        {
            let (run, offset) = (replica.run, replica.offset());
            self.flights.push(Flight::Ack { from: index, run, to_run: follows, offset });
        }
        self.nodes[index].engine = Some(replica);
    }

    pub(super) fn start_round(&mut self, index: usize) {
        let (sent_at, marked) = (self.now, self.below(3) > 0);
        let node = &self.nodes[index];
        let Some(machine) = &node.machine else { return };
        let Some(engine) = machine.engine() else { return };
        let run = run_of(&engine.member.run_id);
        let (process, view, upto) = (node.process, machine.snapshot().view, node.commits);
        self.flights.push(Flight::Round { of: index, process, run, view, sent_at, upto, marked });
    }

    /// Probes the record's primary, and asks it to be added when following it.
    pub(super) fn look_around(&mut self, index: usize) -> Result<(), String> {
        let process = self.nodes[index].process;
        let Some(machine) = &self.nodes[index].machine else { return Ok(()) };
        let (Some(record), Some(engine)) = (machine.record(), machine.engine().cloned()) else {
            return Ok(());
        };
        let Some(primary) = record.primary.clone() else { return Ok(()) };
        let (epoch, joins) = (record.epoch, engine.link_up && !machine.in_sync());
        let to: usize = primary.ip.parse().expect("a member");
        if to == index && primary.run_id == engine.member.run_id {
            return Ok(());
        }
        let answers = self.reachable(index, to) && !self.asleep(to);
        let status = self.nodes[to].machine.as_ref().filter(|_| answers).map(|machine| ProbeStatus {
            run_id: machine.engine().map(|engine| engine.member.run_id.clone()),
            serving: machine.snapshot().tenure,
            relinquished: machine.announced(self.now),
        });
        let probe = Probe { run_id: primary.run_id, epoch, status };
        self.flights.push(Flight::ToMachine { to: index, process, event: Event::Probe(probe) });
        if joins {
            self.flights.push(Flight::ToPeer { from: index, to, event: Event::Join(engine.member) });
        }
        Ok(())
    }

    /// Engines believe the highest config epoch they hear of, whatever their sidecars think.
    pub(super) fn gossip(&mut self, index: usize) {
        let heard =
            (0..self.nodes.len()).filter(|other| self.reachable(index, *other) && !self.asleep(*other));
        let primaries = heard.filter_map(|other| self.nodes[other].engine.as_ref());
        let best = primaries.filter(|engine| engine.follows.is_none()).map(|e| (e.config_epoch, e.run)).max();
        let (Some((epoch, run)), Some(engine)) = (best, &mut self.nodes[index].engine) else { return };
        if engine.run != run && epoch > engine.config_epoch {
            engine.config_epoch = epoch;
            engine.follows = Some(run);
            engine.linked = false;
            engine.acked.clear();
        }
    }
}
