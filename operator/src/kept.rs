//! What the last pass read of a store, kept while no watch tells of a change: reading again would tell the same.
//! A pass on kept reads may only find that there is nothing to do; whoever wants to write reads anew first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blobstore_operator_api::BlobStore;
use blobstore_operator_core::action::Plan;
use blobstore_operator_core::observed::Observed;
use kube::core::PartialObjectMeta;
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

/// Read anew after this long at the latest, whatever the watches say. It bounds what a watch that is silently dead,
/// or an object without a watch (claims) can hide: fifty stores then cost a read a second.
const AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// A store's reads take 20 to 60 kB. More stores than this are read on every pass, as if nothing were kept.
const STORES_MAX: usize = 256;

/// Namespace and name of a store.
pub type Key = (String, String);

/// One store as it was read.
#[derive(Debug)]
pub struct Kept {
    pub store: BlobStore,
    /// Without the sidecars' answers: they are asked on every pass.
    pub observed: Observed,
    pub wanted: Wanted,
    until: Instant,
}

/// The part of a plan that the children are built from.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    sizes: BTreeMap<u32, u32>,
    claim_sizes: BTreeMap<u32, String>,
    revisions: BTreeMap<u32, String>,
}

impl From<&Plan> for Wanted {
    fn from(plan: &Plan) -> Self {
        Self {
            sizes: plan.sizes.clone(),
            claim_sizes: plan.claim_sizes.clone(),
            revisions: plan.revisions.clone(),
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    kept: BTreeMap<Key, Arc<Kept>>,
    /// Stores that are being read now, and whether a change was heard meanwhile.
    reading: BTreeMap<Key, bool>,
}

/// All stores' reads: bounded by [`STORES_MAX`] and by the passes under way.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Inner>);

/// The reading of one store. What is heard of the store before it ends voids it.
#[derive(Debug)]
pub struct Reading<'a> {
    memory: &'a Memory,
    key: Key,
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept of the very version of the store that the watch holds.
    pub fn get(&self, subject: &PartialObjectMeta<BlobStore>) -> Option<Arc<Kept>> {
        let mut inner = self.inner();
        let key = key(subject);
        let kept = inner.kept.get(&key)?;
        let version = subject.resource_version();
        let current = version.is_some()
            && kept.store.resource_version() == version
            && kept.store.meta().uid == subject.meta().uid
            && subject.meta().deletion_timestamp.is_none()
            && Instant::now() < kept.until;
        if current {
            return Some(Arc::clone(kept));
        }
        inner.kept.remove(&key);
        None
    }

    /// To be called before the first read. A store is read by one pass at a time.
    pub fn read(&self, key: Key) -> Reading<'_> {
        let mut inner = self.inner();
        inner.kept.remove(&key);
        inner.reading.insert(key.clone(), false);
        Reading { memory: self, key }
    }

    /// Something of the store changed.
    pub fn changed(&self, namespace: &str, name: &str) {
        let mut inner = self.inner();
        let key = (namespace.to_owned(), name.to_owned());
        inner.kept.remove(&key);
        if let Some(changed) = inner.reading.get_mut(&key) {
            *changed = true;
        }
    }

    /// A watch failed or began anew: what it did not tell is unknown.
    pub fn unsure(&self) {
        let mut inner = self.inner();
        inner.kept.clear();
        inner.reading.values_mut().for_each(|changed| *changed = true);
    }

    pub fn len(&self) -> usize {
        self.inner().kept.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Reading<'_> {
    /// Keeps what was read, unless something was heard meanwhile. `spread`, from 0 to 1, keeps stores that were
    /// read together from being read together again.
    pub fn keep(self, store: &BlobStore, observed: &Observed, plan: &Plan, spread: f64) {
        let mut inner = self.memory.inner();
        let quiet = inner.reading.get(&self.key) == Some(&false);
        if !quiet || inner.kept.len() >= STORES_MAX {
            return;
        }
        let age = AGE_MAX.mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0);
        let kept = Kept {
            store: store.clone(),
            observed: observed.unasked(),
            wanted: plan.into(),
            until: Instant::now() + age,
        };
        inner.kept.insert(self.key.clone(), Arc::new(kept));
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.memory.inner().reading.remove(&self.key);
    }
}

/// Namespace and name.
pub fn key<K: Resource>(subject: &K) -> Key {
    (subject.namespace().unwrap_or_default(), subject.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::{ObjectMeta, PartialObjectMetaExt};

    fn store(version: &str) -> BlobStore {
        let mut store = BlobStore::new(
            "cart",
            serde_json::from_str("{\"resources\":{\"engine\":{\"limits\":{\"memory\":\"1Gi\"}}}}")
                .expect("a spec"),
        );
        store.metadata = meta(version);
        store
    }

    fn meta(version: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some("cart".to_owned()),
            namespace: Some("shop".to_owned()),
            uid: Some("u-1".to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        }
    }

    fn subject(version: &str) -> PartialObjectMeta<BlobStore> {
        meta(version).into_request_partial()
    }

    fn read(memory: &Memory, meanwhile: impl FnOnce(&Memory)) {
        let reading = memory.read(("shop".to_owned(), "cart".to_owned()));
        meanwhile(memory);
        reading.keep(&store("7"), &Observed::default(), &Plan::default(), 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn reads_are_kept_until_something_is_heard_or_they_are_old() {
        let memory = Memory::default();
        read(&memory, |_| {});
        assert!(memory.get(&subject("7")).is_some());
        memory.changed("shop", "other");
        assert!(memory.get(&subject("7")).is_some(), "another store's change");
        memory.changed("shop", "cart");
        assert!(memory.get(&subject("7")).is_none());
        read(&memory, |_| {});
        memory.unsure();
        assert!(memory.get(&subject("7")).is_none());
        read(&memory, |_| {});
        tokio::time::advance(AGE_MAX).await;
        assert!(memory.get(&subject("7")).is_none());
    }

    #[tokio::test]
    async fn another_version_of_the_store_is_read_anew() {
        let memory = Memory::default();
        read(&memory, |_| {});
        assert!(memory.get(&subject("8")).is_none());
        assert!(memory.is_empty());
    }

    #[tokio::test]
    async fn what_is_heard_while_reading_voids_it() {
        let memory = Memory::default();
        read(&memory, |memory| memory.changed("shop", "cart"));
        assert!(memory.is_empty());
        read(&memory, Memory::unsure);
        assert!(memory.is_empty());
        read(&memory, |_| {});
        assert_eq!(memory.len(), 1);
    }
}
