//! What is open and what it holds: parts of one upload, uploads of a bucket.

use std::collections::HashMap;

use blobstore_sidecar_core::{
    generation::Generation,
    key,
    list::{common_prefix, successor},
    partition::PartitionTag,
    parts::PARTS_MAX,
};
use redis::{cmd, pipe};

use super::{
    ListPartsRequest, ListUploadsRequest, PartsPage, UploadId, UploadInfo, UploadItem, UploadsPage,
    state::{self, StoredPart, UploadMeta},
};
use crate::{StoreError, context::Inner};

/// Most items of a page: the limit of S3.
const PAGE_ITEMS_MAX: usize = 1000;
/// Part numbers asked for at a time.
const NUMBERS_AT_A_TIME: u16 = 1000;

impl Inner {
    pub(super) async fn list_parts(&self, request: &ListPartsRequest) -> Result<PartsPage, StoreError> {
        let target = self.target(&request.to.bucket, &request.to.name);
        let tenure = self.owned(target.tag.slot())?;
        let upload = request.to.upload;
        let meta = self.upload_meta(&target, upload).await?;
        let max = request.max.min(PAGE_ITEMS_MAX);
        let mut parts = Vec::new();
        let mut from = request.after.saturating_add(1);
        // One more than asked for tells whether there are more.
        while from <= PARTS_MAX && parts.len() <= max {
            let until = from.saturating_add(NUMBERS_AT_A_TIME - 1).min(PARTS_MAX);
            let numbers: Vec<u16> = (from..=until).collect();
            let stored = self.stored_parts(target.tag, upload.0, &numbers).await?;
            parts
                .extend(numbers.iter().filter_map(|number| stored.get(number)).map(|part| part.info.clone()));
            from = until + 1;
        }
        self.authority.may_read(&tenure).await?;
        let more = parts.len() > max;
        parts.truncate(max);
        let next = if more { Some(parts.last().map_or(request.after, |part| part.number)) } else { None };
        let upload = info(request.to.name.as_str().into(), upload.0, meta);
        Ok(PartsPage { upload, parts, next })
    }

    /// The stored parts of these numbers.
    pub(super) async fn stored_parts(
        &self,
        tag: PartitionTag,
        upload: Generation,
        numbers: &[u16],
    ) -> Result<HashMap<u16, StoredPart>, StoreError> {
        let mut found = HashMap::new();
        for numbers in numbers.chunks(usize::from(NUMBERS_AT_A_TIME)) {
            let read = cmd("HMGET").arg(key::upload(tag, upload)).arg(numbers).to_owned();
            let texts: Vec<Option<String>> = self.meta.query("read parts", &read).await?;
            let parts = numbers.iter().zip(texts);
            found.extend(
                parts.filter_map(|(number, text)| Some((*number, StoredPart::decode(*number, &text?)?))),
            );
        }
        Ok(found)
    }

    pub(super) async fn list_uploads(&self, request: &ListUploadsRequest) -> Result<UploadsPage, StoreError> {
        let bucket = self.bucket(&request.bucket, false).await?;
        let max = request.max.min(PAGE_ITEMS_MAX);
        let mut page = UploadsPage::default();
        let Some(mut lower) = lower(request) else { return Ok(page) };
        loop {
            let found = self.members(request, &lower, max + 1).await?;
            let full = found.len() > max;
            let metas = self.metas(&found).await?;
            for ((_, member), meta) in found.into_iter().zip(metas) {
                lower = [b"(".as_slice(), &member].concat();
                let Some((name, upload)) = state::parse_member(&member) else { continue };
                let Some(meta) = meta.filter(|meta| meta.bucket_created_ms == bucket.created_ms) else {
                    continue;
                };
                let item = match prefix_of(&name, request) {
                    Some(prefix) => UploadItem::Prefix(prefix.into()),
                    None => UploadItem::Upload(Box::new(info(name, upload, meta))),
                };
                if page.items.last() == Some(&item) {
                    continue;
                }
                if page.items.len() == max {
                    page.truncated = max > 0;
                    return Ok(page);
                }
                page.items.push(item);
            }
            if !full {
                break;
            }
        }
        if let Some(tenure) = self.authority.tenure() {
            self.authority.may_read(&tenure).await?;
        }
        Ok(page)
    }

