//! Hygiene against a real engine in cluster mode: each fault is injected, named, remedied, and the effect measured.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test binary: its helpers may fail, its figures are read"
)]

#[path = "engine/common.rs"]
mod common;
#[path = "engine/explain.rs"]
mod explain;
#[path = "engine/faults.rs"]
mod faults;
#[path = "engine/ledger.rs"]
mod ledger;
#[path = "engine/orphans.rs"]
mod orphans;
#[path = "engine/overrun.rs"]
mod overrun;
#[path = "engine/service.rs"]
mod service;
#[path = "engine/store.rs"]
mod store;
