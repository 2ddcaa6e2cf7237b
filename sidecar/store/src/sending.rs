//! Bytes on their way to the engine: counted in the ledger from before they are sent until their end is known, also
//! when the one who sends them is dropped.

use std::sync::Arc;

use blobstore_sidecar_core::ledger::LedgerSink;

#[derive(Debug)]
pub(crate) struct Sending {
    ledger: Arc<dyn LedgerSink>,
    bytes: u64,
}

impl Sending {
    pub(crate) fn new(ledger: &Arc<dyn LedgerSink>, bytes: u64) -> Self {
        ledger.sending(bytes);
        Self { ledger: Arc::clone(ledger), bytes }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.ledger.sent_done(self.bytes);
    }
}
