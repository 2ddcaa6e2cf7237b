//! What the owner remembers of objects between reads, each in a bounded LRU: what is not there, what was found current,
//! how much of an object went out in parts. All of it may be forgotten: then the origin is asked once more.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::blobs::Key;

/// Names remembered per kind. Each is a hash and a number: together below 4 MiB.
const NAMES_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("a positive number");

/// Objects by a hash of 128 bits: names of a kibibyte would make the bound one of megabytes.
#[derive(Debug)]
struct Names<T>(Mutex<LruCache<u128, T>>);

impl<T: Copy> Names<T> {
    fn new() -> Self {
        Self(Mutex::new(LruCache::sparse(NAMES_MAX)))
    }

    fn with<R>(&self, act: impl FnOnce(&mut LruCache<u128, T>) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn hash(key: &Key) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(key.bucket.as_str().as_bytes());
    // Neither a bucket's nor an object's name holds a NUL.
    hasher.update(&[0]);
    hasher.update(key.name.as_str().as_bytes());
    hasher.digest128()
}

#[derive(Debug)]
pub(crate) struct Memory {
    absent: Names<Instant>,
    /// When, and under which ETag.
    current: Names<([u8; 16], u64)>,
    parts: Names<u64>,
    /// What the store did not take: until when it is not offered again.
    refused: Names<Instant>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { absent: Names::new(), current: Names::new(), parts: Names::new(), refused: Names::new() }
    }

    /// The origin has no such object, and that is believed for `ttl`.
    pub(crate) fn is_absent(&self, key: &Key, now: Instant) -> bool {
        let hash = hash(key);
        self.absent.with(|names| match names.get(&hash) {
            Some(until) if *until > now => true,
            Some(_) => {
                names.pop(&hash);
                false
            }
            None => false,
        })
    }

    pub(crate) fn set_absent(&self, key: &Key, ttl: Duration, now: Instant) {
        if !ttl.is_zero() {
            self.absent.with(|names| names.put(hash(key), now + ttl));
        }
    }

    pub(crate) fn set_present(&self, key: &Key) {
        self.absent.with(|names| names.pop(&hash(key)));
    }

    /// When the copy with this ETag was last found current, milliseconds since 1970.
    pub(crate) fn validated_ms(&self, key: &Key, etag: &[u8; 16]) -> Option<u64> {
        let found = self.current.with(|names| names.get(&hash(key)).copied());
        found.filter(|(of, _)| of == etag).map(|(_, at)| at)
    }

    pub(crate) fn set_validated(&self, key: &Key, etag: [u8; 16], now_ms: u64) {
        self.current.with(|names| names.put(hash(key), (etag, now_ms)));
    }

    /// Adds a part of `len` bytes; true once the parts are as much as the whole of `size`: then to fetch it whole
    /// costs at most twice what was best.
    pub(crate) fn is_read_in_parts(&self, key: &Key, len: u64, size: u64) -> bool {
        let hash = hash(key);
        self.parts.with(|names| {
            let sum = names.get(&hash).copied().unwrap_or_default().saturating_add(len);
            if sum >= size {
                names.pop(&hash);
                return true;
            }
            names.put(hash, sum);
            false
        })
    }

    /// The store did not take a fill of this object: the next readers pass through for a while.
    pub(crate) fn set_refused(&self, key: &Key, pause: Duration, now: Instant) {
        self.refused.with(|names| names.put(hash(key), now + pause));
    }

    pub(crate) fn is_refused(&self, key: &Key, now: Instant) -> bool {
        self.refused.with(|names| names.get(&hash(key)).is_some_and(|until| *until > now))
    }
}

#[cfg(test)]
mod tests {
    use blobstore_sidecar_core::key::{BucketName, ObjectName};

    use super::*;

    fn key(name: &str) -> Key {
        let bucket = BucketName::parse("b").expect("a good name");
        Key { bucket, name: ObjectName::parse(name).expect("a good name") }
    }

    #[test]
    fn absence_is_believed_for_its_time() {
        let (memory, now, ttl) = (Memory::new(), Instant::now(), Duration::from_secs(10));
        memory.set_absent(&key("a"), ttl, now);
        assert!(memory.is_absent(&key("a"), now) && !memory.is_absent(&key("b"), now));
        assert!(!memory.is_absent(&key("a"), now + ttl));
        memory.set_absent(&key("a"), Duration::ZERO, now);
        assert!(!memory.is_absent(&key("a"), now), "switched off");
        memory.set_absent(&key("a"), ttl, now);
        memory.set_present(&key("a"));
        assert!(!memory.is_absent(&key("a"), now));
    }

    /// Negative answers are bounded however many names are tried.
    #[test]
    fn a_flood_of_names_is_bounded() {
        let (memory, now) = (Memory::new(), Instant::now());
        for index in 0..NAMES_MAX.get() + 1_000 {
            memory.set_absent(&key(&format!("n{index}")), Duration::from_secs(10), now);
        }
        assert_eq!(memory.absent.with(|names| names.len()), NAMES_MAX.get());
        assert!(!memory.is_absent(&key("n0"), now) && memory.is_absent(&key("n17000"), now));
    }

    #[test]
    fn a_validation_holds_for_its_version() {
        let memory = Memory::new();
        memory.set_validated(&key("a"), [1; 16], 5);
        assert_eq!(memory.validated_ms(&key("a"), &[1; 16]), Some(5));
        assert_eq!(memory.validated_ms(&key("a"), &[2; 16]), None);
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let memory = Memory::new();
        let seen: Vec<bool> = (0..5).map(|_| memory.is_read_in_parts(&key("a"), 40, 100)).collect();
        assert_eq!(seen, [false, false, true, false, false]);
    }
}
