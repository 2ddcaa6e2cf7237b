//! One read per chunk, however many wait for it. A fill that is dropped wakes its waiters, who then read themselves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use blobstore_sidecar_core::generation::Generation;
use blobstore_sidecar_runtime::pool::Pooled;
use tokio::sync::oneshot;

/// Readers that wait for one fill. More than this read the chunk themselves: waking them all costs as much.
const WAITERS_MAX: usize = 256;

type Waiters = Vec<oneshot::Sender<Pooled>>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Fills(Arc<Mutex<HashMap<(Generation, u32), Waiters>>>);

/// What a reader of a chunk that is not cached has to do.
#[derive(Debug)]
pub(crate) enum Fill {
    /// Read it, and tell the others.
    Ours(FillGuard),
    /// Somebody reads it.
    Theirs(oneshot::Receiver<Pooled>),
    /// Read it; too many wait already.
    Alone,
}

/// The duty to tell the waiters.
#[derive(Debug)]
pub(crate) struct FillGuard {
    fills: Fills,
    key: (Generation, u32),
}

impl Fills {
    pub(crate) fn enter(&self, generation: Generation, index: u32) -> Fill {
        let key = (generation, index);
        let mut fills = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match fills.get_mut(&key) {
            None => {
                fills.insert(key, Vec::new());
                Fill::Ours(FillGuard { fills: self.clone(), key })
            }
            Some(waiters) if waiters.len() < WAITERS_MAX => {
                let (sender, receiver) = oneshot::channel();
                waiters.push(sender);
                Fill::Theirs(receiver)
            }
            Some(_) => Fill::Alone,
        }
    }

    fn leave(&self, key: &(Generation, u32)) -> Waiters {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key).unwrap_or_default()
    }
}

impl FillGuard {
    pub(crate) fn done(self, chunk: &Pooled) {
        for waiter in self.fills.leave(&self.key) {
            // A waiter that has left needs nothing.
            let _ = waiter.send(chunk.clone());
        }
    }
}

impl Drop for FillGuard {
    fn drop(&mut self) {
        drop(self.fills.leave(&self.key));
    }
}
