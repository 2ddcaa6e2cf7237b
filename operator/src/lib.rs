//! The operator's shell: effects around the pure core. One pass is observe → validate → plan → build → apply → act
//! → report (`reconcile.rs`); everything here reads or writes, nothing here decides.

pub mod config;
pub mod error;
pub mod metrics;
pub mod tasks;
pub mod telemetry;

pub mod sidecar_client;

pub mod admin;
pub mod leader;
pub mod webhook;
