//! The chart over its life on a real cluster: what uninstalling keeps, what a second install takes over, and what
//! deletion protection refuses.

use std::time::Duration;

use ::kube::{Api, api::DeleteParams};
use blobstore_e2e::{
    client,
    error::{Error, Result},
    helm, namespace,
    namespace::Scope,
    store::{self, Store},
    wait::{self, Seen},
};
use blobstore_operator_api::BlobStore;
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde_json::json;

/// A new policy takes the API server some seconds to learn.
const POLICY_LIMIT: Duration = Duration::from_secs(60);
/// A paused store has no pods to wait for.
const GONE_LIMIT: Duration = Duration::from_secs(60);
const CRD: &str = "blobstores.cachehygiene.io";

/// Asks for the deletion without carrying it out.
async fn refusal(scope: &Scope, name: &str) -> Option<String> {
    let api: Api<BlobStore> = scope.api();
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    api.delete(name, &dry).await.err().map(|error| error.to_string())
}

async fn operators(scope: &Scope) -> Result<usize> {
    let api: Api<Deployment> = Api::namespaced(scope.client.clone(), helm::NAMESPACE);
    Ok(api.list(&Default::default()).await.map_err(Error::kube("list operators"))?.items.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstall_keeps_stores_and_a_second_install_takes_them_over() {
    namespace::with_cluster_alone("release", |scope| async move {
        helm::install(&scope.cluster, &json!({ "webhook": { "enabled": true } })).await?;
        let mut spec = store::spec(1, 0);
        spec["lifecycle"] = json!({ "paused": true });
        spec["deletionProtection"] = json!(true);
        let kept = Store::create(&scope, "kept", &spec).await?;
        let uid = kept.resource().await?.metadata.uid;
        let secrets: Api<Secret> = Api::namespaced(scope.client.clone(), helm::NAMESPACE);
        let hook = format!("{}-operator-webhook", helm::RELEASE);
        let token = secrets.get(&hook).await.map_err(Error::kube("get the webhook's Secret"))?.data;

        helm::uninstall(&scope.cluster).await?;
        assert_eq!(operators(&scope).await?, 0, "the operator is gone");
        let crds: Api<CustomResourceDefinition> = Api::all(scope.client.clone());
        let crd = crds.get(CRD).await.map_err(Error::kube("get the CRD"))?;
        assert!(crd.metadata.deletion_timestamp.is_none(), "the CRD stays");
        assert_eq!(kept.resource().await?.metadata.uid, uid, "and with it the store");

        helm::install(&scope.cluster, &json!({ "webhook": { "enabled": true } })).await?;
        assert_eq!(kept.resource().await?.metadata.uid, uid, "the same store is there for the new operator");
        let first = secrets.get(&hook).await.map_err(Error::kube("get the webhook's Secret"))?.data;
        assert_ne!(first, token, "an uninstalled release leaves no credentials behind");
        helm::install(&scope.cluster, &json!({ "webhook": { "enabled": true } })).await?;
        let second = secrets.get(&hook).await.map_err(Error::kube("get the webhook's Secret"))?.data;
        assert_eq!(first, second, "an upgrade keeps the webhook's credentials");

        kept.merge(&json!({ "spec": { "deletionProtection": false } })).await
    })
    .await
    .expect("the release's life");
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_store_is_deleted_only_after_the_protection_is_taken_off() {
    namespace::with("protect", |scope| async move {
        helm::install(&scope.cluster, &json!({})).await?;
        let mut spec = store::spec(1, 0);
        spec["lifecycle"] = json!({ "paused": true });
        spec["deletionProtection"] = json!(true);
        let kept = Store::create(&scope, "kept", &spec).await?;
        let words = wait::until("the deletion is refused", POLICY_LIMIT, || async {
            let refused = refusal(&scope, "kept").await;
            Ok(Seen::when(refused.is_some(), refused.unwrap_or_default(), || {
                "it would be deleted".to_owned()
            }))
        })
        .await?;
        assert!(words.contains("spec.deletionProtection") && words.contains("set it to false"), "{words}");

        kept.merge(&json!({ "spec": { "deletionProtection": false } })).await?;
        assert_eq!(refusal(&scope, "kept").await, None, "now it may go");
        let api: Api<BlobStore> = scope.api();
        client::delete(&api, "kept", &DeleteParams::default()).await?;
        wait::until("the store is gone", GONE_LIMIT, || async {
            let left = api.get_opt("kept").await.map_err(Error::kube("get the store"))?;
            Ok(Seen::when(left.is_none(), (), || "still there".to_owned()))
        })
        .await
    })
    .await
    .expect("deletion protection");
}
