//! An audit pass: every key of the engine is ours and live, ours and unreferenced, or foreign. Two passes have to
//! agree before unreferenced bodies older than the grace are orphans. The shell reads; this decides.

use std::collections::{HashMap, HashSet};

use crate::generation::Generation;
use crate::hygiene::book::SeenBytes;
use crate::hygiene::largest::Largest;
use crate::hygiene::sample::AuditFindings;
use crate::hygiene::size_model::{SizeModel, kind};
use crate::key::{ParsedKey, parse};
use crate::ledger::Family;
use crate::partition::PartitionTag;

/// Bodies listed per pass: 100,000 need about 8 MB. More are found by the next pass, after these are freed.
pub const BODIES_LISTED_MAX: usize = 100_000;
/// Records that wait for their chunk to turn up: 500,000 need about 15 MB. Past that a body may look unclaimed in
/// one pass; the script that frees reads the whole slot before it believes that.
const CLAIMS_MAX: usize = 500_000;
/// Foreign keys and orphans shown to people.
const EXAMPLES_MAX: usize = 5;
/// An example longer than this tells no more.
const EXAMPLE_CHARS_MAX: usize = 80;

/// Members of our collections are names with a generation or a size: enough to rank them by.
const MEMBER_BYTES: u64 = 96;

/// One written body: manifest and chunks of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyId {
    pub tag: PartitionTag,
    pub generation: Generation,
}

/// What an unreferenced body holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Body {
    pub keys: u64,
    pub bytes: u64,
    /// Chunks that may exist: one more than the highest index met.
    pub chunks: u32,
}

impl Body {
    fn grow(&mut self, bytes: u64, chunks: u32) {
        self.keys += 1;
        self.bytes += bytes;
        self.chunks = self.chunks.max(chunks);
    }
}

/// What a key is, by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A string that is live as long as it exists.
    String(Family),
    Collection(Family),
    /// Part of a body: live only while something refers to the generation.
    Body(Family, BodyId),
    Foreign,
}

pub fn place(key: &[u8]) -> Place {
    match parse(key) {
        Some(ParsedKey::Manifest { tag, generation }) => {
            Place::Body(Family::Manifest, BodyId { tag, generation })
        }
        Some(ParsedKey::Chunk { tag, generation, .. }) => {
            Place::Body(Family::Chunk, BodyId { tag, generation })
        }
        Some(ParsedKey::Record { .. } | ParsedKey::Staged { .. } | ParsedKey::History { .. }) => {
            Place::String(Family::Record)
        }
        Some(ParsedKey::PartList { .. }) => Place::String(Family::Manifest),
        Some(ParsedKey::Upload { .. }) => Place::Collection(Family::Upload),
        Some(ParsedKey::OpenUploads { .. }) => Place::Collection(Family::OpenUploads),
        Some(ParsedKey::Expiry { .. }) => Place::Collection(Family::Expiry),
        Some(ParsedKey::Damage { .. }) => Place::Collection(Family::Damage),
        Some(ParsedKey::Versions { .. }) => Place::Collection(Family::Versions),
        Some(ParsedKey::Bucket { .. }) => Place::Collection(Family::Bucket),
        Some(ParsedKey::Names { .. }) => Place::Collection(Family::Names),
        Some(ParsedKey::Journal { .. }) => Place::Collection(Family::Journal),
        Some(ParsedKey::PendingFree { .. }) => Place::Collection(Family::PendingFree),
        Some(ParsedKey::Sums { .. }) => Place::Collection(Family::Sums),
        None => Place::Foreign,
    }
}

/// Whether anything names a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    Named,
    /// There is no manifest to say whose it is: a record met in this pass may claim it.
    Unclaimed,
    /// By nothing that we found. The script that frees looks again.
    Nothing,
}

/// Keys outside the data model.
#[derive(Clone, Debug, Default)]
struct Foreign {
    keys: u64,
    bytes: u64,
    examples: Vec<String>,
}

/// One pass in the making.
#[derive(Clone, Debug)]
pub struct Pass {
    model: SizeModel,
    /// Generations born before this are past the grace, by the engine's clock.
    old_before_ms: u64,
    pub keys: u64,
    pub seen: SeenBytes,
    unreferenced: HashMap<BodyId, Body>,
    /// Bodies without manifest and the records that claim them; whichever comes first waits for the other.
    unclaimed: HashMap<BodyId, Body>,
    claims: HashSet<BodyId>,
    foreign: Foreign,
    /// But for chunks and manifests, which are parts of a blob.
    largest: Largest,
}

impl Pass {
    pub fn new(model: SizeModel, engine_now_ms: u64, grace_seconds: u64) -> Self {
        Self {
            model,
            old_before_ms: engine_now_ms.saturating_sub(grace_seconds * 1_000),
            keys: 0,
            seen: SeenBytes::default(),
            unreferenced: HashMap::new(),
            unclaimed: HashMap::new(),
            claims: HashSet::new(),
            foreign: Foreign::default(),
            largest: Largest::default(),
        }
    }

