//! The driver: observe → validate → plan → build → apply → act → report, one pass. Between passes it keeps the backoff
//! and what was read last, which may only tell that there is nothing to do (`kept.rs`). What is decided is decided in
//! the core; what is done is done in the step modules.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use blobstore_operator_api::status::BlobStoreStatus;
use blobstore_operator_api::{BlobStore, names};
use blobstore_operator_core::action::Plan;
use blobstore_operator_core::observed::Failure;
use blobstore_operator_core::validate::{ValidStore, validate};
use blobstore_operator_core::{build, plan, status};
use jiff::Timestamp;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Action as Next;
use kube::{Api, Resource, ResourceExt};

use crate::act::act;
use crate::apply::apply;
use crate::error::{Error, Retry, chain};
use crate::events::tell;
use crate::fresh::fresh;
use crate::kept::{Kept, Wanted, key};
use crate::observe::{Look, ObserveError, observe, observe_again};
use crate::report::{measure, write_status};
use crate::shared::{Shared, ask};
use crate::still::shrinks_stand;

/// A pass that takes longer has lost its grip on what it saw: it is ended, and a new one begins.
const PASS_TIMEOUT: Duration = Duration::from_secs(60);

/// One pass over the store that `subject` names, and what to do next.
pub async fn reconcile(
    subject: Arc<PartialObjectMeta<BlobStore>>,
    shared: Arc<Shared>,
) -> Result<Next, Error> {
    let timer = shared.metrics.pass();
    let pass = tokio::time::timeout(PASS_TIMEOUT, Box::pin(pass(&subject, &shared))).await;
    timer.observe_duration();
    let result = pass.unwrap_or(Err(Error::TooLong(PASS_TIMEOUT)));
    let uid = subject.uid().unwrap_or_default();
    if result.is_ok() {
        shared.backoff.lock().unwrap_or_else(PoisonError::into_inner).succeeded(&uid);
    }
    let word = if result.is_ok() { "ok" } else { "error" };
    shared.metrics.reconciles.with_label_values(&[word]).inc();
    result
}

async fn pass(subject: &PartialObjectMeta<BlobStore>, shared: &Shared) -> Result<Next, Error> {
    if let Some(kept) = shared.kept.get(subject)
        && let Some(next) = Box::pin(quiet(shared, &kept)).await
    {
        shared.metrics.passes.with_label_values(&["kept"]).inc();
        return Ok(next);
    }
    shared.metrics.passes.with_label_values(&["read"]).inc();
    Box::pin(full(subject, shared)).await
}

/// A pass on what was read before. `None`: there is something to do or to say, which takes a pass that reads anew.
async fn quiet(shared: &Shared, kept: &Kept) -> Option<Next> {
    let now = Timestamp::now();
    let valid = validate(&kept.store).ok()?;
    let observed = observe_again(shared, &kept.store, &kept.observed).await;
    let before = status_of(&kept.store);
    let plan = plan::plan(&valid, &observed, &shared.context, &before, now);
    if !plan.actions.is_empty() || !plan.events.is_empty() || kept.wanted != Wanted::from(&plan) {
        return None;
    }
    let told = status::status(&valid, &observed, &plan, &[], &before, now);
    (told.events.is_empty() && told.status == before).then(|| Next::requeue(plan.requeue))
}

