//! The contracts of the sidecar that outside things rely on: ports, paths, configuration document, admin JSON,
//! the shard record and the launcher's boot protocol. Nouns only: no logic beyond parsing and rendering.

pub mod action;
pub mod boot;
pub mod config;
pub mod domains;
pub mod memory;
pub mod origins;
pub mod ports;
pub mod record;
pub mod report;
pub mod topology;
