//! Counters of the data path. Pairs (started/ended, taken/returned, inserted/evicted) balance when nothing leaks.

use std::sync::LazyLock;

use blobstore_sidecar_runtime::metrics::{counter, counter_vec, gauge, seconds_vec};
use prometheus::{CounterVec, IntCounter, IntCounterVec, IntGauge};

macro_rules! metric {
    ($name:ident: $kind:ty = $make:ident($($argument:expr),+)) => {
        pub(crate) static $name: LazyLock<$kind> = LazyLock::new(|| $make($($argument),+));
    };
}

metric!(BYTES_COPIED: IntCounter = counter(
    "blobstore_sidecar_bytes_copied_total", "Payload bytes copied in user space."));
metric!(BYTES_IN: IntCounter = counter("blobstore_sidecar_bytes_in_total", "Payload bytes of uploads."));
metric!(BYTES_OUT: IntCounter = counter("blobstore_sidecar_bytes_out_total", "Payload bytes of downloads."));
metric!(LANES_OPENED: IntCounter = counter(
    "blobstore_sidecar_lanes_opened_total", "Payload connections to the engine opened."));
metric!(LANES_CLOSED: IntCounterVec = counter_vec(
    "blobstore_sidecar_lanes_closed_total", "Payload connections closed, by reason.", &["reason"]));
metric!(LANES_BUSY: IntGauge = gauge("blobstore_sidecar_lanes_busy", "Payload connections in use."));
metric!(CACHE_HITS: IntCounterVec = counter_vec(
    "blobstore_sidecar_cache_hits_total", "Lookups answered by the cache, by kind.", &["kind"]));
/// One lookup of labels less on the way of every read.
pub(crate) static RECORD_HITS: LazyLock<IntCounter> =
    LazyLock::new(|| CACHE_HITS.with_label_values(&["record"]));
pub(crate) static CHUNK_HITS: LazyLock<IntCounter> =
    LazyLock::new(|| CACHE_HITS.with_label_values(&["chunk"]));
metric!(CACHE_MISSES: IntCounterVec = counter_vec(
    "blobstore_sidecar_cache_misses_total", "Lookups that went to the engine, by kind.", &["kind"]));
metric!(CACHE_INSERTED: IntCounter = counter("blobstore_sidecar_cache_inserted_total", "Entries put into the cache."));
metric!(CACHE_EVICTED: IntCounterVec = counter_vec(
    "blobstore_sidecar_cache_evicted_total", "Entries that left the cache, by reason.", &["reason"]));
metric!(CACHE_SKIPPED: IntCounter = counter(
    "blobstore_sidecar_cache_skipped_total", "Entries not cached: too large, or over the bucket's share."));
metric!(CACHE_BYTES: IntGauge = gauge("blobstore_sidecar_cache_bytes", "Bytes held by the cache."));
metric!(FILLS_SHARED: IntCounter = counter(
    "blobstore_sidecar_cache_fills_shared_total", "Reads that another reader's fill answered."));
metric!(UPLOADS_STARTED: IntCounter = counter("blobstore_sidecar_uploads_started_total", "Uploads begun."));
metric!(UPLOADS_ENDED: IntCounterVec = counter_vec(
    "blobstore_sidecar_uploads_ended_total", "Uploads ended, by result.", &["result"]));
metric!(DOWNLOADS_STARTED: IntCounter = counter("blobstore_sidecar_downloads_started_total", "Downloads begun."));
metric!(DOWNLOADS_ENDED: IntCounter = counter("blobstore_sidecar_downloads_ended_total", "Downloads ended."));
metric!(DOOMED: IntCounter = counter(
    "blobstore_sidecar_generations_doomed_total", "Replaced or deleted generations handed over to be freed."));
metric!(FREED: IntCounter = counter("blobstore_sidecar_generations_freed_total", "Generations freed."));
metric!(SWEPT: IntCounter = counter("blobstore_sidecar_uploads_swept_total", "Abandoned uploads swept."));
metric!(UPLOADS_EXPIRED: IntCounter = counter(
    "blobstore_sidecar_multipart_uploads_expired_total", "Multipart uploads swept because nobody went on with them."));
metric!(EXPIRED: IntCounter = counter(
    "blobstore_sidecar_objects_expired_total", "Objects removed because their end had come."));
