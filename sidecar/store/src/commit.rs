//! The last step of an upload: one script makes the staged record the object. A reply that got lost is resolved by
//! stopping the lane and reading the record.

use std::sync::atomic::Ordering;

use blobstore_sidecar_core::{
    chunk::Layout,
    etag::ETag,
    generation::Generation,
    key,
    manifest::crc32c,
    record::{HEAD_BYTES, Head},
    version::Versioning,
};
use bytes::Bytes;
use redis::cmd;

use crate::{
    BucketInfo, ErrorKind, StoreError,
    context::{Inner, Target},
    doomed::Doomed,
    engine::{LaneLease, Outgoing, Reply, errors},
    multipart::state,
    scripts,
    uploads::{JournalEntry, UploadState},
};

/// A staged record that never gets committed ends by itself after this.
pub(crate) const STAGED_SECONDS: u32 = 120;

/// What must be there for the commit to go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Any,
    Absent,
    Generation(Generation),
}

impl Want {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Any => b"any",
            Self::Absent => b"absent",
            Self::Generation(generation) => &generation.0,
        }
    }
}

/// What a commit said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// Done; what was there before.
    Done(Box<Before>),
    /// The condition does not hold any more.
    Changed,
    /// The bucket was closed under this epoch.
    Sealed,
    /// The journal entry is gone.
    Swept,
    /// A chunk or the staged record is not there.
    Missing,
    /// A part of the multipart upload was replaced meanwhile.
    Parts,
    /// The partition's lease is too small: bytes it would need.
    Quota(u64),
}

/// What a write or a deletion found in its way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    /// Gone, for the new one took its place.
    pub(crate) replaced: Option<Head>,
    /// Current until now, and kept as a version.
    pub(crate) kept: Option<Head>,
    /// The version `null`, which was not current, and is gone.
    pub(crate) gone: Option<Head>,
    /// The body of what was replaced is gone, too: there was one chunk, and nobody read it.
    pub(crate) freed: bool,
}

impl Before {
    /// From three heads as the scripts tell them; those that nobody can read are as good as none.
    pub(crate) fn decode<'a>(heads: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut heads = heads.into_iter().map(|head| Head::decode(head).ok());
        let mut next = || heads.next().flatten();
        Self { replaced: next(), kept: next(), gone: next(), freed: false }
    }

    /// There was an object.
    pub(crate) fn existed(&self) -> bool {
        self.replaced.is_some() || self.kept.is_some()
    }
}

/// Everything a record says about its body.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) layout: Layout,
    pub(crate) etag: ETag,
    pub(crate) crc64: u64,
    pub(crate) tail_crc64: u64,
    pub(crate) first_crc64: u64,
    pub(crate) manifest_len: u32,
    /// When the object ends, milliseconds since 1970; 0: never.
    pub(crate) expires_ms: u64,
}

/// Builds the record: head and headers in one small buffer, the tail as it came.
pub(crate) fn record_frames(
    generation: Generation,
    body: &Body,
    headers: &[u8],
    tail: Vec<Bytes>,
    keeps: Versioning,
    now: u64,
) -> (Head, Vec<Bytes>) {
    let head = Head {
        generation,
        layout: body.layout,
        created_ms: now,
        modified_ms: now,
        expires_ms: body.expires_ms,
        etag: body.etag,
        crc64: body.crc64,
        tail_crc64: body.tail_crc64,
        first_crc64: body.first_crc64,
        manifest_len: body.manifest_len,
        headers_len: u16::try_from(headers.len()).unwrap_or(u16::MAX),
        headers_crc: crc32c(&[headers]),
        access_hour: u32::try_from(now / 3_600_000).unwrap_or(u32::MAX),
        versioned: keeps == Versioning::Enabled,
        delete_marker: false,
    };
    let mut front = Vec::with_capacity(HEAD_BYTES + headers.len());
    front.extend_from_slice(&head.encode());
    front.extend_from_slice(headers);
    let mut frames = vec![Bytes::from(front)];
    frames.extend(tail);
    (head, frames)
}

/// One call of the commit script.
#[derive(Debug)]
pub(crate) struct Commit<'a> {
    pub(crate) target: &'a Target,
    pub(crate) generation: Generation,
    pub(crate) size: u64,
    /// As in the record.
    pub(crate) expires_ms: u64,
    pub(crate) entry: &'a JournalEntry,
    pub(crate) want: Want,
    pub(crate) bucket: &'a BucketInfo,
    /// The object is made of the parts of an upload.
    pub(crate) parts: Option<&'a PartsCommit>,
}

/// What the commit of a multipart upload checks and takes away.
#[derive(Debug)]
pub(crate) struct PartsCommit {
    pub(crate) upload: Generation,
    /// Grows with every part that is stored: the list was checked against this state.
    pub(crate) revision: String,
    /// Parts that the list leaves out.
    pub(crate) left_out: Vec<Doomed>,
}

