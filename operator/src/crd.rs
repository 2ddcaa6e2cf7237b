//! Is the CRD that the API server serves the one we were built with? An older one drops fields without a word.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use blobstore_operator_api::blob_store_crd;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;

use crate::apply::difference;
use crate::error::chain;
use crate::shared::{ApiError, Shared, ask};

/// The CRD is missing or cannot be read: nothing works without it, so look often.
const MISSING_RETRY: Duration = Duration::from_secs(3);
/// A chart upgrade replaces the CRD while we run.
const RECHECK: Duration = Duration::from_secs(300);

/// Field of the served schema that is not ours, if any.
fn outdated(served: &CustomResourceDefinition) -> Option<String> {
    let ours = serde_json::to_value(blob_store_crd()).ok()?;
    let served = serde_json::to_value(served).ok()?;
    difference(&ours["spec"]["versions"], &served["spec"]["versions"])
}

async fn look(shared: &Shared) -> Result<Option<String>, ApiError> {
    let api: Api<CustomResourceDefinition> = Api::all(shared.client.clone());
    let ours = blob_store_crd();
    let name = ours.metadata.name.as_deref().unwrap_or_default();
    let served = ask(api.get(name)).await?;
    Ok(outdated(&served).map(|field| {
        format!("CRDOutdated: the API server serves another schema than this operator's, at versions{field}: upgrade the CRDs")
    }))
}

/// Waits until the CRD is served at all.
pub async fn wait(shared: &Shared) {
    loop {
        match look(shared).await {
            Ok(problem) => return keep(shared, problem),
            // Without the right to read CRDs we cannot compare, and work on.
            Err(error) if error.category() == "forbidden" => {
                return tracing::warn!(error = %chain(&error), "compare the CRD");
            }
            Err(error) => tracing::warn!(error = %chain(&error), "wait for the CRD"),
        }
        tokio::time::sleep(MISSING_RETRY).await;
    }
}

fn keep(shared: &Shared, problem: Option<String>) {
    if let Some(problem) = &problem {
        tracing::error!(problem, "the CRD is not ours");
    }
    *shared.crd_outdated.lock().unwrap_or_else(PoisonError::into_inner) = problem;
}

/// Looks again from time to time, so that an upgraded CRD ends the complaint.
pub async fn watch(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(RECHECK).await;
        if let Ok(problem) = look(&shared).await {
            keep(&shared, problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_crd_is_not_outdated() {
        assert_eq!(outdated(&blob_store_crd()), None);
    }

    #[test]
    fn missing_field_is_named() {
        let mut document = serde_json::to_value(blob_store_crd()).expect("the CRD serialises");
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        let fields = document.pointer_mut(spec).and_then(|fields| fields.as_object_mut());
        fields.expect("the schema has fields").remove("hygiene").expect("hygiene is one of them");
        let served = serde_json::from_value(document).expect("still a CRD");
        let field = outdated(&served).expect("a difference");
        assert!(field.ends_with("properties.hygiene"), "{field}");
    }
}
