//! Calibration: asks the engine what a few shapes cost, and fits the size model to the answers.

use std::collections::HashMap;

use blobstore_sidecar_core::hygiene::allocator::Allocator;
use blobstore_sidecar_core::hygiene::calibrate::{Form, Measured, PROBE_KEY_LEN, PROBES, Probe, calibrate};
use blobstore_sidecar_core::hygiene::info::Info;
use blobstore_sidecar_core::hygiene::layout::{Layout, layout};
use blobstore_sidecar_core::hygiene::size_model::{Corrections, ListpackLimits, SizeModel};
use blobstore_sidecar_core::hygiene::statistics::median;
use blobstore_sidecar_core::partition::{PARTITIONS_MAX, PartitionTag, tag_of};
use redis::cmd;

use crate::engine::Engine;
use crate::error::HygieneError;

const PROBE: &str = include_str!("scripts/probe.lua");
/// Odd, so that the median is a measurement; a table that grows under one run does not touch it.
const RUNS: usize = 3;
/// What another thread of the engine frees meanwhile fits no model either: so often all is measured again before the
/// engine counts as not calibrated.
const TRIES: usize = 3;
/// Walks all 256 tags in jumps, so that a shard's own slots are met soon.
const TAG_STRIDE: u32 = 37;

/// The model of the engine behind `engine`, fitted. Only a primary may be asked: probes are writes.
pub(crate) async fn model(engine: &Engine) -> Result<SizeModel, HygieneError> {
    let bare = bare_model(engine).await?;
    let tag = own_tag(engine).await?;
    let mut tries = 1;
    loop {
        match fitted(engine, &bare, tag).await {
            Err(HygieneError::Misfit(_)) if tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

async fn fitted(engine: &Engine, bare: &SizeModel, tag: PartitionTag) -> Result<SizeModel, HygieneError> {
    let mut measured = Vec::with_capacity(PROBES.len());
    for probe in PROBES {
        measured.push(measure(engine, &bare.layout, tag, probe).await?);
    }
    calibrate(bare, &measured).map_err(HygieneError::Misfit)
}

async fn bare_model(engine: &Engine) -> Result<SizeModel, HygieneError> {
    let text: String = engine.query("read INFO", cmd("INFO").arg("everything")).await?;
    let info = Info::parse(&text);
    let version = info.version().ok_or(HygieneError::Answer("read the engine's version"))?;
    let cluster = info.number("cluster_enabled") == 1;
    let layout = layout(&version, cluster)
        .ok_or_else(|| HygieneError::Unsupported(format!("the layout of {version} is not known")))?;
    let name = info.text("mem_allocator").unwrap_or_default().to_owned();
    let stats: String = engine.query("read MALLOC-STATS", cmd("MEMORY").arg("MALLOC-STATS")).await?;
    let allocator = Allocator::parse(&name, &stats)
        .ok_or_else(|| HygieneError::Unsupported(format!("the classes of allocator {name} are not known")))?;
    let limits = limits(engine).await?;
    Ok(SizeModel { allocator, layout, limits, corrections: Corrections::default() })
}

async fn limits(engine: &Engine) -> Result<ListpackLimits, HygieneError> {
    let answer: HashMap<String, String> =
        engine.query("read the listpack limits", cmd("CONFIG").arg("GET").arg("*-max-listpack-*")).await?;
    let number =
        |name: &str, default: u64| answer.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let usual = ListpackLimits::default();
    Ok(ListpackLimits {
        zset_entries: number("zset-max-listpack-entries", usual.zset_entries),
        zset_value: number("zset-max-listpack-value", usual.zset_value),
        hash_entries: number("hash-max-listpack-entries", usual.hash_entries),
        hash_value: number("hash-max-listpack-value", usual.hash_value),
    })
}

/// A tag of a slot that this engine serves: the first that it does not send elsewhere.
async fn own_tag(engine: &Engine) -> Result<PartitionTag, HygieneError> {
    let mut last = HygieneError::Answer("find a slot of this engine");
    for step in 0..PARTITIONS_MAX {
        let tag = tag_of(step * TAG_STRIDE % PARTITIONS_MAX, PARTITIONS_MAX);
        let mut touch = cmd("EXISTS");
        touch.arg(format!("probe:{{{tag}}}"));
        match engine.query::<i64>("find a slot", &touch).await {
            Ok(_) => return Ok(tag),
            Err(HygieneError::Engine { source, .. }) if source.redirect_node().is_some() => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn measure(
    engine: &Engine,
    layout: &Layout,
    tag: PartitionTag,
    probe: &Probe,
) -> Result<Measured, HygieneError> {
    let keys = if probe.form == Form::Strings { probe.count } else { 1 };
    let args: Vec<Vec<u8>> = [
        tag.to_string(),
        format!("{:?}", probe.form),
        probe.count.to_string(),
        probe.value_len.to_string(),
        PROBE_KEY_LEN.to_string(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect();
    let mut grown = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let (used, overhead): (i64, i64) =
            engine.script("probe", PROBE, &[format!("probe:{{{tag}}}")], &args).await?;
        // What the engine counts beyond its charge per key is its main table.
        let tables = overhead - (keys * layout.counted_per_key) as i64;
        grown.push((used - tables) as f64);
    }
    Ok(Measured { probe: *probe, grown_bytes: median(&grown) })
}
