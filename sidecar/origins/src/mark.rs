//! What a copy remembers of its origin, kept in the object's record; and the ETag that clients see for it.

use blobstore_sidecar_core::etag::ETag;

/// Version of the text in the record.
const VERSION: &str = "1";
/// Never in an origin's name, nor in an ETag: the separator.
const SEPARATOR: char = '\n';

/// Where a copy came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The origin's name in the resource.
    pub origin: String,
    /// As the origin wrote it, with quotes and `W/`.
    pub etag: Option<String>,
    /// Milliseconds since 1970; 0: the origin did not say.
    pub modified_ms: u64,
}

impl Mark {
    pub fn encode(&self) -> String {
        let etag = self.etag.as_deref().unwrap_or_default();
        [VERSION, &self.origin, &self.modified_ms.to_string(), etag].join(&SEPARATOR.to_string())
    }

    /// `None`: not a copy of an origin's object, or of a version that we do not know.
    pub fn decode(text: &str) -> Option<Self> {
        let mut fields = text.splitn(4, SEPARATOR);
        if fields.next()? != VERSION {
            return None;
        }
        let origin = fields.next()?.to_owned();
        let modified_ms = fields.next()?.parse().ok()?;
        let etag = Some(fields.next()?.to_owned()).filter(|etag| !etag.is_empty());
        Some(Self { origin, etag, modified_ms })
    }

    /// The ETag of the copy. It follows from the origin's, so that the same object has the same ETag after a refill
    /// and in another store: an S3 origin's MD5 stays what it is, any other becomes the opaque form. `None`: the
    /// origin says nothing by which two versions could be told apart.
    pub(crate) fn local_etag(&self, size: Option<u64>) -> Option<ETag> {
        let tag = self.etag.as_deref();
        if tag.is_none() && self.modified_ms == 0 {
            return None;
        }
        let strong = tag.and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"'));
        if let Some(strong) = strong {
            let (digits, opaque) = strong.strip_suffix("-1").map_or((strong, false), |digits| (digits, true));
            if let Some(bytes) = hex16(digits) {
                return Some(if opaque { ETag::Opaque(bytes) } else { ETag::Md5(bytes) });
            }
        }
        let size = size.map(|size| size.to_string()).unwrap_or_default();
        // A strong tag tells versions apart alone; a weak one, or none, gets what else is known.
        let text = match strong {
            Some(strong) => strong.to_owned(),
            None => format!("{}\n{}\n{size}", tag.unwrap_or_default(), self.modified_ms),
        };
        Some(ETag::Opaque(xxhash_rust::xxh3::xxh3_128(text.as_bytes()).to_be_bytes()))
    }
}

fn hex16(text: &str) -> Option<[u8; 16]> {
    let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = plain.then(|| u128::from_str_radix(text, 16).ok())??;
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(etag: &str, modified_ms: u64) -> Mark {
        let etag = Some(etag.to_owned()).filter(|etag| !etag.is_empty());
        Mark { origin: "images".into(), etag, modified_ms }
    }

    #[test]
    fn what_was_written_is_read() {
        for mark in [mark("\"a\"", 5), mark("", 0), mark("W/\"x:y\"", 7)] {
            assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        }
        for text in ["", "1", "1\na", "2\na\n0\n", "1\na\nx\n"] {
            assert_eq!(Mark::decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_md5_stays_an_md5_and_our_own_form_stays_ours() {
        let md5 = "0123456789abcdef0123456789abcdef";
        let local = |text: &str| mark(text, 0).local_etag(Some(1)).expect("a tag").quoted();
        assert_eq!(local(&format!("\"{md5}\"")), format!("\"{md5}\""));
        assert_eq!(local(&format!("\"{md5}-1\"")), format!("\"{md5}-1\""));
        assert!(local(&format!("\"{md5}-2\"")).ends_with("-1\""));
    }

    #[test]
    fn other_tags_are_opaque_and_follow_the_origin() {
        let strong = mark("\"v1\"", 1).local_etag(Some(1));
        assert_eq!(strong, mark("\"v1\"", 2).local_etag(Some(2)), "a strong tag is enough");
        assert_ne!(strong, mark("\"v2\"", 1).local_etag(Some(1)));
        let weak = mark("W/\"v1\"", 1).local_etag(Some(1));
        assert_ne!(weak, mark("W/\"v1\"", 2).local_etag(Some(1)), "a weak one is not");
        assert_ne!(mark("", 1).local_etag(Some(1)), mark("", 1).local_etag(Some(2)));
        assert_eq!(mark("", 0).local_etag(Some(1)), None);
    }
}
