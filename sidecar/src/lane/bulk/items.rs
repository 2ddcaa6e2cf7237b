//! The body of a request for many objects, item by item: JSON lines, or a tar archive. Whatever is wrong with one item
//! is its own answer; only what hides where the next one begins ends the request.

use blobstore_sidecar_core::key::ObjectName;
use blobstore_sidecar_core::tar::{self, BLOCK_BYTES, EXTENSION_BYTES_MAX, Entry, Extended, Kind};
use blobstore_sidecar_store::Version;
use bytes::{Buf as _, Bytes, BytesMut};
use futures::StreamExt as _;
use http::StatusCode;
use http::header::HeaderValue;
use serde::Deserialize;

use super::report::Line;
use crate::body::{BodyError, RequestBody};
use crate::error::ApiError;
use crate::route::{Bulk, name_error};

/// A key of 1,024 bytes, each escaped as six, a version, an ETag, and room.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Bodies up to this wait in memory for their turn; larger ones stream, one at a time.
const SMALL_BYTES_MAX: u64 = 64 << 10;
/// Behind the end of an archive: programs fill its last record, of 10 KiB by default, with zeros.
const FILL_BYTES_MAX: u64 = 1 << 20;

/// The body cannot be read on.
#[derive(Debug)]
pub(super) struct Stop(pub(super) ApiError);

pub(super) enum Item {
    /// It cannot be done, whoever owns it.
    Refused(Line),
    Delete(Delete),
    Put(Put),
}

pub(super) struct Delete {
    pub(super) name: ObjectName,
    pub(super) version: Option<Version>,
    pub(super) if_match: Option<HeaderValue>,
}

pub(super) struct Put {
    pub(super) name: ObjectName,
    pub(super) size: u64,
    /// `None`: it follows, to be taken with [`Items::some`].
    pub(super) body: Option<Bytes>,
}

impl Item {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Refused(_) => "",
            Self::Delete(delete) => delete.name.as_str(),
            Self::Put(put) => put.name.as_str(),
        }
    }
}

/// A line that asks for a deletion; a string alone is a key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    key: String,
    version_id: Option<String>,
    if_match: Option<String>,
}

/// What was told of the next file before its own header.
#[derive(Default)]
struct Told {
    extended: Extended,
    oversized: bool,
}

pub(super) struct Items {
    body: RequestBody,
    /// Bytes that were read and are not used yet.
    rest: Bytes,
    /// Of the last body: what fills its last block.
    padding: u64,
    bulk: Bulk,
    ended: bool,
}

