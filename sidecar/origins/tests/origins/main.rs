//! Origins over a real engine and a real HTTP server that counts, stalls, cuts and fails.
#![expect(clippy::expect_used, reason = "helpers of tests: a broken fixture ends the test")]

mod backends;
mod bench;
mod between;
mod fills;
mod freshness;
mod outage;
mod parts;
mod server;
