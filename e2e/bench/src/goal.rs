//! Ten thousand reads of images at concurrency 100, half of what is read in the cache: throughput, latency, and what is
//! left of it in memory and tasks. The aims are twice the goals of a caching proxy: 300 ms at the 99th percentile, 1,000/s.

use std::time::Duration;

use rand::seq::SliceRandom as _;

use crate::child::{reset_peak, resident_bytes, wait_until};
use crate::load::{Done, Load, Pace, Verb, once, run as run_load};
use crate::measure::{Plan, make_bucket, random_body};
use crate::memory::Row;
use crate::servers::{Http, path, sidecar};
use crate::{Error, Result, report};

const NAME: &str = "10,000 GETs of images of 2 MB at concurrency 100";
const REQUESTS: usize = 10_000;
const CLIENTS: usize = 100;
const IMAGE_BYTES: u64 = 2_000_000;
/// Enough that the cache cannot hold them, few enough that the engine can.
const IMAGES: usize = 200;
/// A bucket may have half of it: half of the images.
const CACHE_BYTES: u64 = IMAGES as u64 * IMAGE_BYTES;
const P99_MS_MAX: f64 = 150.0;
const PER_SECOND_MIN: f64 = 2_000.0;
/// Two halves of one load: what grows with the number of requests shows between their peaks.
const GROWTH_MIB_MAX: f64 = 16.0;
/// Connections end, and what was taken under load is given back.
const GIVE_BACK: Duration = Duration::from_secs(10);
const OVER_PERCENT_MAX: f64 = 20.0;
const HITS: &str = "blobstore_sidecar_cache_hits_total";
const MISSES: &str = "blobstore_sidecar_cache_misses_total";

/// What the process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    resident: u64,
    tasks: f64,
}

pub(crate) fn run(plan: &Plan) -> Result<Vec<Row>> {
    if !NAME.contains(&plan.only) {
        return Ok(Vec::new());
    }
    report::complain(NAME);
    let server = sidecar::with_cache(&plan.sidecar, plan.engine.as_deref(), CACHE_BYTES)?;
    make_bucket(&server)?;
    let image = random_body(IMAGE_BYTES);
    for number in 0..IMAGES {
        once(server.address, &Verb::Put(image.clone()), &path("image", number), IMAGE_BYTES)?;
    }
    let pid = server.process.pid();
    // Each is asked for once: the cache is full, and its pages are no growth.
    load(&server, IMAGES)?;
    let before = settled(&server, None)?;
    let (hits, misses) = (sidecar::sum(&server, HITS)?, sidecar::sum(&server, MISSES)?);
    let mut halves = Vec::new();
    for _ in 0..2 {
        reset_peak(pid);
        let done = load(&server, REQUESTS / 2)?;
        halves.push((done, resident_bytes(pid).1));
    }
    let (hits, misses) = (sidecar::sum(&server, HITS)? - hits, sidecar::sum(&server, MISSES)? - misses);
    let after = settled(&server, Some(before))?;
    let mut rows = speed(&halves);
    rows.push(Row::figure("… lookups that the cache answered", 100.0 * hits / (hits + misses).max(1.0), "%"));
    rows.extend(left(&halves, before, after));
    Ok(rows)
}

fn load(server: &Http, requests: usize) -> Result<Done> {
    let mut targets: Vec<String> = (0..requests).map(|turn| path("image", turn % IMAGES)).collect();
    targets.shuffle(&mut rand::rng());
    let done = run_load(&Load {
        server: server.address,
        verb: Verb::Get,
        targets,
        body_bytes: IMAGE_BYTES,
        clients: CLIENTS,
        length: Duration::from_secs(600),
        pace: Pace::Once,
    })?;
    match done.requests {
        count if count == requests as u64 => Ok(done),
        count => Err(Error::Wrong(format!("{count} of {requests} requests were made in time"))),
    }
}

