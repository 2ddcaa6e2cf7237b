//! The operator's shell: effects around the pure core. One pass is observe → validate → plan → build → apply → act
//! → report (`reconcile.rs`); everything here reads or writes, nothing here decides.

pub mod config;
pub mod leader;
pub mod metrics;
pub mod run;
pub mod tasks;
pub mod telemetry;

pub mod controller;
pub mod crd;
pub mod reconcile;

pub mod act;
pub mod apply;
pub mod events;
pub mod observe;
pub mod report;

pub mod backoff;
pub mod error;
pub mod fresh;
pub mod kept;
pub mod shared;
pub mod sidecar_client;
pub mod still;
pub mod words;

pub mod admin;
pub mod webhook;
