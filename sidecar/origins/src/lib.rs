//! Read-through origins: what a bucket does not have comes from S3, GCS, Azure, HTTP or a folder, and is stored on its
//! way. One request however many readers; nothing of a body that broke off is kept. HTTP to clients is the caller's.

mod blobs;
mod breaker;
mod client;
mod failure;
mod fill;
mod filling;
mod freshness;
mod line;
mod mark;
mod memory;
mod metrics;
mod origin;
mod origins;
mod reader;

pub use blobs::{Blobs, Key, PutBody};
pub use failure::{Failure, FailureKind};
pub use mark::Mark;
pub use origins::{NONE_YET, Origins};
