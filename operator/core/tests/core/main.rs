//! The core's decisions, tested as tables, timelines, goldens and properties. One binary: linking is what costs.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod build;
mod diagnose;
mod formation;
mod loss;
mod remediate;
mod roll;
mod safety;
mod status;
mod support;
mod validate;
