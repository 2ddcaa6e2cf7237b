//! Listings of versions: a k-way merge over the partitions served here. Each step of a partition is one script that
//! tells names and heads together, so that no version is missed while it stops being current.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use blobstore_sidecar_core::{
    etag::ETag,
    key::{self, BucketName, ObjectName},
    list::{PAGE_ITEMS_MAX, common_prefix, successor},
    partition::PartitionTag,
    record::Head,
    version::{VersionEntry, VersionMarker, below},
};

use crate::{Store, StoreError, context::Inner, metrics::CHECKSUM_FAILED, scripts};

/// Versions that one call of a partition's script tells, with 128 bytes of head each.
const VERSIONS_AT_A_TIME: usize = 32;

/// A page of versions over the partitions that this store serves.
#[derive(Clone, Debug)]
pub struct ListVersionsRequest {
    pub bucket: BucketName,
    pub prefix: String,
    pub delimiter: Option<String>,
    /// Names above this one; with `after_version` the rest of this one, too.
    pub after: Option<String>,
    pub after_version: Option<VersionMarker>,
    /// At most [`PAGE_ITEMS_MAX`].
    pub max: usize,
}

/// One version, or delete marker, of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedVersion {
    pub name: String,
    /// Its id, and where a listing goes on behind it.
    pub marker: VersionMarker,
    pub latest: bool,
    pub delete_marker: bool,
    pub size: u64,
    pub etag: ETag,
    pub modified_ms: u64,
}

/// What a listing of versions tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionItem {
    Version(ListedVersion),
    Prefix(String),
}

