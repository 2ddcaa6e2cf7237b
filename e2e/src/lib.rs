//! The end-to-end harness: a real Kubernetes on one machine (or a context that is named), the project's
//! images and chart on it, and what tests need to use, break and inspect stores.

pub mod error;
pub mod progress;
pub mod wait;

pub mod cgroup;
pub mod containerd;
pub mod controlplane;
pub mod net;
pub mod node;
pub mod paths;
pub mod pki;
pub mod process;

pub mod addons;
pub mod agent;
pub mod client;
pub mod cluster;
pub mod diagnose;
pub mod helm;
pub mod image;
pub mod images;
pub mod kind;
pub mod namespace;
pub mod prometheus;
pub mod provision;
pub mod scrape;
pub mod tunnel;

pub mod http;
pub mod payload;
pub mod signature;

pub mod demo;
pub mod fault;
pub mod hygiene;
pub mod ledger;
pub mod load;
pub mod orphans;
pub mod record;
pub mod store;
