//! Buckets in host names, as s3s asks for them: it signs and verifies with the host and path as they came.

use std::sync::Arc;

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

use crate::shell::Shell;

/// The domains of the store.
#[derive(Debug)]
pub(super) struct Hosts(pub(super) Arc<Shell>);

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let named = VirtualHost::new(host);
        Ok(match self.0.domains.bucket(host) {
            Some(bucket) => named.with_bucket(bucket),
            None => named,
        })
    }
}
