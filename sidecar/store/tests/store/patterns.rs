//! Listings by pattern: the engine's own KEYS is the judge, and a page does a bounded amount of work.

use std::collections::BTreeSet;

use blobstore_sidecar_core::glob::Pattern;
use blobstore_sidecar_store::ListRequest;
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use crate::common::{Bench, list_of, options};
use crate::lists::pages;

fn matching(pattern: &str, max: usize) -> ListRequest {
    let pattern = Pattern::parse(pattern).expect("a pattern");
    ListRequest { pattern: Some(pattern.clone()), ..list_of(pattern.head(), None, max) }
}

async fn shown(bench: &Bench, request: ListRequest) -> Vec<String> {
    let pages = pages(bench, request).await;
    pages.iter().flat_map(|page| &page.items).map(|item| item.key().to_owned()).collect()
}

/// R000-3: listing by pattern, page by page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patterns_find_what_the_engine_itself_would_find_whatever_the_page() {
    let bench = Bench::with(options(), &[]).await;
    let mut names: BTreeSet<String> = (0..60)
        .flat_map(|index| [format!("logs/{}/{index}.txt", index % 7), format!("plain-{index:02}")])
        .collect();
    names.extend(
        ["logs/x*y", "a[b]c", "back\\slash", "ärger/ü.txt", "z^", "-", "a-z", "logs"].map(str::to_owned),
    );
    let puts = names.iter().map(|name| bench.put(name, Bytes::from_static(b"x")));
    stream::iter(puts).buffer_unordered(16).collect::<Vec<_>>().await;
    for pattern in [
        "*",
        "logs/*",
        "logs/3/*.txt",
        "*.txt",
        "*1*",
        "plain-[0-2]?",
        "plain-[^0-4]*",
        "plain-[2-0]?",
        "logs/x\\*y",
        "a\\[b\\]c",
        "a[[]b]c",
        "back\\\\slash",
        "?rger*",
        "??rger*",
        "ä*ü*",
        "[-z]*",
        "[a-z-]*",
        "*[^^]",
        "logs/?/[0-9][0-9].t[xy]t",
        "nothing*",
        "logs",
        "****s****",
    ] {
        let found: Vec<String> =
            bench.engine.query(redis::cmd("KEYS").arg(format!("o:{{*}}:b/{pattern}"))).await;
        let strip = |key: String| key.split_once("}:b/").map(|(_, name)| name.to_owned()).expect("a record");
        let want: BTreeSet<String> = found.into_iter().map(strip).collect();
        let want: Vec<String> = want.into_iter().collect();
        for max in [1000, 9, 1] {
            assert_eq!(shown(&bench, matching(pattern, max)).await, want, "{pattern} by {max}");
        }
    }
}

/// A page that looked at its share of names ends, with a token and perhaps with nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rare_pattern_ends_its_page_after_a_bounded_walk() {
    let bench = Bench::with(options(), &[]).await;
    for name in ["m/first.hit", "m/zz.hit"] {
        bench.put(name, Bytes::from_static(b"x")).await;
    }
    let keys = bench.engine.keys().await;
    let index = keys.iter().find(|key| key.starts_with("x:")).expect("an index of names");
    for batch in 0..25 {
        let mut add = redis::cmd("ZADD");
        add.arg(index);
        for number in 0..1_000 {
            add.arg(0).arg(format!("m/n{:05}", batch * 1_000 + number));
        }
        let _added: u64 = bench.engine.query(&add).await;
    }
    let found = pages(&bench, matching("m/*.hit", 1000)).await;
    let counts: Vec<usize> = found.iter().map(|page| page.items.len()).collect();
    assert_eq!(counts, [1, 0, 1], "25,002 names, 10,000 a page");
    assert_eq!(shown(&bench, matching("m/*.hit", 1)).await, ["m/first.hit", "m/zz.hit"]);
    // The head of the pattern bounds the walk: none of these names is looked at.
    assert_eq!(pages(&bench, matching("m/z*.hit", 1000)).await.len(), 1);
}
