//! The rounds: every case is run once per round on our server and then on each peer, so that a slow minute of the
//! machine hits all of them. Then the latency at half of each server's own peak.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::RngCore;
use serde::Serialize;

use crate::case::{CASES, Case, Unit, Which, Work};
use crate::child::{cpu_seconds, family, reset_peak, resident_bytes};
use crate::load::{Connection, Done, Load, Pace, Verb, once, run as run_load};
use crate::presign::SECRET_KEY;
use crate::servers::engine::{Engine, Run, benchmark_key, redis_benchmark};
use crate::servers::{
    BUCKET, Http, MD5_BUCKET, gateways, nginx, path, path_in, sidecar, varnish, webdis, whole_body,
};
use crate::{Error, Result, report};

/// Payload of one chunk of ours: the value at which engine and `redis-benchmark` are at their best.
const DIRECT_BYTES_MAX: u64 = 262_080;
const DIRECT_KEYS_MAX: usize = 256;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) sidecar: PathBuf,
    pub(crate) engine: Option<String>,
    /// Where the built peers are.
    pub(crate) cache: PathBuf,
    pub(crate) clients: usize,
    pub(crate) rounds: usize,
    pub(crate) length: Duration,
    /// Only cases whose names contain this.
    pub(crate) only: String,
}

impl Plan {
    pub(crate) fn cases(&self) -> impl Iterator<Item = &'static Case> + '_ {
        CASES.iter().filter(|case| case.name.contains(&self.only))
    }
}

/// One server in one round of one case.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Side {
    pub(crate) bytes_per_second: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// Of the server and its children: a sidecar's engine and a master's workers are in it.
    pub(crate) cpu_seconds_per_gb: f64,
}

/// What one server did in all rounds of a case.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Series {
    pub(crate) server: &'static str,
    pub(crate) rounds: Vec<Side>,
    /// At half of its own peak; 0 where it was not taken.
    pub(crate) half_load_p99_us: u64,
    /// Highest resident memory while this case ran; of a sidecar without its engine.
    pub(crate) peak_rss_bytes: u64,
}

pub(crate) struct Outcome {
    pub(crate) cases: Vec<(&'static Case, BTreeMap<Which, Series>)>,
}

pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    let mut bench = Bench::prepare(plan)?;
    let mut cases = Vec::new();
    for case in plan.cases() {
        bench.fill(case)?;
        cases.push((case, BTreeMap::new()));
    }
    for round in 1..=plan.rounds {
        for (case, series) in &mut cases {
            report::complain(&format!("round {round} of {}: {}", plan.rounds, case.name));
            for which in sides(case) {
                bench.one(case, which, round, series)?;
            }
        }
    }
    for (case, series) in &mut cases {
        if case.half_load {
            report::complain(&format!("half load: {}", case.name));
            bench.half_load(case, series)?;
        }
    }
    Ok(Outcome { cases })
}

fn sides(case: &Case) -> impl Iterator<Item = Which> + '_ {
    std::iter::once(case.ours).chain(case.peers.iter().map(|(peer, _)| *peer))
}

struct Bench<'a> {
    plan: &'a Plan,
    http: BTreeMap<Which, Http>,
    /// How many requests of `redis-benchmark` fill a round, by case.
    direct_requests: BTreeMap<&'static str, u64>,
}

impl<'a> Bench<'a> {
    /// Starts every server that a case names, and makes its bucket.
    fn prepare(plan: &'a Plan) -> Result<Self> {
        let mut bench = Self { plan, http: BTreeMap::new(), direct_requests: BTreeMap::new() };
        // In the order of `Which`: Varnish needs nginx, and webdis the sidecar's engine.
        let mut named: Vec<Which> = plan.cases().flat_map(sides).collect();
        named.sort();
        named.dedup();
        for which in named {
            let server = match which {
                Which::Cached | Which::Uncached | Which::Signed => {
                    sidecar::start(&plan.sidecar, plan.engine.as_deref(), which)?
                }
                Which::Nginx => nginx::start()?,
                Which::Varnish => varnish::start(bench.server(Which::Nginx)?.address)?,
                Which::Webdis => webdis::start(bench.engine_socket()?)?,
                Which::VersityGw => gateways::versitygw(&plan.cache)?,
                Which::MinIo => gateways::minio(&plan.cache)?,
                Which::WholeBody => whole_body(bench.engine_socket()?)?,
                Which::Direct => continue,
            };
            if matches!(which, Which::Cached | Which::Uncached) || which.signs() {
                make_bucket(&server)?;
            }
            bench.http.insert(which, server);
        }
        Ok(bench)
    }

