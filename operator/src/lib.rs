//! The operator's shell: effects around the pure core. One pass is observe → validate → plan → build → apply → act
//! → report (`reconcile.rs`); everything here reads or writes, nothing here decides.

pub mod config;
pub mod telemetry;
pub mod metrics;
pub mod tasks;
pub mod run;
pub mod leader;

pub mod controller;
pub mod reconcile;
pub mod crd;

pub mod observe;
pub mod apply;
pub mod act;
pub mod report;
pub mod events;

pub mod shared;
pub mod backoff;
pub mod fresh;
pub mod sidecar_client;
pub mod error;

pub mod admin;
pub mod webhook;
