//! The operator's actions on the shard: meet, forget, promote, hand-over. The same id repeats no effect.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use blobstore_sidecar_api::action::{ActionRequest, ActionResult, ActionState, name};
use blobstore_sidecar_core::shard::Event;
use blobstore_sidecar_runtime::tasks;
use tokio::{sync::oneshot, time::timeout};

use crate::{actor::Actor, engine::Engine, peers::Peers, shared::Published};

/// Results remembered by id: the operator repeats an id for minutes at most, one action per shard at a time.
const REMEMBERED_MAX: usize = 64;
/// A take-over waits out the read window once, and retries once.
const ROLE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default)]
pub(crate) struct Actions(Arc<Mutex<VecDeque<(String, ActionResult)>>>);

impl Actions {
    fn recall(&self, id: &str) -> Option<ActionResult> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(other, _)| other == id).map(|(_, result)| result.clone())
    }

    fn remember(&self, result: &ActionResult) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(other, _)| *other != result.id);
        // What did not happen may be tried again under the same id.
        if matches!(result.state, ActionState::Running | ActionState::Done) {
            known.push_back((result.id.clone(), result.clone()));
        }
        if known.len() > REMEMBERED_MAX {
            known.pop_front();
        }
    }
}

fn result(id: &str, state: ActionState, message: impl Into<String>) -> ActionResult {
    ActionResult {
        id: id.to_owned(),
        state,
        message: message.into(),
        before: BTreeMap::new(),
        after: BTreeMap::new(),
    }
}

impl Actor {
    /// An unknown name drops the answer: the caller hears that it is not an action of the shard.
    pub(crate) fn act(
        &mut self,
        action: &str,
        request: ActionRequest,
        answer: oneshot::Sender<ActionResult>,
    ) {
        if ![name::MEET, name::FORGET, name::PROMOTE, name::HAND_OVER].contains(&action) {
            return;
        }
        if let Some(known) = self.actions.recall(&request.id) {
            drop(answer.send(known));
            return;
        }
        if let Some(reason) = self.objection(action, &request) {
            drop(answer.send(result(&request.id, ActionState::Refused, reason)));
            return;
        }
        self.actions.remember(&result(&request.id, ActionState::Running, "under way"));
        let changes = self.shared.published.subscribe();
        match action {
            name::PROMOTE => self.feed(Event::Promote { relinquished: None }),
            name::HAND_OVER => {
                let to = request.params.get("to").cloned();
                self.feed(Event::HandOver { leaving: false, to });
            }
            _ => {}
        }
        let engine = self.observed.as_ref().map(|observed| observed.engine.clone());
        let (peers, actions, port) = (self.peers.clone(), self.actions.clone(), self.config.engine_port);
        let action = action.to_owned();
        tasks::spawn("shard-action", async move {
            let outcome = match action.as_str() {
                name::PROMOTE => wait_for(changes, |now| now.snapshot.tenure.is_some()).await,
                name::HAND_OVER => wait_for(changes, |now| !now.named).await,
                name::MEET => meet(engine, &peers, &request, port).await,
                _ => forget(engine, &request).await,
            };
            let done = match outcome {
                Ok(message) => result(&request.id, ActionState::Done, message),
                Err(message) => result(&request.id, ActionState::Failed, message),
            };
            actions.remember(&done);
            drop(answer.send(done));
        });
    }

    /// What stands against the action, before anything was changed.
    fn objection(&self, action: &str, request: &ActionRequest) -> Option<String> {
        let epoch = self.machine.record().map(|record| record.epoch);
        if request.expected_epoch.is_some() && request.expected_epoch != epoch {
            return Some(format!("the shard's epoch is {epoch:?}, not {:?}", request.expected_epoch));
        }
        let machine = &self.machine;
        match action {
            name::PROMOTE if machine.named() => Some("this pod is the primary already".to_owned()),
            name::PROMOTE if !machine.in_sync() => Some("this pod is not in the in-sync set".to_owned()),
            name::PROMOTE if machine.leaving() => Some("this pod is about to stop".to_owned()),
            name::HAND_OVER if machine.snapshot().tenure.is_none() => {
                Some("this pod does not serve".to_owned())
            }
            name::HAND_OVER if machine.successors() == 0 => Some("no other member is in sync".to_owned()),
            name::MEET | name::FORGET if self.observed.is_none() => Some("the engine is down".to_owned()),
            _ => None,
        }
    }
}

async fn wait_for(
    mut changes: tokio::sync::watch::Receiver<Published>,
    reached: impl FnMut(&Published) -> bool,
) -> Result<String, String> {
    match timeout(ROLE_WITHIN, changes.wait_for(reached)).await {
        Ok(Ok(now)) => Ok(format!("done at epoch {}", now.record.as_ref().map_or(0, |record| record.epoch))),
        Ok(Err(_)) => Err("the sidecar stops".to_owned()),
        Err(_) => Err("not reached in time; it may still happen".to_owned()),
    }
}

fn param<'a>(request: &'a ActionRequest, name: &str) -> Result<&'a str, String> {
    request.params.get(name).map(String::as_str).ok_or_else(|| format!("parameter {name} is missing"))
}

async fn meet(
    engine: Option<Engine>,
    peers: &Peers,
    request: &ActionRequest,
    port: u16,
) -> Result<String, String> {
    let engine = engine.ok_or("the engine is down")?;
    let (node_id, ip) = (param(request, "node_id")?, param(request, "ip")?);
    let identity = peers.identity(ip).await.map_err(|error| error.to_string())?;
    if identity.member.node_id != node_id {
        return Err(format!("the node at {ip} is {}", identity.member.node_id));
    }
    let met = engine.call::<()>("CLUSTER MEET", &[ip, &port.to_string()]).await;
    met.map(|()| format!("met {node_id}")).map_err(|error| error.to_string())
}

async fn forget(engine: Option<Engine>, request: &ActionRequest) -> Result<String, String> {
    let engine = engine.ok_or("the engine is down")?;
    let node_id = param(request, "node_id")?;
    match engine.call::<()>("CLUSTER FORGET", &[node_id]).await {
        Ok(()) => Ok(format!("forgot {node_id}")),
        Err(crate::engine::EngineError::Command { source, .. })
            if source.to_string().contains("Unknown node") =>
        {
            Ok(format!("{node_id} was not known"))
        }
        Err(error) => Err(error.to_string()),
    }
}
