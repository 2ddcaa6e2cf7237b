//! The body of an upload on its way in: frames become pieces of at most one chunk, counted, checksummed and under a
//! permit of the pod's budget. Frames are passed on as they came; only dust is joined.

use std::{fmt::Display, pin::Pin, time::Duration};

use blobstore_sidecar_core::{
    checksum::{Algorithm, Checksum},
    chunk::CHUNK_BYTES,
    manifest::crc64_joined,
};
use blobstore_sidecar_runtime::{
    budget::{Budget, Permit},
    pool::{Lease, Pool},
};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use futures::{Stream, StreamExt};
use md5::{Digest as _, Md5};

use crate::{
    ErrorKind, StoreError,
    checks::Running,
    metrics::{BYTES_COPIED, BYTES_IN},
};

/// Frames per piece that are passed on as they are. A connection reads half a chunk at a time, so a chunk usually comes in
/// three; under many uploads a sixteenth, which makes eighteen. More are dust, which would pin buffers many times its size.
const FRAMES_MAX: usize = 20;
/// MD5 runs at half a gigabyte per second: after this much, others get a turn.
const MD5_SLICE_BYTES: usize = 64 << 10;
/// An MD5 that is only wanted, not required, is dropped when a body of unknown length passes this.
const MD5_UNKNOWN_BYTES_MAX: u64 = 8 << 20;

/// Up to one chunk of the body.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) frames: Vec<Bytes>,
    pub(crate) len: u32,
    pub(crate) crc64: u64,
    /// The body ends here.
    pub(crate) last: bool,
    pub(crate) permit: Option<Permit>,
}

/// Limits that a body is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) declared: Option<u64>,
    pub(crate) bytes_max: u64,
    pub(crate) idle: Duration,
    pub(crate) permit_wait: Duration,
}

/// What a poll of the body within a short time brought.
#[derive(Debug)]
pub(crate) enum Pulled {
    More,
    End,
    /// Nothing yet.
    Waiting,
}

/// Sums of the body that are wanted besides its CRC64-NVME.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WantedSums {
    /// `Some(true)`: required, whatever the length.
    pub(crate) md5: Option<bool>,
    pub(crate) checksum: Option<Algorithm>,
}

pub(crate) struct Intake<'a, S> {
    body: Pin<&'a mut S>,
    limits: BodyLimits,
    budget: &'a Budget,
    pool: &'a Pool,
    md5: Option<Md5>,
    md5_required: bool,
    running: Option<Running>,
    /// CRC64-NVME of everything handed out.
    pub(crate) crc64: u64,
    pub(crate) total: u64,
    seen: u64,
    spill: Bytes,
    ended: bool,
    piece: Piece,
    crc: Crc,
    join: Option<(Lease, usize)>,
}

impl<'a, S, E> Intake<'a, S>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Display,
{
    pub(crate) fn new(
        body: Pin<&'a mut S>,
        limits: BodyLimits,
        budget: &'a Budget,
        pool: &'a Pool,
        sums: WantedSums,
    ) -> Self {
        Self {
            body,
            limits,
            budget,
            pool,
            md5: sums.md5.map(|_| Md5::new()),
            md5_required: sums.md5 == Some(true),
            running: sums.checksum.and_then(Running::new),
            crc64: 0,
            total: 0,
            seen: 0,
            spill: Bytes::new(),
            ended: false,
            piece: Piece::default(),
            crc: Crc::new(CrcAlgorithm::Crc64Nvme),
            join: None,
        }
    }

    /// The MD5 of the whole body, if it was kept.
    pub(crate) fn md5(&mut self) -> Option<[u8; 16]> {
        self.md5.take().map(|md5| md5.finalize().into())
    }

    /// The wanted checksum of the whole body.
    pub(crate) fn checksum(&mut self) -> Option<Checksum> {
        self.running.take().and_then(Running::finish)
    }

    /// Takes what comes within `patience`. A body that moves nothing for longer than allowed is given up.
    pub(crate) async fn pull(&mut self, patience: Option<Duration>) -> Result<Pulled, StoreError> {
        if !self.spill.is_empty() {
            let frame = std::mem::take(&mut self.spill);
            self.take(frame).await?;
            return Ok(Pulled::More);
        }
        if self.ended {
            return Ok(Pulled::End);
        }
        let next = tokio::time::timeout(patience.unwrap_or(self.limits.idle), self.body.next()).await;
        match (next, patience) {
            (Ok(Some(Ok(frame))), _) => {
                self.seen += frame.len() as u64;
                self.check_length()?;
                self.take(frame).await?;
                Ok(Pulled::More)
            }
            (Ok(Some(Err(error))), _) => {
                let message = format!("the body broke off after {} bytes: {error}", self.seen);
                Err(StoreError::new(ErrorKind::Incomplete, message))
            }
            (Ok(None), _) => {
                self.ended = true;
                match self.limits.declared {
                    Some(declared) if declared != self.seen => Err(StoreError::new(
                        ErrorKind::Incomplete,
                        format!("the body ended after {} of {declared} bytes", self.seen),
                    )),
                    _ => Ok(Pulled::End),
                }
            }
            (Err(_), Some(_)) => Ok(Pulled::Waiting),
            (Err(_), None) => Err(StoreError::new(
                ErrorKind::Incomplete,
                format!("the body moved nothing for {} s", self.limits.idle.as_secs()),
            )),
        }
    }

