//! The end of a request: counted, timed and logged once, when the last byte of its answer is out or given up.

use std::time::Instant;

use crate::io::BusyGuard;
use crate::metrics::{IN_FLIGHT, REQUESTS, SECONDS, code_class};

/// Lives in the answer's body. Dropped on every path: finished, cut, cancelled.
#[derive(Debug)]
pub struct Finish {
    operation: &'static str,
    request_id: String,
    status: u16,
    started: Instant,
    cut: bool,
    _busy: BusyGuard,
}

impl Finish {
    /// A request begins. Until [`Finish::answered`] it counts as cancelled by its client (499).
    pub fn begin(operation: &'static str, request_id: String, busy: BusyGuard) -> Self {
        IN_FLIGHT.inc();
        Self { operation, request_id, status: 499, started: Instant::now(), cut: false, _busy: busy }
    }

    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The operation turned out only on the way.
    pub fn rename(&mut self, operation: Option<&'static str>) {
        self.operation = operation.unwrap_or(self.operation);
    }

    pub fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// The answer's body failed after its header was out.
    pub fn cut(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.cut = true;
        tracing::warn!(
            request_id = self.request_id,
            operation = self.operation,
            error,
            "answer cut after its header"
        );
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        IN_FLIGHT.dec();
        let seconds = self.started.elapsed().as_secs_f64();
        let code = if self.cut { "cut" } else { code_class(self.status) };
        REQUESTS.with_label_values(&[self.operation, code]).inc();
        SECONDS.with_label_values(&[self.operation]).observe(seconds);
        tracing::debug!(
            request_id = self.request_id,
            operation = self.operation,
            status = self.status,
            cut = self.cut,
            seconds,
            "request"
        );
    }
}
