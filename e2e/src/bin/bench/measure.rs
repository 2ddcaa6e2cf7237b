//! The measures: what is loaded with what, in which order, and what is kept of each round.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::RngCore;
use serde::Serialize;

use crate::child::{Owned, cpu_seconds, family, reset_peak, resident_bytes};
use crate::load::{Done, Load, Verb, once, run as run_load};
use crate::peers::{CHUNK_BYTES, Direct, ENGINE_KEYS, Nginx, Sidecar, redis_benchmark, remove_foreign_keys};
use crate::{Error, Result, report};

/// Everything that is read from the cache fits into it, with room for bookkeeping.
const CACHE_BYTES: u64 = 512 << 20;
/// Sizes of the comparison with nginx, and how many blobs of each: together 192 MiB.
const CACHED: &[(&str, u64, usize)] =
    &[("64 KiB", 64 << 10, 256), ("1 MiB", 1 << 20, 48), ("16 MiB", 16 << 20, 8)];
/// redis-benchmark counts requests, not time: one short run tells how many fill a round.
const PROBE_REQUESTS: u64 = 2_000;
const BUCKET: &str = "bench";

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) sidecar: PathBuf,
    pub(crate) engine: Option<String>,
    pub(crate) clients: usize,
    pub(crate) rounds: usize,
    pub(crate) length: Duration,
}

/// One side of one measure in one round.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Side {
    pub(crate) bytes_per_second: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// Of the server, its engine or its workers included; 0 where it was not taken.
    pub(crate) cpu_seconds_per_gb: f64,
}

/// One measure over all rounds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) peer: &'static str,
    /// What ours divided by the peer's should reach.
    pub(crate) aim: f64,
    pub(crate) ours: Vec<Side>,
    pub(crate) theirs: Vec<Side>,
    /// Highest resident memory of our sidecar while this measure ran.
    pub(crate) peak_rss_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    pub(crate) measures: Vec<Measure>,
    /// Before the first request, without the cache's content.
    pub(crate) idle_rss_bytes: u64,
}

/// The servers of one run. Two sidecars: one serves from its cache, one has none.
struct Servers {
    cached: Sidecar,
    uncached: Sidecar,
    nginx: Nginx,
    direct_requests: u64,
}

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let servers = prepare(plan)?;
    let idle_rss_bytes = resident_bytes(servers.uncached.process.pid()).0;
    fill(&servers)?;
    let mut measures = measures();
    for round in 1..=plan.rounds {
        for measure in &mut measures {
            report::complain(&format!("round {round} of {}: {}", plan.rounds, measure.name));
            one_round(plan, &servers, measure)?;
        }
    }
    remove_foreign_keys(&servers.uncached.engine_socket)?;
    Ok(Outcome { measures, idle_rss_bytes })
}

fn measures() -> Vec<Measure> {
    let measure = |name: String, peer, aim| Measure {
        name,
        peer,
        aim,
        ours: Vec::new(),
        theirs: Vec::new(),
        peak_rss_bytes: 0,
    };
    let cached = CACHED.iter().map(|(size, ..)| measure(format!("GET from the cache, {size}"), "nginx", 0.7));
    cached
        .chain([
            measure("GET from the engine, 262,080 bytes".to_owned(), "redis-benchmark GET", 0.35),
            measure("PUT, 262,080 bytes".to_owned(), "redis-benchmark SET", 0.3),
        ])
        .collect()
}

fn prepare(plan: &Plan) -> Result<Servers> {
    let engine = plan.engine.as_deref();
    let cached = Sidecar::start(&plan.sidecar, engine, CACHE_BYTES)?;
    let uncached = Sidecar::start(&plan.sidecar, engine, 0)?;
    let probe = redis_benchmark(&uncached.engine_socket, "set", plan.clients, PROBE_REQUESTS)?;
    let direct_requests = (probe.requests_per_second * plan.length.as_secs_f64()).max(1.0) as u64;
    Ok(Servers { cached, uncached, nginx: Nginx::start()?, direct_requests })
}

/// Puts the same blobs into the cached sidecar and under nginx, and reads each once so that both are warm.
fn fill(servers: &Servers) -> Result<()> {
    make_bucket(servers.cached.address)?;
    make_bucket(servers.uncached.address)?;
    for (index, &(_, bytes, _)) in CACHED.iter().enumerate() {
        let body = Verb::Put(random_body(bytes));
        for path in cached_paths(index) {
            once(servers.cached.address, &body, &path, bytes)?;
            once(servers.cached.address, &Verb::Get, &path, bytes)?;
            if let Verb::Put(content) = &body {
                servers.nginx.put(&path, content)?;
            }
            once(servers.nginx.address, &Verb::Get, &path, bytes)?;
        }
    }
    let body = Verb::Put(random_body(CHUNK_BYTES));
    for path in engine_paths() {
        once(servers.uncached.address, &body, &path, CHUNK_BYTES)?;
    }
    Ok(())
}

