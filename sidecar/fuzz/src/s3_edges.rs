//! What the S3 side reads itself: host names, browser forms, and the policies of forms.

use blobstore_sidecar_api::domains::Domains;
use blobstore_sidecar_s3::form::{self, File, Reader};

const FORM_BYTES_MAX: usize = 4 << 10;

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// A `Host` header, and a domain as somebody may configure it.
pub(crate) fn host(input: &[u8]) {
    let text = text(input);
    let Ok(domains) = Domains::new(vec!["example.com".to_owned(), "s3.example.com".to_owned()]) else {
        return;
    };
    if let Some(bucket) = domains.bucket(&text) {
        assert!(!bucket.is_empty() && text.to_ascii_lowercase().starts_with(&bucket));
    }
    let _ = Domains::new(vec![text]).map(|own| own.bucket("a.example.com"));
}

/// Fields and file of a form, however it is cut; the first byte says how.
pub(crate) fn form(input: &[u8]) {
    let (first, rest) = input.split_at(usize::from(!input.is_empty()));
    let size = first.first().map_or(1, |byte| usize::from(*byte) + 1);
    let (whole, pieces) = (read(rest, rest.len().max(1)), read(rest, size));
    // A form that is too large may be told apart early or late, never taken in one way and refused in the other.
    if rest.len() <= FORM_BYTES_MAX {
        assert_eq!(whole, pieces);
    }
    let _ = form::boundary(&text(rest));
}

type Read = Option<(Vec<form::Field>, Vec<u8>, bool)>;

fn read(input: &[u8], size: usize) -> Read {
    let (mut reader, mut file) = (Reader::new("B", FORM_BYTES_MAX), File::new("B"));
    let (mut head, mut bytes) = (None, Vec::new());
    for piece in input.chunks(size) {
        match &head {
            None => {
                head = reader.push(piece).ok()?;
                if let Some(head) = &head {
                    bytes.extend(file.push(&head.rest));
                }
            }
            Some(_) => bytes.extend(file.push(piece)),
        }
    }
    let head = head?;
    let _ = form::claim(&head).map(|claim| claim.map(|claim| claim.holds("secret")));
    Some((head.fields, bytes, file.ended()))
}

pub(crate) fn form_policy(input: &[u8]) {
    let fields = [("bucket", "b"), ("key", "a/b"), ("content-type", "text/plain")];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let _ = form::check(&text(input), &fields, 0.0);
}
