//! The sidecar's decisions, pure: no clock, no sockets, no runtime. Time and randomness are arguments.

pub mod ledger;
