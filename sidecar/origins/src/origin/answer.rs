//! From `object_store`'s answer to ours: what is said of the object, and a body that counts, ends well only when it is
//! complete, and holds what must live as long as it.

use std::fs::File;
use std::io::SeekFrom;
use std::sync::Arc;

use blobstore_sidecar_core::etag::ETag;
use blobstore_sidecar_core::record::Attributes;
use blobstore_sidecar_runtime::clients::Handle;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::{Attribute, GetResult, GetResultPayload};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::{Answer, Call, Info, Origin};
use crate::breaker::Ended;
use crate::client::{Client, Unsized, Witness};
use crate::failure::{Failure, FailureKind};
use crate::line::Place;
use crate::mark::Mark;
use crate::metrics::BYTES;

/// Of a file, per read: what a connection's frame carries too.
const FILE_READ_BYTES: usize = 128 << 10;

/// Lives as long as the body.
pub(super) struct Held {
    pub(super) call: Call,
    pub(super) witness: Arc<Witness>,
    pub(super) _place: Place,
    pub(super) _client: Arc<Handle<Client>>,
}

pub(super) fn info(origin: &Origin, got: &GetResult) -> Info {
    let size = got.extensions.get::<Unsized>().is_none().then_some(got.meta.size);
    let mark = Mark {
        origin: origin.name.to_string(),
        etag: got.meta.e_tag.clone(),
        modified_ms: u64::try_from(got.meta.last_modified.timestamp_millis()).unwrap_or_default(),
    };
    let etag = mark.local_etag(size).unwrap_or_else(|| ETag::Opaque(rand::random()));
    Info { size, etag, attributes: attributes(got, &mark), mark }
}

/// The origin's headers as far as a record has room for them.
fn attributes(got: &GetResult, mark: &Mark) -> Attributes {
    let text = |attribute: Attribute| got.attributes.get(&attribute).map(|value| value.to_string());
    let mut attributes = Attributes {
        content_type: text(Attribute::ContentType),
        content_encoding: text(Attribute::ContentEncoding),
        content_disposition: text(Attribute::ContentDisposition),
        content_language: text(Attribute::ContentLanguage),
        cache_control: text(Attribute::CacheControl),
        origin: Some(mark.encode()),
        ..Attributes::default()
    };
    let user = got.attributes.iter().filter_map(|(attribute, value)| match attribute {
        Attribute::Metadata(name) => Some((name.to_string(), value.to_string())),
        _ => None,
    });
    attributes.user = user.collect();
    if attributes.encode().is_none() {
        attributes.user.clear();
    }
    attributes
}

pub(super) fn answer(got: GetResult, info: Info, held: Held) -> Answer {
    let range = got.range.clone();
    let left = info.size.map(|_| range.end.saturating_sub(range.start));
    let source = match got.payload {
        GetResultPayload::Stream(stream) => stream,
        GetResultPayload::File(file, _) => file_stream(file, range.start),
    };
    let body = stream::unfold(Some(Reading { source, left, held }), |reading| async move {
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
            Ok(None) => None,
            Err(failure) => Some((Err(failure), None)),
        }
    });
    Answer { info, range, body: body.boxed() }
}

struct Reading {
    source: BoxStream<'static, object_store::Result<Bytes>>,
    /// `None`: until it ends.
    left: Option<u64>,
    held: Held,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.left == Some(0) {
            self.held.call.end(Ended::Answered);
            return Ok(None);
        }
        let origin = Arc::clone(&self.held.call.origin);
        let cut = || {
            let message = format!("the origin {} broke off in the middle of the object", origin.name);
            Failure::new(FailureKind::Down, message)
        };
        let failure = match (self.source.next().await, &mut self.left) {
            (Some(Ok(mut bytes)), left) => {
                if let Some(left) = left {
                    // More than was promised is not part of the object.
                    bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= bytes.len() as u64;
                }
                BYTES.with_label_values(&[&*origin.name]).inc_by(bytes.len() as u64);
                return Ok(Some(bytes));
            }
            (None, None) => {
                self.held.call.end(Ended::Answered);
                return Ok(None);
            }
            (None, Some(_)) => cut(),
            (Some(Err(error)), _) => match origin.failure(error, &self.held.witness) {
                Failure { kind: FailureKind::Timeout, message } => {
                    Failure::new(FailureKind::Timeout, message)
                }
                other => Failure::new(FailureKind::Down, format!("{}: {other}", cut())),
            },
        };
        let ended = origin.failed(&failure);
        self.held.call.end(ended);
        Err(failure)
    }
}

/// A file from `start`. A file that is written meanwhile would be two versions in one: that is an error.
fn file_stream(file: File, start: u64) -> BoxStream<'static, object_store::Result<Bytes>> {
    let before = version(&file);
    let file = tokio::fs::File::from_std(file);
    let state = Some((file, before, Some(start)));
    stream::unfold(state, |state| async move {
        let (mut file, before, mut seek) = state?;
        let mut buffer = BytesMut::with_capacity(FILE_READ_BYTES);
        let read = async {
            if let Some(start) = seek.take() {
                file.seek(SeekFrom::Start(start)).await?;
            }
            let len = file.read_buf(&mut buffer).await?;
            let metadata = file.metadata().await?;
            if Some((metadata.len(), metadata.modified().ok())) != before {
                return Err(std::io::Error::other("the file changed while it was read"));
            }
            Ok(len)
        };
        match read.await {
            Ok(0) => None,
            Ok(_) => Some((Ok(buffer.freeze()), Some((file, before, None)))),
            Err(error) => {
                let error = object_store::Error::Generic { store: "file", source: Box::new(error) };
                Some((Err(error), None))
            }
        }
    })
    .boxed()
}

type Version = (u64, Option<std::time::SystemTime>);

fn version(file: &File) -> Option<Version> {
    let metadata = file.metadata().ok()?;
    Some((metadata.len(), metadata.modified().ok()))
}
