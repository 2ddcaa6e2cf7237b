//! Headers that are stored with an object and come back with it: a list of (kind, text) in the record.

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
}

const USER_NAME: u8 = 7;
const USER_VALUE: u8 = 8;
const ORIGIN: u8 = 9;

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
        } = self;
        let single =
            [content_type, content_encoding, content_disposition, content_language, cache_control, expires];
        let single = (1_u8..).zip(single).filter_map(|(kind, text)| Some((kind, text.as_ref()?)));
        let user = user.iter().flat_map(|(name, value)| [(USER_NAME, name), (USER_VALUE, value)]);
        let mut bytes = Vec::new();
        for (kind, text) in single.chain(user).chain(origin.iter().map(|text| (ORIGIN, text))) {
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
            match kind {
                1 => attributes.content_type = Some(text),
                2 => attributes.content_encoding = Some(text),
                3 => attributes.content_disposition = Some(text),
                4 => attributes.content_language = Some(text),
                5 => attributes.cache_control = Some(text),
                6 => attributes.expires = Some(text),
                &USER_NAME => attributes.user.push((text, String::new())),
                &USER_VALUE => attributes.user.last_mut()?.1 = text,
                &ORIGIN => attributes.origin = Some(text),
                _ => return None,
            }
        }
        Some(attributes)
    }
}
