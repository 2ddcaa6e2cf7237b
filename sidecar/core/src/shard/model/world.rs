//! The world: members (engine, machine, queues), the register, what is in flight, and the checks.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use blobstore_sidecar_api::{
    record::{Member, Release, ShardRecord},
    topology::ShardState,
};

use super::engine::Engine;
use crate::shard::{
    Machine, Rules,
    types::{Broken, Command, Effect, EngineFacts, Event, Millis, Seen},
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) members: usize,
    pub(super) persistent: bool,
    pub(super) broken: Option<Broken>,
}

/// Something on its way. It arrives late, or never.
#[derive(Clone, Debug)]
pub(super) enum Flight {
    SwapRequest {
        from: usize,
        process: u32,
        id: u64,
        expected: u64,
        record: ShardRecord,
    },
    /// To a machine, if it still is the same process.
    ToMachine {
        to: usize,
        process: u32,
        event: Event,
    },
    /// Across the network between pods.
    ToPeer {
        from: usize,
        to: usize,
        event: Event,
    },
    Ack {
        from: usize,
        run: u32,
        to_run: u32,
        offset: u64,
    },
    Round {
        of: usize,
        process: u32,
        run: u32,
        view: u64,
        sent_at: Millis,
        upto: u64,
        marked: bool,
    },
    Write {
        at: usize,
        process: u32,
        run: u32,
        epoch: u64,
    },
    /// Data in hand, not yet answered. `owed`: what was acknowledged before the read began.
    Read {
        at: usize,
        process: u32,
        run: u32,
        epoch: u64,
        log: Vec<u32>,
        owed: Vec<u32>,
        losses: u64,
    },
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) engine: Option<Engine>,
    pub(super) volume: Option<Engine>,
    pub(super) machine: Option<Machine>,
    pub(super) process: u32,
    pub(super) commands: VecDeque<(u64, u32, Command)>,
    pub(super) paused: bool,
    pub(super) api_away: bool,
    /// Commits waiting to be acknowledged, by number.
    pub(super) waiters: BTreeMap<u64, (u64, u32)>,
    pub(super) commits: u64,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) shape: Shape,
    pub(super) now: Millis,
    random: u64,
    /// One fault in this many chances: some runs must reach a full set before the next fault.
    pub(super) calm: usize,
    pub(super) nodes: Vec<Node>,
    pub(super) cut: Vec<(usize, usize)>,
    pub(super) cell: Seen,
    pub(super) flights: Vec<Flight>,
    pub(super) next_run: u32,
    pub(super) next_process: u32,
    pub(super) next_write: u32,
    pub(super) config_epoch: u32,
    pub(super) acknowledged: Vec<u32>,
    pub(super) acked_epoch: u64,
    pub(super) grants: u64,
    pub(super) acks: u64,
    pub(super) reads: u64,
    pub(super) losses: u64,
    pub(super) told: VecDeque<String>,
}

/// The last steps shown when something broke.
const TOLD_MAX: usize = 60;

pub(super) fn rules(index: usize, shape: Shape) -> Rules {
    Rules {
        pod: format!("s-{index}"),
        ordinal: u32::try_from(index).expect("few members"),
        persistent: shape.persistent,
        read_window: 3_000,
        ack_timeout: 1_000,
        failover_after: 2_000,
        absent_primary_wait: 10_000,
        broken: shape.broken,
    }
}

pub(super) fn member(index: usize, run: u32) -> Member {
    Member {
        pod: format!("s-{index}"),
        run_id: format!("r{run}"),
        node_id: format!("r{run}"),
        ip: format!("{index}"),
    }
}

pub(super) fn run_of(id: &str) -> u32 {
    id.trim_start_matches('r').parse().expect("a run id")
}

