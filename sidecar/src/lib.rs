//! The sidecar's shell: ports, HTTP, authentication, forwarding, admin and the commands. What a blob is lives in
//! `blobstore-sidecar-store`, who serves in `-shard`, what leaks in `-hygiene`; here they meet their clients.

pub mod actions;
pub mod admin;
pub mod allocator;
pub mod auth;
pub mod body;
pub mod cli;
pub mod config;
pub mod control;
pub mod dev;
pub mod error;
pub mod exec;
pub mod finish;
pub mod forward;
mod heap;
pub mod hooks;
pub mod io;
pub mod lane;
pub mod metrics;
pub mod origins;
pub mod peer;
pub mod peer_port;
pub mod peers;
pub mod ports;
pub mod prestop;
pub mod render;
pub mod route;
pub mod s3;
pub mod serve;
pub mod server;
pub mod shell;
mod spare;
pub mod telemetry;
pub mod tls;
pub mod wire;
pub mod xml;
