//! The operator's decisions, pure: observe → validate → plan → build → (apply → act) → status.
//! Nothing here awaits, logs, reads the environment or asks the time: a pass is a function of what was seen and
//! `now`. The same input gives the same plan, so a restarted operator goes on where the last one stopped.
//!
//! The pass, as the shell drives it:
//! ```text
//! validate::validate(&BlobStore) -> Result<ValidStore, Invalid>
//! plan::plan(&ValidStore, &Observed, &Context, &BlobStoreStatus /* old */, Timestamp) -> Plan
//! build::credentials(&ValidStore, &Seen<BTreeMap<String, Vec<u8>>>, Fresh) -> Option<Credentials>
//! build::build(&ValidStore, &Plan, &Context, Option<&Credentials>) -> Result<Children, BuildError>
//! status::status(&ValidStore, &Observed, &Plan, &[Outcome], &BlobStoreStatus /* old */, Timestamp)
//!     -> Told     // once with no outcomes before acting (the intent must be written first), once after it
//! status::invalid(&BlobStore, &Invalid, &BlobStoreStatus, Timestamp) -> Told
//! ```

pub mod context;
pub mod observed;

pub mod secrets;
pub mod validate;

pub mod action;
pub mod ask;
pub mod safety;

pub mod dataloss;
pub mod diagnose;
pub mod failover;
pub mod remediate;
pub mod roll;
pub mod stranded;
pub mod topology;

pub mod plan;

pub mod build;
pub mod children;
pub mod lint;

pub mod status;

pub mod backoff;
