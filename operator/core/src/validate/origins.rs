//! Origins of the spec as the sidecar's document and the pod's volumes need them. The CRD's rules again, for objects
//! that an older CRD let in, and what CEL cannot see.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use blobstore_operator_api::spec::{BlobStoreSpec, ORIGINS_MAX, OriginSpec, OriginTimeouts, OriginWrites};
use blobstore_operator_api::units::Period;
use blobstore_sidecar_api::origins::{self, OriginConfig, OriginSource};
use blobstore_sidecar_api::ports;

use super::{Problems, sidecar};

/// A read that another pod forwards waits 30 s: line, connect and first byte must fit.
const FIRST_BYTE_MS_MAX: u64 = 20_000;

/// What a pod mounts for one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginMount {
    pub name: String,
    pub secret: Option<String>,
    pub claim: Option<String>,
}

pub(super) fn configs(spec: &BlobStoreSpec, problems: &mut Problems) -> Vec<OriginConfig> {
    if spec.origins.len() > ORIGINS_MAX {
        problems.add("spec.origins", format!("must be at most {ORIGINS_MAX}"));
    }
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    for origin in &spec.origins {
        if !names.insert(&origin.name) {
            problems.add("spec.origins", format!("two origins are called {}", origin.name));
        }
        if !places.insert((&origin.bucket, &origin.prefix)) {
            problems.add(
                "spec.origins",
                format!("two origins show bucket {} under the same prefix", origin.bucket),
            );
        }
    }
    spec.origins.iter().enumerate().map(|(index, origin)| config(index, origin, problems)).collect()
}

pub(super) fn mounts(spec: &BlobStoreSpec) -> Vec<OriginMount> {
    let mount = |origin: &OriginSpec| OriginMount {
        name: origin.name.clone(),
        secret: origin.credentials_secret.as_ref().map(|secret| secret.name.clone()),
        claim: origin.file.as_ref().map(|file| file.claim_name.clone()),
    };
    spec.origins.iter().map(mount).collect()
}

fn config(index: usize, origin: &OriginSpec, problems: &mut Problems) -> OriginConfig {
    let at = |field: &str| format!("spec.origins[{index}].{field}");
    if !is_name(&origin.name) {
        problems.add(&at("name"), "must be 1 to 40 lower-case letters, digits and '-', a letter first");
    }
    if !is_bucket(&origin.bucket) {
        problems.add(
            &at("bucket"),
            "must be 1 to 63 letters, digits, '.', '-' or '_', a letter or digit first and last",
        );
    }
    if origin.file.is_some() && origin.credentials_secret.is_some() {
        problems.add(&at("credentialsSecret"), "a folder needs none: remove it");
    }
    let mut seconds = |field: &str, period: &Period| sidecar::seconds(&at(field), period, problems);
    let ttl = seconds("ttl", &origin.ttl);
    let stale_while_revalidate_seconds = seconds("staleWhileRevalidate", &origin.stale_while_revalidate);
    let stale_if_error_seconds = seconds("staleIfError", &origin.stale_if_error);
    let negative_ttl_seconds = seconds("negativeTtl", &origin.negative_ttl);
    OriginConfig {
        name: origin.name.clone(),
        bucket: origin.bucket.clone(),
        prefix: origin.prefix.clone(),
        origin_prefix: origin.origin_prefix.clone(),
        source: source(index, origin, problems),
        credentials: origin.credentials_secret.as_ref().map(|_| folder(ports::ORIGINS_DIR, &origin.name)),
        ttl_seconds: (!origin.immutable).then_some(ttl),
        stale_while_revalidate_seconds,
        stale_if_error_seconds,
        negative_ttl_seconds,
        writes: match origin.writes {
            OriginWrites::Refuse => origins::OriginWrites::Refuse,
            OriginWrites::Local => origins::OriginWrites::Local,
        },
        timeouts: timeouts(index, &origin.timeouts, problems),
    }
}

fn source(index: usize, origin: &OriginSpec, problems: &mut Problems) -> OriginSource {
    let field = format!("spec.origins[{index}]");
    let OriginSpec { s3, gcs, azure, http, file, .. } = origin;
    let urls = [
        s3.as_ref().and_then(|s3| s3.endpoint.as_deref()),
        gcs.as_ref().and_then(|gcs| gcs.endpoint.as_deref()),
        azure.as_ref().and_then(|azure| azure.endpoint.as_deref()),
        http.as_ref().map(|http| http.url.as_str()),
    ];
    for url in urls.into_iter().flatten() {
        // A password in a URL would end up in the ConfigMap.
        if !(url.starts_with("http://") || url.starts_with("https://")) || url.contains('@') {
            problems.add(&field, "a URL begins with http:// or https:// and holds no credentials");
        }
    }
    match (s3, gcs, azure, http, file) {
        (Some(s3), None, None, None, None) => OriginSource::S3 {
            bucket: s3.bucket.clone(),
            region: s3.region.clone(),
            endpoint: s3.endpoint.clone(),
            virtual_hosted: s3.virtual_hosted,
        },
        (None, Some(gcs), None, None, None) => {
            OriginSource::Gcs { bucket: gcs.bucket.clone(), endpoint: gcs.endpoint.clone() }
        }
        (None, None, Some(azure), None, None) => OriginSource::Azure {
            account: azure.account.clone(),
            container: azure.container.clone(),
            endpoint: azure.endpoint.clone(),
        },
        (None, None, None, Some(http), None) => OriginSource::Http { url: http.url.clone() },
        (None, None, None, None, Some(file)) => {
            if file.path.starts_with('/') || file.path.split('/').any(|part| part == "..") {
                problems.add(&format!("{field}.file.path"), "must be a folder inside the volume");
            }
            let volume = folder(ports::ORIGIN_VOLUMES_DIR, &origin.name);
            OriginSource::File { path: if file.path.is_empty() { volume } else { volume.join(&file.path) } }
        }
        _ => {
            problems.add(&field, "must have exactly one of s3, gcs, azure, http and file");
            OriginSource::Http { url: String::new() }
        }
    }
}

fn timeouts(index: usize, timeouts: &OriginTimeouts, problems: &mut Problems) -> origins::OriginTimeouts {
    let OriginTimeouts { connect, first_byte, idle } = timeouts;
    let mut millis = |field: &str, period: &Period| {
        let field = format!("spec.origins[{index}].timeouts.{field}");
        let millis = sidecar::millis(&field, period, problems);
        if millis == 0 {
            problems.add(&field, "must be longer than nothing");
        }
        millis
    };
    let (connect_ms, first_byte_ms) = (millis("connect", connect), millis("firstByte", first_byte));
    let idle_ms = millis("idle", idle);
    if first_byte_ms > FIRST_BYTE_MS_MAX {
        let field = format!("spec.origins[{index}].timeouts.firstByte");
        problems.add(&field, "must be at most 20s: a forwarded read waits 30s for its answer");
    }
    origins::OriginTimeouts { connect_ms, first_byte_ms, idle_ms }
}

fn folder(parent: &str, name: &str) -> PathBuf {
    Path::new(parent).join(name)
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=40).contains(&name.len())
        && name.starts_with(|char: char| char.is_ascii_lowercase())
        && name.bytes().all(|byte| plain(byte) || byte == b'-')
        && !name.ends_with('-')
}

fn is_bucket(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let end = |char: char| char.is_ascii_alphanumeric();
    (1..=63).contains(&name.len()) && name.bytes().all(inner) && name.starts_with(end) && name.ends_with(end)
}
