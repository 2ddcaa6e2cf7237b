//! Faults, healing, and the fair turns in which everything works.

use super::world::World;
use crate::shard::types::Event;

/// 15 seconds of the world's time.
const FORMATION_TURNS: usize = 300;

/// 100 seconds of the world's time: longer than every wait of the protocol together.
const RECOVERY_TURNS: usize = 2_000;

impl World {
    /// Faults stop; everything is delivered and everybody runs. Somebody must serve, and a write must get through.
    pub(super) fn recover(&mut self) -> Result<(), String> {
        self.heal_all();
        let acks = self.acks;
        for _ in 0..RECOVERY_TURNS {
            self.fair_turn()?;
            if self.acks > acks + 3 {
                return Ok(());
            }
        }
        Err(format!("nobody serves: {}", self.states()))
    }

    /// Without faults: every member gets into the set, and not slowly.
    pub(super) fn form(&mut self) -> Result<(), String> {
        for _ in 0..FORMATION_TURNS {
            self.fair_turn()?;
            if self.cell.record.in_sync.len() == self.nodes.len() {
                return Ok(());
            }
        }
        Err(format!("the set is not full: {}", self.states()))
    }

    fn states(&self) -> String {
        let states: Vec<_> =
            self.machines().map(|machine| (machine.state(self.now), machine.clone())).collect();
        format!("{states:#?}")
    }

    /// Everybody runs once and everything arrives.
    fn fair_turn(&mut self) -> Result<(), String> {
        self.now += 50;
        for index in 0..self.nodes.len() {
            let facts = self.facts(index);
            self.feed(index, Event::Engine(facts))?;
            self.see_record(index)?;
            self.gossip(index);
            self.replicate(index);
            self.look_around(index)?;
            self.start_round(index);
            self.serve_client(index)?;
            self.feed(index, Event::Tick)?;
            while !self.nodes[index].commands.is_empty() {
                self.execute(index)?;
            }
        }
        for flight in std::mem::take(&mut self.flights) {
            self.deliver(flight)?;
        }
        self.operator()
    }

    pub(super) fn fault(&mut self, index: usize) -> Result<(), String> {
        let other = self.below(self.nodes.len());
        match self.below(10) {
            0 | 1 => {
                self.tell(format!("{index} engine killed"));
                self.kill_engine(index);
                if self.below(2) == 0 {
                    self.start_engine(index);
                }
            }
            2 => {
                self.tell(format!("{index} sidecar restarts"));
                let lost = self.below(2) == 0;
                if !lost {
                    self.execute(index)?;
                }
                self.start_sidecar(index);
            }
            3 => {
                self.tell(format!("{index} paused"));
                self.nodes[index].paused = true;
            }
            4 if index != other => {
                self.tell(format!("{index} and {other} cut"));
                self.cut.push((index.min(other), index.max(other)));
            }
            5 => {
                self.tell(format!("{index} API away"));
                self.nodes[index].api_away = true;
            }
            6 => self.feed(index, Event::HandOver { leaving: false, to: None })?,
            7 => {
                let to = Some(format!("s-{other}"));
                self.feed(index, Event::HandOver { leaving: false, to })?;
            }
            8 => self.feed(index, Event::Promote { relinquished: None })?,
            _ => {
                self.tell(format!("{index} long pause of all"));
                self.now += 1_500;
                // Most were awake, and only nothing reached them.
                for index in 0..self.nodes.len() {
                    if self.below(4) == 0 {
                        self.feed(index, Event::Woke)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn heal(&mut self, index: usize) -> Result<(), String> {
        self.tell(format!("{index} healed"));
        if std::mem::take(&mut self.nodes[index].paused) {
            self.feed(index, Event::Woke)?;
        }
        self.nodes[index].api_away = false;
        self.cut.retain(|(a, b)| *a != index && *b != index);
        self.start_engine(index);
        Ok(())
    }

    fn heal_all(&mut self) {
        self.cut.clear();
        for index in 0..self.nodes.len() {
            self.nodes[index].paused = false;
            self.nodes[index].api_away = false;
            self.start_engine(index);
        }
    }
}
