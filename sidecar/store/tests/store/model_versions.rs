//! Random operations on a bucket that keeps versions, against a model in memory and through restarts: every version is
//! where the model has it, and what is emptied leaves nothing behind.

use std::collections::BTreeMap;

use blobstore_sidecar_core::{etag::ETag, precondition::Conditions};
use blobstore_sidecar_store::{
    Change, DeleteRequest, ErrorKind, GetRequest, PutOutcome, StoreOptions, UpdateRequest, Version,
    VersionItem, Versioning,
};
use bytes::Bytes;
use proptest::prelude::*;

use crate::{
    common::{Bench, bucket, name, open, payload, read},
    model::run_model,
    multipart::{begin, complete, part, refs, small_parts},
    versions::{delete_request, listing, pages},
};

/// Inline, one chunk, several.
const SIZES: [usize; 5] = [0, 100, 16_385, 262_080, 600_000];
const NAMES: [&str; 4] = ["a", "a/1", "a/2", "b"];
const CASES: u32 = 16;

#[derive(Clone, Debug)]
enum Step {
    Keep(bool),
    Put { name: usize, size: usize, seed: u64 },
    Parts { name: usize, size: usize, seed: u64 },
    Delete { name: usize },
    Purge { name: usize, version: usize },
    Get { name: usize, version: usize },
    Tag { name: usize, version: usize, tag: String },
    List { delimiter: bool, max: usize },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let size = 0..SIZES.len();
    let version = 0_usize..5;
    prop_oneof![
        2 => any::<bool>().prop_map(Step::Keep),
        8 => (name.clone(), size.clone(), any::<u64>())
            .prop_map(|(name, size, seed)| Step::Put { name, size, seed }),
        2 => (name.clone(), size, any::<u64>()).prop_map(|(name, size, seed)| Step::Parts { name, size, seed }),
        4 => name.clone().prop_map(|name| Step::Delete { name }),
        5 => (name.clone(), version.clone()).prop_map(|(name, version)| Step::Purge { name, version }),
        5 => (name.clone(), version.clone()).prop_map(|(name, version)| Step::Get { name, version }),
        2 => (name, version, "[a-z]{0,4}")
            .prop_map(|(name, version, tag)| Step::Tag { name, version, tag }),
        3 => (any::<bool>(), 1_usize..6).prop_map(|(delimiter, max)| Step::List { delimiter, max }),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Debug)]
struct Kept {
    version: Version,
    /// `None`: a delete marker.
    body: Option<(Bytes, ETag)>,
    tags: Vec<(String, String)>,
}

#[derive(Debug)]
struct Model {
    keeps: Versioning,
    /// The newest last.
    names: BTreeMap<&'static str, Vec<Kept>>,
}

impl Model {
    fn of(&self, name_: &str) -> &[Kept] {
        self.names.get(name_).map(Vec::as_slice).unwrap_or_default()
    }

    /// A version that is there, or one that is not.
    fn pick(&self, name_: &str, at: usize) -> Version {
        let there = self.of(name_).get(at).map(|kept| kept.version);
        there.unwrap_or(Version::Id(blobstore_sidecar_core::generation::Generation([7; 16])))
    }

    fn add(&mut self, name_: &'static str, version: Version, body: Option<(Bytes, ETag)>) {
        let all = self.names.entry(name_).or_default();
        if version == Version::Null {
            all.retain(|kept| kept.version != Version::Null);
        }
        all.push(Kept { version, body, tags: Vec::new() });
    }

