//! The shard's answer to the data path: who owns a slot, is a commit acknowledged, may a read go out.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use blobstore_sidecar_core::shard::Snapshot;
use blobstore_sidecar_runtime::authority::{Authority, Owner, Tenure, Withheld};
use futures::future::BoxFuture;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    metrics,
    shared::{Shared, Waiter},
};

/// After the ack timeout the owner removes the silent member from the record: time for one swap and one retry.
const REMOVAL_MS: u64 = 2_000;

#[derive(Debug)]
pub(crate) struct ShardAuthority(pub(crate) Arc<Shared>);

fn ours(snapshot: &Snapshot, epoch: Option<u64>, tenure: &Tenure) -> bool {
    epoch == Some(tenure.epoch) && snapshot.run_id == *tenure.run_id
}

enum Readable {
    Yes,
    Deposed,
    NotYet,
}

impl ShardAuthority {
    fn readable(&self, tenure: &Tenure) -> Readable {
        let published = self.0.published.borrow();
        let snapshot = &published.snapshot;
        if !ours(snapshot, snapshot.tenure, tenure) {
            return Readable::Deposed;
        }
        // The time is taken after the data is in hand and before the comparison: late is refused, never early.
        let fresh = snapshot.evidence.is_some_and(|evidence| self.0.now() <= evidence + self.0.read_window);
        if snapshot.required.is_empty() || fresh { Readable::Yes } else { Readable::NotYet }
    }

    async fn wait_readable(&self, tenure: &Tenure) -> Result<(), Withheld> {
        let mut changes = self.0.published.subscribe();
        loop {
            match self.readable(tenure) {
                Readable::Yes => return Ok(()),
                Readable::Deposed => return Err(Withheld::Deposed),
                Readable::NotYet => {}
            }
            self.0.wake.notify_one();
            if changes.changed().await.is_err() {
                return Err(Withheld::Deposed);
            }
        }
    }

    async fn read(&self, tenure: &Tenure) -> Result<(), Withheld> {
        match self.readable(tenure) {
            Readable::Yes => return Ok(()),
            Readable::Deposed => return Err(Withheld::Deposed),
            Readable::NotYet => {}
        }
        let _reader = Reader::enter(&self.0);
        let patience = Duration::from_millis(self.0.ack_timeout + REMOVAL_MS);
        timeout(patience, self.wait_readable(tenure)).await.unwrap_or(Err(Withheld::NotAcknowledged))
    }

    async fn commit(&self, tenure: &Tenure) -> Result<(), Withheld> {
        let (answer, got) = oneshot::channel();
        {
            // Under the lock that `publish` takes after it has made a new state visible: a commit either sees that
            // state, or is seen by it.
            let mut waiters = self.0.waiters();
            let published = self.0.published.borrow();
            if !ours(&published.snapshot, published.snapshot.acking, tenure) {
                return Err(Withheld::Deposed);
            }
            if published.snapshot.required.is_empty() {
                return Ok(());
            }
            waiters.newest += 1;
            let number = waiters.newest;
            waiters.waiting.insert(number, Waiter { epoch: tenure.epoch, answer });
        }
        self.0.wake.notify_one();
        let _timer = metrics::ACK_WAIT.start_timer();
        let patience = Duration::from_millis(self.0.ack_timeout + REMOVAL_MS);
        match timeout(patience, got).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Withheld::Deposed),
            Err(_) => Err(Withheld::NotAcknowledged),
        }
    }
}

/// Counts a read that waits, until it leaves whichever way.
struct Reader<'a>(&'a Shared);

impl<'a> Reader<'a> {
    fn enter(shared: &'a Shared) -> Self {
        shared.readers.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

fn counted(outcome: Result<(), Withheld>) -> Result<(), Withheld> {
    if let Err(withheld) = &outcome {
        let reason = match withheld {
            Withheld::Deposed => "deposed",
            Withheld::NotAcknowledged => "not-acknowledged",
        };
        metrics::WITHHELD.with_label_values(&[reason]).inc();
    }
    outcome
}

impl Authority for ShardAuthority {
    fn owner(&self, slot: u16) -> Owner {
        let published = self.0.published.borrow();
        let peer = |ip: &str, epoch| Owner::Peer { address: format!("{ip}:{}", self.0.peer_port), epoch };
        if self.0.band.contains(&slot) {
            if let Some(epoch) = published.snapshot.tenure {
                return Owner::Here(Tenure { epoch, run_id: published.snapshot.run_id.as_str().into() });
            }
            let record = published.record.as_ref().filter(|_| !published.named);
            let primary = record.and_then(|record| Some((record.primary.as_ref()?, record.epoch)));
            return primary.map_or(Owner::Nobody, |(primary, epoch)| peer(&primary.ip, Some(epoch)));
        }
        let slots = self.0.slots.read().unwrap_or_else(PoisonError::into_inner);
        let found = slots.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        found.map_or(Owner::Nobody, |(_, _, ip)| peer(ip, None))
    }

    fn tenure(&self) -> Option<Tenure> {
        let published = self.0.published.borrow();
        let epoch = published.snapshot.tenure?;
        Some(Tenure { epoch, run_id: published.snapshot.run_id.as_str().into() })
    }

    fn acknowledged<'a>(&'a self, tenure: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>> {
        Box::pin(async { counted(self.commit(tenure).await) })
    }

    fn may_read<'a>(&'a self, tenure: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>> {
        Box::pin(async { counted(self.read(tenure).await) })
    }

    fn copies(&self) -> Vec<String> {
        let published = self.0.published.borrow();
        let run_id = &published.snapshot.run_id;
        let members = published.record.iter().flat_map(|record| &record.in_sync);
        let others = members.filter(|member| member.run_id != *run_id);
        others.map(|member| format!("{}:{}", member.ip, self.0.peer_port)).collect()
    }
}
