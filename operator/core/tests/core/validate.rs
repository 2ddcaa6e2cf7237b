//! Contradictions are named by field, all at once.

use blobstore_operator_core::validate::validate;
use blobstore_sidecar_api::config::SidecarConfig;

use crate::support::{store, valid};

fn check(spec: &str, fields: &[&str]) {
    let found = validate(&store(spec)).map_or_else(
        |invalid| invalid.problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>(),
        |_| Vec::new(),
    );
    assert_eq!(found, fields, "{spec}");
}

#[test]
fn contradictions_are_named() {
    check("", &[]);
    check("partitions: 100", &["spec.partitions"]);
    check("shards: 8\npartitions: 4", &["spec.shards"]);
    check("memory: {maxmemoryPercent: 95}", &["spec.memory.maxmemoryPercent"]);
    check("persistence: Aof", &["spec.storage"]);
    check("storage: {size: 1Gi}", &["spec.storage"]);
    check("sidecar: {cache: {maxBytes: 1Gi}}", &["spec.resources.sidecar.limits.memory"]);
    check("sidecar: {cache: {maxBytes: 8Mi, maxEntryBytes: 16Mi}}", &["spec.sidecar.cache.maxEntryBytes"]);
    check("sidecar: {limits: {inflightBytesMax: 1Mi}}", &["spec.sidecar.limits.inflightBytesMax"]);
    check("sidecar: {clients: {ttl: soon}}", &["spec.sidecar.clients.ttl"]);
    check("sidecar: {compression: {minAge: old}}", &["spec.sidecar.compression.minAge"]);
    for wrong in ["Upper.example", "a..b", "s3.example:9000", "10.0.0.1", "-a.example"] {
        check(&format!("sidecar: {{s3: {{domains: ['{wrong}']}}}}"), &["spec.sidecar.s3.domains"]);
    }
    check("hygiene: {deadlines: {trim: x}}", &["spec.hygiene.deadlines.trim"]);
    check("hygiene: {thresholds: {orphanBytesMin: many}}", &["spec.hygiene.thresholds.orphanBytesMin"]);
    check("engine: {config: {hz: \"10\\nrequirepass x\"}}", &["spec.engine.config"]);
    let origin = |more: &str| format!("origins: [{{name: o, bucket: b, {more}}}]");
    check(&origin("http: {url: 'http://o/'}"), &[]);
    check(&origin("ttl: 1h"), &["spec.origins[0]"]);
    check(&origin("http: {url: 'http://o/'}, gcs: {bucket: x}"), &["spec.origins[0]"]);
    check(&origin("http: {url: 'ftp://o/'}"), &["spec.origins[0]"]);
    check(&origin("http: {url: 'http://me:secret@o/'}"), &["spec.origins[0]"]);
    check(&origin("http: {url: 'http://o/'}, ttl: soon"), &["spec.origins[0].ttl"]);
    check(
        &origin("http: {url: 'http://o/'}, timeouts: {firstByte: 1m}"),
        &["spec.origins[0].timeouts.firstByte"],
    );
    check(&origin("file: {claimName: c, path: ../x}"), &["spec.origins[0].file.path"]);
    check(
        &origin("file: {claimName: c}, credentialsSecret: {name: s}"),
        &["spec.origins[0].credentialsSecret"],
    );
    check(
        "origins: [{name: Big, bucket: -b, gcs: {bucket: x}}]",
        &["spec.origins[0].name", "spec.origins[0].bucket"],
    );
    check(
        "origins: [{name: o, bucket: b, gcs: {bucket: x}}, {name: o, bucket: b, gcs: {bucket: y}}]",
        &["spec.origins", "spec.origins"],
    );
    check("cache: true\nsidecar: {cache: {maxBytes: '0'}}", &[]);
}

#[test]
fn all_problems_are_told_at_once() {
    check(
        "partitions: 3\npersistence: Aof\nsidecar: {clients: {ttl: soon}}",
        &["spec.partitions", "spec.sidecar.clients.ttl", "spec.storage"],
    );
}