async fn full(subject: &PartialObjectMeta<BlobStore>, shared: &Shared) -> Result<Next, Error> {
    let reading = shared.kept.read(key(subject));
    let Some(mut store) = read(subject, shared).await? else { return Ok(Next::await_change()) };
    let now = Timestamp::now();
    let valid = match validate(&store) {
        Ok(valid) => valid,
        Err(invalid) => {
            let told = status::invalid(&store, &invalid, &status_of(&store), now);
            write_status(shared, &mut store, told.status).await?;
            tell(shared, &store, &told.events, now).await;
            tracing::warn!(problems = %invalid, "the spec is invalid");
            return Ok(Next::await_change());
        }
    };
    let mut look = match Box::pin(observe(shared, &store)).await {
        Ok(look) => look,
        Err(error) => return unreadable(shared, &mut store, error, now).await,
    };
    let before = status_of(&store);
    let plan = plan::plan(&valid, &look.observed, &shared.context, &before, now);
    // The intent is in the status before anything is changed: a restarted operator finds it and goes on.
    let intent = status::status(&valid, &look.observed, &plan, &[], &before, now);
    write_status(shared, &mut store, intent.status.clone()).await?;
    // Of a paused store nothing is applied, whatever its records have become.
    if !valid.paused && !shrinks_stand(shared, &store, &look.observed, &plan).await? {
        tracing::info!("a shard's members changed while its size was decided: looking again");
        return Ok(Next::requeue(Duration::ZERO));
    }
    let applied = put_right(shared, &valid, &plan, &mut look).await;
    let outcomes = match &applied {
        Ok(()) if !valid.paused => act(shared, &store, &look.observed, &plan.actions).await,
        _ => Vec::new(),
    };
    let after = status::status(&valid, &look.observed, &plan, &outcomes, &intent.status, now);
    write_status(shared, &mut store, after.status.clone()).await?;
    measure(shared, &store, &before, &after.status);
    let events = [plan.events.as_slice(), &intent.events, &after.events].concat();
    tell(shared, &store, &events, now).await;
    applied?;
    reading.keep(&store, &look.observed, &plan, rand::random());
    tracing::debug!(actions = plan.actions.len(), requeue = ?plan.requeue, "pass done");
    Ok(Next::requeue(plan.requeue))
}

/// Nothing can be decided: the status says why, as far as it can be written, and nothing else is touched.
async fn unreadable(
    shared: &Shared,
    store: &mut BlobStore,
    error: ObserveError,
    now: Timestamp,
) -> Result<Next, Error> {
    let error = Error::from(error);
    let failure = Failure { forbidden: error.category() == "forbidden", message: chain(&error) };
    let generation = store.meta().generation.unwrap_or_default();
    let told = status::failed(generation, &failure, &status_of(store), now);
    write_status(shared, store, told.status).await?;
    tell(shared, store, &told.events, now).await;
    Err(error)
}

/// Build and apply. A refusal becomes part of what was seen, so that the status names it.
async fn put_right(shared: &Shared, valid: &ValidStore, plan: &Plan, look: &mut Look) -> Result<(), Error> {
    if valid.paused {
        return Ok(());
    }
    if !look.complete {
        return Err(Error::Incomplete(look.observed.failures.len()));
    }
    let credentials = build::credentials(valid, &look.observed.auth, fresh());
    let children = build::build(valid, plan, &shared.context, credentials.as_ref())?;
    let applied = apply(shared, children, look).await.map_err(Error::from);
    if let Err(error) = &applied
        && error.retry() != Retry::AtOnce
    {
        let forbidden = error.category() == "forbidden";
        look.observed.failures.push(Failure { forbidden, message: chain(error) });
    }
    applied
}

/// The store as the API server has it now, not as a watch remembers it: a status that is behind would repeat what
/// was done. `None`: gone, replaced, or on its way out (owner references do the rest).
async fn read(subject: &PartialObjectMeta<BlobStore>, shared: &Shared) -> Result<Option<BlobStore>, Error> {
    let (namespace, name) = (subject.namespace().unwrap_or_default(), subject.name_any());
    let api: Api<BlobStore> = Api::namespaced(shared.client.clone(), &namespace);
    let store = ask(api.get_opt(&name)).await.map_err(Error::Read)?;
    let store = store.filter(|store| store.meta().uid == subject.metadata.uid);
    let store = store.filter(|store| store.meta().deletion_timestamp.is_none());
    if store.is_none() {
        shared.metrics.forget_store(&namespace, &name);
    }
    Ok(store)
}

fn status_of(store: &BlobStore) -> BlobStoreStatus {
    store.status.clone().unwrap_or_default()
}

/// When to look again after a failure. Logged once, here.
pub fn on_error(subject: Arc<PartialObjectMeta<BlobStore>>, error: &Error, shared: Arc<Shared>) -> Next {
    shared.metrics.reconcile_errors.with_label_values(&[error.category()]).inc();
    let uid = subject.uid().unwrap_or_default();
    let next = match error.retry() {
        Retry::AtOnce => Next::requeue(Duration::ZERO),
        Retry::OnChange => Next::await_change(),
        Retry::Backoff => {
            let mut backoff = shared.backoff.lock().unwrap_or_else(PoisonError::into_inner);
            Next::requeue(backoff.failed(&uid, rand::random::<f64>()))
        }
    };
    tracing::warn!(
        namespace = subject.namespace(),
        name = subject.name_any(),
        kind = names::GROUP,
        category = error.category(),
        error = %chain(error),
        "reconcile"
    );
    next
}