    /// The piece is full and more follows, or the body has ended.
    pub(crate) fn complete(&self) -> bool {
        let more =
            !self.spill.is_empty() || self.limits.declared.is_some_and(|declared| self.seen < declared);
        (self.ended && self.spill.is_empty()) || (self.piece.len == CHUNK_BYTES && more)
    }

    /// The piece that was gathered; the next one begins.
    pub(crate) fn cut(&mut self) -> Piece {
        self.close_join();
        let mut piece = std::mem::take(&mut self.piece);
        piece.crc64 = self.crc.finalize_reset();
        piece.last = self.ended && self.spill.is_empty();
        self.crc64 = crc64_joined(self.crc64, piece.crc64, u64::from(piece.len));
        self.total += u64::from(piece.len);
        BYTES_IN.inc_by(u64::from(piece.len));
        piece
    }

    fn check_length(&self) -> Result<(), StoreError> {
        if let Some(declared) = self.limits.declared.filter(|declared| self.seen > *declared) {
            let message = format!("the body is longer than the {declared} bytes it declared");
            return Err(StoreError::new(ErrorKind::TooLarge, message));
        }
        if self.seen > self.limits.bytes_max {
            let message = format!("the body is larger than the {} bytes allowed", self.limits.bytes_max);
            return Err(StoreError::new(ErrorKind::TooLarge, message));
        }
        Ok(())
    }

    async fn take(&mut self, mut frame: Bytes) -> Result<(), StoreError> {
        let room = (CHUNK_BYTES - self.piece.len) as usize;
        if frame.len() > room {
            self.spill = frame.split_off(room);
        }
        if frame.is_empty() {
            return Ok(());
        }
        if self.piece.permit.is_none() {
            let left = self.limits.declared.map_or(u64::MAX, |declared| declared.saturating_sub(self.total));
            let wanted = left.min(u64::from(CHUNK_BYTES));
            // Admission is short. Once the client sends, waiting is only backpressure: to give up in the middle
            // would throw away what the pod has already worked for.
            let wait = if self.total == 0 { self.limits.permit_wait } else { self.limits.idle };
            let permit = self.budget.permit(wanted, wait).await;
            self.piece.permit = Some(permit.map_err(|error| {
                StoreError::new(ErrorKind::Busy, "too many bytes are in flight: retry in a moment")
                    .caused_by(error)
            })?);
        }
        self.hash(&frame).await;
        self.piece.len += u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.gather(frame);
        Ok(())
    }

    async fn hash(&mut self, frame: &Bytes) {
        self.crc.update(frame);
        if let Some(running) = &mut self.running {
            running.update(frame).await;
        }
        if self.limits.declared.is_none() && !self.md5_required && self.seen > MD5_UNKNOWN_BYTES_MAX {
            self.md5 = None;
        }
        let Some(md5) = &mut self.md5 else { return };
        for slice in frame.chunks(MD5_SLICE_BYTES) {
            md5.update(slice);
            if slice.len() == MD5_SLICE_BYTES {
                tokio::task::yield_now().await;
            }
        }
    }

    fn gather(&mut self, frame: Bytes) {
        if self.piece.frames.len() < FRAMES_MAX && self.join.is_none() {
            self.piece.frames.push(frame);
            return;
        }
        BYTES_COPIED.inc_by(frame.len() as u64);
        let (lease, filled) =
            self.join.get_or_insert_with(|| (self.pool.lease(CHUNK_BYTES as usize, "join", None), 0));
        let end = *filled + frame.len();
        if let Some(to) = lease.as_mut().get_mut(*filled..end) {
            to.copy_from_slice(&frame);
        }
        *filled = end;
    }

    fn close_join(&mut self) {
        if let Some((lease, filled)) = self.join.take() {
            self.piece.frames.push(lease.freeze().bytes.slice(..filled));
        }
    }
}

/// Cuts the frames of a piece in two at `at`.
pub(crate) fn split_frames(frames: Vec<Bytes>, at: u32) -> (Vec<Bytes>, Vec<Bytes>) {
    let mut left = at as usize;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for mut frame in frames {
        if left == 0 {
            second.push(frame);
        } else if frame.len() <= left {
            left -= frame.len();
            first.push(frame);
        } else {
            let rest = frame.split_off(left);
            left = 0;
            first.push(frame);
            second.push(rest);
        }
    }
    (first, second)
}

/// CRC64-NVME over frames.
pub(crate) fn crc64_of(frames: &[Bytes]) -> u64 {
    let mut crc = Crc::new(CrcAlgorithm::Crc64Nvme);
    for frame in frames {
        crc.update(frame);
    }
    crc.finalize()
}
