//! One audit pass: SCAN in short calls, shapes in pipelines, references where a body is old enough to judge. Feeds
//! the ledger and the list of orphans.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use blobstore_sidecar_core::generation::Generation;
use blobstore_sidecar_core::hygiene::audit::{BodyId, Pass, Place, Reference, place};
use blobstore_sidecar_core::hygiene::book::{Ledger, Reconciled};
use blobstore_sidecar_core::hygiene::size_model::{Collection, Kind, SizeModel, kind};
use blobstore_sidecar_core::key::{ParsedKey, parse};
use blobstore_sidecar_core::ledger::Family;
use redis::{Value, cmd, pipe};

use crate::engine::{Engine, bulk, integer};
use crate::error::HygieneError;
use crate::references::{References, listed};

/// The engine serves nobody else while it scans: a call is to take no longer than this.
const SCAN_CALL_MAX: Duration = Duration::from_millis(1);
const SCAN_COUNT_MIN: usize = 50;
const SCAN_COUNT_MAX: usize = 1_000;
/// Between the last SCAN and the reckoning: time for the store to tell the ledger what the scan already saw.
const SETTLE: Duration = Duration::from_millis(300);
/// Members read of a collection: all of a small one, a sample of a large one whose mean stands for the rest.
const MEMBERS_READ_MAX: u64 = 512;
/// Commands per pipeline: a few hundred microseconds of engine time.
const PIPELINE_MAX: usize = 256;
/// Bytes of a record that say whether its chunks have a manifest.
const RECORD_HEAD_LAST: isize = 111;

/// A finished pass.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) pass: Pass,
    pub(crate) reconciled: Reconciled,
}

/// What a pass works with.
pub(crate) struct Walk<'a> {
    engine: &'a Engine,
    ledger: &'a Ledger,
    model: SizeModel,
    references: References,
    /// Collections that the book held when the pass began, and those that the scan met.
    known: HashSet<(Family, Box<[u8]>)>,
    met: HashSet<(Family, Box<[u8]>)>,
    pass: Pass,
}

