//! What S3 decides without touching the store: which checksums a body must meet, which names a bucket may have, how
//! keys are encoded, what a
//! policy allows, which origins a browser may come from. Pure: no clock, no sockets; the effects are the shell's.

pub mod actions;
pub mod authorization;
pub mod checksum;
pub mod cors;
pub mod form;
pub mod names;
pub mod policy;
pub mod simple;

pub use s3s::S3ErrorCode;
