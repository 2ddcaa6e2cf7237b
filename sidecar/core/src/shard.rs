//! The shard protocol, pure: one member's state machine. `Machine::step(event, now)` answers with effects; nothing
//! here sleeps, writes or asks the time. The model test in `shard/model.rs` drives the same machine through faults.

mod acks;
mod band;
mod decide;
mod machine;
mod reign;
mod types;

#[cfg(test)]
mod model;

pub use band::{Band, SLOTS, band, slot, tag_in};
pub use machine::Machine;
pub use types::{
    Command, Effect, EngineFacts, Event, Millis, Outcome, Probe, ProbeStatus, ReplicaAck, Round, Rules, Seen,
    Snapshot, Why,
};
