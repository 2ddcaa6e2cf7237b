//! A register in this process: for tests, which can take it away, and for `dev`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use blobstore_sidecar_api::record::ShardRecord;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use tokio::sync::watch;

use crate::register::{CasError, Register, RegisterError, Versioned};

/// Clones share the record.
#[derive(Clone, Debug)]
pub struct MemoryRegister {
    cell: Arc<watch::Sender<Versioned>>,
    away: Arc<AtomicBool>,
}

impl Default for MemoryRegister {
    fn default() -> Self {
        let first = Versioned { version: 1, record: ShardRecord::default() };
        Self { cell: Arc::new(watch::Sender::new(first)), away: Arc::default() }
    }
}

impl MemoryRegister {
    /// What the register holds, for assertions and for writing as the operator would.
    pub fn peek(&self) -> Versioned {
        self.cell.borrow().clone()
    }

    /// Takes the register away (every call fails) or brings it back.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
        self.cell.send_modify(|_| ());
    }

    fn is_away(&self) -> bool {
        self.away.load(Ordering::SeqCst)
    }

    fn swap(&self, expected: u64, record: ShardRecord) -> Result<u64, CasError> {
        if self.is_away() {
            return Err(CasError::Unknown("taken away".to_owned()));
        }
        let mut outcome = Err(CasError::Conflict);
        self.cell.send_if_modified(|cell| {
            if cell.version == expected {
                *cell = Versioned { version: expected + 1, record };
                outcome = Ok(cell.version);
            }
            outcome.is_ok()
        });
        outcome
    }
}

impl Register for MemoryRegister {
    fn read(&self) -> BoxFuture<'_, Result<Versioned, RegisterError>> {
        Box::pin(async move {
            if self.is_away() {
                return Err(RegisterError::Away("taken away".to_owned()));
            }
            Ok(self.peek())
        })
    }

    fn cas(&self, expected: u64, record: ShardRecord) -> BoxFuture<'_, Result<u64, CasError>> {
        Box::pin(async move { self.swap(expected, record) })
    }

    fn watch(&self) -> BoxStream<'static, Result<Versioned, RegisterError>> {
        let register = self.clone();
        let mut changes = self.cell.subscribe();
        changes.mark_changed();
        futures::stream::unfold((register, changes), |(register, mut changes)| async move {
            changes.changed().await.ok()?;
            let seen = changes.borrow_and_update().clone();
            let item =
                if register.is_away() { Err(RegisterError::Away("taken away".to_owned())) } else { Ok(seen) };
            Some((item, (register, changes)))
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_swap_of_a_version_conflicts() {
        let register = MemoryRegister::default();
        let record = ShardRecord { epoch: 1, ..ShardRecord::default() };
        assert_eq!(register.cas(1, record.clone()).await.expect("the first swap"), 2);
        assert!(matches!(register.cas(1, record).await, Err(CasError::Conflict)));
    }

    #[tokio::test]
    async fn a_watch_starts_with_the_record_and_says_when_the_register_is_away() {
        let register = MemoryRegister::default();
        let mut seen = register.watch();
        assert_eq!(seen.next().await.expect("a stream").expect("a record").version, 1);
        register.set_away(true);
        assert!(seen.next().await.expect("a stream").is_err());
    }
}
