//! Listings: a k-way merge over the partitions served here, a few names from each at a time, then the records' heads
//! for the names that made the page.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
};

use blobstore_sidecar_core::{
    key,
    list::{Bound, Cursor, ListEntry, ListItem, ListPage, PAGE_ITEMS_MAX, common_prefix, successor},
    partition::{PartitionTag, partition_of, tag_of},
    record::{HEAD_BYTES, Head},
};
use redis::{cmd, pipe};

use crate::{ErrorKind, ListRequest, StoreError, context::Inner, metrics::CHECKSUM_FAILED, scripts};

/// Names asked of a partition at a time: 256 partitions answer in 1 to 2 ms; 1,000 from each would take 25.
const NAMES_AT_A_TIME: usize = 16;
/// Names that one page of a listing by pattern looks at, whether or not any matches: some 30 ms.
const WALK_NAMES_MAX: usize = 10_000;
/// Prefixes or names of one skip-scan call.
const SKIPS_AT_A_TIME: usize = 32;

/// Where one partition's listing stands.
#[derive(Debug)]
struct Lane {
    tag: PartitionTag,
    names: VecDeque<Found>,
    /// Lower end of the next call; `None`: this partition has told everything.
    from: Option<Bound>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Name(String),
    Prefix(String),
}

impl Found {
    fn key(&self) -> &str {
        match self {
            Self::Name(key) | Self::Prefix(key) => key,
        }
    }

