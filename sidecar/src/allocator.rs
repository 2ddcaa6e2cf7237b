//! jemalloc gives memory back by itself: background threads, decay after a second. glibc keeps what it once had.

use tikv_jemalloc_ctl::{Access as _, AsName as _};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A freed page goes back to the kernel after this: short enough that a burst is gone from RSS in a few
/// seconds, long enough that steady traffic does not fault the same pages again.
const DECAY_MS: isize = 1_000;

/// For arenas made from now on, and for the one that exists this early. No unsafe: the typed `Access`
/// checks the key's type. Failing is harmless, so it is only logged.
pub fn configure() {
    let names: [&[u8]; 4] = [
        b"arenas.dirty_decay_ms\0",
        b"arenas.muzzy_decay_ms\0",
        b"arena.0.dirty_decay_ms\0",
        b"arena.0.muzzy_decay_ms\0",
    ];
    for name in names {
        if let Err(error) = name.name().write(DECAY_MS) {
            tracing::warn!(name = %name.name(), %error, "set jemalloc decay");
        }
    }
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "start jemalloc background threads");
    }
}
