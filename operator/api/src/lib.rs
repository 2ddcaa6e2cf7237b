//! The custom resource `BlobStore` and every name that outside things rely on. Nouns only.

pub mod names;
pub mod spec;
pub mod status;
pub mod units;

mod crd;
mod rules;

pub use crd::{blob_store_crd, blob_store_crd_yaml};
pub use rules::{CelRule, cel_rules};
pub use spec::{BlobStore, BlobStoreSpec};
pub use status::BlobStoreStatus;
