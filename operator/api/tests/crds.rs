//! The committed CRD equals the code, and stays small.
//! `BLESS=1 cargo test --ignore-rust-version --workspace --test crds` rewrites it.

use std::path::Path;

use blobstore_operator_api::{blob_store_crd, blob_store_crd_yaml};

/// A client-side apply copies the object into an annotation of at most 256 KiB; peers exceed it.
const CRD_JSON_BYTES_MAX: usize = 100_000;

#[test]
fn committed_crd_equals_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds/blobstore.yaml");
    let want = blob_store_crd_yaml().expect("the CRD serialises");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &want).expect("crds/ is writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == want,
        "crds/blobstore.yaml differs from the code: run BLESS=1 cargo test --ignore-rust-version --workspace --test crds"
    );
}

#[test]
fn schema_stays_small() {
    let bytes = serde_json::to_string(&blob_store_crd()).expect("the CRD serialises").len();
    assert!(bytes < CRD_JSON_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn no_word_of_an_enum_is_a_boolean_to_kubectl() {
    let text = blob_store_crd_yaml().expect("the CRD serialises");
    let bare = text.lines().find(|line| line.ends_with("- Off") || line.ends_with(": Off"));
    assert_eq!(bare, None);
    assert!(text.contains("- 'Off'"), "the hygiene mode can be Off");
}
