//! Listings: one page of names in byte order, how pages of several shards become one, and the token that goes on.

use crate::etag::ETag;

/// Most items of one page: the limit of S3.
pub const PAGE_ITEMS_MAX: usize = 1000;

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    pub name: String,
    pub size: u64,
    pub etag: ETag,
    pub modified_ms: u64,
}

/// An object, or everything below one common prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListItem {
    Object(ListEntry),
    Prefix(String),
}

impl ListItem {
    /// The text that orders items.
    pub fn key(&self) -> &str {
        match self {
            Self::Object(entry) => &entry.name,
            Self::Prefix(prefix) => prefix,
        }
    }

    fn cursor(&self) -> Cursor {
        match self {
            Self::Object(entry) => Cursor::AfterName(entry.name.clone()),
            Self::Prefix(prefix) => Cursor::AfterPrefix(prefix.clone()),
        }
    }
}

/// Where a listing goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    AfterName(String),
    /// Behind everything that begins with this.
    AfterPrefix(String),
}

impl Cursor {
    /// The text that orders it among items.
    fn key(&self) -> &str {
        match self {
            Self::AfterName(text) | Self::AfterPrefix(text) => text,
        }
    }

    /// Opaque to clients, safe in a URL and in XML.
    pub fn token(&self) -> String {
        let (kind, text) = match self {
            Self::AfterName(text) => ('n', text),
            Self::AfterPrefix(text) => ('p', text),
        };
        text.bytes().fold(String::from(kind), |mut token, byte| {
            token.extend(
                [byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0')),
            );
            token
        })
    }

    pub fn parse(token: &str) -> Option<Self> {
        let (kind, digits) = token.split_at_checked(1)?;
        if digits.len() % 2 != 0 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(hex_byte).collect();
        let text = String::from_utf8(bytes?).ok()?;
        match kind {
            "n" => Some(Self::AfterName(text)),
            "p" => Some(Self::AfterPrefix(text)),
            _ => None,
        }
    }

    /// The first name (as bytes: a successor may not be UTF-8) that may follow, and whether it is itself excluded.
    pub fn lower_bound(&self) -> Option<Bound> {
        match self {
            Self::AfterName(name) => Some(Bound { at: name.clone().into_bytes(), exclusive: true }),
            Self::AfterPrefix(prefix) => {
                successor(prefix.as_bytes()).map(|at| Bound { at, exclusive: false })
            }
        }
    }
}

/// Lower end of a range of names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bound {
    pub at: Vec<u8>,
    pub exclusive: bool,
}

fn hex_byte(pair: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()
}

/// The smallest string above everything that begins with `prefix`. `None`: there is no end.
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let end = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut next = prefix[..=end].to_vec();
    next[end] += 1;
    Some(next)
}

/// The common prefix that a name falls under: through the first delimiter behind `prefix`.
pub fn common_prefix<'a>(name: &'a str, prefix: &str, delimiter: &str) -> Option<&'a str> {
    if delimiter.is_empty() {
        return None;
    }
    let rest = name.strip_prefix(prefix)?;
    rest.find(delimiter).map(|at| &name[..prefix.len() + at + delimiter.len()])
}

/// One page, in order, without doubles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    pub items: Vec<ListItem>,
    /// `Some`: there may be more; goes on behind the last item, or behind names that were looked at and are none.
    pub next: Option<String>,
}

impl ListPage {
    /// Everything up to here is told; `None`: everything is.
    fn horizon(&self) -> Option<Cursor> {
        let next = self.next.as_deref()?;
        Cursor::parse(next).or_else(|| self.items.last().map(ListItem::cursor))
    }
}

