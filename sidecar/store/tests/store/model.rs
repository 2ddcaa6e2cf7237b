//! Random operations against a model in memory, through restarts of the store: what the store answers is what the model
//! says, and at the end nothing is in the engine but what the model knows.

use std::{collections::BTreeMap, ops::Range};

use blobstore_sidecar_core::{
    etag::{ETag, TagSet},
    ledger::Family,
    list::ListItem,
    precondition::Conditions,
    range::ByteRange,
};
use blobstore_sidecar_store::{
    Change, DeleteRequest, ErrorKind, GetRequest, HeadRequest, ListRequest, PartInfo, PutRequest,
    StoreOptions, UpdateRequest, UploadRef,
};
use bytes::Bytes;
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::Runtime;

use crate::{
    common::{Bench, bucket, frames, list_of, name, open, payload, read},
    multipart::{begin, complete, part, refs, small_parts},
};

/// Around every edge of the layout: inline, tail, one chunk, several.
const SIZES: [usize; 9] = [0, 1, 16_384, 16_385, 65_536, 262_080, 262_081, 540_000, 800_000];
const NAMES: [&str; 5] = ["a", "a/1", "a/2", "b", "ü"];
/// Runs of operations. Each runs on the same engine, emptied by deleting what the model holds.
const CASES: u32 = 24;

#[derive(Clone, Debug)]
enum Step {
    Put { name: usize, size: usize, seed: u64, only_new: bool },
    Get { name: usize },
    Range { name: usize, first: u64, len: u64 },
    Delete { name: usize },
    DeleteIfMatch { name: usize, right: bool },
    Tag { name: usize, tag: String },
    Begin { name: usize },
    Part { upload: usize, number: u16, size: usize, seed: u64 },
    Complete { upload: usize },
    Abort { upload: usize },
    List { delimiter: bool, max: usize },
    Restart,
    TrimCache,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let size = 0..SIZES.len();
    prop_oneof![
        6 => (name.clone(), size.clone(), any::<u64>(), any::<bool>())
            .prop_map(|(name, size, seed, only_new)| Step::Put { name, size, seed, only_new }),
        4 => name.clone().prop_map(|name| Step::Get { name }),
        4 => (name.clone(), 0_u64..900_000, 1_u64..400_000)
            .prop_map(|(name, first, len)| Step::Range { name, first, len }),
        2 => name.clone().prop_map(|name| Step::Delete { name }),
        1 => (name.clone(), any::<bool>()).prop_map(|(name, right)| Step::DeleteIfMatch { name, right }),
        2 => (name.clone(), "[a-z]{0,4}").prop_map(|(name, tag)| Step::Tag { name, tag }),
        3 => name.prop_map(|name| Step::Begin { name }),
        6 => (0_usize..4, 1_u16..6, size, any::<u64>())
            .prop_map(|(upload, number, size, seed)| Step::Part { upload, number, size, seed }),
        3 => (0_usize..4).prop_map(|upload| Step::Complete { upload }),
        1 => (0_usize..4).prop_map(|upload| Step::Abort { upload }),
        2 => (any::<bool>(), 1_usize..5).prop_map(|(delimiter, max)| Step::List { delimiter, max }),
        1 => Just(Step::Restart),
        1 => Just(Step::TrimCache),
    ]
}

#[derive(Clone, Debug)]
struct Object {
    body: Bytes,
    etag: ETag,
    tags: Vec<(String, String)>,
}

#[derive(Debug)]
struct Open {
    to: UploadRef,
    parts: BTreeMap<u16, (Bytes, PartInfo)>,
}

#[derive(Debug, Default)]
struct Model {
    objects: BTreeMap<&'static str, Object>,
    uploads: Vec<Open>,
}

fn get(name_: &str, range: Option<ByteRange>) -> GetRequest {
    GetRequest { range, ..GetRequest::new(bucket(), name(name_)) }
}

