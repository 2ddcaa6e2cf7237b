//! Memory: what a sidecar holds idle, over one upload, over a hundred at once and over ten thousand connections that
//! say nothing, and what its engine holds per byte stored. Each row has a process of its own.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::case::{LARGE, Which};
use crate::child::{reset_peak, resident_bytes, wait_until};
use crate::load::{Connection, Load, Pace, Verb, once, run as run_load};
use crate::measure::{Plan, make_bucket, random_body};
use crate::servers::engine::Engine;
use crate::servers::{Http, gateways, nginx, path, sidecar, whole_body};
use crate::{Error, Result, report};

const MIB: f64 = 1_048_576.0;
/// Uploads at once, and the blobs that they replace: a fifth of them, so that the data fits into memory.
const CROWD: usize = 100;
/// Of the server that holds whole bodies: a hundred would take what the machine has.
const CROWD_OF_WHOLE_BODIES: usize = 10;
const CROWD_BLOBS: usize = 20;
const HANDED_OUT: &str = "blobstore_sidecar_heap_handed_out_bytes_total";
const IDLE_CONNECTIONS: usize = 10_000;
/// A full server turns a client away; it comes again this often, this long apart, before the run has failed.
const TRIES_MAX: usize = 600;
const TRY_PAUSE: Duration = Duration::from_millis(100);
/// What was taken under load has to be given back within this.
const GIVE_BACK: Duration = Duration::from_secs(10);
/// Sizes and numbers of the blobs whose engine memory is measured: large against what an engine holds anyway.
const STORED: [(&str, u64, usize, f64); 4] = [
    ("4 KiB", 4 << 10, 20_000, 1.35),
    ("64 KiB", 64 << 10, 3_000, 1.02),
    ("1 MiB", 1 << 20, 300, 1.01),
    ("50 MB", LARGE, 8, 1.005),
];

/// One figure, with the most it should be, or the least; 0 is one without an aim.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) goal: f64,
    /// The goal is the least.
    pub(crate) least: bool,
}

impl Row {
    pub(crate) fn figure(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self::at_most(name, value, unit, 0.0)
    }

    pub(crate) fn at_most(name: impl Into<String>, value: f64, unit: &'static str, goal: f64) -> Self {
        Self { name: name.into(), value, unit, goal, least: false }
    }

    pub(crate) fn at_least(name: impl Into<String>, value: f64, unit: &'static str, goal: f64) -> Self {
        Self { least: true, ..Self::at_most(name, value, unit, goal) }
    }

    pub(crate) fn is_missed(&self) -> bool {
        self.goal > 0.0 && if self.least { self.value < self.goal } else { self.value > self.goal }
    }

    pub(crate) fn mib(name: impl Into<String>, bytes: u64, goal: f64) -> Self {
        Self::at_most(name, bytes as f64 / MIB, "MiB", goal)
    }
}

pub(crate) fn run(plan: &Plan, rounds: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    report::complain("memory: one upload, one download");
    one_at_a_time(plan, &mut rows)?;
    report::complain("memory: a hundred at once");
    crowd(&ours(plan)?, "ours", rounds, Some([64.0, 64.0, 20.0]), &mut rows)?;
    for (name, server) in [
        ("nginx", nginx::start()?),
        ("versitygw", gateways::versitygw(&plan.cache)?),
        ("MinIO", gateways::minio(&plan.cache)?),
    ] {
        report::complain(&format!("memory: a hundred at once, {name}"));
        if server.which.signs() {
            make_bucket(&server)?;
        }
        crowd(&server, name, 1, None, &mut rows)?;
    }
    report::complain("memory: whole bodies");
    whole_bodies(plan, &mut rows)?;
    report::complain("memory: allocations");
    allocations(plan, &mut rows)?;
    report::complain("memory: idle connections");
    idle_connections(plan, &mut rows)?;
    report::complain("memory: engine bytes per stored byte");
    stored(plan, &mut rows)?;
    Ok(rows)
}

fn ours(plan: &Plan) -> Result<Http> {
    let server = sidecar::start(&plan.sidecar, plan.engine.as_deref(), Which::Uncached)?;
    make_bucket(&server)?;
    Ok(server)
}