impl Items {
    pub(super) fn new(bulk: Bulk, body: RequestBody) -> Self {
        Self { body, rest: Bytes::new(), padding: 0, bulk, ended: false }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Item>, Stop> {
        match self.bulk {
            _ if self.ended => Ok(None),
            Bulk::Delete => self.line().await,
            Bulk::Upload { .. } => self.entry().await,
            // No body names them.
            Bulk::Found { .. } => Ok(None),
        }
    }

    /// Bytes of the body, at least one, as they came, at most `most`.
    pub(super) async fn some(&mut self, most: u64) -> Result<Bytes, Stop> {
        match self.more().await? {
            true => Ok(self.rest.split_to(usize::try_from(most).unwrap_or(usize::MAX).min(self.rest.len()))),
            false => Err(cut_off()),
        }
    }

    /// False: the body has ended.
    async fn more(&mut self) -> Result<bool, Stop> {
        while self.rest.is_empty() {
            match self.body.next().await {
                None => return Ok(false),
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error @ BodyError::Idle(_))) => {
                    let status = StatusCode::REQUEST_TIMEOUT;
                    return Err(Stop(ApiError::new(status, "RequestTimeout", error.to_string())));
                }
                Some(Err(error)) => {
                    return Err(Stop(ApiError::bad_request("IncompleteBody", error.to_string())));
                }
            }
        }
        Ok(true)
    }

    async fn skip(&mut self, mut count: u64) -> Result<(), Stop> {
        while count > 0 {
            count -= self.some(count).await?.len() as u64;
        }
        Ok(())
    }

    /// A copy: the frames it came in are larger, and would stay as long as it does.
    async fn exactly(&mut self, count: u64) -> Result<Bytes, Stop> {
        let mut bytes = BytesMut::with_capacity(usize::try_from(count).unwrap_or_default());
        while (bytes.len() as u64) < count {
            let piece = self.some(count - bytes.len() as u64).await?;
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    async fn line(&mut self) -> Result<Option<Item>, Stop> {
        while !self.ended {
            let (mut line, mut length) = (BytesMut::new(), 0);
            loop {
                self.ended = !self.more().await?;
                if self.ended {
                    break;
                }
                let end = self.rest.iter().position(|byte| *byte == b'\n');
                let piece = self.rest.split_to(end.unwrap_or(self.rest.len()));
                length += piece.len();
                if length <= LINE_BYTES_MAX {
                    line.extend_from_slice(&piece);
                }
                if end.is_some() {
                    self.rest.advance(1);
                    break;
                }
            }
            if length > LINE_BYTES_MAX {
                let message = format!("a line has at most {LINE_BYTES_MAX} bytes");
                return Ok(Some(refused(ApiError::bad_request("InvalidArgument", message))));
            }
            let line = line.trim_ascii();
            if !line.is_empty() {
                return Ok(Some(asked(line).unwrap_or_else(refused)));
            }
        }
        Ok(None)
    }

    async fn entry(&mut self) -> Result<Option<Item>, Stop> {
        let mut told = Told::default();
        loop {
            let padding = std::mem::take(&mut self.padding);
            self.skip(padding).await?;
            let block = self.exactly(BLOCK_BYTES as u64).await?;
            let block: &[u8; BLOCK_BYTES] = block.as_ref().try_into().map_err(|_| cut_off())?;
            let Some(entry) = tar::header(block).map_err(unreadable)? else {
                self.ended = true;
                return self.fill().await.map(|()| None);
            };
            let size = match entry.kind {
                Kind::File => told.extended.size.unwrap_or(entry.size),
                _ => entry.size,
            };
            self.padding = tar::padding(size);
            match entry.kind {
                Kind::File => return self.file(entry, size, told).await.map(Some),
                Kind::Other => {
                    self.skip(size).await?;
                    let name = told.extended.name.unwrap_or(entry.name);
                    let error = ApiError::bad_request("InvalidArgument", "only files can be stored");
                    return Ok(Some(named(&name, error)));
                }
                Kind::Extension | Kind::LongName if size > EXTENSION_BYTES_MAX => {
                    told.oversized = true;
                    self.skip(size).await?;
                }
                Kind::Extension => {
                    let bytes = self.exactly(size).await?;
                    tar::records(&bytes, &mut told.extended).map_err(unreadable)?;
                }
                Kind::LongName => {
                    told.extended.name = Some(tar::text(&self.exactly(size).await?).to_vec());
                }
                Kind::GlobalExtension | Kind::LongLink => self.skip(size).await?,
                // A key says itself which folders it is in.
                Kind::Folder => {
                    self.skip(size).await?;
                    told = Told::default();
                }
            }
        }
    }

    async fn file(&mut self, entry: Entry, size: u64, told: Told) -> Result<Item, Stop> {
        let name = told.extended.name.unwrap_or(entry.name);
        let key = match (&self.bulk, told.oversized) {
            (Bulk::Upload { prefix }, false) => key_of(prefix, &name),
            _ => Err(ApiError::bad_request("KeyTooLongError", "its extended attributes are too large")),
        };
        match key {
            Ok(name) if size <= SMALL_BYTES_MAX => {
                let body = self.exactly(size).await?;
                Ok(Item::Put(Put { name, size, body: Some(body) }))
            }
            Ok(name) => Ok(Item::Put(Put { name, size, body: None })),
            Err(error) => {
                self.skip(size).await?;
                Ok(named(&name, error))
            }
        }
    }

    /// Reads on behind the end: a connection whose body was not read to its end would be closed.
    async fn fill(&mut self) -> Result<(), Stop> {
        let mut left = FILL_BYTES_MAX;
        while left > 0 && self.more().await? {
            left -= self.some(left).await?.len() as u64;
        }
        Ok(())
    }
}

/// Programs write `./a` or `/a` for what is `a` in the folder that was archived.
fn key_of(prefix: &str, name: &[u8]) -> Result<ObjectName, ApiError> {
    let name = std::str::from_utf8(name)
        .map_err(|_| ApiError::bad_request("InvalidURI", "the name of the file is not UTF-8"))?;
    let name = name.trim_start_matches("./").trim_start_matches('/');
    ObjectName::parse(format!("{prefix}{name}")).map_err(name_error)
}

fn asked(line: &[u8]) -> Result<Item, ApiError> {
    let unread = |error: serde_json::Error| {
        let message = format!("a line is a key as a JSON string, or {{\"key\": …}}: {error}");
        ApiError::bad_request("InvalidArgument", message)
    };
    let Asked { key, version_id, if_match } = match line.first() {
        Some(b'"') => {
            let key = serde_json::from_slice(line).map_err(unread)?;
            Asked { key, version_id: None, if_match: None }
        }
        _ => serde_json::from_slice(line).map_err(unread)?,
    };
    let wrong = |message: &'static str| move || ApiError::bad_request("InvalidArgument", message);
    let version = version_id
        .map(|text| Version::parse(&text).ok_or_else(wrong("Invalid version id specified")))
        .transpose()?;
    let if_match = if_match
        .map(|tag| HeaderValue::from_str(&tag).ok().ok_or_else(wrong("ifMatch is no ETag")))
        .transpose()?;
    let name = ObjectName::parse(key).map_err(name_error)?;
    Ok(Item::Delete(Delete { name, version, if_match }))
}

pub(super) fn refused(error: ApiError) -> Item {
    Item::Refused(Line::refused(error))
}

fn named(name: &[u8], error: ApiError) -> Item {
    let key = Some(String::from_utf8_lossy(name).into_owned());
    Item::Refused(Line { key, ..Line::refused(error) })
}

pub(super) fn cut_off() -> Stop {
    Stop(ApiError::bad_request("IncompleteBody", "the body ends in the middle: what came whole was done"))
}

fn unreadable(error: tar::TarError) -> Stop {
    Stop(ApiError::bad_request("InvalidArgument", error.to_string()))
}
