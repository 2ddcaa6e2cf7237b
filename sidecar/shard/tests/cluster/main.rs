//! Real engines, real sidecars, one machine: each member has its own loopback address, so that ports, peers and the
//! cluster bus are those of a pod. The register is in memory.

#![expect(clippy::expect_used, reason = "a test says what should hold")]

mod failover;
mod fixture;
mod lifecycle;
