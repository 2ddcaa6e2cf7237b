//! Entity tags: what a record stores, how it looks in a header, and how headers with several of them are read.

use std::fmt::{self, Write as _};

use crate::generation::Generation;

/// The strong tag of one stored body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ETag {
    /// The body's MD5: 32 hex digits, what S3 clients compare uploads with.
    Md5([u8; 16]),
    /// Unique to the generation, `-1` at the end: the form that clients know not to compare with an MD5.
    Opaque([u8; 16]),
    /// The MD5 of the parts' tags and their number: what S3 gives an object that was uploaded in parts.
    Parts { digest: [u8; 16], count: u16 },
}

impl ETag {
    pub fn of(generation: Generation) -> Self {
        Self::Opaque(generation.0)
    }

    pub fn bytes(&self) -> &[u8; 16] {
        match self {
            Self::Md5(bytes) | Self::Opaque(bytes) => bytes,
            Self::Parts { digest, .. } => digest,
        }
    }

    /// What `Display` wrote, with or without quotes.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let Some((digits, count)) = text.split_once('-') else {
            return Generation::parse(text).map(|bytes| Self::Md5(bytes.0));
        };
        let digest = Generation::parse(digits)?.0;
        match count.parse().ok()? {
            0 => None,
            1 => Some(Self::Opaque(digest)),
            count => Some(Self::Parts { digest, count }),
        }
    }

    /// Is this the text between the quotes? Compared as it is written: no text is made.
    fn is(&self, text: &str) -> bool {
        let mut rest = Rest(text);
        write!(rest, "{self}").is_ok() && rest.0.is_empty()
    }

    /// With the quotes of the header.
    pub fn quoted(&self) -> String {
        format!("\"{self}\"")
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Generation(*self.bytes()))?;
        match self {
            Self::Md5(_) => Ok(()),
            Self::Opaque(_) => f.write_str("-1"),
            Self::Parts { count, .. } => write!(f, "-{count}"),
        }
    }
}

/// What is left to compare of a text, while the other is written.
struct Rest<'a>(&'a str);

impl fmt::Write for Rest<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(text).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// One tag of a header, weak or strong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    pub weak: bool,
    pub value: String,
}

/// What `If-Match` and `If-None-Match` hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagSet {
    /// `*`: any current representation.
    Any,
    Tags(Vec<EntityTag>),
}

impl TagSet {
    /// Reads the field's value. Bare values without quotes are taken too: S3 clients send them.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "*" {
            return Some(Self::Any);
        }
        let mut tags = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (tag, after) = entity_tag(rest)?;
            tags.push(tag);
            rest = after.trim_start();
            if let Some(after) = rest.strip_prefix(',') {
                rest = after.trim_start();
            } else if !rest.is_empty() {
                return None;
            }
        }
        if tags.is_empty() { None } else { Some(Self::Tags(tags)) }
    }

    /// Strong comparison (RFC 9110, 8.8.3.2): weak tags never match.
    pub fn matches_strong(&self, etag: &ETag) -> bool {
        self.matches(|tag| !tag.weak && etag.is(&tag.value))
    }

    /// Weak comparison: the opaque part decides.
    pub fn matches_weak(&self, etag: &ETag) -> bool {
        self.matches(|tag| etag.is(&tag.value))
    }

    fn matches(&self, same: impl Fn(&EntityTag) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(same),
        }
    }
}

/// The first tag of `text` and what follows it.
fn entity_tag(text: &str) -> Option<(EntityTag, &str)> {
    let (weak, rest) = match text.strip_prefix("W/") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if let Some(quoted) = rest.strip_prefix('"') {
        let (value, after) = quoted.split_once('"')?;
        return Some((EntityTag { weak, value: value.into() }, after));
    }
    let end = rest.find([',', ' ']).unwrap_or(rest.len());
    let (value, after) = rest.split_at(end);
    let bare =
        !weak && !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    bare.then(|| (EntityTag { weak, value: value.into() }, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, want: Option<&[(&str, bool)]>) {
        let want = want.map(|tags| {
            TagSet::Tags(
                tags.iter().map(|(value, weak)| EntityTag { weak: *weak, value: (*value).into() }).collect(),
            )
        });
        assert_eq!(TagSet::parse(text), want, "{text}");
    }

    #[test]
    fn header_forms() {
        assert_eq!(TagSet::parse(" * "), Some(TagSet::Any));
        check("\"a\"", Some(&[("a", false)]));
        check("W/\"a\" , \"b,c\"", Some(&[("a", true), ("b,c", false)]));
        check("abc", Some(&[("abc", false)]));
        check("abc, \"d\"", Some(&[("abc", false), ("d", false)]));
        check("\"\"", Some(&[("", false)]));
        for bad in ["", ",", "\"open", "W/bare", "\"a\" \"b\"", "a b"] {
            check(bad, None);
        }
    }

    #[test]
    fn weak_tags_match_weakly_only() {
        let etag = ETag::Md5([0xab; 16]);
        let weak = TagSet::parse(&format!("W/{}", etag.quoted())).expect("a weak tag");
        assert!(weak.matches_weak(&etag) && !weak.matches_strong(&etag));
        let strong = TagSet::parse(&etag.quoted()).expect("a strong tag");
        assert!(strong.matches_weak(&etag) && strong.matches_strong(&etag));
    }

    #[test]
    fn opaque_tags_do_not_look_like_an_md5() {
        let text = ETag::of(Generation([1; 16])).to_string();
        assert_eq!(text.len(), 34);
        assert!(text.ends_with("-1"));
    }

    #[test]
    fn tags_round_trip_through_their_text() {
        for etag in [ETag::Md5([3; 16]), ETag::Opaque([4; 16]), ETag::Parts { digest: [5; 16], count: 9999 }]
        {
            assert_eq!(ETag::parse(&etag.to_string()), Some(etag));
            assert_eq!(ETag::parse(&etag.quoted()), Some(etag));
        }
        for bad in ["", "abc", "abc-1", "-1", &format!("{}-0", Generation([1; 16]))] {
            assert_eq!(ETag::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,60}") {
            let _ = TagSet::parse(&text);
            let _ = ETag::parse(&text);
        }
    }
}
