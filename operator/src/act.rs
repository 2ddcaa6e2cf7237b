//! Carries out a plan's actions, in order. What may not be done now (a budget, a conflict, a precondition) is
//! `Deferred`: the next pass looks again. The intent is in the status before the first of them.

use blobstore_operator_api::{BlobStore, names};
use blobstore_operator_core::action::{Action, Done, Outcome};
use blobstore_operator_core::observed::Observed;
use blobstore_sidecar_api::record::{RECORD_ANNOTATION, ShardRecord};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::chain;
use crate::observe::sidecar;
use crate::shared::{ApiError, Shared, ask};
use crate::still::record_stands;

#[derive(Debug, thiserror::Error)]
pub enum ActError {
    #[error("{verb}")]
    Api { verb: &'static str, source: ApiError },
    #[error("ask {pod}")]
    Sidecar { pod: String, source: crate::sidecar_client::SidecarError },
    #[error("the admin token or the address of {pod} cannot be read")]
    NoSidecar { pod: String },
    #[error("write the record of shard {shard}")]
    Record { shard: u32, source: serde_json::Error },
}

struct Hand<'a> {
    shared: &'a Shared,
    store: &'a BlobStore,
    namespace: String,
    observed: &'a Observed,
}

/// Carries out the actions one after the other; one that fails does not stop the rest.
pub async fn act(
    shared: &Shared,
    store: &BlobStore,
    observed: &Observed,
    actions: &[Action],
) -> Vec<Outcome> {
    let namespace = store.namespace().unwrap_or_default();
    let hand = Hand { shared, store, namespace, observed };
    let mut outcomes = Vec::with_capacity(actions.len());
    for action in actions {
        let result = hand.carry_out(action).await;
        report(shared, action, &result);
        outcomes.push(Outcome { action: action.clone(), result: result.map_err(|error| chain(&error)) });
    }
    outcomes
}

fn report(shared: &Shared, action: &Action, result: &Result<Done, ActError>) {
    let (word, detail) = match result {
        Ok(Done::Accepted) => ("accepted", String::new()),
        Ok(Done::Deferred(why)) => ("deferred", why.clone()),
        Ok(Done::Answer(answer)) => (answered(answer.state), answer.message.clone()),
        Err(error) => ("failed", chain(error)),
    };
    let (name, why) = words(action);
    shared.metrics.actions.with_label_values(&[name, word]).inc();
    tracing::info!(action = name, pod = action.pod(), why, result = word, detail, "act");
}

fn answered(state: blobstore_sidecar_api::action::ActionState) -> &'static str {
    use blobstore_sidecar_api::action::ActionState;
    match state {
        ActionState::Running => "running",
        ActionState::Done => "done",
        ActionState::Refused => "refused",
        ActionState::Failed => "failed",
    }
}

/// Metric label and reason.
fn words(action: &Action) -> (&'static str, &str) {
    match action {
        Action::Ask { name, why, .. } => (name, why),
        Action::Evict { why, .. } => ("evict", why),
        Action::Delete { why, .. } => ("delete", why),
        Action::Remove { why, .. } => ("remove", why),
        Action::Release { why, .. } => ("release", why),
        Action::Grow { why, .. } => ("grow", why),
        Action::Label { .. } => ("label", ""),
    }
}

fn uid_precondition(uid: &str) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

/// What Kubernetes says no to for now is not a failure.
fn accepted<T>(verb: &'static str, answer: Result<T, ApiError>) -> Result<Done, ActError> {
    match answer {
        Ok(_) => Ok(Done::Accepted),
        Err(error) => match error.code() {
            Some(409) => Ok(Done::Deferred("it changed meanwhile".to_owned())),
            Some(429) => Ok(Done::Deferred("the disruption budget allows none now".to_owned())),
            Some(404) => Ok(Done::Deferred("it is gone".to_owned())),
            _ => Err(ActError::Api { verb, source: error }),
        },
    }
}

