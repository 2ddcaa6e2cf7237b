//! Leases, the buffers behind them, and the counters that must add up.

use super::*;

fn check(pool: &Pool, taken: u64, returned: u64, kept: u64, outstanding: u64) {
    let stats = pool.stats();
    assert_eq!(
        (stats.taken, stats.returned, stats.kept, stats.outstanding),
        (taken, returned, kept, outstanding)
    );
    assert_eq!(taken, returned + kept + outstanding, "nothing is lost");
}

/// R001-1, R002-10: buffers are used again, as soon as the last who reads one is done.
#[test]
fn comes_back_with_the_last_clone() {
    let pool = Pool::new([100], 1000);
    let mut lease = pool.lease(90, "test", None);
    lease.as_mut().fill(7);
    let pooled = lease.freeze();
    let slice = pooled.bytes.slice(10..20);
    assert_eq!(pooled.state.capacity(), 100);
    drop(pooled);
    check(&pool, 1, 0, 0, 1);
    assert_eq!(pool.oldest().expect("one is out").name, "test");
    assert_eq!(&slice[..], &[7; 10]);
    drop(slice);
    check(&pool, 1, 1, 0, 0);
    assert_eq!((pool.stats().idle_bytes, pool.oldest()), (100, None));
    let again = pool.lease(100, "test", None);
    assert_eq!((again.as_ref().len(), pool.stats().idle_bytes), (100, 0), "reused");
}

#[test]
fn idle_buffers_are_bounded() {
    let pool = Pool::new([100], 150);
    let leases = [pool.lease(100, "a", None), pool.lease(100, "b", None), pool.lease(500, "c", None)];
    drop(leases);
    check(&pool, 3, 3, 0, 0);
    assert_eq!(pool.stats().idle_bytes, 100);
    assert_eq!((pool.trim(), pool.stats().idle_bytes), (100, 0));
}

#[test]
fn buffers_that_lie_idle_from_one_look_to_the_next_are_freed() {
    let pool = Pool::new([100], 1000);
    drop([pool.lease(100, "a", None), pool.lease(100, "b", None), pool.lease(100, "c", None)]);
    assert_eq!((pool.shrink(), pool.stats().idle_bytes), (0, 300), "in use a moment ago");
    drop(pool.lease(100, "a", None));
    assert_eq!((pool.shrink(), pool.stats().idle_bytes), (200, 100), "one was enough");
    assert_eq!((pool.shrink(), pool.stats().idle_bytes), (100, 0), "none was needed");
    assert_eq!(pool.shrink(), 0);
}

#[test]
fn the_cache_takes_over_the_bytes_and_gives_them_back_to_the_budget() {
    let pool = Pool::new([100], 1000);
    let budget = Budget::new(1000);
    let permit = budget.try_permit(100);
    let pooled = pool.lease(100, "test", permit).freeze();
    pooled.state.keep();
    check(&pool, 1, 0, 1, 0);
    assert_eq!(budget.used(), 0);
    let reader = pooled.bytes.clone();
    pooled.state.release(&budget);
    drop(pooled);
    check(&pool, 1, 0, 0, 1);
    assert_eq!(budget.used(), 100, "a reader still holds what the cache let go");
    drop(reader);
    check(&pool, 1, 1, 0, 0);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_buffer_dropped_before_it_is_filled_comes_back() {
    let pool = Pool::new([100], 1000);
    drop(pool.lease(100, "cancelled", None));
    check(&pool, 1, 1, 0, 0);
}
