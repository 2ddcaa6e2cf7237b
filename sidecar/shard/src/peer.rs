//! What the sidecars of one shard say to each other over the peer port: `GET /v1/identity?nonce=…` (open: the answer
//! is the proof) and `POST /v1/shard` (bearer peer token, JSON `PeerRequest` in, `PeerAnswer` out).

use blobstore_sidecar_api::record::Member;
use serde::{Deserialize, Serialize};

/// Path of the identity proof; the query is `nonce`, 16 to 128 characters.
pub const IDENTITY_PATH: &str = "/v1/identity";
/// Path of everything else.
pub const SHARD_PATH: &str = "/v1/shard";

/// Who answers at an address, provably of this store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub member: Member,
    pub shard: u32,
    /// Hex HMAC-SHA256 under the peer token of nonce, store UID, node id and run id, each followed by a newline.
    pub proof: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum PeerRequest {
    /// How are you?
    Status,
    /// From a replica to the primary: I follow you, add me when I have caught up.
    Join { member: Member },
    /// From an owner that stopped serving at `relinquished`: take over.
    Promote { relinquished: u64, reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum PeerAnswer {
    Status(PeerStatus),
    Accepted,
    Refused { message: String },
}

/// What a probe learns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    pub pod: String,
    /// Run id of the engine that answers its sidecar now.
    pub run_id: Option<String>,
    /// Epoch of the record that this sidecar last saw.
    pub epoch: u64,
    /// Epoch at which it serves.
    pub serving: Option<u64>,
    /// Highest epoch at which it had served and never will again.
    pub relinquished: Option<u64>,
}