    async fn step(&mut self, bench: &mut Bench, step: &Step, options: &StoreOptions) {
        match step {
            Step::Keep(on) => {
                self.keeps = if *on { Versioning::Enabled } else { Versioning::Suspended };
                let set = bench.store.set_versioning(&bucket(), self.keeps).await.expect("set");
                assert_eq!(set.versioning(), self.keeps);
            }
            Step::Put { name: at, size, seed } => {
                let body = payload(SIZES[*size], *seed);
                let stored = bench.put(NAMES[*at], body.clone()).await;
                self.stored(NAMES[*at], body, &stored);
            }
            Step::Parts { name: at, size, seed } => {
                let body = payload(SIZES[*size], *seed);
                let to = begin(&bench.store, NAMES[*at]).await;
                let stored = part(&bench.store, &to, 3, body.clone()).await.expect("stored");
                let list = refs(std::slice::from_ref(&stored));
                let done = complete(&bench.store, &to, list).await.expect("completed");
                self.stored(NAMES[*at], body, &done);
            }
            Step::Delete { name: at } => self.delete(bench, NAMES[*at]).await,
            Step::Purge { name: at, version } => {
                self.purge(bench, NAMES[*at], self.pick(NAMES[*at], *version)).await;
            }
            Step::Get { name: at, version } => {
                self.current(bench, NAMES[*at]).await;
                self.get(bench, NAMES[*at], self.pick(NAMES[*at], *version)).await;
            }
            Step::Tag { name: at, version, tag } => self.tag(bench, NAMES[*at], *version, tag).await,
            Step::List { delimiter, max } => self.list(bench, *delimiter, *max).await,
            Step::Restart => {
                let (store, ledger) = open(&bench.engine, options.clone());
                (bench.store, bench.ledger) = (store, ledger);
            }
        }
    }

    fn stored(&mut self, name_: &'static str, body: Bytes, stored: &PutOutcome) {
        let want = match self.keeps {
            Versioning::Enabled => Some(Version::Id(stored.generation)),
            _ => Some(Version::Null),
        };
        assert_eq!(stored.version, want);
        let there = self.of(name_).last().is_some_and(|kept| kept.body.is_some());
        assert_eq!(stored.created, !there);
        self.add(name_, want.unwrap_or(Version::Null), Some((body, stored.etag)));
    }

    async fn delete(&mut self, bench: &Bench, name_: &'static str) {
        let done = bench.store.delete(delete_request(name_)).await.expect("deleted");
        let version = done.version.expect("a delete marker");
        assert_eq!(version == Version::Null, self.keeps == Versioning::Suspended);
        assert!(done.marker);
        self.add(name_, version, None);
    }

    async fn purge(&mut self, bench: &Bench, name_: &'static str, version: Version) {
        let request: DeleteRequest = delete_request(name_);
        let done = bench.store.delete_version(request, version).await.expect("deleted");
        let all = self.names.entry(name_).or_default();
        let there = all.iter().position(|kept| kept.version == version);
        assert_eq!(done.existed, there.is_some(), "{name_} {version}: {all:?}");
        if let Some(at) = there {
            assert_eq!(done.marker, all[at].body.is_none());
            all.remove(at);
        }
    }

    async fn current(&self, bench: &Bench, name_: &'static str) {
        let found = bench.store.get(GetRequest::new(bucket(), name(name_))).await;
        match self.of(name_).last() {
            Some(Kept { version, body: Some((body, etag)), .. }) => {
                let found = found.expect("there");
                assert_eq!((found.meta.version, found.meta.etag), (*version, *etag));
                assert!(read(found).await.expect("whole") == *body, "{name_}: other bytes");
            }
            hidden => {
                let error = found.expect_err("hidden, or never there");
                assert_eq!(error.kind, ErrorKind::NotFound);
                assert_eq!(error.current.map(|meta| meta.version), hidden.map(|kept| kept.version));
            }
        }
    }