/// Runs a pass over the whole keyspace. `progress` is told the keys seen so far.
pub(crate) async fn run(
    engine: &Engine,
    ledger: &Ledger,
    grace_seconds: u64,
    progress: impl Fn(u64),
) -> Result<Finished, HygieneError> {
    let mark = ledger.mark();
    let rebuilt = ledger.snapshot().not_rebuilt.is_none();
    let model = ledger.model();
    let (seconds, micros): (u64, u64) = engine.query("read TIME", &cmd("TIME")).await?;
    let known = if rebuilt { ledger.collections().into_iter().collect() } else { HashSet::new() };
    let mut walk = Walk {
        engine,
        ledger,
        model,
        references: References::default(),
        known,
        met: HashSet::new(),
        pass: Pass::new(model, seconds * 1_000 + micros / 1_000, grace_seconds),
    };
    let mut cursor = 0_u64;
    let mut count = SCAN_COUNT_MIN * 2;
    loop {
        let called = Instant::now();
        let (next, keys): (u64, Vec<Vec<u8>>) =
            engine.query("scan", cmd("SCAN").arg(cursor).arg("COUNT").arg(count)).await?;
        count = paced(count, called.elapsed());
        walk.page(&keys).await?;
        progress(walk.pass.keys);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    walk.finish().await?;
    tokio::time::sleep(SETTLE).await;
    let Walk { pass, .. } = walk;
    let reconciled = ledger.reconcile(&mark, &pass.seen);
    Ok(Finished { pass, reconciled })
}

/// Half as much after a slow call, a little more after a fast one.
fn paced(count: usize, took: Duration) -> usize {
    let wanted = if took > SCAN_CALL_MAX { count / 2 } else { count + count / 4 };
    wanted.clamp(SCAN_COUNT_MIN, SCAN_COUNT_MAX)
}

impl Walk<'_> {
    async fn page(&mut self, keys: &[Vec<u8>]) -> Result<(), HygieneError> {
        for keys in keys.chunks(PIPELINE_MAX) {
            let bodies: HashSet<BodyId> = keys
                .iter()
                .filter_map(|key| match place(key) {
                    Place::Body(_, body) if self.pass.judged(&body) => Some(body),
                    _ => None,
                })
                .collect();
            self.references.learn(self.engine, &bodies).await?;
            self.shapes(keys).await?;
        }
        Ok(())
    }

    async fn shapes(&mut self, keys: &[Vec<u8>]) -> Result<(), HygieneError> {
        let mut reads = pipe();
        for key in keys {
            match place(key) {
                Place::String(_) => {
                    reads.cmd("STRLEN").arg(key);
                    reads.cmd("GETRANGE").arg(key).arg(0).arg(RECORD_HEAD_LAST);
                }
                Place::Body(..) => {
                    reads.cmd("STRLEN").arg(key);
                }
                Place::Collection(family) => {
                    let size = if kind(family) == Some(Kind::Hash) { "HLEN" } else { "ZCARD" };
                    reads.cmd(size).arg(key);
                    reads.cmd("OBJECT").arg("ENCODING").arg(key);
                }
                Place::Foreign => {
                    reads.cmd("MEMORY").arg("USAGE").arg(key);
                }
            }
        }
        let answers = self.engine.pipe("read shapes", &mut reads).await?;
        let mut answers = answers.iter();
        let mut next = || answers.next().unwrap_or(&Value::Nil);
        for key in keys {
            match place(key) {
                Place::String(_) => {
                    let len = integer(next());
                    self.record(key, len, bulk(next()));
                }
                Place::Body(_, body) => {
                    let reference = self.references.get(&body).unwrap_or(Reference::Named);
                    self.pass.string(key, integer(next()), reference);
                }
                Place::Collection(family) => {
                    let (members, encoding) = (integer(next()), bulk(next()));
                    let expanded = !matches!(encoding, b"listpack" | b"ziplist");
                    self.collection(family, key, members, expanded).await?;
                }
                Place::Foreign => self.pass.foreign(key, integer(next())),
            }
        }
        Ok(())
    }

    /// A record; one with chunks but no manifest claims its body here.
    fn record(&mut self, key: &[u8], len: u64, head: &[u8]) {
        self.pass.string(key, len, Reference::Named);
        let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let (Some(chunks), Some(manifest_len)) = (word(100), word(108)) else { return };
        let tag = match parse(key) {
            Some(ParsedKey::Record { tag, .. } | ParsedKey::History { tag, .. })
                if chunks > 0 && manifest_len == 0 =>
            {
                tag
            }
            _ => return,
        };
        if let Some(id) = head.get(8..24).and_then(|id| id.try_into().ok()) {
            self.pass.claim(BodyId { tag, generation: Generation(id) });
        }
    }

    async fn collection(
        &mut self,
        family: Family,
        key: &[u8],
        members: u64,
        expanded: bool,
    ) -> Result<(), HygieneError> {
        self.pass.collection(key, members);
        let name = (family, Box::from(key));
        if !self.known.contains(&name) {
            let read = self.members(family, key, members).await?;
            let scale = |bytes: u64| (bytes as f64 * members as f64 / read.members.max(1) as f64) as u64;
            let collection = Collection {
                members,
                compact_bytes: scale(read.compact_bytes),
                table_bytes: scale(read.table_bytes),
                expanded,
            };
            self.ledger.adopt(family, key, collection);
        }
        self.met.insert(name);
        Ok(())
    }

    /// All members, or some at random.
    async fn members(&self, family: Family, key: &[u8], members: u64) -> Result<Collection, HygieneError> {
        let hash = kind(family) == Some(Kind::Hash);
        let mut read = match (hash, members <= MEMBERS_READ_MAX) {
            (true, true) => cmd("HGETALL"),
            (true, false) => cmd("HRANDFIELD"),
            (false, true) => cmd("ZRANGE"),
            (false, false) => cmd("ZRANDMEMBER"),
        };
        read.arg(key);
        match (hash, members <= MEMBERS_READ_MAX) {
            (true, true) => {}
            (true, false) => {
                read.arg(MEMBERS_READ_MAX).arg("WITHVALUES");
            }
            (false, true) => {
                read.arg(0).arg(-1);
            }
            (false, false) => {
                read.arg(MEMBERS_READ_MAX);
            }
        }
        let texts: Vec<Vec<u8>> = self.engine.query("read members", &read).await?;
        let per_member = if hash { 2 } else { 1 };
        let mut sum = Collection::default();
        for member in texts.chunks(per_member) {
            let len = member.iter().map(Vec::len).sum::<usize>() as u64;
            sum.members += 1;
            sum.compact_bytes += self.model.compact_member(family, len);
            sum.table_bytes += self.model.table_member(family, len);
        }
        Ok(sum)
    }

    /// Bodies that no record claimed, and collections that are gone.
    async fn finish(&mut self) -> Result<(), HygieneError> {
        let leftovers = self.pass.leftovers();
        for bodies in leftovers.chunks(PIPELINE_MAX) {
            let named = listed(self.engine, bodies).await?;
            for body in bodies {
                let reference = if named.contains(body) { Reference::Named } else { Reference::Nothing };
                self.pass.resolve(body, reference);
            }
        }
        let gone: Vec<&(Family, Box<[u8]>)> = self.known.difference(&self.met).collect();
        for names in gone.chunks(PIPELINE_MAX) {
            let mut exist = pipe();
            for (_, key) in names {
                exist.cmd("EXISTS").arg(&key[..]);
            }
            let answers = self.engine.pipe("look for collections", &mut exist).await?;
            for ((family, key), _) in names.iter().zip(&answers).filter(|(_, answer)| integer(answer) == 0) {
                self.ledger.adopt(*family, key, Collection::default());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scanning_slows_down_and_speeds_up_within_bounds() {
        let mut count = SCAN_COUNT_MIN;
        for _ in 0..50 {
            count = paced(count, Duration::from_micros(100));
        }
        assert_eq!(count, SCAN_COUNT_MAX);
        for _ in 0..50 {
            count = paced(count, Duration::from_millis(3));
        }
        assert_eq!(count, SCAN_COUNT_MIN);
    }
}
