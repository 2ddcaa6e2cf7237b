//! Items that nobody names: what a listing finds, page by page. Each page is asked for when the one before is used up,
//! so a request that ends, or whose client goes away, leaves the rest alone.

use std::collections::VecDeque;
use std::sync::Arc;

use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_core::list::{ListItem, PAGE_ITEMS_MAX};
use bytes::Bytes;

use super::ITEMS_MAX;
use super::items::{Delete, Item, Items, Stop, cut_off, refused};
use crate::lane::listing;
use crate::route::{ListQuery, name_error};
use crate::shell::Shell;

/// A rare pattern's pages are nearly all empty: a million names, about a second, until the client hears something.
const PAGES_MAX: u32 = 100;

/// Where the items of a request come from.
pub(super) enum Source {
    Body(Items),
    Found(Walk),
}

/// A listing on its way.
pub(super) struct Walk {
    shell: Arc<Shell>,
    request_id: String,
    bucket: BucketName,
    /// Of the next page.
    query: ListQuery,
    names: VecDeque<String>,
    given: u64,
    pages: u32,
    /// Everything is told.
    whole: bool,
}

impl Source {
    pub(super) async fn next(&mut self) -> Result<Option<Item>, Stop> {
        match self {
            Self::Body(items) => items.next().await,
            Self::Found(walk) => walk.next().await,
        }
    }

    /// Bytes of the body of the last item.
    pub(super) async fn some(&mut self, most: u64) -> Result<Bytes, Stop> {
        match self {
            Self::Body(items) => items.some(most).await,
            Self::Found(_) => Err(cut_off()),
        }
    }

    /// Where another request goes on.
    pub(super) fn rest(&self) -> Option<String> {
        match self {
            Self::Found(walk) if !walk.whole => walk.query.continuation_token.clone(),
            Self::Found(_) | Self::Body(_) => None,
        }
    }
}

impl Walk {
    pub(super) fn new(shell: &Arc<Shell>, request_id: &str, bucket: &BucketName, query: ListQuery) -> Self {
        Self {
            shell: Arc::clone(shell),
            request_id: request_id.to_owned(),
            bucket: bucket.clone(),
            query: ListQuery { keys_max: PAGE_ITEMS_MAX, ..query },
            names: VecDeque::new(),
            given: 0,
            pages: 0,
            whole: false,
        }
    }

    async fn next(&mut self) -> Result<Option<Item>, Stop> {
        loop {
            if let Some(name) = self.names.pop_front() {
                self.given += 1;
                return Ok(Some(match ObjectName::parse(name) {
                    Ok(name) => Item::Delete(Delete { name, version: None, if_match: None }),
                    Err(error) => refused(name_error(error)),
                }));
            }
            // A page is used up or not begun: a token stands between pages.
            let full = self.given + PAGE_ITEMS_MAX as u64 > ITEMS_MAX;
            if self.whole || full || self.pages == PAGES_MAX {
                return Ok(None);
            }
            let page = listing::page_inside(&self.shell, &self.request_id, &self.bucket, &self.query);
            let page = Box::pin(page).await.map_err(Stop)?;
            self.pages += 1;
            self.names.extend(page.items.into_iter().filter_map(|item| match item {
                ListItem::Object(entry) => Some(entry.name),
                ListItem::Prefix(_) => None,
            }));
            self.whole = page.next.is_none();
            self.query.continuation_token = page.next;
        }
    }
}
