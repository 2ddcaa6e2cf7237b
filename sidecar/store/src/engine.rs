//! The engine: payload lanes, and the `redis` crate's connection for everything without payload.

pub(crate) mod errors;
pub(crate) mod lane;
pub(crate) mod lanes;
pub(crate) mod meta;
pub(crate) mod resp;
mod socket;

pub(crate) use lane::{Expected, Lane, Value};
pub(crate) use lanes::{LaneLease, Lanes, Parking};
pub(crate) use meta::Meta;
pub(crate) use resp::{Outgoing, Reply};