    /// A body too young to judge is live: its upload may still be running.
    pub fn judged(&self, body: &BodyId) -> bool {
        body.generation.born_ms() < self.old_before_ms
    }

    /// A string key of ours with the length of its value. `reference` matters for bodies past the grace.
    pub fn string(&mut self, key: &[u8], value_len: u64, reference: Reference) {
        self.keys += 1;
        let bytes = self.model.string_key(key.len(), usize::try_from(value_len).unwrap_or(usize::MAX));
        match place(key) {
            Place::Body(_, body) if reference == Reference::Nothing && self.judged(&body) => {
                note(&mut self.unreferenced, body, bytes, chunks(key));
            }
            Place::Body(_, body) if reference == Reference::Unclaimed && self.judged(&body) => {
                if !self.claims.remove(&body) {
                    note(&mut self.unclaimed, body, bytes, chunks(key));
                    return;
                }
                self.seen.add(Family::Chunk, bytes);
            }
            Place::String(family) => {
                self.largest.note(key, bytes);
                self.seen.add(family, bytes);
            }
            Place::Body(family, _) => self.seen.add(family, bytes),
            Place::Collection(_) | Place::Foreign => {}
        }
    }

    /// A record whose chunk has no manifest names this body.
    pub fn claim(&mut self, body: BodyId) {
        match self.unclaimed.remove(&body) {
            Some(what) => self.seen.add(Family::Chunk, what.bytes),
            None => {
                if self.claims.len() < CLAIMS_MAX {
                    self.claims.insert(body);
                }
            }
        }
    }

    /// After the last page: bodies that no record claimed. The shell asks journal and pending free once more.
    pub fn leftovers(&self) -> Vec<BodyId> {
        self.unclaimed.keys().copied().collect()
    }

    /// The answer for one of the leftovers.
    pub fn resolve(&mut self, body: &BodyId, reference: Reference) {
        let Some(what) = self.unclaimed.remove(body) else { return };
        if reference == Reference::Nothing {
            self.unreferenced.insert(*body, what);
        } else {
            self.seen.add(Family::Chunk, what.bytes);
        }
    }

    /// A collection: counted by the ledger under its name.
    pub fn collection(&mut self, key: &[u8], members: u64) {
        self.keys += 1;
        self.largest.note(key, members.saturating_mul(MEMBER_BYTES));
    }

    pub fn foreign(&mut self, key: &[u8], bytes: u64) {
        self.keys += 1;
        self.foreign.keys += 1;
        self.foreign.bytes += bytes;
        self.largest.note(key, bytes);
        if self.foreign.examples.len() < EXAMPLES_MAX {
            let text = String::from_utf8_lossy(key);
            self.foreign.examples.push(text.chars().take(EXAMPLE_CHARS_MAX).collect());
        }
    }
}

/// How many chunks there are at least, by a chunk's index.
fn chunks(key: &[u8]) -> u32 {
    match parse(key) {
        Some(ParsedKey::Chunk { index, .. }) => index.saturating_add(1),
        _ => 0,
    }
}

fn note(bodies: &mut HashMap<BodyId, Body>, id: BodyId, bytes: u64, chunks: u32) {
    if bodies.len() < BODIES_LISTED_MAX || bodies.contains_key(&id) {
        bodies.entry(id).or_default().grow(bytes, chunks);
    }
}

/// What the passes so far agree on.
#[derive(Clone, Debug, Default)]
pub struct Audits {
    passes: u64,
    last: HashMap<BodyId, Body>,
    agreed: HashMap<BodyId, Body>,
    foreign: Foreign,
    largest: Largest,
}

impl Audits {
    /// A finished pass: what it and the one before both saw unreferenced is an orphan.
    pub fn conclude(&mut self, pass: Pass) {
        self.agreed = pass
            .unreferenced
            .iter()
            .filter(|(body, _)| self.last.contains_key(body))
            .map(|(body, what)| (*body, *what))
            .collect();
        self.last = pass.unreferenced;
        self.foreign = pass.foreign;
        self.largest = pass.largest;
        self.passes += 1;
    }

    /// The largest keys of the last pass.
    pub fn largest(&self) -> &Largest {
        &self.largest
    }

    /// Orphans for reclaim, oldest first.
    pub fn orphans(&self) -> Vec<(BodyId, Body)> {
        let mut orphans: Vec<(BodyId, Body)> = self.agreed.iter().map(|(id, body)| (*id, *body)).collect();
        orphans.sort_by_key(|(id, _)| (id.generation, id.tag));
        orphans
    }

    /// The script freed it, or found that it is live after all.
    pub fn settle(&mut self, body: &BodyId) {
        self.agreed.remove(body);
        self.last.remove(body);
    }

    /// Another engine: what was seen on the old one says nothing.
    pub fn forget(&mut self) {
        *self = Self { passes: self.passes, ..Self::default() };
    }