/// Once connections have ended, and, where there is a `before`, what was taken since is given back or late.
fn settled(server: &Http, before: Option<Held>) -> Result<Held> {
    let look = || -> Result<Held> {
        let tasks = sidecar::sum(server, "blobstore_sidecar_tasks_started_total")?
            - sidecar::sum(server, "blobstore_sidecar_tasks_ended_total")?;
        Ok(Held { resident: resident_bytes(server.process.pid()).0, tasks })
    };
    let mut last = look()?;
    wait_until(GIVE_BACK, || {
        let now = look();
        let calm = match (&now, before) {
            (Ok(now), Some(before)) => now.tasks <= before.tasks && over(*now, before) <= OVER_PERCENT_MAX,
            (Ok(now), None) => now.tasks == last.tasks,
            (Err(_), _) => true,
        };
        if let Ok(now) = &now {
            last = *now;
        }
        calm.then_some(now)
    })
    .unwrap_or(Ok(last))
}

fn over(now: Held, before: Held) -> f64 {
    (now.resident as f64 / before.resident as f64 - 1.0) * 100.0
}

fn speed(halves: &[(Done, u64)]) -> Vec<Row> {
    let seconds: f64 = halves.iter().map(|(done, _)| done.seconds).sum();
    let mut all = Done { seconds, ..Done::default() };
    for (done, _) in halves {
        all.requests += done.requests;
        all.bytes += done.bytes;
        all.latency_us.extend(&done.latency_us);
    }
    all.latency_us.sort_unstable();
    let ms = |percent| all.percentile_us(percent) as f64 / 1_000.0;
    vec![
        Row::at_least(NAME, all.requests as f64 / seconds, "/s", PER_SECOND_MIN),
        Row::figure("… throughput", all.bytes_per_second() / 1e6, "MB/s"),
        Row::figure("… latency, median", ms(50), "ms"),
        Row::at_most("… latency, 99th percentile", ms(99), "ms", P99_MS_MAX),
    ]
}

fn left(halves: &[(Done, u64)], before: Held, after: Held) -> Vec<Row> {
    let peak = |half: usize| halves.get(half).map_or(0, |(_, peak)| *peak);
    vec![
        Row::mib("… RSS before, the cache full", before.resident, 0.0),
        Row::mib("… peak RSS, first half", peak(0), 0.0),
        Row::mib("… growth of the peak in the second half", peak(1).saturating_sub(peak(0)), GROWTH_MIB_MAX),
        Row::mib("… RSS 10 s after at most", after.resident, 0.0),
        Row::at_most(
            "… over before, 10 s after at most",
            over(after, before).max(0.0),
            "%",
            OVER_PERCENT_MAX,
        ),
        Row::figure("… tasks before", before.tasks, ""),
        Row::at_most("… tasks 10 s after at most", after.tasks, "", before.tasks),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(latency_us: Vec<u64>, seconds: f64) -> Done {
        let requests = latency_us.len() as u64;
        Done { requests, bytes: requests * IMAGE_BYTES, seconds, latency_us }
    }

    /// R002-goal: how its figures are reckoned.
    #[test]
    fn two_halves_are_one_load() {
        let halves = [(done(vec![1_000; 98], 0.5), 5 << 20), (done(vec![9_000, 500_000], 1.5), 7 << 20)];
        let rows = speed(&halves);
        assert!((rows[0].value - 50.0).abs() < 1e-9, "100 in two seconds: {}", rows[0].value);
        assert!((rows[3].value - 9.0).abs() < 1e-9, "the 99th of a hundred: {}", rows[3].value);
        let held = |resident, tasks| Held { resident, tasks };
        let rows = left(&halves, held(100, 7.0), held(110, 8.0));
        let missed: Vec<bool> = rows.iter().map(Row::is_missed).collect();
        assert_eq!(missed, [false, false, false, false, false, false, true], "a task is left");
        assert!((rows[2].value - 2.0).abs() < 1e-9);
        assert!((rows[4].value - 10.0).abs() < 1e-9);
    }
}
