//! Actions by id: asking twice acts once. An action runs in its own task, so that an operator that hangs up neither
//! ends nor repeats it; its result is kept for the next question.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blobstore_sidecar_api::action::{ActionRequest, ActionResult, ActionState};
use blobstore_sidecar_runtime::tasks;
use lru::LruCache;
use tokio::sync::watch;

use crate::control::Control;

/// Results kept: more than an operator's budget of actions allows in a day.
const RESULTS_COUNT_MAX: NonZeroUsize = match NonZeroUsize::new(256) {
    Some(count) => count,
    None => NonZeroUsize::MIN,
};
/// Actions at once: one disruptive action is the rule, soft ones may overlap.
const RUNNING_COUNT_MAX: usize = 8;
/// How long a POST waits for the end before it answers `Running`.
const WAIT: Duration = Duration::from_secs(3);

type Result = watch::Receiver<ActionResult>;

/// Known actions, the most recently asked for last.
#[derive(Debug)]
pub struct Actions {
    known: Mutex<LruCache<String, Result>>,
    control: Arc<dyn Control>,
}

impl Actions {
    pub fn new(control: Arc<dyn Control>) -> Self {
        Self { known: Mutex::new(LruCache::new(RESULTS_COUNT_MAX)), control }
    }

    /// Starts the action unless its id is known, and waits a moment for the result.
    pub async fn ask(&self, name: &str, request: ActionRequest) -> ActionResult {
        let mut result = match self.start(name, request) {
            Ok(result) => result,
            Err(refused) => return refused,
        };
        let ended = result.wait_for(|result| result.state != ActionState::Running);
        if let Ok(Ok(result)) = tokio::time::timeout(WAIT, ended).await {
            return result.clone();
        }
        result.borrow().clone()
    }

    /// The result so far. `None`: unknown, or forgotten.
    pub fn get(&self, id: &str) -> Option<ActionResult> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(id).map(|result| result.borrow().clone())
    }

    fn start(&self, name: &str, request: ActionRequest) -> std::result::Result<Result, ActionResult> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // What did not happen may be tried again under the same id.
        let counts =
            |result: &&Result| matches!(result.borrow().state, ActionState::Running | ActionState::Done);
        if let Some(result) = known.get(&request.id).filter(counts) {
            return Ok(result.clone());
        }
        let running =
            known.iter().filter(|(_, result)| result.borrow().state == ActionState::Running).count();
        if running >= RUNNING_COUNT_MAX {
            let message = format!("{running} actions are running: ask again when one has ended");
            return Err(result(&request.id, ActionState::Refused, message));
        }
        let (sender, receiver) = watch::channel(result(&request.id, ActionState::Running, "started".into()));
        known.put(request.id.clone(), receiver.clone());
        drop(known);
        let (control, name) = (Arc::clone(&self.control), name.to_owned());
        tasks::spawn("action", async move {
            let id = request.id.clone();
            let done = control.act(name.clone(), request).await.unwrap_or_else(|| {
                result(&id, ActionState::Refused, format!("{name:?} is not an action of this pod"))
            });
            tracing::info!(action = name, id, state = ?done.state, message = done.message, "action ended");
            sender.send_replace(done);
        });
        Ok(receiver)
    }
}

fn result(id: &str, state: ActionState, message: String) -> ActionResult {
    ActionResult { id: id.to_owned(), state, message, before: Default::default(), after: Default::default() }
}