    pub fn findings(&self) -> AuditFindings {
        let sum = |bodies: &HashMap<BodyId, Body>| {
            bodies.values().fold((0, 0), |(keys, bytes), body| (keys + body.keys, bytes + body.bytes))
        };
        let (orphan_keys, orphan_bytes) = sum(&self.agreed);
        let (_, last_bytes) = sum(&self.last);
        let example = |(id, body): &(BodyId, Body)| {
            format!("k:{{{}}}:{} with {} keys, {} bytes", id.tag, id.generation, body.keys, body.bytes)
        };
        AuditFindings {
            passes: self.passes,
            orphan_keys,
            orphan_bytes,
            unproved_orphan_bytes: last_bytes.saturating_sub(orphan_bytes),
            orphan_examples: self.orphans().iter().take(EXAMPLES_MAX).map(example).collect(),
            foreign_keys: self.foreign.keys,
            foreign_bytes: self.foreign.bytes,
            foreign_examples: self.foreign.examples.clone(),
        }
    }
}

/// A collection's family must match the type of its key.
pub fn expected_type(family: Family) -> &'static str {
    match kind(family) {
        Some(crate::hygiene::size_model::Kind::Hash) => "hash",
        Some(crate::hygiene::size_model::Kind::Zset) => "zset",
        None => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hygiene::size_model::ASSUMED;
    use crate::key::{chunk, manifest, record};
    use crate::partition::tag_of;

    const NOW_MS: u64 = 1_800_000_000_000;
    const GRACE_SECONDS: u64 = 900;

    fn body(age_seconds: u64, salt: u8) -> BodyId {
        BodyId { tag: tag_of(3, 256), generation: Generation::new(NOW_MS - age_seconds * 1_000, [salt; 10]) }
    }

    fn pass_over(bodies: &[(BodyId, Reference)]) -> Pass {
        let mut pass = Pass::new(ASSUMED, NOW_MS, GRACE_SECONDS);
        for (id, reference) in bodies {
            pass.string(manifest(id.tag, id.generation).as_bytes(), 200, *reference);
            pass.string(chunk(id.tag, id.generation, 0).as_bytes(), 262_080, *reference);
        }
        pass
    }

    #[test]
    fn one_pass_proves_nothing_two_do() {
        let old = body(1_000, 1);
        let mut audits = Audits::default();
        audits.conclude(pass_over(&[(old, Reference::Nothing)]));
        let first = audits.findings();
        assert_eq!((first.orphan_keys, first.unproved_orphan_bytes > 262_144), (0, true));
        audits.conclude(pass_over(&[(old, Reference::Nothing)]));
        let second = audits.findings();
        assert_eq!((second.orphan_keys, second.unproved_orphan_bytes), (2, 0));
        assert!(second.orphan_examples[0].starts_with("k:{"), "{:?}", second.orphan_examples);
        audits.settle(&old);
        assert_eq!(audits.findings().orphan_bytes, 0);
    }

    #[test]
    fn young_named_and_vanished_bodies_are_no_orphans() {
        let (young, named, gone) = (body(100, 1), body(5_000, 2), body(5_000, 3));
        let mut audits = Audits::default();
        audits.conclude(pass_over(&[
            (young, Reference::Nothing),
            (named, Reference::Named),
            (gone, Reference::Nothing),
        ]));
        audits.conclude(pass_over(&[(young, Reference::Nothing), (named, Reference::Named)]));
        let findings = audits.findings();
        assert_eq!((findings.orphan_keys, findings.unproved_orphan_bytes), (0, 0));
    }

    #[test]
    fn a_record_claims_its_chunk_before_or_after_it_is_met() {
        let (first, second, third) = (body(5_000, 1), body(5_000, 2), body(5_000, 3));
        let mut pass = Pass::new(ASSUMED, NOW_MS, GRACE_SECONDS);
        pass.claim(first);
        for id in [first, second, third] {
            pass.string(chunk(id.tag, id.generation, 0).as_bytes(), 1_000, Reference::Unclaimed);
        }
        pass.claim(second);
        assert_eq!(pass.leftovers(), [third]);
        pass.resolve(&third, Reference::Nothing);
        assert_eq!(pass.seen.total(), 2 * ASSUMED.string_key(40, 1_000));
        let mut audits = Audits::default();
        audits.conclude(pass);
        assert!(audits.findings().unproved_orphan_bytes > 1_000);
    }

    #[test]
    fn live_bytes_go_to_the_ledger_and_foreign_keys_are_told() {
        let mut pass = pass_over(&[(body(5_000, 1), Reference::Named)]);
        let name = record(tag_of(3, 256), "b", "n");
        pass.string(name.as_bytes(), 128, Reference::Named);
        pass.foreign(b"cache:1", 77);
        assert!(pass.seen.total() > 262_144 + 128);
        let mut audits = Audits::default();
        audits.conclude(pass);
        let findings = audits.findings();
        assert_eq!((findings.foreign_keys, findings.foreign_bytes), (1, 77));
        assert_eq!(findings.foreign_examples, ["cache:1"]);
    }
}