    async fn get(&self, bench: &Bench, name_: &'static str, version: Version) {
        let found = bench.store.get_version(GetRequest::new(bucket(), name(name_)), version).await;
        match self.of(name_).iter().find(|kept| kept.version == version) {
            Some(Kept { body: Some((body, _)), tags, .. }) => {
                let found = found.expect("kept");
                assert_eq!(found.meta.attributes.tags, *tags);
                assert!(read(found).await.expect("whole") == *body, "{name_} {version}: other bytes");
            }
            Some(Kept { body: None, .. }) => {
                assert_eq!(found.expect_err("a marker").kind, ErrorKind::DeleteMarker);
            }
            None => assert_eq!(found.expect_err("never there").kind, ErrorKind::NoSuchVersion),
        }
    }

    async fn tag(&mut self, bench: &Bench, name_: &'static str, at: usize, tag: &str) {
        let version = self.pick(name_, at);
        let tags = vec![("t".to_owned(), tag.to_owned())];
        let change = Change::Tags(tags.clone());
        let conditions = Conditions::default();
        let request = UpdateRequest { bucket: bucket(), name: name(name_), conditions, change };
        let done = bench.store.update_version(request, version).await;
        let all = self.names.entry(name_).or_default();
        match all.iter_mut().find(|kept| kept.version == version) {
            Some(kept) if kept.body.is_some() => {
                done.expect("tagged");
                kept.tags = tags;
            }
            Some(_) => assert_eq!(done.expect_err("a marker").kind, ErrorKind::DeleteMarker),
            None => assert_eq!(done.expect_err("never there").kind, ErrorKind::NoSuchVersion),
        }
    }

    async fn list(&self, bench: &Bench, delimiter: bool, max: usize) {
        let mut request = listing(max);
        request.delimiter = delimiter.then(|| "/".to_owned());
        let seen = pages(&bench.store, request).await;
        let mut want: Vec<(String, Option<Version>, bool, bool)> = Vec::new();
        for (name_, all) in &self.names {
            let folded = name_.find('/').filter(|_| delimiter && !all.is_empty());
            if let Some(at) = folded {
                want.push((name_[..=at].to_owned(), None, false, false));
                continue;
            }
            for (age, kept) in all.iter().rev().enumerate() {
                want.push(((*name_).to_owned(), Some(kept.version), age == 0, kept.body.is_none()));
            }
        }
        want.dedup_by(|a, b| a.1.is_none() && a == b);
        let shown = |item: &VersionItem| match item {
            VersionItem::Prefix(prefix) => (prefix.clone(), None, false, false),
            VersionItem::Version(v) => (v.name.clone(), Some(v.marker.version), v.latest, v.delete_marker),
        };
        assert_eq!(seen.iter().map(shown).collect::<Vec<_>>(), want);
    }

    /// Sums are right, everything goes version by version, and the engine is as empty as before.
    async fn finish(mut self, bench: &Bench) {
        self.list(bench, false, 3).await;
        let usage = bench.store.bucket_usage(&bucket()).await.expect("sums");
        let bodies = self.names.values().flatten().filter_map(|kept| kept.body.as_ref());
        assert_eq!(usage.bytes, bodies.map(|(body, _)| body.len() as u64).sum::<u64>());
        let shown = self.names.values().filter(|all| all.last().is_some_and(|kept| kept.body.is_some()));
        assert_eq!(usage.objects, shown.count() as u64);
        for name_ in NAMES {
            while let Some(kept) = self.of(name_).last() {
                let version = kept.version;
                self.get(bench, name_, version).await;
                self.purge(bench, name_, version).await;
                self.current(bench, name_).await;
            }
        }
        bench.settles_but_for_seals().await;
    }
}

#[test]
fn random_operations_on_versions_agree_with_a_model_through_restarts() {
    let options = small_parts();
    let steps = proptest::collection::vec(step(), 10..80);
    run_model(CASES, &options, steps, async |bench, steps: &[Step]| {
        let keeps = Versioning::Suspended;
        bench.store.set_versioning(&bucket(), keeps).await.expect("set");
        let mut model = Model { keeps, names: BTreeMap::new() };
        for step in steps {
            model.step(bench, step, &options).await;
        }
        model.finish(bench).await;
    });
}
