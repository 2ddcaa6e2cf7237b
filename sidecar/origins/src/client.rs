//! One open client of one origin: the `object_store` behind it and how it was opened. Opening connects nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use blobstore_sidecar_api::origins::{OriginConfig, OriginSource};
use object_store::aws::AmazonS3Builder;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

mod credentials;
mod transport;

pub(crate) use credentials::Credentials;
pub(crate) use transport::{IDLE_CONNECTIONS_MAX, IfModifiedSince, Transport, Unsized, Witness};

use crate::failure::{Failure, FailureKind};

/// One more try, for a pooled connection that the origin closed just then, and to go on where a body broke off. More
/// would be the breaker's business.
const RETRIES_MAX: usize = 1;
/// A request that took this long already is not tried again: its reader has waited enough.
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What tells clients apart: same key, same client.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey {
    pub(crate) origin: Arc<str>,
    pub(crate) credentials: Credentials,
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// An open client. Its connections close with it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) store: Arc<dyn ObjectStore>,
}

#[derive(Clone, Debug)]
struct Connector(Transport);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

impl Client {
    pub(crate) fn open(config: &OriginConfig, credentials: &Credentials) -> Result<Self, Failure> {
        let refused = |cause: &dyn fmt::Display| {
            let message = format!("the origin {} cannot be opened: {cause}", config.name);
            Failure::new(FailureKind::Refused, message)
        };
        let connector = || Transport::open(config, credentials).map(Connector).map_err(|e| refused(&e));
        let store: Opened = match &config.source {
            OriginSource::S3 { .. } => s3(&config.source, credentials, connector()?),
            OriginSource::Gcs { .. } => gcs(&config.source, credentials, connector()?),
            OriginSource::Azure { .. } => azure(&config.source, credentials, connector()?),
            OriginSource::Http { url } => HttpBuilder::new()
                // With a slash at its end, object_store would make it two.
                .with_url(url.trim_end_matches('/'))
                .with_client_options(ClientOptions::new().with_allow_http(true))
                .with_retry(retry())
                .with_http_connector(connector()?)
                .build()
                .map(|store| Arc::new(store) as _),
            OriginSource::File { path } => {
                LocalFileSystem::new_with_prefix(path).map(|store| Arc::new(store) as _)
            }
        };
        store.map(|store| Self { store }).map_err(|error| refused(&error))
    }
}

type Opened = object_store::Result<Arc<dyn ObjectStore>>;

fn s3(source: &OriginSource, credentials: &Credentials, connector: Connector) -> Opened {
    let mut builder =
        AmazonS3Builder::new().with_allow_http(true).with_retry(retry()).with_http_connector(connector);
    if let OriginSource::S3 { bucket, region, endpoint, virtual_hosted } = source {
        builder = builder
            .with_bucket_name(bucket)
            .with_region(region)
            .with_virtual_hosted_style_request(*virtual_hosted);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
    }
    builder = match (&credentials.access_key, &credentials.secret_key) {
        (Some(id), Some(secret)) => builder.with_access_key_id(id).with_secret_access_key(secret),
        _ => builder.with_skip_signature(true),
    };
    if let Some(token) = &credentials.session_token {
        builder = builder.with_token(token);
    }
    builder.build().map(|store| Arc::new(store) as _)
}

fn gcs(source: &OriginSource, credentials: &Credentials, connector: Connector) -> Opened {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(retry())
        .with_http_connector(connector);
    if let OriginSource::Gcs { bucket, endpoint } = source {
        builder = builder.with_bucket_name(bucket);
        if let Some(endpoint) = endpoint {
            builder = builder.with_base_url(endpoint);
        }
    }
    builder = match &credentials.service_account {
        Some(json) => builder.with_service_account_key(json),
        None => builder.with_skip_signature(true),
    };
    builder.build().map(|store| Arc::new(store) as _)
}

fn azure(source: &OriginSource, credentials: &Credentials, connector: Connector) -> Opened {
    let mut builder =
        MicrosoftAzureBuilder::new().with_allow_http(true).with_retry(retry()).with_http_connector(connector);
    if let OriginSource::Azure { account, container, endpoint } = source {
        builder = builder.with_account(account).with_container_name(container);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
    }
    builder = match (&credentials.account_key, &credentials.sas_token) {
        (Some(key), _) => builder.with_access_key(key),
        (None, Some(sas)) => builder.with_config(AzureConfigKey::SasKey, sas),
        (None, None) => builder.with_skip_signature(true),
    };
    builder.build().map(|store| Arc::new(store) as _)
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: RETRY_PAUSE, max_backoff: RETRY_PAUSE, base: 2.0 },
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIMEOUT,
    }
}
