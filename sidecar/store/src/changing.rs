//! Objects whose last change is not yet acknowledged by every replica. A read of one waits for that first: what one
//! client has seen must not be gone after a failover. All other reads pass without waiting.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use blobstore_sidecar_runtime::authority::{Authority, Tenure, Withheld};

/// Changes whose outcome stayed unknown are kept until somebody reads the object. Past this many, every read asks
/// for an acknowledgement instead: a shard in that state answers few reads anyway.
const UNKNOWN_COUNT_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Changing {
    objects: Mutex<HashMap<Arc<str>, Pending>>,
    overflowed: AtomicBool,
}

#[derive(Debug, Default)]
struct Pending {
    under_way: u32,
    /// A change was made and its acknowledgement failed.
    unknown: bool,
}

/// One change under way. Dropped without `acknowledged`, its outcome is unknown.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    all: &'a Changing,
    object: Arc<str>,
    acknowledged: bool,
}

impl Changing {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Pending>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the engine may execute the change.
    pub(crate) fn begin(&self, object: &Arc<str>) -> Change<'_> {
        self.lock().entry(Arc::clone(object)).or_default().under_way += 1;
        Change { all: self, object: Arc::clone(object), acknowledged: false }
    }

    /// After the object was read: returns once no failover can take back what was seen.
    pub(crate) async fn settled(
        &self,
        object: &Arc<str>,
        authority: &Arc<dyn Authority>,
        tenure: &Tenure,
    ) -> Result<(), Withheld> {
        let waits = self.overflowed.load(Ordering::Acquire) || self.lock().contains_key(object);
        if !waits {
            return Ok(());
        }
        authority.acknowledged(tenure).await?;
        let mut objects = self.lock();
        if objects.get(object).is_some_and(|pending| pending.under_way == 0) {
            objects.remove(object);
        }
        Ok(())
    }

    /// As `settled`, for an answer that names many objects.
    pub(crate) async fn all_settled(
        &self,
        authority: &Arc<dyn Authority>,
        tenure: &Tenure,
    ) -> Result<(), Withheld> {
        let waits = self.overflowed.load(Ordering::Acquire) || !self.lock().is_empty();
        if waits { authority.acknowledged(tenure).await } else { Ok(()) }
    }
}

impl Change<'_> {
    /// Every replica has the change, or it was never made.
    pub(crate) fn acknowledged(mut self) {
        self.acknowledged = true;
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut objects = self.all.lock();
        let Some(pending) = objects.get_mut(&self.object) else { return };
        pending.under_way -= 1;
        pending.unknown |= !self.acknowledged;
        if pending.under_way == 0 && !pending.unknown {
            objects.remove(&self.object);
        } else if objects.len() > UNKNOWN_COUNT_MAX {
            objects.retain(|_, pending| pending.under_way > 0);
            self.all.overflowed.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, future::BoxFuture};
    use tokio::sync::watch;

    use super::*;
    use blobstore_sidecar_runtime::authority::Owner;

    /// Acknowledges when told.
    #[derive(Debug)]
    struct Slow(watch::Receiver<bool>);

    impl Authority for Slow {
        fn owner(&self, _: u16) -> Owner {
            Owner::Here(tenure())
        }
        fn tenure(&self) -> Option<Tenure> {
            Some(tenure())
        }
        fn acknowledged<'a>(&'a self, _: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>> {
            let mut told = self.0.clone();
            Box::pin(async move {
                told.wait_for(|told| *told).await.map(drop).map_err(|_| Withheld::NotAcknowledged)
            })
        }
        fn may_read<'a>(&'a self, _: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>> {
            Box::pin(async { Ok(()) })
        }
    }

    fn tenure() -> Tenure {
        Tenure { epoch: 1, run_id: "r".into() }
    }

    fn slow() -> (watch::Sender<bool>, Arc<dyn Authority>) {
        let (tell, told) = watch::channel(false);
        (tell, Arc::new(Slow(told)))
    }

    #[tokio::test]
    async fn a_read_waits_for_the_change_it_saw_and_others_do_not() {
        let (tell, authority) = slow();
        let changing = Changing::default();
        let (object, other): (Arc<str>, Arc<str>) = ("b/one".into(), "b/two".into());
        let change = changing.begin(&object);
        assert_eq!(changing.settled(&other, &authority, &tenure()).now_or_never(), Some(Ok(())));
        let mut read = Box::pin(async { changing.settled(&object, &authority, &tenure()).await });
        assert_eq!(read.as_mut().now_or_never(), None, "not acknowledged yet");
        assert_eq!(Box::pin(changing.all_settled(&authority, &tenure())).now_or_never(), None);
        tell.send_replace(true);
        assert_eq!(read.await, Ok(()));
        change.acknowledged();
        assert!(changing.lock().is_empty(), "nothing is left behind");
    }

    #[tokio::test]
    async fn a_change_of_unknown_outcome_is_remembered_until_a_read_settles_it() {
        let (tell, authority) = slow();
        let changing = Changing::default();
        let object: Arc<str> = "b/one".into();
        drop(changing.begin(&object));
        assert_eq!(Box::pin(changing.settled(&object, &authority, &tenure())).now_or_never(), None);
        tell.send_replace(true);
        assert_eq!(changing.settled(&object, &authority, &tenure()).await, Ok(()));
        assert!(changing.lock().is_empty(), "settled once for all");
    }

    #[tokio::test]
    async fn too_many_unknown_outcomes_make_every_read_wait() {
        let (_tell, authority) = slow();
        let changing = Changing::default();
        for number in 0..=UNKNOWN_COUNT_MAX {
            drop(changing.begin(&Arc::from(format!("b/{number}"))));
        }
        let object: Arc<str> = "b/never-written".into();
        assert_eq!(Box::pin(changing.settled(&object, &authority, &tenure())).now_or_never(), None);
        assert!(changing.lock().len() <= UNKNOWN_COUNT_MAX);
    }
}