impl Commit<'_> {
    pub(crate) fn append(&self, out: &mut Outgoing) {
        let Target { bucket, name, tag, .. } = self.target;
        let member = self.entry.member();
        let mut keys = vec![
            key::staged(*tag, self.generation),
            self.target.record(),
            self.target.names(),
            key::sums(*tag),
            key::journal(*tag),
            key::pending_free(*tag),
        ];
        if let Some(parts) = self.parts {
            keys.extend([key::upload(*tag, parts.upload), key::open_uploads(*tag, bucket.as_str())]);
        }
        let quota: &[u8] = if self.bucket.quota_bytes.is_some() { b"1" } else { b"0" };
        let (size, epoch) = (self.size.to_string(), self.bucket.epoch.to_string());
        let (reserved, ends) = (self.entry.reserved.to_string(), self.expires_ms.to_string());
        let mut args: Vec<&[u8]> = vec![
            member.as_bytes(),
            bucket.as_str().as_bytes(),
            name.as_str().as_bytes(),
            size.as_bytes(),
            epoch.as_bytes(),
            quota,
            reserved.as_bytes(),
            self.want.bytes(),
            self.bucket.versioning().word().as_bytes(),
            ends.as_bytes(),
        ];
        let open = self.parts.map(|parts| state::member(name.as_str(), parts.upload)).unwrap_or_default();
        let left_out: Vec<String> =
            self.parts.iter().flat_map(|parts| &parts.left_out).map(Doomed::entry).collect();
        if let Some(parts) = self.parts {
            args.extend([parts.revision.as_bytes(), &open]);
            args.extend(left_out.iter().map(String::as_bytes));
        }
        let script = match self.bucket.versioning() {
            Versioning::Off => &scripts::COMMIT_PLAIN,
            Versioning::Enabled | Versioning::Suspended => &scripts::COMMIT,
        };
        out.script(script, &keys, &args, &[]);
    }
}

/// Reads the commit script's answer.
pub(crate) fn committed(reply: Reply) -> Result<Committed, StoreError> {
    let (word, details) = all_words(reply)?;
    let detail = details.first().map(Vec::as_slice).unwrap_or_default();
    match word.as_str() {
        "OK" => {
            let mut before = Before::decode(details.iter().map(Vec::as_slice));
            before.freed = details.get(3).is_some_and(|freed| freed == b"1");
            Ok(Committed::Done(Box::new(before)))
        }
        "CHANGED" => Ok(Committed::Changed),
        "SEALED" => Ok(Committed::Sealed),
        "SWEPT" => Ok(Committed::Swept),
        "MISSING" => Ok(Committed::Missing),
        "PARTS" => Ok(Committed::Parts),
        "QUOTA" => {
            let needed = std::str::from_utf8(detail).ok().and_then(|text| text.parse().ok());
            needed.map(Committed::Quota).ok_or_else(errors::garbage)
        }
        _ => Err(errors::garbage()),
    }
}

/// A script's answer: a word, and what goes with it.
pub(crate) fn words(reply: Reply) -> Result<(String, Vec<u8>), StoreError> {
    let (word, details) = all_words(reply)?;
    Ok((word, details.into_iter().next().unwrap_or_default()))
}

fn all_words(reply: Reply) -> Result<(String, Vec<Vec<u8>>), StoreError> {
    let items = match reply {
        Reply::Error(text) => return Err(errors::reply("run a script", &text)),
        Reply::Array(items) => items,
        _ => return Err(errors::garbage()),
    };
    let text = |item| match item {
        Reply::Bulk(text) => Ok(text),
        _ => Err(errors::garbage()),
    };
    let mut items = items.into_iter();
    let word = items.next().map_or_else(|| Err(errors::garbage()), text)?;
    let details: Result<Vec<Vec<u8>>, StoreError> = items.map(text).collect();
    Ok((String::from_utf8_lossy(&word).into_owned(), details?))
}

/// NOSCRIPT: the engine has forgotten our scripts (SCRIPT FLUSH); they are loaded again and the step repeated.
pub(crate) fn forgotten(reply: &Reply) -> bool {
    match reply {
        Reply::Error(text) => text.starts_with("NOSCRIPT"),
        Reply::Array(items) => items.iter().any(forgotten),
        _ => false,
    }
}

/// Loads the scripts that the lanes call.
pub(crate) async fn load_scripts(lane: &mut LaneLease) -> Result<(), StoreError> {
    let mut out = Outgoing::default();
    for script in scripts::of_lanes() {
        out.command(&[b"SCRIPT", b"LOAD", script.text.as_bytes()]);
    }
    let replies = out.replies;
    lane.send(&mut out).await?;
    for _ in 0..replies {
        if let Reply::Error(text) = lane.reply().await? {
            return Err(errors::reply("load a script", &text));
        }
    }
    Ok(())
}

impl Inner {
    /// The commit's reply got lost. Stops the lane, so that nothing more can happen, and looks.
    pub(crate) async fn resolve_lost(
        &self,
        target: &Target,
        generation: Generation,
        state: &UploadState,
    ) -> Result<bool, StoreError> {
        let client = state.client_id.swap(0, Ordering::AcqRel);
        if client != 0 {
            let kill = cmd("CLIENT").arg("KILL").arg("ID").arg(client).to_owned();
            let _killed: u64 = self.meta.query("stop a lane", &kill).await?;
        }
        self.is_named(target, generation).await
    }
}

pub(crate) fn swept() -> StoreError {
    StoreError::new(ErrorKind::Swept, "the upload was inactive for too long and has been removed")
}