impl Hand<'_> {
    async fn carry_out(&self, action: &Action) -> Result<Done, ActError> {
        if let Action::Evict { pod, .. } | Action::Delete { pod, .. } = action
            && !self.stands(pod).await?
        {
            return Ok(Done::Deferred("the shard's members changed meanwhile".to_owned()));
        }
        match action {
            Action::Ask { pod, uid: _, ip, name, request, why: _ } => {
                let sidecar = sidecar(ip, &self.observed.auth);
                let sidecar = sidecar.ok_or_else(|| ActError::NoSidecar { pod: pod.clone() })?;
                let answer = sidecar.action(name, request).await;
                let failed = |source| ActError::Sidecar { pod: pod.clone(), source };
                answer.map(Done::Answer).map_err(failed)
            }
            Action::Evict { pod, uid, why: _ } => {
                // Written by hand: kube's own request names the field in snake case, and the API server then
                // evicts without looking at the UID.
                let eviction = json!({
                    "apiVersion": "policy/v1",
                    "kind": "Eviction",
                    "metadata": { "name": pod, "namespace": self.namespace },
                    "deleteOptions": { "preconditions": { "uid": uid } },
                });
                self.wrote("Pod", "evict");
                let (api, params) = (self.api::<Pod>(), PostParams::default());
                let evicted = api.create_subresource::<Value, Value>("eviction", pod, &params, &eviction);
                accepted("evict", ask(evicted).await)
            }
            Action::Delete { pod, uid, why: _ } => {
                self.wrote("Pod", "delete");
                accepted("delete", ask(self.api::<Pod>().delete(pod, &uid_precondition(uid))).await)
            }
            Action::Remove { pod, uid, why: _ } => {
                self.wrote("Pod", "remove");
                let params = DeleteParams { grace_period_seconds: Some(0), ..uid_precondition(uid) };
                accepted("remove", ask(self.api::<Pod>().delete(pod, &params)).await)
            }
            Action::Release { shard, resource_version, record, why: _ } => {
                self.release(*shard, resource_version, record).await
            }
            Action::Grow { claim, size, why: _ } => {
                let patch = json!({ "spec": { "resources": { "requests": { "storage": size } } } });
                self.merge::<PersistentVolumeClaim>("grow", claim, &patch).await
            }
            Action::Label { pod, role } => {
                let patch = json!({ "metadata": { "labels": { names::LABEL_ROLE: role } } });
                self.merge::<Pod>("label", pod, &patch).await
            }
        }
    }

    /// What counted on the other copies of the pod's shard may still do so.
    async fn stands(&self, pod: &str) -> Result<bool, ActError> {
        let Some(seen) = self.observed.pod(pod) else { return Ok(false) };
        let stands = record_stands(self.shared, self.store, self.observed, seen.shard).await;
        stands.map_err(|source| ActError::Api { verb: "read the shard's record", source })
    }

    /// Compare and swap: a record that changed since it was read is left alone.
    async fn release(
        &self,
        shard: u32,
        resource_version: &str,
        record: &ShardRecord,
    ) -> Result<Done, ActError> {
        let text = serde_json::to_string(record).map_err(|source| ActError::Record { shard, source })?;
        let patch = json!({ "metadata": {
            "resourceVersion": resource_version,
            "annotations": { RECORD_ANNOTATION: text },
        }});
        self.merge::<Lease>("release", &names::shard_lease(&self.store.name_any(), shard), &patch).await
    }

    async fn merge<K>(&self, verb: &'static str, name: &str, patch: &Value) -> Result<Done, ActError>
    where
        K: crate::observe::Child,
    {
        let params =
            PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.wrote(&K::kind(&()), verb);
        accepted(verb, ask(self.api::<K>().patch(name, &params, &Patch::Merge(patch))).await)
    }

    fn wrote(&self, kind: &str, verb: &str) {
        self.shared.metrics.wrote(kind, verb);
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned,
    {
        Api::namespaced(self.shared.client.clone(), &self.namespace)
    }
}
