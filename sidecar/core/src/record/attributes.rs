//! Headers that are stored with an object and come back with it: a list of (kind, text) in the record.

use crate::checksum::Checksum;

/// Bounded together by [`super::ATTRIBUTES_BYTES_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub content_disposition: Option<String>,
    pub content_language: Option<String>,
    pub cache_control: Option<String>,
    pub expires: Option<String>,
    /// User metadata: names without prefix, lower case, in the client's order.
    pub user: Vec<(String, String)>,
    /// Where a read-through copy comes from, as the origins write it. Never sent to a client.
    pub origin: Option<String>,
    /// At most [`TAGS_MAX`].
    pub tags: Vec<(String, String)>,
    /// What the client asked for; told again, and nothing else.
    pub storage_class: Option<String>,
    /// `x-amz-website-redirect-location`.
    pub redirect: Option<String>,
    /// The checksum that the client asked for, set by the store.
    pub checksum: Option<Checksum>,
}

/// Tags of one object: the limit of S3.
pub const TAGS_MAX: usize = 10;

const USER_NAME: u8 = 7;
const USER_VALUE: u8 = 8;
const ORIGIN: u8 = 9;
const TAG_KEY: u8 = 10;
const TAG_VALUE: u8 = 11;
const STORAGE_CLASS: u8 = 12;
const REDIRECT: u8 = 13;
const CHECKSUM: u8 = 14;

impl Attributes {
    /// `None`: together larger than a record may carry.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let Self {
            content_type,
            content_encoding,
            content_disposition,
            content_language,
            cache_control,
            expires,
            user,
            origin,
            tags,
            storage_class,
            redirect,
            checksum,
        } = self;
        let checksum = checksum.map(|checksum| checksum.encode());
        let single =
            [content_type, content_encoding, content_disposition, content_language, cache_control, expires];
        let mut texts: Vec<(u8, &str)> =
            (1..).zip(single).filter_map(|(kind, text)| Some((kind, text.as_deref()?))).collect();
        texts.extend(user.iter().flat_map(|(name, value)| [(USER_NAME, &**name), (USER_VALUE, value)]));
        texts.extend(tags.iter().flat_map(|(name, value)| [(TAG_KEY, &**name), (TAG_VALUE, value)]));
        let late =
            [(ORIGIN, origin), (STORAGE_CLASS, storage_class), (REDIRECT, redirect), (CHECKSUM, &checksum)];
        texts.extend(late.into_iter().filter_map(|(kind, text)| Some((kind, text.as_deref()?))));
        let mut bytes = Vec::new();
        for (kind, text) in texts {
            let len = u16::try_from(text.len()).ok()?;
            bytes.push(kind);
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        (bytes.len() <= super::ATTRIBUTES_BYTES_MAX).then_some(bytes)
    }

    /// `None`: not what `encode` writes.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut attributes = Self::default();
        while let Some((kind, rest)) = bytes.split_first() {
            let (len, rest) = rest.split_at_checked(2)?;
            let len = usize::from(u16::from_le_bytes(len.try_into().ok()?));
            let (text, rest) = rest.split_at_checked(len)?;
            let text = String::from_utf8(text.to_vec()).ok()?;
            bytes = rest;
            match *kind {
                1 => attributes.content_type = Some(text),
                2 => attributes.content_encoding = Some(text),
                3 => attributes.content_disposition = Some(text),
                4 => attributes.content_language = Some(text),
                5 => attributes.cache_control = Some(text),
                6 => attributes.expires = Some(text),
                ORIGIN => attributes.origin = Some(text),
                USER_NAME => attributes.user.push((text, String::new())),
                USER_VALUE => attributes.user.last_mut()?.1 = text,
                TAG_KEY => attributes.tags.push((text, String::new())),
                TAG_VALUE => attributes.tags.last_mut()?.1 = text,
                STORAGE_CLASS => attributes.storage_class = Some(text),
                REDIRECT => attributes.redirect = Some(text),
                CHECKSUM => attributes.checksum = Some(Checksum::decode(&text)?),
                _ => return None,
            }
        }
        Some(attributes)
    }
}