impl Model {
    async fn step(&mut self, bench: &mut Bench, step: &Step, options: &StoreOptions) {
        match step {
            Step::Put { name: at, size, seed, only_new } => {
                self.put(bench, NAMES[*at], payload(SIZES[*size], *seed), *only_new).await;
            }
            Step::Get { name: at } => self.check(bench, NAMES[*at]).await,
            Step::Range { name: at, first, len } => self.range(bench, NAMES[*at], *first..first + len).await,
            Step::Delete { name: at } => self.delete(bench, NAMES[*at], None).await,
            Step::DeleteIfMatch { name: at, right } => self.delete(bench, NAMES[*at], Some(*right)).await,
            Step::Tag { name: at, tag } => self.tag(bench, NAMES[*at], tag).await,
            Step::Begin { name: at } if self.uploads.len() < 4 => {
                let to = begin(&bench.store, NAMES[*at]).await;
                self.uploads.push(Open { to, parts: BTreeMap::new() });
            }
            Step::Part { upload, number, size, seed } => {
                let Some(open) = self.uploads.get_mut(*upload) else { return };
                let body = payload(SIZES[*size], *seed);
                let stored = part(&bench.store, &open.to, *number, body.clone()).await.expect("stored");
                open.parts.insert(*number, (body, stored));
            }
            Step::Complete { upload } => self.complete(bench, *upload).await,
            Step::Abort { upload } if *upload < self.uploads.len() => {
                let open = self.uploads.remove(*upload);
                bench.store.abort_upload(&open.to).await.expect("aborted");
            }
            Step::List { delimiter, max } => self.list(bench, *delimiter, *max).await,
            Step::Restart => {
                let (store, ledger) = open(&bench.engine, options.clone());
                (bench.store, bench.ledger) = (store, ledger);
            }
            Step::TrimCache => drop(bench.store.trim_cache(0)),
            Step::Begin { .. } | Step::Abort { .. } => {}
        }
    }

    async fn put(&mut self, bench: &Bench, name_: &'static str, body: Bytes, only_new: bool) {
        let if_none_match = if only_new { TagSet::parse("*") } else { None };
        let conditions = Conditions { if_none_match, ..Conditions::default() };
        let request =
            PutRequest { conditions, ..PutRequest::new(bucket(), name(name_), Some(body.len() as u64)) };
        let stored = bench.store.put(request, frames(body.clone(), 50_000)).await;
        if only_new && self.objects.contains_key(name_) {
            assert_eq!(stored.expect_err("it is there").kind, ErrorKind::Precondition);
            return;
        }
        let stored = stored.expect("stored");
        assert_eq!(stored.created, !self.objects.contains_key(name_));
        self.objects.insert(name_, Object { body, etag: stored.etag, tags: Vec::new() });
    }

    async fn check(&self, bench: &Bench, name_: &'static str) {
        let found = bench.store.get(get(name_, None)).await;
        let head = HeadRequest { bucket: bucket(), name: name(name_), conditions: Conditions::default() };
        let head = bench.store.head(head).await;
        let Some(object) = self.objects.get(name_) else {
            assert_eq!(found.expect_err("absent").kind, ErrorKind::NotFound);
            assert_eq!(head.expect_err("absent").kind, ErrorKind::NotFound);
            return;
        };
        let found = found.expect("there");
        assert_eq!(found.meta, head.expect("there"));
        assert_eq!((found.meta.etag, &found.meta.attributes.tags), (object.etag, &object.tags));
        assert!(read(found).await.expect("whole") == object.body, "{name_}: other bytes");
    }

    async fn range(&self, bench: &Bench, name_: &'static str, range: Range<u64>) {
        let asked = ByteRange::Between { first: range.start, last: range.end - 1 };
        let found = bench.store.get(get(name_, Some(asked))).await;
        let Some(object) = self.objects.get(name_) else {
            assert_eq!(found.expect_err("absent").kind, ErrorKind::NotFound);
            return;
        };
        let size = object.body.len() as u64;
        if range.start >= size {
            assert_eq!(found.expect_err("outside").kind, ErrorKind::RangeNotSatisfiable { size });
            return;
        }
        let want = object.body.slice(range.start as usize..range.end.min(size) as usize);
        assert!(
            read(found.expect("there")).await.expect("whole") == want,
            "{name_}: other bytes in {range:?}"
        );
    }

    async fn delete(&mut self, bench: &Bench, name_: &'static str, matching: Option<bool>) {
        let there = self.objects.get(name_);
        let tag = match (matching, there) {
            (Some(true), Some(object)) => object.etag.quoted(),
            _ => "\"other\"".into(),
        };
        let if_match = matching.and_then(|_| TagSet::parse(&tag));
        let conditions = Conditions { if_match, ..Conditions::default() };
        let deleted =
            bench.store.delete(DeleteRequest { bucket: bucket(), name: name(name_), conditions }).await;
        if matching.is_some_and(|right| !right || there.is_none()) {
            assert_eq!(deleted.expect_err("another").kind, ErrorKind::Precondition);
            return;
        }
        assert_eq!(deleted.expect("deleted").existed, there.is_some());
        self.objects.remove(name_);
    }

    async fn tag(&mut self, bench: &Bench, name_: &'static str, tag: &str) {
        let tags = vec![("t".to_owned(), tag.to_owned())];
        let change = Change::Tags(tags.clone());
        let conditions = Conditions::default();
        let request = UpdateRequest { bucket: bucket(), name: name(name_), conditions, change };
        let done = bench.store.update(request).await;
        match self.objects.get_mut(name_) {
            Some(object) => {
                done.expect("tagged");
                object.tags = tags;
            }
            None => assert_eq!(done.expect_err("absent").kind, ErrorKind::NotFound),
        }
    }