fn one_at_a_time(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let server = ours(plan)?;
    let pid = server.process.pid();
    let body = Verb::Put(random_body(LARGE));
    let blob = path("one", 0);
    rows.push(Row::mib("idle RSS", resident_bytes(pid).0, 15.0));
    warm(&server)?;
    for (name, verb) in [("peak over idle of one 50 MB PUT", &body), ("… GET", &Verb::Get)] {
        let idle = resident_bytes(pid).0;
        reset_peak(pid);
        once(server.address, verb, &blob, LARGE)?;
        rows.push(Row::mib(name, resident_bytes(pid).1.saturating_sub(idle), 4.0));
    }
    Ok(())
}

/// Code that runs for the first time is paged in: that is no part of an upload.
fn warm(server: &Http) -> Result<()> {
    let (blob, bytes) = (path("warm", 0), 1 << 20);
    for verb in [Verb::Put(random_body(bytes)), Verb::Get] {
        once(server.address, &verb, &server.target(verb.method(), &blob), bytes)?;
    }
    Ok(())
}

/// The same of the usual way, with a tenth of the clients.
fn whole_bodies(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let ours = ours(plan)?;
    let socket = ours.engine_socket.as_deref().ok_or_else(|| Error::Wrong("no engine".to_owned()))?;
    let server = whole_body(socket)?;
    warm(&server)?;
    let (pid, idle) = (server.process.pid(), family_resident(&server));
    reset_peak(pid);
    all_at_once(&server, &Verb::Put(random_body(LARGE)), CROWD_OF_WHOLE_BODIES)?;
    let over = family_peak(&server).saturating_sub(idle);
    let name = format!("{CROWD_OF_WHOLE_BODIES} PUTs of 50 MB at once over idle, {}", server.which.name());
    rows.push(Row::mib(name, over, 0.0));
    Ok(())
}

/// A hundred uploads at once and then, of ours, as many downloads.
fn crowd(
    server: &Http,
    name: &str,
    rounds: usize,
    goals: Option<[f64; 3]>,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let pid = server.process.pid();
    let body = Verb::Put(random_body(LARGE));
    warm(server)?;
    let idle = family_resident(server);
    let (mut first, mut highest) = ([0_u64; 2], [0_u64; 2]);
    let verbs: &[&Verb] = if goals.is_some() { &[&body, &Verb::Get] } else { &[&body] };
    for round in 0..rounds {
        for (index, verb) in verbs.iter().enumerate() {
            reset_peak(pid);
            all_at_once(server, verb, CROWD)?;
            let over = family_peak(server).saturating_sub(idle);
            if round == 0 {
                first[index] = over;
            }
            highest[index] = highest[index].max(over);
        }
    }
    let [put, get, back] = goals.unwrap_or_default();
    rows.push(Row::mib(format!("100 PUTs of 50 MB at once over idle, {name}"), highest[0], put));
    if goals.is_some() {
        rows.push(Row::mib(format!("100 GETs of 50 MB at once over idle, {name}"), highest[1], get));
        let growth = highest[0].saturating_sub(first[0]).max(highest[1].saturating_sub(first[1]));
        rows.push(Row::mib(format!("growth from round 1 to the worst of {rounds}"), growth, 16.0));
    }
    let percent = |now: u64| (now as f64 / idle as f64 - 1.0) * 100.0;
    let given_back = || {
        let over = percent(family_resident(server));
        (over <= 20.0).then_some(over)
    };
    let over = wait_until(GIVE_BACK, given_back).unwrap_or_else(|| percent(family_resident(server)));
    let name = format!("over idle 10 s after the load at most, {name}");
    rows.push(Row::at_most(name, over.max(0.0), "%", back));
    Ok(())
}

/// Of a sidecar the process alone: its engine's memory is the data.
fn members(server: &Http) -> Vec<u32> {
    match server.which {
        Which::Nginx => crate::child::family(server.process.pid()),
        _ => vec![server.process.pid()],
    }
}

fn family_resident(server: &Http) -> u64 {
    members(server).into_iter().map(|pid| resident_bytes(pid).0).sum()
}

fn family_peak(server: &Http) -> u64 {
    members(server).into_iter().map(|pid| resident_bytes(pid).1).sum()
}

