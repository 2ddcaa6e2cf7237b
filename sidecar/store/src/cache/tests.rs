//! The cache stays within its bytes and shares, and an old record never comes back.

use blobstore_sidecar_runtime::pool::Pool;

use super::*;

const CHUNK: usize = 1000;

struct Bench {
    cache: Cache,
    pool: Pool,
    budget: Budget,
}

fn bench(max_bytes: u64, share: u32) -> Bench {
    let budget = Budget::new(1 << 20);
    let config = CacheConfig { max_bytes, max_entry_bytes: 1 << 20, tenant_share_percent: share };
    Bench { cache: Cache::new(config, budget.clone()), pool: Pool::new([CHUNK], 1 << 20), budget }
}

impl Bench {
    fn put(&self, bucket: &str, generation: u8) {
        let permit = self.budget.try_permit(CHUNK as u64);
        let chunk = self.pool.lease(CHUNK, "test", permit).freeze();
        self.cache.insert_chunk(Generation([generation; 16]), 0, &Arc::from(bucket), chunk);
    }

    fn has(&self, generation: u8) -> bool {
        self.cache.chunk(Generation([generation; 16]), 0).is_some()
    }
}

/// R002-8: the weights that entries came in with keep the bound, and add up to nothing when all have gone.
#[test]
fn bytes_are_bounded_and_every_buffer_comes_back() {
    let bench = bench(10_000, 100);
    for generation in 0..100 {
        bench.put("b", generation);
        assert!(bench.cache.stats().bytes <= 10_000);
    }
    let stats = bench.cache.stats();
    assert_eq!(stats.inserted, stats.evicted + stats.entries);
    assert_eq!(bench.pool.stats().kept, stats.entries);
    assert_eq!(bench.budget.used(), 0, "what a cache holds is not in flight");
    assert!(bench.has(99), "the newest stays");
    assert_eq!(bench.cache.trim(0), stats.bytes);
    assert_eq!((bench.pool.stats().outstanding, bench.pool.stats().kept), (0, 0));
}

#[test]
fn one_bucket_cannot_push_out_the_rest() {
    let bench = bench(20_000, 50);
    bench.put("quiet", 200);
    for generation in 0..100 {
        bench.put("loud", generation);
    }
    assert!(bench.has(200));
    assert!(bench.cache.stats().bytes <= 10_000 + 1_256);
}

#[test]
fn nothing_is_kept_when_switched_off() {
    let bench = bench(0, 100);
    bench.put("b", 1);
    assert!(!bench.has(1));
    assert_eq!(bench.pool.stats().outstanding, 0);
}

#[tokio::test]
async fn waiters_get_the_chunk_and_survive_a_dropped_fill() {
    let bench = bench(10_000, 100);
    let generation = Generation([1; 16]);
    let Fill::Ours(guard) = bench.cache.fills.enter(generation, 0) else { panic!("the first one fills") };
    let Fill::Theirs(waiter) = bench.cache.fills.enter(generation, 0) else { panic!("the second one waits") };
    let chunk = bench.pool.lease(CHUNK, "test", None).freeze();
    guard.done(&chunk);
    assert_eq!(waiter.await.expect("told").bytes.as_ptr(), chunk.bytes.as_ptr(), "shared, not copied");
    let Fill::Ours(guard) = bench.cache.fills.enter(generation, 0) else { panic!("a new fill") };
    let Fill::Theirs(waiter) = bench.cache.fills.enter(generation, 0) else { panic!("waits") };
    drop(guard);
    assert!(waiter.await.is_err(), "woken without a chunk");
}
