//! What is measured, as data: each case names its load, its own server, and every peer with the ratio it aims at.

/// One server of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Which {
    /// Our sidecar with a cache that holds everything that is read from it.
    Cached,
    /// Our sidecar without a cache.
    Uncached,
    /// Our sidecar with access keys and the cache it has by default: every request is signed.
    Signed,
    Nginx,
    Varnish,
    Webdis,
    VersityGw,
    MinIo,
    /// A server that collects each body and hands it to the redis crate, on the engine of [`Which::Uncached`].
    WholeBody,
    /// `redis-benchmark` on the engine of [`Which::Uncached`].
    Direct,
}

impl Which {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cached | Self::Uncached | Self::Signed => "ours",
            Self::Nginx => "nginx",
            Self::Varnish => "Varnish",
            Self::Webdis => "webdis",
            Self::VersityGw => "versitygw",
            Self::MinIo => "MinIO",
            Self::WholeBody => "whole body, redis crate",
            Self::Direct => "redis-benchmark",
        }
    }

    /// Speaks S3 and wants signatures.
    pub(crate) fn signs(self) -> bool {
        matches!(self, Self::Signed | Self::VersityGw | Self::MinIo)
    }
}

/// What every client does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Reads one of `keys` blobs.
    Get,
    /// Replaces one of `keys` blobs.
    Overwrite,
    /// Writes a blob that was not there, `keys` of them at most in one round; they are deleted after it.
    Create,
}

/// What the ratio is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Requests,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    pub(crate) bytes: u64,
    pub(crate) keys: usize,
    pub(crate) unit: Unit,
    pub(crate) ours: Which,
    /// Each with what ours divided by the peer's should reach; 0 is a comparison without an aim.
    pub(crate) peers: &'static [(Which, f64)],
    /// In the bucket whose objects all get their MD5 as ETag, as those of the S3 peers do.
    pub(crate) md5: bool,
    /// The 99th percentile at half of each server's own peak is taken as well.
    pub(crate) half_load: bool,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// The blob of the requirements.
pub(crate) const LARGE: u64 = 50_000_000;

/// Bytes per second of [`Work::Get`] from the cache.
const fn cached(name: &'static str, bytes: u64, keys: usize, peers: &'static [(Which, f64)]) -> Case {
    let (work, unit) = (Work::Get, Unit::Bytes);
    Case { name, work, bytes, keys, unit, ours: Which::Cached, peers, md5: false, half_load: true }
}

const fn engine(
    name: &'static str,
    work: Work,
    bytes: u64,
    keys: usize,
    peers: &'static [(Which, f64)],
) -> Case {
    Case {
        name,
        work,
        bytes,
        keys,
        unit: Unit::Bytes,
        ours: Which::Uncached,
        peers,
        md5: false,
        half_load: false,
    }
}

const fn signed(
    name: &'static str,
    work: Work,
    bytes: u64,
    keys: usize,
    unit: Unit,
    peers: &'static [(Which, f64)],
) -> Case {
    Case { name, work, bytes, keys, unit, ours: Which::Signed, peers, md5: false, half_load: true }
}

const CACHES: &[(Which, f64)] = &[(Which::Nginx, 1.0), (Which::Varnish, 0.8)];
/// Opaque ETags on our side.
const S3_PEERS: &[(Which, f64)] = &[(Which::VersityGw, 3.0), (Which::MinIo, 3.0)];
/// MD5 costs every server the same 1.6 s per GB and core.
const MD5_PEERS: &[(Which, f64)] = &[(Which::VersityGw, 1.2), (Which::MinIo, 1.2)];

const fn with_md5(name: &'static str, bytes: u64, keys: usize) -> Case {
    Case { md5: true, ..signed(name, Work::Overwrite, bytes, keys, Unit::Bytes, MD5_PEERS) }
}

/// In the order of the table. Blobs of one case fit into the sidecar's cache with those of all others.
pub(crate) const CASES: &[Case] = &[
    Case {
        unit: Unit::Requests,
        ..cached("GET from the cache, 4 KiB", 4 * KIB, 1024, &[(Which::Nginx, 0.75), (Which::Varnish, 0.0)])
    },
    cached("GET from the cache, 64 KiB", 64 * KIB, 256, CACHES),
    cached("GET from the cache, 1 MiB", MIB, 48, CACHES),
    cached("GET from the cache, 16 MiB", 16 * MIB, 8, CACHES),
    cached("GET from the cache, 50 MB", LARGE, 4, CACHES),
    engine(
        "GET from the engine, 64 KiB",
        Work::Get,
        64 * KIB,
        64,
        &[(Which::Direct, 0.35), (Which::Webdis, 3.0)],
    ),
    engine(
        "GET from the engine, 1 MiB",
        Work::Get,
        MIB,
        32,
        &[(Which::Direct, 0.45), (Which::Webdis, 3.0), (Which::WholeBody, 1.0)],
    ),
    engine(
        "GET from the engine, 50 MB",
        Work::Get,
        LARGE,
        8,
        &[(Which::Direct, 0.45), (Which::Webdis, 5.0), (Which::WholeBody, 1.0)],
    ),
    engine("PUT, 64 KiB", Work::Overwrite, 64 * KIB, 64, &[(Which::Direct, 0.4), (Which::Nginx, 0.8)]),
    engine(
        "PUT, 1 MiB",
        Work::Overwrite,
        MIB,
        32,
        &[(Which::Direct, 0.4), (Which::Nginx, 1.0), (Which::WholeBody, 1.0)],
    ),
    engine(
        "PUT, 50 MB",
        Work::Overwrite,
        LARGE,
        8,
        &[(Which::Direct, 0.4), (Which::Nginx, 1.0), (Which::WholeBody, 1.0)],
    ),
    engine("PUT of new keys, 1 MiB", Work::Create, MIB, 1024, &[(Which::Nginx, 1.0)]),
    signed("S3 GET, 4 KiB", Work::Get, 4 * KIB, 512, Unit::Requests, S3_PEERS),
    signed("S3 PUT, 4 KiB", Work::Overwrite, 4 * KIB, 512, Unit::Requests, S3_PEERS),
    signed("S3 PUT, 64 KiB", Work::Overwrite, 64 * KIB, 64, Unit::Bytes, S3_PEERS),
    signed("S3 PUT, 1 MiB", Work::Overwrite, MIB, 32, Unit::Bytes, S3_PEERS),
    signed("S3 PUT, 50 MB", Work::Overwrite, LARGE, 8, Unit::Bytes, S3_PEERS),
    with_md5("S3 PUT with MD5, 64 KiB", 64 * KIB, 64),
    with_md5("S3 PUT with MD5, 1 MiB", MIB, 32),
    with_md5("S3 PUT with MD5, 50 MB", LARGE, 8),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_each_case_has_a_peer() {
        let mut names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CASES.len());
        assert!(CASES.iter().all(|case| !case.peers.is_empty() && case.keys > 0 && case.bytes > 0));
    }

    #[test]
    fn what_is_read_from_the_cache_fits_into_it() {
        let cached = CASES.iter().filter(|case| case.ours == Which::Cached);
        let bytes: u64 = cached.map(|case| case.bytes * case.keys as u64).sum();
        assert!(bytes < crate::servers::sidecar::CACHE_BYTES * 3 / 4, "{bytes} bytes");
    }
}
