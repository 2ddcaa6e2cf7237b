//! Read-through origins in the pod: opened from the document, and their buckets made where they are at home.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use blobstore_sidecar_api::config::{ClientsConfig, LimitsConfig};
use blobstore_sidecar_api::origins::OriginConfig;
use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_origins::Origins;
use blobstore_sidecar_runtime::{authority::Owner, tasks};
use blobstore_sidecar_store::{ErrorKind, Store, StoreError, Versioning};
use tokio::task::JoinHandle;

use crate::shell::Shell;

/// A bucket that somebody deleted is back within this: as long as the resource names it, it is there.
const LOOK: Duration = Duration::from_secs(5);
/// While the engine starts, or a home has no owner.
const LOOK_SOON: Duration = Duration::from_millis(200);

pub fn open(
    configs: Vec<OriginConfig>,
    clients: &ClientsConfig,
    limits: &LimitsConfig,
    store: &Store,
) -> Origins {
    let wait = Duration::from_millis(limits.admission_wait_ms);
    Origins::new(configs, clients, wait, Arc::new(store.clone()))
}

/// Keeps the origins' buckets in being; without origins there is nothing to do.
pub fn keep(shell: &Arc<Shell>) -> Option<JoinHandle<()>> {
    let buckets: BTreeSet<BucketName> =
        shell.origins.buckets().filter_map(|name| BucketName::parse(name).ok()).collect();
    let shell = Arc::downgrade(shell);
    (!buckets.is_empty()).then(|| tasks::spawn("origin_buckets", keep_buckets(shell, buckets)))
}

async fn keep_buckets(shell: Weak<Shell>, buckets: BTreeSet<BucketName>) {
    while let Some(shell) = shell.upgrade() {
        let mut pause = LOOK;
        for bucket in &buckets {
            if let Err(error) = make(&shell, bucket).await {
                tracing::debug!(bucket = bucket.as_str(), %error, "an origin's bucket cannot be made yet");
                pause = LOOK_SOON;
            }
        }
        drop(shell);
        tokio::time::sleep(pause).await;
    }
}

/// At its home only: the other pods have nothing to do.
async fn make(shell: &Shell, bucket: &BucketName) -> Result<(), StoreError> {
    let store = &shell.store;
    if !matches!(shell.authority.owner(store.home_slot_of(bucket)), Owner::Here(_)) {
        return Ok(());
    }
    if let Some(info) = store.bucket_here(bucket).await? {
        if info.versioning() == Versioning::Enabled {
            // From before the resource named it: each refill would be kept, and nothing would end that.
            store.set_versioning(bucket, Versioning::Suspended).await?;
            tracing::warn!(bucket = bucket.as_str(), "the bucket shows an origin: it keeps no more versions");
        }
        return Ok(());
    }
    match store.create_bucket(bucket, None).await {
        Ok(_) => {
            tracing::info!(bucket = bucket.as_str(), "made the bucket of an origin");
            Ok(())
        }
        Err(error) if error.kind == ErrorKind::BucketExists => Ok(()),
        Err(error) => Err(error),
    }
}
