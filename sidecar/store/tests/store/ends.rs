//! A store that is killed while it changes headers or ends objects: the next one finds the old state or the new one,
//! whole, and frees what was left.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use blobstore_sidecar_core::{
    ledger::NoLedger,
    lifecycle::{LIFECYCLE_DOCUMENT, Lifecycle, LifecycleRule},
    precondition::Conditions,
};
use blobstore_sidecar_runtime::authority::Alone;
use blobstore_sidecar_store::{
    Change, CrashPoint, DeleteRequest, ErrorKind, GetRequest, HeadRequest, PutRequest, Store, StoreOptions,
    UpdateRequest,
};

use crate::common::{Bench, PATIENCE, bucket, frames, name, open, options, payload, read, tenure};

fn dying(bench: &Bench, crash: CrashPoint) -> Store {
    let options = StoreOptions { crash: Some(crash), ..options() };
    Store::open(bench.engine.address(), options, Arc::new(Alone(tenure())), Arc::new(NoLedger))
}

/// But for staged records, which end by themselves.
async fn settles(bench: &Bench) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut keys = bench.engine.keys().await;
        keys.retain(|key| !key.starts_with("n:"));
        if keys == bench.empty {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {keys:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stops_in_an_update_has_the_old_headers_or_the_new_ones() {
    let bench = Bench::start().await;
    for crash in [CrashPoint::UpdateStaged, CrashPoint::Updated] {
        bench.put("a", payload(300_000, 1)).await;
        let tags = vec![("k".to_owned(), "v".to_owned())];
        let (conditions, change) = (Conditions::default(), Change::Tags(tags.clone()));
        let request = UpdateRequest { bucket: bucket(), name: name("a"), conditions, change };
        dying(&bench, crash).update(request).await.expect_err("it stopped");
        let (next, _) = open(&bench.engine, options());
        let conditions = Conditions::default();
        let head = HeadRequest { bucket: bucket(), name: name("a"), conditions };
        let found = next.head(head).await.expect("there").attributes.tags.clone();
        assert_eq!(found, if crash == CrashPoint::Updated { tags } else { Vec::new() }, "{crash:?}");
        let got = next.get(GetRequest::new(bucket(), name("a"))).await.expect("there");
        assert_eq!(read(got).await.expect("whole"), payload(300_000, 1), "{crash:?}");
        let conditions = Conditions::default();
        let request = DeleteRequest { bucket: bucket(), name: name("a"), conditions };
        next.delete(request).await.expect("deleted");
        bench.store.trim_cache(0);
        settles(&bench).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stops_while_it_ends_objects_leaves_nothing_of_them() {
    let bench = Bench::start().await;
    for way in ["an end of its own", "a lifecycle rule"] {
        let mut request = PutRequest::new(bucket(), name("a"), Some(600_000));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        if way == "an end of its own" {
            request.expires_ms = u64::try_from(now.as_millis()).expect("fits") + 200;
        } else {
            let rules = vec![LifecycleRule {
                enabled: true,
                expire_after_seconds: Some(0),
                ..LifecycleRule::default()
            }];
            let text = Lifecycle { rules }.text();
            bench.store.set_document(&bucket(), LIFECYCLE_DOCUMENT, Some(&text)).await.expect("set");
        }
        let dying = dying(&bench, CrashPoint::Ended);
        dying.put(request, frames(payload(600_000, 1), 90_000)).await.expect("stored");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = match way {
                "a lifecycle rule" => dying.apply_lifecycle().await.map(drop),
                _ => dying.sweep().await,
            };
            // The other store of this test sweeps too, and may have been first.
            let gone = dying.get(GetRequest::new(bucket(), name("a"))).await.is_err();
            if ended.is_err() || gone {
                break;
            }
            assert!(Instant::now() < deadline, "{way}: it never ended");
        }
        drop(dying);
        let (next, _) = open(&bench.engine, options());
        let got = next.get(GetRequest::new(bucket(), name("a"))).await;
        assert_eq!(got.expect_err("ended").kind, ErrorKind::NotFound, "{way}");
        bench.store.trim_cache(0);
        settles(&bench).await;
    }
}