/// Pages of different shards for the same request become the page that one shard with everything would give.
/// An item behind the end of a truncated page is dropped: names that its shard has not told yet may lie before it.
pub fn merge_pages(pages: Vec<ListPage>, max: usize) -> ListPage {
    let horizon = pages.iter().filter_map(ListPage::horizon).min_by(|a, b| a.key().cmp(b.key()));
    let mut items: Vec<ListItem> = pages.into_iter().flat_map(|page| page.items).collect();
    items.sort_by(|a, b| a.key().cmp(b.key()));
    items.dedup_by(|a, b| a.key() == b.key());
    if let Some(horizon) = &horizon {
        items.retain(|item| item.key() <= horizon.key());
    }
    let full = items.len() > max;
    items.truncate(max);
    let next = if full { items.last().map(ListItem::cursor) } else { horizon };
    ListPage { items, next: next.map(|cursor| cursor.token()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(name: &str) -> ListItem {
        ListItem::Object(ListEntry { name: name.into(), size: 1, etag: ETag::Md5([0; 16]), modified_ms: 0 })
    }

    /// What one engine that holds exactly `names` would answer.
    fn page(names: &[String], after: Option<&str>, max: usize) -> ListPage {
        let rest: Vec<&String> =
            names.iter().filter(|name| after.is_none_or(|after| name.as_str() > after)).collect();
        let items: Vec<ListItem> = rest.iter().take(max).map(|name| object(name)).collect();
        let next = (rest.len() > max).then(|| items.last().map(|item| item.cursor().token())).flatten();
        ListPage { items, next }
    }

    #[test]
    fn successors() {
        assert_eq!(successor(b"a"), Some(b"b".to_vec()));
        assert_eq!(successor(&[b'a', 255]), Some(b"b".to_vec()));
        assert_eq!(successor(&[255]), None);
        assert_eq!(successor(b""), None);
    }

    #[test]
    fn common_prefixes_end_with_the_delimiter() {
        assert_eq!(common_prefix("a/b/c", "", "/"), Some("a/"));
        assert_eq!(common_prefix("a/b/c", "a/", "/"), Some("a/b/"));
        assert_eq!(common_prefix("a/b", "a/", "/"), None);
        assert_eq!(common_prefix("a--b", "", "--"), Some("a--"));
        assert_eq!(common_prefix("a", "", ""), None);
    }

    #[test]
    fn one_prefix_of_two_shards_is_one_item() {
        let page =
            |name: &str| ListPage { items: vec![ListItem::Prefix("p/".into()), object(name)], next: None };
        let merged = merge_pages(vec![page("q"), page("r")], 10);
        assert_eq!(merged.items.iter().map(ListItem::key).collect::<Vec<_>>(), ["p/", "q", "r"]);
        assert_eq!(merged.next, None);
    }

    proptest! {
        #[test]
        fn tokens_round_trip(name in "\\PC{0,40}") {
            for cursor in [Cursor::AfterName(name.clone()), Cursor::AfterPrefix(name.clone())] {
                prop_assert_eq!(Cursor::parse(&cursor.token()), Some(cursor));
            }
        }

        #[test]
        fn any_token_is_read_without_panic(token in "\\PC{0,40}") {
            let _ = Cursor::parse(&token);
        }

        #[test]
        fn paging_over_shards_shows_every_name_once(
            names in proptest::collection::btree_set("[a-c]{1,4}", 0..60),
            shards in 1_usize..4,
            max in 1_usize..9,
        ) {
            let split: Vec<Vec<String>> = (0..shards)
                .map(|shard| names.iter().filter(|name| name.len() % shards == shard).cloned().collect())
                .collect();
            let mut seen = Vec::new();
            let mut after: Option<String> = None;
            for _ in 0..=names.len() {
                let pages = split.iter().map(|names| page(names, after.as_deref(), max)).collect();
                let merged = merge_pages(pages, max);
                prop_assert!(merged.items.len() <= max);
                seen.extend(merged.items.iter().map(|item| item.key().to_owned()));
                let Some(token) = merged.next else { break };
                after = match Cursor::parse(&token) {
                    Some(Cursor::AfterName(name)) => Some(name),
                    other => return Err(TestCaseError::fail(format!("{other:?}"))),
                };
            }
            prop_assert_eq!(seen, names.into_iter().collect::<Vec<_>>());
        }

        /// Pages that are short, or empty, because few of the names that were looked at are wanted.
        #[test]
        fn paging_over_short_pages_shows_every_wanted_name_once(
            names in proptest::collection::btree_set("[a-c]{1,4}", 0..60),
            shards in 1_usize..4,
            walk in 1_usize..9,
        ) {
            let wanted = |name: &str| name.contains("aa");
            let split: Vec<Vec<String>> = (0..shards)
                .map(|shard| names.iter().filter(|name| name.len() % shards == shard).cloned().collect())
                .collect();
            let (mut seen, mut after) = (Vec::new(), None::<String>);
            for turn in 0..=names.len() {
                let pages = split.iter().map(|names| {
                    let mut page = page(names, after.as_deref(), walk);
                    page.items.retain(|item| wanted(item.key()));
                    page
                });
                let merged = merge_pages(pages.collect(), walk);
                seen.extend(merged.items.iter().map(|item| item.key().to_owned()));
                let Some(token) = merged.next else { break };
                prop_assert!(turn < names.len(), "it never ends");
                after = match Cursor::parse(&token) {
                    Some(Cursor::AfterName(name)) => Some(name),
                    other => return Err(TestCaseError::fail(format!("{other:?}"))),
                };
            }
            prop_assert_eq!(seen, names.into_iter().filter(|name| wanted(name)).collect::<Vec<_>>());
        }
    }
}