metric!(READERS_CUT: IntCounter = counter(
    "blobstore_sidecar_readers_cut_total", "Readers cut because they delayed a free."));
metric!(CHECKSUM_FAILED: IntCounterVec = counter_vec(
    "blobstore_sidecar_checksum_failed_total", "Checksums that did not match, by what was read.", &["what"]));
metric!(CHUNKS_MISSING: IntCounter = counter(
    "blobstore_sidecar_chunks_missing_total", "Chunks that a record names and the engine does not have."));
metric!(CHUNKS_REPAIRED: IntCounter = counter(
    "blobstore_sidecar_chunks_repaired_total", "Damaged or missing chunks that were found elsewhere and written back."));
metric!(OBJECTS_DAMAGED: IntGauge = gauge(
    "blobstore_sidecar_objects_damaged", "Objects of which something is lost, as far as reads and the scrubber know."));
metric!(SCRUB_PASSES: IntCounter = counter("blobstore_sidecar_scrub_passes_total", "Finished passes of the scrubber."));
metric!(SCRUB_PERCENT: IntGauge = gauge(
    "blobstore_sidecar_scrub_progress_percent", "How far the scrubber's pass is, in partitions."));
metric!(SCRUBBED_BYTES: IntCounter = counter(
    "blobstore_sidecar_scrubbed_bytes_total", "Bytes that the scrubber has verified."));
metric!(SCRUBBED_CHUNKS: IntCounterVec = counter_vec(
    "blobstore_sidecar_scrubbed_chunks_total", "Chunks that the scrubber has verified, by result.", &["result"]));
metric!(CHUNKS_UNPACKED: IntCounter = counter(
    "blobstore_sidecar_chunks_unpacked_total", "Chunks of packed bodies unpacked to be read, verified or repaired."));
metric!(PACK_SECONDS: CounterVec = seconds_vec(
    "blobstore_sidecar_pack_cpu_seconds_total", "Time of a processor spent in zstd, by operation.", &["operation"]));
metric!(COLD_OBJECTS: IntCounterVec = counter_vec(
    "blobstore_sidecar_cold_objects_total", "Objects that the packer looked at: packed, or why not.", &["result"]));
metric!(COLD_CHUNKS: IntCounterVec = counter_vec(
    "blobstore_sidecar_cold_chunks_total", "Chunks that the packer tried, by the form they are kept in.", &["form"]));
metric!(COLD_BYTES: IntCounterVec = counter_vec(
    "blobstore_sidecar_cold_bytes_total", "Chunk bytes of packed bodies, before and after.", &["when"]));
metric!(COLD_PASSES: IntCounter = counter("blobstore_sidecar_cold_passes_total", "Finished passes of the packer."));
metric!(EVICTED_OBJECTS: IntCounter = counter(
    "blobstore_sidecar_objects_evicted_total", "Objects evicted from a store that is a cache."));
metric!(REFUSED: IntCounterVec = counter_vec(
    "blobstore_sidecar_uploads_refused_total", "Uploads refused before their body was read, by reason.", &["reason"]));

/// What has no labels, so that a scrape shows zeros before the first event.
pub(crate) fn register() {
    for counter in [
        &BYTES_COPIED,
        &BYTES_IN,
        &BYTES_OUT,
        &LANES_OPENED,
        &CACHE_INSERTED,
        &CACHE_SKIPPED,
        &FILLS_SHARED,
        &UPLOADS_STARTED,
        &DOWNLOADS_STARTED,
        &DOWNLOADS_ENDED,
        &DOOMED,
        &FREED,
        &SWEPT,
        &UPLOADS_EXPIRED,
        &EXPIRED,
        &READERS_CUT,
        &CHUNKS_MISSING,
        &CHUNKS_REPAIRED,
        &SCRUB_PASSES,
        &SCRUBBED_BYTES,
        &CHUNKS_UNPACKED,
        &COLD_PASSES,
        &EVICTED_OBJECTS,
    ] {
        LazyLock::force(counter);
    }
}

/// Bytes that went out without a source: they were all in hand.
pub(crate) fn count_whole(bytes: u64) {
    DOWNLOADS_STARTED.inc();
    DOWNLOADS_ENDED.inc();
    BYTES_OUT.inc_by(bytes);
}
