//! The LRU of client handles (engines, peers, origins), keyed by endpoint and credentials. A handle in use outlives
//! its eviction and closes with its last user. Opening is the caller's closure: no client library is named here.

use std::fmt::Debug;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use prometheus::IntCounter;

use crate::metrics::counter;

static CLIENTS_OPENED: LazyLock<IntCounter> =
    LazyLock::new(|| counter("blobstore_sidecar_clients_opened_total", "Client handles opened."));
static CLIENTS_EVICTED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter("blobstore_sidecar_clients_evicted_total", "Client handles that left the LRU by size or age.")
});
static CLIENTS_CLOSED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter("blobstore_sidecar_clients_closed_total", "Client handles whose last user has let go.")
});

/// Shows the counters before the first handle is opened.
pub fn register() {
    for counter in [&CLIENTS_OPENED, &CLIENTS_EVICTED, &CLIENTS_CLOSED] {
        LazyLock::force(counter);
    }
}

/// A client that counts its end: dropped by the last of the LRU and its users.
#[derive(Debug)]
pub struct Handle<C>(C);

impl<C> Deref for Handle<C> {
    type Target = C;
    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C> Drop for Handle<C> {
    fn drop(&mut self) {
        CLIENTS_CLOSED.inc();
    }
}

#[derive(Debug)]
struct Entry<C> {
    handle: Arc<Handle<C>>,
    opened: Instant,
}

/// Handles by key, at most `max`, none older than `ttl`.
#[derive(Debug)]
pub struct Clients<K: Hash + Eq + Debug, C: Debug> {
    entries: Mutex<LruCache<K, Entry<C>>>,
    ttl: Duration,
}

impl<K: Hash + Eq + Clone + Debug, C: Debug> Clients<K, C> {
    pub fn new(max: NonZeroUsize, ttl: Duration) -> Self {
        // Sparse: a map sized for 100 that mostly holds three.
        Self { entries: Mutex::new(LruCache::sparse(max)), ttl }
    }

    /// The handle of `key`, opened when there is none or the one there is too old. Evicts the least recently used
    /// one when the LRU is full. `open` must not block: it builds a client that connects on first use.
    pub fn get_or_open<E>(
        &self,
        key: &K,
        now: Instant,
        open: impl FnOnce() -> Result<C, E>,
    ) -> Result<Arc<Handle<C>>, E> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(key)
            && now.saturating_duration_since(entry.opened) < self.ttl
        {
            return Ok(Arc::clone(&entry.handle));
        }
        let handle = Arc::new(Handle(open()?));
        CLIENTS_OPENED.inc();
        let entry = Entry { handle: Arc::clone(&handle), opened: now };
        let evicted = entries.push(key.clone(), entry);
        drop(entries);
        if evicted.is_some() {
            CLIENTS_EVICTED.inc();
        }
        Ok(handle)
    }

    /// Evicts what is older than the TTL; called by the housekeeping tick, so that an idle handle closes too.
    pub fn sweep(&self, now: Instant) {
        let mut evicted = Vec::new();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let old: Vec<K> = entries
            .iter()
            .filter(|(_, entry)| now.saturating_duration_since(entry.opened) >= self.ttl)
            .map(|(key, _)| key.clone())
            .collect();
        evicted.extend(old.iter().filter_map(|key| entries.pop(key)));
        drop(entries);
        CLIENTS_EVICTED.inc_by(evicted.len() as u64);
    }

    /// Evicts the handles that nobody uses now; tells how many.
    pub fn trim_idle(&self) -> u64 {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let idle: Vec<K> = entries
            .iter()
            .filter(|(_, entry)| Arc::strong_count(&entry.handle) == 1)
            .map(|(key, _)| key.clone())
            .collect();
        let evicted: Vec<Entry<C>> = idle.iter().filter_map(|key| entries.pop(key)).collect();
        drop(entries);
        CLIENTS_EVICTED.inc_by(evicted.len() as u64);
        evicted.len() as u64
    }

    /// Evicts everything: shutdown.
    pub fn clear(&self) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let count = entries.len() as u64;
        entries.clear();
        drop(entries);
        CLIENTS_EVICTED.inc_by(count);
    }

    /// Handles in the LRU now.
    pub fn count(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[derive(Debug)]
    struct Client(Arc<AtomicUsize>);
    impl Drop for Client {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn lru(max: usize) -> Clients<String, Client> {
        Clients::new(NonZeroUsize::new(max).expect("a positive size"), HOUR)
    }

    fn open(open: &Arc<AtomicUsize>) -> impl FnOnce() -> Result<Client, Infallible> {
        let open = Arc::clone(open);
        move || {
            open.fetch_add(1, Ordering::SeqCst);
            Ok(Client(open))
        }
    }

    /// R002-1, R002-19: 1,000 configurations leave 100 handles, the other 900 are closed.
    #[test]
    fn a_thousand_configurations_leave_a_hundred_open() {
        let (clients, alive, now) = (lru(100), Arc::default(), Instant::now());
        for i in 0..1_000 {
            let _ = clients.get_or_open(&format!("http://origin-{i}/"), now, open(&alive)).expect("open");
        }
        assert_eq!((clients.count(), alive.load(Ordering::SeqCst)), (100, 100));
        clients.clear();
        assert_eq!((clients.count(), alive.load(Ordering::SeqCst)), (0, 0));
    }

    #[test]
    fn a_handle_in_use_outlives_its_eviction() {
        let (clients, alive, now) = (lru(1), Arc::default(), Instant::now());
        let held = clients.get_or_open(&"a".to_owned(), now, open(&alive)).expect("open");
        let _ = clients.get_or_open(&"b".to_owned(), now, open(&alive)).expect("open");
        assert_eq!((clients.count(), alive.load(Ordering::SeqCst)), (1, 2));
        drop(held);
        assert_eq!(alive.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_same_configuration_shares_one_handle_until_it_is_too_old() {
        let (clients, alive, now) = (lru(10), Arc::default(), Instant::now());
        let first = clients.get_or_open(&"a".to_owned(), now, open(&alive)).expect("open");
        let again = clients.get_or_open(&"a".to_owned(), now, open(&alive)).expect("open");
        assert!(Arc::ptr_eq(&first, &again));
        let later = clients.get_or_open(&"a".to_owned(), now + HOUR, open(&alive)).expect("open");
        assert!(!Arc::ptr_eq(&first, &later));
        drop((first, again, later));
        assert_eq!(alive.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_trim_closes_what_nobody_uses() {
        let (clients, alive, now) = (lru(10), Arc::default(), Instant::now());
        let held = clients.get_or_open(&"a".to_owned(), now, open(&alive)).expect("open");
        let _ = clients.get_or_open(&"b".to_owned(), now, open(&alive)).expect("open");
        assert_eq!((clients.trim_idle(), clients.count(), alive.load(Ordering::SeqCst)), (1, 1, 1));
        drop(held);
    }

    #[test]
    fn the_sweep_closes_idle_handles() {
        let (clients, alive, now) = (lru(10), Arc::default(), Instant::now());
        let _ = clients.get_or_open(&"a".to_owned(), now, open(&alive)).expect("open");
        clients.sweep(now + HOUR / 2);
        assert_eq!(clients.count(), 1);
        clients.sweep(now + HOUR);
        assert_eq!((clients.count(), alive.load(Ordering::SeqCst)), (0, 0));
    }
}
