//! What a store knows of a bucket is not older than a change that it has answered.

use std::sync::Arc;

use blobstore_sidecar_core::ledger::NoLedger;
use blobstore_sidecar_runtime::{
    authority::{Authority, Owner, Tenure, Withheld},
    tasks,
};
use blobstore_sidecar_store::Store;
use futures::future::BoxFuture;
use tokio::sync::Notify;

use crate::common::{Bench, bucket, options, tenure};

tokio::task_local! {
    /// Reads of this task are held.
    static HELD: ();
}

/// Holds a read that has its answer from the engine.
#[derive(Debug, Default)]
struct Gate {
    held: Notify,
    open: Notify,
}

impl Authority for Gate {
    fn owner(&self, _: u16) -> Owner {
        Owner::Here(tenure())
    }
    fn tenure(&self) -> Option<Tenure> {
        Some(tenure())
    }
    fn acknowledged<'a>(&'a self, _: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>> {
        Box::pin(async { Ok(()) })
    }
    fn may_read<'a>(&'a self, _: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>> {
        Box::pin(async {
            if HELD.try_with(|()| ()).is_ok() {
                self.held.notify_one();
                self.open.notified().await;
            }
            Ok(())
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_began_before_a_change_does_not_bring_the_old_back() {
    let bench = Bench::start().await;
    for quota in [None, Some(1_000)] {
        let gate = Arc::new(Gate::default());
        // A store that knows nothing yet: the read asks the engine.
        let store = Store::open(bench.engine.address(), options(), gate.clone(), Arc::new(NoLedger));
        let reader = store.clone();
        let read = async move { reader.get_bucket(&bucket()).await };
        let read = tasks::spawn("test", HELD.scope((), read));
        gate.held.notified().await;
        match quota {
            None => store.set_document(&bucket(), "policy", Some("{}")).await.expect("a policy"),
            Some(_) => store.set_bucket(&bucket(), quota).await.expect("a quota"),
        };
        gate.open.notify_one();
        let before = read.await.expect("no panic").expect("the bucket");
        assert_eq!((before.document("policy").is_some(), before.quota_bytes), (quota.is_some(), None));
        let now = store.get_bucket(&bucket()).await.expect("the bucket");
        assert_eq!((now.document("policy"), now.quota_bytes), (Some("{}"), quota));
    }
}
