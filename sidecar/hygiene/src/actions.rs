//! Actions by id: each is carried out once, one at a time; asking again with the same id tells how it went.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use blobstore_sidecar_api::action::{ActionRequest, ActionResult, ActionState, name};
use blobstore_sidecar_runtime::tasks;

use crate::metrics::ACTIONS as COUNTED;
use crate::remedies::{Outcome, carry_out};
use crate::service::{Inner, locked};

/// The actions that hygiene carries out.
pub const ACTIONS: [&str; 6] =
    [name::AUDIT, name::TRIM, name::RECLAIM_ORPHANS, name::KILL_CLIENTS, name::PURGE, name::DEFRAG];

/// Whether `action` is one of ours.
pub fn is_ours(action: &str) -> bool {
    ACTIONS.contains(&action)
}

/// Results kept for repeated requests: more than an hour of the ladder's budget.
const RESULTS_MAX: usize = 64;
/// A request waits this long for the end, then answers `Running`; the operator asks again.
const WAIT: Duration = Duration::from_secs(8);

/// Results by age.
#[derive(Debug, Default)]
pub(crate) struct ActionBook {
    results: VecDeque<ActionResult>,
}

impl ActionBook {
    fn find(&self, id: &str) -> Option<&ActionResult> {
        self.results.iter().find(|result| result.id == id)
    }

    fn running(&self) -> bool {
        self.results.iter().any(|result| result.state == ActionState::Running)
    }

    fn put(&mut self, result: ActionResult) {
        self.results.retain(|known| known.id != result.id);
        self.results.push_back(result);
        if self.results.len() > RESULTS_MAX {
            self.results.pop_front();
        }
    }
}

fn plain(id: &str, state: ActionState, message: &str) -> ActionResult {
    let (before, after) = (BTreeMap::new(), BTreeMap::new());
    ActionResult { id: id.to_owned(), state, message: message.to_owned(), before, after }
}

/// Carries out `action` unless its id is known.
pub(crate) async fn act(inner: &Arc<Inner>, action: &str, request: &ActionRequest) -> ActionResult {
    let Some(action) = ACTIONS.iter().find(|known| **known == action) else {
        return plain(&request.id, ActionState::Refused, "not an action of hygiene");
    };
    let known = {
        let mut book = locked(&inner.actions);
        let known = book.find(&request.id).cloned();
        if known.is_none() {
            if book.running() {
                return plain(&request.id, ActionState::Refused, "another action is running");
            }
            book.put(plain(&request.id, ActionState::Running, "running"));
        }
        known
    };
    match known {
        Some(result) if result.state != ActionState::Running => result,
        Some(_) => finished(inner, &request.id).await,
        None => {
            start(inner, action, &request.id);
            finished(inner, &request.id).await
        }
    }
}

/// The action goes on when its caller leaves.
fn start(inner: &Arc<Inner>, action: &'static str, id: &str) {
    let (inner, id) = (inner.clone(), id.to_owned());
    tasks::spawn("hygiene-action", async move {
        let Outcome { state, message, before, after } = carry_out(&inner, action).await;
        COUNTED.with_label_values(&[action, state_name(state)]).inc();
        tracing::info!(action, id, ?state, message, "action");
        locked(&inner.actions).put(ActionResult { id, state, message, before, after });
        inner.action_ended.notify_waiters();
    });
}

fn state_name(state: ActionState) -> &'static str {
    match state {
        ActionState::Running => "running",
        ActionState::Done => "done",
        ActionState::Refused => "refused",
        ActionState::Failed => "failed",
    }
}

async fn finished(inner: &Inner, id: &str) -> ActionResult {
    let ended = async {
        loop {
            // Armed before the look: an end between the two is not missed.
            let notified = inner.action_ended.notified();
            let found = locked(&inner.actions).find(id).cloned();
            match found {
                Some(result) if result.state == ActionState::Running => notified.await,
                Some(result) => return result,
                None => return plain(id, ActionState::Failed, "the result is no longer kept"),
            }
        }
    };
    match tokio::time::timeout(WAIT, ended).await {
        Ok(result) => result,
        Err(_) => plain(id, ActionState::Running, "running"),
    }
}
