//! What the actor shows of itself: topology and identity.

use blobstore_sidecar_api::topology::{PodTopology, ShardState};

use crate::{Identity, actor::Actor};

/// A nonce must be long enough not to repeat and short enough not to matter.
const NONCE_CHARS: std::ops::RangeInclusive<usize> = 16..=128;

impl Actor {
    pub(crate) fn topology(&self) -> PodTopology {
        let state = self.machine.state(self.shared.now());
        PodTopology {
            pod: self.config.pod.clone(),
            pod_ip: self.config.pod_ip.clone(),
            store_uid: self.config.config.store.uid.clone(),
            shard: self.config.shard,
            sidecar_version: env!("CARGO_PKG_VERSION").to_owned(),
            config_hash: self.config.config_hash.clone(),
            state,
            message: message(state).to_owned(),
            record: self.machine.record().cloned(),
            record_fresh: self.record_fresh,
            engine: self.observed.as_ref().map(|observed| observed.view.clone()),
            last_exit: self.last_exit.clone(),
        }
    }

    pub(crate) fn identity(&self, nonce: &str) -> Option<Identity> {
        let member = self.observed.as_ref()?.view.member.clone();
        let printable = nonce.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !NONCE_CHARS.contains(&nonce.len()) || !printable || member.node_id.is_empty() {
            return None;
        }
        let proof = self.peers.proof(nonce, &member);
        Some(Identity { member, shard: self.config.shard, proof })
    }
}

fn message(state: ShardState) -> &'static str {
    match state {
        ShardState::Starting => "waits for its engine or for the shard record",
        ShardState::Empty => {
            "has no data that counts, and nobody who has can be reached: waits for a release"
        }
        ShardState::Syncing => "follows the primary and is not yet in sync",
        ShardState::InSync => "holds every acknowledged write",
        ShardState::Promoting => "takes over the shard",
        ShardState::Primary => "serves the shard",
        ShardState::HandingOver => "has stopped serving and hands over",
        ShardState::Deposed => "holds every acknowledged write but has no link to the primary",
        ShardState::EngineDown => "its engine has ended or does not answer",
    }
}
