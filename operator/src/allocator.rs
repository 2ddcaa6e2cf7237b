//! jemalloc, told to give memory back soon: a pass allocates some hundred kilobytes and ends.

use tikv_jemalloc_ctl::{Access as _, AsName as _};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A freed page goes back to the kernel after this: passes of one store are half a minute apart.
const DECAY_MS: isize = 1_000;

/// For arenas made from now on, and for the one that exists this early. The typed `Access` checks the key's type.
/// Failing costs memory and nothing else.
pub(crate) fn configure() {
    let names: [&[u8]; 4] = [
        b"arenas.dirty_decay_ms\0",
        b"arenas.muzzy_decay_ms\0",
        b"arena.0.dirty_decay_ms\0",
        b"arena.0.muzzy_decay_ms\0",
    ];
    let failed = names.iter().filter(|name| name.name().write(DECAY_MS).is_err()).count();
    let threads = tikv_jemalloc_ctl::background_thread::write(true);
    if failed > 0 || threads.is_err() {
        tracing::warn!(failed, background_threads = threads.is_ok(), "set up the allocator");
    }
}
