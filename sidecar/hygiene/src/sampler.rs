//! One sample: the engine's figures in one call, its clients when they hold much, our own counter pairs.

use blobstore_sidecar_api::ports::ENGINE_USER;
use blobstore_sidecar_core::hygiene::book::LedgerSnapshot;
use blobstore_sidecar_core::hygiene::clients::parse;
use blobstore_sidecar_core::hygiene::info::{EngineFigures, Info};
use blobstore_sidecar_core::hygiene::sample::{Balances, ClientFigures, Keyspace, Sample, TaskFigures};
use blobstore_sidecar_runtime::tasks;
use redis::cmd;

use crate::engine::Engine;
use crate::error::HygieneError;
use crate::service::{Calibration, HygieneOptions, Inner, locked};

/// Connections that a sample lists.
const CLIENTS_LISTED: usize = 5;
/// CLIENT LIST costs 1 ms per 1,000 connections: it is asked for above these.
const CLIENTS_BYTES_MIN: u64 = 16 << 20;
const CLIENTS_PERCENT: u64 = 5;

/// The user whose connections over the socket are ours.
pub(crate) fn own_user(options: &HygieneOptions) -> &str {
    options.auth.as_ref().map_or(ENGINE_USER, |auth| &auth.user)
}

/// The sections that the detector looks at, in one call.
pub(crate) async fn engine_figures(engine: &Engine) -> Result<EngineFigures, HygieneError> {
    let mut info = cmd("INFO");
    for section in ["server", "clients", "memory", "persistence", "stats", "replication", "keyspace"] {
        info.arg(section);
    }
    let text: String = engine.query("read INFO", &info).await?;
    Info::parse(&text).engine().ok_or(HygieneError::Answer("read INFO"))
}

/// Everything at one moment. An engine that does not answer leaves its parts out.
pub(crate) async fn sample(inner: &Inner) -> Sample {
    let before = inner.ledger.snapshot();
    let engine = match engine_figures(&inner.engine).await {
        Ok(engine) => Some(engine),
        Err(error) => {
            inner.count(&error);
            None
        }
    };
    let after = inner.ledger.snapshot();
    let keyspace = engine.as_ref().and_then(|engine| keyspace(inner, engine, &before, after));
    let clients = match &engine {
        Some(engine) => clients(inner, engine).await,
        None => Vec::new(),
    };
    let limit = smallest_limit(inner, engine.as_ref());
    Sample {
        engine,
        keyspace,
        audit: Some(inner.audit_findings()).filter(|found| found.passes > 0),
        clients,
        balances: balances(inner),
        limit,
    }
}

/// Of those there are, bytes; 0: none.
pub(crate) fn smallest_limit(inner: &Inner, engine: Option<&EngineFigures>) -> u64 {
    let limits = [engine.map_or(0, |engine| engine.maxmemory), inner.options.engine_limit_bytes];
    limits.into_iter().filter(|limit| *limit > 0).min().unwrap_or(0)
}

/// The engine answered at some moment between the two snapshots: the larger of both is the upper edge.
fn keyspace(
    inner: &Inner,
    engine: &EngineFigures,
    before: &LedgerSnapshot,
    after: LedgerSnapshot,
) -> Option<Keyspace> {
    if !engine.primary {
        return Some(Keyspace::NotComparable("replica: compared on the primary".to_owned()));
    }
    match &locked(&inner.state).calibration {
        Calibration::Pending => None,
        Calibration::Failed { reason, .. } => Some(Keyspace::NotComparable(reason.clone())),
        Calibration::Done => {
            let engine_bytes = engine.keyspace(&inner.ledger.model().layout);
            let ledger = LedgerSnapshot {
                stored: before.stored.max(after.stored),
                in_flight: before.in_flight.max(after.in_flight),
                ..after
            };
            Some(Keyspace::Compared { engine_bytes, ledger })
        }
    }
}

async fn clients(inner: &Inner, engine: &EngineFigures) -> Vec<ClientFigures> {
    let worth = CLIENTS_BYTES_MIN.min(inner.options.config.client_bytes_max);
    if engine.clients < worth && engine.clients * 100 < engine.used * CLIENTS_PERCENT {
        return Vec::new();
    }
    let listed: Result<String, HygieneError> =
        inner.engine.query("list clients", cmd("CLIENT").arg("LIST")).await;
    let text = listed.unwrap_or_else(|error| {
        inner.count(&error);
        String::new()
    });
    let own = own_user(&inner.options);
    let mut clients = parse(&text);
    clients.retain(|client| !client.own(own));
    clients.sort_by_key(|client| std::cmp::Reverse(client.total_bytes));
    clients
        .iter()
        .take(CLIENTS_LISTED)
        .map(|client| ClientFigures {
            description: client.described(),
            bytes: client.total_bytes,
            replies: client.replies,
            idle_seconds: client.idle_seconds,
        })
        .collect()
}

fn balances(inner: &Inner) -> Balances {
    let alive = tasks::alive();
    let largest = alive.iter().max_by_key(|(_, count)| *count).map_or("none", |(name, _)| *name);
    let figures = |expected| TaskFigures {
        alive: alive.iter().map(|(_, count)| count).sum(),
        expected,
        largest: largest.to_owned(),
    };
    Balances {
        pool: inner.hooks.pool(),
        caches: inner.hooks.caches(),
        tasks: inner.hooks.expected_tasks().map(figures),
    }
}
