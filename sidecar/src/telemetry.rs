//! Logs: JSON lines in a pod, plain text for people, and a filter that can be changed while running.

use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// Until told otherwise: events of our own that a person may have to act on. The API client's own errors are told
/// by who called it, once; s3s tells every refusal of a client as an error.
const FILTER: &str =
    "info,redis=warn,hyper=warn,hyper_util=warn,kube=warn,kube_client::client::builder=off,s3s=off";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Text,
}

/// The filter of the running process. Clones change the same one.
#[derive(Clone, Debug)]
pub struct LogFilter(Arc<reload::Handle<EnvFilter, Registry>>);

impl LogFilter {
    pub fn get(&self) -> String {
        self.0.with_current(|filter| format!("{filter}\n")).unwrap_or_default()
    }

    /// `RUST_LOG`'s syntax.
    pub fn set(&self, filter: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if filter.is_empty() {
            return Err("the filter is empty: name a level, or target=level".into());
        }
        self.0.reload(EnvFilter::try_new(filter)?)?;
        tracing::info!(filter, "log filter changed");
        Ok(())
    }
}

/// Starts logging to standard error; the filter comes from `RUST_LOG` when that is set.
pub fn start(format: Format) -> LogFilter {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = match format {
        Format::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        Format::Text => fmt::layer().with_writer(std::io::stderr).with_ansi(false).boxed(),
    };
    // A second start (tests in one process) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    LogFilter(Arc::new(handle))
}