#[test]
fn a_sidecar_limit_too_small_says_what_it_should_be() {
    let invalid =
        validate(&store("sidecar: {cache: {maxBytes: 512Mi}}")).expect_err("it cannot hold the cache");
    let message = invalid.to_string();
    assert!(message.contains("raise the limit to 616 MiB"), "{message}");
}

#[test]
fn an_engine_without_room_for_its_backlog_is_refused() {
    let mut tight = store("memory: {maxmemoryPercent: 90}");
    assert!(validate(&tight).is_ok(), "a tenth of 1 GiB holds a sixteenth of 0.9 GiB");
    tight.spec.resources.engine.limits.memory = "32Mi".into();
    let invalid = validate(&tight).expect_err("too small");
    assert!(invalid.to_string().contains("at least 64 MiB"), "{invalid}");
}

#[test]
fn an_origin_reaches_the_sidecar_with_its_defaults() {
    use blobstore_sidecar_api::origins::{OriginSource, OriginTimeouts, OriginWrites};
    let spec = "origins:
- {name: o, bucket: b, s3: {bucket: x}, credentialsSecret: {name: keys}}
- {name: f, bucket: c, file: {claimName: shared, path: sub}, immutable: true, writes: Local}";
    let origins = valid(spec).sidecar.origins;
    let s3 = OriginSource::S3 {
        bucket: "x".into(),
        region: "us-east-1".into(),
        endpoint: None,
        virtual_hosted: false,
    };
    assert_eq!(origins[0].source, s3);
    assert_eq!(origins[0].credentials.as_deref(), Some("/etc/blobstore/origins/o".as_ref()));
    let times = |origin: &blobstore_sidecar_api::origins::OriginConfig| {
        let swr = origin.stale_while_revalidate_seconds;
        (origin.ttl_seconds, swr, origin.stale_if_error_seconds, origin.negative_ttl_seconds)
    };
    assert_eq!(times(&origins[0]), (Some(3_600), 30, 3_600, 10));
    assert_eq!((origins[0].writes, origins[0].timeouts), (OriginWrites::Refuse, OriginTimeouts::default()));
    assert_eq!(origins[1].source, OriginSource::File { path: "/var/lib/blobstore/origins/f/sub".into() });
    assert_eq!((origins[1].ttl_seconds, origins[1].writes), (None, OriginWrites::Local));
}

#[test]
fn domains_of_buckets_reach_the_sidecar() {
    let domains = |spec| valid(spec).sidecar.s3_domains;
    assert_eq!(
        domains("sidecar: {s3: {domains: [s3.example.com, s3.local]}}"),
        ["s3.example.com", "s3.local"]
    );
    let none = serde_json::to_string(&valid("").sidecar).expect("it renders");
    assert!(!none.contains("s3Domains"), "an older sidecar must be able to read the document");
}

#[test]
fn compression_reaches_the_sidecar_only_when_it_is_on() {
    let age = |spec| valid(spec).sidecar.compression.map(|compression| compression.min_age_seconds);
    assert_eq!(age(""), None);
    assert_eq!(age("sidecar: {compression: {mode: 'Off', minAge: 1h}}"), None);
    assert_eq!(age("sidecar: {compression: {mode: Cold}}"), Some(24 * 3600));
    assert_eq!(age("sidecar: {compression: {mode: Cold, minAge: 90m}}"), Some(5400));
    let off = serde_json::to_string(&valid("").sidecar).expect("it renders");
    assert!(!off.contains("compression"), "an older sidecar must be able to read the document");
}

#[test]
fn defaults_reach_the_sidecar_as_its_own_defaults() {
    let SidecarConfig { cache, clients, limits, timing, hygiene, .. } = valid("").sidecar;
    assert_eq!(cache, blobstore_sidecar_api::config::CacheConfig::default());
    assert_eq!(clients, blobstore_sidecar_api::config::ClientsConfig::default());
    assert_eq!(limits, blobstore_sidecar_api::config::LimitsConfig::default());
    assert_eq!(timing, blobstore_sidecar_api::config::TimingConfig::default());
    assert_eq!(hygiene, blobstore_sidecar_api::config::HygieneConfig::default());
}
