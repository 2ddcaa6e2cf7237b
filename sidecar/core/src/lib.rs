//! The sidecar's decisions, pure: no clock, no sockets, no runtime. Time and randomness are arguments.

pub mod checksum;
pub mod chunk;
pub mod clock;
pub mod etag;
pub mod generation;
pub mod glob;
pub mod hygiene;
pub mod key;
pub mod ledger;
pub mod lifecycle;
pub mod list;
pub mod manifest;
pub mod pack;
pub mod partition;
pub mod parts;
pub mod precondition;
pub mod range;
pub mod record;
pub mod shard;
pub mod tar;
pub mod version;
