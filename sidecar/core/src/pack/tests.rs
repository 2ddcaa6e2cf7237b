//! What is packed and what is not.

use proptest::prelude::*;

use super::*;
use crate::{chunk::CHUNK_BYTES, generation::Generation};

const NOW: u64 = 500_000 * 3_600_000;
const DAY: u64 = 24 * 3_600_000;

fn candidate(layout: &Layout) -> Candidate<'_> {
    Candidate {
        layout,
        manifest_len: 60,
        versioned: false,
        modified_ms: NOW - 30 * DAY,
        access_hour: 500_000 - 24 * 20,
        content_type: Some("text/csv; charset=utf-8"),
        content_encoding: None,
    }
}

fn check(change: impl FnOnce(&mut Candidate<'_>), want: Option<Skip>) {
    let layout = Layout::of(1 << 20).expect("small");
    let mut object = candidate(&layout);
    change(&mut object);
    assert_eq!(skipped(&object, NOW, 7 * DAY), want, "{object:?}");
}

#[test]
fn cold_text_is_worth_a_sample_and_everything_else_says_why_not() {
    check(|_| {}, None);
    check(|object| object.content_type = None, None);
    check(|object| object.content_encoding = Some("identity, aws-chunked"), None);
    check(|object| object.content_encoding = Some("aws-chunked,gzip"), Some(Skip::ContentEncoding));
    check(|object| object.content_encoding = Some("zstd"), Some(Skip::ContentEncoding));
    check(|object| object.content_type = Some("video/mp4"), Some(Skip::ContentType));
    check(|object| object.content_type = Some("Application/GZip ; x=y"), Some(Skip::ContentType));
    check(|object| object.content_type = Some("image/svg+xml"), None);
    check(|object| object.manifest_len |= PACKED, Some(Skip::AlreadyPacked));
    check(|object| object.versioned = true, Some(Skip::Versioned));
    check(|object| object.modified_ms = NOW - 6 * DAY, Some(Skip::Warm));
    check(|object| object.access_hour = 500_000 - 24 * 7, Some(Skip::Warm));
    check(|object| object.access_hour = 500_000 - 24 * 7 - 1, None);
    let (inline, large) = (Layout::inline(900), Layout::of_parts(1 << 40, CHUNKS_PACKED_MAX + 1));
    assert_eq!(skipped(&candidate(&inline), NOW, 0), Some(Skip::Inline));
    assert_eq!(skipped(&candidate(&large), NOW, 0), Some(Skip::Large));
}

#[test]
fn without_an_age_everything_is_cold_whatever_the_clock_says() {
    let layout = Layout::of(1 << 20).expect("small");
    let object = Candidate { modified_ms: NOW + DAY, access_hour: 500_100, ..candidate(&layout) };
    assert_eq!(skipped(&object, NOW, 0), None);
    assert_eq!(skipped(&object, NOW, 1), Some(Skip::Warm), "from the future: not old");
}

#[test]
fn gains_are_counted_in_whole_classes() {
    assert_eq!(engine_bytes(CHUNK_BYTES), 262_144);
    // One class less is an eighth at most; within a class nothing is saved at all.
    assert_eq!(stored_len(CHUNK_BYTES, CHUNK_BYTES - 1), CHUNK_BYTES);
    assert_eq!(stored_len(CHUNK_BYTES, 229_376), CHUNK_BYTES, "it takes the same class");
    assert_eq!(stored_len(CHUNK_BYTES, 229_376 - 64), 229_376 - 64);
    assert_eq!(stored_len(20_000, 30_000), 20_000);
    assert!(pays(1000, 900) && !pays(1000, 901) && !pays(0, 0));
}

#[test]
fn samples_are_the_ends_and_the_middle() {
    let of = |chunks| samples(chunks).collect::<Vec<_>>();
    assert_eq!((of(0), of(1), of(2), of(9)), (vec![], vec![0], vec![0, 1], vec![0, 4, 8]));
}

proptest! {
    #[test]
    fn nothing_is_kept_that_does_not_save(plain in 1_u32..=CHUNK_BYTES, packed in 1_u32..300_000) {
        let kept = stored_len(plain, packed);
        prop_assert!(kept == plain || kept == packed && packed < plain);
        if kept < plain {
            prop_assert!(engine_bytes(kept) * 10 <= engine_bytes(plain) * 9);
        }
    }

    #[test]
    fn foreign_bytes_are_read_without_panic(chunks in 0_usize..40, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Some(pack) = Pack::decode(chunks, &bytes) {
            let mut again = Vec::new();
            pack.append(&mut again);
            prop_assert_eq!(again, bytes);
            prop_assert_eq!(pack.spans_in(Generation([1; 16])).count(), pack.spans.len());
        }
    }
}
