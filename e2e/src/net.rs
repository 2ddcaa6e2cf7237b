//! Addresses of the one-machine cluster. All of them are in 198.18.0.0/15, which no network routes; a sink
//! device swallows what is addressed to a pod or service that does not exist, so nothing leaves the machine.

use std::path::Path;

use crate::{
    error::Result,
    paths::{self, Paths},
    process,
};

pub const PODS: &str = "198.18.0.0/17";
pub const SERVICES: &str = "198.19.0.0/16";
/// The address of the Service `kubernetes`: the first of the range.
pub const API_SERVICE: &str = "198.19.0.1";
pub const DNS_SERVICE: &str = "198.19.0.10";
const SINK: &str = "e2e-sink";
/// Routes of real pods are /32 without a metric; the sink only gets what they leave.
const SINK_METRIC: &str = "4000";

/// Marks the rules that cut a pod off, so that they can be told from anyone else's.
pub const RULE_COMMENT: &str = "blobstore-e2e";

/// Every node has a host address of its own: kubelets and API server listen there, not on loopback.
pub fn node_address(node: u8) -> String {
    format!("198.18.255.{node}")
}

pub fn pod_range(node: u8) -> String {
    format!("198.18.{node}.0/24")
}

/// Where the control plane, Prometheus and Alertmanager listen.
pub fn host() -> String {
    node_address(1)
}

pub async fn up(nodes: u8) -> Result<()> {
    if process::run("ip", &["link", "show", SINK]).await.is_err() {
        // Some kernels come without the dummy driver; an empty bridge swallows packets as well.
        if process::run("ip", &["link", "add", SINK, "type", "dummy"]).await.is_err() {
            process::run("ip", &["link", "add", SINK, "type", "bridge"]).await?;
        }
    }
    for node in 1..=nodes {
        let address = format!("{}/32", node_address(node));
        process::run("ip", &["address", "replace", &address, "dev", SINK]).await?;
    }
    process::run("ip", &["link", "set", SINK, "up"]).await?;
    process::run("ip", &["route", "replace", SERVICES, "dev", SINK]).await?;
    process::run("ip", &["route", "replace", PODS, "dev", SINK, "metric", SINK_METRIC]).await?;
    paths::write(Path::new("/proc/sys/net/ipv4/ip_forward"), "1")
}

/// Removes the sink with its routes and addresses, the rules of kube-proxy and kubelets, and what CNI left behind.
pub async fn down(paths: &Paths) -> Result<()> {
    if let Ok(proxy) = paths.component("kube-proxy") {
        // It reports rules that were never there as an error; what matters is that none remain.
        let _rules_were_absent = process::run(proxy, &["--cleanup"]).await.is_err();
    }
    remove_kubelet_chains().await?;
    remove_cuts().await?;
    for namespace in cni_namespaces().await? {
        process::run("ip", &["netns", "delete", &namespace]).await?;
    }
    if process::run("ip", &["link", "show", SINK]).await.is_ok() {
        process::run("ip", &["link", "delete", SINK]).await?;
    }
    Ok(())
}

/// The chains that a kubelet makes and never removes, by table. Another kubelet of this machine, if there is one, makes
/// them again within a minute.
const KUBELET_CHAINS: &[(&str, &str)] = &[
    ("mangle", "KUBE-IPTABLES-HINT"),
    ("mangle", "KUBE-KUBELET-CANARY"),
    ("nat", "KUBE-KUBELET-CANARY"),
    ("filter", "KUBE-KUBELET-CANARY"),
    ("filter", "KUBE-FIREWALL"),
];

async fn remove_kubelet_chains() -> Result<()> {
    for program in ["iptables", "ip6tables"] {
        for (table, chain) in KUBELET_CHAINS {
            let run = async |words: &[&str]| {
                process::run(program, &[&["--wait", "--table", table], words].concat()).await
            };
            if run(&["--list-rules", chain]).await.is_err() {
                continue;
            }
            for from in ["INPUT", "OUTPUT"] {
                while run(&["--check", from, "--jump", chain]).await.is_ok() {
                    run(&["--delete", from, "--jump", chain]).await?;
                }
            }
            run(&["--flush", chain]).await?;
            run(&["--delete-chain", chain]).await?;
        }
    }
    Ok(())
}

/// Rules that a test which was ended from outside could not take back.
async fn remove_cuts() -> Result<()> {
    for chain in ["FORWARD", "INPUT"] {
        let rules = process::run("iptables", &["--wait", "--list-rules", chain]).await?;
        for rule in rules.lines().filter(|rule| rule.contains(RULE_COMMENT)) {
            let words = rule.split_whitespace().skip(1).map(|word| word.trim_matches('"'));
            let delete: Vec<&str> = ["--wait", "--delete"].into_iter().chain(words).collect();
            process::run("iptables", &delete).await?;
        }
    }
    Ok(())
}

/// Network namespaces that our containerds made and did not remove: those of pods that were killed.
async fn cni_namespaces() -> Result<Vec<String>> {
    let list = process::run("ip", &["netns", "list"]).await?;
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| name.starts_with("cni-")).map(str::to_owned).collect())
}

/// The CNI configuration of a node: routed veth pairs. With a bridge, the answer of a Service's pod to a
/// client on the same node would skip the address translation.
pub fn cni_config(node: u8) -> String {
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": format!("e2e-{node}"),
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": pod_range(node) }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
    .to_string()
}

/// Folder of host-local's records of which pod holds which address.
pub fn address_records(node: u8) -> String {
    format!("/var/lib/cni/networks/e2e-{node}")
}