fn all_at_once(server: &Http, verb: &Verb, clients: usize) -> Result<()> {
    let number = AtomicUsize::new(0);
    let one = || {
        let blob = path("crowd", number.fetch_add(1, Ordering::Relaxed) % CROWD_BLOBS);
        let target = server.target(verb.method(), &blob);
        let mut last = None;
        for _ in 0..TRIES_MAX {
            match once(server.address, verb, &target, LARGE) {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
            std::thread::sleep(TRY_PAUSE);
        }
        Err(last.unwrap_or_else(|| Error::Wrong("never tried".to_owned())))
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        clients.into_iter().try_for_each(|client| {
            client.join().unwrap_or_else(|_| Err(Error::Wrong("a client panicked".to_owned())))
        })
    })
}

/// Bytes that the heap hands out for a thousand requests of 4 KiB, on connections that stay open.
fn allocations(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    const BYTES: u64 = 4 << 10;
    let server = sidecar::start(&plan.sidecar, plan.engine.as_deref(), Which::Cached)?;
    make_bucket(&server)?;
    let body = Verb::Put(random_body(BYTES));
    for (name, verb, goal) in [("PUTs", &body, 2.5), ("GETs from the cache", &Verb::Get, 1.5)] {
        let load = Load {
            server: server.address,
            verb: verb.clone(),
            // Each of the first thousand is asked for once before the count begins, and eight times while it runs.
            targets: (0..8_000).map(|turn| path("small", turn % 1_000)).collect(),
            body_bytes: BYTES,
            clients: plan.clients,
            length: Duration::from_secs(600),
            pace: Pace::Once,
        };
        run_load(&Load { targets: load.targets.iter().take(1_000).cloned().collect(), ..load.clone() })?;
        let before = sidecar::counter(&server, HANDED_OUT)?;
        let done = run_load(&load)?;
        let bytes = (sidecar::counter(&server, HANDED_OUT)? - before) / (done.requests as f64 / 1_000.0);
        rows.push(Row::mib(format!("heap handed out per 1,000 {name} of 4 KiB"), bytes as u64, goal));
    }
    Ok(())
}

fn idle_connections(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let server = ours(plan)?;
    let pid = server.process.pid();
    let blob = path("idle", 0);
    once(server.address, &Verb::Put(random_body(1_000)), &blob, 1_000)?;
    let idle = resident_bytes(pid).0;
    let mut open: Vec<TcpStream> = Vec::with_capacity(IDLE_CONNECTIONS);
    for _ in 0..IDLE_CONNECTIONS {
        let mut connection = Connection::open(server.address)?;
        connection.exchange(&Verb::Get, &blob, 1_000)?;
        open.push(connection.into_socket());
    }
    let over = resident_bytes(pid).0.saturating_sub(idle);
    rows.push(Row::mib(format!("{} idle keep-alive connections over idle", open.len()), over, 150.0));
    Ok(())
}

fn stored(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    for (name, bytes, count, goal) in STORED {
        let server = ours(plan)?;
        let socket = server.engine_socket.as_deref().ok_or_else(|| Error::Wrong("no engine".to_owned()))?;
        let mut engine = Engine::open(socket)?;
        let mut used = || -> Result<u64> {
            let all = engine.info("memory", "used_memory")?;
            Ok(all.saturating_sub(engine.info("memory", "mem_clients_normal")?))
        };
        let before = used()?;
        let load = Load {
            server: server.address,
            verb: Verb::Put(random_body(bytes)),
            targets: (0..count).map(|blob| path("stored", blob)).collect(),
            body_bytes: bytes,
            clients: plan.clients,
            length: Duration::from_secs(600),
            pace: Pace::Once,
        };
        let done = run_load(&load)?;
        // The journal of the last uploads is trimmed a moment later.
        let settled = Instant::now() + Duration::from_secs(2);
        let mut least = used()?;
        while Instant::now() < settled {
            least = least.min(used()?);
            std::thread::sleep(TRY_PAUSE);
        }
        let value = least.saturating_sub(before) as f64 / done.bytes as f64;
        rows.push(Row::at_most(format!("engine memory per stored byte, {name}"), value, "×", goal));
    }
    Ok(())
}