impl World {
    pub(super) fn new(seed: u64, shape: Shape) -> Self {
        let mut world = Self {
            shape,
            now: 1_000,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            calm: [1, 3, 8, 20][usize::try_from(seed % 4).expect("small")],
            nodes: Vec::new(),
            cut: Vec::new(),
            cell: Seen { version: 1, record: ShardRecord::default() },
            flights: Vec::new(),
            next_run: 1,
            next_process: 1,
            next_write: 1,
            config_epoch: 0,
            acknowledged: Vec::new(),
            acked_epoch: 0,
            grants: 0,
            acks: 0,
            reads: 0,
            losses: 0,
            told: VecDeque::new(),
        };
        for _ in 0..shape.members {
            world.nodes.push(Node {
                engine: None,
                volume: None,
                machine: None,
                process: 0,
                commands: VecDeque::new(),
                paused: false,
                api_away: false,
                waiters: BTreeMap::new(),
                commits: 0,
            });
        }
        (0..shape.members).for_each(|index| world.start_engine(index));
        (0..shape.members).for_each(|index| world.start_sidecar(index));
        world
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        // Xorshift: fast, and the same on every machine.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from((self.random >> 11) % (bound.max(1) as u64)).expect("small")
    }

    pub(super) fn tell(&mut self, what: String) {
        if self.told.len() >= TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(format!("{} {what}", self.now));
    }

    pub(super) fn story(&self, broke: &str) -> String {
        let told: Vec<&str> = self.told.iter().map(String::as_str).collect();
        format!("{broke}\n  {}\n  record {:?}", told.join("\n  "), self.cell)
    }

