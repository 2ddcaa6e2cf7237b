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
//!     -> BlobStoreStatus     // once with no outcomes before acting (the intent), once after
//! status::invalid(&BlobStore, &Invalid, &BlobStoreStatus, Timestamp) -> BlobStoreStatus
//! ```

pub mod context;
pub mod observed;

pub mod validate;

pub mod action;
pub mod children;
