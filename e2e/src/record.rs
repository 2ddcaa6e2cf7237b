//! The shards' records as their Leases hold them: what a takeover goes by. The resource's status tells of them a pass
//! of the operator later.

use std::{collections::BTreeSet, time::Duration};

use ::kube::Api;
use blobstore_operator_api::names;
use blobstore_sidecar_api::record::{RECORD_ANNOTATION, ShardRecord};
use k8s_openapi::api::coordination::v1::Lease;

use crate::{
    error::{Error, Result},
    store::Store,
    wait::{self, Seen},
};

pub fn of(lease: &Lease) -> Option<ShardRecord> {
    let annotations = lease.metadata.annotations.as_ref()?;
    serde_json::from_str(annotations.get(RECORD_ANNOTATION)?).ok()
}

/// Waits until the record of every shard names each copy, and says who is primary, by shard. For right before a kill
/// that must lose nothing: on a busy machine a copy that stood still for a second is out of the set until it has
/// caught up, and what is acknowledged meanwhile may go with the others.
pub async fn wait_whole(store: &Store, limit: Duration) -> Result<Vec<String>> {
    let spec = store.resource_json().await?["spec"].take();
    let figure = |name: &str| {
        let value = spec[name].as_u64().and_then(|value| u32::try_from(value).ok());
        value.ok_or_else(|| Error::Wrong(format!("the spec of {} shows no {name}", store.name)))
    };
    let (shards, copies) = (figure("shards")?, figure("replicas")? as usize + 1);
    let leases: Api<Lease> = store.scope.api();
    wait::until(format!("the records of {} name {copies} copies a shard", store.name), limit, || async {
        let names: Vec<String> = (0..shards).map(|shard| names::shard_lease(&store.name, shard)).collect();
        let found = futures::future::try_join_all(names.iter().map(|name| leases.get(name))).await;
        let records: Vec<Option<ShardRecord>> =
            found.map_err(Error::kube("get the shards' Leases"))?.iter().map(of).collect();
        let primaries: Option<Vec<String>> =
            records.iter().map(|record| primary_of_whole(record.as_ref()?, copies)).collect();
        Ok(primaries.map_or_else(|| Seen::NotYet(format!("{records:?}")), Seen::Yes))
    })
    .await
}

/// The primary's pod, where so many pods are in sync.
fn primary_of_whole(record: &ShardRecord, copies: usize) -> Option<String> {
    let pods: BTreeSet<&str> = record.in_sync.iter().map(|member| member.pod.as_str()).collect();
    let primary = record.primary.as_ref()?.pod.as_str();
    (pods.len() >= copies && pods.contains(primary)).then(|| primary.to_owned())
}

#[cfg(test)]
mod tests {
    use blobstore_sidecar_api::record::Member;

    use super::*;

    fn member(pod: &str) -> Member {
        let text = String::new();
        Member { pod: pod.to_owned(), run_id: text.clone(), node_id: text.clone(), ip: text }
    }

    fn check(primary: Option<&str>, in_sync: &[&str], want: Option<&str>) {
        let in_sync = in_sync.iter().map(|pod| member(pod)).collect();
        let record = ShardRecord { primary: primary.map(member), in_sync, ..ShardRecord::default() };
        assert_eq!(primary_of_whole(&record, 2).as_deref(), want, "{record:?}");
    }

    #[test]
    fn shard_is_whole_with_a_primary_and_all_copies() {
        check(Some("a"), &["a", "b"], Some("a"));
        check(Some("a"), &["a"], None);
        check(Some("a"), &["a", "a"], None);
        check(Some("c"), &["a", "b"], None);
        check(None, &["a", "b"], None);
    }
}
