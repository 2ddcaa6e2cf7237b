//! One struct of settings from flags and environment. Nothing else reads the environment.

use std::net::SocketAddr;

use blobstore_operator_core::context::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Watches BlobStores and keeps their pods, their topology and their memory as asked.
#[derive(Debug, Parser)]
#[command(name = "blobstore-operator", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator.
    Run(Box<Config>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Health, metrics, log filter and webhooks are served here.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Namespaces to watch, separated by commas; empty: all.
    #[arg(long, env = "WATCH_NAMESPACES", default_value = "")]
    pub watch_namespaces: String,
    /// Image of the sidecar, its installer and the launcher.
    #[arg(long, env = "SIDECAR_IMAGE", default_value = concat!("localhost/blobstore-sidecar:", env!("CARGO_PKG_VERSION")))]
    pub sidecar_image: String,
    /// Pull policy of the sidecar's image and the engine's. `IfNotPresent` is left to Kubernetes; another one is
    /// part of every pod's template, and changing it rolls all stores.
    #[arg(long, env = "IMAGE_PULL_POLICY", default_value = "IfNotPresent",
        value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: String,
    /// Namespace of the monitoring: the stores' network policies let its pods scrape the sidecars.
    #[arg(long, env = "MONITORING_NAMESPACE")]
    pub monitoring_namespace: Option<String>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or per module.
    #[arg(long, env = "LOG_FILTER", default_value = "info")]
    pub log_filter: String,
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Of several operators one leads and the others wait. Off only for work on one machine.
    #[arg(long, env = "LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_election: bool,
    /// Lease of the leader election, in the operator's own namespace.
    #[arg(long, env = "LEASE_NAME", default_value = "blobstore-operator")]
    pub lease_name: String,
    /// This pod: identity in the Lease and in events. Default: the host's name and a random number.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// The operator's own namespace. Default: the one of the credentials.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
    /// Bearer token that webhooks may come with (Alertmanager).
    #[arg(long, env = "WEBHOOK_TOKEN", hide_env_values = true)]
    pub webhook_token: Option<String>,
    /// Key of the HMAC-SHA256 signature that webhooks may come with (Grafana).
    #[arg(long, env = "WEBHOOK_HMAC_KEY", hide_env_values = true)]
    pub webhook_hmac_key: Option<String>,
    /// Passes that run at once.
    #[arg(long, env = "CONCURRENCY", default_value_t = CONCURRENCY_DEFAULT,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,
}

/// A pass mostly waits for sidecars and the API server; eight passes keep 50 stores under a second each round
/// and hold at most eight stores' observations in memory.
pub const CONCURRENCY_DEFAULT: u16 = 8;

/// What is watched: everything, or a list of namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaces(Vec<String>),
}

impl Config {
    /// The namespaces to watch.
    pub fn scope(&self) -> Scope {
        let mut names: Vec<String> = self
            .watch_namespaces
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        if names.is_empty() { Scope::Cluster } else { Scope::Namespaces(names) }
    }

    /// What the operator itself brings into the stores it builds.
    pub fn context(&self, own_namespace: &str) -> Context {
        let named = |text: &String| (!text.is_empty()).then(|| text.clone());
        Context {
            sidecar_image: self.sidecar_image.clone(),
            operator_namespace: own_namespace.to_owned(),
            monitoring_namespace: self.monitoring_namespace.as_ref().and_then(named),
            image_pull_policy: named(&self.image_pull_policy).filter(|policy| policy != "IfNotPresent"),
        }
    }

    /// Our name in Leases and events: unique per process even without a pod.
    pub fn identity(&self) -> String {
        match &self.pod_name {
            Some(pod) if !pod.is_empty() => pod.clone(),
            _ => format!("{}-{:08x}", host_name(), rand::random::<u32>()),
        }
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "operator".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Config {
        let line = ["blobstore-operator", "run"].iter().chain(arguments);
        match Cli::try_parse_from(line).expect("arguments parse").command {
            Command::Run(config) => *config,
            Command::Crds => panic!("run was asked for"),
        }
    }

    #[test]
    fn empty_namespace_list_watches_the_cluster() {
        assert_eq!(config(&["--watch-namespaces", " , "]).scope(), Scope::Cluster);
    }

    #[test]
    fn namespaces_are_sorted_and_unique() {
        let scope = config(&["--watch-namespaces", "b, a,b"]).scope();
        assert_eq!(scope, Scope::Namespaces(vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn identity_is_the_pod_or_unique() {
        assert_eq!(config(&["--pod-name", "op-0"]).identity(), "op-0");
        let anonymous = config(&["--pod-name", ""]);
        assert_ne!(anonymous.identity(), anonymous.identity());
    }

    #[test]
    fn settings_of_stores_come_from_flags() {
        let plain = config(&["--monitoring-namespace", ""]).context("ops");
        assert_eq!((plain.monitoring_namespace, plain.image_pull_policy), (None, None));
        assert_eq!(plain.operator_namespace, "ops");
        let set = config(&["--monitoring-namespace", "mon", "--image-pull-policy", "Never"]).context("ops");
        assert_eq!(set.monitoring_namespace.as_deref(), Some("mon"));
        assert_eq!(set.image_pull_policy.as_deref(), Some("Never"));
    }

    #[test]
    fn leader_election_can_be_switched_off() {
        assert!(!config(&["--leader-election", "false"]).leader_election);
        assert!(config(&[]).leader_election);
    }
}
