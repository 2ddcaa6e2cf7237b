//! jemalloc gives memory back by itself: background threads, decay after a second. glibc keeps what it once had.

use tikv_jemalloc_ctl::{Access as _, AsName as _};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A freed page goes back to the kernel after this: short enough that a burst is gone from RSS in a few
/// seconds, long enough that steady traffic does not fault the same pages again.
const DECAY_MS: isize = 1_000;

/// At once: a page that the kernel may take, but has not taken, still counts as ours.
const MUZZY_DECAY_MS: isize = 0;
/// Threads share one arena up to this many: what one frees another uses again, where arenas of their own would each keep
/// the pages of their busiest second. Small allocations come from the threads' caches; those of bodies are tens of
/// kilobytes, and four threads do not wait for each other at that rate.
const THREADS_OF_ONE_ARENA_MAX: usize = 4;

/// For arenas made from now on, and for the one that exists this early. No unsafe: the typed `Access`
/// checks the key's type. Failing is harmless, so it is only logged.
pub fn configure() {
    let names: [(&[u8], isize); 4] = [
        (b"arenas.dirty_decay_ms\0", DECAY_MS),
        (b"arenas.muzzy_decay_ms\0", MUZZY_DECAY_MS),
        (b"arena.0.dirty_decay_ms\0", DECAY_MS),
        (b"arena.0.muzzy_decay_ms\0", MUZZY_DECAY_MS),
    ];
    for (name, decay_ms) in names {
        if let Err(error) = name.name().write(decay_ms) {
            tracing::warn!(name = %name.name(), %error, "set jemalloc decay");
        }
    }
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "start jemalloc background threads");
    }
}

/// For a thread of the runtime, when it starts.
pub fn join_arena() {
    if std::thread::available_parallelism().is_ok_and(|threads| threads.get() > THREADS_OF_ONE_ARENA_MAX) {
        return;
    }
    let name: &[u8] = b"thread.arena\0";
    if let Err(error) = name.name().write(0_u32) {
        tracing::warn!(%error, "join jemalloc's first arena");
    }
}

#[cfg(test)]
mod tests {
    use blobstore_sidecar_runtime::memory::heap_handed_out;

    #[test]
    fn what_the_heap_hands_out_is_counted_freed_or_not() {
        const LARGE: u64 = 64 << 20;
        let before = heap_handed_out();
        drop(std::hint::black_box(vec![1_u8; LARGE as usize]));
        let small: Vec<Box<[u8; 1024]>> = (0..10_000).map(|_| Box::new([1; 1024])).collect();
        drop(std::hint::black_box(small));
        let grown = heap_handed_out() - before;
        // Other tests of this program allocate meanwhile.
        assert!(grown >= LARGE + (9 << 20), "{grown} bytes");
    }
}
