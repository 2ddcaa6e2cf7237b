//! Logs: JSON lines (or text for people) on standard error, with a filter that can be changed while running.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::LogFormat;

/// Reads and changes the filter of the running process.
#[derive(Clone, Debug)]
pub struct Filter(reload::Handle<EnvFilter, Registry>);

#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("log filter {text:?}: {reason}")]
    Parse { text: String, reason: String },
    #[error("the log subscriber is gone")]
    Gone,
    #[error("install the log subscriber: {0}")]
    Install(String),
}

fn parse(text: &str) -> Result<EnvFilter, FilterError> {
    EnvFilter::try_new(text)
        .map_err(|error| FilterError::Parse { text: text.to_owned(), reason: error.to_string() })
}

/// Installs the subscriber of this process.
pub fn start(filter: &str, format: LogFormat) -> Result<Filter, FilterError> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let lines = match format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Text => fmt::layer().with_ansi(false).with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer)
        .with(lines)
        .try_init()
        .map_err(|error| FilterError::Install(error.to_string()))?;
    Ok(Filter(handle))
}

impl Filter {
    /// The filter in force.
    pub fn get(&self) -> Result<String, FilterError> {
        self.0.with_current(ToString::to_string).map_err(|_| FilterError::Gone)
    }

    /// Replaces it; the old one stays when `text` does not parse.
    pub fn set(&self, text: &str) -> Result<(), FilterError> {
        self.0.reload(parse(text)?).map_err(|_| FilterError::Gone)
    }

    /// A filter bound to no subscriber, for tests of the HTTP surface.
    pub fn detached() -> (Self, impl Send) {
        let (layer, handle) = reload::Layer::<EnvFilter, Registry>::new(EnvFilter::new("info"));
        (Self(handle), layer)
    }
}