    fn cursor(&self) -> Cursor {
        match self {
            Self::Name(name) => Cursor::AfterName(name.clone()),
            Self::Prefix(prefix) => Cursor::AfterPrefix(prefix.clone()),
        }
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        let kind = |found: &Self| matches!(found, Self::Prefix(_));
        (self.key(), kind(self)).cmp(&(other.key(), kind(other)))
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Inner {
    pub(crate) async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        self.bucket(&request.bucket, false).await?;
        let max = request.max.min(PAGE_ITEMS_MAX);
        let Some(start) = start(request)? else { return Ok(ListPage::default()) };
        if max == 0 {
            return Ok(ListPage::default());
        }
        let mut lanes: Vec<Lane> = self
            .served()
            .map(|tag| Lane { tag, names: VecDeque::new(), from: Some(start.clone()) })
            .collect();
        let mut items = Vec::new();
        let (mut truncated, mut last, mut walked) = (false, None, 0);
        // Each round shows one page or less: names that vanished meanwhile are made up for by the next.
        while items.len() < max && walked < WALK_NAMES_MAX {
            let room = max - items.len();
            let count = if request.pattern.is_some() { PAGE_ITEMS_MAX } else { room };
            let mut found = self.merge(request, &mut lanes, count).await?;
            let Some(end) = found.last().cloned() else {
                truncated = false;
                break;
            };
            truncated = self.more(request, &mut lanes, &end).await?;
            last = Some(end);
            if let Some(pattern) = &request.pattern {
                walked += found.len();
                found.retain(|found| pattern.matches(found.key()));
            }
            // What does not fit was taken out of the lanes: the page ends here.
            let cut = found.len() > room;
            if cut {
                found.truncate(room);
                (truncated, last) = (true, found.last().cloned());
            }
            items.extend(self.entries(request, found).await?);
            if cut || !truncated {
                break;
            }
        }
        if let Some(tenure) = self.authority.tenure() {
            self.changing.all_settled(&self.authority, &tenure).await?;
            self.authority.may_read(&tenure).await?;
        }
        let next = last.filter(|_| truncated).map(|last| last.cursor().token());
        Ok(ListPage { items, next })
    }

    /// The next `count` names of all partitions, in order.
    async fn merge(
        &self,
        request: &ListRequest,
        lanes: &mut [Lane],
        count: usize,
    ) -> Result<Vec<Found>, StoreError> {
        let mut found: Vec<Found> = Vec::new();
        self.refill(request, lanes).await?;
        let mut heap: BinaryHeap<Reverse<(Found, usize)>> = BinaryHeap::new();
        for (index, lane) in lanes.iter().enumerate() {
            heap.extend(lane.names.front().map(|name| Reverse((name.clone(), index))));
        }
        while found.len() < count {
            let Some(Reverse((name, index))) = heap.pop() else { break };
            let Some(lane) = lanes.get_mut(index) else { break };
            lane.names.pop_front();
            if found.last() != Some(&name) {
                found.push(name);
            }
            if lane.names.is_empty() && lane.from.is_some() {
                self.refill(request, std::slice::from_mut(lane)).await?;
            }
            heap.extend(lane.names.front().map(|name| Reverse((name.clone(), index))));
        }
        Ok(found)
    }

    /// Is there anything behind `last`? The same prefix in other partitions does not count.
    async fn more(
        &self,
        request: &ListRequest,
        lanes: &mut [Lane],
        last: &Found,
    ) -> Result<bool, StoreError> {
        for lane in lanes.iter_mut() {
            if lane.names.front() == Some(last) {
                lane.names.pop_front();
            }
        }
        self.refill(request, lanes).await?;
        Ok(lanes.iter().any(|lane| !lane.names.is_empty()))
    }

    /// Asks all partitions whose names ran out, in one pipeline.
    async fn refill(&self, request: &ListRequest, lanes: &mut [Lane]) -> Result<(), StoreError> {
        let upper = match successor(request.prefix.as_bytes()) {
            Some(end) => [b"(".as_slice(), &end].concat(),
            None => b"+".to_vec(),
        };
        let delimiter = request.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        let mut empty: Vec<&mut Lane> =
            lanes.iter_mut().filter(|lane| lane.names.is_empty() && lane.from.is_some()).collect();
        if empty.is_empty() {
            return Ok(());
        }
        let answers: Vec<Vec<Vec<u8>>> = match delimiter {
            None => {
                let mut pipe = pipe();
                for lane in &empty {
                    let names = key::names(lane.tag, request.bucket.as_str());
                    pipe.cmd("ZRANGEBYLEX").arg(names).arg(lower(lane)).arg(&upper).arg("LIMIT");
                    pipe.arg(0).arg(NAMES_AT_A_TIME);
                }
                self.meta.pipe("list names", &pipe).await?
            }
            Some(delimiter) => {
                let scans = empty.iter().map(|lane| self.skip_scan(request, lane, &upper, delimiter));
                futures::future::try_join_all(scans).await?
            }
        };
        let asked = if delimiter.is_some() { SKIPS_AT_A_TIME } else { NAMES_AT_A_TIME };
        for (lane, answer) in empty.iter_mut().zip(answers) {
            let full = answer.len() >= asked;
            let found = answer.into_iter().filter_map(|name| understood(name, delimiter.is_some()));
            lane.names = found.collect();
            lane.from = lane.names.back().filter(|_| full).and_then(|last| last.cursor().lower_bound());
        }
        Ok(())
    }

    async fn skip_scan(
        &self,
        request: &ListRequest,
        lane: &Lane,
        upper: &[u8],
        delimiter: &str,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let names = key::names(lane.tag, request.bucket.as_str());
        let (prefix_len, count) = (request.prefix.len().to_string(), SKIPS_AT_A_TIME.to_string());
        let lower = lower(lane);
        let args = [&lower, upper, prefix_len.as_bytes(), delimiter.as_bytes(), count.as_bytes()];
        self.meta.script(&scripts::SKIP_SCAN, &[&names], &args).await
    }

    /// The heads of the names; those that vanished since are left out.
    async fn entries(&self, request: &ListRequest, found: Vec<Found>) -> Result<Vec<ListItem>, StoreError> {
        let bucket = request.bucket.as_str();
        let partitions = self.options.partitions;
        let mut pipe = pipe();
        for found in &found {
            if let Found::Name(name) = found {
                let tag = tag_of(partition_of(bucket, name, partitions), partitions);
                let read =
                    cmd("GETRANGE").arg(key::record(tag, bucket, name)).arg(0).arg(HEAD_BYTES - 1).to_owned();
                pipe.add_command(read);
            }
        }
        let heads: Vec<Vec<u8>> =
            if pipe.is_empty() { Vec::new() } else { self.meta.pipe("read heads", &pipe).await? };
        let (mut heads, now) = (heads.into_iter(), self.times.now_ms());
        let items = found.into_iter().filter_map(|found| match found {
            Found::Prefix(prefix) => Some(ListItem::Prefix(prefix)),
            Found::Name(name) => {
                let head = heads.next().filter(|head| !head.is_empty())?;
                match Head::decode(&head) {
                    Ok(head) if head.is_expired(now) => None,
                    Ok(head) => Some(ListItem::Object(ListEntry {
                        name,
                        size: head.layout.size(),
                        etag: head.etag,
                        modified_ms: head.modified_ms,
                    })),
                    Err(error) => {
                        CHECKSUM_FAILED.with_label_values(&["record"]).inc();
                        tracing::warn!(%error, bucket, name, "a damaged record is left out of the listing");
                        None
                    }
                }
            }
        });
        Ok(items.collect())
    }
}

/// Where the listing begins; `None`: behind the end.
fn start(request: &ListRequest) -> Result<Option<Bound>, StoreError> {
    let prefix = Bound { at: request.prefix.clone().into_bytes(), exclusive: false };
    let cursor = match (&request.token, &request.after) {
        (Some(token), _) => Cursor::parse(token).ok_or_else(|| {
            StoreError::new(ErrorKind::InvalidName, "the continuation token is not one of ours")
        })?,
        // A marker inside a common prefix stands for all of it.
        (None, Some(after)) => match &request.delimiter {
            Some(delimiter) => match common_prefix(after, &request.prefix, delimiter) {
                Some(inside) if inside == after => Cursor::AfterPrefix(after.clone()),
                _ => Cursor::AfterName(after.clone()),
            },
            None => Cursor::AfterName(after.clone()),
        },
        (None, None) => return Ok(Some(prefix)),
    };
    Ok(cursor.lower_bound().map(|bound| bound.max(prefix)))
}

fn lower(lane: &Lane) -> Vec<u8> {
    match &lane.from {
        Some(bound) if bound.exclusive => [b"(".as_slice(), &bound.at].concat(),
        Some(bound) if bound.at.is_empty() => b"-".to_vec(),
        Some(bound) => [b"[".as_slice(), &bound.at].concat(),
        None => b"+".to_vec(),
    }
}

/// A name as the engine told it; with a delimiter the first letter says what it is.
fn understood(name: Vec<u8>, marked: bool) -> Option<Found> {
    let name = String::from_utf8(name).ok()?;
    if !marked {
        return Some(Found::Name(name));
    }
    let (kind, name) = name.split_at_checked(1)?;
    match kind {
        "p" => Some(Found::Prefix(name.to_owned())),
        "n" => Some(Found::Name(name.to_owned())),
        _ => None,
    }
}
