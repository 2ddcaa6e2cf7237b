//! Prometheus and Alertmanager beside the cluster: scrape the project's pods, load the chart's rules, send
//! alerts to the operator's webhook.

use std::{path::PathBuf, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    http::Http,
    net,
    paths::{self, Paths},
    process, scrape,
    wait::{self, Seen},
};

const PROMETHEUS: &str = "prometheus";
const ALERTMANAGER: &str = "alertmanager";
/// The processes that a healthy cluster runs for monitoring.
pub const EXPECTED: &[&str] = &[PROMETHEUS, ALERTMANAGER];
/// A test waits for alerts: scrape and evaluate as often as a busy machine can stand.
const INTERVAL: &str = "2s";
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Where alerts go: the operator's webhook and the token it wants.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub url: String,
    pub bearer_token: Option<String>,
}

pub fn prometheus_url() -> String {
    format!("http://{}:9090", net::host())
}

pub fn alertmanager_url() -> String {
    format!("http://{}:9093", net::host())
}

pub async fn start(paths: &Paths) -> Result<()> {
    let folder = paths.state.join("monitoring");
    write_configuration(paths, None)?;
    let file = |name: &str| folder.join(name).display().to_string();
    let arguments = [
        format!("--config.file={}", file("prometheus.json")),
        format!("--storage.tsdb.path={}", file("tsdb")),
        format!("--web.listen-address={}:9090", net::host()),
    ];
    process::start(paths, PROMETHEUS, "prometheus".as_ref(), &arguments)?;
    let arguments = [
        format!("--config.file={}", file("alertmanager.json")),
        format!("--storage.path={}", file("alerts")),
        format!("--web.listen-address={}:9093", net::host()),
        // Alone: no gossip port on the machine's other interfaces.
        "--cluster.listen-address=".to_owned(),
    ];
    process::start(paths, ALERTMANAGER, "prometheus-alertmanager".as_ref(), &arguments)?;
    wait_ready().await
}

async fn wait_ready() -> Result<()> {
    let http = Http::default();
    for url in [prometheus_url(), alertmanager_url()] {
        wait::until(format!("{url} is ready"), READY_LIMIT, || {
            let (http, url) = (http.clone(), format!("{url}/-/ready"));
            async move { http.text(&url).await.map(Seen::Yes) }
        })
        .await?;
    }
    Ok(())
}

pub async fn stop(paths: &Paths) -> Result<()> {
    for name in EXPECTED {
        process::end(paths, name, Signal::SIGTERM).await?;
    }
    Ok(())
}

/// Alerts go there from now on.
pub async fn send_alerts_to(paths: &Paths, webhook: &Webhook) -> Result<()> {
    write_configuration(paths, Some(webhook))?;
    reload(paths).await
}

/// Loads a rule file (the groups of a PrometheusRule) under a name; the same name replaces it.
pub async fn load_rules(paths: &Paths, name: &str, yaml: &str) -> Result<()> {
    let file = rules(paths, name);
    paths::write(&file, yaml)?;
    process::run("promtool", &["check", "rules", &file.display().to_string()]).await?;
    reload(paths).await
}

/// The rules of that name are gone and no alert goes to a webhook: what comes after shall not hear of it.
pub async fn forget(paths: &Paths, name: &str) -> Result<()> {
    let file = rules(paths, name);
    std::fs::remove_file(&file).map_err(Error::io("remove", &file))?;
    write_configuration(paths, None)?;
    reload(paths).await
}

fn rules(paths: &Paths, name: &str) -> PathBuf {
    paths.state.join("monitoring/rules").join(format!("{name}.yaml"))
}

/// Both read their configuration again on SIGHUP; whether it was taken shows in their own metrics.
async fn reload(paths: &Paths) -> Result<()> {
    for name in EXPECTED {
        let id = process::running(paths, name).ok_or_else(|| Error::Wrong(format!("{name} does not run")))?;
        id.signal(Signal::SIGHUP);
    }
    wait_ready().await
}

fn write_configuration(paths: &Paths, webhook: Option<&Webhook>) -> Result<()> {
    let folder = paths.state.join("monitoring");
    paths::make_folder(&folder.join("rules"))?;
    if !scrape::file(paths).exists() {
        paths::write(&scrape::file(paths), "[]")?;
    }
    // JSON is YAML: nothing needs quoting by hand.
    paths::write(&folder.join("prometheus.json"), format!("{:#}\n", prometheus(paths)))?;
    paths::write(&folder.join("alertmanager.json"), format!("{:#}\n", alertmanager(webhook)))
}

fn prometheus(paths: &Paths) -> Value {
    json!({
        "global": { "scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL },
        "rule_files": [paths.state.join("monitoring/rules/*.yaml")],
        "alerting": { "alertmanagers": [{ "static_configs": [{ "targets": [format!("{}:9093", net::host())] }] }] },
        "scrape_configs": [{
            "job_name": "blobstore",
            "file_sd_configs": [{ "files": [scrape::file(paths)] }],
        }],
    })
}

fn alertmanager(webhook: Option<&Webhook>) -> Value {
    let receiver = match webhook {
        None => json!({ "name": "operator" }),
        Some(Webhook { url, bearer_token }) => {
            let mut target = json!({ "url": url, "send_resolved": true });
            if let Some(token) = bearer_token {
                target["http_config"] = json!({ "authorization": { "credentials": token } });
            }
            json!({ "name": "operator", "webhook_configs": [target] })
        }
    };
    json!({
        "route": {
            "receiver": "operator", "group_by": ["alertname", "namespace", "pod"],
            "group_wait": "1s", "group_interval": "2s", "repeat_interval": "1m",
        },
        "receivers": [receiver],
    })
}
