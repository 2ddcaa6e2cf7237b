//! The chart, installed with the harness's own Helm: never the machine's, never another context.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    cluster::Cluster,
    error::{Error, Result},
    images, paths, process,
};

pub const RELEASE: &str = "blobstore";
pub const NAMESPACE: &str = "blobstore-system";
/// The chart's own wait for the operator; ready in 2 s once its image is there.
const TIMEOUT: &str = "120s";

/// Once per program: an upgrade restarts nothing, but two at once refuse each other.
static INSTALLED: OnceCell<()> = OnceCell::const_new();

pub fn chart() -> PathBuf {
    paths::clone_root().join("charts/blobstore")
}

/// Installs or upgrades the release with the images of this clone and waits for the operator.
pub async fn install(cluster: &Cluster, more: &Value) -> Result<()> {
    let mut values = values()?;
    merge(&mut values, more);
    let file = tempfile::NamedTempFile::new().map_err(Error::io("make a file of", "values"))?;
    paths::write(file.path(), values.to_string())?;
    let (chart, values) = (chart().display().to_string(), file.path().display().to_string());
    let names = ["upgrade", "--install", RELEASE, &chart, "--namespace", NAMESPACE, "--create-namespace"];
    helm(cluster, &[names.as_slice(), &["--values", &values, "--wait", "--timeout", TIMEOUT]].concat())
        .await?;
    Ok(())
}

/// The release as tests of stores want it, webhook included; the first of them in a program installs it.
pub async fn installed(cluster: &Cluster) -> Result<()> {
    let values = json!({ "webhook": { "enabled": true } });
    INSTALLED.get_or_try_init(|| install(cluster, &values)).await.copied()
}

pub async fn uninstall(cluster: &Cluster) -> Result<()> {
    let names = ["uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found"];
    helm(cluster, &[names.as_slice(), &["--wait", "--timeout", TIMEOUT]].concat()).await?;
    Ok(())
}

/// The chart's alert rules, as Prometheus loads them.
pub async fn alert_rules(cluster: &Cluster) -> Result<Value> {
    let chart = chart().display().to_string();
    // Rendered without a look at the cluster: Helm would assume a version of long ago.
    let rules = ["--set", "monitoring.rules.enabled=true", "--show-only", "templates/prometheusrule.yaml"];
    let names = ["template", RELEASE, &chart, "--kube-version", "1.34.0"];
    let text = helm(cluster, &[names.as_slice(), &rules].concat()).await?;
    let resource: Value = serde_yaml_ng::from_str(&text).map_err(Error::other("read the chart's rules"))?;
    Ok(resource["spec"].clone())
}

/// Any Helm command against this cluster.
pub async fn helm(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let kubeconfig = cluster.kubeconfig.display().to_string();
    let program = cluster.paths.component("helm")?;
    process::run(program, &[&["--kubeconfig", kubeconfig.as_str()], arguments].concat()).await
}

fn values() -> Result<Value> {
    let image = |name: &str| {
        let (repository, tag) = name.rsplit_once(':')?;
        Some(json!({ "repository": repository, "tag": tag }))
    };
    let (Some(operator), Some(sidecar)) = (image(images::OPERATOR), image(images::SIDECAR)) else {
        return Err(Error::Wrong("the images have no tags".to_owned()));
    };
    Ok(json!({ "image": { "operator": operator, "sidecar": sidecar, "pullPolicy": "IfNotPresent" } }))
}

/// Objects are merged key by key, anything else is replaced: as Helm does with values.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (into, from) => *into = from.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_values_win_and_the_rest_stays() {
        let mut values = json!({ "image": { "tag": "a", "repository": "r" }, "replicas": 1 });
        merge(&mut values, &json!({ "image": { "tag": "b" }, "operator": { "replicas": 2 } }));
        let want = json!({
            "image": { "tag": "b", "repository": "r" }, "replicas": 1, "operator": { "replicas": 2 },
        });
        assert_eq!(values, want);
    }
}