    fn server(&self, which: Which) -> Result<&Http> {
        self.http.get(&which).ok_or_else(|| Error::Wrong(format!("{} was not started", which.name())))
    }

    fn engine_socket(&self) -> Result<&std::path::Path> {
        let socket = self.server(Which::Uncached)?.engine_socket.as_deref();
        socket.ok_or_else(|| Error::Wrong("the sidecar has no engine".to_owned()))
    }

    /// Puts what a case reads into all its servers, and reads it once so that all are warm.
    fn fill(&self, case: &Case) -> Result<()> {
        if case.work != Work::Get {
            return Ok(());
        }
        report::complain(&format!("filling: {}", case.name));
        let content = random_body(case.bytes);
        let body = Verb::Put(Arc::clone(&content));
        for blob in 0..case.keys {
            let path = path(case.name, blob);
            for which in sides(case).filter(|which| *which != Which::Direct) {
                let server = self.server(which)?;
                match which {
                    Which::Webdis => {
                        Engine::open(self.engine_socket()?)?.set(&webdis::key(&path), &content)?
                    }
                    // It fetches from nginx, which has it by then.
                    Which::Varnish => {}
                    _ => once(server.address, &body, &server.target("PUT", &path), case.bytes)?,
                }
                once(server.address, &Verb::Get, &server.target("GET", &path), case.bytes)?;
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        case: &'static Case,
        which: Which,
        round: usize,
        all: &mut BTreeMap<Which, Series>,
    ) -> Result<()> {
        let series = all.entry(which).or_insert_with(|| Series {
            server: which.name(),
            rounds: Vec::new(),
            half_load_p99_us: 0,
            peak_rss_bytes: 0,
        });
        if which == Which::Direct {
            series.rounds.push(self.direct(case)?);
            return Ok(());
        }
        let server = self.server(which)?;
        let pid = server.process.pid();
        let load = self.load(case, server, Some(round), Pace::Peak);
        reset_peak(pid);
        let before = cpu_seconds(&family(pid));
        let done = run_load(&load)?;
        if done.requests == 0 {
            return Err(Error::Wrong(format!("{} of {}: nothing was done in time", case.name, which.name())));
        }
        series.rounds.push(side(&done, cpu_seconds(&family(pid)) - before));
        series.peak_rss_bytes = series.peak_rss_bytes.max(resident_bytes(pid).1);
        clean(case, &load, done.requests)
    }

    fn load(&self, case: &Case, server: &Http, round: Option<usize>, pace: Pace) -> Load {
        let verb = if case.work == Work::Get { Verb::Get } else { Verb::Put(random_body(case.bytes)) };
        let bucket = if case.md5 { MD5_BUCKET } else { BUCKET };
        let name = match (case.work, round) {
            (Work::Create, Some(round)) => format!("{}-{round}", case.name),
            _ => case.name.to_owned(),
        };
        let targets =
            (0..case.keys).map(|blob| server.target(verb.method(), &path_in(bucket, &name, blob))).collect();
        Load {
            server: server.address,
            verb,
            targets,
            body_bytes: case.bytes,
            clients: self.plan.clients,
            length: self.plan.length,
            pace: if case.work == Work::Create { Pace::Once } else { pace },
        }
    }

    /// `redis-benchmark` counts requests, not time: one short run tells how many fill a round. Bytes per second of
    /// values of [`DIRECT_BYTES_MAX`] at most: it moves what is left of a value after every write to the socket, so
    /// larger ones would measure that.
    fn direct(&mut self, case: &'static Case) -> Result<Side> {
        let socket = self.engine_socket()?.to_owned();
        let mut engine = Engine::open(&socket)?;
        let bytes = case.bytes.min(DIRECT_BYTES_MAX);
        // As much data, up to what is enough to be no special case.
        let keys = usize::try_from(case.bytes * case.keys as u64 / bytes).unwrap_or(1).min(DIRECT_KEYS_MAX);
        let content = random_body(bytes);
        let test = if case.work == Work::Get { "get" } else { "set" };
        for key in 0..keys {
            engine.set(&benchmark_key(key), &content)?;
        }
        let clients = self.plan.clients;
        let run = |requests| redis_benchmark(&Run { socket: &socket, test, bytes, keys, clients, requests });
        let requests = match self.direct_requests.get(case.name) {
            Some(requests) => *requests,
            None => {
                let probe = run((clients as u64 * 4).max((256 << 20) / bytes))?;
                (probe.requests_per_second * self.plan.length.as_secs_f64()).max(4.0 * clients as f64) as u64
            }
        };
        self.direct_requests.insert(case.name, requests);
        let pid = self.server(Which::Uncached)?.process.pid();
        let before = cpu_seconds(&family(pid));
        let direct = run(requests)?;
        let cpu = cpu_seconds(&family(pid)) - before;
        for key in 0..keys {
            engine.unlink(&benchmark_key(key))?;
        }
        Ok(Side {
            bytes_per_second: direct.requests_per_second * bytes as f64,
            requests_per_second: direct.requests_per_second,
            p50_us: direct.p50_us,
            p99_us: direct.p99_us,
            cpu_seconds_per_gb: per_gb(cpu, (requests * bytes) as f64),
        })
    }

    fn half_load(&self, case: &Case, all: &mut BTreeMap<Which, Series>) -> Result<()> {
        for (which, series) in all.iter_mut().filter(|(which, _)| **which != Which::Direct) {
            let peak = report::median(&series.rounds, |side| side.requests_per_second);
            let load = self.load(case, self.server(*which)?, None, Pace::Rate(peak / 2.0));
            series.half_load_p99_us = run_load(&load)?.percentile_us(99);
        }
        Ok(())
    }
}

/// What was new in this round is deleted: the next one starts as this one did.
fn clean(case: &Case, load: &Load, written: u64) -> Result<()> {
    if case.work != Work::Create {
        return Ok(());
    }
    let written = usize::try_from(written).unwrap_or(usize::MAX);
    let targets = load.targets.iter().take(written).cloned().collect();
    let length = Duration::from_secs(600);
    run_load(&Load { verb: Verb::Delete, targets, pace: Pace::Once, length, ..load.clone() })?;
    Ok(())
}

/// A bucket that exists already is as good as a new one. Ours tells which ETags its objects get.
pub(crate) fn make_bucket(server: &Http) -> Result<()> {
    let empty = Verb::Put(Arc::new(Vec::new()));
    for (bucket, etag) in [(BUCKET, "opaque"), (MD5_BUCKET, "md5")] {
        let path = format!("/{bucket}");
        if server.which == Which::Signed {
            let headers = format!("Authorization: Bearer {SECRET_KEY}\r\nx-blobstore-etag: {etag}\r\n");
            Connection::open(server.address)?.exchange_with(&empty, &path, 0, &headers)?;
        } else {
            once(server.address, &empty, &server.target("PUT", &path), 0)?;
        }
    }
    Ok(())
}

/// Random, so that nothing on the way can shorten it.
pub(crate) fn random_body(bytes: u64) -> Arc<Vec<u8>> {
    let mut body = vec![0; usize::try_from(bytes).unwrap_or(0)];
    rand::rng().fill_bytes(&mut body);
    Arc::new(body)
}

/// What the ratio of this case is about.
pub(crate) fn figure(case: &Case, side: &Side) -> f64 {
    match case.unit {
        Unit::Bytes => side.bytes_per_second,
        Unit::Requests => side.requests_per_second,
    }
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

fn per_gb(seconds: f64, bytes: f64) -> f64 {
    if bytes > 0.0 { seconds / (bytes / 1e9) } else { 0.0 }
}