/// A bucket that exists already is as good as a new one.
fn make_bucket(server: std::net::SocketAddr) -> Result<()> {
    once(server, &Verb::Put(Arc::new(Vec::new())), &format!("/{BUCKET}"), 0)
}

fn cached_paths(index: usize) -> Vec<String> {
    let count = CACHED.get(index).map_or(0, |(.., count)| *count);
    (0..count).map(|blob| format!("/{BUCKET}/cached-{index}/{blob}")).collect()
}

fn engine_paths() -> Vec<String> {
    (0..ENGINE_KEYS).map(|blob| format!("/{BUCKET}/engine/{blob}")).collect()
}

/// Random, so that nothing on the way can shorten it.
fn random_body(bytes: u64) -> Arc<Vec<u8>> {
    let mut body = vec![0; usize::try_from(bytes).unwrap_or(0)];
    rand::rng().fill_bytes(&mut body);
    Arc::new(body)
}

fn one_round(plan: &Plan, servers: &Servers, measure: &mut Measure) -> Result<()> {
    let cached = CACHED.iter().position(|(size, ..)| measure.name.ends_with(&format!(", {size}")));
    match cached {
        Some(index) => against_nginx(plan, servers, measure, index),
        None if measure.name.starts_with("PUT") => {
            let verb = Verb::Put(random_body(CHUNK_BYTES));
            against_engine(plan, servers, measure, verb, "set")
        }
        None => against_engine(plan, servers, measure, Verb::Get, "get"),
    }
}

fn against_nginx(plan: &Plan, servers: &Servers, measure: &mut Measure, index: usize) -> Result<()> {
    let bytes = CACHED.get(index).map_or(0, |(_, bytes, _)| *bytes);
    let load = |server| Load {
        server,
        verb: Verb::Get,
        paths: cached_paths(index),
        body_bytes: bytes,
        clients: plan.clients,
        length: plan.length,
    };
    let ours = loaded(&load(servers.cached.address), &servers.cached.process, measure)?;
    measure.ours.push(ours);
    let before = cpu_seconds(&family(servers.nginx.process.pid()));
    let done = run_load(&load(servers.nginx.address))?;
    let cpu = cpu_seconds(&family(servers.nginx.process.pid())) - before;
    measure.theirs.push(side(&done, cpu));
    Ok(())
}

fn against_engine(
    plan: &Plan,
    servers: &Servers,
    measure: &mut Measure,
    verb: Verb,
    test: &str,
) -> Result<()> {
    let sidecar = &servers.uncached;
    let load = Load {
        server: sidecar.address,
        verb,
        paths: engine_paths(),
        body_bytes: CHUNK_BYTES,
        clients: plan.clients,
        length: plan.length,
    };
    let ours = loaded(&load, &sidecar.process, measure)?;
    measure.ours.push(ours);
    let before = cpu_seconds(&family(sidecar.process.pid()));
    let direct = redis_benchmark(&sidecar.engine_socket, test, plan.clients, servers.direct_requests)?;
    let cpu = cpu_seconds(&family(sidecar.process.pid())) - before;
    measure.theirs.push(direct_side(&direct, cpu, servers.direct_requests));
    Ok(())
}

/// Our side of a measure; the peak of memory goes into the measure.
fn loaded(load: &Load, process: &Owned, measure: &mut Measure) -> Result<Side> {
    reset_peak(process.pid());
    let before = cpu_seconds(&family(process.pid()));
    let done = run_load(load)?;
    if done.requests == 0 {
        return Err(Error::Wrong(format!("{}: no request was finished in time", measure.name)));
    }
    let cpu = cpu_seconds(&family(process.pid())) - before;
    measure.peak_rss_bytes = measure.peak_rss_bytes.max(resident_bytes(process.pid()).1);
    Ok(side(&done, cpu))
}

fn side(done: &Done, cpu_seconds: f64) -> Side {
    Side {
        bytes_per_second: done.bytes_per_second(),
        requests_per_second: done.requests as f64 / done.seconds,
        p50_us: done.percentile_us(50),
        p99_us: done.percentile_us(99),
        cpu_seconds_per_gb: per_gb(cpu_seconds, done.bytes as f64),
    }
}

fn direct_side(direct: &Direct, cpu_seconds: f64, requests: u64) -> Side {
    Side {
        bytes_per_second: direct.requests_per_second * CHUNK_BYTES as f64,
        requests_per_second: direct.requests_per_second,
        p50_us: direct.p50_us,
        p99_us: direct.p99_us,
        cpu_seconds_per_gb: per_gb(cpu_seconds, (requests * CHUNK_BYTES) as f64),
    }
}

fn per_gb(seconds: f64, bytes: f64) -> f64 {
    if bytes > 0.0 { seconds / (bytes / 1e9) } else { 0.0 }
}
