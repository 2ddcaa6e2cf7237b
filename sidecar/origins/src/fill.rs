//! One fill: a body on its way from an origin into the store, and all who read it. It runs at the speed of origin and
//! engine, never at that of a reader: those who are close get the frames as they come, the others read what the engine
//! has already.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blobstore_sidecar_runtime::budget::Permit;
use blobstore_sidecar_store::{ErrorKind, UploadProgress};
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::blobs::Key;
use crate::failure::Failure;
use crate::origin::{Info, Origin};

/// Frames kept for readers that are close: two chunks, so that a blob of one chunk is whole in it, and that a reader
/// may fall behind by what the engine is about to acknowledge.
pub(crate) const WINDOW_BYTES: u64 = 512 << 10;
/// When the last reader leaves, a fill goes on that has only this much to read: less than a new connection costs.
pub(crate) const LEFT_BYTES_MAX: u64 = 1 << 20;
/// Or one that has a tenth to go, if that is not more than this: a tenth of a large blob is a large blob.
pub(crate) const TENTH_BYTES_MAX: u64 = 16 << 20;

/// How a fill ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// In the store, under the ETag of its `Info`.
    Stored,
    /// The origin answered, the store did not take it.
    Unstored { kind: ErrorKind, message: String },
    /// The origin had nothing, or broke off.
    Failed(Failure),
    /// Nobody wanted it any more.
    Abandoned,
}

#[derive(Debug, Default)]
struct State {
    info: Option<Arc<Info>>,
    ended: Option<Ended>,
    readers: usize,
    /// Background work wants it whoever leaves.
    wanted: bool,
    /// The last frames, and where they begin and end in the body.
    frames: VecDeque<Bytes>,
    start: u64,
    end: u64,
    room: u64,
    permit: Option<Permit>,
}

pub(crate) struct Fill {
    pub(crate) key: Key,
    pub(crate) origin: Arc<Origin>,
    pub(crate) progress: Arc<UploadProgress>,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    unwanted: Notify,
}

impl std::fmt::Debug for Fill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fill").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A reader's place. The last to leave lets the fill decide whether it goes on.
#[derive(Debug)]
pub(crate) struct Member(pub(crate) Arc<Fill>);

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.readers -= 1;
        if state.readers == 0 {
            self.0.unwanted.notify_one();
        }
    }
}

/// What a reader at some byte can do.
#[derive(Debug)]
pub(crate) enum Look {
    Frame(Bytes),
    /// Not in the window any more; the engine has it.
    Written,
    Wait,
    Ended(Ended),
}

impl Fill {
    /// With its first reader.
    pub(crate) fn begin(key: Key, origin: Arc<Origin>) -> Member {
        Member(Arc::new(Self {
            key,
            origin,
            progress: Arc::default(),
            state: Mutex::new(State { readers: 1, ..State::default() }),
            changed: watch::Sender::new(()),
            unwanted: Notify::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: it has ended, there is nothing to follow.
    pub(crate) fn join(self: &Arc<Self>) -> Option<Member> {
        let mut state = self.lock();
        if state.ended.is_some() {
            return None;
        }
        state.readers += 1;
        Some(Member(Arc::clone(self)))
    }

    /// Background work: it goes on though nobody reads.
    pub(crate) fn want(&self) {
        self.lock().wanted = true;
    }

    /// The origin has answered.
    pub(crate) fn open(&self, info: Arc<Info>, permit: Option<Permit>) {
        let mut state = self.lock();
        state.info = Some(info);
        state.room = permit.as_ref().map_or(0, Permit::bytes);
        state.permit = permit;
        drop(state);
        self.changed.send_replace(());
    }

    /// A frame has come, and goes to the store next.
    pub(crate) fn push(&self, frame: Bytes) {
        let mut state = self.lock();
        state.end += frame.len() as u64;
        state.frames.push_back(frame);
        while state.end - state.start > state.room {
            let Some(old) = state.frames.pop_front() else { break };
            state.start += old.len() as u64;
        }
        drop(state);
        self.changed.send_replace(());
    }

    pub(crate) fn end(&self, ended: Ended) {
        let mut state = self.lock();
        state.ended.get_or_insert(ended);
        state.frames.clear();
        state.start = state.end;
        state.permit = None;
        drop(state);
        self.changed.send_replace(());
    }

    /// Resolves when the last reader has left.
    pub(crate) async fn unwanted(&self) {
        self.unwanted.notified().await;
    }

    /// Decides, once nobody reads: true ends the fill, and nobody can join it any more.
    pub(crate) fn give_up(&self) -> bool {
        let mut state = self.lock();
        if state.wanted || state.readers > 0 || state.ended.is_some() {
            return false;
        }
        let size = state.info.as_ref().and_then(|info| info.size);
        if size.is_some_and(|size| nearly_done(state.end, size)) {
            return false;
        }
        state.ended = Some(Ended::Abandoned);
        true
    }

    /// A watcher of [`Self::look`] and [`Self::info`]: take it before looking.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// `None`: the origin has not answered yet.
    pub(crate) fn info(&self) -> Option<Result<Arc<Info>, Ended>> {
        let state = self.lock();
        match (&state.info, &state.ended) {
            (Some(info), _) => Some(Ok(Arc::clone(info))),
            (None, Some(ended)) => Some(Err(ended.clone())),
            (None, None) => None,
        }
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        self.lock().ended.clone()
    }

    /// A reader that starts here will not wait long for its first byte.
    pub(crate) fn is_near(&self, at: u64) -> bool {
        at <= self.lock().end.saturating_add(LEFT_BYTES_MAX)
    }

    pub(crate) fn look(&self, at: u64) -> Look {
        let state = self.lock();
        if at >= state.start && at < state.end {
            let mut from = state.start;
            for frame in &state.frames {
                let to = from + frame.len() as u64;
                if at < to {
                    return Look::Frame(frame.slice(usize::try_from(at - from).unwrap_or(usize::MAX)..));
                }
                from = to;
            }
        }
        match &state.ended {
            Some(ended) => Look::Ended(ended.clone()),
            None if at < self.progress.readable() => Look::Written,
            None => Look::Wait,
        }
    }
}

/// The documented rule of when a body that nobody reads is read to its end.
fn nearly_done(read: u64, size: u64) -> bool {
    let left = size.saturating_sub(read);
    left <= LEFT_BYTES_MAX || (left <= size / 10 && left <= TENTH_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_to_its_end_when_little_is_left() {
        const MIB: u64 = 1 << 20;
        for (read, size, want) in [
            (0, MIB, true),
            (0, MIB + 1, false),
            (89 * MIB, 100 * MIB, false),
            (90 * MIB, 100 * MIB, true),
            (950 * MIB, 1000 * MIB, false),
            (984 * MIB, 1000 * MIB, true),
        ] {
            assert_eq!(nearly_done(read, size), want, "{read} of {size}");
        }
    }
}