    /// The first members of all partitions, in order.
    async fn members(
        &self,
        request: &ListUploadsRequest,
        lower: &[u8],
        max: usize,
    ) -> Result<Vec<(PartitionTag, Vec<u8>)>, StoreError> {
        let upper = match successor(request.prefix.as_bytes()) {
            Some(end) => [b"(".as_slice(), &end].concat(),
            None => b"+".to_vec(),
        };
        let tags: Vec<PartitionTag> = self.served().collect();
        let mut read = pipe();
        for tag in &tags {
            let open = key::open_uploads(*tag, request.bucket.as_str());
            read.cmd("ZRANGEBYLEX").arg(open).arg(lower).arg(&upper).arg("LIMIT").arg(0).arg(max);
        }
        if tags.is_empty() {
            return Ok(Vec::new());
        }
        let answers: Vec<Vec<Vec<u8>>> = self.meta.pipe("list uploads", &read).await?;
        let mut members: Vec<(PartitionTag, Vec<u8>)> = tags
            .into_iter()
            .zip(answers)
            .flat_map(|(tag, members)| members.into_iter().map(move |member| (tag, member)))
            .collect();
        members.sort_by(|(_, a), (_, b)| a.cmp(b));
        members.truncate(max);
        Ok(members)
    }

    /// What each upload is; `None`: it ended since, or is being closed.
    async fn metas(
        &self,
        members: &[(PartitionTag, Vec<u8>)],
    ) -> Result<Vec<Option<UploadMeta>>, StoreError> {
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = pipe();
        for (tag, member) in members {
            let upload = state::parse_member(member).map_or(Generation([0; 16]), |(_, upload)| upload);
            read.cmd("HMGET").arg(key::upload(*tag, upload)).arg("meta").arg("closed");
        }
        let metas: Vec<(Option<Vec<u8>>, Option<u64>)> = self.meta.pipe("read uploads", &read).await?;
        let open = |(meta, closed): (Option<Vec<u8>>, Option<u64>)| {
            meta.filter(|_| closed.is_none()).as_deref().and_then(UploadMeta::decode)
        };
        Ok(metas.into_iter().map(open).collect())
    }
}

fn info(name: String, upload: Generation, meta: UploadMeta) -> UploadInfo {
    UploadInfo {
        name,
        upload: UploadId(upload),
        initiated_ms: upload.born_ms(),
        attributes: meta.attributes,
        checksum: meta.checksum,
    }
}

fn prefix_of<'a>(name: &'a str, request: &ListUploadsRequest) -> Option<&'a str> {
    common_prefix(name, &request.prefix, request.delimiter.as_deref()?)
}

/// Where the listing begins; `None`: behind the end.
fn lower(request: &ListUploadsRequest) -> Option<Vec<u8>> {
    let prefix = if request.prefix.is_empty() {
        b"-".to_vec()
    } else {
        [b"[".as_slice(), request.prefix.as_bytes()].concat()
    };
    let Some(after) = &request.after else { return Some(prefix) };
    let marker = match (prefix_of(after, request), request.after_upload) {
        // A marker that is a common prefix stands for all of it.
        (Some(inside), _) if inside == after => [b"[".as_slice(), &successor(after.as_bytes())?].concat(),
        (_, Some(upload)) => [b"(".as_slice(), &state::member(after, upload.0)].concat(),
        // Behind every upload of this name: NUL is what follows a name.
        (_, None) => [b"[".as_slice(), after.as_bytes(), &[1]].concat(),
    };
    Some(if marker.get(1..) > prefix.get(1..) { marker } else { prefix })
}
