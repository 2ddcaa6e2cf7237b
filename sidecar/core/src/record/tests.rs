//! The record survives its own layout, and nothing else passes for one.

use proptest::prelude::*;

use super::*;
use crate::{
    checksum::{Algorithm, Checksum},
    chunk::CHUNK_BYTES,
};

fn record(size: u64, attributes: &Attributes, tail: &[u8]) -> Vec<u8> {
    let headers = attributes.encode().expect("fits");
    let head = Head {
        generation: Generation([9; 16]),
        layout: Layout::of(size).expect("fits"),
        created_ms: 1,
        modified_ms: 2,
        expires_ms: 3,
        etag: ETag::Md5([4; 16]),
        crc64: 5,
        tail_crc64: crc64(tail),
        first_crc64: 6,
        manifest_len: 7,
        headers_len: u16::try_from(headers.len()).expect("bounded"),
        headers_crc: crc32c(&[&headers]),
        access_hour: 8,
        versioned: false,
        delete_marker: false,
    };
    [&head.encode()[..], &headers, tail].concat()
}

fn attributes() -> Attributes {
    Attributes {
        content_type: Some("text/plain".into()),
        expires: Some(String::new()),
        user: vec![("b".into(), "ü".into()), ("a".into(), String::new())],
        origin: Some("where it comes from".into()),
        tags: vec![("k".into(), String::new()), ("l".into(), "v".into())],
        storage_class: Some("GLACIER".into()),
        checksum: Checksum::parse(Algorithm::Sha1, "AAAAAAAAAAAAAAAAAAAAAAAAAAA=-7"),
        redirect: Some("/x".into()),
        ..Default::default()
    }
}

#[test]
fn what_was_written_is_read() {
    let value = Bytes::from(record(100, &attributes(), &[7; 100]));
    let read = Record::decode(&value).expect("a good record");
    assert_eq!(read.attributes, attributes());
    assert_eq!(read.tail, vec![7; 100]);
    assert_eq!(read.head.layout.size(), 100);
    assert_eq!(read.head.value_len(), value.len());
    assert_eq!(&read.head.encode()[..], &value[..HEAD_BYTES]);
}

#[test]
fn scripts_find_their_fields() {
    let value = record(u64::from(CHUNK_BYTES) + 65_536, &attributes(), &[0; 64]);
    assert_eq!(&value[8..24], &[9; 16], "generation");
    assert_eq!(&value[24..32], &(u64::from(CHUNK_BYTES) + 65_536).to_le_bytes(), "size");
    assert_eq!(&value[100..104], &2_u32.to_le_bytes(), "chunks");
    assert_eq!(&value[104..108], &65_472_u32.to_le_bytes(), "last");
    assert_eq!(&value[108..112], &7_u32.to_le_bytes(), "manifest");
}

#[test]
fn flags_survive_and_scripts_know_their_bits() {
    let value = record(100, &attributes(), &[7; 100]);
    let mut head = Head::decode(&value).expect("a good record");
    head.layout = Layout::of_parts(1 << 40, 70_000);
    head.etag = ETag::Parts { digest: [3; 16], count: 10_000 };
    (head.versioned, head.delete_marker) = (true, true);
    let bytes = head.encode();
    assert_eq!(Head::decode(&bytes), Ok(head));
    assert_eq!(bytes[4], 2 | 4 | 8 | 16, "tag of parts, in parts, versioned, delete marker");
}

#[test]
fn too_many_attributes_are_refused() {
    let user = (0..100).map(|index| (format!("{index}"), "x".repeat(100))).collect();
    assert_eq!(Attributes { user, ..Default::default() }.encode(), None);
}

#[test]
fn the_access_hour_may_change_in_place() {
    let mut value = record(1, &Attributes::default(), &[7]);
    value[ACCESS_HOUR_AT] ^= 1;
    assert_eq!(Record::decode(&Bytes::from(value)).expect("still good").head.access_hour, 9);
}

proptest! {
    #[test]
    fn every_flipped_byte_is_noticed(at in 0_usize..1000, flip in 1_u8..) {
        let mut value = record(100, &attributes(), &[7; 100]);
        let at = at % value.len();
        prop_assume!(!(ACCESS_HOUR_AT..HEAD_BYTES).contains(&at));
        value[at] ^= flip;
        prop_assert!(Record::decode(&Bytes::from(value)).is_err());
    }

    #[test]
    fn foreign_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Record::decode(&Bytes::from(bytes)).is_err());
    }

    #[test]
    fn attributes_survive(text in "\\PC{0,30}", user in proptest::collection::vec(("[a-z]{1,9}", "\\PC{0,9}"), 0..5)) {
        let attributes = Attributes { content_language: Some(text), user, ..Default::default() };
        let bytes = attributes.encode().expect("small");
        prop_assert_eq!(Attributes::decode(&bytes), Some(attributes));
    }

    #[test]
    fn foreign_attributes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = Attributes::decode(&bytes);
    }
}