impl VersionItem {
    /// The text that orders items; those of one name follow each other.
    pub fn key(&self) -> &str {
        match self {
            Self::Version(version) => &version.name,
            Self::Prefix(prefix) => prefix,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionsPage {
    pub items: Vec<VersionItem>,
    /// There is more behind the last item.
    pub truncated: bool,
}

/// Lower ends of names and of entries, as the engine takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ends {
    names: Vec<u8>,
    entries: Vec<u8>,
}

impl Ends {
    fn both(end: Vec<u8>) -> Self {
        Self { names: end.clone(), entries: end }
    }

    /// Behind everything of this name.
    fn after_name(name: &str) -> Self {
        Self {
            names: bound(b'(', name.as_bytes()),
            entries: bound(b'[', &[name.as_bytes(), b"\x01"].concat()),
        }
    }
}

fn bound(kind: u8, at: &[u8]) -> Vec<u8> {
    [&[kind], at].concat()
}

/// Where one partition's listing stands.
struct Lane {
    tag: PartitionTag,
    found: VecDeque<VersionItem>,
    /// `None`: this partition has told everything.
    from: Option<Ends>,
}

impl Store {
    pub async fn list_versions(&self, request: ListVersionsRequest) -> Result<VersionsPage, StoreError> {
        self.inner.list_versions(&request).await
    }
}

impl Inner {
    async fn list_versions(&self, request: &ListVersionsRequest) -> Result<VersionsPage, StoreError> {
        self.bucket(&request.bucket, false).await?;
        let max = request.max.min(PAGE_ITEMS_MAX);
        let Some(start) = start(request) else { return Ok(VersionsPage::default()) };
        if max == 0 {
            return Ok(VersionsPage::default());
        }
        let served = self.served();
        let mut lanes: Vec<Lane> =
            served.map(|tag| Lane { tag, found: VecDeque::new(), from: Some(start.clone()) }).collect();
        self.resume(request, &mut lanes).await?;
        let items = self.merged(request, &mut lanes, max).await?;
        if let Some(VersionItem::Prefix(last)) = items.last() {
            for lane in &mut lanes {
                if matches!(lane.found.front(), Some(VersionItem::Prefix(prefix)) if prefix == last) {
                    lane.found.pop_front();
                }
            }
        }
        self.refill_versions(request, &mut lanes).await?;
        let truncated = lanes.iter().any(|lane| !lane.found.is_empty());
        if let Some(tenure) = self.authority.tenure() {
            self.changing.all_settled(&self.authority, &tenure).await?;
            self.authority.may_read(&tenure).await?;
        }
        Ok(VersionsPage { items, truncated })
    }

    /// The partition of a name that was told in part goes on within it.
    async fn resume(&self, request: &ListVersionsRequest, lanes: &mut [Lane]) -> Result<(), StoreError> {
        let (Some(after), Some(marker)) = (&request.after, request.after_version) else { return Ok(()) };
        let Ok(name) = ObjectName::parse(after.clone()) else { return Ok(()) };
        if !after.starts_with(&request.prefix) {
            return Ok(());
        }
        if request
            .delimiter
            .as_deref()
            .is_some_and(|delimiter| common_prefix(after, &request.prefix, delimiter).is_some())
        {
            return Ok(());
        }
        let target = self.target(&request.bucket, &name);
        let Some(lane) = lanes.iter_mut().find(|lane| lane.tag == target.tag) else { return Ok(()) };
        let found = self.find(&target, marker.version.bytes()).await?;
        let number = match &found {
            // What was told last may be a version by now that is not current.
            Some(found) if found.key != target.record() => found.head.access_hour,
            Some(_) => 0,
            None => marker.number,
        };
        let entries = match number {
            0 => bound(b'[', &[after.as_bytes(), b"\0"].concat()),
            // Behind the entry, whatever its generation.
            number => bound(b'[', &below(after, number - 1)),
        };
        // If it is gone another one may have become current that was not told yet.
        let names = bound(if found.is_none() { b'[' } else { b'(' }, after.as_bytes());
        lane.from = Some(Ends { names, entries });
        Ok(())
    }

    /// The next `max` items of all partitions, in order.
    async fn merged(
        &self,
        request: &ListVersionsRequest,
        lanes: &mut [Lane],
        max: usize,
    ) -> Result<Vec<VersionItem>, StoreError> {
        self.refill_versions(request, lanes).await?;
        let front = |lane: &Lane| lane.found.front().map(|item| item.key().to_owned());
        let mut heap: BinaryHeap<Reverse<(String, usize)>> = BinaryHeap::new();
        for (index, lane) in lanes.iter().enumerate() {
            heap.extend(front(lane).map(|key| Reverse((key, index))));
        }
        let mut items: Vec<VersionItem> = Vec::new();
        while items.len() < max {
            let Some(Reverse((_, index))) = heap.pop() else { break };
            let Some(lane) = lanes.get_mut(index) else { break };
            if let Some(item) = lane.found.pop_front() {
                let again = matches!((&item, items.last()), (VersionItem::Prefix(a), Some(VersionItem::Prefix(b))) if a == b);
                if !again {
                    items.push(item);
                }
            }
            if lane.found.is_empty() && lane.from.is_some() {
                self.refill_versions(request, std::slice::from_mut(lane)).await?;
            }
            heap.extend(front(lane).map(|key| Reverse((key, index))));
        }
        Ok(items)
    }

    /// Asks all partitions whose items ran out, until each has some or has told everything.
    async fn refill_versions(
        &self,
        request: &ListVersionsRequest,
        lanes: &mut [Lane],
    ) -> Result<(), StoreError> {
        let upper = match successor(request.prefix.as_bytes()) {
            Some(end) => bound(b'(', &end),
            None => b"+".to_vec(),
        };
        loop {
            let mut empty: Vec<&mut Lane> =
                lanes.iter_mut().filter(|lane| lane.found.is_empty() && lane.from.is_some()).collect();
            if empty.is_empty() {
                return Ok(());
            }
            let scans = empty.iter().map(|lane| self.scan_versions(request, lane, &upper));
            let answers = futures::future::try_join_all(scans).await?;
            for (lane, answer) in empty.iter_mut().zip(answers) {
                let told: Vec<Told> = answer.chunks_exact(3).filter_map(Told::of).collect();
                let full = answer.len() >= 3 * VERSIONS_AT_A_TIME;
                lane.from = told.last().filter(|_| full).and_then(Told::ends);
                let now = self.times.now_ms();
                lane.found = told.into_iter().filter_map(|told| told.item(&request.bucket, now)).collect();
            }
        }
    }

    async fn scan_versions(
        &self,
        request: &ListVersionsRequest,
        lane: &Lane,
        upper: &[u8],
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let Some(from) = &lane.from else { return Ok(Vec::new()) };
        let bucket = request.bucket.as_str();
        let keys = [key::names(lane.tag, bucket), key::versions(lane.tag, bucket)];
        let (prefix_len, count) = (request.prefix.len().to_string(), VERSIONS_AT_A_TIME.to_string());
        let delimiter = request.delimiter.as_deref().unwrap_or_default();
        let args = [
            &*from.names,
            &from.entries,
            upper,
            prefix_len.as_bytes(),
            delimiter.as_bytes(),
            count.as_bytes(),
        ];
        self.meta.script(&scripts::VERSION_SCAN, &[&keys[0], &keys[1]], &args).await
    }
}

/// What the script told of one item.
enum Told {
    Prefix(String),
    Current(String, Vec<u8>),
    Entry { entry: VersionEntry, latest: bool, head: Vec<u8> },
}

impl Told {
    fn of(values: &[Vec<u8>]) -> Option<Self> {
        let [kind, text, head] = values else { return None };
        let name = || String::from_utf8(text.clone()).ok();
        match kind.as_slice() {
            b"p" => name().map(Self::Prefix),
            b"c" => Some(Self::Current(name()?, head.clone())),
            kind => {
                let entry = VersionEntry::decode(text)?;
                Some(Self::Entry { entry, latest: kind == b"l", head: head.clone() })
            }
        }
    }

    /// What comes behind it.
    fn ends(&self) -> Option<Ends> {
        match self {
            Self::Prefix(prefix) => successor(prefix.as_bytes()).map(|end| Ends::both(bound(b'[', &end))),
            Self::Current(name, _) => Some(Ends {
                names: bound(b'(', name.as_bytes()),
                entries: bound(b'[', &[name.as_bytes(), b"\0"].concat()),
            }),
            Self::Entry { entry, .. } => Some(Ends {
                names: bound(b'(', entry.name.as_bytes()),
                entries: bound(b'(', &entry.encode()),
            }),
        }
    }

    fn item(self, bucket: &BucketName, now: u64) -> Option<VersionItem> {
        let (name, number, latest, head) = match self {
            Self::Prefix(prefix) => return Some(VersionItem::Prefix(prefix)),
            Self::Current(name, head) => (name, 0, true, head),
            Self::Entry { entry, latest, head } => (entry.name, entry.number, latest, head),
        };
        match Head::decode(&head) {
            Ok(head) if head.is_expired(now) => None,
            Ok(head) => Some(VersionItem::Version(ListedVersion {
                name,
                marker: VersionMarker { version: head.version(), number },
                latest,
                delete_marker: head.delete_marker,
                size: head.layout.size(),
                etag: head.etag,
                modified_ms: head.modified_ms,
            })),
            Err(error) => {
                CHECKSUM_FAILED.with_label_values(&["record"]).inc();
                tracing::warn!(%error, %bucket, name, "a damaged version is left out of the listing");
                None
            }
        }
    }
}

/// Where the listing begins; `None`: behind the end.
fn start(request: &ListVersionsRequest) -> Option<Ends> {
    let prefix = bound(b'[', request.prefix.as_bytes());
    let first = if request.prefix.is_empty() { b"-".to_vec() } else { prefix };
    let Some(after) = &request.after else { return Some(Ends::both(first)) };
    if after.as_bytes() < request.prefix.as_bytes() {
        return Some(Ends::both(first));
    }
    let inside = request.delimiter.as_deref().and_then(|delimiter| {
        common_prefix(after, &request.prefix, delimiter).filter(|inside| inside == after)
    });
    match inside {
        // A marker that is a common prefix stands for all of it.
        Some(inside) => successor(inside.as_bytes()).map(|end| Ends::both(bound(b'[', &end))),
        None => Some(Ends::after_name(after)),
    }
}