    /// Of all machines and engines: to count distinct states.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for node in &self.nodes {
            node.machine.hash(&mut hasher);
            node.engine.hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(super) fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.nodes.iter().filter_map(|node| node.machine.as_ref())
    }

    pub(super) fn start_engine(&mut self, index: usize) {
        if self.nodes[index].engine.is_none() {
            let run = self.next_run;
            self.next_run += 1;
            let kept = self.nodes[index].volume.take();
            self.nodes[index].engine = Some(Engine::start(run, kept.as_ref()));
        }
    }

    pub(super) fn kill_engine(&mut self, index: usize) {
        let engine = self.nodes[index].engine.take();
        if let Some(run) = engine.as_ref().map(|engine| engine.run) {
            for node in &mut self.nodes {
                let Some(other) = &mut node.engine else { continue };
                other.acked.retain(|(replica, _)| *replica != run);
                other.linked &= other.follows != Some(run);
            }
        }
        if self.shape.persistent && engine.is_some() {
            self.nodes[index].volume = engine;
        }
    }

    pub(super) fn start_sidecar(&mut self, index: usize) {
        let process = self.next_process;
        self.next_process += 1;
        let rules = rules(index, self.shape);
        let node = &mut self.nodes[index];
        node.process = process;
        node.commands.clear();
        node.waiters.clear();
        node.machine = Some(Machine::new(rules));
    }

    pub(super) fn reachable(&self, a: usize, b: usize) -> bool {
        a == b || !self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Feeds the machine and starts its effects.
    pub(super) fn feed(&mut self, index: usize, event: Event) -> Result<(), String> {
        let now = self.now;
        let Some(machine) = &mut self.nodes[index].machine else { return Ok(()) };
        let run = machine.engine().map(|engine| run_of(&engine.member.run_id));
        let quiet = matches!(
            event,
            Event::Tick
                | Event::Woke
                | Event::Probe(_)
                | Event::Engine(_)
                | Event::Round(_)
                | Event::Record { .. }
        );
        let shown = (!quiet).then(|| format!("{index} <- {event:?}"));
        let effects = machine.step(event, now);
        let acking = machine.snapshot().acking;
        self.nodes[index].waiters.retain(|_, (epoch, _)| acking.is_none() || acking == Some(*epoch));
        if acking.is_none() && !effects.iter().any(|effect| matches!(effect, Effect::Acknowledged { .. })) {
            self.nodes[index].waiters.clear();
        }
        if let Some(shown) = shown {
            self.tell(shown);
        }
        for effect in effects {
            self.start(index, run, effect)?;
        }
        if acking.is_none() {
            self.nodes[index].waiters.clear();
        }
        Ok(())
    }

    fn start(&mut self, index: usize, run: Option<u32>, effect: Effect) -> Result<(), String> {
        self.tell(format!("{index} -> {effect:?}"));
        let process = self.nodes[index].process;
        match effect {
            Effect::Swap { id, expected, record } => {
                self.flights.push(Flight::SwapRequest { from: index, process, id, expected, record });
            }
            Effect::Read { id } => self.read_register(index, id),
            Effect::Command { id, command } => {
                let run = run.or(self.nodes[index].engine.as_ref().map(|engine| engine.run)).unwrap_or(0);
                self.nodes[index].commands.push_back((id, run, command));
            }
            Effect::Acknowledged { upto } => self.acknowledge(index, upto)?,
            Effect::Nudge { to, relinquished } => {
                let to = to.ip.parse().expect("a member");
                let event = Event::Promote { relinquished: Some(relinquished) };
                self.flights.push(Flight::ToPeer { from: index, to, event });
            }
            Effect::Granted { epoch, .. } => self.granted(index, epoch)?,
        }
        Ok(())
    }

    /// A read of the register: answered later from what it holds then; the shell repeats it until it succeeds.
    pub(super) fn read_register(&mut self, index: usize, id: u64) {
        let process = self.nodes[index].process;
        let event =
            Event::Record { seen: Seen { version: 0, record: ShardRecord::default() }, read: Some(id) };
        self.flights.push(Flight::ToMachine { to: index, process, event });
    }

    fn acknowledge(&mut self, index: usize, upto: u64) -> Result<(), String> {
        let later = self.nodes[index].waiters.split_off(&(upto + 1));
        let done = std::mem::replace(&mut self.nodes[index].waiters, later);
        for (epoch, write) in done.into_values() {
            self.acknowledged_now(epoch, write)?;
        }
        Ok(())
    }

    pub(super) fn acknowledged_now(&mut self, epoch: u64, write: u32) -> Result<(), String> {
        if epoch < self.acked_epoch {
            return Err(format!(
                "write {write} acknowledged at epoch {epoch} after epoch {}",
                self.acked_epoch
            ));
        }
        self.acked_epoch = epoch;
        self.acks += 1;
        self.acknowledged.push(write);
        Ok(())
    }

    fn granted(&mut self, index: usize, epoch: u64) -> Result<(), String> {
        self.grants += 1;
        let run = self.nodes[index].machine.as_ref().and_then(Machine::engine);
        let run = run.map(|engine| run_of(&engine.member.run_id));
        let engine = self.nodes[index].engine.as_ref().filter(|engine| Some(engine.run) == run);
        if let Some(lost) = engine.and_then(|engine| engine.holds(&self.acknowledged)) {
            return Err(format!("{index} serves at epoch {epoch} without acknowledged write {lost}"));
        }
        Ok(())
    }

    pub(super) fn facts(&self, index: usize) -> Option<EngineFacts> {
        let engine = self.nodes[index].engine.as_ref()?;
        Some(EngineFacts {
            member: member(index, engine.run),
            loading: false,
            has_data: engine.kept || !engine.log.is_empty(),
            link_up: engine.linked && engine.follows.is_some(),
            follows: engine.follows.map(|run| format!("r{run}")),
            slotless: false,
        })
    }

    /// The operator: when every member reports that it is empty, one may start over.
    pub(super) fn operator(&mut self) -> Result<(), String> {
        let now = self.now;
        let empty = |node: &Node| {
            !node.paused
                && node.machine.as_ref().is_some_and(|machine| machine.state(now) == ShardState::Empty)
        };
        // Verdicts about an older record say nothing about this one.
        let current = |machine: &Machine| machine.record() == Some(&self.cell.record);
        if !self.machines().all(current)
            || !self.nodes.iter().all(empty)
            || self.cell.record.release.is_some()
        {
            return Ok(());
        }
        let alive = |member: &&Member| {
            self.nodes
                .iter()
                .any(|node| node.engine.as_ref().is_some_and(|e| member.run_id == format!("r{}", e.run)))
        };
        if let Some(member) = self.cell.record.in_sync.iter().find(alive) {
            return Err(format!("data given up while {member:?} lives"));
        }
        let release = Release { pod: "s-0".to_owned(), epoch: self.cell.record.epoch };
        self.cell.record.release = Some(release);
        self.cell.version += 1;
        self.tell("operator releases s-0".to_owned());
        Ok(())
    }
}