    /// Of the parts that are there every one but the second.
    async fn complete(&mut self, bench: &Bench, upload: usize) {
        let Some(open) = self.uploads.get(upload).filter(|open| !open.parts.is_empty()) else { return };
        let listed = open.parts.values().enumerate().filter(|(index, _)| *index != 1).map(|(_, part)| part);
        let (bodies, parts): (Vec<Bytes>, Vec<PartInfo>) = listed.cloned().unzip();
        let done = complete(&bench.store, &open.to, refs(&parts)).await.expect("completed");
        let again = complete(&bench.store, &open.to, refs(&parts)).await.expect("the same");
        assert_eq!((again.etag, again.generation), (done.etag, done.generation));
        let name_ = NAMES.iter().find(|name| **name == open.to.name.as_str()).expect("one of ours");
        let body = Bytes::from(bodies.concat());
        self.objects.insert(name_, Object { body, etag: done.etag, tags: Vec::new() });
        self.uploads.remove(upload);
    }

    async fn list(&self, bench: &Bench, delimiter: bool, max: usize) {
        let delimiter = delimiter.then(|| "/".to_owned());
        let (mut seen, mut token) = (Vec::new(), None);
        loop {
            let request = ListRequest { token, ..list_of("", delimiter.as_deref(), max) };
            let page = bench.store.list(request).await.expect("a page");
            for item in &page.items {
                if let ListItem::Object(entry) = item {
                    let object = self.objects.get(entry.name.as_str()).expect("one of the model's");
                    assert_eq!((entry.size, entry.etag), (object.body.len() as u64, object.etag));
                }
                seen.push(item.key().to_owned());
            }
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        let mut want: Vec<String> = self
            .objects
            .keys()
            .map(|name| match (&delimiter, name.find('/')) {
                (Some(_), Some(at)) => name[..=at].to_owned(),
                _ => (*name).to_owned(),
            })
            .collect();
        want.sort();
        want.dedup();
        assert_eq!(seen, want);
    }

    /// Everything is deleted, and the engine is as empty as before.
    async fn finish(mut self, bench: &Bench) {
        for name_ in NAMES {
            self.check(bench, name_).await;
        }
        let usage = bench.store.bucket_usage(&bucket()).await.expect("sums");
        let bytes: usize = self.objects.values().map(|object| object.body.len()).sum();
        assert_eq!((usage.bytes, usage.objects), (bytes as u64, self.objects.len() as u64));
        for open in std::mem::take(&mut self.uploads) {
            bench.store.abort_upload(&open.to).await.expect("aborted");
        }
        for name_ in NAMES {
            self.delete(bench, name_, None).await;
        }
        bench.engine.settles_at(&bench.empty).await;
    }
}

/// Runs random steps against a model, case by case on one bench, which each case leaves as it found it.
pub(crate) fn run_model<S: std::fmt::Debug>(
    cases: u32,
    options: &StoreOptions,
    steps: impl Strategy<Value = Vec<S>>,
    case: impl AsyncFn(&mut Bench, &[S]),
) -> (Runtime, Bench) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    let bench = std::cell::RefCell::new(runtime.block_on(Bench::with(options.clone(), &[])));
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 64, ..Default::default() };
    let run = TestRunner::new(config).run(&steps, |steps| {
        let mut bench = bench.borrow_mut();
        runtime.block_on(case(&mut bench, &steps));
        Ok(())
    });
    let failed = run.err().map(|error| error.to_string());
    assert!(failed.is_none(), "{}", failed.unwrap_or_default());
    (runtime, bench.into_inner())
}

#[test]
fn random_operations_agree_with_a_model_through_restarts() {
    let options = small_parts();
    let steps = proptest::collection::vec(step(), 10..60);
    let (runtime, mut bench) = run_model(CASES, &options, steps, async |bench, steps: &[Step]| {
        let mut model = Model::default();
        for step in steps {
            model.step(bench, step, &options).await;
        }
        model.finish(bench).await;
    });
    // A ledger that began with the last restart cannot know what was there before; one that began empty is exact.
    runtime.block_on(async {
        // The store before it ends here: its sweeper would free what the new one has just replaced, and tell its own ledger.
        (bench.store, bench.ledger) = open(&bench.engine, options);
        let mut model = Model::default();
        for (seed, size) in (0..).zip(SIZES) {
            model.put(&bench, NAMES[0], payload(size, seed), false).await;
        }
        model.finish(&bench).await;
        bench.is_quiet().await;
        for family in [Family::Record, Family::Manifest, Family::Chunk] {
            assert_eq!(bench.ledger.strings(family), (0, 0), "{family:?}");
        }
    });
}
