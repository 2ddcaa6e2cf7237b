//! The pod behind the admin and peer ports: its shard member, its store, its leak detector.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use blobstore_sidecar_api::action::{ActionRequest, ActionResult, ActionState};
use blobstore_sidecar_api::memory::MemoryView;
use blobstore_sidecar_api::report::LeakReport;
use blobstore_sidecar_api::topology::{PodTopology, ShardState};
use blobstore_sidecar_hygiene::Hygiene;
use blobstore_sidecar_shard::{Identity, PeerAnswer, PeerRequest, ShardHandle};
use futures::future::{BoxFuture, ready};

use crate::control::{Control, Readiness};
use crate::shell::Shell;

/// See the module's header.
#[derive(Debug)]
pub(super) struct PodControl {
    shard: ShardHandle,
    hygiene: Hygiene,
    shell: Arc<Shell>,
}

impl PodControl {
    pub(super) fn new(shard: ShardHandle, hygiene: Hygiene, shell: Arc<Shell>) -> Self {
        Self { shard, hygiene, shell }
    }

    /// A soft remedy, unless the shard has moved on since it was planned.
    async fn remedy(&self, name: &str, request: ActionRequest) -> ActionResult {
        if let Some(expected) = request.expected_epoch {
            let record = self.shard.topology().await.and_then(|topology| topology.record);
            let epoch = record.map_or(0, |record| record.epoch);
            if epoch != expected {
                return ActionResult {
                    id: request.id,
                    state: ActionState::Refused,
                    message: format!("planned at epoch {expected}, the shard is at {epoch}"),
                    before: BTreeMap::new(),
                    after: BTreeMap::new(),
                };
            }
        }
        self.hygiene.act(name, &request).await
    }
}

/// The primary while it has the right to serve, or a replica that holds every acknowledged write. Everything else
/// either answers nobody, or must not be counted as a copy by a disruption budget.
fn readiness(topology: Option<&PodTopology>, serves: bool) -> Readiness {
    let Some(topology) = topology else { return Err("the shard member has stopped".to_owned()) };
    if topology.engine.is_none() {
        return Err(format!("no engine answers: {}", topology.message));
    }
    match topology.state {
        ShardState::InSync => Ok(()),
        ShardState::Primary if serves => Ok(()),
        state => Err(format!("{state:?}: {}", topology.message)),
    }
}

impl Control for PodControl {
    fn readiness(&self) -> BoxFuture<'_, Readiness> {
        Box::pin(async move {
            let serves = self.shell.authority.tenure().is_some();
            readiness(self.shard.topology().await.as_ref(), serves)
        })
    }
    fn topology(&self) -> BoxFuture<'_, Option<PodTopology>> {
        Box::pin(self.shard.topology())
    }
    fn report(&self) -> BoxFuture<'_, Option<LeakReport>> {
        Box::pin(ready(Some(self.hygiene.report())))
    }
    fn memory(&self) -> BoxFuture<'_, Result<MemoryView, String>> {
        Box::pin(async { self.hygiene.memory().await.map_err(|error| error.chain()) })
    }
    fn act(&self, name: String, request: ActionRequest) -> BoxFuture<'_, Option<ActionResult>> {
        Box::pin(async move {
            if blobstore_sidecar_hygiene::is_ours(&name) {
                return Some(self.remedy(&name, request).await);
            }
            self.shard.act(&name, request).await
        })
    }
    fn hand_over(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.shard.hand_over_and_stop(deadline))
    }
    fn identity(&self, nonce: String) -> BoxFuture<'_, Option<Identity>> {
        Box::pin(async move { self.shard.identity(&nonce).await })
    }
    fn peer(&self, request: PeerRequest) -> BoxFuture<'_, Option<PeerAnswer>> {
        Box::pin(self.shard.peer(request))
    }
}

#[cfg(test)]
mod tests {
    use blobstore_sidecar_api::record::Member;
    use blobstore_sidecar_api::topology::EngineView;

    use super::*;

    fn topology(state: ShardState, engine: bool) -> PodTopology {
        let member = Member { pod: "p".into(), run_id: "r".into(), node_id: "n".into(), ip: "i".into() };
        let view = EngineView {
            flavor: "redis".into(),
            version: "7".into(),
            member,
            is_primary: true,
            loading: false,
            replication_link_up: true,
            replication_offset: 0,
            keys: 0,
            used_memory: 0,
            rss: 0,
            maxmemory: 0,
            uptime_seconds: 0,
            slots: Vec::new(),
            nodes: Vec::new(),
        };
        PodTopology {
            pod: "p".into(),
            pod_ip: "i".into(),
            store_uid: "u".into(),
            shard: 0,
            sidecar_version: "1".into(),
            config_hash: "h".into(),
            state,
            message: "because".into(),
            record: None,
            record_fresh: true,
            engine: engine.then_some(view),
            last_exit: None,
        }
    }

    #[test]
    fn ready_is_the_primary_with_its_tenure_or_a_replica_in_sync() {
        let check = |state, engine, serves, want: bool| {
            let got = readiness(Some(&topology(state, engine)), serves);
            assert_eq!(got.is_ok(), want, "{state:?} engine {engine} serves {serves}: {got:?}");
        };
        check(ShardState::Primary, true, true, true);
        check(ShardState::Primary, true, false, false);
        check(ShardState::Primary, false, true, false);
        check(ShardState::InSync, true, false, true);
        for state in [ShardState::Syncing, ShardState::Empty, ShardState::Promoting, ShardState::HandingOver]
        {
            check(state, true, true, false);
        }
        assert!(readiness(None, true).is_err());
    }
}
